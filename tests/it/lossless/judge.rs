//! What arrived, held against what the plant served. Pure: arrivals go in, a verdict comes out.

mod json;

use std::collections::{BTreeSet, HashMap};

use prost::Message as _;
use tidegate::sparkplug::proto::Payload;
use tidegate::sparkplug::proto::payload::{Metric, metric, property_value};

use super::plant::{Size, Tag};
use super::subscriber::{Arrival, What};
use super::verdict::Tally;

/// What every topic starts with.
const ROOT: [&str; 2] = ["spBv1.0", super::ENTERPRISE];
const GOOD: u32 = 192;

/// In what a value came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Birth,
    Live,
    History,
}

/// The first arrival of a value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) tag: Tag,
    pub(super) value: u32,
    pub(super) source_ms: u64,
    pub(super) arrived_ms: u64,
    pub(super) how: How,
}

/// Follows one node from the first message on.
pub(super) struct Judge {
    size: Size,
    seen: Vec<Seen>,
    /// Where in `seen`.
    by_value: HashMap<(Tag, u32), usize>,
    session: Option<Session>,
    /// The times of first arrivals in this connection, by tag.
    last: Vec<Last>,
    pub(super) subscriptions: usize,
    pub(super) duplicates: u64,
    /// Readings that say that there was none.
    pub(super) bad: u64,
    /// How many readings were lost by the gateway's own account.
    pub(super) lost_said: u64,
    /// One value with two times.
    pub(super) corrupt: Tally,
    pub(super) out_of_order: Tally,
    pub(super) protocol: Tally,
}

/// From a birth of the node to its death.
struct Session {
    bd_seq: Option<u64>,
    next_seq: u8,
    devices: BTreeSet<u8>,
}

#[derive(Clone, Copy, Default)]
struct Last {
    live_ms: u64,
    history_ms: u64,
}

impl Judge {
    pub(super) fn new(size: Size) -> Judge {
        Judge {
            size,
            seen: Vec::new(),
            by_value: HashMap::new(),
            session: None,
            last: vec![Last::default(); size.count()],
            subscriptions: 0,
            duplicates: 0,
            bad: 0,
            lost_said: 0,
            corrupt: Tally::default(),
            out_of_order: Tally::default(),
            protocol: Tally::default(),
        }
    }

    /// First arrivals, in their order.
    pub(super) fn seen(&self) -> &[Seen] {
        &self.seen
    }

    pub(super) fn has(&self, tag: Tag, value: u32) -> bool {
        self.by_value.contains_key(&(tag, value))
    }

    /// How many devices are born.
    pub(super) fn born(&self) -> usize {
        self.session.as_ref().map_or(0, |session| session.devices.len())
    }

    pub(super) fn handle(&mut self, arrival: &Arrival) {
        match &arrival.what {
            What::Subscribed => {
                self.subscriptions += 1;
                self.session = None;
            }
            What::Message { topic, payload } if !topic.starts_with(ROOT[0]) => {
                self.handle_json(topic, payload, arrival.at_ms);
            }
            What::Message { topic, payload } => match Payload::decode(payload.clone()) {
                Ok(payload) => self.handle_message(topic, &payload, arrival.at_ms),
                Err(error) => self.protocol.add(|| format!("{topic}: {error}")),
            },
        }
    }

    fn handle_message(&mut self, topic: &str, payload: &Payload, at_ms: u64) {
        let parts: Vec<&str> = topic.split('/').collect();
        let (verb, device) = match parts.as_slice() {
            [root, group, verb, super::NODE] if [*root, *group] == ROOT => (*verb, None),
            [root, group, verb, super::NODE, device] if [*root, *group] == ROOT => {
                (*verb, number("d", device).filter(|device| *device < self.size.devices))
            }
            _ => ("", None),
        };
        match (verb, device) {
            ("NBIRTH", None) => self.handle_birth(payload),
            ("NDEATH", None) => self.handle_death(payload),
            ("NDATA", None) => {
                self.follow(topic, payload);
                self.note_lost(payload);
            }
            ("DBIRTH" | "DDATA" | "DDEATH", Some(device)) => {
                self.follow(topic, payload);
                self.follow_device(topic, verb, device);
                self.handle_device(verb, device, payload, at_ms);
            }
            _ => self.protocol.add(|| format!("a message on {topic}")),
        }
    }

    /// A birth with another birth sequence number, or after a death, is that of a new connection.
    fn handle_birth(&mut self, payload: &Payload) {
        let bd_seq = bd_seq(payload);
        if payload.seq != Some(0) || bd_seq.is_none() {
            self.protocol.add(|| format!("NBIRTH with seq {:?}, bdSeq {bd_seq:?}", payload.seq));
        }
        if self.session.as_ref().is_none_or(|session| session.bd_seq != bd_seq) {
            self.last.fill(Last::default());
        }
        self.session = Some(Session { bd_seq, next_seq: 1, devices: BTreeSet::new() });
        self.note_lost(payload);
    }

