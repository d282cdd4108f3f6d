//! Whether an interlock holds, by what was read for it right before the write. Pure.
//!
//! Nothing is written on a guess: an input that is not good, or a whole number that could not be told from its neighbours,
//! forbids the write whatever the condition makes of it.

use std::collections::BTreeMap;

use crate::config::site::{Interlock, Site, Source, Tag};
use crate::expression::{Inputs, Sample};
use crate::normalize::recipe::{self, Known, Made};
use crate::reading::{Quality, Value};
use crate::scan::Data;
use crate::tag::TagId;

/// Whole numbers are exact in a condition up to here, 2^53.
const EXACT_MAX: u64 = 1 << 53;
/// The most characters of a reason.
const REASON_MAX: usize = 512;

/// Whether `interlock` holds where its reads have given `answers`.
///
/// # Errors
/// Why not, or why it cannot be told.
pub(super) fn judge(interlock: &Interlock, site: &Site, answers: &[Data]) -> Result<(), String> {
    let mut seen = Seen { site, read: BTreeMap::new() };
    for (id, data) in interlock.reads.iter().zip(answers) {
        let Some(tag) = site.tags.get(id.index()) else { continue };
        let Some(registers) = tag.registers() else { continue };
        let made = recipe::make(registers, data, 0, |other| seen.known(other));
        seen.read.insert(*id, Read::new(tag, made));
    }
    let condition = &interlock.condition;
    let names = condition.inputs().iter().filter_map(|id| site.tags.get(id.index()));
    names.clone().try_for_each(|tag| seen.check(tag))?;
    let is = |tag: &Tag| {
        let value = seen.sample(tag.id).value.map_or_else(String::new, Value::to_string);
        format!("`{}` is {value}", tag.name)
    };
    let reason = match condition.once(&seen) {
        Ok((Value::Bool(true), _)) => return Ok(()),
        Ok(_) => {
            let all: Vec<String> = names.map(is).collect();
            format!("interlock: {} does not hold: {}", condition.text(), all.join(", "))
        }
        Err(quality) => format!("interlock: {} cannot be told: {}", condition.text(), quality.id()),
    };
    Err(reason.chars().take(REASON_MAX).collect())
}

/// One tag as it was read right before.
struct Read {
    value: Option<Value>,
    /// The value as a condition sees it: of a 32-bit float those decimals that it is shown with.
    shown: Option<Value>,
    quality: Quality,
    colour: Quality,
}

impl Read {
    fn new(tag: &Tag, Made { value, doubt, colour }: Made) -> Read {
        let (value, mut quality) = match value {
            Ok(value) => (Some(value), doubt),
            Err(quality) => (None, quality),
        };
        let number = value.as_ref().and_then(Value::number);
        let is_outside = |(low, high)| number.is_some_and(|number| number < low || number > high);
        if tag.range.is_some_and(is_outside) {
            quality = quality.worst(Quality::UncertainEuExceeded);
        }
        let shown = value.clone().map(|value| match &value {
            Value::Float(_) => value.decimal().map_or(value, Value::Double),
            Value::Bool(_)
            | Value::Int(_)
            | Value::UInt(_)
            | Value::Double(_)
            | Value::Text(_)
            | Value::Time(_) => value,
        });
        Read { value, shown, quality, colour }
    }
}

/// What was read, and the site for what needs no reading.
struct Seen<'a> {
    site: &'a Site,
    read: BTreeMap<TagId, Read>,
}

impl Seen<'_> {
    /// What a recipe may know of a tag.
    fn known(&self, id: TagId) -> Known<'_> {
        if let Some(read) = self.read.get(&id) {
            return Known { value: read.value.as_ref(), quality: read.quality, colour: read.colour };
        }
        let (value, quality) = match self.constant(id) {
            Some(value) => (Some(value), Quality::Good),
            None => (None, Quality::BadNoCommunication),
        };
        Known { value, quality, colour: Quality::Good }
    }

    /// The value that stands in the configuration; of a device that is switched off there is none.
    fn constant(&self, id: TagId) -> Option<&Value> {
        let tag = self.site.tags.get(id.index())?;
        let Source::Constant(value) = &tag.source else { return None };
        self.site.devices.get(tag.device.index()).filter(|device| device.enabled).map(|_| value)
    }

    /// Whether the condition may rely on `tag`.
    fn check(&self, tag: &Tag) -> Result<(), String> {
        let known = self.known(tag.id);
        if !known.quality.is_good() {
            return Err(format!("interlock: `{}` is {}", tag.name, known.quality.id()));
        }
        let is_exact = match known.value {
            Some(Value::Int(whole)) => whole.unsigned_abs() <= EXACT_MAX,
            Some(Value::UInt(whole)) => *whole <= EXACT_MAX,
            Some(Value::Bool(_) | Value::Float(_) | Value::Double(_) | Value::Text(_) | Value::Time(_))
            | None => true,
        };
        if is_exact {
            return Ok(());
        }
        Err(format!("interlock: `{}` is beyond 2^53, where whole numbers cannot be told apart", tag.name))
    }
}

impl Inputs for Seen<'_> {
    fn sample(&self, tag: TagId) -> Sample<'_> {
        let known = self.known(tag);
        let shown = self.read.get(&tag).and_then(|read| read.shown.as_ref());
        Sample { value: shown.or(known.value), quality: known.quality, serial: 0 }
    }
}
