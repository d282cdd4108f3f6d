//! From registers to a value, or to the reason why there is none. Pure.

use std::sync::Arc;

use crate::config::site::{Layout, Scaling};
use crate::reading::{Quality, Value};
use crate::scan::Data;
use crate::tag::{ByteOrder, DataType};
use crate::unit;

/// The value of what lies so, and begins `offset` into `data`.
///
/// # Errors
/// [`Quality::BadDecode`] where the data does not hold such a value, [`Quality::BadSensorFailure`] for a float that is
/// not a finite number.
pub fn decode_at(layout: Layout, data: &Data, offset: u16) -> Result<Value, Quality> {
    let first = usize::from(offset);
    match data {
        Data::Bits(bits) => bits.get(first).map(|bit| Value::Bool(*bit)).ok_or(Quality::BadDecode),
        Data::Words(words) => {
            let words = words.get(first..first + usize::from(layout.span.count)).ok_or(Quality::BadDecode)?;
            let raw = decode_words(layout.data_type, layout.order, words)?;
            match layout.scaling {
                Some(scaling) => finite(scale(raw, scaling)?),
                None => finite(raw),
            }
        }
    }
}

fn decode_words(data_type: DataType, order: ByteOrder, words: &[u16]) -> Result<Value, Quality> {
    Ok(match data_type {
        DataType::Bool { bit } => {
            let bit = bit.ok_or(Quality::BadDecode)?;
            Value::Bool(u16::from_be_bytes(bytes(words, order)?) >> bit & 1 == 1)
        }
        DataType::I16 => Value::Int(i16::from_be_bytes(bytes(words, order)?).into()),
        DataType::U16 => Value::UInt(u16::from_be_bytes(bytes(words, order)?).into()),
        DataType::I32 => Value::Int(i32::from_be_bytes(bytes(words, order)?).into()),
        DataType::U32 => Value::UInt(u32::from_be_bytes(bytes(words, order)?).into()),
        DataType::I64 => Value::Int(i64::from_be_bytes(bytes(words, order)?)),
        DataType::U64 => Value::UInt(u64::from_be_bytes(bytes(words, order)?)),
        DataType::F32 => Value::Float(f32::from_be_bytes(bytes(words, order)?)),
        DataType::F64 => Value::Double(f64::from_be_bytes(bytes(words, order)?)),
        DataType::Text => text(words, order)?,
    })
}

/// The registers as bytes, the highest first; they must be exactly `N`.
fn bytes<const N: usize>(words: &[u16], order: ByteOrder) -> Result<[u8; N], Quality> {
    let mut bytes = [0; N];
    if words.len() * 2 != N {
        return Err(Quality::BadDecode);
    }
    let place = |(pair, word): (&mut [u8], &u16)| {
        let word = if order.bytes_swapped { word.swap_bytes() } else { *word };
        pair.copy_from_slice(&word.to_be_bytes());
    };
    let pairs = bytes.chunks_exact_mut(2);
    if order.words_reversed {
        pairs.zip(words.iter().rev()).for_each(place);
    } else {
        pairs.zip(words).for_each(place);
    }
    Ok(bytes)
}

/// Two characters a register, UTF-8, ended by a NUL or by the last register; blanks at the end are padding.
fn text(words: &[u16], order: ByteOrder) -> Result<Value, Quality> {
    let swap = |word: &u16| if order.bytes_swapped { word.swap_bytes() } else { *word };
    let bytes: Vec<u8> =
        words.iter().map(swap).flat_map(u16::to_be_bytes).take_while(|byte| *byte != 0).collect();
    let text = std::str::from_utf8(&bytes).map_err(|_| Quality::BadDecode)?;
    Ok(Value::Text(Arc::from(text.trim_end())))
}

/// raw × scale + offset.
pub(super) fn scale(raw: Value, Scaling { scale, offset }: Scaling) -> Result<Value, Quality> {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a scaled tag is a double: beyond 2^53 its last digits are not kept"
    )]
    let raw = match raw {
        Value::Int(raw) => raw as f64,
        Value::UInt(raw) => raw as f64,
        Value::Float(raw) => f64::from(raw),
        Value::Double(raw) => raw,
        Value::Bool(_) | Value::Text(_) => return Err(Quality::BadDecode),
    };
    Ok(Value::Double(unit::scaled(raw, scale) + offset))
}

