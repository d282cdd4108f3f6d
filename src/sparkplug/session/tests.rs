use super::super::payload::{Datatype, node_metric};
use super::node::READINGS_LOST;
use super::*;
use crate::config;
use crate::outbox::{DATA_SIZE_MAX, Unsent, WAITING_READINGS_MAX};
use crate::reading::{Stamp, Value};
use crate::sparkplug::proto::payload::metric;
use crate::sparkplug::proto::payload::property_value;
use crate::tag::TagId;
use crate::write::{Outcome, Requester, WriteRequest, WriteResult};

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

/// Two devices, `d` with the tags `a` (i16) and `b` (string), `e` with the tag `c` (f32).
fn session(uplink: &str) -> Session {
    session_of(
        uplink,
        r#"{ name = "a", at = "hr:0", type = "i16", unit = "kWh" }, { name = "b", at = "hr:1", type = "string", length = 2 }"#,
    )
}

/// The same with other tags of `d`.
fn session_of(uplink: &str, tags: &str) -> Session {
    let text = format!(
        r#"
        [gateway]
        name = "n"
        enterprise = "g"
        [uplink.u]
        broker = "mqtt://127.0.0.1"
        {uplink}
        [link.l]
        tcp = "127.0.0.1:502"
        [device.d]
        link = "l"
        tags = [{tags}]
        [device.e]
        link = "l"
        unit = 2
        tags = [{{ name = "c", at = "hr:0", type = "f32" }}]
        "#
    );
    let site = Arc::new(config::parse("test.toml", &text).site.unwrap());
    let uplink = site.uplinks[0].clone();
    Session::new(site, &uplink, Arc::new(Counters::default()))
}

fn reading(tag: u32, value: Value, at: u64) -> Reading {
    Reading {
        tag: TagId(tag),
        value: Some(value),
        quality: Quality::Good,
        at: Stamp::Wall(Timestamp::from_millis(at)),
    }
}

/// Positions are the times of the readings here.
fn readings(session: &mut Session, readings: &[Reading]) {
    for reading in readings {
        let Stamp::Wall(at) = reading.at else { panic!("by the wall clock") };
        session.handle_update(Position(at.millis()), Update::Readings([reading.clone()].into()), NOW);
    }
}

fn up(session: &mut Session, device: u32) {
    session.handle_update(Position(0), Update::DeviceUp(DeviceId(device)), NOW);
}

fn positions(all: impl IntoIterator<Item = u64>) -> Positions {
    let mut positions = Positions::default();
    all.into_iter().for_each(|at| positions.insert(Position(at)..Position(at + 1)));
    positions
}

fn drain(session: &mut Session) -> Vec<(String, Payload)> {
    let next = || {
        session.poll_publication(NOW).map(|sent| (sent.topic, Payload::decode(&sent.payload[..]).unwrap()))
    };
    std::iter::from_fn(next).collect()
}

/// `topic#seq` of each message, topics without the namespace.
#[track_caller]
fn check_sent(sent: &[(String, Payload)], expected: &str) {
    let shown: Vec<String> = sent
        .iter()
        .map(|(topic, payload)| {
            format!("{}#{}", topic.strip_prefix("spBv1.0/").unwrap(), payload.seq.unwrap())
        })
        .collect();
    assert_eq!(shown.join(" "), expected);
}

fn metric_of<'a>(payload: &'a Payload, name: &str) -> &'a Metric {
    payload.metrics.iter().find(|metric| metric.name.as_deref() == Some(name)).unwrap()
}

