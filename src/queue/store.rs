//! The store itself: takes readings in, gives them a position, writes them in memory at once, and says what the disk has
//! to do. Never waits for the disk.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::disk::{Done, Job, Read};
use super::frame::{self, Salt};
use super::history::{self, Bookmark, Boots, Piece, Source};
use super::index::{Action, Delivered, Index, Limits};
use super::memory::{Memory, folders, read_at};
use super::names::Names;
use super::record::{self, BootId, Gap, Reason, Record};
use super::recover::{GAPS_MAX, Recovered, recover};
use super::segment::{Head, name_of};
use crate::config::site::{Queue, Site};
use crate::counters::StoreCounters;
use crate::position::Position;
use crate::reading::{Reading, Stamp, Timestamp};

/// Bytes in memory: some minutes of what is delivered in time, or of what a disk does not take.
const MEMORY_MAX: u64 = 16 << 20;
/// The size of a segment, where that is no more than a part of all.
const SEGMENT_SIZE: u64 = 2 << 20;
/// So many segments there are at least in the smallest queue.
const SEGMENTS_MIN: u64 = 16;
/// How long a folder in memory that failed is left alone.
const FOLDER_RETRY: Duration = Duration::from_secs(60);
/// How long nothing is tried after not even a file without a name could be begun.
const ROLL_RETRY: Duration = Duration::from_secs(5);

/// Where the store is and what it is for.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) disk: PathBuf,
    pub(super) memory: Vec<PathBuf>,
    pub(super) limits: Limits,
    pub(super) uplinks: Vec<Arc<str>>,
    pub(super) boot: BootId,
    /// A position that no earlier run can have reached.
    pub(super) far: Position,
}

impl Plan {
    /// As the site has it.
    pub(super) fn of(site: &Site, boot: BootId, now: Timestamp) -> Plan {
        Plan {
            disk: folder_in(&site.gateway.state_dir),
            memory: folders(&site.gateway.state_dir),
            limits: limits(&site.queue),
            uplinks: site.uplinks.iter().map(|uplink| uplink.name.clone()).collect(),
            boot,
            // a thousand readings a millisecond were never read
            far: Position(now.millis() << 10),
        }
    }
}

/// The folder of the store in a state directory.
pub(super) fn folder_in(state_dir: &Path) -> PathBuf {
    state_dir.join("queue")
}

fn limits(queue: &Queue) -> Limits {
    Limits {
        disk_max: queue.max_size,
        memory_max: MEMORY_MAX,
        segment_size: SEGMENT_SIZE.min(queue.max_size / SEGMENTS_MIN),
        flush: queue.flush,
        age_max: queue.max_age,
        is_offline_only: queue.is_offline_only,
        replay_window: queue.replay_window,
    }
}

/// The store.
#[derive(Debug)]
pub(super) struct Store {
    plan: Plan,
    names: Names,
    counters: Arc<StoreCounters>,
    index: Index,
    memory: Memory,
    folder_retry: Option<Instant>,
    /// No segment can be begun: when it is tried again.
    roll_retry: Option<Instant>,
    boots: Arc<Boots>,
    /// The position of the next reading.
    next: Position,
    salt: Salt,
    /// Which tags have their name in the segment that is written.
    named: Vec<bool>,
    /// Frames that are not written yet, and the readings in them.
    frames: Vec<u8>,
    batch: Vec<(Position, Arc<[Reading]>)>,
    /// What was dropped, for those who have not been told.
    gaps: VecDeque<Gap>,
    /// The last of them, for the segments to come.
    gaps_known: VecDeque<Gap>,
    is_disk_failing: bool,
}

impl Store {
    /// What an earlier run has left, and a segment to go on with.
    pub(super) fn open(plan: Plan, site: Arc<Site>, counters: Arc<StoreCounters>, now: Instant) -> Store {
        let mut memory = Memory::open(&plan.memory);
        let found = recover(&plan.disk, &mut memory, plan.far, &counters, now);
        let Recovered { segments, cursors, gaps, boots, next, .. } = found;
        let start = segments.first().map_or(next, |segment| segment.first);
        let delivered = plan.uplinks.iter().map(|uplink| {
            // an uplink that is new gets all that there is: better twice than not at all
            let sure = cursors.get(&**uplink).copied().unwrap_or(start);
            Delivered { confirmed: sure, sure, is_away: true }
        });
        let index = Index::new(plan.limits, segments, delivered.collect());
        let named = vec![false; site.tags.len()];
        let mut store = Store {
            names: Names::new(site),
            counters,
            index,
            memory,
            folder_retry: None,
            roll_retry: None,
            boots: Arc::new(boots),
            next,
            salt: Salt(0),
            named,
            frames: Vec::new(),
            batch: Vec::new(),
            gaps: gaps.iter().copied().collect(),
            gaps_known: gaps.into(),
            is_disk_failing: false,
            plan,
        };
        store.roll(now);
        store
    }

