//! The far end of a line with meters: requests of DL/T 645 in, replies out. Pure, and written apart from the gateway's own
//! driver.
//!
//! | asked | 2007 | 1997 |
//! |---|---|---|
//! | an item or a block | `11` → `91`, `B1` where more follows, `D1` where it has none | `01` → `81`, `A1`, `C1` |
//! | what follows | `12` → `92`, `B2`, `D2`; the part's number stands behind its data | `02` → `82`, `A2`, `C2`; no number |
//! | the address, of whoever is there | `13` → `93` | – |
//!
//! To anything else a meter says nothing; the time for all meters (`08`) is counted by each that hears it. Frames after DL/T 645-2007, clause 5; those of
//! 1997 are the same.

use std::collections::BTreeMap;

use bytes::{Buf as _, BytesMut};

use super::floor::{Measured, Meter, PointName, Served, Standard};
use crate::reading::Timestamp;

const START: u8 = 0x68;
const END: u8 = 0x16;
/// What stands before a reply, as most meters have it.
const WAKE: [u8; 4] = [0xFE; 4];
/// In place of two digits of an address: any.
const ANY: u8 = 0xAA;
/// What is added to each byte of data.
const OFFSET: u8 = 0x33;
/// The most bytes of data in a frame.
const DATA_MAX: usize = 200;
/// Start, address, start, control code and length.
const HEAD: usize = 10;
const READ_ADDRESS: u8 = 0x13;
/// The address of all meters, which none answers.
const ALL: [u8; 6] = [0x99; 6];
const TELL_TIME: u8 = 0x08;
/// Two digits each of year, month, day, hour, minute and second, the lowest first.
const TIME_SIZE: usize = 6;
const REPLY: u8 = 0x80;
const ERROR: u8 = 0x40;
const MORE: u8 = 0x20;
/// The error word of a meter that does not have what was asked for.
const NO_SUCH_DATA: u8 = 0x02;

/// A frame without what the wire adds to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Who is asked or answers, the lowest digits first.
    pub address: [u8; 6],
    /// The control code.
    pub control: u8,
    /// At most 200 bytes.
    pub data: Vec<u8>,
}

impl Frame {
    /// The bytes on the wire, without any before the first `68`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let data = self.data.iter().take(DATA_MAX).map(|byte| byte.wrapping_add(OFFSET));
        let size = u8::try_from(data.len()).unwrap_or_default();
        let mut bytes = vec![START];
        bytes.extend(self.address);
        bytes.extend([START, self.control, size]);
        bytes.extend(data);
        let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        bytes.extend([sum, END]);
        bytes
    }

    /// The same behind the bytes that stand before a reply.
    #[must_use]
    pub fn encode_reply(&self) -> Vec<u8> {
        [&WAKE[..], &self.encode()].concat()
    }
}

/// Takes the first frame off `input`, with all that lies before it and is none; nothing while it is incomplete.
pub fn take_frame(input: &mut BytesMut) -> Option<Frame> {
    while !input.is_empty() {
        if let [START, _, _, _, _, _, _, second, ref rest @ ..] = **input
            && second == START
            && rest.get(1).is_none_or(|size| usize::from(*size) <= DATA_MAX)
        {
            let size = usize::from(*rest.get(1)?);
            let frame = input.get(..HEAD + size + 2)?;
            if let Some(frame) = whole(frame) {
                input.advance(HEAD + size + 2);
                return Some(frame);
            }
        } else if input.first() == Some(&START) && input.len() < 8 {
            return None;
        }
        input.advance(1);
    }
    None
}

/// The frame in bytes whose head is right.
fn whole(bytes: &[u8]) -> Option<Frame> {
    let (content, [sum, END]) = bytes.split_last_chunk::<2>()? else { return None };
    let [_, a0, a1, a2, a3, a4, a5, _, control, _, data @ ..] = content else { return None };
    let is_right = content.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)) == *sum;
    is_right.then(|| Frame {
        address: [*a0, *a1, *a2, *a3, *a4, *a5],
        control: *control,
        data: data.iter().map(|byte| byte.wrapping_sub(OFFSET)).collect(),
    })
}

/// What a meter replies.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The reply.
    pub frame: Frame,
    /// The items that are whole with it.
    pub served: Vec<(PointName, Served)>,
}

/// The meters of a line, as far as they remember what they were asked.
#[derive(Debug, Default)]
pub struct Metering {
    /// By address: answers of more than one part. One each, so there are at most as many as there are meters.
    long: BTreeMap<u64, Long>,
    /// By address: how often each has been told the time.
    told: BTreeMap<u64, u64>,
}

