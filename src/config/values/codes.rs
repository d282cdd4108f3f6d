//! What raw values stand for: words (`values`), reasons (`bad_values`, `quality`), single bits (`bits`).

use std::sync::Arc;

use super::super::finding::did_you_mean;
use super::super::site::{Code, Codes};
use super::super::tree::{Content, Node, Table};
use super::{Parsed, wanted};
use crate::reading::Quality;
use crate::tag::DataType;

/// Numbers up to this on either side of 0 that stand for a float mean the number; larger ones its bits.
const FLOAT_NUMBER_MAX: i64 = 1 << 24;
/// The most codes of one table.
const CODES_MAX: usize = 4096;

/// A reason, as `"uncertain:not_accurate moving"`: the id, and a remark for people. A remark alone is a sensor's failure.
pub(in crate::config) fn quality(node: &Node) -> Parsed<Quality> {
    let Some(text) = node.text().filter(|text| !text.is_empty()) else {
        return wanted("a reason, as \"bad:sensor_failure\", or a remark", node);
    };
    let first = text.split_whitespace().next().unwrap_or_default();
    if let Some(quality) = Quality::from_id(first) {
        return Ok(quality);
    }
    if first == "retry" {
        // it is asked again soon anyway: until then the last value is all there is
        return Ok(Quality::BadCommLastValueKnown);
    }
    if ["good", "uncertain", "bad"].contains(&first.split(':').next().unwrap_or_default())
        && first.contains(':')
    {
        let near = did_you_mean(first, Quality::ALL.iter().map(|quality| quality.id()));
        let known = || Quality::ALL.map(Quality::id).join(" ");
        return Err(format!("there is no reason `{first}`: {}", near.unwrap_or_else(known)));
    }
    Ok(Quality::BadSensorFailure)
}

/// The word of a code.
pub(in crate::config) fn word(node: &Node) -> Parsed<Arc<str>> {
    match node.text().filter(|text| !text.is_empty()) {
        Some(text) => Ok(text.into()),
        None => wanted("a word in quotes", node),
    }
}

/// A table of codes, as the schema sees it: what the codes must fit is looked at with the tag.
pub(in crate::config) fn is_codes<T>(node: &Node, of: impl Fn(&Node) -> Parsed<T>) -> Parsed<()> {
    let Some(table) = node.table() else { return wanted("a table: { 0 = \"…\", 1 = \"…\" }", node) };
    if table.entries.len() > CODES_MAX {
        return Err(format!("more than {CODES_MAX} codes"));
    }
    table.entries.iter().try_for_each(|entry| of(&entry.node).map(drop))
}

/// `values`, as the schema sees it: a table of codes, or the name of one.
pub(in crate::config) fn is_codes_or_name<T>(node: &Node, of: impl Fn(&Node) -> Parsed<T>) -> Parsed<()> {
    if node.text().is_some() { Ok(()) } else { is_codes(node, of) }
}

/// `bits`, as the schema sees it: a table of numbers and names, or the name of one.
pub(in crate::config) fn is_bits_or_name(node: &Node) -> Parsed<()> {
    if node.text().is_some() { Ok(()) } else { bits(node).map(drop) }
}

/// Tables by name.
pub(in crate::config) fn is_tables(node: &Node, is_one: impl Fn(&Node) -> Parsed<()>) -> Parsed<()> {
    let Some(table) = node.table() else { return wanted("tables by name", node) };
    let named = |entry: &super::super::tree::Entry| {
        is_one(&entry.node).map_err(|why| format!("`{}`: {why}", entry.key))
    };
    table.entries.iter().try_for_each(named)
}

/// `bad_values`, as the schema sees it.
pub(in crate::config) fn is_bad_values(node: &Node) -> Parsed<()> {
    let Content::List(nodes) = &node.content else { return is_codes(node, quality) };
    let is_code =
        |node: &Node| matches!(node.content, Content::Integer(_) | Content::Float(_) | Content::Text(_));
    match nodes.iter().find(|node| !is_code(node)) {
        Some(node) => wanted("raw values: [0x8003, 32767]", node),
        None if nodes.len() > CODES_MAX => Err(format!("more than {CODES_MAX} codes")),
        None => Ok(()),
    }
}

