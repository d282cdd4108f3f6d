//! Commands to devices: a DCMD becomes requests to write (Sparkplug 3.0.0, 6.4.26 and 6.4.27). Pure.
//!
//! Whether anything of it is allowed is decided elsewhere; garbage becomes a refusal.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prost::Message as _;
use tracing::info;

use super::payload::{Datatype, Form};
use super::proto::Payload;
use super::proto::payload::{Metric, metric};
use crate::config::site::{Device, Shared, Site, Tag};
use crate::reading::{Timestamp, Value};
use crate::write::{ID_MAX, Outcome, Requester, WriteRequest, WriteResult};

/// The most metrics in one command; one with more is refused whole.
pub const METRICS_MAX: usize = 16;
/// The most bytes of one; a longer one is not decoded.
pub const SIZE_MAX: usize = 64 << 10;
/// Refusals made here are said in the log so often at most, in milliseconds.
const SAY_EVERY_MS: u64 = 1000;
/// Names and texts of a command are told again up to so many bytes.
const TEXT_MAX: usize = 256;

/// Where a command came from.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The site that it is for.
    pub site: &'a Site,
    /// What this uplink may have of it: the rest is not there for its hosts.
    pub shared: &'a Shared,
    /// How this uplink names and types its metrics.
    pub form: Form,
    /// The uplink.
    pub uplink: &'a Arc<str>,
    /// Since when its session lasts.
    pub session_since: Timestamp,
    /// Now.
    pub received_at: Timestamp,
    /// The broker had kept it.
    pub is_retained: bool,
}

/// What a command on `topic` for the device called `device` wants written: one request a metric.
///
/// # Errors
/// The refusal, where it is none, or wants too much.
pub fn write_requests(
    origin: Origin<'_>,
    topic: &str,
    device: &str,
    payload: &[u8],
) -> Result<Vec<WriteRequest>, Box<Outcome>> {
    let blank = WriteRequest {
        id: cut(topic, ID_MAX),
        device: cut(device, TEXT_MAX),
        tag: String::new(),
        tag_id: None,
        value: None,
        by: Requester::Uplink(origin.uplink.clone()),
        sent_at: None,
        received_at: origin.received_at,
        session_since: origin.session_since,
        is_retained: origin.is_retained,
    };
    let refused = |reason: String| {
        say_refused(&blank, &reason);
        Box::new(blank.outcome(WriteResult::Refused, reason, origin.received_at))
    };
    if payload.len() > SIZE_MAX {
        return Err(refused(format!(
            "{} bytes in one command: at most {SIZE_MAX} are possible",
            payload.len()
        )));
    }
    let Ok(payload) = Payload::decode(payload) else {
        return Err(refused("not a payload of Sparkplug B".to_owned()));
    };
    let count = payload.metrics.len();
    if !(1..=METRICS_MAX).contains(&count) {
        return Err(refused(format!("{count} metrics in one command: 1 to {METRICS_MAX} are possible")));
    }
    let known = origin.site.devices.iter().find(|known| *known.name == *device);
    let request = |(index, metric): (usize, &Metric)| {
        let sent_at = payload.timestamp.or(metric.timestamp);
        let number = if count > 1 { format!("#{index}") } else { String::new() };
        let id = match payload.uuid.as_deref().filter(|uuid| !uuid.is_empty()) {
            Some(uuid) => uuid.to_owned(),
            None => format!("{topic}@{}", sent_at.unwrap_or_default()),
        };
        let named = WriteRequest {
            id: cut(&id, ID_MAX + 1) + &number,
            sent_at: sent_at.map(Timestamp::from_millis),
            ..blank.clone()
        };
        filled(origin, known, metric, named)
    };
    let requests: Vec<WriteRequest> = payload.metrics.iter().enumerate().map(request).collect();
    let mut tags = BTreeSet::new();
    // with `arm` the one would arm the other
    if let Some(twice) = requests.iter().find(|request| request.tag_id.is_some_and(|tag| !tags.insert(tag))) {
        return Err(refused(format!("tag `{}` is named twice in one command", twice.tag)));
    }
    Ok(requests)
}

/// Says a refusal that reaches no record, unless one was said a moment ago.
fn say_refused(request: &WriteRequest, reason: &str) {
    static SAID_MS: AtomicU64 = AtomicU64::new(0);
    let now = request.received_at.millis();
    if now.abs_diff(SAID_MS.load(Ordering::Relaxed)) >= SAY_EVERY_MS {
        SAID_MS.store(now, Ordering::Relaxed);
        info!(device = request.device, reason, "command refused");
    }
}

