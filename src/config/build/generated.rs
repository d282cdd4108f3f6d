//! Tags that the gateway makes itself: totals of counters, derived tags, what machines tell.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::finding::Finding;
use super::super::site::{
    AlarmControl, ClassStep, Deadband, Kind, MachineTag, Registers, Report, Scaling, Share, Source, Tag,
    Total, WindowStep, WindowTag,
};
use super::super::tree::{Entry, Node, Place, Table};
use super::super::values;
use super::computed::{Gives, Pending};
use super::tag::Draft;
use super::{Build, shared, value};
use crate::config::site;
use crate::dlt645::Format;
use crate::tag::{DataType, DeviceId, TagId, ValueType};
use crate::unit;

/// Figures of a machine move all the time: they are not reported oftener, unless its device says so.
const FIGURES_EVERY: Duration = Duration::from_secs(60);

/// What is computed of all devices, beside their tags.
#[derive(Debug, Default)]
pub(super) struct Computed {
    pub(super) pending: Vec<Pending>,
    pub(super) totals: Vec<Total>,
}

/// What the gateway makes of all machines of a class, on a device of its own.
const CLASS_TAGS: [&str; 4] = ["machines", "free/now", "free/24h", "free/7d"];

/// What is told of the windows of a number.
const WINDOW_OF_NUMBER: [WindowTag; 5] =
    [WindowTag::Mean, WindowTag::Min, WindowTag::Max, WindowTag::Last, WindowTag::Count];
/// What is told of the windows of a counter.
const WINDOW_OF_COUNTER: [WindowTag; 2] = [WindowTag::Delta, WindowTag::Count];

/// Adds the tags of all classes, `device`'s, to `drafts`; `false`: no machine has a class.
pub(super) fn classes(drafts: &mut Vec<Draft>, computed: &mut Computed, device: DeviceId) -> bool {
    let mut classes: BTreeMap<String, (Place, Vec<DeviceId>, Vec<TagId>)> = BTreeMap::new();
    for one in &computed.pending {
        let Gives::Machine(tags) = &one.gives else { continue };
        let Some(class) = value(&one.table, "class", values::name) else { continue };
        let (_, machines, inputs) = classes.entry(class).or_insert((one.at, Vec::new(), Vec::new()));
        machines.push(one.device);
        inputs.extend(tags.iter().filter(|(what, _)| *what == MachineTag::State).map(|(_, tag)| *tag));
    }
    let has_classes = !classes.is_empty();
    for (class, (at, machines, inputs)) in classes {
        let tags = CLASS_TAGS.map(|name| {
            let tag = Tag {
                unit: unit::find(if name.ends_with('h') || name.ends_with('d') { "h" } else { "1" }),
                report: Report::OnChange { at_most: Some(FIGURES_EVERY), at_least: site::REPORT_AT_LEAST },
                ..made(device, drafts.len(), &format!("{class}/{name}"), ValueType::Double)
            };
            let tag = Tag { share: Share::Summary, ..tag };
            let id = tag.id;
            drafts.push(Draft { tag, naming: Table::default(), numeric: Vec::new() });
            id
        });
        let gives = Gives::Class(ClassStep { machines, tags, inputs });
        computed.pending.push(Pending { device, table: Table::default(), at, gives });
    }
    has_classes
}

/// A tag that the gateway makes.
pub(super) fn made(device: DeviceId, index: usize, name: &str, value_type: ValueType) -> Tag {
    Tag {
        id: TagId(u32::try_from(index).unwrap_or(u32::MAX)),
        device,
        name: shared(name),
        title: None,
        source: Source::Computed,
        value_type,
        kind: Kind::default(),
        unit: None,
        every: None,
        stale_after: None,
        stuck_after: None,
        is_optional: false,
        report: site::REPORT,
        deadband: Deadband::None,
        range: None,
        share: Share::default(),
        made_of: Vec::new(),
        write: None,
    }
}

/// Adds to `drafts`, of which those from `first` on are `device`'s, what is computed of them.
pub(super) struct Generator<'a> {
    pub(super) build: &'a mut Build,
    pub(super) drafts: &'a mut Vec<Draft>,
    pub(super) computed: &'a mut Computed,
    pub(super) device: DeviceId,
    /// The device's keys on top of its type's.
    pub(super) merged: &'a Table,
    /// The share of what does not say.
    pub(super) share: Share,
    /// How long the windows of "aggregate" tags are, if anybody wants them.
    pub(super) window: Option<Duration>,
    /// Whether commands are allowed.
    pub(super) is_commanded: bool,
}

