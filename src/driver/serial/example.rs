//! The examples of a type: whether it sends and understands what a manual prints. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::framer::Framer;
use super::{Heard, hear};
use crate::config::site::Operand;
use crate::config::site::serial::{Example, Instrument, Request};
use crate::reading::{Quality, Value};
use crate::scan::Raw;

/// How far a number may be from the one that is wanted, as a part of it.
const TOLERANCE: f64 = 1e-9;

/// Tries `example`; its bytes come in at `now`, all at once, and then there is silence. `publish` makes of the fields of a
/// frame, in the order of the request, the values of tags by name, as their recipes say.
///
/// # Errors
/// What differs, in words.
pub fn run_example(
    instrument: &Instrument,
    example: &Example,
    now: Instant,
    publish: impl Fn(&Request, &[Result<Option<Raw>, Quality>]) -> BTreeMap<Arc<str>, Value>,
) -> Result<(), String> {
    let request = instrument.requests.iter().find(|request| request.name == example.request);
    let request = request.ok_or_else(|| match &example.request {
        Some(name) => format!("there is no request `{name}`"),
        None => "wanted `request`: the type has several".to_owned(),
    })?;
    let vars = example.vars.over(&request.vars).over(&instrument.vars);
    if let Some(wanted) = &example.send {
        let send = request.send.as_ref().ok_or("the type sends nothing")?;
        let bytes = send.render(&vars).map_err(|error| format!("send: {error}"))?;
        let sent = [instrument.wake.as_slice(), &bytes].concat();
        if sent != *wanted {
            return Err(format!("it sends {}, and not {}", shown(&sent), shown(wanted)));
        }
    }
    let Some(incoming) = &example.incoming else { return Ok(()) };
    let mut framer = Framer::new(&request.frame);
    framer.push(incoming, now);
    let mut values = BTreeMap::new();
    loop {
        while let Some(frame) = framer.next_frame() {
            match hear(request, &frame, &vars).map_err(|error| format!("match: {error}"))? {
                Heard::Values(fields) => values.extend(publish(request, &fields)),
                Heard::Refused | Heard::Nothing => {}
            }
        }
        let Some(due) = framer.next_due() else { break };
        framer.handle_quiet(due);
    }
    compare(&values, &example.out)
}

fn compare(values: &BTreeMap<Arc<str>, Value>, out: &BTreeMap<Arc<str>, Operand>) -> Result<(), String> {
    if let (true, Some((name, value))) = (out.is_empty(), values.first_key_value()) {
        return Err(format!("it is not dropped: {name} = {value}"));
    }
    for (name, wanted) in out {
        match values.get(name) {
            None => return Err(format!("{name} has no value")),
            Some(value) if !is_as(value, wanted) => {
                return Err(match wanted {
                    Operand::Number(number) => format!("{name} = {value}, and not {number}"),
                    Operand::Word(word) => format!("{name} = {value}, and not {word}"),
                    Operand::Flag(flag) => format!("{name} = {value}, and not {flag}"),
                });
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn is_as(value: &Value, wanted: &Operand) -> bool {
    match wanted {
        Operand::Number(wanted) => {
            value.number().is_some_and(|number| (number - wanted).abs() <= TOLERANCE * wanted.abs().max(1.0))
        }
        Operand::Word(wanted) => matches!(value, Value::Text(text) if **text == **wanted),
        Operand::Flag(wanted) => *value == Value::Bool(*wanted),
    }
}

/// Bytes as pairs of digits.
fn shown(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(" ")
}
