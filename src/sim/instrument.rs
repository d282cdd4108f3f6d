//! The far end of instruments: what they are asked, and the bytes that they say. Pure, and written apart from the gateway's
//! own driver.
//!
//! | instrument | asked | says |
//! |---|---|---|
//! | balance (MT-SICS reference manual, `SI`) | `SI` CR LF | `S S     100.00 g` CR LF settled, `S D …` in motion, `S +` overloaded |
//! | indicator (XK3190-A26 manual, p. 12, tF = 0) | – | 02, sign, six digits, decimals, XOR of these eight in hexadecimal, 03 |
//! | reader | – | the code, CR LF |
//! | player | what an example of its type says | the same |

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::faults::Answer;
use super::floor::{Habit, Instrument, Load, Mark, PointName, Served, Truth, Weight};
use crate::reading::Timestamp;

const WEIGH: &[u8] = b"SI\r\n";
const LINE_END: &[u8] = b"\r\n";
const START: u8 = 0x02;
const END: u8 = 0x03;
/// The shortest pause between two codes, and the most that comes on top.
const CODE_MS: u64 = 600;
const CODE_MORE_MS: u64 = 2100;
/// A wrong bit that a check sees, and in what has none the bit that no text has, as a port shows a character of wrong parity.
const CHECKED_BITS: Range<u8> = 0..5;
const TEXT_BITS: Range<u8> = 7..8;

/// What an instrument says once.
#[derive(Clone, Debug, PartialEq)]
pub struct Saying {
    /// The bytes, and what may happen to them.
    pub answer: Answer,
    /// What they mean.
    pub served: Vec<(PointName, Served)>,
}

/// How far the instruments of a link are.
#[derive(Debug, Default)]
pub struct Instruments {
    /// By name and what was asked: how often it has spoken. What is asked is one of the scenes' or of the table above.
    turns: BTreeMap<(Arc<str>, Vec<u8>), u64>,
}

impl Instruments {
    /// What `instrument` answers where all that it hears between two silences is `heard`; `None` where that is none of its
    /// requests.
    pub fn reply(
        &mut self,
        instrument: &Instrument,
        heard: &[u8],
        elapsed_ms: u64,
        at: Timestamp,
    ) -> Option<Saying> {
        match &instrument.habit {
            Habit::Balance(load) if heard == WEIGH => Some(balance(instrument, *load, elapsed_ms, at)),
            Habit::Player { .. } if !heard.is_empty() => self.play(instrument, heard, at),
            Habit::Balance(_) | Habit::Indicator { .. } | Habit::Reader(_) | Habit::Player { .. } => None,
        }
    }

    /// What `instrument` says by itself, and how long after it began it says the next; `None` where it does not talk.
    pub fn talk(
        &mut self,
        instrument: &Instrument,
        elapsed_ms: u64,
        at: Timestamp,
    ) -> Option<(Saying, Duration)> {
        let (saying, pause_ms) = match &instrument.habit {
            Habit::Balance(_) => return None,
            Habit::Indicator { load, every_ms } => (indicator(instrument, *load, elapsed_ms, at), *every_ms),
            Habit::Reader(codes) => {
                let turn = self.turn(instrument, &[]);
                let code = codes.get(index(turn, codes.len())?)?;
                (read_code(instrument, code, at), CODE_MS + turn * 1103 % CODE_MORE_MS)
            }
            Habit::Player { every_ms, .. } => (self.play(instrument, &[], at)?, *every_ms),
        };
        Some((saying, Duration::from_millis(pause_ms)))
    }

