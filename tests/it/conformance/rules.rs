//! What holds for everything that an edge node says, whatever has happened to it. Each rule looks at a whole log and
//! fails where it is broken; [`all`] is looked at in the end of every scene.

use std::collections::{BTreeMap, BTreeSet};

use tidegate::sparkplug::proto::payload::{Metric, metric};

use super::fields::{Content, fields, parts};
use super::log::{Log, Message, What, quality};
use super::wire::Said;

/// How far the time of a payload may be from that of its arrival.
const SENT_MS: u64 = 5_000;
/// How far the time of a reading that is no history may be.
const READ_MS: u64 = 60_000;
const REBIRTH: &str = "Node Control/Rebirth";

/// Every rule that needs no particular scene.
pub(super) fn all(log: &Log) {
    topics(log);
    delivery(log);
    sequence(log);
    deaths(log);
    bd_seqs(log);
    births_first(log);
    births(log);
    times(log);
    data(log);
    changes(log);
    values(log);
    properties(log);
    nothing_composite(log);
}

/// Topics have the namespace, the group, the verb, the node, and a device where the verb is of one.
pub(super) fn topics(log: &Log) {
    for message in log.messages() {
        let parts: Vec<&str> = message.publish.topic.split('/').collect();
        assert_eq!((parts[0], parts[1], parts[3]), ("spBv1.0", "e", "n"), "{}", message.name());
        match message.verb.as_str() {
            "NBIRTH" | "NDATA" | "NDEATH" => assert_eq!(parts.len(), 4, "{}", message.name()),
            "DBIRTH" | "DDATA" | "DDEATH" => {
                assert_eq!(parts.len(), 5, "{}", message.name());
                assert!(["press", "oven", "nobody"].contains(&parts[4]), "{}", message.name());
            }
            other => panic!("an edge node does not say {other}"),
        }
    }
    for publish in log.0.iter().filter_map(|entry| entry.publish()) {
        let is_ours = publish.topic.starts_with("spBv1.0/") || publish.topic == "tidegate/e/n/barrier";
        assert!(is_ours, "{}", publish.topic);
    }
}

/// Births, data and deaths of devices are sent and forgotten; a death of the node is acknowledged. None is kept.
pub(super) fn delivery(log: &Log) {
    for message in log.messages() {
        assert_eq!(message.publish.qos, u8::from(message.verb == "NDEATH"), "{}", message.name());
        assert!(!message.publish.is_retained, "{}", message.name());
    }
}

/// 0 with each birth of the node, one more with each message after it, 0 again after 255; a death of the node has none.
pub(super) fn sequence(log: &Log) {
    for session in log.sessions() {
        let mut expected = None;
        for message in &session.messages {
            let raw = fields(&message.publish.payload);
            let seqs: Vec<_> = raw.iter().filter(|field| field.number == 3).collect();
            match message.verb.as_str() {
                "NDEATH" => {
                    assert_eq!(seqs.len(), 0, "{} has a seq", message.name());
                    continue;
                }
                "NBIRTH" => expected = Some(0),
                _ => {}
            }
            assert_eq!(seqs.len(), 1, "{}", message.name());
            assert_eq!(message.payload.seq, expected, "{}", message.name());
            expected = expected.map(|seq| (seq + 1) % 256);
        }
    }
}

/// The will of each connection is the death of its session: acknowledged, not kept, bdSeq and nothing else.
pub(super) fn deaths(log: &Log) {
    for session in log.sessions() {
        let will = session.connect.will.clone().expect("a will");
        assert_eq!((will.topic.as_str(), will.qos), ("spBv1.0/e/NDEATH/n", 1));
        assert!(!will.is_retained);
        let certificate = certificate(&will.payload);
        for death in session.messages.iter().filter(|message| message.verb == "NDEATH") {
            assert_eq!(self::certificate(&death.publish.payload), certificate, "{}", death.name());
        }
    }
}

