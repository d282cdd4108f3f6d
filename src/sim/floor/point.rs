//! One value of a device: how it moves, what it is at a moment, and how it lies in registers. Pure.

use std::sync::Arc;

use super::encode;
use super::{Request, Table};
use crate::reading::Timestamp;
use crate::tag::TimeFormat;

/// What a point really is at a moment.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "a value of each kind")]
pub enum Truth {
    Bool(bool),
    Integer(i128),
    Float(f32),
    Double(f64),
    Text(String),
    Time(Timestamp),
}

impl std::fmt::Display for Truth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Truth::Bool(value) => value.fmt(f),
            Truth::Integer(value) => value.fmt(f),
            Truth::Float(value) => value.fmt(f),
            Truth::Double(value) => value.fmt(f),
            Truth::Text(value) => value.fmt(f),
            Truth::Time(value) => value.fmt(f),
        }
    }
}

/// The wire order of the registers of a value, by the letters of the manual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the four orders")]
pub enum Order {
    Abcd,
    Cdab,
    Badc,
    Dcba,
}

/// What the registers of a point mean. Its motion has to stay within what they can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One coil or discrete input.
    Bit,
    /// One bit of a register, 0 to 15.
    BitOf(u8),
    /// One bit of a number.
    BitIn {
        /// Which, 0 the lowest of the number.
        bit: u8,
        /// How many registers the number has, 1 to 4.
        registers: u8,
    },
    /// Bits of a register, the first and the last, both 0 to 15: two's complement, or unsigned.
    Slice(u8, u8),
    /// So many registers, 1 to 4: two's complement, or unsigned.
    Whole(u8),
    /// So many registers, 1 to 4: the highest bit is the sign, the others are the amount.
    SignMagnitude(u8),
    /// So many registers, 1 to 4, each four decimal digits as a number from 0 to 9999.
    Myriads(u8),
    /// So many decimal digits, 1 to 16, four bits each.
    Bcd(u8),
    /// Two decimal digits in the high or in the low half of a register.
    BcdHalf {
        /// In bits 8 to 15.
        is_high: bool,
    },
    /// IEEE 754, 16 bits.
    Half,
    /// IEEE 754, 32 bits.
    Single,
    /// IEEE 754, 64 bits.
    Double,
    /// So many registers of UTF-8, two bytes each.
    Text(u16),
    /// So many registers of GBK, two bytes each.
    Gbk(u16),
    /// So many registers with one character each, in the low byte.
    Letters(u16),
    /// A local date and time.
    Date {
        /// What each register holds.
        format: TimeFormat,
        /// How many minutes the local time is ahead of UTC.
        ahead_min: i16,
    },
}

/// How a point lies in its registers: value = number in the registers × `scale.0` ÷ `scale.1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// What the registers mean.
    pub form: Form,
    /// How they come; of text and dates the registers stay in their place.
    pub order: Order,
    /// Whole numbers above 0; (1, 10) for tenths, (400, 1) behind transformers of 400 to 1.
    pub scale: (u32, u32),
}

impl Layout {
    /// The highest byte first, not scaled.
    #[must_use]
    pub const fn new(form: Form) -> Layout {
        Layout { form, order: Order::Abcd, scale: (1, 1) }
    }

    /// The same in this order.
    #[must_use]
    pub const fn ordered(self, order: Order) -> Layout {
        Layout { order, ..self }
    }

    /// The same, where a value is the number in the registers × `factor` ÷ `divisor`.
    #[must_use]
    pub const fn scaled(self, factor: u32, divisor: u32) -> Layout {
        Layout { scale: (factor, divisor), ..self }
    }

    const fn is_scaled(self) -> bool {
        self.scale.0 != self.scale.1
    }

