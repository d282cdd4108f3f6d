//! What is to be asked of devices for one command, and what the answers must show. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::interlock;
use crate::config::site::{Interlock, Layout, ProbeTest, Registers, SAME, Site};
use crate::normalize::decode::decode_at;
use crate::normalize::recipe::{self, Known};
use crate::poll::lane::Job;
use crate::reading::{Quality, Value, is_near, whole_of};
use crate::scan::Data;
use crate::tag::{DeviceId, Span, TagId};

/// As [`SAME`], where one of the two has the 24 binary digits of a 32-bit float.
const SAME_FLOAT: f64 = 2e-7;
/// What was read right before the write counts for so long, or for so many of the longest timeout of the devices that
/// were asked: a slow line needs more.
const CHECKED_FOR: Duration = Duration::from_secs(2);
/// See [`CHECKED_FOR`].
const CHECKED_TIMEOUTS: u32 = 2;

/// What is to be asked, in this order.
#[derive(Debug)]
pub struct Plan {
    /// What is written.
    pub tag: TagId,
    /// Whose it is.
    pub device: DeviceId,
    /// Of each variant that the device may be of, what it must show right before; it must be one of them.
    pub variants: Vec<Vec<Check>>,
    /// What must hold right before.
    pub checks: Vec<Check>,
    /// The write.
    pub job: Job,
    /// It is not sent after this.
    pub send_by: Instant,
    /// What shows that it was done; `None`: the device's answer.
    pub readback: Option<Readback>,
}

impl Plan {
    /// Every device that is asked: while it is under way, nobody else may change what was read.
    #[must_use]
    pub fn devices(&self) -> BTreeSet<DeviceId> {
        devices(self.device, &self.checks, self.readback.as_ref())
    }

    fn all_checks(&self) -> impl Iterator<Item = &Check> {
        self.variants.iter().flatten().chain(&self.checks)
    }

    /// The last moment for the write, if the first check begins now.
    #[must_use]
    pub fn valid_until(&self, site: &Site, now: Instant) -> Instant {
        let reads = self.all_checks().flat_map(|check| &check.reads);
        let timeout =
            |(device, _): &(DeviceId, Span)| site.devices.get(device.index()).map(|device| device.timeout);
        let Some(longest) = reads.filter_map(timeout).max() else { return self.send_by };
        self.send_by.min(now + CHECKED_FOR.max(longest * CHECKED_TIMEOUTS))
    }
}

/// Whose registers are read or written.
pub(super) fn devices(of: DeviceId, checks: &[Check], readback: Option<&Readback>) -> BTreeSet<DeviceId> {
    let read = checks.iter().flat_map(|check| &check.reads).map(|(device, _)| *device);
    let others = read.chain(readback.map(|readback| readback.device));
    others.chain([of]).collect()
}

/// What is read right before the write, and what it must be.
#[derive(Debug)]
pub struct Check {
    /// What is read, of which device.
    pub reads: Vec<(DeviceId, Span)>,
    /// What it must be.
    pub rule: Rule,
}

/// What is read right before the write must be so.
#[derive(Debug)]
pub enum Rule {
    /// The device is what it is taken for.
    Probe(Layout, ProbeTest),
    /// The interlock holds.
    Interlock(Arc<Interlock>),
    /// The value now: the new one may differ from it by so much.
    Change {
        /// Where it is.
        layout: Layout,
        /// By how much.
        most: f64,
        /// The new one.
        wanted: f64,
    },
}

/// What is read after the write, and what it must be.
#[derive(Debug)]
pub struct Readback {
    /// The tag that shows it.
    pub tag: TagId,
    /// Of which device.
    pub device: DeviceId,
    /// What is read, and what is made of it.
    pub registers: Registers,
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
    /// The tags that a reason of this check tells something of; what is probed is no tag.
    #[must_use]
    pub fn about(&self) -> Vec<TagId> {
        match &self.rule {
            Rule::Interlock(interlock) => {
                let named = interlock.condition.inputs().iter().copied();
                interlock.reads.iter().copied().chain(named).collect::<BTreeSet<_>>().into_iter().collect()
            }
            Rule::Probe(..) | Rule::Change { .. } => Vec::new(),
        }
    }

