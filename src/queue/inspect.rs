//! A look into a store from outside, running or not, here or copied: reads, and changes nothing.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::history::Boots;
use super::memory::{folders_to_look_at, read_at};
use super::record::{Gap, Readings, Record};
use super::recover::SET_ASIDE;
use super::segment::{Fetch, Head, Met, position_of};
use super::store::folder_in;
use crate::position::Position;
use crate::reading::{Reading, Stamp, Timestamp};
use crate::tag::TagId;

/// The segments of a store.
#[derive(Debug)]
pub struct Inspection {
    /// Where it is.
    pub folder: PathBuf,
    /// In the order of their readings.
    pub segments: Vec<Segment>,
    /// What each uplink has surely delivered: all before.
    pub cursors: BTreeMap<String, Position>,
    /// Readings that were dropped, of those that are still told.
    pub gaps: Vec<Gap>,
    /// Files that were no segments.
    pub set_aside: usize,
    boots: Boots,
}

/// One segment.
#[derive(Debug)]
pub struct Segment {
    /// The file that holds most of it.
    pub path: PathBuf,
    /// It stands in memory only, or there is more of it there than on the disk.
    pub is_in_memory: bool,
    /// Bytes of whole records.
    pub size: u64,
    /// The position of the first reading.
    pub first: Position,
    /// The position behind the last.
    pub end: Position,
    /// How many readings there are.
    pub count: u64,
    /// The time of the first, where that is known.
    pub from: Option<Timestamp>,
    /// The time of the last, where that is known.
    pub to: Option<Timestamp>,
    /// Records that are damaged.
    pub damaged: u64,
}

/// A reading as it is stored.
#[derive(Debug)]
pub struct Stored<'a> {
    /// Its number.
    pub position: Position,
    /// Of which device, as it was called then; `None` where that is damaged.
    pub name: Option<(&'a str, &'a str)>,
    /// What was read; its time is that of the wall clock where that is known.
    pub reading: Reading,
}

/// Looks at the store at `path`: a state directory, the `queue` in it, or a copy.
///
/// # Errors
/// Where there is no such folder, or it cannot be listed.
pub fn inspect(path: &Path) -> io::Result<Inspection> {
    let path = path.canonicalize()?;
    let inner = folder_in(&path);
    // a gateway that never needed the disk has a state directory without a queue in it
    let (folder, state_dir) = match path.parent() {
        Some(parent) if !inner.is_dir() && !path.join("lock").is_file() => (path.clone(), parent),
        _ => (inner, &*path),
    };
    let mut names: BTreeMap<Position, Vec<(PathBuf, bool)>> = BTreeMap::new();
    let in_memory = folders_to_look_at(state_dir).into_iter().map(|folder| (folder, true));
    for (folder, is_in_memory) in std::iter::once((folder.clone(), false)).chain(in_memory) {
        for (first, path) in list(&folder)? {
            names.entry(first).or_default().push((path, is_in_memory));
        }
    }
    let set_aside = fs::read_dir(folder.join(SET_ASIDE)).map_or(0, Iterator::count);
    let mut found = Inspection {
        folder,
        segments: Vec::new(),
        cursors: BTreeMap::new(),
        gaps: Vec::new(),
        set_aside,
        boots: Boots::new(),
    };
    for paths in names.into_values() {
        let segments =
            paths.into_iter().filter_map(|(path, is_in_memory)| found.look(path, is_in_memory).ok());
        // where it stands twice, one is the beginning of the other
        let longest = segments.collect::<Vec<_>>().into_iter().rev().max_by_key(|segment| segment.size);
        found.segments.extend(longest);
    }
    found.gaps.sort_by_key(|gap| gap.first);
    found.gaps.dedup();
    Ok(found)
}

/// The segments in a folder; one that is not there has none.
fn list(folder: &Path) -> io::Result<Vec<(Position, PathBuf)>> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        found.extend(position_of(&entry.file_name().to_string_lossy()).map(|first| (first, entry.path())));
    }
    Ok(found)
}

