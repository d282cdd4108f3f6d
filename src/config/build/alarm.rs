//! `alarm`: from the keys of one to its rule.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::finding::Finding;
use super::super::site::{AlarmRule, Limit, Severity, Test};
use super::super::tree::{Node, Table};
use super::super::values;
use super::computed::{Pending, said};
use super::{Build, duration_or, flag_or, value};
use crate::expression::Kind;
use crate::tag::TagId;

/// The keys of which an alarm on a tag has one.
const TESTS: [&str; 5] = ["above", "below", "equals", "rate", "silent"];

/// The rule of an alarm that looks at something of `kind`; `limits` are the tags that `above` and `below` name.
pub(super) fn rule(
    build: &mut Build,
    one: &Pending,
    kind: Kind,
    is_tag: bool,
    limits: &BTreeMap<String, TagId>,
) -> Option<AlarmRule> {
    let table = &one.table;
    let keys: Vec<&str> = TESTS.into_iter().filter(|key| table.get(key).is_some()).collect();
    let test = match (keys.as_slice(), kind, is_tag) {
        ([], Kind::Flag, _) => Ok(Some(Test::Holds)),
        ([], Kind::Number | Kind::Word, _) => {
            Err(format!("`when` is {}: say when it is an alarm, by above, below, equals, rate or silent", said(kind)))
        }
        ([key], _, true) => test(key, table, kind, limits),
        ([key], _, false) => Err(format!("`{key}` is about a tag: `when` is a whole condition already")),
        (keys, ..) => Err(format!("an alarm has one of {}", keys.join(", "))),
    };
    let test = match test {
        Ok(test) => test?,
        Err(message) => {
            let at = keys.first().and_then(|key| table.get(key)).map_or(one.at, |node| node.at);
            build.find(Finding::new(at, message));
            return None;
        }
    };
    if let Some(node) = table.get("hysteresis").filter(|_| !matches!(test, Test::Above { .. } | Test::Below { .. })) {
        build.find(Finding::new(node.at, "`hysteresis` is about above and below"));
    }
    let severity = table.get("severity").and_then(Node::text).and_then(Severity::from_word);
    Some(AlarmRule {
        delay: duration_or(table, "delay", Duration::ZERO),
        clear_delay: duration_or(table, "clear_delay", Duration::ZERO),
        latch: flag_or(table, "latch", false),
        severity: severity.unwrap_or(Severity::Medium),
        test,
    })
}

/// The test under `key`; `None` where the schema has found something already.
fn test(
    key: &str,
    table: &Table,
    kind: Kind,
    limits: &BTreeMap<String, TagId>,
) -> Result<Option<Test>, String> {
    if key == "silent" {
        return Ok(value(table, key, values::interval).map(|after| Test::Silent { after }));
    }
    if key == "equals" {
        return Ok(value(table, key, values::operand).map(Test::Equals));
    }
    if kind != Kind::Number {
        return Err(format!("`{key}` is about a number, and this is {}", said(kind)));
    }
    if key == "rate" {
        let rate = table.table(key);
        let above = value(rate, "above", values::positive).ok_or("`rate` needs above: { above = 20, per = \"1m\" }")?;
        let per = value(rate, "per", values::interval).ok_or("`rate` needs per: { above = 20, per = \"1m\" }")?;
        return Ok(Some(Test::Rate { above, per }));
    }
    let hysteresis = value(table, "hysteresis", values::number).unwrap_or(0.0).max(0.0);
    let number = value(table, key, values::number).map(Limit::Number);
    let Some(limit) = limits.get(key).copied().map(Limit::Tag).or(number) else { return Ok(None) };
    Ok(Some(if key == "above" {
        Test::Above { limit, hysteresis }
    } else {
        Test::Below { limit, hysteresis }
    }))
}
