//! Numbers that the processor has no type for: 48 bits, decimal digits, half precision, parts of a register.

use crate::reading::{Quality, Value};
use crate::tag::{ByteForm, ByteOrder};

/// One register, its bytes in their order.
pub(super) fn register(words: &[u16], order: ByteOrder) -> Result<u16, Quality> {
    let [word] = words else { return Err(Quality::BadDecode) };
    Ok(if order.bytes_swapped { word.swap_bytes() } else { *word })
}

/// Up to four registers as one number, the highest first once they are in order.
pub(super) fn wide(words: &[u16], order: ByteOrder) -> Result<u64, Quality> {
    if words.is_empty() || words.len() > 4 {
        return Err(Quality::BadDecode);
    }
    let join = |whole: u64, word: &u16| {
        let word = if order.bytes_swapped { word.swap_bytes() } else { *word };
        whole << 16 | u64::from(word)
    };
    Ok(if order.words_reversed { words.iter().rev().fold(0, join) } else { words.iter().fold(0, join) })
}

/// Three registers.
pub(super) fn wide48(words: &[u16], order: ByteOrder) -> Result<u64, Quality> {
    if words.len() == 3 { wide(words, order) } else { Err(Quality::BadDecode) }
}

/// The lowest 48 bits as two's complement.
pub(super) const fn signed48(raw: u64) -> i64 {
    (raw << 16).cast_signed() >> 16
}

/// Bit `bit` of one to four registers.
pub(super) fn bit(words: &[u16], order: ByteOrder, bit: u8) -> Result<bool, Quality> {
    if usize::from(bit) >= words.len() * 16 {
        return Err(Quality::BadDecode);
    }
    Ok(wide(words, order)? >> bit & 1 == 1)
}

/// Bits `first` to `last` of one register.
pub(super) fn slice(word: u16, first: u8, last: u8) -> Result<u64, Quality> {
    if first > last || last > 15 {
        return Err(Quality::BadDecode);
    }
    Ok(u64::from(word) >> first & ((1 << (last - first + 1)) - 1))
}

/// One half of a register.
pub(super) fn byte(word: u16, is_high: bool, form: ByteForm) -> Result<Value, Quality> {
    let [high, low] = word.to_be_bytes();
    let byte = if is_high { high } else { low };
    Ok(match form {
        ByteForm::Unsigned => Value::UInt(byte.into()),
        ByteForm::Signed => Value::Int(byte.cast_signed().into()),
        ByteForm::Bcd => Value::UInt(decimal(byte.into(), 2)?),
    })
}

/// The number whose decimal digits stand four bits each in `raw`, of which the lowest `digits` may be used.
pub(super) fn decimal(raw: u64, digits: u8) -> Result<u64, Quality> {
    let mut number = 0;
    for place in (0..16_u8).rev() {
        let digit = raw >> (place * 4) & 0xF;
        if digit > 9 || (place >= digits && digit > 0) {
            return Err(Quality::BadDecode);
        }
        number = number * 10 + digit;
    }
    Ok(number)
}

/// As many registers as `digits` digits take.
pub(super) fn bcd(words: &[u16], order: ByteOrder, digits: u8) -> Result<u64, Quality> {
    if words.len() != usize::from(digits).div_ceil(4) {
        return Err(Quality::BadDecode);
    }
    decimal(wide(words, order)?, digits)
}

/// 2^-24, the step of the numbers that are too small for an exponent.
const SMALLEST: f32 = 5.960_464_5e-8;

/// IEEE 754 binary16, exactly.
pub(super) fn half(raw: u16) -> f32 {
    let fraction = u32::from(raw & 0x03FF);
    let bits = match u32::from(raw >> 10 & 0x1F) {
        0 => (f32::from(raw & 0x03FF) * SMALLEST).to_bits(),
        0x1F => 0x7F80_0000 | fraction << 13,
        // the exponent counts from 127 and not from 15
        exponent => (exponent + 112) << 23 | fraction << 13,
    };
    f32::from_bits(u32::from(raw >> 15) << 31 | bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_precision_number_is_its_sum_of_powers_of_two() {
        for raw in 0..=u16::MAX {
            let (exponent, fraction) = (i32::from(raw >> 10 & 0x1F), f64::from(raw & 0x03FF));
            let sign = if raw >> 15 == 1 { -1.0 } else { 1.0 };
            let expected = match exponent {
                0 => sign * fraction * 2_f64.powi(-24),
                31 if fraction > 0.0 => f64::NAN,
                31 => sign * f64::INFINITY,
                _ => sign * (1024.0 + fraction) * 2_f64.powi(exponent - 25),
            };
            let got = f64::from(half(raw));
            assert!(
                got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan(),
                "{raw:04X}: {got}"
            );
        }
    }
}
