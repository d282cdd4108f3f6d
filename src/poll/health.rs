//! Whether a device answers: what to do at each answer and each miss. Pure.
//!
//! ```text
//!           all blocks tried                        miss
//!  Joining ─────────────────> Online ─────────────────────────> Suspect ──┐ miss: two more
//!     ^  └──────── miss ──────────────────────────────────────────^  │    │
//!     │                                                              │    v
//!     └───────────────────────── answer ─────────────────────────────┴─ Offline (probes further and further apart)
//! ```
//! A miss is a request that had no usable answer after its repetitions, or a probe that was due while the link was down.
//! While a device is suspect or offline one request at a time probes it; the rest is left alone. A block that is missed
//! again although the device has answered others meanwhile is silent by itself: some devices say nothing where they
//! should refuse.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::tag::Span;

/// Missed cycles after which a device counts as gone.
const MISSES_MAX: u32 = 3;
/// Misses of one block, with answers to others between them, after which it is silent by itself.
const STRIKES_MAX: u32 = 2;
/// As [`STRIKES_MAX`], for a block that has been answered before: the line may be bad.
const STRIKES_KNOWN_MAX: u32 = 4;
/// The first wait between two probes of a device that is gone; it doubles up to [`PROBE_MAX`].
const PROBE_MIN: Duration = Duration::from_secs(1);
/// The longest wait between two probes: a device that answers again is seen within it.
pub const PROBE_MAX: Duration = Duration::from_secs(8);
/// Blocks whose misses are remembered; beyond it all are forgotten, which costs a few more misses.
const BLOCKS_MAX: usize = 1024;

/// A device's standing.
#[derive(Debug)]
pub struct Health {
    state: State,
    /// Whether it has been announced, and not been withdrawn since.
    is_up: bool,
    /// For each block, its misses since it was answered last.
    strikes: BTreeMap<Span, Strikes>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Strikes {
    count: u32,
    was_answered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It answers; not all of it has been tried yet.
    Joining,
    /// All of it has been tried.
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
    /// Only this block is silent.
    Isolate,
    /// Its tags are bad; only a probe goes on, after [`Health::probe_wait`].
    Suspend,
    /// As [`Action::Suspend`], and the device is to be withdrawn.
    Withdraw,
}

impl Default for Health {
    fn default() -> Health {
        Health { state: State::Joining, is_up: false, strikes: BTreeMap::new() }
    }
}

impl Health {
    /// Whether a request for `block` without an answer is worth repeating.
    #[must_use]
    pub fn may_retry(&self, block: Span) -> bool {
        self.is_answering() && self.strikes.get(&block).is_none_or(|strikes| strikes.count == 0)
    }

    /// Whether the device answers, as far as is known.
    #[must_use]
    pub fn is_answering(&self) -> bool {
        matches!(self.state, State::Joining | State::Online)
    }

    /// Whether it has missed so many cycles that it counts as gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self.state, State::Offline { .. })
    }

    /// The longest wait until the probe of a device that does not answer.
    #[must_use]
    pub fn probe_wait(&self, every: Duration) -> Duration {
        match self.state {
            State::Offline { probe_wait } => probe_wait,
            State::Joining | State::Online | State::Suspect { .. } => every.min(PROBE_MAX),
        }
    }

    /// Block `block` of the device was answered, be it with an exception.
    pub fn handle_answer(&mut self, block: Span) -> Action {
        if self.strikes.len() >= BLOCKS_MAX {
            self.strikes.clear();
        }
        self.strikes.insert(block, Strikes { count: 0, was_answered: true });
        if self.is_answering() {
            return Action::Carry;
        }
        self.state = State::Joining;
        Action::Resume
    }

    /// All that the device has was tried, and it was not suspended meanwhile.
    pub fn handle_swept(&mut self) -> Action {
        if self.state != State::Joining {
            return Action::Carry;
        }
        self.state = State::Online;
        if std::mem::replace(&mut self.is_up, true) { Action::Carry } else { Action::Announce }
    }

