//! Which segments there are, and what is to become of them: kept on the disk, forgotten, deleted, dropped. Pure.
//!
//! A segment is written in memory. It goes to the disk when something in it has waited for its delivery for as long as a
//! power cut may cost; what is delivered sooner never touches the flash. It is deleted when every uplink has surely
//! delivered it, and dropped, with a gap to show for it, when there is no room.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::record::{Gap, Reason};
use crate::position::Position;
use crate::reading::Timestamp;

/// How much of a segment that is delivered may stand in memory before another is begun and it is deleted.
const DELIVERED_SIZE_MAX: u64 = 256 << 10;
/// How finely the age of a reading is told, as a part of `flush`.
const MARKS_PER_FLUSH: u32 = 8;
/// The most marks: with the oldest away, readings before it count as older than they are.
const MARKS_MAX: usize = 1024;
/// How long a disk that failed is left alone.
const DISK_RETRY: Duration = Duration::from_secs(15);

/// The bounds of the store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes on the disk.
    pub(super) disk_max: u64,
    /// Bytes in memory.
    pub(super) memory_max: u64,
    /// Bytes of a segment before the next is begun.
    pub(super) segment_size: u64,
    /// The most that a power cut may cost.
    pub(super) flush: Duration,
    /// Older readings are dropped.
    pub(super) age_max: Option<Duration>,
    /// The disk is used only while an uplink is away.
    pub(super) is_offline_only: bool,
    /// Delivered readings stay so long.
    pub(super) replay_window: Duration,
}

/// How far an uplink has come: everything before these positions is delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// The broker has it.
    pub confirmed: Position,
    /// The broker has had it for so long that it will not be needed again, even should the broker die.
    pub sure: Position,
    /// There is no session with the broker.
    pub is_away: bool,
}

/// One segment.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) first: Position,
    /// Behind its last reading; of one found on the disk at most that.
    pub(super) end: Position,
    /// Bytes that are whole.
    pub(super) size: u64,
    /// Bytes that are surely on the disk, and the position behind the readings in them.
    pub(super) kept: u64,
    pub(super) kept_end: Position,
    pub(super) is_in_memory: bool,
    /// When its last reading was written.
    pub(super) written_at: Instant,
    /// Times of readings in it, by the wall clock.
    pub(super) from: Option<Timestamp>,
    pub(super) to: Option<Timestamp>,
}

impl Segment {
    /// Deleting it saves something.
    fn is_worth_a_roll(&self) -> bool {
        self.size >= DELIVERED_SIZE_MAX || self.kept > 0
    }
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Begin another segment.
    Roll,
    /// Bring bytes of a segment, with the readings before `end`, to the disk.
    Keep { first: Position, from: u64, to: u64, end: Position },
    /// Take the segment out of memory: it is on the disk.
    Forget(Position),
    /// Delete the segment wherever it is: it is delivered.
    Delete(Position),
    /// Delete the segment wherever it is: there is no room. What it held is gone for those that had not delivered it.
    Drop(Position, Gap),
}

/// All segments, the last of which is written.
#[derive(Debug)]
pub(super) struct Index {
    limits: Limits,
    segments: VecDeque<Segment>,
    delivered: Vec<Delivered>,
    /// When positions were reached, the oldest first: enough to tell how long a reading has waited.
    marks: VecDeque<(Position, Instant)>,
    /// The segment that is being brought to the disk.
    keeping: Option<Position>,
    /// The disk failed; when it is tried again.
    disk_retry: Option<Instant>,
}

impl Index {
    /// What was found, in order, for uplinks that have come so far.
    pub(super) fn new(limits: Limits, segments: Vec<Segment>, delivered: Vec<Delivered>) -> Index {
        let segments = segments.into();
        Index { limits, segments, delivered, marks: VecDeque::new(), keeping: None, disk_retry: None }
    }

