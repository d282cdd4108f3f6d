//! Values out of a frame: by place or by the groups of a pattern, as numbers, digits or text. Pure.
//!
//! What comes out is raw: scale, decimals, words and units are the normaliser's.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use regex::bytes::Captures;

use super::check::{from_hex, index};
use super::framer::Frame;
use crate::config::site::serial::{Field, FieldAt, FieldType, FrameRule, Unpack};
use crate::reading::{Quality, Value};
use crate::scan::Raw;
use crate::tag::{ByteForm, ByteOrder, DataType, Encoding};

/// Why a frame has no content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// None of the patterns matches: the frame is dropped.
    #[error("no pattern matches the frame")]
    NoPattern,
    /// What was to be pairs of hexadecimal digits is not.
    #[error("the frame is not pairs of hexadecimal digits")]
    NotHex,
}

/// A frame as its fields see it.
#[derive(Debug)]
pub struct Content<'a> {
    /// Where `byte:` counts.
    bytes: Cow<'a, [u8]>,
    /// Where groups stand: the same, or what is between start and end as UTF-8.
    text: Cow<'a, [u8]>,
    /// Of the pattern that matches: where each named group stands that took part.
    groups: BTreeMap<Arc<str>, Range<usize>>,
    encoding: Encoding,
}

impl<'a> Content<'a> {
    /// The content of `frame`.
    ///
    /// Patterns see what is between start and end, as UTF-8 where it is GBK by `encoding`, so that a pattern may hold
    /// characters of any script.
    ///
    /// # Errors
    /// Why it has none.
    pub fn of(rule: &FrameRule, frame: &'a Frame) -> Result<Content<'a>, Unfit> {
        let body = frame.bytes.get(frame.body.clone()).unwrap_or_default();
        let (bytes, inner) = match rule.unpack {
            None => (Cow::Borrowed(&*frame.bytes), Cow::Borrowed(body)),
            Some(Unpack::Hex) => {
                let bytes = from_hex(body).ok_or(Unfit::NotHex)?;
                (Cow::Owned(bytes.clone()), Cow::Owned(bytes))
            }
            Some(Unpack::Reverse) => {
                let bytes: Vec<u8> = body.iter().rev().copied().collect();
                (Cow::Owned(bytes.clone()), Cow::Owned(bytes))
            }
        };
        let text = if rule.patterns.is_empty() { inner } else { as_utf8(inner, rule.encoding) };
        let groups = match rule.patterns.iter().find_map(|pattern| Some((pattern, pattern.captures(&text)?)))
        {
            Some((pattern, captures)) => groups(pattern.capture_names(), &captures),
            None if rule.patterns.is_empty() => BTreeMap::new(),
            None => return Err(Unfit::NoPattern),
        };
        Ok(Content { bytes, text, groups, encoding: rule.encoding })
    }

    /// What the group called `name` holds; `None`: it took no part, or the pattern has none.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<&[u8]> {
        self.text.get(self.groups.get(name)?.clone())
    }

    /// The bytes at `position`, so many or all that follow; `None`: the frame has not so many.
    fn at(&self, position: i32, size: Option<usize>) -> Option<&[u8]> {
        let first = index(position, self.bytes.len())?;
        match size {
            Some(size) => self.bytes.get(first..first.checked_add(size)?),
            None => self.bytes.get(first..),
        }
    }
}

fn groups<'n>(
    names: impl Iterator<Item = Option<&'n str>>,
    captures: &Captures<'_>,
) -> BTreeMap<Arc<str>, Range<usize>> {
    names.flatten().filter_map(|name| Some((name.into(), captures.name(name)?.range()))).collect()
}

