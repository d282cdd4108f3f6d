//! `derived`, `alarm`, `machine`: what is computed from tags, and in which order.

use std::collections::{BTreeMap, BTreeSet};

use super::super::finding::Finding;
use super::super::site::{Alarm, Derived, Step, Tag, Total, When};
use super::super::tree::{Node, Place, Table};
use super::super::values::{self, codes};
use super::generated::Computed;
use super::names::Names;
use super::{Build, alarm, machine, value};
use crate::calendar::Calendar;
use crate::expression::{Expression, Fault, Kind, Known, Scope};
use crate::tag::{DataType, DeviceId, TagId, ValueType};

/// Expressions that use each other's tags are looked into no deeper.
const DEPTH_MAX: u32 = 64;

/// Something to compute whose tags have been made.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    /// Whose.
    pub(super) device: DeviceId,
    /// What stands under its name.
    pub(super) table: Table,
    /// Where its name stands.
    pub(super) at: Place,
    /// What it is.
    pub(super) what: What,
}

/// What is computed.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// A derived tag.
    Derived(TagId),
    /// An alarm: its name, its tag, the tag of its device's alarm events.
    Alarm(String, TagId, TagId),
    /// A machine: its tags, in the order of [`super::super::site::MACHINE_TAGS`].
    Machine(Vec<TagId>),
}

/// Compiles all of it, and puts it in the order in which it is computed.
pub(super) fn build(
    build: &mut Build,
    names: &Names,
    tags: &mut [Tag],
    calendar: Calendar,
    computed: &Computed,
) -> Vec<Step> {
    let (pending, totals) = (&computed.pending, &computed.totals);
    let derived = pending.iter().enumerate().filter_map(|(index, one)| match one.what {
        What::Derived(tag) => Some((tag, index)),
        What::Alarm(..) | What::Machine(_) => None,
    });
    let derived: BTreeMap<TagId, usize> = derived.collect();
    let mut compiler = Compiler { build, names, tags, calendar, totals, pending, derived, done: BTreeMap::new(), busy: BTreeSet::new() };
    let mut steps: Vec<(Place, Step)> = Vec::new();
    for one in pending {
        let step = match &one.what {
            What::Derived(tag) => compiler.derived(*tag, 0).map(Step::Derived),
            What::Alarm(name, tag, events) => compiler.alarm(one, name, *tag, *events),
            What::Machine(tags) => machine::build(&mut compiler, one, tags).map(|machine| Step::Machine(Box::new(machine))),
        };
        steps.extend(step.map(|step| (one.at, step)));
    }
    ordered(build, steps)
}

/// Compiles expressions, whose kinds depend on those of the derived tags in them.
pub(super) struct Compiler<'a> {
    pub(super) build: &'a mut Build,
    names: &'a Names,
    pub(super) tags: &'a mut [Tag],
    pub(super) calendar: Calendar,
    totals: &'a [Total],
    pending: &'a [Pending],
    derived: BTreeMap<TagId, usize>,
    done: BTreeMap<TagId, Option<Derived>>,
    busy: BTreeSet<TagId>,
}