impl Generator<'_> {
    pub(super) fn run(&mut self, first: usize) {
        for index in first..self.drafts.len() {
            self.total(index);
        }
        for entry in &self.merged.table("derived").entries {
            self.derived(entry);
        }
        if let Some(entry) = self.merged.entry("machine") {
            self.machine(entry);
        }
        self.alarms();
        for index in first..self.drafts.len() {
            self.windows(index);
        }
        self.check_names(first);
    }

    /// A tag that is computed.
    fn add(&mut self, name: &str, value_type: ValueType, kind: Kind, share: Share) -> TagId {
        let tag = Tag { kind, share, ..made(self.device, self.drafts.len(), name, value_type) };
        let id = tag.id;
        self.drafts.push(Draft { tag, naming: Table::default(), numeric: Vec::new() });
        id
    }

    fn change(&mut self, id: TagId, change: impl FnOnce(&mut Tag)) {
        if let Some(draft) = self.drafts.get_mut(id.index()) {
            change(&mut draft.tag);
        }
    }

    /// `total/NAME` of a counter.
    fn total(&mut self, index: usize) {
        let Some(draft) = self.drafts.get(index).filter(|draft| draft.tag.kind == Kind::Counter) else {
            return;
        };
        let (of, name, share, unit, report) =
            (draft.tag.id, draft.tag.name.clone(), draft.tag.share, draft.tag.unit, draft.tag.report);
        let written = draft.naming.get("wraps_at").and_then(|node| values::positive(node).ok());
        let wraps_at = match &draft.tag.source {
            Source::Chosen(readers) => {
                let mut ends = readers.iter().map(|id| wraps_at(self.drafts.get(id.index())?, written));
                let first = ends.next().flatten();
                first.filter(|first| ends.all(|other| other == Some(*first)))
            }
            Source::Registers(_) | Source::Constant(_) | Source::Computed | Source::Control(_) => {
                wraps_at(draft, written)
            }
        };
        let max_rate = draft.naming.get("max_rate").and_then(|node| values::rate(node).ok());
        let tag = self.add(&format!("total/{name}"), ValueType::Double, Kind::Counter, share);
        self.change(tag, |tag| (tag.unit, tag.report) = (unit, report));
        self.computed.totals.push(Total { of, tag, wraps_at, max_rate });
    }

    fn derived(&mut self, entry: &Entry) {
        let Some(table) = entry.node.table() else { return };
        let share = value(table, "share", values::share).unwrap_or(self.share);
        let kind = value(table, "kind", values::kind).unwrap_or_default();
        let Some(name) = self.name_of(entry) else { return };
        let tag = self.add(&name, ValueType::Double, kind, share);
        self.change(tag, |tag| {
            tag.title = value(table, "title", values::text);
            tag.unit = value(table, "unit", values::unit);
            tag.range = value(table, "range", values::range);
            tag.report = match kind {
                Kind::Event => Report::Always,
                Kind::Measurement | Kind::Counter | Kind::State | Kind::Info => {
                    value(table, "report", values::report).unwrap_or(tag.report)
                }
            };
            let deadband = value(table, "deadband", values::deadband);
            tag.deadband = deadband.and_then(|deadband| deadband.of(tag.range)).unwrap_or_default();
        });
        let (device, table, at) = (self.device, table.clone(), entry.key_at);
        self.computed.pending.push(Pending { device, table, at, gives: Gives::Derived(tag) });
    }

    /// What a machine tells, as far as it can from what is said of it.
    fn machine(&mut self, entry: &Entry) {
        let Some(table) = entry.node.table() else { return };
        let share = value(table, "share", values::share).unwrap_or(self.share);
        let at_most = match value(self.merged, "report", values::report) {
            Some(Report::OnChange { at_most: Some(at_most), .. }) => at_most,
            Some(Report::Always | Report::OnChange { at_most: None, .. }) | None => FIGURES_EVERY,
        };
        let figure = Report::OnChange { at_most: Some(at_most), at_least: site::REPORT_AT_LEAST };
        let mut tags = Vec::new();
        for what in MachineTag::ALL.into_iter().filter(|what| is_told(*what, table)) {
            let (name, unit) = what.name();
            let (value_type, kind, report) = match what {
                MachineTag::State | MachineTag::Shift => (ValueType::Text, Kind::State, site::REPORT),
                MachineTag::Account => (ValueType::Text, Kind::Event, Report::Always),
                MachineTag::Pieces | MachineTag::Scrap | MachineTag::Good => {
                    (ValueType::Double, Kind::Measurement, site::REPORT)
                }
                MachineTag::Energy
                | MachineTag::EnergyPerPiece
                | MachineTag::Availability
                | MachineTag::Performance
                | MachineTag::Quality
                | MachineTag::Oee
                | MachineTag::Apt
                | MachineTag::Adot
                | MachineTag::Adet
                | MachineTag::Aust
                | MachineTag::Pbt => (ValueType::Double, Kind::Measurement, figure),
            };
            let tag = self.add(name, value_type, kind, share);
            self.change(tag, |tag| {
                tag.report = report;
                tag.unit = unit.and_then(unit::find);
                tag.title = value(table, "title", values::text).filter(|_| what == MachineTag::State);
            });
            tags.push((what, tag));
        }
        let (device, table, at) = (self.device, table.clone(), entry.key_at);
        self.computed.pending.push(Pending { device, table, at, gives: Gives::Machine(tags) });
    }

    /// What a tag was in each window, where its readings may not leave as they are.
    fn windows(&mut self, index: usize) {
        let (Some(length), Some(draft)) = (self.window, self.drafts.get(index)) else { return };
        let (id, name, unit) = (draft.tag.id, draft.tag.name.clone(), draft.tag.unit);
        let is_number = match draft.tag.value_type {
            ValueType::Integer(_) | ValueType::Float | ValueType::Double => true,
            ValueType::Bool | ValueType::Text | ValueType::Time => false,
        };
        let is_total = self.computed.totals.iter().any(|total| total.tag == id);
        if draft.tag.share != Share::Aggregate || !is_number || is_total {
            return;
        }
        let total = self.computed.totals.iter().find(|total| total.of == id);
        let (of, told) = match total {
            Some(total) => (total.tag, &WINDOW_OF_COUNTER[..]),
            None => (id, &WINDOW_OF_NUMBER[..]),
        };
        let named = self.merged.table("derived").entry(&name).or(self.merged.entries.first());
        let at = named.map_or(self.build.whole, |entry| entry.key_at);
        let mut tags = Vec::new();
        for what in told {
            let is_count = *what == WindowTag::Count;
            let value_type = if is_count { ValueType::Integer(DataType::U32) } else { ValueType::Double };
            let name = format!("{name}/{}", what.word());
            let tag = self.add(&name, value_type, Kind::Measurement, Share::Window);
            self.change(tag, |tag| {
                tag.report = Report::Always;
                tag.unit = unit.filter(|_| !is_count);
            });
            tags.push((*what, tag));
        }
        let gives = Gives::Window(WindowStep { of, length, tags });
        self.computed.pending.push(Pending { device: self.device, table: Table::default(), at, gives });
    }

    /// The tags of all alarms, and the one that tells what happens to them.
    fn alarms(&mut self) {
        let alarms: Vec<(&Entry, &Table)> = self
            .merged
            .table("alarm")
            .entries
            .iter()
            .filter_map(|entry| Some((entry, entry.node.table()?)))
            .collect();
        let share_of = |table: &Table| value(table, "share", values::share);
        let own = self.share;
        let shares = alarms.iter().map(|(_, table)| share_of(table).unwrap_or(own));
        // that events leave only where all of the alarms do is said when all is known of them
        let Some(share) = shares.min() else { return };
        let events = self.add("event/alarm", ValueType::Text, Kind::Event, share);
        self.change(events, |tag| tag.report = Report::Always);
        for (entry, table) in alarms {
            let Some(name) = self.name_of(entry) else { continue };
            let share = share_of(table).unwrap_or(own);
            let tag = self.add(&format!("alarm/{name}"), ValueType::Bool, Kind::State, share);
            self.change(tag, |tag| tag.title = value(table, "title", values::text));
            let (device, table, at) = (self.device, table.clone(), entry.key_at);
            let gives = Gives::Alarm { name: shared(&name), tag, events };
            self.computed.pending.push(Pending { device, table, at, gives });
        }
        if self.is_commanded {
            self.controls(share);
        }
    }

    /// The tags by which somebody acknowledges and shelves alarms.
    fn controls(&mut self, share: Share) {
        for control in AlarmControl::ALL {
            let tag = self.add(control.tag_name(), ValueType::Text, Kind::Info, share);
            self.change(tag, |tag| tag.source = Source::Control(control));
        }
    }

    /// The name that stands before an entry, if it can be one.
    fn name_of(&mut self, entry: &Entry) -> Option<String> {
        let node =
            Node { content: super::super::tree::Content::Text(entry.key.clone()), ..entry.node.clone() };
        match values::tag_name(&node) {
            Ok(name) => Some(name),
            Err(message) => {
                self.build.find(Finding::new(entry.key_at, message));
                None
            }
        }
    }

    /// No two tags of a device have one name.
    fn check_names(&mut self, first: usize) {
        let mut names = std::collections::BTreeSet::new();
        let twice = |draft: &&Draft| !names.insert(draft.tag.name.to_lowercase());
        let of_device = self.drafts.get(first..).unwrap_or_default();
        let found: Vec<String> =
            of_device.iter().filter(twice).map(|draft| draft.tag.name.to_string()).collect();
        for name in found {
            let message = format!("two tags would be called `{name}`: one of them is made by the gateway");
            let at = self.merged.entries.first().map_or(self.build.whole, |entry| entry.key_at);
            self.build.find(Finding::new(at, message).with_help("give the other one another name"));
        }
    }
}

