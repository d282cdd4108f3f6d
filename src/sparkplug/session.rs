//! The conversation of one edge node with one broker: births, sequence numbers, data, deaths. Pure.
//!
//! The order of calls is the order on the wire: whoever owns the connection takes publications one by one with
//! [`Session::poll_publication`], only when it can hand each to the connection at once, for a sequence number is given
//! at that moment (Sparkplug 3.0.0, 6.4.5). While there is no connection, readings only renew what the next births will
//! say; one that is replaced before any message carried it is counted as lost.

use std::collections::VecDeque;
use std::sync::Arc;

use prost::Message as _;

use super::payload::{Datatype, Form, node_metric};
use super::proto::Payload;
use super::proto::payload::{Metric, metric};
use super::topic::{Node, Verb};
use crate::config::site::{Device, Site, Uplink};
use crate::counters::Counters;
use crate::reading::{Quality, Reading, Timestamp, Update};
use crate::tag::DeviceId;

/// The most metrics in one data message: about 16 KiB with names.
const DATA_METRICS_MAX: usize = 500;
/// The most readings that wait for a connection that takes them too slowly; beyond it the oldest message is dropped,
/// and its readings are counted as lost.
const WAITING_READINGS_MAX: usize = 20_000;

const REBIRTH: &str = "Node Control/Rebirth";
const READINGS_LOST: &str = "Gateway/readings_lost";

/// A message for the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Where to.
    pub topic: String,
    /// The encoded payload.
    pub payload: Vec<u8>,
    /// How many readings it carries that are lost if it is.
    pub readings: usize,
}

/// One edge node's side of the conversation.
#[derive(Debug)]
pub struct Session {
    site: Arc<Site>,
    node: Node,
    form: Form,
    counters: Arc<Counters>,
    tags: Vec<Last>,
    /// Which devices answer.
    is_up: Vec<bool>,
    /// While there is a connection.
    live: Option<Live>,
    waiting: VecDeque<Waiting>,
    waiting_readings: usize,
}

/// What is known of a tag.
#[derive(Clone, Debug, Default)]
struct Last {
    reading: Option<Reading>,
    /// It is good, and no message has carried it yet.
    is_untold: bool,
    /// The quality that a message carried last.
    told_quality: Option<Quality>,
}

#[derive(Debug)]
struct Live {
    bd_seq: u8,
    next_seq: u8,
}

/// A message without its sequence number and time.
#[derive(Debug)]
struct Waiting {
    verb: Verb,
    device: Option<DeviceId>,
    payload: Payload,
}

impl Waiting {
    fn readings(&self) -> usize {
        if self.verb == Verb::DeviceData { self.payload.metrics.len() } else { 0 }
    }
}

impl Session {
    /// A session that has no connection yet.
    #[must_use]
    pub fn new(site: Arc<Site>, uplink: &Uplink, counters: Arc<Counters>) -> Session {
        let node = Node { group: site.gateway.enterprise.clone(), name: site.gateway.name.clone() };
        let form =
            Form { aliases: uplink.aliases, types: uplink.types, datatype_in_data: uplink.datatype_in_data };
        Session {
            tags: vec![Last::default(); site.tags.len()],
            is_up: vec![false; site.devices.len()],
            site,
            node,
            form,
            counters,
            live: None,
            waiting: VecDeque::new(),
            waiting_readings: 0,
        }
    }

    /// The topic filters to subscribe to before the births.
    #[must_use]
    pub fn command_filters(&self) -> [String; 2] {
        [self.node.node_commands(), self.node.device_commands()]
    }

    /// The death certificate that belongs to `bd_seq`: the will of the connection, and the last message of a clean end.
    /// It has no sequence number (6.4.22).
    #[must_use]
    pub fn death(&self, bd_seq: u8, now: Timestamp) -> Publication {
        let payload = Payload {
            timestamp: Some(now.millis()),
            metrics: vec![bd_seq_metric(bd_seq, now)],
            ..Payload::default()
        };
        let topic = self.node.topic(Verb::NodeDeath, None);
        Publication { topic, payload: payload.encode_to_vec(), readings: 0 }
    }

