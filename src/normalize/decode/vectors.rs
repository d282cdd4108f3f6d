//! Golden vectors: bytes as manuals and devices give them, each type in each order. None was made by code of ours.

use proptest::prelude::*;

use super::*;
use crate::tag::{Area, ByteForm, Encoding, Span, TimeFormat};

fn order(letters: &str) -> ByteOrder {
    let (words_reversed, bytes_swapped) = match letters {
        "ABCD" => (false, false),
        "CDAB" => (true, false),
        "BADC" => (false, true),
        "DCBA" => (true, true),
        other => panic!("{other}"),
    };
    ByteOrder { words_reversed, bytes_swapped }
}

fn words(hex: &str) -> Vec<u16> {
    let bytes: Vec<u8> = hex.split_whitespace().map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
    bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
}

/// `u32`, `bcd24`, `bit 17`, `slice 4-7`, `u8 high`, `string gbk`, `string sparse`, `datetime YYMM DDhh mmss`.
fn data_type(text: &str) -> DataType {
    let (name, rest) = text.split_once(' ').unwrap_or((text, ""));
    let byte = |form| DataType::Byte { is_high: rest == "high", form };
    match name {
        "bit" => DataType::Bool { bit: Some(rest.parse().unwrap()) },
        "slice" => {
            let (first, last) = rest.split_once('-').unwrap();
            DataType::Slice { first: first.parse().unwrap(), last: last.parse().unwrap() }
        }
        "u8" => byte(ByteForm::Unsigned),
        "i8" => byte(ByteForm::Signed),
        "bcd8" => byte(ByteForm::Bcd),
        "i16" => DataType::I16,
        "u16" => DataType::U16,
        "i32" => DataType::I32,
        "u32" => DataType::U32,
        "i48" => DataType::I48,
        "u48" => DataType::U48,
        "i64" => DataType::I64,
        "u64" => DataType::U64,
        "f16" => DataType::F16,
        "f32" => DataType::F32,
        "f64" => DataType::F64,
        "bcd16" => DataType::Bcd { digits: 4 },
        "bcd24" => DataType::Bcd { digits: 6 },
        "bcd32" => DataType::Bcd { digits: 8 },
        "bcd40" => DataType::Bcd { digits: 10 },
        "bcd48" => DataType::Bcd { digits: 12 },
        "bcd64" => DataType::Bcd { digits: 16 },
        "string" => DataType::Text {
            encoding: match rest {
                "gbk" => Encoding::Gbk,
                "utf-8" => Encoding::Utf8,
                _ => Encoding::Auto,
            },
            is_sparse: rest == "sparse",
        },
        "datetime" => DataType::Time(TimeFormat::parse(rest).unwrap()),
        "words" => DataType::Words,
        other => panic!("{other}"),
    }
}

#[track_caller]
fn check(of: &str, letters: &str, hex: &str, expected: &str) {
    let words = words(hex);
    let span = Span { area: Area::HoldingRegisters, address: 0, count: u16::try_from(words.len()).unwrap() };
    let layout = Layout { span, model: None, data_type: data_type(of), order: order(letters), scaling: None };
    let shown = match decode_at(layout, &Data::Words(words), 0) {
        Ok(value) => value.to_string(),
        Err(quality) => quality.id().to_owned(),
    };
    assert_eq!(shown, expected, "{of} {letters} {hex}");
}

/// The same value in the four orders.
#[track_caller]
fn check_orders(of: &str, hex: [&str; 4], expected: &str) {
    for (letters, hex) in ["ABCD", "CDAB", "BADC", "DCBA"].into_iter().zip(hex) {
        check(of, letters, hex, expected);
    }
}

