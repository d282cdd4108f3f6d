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

use super::{HOLES_MAX, Hole, Learned, Size, TooLarge, Value, WITNESSES};
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
        let good = size.good;
        match size.bad {
            Some(TooLarge { count: bad, since, .. }) => {
                writeln!(text, "{name} = {{ good = {good}, bad = {bad}, since_ms = {} }}", since.millis())?;
            }
            None if good > 0 => writeln!(text, "{name} = {{ good = {good} }}")?,
            None => {}
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
    let good = number(table, "good", most)?;
    if !table.contains_key("bad") {
        return Ok(Size { good, bad: None });
    }
    let bad = number(table, "bad", most)?;
    if good >= bad {
        return Err(format!("wanted good below bad, got {good} and {bad}"));
    }
    Ok(Size { good, bad: Some(TooLarge { count: bad, since: since(table)?, witnesses: WITNESSES }) })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll::plan::Limits;
    use proptest::prelude::*;

    const FILE: &str = r#"
["line1/3"]
registers = { good = 40, bad = 60, since_ms = 1764000000000 }
bits = { good = 16 }
holes = [
  { at = "hr:100+4", block = 61, since_ms = 1764000000000 },
  { at = "coil:65535+0", block = 9, since_ms = 1764000000001 },
]

["press \"B\"\t/1"]
refused = [
  { at = "ir:7+1", since_ms = 1764000000000 },
]
"#;

    fn written(devices: &BTreeMap<String, Learned>) -> String {
        to_toml(devices.iter().map(|(key, learned)| (key.as_str(), learned)))
    }

    #[test]
    fn what_was_written_is_read() {
        let (devices, faults) = from_toml(&format!("{HEAD}{FILE}"));
        assert_eq!(faults, [""; 0]);
        assert_eq!(devices.keys().collect::<Vec<_>>(), ["line1/3", "press \"B\"\t/1"]);
        let limits = devices["line1/3"].limits(&Limits::new(125, 2000));
        assert_eq!((limits.registers, limits.bits), (50, 2000));
        assert_eq!(
            limits.holes.iter().map(|hole| address(*hole)).collect::<Vec<_>>(),
            ["hr:100+4", "coil:65535+0"]
        );
        assert_eq!(written(&devices).replace("\\u0009", "\\t"), format!("{HEAD}{FILE}"));
    }

    #[test]
    fn a_device_that_has_taught_nothing_is_left_out() {
        assert_eq!(to_toml([("line1/3", &Learned::default())]), HEAD);
        assert_eq!(from_toml(""), (BTreeMap::new(), Vec::new()));
        assert_eq!(from_toml(HEAD), (BTreeMap::new(), Vec::new()));
    }

    /// `line` in the place of the file's third, and what is said about it; all else is read.
    #[track_caller]
    fn check(line: &str, expected: &str) {
        let (devices, faults) = from_toml(&FILE.replace("bits = { good = 16 }", line));
        assert_eq!(faults, [expected]);
        assert_eq!(devices.len(), 2);
        assert_eq!(devices["line1/3"].holes.len(), 2);
    }

    #[test]
    fn what_cannot_be_read_is_said_and_left_out() {
        check("colour = 1", "line1/3: colour: not known");
        check("bits = 3", "line1/3: bits: wanted a table");
        check("bits = {}", "line1/3: bits: wanted a number up to 2000 for good");
        check("bits = { good = 2001 }", "line1/3: bits: wanted a number up to 2000 for good");
        check("bits = { good = -1 }", "line1/3: bits: wanted a number up to 2000 for good");
        check("bits = { good = 8, bad = 8 }", "line1/3: bits: wanted good below bad, got 8 and 8");
        check(
            "bits = { good = 8, bad = 9 }",
            "line1/3: bits: wanted a number up to 18446744073709551615 for since_ms",
        );
        check("refused = 1", "line1/3: refused: wanted a list");
        check("refused = [1]", "line1/3: wanted a table");
        check("refused = [{}]", "line1/3: wanted at = \"area:address+count\", got \"\"");
        let refused = |at: &str| format!("refused = [{{ at = \"{at}\", since_ms = 1 }}]");
        check(&refused("hr:65535+2"), "line1/3: wanted at = \"area:address+count\", got \"hr:65535+2\"");
        check(&refused("xr:1+2"), "line1/3: wanted at = \"area:address+count\", got \"xr:1+2\"");
        check(&refused("hr:1+0"), "line1/3: a value has at least one register, got 0");
        let (devices, faults) = from_toml("a = 1\n[b]\n[[c]]\n");
        assert_eq!((devices.len(), faults.len()), (0, 2));
    }

    #[test]
    fn a_file_that_ends_early_gives_what_stands_before() {
        for end in 0..FILE.len() {
            let (devices, _) = from_toml(FILE.get(..end).unwrap());
            if end > FILE.find("[\"press").unwrap() {
                assert_eq!(devices["line1/3"].holes.len(), 2);
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_borne(text in "\\PC*", at in 0..FILE.len(), byte in 0u8..128) {
            let (devices, _) = from_toml(&text);
            prop_assert_eq!(devices.len(), 0);
            let mut damaged = FILE.as_bytes().to_vec();
            damaged[at] = byte;
            let (devices, _) = from_toml(&String::from_utf8(damaged).unwrap());
            let (again, faults) = from_toml(&written(&devices));
            prop_assert_eq!((again, faults), (devices, Vec::new()));
        }
    }
}
