use super::*;
use crate::config;
use crate::reading::{Stamp, Value};
use crate::sparkplug::proto::payload::property_value;
use crate::tag::TagId;

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

/// Two devices, `d` with the tags `a` (i16) and `b` (string), `e` with the tag `c` (f32).
fn session(uplink: &str) -> Session {
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
        tags = [{{ name = "a", at = "hr:0", type = "i16", unit = "kWh" }}, {{ name = "b", at = "hr:1", type = "string", length = 2 }}]
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

fn readings(session: &mut Session, readings: &[Reading]) {
    session.handle_update(Update::Readings(readings.into()), NOW);
}

fn up(session: &mut Session, device: u32) {
    session.handle_update(Update::DeviceUp(DeviceId(device)), NOW);
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
    session.handle_update(Update::DeviceDown(DeviceId(1), Stamp::Wall(Timestamp::from_millis(77))), NOW);
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
            assert!(session.handle_message("spBv1.0/g/NCMD/n", &request(true), now));
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
        assert!(!session.handle_message(topic, &payload, start), "{topic}");
    }
    session.handle_due(start + std::time::Duration::from_secs(9), NOW);
    assert!(drain(&mut session).is_empty());
}

#[test]
fn a_reading_that_no_message_carried_is_counted_as_lost() {
    let mut session = session("");
    readings(&mut session, &[reading(0, Value::Int(1), 1)]);
    readings(&mut session, &[reading(0, Value::Int(2), 2)]);
    assert_eq!(session.readings_lost, 1);
    up(&mut session, 0);
    session.handle_connected(0, NOW);
    readings(&mut session, &[reading(0, Value::Int(3), 3)]);
    readings(&mut session, &[reading(0, Value::Int(4), 4)]);
    assert_eq!(session.readings_lost, 1);
    // 2 waited in the birth, 3 and 4 as data: the next birth will say 4
    session.handle_disconnected(Vec::new());
    assert_eq!((session.readings_lost, session.counters.readings_lost.get()), (3, 3));
    session.handle_connected(1, NOW);
    let sent = drain(&mut session);
    check_sent(&sent, "g/NBIRTH/n#0 g/DBIRTH/n/d#1");
    assert_eq!(metric_of(&sent[0].1, READINGS_LOST).value, Some(metric::Value::LongValue(3)));
    assert_eq!(metric_of(&sent[1].1, "a").value, Some(metric::Value::IntValue(4)));
}

#[test]
fn what_was_handed_over_and_not_sent_is_told_by_the_next_birth_or_counted() {
    let mut session = session("");
    up(&mut session, 0);
    session.handle_connected(0, NOW);
    drain(&mut session);
    readings(&mut session, &[reading(0, Value::Int(1), 1)]);
    let unsent = session.poll_publication(NOW).unwrap().carried;
    readings(&mut session, &[reading(0, Value::Int(2), 2)]);
    session.handle_disconnected(vec![unsent]);
    assert_eq!(session.readings_lost, 1);
    readings(&mut session, &[reading(0, Value::Int(3), 3)]);
    assert_eq!(session.readings_lost, 2);
}

#[test]
fn what_waits_for_a_slow_connection_is_bounded_and_then_all_is_born_again() {
    let mut session = session("");
    up(&mut session, 0);
    session.handle_connected(0, NOW);
    drain(&mut session);
    let bad = Reading { value: None, quality: Quality::BadConfig, ..reading(1, Value::Int(0), 1) };
    readings(&mut session, &[bad]);
    let count = u64::try_from(WAITING_READINGS_MAX).unwrap();
    for at in 0..count {
        readings(&mut session, &[reading(0, Value::Int(1), at)]);
    }
    assert_eq!(session.readings_lost, count - 1);
    let sent = drain(&mut session);
    check_sent(&sent, "g/NBIRTH/n#0 g/DBIRTH/n/d#1");
    assert_eq!(metric_of(&sent[1].1, "a").timestamp, Some(count - 1));
    assert_eq!(quality_of(metric_of(&sent[1].1, "b")), Some((0, "bad:config".into())));
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
    assert!(aliases(0).iter().all(Option::is_none));
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
