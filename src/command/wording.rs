//! Requests and outcomes as text: records, replies, exceptions in words, values as people type them. Pure.

use serde_json::{Value as Json, json};
use tokio_modbus::ExceptionCode;

use crate::config::site::Tag;
use crate::driver::Answer;
use crate::reading::{Timestamp, Value};
use crate::scan::Data;
use crate::tag::{DataType, ValueType};
use crate::write::{Outcome, Requester, WriteRequest, WriteResult};

/// What a device's "no" means (Modbus V1.1b3, 7).
#[must_use]
pub fn exception(code: ExceptionCode) -> String {
    let words = match code {
        ExceptionCode::IllegalFunction => "it has no such function (exception 1)",
        ExceptionCode::IllegalDataAddress => "it has no such register (exception 2)",
        ExceptionCode::IllegalDataValue => "it does not take this value (exception 3)",
        ExceptionCode::ServerDeviceFailure => "it has failed (exception 4)",
        ExceptionCode::Acknowledge => "it has taken it and is still at work (exception 5)",
        ExceptionCode::ServerDeviceBusy => "it is busy (exception 6)",
        ExceptionCode::MemoryParityError => "its memory has a fault (exception 8)",
        ExceptionCode::GatewayPathUnavailable => "the gateway before it has no way to it (exception 0A)",
        ExceptionCode::GatewayTargetDevice => "the gateway before it got no answer (exception 0B)",
        ExceptionCode::Custom(code) => return format!("it says no (exception {code:02X})"),
    };
    words.to_owned()
}

/// The registers or bits of an answer to a read.
///
/// # Errors
/// The device's "no", in words.
pub fn data(answer: Answer) -> Result<Data, String> {
    match answer {
        Answer::Response(_) | Answer::Values(_) => {
            answer.into_data().ok_or_else(|| "it answers something else".to_owned())
        }
        Answer::Exception(code) => Err(exception(code)),
        Answer::Absent => Err("it says that there is no such thing".to_owned()),
        Answer::Denied(quality) => Err(format!("it says no: {}", quality.id())),
        Answer::Unanswered => Err("nobody answers that".to_owned()),
    }
}

/// Who it is, in a word and a name.
fn who(by: &Requester) -> String {
    match by {
        Requester::Uplink(name) => format!("uplink {name}"),
        Requester::Local(name) => format!("user {name}"),
    }
}

/// The record of something that is about to be written.
#[must_use]
pub fn wanted_record(request: &WriteRequest, at: Timestamp) -> String {
    let told = request.outcome(WriteResult::Unclear, "", at);
    record(&told, "wanted", 0)
}

/// The record of what became of it; `unrecorded` refusals before it were not recorded.
#[must_use]
pub fn outcome_record(outcome: &Outcome, unrecorded: u64) -> String {
    record(outcome, outcome.result.word(), unrecorded)
}

fn record(outcome: &Outcome, event: &str, unrecorded: u64) -> String {
    let mut record = json!({
        "at_ms": outcome.at.millis(),
        "id": outcome.id,
        "by": who(&outcome.by),
        "device": outcome.device,
        "tag": outcome.tag,
        "value": outcome.value.as_ref().map(Value::json),
        "event": event,
        "reason": outcome.reason,
    });
    if unrecorded > 0
        && let Some(object) = record.as_object_mut()
    {
        object.insert("unrecorded".to_owned(), Json::from(unrecorded));
    }
    record.to_string()
}

/// The time that is told to all meters which hear what one of them hears.
#[derive(Clone, Debug)]
pub struct Broadcast<'a> {
    /// What tells it from every other.
    pub id: String,
    /// The link, by name.
    pub link: &'a str,
    /// The meter that stands for all, by name.
    pub device: &'a str,
    /// The time of day at which it is to be.
    pub time: &'a str,
}

impl Broadcast<'_> {
    /// The record of it, or of what became of it.
    #[must_use]
    pub fn record(&self, event: &str, reason: &str, at: Timestamp) -> String {
        json!({
            "at_ms": at.millis(),
            "id": self.id,
            "by": "broadcast_time",
            "link": self.link,
            "device": self.device,
            "tag": Json::Null,
            "value": self.time,
            "event": event,
            "reason": reason,
        })
        .to_string()
    }
}

/// What whoever asked at `control.sock` is answered.
#[must_use]
pub fn reply(outcome: &Outcome) -> String {
    json!({
        "id": outcome.id,
        "device": outcome.device,
        "tag": outcome.tag,
        "value": outcome.value.as_ref().map(Value::json),
        "result": outcome.result.word(),
        "reason": outcome.reason,
    })
    .to_string()
}

/// The value that a person typed for `tag`.
///
/// # Errors
/// What the tag takes instead.
pub fn parse_value(tag: &Tag, text: &str) -> Result<Value, String> {
    let wrong = |wanted: &str| format!("wrong type: tag `{}` takes {wanted}, got \"{text}\"", tag.name);
    match tag.value_type {
        ValueType::Bool => match text {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err(wrong("true or false")),
        },
        ValueType::Integer(
            DataType::U16 | DataType::U32 | DataType::U48 | DataType::U64 | DataType::Bcd { .. },
        ) if !text.starts_with('-') => text.parse().map(Value::UInt).map_err(|_| wrong("a whole number")),
        ValueType::Integer(_) => text.parse().map(Value::Int).map_err(|_| wrong("a whole number")),
        ValueType::Float | ValueType::Double => match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Value::Double(number)),
            _ => Err(wrong("a number")),
        },
        ValueType::Text if tag.recipe().is_some_and(|recipe| recipe.words.is_some()) => {
            Ok(Value::Text(text.into()))
        }
        ValueType::Text if tag.control().is_some() => Ok(Value::Text(text.into())),
        ValueType::Text => Err(format!("tag `{}` is a string, and strings are not written", tag.name)),
        ValueType::Time => Err(format!("tag `{}` is a time, and times are not written", tag.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_says_who_wanted_what_when_and_what_became_of_it() {
        let request = WriteRequest {
            id: "7".to_owned(),
            device: "oven".to_owned(),
            tag: "sp".to_owned(),
            tag_id: None,
            value: Some(Value::Double(250.5)),
            by: Requester::Uplink("cloud".into()),
            sent_at: None,
            received_at: Timestamp::from_millis(5),
            session_since: Timestamp::from_millis(0),
            is_retained: false,
        };
        let at = Timestamp::from_millis(1_764_000_000_123);
        assert_eq!(
            wanted_record(&request, at),
            r#"{"at_ms":1764000000123,"by":"uplink cloud","device":"oven","event":"wanted","id":"7","reason":"","tag":"sp","value":250.5}"#
        );
        let request = WriteRequest { by: Requester::Local("root".to_owned()), value: None, ..request };
        let refused = request.outcome(WriteResult::Refused, "a \"b\"\n", at);
        let record = outcome_record(&refused, 3);
        assert_eq!(
            record,
            r#"{"at_ms":1764000000123,"by":"user root","device":"oven","event":"refused","id":"7","reason":"a \"b\"\n","tag":"sp","unrecorded":3,"value":null}"#
        );
        assert_eq!(record.lines().count(), 1);
    }
}
