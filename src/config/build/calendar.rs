//! `timezone`, `shifts`, `breaks` and `workdays`: whose local time it is, and when work is planned in it.

use super::super::finding::{Finding, did_you_mean};
use super::super::tree::{Node, Table};
use super::super::values;
use super::{Build, value};
use crate::calendar::{self, Calendar};

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
    Some(planned(build, table, Calendar::new(zone)))
}

/// A calendar, but for what `table` says of it.
pub(super) fn planned(build: &mut Build, table: &Table, of_gateway: Calendar) -> Calendar {
    let known = of_gateway.faults();
    let mut calendar = of_gateway;
    let keys = ["shifts", "breaks", "workdays"].map(|key| table.get(key));
    if let Some(shifts) = value(table, "shifts", values::shifts) {
        calendar.shifts = shifts;
    }
    if let Some(node) = table.get("breaks") {
        calendar.breaks = node.one_or_many().iter().filter_map(|one| values::span(one).ok()).collect();
    }
    if let Some(workdays) = value(table, "workdays", values::workdays) {
        calendar.workdays = workdays;
    }
    let at = keys.into_iter().flatten().next().map(|node| node.at);
    let faults = at.map(|_| calendar.faults()).unwrap_or_default();
    for fault in faults.into_iter().filter(|fault| !known.contains(fault)) {
        build.find(Finding::new(at.unwrap_or(build.whole), fault));
    }
    calendar
}
