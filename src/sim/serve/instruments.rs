//! The instruments on a line of the simulator: what they hear of it, what they answer, and what they say by themselves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::floor::Instrument;
use super::super::instrument::{Instruments, Saying};
use super::line::Far;
use super::{Conversation, is_same_speed, wire_time};
use crate::clock;
use crate::config::site::SerialLine;
use crate::link::timing;

/// How long an instrument thinks before it answers.
const INSTRUMENT_TURNAROUND: Duration = Duration::from_millis(15);
/// Where there is no line: after so long a silence a request begins.
const GAP: Duration = Duration::from_millis(5);
/// The longest request; what is longer is for others.
const REQUEST_MAX: usize = 256;
/// How often it is looked whether somebody listens to what talks by itself.
const LOOK: Duration = Duration::from_millis(50);
/// How long after that it begins: a gateway that has just opened a port may drop what it hears.
const BEGIN_AFTER: Duration = Duration::from_millis(300);
/// So often in a row nobody has read what was said: the gateway's end is closed.
const UNREAD_MAX: u8 = 5;

/// An instrument that talks by itself.
#[derive(Debug)]
pub(super) struct Talker {
    name: Arc<str>,
    /// When it says something, or looks whether anybody listens.
    at: Instant,
    is_heard: bool,
    unread: u8,
}

impl Talker {
    pub(super) const fn new(name: Arc<str>, now: Instant) -> Talker {
        Talker { name, at: now, is_heard: false, unread: 0 }
    }

    /// Whether it speaks at `now`, with `far` at the other end of its line.
    fn speaks(&mut self, far: Option<&Far>, now: Instant) -> bool {
        if far.is_some_and(|far| !far.is_open()) {
            (self.is_heard, self.at) = (false, now + LOOK);
            return false;
        }
        if !self.is_heard {
            (self.is_heard, self.unread, self.at) = (true, 0, now + BEGIN_AFTER);
            return false;
        }
        let Some(far) = far.filter(|far| far.drop_unread()) else { return true };
        self.unread += 1;
        if self.unread >= UNREAD_MAX {
            far.forget();
        }
        self.at = now + LOOK;
        false
    }
}

impl Conversation {
    /// Takes what came in as the instruments on the line hear it: each those bytes that come at its own speed, and a
    /// request is all that comes between two silences.
    pub(super) fn hear_as_instruments(
        &mut self,
        bytes: &[u8],
        baud: Option<u32>,
        silence: Option<Duration>,
        now: Instant,
    ) {
        let gap = self.pace_of(None).map_or(GAP, |line| timing::frame_gap(&line));
        if silence.is_some_and(|silence| silence >= gap) || self.instrument_input.len() > REQUEST_MAX {
            self.instrument_input.clear();
        }
        self.instrument_input.extend_from_slice(bytes);
        let (elapsed, at, link) = (self.far.floor.elapsed(now), clock::wall(), self.far.link.clone());
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let own = self.speed.map(|line| line.baud);
        let heard = &self.instrument_input;
        let answers: Vec<(Option<SerialLine>, Saying)> = self.far.with(|state| {
            let of = |instrument: &Instrument| {
                let speaks_at = instrument.line.map(|line| line.baud).or(own);
                let saying = state.instruments.reply(instrument, heard, elapsed_ms, at);
                Some((instrument.line, saying.filter(|_| is_same_speed(speaks_at, baud))?))
            };
            self.far.floor.with(|floor| floor.instruments_on(&link).filter_map(of).collect())
        });
        if answers.is_empty() {
            return;
        }
        // nothing of a request to an instrument begins one to anybody else
        self.input.clear();
        self.meter_input.clear();
        self.instrument_input.clear();
        for (line, saying) in answers {
            let asked = wire_time(self.pace_of(line), saying.answer.asked.len()) + INSTRUMENT_TURNAROUND;
            self.say(line, saying, now, asked);
        }
    }

    /// When the next of those that talk by themselves says something, or looks whether anybody listens.
    pub(super) fn talk_due(&self) -> Option<Instant> {
        self.talkers.iter().map(|talker| talker.at).min()
    }

    /// Has those say something whose time has come.
    pub(super) fn talk(&mut self, now: Instant) {
        if self.far.floor.with(|floor| floor.is_hushed()) {
            self.talkers.clear();
            return;
        }
        let elapsed = self.far.floor.elapsed(now);
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let mut said = Vec::new();
        for talker in self.talkers.iter_mut().filter(|talker| talker.at <= now) {
            if !talker.speaks(self.gateway.as_ref(), now) {
                continue;
            }
            let link = &*self.far.link;
            let talk = |instruments: &mut Instruments, instrument: &Instrument| {
                let (saying, pause) = instruments.talk(instrument, elapsed_ms, clock::wall())?;
                Some((instrument.line, saying, pause))
            };
            let next = self.far.with(|state| {
                self.far.floor.with(|floor| {
                    let own = floor.instruments_on(link).find(|instrument| instrument.name == talker.name)?;
                    talk(&mut state.instruments, own)
                })
            });
            // what has nothing to say looks again after a while
            talker.at = now + next.as_ref().map_or(BEGIN_AFTER, |(_, _, pause)| *pause);
            said.extend(next);
        }
        for (line, saying, _) in said {
            self.say(line, saying, now, Duration::ZERO);
        }
    }

    /// Plans what leaves where an instrument with this line says something, so long after `now`.
    fn say(&mut self, line: Option<SerialLine>, saying: Saying, now: Instant, after: Duration) {
        let Saying { answer, served } = saying;
        let elapsed = self.far.floor.elapsed(now);
        let conduct = self.far.with(|state| state.instrument_faults.handle(answer, elapsed));
        if conduct.is_right {
            self.far.floor.with(|floor| floor.note(served));
        }
        let pace = self.pace_of(line);
        for (late, act) in conduct.emissions {
            let due = now + after + late + wire_time(pace, act.size());
            self.enqueue(due, act, pace.map(|line| line.baud));
        }
    }

    /// How an instrument with this line speaks; `None` where there is no line.
    fn pace_of(&self, line: Option<SerialLine>) -> Option<SerialLine> {
        self.speed.map(|link| line.unwrap_or(link))
    }
}
