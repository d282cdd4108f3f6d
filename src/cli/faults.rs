//! What goes wrong with `--faults`. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::sim::faults::{AnswerFault, AnswerFaults, Fault, Moment, Refusal, Spoil, When};
use crate::sim::serve::site::{End, Place};

/// What goes wrong is the same each time, as far as the requests are.
const SEED: u64 = 1;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Everything at this far end goes wrong.
pub(super) fn set(end: &End) {
    end.far.set_faults(end.faults(SEED, of(&end.place)));
    end.far.set_meter_faults(of_meters());
    end.far.set_instrument_faults(of_instruments());
}

/// What goes wrong at such a far end.
fn of(place: &Place) -> Vec<Fault> {
    match place {
        Place::Tcp { .. } => on_network(),
        Place::Line(_) | Place::Dials { .. } => on_line(),
    }
}

/// Every so many requests (primes, so that no block is struck always) something else goes wrong. On a network no bit
/// flips: there TCP has a checksum and Modbus none.
fn on_network() -> Vec<Fault> {
    let plan = [
        (5, Spoil::Split { at: None, pause: ms(20) }),
        (7, Spoil::Duplicated(ms(3))),
        (11, Spoil::Late(ms(100), ms(700))),
        (17, Spoil::IdPlus(1)),
        (23, Spoil::Unit(77)),
        (29, Spoil::Late(ms(1100), ms(1500))),
        (31, Spoil::Held),
        (43, Spoil::HangUp(Moment::After)),
        (53, Spoil::HangUp(Moment::Middle)),
    ];
    mix(plan, When::Runs { length: 2, every: 19 })
}

/// The same for a serial line.
fn on_line() -> Vec<Fault> {
    let plan = [
        (3, Spoil::Split { at: None, pause: ms(20) }),
        (5, Spoil::Noisy { before: 3, behind: 5 }),
        (7, Spoil::FlippedBit),
        (11, Spoil::Duplicated(ms(0))),
        (13, Spoil::Late(ms(100), ms(700))),
        (17, Spoil::Unit(77)),
        (29, Spoil::Late(ms(1100), ms(1500))),
    ];
    mix(plan, When::Runs { length: 2, every: 19 })
}

/// The same for the meters on it, of which answers are counted.
fn of_meters() -> AnswerFaults {
    let plan = [
        (2, AnswerFault::Noisy(3)),
        (3, AnswerFault::Foreign),
        (5, AnswerFault::FlippedBit),
        (7, AnswerFault::Duplicated),
        (11, AnswerFault::Late(ms(100), ms(700))),
        (13, AnswerFault::Echoed),
        (17, AnswerFault::Lost),
        (29, AnswerFault::Late(ms(1100), ms(1500))),
    ];
    AnswerFaults::new(SEED, plan.map(|(every, fault)| (When::Every(every), fault)).to_vec())
}

/// The same for the instruments on it: what they are asked, and what they say by themselves, is counted.
fn of_instruments() -> AnswerFaults {
    let plan = [
        (3, AnswerFault::Noisy(3)),
        (5, AnswerFault::FlippedBit),
        (7, AnswerFault::Duplicated),
        (11, AnswerFault::Late(ms(100), ms(700))),
        (13, AnswerFault::Echoed),
        (17, AnswerFault::Lost),
        (29, AnswerFault::Late(ms(1100), ms(1500))),
    ];
    AnswerFaults::new(SEED, plan.map(|(every, fault)| (When::Every(every), fault)).to_vec())
}

fn mix<const COUNT: usize>(plan: [(u64, Spoil); COUNT], busy: When) -> Vec<Fault> {
    let spoils = plan.into_iter().map(|(every, spoil)| Fault::new(When::Every(every), spoil));
    spoils.chain([Fault::new(busy, Refusal::Exception(6))]).collect()
}

/// How many of each kind have been injected, over all links.
#[derive(Debug, Default)]
pub(super) struct Tally(BTreeMap<&'static str, u64>);

impl Tally {
    pub(super) fn add(&mut self, injected: &BTreeMap<&'static str, u64>) {
        for (name, count) in injected {
            *self.0.entry(name).or_default() += count;
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.values().sum::<u64>())?;
        for (index, (name, count)) in self.0.iter().enumerate() {
            write!(f, "{}{name} {count}", if index == 0 { " (" } else { ", " })?;
        }
        f.write_str(if self.0.is_empty() { "" } else { ")" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_names_what_was_injected_and_how_often() {
        let mut tally = Tally::default();
        assert_eq!(tally.to_string(), "0");
        tally.add(&BTreeMap::from([("late", 2), ("busy", 1)]));
        tally.add(&BTreeMap::from([("late", 3)]));
        assert_eq!(tally.to_string(), "6 (busy 1, late 5)");
    }
}
