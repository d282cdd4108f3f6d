//! Whether a device answers: what to do at each answer and each miss. Pure.
//!
//! ```text
//!            all blocks tried                       miss
//!  Joining ─────────────────> Online ─────────────────────────> Suspect ──┐ miss: two more
//!     ^  └──────── miss ──────────────────────────────────────────^  │    │
//!     │                                                              │    v
//!     └───────────────────────── answer ─────────────────────────────┴─ Offline (probes further and further apart)
//! ```
//! A miss is a request that had no usable answer after its retries. While a device is suspect or offline one request at
//! a time probes it, each time another block; the rest is left alone. A block that is missed again although the device
//! has answered others meanwhile is at fault by itself: it alone is bad, as some devices are silent where they should
//! refuse.

use std::time::Duration;

/// Missed cycles after which a device counts as gone.
const MISSES_MAX: u32 = 3;
/// Misses of one block, with answers to others between them, after which it is bad by itself.
const STRIKES_MAX: u32 = 2;
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
    /// For each block, its misses since it was answered last.
    strikes: Vec<u32>,
    /// The block that is asked next while the device is suspect or offline.
    probe: usize,
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
    /// Read all blocks now.
    Resume,
    /// Only this block is bad; announce the device if that was the last to be tried.
    Isolate {
        /// Whether to announce it.
        announce: bool,
    },
    /// Its tags are bad; only the probe goes on, after [`Health::probe_wait`].
    Suspend,
    /// As [`Action::Suspend`], and the device is to be withdrawn.
    Withdraw,
}

impl Health {
    /// A device with `blocks` blocks that has not been asked yet.
    #[must_use]
    pub fn new(blocks: usize) -> Health {
        let state = State::Joining { untried: (0..blocks).collect() };
        Health { state, is_up: false, strikes: vec![0; blocks], probe: 0 }
    }

    /// Whether a request for `block` without an answer is worth repeating.
    #[must_use]
    pub fn may_retry(&self, block: usize) -> bool {
        self.is_answering() && self.strikes.get(block) == Some(&0)
    }

    /// Whether the device answers, as far as is known.
    #[must_use]
    pub fn is_answering(&self) -> bool {
        matches!(self.state, State::Joining { .. } | State::Online)
    }

    /// Whether it has missed so many cycles that it counts as gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self.state, State::Offline { .. })
    }

    /// The block to probe with while the device does not answer.
    #[must_use]
    pub fn probe(&self) -> usize {
        self.probe
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
        self.forgive(block);
        match &mut self.state {
            State::Online => Action::Carry,
            State::Joining { .. } => self.tried(block),
            State::Suspect { .. } | State::Offline { .. } => {
                self.state = State::Joining { untried: (0..self.strikes.len()).collect() };
                let action = self.tried(block);
                if self.state == State::Online { action } else { Action::Resume }
            }
        }
    }

    /// The device refused block `first` as a whole, and its second half has become block `second`, the last one.
    pub fn handle_split(&mut self, first: usize, second: usize) -> Action {
        self.strikes.resize(self.strikes.len().max(second + 1), 0);
        self.forgive(first);
        match &mut self.state {
            State::Online => Action::Carry,
            State::Joining { untried } => {
                untried.retain(|other| *other != first);
                untried.extend([first, second]);
                Action::Carry
            }
            State::Suspect { .. } | State::Offline { .. } => {
                self.state = State::Joining { untried: (0..self.strikes.len()).collect() };
                Action::Resume
            }
        }
    }

    /// The request for block `block` had no usable answer after its retries.
    pub fn handle_miss(&mut self, block: usize) -> Action {
        let strikes = self.strikes.get_mut(block).map_or(0, |strikes| {
            *strikes = strikes.saturating_add(1);
            *strikes
        });
        if self.is_answering() && strikes >= STRIKES_MAX {
            let announce = self.tried(block) == Action::Announce;
            return Action::Isolate { announce };
        }
        self.probe = (block + 1) % self.strikes.len().max(1);
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

    fn forgive(&mut self, block: usize) {
        self.probe = block;
        if let Some(strikes) = self.strikes.get_mut(block) {
            *strikes = 0;
        }
    }

    /// A block has been tried: with the last one the device is online.
    fn tried(&mut self, block: usize) -> Action {
        let State::Joining { untried } = &mut self.state else { return Action::Carry };
        untried.retain(|other| *other != block);
        if !untried.is_empty() {
            return Action::Carry;
        }
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

    /// Each letter an event (digits: that block answered, `x`: block 0 missed, `y`: 1, `z`: 2), each result a letter.
    #[track_caller]
    fn check(blocks: usize, events: &str, expected: &str) {
        let mut health = Health::new(blocks);
        let shown = events.chars().map(|event| {
            let action = match event {
                'x' => health.handle_miss(0),
                'y' => health.handle_miss(1),
                'z' => health.handle_miss(2),
                digit => health.handle_answer(digit.to_digit(10).unwrap() as usize),
            };
            match action {
                Action::Carry => '.',
                Action::Announce => 'A',
                Action::Resume => 'R',
                Action::Isolate { announce: false } => 'i',
                Action::Isolate { announce: true } => 'I',
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
        check(2, "0xxx0y01", ".sssRsRA");
    }

    #[test]
    fn a_block_that_is_silent_while_others_are_answered_is_bad_alone() {
        check(2, "0y0y0y", ".sRI.i");
        check(2, "01y0y01y", ".AsRi..s");
        check(3, "x1x2", "sRiA");
        check(3, "0z1z01", ".sRiA.");
        check(1, "0x0x0x", "As.s.s");
    }

    #[test]
    fn a_silent_device_is_probed_with_another_block_each_time() {
        let mut health = Health::new(3);
        let probes: Vec<usize> = (0..5)
            .map(|_| {
                health.handle_miss(health.probe());
                health.probe()
            })
            .collect();
        assert_eq!(probes, [1, 2, 0, 1, 2]);
        health.handle_answer(2);
        assert_eq!(health.probe(), 2);
    }

    #[test]
    fn a_refused_block_is_tried_again_in_halves_before_the_device_is_announced() {
        let mut health = Health::new(1);
        assert_eq!(health.handle_split(0, 1), Action::Carry);
        assert_eq!(health.handle_answer(0), Action::Carry);
        assert_eq!(health.handle_answer(1), Action::Announce);
        assert_eq!(health.handle_split(1, 2), Action::Carry);
        health.handle_miss(0);
        assert_eq!(health.handle_split(2, 3), Action::Resume);
        assert_eq!([0, 1, 2, 3].map(|block| health.handle_answer(block)), [Action::Carry; 4]);
    }

    #[test]
    fn probes_of_a_device_that_is_gone_come_further_and_further_apart() {
        let every = Duration::from_secs(3600);
        let mut health = Health::new(1);
        health.handle_miss(0);
        assert_eq!(health.probe_wait(every), PROBE_MAX);
        assert_eq!(health.probe_wait(Duration::from_millis(50)), Duration::from_millis(50));
        health.handle_miss(0);
        let waits: Vec<u64> = (0..6)
            .map(|_| {
                health.handle_miss(0);
                health.probe_wait(every).as_secs()
            })
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 8, 8]);
    }
}
