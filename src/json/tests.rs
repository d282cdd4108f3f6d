use serde_json::json;

use super::*;
use crate::config;
use crate::config::site::Payload;
use crate::outbox::{DATA_SIZE_MAX, WAITING_READINGS_MAX};
use crate::reading::{Quality, Stamp};
use crate::tag::TagId;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const A: u32 = 0;
const TEXT: u32 = 1;
const WIDE: u32 = 2;
const FLOAT: u32 = 3;

/// Two devices: `d` with the tags `a` (i16, kWh), `b/c` (string) and `w` (u64), `e` with the tag `f` (f32).
fn session(uplink: &str) -> Session {
    let text = format!(
        r#"
        [gateway]
        name = "n"
        enterprise = "g"
        site = "hall/2"
        [uplink.u]
        broker = "mqtt://127.0.0.1"
        payload = "json"
        {uplink}
        [link.l]
        tcp = "127.0.0.1:502"
        [device.d]
        link = "l"
        tags = [{{ name = "a", at = "hr:0", type = "i16", unit = "kWh" }}, {{ name = "b/c", at = "hr:1", type = "string", length = 2 }}, {{ name = "w", at = "hr:10", type = "u64" }}]
        [device.e]
        link = "l"
        unit = 2
        tags = [{{ name = "f", at = "hr:0", type = "f32" }}]
        "#
    );
    let site = Arc::new(config::parse("test.toml", &text).site.unwrap());
    let Payload::Json(form) = site.uplinks[0].payload.clone() else { panic!("JSON") };
    let shares = site.uplinks[0].share.clone();
    Session::new(site, form, &shares, Arc::new(Counters::default()))
}

/// A session that has been told nothing but who is there, all of which was sent.
fn connected(uplink: &str) -> Session {
    let mut session = session(uplink);
    session.handle_connected(7, NOW);
    drain(&mut session);
    session.take_moves();
    session
}

fn reading(tag: u32, value: Value, at: u64) -> Reading {
    let at = Stamp::Wall(Timestamp::from_millis(at));
    Reading { tag: TagId(tag), value: Some(value), quality: Quality::Good, at }
}

fn position(reading: &Reading) -> Position {
    let Stamp::Wall(at) = reading.at else { panic!("by the wall clock") };
    Position(at.millis())
}

/// Positions are the times of the readings here.
fn add(session: &mut Session, readings: &[Reading]) {
    for reading in readings {
        session.handle_update(position(reading), Update::Readings([reading.clone()].into()), NOW);
    }
}

fn history(session: &mut Session, readings: &[Reading]) -> Unsent {
    session.handle_history(readings.iter().map(|reading| (position(reading), reading.clone())).collect())
}

fn positions(all: impl IntoIterator<Item = u64>) -> Positions {
    let mut positions = Positions::default();
    all.into_iter().for_each(|at| positions.insert(Position(at)..Position(at + 1)));
    positions
}

fn drain(session: &mut Session) -> Vec<Publication> {
    std::iter::from_fn(|| session.poll_publication(NOW)).collect()
}

fn text(publication: &Publication) -> &str {
    std::str::from_utf8(&publication.payload).unwrap()
}

/// `topic payload` of each message.
#[track_caller]
fn check(sent: &[Publication], expected: &[&str]) {
    let shown: Vec<String> = sent.iter().map(|sent| format!("{} {}", sent.topic, text(sent))).collect();
    assert_eq!(shown, expected);
    assert!(sent.iter().all(|sent| sent.is_acknowledged));
}

#[test]
fn a_reading_is_a_message_on_a_topic_of_its_own() {
    let mut session = connected("");
    let bad = Reading { value: None, quality: Quality::BadDecode, ..reading(A, Value::Int(0), 3) };
    add(
        &mut session,
        &[reading(A, Value::Int(-5), 1), reading(TEXT, Value::Text("\"空\u{1}".into()), 2), bad],
    );
    check(
        &drain(&mut session),
        &[
            r#"g/hall/2/n/d/a {"timestamp":"1970-01-01T00:00:00.001Z","value":-5,"quality":"good","unit":"kWh"}"#,
            r#"g/hall/2/n/d/b/c {"timestamp":"1970-01-01T00:00:00.002Z","value":"\"空\u0001","quality":"good"}"#,
            r#"g/hall/2/n/d/a {"timestamp":"1970-01-01T00:00:00.003Z","value":null,"quality":"bad:decode","unit":"kWh"}"#,
        ],
    );
}

