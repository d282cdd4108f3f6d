//! Devices and their tags: who wins among override, tag, device, defaults and type, and what must fit what.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use super::super::expand::{self, Instance};
use super::super::finding::Finding;
use super::super::schema;
use super::super::site::serial::{Instrument, Mode};
use super::super::site::{
    self, Device, DeviceProtocol, Factory, Meter, Quirks, SerialLine, Step, Tag, Total, Variant,
    WriteFunctions,
};
use super::super::tree::{Node, Place, Table};
use super::super::values::{self};
use super::computed;
use super::generated::{self, Computed, Generator};
use super::layers::Layers;
use super::names::Names;
use super::tag::{self, Draft, Reach};
use super::{Build, duration_or, flag_or, shared, value};
use super::{expr, instrument, item, recipe, write};
use crate::calendar::Calendar;
use crate::dlt645::Version;
use crate::tag::{DeviceId, TagId, UnitId};

mod variant;

use variant::{Shown, Written};

/// The gateway's own device, where machines have a class.
const CAPACITY: &str = "capacity";

/// All devices and all tags, as far as they can be built.
pub(super) fn build(
    build: &mut Build,
    root: &Table,
    window: Option<Duration>,
    calendar: Option<&Calendar>,
) -> Shop {
    let mut out = Devices {
        root,
        window,
        devices: Vec::new(),
        drafts: Vec::new(),
        computed: Computed::default(),
        names: BTreeMap::new(),
        shown: Vec::new(),
    };
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
    out.check_lines(build);
    out.add_classes(build);
    let names = Names::new(&out.devices, out.drafts.iter().map(|draft| &draft.tag));
    let naming: Vec<Table> = out.drafts.iter().map(|draft| draft.naming.clone()).collect();
    let numeric: Vec<_> = out.drafts.iter().map(|draft| draft.numeric.clone()).collect();
    let mut tags: Vec<Tag> = out.drafts.into_iter().map(|draft| draft.tag).collect();
    expr::compile(build, &names, &mut tags, &naming, &numeric);
    recipe::resolve(build, &names, &mut tags, &naming);
    variant::settle(build, &mut tags, &out.shown);
    write::build(build, &names, &out.devices, &mut tags, &naming);
    let steps = computed::build(build, &names, &mut tags, &naming, &out.computed, calendar);
    Shop { devices: out.devices, tags, steps, totals: out.computed.totals }
}

/// All devices, their tags, and what is computed of them.
pub(super) struct Shop {
    pub(super) devices: Vec<Device>,
    pub(super) tags: Vec<Tag>,
    pub(super) steps: Vec<Step>,
    pub(super) totals: Vec<Total>,
}

