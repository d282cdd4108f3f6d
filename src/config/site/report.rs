//! When a tag's readings are reported, and which changes are too small for it.

use std::time::Duration;

/// When a tag's reading is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// Each poll.
    Always,
    /// When it has changed, and again after `at_least`. A change of quality is reported at once.
    OnChange {
        /// Changes are not reported oftener.
        at_most: Option<Duration>,
        /// An unchanged value is repeated after this.
        at_least: Duration,
    },
}

/// The largest change of a number that is not reported. What is no number is reported when it differs.
///
/// A width that is not above 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Deadband {
    /// Each change is reported.
    #[default]
    None,
    /// In the tag's unit, from the value reported last; "% of range" comes as this.
    Absolute(f64),
    /// A fraction of the value reported last: 0.01 is 1 %.
    OfValue(f64),
    /// In the tag's unit: a straight line between two readings that were reported passes each sample between them no farther
    /// off than this.
    SwingingDoor(f64),
}
