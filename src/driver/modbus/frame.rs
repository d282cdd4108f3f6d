//! Frames around a PDU: MBAP for TCP, unit and CRC for RTU, hexadecimal and LRC for ASCII. Pure.
//!
//! Follows Modbus Messaging on TCP/IP V1.0b, 3.1.3, and Modbus over Serial Line V1.02, 2.5.1 and 2.5.2.

use bytes::Bytes;

use crate::config::site::Framing;
use crate::tag::UnitId;

/// The longest PDU (Modbus V1.1b3, 4.1).
pub const PDU_MAX: usize = 253;
/// Transaction, protocol and length fields, without the unit.
const MBAP_PREFIX: usize = 6;

/// A Modbus TCP frame taken from the front of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpFrame<'a> {
    /// Which request it answers.
    pub transaction: u16,
    /// Who answers.
    pub unit: UnitId,
    /// Function code and data.
    pub pdu: &'a [u8],
}

/// What the front of a byte stream holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Front<T> {
    /// Not enough yet to tell.
    Incomplete,
    /// A whole frame of so many bytes.
    Frame(T, usize),
    /// No frame begins here.
    Invalid,
}

/// What stands before a PDU for `unit`, in place of what `frame` held. The PDU is to be appended, then [`finish`] called.
pub fn begin(framing: Framing, transaction: u16, unit: UnitId, frame: &mut Vec<u8>) {
    frame.clear();
    if framing == Framing::Tcp {
        frame.extend_from_slice(&transaction.to_be_bytes());
        frame.extend_from_slice(&[0, 0, 0, 0]); // protocol, and the length that is not known yet
    }
    frame.push(unit.0);
}

/// Puts in what is known once the PDU is there: length, checksum, digits.
pub fn finish(framing: Framing, frame: &mut Vec<u8>) {
    match framing {
        Framing::Tcp => {
            let length = u16::try_from(frame.len().saturating_sub(MBAP_PREFIX)).unwrap_or(u16::MAX);
            if let Some(field) = frame.get_mut(MBAP_PREFIX - 2..MBAP_PREFIX) {
                field.copy_from_slice(&length.to_be_bytes());
            }
        }
        Framing::Rtu => frame.extend_from_slice(&crc16(frame).to_le_bytes()),
        Framing::Ascii => *frame = to_ascii(frame),
    }
}

/// The bytes of a frame around a PDU of so many.
#[must_use]
pub const fn size(framing: Framing, pdu: usize) -> usize {
    match framing {
        Framing::Tcp => MBAP_PREFIX + 1 + pdu,
        Framing::Rtu => pdu + 3,
        Framing::Ascii => 1 + 2 * (pdu + 2) + 2,
    }
}

fn encode(framing: Framing, transaction: u16, unit: UnitId, pdu: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    begin(framing, transaction, unit, &mut frame);
    frame.extend_from_slice(pdu);
    finish(framing, &mut frame);
    frame
}

/// `pdu` for `unit` in a Modbus TCP frame.
#[must_use]
pub fn encode_tcp(transaction: u16, unit: UnitId, pdu: &[u8]) -> Vec<u8> {
    encode(Framing::Tcp, transaction, unit, pdu)
}

/// The Modbus TCP frame at the front of `bytes`.
#[must_use]
pub fn decode_tcp(bytes: &[u8]) -> Front<TcpFrame<'_>> {
    let [t1, t0, p1, p0, l1, l0, rest @ ..] = bytes else { return Front::Incomplete };
    let length = usize::from(u16::from_be_bytes([*l1, *l0]));
    if (*p1, *p0) != (0, 0) || !(2..=PDU_MAX + 1).contains(&length) {
        return Front::Invalid;
    }
    match rest.get(..length) {
        Some([unit, pdu @ ..]) => {
            let transaction = u16::from_be_bytes([*t1, *t0]);
            let frame = TcpFrame { transaction, unit: UnitId(*unit), pdu };
            Front::Frame(frame, MBAP_PREFIX + length)
        }
        _ => Front::Incomplete,
    }
}

/// `pdu` for `unit` in an RTU frame.
#[must_use]
pub fn encode_rtu(unit: UnitId, pdu: &[u8]) -> Vec<u8> {
    encode(Framing::Rtu, 0, unit, pdu)
}

/// The PDU in `frame`, if its checksum is right.
#[must_use]
pub fn decode_rtu(frame: &[u8]) -> Option<(UnitId, &[u8])> {
    let (body, crc) = frame.split_last_chunk::<2>()?;
    match body {
        [unit, pdu @ ..] if !pdu.is_empty() && crc16(body) == u16::from_le_bytes(*crc) => {
            Some((UnitId(*unit), pdu))
        }
        _ => None,
    }
}

/// The byte that begins an ASCII frame, and those that end it (2.5.2.1).
const ASCII_START: u8 = b':';
const ASCII_END: &[u8] = b"\r\n";
/// The longest ASCII frame: start, unit, PDU and LRC in two characters a byte, end.
const ASCII_MAX: usize = 1 + 2 * (PDU_MAX + 2) + 2;

/// `pdu` for `unit` in an ASCII frame.
#[must_use]
pub fn encode_ascii(unit: UnitId, pdu: &[u8]) -> Vec<u8> {
    encode(Framing::Ascii, 0, unit, pdu)
}

