//! What is said of a machine: what its state and its account are made of, and the tags that tell them.

use std::sync::Arc;

use crate::calendar::Calendar;
use crate::expression::Expression;
use crate::tag::{DeviceId, TagId};
use crate::unit::Conversion;

/// One machine: its rule, what the rule is fed from, and the tags that it gives.
#[derive(Clone, Debug)]
pub struct MachineStep {
    /// The device that it is.
    pub device: DeviceId,
    /// Its rule.
    pub rule: MachineRule,
    /// When it cannot go on.
    pub fault: Option<Expression>,
    /// When it is being set up.
    pub setup: Option<Expression>,
    /// When it makes something.
    pub running: Expression,
    /// When it is ready.
    pub idle: Option<Expression>,
    /// What counts its pieces.
    pub pieces: Option<CountFrom>,
    /// What counts its scrap.
    pub scrap: Option<CountFrom>,
    /// The counter of its meter, and from its unit to kWh.
    pub energy: Option<(TagId, Conversion)>,
    /// The tag that says what is made.
    pub product: Option<TagId>,
    /// The tag with the planned time of a count, and from its unit to s.
    pub cycle: Option<(TagId, Conversion)>,
    /// The tags that it gives.
    pub tags: Vec<(MachineTag, TagId)>,
    /// The tags that it needs, each once.
    pub inputs: Vec<TagId>,
}

/// Where counts come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountFrom {
    /// A counter, a bool, or what sends events.
    pub tag: TagId,
    /// The tag with the pieces of each count.
    pub each: Option<TagId>,
}

/// What a tag of a machine tells. Times are those of the shift so far, in s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MachineTag {
    /// What it is doing.
    State,
    /// The shift, by the local date on which it began and its name.
    Shift,
    /// PQ, of what is made now.
    Pieces,
    /// SQ, of what is made now.
    Scrap,
    /// GQ, of what is made now.
    Good,
    /// Energy, of what is made now.
    Energy,
    /// Energy of one piece, of what is made now.
    EnergyPerPiece,
    /// APT / PBT of the shift.
    Availability,
    /// PRI × PQ / APT of the shift.
    Performance,
    /// GQ / PQ of the shift.
    Quality,
    /// Their product.
    Oee,
    /// Actual production time.
    Apt,
    /// Actual unit down time.
    Adot,
    /// Actual unit delay time.
    Adet,
    /// Actual unit setup time.
    Aust,
    /// Planned busy time.
    Pbt,
    /// An account that has ended, as JSON.
    Account,
}

impl MachineTag {
    /// All of them, in the order in which they are born.
    pub const ALL: [MachineTag; 17] = [
        MachineTag::State,
        MachineTag::Shift,
        MachineTag::Pieces,
        MachineTag::Scrap,
        MachineTag::Good,
        MachineTag::Energy,
        MachineTag::EnergyPerPiece,
        MachineTag::Availability,
        MachineTag::Performance,
        MachineTag::Quality,
        MachineTag::Oee,
        MachineTag::Apt,
        MachineTag::Adot,
        MachineTag::Adet,
        MachineTag::Aust,
        MachineTag::Pbt,
        MachineTag::Account,
    ];

    /// The name of the tag, and the unit of its value.
    #[must_use]
    pub const fn name(self) -> (&'static str, Option<&'static str>) {
        match self {
            MachineTag::State => ("machine/state", None),
            MachineTag::Shift => ("machine/shift", None),
            MachineTag::Pieces => ("machine/pieces", Some("piece")),
            MachineTag::Scrap => ("machine/scrap", Some("piece")),
            MachineTag::Good => ("machine/good", Some("piece")),
            MachineTag::Energy => ("machine/energy", Some("kWh")),
            MachineTag::EnergyPerPiece => ("machine/kwh_per_piece", None),
            MachineTag::Availability => ("machine/availability", Some("1")),
            MachineTag::Performance => ("machine/performance", Some("1")),
            MachineTag::Quality => ("machine/quality", Some("1")),
            MachineTag::Oee => ("machine/oee", Some("1")),
            MachineTag::Apt => ("machine/apt", Some("s")),
            MachineTag::Adot => ("machine/adot", Some("s")),
            MachineTag::Adet => ("machine/adet", Some("s")),
            MachineTag::Aust => ("machine/aust", Some("s")),
            MachineTag::Pbt => ("machine/pbt", Some("s")),
            MachineTag::Account => ("machine/account", None),
        }
    }
}

/// The free capacity of a class of machines, and the tags that tell it.
#[derive(Clone, Debug)]
pub struct ClassStep {
    /// The devices that are its machines.
    pub machines: Vec<DeviceId>,
    /// How many there are, how many of them are free, and the machine-hours of the last 24 h and 7 d in which they were.
    pub tags: [TagId; 4],
    /// The tags of its machines' states.
    pub inputs: Vec<TagId>,
}

/// The rule of one machine.
#[derive(Clone, Debug, PartialEq)]
pub struct MachineRule {
    /// There is a condition for `fault`.
    pub has_fault: bool,
    /// There is a condition for `setup`.
    pub has_setup: bool,
    /// There is a condition for `idle`; without it a machine that does not run has stopped.
    pub has_idle: bool,
    /// How pieces are counted; `None`: they are not.
    pub pieces: Option<Count>,
    /// How pieces that are no good are counted; `None`: they are not, and no piece is called good.
    pub scrap: Option<Count>,
    /// A meter says what it uses.
    pub has_energy: bool,
    /// A tag says what is made; accounts of a product are cut when it changes.
    pub has_product: bool,
    /// The planned time of one count; `None`: no performance, no OEE.
    pub cycle: Option<Amount>,
    /// The class of machines whose free capacity it adds to.
    pub class: Option<Arc<str>>,
    /// When it is planned to work.
    pub calendar: Calendar,
}

/// How something is counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Count {
    /// What a count is.
    pub kind: CountKind,
    /// Pieces of one count, 0 or more.
    pub each: Amount,
}

/// What a count is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountKind {
    /// What a counter has gone up by.
    Counter,
    /// A bool that becomes true.
    Rising,
    /// A value that was read or sent, whatever it is.
    Event,
}

/// A number that stands in the configuration, or that a tag gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// This.
    Number(f64),
    /// The tag's last known value.
    Tag,
}
