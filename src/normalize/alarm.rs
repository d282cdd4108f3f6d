//! An alarm: raised, acknowledged, cleared, shelved (ISA-18.2-2016, IEC 62682:2014). Pure.
//!
//! Samples of what is watched come in, with the wall time and a monotonic `now`, and what people do; events, the state, and
//! a bool with its quality go out. Delays and shelving are measured by the monotonic clock; the wall clock only says when
//! something happened, and how long is left of a shelving that began before a restart.
//!
//! ```text
//! state                  condition holds  condition ends                   acknowledged
//! Normal                 Unacknowledged   .                                refused
//! Unacknowledged         .                LatchedUnacknowledged or Normal  Acknowledged
//! Acknowledged           .                LatchedAcknowledged or Normal    refused
//! LatchedUnacknowledged  Unacknowledged   .                                Normal
//! LatchedAcknowledged    Unacknowledged   .                                Normal
//! ```
//!
//! A condition holds once it has done so for `delay`, and has ended once it has not for `clear_delay`; both may be 0.
//! An alarm without `latch` need not be acknowledged: it is normal once it has cleared. One with `latch` stays active until
//! it is acknowledged after it has cleared, also where somebody has acknowledged it before. Shelving lies above these states:
//! they are followed, and the bool tells the truth, but nothing is announced but what people do. A shelving that is over is
//! told with the state that the alarm is in then.
//!
//! A sample that is bad or stale neither raises nor clears anything: the state stays, with the sample's quality. It breaks a
//! delay that runs: nobody knows whether the condition held meanwhile, so `delay` and `clear_delay` begin again with the
//! next sample that says something. Between two samples the first one holds.

mod condition;
mod event;
mod flood;
mod rise;
pub mod run;
mod state;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::site::{AlarmRule, SHELVE_MAX, Test};
use crate::reading::{Quality, Timestamp, Value};
pub use event::{Event, EventKind};
pub use flood::{Flood, Floods, Notice, NoticeKind, Verdict};
use rise::Rise;
use run::Act;
use state::Phase;
pub use state::{SavedAlarm, State};

/// Events that wait to be taken: one call gives three at most; the oldest gives way.
const EVENTS_MAX: usize = 16;
/// The longest name of somebody who does something, in bytes.
pub const WHO_MAX: usize = 128;

/// What was read of what an alarm watches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample<'a> {
    /// The value; of a whole condition its bool. `None` where there is none.
    pub value: Option<&'a Value>,
    /// How far to trust it. `bad:out_of_service` puts the alarm out of service until the next sample.
    pub quality: Quality,
    /// The last known value of the tag that is the limit; not looked at where the limit is a number, or there is none.
    pub limit: Option<f64>,
}

/// Why somebody may not do something with an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is normal, or somebody has acknowledged it already.
    #[error("there is nothing to acknowledge")]
    NothingToAcknowledge,
    /// It is not put aside.
    #[error("the alarm is not shelved")]
    NotShelved,
    /// It may not be put aside for so long, or for no time.
    #[error("an alarm is shelved for more than 0 s and at most {} h", .max.as_secs() / 3600)]
    ShelveTime {
        /// The longest time.
        max: Duration,
    },
    /// The name of who does it is too long.
    #[error("a name has at most {max} bytes")]
    NameTooLong {
        /// The longest name, in bytes.
        max: usize,
    },
}

/// One alarm.
#[derive(Debug)]
pub struct Alarm {
    rule: AlarmRule,
    phase: Phase,
    /// Up to when its time is accounted for; never goes back.
    seen: Instant,
    /// Since when the condition is the contrary of what the phase says.
    contrary_since: Option<Instant>,
    /// How far to trust the bool.
    quality: Quality,
    /// Of a test of a rate.
    rise: Option<Rise>,
    /// The last good value; else the start, or when it was put into service.
    heard_at: Instant,
    /// Whether there was a good value in this run.
    has_heard: bool,
    /// The last usable value.
    value: Option<Value>,
    /// When it was raised last.
    since: Option<Timestamp>,
    shelved_until: Option<Instant>,
    events: VecDeque<Event>,
}

impl Alarm {
    /// An alarm that is normal, or as an earlier run has left it.
    ///
    /// A shelving goes on for what is left of it by `wall`. It is over, and told to be, where that is `None` or earlier than
    /// when it was kept: a clock that is wrong hides no alarm.
    #[must_use]
    pub fn new(rule: AlarmRule, saved: Option<SavedAlarm>, wall: Option<Timestamp>, now: Instant) -> Alarm {
        let rise = match rule.test {
            Test::Rate { per, .. } => Some(Rise::new(per)),
            Test::Above { .. } | Test::Below { .. } | Test::Equals(_) | Test::Holds | Test::Silent(_) => None,
        };
        let mut alarm = Alarm {
            rule,
            phase: Phase::Normal,
            seen: now,
            contrary_since: None,
            quality: Quality::BadNoCommunication,
            rise,
            heard_at: now,
            has_heard: false,
            value: None,
            since: None,
            shelved_until: None,
            events: VecDeque::new(),
        };
        if let Some(saved) = saved.filter(SavedAlarm::is_sound) {
            alarm.restore(&saved, wall);
        }
        alarm.listen();
        alarm
    }