impl Compiler<'_> {
    /// The expression in `node`, if it can be one and is of the kind that is `wanted`.
    pub(super) fn expression(
        &mut self,
        key: &str,
        node: &Node,
        device: DeviceId,
        scope: Scope,
        wanted: Option<Kind>,
    ) -> Option<Expression> {
        self.compile(key, node, device, scope, wanted, 0)
    }

    fn compile(
        &mut self,
        key: &str,
        node: &Node,
        device: DeviceId,
        scope: Scope,
        wanted: Option<Kind>,
        depth: u32,
    ) -> Option<Expression> {
        let text = node.text()?;
        let compiled = Expression::compile(text, scope, &mut |name| {
            let tag = self.names.find(device, name)?;
            Ok(Known { tag, kind: self.kind(tag, depth)? })
        });
        let found = match compiled {
            Ok(expression) if wanted.is_none_or(|wanted| wanted == expression.kind()) => return Some(expression),
            Ok(expression) => {
                let (is, wanted) = (said(expression.kind()), wanted.map_or("", said));
                Finding::new(node.at, format!("`{key}`: this is {is}, and {wanted} is wanted"))
            }
            Err(fault) => finding(key, node, text, fault),
        };
        self.build.find(found);
        None
    }

    /// What a tag is in an expression.
    fn kind(&mut self, tag: TagId, depth: u32) -> Result<Kind, String> {
        if self.derived.contains_key(&tag) {
            if depth >= DEPTH_MAX {
                return Err(format!("derived tags that use each other more than {DEPTH_MAX} deep"));
            }
            if self.busy.contains(&tag) {
                let name = self.tags.get(tag.index()).map_or("", |tag| &*tag.name);
                return Err(format!("`{name}` would depend on itself"));
            }
            self.derived(tag, depth + 1);
        }
        Ok(match self.tags.get(tag.index()).map(|tag| tag.value_type) {
            Some(ValueType::Bool) => Kind::Flag,
            Some(ValueType::Text) => Kind::Word,
            Some(ValueType::Integer(_) | ValueType::Float | ValueType::Double) | None => Kind::Number,
        })
    }

    /// The derived tag; its type is that of its expression, unless it says one.
    fn derived(&mut self, tag: TagId, depth: u32) -> Option<Derived> {
        if let Some(done) = self.done.get(&tag) {
            return done.clone();
        }
        let one = self.derived.get(&tag).and_then(|index| self.pending.get(*index))?;
        self.busy.insert(tag);
        let made = self.make(one, tag, depth);
        self.busy.remove(&tag);
        self.done.insert(tag, made.clone());
        made
    }

    fn make(&mut self, one: &Pending, tag: TagId, depth: u32) -> Option<Derived> {
        let Some(node) = one.table.get("expr") else {
            let finding = Finding::new(one.at, "a derived tag needs `expr`");
            self.build.find(finding.with_help("write what it is: expr = \"voltage * current / 1000\""));
            return None;
        };
        let expression = self.compile("expr", node, one.device, Scope::Live, None, depth)?;
        let words = one.table.get("values").and_then(Node::table).map(|table| {
            codes::codes(table, DataType::I64, codes::word).map_err(|why| (table, why))
        });
        let words = match words.transpose() {
            Ok(words) => words,
            Err((_, why)) => {
                let at = one.table.get("values").map_or(one.at, |node| node.at);
                self.build.find(Finding::new(at, format!("`values`: {why}")));
                return None;
            }
        };
        let written = one.table.get("type").and_then(Node::text);
        let (value_type, is_whole) = match (expression.kind(), written, words.is_some()) {
            (Kind::Number, None, true) => (ValueType::Text, true),
            (Kind::Number, None | Some("f64"), false) => (ValueType::Double, false),
            (Kind::Number, Some("i64"), false) => (ValueType::Integer(DataType::I64), true),
            (Kind::Flag, None | Some("bool"), false) => (ValueType::Bool, false),
            (Kind::Word, None | Some("string"), false) => (ValueType::Text, false),
            (kind, written, _) => {
                let at = one.table.get("type").map_or(node.at, |node| node.at);
                let wanted = written.map_or_else(|| "a number for `values`".to_owned(), |word| format!("\"{word}\""));
                let message = format!("the expression is {}, and {wanted} is wanted", said(kind));
                self.build.find(Finding::new(at, message));
                return None;
            }
        };
        let of = self.tags.get_mut(tag.index())?;
        of.value_type = value_type;
        let is_number = expression.kind() == Kind::Number && words.is_none();
        if !is_number {
            (of.range, of.unit) = (None, None);
        }
        Some(Derived { tag, expression, words: words.map(Into::into), is_whole })
    }

    fn alarm(&mut self, one: &Pending, name: &str, tag: TagId, events: TagId) -> Option<Step> {
        let Some(node) = one.table.get("when") else {
            let finding = Finding::new(one.at, "an alarm needs `when`");
            self.build.find(finding.with_help("write what it looks at: when = \"zone1/temperature\", above = 320"));
            return None;
        };
        let expression = self.expression("when", node, one.device, Scope::Live, None)?;
        let kind = expression.kind();
        let limit = |compiler: &mut Self, node: &Node| {
            let name = node.text()?;
            match compiler.names.find(one.device, name) {
                Ok(tag) => Some(tag),
                Err(message) => {
                    compiler.build.find(Finding::new(node.at, message));
                    None
                }
            }
        };
        let limits: BTreeMap<String, TagId> = ["above", "below"]
            .into_iter()
            .filter_map(|key| Some((key.to_owned(), limit(self, one.table.get(key)?)?)))
            .collect();
        let rule = alarm::rule(self.build, one, kind, expression.is_tag().is_some(), &limits)?;
        let when = expression.is_tag().map_or(When::Condition(expression), When::Tag);
        Some(Step::Alarm(Box::new(Alarm { name: name.into(), tag, events, when, rule })))
    }

    /// The total of a counter; of what is none the tag itself.
    pub(super) fn total_of(&self, tag: TagId) -> TagId {
        self.totals.iter().find(|total| total.of == tag).map_or(tag, |total| total.tag)
    }

    /// The tag that `key` of `table` names, if it has one.
    pub(super) fn named(&mut self, key: &str, table: &Table, device: DeviceId) -> Option<TagId> {
        let node = table.get(key)?;
        let name = value(table, key, values::named_tag)?;
        match self.names.find(device, &name) {
            Ok(tag) => Some(tag),
            Err(message) => {
                self.build.find(Finding::new(node.at, format!("`{key}`: {message}")));
                None
            }
        }
    }
}

/// A kind in words.
pub(super) const fn said(kind: Kind) -> &'static str {
    match kind {
        Kind::Number => "a number",
        Kind::Flag => "true or false",
        Kind::Word => "a word",
    }
}

/// A fault of an expression, at its place in the text where the text stands in the file as it is.
pub(super) fn finding(key: &str, node: &Node, text: &str, fault: Fault) -> Finding {
    let mut at = node.at;
    if at.end - at.start == text.len() + 2 {
        at = Place { start: at.start + 1 + fault.range.start, end: at.start + 1 + fault.range.end, ..at };
    }
    let finding = Finding::new(at, format!("`{key}`: {}", fault.message));
    fault.help.into_iter().fold(finding, Finding::with_help)
}

/// What gives a tag stands before what needs it; where that goes round, it is a finding.
fn ordered(build: &mut Build, mut waiting: Vec<(Place, Step)>) -> Vec<Step> {
    let mut missing: BTreeSet<TagId> = waiting.iter().flat_map(|(_, step)| step.outputs()).collect();
    let mut ordered = Vec::new();
    loop {
        let is_ready = |step: &Step| step.inputs().iter().all(|tag| !missing.contains(tag));
        let (ready, rest): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(_, step)| is_ready(step));
        if ready.is_empty() {
            for (at, _) in rest {
                build.find(Finding::new(at, "it depends on itself: what it needs is computed from it"));
            }
            return ordered;
        }
        for (_, step) in ready {
            step.outputs().iter().for_each(|tag| {
                missing.remove(tag);
            });
            ordered.push(step);
        }
        waiting = rest;
    }
}
