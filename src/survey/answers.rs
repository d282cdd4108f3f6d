//! What was heard, and what it means for the search. Pure.

use std::time::Instant;

use tokio_modbus::ExceptionCode;

use super::identify::{Fit, Place};
use super::manner::Manner;
use super::{
    Asked, Found, LATE_MAX, Meeting, Question, SPOILT_MIN, STRANGERS, STRAY_MAX, Step, Stray, Survey, Who,
    instrument,
};
use crate::config::site::{Device, DeviceProtocol, Framing};
use crate::dlt645::{Address, Version};
use crate::driver::Answer;
use crate::driver::dlt645::discovery::Discovery;
use crate::driver::dlt645::frame::{Decoder, Frame};
use crate::driver::exchange::{Exchange as _, Progress};
use crate::driver::modbus::frame;
use crate::driver::modbus::query::Query;
use crate::driver::serial::ask::Ask;
use crate::scan::Data;
use crate::tag::Area;

impl Survey {
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
        self.begin_identifying(manner, Who::Unit(unit, word), |device| device.protocol.is_modbus());
        if !self.met.contains(&manner) {
            self.met.push(manner);
            self.waiting.push_front((manner, Step::Strangers(&STRANGERS)));
            self.keep_to(manner);
        }
    }

    /// Asks somebody next what the probes of all types of which it may be read.
    fn begin_identifying(&mut self, manner: Manner, who: Who, may_be: impl Fn(&Device) -> bool) {
        let devices = self.types.devices.iter().enumerate();
        let candidates = devices.filter(|(_, device)| device.probes().next().is_some() && may_be(device));
        let meeting = Meeting::new(who, candidates.map(|(index, _)| index).collect());
        self.waiting.push_front((manner, Step::Identify(meeting)));
    }

    /// All other units are asked as well where there may be some: on a line with one, and behind a gateway.
    pub(super) fn look_further(&mut self, manner: Manner) {
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
        for address in new {
            self.begin_identifying(manner, Who::Meter(address, version), |device| speaks(device, version));
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
    pub(super) fn remark(&mut self, remark: String) {
        if !self.remarks.contains(&remark) {
            self.remarks.push(remark);
        }
    }

    /// What there is to say of a search for meters at its end.
    pub(super) fn remark_on(&mut self, manner: Manner, discovery: &Discovery) {
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
