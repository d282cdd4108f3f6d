//! The search behind `tidegate scan`: who is on a line or behind a TCP port, how it is spoken to, and of which types it may be.
//! Pure: what was heard and `now` come in, the next question goes out; `answers.rs` says what was heard means, `task.rs` asks.
//!
//! For each [`Manner`] in which the line may be spoken to, the likeliest first:
//!
//! ```text
//!  listen ── who talks by itself
//!  units  ── registers 0 of each: an answer or a refusal shows that a unit is there, it need not have the register
//!  meters ── DL/T 645, all at once, then by the digits of their addresses where several answer
//!  types  ── instruments that leave the factory so are asked what their type asks
//! ```
//! Whoever is found is asked at once for what the probes of all types read. Where one Modbus unit was found, all other units are
//! asked in the same manner after the first round. Nothing but reading is ever asked.

mod answers;
pub mod fragment;
pub mod identify;
pub mod instrument;
pub mod manner;
pub mod task;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio_modbus::ExceptionCode;

use crate::config::site::{Framing, Item, Site, WAKE};
use crate::dlt645::{Address, Version};
use crate::driver::dlt645::discovery::Discovery;
use crate::driver::dlt645::read::Read;
use crate::driver::exchange::Exchange as _;
use crate::driver::modbus::query::Query;
use crate::driver::serial::ask::Ask;
use crate::link::timing;
use crate::reading::Timestamp;
use crate::tag::{Area, Span, UnitId};
use identify::{Fit, Identify, Place};
use manner::Manner;

/// How long a line is listened to: a scale that talks by itself does so several times a second.
const LISTEN: Duration = Duration::from_millis(1200);
/// How long a unit on a serial line that may not be there is waited for; it may as well answer while the next is.
const PATIENCE: Duration = Duration::from_millis(200);
/// The same behind TCP: a gateway waits for its line first, and the way there takes its time.
const PATIENCE_TCP: Duration = Duration::from_secs(1);
/// How long a meter is waited for: it answers within half a second (DL/T 645-2007, 5.3.3).
const PATIENCE_METER: Duration = Duration::from_millis(600);
/// How long whoever is known to be there is waited for.
const PATIENCE_KNOWN: Duration = Duration::from_secs(1);
/// Units that nobody sets: where both answer, everybody else does.
const STRANGERS: [u8; 2] = [246, 244];
/// Nothing that is asked here tells the time.
const NO_TIME: Timestamp = Timestamp::from_millis(0);
/// So many units that have not answered may do so late.
const LATE_MAX: usize = 8;
/// What servers without a line call themselves as well.
pub const UNITS_OF_SERVERS: [u8; 2] = [255, 0];
/// So many bytes that are no frame may be answers of meters that spoil each other.
const SPOILT_MIN: u64 = 8;
/// So many bytes of what nobody explains are shown.
const STRAY_MAX: usize = 32;

/// What is searched for, and how.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// The ways in which the line is spoken to.
    pub manners: Vec<Manner>,
    /// The units that are asked in each of them.
    pub units: Vec<u8>,
    /// Those that are asked as well where one of the first has answered.
    pub more_units: Vec<u8>,
    /// How long a unit that may not be there is waited for, if not as usual.
    pub patience: Option<Duration>,
}

/// What is to be sent, and how long an answer is waited for from then on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// How the line is set.
    pub manner: Manner,
    /// The bytes; none: it is only listened to.
    pub bytes: Vec<u8>,
    /// How long the first byte of an answer is waited for.
    pub patience: Duration,
}

/// Somebody who was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// How it is spoken to.
    pub manner: Manner,
    /// Who.
    pub who: Who,
    /// The types that fit, the likeliest first.
    pub fits: Vec<Fit>,
}

impl Found {
    /// The type that it most likely is of; `None`: nothing speaks for any.
    #[must_use]
    pub fn best(&self) -> Option<&Fit> {
        self.fits.first().filter(|fit| !fit.is_weak)
    }
}

