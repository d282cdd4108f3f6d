//! What the devices served against what came back from the broker, value by value. Pure.
//!
//! Of each point both sides are a sequence of values; without repetitions the two must be equal, and each value must
//! bear a time at which it was served. Where devices have faults, replies get lost: there what came back must be what was
//! served but for gaps, which history may fill later. Values that agree are forgotten, so that memory does not grow with time.

use std::collections::{BTreeMap, VecDeque};

use super::view::Received;
use crate::reading::Timestamp;
use crate::sim::floor::{PointName, Served, Truth};

/// A reading may be stamped so long after the device has put it on the wire.
const DELAY_MAX_MS: u64 = 2000;
/// Values of a point that were passed over are remembered up to so many: they may come as history.
const PASSED_MAX: usize = 1000;
/// Mismatches that are described one by one; the rest is counted.
const DESCRIBED_MAX: usize = 10;

/// The comparison so far.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    points: BTreeMap<(String, String), Sides>,
    has_gaps: bool,
    /// Values that were passed over and are not remembered any more.
    passed_over: usize,
    /// Values that agree.
    pub(super) matched: u64,
    /// Values that came back and were not served, or not then.
    pub(super) mismatches: u64,
    /// What the first of those were.
    pub(super) described: Vec<String>,
}

#[derive(Debug, Default)]
struct Sides {
    served: VecDeque<Run>,
    /// Served and passed over: a later one has come back.
    passed: VecDeque<Run>,
    received: VecDeque<Received>,
    last_served: Option<Truth>,
    last_received: Option<Truth>,
    matched: u64,
}

/// A value as long as it was served without another in between.
#[derive(Debug)]
struct Run {
    first: Served,
    last_at: Timestamp,
}

impl Comparison {
    /// A comparison that allows for lost replies, or not.
    pub(super) fn new(has_gaps: bool) -> Comparison {
        Comparison { has_gaps, ..Comparison::default() }
    }

    /// Takes what the floor has served since.
    pub(super) fn add_served(&mut self, log: BTreeMap<PointName, Vec<Served>>) {
        for ((device, tag), all) in log {
            let sides = self.points.entry((device.to_string(), tag.to_string())).or_default();
            for served in all {
                if sides.last_served.as_ref() != Some(&served.truth) {
                    sides.last_served = Some(served.truth.clone());
                    sides.served.push_back(Run { last_at: served.at, first: served });
                } else if let Some(run) = sides.served.back_mut().filter(|_| self.has_gaps) {
                    run.last_at = served.at; // its first replies may be lost
                }
            }
        }
    }

    /// Takes a value that came back; one that was read before a birth comes after it, and stands at its own time.
    pub(super) fn add_received(&mut self, received: Received) {
        let sides = self.points.entry((received.device.clone(), received.tag.clone())).or_default();
        let place = sides.received.partition_point(|other| other.at <= received.at);
        sides.received.insert(place, received);
    }

    /// Compares what both sides have. What was served by now must have been added before.
    pub(super) fn settle(&mut self) {
        for ((device, tag), sides) in &mut self.points {
            // without gaps a value that came back is the next one that was served
            while sides.drop_repetitions() && (self.has_gaps || !sides.served.is_empty()) {
                let Some(received) = sides.received.pop_front() else { break };
                if sides.take(&received, if self.has_gaps { usize::MAX } else { 1 }) {
                    sides.matched += 1;
                    self.matched += 1;
                    while sides.passed.len() > PASSED_MAX {
                        sides.passed.pop_front();
                        self.passed_over += 1;
                    }
                    continue;
                }
                self.mismatches += 1;
                if self.described.len() < DESCRIBED_MAX {
                    self.described.push(describe(device, tag, sides.served.front(), &received));
                }
                if !self.has_gaps {
                    sides.served.pop_front();
                }
            }
        }
    }

    /// Values that were served and have not come back, and values that came back and were never served.
    pub(super) fn left_over(&self) -> (usize, usize) {
        let sides = || self.points.values();
        let waiting: usize = sides().map(|sides| sides.served.len() + sides.passed.len()).sum();
        (self.passed_over + waiting, sides().map(|sides| sides.received.len()).sum())
    }

    /// How many values of each point agree.
    pub(super) fn by_point(&self) -> impl Iterator<Item = (&str, u64)> {
        self.points.iter().map(|((device, _), sides)| (device.as_str(), sides.matched))
    }
}

impl Sides {
    /// Drops what came back again; whether something else is left.
    fn drop_repetitions(&mut self) -> bool {
        while self.received.front().is_some_and(|next| Some(&next.truth) == self.last_received.as_ref()) {
            self.received.pop_front();
        }
        !self.received.is_empty()
    }

    /// Takes what came back off what was served, of which it is one of the next `reach`; as history it may be one that was
    /// passed over. `false`: it was not served.
    fn take(&mut self, received: &Received, reach: usize) -> bool {
        let passed = self.passed.iter().position(|run| received.is_history && run.is(received));
        if passed.and_then(|place| self.passed.remove(place)).is_some() {
            return true;
        }
        self.last_received = Some(received.truth.clone());
        let Some(place) = self.served.iter().take(reach).position(|run| run.is(received)) else {
            return false;
        };
        self.passed.extend(self.served.drain(..place));
        self.served.pop_front();
        true
    }
}

impl Run {
    /// Whether this is what came back.
    fn is(&self, received: &Received) -> bool {
        let times = self.first.at.millis()..=self.last_at.millis() + DELAY_MAX_MS;
        self.first.truth == received.truth && times.contains(&received.at.millis())
    }
}

