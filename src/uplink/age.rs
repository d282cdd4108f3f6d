//! How old what waits is: when which position was reached. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::position::Position;

/// The most marks; with one more every second one goes, and new ones come half as often.
const MARKS_MAX: usize = 128;

/// When positions were reached.
#[derive(Debug)]
pub(super) struct Ages {
    marks: VecDeque<(Instant, Position)>,
    every: Duration,
}

impl Ages {
    /// Positions before `next` are from before.
    pub(super) fn new(next: Position, now: Instant) -> Ages {
        Ages { marks: VecDeque::from([(now, next)]), every: Duration::from_secs(1) }
    }

    /// The store has given positions up to `next`.
    pub(super) fn handle_stored(&mut self, next: Position, now: Instant) {
        if self.marks.back().is_some_and(|(at, _)| now.saturating_duration_since(*at) < self.every) {
            return;
        }
        self.marks.push_back((now, next));
        if self.marks.len() > MARKS_MAX {
            let mut is_kept = false;
            self.marks.retain(|_| {
                is_kept = !is_kept;
                is_kept
            });
            self.every *= 2;
        }
    }

    /// How long ago the reading at `position` came, at most so much too long as marks lie apart.
    pub(super) fn age(&mut self, position: Position, now: Instant) -> Duration {
        while self.marks.get(1).is_some_and(|(_, next)| *next <= position) {
            self.marks.pop_front();
        }
        if self.marks.len() <= 2 {
            self.every = Duration::from_secs(1);
        }
        self.marks.front().map_or(Duration::ZERO, |(at, _)| now.saturating_duration_since(*at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_right_within_the_distance_of_the_marks() {
        let start = crate::clock::monotonic();
        let at = |second: u64| start + Duration::from_secs(second);
        let mut ages = Ages::new(Position(0), start);
        for second in 1..=100_000 {
            ages.handle_stored(Position(second * 10), at(second));
        }
        assert!(ages.marks.len() <= MARKS_MAX);
        for second in [0, 40_000, 99_000] {
            let age = ages.age(Position(second * 10), at(100_000)).as_secs();
            assert!((100_000 - second..=100_000 - second + 2048).contains(&age), "{second}: {age}");
        }
        let age = ages.age(Position(1_000_000), at(100_000));
        assert!(age < Duration::from_secs(2048), "{age:?}");
    }
}
