//! Which reading: the numbers that the store gives, and sets of them.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// A reading's number in the store: they count up in the order in which readings came, and none is given twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl Position {
    /// The one `count` readings later.
    #[must_use]
    pub const fn after(self, count: u64) -> Position {
        Position(self.0.saturating_add(count))
    }

    /// How many readings lie between an `earlier` one and this; 0 where it is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Position) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A set of positions, small where they lie together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Positions {
    /// From each start to an end that is not part of it; never empty, touching or overlapping.
    ranges: BTreeMap<u64, u64>,
}

impl Positions {
    /// The positions of `range`.
    #[must_use]
    pub fn of(range: Range<Position>) -> Positions {
        let mut positions = Positions::default();
        positions.insert(range);
        positions
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.ranges.iter().map(|(start, end)| end - start).sum()
    }

    /// How many runs of neighbours they make.
    #[must_use]
    pub fn runs(&self) -> usize {
        self.ranges.len()
    }

    /// Each run of neighbours, the lowest first.
    pub fn iter(&self) -> impl Iterator<Item = Range<Position>> + '_ {
        self.ranges.iter().map(|(start, end)| Position(*start)..Position(*end))
    }

    /// Adds a range.
    pub fn insert(&mut self, range: Range<Position>) {
        let (mut start, mut end) = (range.start.0, range.end.0);
        if start >= end {
            return;
        }
        // runs that touch or overlap become part of it, from the last that begins at or before its end
        while let Some((run, run_end)) =
            self.ranges.range(..=end).next_back().map(|(run, run_end)| (*run, *run_end))
            && run_end >= start
        {
            self.ranges.remove(&run);
            start = start.min(run);
            end = end.max(run_end);
        }
        self.ranges.insert(start, end);
    }

    /// Adds all of `others`.
    pub fn extend(&mut self, others: &Positions) {
        others.iter().for_each(|range| self.insert(range));
    }

    /// Takes a range away.
    pub fn remove(&mut self, range: Range<Position>) {
        let (start, end) = (range.start.0, range.end.0);
        if start >= end {
            return;
        }
        while let Some((run, run_end)) =
            self.ranges.range(..end).next_back().map(|(run, run_end)| (*run, *run_end))
            && run_end > start
        {
            self.ranges.remove(&run);
            if run < start {
                self.ranges.insert(run, start);
            }
            if run_end > end {
                self.ranges.insert(end, run_end);
            }
        }
    }

    /// Takes all of `others` away.
    pub fn subtract(&mut self, others: &Positions) {
        others.iter().for_each(|range| self.remove(range));
    }

    /// Whether it is one of them.
    #[must_use]
    pub fn contains(&self, position: Position) -> bool {
        self.ranges.range(..=position.0).next_back().is_some_and(|(_, end)| *end > position.0)
    }

    /// The first position from `from` on that is none of them.
    #[must_use]
    pub fn first_missing(&self, from: Position) -> Position {
        match self.ranges.range(..=from.0).next_back() {
            Some((_, end)) if *end > from.0 => Position(*end),
            _ => from,
        }
    }

    /// The lowest.
    #[must_use]
    pub fn first(&self) -> Option<Position> {
        self.ranges.keys().next().map(|start| Position(*start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[track_caller]
    fn check(positions: &Positions, model: &BTreeSet<u64>) {
        let listed: Vec<u64> = positions.iter().flat_map(|range| range.start.0..range.end.0).collect();
        assert_eq!(listed, model.iter().copied().collect::<Vec<_>>());
        assert_eq!(positions.count(), model.len() as u64);
        assert_eq!(positions.first().map(|first| first.0), model.first().copied());
        for at in 0..70 {
            assert_eq!(positions.contains(Position(at)), model.contains(&at));
            let missing = (at..).find(|at| !model.contains(at)).unwrap();
            assert_eq!(positions.first_missing(Position(at)), Position(missing));
        }
        let neighbours = model.iter().filter(|at| !model.contains(&(**at + 1))).count();
        assert_eq!(positions.runs(), neighbours, "runs that touch are one");
    }

    proptest! {
        #[test]
        fn it_is_a_set(steps in prop::collection::vec((any::<bool>(), 0_u64..60, 0_u64..12), 0..40)) {
            let (mut positions, mut model) = (Positions::default(), BTreeSet::new());
            for (is_added, start, count) in steps {
                let range = Position(start)..Position(start + count);
                if is_added {
                    positions.insert(range);
                    model.extend(start..start + count);
                } else {
                    positions.remove(range);
                    model.retain(|at| !(start..start + count).contains(at));
                }
                check(&positions, &model);
            }
        }
    }
}
