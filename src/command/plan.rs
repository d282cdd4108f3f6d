//! What is to be asked of devices for one command, and what the answers must show. Pure.

use std::time::Instant;

use super::encode::number;
use crate::config::site::{Condition, Layout, Operand, ProbeTest};
use crate::normalize::decode::decode_at;
use crate::poll::lane::Job;
use crate::reading::Value;
use crate::scan::Data;
use crate::tag::{DeviceId, TagId};

/// Numbers that differ by less than this part of them, or of 1, are the same.
const SAME: f64 = 1e-9;
/// The same between two tags, which may hold a value with different precision.
const SAME_SHOWN: f64 = 1e-6;

/// What is to be asked, in this order.
#[derive(Debug)]
pub struct Plan {
    /// What is written.
    pub tag: TagId,
    /// Whose it is.
    pub device: DeviceId,
    /// What must hold right before.
    pub checks: Vec<Check>,
    /// The write.
    pub job: Job,
    /// It is not sent after this.
    pub send_by: Instant,
    /// What shows that it was done; `None`: the device's answer.
    pub readback: Option<Readback>,
}

/// A value that is read right before the write, and what it must be.
#[derive(Debug)]
pub struct Check {
    /// Of which device.
    pub device: DeviceId,
    /// What is read.
    pub layout: Layout,
    /// What it must be.
    pub rule: Rule,
}

/// What a value that was read right before the write must be.
#[derive(Debug)]
pub enum Rule {
    /// The device is what it is taken for.
    Probe(ProbeTest),
    /// The interlock: of the tag with this name.
    Interlock(String, Condition),
    /// The value now: the new one may differ from it by so much.
    Change {
        /// By how much.
        most: f64,
        /// The new one.
        wanted: f64,
    },
}

/// What is read after the write, and what it must be.
#[derive(Debug)]
pub struct Readback {
    /// Of which device.
    pub device: DeviceId,
    /// What is read.
    pub layout: Layout,
    /// What it must be.
    pub wanted: Wanted,
}

/// What must be read after a write.
#[derive(Debug)]
pub enum Wanted {
    /// The very registers or bits.
    Data(Data),
    /// This value.
    Value(Value),
}

impl Check {
    /// Whether what was read is as it must be.
    ///
    /// # Errors
    /// Why not.
    pub fn judge(&self, data: &Data) -> Result<(), String> {
        let value = decode_at(self.layout, data, 0);
        match &self.rule {
            Rule::Probe(test) => {
                let value = value.map_err(|quality| {
                    format!("the probe at {} is {}: is it the right device?", self.layout.span, quality.id())
                })?;
                if passes(test, &value) {
                    return Ok(());
                }
                Err(format!(
                    "the probe does not hold: {} is {value}: is it the right device?",
                    self.layout.span
                ))
            }
            Rule::Interlock(name, condition) => {
                let value = value.map_err(|quality| format!("interlock: `{name}` is {}", quality.id()))?;
                if is_equal(&condition.operand, &value) == condition.is {
                    return Ok(());
                }
                let sign = if condition.is { "==" } else { "!=" };
                Err(format!("interlock: `{name}` must be {sign} {}, and is {value}", condition.operand))
            }
            Rule::Change { most, wanted } => {
                let value =
                    value.map_err(|quality| format!("max_change: the value now is {}", quality.id()))?;
                let now = decimal(&value).unwrap_or(f64::NAN);
                let change = (wanted - now).abs();
                if change <= most * (1.0 + SAME) {
                    return Ok(());
                }
                Err(format!("max_change: from {now} to {wanted} is more than {most}"))
            }
        }
    }
}

impl Readback {
    /// Whether the device has what was written; else what it has.
    ///
    /// # Errors
    /// What was read instead.
    pub fn judge(&self, data: &Data) -> Result<(), String> {
        let value = decode_at(self.layout, data, 0);
        let is_so = match &self.wanted {
            Wanted::Data(wanted) => data == wanted,
            Wanted::Value(wanted) => value.as_ref().is_ok_and(|value| is_shown(wanted, value)),
        };
        if is_so {
            return Ok(());
        }
        Err(value.map_or_else(|quality| quality.id().to_owned(), |value| value.to_string()))
    }
}

/// A number as people write it: of a 32-bit float those decimals that it is shown with.
#[must_use]
pub fn decimal(value: &Value) -> Option<f64> {
    if let Value::Float(float) = value {
        return float.to_string().parse().ok();
    }
    number(value).ok()
}

fn is_near(a: f64, b: f64, slack: f64) -> bool {
    (a - b).abs() <= slack * b.abs().max(1.0)
}

fn is_equal(operand: &Operand, value: &Value) -> bool {
    match (operand, value) {
        (Operand::Flag(wanted), Value::Bool(value)) => wanted == value,
        (Operand::Word(wanted), Value::Text(value)) => **wanted == **value,
        (Operand::Number(wanted), value) => decimal(value).is_some_and(|value| is_near(value, *wanted, SAME)),
        _ => false,
    }
}

fn passes(test: &ProbeTest, value: &Value) -> bool {
    match test {
        ProbeTest::Between(low, high) => decimal(value).is_some_and(|value| (*low..=*high).contains(&value)),
        ProbeTest::Equals(operand) => is_equal(operand, value),
        ProbeTest::Matches(pattern) => {
            matches!(value, Value::Text(text) if pattern.is_match(text.as_bytes()))
        }
    }
}

/// Whether another tag shows what was written.
fn is_shown(wanted: &Value, value: &Value) -> bool {
    match (decimal(wanted), decimal(value)) {
        (Some(wanted), Some(value)) => is_near(value, wanted, SAME_SHOWN),
        _ => wanted.is_same(value),
    }
}
