//! Report by exception: whether a reading is worth reporting. Pure.

use std::time::Instant;

use crate::config::site::Report;
use crate::reading::{Quality, Value};

/// What was reported last of one tag.
#[derive(Debug)]
pub struct Reporter {
    report: Report,
    last: Option<Reported>,
}

#[derive(Debug)]
struct Reported {
    value: Option<Value>,
    quality: Quality,
    at: Instant,
}

impl Reporter {
    /// Nothing has been reported yet.
    #[must_use]
    pub fn new(report: Report) -> Reporter {
        Reporter { report, last: None }
    }

    /// Whether to report this; if so it is what was reported last from now on.
    ///
    /// The first reading and every change of quality are reported, whatever the configuration. A fault that goes on
    /// is not a new one.
    pub fn handle(&mut self, value: Option<&Value>, quality: Quality, now: Instant) -> bool {
        let is_due = match &self.last {
            None => true,
            Some(last) if last.quality != quality => true,
            Some(_) if quality.is_bad() => false,
            Some(last) => match self.report {
                Report::Always => true,
                Report::OnChange { at_most, at_least } => {
                    let age = now.saturating_duration_since(last.at);
                    let is_same = match (&last.value, value) {
                        (Some(a), Some(b)) => a.is_same(b),
                        (a, b) => a.is_none() && b.is_none(),
                    };
                    if is_same { age >= at_least } else { at_most.is_none_or(|at_most| age >= at_most) }
                }
            },
        };
        if is_due {
            self.last = Some(Reported { value: value.cloned(), quality, at: now });
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Each reading is `second:value`, `x` for a fault; reported ones stand in the result.
    #[track_caller]
    fn check(report: Report, readings: &str, expected: &str) {
        let start = crate::clock::monotonic();
        let mut reporter = Reporter::new(report);
        let reported = readings.split(' ').filter(|reading| {
            let (second, value) = reading.split_once(':').unwrap();
            let now = start + Duration::from_secs(second.parse().unwrap());
            match value {
                "x" => reporter.handle(None, Quality::BadCommLastValueKnown, now),
                "y" => reporter.handle(None, Quality::BadNotConnected, now),
                number => reporter.handle(Some(&Value::Int(number.parse().unwrap())), Quality::Good, now),
            }
        });
        assert_eq!(reported.collect::<Vec<_>>().join(" "), expected);
    }

    fn on_change(at_most: Option<u64>) -> Report {
        Report::OnChange { at_most: at_most.map(Duration::from_secs), at_least: Duration::from_secs(600) }
    }

    #[test]
    fn an_unchanged_value_is_repeated_only_after_at_least() {
        check(on_change(None), "0:1 1:1 2:2 3:2 601:2 602:2 1202:2", "0:1 2:2 602:2 1202:2");
    }

    #[test]
    fn a_change_inside_at_most_is_reported_when_it_has_passed_if_it_still_stands() {
        check(on_change(Some(10)), "0:1 1:2 9:2 10:2 11:3 12:2 20:2", "0:1 10:2");
    }

    #[test]
    fn always_reports_each_good_reading() {
        check(Report::Always, "0:1 1:1 2:1", "0:1 1:1 2:1");
    }

    #[test]
    fn a_change_of_quality_is_reported_at_once_and_a_lasting_fault_once() {
        for report in [Report::Always, on_change(None), on_change(Some(100))] {
            check(report, "0:1 1:x 2:x 700:x 701:y 702:1", "0:1 1:x 701:y 702:1");
        }
    }
}
