//! What the devices served against what came back from the broker, value by value. Pure.
//!
//! Of each point both sides are a sequence of values, each with what the device says of it: that it has not settled, or that
//! there is none. Without repetitions the two must be equal, and each value must bear a time at which it was served; an event
//! is never a repetition of another. Where devices have faults, replies get lost: there what came back must be what was
//! served but for gaps, which history may fill later. Values that agree are forgotten, so that memory does not grow with time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::view::Received;
use crate::reading::Timestamp;
use crate::sim::floor::{Mark, PointName, Served, Truth};

/// A reading may be stamped so long after the device has put it on the wire.
const DELAY_MAX_MS: u64 = 2000;
/// Values of a point that were passed over are remembered up to so many: they may come as history.
const PASSED_MAX: usize = 1000;
/// Mismatches that are described one by one; the rest is counted.
const DESCRIBED_MAX: usize = 10;
/// How far a number may be from one that a manual prints, as a part of it.
const PRINTED_TOLERANCE: f64 = 1e-9;

/// The comparison so far.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    points: BTreeMap<(String, String), Sides>,
    /// What is computed, and served by nobody.
    computed: BTreeSet<(String, String)>,
    has_gaps: bool,
    /// Values that were passed over and are not remembered any more.
    passed_over: usize,
    /// Values that agree.
    pub(super) matched: u64,
    /// Those among them that had not settled, that were none, and events.
    pub(super) of_marks: OfMarks,
    /// Values that came back and were not served, or not then.
    pub(super) mismatches: u64,
    /// What the first of those were.
    pub(super) described: Vec<String>,
}

/// How many values that agree are no plain ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OfMarks {
    pub(super) moving: u64,
    pub(super) over: u64,
    pub(super) events: u64,
}

#[derive(Debug, Default)]
struct Sides {
    served: VecDeque<Run>,
    /// Served and passed over: a later one has come back.
    passed: VecDeque<Run>,
    received: VecDeque<Received>,
    last_served: Option<Served>,
    last_received: Option<Received>,
    /// The device says more than plain values.
    says_more: bool,
    matched: u64,
}

/// A value as long as it was served without another in between.
#[derive(Debug)]
struct Run {
    first: Served,
    last_at: Timestamp,
}

impl Comparison {
    /// A comparison that allows for lost replies, or not, and of all but these tags by device and name.
    pub(super) fn new(has_gaps: bool, computed: BTreeSet<(String, String)>) -> Comparison {
        Comparison { has_gaps, computed, ..Comparison::default() }
    }

    /// Takes what the floor has served since.
    pub(super) fn add_served(&mut self, log: BTreeMap<PointName, Vec<Served>>) {
        for ((device, tag), all) in log {
            let sides = self.points.entry((device.to_string(), tag.to_string())).or_default();
            for served in all {
                sides.says_more |= matches!(served.mark, Mark::Moving | Mark::Over);
                if sides.last_served.as_ref().is_none_or(|last| !repeats(last, &served)) {
                    sides.last_served = Some(served.clone());
                    sides.served.push_back(Run { last_at: served.at, first: served });
                } else if let Some(run) = sides.served.back_mut().filter(|_| self.has_gaps) {
                    run.last_at = served.at; // its first replies may be lost
                }
            }
        }
    }

    /// Takes a value that came back; one that was read before a birth comes after it, and stands at its own time.
    pub(super) fn add_received(&mut self, received: Received) {
        let name = (received.device.clone(), received.tag.clone());
        if self.computed.contains(&name) {
            return;
        }
        let sides = self.points.entry(name).or_default();
        let place = sides.received.partition_point(|other| other.at <= received.at);
        sides.received.insert(place, received);
    }

