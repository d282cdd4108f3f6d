//! When work is planned, how long a piece takes, how many there are of it, and what raises an alarm, as they are written.

use std::time::Duration;

use super::{Content, Node, Parsed, choice, duration, named_tag, number, text, wanted};
use crate::calendar::{self, Shift, Span};
use crate::config::site::Severity;

/// A number, or the tag that gives it.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::config) enum NumberOrTag {
    Number(f64),
    Tag(String),
}

/// `["08:00-20:00"]`, or with names: `{ day = "08:00-17:00" }`.
pub(in crate::config) fn shifts(node: &Node) -> Parsed<Vec<Shift>> {
    let one = |name: Option<&str>, node: &Node| calendar::shift(name, &text(node)?);
    match &node.content {
        Content::Text(_) => Ok(vec![one(None, node)?]),
        Content::List(nodes) => nodes.iter().map(|node| one(None, node)).collect(),
        Content::Table(table) => {
            table.entries.iter().map(|entry| one(Some(&entry.key), &entry.node)).collect()
        }
        Content::Bool(_) | Content::Integer(_) | Content::Float(_) | Content::Date => {
            wanted("a list of spans, as [\"08:00-20:00\"], or names with spans", node)
        }
    }
}

/// `"12:00-12:30"`.
pub(in crate::config) fn span(node: &Node) -> Parsed<Span> {
    calendar::span(&text(node)?)
}

/// `"mon-fri,sun"`.
pub(in crate::config) fn workdays(node: &Node) -> Parsed<[bool; 7]> {
    calendar::workdays(&text(node)?)
}

/// The longest planned time of a count: a week.
const CYCLE_MAX: Duration = Duration::from_secs(604_800);

/// The planned time of one count, in s: `"24s"`, or the tag that gives it.
pub(in crate::config) fn cycle(node: &Node) -> Parsed<NumberOrTag> {
    if let Ok(cycle) = duration(node) {
        return if cycle.is_zero() || cycle > CYCLE_MAX {
            wanted("more than \"0s\" and at most \"7d\"", node)
        } else {
            Ok(NumberOrTag::Number(cycle.as_secs_f64()))
        };
    }
    match named_tag(node) {
        Ok(tag) if tag.starts_with(|c: char| !c.is_ascii_digit()) => Ok(NumberOrTag::Tag(tag)),
        Ok(_) | Err(_) => wanted("a duration, as \"24s\", or the name of a tag", node),
    }
}

/// The pieces of each count: a number from 0, or the tag that gives it.
pub(in crate::config) fn each(node: &Node) -> Parsed<NumberOrTag> {
    if node.text().is_some() {
        return named_tag(node).map(NumberOrTag::Tag);
    }
    match number(node) {
        Ok(each) if each >= 0.0 => Ok(NumberOrTag::Number(each)),
        Ok(_) | Err(_) => wanted("a number from 0, or the name of a tag", node),
    }
}

/// The limit of an alarm: a number, or the tag that gives it.
pub(in crate::config) fn limit_of_alarm(node: &Node) -> Parsed<NumberOrTag> {
    if node.text().is_some() {
        return named_tag(node).map(NumberOrTag::Tag);
    }
    match number(node) {
        Ok(limit) => Ok(NumberOrTag::Number(limit)),
        Err(_) => wanted("a number, or the name of a tag", node),
    }
}

/// How far beyond its limit a number must come back: from 0.
pub(in crate::config) fn hysteresis(node: &Node) -> Parsed<f64> {
    match number(node) {
        Ok(width) if width >= 0.0 => Ok(width),
        Ok(_) | Err(_) => wanted("a number from 0", node),
    }
}

/// How much an alarm matters.
pub(in crate::config) fn severity(node: &Node) -> Parsed<Severity> {
    match node.text().and_then(Severity::from_word) {
        Some(severity) => Ok(severity),
        None => choice(node, &Severity::ALL.map(Severity::word)).and(Err("no such severity".to_owned())),
    }
}

/// How long a window is: at least a second and at most a day.
pub(in crate::config) fn window(node: &Node) -> Parsed<Duration> {
    match duration(node) {
        Ok(length) if (Duration::from_secs(1)..=Duration::from_secs(86_400)).contains(&length) => Ok(length),
        Ok(_) | Err(_) => wanted("a duration from \"1s\" to \"24h\", as \"15m\"", node),
    }
}
