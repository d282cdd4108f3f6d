//! The conversation of one edge node with one broker: births, sequence numbers, data, deaths. Pure.
//!
//! The order of calls is the order on the wire: whoever owns the connection takes publications one by one with
//! [`Session::poll_publication`], only when it can hand each to the connection at once, for a sequence number is given
//! at that moment (Sparkplug 3.0.0, 6.4.5). While there is no connection, readings only renew what the next births will
//! say; one that is replaced before any message carried it is counted as lost.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prost::Message as _;

use super::payload::{Datatype, Form, node_metric};
use super::proto::Payload;
use super::proto::payload::{Metric, metric};
use super::topic::{Node, Verb};
use crate::config::site::{Device, Site, Uplink};
use crate::counters::{Counters, DeviceCounters};
use crate::reading::{Quality, Reading, Timestamp, Update};
use crate::tag::{DeviceId, TagId};

/// The most metrics in one data message: about 16 KiB with names.
const DATA_METRICS_MAX: usize = 500;
/// The most readings that wait for a connection that takes them too slowly; beyond it all that waits is dropped and
/// everything is born again with what is known then. What no birth says is counted as lost.
const WAITING_READINGS_MAX: usize = 20_000;

const REBIRTH: &str = "Node Control/Rebirth";
const READINGS_LOST: &str = "Gateway/readings_lost";
/// Births asked for oftener than this are born together, a while later.
const REBIRTH_MIN: Duration = Duration::from_secs(1);

/// A message for the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Where to.
    pub topic: String,
    /// The encoded payload.
    pub payload: Vec<u8>,
    /// Whose readings it carries that no message before it did; given back if it is not sent.
    pub carried: Vec<TagId>,
}

/// One edge node's side of the conversation.
#[derive(Debug)]
pub struct Session {
    site: Arc<Site>,
    node: Node,
    form: Form,
    counters: Arc<Counters>,
    /// Readings that were taken and will not reach this broker.
    readings_lost: u64,
    tags: Vec<Last>,
    /// Which devices answer.
    is_up: Vec<bool>,
    /// While there is a connection.
    live: Option<Live>,
    waiting: VecDeque<Waiting>,
    waiting_readings: usize,
    rebirth: Rebirth,
}

