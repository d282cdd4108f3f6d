//! Shifts, breaks and workdays as people write them.

use std::sync::Arc;

use super::{Shift, Span};

const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// Longer text is no span and no list of days.
const TEXT_MAX: usize = 100;
/// The longest name of a shift, in bytes.
const NAME_MAX: usize = 64;

/// `08:00-20:00`; the end may lie on the next day, and `24:00` is its midnight.
///
/// # Errors
/// What is wrong with the text, as a sentence for a finding.
pub fn span(text: &str) -> Result<Span, String> {
    let wanted = || format!("`{}` is no span: written like `08:00-20:00`", shown(text));
    if text.len() > TEXT_MAX {
        return Err(wanted());
    }
    let (from, to) = text.split_once('-').ok_or_else(wanted)?;
    let from = minute(from).ok_or_else(wanted)?;
    let to = minute(to).ok_or_else(wanted)?;
    Span::new(from, to).map_err(|_| format!("`{}`: a time of day lies between 00:00 and 24:00", shown(text)))
}

/// A shift with a name, or one that is called by its times.
///
/// # Errors
/// What is wrong with the span or the name, as a sentence for a finding.
pub fn shift(name: Option<&str>, text: &str) -> Result<Shift, String> {
    let span = span(text)?;
    let name: Arc<str> = match name {
        Some(name) if name.is_empty() || name.len() > NAME_MAX || name.chars().any(char::is_control) => {
            return Err(format!("a shift's name has 1 to {NAME_MAX} bytes and no control characters"));
        }
        Some(name) => name.into(),
        None => span.to_string().into(),
    };
    Ok(Shift { name, span })
}

/// `mon-fri,sun`: days and ranges of days, Monday first; a range may pass Sunday.
///
/// # Errors
/// What is wrong with the text, as a sentence for a finding.
pub fn workdays(text: &str) -> Result<[bool; 7], String> {
    if text.len() > TEXT_MAX {
        return Err(format!("`{}` is no list of days: written like `mon-fri,sun`", shown(text)));
    }
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (weekday(first)?, weekday(last)?);
        let count = if last >= first { last - first } else { last.saturating_add(7) - first };
        for index in first..=first.saturating_add(count) {
            if let Some(day) = days.get_mut(index % 7) {
                *day = true;
            }
        }
    }
    Ok(days)
}

fn weekday(text: &str) -> Result<usize, String> {
    let text = text.trim();
    WEEKDAYS
        .iter()
        .position(|day| *day == text)
        .ok_or_else(|| format!("`{}` is no day: one of mon tue wed thu fri sat sun", shown(text)))
}

/// `H:MM` or `HH:MM`, up to `24:00`; a larger number is left to [`Span::new`].
fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.trim().split_once(':')?;
    let is_number =
        |text: &str| !text.is_empty() && text.len() <= 2 && text.bytes().all(|b| b.is_ascii_digit());
    if !is_number(hour) || !is_number(minute) || minute.len() != 2 {
        return None;
    }
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    (minute < 60).then(|| hour.saturating_mul(60).saturating_add(minute))
}

/// The begin of a text, for a finding.
fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}
