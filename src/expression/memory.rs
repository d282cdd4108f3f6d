//! What an expression remembers: the state of `for`, `avg`, `rate`, `prev` and `count`, each in a cell of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::tree::{Flag, View, word};
use super::window::Window;
use super::{Expression, Inputs, Sample};
use crate::reading::{Quality, Value};
use crate::tag::TagId;

/// What a cell watches; a cell may look at those before it.
#[derive(Clone, Debug)]
pub(super) enum Cell {
    /// `flag for span`
    Held(Flag, Duration),
    /// `avg(tag, window)`
    Mean(TagId, Duration),
    /// `rate(tag, window)`
    Rate(TagId, Duration),
    /// `prev(tag)`
    Previous(TagId),
    /// `count(tag)`
    Samples(TagId),
    /// `count(flag)`
    Edges(Flag),
}

/// What a cell knows.
#[derive(Clone, Debug)]
pub(super) enum State {
    Held { since: Option<Instant>, found: Result<bool, Quality> },
    Window { window: Window, found: Option<f64> },
    Previous { serial: Option<u64>, current: Option<Value>, before: Option<Value> },
    Count { serial: Option<u64>, was: Option<bool>, total: u64 },
}

impl State {
    fn new(cell: &Cell) -> State {
        match cell {
            Cell::Held(..) => State::Held { since: None, found: Err(Quality::UncertainInitial) },
            Cell::Mean(_, whole) | Cell::Rate(_, whole) => {
                State::Window { window: Window::new(*whole), found: None }
            }
            Cell::Previous(_) => State::Previous { serial: None, current: None, before: None },
            Cell::Samples(_) | Cell::Edges(_) => State::Count { serial: None, was: None, total: 0 },
        }
    }

    pub(super) fn number(&self) -> Result<f64, Quality> {
        let found = match self {
            State::Window { found, .. } => *found,
            State::Previous { before, .. } => before.as_ref().and_then(Value::number),
            State::Count { total, .. } => Some(*total as f64),
            State::Held { .. } => None,
        };
        let number = found.ok_or(Quality::UncertainInitial)?;
        if number.is_finite() { Ok(number) } else { Err(Quality::BadSensorFailure) }
    }

    pub(super) fn flag(&self) -> Result<bool, Quality> {
        match self {
            State::Held { found, .. } => *found,
            State::Previous { before: Some(Value::Bool(flag)), .. } => Ok(*flag),
            State::Previous { .. } | State::Window { .. } | State::Count { .. } => {
                Err(Quality::UncertainInitial)
            }
        }
    }

    pub(super) fn word(&self) -> Result<&Arc<str>, Quality> {
        let State::Previous { before, .. } = self else { return Err(Quality::UncertainInitial) };
        word(before.as_ref()).map_err(|_| Quality::UncertainInitial)
    }
}

/// What one expression remembers between its evaluations; of a fixed size.
#[derive(Clone, Debug)]
pub struct Memory {
    pub(super) states: Vec<State>,
}

impl Memory {
    /// Of an expression that has seen nothing.
    #[must_use]
    pub fn new(expression: &Expression) -> Memory {
        Memory { states: expression.cells.iter().map(State::new).collect() }
    }

    /// The total of every `count`, in the order of the text: to be kept over restarts.
    #[must_use]
    pub fn counts(&self) -> Vec<u64> {
        let total = |state: &State| if let State::Count { total, .. } = state { Some(*total) } else { None };
        self.states.iter().filter_map(total).collect()
    }

    /// Goes on from totals that [`Memory::counts`] gave for the same text; what has none begins at 0.
    pub fn restore_counts(&mut self, totals: &[u64]) {
        let counts = self.states.iter_mut().filter_map(|state| match state {
            State::Count { total, .. } => Some(total),
            State::Held { .. } | State::Window { .. } | State::Previous { .. } => None,
        });
        for (total, kept) in counts.zip(totals) {
            *total = *kept;
        }
    }

    /// Lets every cell look, the inner ones first; says when the first of them must look again.
    pub(super) fn step<I: Inputs>(
        &mut self,
        cells: &[Cell],
        inputs: &I,
        is_known: bool,
        now: Instant,
    ) -> Option<Instant> {
        let mut due: Option<Instant> = None;
        for (index, cell) in cells.iter().enumerate() {
            let Some((states, rest)) = self.states.split_at_mut_checked(index) else { break };
            let Some(state) = rest.first_mut() else { break };
            let next = look(cell, state, &View { inputs, states }, is_known, now);
            due = match (due, next) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        due
    }
}

/// One cell looks. `is_known` says that every input of the expression has a value: else no condition is asked.
fn look<I: Inputs>(
    cell: &Cell,
    state: &mut State,
    view: &View<'_, I>,
    is_known: bool,
    now: Instant,
) -> Option<Instant> {
    let flag = |flag: &Flag| if is_known { flag.of(view) } else { Err(Quality::UncertainInitial) };
    match (cell, state) {
        (Cell::Held(condition, span), State::Held { since, found }) => {
            let holds = flag(condition);
            *since = if holds == Ok(true) { since.or(Some(now)) } else { None };
            let end = since.and_then(|since| since.checked_add(*span));
            let has_held = end.is_some_and(|end| now >= end);
            *found = holds.map(|_| has_held);
            return end.filter(|_| !has_held);
        }
        (Cell::Mean(tag, _), State::Window { window, found }) => {
            window.take(good_number(&view.inputs.sample(*tag)), now);
            *found = window.mean();
            return window.due();
        }
        (Cell::Rate(tag, _), State::Window { window, found }) => {
            let number = good_number(&view.inputs.sample(*tag));
            let rising =
                |number| view.inputs.rising(*tag).filter(|total| total.is_finite()).unwrap_or(number);
            window.take(number.map(rising), now);
            *found = window.rate();
            return window.due();
        }
        (Cell::Previous(tag), State::Previous { serial, current, before }) => {
            let sample = view.inputs.sample(*tag);
            if let Some(value) = fresh(&sample, serial) {
                *before = current.replace(value.clone());
            }
        }
        (Cell::Samples(tag), State::Count { serial, was, total }) => {
            match fresh(&view.inputs.sample(*tag), serial) {
                Some(Value::Bool(is_on)) => count_edge(was, *is_on, total),
                Some(_) => *total = total.saturating_add(1),
                None => {}
            }
        }
        (Cell::Edges(condition), State::Count { was, total, .. }) => {
            if let Ok(is_on) = flag(condition) {
                count_edge(was, is_on, total);
            }
        }
        // A memory of another expression: its cells stay as they are.
        _ => {}
    }
    None
}

fn count_edge(was: &mut Option<bool>, is_on: bool, total: &mut u64) {
    if was.replace(is_on) == Some(false) && is_on {
        *total = total.saturating_add(1);
    }
}

fn good_number(sample: &Sample<'_>) -> Option<f64> {
    sample
        .value
        .filter(|_| sample.quality.is_good())
        .and_then(Value::number)
        .filter(|value| value.is_finite())
}

/// The value, where the sample is usable and was not seen before.
fn fresh<'a>(sample: &Sample<'a>, serial: &mut Option<u64>) -> Option<&'a Value> {
    let value = sample.value.filter(|_| !sample.quality.is_bad())?;
    (serial.replace(sample.serial) != Some(sample.serial)).then_some(value)
}
