//! What each kind of value may look like: from a [`Node`] to a typed value, or to the sentence that says what was
//! wanted. Nothing is coerced; only text from the environment is read as the number or switch that is wanted.

pub(super) mod at;
pub(super) mod codes;
pub(super) mod serial;
mod work;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use regex::bytes::{Regex, RegexBuilder};

use super::site::{
    Deadband, Echo, Factory, Kind, LIMIT_MAX, Network, NetworkError, Operand, Report, SerialLine, Share,
    parse_duration, parse_units,
};
use super::tree::{Content, Entry, Node};
use crate::dlt645::Address;
use crate::tag::{ByteForm, ByteOrder, DataType, Encoding, TimeFormat};
use crate::unit::{self, Unit};
pub(super) use work::{
    NumberOrTag, cycle, each, hysteresis, limit_of_alarm, severity, shifts, span, topic_filter, window,
    workdays,
};

/// The most memory that a compiled pattern may take, in bytes: a registration is short.
const PATTERN_SIZE: usize = 1 << 20;

/// A typed value, or what was wanted instead.
pub(super) type Parsed<T> = Result<T, String>;

/// What was wanted, and what was got.
pub(super) fn wanted<T>(what: &str, node: &Node) -> Parsed<T> {
    Err(match &node.content {
        Content::Text(text) => format!("wanted {what}, got \"{text}\""),
        Content::Integer(number) => format!("wanted {what}, got {number}"),
        Content::Float(number) => format!("wanted {what}, got {number:?}"),
        Content::Bool(value) => format!("wanted {what}, got {value}"),
        Content::Date | Content::List(_) | Content::Table(_) => format!("wanted {what}, got {}", node.kind()),
    })
}

/// Text that is not empty.
pub(super) fn text(node: &Node) -> Parsed<String> {
    match node.text() {
        Some(text) if !text.is_empty() => Ok(text.to_owned()),
        _ => wanted("text in quotes", node),
    }
}

/// Text that must not be shown: a finding about it never repeats it.
pub(super) fn secret(node: &Node) -> Parsed<String> {
    text(node).map_err(|_| "wanted text in quotes".to_owned())
}

/// Its text, if it came from the environment.
fn environment_text(node: &Node) -> Option<&str> {
    node.text().filter(|_| node.from_environment)
}

/// `true` or `false`.
pub(super) fn boolean(node: &Node) -> Parsed<bool> {
    if let Content::Bool(value) = node.content {
        return Ok(value);
    }
    match environment_text(node) {
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        _ => wanted("true or false", node),
    }
}

/// A whole number of `low` to `high`.
pub(super) fn integer(node: &Node, low: i64, high: i64) -> Parsed<i64> {
    let number = if let Content::Integer(number) = node.content {
        Some(number)
    } else {
        environment_text(node).and_then(|text| text.parse().ok())
    };
    match number {
        Some(number) if (low..=high).contains(&number) => Ok(number),
        _ => wanted(&format!("a whole number of {low} to {high}"), node),
    }
}

/// `HH:MM`, as minutes since midnight.
pub(super) fn minute_of_day(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |text: &str, below: u16| {
        let is_pair = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|number| is_pair && *number < below)
    };
    Some(number(hours, 24)? * 60 + number(minutes, 60)?)
}

/// A finite number, whole or not.
pub(super) fn number(node: &Node) -> Parsed<f64> {
    let number = match &node.content {
        #[expect(clippy::cast_precision_loss, reason = "a scale beyond 2^53 has no use")]
        Content::Integer(number) => Some(*number as f64),
        Content::Float(number) => Some(*number),
        Content::Text(_) => environment_text(node).and_then(|text| text.parse().ok()),
        Content::Bool(_) | Content::Date | Content::List(_) | Content::Table(_) => None,
    };
    match number {
        Some(number) if number.is_finite() => Ok(number),
        _ => wanted("a number", node),
    }
}

/// A number that is not 0.
pub(super) fn scale(node: &Node) -> Parsed<f64> {
    let scale = number(node)?;
    if scale.abs() > 0.0 { Ok(scale) } else { Err("a scale of 0 makes every value 0".to_owned()) }
}

/// A number up to which whole numbers are exact.
pub(super) fn limit(node: &Node) -> Parsed<f64> {
    match number(node)? {
        limit if limit.abs() <= LIMIT_MAX => Ok(limit),
        _ => wanted("a number of at most 9007199254740991 on either side of 0", node),
    }
}