#[test]
fn two_registers_in_each_order() {
    check_orders("f32", ["43 66 80 00", "80 00 43 66", "66 43 00 80", "00 80 66 43"], "230.5");
    check_orders("f32", ["BF C0 00 00", "00 00 BF C0", "C0 BF 00 00", "00 00 C0 BF"], "-1.5");
    check_orders("f32", ["44 9A 52 2B", "52 2B 44 9A", "9A 44 2B 52", "2B 52 9A 44"], "1234.5677");
    check_orders("i32", ["07 5B CD 15", "CD 15 07 5B", "5B 07 15 CD", "15 CD 5B 07"], "123456789");
    check_orders("i32", ["FF FF FF FE", "FF FE FF FF", "FF FF FE FF", "FE FF FF FF"], "-2");
    check_orders("u32", ["FF FF FF FE", "FF FE FF FF", "FF FF FE FF", "FE FF FF FF"], "4294967294");
    check_orders("u32", ["07 5B CD 15", "CD 15 07 5B", "5B 07 15 CD", "15 CD 5B 07"], "123456789");
    check("u32", "ABCD", "6B 03 A7 24", "1795401508");
    check_orders("bcd32", ["12 34 56 78", "56 78 12 34", "34 12 78 56", "78 56 34 12"], "12345678");
    check_orders("bcd24", ["00 12 34 56", "34 56 00 12", "12 00 56 34", "56 34 12 00"], "123456");
}

#[test]
fn four_registers_in_each_order() {
    let i64_1234567890123 = [
        "00 00 01 1F 71 FB 04 CB",
        "04 CB 71 FB 01 1F 00 00",
        "00 00 1F 01 FB 71 CB 04",
        "CB 04 FB 71 1F 01 00 00",
    ];
    check_orders("i64", i64_1234567890123, "1234567890123");
    check_orders("u64", i64_1234567890123, "1234567890123");
    let minus_five = [
        "FF FF FF FF FF FF FF FB",
        "FF FB FF FF FF FF FF FF",
        "FF FF FF FF FF FF FB FF",
        "FB FF FF FF FF FF FF FF",
    ];
    check_orders("i64", minus_five, "-5");
    check_orders("u64", minus_five, "18446744073709551611");
    let double = [
        "40 93 4A 45 6D 5C FA AD",
        "FA AD 6D 5C 4A 45 40 93",
        "93 40 45 4A 5C 6D AD FA",
        "AD FA 5C 6D 45 4A 93 40",
    ];
    check_orders("f64", double, "1234.5678");
    let digits = [
        "12 34 56 78 90 12 34 56",
        "34 56 90 12 56 78 12 34",
        "34 12 78 56 12 90 56 34",
        "56 34 12 90 78 56 34 12",
    ];
    check_orders("bcd64", digits, "1234567890123456");
}

#[test]
fn three_registers_in_each_order() {
    let counter = ["12 34 56 78 9A BC", "9A BC 56 78 12 34", "34 12 78 56 BC 9A", "BC 9A 78 56 34 12"];
    check_orders("u48", counter, "20015998343868");
    check_orders("i48", counter, "20015998343868");
    let minus_two = ["FF FF FF FF FF FE", "FF FE FF FF FF FF", "FF FF FF FF FE FF", "FE FF FF FF FF FF"];
    check_orders("i48", minus_two, "-2");
    check_orders("u48", minus_two, "281474976710654");
    let digits = ["12 34 56 78 90 12", "90 12 56 78 12 34", "34 12 78 56 12 90", "12 90 78 56 34 12"];
    check_orders("bcd48", digits, "123456789012");
    let ten = ["00 12 34 56 78 90", "78 90 34 56 00 12", "12 00 56 34 90 78", "90 78 56 34 12 00"];
    check_orders("bcd40", ten, "1234567890");
    check("i48", "ABCD", "80 00 00 00 00 00", "-140737488355328");
}

