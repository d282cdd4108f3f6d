//! Addresses: `at` as manuals print it, and `areas`, the names that a controller gives its own registers.

use super::super::tree::{Content, Node, Table};
use super::{Parsed, boolean, integer, wanted};
use crate::tag::{Area, Span};

/// The most parts of one area.
const PARTS_MAX: usize = 64;

/// Where a value begins: the table, the 0-based address of its first register, and the bits if it names some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) struct At {
    /// Which table.
    pub(in crate::config) area: Area,
    /// 0-based protocol address, after `base`.
    pub(in crate::config) address: u16,
    /// Which bits of the register.
    pub(in crate::config) bits: Option<Bits>,
    /// The first address that is not of the named area, or 65536.
    pub(in crate::config) end: u32,
    /// The SunSpec model from whose id register the address counts.
    pub(in crate::config) model: Option<u16>,
}

/// What stands after the point of an address; bit 0 is the lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Bits {
    /// `.3`
    One(u8),
    /// `.0-1`: from the lower one to the higher one, both included.
    Slice(u8, u8),
}

/// A controller's own names: each stands for one part or several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::config) struct Areas(Vec<(String, Vec<Part>)>);

/// One part of an area: wire address = `first_wire` + (number - `first`) / `step` × `words`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    area: Area,
    first_wire: u16,
    first: u32,
    /// How many points.
    count: u32,
    step: u32,
    /// Registers, or bits, a point.
    words: u32,
    notation: Notation,
}

/// How the numbers of an area are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notation {
    /// `D100`
    Decimal,
    /// `X17` is the sixteenth point.
    Octal,
    /// `Q0.3`: byte and bit.
    ByteBit,
}

impl Areas {
    /// These, and those of `others` that these do not have.
    pub(in crate::config) fn over(mut self, others: Areas) -> Areas {
        let new = others.0.into_iter().filter(|(name, _)| self.0.iter().all(|(known, _)| known != name));
        let new: Vec<_> = new.collect();
        self.0.extend(new);
        self
    }

    fn get(&self, name: &str) -> Option<&[Part]> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, parts)| parts.as_slice())
    }
}

/// `at` as text, which only becomes an address when base and areas are known.
pub(in crate::config) fn text(node: &Node) -> Parsed<&str> {
    node.text().map_or_else(|| wanted("an address in quotes, as \"hr:100\" or \"40101\"", node), Ok)
}

/// `at` as written: `hr:100`, `ir:0x10`, `coil:5`, `hr:110.3`, `hr:110.0-1`, the manual's `40101`, or `D100` of
/// `areas`. A `base` of 1 means that the first register of `hr: ir: coil: di:` is 1; areas know no base.
pub(in crate::config) fn at(node: &Node, base: u16, areas: &Areas) -> Parsed<At> {
    let text = text(node)?;
    if text.starts_with(|c: char| c.is_ascii_uppercase()) {
        return named(text, areas);
    }
    let (place, bits) = split_bits(text)?;
    if let Some(place) = place.strip_prefix("sunspec:") {
        let (model, address) = in_model(place)?;
        if bits.is_some() {
            return Err("bits of a SunSpec model are not in this version: a point that is not there would be all true".to_owned());
        }
        return Ok(At { area: Area::HoldingRegisters, address, bits, end: 65536, model: Some(model) });
    }
    let (area, address) = match place.split_once(':') {
        Some((prefix, number)) => prefixed(prefix, number, base)?,
        None => reference(place)?,
    };
    Ok(At { area, address, bits, end: 65536, model: None })
}

/// `203+18`: model 203, the 18th register behind its id.
fn in_model(place: &str) -> Parsed<(u16, u16)> {
    let number = |text: &str| {
        let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| is_digits)
    };
    let parts = place.split_once('+').map(|(model, offset)| (number(model), number(offset)));
    match parts {
        Some((Some(model @ 1..=65534), Some(offset))) => Ok((model, offset)),
        _ => Err(format!(
            "wanted a model and a register of it, as \"sunspec:203+18\", got \"sunspec:{place}\""
        )),
    }
}

/// What stands before the point, and the bits behind it.
fn split_bits(text: &str) -> Parsed<(&str, Option<Bits>)> {
    let Some((place, bits)) = text.split_once('.') else { return Ok((text, None)) };
    let bit = |text: &str| {
        let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|bit| is_digits && *bit <= 15_u8)
    };
    let Some((first, last)) = bits.split_once('-') else {
        return match bit(bits) {
            Some(bit) => Ok((place, Some(Bits::One(bit)))),
            None => Err(format!("wanted a bit of 0 to 15 after the point, got \"{bits}\"")),
        };
    };
    match (bit(first), bit(last)) {
        (Some(first), Some(last)) if first < last => Ok((place, Some(Bits::Slice(first, last)))),
        _ => Err(format!("wanted two bits of 0 to 15 after the point, the lower one first, got \"{bits}\"")),
    }
}

