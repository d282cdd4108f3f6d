//! What a device has taught by refusing: holes in its map, values that it does not have, the most it answers at once.
//! Pure.
//!
//! One [`Learned`] a device. The bus plans with [`Learned::limits`], tells every answer with data and every refusal,
//! and asks the halves of a refused block at once, so that no value is lost for what is being learned. It plans anew
//! after a sweep when [`Learned::take_changed`] says so; until then [`Learned::foresee`] spares it refusals.
//!
//! ```text
//!  a block is refused ──> its halves ──> one is refused too: that explains the block
//!                                   └──> both are answered: the block was refused as a whole, for its size or for
//!                                        what lies between the halves
//! ```
//!
//! Which of the two:
//! - A block no larger than one that was answered was refused for the gap between its halves: a hole. Where they
//!   touch, the gap is empty and a border: a hole of count 0.
//! - A larger one was refused for its size where the device says so (exception 3) or where the halves touch.
//! - Else it may be either. It is taken for a hole; and when the device, planned for anew, refuses a block that is no
//!   larger and has no such gap, both were refused for their size. Holes in many places of a map of which no large
//!   block is ever answered may so pass for a size: that costs requests, never a value.
//!
//! The most that the device answers lies between the largest size answered and the smallest refused; each plan tries
//! the middle, so that it is found by bisection, for registers in at most seven steps. An answer corrects what was
//! learned wrongly: what was read is no hole, and a size that was answered is not too large. The largest size answered
//! never falls until something is [forgotten](Learned::forget), so this comes to an end.
//!
//! Lines lose answers. So silence about what was answered before teaches nothing: the halves are asked, and that is
//! all.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::plan::{Block, Limits, contains, halves};
use crate::reading::Timestamp;
use crate::tag::{Area, Span, TagId};

pub mod file;

/// After this what was learned is to be forgotten: a device may have been given other firmware or another map.
pub const AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// The most holes, and the most refused values, of a device. One more is not learned: its block is refused and read in
/// halves each time.
const HOLES_MAX: usize = 1000;
/// The most refused blocks of which halves are awaited. The oldest is given up for one more: it is refused again.
const TRIALS_MAX: usize = 64;
/// A block is not foreseen to be too large before so many others were refused that may be: one that was refused for
/// something else would hold all others small, and none could show that it was not for its size.
const WITNESSES: u8 = 2;
/// The most spans that are known to be answered. All are given up for one more: each counts again when it is next read.
const PROVEN_MAX: usize = 1000;

/// Why a block gave no data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Exception 2: of these addresses one is not there.
    Address,
    /// Exception 3: most often, that it is too much at once.
    Quantity,
    /// No answer, while other blocks are answered.
    Silence,
}

/// What to do about a refused block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Ask both at once, and tell what comes of them.
    Halves(Block, Block),
    /// It is one value, or a block that is never split: it is bad by itself. [`Learned::is_refused`] says whether it is
    /// to be asked rarely.
    Alone,
}

/// What one device has taught.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    holes: Vec<Hole>,
    refused: Vec<Value>,
    registers: Size,
    bits: Size,
    trials: VecDeque<Trial>,
    /// What was answered, so that silence about it is the line's.
    proven: BTreeSet<Span>,
    is_changed: bool,
}

/// What no block may overlap, as one that did was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hole {
    span: Span,
    /// The count of the smallest block that was refused for it.
    block: u16,
    since: Timestamp,
    /// Whether a plan has heeded it.
    is_planned: bool,
}

/// A value that is refused even by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Value {
    span: Span,
    since: Timestamp,
}

/// How much the device answers at once, of registers or of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Size {
    /// The largest count that was answered; 0 for none.
    good: u16,
    bad: Option<TooLarge>,
}

/// The smallest count that was refused for its size; more than any that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TooLarge {
    count: u16,
    since: Timestamp,
    /// How many blocks of so much or more were refused since, and none answered.
    witnesses: u8,
}

impl Size {
    /// What to ask for at most, where the configuration allows `given`.
    fn limit(self, given: u16) -> u16 {
        self.bad.map_or(given, |bad| given.min(self.good.midpoint(bad.count).max(1)))
    }
}

/// A refused block whose halves are being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Trial {
    whole: Span,
    halves: [Span; 2],
    is_answered: [bool; 2],
    why: Refusal,
    since: Timestamp,
}

impl Learned {
    /// What to plan with: `given` by the configuration, and learned.
    #[must_use]
    pub fn limits(&self, given: &Limits) -> Limits {
        let mut limits = given.clone();
        limits.registers = self.registers.limit(given.registers);
        limits.bits = self.bits.limit(given.bits);
        limits.holes.extend(self.holes.iter().map(|hole| hole.span));
        limits.holes.extend(self.refused.iter().map(|value| value.span));
        limits
    }

    /// Whether the device refuses just this, so that it is asked rarely.
    #[must_use]
    pub fn is_refused(&self, span: Span) -> bool {
        self.refused.iter().any(|value| value.span == span)
    }

