//! How fast what was missed is sent: at most so many readings a second, and nothing that may still be said by a birth. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::position::Position;

/// A reading is missed when it has not been sent after so long: the first readings of a device come just before its birth,
/// which says them.
const SETTLED_AFTER: Duration = Duration::from_secs(2);
/// How finely that is told.
const MARK_EVERY: Duration = Duration::from_millis(250);
/// How often readings are asked for, where they come faster than one at a time.
const ASKS_A_SECOND: f64 = 5.0;
/// When it is looked again where nothing may be sent.
const IDLE_WAIT: Duration = Duration::from_secs(60);
/// The most readings that are asked for at a time.
const COUNT_MAX: f64 = 5000.0;

/// The pace of a replay.
#[derive(Debug)]
pub(super) struct Replay {
    /// Readings a second.
    rate: f64,
    /// Readings that may be sent now; negative after more came than were asked for.
    allowed: f64,
    at: Instant,
    /// When positions were reached, the oldest first.
    marks: VecDeque<(Instant, Position)>,
    settled: Position,
}

impl Replay {
    /// Nothing has been sent; positions before `next` are from before this program was started.
    pub(super) fn new(rate: f64, next: Position, now: Instant) -> Replay {
        Replay { rate, allowed: 0.0, at: now, marks: VecDeque::new(), settled: next }
    }

    /// From now on so many readings a second; 0: none.
    pub(super) fn set_rate(&mut self, rate: f64) {
        self.rate = rate;
    }

    /// The store has given positions up to `next`.
    pub(super) fn handle_stored(&mut self, next: Position, now: Instant) {
        match self.marks.back_mut() {
            Some((at, reached)) if now.saturating_duration_since(*at) < MARK_EVERY => *reached = next,
            _ => self.marks.push_back((now, next)),
        }
        self.settle(now);
    }

    fn settle(&mut self, now: Instant) {
        while let Some((at, reached)) = self.marks.front().copied()
            && now.saturating_duration_since(at) >= SETTLED_AFTER + MARK_EVERY
        {
            self.settled = reached;
            self.marks.pop_front();
        }
    }

    /// What has not been sent by now of what lies before this is missed.
    pub(super) fn settled(&mut self, now: Instant) -> Position {
        self.settle(now);
        self.settled
    }

    /// When that moves on next.
    pub(super) fn settles_at(&self) -> Option<Instant> {
        self.marks.front().map(|(at, _)| *at + SETTLED_AFTER + MARK_EVERY)
    }

    /// How many readings may be asked for now.
    ///
    /// # Errors
    /// None; when it will be some.
    pub(super) fn count(&mut self, now: Instant) -> Result<usize, Instant> {
        if self.rate <= 0.0 {
            return Err(now + IDLE_WAIT);
        }
        let portion = (self.rate / ASKS_A_SECOND).clamp(1.0, COUNT_MAX);
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        // what was not used does not pile up to a flood
        self.allowed = (self.allowed + passed * self.rate).min(portion.max(self.rate / ASKS_A_SECOND));
        if self.allowed < portion {
            let missing = Duration::try_from_secs_f64((portion - self.allowed) / self.rate);
            return Err(now
                + missing
                    .unwrap_or(Duration::MAX)
                    .clamp(Duration::from_millis(1), Duration::from_secs(3600)));
        }
        Ok(whole(portion))
    }

    /// So many came.
    pub(super) fn handle_read(&mut self, count: usize) {
        self.allowed -= f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    }
}

/// The whole part of a small positive number.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and COUNT_MAX")]
fn whole(number: f64) -> usize {
    number as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Readings that came within ten seconds when each request brings `surplus` more than it asked for.
    fn replayed(rate: f64, surplus: usize) -> f64 {
        let start = crate::clock::monotonic();
        let (mut replay, mut now, mut all) = (Replay::new(rate, Position(0), start), start, 0);
        while now < start + Duration::from_secs(10) {
            match replay.count(now) {
                Ok(count) => {
                    replay.handle_read(count + surplus);
                    all += count + surplus;
                }
                Err(later) => now = later,
            }
        }
        f64::from(u32::try_from(all).unwrap()) / 10.0
    }

    #[test]
    fn the_pace_is_kept_whatever_a_request_brings() {
        for rate in [0.5, 3.0, 100.0, 5000.0, 20_000.0, 1_000_000.0] {
            for surplus in [0, 400] {
                let found = replayed(rate, surplus);
                let most = rate * 1.02 + f64::from(u32::try_from(surplus).unwrap()) / 10.0 + 0.1;
                assert!(
                    found <= most && (surplus > 0 || found >= rate * 0.9 - 0.2),
                    "{rate} {surplus}: {found}"
                );
            }
        }
    }

    #[test]
    fn what_has_just_come_is_not_missed_yet() {
        let start = crate::clock::monotonic();
        let at = |ms| start + Duration::from_millis(ms);
        let mut replay = Replay::new(1.0, Position(5), start);
        for ms in (0..3000).step_by(100) {
            replay.handle_stored(Position(10 + ms / 100), at(ms));
        }
        let settled = replay.settled(at(3000));
        assert!(settled >= Position(5) && settled <= Position(20), "{settled}");
        assert!(replay.settles_at().is_some());
        assert_eq!(replay.settled(at(9000)), Position(39));
        assert_eq!(replay.settles_at(), None);
    }
}
