//! Expressions: derived tags, `expr`, `when`, conditions of machines, interlocks. Text comes in once and is checked;
//! samples come in and a value with a quality goes out.
//!
//! Every expression ends: there is no loop and no recursion, and text, depth, tags and memory have bounds.
//!
//! # Language
//!
//! - **Names** are `[A-Za-z_][A-Za-z0-9_/.:-]*`. One of `/ - . :` belongs to the name where a letter, a digit or `_`
//!   follows, so `a-b` and `a/b` are names; `a - b` is a difference. Any other name is `tag('…')`. A name is a
//!   function only before `(`; `and or not for if true false` are keywords.
//! - **Values** are numbers (`12`, `1.5e3`, `0x1F`), `'words'`, `true` and `false`.
//! - **Operators**, from loose to tight: `or`, `and`, `not`, `… for 5s`, `== != < <= > >=`, `+ -`, `* / %`, unary `-`.
//!   Comparisons do not chain. `%` has the sign of its left side. Integers are equal when they are the same, decimals
//!   within a billionth of the greater one; `<` and its like are exact.
//! - **Functions** are `if(c, a, b)`, `min`, `max`, `abs`, `round(x)` and `round(x, 0 to 9)`, `clamp(x, low, high)`
//!   (where low is above high, high wins), and `bit(x, 0 to 52)` of an integer in two's complement.
//!   `if`, `and`, `or` compute no more than they need: `if(n == 0, 0, x / n)` has a value.
//! - **Over time**, of one tag: `avg(x, 15m)`, `rate(x, 1m)`, `prev(x)`, `count(x)`; `count` takes a condition too.
//!
//! # Over time
//!
//! A sample holds until the next one. Windows are 1 s to 7 d, kept in 60 parts, and of a fixed size.
//!
//! - `avg` is the mean of the good samples, each weighted by its time. What leaves the window is spread evenly over a
//!   60th of it: the error is at most a 60th of what the value moved inside of that part.
//! - `rate` is the change a second over the last 59 to 60 60ths. A value that falls gives a negative rate; for a
//!   counter [`Inputs::rising`] hands a total that never does.
//! - Both need half of their window: until then there is no value and the quality is `uncertain:initial`.
//! - `prev` is the last usable sample but one. `count` counts rising edges of what is true or false, a first true
//!   without a false before is none; of anything else each usable sample.
//! - `for` begins anew where its condition is false or unknown, or any input of the expression has no value.
//!
//! # Quality
//!
//! The worst of all inputs, in whatever branch they stand. No value where an input is bad or has none. A result that
//! is not finite, also one inside of a comparison, is `bad:sensor_failure`.

mod call;
mod memory;
mod parse;
#[cfg(test)]
mod tests;
mod token;
mod tree;
mod window;

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::reading::{Quality, Value};
use crate::tag::TagId;
use memory::Cell;
pub use memory::Memory;
use tree::{Tree, View};

/// The bytes of a text.
pub const TEXT_SIZE_MAX: usize = 4096;
/// How deep parentheses, functions and signs stand in each other.
pub const NESTING_MAX: usize = 32;
/// The tags of one expression.
pub const INPUTS_MAX: usize = 64;
/// Names, numbers and operators of one expression: trees are walked by recursion.
pub const STEPS_MAX: usize = 512;
/// The longest window, and the longest `for`.
pub const SPAN_MAX: Duration = Duration::from_secs(7 * 86_400);

/// What a name in an expression stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number; integers are exact up to 2^53.
    Number,
    /// True or false.
    Flag,
    /// A text.
    Word,
}

impl Kind {
    /// As people call it.
    #[must_use]
    pub const fn noun(self) -> &'static str {
        match self {
            Kind::Number => "number",
            Kind::Flag => "condition",
            Kind::Word => "word",
        }
    }
}

/// What may be used besides tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything but `raw` and `word`: derived tags, alarms, machines.
    Live,
    /// No memory over time: interlocks.
    Once,
    /// A tag's `expr`: `raw` and `word(n)`, no memory over time.
    Registers {
        /// How many registers the tag has.
        words: u16,
        /// What `raw` is; `None` where the registers make no value.
        raw: Option<Kind>,
    },
}

/// A tag that is known by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Which.
    pub tag: TagId,
    /// What its published values are.
    pub kind: Kind,
}

/// A tag and a word that it is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Which tag.
    pub tag: TagId,
    /// The word.
    pub word: Arc<str>,
    /// The bytes of the text where that stands.
    pub range: Range<usize>,
}

/// Why a text is no expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The bytes of the text that are meant, on borders of characters.
    pub range: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl Fault {
    fn new(range: Range<usize>, message: impl Into<String>) -> Fault {
        Fault { range, message: message.into(), help: None }
    }

    fn help(self, help: impl Into<String>) -> Fault {
        Fault { help: Some(help.into()), ..self }
    }
}

/// What is known of an input now.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// The value as published; `None` where there is none.
    pub value: Option<&'a Value>,
    /// How far to trust it.
    pub quality: Quality,
    /// Counts up with each new sample of this tag.
    pub serial: u64,
}

/// Where an expression gets its values from.
pub trait Inputs {
    /// The newest sample of a tag.
    fn sample(&self, tag: TagId) -> Sample<'_>;

