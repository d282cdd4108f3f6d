//! The account of a shift, and within it that of the product that is made.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::capacity::FreeTime;
use super::count::Counted;
use super::state::State;
use super::tally::Tally;
use crate::calendar::Stretch;

/// The account of a stretch of the day: a shift, or what lies between two.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Account {
    /// `2026-11-26 08:00-20:00`; `None` between shifts.
    pub shift: Option<String>,
    /// Its first millisecond, since the epoch.
    pub from_ms: u64,
    /// The end of the shift; of none: 0.
    pub to_ms: u64,
    /// Of all products.
    pub whole: Tally,
    /// Of the product that is made now.
    pub part: Tally,
    /// What is made now.
    pub product: Option<String>,
}

impl Account {
    /// The empty account of a stretch that is entered at a moment.
    pub(super) fn open(stretch: &Stretch, at_ms: u64, product: Option<String>) -> Account {
        let mut account = Account { from_ms: at_ms, product, ..Account::default() };
        account.name(stretch);
        account
    }

    /// Gives it the shift of a stretch, whatever was counted.
    pub(super) fn name(&mut self, stretch: &Stretch) {
        self.shift = label(stretch);
        if let Some(shift) = &stretch.shift {
            (self.from_ms, self.to_ms) = (shift.from_ms, shift.to_ms);
        }
    }

    /// Whether it is the account of this stretch.
    pub(super) fn is_of(&self, stretch: &Stretch) -> bool {
        self.shift == label(stretch)
    }

    pub(super) fn spend(&mut self, state: State, time: Duration) {
        for tally in [&mut self.whole, &mut self.part] {
            tally.times.add(state, time);
        }
    }

    pub(super) fn mark_gap(&mut self) {
        self.whole.has_gap = true;
        self.part.has_gap = true;
    }

    pub(super) fn mark_energy_gap(&mut self) {
        self.whole.has_energy_gap = true;
        self.part.has_energy_gap = true;
    }

    /// Adds pieces; within planned time also what they were planned to take.
    pub(super) fn count_pieces(&mut self, counted: Counted, is_planned: bool, cycle_s: Option<f64>) {
        for tally in [&mut self.whole, &mut self.part] {
            tally.pieces += counted.pieces;
            tally.has_gap |= counted.has_gap;
            match cycle_s {
                Some(cycle_s) if is_planned => tally.planned_s += counted.counts * cycle_s,
                Some(_) => {}
                None => tally.has_uncycled |= is_planned && counted.counts > 0.0,
            }
        }
    }

    pub(super) fn count_scrap(&mut self, counted: Counted) {
        for tally in [&mut self.whole, &mut self.part] {
            tally.scrap += counted.pieces;
            tally.has_gap |= counted.has_gap;
        }
    }

    pub(super) fn use_energy(&mut self, kwh: f64) {
        self.whole.energy_kwh += kwh;
        self.part.energy_kwh += kwh;
    }

    fn is_sound(&self) -> bool {
        self.whole.is_sound() && self.part.is_sound()
    }
}

fn label(stretch: &Stretch) -> Option<String> {
    stretch.shift.as_ref().map(|shift| shift.id.to_string())
}

/// What is kept of a machine over a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// When it was kept, in milliseconds since the epoch.
    pub(super) at_ms: u64,
    pub(super) account: Account,
    pub(super) free: FreeTime,
}

impl Saved {
    /// Whether what was read back can be: numbers that are finite and not negative.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.account.is_sound()
    }
}