    /// What the registers hold, as near as they can, where the value is to be `wanted`.
    fn hold(self, wanted: Truth) -> Truth {
        let (factor, divisor) = (f64::from(self.scale.0), f64::from(self.scale.1));
        let number = match wanted {
            Truth::Integer(number) => encode::float(number),
            Truth::Double(number) => number * divisor / factor,
            other @ (Truth::Bool(_) | Truth::Float(_) | Truth::Text(_) | Truth::Time(_)) => return other,
        };
        match self.form {
            Form::Bit | Form::BitOf(_) | Form::BitIn { .. } => Truth::Bool(number > 0.0),
            Form::Half => Truth::Float(encode::half(number).1),
            Form::Single => Truth::Float(encode::single(number)),
            Form::Double => Truth::Double(number),
            Form::Slice(..)
            | Form::Whole(_)
            | Form::SignMagnitude(_)
            | Form::Myriads(_)
            | Form::Bcd(_)
            | Form::BcdHalf { .. }
            | Form::Text(_)
            | Form::Gbk(_)
            | Form::Letters(_)
            | Form::Date { .. } => Truth::Integer(match wanted {
                Truth::Integer(exact) => exact,
                Truth::Bool(_) | Truth::Float(_) | Truth::Double(_) | Truth::Text(_) | Truth::Time(_) => {
                    encode::whole(number).into()
                }
            }),
        }
    }

    /// The value that registers say which hold `raw`.
    fn value(self, raw: Truth) -> Truth {
        if !self.is_scaled() {
            return raw;
        }
        let number = match raw {
            Truth::Integer(number) => encode::float(number),
            Truth::Float(number) => number.into(),
            Truth::Double(number) => number,
            other @ (Truth::Bool(_) | Truth::Text(_) | Truth::Time(_)) => return other,
        };
        Truth::Double(number * f64::from(self.scale.0) / f64::from(self.scale.1))
    }
}

/// How a point moves.
#[derive(Clone, Debug)]
pub enum Motion {
    /// Up and down around a middle.
    Wave {
        /// The middle.
        middle: f64,
        /// The most above and below it.
        swing: f64,
        /// Of one whole wave.
        seconds: f64,
    },
    /// Upwards, or downwards, from a start, in numbers of the registers.
    Ramp {
        /// At the beginning.
        start: i64,
        /// A second.
        step: i64,
    },
    /// On and off.
    Blink {
        /// Of each.
        seconds: u64,
    },
    /// Seconds since the start, in order, and the value from then on; before the first it is 0.
    Script(Arc<[(f64, f64)]>),
    /// These words and a number that grows.
    Job(Arc<str>),
    /// Always the same words.
    Words(Arc<str>),
    /// A clock that shows this at the beginning, to the second.
    Clock(Timestamp),
    /// From one number to the next, and from the last to the first, in numbers of the registers.
    Walk {
        /// The numbers; without any it is 0.
        numbers: Arc<[i64]>,
        /// How long each holds.
        seconds: u64,
    },
    /// A counter, in numbers of the registers.
    Count {
        /// At the beginning, and after the end.
        start: f64,
        /// What it rises by.
        step: f64,
        /// How often it does.
        seconds: f64,
        /// The end, which it does not reach.
        below: f64,
    },
    /// What the registers of another point say in this place.
    Shown {
        /// The other point, in which all registers of this one lie.
        by: Arc<Point>,
        /// Whether the highest bit of a whole number is its sign.
        is_signed: bool,
    },
}

/// A step from the number in the registers to the value.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "three operations")]
pub enum Step {
    Times(f64),
    Over(f64),
    Plus(f64),
}

impl Step {
    /// The step done to `number`.
    #[must_use]
    pub fn apply(self, number: f64) -> f64 {
        match self {
            Step::Times(by) => number * by,
            Step::Over(by) => number / by,
            Step::Plus(by) => number + by,
        }
    }

    /// The step undone, as near as a float can.
    #[must_use]
    pub fn undo(self, value: f64) -> f64 {
        match self {
            Step::Times(by) => value / by,
            Step::Over(by) => value * by,
            Step::Plus(by) => value - by,
        }
    }
}

impl Motion {
    /// Each value from its second on.
    #[must_use]
    pub fn script(steps: &[(f64, f64)]) -> Motion {
        Motion::Script(steps.into())
    }

