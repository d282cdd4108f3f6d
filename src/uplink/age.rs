//! How old what waits is: when which position was reached. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::position::Position;

/// The most marks; with one more every second one goes, and new ones come half as often.
const MARKS_MAX: usize = 128;
const EVERY_MIN: Duration = Duration::from_secs(1);

/// When positions came.
#[derive(Debug)]
pub(super) struct Ages {
    /// The first of some that came within `every`, and the position after the last of them.
    marks: VecDeque<(Instant, Position)>,
    every: Duration,
}

impl Ages {
    /// Positions before `next` are from before.
    pub(super) fn new(next: Position, now: Instant) -> Ages {
        Ages { marks: VecDeque::from([(now, next)]), every: EVERY_MIN }
    }

    /// The store has given positions up to `next`.
    pub(super) fn handle_stored(&mut self, next: Position, now: Instant) {
        match self.marks.back_mut() {
            Some((at, reached)) if now.saturating_duration_since(*at) < self.every => *reached = next,
            _ => self.marks.push_back((now, next)),
        }
        if self.marks.len() > MARKS_MAX {
            let mut merged: VecDeque<(Instant, Position)> = VecDeque::with_capacity(MARKS_MAX);
            for (index, (at, next)) in self.marks.drain(..).enumerate() {
                match merged.back_mut() {
                    Some((_, reached)) if index % 2 == 1 => *reached = next,
                    _ => merged.push_back((at, next)),
                }
            }
            self.marks = merged;
            self.every *= 2;
        }
    }

    /// How long ago the reading at `position` came, at most so much too long as marks lie apart; 0 where it has not come.
    pub(super) fn age(&mut self, position: Position, now: Instant) -> Duration {
        while self.marks.front().is_some_and(|(_, next)| *next <= position) {
            self.marks.pop_front();
        }
        if self.marks.is_empty() {
            self.every = EVERY_MIN;
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
            assert!((99_999 - second..=100_000 - second + 2048).contains(&age), "{second}: {age}");
        }
        assert_eq!(ages.age(Position(1_000_000), at(100_000)), Duration::ZERO, "it has not come");
        // after an hour in which nothing came, what comes is young
        ages.handle_stored(Position(1_000_001), at(103_600));
        assert_eq!(ages.age(Position(1_000_000), at(103_601)), Duration::from_secs(1));
    }
}
