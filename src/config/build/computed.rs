//! What is computed from tags, and in which order; `derived`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::finding::Finding;
use super::super::site::{ClassStep, Derived, MachineTag, Step, Tag, Total, WindowStep};
use super::super::tree::{Node, Place, Table};
use super::super::values::codes;
use super::Build;
use super::generated::Computed;
use super::names::Names;
use super::sharing;
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
    /// The tags that it gives.
    pub(super) gives: Gives,
}

/// What is computed.
#[derive(Clone, Debug)]
pub(super) enum Gives {
    /// A derived tag.
    Derived(TagId),
    /// Whether an alarm is active, and what happens to it.
    Alarm {
        /// The alarm.
        name: Arc<str>,
        /// True while it is active.
        tag: TagId,
        /// What happens to alarms of its device.
        events: TagId,
    },
    /// What a machine tells.
    Machine(Vec<(MachineTag, TagId)>),
    /// The free capacity of a class of machines.
    Class(ClassStep),
    /// What a tag was in each window.
    Window(WindowStep),
}

/// Compiles all of it, and puts it in the order in which it is computed.
pub(super) fn build(
    build: &mut Build,
    names: &Names,
    tags: &mut [Tag],
    naming: &[Table],
    computed: &Computed,
    calendar: Option<&Calendar>,
) -> Vec<Step> {
    let pending = &computed.pending;
    let derived = (0..).zip(pending).filter_map(|(index, one)| match &one.gives {
        Gives::Derived(tag) => Some((*tag, index)),
        Gives::Alarm { .. } | Gives::Machine(_) | Gives::Class(_) | Gives::Window(_) => None,
    });
    let derived = derived.collect();
    let totals = &computed.totals;
    let (done, busy) = (BTreeMap::new(), BTreeSet::new());
    let mut compiler = Compiler { build, names, tags, pending, totals, calendar, derived, done, busy };
    let step = |one: &Pending| {
        let step = match &one.gives {
            Gives::Derived(tag) => Step::Derived(compiler.derived(*tag, 0)?),
            Gives::Alarm { name, tag, events } => {
                Step::Alarm(Box::new(compiler.alarm(one, name, *tag, *events)?))
            }
            Gives::Machine(tags) => Step::Machine(Box::new(compiler.machine(one, tags)?)),
            Gives::Class(class) => Step::Class(class.clone()),
            Gives::Window(window) => Step::Window(compiler.window(one, window)?),
        };
        Some((one.at, step))
    };
    let steps: Vec<(Place, Step)> = pending.iter().filter_map(step).collect();
    let steps = without_echoes(build, steps);
    let mut steps = ordered(build, steps);
    sharing::spread(tags, naming, totals, pending, &mut steps);
    steps
}

/// Compiles expressions, whose kinds depend on those of the derived tags in them.
pub(super) struct Compiler<'a> {
    pub(super) build: &'a mut Build,
    pub(super) names: &'a Names,
    pub(super) tags: &'a mut [Tag],
    /// The counters whose totals are kept.
    pub(super) totals: &'a [Total],
    /// When work is planned at the place.
    pub(super) calendar: Option<&'a Calendar>,
    pending: &'a [Pending],
    derived: BTreeMap<TagId, usize>,
    done: BTreeMap<TagId, Option<Derived>>,
    busy: BTreeSet<TagId>,
}

