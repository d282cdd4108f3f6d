//! What is computed when something that it needs has a new sample, and what each remembers. Pure.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use super::live::Live;
use super::recipe::{whole, word_of};
use super::totals::Totals;
use crate::config::site::{Derived, Site, Step};
use crate::expression::{Inputs, Memory, Sample};
use crate::reading::{Quality, Value};
use crate::tag::TagId;

/// Which steps are to be computed, and what expressions remember.
#[derive(Debug)]
pub struct Computed {
    /// By tag: the steps that need it.
    dependents: Vec<Vec<usize>>,
    /// Of derived tags.
    memories: Vec<Memory>,
    /// The steps with new inputs; those that others need come first.
    dirty: BinaryHeap<Reverse<usize>>,
    is_dirty: Vec<bool>,
    /// When to look at a step although nothing is new.
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    due_at: Vec<Option<Instant>>,
}

impl Computed {
    /// Nothing has been computed yet.
    #[must_use]
    pub fn new(site: &Site) -> Computed {
        let mut dependents = vec![Vec::new(); site.tags.len()];
        for (index, step) in site.steps.iter().enumerate() {
            for tag in step.inputs() {
                dependents.get_mut(tag.index()).into_iter().for_each(|of: &mut Vec<usize>| of.push(index));
            }
        }
        let memory = |step: &Step| match step {
            Step::Derived(derived) => Memory::new(&derived.expression),
        };
        Computed {
            dependents,
            memories: site.steps.iter().map(memory).collect(),
            dirty: BinaryHeap::new(),
            is_dirty: vec![false; site.steps.len()],
            due: BinaryHeap::new(),
            due_at: vec![None; site.steps.len()],
        }
    }

    /// A tag has a new sample.
    pub fn note(&mut self, tag: TagId) {
        let Some(dependents) = self.dependents.get(tag.index()) else { return };
        for step in dependents {
            if let Some(is_dirty) = self.is_dirty.get_mut(*step).filter(|is_dirty| !**is_dirty) {
                *is_dirty = true;
                self.dirty.push(Reverse(*step));
            }
        }
    }

    /// The next step to compute.
    pub fn next_dirty(&mut self) -> Option<usize> {
        let Reverse(step) = self.dirty.pop()?;
        self.is_dirty.get_mut(step).into_iter().for_each(|is_dirty| *is_dirty = false);
        Some(step)
    }

    /// When a step is to be looked at although nothing is new.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse((at, _))| *at)
    }

    /// Steps whose time has come are to be computed.
    pub fn wake(&mut self, now: Instant) {
        while let Some(Reverse((at, step))) = self.due.peek().copied()
            && at <= now
        {
            self.due.pop();
            let is_current = self.due_at.get(step).copied().flatten() == Some(at);
            if let (true, Some(is_dirty)) = (is_current, self.is_dirty.get_mut(step)) {
                self.due_at.get_mut(step).into_iter().for_each(|due| *due = None);
                if !std::mem::replace(is_dirty, true) {
                    self.dirty.push(Reverse(step));
                }
            }
        }
    }

    /// The value of a derived tag now, or why there is none, and what it is to be doubted for.
    pub fn derive(
        &mut self,
        step: usize,
        derived: &Derived,
        live: &[Live],
        counters: &Totals,
        now: Instant,
    ) -> (Result<Value, Quality>, Quality) {
        let Some(memory) = self.memories.get_mut(step) else {
            return (Err(Quality::BadConfig), Quality::Good);
        };
        let evaluated = derived.expression.evaluate(&View { live, counters }, memory, now);
        self.wake_at(step, evaluated.due);
        let value = match evaluated.value {
            None => Err(evaluated.quality),
            Some(value) => shaped(value, derived),
        };
        (value, evaluated.quality)
    }

    fn wake_at(&mut self, step: usize, due: Option<Instant>) {
        let Some(known) = self.due_at.get_mut(step).filter(|known| **known != due) else { return };
        *known = due;
        if let Some(at) = due {
            self.due.push(Reverse((at, step)));
        }
    }
}

/// The value as it is published: a whole number, a word.
fn shaped(value: Value, derived: &Derived) -> Result<Value, Quality> {
    if !derived.is_whole {
        return Ok(value);
    }
    let whole = whole(&value)?;
    Ok(match &derived.words {
        None => whole,
        Some(words) => word_of(&whole, words),
    })
}

/// What expressions see.
struct View<'a> {
    live: &'a [Live],
    counters: &'a Totals,
}

impl Inputs for View<'_> {
    fn sample(&self, tag: TagId) -> Sample<'_> {
        match self.live.get(tag.index()) {
            Some(live) => Sample { value: live.value.as_ref(), quality: live.quality, serial: live.serial },
            None => Sample { value: None, quality: Quality::BadNoCommunication, serial: 0 },
        }
    }

    fn rising(&self, tag: TagId) -> Option<f64> {
        self.counters.total(tag)
    }
}