    /// The decoded value before scaling, in the scope of registers.
    fn raw(&self) -> Option<&Value> {
        None
    }

    /// The register of this index, in the scope of registers.
    fn word(&self, index: u16) -> Option<u16> {
        let _ = index;
        None
    }

    /// The total of a counter, which never falls: `rate` takes it in place of the value.
    fn rising(&self, tag: TagId) -> Option<f64> {
        let _ = tag;
        None
    }
}

/// What an expression gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluated {
    /// [`Value::Double`], `Bool` or `Text` by the kind; `None` where the quality says why.
    pub value: Option<Value>,
    /// The worst of all inputs, or why there is no value.
    pub quality: Quality,
    /// When it must be evaluated again although no input changes.
    pub due: Option<Instant>,
}

/// A checked expression.
#[derive(Clone, Debug)]
pub struct Expression {
    text: String,
    tree: Tree,
    tags: Vec<TagId>,
    kinds: Vec<Kind>,
    cells: Vec<Cell>,
    compared: Vec<Compared>,
}

impl Expression {
    /// Checks and compiles a text; `names` knows the tags.
    ///
    /// # Errors
    /// The first fault, with its place.
    pub fn compile(
        text: &str,
        scope: Scope,
        names: &mut dyn FnMut(&str) -> Result<Known, String>,
    ) -> Result<Expression, Fault> {
        let compiled = parse::parse(text, scope, names)?;
        let (tags, kinds) = compiled.inputs.into_iter().unzip();
        let (tree, cells, compared) = (compiled.tree, compiled.cells, compiled.compared);
        Ok(Expression { text: text.to_owned(), tree, tags, kinds, cells, compared })
    }

    /// What it gives.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.tree.kind()
    }

    /// The tags that it names, each once, in the order of the text.
    #[must_use]
    pub fn inputs(&self) -> &[TagId] {
        &self.tags
    }

    /// The words that tags are compared with, in the order of the text: a word that its tag never has makes a condition
    /// that says nothing.
    #[must_use]
    pub fn compared(&self) -> &[Compared] {
        &self.compared
    }

    /// Whether what it gives depends on more than what is known now.
    #[must_use]
    pub fn has_memory(&self) -> bool {
        !self.cells.is_empty()
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The tag, where the expression is nothing but its name.
    #[must_use]
    pub fn is_tag(&self) -> Option<TagId> {
        self.tree.tag()
    }

    /// Its value now. Wanted whenever an input has a new sample, and at [`Evaluated::due`]; any further call does no harm.
    #[must_use]
    pub fn evaluate(&self, inputs: &impl Inputs, memory: &mut Memory, now: Instant) -> Evaluated {
        let trust = self.trust(inputs);
        let due = memory.step(&self.cells, inputs, trust.is_ok(), now);
        let found = trust.and_then(|quality| {
            let view = View { inputs, states: &memory.states };
            let value = self.tree.of(&view).map_err(|why| quality.worst(why))?;
            Ok((value, quality))
        });
        match found {
            Ok((value, quality)) => Evaluated { value: Some(value), quality, due },
            Err(quality) => Evaluated { value: None, quality, due },
        }
    }

    /// Its value and the worst quality of all inputs, of an expression without memory ([`Scope::Once`],
    /// [`Scope::Registers`]). A number or a flag takes no memory from the heap.
    ///
    /// # Errors
    /// Why there is no value.
    pub fn once(&self, inputs: &impl Inputs) -> Result<(Value, Quality), Quality> {
        let quality = self.trust(inputs)?;
        let view = View { inputs, states: &[] };
        let value = self.tree.of(&view).map_err(|why| quality.worst(why))?;
        Ok((value, quality))
    }

    /// The worst quality of all inputs; an error where one of them has no value.
    fn trust(&self, inputs: &impl Inputs) -> Result<Quality, Quality> {
        let mut worst = Quality::Good;
        let mut is_known = true;
        for (tag, kind) in self.tags.iter().zip(&self.kinds) {
            let sample = inputs.sample(*tag);
            let own = fitting(&sample, *kind);
            is_known &= own.is_ok();
            worst = worst.worst(own.unwrap_or_else(|quality| quality));
        }
        if is_known { Ok(worst) } else { Err(worst) }
    }
}

/// The quality of a sample; an error where it has no value of this kind.
fn fitting(sample: &Sample<'_>, kind: Kind) -> Result<Quality, Quality> {
    let quality = sample.quality;
    if quality.is_bad() {
        return Err(quality);
    }
    let Some(value) = sample.value else {
        return Err(if quality.is_good() { Quality::BadNoCommunication } else { quality });
    };
    match (kind, value) {
        (Kind::Number, Value::Int(_) | Value::UInt(_))
        | (Kind::Flag, Value::Bool(_))
        | (Kind::Word, Value::Text(_)) => Ok(quality),
        (Kind::Number, Value::Float(value)) if value.is_finite() => Ok(quality),
        (Kind::Number, Value::Double(value)) if value.is_finite() => Ok(quality),
        (Kind::Number, Value::Float(_) | Value::Double(_)) => Err(Quality::BadSensorFailure),
        (Kind::Number | Kind::Flag | Kind::Word, _) => Err(Quality::BadConfig),
    }
}
