//! One alarm as it runs: what it watches is handed in, what happens to it is told. Pure.

use std::time::{Duration, Instant};

use super::state::Phase;
use super::{Alarm, Event, Refusal, Sample, SavedAlarm};
use crate::config::site::{AlarmStep, Test};
use crate::expression::{Inputs as _, Memory};
use crate::normalize::Now;
use crate::normalize::computed::{Told, View};
use crate::reading::{Quality, Value};
use crate::tag::TagId;

/// One alarm, and how far what it watches has been taken in.
#[derive(Debug)]
pub struct Run {
    /// `None`: nothing has been asked yet.
    alarm: Option<Alarm>,
    /// From an earlier run, until the first question.
    saved: Option<SavedAlarm>,
    /// Of a whole condition.
    memory: Memory,
    /// The sample, and that of the limit, that was judged last.
    judged: Option<(u64, Quality, Option<u64>)>,
    /// Its state, and whether it was shelved, when that was asked last.
    turned: (Phase, bool),
}

/// What somebody does with an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Knows of it.
    Acknowledge,
    /// Puts it aside for this time.
    Shelve(Duration),
    /// Takes it back.
    Unshelve,
}

impl Run {
    /// An alarm of which nothing is known yet.
    #[must_use]
    pub fn new(step: &AlarmStep) -> Run {
        Run {
            alarm: None,
            saved: None,
            memory: Memory::new(&step.when),
            judged: None,
            turned: (Phase::Normal, false),
        }
    }

    /// Goes on from what an earlier run has kept; before anything is asked. Where that was of something else, neither its
    /// state nor its shelving is this one's.
    pub fn restore(&mut self, step: &AlarmStep, saved: &SavedAlarm) {
        let saved = if saved.of == step.of { saved.clone() } else { saved.forgotten() };
        self.turned = (saved.phase, saved.is_shelved);
        self.saved = Some(saved);
    }

    /// What is to be kept.
    #[must_use]
    pub fn saved(&self, step: &AlarmStep, now: Now) -> Option<SavedAlarm> {
        let saved = self.alarm.as_ref().map(|alarm| alarm.save(now.wall(), now.at));
        let saved = saved.or_else(|| self.saved.clone())?;
        Some(SavedAlarm { of: step.of.clone(), ..saved })
    }

    /// Whether it is in another state, or shelved or not any more, since this was asked last: what is kept of it differs.
    pub fn take_turn(&mut self) -> bool {
        let saved = self.saved.as_ref().map(|saved| (saved.phase, saved.is_shelved));
        let alarm = self.alarm.as_ref().map(|alarm| (alarm.phase, alarm.shelved_until.is_some()));
        let state = alarm.or(saved).unwrap_or_default();
        std::mem::replace(&mut self.turned, state) != state
    }

    fn alarm(&mut self, step: &AlarmStep, now: Now) -> &mut Alarm {
        let saved = &mut self.saved;
        self.alarm.get_or_insert_with(|| Alarm::new(step.rule.clone(), saved.take(), now.wall(), now.at))
    }

    /// Takes in what is known now; when it is to be asked again although nothing is new. Its events wait.
    pub fn handle(&mut self, step: &AlarmStep, view: &View<'_>, now: Now) -> Option<Instant> {
        let due = match step.rule.test {
            Test::Holds => {
                let evaluated = step.when.evaluate(view, &mut self.memory, now.at);
                let sample =
                    Sample { value: evaluated.value.as_ref(), quality: evaluated.quality, limit: None };
                self.alarm(step, now).handle(sample, now.wall(), now.at);
                evaluated.due
            }
            Test::Above { .. }
            | Test::Below { .. }
            | Test::Equals(_)
            | Test::Rate { .. }
            | Test::Silent(_) => {
                self.take(step, view, now);
                None
            }
        };
        let next = self.alarm(step, now).next_due();
        due.into_iter().chain(next).min()
    }

    /// A sample is judged once: not again because time has passed.
    fn take(&mut self, step: &AlarmStep, view: &View<'_>, now: Now) {
        let Some(watched) = step.when.is_tag() else { return };
        let sample = view.sample(watched);
        let limit = step.limit.map(|limit| view.sample(limit));
        let seen = (sample.serial, sample.quality, limit.map(|limit| limit.serial));
        let is_new = sample.serial > 0 && self.judged != Some(seen);
        let alarm = self.alarm(step, now);
        if is_new {
            let limit = limit.filter(|limit| !limit.quality.is_bad()).and_then(|limit| limit.value);
            let limit = limit.and_then(Value::number);
            let sample = Sample { value: sample.value, quality: sample.quality, limit };
            alarm.handle(sample, now.wall(), now.at);
            self.judged = Some(seen);
        } else {
            alarm.handle_time(now.wall(), now.at);
        }
    }

    /// Somebody does something with it.
    ///
    /// # Errors
    /// Why not.
    pub fn act(&mut self, step: &AlarmStep, act: Act, who: &str, now: Now) -> Result<(), Refusal> {
        let alarm = self.alarm(step, now);
        match act {
            Act::Acknowledge => alarm.acknowledge(who, now.wall(), now.at),
            Act::Shelve(time) => alarm.shelve(time, who, now.wall(), now.at),
            Act::Unshelve => alarm.unshelve(who, now.wall(), now.at),
        }
    }

    /// Whether somebody could do something with it. Nothing is done.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, act: Act, who: &str) -> Result<(), Refusal> {
        self.alarm.as_ref().map_or(Ok(()), |alarm| alarm.check(act, who))
    }

    /// An event; to be taken after each call, until there is none.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.alarm.as_mut()?.poll_event()
    }

    /// Whether it is active, as its tag tells it: not known where what it watches is not.
    #[must_use]
    pub fn told(&self, tag: TagId, now: Now) -> Option<Told> {
        let alarm = self.alarm.as_ref()?;
        let quality = alarm.quality();
        let value = if quality.is_bad() { Err(quality) } else { Ok(Value::Bool(alarm.is_active())) };
        Some(Told { tag, value, doubt: quality, at: now.stamp })
    }
}

#[cfg(test)]
mod tests;
