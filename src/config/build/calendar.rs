//! `timezone`, `shifts`, `breaks`, `workdays`: when it is planned to work.

use std::sync::Arc;

use super::super::finding::{Finding, did_you_mean};
use super::super::tree::{Content, Node, Table};
use super::super::values::Parsed;
use super::Build;
use crate::calendar::{self, Calendar, Shift, Span};

/// The calendar of `[gateway]`.
pub(super) fn of_gateway(build: &mut Build, table: &Table) -> Option<Calendar> {
    let zone = match table.get("timezone").and_then(Node::text) {
        None => calendar::zone_of_system(),
        Some(name) => match calendar::zone(name) {
            Ok(zone) => zone,
            Err(message) => {
                let at = table.get("timezone").map_or(build.whole, |node| node.at);
                let near = did_you_mean(name, calendar::zone_names().iter().map(String::as_str));
                let finding = Finding::new(at, format!("`timezone`: {message}"));
                build.find(near.into_iter().fold(finding, Finding::with_help));
                return None;
            }
        },
    };
    refined(build, table, &Calendar::new(zone))
}

/// The calendar of a machine: the gateway's but for what it says itself.
pub(super) fn of_machine(build: &mut Build, table: &Table, gateways: &Calendar) -> Option<Calendar> {
    refined(build, table, gateways)
}

fn refined(build: &mut Build, table: &Table, base: &Calendar) -> Option<Calendar> {
    let mut calendar = base.clone();
    if let Some(shifts) = table.get("shifts").and_then(|node| shifts(node).ok()) {
        calendar.shifts = shifts;
    }
    if let Some(breaks) = table.get("breaks").and_then(|node| spans(node).ok()) {
        calendar.breaks = breaks;
    }
    if let Some(days) = table.get("workdays").and_then(|node| workdays(node).ok()) {
        calendar.workdays = days;
    }
    let faults = calendar.faults();
    for fault in &faults {
        let at = ["shifts", "breaks"].iter().find_map(|key| table.get(key)).map_or(build.whole, |node| node.at);
        build.find(Finding::new(at, fault.clone()));
    }
    faults.is_empty().then_some(calendar)
}

/// Shifts: a list, named by their times, or names with times.
pub(in crate::config) fn shifts(node: &Node) -> Parsed<Vec<Shift>> {
    if let Some(table) = node.table() {
        let named = |entry: &super::super::tree::Entry| shift(&entry.node, Some(&entry.key));
        return table.entries.iter().map(named).collect();
    }
    let Content::List(nodes) = &node.content else {
        return Err("wanted a list, as [\"08:00-20:00\", \"20:00-08:00\"]".to_owned());
    };
    nodes.iter().map(|node| shift(node, None)).collect()
}

fn shift(node: &Node, name: Option<&str>) -> Parsed<Shift> {
    let text = node.text().ok_or("wanted a span, as \"08:00-20:00\"")?;
    let span = calendar::span(text)?;
    let name: Arc<str> = name.unwrap_or(text).into();
    Ok(Shift { name, span })
}

/// A list of spans.
pub(in crate::config) fn spans(node: &Node) -> Parsed<Vec<Span>> {
    let one = |node: &Node| calendar::span(node.text().ok_or("wanted a span, as \"12:00-12:30\"")?);
    node.one_or_many().iter().map(one).collect()
}

/// Days of the week.
pub(in crate::config) fn workdays(node: &Node) -> Parsed<[bool; 7]> {
    calendar::workdays(node.text().ok_or("wanted days, as \"mon-fri,sun\"")?)
}
