//! What is said of a machine: what its state and its account are made of.
//!
//! Conditions and tags are not here: whoever evaluates them hands in what they gave.

use std::sync::Arc;

use crate::calendar::Calendar;

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