/// Who was found.
#[derive(Clone, Debug, PartialEq)]
pub enum Who {
    /// A Modbus unit, and a register that it has, with the value that it has now; `None`: it refused those that were asked for.
    Unit(u8, Option<(Area, u16)>),
    /// A meter that speaks DL/T 645.
    Meter(Address, Version),
    /// An instrument that a type describes, and as which unit it is asked; `None`: as none, or it talks by itself.
    Instrument(Option<u8>),
}

/// What talks on the line by itself, and nobody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// How it was heard.
    pub manner: Manner,
    /// How it begins.
    pub bytes: Vec<u8>,
    /// It asks Modbus units: another master.
    pub is_master: bool,
}

/// What is to be done in a manner.
#[derive(Debug)]
enum Step {
    Listen,
    /// Whether the unit is there: it has the first register of this area, or refuses it.
    Unit(u8, Area),
    /// Whether units answer that nobody has set.
    Strangers(&'static [u8]),
    Meters(Discovery, Version),
    /// A device of the site of all types is asked what it is asked first.
    Instrument(usize),
    Identify(Meeting),
}

/// Somebody who was found, and is being asked of which type it is.
#[derive(Debug)]
struct Meeting {
    who: Who,
    identify: Identify,
    /// What is asked now was asked before, and nothing came.
    is_again: bool,
    /// It is silent about what it does not have.
    is_mute: bool,
}

/// What is under way, and what knows its answer.
#[derive(Debug)]
enum Asked {
    Nothing,
    /// Only that what is owed is over.
    Quiet,
    Unit(u8, Area, Query),
    Strangers(&'static [u8], Query),
    Meters(Discovery, Version),
    Instrument(usize, Ask),
    Registers(Meeting, Place, Query),
    Item(Meeting, Place, Read),
}

impl Meeting {
    fn new(who: Who, candidates: Vec<usize>) -> Meeting {
        Meeting { who, identify: Identify::new(candidates), is_again: false, is_mute: false }
    }
}

/// A search.
#[derive(Debug)]
pub struct Survey {
    /// A device of each type.
    types: Arc<Site>,
    wishes: Wishes,
    waiting: VecDeque<(Manner, Step)>,
    under_way: Option<(Question, Asked)>,
    /// Units that were asked last and have not answered: they may do so late.
    late: VecDeque<(Manner, u8, Area, Query)>,
    /// The unit that has refused its first holding register, and is asked for its first input register.
    refusing: Option<(Manner, u8)>,
    /// Something that was asked may still be answered.
    is_owed: bool,
    found: Vec<Found>,
    meters: BTreeSet<Address>,
    /// Where all units are asked.
    extended: Vec<Manner>,
    /// Where bytes come that nobody knows.
    noisy: Vec<Manner>,
    /// Where a unit has answered.
    met: Vec<Manner>,
    /// There is a line behind it: units are missing there.
    is_gateway: bool,
    /// What is said for units that nobody has set.
    refusers: Vec<(Manner, ExceptionCode)>,
    stray: Option<Stray>,
    remarks: Vec<String>,
    /// How often something began with what had been sent, and how often not.
    echoes: (u32, u32),
    questions: u32,
    id: u16,
}

impl Survey {
    /// A search for what `wishes` says; `types` is the site of all types ([`crate::config::types`]).
    #[must_use]
    pub fn new(types: Arc<Site>, wishes: Wishes) -> Survey {
        let mut survey = Survey {
            types,
            wishes,
            waiting: VecDeque::new(),
            under_way: None,
            late: VecDeque::new(),
            refusing: None,
            is_owed: false,
            found: Vec::new(),
            meters: BTreeSet::new(),
            extended: Vec::new(),
            noisy: Vec::new(),
            met: Vec::new(),
            is_gateway: false,
            refusers: Vec::new(),
            stray: None,
            remarks: Vec::new(),
            echoes: (0, 0),
            questions: 0,
            id: 0,
        };
        for manner in survey.wishes.manners.clone() {
            survey.plan(manner);
        }
        survey
    }