    /// A reader of the disk for this store.
    pub(super) fn disk(&self) -> super::disk::Disk {
        super::disk::Disk::new(self.plan.disk.clone(), self.names.clone(), self.counters.clone())
    }

    /// The position of the next reading.
    pub(super) fn next_position(&self) -> Position {
        self.next
    }

    /// How far each uplink had come when the store was opened, and comes.
    pub(super) fn delivered(&self) -> &[Delivered] {
        self.index.delivered()
    }

    /// The wall time of this machine's start, where an earlier run or this one knew it.
    pub(super) fn booted_at(&self) -> Option<Timestamp> {
        self.boots.get(&self.plan.boot).copied()
    }

    /// Takes readings in, in the order in which they came; they are written with the next [`Store::commit`].
    pub(super) fn add(&mut self, readings: &Arc<[Reading]>, now: Instant) -> Position {
        let is_full = self.index.active().is_none_or(|active| active.size >= self.plan.limits.segment_size);
        if is_full && self.frames.is_empty() {
            self.roll(now);
        }
        let first = self.next;
        self.next = first.after(readings.len() as u64);
        self.encode(first, readings);
        self.batch.push((first, readings.clone()));
        first
    }

    fn encode(&mut self, first: Position, readings: &[Reading]) {
        for reading in readings {
            let Some(is_named) = self.named.get_mut(reading.tag.index()) else { continue };
            if !std::mem::replace(is_named, true)
                && let Some((device, name)) = self.names.of(reading.tag)
            {
                let name = Record::Name { tag: reading.tag, device, name };
                frame::push(&mut self.frames, self.salt, &record::write(&name));
            }
        }
        record::write_readings(first, readings, |record| frame::push(&mut self.frames, self.salt, record));
    }

    /// Writes what was taken in. From then on it outlives this program.
    pub(super) fn commit(&mut self, now: Instant) {
        if self.frames.is_empty() {
            return;
        }
        if let Err(error) = self.write(now) {
            warn!(%error, "the folder in memory cannot be written: recent readings end with this program");
            self.memory.use_folder(false);
            self.folder_retry = Some(now + FOLDER_RETRY);
            let written = if self.begin_again(now) { self.write(now) } else { Err(error) };
            if let Err(error) = written {
                self.lose_batch(&error);
            }
        }
        self.frames.clear();
        self.batch.clear();
    }

    fn write(&mut self, now: Instant) -> io::Result<()> {
        let active = self.index.active().ok_or(io::ErrorKind::NotFound)?;
        let active_end = active.end;
        self.memory.append(active.first, &self.frames, active.size)?;
        let count = self.batch.iter().map(|(_, readings)| readings.len() as u64).sum();
        let last = self.batch.last().and_then(|(_, readings)| readings.last());
        let at = last.and_then(|last| last.at.wall(self.booted_at()));
        let size = self.frames.len() as u64;
        self.counters.readings.add(count);
        self.counters.bytes.add(size);
        let end =
            self.batch.last().map_or(active_end, |(first, readings)| first.after(readings.len() as u64));
        self.index.handle_written(end, size, at, now);
        Ok(())
    }

    /// A new segment that begins with the batch which the last one did not take.
    fn begin_again(&mut self, now: Instant) -> bool {
        let batch = std::mem::take(&mut self.batch);
        let end = self.next;
        self.next = batch.first().map_or(end, |(first, _)| *first);
        let is_begun = self.roll(now);
        self.next = end;
        if !is_begun {
            self.batch = batch;
            return false;
        }
        for (first, readings) in &batch {
            self.encode(*first, readings);
        }
        self.batch = batch;
        true
    }

    fn lose_batch(&mut self, error: &io::Error) {
        let Some((first, _)) = self.batch.first() else { return };
        error!(%error, readings = self.next.since(*first), "no room in memory: readings are lost");
        let gap = Gap { first: *first, end: self.next, from: None, to: None, reason: Reason::Memory };
        self.add_gap(gap);
    }

