//! How much a number has risen in the last stretch of time.
//!
//! It is compared with what it was that time ago: with the newest kept sample that is at least so old. So one reading that
//! is off by a little moves the rise by as little, however fast samples come. Until there is one so old, the oldest counts
//! from half of the time on. Either rise is scaled to the time by how old the sample is: where samples are rarer than the
//! time, it is the mean rise over the longer time between two of them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Samples are kept so many times in the stretch, at most: the rise is measured over at most a sixteenth more.
const GRAINS: u32 = 16;
/// One for each grain, one at the border, and one before it.
const KEPT_MAX: usize = 18;

/// The samples that a rise is measured from; its memory does not grow.
#[derive(Clone, Debug)]
pub(super) struct Rise {
    per: Duration,
    kept: VecDeque<(Instant, f64)>,
}

impl Rise {
    pub(super) fn new(per: Duration) -> Rise {
        Rise { per, kept: VecDeque::with_capacity(KEPT_MAX) }
    }

    /// Takes a sample, and tells how much the number has risen in `per`, below 0 where it has fallen; `None` where less than
    /// half of it has been seen without a break.
    pub(super) fn take(&mut self, number: f64, now: Instant) -> Option<f64> {
        while let Some((second, _)) = self.kept.get(1)
            && now.saturating_duration_since(*second) >= self.per
        {
            self.kept.pop_front();
        }
        let risen = self.kept.front().and_then(|(then, before)| {
            let age = now.saturating_duration_since(*then);
            let is_enough = !age.is_zero() && age >= self.per / 2;
            is_enough.then(|| (number - before) * (self.per.as_secs_f64() / age.as_secs_f64()))
        });
        let is_apart = |last: &(Instant, f64)| now.saturating_duration_since(last.0) >= self.per / GRAINS;
        if self.kept.back().is_none_or(is_apart) {
            if self.kept.len() >= KEPT_MAX {
                self.kept.pop_front();
            }
            self.kept.push_back((now, number));
        }
        risen
    }

    /// A break: what was before it is not compared with what comes after.
    pub(super) fn forget(&mut self) {
        self.kept.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `SECOND:NUMBER` each, with `per` 16 s; the result is each rise.
    #[track_caller]
    fn check(samples: &str, expected: &str) {
        let (begin, mut rise) = (crate::clock::monotonic(), Rise::new(Duration::from_secs(16)));
        let risen = samples.split(' ').map(|sample| {
            let (second, number) = sample.split_once(':').unwrap();
            let now = begin + Duration::from_secs(second.parse().unwrap());
            rise.take(number.parse().unwrap(), now).map_or("-".to_owned(), |risen| risen.to_string())
        });
        assert_eq!(risen.collect::<Vec<_>>().join(" "), expected);
    }

    #[test]
    fn a_rise_is_told_from_half_of_its_time_on() {
        check("0:10 7:17 8:18 12:22 16:26 17:27", "- - 16 16 16 16");
        // a step is as large as it is, and is over after its time
        check("0:0 16:0 32:5 48:5", "- 0 5 0");
        check("0:9 16:1", "- -8");
    }

    #[test]
    fn where_samples_are_rare_the_rise_is_the_mean_between_two() {
        check("0:0 64:8 128:8 192:12", "- 2 0 1");
    }

    #[test]
    fn a_time_that_stands_still_tells_nothing() {
        check("0:0 0:5 0:9", "- - -");
    }

    #[test]
    fn what_was_before_a_break_is_not_compared() {
        let (begin, mut rise) = (crate::clock::monotonic(), Rise::new(Duration::from_secs(16)));
        let at = |second| begin + Duration::from_secs(second);
        assert_eq!(rise.take(0.0, at(0)), None);
        rise.forget();
        assert_eq!(rise.take(50.0, at(16)), None);
        assert_eq!(rise.take(54.0, at(24)), Some(8.0));
    }

    #[test]
    fn memory_does_not_grow_with_the_pace_of_samples() {
        let (begin, mut rise) = (crate::clock::monotonic(), Rise::new(Duration::from_secs(16)));
        for millis in (0..64_000).step_by(10) {
            rise.take(1.0, begin + Duration::from_millis(millis));
            assert!(rise.kept.len() <= KEPT_MAX && rise.kept.capacity() == KEPT_MAX);
        }
    }
}
