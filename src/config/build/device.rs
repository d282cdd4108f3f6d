//! Devices and their tags: who wins among override, tag, device, defaults and type, and what must fit what.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use super::super::expand::{self, Instance};
use super::super::finding::Finding;
use super::super::schema;
use super::super::site::{self, Device, Layout, Probe, Quirks, Report, Tag, WriteFunctions};
use super::super::tree::{Node, Place, Table, tag_name};
use super::super::values::at::{self, Areas};
use super::super::values::{self, Parsed};
use super::place::{check_reach, order, place, scaling};
use super::write::{self, Pending};
use super::{Build, duration_or, flag_or, shared, value};
use crate::tag::{DataType, DeviceId, TagId, UnitId};
use crate::unit::Unit;

/// All devices and all tags, as far as they can be built.
pub(super) fn build(build: &mut Build, root: &Table) -> (Vec<Device>, Vec<Tag>) {
    let mut out =
        Devices { root, devices: Vec::new(), tags: Vec::new(), writes: Vec::new(), names: BTreeMap::new() };
    let instances = expand::expand_devices(root.table("device"), root.table("link"), &mut build.findings);
    for entry in &root.table("device").entries {
        if entry.node.table().is_none() {
            build.find(
                Finding::new(entry.node.at, "a device must be a table").with_help("write [device.NAME]"),
            );
        }
    }
    for instance in &instances {
        schema::walk(&instance.fields, schema::DEVICE, "", &mut build.findings);
        out.add(build, instance);
    }
    write::build(build, &out.devices, &mut out.tags, out.writes);
    (out.devices, out.tags)
}

struct Devices<'a> {
    root: &'a Table,
    devices: Vec<Device>,
    tags: Vec<Tag>,
    writes: Vec<Pending>,
    names: BTreeMap<String, Place>,
}

/// A device's keys on top of its type's, and where each key of a tag is looked for after the tag itself.
pub(super) struct Layers<'a> {
    device: &'a Table,
    of_type: &'a Table,
    defaults: Table,
    overrides: Vec<(&'a str, &'a Table)>,
}

