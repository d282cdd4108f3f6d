//! What messages look like (docs/json.md, docs/json-schema.json).

use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};

use crate::config::site::Tag;
use crate::outbox::Lost;
use crate::reading::{Quality, Reading, Timestamp, Value};

/// The largest whole number that every consumer of JSON reads exactly, and its negative the smallest (RFC 7493, 2.2).
const EXACT_MAX: u64 = (1 << 53) - 1;
/// The last millisecond that the notation of RFC 3339 has: of the year 9999.
const MILLIS_MAX: u64 = 253_402_300_799_999;
/// What a reading takes beside name, unit and text: the names of its fields, time, quality and number.
const READING_SIZE: usize = 160;
/// What a byte of text takes at most: a control character is `\u001f`.
const ESCAPED_SIZE: usize = 6;

/// About how many bytes a reading of `tag` takes, and not fewer.
pub(super) fn reading_size(tag: &Tag, reading: &Reading) -> usize {
    let text = match &reading.value {
        Some(Value::Text(text)) => text.len() * ESCAPED_SIZE,
        _ => 0,
    };
    READING_SIZE + tag.name.len() + text
}

/// Whether the time can be written.
pub(super) fn is_writable(at: Timestamp) -> bool {
    at.millis() <= MILLIS_MAX
}

/// A time as `2026-11-26T15:04:05.678Z`.
struct Time(Timestamp);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let since = Duration::from_millis(self.0.millis().min(MILLIS_MAX));
        to.collect_str(&humantime::format_rfc3339_millis(UNIX_EPOCH + since))
    }
}

/// A value as JSON has it. A whole number that not every consumer reads exactly is text.
struct Shown<'a>(&'a Value);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Bool(value) => to.serialize_bool(*value),
            Value::Int(value) if value.unsigned_abs() > EXACT_MAX => to.collect_str(value),
            Value::Int(value) => to.serialize_i64(*value),
            Value::UInt(value) if *value > EXACT_MAX => to.collect_str(value),
            Value::UInt(value) => to.serialize_u64(*value),
            Value::Float(value) => to.serialize_f32(*value),
            Value::Double(value) => to.serialize_f64(*value),
            Value::Text(text) => to.serialize_str(text),
            Value::Time(at) => to.collect_str(at),
        }
    }
}

fn is_no(is: &bool) -> bool {
    !is
}

/// A reading of one tag.
#[derive(Serialize)]
struct One<'a> {
    timestamp: Time,
    value: Option<Shown<'a>>,
    quality: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'static str>,
    #[serde(skip_serializing_if = "is_no")]
    historical: bool,
}

impl<'a> One<'a> {
    fn new(told: &Told<'a>, historical: bool) -> One<'a> {
        let Told { tag, reading, at } = *told;
        let (value, quality) = match &reading.value {
            // JSON has no such number: it would become a null that claims to be good
            Some(value) if !is_finite(value) => (None, worse(reading.quality)),
            value => (value.as_ref().map(Shown), reading.quality),
        };
        let unit = tag.unit.map(|unit| unit.written);
        One { timestamp: Time(at), value, quality: quality.id(), unit, historical }
    }
}

fn is_finite(value: &Value) -> bool {
    match value {
        Value::Float(value) => value.is_finite(),
        Value::Double(value) => value.is_finite(),
        Value::Bool(_) | Value::Int(_) | Value::UInt(_) | Value::Text(_) | Value::Time(_) => true,
    }
}

fn worse(quality: Quality) -> Quality {
    if quality.is_good() { Quality::BadSensorFailure } else { quality }
}

/// A reading to be told, and whose it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told<'a> {
    pub(super) tag: &'a Tag,
    pub(super) reading: &'a Reading,
    /// The reading's time by the wall clock.
    pub(super) at: Timestamp,
}

/// A message with a reading of one tag.
pub(super) fn of_tag(told: &Told<'_>, is_historical: bool) -> Vec<u8> {
    bytes(&One::new(told, is_historical))
}

/// Readings of a device by the names of their tags, in their order.
struct Tags<'a>(&'a [Told<'a>]);

impl Serialize for Tags<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.0.len()))?;
        for told in self.0 {
            map.serialize_entry(&*told.tag.name, &One::new(told, false))?;
        }
        map.end()
    }
}

/// A message with readings of one device, at most one of each tag; its time is that of the newest.
pub(super) fn of_device(device: &str, told: &[Told<'_>], is_historical: bool) -> Vec<u8> {
    #[derive(Serialize)]
    struct Message<'a> {
        timestamp: Time,
        device: &'a str,
        tags: Tags<'a>,
        #[serde(skip_serializing_if = "is_no")]
        historical: bool,
    }
    let newest = told.iter().map(|told| told.at).max().unwrap_or_default();
    bytes(&Message { timestamp: Time(newest), device, tags: Tags(told), historical: is_historical })
}

/// Whether a device answers; `since`: since when, where that is known.
pub(super) fn of_device_status(online: bool, since: Option<Timestamp>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Message {
        online: bool,
        since: Option<Time>,
    }
    bytes(&Message { online, since: since.map(Time) })
}

/// The gateway is gone, whose session this was.
pub(super) fn of_gateway_gone(session: u8) -> Vec<u8> {
    #[derive(Serialize)]
    struct Message {
        online: bool,
        session: u8,
    }
    bytes(&Message { online: false, session })
}

/// What the gateway says of itself.
#[derive(Debug)]
pub(super) struct About<'a> {
    /// The number of the session, which the word of its end repeats.
    pub(super) session: u8,
    /// When it began.
    pub(super) since: Timestamp,
    pub(super) readings_lost: u64,
    pub(super) last_gap: Option<&'a Lost>,
    /// What is wrong with the store.
    pub(super) alarm: Option<&'static str>,
}

/// The gateway is there.
pub(super) fn of_gateway(about: &About<'_>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Gap {
        readings: u64,
        from: Option<Time>,
        to: Option<Time>,
        reason: &'static str,
    }
    #[derive(Serialize)]
    struct Message {
        online: bool,
        session: u8,
        since: Time,
        version: &'static str,
        readings_lost: u64,
        last_gap: Option<Gap>,
        store: &'static str,
    }
    let gap = |lost: &Lost| Gap {
        readings: lost.count,
        from: lost.from.map(Time),
        to: lost.to.map(Time),
        reason: lost.reason,
    };
    bytes(&Message {
        online: true,
        session: about.session,
        since: Time(about.since),
        version: env!("CARGO_PKG_VERSION"),
        readings_lost: about.readings_lost,
        last_gap: about.last_gap.map(gap),
        store: about.alarm.unwrap_or("ok"),
    })
}

fn bytes(message: &impl Serialize) -> Vec<u8> {
    #[expect(
        clippy::expect_used,
        reason = "writing to memory fails only for keys that are no text; all here are text"
    )]
    serde_json::to_vec(message).expect("all keys are text")
}