    /// The request for block `block` had no usable answer after its repetitions.
    pub fn handle_miss(&mut self, block: Span) -> Action {
        let is_answering = self.is_answering();
        let strikes = self.strikes.entry(block).or_default();
        strikes.count = strikes.count.saturating_add(1);
        let most = if strikes.was_answered { STRIKES_KNOWN_MAX } else { STRIKES_MAX };
        if is_answering && strikes.count >= most {
            return Action::Isolate;
        }
        self.handle_unreachable()
    }

    /// A request was due and could not even be sent.
    pub fn handle_unreachable(&mut self) -> Action {
        let (state, action) = match self.state {
            State::Joining | State::Online => (State::Suspect { missed: 1 }, Action::Suspend),
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

    /// A device that sends by itself has been silent for too long.
    pub fn handle_silence(&mut self) -> Action {
        self.state = State::Offline { probe_wait: PROBE_MIN };
        self.withdraw()
    }

    /// The link has been opened again: what was missed meanwhile says nothing about the device.
    pub fn handle_open(&mut self) {
        if let State::Offline { probe_wait } = &mut self.state {
            *probe_wait = PROBE_MIN;
        }
    }

    fn withdraw(&mut self) -> Action {
        if std::mem::replace(&mut self.is_up, false) { Action::Withdraw } else { Action::Suspend }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tag::Area;

    /// Each letter an event (digits: that block answered, `x` `y` `z`: block 0, 1, 2 missed, `*`: all was tried, `u`:
    /// unreachable), each result a letter.
    #[track_caller]
    fn check(events: &str, expected: &str) {
        let mut health = Health::default();
        let block = |address| Span { area: Area::HoldingRegisters, address, count: 1 };
        let shown = events.chars().map(|event| {
            let action = match event {
                'x' => health.handle_miss(block(0)),
                'y' => health.handle_miss(block(1)),
                'z' => health.handle_miss(block(2)),
                'u' => health.handle_unreachable(),
                '*' => health.handle_swept(),
                digit => health.handle_answer(block(digit.to_digit(10).unwrap().try_into().unwrap())),
            };
            match action {
                Action::Carry => '.',
                Action::Announce => 'A',
                Action::Resume => 'R',
                Action::Isolate => 'I',
                Action::Suspend => 's',
                Action::Withdraw => 'W',
            }
        });
        assert_eq!(shown.collect::<String>(), expected, "{events}");
    }

    #[test]
    fn a_device_is_announced_when_all_of_it_has_been_tried() {
        check("012*012*", "...A....");
    }

    #[test]
    fn a_device_is_withdrawn_at_the_third_missed_cycle_and_only_once() {
        check("0*xxxxx", ".AssWss");
        check("0*uuu", ".AssW");
        check("0*xx0", ".AssR");
    }

    #[test]
    fn a_device_that_has_never_answered_is_never_withdrawn() {
        check("xxxxxx", "ssssss");
        check("xxxx01*", "ssssR.A");
    }

    #[test]
    fn a_device_that_comes_back_before_it_was_withdrawn_is_not_announced_again() {
        check("01*x01*", "..AsR..");
        check("0*xxx0*", ".AssWRA");
    }

    #[test]
    fn a_block_that_is_silent_while_others_are_answered_is_isolated() {
        check("0y0y", ".sRI");
        check("01*y0y0y0y", "..AsRsRsRI");
        check("0*x0x0x", ".AsRsRs");
    }

    #[test]
    fn probes_of_a_device_that_is_gone_come_further_and_further_apart_until_the_link_is_opened_again() {
        let every = Duration::from_secs(3600);
        let mut health = Health::default();
        health.handle_unreachable();
        assert_eq!(health.probe_wait(every), PROBE_MAX);
        assert_eq!(health.probe_wait(Duration::from_millis(50)), Duration::from_millis(50));
        health.handle_unreachable();
        let waits: Vec<u64> = (0..6)
            .map(|_| {
                health.handle_unreachable();
                health.probe_wait(every).as_secs()
            })
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 8, 8]);
        health.handle_open();
        assert_eq!(health.probe_wait(every).as_secs(), 1);
    }
}
