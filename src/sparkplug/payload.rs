//! Metrics: a reading, or what a birth says of a tag (Sparkplug 3.0.0, chapter 6).

use super::proto::payload::{Metric, PropertySet, PropertyValue, metric, property_value};
use crate::config::site::{IntegerTypes, Kind, Tag};
use crate::reading::{Quality, Reading, Timestamp, Value};
use crate::tag::{ByteForm, DataType, ValueType};

/// The datatypes that a gateway sends (6.4.16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in the specification")]
pub enum Datatype {
    Int8 = 1,
    Int16 = 2,
    Int32 = 3,
    Int64 = 4,
    UInt8 = 5,
    UInt16 = 6,
    UInt32 = 7,
    UInt64 = 8,
    Float = 9,
    Double = 10,
    Boolean = 11,
    String = 12,
    DateTime = 13,
}

impl Datatype {
    /// The number that stands for it on the wire.
    #[must_use]
    pub const fn code(self) -> u32 {
        self as u32
    }

    /// The datatype of `tag`. Of the small integers no encoding is read alike by every consumer, of `Wide` all are.
    #[must_use]
    pub fn of(tag: &Tag, types: IntegerTypes) -> Datatype {
        match (tag.value_type, types) {
            (ValueType::Bool, _) => Datatype::Boolean,
            (ValueType::Text, _) => Datatype::String,
            (ValueType::Time, _) => Datatype::DateTime,
            (ValueType::Float, _) => Datatype::Float,
            (ValueType::Double, _) => Datatype::Double,
            (ValueType::Integer(raw), IntegerTypes::Exact) => Datatype::exact(raw),
            (ValueType::Integer(raw), IntegerTypes::Wide) => Datatype::wide(raw),
        }
    }

    const fn exact(raw: DataType) -> Datatype {
        match raw {
            DataType::Byte { form: ByteForm::Signed, .. } => Datatype::Int8,
            DataType::Byte { .. } => Datatype::UInt8,
            DataType::I16 => Datatype::Int16,
            DataType::U16 | DataType::Slice { .. } | DataType::Bcd { digits: ..=4 } => Datatype::UInt16,
            DataType::U32 | DataType::Bcd { digits: 5..=8 } => Datatype::UInt32,
            DataType::I32
            | DataType::I48
            | DataType::U48
            | DataType::I64
            | DataType::U64
            | DataType::Bcd { .. }
            | DataType::Bool { .. }
            | DataType::F16
            | DataType::F32
            | DataType::F64
            | DataType::Text { .. }
            | DataType::Time(_)
            | DataType::Words => Datatype::wide(raw),
        }
    }

    const fn wide(raw: DataType) -> Datatype {
        match raw {
            DataType::Byte { .. }
            | DataType::Slice { .. }
            | DataType::I16
            | DataType::U16
            | DataType::I32
            | DataType::Bcd { digits: ..=8 } => Datatype::Int32,
            DataType::U32 | DataType::I48 | DataType::U48 | DataType::I64 | DataType::Bcd { .. } => {
                Datatype::Int64
            }
            DataType::U64 => Datatype::UInt64,
            DataType::Bool { .. }
            | DataType::F16
            | DataType::F32
            | DataType::F64
            | DataType::Text { .. }
            | DataType::Time(_)
            | DataType::Words => Datatype::Double,
        }
    }
}

