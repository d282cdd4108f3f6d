//! Reading what is stored, in order, a piece at a time, as readings of the tags that there are now. Pure but for the
//! bytes, which the caller fetches.

use std::collections::BTreeMap;
use std::io;

use super::names::Names;
use super::record::{BootId, Record};
use super::segment::{Fetch, Head, Met, Walk, name_of};
use crate::position::{Position, Positions};
use crate::reading::{Reading, Stamp, Timestamp};
use crate::tag::TagId;

/// The wall time of the start of each run of the machine of which it is known.
pub(super) type Boots = BTreeMap<BootId, Timestamp>;

/// A place in the store, and what has been learned on the way to it. Goes with each request and comes back with the
/// answer.
#[derive(Debug, Default)]
pub struct Bookmark {
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    first: Position,
    walk: Walk,
    learned: Learned,
}

/// What a segment has told so far.
#[derive(Debug)]
struct Learned {
    boot: BootId,
    /// The position behind what has been read.
    reached: Position,
    /// What the segment's tag numbers stand for; `None`: no tag of the present configuration.
    names: BTreeMap<TagId, Option<TagId>>,
}

/// A piece of what is stored.
#[derive(Debug, Default)]
pub struct Piece {
    /// Readings with their positions, which count up, with their tags as they are numbered now.
    pub readings: Vec<(Position, Reading)>,
    /// Readings of tags that the configuration does not have any more.
    pub unknown: Positions,
    /// Readings of which nobody knows when they were read.
    pub undated: Positions,
    /// Where to go on. What lies before it and is in none of these is not in the store.
    pub next: Position,
    /// A segment cannot be read now, but perhaps another time; where it ends.
    pub unreadable: Option<Position>,
    /// Take it along to the next request.
    pub bookmark: Bookmark,
}

/// A segment's bytes and extent.
pub(super) struct Source<'a> {
    pub(super) first: Position,
    /// Where to go on behind it.
    pub(super) end: Position,
    pub(super) fetch: &'a mut Fetch<'a>,
}

/// Reads `count` readings or somewhat more of a segment, from `from` on.
///
/// # Errors
/// Where the bytes cannot be fetched.
pub(super) fn read(
    source: Source<'_>,
    from: Position,
    count: usize,
    bookmark: Bookmark,
    names: &Names,
    boots: &Boots,
) -> io::Result<Piece> {
    let is_there = |open: &Open| open.first == source.first && open.learned.reached <= from;
    let Open { first, mut walk, mut learned } = match bookmark.open.filter(is_there) {
        Some(open) => open,
        None => Open::new(source.first, source.fetch)?,
    };
    let mut piece = Piece::default();
    let is_at_end = walk.on(source.fetch, &mut |met| {
        if let Met::Record(record) = met {
            learned.take(&record, from, names, boots, &mut piece);
        }
        piece.readings.len() < count
    })?;
    if is_at_end {
        piece.next = source.end.max(learned.reached).max(from);
    } else {
        piece.next = learned.reached.max(from);
        piece.bookmark = Bookmark { open: Some(Open { first, walk, learned }) };
    }
    Ok(piece)
}

impl Open {
    fn new(first: Position, fetch: &mut Fetch<'_>) -> io::Result<Open> {
        let (head, walk) = Head::open(&name_of(first), fetch)?;
        Ok(Open { first, walk, learned: Learned { boot: head.boot, reached: first, names: BTreeMap::new() } })
    }
}

impl Learned {
    fn take(&mut self, record: &Record<'_>, from: Position, names: &Names, boots: &Boots, piece: &mut Piece) {
        match record {
            Record::Name { tag, device, name } => {
                self.names.insert(*tag, names.find(device, name));
            }
            Record::Readings(readings) => {
                let at = match readings.at {
                    Stamp::Wall(at) => Some(at),
                    since_boot @ Stamp::SinceBoot(_) => since_boot.wall(boots.get(&self.boot).copied()),
                };
                for (position, reading) in readings.filter(|(position, _)| *position >= from) {
                    let one = position..position.after(1);
                    match (self.names.get(&reading.tag).copied(), at) {
                        (None, _) => {} // its name was damaged: as good as damaged itself
                        (Some(None), _) => piece.unknown.insert(one),
                        (Some(Some(_)), None) => piece.undated.insert(one),
                        (Some(Some(tag)), Some(at)) => {
                            piece.readings.push((position, Reading { tag, at: Stamp::Wall(at), ..reading }));
                        }
                    }
                }
                self.reached = self.reached.max(readings.end());
            }
            Record::Cursor { .. } | Record::Gap(_) | Record::Boot { .. } => {}
        }
    }
}