fn quality_of(metric: &Metric) -> Option<(u32, String)> {
    let set = metric.properties.as_ref()?;
    let value = |key| set.values[set.keys.iter().position(|known| known == key).unwrap()].value.clone();
    match (value("Quality"), value("Reason")) {
        (Some(property_value::Value::IntValue(code)), Some(property_value::Value::StringValue(id))) => {
            Some((code, id))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn births_come_first_and_every_message_is_numbered() {
    let mut session = session("");
    readings(&mut session, &[reading(0, Value::Int(-2), 5)]);
    up(&mut session, 0);
    assert!(drain(&mut session).is_empty());
    session.handle_connected(7, NOW);
    readings(&mut session, &[reading(0, Value::Int(-3), 6)]);
    up(&mut session, 1);
    readings(&mut session, &[reading(0, Value::Int(-4), 7), reading(2, Value::Float(1.5), 8)]);
    let sent = drain(&mut session);
    check_sent(&sent, "g/NBIRTH/n#0 g/DBIRTH/n/d#1 g/DDATA/n/d#2 g/DBIRTH/n/e#3 g/DDATA/n/d#4 g/DDATA/n/e#5");
    let birth = &sent[0].1;
    assert_eq!(metric_of(birth, "bdSeq").value, Some(metric::Value::LongValue(7)));
    assert_eq!(metric_of(birth, "bdSeq").datatype, Some(4));
    assert_eq!(metric_of(birth, REBIRTH).value, Some(metric::Value::BooleanValue(false)));
    assert!(birth.metrics.iter().all(|metric| metric.timestamp.is_some() && metric.alias.is_none()));
}

#[test]
fn a_birth_has_every_tag_with_value_or_null_and_its_properties() {
    let mut session = session("");
    readings(&mut session, &[reading(0, Value::Int(-2), 5)]);
    up(&mut session, 0);
    session.handle_connected(0, NOW);
    let birth = &drain(&mut session)[1].1;
    let (a, b) = (metric_of(birth, "a"), metric_of(birth, "b"));
    assert_eq!(
        (a.value.clone(), a.datatype, a.timestamp),
        (Some(metric::Value::IntValue(0xFFFF_FFFE)), Some(3), Some(5))
    );
    assert_eq!(quality_of(a), Some((192, "good".into())));
    assert_eq!(a.properties.as_ref().unwrap().keys, ["Quality", "Reason", "engUnit", "unece"]);
    assert_eq!((b.value.clone(), b.is_null, b.datatype), (None, Some(true), Some(12)));
    assert_eq!(quality_of(b), Some((0, "bad:no_communication".into())));
}

#[test]
fn data_carries_its_quality_when_that_is_not_good_or_has_just_changed() {
    let mut session = session("");
    readings(&mut session, &[reading(0, Value::Int(1), 5)]);
    up(&mut session, 0);
    session.handle_connected(0, NOW);
    let stale = Reading { quality: Quality::BadCommLastValueKnown, ..reading(0, Value::Int(1), 6) };
    for one in [
        reading(0, Value::Int(2), 5),
        stale.clone(),
        stale,
        reading(0, Value::Int(3), 8),
        reading(0, Value::Int(4), 9),
    ] {
        readings(&mut session, &[one]);
    }
    let data = drain(&mut session).pop().unwrap().1;
    let qualities: Vec<Option<u32>> =
        data.metrics.iter().map(|metric| quality_of(metric).map(|(code, _)| code)).collect();
    assert_eq!(qualities, [None, Some(500), Some(500), Some(192), None]);
    assert!(data.metrics.iter().all(|metric| metric.datatype.is_none() && metric.is_historical.is_none()));
}

#[test]
fn a_device_dies_once_and_is_born_again_with_what_is_known_then() {
    let mut session = session("");
    session.handle_connected(0, NOW);
    up(&mut session, 1);
    session.handle_update(
        Position(0),
        Update::DeviceDown(DeviceId(1), Stamp::Wall(Timestamp::from_millis(77))),
        NOW,
    );
    readings(&mut session, &[reading(2, Value::Float(2.5), 80)]);
    up(&mut session, 1);
    let sent = drain(&mut session);
    check_sent(&sent, "g/NBIRTH/n#0 g/DBIRTH/n/e#1 g/DDEATH/n/e#2 g/DBIRTH/n/e#3");
    assert_eq!((sent[2].1.timestamp, sent[2].1.metrics.len()), (Some(77), 0));
    assert_eq!(metric_of(&sent[3].1, "c").value, Some(metric::Value::FloatValue(2.5)));
}

#[test]
fn a_rebirth_begins_at_zero_with_the_same_bd_seq_and_a_burst_of_requests_is_one() {
    let mut session = session("");
    up(&mut session, 0);
    session.handle_connected(9, NOW);
    check_sent(&drain(&mut session), "g/NBIRTH/n#0 g/DBIRTH/n/d#1");
    let request = |value| {
        let metric = node_metric(REBIRTH, Datatype::Boolean, metric::Value::BooleanValue(value), NOW);
        Payload { metrics: vec![metric], ..Payload::default() }.encode_to_vec()
    };
    let start = crate::clock::monotonic();
    let at = |session: &mut Session, ms: u64, asks: bool| {
        let now = start + std::time::Duration::from_millis(ms);
        if asks {
            assert_eq!(
                session.handle_message("spBv1.0/g/NCMD/n", &request(true), false, now, NOW),
                Heard::Rebirth
            );
        }
        session.handle_due(now, NOW);
        drain(session)
    };
    let sent = at(&mut session, 0, true);
    check_sent(&sent, "g/NBIRTH/n#0 g/DBIRTH/n/d#1");
    for ms in [1, 2, 500, 999] {
        assert!(at(&mut session, ms, true).is_empty());
    }
    check_sent(&at(&mut session, 1000, false), "g/NBIRTH/n#0 g/DBIRTH/n/d#1");
    assert!(at(&mut session, 3000, false).is_empty());
    assert_eq!(metric_of(&sent[0].1, "bdSeq").value, Some(metric::Value::LongValue(9)));
    for (topic, payload) in [
        ("spBv1.0/g/NCMD/n", request(false)),
        ("spBv1.0/g/NCMD/other", request(true)),
        ("spBv1.0/g/DCMD/n/d", request(true)),
        ("spBv1.0/g/NCMD/n", vec![0xFF; 40]),
        ("spBv1.0/g/NCMD/n", Vec::new()),
    ] {
        assert_eq!(session.handle_message(topic, &payload, false, start, NOW), Heard::Nothing, "{topic}");
    }
    session.handle_due(start + std::time::Duration::from_secs(9), NOW);
    assert!(drain(&mut session).is_empty());
}

#[test]
fn it_is_told_which_readings_wait_and_each_message_says_which_it_carries() {
    let mut session = session("");
    readings(&mut session, &[reading(0, Value::Int(1), 1), reading(0, Value::Int(2), 2)]);
    up(&mut session, 0);
    assert_eq!(session.take_moves(), Moves::default());
    session.handle_connected(0, NOW);
    readings(&mut session, &[reading(0, Value::Int(3), 3), reading(2, Value::Float(0.5), 4)]);
    // 1 was replaced before any birth, 4 is of a device that is not born: both are left to the history
    assert_eq!(session.take_moves(), Moves { queued: positions([2, 3]), ..Moves::default() });
    let carried: Vec<Positions> =
        std::iter::from_fn(|| session.poll_publication(NOW)).map(|sent| sent.carried).collect();
    assert_eq!(carried, [positions([]), positions([2]), positions([3])]);
    let silent =
        Reading { value: None, quality: Quality::BadNoCommunication, ..reading(2, Value::Int(0), 9) };
    readings(&mut session, std::slice::from_ref(&silent));
    assert_eq!(session.take_moves(), Moves { idle: positions([9]), ..Moves::default() });
    session.handle_disconnected();
    readings(&mut session, &[silent]);
    assert_eq!(session.take_moves(), Moves::default());
}

#[test]
fn what_waits_for_a_slow_connection_is_bounded_and_then_all_is_born_again() {
    let mut session = session("");
    up(&mut session, 0);
    session.handle_connected(0, NOW);
    drain(&mut session);
    let bad = Reading { value: None, quality: Quality::BadConfig, ..reading(1, Value::Int(0), 100_000) };
    readings(&mut session, &[bad]);
    let count = u64::try_from(WAITING_READINGS_MAX).unwrap();
    for at in 0..count {
        readings(&mut session, &[reading(0, Value::Int(1), at)]);
    }
    // all but the two that the births tell come as history
    let expected = Moves {
        queued: positions([count - 1, 100_000]),
        taken_back: positions(0..count - 1),
        ..Moves::default()
    };
    assert_eq!(session.take_moves(), expected);
    let sent = drain(&mut session);
    check_sent(&sent, "g/NBIRTH/n#0 g/DBIRTH/n/d#1");
    assert_eq!(metric_of(&sent[1].1, "a").timestamp, Some(count - 1));
    assert_eq!(quality_of(metric_of(&sent[1].1, "b")), Some((0, "bad:config".into())));
}

#[test]
fn data_that_waits_when_a_rebirth_is_due_is_not_sent_before_it() {
    let mut session = session("");
    up(&mut session, 0);
    session.handle_connected(0, NOW);
    drain(&mut session);
    readings(&mut session, &[reading(0, Value::Int(1), 1), reading(0, Value::Int(2), 2)]);
    let request = node_metric(REBIRTH, Datatype::Boolean, metric::Value::BooleanValue(true), NOW);
    let request = Payload { metrics: vec![request], ..Payload::default() }.encode_to_vec();
    let now = crate::clock::monotonic();
    assert_eq!(session.handle_message("spBv1.0/g/NCMD/n", &request, false, now, NOW), Heard::Rebirth);
    session.handle_due(now, NOW);
    assert_eq!(
        session.take_moves(),
        Moves { queued: positions([2]), taken_back: positions([1]), ..Moves::default() }
    );
    check_sent(&drain(&mut session), "g/NBIRTH/n#0 g/DBIRTH/n/d#1");
}

fn history(session: &mut Session, readings: &[Reading]) -> Unsent {
    let with_positions = readings.iter().map(|reading| match reading.at {
        Stamp::Wall(at) => (Position(at.millis()), reading.clone()),
        Stamp::SinceBoot(_) => panic!("by the wall clock"),
    });
    session.handle_history(with_positions.collect(), NOW)
}

#[test]
fn history_follows_all_that_waits_in_order_marked_and_with_its_own_time() {
    let mut session = session("");
    up(&mut session, 0);
    up(&mut session, 1);
    session.handle_connected(0, NOW);
    let bad = Reading { quality: Quality::BadCommLastValueKnown, ..reading(0, Value::Int(2), 20) };
    let unsent = history(
        &mut session,
        &[
            reading(0, Value::Int(1), 10),
            reading(2, Value::Float(0.5), 11),
            bad,
            reading(0, Value::Int(3), 30),
        ],
    );
    assert_eq!(unsent, Unsent::default());
    readings(&mut session, &[reading(0, Value::Int(9), 99)]);
    assert_eq!(session.history_waiting(), 2);
    let sent = drain(&mut session);
    check_sent(&sent, "g/NBIRTH/n#0 g/DBIRTH/n/d#1 g/DBIRTH/n/e#2 g/DDATA/n/d#3 g/DDATA/n/d#4 g/DDATA/n/e#5");
    let shown = |payload: &Payload| -> Vec<_> {
        payload
            .metrics
            .iter()
            .map(|m| (m.timestamp.unwrap(), m.is_historical, quality_of(m).map(|q| q.0)))
            .collect()
    };
    assert_eq!(shown(&sent[3].1), [(99, None, Some(192))]);
    assert_eq!(
        shown(&sent[4].1),
        [(10, Some(true), None), (20, Some(true), Some(500)), (30, Some(true), None)]
    );
    assert_eq!(session.take_moves().queued, positions([10, 11, 20, 30, 99]));
}

#[test]
fn a_device_that_does_not_answer_is_born_for_its_history_and_dies_after_it() {
    let mut session = session("");
    session.handle_connected(0, NOW);
    drain(&mut session);
    let silent =
        Reading { value: None, quality: Quality::BadNoCommunication, ..reading(2, Value::Int(0), 5) };
    let unsent = history(&mut session, &[silent, reading(0, Value::Int(1), 10)]);
    assert_eq!(unsent, Unsent { unfit: positions([]), idle: positions([5]) });
    history(&mut session, &[reading(0, Value::Int(2), 11)]);
    session.handle_history_end(NOW);
    let sent = drain(&mut session);
    check_sent(&sent, "g/DBIRTH/n/d#1 g/DDATA/n/d#2");
    session.handle_history_end(NOW);
    session.handle_history_end(NOW);
    check_sent(&drain(&mut session), "g/DDEATH/n/d#3");
    assert_eq!(quality_of(metric_of(&sent[0].1, "a")), Some((0, "bad:no_communication".into())));
    // one that answers meanwhile stays
    history(&mut session, &[reading(0, Value::Int(3), 12)]);
    up(&mut session, 0);
    session.handle_history_end(NOW);
    check_sent(&drain(&mut session), "g/DBIRTH/n/d#4 g/DDATA/n/d#5");
}

#[test]
fn no_history_follows_the_death_of_a_device() {
    let mut session = session("");
    up(&mut session, 0);
    session.handle_connected(0, NOW);
    drain(&mut session);
    session.take_moves();
    history(&mut session, &[reading(0, Value::Int(1), 10), reading(0, Value::Int(2), 11)]);
    assert_eq!(session.take_moves().queued, positions([10, 11]));
    session.handle_update(Position(0), Update::DeviceDown(DeviceId(0), Stamp::Wall(NOW)), NOW);
    assert_eq!(session.take_moves().taken_back, positions([10, 11]));
    check_sent(&drain(&mut session), "g/DDEATH/n/d#2");
}

#[test]
fn what_is_computed_of_a_device_that_is_away_and_says_nothing_new_is_no_history() {
    let tags = r#"{ name = "a", at = "hr:0" }]
        derived = { p = { expr = "a * 2" } } # "#;
    let mut session = session_of("", tags);
    let derived = session.site.tags.iter().find(|tag| *tag.name == *"p").unwrap().id;
    let doubtful = |value, at| Reading {
        quality: Quality::UncertainLastUsable,
        ..reading(derived.0, Value::Double(value), at)
    };
    up(&mut session, 0);
    session.handle_connected(0, NOW);
    drain(&mut session);
    session.handle_update(Position(0), Update::DeviceDown(DeviceId(0), Stamp::Wall(NOW)), NOW);
    session.take_moves();
    readings(&mut session, &[doubtful(1.0, 10), doubtful(1.0, 11), doubtful(2.0, 12), doubtful(2.0, 13)]);
    // 10 and 12 are new: they are left to the history
    assert_eq!(session.take_moves(), Moves { idle: positions([11, 13]), ..Moves::default() });
    readings(&mut session, &[reading(derived.0, Value::Double(2.0), 14), reading(0, Value::UInt(1), 15)]);
    readings(&mut session, &[reading(0, Value::UInt(1), 16)]);
    assert_eq!(session.take_moves(), Moves::default(), "another quality is new, and so is what is read");
}

#[test]
fn a_reading_of_another_type_than_its_tag_has_now_is_not_sent() {
    let mut session = session("");
    up(&mut session, 0);
    session.handle_connected(0, NOW);
    let unsent =
        history(&mut session, &[reading(0, Value::Text("x".into()), 5), reading(0, Value::Int(1), 6)]);
    assert_eq!(unsent, Unsent { unfit: positions([5]), idle: positions([]) });
}

#[test]
fn a_data_message_stays_under_the_limits_of_brokers() {
    let mut session = session("");
    up(&mut session, 0);
    session.handle_connected(0, NOW);
    drain(&mut session);
    let long: std::sync::Arc<str> = "x".repeat(1000).into();
    for at in 0..200 {
        readings(&mut session, &[reading(1, Value::Text(long.clone()), at)]);
    }
    let mut count = 0;
    while let Some(sent) = session.poll_publication(NOW) {
        assert!(sent.payload.len() <= DATA_SIZE_MAX, "{}", sent.payload.len());
        count += 1;
    }
    assert_eq!(count, 4);
    session.set_packet_size(10_000);
    for at in 1000..1100 {
        readings(&mut session, &[reading(1, Value::Text(long.clone()), at)]);
    }
    let sizes: Vec<usize> = std::iter::from_fn(|| session.poll_publication(NOW))
        .map(|sent| sent.payload.len() + sent.topic.len())
        .collect();
    assert!(sizes.iter().all(|size| *size < 10_000) && sizes.len() < 15, "{sizes:?}");
}

#[test]
fn losses_and_alarms_are_announced_at_once_and_in_births() {
    let mut session = session("");
    session.handle_connected(0, NOW);
    let birth = &drain(&mut session)[0].1;
    assert_eq!(metric_of(birth, READINGS_LOST).value, Some(metric::Value::LongValue(0)));
    assert_eq!(metric_of(birth, "Gateway/last_gap").is_null, Some(true));
    assert_eq!(metric_of(birth, "Gateway/store").value, Some(metric::Value::StringValue("ok".into())));
    let lost = Lost { count: 3, from: Some(NOW), to: None, reason: "damaged" };
    session.handle_lost(&lost, NOW);
    session.handle_alarm(Some("disk"), NOW);
    let sent = drain(&mut session);
    check_sent(&sent, "g/NDATA/n#1 g/NDATA/n#2");
    assert_eq!(metric_of(&sent[0].1, READINGS_LOST).value, Some(metric::Value::LongValue(3)));
    let Some(metric::Value::StringValue(gap)) = &metric_of(&sent[0].1, "Gateway/last_gap").value else {
        panic!()
    };
    assert_eq!(gap, r#"{"from_ms":1000000,"readings":3,"reason":"damaged","to_ms":null}"#);
    assert_eq!(metric_of(&sent[1].1, "Gateway/store").value, Some(metric::Value::StringValue("disk".into())));
    assert_eq!(session.counters.readings_lost.get(), 3);
}

#[test]
fn with_aliases_data_names_no_metric_and_bd_seq_has_none() {
    let mut session = session("aliases = true\ndatatype_in_data = true\ntypes = \"exact\"");
    up(&mut session, 0);
    up(&mut session, 1);
    session.handle_connected(0, NOW);
    readings(&mut session, &[reading(0, Value::Int(-2), 5), reading(2, Value::Float(0.5), 5)]);
    let sent = drain(&mut session);
    let aliases = |index: usize| sent[index].1.metrics.iter().map(|metric| metric.alias).collect::<Vec<_>>();
    // those of the node come behind those of its tags; what may be commanded and what does not change has none
    let of_node: Vec<(Option<u64>, bool)> = sent[0]
        .1
        .metrics
        .iter()
        .map(|metric| (metric.alias, metric.name.as_ref().unwrap().starts_with("Gateway/")))
        .collect();
    assert!(of_node.iter().all(|(alias, is_figure)| alias.is_some() == *is_figure), "{of_node:?}");
    assert_eq!(of_node.iter().filter_map(|(alias, _)| *alias).collect::<Vec<_>>(), [6, 7, 8]);
    assert_eq!((aliases(1), aliases(2)), (vec![Some(1), Some(2)], vec![Some(3)]));
    let data = &sent[3].1.metrics[0];
    assert_eq!((data.name.clone(), data.alias, data.datatype), (None, Some(1), Some(2)));
}

#[test]
fn the_number_of_a_message_wraps_at_255() {
    let mut session = session("");
    up(&mut session, 0);
    session.handle_connected(0, NOW);
    let mut last = None;
    for at in 0..300 {
        readings(&mut session, &[reading(0, Value::Int(1), at)]);
        last = drain(&mut session).pop().unwrap().1.seq;
    }
    assert_eq!(last, Some((300 + 1) % 256));
}

#[test]
fn the_death_certificate_has_only_its_bd_seq() {
    let death = session("").death(200, NOW);
    let payload = Payload::decode(&death.payload[..]).unwrap();
    assert_eq!((death.topic.as_str(), payload.seq, payload.metrics.len()), ("spBv1.0/g/NDEATH/n", None, 1));
    assert_eq!(metric_of(&payload, "bdSeq").value, Some(metric::Value::LongValue(200)));
}

#[test]
fn what_may_not_leave_by_an_uplink_is_in_no_message_of_it() {
    let mut session = session_of(
        "share = [\"cluster\"]",
        r#"{ name = "a", at = "hr:0", share = "cluster" }, { name = "b", at = "hr:1" }, { name = "p", at = "hr:2", share = "private" }"#,
    );
    session.handle_connected(0, NOW);
    up(&mut session, 0);
    up(&mut session, 1);
    readings(
        &mut session,
        &[reading(0, Value::UInt(1), 1), reading(1, Value::UInt(2), 2), reading(2, Value::UInt(3), 3)],
    );
    readings(&mut session, &[reading(3, Value::Float(4.0), 4)]);
    let sent = drain(&mut session);
    check_sent(&sent, "g/NBIRTH/n#0 g/DBIRTH/n/d#1 g/DDATA/n/d#2");
    let names: Vec<&str> = sent[1..]
        .iter()
        .flat_map(|(_, payload)| &payload.metrics)
        .filter_map(|metric| metric.name.as_deref())
        .collect();
    assert_eq!(names, ["a", "a"]);
    assert_eq!(session.take_moves().idle, positions([2, 3, 4]));
    // nor as history, nor by the death of a device that has nothing to tell
    let history =
        [(Position(5), reading(1, Value::UInt(5), 5)), (Position(6), reading(0, Value::UInt(6), 6))];
    assert_eq!(session.handle_history(history.to_vec(), NOW).idle, positions([5]));
    session.handle_update(Position(7), Update::DeviceDown(DeviceId(1), Stamp::Wall(NOW)), NOW);
    check_sent(&drain(&mut session), "g/DDATA/n/d#3");
    assert!(session.is_all_up());
}

#[test]
fn data_waits_for_the_births_of_devices_that_are_not_known_yet() {
    let mut session = session("");
    readings(&mut session, &[reading(0, Value::Int(1), 1)]);
    up(&mut session, 0);
    session.handle_connected(0, NOW);
    session.hold();
    readings(&mut session, &[reading(0, Value::Int(2), 2)]);
    check_sent(&drain(&mut session), "g/NBIRTH/n#0 g/DBIRTH/n/d#1");
    assert!(session.is_held() && session.is_waiting());
    readings(&mut session, &[reading(2, Value::Float(1.0), 3)]);
    up(&mut session, 1);
    assert!(!session.is_held());
    check_sent(&drain(&mut session), "g/DDATA/n/d#2 g/DBIRTH/n/e#3");
}

#[test]
fn data_waits_no_longer_for_a_device_that_does_not_answer() {
    let mut session = session("");
    up(&mut session, 0);
    session.handle_connected(0, NOW);
    session.hold();
    readings(&mut session, &[reading(0, Value::Int(2), 2)]);
    let silent =
        Reading { value: None, quality: Quality::BadNoCommunication, ..reading(2, Value::Int(0), 9) };
    drain(&mut session);
    readings(&mut session, &[silent]);
    check_sent(&drain(&mut session), "g/DDATA/n/d#2");
    session.hold();
    assert!(!session.is_held());
}

#[test]
fn a_held_message_of_a_device_stays_behind_what_came_before_it() {
    let mut session = session("");
    up(&mut session, 0);
    session.handle_connected(0, NOW);
    session.hold();
    readings(&mut session, &[reading(0, Value::Int(2), 2)]);
    session.handle_update(Position(3), Update::DeviceDown(DeviceId(0), Stamp::Wall(NOW)), NOW);
    up(&mut session, 0);
    check_sent(&drain(&mut session), "g/NBIRTH/n#0 g/DBIRTH/n/d#1");
    session.release();
    check_sent(&drain(&mut session), "g/DDATA/n/d#2 g/DDEATH/n/d#3 g/DBIRTH/n/d#4");
}

#[test]
fn the_primary_host_is_waited_for_at_each_server() {
    let mut session = session("primary_host = \"cluster\"");
    let topic = "spBv1.0/STATE/cluster";
    assert_eq!(session.filters(), ["spBv1.0/g/NCMD/n", "spBv1.0/g/DCMD/n/+", topic]);
    let now = crate::clock::monotonic();
    let says =
        |session: &mut Session, state: &str| session.handle_message(topic, state.as_bytes(), true, now, NOW);
    session.handle_server(0);
    assert!(session.waits_for_host());
    assert_eq!(says(&mut session, r#"{"online":true,"timestamp":5}"#), Heard::HostOnline);
    assert!(!session.waits_for_host());
    assert_eq!(says(&mut session, r#"{"online":false,"timestamp":6}"#), Heard::HostOffline);
    assert!(session.waits_for_host());
    session.handle_server(1);
    assert!(session.waits_for_host());
    assert_eq!(says(&mut session, r#"{"online":true,"timestamp":1}"#), Heard::HostOnline);
    assert!(!self::session("").waits_for_host());
}

#[test]
fn figures_of_the_node_are_told_when_they_have_changed_by_more_than_their_deadband() {
    let mut session = session("");
    let vitals = |queue, memory| {
        vec![
            Vital::count("Gateway/queue_age_s", queue, 10.0),
            Vital::count("Gateway/memory_kib", memory, 512.0),
        ]
    };
    session.handle_vitals(vitals(1, 8000), NOW);
    session.handle_connected(0, NOW);
    let birth = &drain(&mut session)[0].1;
    assert_eq!(metric_of(birth, "Gateway/memory_kib").value, Some(metric::Value::LongValue(8000)));
    session.handle_vitals(vitals(11, 8512), NOW);
    assert!(drain(&mut session).is_empty());
    session.handle_vitals(vitals(12, 8513), NOW);
    let sent = drain(&mut session);
    check_sent(&sent, "g/NDATA/n#1");
    let told = &sent[0].1.metrics;
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|metric| metric.datatype.is_none() && metric.timestamp.is_some()));
    session.handle_vitals(vitals(20, 8513), NOW);
    assert!(drain(&mut session).is_empty());
}

#[test]
fn what_is_withheld_is_counted_and_given_up_and_births_know_it_all_the_same() {
    let mut session = session("");
    up(&mut session, 0);
    session.handle_connected(0, NOW);
    session.set_thinning(Some(0.5), NOW);
    readings(
        &mut session,
        &[reading(0, Value::Int(100), 1), reading(0, Value::Int(120), 2), reading(0, Value::Int(160), 3)],
    );
    readings(&mut session, &[reading(0, Value::Int(161), 4)]);
    let sent = drain(&mut session);
    assert_eq!(sent.last().unwrap().1.metrics.len(), 2);
    assert_eq!(session.take_moves().idle, positions([2, 4]));
    assert_eq!(session.withheld(), 2);
    session.handle_disconnected();
    session.handle_connected(1, NOW);
    let birth = &drain(&mut session)[1].1;
    assert_eq!(metric_of(birth, "a").value, Some(metric::Value::IntValue(161)));
}

// -- commands

/// A session of a site whose device `d` has a tag `sp` that may be written, `e` has none.
fn commanded(commands: &str) -> Session {
    let text = format!(
        r#"
        [gateway]
        name = "n"
        enterprise = "g"
        [uplink.u]
        broker = "mqtt://127.0.0.1"
        [commands]
        {commands}
        [link.l]
        tcp = "127.0.0.1:502"
        [device.d]
        link = "l"
        tags = [{{ name = "sp", at = "hr:0", write = {{}} }}]
        [device.e]
        link = "l"
        unit = 2
        tags = [{{ name = "c", at = "hr:0" }}]
        "#
    );
    let site = Arc::new(config::parse("test.toml", &text).site.unwrap());
    let uplink = site.uplinks[0].clone();
    Session::new(site, &uplink, Arc::new(Counters::default()))
}

fn wanted(device: &str) -> WriteRequest {
    WriteRequest {
        id: "7".to_owned(),
        device: device.to_owned(),
        tag: "sp".to_owned(),
        tag_id: Some(TagId(0)),
        value: Some(Value::UInt(5)),
        by: Requester::Uplink("u".into()),
        sent_at: Some(NOW),
        received_at: NOW,
        session_since: NOW,
        is_retained: false,
    }
}

/// Topic of each message, with what it tells of commands.
#[track_caller]
fn check_outcomes(session: &mut Session, expected: &[(&str, &str)]) {
    let mut told = Vec::new();
    for (topic, payload) in drain(session) {
        let outcomes = payload
            .metrics
            .iter()
            .filter(|metric| metric.name.as_deref().is_some_and(|name| name.ends_with("Control/Outcome")));
        for metric in outcomes {
            let text = match (&metric.value, metric.is_null) {
                (Some(metric::Value::StringValue(text)), None) => text.clone(),
                (None, Some(true)) => "null".to_owned(),
                other => panic!("{other:?}"),
            };
            let name = metric.name.as_deref().unwrap().split(' ').next().unwrap();
            told.push((format!("{} {name}", topic.strip_prefix("spBv1.0/g/").unwrap()), text));
        }
    }
    let told: Vec<(&str, &str)> = told.iter().map(|(topic, text)| (topic.as_str(), text.as_str())).collect();
    assert_eq!(told, expected);
}

const OF_D: &str = r#"{"id":"7","reason":"too fast","result":"refused","tag":"sp","value":5}"#;
const OF_NODE_D: &str =
    r#"{"device":"d","id":"7","reason":"too fast","result":"refused","tag":"sp","value":5}"#;
const OF_NODE_E: &str =
    r#"{"device":"e","id":"7","reason":"too fast","result":"refused","tag":"sp","value":5}"#;

#[test]
fn an_outcome_is_told_by_the_device_where_its_birth_has_the_metric_else_by_the_node() {
    let mut session = commanded("enabled = true");
    let refused = |device: &str| wanted(device).outcome(WriteResult::Refused, "too fast", NOW);
    session.handle_connected(3, NOW);
    up(&mut session, 1);
    check_outcomes(&mut session, &[("NBIRTH/n Node", "null")]);
    session.handle_outcome(&refused("d"), NOW);
    check_outcomes(&mut session, &[("NDATA/n Node", OF_NODE_D)]);
    up(&mut session, 0);
    check_outcomes(&mut session, &[("DBIRTH/n/d Device", OF_D)]);
    session.handle_outcome(&refused("d"), NOW);
    check_outcomes(&mut session, &[]); // the same has been told
    let again = WriteRequest { id: "8".to_owned(), ..wanted("d") };
    session.handle_outcome(&again.outcome(WriteResult::Refused, "too fast", NOW), NOW);
    session.handle_outcome(&refused("e"), NOW);
    let of_again = OF_D.replace("\"7\"", "\"8\"");
    check_outcomes(&mut session, &[("DDATA/n/d Device", &of_again), ("NDATA/n Node", OF_NODE_E)]);
    session.handle_disconnected();
    session.handle_outcome(&refused("nowhere"), NOW);
    session.handle_connected(4, NOW);
    let nowhere = OF_NODE_E.replace("\"e\"", "\"nowhere\"");
    check_outcomes(&mut session, &[("NBIRTH/n Node", &nowhere), ("DBIRTH/n/d Device", &of_again)]);
}

/// What was not sent, or came while there was no connection, is told after the births; a single one is told by them.
#[test]
fn no_outcome_is_lost_by_a_rebirth_or_without_a_connection() {
    let mut session = commanded("enabled = true");
    let done = |id: &str| {
        let request = WriteRequest { id: id.to_owned(), ..wanted("d") };
        request.outcome(WriteResult::Done, "", NOW)
    };
    let text = |id: &str| format!(r#"{{"id":"{id}","reason":"","result":"done","tag":"sp","value":5}}"#);
    let (first, second) = (text("1"), text("2"));
    up(&mut session, 0);
    session.handle_outcome(&done("1"), NOW);
    session.handle_connected(3, NOW);
    let births = [("NBIRTH/n Node", "null"), ("DBIRTH/n/d Device", first.as_str())];
    check_outcomes(&mut session, &births);
    session.handle_outcome(&done("3"), NOW);
    session.handle_outcome(&done("2"), NOW);
    let now = crate::clock::monotonic();
    let payload = Payload {
        metrics: vec![Metric {
            name: Some(REBIRTH.to_owned()),
            value: Some(metric::Value::BooleanValue(true)),
            ..Metric::default()
        }],
        ..Payload::default()
    };
    let heard = session.handle_message("spBv1.0/g/NCMD/n", &payload.encode_to_vec(), false, now, NOW);
    assert_eq!(heard, Heard::Rebirth);
    session.handle_due(now, NOW);
    let third = text("3");
    let (one, two) = (("DDATA/n/d Device", third.as_str()), ("DDATA/n/d Device", second.as_str()));
    let births = [("NBIRTH/n Node", "null"), ("DBIRTH/n/d Device", second.as_str())];
    check_outcomes(&mut session, &[births[0], births[1], one, two]);
    session.handle_disconnected();
    for id in 0..100 {
        session.handle_outcome(&done(&id.to_string()), NOW);
    }
    session.handle_connected(4, NOW);
    let told = drain(&mut session).iter().filter(|(topic, _)| topic.ends_with("DDATA/n/d")).count();
    assert_eq!(told, 64);
    session.handle_connected(5, NOW);
    check_outcomes(&mut session, &[("NBIRTH/n Node", "null"), ("DBIRTH/n/d Device", &text("99"))]);
}

#[test]
fn where_commands_are_off_no_device_has_the_metric_and_the_node_tells() {
    let mut session = commanded("");
    session.handle_connected(3, NOW);
    up(&mut session, 0);
    check_outcomes(&mut session, &[("NBIRTH/n Node", "null")]);
    session.handle_outcome(&wanted("d").outcome(WriteResult::Refused, "too fast", NOW), NOW);
    check_outcomes(&mut session, &[("NDATA/n Node", OF_NODE_D)]);
}

#[test]
fn a_command_is_of_this_session_and_for_a_device_of_this_node() {
    let mut session = commanded("enabled = true");
    session.handle_connected(3, NOW);
    drain(&mut session);
    let later = Timestamp::from_millis(NOW.millis() + 5);
    let metric =
        Metric { name: Some("sp".to_owned()), value: Some(metric::Value::IntValue(5)), ..Metric::default() };
    let payload = Payload {
        timestamp: Some(NOW.millis()),
        uuid: Some("7".to_owned()),
        metrics: vec![metric],
        ..Payload::default()
    };
    let payload = payload.encode_to_vec();
    let mut requests = |topic: &str| session.write_requests(topic, &payload, true, later);
    let expected =
        WriteRequest { received_at: later, is_retained: true, value: Some(Value::Int(5)), ..wanted("d") };
    assert_eq!(requests("spBv1.0/g/DCMD/n/d"), [expected]);
    for other in
        ["spBv1.0/g/NCMD/n", "spBv1.0/g/DCMD/m/d", "spBv1.0/g/DCMD/n/d/x", "spBv1.0/h/DCMD/n/d", "", "x"]
    {
        assert_eq!(requests(other), []);
    }
    assert_eq!(session.write_requests("spBv1.0/g/DCMD/n/d", &[0xFF], false, later), []);
    let (topic, _) = drain(&mut session).pop().unwrap();
    assert_eq!(topic, "spBv1.0/g/NDATA/n");
}

#[test]
fn a_host_may_send_the_node_on_or_have_it_reload_where_that_is_allowed() {
    let asks = |name: &str, at: u64| {
        let metric = node_metric(name, Datatype::Boolean, metric::Value::BooleanValue(true), NOW);
        Payload { timestamp: Some(at), metrics: vec![metric], ..Payload::default() }.encode_to_vec()
    };
    let (fresh, stale) = (NOW.millis() - 9000, NOW.millis() - 11_000);
    let now = crate::clock::monotonic();
    let check = |commands: &str, name: &str, at: u64, expected: Heard| {
        let mut session = commanded(commands);
        session.handle_connected(3, NOW);
        let birth = &drain(&mut session)[0].1;
        let is_named = birth.metrics.iter().any(|metric| metric.name.as_deref() == Some(name));
        let heard = session.handle_message("spBv1.0/g/NCMD/n", &asks(name, at), false, now, NOW);
        assert_eq!((&heard, is_named), (&expected, commands.contains("reload")), "{commands} {name}");
    };
    let allowed = "node_control = [\"rebirth\", \"reload\", \"next-server\"]";
    check(allowed, NEXT_SERVER, fresh, Heard::NextServer);
    check(allowed, RELOAD, fresh, Heard::Reload);
    check(allowed, RELOAD, stale, Heard::Nothing);
    check("", NEXT_SERVER, fresh, Heard::Nothing);
    check("node_control = [\"rebirth\"]", RELOAD, fresh, Heard::Nothing);
    check(&format!("{allowed}\nuplinks = []"), RELOAD, fresh, Heard::Nothing);
}

#[test]
fn a_reason_that_would_tell_a_tag_which_may_not_leave_is_not_told() {
    let mut session = session_of(
        "share = [\"cluster\"]",
        r#"{ name = "a", at = "hr:0", share = "cluster" }, { name = "b", at = "hr:1" }"#,
    );
    session.handle_connected(0, NOW);
    drain(&mut session);
    let request = WriteRequest { tag: "a".to_owned(), ..wanted("d") };
    let reason = "interlock: `b` must be == 'A', and is SECRET-7";
    let outcome = request.outcome(WriteResult::Refused, reason, NOW);
    session.handle_outcome(&Outcome { about: vec![TagId(1)], ..outcome.clone() }, NOW);
    let told = format!("{:?}", drain(&mut session));
    assert!(told.contains("may not be told here") && !told.contains("SECRET-7"), "{told}");
    let of_hidden = Outcome { tag_id: Some(TagId(1)), ..outcome };
    session.handle_outcome(&of_hidden, NOW);
    assert!(drain(&mut session).is_empty());
}