    /// Whether what was read is as it must be; `answers` are those to its `reads`.
    ///
    /// # Errors
    /// Why not.
    pub fn judge(&self, site: &Site, answers: &[Data]) -> Result<(), String> {
        let decoded = |layout: &Layout| {
            answers.first().map_or(Err(Quality::BadNoCommunication), |data| decode_at(*layout, data, 0))
        };
        match &self.rule {
            Rule::Interlock(interlock) => interlock::judge(interlock, site, answers),
            Rule::Probe(layout, test) => {
                let span = layout.span;
                let value = decoded(layout).map_err(|quality| {
                    format!("the probe at {span} is {}: is it the right device?", quality.id())
                })?;
                if test.holds(&value) {
                    return Ok(());
                }
                Err(format!("the probe does not hold: {span} is {value}: is it the right device?"))
            }
            Rule::Change { layout, most, wanted } => {
                let value = decoded(layout)
                    .map_err(|quality| format!("max_change: the value now is {}", quality.id()))?;
                let now = value.decimal().unwrap_or(f64::NAN);
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
        let unknown = |_| Known { value: None, quality: Quality::BadNoCommunication, colour: Quality::Good };
        let value = recipe::make(&self.registers, data, 0, unknown).value;
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

/// Whether another tag shows what was written. A whole number beside one with a fraction is what that one rounds to.
fn is_shown(wanted: &Value, shown: &Value) -> bool {
    let (Some(a), Some(b)) = (wanted.decimal(), shown.decimal()) else { return wanted.is_same(shown) };
    let is_float = |value: &Value| matches!(value, Value::Float(_));
    let slack = if is_float(wanted) || is_float(shown) { SAME_FLOAT } else { SAME };
    match (wanted.whole(), shown.whole()) {
        (Some(wanted), Some(shown)) => wanted == shown,
        (Some(whole), None) => whole_of(b.round()) == Some(whole) && is_near(a, b, slack),
        (None, Some(whole)) => whole_of(a.round()) == Some(whole) && is_near(a, b, slack),
        (None, None) => is_near(a, b, slack),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::site::Operand;

    #[test]
    fn a_whole_number_is_equal_to_itself_and_to_no_neighbour() {
        let is = |operand: f64, value: &Value| Operand::Number(operand).is(value);
        for serial in [0_u32, 1, 7, 16_777_217, 4_000_000_000, u32::MAX - 1] {
            let (this, next) = (f64::from(serial), f64::from(serial + 1));
            assert!(is(this, &Value::UInt(serial.into())) && is(this, &Value::Int(serial.into())));
            assert!(!is(this, &Value::UInt(u64::from(serial) + 1)) && !is(next, &Value::UInt(serial.into())));
        }
        assert!(!is(0.25, &Value::UInt(0)) && !is(7.000_000_001, &Value::UInt(7)));
        assert!(is(-5.0, &Value::Int(-5)) && !is(-5.0, &Value::UInt(5)));
        // beyond 2^53 a double cannot tell neighbours apart
        assert!(!is(9_007_199_254_740_991.0, &Value::UInt(9_007_199_254_740_992)));
    }

    #[test]
    fn a_number_with_a_fraction_is_equal_up_to_its_last_digits() {
        let is = |operand: f64, value: Value| Operand::Number(operand).is(&value);
        assert!(is(0.3, Value::Double(0.1 + 0.2)) && is(0.3, Value::Float(0.3)));
        assert!(is(0.0, Value::Double(0.0)) && is(0.0, Value::Double(-0.0)));
        assert!(!is(0.0, Value::Double(1e-10)) && !is(1e-12, Value::Double(2e-12)));
        assert!(!is(50.0, Value::Double(50.000_001)) && !is(f64::NAN, Value::Double(f64::NAN)));
    }

    #[test]
    fn another_tag_shows_a_whole_number_only_if_it_is_the_same_one() {
        let shows = |wanted, shown| is_shown(&wanted, &shown);
        assert!(shows(Value::UInt(4_000_000_000), Value::Int(4_000_000_000)));
        assert!(!shows(Value::UInt(4_000_000_000), Value::UInt(4_000_000_001)));
        assert!(!shows(Value::UInt(u64::MAX), Value::UInt(u64::MAX - 1)));
        assert!(
            shows(Value::Int(25), Value::Double(0.1 * 250.0))
                && shows(Value::Double(30.000_000_000_000_004), Value::Int(30))
        );
        assert!(!shows(Value::UInt(16_777_217), Value::Float(16_777_216.0)));
        assert!(!shows(Value::Double(4_000_000_000.0), Value::UInt(4_000_000_001)));
        assert!(
            shows(Value::Double(0.3), Value::Float(0.3))
                && !shows(Value::Double(0.3), Value::Float(0.300_001))
        );
        assert!(!shows(Value::Double(3_000_000.0), Value::Double(3_000_001.0)));
        assert!(shows(Value::Bool(true), Value::Bool(true)) && !shows(Value::Bool(true), Value::UInt(1)));
    }
}