/// A number above 0.
pub(super) fn positive(node: &Node) -> Parsed<f64> {
    match limit(node)? {
        positive if positive > 0.0 => Ok(positive),
        _ => wanted("a number above 0", node),
    }
}

/// A number, a word, true or false.
pub(super) fn operand(node: &Node) -> Parsed<Operand> {
    if let Some(word) = node.text().filter(|_| !node.from_environment) {
        return Ok(Operand::Word(word.to_owned()));
    }
    let flag = boolean(node).map(Operand::Flag);
    flag.or_else(|_| limit(node).map(Operand::Number))
        .or_else(|_| wanted("a number, a word in quotes, true or false", node))
}

/// Two numbers, the lower one first.
pub(super) fn between(node: &Node) -> Parsed<(f64, f64)> {
    if let Content::List(nodes) = &node.content
        && let [low, high] = nodes.as_slice()
        && let (Ok(low), Ok(high)) = (limit(low), limit(high))
        && low <= high
    {
        return Ok((low, high));
    }
    wanted("two numbers, the lower one first, as [45, 65]", node)
}

/// What `readback` may be: the tag that shows it, if it names one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ReadbackKey {
    /// `true` or `false`
    Own(bool),
    /// A tag of the device.
    Tag(String),
}

/// `true`, `false`, or the name of a tag.
pub(super) fn readback(node: &Node) -> Parsed<ReadbackKey> {
    boolean(node)
        .map(ReadbackKey::Own)
        .or_else(|_| tag_name(node).map(ReadbackKey::Tag))
        .or_else(|_| wanted("true, false or the name of a tag", node))
}

/// The number of a function that writes.
pub(super) fn function(node: &Node) -> Parsed<i64> {
    match integer(node, 0, 255) {
        Ok(function @ (5 | 6 | 15 | 16 | 22)) => Ok(function),
        _ => wanted("one of the functions 5, 6, 15, 16, 22", node),
    }
}

/// The name of a link, type, uplink, device, node or group.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

/// A name: letters, digits, `_`, `.`, `-`.
pub(super) fn name(node: &Node) -> Parsed<String> {
    match node.text() {
        Some(name) if is_name(name) => Ok(name.to_owned()),
        _ => wanted("a name of ASCII letters, digits, `_`, `.`, `-`", node),
    }
}

/// The name of a tag: parts of letters, digits, `_`, `-`, joined by `/`.
pub(super) fn tag_name(node: &Node) -> Parsed<String> {
    let is_part = |part: &str| !part.contains('.') && is_name(part);
    match node.text() {
        Some(name) if name.split('/').all(is_part) => Ok(name.to_owned()),
        _ => wanted("a tag's name: parts of ASCII letters, digits, `_`, `-`, joined by `/`", node),
    }
}

/// One of `words`.
pub(super) fn choice(node: &Node, words: &[&str]) -> Parsed<String> {
    match node.text() {
        Some(word) if words.contains(&word) => Ok(word.to_owned()),
        _ => wanted(&format!("\"{}\"", words.join("\" or \"")), node),
    }
}

/// A duration with its unit: `"500ms"`, `"1s"`, `"5m"`, `"1h"`, `"7d"`.
pub(super) fn duration(node: &Node) -> Parsed<Duration> {
    match node.text().and_then(parse_duration) {
        Some(duration) => Ok(duration),
        None => wanted(
            "a duration with its unit, as \"500ms\", \"1s\", \"5m\", \"1h\" or \"7d\" (at most \"3650d\")",
            node,
        ),
    }
}

