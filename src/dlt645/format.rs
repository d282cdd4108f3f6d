//! What the bytes of an item mean: the number formats that the standard prints beside it. Pure.
//!
//! | written | bytes | what |
//! |---|---|---|
//! | `XXXXXX.XX` | 4 | decimal digits, two a byte; `N` in place of `X` is a digit too |
//! | `-XXX.XXX` | 3 | the same; the top bit is the sign, and not part of the first digit |
//! | `XXXX` | 2 | a whole number |
//! | `YYMMDDWW` | 4 | a date and time, of the pairs `YY MM DD hh mm ss WW`, or with `YYYY` in front |
//!
//! The lowest byte comes first on the wire. An item whose bytes are all `FF` has no value: the meter has nothing to say.

use std::sync::Arc;

use crate::reading::{Quality, Value};
use crate::tag::TimeFormat;

/// The most digits of a number: more are not told apart by a float.
const DIGITS_MAX: u8 = 16;
/// The most bytes of an item that is taken as digits or bits.
const BYTES_MAX: u8 = 8;
/// What an item without a value is filled with.
const FILL: u8 = 0xFF;
/// The highest bit of a signed number.
const SIGN: u8 = 0x80;
/// The pairs of letters of a date and time.
const PAIRS: [&str; 7] = ["YY", "MM", "DD", "hh", "mm", "ss", "WW"];

/// How the value of an item lies in its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A number in decimal digits.
    Number(Number),
    /// A local date and time, its highest byte last, in so many bytes.
    Time(TimeFormat, u8),
    /// Decimal digits that are no number, as those of an address or a serial number: text. 1 to 8 bytes.
    Digits(u8),
    /// Bits, as those of a status word: a whole number, the lowest byte first. 1 to 8 bytes.
    Bits(u8),
}

/// A number in decimal digits, two a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number {
    /// Digits, 2 to 16, an even count.
    digits: u8,
    /// Digits behind the point.
    decimals: u8,
    /// Whether the top bit is a sign.
    is_signed: bool,
}

/// What an item holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Decoded {
    /// A value.
    Value(Value),
    /// A date and time as registers of this form, which has a decoder of its own.
    Time(TimeFormat, Vec<u16>),
}

impl Format {
    /// Reads a format as the standard prints it: of a number or of a date and time.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Format, String> {
        if text.starts_with(['Y', 'M', 'D', 'h', 'm', 's', 'W']) {
            time(text)
        } else {
            Number::parse(text).map(Format::Number)
        }
    }

    /// How many bytes an item takes.
    #[must_use]
    pub const fn width(self) -> usize {
        match self {
            Format::Number(number) => number.digits as usize / 2,
            Format::Time(_, width) | Format::Digits(width) | Format::Bits(width) => width as usize,
        }
    }

    /// What `data` holds, an item as it came, the lowest byte first.
    ///
    /// # Errors
    /// [`Quality::BadDecode`] where it is of another length or has a digit above 9, [`Quality::BadSensorFailure`] where
    /// the meter has no value. A date that there is not is found only by the decoder of its registers.
    pub fn decode(self, data: &[u8]) -> Result<Decoded, Quality> {
        if data.is_empty() || data.len() != self.width() {
            return Err(Quality::BadDecode);
        }
        let is_bits = matches!(self, Format::Bits(_));
        if !is_bits && data.iter().all(|byte| *byte == FILL) {
            return Err(Quality::BadSensorFailure);
        }
        Ok(match self {
            Format::Number(number) => Decoded::Value(number.decode(data)?),
            Format::Time(format, _) => Decoded::Time(format, registers(data)),
            Format::Digits(_) => Decoded::Value(Value::Text(digits(data)?)),
            Format::Bits(_) if data.len() <= BYTES_MAX.into() => Decoded::Value(Value::UInt(bits(data))),
            Format::Bits(_) => return Err(Quality::BadDecode),
        })
    }
}

impl Number {
    /// Digits, 2 to 16, an even count.
    #[must_use]
    pub const fn digits(self) -> u8 {
        self.digits
    }

    /// Digits behind the point.
    #[must_use]
    pub const fn decimals(self) -> u8 {
        self.decimals
    }

