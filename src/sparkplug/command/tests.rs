use proptest::prelude::*;

use super::*;
use crate::config;
use crate::config::site::IntegerTypes;

fn site() -> Site {
    let text = r#"
        [gateway]
        name = "n"
        enterprise = "g"
        [uplink.u]
        broker = "mqtt://127.0.0.1"
        [link.l]
        tcp = "127.0.0.1:502"
        [device.d]
        link = "l"
        tags = [
          { name = "i16", at = "hr:0", type = "i16" }, { name = "u16", at = "hr:1" }, { name = "u32", at = "hr:2", type = "u32" },
          { name = "u64", at = "hr:4", type = "u64" }, { name = "f32", at = "hr:8", type = "f32" }, { name = "scaled", at = "hr:10", scale = 0.1 },
          { name = "coil", at = "coil:0" }, { name = "secret", at = "coil:1", share = "private" },
        ]
        "#;
    config::parse("test.toml", text).site.unwrap()
}

fn requests_of(types: IntegerTypes, device: &str, payload: &[u8]) -> Result<Vec<WriteRequest>, Box<Outcome>> {
    let site = site();
    let origin = Origin {
        site: &site,
        shared: &Shared::new(&site, &site.uplinks[0].share),
        form: Form { aliases: true, types, datatype_in_data: false },
        uplink: &"u".into(),
        session_since: Timestamp::from_millis(1),
        received_at: Timestamp::from_millis(2),
        is_retained: false,
    };
    write_requests(origin, &format!("spBv1.0/g/DCMD/n/{device}"), device, payload)
}

fn requests(payload: &Payload) -> Result<Vec<WriteRequest>, Box<Outcome>> {
    requests_of(IntegerTypes::Wide, "d", &payload.encode_to_vec())
}

fn metric(name: &str, datatype: Option<u32>, value: metric::Value) -> Metric {
    Metric { name: Some(name.to_owned()), datatype, value: Some(value), ..Metric::default() }
}

#[track_caller]
fn check(name: &str, datatype: Option<u32>, value: metric::Value, expected: &str) {
    for types in [IntegerTypes::Wide, IntegerTypes::Exact] {
        let metrics = vec![metric(name, datatype, value.clone())];
        let payload = Payload { timestamp: Some(5), metrics, ..Payload::default() };
        let requests = requests_of(types, "d", &payload.encode_to_vec()).unwrap();
        let shown = requests[0].value.as_ref().map_or("-".to_owned(), |value| format!("{value:?}"));
        assert_eq!(shown, expected, "{name} {datatype:?} {types:?}");
    }
}

