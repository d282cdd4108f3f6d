//! `machine`: what says its state, what it makes and uses, when it is planned to work.

use super::super::finding::Finding;
use super::super::site::{Amount, Count, CountKind, CountTags, Machine, MachineRule};
use super::super::tree::{Node, Table};
use super::super::values;
use super::computed::{Compiler, Pending};
use super::{calendar, value};
use crate::expression::{Expression, Kind, Scope};
use crate::tag::{TagId, ValueType};
use crate::unit;

/// The machine of `one`; its tags are `tags`.
pub(super) fn build(compiler: &mut Compiler<'_>, one: &Pending, tags: &[TagId]) -> Option<Machine> {
    let table = &one.table;
    let condition = |compiler: &mut Compiler<'_>, key: &str| -> Option<Expression> {
        compiler.expression(key, table.get(key)?, one.device, Scope::Live, Some(Kind::Flag))
    };
    if table.get("running").is_none() {
        let finding = Finding::new(one.at, "a machine needs `running`");
        compiler.build.find(finding.with_help("write when it runs: running = \"power/active > 2.0 for 5s\""));
    }
    let [fault, setup, running, idle] =
        ["fault", "setup", "running", "idle"].map(|key| condition(compiler, key));
    let (pieces, piece_tags) = count(compiler, one, "pieces").unzip();
    let (scrap, scrap_tags) = count(compiler, one, "scrap").unzip();
    let energy = energy(compiler, one);
    let product = compiler.named("product", table, one.device);
    let (cycle, cycle_tag) = cycle(compiler, one).unzip();
    let calendar = calendar::of_machine(compiler.build, table, &compiler.calendar)?;
    let rule = MachineRule {
        has_fault: fault.is_some(),
        has_setup: setup.is_some(),
        has_idle: idle.is_some(),
        pieces,
        scrap,
        has_energy: energy.is_some(),
        has_product: product.is_some(),
        cycle,
        class: value(table, "class", values::name).map(Into::into),
        calendar,
    };
    Some(Machine {
        device: one.device,
        rule,
        fault,
        setup,
        running: running?,
        idle,
        pieces: piece_tags,
        scrap: scrap_tags,
        energy,
        product,
        cycle: cycle_tag.flatten(),
        tags: tags.to_vec(),
    })
}

/// `pieces` or `scrap`.
fn count(compiler: &mut Compiler<'_>, one: &Pending, key: &str) -> Option<(Count, CountTags)> {
    let table = one.table.get(key)?.table()?;
    let kinds = [("counter", CountKind::Counter), ("rising", CountKind::Rising), ("event", CountKind::Event)];
    let given: Vec<(&str, CountKind)> = kinds.into_iter().filter(|(word, _)| table.get(word).is_some()).collect();
    let [(word, kind)] = given.as_slice() else {
        let finding = Finding::new(one.table.get(key)?.at, format!("`{key}` needs one of counter, rising and event"));
        compiler.build.find(finding.with_help("write what counts: { counter = \"shots\" }"));
        return None;
    };
    let named = compiler.named(word, table, one.device)?;
    let source = match kind {
        CountKind::Counter => compiler.total_of(named),
        CountKind::Rising | CountKind::Event => named,
    };
    let is_bool = compiler.tags.get(named.index()).is_some_and(|tag| tag.value_type == ValueType::Bool);
    let message = match kind {
        CountKind::Counter if source == named => Some("is no counter: its tag needs kind = \"counter\""),
        CountKind::Rising if !is_bool => Some("is no bool: only those rise"),
        CountKind::Counter | CountKind::Rising | CountKind::Event => None,
    };
    if let Some(message) = message {
        let name = table.get(word).and_then(Node::text).unwrap_or_default();
        compiler.build.find(Finding::new(table.get(word)?.at, format!("`{name}` {message}")));
    }
    let each_tag = each_tag(compiler, one, table);
    let each = match each_tag {
        Some(_) => Amount::Tag,
        None => Amount::Number(value(table, "each", values::positive).unwrap_or(1.0)),
    };
    Some((Count { kind: *kind, each }, CountTags { source, each: each_tag }))
}

fn each_tag(compiler: &mut Compiler<'_>, one: &Pending, table: &Table) -> Option<TagId> {
    table.get("each").and_then(Node::text)?;
    compiler.named("each", table, one.device)
}

/// The meter of the machine: the total of a counter of energy, in kWh.
fn energy(compiler: &mut Compiler<'_>, one: &Pending) -> Option<TagId> {
    let named = compiler.named("energy", &one.table, one.device)?;
    let total = compiler.total_of(named);
    let unit = compiler.tags.get(named.index()).and_then(|tag| tag.unit);
    let kwh = unit::find("kWh").filter(|kwh| unit.is_some_and(|unit| unit.to(kwh).is_some()));
    let message = match (total == named, kwh) {
        (true, _) => "`energy`: its tag needs kind = \"counter\"",
        (false, None) => "`energy`: its tag needs a unit of energy, as unit = \"kWh\"",
        (false, Some(_)) => return Some(total),
    };
    let at = one.table.get("energy").map_or(one.at, |node| node.at);
    compiler.build.find(Finding::new(at, message));
    None
}

/// The planned time of one count: a duration, or a tag in seconds.
fn cycle(compiler: &mut Compiler<'_>, one: &Pending) -> Option<(Amount, Option<TagId>)> {
    let node = one.table.get("cycle")?;
    if let Ok(cycle) = values::interval(node) {
        return Some((Amount::Number(cycle.as_secs_f64()), None));
    }
    Some((Amount::Tag, Some(compiler.named("cycle", &one.table, one.device)?)))
}
