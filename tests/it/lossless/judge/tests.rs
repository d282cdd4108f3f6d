//! The judge and its verdict on made-up arrivals: every kind of fault is seen, and only faults are.

use bytes::Bytes;
use tidegate::sparkplug::proto::payload::{PropertySet, PropertyValue};

use super::super::plant::{Log, Served};
use super::super::verdict::{Absence, Verdict, verdict};
use super::*;

const SIZE: Size = Size { devices: 2, tags: 2 };
const ALWAYS: u64 = u64::MAX;

/// A judge, and a plant that has served at 1000, 1100, 1200 ... to each tag of the first device.
struct Case {
    judge: Judge,
    log: Log,
    first: u32,
    seq: u64,
}

fn case() -> Case {
    let mut log = Log::default();
    let mut first = None;
    for step in 0..5 {
        let value = log.give_out(2);
        first.get_or_insert(value);
        let tag = Tag { device: 0, index: 0 };
        log.note(value, 2, Served { tag, at_ms: 1000 + 100 * step, opened_ms: 900 });
    }
    let mut case = Case { judge: Judge::new(SIZE), log, first: first.unwrap(), seq: 0 };
    case.handle(What::Subscribed);
    case
}

impl Case {
    fn handle(&mut self, what: What) {
        self.judge.handle(&Arrival { at_ms: 5000, what });
    }

    fn say(&mut self, topic: &str, seq: Option<u64>, metrics: Vec<Metric>) {
        let payload = Payload { seq, metrics, ..Payload::default() };
        let payload = Bytes::from(payload.encode_to_vec());
        self.handle(What::Message { topic: format!("spBv1.0/{}", topic.replace("//", "/")), payload });
    }

    fn message(&mut self, verb: &str, device: &str, metrics: Vec<Metric>) {
        let topic = format!("{}/{verb}/{}/{device}", super::super::ENTERPRISE, super::super::NODE);
        let seq = self.seq;
        self.seq = (self.seq + 1) % 256;
        self.say(topic.trim_end_matches('/'), Some(seq), metrics);
    }

    fn born(&mut self, bd_seq: u64) -> &mut Case {
        self.seq = 0;
        self.message("NBIRTH", "", vec![bd_seq_metric(bd_seq)]);
        self.message("DBIRTH", "d0", Vec::new());
        self
    }

    fn dead(&mut self, bd_seq: u64) -> &mut Case {
        let topic = format!("{}/NDEATH/{}", super::super::ENTERPRISE, super::super::NODE);
        self.say(&topic, None, vec![bd_seq_metric(bd_seq)]);
        self
    }

    /// The readings of steps 0 to 4, each `is_historical`, `step`, in a message each.
    fn data(&mut self, steps: &[(bool, u32)]) -> &mut Case {
        for (is_historical, step) in steps {
            let metrics = (0..2).map(|tag| self.metric(*is_historical, *step, tag)).collect();
            self.message("DDATA", "d0", metrics);
        }
        self
    }

    fn metric(&self, is_historical: bool, step: u32, tag: u32) -> Metric {
        Metric {
            name: Some(format!("t{tag}")),
            timestamp: Some(1000 + 100 * u64::from(step)),
            is_historical: is_historical.then_some(true),
            value: Some(metric::Value::LongValue(u64::from(self.first + step * 2 + tag))),
            ..Metric::default()
        }
    }

    fn verdict(&self, until_ms: u64, absences: &[Absence]) -> Verdict {
        verdict(&self.judge, &self.log, until_ms, absences)
    }

    /// Lost, corrupt, out of order, protocol, duplicates.
    #[track_caller]
    fn check(&self, expected: [u64; 5]) {
        let verdict = self.verdict(ALWAYS, &[]);
        let lost = u64::try_from(verdict.lost.len()).unwrap();
        let found = [
            lost,
            verdict.corrupt.count,
            verdict.out_of_order.count,
            verdict.protocol.count,
            verdict.duplicates,
        ];
        assert_eq!(found, expected, "{verdict}");
    }
}

fn bd_seq_metric(bd_seq: u64) -> Metric {
    Metric { name: Some("bdSeq".into()), value: Some(metric::Value::LongValue(bd_seq)), ..Metric::default() }
}

const LIVE: bool = false;
const HISTORY: bool = true;

