//! A plan that a message brings: other shifts, breaks, workdays or another cycle for one machine.
//!
//! ```json
//! {"machine": "imm1", "cycle_s": 24.0, "shifts": ["08:00-20:00"], "breaks": [], "workdays": "mon-sat"}
//! ```
//! What it does not name is as the configuration has it; a cycle counts where that has a number. `shifts` may have names: `{"day": "08:00-17:00"}`.

use serde::Deserialize;
use serde_json::Value;

use crate::calendar::{self, Calendar, SHIFTS_MAX, Shift};

/// A longer message is refused unread, in bytes.
pub const MESSAGE_MAX: usize = 16 * 1024;
/// The longest cycle, in s: a week.
pub const CYCLE_MAX_S: f64 = 604_800.0;

/// What is to hold of a machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Which.
    pub machine: String,
    /// The planned time of one count, in s, above 0 and at most [`CYCLE_MAX_S`]; `None`: as configured.
    pub cycle_s: Option<f64>,
    /// When it is planned to work; `None`: as configured.
    pub calendar: Option<Calendar>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    machine: String,
    cycle_s: Option<f64>,
    shifts: Option<Value>,
    breaks: Option<Vec<String>>,
    workdays: Option<String>,
}

/// The machine that a message is for. The caller looks up its calendar, and reads the whole with [`parse`].
///
/// # Errors
/// As [`parse`].
pub fn machine(message: &[u8]) -> Result<String, String> {
    read(message).map(|message| message.machine)
}

/// The plan in a message, for a machine with this calendar.
///
/// # Errors
/// Why it is refused, as a sentence; nothing of it holds then.
pub fn parse(message: &[u8], now: &Calendar) -> Result<Plan, String> {
    let message = read(message)?;
    if let Some(cycle_s) = message.cycle_s
        && !(cycle_s > 0.0 && cycle_s <= CYCLE_MAX_S)
    {
        return Err(format!("`cycle_s` is {cycle_s}: wanted more than 0 and at most {CYCLE_MAX_S}"));
    }
    let is_calendar = message.shifts.is_some() || message.breaks.is_some() || message.workdays.is_some();
    let mut calendar = now.clone();
    if let Some(shifts) = &message.shifts {
        calendar.shifts = parse_shifts(shifts)?;
    }
    if let Some(breaks) = &message.breaks {
        calendar.breaks =
            breaks.iter().map(|text| calendar::span(text)).collect::<Result<_, _>>().map_err(of("breaks"))?;
    }
    if let Some(days) = &message.workdays {
        calendar.workdays = calendar::workdays(days).map_err(of("workdays"))?;
    }
    if let Some(fault) = calendar.faults().into_iter().next() {
        return Err(fault);
    }
    let calendar = is_calendar.then_some(calendar);
    Ok(Plan { machine: message.machine, cycle_s: message.cycle_s, calendar })
}

fn read(message: &[u8]) -> Result<Message, String> {
    if message.len() > MESSAGE_MAX {
        return Err(format!("the plan has {} bytes: at most {MESSAGE_MAX} are read", message.len()));
    }
    serde_json::from_slice(message).map_err(|error| format!("the plan cannot be read: {error}"))
}

fn parse_shifts(shifts: &Value) -> Result<Vec<Shift>, String> {
    let wanted = || "`shifts` is a list of spans, or names with spans".to_owned();
    let named: Vec<(Option<&str>, &Value)> = match shifts {
        Value::Array(list) => list.iter().map(|span| (None, span)).collect(),
        Value::Object(table) => table.iter().map(|(name, span)| (Some(name.as_str()), span)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return Err(wanted()),
    };
    if named.len() > SHIFTS_MAX {
        return Err(format!("{} shifts: at most {SHIFTS_MAX} are possible", named.len()));
    }
    named
        .into_iter()
        .map(|(name, span)| calendar::shift(name, span.as_str().ok_or_else(wanted)?).map_err(of("shifts")))
        .collect()
}

/// Puts a key before what is wrong with its value.
fn of(key: &str) -> impl Fn(String) -> String {
    move |error| format!("`{key}`: {error}")
}
