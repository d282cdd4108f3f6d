//! `machine`: what its conditions are, what counts its pieces, and what its meter says.

use super::super::finding::Finding;
use super::super::site::{Amount, Count, CountFrom, CountKind, MachineRule, MachineStep, MachineTag, Tag};
use super::super::tree::{Node, Table};
use super::super::values::{self, NumberOrTag};
use super::computed::{Compiler, Pending, said};
use super::{calendar, value};
use crate::expression::{Expression, Kind};
use crate::tag::{DeviceId, TagId, ValueType};
use crate::unit::{self, Conversion, Unit};

/// The ways to count, as they are written.
const COUNTS: [(&str, CountKind); 3] =
    [("counter", CountKind::Counter), ("rising", CountKind::Rising), ("event", CountKind::Event)];

impl Compiler<'_> {
    /// The machine that `one` describes; its findings are told where it cannot be one.
    pub(super) fn machine(&mut self, one: &Pending, tags: &[(MachineTag, TagId)]) -> Option<MachineStep> {
        let table = &one.table;
        let [fault, setup, running, idle] =
            ["fault", "setup", "running", "idle"].map(|key| self.condition(key, table, one.device));
        if table.get("running").is_none() {
            let finding = Finding::new(one.at, "a machine needs `running`");
            self.build.find(finding.with_help("write when it runs: running = \"power > 2.0 for 5s\""));
        }
        let pieces = self.count("pieces", table, one.device);
        let scrap = self.count("scrap", table, one.device);
        let energy = self.energy(table, one.device);
        let product = self.named("product", table, one.device);
        let cycle = value(table, "cycle", values::cycle);
        let cycle_tag = match &cycle {
            Some(NumberOrTag::Tag(_)) => self.cycle_tag(table, one.device),
            Some(NumberOrTag::Number(_)) | None => None,
        };
        let calendar = calendar::planned(self.build, table, self.calendar?.clone());
        let rule = MachineRule {
            has_fault: fault.is_some(),
            has_setup: setup.is_some(),
            has_idle: idle.is_some(),
            pieces: pieces.map(|(count, _)| count),
            scrap: scrap.map(|(count, _)| count),
            has_energy: energy.is_some(),
            has_product: product.is_some(),
            cycle: cycle.map(|cycle| amount(&cycle)),
            class: value(table, "class", values::name).map(Into::into),
            calendar,
        };
        let running = running?;
        let mut step = MachineStep {
            device: one.device,
            rule,
            fault,
            setup,
            running,
            idle,
            pieces: pieces.map(|(_, from)| from),
            scrap: scrap.map(|(_, from)| from),
            energy,
            product,
            cycle: cycle_tag,
            tags: tags.to_vec(),
            inputs: Vec::new(),
        };
        step.inputs = inputs(&step);
        Some(step)
    }

    /// The condition under `key`, if there is one and it can be.
    fn condition(&mut self, key: &str, table: &Table, device: DeviceId) -> Option<Expression> {
        let node = table.get(key)?;
        let expression = self.compile(key, node, device, 0)?;
        if expression.kind() != Kind::Flag {
            let message = format!("`{key}` must be a condition, and is {}", said(expression.kind()));
            self.build.find(Finding::new(node.at, message).with_help("compare it: power > 2.0"));
            return None;
        }
        Some(expression)
    }

    /// The tag that `node` names.
    pub(super) fn found(&mut self, key: &str, node: &Node, device: DeviceId) -> Option<TagId> {
        match self.names.find(device, node.text()?) {
            Ok(tag) => Some(tag),
            Err(message) => {
                self.build.find(Finding::new(node.at, format!("`{key}`: {message}")));
                None
            }
        }
    }

    /// The tag that stands under `key`.
    pub(super) fn named(&mut self, key: &str, table: &Table, device: DeviceId) -> Option<TagId> {
        self.found(key, table.get(key)?, device)
    }

    pub(super) fn type_of(&self, tag: TagId) -> Option<ValueType> {
        self.tags.get(tag.index()).map(|tag| tag.value_type)
    }

    /// How `key` is counted, and from what.
    fn count(&mut self, key: &str, table: &Table, device: DeviceId) -> Option<(Count, CountFrom)> {
        let node = table.get(key)?;
        let counts = node.table()?;
        let mut ways = COUNTS.iter().filter(|(way, _)| counts.get(way).is_some());
        let (Some((way, kind)), None) = (ways.next(), ways.next()) else {
            let finding =
                Finding::new(node.at, format!("`{key}` needs one of `counter`, `rising` and `event`"));
            self.build.find(finding.with_help(format!("write {key} = {{ counter = \"shots\" }}")));
            return None;
        };
        let of = counts.get(way)?;
        let tag = self.found(way, of, device)?;
        let tag = match kind {
            CountKind::Counter => self.counter(way, of, tag)?,
            CountKind::Rising if self.type_of(tag) != Some(ValueType::Bool) => {
                let message = "`rising` needs a tag that is true or false";
                self.build.find(Finding::new(of.at, message));
                return None;
            }
            CountKind::Rising | CountKind::Event => tag,
        };
        let each = value(counts, "each", values::each);
        let from_tag = match &each {
            Some(NumberOrTag::Tag(_)) => Some(self.number_tag("each", counts, device)?),
            Some(NumberOrTag::Number(_)) | None => None,
        };
        let each = each.map_or(Amount::Number(1.0), |each| amount(&each));
        Some((Count { kind: *kind, each }, CountFrom { tag, each: from_tag }))
    }

    /// The counter that a tag is, or whose total it is.
    fn counter(&mut self, key: &str, node: &Node, tag: TagId) -> Option<TagId> {
        let found = self.totals.iter().find(|total| total.of == tag || total.tag == tag);
        if found.is_none() {
            let message = format!("`{key}` needs a counter");
            let finding = Finding::new(node.at, message);
            self.build.find(finding.with_help("write at that tag: kind = \"counter\""));
        }
        found.map(|total| total.of)
    }

    pub(super) fn number_tag(&mut self, key: &str, table: &Table, device: DeviceId) -> Option<TagId> {
        let node = table.get(key)?;
        let tag = self.found(key, node, device)?;
        match self.type_of(tag)? {
            ValueType::Integer(_) | ValueType::Float | ValueType::Double => Some(tag),
            ValueType::Bool | ValueType::Text | ValueType::Time => {
                self.build.find(Finding::new(node.at, format!("`{key}` needs a tag that is a number")));
                None
            }
        }
    }

    /// The counter of the meter, and from its unit to kWh.
    fn energy(&mut self, table: &Table, device: DeviceId) -> Option<(TagId, Conversion)> {
        let node = table.get("energy")?;
        let tag = self.found("energy", node, device)?;
        let tag = self.counter("energy", node, tag)?;
        Some((tag, self.conversion("energy", node, tag, "kWh")?))
    }

    /// The tag with the planned time of a count, and from its unit to s; without a unit it is in s.
    fn cycle_tag(&mut self, table: &Table, device: DeviceId) -> Option<(TagId, Conversion)> {
        let node = table.get("cycle")?;
        let tag = self.number_tag("cycle", table, device)?;
        let has_unit = self.tags.get(tag.index()).is_some_and(|tag| tag.unit.is_some());
        let same = Conversion { factor: 1.0, divisor: 1.0, offset: 0.0 };
        Some((tag, if has_unit { self.conversion("cycle", node, tag, "s")? } else { same }))
    }

    /// From the unit of a tag to another one.
    fn conversion(&mut self, key: &str, node: &Node, tag: TagId, wanted: &str) -> Option<Conversion> {
        let of_tag: Option<&Unit> = self.tags.get(tag.index()).and_then(|tag: &Tag| tag.unit);
        let found = of_tag.zip(unit::find(wanted)).and_then(|(from, to)| from.to(to));
        if found.is_none() {
            let got = of_tag.map_or("none", |unit| unit.written);
            let message =
                format!("`{key}` needs a tag whose unit can be told in {wanted}; its unit is {got}");
            self.build.find(
                Finding::new(node.at, message).with_help(format!("write at that tag: unit = \"{wanted}\"")),
            );
        }
        found
    }
}

const fn amount(written: &NumberOrTag) -> Amount {
    match written {
        NumberOrTag::Number(number) => Amount::Number(*number),
        NumberOrTag::Tag(_) => Amount::Tag,
    }
}

/// The tags that a machine needs, each once.
fn inputs(step: &MachineStep) -> Vec<TagId> {
    let conditions = [step.fault.as_ref(), step.setup.as_ref(), Some(&step.running), step.idle.as_ref()];
    let counts = [step.pieces, step.scrap].into_iter().flatten();
    let others = [step.energy.map(|(tag, _)| tag), step.product, step.cycle.map(|(tag, _)| tag)];
    let mut inputs: Vec<TagId> =
        conditions.into_iter().flatten().flat_map(|condition| condition.inputs().to_vec()).collect();
    inputs.extend(counts.flat_map(|from| [Some(from.tag), from.each]).chain(others).flatten());
    inputs.sort_unstable();
    inputs.dedup();
    inputs
}