/// Unit and PDU as a frame of digits.
fn to_ascii(body: &[u8]) -> Vec<u8> {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or_default().to_ascii_uppercase();
    let mut text = String::from(char::from(ASCII_START));
    text.extend(body.iter().chain(&[lrc(body)]).flat_map(|byte| [digit(byte >> 4), digit(byte & 0x0F)]));
    let mut frame = text.into_bytes();
    frame.extend_from_slice(ASCII_END);
    frame
}

/// The ASCII frame at the front of `bytes`: unit and PDU.
#[must_use]
pub fn decode_ascii(bytes: &[u8]) -> Front<(UnitId, Bytes)> {
    let rest = match bytes.split_first() {
        None => return Front::Incomplete,
        Some((&ASCII_START, rest)) => rest,
        Some(_) => return Front::Invalid,
    };
    let Some(length) = rest.windows(ASCII_END.len()).position(|end| end == ASCII_END) else {
        let may_go_on = rest.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'\r');
        return if may_go_on && bytes.len() < ASCII_MAX { Front::Incomplete } else { Front::Invalid };
    };
    let body = rest.get(..length).and_then(from_hex);
    match body.as_deref() {
        Some([body @ .., check]) if lrc(body) == *check => match body {
            [unit, pdu @ ..] if !pdu.is_empty() => {
                let size = 1 + length + ASCII_END.len();
                Front::Frame((UnitId(*unit), Bytes::copy_from_slice(pdu)), size)
            }
            _ => Front::Invalid,
        },
        _ => Front::Invalid,
    }
}

/// Pairs of digits as bytes; `None` where there is anything else.
fn from_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let value = |digit: &u8| char::from(*digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(value(high)? << 4 | value(low)?),
        _ => None,
    };
    digits.chunks(2).map(pair).collect()
}

/// The longitudinal redundancy check: what makes the sum of all bytes 0 (6.2.1).
fn lrc(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg()
}

/// CRC-16 with the polynomial 0xA001, starting from 0xFFFF (Modbus over Serial Line V1.02, 6.2.2).
#[must_use]
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, byte| (crc >> 8) ^ crc_step((crc & 0xFF) ^ u16::from(*byte)))
}

fn crc_step(index: u16) -> u16 {
    TABLE.get(usize::from(index & 0xFF)).copied().unwrap_or_default()
}

const TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let mut crc = index as u16;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xA001 } else { crc >> 1 };
            bit += 1;
        }
        #[expect(clippy::indexing_slicing, reason = "the loop ends at the length")]
        {
            table[index] = crc;
        }
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_of_the_manual_has_its_printed_checksum() {
        let pdu = [0x03, 0x21, 0x02, 0x00, 0x02];
        assert_eq!(encode_rtu(UnitId(1), &pdu), [0x01, 0x03, 0x21, 0x02, 0x00, 0x02, 0x6F, 0xF7]);
        assert_eq!(encode_tcp(1, UnitId(1), &pdu), [0, 1, 0, 0, 0, 6, 1, 3, 0x21, 2, 0, 2]);
        assert_eq!(encode_ascii(UnitId(1), &pdu), b":010321020002D7\r\n");
    }

    proptest! {
        #[test]
        fn a_frame_decodes_to_what_was_encoded(
            transaction: u16, unit: u8, pdu in prop::collection::vec(any::<u8>(), 1..=PDU_MAX), more: Vec<u8>,
        ) {
            let mut tcp = encode_tcp(transaction, UnitId(unit), &pdu);
            let length = tcp.len();
            tcp.extend(&more);
            let frame = TcpFrame { transaction, unit: UnitId(unit), pdu: &pdu };
            prop_assert_eq!(decode_tcp(&tcp), Front::Frame(frame, length));
            for cut in 0..length {
                prop_assert_eq!(decode_tcp(&tcp[..cut]), Front::Incomplete);
            }
            let ascii = encode_ascii(UnitId(unit), &pdu);
            let length = ascii.len();
            for cut in 0..length {
                prop_assert_eq!(decode_ascii(&ascii[..cut]), Front::Incomplete);
            }
            let ascii = [ascii, more].concat();
            prop_assert_eq!(decode_ascii(&ascii), Front::Frame((UnitId(unit), Bytes::copy_from_slice(&pdu)), length));
            let rtu = encode_rtu(UnitId(unit), &pdu);
            prop_assert_eq!(decode_rtu(&rtu), Some((UnitId(unit), &pdu[..])));
        }

        #[test]
        fn any_single_wrong_bit_of_an_rtu_frame_is_seen(
            unit: u8, pdu in prop::collection::vec(any::<u8>(), 1..=PDU_MAX), bit: prop::sample::Index,
        ) {
            let mut frame = encode_rtu(UnitId(unit), &pdu);
            let bit = bit.index(frame.len() * 8);
            frame[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(decode_rtu(&frame), None);
        }

        #[test]
        fn any_bytes_are_borne(bytes: Vec<u8>) {
            prop_assert!(decode_rtu(&bytes).is_none_or(|(_, pdu)| pdu.len() + 3 == bytes.len()));
            prop_assert!(!matches!(decode_ascii(&bytes), Front::Frame(_, size) if size > bytes.len()));
            if let Front::Frame(frame, size) = decode_tcp(&bytes) {
                prop_assert_eq!(frame.pdu.len() + 7, size);
            }
        }
    }
}
