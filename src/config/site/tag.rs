//! Tags: where their values come from, and what is done with them.

use std::sync::Arc;
use std::time::Duration;

use super::{AlarmControl, Deadband, Report, Share, WritePolicy};
use crate::dlt645::{Format, Identifier};
use crate::expression::Expression;
use crate::reading::{Quality, Value};
use crate::tag::{ByteOrder, DataType, DeviceId, Span, TagId, ValueType};
use crate::unit::{Conversion, Unit};

/// One tag.
#[derive(Clone, Debug)]
pub struct Tag {
    /// Its index.
    pub id: TagId,
    /// Whose.
    pub device: DeviceId,
    /// Metric name.
    pub name: Arc<str>,
    /// A name for people.
    pub title: Option<String>,
    /// Where its values come from.
    pub source: Source,
    /// What its published values are.
    pub value_type: ValueType,
    /// What sort of thing it tells.
    pub kind: Kind,
    /// What it is measured in.
    pub unit: Option<&'static Unit>,
    /// How often it is read; `None`: never.
    pub every: Option<Duration>,
    /// A value that no sample has confirmed for so long is only the last usable one; `None`: it does not age.
    pub stale_after: Option<Duration>,
    /// A value that has not changed for so long is doubtful.
    pub stuck_after: Option<Duration>,
    /// Some devices of the type do not have it: that it is absent is no fault.
    pub is_optional: bool,
    /// When it is reported.
    pub report: Report,
    /// How much a number must change for that.
    pub deadband: Deadband,
    /// The lowest and the highest plausible value; what lies outside is doubtful.
    pub range: Option<(f64, f64)>,
    /// How far its readings may go.
    pub share: Share,
    /// The classes of what it is computed from, each once, where it has no `share` of its own: it leaves only where they do.
    pub made_of: Vec<Share>,
    /// What may be written to it; `None`: nothing.
    pub write: Option<WritePolicy>,
}

/// Where a tag's values come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// They are read from the device.
    Registers(Registers),
    /// It has always this one, which stands in the configuration.
    Constant(Value),
    /// They are computed from other tags.
    Computed,
    /// They are those of one of these, which are read: of which, the variant of its type says that the device is. One for
    /// each of [`super::Device::variants`].
    Chosen(Vec<TagId>),
    /// It is always an empty text: what is written to it is done with an alarm of its device.
    Control(AlarmControl),
}

/// What is read, and what is made of it.
#[derive(Clone, Debug)]
pub struct Registers {
    /// Where it lies.
    pub layout: Layout,
    /// What is done beside scaling; `None`: nothing.
    pub recipe: Option<Box<Recipe>>,
    /// Of a meter that speaks DL/T 645: what is asked for, and how the value lies in it.
    pub digits: Option<(Identifier, Format)>,
    /// Of an instrument: which field of the answer to its request it is.
    pub field: Option<usize>,
}

/// What becomes of a raw value, beside its [`Scaling`]:
///
/// value = (raw × scale × ratio … × 10^scale_from ÷ 10^decimals_from) + offset, then from the unit that came to
/// the one that is wanted. Where there is an expression, what it gives stands in place of raw.
#[derive(Clone, Debug, Default)]
pub struct Recipe {
    /// Raw values that say that there is none, and why.
    pub bad_values: Codes<Quality>,
    /// What is made of the registers first, in [`crate::expression::Scope::Registers`].
    pub expression: Option<Expression>,
    /// Tags that it is multiplied by: transformers.
    pub ratio: Vec<TagId>,
    /// The tag with the power of ten.
    pub scale_from: Option<TagId>,
    /// The tag with the number of decimals.
    pub decimals_from: Option<TagId>,
    /// The tag whose word is the unit that came, and the unit that is wanted.
    pub unit_from: Option<(TagId, &'static Unit)>,
    /// From the unit of the registers to the one that is published.
    pub conversion: Option<Conversion>,
    /// The word for each raw value, or each whole number that the expression gives; published is the word.
    pub words: Option<Arc<Codes<Arc<str>>>>,
    /// Tags that colour this one: the worst of what they say counts.
    pub quality_from: Vec<TagId>,
    /// What its values say of the tags that it colours.
    pub colours: Codes<Quality>,
}

impl Recipe {
    /// The tags without which there is no value.
    pub fn inputs(&self) -> impl Iterator<Item = TagId> {
        let one = [self.scale_from, self.decimals_from, self.unit_from.map(|(tag, _)| tag)];
        let named = self.expression.as_ref().map_or(&[][..], Expression::inputs);
        let many = self.ratio.iter().chain(&self.quality_from).chain(named).copied();
        many.chain(one.into_iter().flatten())
    }