#[test]
fn all_in_its_order_is_clean_live_or_as_history_or_in_a_birth() {
    let mut case = case();
    case.born(7).data(&[(LIVE, 0), (LIVE, 3), (HISTORY, 1), (HISTORY, 2)]);
    let metrics = (0..2).map(|tag| case.metric(LIVE, 4, tag)).collect();
    case.message("DBIRTH", "d0", metrics);
    case.check([0, 0, 0, 0, 0]);
    assert!(case.verdict(ALWAYS, &[]).is_clean());
}

#[test]
fn what_does_not_come_is_lost() {
    let mut case = case();
    case.born(7).data(&[(LIVE, 0), (LIVE, 1), (LIVE, 3), (LIVE, 4)]);
    case.check([2, 0, 0, 0, 0]);
    assert_eq!(case.verdict(1100, &[]).lost.len(), 0);
    assert_eq!(case.verdict(1200, &[]).lost.len(), 2);
    let text = case.verdict(ALWAYS, &[]).losses(&[(1150, "fault 1".into()), (1350, "fault 2".into())]);
    assert!(text.starts_with("  2 lost from 50 to 50 ms after fault 1"), "{text}");
}

#[test]
fn what_was_read_just_before_a_kill_is_excused_and_nothing_else() {
    let mut case = case();
    case.born(7).data(&[(LIVE, 0), (LIVE, 1)]);
    let lost =
        |start_ms, end_ms| case.verdict(ALWAYS, &[Absence { start_ms, end_ms, goes_on: false }]).lost.len();
    assert_eq!(lost(1400, 1410), 0);
    assert_eq!(lost(1401, 1410), 2); // the one of 1200 is 201 ms older
    assert_eq!(lost(1600, 1610), 4);
    // read by the process that was started after the kill
    assert_eq!(lost(800, 850), 6);
    // a gateway that was only held owes what came after
    let held =
        |start_ms, end_ms| case.verdict(ALWAYS, &[Absence { start_ms, end_ms, goes_on: true }]).lost.len();
    assert_eq!((held(1400, 1410), held(1300, 1300), held(800, 850)), (0, 0, 6));
    assert_eq!((held(800, 1000), held(800, 1199)), (4, 2));
}

#[test]
fn a_repeat_is_a_duplicate_and_not_out_of_order() {
    let mut case = case();
    let all = [(LIVE, 0), (LIVE, 1), (LIVE, 2), (LIVE, 3), (LIVE, 4)];
    case.born(7).data(&all).data(&[(HISTORY, 1), (HISTORY, 2)]);
    case.check([0, 0, 0, 0, 4]);
}

#[test]
fn first_arrivals_in_the_wrong_order_are_seen_for_history_and_for_live_data() {
    for kind in [LIVE, HISTORY] {
        let mut case = case();
        case.born(7).data(&[(kind, 0), (kind, 2), (kind, 1), (kind, 3), (kind, 4)]);
        case.check([0, 0, 2, 0, 0]);
    }
}

#[test]
fn order_begins_anew_with_a_connection_but_not_with_a_rebirth() {
    let mut new = case();
    new.born(7).data(&[(HISTORY, 3), (HISTORY, 4)]).dead(7);
    new.born(8).data(&[(HISTORY, 0), (HISTORY, 1), (HISTORY, 2)]);
    new.check([0, 0, 0, 0, 0]);
    let mut same = case();
    same.born(7).data(&[(HISTORY, 3), (HISTORY, 4)]);
    same.born(7).data(&[(HISTORY, 0), (HISTORY, 1), (HISTORY, 2)]);
    same.check([0, 0, 6, 0, 0]);
}

#[test]
fn what_was_not_served_so_is_corrupt() {
    // never served, another tag's, of another time, the same with two times
    let spoilt: [fn(&mut Metric, u32); 4] = [
        |metric, first| metric.value = Some(metric::Value::LongValue(u64::from(first + 50))),
        |metric, _| metric.name = Some("t1".into()),
        |metric, _| metric.timestamp = Some(1601),
        |metric, _| metric.timestamp = Some(1001),
    ];
    for (index, spoil) in spoilt.iter().enumerate() {
        let mut case = case();
        case.born(7).data(&[(LIVE, 0), (LIVE, 1), (LIVE, 2), (LIVE, 3), (LIVE, 4)]);
        let mut metric = case.metric(HISTORY, 0, 0);
        spoil(&mut metric, case.first);
        case.message("DDATA", "d0", vec![metric]);
        let corrupt = case.verdict(ALWAYS, &[]).corrupt;
        assert_eq!(corrupt.count, 1, "{index}: {corrupt:?}");
    }
    let mut late = case();
    late.born(7);
    let mut metric = late.metric(LIVE, 0, 0);
    metric.timestamp = Some(1501);
    late.message("DDATA", "d0", vec![metric]);
    late.check([9, 1, 0, 0, 0]);
}

