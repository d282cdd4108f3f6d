//! From a value to the registers that hold it: the inverse of [`crate::normalize::decode`]. Pure.
//!
//! Nothing is rounded: what the registers cannot hold is refused, with the nearest value that they can.

use crate::config::site::{Code, Layout, Scaling, WordError, WritePolicy};
use crate::normalize::decode::decode_at;
use crate::reading::Value;
use crate::reading::whole_of;
use crate::scan::Data;
use crate::tag::{Area, ByteOrder, DataType, Span};

/// A decimal that comes out of a scale may differ by so much of one raw step from the one that was written.
const STEP_SLACK: f64 = 1e-6;
/// 2^-10: a 16-bit float is so exact.
const HALF_EPSILON: f64 = 0.000_976_562_5;
/// Whole numbers are exact in a double up to here, 2^53.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// Why a value has no registers.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EncodeError {
    /// It is of another kind.
    #[error("wrong type: the tag takes {wanted}, got {got}")]
    Kind {
        /// What the tag takes.
        wanted: &'static str,
        /// What came.
        got: &'static str,
    },
    /// It is not a number, or infinite.
    #[error("not a finite number")]
    NotFinite,
    /// It is beyond what the registers hold.
    #[error("{0} does not fit the registers")]
    Range(String),
    /// It lies between two values that the registers hold.
    #[error("the registers cannot hold {value}: the nearest is {nearest}")]
    Between {
        /// What was wanted.
        value: String,
        /// What they can hold.
        nearest: String,
    },
    /// It is a word that stands for no code.
    #[error(transparent)]
    Word(#[from] WordError),
    /// No value of this type is written.
    #[error("a value of this type cannot be written")]
    Type,
}

/// The registers, or the bit, that hold `value`. Parts of registers but single bits, strings and times have none; a bit of a register comes as [`Data::Bits`].
///
/// # Errors
/// Where there are none that decode to it.
pub fn encode(layout: Layout, value: &Value) -> Result<Data, EncodeError> {
    let DataType::Bool { .. } = layout.data_type else {
        return words(layout, value).map(Data::Words);
    };
    let Value::Bool(bit) = value else {
        return Err(EncodeError::Kind { wanted: "true or false", got: kind(value) });
    };
    Ok(Data::Bits(vec![*bit]))
}

/// The registers, or the bit, of what `policy` lets be written: as [`encode`], and of a word those of its code.
///
/// # Errors
/// Where there are none, or it is not told which.
pub fn encode_as(policy: &WritePolicy, value: &Value) -> Result<Data, EncodeError> {
    let Some(words) = &policy.words else { return encode(policy.layout, value) };
    let Value::Text(word) = value else {
        return Err(EncodeError::Kind { wanted: "a word", got: kind(value) });
    };
    encode(policy.layout, &raw(words.code_of(word)?, policy.layout.data_type)?)
}

/// The raw value of a code.
fn raw(code: &Code, data_type: DataType) -> Result<Value, EncodeError> {
    match code {
        Code::Flag(flag) => Ok(Value::Bool(*flag)),
        Code::Text(_) => Err(EncodeError::Type),
        Code::Number(number) => match (i64::try_from(*number), u64::try_from(*number)) {
            (Ok(number), _) => Ok(Value::Int(number)),
            (Err(_), Ok(number)) => Ok(Value::UInt(number)),
            (Err(_), Err(_)) => Err(EncodeError::Range(number.to_string())),
        },
        Code::Bits(bits) if data_type == DataType::F64 => Ok(Value::Double(f64::from_bits(*bits))),
        Code::Bits(bits) => {
            let single = u32::try_from(*bits).map_err(|_| EncodeError::Range(format!("{bits:#x}")))?;
            Ok(Value::Float(f32::from_bits(single)))
        }
    }
}