/// The codes of `table`, for raw values of `data_type`.
pub(in crate::config) fn codes<T>(
    table: &Table,
    data_type: DataType,
    of: impl Fn(&Node) -> Parsed<T>,
) -> Parsed<Codes<T>> {
    let mut codes = Codes::default();
    for entry in &table.entries {
        let means = of(&entry.node)?;
        if entry.key == "else" {
            codes.otherwise = Some(means);
        } else {
            let code = code(&entry.key, data_type)?;
            if codes.entries.iter().any(|(known, _)| *known == code) {
                return Err(format!("the code {} stands twice", entry.key));
            }
            codes.entries.push((code, means));
        }
    }
    Ok(codes)
}

/// `bad_values`: a list, each a sensor's failure, or a table of reasons.
pub(in crate::config) fn bad_values(node: &Node, data_type: DataType) -> Parsed<Codes<Quality>> {
    if let Some(table) = node.table() {
        return codes(table, data_type, quality);
    }
    let mut bad = Codes::default();
    for one in node.one_or_many() {
        let code = match &one.content {
            Content::Integer(number) => number_code(*number, data_type)?,
            Content::Float(number) => float_code(*number, data_type)?,
            Content::Text(text) => code(text, data_type)?,
            Content::Bool(_) | Content::Date | Content::List(_) | Content::Table(_) => {
                return wanted("a raw value", one);
            }
        };
        bad.entries.push((code, Quality::BadSensorFailure));
    }
    Ok(bad)
}

/// The bits of a number with names, the lowest is 0: number and name of each.
pub(in crate::config) fn bits(node: &Node) -> Parsed<Vec<(u8, String)>> {
    let Some(table) = node.table() else { return wanted("a table: { 0 = \"heater\" }", node) };
    let mut bits: Vec<(u8, String)> = Vec::new();
    for entry in &table.entries {
        let number = entry.key.parse().ok().filter(|bit: &u8| *bit < 64);
        let number = number.ok_or_else(|| format!("`{}` is no number of a bit: 0 to 63", entry.key))?;
        let name = super::tag_name(&entry.node)?;
        if bits.iter().any(|(known, of)| *known == number || *of == name) {
            return Err(format!("bit {number} (\"{name}\") stands twice"));
        }
        bits.push((number, name));
    }
    Ok(bits)
}

/// What sort of raw value a type has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Flag,
    Text,
    Time,
    Whole,
    Single,
    Double,
}

const fn sort(data_type: DataType) -> Sort {
    match data_type {
        DataType::Bool { .. } => Sort::Flag,
        DataType::Text { .. } => Sort::Text,
        DataType::Time(_) => Sort::Time,
        DataType::F16 | DataType::F32 => Sort::Single,
        DataType::F64 => Sort::Double,
        DataType::Byte { .. }
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
        | DataType::Words => Sort::Whole,
    }
}

/// A raw value as a key has it: decimal, `0x`, true or false, or text.
fn code(text: &str, data_type: DataType) -> Parsed<Code> {
    let wrong = |what: &str| format!("the code `{text}` is not {what}");
    match sort(data_type) {
        Sort::Text => return Ok(Code::Text(text.into())),
        Sort::Flag => {
            return match text {
                "true" | "1" => Ok(Code::Flag(true)),
                "false" | "0" => Ok(Code::Flag(false)),
                _ => Err(wrong("true or false")),
            };
        }
        Sort::Time => return Err("a time has no codes".to_owned()),
        Sort::Whole | Sort::Single | Sort::Double => {}
    }
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return bits_code(u64::from_str_radix(hex, 16).map_err(|_| wrong("a number"))?, data_type);
    }
    match text.parse::<i64>() {
        Ok(number) if sort(data_type) == Sort::Whole => number_code(number, data_type),
        _ => float_code(text.parse().map_err(|_| wrong("a number"))?, data_type),
    }
}

