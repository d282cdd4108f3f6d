//! The far end of the wire: requests in, replies out. Pure, and written apart from the gateway's own driver.
//!
//! Frames after Modbus Messaging on TCP/IP V1.0b and Modbus over Serial Line V1.02, functions after Modbus V1.1b3.

use bytes::{Buf as _, BytesMut};

use super::floor::{Floor, PointName, Read, Request, Served, Table};
use crate::config::site::Framing;
use crate::reading::Timestamp;

const ILLEGAL_FUNCTION: u8 = 1;
const ILLEGAL_ADDRESS: u8 = 2;
const ILLEGAL_VALUE: u8 = 3;
const DEVICE_FAILURE: u8 = 4;

/// The unit that is all units; none of them replies.
const BROADCAST: u8 = 0;
/// The longest RTU frame.
const RTU_MAX: usize = 256;
/// The longest ASCII frame, from the colon to the line feed.
const ASCII_MAX: usize = 513;

/// What function 43/14 tells: maker, product, revision.
const IDENTIFICATION: [(u8, &str); 3] = [(0, "Tidegate"), (1, "simulated"), (2, "1.0")];
/// Of these three objects, each also by itself (Modbus V1.1b3, 6.21).
const BASIC: u8 = 0x81;

/// A request or a reply without what its framing adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The transaction id; 0 where the framing has none.
    pub id: u16,
    /// Who is asked or answers.
    pub unit: u8,
    /// The function and its data, 1 to 253 bytes.
    pub pdu: Vec<u8>,
}

impl Frame {
    /// The bytes on the wire.
    #[must_use]
    pub fn encode(&self, framing: Framing) -> Vec<u8> {
        let mut bytes = vec![self.unit];
        bytes.extend(&self.pdu);
        match framing {
            Framing::Tcp => {
                let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
                [&self.id.to_be_bytes()[..], &[0, 0], &length.to_be_bytes(), &bytes].concat()
            }
            Framing::Rtu => {
                bytes.extend(crc(&bytes).to_le_bytes());
                bytes
            }
            Framing::Ascii => {
                bytes.push(lrc(&bytes));
                let digits: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
                format!(":{digits}\r\n").into_bytes()
            }
        }
    }

    /// What the request is about.
    #[must_use]
    pub fn subject(&self) -> Subject {
        match *self.pdu {
            [function @ (5 | 6 | 22), a1, a0, ..] => Subject { function, address: word(a1, a0), count: 1 },
            [function @ (1..=4 | 15 | 16 | 23), a1, a0, c1, c0, ..] => {
                Subject { function, address: word(a1, a0), count: word(c1, c0) }
            }
            [function, ..] => Subject { function, address: 0, count: 0 },
            [] => Subject::default(),
        }
    }
}

/// Which registers or bits a request is about; for function 23, those that it reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the three fields of a request")]
pub struct Subject {
    pub function: u8,
    pub address: u16,
    pub count: u16,
}

/// The stream is no Modbus TCP: nothing more can be found in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foreign;

/// Takes the first request off `input`, with all that lies before it and is none; nothing while it is incomplete.
///
/// Modbus TCP says how long a request is. In RTU its function does; one that is not known is a request where it and its
/// checksum end the input.
///
/// # Errors
/// [`Foreign`], where `framing` is TCP and the input is something else.
pub fn take_request(framing: Framing, input: &mut BytesMut) -> Result<Option<Frame>, Foreign> {
    match framing {
        Framing::Tcp => take_tcp(input),
        Framing::Rtu => Ok(take_rtu(input)),
        Framing::Ascii => Ok(take_ascii(input)),
    }
}