#[test]
fn readings_of_a_device_that_wait_together_are_one_message_but_never_two_of_a_tag() {
    let mut session = connected("message = \"device\"");
    add(
        &mut session,
        &[
            reading(A, Value::Int(1), 1),
            reading(WIDE, Value::UInt(2), 3),
            reading(A, Value::Int(4), 2),
            reading(FLOAT, Value::Float(1.1), 5),
        ],
    );
    let sent = drain(&mut session);
    check(
        &sent,
        &[
            r#"g/hall/2/n/d {"timestamp":"1970-01-01T00:00:00.003Z","device":"d","tags":{"a":{"timestamp":"1970-01-01T00:00:00.001Z","value":1,"quality":"good","unit":"kWh"},"w":{"timestamp":"1970-01-01T00:00:00.003Z","value":2,"quality":"good"}}}"#,
            r#"g/hall/2/n/d {"timestamp":"1970-01-01T00:00:00.002Z","device":"d","tags":{"a":{"timestamp":"1970-01-01T00:00:00.002Z","value":4,"quality":"good","unit":"kWh"}}}"#,
            r#"g/hall/2/n/e {"timestamp":"1970-01-01T00:00:00.005Z","device":"e","tags":{"f":{"timestamp":"1970-01-01T00:00:00.005Z","value":1.1,"quality":"good"}}}"#,
        ],
    );
    let carried: Vec<&Positions> = sent.iter().map(|sent| &sent.carried).collect();
    assert_eq!(carried, [&positions([1, 3]), &positions([2]), &positions([5])]);
    assert_eq!(session.take_moves().queued, positions([1, 2, 3, 5]));
}

#[test]
fn no_number_is_one_that_a_consumer_reads_as_another() {
    let exact = (1_u64 << 53) - 1;
    let shown = |tag, value| {
        let mut session = connected("");
        add(&mut session, &[reading(tag, value, 1)]);
        let sent = drain(&mut session);
        let message: serde_json::Value = serde_json::from_slice(&sent[0].payload).unwrap();
        (message["value"].clone(), message["quality"].as_str().unwrap().to_owned())
    };
    let good = |value: serde_json::Value| (value, "good".to_owned());
    assert_eq!(shown(WIDE, Value::UInt(exact)), good(json!(9_007_199_254_740_991_u64)));
    assert_eq!(shown(WIDE, Value::UInt(exact + 1)), good(json!("9007199254740992")));
    assert_eq!(shown(WIDE, Value::UInt(u64::MAX)), good(json!("18446744073709551615")));
    assert_eq!(shown(WIDE, Value::Int(-(1 << 53) + 1)), good(json!(-9_007_199_254_740_991_i64)));
    assert_eq!(shown(WIDE, Value::Int(i64::MIN)), good(json!("-9223372036854775808")));
    assert_eq!(shown(A, Value::Bool(true)), good(json!(true)));
    assert_eq!(shown(FLOAT, Value::Float(f32::MAX)), good(json!(3.402_823_5e38)));
    assert_eq!(shown(FLOAT, Value::Double(0.1)), good(json!(0.1)));
    for value in [Value::Float(f32::NAN), Value::Double(f64::INFINITY)] {
        assert_eq!(shown(FLOAT, value), (json!(null), "bad:sensor_failure".to_owned()));
    }
}

