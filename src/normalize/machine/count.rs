//! Pieces from what a counter has gone up by, from edges, from events.

use super::tally::is_quantity;
use crate::config::site::{Amount, Count, CountKind};

/// What was seen of whatever counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Seen {
    /// A counter has gone up by this since it was last seen.
    Delta(f64),
    /// A bool was read; `None`: it is not known.
    Level(Option<bool>),
    /// A value came.
    Event,
    /// Something may have been counted that nobody can tell of: a counter was reset or replaced.
    Missed,
}

/// What something seen adds to an account.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counted {
    /// Counts: shots, strokes.
    pub counts: f64,
    /// Pieces: counts times the pieces of each.
    pub pieces: f64,
    /// Something may have been missed.
    pub has_gap: bool,
}

/// Counts one thing.
#[derive(Clone, Debug)]
pub(super) struct Counting {
    kind: CountKind,
    each: Option<f64>,
    level: Option<bool>,
    /// A level was known before the one that is not.
    was_known: bool,
}

impl Counting {
    pub(super) fn new(count: Count) -> Counting {
        let each = match count.each {
            Amount::Number(each) => Some(each).filter(|each| is_quantity(*each)),
            Amount::Tag => None,
        };
        Counting { kind: count.kind, each, level: None, was_known: false }
    }

    /// Takes the pieces of each count from its tag; while that is not known the last one stays.
    pub(super) fn set_each(&mut self, each: Option<f64>) {
        self.each = each.filter(|each| is_quantity(*each)).or(self.each);
    }

    /// An edge is counted between two known samples only: what is made while the level is not known is missed, and the
    /// account says that it may be. What is counted before the pieces of each are known is missed too.
    pub(super) fn see(&mut self, seen: Seen) -> Counted {
        let gap = Counted { has_gap: true, ..Counted::default() };
        let counts = match (self.kind, seen) {
            (CountKind::Counter, Seen::Delta(delta)) if is_quantity(delta) => delta,
            (CountKind::Counter, Seen::Delta(_)) => return gap,
            (CountKind::Rising, Seen::Level(level)) => {
                let is_edge = self.level == Some(false) && level == Some(true);
                self.level = level;
                let is_lost = level.is_none() && self.was_known;
                self.was_known |= level.is_some();
                if is_lost {
                    return gap;
                }
                if is_edge { 1.0 } else { 0.0 }
            }
            (CountKind::Event, Seen::Event) => 1.0,
            (_, Seen::Missed) => return gap,
            (CountKind::Counter | CountKind::Rising | CountKind::Event, _) => 0.0,
        };
        if counts <= 0.0 {
            return Counted::default();
        }
        match self.each.map(|each| each * counts) {
            Some(pieces) if is_quantity(pieces) => Counted { counts, pieces, has_gap: false },
            Some(_) | None => Counted { counts, ..gap },
        }
    }

    /// Whether what happens while nobody is there is missed: a counter goes on counting by itself.
    pub(super) const fn misses_what_is_unseen(&self) -> bool {
        matches!(self.kind, CountKind::Rising | CountKind::Event)
    }
}
