//! What a tag is and how it moves: the steps from registers to the value, backwards from what is plausible. Pure.
//!
//! value = (raw × scale × ratio … × 10^scale_from ÷ 10^decimals_from) + offset, then from unit to unit
//! (docs/configuration.md).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::encode::float;
use super::super::{Motion, Point, Step};
use super::{form, is_number};
use crate::calendar;
use crate::config::site::{self, Code, Codes, Kind, Layout, Operand, ProbeTest, Recipe, Site, Source, Tag};
use crate::reading::{Quality, Timestamp, Value};
use crate::sim::sample;
use crate::tag::{DataType, TagId};
use crate::unit::{self, Conversion, Unit};

/// What a ratio of transformers is where its range does not say.
const RATIO: f64 = 20.0;
/// Tags that depend on each other are followed so far.
const DEPTH_MAX: u8 = 4;
/// Numbers that state something are looked for up to this.
const CODE_MAX: i64 = 16;
/// A state without words walks through so many numbers.
const STATES: i64 = 4;
/// What a counter shows at the beginning, where it can.
const COUNTER_START: f64 = 4000.0;
/// Whole numbers of half precision are exact up to here.
const HALF_COUNTER_MAX: f64 = 2048.0;

/// Why others need a tag, which is why it stands still.
#[derive(Clone, Copy)]
enum Role<'a> {
    Ratio,
    Power,
    Decimals,
    /// Its word is a unit from which there is a way to this one.
    UnitOf(&'static Unit),
    /// It shows that the device is what it is taken for, by this number.
    Probe(f64),
    /// The same, by the text that this probe finds.
    ProbeText(&'a ProbeTest),
}

pub(super) struct Values<'a> {
    site: &'a Site,
    start: Timestamp,
    roles: BTreeMap<TagId, Role<'a>>,
    ahead_min: i16,
}

