//! What is known of one tag now: its value, how far to trust it, since when. Pure.

use std::time::{Duration, Instant};

use crate::config::site::Tag;
use crate::reading::{Quality, Stamp, Timestamp, Value};

/// A reading that seems to be older than the one before it by less than this was taken after it.
const ROUNDING_MAX_MS: u64 = 1000;

/// What is known of one tag.
#[derive(Debug)]
pub struct Live {
    /// What was settled last.
    pub value: Option<Value>,
    /// How far to trust it.
    pub quality: Quality,
    /// What its value says of the tags that it colours.
    pub colour: Quality,
    /// Counts up with each sample.
    pub serial: u64,
    /// The last good value, and when it was read.
    last_good: Option<(Value, Instant)>,
    /// When a value came last.
    sampled_at: Option<Instant>,
    /// When the value changed last.
    changed_at: Option<Instant>,
    /// The time that was reported last.
    reported_at: Option<Stamp>,
}

impl Live {
    /// Nothing is known yet.
    #[must_use]
    pub const fn new() -> Live {
        Live {
            value: None,
            quality: Quality::BadNoCommunication,
            colour: Quality::Good,
            serial: 0,
            last_good: None,
            sampled_at: None,
            changed_at: None,
            reported_at: None,
        }
    }

    /// Takes a sample, or why there is none; `doubt` is what it is to be doubted for already. What does not allow a value
    /// has none; a fault that keeps the last good value needs one to keep.
    pub fn settle(&mut self, sample: Result<Value, Quality>, doubt: Quality, tag: &Tag, now: Instant) {
        self.serial += 1;
        match sample {
            Ok(value) => self.take(value, doubt, tag, now),
            Err(quality) => self.fail(quality),
        }
    }

    fn take(&mut self, value: Value, doubt: Quality, tag: &Tag, now: Instant) {
        self.sampled_at = Some(now);
        if self.last_good.as_ref().is_none_or(|(last, _)| !last.is_same(&value)) || self.changed_at.is_none()
        {
            self.changed_at = Some(now);
        }
        let quality = self.judge(&value, doubt, tag, now);
        self.last_good = Some((value.clone(), now));
        (self.value, self.quality) = (Some(value), quality);
    }

    /// What was sampled as `serial` is to be doubted for nothing but `doubt` any more. Whether that is news: it is none of
    /// another sample, of none, or of one that is stale by now.
    pub fn confirm(&mut self, serial: u64, doubt: Quality, tag: &Tag, now: Instant) -> bool {
        if self.serial != serial || self.quality.is_bad() || self.quality == Quality::UncertainLastUsable {
            return false;
        }
        let Some(value) = self.value.clone() else { return false };
        self.quality = self.judge(&value, doubt, tag, now);
        true
    }

    /// How far to trust a value that is to be doubted for `doubt` already.
    fn judge(&self, value: &Value, doubt: Quality, tag: &Tag, now: Instant) -> Quality {
        let is_outside = |(low, high)| value.number().is_some_and(|number| number < low || number > high);
        let mut quality = doubt;
        if tag.range.is_some_and(is_outside) {
            quality = quality.worst(Quality::UncertainEuExceeded);
        }
        if let (Some(after), Some(changed_at)) = (tag.stuck_after, self.changed_at)
            && now.saturating_duration_since(changed_at) >= after
        {
            quality = quality.worst(Quality::UncertainStuck);
        }
        quality
    }

    fn fail(&mut self, quality: Quality) {
        let kept = self.last_good.as_ref().filter(|_| quality.keeps_last_value());
        self.quality =
            if quality.keeps_last_value() && kept.is_none() { Quality::BadNoCommunication } else { quality };
        self.value = kept.map(|(value, _)| value.clone());
    }

    /// When the value will be stale if none comes; `None`: it is none, or is stale already.
    #[must_use]
    pub fn stale_at(&self, after: Duration) -> Option<Instant> {
        let is_fresh = !self.quality.is_bad() && self.quality != Quality::UncertainLastUsable;
        self.sampled_at.filter(|_| is_fresh).map(|at| at + after)
    }

    /// No sample has come for too long: the value is the last usable one.
    pub fn turn_stale(&mut self) {
        self.quality = Quality::UncertainLastUsable;
    }

    /// The time of a reading, and of no other of this tag: tag and time are what a repeated reading is known by. Two within
    /// a millisecond, or within ten while the clock is walked back, get a millisecond each.
    pub fn own_time(&mut self, at: Stamp) -> Stamp {
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
}

impl Default for Live {
    fn default() -> Live {
        Live::new()
    }
}

/// Of a tag that some devices do not have: that a device refuses it is no fault.
#[must_use]
pub const fn excused(tag: &Tag, quality: Quality) -> Quality {
    if tag.is_optional && matches!(quality, Quality::BadConfig) { Quality::BadOutOfService } else { quality }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_readings_of_a_tag_have_the_same_time() {
        let mut live = Live::new();
        let mut own = |millis| match live.own_time(Stamp::Wall(Timestamp::from_millis(millis))) {
            Stamp::Wall(at) => at.millis(),
            Stamp::SinceBoot(_) => panic!("by the wall clock"),
        };
        assert_eq!([5000, 5000, 5000, 5001, 5004].map(&mut own), [5000, 5001, 5002, 5003, 5004]);
        // a clock that was wrong by hours is followed
        assert_eq!(own(1000), 1000);
    }
}
