//! What stands in the frames of a segment: readings, the names that they need, and what is to outlive a restart. Pure.
//!
//! Numbers are LEB128 varints unless a size is given; a text is its length in bytes and UTF-8. The first byte tells the
//! kind:
//!
//! | kind | what follows |
//! |---|---|
//! | 1 readings | position of the first · clock (0 wall, 1 since boot) · milliseconds · count · so many readings |
//! | 2 name | tag number · text device · text tag |
//! | 3 cursor | position · text uplink |
//! | 4 gap | first position · end position · from, to (milliseconds by the wall clock; 0: not known) · reason |
//! | 5 boot | 16 bytes boot id · milliseconds of its wall time |
//!
//! A reading is its tag number, which a name before it in the same segment explains, one byte of form, for a quality
//! that is not plainly good one byte of quality, and the value:
//!
//! | form | value |
//! |---|---|
//! | 0 | none |
//! | 1, 2 | false, true |
//! | 3 | signed integer, zigzag |
//! | 4 | unsigned integer |
//! | 5, 6 | IEEE 754, 4 or 8 bytes, little-endian |
//! | 7 | text |
//! | 8 | milliseconds since 1970 |
//! | + 128 | the quality is not plainly good and comes before the value |
//!
//! Qualities: 0 good, 1 config, 2 not connected, 3 device failure, 4 sensor failure, 5 last value known, 6 no
//! communication, 7 out of service, 8 decode.

use prost::encoding::{decode_varint, encode_varint};

use super::frame::RECORD_SIZE_MAX;
use crate::position::Position;
use crate::reading::{Quality, Reading, Stamp, Timestamp, Value};
use crate::tag::TagId;

const READINGS: u8 = 1;
const NAME: u8 = 2;
const CURSOR: u8 = 3;
const GAP: u8 = 4;
const BOOT: u8 = 5;

const WALL: u8 = 0;
const SINCE_BOOT: u8 = 1;

const NOT_GOOD: u8 = 0x80;

/// The longest text that is kept: a register map holds at most 250 bytes of one.
const TEXT_SIZE_MAX: usize = 1024;
/// A record of readings is ended when it has so many bytes: one bad spot on a disk then costs few of them.
const READINGS_SIZE: usize = 4096;

const _: () = assert!(READINGS_SIZE + TEXT_SIZE_MAX + 32 < RECORD_SIZE_MAX);

/// The random number that the system drew when the machine was started.
pub(super) type BootId = [u8; 16];

/// One record, borrowed from the bytes that hold it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Record<'a> {
    /// Readings of one moment.
    Readings(Readings<'a>),
    /// What a tag number of this segment stands for.
    Name { tag: TagId, device: &'a str, name: &'a str },
    /// Everything before the position has surely been delivered to the uplink.
    Cursor { uplink: &'a str, position: Position },
    /// Readings that were dropped before every uplink had them.
    Gap(Gap),
    /// The wall time at which the machine was started; told when that was known.
    Boot { id: BootId, at: Timestamp },
}

/// Readings that were dropped: positions, times, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first of them.
    pub first: Position,
    /// The first that is not of them.
    pub end: Position,
    /// The time of the first, where that is known.
    pub from: Option<Timestamp>,
    /// The time of the last, where that is known.
    pub to: Option<Timestamp>,
    /// Why.
    pub reason: Reason,
}

/// Why readings were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// `queue.max_size` was reached.
    Size,
    /// They were older than `queue.max_age`.
    Age,
    /// The disk could not be written, and the memory was full.
    Memory,
    /// What was stored could not be read any more.
    Damage,
    /// The machine was off before its wall clock was ever trusted: nobody knows when they were read.
    Clock,
    /// The configuration has no such tag any more, or the tag has another type now.
    Tag,
}

impl Reason {
    const ALL: [Reason; 6] =
        [Reason::Size, Reason::Age, Reason::Memory, Reason::Damage, Reason::Clock, Reason::Tag];

    /// In the words of the log and of what is published.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Reason::Size => "queue.max_size",
            Reason::Age => "queue.max_age",
            Reason::Memory => "memory full, disk not writable",
            Reason::Damage => "damaged",
            Reason::Clock => "time never known",
            Reason::Tag => "tag no longer configured",
        }
    }

    const fn code(self) -> u8 {
        match self {
            Reason::Size => 1,
            Reason::Age => 2,
            Reason::Memory => 3,
            Reason::Damage => 4,
            Reason::Clock => 5,
            Reason::Tag => 6,
        }
    }
}