    /// Everything that is asked in one manner.
    fn plan(&mut self, manner: Manner) {
        let mut steps = Vec::new();
        if manner.framing != Framing::Tcp {
            steps.push(Step::Listen);
        }
        let areas = [Area::HoldingRegisters, Area::InputRegisters];
        steps.extend(self.wishes.units.iter().flat_map(|unit| areas.map(|area| Step::Unit(*unit, area))));
        if manner.is_of_meters() {
            let versions = [Version::V2007, Version::V1997];
            steps.extend(versions.map(|version| Step::Meters(Discovery::new(version, WAKE), version)));
        }
        let leaves_so = |index: &usize| {
            let device = self.types.devices.get(*index);
            let mut factory = device.into_iter().flat_map(|device| &device.factory);
            manner.line.is_some() && factory.any(|factory| Manner::of(*factory).is_heard_as(&manner))
        };
        let instruments = (0..self.types.devices.len()).filter(leaves_so);
        steps.extend(instruments.map(Step::Instrument));
        self.waiting.extend(steps.into_iter().map(|step| (manner, step)));
    }

    /// What is to be asked next; `None`: the search is over.
    pub fn next_question(&mut self) -> Option<Question> {
        while let Some((manner, step)) = self.waiting.pop_front() {
            if matches!(step, Step::Identify(_))
                && std::mem::take(&mut self.is_owed)
                && manner.framing != Framing::Tcp
            {
                // nothing but its time tells a late answer from that to the next question
                self.waiting.push_front((manner, step));
                let question = Question { manner, bytes: Vec::new(), patience: self.patience_with_known() };
                self.under_way = Some((question.clone(), Asked::Quiet));
                return Some(question);
            }
            if let Some((question, asked)) = self.question(manner, step) {
                self.questions += u32::from(!question.bytes.is_empty());
                self.under_way = Some((question.clone(), asked));
                return Some(question);
            }
        }
        None
    }

    /// The question of a step; `None`: it has come to its end.
    fn question(&mut self, manner: Manner, step: Step) -> Option<(Question, Asked)> {
        let usual = if manner.line.is_none() { PATIENCE_TCP } else { PATIENCE };
        let patience = self.wishes.patience.unwrap_or(usual);
        match step {
            Step::Listen | Step::Instrument(_) if self.has_instrument(manner) => None,
            Step::Listen => Some((Question { manner, bytes: Vec::new(), patience: LISTEN }, Asked::Nothing)),
            Step::Unit(unit, _) if !self.is_worth_asking(manner, unit) => None,
            Step::Unit(unit, area) => {
                let query = self.query(manner, unit, Span { area, address: 0, count: 1 })?;
                Some((
                    asks(manner, query.bytes(), query.wire_size(), patience),
                    Asked::Unit(unit, area, query),
                ))
            }
            Step::Strangers(units) => {
                let span = Span { area: Area::HoldingRegisters, address: 0, count: 1 };
                let query = self.query(manner, *units.first()?, span)?;
                Some((
                    asks(manner, query.bytes(), query.wire_size(), patience),
                    Asked::Strangers(units, query),
                ))
            }
            Step::Meters(discovery, version) => {
                if self.noisy.contains(&manner) {
                    self.remark(format!(
                        "meters were not searched at {manner}: bytes come there that nobody has asked for"
                    ));
                    return None;
                }
                let Some(bytes) = discovery.next() else {
                    self.remark_on(manner, &discovery);
                    return None;
                };
                let question = asks(manner, &bytes, bytes.len(), patience.max(PATIENCE_METER));
                Some((question, Asked::Meters(discovery, version)))
            }
            Step::Instrument(index) => {
                let ask = instrument::question(self.types.devices.get(index)?)?;
                let question =
                    asks(manner, &ask.request(NO_TIME), ask.wire_size(), patience.max(PATIENCE_METER));
                Some((question, Asked::Instrument(index, ask)))
            }
            Step::Identify(meeting) => self.identifying(manner, meeting),
        }
    }