fn words(layout: Layout, value: &Value) -> Result<Vec<u16>, EncodeError> {
    let bytes = match layout.scaling {
        Some(scaling) => scaled(layout.data_type, scaling, value)?,
        None => plain(layout.data_type, value)?,
    };
    let words = placed(&bytes, layout.order);
    if layout.scaling.is_some() {
        check_scaled(layout, value, &words)?;
    }
    Ok(words)
}

/// What kind of value it is, for people.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "true or false",
        Value::Int(_) | Value::UInt(_) => "a whole number",
        Value::Float(_) | Value::Double(_) => "a number",
        Value::Text(_) => "text",
        Value::Time(_) => "a time",
    }
}

/// `value` as a double, where it is a number and exact as one.
///
/// # Errors
/// Where it is no number, or not a finite one.
pub fn number(value: &Value) -> Result<f64, EncodeError> {
    #[expect(clippy::cast_precision_loss, reason = "beyond 2^53 it is refused by whoever needs it exactly")]
    let number = match value {
        Value::Int(value) => *value as f64,
        Value::UInt(value) => *value as f64,
        Value::Float(value) => f64::from(*value),
        Value::Double(value) => *value,
        Value::Bool(_) | Value::Text(_) | Value::Time(_) => {
            return Err(EncodeError::Kind { wanted: "a number", got: kind(value) });
        }
    };
    if number.is_finite() { Ok(number) } else { Err(EncodeError::NotFinite) }
}

/// The bytes of an unscaled value, the highest first.
fn plain(data_type: DataType, value: &Value) -> Result<Vec<u8>, EncodeError> {
    match data_type {
        DataType::F16 => exact_half(value).map(|half| half.to_be_bytes().to_vec()),
        DataType::F32 => float(value).map(|float| float.to_be_bytes().to_vec()),
        DataType::F64 => {
            let double = number(value)?;
            let is_whole = matches!(value, Value::Int(_) | Value::UInt(_));
            if is_whole && double.abs() >= EXACT_MAX {
                return Err(between(&value.to_string(), double));
            }
            Ok(double.to_be_bytes().to_vec())
        }
        DataType::Bool { .. }
        | DataType::Byte { .. }
        | DataType::Slice { .. }
        | DataType::I16
        | DataType::U16
        | DataType::I32
        | DataType::U32
        | DataType::I48
        | DataType::U48
        | DataType::I64
        | DataType::U64
        | DataType::Bcd { .. }
        | DataType::Text { .. }
        | DataType::Time(_)
        | DataType::Words => integer(data_type, whole(value)?, value),
    }
}

/// The whole number in `value`.
fn whole(value: &Value) -> Result<i128, EncodeError> {
    match value {
        Value::Int(value) => Ok((*value).into()),
        Value::UInt(value) => Ok((*value).into()),
        Value::Float(_) | Value::Double(_) => {
            let double = number(value)?;
            if double.round().abs() >= EXACT_MAX {
                return Err(EncodeError::Range(value.to_string()));
            }
            whole_of(double).ok_or_else(|| between(&value.to_string(), double.round()))
        }
        Value::Bool(_) | Value::Text(_) | Value::Time(_) => {
            Err(EncodeError::Kind { wanted: "a whole number", got: kind(value) })
        }
    }
}

fn between(value: &str, nearest: f64) -> EncodeError {
    EncodeError::Between { value: value.to_owned(), nearest: nearest.to_string() }
}

