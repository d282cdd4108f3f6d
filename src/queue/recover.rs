//! What an earlier run has left: found, looked through, never refused.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Instant;

use tracing::{info, warn};

use super::history::Boots;
use super::index::Segment;
use super::memory::{Memory, read_at};
use super::record::{Gap, Record};
use super::segment::{Fetch, Head, Met, name_of, position_of};
use crate::counters::StoreCounters;
use crate::position::Position;
use crate::reading::{Stamp, Timestamp};

/// Where files go that are no segments.
pub(super) const SET_ASIDE: &str = "set-aside";
/// The most gaps that are remembered.
pub(super) const GAPS_MAX: usize = 64;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    pub(super) segments: Vec<Segment>,
    /// How far each uplink had surely come.
    pub(super) cursors: BTreeMap<String, Position>,
    pub(super) gaps: Vec<Gap>,
    pub(super) boots: Boots,
    /// The position of the next reading.
    pub(super) next: Position,
}

/// Looks through the segments on the disk and in memory. Of those on the disk all but the last are only begun: that
/// tells where they stand, and 1 GiB takes no time.
pub(super) fn recover(disk: &Path, memory: &mut Memory, counters: &StoreCounters, now: Instant) -> Recovered {
    let mut found = Recovered::default();
    let on_disk = segments_in(disk, counters);
    let in_memory = memory.folder().map(|folder| segments_in(folder, counters)).unwrap_or_default();
    let mut all: Vec<Position> = on_disk.iter().chain(&in_memory).copied().collect();
    all.sort();
    all.dedup();
    for (index, first) in all.iter().copied().enumerate() {
        let next = all.get(index + 1).copied();
        let kept = match on_disk.contains(&first).then(|| File::open(disk.join(name_of(first)))) {
            Some(Ok(file)) => {
                look_through(&file, first, next.filter(|_| !in_memory.contains(&first)), counters)
            }
            _ => None,
        };
        let held = match in_memory.contains(&first).then(|| memory.adopt(first)) {
            Some(Ok(file)) => look_through(&file, first, None, counters),
            _ => None,
        };
        if held.is_none() {
            memory.remove(first);
        }
        found.add(first, kept, held, disk, now);
    }
    // one without readings has said what it had to say; the next may have its name
    for empty in found.segments.extract_if(.., |segment| segment.end == segment.first) {
        memory.remove(empty.first);
        fs::remove_file(disk.join(name_of(empty.first))).ok(); // it may never have been there
    }
    found.gaps.sort_by_key(|gap| gap.first);
    found.gaps.dedup();
    let surplus = found.gaps.len().saturating_sub(GAPS_MAX);
    found.gaps.drain(..surplus);
    let end = found.segments.last().map(|segment| segment.end);
    found.next = found.cursors.values().copied().chain(end).max().unwrap_or_default();
    if !found.segments.is_empty() {
        let bytes: u64 = found.segments.iter().map(|segment| segment.size).sum();
        info!(
            segments = found.segments.len(),
            bytes,
            next = found.next.0,
            "readings of an earlier run are stored"
        );
    }
    found
}

impl Recovered {
    /// One segment, on the disk, in memory, or both; in memory it is the same and may be longer.
    fn add(
        &mut self,
        first: Position,
        kept: Option<Contents>,
        held: Option<Contents>,
        disk: &Path,
        now: Instant,
    ) {
        // what was written to the disk and not made sure of is made sure of before it is relied upon
        let is_sure = |kept: &Contents| {
            held.is_none() || (!kept.is_damaged && sync(&disk.join(name_of(first))).is_ok())
        };
        let kept = kept.filter(is_sure);
        let is_in_memory = held.is_some();
        let (on_disk, disk_end) = kept.as_ref().map_or((0, first), |kept| (kept.size, kept.end));
        let Some(contents) = held.or(kept) else { return };
        for (uplink, position) in contents.cursors {
            let known = self.cursors.entry(uplink).or_default();
            *known = position.max(*known);
        }
        self.gaps.extend(contents.gaps);
        self.boots.extend(contents.boots);
        self.segments.push(Segment {
            first,
            end: contents.end,
            size: contents.size,
            kept: on_disk.min(contents.size),
            kept_end: disk_end.min(contents.end),
            is_in_memory,
            written_at: now,
            from: contents.from,
            to: contents.to,
        });
    }
}

fn sync(path: &Path) -> io::Result<()> {
    File::options().write(true).open(path)?.sync_data()
}

/// The segments in a folder; what is none is set aside.
fn segments_in(folder: &Path, counters: &StoreCounters) -> Vec<Position> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        let name = entry.file_name().to_string_lossy().into_owned();
        if !is_file || name == "lock" {
            continue;
        }
        let is_segment = File::open(entry.path()).and_then(|file| {
            Head::open(&name, &mut |offset, buffer: &mut [u8]| read_at(&file, offset, u64::MAX, buffer))
        });
        match (position_of(&name), is_segment) {
            (Some(first), Ok(_)) => found.push(first),
            (_, why) => {
                let why = why.err().map(|error| error.to_string());
                warn!(file = %entry.path().display(), why, "set aside: not a segment of the queue");
                counters.set_aside.add(1);
                let aside = folder.join(SET_ASIDE);
                // what cannot be moved is passed over at each start
                fs::create_dir_all(&aside).and_then(|()| fs::rename(entry.path(), aside.join(&name))).ok();
            }
        }
    }
    found
}

/// What a segment holds.
#[derive(Debug, Default)]
struct Contents {
    end: Position,
    size: u64,
    is_damaged: bool,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    cursors: Vec<(String, Position)>,
    gaps: Vec<Gap>,
    boots: Boots,
}

/// Looks through a segment; where the position `next` behind it is known, only at its beginning.
fn look_through(
    file: &File,
    first: Position,
    next: Option<Position>,
    counters: &StoreCounters,
) -> Option<Contents> {
    let length = file.metadata().ok()?.len();
    let mut contents = Contents { end: first, size: length, ..Contents::default() };
    let fetch: &mut Fetch<'_> = &mut |offset, buffer: &mut [u8]| read_at(file, offset, u64::MAX, buffer);
    let (_, mut walk) = Head::open(&name_of(first), fetch).ok()?;
    let walked = walk.on(fetch, &mut |met| {
        let is_begun = contents.end > first;
        match met {
            Met::Record(record) => contents.take(record),
            Met::Damage => {
                contents.is_damaged = true;
                counters.damaged.add(1);
            }
        }
        next.is_none() || !is_begun
    });
    match (walked, next) {
        (Err(error), _) => {
            warn!(segment = %name_of(first), %error, "cannot be read to its end");
            contents.size = walk.whole;
        }
        (Ok(_), None) => contents.size = walk.whole,
        (Ok(_), Some(next)) => contents.end = next,
    }
    Some(contents)
}

impl Contents {
    fn take(&mut self, record: Record<'_>) {
        match record {
            Record::Readings(readings) => {
                self.end = self.end.max(readings.end());
                if let Stamp::Wall(at) = readings.at {
                    self.from.get_or_insert(at);
                    self.to = Some(at);
                }
            }
            Record::Cursor { uplink, position } => self.cursors.push((uplink.to_owned(), position)),
            Record::Gap(gap) => self.gaps.push(gap),
            Record::Boot { id, at } => {
                self.boots.insert(id, at);
            }
            Record::Name { .. } => {}
        }
    }
}