fn take_tcp(input: &mut BytesMut) -> Result<Option<Frame>, Foreign> {
    if input.get(2..4).is_some_and(|protocol| protocol != [0, 0]) {
        return Err(Foreign);
    }
    let [id1, id0, _, _, length1, length0, ..] = **input else { return Ok(None) };
    let length = usize::from(word(length1, length0));
    if !(2..=254).contains(&length) {
        return Err(Foreign);
    }
    if input.len() < 6 + length {
        return Ok(None);
    }
    input.advance(6);
    let unit = input.get_u8();
    Ok(Some(Frame { id: word(id1, id0), unit, pdu: input.split_to(length - 1).to_vec() }))
}

fn take_rtu(input: &mut BytesMut) -> Option<Frame> {
    while input.len() >= 4 {
        let size = match **input {
            [_, 1..=6, ..] => 8,
            [_, 15 | 16, _, _, _, _, size, ..] => 9 + usize::from(size),
            [_, 15 | 16, ..] => 9,
            [_, 22, ..] => 10,
            [_, 23, _, _, _, _, _, _, _, _, size, ..] => 13 + usize::from(size),
            [_, 23, ..] => 13,
            [_, 43, 14, ..] => 7,
            _ => input.len(),
        };
        if size > RTU_MAX {
            input.advance(1);
            continue;
        }
        let (content, checksum) = input.get(..size)?.split_last_chunk::<2>()?;
        if crc(content) == u16::from_le_bytes(*checksum) {
            let unit = input.get_u8();
            let pdu = input.split_to(size - 3).to_vec();
            input.advance(2);
            return Some(Frame { id: 0, unit, pdu });
        }
        input.advance(1);
    }
    None
}

fn take_ascii(input: &mut BytesMut) -> Option<Frame> {
    loop {
        let start = input.iter().position(|byte| *byte == b':').unwrap_or(input.len());
        input.advance(start);
        let Some(end) = input.windows(2).position(|pair| pair == b"\r\n") else {
            // a colon begins anew, whatever came before it
            let last = input.iter().rposition(|byte| *byte == b':').filter(|_| input.len() <= ASCII_MAX);
            input.advance(last.unwrap_or(input.len()));
            return None;
        };
        let line = input.split_to(end + 2);
        let digits = line.get(..end)?.rsplit(|byte| *byte == b':').next()?;
        if let Some(frame) = read_ascii(digits) {
            return Some(frame);
        }
    }
}

/// The frame in the digits between colon and end of line.
fn read_ascii(digits: &[u8]) -> Option<Frame> {
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    let bytes: Vec<u8> =
        pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect::<Option<_>>()?;
    let (sum, content) = bytes.split_last()?;
    let [unit, pdu @ ..] = content else { return None };
    let is_frame = (1..=253).contains(&pdu.len()) && lrc(content) == *sum;
    is_frame.then(|| Frame { id: 0, unit: *unit, pdu: pdu.to_vec() })
}

/// A hexadecimal digit, in capitals as the specification has it.
fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// One link of the floor at a moment.
#[derive(Debug)]
pub struct Slave<'a> {
    /// The devices.
    pub floor: &'a mut Floor,
    /// Which of them are asked.
    pub link: &'a str,
    /// Since the start.
    pub elapsed_ms: u64,
    /// Now.
    pub at: Timestamp,
}

/// What a unit replies.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The function and its data.
    pub pdu: Vec<u8>,
    /// The points that they carry.
    pub served: Vec<(PointName, Served)>,
}

/// The code of an exception.
struct Exception(u8);