    /// Compares what both sides have. What was served by now must have been added before.
    pub(super) fn settle(&mut self) {
        for ((device, tag), sides) in &mut self.points {
            // without gaps a value that came back is the next one that was served
            while sides.drop_repetitions() && (self.has_gaps || !sides.served.is_empty()) {
                let Some(received) = sides.received.pop_front() else { break };
                if let Some(mark) = sides.take(&received, if self.has_gaps { usize::MAX } else { 1 }) {
                    sides.matched += 1;
                    self.matched += 1;
                    self.of_marks.add(mark);
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

impl OfMarks {
    const fn add(&mut self, mark: Mark) {
        match mark {
            Mark::Moving => self.moving += 1,
            Mark::Over => self.over += 1,
            Mark::Event => self.events += 1,
            Mark::Plain | Mark::Printed => {}
        }
    }
}

impl Sides {
    /// Drops what came back again, and of a device that says values only what is none; whether something else is left.
    fn drop_repetitions(&mut self) -> bool {
        while let Some(next) = self.received.front()
            && (self.is_repeated(next) || (next.mark != Mark::Plain && !self.says_more && !self.is_printed()))
        {
            self.received.pop_front();
        }
        !self.received.is_empty()
    }

    /// Whether it is what came back last; an event is that only with its time.
    fn is_repeated(&self, next: &Received) -> bool {
        let mark = self.last_served.as_ref().map_or(Mark::Plain, |served| served.mark);
        self.last_received.as_ref().is_some_and(|last| match mark {
            Mark::Event => (last.at, &last.truth) == (next.at, &next.truth),
            Mark::Printed => next.mark == Mark::Over || last.truth == next.truth,
            Mark::Plain | Mark::Moving | Mark::Over => (last.mark, &last.truth) == (next.mark, &next.truth),
        })
    }

    /// Whether it is said what a manual prints, which does not tell how good it is.
    fn is_printed(&self) -> bool {
        self.last_served.as_ref().is_some_and(|served| served.mark == Mark::Printed)
    }

    /// Takes what came back off what was served, of which it is one of the next `reach`; as history it may be one that was
    /// passed over. `None`: it was not served.
    fn take(&mut self, received: &Received, reach: usize) -> Option<Mark> {
        let passed = self.passed.iter().position(|run| received.is_history && run.is(received));
        if let Some(run) = passed.and_then(|place| self.passed.remove(place)) {
            return Some(run.first.mark);
        }
        self.last_received = Some(received.clone());
        let place = self.served.iter().take(reach).position(|run| run.is(received))?;
        self.passed.extend(self.served.drain(..place));
        self.served.pop_front().map(|run| run.first.mark)
    }
}

impl Run {
    /// Whether this is what came back.
    fn is(&self, received: &Received) -> bool {
        let times = self.first.at.millis()..=self.last_at.millis() + DELAY_MAX_MS;
        let Served { truth, mark, .. } = &self.first;
        let is_it = match mark {
            Mark::Over => received.mark == Mark::Over && received.truth.is_none(),
            Mark::Printed => received.truth.as_ref().is_some_and(|came| is_near(came, truth)),
            Mark::Event => received.mark == Mark::Plain && received.truth.as_ref() == Some(truth),
            Mark::Plain | Mark::Moving => received.mark == *mark && received.truth.as_ref() == Some(truth),
        };
        is_it && times.contains(&received.at.millis())
    }
}

/// Whether `next` says nothing that `last` has not said.
fn repeats(last: &Served, next: &Served) -> bool {
    match next.mark {
        Mark::Event => false,
        Mark::Over => last.mark == Mark::Over,
        Mark::Plain | Mark::Moving | Mark::Printed => (last.mark, &last.truth) == (next.mark, &next.truth),
    }
}

/// Whether a value is what a manual prints.
fn is_near(came: &Truth, printed: &Truth) -> bool {
    match (came, printed) {
        (Truth::Double(came), Truth::Double(printed)) => {
            (came - printed).abs() <= PRINTED_TOLERANCE * printed.abs().max(1.0)
        }
        _ => came == printed,
    }
}

fn describe(device: &str, tag: &str, run: Option<&Run>, received: &Received) -> String {
    let came = match (&received.truth, received.mark) {
        (None, _) => "no value".to_owned(),
        (Some(truth), Mark::Moving) => format!("{truth}, not settled,"),
        (Some(truth), _) => truth.to_string(),
    };
    let at = received.at.millis();
    match run.map(|run| &run.first) {
        Some(Served { truth, mark, at: served_at }) => {
            let said = match mark {
                Mark::Moving => format!("{truth}, not settled,"),
                Mark::Over => "no value".to_owned(),
                Mark::Plain | Mark::Event | Mark::Printed => truth.to_string(),
            };
            format!("{device}/{tag}: served {said} at {}, came back as {came} at {at}", served_at.millis())
        }
        None => format!("{device}/{tag}: served nothing more, came back as {came} at {at}"),
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
        let mut comparison = Comparison::new(has_gaps, BTreeSet::new());
        let served = served.iter().map(|&(at, value)| Served {
            at: Timestamp::from_millis(at),
            truth: Truth::Integer(value),
            mark: Mark::Plain,
        });
        comparison.add_served(BTreeMap::from([(("d".into(), "t".into()), served.collect())]));
        for &(at, value) in received {
            comparison.add_received(Received {
                device: "d".into(),
                tag: "t".into(),
                at: Timestamp::from_millis(at),
                truth: Some(Truth::Integer(value)),
                mark: Mark::Plain,
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
        let served = |at, value| Served {
            at: Timestamp::from_millis(at),
            truth: Truth::Integer(value),
            mark: Mark::Plain,
        };
        let received = |at, value, is_history| Received {
            device: "d".into(),
            tag: "t".into(),
            at: Timestamp::from_millis(at),
            truth: Some(Truth::Integer(value)),
            mark: Mark::Plain,
            is_history,
        };
        let mut comparison = Comparison::new(true, BTreeSet::new());
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

    /// What of a device was served at 0, 10, 20 … and came back then, each value with what was said of it; `-` is no value,
    /// and `.` nothing at all.
    #[track_caller]
    fn check_marks(has_gaps: bool, served: &str, received: &str, expected: &str) {
        let mut comparison = Comparison::new(has_gaps, BTreeSet::new());
        let mark = |word: &str| match word.as_bytes()[0] {
            b'~' => Mark::Moving,
            b'-' => Mark::Over,
            b'!' => Mark::Event,
            b'"' => Mark::Printed,
            _ => Mark::Plain,
        };
        let truth = |word: &str| Truth::Text(word.trim_start_matches(['~', '-', '!', '"']).to_owned());
        let all = (0..).step_by(10).map(Timestamp::from_millis).zip(served.split_whitespace());
        let all = all.map(|(at, word)| Served { at, truth: truth(word), mark: mark(word) });
        comparison.add_served(BTreeMap::from([(("d".into(), "t".into()), all.collect())]));
        for (at, word) in (0..).step_by(10).map(Timestamp::from_millis).zip(received.split_whitespace()) {
            if word == "." {
                continue;
            }
            comparison.add_received(Received {
                device: "d".into(),
                tag: "t".into(),
                at,
                truth: Some(truth(word)).filter(|_| mark(word) != Mark::Over),
                mark: mark(word),
                is_history: false,
            });
        }
        comparison.settle();
        let (missing, invented) = comparison.left_over();
        let wrong = comparison.mismatches + u64::try_from(invented).unwrap();
        let shown = format!("{} right, {wrong} wrong, {missing} missing", comparison.matched);
        assert_eq!(shown, expected, "{served} / {received}");
    }

    #[test]
    fn what_a_device_says_of_a_value_is_a_part_of_it() {
        check_marks(false, "1 ~2 ~3 3 - - 1", "1 ~2 ~3 3 - - 1", "6 right, 0 wrong, 0 missing");
        check_marks(false, "~1 2", "1 2", "1 right, 1 wrong, 0 missing");
        check_marks(false, "1 ~2", "1 2", "1 right, 1 wrong, 0 missing");
        check_marks(false, "- 2", "0 2", "1 right, 1 wrong, 0 missing");
        check_marks(false, "~1 -", "~1 1", "1 right, 1 wrong, 0 missing");
        check_marks(true, "1 ~2 -", "1 0", "1 right, 1 wrong, 2 missing");
        // what is none is the gateway's own word where the device says only values
        check_marks(false, "1 2", "1 - 2", "2 right, 0 wrong, 0 missing");
        check_marks(false, "1 2 ~3", "1 - 2", "1 right, 2 wrong, 0 missing");
    }

    #[test]
    fn each_event_counts_the_same_one_twice_too() {
        check_marks(false, "!a !a !b", "a a b", "3 right, 0 wrong, 0 missing");
        check_marks(false, "!a !a !b", "a . b", "1 right, 1 wrong, 1 missing");
        check_marks(false, "!a !b", "a a b", "1 right, 2 wrong, 0 missing");
        check_marks(true, "!a !a !b", "a . b", "2 right, 0 wrong, 1 missing");
        check_marks(true, "!a !b", "a a b", "2 right, 1 wrong, 0 missing");
    }

    #[test]
    fn what_a_manual_prints_may_be_good_or_doubtful_and_has_a_value() {
        check_marks(false, "\"1 \"2 \"1", "1 ~2 - 1", "3 right, 0 wrong, 0 missing");
        check_marks(false, "\"1 \"2", "1 3", "1 right, 1 wrong, 0 missing");
        assert!(is_near(&Truth::Double(0.12345 + f64::EPSILON), &Truth::Double(0.12345)));
        assert!(!is_near(&Truth::Double(0.12346), &Truth::Double(0.12345)));
    }

    #[test]
    fn what_is_computed_is_not_compared() {
        let computed = BTreeSet::from([("d".to_owned(), "sum".to_owned())]);
        let mut comparison = Comparison::new(false, computed);
        for tag in ["sum", "other"] {
            comparison.add_received(Received {
                device: "d".into(),
                tag: tag.into(),
                at: Timestamp::from_millis(0),
                truth: Some(Truth::Bool(true)),
                mark: Mark::Plain,
                is_history: false,
            });
        }
        comparison.settle();
        assert_eq!(comparison.left_over(), (0, 1));
    }
}