    fn restore(&mut self, saved: &SavedAlarm, wall: Option<Timestamp>) {
        self.phase = match saved.phase {
            // It does not latch any more.
            Phase::LatchedUnacknowledged | Phase::LatchedAcknowledged if !self.rule.latch => Phase::Normal,
            Phase::Normal
            | Phase::Unacknowledged
            | Phase::Acknowledged
            | Phase::LatchedUnacknowledged
            | Phase::LatchedAcknowledged => saved.phase,
        };
        self.since = saved.since_ms.filter(|_| self.is_active()).map(Timestamp::from_millis);
        let left = saved.shelved_for_ms(wall).map(Duration::from_millis);
        self.shelved_until = left.and_then(|left| self.seen.checked_add(left));
        if saved.is_shelved && self.shelved_until.is_none() {
            self.tell(EventKind::Expired, wall, None);
        }
    }

    /// Takes a sample of `now`; `wall` is `None` while the wall clock is not to be trusted.
    pub fn handle(&mut self, sample: Sample<'_>, wall: Option<Timestamp>, now: Instant) {
        self.handle_time(wall, now);
        if let Ok(value) = condition::usable(&sample) {
            self.value = Some(value.clone());
        }
        if matches!(self.rule.test, Test::Silent(_)) {
            self.hear(&sample);
            self.listen();
        } else {
            let is_raised = self.phase.is_raised();
            let holds = condition::judge(&self.rule.test, self.rise.as_mut(), &sample, is_raised, self.seen);
            self.quality = holds.map_or_else(|quality| quality, |_| sample.quality);
            self.weigh(holds.ok(), self.seen);
        }
        self.settle(wall);
    }

    /// Lets time pass up to `now`: to be called at the latest when [`Alarm::next_due`] says so.
    pub fn handle_time(&mut self, wall: Option<Timestamp>, now: Instant) {
        self.seen = self.seen.max(now);
        if self.shelved_until.is_some_and(|until| until <= self.seen) {
            self.shelved_until = None;
            self.tell(EventKind::Expired, wall, None);
        }
        self.listen();
        self.settle(wall);
    }