/// The bdSeq of a death, of which it is the only metric.
pub(super) fn certificate(payload: &[u8]) -> u64 {
    let raw = fields(payload);
    assert!(raw.iter().all(|field| [1, 2].contains(&field.number)), "{raw:?}");
    let decoded = <tidegate::sparkplug::proto::Payload as prost::Message>::decode(payload).unwrap();
    assert_eq!((decoded.metrics.len(), decoded.seq), (1, None));
    super::log::bd_seq(&decoded)
}

/// bdSeq is 0 in the first CONNECT and one more in each that follows; every birth of the node has that of its CONNECT.
pub(super) fn bd_seqs(log: &Log) {
    let sessions = log.sessions();
    let of_will =
        |session: &super::log::Session| certificate(&session.connect.will.as_ref().unwrap().payload);
    let first = sessions.first().map(of_will);
    for (index, session) in sessions.iter().enumerate() {
        let bd_seq = of_will(session);
        let expected = (first.unwrap() + u64::try_from(index).unwrap()) % 256;
        assert_eq!(bd_seq, expected, "CONNECT number {index}");
        for birth in session.messages.iter().filter(|message| message.verb == "NBIRTH") {
            assert_eq!(birth.bd_seq(), bd_seq, "{}", birth.name());
        }
    }
}

/// Nothing is said before CONNACK; the first message is the node's birth; a device's data and death follow its birth in
/// the same session; births of devices that live follow that of the node at once; nothing follows a death of the node.
pub(super) fn births_first(log: &Log) {
    for session in log.sessions() {
        let mut is_taken = false;
        let mut is_first = true;
        for entry in &session.entries {
            is_taken |= matches!(entry.what, What::Taken);
            if let Some(publish) = entry.publish() {
                assert!(is_taken, "{} before CONNACK", publish.topic);
                assert!(!is_first || publish.topic == "spBv1.0/e/NBIRTH/n", "first is {}", publish.topic);
                is_first = false;
            }
        }
        let mut alive = BTreeSet::new();
        let mut unborn = BTreeSet::new();
        let mut is_dead = false;
        for message in &session.messages {
            assert!(!is_dead, "{} after the death", message.name());
            let device = message.device.clone();
            match message.verb.as_str() {
                // all that lived are born again before any data
                "NBIRTH" => unborn = std::mem::take(&mut alive),
                "NDEATH" => is_dead = true,
                "DBIRTH" => {
                    unborn.remove(&device);
                    alive.insert(device);
                }
                "DDEATH" => {
                    assert!(alive.remove(&device), "{} without a birth", message.name());
                }
                "DDATA" => assert!(alive.contains(&device), "{} without a birth", message.name()),
                _ => {}
            }
            if message.is_data() {
                assert!(unborn.is_empty(), "{} before the births of {unborn:?}", message.name());
            }
        }
    }
}

/// Each metric of a birth has name, datatype, time, and either a value or none and says so; names are told apart
/// without capitals; the node's has the rebirth control.
pub(super) fn births(log: &Log) {
    for birth in log.messages().iter().filter(|message| message.is_birth()) {
        let mut names = BTreeSet::new();
        for metric in &birth.payload.metrics {
            let name = metric.name.clone().unwrap_or_default();
            assert!(!name.is_empty() && names.insert(name.to_lowercase()), "{}: {metric:?}", birth.name());
            assert!(matches!(metric.datatype, Some(1..=19 | 22..=34)), "{}: {metric:?}", birth.name());
            assert!(metric.timestamp.is_some(), "{}: {metric:?}", birth.name());
            assert_eq!(metric.value.is_none(), metric.is_null == Some(true), "{}: {metric:?}", birth.name());
            assert_eq!(metric.is_historical, None, "{}: {metric:?}", birth.name());
        }
        if birth.verb == "NBIRTH" {
            let rebirth = birth.metric(REBIRTH);
            assert_eq!(rebirth.value, Some(metric::Value::BooleanValue(false)));
            assert_eq!((rebirth.datatype, rebirth.alias), (Some(11), None));
        }
    }
}