/// A value as `datatype` has it on the wire; `None` where it is not of that datatype.
///
/// Signed numbers go as two's complement in the unsigned field, those of up to 32 bits in `int_value`.
#[must_use]
pub fn encode(value: &Value, datatype: Datatype) -> Option<metric::Value> {
    let whole = |low: i64, high: i64| whole_number(value).filter(|number| (low..=high).contains(number));
    Some(match (datatype, value) {
        (Datatype::Int8, _) => metric::Value::IntValue(low_half(whole(i8::MIN.into(), i8::MAX.into())?)),
        (Datatype::UInt8, _) => metric::Value::IntValue(low_half(whole(0, u8::MAX.into())?)),
        (Datatype::Int16, _) => metric::Value::IntValue(low_half(whole(i16::MIN.into(), i16::MAX.into())?)),
        (Datatype::Int32, _) => metric::Value::IntValue(low_half(whole(i32::MIN.into(), i32::MAX.into())?)),
        (Datatype::UInt16, _) => metric::Value::IntValue(low_half(whole(0, u16::MAX.into())?)),
        (Datatype::UInt32, _) => metric::Value::IntValue(low_half(whole(0, u32::MAX.into())?)),
        (Datatype::Int64, _) => metric::Value::LongValue(whole_number(value)?.cast_unsigned()),
        (Datatype::UInt64, Value::UInt(value)) => metric::Value::LongValue(*value),
        (Datatype::Float, Value::Float(value)) => metric::Value::FloatValue(*value),
        (Datatype::Double, Value::Double(value)) => metric::Value::DoubleValue(*value),
        (Datatype::Boolean, Value::Bool(value)) => metric::Value::BooleanValue(*value),
        (Datatype::String, Value::Text(value)) => metric::Value::StringValue(value.to_string()),
        (Datatype::DateTime, Value::Time(at)) => metric::Value::LongValue(at.millis()),
        _ => return None,
    })
}

fn whole_number(value: &Value) -> Option<i64> {
    match value {
        Value::Int(value) => Some(*value),
        Value::UInt(value) => i64::try_from(*value).ok(),
        Value::Bool(_) | Value::Float(_) | Value::Double(_) | Value::Text(_) | Value::Time(_) => None,
    }
}

/// The low 32 bits: two's complement of a number that fits 32 bits, signed or not.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the range has been checked; the low half is what is wanted"
)]
const fn low_half(number: i64) -> u32 {
    number.cast_unsigned() as u32
}

/// What each metric of an uplink looks like.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// Data messages name metrics by a number.
    pub aliases: bool,
    /// Which datatypes integers get.
    pub types: IntegerTypes,
    /// Data messages repeat the datatype.
    pub datatype_in_data: bool,
}

impl Form {
    /// The alias of `tag`: one counter for the node and all its devices, stable as long as the configuration is.
    #[must_use]
    pub fn alias(self, tag: &Tag) -> Option<u64> {
        self.aliases.then(|| u64::from(tag.id.0) + 1)
    }

    /// `tag` in a birth: name, datatype, properties, and the last reading, which was taken `at`, or, before the first,
    /// null.
    #[must_use]
    pub fn birth_metric(self, tag: &Tag, last: Option<&Reading>, at: Timestamp) -> Metric {
        let datatype = Datatype::of(tag, self.types);
        let quality = last.map_or(Quality::BadNoCommunication, |last| last.quality);
        let value = last.and_then(|last| last.value.as_ref()).and_then(|value| encode(value, datatype));
        Metric {
            name: Some(tag.name.to_string()),
            alias: self.alias(tag),
            timestamp: Some(at.millis()),
            datatype: Some(datatype.code()),
            is_null: value.is_none().then_some(true),
            properties: Some(birth_properties(tag, quality)),
            value,
            ..Metric::default()
        }
    }

    /// A reading of `tag`, which was taken `at`, in a data message; with its quality where `with_quality`.
    #[must_use]
    pub fn data_metric(self, tag: &Tag, reading: &Reading, at: Timestamp, with_quality: bool) -> Metric {
        let datatype = Datatype::of(tag, self.types);
        let value = reading.value.as_ref().and_then(|value| encode(value, datatype));
        let alias = self.alias(tag);
        Metric {
            name: alias.is_none().then(|| tag.name.to_string()),
            alias,
            timestamp: Some(at.millis()),
            datatype: self.datatype_in_data.then(|| datatype.code()),
            is_null: value.is_none().then_some(true),
            properties: with_quality.then(|| properties(quality_properties(reading.quality))),
            value,
            ..Metric::default()
        }
    }
}

