//! Requests and answers without their frames: the functions, their limits, and what fits what. Pure.
//!
//! Follows Modbus Application Protocol V1.1b3, 6. The types are those of tokio-modbus, and so is the decoding of an
//! answer other than registers once its shape has been found right; what may be sent, how long an answer must be and what it must repeat of
//! its request is decided here.

use bytes::Bytes;
use tokio_modbus::{ExceptionCode, Request, Response};

use super::frame::Front;
use crate::config::site::WriteFunctions;
use crate::driver::Answer;
use crate::scan::Data;
use crate::tag::{Area, Span};

/// The function code of a read of device identification, and the type of encapsulated interface in it (6.21).
const ENCAPSULATED_INTERFACE: u8 = 0x2B;
const DEVICE_IDENTIFICATION: u8 = 0x0E;

/// Why a request is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The specification allows fewer, or none at all.
    #[error("{count} is not between 1 and {most}, the limit of the function")]
    Count {
        /// What was wanted.
        count: usize,
        /// The most that there may be.
        most: usize,
    },
    /// The last address would be above 65535.
    #[error("it ends after the last address, 65535")]
    Address,
    /// The function is none of 1 to 6, 15, 16, 22, 23 and 43/14.
    #[error("function {0} is not supported")]
    Function(u8),
}

/// The request that reads `span`; `None`: it is none of Modbus.
#[must_use]
pub fn read_request(span: Span) -> Option<Request<'static>> {
    let Span { area, address, count } = span;
    Some(match area {
        Area::Coils => Request::ReadCoils(address, count),
        Area::DiscreteInputs => Request::ReadDiscreteInputs(address, count),
        Area::HoldingRegisters => Request::ReadHoldingRegisters(address, count),
        Area::InputRegisters => Request::ReadInputRegisters(address, count),
        Area::Items => return None,
    })
}

/// The bytes of `request`, function code first.
///
/// # Errors
/// Where the specification does not allow it.
pub fn encode_request(request: &Request<'_>) -> Result<Vec<u8>, RequestError> {
    let mut pdu = Vec::new();
    append_request(request, &mut pdu)?;
    Ok(pdu)
}

/// As [`encode_request`], at the end of `pdu`.
///
/// # Errors
/// Where the specification does not allow it; then `pdu` holds part of it.
pub fn append_request(request: &Request<'_>, pdu: &mut Vec<u8>) -> Result<(), RequestError> {
    pdu.push(request.function_code().value());
    let mut words = |values: &[u16]| pdu.extend(values.iter().flat_map(|value| value.to_be_bytes()));
    match request {
        Request::ReadCoils(address, count) | Request::ReadDiscreteInputs(address, count) => {
            check_span(*address, (*count).into(), 2000)?;
            words(&[*address, *count]);
        }
        Request::ReadHoldingRegisters(address, count) | Request::ReadInputRegisters(address, count) => {
            check_span(*address, (*count).into(), 125)?;
            words(&[*address, *count]);
        }
        Request::WriteSingleCoil(address, is_on) => words(&[*address, if *is_on { 0xFF00 } else { 0 }]),
        Request::WriteSingleRegister(address, value) => words(&[*address, *value]),
        Request::WriteMultipleCoils(address, coils) => {
            words(&[*address, check_span(*address, coils.len(), 1968)?]);
            pdu.extend(u8::try_from(coils.len().div_ceil(8)));
            pdu.extend(coils.chunks(8).map(pack));
        }
        Request::WriteMultipleRegisters(address, values) => {
            words(&[*address, check_span(*address, values.len(), 123)?]);
            pdu.extend(u8::try_from(values.len() * 2));
            pdu.extend(values.iter().flat_map(|value| value.to_be_bytes()));
        }
        Request::MaskWriteRegister(address, and_mask, or_mask) => words(&[*address, *and_mask, *or_mask]),
        Request::ReadWriteMultipleRegisters(read_address, read_count, write_address, values) => {
            check_span(*read_address, (*read_count).into(), 125)?;
            let write_count = check_span(*write_address, values.len(), 121)?;
            words(&[*read_address, *read_count, *write_address, write_count]);
            pdu.extend(u8::try_from(values.len() * 2));
            pdu.extend(values.iter().flat_map(|value| value.to_be_bytes()));
        }
        Request::ReadDeviceIdentification(code, object) => {
            pdu.extend([DEVICE_IDENTIFICATION, code.value(), *object]);
        }
        Request::ReportServerId | Request::Custom(..) => {
            return Err(RequestError::Function(request.function_code().value()));
        }
    }
    Ok(())
}