/// Payloads have the time of their sending, metrics that of their reading, in milliseconds UTC.
pub(super) fn times(log: &Log) {
    for message in log.messages() {
        let sent = message.payload.timestamp.expect("a timestamp");
        assert!(sent.abs_diff(message.at_ms) < SENT_MS, "{} of {sent}, {}", message.name(), message.at_ms);
        for metric in &message.payload.metrics {
            let at = metric.timestamp.unwrap_or_else(|| panic!("{}: {metric:?}", message.name()));
            assert!(at <= message.at_ms + SENT_MS, "{}: {metric:?}", message.name());
            assert!(at.abs_diff(message.at_ms) < READ_MS, "{}: {metric:?}", message.name());
        }
    }
}

/// What a birth said of a metric, and what was said of it last.
struct Told {
    name: String,
    datatype: u32,
    value: Option<metric::Value>,
    properties: Option<tidegate::sparkplug::proto::payload::PropertySet>,
    at: u64,
}

/// How data names a metric: by its alias where it has one.
fn key(message: &Message, metric: &Metric) -> (Option<String>, String) {
    let name = metric.alias.map_or_else(|| metric.name.clone().unwrap(), |alias| format!("#{alias}"));
    (message.device.clone(), name)
}

/// Calls `look` with each metric of data, its message, and what was told of that metric before in the session.
fn each_data(log: &Log, mut look: impl FnMut(&Message, &Metric, &Told)) {
    for session in log.sessions() {
        let mut told: BTreeMap<(Option<String>, String), Told> = BTreeMap::new();
        for message in &session.messages {
            if message.is_birth() {
                // the birth of the node ends all that was said before
                told.retain(|(device, _), _| message.device.is_some() && *device != message.device);
            }
            for metric in message.payload.metrics.iter().filter(|_| message.verb != "NDEATH") {
                let key = key(message, metric);
                if message.is_data() {
                    let Some(last) = told.get(&key) else {
                        panic!("{}: {metric:?} is in no birth", message.name())
                    };
                    look(message, metric, last);
                    if metric.is_historical == Some(true) {
                        continue;
                    }
                }
                let before = told.remove(&key);
                let name = metric.name.clone().or_else(|| before.as_ref().map(|told| told.name.clone()));
                let properties =
                    metric.properties.clone().or(before.as_ref().and_then(|told| told.properties.clone()));
                let datatype = metric.datatype.or(before.as_ref().map(|told| told.datatype));
                let now = Told {
                    name: name.unwrap(),
                    datatype: datatype.unwrap(),
                    value: metric.value.clone(),
                    properties,
                    at: metric.timestamp.unwrap(),
                };
                told.insert(key, now);
            }
        }
    }
}

/// Data has at least one metric, each of the birth of its node or device, with a value or without and saying so.
pub(super) fn data(log: &Log) {
    for message in log.messages().iter().filter(|message| message.is_data()) {
        assert!(!message.payload.metrics.is_empty(), "{} is empty", message.name());
    }
    each_data(log, |message, metric, _| {
        assert_eq!(metric.value.is_none(), metric.is_null == Some(true), "{}: {metric:?}", message.name());
        assert!(metric.alias.is_none() || metric.name.is_none(), "{}: {metric:?}", message.name());
    });
}

/// Data says what is new, each metric in the order of time, and marks as history nothing else.
pub(super) fn changes(log: &Log) {
    each_data(log, |message, metric, last| {
        if metric.is_historical == Some(true) {
            return;
        }
        assert_eq!(metric.is_historical, None, "{}: {metric:?}", message.name());
        assert!(metric.timestamp.unwrap() > last.at, "{}: {} goes back in time", message.name(), last.name);
        let is_new = metric.value != last.value
            || (metric.properties.is_some() && metric.properties != last.properties);
        assert!(is_new, "{}: {} has not changed: {metric:?}", message.name(), last.name);
    });
}