    /// The next scene of those that are asked so.
    fn play(&mut self, instrument: &Instrument, asked: &[u8], at: Timestamp) -> Option<Saying> {
        let Habit::Player { scenes, .. } = &instrument.habit else { return None };
        let count = scenes.iter().filter(|scene| scene.asked == asked).count();
        if count == 0 {
            return None;
        }
        let turn = index(self.turn(instrument, asked), count)?;
        let scene = scenes.iter().filter(|scene| scene.asked == asked).nth(turn)?;
        let mark = if scene.is_event { Mark::Event } else { Mark::Printed };
        let served = scene.means.iter().map(|(tag, truth)| served(instrument, tag, truth.clone(), mark, at));
        // nobody can tell which of its bytes a check covers: a wrong bit is one that no text has, in all of them
        let answer = Answer {
            asked: asked.to_vec(),
            said: scene.said.clone(),
            flips: 0..scene.said.len(),
            bits: TEXT_BITS,
            is_event: scene.is_event,
            ..Answer::default()
        };
        Some(Saying { answer, served: served.collect() })
    }

    /// How often it has said such a thing before.
    fn turn(&mut self, instrument: &Instrument, asked: &[u8]) -> u64 {
        let turn = self.turns.entry((instrument.name.clone(), asked.to_vec())).or_default();
        *turn += 1;
        *turn - 1
    }
}

fn index(turn: u64, count: usize) -> Option<usize> {
    usize::try_from(turn).ok()?.checked_rem(count)
}

fn served(
    instrument: &Instrument,
    tag: &str,
    truth: Truth,
    mark: Mark,
    at: Timestamp,
) -> (PointName, Served) {
    ((instrument.name.clone(), tag.into()), Served { at, truth, mark })
}

fn weight(instrument: &Instrument, load: Load, shown: Weight, at: Timestamp) -> Vec<(PointName, Served)> {
    vec![served(instrument, "weight", load.truth(shown.digits), shown.mark, at)]
}

fn balance(instrument: &Instrument, load: Load, elapsed_ms: u64, at: Timestamp) -> Saying {
    let shown = load.at(elapsed_ms);
    let text = match shown.mark {
        Mark::Over => "S +".to_owned(),
        Mark::Moving => format!("S D {:>10} g", decimal(shown.digits, load.decimals)),
        Mark::Plain | Mark::Event | Mark::Printed => {
            format!("S S {:>10} g", decimal(shown.digits, load.decimals))
        }
    };
    let answer = Answer {
        asked: WEIGH.to_vec(),
        flips: 0..text.len(),
        bits: TEXT_BITS,
        said: [text.as_bytes(), LINE_END].concat(),
        ..Answer::default()
    };
    Saying { answer, served: weight(instrument, load, shown, at) }
}

fn indicator(instrument: &Instrument, load: Load, elapsed_ms: u64, at: Timestamp) -> Saying {
    // its frame has no place for a word about the weight
    let shown = Weight { mark: Mark::Plain, ..load.at(elapsed_ms) };
    let sign = if shown.digits < 0 { '-' } else { '+' };
    let text = format!("{sign}{:06}{}", shown.digits.unsigned_abs() % 1_000_000, load.decimals);
    let check = text.bytes().fold(0, |check, byte| check ^ byte);
    let said = [&[START], text.as_bytes(), format!("{check:02X}").as_bytes(), &[END]].concat();
    let answer = Answer { flips: 1..said.len() - 1, bits: CHECKED_BITS, said, ..Answer::default() };
    Saying { answer, served: weight(instrument, load, shown, at) }
}

fn read_code(instrument: &Instrument, code: &str, at: Timestamp) -> Saying {
    let answer = Answer {
        flips: 0..code.len(),
        bits: TEXT_BITS,
        said: [code.as_bytes(), LINE_END].concat(),
        is_event: true,
        ..Answer::default()
    };
    Saying { answer, served: vec![served(instrument, "code", Truth::Text(code.to_owned()), Mark::Event, at)] }
}

/// A number with so many digits behind the point.
fn decimal(digits: i64, decimals: u8) -> String {
    let sign = if digits < 0 { "-" } else { "" };
    let power = 10_u64.pow(decimals.into());
    let (whole, rest) = (digits.unsigned_abs() / power, digits.unsigned_abs() % power);
    match decimals {
        0 => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{rest:0>width$}", width = usize::from(decimals)),
    }
}

#[cfg(test)]
mod tests;