fn prefixed(prefix: &str, number: &str, base: u16) -> Parsed<(Area, u16)> {
    let area = match prefix {
        "hr" => Area::HoldingRegisters,
        "ir" => Area::InputRegisters,
        "coil" => Area::Coils,
        "di" => Area::DiscreteInputs,
        _ => {
            return Err(format!(
                "wanted hr:, ir:, coil:, di: or sunspec: before the number, got \"{prefix}:\""
            ));
        }
    };
    let parsed = match number.strip_prefix("0x") {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            u32::from_str_radix(digits, 16).ok()
        }
        None if number.bytes().all(|byte| byte.is_ascii_digit()) => number.parse::<u32>().ok(),
        Some(_) | None => None,
    };
    let address = parsed
        .and_then(|address| address.checked_sub(u32::from(base)))
        .and_then(|address| u16::try_from(address).ok());
    match address {
        Some(address) => Ok((area, address)),
        None => Err(format!(
            "wanted {base} to {} (decimal or 0x…) after \"{prefix}:\", got \"{number}\"",
            65535 + u32::from(base)
        )),
    }
}

/// A reference as manuals print it: its first digit says the table, the rest counts from 1.
fn reference(text: &str) -> Parsed<(Area, u16)> {
    let is_reference = [5, 6].contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_reference {
        return Err(format!("wanted an address as \"hr:100\", \"coil:0x10\" or \"40101\", got \"{text}\""));
    }
    let (table, number) = text.split_at_checked(1).unwrap_or_default();
    let area = match table {
        "0" => Area::Coils,
        "1" => Area::DiscreteInputs,
        "3" => Area::InputRegisters,
        "4" => Area::HoldingRegisters,
        _ => return Err(format!("a reference begins with 0, 1, 3 or 4, got \"{text}\"")),
    };
    let address = number.parse::<u32>().ok().and_then(|number| number.checked_sub(1));
    match address.and_then(|address| u16::try_from(address).ok()) {
        Some(address) => Ok((area, address)),
        None => Err(format!("references count from 1 to 65536: \"{text}\" does not exist")),
    }
}

/// An address of an area, as `D100`, `X17`, `D210.3`, `Q0.3`.
fn named(text: &str, areas: &Areas) -> Parsed<At> {
    let digits = text.find(|c: char| c.is_ascii_digit()).unwrap_or(text.len());
    let (name, number) = text.split_at_checked(digits).unwrap_or_default();
    let Some(parts) = areas.get(name) else {
        let known: Vec<&str> = areas.0.iter().map(|(name, _)| name.as_str()).collect();
        return Err(if known.is_empty() {
            format!(
                "\"{text}\" needs `areas` in the type: areas = {{ D = {{ at = \"hr:0\", count = 8000 }} }}"
            )
        } else {
            format!("the type has no area \"{name}\": it has {}", known.join(", "))
        });
    };
    let notation = parts.first().map_or(Notation::Decimal, |part| part.notation);
    let (number, bits) = match notation {
        Notation::ByteBit => (number, None),
        Notation::Decimal | Notation::Octal => split_bits(number)?,
    };
    let Some(index) = notation.parse(number) else {
        return Err(format!("wanted {} after \"{name}\", got \"{number}\"", notation.wanted()));
    };
    let Some(part) = parts.iter().find(|part| (part.first..=part.last()).contains(&index)) else {
        let ends = |part: &Part| {
            format!("{name}{} to {name}{}", notation.shown(part.first), notation.shown(part.last()))
        };
        return Err(format!(
            "\"{text}\" lies outside of the area: it has {}",
            parts.iter().map(ends).collect::<Vec<_>>().join(", ")
        ));
    };
    match part.wire(index) {
        Some(address) => Ok(At { area: part.area, address, bits, end: part.end(), model: None }),
        None => {
            let second = notation.shown(part.first + part.step);
            let first = notation.shown(part.first);
            Err(format!(
                "\"{text}\" lies between two points: they are {name}{first}, {name}{second} and so on"
            ))
        }
    }
}

impl Notation {
    fn parse(self, text: &str) -> Option<u32> {
        let digits = |text: &str, radix| {
            let is_number = text.chars().all(|c| c.is_digit(radix));
            u32::from_str_radix(text, radix).ok().filter(|_| is_number)
        };
        match self {
            Notation::Decimal => digits(text, 10),
            Notation::Octal => digits(text, 8),
            Notation::ByteBit => {
                let (byte, bit) = text.split_once('.')?;
                let bit = digits(bit, 8).filter(|bit| *bit < 8)?;
                digits(byte, 10)?.checked_mul(8)?.checked_add(bit)
            }
        }
    }

    fn shown(self, number: u32) -> String {
        match self {
            Notation::Decimal => number.to_string(),
            Notation::Octal => format!("{number:o}"),
            Notation::ByteBit => format!("{}.{}", number / 8, number % 8),
        }
    }

    const fn wanted(self) -> &'static str {
        match self {
            Notation::Decimal => "a number",
            Notation::Octal => "an octal number (no 8, no 9)",
            Notation::ByteBit => "a byte and a bit of 0 to 7, as 0.3,",
        }
    }
}

impl Part {
    /// The number of the last point.
    const fn last(&self) -> u32 {
        self.first + (self.count - 1) * self.step
    }

