//! `variants`: types of which a device is one, told apart by their probes.
//!
//! The tags are those of the device's own type. One that a variant reads otherwise is read in each of the ways, by a hidden
//! tag a way, and shows the one of the variant that the device is.

use super::super::super::finding::Finding;
use super::super::super::site::{
    Deadband, Kind, Layout, Probe, ProbeTest, Registers, Report, Share, Source, Tag, Variant,
};
use super::super::super::tree::{Node, Place, Table};
use super::super::super::{expand, values};
use super::super::item::{self, Digits};
use super::super::layers::Layers;
use super::super::place::{Located, order, place, scaling};
use super::super::tag::{self, Draft, Reach};
use super::super::{Build, generated, shared, value, write};
use super::Devices;
use crate::config::site;
use crate::dlt645::Version;
use crate::tag::{DeviceId, TagId, ValueType};

/// What `naming` still says of a tag whose values are those of another.
const OF_THE_SHOWN: [&str; 4] = ["write", "wraps_at", "max_rate", "share"];

/// One of the types that a device may be of, as written.
#[derive(Debug)]
pub(super) struct Written {
    /// Where it is named.
    pub(super) at: Place,
    /// Its name.
    pub(super) name: String,
    /// Everything that it says.
    pub(super) of_type: Table,
}

/// The variants that `merged` names; none where nothing is to tell it from them.
pub(super) fn written(build: &mut Build, merged: &Table, types: &Table) -> Vec<Written> {
    let mut all = Vec::new();
    let is_unprobed = merged.get("probe").and_then(Node::text) == Some("none");
    let node = merged.get("variants").filter(|_| !is_unprobed);
    for one in node.map_or(&[][..], Node::one_or_many) {
        let Ok(name) = values::name(one) else { continue }; // the schema has said so
        match expand::resolve_type(types, &name) {
            Some(of_type) => all.push(Written { at: one.at, name, of_type }),
            None => build.find(expand::unknown("type", &name, one.at, types)),
        }
    }
    all
}

/// How the tags of a device are read if it is one of its variants.
struct Readings {
    /// Where the variant is named.
    at: Place,
    /// Its name.
    name: String,
    /// Its tags.
    tags: Vec<Draft>,
}

/// A tag that shows one of several, and where they are named.
#[derive(Debug)]
pub(super) struct Shown {
    tag: TagId,
    at: Place,
}

impl Devices<'_> {
    /// What the device may be, its own type first; its tags are the drafts from `first` on.
    pub(super) fn add_variants(
        &mut self,
        build: &mut Build,
        others: &[Written],
        (merged, layers): (&Table, &Layers<'_>),
        reach: Reach<'_>,
        first: usize,
    ) -> Vec<Variant> {
        let device = DeviceId(u32::try_from(self.devices.len()).unwrap_or(u32::MAX));
        let own = value(layers.device, "type", values::text).unwrap_or_else(|| "device".to_owned());
        let mut readings = Vec::new();
        for other in others {
            let layers = Layers::new(layers.device, &other.of_type);
            let protocol = other.of_type.get("protocol").and_then(Node::text);
            if protocol != merged.get("protocol").and_then(Node::text) || protocol == Some("serial") {
                let finding = Finding::new(other.at, format!("`{}` speaks another protocol", other.name));
                build.find(finding.with_help("variants are Modbus, or DL/T 645, all of them"));
                continue;
            }
            let nodes = layers.tags(build);
            let tags = nodes.into_iter().flat_map(|node| tag::tags(build, &layers, node, reach)).collect();
            readings.push(Readings { at: other.at, name: other.name.clone(), tags });
        }
        self.shown.extend(merge(build, &mut self.drafts, first, &own, &readings));
        let mut variants = Vec::new();
        let own_type = (own.as_str(), layers.of_type, merged.get("probe"));
        let other_types =
            others.iter().map(|other| (&*other.name, &other.of_type, other.of_type.get("probe")));
        for (name, of_type, probe) in [own_type].into_iter().chain(other_types) {
            let probes = probes(build, layers.device, of_type, probe, reach.meter);
            let is_told_apart = probe.is_some_and(|probe| probe.text().is_none());
            if let Some(other) = others.first().filter(|_| !is_told_apart) {
                let finding = Finding::new(
                    other.at,
                    format!("`{name}` has no probe: nothing tells it from its variants"),
                );
                build.find(
                    finding.with_help("write what shows it: probe = { at = \"hr:0\", between = [1, 9] }"),
                );
            }
            let number = variants.iter().map(|variant: &Variant| variant.probes.len()).sum::<usize>() + 1;
            let probes = self.add_probes(probes, device, number);
            variants.push(Variant { type_name: shared(name), probes });
        }
        variants
    }

    /// What a device must show is read as tags of its own, which nobody else can name and which never leave.
    fn add_probes(
        &mut self,
        probes: Vec<(Layout, Option<Digits>, ProbeTest)>,
        device: DeviceId,
        from: usize,
    ) -> Vec<Probe> {
        let add = |(number, (layout, digits, test)): (usize, (Layout, Option<Digits>, ProbeTest))| {
            let name = format!("(probe {number})");
            let registers = Registers { layout, recipe: None, digits, field: None };
            let tag = Tag {
                source: Source::Registers(registers),
                every: Some(site::PROBE_EVERY),
                share: Share::Private,
                ..generated::made(device, self.drafts.len(), &name, layout.value_type())
            };
            let probe = Probe { tag: tag.id, layout, test };
            self.drafts.push(Draft::plain(tag));
            probe
        };
        (from..).zip(probes).map(add).collect()
    }
}