/// A whole number in as many bytes as its type has.
fn integer(data_type: DataType, whole: i128, value: &Value) -> Result<Vec<u8>, EncodeError> {
    let bytes = match data_type {
        DataType::I16 => i16::try_from(whole).ok().map(|raw| raw.to_be_bytes().to_vec()),
        DataType::U16 => u16::try_from(whole).ok().map(|raw| raw.to_be_bytes().to_vec()),
        DataType::I32 => i32::try_from(whole).ok().map(|raw| raw.to_be_bytes().to_vec()),
        DataType::U32 => u32::try_from(whole).ok().map(|raw| raw.to_be_bytes().to_vec()),
        DataType::I48 => last_bytes(whole, -(1 << 47)..1 << 47, 6),
        DataType::U48 => last_bytes(whole, 0..1 << 48, 6),
        DataType::I64 => i64::try_from(whole).ok().map(|raw| raw.to_be_bytes().to_vec()),
        DataType::U64 => u64::try_from(whole).ok().map(|raw| raw.to_be_bytes().to_vec()),
        DataType::Bcd { digits } => {
            let size = usize::from(digits).div_ceil(4) * 2;
            let is_held = (0..10_i128.pow(digits.into())).contains(&whole);
            is_held.then(|| last_bytes(decimal(whole), 0..1 << 64, size)).flatten()
        }
        DataType::Bool { .. }
        | DataType::Byte { .. }
        | DataType::Slice { .. }
        | DataType::F16
        | DataType::F32
        | DataType::F64
        | DataType::Text { .. }
        | DataType::Time(_)
        | DataType::Words => return Err(EncodeError::Type),
    };
    bytes.ok_or_else(|| EncodeError::Range(value.to_string()))
}

/// The lowest `size` bytes of a number that lies in `range`, the highest first.
fn last_bytes(whole: i128, range: std::ops::Range<i128>, size: usize) -> Option<Vec<u8>> {
    let bytes = whole.to_be_bytes();
    let last = bytes.get(bytes.len().checked_sub(size)?..)?;
    range.contains(&whole).then(|| last.to_vec())
}

/// The digits of a number of at most 16, four bits each.
fn decimal(mut whole: i128) -> i128 {
    let mut digits = 0;
    for place in 0..16 {
        digits |= (whole % 10) << (place * 4);
        whole /= 10;
    }
    digits
}

/// A 16-bit float of the same decimals.
fn exact_half(value: &Value) -> Result<u16, EncodeError> {
    let raw = half(number(value)?).ok_or_else(|| EncodeError::Range(value.to_string()))?;
    let layout = Layout {
        span: Span { area: Area::HoldingRegisters, address: 0, count: 1 },
        model: None,
        data_type: DataType::F16,
        order: ByteOrder::default(),
        scaling: None,
    };
    match decode_at(layout, &Data::Words(vec![raw]), 0) {
        Ok(shown) if shown.to_string() == value.to_string() => Ok(raw),
        Ok(shown) => Err(EncodeError::Between { value: value.to_string(), nearest: shown.to_string() }),
        Err(_) => Err(EncodeError::Range(value.to_string())),
    }
}

/// The nearest IEEE 754 binary16; `None` beyond the largest.
fn half(double: f64) -> Option<u16> {
    /// Where rounding goes to infinity.
    const TOO_LARGE: f64 = 65520.0;
    /// The exponent of the smallest number that has one.
    const EXPONENT_MIN: i32 = -14;
    let size = double.abs();
    if size.is_nan() || size >= TOO_LARGE {
        return None;
    }
    let exponent = i32::try_from(size.to_bits() >> 52).ok()?.saturating_sub(1023).max(EXPONENT_MIN);
    // with its leading one, which the exponent above the least makes up for
    let fraction = whole_of((size * 2_f64.powi(10 - exponent)).round_ties_even())?;
    let raw = u16::try_from((i128::from(exponent - EXPONENT_MIN) << 10) + fraction).ok()?;
    Some(if double.is_sign_negative() { raw | 0x8000 } else { raw })
}

/// A 32-bit float of the same decimals: 0.3 is taken, 16777217 is not.
fn float(value: &Value) -> Result<f32, EncodeError> {
    if let Value::Float(float) = value {
        return if float.is_finite() { Ok(*float) } else { Err(EncodeError::NotFinite) };
    }
    let float = narrow(number(value)?);
    if !float.is_finite() {
        return Err(EncodeError::Range(value.to_string()));
    }
    if float.to_string() != value.to_string() {
        return Err(EncodeError::Between { value: value.to_string(), nearest: float.to_string() });
    }
    Ok(float)
}