impl Slave<'_> {
    /// What `unit` replies to `pdu`; `None` where no such unit is there to speak, and to a broadcast, which all units
    /// obey.
    pub fn reply(&mut self, unit: u8, pdu: &[u8]) -> Option<Reply> {
        let units: Vec<u8> = self.floor.units_on(self.link).collect();
        if unit == BROADCAST && !units.contains(&BROADCAST) {
            for unit in units {
                self.perform(unit, pdu).ok(); // nobody is told
            }
            return None;
        }
        let function = *pdu.first().filter(|_| units.contains(&unit))?;
        let refused = |Exception(code)| Reply { pdu: vec![function | 0x80, code], served: Vec::new() };
        Some(self.perform(unit, pdu).unwrap_or_else(refused))
    }

    fn perform(&mut self, unit: u8, pdu: &[u8]) -> Result<Reply, Exception> {
        match *pdu {
            [function @ 1..=4, a1, a0, c1, c0] => self.read(unit, function, word(a1, a0), word(c1, c0)),
            [5, a1, a0, value @ (0 | 0xFF), 0] => {
                self.write(unit, Table::Coils, word(a1, a0), &[u16::from(value != 0)])?;
                Ok(echo(pdu))
            }
            [6, a1, a0, v1, v0] => {
                self.write(unit, Table::HoldingRegisters, word(a1, a0), &[word(v1, v0)])?;
                Ok(echo(pdu))
            }
            [15, a1, a0, c1, c0, size, ref data @ ..] => {
                let count = counted(word(c1, c0), 1968)?;
                sized(data, size, usize::from(count).div_ceil(8))?;
                let bits: Vec<u16> = unpack(data).take(count.into()).collect();
                self.write(unit, Table::Coils, word(a1, a0), &bits)?;
                Ok(echo(&[15, a1, a0, c1, c0]))
            }
            [16, a1, a0, c1, c0, size, ref data @ ..] => {
                sized(data, size, usize::from(counted(word(c1, c0), 123)?) * 2)?;
                self.write(unit, Table::HoldingRegisters, word(a1, a0), &words(data))?;
                Ok(echo(&[16, a1, a0, c1, c0]))
            }
            [22, a1, a0, and1, and0, or1, or0] => {
                self.mask(unit, word(a1, a0), word(and1, and0), word(or1, or0))?;
                Ok(echo(pdu))
            }
            [23, r1, r0, n1, n0, a1, a0, c1, c0, size, ref data @ ..] => {
                counted(word(n1, n0), 125)?;
                sized(data, size, usize::from(counted(word(c1, c0), 121)?) * 2)?;
                fits(word(r1, r0), word(n1, n0))?;
                self.write(unit, Table::HoldingRegisters, word(a1, a0), &words(data))?;
                self.read(unit, 23, word(r1, r0), word(n1, n0))
            }
            [43, 14, code, object] => identify(code, object),
            [43, kind, ..] if kind != 14 => Err(Exception(ILLEGAL_FUNCTION)),
            [1..=6 | 15 | 16 | 22 | 23 | 43, ..] => Err(Exception(ILLEGAL_VALUE)),
            _ => Err(Exception(ILLEGAL_FUNCTION)),
        }
    }

    fn read(&mut self, unit: u8, function: u8, address: u16, count: u16) -> Result<Reply, Exception> {
        let (table, most) = match function {
            1 => (Table::Coils, 2000),
            2 => (Table::DiscreteInputs, 2000),
            4 => (Table::InputRegisters, 125),
            _ => (Table::HoldingRegisters, 125),
        };
        counted(count, most)?;
        fits(address, count)?;
        let request = Request { table, address, count };
        let Read { words, served } =
            self.floor.read(self.link, unit, request, self.elapsed_ms, self.at).unwrap_or_default();
        let data: Vec<u8> = if function <= 2 {
            pack(&words)
        } else {
            words.iter().flat_map(|word| word.to_be_bytes()).collect()
        };
        let size = u8::try_from(data.len()).map_err(|_| Exception(DEVICE_FAILURE))?;
        Ok(Reply { pdu: [vec![function, size], data].concat(), served })
    }

    fn write(&mut self, unit: u8, table: Table, address: u16, words: &[u16]) -> Result<(), Exception> {
        fits(address, u16::try_from(words.len()).unwrap_or(u16::MAX))?;
        let written = self.floor.write(self.link, unit, table, address, words);
        written.map_err(|_full| Exception(DEVICE_FAILURE))
    }

    /// Function 22 (Modbus V1.1b3, 6.16).
    fn mask(&mut self, unit: u8, address: u16, and: u16, or: u16) -> Result<(), Exception> {
        let request = Request { table: Table::HoldingRegisters, address, count: 1 };
        let read = self.floor.read(self.link, unit, request, self.elapsed_ms, self.at).unwrap_or_default();
        let now = read.words.first().copied().unwrap_or_default();
        self.write(unit, Table::HoldingRegisters, address, &[(now & and) | (or & !and)])
    }
}