/// Gives the tags of `drafts` from `first` on, which are those of one device, the ways in which its variants read them.
fn merge(
    build: &mut Build,
    drafts: &mut Vec<Draft>,
    first: usize,
    own: &str,
    variants: &[Readings],
) -> Vec<Shown> {
    let Some(at) = variants.first().map(|variant| variant.at) else { return Vec::new() };
    let count = drafts.len();
    let mut shown = Vec::new();
    variants
        .iter()
        .for_each(|variant| check_names(build, drafts.get(first..count).unwrap_or_default(), variant));
    for index in first..count {
        let Some(draft) = drafts.get(index) else { continue };
        let of =
            |variant: &&Readings| variant.tags.iter().find(|tag| tag.tag.name == draft.tag.name).cloned();
        let ways: Vec<(&str, Draft)> =
            variants.iter().filter_map(|variant| Some((&*variant.name, of(&variant)?))).collect();
        let write = |draft: &Draft| draft.naming.get("write").map(|node| node.at);
        if let Some((name, _)) = ways.iter().find(|(_, way)| write(way) != write(draft)) {
            let message =
                format!("`{}` may be written otherwise in `{name}` than in `{own}`", draft.tag.name);
            build.find(Finding::new(at, message).with_help("write `write` in an override of the device"));
        }
        if ways.len() < variants.len() || ways.iter().all(|(_, way)| is_read_alike(way, draft)) {
            continue;
        }
        if ways.iter().any(|(_, way)| way.tag.registers().is_none()) || draft.tag.registers().is_none() {
            let message = format!(
                "`{}` has a value of its own in one of the variants and another in the others",
                draft.tag.name
            );
            build.find(Finding::new(at, message).with_help("a constant must be the same in all of them"));
            continue;
        }
        if let Some((name, _)) = ways.iter().find(|(_, way)| way.tag.unit != draft.tag.unit) {
            let message = format!("`{}` has another unit in `{name}` than in `{own}`", draft.tag.name);
            build.find(Finding::new(at, message).with_help("write `publish_unit` in both of them"));
        }
        let draft = draft.clone();
        let mut readers: Vec<(Draft, TagId)> = Vec::new();
        let mut chosen = Vec::new();
        for (name, way) in [(own, draft.clone())].into_iter().chain(ways) {
            let known = readers.iter().find(|(known, _)| is_read_alike(known, &way)).map(|(_, id)| *id);
            chosen.push(known.unwrap_or_else(|| {
                let id = TagId(u32::try_from(drafts.len()).unwrap_or(u32::MAX));
                drafts.push(hidden(name, &draft.tag, way.clone(), id));
                readers.push((way, id));
                id
            }));
        }
        if let Some(draft) = drafts.get_mut(index) {
            draft.tag.source = Source::Chosen(chosen);
            draft.naming.entries.retain(|entry| OF_THE_SHOWN.contains(&&*entry.key));
            draft.numeric.clear();
            shown.push(Shown { tag: draft.tag.id, at });
        }
    }
    shown
}

