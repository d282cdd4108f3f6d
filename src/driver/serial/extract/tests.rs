//! Values out of frames: each type, each order, digits, text, patterns, and frames that do not hold them.

use bytes::Bytes;
use proptest::prelude::*;
use regex::bytes::RegexBuilder;

use super::*;
use crate::tag::TimeFormat;

const ABCD: ByteOrder = ByteOrder { words_reversed: false, bytes_swapped: false };
const CDAB: ByteOrder = ByteOrder { words_reversed: true, bytes_swapped: false };
const BADC: ByteOrder = ByteOrder { words_reversed: false, bytes_swapped: true };
const DCBA: ByteOrder = ByteOrder { words_reversed: true, bytes_swapped: true };

const U8: DataType = DataType::Byte { is_high: false, form: ByteForm::Unsigned };
const I8: DataType = DataType::Byte { is_high: false, form: ByteForm::Signed };
const BCD8: DataType = DataType::Byte { is_high: false, form: ByteForm::Bcd };
const TEXT: FieldType = FieldType::Data(DataType::Text { encoding: Encoding::Auto, is_sparse: false });

fn frame(bytes: &[u8]) -> Frame {
    Frame { bytes: Bytes::copy_from_slice(bytes), body: 0..bytes.len(), is_refusal: false }
}

fn field(at: FieldAt, field_type: FieldType, length: Option<u16>, order: ByteOrder) -> Field {
    Field { name: "x".into(), at, field_type, length, order, is_event: false, is_optional: false }
}

fn byte(position: i32) -> FieldAt {
    FieldAt::Byte { position, bits: None }
}

fn pattern(text: &str) -> regex::bytes::Regex {
    RegexBuilder::new(text).unicode(false).build().unwrap()
}

/// What is shown of a result.
fn shown(result: Result<Option<Raw>, Quality>) -> String {
    match result {
        Ok(None) => "none".to_owned(),
        Ok(Some(Raw::Value(value))) => value.to_string(),
        Ok(Some(Raw::Words(words))) => format!("{words:04X?}"),
        Err(quality) => quality.id().to_owned(),
    }
}

#[track_caller]
fn check_number(data_type: DataType, order: ByteOrder, bytes: &[u8], expected: &str) {
    let field = field(byte(0), FieldType::Data(data_type), None, order);
    let frame = frame(bytes);
    let content = Content::of(&FrameRule::default(), &frame).unwrap();
    assert_eq!(shown(extract(&content, &field)), expected, "{data_type:?} {order:?}");
}

#[test]
fn numbers_of_every_width_lie_as_their_order_says() {
    check_number(DataType::U16, ABCD, &[0x12, 0x34], "4660");
    check_number(DataType::U16, CDAB, &[0x12, 0x34], "4660");
    check_number(DataType::U16, BADC, &[0x34, 0x12], "4660");
    check_number(DataType::U16, DCBA, &[0x34, 0x12], "4660");
    check_number(DataType::U32, ABCD, &[0x12, 0x34, 0x56, 0x78], "305419896");
    check_number(DataType::U32, CDAB, &[0x56, 0x78, 0x12, 0x34], "305419896");
    check_number(DataType::U32, BADC, &[0x34, 0x12, 0x78, 0x56], "305419896");
    check_number(DataType::U32, DCBA, &[0x78, 0x56, 0x34, 0x12], "305419896");
    check_number(DataType::U48, CDAB, &[0x00, 0x03, 0x00, 0x02, 0x00, 0x01], "4295098371");
    check_number(DataType::U64, BADC, &[0, 0, 0, 0, 0, 0, 2, 1], "258");
    check_number(DataType::U64, CDAB, &[0, 3, 0, 2, 0, 0, 0, 0], "131075");
    check_number(DataType::U64, ABCD, &[0xFF; 8], "18446744073709551615");
}

#[test]
fn the_highest_bit_of_a_signed_number_is_its_sign() {
    check_number(I8, ABCD, &[0x80], "-128");
    check_number(DataType::I16, DCBA, &[0xFE, 0xFF], "-2");
    check_number(DataType::I32, ABCD, &[0xFF, 0xFF, 0xFF, 0x00], "-256");
    check_number(DataType::I48, ABCD, &[0x80, 0, 0, 0, 0, 0], "-140737488355328");
    check_number(DataType::I64, DCBA, &[0, 0, 0, 0, 0, 0, 0, 0x80], "-9223372036854775808");
    check_number(DataType::I16, ABCD, &[0x7F, 0xFF], "32767");
}

