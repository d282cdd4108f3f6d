//! The compiled form: three trees, one for each kind, so that no evaluation asks for a kind again.
//!
//! An `Err` is why there is no value: arithmetic without a finite result, or a memory that has not seen enough.

use std::cmp::Ordering;
use std::sync::Arc;

use super::memory::State;
use super::{Inputs, Kind};
use crate::reading::{Quality, Value};
use crate::tag::TagId;

/// Decimals are equal when they differ by this share of the greater one at most.
const EQUAL_WITHIN: f64 = 1e-9;

/// What the leaves of a tree look at.
#[derive(Debug)]
pub(super) struct View<'a, I> {
    pub(super) inputs: &'a I,
    pub(super) states: &'a [State],
}

/// Arithmetic of two numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Math {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// How two numbers compare.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Order {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A number.
#[derive(Clone, Debug)]
pub(super) enum Number {
    Constant(f64),
    Tag(TagId),
    Raw,
    Register(u16),
    /// What the cell of this index has found.
    Memory(usize),
    Negative(Box<Number>),
    Absolute(Box<Number>),
    Math(Math, Box<(Number, Number)>),
    /// Rounded to a multiple of 1 / the factor.
    Rounded(Box<Number>, f64),
    Clamped(Box<[Number; 3]>),
    Least(Box<[Number]>),
    Greatest(Box<[Number]>),
    If(Box<(Flag, Number, Number)>),
}

/// True or false.
#[derive(Clone, Debug)]
pub(super) enum Flag {
    Constant(bool),
    Tag(TagId),
    Raw,
    Memory(usize),
    Not(Box<Flag>),
    And(Box<(Flag, Flag)>),
    Or(Box<(Flag, Flag)>),
    Compared(Order, Box<(Number, Number)>),
    /// Whether two flags are the same, as `bool` wants it.
    Flags(bool, Box<(Flag, Flag)>),
    /// Whether two words are the same, as `bool` wants it.
    Words(bool, Box<(Word, Word)>),
    /// The bit whose worth is the factor.
    Bit(Box<Number>, f64),
    If(Box<(Flag, Flag, Flag)>),
}

/// A text.
#[derive(Clone, Debug)]
pub(super) enum Word {
    Constant(Arc<str>),
    Tag(TagId),
    Raw,
    Memory(usize),
    If(Box<(Flag, Word, Word)>),
}

/// A tree of some kind.
#[derive(Clone, Debug)]
pub(super) enum Tree {
    Number(Number),
    Flag(Flag),
    Word(Word),
}

fn finite(value: f64) -> Result<f64, Quality> {
    if value.is_finite() { Ok(value) } else { Err(Quality::BadSensorFailure) }
}

/// Exactly for integers; for decimals, which are not exact, within a billionth of the greater one.
pub(super) fn is_equal(a: f64, b: f64) -> bool {
    if a.partial_cmp(&b) == Some(Ordering::Equal) {
        return true;
    }
    let are_integers = a.trunc().total_cmp(&a).is_eq() && b.trunc().total_cmp(&b).is_eq();
    !are_integers && (a - b).abs() <= EQUAL_WITHIN * a.abs().max(b.abs())
}

impl Order {
    pub(super) fn holds(self, a: f64, b: f64) -> bool {
        match self {
            Order::Equal => is_equal(a, b),
            Order::Unequal => !is_equal(a, b),
            Order::Less => a < b,
            Order::LessOrEqual => a <= b,
            Order::Greater => a > b,
            Order::GreaterOrEqual => a >= b,
        }
    }
}

impl Math {
    pub(super) fn of(self, a: f64, b: f64) -> f64 {
        match self {
            Math::Add => a + b,
            Math::Subtract => a - b,
            Math::Multiply => a * b,
            Math::Divide => a / b,
            Math::Remainder => a % b,
        }
    }
}

/// `value` at a multiple of 1 / `factor`; what is too large to have decimals stays.
fn rounded(value: f64, factor: f64) -> f64 {
    let scaled = value * factor;
    if scaled.abs() < 9.0e15 { scaled.round() / factor } else { value }
}

/// The bit of an integer, in two's complement; of a number with decimals there is none.
fn has_bit(value: f64, worth: f64) -> Result<bool, Quality> {
    if value.fract().abs() > 0.0 || value.abs() > 9_007_199_254_740_992.0 {
        return Err(Quality::BadSensorFailure);
    }
    Ok((value / worth).floor().rem_euclid(2.0) >= 1.0)
}