/// A number of bytes: `"256MiB"`.
pub(super) fn size(node: &Node) -> Parsed<u64> {
    match node.text().and_then(parse_size) {
        Some(size) => Ok(size),
        None => wanted("a size with its unit, as \"512KiB\", \"256MiB\" or \"1GiB\"", node),
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let (digits, unit) = text.split_at_checked(text.find(|c: char| !c.is_ascii_digit())?)?;
    let each: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(each)
}

/// A number of readings in a time, `"5000/s"`; as so many a second.
pub(super) fn rate(node: &Node) -> Parsed<f64> {
    match node.text().and_then(parse_rate) {
        Some(rate) => Ok(rate),
        None => wanted("a rate, as \"5000/s\", \"20/min\" or \"200/h\"", node),
    }
}

fn parse_rate(text: &str) -> Option<f64> {
    let (digits, unit) = text.split_once('/')?;
    let seconds = match unit {
        "s" => 1.0,
        "min" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    let count: u32 =
        digits.parse().ok().filter(|count| *count > 0 && digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    Some(f64::from(count) / seconds)
}

/// A number of bytes a day, `"20MiB/day"`.
pub(super) fn budget(node: &Node) -> Parsed<u64> {
    let size = node.text().and_then(|text| parse_size(text.strip_suffix("/day")?)).filter(|size| *size > 0);
    size.map_or_else(|| wanted("bytes a day, as \"20MiB/day\"", node), Ok)
}

/// How often the gateway tells of itself; `None` for `"off"`.
pub(super) fn publish(node: &Node) -> Parsed<Option<Duration>> {
    if node.text() == Some("off") { Ok(None) } else { interval(node).map(Some) }
}

/// A sharing class.
pub(super) fn share(node: &Node) -> Parsed<Share> {
    match node.text().and_then(Share::from_word) {
        Some(share) => Ok(share),
        None => choice(node, &Share::WORDS).and(Err("no such class".to_owned())),
    }
}

/// The least and the greatest value that is plausible, `[0, 1000]`.
pub(super) fn range(node: &Node) -> Parsed<(f64, f64)> {
    if let Content::List(_) = node.content
        && let [low, high] = node.one_or_many()
        && let (Ok(low), Ok(high)) = (number(low), number(high))
        && low < high
    {
        return Ok((low, high));
    }
    wanted("the lowest and the highest plausible value, as [0, 1000]", node)
}

/// What is published in births beside the tags: text by name.
pub(super) fn properties(node: &Node) -> Parsed<Vec<(String, String)>> {
    let Some(table) = node.table() else { return wanted("a table of name = \"text\"", node) };
    let one = |entry: &Entry| match is_name(&entry.key) {
        true => Ok((entry.key.clone(), text(&entry.node)?)),
        false => {
            Err(format!("a property's name is ASCII letters, digits, `_`, `.`, `-`, got \"{}\"", entry.key))
        }
    };
    table.entries.iter().map(one).collect()
}

/// A duration that is not 0.
pub(super) fn interval(node: &Node) -> Parsed<Duration> {
    match duration(node)? {
        Duration::ZERO => wanted("a duration above 0", node),
        interval => Ok(interval),
    }
}

/// The shortest poll that makes sense: below a millisecond no line and no timer can follow.
pub(super) const EVERY_MIN: Duration = Duration::from_millis(1);

/// What sort of thing a tag tells.
pub(super) fn kind(node: &Node) -> Parsed<Kind> {
    choice(node, &Kind::WORDS).map(|word| Kind::from_word(&word).unwrap_or_default())
}

/// A deadband as written: that of the range needs one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Band {
    Plain(Deadband),
    OfRange(f64),
}

impl Band {
    /// What it is where values have this range; `None`: it needs one.
    pub(super) fn of(self, range: Option<(f64, f64)>) -> Option<Deadband> {
        match self {
            Band::Plain(deadband) => Some(deadband),
            Band::OfRange(part) => range.map(|(low, high)| Deadband::Absolute((high - low) * part)),
        }
    }
}

/// `0.5`, `"1%"` of the value, `"1% of range"`, `{ swinging_door = 0.2 }`.
pub(super) fn deadband(node: &Node) -> Parsed<Band> {
    let what = "a deadband: 0.5, \"1%\", \"1% of range\" or { swinging_door = 0.2 }";
    if let Some(table) = node.table() {
        let [entry] = table.entries.as_slice() else { return wanted(what, node) };
        if entry.key != "swinging_door" {
            return Err(format!("wanted {what}, got `{}`", entry.key));
        }
        return Ok(Band::Plain(Deadband::SwingingDoor(positive(&entry.node)?)));
    }
    if let Some(text) = node.text().filter(|_| !node.from_environment) {
        let (percent, rest) = text.split_once('%').unwrap_or(("", "?"));
        let part = percent.trim().parse::<f64>().ok().filter(|part| *part > 0.0 && *part <= 100.0);
        return match (part.map(|part| part / 100.0), rest.trim()) {
            (Some(part), "") => Ok(Band::Plain(Deadband::OfValue(part))),
            (Some(part), "of range") => Ok(Band::OfRange(part)),
            _ => wanted(what, node),
        };
    }
    match number(node) {
        Ok(band) if band > 0.0 => Ok(Band::Plain(Deadband::Absolute(band))),
        Ok(band) if band.abs() < f64::MIN_POSITIVE => Ok(Band::Plain(Deadband::None)),
        _ => wanted(what, node),
    }
}

/// A value that stands in the configuration: a number, a word, true or false.
pub(super) fn constant(node: &Node) -> Parsed<()> {
    match node.content {
        Content::Bool(_) => Ok(()),
        Content::Text(_) => text(node).map(drop),
        Content::Integer(_) | Content::Float(_) => number(node).map(drop),
        Content::Date | Content::List(_) | Content::Table(_) => {
            wanted("a number, a word in quotes, true or false", node)
        }
    }
}

/// The name of a tag of this device, or `device:tag`.
pub(super) fn named_tag(node: &Node) -> Parsed<String> {
    let is_tag = |name: &str| name.split('/').all(is_name);
    let is_named = |text: &&str| match text.split_once(':') {
        Some((device, tag)) => is_name(device) && is_tag(tag),
        None => is_tag(text),
    };
    match node.text().filter(is_named) {
        Some(text) => Ok(text.to_owned()),
        None => wanted("the name of a tag, as \"ratio/ct\" or \"meter:power\"", node),
    }
}

/// How often a tag is polled; `None` for `"never"`.
pub(super) fn every(node: &Node) -> Parsed<Option<Duration>> {
    if node.text() == Some("never") {
        return Ok(None);
    }
    match duration(node) {
        Ok(every) if every >= EVERY_MIN => Ok(Some(every)),
        Ok(_) => wanted("at least \"1ms\", or \"never\"", node),
        Err(message) => Err(message),
    }
}

/// The 12 digits of a meter's address, or `A` for any digit.
pub(super) fn meter_address(node: &Node) -> Parsed<Address> {
    match node.text() {
        Some(text) => Address::parse(text),
        None => wanted("12 digits in quotes, as \"210220003011\"", node),
    }
}

/// How a device leaves the factory: `"9600 8N1"`, or `"9600 7E1 ascii"` where it speaks Modbus ASCII.
pub(super) fn factory(node: &Node) -> Parsed<Factory> {
    match node.text().and_then(Factory::parse) {
        Some(factory) => Ok(factory),
        None => wanted("speed, data bits, parity and stop bits, as \"9600 8N1\" or \"9600 7E1 ascii\"", node),
    }
}

/// `"9600 8N1"`.
pub(super) fn serial(node: &Node) -> Parsed<SerialLine> {
    if let Some(letter) =
        node.text().and_then(|text| text.chars().rev().nth(1)).filter(|letter| "MS".contains(*letter))
    {
        return Err(format!("parity {letter} is not in this version: write N, E or O"));
    }
    match node.text().and_then(SerialLine::parse) {
        Some(line) => Ok(line),
        None => wanted("speed, data bits, parity and stop bits, as \"9600 8N1\" or \"19200 8E1\"", node),
    }
}

/// `"host:port"`.
pub(super) fn address(node: &Node) -> Parsed<String> {
    let is_address = |text: &str| {
        let Some((host, port)) = text.rsplit_once(':') else { return false };
        !host.is_empty()
            && !host.contains(char::is_whitespace)
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    match node.text() {
        Some(text) if is_address(text) => Ok(text.to_owned()),
        _ => wanted("an address with its port, as \"192.168.1.20:502\"", node),
    }
}

/// The silence before each request: `"auto"`, which is `None`, or a duration.
pub(super) fn gap(node: &Node) -> Parsed<Option<Duration>> {
    if node.text() == Some("auto") {
        return Ok(None);
    }
    duration(node).map(Some).or_else(|_| wanted("\"auto\" or a duration as \"20ms\"", node))
}

/// Whether what is sent comes back: `true`, `false` or `"auto"`.
pub(super) fn echo(node: &Node) -> Parsed<Echo> {
    match (node.text(), boolean(node)) {
        (Some("auto"), _) => Ok(Echo::Auto),
        (_, Ok(true)) => Ok(Echo::Yes),
        (_, Ok(false)) => Ok(Echo::No),
        _ => wanted("true, false or \"auto\"", node),
    }
}

/// An address of this machine and a port, to listen at.
pub(super) fn listen(node: &Node) -> Parsed<SocketAddr> {
    match node.text().and_then(|text| text.parse().ok()) {
        Some(address) => Ok(address),
        None => wanted("an address of this machine and a port, as \"0.0.0.0:5020\"", node),
    }
}

/// A regular expression over bytes: `\d`, `\w` and the like are ASCII.
pub(super) fn pattern(node: &Node) -> Parsed<Regex> {
    let Some(text) = node.text() else { return wanted("a regular expression", node) };
    let built = RegexBuilder::new(text).unicode(false).size_limit(PATTERN_SIZE).build();
    // the last line says what is wrong, those before it draw where
    let what =
        |error: regex::Error| error.to_string().lines().last().unwrap_or_default().replace("error: ", "");
    let regex = built.map_err(|error| format!("not a regular expression: {}", what(error)))?;
    if regex.is_match(b"") { Err("it must not match nothing at all".to_owned()) } else { Ok(regex) }
}

/// The names of callers by their ids.
pub(super) fn callers(node: &Node) -> Parsed<BTreeMap<String, Arc<str>>> {
    let Some(table) = node.table() else { return wanted("a table of id = \"name\"", node) };
    let one = |entry: &Entry| Ok((entry.key.clone(), name(&entry.node)?.into()));
    table.entries.iter().map(one).collect()
}

/// A range of addresses, as `"10.64.0.0/16"`; without a `/` a single one.
pub(super) fn network(node: &Node) -> Parsed<Network> {
    match node.text() {
        Some(text) => text.parse().map_err(|error: NetworkError| error.to_string()),
        None => wanted("a range of addresses, as \"10.64.0.0/16\"", node),
    }
}

/// `unit = 3`, or `unit = "3-4,7"` where the device's name holds `{unit}`.
pub(super) fn units(node: &Node) -> Parsed<Vec<u8>> {
    if let Ok(unit) = integer(node, 0, 255) {
        return Ok(u8::try_from(unit).into_iter().collect());
    }
    match node.text().and_then(parse_units) {
        Some(units) => Ok(units),
        None => wanted("a unit of 0 to 255, or several as \"3-4,7\"", node),
    }
}

/// `order`: the letters as they come on the wire, A the highest byte.
pub(super) fn order(node: &Node) -> Parsed<(ByteOrder, usize)> {
    let letters = node.text().unwrap_or_default();
    let (words_reversed, bytes_swapped) = match letters {
        "AB" | "ABCD" | "ABCDEF" | "ABCDEFGH" | "B" => (false, false),
        "CDAB" | "EFCDAB" | "GHEFCDAB" => (true, false),
        "BA" | "BADC" | "BADCFE" | "BADCFEHG" => (false, true),
        "DCBA" | "FEDCBA" | "HGFEDCBA" => (true, true),
        _ => {
            let all = "one of ABCD, CDAB, BADC, DCBA (AB, BA for 16 bits; 6 or 8 letters for 48 or 64; B for strings of a character a register)";
            return wanted(all, node);
        }
    };
    Ok((ByteOrder { words_reversed, bytes_swapped }, letters.len()))
}

/// `type` of a tag. What its address, `length`, `format`, `encoding` and `order` say of it is filled in from there.
pub(super) fn data_type(node: &Node) -> Parsed<DataType> {
    Ok(match node.text().unwrap_or_default() {
        "bool" => DataType::Bool { bit: None },
        "i8" => DataType::Byte { is_high: false, form: ByteForm::Signed },
        "u8" => DataType::Byte { is_high: false, form: ByteForm::Unsigned },
        "bcd8" => DataType::Byte { is_high: false, form: ByteForm::Bcd },
        "i16" => DataType::I16,
        "u16" => DataType::U16,
        "i32" => DataType::I32,
        "u32" => DataType::U32,
        "i48" => DataType::I48,
        "u48" => DataType::U48,
        "i64" => DataType::I64,
        "u64" => DataType::U64,
        "f16" => DataType::F16,
        "f32" => DataType::F32,
        "f64" => DataType::F64,
        "bcd16" => DataType::Bcd { digits: 4 },
        "bcd24" => DataType::Bcd { digits: 6 },
        "bcd32" => DataType::Bcd { digits: 8 },
        "bcd40" => DataType::Bcd { digits: 10 },
        "bcd48" => DataType::Bcd { digits: 12 },
        "bcd64" => DataType::Bcd { digits: 16 },
        "string" => DataType::Text { encoding: Encoding::Auto, is_sparse: false },
        "datetime" => DataType::Time(TimeFormat::parse("YYYY MM DD hh mm ss")?),
        "words" => DataType::Words,
        "decimal" | "hex" => {
            return Err(format!(
                "type \"{}\" is of serial protocols, and not of registers",
                node.text().unwrap_or_default()
            ));
        }
        _ => {
            return wanted(
                "one of bool i8 u8 i16 u16 i32 u32 i48 u48 i64 u64 f16 f32 f64 bcd8 bcd16 bcd24 bcd32 bcd40 bcd48 bcd64 string datetime words",
                node,
            );
        }
    })
}

/// `encoding` of a string.
pub(super) fn encoding(node: &Node) -> Parsed<Encoding> {
    match node.text() {
        Some("auto") => Ok(Encoding::Auto),
        Some("utf-8") => Ok(Encoding::Utf8),
        Some("gbk") => Ok(Encoding::Gbk),
        _ => wanted("\"utf-8\", \"gbk\" or \"auto\"", node),
    }
}

/// A unit of the vocabulary, as people write it.
pub(super) fn unit(node: &Node) -> Parsed<&'static Unit> {
    let written = text(node)?;
    unit::find(&written).ok_or_else(|| format!("unknown unit \"{written}\""))
}

/// `report`: `"always"`, or `{ at_most = "1s", at_least = "10m" }`.
pub(super) fn report(node: &Node) -> Parsed<Report> {
    if node.text() == Some("always") {
        return Ok(Report::Always);
    }
    let Some(table) = node.table() else {
        return wanted("\"always\" or { at_most = \"1s\", at_least = \"10m\" }", node);
    };
    let mut report = (None, super::site::REPORT_AT_LEAST);
    for entry in &table.entries {
        match entry.key.as_str() {
            "at_most" => report.0 = Some(duration(&entry.node)?),
            "at_least" => report.1 = interval(&entry.node)?,
            other => return Err(format!("report has at_most and at_least, not \"{other}\"")),
        }
    }
    Ok(Report::OnChange { at_most: report.0, at_least: report.1 })
}

#[cfg(test)]
mod tests {
    use super::super::tree::Place;
    use super::*;

    fn node(text: &str) -> Node {
        let at = Place { source: 0, start: 0, end: 0 };
        Node { content: Content::Text(text.to_owned()), at, from_environment: false }
    }

    #[track_caller]
    fn check_duration(text: &str, millis: Option<u64>) {
        assert_eq!(duration(&node(text)).ok(), millis.map(Duration::from_millis), "{text}");
    }

    #[test]
    fn durations_need_their_unit() {
        check_duration("500ms", Some(500));
        check_duration("1.5s", Some(1500));
        check_duration("5m", Some(300_000));
        check_duration("7d", Some(604_800_000));
        for wrong in [
            "5",
            "s",
            "",
            "-1s",
            "1 s",
            "1e3s",
            "1.s",
            ".5s",
            "1.2.3s",
            "99999999999999999999d",
            "3651d",
            "5µs",
        ] {
            check_duration(wrong, None);
        }
    }

    #[test]
    fn sizes_and_rates_need_their_unit() {
        for (text, expected) in [("64B", 64), ("2KiB", 2048), ("256MiB", 256 << 20), ("1GiB", 1 << 30)] {
            assert_eq!(size(&node(text)), Ok(expected));
        }
        for wrong in
            ["", "1", "1GB", "1.5GiB", "-1MiB", "GiB", "99999999999999999999B", "99999999999GiB", "1 GiB"]
        {
            assert!(size(&node(wrong)).is_err(), "{wrong}");
        }
        for (text, expected) in [("5000/s", 5000.0), ("30/min", 0.5), ("3600/h", 1.0)] {
            assert!((rate(&node(text)).unwrap() - expected).abs() < 1e-9, "{text}");
        }
        for wrong in ["", "5000", "0/s", "-1/s", "5/d", "5.5/s", "/s", "5 /s", "+5/s", "99999999999/s"] {
            assert!(rate(&node(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn units_are_single_numbers_or_ranges() {
        assert_eq!(units(&node("3-4,7")), Ok(vec![3, 4, 7]));
        for wrong in ["", "7-3", "1,", "256", "a", "1--2"] {
            assert!(units(&node(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nothing_is_coerced_but_text_of_the_environment() {
        let mut twelve = node("12");
        assert!(integer(&twelve, 0, 100).is_err());
        twelve.from_environment = true;
        assert_eq!(integer(&twelve, 0, 100), Ok(12));
        let at = twelve.at;
        let float = Node { content: Content::Float(1000.9), at, from_environment: false };
        assert!(integer(&float, 0, 2000).is_err());
        assert!(text(&float).is_err());
    }
}