#[test]
fn one_register_in_each_order() {
    let swapped = |hex, other| [hex, hex, other, other];
    check_orders("i16", swapped("FF 33", "33 FF"), "-205");
    check_orders("u16", swapped("FF 33", "33 FF"), "65331");
    check_orders("i16", swapped("80 03", "03 80"), "-32765");
    check_orders("u16", swapped("80 03", "03 80"), "32771");
    check_orders("u16", swapped("28 0A", "0A 28"), "10250");
    check_orders("bcd16", swapped("12 34", "34 12"), "1234");
    check_orders("f16", swapped("3C 01", "01 3C"), "1.0009766");
    check_orders("u8", swapped("12 FE", "FE 12"), "254");
    check_orders("u8 high", swapped("12 FE", "FE 12"), "18");
    check_orders("i8", swapped("12 FE", "FE 12"), "-2");
    check_orders("i8 high", swapped("FE 12", "12 FE"), "-2");
    check_orders("bcd8", swapped("12 59", "59 12"), "59");
    check_orders("bcd8 high", swapped("12 59", "59 12"), "12");
    check_orders("slice 4-7", swapped("0A 5C", "5C 0A"), "5");
    check_orders("bit 5", swapped("00 24", "24 00"), "true");
    check("i16", "ABCD", "09 01", "2305");
    check("i16", "ABCD", "80 00", "-32768");
    check("u16", "ABCD", "FF FF", "65535");
}

#[test]
fn half_precision_floats() {
    for (hex, expected) in [
        ("3C 00", "1"),
        ("C0 00", "-2"),
        ("7B FF", "65504"),
        ("04 00", "0.000061035156"),
        ("03 FF", "0.00006097555"),
        ("00 01", "0.000000059604645"),
        ("80 00", "-0"),
        ("35 55", "0.33325195"),
        ("7C 00", "bad:sensor_failure"),
        ("FC 00", "bad:sensor_failure"),
        ("7E 00", "bad:sensor_failure"),
    ] {
        check("f16", "ABCD", hex, expected);
    }
}

#[test]
fn bits_and_parts_are_counted_from_the_lowest() {
    for bit in 0..16 {
        let is_on = bit == 2 || bit == 5;
        check(&format!("bit {bit}"), "ABCD", "00 24", &is_on.to_string());
    }
    check("bit 15", "ABCD", "80 00", "true");
    check("bit 7", "BADC", "80 00", "true");
    check("slice 0-1", "ABCD", "FF FE", "2");
    check("slice 0-15", "ABCD", "FF FE", "65534");
    check("slice 15-15", "ABCD", "80 00", "1");
    check("slice 8-15", "ABCD", "5A 00", "90");
    // bit 17 of 0002 0000
    check_orders("bit 17", ["00 02 00 00", "00 00 00 02", "02 00 00 00", "00 00 02 00"], "true");
    check_orders("bit 16", ["00 02 00 00", "00 00 00 02", "02 00 00 00", "00 00 02 00"], "false");
    check("bit 63", "ABCD", "80 00 00 00 00 00 00 00", "true");
    check("bit 16", "ABCD", "FF FF", "bad:decode");
    check("bit 64", "ABCD", "FF FF FF FF FF FF FF FF", "bad:decode");
}

#[test]
fn what_is_no_decimal_digit_is_no_value() {
    check("bcd16", "ABCD", "1A 34", "bad:decode");
    check("bcd16", "ABCD", "F0 00", "bad:decode");
    check("bcd8", "ABCD", "FF 5A", "bad:decode");
    check("bcd8", "ABCD", "FF 59", "59");
    check("bcd24", "ABCD", "01 12 34 56", "bad:decode");
    check("bcd40", "ABCD", "10 12 34 56 78 90", "bad:decode");
    check("bcd64", "ABCD", "99 99 99 99 99 99 99 99", "9999999999999999");
    check("bcd32", "ABCD", "FF FF FF FF", "bad:decode");
}

