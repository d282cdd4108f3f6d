//! An instrument that is neither Modbus nor a meter: a scale that is asked, one that talks by itself, a reader of codes, or
//! whatever a type's own examples say of it. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Mark, Truth};
use crate::config::site::SerialLine;

/// How long a scale goes from empty to empty, in milliseconds.
const ROUND_MS: u64 = 6000;
/// When in a round it is loaded, has settled, is overloaded, and is unloaded.
const LOADED_MS: u64 = 1000;
const SETTLED_MS: u64 = 2200;
const OVERLOADED_MS: u64 = 4200;
const UNLOADED_MS: u64 = 5000;

/// An instrument.
#[derive(Clone, Debug)]
pub struct Instrument {
    /// The name of the device in the configuration.
    pub name: Arc<str>,
    /// The link that it is on, by name.
    pub link: Arc<str>,
    /// Speed and frame of the line at which it hears and speaks; `None`: those of its link.
    pub line: Option<SerialLine>,
    /// What it is.
    pub habit: Habit,
}

/// What an instrument does.
#[derive(Clone, Debug)]
pub enum Habit {
    /// It is a balance that says its weight in grams where it is asked for it (MT-SICS, level 0).
    Balance(Load),
    /// It is a scale that says its weight again and again (XK3190, 12 bytes).
    Indicator {
        /// What lies on it.
        load: Load,
        /// How often it says so.
        every_ms: u64,
    },
    /// It is a reader that says a code, one after the other, at irregular moments.
    Reader(Arc<[Arc<str>]>),
    /// It says what a manual prints, one scene after the other.
    Player {
        /// What it says; of those that are asked alike each has its turn.
        scenes: Vec<Scene>,
        /// How often it says what nobody asks for.
        every_ms: u64,
    },
}

/// What a manual prints of an instrument.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// To what it is an answer; empty: it is said unasked.
    pub asked: Vec<u8>,
    /// What is said.
    pub said: Vec<u8>,
    /// What the manual says that it means, by tag.
    pub means: Vec<(Arc<str>, Truth)>,
    /// Whether it means that something has happened.
    pub is_event: bool,
}

/// What lies on a scale: it is loaded, settles, is overloaded now and then, and is emptied, round after round.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// The most that it can weigh, in its last digit.
    pub most: u32,
    /// Digits behind the point.
    pub decimals: u8,
    /// Every how many rounds it is overloaded; 0: never.
    pub overload_every: u64,
}

/// A weight as a scale shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight {
    /// In its last digit.
    pub digits: i64,
    /// What it says of it.
    pub mark: Mark,
}

impl Instrument {
    /// Whether it says anything unasked.
    #[must_use]
    pub fn talks(&self) -> bool {
        match &self.habit {
            Habit::Balance(_) => false,
            Habit::Indicator { .. } | Habit::Reader(_) => true,
            Habit::Player { scenes, .. } => scenes.iter().any(|scene| scene.asked.is_empty()),
        }
    }
}

impl Instrument {
    /// Of how many tags it says something.
    #[must_use]
    pub fn tags(&self) -> usize {
        match &self.habit {
            Habit::Balance(_) | Habit::Indicator { .. } | Habit::Reader(_) => 1,
            Habit::Player { scenes, .. } => {
                let names = scenes.iter().flat_map(|scene| scene.means.iter().map(|(tag, _)| tag));
                names.collect::<BTreeSet<_>>().len()
            }
        }
    }
}

impl Load {
    /// What the scale shows, `elapsed_ms` after the start.
    #[must_use]
    pub fn at(&self, elapsed_ms: u64) -> Weight {
        let (round, ms) = (elapsed_ms / ROUND_MS, elapsed_ms % ROUND_MS);
        let most = u64::from(self.most);
        // another load each round, none of them round
        let full = most / 10 * (2 + round * 3 % 7) + round * 37 % (most / 10).max(1);
        let is_over = self.overload_every > 0 && round.is_multiple_of(self.overload_every);
        let (digits, mark) = match ms {
            0..LOADED_MS => (0, Mark::Plain),
            LOADED_MS..SETTLED_MS => {
                (full * (ms - LOADED_MS + 1) / (SETTLED_MS - LOADED_MS + 1), Mark::Moving)
            }
            OVERLOADED_MS..UNLOADED_MS if is_over => (most + 1, Mark::Over),
            SETTLED_MS..UNLOADED_MS => (full, Mark::Plain),
            _ => (full * (ROUND_MS - ms) / (ROUND_MS - UNLOADED_MS + 1), Mark::Moving),
        };
        // what was emptied shows a little less than nothing each third time
        let under = i64::from(ms < LOADED_MS && round % 3 == 1) * 15;
        Weight { digits: i64::try_from(digits).unwrap_or_default() - under, mark }
    }

    /// What `digits` are.
    #[must_use]
    pub fn truth(&self, digits: i64) -> Truth {
        Truth::Double(super::encode::float(digits.into()) / 10_f64.powi(self.decimals.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD: Load = Load { most: 200_000, decimals: 2, overload_every: 2 };

    #[test]
    fn a_scale_is_loaded_settles_is_overloaded_and_emptied() {
        let shown = |ms| {
            let Weight { digits, mark } = LOAD.at(ms);
            format!("{} {mark:?}", LOAD.truth(digits))
        };
        assert_eq!(
            [0, 999, 1600, 2200, 4199, 4200, 4999, 5500, 6000, 8200, 10_200].map(shown),
            [
                "0 Plain",
                "0 Plain",
                "200.16 Moving",
                "400 Plain",
                "400 Plain",
                "2000.01 Over",
                "2000.01 Over",
                "199.8 Moving",
                "-0.15 Plain",
                "1000.37 Plain",
                "1000.37 Plain"
            ]
        );
    }

    #[test]
    fn a_scale_shows_no_more_than_it_can_weigh_unless_it_is_overloaded() {
        for ms in (0..600_000).step_by(7) {
            let Weight { digits, mark } = LOAD.at(ms);
            assert_eq!(digits > 200_000, mark == Mark::Over, "{digits} after {ms} ms");
        }
        let never = Load { overload_every: 0, ..LOAD };
        assert!((0..60_000).all(|ms| never.at(ms).mark != Mark::Over));
    }
}
