//! When an alarm is raised and cleared, and how urgent it is.

use std::time::Duration;

use super::Operand;
use crate::tag::TagId;

/// One alarm.
#[derive(Clone, Debug, PartialEq)]
pub struct AlarmRule {
    /// The test must hold for so long without a break before the alarm is raised (ISA-18.2, on-delay).
    pub delay: Duration,
    /// It must not hold for so long without a break before the alarm is cleared (ISA-18.2, off-delay).
    pub clear_delay: Duration,
    /// An alarm that has come and gone stays until it is acknowledged.
    pub latch: bool,
    /// How urgent it is.
    pub severity: Severity,
    /// What raises it.
    pub test: Test,
}

/// How urgent an alarm is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// `low`
    Low,
    /// `medium`
    #[default]
    Medium,
    /// `high`
    High,
    /// `critical`
    Critical,
}

/// What raises an alarm.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// The value is above the limit.
    Above {
        /// Beyond it the alarm is raised.
        limit: Limit,
        /// It is over when the value is this far, or farther, below the limit; at least 0.
        hysteresis: f64,
    },
    /// The value is below the limit.
    Below {
        /// Beyond it the alarm is raised.
        limit: Limit,
        /// It is over when the value is this far, or farther, above the limit; at least 0.
        hysteresis: f64,
    },
    /// The value is this.
    Equals(Operand),
    /// A condition holds: its value is true.
    Holds,
    /// The value changes fast, up or down.
    Rate {
        /// By more than this, in the tag's unit.
        above: f64,
        /// In so long; above 0.
        per: Duration,
    },
    /// No value that is not bad has come for so long.
    Silent {
        /// Counted from the last one, or from the start.
        after: Duration,
    },
}

/// What a value must not pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// In the tag's unit.
    Number(f64),
    /// The value of another tag.
    Tag(TagId),
}
