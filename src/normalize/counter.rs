//! The total of a counter that wraps, is reset, or belongs to a device that was replaced. Pure.
//!
//! The total never falls, and is never raised by what cannot have been counted.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::reading::{Timestamp, Value};

/// A fall by less than this share of the value is noise of a float: it is neither a wrap nor a reset. An f32 has 24 bits.
const NOISE: f64 = 1e-6;
/// Without a largest rate, a fall is a wrap only where the value was in the last tenth of the range and is in the first.
const EDGE: f64 = 0.1;

/// What a counter can do, in the tag's published unit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CounterRule {
    /// How much the value falls by when it wraps, above 0; `None`: it never wraps.
    pub wraps_at: Option<f64>,
    /// The most that is counted in a second, above 0; `None`: nothing is too fast.
    pub max_rate: Option<f64>,
    /// How often it is read: a count may be late by so long.
    pub every: Duration,
}

/// One counter: what was read last, and the total.
#[derive(Debug)]
pub struct Counter {
    rule: CounterRule,
    base: Option<Base>,
    total: f64,
}

#[derive(Debug)]
struct Base {
    raw: Value,
    seen: Seen,
}

#[derive(Debug)]
enum Seen {
    /// In this run.
    Now(Instant),
    /// In an earlier run, by the wall clock; `None`: it is not known when.
    Earlier(Option<Timestamp>),
}

/// What a sample did to the total.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// What the total rose by, at least 0.
    pub delta: f64,
    /// The total, which never falls.
    pub total: f64,
    /// What the counter did beside counting.
    pub event: Option<CounterEvent>,
}

/// What a counter does beside counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterEvent {
    /// It went on from 0 after its largest value.
    Wrapped,
    /// It was set to another value, or is another counter; what was counted around that is not known.
    Reset,
}

/// What is kept of a counter between two runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedCounter {
    /// The value read last, with a sign where it is below 0; exact for integers.
    pub raw: SavedRaw,
    /// The total then.
    pub total: f64,
    /// When, in milliseconds since the epoch; `None` while the clock was not to be trusted.
    pub at_ms: Option<u64>,
}

/// A value of a counter as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum SavedRaw {
    /// An unsigned integer.
    UInt(u64),
    /// A signed integer.
    Int(i64),
    /// Any other number.
    Number(f64),
}

impl Counter {
    /// A counter that begins at 0, or goes on from an earlier run. What was kept and is no number of a total is not used.
    #[must_use]
    pub fn new(rule: CounterRule, saved: Option<SavedCounter>) -> Counter {
        let saved = saved.filter(|saved| saved.total.is_finite() && saved.total >= 0.0);
        let total = saved.as_ref().map_or(0.0, |saved| saved.total);
        let base = saved.map(|saved| Base {
            raw: match saved.raw {
                SavedRaw::UInt(raw) => Value::UInt(raw),
                SavedRaw::Int(raw) => Value::Int(raw),
                SavedRaw::Number(raw) => Value::Double(raw),
            },
            seen: Seen::Earlier(saved.at_ms.map(Timestamp::from_millis)),
        });
        Counter { rule, base, total }
    }

    /// The next value is that of another counter: it is held against none, and the total goes on from it.
    pub fn forget_value(&mut self) {
        self.base = None;
    }

    /// The total: 0 before the first sample of the first run.
    #[must_use]
    pub const fn total(&self) -> f64 {
        self.total
    }

    /// What a sample that is not bad does to the total; `None` for what is no finite number, which changes nothing.
    ///
    /// `now` measures the run, so a step of the wall clock does nothing; `wall`, where it is trusted, measures only the outage
    /// before the first sample.
    ///
    /// - A rise is counted, unless it is faster than `max_rate`: then the device is another, and nothing is counted.
    /// - A fall is a wrap if what was counted with it is plausible: not faster than `max_rate`, or, without one, from the last
    ///   tenth of the range to the first.
    /// - Any other fall is a reset. With `max_rate` the new value is counted where it is not too fast; else nothing is.
    ///
    /// A count may be late by one poll, so `every` counts as elapsed too.
    pub fn handle(&mut self, value: &Value, now: Instant, wall: Option<Timestamp>) -> Option<Step> {
        let number = value.number().filter(|number| number.is_finite())?;
        let Some(base) = &self.base else {
            self.base = Some(Base { raw: value.clone(), seen: Seen::Now(now) });
            return Some(Step { delta: 0.0, total: self.total, event: None });
        };
        let elapsed = base.elapsed(now, wall);
        let change = change(&base.raw, value);
        let is_noise = change < 0.0 && is_float(value) && -change <= NOISE * number.abs();
        let (delta, event) =
            if is_noise { (0.0, None) } else { self.judge(base.raw.number()?, number, change, elapsed) };
        let raw = if is_noise { base.raw.clone() } else { value.clone() };
        self.base = Some(Base { raw, seen: Seen::Now(now) });
        self.total = (self.total + delta).min(f64::MAX);
        Some(Step { delta, total: self.total, event })
    }