    fn add_gap(&mut self, gap: Gap) {
        self.counters.dropped.add(gap.end.since(gap.first));
        if gap.end <= gap.first {
            return;
        }
        for gaps in [&mut self.gaps, &mut self.gaps_known] {
            if gaps.len() >= GAPS_MAX {
                gaps.pop_front();
            }
            gaps.push_back(gap);
        }
        self.push(&Record::Gap(gap));
    }

    fn push(&mut self, record: &Record<'_>) {
        frame::push(&mut self.frames, self.salt, &record::write(record));
    }

    /// Begins another segment, with what it must say at its beginning; false where none can be begun.
    fn roll(&mut self, now: Instant) -> bool {
        if self.folder_retry.is_some_and(|retry| retry <= now) {
            self.folder_retry = None;
            self.memory.use_folder(true);
        }
        if let Some(first) = self.index.take_empty() {
            self.memory.remove(first); // the new one has its name
        }
        let head = Head { first: self.next, boot: self.plan.boot };
        let bytes = [&head.write()[..], &self.preamble(head.salt())].concat();
        let created = self.memory.create(head.first, &bytes).or_else(|error| {
            warn!(%error, segment = %name_of(head.first), "no segment can be begun in the folder in memory");
            self.memory.use_folder(false);
            self.folder_retry = Some(now + FOLDER_RETRY);
            self.memory.create(head.first, &bytes)
        });
        if let Err(error) = created {
            error!(%error, "no segment can be begun at all");
            self.roll_retry = Some(now + ROLL_RETRY);
            return false;
        }
        self.salt = head.salt();
        self.named.fill(false);
        self.frames.clear(); // of the last segment: written, or encoded anew by the caller
        self.roll_retry = None;
        self.index.handle_rolled(head.first, bytes.len() as u64, now);
        true
    }

    /// The first records of a segment: how far uplinks have come, this machine's start, gaps.
    fn preamble(&mut self, salt: Salt) -> Vec<u8> {
        let needed = self.index.needed_from();
        self.gaps_known.retain(|gap| gap.end > needed);
        let cursors = self.plan.uplinks.iter().zip(self.index.delivered());
        let cursors = cursors.map(|(uplink, delivered)| Record::Cursor { uplink, position: delivered.sure });
        let boot = self.booted_at().map(|at| Record::Boot { id: self.plan.boot, at });
        let gaps = self.gaps_known.iter().map(|gap| Record::Gap(*gap));
        let mut frames = Vec::new();
        for record in cursors.chain(boot).chain(gaps) {
            frame::push(&mut frames, salt, &record::write(&record));
        }
        frames
    }

    /// The wall clock is trusted from now on: the machine was started then.
    pub(super) fn handle_clock(&mut self, booted_at: Timestamp, now: Instant) {
        Arc::make_mut(&mut self.boots).insert(self.plan.boot, booted_at);
        // readings of before are dated by it, wherever they are
        self.push(&Record::Boot { id: self.plan.boot, at: booted_at });
        self.commit(now);
        self.index.want_again();
        self.roll(now); // a segment says it at its beginning, where it is looked for
    }

    /// How far an uplink has come.
    pub(super) fn handle_delivered(&mut self, uplink: usize, delivered: Delivered, now: Instant) {
        let known = self.index.delivered().get(uplink).copied().unwrap_or_default();
        self.index.handle_delivered(uplink, delivered);
        if delivered.sure > known.sure
            && let Some(name) = self.plan.uplinks.get(uplink).cloned()
        {
            self.push(&Record::Cursor { uplink: &name, position: delivered.sure });
            self.commit(now);
        }
    }

    /// What became of a job.
    pub(super) fn handle_done(&mut self, done: Done, now: Instant) {
        let Done::Kept { first, to, end, result } = done else { return };
        match result {
            Ok(()) => {
                if std::mem::take(&mut self.is_disk_failing) {
                    info!("the disk takes readings again");
                }
                self.index.handle_kept(first, to, end);
            }
            Err(error) => {
                self.counters.disk_failures.add(1);
                if !std::mem::replace(&mut self.is_disk_failing, true) {
                    error!(folder = %self.plan.disk.display(), %error, "the disk takes no readings: they are kept in memory, as far as it goes");
                }
                self.index.handle_keep_failed(first, now);
            }
        }
    }

