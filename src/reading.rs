//! What a tag was, when, and how far to trust it: the vocabulary that every stage speaks.

mod quality;

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use crate::tag::{DeviceId, TagId};
pub use quality::{Ne107, Quality};

/// One value of a tag.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A coil, a discrete input or one bit of a register.
    Bool(bool),
    /// A signed integer without a scale.
    Int(i64),
    /// An unsigned integer without a scale.
    UInt(u64),
    /// A 32-bit float without a scale.
    Float(f32),
    /// A 64-bit float, and any number with a scale or an offset.
    Double(f64),
    /// A string.
    Text(Arc<str>),
    /// A date and time that the device tells.
    Time(Timestamp),
}

impl Value {
    /// Whether two values are the same to whoever reads them: of one kind, and equal bit for bit.
    #[must_use]
    pub fn is_same(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
            (Value::Double(a), Value::Double(b)) => a.to_bits() == b.to_bits(),
            (a, b) => a == b,
        }
    }
}

impl Value {
    /// A number as a float, which is exact up to 2^53; `None` for what is none.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "said in the documentation")]
    pub fn number(&self) -> Option<f64> {
        match self {
            Value::Int(value) => Some(*value as f64),
            Value::UInt(value) => Some(*value as f64),
            Value::Float(value) => Some((*value).into()),
            Value::Double(value) => Some(*value),
            Value::Bool(_) | Value::Text(_) | Value::Time(_) => None,
        }
    }

    /// A number as people write it: of a 32-bit float those decimals that it is shown with; `None` for what is no finite
    /// number.
    #[must_use]
    pub fn decimal(&self) -> Option<f64> {
        let shown = match self {
            Value::Float(float) => float.to_string().parse().ok(),
            Value::Int(_)
            | Value::UInt(_)
            | Value::Double(_)
            | Value::Bool(_)
            | Value::Text(_)
            | Value::Time(_) => self.number(),
        };
        shown.filter(|number: &f64| number.is_finite())
    }

    /// The whole number of an integer.
    #[must_use]
    pub const fn whole(&self) -> Option<i128> {
        match self {
            Value::Int(whole) => Some(*whole as i128),
            Value::UInt(whole) => Some(*whole as i128),
            Value::Float(_) | Value::Double(_) | Value::Bool(_) | Value::Text(_) | Value::Time(_) => None,
        }
    }

    /// As JSON has it; a float with the decimals that it is shown with, one that is not finite and a time as text.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        match self {
            Value::Bool(value) => (*value).into(),
            Value::Int(value) => (*value).into(),
            Value::UInt(value) => (*value).into(),
            Value::Float(value) if value.is_finite() => {
                value.to_string().parse::<f64>().map_or_else(|_| f64::from(*value).into(), Into::into)
            }
            Value::Double(value) if value.is_finite() => (*value).into(),
            Value::Float(_) | Value::Double(_) | Value::Time(_) => self.to_string().into(),
            Value::Text(text) => text.to_string().into(),
        }
    }
}

/// Whole numbers below this are exact in a double: 2^53.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// The whole number that a double is, if it is one and exact.
#[must_use]
pub fn whole_of(double: f64) -> Option<i128> {
    let is_whole = double.abs() < EXACT_MAX && (double.trunc() - double).abs() <= 0.0;
    #[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^53")]
    is_whole.then_some(double as i128)
}

/// Whether two numbers differ by no more than this part of the greater one.
#[must_use]
pub fn is_near(a: f64, b: f64, slack: f64) -> bool {
    (a - b).abs() <= slack * a.abs().max(b.abs())
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Bool(v) => v.fmt(f),
            Value::Int(v) => v.fmt(f),
            Value::UInt(v) => v.fmt(f),
            Value::Float(v) => v.fmt(f),
            Value::Double(v) => v.fmt(f),
            Value::Text(v) => v.fmt(f),
            Value::Time(v) => v.fmt(f),
        }
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The time `millis` milliseconds after the epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Timestamp {
        Timestamp(millis)
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0
    }
}

/// The last millisecond that the notation of RFC 3339 has: of the year 9999.
const MILLIS_MAX: u64 = 253_402_300_799_999;

impl std::fmt::Display for Timestamp {
    /// In UTC, in the notation of RFC 3339: `2026-11-26T15:04:05.678Z`; later than the year 9999 as its last millisecond.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let since = Duration::from_millis(self.0.min(MILLIS_MAX));
        humantime::format_rfc3339_millis(UNIX_EPOCH + since).fmt(f)
    }
}

/// When something happened, by the clock that could be told then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamp {
    /// By the wall clock.
    Wall(Timestamp),
    /// Milliseconds since the machine was started: its wall clock was not to be trusted yet.
    SinceBoot(u64),
}

impl Stamp {
    /// The wall time, where the machine's start has one: `booted_at`.
    #[must_use]
    pub fn wall(self, booted_at: Option<Timestamp>) -> Option<Timestamp> {
        match self {
            Stamp::Wall(at) => Some(at),
            Stamp::SinceBoot(millis) => {
                booted_at.map(|boot| Timestamp::from_millis(boot.millis().saturating_add(millis)))
            }
        }
    }

    /// The same, by the wall clock where that can be told.
    #[must_use]
    pub fn settled(self, booted_at: Option<Timestamp>) -> Stamp {
        self.wall(booted_at).map_or(self, Stamp::Wall)
    }
}

/// A tag's value at a time, with its quality.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Whose.
    pub tag: TagId,
    /// What; `None` where the quality allows none.
    pub value: Option<Value>,
    /// How far to trust it.
    pub quality: Quality,
    /// When the last byte of the reply came; for a quality that is not good, when the gateway found out
    /// (as OPC UA Part 4, 7.11.3 has it for the source timestamp).
    pub at: Stamp,
}

/// What normalising hands on to the uplinks, in the order in which it happened.
#[derive(Clone, Debug)]
pub enum Update {
    /// Readings that are worth reporting.
    Readings(Arc<[Reading]>),
    /// The device answers; its readings came before this.
    DeviceUp(DeviceId),
    /// The device has fallen silent.
    DeviceDown(DeviceId, Stamp),
}