/// A metric of the node itself.
#[must_use]
pub fn node_metric(name: &str, datatype: Datatype, value: metric::Value, at: Timestamp) -> Metric {
    Metric {
        name: Some(name.to_owned()),
        timestamp: Some(at.millis()),
        datatype: Some(datatype.code()),
        value: Some(value),
        ..Metric::default()
    }
}

type Property = (&'static str, Datatype, property_value::Value);

fn text_property(key: &'static str, text: &str) -> Property {
    (key, Datatype::String, property_value::Value::StringValue(text.to_owned()))
}

fn quality_properties(quality: Quality) -> Vec<Property> {
    let code = property_value::Value::IntValue(quality.sparkplug());
    vec![("Quality", Datatype::Int32, code), text_property("Reason", quality.id())]
}

fn birth_properties(tag: &Tag, quality: Quality) -> PropertySet {
    let mut all = quality_properties(quality);
    if let Some(unit) = tag.unit {
        all.push(text_property("engUnit", unit.ucum));
        all.push(text_property("unece", unit.unece));
    }
    if let Some((low, high)) = tag.range {
        all.push(("engLow", Datatype::Double, property_value::Value::DoubleValue(low)));
        all.push(("engHigh", Datatype::Double, property_value::Value::DoubleValue(high)));
    }
    if let Some(title) = &tag.title {
        all.push(text_property("displayName", title));
    }
    if tag.kind != Kind::Measurement {
        all.push(text_property("kind", tag.kind.word()));
    }
    properties(all)
}

fn properties(all: Vec<Property>) -> PropertySet {
    let mut set = PropertySet::default();
    for (key, datatype, value) in all {
        set.keys.push(key.to_owned());
        set.values.push(PropertyValue { r#type: Some(datatype.code()), is_null: None, value: Some(value) });
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_twos_complement_in_the_field_of_their_datatype() {
        use metric::Value::{IntValue, LongValue};
        let int = |value, datatype| encode(&Value::Int(value), datatype);
        assert_eq!(int(-1, Datatype::Int32), Some(IntValue(0xFFFF_FFFF)));
        assert_eq!(int(-2, Datatype::Int16), Some(IntValue(0xFFFF_FFFE)));
        assert_eq!(int(-1, Datatype::Int64), Some(LongValue(u64::MAX)));
        assert_eq!(int(-2, Datatype::Int8), Some(IntValue(0xFFFF_FFFE)));
        let at = Value::Time(Timestamp::from_millis(1_795_401_508_000));
        assert_eq!(encode(&at, Datatype::DateTime), Some(LongValue(1_795_401_508_000)));
        assert_eq!(encode(&Value::UInt(u64::MAX), Datatype::UInt64), Some(LongValue(u64::MAX)));
        assert_eq!(encode(&Value::UInt(u32::MAX.into()), Datatype::UInt32), Some(IntValue(u32::MAX)));
        assert_eq!(encode(&Value::UInt(u32::MAX.into()), Datatype::Int64), Some(LongValue(u32::MAX.into())));
    }

    #[test]
    fn a_value_that_does_not_fit_its_datatype_is_never_sent_as_another() {
        assert_eq!(encode(&Value::Int(i64::from(i32::MAX) + 1), Datatype::Int32), None);
        assert_eq!(encode(&Value::Int(-1), Datatype::UInt16), None);
        assert_eq!(encode(&Value::Double(1.0), Datatype::Float), None);
        assert_eq!(encode(&Value::Bool(true), Datatype::Int32), None);
        assert_eq!(encode(&Value::Int(128), Datatype::Int8), None);
        assert_eq!(encode(&Value::UInt(256), Datatype::UInt8), None);
        assert_eq!(encode(&Value::UInt(5), Datatype::DateTime), None);
    }
}