#[test]
fn a_bad_reading_is_none() {
    let mut case = case();
    case.born(7);
    let quality =
        PropertyValue { value: Some(property_value::Value::IntValue(500)), ..PropertyValue::default() };
    let mut metric = case.metric(LIVE, 0, 0);
    metric.properties = Some(PropertySet { keys: vec!["Quality".into()], values: vec![quality] });
    case.message("DDATA", "d0", vec![metric]);
    case.check([10, 0, 0, 0, 0]);
    assert_eq!(case.verdict(ALWAYS, &[]).bad, 1);
}

#[test]
fn breaches_of_the_protocol_are_seen() {
    let all = [(LIVE, 0), (LIVE, 1), (LIVE, 2), (LIVE, 3), (LIVE, 4)];
    let breaches: [fn(&mut Case); 8] = [
        |case| case.seq += 1,
        |case| case.seq -= 1,
        |case| case.message("DDATA", "d1", Vec::new()),
        |case| {
            case.message("DDATA", "d9", Vec::new());
            case.seq -= 1; // it was not followed
        },
        |case| {
            let metric = Metric { name: Some("t7".into()), ..Metric::default() };
            case.message("DDATA", "d0", vec![metric]);
        },
        |case| {
            let metric = Metric { name: Some("t1".into()), ..Metric::default() };
            case.message("DDATA", "d0", vec![metric]);
        },
        |case| case.say("other/DDATA/n/d0", Some(0), Vec::new()),
        |case| {
            let topic = format!("spBv1.0/{}/DDATA/{}/d0", super::super::ENTERPRISE, super::super::NODE);
            case.handle(What::Message { topic, payload: Bytes::from_static(&[7]) });
        },
    ];
    for (index, breach) in breaches.iter().enumerate() {
        let mut case = case();
        case.born(7);
        breach(&mut case);
        case.data(&all);
        let protocol = case.verdict(ALWAYS, &[]).protocol;
        assert!(protocol.count == 1, "{index}: {protocol:?}");
    }
}

#[test]
fn data_before_the_births_of_its_connection_is_a_breach() {
    let all = [(LIVE, 0), (LIVE, 1), (LIVE, 2), (LIVE, 3), (LIVE, 4)];
    let mut never = case();
    never.data(&all).check([0, 0, 0, 5, 0]);
    let mut dead = case();
    dead.born(7).dead(6).dead(7).data(&all).check([0, 0, 0, 5, 0]);
    let mut late_death = case();
    late_death.born(7).dead(6).data(&all).check([0, 0, 0, 0, 0]);
    let mut subscribed_again = case();
    subscribed_again.born(7).handle(What::Subscribed);
    subscribed_again.data(&all).check([0, 0, 0, 5, 0]);
    let mut node_only = case();
    node_only.born(7).seq = 0;
    node_only.message("NBIRTH", "", vec![bd_seq_metric(7)]);
    node_only.data(&all).check([0, 0, 0, 5, 0]);
}

#[test]
fn the_node_says_things_in_the_same_sequence_and_how_many_it_has_lost() {
    let mut case = case();
    case.born(7);
    let lost = Metric {
        name: Some("Gateway/readings_lost".into()),
        value: Some(metric::Value::LongValue(12)),
        ..Metric::default()
    };
    case.message("NDATA", "", vec![lost]);
    case.data(&[(LIVE, 0), (LIVE, 1), (LIVE, 2), (LIVE, 3), (LIVE, 4)]).check([0, 0, 0, 0, 0]);
    assert_eq!(case.verdict(ALWAYS, &[]).lost_said, 12);
    case.seq += 1;
    case.message("NDATA", "", Vec::new());
    case.check([0, 0, 0, 1, 0]);
}

#[test]
fn the_sequence_number_goes_on_after_255() {
    let mut case = case();
    case.born(7);
    for _ in 0..300 {
        case.message("DDATA", "d0", Vec::new());
    }
    assert_eq!(case.verdict(ALWAYS, &[]).protocol.count, 0);
}