/// Bytes in `encoding` as UTF-8; unchanged where they are not in it.
fn as_utf8(bytes: Cow<'_, [u8]>, encoding: Encoding) -> Cow<'_, [u8]> {
    let is_utf8 = encoding == Encoding::Utf8
        || bytes.is_ascii()
        || encoding == Encoding::Auto && std::str::from_utf8(&bytes).is_ok();
    match if is_utf8 { None } else { gbk(&bytes) } {
        Some(text) => Cow::Owned(text.into_bytes()),
        None => bytes,
    }
}

fn gbk(bytes: &[u8]) -> Option<String> {
    encoding_rs::GBK.decode_without_bom_handling_and_without_replacement(bytes).map(Cow::into_owned)
}

/// What `field` holds; `None`: the frame does not have it.
///
/// # Errors
/// [`Quality::BadDecode`] where its bytes are no such value, [`Quality::BadSensorFailure`] for a float that is not a
/// finite number.
pub fn extract(content: &Content<'_>, field: &Field) -> Result<Option<Raw>, Quality> {
    let bytes = match &field.at {
        FieldAt::Byte { position, bits: Some((first, last)) } => {
            let byte = content.at(*position, Some(1)).and_then(|bytes| bytes.first().copied());
            return byte.map(|byte| bits(byte, *first, *last)).transpose();
        }
        FieldAt::Byte { position, bits: None } => content.at(*position, size(field)),
        FieldAt::Group(name) => content.group(name),
    };
    let Some(bytes) = bytes else { return Ok(None) };
    let raw = match field.field_type {
        FieldType::Decimal => Raw::Value(decimal(bytes)?),
        FieldType::Hex => Raw::Value(hex(bytes, field.order)?),
        FieldType::Data(DataType::Text { encoding, .. }) => {
            // groups are UTF-8 already, where they are text at all
            let encoding = match (&field.at, encoding) {
                (FieldAt::Byte { .. }, Encoding::Auto) => content.encoding,
                (FieldAt::Byte { .. }, own) => own,
                (FieldAt::Group(_), _) => Encoding::Auto,
            };
            Raw::Value(text(bytes, encoding)?)
        }
        FieldType::Data(DataType::Time(_) | DataType::Words) => Raw::Words(words(bytes)?),
        FieldType::Data(data_type) => Raw::Value(number(data_type, field.order, bytes)?),
    };
    Ok(Some(raw))
}

/// How many bytes a field by place has; `None`: all that follow.
fn size(field: &Field) -> Option<usize> {
    if let Some(length) = field.length {
        return Some(length.into());
    }
    Some(match field.field_type {
        FieldType::Decimal | FieldType::Hex | FieldType::Data(DataType::Text { .. } | DataType::Words) => {
            return None;
        }
        FieldType::Data(data_type) => match data_type {
            DataType::Bool { .. } | DataType::Byte { .. } => 1,
            DataType::Time(format) => usize::from(format.count()) * 2,
            DataType::Bcd { digits } => usize::from(digits).div_ceil(2),
            DataType::Slice { .. } => 2,
            DataType::I16
            | DataType::U16
            | DataType::I32
            | DataType::U32
            | DataType::I48
            | DataType::U48
            | DataType::I64
            | DataType::U64
            | DataType::F16
            | DataType::F32
            | DataType::F64
            | DataType::Text { .. }
            | DataType::Words => usize::from(data_type.bits() / 8),
        },
    })
}

fn bits(byte: u8, first: u8, last: u8) -> Result<Raw, Quality> {
    if first > last || last > 7 {
        return Err(Quality::BadConfig);
    }
    let slice = byte >> first & (u8::MAX >> (7 - (last - first)));
    Ok(Raw::Value(if first == last { Value::Bool(slice == 1) } else { Value::UInt(slice.into()) }))
}

/// The number in `bytes`, which must be exactly as many as its type has.
fn number(data_type: DataType, order: ByteOrder, bytes: &[u8]) -> Result<Value, Quality> {
    let raw = unsigned(bytes, order)?;
    let wide = |count: usize| if bytes.len() == count { Ok(raw) } else { Err(Quality::BadDecode) };
    let signed = |count: usize| {
        let above = 64 - 8 * count.min(8);
        wide(count).map(|raw| Value::Int((raw << above).cast_signed() >> above))
    };
    match data_type {
        DataType::Bool { bit } => wide(1).map(|raw| Value::Bool(raw >> bit.unwrap_or(0).min(63) & 1 == 1)),
        DataType::Byte { form: ByteForm::Unsigned, .. } => wide(1).map(Value::UInt),
        DataType::Byte { form: ByteForm::Signed, .. } => signed(1),
        DataType::Byte { form: ByteForm::Bcd, .. } => digits(wide(1)?, 2).map(Value::UInt),
        DataType::Slice { first, last } if first <= last && last <= 15 => {
            wide(2).map(|raw| Value::UInt(raw >> first & (u64::MAX >> (63 - (last - first)))))
        }
        DataType::I16 => signed(2),
        DataType::U16 => wide(2).map(Value::UInt),
        DataType::I32 => signed(4),
        DataType::U32 => wide(4).map(Value::UInt),
        DataType::I48 => signed(6),
        DataType::U48 => wide(6).map(Value::UInt),
        DataType::I64 => signed(8),
        DataType::U64 => wide(8).map(Value::UInt),
        DataType::F16 => float(half(u16::try_from(wide(2)?).map_err(|_| Quality::BadDecode)?)),
        DataType::F32 => float(f32::from_bits(u32::try_from(wide(4)?).map_err(|_| Quality::BadDecode)?)),
        DataType::F64 => match f64::from_bits(wide(8)?) {
            value if value.is_finite() => Ok(Value::Double(value)),
            _ => Err(Quality::BadSensorFailure),
        },
        DataType::Bcd { digits: count } => {
            digits(wide(usize::from(count).div_ceil(2))?, count).map(Value::UInt)
        }
        DataType::Slice { .. } | DataType::Text { .. } | DataType::Time(_) | DataType::Words => {
            Err(Quality::BadConfig)
        }
    }
}

/// One to eight bytes in their order. An odd number of bytes knows two orders only: the highest or the lowest first.
fn unsigned(bytes: &[u8], order: ByteOrder) -> Result<u64, Quality> {
    if bytes.is_empty() || bytes.len() > 8 {
        return Err(Quality::BadDecode);
    }
    let join = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
    let pair = |number: u64, pair: &[u8]| pair.iter().fold(number, join);
    let swapped = |number: u64, pair: &[u8]| pair.iter().rev().fold(number, join);
    match (order.words_reversed, order.bytes_swapped) {
        (false, false) => Ok(bytes.iter().fold(0, join)),
        (true, true) => Ok(bytes.iter().rev().fold(0, join)),
        _ if bytes.len() == 1 => Ok(bytes.iter().fold(0, join)),
        _ if bytes.len() % 2 == 1 => Err(Quality::BadConfig),
        (true, false) => Ok(bytes.rchunks(2).fold(0, pair)),
        (false, true) => Ok(bytes.chunks(2).fold(0, swapped)),
    }
}

/// The number whose decimal digits stand four bits each in `raw`.
fn digits(raw: u64, count: u8) -> Result<u64, Quality> {
    let digit = |place: u8| raw >> (place * 4) & 0xF;
    if (0..16).any(|place| digit(place) > 9 || place >= count && digit(place) > 0) {
        return Err(Quality::BadDecode);
    }
    Ok((0..16).rev().fold(0, |number, place| number * 10 + digit(place)))
}

fn float(value: f32) -> Result<Value, Quality> {
    if value.is_finite() { Ok(Value::Float(value)) } else { Err(Quality::BadSensorFailure) }
}

/// IEEE 754 binary16, exactly.
fn half(raw: u16) -> f32 {
    let (exponent, fraction) = (i32::from(raw >> 10 & 0x1F), f32::from(raw & 0x03FF));
    let size = match exponent {
        0 => fraction * 2_f32.powi(-24),
        31 if fraction > 0.0 => f32::NAN,
        31 => f32::INFINITY,
        _ => (1024.0 + fraction) * 2_f32.powi(exponent - 25),
    };
    if raw >> 15 == 1 { -size } else { size }
}

/// A number as text; whole where it has neither point nor exponent.
fn decimal(bytes: &[u8]) -> Result<Value, Quality> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let text: Vec<u8> = bytes.iter().copied().filter(|byte| !is_blank(byte)).collect();
    if !text.iter().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(byte)) {
        return Err(Quality::BadDecode);
    }
    let text = std::str::from_utf8(&text).map_err(|_| Quality::BadDecode)?;
    if let Ok(whole) = text.parse() {
        return Ok(Value::Int(whole));
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(Value::Double(number + 0.0)), // -0.00 is 0
        Ok(_) | Err(_) => Err(Quality::BadDecode),
    }
}

