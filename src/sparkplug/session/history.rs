//! What was missed, behind all that is new: as it was, with its own time, marked so.

use std::collections::BTreeMap;

use super::Session;
use super::waiting::{Message, push_data};
use crate::outbox::{Lane, Unsent, Waiting};
use crate::position::{Position, Positions};
use crate::reading::{Reading, Timestamp};
use crate::tag::DeviceId;

impl Session {
    /// Readings that are sent late or again, in order. They follow all that waits; a device that does not answer is born
    /// for as long as its history takes, with its qualities as they are.
    pub fn handle_history(&mut self, readings: Vec<(Position, Reading)>, now: Timestamp) -> Unsent {
        let mut unsent = Unsent::default();
        let mut of_devices: BTreeMap<DeviceId, Vec<(Position, Reading)>> = BTreeMap::new();
        for (position, reading) in readings {
            if !self.shared.has_tag(reading.tag) {
                unsent.idle.insert(position..position.after(1));
            } else if let Some(tag) = self.site.tags.get(reading.tag.index()) {
                of_devices.entry(tag.device).or_default().push((position, reading));
            }
        }
        for (device, readings) in of_devices {
            if !self.bear_for_history(device, &readings, now) {
                readings.iter().for_each(|(position, _)| unsent.idle.insert(*position..position.after(1)));
                continue;
            }
            for (position, reading) in readings {
                if !self.push_history(device, position, &reading) {
                    unsent.unfit.insert(position..position.after(1));
                }
            }
        }
        unsent
    }

    /// Whether a device is born, or was now because there is something to tell of it.
    fn bear_for_history(
        &mut self,
        device: DeviceId,
        readings: &[(Position, Reading)],
        now: Timestamp,
    ) -> bool {
        if self.is_device_up(device) || self.born_for_history.contains(&device) {
            return true;
        }
        if readings.iter().all(|(_, reading)| reading.quality.is_bad()) {
            return false;
        }
        self.born_for_history.insert(device);
        if let Some(birth) = self.device_birth(device, now) {
            self.outbox.push(Lane::History, birth);
        }
        true
    }

    /// False where the reading does not fit the tag any more.
    fn push_history(&mut self, device: DeviceId, position: Position, reading: &Reading) -> bool {
        let Some(tag) = self.site.tags.get(reading.tag.index()) else { return false };
        let Some(at) = reading.at.wall(self.booted_at) else { return false };
        let mut metric = self.form.data_metric(tag, reading, at, !reading.quality.is_good());
        if metric.value.is_none() && reading.value.is_some() {
            return false;
        }
        metric.is_historical = Some(true);
        push_data(&mut self.outbox, Lane::History, device, position, metric);
        true
    }

    /// How many messages of history wait.
    #[must_use]
    pub fn history_waiting(&self) -> usize {
        self.outbox.history_waiting()
    }

    /// There is no more history than what waits: when that is sent, devices that were born for it are gone again.
    pub fn handle_history_end(&mut self, now: Timestamp) {
        if self.outbox.history_waiting() > 0 {
            return;
        }
        for device in std::mem::take(&mut self.born_for_history) {
            self.wait(Some(Waiting::whole(Message::death(device, now), Positions::default()))); // in line with a birth that may follow
        }
    }
}
