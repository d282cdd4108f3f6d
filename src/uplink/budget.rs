//! Bytes a day: what an uplink may send, what it has sent, and how it does with less. Pure.
//!
//! A day is one of UTC. A budget is earned evenly over the day, a tenth of it at once. While more has been sent than was
//! earned, a *level* rises each minute, and falls each minute while less has: at level `n` numbers are sent only when they
//! have changed by 0.1 % · 2^(n−1) of their value, and history at a quarter of its pace for each level; with nothing left
//! of the day, history waits for the next one. Births, deaths, states and changes of quality are always sent.

use crate::reading::Timestamp;

const DAY_MS: u64 = 86_400_000;
const MINUTE_MS: u64 = 60_000;
/// From here on only what is always sent is sent: a change of half of the value.
const LEVEL_MAX: u32 = 10;
/// What may be sent at once, as a part of the day's: births, and a morning's start.
const AT_ONCE: f64 = 0.1;
const FIRST_DEADBAND: f64 = 0.001;

/// What an uplink may send.
#[derive(Debug)]
pub(super) struct Budget {
    per_day: u64,
    day: u64,
    used: f64,
    level: u32,
    looked_minute: u64,
}

impl Budget {
    /// The program has started now: what the day has brought so far counts as used, for nobody knows.
    pub(super) fn new(per_day: u64, now: Timestamp) -> Budget {
        let mut budget = Budget { per_day, day: day(now), used: 0.0, level: 0, looked_minute: minute(now) };
        budget.used = (budget.earned(now) - AT_ONCE * exact(per_day)).max(0.0);
        budget
    }

    /// So many bytes were handed to the connection.
    pub(super) fn handle_sent(&mut self, size: usize) {
        self.used += exact(u64::try_from(size).unwrap_or(u64::MAX));
    }

    /// Looks at the time; true if the level has changed.
    pub(super) fn handle_time(&mut self, now: Timestamp) -> bool {
        if minute(now) == self.looked_minute {
            return false;
        }
        self.looked_minute = minute(now);
        if day(now) == self.day + 1 {
            self.day = day(now);
            self.used = 0.0;
        } else if day(now) != self.day {
            // the clock was set: nobody knows what that day has brought
            *self = Budget { level: self.level, ..Budget::new(self.per_day, now) };
        }
        let before = self.level;
        self.level = match self.used > self.earned(now) {
            true => (self.level + 1).min(LEVEL_MAX),
            false => self.level.saturating_sub(1),
        };
        if self.is_spent() {
            self.level = LEVEL_MAX;
        }
        self.level != before
    }

    /// What may have been sent of the day's by now.
    fn earned(&self, now: Timestamp) -> f64 {
        let passed = exact(now.millis() % DAY_MS) / exact(DAY_MS);
        exact(self.per_day) * (passed + AT_ONCE).min(1.0)
    }

    fn is_spent(&self) -> bool {
        self.used >= exact(self.per_day)
    }

    /// How far it degrades, 0 to 10.
    pub(super) fn level(&self) -> u32 {
        self.level
    }

    /// The part of the day's that is used; more than 1 where what must be sent is more than that.
    pub(super) fn used(&self) -> f64 {
        self.used / exact(self.per_day)
    }

    /// The part of its value that a number must have changed by.
    pub(super) fn deadband(&self) -> Option<f64> {
        let doublings = self.level.checked_sub(1)?;
        Some(FIRST_DEADBAND * f64::from(1_u32 << doublings))
    }

    /// What of its pace history keeps; 0 until the next day.
    pub(super) fn history_share(&self) -> f64 {
        if self.is_spent() { 0.0 } else { 0.25_f64.powi(i32::try_from(self.level).unwrap_or(i32::MAX)) }
    }
}

fn day(now: Timestamp) -> u64 {
    now.millis() / DAY_MS
}

fn minute(now: Timestamp) -> u64 {
    now.millis() / MINUTE_MS
}

#[expect(clippy::cast_precision_loss, reason = "bytes of a day and milliseconds of it: exact to 2^53")]
fn exact(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(20_000 * DAY_MS + ms)
    }

    /// A day in which `wanted(level)` bytes are sent a minute; what was sent, and the highest level.
    fn day_of(per_day: u64, wanted: impl Fn(u32) -> usize) -> (f64, u32) {
        let mut budget = Budget::new(per_day, at(0));
        let mut highest = 0;
        for minute in 1..1440 {
            budget.handle_sent(wanted(budget.level()));
            budget.handle_time(at(minute * MINUTE_MS));
            highest = highest.max(budget.level());
        }
        (budget.used(), highest)
    }

    #[test]
    fn a_day_within_the_budget_is_left_alone() {
        let (used, highest) = day_of(1_440_000, |_| 990);
        assert_eq!(highest, 0);
        assert!(used < 1.0);
    }

    #[test]
    fn a_day_that_wants_four_times_as_much_gets_what_there_is() {
        let (used, highest) = day_of(1_440_000, |level| 4000 >> level.min(5));
        assert!(highest >= 2 && used > 0.8 && used <= 1.05, "{used} {highest}");
    }

    #[test]
    fn when_all_is_spent_history_waits_for_the_next_day() {
        let mut budget = Budget::new(1000, at(0));
        budget.handle_sent(1000);
        assert!(budget.handle_time(at(MINUTE_MS)));
        assert_eq!((budget.level(), budget.history_share()), (LEVEL_MAX, 0.0));
        assert_eq!(budget.deadband(), Some(0.512));
        assert!(budget.handle_time(at(DAY_MS)));
        assert!(budget.history_share() > 0.0 && budget.used() < 1e-9);
        (1..30).for_each(|minute| {
            budget.handle_time(at(DAY_MS + minute * MINUTE_MS));
        });
        assert_eq!((budget.level(), budget.deadband()), (0, None));
    }

    #[test]
    fn a_clock_that_is_set_to_another_day_does_not_give_it_anew() {
        let mut budget = Budget::new(1000, Timestamp::from_millis(5 * MINUTE_MS));
        budget.handle_time(at(12 * HOUR_MS));
        assert!((budget.used() - 0.5).abs() < 1e-9);
    }

    #[test]
    fn a_restart_does_not_give_the_day_anew() {
        let noon = Budget::new(1000, at(12 * HOUR_MS));
        assert!((noon.used() - 0.5).abs() < 1e-9);
    }
}
