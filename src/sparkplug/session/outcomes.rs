//! What somebody wants written, and what became of it, in the words of Sparkplug.

use std::collections::BTreeMap;

use serde_json::json;

use super::node::text;
use super::waiting::{Waiting, push_metric};
use super::{Session, Verb};
use crate::config::site::{Device, Site};
use crate::reading::{Timestamp, Value};
use crate::sparkplug::command::{self, Origin};
use crate::sparkplug::proto::Payload;
use crate::sparkplug::proto::payload::Metric;
use crate::tag::DeviceId;
use crate::write::{Outcome, WriteRequest};

/// What became of the last command to a device, in its birth and data.
const OF_DEVICE: &str = "Device Control/Outcome";
/// What became of the last command to a device that is not born, is not there, or takes none.
const OF_NODE: &str = "Node Control/Outcome";

/// What became of the last commands.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    of_node: Option<Told>,
    of_devices: BTreeMap<DeviceId, Told>,
}

#[derive(Clone, Debug)]
struct Told {
    text: String,
    at: Timestamp,
}

impl Session {
    /// What a message that the broker delivered wants written: nothing where it is no command to a device. A command
    /// that is none is refused here.
    pub fn write_requests(
        &mut self,
        topic: &str,
        payload: &[u8],
        is_retained: bool,
        now: Timestamp,
    ) -> Vec<WriteRequest> {
        let Some(device) = self.node.commanded_device(topic) else { return Vec::new() };
        let origin = Origin {
            site: &self.site,
            form: self.form,
            uplink: &self.uplink,
            session_since: self.live.as_ref().map_or(now, |live| live.since),
            received_at: now,
            is_retained,
        };
        match command::write_requests(origin, topic, device, payload) {
            Ok(requests) => requests,
            Err(refused) => {
                self.handle_outcome(&refused, now);
                Vec::new()
            }
        }
    }

    /// What became of a request, of this uplink or another: told of the device, or of the node where that cannot be.
    pub fn handle_outcome(&mut self, outcome: &Outcome, now: Timestamp) {
        let site = self.site.clone();
        let named = site.devices.iter().find(|device| *device.name == *outcome.device);
        let told = |text: String| Told { text, at: outcome.at };
        let takes = named.filter(|device| takes_commands(&site, device)).map(|device| device.id);
        if let Some(id) = takes {
            self.outcomes.of_devices.insert(id, told(of_device(outcome)));
            if self.is_device_up(id) {
                if self.live.is_some() {
                    let metric = self.device_outcome(id, now);
                    self.waiting_readings += 1; // as a reading, for what waits is bounded
                    metric.into_iter().for_each(|metric| push_metric(&mut self.waiting, id, metric));
                }
                return;
            }
        }
        self.outcomes.of_node = Some(told(of_node(outcome)));
        if self.live.is_some() {
            let payload = Payload { metrics: vec![self.node_outcome(now)], ..Payload::default() };
            self.wait(Some(Waiting::of_node(Verb::NodeData, payload)));
        }
    }

    /// The metric of the node's birth.
    pub(super) fn node_outcome(&self, now: Timestamp) -> Metric {
        metric(OF_NODE, self.outcomes.of_node.as_ref(), now)
    }

    /// The metric of a device's birth; `None` for a device that takes no commands.
    pub(super) fn device_outcome(&self, id: DeviceId, now: Timestamp) -> Option<Metric> {
        let device = self.site.devices.get(id.index())?;
        let told = self.outcomes.of_devices.get(&id);
        takes_commands(&self.site, device).then(|| metric(OF_DEVICE, told, now))
    }
}

/// Whether anything of the device may be written.
fn takes_commands(site: &Site, device: &Device) -> bool {
    site.commands.enabled && site.tags_of(device).iter().any(|tag| tag.write.is_some())
}

fn metric(name: &str, told: Option<&Told>, now: Timestamp) -> Metric {
    match told {
        Some(told) => text(name, &told.text, told.at),
        None => Metric { value: None, is_null: Some(true), ..text(name, "", now) },
    }
}

fn of_device(outcome: &Outcome) -> String {
    let value = outcome.value.as_ref().map(Value::json);
    let Outcome { id, tag, reason, .. } = outcome;
    json!({ "id": id, "tag": tag, "value": value, "result": outcome.result.word(), "reason": reason })
        .to_string()
}

fn of_node(outcome: &Outcome) -> String {
    let value = outcome.value.as_ref().map(Value::json);
    let Outcome { id, device, tag, reason, .. } = outcome;
    json!({ "id": id, "device": device, "tag": tag, "value": value, "result": outcome.result.word(), "reason": reason })
        .to_string()
}