/// A float that is not a number, or is infinite, is no value.
pub(super) fn finite(value: Value) -> Result<Value, Quality> {
    let is_finite = match &value {
        Value::Float(value) => value.is_finite(),
        Value::Double(value) => value.is_finite(),
        Value::Bool(_) | Value::Int(_) | Value::UInt(_) | Value::Text(_) => true,
    };
    if is_finite { Ok(value) } else { Err(Quality::BadSensorFailure) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
        let bytes: Vec<u8> =
            hex.split_whitespace().map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
        bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
    }

    #[track_caller]
    fn check(data_type: DataType, letters: &str, hex: &str, expected: &str) {
        let shown = match decode_words(data_type, order(letters), &words(hex)).and_then(finite) {
            Ok(value) => value.to_string(),
            Err(quality) => quality.id().to_owned(),
        };
        assert_eq!(shown, expected, "{data_type:?} {letters} {hex}");
    }

    #[test]
    fn each_type_in_each_order() {
        use DataType::{F32, F64, I16, I32, I64, U16, U32, U64};
        for (letters, hex) in [
            ("ABCD", "44 9A 52 2B"),
            ("CDAB", "52 2B 44 9A"),
            ("BADC", "9A 44 2B 52"),
            ("DCBA", "2B 52 9A 44"),
        ] {
            check(F32, letters, hex, "1234.5677");
        }
        for (letters, hex) in [
            ("ABCD", "07 5B CD 15"),
            ("CDAB", "CD 15 07 5B"),
            ("BADC", "5B 07 15 CD"),
            ("DCBA", "15 CD 5B 07"),
        ] {
            check(I32, letters, hex, "123456789");
            check(U32, letters, hex, "123456789");
        }
        for (letters, hex) in [
            ("ABCD", "00 00 01 1F 71 FB 04 CB"),
            ("CDAB", "04 CB 71 FB 01 1F 00 00"),
            ("BADC", "00 00 1F 01 FB 71 CB 04"),
            ("DCBA", "CB 04 FB 71 1F 01 00 00"),
        ] {
            check(I64, letters, hex, "1234567890123");
            check(U64, letters, hex, "1234567890123");
        }
        for (letters, hex) in [
            ("ABCD", "40 93 4A 45 6D 5C FA AD"),
            ("CDAB", "FA AD 6D 5C 4A 45 40 93"),
            ("BADC", "93 40 45 4A 5C 6D AD FA"),
            ("DCBA", "AD FA 5C 6D 45 4A 93 40"),
        ] {
            check(F64, letters, hex, "1234.5678");
        }
        check(I16, "ABCD", "FF 33", "-205");
        check(I16, "CDAB", "FF 33", "-205");
        check(U16, "DCBA", "33 FF", "65331");
        check(I32, "CDAB", "FF FE FF FF", "-2");
        check(I64, "ABCD", "FF FF FF FF FF FF FF FB", "-5");
        check(U64, "ABCD", "FF FF FF FF FF FF FF FF", "18446744073709551615");
    }

    #[test]
    fn bits_are_counted_from_the_lowest() {
        check(DataType::Bool { bit: Some(2) }, "ABCD", "00 24", "true");
        check(DataType::Bool { bit: Some(3) }, "ABCD", "00 24", "false");
        check(DataType::Bool { bit: Some(15) }, "ABCD", "80 00", "true");
        check(DataType::Bool { bit: Some(7) }, "BADC", "80 00", "true");
    }

    #[test]
    fn strings_end_at_a_nul_and_lose_their_padding() {
        check(DataType::Text, "ABCD", "53 44 4D 36 33 30", "SDM630");
        check(DataType::Text, "BADC", "44 53 36 4D 30 33", "SDM630");
        check(DataType::Text, "ABCD", "41 42 00 00 20 20", "AB");
        check(DataType::Text, "ABCD", "41 42 20 20", "AB");
        check(DataType::Text, "ABCD", "00 00", "");
        check(DataType::Text, "ABCD", "E7 A9 BA 20", "空");
        check(DataType::Text, "ABCD", "FF FE", "bad:decode");
    }

    #[test]
    fn a_float_that_is_no_number_is_never_a_value() {
        check(DataType::F32, "ABCD", "7F C0 00 00", "bad:sensor_failure");
        check(DataType::F32, "ABCD", "7F 80 00 00", "bad:sensor_failure");
        check(DataType::F64, "ABCD", "FF F0 00 00 00 00 00 00", "bad:sensor_failure");
        check(DataType::F32, "ABCD", "7F C0", "bad:decode");
    }

    #[track_caller]
    fn check_scale(raw: i64, scaling: (f64, f64), expected: &str) {
        let scaled = scale(Value::Int(raw), Scaling { scale: scaling.0, offset: scaling.1 }).unwrap();
        assert_eq!(scaled.to_string(), expected);
    }

    #[test]
    fn a_decimal_scale_gives_the_decimal_that_was_meant() {
        check_scale(3, (0.1, 0.0), "0.3");
        check_scale(-123, (0.1, 0.0), "-12.3");
        check_scale(2305, (0.01, 0.0), "23.05");
        check_scale(7, (-0.1, 0.0), "-0.7");
        check_scale(5, (10.0, 0.0), "50");
        check_scale(10, (0.5, -40.0), "-35");
        check_scale(3, (0.3, 0.0), "0.8999999999999999");
        check_scale(4, (1.0, 2.0), "6");
    }

    proptest! {
        #[test]
        fn what_was_written_in_an_order_is_read_back(value: u64, reversed: bool, swapped: bool) {
            let order = ByteOrder { words_reversed: reversed, bytes_swapped: swapped };
            let mut registers: Vec<u16> = (0..4).rev().map(|index| u16::try_from(value >> (index * 16) & 0xFFFF).unwrap()).collect();
            if reversed { registers.reverse(); }
            if swapped { registers.iter_mut().for_each(|word| *word = word.swap_bytes()); }
            prop_assert_eq!(decode_words(DataType::U64, order, &registers), Ok(Value::UInt(value)));
        }
    }
}
