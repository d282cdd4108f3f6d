//! What was learned, as the text of a file: one table a device. Pure.
//!
//! ```toml
//! ["line1/3"]
//! registers = { good = 40, bad = 60, since_ms = 1764000000000 }
//! holes = [
//!   { at = "hr:100+4", block = 61, since_ms = 1764000000000 },
//! ]
//! refused = [
//!   { at = "ir:7+1", since_ms = 1764000000000 },
//! ]
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;

use toml::de::{DeTable, DeValue};

use super::{HOLES_MAX, Hole, Learned, Size, Value};
use crate::reading::Timestamp;
use crate::tag::{Area, Span};

const HEAD: &str = "\
# What the devices have taught by refusing requests. The gateway writes this file; it may be deleted, and is learned anew.
# good: the most that was answered at once; bad: the least that was refused; holes and refused: area:address+count.
";

/// The whole file. `devices` by a key that names each for good; those that have taught nothing are left out.
#[must_use]
pub fn to_toml<'a>(devices: impl IntoIterator<Item = (&'a str, &'a Learned)>) -> String {
    let mut text = HEAD.to_owned();
    for (key, learned) in devices.into_iter().filter(|(_, learned)| !learned.is_empty()) {
        // writing to a `String` does not fail
        write_device(&mut text, key, learned).unwrap_or_default();
    }
    text
}

fn write_device(text: &mut String, key: &str, learned: &Learned) -> std::fmt::Result {
    writeln!(text, "\n[{}]", quoted(key))?;
    for (name, size) in [("registers", learned.registers), ("bits", learned.bits)] {
        if let Some((bad, since)) = size.bad {
            let good = size.good;
            writeln!(text, "{name} = {{ good = {good}, bad = {bad}, since_ms = {} }}", since.millis())?;
        }
    }
    if !learned.holes.is_empty() {
        writeln!(text, "holes = [")?;
        for Hole { span, block, since, .. } in &learned.holes {
            let (at, since) = (address(*span), since.millis());
            writeln!(text, "  {{ at = \"{at}\", block = {block}, since_ms = {since} }},")?;
        }
        writeln!(text, "]")?;
    }
    if !learned.refused.is_empty() {
        writeln!(text, "refused = [")?;
        for Value { span, since } in &learned.refused {
            writeln!(text, "  {{ at = \"{}\", since_ms = {} }},", address(*span), since.millis())?;
        }
        writeln!(text, "]")?;
    }
    Ok(())
}

/// `text` as a basic string (TOML 1.0, String).
fn quoted(text: &str) -> String {
    let escaped = text.chars().map(|letter| match letter {
        '"' | '\\' => format!("\\{letter}"),
        _ if letter.is_control() => format!("\\u{:04x}", u32::from(letter)),
        _ => letter.to_string(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

fn address(span: Span) -> String {
    format!("{}:{}+{}", span.area.prefix(), span.address, span.count)
}

/// What the file says of each device, and what in it could not be read: that is left out.
#[must_use]
pub fn from_toml(text: &str) -> (BTreeMap<String, Learned>, Vec<String>) {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut faults: Vec<String> = errors.iter().map(|error| error.message().to_owned()).collect();
    let mut devices = BTreeMap::new();
    for (key, value) in document.get_ref() {
        let (key, learned) = (key.get_ref().to_string(), read_device(value.get_ref()));
        let (learned, of_device) = learned.unwrap_or_else(|fault| (Learned::default(), vec![fault]));
        faults.extend(of_device.into_iter().map(|fault| format!("{key}: {fault}")));
        if !learned.is_empty() {
            devices.insert(key, learned);
        }
    }
    (devices, faults)
}

type Read<T> = Result<T, String>;

fn read_device(value: &DeValue<'_>) -> Read<(Learned, Vec<String>)> {
    let table = value.as_table().ok_or("wanted a table")?;
    let mut learned = Learned::default();
    let mut faults = Vec::new();
    for (key, value) in table {
        let (key, value) = (key.get_ref().as_ref(), value.get_ref());
        let read = match key {
            "registers" => read_size(value, 125).map(|size| learned.registers = size),
            "bits" => read_size(value, 2000).map(|size| learned.bits = size),
            "holes" => read_list(value, read_hole, &mut learned.holes, &mut faults),
            "refused" => read_list(value, read_value, &mut learned.refused, &mut faults),
            _ => Err("not known".to_owned()),
        };
        faults.extend(read.err().map(|fault| format!("{key}: {fault}")));
    }
    Ok((learned, faults))
}

fn read_list<T>(
    value: &DeValue<'_>,
    read: fn(&DeTable<'_>) -> Read<T>,
    list: &mut Vec<T>,
    faults: &mut Vec<String>,
) -> Read<()> {
    for value in value.as_array().ok_or("wanted a list")?.iter().take(HOLES_MAX) {
        match value.get_ref().as_table().ok_or_else(|| "wanted a table".to_owned()).and_then(read) {
            Ok(one) => list.push(one),
            Err(fault) => faults.push(fault),
        }
    }
    Ok(())
}

fn read_size(value: &DeValue<'_>, most: u64) -> Read<Size> {
    let table = value.as_table().ok_or("wanted a table")?;
    let (good, bad) = (number(table, "good", most)?, number(table, "bad", most)?);
    if good >= bad {
        return Err(format!("wanted good below bad, got {good} and {bad}"));
    }
    Ok(Size { good, bad: Some((bad, since(table)?)) })
}

fn read_hole(table: &DeTable<'_>) -> Read<Hole> {
    let block = number(table, "block", 2000)?;
    Ok(Hole { span: at(table)?, block, since: since(table)?, is_planned: true })
}

fn read_value(table: &DeTable<'_>) -> Read<Value> {
    let span = at(table)?;
    if span.count == 0 {
        return Err("a value has at least one register, got 0".to_owned());
    }
    Ok(Value { span, since: since(table)? })
}

fn since(table: &DeTable<'_>) -> Read<Timestamp> {
    number(table, "since_ms", u64::MAX).map(Timestamp::from_millis)
}

/// The whole number at `key`, 0 to `most`.
fn number<T: TryFrom<u64>>(table: &DeTable<'_>, key: &str, most: u64) -> Read<T> {
    let number = table.get(key).and_then(|value| value.get_ref().as_integer());
    let number = number.and_then(|number| u64::from_str_radix(number.as_str(), number.radix()).ok());
    number
        .filter(|number| *number <= most)
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| format!("wanted a number up to {most} for {key}"))
}

/// The span at `at`.
fn at(table: &DeTable<'_>) -> Read<Span> {
    let text = table.get("at").and_then(|value| value.get_ref().as_str()).unwrap_or_default();
    let areas = [Area::Coils, Area::DiscreteInputs, Area::HoldingRegisters, Area::InputRegisters];
    let read = || {
        let (prefix, rest) = text.split_once(':')?;
        let (address, count) = rest.split_once('+')?;
        let area = areas.into_iter().find(|area| area.prefix() == prefix)?;
        Some(Span { area, address: address.parse().ok()?, count: count.parse().ok()? })
    };
    read()
        .filter(|span| span.end() <= 0x1_0000)
        .ok_or_else(|| format!("wanted at = \"area:address+count\", got \"{text}\""))
}