impl Compiler<'_> {
    /// The expression in `node`, if it can be one.
    pub(super) fn compile(
        &mut self,
        key: &str,
        node: &Node,
        device: DeviceId,
        depth: u32,
    ) -> Option<Expression> {
        let text = node.text()?;
        let compiled = Expression::compile(text, Scope::Live, &mut |name| {
            let tag = self.names.find(device, name)?;
            Ok(Known { tag, kind: self.kind(tag, depth)? })
        });
        match compiled {
            Ok(expression) => Some(expression),
            Err(fault) => {
                self.build.find(finding(key, node, text, fault));
                None
            }
        }
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
        match self.tags.get(tag.index()).map(|tag| tag.value_type) {
            Some(ValueType::Bool) => Ok(Kind::Flag),
            Some(ValueType::Text) => Ok(Kind::Word),
            Some(ValueType::Time) => Err("a time cannot be used here".to_owned()),
            Some(ValueType::Integer(_) | ValueType::Float | ValueType::Double) | None => Ok(Kind::Number),
        }
    }

    /// The windows of a tag, whose type is known only now.
    fn window(&mut self, one: &Pending, window: &WindowStep) -> Option<WindowStep> {
        if self.kind(window.of, 0).ok()? == Kind::Number {
            return Some(window.clone());
        }
        let name = self.tags.get(window.of.index()).map_or("", |tag| &*tag.name);
        let finding =
            Finding::new(one.at, format!("`{name}` is \"aggregate\", and has no mean: it is no number"));
        self.build.find(finding.with_help("give it another `share`"));
        None
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
        let expression = self.compile("expr", node, one.device, depth)?;
        let words = one
            .table
            .get("values")
            .and_then(Node::table)
            .map(|table| codes::codes(table, DataType::I64, codes::word).map_err(|why| (table, why)));
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
                let wanted =
                    written.map_or_else(|| "a number for `values`".to_owned(), |word| format!("\"{word}\""));
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
    // what happens to the alarms of a device is given by all of them
    let mut missing: BTreeMap<TagId, usize> = BTreeMap::new();
    for tag in waiting.iter().flat_map(|(_, step)| given(step)) {
        *missing.entry(tag).or_default() += 1;
    }
    let mut ordered = Vec::new();
    loop {
        let is_missing = |tag: &TagId| missing.get(tag).is_some_and(|count| *count > 0);
        let is_ready = |step: &Step| !step.inputs().iter().any(is_missing);
        let (ready, rest): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(_, step)| is_ready(step));
        if ready.is_empty() {
            for (at, _) in rest {
                build.find(Finding::new(at, "it depends on itself: what it needs is computed from it"));
            }
            return ordered;
        }
        for (_, step) in ready {
            for tag in given(&step) {
                missing.entry(tag).and_modify(|count| *count = count.saturating_sub(1));
            }
            ordered.push(step);
        }
        waiting = rest;
    }
}

/// All tags that a step gives, alone or with others.
fn given(step: &Step) -> Vec<TagId> {
    let mut given = step.outputs();
    if let Step::Alarm(alarm) = step {
        given.push(alarm.events);
    }
    given
}

/// Takes out alarms that watch what is told of alarms, with a finding: they would raise themselves, or each other, for ever.
fn without_echoes(build: &mut Build, steps: Vec<(Place, Step)>) -> Vec<(Place, Step)> {
    let mut told: BTreeSet<TagId> = steps.iter().flat_map(|(_, step)| given(step)).collect();
    for (_, step) in &steps {
        step.outputs().iter().for_each(|tag| _ = told.remove(tag));
    }
    loop {
        let before = told.len();
        for (_, step) in &steps {
            if !matches!(step, Step::Alarm(_)) && step.inputs().iter().any(|tag| told.contains(tag)) {
                told.extend(step.outputs());
            }
        }
        if told.len() == before {
            break;
        }
    }
    let is_echo =
        |step: &Step| matches!(step, Step::Alarm(_)) && step.inputs().iter().any(|tag| told.contains(tag));
    let (echoes, rest): (Vec<_>, Vec<_>) = steps.into_iter().partition(|(_, step)| is_echo(step));
    for (at, _) in echoes {
        let finding = Finding::new(at, "an alarm cannot watch `event/alarm`, nor what is computed from it");
        build.find(finding.with_help("watch the alarm that it tells of: when = \"alarm/NAME\""));
    }
    rest
}
