//! Checksums of frames: how they are computed, as which bytes they stand in a frame, whether they hold. Pure.

use crate::config::site::serial::{Check, CheckForm, CheckKind};

/// The checksum of `bytes`; of 8 bits the high byte is 0.
#[must_use]
pub fn checksum(kind: CheckKind, bytes: &[u8]) -> u16 {
    match kind {
        CheckKind::Sum8 => sum(bytes).into(),
        CheckKind::Sum8Neg => sum(bytes).wrapping_neg().into(),
        CheckKind::Sum7Neg => (sum(bytes).wrapping_neg() & 0x7F).into(),
        CheckKind::Xor8 => bytes.iter().fold(0, |xor, byte| xor ^ byte).into(),
        CheckKind::Crc16Modbus => low_first(&ARC, 0xFFFF, bytes),
        CheckKind::Crc16Arc => low_first(&ARC, 0, bytes),
        CheckKind::Crc16Ccitt => high_first(0xFFFF, bytes),
        CheckKind::Crc16Xmodem => high_first(0, bytes),
        CheckKind::Crc16X25 => !low_first(&KERMIT, 0xFFFF, bytes),
        CheckKind::Crc16Kermit => low_first(&KERMIT, 0, bytes),
    }
}

/// The checksum of `bytes` as it stands in a frame.
#[must_use]
pub fn encoded(kind: CheckKind, form: CheckForm, bytes: &[u8]) -> Vec<u8> {
    let [high, low] = checksum(kind, bytes).to_be_bytes();
    let number = if kind.is_wide() { vec![high, low] } else { vec![low] };
    match form {
        CheckForm::HighFirst => number,
        CheckForm::LowFirst => number.into_iter().rev().collect(),
        CheckForm::Hex => number.iter().flat_map(|byte| hex_digits(*byte)).collect(),
    }
}

/// Whether the checksum of `frame` is right; not where the frame is too short to hold one. Digits may be of either case.
#[must_use]
pub fn holds(check: &Check, frame: &[u8]) -> bool {
    let Some(covered) = covered(check, frame) else { return false };
    let wanted = encoded(check.kind, check.form, covered);
    let got = index(check.at, frame.len())
        .and_then(|at| frame.get(at..at.checked_add(wanted.len())?))
        .unwrap_or_default();
    match check.form {
        CheckForm::Hex => got.eq_ignore_ascii_case(&wanted),
        CheckForm::LowFirst | CheckForm::HighFirst => got == wanted,
    }
}

fn covered<'a>(check: &Check, frame: &'a [u8]) -> Option<&'a [u8]> {
    let (first, last) = (index(check.over.0, frame.len())?, index(check.over.1, frame.len())?);
    frame.get(first..=last).filter(|covered| !covered.is_empty())
}

/// The index of `position` in so many bytes; `None` before the first. It may lie behind the last.
#[must_use]
pub(super) fn index(position: i32, size: usize) -> Option<usize> {
    let distance = usize::try_from(position.unsigned_abs()).ok()?;
    if position < 0 { size.checked_sub(distance) } else { Some(distance) }
}

/// A byte as two digits, upper case.
pub(super) fn hex_digits(byte: u8) -> [u8; 2] {
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'A' + nibble - 10 };
    [digit(byte >> 4), digit(byte & 0x0F)]
}

/// Pairs of digits as bytes; `None` where there is anything else.
pub(super) fn from_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let value = |digit: &u8| char::from(*digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(value(high)? << 4 | value(low)?),
        _ => None,
    };
    digits.chunks(2).map(pair).collect()
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// A CRC whose bits come lowest first.
fn low_first(table: &[u16; 256], initial: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(initial, |crc, byte| {
        let [_, low] = crc.to_be_bytes();
        crc >> 8 ^ table.get(usize::from(low ^ byte)).copied().unwrap_or_default()
    })
}

/// A CRC whose bits come highest first.
fn high_first(initial: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(initial, |crc, byte| {
        let [high, _] = crc.to_be_bytes();
        crc << 8 ^ CCITT.get(usize::from(high ^ byte)).copied().unwrap_or_default()
    })
}

/// x^16 + x^15 + x^2 + 1, its bits reversed.
const ARC: [u16; 256] = table(0xA001, true);
/// x^16 + x^12 + x^5 + 1, its bits reversed.
const KERMIT: [u16; 256] = table(0x8408, true);
/// x^16 + x^12 + x^5 + 1
const CCITT: [u16; 256] = table(0x1021, false);