/// Whether what is said of a machine makes a figure; what would never have a value has no tag.
fn is_told(what: MachineTag, table: &Table) -> bool {
    let has = |keys: &[&str]| keys.iter().all(|key| table.get(key).is_some());
    match what {
        MachineTag::State
        | MachineTag::Shift
        | MachineTag::Availability
        | MachineTag::Apt
        | MachineTag::Adot
        | MachineTag::Pbt
        | MachineTag::Account => true,
        MachineTag::Adet => has(&["fault"]),
        MachineTag::Aust => has(&["setup"]),
        MachineTag::Pieces => has(&["pieces"]),
        MachineTag::Scrap => has(&["scrap"]),
        MachineTag::Good | MachineTag::Quality => has(&["pieces", "scrap"]),
        MachineTag::Energy => has(&["energy"]),
        MachineTag::EnergyPerPiece => has(&["energy", "pieces"]),
        MachineTag::Performance => has(&["pieces", "cycle"]),
        MachineTag::Oee => has(&["pieces", "scrap", "cycle"]),
    }
}

/// Where the counter that is read as `draft` goes back to 0, in its published unit; `written`: before scaling.
fn wraps_at(draft: &Draft, written: Option<f64>) -> Option<f64> {
    let has = |key: &&str| draft.naming.get(key).is_some();
    if ["ratio", "scale_from", "decimals_from", "unit_from"].iter().any(has) {
        return None; // it varies
    }
    let registers = draft.tag.registers()?;
    let of_type = match registers.digits {
        Some((_, Format::Number(number))) => Some(number.modulus()),
        Some(_) | None => registers.layout.data_type.modulus(),
    };
    // where a type ends says nothing of what an expression makes of it
    modulus(registers, written.or(of_type.filter(|_| !has(&"expr")))?)
}

/// Where the counter in `registers` goes back to 0, in its published unit: at `raw` before scaling.
fn modulus(registers: &Registers, raw: f64) -> Option<f64> {
    let recipe = registers.recipe.as_deref();
    // a range that begins at 0 and goes up is the only one whose end can be told
    let is_shifted = |scaling: &Scaling| scaling.scale < 0.0 || scaling.offset.abs() > 0.0;
    if registers.layout.scaling.as_ref().is_some_and(is_shifted) {
        return None;
    }
    let scale = registers.layout.scaling.map_or(1.0, |scaling| scaling.scale);
    let factor = recipe
        .and_then(|recipe| recipe.conversion)
        .map_or(1.0, |conversion| conversion.factor / conversion.divisor);
    Some((raw * scale * factor).abs())
}