#[expect(clippy::cast_possible_truncation, reason = "what it costs is checked by whoever asks")]
const fn narrow(double: f64) -> f32 {
    double as f32
}

/// The bytes of the raw number from which the scale makes `value`, or nearly.
fn scaled(data_type: DataType, scaling: Scaling, value: &Value) -> Result<Vec<u8>, EncodeError> {
    let raw = (number(value)? - scaling.offset) / scaling.scale;
    let is_finite = |is: bool| if is { Ok(()) } else { Err(EncodeError::Range(value.to_string())) };
    match data_type {
        DataType::F32 => {
            is_finite(narrow(raw).is_finite())?;
            Ok(narrow(raw).to_be_bytes().to_vec())
        }
        DataType::F64 => {
            is_finite(raw.is_finite())?;
            Ok(raw.to_be_bytes().to_vec())
        }
        DataType::F16 => {
            let raw = half(raw).ok_or_else(|| EncodeError::Range(value.to_string()))?;
            Ok(raw.to_be_bytes().to_vec())
        }
        DataType::Bool { .. }
        | DataType::Byte { .. }
        | DataType::Slice { .. }
        | DataType::I16
        | DataType::U16
        | DataType::I32
        | DataType::U32
        | DataType::I48
        | DataType::U48
        | DataType::I64
        | DataType::U64
        | DataType::Bcd { .. }
        | DataType::Text { .. }
        | DataType::Time(_)
        | DataType::Words => {
            let raw = whole_of(raw.round()).ok_or_else(|| EncodeError::Range(value.to_string()))?;
            integer(data_type, raw, value)
        }
    }
}

/// What was scaled must come out again as it went in, but for the last digits of a decimal.
fn check_scaled(layout: Layout, value: &Value, words: &[u16]) -> Result<(), EncodeError> {
    let (wanted, scaling) = (number(value)?, layout.scaling.unwrap_or(Scaling { scale: 1.0, offset: 0.0 }));
    let Ok(got) = decode_at(layout, &Data::Words(words.to_vec()), 0) else {
        return Err(EncodeError::Range(value.to_string()));
    };
    let slack = match layout.data_type {
        DataType::F32 => f64::from(f32::EPSILON) * (wanted.abs() + scaling.offset.abs()),
        DataType::F64 => f64::EPSILON * 4.0 * (wanted.abs() + scaling.offset.abs()),
        DataType::F16 => HALF_EPSILON * (wanted.abs() + scaling.offset.abs()),
        DataType::Bool { .. }
        | DataType::Byte { .. }
        | DataType::Slice { .. }
        | DataType::I16
        | DataType::U16
        | DataType::I32
        | DataType::U32
        | DataType::I48
        | DataType::U48
        | DataType::I64
        | DataType::U64
        | DataType::Bcd { .. }
        | DataType::Text { .. }
        | DataType::Time(_)
        | DataType::Words => scaling.scale.abs() * STEP_SLACK,
    };
    let got = number(&got)?;
    if (got - wanted).abs() <= slack { Ok(()) } else { Err(between(&value.to_string(), got)) }
}

