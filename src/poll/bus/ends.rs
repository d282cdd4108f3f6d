//! What comes of a request: what is said of its tags, and what the device's health makes of it. Pure.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use super::{Bus, Now, Reach};
use crate::driver::{Answer, Fault};
use crate::poll::health::Action;
use crate::poll::lane::{Order, OrderError};
use crate::poll::learned::Refusal;
use crate::poll::outcome::Outcome;
use crate::poll::station::Ask;
use crate::reading::Quality;
use crate::scan::{Data, Part, Polled, Scan};

/// So often a device may be busy before its tags are bad.
const BUSY_MAX: u8 = 5;
/// The most of a line's time that is spent on devices that do not answer, as long as there are others on it.
const PROBES_SHARE_MAX: f64 = 0.15;

impl Bus {
    pub(super) fn ordered(&mut self, index: usize, order: Order, result: Result<Answer, Fault>) {
        let Some(station) = self.stations.get_mut(index) else { return };
        station.asked = station.asked.saturating_sub(1);
        let unclear = OrderError::Unclear(station.device.timeout);
        order.outcome.send(result.map_err(|_| unclear)).ok(); // whoever asked may be gone
    }

    pub(super) fn ended(&mut self, index: usize, mut ask: Ask, outcome: Outcome, now: Now) {
        let Some(station) = self.stations.get_mut(index) else { return };
        let is_first = std::mem::take(&mut station.is_fresh);
        match outcome {
            Outcome::Data(data) => self.answered(index, &ask, Ok(data), now),
            Outcome::Bad(quality) => self.answered(index, &ask, Err(quality), now),
            Outcome::Refused(why) => self.refused(index, &ask, why, now),
            Outcome::Busy(wait) if ask.busy < BUSY_MAX && station.is_sweeping(&ask) => {
                ask.busy += 1;
                station.not_before = Some(now.at + wait);
                station.give_back(ask);
            }
            Outcome::Busy(_) => self.answered(index, &ask, Err(Quality::BadCommLastValueKnown), now),
            Outcome::Unheard(_) | Outcome::Garbled if station.may_repeat(&ask, is_first) => {
                ask.attempts += 1;
                debug!(device = %station.device.name, block = %ask.block.span, "asked again");
                station.give_back(ask);
            }
            Outcome::Garbled => self.answered(index, &ask, Err(Quality::BadDecode), now),
            Outcome::Unheard(quality) | Outcome::Missed(quality) => self.missed(index, &ask, quality, now),
        }
    }

    fn answered(&mut self, index: usize, ask: &Ask, result: Result<Data, Quality>, now: Now) {
        let Some(station) = self.stations.get_mut(index) else { return };
        if result.is_ok() {
            station.learned.answered(ask.block.span);
            if station.note_answer(ask) {
                warn!(
                    device = %station.device.name,
                    "it often answers only when it is asked again: it may need a silence before each request; try quirks = {{ gap = \"20ms\" }}"
                );
            }
        }
        let action = station.health.handle_answer(ask.block.span);
        if ask.is_step() {
            // what was busy or garbled says nothing of models: the next sweep asks again
            match &result {
                Ok(Data::Words(words)) => self.walked(index, ask, Some(words), now),
                Err(Quality::BadCommLastValueKnown | Quality::BadDecode) => {}
                Ok(Data::Bits(_) | Data::Values(_)) | Err(_) => self.walked(index, ask, None, now),
            }
            self.act(index, action, now);
            return self.end(index, ask, now);
        }
        if let (Ok(_), Some(counters)) = (&result, self.counters.get(index)) {
            counters.readings.add(ask.block.parts.len() as u64);
        }
        self.say_scan(ask.block.parts.clone(), result, now);
        self.act(index, action, now);
        self.end(index, ask, now);
    }

    /// Part of the block is not there: it is read in halves from now on; a single value is bad by itself.
    fn refused(&mut self, index: usize, ask: &Ask, why: Refusal, now: Now) {
        let Some(station) = self.stations.get_mut(index) else { return };
        if ask.is_step() {
            if why != Refusal::Silence {
                let action = station.health.handle_answer(ask.block.span);
                self.act(index, action, now);
            }
            self.walked(index, ask, None, now);
            return self.end(index, ask, now);
        }
        let is_halved = station.refused(ask, why, now.wall);
        info!(device = %station.device.name, block = %ask.block.span, ?why, is_halved, "refused");
        if why != Refusal::Silence {
            let action = station.health.handle_answer(ask.block.span);
            self.act(index, action, now);
            if !is_halved {
                self.say_scan(ask.block.parts.clone(), Err(Quality::BadConfig), now);
            }
        } else if !is_halved {
            station.hush(ask.block.span, now.at);
        }
        self.end(index, ask, now);
    }