fn echo(pdu: &[u8]) -> Reply {
    Reply { pdu: pdu.to_vec(), served: Vec::new() }
}

/// The count, if there may be so many.
fn counted(count: u16, most: u16) -> Result<u16, Exception> {
    if (1..=most).contains(&count) { Ok(count) } else { Err(Exception(ILLEGAL_VALUE)) }
}

fn sized(data: &[u8], size: u8, wanted: usize) -> Result<(), Exception> {
    let is_so = data.len() == wanted && usize::from(size) == wanted;
    if is_so { Ok(()) } else { Err(Exception(ILLEGAL_VALUE)) }
}

/// Whether there are `count` addresses from `address` on.
fn fits(address: u16, count: u16) -> Result<(), Exception> {
    let is_so = u32::from(address) + u32::from(count) <= 0x1_0000;
    if is_so { Ok(()) } else { Err(Exception(ILLEGAL_ADDRESS)) }
}

/// Function 43/14 (Modbus V1.1b3, 6.21): a level above the basic one is answered with the basic one.
fn identify(code: u8, object: u8) -> Result<Reply, Exception> {
    let is_known = IDENTIFICATION.iter().any(|(id, _)| *id == object);
    let objects: Vec<_> = match code {
        1..=3 if is_known => IDENTIFICATION.iter().filter(|(id, _)| *id >= object).collect(),
        1..=3 => IDENTIFICATION.iter().collect(),
        4 if is_known => IDENTIFICATION.iter().filter(|(id, _)| *id == object).collect(),
        4 => return Err(Exception(ILLEGAL_ADDRESS)),
        _ => return Err(Exception(ILLEGAL_VALUE)),
    };
    let byte = |size| u8::try_from(size).map_err(|_| Exception(DEVICE_FAILURE));
    let mut pdu = vec![43, 14, code, BASIC, 0, 0, byte(objects.len())?];
    for (id, text) in objects {
        pdu.extend([*id, byte(text.len())?]);
        pdu.extend(text.bytes());
    }
    Ok(Reply { pdu, served: Vec::new() })
}

fn word(high: u8, low: u8) -> u16 {
    u16::from_be_bytes([high, low])
}

fn words(data: &[u8]) -> Vec<u16> {
    data.as_chunks().0.iter().map(|pair| u16::from_be_bytes(*pair)).collect()
}

/// Bits, eight a byte, the first in the lowest place.
fn pack(bits: &[u16]) -> Vec<u8> {
    bits.chunks(8)
        .map(|eight| eight.iter().rev().fold(0, |byte, bit| (byte << 1) | u8::from(*bit != 0)))
        .collect()
}

fn unpack(data: &[u8]) -> impl Iterator<Item = u16> {
    data.iter().flat_map(|byte| (0..8).map(move |place| u16::from(byte >> place & 1)))
}

/// The checksum of an RTU frame, bit by bit as the specification describes it (Modbus over Serial Line V1.02, 6.2.2).
fn crc(bytes: &[u8]) -> u16 {
    let mut register = 0xFFFF_u16;
    for byte in bytes {
        register ^= u16::from(*byte);
        for _ in 0..8 {
            let carry = register & 1;
            register >>= 1;
            if carry == 1 {
                register ^= 0xA001;
            }
        }
    }
    register
}

/// The checksum of an ASCII frame: with it, all bytes add up to 0 (Modbus over Serial Line V1.02, 6.2.1).
fn lrc(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg()
}

#[cfg(test)]
mod tests;