    /// What is to be kept for the next run; `None` before the first sample.
    #[must_use]
    pub fn saved(&self, wall: Option<Timestamp>) -> Option<SavedCounter> {
        let base = self.base.as_ref()?;
        let raw = match &base.raw {
            Value::UInt(raw) => SavedRaw::UInt(*raw),
            Value::Int(raw) => SavedRaw::Int(*raw),
            Value::Float(_) | Value::Double(_) | Value::Bool(_) | Value::Text(_) | Value::Time(_) => {
                SavedRaw::Number(base.raw.number()?)
            }
        };
        let at = match base.seen {
            Seen::Now(_) => wall,
            Seen::Earlier(at) => at,
        };
        Some(SavedCounter { raw, total: self.total, at_ms: at.map(Timestamp::millis) })
    }

    fn judge(
        &self,
        before: f64,
        number: f64,
        change: f64,
        elapsed: Option<Duration>,
    ) -> (f64, Option<CounterEvent>) {
        if change >= 0.0 {
            let is_counted = self.is_possible(change, elapsed).unwrap_or(true);
            return if is_counted { (change, None) } else { (0.0, Some(CounterEvent::Reset)) };
        }
        if let Some(modulus) = self.rule.wraps_at.filter(|modulus| *modulus > 0.0) {
            let wrapped = modulus + change;
            let is_at_edge = before >= modulus * (1.0 - EDGE) && number <= modulus * EDGE;
            if wrapped >= 0.0 && self.is_possible(wrapped, elapsed).unwrap_or(is_at_edge) {
                return (wrapped, Some(CounterEvent::Wrapped));
            }
        }
        let is_counted = number >= 0.0 && self.is_possible(number, elapsed).unwrap_or(false);
        (if is_counted { number } else { 0.0 }, Some(CounterEvent::Reset))
    }

    /// Whether so much may have been counted; `None` where no rate, or no time, tells it.
    fn is_possible(&self, delta: f64, elapsed: Option<Duration>) -> Option<bool> {
        let most = self.rule.max_rate? * elapsed?.saturating_add(self.rule.every).as_secs_f64();
        Some(delta <= most * (1.0 + NOISE))
    }
}

impl Base {
    fn elapsed(&self, now: Instant, wall: Option<Timestamp>) -> Option<Duration> {
        match self.seen {
            Seen::Now(at) => Some(now.saturating_duration_since(at)),
            Seen::Earlier(at) => wall?.millis().checked_sub(at?.millis()).map(Duration::from_millis),
        }
    }
}

fn is_float(value: &Value) -> bool {
    matches!(value, Value::Float(_) | Value::Double(_))
}