#[test]
fn values_are_taken_from_the_field_of_their_datatype() {
    use metric::Value::{
        BooleanValue, BytesValue, DoubleValue, FloatValue, IntValue, LongValue, StringValue,
    };
    check("i16", None, IntValue(0xFFFF_FFFE), "Int(-2)");
    check("i16", Some(3), IntValue(0xFFFF_FFFE), "Int(-2)");
    check("i16", Some(2), IntValue(0xFFFF_FFFE), "Int(-2)");
    check("i16", Some(2), IntValue(0xFFFE), "Int(-2)");
    check("i16", Some(2), IntValue(0x7FFF), "Int(32767)");
    check("i16", Some(2), IntValue(0x1_0000), "-");
    check("i16", Some(1), IntValue(0xFE), "Int(-2)");
    check("i16", Some(1), IntValue(0xFFFF_FF80), "Int(-128)");
    check("i16", Some(1), IntValue(0x1FE), "-");
    check("i16", Some(3), LongValue(u64::MAX), "Int(-1)");
    check("i16", Some(3), LongValue(0xFFFF_FFFF), "-");
    check("i16", Some(4), LongValue(u64::MAX), "Int(-1)");
    check("i16", Some(4), IntValue(7), "Int(7)");
    check("i16", Some(4), IntValue(0xFFFF_FFFF), "-");
    check("u16", Some(6), IntValue(65_535), "UInt(65535)");
    check("u16", Some(6), IntValue(65_536), "-");
    check("u16", Some(5), IntValue(256), "-");
    check("u32", Some(7), IntValue(u32::MAX), "UInt(4294967295)");
    check("u32", Some(7), LongValue(u32::MAX.into()), "UInt(4294967295)");
    check("u32", Some(7), LongValue(1 << 32), "-");
    check("u64", None, LongValue(u64::MAX), "UInt(18446744073709551615)");
    check("u64", Some(8), IntValue(3), "UInt(3)");
    check("f32", None, FloatValue(0.5), "Float(0.5)");
    check("scaled", None, DoubleValue(0.5), "Double(0.5)");
    check("scaled", None, FloatValue(0.5), "Float(0.5)");
    check("scaled", Some(3), IntValue(5), "Int(5)");
    check("scaled", None, IntValue(5), "-");
    check("scaled", None, StringValue("5".into()), "-");
    check("scaled", Some(12), StringValue("5".into()), "Text(\"5\")");
    check("coil", None, BooleanValue(true), "Bool(true)");
    check("coil", None, IntValue(1), "-");
    check("coil", Some(17), BytesValue(vec![1]), "-");
    check("i16", Some(99), IntValue(1), "-");
    check("nothing", None, IntValue(1), "-");
    check("nothing", Some(3), IntValue(1), "Int(1)");
}

#[test]
fn a_metric_is_found_by_its_name_or_its_alias() {
    let by_alias = |alias| Metric {
        alias: Some(alias),
        value: Some(metric::Value::BooleanValue(true)),
        ..Metric::default()
    };
    let payload =
        Payload { metrics: vec![by_alias(7), by_alias(70), Metric::default()], ..Payload::default() };
    let all = requests(&payload).unwrap();
    assert_eq!((all[0].tag.as_str(), all[0].tag_id.map(|id| id.0)), ("coil", Some(6)));
    assert_eq!((all[1].tag.as_str(), all[1].tag_id), ("alias 70", None));
    assert_eq!((all[2].tag.as_str(), all[2].tag_id), ("", None));
    let elsewhere = requests_of(IntegerTypes::Wide, "other", &payload.encode_to_vec()).unwrap();
    assert!(elsewhere.iter().all(|request| request.tag_id.is_none() && request.device == "other"));
}

#[test]
fn the_id_is_the_uuid_or_where_and_when_it_was_sent() {
    let flag = || metric("coil", None, metric::Value::BooleanValue(true));
    let id = |payload: &Payload| {
        requests(payload).unwrap().iter().map(|request| request.id.clone()).collect::<Vec<_>>()
    };
    let plain = Payload { timestamp: Some(5), metrics: vec![flag()], ..Payload::default() };
    assert_eq!(id(&plain), ["spBv1.0/g/DCMD/n/d@5"]);
    let named = Payload {
        uuid: Some("a-b".to_owned()),
        metrics: vec![flag(), metric("u16", None, metric::Value::IntValue(1))],
        ..plain.clone()
    };
    assert_eq!(id(&named), ["a-b#0", "a-b#1"]);
    let stamped = Metric { timestamp: Some(9), ..flag() };
    let only = Payload { metrics: vec![stamped], ..Payload::default() };
    assert_eq!(id(&only), ["spBv1.0/g/DCMD/n/d@9"]);
    assert_eq!(requests(&only).unwrap()[0].sent_at, Some(Timestamp::from_millis(9)));
    assert_eq!(requests(&Payload { metrics: vec![flag()], ..Payload::default() }).unwrap()[0].sent_at, None);
    let long = Payload { uuid: Some("é".repeat(1 << 14)), ..plain };
    assert_eq!(id(&long)[0].len(), ID_MAX);
    let longer = Payload { uuid: Some("e".repeat(1 << 14)), ..long };
    assert_eq!(id(&longer)[0].len(), ID_MAX + 1);
}