/// `request` with the tag and the value of `metric`.
fn filled(
    origin: Origin<'_>,
    device: Option<&Device>,
    metric: &Metric,
    request: WriteRequest,
) -> WriteRequest {
    let is_shared = |tag: &&Tag| origin.shared.has_tag(tag.id);
    let mut tags = device.map_or(&[][..], |device| origin.site.tags_of(device)).iter().filter(is_shared);
    let tag = match (&metric.name, metric.alias) {
        (Some(name), _) => tags.find(|tag| *tag.name == **name),
        (None, Some(alias)) => tags.find(|tag| origin.form.alias(tag) == Some(alias)),
        (None, None) => None,
    };
    let datatype = metric.datatype.or(tag.map(|tag| Datatype::of(tag, origin.form.types).code()));
    let alias = || metric.alias.map(|alias| format!("alias {alias}")).unwrap_or_default();
    WriteRequest {
        tag: tag
            .map(|tag| tag.name.to_string())
            .or(metric.name.as_deref().map(|name| cut(name, TEXT_MAX)))
            .unwrap_or_else(alias),
        tag_id: tag.map(|tag| tag.id),
        value: if metric.is_null == Some(true) { None } else { value(metric.value.as_ref(), datatype) },
        ..request
    }
}

/// The value in the field that belongs to the datatype with this number (6.4.16); `None` where it is in another one, or
/// does not fit.
///
/// Signed numbers are two's complement in an unsigned field, of 8 and 16 bits with the sign in all 32 bits or not; a
/// number of up to 32 bits may also come in the field for 64.
fn value(value: Option<&metric::Value>, datatype: Option<u32>) -> Option<Value> {
    use metric::Value::{BooleanValue, DoubleValue, FloatValue, IntValue, LongValue, StringValue};
    let bits = |datatype: u32| match datatype {
        1 | 5 => 8,
        2 | 6 => 16,
        3 | 7 => 32,
        _ => 64,
    };
    Some(match (datatype?, value?) {
        (small @ 1..=3, IntValue(raw)) => Value::Int(signed(*raw, bits(small))?),
        (small @ 1..=3, LongValue(raw)) => {
            Value::Int(Some(raw.cast_signed()).filter(|number| fits(*number, bits(small)))?)
        }
        (4, LongValue(raw)) => Value::Int(raw.cast_signed()),
        // whether its highest bit is a sign cannot be told
        (4, IntValue(raw)) => Value::Int(Some(i64::from(*raw)).filter(|_| raw.cast_signed() >= 0)?),
        (small @ 5..=7, IntValue(raw)) => unsigned(u64::from(*raw), bits(small))?,
        (small @ 5..=7, LongValue(raw)) => unsigned(*raw, bits(small))?,
        (8 | 13, LongValue(raw)) => Value::UInt(*raw),
        (8 | 13, IntValue(raw)) => Value::UInt(u64::from(*raw)),
        (9 | 10, FloatValue(number)) => Value::Float(*number),
        (9 | 10, DoubleValue(number)) => Value::Double(*number),
        (11, BooleanValue(flag)) => Value::Bool(*flag),
        (12 | 14, StringValue(text)) => Value::Text(cut(text, TEXT_MAX).into()),
        _ => return None,
    })
}

/// Whether `number` is a signed number of `bits` bits.
const fn fits(number: i64, bits: u32) -> bool {
    let spare = i64::BITS - bits;
    (number << spare) >> spare == number
}

/// `raw` as a signed number of `bits` bits, its sign in the higher bits or not.
fn signed(raw: u32, bits: u32) -> Option<i64> {
    let extended = i64::from(raw.cast_signed());
    if fits(extended, bits) {
        return Some(extended);
    }
    let spare = i64::BITS - bits;
    let is_short = u64::from(raw) >> bits == 0;
    is_short.then(|| (u64::from(raw) << spare).cast_signed() >> spare)
}

fn unsigned(raw: u64, bits: u32) -> Option<Value> {
    (raw >> bits == 0).then_some(Value::UInt(raw))
}

/// The beginning of `text`, of at most `most` bytes.
fn cut(text: &str, most: usize) -> String {
    let end =
        text.char_indices().map(|(at, char)| at + char.len_utf8()).take_while(|end| *end <= most).last();
    text.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
