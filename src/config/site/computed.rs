//! What is computed from tags: derived tags, totals of counters, alarms, machines, windows.

use std::sync::Arc;
use std::time::Duration;

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
    /// What a tag was in each window of time.
    Window(WindowStep),
}

/// What a tag was in each window of time.
#[derive(Clone, Debug)]
pub struct WindowStep {
    /// The tag; of a counter its total.
    pub of: TagId,
    /// How long a window is.
    pub length: Duration,
    /// The tags that tell it.
    pub tags: Vec<(WindowTag, TagId)>,
}

/// What is told of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowTag {
    /// The mean, each value weighted by how long it held.
    Mean,
    /// The least value.
    Min,
    /// The greatest value.
    Max,
    /// The last value.
    Last,
    /// What a counter rose by.
    Delta,
    /// How many samples came in it.
    Count,
}

impl WindowTag {
    /// The end of the tag's name.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            WindowTag::Mean => "mean",
            WindowTag::Min => "min",
            WindowTag::Max => "max",
            WindowTag::Last => "last",
            WindowTag::Delta => "delta",
            WindowTag::Count => "count",
        }
    }
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
            Step::Window(window) => std::slice::from_ref(&window.of),
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
            Step::Window(window) => window.tags.iter().map(|(_, tag)| *tag).collect(),
        }
    }
}