    /// An event; to be taken after each call that takes a time, until there is none.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When something happens although no sample comes: a delay or a shelving is over, or the silence is long enough.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        let delay = if self.phase.is_raised() { self.rule.clear_delay } else { self.rule.delay };
        let settled = self.contrary_since.and_then(|since| since.checked_add(delay));
        let silent = self.silent_from().filter(|at| *at > self.seen && !self.is_out_of_service());
        settled.into_iter().chain(silent).chain(self.shelved_until).min()
    }

    /// Somebody knows of it: one that is raised is acknowledged, one that has cleared and latches is normal.
    ///
    /// # Errors
    /// There is nothing to acknowledge, or the name of `who` does it is longer than [`WHO_MAX`].
    pub fn acknowledge(&mut self, who: &str, wall: Option<Timestamp>, now: Instant) -> Result<(), Refusal> {
        self.handle_time(wall, now);
        let who = named(who)?;
        self.phase = self.phase.acknowledged().ok_or(Refusal::NothingToAcknowledge)?;
        self.tell(EventKind::Acknowledged, wall, who);
        self.forget_if_normal();
        Ok(())
    }

    /// Puts it aside for `time` from `now` on, above 0 and at most [`SHELVE_MAX`]; one that is aside already, for this time.
    ///
    /// # Errors
    /// The time is none of those, or the name of `who` does it is longer than [`WHO_MAX`].
    pub fn shelve(
        &mut self,
        time: Duration,
        who: &str,
        wall: Option<Timestamp>,
        now: Instant,
    ) -> Result<(), Refusal> {
        self.handle_time(wall, now);
        let who = named(who)?;
        let is_possible = !time.is_zero() && time <= SHELVE_MAX;
        let until = self.seen.checked_add(time).filter(|_| is_possible);
        self.shelved_until = Some(until.ok_or(Refusal::ShelveTime { max: SHELVE_MAX })?);
        self.tell(EventKind::Shelved, wall, who);
        Ok(())
    }

    /// Takes it back before its time.
    ///
    /// # Errors
    /// It is not shelved, or the name of `who` does it is longer than [`WHO_MAX`].
    pub fn unshelve(&mut self, who: &str, wall: Option<Timestamp>, now: Instant) -> Result<(), Refusal> {
        self.handle_time(wall, now);
        let who = named(who)?;
        self.shelved_until.take().ok_or(Refusal::NotShelved)?;
        self.tell(EventKind::Unshelved, wall, who);
        Ok(())
    }

    /// Whether somebody could do this with it, as far as is known up to now. Nothing is done.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, act: Act, who: &str) -> Result<(), Refusal> {
        named(who)?;
        match act {
            Act::Acknowledge => self.phase.acknowledged().map(drop).ok_or(Refusal::NothingToAcknowledge),
            Act::Shelve(time) if time.is_zero() || time > SHELVE_MAX => {
                Err(Refusal::ShelveTime { max: SHELVE_MAX })
            }
            Act::Shelve(_) => Ok(()),
            Act::Unshelve => self.shelved_until.map(drop).ok_or(Refusal::NotShelved),
        }
    }

    /// What it is to whoever watches it.
    #[must_use]
    pub fn state(&self) -> State {
        if self.is_out_of_service() {
            return State::OutOfService;
        }
        if self.shelved_until.is_some() { State::Shelved } else { self.phase.state() }
    }

    /// Whether it is raised or latched, shelved or not: the value of its bool tag.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        !matches!(self.phase, Phase::Normal)
    }

    /// How far to trust [`Alarm::is_active`]: the quality of the sample that was judged last, or why it could not be judged.
    /// Of a test of silence it is good, but `uncertain:initial` until the first good value or the first silence of this run.
    #[must_use]
    pub const fn quality(&self) -> Quality {
        self.quality
    }

    /// What is to be kept over a restart. A delay that runs is not: it begins again.
    #[must_use]
    pub fn save(&self, wall: Option<Timestamp>, now: Instant) -> SavedAlarm {
        let until_ms = |until: Instant| {
            let left = until.saturating_duration_since(now).as_millis();
            wall?.millis().checked_add(u64::try_from(left).ok()?)
        };
        SavedAlarm {
            of: String::new(),
            phase: self.phase,
            since_ms: self.since.map(Timestamp::millis),
            at_ms: wall.map(Timestamp::millis),
            shelved_until_ms: self.shelved_until.and_then(until_ms),
            is_shelved: self.shelved_until.is_some(),
        }
    }

    fn is_out_of_service(&self) -> bool {
        self.quality == Quality::BadOutOfService
    }

    /// From when on the silence is too long; `None` where none is tested for.
    fn silent_from(&self) -> Option<Instant> {
        match self.rule.test {
            Test::Silent(longest) => self.heard_at.checked_add(longest),
            Test::Above { .. } | Test::Below { .. } | Test::Equals(_) | Test::Holds | Test::Rate { .. } => {
                None
            }
        }
    }

    /// A sample where silence is tested for: only a good value ends it. What is out of service is not waited for.
    fn hear(&mut self, sample: &Sample<'_>) {
        let was_out = self.is_out_of_service();
        let is_out = sample.quality == Quality::BadOutOfService;
        let is_good = sample.quality.is_good() && sample.value.is_some();
        if is_good || was_out {
            self.heard_at = self.seen;
            self.has_heard = is_good;
        }
        if is_out {
            self.quality = Quality::BadOutOfService;
            self.contrary_since = None;
        } else if was_out {
            self.quality = Quality::UncertainInitial;
        }
    }

    /// Whether the silence is too long by now, where it is tested for.
    fn listen(&mut self) {
        if !matches!(self.rule.test, Test::Silent(_)) || self.is_out_of_service() {
            return;
        }
        let (holds, since) = match self.silent_from() {
            Some(from) if from <= self.seen => (Some(true), from),
            Some(_) | None => (self.has_heard.then_some(false), self.heard_at),
        };
        self.quality = if holds.is_some() { Quality::Good } else { Quality::UncertainInitial };
        self.weigh(holds, since);
    }

    /// The condition holds, does not, or is not known, since a moment.
    fn weigh(&mut self, holds: Option<bool>, since: Instant) {
        let is_contrary = holds.is_some_and(|holds| holds != self.phase.is_raised());
        self.contrary_since = is_contrary.then(|| self.contrary_since.unwrap_or(since));
    }

    /// Raises or clears it, where the condition has been the contrary for long enough.
    fn settle(&mut self, wall: Option<Timestamp>) {
        let delay = if self.phase.is_raised() { self.rule.clear_delay } else { self.rule.delay };
        let contrary_for = self.contrary_since.map(|since| self.seen.saturating_duration_since(since));
        if contrary_for.is_none_or(|time| time < delay) {
            return;
        }
        self.contrary_since = None;
        let is_silent = self.shelved_until.is_some();
        if self.phase.is_raised() {
            self.phase = self.phase.cleared(self.rule.latch);
            if !is_silent {
                self.tell(EventKind::Cleared, wall, None);
            }
            self.forget_if_normal();
        } else {
            self.phase = self.phase.raised();
            self.since = wall;
            if !is_silent {
                self.tell(EventKind::Raised, wall, None);
            }
        }
    }

    fn forget_if_normal(&mut self) {
        if !self.is_active() {
            self.since = None;
        }
    }

    fn tell(&mut self, kind: EventKind, at: Option<Timestamp>, by: Option<Arc<str>>) {
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(Event {
            kind,
            state: self.state(),
            is_active: self.is_active(),
            severity: self.rule.severity,
            at,
            since: self.since,
            value: self.value.clone(),
            by,
        });
    }
}

/// The name of somebody; `None` where it is empty.
fn named(who: &str) -> Result<Option<Arc<str>>, Refusal> {
    if who.len() > WHO_MAX {
        return Err(Refusal::NameTooLong { max: WHO_MAX });
    }
    Ok((!who.is_empty()).then(|| Arc::from(who)))
}

#[cfg(test)]
mod tests;