    /// The broker has taken the connection and the subscriptions: births first.
    pub fn handle_connected(&mut self, bd_seq: u8, now: Timestamp) {
        self.live = Some(Live { bd_seq, next_seq: 0 });
        self.bear(now);
    }

    /// The connection is gone; what waited for it is lost, but for what the next births will say.
    pub fn handle_disconnected(&mut self) {
        self.live = None;
        self.waiting.clear();
        self.counters
            .readings_lost
            .add(u64::try_from(std::mem::take(&mut self.waiting_readings)).unwrap_or(u64::MAX));
    }

    /// What normalising has to tell.
    pub fn handle_update(&mut self, update: Update, now: Timestamp) {
        match update {
            Update::Readings(readings) => readings.iter().for_each(|reading| self.handle_reading(reading)),
            Update::DeviceUp(device, _) => {
                self.set_up(device, true);
                if self.live.is_some() {
                    self.bear_device(device, now);
                }
            }
            Update::DeviceDown(device, at) => {
                self.set_up(device, false);
                if self.live.is_some() {
                    let payload = Payload { timestamp: Some(at.millis()), ..Payload::default() };
                    self.waiting.push_back(Waiting {
                        verb: Verb::DeviceDeath,
                        device: Some(device),
                        payload,
                    });
                }
            }
        }
    }

    /// A message that the broker delivered. A command that asks for a rebirth is obeyed; anything else, garbage
    /// included, is passed over. True if it was obeyed.
    pub fn handle_message(&mut self, topic: &str, payload: &[u8], now: Timestamp) -> bool {
        let is_rebirth = |metric: &Metric| {
            metric.name.as_deref() == Some(REBIRTH) && metric.value == Some(metric::Value::BooleanValue(true))
        };
        let is_asked = topic == self.node.node_commands()
            && Payload::decode(payload).is_ok_and(|payload| payload.metrics.iter().any(is_rebirth));
        let is_under_way = self.waiting.iter().any(|waiting| waiting.verb == Verb::NodeBirth);
        if is_asked && !is_under_way && self.live.is_some() {
            self.bear(now);
        }
        is_asked
    }

    /// The next message, numbered; take it only to send it.
    pub fn poll_publication(&mut self, now: Timestamp) -> Option<Publication> {
        let live = self.live.as_mut()?;
        let mut waiting = self.waiting.pop_front()?;
        let readings = waiting.readings();
        self.waiting_readings = self.waiting_readings.saturating_sub(readings);
        if waiting.verb == Verb::NodeBirth {
            live.next_seq = 0;
        }
        waiting.payload.seq = Some(u64::from(live.next_seq));
        live.next_seq = live.next_seq.wrapping_add(1);
        waiting.payload.timestamp.get_or_insert(now.millis());
        let device = waiting.device.and_then(|device| self.site.devices.get(device.index()));
        let topic = self.node.topic(waiting.verb, device.map(|device| device.name.as_ref()));
        Some(Publication { topic, payload: waiting.payload.encode_to_vec(), readings })
    }

    fn set_up(&mut self, device: DeviceId, is_up: bool) {
        if let Some(known) = self.is_up.get_mut(device.index()) {
            *known = is_up;
        }
    }

    fn handle_reading(&mut self, reading: &Reading) {
        let Some(tag) = self.site.tags.get(reading.tag.index()) else { return };
        let Some(last) = self.tags.get_mut(reading.tag.index()) else { return };
        let is_born = self.live.is_some() && self.is_up.get(tag.device.index()).copied().unwrap_or_default();
        if std::mem::replace(&mut last.is_untold, !is_born && reading.quality.is_good()) {
            self.counters.readings_lost.add(1);
        }
        last.reading = Some(reading.clone());
        if !is_born {
            return;
        }
        let with_quality = !reading.quality.is_good() || last.told_quality != Some(reading.quality);
        last.told_quality = Some(reading.quality);
        let metric = self.form.data_metric(tag, reading, with_quality);
        let device = tag.device;
        self.push_data(device, metric);
    }