    /// The first address behind it.
    fn end(&self) -> u32 {
        u32::from(self.first_wire) + self.count * self.words
    }

    /// The address of a point of it; `None` between two points.
    fn wire(&self, number: u32) -> Option<u16> {
        let distance = number.checked_sub(self.first)?;
        if distance % self.step != 0 {
            return None;
        }
        u16::try_from(u32::from(self.first_wire) + distance / self.step * self.words).ok()
    }
}

/// `areas`: each name with one part or a list of them.
pub(in crate::config) fn areas(node: &Node) -> Parsed<Areas> {
    let Some(table) = node.table() else {
        return wanted("a table of areas, as { D = { at = \"hr:0\", count = 8000 } }", node);
    };
    let mut areas = Vec::new();
    for entry in &table.entries {
        let name = &entry.key;
        let is_name = name.chars().all(|c| c.is_ascii_alphabetic())
            && name.starts_with(|c: char| c.is_ascii_uppercase());
        if !is_name {
            return Err(format!("an area's name is letters, the first a capital, got \"{name}\""));
        }
        let in_area = |message: String| format!("area {name}: {message}");
        let one = |node: &Node| match node.table() {
            Some(table) => part(table),
            None => wanted("a table, as { at = \"hr:0\", count = 8000 }", node),
        };
        let parts: Vec<Part> =
            entry.node.one_or_many().iter().map(one).collect::<Parsed<_>>().map_err(in_area)?;
        check_parts(&parts).map_err(in_area)?;
        areas.push((name.clone(), parts));
    }
    Ok(Areas(areas))
}

fn check_parts(parts: &[Part]) -> Parsed<()> {
    let (Some(first), true) = (parts.first(), parts.len() <= PARTS_MAX) else {
        return Err(format!("wanted 1 to {PARTS_MAX} parts"));
    };
    if parts.iter().any(|part| part.notation != first.notation) {
        return Err("its parts must agree on octal and byte_bit".to_owned());
    }
    let mut by_number: Vec<&Part> = parts.iter().collect();
    by_number.sort_by_key(|part| part.first);
    if by_number.iter().zip(by_number.iter().skip(1)).any(|(low, high)| low.last() >= high.first) {
        return Err("two of its parts have the same numbers".to_owned());
    }
    Ok(())
}

fn part(table: &Table) -> Parsed<Part> {
    let keys = ["at", "count", "first", "step", "words", "octal", "byte_bit"];
    if let Some(entry) = table.entries.iter().find(|entry| !keys.contains(&entry.key.as_str())) {
        return Err(format!("unknown key `{}`: it has {}", entry.key, keys.join(" ")));
    }
    let number = |key: &str, low: i64, high: i64, default: Option<u32>| match (table.get(key), default) {
        (Some(node), _) => match integer(node, low, high) {
            Ok(number) => u32::try_from(number).map_err(|_| format!("`{key}` is too large")),
            Err(message) => Err(format!("`{key}`: {message}")),
        },
        (None, Some(default)) => Ok(default),
        (None, None) => Err(format!("it needs `{key}`")),
    };
    let flag = |key: &str| table.get(key).map_or(Ok(false), boolean);
    let node = table.get("at").ok_or("it needs `at`")?;
    let first_wire = at(node, 0, &Areas::default())?;
    if first_wire.model.is_some() {
        return Err("an area does not lie in a SunSpec model".to_owned());
    }
    if first_wire.bits.is_some() {
        return Err("it begins at a register, not at a bit of one".to_owned());
    }
    let notation = match (flag("octal")?, flag("byte_bit")?) {
        (true, true) => return Err("either octal or byte_bit".to_owned()),
        (true, false) => Notation::Octal,
        (false, true) => Notation::ByteBit,
        (false, false) => Notation::Decimal,
    };
    let part = Part {
        area: first_wire.area,
        first_wire: first_wire.address,
        first: number("first", 0, 65535, Some(0))?,
        count: number("count", 1, 65536, None)?,
        step: number("step", 1, 16, Some(1))?,
        words: number("words", 1, 4, Some(1))?,
        notation,
    };
    if part.end() > 65536 { Err("it ends after the last address, 65535".to_owned()) } else { Ok(part) }
}

/// `[[3000, 20]]`: holding registers by first address and count.
pub(in crate::config) fn spans(node: &Node, most: i64) -> Parsed<Vec<Span>> {
    let pair = |node: &Node| {
        let [first, count] = node.one_or_many() else { return None };
        let address = u16::try_from(integer(first, 0, 65535).ok()?).ok()?;
        let count = u16::try_from(integer(count, 1, most).ok()?).ok()?;
        let span = Span { area: Area::HoldingRegisters, address, count };
        (span.end() <= 65536).then_some(span)
    };
    let Content::List(pairs) = &node.content else {
        return wanted("a list of [first, count]", node);
    };
    match pairs.iter().map(pair).collect() {
        Some(spans) => Ok(spans),
        None => {
            Err(format!("wanted [first, count] of holding registers, count 1 to {most}, as [[3000, 20]]"))
        }
    }
}

#[cfg(test)]
mod tests;
