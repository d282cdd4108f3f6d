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

/// The least that a reading takes: its tag and its form.
const READING_SIZE_MIN: u64 = 2;
/// The size of a segment of which nothing can be told.
const SIZE_UNKNOWN: u64 = 2 << 20;
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
    /// Something may be there that could not be read.
    is_unsure: bool,
}

/// Positions that lie further apart have nothing between them: the numbers were begun anew beyond whatever there may be,
/// because a disk could not be read.
pub const JUMP: u64 = 1 << 32;

/// Looks through the segments on the disk and in memory. Of those on the disk all but the last are only begun: that
/// tells where they stand, and 1 GiB takes no time. Where something cannot be read that may be readable another time,
/// positions go on from `far`, which no earlier run can have reached.
pub(super) fn recover(
    disk: &Path,
    memory: &mut Memory,
    far: Position,
    counters: &StoreCounters,
    now: Instant,
) -> Recovered {
    let mut found = Recovered::default();
    let on_disk = segments_in(disk, counters, &mut found.is_unsure);
    let in_memory = match memory.folder() {
        Some(folder) => segments_in(folder, counters, &mut found.is_unsure),
        None => Vec::new(),
    };
    let mut all: Vec<Position> = on_disk.iter().chain(&in_memory).copied().collect();
    all.sort();
    all.dedup();
    for (index, first) in all.iter().copied().enumerate() {
        let next = all.get(index + 1).copied().filter(|next| next.since(first) < JUMP);
        let kept = on_disk.contains(&first).then(|| {
            let next = next.filter(|_| !in_memory.contains(&first));
            let read = File::open(disk.join(name_of(first)))
                .and_then(|file| look_through(&file, first, next, counters));
            read.unwrap_or_else(|error| {
                warn!(segment = %name_of(first), %error, "cannot be read now");
                found.is_unsure = true;
                let length =
                    fs::metadata(disk.join(name_of(first))).map_or(SIZE_UNKNOWN, |about| about.len());
                Contents::unread(first, length, next)
            })
        });
        let held = match in_memory.contains(&first).then(|| memory.adopt(first)) {
            Some(Ok(file)) => look_through(&file, first, None, counters).ok(),
            _ => None,
        };
        if held.is_none() && in_memory.contains(&first) {
            memory.leave(first);
            found.is_unsure = true;
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
    if found.is_unsure {
        warn!(
            "what is on the disk cannot be read, or not all of it: it is looked for again at the next start"
        );
        found.next = found.next.max(far);
    }
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

/// The segments in a folder; what is none is set aside. `is_unsure` is set where something cannot be read.
fn segments_in(folder: &Path, counters: &StoreCounters, is_unsure: &mut bool) -> Vec<Position> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(folder) {
        Err(error) => {
            *is_unsure |= error.kind() != io::ErrorKind::NotFound;
            return found;
        }
        Ok(entries) => entries,
    };
    for entry in entries {
        let Ok(entry) = entry else {
            *is_unsure = true;
            return found;
        };
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
            (first, Err(error)) if error.kind() != io::ErrorKind::InvalidData => {
                *is_unsure = true;
                found.extend(first);
            }
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
) -> io::Result<Contents> {
    let length = file.metadata()?.len();
    let mut contents = Contents { end: first, size: length, ..Contents::default() };
    let fetch: &mut Fetch<'_> = &mut |offset, buffer: &mut [u8]| read_at(file, offset, u64::MAX, buffer);
    let (_, mut walk) = Head::open(&name_of(first), fetch)?;
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
    walked?;
    match next {
        None => contents.size = walk.whole,
        Some(next) => contents.end = next,
    }
    Ok(contents)
}

impl Contents {
    /// Of a segment that cannot be read now, and may be another time: as many readings as there can be in it.
    fn unread(first: Position, length: u64, next: Option<Position>) -> Contents {
        let end = next.unwrap_or(first.after(length / READING_SIZE_MIN + 1));
        Contents { end, size: length.max(1), ..Contents::default() }
    }

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
