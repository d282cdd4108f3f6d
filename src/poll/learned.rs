//! What a device has taught by refusing: holes in its map, values that it does not have, the most it answers at once.
//! Pure.
//!
//! One [`Learned`] a device. The bus plans with [`Learned::limits`], tells every answer with data and every refusal, and
//! asks the halves of a refused block at once, so that no value is lost for what is being learned. It plans anew after a
//! sweep when [`Learned::take_changed`] says so.
//!
//! ```text
//!  a block is refused ──> its halves ──> one is refused too: that explains the block
//!                                   └──> both are answered: the block was refused as a whole, for its size or for
//!                                        what lies between the halves
//! ```
//!
//! Which of the two:
//! - A block no larger than one that was answered was refused for the gap between its halves: a hole. Where they touch,
//!   the gap is empty and a border: a hole of count 0.
//! - A larger one was refused for its size where the device says so (exception 3) or where the halves touch.
//! - Else it may be either. It is taken for a hole; and when the device then refuses a block that is no larger and has
//!   no such gap, both for their size.
//!
//! The most that the device answers lies between the largest size answered and the smallest refused; each plan tries the
//! middle, so that it is found by bisection. An answer corrects what was learned wrongly: what was read is no hole, and
//! a size that was answered is not too large. The largest size answered never falls until something is
//! [forgotten](Learned::forget), so this comes to an end.

use std::collections::VecDeque;
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
    /// It is one value, or a block that is never split: it is bad by itself, and to be asked rarely.
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
    /// The smallest that was refused for its size, above `good`, and when.
    bad: Option<(u16, Timestamp)>,
}

impl Size {
    /// What to ask for at most, where the configuration allows `given`.
    fn limit(self, given: u16) -> u16 {
        self.bad.map_or(given, |(bad, _)| given.min(self.good.midpoint(bad).max(1)))
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

    /// The device answered `span` with data.
    pub fn answered(&mut self, span: Span) {
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
        self.trials.retain(|trial| trial.whole != whole && !trial.halves.contains(&whole));
        let cut = if limits.is_whole(whole) { None } else { halves(block, span_of) };
        let Some((first, second)) = cut else {
            self.refuse(Value { span: whole, since: now });
            return Refused::Alone;
        };
        if self.trials.len() == TRIALS_MAX {
            self.trials.pop_front();
        }
        let halves = [first.span, second.span];
        self.trials.push_back(Trial { whole, halves, is_answered: [false; 2], why, since: now });
        Refused::Halves(first, second)
    }

    /// Drops what was learned `age` ago or longer, so that it is tried anew; true where there was something.
    ///
    /// With it goes what is known of sizes that were answered: they may not be answered today.
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
            size.bad = size.bad.filter(|(_, since)| is_fresh(*since));
        }
        let has_forgotten = lessons(self) < before;
        if has_forgotten {
            self.registers.good = 0;
            self.bits.good = 0;
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
        size.bad = size.bad.filter(|(bad, _)| *bad > span.count);
        self.is_changed |= had_limit;
    }

    /// What was read is no hole. Of a hole that was read in pieces a border is left.
    fn fill(&mut self, span: Span) {
        let touches = |hole: &Hole| {
            let is_inside =
                hole.span.end() > span.address.into() && u32::from(hole.span.address) < span.end();
            hole.span.area == span.area && is_inside
        };
        if !self.holes.iter().any(touches) {
            return;
        }
        self.is_changed = true;
        let touched: Vec<Hole> = self.holes.extract_if(.., |hole| touches(hole)).collect();
        for hole in touched {
            let room = HOLES_MAX.saturating_sub(self.holes.len());
            let rests = rests(hole.span, span).into_iter().flatten().take(room);
            self.holes.extend(rests.map(|span| Hole { span, ..hole }));
        }
    }

    /// Both halves of a refused block were answered.
    fn conclude(&mut self, trial: &Trial) {
        let Trial { whole, halves: [first, second], why, since, .. } = *trial;
        let of_kind = |hole: &Hole| hole.span.area.is_bits() == whole.area.is_bits();
        let good = self.size(whole.area).good;
        let gap = u32::from(second.address).saturating_sub(first.end());
        let is_suspected = self
            .holes
            .iter()
            .any(|hole| of_kind(hole) && hole.is_planned && hole.block >= whole.count && hole.block > good);
        self.is_changed = true;
        if whole.count > good && (why == Refusal::Quantity || gap == 0 || is_suspected) {
            self.size(whole.area).bad = Some((whole.count, since));
            self.holes.retain(|hole| !of_kind(hole) || hole.block < whole.count); // the size explains these
            return;
        }
        let count = u16::try_from(gap).unwrap_or_default();
        let span = Span { area: whole.area, address: second.address - count, count };
        self.dig(Hole { span, block: whole.count, since, is_planned: false });
    }

    fn dig(&mut self, new: Hole) {
        if let Some(hole) = self.holes.iter_mut().find(|hole| hole.span == new.span) {
            *hole = Hole { block: new.block.min(hole.block), ..new };
        } else if self.holes.len() < HOLES_MAX {
            self.holes.push(new);
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

/// What is left of `hole` on either side of `answered`, which touches it.
fn rests(hole: Span, answered: Span) -> [Option<Span>; 2] {
    let left = answered.address.saturating_sub(hole.address);
    let right = u16::try_from(hole.end().saturating_sub(answered.end())).unwrap_or_default();
    if left == 0 && right == 0 {
        // read across from before it to behind it, or just up to its ends
        let is_across = answered.address < hole.address && answered.end() > hole.end();
        return [(!is_across).then_some(Span { count: 0, ..hole }), None];
    }
    let rest = |address: u16, count: u16| (count > 0).then_some(Span { address, count, ..hole });
    [rest(hole.address, left), rest(hole.address + (hole.count - right), right)]
}

#[cfg(test)]
mod tests;