/// Variants have the same tags.
fn check_names(build: &mut Build, own: &[Draft], variant: &Readings) {
    let names = |drafts: &[Draft]| drafts.iter().map(|draft| draft.tag.name.clone()).collect::<Vec<_>>();
    let (own, others) = (names(own), names(&variant.tags));
    let missing = own.iter().find(|name| !others.contains(name));
    let more = others.iter().find(|name| !own.contains(name));
    let message = match (missing, more) {
        (Some(name), _) => format!("variant `{}` has no tag `{name}`", variant.name),
        (None, Some(name)) => {
            format!("variant `{}` has a tag `{name}` that the type itself has not", variant.name)
        }
        (None, None) => return,
    };
    let finding = Finding::new(variant.at, message);
    build.find(
        finding.with_help("variants differ in where and how their tags are read, not in which they have"),
    );
}

/// The tag that reads another in one of the ways: nobody else can name it, and it never leaves.
fn hidden(way: &str, shown: &Tag, draft: Draft, id: TagId) -> Draft {
    let tag = Tag {
        id,
        device: shown.device,
        name: shared(&format!("({way}) {}", shown.name)),
        title: None,
        kind: Kind::Measurement,
        stale_after: None,
        stuck_after: None,
        is_optional: false,
        report: Report::Always,
        deadband: Deadband::None,
        share: Share::Private,
        write: None,
        ..draft.tag
    };
    let mut naming = draft.naming;
    naming.entries.retain(|entry| !OF_THE_SHOWN.contains(&&*entry.key));
    Draft { tag, naming, numeric: draft.numeric }
}

/// Whether two tags are read from the same place in the same way.
fn is_read_alike(one: &Draft, other: &Draft) -> bool {
    let (Some(a), Some(b)) = (one.tag.registers(), other.tag.registers()) else {
        let shown = |draft: &Draft| match &draft.tag.source {
            Source::Constant(value) => Some(value.to_string()),
            Source::Registers(_) | Source::Computed | Source::Chosen(_) | Source::Control(_) => None,
        };
        return shown(one).is_some() && shown(one) == shown(other);
    };
    let recipes = match (a.recipe.as_deref(), b.recipe.as_deref()) {
        (None, None) => true,
        (Some(a), Some(b)) => {
            a.bad_values == b.bad_values
                && a.words == b.words
                && a.conversion == b.conversion
                && a.colours == b.colours
        }
        (Some(_), None) | (None, Some(_)) => false,
    };
    let said = |draft: &Draft| -> Vec<(String, Vec<String>)> {
        let entries = draft.naming.entries.iter().filter(|entry| !OF_THE_SHOWN.contains(&&*entry.key));
        let texts = |node: &Node| {
            node.one_or_many().iter().map(|one| one.text().unwrap_or_default().to_owned()).collect()
        };
        entries.map(|entry| (entry.key.clone(), texts(&entry.node))).collect()
    };
    a.layout == b.layout
        && a.digits == b.digits
        && one.tag.every == other.tag.every
        && recipes
        && said(one) == said(other)
}

/// What an expression makes of registers is known now: a tag has one type of value, however it is read.
pub(super) fn settle(build: &mut Build, tags: &mut [Tag], shown: &[Shown]) {
    for Shown { tag, at } in shown {
        let Some(of) = tags.get(tag.index()) else { continue };
        let Source::Chosen(readers) = &of.source else { continue };
        let types: Vec<ValueType> =
            readers.iter().filter_map(|id| tags.get(id.index())).map(|tag| tag.value_type).collect();
        let Some(value_type) = types.first().copied() else { continue };
        if types.iter().any(|other| *other != value_type) {
            let message = format!(
                "`{}` is of another type in some of the variants: every variant must publish the same",
                of.name
            );
            build.find(
                Finding::new(*at, message).with_help("give it a `scale` in all of them, and it is a double"),
            );
        }
        if let Some(tag) = tags.get_mut(tag.index()) {
            tag.value_type = value_type;
        }
    }
}

/// The probes of a device: of what is said for its tags only the order is theirs too.
fn probes(
    build: &mut Build,
    device: &Table,
    of_type: &Table,
    node: Option<&Node>,
    meter: Option<Version>,
) -> Vec<(Layout, Option<Digits>, ProbeTest)> {
    let layers = Layers { device, of_type, defaults: Table::default(), overrides: Vec::new() };
    write::probes(build, node, |build, node, table| {
        if let Some(version) = meter {
            let (layout, digits) = item::place(build, &layers, node, table, version)?;
            return Some((layout, Some(digits)));
        }
        let Located { model, span, data_type } = place(build, &layers, node, table)?;
        let (order, scaling) =
            (order(build, &layers, table, span, data_type), scaling(build, &layers, table, data_type));
        Some((Layout { span, model, data_type, order, scaling }, None))
    })
}