#[test]
fn floats_are_numbers_or_nothing() {
    check_number(DataType::F32, DCBA, &[0x00, 0x00, 0x48, 0x41], "12.5");
    check_number(DataType::F64, ABCD, &[0x40, 0x29, 0, 0, 0, 0, 0, 0], "12.5");
    check_number(DataType::F16, ABCD, &[0x4A, 0x40], "12.5");
    check_number(DataType::F16, ABCD, &[0x80, 0x01], "-0.000000059604645");
    check_number(DataType::F16, ABCD, &[0x7C, 0x00], "bad:sensor_failure");
    check_number(DataType::F32, ABCD, &[0x7F, 0xC0, 0, 0], "bad:sensor_failure");
    check_number(DataType::F64, ABCD, &[0xFF, 0xF0, 0, 0, 0, 0, 0, 0], "bad:sensor_failure");
}

#[test]
fn bcd_has_two_digits_a_byte_and_no_letters() {
    check_number(DataType::Bcd { digits: 8 }, DCBA, &[0x00, 0x77, 0x66, 0x55], "55667700");
    check_number(DataType::Bcd { digits: 6 }, DCBA, &[0x56, 0x34, 0x12], "123456");
    check_number(DataType::Bcd { digits: 6 }, ABCD, &[0x12, 0x34, 0x56], "123456");
    check_number(DataType::Bcd { digits: 6 }, CDAB, &[0x12, 0x34, 0x56], "bad:config");
    check_number(DataType::Bcd { digits: 10 }, ABCD, &[0x12, 0x34, 0x56, 0x78, 0x90], "1234567890");
    check_number(DataType::Bcd { digits: 16 }, ABCD, &[0x99; 8], "9999999999999999");
    check_number(BCD8, CDAB, &[0x42], "42");
    check_number(BCD8, ABCD, &[0x4A], "bad:decode");
    check_number(DataType::Bcd { digits: 4 }, ABCD, &[0xFF, 0xFF], "bad:decode");
}

#[test]
fn a_number_that_the_frame_does_not_hold_is_none() {
    check_number(U8, ABCD, &[], "none");
    check_number(DataType::U16, ABCD, &[1], "none");
    check_number(DataType::F64, ABCD, &[1; 7], "none");
}

#[track_caller]
fn check_bits(at: (i32, u8, u8), expected: &str) {
    let at = FieldAt::Byte { position: at.0, bits: Some((at.1, at.2)) };
    let frame = frame(&[0x2C, 0x31, 0x80]);
    let content = Content::of(&FrameRule::default(), &frame).unwrap();
    let field = field(at, FieldType::Data(U8), None, ABCD);
    assert_eq!(shown(extract(&content, &field)), expected);
}

#[test]
fn bits_of_a_byte_are_a_flag_or_a_number() {
    check_bits((0, 2, 2), "true");
    check_bits((0, 1, 1), "false");
    check_bits((0, 0, 2), "4");
    check_bits((0, 3, 5), "5");
    check_bits((1, 0, 7), "49");
    check_bits((-1, 7, 7), "true");
    check_bits((-3, 2, 3), "3");
    check_bits((-4, 0, 0), "none");
    check_bits((3, 0, 0), "none");
    check_bits((0, 2, 1), "bad:config");
    check_bits((0, 0, 8), "bad:config");
}

#[track_caller]
fn check_text(field_type: FieldType, bytes: &[u8], expected: &str) {
    let (frame, length) = (frame(bytes), u16::try_from(bytes.len()).unwrap());
    let content = Content::of(&FrameRule::default(), &frame).unwrap();
    assert_eq!(shown(extract(&content, &field(byte(0), field_type, Some(length), ABCD))), expected);
}

#[test]
fn a_decimal_is_digits_with_a_sign_a_point_and_blanks() {
    let check = |text: &str, expected: &str| check_text(FieldType::Decimal, text.as_bytes(), expected);
    check("+002000", "2000");
    check("-000015", "-15");
    check("  1234", "1234");
    check("+  1.234", "1.234");
    check("- 0.500", "-0.5");
    check("+00123.45", "123.45");
    check("-0001.00", "-1");
    check("- 0.000", "0");
    check("+9999999E+19", "99999990000000000000000000");
    check("5.", "5");
    check(".5", "0.5");
    check("99999999999999999999", "100000000000000000000");
    for none in [
        "",
        " ",
        "+",
        "+        ",
        ".",
        "-.",
        "1.2.3",
        "12A",
        "0x10",
        "inf",
        "nan",
        "1-",
        "--1",
        "1e999",
        "E5",
    ] {
        check(none, "bad:decode");
    }
    check_text(FieldType::Decimal, "１２".as_bytes(), "bad:decode");
}

#[test]
fn whole_decimals_stay_whole() {
    assert_eq!(decimal(b"+002000"), Ok(Value::Int(2000)));
    assert_eq!(decimal(b"2000.0"), Ok(Value::Double(2000.0)));
}