struct Devices<'a> {
    root: &'a Table,
    /// How long the windows of "aggregate" tags are, if anybody wants them.
    window: Option<Duration>,
    devices: Vec<Device>,
    drafts: Vec<Draft>,
    computed: Computed,
    names: BTreeMap<String, Place>,
    /// The tags that show one of several.
    shown: Vec<Shown>,
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
        let others = variant::written(build, &merged, self.root.table("type"));
        let max_registers = least(&merged, &others, "max_registers", site::MAX_REGISTERS);
        let max_bits = least(&merged, &others, "max_bits", site::MAX_BITS);
        let quirks = self.quirks(build, &merged, fields);
        let timeout = duration_or(&merged, "timeout", site::TIMEOUT);
        let meter = version(&merged);
        let reach = Reach { max_registers, timeout, quirks: &quirks, meter, field: None };
        let first = self.drafts.len();
        let layers = Layers::new(fields, &of_type);
        layers.check_overrides(build);
        let instrument = self.add_tags(build, &layers, reach, id, (&merged, instance));
        let variants = self.add_variants(build, &others, (&merged, &layers), reach, first);
        let protocol = match instrument {
            None => self.protocol(build, instance, &merged, first),
            Some(instrument) => {
                let vars = instrument::vars(build, &instrument, &merged, instance.at);
                Some(DeviceProtocol::Serial(instrument.into(), vars))
            }
        };
        let share = value(fields, "share", values::share).unwrap_or_default();
        let is_commanded = flag_or(self.root.table("commands"), "enabled", false);
        let (drafts, computed) = (&mut self.drafts, &mut self.computed);
        let (device, window) = (id, self.window);
        Generator { build, drafts, computed, device, merged: &merged, share, window, is_commanded }
            .run(first);
        let range = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
        check_count(build, instance, self.drafts.len() - first);
        let line = self.line(build, instance);
        let factory = self.factory(build, instance, &merged, line);
        let (Some(link), Some(unit), Some(protocol)) = (link, unit, protocol) else { return };
        self.devices.push(Device {
            id,
            name: shared(&instance.name),
            title: value(&merged, "title", values::text),
            properties: value(fields, "properties", values::properties).unwrap_or_default(),
            type_name: value(fields, "type", values::text).map(Into::into),
            link,
            unit,
            protocol,
            line,
            factory,
            quirks,
            caller: self.caller(build, instance),
            timeout,
            retries: retries(&merged),
            max_registers,
            max_bits,
            enabled: flag_or(&merged, "enabled", true),
            warmup: duration_or(&merged, "warmup", Duration::ZERO),
            variants,
            tags: range(first)..range(self.drafts.len()),
        });
    }

    /// Whoever talks by itself has a line of its own: nothing tells what it says from an answer, and while a request is
    /// under way nobody hears it.
    fn check_lines(&self, build: &mut Build) {
        let talks = |device: &Device| match &device.protocol {
            DeviceProtocol::Serial(instrument, _) => device.enabled && instrument.mode() != Mode::Poll,
            DeviceProtocol::Modbus | DeviceProtocol::Dlt645(_) => false,
        };
        for device in self.devices.iter().filter(|device| talks(device)) {
            let mut others = self.devices.iter().filter(|other| other.enabled && other.id != device.id);
            let other = others.find(|other| (other.link, &other.caller) == (device.link, &device.caller));
            if let (Some(other), Some(at)) = (other, self.names.get(&*device.name)) {
                let message = format!("it sends by itself, and `{}` is on its line", other.name);
                build.find(Finding::new(*at, message).with_help("give it a link of its own"));
            }
        }
    }

    /// The gateway's own device, that tells the free capacity of classes of machines.
    fn add_classes(&mut self, build: &mut Build) {
        let id = DeviceId(u32::try_from(self.devices.len()).unwrap_or(u32::MAX));
        let index = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
        let first = index(self.drafts.len());
        if !generated::classes(&mut self.drafts, &mut self.computed, id) {
            return;
        }
        if let Some(at) = self.names.get(CAPACITY) {
            let message = format!("`{CAPACITY}` is the device on which the gateway tells free machines");
            build.find(Finding::new(*at, message).with_help("give this device another name"));
        }
        self.devices.push(Device {
            id,
            name: shared(CAPACITY),
            title: None,
            properties: Vec::new(),
            type_name: None,
            link: site::NO_LINK,
            unit: UnitId(0),
            protocol: DeviceProtocol::default(),
            line: None,
            factory: Vec::new(),
            timeout: site::TIMEOUT,
            retries: 0,
            max_registers: site::MAX_REGISTERS,
            max_bits: site::MAX_BITS,
            quirks: Quirks::default(),
            caller: None,
            enabled: true,
            warmup: Duration::ZERO,
            variants: vec![Variant::default()],
            tags: first..index(self.drafts.len()),
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

    /// Adds the tags of a device, and gives the instrument that it is, if it is one.
    fn add_tags(
        &mut self,
        build: &mut Build,
        layers: &Layers<'_>,
        reach: Reach<'_>,
        device: DeviceId,
        (merged, instance): (&Table, &Instance),
    ) -> Option<Instrument> {
        let nodes = layers.tags(build);
        if merged.get("protocol").and_then(Node::text) != Some("serial") {
            for node in nodes {
                self.add_tag(tag::tags(build, layers, node, reach), device);
            }
            return None;
        }
        let instrument = instrument::instrument(build, merged, &nodes, instance.at)?;
        for told in instrument::told(&instrument, merged, &nodes) {
            let reach = Reach { field: Some(told.place), ..reach };
            self.add_tag(tag::tags(build, layers, &told.node, reach), device);
        }
        let is_constant = |node: &&Node| node.table().is_some_and(|tag| tag.get("at").is_none());
        for node in nodes.into_iter().filter(is_constant) {
            self.add_tag(tag::tags(build, layers, node, reach), device);
        }
        Some(instrument)
    }

    fn add_tag(&mut self, drafts: Vec<Draft>, device: DeviceId) {
        for draft in drafts {
            let id = TagId(u32::try_from(self.drafts.len()).unwrap_or(u32::MAX));
            let tag = Tag { id, device, ..draft.tag };
            self.drafts.push(Draft { tag, ..draft });
        }
    }

    /// What a device that is no described instrument speaks; its tags are the drafts from `first` on.
    fn protocol(
        &mut self,
        build: &mut Build,
        instance: &Instance,
        merged: &Table,
        first: usize,
    ) -> Option<DeviceProtocol> {
        match version(merged) {
            Some(_) => self.meter(build, instance, merged, first),
            None => self.modbus(build, instance, merged),
        }
    }

    /// What is said of meters is of no use to it.
    fn modbus(&self, build: &mut Build, instance: &Instance, merged: &Table) -> Option<DeviceProtocol> {
        if merged.get("protocol").and_then(Node::text) == Some("serial") {
            return None; // what is wrong with it has been said
        }
        let quirks = merged.table("quirks");
        let of_meters =
            [merged.get("address"), merged.get("version"), quirks.get("wake"), quirks.get("blocks")];
        for node in of_meters.into_iter().flatten() {
            let finding = Finding::new(node.at, "this is about meters that speak DL/T 645");
            build.find(finding.with_help(format!("write at `{}`: protocol = \"dlt645\"", instance.name)));
        }
        Some(DeviceProtocol::Modbus)
    }

    /// The meter, whose tags are the drafts from `first` on.
    fn meter(
        &mut self,
        build: &mut Build,
        instance: &Instance,
        merged: &Table,
        first: usize,
    ) -> Option<DeviceProtocol> {
        if let Some(node) = merged.get("unit") {
            build.find(Finding::new(node.at, "a meter that speaks DL/T 645 has no `unit`"));
        }
        if merged.get("address").is_none() {
            let finding = Finding::new(instance.at, "a meter that speaks DL/T 645 needs `address`");
            build.find(finding.with_help("write the 12 digits on its plate: address = \"210220003011\""));
        }
        let quirks = merged.table("quirks");
        let wake = value(quirks, "wake", |node| values::integer(node, 0, 8));
        let wake = wake.and_then(|wake| u8::try_from(wake).ok()).unwrap_or(site::WAKE);
        let blocks = flag_or(quirks, "blocks", true);
        let items = item::items(self.drafts.get_mut(first..).unwrap_or_default(), blocks);
        let address = merged.get("address")?;
        let message = |message| Finding::new(address.at, format!("`address`: {message}"));
        let address = values::meter_address(address).map_err(|why| build.find(message(why))).ok()?;
        Some(DeviceProtocol::Dlt645(Meter { address, wake, items }))
    }

    /// Speed and frame of the line for this device.
    fn line(&self, build: &mut Build, instance: &Instance) -> Option<SerialLine> {
        let node = instance.fields.get("serial")?;
        let link = instance.fields.get("link").and_then(Node::text).unwrap_or_default();
        if self.root.table("link").table(link).get("port").is_none() {
            build.find(Finding::new(node.at, "only a device on a serial port has `serial`"));
        }
        values::serial(node).ok()
    }

    /// How the device leaves the factory. One that is not spoken to so may be meant so.
    fn factory(
        &self,
        build: &mut Build,
        instance: &Instance,
        merged: &Table,
        own: Option<SerialLine>,
    ) -> Vec<Factory> {
        let nodes = merged.get("factory").map_or(&[][..], Node::one_or_many);
        let factory: Vec<Factory> = nodes.iter().filter_map(|one| values::factory(one).ok()).collect();
        let link = instance.fields.get("link").and_then(Node::text).unwrap_or_default();
        let of_link = value(self.root.table("link").table(link), "serial", values::serial);
        let is_known = |line: &SerialLine| factory.iter().any(|known| known.line == *line);
        if !factory.is_empty() && own.or(of_link).is_some_and(|line| !is_known(&line)) {
            let texts: Vec<String> = factory.iter().map(ToString::to_string).collect();
            build.remarks.push(format!(
                "device `{}` is spoken to with other settings than it leaves the factory with ({}): fine if it was changed",
                instance.name,
                texts.join(", ")
            ));
        }
        factory
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

/// The version of DL/T 645 that a device speaks; `None`: it speaks Modbus.
fn version(merged: &Table) -> Option<Version> {
    if merged.get("protocol").and_then(Node::text) != Some("dlt645") {
        return None;
    }
    let is_old = merged.get("version").and_then(Node::text) == Some("1997");
    Some(if is_old { Version::V1997 } else { Version::V2007 })
}

/// How often a request without an answer is repeated.
fn retries(merged: &Table) -> u8 {
    let retries = value(merged, "retries", |node| values::integer(node, 0, 10));
    retries.and_then(|retries| u8::try_from(retries).ok()).unwrap_or(site::RETRIES)
}

/// A device has tags, and not too many.
fn check_count(build: &mut Build, instance: &Instance, count: usize) {
    if count == 0 && build.findings.is_empty() {
        let finding = Finding::new(instance.at, format!("device `{}` has no tags", instance.name));
        build.find(finding.with_help("give it a type, or `tags = [{ name = \"…\", at = \"hr:0\" }]`"));
    }
    if count > site::TAGS_MAX {
        let most = site::TAGS_MAX;
        let message =
            format!("device `{}` has more than {most} tags: brokers would refuse its birth", instance.name);
        build.find(
            Finding::new(instance.at, message).with_help("describe it as two devices with the same unit"),
        );
    }
}

/// The least of what a device and the variants of its type take in a request.
fn least(merged: &Table, others: &[Written], key: &str, most: u16) -> u16 {
    let of_others = others.iter().map(|other| bounded(&other.of_type, key, most));
    of_others.fold(bounded(merged, key, most), u16::min)
}

fn bounded(table: &Table, key: &str, most: u16) -> u16 {
    let number = value(table, key, |node| values::integer(node, 1, i64::from(most)));
    number.and_then(|number| u16::try_from(number).ok()).unwrap_or(most)
}