    /// Whether the value is a number that more than scale and offset have made.
    #[must_use]
    pub fn computes(&self) -> bool {
        self.expression.is_some()
            || !self.ratio.is_empty()
            || self.scale_from.is_some()
            || self.decimals_from.is_some()
            || self.unit_from.is_some()
            || self.conversion.is_some()
    }
}

/// What each code stands for.
#[derive(Clone, Debug, PartialEq)]
pub struct Codes<T> {
    /// By code, each once.
    pub entries: Vec<(Code, T)>,
    /// What all others stand for.
    pub otherwise: Option<T>,
}

impl<T> Default for Codes<T> {
    fn default() -> Codes<T> {
        Codes { entries: Vec::new(), otherwise: None }
    }
}

/// A raw value that stands for something.
#[derive(Clone, Debug, PartialEq)]
pub enum Code {
    /// A whole number.
    Number(i128),
    /// The bits of a float.
    Bits(u64),
    /// A text.
    Text(Arc<str>),
    /// True or false.
    Flag(bool),
}

impl Code {
    fn is(&self, value: &Value) -> bool {
        match (self, value) {
            (Code::Number(code), Value::Int(value)) => *code == i128::from(*value),
            (Code::Number(code), Value::UInt(value)) => *code == i128::from(*value),
            (Code::Bits(code), Value::Float(value)) => *code == u64::from(value.to_bits()),
            (Code::Bits(code), Value::Double(value)) => *code == value.to_bits(),
            (Code::Text(code), Value::Text(value)) => code == value,
            (Code::Flag(code), Value::Bool(value)) => code == value,
            (Code::Number(_) | Code::Bits(_) | Code::Text(_) | Code::Flag(_), _) => false,
        }
    }
}

impl<T> Codes<T> {
    /// What `raw` stands for.
    #[must_use]
    pub fn get(&self, raw: &Value) -> Option<&T> {
        self.entries.iter().find(|(code, _)| code.is(raw)).map(|(_, of)| of).or(self.otherwise.as_ref())
    }

    /// Whether nothing stands for anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.otherwise.is_none()
    }
}

/// Why a word stands for no code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordError {
    /// There is no such word.
    #[error("no value has the word '{0}'")]
    Unknown(String),
    /// More than one code has it, or it is the word of all others.
    #[error("several values have the word '{0}': which of them is meant cannot be told")]
    Several(String),
}

impl Codes<Arc<str>> {
    /// Whether a value can have this word; without a word for all others a code that has none is its own.
    #[must_use]
    pub fn gives(&self, word: &str) -> bool {
        let mut codes = self.entries.iter().map(|(code, _)| code);
        let is_code = word.parse::<f64>().is_ok()
            || ["true", "false"].contains(&word)
            || codes.any(|code| matches!(code, Code::Text(_)));
        let mut all = self.entries.iter().map(|(_, of)| of).chain(&self.otherwise);
        (is_code && self.otherwise.is_none()) || all.any(|of| **of == *word)
    }

    /// The one code that `word` stands for.
    ///
    /// # Errors
    /// There is none, or more than one.
    pub fn code_of(&self, word: &str) -> Result<&Code, WordError> {
        let mut all = self.entries.iter().filter(|(_, of)| **of == *word).map(|(code, _)| code);
        let is_others = self.otherwise.as_deref() == Some(word);
        match (all.next(), all.next()) {
            (Some(code), None) if !is_others => Ok(code),
            (None, _) if !is_others => Err(WordError::Unknown(word.to_owned())),
            (Some(_) | None, _) => Err(WordError::Several(word.to_owned())),
        }
    }
}

/// What sort of thing a tag tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A quantity that goes up and down.
    #[default]
    Measurement,
    /// One that only goes up, until it wraps or is reset.
    Counter,
    /// One of a few states.
    State,
    /// Something that happens: each one counts, equal or not.
    Event,
    /// Something that hardly ever changes: a serial number.
    Info,
}

impl Kind {
    /// The words of the configuration, in the order of the kinds.
    pub const WORDS: [&'static str; 5] = ["measurement", "counter", "state", "event", "info"];

    /// The kind with this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Kind> {
        let all = [Kind::Measurement, Kind::Counter, Kind::State, Kind::Event, Kind::Info];
        all.into_iter().zip(Kind::WORDS).find(|(_, known)| *known == word).map(|(kind, _)| kind)
    }

    /// The word of the configuration, published as the property `kind`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Kind::Measurement => "measurement",
            Kind::Counter => "counter",
            Kind::State => "state",
            Kind::Event => "event",
            Kind::Info => "info",
        }
    }
}

/// value = raw × scale + offset.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scaling {
    /// Not 0.
    pub scale: f64,
    /// Added after.
    pub offset: f64,
}

