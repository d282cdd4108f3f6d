//! Whether a device answers: what to do at each answer and each miss. Pure.
//!
//! ```text
//!            all blocks tried                       miss
//!  Joining ─────────────────> Online ─────────────────────────> Suspect ──┐ miss: two more
//!     ^  └──────── miss ──────────────────────────────────────────^  │    │
//!     │                                                              │    v
//!     └───────────────────────── answer ─────────────────────────────┴─ Offline (probes further and further apart)
//! ```
//! A miss is a request that had no usable answer after its retries. While a device is suspect or offline one cheap
//! request probes it; its other blocks rest.

use std::time::Duration;

/// Missed cycles after which a device counts as gone.
const MISSES_MAX: u32 = 3;
/// The first wait between two probes of a device that is gone; it doubles up to [`PROBE_MAX`].
const PROBE_MIN: Duration = Duration::from_secs(1);
/// The longest wait between two probes: a device that answers again is seen within it.
pub const PROBE_MAX: Duration = Duration::from_secs(8);

/// A device's standing.
#[derive(Debug)]
pub struct Health {
    state: State,
    /// Whether it has been announced, and not been withdrawn since.
    is_up: bool,
    blocks: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// It answers; these blocks have not been tried yet.
    Joining { untried: Vec<usize> },
    /// Every block has been tried.
    Online,
    /// It has missed so many cycles.
    Suspect { missed: u32 },
    /// It is gone; the wait until the next probe.
    Offline { probe_wait: Duration },
}

/// What is to be done after an answer or a miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing out of the ordinary.
    Carry,
    /// Announce the device: all of its blocks have been tried.
    Announce,
    /// Read all other blocks now.
    Resume,
    /// Its tags are bad; only the probe goes on, after this wait at most.
    Suspend,
    /// As [`Action::Suspend`], and the device is to be withdrawn.
    Withdraw,
}

impl Health {
    /// A device with `blocks` blocks that has not been asked yet.
    #[must_use]
    pub fn new(blocks: usize) -> Health {
        Health { state: State::Joining { untried: (0..blocks).collect() }, is_up: false, blocks }
    }

    /// Whether a request without an answer is worth repeating at once.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        matches!(self.state, State::Joining { .. } | State::Online)
    }

    /// The longest wait until the probe of a device that does not answer.
    #[must_use]
    pub fn probe_wait(&self, every: Duration) -> Duration {
        match self.state {
            State::Offline { probe_wait } => probe_wait,
            State::Joining { .. } | State::Online | State::Suspect { .. } => every.min(PROBE_MAX),
        }
    }

    /// Block `block` of the device was answered, be it with an exception.
    pub fn handle_answer(&mut self, block: usize) -> Action {
        match &mut self.state {
            State::Online => Action::Carry,
            State::Joining { untried } => {
                untried.retain(|other| *other != block);
                if untried.is_empty() { self.join() } else { Action::Carry }
            }
            State::Suspect { .. } | State::Offline { .. } => {
                let untried: Vec<usize> = (0..self.blocks).filter(|other| *other != block).collect();
                if untried.is_empty() {
                    return self.join();
                }
                self.state = State::Joining { untried };
                Action::Resume
            }
        }
    }

    /// The device refused block `first` as a whole, and its second half has become block `second`, the last one.
    pub fn handle_split(&mut self, first: usize, second: usize) -> Action {
        self.blocks = self.blocks.max(second + 1);
        match &mut self.state {
            State::Online => Action::Carry,
            State::Joining { untried } => {
                untried.retain(|other| *other != first);
                untried.extend([first, second]);
                Action::Carry
            }
            State::Suspect { .. } | State::Offline { .. } => {
                self.state = State::Joining { untried: (0..self.blocks).collect() };
                Action::Resume
            }
        }
    }

    /// A request had no usable answer after its retries.
    pub fn handle_miss(&mut self) -> Action {
        let (state, action) = match self.state {
            State::Joining { .. } | State::Online => (State::Suspect { missed: 1 }, Action::Suspend),
            State::Suspect { missed } if missed + 1 < MISSES_MAX => {
                (State::Suspect { missed: missed + 1 }, Action::Suspend)
            }
            State::Suspect { .. } => (State::Offline { probe_wait: PROBE_MIN }, self.withdraw()),
            State::Offline { probe_wait } => {
                (State::Offline { probe_wait: (probe_wait * 2).min(PROBE_MAX) }, Action::Suspend)
            }
        };
        self.state = state;
        action
    }

    fn join(&mut self) -> Action {
        self.state = State::Online;
        if std::mem::replace(&mut self.is_up, true) { Action::Carry } else { Action::Announce }
    }

    fn withdraw(&mut self) -> Action {
        if std::mem::replace(&mut self.is_up, false) { Action::Withdraw } else { Action::Suspend }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each letter an event (digits: that block answered, `x`: a miss), each result a letter.
    #[track_caller]
    fn check(blocks: usize, events: &str, expected: &str) {
        let mut health = Health::new(blocks);
        let shown = events.chars().map(|event| {
            let action = match event.to_digit(10) {
                Some(block) => health.handle_answer(block as usize),
                None => health.handle_miss(),
            };
            match action {
                Action::Carry => '.',
                Action::Announce => 'A',
                Action::Resume => 'R',
                Action::Suspend => 's',
                Action::Withdraw => 'W',
            }
        });
        assert_eq!(shown.collect::<String>(), expected, "{blocks} blocks, {events}");
    }

    #[test]
    fn a_device_is_announced_when_each_of_its_blocks_has_been_tried() {
        check(1, "000", "A..");
        check(3, "0120", "..A.");
        check(3, "00012", "....A");
    }

    #[test]
    fn a_device_is_withdrawn_at_the_third_missed_cycle_and_only_once() {
        check(1, "0xxxxx", "AssWss");
        check(2, "01xx0", ".AssR");
    }

    #[test]
    fn a_device_that_has_never_answered_is_never_withdrawn() {
        check(2, "xxxxxx", "ssssss");
        check(2, "xxxx01", "ssssRA");
    }

    #[test]
    fn a_device_that_comes_back_before_it_was_withdrawn_is_not_announced_again() {
        check(2, "01x01", ".AsR.");
        check(1, "0xxx00", "AssWA.");
    }

    #[test]
    fn a_miss_while_joining_begins_anew() {
        check(3, "01x012", "..sR.A");
        check(2, "0xxx0x01", ".sssRsRA");
    }

    #[test]
    fn a_refused_block_is_tried_again_in_halves_before_the_device_is_announced() {
        let mut health = Health::new(1);
        assert_eq!(health.handle_split(0, 1), Action::Carry);
        assert_eq!(health.handle_answer(0), Action::Carry);
        assert_eq!(health.handle_answer(1), Action::Announce);
        assert_eq!(health.handle_split(1, 2), Action::Carry);
        health.handle_miss();
        assert_eq!(health.handle_split(2, 3), Action::Resume);
        assert_eq!([0, 1, 2, 3].map(|block| health.handle_answer(block)), [Action::Carry; 4]);
    }

    #[test]
    fn probes_of_a_device_that_is_gone_come_further_and_further_apart() {
        let every = Duration::from_secs(3600);
        let mut health = Health::new(1);
        health.handle_miss();
        assert_eq!(health.probe_wait(every), PROBE_MAX);
        assert_eq!(health.probe_wait(Duration::from_millis(50)), Duration::from_millis(50));
        health.handle_miss();
        let waits: Vec<u64> = (0..6)
            .map(|_| {
                health.handle_miss();
                health.probe_wait(every).as_secs()
            })
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 8, 8]);
    }
}
