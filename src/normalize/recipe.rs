//! From what was read to a value: what says that there is none, words, transformers, powers of ten, units. Pure.
//!
//! value = (expr(raw) × scale × ratio … × 10^scale_from ÷ 10^decimals_from) + offset, then from the unit that came to the
//! one that is wanted (config-reference, section 4).

use std::sync::Arc;

use super::decode::{decode_at, finite};
use crate::config::site::{Codes, Layout, Recipe, Registers, Scaling};
use crate::expression::{Expression, Inputs, Sample};
use crate::reading::{Quality, Value};
use crate::scan::Data;
use crate::tag::{DataType, TagId};
use crate::unit;

/// Powers of ten beyond this are not of any device.
const POWER_MAX: f64 = 18.0;
/// Whole numbers are exact in a double up to here, 2^53.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// What is known of another tag.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Its value, where there is one.
    pub value: Option<&'a Value>,
    /// How far to trust it.
    pub quality: Quality,
    /// What its value says of the tags that it colours.
    pub colour: Quality,
}

/// What was made of a reading.
#[derive(Clone, Debug, PartialEq)]
pub struct Made {
    /// The value, or why there is none.
    pub value: Result<Value, Quality>,
    /// What it is to be doubted for.
    pub doubt: Quality,
    /// What it says of the tags that it colours.
    pub colour: Quality,
}

impl Made {
    const fn plain(value: Result<Value, Quality>) -> Made {
        Made { value, doubt: Quality::Good, colour: Quality::Good }
    }
}

/// The value of what begins `offset` into `data`; `known` tells of the tags that it needs.
pub fn make<'a>(registers: &Registers, data: &Data, offset: u16, known: impl Fn(TagId) -> Known<'a>) -> Made {
    let Some(recipe) = &registers.recipe else {
        return Made::plain(decode_at(registers.layout, data, offset));
    };
    let raw = match raw(registers.layout, data, offset) {
        Ok(raw) => raw,
        Err(quality) => return Made::plain(Err(why_none(quality, recipe, known))),
    };
    let stands_for = |codes: &Codes<Quality>| raw.as_ref().and_then(|raw| codes.get(raw)).copied();
    let colour = stands_for(&recipe.colours).unwrap_or(Quality::Good);
    let mut doubt = stands_for(&recipe.bad_values).unwrap_or(Quality::Good);
    for tag in &recipe.quality_from {
        let of = known(*tag);
        doubt = doubt.worst(of.quality).worst(of.colour);
    }
    if doubt.is_bad() {
        return Made { value: Err(doubt), doubt, colour };
    }
    let value = match &recipe.expression {
        None => raw.ok_or(Quality::BadConfig),
        Some(expression) => {
            let reply = Reply {
                raw: raw.as_ref(),
                words: words(registers.layout, data, offset),
                known: &|tag| known(tag),
            };
            evaluated(expression, &reply, &mut doubt)
        }
    };
    let value = value.and_then(|value| match (&recipe.words, &value) {
        (Some(words), _) if recipe.expression.is_some() => Ok(word_of(&whole(&value)?, words)),
        (Some(words), _) => Ok(word_of(&value, words)),
        (None, Value::Bool(_) | Value::Text(_)) if recipe.expression.is_some() => Ok(value),
        (None, _) => number(value, registers.layout.scaling, recipe, &mut doubt, &known),
    });
    Made { value, doubt, colour }
}

/// Why there is no value: what another tag says of it tells more than that it is not there.
fn why_none<'a>(quality: Quality, recipe: &Recipe, known: impl Fn(TagId) -> Known<'a>) -> Quality {
    let colours = recipe.quality_from.iter().map(|tag| known(*tag).colour);
    colours.filter(|colour| colour.is_bad()).reduce(Quality::worst).unwrap_or(quality)
}

/// The value before anything is made of it; `None`: the registers are none by themselves.
fn raw(layout: Layout, data: &Data, offset: u16) -> Result<Option<Value>, Quality> {
    if layout.data_type == DataType::Words {
        let is_whole = words(layout, data, offset).len() == usize::from(layout.span.count);
        return if is_whole { Ok(None) } else { Err(Quality::BadDecode) };
    }
    decode_at(Layout { scaling: None, ..layout }, data, offset).map(Some)
}

