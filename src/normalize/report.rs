//! Report by exception: which readings are worth reporting. Pure.
//!
//! Every sample goes in, zero to two come out: itself, and before it one that was held back. What was held back and never
//! comes out can be told, within the deadband, from what has.

use std::time::{Duration, Instant};

use crate::config::site::{Deadband, Report};
use crate::reading::{Quality, Stamp, Value};

/// What was reported last of one tag.
#[derive(Debug)]
pub struct Reporter {
    report: Report,
    deadband: Deadband,
    last: Option<Reported>,
    /// Only of a tag with a swinging door.
    door: Option<Box<Door>>,
}

#[derive(Debug)]
struct Reported {
    value: Option<Value>,
    quality: Quality,
    at: Instant,
}

/// A sample of a tag that was held back.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Its value.
    pub value: Value,
    /// Its quality, the same as that of the reading reported before it.
    pub quality: Quality,
    /// Its own time.
    pub at: Stamp,
}

/// What is to be reported.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    /// First this earlier sample, with its own time. Only with [`Deadband::SwingingDoor`].
    pub held: Option<Sample>,
    /// Then the sample that was handed in.
    pub this: bool,
}

impl Reporter {
    /// Nothing has been reported yet.
    #[must_use]
    pub fn new(report: Report, deadband: Deadband) -> Reporter {
        let deadband = match (report, deadband) {
            (
                Report::OnChange { .. },
                Deadband::Absolute(width) | Deadband::OfValue(width) | Deadband::SwingingDoor(width),
            ) if width > 0.0 => deadband,
            _ => Deadband::None,
        };
        let door = match deadband {
            Deadband::SwingingDoor(width) => Some(Box::new(Door::new(width))),
            Deadband::None | Deadband::Absolute(_) | Deadband::OfValue(_) => None,
        };
        Reporter { report, deadband, last: None, door }
    }

    /// What to report of this sample; it counts as reported from then on.
    ///
    /// The first reading and every change of quality are reported at once, whatever the configuration. A fault that goes on
    /// is not a new one. A change inside `at_most` goes out with the first sample after it that still differs.
    ///
    /// With a swinging door, `at_most` wins: where the door would have to be closed sooner, the promise of the straight line
    /// is lost for the samples up to the next report.
    pub fn handle(&mut self, value: Option<&Value>, quality: Quality, at: Stamp, now: Instant) -> Told {
        let told = match &self.last {
            None => Told { held: None, this: true },
            Some(last) if last.quality != quality => Told { held: self.take_held(), this: true },
            Some(_) if quality.is_bad() => Told::default(),
            Some(last) => match self.report {
                Report::Always => Told { held: None, this: true },
                Report::OnChange { at_most, at_least } => {
                    let age = now.saturating_duration_since(last.at);
                    let may_change = at_most.is_none_or(|at_most| age >= at_most);
                    match (&mut self.door, value) {
                        (Some(door), Some(value)) => {
                            let sample = Sample { value: value.clone(), quality, at };
                            door.handle(sample, may_change, age >= at_least)
                        }
                        _ => Told {
                            held: None,
                            this: last.is_due(value, self.deadband, age, may_change, at_least),
                        },
                    }
                }
            },
        };
        self.keep(&told, value, quality, at, now);
        told
    }

    /// The sample that is held back, as the last one of a run or before the tag goes away. It is not held back any more.
    pub fn take_held(&mut self) -> Option<Sample> {
        self.door.as_mut().and_then(|door| door.held.take())
    }

    fn keep(&mut self, told: &Told, value: Option<&Value>, quality: Quality, at: Stamp, now: Instant) {
        if told.this {
            self.last = Some(Reported { value: value.cloned(), quality, at: now });
            if let Some(door) = &mut self.door {
                door.begin(value, at);
            }
        } else if let Some(held) = &told.held {
            self.last = Some(Reported { value: Some(held.value.clone()), quality: held.quality, at: now });
        }
    }
}