/// A value is in the field of its datatype, and its number within its datatype's range.
pub(super) fn values(log: &Log) {
    let check = |message: &Message, metric: &Metric, datatype: u32| {
        if let Some(value) = &metric.value {
            assert!(fits(datatype, value), "{}: {metric:?} of datatype {datatype}", message.name());
        }
    };
    for birth in log.messages().iter().filter(|message| message.is_birth()) {
        birth.payload.metrics.iter().for_each(|metric| check(birth, metric, metric.datatype.unwrap()));
    }
    each_data(log, |message, metric, last| check(message, metric, last.datatype));
}

fn fits(datatype: u32, value: &metric::Value) -> bool {
    use metric::Value::{BooleanValue, DoubleValue, FloatValue, IntValue, LongValue, StringValue};
    match (datatype, value) {
        // sign-extended to the 32 bits of the field
        (1, IntValue(value)) => i8::try_from(value.cast_signed()).is_ok(),
        (2, IntValue(value)) => i16::try_from(value.cast_signed()).is_ok(),
        (5, IntValue(value)) => *value <= u8::MAX.into(),
        (6, IntValue(value)) => *value <= u16::MAX.into(),
        (3 | 7, IntValue(_)) => true,
        (4 | 8 | 13, LongValue(_)) => true,
        (9, FloatValue(value)) => value.is_finite(),
        (10, DoubleValue(value)) => value.is_finite(),
        (11, BooleanValue(_)) | (12 | 14 | 15, StringValue(_)) => true,
        _ => false,
    }
}

/// Properties: as many keys as values, each with a type that a property may have; Quality is one of three.
pub(super) fn properties(log: &Log) {
    for message in log.messages() {
        for metric in &message.payload.metrics {
            let Some(set) = &metric.properties else { continue };
            assert_eq!(set.keys.len(), set.values.len(), "{}: {metric:?}", message.name());
            assert_eq!(set.keys.iter().collect::<BTreeSet<_>>().len(), set.keys.len(), "{metric:?}");
            for value in &set.values {
                assert!(matches!(value.r#type, Some(1..=15 | 20 | 21)), "{}: {metric:?}", message.name());
            }
            assert!(matches!(quality(metric), None | Some(0 | 192 | 500)), "{}: {metric:?}", message.name());
            if metric.value.is_none() {
                assert_ne!(quality(metric), Some(192), "{}: null and good: {metric:?}", message.name());
            }
        }
    }
}

/// No body, no data set, no template, no extension: none of their fields in any payload or metric.
pub(super) fn nothing_composite(log: &Log) {
    for message in log.messages() {
        let payload = fields(&message.publish.payload);
        assert!(payload.iter().all(|field| (1..=3).contains(&field.number)), "{}", message.name());
        for bytes in parts(&payload, 2) {
            for field in fields(bytes) {
                assert!(matches!(field.number, 1..=7 | 9..=15), "{}: field {}", message.name(), field.number);
                if let Content::Number(value, size) = field.content {
                    let is_small = [4, 10].contains(&field.number);
                    assert!(!is_small || (value <= u32::MAX.into() && size <= 5), "{}", message.name());
                }
            }
        }
        for metric in &message.payload.metrics {
            assert!(!matches!(metric.datatype, Some(16 | 19)), "{}: {metric:?}", message.name());
        }
    }
}

/// The subscriptions of a session, and whether they were granted before anything was published.
pub(super) fn subscribed_first(session: &super::log::Session) -> Vec<(String, u8)> {
    let granted = session.entries.iter().position(|entry| matches!(entry.what, What::Granted));
    let published = session.entries.iter().position(|entry| entry.publish().is_some());
    assert!(granted.unwrap() < published.unwrap(), "a birth before the subscription");
    subscribed(session)
}

/// The subscriptions of a session.
pub(super) fn subscribed(session: &super::log::Session) -> Vec<(String, u8)> {
    let filters = session.entries.iter().filter_map(|entry| match &entry.what {
        What::Said(Said::Subscribe { filters, .. }) => Some(filters.clone()),
        _ => None,
    });
    filters.flatten().collect()
}
