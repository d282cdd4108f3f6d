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
use crate::driver::dlt645::frame::{Decoder, Frame};
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

    /// Everything that was heard from the question of [`Survey::next_question`] until the line was quiet.
    pub fn handle(&mut self, heard: &[u8], now: Instant) {
        let Some((Question { manner, bytes, .. }, asked)) = self.under_way.take() else { return };
        let heard = self.without_echo(&bytes, &asked, heard);
        match asked {
            Asked::Quiet => {}
            Asked::Nothing => self.take_talk(manner, heard, now),
            Asked::Unit(unit, area, query) => self.take_unit(manner, (unit, area), query, heard),
            Asked::Strangers(units, query) => self.take_strangers(manner, units, &query, heard),
            Asked::Meters(discovery, version) => self.take_meters(manner, discovery, version, heard),
            Asked::Instrument(index, ask) => self.take_instrument(manner, index, ask, heard, now),
            Asked::Registers(meeting, place, query) => {
                let answer = query.answer(heard).map(Answer::into_data);
                self.take_reading(manner, meeting, place, answer);
            }
            Asked::Item(meeting, place, mut read) => {
                let has_come = has_reply(&meeting.who, heard);
                let answer = has_come.then(|| values_of(read.take(heard, now)));
                self.take_reading(manner, meeting, place, answer);
            }
        }
    }

    /// Half-duplex adapters may give back what is sent: `heard` without it.
    fn without_echo<'a>(&mut self, sent: &[u8], asked: &Asked, heard: &'a [u8]) -> &'a [u8] {
        let behind = heard.strip_prefix(sent).filter(|_| !sent.is_empty());
        if matches!(asked, Asked::Instrument(..)) {
            // some drives answer with what they were asked
            return behind.filter(|_| self.has_echo()).unwrap_or(heard);
        }
        if !sent.is_empty() && !heard.is_empty() {
            let count = if behind.is_some() { &mut self.echoes.0 } else { &mut self.echoes.1 };
            *count += 1;
        }
        behind.unwrap_or(heard)
    }

    /// Whether the answer to what is asked is among what was `heard`; until it is, it is worth waiting for. What several may
    /// answer has no such end.
    #[must_use]
    pub fn is_answered(&self, heard: &[u8]) -> bool {
        match &self.under_way {
            Some((
                _,
                Asked::Unit(_, _, query) | Asked::Strangers(_, query) | Asked::Registers(_, _, query),
            )) => query.answer(heard).is_some(),
            Some((_, Asked::Item(meeting, ..))) => has_reply(&meeting.who, heard),
            Some((_, Asked::Nothing | Asked::Quiet | Asked::Meters(..) | Asked::Instrument(..))) | None => {
                false
            }
        }
    }

    /// What is read there; `None`: the device does not have it. Outer `None`: nothing came.
    fn take_reading(
        &mut self,
        manner: Manner,
        mut meeting: Meeting,
        place: Place,
        answer: Option<Option<Data>>,
    ) {
        let is_silent = answer.is_none();
        self.is_owed |= is_silent;
        if is_silent && !meeting.is_again && !meeting.is_mute {
            meeting.is_again = true;
        } else {
            meeting.is_mute |= is_silent;
            meeting.is_again = false;
            meeting.identify.take(place, answer.flatten());
        }
        self.waiting.push_front((manner, Step::Identify(meeting)));
    }

    /// The far end hangs up on what is asked in the manner of the last question: nothing more is.
    pub fn handle_lost(&mut self) {
        let Some((Question { manner, .. }, asked)) = self.under_way.take() else { return };
        self.remark(format!(
            "at {manner} the far end hangs up on what it is asked: it is not asked so any more"
        ));
        if let Asked::Registers(meeting, ..) | Asked::Item(meeting, ..) = asked {
            self.find(manner, meeting);
        }
        self.give_up(|other| *other == manner);
    }

    /// Nothing is asked any more: whoever was being asked is found all the same, with what is known.
    pub fn finish(&mut self) {
        if let Some((Question { manner, .. }, Asked::Registers(meeting, ..) | Asked::Item(meeting, ..))) =
            self.under_way.take()
        {
            self.find(manner, meeting);
        }
        self.give_up(|_| true);
    }

    fn give_up(&mut self, is_over: impl Fn(&Manner) -> bool) {
        for (manner, step) in std::mem::take(&mut self.waiting) {
            match step {
                _ if !is_over(&manner) => self.waiting.push_back((manner, step)),
                Step::Identify(meeting) => self.find(manner, meeting),
                Step::Listen
                | Step::Unit(..)
                | Step::Strangers(_)
                | Step::Meters(..)
                | Step::Instrument(_) => {}
            }
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
        self.late.retain(|(other, ..)| *other == manner);
        for (manner, unit, area, query) in std::mem::take(&mut self.late) {
            match query.answer(heard).filter(|answer| self.is_there(manner, answer)) {
                Some(answer) => self.hear_of(manner, unit, area, answer),
                None => self.late.push_back((manner, unit, area, query)),
            }
        }
        match query.answer(heard) {
            Some(answer) if self.is_there(manner, &answer) => self.hear_of(manner, unit, area, answer),
            Some(answer) => self.take_absence(manner, &answer),
            None => {
                self.is_owed = true;
                if self.refusing.take_if(|refusing| *refusing == (manner, unit)).is_some() {
                    return self.meet(manner, unit, None);
                }
                self.late.push_back((manner, unit, area, query));
                if self.late.len() > LATE_MAX {
                    self.late.pop_front();
                }
            }
        }
    }

    /// Whether a unit has said so itself, and not a gateway that cannot reach it.
    fn is_there(&self, manner: Manner, answer: &Answer) -> bool {
        let Answer::Exception(code) = answer else { return true };
        let is_for_all = self.refusers.contains(&(manner, *code));
        !is_for_all && !is_absence(*code)
    }

    /// A gateway says that it cannot reach a unit.
    fn take_absence(&mut self, manner: Manner, answer: &Answer) {
        if !matches!(answer, Answer::Exception(code) if is_absence(*code)) {
            return;
        }
        self.is_gateway = true;
        self.keep_to(manner);
        self.look_further(manner);
    }

    /// Whoever speaks Modbus TCP hands no line through.
    fn keep_to(&mut self, manner: Manner) {
        if manner.framing == Framing::Tcp {
            self.waiting.retain(|(other, _)| *other == manner);
        }
    }

    /// A unit has answered: a register that it has is worth knowing.
    fn hear_of(&mut self, manner: Manner, unit: u8, area: Area, answer: Answer) {
        match answer.into_data() {
            Some(Data::Words(words)) => self.meet(manner, unit, words.first().map(|word| (area, *word))),
            _ if area == Area::HoldingRegisters => {
                self.refusing = Some((manner, unit));
                self.waiting.push_front((manner, Step::Unit(unit, Area::InputRegisters)));
            }
            _ => self.meet(manner, unit, None),
        }
    }

    /// A unit is there, and has this register.
    fn meet(&mut self, manner: Manner, unit: u8, word: Option<(Area, u16)>) {
        if !self.is_worth_asking(manner, unit) {
            return;
        }
        let modbus = |index: &usize| {
            let device = self.types.devices.get(*index);
            device.is_some_and(|device| device.protocol.is_modbus() && device.probes().next().is_some())
        };
        let candidates = (0..self.types.devices.len()).filter(modbus).collect();
        self.waiting.push_front((manner, Step::Identify(Meeting::new(Who::Unit(unit, word), candidates))));
        if !self.met.contains(&manner) {
            self.met.push(manner);
            self.waiting.push_front((manner, Step::Strangers(&STRANGERS)));
            self.keep_to(manner);
        }
    }

    /// All other units are asked as well where there may be some: on a line with one, and behind a gateway.
    fn look_further(&mut self, manner: Manner) {
        let is_there = |found: &&Found| found.manner == manner && matches!(found.who, Who::Unit(..));
        let units = self.found.iter().filter(is_there).count();
        let is_line = manner.framing != Framing::Tcp || self.is_gateway;
        if units == 0 || !(is_line || units > 1) || self.extended.contains(&manner) {
            return;
        }
        self.extended.push(manner);
        let more =
            self.wishes.more_units.iter().map(|unit| (manner, Step::Unit(*unit, Area::HoldingRegisters)));
        self.waiting.extend(more);
    }

    /// Whoever answers for units that nobody has set answers for all.
    fn take_strangers(&mut self, manner: Manner, units: &'static [u8], query: &Query, heard: &[u8]) {
        match query.answer(heard) {
            Some(Answer::Exception(code)) if !is_absence(code) => {
                // it shows neither that they are there nor that others are
                self.remark(format!(
                    "at {manner} units that are not there are answered with exception {:02X}: who says only that is left out",
                    u8::from(code)
                ));
                return self.refusers.push((manner, code));
            }
            Some(Answer::Response(_)) => {}
            _ => {
                self.is_owed = true;
                return;
            }
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
        // single bytes where the line turns around are no answers that spoil each other
        discovery.handle(&frames, decoder.noise() >= SPOILT_MIN || decoder.checksum_errors() > 0);
        let new: Vec<Address> = discovery.found().filter(|address| self.meters.insert(*address)).collect();
        self.waiting.push_front((manner, Step::Meters(discovery, version)));
        let of_version = |index: &usize| {
            let device = self.types.devices.get(*index);
            device.is_some_and(|device| speaks(device, version) && device.probes().next().is_some())
        };
        for address in new {
            let candidates = (0..self.types.devices.len()).filter(of_version).collect();
            let meeting = Meeting::new(Who::Meter(address, version), candidates);
            self.waiting.push_front((manner, Step::Identify(meeting)));
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

    fn remark_on(&mut self, manner: Manner, discovery: &Discovery) {
        let shared: Vec<String> = discovery.shared().map(|address| address.to_string()).collect();
        if let Some(first) = shared.first().filter(|_| discovery.is_complete()) {
            let count = shared.len();
            self.remark(format!(
                "at {manner} several meters seem to have one address ({first}, {count} such): ask each alone on the line"
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
                "at {manner} the search for meters was given up after {questions} questions, as answers are spoilt or too many: there may be more"
            ));
        }
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

fn speaks(device: &Device, version: Version) -> bool {
    match &device.protocol {
        DeviceProtocol::Dlt645(meter) => {
            let mut parts = meter.items.iter().flat_map(|item| &item.parts);
            parts.all(|part| part.version() == version)
        }
        DeviceProtocol::Modbus | DeviceProtocol::Serial(..) => false,
    }
}

/// Whether a gateway says so of a unit that it cannot reach.
fn is_absence(code: ExceptionCode) -> bool {
    matches!(code, ExceptionCode::GatewayPathUnavailable | ExceptionCode::GatewayTargetDevice)
}

/// Whether a meter has answered something.
fn has_reply(who: &Who, heard: &[u8]) -> bool {
    let Who::Meter(address, _) = who else { return false };
    let is_its = |frame: &Frame| frame.control.is_reply() && frame.address == *address;
    Decoder::default().decode(heard).iter().any(is_its)
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