const fn table(polynomial: u16, is_reversed: bool) -> [u16; 256] {
    let mut table = [0; 256];
    let mut index: u16 = 0;
    while index < 256 {
        let mut crc = if is_reversed { index } else { index << 8 };
        let mut bit = 0;
        while bit < 8 {
            crc = match (is_reversed, crc & 1, crc >> 15) {
                (true, 1, _) => crc >> 1 ^ polynomial,
                (true, _, _) => crc >> 1,
                (false, _, 1) => crc << 1 ^ polynomial,
                (false, _, _) => crc << 1,
            };
            bit += 1;
        }
        #[expect(clippy::indexing_slicing, reason = "the loop ends at the length")]
        {
            table[index as usize] = crc;
        }
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_vector(kind: CheckKind, expected: &str) {
        let digits = encoded(kind, CheckForm::Hex, b"123456789");
        assert_eq!(String::from_utf8(digits).unwrap(), expected, "{}", kind.word());
    }

    #[test]
    fn each_checksum_of_the_nine_digits_is_the_published_one() {
        check_vector(CheckKind::Sum8, "DD");
        check_vector(CheckKind::Sum8Neg, "23");
        check_vector(CheckKind::Sum7Neg, "23");
        check_vector(CheckKind::Xor8, "31");
        check_vector(CheckKind::Crc16Modbus, "4B37");
        check_vector(CheckKind::Crc16Arc, "BB3D");
        check_vector(CheckKind::Crc16Ccitt, "29B1");
        check_vector(CheckKind::Crc16Xmodem, "31C3");
        check_vector(CheckKind::Crc16X25, "906E");
        check_vector(CheckKind::Crc16Kermit, "2189");
    }

    #[test]
    fn seven_bits_leave_the_highest_out() {
        assert_eq!(checksum(CheckKind::Sum8Neg, &[0x01]), 0xFF);
        assert_eq!(checksum(CheckKind::Sum7Neg, &[0x01]), 0x7F);
    }

    #[test]
    fn a_checksum_stands_as_bytes_in_either_order_or_as_digits() {
        let crc = |form| encoded(CheckKind::Crc16Modbus, form, b"123456789");
        assert_eq!(crc(CheckForm::LowFirst), [0x37, 0x4B]);
        assert_eq!(crc(CheckForm::HighFirst), [0x4B, 0x37]);
        assert_eq!(crc(CheckForm::Hex), b"4B37");
        assert_eq!(encoded(CheckKind::Sum8, CheckForm::LowFirst, b"123456789"), [0xDD]);
        assert_eq!(encoded(CheckKind::Sum8, CheckForm::HighFirst, b"123456789"), [0xDD]);
    }

    fn rule(kind: CheckKind, over: (i32, i32), at: i32, form: CheckForm) -> Check {
        Check { kind, over, at, form }
    }

    #[test]
    fn both_ends_of_the_range_count() {
        let sum = rule(CheckKind::Sum8, (1, -3), -2, CheckForm::LowFirst);
        assert!(holds(&sum, &[0x10, 0x01, 0x02, 0x03, 0x16]));
        assert!(!holds(&sum, &[0x10, 0x01, 0x02, 0x04, 0x16]));
        assert!(!holds(&sum, &[0x10, 0x01, 0x03, 0x03, 0x16]));
        assert!(holds(&sum, &[0x11, 0x01, 0x02, 0x03, 0x17]), "what is not covered does not count");
    }

    #[test]
    fn digits_may_be_of_either_case() {
        let xor = rule(CheckKind::Xor8, (1, 8), 9, CheckForm::Hex);
        let frame = |digits: &[u8]| [b"\x02+0020002".as_slice(), digits, b"\x03"].concat();
        assert!(holds(&xor, &frame(b"1B")));
        assert!(holds(&xor, &frame(b"1b")));
        assert!(!holds(&xor, &frame(b"1C")));
    }

    #[test]
    fn a_frame_too_short_for_its_checksum_has_none() {
        let sum = rule(CheckKind::Sum8, (0, -3), -2, CheckForm::LowFirst);
        for size in 0..3 {
            assert!(!holds(&sum, &vec![0; size]), "{size}");
        }
        assert!(holds(&sum, &[0, 0, 0]));
        let crc = rule(CheckKind::Crc16Arc, (0, 0), 1, CheckForm::LowFirst);
        assert!(!holds(&crc, &[0, 0]), "half of it is missing");
        assert!(holds(&crc, &[0, 0, 0]));
        let turned = rule(CheckKind::Sum8, (2, 1), 0, CheckForm::LowFirst);
        assert!(!holds(&turned, &[0, 0, 0, 0]), "a range that covers nothing proves nothing");
        let far = rule(CheckKind::Sum8, (i32::MIN, i32::MAX), i32::MAX, CheckForm::LowFirst);
        assert!(!holds(&far, &[0, 0, 0]));
    }

    #[test]
    fn pairs_of_digits_are_bytes() {
        assert_eq!(from_hex(b"D2 04"), None);
        assert_eq!(from_hex(b"D20"), None);
        assert_eq!(from_hex(b"D2g4"), None);
        assert_eq!(from_hex(b"D2fF"), Some(vec![0xD2, 0xFF]));
        assert_eq!(from_hex(b""), Some(vec![]));
    }
}
