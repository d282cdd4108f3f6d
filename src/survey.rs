//! The search behind `tidegate scan`: who is on a line or behind a TCP port, how it is spoken to, and of which types it may be.
//! Pure: what was heard and `now` come in, the next question goes out; `task.rs` asks.
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

pub mod fragment;
pub mod identify;
pub mod instrument;
pub mod manner;
pub mod task;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_modbus::ExceptionCode;

use crate::config::site::{Device, DeviceProtocol, Framing, Item, Site, WAKE};
use crate::dlt645::{Address, Version};
use crate::driver::Answer;
use crate::driver::dlt645::discovery::Discovery;
use crate::driver::dlt645::frame::Decoder;
use crate::driver::dlt645::read::Read;
use crate::driver::exchange::{Exchange as _, Progress};
use crate::driver::modbus::frame;
use crate::driver::modbus::query::Query;
use crate::driver::serial::ask::Ask;
use crate::link::timing;
use crate::reading::Timestamp;
use crate::scan::Data;
use crate::tag::{Area, Span, UnitId};
use identify::{Fit, Identify, Place};
use manner::Manner;

/// How long a line is listened to: a scale that talks by itself does so several times a second.
const LISTEN: Duration = Duration::from_millis(1200);
/// How long a unit on a serial line that may not be there is waited for; it may as well answer while the next is.
const PATIENCE: Duration = Duration::from_millis(200);
/// The same over Modbus TCP: a gateway waits for its line first.
const PATIENCE_TCP: Duration = Duration::from_secs(1);
/// How long a meter is waited for: it answers within half a second (DL/T 645-2007, 5.3.3).
const PATIENCE_METER: Duration = Duration::from_millis(600);
/// How long whoever is known to be there is waited for.
const PATIENCE_KNOWN: Duration = Duration::from_secs(1);
/// Units that nobody sets: where both answer, everybody else does.
const STRANGERS: [u8; 2] = [246, 244];
/// Nothing that is asked here tells the time.
const NO_TIME: Timestamp = Timestamp::from_millis(0);
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
    Identify(Who, Identify),
}

/// What is under way, and what knows its answer.
#[derive(Debug)]
enum Asked {
    Nothing,
    Unit(u8, Area, Query),
    Strangers(&'static [u8], Query),
    Meters(Discovery, Version),
    Instrument(usize, Ask),
    Registers(Who, Identify, Place, Query),
    Item(Who, Identify, Place, Read),
}

/// A search.
#[derive(Debug)]
pub struct Survey {
    /// A device of each type.
    types: Arc<Site>,
    wishes: Wishes,
    waiting: VecDeque<(Manner, Step)>,
    under_way: Option<(Question, Asked)>,
    /// The unit that was asked last and has not answered: it may do so late.
    late: Option<(Manner, u8, Area, Query)>,
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
    stray: Option<Stray>,
    remarks: Vec<String>,
    has_echo: bool,
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
            late: None,
            found: Vec::new(),
            meters: BTreeSet::new(),
            extended: Vec::new(),
            noisy: Vec::new(),
            met: Vec::new(),
            is_gateway: false,
            stray: None,
            remarks: Vec::new(),
            has_echo: false,
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
        let usual = if manner.framing == Framing::Tcp { PATIENCE_TCP } else { PATIENCE };
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
                let Some(bytes) = discovery.next().filter(|_| !self.is_noisy(manner)) else {
                    self.remark_on(&discovery);
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
            Step::Identify(who, identify) => self.identifying(manner, who, identify),
        }
    }

    /// What somebody who was found is asked next; where nothing is left, it is known of which types it may be.
    fn identifying(&mut self, manner: Manner, who: Who, identify: Identify) -> Option<(Question, Asked)> {
        let patience = PATIENCE_KNOWN;
        match (&who, identify.next(&self.types)) {
            (Who::Unit(unit, _), Some(place @ Place::Registers(span))) => {
                let query = self.query(manner, *unit, span)?;
                let question = asks(manner, query.bytes(), query.wire_size(), patience);
                Some((question, Asked::Registers(who, identify, place, query)))
            }
            (Who::Meter(address, _), Some(place @ Place::Item(identifier, format))) => {
                let item = Item { block: None, parts: vec![identifier] };
                let read = Read::new(*address, WAKE, &item, vec![(identifier, format)], Arc::default())?;
                let question = asks(manner, &read.request(NO_TIME), read.wire_size(), patience);
                Some((question, Asked::Item(who, identify, place, read)))
            }
            _ => {
                let fits = identify.fits(&self.types);
                self.found.push(Found { manner, who, fits });
                self.look_further(manner);
                None
            }
        }
    }

    fn query(&mut self, manner: Manner, unit: u8, span: Span) -> Option<Query> {
        self.id = self.id.wrapping_add(1);
        Query::read(manner.framing, self.id, UnitId(unit), span)
    }

