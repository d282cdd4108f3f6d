//! SunSpec: where a device has its models is found by a walk from one header to the next. Pure.
//!
//! Holding registers from 40000, 50000 or 0 on begin with the marker "SunS"; then model after model stands there, each with its id, its
//! length and so many registers; FFFF in place of an id ends them (SunSpec Device Information Model Specification 1.1, 6.2 to 6.4).

use std::collections::BTreeMap;

use crate::tag::{Area, Span};

/// Where the marker may stand, the usual place first.
const CANDIDATES: [u16; 3] = [40_000, 50_000, 0];
/// "SunS"
const MARKER: [u16; 2] = [0x5375, 0x6E53];
/// In place of the id of a model: there is none any more.
const END: u16 = 0xFFFF;
/// Registers of a header: id and length.
const HEADER: u16 = 2;
/// Nobody has more models; a device with an endless list is walked no farther.
const MODELS_MAX: u16 = 128;

/// A walk over the models of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// The first candidate that is tried.
    first: usize,
    state: State,
    models: BTreeMap<u16, Span>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many candidates had no marker.
    Marker(usize),
    /// The next header is here, and so many were read.
    Header {
        address: u16,
        read: u16,
    },
    Ended,
}

impl Default for Walk {
    fn default() -> Walk {
        Walk { first: 0, state: State::Marker(0), models: BTreeMap::new() }
    }
}

impl Walk {
    /// What is to be read next; `None`: the walk has ended.
    #[must_use]
    pub fn next(&self) -> Option<Span> {
        let span = |address| Span { area: Area::HoldingRegisters, address, count: HEADER };
        match self.state {
            State::Marker(tried) => {
                CANDIDATES.get((self.first + tried) % CANDIDATES.len()).copied().map(span)
            }
            State::Header { address, .. } => Some(span(address)),
            State::Ended => None,
        }
    }

    /// What [`Walk::next`] wanted has these registers; `None`: the device refuses them, or is silent about them.
    pub fn take(&mut self, words: Option<&[u16]>) {
        let Some(asked) = self.next() else { return };
        let behind = asked.address.checked_add(HEADER);
        self.state = match (self.state, words, behind) {
            (State::Marker(_), Some(words), Some(behind)) if words == MARKER => {
                State::Header { address: behind, read: 0 }
            }
            (State::Marker(tried), ..) if tried + 1 < CANDIDATES.len() => State::Marker(tried + 1),
            (State::Header { address, read }, Some([id, length]), _) if ![END, 0].contains(id) => {
                self.found(*id, address, *length, read + 1)
            }
            (State::Marker(_) | State::Header { .. } | State::Ended, ..) => State::Ended,
        };
    }

    /// A model begins at `address`, the one with this number; of two with the same id the first counts.
    fn found(&mut self, id: u16, address: u16, length: u16, read: u16) -> State {
        let Some(count) = length.checked_add(HEADER) else { return State::Ended };
        let span = Span { area: Area::HoldingRegisters, address, count };
        if span.end() > u32::from(u16::MAX) + 1 {
            return State::Ended; // it would end behind the last register
        }
        self.models.entry(id).or_insert(span);
        match u16::try_from(span.end()) {
            Ok(address) if read < MODELS_MAX && address <= u16::MAX - HEADER => {
                State::Header { address, read }
            }
            _ => State::Ended,
        }
    }

    /// Where `inner`, counted from the id register of `model`, lies; `None`: the device has no such model, or a shorter one.
    #[must_use]
    pub fn place(&self, model: u16, inner: Span) -> Option<Span> {
        let outer = self.models.get(&model)?;
        let address = outer.address.checked_add(inner.address)?;
        let span = Span { address, ..inner };
        (span.end() <= outer.end()).then_some(span)
    }

    /// All over again: another device may be there.
    pub fn restart(&mut self) {
        *self = Walk { first: self.first, ..Walk::default() };
    }

    /// All over again, as what [`Walk::next`] wanted was not answered: a device that is silent about registers that it does
    /// not have is asked for the next candidate first then.
    pub fn pass_over(&mut self) {
        if let State::Marker(tried) = self.state {
            self.first = (self.first + tried + 1) % CANDIDATES.len();
        }
        self.restart();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks over registers from `base` on; where there are none, the device refuses. What was asked for.
    fn walked(walk: &mut Walk, base: u16, words: &[u16]) -> Vec<u16> {
        let mut asked = Vec::new();
        while let Some(span) = walk.next() {
            asked.push(span.address);
            let index = span.address.checked_sub(base).map(usize::from);
            walk.take(index.and_then(|index| words.get(index..index + usize::from(span.count))));
        }
        asked
    }

    fn inner(address: u16, count: u16) -> Span {
        Span { area: Area::HoldingRegisters, address, count }
    }

    /// Marker, common model of 66 registers, model 203 of 4, end.
    fn registers() -> Vec<u16> {
        let common = [vec![1, 66], vec![0; 66]].concat();
        [MARKER.to_vec(), common, vec![203, 4, 11, 12, 13, 14], vec![END, 0]].concat()
    }

    #[test]
    fn models_are_found_wherever_the_marker_stands() {
        for (base, before) in [(40_000, vec![]), (50_000, vec![40_000]), (0, vec![40_000, 50_000])] {
            let mut walk = Walk::default();
            let rest = [0, 2, 70, 76].map(|offset| base + offset);
            assert_eq!(walked(&mut walk, base, &registers()), [before, rest.to_vec()].concat());
            assert_eq!(walk.place(203, inner(2, 2)), Some(inner(base + 72, 2)));
            assert_eq!(walk.place(1, inner(0, 68)), Some(inner(base + 2, 68)));
            assert_eq!(walk.place(203, inner(5, 2)), None, "it is shorter");
            assert_eq!(walk.place(103, inner(0, 1)), None);
        }
    }

    #[test]
    fn a_device_without_a_marker_has_no_models_and_is_asked_at_another_place_first_the_next_time() {
        let mut walk = Walk::default();
        assert_eq!(walked(&mut walk, 0, &[]), CANDIDATES);
        assert_eq!(walk.place(1, inner(0, 1)), None);
        walk.restart();
        assert_eq!(walked(&mut walk, 7, &[]), CANDIDATES);
        walk.restart();
        walk.pass_over();
        assert_eq!(walked(&mut walk, 7, &[]), [50_000, 0, 40_000]);
        walk.pass_over();
        assert_eq!(walk.next().unwrap().address, 50_000, "it was not silent");
    }

    #[test]
    fn whatever_a_device_answers_the_walk_ends() {
        let headers = |header: [u16; 2]| {
            let mut walk = Walk::default();
            walk.take(Some(&MARKER));
            let mut asked = 0;
            while walk.next().is_some() {
                walk.take(Some(&header));
                asked += 1;
            }
            asked
        };
        assert_eq!([headers([0, 5]), headers([END, 0]), headers([7, 65_535])], [1, 1, 1]);
        assert_eq!(headers([7, 0]), MODELS_MAX, "it is a list without an end");
        let mut walk = Walk::default();
        walk.take(Some(&MARKER));
        walk.take(Some(&[203]));
        assert_eq!(walk.next(), None, "half a header");
    }
}