    pub(super) fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter()
    }

    /// The segment that is written.
    pub(super) fn active(&self) -> Option<&Segment> {
        self.segments.back()
    }

    /// The oldest segment that has readings at or behind `position`.
    pub(super) fn locate(&self, position: Position) -> Option<&Segment> {
        let index = self.segments.partition_point(|segment| segment.end <= position);
        self.segments.get(index)
    }

    /// Everything from here on is wanted by somebody.
    pub(super) fn needed_from(&self) -> Position {
        self.delivered.iter().map(|delivered| delivered.sure).min().unwrap_or_default()
    }

    fn unconfirmed_from(&self) -> Position {
        self.delivered.iter().map(|delivered| delivered.confirmed).min().unwrap_or_default()
    }

    pub(super) fn delivered(&self) -> &[Delivered] {
        &self.delivered
    }

    pub(super) fn memory_size(&self) -> u64 {
        self.segments.iter().filter(|segment| segment.is_in_memory).map(|segment| segment.size).sum()
    }

    /// All that is stored, wherever.
    pub(super) fn size(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size).sum()
    }

    pub(super) fn disk_size(&self) -> u64 {
        self.segments.iter().map(|segment| segment.kept).sum()
    }

    /// Whether the disk failed at last.
    pub(super) fn is_disk_failing(&self) -> bool {
        self.disk_retry.is_some()
    }

    /// Takes the segment that is written away if it has no reading.
    pub(super) fn take_empty(&mut self) -> Option<Position> {
        let first = self.active().filter(|active| active.end == active.first)?.first;
        self.segments.pop_back();
        Some(first)
    }

    /// A new segment of `size` bytes is written from now on.
    pub(super) fn handle_rolled(&mut self, first: Position, size: u64, now: Instant) {
        self.segments.push_back(Segment {
            first,
            end: first,
            size,
            kept: 0,
            kept_end: first,
            is_in_memory: true,
            written_at: now,
            from: None,
            to: None,
        });
    }

    /// The segment that is written has `size` bytes more; its readings go up to `end` now, the last of them read at `at`.
    pub(super) fn handle_written(&mut self, end: Position, size: u64, at: Option<Timestamp>, now: Instant) {
        let Some(segment) = self.segments.back_mut() else { return };
        let is_marked = |(_, at): &(Position, Instant)| {
            now.saturating_duration_since(*at) < self.limits.flush / MARKS_PER_FLUSH
        };
        if end > segment.end && !self.marks.back().is_some_and(is_marked) {
            self.marks.push_back((segment.end, now));
            if self.marks.len() > MARKS_MAX {
                self.marks.pop_front();
            }
        }
        segment.end = segment.end.max(end);
        segment.size += size;
        segment.written_at = now;
        segment.from = segment.from.or(at);
        segment.to = at.or(segment.to);
    }

    /// The end of the segment that is written is wanted on the disk, though its readings may be there.
    pub(super) fn want_again(&mut self) {
        if let Some(active) = self.segments.back_mut().filter(|active| active.end > active.first) {
            active.kept_end = active.kept_end.min(Position(active.end.0.saturating_sub(1)));
        }
    }

    /// How far an uplink has come.
    pub(super) fn handle_delivered(&mut self, uplink: usize, delivered: Delivered) {
        if let Some(known) = self.delivered.get_mut(uplink) {
            *known = delivered;
        }
    }

    /// The disk has the segment's bytes up to `to`, with the readings before `end`.
    pub(super) fn handle_kept(&mut self, first: Position, to: u64, end: Position) {
        self.keeping.take_if(|keeping| *keeping == first);
        self.disk_retry = None;
        if let Some(segment) = self.find_mut(first) {
            (segment.kept, segment.kept_end) = (to, end);
        }
    }

    /// The disk does not take the segment; nothing of it on the disk is trusted any more, and the memory has it whole.
    pub(super) fn handle_keep_failed(&mut self, first: Position, now: Instant) {
        self.keeping.take_if(|keeping| *keeping == first);
        self.disk_retry = Some(now + DISK_RETRY);
        if let Some(segment) = self.find_mut(first) {
            (segment.kept, segment.kept_end) = (0, segment.first);
        }
    }

    fn find_mut(&mut self, first: Position) -> Option<&mut Segment> {
        self.segments.iter_mut().find(|segment| segment.first == first)
    }

    /// What is to be done now; whoever asks does it, and asks again.
    pub(super) fn next(&mut self, now: Instant) -> Option<Action> {
        self.delivered_action(now)
            .or_else(|| self.forget())
            .or_else(|| self.drop_action(now))
            .or_else(|| self.keep(now))
    }

    /// What is done soonest if nothing happens before.
    pub(super) fn due(&self) -> Option<Instant> {
        let keep = self.to_keep().filter(|_| self.keeping.is_none() && self.is_disk_wished());
        let keep = keep.map(|(_, wanted)| {
            self.reached_at(wanted).map_or(self.disk_retry, |at| Some(at + self.limits.flush))
        });
        let keep = keep.map(|at| at.max(self.disk_retry));
        let oldest = self.segments.front().filter(|front| front.end > front.first);
        let age = self.limits.age_max.and_then(|age| oldest.map(|front| front.written_at + age));
        let window = self.limits.replay_window;
        let replayed = oldest
            .filter(|front| window > Duration::ZERO && front.end <= self.needed_from())
            .filter(|front| self.segments.len() > 1 || front.is_worth_a_roll())
            .map(|front| front.written_at + window);
        keep.flatten().into_iter().chain(age).chain(replayed).min()
    }

    fn delivered_action(&mut self, now: Instant) -> Option<Action> {
        let front = self.segments.front()?;
        let is_stale = now.saturating_duration_since(front.written_at) >= self.limits.replay_window;
        if front.end > self.needed_from() || !is_stale {
            return None;
        }
        if self.segments.len() > 1 {
            let first = front.first;
            self.segments.pop_front();
            return Some(Action::Delete(first));
        }
        (front.end > front.first && front.is_worth_a_roll()).then_some(Action::Roll)
    }

    fn forget(&mut self) -> Option<Action> {
        let active = self.active()?.first;
        let is_spare = |segment: &&mut Segment| {
            segment.is_in_memory
                && segment.kept > 0
                && segment.kept_end == segment.end
                && segment.first != active
        };
        let segment = self.segments.iter_mut().find(is_spare)?;
        segment.is_in_memory = false;
        Some(Action::Forget(segment.first))
    }

    fn drop_action(&mut self, now: Instant) -> Option<Action> {
        let (front, needed) = (self.segments.front()?, self.needed_from());
        let is_old = self.limits.age_max.is_some_and(|age| {
            now.saturating_duration_since(front.written_at) >= age && front.end > front.first
        });
        // a disk that is only slow is given twice the room
        let memory_max = self.limits.memory_max * if self.is_disk_failing() { 1 } else { 2 };
        let (reason, index) = if self.disk_size() > self.limits.disk_max {
            (Reason::Size, self.segments.iter().position(|segment| segment.kept > 0)?)
        } else if is_old {
            (Reason::Age, 0)
        } else if self.memory_size() > memory_max {
            (Reason::Memory, self.segments.iter().position(|segment| segment.is_in_memory)?)
        } else {
            return None;
        };
        if index + 1 == self.segments.len() {
            let is_begun = self.segments.back().is_some_and(|active| active.end > active.first);
            return is_begun.then_some(Action::Roll);
        }
        let dropped = self.segments.remove(index)?;
        let first = dropped.first.max(needed);
        Some(Action::Drop(
            dropped.first,
            Gap { first, end: dropped.end.max(first), from: dropped.from, to: dropped.to, reason },
        ))
    }

    fn keep(&mut self, now: Instant) -> Option<Action> {
        if self.disk_retry.is_some_and(|retry| retry > now) {
            return None;
        }
        let is_pressed = self.memory_size() > self.limits.memory_max;
        let (_, wanted) = self.to_keep()?;
        let is_due = |at: Instant| now.saturating_duration_since(at) >= self.limits.flush;
        let is_wished = self.is_disk_wished() && self.reached_at(wanted).is_none_or(is_due);
        if is_pressed || is_wished { self.keep_all() } else { None }
    }

    fn is_disk_wished(&self) -> bool {
        !self.limits.is_offline_only || self.delivered.iter().any(|delivered| delivered.is_away)
    }

    /// The oldest segment of which something is wanted that is not on the disk, and what of it is wanted first.
    fn to_keep(&self) -> Option<(&Segment, Position)> {
        let is_all = self.limits.replay_window > Duration::ZERO;
        let from = if is_all { Position(0) } else { self.unconfirmed_from() };
        let is_wanted = |segment: &&Segment| segment.end > from.max(segment.kept_end) && segment.is_in_memory;
        let segment = self.segments.iter().find(is_wanted)?;
        Some((segment, from.max(segment.kept_end)))
    }

    /// When the reading at `position` was written, or somewhat before; `None`: before this program was started.
    fn reached_at(&self, position: Position) -> Option<Instant> {
        let mark = self.marks.iter().rev().find(|(reached, _)| *reached <= position);
        mark.map(|(_, at)| *at)
    }

    /// Brings the next of what some uplink has not got to the disk, whether it is due or not.
    pub(super) fn keep_all(&mut self) -> Option<Action> {
        if self.keeping.is_some() {
            return None;
        }
        let (segment, _) = self.to_keep()?;
        let (first, from, to, end) = (segment.first, segment.kept, segment.size, segment.end);
        self.keeping = Some(first);
        Some(Action::Keep { first, from, to, end })
    }
}

#[cfg(test)]
mod tests;
