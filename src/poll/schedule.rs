//! What is due: each poll on its own fixed grid. Pure.
//!
//! A poll is never queued twice: one that comes due while the one before is not done is skipped and counted. Which of
//! those that are due goes first is decided by their deadlines, in `task`.

use std::time::{Duration, Instant};

/// When each poll of a link is due.
#[derive(Debug, Default)]
pub struct Schedule {
    slots: Vec<Slot>,
}

#[derive(Debug)]
struct Slot {
    every: Duration,
    /// The point of the grid that comes next.
    grid: Instant,
    /// When it is due; `None`: not before it is woken.
    due: Option<Instant>,
}

impl Schedule {
    /// Adds a poll that is due at `start` and `every` so long after; its index.
    pub fn add(&mut self, every: Duration, start: Instant) -> usize {
        self.slots.push(Slot { every, grid: start, due: Some(start) });
        self.slots.len() - 1
    }

    /// The poll that is due first, and when; of several the one that was added first.
    #[must_use]
    pub fn next(&self) -> Option<(usize, Instant)> {
        let due = self.slots.iter().enumerate().filter_map(|(index, slot)| Some((index, slot.due?)));
        due.min_by_key(|(index, due)| (*due, *index))
    }

    /// The poll has been done: it is due again at the next point of its grid after `started_at`, when it was begun; that
    /// may be over already. The number of points that were missed because it began so late.
    pub fn done(&mut self, index: usize, started_at: Instant) -> u64 {
        let Some(slot) = self.slots.get_mut(index) else { return 0 };
        let late = started_at.saturating_duration_since(slot.grid);
        let passed = late.as_nanos() / slot.every.as_nanos().max(1);
        let steps = u32::try_from(passed + 1).unwrap_or(u32::MAX);
        slot.grid += slot.every * steps;
        slot.due = Some(slot.grid);
        u64::try_from(passed).unwrap_or(u64::MAX)
    }

    /// The poll is due at `when` and its grid begins there.
    pub fn wake(&mut self, index: usize, when: Instant) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.grid = when;
            slot.due = Some(when);
        }
    }

    /// The poll is due at `when` where it would be later, and its grid begins there; not where it waits to be woken.
    pub fn hasten(&mut self, index: usize, when: Instant) {
        if self.slots.get(index).and_then(|slot| slot.due).is_some_and(|due| due > when) {
            self.wake(index, when);
        }
    }

    /// The poll is not due before `until`; its grid stays.
    pub fn postpone(&mut self, index: usize, until: Instant) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.due = slot.due.map(|due| due.max(until));
        }
    }

    /// The poll is not due before it is woken.
    pub fn park(&mut self, index: usize) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.due = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn start() -> Instant {
        crate::clock::monotonic()
    }

    #[test]
    fn the_earliest_deadline_comes_first_and_of_equals_the_first_added() {
        let start = start();
        let mut schedule = Schedule::default();
        assert_eq!(schedule.next(), None);
        let slow = schedule.add(10 * SECOND, start);
        let fast = schedule.add(SECOND, start);
        assert_eq!(schedule.next(), Some((slow, start)));
        assert_eq!(schedule.done(slow, start), 0);
        assert_eq!(schedule.next(), Some((fast, start)));
        assert_eq!(schedule.done(fast, start), 0);
        assert_eq!(schedule.next(), Some((fast, start + SECOND)));
    }

    #[test]
    fn a_late_poll_keeps_its_grid_and_what_it_missed_is_counted() {
        let start = start();
        let mut schedule = Schedule::default();
        let poll = schedule.add(SECOND, start);
        assert_eq!(schedule.done(poll, start + Duration::from_millis(300)), 0);
        assert_eq!(schedule.next(), Some((poll, start + SECOND)));
        assert_eq!(schedule.done(poll, start + Duration::from_millis(3500)), 2);
        assert_eq!(schedule.next(), Some((poll, start + 4 * SECOND)));
    }

    #[test]
    fn a_postponed_poll_keeps_its_grid() {
        let start = start();
        let mut schedule = Schedule::default();
        let poll = schedule.add(SECOND, start);
        schedule.postpone(poll, start + Duration::from_millis(2500));
        assert_eq!(schedule.next(), Some((poll, start + Duration::from_millis(2500))));
        assert_eq!(schedule.done(poll, start + Duration::from_millis(2600)), 2);
        assert_eq!(schedule.next(), Some((poll, start + 3 * SECOND)));
    }

    #[test]
    fn a_parked_poll_waits_until_it_is_woken() {
        let start = start();
        let mut schedule = Schedule::default();
        let poll = schedule.add(SECOND, start);
        schedule.park(poll);
        assert_eq!(schedule.next(), None);
        schedule.wake(poll, start + 5 * SECOND);
        assert_eq!(schedule.next(), Some((poll, start + 5 * SECOND)));
        schedule.done(poll, start + 5 * SECOND);
        assert_eq!(schedule.next(), Some((poll, start + 6 * SECOND)));
    }
}