/// Where a value lies and how its registers are read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Layout {
    /// Its registers.
    pub span: Span,
    /// The SunSpec model from whose id register its address counts; `None`: from the first register of the device.
    pub model: Option<u16>,
    /// What they mean.
    pub data_type: DataType,
    /// How their bytes lie.
    pub order: ByteOrder,
    /// From the raw number to the value; `None` leaves integers and floats as they are.
    pub scaling: Option<Scaling>,
}

impl Layout {
    /// Where it lies, as the configuration writes it: `hr:100`, `hr:110.3`.
    #[must_use]
    pub fn place(&self) -> String {
        let Span { area, address, .. } = self.span;
        let area = area.prefix();
        let first = match self.model {
            Some(model) => format!("sunspec:{model}+{address}"),
            None => format!("{area}:{address}"),
        };
        if let DataType::Bool { bit: Some(bit) } = self.data_type {
            return format!("{first}.{bit}");
        }
        if let DataType::Slice { first: low, last: high } = self.data_type {
            return format!("{first}.{low}-{high}");
        }
        if let DataType::Byte { is_high: true, .. } = self.data_type {
            return format!("{first}.8-15");
        }
        first
    }

    /// What its values are.
    #[must_use]
    pub const fn value_type(&self) -> ValueType {
        match self.data_type {
            DataType::Bool { .. } => ValueType::Bool,
            DataType::Text { .. } => ValueType::Text,
            DataType::Time(_) => ValueType::Time,
            _ if self.scaling.is_some() => ValueType::Double,
            DataType::F16 | DataType::F32 => ValueType::Float,
            DataType::F64 | DataType::Words => ValueType::Double,
            integer @ (DataType::Byte { .. }
            | DataType::Slice { .. }
            | DataType::I16
            | DataType::U16
            | DataType::I32
            | DataType::U32
            | DataType::I48
            | DataType::U48
            | DataType::I64
            | DataType::U64
            | DataType::Bcd { .. }) => ValueType::Integer(integer),
        }
    }
}

impl Tag {
    /// Whether a command may name it.
    #[must_use]
    pub const fn takes_commands(&self) -> bool {
        self.write.is_some() || self.control().is_some()
    }

    /// What a command to it does with an alarm of its device; `None`: nothing.
    #[must_use]
    pub const fn control(&self) -> Option<AlarmControl> {
        match self.source {
            Source::Control(control) => Some(control),
            Source::Registers(_) | Source::Constant(_) | Source::Computed | Source::Chosen(_) => None,
        }
    }

    /// What is read of the device, where it is read.
    #[must_use]
    pub const fn registers(&self) -> Option<&Registers> {
        match &self.source {
            Source::Registers(registers) => Some(registers),
            Source::Constant(_) | Source::Computed | Source::Chosen(_) | Source::Control(_) => None,
        }
    }

    /// Whether its values come from the device, be it by itself or by one of several.
    #[must_use]
    pub const fn is_read(&self) -> bool {
        matches!(self.source, Source::Registers(_) | Source::Chosen(_))
    }

    /// Where its value lies and how it is read, where it is read.
    #[must_use]
    pub fn layout(&self) -> Option<Layout> {
        self.registers().map(|registers| registers.layout)
    }

    /// What is done with what is read, beside scaling.
    #[must_use]
    pub fn recipe(&self) -> Option<&Recipe> {
        self.registers().and_then(|registers| registers.recipe.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_has_one_code_or_none_and_can_be_what_no_table_has() {
        let codes = |entries: &[(Code, &str)], otherwise: Option<&str>| Codes::<Arc<str>> {
            entries: entries.iter().map(|(code, word)| (code.clone(), (*word).into())).collect(),
            otherwise: otherwise.map(Into::into),
        };
        let number = Code::Number;
        let open = codes(&[(number(1), "run"), (number(2), "hold"), (number(3), "hold")], None);
        assert_eq!(open.code_of("run"), Ok(&Code::Number(1)));
        assert_eq!(open.code_of("hold"), Err(WordError::Several("hold".to_owned())));
        assert_eq!(open.code_of("7"), Err(WordError::Unknown("7".to_owned())));
        assert!(open.gives("run") && open.gives("7") && !open.gives("stop"));
        let closed = codes(&[(number(1), "run"), (number(2), "?")], Some("?"));
        assert_eq!(closed.code_of("run"), Ok(&Code::Number(1)));
        assert_eq!(closed.code_of("?"), Err(WordError::Several("?".to_owned())));
        assert!(closed.gives("run") && closed.gives("?") && !closed.gives("7"));
        assert_eq!(codes(&[], Some("all")).code_of("all"), Err(WordError::Several("all".to_owned())));
        let texts = codes(&[(Code::Text("OK".into()), "fine")], None);
        assert!(texts.gives("anything"), "a text that is not listed is its own word");
    }
}