impl Devices<'_> {
    fn add(&mut self, build: &mut Build, instance: &Instance) {
        self.check_name(build, instance);
        let fields = &instance.fields;
        let link = self.link(build, instance);
        let unit = self.unit(build, instance);
        let of_type = self.of_type(build, fields);
        let merged = of_type.clone().without("tags").refined_by(&fields.clone().without("tags"));
        let id = DeviceId(u32::try_from(self.devices.len()).unwrap_or(u32::MAX));
        let max_registers = bounded(&merged, "max_registers", site::MAX_REGISTERS);
        let max_bits = bounded(&merged, "max_bits", site::MAX_BITS);
        let first = self.tags.len();
        let layers = Layers::new(fields, &of_type);
        layers.check_overrides(build);
        let quirks = self.quirks(build, &merged, fields);
        for node in layers.tags(build) {
            let Some(tag) = tag(build, &layers, node, max_registers, &quirks) else { continue };
            let id_of_tag = TagId(u32::try_from(self.tags.len()).unwrap_or(u32::MAX));
            let policy = node.table().and_then(|table| layers.get(table, "write"));
            self.writes.extend(policy.map(|node| Pending { tag: self.tags.len(), node: node.clone() }));
            self.tags.push(Tag { id: id_of_tag, device: id, ..tag });
        }
        let probes = probes(build, fields, &of_type, merged.get("probe"));
        let range = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
        if self.tags.len() == first && build.findings.is_empty() {
            let finding = Finding::new(instance.at, format!("device `{}` has no tags", instance.name));
            build.find(finding.with_help("give it a type, or `tags = [{ name = \"…\", at = \"hr:0\" }]`"));
        }
        if self.tags.len() - first > site::TAGS_MAX {
            let most = site::TAGS_MAX;
            let message = format!(
                "device `{}` has more than {most} tags: brokers would refuse its birth",
                instance.name
            );
            build.find(
                Finding::new(instance.at, message).with_help("describe it as two devices with the same unit"),
            );
        }
        let (Some(link), Some(unit)) = (link, unit) else { return };
        self.devices.push(Device {
            id,
            name: shared(&instance.name),
            title: value(&merged, "title", values::text),
            properties: value(fields, "properties", values::properties).unwrap_or_default(),
            type_name: value(fields, "type", values::text).map(Into::into),
            link,
            unit,
            quirks,
            caller: self.caller(build, instance),
            timeout: duration_or(&merged, "timeout", site::TIMEOUT),
            retries: value(&merged, "retries", |node| values::integer(node, 0, 10))
                .and_then(|retries| u8::try_from(retries).ok())
                .unwrap_or(site::RETRIES),
            max_registers,
            max_bits,
            enabled: flag_or(&merged, "enabled", true),
            probes,
            tags: range(first)..range(self.tags.len()),
        });
    }

    fn check_name(&mut self, build: &mut Build, instance: &Instance) {
        if !values::is_name(&instance.name) {
            let message =
                format!("a device's name is ASCII letters, digits, `_`, `.`, `-`, got \"{}\"", instance.name);
            build.find(Finding::new(instance.at, message));
        }
        if self.names.insert(instance.name.to_lowercase(), instance.at).is_some() {
            let message = format!("device `{}` is described twice (capitals do not count)", instance.name);
            build.find(Finding::new(instance.at, message).with_help("give one of them another name"));
        }
    }

    fn link(&self, build: &mut Build, instance: &Instance) -> Option<usize> {
        let Some(node) = instance.fields.get("link") else {
            build.find(Finding::new(instance.at, "a device needs `link`"));
            return None;
        };
        let name = node.text()?;
        let links = self.root.table("link");
        let index = links.entries.iter().position(|entry| entry.key == name);
        if index.is_none() {
            build.find(expand::unknown("link", name, node.at, links));
        }
        index
    }

    fn unit(&self, build: &mut Build, instance: &Instance) -> Option<UnitId> {
        let Some(node) = instance.fields.get("unit") else { return Some(UnitId(1)) };
        let units = values::units(node).ok()?;
        let [unit] = units.as_slice() else {
            let finding =
                Finding::new(node.at, "several units, but the device's name does not say which is which");
            build.find(finding.with_help("write {unit} in its name, as [device.\"oven{unit}\"]"));
            return None;
        };
        let link = instance.fields.get("link").and_then(Node::text).unwrap_or_default();
        if *unit == 0 && self.is_serial(link) {
            build.find(Finding::new(
                node.at,
                "unit 0 is the broadcast address of a serial line: no device answers it",
            ));
        }
        Some(UnitId(*unit))
    }

    /// Whether frames of a serial line go over the link, be it through a network.
    fn is_serial(&self, link: &str) -> bool {
        let link = self.root.table("link").table(link);
        let own = if link.get("tcp").is_some() { "tcp" } else { "rtu" };
        let is_link = ["port", "tcp", "listen"].iter().any(|kind| link.get(kind).is_some());
        is_link && link.get("framing").and_then(Node::text).unwrap_or(own) != "tcp"
    }

    /// The caller behind whose connection the device is; every device of a listening link has one.
    fn caller(&self, build: &mut Build, instance: &Instance) -> Option<Arc<str>> {
        let link = instance.fields.get("link").and_then(Node::text).unwrap_or_default();
        let link = self.root.table("link").table(link);
        let node = instance.fields.get("caller");
        if link.get("listen").is_none() {
            if let Some(node) = node {
                build.find(Finding::new(node.at, "only a device on a listening link has a `caller`"));
            }
            return None;
        }
        let Some(node) = node else {
            let finding = Finding::new(instance.at, "a device on a listening link needs `caller`");
            build.find(finding.with_help("write whose connection it is behind: caller = \"lathe-1\""));
            return None;
        };
        let name = node.text().filter(|name| *name != "*");
        let Some(name) = name else {
            let finding =
                Finding::new(node.at, "several callers, but the device's name does not say which is which");
            build.find(finding.with_help("write {caller} in its name, as [device.\"lathe-{caller}\"]"));
            return None;
        };
        let callers = link.get("callers").and_then(|node| values::callers(node).ok());
        if callers.as_ref().is_some_and(|callers| callers.values().all(|known| **known != *name)) {
            let finding = Finding::new(node.at, format!("the link has no caller `{name}`"));
            build.find(finding.with_help("name it there: callers = { ID = \"NAME\" }"));
        }
        Some(name.into())
    }

    fn quirks(&self, build: &mut Build, merged: &Table, fields: &Table) -> Quirks {
        let table = merged.table("quirks");
        let word = |key: &str| table.get(key).and_then(Node::text);
        let link = fields.get("link").and_then(Node::text).unwrap_or_default();
        let in_flight = self.root.table("link").table(link).get("in_flight");
        let is_pipelined = in_flight.is_some_and(|node| values::integer(node, 2, 16).is_ok());
        if let Some(node) = table.get("tid").filter(|node| is_pipelined && node.text() == Some("ignore")) {
            let finding =
                Finding::new(node.at, "without transaction ids only one request can be outstanding");
            build.find(finding.with_help("take `in_flight` out of the link"));
        }
        Quirks {
            gap: value(table, "gap", values::duration),
            no_cross: value(table, "no_cross", |node| values::integer(node, 1, 65535))
                .and_then(|number| NonZeroU16::new(u16::try_from(number).ok()?)),
            whole_blocks: value(table, "whole_blocks", |node| values::at::spans(node, 125))
                .unwrap_or_default(),
            holes: value(table, "holes", |node| values::at::spans(node, 65535)).unwrap_or_default(),
            any_tid: word("tid") == Some("ignore"),
            any_unit_reply: word("unit_reply") == Some("any"),
            write: match word("write") {
                Some("single") => WriteFunctions::Single,
                Some("multiple") => WriteFunctions::Multiple,
                _ => WriteFunctions::Auto,
            },
            connect_delay: duration_or(table, "connect_delay", Duration::ZERO),
        }
    }

    fn of_type(&self, build: &mut Build, fields: &Table) -> Table {
        let Some(node) = fields.get("type") else { return Table::default() };
        let name = node.text().unwrap_or_default();
        let types = self.root.table("type");
        expand::resolve_type(types, name).unwrap_or_else(|| {
            build.find(expand::unknown("type", name, node.at, types));
            Table::default()
        })
    }
}