#[test]
fn strings_end_at_a_nul_and_lose_their_padding() {
    check("string", "ABCD", "53 44 4D 36 33 30", "SDM630");
    check("string", "CDAB", "53 44 4D 36 33 30", "SDM630");
    check("string", "BADC", "44 53 36 4D 30 33", "SDM630");
    check("string", "DCBA", "44 53 36 4D 30 33", "SDM630");
    check("string sparse", "ABCD", "00 53 00 44 00 4D 00 00 00 41", "SDM");
    check("string sparse", "ABCD", "00 53 01 44", "bad:decode");
    check("string sparse", "ABCD", "00 53 00 00 01 44", "S");
    check("string sparse", "ABCD", "00 BF 00 D5", "空");
    check("string", "ABCD", "41 42 00 00 20 20", "AB");
    check("string", "ABCD", "41 42 20 20", "AB");
    check("string", "ABCD", "00 00", "");
    check("string", "ABCD", "20 20", "");
}

#[test]
fn text_is_utf_8_or_gbk_and_never_guessed_further() {
    for encoding in ["string", "string gbk"] {
        check(encoding, "ABCD", "BF D5 D1 B9 BB FA", "空压机");
        check(encoding, "ABCD", "BF D5 D1 B9 BB FA 00 00", "空压机");
        check(encoding, "ABCD", "FF FE", "bad:decode");
        check(encoding, "ABCD", "41 BF", "bad:decode");
    }
    check("string utf-8", "ABCD", "BF D5 D1 B9 BB FA", "bad:decode");
    check("string utf-8", "ABCD", "E7 A9 BA 20", "空");
    check("string", "ABCD", "E7 A9 BA 20", "空");
    check("string gbk", "BADC", "D5 BF B9 D1 FA BB", "空压机");
}

#[test]
fn a_date_and_time_is_told_by_the_device() {
    let at = "2026-11-23T02:38:28.000Z";
    check("datetime YYYY MM DD hh mm ss", "ABCD", "07 EA 00 0B 00 17 00 02 00 26 00 1C", at);
    check("datetime YYYY MM DD hh mm ss", "CDAB", "07 EA 00 0B 00 17 00 02 00 26 00 1C", at);
    check("datetime YYYY MM DD hh mm ss", "DCBA", "EA 07 0B 00 17 00 02 00 26 00 1C 00", at);
    check("datetime YYMM DDhh mmss", "ABCD", "1A 0B 17 02 26 1C", at);
    check("datetime YYMM DDhh mmss", "BADC", "0B 1A 02 17 1C 26", at);
    check("datetime bcd ssmm hhDD MMYY", "ABCD", "28 38 02 23 11 26", at);
    check("datetime bcd YYYY MMDD hhmm", "ABCD", "20 26 11 23 02 38", "2026-11-23T02:38:00.000Z");
    check("datetime YYMM DDWW", "ABCD", "1A 0B 17 FF", "2026-11-23T00:00:00.000Z");
    for wrong in [
        "1A 0D 17 02 26 1C",
        "1A 02 1D 02 26 1C",
        "1A 0B 17 18 26 1C",
        "64 0B 17 02 26 1C",
        "00 00 00 00 00 00",
        "FF FF FF FF FF FF",
    ] {
        check("datetime YYMM DDhh mmss", "ABCD", wrong, "bad:decode");
    }
    check("datetime bcd ssmm hhDD MMYY", "ABCD", "2A 38 02 23 11 26", "bad:decode");
    // a part that has a register to itself is all of it
    check("datetime YYYY MM DD", "ABCD", "07 EA 01 0B 00 17", "bad:decode");
}

#[test]
fn a_float_that_is_no_number_is_never_a_value() {
    check("f32", "ABCD", "7F C0 00 00", "bad:sensor_failure");
    check("f32", "ABCD", "7F 80 00 00", "bad:sensor_failure");
    check("f64", "ABCD", "FF F0 00 00 00 00 00 00", "bad:sensor_failure");
}