    /// What the disk has to do now.
    pub(super) fn act(&mut self, now: Instant) -> Vec<Job> {
        let mut jobs = Vec::new();
        while self.roll_retry.is_none_or(|retry| retry <= now)
            && let Some(action) = self.index.next(now)
        {
            jobs.extend(self.perform(action, now));
            self.counters.size.set(self.index.size());
        }
        self.commit(now); // gaps
        jobs
    }

    fn perform(&mut self, action: Action, now: Instant) -> Option<Job> {
        match action {
            Action::Roll => {
                self.commit(now);
                self.roll(now);
                None
            }
            Action::Keep { first, from, to, end } => {
                let source = self.memory.file(first)?;
                Some(Job::Keep { first, source, from, to, end })
            }
            Action::Forget(first) => {
                self.memory.remove(first);
                None
            }
            Action::Delete(first) => {
                self.memory.remove(first);
                Some(Job::Delete(first))
            }
            Action::Drop(first, gap) => {
                self.memory.remove(first);
                if gap.end > gap.first {
                    warn!(
                        readings = gap.end.since(gap.first),
                        reason = gap.reason.id(),
                        "readings are dropped before they were delivered"
                    );
                }
                self.add_gap(gap);
                Some(Job::Delete(first))
            }
        }
    }

    /// When there is something to do if nothing happens before.
    pub(super) fn due(&self) -> Option<Instant> {
        self.roll_retry.or_else(|| self.index.due())
    }

    /// For a clean end: everything that some uplink has not got goes to the disk.
    pub(super) fn keep_all(&mut self, now: Instant) -> Option<Job> {
        let action = self.index.keep_all()?;
        self.perform(action, now)
    }

    /// The end: segments in memory that are delivered or on the disk are deleted.
    pub(super) fn close(mut self) {
        let needed =
            self.index.delivered().iter().map(|delivered| delivered.confirmed).min().unwrap_or_default();
        for segment in self.index.segments() {
            if segment.end <= needed || segment.kept_end == segment.end {
                self.memory.remove(segment.first);
            }
        }
        self.memory.close();
    }

    /// Readings from `from` on: at once where they are in memory, otherwise by a job.
    pub(super) fn read(
        &mut self,
        from: Position,
        count: usize,
        bookmark: Bookmark,
        reply: oneshot::Sender<Piece>,
    ) -> Option<Job> {
        let Some(segment) = self.index.locate(from) else {
            reply.send(Piece { next: from.max(self.next), ..Piece::default() }).ok(); // nobody waits for it any more
            return None;
        };
        let (first, end, size) = (segment.first, segment.end, segment.size);
        let Some(file) = self.memory.file(first) else {
            let boots = self.boots.clone();
            return Some(Job::Read(Box::new(Read { first, end, from, count, bookmark, boots, reply })));
        };
        let mut fetch = |offset: u64, buffer: &mut [u8]| read_at(&file, offset, size, buffer);
        let source = Source { first, end, fetch: &mut fetch };
        let piece = history::read(source, from, count, bookmark, &self.names, &self.boots);
        let piece = piece.unwrap_or_else(|error| {
            warn!(%error, segment = %name_of(first), "cannot be read");
            Piece { next: end, ..Piece::default() }
        });
        reply.send(piece).ok(); // nobody waits for it any more
        None
    }

    /// What was dropped since this was asked last.
    pub(super) fn take_gaps(&mut self) -> Vec<Gap> {
        self.gaps.drain(..).collect()
    }

    /// What is wrong with the store, in words; `None` when nothing is.
    pub(super) fn alarm(&self) -> Option<&'static str> {
        match (self.is_disk_failing, self.memory.is_lasting()) {
            (true, _) => Some("disk not writable: readings are kept in memory"),
            (false, false) => Some("no folder in memory: recent readings end with the program"),
            (false, true) => None,
        }
    }

    /// Readings by the clock that is known now.
    pub(super) fn settled(&self, readings: Arc<[Reading]>) -> Arc<[Reading]> {
        let is_open = |reading: &Reading| matches!(reading.at, Stamp::SinceBoot(_));
        match self.booted_at() {
            Some(boot) if readings.iter().any(is_open) => readings
                .iter()
                .map(|reading| Reading { at: reading.at.settled(Some(boot)), ..reading.clone() })
                .collect(),
            _ => readings,
        }
    }
}

#[cfg(test)]
mod tests;
