//! Tags that the gateway makes itself: totals of counters, derived tags.

use super::super::finding::Finding;
use super::super::site::{Deadband, Kind, Registers, Report, Scaling, Share, Source, Tag, Total};
use super::super::tree::{Entry, Node, Table};
use super::super::values;
use super::computed::Pending;
use super::tag::Draft;
use super::{Build, shared, value};
use crate::config::site;
use crate::tag::{DeviceId, TagId, ValueType};

/// What is computed of all devices, beside their tags.
#[derive(Debug, Default)]
pub(super) struct Computed {
    pub(super) pending: Vec<Pending>,
    pub(super) totals: Vec<Total>,
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
}

impl Generator<'_> {
    pub(super) fn run(&mut self, first: usize) {
        for index in first..self.drafts.len() {
            self.total(index);
        }
        for entry in &self.merged.table("derived").entries {
            self.derived(entry);
        }
        self.check_names(first);
    }

    /// A tag that is computed.
    fn add(&mut self, name: &str, value_type: ValueType, kind: Kind, share: Share) -> TagId {
        let id = TagId(u32::try_from(self.drafts.len()).unwrap_or(u32::MAX));
        let tag = Tag {
            id,
            device: self.device,
            name: shared(name),
            title: None,
            source: Source::Computed,
            value_type,
            kind,
            unit: None,
            every: None,
            stale_after: None,
            stuck_after: None,
            is_optional: false,
            report: site::REPORT,
            deadband: Deadband::None,
            range: None,
            share,
            write: None,
        };
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
        let wraps_at = draft.naming.get("wraps_at").and_then(|node| values::positive(node).ok());
        let has = |key: &&str| draft.naming.get(key).is_some();
        let is_varying = ["ratio", "scale_from", "decimals_from", "unit_from"].iter().any(has);
        let is_computed = has(&"expr");
        let registers = draft.tag.registers().filter(|_| !is_varying);
        let wraps_at = registers.and_then(|registers| {
            // where a type ends says nothing of what an expression makes of it
            let of_type = registers.layout.data_type.modulus().filter(|_| !is_computed);
            modulus(registers, wraps_at.or(of_type)?)
        });
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
        self.computed.pending.push(Pending { device, table, at, tag });
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
