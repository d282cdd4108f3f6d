//! Who may write what, and what must hold then.

use std::sync::Arc;
use std::time::Duration;

use regex::bytes::Regex;

use super::{Codes, Layout};
use crate::expression::Expression;
use crate::reading::{Value, is_near, whole_of};
use crate::tag::TagId;

/// `max_age` where none is written.
pub const COMMAND_AGE: Duration = Duration::from_secs(10);
/// The longest `max_age`: ids are remembered for twice as long.
pub const COMMAND_AGE_MAX: Duration = Duration::from_secs(3600);
/// `every` of a `write` where none is written.
pub const WRITE_EVERY: Duration = Duration::from_secs(1);
/// The most tags that are read for one interlock: what was read first must still count at the end.
pub const INTERLOCK_READS_MAX: usize = 16;
/// Limits of a `write` lie within this of 0: whole numbers are exact there.
pub const LIMIT_MAX: f64 = 9_007_199_254_740_991.0;

/// `[commands]`: whether anything is written at all, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commands {
    /// `false`: nothing is ever written.
    pub enabled: bool,
    /// A command that is older when it comes, or when it would be sent to the device, is refused.
    pub max_age: Duration,
    /// The uplinks whose commands are obeyed.
    pub uplinks: Vec<Arc<str>>,
    /// What a host may ask of the node.
    pub node_control: NodeControl,
}

/// `node_control`: what a host may ask of the node beside a rebirth, which it always may (Sparkplug 3.0.0, 6.4.21).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeControl {
    /// To read its configuration again.
    pub reload: bool,
    /// To go to the next broker of its list.
    pub next_server: bool,
}

/// `write` of a tag: what may be written to it.
#[derive(Clone, Debug)]
pub struct WritePolicy {
    /// Where it is written.
    pub layout: Layout,
    /// The words that may be written, each by its code; `None`: it takes what the registers hold.
    pub words: Option<Arc<Codes<Arc<str>>>>,
    /// The least; `None`: what the type can hold.
    pub min: Option<f64>,
    /// The most; `None`: what the type can hold.
    pub max: Option<f64>,
    /// Values lie on a grid of this, counted from `min`, else from 0.
    pub step: Option<f64>,
    /// The most that a value may differ from the one that is read right before.
    pub max_change: Option<f64>,
    /// Only these; empty: all.
    pub allow: Vec<Operand>,
    /// Not oftener than this.
    pub every: Duration,
    /// Must hold right before.
    pub interlock: Option<Arc<Interlock>>,
    /// The same command must come twice within this.
    pub arm: Option<Duration>,
    /// What shows that it was done.
    pub readback: Readback,
    /// By which function.
    pub function: WriteBy,
}

/// What shows that a value was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readback {
    /// The device's answer to the write, and nothing else.
    Answer,
    /// The registers that were written.
    Own,
    /// Another tag of the device, which must then have the same value.
    Tag(TagId),
}

/// Which function writes a tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WriteBy {
    /// As the device has it ([`super::Quirks::write`]).
    #[default]
    Device,
    /// 5 or 6: one coil, one register.
    Single,
    /// 15 or 16.
    Multiple,
    /// 22: some bits of one register, the others as they are.
    Mask,
}

/// A condition of tags that are read for it.
#[derive(Clone, Debug)]
pub struct Interlock {
    /// What must be true, in [`crate::expression::Scope::Once`].
    pub condition: Expression,
    /// What is read for it, at most [`INTERLOCK_READS_MAX`]: tags with registers, what others need before them.
    pub reads: Vec<TagId>,
}

/// What a value is compared with.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// A number.
    Number(f64),
    /// A word.
    Word(String),
    /// True or false.
    Flag(bool),
}

/// Is the device what it is taken for? Read from time to time, and right before each write.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The private tag as which it is read.
    pub tag: TagId,
    /// What is read.
    pub layout: Layout,
    /// What it must be.
    pub test: ProbeTest,
}

/// What a probe must show.
#[derive(Clone, Debug)]
pub enum ProbeTest {
    /// A number from the first to the second, both included.
    Between(f64, f64),
    /// Exactly this.
    Equals(Operand),
    /// A text in which this is found.
    Matches(Regex),
}

/// Numbers with a fraction that differ by less than this part of them are the same: decimals are not exact. Whole numbers
/// are the same or not: the next serial number is another one.
pub const SAME: f64 = 1e-9;

impl Operand {
    /// Whether a value is this one.
    #[must_use]
    pub fn is(&self, value: &Value) -> bool {
        match (self, value) {
            (Operand::Flag(wanted), Value::Bool(value)) => wanted == value,
            (Operand::Word(wanted), Value::Text(value)) => **wanted == **value,
            (Operand::Number(wanted), value) => match value.whole() {
                Some(value) => whole_of(*wanted) == Some(value),
                None => value.decimal().is_some_and(|value| is_near(value, *wanted, SAME)),
            },
            (Operand::Flag(_) | Operand::Word(_), _) => false,
        }
    }
}

impl ProbeTest {
    /// Whether what was read is what the device must show.
    #[must_use]
    pub fn holds(&self, value: &Value) -> bool {
        match self {
            ProbeTest::Between(low, high) => {
                value.decimal().is_some_and(|value| (*low..=*high).contains(&value))
            }
            ProbeTest::Equals(operand) => operand.is(value),
            ProbeTest::Matches(pattern) => {
                matches!(value, Value::Text(text) if pattern.is_match(text.as_bytes()))
            }
        }
    }
}

impl std::fmt::Display for Operand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Operand::Number(number) => number.fmt(f),
            Operand::Word(word) => write!(f, "'{word}'"),
            Operand::Flag(flag) => flag.fmt(f),
        }
    }
}
