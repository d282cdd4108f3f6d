//! Which readings an uplink does without when it has to keep to its budget: numbers that have hardly changed, never events.
//! Pure.

use std::collections::BTreeSet;

use crate::reading::{Quality, Reading, Stamp};
use crate::tag::TagId;

/// A number is told again after so long, however little it has changed.
const TOLD_AGAIN_MS: u64 = 600_000;

/// What was told last of each tag, and how much more has to happen.
#[derive(Debug)]
pub struct Thinning {
    told: Vec<Option<Told>>,
    /// The part of the value told last that a change must exceed; `None`: every reading is told.
    deadband: Option<f64>,
    /// Tags whose last reading was withheld.
    behind: BTreeSet<TagId>,
    count: u64,
}

#[derive(Clone, Copy, Debug)]
struct Told {
    number: f64,
    quality: Quality,
    at: Stamp,
}

impl Thinning {
    /// Of so many tags; nothing is withheld.
    #[must_use]
    pub fn new(tags: usize) -> Thinning {
        Thinning { told: vec![None; tags], deadband: None, behind: BTreeSet::new(), count: 0 }
    }

    /// From now on a change must exceed this part of the value. Tags whose last reading was withheld, where nothing is any
    /// more: it is to be told now.
    #[must_use]
    pub fn set(&mut self, deadband: Option<f64>) -> BTreeSet<TagId> {
        self.deadband = deadband;
        if deadband.is_some() {
            return BTreeSet::new();
        }
        self.told.iter_mut().for_each(|told| *told = None); // not kept up while nothing is withheld
        std::mem::take(&mut self.behind)
    }

    /// How many readings were withheld.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Whether the reading is to be withheld; if not, it is what was told last from now on. Only numbers of the quality
    /// told last are: states, texts, and every change of quality are told.
    pub fn withholds(&mut self, reading: &Reading) -> bool {
        let Some(deadband) = self.deadband else { return false };
        let Some(told) = self.told.get_mut(reading.tag.index()) else { return false };
        let number = reading.value.as_ref().and_then(crate::reading::Value::number);
        let withheld = told.zip(number).is_some_and(|(told, number)| {
            told.quality == reading.quality
                && (number - told.number).abs() <= deadband * told.number.abs()
                && told.is_recent(reading.at)
        });
        if withheld {
            self.count += 1;
            self.behind.insert(reading.tag);
        } else {
            self.behind.remove(&reading.tag);
            *told = number.map(|number| Told { number, quality: reading.quality, at: reading.at });
        }
        withheld
    }
}

impl Told {
    fn is_recent(self, now: Stamp) -> bool {
        match (self.at, now) {
            (Stamp::Wall(then), Stamp::Wall(now)) => {
                now.millis().saturating_sub(then.millis()) < TOLD_AGAIN_MS
            }
            (Stamp::SinceBoot(then), Stamp::SinceBoot(now)) => now.saturating_sub(then) < TOLD_AGAIN_MS,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::{Timestamp, Value};

    fn reading(value: Value, quality: Quality, second: u64) -> Reading {
        let at = Stamp::Wall(Timestamp::from_millis(second * 1000));
        Reading { tag: TagId(0), value: Some(value), quality, at }
    }

    /// Which of the numbers are told, each a second after the one before.
    fn told(deadband: f64, numbers: &[f64]) -> Vec<f64> {
        let mut thinning = Thinning::new(1);
        assert!(thinning.set(Some(deadband)).is_empty());
        let is_told = |(second, number): (u64, &f64)| {
            let withheld = thinning.withholds(&reading(Value::Double(*number), Quality::Good, second));
            (!withheld).then_some(*number)
        };
        (0..).zip(numbers).filter_map(is_told).collect()
    }

    #[test]
    fn numbers_that_have_hardly_changed_are_withheld_and_drift_is_told() {
        assert_eq!(told(0.1, &[100.0, 105.0, 109.0, 112.0, 111.0, 100.0]), [100.0, 112.0, 100.0]);
        assert_eq!(told(0.0, &[1.0, 1.0, 1.1]), [1.0, 1.1]);
        assert_eq!(told(0.5, &[0.0, 0.001, 0.0]), [0.0, 0.001, 0.0]);
    }

    #[test]
    fn states_changes_of_quality_and_old_values_are_told() {
        let mut thinning = Thinning::new(1);
        assert!(thinning.set(Some(f64::INFINITY)).is_empty());
        let mut is_told = |reading: Reading| !thinning.withholds(&reading);
        assert!(is_told(reading(Value::Int(5), Quality::Good, 0)));
        assert!(!is_told(reading(Value::Int(50), Quality::Good, 1)));
        assert!(is_told(reading(Value::Int(50), Quality::UncertainEuExceeded, 2)));
        assert!(!is_told(reading(Value::Int(51), Quality::UncertainEuExceeded, 601)));
        assert!(is_told(reading(Value::Int(51), Quality::UncertainEuExceeded, 602)));
        assert!(is_told(reading(Value::Bool(true), Quality::Good, 603)));
        assert!(is_told(reading(Value::Bool(true), Quality::Good, 604)));
        assert!(thinning.set(None).is_empty(), "the last reading was told");
    }

    #[test]
    fn what_was_withheld_last_is_told_when_nothing_is_withheld_any_more() {
        let mut thinning = Thinning::new(1);
        assert!(thinning.set(Some(0.5)).is_empty());
        for (second, value) in [(0, 100), (1, 120), (2, 130)] {
            thinning.withholds(&reading(Value::Int(value), Quality::Good, second));
        }
        assert_eq!((thinning.count(), thinning.set(None)), (2, BTreeSet::from([TagId(0)])));
        assert!(thinning.set(None).is_empty());
    }

    #[test]
    fn without_a_deadband_everything_is_told() {
        let mut thinning = Thinning::new(1);
        assert!((0..3).all(|second| !thinning.withholds(&reading(Value::Int(1), Quality::Good, second))));
    }
}