fn describe(device: &str, tag: &str, run: Option<&Run>, received: &Received) -> String {
    let (truth, at) = (&received.truth, received.at.millis());
    match run {
        Some(Run { first, .. }) => format!(
            "{device}/{tag}: served {} at {}, came back as {truth} at {at}",
            first.truth,
            first.at.millis()
        ),
        None => format!("{device}/{tag}: served nothing more, came back as {truth} at {at}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(served: &[(u64, i128)], received: &[(u64, i128)]) -> (u64, u64, (usize, usize)) {
        compare_with(false, served, received)
    }

    fn compare_with(
        has_gaps: bool,
        served: &[(u64, i128)],
        received: &[(u64, i128)],
    ) -> (u64, u64, (usize, usize)) {
        let mut comparison = Comparison::new(has_gaps);
        let served = served
            .iter()
            .map(|&(at, value)| Served { at: Timestamp::from_millis(at), truth: Truth::Integer(value) });
        comparison.add_served(BTreeMap::from([(("d".into(), "t".into()), served.collect())]));
        for &(at, value) in received {
            comparison.add_received(Received {
                device: "d".into(),
                tag: "t".into(),
                at: Timestamp::from_millis(at),
                truth: Truth::Integer(value),
                is_history: false,
            });
        }
        comparison.settle();
        (comparison.matched, comparison.mismatches, comparison.left_over())
    }

    #[test]
    fn repetitions_do_not_count_and_order_does() {
        assert_eq!(compare(&[(0, 1), (1, 1), (2, 2)], &[(0, 1), (2, 2), (2, 2)]), (2, 0, (0, 0)));
        assert_eq!(compare(&[(0, 1), (1, 2)], &[(0, 2), (1, 1)]), (0, 2, (0, 0)));
    }

    #[test]
    fn what_was_read_before_a_birth_and_comes_after_it_is_in_its_place() {
        assert_eq!(compare(&[(0, 1), (5, 2), (9, 3)], &[(0, 1), (9, 3), (5, 2), (9, 3)]), (3, 0, (0, 0)));
        assert_eq!(compare(&[(0, 1), (9, 3)], &[(0, 1), (9, 3), (5, 2)]), (1, 1, (0, 1)));
    }

    #[test]
    fn what_was_passed_over_may_still_come_as_history() {
        let served = |at, value| Served { at: Timestamp::from_millis(at), truth: Truth::Integer(value) };
        let received = |at, value, is_history| Received {
            device: "d".into(),
            tag: "t".into(),
            at: Timestamp::from_millis(at),
            truth: Truth::Integer(value),
            is_history,
        };
        let mut comparison = Comparison::new(true);
        let log = vec![served(0, 1), served(5, 2), served(9, 3)];
        comparison.add_served(BTreeMap::from([(("d".into(), "t".into()), log)]));
        for (at, value, is_history) in
            [(9, 3, false), (5, 2, true), (9, 3, false), (5, 4, true), (0, 1, false)]
        {
            comparison.add_received(received(at, value, is_history));
            comparison.settle();
        }
        assert_eq!((comparison.matched, comparison.mismatches, comparison.left_over()), (2, 2, (1, 0)));
    }

    #[test]
    fn a_wrong_value_a_missing_one_and_an_invented_one_are_seen() {
        assert_eq!(compare(&[(0, 1), (1, 2)], &[(0, 1), (1, 3)]), (1, 1, (0, 0)));
        assert_eq!(compare(&[(0, 1), (1, 2)], &[(0, 1)]), (1, 0, (1, 0)));
        assert_eq!(compare(&[(0, 1)], &[(0, 1), (1, 5)]), (1, 0, (0, 1)));
    }

    #[test]
    fn a_value_with_a_time_at_which_it_was_not_served_is_a_mismatch() {
        assert_eq!(compare(&[(5000, 1)], &[(4999, 1)]), (0, 1, (0, 0)));
        assert_eq!(compare(&[(5000, 1)], &[(7001, 1)]), (0, 1, (0, 0)));
    }
    #[test]
    fn what_gets_lost_may_be_missing_and_nothing_may_be_invented() {
        let check = |served: &[_], received: &[_], expected| {
            assert_eq!(compare_with(true, served, received), expected, "{served:?} {received:?}");
        };
        check(&[(0, 1), (1, 2), (2, 3)], &[(0, 1), (2, 3)], (2, 0, (1, 0)));
        check(&[(0, 1), (1, 2), (2, 3)], &[(1, 2)], (1, 0, (2, 0)));
        check(&[(0, 1), (1, 2)], &[(1, 2), (1, 1)], (1, 1, (1, 0)));
        check(&[(0, 1), (1, 2)], &[(0, 5), (1, 2)], (1, 1, (1, 0)));
        check(&[(0, 1)], &[(0, 1), (0, 2)], (1, 1, (0, 0)));
        check(&[], &[(0, 1)], (0, 1, (0, 0)));
    }

    #[test]
    fn a_value_whose_first_replies_got_lost_bears_the_time_of_a_later_one() {
        assert_eq!(compare_with(true, &[(0, 1), (9000, 1)], &[(9001, 1)]), (1, 0, (0, 0)));
        assert_eq!(compare_with(true, &[(0, 1), (9000, 2)], &[(9001, 1)]), (0, 1, (2, 0)));
        assert_eq!(compare(&[(0, 1), (9000, 1)], &[(9001, 1)]), (0, 1, (0, 0)));
    }
}
