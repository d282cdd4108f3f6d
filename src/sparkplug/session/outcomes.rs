//! What somebody wants written, and what became of it, in the words of Sparkplug.

use std::collections::{BTreeMap, VecDeque};

use serde_json::json;

use super::node::text;
use super::waiting::Message;
use super::{Session, first_outcome_alias};
use crate::config::site::Device;
use crate::outbox::Lane;
use crate::reading::{Timestamp, Value};
use crate::sparkplug::command::{self, Origin};
use crate::sparkplug::proto::payload::Metric;
use crate::tag::DeviceId;
use crate::write::{Outcome, Requester, WriteRequest};

/// What became of the last command to a device, in its birth and data.
const OF_DEVICE: &str = "Device Control/Outcome";
/// What became of the last command to a device that is not born, is not there, or takes none.
const OF_NODE: &str = "Node Control/Outcome";

/// What is said in place of a reason that would tell a tag which may not leave by this uplink.
const HIDDEN: &str = "for a reason that may not be told here: it stands in audit.log";

/// Outcomes that wait for a connection, or for the births that come before them; of more the oldest are not told.
const UNSENT_MAX: usize = 64;

/// What became of the last commands.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    of_node: Option<Told>,
    of_devices: BTreeMap<DeviceId, Told>,
    /// The time that an outcome was told with last, or that a birth had: the next one is later.
    latest: Timestamp,
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
    pub(super) fn take_back(&mut self, message: Message) {
        if message.tells_outcome {
            let device = message.device;
            message.payload.metrics.into_iter().for_each(|metric| self.keep(device, metric));
        }
    }

    /// Births are told at this time.
    pub(super) fn handle_births(&mut self, now: Timestamp) {
        self.latest = self.latest.max(now);
    }

    /// A text with a time of its own; `None` where `last` says the same: nothing is news twice.
    fn told(&mut self, last: Option<&Told>, text: String, at: Timestamp) -> Option<Told> {
        if last.is_some_and(|last| last.text == text) {
            return None;
        }
        self.latest = at.max(Timestamp::from_millis(self.latest.millis() + 1));
        Some(Told { text, at: self.latest })
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
            shared: &self.shared,
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

    /// What became of a request, of this uplink or another: told of the device, or of the node where that cannot be. Of a
    /// tag that may not leave by this uplink nothing is told, nor of what others have asked for that is no tag.
    pub fn handle_outcome(&mut self, outcome: &Outcome, now: Timestamp) {
        let is_ours = outcome.by == Requester::Uplink(self.uplink.clone());
        if outcome.tag_id.map_or(!is_ours, |tag| !self.shared.has_tag(tag)) {
            return;
        }
        let hidden = outcome.about.iter().any(|tag| !self.shared.has_tag(*tag));
        let reason = if hidden { HIDDEN.to_owned() } else { outcome.reason.clone() };
        let outcome = &Outcome { reason, ..outcome.clone() };
        let site = self.site.clone();
        let named = site.devices.iter().find(|device| *device.name == *outcome.device);
        let takes = named.filter(|device| self.takes_commands(device)).map(|device| device.id);
        if let Some(id) = takes {
            let last = self.outcomes.of_devices.get(&id).cloned();
            let Some(told) = self.outcomes.told(last.as_ref(), of_device(outcome), outcome.at) else {
                return;
            };
            self.outcomes.of_devices.insert(id, told);
            if self.is_device_up(id) {
                if let Some(metric) = self.device_outcome(id, now) {
                    self.tell(Some(id), metric);
                }
                return;
            }
        }
        let last = self.outcomes.of_node.clone();
        let Some(told) = self.outcomes.told(last.as_ref(), of_node(outcome), outcome.at) else { return };
        self.outcomes.of_node = Some(told);
        let metric = self.node_outcome(now);
        self.tell(None, metric);
    }

    /// Tells it now, or after the next births.
    fn tell(&mut self, device: Option<DeviceId>, metric: Metric) {
        let metric = Metric {
            name: metric.name.filter(|_| metric.alias.is_none()),
            datatype: metric.datatype.filter(|_| self.form.datatype_in_data),
            ..metric
        };
        if self.live.is_some() && !self.outbox.is_overfull() {
            self.outbox.push(Lane::Now, Message::outcome(device, metric));
        } else {
            self.outcomes.keep(device, metric);
        }
    }

    /// Births have just been queued: they tell the last outcome of each; where there were more, all follow in order.
    pub(super) fn tell_unsent(&mut self) {
        let unsent = std::mem::take(&mut self.outcomes.unsent);
        let count = |device| unsent.iter().filter(|(of, _)| *of == device).count();
        for (device, metric) in &unsent {
            let is_born = device.is_none_or(|device| self.is_device_up(device));
            if !is_born {
                self.outcomes.keep(*device, metric.clone()); // it is told when it is
            } else if count(*device) > 1 {
                self.tell(*device, Metric { is_historical: Some(true), ..metric.clone() }); // the births told the last
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
        let alias = self.form.aliases.then(|| first_outcome_alias(&self.site) + u64::from(id.0));
        self.takes_commands(device).then(|| Metric { alias, ..metric(OF_DEVICE, told, now) })
    }

    /// Whether anything of the device may be written by way of this uplink.
    fn takes_commands(&self, device: &Device) -> bool {
        let mut tags = self.site.tags_of(device).iter();
        self.site.commands.enabled && tags.any(|tag| tag.takes_commands() && self.shared.has_tag(tag.id))
    }
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
