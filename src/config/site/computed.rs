//! What is computed from tags: derived tags, totals of counters, alarms, machines, means that leave in place of readings.

use std::sync::Arc;
use std::time::Duration;

use super::{AlarmRule, Limit, MachineRule, Test};
use crate::expression::Expression;
use crate::tag::{DeviceId, TagId};

/// What is computed when something that it needs has a new sample.
#[derive(Clone, Debug)]
pub enum Step {
    /// A derived tag.
    Derived(Derived),
    /// An alarm.
    Alarm(Box<Alarm>),
    /// A machine.
    Machine(Box<Machine>),
}

/// A tag whose value is that of an expression.
#[derive(Clone, Debug)]
pub struct Derived {
    /// Which.
    pub tag: TagId,
    /// Its value.
    pub expression: Expression,
    /// The word for each number that the expression gives.
    pub words: Option<Arc<super::Codes<Arc<str>>>>,
    /// Numbers are rounded to whole ones.
    pub is_whole: bool,
}

/// An alarm, and where it is told.
#[derive(Clone, Debug)]
pub struct Alarm {
    /// Its name.
    pub name: Arc<str>,
    /// True while it stands.
    pub tag: TagId,
    /// What happens to it, as text.
    pub events: TagId,
    /// What it looks at.
    pub when: When,
    /// When it stands.
    pub rule: AlarmRule,
}

/// What an alarm looks at.
#[derive(Clone, Debug)]
pub enum When {
    /// A tag.
    Tag(TagId),
    /// A whole condition.
    Condition(Expression),
}

/// The counter whose total a tag is.
#[derive(Clone, Copy, Debug)]
pub struct Total {
    /// The counter.
    pub of: TagId,
    /// Its total.
    pub tag: TagId,
    /// It goes back to 0 at this, in its own unit.
    pub wraps_at: Option<f64>,
    /// It cannot go faster, in its unit a second.
    pub max_rate: Option<f64>,
}

/// What is told of a tag in place of its readings, a window after the other.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    /// Of which.
    pub of: TagId,
    /// The window.
    pub window: Duration,
    /// Where it is told.
    pub tags: SummaryTags,
}

/// The tags of a summary.
#[derive(Clone, Copy, Debug)]
pub enum SummaryTags {
    /// Of a quantity: time-weighted mean, least, most, last, and how many samples.
    Quantity([TagId; 5]),
    /// Of a counter: by how much it went up.
    Delta(TagId),
}

/// The names of what is told of a quantity, behind its own.
pub const SUMMARY_NAMES: [&str; 5] = ["mean", "min", "max", "last", "count"];

/// A machine: what says its state, what it makes and uses, and where that is told.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The device that it is of.
    pub device: DeviceId,
    /// What the state and the account are made of.
    pub rule: MachineRule,
    /// When it has failed.
    pub fault: Option<Expression>,
    /// When it is being set up.
    pub setup: Option<Expression>,
    /// When it runs.
    pub running: Expression,
    /// When it stands idle; else it has stopped.
    pub idle: Option<Expression>,
    /// What counts pieces.
    pub pieces: Option<CountTags>,
    /// What counts pieces that are no good.
    pub scrap: Option<CountTags>,
    /// The total of the meter, in kWh.
    pub energy: Option<TagId>,
    /// What is made.
    pub product: Option<TagId>,
    /// The planned time of one count, in seconds, where a tag has it.
    pub cycle: Option<TagId>,
    /// Where it is told, in the order of [`MACHINE_TAGS`].
    pub tags: Vec<TagId>,
}

/// The tags of a count.
#[derive(Clone, Copy, Debug)]
pub struct CountTags {
    /// The total of a counter, a bool, or what comes with each piece.
    pub source: TagId,
    /// How many pieces one count is, where a tag has it.
    pub each: Option<TagId>,
}

/// What is told of a machine, below `machine/`; the unit, where it is a number.
pub const MACHINE_TAGS: [(&str, Option<&str>); 16] = [
    ("state", None),
    ("shift", None),
    ("pieces", Some("piece")),
    ("scrap", Some("piece")),
    ("good", Some("piece")),
    ("kwh_per_piece", Some("kWh")),
    ("energy", Some("kWh")),
    ("availability", Some("1")),
    ("performance", Some("1")),
    ("quality", Some("1")),
    ("oee", Some("1")),
    ("apt", Some("s")),
    ("adot", Some("s")),
    ("adet", Some("s")),
    ("aust", Some("s")),
    ("pbt", Some("s")),
];

impl Machine {
    /// The tags that it needs, each once.
    #[must_use]
    pub fn inputs(&self) -> Vec<TagId> {
        let conditions = [self.fault.as_ref(), self.setup.as_ref(), Some(&self.running), self.idle.as_ref()];
        let mut inputs: Vec<TagId> =
            conditions.into_iter().flatten().flat_map(Expression::inputs).copied().collect();
        for count in [self.pieces, self.scrap].into_iter().flatten() {
            inputs.push(count.source);
            inputs.extend(count.each);
        }
        inputs.extend([self.energy, self.product, self.cycle].into_iter().flatten());
        inputs.sort();
        inputs.dedup();
        inputs
    }
}

impl AlarmRule {
    /// The tag that has its limit.
    #[must_use]
    pub const fn limit_tag(&self) -> Option<TagId> {
        match self.test {
            Test::Above { limit: Limit::Tag(tag), .. } | Test::Below { limit: Limit::Tag(tag), .. } => Some(tag),
            Test::Above { .. } | Test::Below { .. } | Test::Equals(_) | Test::Holds => None,
            Test::Rate { .. } | Test::Silent { .. } => None,
        }
    }
}

impl Step {
    /// The tags that it needs.
    #[must_use]
    pub fn inputs(&self) -> Vec<TagId> {
        match self {
            Step::Derived(derived) => derived.expression.inputs().to_vec(),
            Step::Alarm(alarm) => {
                let mut inputs = match &alarm.when {
                    When::Tag(tag) => vec![*tag],
                    When::Condition(expression) => expression.inputs().to_vec(),
                };
                inputs.extend(alarm.rule.limit_tag());
                inputs
            }
            Step::Machine(machine) => machine.inputs(),
        }
    }

    /// The tags that it gives.
    #[must_use]
    pub fn outputs(&self) -> Vec<TagId> {
        match self {
            Step::Derived(derived) => vec![derived.tag],
            Step::Alarm(alarm) => vec![alarm.tag, alarm.events],
            Step::Machine(machine) => machine.tags.clone(),
        }
    }
}