fn bounded(table: &Table, key: &str, most: u16) -> u16 {
    let number = value(table, key, |node| values::integer(node, 1, i64::from(most)));
    number.and_then(|number| u16::try_from(number).ok()).unwrap_or(most)
}

impl<'a> Layers<'a> {
    fn new(device: &'a Table, of_type: &'a Table) -> Layers<'a> {
        let overrides = device.table("override").entries.iter();
        let mut overrides: Vec<(&str, &Table)> =
            overrides.filter_map(|entry| Some((entry.key.as_str(), entry.node.table()?))).collect();
        // an exact name beats a pattern, a longer pattern a shorter one
        overrides.sort_by_key(|(pattern, _)| (pattern.contains('*'), std::cmp::Reverse(pattern.len())));
        let defaults = of_type.table("defaults").refined_by(device.table("defaults"));
        Layers { device, of_type, defaults, overrides }
    }

    /// The tags of the type, then those of the device; a name that stands twice is a finding.
    fn tags(&self, build: &mut Build) -> Vec<&'a Node> {
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

    fn check_overrides(&self, build: &mut Build) {
        let tags = || self.of_type.tables("tags").chain(self.device.tables("tags")).filter_map(tag_name);
        for entry in &self.device.table("override").entries {
            if !tags().any(|name| matches(&entry.key, name)) {
                let finding = Finding::new(entry.key_at, format!("no tag is called `{}`", entry.key));
                build.find(match super::super::finding::did_you_mean(&entry.key, tags()) {
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
        let of_device = ["order", "every", "report", "share"].contains(&key);
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

    pub(super) fn base(&self) -> u16 {
        let base = |table| value(table, "base", |node| values::integer(node, 0, 1));
        base(self.device).or(base(self.of_type)).map_or(0, |base| u16::from(base == 1))
    }

    /// The controller's own names of its registers: the device's, and those of its type that it does not change.
    pub(super) fn areas(&self) -> Areas {
        let parse = |table| value(table, "areas", at::areas).unwrap_or_default();
        parse(self.device).over(parse(self.of_type))
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

fn tag(
    build: &mut Build,
    layers: &Layers<'_>,
    node: &Node,
    max_registers: u16,
    quirks: &Quirks,
) -> Option<Tag> {
    let table = node.table()?;
    let name = value(table, "name", values::tag_name)?;
    let (span, data_type) = place(build, layers, node, table)?;
    check_reach(build, node, span, max_registers, quirks);
    let scaling = scaling(build, layers, table, data_type);
    Some(Tag {
        id: TagId(0),
        device: DeviceId(0),
        name: shared(&name),
        title: layers.value(table, "title", values::text),
        span,
        data_type,
        order: order(build, layers, table, span, data_type),
        scaling,
        unit: layers.value::<&'static Unit>(table, "unit", values::unit),
        every: layers.value::<Option<Duration>>(table, "every", values::every).unwrap_or(Some(site::EVERY)),
        report: layers
            .value(table, "report", values::report)
            .unwrap_or(Report::OnChange { at_most: None, at_least: site::REPORT_AT_LEAST }),
        range: range(build, layers, table, data_type),
        share: layers.value(table, "share", values::share).unwrap_or_default(),
        write: None,
    })
}

/// The probes of a device: of what is said for its tags only the order is theirs too.
fn probes(build: &mut Build, device: &Table, of_type: &Table, node: Option<&Node>) -> Vec<Probe> {
    let layers = Layers { device, of_type, defaults: Table::default(), overrides: Vec::new() };
    write::probes(build, node, |build, node, table| {
        let (span, data_type) = place(build, &layers, node, table)?;
        let (order, scaling) =
            (order(build, &layers, table, span, data_type), scaling(build, &layers, table, data_type));
        Some(Layout { span, data_type, order, scaling })
    })
}

fn range(build: &mut Build, layers: &Layers<'_>, table: &Table, data_type: DataType) -> Option<(f64, f64)> {
    let is_number = data_type.is_number();
    if let (false, Some(node)) = (is_number, layers.own(table, "range")) {
        build.find(Finding::new(node.at, "only numbers have a `range`"));
    }
    layers.value(table, "range", values::range).filter(|_| is_number)
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
