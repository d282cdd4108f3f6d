//! What is computed from tags: derived tags, totals of counters.

use std::sync::Arc;

use crate::expression::Expression;
use crate::tag::TagId;

/// What is computed when something that it needs has a new sample.
#[derive(Clone, Debug)]
pub enum Step {
    /// A derived tag.
    Derived(Derived),
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
        }
    }

    /// The tag that it gives.
    #[must_use]
    pub const fn output(&self) -> TagId {
        match self {
            Step::Derived(derived) => derived.tag,
        }
    }
}