/// How long `request` is, to tell how long it takes on a line.
#[must_use]
pub fn request_size(request: &Request<'_>) -> usize {
    match request {
        Request::WriteMultipleCoils(_, coils) => 6 + coils.len().div_ceil(8),
        Request::WriteMultipleRegisters(_, values) => 6 + values.len() * 2,
        Request::ReadWriteMultipleRegisters(_, _, _, values) => 10 + values.len() * 2,
        Request::MaskWriteRegister(..) => 7,
        Request::ReadDeviceIdentification(..) => 4,
        Request::ReadCoils(..)
        | Request::ReadDiscreteInputs(..)
        | Request::ReadHoldingRegisters(..)
        | Request::ReadInputRegisters(..)
        | Request::WriteSingleCoil(..)
        | Request::WriteSingleRegister(..)
        | Request::ReportServerId
        | Request::Custom(..) => 5,
    }
}

/// The count on the wire, if there may be so many from `address` on.
fn check_span(address: u16, count: usize, most: usize) -> Result<u16, RequestError> {
    if !(1..=most).contains(&count) {
        return Err(RequestError::Count { count, most });
    }
    if usize::from(address) + count > 65536 {
        return Err(RequestError::Address);
    }
    u16::try_from(count).map_err(|_| RequestError::Count { count, most })
}

/// Up to eight coils in a byte, the first in the lowest place.
fn pack(coils: &[bool]) -> u8 {
    coils.iter().rev().fold(0, |byte, coil| (byte << 1) | u8::from(*coil))
}

/// The data bytes of an answer that begins with their count; `None` where an answer has another shape.
fn data_size(request: &Request<'_>) -> Option<usize> {
    match request {
        Request::ReadCoils(_, count) | Request::ReadDiscreteInputs(_, count) => {
            Some(usize::from(*count).div_ceil(8))
        }
        Request::ReadHoldingRegisters(_, count)
        | Request::ReadInputRegisters(_, count)
        | Request::ReadWriteMultipleRegisters(_, count, _, _) => Some(usize::from(*count) * 2),
        Request::WriteSingleCoil(..)
        | Request::WriteSingleRegister(..)
        | Request::WriteMultipleCoils(..)
        | Request::WriteMultipleRegisters(..)
        | Request::MaskWriteRegister(..)
        | Request::ReadDeviceIdentification(..)
        | Request::ReportServerId
        | Request::Custom(..) => None,
    }
}

/// Whether `request` changes something in the device.
#[must_use]
pub fn is_write(request: &Request<'_>) -> bool {
    match request {
        Request::WriteSingleCoil(..)
        | Request::WriteSingleRegister(..)
        | Request::WriteMultipleCoils(..)
        | Request::WriteMultipleRegisters(..)
        | Request::MaskWriteRegister(..)
        | Request::ReadWriteMultipleRegisters(..)
        | Request::Custom(..) => true,
        Request::ReadCoils(..)
        | Request::ReadDiscreteInputs(..)
        | Request::ReadHoldingRegisters(..)
        | Request::ReadInputRegisters(..)
        | Request::ReadDeviceIdentification(..)
        | Request::ReportServerId => false,
    }
}