/// The number of a quality in a file; never given to another.
const fn quality_code(quality: Quality) -> u8 {
    match quality {
        Quality::Good => 0,
        Quality::BadConfig => 1,
        Quality::BadNotConnected => 2,
        Quality::BadDeviceFailure => 3,
        Quality::BadSensorFailure => 4,
        Quality::BadCommLastValueKnown => 5,
        Quality::BadNoCommunication => 6,
        Quality::BadOutOfService => 7,
        Quality::BadDecode => 8,
        Quality::UncertainEuExceeded => 9,
        Quality::GoodLocalOverride => 10,
        Quality::UncertainLastUsable => 11,
        Quality::UncertainSubstitute => 12,
        Quality::UncertainInitial => 13,
        Quality::UncertainNotAccurate => 14,
        Quality::UncertainStuck => 15,
        Quality::BadOverRange => 16,
        Quality::BadUnderRange => 17,
    }
}

fn quality_of(code: u8) -> Option<Quality> {
    Quality::ALL.into_iter().find(|quality| quality_code(*quality) == code)
}

/// Writes `readings`, of which the first gets position `first`, as records of one moment and a bounded size each; gives
/// each to `push`.
pub(super) fn write_readings(first: Position, readings: &[Reading], mut push: impl FnMut(&[u8])) {
    let (mut position, mut rest) = (first, readings);
    let mut body = Vec::new();
    while let Some(at) = rest.first().map(|reading| reading.at) {
        body.clear();
        let mut count: u64 = 0;
        while let Some((reading, behind)) = rest.split_first()
            && reading.at == at
            && body.len() < READINGS_SIZE
        {
            write_reading(reading, &mut body);
            count += 1;
            rest = behind;
        }
        let mut record = vec![READINGS];
        encode_varint(position.0, &mut record);
        let (clock, millis) = match at {
            Stamp::Wall(at) => (WALL, at.millis()),
            Stamp::SinceBoot(millis) => (SINCE_BOOT, millis),
        };
        record.push(clock);
        encode_varint(millis, &mut record);
        encode_varint(count, &mut record);
        record.extend(&body);
        push(&record);
        position = position.after(count);
    }
}

fn write_reading(reading: &Reading, out: &mut Vec<u8>) {
    encode_varint(u64::from(reading.tag.0), out);
    let form = match &reading.value {
        None => 0,
        Some(Value::Bool(false)) => 1,
        Some(Value::Bool(true)) => 2,
        Some(Value::Int(_)) => 3,
        Some(Value::UInt(_)) => 4,
        Some(Value::Float(_)) => 5,
        Some(Value::Double(_)) => 6,
        Some(Value::Text(_)) => 7,
        Some(Value::Time(_)) => 8,
    };
    // "good, but set by hand" is good and has a number all the same
    if reading.quality == Quality::Good {
        out.push(form);
    } else {
        out.extend([form | NOT_GOOD, quality_code(reading.quality)]);
    }
    match &reading.value {
        None | Some(Value::Bool(_)) => {}
        Some(Value::Int(value)) => encode_varint(zigzag(*value), out),
        Some(Value::UInt(value)) => encode_varint(*value, out),
        Some(Value::Float(value)) => out.extend(value.to_le_bytes()),
        Some(Value::Double(value)) => out.extend(value.to_le_bytes()),
        Some(Value::Text(value)) => write_text(value, out),
        Some(Value::Time(at)) => encode_varint(at.millis(), out),
    }
}