    /// Whether nothing was learned that would be worth keeping.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let has_limit = self.registers.bad.is_some() || self.bits.bad.is_some();
        self.holes.is_empty() && self.refused.is_empty() && !has_limit
    }

    /// Whether [`Learned::limits`] may give something else than when this was last asked: time to plan, and to save.
    pub fn take_changed(&mut self) -> bool {
        if self.is_changed {
            self.holes.iter_mut().for_each(|hole| hole.is_planned = true);
        }
        std::mem::take(&mut self.is_changed)
    }

    /// The halves of a block that was planned before it was learned that the device would refuse it: they are asked
    /// instead. `None` where nothing speaks against it, or where it cannot be cut.
    pub fn foresee(
        &self,
        block: &Block,
        limits: &Limits,
        span_of: impl Fn(TagId) -> Span,
    ) -> Option<(Block, Block)> {
        let Span { area, count, .. } = block.span;
        let size = if area.is_bits() { self.bits } else { self.registers };
        let is_too_large = size.bad.is_some_and(|bad| bad.count <= count && bad.witnesses >= WITNESSES);
        let mut barriers =
            self.holes.iter().map(|hole| hole.span).chain(self.refused.iter().map(|value| value.span));
        let is_refused = is_too_large || barriers.any(|barrier| overlap(barrier, block.span));
        if is_refused && !limits.is_whole(block.span) { halves(block, span_of) } else { None }
    }

    /// The device answered `span` with data.
    pub fn answered(&mut self, span: Span) {
        if self.proven.len() == PROVEN_MAX {
            self.proven.clear();
        }
        self.proven.insert(span);
        self.grow(span);
        self.fill(span);
        let is_new = |value: &Value| !contains(span, value.span);
        let refused = self.refused.len();
        self.refused.retain(is_new);
        self.is_changed |= self.refused.len() < refused;

        let mut concluded = Vec::new();
        self.trials.retain_mut(|trial| {
            for (half, is_answered) in trial.halves.iter().zip(&mut trial.is_answered) {
                *is_answered |= contains(span, *half);
            }
            let is_concluded = trial.is_answered == [true; 2];
            concluded.extend(is_concluded.then_some(*trial));
            !is_concluded
        });
        // where the whole was answered, it had been refused for a reason that is gone
        for trial in concluded.iter().filter(|trial| !contains(span, trial.whole)) {
            self.conclude(trial);
        }
    }

    /// The device refused `block`, which was planned within `limits`. `span_of` gives a tag's registers.
    pub fn refused(
        &mut self,
        block: &Block,
        why: Refusal,
        limits: &Limits,
        span_of: impl Fn(TagId) -> Span,
        now: Timestamp,
    ) -> Refused {
        let whole = block.span;
        if let Some(bad) = self.size(whole.area).bad.as_mut().filter(|bad| bad.count <= whole.count) {
            bad.witnesses = bad.witnesses.saturating_add(1);
        }
        self.trials.retain(|trial| trial.whole != whole && !trial.halves.contains(&whole));
        let teaches = why != Refusal::Silence || !self.proven.iter().any(|span| contains(*span, whole));
        let cut = if limits.is_whole(whole) { None } else { halves(block, span_of) };
        match &cut {
            None if teaches => self.refuse(Value { span: whole, since: now }),
            Some((first, second)) if teaches => {
                let halves = [first.span, second.span];
                self.attempt(Trial { whole, halves, is_answered: [false; 2], why, since: now });
            }
            _ => {}
        }
        cut.map_or(Refused::Alone, |(first, second)| Refused::Halves(first, second))
    }

    /// Drops what was learned `age` ago or longer, so that it is tried anew; true where there was something.
    ///
    /// With it goes what is known to be answered: today it may not be.
    pub fn forget(&mut self, now: Timestamp, age: Duration) -> bool {
        // a clock that was set back does not keep a lesson for ever
        let is_fresh = |since: Timestamp| u128::from(now.millis().abs_diff(since.millis())) < age.as_millis();
        let lessons = |learned: &Learned| {
            let limits = [learned.registers, learned.bits].iter().filter(|size| size.bad.is_some()).count();
            learned.holes.len() + learned.refused.len() + limits
        };
        let before = lessons(self);
        self.holes.retain(|hole| is_fresh(hole.since));
        self.refused.retain(|value| is_fresh(value.since));
        for size in [&mut self.registers, &mut self.bits] {
            size.bad = size.bad.filter(|bad| is_fresh(bad.since));
        }
        let has_forgotten = lessons(self) < before;
        if has_forgotten {
            self.registers.good = 0;
            self.bits.good = 0;
            self.proven.clear();
            self.is_changed = true;
        }
        has_forgotten
    }

    fn size(&mut self, area: Area) -> &mut Size {
        if area.is_bits() { &mut self.bits } else { &mut self.registers }
    }

    /// So much is answered at once.
    fn grow(&mut self, span: Span) {
        let size = self.size(span.area);
        if size.good >= span.count {
            return;
        }
        size.good = span.count;
        let had_limit = size.bad.is_some();
        size.bad = size.bad.filter(|bad| bad.count > span.count);
        self.is_changed |= had_limit;
    }

    /// So much is too large, which explains all holes that were learned from as much.
    fn shrink(&mut self, area: Area, count: u16, since: Timestamp) {
        let size = self.size(area);
        if size.bad.is_none_or(|bad| count < bad.count) {
            size.bad = Some(TooLarge { count, since, witnesses: 0 });
            self.is_changed = true;
        }
        self.holes.retain(|hole| hole.span.area.is_bits() != area.is_bits() || hole.block < count);
    }

    /// What was read is no hole.
    fn fill(&mut self, span: Span) {
        let filled: Vec<Hole> = self.holes.extract_if(.., |hole| overlap(hole.span, span)).collect();
        self.is_changed |= !filled.is_empty();
        for hole in filled {
            let room = HOLES_MAX.saturating_sub(self.holes.len());
            let rests = rests(hole.span, span);
            self.holes.extend(rests.iter().map(|rest| Hole { span: *rest, ..hole }).take(room));
            if !rests.is_empty() {
                continue;
            }
            if hole.block > self.size(span.area).good {
                self.shrink(span.area, hole.block, hole.since); // then it was the size
                continue;
            }
            for end in borders(hole.span, span) {
                self.dig(Hole { span: end, ..hole });
            }
        }
    }

    /// Both halves of a refused block were answered.
    fn conclude(&mut self, trial: &Trial) {
        let Trial { whole, halves: [first, second], why, since, .. } = *trial;
        let gap = u32::from(second.address).saturating_sub(first.end());
        if self.is_too_large(whole, why, gap == 0) {
            self.shrink(whole.area, whole.count, since);
            return;
        }
        let count = u16::try_from(gap).unwrap_or_default();
        let span = Span { area: whole.area, address: second.address - count, count };
        self.dig(Hole { span, block: whole.count, since, is_planned: false });
    }

    /// Whether a block that was refused as a whole was refused for its size.
    fn is_too_large(&mut self, whole: Span, why: Refusal, has_no_gap: bool) -> bool {
        let Size { good, bad } = *self.size(whole.area);
        if whole.count <= good {
            return false;
        }
        let is_known = bad.is_some_and(|bad| bad.count <= whole.count);
        // a hole that was learned from no smaller a block and did not help; where sizes are being tried, also one of
        // this sweep
        let is_suspected = self.holes.iter().any(|hole| {
            let is_of_kind = hole.span.area.is_bits() == whole.area.is_bits();
            let counts = hole.is_planned || bad.is_some();
            is_of_kind && counts && hole.block > good && hole.block >= whole.count
        });
        why == Refusal::Quantity || has_no_gap || is_known || is_suspected
    }

    fn attempt(&mut self, new: Trial) {
        if self.trials.len() == TRIALS_MAX {
            self.trials.pop_front();
        }
        self.trials.push_back(new);
    }

    fn dig(&mut self, new: Hole) {
        if let Some(hole) = self.holes.iter_mut().find(|hole| hole.span == new.span) {
            *hole = Hole { block: new.block.min(hole.block), since: new.since, ..*hole };
        } else if self.holes.len() < HOLES_MAX {
            self.holes.push(new);
            self.is_changed = true;
        }
    }

    fn refuse(&mut self, new: Value) {
        if let Some(value) = self.refused.iter_mut().find(|value| value.span == new.span) {
            value.since = new.since; // it has just been tried
        } else if self.refused.len() < HOLES_MAX {
            self.refused.push(new);
            self.is_changed = true;
        }
    }
}

fn overlap(a: Span, b: Span) -> bool {
    a.area == b.area && u32::from(a.address) < b.end() && u32::from(b.address) < a.end()
}

/// What is left of `hole` on either side of `answered`, which overlaps it.
fn rests(hole: Span, answered: Span) -> Vec<Span> {
    let left = answered.address.saturating_sub(hole.address);
    let right = u16::try_from(hole.end().saturating_sub(answered.end())).unwrap_or_default();
    let sides = [(hole.address, left), (hole.address + (hole.count - right), right)];
    let rests = sides.into_iter().filter(|(_, count)| *count > 0);
    rests.map(|(address, count)| Span { address, count, ..hole }).collect()
}

/// The ends of `hole`, all of which was read, that `answered` does not cross: where requests may have to end.
fn borders(hole: Span, answered: Span) -> Vec<Span> {
    let end = u16::try_from(hole.end()).unwrap_or(hole.address);
    let ends = [hole.address, end].map(|address| Span { address, count: 0, ..hole });
    ends.into_iter().filter(|end| !overlap(*end, answered)).collect()
}

#[cfg(test)]
mod tests;