    /// A step of the walk over a device's models is done; what it does not have is bad.
    fn walked(&mut self, index: usize, ask: &Ask, words: Option<&[u16]>, now: Now) {
        let Some(station) = self.stations.get_mut(index) else { return };
        let Some(missing) = station.walked(ask, words, now.at) else { return };
        // what was due before its place was known has not been read
        station.groups.iter().for_each(|group| self.schedule.hasten(group.slot, now.at));
        if !missing.is_empty() {
            warn!(device = %station.device.name, tags = missing.len(), "it has not all of the SunSpec models that its type names");
            self.say_scan(missing.into(), Err(Quality::BadConfig), now);
        }
    }

    fn missed(&mut self, index: usize, ask: &Ask, quality: Quality, now: Now) {
        let Some(station) = self.stations.get_mut(index) else { return };
        if !station.is_wanted(ask) {
            return self.end(index, ask, now);
        }
        let action = station.health.handle_miss(ask.block.span);
        if action == Action::Isolate {
            if !ask.is_step() {
                self.say_scan(ask.block.parts.clone(), Err(quality), now);
            }
            return self.refused(index, ask, Refusal::Silence, now);
        }
        self.say_away(index, quality, now);
        self.end(index, ask, now);
        self.act(index, action, now);
    }

    /// The request is over, and perhaps its sweep.
    fn end(&mut self, index: usize, ask: &Ask, now: Now) {
        if let Some(swept) = self.stations.get_mut(index).and_then(|station| station.ended(ask, now.at)) {
            self.swept(index, &swept, now);
        }
    }

    pub(super) fn act(&mut self, index: usize, action: Action, now: Now) {
        let Some(station) = self.stations.get(index) else { return };
        let device = station.device.id;
        match action {
            Action::Carry | Action::Isolate => {}
            Action::Announce => {
                info!(device = %station.device.name, "device online");
                self.said.push_back(Polled::DeviceUp(device));
            }
            Action::Resume => {
                for group in &station.groups {
                    self.schedule.wake(group.slot, now.at);
                }
            }
            Action::Suspend => self.suspend(index, now.at),
            Action::Withdraw => {
                warn!(device = %station.device.name, "device offline");
                self.suspend(index, now.at);
                self.said.push_back(Polled::DeviceDown(device, now.stamp));
            }
        }
    }

    /// Nothing of the device goes on but a probe.
    fn suspend(&mut self, index: usize, now: Instant) {
        let gone = self.stations.iter().filter(|station| station.health.is_gone());
        let cost: Duration = gone.map(|station| station.device.timeout).sum();
        let is_alone = self.stations.len() == 1;
        let Some(station) = self.stations.get_mut(index) else { return };
        station.give_up();
        for group in &station.groups {
            self.schedule.park(group.slot);
        }
        let mut wait = station.health.probe_wait(station.every());
        if station.health.is_gone() && !is_alone {
            wait = wait.max(cost.mul_f64(1.0 / PROBES_SHARE_MAX));
        }
        // behind a stream that is down nothing more can be learned of a device that is gone
        let is_worth_it = self.reach != Reach::Down || !station.health.is_gone();
        station.probe_at = (is_worth_it && station.is_asked()).then(|| now + wait);
    }

    /// No tag of the device has a value.
    pub(super) fn say_away(&mut self, index: usize, quality: Quality, now: Now) {
        let Some(station) = self.stations.get_mut(index) else { return };
        station.restart_walk(true);
        let all = station.all.clone();
        self.said.push_back(Polled::Away(station.device.id));
        self.say_scan(all, Err(quality), now);
    }

    pub(super) fn say_scan(&mut self, parts: Arc<[Part]>, result: Result<Data, Quality>, now: Now) {
        let parts = if matches!(result, Ok(Data::Values(_))) { numbered(&parts) } else { parts };
        self.said.push_back(Polled::Scan(Scan { parts, result, at: now.stamp }));
    }
}

/// The same tags, where their values come one by one.
fn numbered(parts: &[Part]) -> Arc<[Part]> {
    (0..).zip(parts).map(|(offset, part)| Part { offset, ..*part }).collect()
}
