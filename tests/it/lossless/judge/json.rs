//! The judge's eye for JSON: `e/n/d0/t3` has a reading, `e/n/d0` those of a device, `…/status` says who is there.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{How, Judge, Last, Seen, Session, number};
use crate::lossless::{ENTERPRISE, NODE, Tag};

impl Judge {
    pub(super) fn handle_json(&mut self, topic: &str, payload: &[u8], at_ms: u64) {
        let message: Value = match serde_json::from_slice(payload) {
            Ok(message) => message,
            Err(error) => return self.protocol.add(|| format!("{topic}: {error}")),
        };
        let levels: Vec<&str> = topic.split('/').collect();
        let [ENTERPRISE, NODE, levels @ ..] = levels.as_slice() else {
            return self.protocol.add(|| format!("a message on {topic}"));
        };
        let how = if message["historical"] == true { How::History } else { How::Live };
        if *levels != ["status"] && self.session.is_none() {
            self.protocol.add(|| format!("{topic} before the gateway has said that it is there"));
        }
        let device = levels.first().and_then(|name| number("d", name));
        match (levels, device.filter(|device| *device < self.size.devices)) {
            (["status"], _) => self.handle_gateway_status(&message),
            ([_, "status"], Some(device)) => self.handle_device_status(device, &message),
            ([_], Some(device)) => {
                let tags = message["tags"].as_object().into_iter().flatten();
                tags.for_each(|(name, reading)| self.handle_json_reading(device, name, reading, how, at_ms));
            }
            ([_, name], Some(device)) => self.handle_json_reading(device, name, &message, how, at_ms),
            _ => self.protocol.add(|| format!("a message on {topic}")),
        }
    }

    fn handle_gateway_status(&mut self, message: &Value) {
        let number = message["session"].as_u64();
        let is_known = self.session.as_ref().is_some_and(|session| session.bd_seq == number);
        match (message["online"] == true, is_known) {
            (true, false) => {
                self.last.fill(Last::default());
                self.session = Some(Session { bd_seq: number, next_seq: 0, devices: BTreeSet::new() });
            }
            (false, true) => self.session = None,
            (true, true) | (false, false) => {} // news of the same session; the late will of another
        }
        self.lost_said = self.lost_said.max(message["readings_lost"].as_u64().unwrap_or_default());
    }

    fn handle_device_status(&mut self, device: u8, message: &Value) {
        let Some(session) = &mut self.session else { return };
        if message["online"] == true {
            session.devices.insert(device);
        } else {
            session.devices.remove(&device);
        }
    }

    fn handle_json_reading(&mut self, device: u8, name: &str, reading: &Value, how: How, at_ms: u64) {
        let Some(index) = number("t", name).filter(|index| *index < self.size.tags) else {
            return self.protocol.add(|| format!("d{device} has a tag \"{name}\""));
        };
        if reading["quality"] != "good" {
            self.bad += 1;
            return;
        }
        let tag = Tag { device, index };
        let value = reading["value"].as_u64().and_then(|value| u32::try_from(value).ok());
        let since_epoch = |at: std::time::SystemTime| at.duration_since(std::time::UNIX_EPOCH).ok();
        let at = reading["timestamp"].as_str().and_then(|at| humantime::parse_rfc3339(at).ok());
        match (value, at.and_then(since_epoch)) {
            (Some(value), Some(at)) => {
                let source_ms = u64::try_from(at.as_millis()).unwrap();
                self.handle_value(Seen { tag, value, source_ms, arrived_ms: at_ms, how });
            }
            _ => self.protocol.add(|| format!("{tag:?} without a value or a time: {reading}")),
        }
    }
}
