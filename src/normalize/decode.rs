//! From registers to a value, or to the reason why there is none. Pure.

mod number;
mod text;
mod time;

use crate::config::site::{Layout, Scaling};
use crate::reading::{Quality, Value};
use crate::scan::{Data, Raw};
use crate::tag::{ByteOrder, DataType};
use crate::unit;
pub use time::Zone;

/// The value of what lies so, and begins `offset` into `data`.
///
/// # Errors
/// [`Quality::BadDecode`] where the data does not hold such a value, [`Quality::BadSensorFailure`] for a float that is
/// not a finite number.
pub fn decode_at(layout: Layout, data: &Data, offset: u16) -> Result<Value, Quality> {
    let first = usize::from(offset);
    match data {
        Data::Values(values) => {
            let raw = match values.get(first).cloned().unwrap_or(Err(Quality::BadDecode))? {
                Raw::Value(value) => floated(layout.data_type, value),
                Raw::Words(words) => decode_words(layout.data_type, layout.order, &words)?,
            };
            scaled(raw, layout.scaling)
        }
        Data::Bits(bits) => bits.get(first).map(|bit| Value::Bool(*bit)).ok_or(Quality::BadDecode),
        Data::Words(words) => {
            let words = words.get(first..first + usize::from(layout.span.count)).ok_or(Quality::BadDecode)?;
            let raw = decode_words(layout.data_type, layout.order, words)?;
            scaled(raw, layout.scaling)
        }
    }
}

/// A number as text may have no point, and is a float all the same where its tag is one.
fn floated(data_type: DataType, value: Value) -> Value {
    match (data_type, value.number()) {
        (DataType::F64, Some(number)) => Value::Double(number),
        _ => value,
    }
}

fn scaled(raw: Value, scaling: Option<Scaling>) -> Result<Value, Quality> {
    match scaling {
        Some(scaling) => finite(scale(raw, scaling)?),
        None => finite(raw),
    }
}

fn decode_words(data_type: DataType, order: ByteOrder, words: &[u16]) -> Result<Value, Quality> {
    Ok(match data_type {
        DataType::Bool { bit } => Value::Bool(number::bit(words, order, bit.ok_or(Quality::BadDecode)?)?),
        DataType::Byte { is_high, form } => number::byte(number::register(words, order)?, is_high, form)?,
        DataType::Slice { first, last } => {
            Value::UInt(number::slice(number::register(words, order)?, first, last)?)
        }
        DataType::I16 => Value::Int(i16::from_be_bytes(bytes(words, order)?).into()),
        DataType::U16 => Value::UInt(u16::from_be_bytes(bytes(words, order)?).into()),
        DataType::I32 => Value::Int(i32::from_be_bytes(bytes(words, order)?).into()),
        DataType::U32 => Value::UInt(u32::from_be_bytes(bytes(words, order)?).into()),
        DataType::I48 => Value::Int(number::signed48(number::wide48(words, order)?)),
        DataType::U48 => Value::UInt(number::wide48(words, order)?),
        DataType::I64 => Value::Int(i64::from_be_bytes(bytes(words, order)?)),
        DataType::U64 => Value::UInt(u64::from_be_bytes(bytes(words, order)?)),
        DataType::F16 => Value::Float(number::half(number::register(words, order)?)),
        DataType::F32 => Value::Float(f32::from_be_bytes(bytes(words, order)?)),
        DataType::F64 => Value::Double(f64::from_be_bytes(bytes(words, order)?)),
        DataType::Bcd { digits } => Value::UInt(number::bcd(words, order, digits)?),
        DataType::Text { encoding, is_sparse } => text::text(words, order, encoding, is_sparse)?,
        DataType::Time(format) => Value::Time(time::time(words, order, format)?),
        // only an expression makes a value of them
        DataType::Words => return Err(Quality::BadConfig),
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
        Value::Bool(_) | Value::Text(_) | Value::Time(_) => return Err(Quality::BadDecode),
    };
    Ok(Value::Double(unit::scaled(raw, scale) + offset))
}

/// A float that is not a number, or is infinite, is no value.
pub(super) fn finite(value: Value) -> Result<Value, Quality> {
    let is_finite = match &value {
        Value::Float(value) => value.is_finite(),
        Value::Double(value) => value.is_finite(),
        Value::Bool(_) | Value::Int(_) | Value::UInt(_) | Value::Text(_) | Value::Time(_) => true,
    };
    if is_finite { Ok(value) } else { Err(Quality::BadSensorFailure) }
}

#[cfg(test)]
mod vectors;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_scale(raw: i64, scaling: (f64, f64), expected: &str) {
        let scaled = scale(Value::Int(raw), Scaling { scale: scaling.0, offset: scaling.1 }).unwrap();
        assert_eq!(scaled.to_string(), expected);
    }

    #[test]
    fn a_number_as_text_without_a_point_is_a_float_where_its_tag_is_one() {
        let span = crate::tag::Span { area: crate::tag::Area::Items, address: 0, count: 1 };
        let layout =
            |data_type| Layout { span, model: None, data_type, order: ByteOrder::default(), scaling: None };
        let data = Data::Values(vec![Ok(Raw::Value(Value::Int(150)))]);
        assert_eq!(decode_at(layout(DataType::F64), &data, 0), Ok(Value::Double(150.0)));
        assert_eq!(decode_at(layout(DataType::I64), &data, 0), Ok(Value::Int(150)));
        let word = Data::Values(vec![Ok(Raw::Value(Value::Text("kg".into())))]);
        assert_eq!(decode_at(layout(DataType::F64), &word, 0), Ok(Value::Text("kg".into())));
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
}