    /// Always the same number.
    #[must_use]
    pub fn fixed(number: f64) -> Motion {
        Motion::script(&[(0.0, number)])
    }

    /// A counter that shows `start` and goes up by one at each of these seconds, in order.
    #[must_use]
    pub fn counts(start: u32, seconds: &[f64]) -> Motion {
        let numbers = (0..=u32::MAX - start).map(|count| f64::from(start + count));
        Motion::Script([0.0].iter().chain(seconds).copied().zip(numbers).collect())
    }

    /// A bit that comes on at each of these seconds, in order, and goes off `width` seconds later.
    #[must_use]
    pub fn pulses(seconds: &[f64], width: f64) -> Motion {
        Motion::Script(seconds.iter().flat_map(|at| [(*at, 1.0), (at + width, 0.0)]).collect())
    }

    /// What it is, `elapsed_ms` after the start, as the motion of `point`.
    fn at(&self, elapsed_ms: u64, point: &Point) -> Truth {
        match self {
            Motion::Shown { by, is_signed } => point.seen_in(&by.moment(elapsed_ms).1, by, *is_signed),
            Motion::Wave { .. }
            | Motion::Ramp { .. }
            | Motion::Blink { .. }
            | Motion::Script(_)
            | Motion::Job(_)
            | Motion::Words(_)
            | Motion::Clock(_)
            | Motion::Walk { .. }
            | Motion::Count { .. } => self.alone(elapsed_ms).unwrap_or(Truth::Bool(false)),
        }
    }

    /// What it is, `elapsed_ms` after the start; `None`: that of another point.
    pub(super) fn alone(&self, elapsed_ms: u64) -> Option<Truth> {
        Some(match self {
            Motion::Wave { middle, swing, seconds } => {
                let turn = seconds_of(elapsed_ms) / seconds * std::f64::consts::TAU;
                Truth::Double(middle + swing * turn.sin())
            }
            Motion::Ramp { start, step } => {
                Truth::Integer(i128::from(*start) + i128::from(*step) * i128::from(elapsed_ms) / 1000)
            }
            Motion::Blink { seconds } => Truth::Bool((elapsed_ms / ((*seconds).max(1) * 1000)) % 2 == 1),
            Motion::Script(steps) => {
                let begun = steps.partition_point(|(from, _)| *from <= seconds_of(elapsed_ms));
                let last = begun.checked_sub(1).and_then(|last| steps.get(last));
                Truth::Double(last.map_or(0.0, |(_, value)| *value))
            }
            Motion::Job(words) => Truth::Text(format!("{words}{:04}", elapsed_ms / 3000 % 10_000)),
            Motion::Words(words) => Truth::Text(words.to_string()),
            Motion::Clock(start) => {
                let shown = start.millis().saturating_add(elapsed_ms);
                Truth::Time(Timestamp::from_millis(shown / 1000 * 1000))
            }
            Motion::Walk { numbers, seconds } => {
                let step = usize::try_from(elapsed_ms / ((*seconds).max(1) * 1000)).unwrap_or_default();
                let number = step.checked_rem(numbers.len()).and_then(|index| numbers.get(index));
                Truth::Integer(number.copied().unwrap_or_default().into())
            }
            Motion::Count { start, step, seconds, below } => {
                let risen = (seconds_of(elapsed_ms) / seconds).floor() * step;
                Truth::Double(start + risen % (below - start))
            }
            Motion::Shown { .. } => return None,
        })
    }
}

/// One value of a device.
#[derive(Clone, Debug)]
pub struct Point {
    /// The name of the tag that reads it.
    pub name: Arc<str>,
    /// Where.
    pub table: Table,
    /// The first register, 0-based.
    pub address: u16,
    /// How it lies there.
    pub layout: Layout,
    /// How it moves.
    pub motion: Motion,
    /// The word that each number stands for; none where the number is what counts. Registers of text hold the word.
    pub words: Arc<[(i64, Arc<str>)]>,
    /// The word of all other numbers; `None`: the number itself.
    pub other_word: Option<Arc<str>>,
    /// From the number of the layout to the value, which is a double then; `None`: it is the value.
    pub steps: Option<Arc<[Step]>>,
    /// Numbers in the registers that say that there is no value.
    pub none: Arc<[i64]>,
    /// Whether what it is can be told: without that it is served and not noted.
    pub is_told: bool,
}