fn number_code(number: i64, data_type: DataType) -> Parsed<Code> {
    match (sort(data_type), u64::try_from(number)) {
        (Sort::Time, _) => Err("a time has no codes".to_owned()),
        (Sort::Text, _) => Ok(Code::Text(number.to_string().into())),
        (Sort::Flag, _) => match number {
            0 => Ok(Code::Flag(false)),
            1 => Ok(Code::Flag(true)),
            _ => Err(format!("the code {number} is not true or false")),
        },
        (Sort::Single | Sort::Double, Ok(bits)) if number > FLOAT_NUMBER_MAX => bits_code(bits, data_type),
        #[expect(clippy::cast_precision_loss, reason = "below 2^24, or as near as it gets")]
        (Sort::Single | Sort::Double, _) => float_code(number as f64, data_type),
        (Sort::Whole, Ok(bits)) => bits_code(bits, data_type),
        (Sort::Whole, Err(_)) => Ok(Code::Number(number.into())),
    }
}

/// The value whose bits these are.
fn bits_code(bits: u64, data_type: DataType) -> Parsed<Code> {
    let size = data_type.bits();
    if size < 64 && bits >> size != 0 {
        return Err(format!("the code {bits:#x} has more than {size} bits"));
    }
    if matches!(sort(data_type), Sort::Single | Sort::Double) {
        return Ok(Code::Bits(bits));
    }
    let number = i128::from(bits);
    let is_negative = data_type.is_signed() && size > 0 && bits >> (size - 1) == 1;
    Ok(Code::Number(if is_negative { number - (1_i128 << size) } else { number }))
}

fn float_code(number: f64, data_type: DataType) -> Parsed<Code> {
    match sort(data_type) {
        #[expect(clippy::cast_possible_truncation, reason = "the nearest float is what the device can send")]
        Sort::Single => Ok(Code::Bits(u64::from((number as f32).to_bits()))),
        Sort::Double => Ok(Code::Bits(number.to_bits())),
        Sort::Flag | Sort::Text | Sort::Time | Sort::Whole => {
            Err(format!("the code {number} is not a whole number"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tag::Encoding;

    #[track_caller]
    fn check(text: &str, data_type: DataType, expected: &str) {
        let shown = match code(text, data_type) {
            Ok(Code::Number(number)) => number.to_string(),
            Ok(Code::Bits(bits)) => format!("{bits:#x}"),
            Ok(Code::Text(text)) => format!("'{text}'"),
            Ok(Code::Flag(flag)) => flag.to_string(),
            Err(why) => why,
        };
        assert_eq!(shown, expected, "{text} {data_type:?}");
    }

    #[test]
    fn a_code_is_the_raw_value_whose_bits_it_is() {
        check("32767", DataType::I16, "32767");
        check("0x8003", DataType::I16, "-32765");
        check("32771", DataType::I16, "-32765");
        check("-32765", DataType::I16, "-32765");
        check("0x8003", DataType::U16, "32771");
        check("0xFFFFFFFF", DataType::I32, "-1");
        check("0xFFFFFFFFFFFFFFFF", DataType::U64, "18446744073709551615");
        check("0x7FC00000", DataType::F32, "0x7fc00000");
        check("-9999", DataType::F32, "0xc61c3c00");
        check("1.5", DataType::F64, "0x3ff8000000000000");
        check("true", DataType::Bool { bit: None }, "true");
        check("OK", DataType::Text { encoding: Encoding::Auto, is_sparse: false }, "'OK'");
        check("0x10000", DataType::U16, "the code 0x10000 has more than 16 bits");
        check("1.5", DataType::U16, "the code 1.5 is not a whole number");
        check("x", DataType::U16, "the code `x` is not a number");
        check("2", DataType::Bool { bit: None }, "the code `2` is not true or false");
    }
}