impl Inspection {
    fn look(&mut self, path: PathBuf, is_in_memory: bool) -> io::Result<Segment> {
        let mut segment = Segment {
            path,
            is_in_memory,
            size: 0,
            first: Position(0),
            end: Position(0),
            count: 0,
            from: None,
            to: None,
            damaged: 0,
        };
        let (cursors, gaps, boots) = (&mut self.cursors, &mut self.gaps, &mut self.boots);
        let path = segment.path.clone();
        let (head, size) = walk(&path, &mut |head, met| {
            let record = match met {
                Met::Record(record) => record,
                Met::Damage => {
                    segment.damaged += 1;
                    return true;
                }
            };
            match record {
                Record::Readings(readings) => {
                    segment.count += readings.left;
                    segment.end = segment.end.max(readings.end());
                    let at = readings.at.wall(boots.get(&head.boot).copied());
                    segment.from = segment.from.or(at);
                    segment.to = at.or(segment.to);
                }
                Record::Cursor { uplink, position } => {
                    let known = cursors.entry(uplink.to_owned()).or_default();
                    *known = position.max(*known);
                }
                Record::Gap(gap) => gaps.push(gap),
                Record::Boot { id, at } => {
                    boots.insert(id, at);
                }
                Record::Name { .. } => {}
            }
            true
        })?;
        segment.size = size;
        segment.first = head.first;
        segment.end = segment.end.max(head.first);
        Ok(segment)
    }

    /// The oldest reading that an uplink has not surely delivered: the time of its segment's first, and how many there are
    /// to come.
    #[must_use]
    pub fn waiting(&self, cursor: Position) -> (u64, Option<Timestamp>) {
        let open = self.segments.iter().filter(|segment| segment.end > cursor);
        let count =
            open.clone().map(|segment| segment.end.since(cursor.max(segment.first)).min(segment.count)).sum();
        let from = open.filter_map(|segment| segment.from).next();
        (count, from)
    }

    /// Every reading, in order, until `take` says that it is enough.
    ///
    /// # Errors
    /// Where a segment cannot be read.
    pub fn readings(&self, take: &mut dyn FnMut(Stored<'_>) -> bool) -> io::Result<()> {
        for segment in &self.segments {
            let mut names: BTreeMap<TagId, (String, String)> = BTreeMap::new();
            walk(&segment.path, &mut |head, met| match met {
                Met::Record(Record::Name { tag, device, name }) => {
                    names.insert(tag, (device.to_owned(), name.to_owned()));
                    true
                }
                Met::Record(Record::Readings(readings)) => {
                    let boot = self.boots.get(&head.boot).copied();
                    each(readings, boot, &names, take)
                }
                Met::Record(_) | Met::Damage => true,
            })?;
        }
        Ok(())
    }
}

fn each(
    readings: Readings<'_>,
    boot: Option<Timestamp>,
    names: &BTreeMap<TagId, (String, String)>,
    take: &mut dyn FnMut(Stored<'_>) -> bool,
) -> bool {
    let at: Stamp = readings.at.settled(boot);
    let mut readings = readings;
    readings.all(|(position, reading)| {
        let name = names.get(&reading.tag).map(|(device, name)| (device.as_str(), name.as_str()));
        take(Stored { position, name, reading: Reading { at, ..reading } })
    })
}

/// Walks through a segment's file; its head, and the bytes that are whole.
fn walk(path: &Path, visit: &mut dyn FnMut(Head, Met<'_>) -> bool) -> io::Result<(Head, u64)> {
    let file = File::open(path)?;
    let fetch: &mut Fetch<'_> = &mut |offset, buffer: &mut [u8]| read_at(&file, offset, u64::MAX, buffer);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (head, mut walk) = Head::open(&name, fetch)?;
    walk.on(fetch, &mut |met| visit(head, met))?;
    Ok((head, walk.whole))
}
