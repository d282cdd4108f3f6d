//! `timezone`: whose local time it is.

use super::super::finding::{Finding, did_you_mean};
use super::super::tree::{Node, Table};
use super::Build;
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
    Some(Calendar::new(zone))
}
