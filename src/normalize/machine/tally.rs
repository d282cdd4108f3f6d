//! What an account holds, and the figures of ISO 22400-2:2014 that follow from it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::state::State;

/// Time in each state, within planned time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// In `run`.
    pub run: Duration,
    /// In `idle`.
    pub idle: Duration,
    /// In `stop`.
    pub stop: Duration,
    /// In `setup`.
    pub setup: Duration,
    /// In `fault`.
    pub fault: Duration,
    /// In `unknown`, or unobserved.
    pub unknown: Duration,
}

impl Times {
    /// Adds time in a state.
    pub fn add(&mut self, state: State, time: Duration) {
        let sum = match state {
            State::Run => &mut self.run,
            State::Idle => &mut self.idle,
            State::Stop => &mut self.stop,
            State::Setup => &mut self.setup,
            State::Fault => &mut self.fault,
            State::Unknown => &mut self.unknown,
        };
        *sum = sum.saturating_add(time);
    }

    /// Time in a state.
    #[must_use]
    pub const fn of(&self, state: State) -> Duration {
        match state {
            State::Run => self.run,
            State::Idle => self.idle,
            State::Stop => self.stop,
            State::Setup => self.setup,
            State::Fault => self.fault,
            State::Unknown => self.unknown,
        }
    }

    /// All of it: the planned time that has passed.
    #[must_use]
    pub fn sum(&self) -> Duration {
        State::ALL.into_iter().fold(Duration::ZERO, |sum, state| sum.saturating_add(self.of(state)))
    }
}

/// What an account holds of one shift, or of one product in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Time within planned time.
    pub times: Times,
    /// Pieces (PQ), in and out of planned time.
    pub pieces: f64,
    /// Pieces that are no good (SQ), in and out of planned time.
    pub scrap: f64,
    /// Counts times cycle (PRI × PQ), in planned time only, in s.
    pub planned_s: f64,
    /// What was used, in and out of planned time, in kWh.
    pub energy_kwh: f64,
    /// Some counts may be missing: a sample between two edges was not known, or nobody was there.
    pub has_gap: bool,
    /// Some energy may be missing.
    pub has_energy_gap: bool,
    /// Something was counted in planned time while its cycle was not known: no performance.
    pub has_uncycled: bool,
}

impl Tally {
    /// Whether nothing was counted and nothing was known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let is_none = |value: f64| value <= 0.0;
        self.times.sum() == self.times.unknown
            && is_none(self.pieces)
            && is_none(self.scrap)
            && is_none(self.energy_kwh)
    }

    /// Whether what was kept can be: numbers that are finite and not negative.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        [self.pieces, self.scrap, self.planned_s, self.energy_kwh].into_iter().all(is_quantity)
    }

    /// Adds what another account has counted; its times too.
    pub fn merge(&mut self, other: &Tally) {
        for state in State::ALL {
            self.times.add(state, other.times.of(state));
        }
        self.pieces += other.pieces;
        self.scrap += other.scrap;
        self.planned_s += other.planned_s;
        self.energy_kwh += other.energy_kwh;
        self.has_gap |= other.has_gap;
        self.has_energy_gap |= other.has_energy_gap;
        self.has_uncycled |= other.has_uncycled;
    }
}

/// Whether a number can be an amount of something: finite and not negative.
pub(super) fn is_quantity(value: f64) -> bool {
    value.is_finite() && value >= 0.0
}