/// When births were sent last, and when those are due that have been asked for since.
#[derive(Debug, Default)]
struct Rebirth {
    last: Option<Instant>,
    due: Option<Instant>,
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
    carried: Vec<TagId>,
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
            readings_lost: 0,
            live: None,
            waiting: VecDeque::new(),
            waiting_readings: 0,
            rebirth: Rebirth::default(),
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
        Publication { topic, payload: payload.encode_to_vec(), carried: Vec::new() }
    }

    /// The broker has taken the connection and the subscriptions: births first.
    pub fn handle_connected(&mut self, bd_seq: u8, now: Timestamp) {
        self.live = Some(Live { bd_seq, next_seq: 0 });
        self.bear(now);
    }

    /// The connection is gone; what was `unsent` by it, oldest first, and what waited for it is lost, but for what the
    /// next births will say.
    pub fn handle_disconnected(&mut self, unsent: Vec<Vec<TagId>>) {
        self.live = None;
        self.rebirth.due = None;
        self.give_back(unsent);
    }

    /// Takes back what was `unsent` and what waits: the last reading of each tag is told by the next births, those
    /// before it are lost.
    fn give_back(&mut self, unsent: Vec<Vec<TagId>>) {
        let waiting = std::mem::take(&mut self.waiting).into_iter().map(|waiting| waiting.carried);
        let all: Vec<Vec<TagId>> = unsent.into_iter().chain(waiting).collect();
        self.waiting_readings = 0;
        let mut lost = 0;
        for tag in all.iter().flatten().rev() {
            let Some(last) = self.tags.get_mut(tag.index()) else { continue };
            lost += u64::from(std::mem::replace(&mut last.is_untold, true));
        }
        self.lose(lost);
    }

    fn lose(&mut self, count: u64) {
        self.readings_lost += count;
        self.counters.readings_lost.add(count);
    }

    /// What normalising has to tell.
    pub fn handle_update(&mut self, update: Update, now: Timestamp) {
        match update {
            Update::Readings(readings) => {
                readings.iter().for_each(|reading| self.handle_reading(reading));
                if self.waiting_readings > WAITING_READINGS_MAX {
                    self.give_back(Vec::new());
                    self.bear(now);
                }
            }
            Update::DeviceUp(device) => {
                self.set_up(device, true);
                if self.live.is_some() {
                    self.bear_device(device, now);
                }
            }
            Update::DeviceDown(device, at) => {
                if self.set_up(device, false) && self.live.is_some() {
                    let payload = Payload {
                        timestamp: Some(at.wall(None).unwrap_or(now).millis()),
                        ..Payload::default()
                    };
                    self.push(Verb::DeviceDeath, Some(device), payload, Vec::new());
                }
            }
        }
    }

    /// A message that the broker delivered. A command that asks for a rebirth is obeyed, a burst of them once; anything
    /// else, garbage included, is passed over. True if it was obeyed.
    pub fn handle_message(&mut self, topic: &str, payload: &[u8], now: Instant) -> bool {
        let is_rebirth = |metric: &Metric| {
            metric.name.as_deref() == Some(REBIRTH) && metric.value == Some(metric::Value::BooleanValue(true))
        };
        let is_asked = topic == self.node.node_commands()
            && Payload::decode(payload).is_ok_and(|payload| payload.metrics.iter().any(is_rebirth));
        if is_asked && self.live.is_some() {
            let soonest = self.rebirth.last.map_or(now, |last| last + REBIRTH_MIN);
            self.rebirth.due.get_or_insert(soonest.max(now));
        }
        is_asked
    }

    /// When births are due that were asked for.
    #[must_use]
    pub fn rebirth_due(&self) -> Option<Instant> {
        self.rebirth.due
    }

    /// Bears everything again if that is due.
    pub fn handle_due(&mut self, now: Instant, wall: Timestamp) {
        if self.rebirth.due.is_some_and(|due| due <= now) {
            self.rebirth = Rebirth { last: Some(now), due: None };
            self.bear(wall);
        }
    }

    /// The next message, numbered; take it only to send it.
    pub fn poll_publication(&mut self, now: Timestamp) -> Option<Publication> {
        let live = self.live.as_mut()?;
        let mut waiting = self.waiting.pop_front()?;
        if waiting.verb == Verb::DeviceData {
            self.waiting_readings = self.waiting_readings.saturating_sub(waiting.carried.len());
        }
        if waiting.verb == Verb::NodeBirth {
            live.next_seq = 0;
        }
        waiting.payload.seq = Some(u64::from(live.next_seq));
        live.next_seq = live.next_seq.wrapping_add(1);
        waiting.payload.timestamp.get_or_insert(now.millis());
        let device = waiting.device.and_then(|device| self.site.devices.get(device.index()));
        let topic = self.node.topic(waiting.verb, device.map(|device| device.name.as_ref()));
        Some(Publication { topic, payload: waiting.payload.encode_to_vec(), carried: waiting.carried })
    }

    /// Whether it was up before.
    fn set_up(&mut self, device: DeviceId, is_up: bool) -> bool {
        self.is_up.get_mut(device.index()).is_some_and(|known| std::mem::replace(known, is_up))
    }

    fn push(&mut self, verb: Verb, device: Option<DeviceId>, payload: Payload, carried: Vec<TagId>) {
        self.waiting.push_back(Waiting { verb, device, payload, carried });
    }

    fn handle_reading(&mut self, reading: &Reading) {
        let Some(tag) = self.site.tags.get(reading.tag.index()) else { return };
        let Some(last) = self.tags.get_mut(reading.tag.index()) else { return };
        let is_born = self.live.is_some() && self.is_up.get(tag.device.index()).copied().unwrap_or_default();
        let was_untold = std::mem::replace(&mut last.is_untold, !is_born && reading.quality.is_good());
        last.reading = Some(reading.clone());
        if !is_born {
            self.lose(u64::from(was_untold));
            return;
        }
        let with_quality = !reading.quality.is_good() || last.told_quality != Some(reading.quality);
        last.told_quality = Some(reading.quality);
        let metric = self.form.data_metric(tag, reading, with_quality);
        let device = tag.device;
        self.push_data(device, reading.tag, metric);
    }

    /// Adds a metric to the message that waits last, if that is for the same device and has room.
    fn push_data(&mut self, device: DeviceId, tag: TagId, metric: Metric) {
        self.waiting_readings += 1;
        match self.waiting.back_mut() {
            Some(last)
                if last.verb == Verb::DeviceData
                    && last.device == Some(device)
                    && last.payload.metrics.len() < DATA_METRICS_MAX =>
            {
                last.payload.metrics.push(metric);
                last.carried.push(tag);
            }
            _ => {
                let payload = Payload { metrics: vec![metric], ..Payload::default() };
                self.push(Verb::DeviceData, Some(device), payload, vec![tag]);
            }
        }
    }

    /// The node's birth and those of all devices that answer.
    fn bear(&mut self, now: Timestamp) {
        let metrics = self.node_metrics(now);
        let payload = Payload { timestamp: Some(now.millis()), metrics, ..Payload::default() };
        self.push(Verb::NodeBirth, None, payload, Vec::new());
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
        let count =
            |name: &str, count: u64| node_metric(name, Datatype::Int64, metric::Value::LongValue(count), now);
        let counters = &self.counters;
        let mut metrics = vec![
            bd_seq_metric(bd_seq, now),
            node_metric(REBIRTH, Datatype::Boolean, metric::Value::BooleanValue(false), now),
            text("Properties/version", env!("CARGO_PKG_VERSION")),
            count(READINGS_LOST, self.readings_lost),
            count("Gateway/timeouts", counters.of_devices(|device| device.timeouts.get())),
            count("Gateway/replies_late", counters.of_devices(|device| device.late.get())),
            count("Gateway/frames_foreign", counters.of_devices(|device| device.foreign.get())),
            count("Gateway/exceptions", counters.of_devices(|device| device.exceptions.sum())),
            count("Gateway/overruns", counters.of_devices(DeviceCounters::overruns)),
            count("Gateway/connects", counters.connects.get()),
        ];
        metrics.extend(self.site.gateway.site.as_deref().map(|site| text("Properties/site", site)));
        metrics.extend(self.site.gateway.title.as_deref().map(|title| text("Properties/title", title)));
        metrics
    }

    /// A device's birth: every tag of it, with what is known of it now.
    fn bear_device(&mut self, id: DeviceId, now: Timestamp) {
        let site = self.site.clone();
        let Some(device) = site.devices.get(id.index()) else { return };
        let (mut metrics, carried) = self.device_metrics(device, now);
        if let Some(title) = &device.title {
            let title = metric::Value::StringValue(title.clone());
            metrics.push(node_metric("Properties/title", Datatype::String, title, now));
        }
        let payload = Payload { timestamp: Some(now.millis()), metrics, ..Payload::default() };
        self.push(Verb::DeviceBirth, Some(id), payload, carried);
    }

    /// The metrics, and whose readings no message has carried yet.
    fn device_metrics(&mut self, device: &Device, now: Timestamp) -> (Vec<Metric>, Vec<TagId>) {
        let tags = self.site.tags.iter().zip(&mut self.tags).filter(|(tag, _)| tag.device == device.id);
        let form = self.form;
        let mut carried = Vec::new();
        let metrics = tags.map(|(tag, last)| {
            if std::mem::take(&mut last.is_untold) {
                carried.push(tag.id);
            }
            let quality =
                last.reading.as_ref().map_or(Quality::BadNoCommunication, |reading| reading.quality);
            last.told_quality = Some(quality);
            form.birth_metric(tag, last.reading.as_ref(), now)
        });
        (metrics.collect(), carried)
    }
}

fn bd_seq_metric(bd_seq: u8, now: Timestamp) -> Metric {
    node_metric("bdSeq", Datatype::Int64, metric::Value::LongValue(u64::from(bd_seq)), now)
}

#[cfg(test)]
mod tests;