impl Reported {
    fn is_due(
        &self,
        value: Option<&Value>,
        deadband: Deadband,
        age: Duration,
        may_change: bool,
        at_least: Duration,
    ) -> bool {
        let has_changed = match (&self.value, value) {
            (Some(last), Some(value)) => !last.is_same(value) && is_beyond(last, value, deadband),
            (last, value) => last.is_some() != value.is_some(),
        };
        age >= at_least || (has_changed && may_change)
    }
}

/// Whether a value is farther from the one reported last than the deadband; what is not a number on both sides is.
fn is_beyond(last: &Value, value: &Value, deadband: Deadband) -> bool {
    let width = |last: f64| match deadband {
        Deadband::None | Deadband::SwingingDoor(_) => None,
        Deadband::Absolute(width) => Some(width),
        Deadband::OfValue(fraction) => Some(fraction * last.abs()),
    };
    match (last.number(), value.number()) {
        (Some(last), Some(value)) => {
            let is_within = width(last).is_some_and(|width| (value - last).abs() <= width);
            !is_within
        }
        _ => true,
    }
}

/// Swinging door trending (E. H. Bristol, 1990), in the strict form: a sample is only held back while the straight line from
/// the last reported reading to it passes every sample between them within the width.
#[derive(Debug)]
struct Door {
    width: f64,
    /// Where the door hangs: what was reported last.
    hinge: Option<(Stamp, f64)>,
    held: Option<Sample>,
    /// The slopes, in units a millisecond, between which a line passes all samples since the hinge.
    low: f64,
    high: f64,
}

impl Door {
    fn new(width: f64) -> Door {
        Door { width, hinge: None, held: None, low: f64::NEG_INFINITY, high: f64::INFINITY }
    }

    /// The door hangs at this value; nothing is held back.
    fn begin(&mut self, value: Option<&Value>, at: Stamp) {
        let number = value.and_then(Value::number).filter(|number| number.is_finite());
        *self = Door { hinge: number.map(|number| (at, number)), ..Door::new(self.width) };
    }

    fn handle(&mut self, sample: Sample, may_change: bool, is_overdue: bool) -> Told {
        if self.hold(&sample) {
            return Told { held: None, this: is_overdue };
        }
        if !may_change {
            // nothing can be proved of it; the hinge and the slopes stay, so that it is the last value that goes out
            self.held = None;
            return Told { held: None, this: is_overdue };
        }
        let Some(held) = self.held.take() else {
            return Told { held: None, this: true };
        };
        self.begin(Some(&held.value), held.at);
        let this = !self.hold(&sample);
        Told { held: Some(held), this }
    }

    /// Holds the sample back in place of the one before, if the line to it is true to all between.
    fn hold(&mut self, sample: &Sample) -> bool {
        let (Some((hinge_at, hinge)), Some(number)) = (self.hinge, sample.value.number()) else {
            return false;
        };
        let last_at = self.held.as_ref().map_or(hinge_at, |held| held.at);
        let (Some(elapsed), Some(_)) = (elapsed_ms(hinge_at, sample.at), elapsed_ms(last_at, sample.at))
        else {
            return false;
        };
        let slope = (number - hinge) / elapsed;
        if !slope.is_finite() || slope < self.low || slope > self.high {
            return false;
        }
        let swing = self.width / elapsed;
        self.low = self.low.max(slope - swing);
        self.high = self.high.min(slope + swing);
        self.held = Some(sample.clone());
        true
    }
}

/// Milliseconds from one time to a later one by the same clock.
#[expect(clippy::cast_precision_loss, reason = "exact for 285,000 years")]
fn elapsed_ms(from: Stamp, to: Stamp) -> Option<f64> {
    let elapsed = match (from, to) {
        (Stamp::Wall(from), Stamp::Wall(to)) => to.millis().checked_sub(from.millis()),
        (Stamp::SinceBoot(from), Stamp::SinceBoot(to)) => to.checked_sub(from),
        (Stamp::Wall(_), Stamp::SinceBoot(_)) | (Stamp::SinceBoot(_), Stamp::Wall(_)) => None,
    };
    elapsed.filter(|elapsed| *elapsed > 0).map(|elapsed| elapsed as f64)
}

#[cfg(test)]
mod tests;