impl<'a> Values<'a> {
    pub(super) fn new(site: &'a Site, start: Timestamp) -> Values<'a> {
        let mut roles = BTreeMap::new();
        for recipe in site.tags.iter().filter_map(Tag::recipe) {
            roles.extend(recipe.ratio.iter().map(|tag| (*tag, Role::Ratio)));
            roles.extend(recipe.scale_from.map(|tag| (tag, Role::Power)));
            roles.extend(recipe.decimals_from.map(|tag| (tag, Role::Decimals)));
            roles.extend(recipe.unit_from.map(|(tag, wanted)| (tag, Role::UnitOf(wanted))));
        }
        for probe in site.devices.iter().flat_map(site::Device::probes) {
            let role = match &probe.test {
                ProbeTest::Between(low, high) => Role::Probe(f64::midpoint(*low, *high)),
                ProbeTest::Equals(Operand::Number(number)) => Role::Probe(*number),
                ProbeTest::Equals(Operand::Word(_) | Operand::Flag(_)) | ProbeTest::Matches(_) => {
                    Role::ProbeText(&probe.test)
                }
            };
            roles.insert(probe.tag, role);
        }
        let utc = calendar::to_utc(&site.calendar.zone, start).unwrap_or(start);
        let ahead_ms = i128::from(start.millis()) - i128::from(utc.millis());
        Values { site, start, roles, ahead_min: i16::try_from(ahead_ms / 60_000).unwrap_or_default() }
    }

    /// Whether other tags need it for their values.
    pub(super) fn is_needed(&self, tag: TagId) -> bool {
        self.roles.contains_key(&tag)
    }

    /// The point of a tag that lies so, and why its value cannot be told.
    pub(super) fn point(&self, tag: &Tag, layout: Layout) -> (Point, Option<String>) {
        let of = form::layout(layout, self.ahead_min);
        let table = form::table(layout.span.area);
        let mut point = Point::new(&tag.name, table, layout.span.address, of, Motion::fixed(0.0));
        let recipe = tag.recipe();
        let steps = self.steps(tag, layout, 0);
        let bad = recipe.map(|recipe| codes_of(&recipe.bad_values, Quality::is_bad)).unwrap_or_default();
        point.none = bad.into();
        let words = words_of(recipe, layout.data_type);
        let why = [untellable(recipe, layout), words.as_ref().err().cloned(), steps.as_ref().err().cloned()];
        let why = why.into_iter().flatten().next();
        point.is_told = why.is_none();
        (point.words, point.other_word) = words.unwrap_or_default();
        let steps = steps.unwrap_or_default();
        point.motion = self.motion(tag, layout, &mut point, steps.as_deref().unwrap_or_default());
        point.steps = steps.map(Into::into);
        (point, why)
    }

    /// How a number moves that lies so, and the steps from its digits to the value, of which `point` is the first; none where
    /// they are the same.
    pub(super) fn digits(
        &self,
        tag: &Tag,
        layout: Layout,
        point: Option<Step>,
    ) -> Result<(Motion, Arc<[Step]>), String> {
        let recipe = tag.recipe();
        if recipe.is_some_and(|recipe| recipe.words.is_some()) {
            return Err("the simulator's meters have no words".to_owned());
        }
        if let Some(why) = untellable(recipe, layout) {
            return Err(why);
        }
        // what is computed is a double, whatever its digits
        let computed = self.steps(tag, layout, 0)?.map(|steps| [vec![Step::Times(1.0)], steps].concat());
        let steps: Vec<Step> = point.into_iter().chain(computed.into_iter().flatten()).collect();
        let avoided = recipe.map(|recipe| codes_of(&recipe.bad_values, |_| true)).unwrap_or_default();
        Ok((self.of_number(tag, layout, &steps, &avoided), steps.into()))
    }

    /// From the number in the registers to the value; `None`: they are the same.
    fn steps(&self, tag: &Tag, layout: Layout, depth: u8) -> Result<Option<Vec<Step>>, String> {
        let recipe = tag.recipe();
        let is_plain = layout.scaling.is_none() && !recipe.is_some_and(Recipe::computes);
        let is_word = recipe.is_some_and(|recipe| recipe.words.is_some());
        if is_plain || is_word || !layout.data_type.is_number() {
            return Ok(None);
        }
        if depth > DEPTH_MAX {
            return Err("too many tags depend on each other".to_owned());
        }
        let mut steps: Vec<Step> = layout.scaling.map(|scaling| times(scaling.scale)).into_iter().collect();
        for ratio in recipe.iter().flat_map(|recipe| &recipe.ratio) {
            steps.push(Step::Times(self.number(*ratio, depth)?));
        }
        if let Some(tag) = recipe.and_then(|recipe| recipe.scale_from) {
            steps.push(power(self.number(tag, depth)?));
        }
        if let Some(tag) = recipe.and_then(|recipe| recipe.decimals_from) {
            steps.push(power(-self.number(tag, depth)?));
        }
        steps.extend(layout.scaling.map(|scaling| Step::Plus(scaling.offset)));
        if let Some((tag, wanted)) = recipe.and_then(|recipe| recipe.unit_from) {
            let came = self.unit(tag, wanted);
            let way = came.and_then(|came| came.to(wanted));
            steps.extend(converted(way.ok_or("no unit of its `unit_from` leads to its own")?));
        }
        steps.extend(recipe.and_then(|recipe| recipe.conversion).into_iter().flat_map(converted));
        Ok(Some(steps))
    }

    /// The number that a tag which stands still is.
    fn number(&self, tag: TagId, depth: u8) -> Result<f64, String> {
        let none =
            || format!("`{}`, which it needs, is no number that stands still", self.site.full_name(tag));
        let tag = self.site.tags.get(tag.index()).ok_or_else(none)?;
        match &tag.source {
            Source::Constant(value) => value.number().ok_or_else(none),
            Source::Registers(registers) if is_number(registers.layout.data_type) => {
                let is_plain = registers.recipe.as_ref().is_none_or(|recipe| recipe.words.is_none());
                let told = untellable(tag.recipe(), registers.layout).is_none() && is_plain;
                let steps = self.steps(tag, registers.layout, depth + 1)?.unwrap_or_default();
                let raw = self.needed(tag, registers.layout, &steps).filter(|_| told).ok_or_else(none)?;
                Ok(steps.iter().fold(raw, |number, step| step.apply(number)))
            }
            Source::Registers(_) | Source::Computed | Source::Chosen(_) | Source::Control(_) => Err(none()),
        }
    }

    /// What stands in the registers of a number that others need.
    fn needed(&self, tag: &Tag, layout: Layout, steps: &[Step]) -> Option<f64> {
        let (least, most) = form::bounds(layout.data_type);
        let wanted = match self.roles.get(&tag.id)? {
            Role::Ratio => tag.range.map_or(RATIO, |(least, most)| RATIO.clamp(least, most)),
            Role::Power => -1.0,
            Role::Decimals => 2.0,
            Role::Probe(number) => *number,
            Role::UnitOf(_) | Role::ProbeText(_) => return None,
        };
        if let Role::Probe(_) = self.roles.get(&tag.id)?
            && matches!(layout.data_type, DataType::F16 | DataType::F32 | DataType::F64)
        {
            return Some(raw(steps, wanted));
        }
        Some(raw(steps, wanted).round().clamp(least, most))
    }

    /// The unit that a tag says, from which there is a way to `wanted`.
    fn unit(&self, tag: TagId, wanted: &'static Unit) -> Option<&'static Unit> {
        let tag = self.site.tags.get(tag.index())?;
        match &tag.source {
            Source::Constant(Value::Text(word)) => unit::find(word.trim()),
            Source::Registers(registers) => {
                match words_of(tag.recipe(), registers.layout.data_type).ok()?.0 {
                    words if words.is_empty() => Some(wanted),
                    words => words.iter().find_map(|(_, word)| leads(word, wanted)),
                }
            }
            Source::Constant(_) | Source::Computed | Source::Chosen(_) | Source::Control(_) => None,
        }
    }

    fn motion(&self, tag: &Tag, layout: Layout, point: &mut Point, steps: &[Step]) -> Motion {
        let avoided = tag.recipe().map(|recipe| codes_of(&recipe.bad_values, |_| true)).unwrap_or_default();
        let stands_still = tag.write.is_some() || tag.kind == Kind::Info;
        if let Some(code) = tag.recipe().and_then(|recipe| harmless(&recipe.colours, &avoided)) {
            return walk(&[code], tag);
        }
        match layout.data_type {
            DataType::Bool { .. } if stands_still || !avoided.is_empty() => {
                walk(&[i64::from(avoided.contains(&0))], tag)
            }
            DataType::Bool { .. } => Motion::Blink { seconds: 2 + u64::from(tag.id.0 % 4) },
            DataType::Text { .. } => {
                point.words = self.texts(tag, layout);
                walk(if stands_still || self.is_needed(tag.id) { &[0] } else { &[0, 1] }, tag)
            }
            DataType::Time(_) => Motion::Clock(self.start),
            DataType::Byte { .. }
            | DataType::Slice { .. }
            | DataType::I16
            | DataType::U16
            | DataType::I32
            | DataType::U32
            | DataType::I48
            | DataType::U48
            | DataType::I64
            | DataType::U64
            | DataType::F16
            | DataType::F32
            | DataType::F64
            | DataType::Bcd { .. }
            | DataType::Words => {
                let numbers: Vec<i64> = point.words.iter().map(|(code, _)| *code).collect();
                if numbers.is_empty() && point.other_word.is_none() {
                    return self.of_number(tag, layout, steps, &avoided);
                }
                walk(&self.codes(tag, &numbers, point, &avoided), tag)
            }
        }
    }

    /// The numbers of words that a tag walks through.
    fn codes(&self, tag: &Tag, numbers: &[i64], point: &Point, avoided: &[i64]) -> Vec<i64> {
        if let Some(Role::UnitOf(wanted)) = self.roles.get(&tag.id) {
            let unit = point.words.iter().find(|(_, word)| leads(word, wanted).is_some());
            return unit.map(|(code, _)| *code).into_iter().collect();
        }
        let other = (0..=CODE_MAX).find(|code| !numbers.contains(code) && point.other_word.is_some());
        let all = numbers.iter().copied().chain(other).filter(|code| !avoided.contains(code));
        if tag.write.is_some() { all.take(1).collect() } else { all.collect() }
    }

    fn of_number(&self, tag: &Tag, layout: Layout, steps: &[Step], avoided: &[i64]) -> Motion {
        if let Some(raw) = self.needed(tag, layout, steps) {
            return Motion::fixed(raw);
        }
        let bounds = form::bounds(layout.data_type);
        let (least, most) = shrunk(plausible(tag, steps, bounds), avoided);
        let middle = f64::midpoint(least, most);
        if tag.write.is_some() || tag.kind == Kind::Info {
            return Motion::fixed(middle.round());
        }
        match tag.kind {
            Kind::Counter => count(layout.data_type, bounds, self.seconds(tag, layout, steps), avoided),
            Kind::State | Kind::Event => {
                let numbers = (0..STATES).filter(|code| !avoided.contains(code) && within(*code, bounds));
                walk(&numbers.collect::<Vec<_>>(), tag)
            }
            Kind::Measurement | Kind::Info => {
                let seconds = f64::from(7 + tag.id.0 % 13);
                Motion::Wave { middle, swing: (most - least) * 0.4, seconds }
            }
        }
    }

    /// How often a counter goes on, so that it is half as fast as it may be; each second where nothing is said.
    fn seconds(&self, tag: &Tag, layout: Layout, steps: &[Step]) -> f64 {
        let max_rate = self.site.totals.iter().find(|total| total.of == tag.id).and_then(|of| of.max_rate);
        let apply = |number| steps.iter().fold(number, |number, step| step.apply(number));
        let rise: f64 = apply(counter_step(layout.data_type)) - apply(0.0);
        max_rate.map_or(1.0, |max_rate| (2.0 * rise.abs() / max_rate).max(1.0))
    }

    /// Two texts that a tag may have; one that others need as a unit is that.
    fn texts(&self, tag: &Tag, layout: Layout) -> Arc<[(i64, Arc<str>)]> {
        if let Some(Role::UnitOf(wanted)) = self.roles.get(&tag.id) {
            return Arc::new([(0, wanted.written.into())]);
        }
        if let Some(Role::ProbeText(test)) = self.roles.get(&tag.id) {
            let text = match test {
                ProbeTest::Matches(pattern) => sample::heartbeat(pattern).unwrap_or_default(),
                ProbeTest::Equals(operand) => operand.to_string().trim_matches('\'').as_bytes().to_vec(),
                ProbeTest::Between(..) => Vec::new(),
            };
            return Arc::new([(0, String::from_utf8_lossy(&text).into())]);
        }
        let is_sparse = matches!(layout.data_type, DataType::Text { is_sparse: true, .. });
        let room = usize::from(layout.span.count) * if is_sparse { 1 } else { 2 };
        let last = tag.name.rsplit('/').next().unwrap_or_default();
        let letters = last.chars().filter(char::is_ascii_alphanumeric);
        let head: String = letters.take(room.saturating_sub(2)).collect::<String>().to_uppercase();
        let head = if head.is_empty() { head } else { head + "-" };
        [1, 2].iter().zip(0..).map(|(number, code)| (code, format!("{head}{number}").into())).collect()
    }
}

/// Why nobody can tell what such a tag is.
fn untellable(recipe: Option<&Recipe>, layout: Layout) -> Option<String> {
    if recipe.is_some_and(|recipe| recipe.expression.is_some()) || layout.data_type == DataType::Words {
        return Some("an expression makes its value".to_owned());
    }
    let is_bad_else = recipe.is_some_and(|recipe| recipe.bad_values.otherwise.is_some());
    is_bad_else.then(|| "`bad_values` speak of all other values".to_owned())
}

type Words = (Arc<[(i64, Arc<str>)]>, Option<Arc<str>>);

/// The word of each number, and of all others.
fn words_of(recipe: Option<&Recipe>, data_type: DataType) -> Result<Words, String> {
    let Some(words) = recipe.and_then(|recipe| recipe.words.as_ref()) else { return Ok(Words::default()) };
    let none = || "the simulator has words for whole numbers and bits only".to_owned();
    let entry = |(code, word): &(Code, Arc<str>)| Some((number_of(code)?, word.clone()));
    let known: Option<Vec<_>> = words.entries.iter().map(entry).collect();
    let is_whole =
        (is_number(data_type) && !data_type.is_float()) || matches!(data_type, DataType::Bool { .. });
    Ok((known.filter(|_| is_whole).ok_or_else(none)?.into(), words.otherwise.clone()))
}

/// The numbers that stand for such a quality.
fn codes_of(codes: &Codes<Quality>, is_so: impl Fn(Quality) -> bool) -> Vec<i64> {
    let named = codes.entries.iter().filter(|(_, quality)| is_so(*quality));
    named.filter_map(|(code, _)| number_of(code)).collect()
}

fn number_of(code: &Code) -> Option<i64> {
    match code {
        Code::Number(number) => i64::try_from(*number).ok(),
        Code::Flag(on) => Some((*on).into()),
        Code::Bits(_) | Code::Text(_) => None,
    }
}

/// A number by which a tag says nothing bad of others; `None`: it never does.
fn harmless(colours: &Codes<Quality>, avoided: &[i64]) -> Option<i64> {
    let says = |code: i64| {
        let is_of = |(known, _): &&(Code, Quality)| number_of(known) == Some(code);
        colours.entries.iter().find(is_of).map(|(_, quality)| *quality).or(colours.otherwise)
    };
    let is_harmless = |code: &i64| says(*code).is_none_or(|quality| quality == Quality::Good);
    let mut codes = (0..=CODE_MAX).filter(|code| !avoided.contains(code));
    (!colours.is_empty()).then(|| codes.find(is_harmless)).flatten()
}

fn leads(word: &str, wanted: &'static Unit) -> Option<&'static Unit> {
    unit::find(word.trim()).filter(|came| came.to(wanted).is_some())
}

/// Times `scale`; one part in so many is a division.
fn times(scale: f64) -> Step {
    let parts = scale.recip().round();
    let is_part = parts.abs() >= 2.0 && (parts * scale - 1.0).abs() < 1e-12;
    if is_part { Step::Over(parts) } else { Step::Times(scale) }
}

/// Times 10 to the power of a whole number.
fn power(power: f64) -> Step {
    let ten = 10_f64.powf(power.abs());
    if power < 0.0 { Step::Over(ten) } else { Step::Times(ten) }
}

fn converted(way: Conversion) -> [Step; 3] {
    [Step::Times(way.factor), Step::Over(way.divisor), Step::Plus(way.offset)]
}

/// The number in the registers for a value.
fn raw(steps: &[Step], value: f64) -> f64 {
    steps.iter().rev().fold(value, |value, step| step.undo(value))
}

/// From where to where the number in the registers goes, where nobody has said so.
fn plausible(tag: &Tag, steps: &[Step], (least, most): (f64, f64)) -> (f64, f64) {
    let usual = tag.unit.and_then(|unit| match unit.written {
        "V" => Some((225.0, 235.0)),
        "A" => Some((2.0, 14.0)),
        "W" | "var" | "VA" => Some((500.0, 6000.0)),
        "kW" | "kvar" | "kVA" => Some((1.0, 18.0)),
        "Hz" => Some((49.9, 50.1)),
        "Cel" => Some((20.0, 180.0)),
        "%" => Some((5.0, 95.0)),
        "bar" => Some((2.0, 8.0)),
        "rpm" => Some((900.0, 1500.0)),
        _ => None,
    });
    let ends = tag.range.or(usual).map(|(low, high)| (raw(steps, low), raw(steps, high)));
    let fits = ends.map(|(one, other)| (one.min(other).max(least), one.max(other).min(most)));
    let default = (least.max(-200.0), most.min(1000.0));
    fits.filter(|(low, high)| low <= high).unwrap_or(default)
}

/// The larger part of the numbers from `least` to `most` on one side of each that is to be avoided.
fn shrunk(ends: (f64, f64), avoided: &[i64]) -> (f64, f64) {
    avoided.iter().fold(ends, |(least, most), code| {
        let code = float((*code).into());
        if code < least || code > most {
            (least, most)
        } else if code - least < most - code {
            (code + 1.0, most)
        } else {
            (least, code - 1.0)
        }
    })
}

fn within(code: i64, (least, most): (f64, f64)) -> bool {
    (least..=most).contains(&float(code.into()))
}

/// What a counter rises by, in numbers of the registers.
const fn counter_step(data_type: DataType) -> f64 {
    if matches!(data_type, DataType::F32 | DataType::F64) { 0.125 } else { 1.0 }
}

/// A counter that goes on to what its registers can hold, and never over a number that is to be avoided.
fn count(data_type: DataType, (_, most): (f64, f64), seconds: f64, avoided: &[i64]) -> Motion {
    let end = if data_type == DataType::F16 { HALF_COUNTER_MAX } else { most + counter_step(data_type) };
    let start = if end <= COUNTER_START { 0.0 } else { COUNTER_START };
    let mut avoided: Vec<f64> = avoided.iter().map(|code| float((*code).into())).collect();
    avoided.sort_by(f64::total_cmp);
    let start = avoided
        .iter()
        .fold(start, |start, code| if (start..start + 1.0).contains(code) { code + 1.0 } else { start });
    let below = avoided.into_iter().find(|code| *code > start).unwrap_or(end);
    Motion::Count { start, step: counter_step(data_type), seconds, below }
}

fn walk(numbers: &[i64], tag: &Tag) -> Motion {
    Motion::Walk { numbers: numbers.into(), seconds: 2 + u64::from(tag.id.0 % 5) }
}