/// How far a value has risen; exact between integers as far as a float holds the difference.
#[expect(
    clippy::cast_precision_loss,
    reason = "a difference below 2^53 is exact; a larger one is rounded once"
)]
fn change(from: &Value, to: &Value) -> f64 {
    let integer = |value: &Value| match value {
        Value::UInt(value) => Some(i128::from(*value)),
        Value::Int(value) => Some(i128::from(*value)),
        Value::Float(_) | Value::Double(_) | Value::Bool(_) | Value::Text(_) | Value::Time(_) => None,
    };
    match (integer(from), integer(to)) {
        (Some(from), Some(to)) => (to - from) as f64,
        _ => to.number().unwrap_or(0.0) - from.number().unwrap_or(0.0),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Samples one a second; the result is each delta, with `w` and `r` for a wrap and a reset.
    #[track_caller]
    fn check(wraps_at: Option<f64>, max_rate: Option<f64>, samples: &str, expected: &str) {
        let mut counter = Counter::new(CounterRule { wraps_at, max_rate, ..CounterRule::default() }, None);
        let mut now = crate::clock::monotonic();
        let deltas = samples.split(' ').map(|sample| {
            now += Duration::from_secs(1);
            let value = sample.parse().map_or_else(|_| Value::Double(sample.parse().unwrap()), Value::UInt);
            let step = counter.handle(&value, now, None);
            step.map_or("-".to_owned(), |step| match step.event {
                None => step.delta.to_string(),
                Some(CounterEvent::Wrapped) => format!("{}w", step.delta),
                Some(CounterEvent::Reset) => format!("{}r", step.delta),
            })
        });
        assert_eq!(deltas.collect::<Vec<_>>().join(" "), expected);
    }

    #[test]
    fn a_wrap_is_counted_where_it_is_plausible() {
        check(Some(65536.0), None, "65530 65535 4 10", "0 5 5w 6");
        check(Some(65536.0), Some(10.0), "65530 65535 4 10", "0 5 5w 6");
        check(None, None, "65530 65535 4 10", "0 5 0r 6");
    }

    #[test]
    fn a_reset_counts_nothing_that_is_not_plausible() {
        check(Some(65536.0), None, "30000 0 1", "0 0r 1");
        check(Some(65536.0), Some(10.0), "30000 5 6 30000 30001", "0 5r 1 0r 1");
        check(Some(65536.0), Some(10.0), "30000 29000 29001", "0 0r 1");
    }

    #[test]
    fn integers_are_exact_and_what_is_no_number_is_passed_over() {
        check(None, None, "18446744073709551600 18446744073709551601", "0 1");
        check(None, None, "1 NaN inf 3", "0 - - 2");
    }

    #[test]
    fn the_noise_of_a_float_is_neither_a_wrap_nor_a_reset_and_is_not_counted_twice() {
        check(None, None, "131072.5 131072.484375 131072.5 131072.515625", "0 0 0 0.015625");
    }

    #[test]
    fn a_total_goes_on_after_a_restart_with_what_was_counted_meanwhile() {
        let rule = CounterRule { wraps_at: Some(65536.0), max_rate: Some(10.0), ..CounterRule::default() };
        let saved = SavedCounter { raw: SavedRaw::UInt(65000), total: 7000.0, at_ms: Some(1_000_000) };
        let after = |raw, wall: Option<u64>| {
            let mut counter = Counter::new(rule, Some(saved.clone()));
            assert_eq!(counter.saved(None), Some(saved.clone()));
            let wall = wall.map(Timestamp::from_millis);
            let step = counter.handle(&Value::UInt(raw), crate::clock::monotonic(), wall).unwrap();
            (step.total, step.event)
        };
        assert_eq!(after(65100, Some(1_060_000)), (7100.0, None));
        assert_eq!(after(64, Some(1_060_000)), (7600.0, Some(CounterEvent::Wrapped)));
        assert_eq!(after(20000, Some(1_060_000)), (7000.0, Some(CounterEvent::Reset)));
        // without a time between, a rise is taken as it is
        assert_eq!(after(65100, None), (7100.0, None));
        assert_eq!(after(65100, Some(0)), (7100.0, None));
    }

    #[test]
    fn a_count_may_be_late_by_one_poll() {
        let late = |every| {
            let rule = CounterRule { wraps_at: None, max_rate: Some(10.0), every };
            let (mut counter, now) = (Counter::new(rule, None), crate::clock::monotonic());
            counter.handle(&Value::UInt(100), now, None);
            counter.handle(&Value::UInt(115), now + Duration::from_secs(1), None).unwrap().event
        };
        assert_eq!(late(Duration::from_secs(1)), None);
        assert_eq!(late(Duration::ZERO), Some(CounterEvent::Reset));
        assert_eq!(late(Duration::MAX), None);
    }

    #[test]
    fn a_step_of_the_wall_clock_in_a_run_does_nothing() {
        let mut counter = Counter::new(
            CounterRule { wraps_at: None, max_rate: Some(10.0), ..CounterRule::default() },
            None,
        );
        let start = crate::clock::monotonic();
        for (second, wall) in [(0, 5_000_000), (1, 0), (2, u64::MAX), (3, 7)] {
            let wall = Some(Timestamp::from_millis(wall));
            counter.handle(&Value::UInt(second * 10), start + Duration::from_secs(second), wall);
        }
        assert!((counter.total() - 30.0).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn a_total_is_the_truth_for_a_counter_that_wraps_and_keeps_to_its_rate(
            start in 0_u64..65536, steps in prop::collection::vec((1_u64..100, 0_u64..=300), 1..200),
        ) {
            let rule = CounterRule { wraps_at: Some(65536.0), max_rate: Some(300.0), ..CounterRule::default() };
            let mut counter = Counter::new(rule, None);
            let (mut now, mut truth) = (crate::clock::monotonic(), start);
            counter.handle(&Value::UInt(start), now, None);
            for (seconds, rate) in steps {
                now += Duration::from_secs(seconds);
                truth += seconds * rate;
                counter.handle(&Value::UInt(truth % 65536), now, None);
                prop_assert!((counter.total() - (truth - start) as f64).abs() < 1e-6);
            }
        }

        #[test]
        fn a_total_never_falls(
            values in prop::collection::vec((any::<f64>(), 0_u64..100), 0..100),
            wraps_at in prop::option::of(any::<f64>()), max_rate in prop::option::of(any::<f64>()),
        ) {
            let mut counter = Counter::new(CounterRule { wraps_at, max_rate, ..CounterRule::default() }, None);
            let mut now = crate::clock::monotonic();
            let mut last = 0.0;
            for (value, seconds) in values {
                now += Duration::from_secs(seconds);
                if let Some(step) = counter.handle(&Value::Double(value), now, None) {
                    prop_assert!(step.delta >= 0.0 && step.total >= last && step.total.is_finite());
                    last = step.total;
                }
            }
        }
    }
}
