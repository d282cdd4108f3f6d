use super::*;
use proptest::prelude::*;

fn bytes(hex: &str) -> Vec<u8> {
    hex.split_whitespace().map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

fn reading(tag: u32, value: impl Into<Option<Value>>, quality: Quality, at: Stamp) -> Reading {
    Reading { tag: TagId(tag), value: value.into(), quality, at }
}

/// Frozen: do not change what stands here; files of ten years ago are read by it.
#[track_caller]
fn check(record: &Record<'_>, hex: &str) {
    assert_eq!(write(record), bytes(hex));
    assert_eq!(read(&bytes(hex)).as_ref(), Some(record));
}

#[test]
fn records_are_so_and_not_otherwise() {
    check(
        &Record::Name { tag: TagId(300), device: "oven", name: "zone1/t" },
        "02 AC 02 04 6F 76 65 6E 07 7A 6F 6E 65 31 2F 74",
    );
    check(&Record::Cursor { uplink: "cloud", position: Position(1000) }, "03 E8 07 05 63 6C 6F 75 64");
    let gap = Gap {
        first: Position(1),
        end: Position(128),
        from: Some(Timestamp::from_millis(256)),
        to: None,
        reason: Reason::Age,
    };
    check(&Record::Gap(gap), "04 01 80 01 80 02 00 02");
    check(
        &Record::Boot { id: *b"0123456789ABCDEF", at: Timestamp::from_millis(5) },
        "05 30 31 32 33 34 35 36 37 38 39 41 42 43 44 45 46 05",
    );
}

/// Frozen as well.
#[test]
fn readings_are_so_and_not_otherwise() {
    let wall = Stamp::Wall(Timestamp::from_millis(1_764_000_000_000));
    let since_boot = Stamp::SinceBoot(7);
    let readings = [
        reading(0, Value::Bool(false), Quality::Good, wall),
        reading(1, Value::Bool(true), Quality::BadCommLastValueKnown, wall),
        reading(2, Value::Int(-2), Quality::Good, wall),
        reading(3, Value::UInt(300), Quality::Good, wall),
        reading(4, Value::Float(1.5), Quality::Good, wall),
        reading(5, Value::Double(-0.5), Quality::Good, wall),
        reading(6, Value::Text("°C".into()), Quality::Good, wall),
        reading(200, None, Quality::BadDecode, since_boot),
    ];
    let mut records = Vec::new();
    write_readings(Position(5), &readings, |record| records.push(record.to_vec()));
    let expected = [
        "01 05 00 80 D0 DF B4 AB 33 07 00 01 01 82 05 02 03 03 03 04 AC 02 04 05 00 00 C0 3F \
         05 06 00 00 00 00 00 00 E0 BF 06 07 03 C2 B0 43",
        "01 0C 01 07 01 C8 01 80 08",
    ];
    assert_eq!(records, expected.map(bytes));
    let back: Vec<(Position, Reading)> = records
        .iter()
        .flat_map(|record| match read(record) {
            Some(Record::Readings(readings)) => readings,
            other => panic!("{other:?}"),
        })
        .collect();
    let expected: Vec<_> = readings
        .into_iter()
        .enumerate()
        .map(|(index, reading)| (Position(5 + index as u64), reading))
        .collect();
    assert_eq!(back, expected);
}

/// Frozen too.
#[test]
fn a_time_and_a_good_value_that_was_set_by_hand_are_so_and_not_otherwise() {
    let at = Stamp::SinceBoot(7);
    let readings = [
        reading(1, Value::Time(Timestamp::from_millis(300)), Quality::Good, at),
        reading(2, Value::UInt(5), Quality::GoodLocalOverride, at),
    ];
    let mut records = Vec::new();
    write_readings(Position(5), &readings, |record| records.push(record.to_vec()));
    assert_eq!(records, [bytes("01 05 01 07 02 01 08 AC 02 02 84 0A 05")]);
    let Some(Record::Readings(back)) = read(&records[0]) else { panic!("no readings") };
    assert_eq!(back.map(|(_, reading)| reading).collect::<Vec<_>>(), readings);
}

#[test]
fn every_quality_and_reason_has_a_number_of_its_own() {
    for (code, quality) in Quality::ALL.into_iter().enumerate() {
        assert_eq!(usize::from(quality_code(quality)), code);
        assert_eq!(quality_of(quality_code(quality)), Some(quality));
    }
    let codes: Vec<u8> = Reason::ALL.into_iter().map(Reason::code).collect();
    assert_eq!(codes, [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_text_of_any_length_is_kept_up_to_a_bound() {
    let long = "é".repeat(2000);
    let mut records = Vec::new();
    let one = [reading(0, Value::Text(long.as_str().into()), Quality::Good, Stamp::SinceBoot(0))];
    write_readings(Position(0), &one, |record| records.push(record.to_vec()));
    let Some(Record::Readings(mut readings)) = read(&records[0]) else { panic!("no readings") };
    let (_, back) = readings.next().unwrap();
    assert_eq!(back.value, Some(Value::Text("é".repeat(TEXT_SIZE_MAX / 2).as_str().into())));
}

fn any_value() -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        Just(None),
        any::<bool>().prop_map(|value| Some(Value::Bool(value))),
        any::<i64>().prop_map(|value| Some(Value::Int(value))),
        any::<u64>().prop_map(|value| Some(Value::UInt(value))),
        any::<f32>().prop_map(|value| Some(Value::Float(value))),
        any::<f64>().prop_map(|value| Some(Value::Double(value))),
        "\\PC{0,20}".prop_map(|value| Some(Value::Text(value.into()))),
        any::<u64>().prop_map(|millis| Some(Value::Time(Timestamp::from_millis(millis)))),
    ]
}

fn any_reading() -> impl Strategy<Value = Reading> {
    let at = prop_oneof![
        any::<u64>().prop_map(|millis| Stamp::Wall(Timestamp::from_millis(millis))),
        (0_u64..3).prop_map(Stamp::SinceBoot),
    ];
    (any::<u32>(), any_value(), prop::sample::select(&Quality::ALL[..]), at)
        .prop_map(|(tag, value, quality, at)| reading(tag, value, quality, at))
}

/// Equal to whoever reads them, NaN included.
fn shown(reading: &Reading) -> String {
    let bits = match &reading.value {
        Some(Value::Float(value)) => u64::from(value.to_bits()),
        Some(Value::Double(value)) => value.to_bits(),
        _ => 0,
    };
    format!("{reading:?} {bits:x}")
}

proptest! {
    #[test]
    fn what_is_written_is_read(first in 0..u64::MAX / 2, readings in prop::collection::vec(any_reading(), 0..600)) {
        let mut back = Vec::new();
        let mut next = Position(first);
        write_readings(Position(first), &readings, |record| {
            assert!(record.len() <= RECORD_SIZE_MAX);
            let Some(Record::Readings(readings)) = read(record) else { panic!("no readings") };
            assert_eq!(readings.next, next);
            next = readings.end();
            back.extend(readings.map(|(_, reading)| shown(&reading)));
        });
        prop_assert_eq!(next.since(Position(first)), readings.len() as u64);
        prop_assert_eq!(back, readings.iter().map(shown).collect::<Vec<_>>());
    }

    #[test]
    fn any_bytes_are_borne(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0_u8..7) {
        for bytes in [bytes.clone(), [&[kind], &bytes[..]].concat()] {
            if let Some(Record::Readings(readings)) = read(&bytes) {
                prop_assert!(readings.count() <= bytes.len());
            }
        }
    }
}