impl Point {
    /// A point whose numbers stand for themselves.
    #[must_use]
    pub fn new(name: &str, table: Table, address: u16, layout: Layout, motion: Motion) -> Point {
        Point {
            name: name.into(),
            table,
            address,
            layout,
            motion,
            words: Arc::default(),
            other_word: None,
            steps: None,
            none: Arc::default(),
            is_told: true,
        }
    }

    /// The same, where each number stands for a word.
    #[must_use]
    pub fn with_words(self, words: &[(i64, &str)]) -> Point {
        Point { words: words.iter().map(|(code, word)| (*code, Arc::from(*word))).collect(), ..self }
    }

    /// What the point is, `elapsed_ms` after the start, exactly as its registers can say it.
    #[must_use]
    pub fn truth(&self, elapsed_ms: u64) -> Truth {
        self.value(self.raw(elapsed_ms))
    }

    /// What the point is, where that can be told, and the registers that say so.
    pub(super) fn moment(&self, elapsed_ms: u64) -> (Option<Truth>, Vec<u16>) {
        let raw = self.raw(elapsed_ms);
        let word = self.word(&raw).map(Truth::Text);
        let is_text = matches!(self.layout.form, Form::Text(_) | Form::Gbk(_) | Form::Letters(_));
        let held = word.as_ref().filter(|_| is_text).unwrap_or(&raw);
        let registers = encode::registers(self.layout, held);
        let is_none = code(&raw).is_some_and(|code| self.none.iter().any(|none| i128::from(*none) == code));
        (Some(raw).filter(|_| self.is_told && !is_none).map(|raw| self.value(raw)), registers)
    }

    fn raw(&self, elapsed_ms: u64) -> Truth {
        self.layout.hold(self.motion.at(elapsed_ms, self))
    }

    /// The value of what the registers hold.
    fn value(&self, raw: Truth) -> Truth {
        if let Some(word) = self.word(&raw) {
            return Truth::Text(word);
        }
        let value = self.layout.value(raw);
        let Some(steps) = &self.steps else { return value };
        let number = match value {
            Truth::Integer(number) => encode::float(number),
            Truth::Float(number) => number.into(),
            Truth::Double(number) => number,
            other @ (Truth::Bool(_) | Truth::Text(_) | Truth::Time(_)) => return other,
        };
        Truth::Double(steps.iter().fold(number, |number, step| step.apply(number)))
    }

    /// The word that `raw` stands for, or its number where it has none; `None` where numbers count.
    fn word(&self, raw: &Truth) -> Option<String> {
        let code = code(raw)?;
        let known = self.words.iter().find(|(known, _)| i128::from(*known) == code).map(|(_, word)| word);
        let word = known.or(self.other_word.as_ref()).map_or_else(|| code.to_string(), ToString::to_string);
        (!self.words.is_empty() || self.other_word.is_some()).then_some(word)
    }

    /// What the registers of `other` hold in the place of this point.
    fn seen_in(&self, registers: &[u16], other: &Point, is_signed: bool) -> Truth {
        let first = usize::from(self.address.saturating_sub(other.address));
        let count = encode::occupied(self.layout).len();
        let words = registers.get(first..first + count).unwrap_or_default();
        encode::seen(self.layout, words, is_signed).unwrap_or(Truth::Bool(false))
    }