    /// Whether the top bit is a sign.
    #[must_use]
    pub const fn is_signed(self) -> bool {
        self.is_signed
    }

    /// Whether it has digits behind a point.
    #[must_use]
    pub const fn has_decimals(self) -> bool {
        self.decimals > 0
    }

    /// What a counter in it is less than: it goes back to 0 there.
    #[must_use]
    pub fn modulus(self) -> f64 {
        10_f64.powi(i32::from(self.digits) - i32::from(self.decimals))
    }

    fn parse(text: &str) -> Result<Number, String> {
        let wrong = |what: &str| {
            let shown: String = text.chars().take(24).collect();
            format!("{what}, got \"{shown}\"")
        };
        let (is_signed, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
        let has_point = digits.contains('.');
        let is_digits = |text: &str| text.bytes().all(|letter| letter == b'X' || letter == b'N');
        if !is_digits(whole) || !is_digits(decimals) || whole.is_empty() || decimals.is_empty() && has_point {
            return Err(wrong(
                "wanted the digits of the standard, as \"XXXXXX.XX\" or \"-XXX.XXX\", or a date and time, as \"YYMMDDWW\"",
            ));
        }
        let count = u8::try_from(whole.len() + decimals.len()).unwrap_or(u8::MAX);
        if !count.is_multiple_of(2) || count > DIGITS_MAX {
            return Err(wrong("two digits are a byte: wanted 2, 4 and so on to 16 digits"));
        }
        // no longer than both together
        let decimals = u8::try_from(decimals.len()).unwrap_or(count);
        Ok(Number { digits: count, decimals, is_signed })
    }

    fn decode(self, data: &[u8]) -> Result<Value, Quality> {
        let mut number = 0_u64;
        let (top, rest) = data.split_last().ok_or(Quality::BadDecode)?;
        let is_negative = self.is_signed && top & SIGN != 0;
        let top = if self.is_signed { top & !SIGN } else { *top };
        for byte in [top].iter().chain(rest.iter().rev()) {
            let (high, low) = (byte >> 4, byte & 0x0F);
            if high > 9 || low > 9 {
                return Err(Quality::BadDecode);
            }
            number = number * 100 + u64::from(high) * 10 + u64::from(low);
        }
        let signed = || {
            let number = i64::try_from(number).map_err(|_| Quality::BadDecode)?;
            Ok(if is_negative { -number } else { number })
        };
        Ok(match (self.decimals, self.is_signed) {
            (0, false) => Value::UInt(number),
            (0, true) => Value::Int(signed()?),
            (decimals, _) => Value::Double(decimal(signed()?, decimals)),
        })
    }
}

/// `number` with so many digits behind the point: the float that is nearest to it.
#[expect(clippy::cast_precision_loss, reason = "exact up to 15 digits; of a 16th the last may be lost")]
fn decimal(number: i64, decimals: u8) -> f64 {
    number as f64 / 10_f64.powi(decimals.into())
}

fn time(text: &str) -> Result<Format, String> {
    let shown: String = text.chars().take(24).collect();
    let pairs: Option<Vec<&str>> = text
        .as_bytes()
        .chunks(2)
        .map(|pair| PAIRS.into_iter().find(|known| known.as_bytes() == pair))
        .collect();
    let Some(pairs) = pairs else {
        return Err(format!("a date and time is made of the pairs YY MM DD hh mm ss WW, got \"{shown}\""));
    };
    let width = u8::try_from(pairs.len()).ok().filter(|width| usize::from(*width) <= PAIRS.len());
    let Some(width) = width else {
        return Err(format!("a date and time has at most 7 pairs, got \"{shown}\""));
    };
    let registers: Vec<String> = pairs.chunks(2).map(<[&str]>::concat).collect();
    Ok(Format::Time(TimeFormat::parse(&format!("bcd {}", registers.join(" ")))?, width))
}

/// The bytes of an item as registers, the highest first; an odd one is a register of its own.
fn registers(data: &[u8]) -> Vec<u16> {
    let bytes: Vec<u8> = data.iter().rev().copied().collect();
    bytes.chunks(2).map(|pair| pair.iter().fold(0, |word, byte| word << 8 | u16::from(*byte))).collect()
}

fn digits(data: &[u8]) -> Result<Arc<str>, Quality> {
    let nibbles = data.iter().rev().flat_map(|byte| [byte >> 4, byte & 0x0F]);
    let digit = |nibble: u8| char::from_digit(nibble.into(), 10).ok_or(Quality::BadDecode);
    Ok(nibbles.map(digit).collect::<Result<String, Quality>>()?.into())
}

fn bits(data: &[u8]) -> u64 {
    data.iter().rev().fold(0, |bits, byte| bits << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(hex: &str) -> Vec<u8> {
        hex.split_whitespace().map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    }

    #[track_caller]
    fn check_as(format: Format, hex: &str, expected: &str) {
        let shown = match format.decode(&bytes(hex)) {
            Ok(Decoded::Value(value)) => format!("{value:?}"),
            Ok(Decoded::Time(format, words)) => format!("{} {words:04X?}", format.count()),
            Err(quality) => quality.id().to_owned(),
        };
        assert_eq!(shown, expected, "{format:?} {hex}");
    }

    #[track_caller]
    fn check(format: &str, hex: &str, expected: &str) {
        check_as(Format::parse(format).unwrap(), hex, expected);
    }

    #[test]
    fn digits_are_a_number_with_its_decimals() {
        check("XXXXXX.XX", "42 06 12 00", "Double(1206.42)");
        check("XXXXXX.XX", "03 00 00 00", "Double(0.03)");
        check("XXXXXX.XX", "99 99 99 99", "Double(999999.99)");
        check("XXX.X", "05 23", "Double(230.5)");
        check("X.XXX", "85 09", "Double(0.985)");
        check("XX.XX", "98 49", "Double(49.98)");
        check("NN.NNNN", "56 34 12", "Double(12.3456)");
        check("XXXX", "00 01", "UInt(100)");
        check("XX", "07", "UInt(7)");
        check("NNNNNNNNNNNNNNNN", "99 99 99 99 99 99 99 99", "UInt(9999999999999999)");
    }

    #[test]
    fn the_top_bit_of_a_signed_number_is_its_sign() {
        check("-XX.XXXX", "45 23 81", "Double(-1.2345)");
        check("-XX.XXXX", "45 23 01", "Double(1.2345)");
        check("-XXX.XXX", "23 51 00", "Double(5.123)");
        check("-XXX.XXX", "99 99 F9", "Double(-799.999)");
        check("-XXX.X", "00 80", "Double(0.0)");
        check("-XXXX", "34 92", "Int(-1234)");
        check("-XXXX", "34 12", "Int(1234)");
        // without a sign it is no digit
        check("XX.XXXX", "45 23 C1", "bad:decode");
        check("XX.XXXX", "45 23 81", "Double(81.2345)");
    }

    #[test]
    fn what_is_no_digit_makes_no_value() {
        check("XXX.X", "0A 23", "bad:decode");
        check("XXX.X", "A0 23", "bad:decode");
        check("XXX.X", "FF 23", "bad:decode");
        check("XXX.X", "23 FF", "bad:decode");
        check("-XXX.X", "00 FF", "bad:decode");
        check("-XXX.X", "00 A0", "Double(-200.0)");
        check("XXX.X", "05", "bad:decode");
        check("XXX.X", "05 23 00", "bad:decode");
        check("XXX.X", "", "bad:decode");
    }

    #[test]
    fn an_item_of_nothing_but_ff_has_no_value() {
        check("XXX.X", "FF FF", "bad:sensor_failure");
        check("-XX.XXXX", "FF FF FF", "bad:sensor_failure");
        check("YYMMDDWW", "FF FF FF FF", "bad:sensor_failure");
        check_as(Format::Digits(2), "FF FF", "bad:sensor_failure");
        // all of these bits may be set
        check_as(Format::Bits(2), "FF FF", "UInt(65535)");
    }

    #[test]
    fn a_date_and_time_becomes_registers_with_the_highest_first() {
        // Friday, 2026-11-27
        check("YYMMDDWW", "05 27 11 26", "2 [2611, 2705]");
        check("YYMMDDhhmm", "09 08 27 11 26", "3 [2611, 2708, 0009]");
        check("YYMMDDhhmmss", "10 09 08 27 11 26", "3 [2611, 2708, 0910]");
        check("YYMMDDWWhhmmss", "10 09 08 05 27 11 26", "4 [2611, 2705, 0809, 0010]");
        check("YYYYMMDD", "27 11 26 20", "2 [2026, 1127]");
        check("YYMMDDWW", "05 27 11", "bad:decode");
    }

    #[test]
    fn digits_that_are_no_number_keep_their_zeros() {
        check_as(Format::Digits(6), "11 30 00 20 02 21", "Text(\"210220003011\")");
        check_as(Format::Digits(6), "61 01 00 00 00 00", "Text(\"000000000161\")");
        check_as(Format::Digits(2), "0A 00", "bad:decode");
        check_as(Format::Digits(2), "00", "bad:decode");
    }

    #[test]
    fn bits_are_a_whole_number() {
        check_as(Format::Bits(2), "08 80", "UInt(32776)");
        check_as(Format::Bits(1), "FE", "UInt(254)");
        check_as(Format::Bits(0), "", "bad:decode");
        check_as(Format::Bits(9), "00 00 00 00 00 00 00 00 00", "bad:decode");
    }

    #[test]
    fn a_format_has_a_width_in_bytes() {
        for (format, width) in [
            ("XX", 1),
            ("XXX.X", 2),
            ("-XX.XXXX", 3),
            ("XXXXXX.XX", 4),
            ("YYMMDDhhmm", 5),
            ("YYMMDDhhmmss", 6),
        ] {
            assert_eq!(Format::parse(format).unwrap().width(), width, "{format}");
        }
        assert_eq!(Format::Digits(6).width(), 6);
        assert_eq!(Format::Bits(2).width(), 2);
    }

    #[test]
    fn a_format_that_is_none_is_refused_in_words() {
        let check = |text: &str, expected: &str| {
            let message = Format::parse(text).unwrap_err();
            assert!(message.contains(expected), "{text}: {message}");
        };
        for wrong in ["", "-", ".", "XX.", ".XX", "--XX", "X.X.X", "00.0", "xx", "XX XX", "+XX", "\u{7535}"] {
            check(wrong, "wanted the digits of the standard");
        }
        check("XXX", "two digits are a byte");
        check("-XX.X", "two digits are a byte");
        check("XXXXXXXXXXXXXXXXXX", "wanted 2, 4 and so on to 16 digits");
        check(&"X".repeat(100_000), "wanted 2, 4 and so on to 16 digits");
        check("YYMMD", "made of the pairs");
        check("YYMM DD", "made of the pairs");
        check("MMYYYYDD", "needs one year");
        check("hhmmss", "needs one year");
        check("YYMMDDhhhh", "at most once");
        check(&"YY".repeat(100_000), "at most 7 pairs");
    }

    proptest! {
        /// The float is the one that the written number is read as.
        #[test]
        fn a_number_is_the_float_that_is_nearest(raw in 0_u64..1_000_000_000_000, decimals in 1_usize..12, negative: bool) {
            let raw = if negative { raw % 800_000_000_000 } else { raw };
            let text = format!("{raw:012}");
            let mut data: Vec<u8> =
                text.as_bytes().chunks(2).map(|pair| (pair[0] - b'0') << 4 | (pair[1] - b'0')).collect();
            data.reverse();
            let sign = if negative { "-" } else { "" };
            if negative {
                data[5] |= 0x80;
            }
            let point = 12 - decimals;
            let format = Format::parse(&format!("{sign}{}.{}", "X".repeat(point), "X".repeat(decimals))).unwrap();
            let (whole, rest) = text.split_at(point);
            let expected: f64 = format!("{sign}{whole}.{rest}").parse().unwrap();
            let Ok(Decoded::Value(Value::Double(value))) = format.decode(&data) else { panic!("no value") };
            // a zero has no sign
            prop_assert_eq!(value.to_bits(), (expected + 0.0).to_bits());
        }

        #[test]
        fn any_bytes_and_any_format_are_borne(text in "[-XN.YMDhmsW]{0,24}", data: Vec<u8>, width: u8) {
            let parsed = Format::parse(&text).ok();
            for format in parsed.into_iter().chain([Format::Digits(width), Format::Bits(width)]) {
                let decoded = format.decode(&data);
                prop_assert!(decoded.is_err() || data.len() == format.width());
            }
        }
    }
}
