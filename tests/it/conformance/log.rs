//! What was said on all connections, in order, and the Sparkplug messages in it.

use std::fmt::Write as _;

use prost::Message as _;
use tidegate::sparkplug::proto::Payload;
use tidegate::sparkplug::proto::payload::{Metric, PropertyValue, metric, property_value};

use super::wire::{Connect, Publish, Said};

/// Something that happened on a connection, and when.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) connection: usize,
    pub(super) at_ms: u64,
    pub(super) what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Said(Said),
    /// CONNACK is sent.
    Taken,
    /// SUBACK is sent.
    Granted,
    /// A message is sent.
    Told,
    /// Nothing follows.
    Ended,
}

/// All of it.
#[derive(Clone, Debug)]
pub(super) struct Log(pub(super) Vec<Entry>);

/// A Sparkplug message.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) connection: usize,
    pub(super) at_ms: u64,
    pub(super) verb: String,
    pub(super) device: Option<String>,
    pub(super) publish: Publish,
    pub(super) payload: Payload,
}

/// One connection, from its CONNECT on.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) connect: Connect,
    pub(super) messages: Vec<Message>,
    /// DISCONNECT, and its reason.
    pub(super) disconnect: Option<u8>,
    pub(super) entries: Vec<Entry>,
}

impl Entry {
    pub(super) fn publish(&self) -> Option<&Publish> {
        match &self.what {
            What::Said(Said::Publish(publish)) => Some(publish),
            _ => None,
        }
    }

    pub(super) fn connect(&self) -> Option<&Connect> {
        match &self.what {
            What::Said(Said::Connect(connect)) => Some(connect),
            _ => None,
        }
    }

    /// The Sparkplug message that it is.
    pub(super) fn message(&self) -> Option<Message> {
        let publish = self.publish()?;
        let mut parts = publish.topic.strip_prefix("spBv1.0/")?.split('/');
        let (_group, verb, _node) = (parts.next()?, parts.next()?.to_owned(), parts.next()?);
        let device = parts.next().map(str::to_owned);
        let payload = Payload::decode(publish.payload.as_slice()).unwrap();
        let (connection, at_ms) = (self.connection, self.at_ms);
        Some(Message { connection, at_ms, verb, device, publish: publish.clone(), payload })
    }

    pub(super) fn is(&self, verb: &str, device: Option<&str>) -> bool {
        self.message().is_some_and(|message| message.is(verb, device))
    }
}

impl Message {
    pub(super) fn is(&self, verb: &str, device: Option<&str>) -> bool {
        self.verb == verb && self.device.as_deref() == device
    }

    pub(super) fn is_birth(&self) -> bool {
        self.verb.ends_with("BIRTH")
    }

    pub(super) fn is_data(&self) -> bool {
        self.verb.ends_with("DATA")
    }

    /// Topic, place in the sequence and connection, to name it by.
    pub(super) fn name(&self) -> String {
        format!("{} seq {:?} of connection {}", self.publish.topic, self.payload.seq, self.connection)
    }

    #[track_caller]
    pub(super) fn metric(&self, name: &str) -> &Metric {
        let mut fits = self.payload.metrics.iter().filter(|metric| metric.name.as_deref() == Some(name));
        let (Some(metric), None) = (fits.next(), fits.next()) else {
            panic!("{}: not one metric {name}", self.name())
        };
        metric
    }

    /// The value of the metric bdSeq, which is an Int64 in `long_value`.
    #[track_caller]
    pub(super) fn bd_seq(&self) -> u64 {
        bd_seq(&self.payload)
    }
}

/// The value of the metric bdSeq, which is an Int64 in `long_value`.
#[track_caller]
pub(super) fn bd_seq(payload: &Payload) -> u64 {
    let metric = payload.metrics.iter().find(|metric| metric.name.as_deref() == Some("bdSeq")).unwrap();
    assert_eq!(metric.datatype, Some(4), "bdSeq is an Int64");
    let Some(metric::Value::LongValue(value)) = metric.value else { panic!("bdSeq {:?}", metric.value) };
    value
}

/// The quality that a metric says, which has type 3 and an `int_value`.
#[track_caller]
pub(super) fn quality(metric: &Metric) -> Option<u32> {
    let PropertyValue { r#type, value, .. } = property(metric, "Quality")?;
    assert_eq!(*r#type, Some(3), "Quality is an Int32");
    let Some(property_value::Value::IntValue(value)) = value else { panic!("Quality {value:?}") };
    Some(*value)
}

pub(super) fn property<'a>(metric: &'a Metric, key: &str) -> Option<&'a PropertyValue> {
    let set = metric.properties.as_ref()?;
    set.values.get(set.keys.iter().position(|known| known == key)?)
}

impl Log {
    /// All Sparkplug messages.
    pub(super) fn messages(&self) -> Vec<Message> {
        self.0.iter().filter_map(Entry::message).collect()
    }

    /// The messages from this mark on.
    pub(super) fn since(&self, mark: usize) -> Vec<Message> {
        self.0[mark..].iter().filter_map(Entry::message).collect()
    }

    /// The connections with a CONNECT.
    pub(super) fn sessions(&self) -> Vec<Session> {
        let connects = self.0.iter().filter_map(|entry| Some((entry.connection, entry.connect()?)));
        let session = |(connection, connect): (usize, &Connect)| {
            let mine = self.0.iter().filter(|entry| entry.connection == connection);
            let entries: Vec<Entry> = mine.cloned().collect();
            let disconnect = entries.iter().find_map(|entry| match entry.what {
                What::Said(Said::Disconnect { reason }) => Some(reason),
                _ => None,
            });
            let messages = entries.iter().filter_map(Entry::message).collect();
            Session { connect: connect.clone(), messages, disconnect, entries }
        };
        connects.map(session).collect()
    }

    /// The last of it, in words.
    pub(super) fn tail(&self) -> String {
        let mut text = String::new();
        for entry in self.0.iter().rev().take(30).rev() {
            let what = match (entry.message(), &entry.what) {
                (Some(message), _) => {
                    format!("{} with {} metrics", message.name(), message.payload.metrics.len())
                }
                (None, What::Said(Said::Publish(publish))) => publish.topic.clone(),
                (None, what) => format!("{what:?}"),
            };
            writeln!(text, "{} {}: {what}", entry.at_ms, entry.connection).unwrap();
        }
        text
    }
}