/// The request that writes `data` from `address` on, by one of the functions that the device has; `None` where it has
/// none for so much. There is no silent change to another function.
#[must_use]
pub fn write_request(address: u16, data: &Data, functions: WriteFunctions) -> Option<Request<'static>> {
    let may_single = functions != WriteFunctions::Multiple;
    let may_multiple = functions != WriteFunctions::Single;
    Some(match data {
        Data::Bits(bits) => match bits.as_slice() {
            [bit] if may_single => Request::WriteSingleCoil(address, *bit),
            bits if may_multiple => Request::WriteMultipleCoils(address, bits.to_vec().into()),
            _ => return None,
        },
        Data::Words(words) => match words.as_slice() {
            [word] if may_single => Request::WriteSingleRegister(address, *word),
            words if may_multiple => Request::WriteMultipleRegisters(address, words.to_vec().into()),
            _ => return None,
        },
        Data::Values(_) => return None,
    })
}

/// How long an answer usually is, to tell how long it takes on a line.
#[must_use]
pub fn answer_size(request: &Request<'_>) -> usize {
    match (data_size(request), request) {
        (Some(size), _) => size + 2,
        (None, Request::MaskWriteRegister(..)) => 7,
        (None, Request::ReadDeviceIdentification(..)) => super::frame::PDU_MAX,
        (None, _) => 5,
    }
}

/// How long the PDU at the front of `bytes` must be to answer `request`: for framings that do not say it themselves.
#[must_use]
pub fn size_of_answer(request: &Request<'_>, bytes: &[u8]) -> Front<()> {
    let function = request.function_code().value();
    let size = match (bytes, data_size(request)) {
        ([], _) => return Front::Incomplete,
        ([first, ..], _) if *first == function | 0x80 => 2,
        ([first, ..], _) if *first != function => return Front::Invalid,
        ([_], Some(_)) => return Front::Incomplete,
        ([_, count, ..], Some(size)) if usize::from(*count) != size => return Front::Invalid,
        (_, Some(size)) => size + 2,
        (_, None) if function == ENCAPSULATED_INTERFACE => match identification_size(bytes) {
            Some(size) => size,
            None => return Front::Incomplete,
        },
        (_, None) => answer_size(request),
    };
    if bytes.len() < size { Front::Incomplete } else { Front::Frame((), size) }
}

/// The size of an answer with device identification, which only its list of objects tells (6.21); `None` where the list
/// is not there whole.
fn identification_size(pdu: &[u8]) -> Option<usize> {
    let mut size = 7;
    for _ in 0..*pdu.get(6)? {
        size += 2 + usize::from(*pdu.get(size + 1)?);
    }
    Some(size)
}

/// The answer to `request` in `pdu`; `None` where it is not an answer to this very request.
#[must_use]
pub fn decode_answer(request: &Request<'_>, pdu: &[u8]) -> Option<Answer> {
    let function = request.function_code().value();
    match (pdu, data_size(request)) {
        ([first, code], _) if *first == function | 0x80 => {
            return Some(Answer::Exception(ExceptionCode::new(*code)));
        }
        ([first, size, data @ ..], Some(wanted))
            if *first == function && usize::from(*size) == wanted && data.len() == wanted => {}
        ([first, ..], None) if *first == function => {}
        _ => return None,
    }
    let mut response = match function {
        // what is read all the time is not copied before
        3 => Response::ReadHoldingRegisters(words(pdu)),
        4 => Response::ReadInputRegisters(words(pdu)),
        _ => Response::try_from(Bytes::copy_from_slice(pdu)).ok()?,
    };
    fits(request, &mut response).then_some(Answer::Response(response))
}

/// The registers in an answer whose shape has been found right.
fn words(pdu: &[u8]) -> Vec<u16> {
    let pairs = pdu.get(2..).unwrap_or_default().chunks_exact(2);
    pairs.map(|pair| pair.iter().fold(0, |word, byte| word << 8 | u16::from(*byte))).collect()
}