#[test]
fn garbage_and_too_much_at_once_are_refused_whole() {
    let refused = |payload: &[u8]| requests_of(IntegerTypes::Wide, "d", payload).unwrap_err();
    assert_eq!(refused(&[0xFF; 9]).reason, "not a payload of Sparkplug B");
    let many = |count| Payload { metrics: vec![Metric::default(); count], ..Payload::default() };
    assert_eq!(requests(&many(16)).unwrap().len(), 16);
    let outcome = refused(&many(17).encode_to_vec());
    assert_eq!(outcome.reason, "17 metrics in one command: 1 to 16 are possible");
    assert_eq!((outcome.result, outcome.device.as_str()), (WriteResult::Refused, "d"));
    assert_eq!(refused(&[]).reason, "0 metrics in one command: 1 to 16 are possible");
}

#[test]
fn a_tag_that_is_named_twice_whichever_way_is_refused_with_all_of_the_command() {
    let flag = || metric("coil", None, metric::Value::BooleanValue(true));
    let by_alias = Metric { name: None, alias: Some(7), ..flag() };
    for second in [flag(), by_alias] {
        let payload = Payload { metrics: vec![flag(), second], ..Payload::default() };
        assert_eq!(requests(&payload).unwrap_err().reason, "tag `coil` is named twice in one command");
    }
}

#[test]
fn a_tag_that_the_uplink_may_not_have_is_found_by_no_name_and_no_alias() {
    let flag = metric("secret", None, metric::Value::BooleanValue(true));
    let by_alias = Metric { name: None, alias: Some(8), ..flag.clone() };
    let payload = Payload { metrics: vec![flag, by_alias], ..Payload::default() };
    let found: Vec<_> = requests(&payload)
        .unwrap()
        .into_iter()
        .map(|request| (request.tag, request.tag_id, request.value))
        .collect();
    assert_eq!(found, [("secret".to_owned(), None, None), ("alias 8".to_owned(), None, None)]);
}

#[test]
fn a_very_long_command_is_not_even_decoded() {
    let reason = |size| requests_of(IntegerTypes::Wide, "d", &vec![0xFF; size]).unwrap_err().reason;
    assert_eq!(reason(SIZE_MAX), "not a payload of Sparkplug B");
    assert_eq!(reason(SIZE_MAX + 1), "65537 bytes in one command: at most 65536 are possible");
}

#[test]
fn a_null_is_no_value() {
    let null = Metric { is_null: Some(true), ..metric("coil", None, metric::Value::BooleanValue(true)) };
    let payload = Payload { metrics: vec![null], ..Payload::default() };
    assert_eq!(requests(&payload).unwrap()[0].value, None);
}

proptest! {
    #[test]
    fn any_bytes_are_borne(payload: Vec<u8>, device in ".{0,400}") {
        for request in requests_of(IntegerTypes::Exact, &device, &payload).into_iter().flatten() {
            prop_assert!(request.id.len() <= ID_MAX + 4 && request.tag.len() <= TEXT_MAX && request.device.len() <= TEXT_MAX);
        }
    }

    #[test]
    fn any_metric_is_borne(name in ".{0,400}", alias: Option<u64>, datatype: Option<u32>, raw: u64, kind in 0..3) {
        let value = match kind {
            0 => metric::Value::LongValue(raw),
            1 => metric::Value::IntValue(u32::try_from(raw >> 32).unwrap()),
            _ => metric::Value::StringValue(name.clone()),
        };
        let metric = Metric { name: Some(name), alias, datatype, value: Some(value), ..Metric::default() };
        let requests = requests(&Payload { metrics: vec![metric], ..Payload::default() }).unwrap();
        prop_assert_eq!(requests.len(), 1);
    }
}