    /// Writes the point's `registers` into the words of `request`; true if all of them lie in it.
    pub(super) fn place(&self, registers: &[u16], request: Request, words: &mut [u16]) -> bool {
        let mut all_lie_in = true;
        for (index, word) in registers.iter().enumerate() {
            let place = (usize::from(self.address) + index).checked_sub(usize::from(request.address));
            match place.and_then(|place| words.get_mut(place)) {
                Some(slot) => *slot |= *word, // several points may be parts of one register
                None => all_lie_in = false,
            }
        }
        all_lie_in
    }
}

/// The number in the registers, where it is a whole one; a bit is 0 or 1.
fn code(raw: &Truth) -> Option<i128> {
    match raw {
        Truth::Integer(code) => Some(*code),
        Truth::Bool(on) => Some((*on).into()),
        Truth::Float(_) | Truth::Double(_) | Truth::Text(_) | Truth::Time(_) => None,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a floor does not stand for 2^53 ms")]
fn seconds_of(elapsed_ms: u64) -> f64 {
    elapsed_ms as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a point is at each of these milliseconds.
    #[track_caller]
    fn check(layout: Layout, motion: &Motion, expected: &[(u64, &str)]) {
        let point = Point::new("p", Table::HoldingRegisters, 0, layout, motion.clone());
        for (ms, shown) in expected {
            assert_eq!(point.truth(*ms).to_string(), *shown, "after {ms} ms");
        }
    }

    #[test]
    fn a_script_says_what_is_when() {
        let register = Layout::new(Form::Whole(1));
        check(
            register,
            &Motion::counts(7, &[1.0, 1.5, 4.0]),
            &[(0, "7"), (999, "7"), (1000, "8"), (3999, "9"), (60_000, "10")],
        );
        check(
            Layout::new(Form::Bit),
            &Motion::pulses(&[0.5, 2.0], 0.3),
            &[(499, "false"), (500, "true"), (799, "true"), (800, "false"), (2100, "true"), (2300, "false")],
        );
        check(
            register,
            &Motion::script(&[(2.0, 65_535.0), (3.0, 4.0)]),
            &[(0, "0"), (2000, "65535"), (3000, "4")],
        );
        check(register, &Motion::fixed(3.0), &[(0, "3"), (9000, "3")]);
        check(register, &Motion::script(&[]), &[(0, "0")]);
    }

    #[test]
    fn a_truth_is_what_the_registers_can_say() {
        let third = Motion::fixed(1.0 / 3.0);
        check(Layout::new(Form::Whole(1)).scaled(1, 100), &third, &[(0, "0.33")]);
        check(Layout::new(Form::Half), &third, &[(0, "0.33325195")]);
        check(Layout::new(Form::Single), &third, &[(0, "0.33333334")]);
        check(Layout::new(Form::Double), &third, &[(0, "0.3333333333333333")]);
        check(Layout::new(Form::Whole(2)).scaled(400, 1), &Motion::fixed(1100.0), &[(0, "1200")]);
        check(Layout::new(Form::Single).scaled(40, 1), &Motion::fixed(50.0), &[(0, "50")]);
        check(
            Layout::new(Form::Date { format: TimeFormat::parse("YYMM DDhh mmss").unwrap(), ahead_min: 480 }),
            &Motion::Clock(Timestamp::from_millis(1_795_651_200_300)),
            &[(0, "2026-11-26T00:00:00.000Z"), (700, "2026-11-26T00:00:01.000Z")],
        );
    }

    #[test]
    fn a_code_is_its_word_and_one_without_a_word_its_number() {
        let motion = Motion::script(&[(0.0, 1.0), (1.0, 9.0)]);
        let point = Point::new("p", Table::HoldingRegisters, 0, Layout::new(Form::Whole(1)), motion)
            .with_words(&[(0, "stop"), (1, "run")]);
        assert_eq!(point.moment(0), (Some(Truth::Text("run".into())), vec![1]));
        assert_eq!(point.moment(1000), (Some(Truth::Text("9".into())), vec![9]));
        let text = Point { layout: Layout::new(Form::Text(2)), ..point };
        assert_eq!(text.moment(0), (Some(Truth::Text("run".into())), vec![0x7275, 0x6E00]));
    }
}
