//! What is computed from tags: derived tags, totals of counters, alarms, machines.

use std::sync::Arc;

use super::{AlarmStep, ClassStep, MachineStep};
use crate::expression::Expression;
use crate::tag::TagId;

/// What is computed when something that it needs has a new sample.
#[derive(Clone, Debug)]
pub enum Step {
    /// A derived tag.
    Derived(Derived),
    /// An alarm.
    Alarm(Box<AlarmStep>),
    /// A machine's state and account.
    Machine(Box<MachineStep>),
    /// The free capacity of a class of machines.
    Class(ClassStep),
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

impl Step {
    /// The tags that it needs.
    #[must_use]
    pub fn inputs(&self) -> &[TagId] {
        match self {
            Step::Derived(derived) => derived.expression.inputs(),
            Step::Alarm(alarm) => &alarm.inputs,
            Step::Machine(machine) => &machine.inputs,
            Step::Class(class) => &class.inputs,
        }
    }

    /// The tags that it alone gives.
    #[must_use]
    pub fn outputs(&self) -> Vec<TagId> {
        match self {
            Step::Derived(derived) => vec![derived.tag],
            Step::Alarm(alarm) => vec![alarm.tag],
            Step::Machine(machine) => machine.tags.iter().map(|(_, tag)| *tag).collect(),
            Step::Class(class) => class.tags.to_vec(),
        }
    }
}