#[test]
fn registers_that_are_too_few_or_too_many_are_no_value() {
    for of in [
        "bit 0",
        "slice 0-1",
        "u8",
        "i16",
        "u16",
        "i32",
        "u32",
        "i48",
        "u48",
        "i64",
        "u64",
        "f16",
        "f32",
        "f64",
        "bcd8",
        "bcd16",
        "bcd24",
        "bcd32",
        "bcd40",
        "bcd48",
        "bcd64",
        "datetime YYMM DDhh mmss",
    ] {
        check(of, "ABCD", "", "bad:decode");
        check(of, "ABCD", "00 01 00 01 00 01 00 01 00 01", "bad:decode");
    }
    check("f32", "ABCD", "7F C0", "bad:decode");
    check("words", "ABCD", "00 7B 11 D7", "bad:config");
}

fn any_type() -> impl Strategy<Value = DataType> {
    let encoding = prop_oneof![Just(Encoding::Auto), Just(Encoding::Utf8), Just(Encoding::Gbk)];
    let form = prop_oneof![Just(ByteForm::Unsigned), Just(ByteForm::Signed), Just(ByteForm::Bcd)];
    let formats =
        ["YYMM DDhh mmss", "YYYY MM DD hh mm ss", "bcd ssmm hhDD MMYY", "bcd YYYY MMDD", "YY MM DD WW"];
    prop_oneof![
        any::<Option<u8>>().prop_map(|bit| DataType::Bool { bit }),
        (any::<bool>(), form).prop_map(|(is_high, form)| DataType::Byte { is_high, form }),
        (any::<u8>(), any::<u8>()).prop_map(|(first, last)| DataType::Slice { first, last }),
        any::<u8>().prop_map(|digits| DataType::Bcd { digits }),
        (encoding, any::<bool>()).prop_map(|(encoding, is_sparse)| DataType::Text { encoding, is_sparse }),
        (0..formats.len()).prop_map(move |index| DataType::Time(TimeFormat::parse(formats[index]).unwrap())),
        prop_oneof![
            Just(DataType::I16),
            Just(DataType::U16),
            Just(DataType::I32),
            Just(DataType::U32),
            Just(DataType::I48),
            Just(DataType::U48),
            Just(DataType::I64),
            Just(DataType::U64),
            Just(DataType::F16),
            Just(DataType::F32),
            Just(DataType::F64),
            Just(DataType::Words)
        ],
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// Whatever a device sends, and whatever is made of it: no panic, and no number that is none.
    #[test]
    fn any_registers_are_borne(
        data_type in any_type(), reversed: bool, swapped: bool, words in prop::collection::vec(any::<u16>(), 0..9),
        scaling in prop::option::of((any::<f64>(), any::<f64>())),
    ) {
        let order = ByteOrder { words_reversed: reversed, bytes_swapped: swapped };
        let span = Span { area: Area::HoldingRegisters, address: 0, count: u16::try_from(words.len()).unwrap() };
        let scaling = scaling.map(|(scale, offset)| Scaling { scale, offset });
        let layout = Layout { span, model: None, data_type, order, scaling };
        if let Ok(value) = decode_at(layout, &Data::Words(words), 0) {
            prop_assert!(value.number().is_none_or(f64::is_finite), "{value}");
        }
    }

    /// A bit of a number is that bit, in every order.
    #[test]
    fn a_bit_of_a_number_is_where_the_number_has_it(
        raw in prop::array::uniform4(any::<u16>()), reversed: bool, swapped: bool, bit in 0_u8..64,
    ) {
        let order = ByteOrder { words_reversed: reversed, bytes_swapped: swapped };
        let Ok(Value::UInt(number)) = decode_words(DataType::U64, order, &raw) else { panic!("a number") };
        prop_assert_eq!(decode_words(DataType::Bool { bit: Some(bit) }, order, &raw), Ok(Value::Bool(number >> bit & 1 == 1)));
    }
}