/// A text that is longer than any register map has is cut at a character.
fn write_text(text: &str, out: &mut Vec<u8>) {
    let mut size = text.len().min(TEXT_SIZE_MAX);
    while !text.is_char_boundary(size) {
        size -= 1;
    }
    let kept = text.get(..size).unwrap_or_default();
    encode_varint(u64::try_from(kept.len()).unwrap_or_default(), out);
    out.extend(kept.as_bytes());
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// A record of anything but readings.
pub(super) fn write(record: &Record<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    match record {
        Record::Readings(_) => {} // written by `write_readings`
        Record::Name { tag, device, name } => {
            out.push(NAME);
            encode_varint(u64::from(tag.0), &mut out);
            write_text(device, &mut out);
            write_text(name, &mut out);
        }
        Record::Cursor { uplink, position } => {
            out.push(CURSOR);
            encode_varint(position.0, &mut out);
            write_text(uplink, &mut out);
        }
        Record::Gap(gap) => {
            out.push(GAP);
            let millis = |at: Option<Timestamp>| at.map_or(0, Timestamp::millis);
            for number in [gap.first.0, gap.end.0, millis(gap.from), millis(gap.to)] {
                encode_varint(number, &mut out);
            }
            out.push(gap.reason.code());
        }
        Record::Boot { id, at } => {
            out.push(BOOT);
            out.extend(id);
            encode_varint(at.millis(), &mut out);
        }
    }
    out
}

/// Reads a record; `None` where it is not of a known form.
pub(super) fn read(bytes: &[u8]) -> Option<Record<'_>> {
    let (kind, mut rest) = bytes.split_first()?;
    let rest = &mut rest;
    let record = match *kind {
        READINGS => return Readings::read(rest).map(Record::Readings),
        NAME => Record::Name { tag: tag(rest)?, device: text(rest)?, name: text(rest)? },
        CURSOR => Record::Cursor { position: Position(number(rest)?), uplink: text(rest)? },
        GAP => Record::Gap(gap(rest)?),
        BOOT => Record::Boot { id: fixed(rest)?, at: Timestamp::from_millis(number(rest)?) },
        _ => return None,
    };
    rest.is_empty().then_some(record)
}

fn gap(rest: &mut &[u8]) -> Option<Gap> {
    let (first, end) = (Position(number(rest)?), Position(number(rest)?));
    let at = |millis: u64| (millis > 0).then(|| Timestamp::from_millis(millis));
    let (from, to) = (at(number(rest)?), at(number(rest)?));
    let [code] = fixed(rest)?;
    let reason = Reason::ALL.into_iter().find(|reason| reason.code() == code)?;
    Some(Gap { first, end, from, to, reason })
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    decode_varint(rest).ok()
}

fn tag(rest: &mut &[u8]) -> Option<TagId> {
    number(rest)?.try_into().ok().map(TagId)
}

fn fixed<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (found, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*found)
}

fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let size = usize::try_from(number(rest)?).ok()?;
    let (found, behind) = rest.split_at_checked(size)?;
    *rest = behind;
    std::str::from_utf8(found).ok()
}

/// The readings of a record, decoded one by one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Readings<'a> {
    /// The position of the next.
    pub(super) next: Position,
    pub(super) at: Stamp,
    /// How many there are to come.
    pub(super) left: u64,
    rest: &'a [u8],
}

impl<'a> Readings<'a> {
    fn read(rest: &mut &'a [u8]) -> Option<Readings<'a>> {
        let next = Position(number(rest)?);
        let [clock] = fixed(rest)?;
        let millis = number(rest)?;
        let at = match clock {
            WALL => Stamp::Wall(Timestamp::from_millis(millis)),
            SINCE_BOOT => Stamp::SinceBoot(millis),
            _ => return None,
        };
        let left = number(rest)?;
        // each has two bytes at least: a count of nonsense does not lead far
        (left <= u64::try_from(rest.len()).ok()? / 2).then_some(Readings { next, at, left, rest })
    }

    /// The position behind the last.
    pub(super) fn end(&self) -> Position {
        self.next.after(self.left)
    }
}

impl Iterator for Readings<'_> {
    type Item = (Position, Reading);

    fn next(&mut self) -> Option<(Position, Reading)> {
        self.left = self.left.checked_sub(1)?;
        let rest = &mut self.rest;
        let tag = tag(rest)?;
        let [form] = fixed(rest)?;
        let quality = if form & NOT_GOOD == 0 {
            Quality::Good
        } else {
            let [code] = fixed(rest)?;
            quality_of(code)?
        };
        let value = match form & !NOT_GOOD {
            0 => None,
            1 => Some(Value::Bool(false)),
            2 => Some(Value::Bool(true)),
            3 => Some(Value::Int(unzigzag(number(rest)?))),
            4 => Some(Value::UInt(number(rest)?)),
            5 => Some(Value::Float(f32::from_le_bytes(fixed(rest)?))),
            6 => Some(Value::Double(f64::from_le_bytes(fixed(rest)?))),
            7 => Some(Value::Text(text(rest)?.into())),
            8 => Some(Value::Time(Timestamp::from_millis(number(rest)?))),
            _ => return None,
        };
        let position = self.next;
        self.next = position.after(1);
        Some((position, Reading { tag, value, quality, at: self.at }))
    }
}

#[cfg(test)]
mod tests;
