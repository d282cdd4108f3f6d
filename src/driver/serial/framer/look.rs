//! Where the frame at the front of a stream ends, or that none begins there.

use std::ops::Range;

use super::super::check;
use crate::config::site::serial::{FrameRule, Length};

/// Where a frame at the front ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) size: usize,
    pub(super) body: Range<usize>,
}

/// What the front of a stream holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    Frame(Extent),
    /// Not enough yet to tell; no end begins before here.
    Incomplete(usize),
    /// So many bytes begin no frame.
    Noise(usize),
    /// An empty line of so many bytes.
    Empty(usize),
    /// What would be a frame of so many bytes, but for its checksum.
    Spoilt(usize),
    /// What would be a frame, but for its length.
    TooLong,
}

/// What `bytes` begin with, of which there is at least one. `is_quiet`: nothing follows them.
pub(super) fn look(rule: &FrameRule, bytes: &[u8], is_quiet: bool, searched: usize) -> Look {
    if !bytes.starts_with(&rule.start) {
        let is_begun = rule.start.starts_with(bytes);
        return if is_begun { Look::Incomplete(0) } else { Look::Noise(next_start(rule, bytes)) };
    }
    let extent = match rule.length {
        Some(length) => by_length(rule, length, bytes),
        None if !rule.ends.is_empty() => by_end(rule, bytes, is_quiet, searched),
        None if rule.idle.is_some() => by_silence(rule, bytes, is_quiet),
        None => by_next_start(rule, bytes, searched),
    };
    match extent {
        Err(look) => look,
        Ok(extent) => {
            let frame = bytes.get(..extent.size).unwrap_or_default();
            let is_right = rule.check.as_ref().is_none_or(|check| check::holds(check, frame));
            if is_right { Look::Frame(extent) } else { Look::Spoilt(extent.size) }
        }
    }
}

/// How many bytes stand before what may be a start, or a fill byte; at least 1.
fn next_start(rule: &FrameRule, bytes: &[u8]) -> usize {
    let may_begin = |from: &usize| {
        let rest = bytes.get(*from..).unwrap_or_default();
        let is_fill = rule.skip.is_some() && rest.first().copied() == rule.skip;
        is_fill || rest.starts_with(&rule.start) || rule.start.starts_with(rest)
    };
    (1..bytes.len()).find(may_begin).unwrap_or(bytes.len())
}

fn by_length(rule: &FrameRule, length: Length, bytes: &[u8]) -> Result<Extent, Look> {
    let size = match length {
        Length::Fixed(size) => usize::from(size),
        Length::Field { at, add, is_wide, is_low_first } => {
            let at = usize::from(at);
            let Some(field) = bytes.get(at..at + if is_wide { 2 } else { 1 }) else {
                return Err(Look::Incomplete(0));
            };
            let join = |number: i32, byte: &u8| number << 8 | i32::from(*byte);
            let number =
                if is_low_first { field.iter().rev().fold(0, join) } else { field.iter().fold(0, join) };
            let size = usize::try_from(number + i32::from(add)).unwrap_or_default();
            if size < at + field.len() {
                return Err(Look::Noise(1));
            }
            size
        }
    };
    if size > rule.max {
        // without a start each byte may look like a length
        return Err(if rule.start.is_empty() { Look::Noise(1) } else { Look::TooLong });
    }
    let Some(frame) = bytes.get(..size) else { return Err(Look::Incomplete(0)) };
    body(rule, frame).map(|body| Extent { size, body }).ok_or(Look::Noise(1))
}

/// What of a frame of known length stands between start and end; `None`: it does not end as it should.
fn body(rule: &FrameRule, frame: &[u8]) -> Option<Range<usize>> {
    let before_trailer = frame.len().checked_sub(rule.trailer.into())?;
    let inner = frame.get(rule.start.len()..before_trailer)?;
    let end = match rule.ends.iter().filter(|end| inner.ends_with(end)).map(Vec::len).max() {
        Some(size) => size,
        None if rule.ends.is_empty() => 0,
        None => return None,
    };
    Some(rule.start.len()..before_trailer - end)
}

fn by_end(rule: &FrameRule, bytes: &[u8], is_quiet: bool, searched: usize) -> Result<Extent, Look> {
    let start = rule.start.len();
    let Some((at, end)) = first_end(&rule.ends, bytes, searched.max(start)) else {
        return match by_silence(rule, bytes, is_quiet) {
            Err(Look::Incomplete(_)) => {
                Err(Look::Incomplete((bytes.len() + 1).saturating_sub(longest(&rule.ends))))
            }
            other => other,
        };
    };
    let size = at + end.len() + usize::from(rule.trailer);
    if size > rule.max {
        return Err(Look::TooLong);
    }
    if size > bytes.len() {
        return Err(Look::Incomplete(at));
    }
    let body = start..at;
    if start == 0 && body.is_empty() {
        return Err(Look::Empty(size));
    }
    // a start within a frame that no checksum guards: the first one was cut off
    let again = rule.check.is_none().then(|| last_start(&rule.start, bytes.get(..at).unwrap_or_default()));
    again.flatten().map_or(Ok(Extent { size, body }), |from| Err(Look::Noise(from)))
}

/// All that came before the silence.
fn by_silence(rule: &FrameRule, bytes: &[u8], is_quiet: bool) -> Result<Extent, Look> {
    let (start, size) = (rule.start.len(), bytes.len());
    if size > rule.max {
        return Err(Look::TooLong);
    }
    match is_quiet {
        true if size > start => Ok(Extent { size, body: start..size }),
        true => Err(Look::Noise(size)),
        false => Err(Look::Incomplete(0)),
    }
}

fn by_next_start(rule: &FrameRule, bytes: &[u8], searched: usize) -> Result<Extent, Look> {
    let start = rule.start.len();
    let next = find(&rule.start, bytes, searched.max(start));
    if next.unwrap_or(bytes.len()) > rule.max {
        return Err(Look::TooLong);
    }
    match next {
        Some(size) if size == start => Err(Look::Noise(size)),
        Some(size) => Ok(Extent { size, body: start..size }),
        None => Err(Look::Incomplete((bytes.len() + 1).saturating_sub(start))),
    }
}

/// The first of `ends` at or after `from`; of those at one place the shortest, for more may come late or never.
pub(super) fn first_end<'a>(ends: &'a [Vec<u8>], bytes: &[u8], from: usize) -> Option<(usize, &'a [u8])> {
    let places = ends.iter().filter_map(|end| Some((find(end, bytes, from)?, end.as_slice())));
    places.min_by_key(|(at, end)| (*at, end.len()))
}

fn find(wanted: &[u8], bytes: &[u8], from: usize) -> Option<usize> {
    let size = wanted.len().max(1); // windows of none there are not, and nothing is found of it
    let found = bytes.get(from..)?.windows(size).position(|window| window == wanted)?;
    Some(from + found)
}

/// Where behind the first byte the last start stands.
fn last_start(start: &[u8], bytes: &[u8]) -> Option<usize> {
    let size = start.len().max(1);
    let found = bytes.get(1..)?.windows(size).rposition(|window| window == start)?;
    Some(1 + found)
}

pub(super) fn longest(ends: &[Vec<u8>]) -> usize {
    ends.iter().map(Vec::len).max().unwrap_or_default()
}

/// What the longest of `ends` that begins with `end` has behind it.
pub(super) fn rest_of(ends: &[Vec<u8>], end: &[u8]) -> Vec<u8> {
    let rests = ends.iter().filter_map(|known| known.strip_prefix(end));
    rests.max_by_key(|rest| rest.len()).unwrap_or_default().to_vec()
}
