//! What somebody wants written, and what became of it, in the words of Sparkplug.

use std::collections::{BTreeMap, VecDeque};

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

/// Outcomes that wait for a connection, or for the births that come before them; of more the oldest are not told.
const UNSENT_MAX: usize = 64;

/// What became of the last commands.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    of_node: Option<Told>,
    of_devices: BTreeMap<DeviceId, Told>,
    /// What no message has carried yet; `None` is of the node.
    unsent: VecDeque<(Option<DeviceId>, Metric)>,
}

#[derive(Clone, Debug)]
struct Told {
    text: String,
    at: Timestamp,
}

impl Outcomes {
    /// A message is not sent: what it tells of commands is told after the births that follow.
    pub(super) fn take_back(&mut self, waiting: Waiting) {
        let is_outcome =
            |metric: &Metric| metric.name.as_deref().is_some_and(|name| [OF_DEVICE, OF_NODE].contains(&name));
        if matches!(waiting.verb, Verb::DeviceData | Verb::NodeData) {
            for metric in waiting.payload.metrics.into_iter().filter(is_outcome) {
                self.keep(waiting.device, metric);
            }
        }
    }

    fn keep(&mut self, device: Option<DeviceId>, metric: Metric) {
        if self.unsent.len() >= UNSENT_MAX {
            self.unsent.pop_front();
        }
        self.unsent.push_back((device, metric));
    }
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
                if let Some(metric) = self.device_outcome(id, now) {
                    self.tell(Some(id), metric);
                }
                return;
            }
        }
        self.outcomes.of_node = Some(told(of_node(outcome)));
        let metric = self.node_outcome(now);
        self.tell(None, metric);
    }

    /// Tells it now, or after the next births.
    fn tell(&mut self, device: Option<DeviceId>, metric: Metric) {
        match device {
            _ if self.live.is_none() => self.outcomes.keep(device, metric),
            Some(device) => {
                self.waiting_readings += 1; // as a reading, for what waits is bounded
                push_metric(&mut self.waiting, device, metric);
            }
            None => {
                let payload = Payload { metrics: vec![metric], ..Payload::default() };
                self.wait(Some(Waiting::of_node(Verb::NodeData, payload)));
            }
        }
    }

    /// Births have just been queued: they tell the last outcome of each; where there were more, all follow in order.
    pub(super) fn tell_unsent(&mut self) {
        let unsent = std::mem::take(&mut self.outcomes.unsent);
        let count = |device| unsent.iter().filter(|(of, _)| *of == device).count();
        for (device, metric) in &unsent {
            let is_born = device.is_none_or(|device| self.is_device_up(device));
            if is_born && count(*device) > 1 {
                self.tell(*device, metric.clone());
            }
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
