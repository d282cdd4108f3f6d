//! What the devices served against what came back from the broker, value by value. Pure.
//!
//! Of each point both sides are a sequence of values; without repetitions the two must be equal, and each value must
//! bear a time at which it was served. Pairs that agree are forgotten, so that memory does not grow with time.

use std::collections::{BTreeMap, VecDeque};

use super::view::Received;
use crate::sim::floor::{PointName, Served, Truth};

/// A reading may be stamped so long after the device has put it on the wire.
const DELAY_MAX_MS: u64 = 2000;
/// Mismatches that are described one by one; the rest is counted.
const DESCRIBED_MAX: usize = 10;

/// The comparison so far.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    points: BTreeMap<(String, String), Sides>,
    /// Values that agree.
    pub(super) matched: u64,
    /// Values that came back and were not served, or not then.
    pub(super) mismatches: u64,
    /// What the first of those were.
    pub(super) described: Vec<String>,
}

#[derive(Debug, Default)]
struct Sides {
    served: VecDeque<Served>,
    received: VecDeque<Received>,
    last_served: Option<Truth>,
    last_received: Option<Truth>,
    matched: u64,
}

impl Comparison {
    /// Takes what the floor has served since.
    pub(super) fn add_served(&mut self, log: BTreeMap<PointName, Vec<Served>>) {
        for ((device, tag), all) in log {
            let sides = self.points.entry((device.to_owned(), tag.to_owned())).or_default();
            for served in all {
                if sides.last_served.as_ref() != Some(&served.truth) {
                    sides.last_served = Some(served.truth.clone());
                    sides.served.push_back(served);
                }
            }
        }
    }

    /// Takes a value that came back.
    pub(super) fn add_received(&mut self, received: Received) {
        let sides = self.points.entry((received.device.clone(), received.tag.clone())).or_default();
        if sides.last_received.as_ref() != Some(&received.truth) {
            sides.last_received = Some(received.truth.clone());
            sides.received.push_back(received);
        }
    }

    /// Compares what both sides have.
    pub(super) fn settle(&mut self) {
        for ((device, tag), sides) in &mut self.points {
            while !sides.served.is_empty() && !sides.received.is_empty() {
                let (Some(served), Some(received)) = (sides.served.pop_front(), sides.received.pop_front())
                else {
                    break;
                };
                let delay = received.at.millis().checked_sub(served.at.millis());
                if served.truth == received.truth && delay.is_some_and(|delay| delay <= DELAY_MAX_MS) {
                    sides.matched += 1;
                    self.matched += 1;
                    continue;
                }
                self.mismatches += 1;
                if self.described.len() < DESCRIBED_MAX {
                    self.described.push(format!(
                        "{device}/{tag}: served {} at {}, came back as {} at {}",
                        served.truth,
                        served.at.millis(),
                        received.truth,
                        received.at.millis()
                    ));
                }
            }
        }
    }

    /// Values that were served and have not come back, and values that came back and were never served.
    pub(super) fn left_over(&self) -> (usize, usize) {
        let sides = || self.points.values();
        (sides().map(|sides| sides.served.len()).sum(), sides().map(|sides| sides.received.len()).sum())
    }

    /// How many values of each point agree.
    pub(super) fn by_point(&self) -> impl Iterator<Item = (&str, u64)> {
        self.points.iter().map(|((device, _), sides)| (device.as_str(), sides.matched))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::Timestamp;

    fn compare(served: &[(u64, i128)], received: &[(u64, i128)]) -> (u64, u64, (usize, usize)) {
        let mut comparison = Comparison::default();
        let served = served
            .iter()
            .map(|&(at, value)| Served { at: Timestamp::from_millis(at), truth: Truth::Integer(value) });
        comparison.add_served(BTreeMap::from([(("d", "t"), served.collect())]));
        for &(at, value) in received {
            comparison.add_received(Received {
                device: "d".into(),
                tag: "t".into(),
                at: Timestamp::from_millis(at),
                truth: Truth::Integer(value),
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
}
