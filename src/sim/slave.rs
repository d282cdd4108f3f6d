//! The far end of the wire: requests in, replies out. Pure, and written apart from the gateway's own driver.

use bytes::{Buf as _, BytesMut};

use super::floor::{Floor, Request, Table};
use crate::reading::Timestamp;

/// The longest frame that is looked for; noise beyond it is dropped.
const FRAME_MAX: usize = 260;
const ILLEGAL_FUNCTION: u8 = 1;
const ILLEGAL_VALUE: u8 = 3;

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

impl Slave<'_> {
    /// The replies to the Modbus TCP requests at the front of `input`, which are taken from it; `None` where the stream
    /// is no Modbus TCP.
    pub fn answer_tcp(&mut self, input: &mut BytesMut) -> Option<Vec<u8>> {
        let mut output = Vec::new();
        while let [id1, id0, 0, 0, length1, length0, ..] = **input {
            let length = usize::from(u16::from_be_bytes([length1, length0]));
            if !(2..=254).contains(&length) {
                return None;
            }
            if input.len() < 6 + length {
                break;
            }
            let request = input.split_to(6 + length);
            let Some([unit, pdu @ ..]) = request.get(6..) else { return None };
            if let Some(reply) = self.reply(*unit, pdu) {
                let size = u16::try_from(reply.len() + 1).ok()?;
                output.extend([id1, id0, 0, 0]);
                output.extend(size.to_be_bytes());
                output.push(*unit);
                output.extend(reply);
            }
        }
        let is_foreign = input.get(2..4).is_some_and(|protocol| protocol != [0, 0]);
        (!is_foreign).then_some(output)
    }

    /// The reply to the RTU request at the front of `input`; what is none is dropped a byte at a time.
    pub fn answer_rtu(&mut self, input: &mut BytesMut) -> Option<Vec<u8>> {
        while let Some(frame) = input.first_chunk::<8>() {
            let [unit, pdu @ .., low, high] = *frame;
            if checksum(frame.get(..6)?) != u16::from_le_bytes([low, high]) {
                input.advance(1);
                continue;
            }
            input.clear();
            let mut reply = vec![unit];
            reply.extend(self.reply(unit, &pdu)?);
            let crc = checksum(&reply);
            reply.extend(crc.to_le_bytes());
            return Some(reply);
        }
        if input.len() > FRAME_MAX {
            input.clear();
        }
        None
    }

    /// The reply's PDU; `None` where no such unit is there to speak.
    fn reply(&mut self, unit: u8, pdu: &[u8]) -> Option<Vec<u8>> {
        let [function, address1, address0, count1, count0] = *pdu else {
            return Some(vec![pdu.first()? | 0x80, ILLEGAL_FUNCTION]);
        };
        let (table, most) = match function {
            1 => (Table::Coils, 2000),
            2 => (Table::DiscreteInputs, 2000),
            3 => (Table::HoldingRegisters, 125),
            4 => (Table::InputRegisters, 125),
            _ => return Some(vec![function | 0x80, ILLEGAL_FUNCTION]),
        };
        let address = u16::from_be_bytes([address1, address0]);
        let count = u16::from_be_bytes([count1, count0]);
        if !(1..=most).contains(&count) {
            return Some(vec![function | 0x80, ILLEGAL_VALUE]);
        }
        let request = Request { table, address, count };
        let words = self.floor.serve(self.link, unit, request, self.elapsed_ms, self.at)?;
        let data: Vec<u8> = if function <= 2 {
            pack(&words)
        } else {
            words.iter().flat_map(|word| word.to_be_bytes()).collect()
        };
        let mut reply = vec![function, u8::try_from(data.len()).ok()?];
        reply.extend(data);
        Some(reply)
    }
}

/// Bits, eight a byte, the first in the lowest place.
fn pack(bits: &[u16]) -> Vec<u8> {
    bits.chunks(8)
        .map(|eight| eight.iter().rev().fold(0, |byte, bit| (byte << 1) | u8::from(*bit != 0)))
        .collect()
}

/// The checksum of a serial frame, bit by bit as the specification describes it.
fn checksum(bytes: &[u8]) -> u16 {
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

#[cfg(test)]
mod tests {
    use super::super::floor::demo_floor;
    use super::*;
    use proptest::prelude::*;

    fn answer(is_rtu: bool, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut floor = Floor::new(demo_floor());
        let mut slave =
            Slave { floor: &mut floor, link: "plc", elapsed_ms: 5000, at: Timestamp::from_millis(0) };
        let mut input = BytesMut::from(bytes);
        if is_rtu { slave.answer_rtu(&mut input) } else { slave.answer_tcp(&mut input) }
    }

    #[test]
    fn a_coil_is_read_over_tcp() {
        let reply = answer(false, &[0, 9, 0, 0, 0, 6, 1, 1, 0, 0, 0, 1]);
        assert_eq!(reply, Some(vec![0, 9, 0, 0, 0, 4, 1, 1, 1, 1]));
    }

    #[test]
    fn a_unit_that_is_not_there_is_silent() {
        assert_eq!(answer(false, &[0, 9, 0, 0, 0, 6, 7, 1, 0, 0, 0, 1]), Some(Vec::new()));
    }

    #[test]
    fn a_request_over_rtu_is_found_after_noise() {
        let mut request = vec![0xFF, 1, 3, 0, 40, 0, 2];
        let crc = checksum(&request[1..]);
        request.extend(crc.to_le_bytes());
        let reply = answer(true, &request).unwrap();
        assert_eq!(reply[..7], [1, 3, 4, b'P', b'r', b'e', b's']);
        assert_eq!(checksum(&reply[..7]).to_le_bytes(), reply[7..]);
    }

    #[test]
    fn what_cannot_be_served_is_refused() {
        assert_eq!(answer(false, &[0, 9, 0, 0, 0, 6, 1, 3, 0, 0, 0, 126]).unwrap()[7..], [0x83, 3]);
        assert_eq!(answer(false, &[0, 9, 0, 0, 0, 6, 1, 6, 0, 0, 0, 1]).unwrap()[7..], [0x86, 1]);
        assert_eq!(answer(false, &[0, 9, 0, 1, 0, 6, 1, 3, 0, 0, 0, 1]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_borne(bytes: Vec<u8>, is_rtu: bool) {
            answer(is_rtu, &bytes);
        }
    }
}