    /// What somebody who was found is asked next; where nothing is left, it is known of which types it may be.
    fn identifying(&mut self, manner: Manner, meeting: Meeting) -> Option<(Question, Asked)> {
        let patience = self.patience_with_known();
        match (&meeting.who, meeting.identify.next(&self.types)) {
            (Who::Unit(unit, _), Some(place @ Place::Registers(span))) => {
                let query = self.query(manner, *unit, span)?;
                let question = asks(manner, query.bytes(), query.wire_size(), patience);
                Some((question, Asked::Registers(meeting, place, query)))
            }
            (Who::Meter(address, _), Some(place @ Place::Item(identifier, format))) => {
                let item = Item { block: None, parts: vec![identifier] };
                let read = Read::new(*address, WAKE, &item, vec![(identifier, format)], Arc::default())?;
                let question = asks(manner, &read.request(NO_TIME), read.wire_size(), patience);
                Some((question, Asked::Item(meeting, place, read)))
            }
            _ => {
                self.find(manner, meeting);
                self.look_further(manner);
                None
            }
        }
    }

    /// How long whoever is known to be there is waited for.
    fn patience_with_known(&self) -> Duration {
        self.wishes.patience.unwrap_or_default().max(PATIENCE_KNOWN)
    }

    /// As much is known of somebody as there will be. Who hears one speed with any parity is told once.
    fn find(&mut self, manner: Manner, meeting: Meeting) {
        let found = Found { manner, who: meeting.who, fits: meeting.identify.fits(&self.types) };
        let names = |found: &Found| found.fits.iter().map(|fit| fit.type_name.clone()).collect::<Vec<_>>();
        let is_same = |known: &&Found| match (&known.who, &found.who) {
            (Who::Unit(known, _), Who::Unit(unit, _)) => known == unit,
            _ => false,
        };
        let mut twins = self.found.iter().filter(|known| known.manner.has_speed_of(&manner)).filter(is_same);
        let twin = twins.find(|known| names(known) == names(&found)).map(|known| known.manner);
        match (twin, &found.who) {
            (Some(twin), Who::Unit(unit, _)) => {
                self.remark(format!("unit {unit} answers at {manner} as at {twin}: taken for one device"));
            }
            _ => self.found.push(found),
        }
    }

    fn query(&mut self, manner: Manner, unit: u8, span: Span) -> Option<Query> {
        self.id = self.id.wrapping_add(1);
        Query::read(manner.framing, self.id, UnitId(unit), span)
    }

    /// Whether an instrument was found at this speed.
    fn has_instrument(&self, manner: Manner) -> bool {
        let baud = |manner: Manner| manner.line.map(|line| line.baud);
        let is_there =
            |found: &Found| matches!(found.who, Who::Instrument(_)) && baud(found.manner) == baud(manner);
        self.found.iter().any(is_there)
    }

    /// Whether nobody knows yet whether the unit is there. Servers call themselves 0 or 255 as well; nobody does on a line.
    fn is_worth_asking(&self, manner: Manner, unit: u8) -> bool {
        let is_it = |who: &Who| match who {
            Who::Unit(known, _) => *known == unit || UNITS_OF_SERVERS.contains(&unit),
            Who::Meter(..) | Who::Instrument(_) => false,
        };
        let is_found = |found: &Found| found.manner.is_heard_as(&manner) && is_it(&found.who);
        let is_being_asked = |(other, step): &(Manner, Step)| matches!(step, Step::Identify(meeting) if other.is_heard_as(&manner) && is_it(&meeting.who));
        let may_be = unit != 0 || manner.framing == Framing::Tcp;
        may_be && !self.found.iter().any(is_found) && !self.waiting.iter().any(is_being_asked)
    }

    /// Who was found so far, in that order.
    #[must_use]
    pub fn found(&self) -> &[Found] {
        &self.found
    }

    /// What talks by itself and nobody knows, if anything does.
    #[must_use]
    pub const fn stray(&self) -> Option<&Stray> {
        self.stray.as_ref()
    }

    /// What else there is to say, for people.
    #[must_use]
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// Whether what is sent comes back before the answer.
    #[must_use]
    pub const fn has_echo(&self) -> bool {
        self.echoes.0 > 0 && self.echoes.1 == 0
    }

    /// How much was asked so far.
    #[must_use]
    pub const fn questions(&self) -> u32 {
        self.questions
    }
}

fn asks(manner: Manner, bytes: &[u8], size: usize, patience: Duration) -> Question {
    let wire = manner.line.map_or(Duration::ZERO, |line| timing::wire_time(&line, size));
    Question { manner, bytes: bytes.to_vec(), patience: patience + wire }
}

#[cfg(test)]
mod tests;