/// An answer of more than one part.
#[derive(Debug)]
struct Long {
    asked: Vec<u8>,
    measured: Measured,
    /// The part that a meter of 1997 sends next.
    next: u8,
}

impl Metering {
    /// What `meter` replies to `request`, `elapsed_ms` after the start; `None` where it is not asked, or says nothing to
    /// such a thing.
    pub fn reply(&mut self, meter: &Meter, request: &Frame, elapsed_ms: u64, at: Timestamp) -> Option<Reply> {
        if (request.address, request.control, request.data.len()) == (ALL, TELL_TIME, TIME_SIZE) {
            *self.told.entry(meter.address).or_default() += 1;
            return None;
        }
        let own = wire_address(meter.address);
        let is_asked = request.address.iter().zip(own).all(|(asked, own)| *asked == ANY || *asked == own);
        if !is_asked {
            return None;
        }
        let (read, more) = match meter.standard {
            Standard::Of1997 => (0x01, 0x02),
            Standard::Of2007 => (0x11, 0x12),
        };
        let (asked, part) = match (meter.standard, request.data.as_slice()) {
            (Standard::Of2007, []) if request.control == READ_ADDRESS => {
                let frame = Frame { address: own, control: READ_ADDRESS | REPLY, data: own.to_vec() };
                return Some(Reply { frame, served: Vec::new() });
            }
            (Standard::Of2007, asked @ [_, _, _, _]) if request.control == read => (asked, 0),
            (Standard::Of2007, [asked @ .., part]) if request.control == more && asked.len() == 4 => {
                (asked, *part)
            }
            (Standard::Of1997, asked @ [_, _]) if request.control == read => (asked, 0),
            (Standard::Of1997, asked @ [_, _]) if request.control == more => {
                (asked, self.long.get(&meter.address).map_or(1, |long| long.next))
            }
            _ => return None,
        };
        if request.control == read {
            self.measure(meter, asked, elapsed_ms, at);
        }
        let (mut control, mut served) = (request.control | REPLY, Vec::new());
        let data = match self.part(meter, asked, part) {
            Some((data, is_last)) if is_last => {
                served = self
                    .long
                    .get(&meter.address)
                    .map(|long| long.measured.served.clone())
                    .unwrap_or_default();
                data
            }
            Some((data, _)) => {
                control |= MORE;
                data
            }
            None => {
                control |= ERROR;
                vec![NO_SUCH_DATA]
            }
        };
        Some(Reply { frame: Frame { address: own, control, data }, served })
    }

    /// How often the meter with this address has been told the time.
    #[must_use]
    pub fn told(&self, address: u64) -> u64 {
        self.told.get(&address).copied().unwrap_or_default()
    }

    fn measure(&mut self, meter: &Meter, asked: &[u8], elapsed_ms: u64, at: Timestamp) {
        let identifier = asked.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte));
        match meter.read(identifier, elapsed_ms, at) {
            Some(measured) => {
                self.long.insert(meter.address, Long { asked: asked.to_vec(), measured, next: 0 });
            }
            None => drop(self.long.remove(&meter.address)),
        }
    }

    /// What the frame with this part of what was asked holds, and whether it is the last one.
    fn part(&mut self, meter: &Meter, asked: &[u8], part: u8) -> Option<(Vec<u8>, bool)> {
        let long = self.long.get_mut(&meter.address).filter(|long| long.asked == asked)?;
        let size = meter.part_max.clamp(1, DATA_MAX - 5);
        let mut parts = long.measured.data.chunks(size).skip(part.into());
        let mut data = [asked, parts.next()?].concat();
        if meter.standard == Standard::Of2007 && part > 0 {
            data.push(part);
        }
        long.next = part.saturating_add(1);
        Some((data, parts.next().is_none()))
    }
}

/// What is heard where several meters answer at once: the line is low where any of them pulls it low.
#[must_use]
pub fn collide(replies: &[Vec<u8>]) -> Vec<u8> {
    let longest = replies.iter().map(Vec::len).max().unwrap_or_default();
    (0..longest)
        .map(|index| replies.iter().filter_map(|reply| reply.get(index)).fold(0xFF, |all, byte| all & byte))
        .collect()
}

/// An address of at most 12 decimal digits, the lowest two first.
fn wire_address(address: u64) -> [u8; 6] {
    let mut rest = address;
    std::array::from_fn(|_| {
        let pair = u8::try_from(rest % 100).unwrap_or_default();
        rest /= 100;
        ((pair / 10) << 4) | (pair % 10)
    })
}

#[cfg(test)]
mod tests;