    /// Everything that was heard from the question of [`Survey::next_question`] until the line was quiet.
    pub fn handle(&mut self, heard: &[u8], now: Instant) {
        let Some((Question { manner, bytes, .. }, asked)) = self.under_way.take() else { return };
        // half-duplex adapters may give back what is sent
        let behind_echo = heard.strip_prefix(&*bytes).filter(|_| !bytes.is_empty());
        self.has_echo |= behind_echo.is_some();
        let heard = behind_echo.unwrap_or(heard);
        match asked {
            Asked::Nothing => self.take_talk(manner, heard, now),
            Asked::Unit(unit, area, query) => self.take_unit(manner, (unit, area), query, heard),
            Asked::Strangers(units, query) => self.take_strangers(manner, units, &query, heard),
            Asked::Meters(discovery, version) => self.take_meters(manner, discovery, version, heard),
            Asked::Instrument(index, ask) => self.take_instrument(manner, index, ask, heard, now),
            Asked::Registers(who, mut identify, place, query) => {
                identify.take(place, query.answer(heard).and_then(Answer::into_data));
                self.waiting.push_front((manner, Step::Identify(who, identify)));
            }
            Asked::Item(who, mut identify, place, mut read) => {
                identify.take(place, values_of(read.take(heard, now)));
                self.waiting.push_front((manner, Step::Identify(who, identify)));
            }
        }
    }

    /// The far end has hung up on the last question: nothing more is asked in its manner.
    pub fn handle_lost(&mut self) {
        if let Some((Question { manner, .. }, _)) = self.under_way.take() {
            self.waiting.retain(|(other, _)| *other != manner);
        }
    }

    fn take_talk(&mut self, manner: Manner, heard: &[u8], now: Instant) {
        let fits = instrument::heard(&self.types, heard, now);
        if !fits.is_empty() {
            // it would talk into every answer
            self.waiting.retain(|(other, _)| *other != manner);
            self.found.push(Found { manner, who: Who::Instrument(None), fits });
        } else if !heard.is_empty() {
            let bytes = heard.iter().take(STRAY_MAX).copied().collect();
            let stray = Stray { manner, bytes, is_master: has_question(heard) };
            // bytes at a wrong speed mean nothing: what a master asks tells the most
            if self.stray.as_ref().is_none_or(|known| stray.is_master && !known.is_master) {
                self.stray = Some(stray);
            }
            self.noisy.push(manner);
        }
    }

    fn take_unit(&mut self, manner: Manner, (unit, area): (u8, Area), query: Query, heard: &[u8]) {
        let late = self.late.take().filter(|(other, ..)| *other == manner);
        if let Some((_, unit, area, query)) = late
            && let Some(answer) = query.answer(heard).filter(is_there)
        {
            self.meet(manner, unit, area, answer);
        }
        match query.answer(heard) {
            Some(answer) if is_there(&answer) => self.meet(manner, unit, area, answer),
            Some(_) => {
                self.is_gateway = true;
                self.look_further(manner);
            }
            None => self.late = Some((manner, unit, area, query)),
        }
    }

    /// A unit has answered.
    fn meet(&mut self, manner: Manner, unit: u8, area: Area, answer: Answer) {
        if !self.is_worth_asking(manner, unit) {
            return;
        }
        let word = match answer.into_data() {
            Some(Data::Words(words)) => words.first().map(|word| (area, *word)),
            Some(Data::Bits(_) | Data::Values(_)) | None => None,
        };
        let modbus = |index: &usize| {
            let device = self.types.devices.get(*index);
            device.is_some_and(|device| device.protocol.is_modbus() && device.probes().next().is_some())
        };
        let candidates = (0..self.types.devices.len()).filter(modbus).collect();
        let step = Step::Identify(Who::Unit(unit, word), Identify::new(candidates));
        self.waiting.push_front((manner, step));
        if self.is_met(manner) {
            return;
        }
        self.met.push(manner);
        self.waiting.push_front((manner, Step::Strangers(&STRANGERS)));
        if manner.framing == Framing::Tcp {
            // it hands no line through
            self.waiting.retain(|(other, _)| *other == manner);
        }
    }

    fn is_met(&self, manner: Manner) -> bool {
        self.met.iter().any(|other| other.has_speed_of(&manner))
    }

    /// All other units are asked as well where there may be some: on a line with one, and behind a gateway.
    fn look_further(&mut self, manner: Manner) {
        let is_there = |found: &&Found| found.manner == manner && matches!(found.who, Who::Unit(..));
        let units = self.found.iter().filter(is_there).count();
        let is_line = manner.framing != Framing::Tcp || self.is_gateway;
        if units == 0
            || !(is_line || units > 1)
            || self.extended.iter().any(|other| other.has_speed_of(&manner))
        {
            return;
        }
        self.extended.push(manner);
        let more =
            self.wishes.more_units.iter().map(|unit| (manner, Step::Unit(*unit, Area::HoldingRegisters)));
        self.waiting.extend(more);
    }