/// Bytes, the highest first, as registers in their order on the wire.
fn placed(bytes: &[u8], order: ByteOrder) -> Vec<u16> {
    let (pairs, _) = bytes.as_chunks::<2>();
    let word = |pair: &[u8; 2]| {
        if order.bytes_swapped { u16::from_le_bytes(*pair) } else { u16::from_be_bytes(*pair) }
    };
    let mut words: Vec<u16> = pairs.iter().map(word).collect();
    if order.words_reversed {
        words.reverse();
    }
    words
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tag::{ByteForm, Encoding, TimeFormat};

    const TYPES: [DataType; 17] = [
        DataType::I16,
        DataType::U16,
        DataType::I32,
        DataType::U32,
        DataType::I64,
        DataType::U64,
        DataType::F32,
        DataType::F64,
        DataType::I48,
        DataType::U48,
        DataType::F16,
        DataType::Bcd { digits: 4 },
        DataType::Bcd { digits: 6 },
        DataType::Bcd { digits: 8 },
        DataType::Bcd { digits: 10 },
        DataType::Bcd { digits: 12 },
        DataType::Bcd { digits: 16 },
    ];
    const SCALES: [Option<(f64, f64)>; 8] = [
        None,
        Some((0.1, 0.0)),
        Some((0.01, -40.0)),
        Some((-0.5, 3.0)),
        Some((10.0, 0.0)),
        Some((0.3, 0.1)),
        Some((1.0, 273.15)),
        Some((0.001, 0.0)),
    ];

    fn layout(data_type: DataType, order: ByteOrder, scaling: Option<(f64, f64)>) -> Layout {
        let count = data_type.registers().unwrap_or(1);
        let span = Span { area: Area::HoldingRegisters, address: 0, count };
        let scaling = scaling.map(|(scale, offset)| Scaling { scale, offset });
        Layout { span, model: None, data_type, order, scaling }
    }

    fn order(choice: u8) -> ByteOrder {
        ByteOrder { words_reversed: choice & 1 != 0, bytes_swapped: choice & 2 != 0 }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Every value that the registers can show can be written, and shows again.
        #[test]
        fn what_is_read_can_be_written_back(
            kind in 0..TYPES.len(), scale in 0..SCALES.len(), choice in 0_u8..4, mut raw in prop::array::uniform4(any::<u16>()), small: bool,
        ) {
            if let DataType::Bcd { digits } = TYPES[kind] {
                let number = raw.iter().fold(0_i128, |all, word| all << 16 | i128::from(*word)) % 10_i128.pow(digits.into());
                let digits = decimal(number);
                raw = [48, 32, 16, 0].map(|shift| u16::try_from(digits >> shift & 0xFFFF).unwrap());
            }
            if small && !matches!(TYPES[kind], DataType::Bcd { .. }) { raw = [0, 0, 0, raw[3] % 1000]; }
            let layout = layout(TYPES[kind], order(choice), SCALES[scale]);
            let first = raw.len() - usize::from(layout.span.count);
            let words = placed(&raw[first..].iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>(), layout.order);
            let data = Data::Words(words);
            let Ok(value) = decode_at(layout, &data, 0) else { return Ok(()) };
            match encode(layout, &value) {
                Ok(written) => {
                    let again = decode_at(layout, &written, 0).unwrap();
                    let is_float = layout.data_type.is_float();
                    if layout.scaling.is_none() || !is_float {
                        prop_assert!(again.is_same(&value), "{value} became {again}");
                        // of 16 digits and a scale, two neighbours may be the same double
                        let is_blurred = layout.data_type == DataType::Bcd { digits: 16 } && layout.scaling.is_some();
                        prop_assert!(is_blurred || written == data, "{written:?} for {data:?}");
                    } else {
                        let (a, b) = (number(&again).unwrap(), number(&value).unwrap());
                        prop_assert!((a - b).abs() <= b.abs() * if layout.data_type == DataType::F16 { 2e-3 } else { 2e-7 } + 1e-4, "{b} became {a}");
                    }
                }
                Err(error) => {
                    // only a scaled number whose raw one a double cannot hold
                    let is_wide = matches!(layout.data_type, DataType::I64 | DataType::U64 | DataType::Bcd { digits: 16 });
                    let is_at_the_end = number(&value).is_ok_and(|value| value.abs() > 1e30);
                    prop_assert!(layout.scaling.is_some() && (is_wide || is_at_the_end), "{value}: {error}");
                }
            }
        }

        /// What is written is what is read: never another value without a word.
        #[test]
        fn what_is_written_is_what_is_read(
            kind in 0..TYPES.len(), scale in 0..SCALES.len(), choice in 0_u8..4, number in prop_oneof![any::<f64>(), -70000.0..70000.0, (-70_000_i32..70_000).prop_map(f64::from)],
        ) {
            let layout = layout(TYPES[kind], order(choice), SCALES[scale]);
            if let Ok(words) = encode(layout, &Value::Double(number)) {
                let got = super::number(&decode_at(layout, &words, 0).unwrap()).unwrap();
                let slack = [(DataType::F16, 3e-3), (DataType::F32, 3e-7)].iter().find(|(of, _)| *of == layout.data_type).map_or(1e-8, |(_, slack)| *slack);
                prop_assert!((got - number).abs() <= slack * (number.abs() + 300.0), "{number} became {got}");
            }
        }
    }

    #[track_caller]
    fn check(data_type: DataType, scaling: Option<(f64, f64)>, value: Value, expected: &str) {
        let shown = match encode(layout(data_type, order(0), scaling), &value) {
            Ok(Data::Words(words)) => {
                words.iter().map(|word| format!("{word:04X}")).collect::<Vec<_>>().join(" ")
            }
            Ok(Data::Bits(bits)) => format!("{bits:?}"),
            Ok(Data::Values(_)) => panic!("of another protocol"),
            Err(error) => error.to_string(),
        };
        assert_eq!(shown, expected, "{data_type:?} {value}");
    }

    #[test]
    fn values_become_registers_or_the_reason_why_not() {
        use DataType::{F32, F64, I16, I32, I64, U16, U64};
        let double = Value::Double;
        check(I16, Some((0.1, 0.0)), double(25.0), "00FA");
        check(I16, Some((0.1, 0.0)), double(0.3), "0003");
        check(I16, Some((0.1, -40.0)), double(-39.7), "0003");
        check(I16, Some((0.1, 0.0)), double(0.25), "the registers cannot hold 0.25: the nearest is 0.3");
        check(I16, Some((0.1, 0.0)), double(4000.0), "4000 does not fit the registers");
        check(I16, Some((0.1, 0.0)), Value::Int(25), "00FA");
        check(I16, None, Value::Int(-2), "FFFE");
        check(I16, None, Value::Int(32768), "32768 does not fit the registers");
        check(U16, None, Value::Int(-1), "-1 does not fit the registers");
        check(U16, None, Value::UInt(65535), "FFFF");
        check(I16, None, double(3.0), "0003");
        check(I16, None, double(3.5), "the registers cannot hold 3.5: the nearest is 4");
        check(I16, None, double(f64::NAN), "not a finite number");
        check(I16, None, double(f64::INFINITY), "not a finite number");
        check(I16, None, Value::Bool(true), "wrong type: the tag takes a whole number, got true or false");
        check(I16, None, Value::Text("3".into()), "wrong type: the tag takes a whole number, got text");
        check(I32, None, Value::Float(7.0), "0000 0007");
        check(I64, None, double(1e17), "100000000000000000 does not fit the registers");
        check(U64, None, Value::UInt(u64::MAX), "FFFF FFFF FFFF FFFF");
        check(F32, None, double(0.3), "3E99 999A");
        check(
            F32,
            None,
            Value::Int(16_777_217),
            "the registers cannot hold 16777217: the nearest is 16777216",
        );
        check(F32, None, double(1e39), "1000000000000000000000000000000000000000 does not fit the registers");
        check(F32, None, Value::Float(f32::NAN), "not a finite number");
        check(F64, None, double(12.5), "4029 0000 0000 0000");
        check(
            F32,
            Some((0.1, 0.0)),
            Value::Bool(true),
            "wrong type: the tag takes a number, got true or false",
        );
        check(DataType::Bool { bit: None }, None, Value::Bool(true), "[true]");
        check(
            DataType::Bool { bit: None },
            None,
            Value::Int(1),
            "wrong type: the tag takes true or false, got a whole number",
        );
        let time = DataType::Time(TimeFormat::parse("YYMM DDhh").unwrap());
        for data_type in [
            DataType::Text { encoding: Encoding::Auto, is_sparse: false },
            DataType::Byte { is_high: false, form: ByteForm::Unsigned },
            DataType::Slice { first: 0, last: 1 },
            time,
        ] {
            check(data_type, None, Value::Int(1), "a value of this type cannot be written");
        }
    }

    #[test]
    fn decimal_digits_48_bits_and_half_floats_are_written_too() {
        use DataType::{Bcd, F16, I48, U48};
        let double = Value::Double;
        check(I48, None, Value::Int(-2), "FFFF FFFF FFFE");
        check(I48, None, Value::Int(1 << 47), "140737488355328 does not fit the registers");
        check(U48, None, Value::UInt((1 << 48) - 1), "FFFF FFFF FFFF");
        check(U48, None, Value::UInt(1 << 48), "281474976710656 does not fit the registers");
        check(Bcd { digits: 4 }, None, Value::UInt(1234), "1234");
        check(Bcd { digits: 4 }, None, Value::UInt(10_000), "10000 does not fit the registers");
        check(Bcd { digits: 6 }, None, Value::UInt(123_456), "0012 3456");
        check(Bcd { digits: 8 }, Some((0.1, 0.0)), double(123.4), "0000 1234");
        check(Bcd { digits: 8 }, None, Value::Int(-1), "-1 does not fit the registers");
        check(F16, None, double(1.5), "3E00");
        check(F16, None, double(-2.0), "C000");
        check(F16, None, double(65504.0), "7BFF");
        check(F16, None, double(65520.0), "65520 does not fit the registers");
        check(F16, None, double(0.3), "the registers cannot hold 0.3: the nearest is 0.30004883");
        check(F16, None, Value::Int(2049), "the registers cannot hold 2049: the nearest is 2048");
        check(F16, Some((0.1, 0.0)), double(0.3), "4200");
    }

    #[test]
    fn a_code_has_the_registers_that_it_was_read_from() {
        let check = |code: Code, data_type: DataType, expected: &str| {
            let count = data_type.registers().unwrap_or(1);
            let span = Span { area: Area::HoldingRegisters, address: 0, count };
            let layout = Layout { span, model: None, data_type, order: ByteOrder::default(), scaling: None };
            let shown = match super::raw(&code, data_type).and_then(|raw| encode(layout, &raw)) {
                Ok(Data::Words(words)) => {
                    words.iter().map(|word| format!("{word:04X}")).collect::<Vec<_>>().join(" ")
                }
                Ok(Data::Bits(bits)) => format!("{bits:?}"),
                Ok(Data::Values(_)) => panic!("of another protocol"),
                Err(error) => error.to_string(),
            };
            assert_eq!(shown, expected);
        };
        check(Code::Number(-2), DataType::I16, "FFFE");
        check(Code::Number(i128::from(u64::MAX)), DataType::U64, "FFFF FFFF FFFF FFFF");
        check(Code::Number(70_000), DataType::U16, "70000 does not fit the registers");
        check(
            Code::Number(i128::MAX),
            DataType::U64,
            "170141183460469231731687303715884105727 does not fit the registers",
        );
        check(Code::Bits(0x3FF8_0000_0000_0000), DataType::F64, "3FF8 0000 0000 0000");
        check(Code::Bits(0x3FC0_0000), DataType::F32, "3FC0 0000");
        check(Code::Bits(0x3FC0_0000), DataType::F16, "3E00");
        check(Code::Flag(true), DataType::Bool { bit: Some(3) }, "[true]");
        check(Code::Text("OK".into()), DataType::U16, "a value of this type cannot be written");
    }
}
