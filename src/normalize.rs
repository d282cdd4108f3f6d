//! Registers become readings: decoded, scaled, with a quality, and reported when they are worth it.
//!
//! Scans come in from every bus; updates go out to every uplink. Where registers came from is not known here.

pub mod decode;
pub mod report;
pub mod task;

use std::sync::Arc;
use std::time::Instant;

use crate::config::site::Site;
use crate::reading::{Quality, Reading, Stamp, Timestamp, Update, Value};
use crate::scan::{Polled, Scan};
use decode::Zone;
use report::Reporter;

/// A reading that seems to be older than the one before it by less than this was taken after it.
const ROUNDING_MAX_MS: u64 = 1000;

/// Turns scans into readings; keeps what was reported last of every tag.
#[derive(Debug)]
pub struct Normalizer {
    site: Arc<Site>,
    tags: Vec<State>,
    /// What is to be reported of a scan; empty between two.
    readings: Vec<Reading>,
    /// Of the devices' own clocks.
    zone: Zone,
}

#[derive(Debug)]
struct State {
    reporter: Reporter,
    /// The last good value.
    last: Option<Value>,
    /// The time that was reported last.
    reported_at: Option<Stamp>,
}

impl Normalizer {
    /// Nothing has been read yet.
    #[must_use]
    pub fn new(site: Arc<Site>) -> Normalizer {
        let tags = site
            .tags
            .iter()
            .map(|tag| State { reporter: Reporter::new(tag.report), last: None, reported_at: None })
            .collect();
        Normalizer { site, tags, readings: Vec::new(), zone: Zone::default() }
    }

    /// The same, where devices tell the time of `zone` and not UTC.
    #[must_use]
    pub fn with_zone(self, zone: Zone) -> Normalizer {
        Normalizer { zone, ..self }
    }

    /// What to tell the uplinks of what was polled; `None` where nothing is worth it.
    pub fn handle(&mut self, polled: Polled, now: Instant) -> Option<Update> {
        match polled {
            Polled::DeviceUp(device) => Some(Update::DeviceUp(device)),
            Polled::DeviceDown(device, at) => Some(Update::DeviceDown(device, at)),
            Polled::Scan(scan) => {
                self.read(&scan, now);
                (!self.readings.is_empty()).then(|| Update::Readings(self.readings.drain(..).collect()))
            }
        }
    }

    /// Puts what is worth reporting into `readings`.
    fn read(&mut self, scan: &Scan, now: Instant) {
        for part in scan.parts.iter() {
            let (Some(tag), Some(state)) =
                (self.site.tags.get(part.tag.index()), self.tags.get_mut(part.tag.index()))
            else {
                continue;
            };
            let decoded = match &scan.result {
                Ok(data) => {
                    decode::decode(tag, data, part.offset).and_then(|value| in_utc(value, &self.zone))
                }
                Err(quality) => Err(*quality),
            };
            let (value, quality) = state.settle(decoded, tag.range);
            if state.reporter.handle(value.as_ref(), quality, now) {
                let at = state.own_time(scan.at);
                self.readings.push(Reading { tag: tag.id, value, quality, at });
            }
        }
    }
}

impl State {
    /// The time of a reading, and of no other of this tag: tag and time are what a repeated reading is known by. Two within
    /// a millisecond, or within ten while the clock is walked back, get a millisecond each.
    fn own_time(&mut self, at: Stamp) -> Stamp {
        let later =
            |last: u64, now: u64| if now <= last && last - now < ROUNDING_MAX_MS { last + 1 } else { now };
        let own = match (self.reported_at, at) {
            (Some(Stamp::Wall(last)), Stamp::Wall(now)) => {
                Stamp::Wall(Timestamp::from_millis(later(last.millis(), now.millis())))
            }
            (Some(Stamp::SinceBoot(last)), Stamp::SinceBoot(now)) => Stamp::SinceBoot(later(last, now)),
            _ => at,
        };
        self.reported_at = Some(own);
        own
    }

    /// The value to go with a quality: a fault that keeps the last good value needs one to keep.
    fn settle(
        &mut self,
        decoded: Result<Value, Quality>,
        range: Option<(f64, f64)>,
    ) -> (Option<Value>, Quality) {
        match decoded {
            Ok(value) if range.is_some_and(|range| is_outside(&value, range)) => {
                self.last = Some(value.clone());
                (Some(value), Quality::UncertainEuExceeded)
            }
            Ok(value) => {
                self.last = Some(value.clone());
                (Some(value), Quality::Good)
            }
            Err(quality) if !quality.keeps_last_value() => (None, quality),
            Err(quality) => match &self.last {
                Some(last) => (Some(last.clone()), quality),
                None => (None, Quality::BadNoCommunication),
            },
        }
    }
}

/// A time that a device tells, in UTC; one that its clocks leave out is none.
fn in_utc(value: Value, zone: &Zone) -> Result<Value, Quality> {
    let Value::Time(local) = value else { return Ok(value) };
    zone.to_utc(local).map(Value::Time).ok_or(Quality::BadDecode)
}

fn is_outside(value: &Value, (low, high): (f64, f64)) -> bool {
    value.number().is_some_and(|number| number < low || number > high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_readings_of_a_tag_have_the_same_time() {
        let report = crate::config::site::Report::Always;
        let mut state = State { reporter: Reporter::new(report), last: None, reported_at: None };
        let mut own = |millis| match state.own_time(Stamp::Wall(Timestamp::from_millis(millis))) {
            Stamp::Wall(at) => at.millis(),
            Stamp::SinceBoot(_) => panic!("by the wall clock"),
        };
        assert_eq!([5000, 5000, 5000, 5001, 5004].map(&mut own), [5000, 5001, 5002, 5003, 5004]);
        // a clock that was wrong by hours is followed
        assert_eq!(own(1000), 1000);
    }
}