#[test]
fn hexadecimal_digits_are_a_number() {
    let check = |text: &str, expected: &str| check_text(FieldType::Hex, text.as_bytes(), expected);
    check("04D2", "1234");
    check("4D2", "1234");
    assert_eq!(hex(b"6300", BADC), Ok(Value::UInt(99)));
    assert_eq!(hex(b"D2040000", DCBA), Ok(Value::UInt(1234)));
    check(" ff ", "255");
    check("FFFFFFFFFFFFFFFF", "18446744073709551615");
    for none in ["", "0G", "+1", "-1", "1 2", "00000000000000001"] {
        check(none, "bad:decode");
    }
}

#[test]
fn text_is_utf8_or_gbk_up_to_its_end() {
    let text = |encoding| FieldType::Data(DataType::Text { encoding, is_sparse: false });
    check_text(TEXT, b"ABC  ", "ABC");
    check_text(TEXT, b"AB\0C", "AB");
    check_text(TEXT, "零件".as_bytes(), "零件");
    check_text(TEXT, &[0xC1, 0xE3, 0xBC, 0xFE], "零件");
    check_text(text(Encoding::Gbk), &[0xC1, 0xE3, 0xBC, 0xFE], "零件");
    check_text(text(Encoding::Utf8), &[0xC1, 0xE3, 0xBC, 0xFE], "bad:decode");
    check_text(TEXT, &[0xFF, 0xFF], "bad:decode");
}

#[test]
fn text_by_place_is_in_the_encoding_of_its_frame() {
    let check = |encoding, bytes: &[u8], expected: &str| {
        let (rule, frame) = (FrameRule { encoding, ..FrameRule::default() }, frame(bytes));
        let content = Content::of(&rule, &frame).unwrap();
        assert_eq!(shown(extract(&content, &field(byte(0), TEXT, None, ABCD))), expected);
    };
    check(Encoding::Auto, &[0xC2, 0xA9], "©");
    check(Encoding::Gbk, &[0xC2, 0xA9], "漏");
    check(Encoding::Utf8, &[0xC1, 0xE3], "bad:decode");
}

#[test]
fn text_without_a_length_goes_to_the_end() {
    let frame = frame(b"\x01READY");
    let content = Content::of(&FrameRule::default(), &frame).unwrap();
    assert_eq!(shown(extract(&content, &field(byte(1), TEXT, None, ABCD))), "READY");
    assert_eq!(shown(extract(&content, &field(byte(-3), TEXT, None, ABCD))), "ADY");
    assert_eq!(shown(extract(&content, &field(byte(7), TEXT, None, ABCD))), "none");
}

#[test]
fn dates_and_words_are_left_to_whoever_decodes_registers() {
    let time = DataType::Time(TimeFormat::parse("bcd YYMM DDhh").unwrap());
    check_number(time, ABCD, &[0x26, 0x11, 0x27, 0x08], "[2611, 2708]");
    check_text(FieldType::Data(DataType::Words), &[1, 2, 3, 4], "[0102, 0304]");
    check_text(FieldType::Data(DataType::Words), &[1, 2, 3], "bad:decode");
}

/// The groups `a` and `b` of `body`.
#[track_caller]
fn check_groups(rule: &FrameRule, body: &[u8], expected: Option<(&str, &str)>) {
    let frame = frame(body);
    let group = |content: &Content<'_>, name: &str| {
        shown(extract(content, &field(FieldAt::Group(name.into()), TEXT, None, ABCD)))
    };
    let content = Content::of(rule, &frame).ok();
    let found = content.map(|content| (group(&content, "a"), group(&content, "b")));
    assert_eq!(found.as_ref().map(|(a, b)| (a.as_str(), b.as_str())), expected);
}

#[test]
fn the_first_pattern_that_matches_names_the_parts() {
    let patterns =
        vec![pattern("^S (?<a>[SD]) +(?<b>-?[0-9.]+)$"), pattern("^S (?<a>.)$"), pattern("^(?<b>E[STL])$")];
    let rule = FrameRule { patterns, ..FrameRule::default() };
    check_groups(&rule, b"S D   100.01", Some(("D", "100.01")));
    check_groups(&rule, b"S I", Some(("I", "none")));
    check_groups(&rule, b"ET", Some(("none", "ET")));
    check_groups(&rule, b"EX", None);
    check_groups(&rule, b"", None);
}

#[test]
fn a_pattern_sees_gbk_as_the_characters_it_is() {
    let patterns = vec![pattern("^净重(?<a>[0-9.]+)(?<b>.+)$")];
    let rule = |encoding| FrameRule { patterns: patterns.clone(), encoding, ..FrameRule::default() };
    let gbk = [0xBE, 0xBB, 0xD6, 0xD8, b'1', b'.', b'5', 0xB9, 0xAB, 0xBD, 0xEF];
    check_groups(&rule(Encoding::Auto), &gbk, Some(("1.5", "公斤")));
    check_groups(&rule(Encoding::Gbk), &gbk, Some(("1.5", "公斤")));
    check_groups(&rule(Encoding::Utf8), &gbk, None);
    check_groups(&rule(Encoding::Auto), "净重1.5公斤".as_bytes(), Some(("1.5", "公斤")));
}