    /// Whoever answers for units that nobody has set answers for all.
    fn take_strangers(&mut self, manner: Manner, units: &'static [u8], query: &Query, heard: &[u8]) {
        if !query.answer(heard).is_some_and(|answer| is_there(&answer)) {
            return;
        }
        match units.split_first() {
            Some((_, [])) | None => {
                self.remark("it answers as whatever unit it is asked: one device".to_owned());
                self.waiting.retain(|(other, step)| *other != manner || !matches!(step, Step::Unit(..)));
                self.extended.push(manner); // there is nobody else to look for
            }
            Some((_, rest)) => self.waiting.push_front((manner, Step::Strangers(rest))),
        }
    }

    fn take_meters(&mut self, manner: Manner, mut discovery: Discovery, version: Version, heard: &[u8]) {
        let mut decoder = Decoder::default();
        let mut frames = decoder.decode(heard);
        frames.extend(decoder.quiet());
        discovery.handle(&frames, decoder.noise() > 0 || decoder.checksum_errors() > 0);
        let new: Vec<Address> = discovery.found().filter(|address| self.meters.insert(*address)).collect();
        self.waiting.push_front((manner, Step::Meters(discovery, version)));
        let of_version = |index: &usize| {
            let device = self.types.devices.get(*index);
            device.is_some_and(|device| speaks(device, version) && device.probes().next().is_some())
        };
        for address in new {
            let candidates = (0..self.types.devices.len()).filter(of_version).collect();
            let step = Step::Identify(Who::Meter(address, version), Identify::new(candidates));
            self.waiting.push_front((manner, step));
        }
    }

    fn take_instrument(&mut self, manner: Manner, index: usize, mut ask: Ask, heard: &[u8], now: Instant) {
        if !instrument::is_answered(&mut ask, heard, now) {
            return;
        }
        if let Some(device) = self.types.devices.get(index) {
            let shown = "it answers what its type asks".to_owned();
            let fit = Fit { type_name: device.name.clone(), shown, is_heard: false, is_weak: false };
            let who = Who::Instrument(instrument::unit(device));
            self.found.push(Found { manner, who, fits: vec![fit] });
        }
    }

    /// Says it once.
    fn remark(&mut self, remark: String) {
        if !self.remarks.contains(&remark) {
            self.remarks.push(remark);
        }
    }

    fn remark_on(&mut self, discovery: &Discovery) {
        for address in discovery.shared() {
            self.remark(format!(
                "several meters seem to have the address {address}: ask each alone on the line"
            ));
        }
        if discovery.is_indiscriminate() {
            self.remark(
                "a meter answers whatever address it is asked: no other one can be told on this line"
                    .to_owned(),
            );
        }
        if !discovery.is_complete() && discovery.questions() > 0 {
            let questions = discovery.questions();
            self.remark(format!(
                "the search for meters was given up after {questions} questions: there may be more"
            ));
        }
    }

    /// Whether an instrument was found at this speed.
    fn has_instrument(&self, manner: Manner) -> bool {
        let is_there =
            |found: &Found| matches!(found.who, Who::Instrument(_)) && found.manner.has_speed_of(&manner);
        self.found.iter().any(is_there)
    }

    /// Whether nobody knows yet whether the unit is there.
    fn is_worth_asking(&self, manner: Manner, unit: u8) -> bool {
        let is_it = |who: &Who| matches!(who, Who::Unit(known, _) if *known == unit);
        let is_found = |found: &Found| found.manner.has_speed_of(&manner) && is_it(&found.who);
        let is_under_way = |(other, step): &(Manner, Step)| matches!(step, Step::Identify(who, _) if other.has_speed_of(&manner) && is_it(who));
        !self.found.iter().any(is_found) && !self.waiting.iter().any(is_under_way)
    }

    /// Whether bytes come in on this manner that nobody has asked for: nothing tells them from answers that spoil each other.
    fn is_noisy(&self, manner: Manner) -> bool {
        self.noisy.contains(&manner)
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
        self.has_echo
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

fn speaks(device: &Device, version: Version) -> bool {
    match &device.protocol {
        DeviceProtocol::Dlt645(meter) => {
            let mut parts = meter.items.iter().flat_map(|item| &item.parts);
            parts.all(|part| part.version() == version)
        }
        DeviceProtocol::Modbus | DeviceProtocol::Serial(..) => false,
    }
}

/// Whether a unit has said so itself, and not a gateway that cannot reach it.
fn is_there(answer: &Answer) -> bool {
    use ExceptionCode::{GatewayPathUnavailable, GatewayTargetDevice};
    !matches!(answer, Answer::Exception(GatewayPathUnavailable | GatewayTargetDevice))
}

fn values_of(progress: Progress) -> Option<Data> {
    let Progress::Done(Answer::Values(values)) = progress else { return None };
    values.iter().all(Result::is_ok).then_some(Data::Values(values))
}

/// Whether a Modbus master asks something there: a request to read, its checksum right.
fn has_question(heard: &[u8]) -> bool {
    let is_read = |window: &[u8]| {
        frame::decode_rtu(window).is_some_and(|(_, pdu)| matches!(pdu, [1..=4, _, _, 0, 1..=125]))
    };
    heard.windows(8).any(is_read)
}

#[cfg(test)]
mod tests;
