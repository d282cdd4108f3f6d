//! Who wins among override, tag, device, defaults and type.

use std::collections::BTreeMap;

use super::super::finding::{Finding, did_you_mean};
use super::super::tree::{Node, Table, tag_name};
use super::super::values::at::{self, Areas};
use super::super::values::{self, Parsed};
use super::{Build, value};

/// A device's keys on top of its type's, and where each key of a tag is looked for after the tag itself.
pub(super) struct Layers<'a> {
    pub(super) device: &'a Table,
    pub(super) of_type: &'a Table,
    pub(super) defaults: Table,
    pub(super) overrides: Vec<(&'a str, &'a Table)>,
}

impl<'a> Layers<'a> {
    pub(super) fn new(device: &'a Table, of_type: &'a Table) -> Layers<'a> {
        let overrides = device.table("override").entries.iter();
        let mut overrides: Vec<(&str, &Table)> =
            overrides.filter_map(|entry| Some((entry.key.as_str(), entry.node.table()?))).collect();
        // an exact name beats a pattern, a longer pattern a shorter one
        overrides.sort_by_key(|(pattern, _)| (pattern.contains('*'), std::cmp::Reverse(pattern.len())));
        let defaults = of_type.table("defaults").refined_by(device.table("defaults"));
        Layers { device, of_type, defaults, overrides }
    }

    /// The tags of the type, then those of the device; a name that stands twice is a finding.
    pub(super) fn tags(&self, build: &mut Build) -> Vec<&'a Node> {
        let mut names: BTreeMap<String, &Node> = BTreeMap::new();
        let mut tags = Vec::new();
        for node in self.of_type.tables("tags").chain(self.device.tables("tags")) {
            let Some(name) = tag_name(node) else {
                build.find(Finding::new(node.at, "a tag needs `name`"));
                continue;
            };
            if names.insert(name.to_lowercase(), node).is_some() {
                let finding =
                    Finding::new(node.at, format!("tag `{name}` is described twice (capitals do not count)"));
                build.find(finding.with_help("change a tag of the type with [device.NAME.override]"));
            }
            tags.push(node);
        }
        for (name, node) in &names {
            let folders = name.match_indices('/').filter_map(|(end, _)| name.get(..end));
            for folder in folders.filter(|folder| names.contains_key(*folder)) {
                let message = format!("tag `{folder}` cannot also be the folder of `{name}`");
                build.find(Finding::new(node.at, message).with_help("give one of them another name"));
            }
        }
        tags
    }

    pub(super) fn check_overrides(&self, build: &mut Build) {
        let requests =
            self.of_type.table("request").entries.iter().chain(&self.device.table("request").entries);
        let in_requests: Vec<&Node> =
            requests.filter_map(|entry| entry.node.table()).flat_map(|table| table.tables("tags")).collect();
        let own = || self.of_type.tables("tags").chain(self.device.tables("tags"));
        let tags = || own().chain(in_requests.iter().copied()).filter_map(tag_name);
        for entry in &self.device.table("override").entries {
            if !tags().any(|name| matches(&entry.key, name)) {
                let finding = Finding::new(entry.key_at, format!("no tag is called `{}`", entry.key));
                build.find(match did_you_mean(&entry.key, tags()) {
                    Some(help) => finding.with_help(help),
                    None => finding,
                });
            }
        }
    }

    /// The value of a tag's key: the override's, the tag's, the device's, the defaults', the type's.
    pub(super) fn get<'b>(&'b self, tag: &'b Table, key: &str) -> Option<&'b Node> {
        let name = tag.get("name").and_then(Node::text).unwrap_or_default();
        let overrides =
            self.overrides.iter().filter(|(pattern, _)| matches(pattern, name)).map(|(_, table)| *table);
        let of_device = ["order", "every", "report", "share", "stale_after"].contains(&key);
        let device = of_device.then_some(self.device);
        let of_type = of_device.then_some(self.of_type);
        overrides
            .chain([tag])
            .chain(device)
            .chain([&self.defaults])
            .chain(of_type)
            .find_map(|table| table.get(key))
    }

    /// What an override or the tag itself says, for keys that a device's defaults may set where they do not fit.
    pub(super) fn own<'b>(&'b self, tag: &'b Table, key: &str) -> Option<&'b Node> {
        let name = tag.get("name").and_then(Node::text).unwrap_or_default();
        let overrides =
            self.overrides.iter().filter(|(pattern, _)| !pattern.contains('*') && *pattern == name);
        overrides.map(|(_, table)| *table).chain([tag]).find_map(|table| table.get(key))
    }

    pub(super) fn value<T>(&self, tag: &Table, key: &str, parse: impl Fn(&Node) -> Parsed<T>) -> Option<T> {
        self.get(tag, key).and_then(|node| parse(node).ok())
    }

    /// The content of `key` that is a table, or the table of that name among the type's or the device's own (`values`, `bits`).
    pub(super) fn table_of<'b>(&'b self, tag: &'b Table, key: &str) -> Option<Result<&'b Node, String>> {
        let node = self.get(tag, key)?;
        let Some(name) = node.text() else { return Some(Ok(node)) };
        let named = |table: &'b Table| table.table(key).get(name);
        Some(named(self.device).or_else(|| named(self.of_type)).ok_or_else(|| {
            let known = [self.device, self.of_type];
            let known =
                known.iter().flat_map(|table| &table.table(key).entries).map(|entry| entry.key.as_str());
            let near = did_you_mean(name, known);
            let help = near.unwrap_or_else(|| format!("describe it: [type.NAME.{key}.{name}]"));
            format!("there is no table `{name}` of `{key}`: {help}")
        }))
    }

    /// The controller's own names of its registers: the device's, and those of its type that it does not change.
    pub(super) fn areas(&self) -> Areas {
        let parse = |table| value(table, "areas", at::areas).unwrap_or_default();
        parse(self.device).over(parse(self.of_type))
    }

    pub(super) fn base(&self) -> u16 {
        let base = |table| value(table, "base", |node| values::integer(node, 0, 1));
        base(self.device).or(base(self.of_type)).map_or(0, |base| u16::from(base == 1))
    }
}

/// Whether `name` fits `pattern`, in which `*` stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_in_a_pattern_stands_for_anything() {
        for (pattern, name, expected) in [
            ("a/b", "a/b", true),
            ("a", "a/b", false),
            ("*", "a/b", true),
            ("power/*", "power/active", true),
            ("power/*", "energy/power", false),
            ("*/l1", "voltage/l1", true),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("ab*b", "ab", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