#[test]
fn a_pattern_sees_what_is_between_start_and_end_and_bytes_count_in_the_whole_frame() {
    let rule = FrameRule { patterns: vec![pattern("^(?<a>.+)$")], ..FrameRule::default() };
    let frame = Frame { body: 1..3, ..frame(b"\x02OK\x03") };
    let content = Content::of(&rule, &frame).unwrap();
    assert_eq!(content.group("a"), Some(&b"OK"[..]));
    assert_eq!(content.group("b"), None);
    assert_eq!(shown(extract(&content, &field(byte(-1), FieldType::Data(U8), None, ABCD))), "3");
}

#[test]
fn what_is_unpacked_is_where_bytes_and_patterns_look() {
    let rule = |unpack, patterns| FrameRule { unpack: Some(unpack), patterns, ..FrameRule::default() };
    let hex = Frame { body: 1..5, ..frame(b"\x02D204\x03DD") };
    let content = Content::of(&rule(Unpack::Hex, vec![]), &hex).unwrap();
    let i16 = |at| field(byte(at), FieldType::Data(DataType::I16), None, DCBA);
    assert_eq!(shown(extract(&content, &i16(0))), "1234");
    assert_eq!(shown(extract(&content, &i16(-2))), "1234");
    assert_eq!(shown(extract(&content, &i16(1))), "none");
    let spoilt = Frame { body: 1..5, ..frame(b"\x02D2G4\x03DD") };
    assert_eq!(Content::of(&rule(Unpack::Hex, vec![]), &spoilt).err(), Some(Unfit::NotHex));

    let reversed = Frame { body: 1..9, ..frame(b"=00.1000-") };
    let content = Content::of(&rule(Unpack::Reverse, vec![pattern("^(?<a>.*)$")]), &reversed).unwrap();
    let value = |at, length| field(at, FieldType::Decimal, length, ABCD);
    assert_eq!(shown(extract(&content, &value(byte(0), Some(8)))), "-1");
    assert_eq!(shown(extract(&content, &value(FieldAt::Group("a".into()), None))), "-1");
}

fn any_field() -> impl Strategy<Value = Field> {
    let types = vec![
        FieldType::Decimal,
        FieldType::Hex,
        TEXT,
        FieldType::Data(U8),
        FieldType::Data(DataType::Bool { bit: None }),
        FieldType::Data(DataType::Slice { first: 3, last: 15 }),
        FieldType::Data(DataType::I48),
        FieldType::Data(DataType::F32),
        FieldType::Data(DataType::Bcd { digits: 6 }),
        FieldType::Data(DataType::Words),
    ];
    let bits = proptest::option::of((0_u8..10, 0_u8..10));
    let at = prop_oneof![
        (-20_i32..20, bits).prop_map(|(position, bits)| FieldAt::Byte { position, bits }),
        Just(FieldAt::Byte { position: i32::MIN, bits: None }),
        Just(FieldAt::Group("a".into())),
    ];
    let order = any::<(bool, bool)>();
    let length = proptest::option::of(0_u16..20);
    (at, prop::sample::select(types), length, order).prop_map(|(at, field_type, length, order)| {
        let order = ByteOrder { words_reversed: order.0, bytes_swapped: order.1 };
        field(at, field_type, length, order)
    })
}

proptest! {
    #[test]
    fn any_frame_and_any_field_are_borne(bytes: Vec<u8>, field in any_field(), start in 0_usize..4, end in 0_usize..9) {
        let frame = Frame { body: start..end, ..frame(&bytes) };
        for unpack in [None, Some(Unpack::Hex), Some(Unpack::Reverse)] {
            let rule = FrameRule { unpack, patterns: vec![pattern("(?<a>.)?.")], ..FrameRule::default() };
            if let Ok(content) = Content::of(&rule, &frame) {
                let found = extract(&content, &field);
                let is_bad = matches!(found, Err(Quality::BadDecode | Quality::BadConfig | Quality::BadSensorFailure));
                prop_assert!(found.is_ok() || is_bad);
            }
        }
    }

    #[test]
    fn a_decimal_is_the_number_that_was_written(whole in any::<i32>(), cents in 0_u8..100) {
        let text = format!("{whole}.{cents:02}");
        let expected: f64 = text.parse().unwrap();
        prop_assert_eq!(decimal(text.as_bytes()), Ok(Value::Double(expected + 0.0)));
        prop_assert_eq!(decimal(format!(" {whole} ").as_bytes()), Ok(Value::Int(whole.into())));
    }
}