/// Whether `response` repeats what it must of `request`; bits beyond those that were asked for are cut off.
fn fits(request: &Request<'_>, response: &mut Response) -> bool {
    match (request, response) {
        (Request::ReadCoils(_, count), Response::ReadCoils(bits))
        | (Request::ReadDiscreteInputs(_, count), Response::ReadDiscreteInputs(bits)) => {
            let is_whole = bits.len() >= usize::from(*count);
            bits.truncate(usize::from(*count));
            is_whole
        }
        (Request::ReadHoldingRegisters(_, count), Response::ReadHoldingRegisters(words))
        | (Request::ReadInputRegisters(_, count), Response::ReadInputRegisters(words))
        | (
            Request::ReadWriteMultipleRegisters(_, count, _, _),
            Response::ReadWriteMultipleRegisters(words),
        ) => words.len() == usize::from(*count),
        (Request::WriteSingleCoil(a, value), Response::WriteSingleCoil(b, other)) => {
            (a, value) == (b, &*other)
        }
        (Request::WriteSingleRegister(a, value), Response::WriteSingleRegister(b, other)) => {
            (a, value) == (b, &*other)
        }
        (Request::WriteMultipleCoils(a, coils), Response::WriteMultipleCoils(b, count)) => {
            a == b && coils.len() == usize::from(*count)
        }
        (Request::WriteMultipleRegisters(a, words), Response::WriteMultipleRegisters(b, count)) => {
            a == b && words.len() == usize::from(*count)
        }
        (Request::MaskWriteRegister(a, and, or), Response::MaskWriteRegister(b, other_and, other_or)) => {
            (a, and, or) == (b, &*other_and, &*other_or)
        }
        (Request::ReadDeviceIdentification(code, _), Response::ReadDeviceIdentification(identification)) => {
            identification.read_code == *code
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;
    use tokio_modbus::prelude::ReadCode;

    fn hex(text: &str) -> Vec<u8> {
        text.split_whitespace().map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    }

    /// A request, its bytes, an answer, and whether that is taken.
    #[track_caller]
    fn check(request: Request<'_>, sent: &str, answer: &str, is_taken: bool) {
        assert_eq!(encode_request(&request), Ok(hex(sent)));
        assert_eq!(request_size(&request), hex(sent).len());
        let pdu = Bytes::from(hex(answer));
        assert_eq!(decode_answer(&request, &pdu).is_some(), is_taken, "{request:?} {answer}");
        if is_taken {
            assert_eq!(size_of_answer(&request, &pdu), Front::Frame((), pdu.len()));
            for cut in 0..pdu.len() {
                assert_eq!(size_of_answer(&request, &pdu[..cut]), Front::Incomplete, "cut at {cut}");
            }
        }
    }

    #[test]
    fn every_function_has_its_bytes_and_takes_its_answer_only() {
        let words = |words: &'static [u16]| Cow::Borrowed(words);
        check(Request::ReadCoils(19, 10), "01 00 13 00 0A", "01 02 CD 01", true);
        check(Request::ReadCoils(19, 10), "01 00 13 00 0A", "01 01 CD", false);
        check(Request::ReadDiscreteInputs(196, 8), "02 00 C4 00 08", "02 01 35", true);
        check(Request::ReadHoldingRegisters(107, 1), "03 00 6B 00 01", "03 02 02 2B", true);
        check(Request::ReadHoldingRegisters(107, 1), "03 00 6B 00 01", "04 02 02 2B", false);
        check(Request::ReadInputRegisters(8, 1), "04 00 08 00 01", "04 02 00 0A", true);
        check(Request::WriteSingleCoil(172, true), "05 00 AC FF 00", "05 00 AC FF 00", true);
        check(Request::WriteSingleCoil(172, true), "05 00 AC FF 00", "05 00 AC 00 00", false);
        check(Request::WriteSingleRegister(1, 3), "06 00 01 00 03", "06 00 01 00 03", true);
        check(Request::WriteSingleRegister(1, 3), "06 00 01 00 03", "06 00 02 00 03", false);
        let coils = [true, false, true, true, false, false, true, true, true, false];
        check(
            Request::WriteMultipleCoils(19, Cow::Borrowed(&coils)),
            "0F 00 13 00 0A 02 CD 01",
            "0F 00 13 00 0A",
            true,
        );
        check(
            Request::WriteMultipleCoils(19, Cow::Borrowed(&coils)),
            "0F 00 13 00 0A 02 CD 01",
            "0F 00 13 00 09",
            false,
        );
        check(
            Request::WriteMultipleRegisters(1, words(&[10, 258])),
            "10 00 01 00 02 04 00 0A 01 02",
            "10 00 01 00 02",
            true,
        );
        check(
            Request::MaskWriteRegister(4, 0xF2, 0x25),
            "16 00 04 00 F2 00 25",
            "16 00 04 00 F2 00 25",
            true,
        );
        check(
            Request::MaskWriteRegister(4, 0xF2, 0x25),
            "16 00 04 00 F2 00 25",
            "16 00 04 00 F2 00 26",
            false,
        );
        check(
            Request::ReadWriteMultipleRegisters(3, 2, 14, words(&[255])),
            "17 00 03 00 02 00 0E 00 01 02 00 FF",
            "17 04 00 FE 0A CD",
            true,
        );
        check(
            Request::ReadDeviceIdentification(ReadCode::Basic, 0),
            "2B 0E 01 00",
            "2B 0E 01 01 00 00 02 00 02 41 42 01 01 43",
            true,
        );
        check(Request::ReadCoils(19, 10), "01 00 13 00 0A", "81 02", true);
    }

    #[test]
    fn a_write_uses_the_functions_that_the_device_has_and_no_other() {
        let code = |data: &Data, functions| {
            write_request(7, data, functions).map(|request| request.function_code().value())
        };
        let (word, words) = (Data::Words(vec![1]), Data::Words(vec![1, 2]));
        let (bit, bits) = (Data::Bits(vec![true]), Data::Bits(vec![true, false]));
        for (data, auto, single, multiple) in [
            (&word, Some(6), Some(6), Some(16)),
            (&words, Some(16), None, Some(16)),
            (&bit, Some(5), Some(5), Some(15)),
            (&bits, Some(15), None, Some(15)),
        ] {
            assert_eq!(code(data, WriteFunctions::Auto), auto);
            assert_eq!(code(data, WriteFunctions::Single), single);
            assert_eq!(code(data, WriteFunctions::Multiple), multiple);
        }
    }

    #[test]
    fn limits_are_kept_before_anything_is_sent() {
        let count = |count, most| Err(RequestError::Count { count, most });
        let registers = |count| Cow::Owned(vec![0; count]);
        assert_eq!(encode_request(&Request::ReadHoldingRegisters(0, 126)), count(126, 125));
        assert_eq!(encode_request(&Request::ReadInputRegisters(0, 0)), count(0, 125));
        assert_eq!(encode_request(&Request::ReadCoils(0, 2001)), count(2001, 2000));
        assert_eq!(encode_request(&Request::WriteMultipleRegisters(0, registers(124))), count(124, 123));
        assert_eq!(
            encode_request(&Request::WriteMultipleCoils(0, Cow::Owned(vec![true; 1969]))),
            count(1969, 1968)
        );
        assert_eq!(
            encode_request(&Request::ReadWriteMultipleRegisters(0, 1, 0, registers(122))),
            count(122, 121)
        );
        assert_eq!(
            encode_request(&Request::ReadWriteMultipleRegisters(0, 126, 0, registers(1))),
            count(126, 125)
        );
        assert_eq!(encode_request(&Request::ReadHoldingRegisters(65535, 2)), Err(RequestError::Address));
        assert_eq!(encode_request(&Request::ReportServerId), Err(RequestError::Function(0x11)));
        for (request, size) in [
            (Request::WriteMultipleRegisters(0, registers(123)), 6 + 246),
            (Request::WriteMultipleCoils(0, Cow::Owned(vec![true; 1968])), 6 + 246),
            (Request::ReadWriteMultipleRegisters(0, 125, 0, registers(121)), 10 + 242),
        ] {
            let pdu = encode_request(&request).unwrap();
            assert_eq!(pdu.len(), size);
            assert!(pdu.len() <= super::super::frame::PDU_MAX);
        }
    }
}