/// Hexadecimal digits as text, two a byte in their order; blanks around them count for nothing.
fn hex(bytes: &[u8], order: ByteOrder) -> Result<Value, Quality> {
    let mut digits = bytes.trim_ascii().to_vec();
    if digits.len() % 2 == 1 {
        digits.insert(0, b'0');
    }
    let bytes = from_hex(&digits).ok_or(Quality::BadDecode)?;
    unsigned(&bytes, order).map(Value::UInt)
}

/// Text up to a NUL; blanks at its end are padding. Its bytes have one order only.
fn text(bytes: &[u8], encoding: Encoding) -> Result<Value, Quality> {
    let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    let utf8 = || std::str::from_utf8(bytes).ok().map(str::to_owned);
    let text = match encoding {
        Encoding::Utf8 => utf8(),
        Encoding::Gbk => gbk(bytes),
        Encoding::Auto => utf8().or_else(|| gbk(bytes)),
    };
    text.map(|text| Value::Text(text.trim_end().into())).ok_or(Quality::BadDecode)
}

fn words(bytes: &[u8]) -> Result<Vec<u16>, Quality> {
    let pair = |pair: &[u8]| match pair {
        [high, low] => Ok(u16::from_be_bytes([*high, *low])),
        _ => Err(Quality::BadDecode),
    };
    bytes.chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests;