/// The registers of the value, as they came; of bits there are none.
fn words(layout: Layout, data: &Data, offset: u16) -> &[u16] {
    let first = usize::from(offset);
    match data {
        Data::Words(words) => words.get(first..first + usize::from(layout.span.count)).unwrap_or_default(),
        Data::Bits(_) | Data::Values(_) => &[],
    }
}

/// What the expression of a tag sees.
struct Reply<'a> {
    raw: Option<&'a Value>,
    words: &'a [u16],
    known: &'a dyn Fn(TagId) -> Known<'a>,
}

impl Inputs for Reply<'_> {
    fn sample(&self, tag: TagId) -> Sample<'_> {
        let of = (self.known)(tag);
        Sample { value: of.value, quality: of.quality, serial: 0 }
    }

    fn raw(&self) -> Option<&Value> {
        self.raw
    }

    fn word(&self, index: u16) -> Option<u16> {
        self.words.get(usize::from(index)).copied()
    }
}

fn evaluated(expression: &Expression, reply: &impl Inputs, doubt: &mut Quality) -> Result<Value, Quality> {
    let (value, quality) = expression.once(reply)?;
    *doubt = doubt.worst(quality);
    Ok(value)
}

/// The nearest whole number.
///
/// # Errors
/// [`Quality::BadDecode`] where it is no number, or beyond 2^53.
pub(super) fn whole(value: &Value) -> Result<Value, Quality> {
    let number = value.number().ok_or(Quality::BadDecode)?.round();
    if number.abs() > WHOLE_MAX {
        return Err(Quality::BadDecode);
    }
    #[expect(clippy::cast_possible_truncation, reason = "whole, and at most 2^53")]
    Ok(Value::Int(number as i64))
}

/// The word of a code; the code as text where it has none.
pub(super) fn word_of(code: &Value, words: &Codes<Arc<str>>) -> Value {
    words.get(code).map_or_else(|| Value::Text(code.to_string().into()), |word| Value::Text(word.clone()))
}

/// The number that is published.
fn number<'a>(
    raw: Value,
    scaling: Option<Scaling>,
    recipe: &Recipe,
    doubt: &mut Quality,
    known: impl Fn(TagId) -> Known<'a>,
) -> Result<Value, Quality> {
    if !recipe.computes() {
        return match scaling {
            Some(scaling) => finite(super::decode::scale(raw, scaling)?),
            None => Ok(raw),
        };
    }
    let mut needed = |tag: TagId| {
        let of = known(tag);
        *doubt = doubt.worst(of.quality);
        of.value.filter(|_| !of.quality.is_bad()).ok_or(if of.quality.is_bad() {
            of.quality
        } else {
            Quality::BadDecode
        })
    };
    let scaling = scaling.unwrap_or(Scaling { scale: 1.0, offset: 0.0 });
    let mut value = unit::scaled(raw.number().ok_or(Quality::BadDecode)?, scaling.scale);
    for tag in &recipe.ratio {
        value *= needed(*tag)?.number().ok_or(Quality::BadDecode)?;
    }
    if let Some(tag) = recipe.scale_from {
        value = shifted(value, needed(tag)?.number())?;
    }
    if let Some(tag) = recipe.decimals_from {
        value = shifted(value, needed(tag)?.number().map(|decimals| -decimals))?;
    }
    value += scaling.offset;
    if let Some((tag, wanted)) = recipe.unit_from {
        let Value::Text(word) = needed(tag)? else { return Err(Quality::BadDecode) };
        let came = unit::find(word.trim()).ok_or(Quality::BadDecode)?;
        value = came.to(wanted).ok_or(Quality::BadDecode)?.apply(value);
    }
    if let Some(conversion) = recipe.conversion {
        value = conversion.apply(value);
    }
    finite(Value::Double(value))
}

/// `value` × 10^`power`, by a division where that is exact.
fn shifted(value: f64, power: Option<f64>) -> Result<f64, Quality> {
    let power =
        power.filter(|power| power.abs() <= POWER_MAX && power.fract() == 0.0).ok_or(Quality::BadDecode)?;
    #[expect(clippy::cast_possible_truncation, reason = "a whole number of -18 to 18")]
    let power = power as i32;
    let ten = 10_f64.powi(power.abs());
    Ok(if power < 0 { value / ten } else { value * ten })
}