#[test]
fn a_connection_is_told_who_is_there_and_what_is_known_even_of_a_device_that_is_gone() {
    let mut session = session("retain = true");
    session.handle_update(Position(0), Update::DeviceUp(DeviceId(0)), Timestamp::from_millis(0));
    add(&mut session, &[reading(A, Value::Int(1), 1), reading(A, Value::Int(2), 2)]);
    let stale = Reading { quality: Quality::BadCommLastValueKnown, ..reading(FLOAT, Value::Float(0.5), 3) };
    add(&mut session, &[stale]);
    let down = Stamp::Wall(Timestamp::from_millis(4));
    session.handle_update(Position(0), Update::DeviceDown(DeviceId(1), down), NOW);
    assert!(drain(&mut session).is_empty() && session.take_moves() == Moves::default());
    session.handle_connected(7, NOW);
    // the first reading, which was replaced, comes as history
    assert_eq!(session.take_moves(), Moves { queued: positions([2, 3]), ..Moves::default() });
    let sent = drain(&mut session);
    let version = env!("CARGO_PKG_VERSION");
    check(
        &sent,
        &[
            &format!(
                r#"g/hall/2/n/status {{"online":true,"session":7,"since":"2023-11-14T22:13:20.000Z","version":"{version}","readings_lost":0,"last_gap":null,"store":"ok"}}"#
            ),
            r#"g/hall/2/n/d/status {"online":true,"since":"1970-01-01T00:00:00.000Z"}"#,
            r#"g/hall/2/n/d/a {"timestamp":"1970-01-01T00:00:00.002Z","value":2,"quality":"good","unit":"kWh"}"#,
            r#"g/hall/2/n/e/status {"online":false,"since":"1970-01-01T00:00:00.004Z"}"#,
            r#"g/hall/2/n/e/f {"timestamp":"1970-01-01T00:00:00.003Z","value":0.5,"quality":"bad:comm_last_value_known"}"#,
        ],
    );
    assert!(sent.iter().all(|sent| sent.is_retained));
    let death = session.death(7);
    check(std::slice::from_ref(&death), &[r#"g/hall/2/n/status {"online":false,"session":7}"#]);
    assert!(death.is_retained);
}

#[test]
fn a_device_that_has_never_answered_is_not_there_since_nobody_knows_when() {
    let mut session = session("message = \"device\"");
    session.handle_connected(0, NOW);
    let sent = drain(&mut session);
    assert_eq!(
        (sent[1].topic.as_str(), text(&sent[1])),
        ("g/hall/2/n/d/status", r#"{"online":false,"since":null}"#)
    );
    assert_eq!(sent.len(), 3);
    assert!(sent.iter().all(|sent| !sent.is_retained));
}

#[test]
fn history_follows_all_that_waits_is_marked_and_never_kept_by_the_broker() {
    let mut session = connected("retain = true");
    let unsent = history(&mut session, &[reading(A, Value::Int(1), 1), reading(A, Value::Int(2), 2)]);
    assert_eq!(unsent, Unsent::default());
    add(&mut session, &[reading(A, Value::Int(9), 9)]);
    assert_eq!((session.history_waiting(), session.is_waiting()), (2, true));
    let sent = drain(&mut session);
    check(
        &sent,
        &[
            r#"g/hall/2/n/d/a {"timestamp":"1970-01-01T00:00:00.009Z","value":9,"quality":"good","unit":"kWh"}"#,
            r#"g/hall/2/n/d/a {"timestamp":"1970-01-01T00:00:00.001Z","value":1,"quality":"good","unit":"kWh","historical":true}"#,
            r#"g/hall/2/n/d/a {"timestamp":"1970-01-01T00:00:00.002Z","value":2,"quality":"good","unit":"kWh","historical":true}"#,
        ],
    );
    assert_eq!(sent.iter().map(|sent| sent.is_retained).collect::<Vec<_>>(), [true, false, false]);
}

#[test]
fn history_of_a_device_is_cut_where_a_tag_comes_again() {
    let mut session = connected("message = \"device\"\nretain = true");
    let (a, w) = (|at| reading(A, Value::Int(0), at), |at| reading(WIDE, Value::UInt(0), at));
    history(&mut session, &[a(1), w(1_000), a(2), a(3), w(1_001)]);
    let sent = drain(&mut session);
    let carried: Vec<&Positions> = sent.iter().map(|sent| &sent.carried).collect();
    assert_eq!(carried, [&positions([1, 1000]), &positions([2]), &positions([3, 1001])]);
    assert!(sent.iter().all(|sent| text(sent).ends_with(r#"},"historical":true}"#) && !sent.is_retained));
}

#[test]
fn what_a_broker_keeps_of_a_device_is_whole_and_never_older_or_newer_than_what_was_told() {
    let mut session = connected("message = \"device\"\nretain = true");
    let values = |sent: &Publication| -> Vec<(String, serde_json::Value)> {
        let message: serde_json::Value = serde_json::from_slice(&sent.payload).unwrap();
        let tags = message["tags"].as_object().unwrap();
        tags.iter().map(|(name, reading)| (name.clone(), reading["value"].clone())).collect()
    };
    let all = |a: u64, w: u64| vec![("a".to_owned(), json!(a)), ("w".to_owned(), json!(w))];
    add(&mut session, &[reading(A, Value::Int(1), 1), reading(WIDE, Value::UInt(10), 2)]);
    add(
        &mut session,
        &[reading(A, Value::Int(2), 3), reading(A, Value::Int(3), 4), reading(WIDE, Value::UInt(11), 5)],
    );
    history(&mut session, &[reading(A, Value::Int(0), 0)]);
    let sent = drain(&mut session);
    let shown: Vec<_> = sent.iter().map(values).collect();
    assert_eq!(shown, [all(1, 10), all(2, 10), all(3, 11), vec![("a".to_owned(), json!(0))]]);
    add(&mut session, &[reading(WIDE, Value::UInt(12), 6)]);
    let sent = drain(&mut session);
    assert_eq!((values(&sent[0]), &sent[0].carried), (all(3, 12), &positions([6])));
}

#[test]
fn what_does_not_fit_the_tag_or_the_calendar_is_not_sent() {
    let mut session = connected("");
    let year_10000 = 253_402_300_800_000;
    let unsent = history(
        &mut session,
        &[
            reading(A, Value::Text("x".into()), 1),
            reading(FLOAT, Value::Double(1.0), 2),
            reading(A, Value::Int(1), 3),
            reading(A, Value::Int(1), year_10000),
            reading(A, Value::Int(1), u64::MAX - 9),
        ],
    );
    assert_eq!(unsent.unfit, positions([1, 2, year_10000, u64::MAX - 9]));
    assert_eq!(drain(&mut session).len(), 1);
    // and one that is so late by the clock of now is cut, not a fault
    add(&mut session, &[reading(A, Value::Int(1), u64::MAX - 9)]);
    assert!(text(&drain(&mut session)[0]).starts_with(r#"{"timestamp":"9999-12-31T23:59:59.999Z""#));
}

#[test]
fn what_waits_for_a_slow_connection_is_bounded_and_then_all_is_told_anew() {
    for message in ["tag", "device"] {
        let mut session = connected(&format!("message = \"{message}\""));
        let count = u64::try_from(WAITING_READINGS_MAX).unwrap() + 1;
        for at in 0..count {
            add(&mut session, &[reading(A, Value::Int(1), at)]);
        }
        let expected =
            Moves { queued: positions([count - 1]), taken_back: positions(0..count - 1), ..Moves::default() };
        assert_eq!(session.take_moves(), expected);
        assert_eq!(drain(&mut session).len(), 4, "the gateway, two devices, one reading");
    }
}

#[test]
fn a_message_stays_under_the_limits_of_brokers() {
    let tags: Vec<String> = (0..600)
        .map(|index| {
            format!("{{ name = \"t{index}\", at = \"hr:{}\", type = \"string\", length = 100 }}", index * 100)
        })
        .collect();
    let mut session = connected(&format!(
        "message = \"device\"\n[device.long]\nlink = \"l\"\nunit = 3\ntags = [{}]",
        tags.join(",")
    ));
    for tag in 0..600 {
        add(&mut session, &[reading(4 + tag, Value::Text("\u{1}".repeat(200).into()), u64::from(tag))]);
    }
    let lengths = |session: &mut Session| -> Vec<usize> {
        drain(session).iter().map(|sent| sent.payload.len()).filter(|length| *length > 1000).collect()
    };
    let live = lengths(&mut session);
    session.handle_disconnected();
    session.handle_connected(0, NOW);
    for lengths in [live, lengths(&mut session)] {
        assert!((10..20).contains(&lengths.len()), "{lengths:?}");
        assert!(lengths.iter().all(|length| *length <= DATA_SIZE_MAX), "{lengths:?}");
    }
}

#[test]
fn losses_alarms_and_devices_that_come_and_go_are_told_at_once() {
    let mut session = connected("");
    let lost = Lost { count: 3, from: Some(NOW), to: None, reason: "damaged" };
    session.handle_lost(&lost);
    session.handle_alarm(Some("disk"));
    let stamp = Stamp::SinceBoot(5);
    session.handle_clock(Timestamp::from_millis(1000));
    session.handle_update(Position(0), Update::DeviceDown(DeviceId(1), stamp), NOW);
    let sent = drain(&mut session);
    let gateway: serde_json::Value = serde_json::from_slice(&sent[1].payload).unwrap();
    assert_eq!((&gateway["readings_lost"], &gateway["store"]), (&json!(3), &json!("disk")));
    let gap = json!({ "readings": 3, "from": "2023-11-14T22:13:20.000Z", "to": null, "reason": "damaged" });
    assert_eq!(gateway["last_gap"], gap);
    check(&sent[2..], &[r#"g/hall/2/n/e/status {"online":false,"since":"1970-01-01T00:00:01.005Z"}"#]);
    assert_eq!(session.counters.readings_lost.get(), 3);
}

#[test]
fn readings_of_before_the_clock_was_trusted_get_their_time_when_it_is() {
    let mut session = session("");
    let early = Reading { at: Stamp::SinceBoot(7), ..reading(A, Value::Int(1), 0) };
    session.handle_update(Position(0), Update::Readings([early.clone()].into()), NOW);
    session.handle_clock(Timestamp::from_millis(1000));
    session.handle_connected(0, NOW);
    session.handle_history(vec![(Position(0), early)]);
    let sent = drain(&mut session);
    let of_tag: Vec<&str> = sent.iter().filter(|sent| sent.topic.ends_with("/a")).map(text).collect();
    assert_eq!(of_tag.len(), 2);
    assert!(
        of_tag.iter().all(|text| text.starts_with(r#"{"timestamp":"1970-01-01T00:00:01.007Z""#)),
        "{of_tag:?}"
    );
}

#[test]
fn a_lost_connection_forgets_what_waited_and_the_next_is_told_what_is_known() {
    let mut session = connected("");
    add(&mut session, &[reading(A, Value::Int(1), 1), reading(A, Value::Int(2), 2)]);
    session.handle_disconnected();
    assert_eq!((session.take_moves(), session.is_waiting()), (Moves::default(), false));
    assert!(drain(&mut session).is_empty());
    session.handle_connected(8, NOW);
    assert_eq!(session.take_moves().queued, positions([2]));
    assert!(text(&drain(&mut session)[0]).starts_with(r#"{"online":true,"session":8,"#));
}

#[test]
fn what_may_not_leave_by_an_uplink_is_in_no_message_of_it() {
    let mut session = session("share = [\"cluster\"]");
    assert!(!session.is_told(DeviceId(0)) && !session.is_told(DeviceId(1)));
    let one = reading(A, Value::Int(1), 1);
    session.handle_update(position(&one), Update::Readings([one.clone()].into()), NOW);
    session.handle_update(Position(2), Update::DeviceUp(DeviceId(0)), NOW);
    session.handle_connected(7, NOW);
    assert_eq!(drain(&mut session).len(), 1, "only the gateway is told of");
    assert_eq!(
        session.handle_history(vec![(Position(3), one)]).idle,
        Positions::of(Position(3)..Position(4))
    );
    assert_eq!(
        session.take_moves().idle,
        Positions::default(),
        "what came without a connection comes as history"
    );
    let two = reading(A, Value::Int(2), 9);
    session.handle_update(position(&two), Update::Readings([two.clone()].into()), NOW);
    assert_eq!(session.take_moves().idle, Positions::of(Position(9)..Position(10)));
}

#[test]
fn what_is_withheld_is_counted_and_given_up() {
    let mut session = connected("");
    session.set_thinning(Some(0.5));
    for at in 1..4 {
        let one = reading(A, Value::Int(100 + i64::try_from(at).unwrap()), at);
        session.handle_update(Position(at), Update::Readings([one].into()), NOW);
    }
    assert_eq!(drain(&mut session).len(), 1);
    assert_eq!(session.take_moves().idle, Positions::of(Position(2)..Position(4)));
    assert_eq!(session.withheld(), 2);
    session.set_thinning(None);
    assert_eq!(drain(&mut session).len(), 1, "the last of them");
}