    /// A death with another birth sequence number is that of an earlier connection, which consumers pass over (Sparkplug
    /// 3.0.0, 6.4.22).
    fn handle_death(&mut self, payload: &Payload) {
        if self.session.as_ref().is_some_and(|session| session.bd_seq == bd_seq(payload)) {
            self.session = None;
        }
    }

    /// How many readings the gateway says that it has lost.
    fn note_lost(&mut self, payload: &Payload) {
        let lost = number_of(payload, "Gateway/readings_lost").unwrap_or_default();
        self.lost_said = self.lost_said.max(lost);
    }

    /// Every message of a session but the birth of the node has the next sequence number (6.4.5).
    fn follow(&mut self, topic: &str, payload: &Payload) {
        let Some(session) = &mut self.session else {
            return self.protocol.add(|| format!("{topic} before NBIRTH"));
        };
        let expected = u64::from(session.next_seq);
        if payload.seq != Some(expected) {
            self.protocol.add(|| format!("{topic} with seq {:?}, not {expected}", payload.seq));
        }
        let seq = payload.seq.and_then(|seq| u8::try_from(seq).ok()).unwrap_or(session.next_seq);
        session.next_seq = seq.wrapping_add(1);
    }

    /// A device is born before it says anything else.
    fn follow_device(&mut self, topic: &str, verb: &str, device: u8) {
        let Some(session) = &mut self.session else { return };
        let is_born = match verb {
            "DBIRTH" => {
                session.devices.insert(device);
                true
            }
            "DDEATH" => session.devices.remove(&device),
            _ => session.devices.contains(&device),
        };
        if !is_born {
            self.protocol.add(|| format!("{topic} before DBIRTH"));
        }
    }

    fn handle_device(&mut self, verb: &str, device: u8, payload: &Payload, at_ms: u64) {
        for metric in payload.metrics.iter().filter(|_| verb != "DDEATH") {
            let name = metric.name.as_deref().unwrap_or_default();
            let Some(index) = number("t", name).filter(|index| *index < self.size.tags) else {
                self.protocol.add(|| format!("d{device} has a metric \"{name}\""));
                continue;
            };
            if !is_good(metric) {
                self.bad += 1;
                continue;
            }
            let how = match verb {
                "DBIRTH" => How::Birth,
                _ if metric.is_historical == Some(true) => How::History,
                _ => How::Live,
            };
            let tag = Tag { device, index };
            match (value(metric), metric.timestamp) {
                (Some(value), Some(source_ms)) => {
                    self.handle_value(Seen { tag, value, source_ms, arrived_ms: at_ms, how });
                }
                _ => self.protocol.add(|| format!("{tag:?} without a value or a time: {metric:?}")),
            }
        }
    }

    fn handle_value(&mut self, new: Seen) {
        if let Some(index) = self.by_value.get(&(new.tag, new.value)) {
            let first = self.seen[*index];
            self.duplicates += u64::from(new.how != How::Birth);
            if first.source_ms != new.source_ms {
                self.corrupt.add(|| format!("two times of one value: {first:?}, {new:?}"));
            }
            return;
        }
        self.by_value.insert((new.tag, new.value), self.seen.len());
        self.seen.push(new);
        let place = usize::from(new.tag.device) * usize::from(self.size.tags) + usize::from(new.tag.index);
        let last = match new.how {
            How::Birth => return,
            How::Live => &mut self.last[place].live_ms,
            How::History => &mut self.last[place].history_ms,
        };
        if new.source_ms < *last {
            let before = *last;
            self.out_of_order.add(|| format!("{new:?} after one of {before}"));
        }
        *last = new.source_ms.max(*last);
    }
}

/// The number in a name such as `d3`.
pub(crate) fn number(prefix: &str, name: &str) -> Option<u8> {
    name.strip_prefix(prefix)?.parse().ok()
}

fn bd_seq(payload: &Payload) -> Option<u64> {
    number_of(payload, "bdSeq")
}

fn number_of(payload: &Payload, name: &str) -> Option<u64> {
    let metric = payload.metrics.iter().find(|metric| metric.name.as_deref() == Some(name))?;
    match metric.value {
        Some(metric::Value::LongValue(number)) => Some(number),
        _ => None,
    }
}

/// A value without a quality is good: data says it only where it is not, or has changed.
pub(crate) fn is_good(metric: &Metric) -> bool {
    let Some(set) = &metric.properties else { return metric.is_null != Some(true) };
    let quality = set.keys.iter().zip(&set.values).find(|(key, _)| *key == "Quality");
    match quality.and_then(|(_, value)| value.value.as_ref()) {
        None => metric.is_null != Some(true),
        Some(quality) => *quality == property_value::Value::IntValue(GOOD),
    }
}

pub(crate) fn value(metric: &Metric) -> Option<u32> {
    match metric.value.as_ref()? {
        metric::Value::IntValue(value) => Some(*value),
        metric::Value::LongValue(value) => u32::try_from(*value).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