    /// Adds a metric to the message that waits last, if that is for the same device and has room.
    fn push_data(&mut self, device: DeviceId, metric: Metric) {
        self.waiting_readings += 1;
        match self.waiting.back_mut() {
            Some(last)
                if last.verb == Verb::DeviceData
                    && last.device == Some(device)
                    && last.payload.metrics.len() < DATA_METRICS_MAX =>
            {
                last.payload.metrics.push(metric);
            }
            _ => {
                let payload = Payload { metrics: vec![metric], ..Payload::default() };
                self.waiting.push_back(Waiting { verb: Verb::DeviceData, device: Some(device), payload });
            }
        }
        if self.waiting_readings > WAITING_READINGS_MAX {
            self.drop_oldest_data();
        }
    }

    fn drop_oldest_data(&mut self) {
        let oldest = self.waiting.iter().position(|waiting| waiting.verb == Verb::DeviceData);
        if let Some(dropped) = oldest.and_then(|index| self.waiting.remove(index)) {
            self.waiting_readings -= dropped.readings();
            self.counters.readings_lost.add(u64::try_from(dropped.readings()).unwrap_or(u64::MAX));
        }
    }

    /// The node's birth and those of all devices that answer.
    fn bear(&mut self, now: Timestamp) {
        let metrics = self.node_metrics(now);
        let payload = Payload { timestamp: Some(now.millis()), metrics, ..Payload::default() };
        self.waiting.push_back(Waiting { verb: Verb::NodeBirth, device: None, payload });
        for device in self.site.clone().devices.iter().map(|device| device.id) {
            if self.is_up.get(device.index()) == Some(&true) {
                self.bear_device(device, now);
            }
        }
    }

    fn node_metrics(&self, now: Timestamp) -> Vec<Metric> {
        let bd_seq = self.live.as_ref().map_or(0, |live| live.bd_seq);
        let text = |name: &str, text: &str| {
            node_metric(name, Datatype::String, metric::Value::StringValue(text.to_owned()), now)
        };
        let lost = metric::Value::LongValue(self.counters.readings_lost.get());
        let mut metrics = vec![
            bd_seq_metric(bd_seq, now),
            node_metric(REBIRTH, Datatype::Boolean, metric::Value::BooleanValue(false), now),
            text("Properties/version", env!("CARGO_PKG_VERSION")),
            node_metric(READINGS_LOST, Datatype::Int64, lost, now),
        ];
        metrics.extend(self.site.gateway.site.as_deref().map(|site| text("Properties/site", site)));
        metrics.extend(self.site.gateway.title.as_deref().map(|title| text("Properties/title", title)));
        metrics
    }

    /// A device's birth: every tag of it, with what is known of it now.
    fn bear_device(&mut self, id: DeviceId, now: Timestamp) {
        let site = self.site.clone();
        let Some(device) = site.devices.get(id.index()) else { return };
        let metrics = self.device_metrics(device, now);
        let payload = Payload { timestamp: Some(now.millis()), metrics, ..Payload::default() };
        self.waiting.push_back(Waiting { verb: Verb::DeviceBirth, device: Some(id), payload });
    }

    fn device_metrics(&mut self, device: &Device, now: Timestamp) -> Vec<Metric> {
        let tags = self.site.tags.iter().zip(&mut self.tags).filter(|(tag, _)| tag.device == device.id);
        let form = self.form;
        tags.map(|(tag, last)| {
            last.is_untold = false;
            last.told_quality =
                Some(last.reading.as_ref().map_or(Quality::BadNoCommunication, |reading| reading.quality));
            form.birth_metric(tag, last.reading.as_ref(), now)
        })
        .collect()
    }
}

fn bd_seq_metric(bd_seq: u8, now: Timestamp) -> Metric {
    node_metric("bdSeq", Datatype::Int64, metric::Value::LongValue(u64::from(bd_seq)), now)
}

#[cfg(test)]
mod tests;