impl Number {
    pub(super) fn of<I: Inputs>(&self, view: &View<'_, I>) -> Result<f64, Quality> {
        match self {
            Number::Constant(value) => Ok(*value),
            Number::Tag(tag) => number(view.inputs.sample(*tag).value),
            Number::Raw => number(view.inputs.raw()),
            Number::Register(index) => {
                view.inputs.word(*index).map(f64::from).ok_or(Quality::BadNoCommunication)
            }
            Number::Memory(index) => {
                view.states.get(*index).map_or(Err(Quality::UncertainInitial), State::number)
            }
            Number::Negative(of) => Ok(-of.of(view)?),
            Number::Absolute(of) => Ok(of.of(view)?.abs()),
            Number::Math(math, sides) => finite(math.of(sides.0.of(view)?, sides.1.of(view)?)),
            Number::Rounded(of, factor) => Ok(rounded(of.of(view)?, *factor)),
            Number::Clamped(parts) => {
                let [value, low, high] = parts.as_ref();
                Ok(value.of(view)?.max(low.of(view)?).min(high.of(view)?))
            }
            Number::Least(all) => fold(all, view, f64::INFINITY, f64::min),
            Number::Greatest(all) => fold(all, view, f64::NEG_INFINITY, f64::max),
            Number::If(parts) => if parts.0.of(view)? { &parts.1 } else { &parts.2 }.of(view),
        }
    }
}

fn fold<I: Inputs>(
    all: &[Number],
    view: &View<'_, I>,
    first: f64,
    by: impl Fn(f64, f64) -> f64,
) -> Result<f64, Quality> {
    all.iter().try_fold(first, |so_far, next| Ok(by(so_far, next.of(view)?)))
}

fn number(value: Option<&Value>) -> Result<f64, Quality> {
    finite(value.and_then(Value::number).ok_or(Quality::BadNoCommunication)?)
}

impl Flag {
    pub(super) fn of<I: Inputs>(&self, view: &View<'_, I>) -> Result<bool, Quality> {
        match self {
            Flag::Constant(value) => Ok(*value),
            Flag::Tag(tag) => flag(view.inputs.sample(*tag).value),
            Flag::Raw => flag(view.inputs.raw()),
            Flag::Memory(index) => {
                view.states.get(*index).map_or(Err(Quality::UncertainInitial), State::flag)
            }
            Flag::Not(of) => Ok(!of.of(view)?),
            Flag::And(sides) => Ok(sides.0.of(view)? && sides.1.of(view)?),
            Flag::Or(sides) => Ok(sides.0.of(view)? || sides.1.of(view)?),
            Flag::Compared(order, sides) => Ok(order.holds(sides.0.of(view)?, sides.1.of(view)?)),
            Flag::Flags(same, sides) => Ok((sides.0.of(view)? == sides.1.of(view)?) == *same),
            Flag::Words(same, sides) => Ok((sides.0.of(view)? == sides.1.of(view)?) == *same),
            Flag::Bit(of, worth) => has_bit(of.of(view)?, *worth),
            Flag::If(parts) => if parts.0.of(view)? { &parts.1 } else { &parts.2 }.of(view),
        }
    }
}

fn flag(value: Option<&Value>) -> Result<bool, Quality> {
    match value {
        Some(Value::Bool(value)) => Ok(*value),
        _ => Err(Quality::BadNoCommunication),
    }
}

impl Word {
    fn of<'a, I: Inputs>(&'a self, view: &View<'a, I>) -> Result<&'a Arc<str>, Quality> {
        match self {
            Word::Constant(text) => Ok(text),
            Word::Tag(tag) => word(view.inputs.sample(*tag).value),
            Word::Raw => word(view.inputs.raw()),
            Word::Memory(index) => {
                view.states.get(*index).map_or(Err(Quality::UncertainInitial), State::word)
            }
            Word::If(parts) => if parts.0.of(view)? { &parts.1 } else { &parts.2 }.of(view),
        }
    }
}

pub(super) fn word(value: Option<&Value>) -> Result<&Arc<str>, Quality> {
    match value {
        Some(Value::Text(text)) => Ok(text),
        _ => Err(Quality::BadNoCommunication),
    }
}

impl Tree {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Tree::Number(_) => Kind::Number,
            Tree::Flag(_) => Kind::Flag,
            Tree::Word(_) => Kind::Word,
        }
    }

    pub(super) fn of<I: Inputs>(&self, view: &View<'_, I>) -> Result<Value, Quality> {
        match self {
            Tree::Number(number) => number.of(view).map(Value::Double),
            Tree::Flag(flag) => flag.of(view).map(Value::Bool),
            Tree::Word(word) => word.of(view).map(|text| Value::Text(Arc::clone(text))),
        }
    }

    /// The tag, where the tree is nothing else.
    pub(super) fn tag(&self) -> Option<TagId> {
        if let Tree::Number(Number::Tag(tag)) | Tree::Flag(Flag::Tag(tag)) | Tree::Word(Word::Tag(tag)) = self
        {
            return Some(*tag);
        }
        None
    }
}
