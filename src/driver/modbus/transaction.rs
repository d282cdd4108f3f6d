//! One request, and what its answer looks like at the front of the bytes that come in. Pure.
//!
//! Over TCP the transaction id says which request an answer belongs to. Over RTU and ASCII there is no such id: unit,
//! function, length and checksum must all fit the request.

use tokio_modbus::Request;

use super::frame::{self, Front};
use super::pdu::{self, RequestError};
use crate::config::site::Framing;
use crate::driver::Answer;
use crate::tag::UnitId;

/// What a device may get wrong in its answers without being taken for another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tolerance {
    /// Its answers need not repeat the transaction id. Only with one request outstanding.
    pub any_tid: bool,
    /// Its answers may name another unit.
    pub any_unit: bool,
}

/// An outstanding request.
#[derive(Clone, Debug)]
pub(super) struct Transaction {
    framing: Framing,
    pub(super) id: u16,
    pub(super) unit: UnitId,
    request: Request<'static>,
    pub(super) tolerance: Tolerance,
}

/// What stands at the front of the bytes that came in on a serial framing.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Seen {
    /// Not enough yet to tell.
    Incomplete,
    /// The answer, and its bytes.
    Answer(Answer, usize),
    /// A whole frame of this unit and function that is not the answer: one of another length, or one that says
    /// something else.
    Misfit,
    /// As long as the answer and its beginning, but with a wrong checksum.
    Broken,
    /// None of these.
    Other,
}

impl Transaction {
    pub(super) fn new(
        framing: Framing,
        id: u16,
        unit: UnitId,
        request: Request<'static>,
        tolerance: Tolerance,
    ) -> Transaction {
        Transaction { framing, id, unit, request, tolerance }
    }

    /// The bytes of the request, in place of what `frame` held.
    pub(super) fn encode(&self, frame: &mut Vec<u8>) -> Result<(), RequestError> {
        frame::begin(self.framing, self.id, self.unit, frame);
        pdu::append_request(&self.request, frame)?;
        frame::finish(self.framing, frame);
        Ok(())
    }

    /// The bytes of a whole answer in its frame, to tell how long it takes on a line.
    pub(super) fn answer_size(&self) -> usize {
        frame::size(self.framing, pdu::answer_size(&self.request))
    }

    /// Whether the request changes something in the device.
    pub(super) fn is_write(&self) -> bool {
        pdu::is_write(&self.request)
    }

    /// The answer in the PDU of a TCP frame with this request's id; `None` where it is another's or not what was asked.
    pub(super) fn decode(&self, pdu: &[u8]) -> Option<Answer> {
        pdu::decode_answer(&self.request, pdu)
    }

    /// What stands at the front of `bytes` on RTU or ASCII.
    pub(super) fn look(&self, bytes: &[u8]) -> Seen {
        match self.framing {
            Framing::Ascii => self.look_ascii(bytes),
            Framing::Tcp | Framing::Rtu => self.look_rtu(bytes),
        }
    }

    fn is_from(&self, unit: u8) -> bool {
        unit == self.unit.0 || self.tolerance.any_unit
    }

    fn look_rtu(&self, bytes: &[u8]) -> Seen {
        let pdu = match bytes.split_first() {
            None => return Seen::Incomplete,
            Some((unit, pdu)) if self.is_from(*unit) => pdu,
            Some(_) => return Seen::Other,
        };
        let size = match pdu::size_of_answer(&self.request, pdu) {
            Front::Incomplete => return Seen::Incomplete,
            Front::Invalid => return self.look_misfit(bytes),
            Front::Frame((), size) => size + 3,
        };
        match bytes.get(..size).map(frame::decode_rtu) {
            None => Seen::Incomplete,
            Some(None) => Seen::Broken,
            Some(Some((_, pdu))) => match self.decode(pdu) {
                Some(answer) => Seen::Answer(answer, size),
                None => Seen::Misfit,
            },
        }
    }

    /// An RTU frame of this unit and function that is right but for its length.
    fn look_misfit(&self, bytes: &[u8]) -> Seen {
        let [_, function, size, ..] = *bytes else { return Seen::Other };
        let frame = bytes.get(..usize::from(size) + 5);
        let is_whole =
            function == self.request.function_code().value() && frame.and_then(frame::decode_rtu).is_some();
        if is_whole { Seen::Misfit } else { Seen::Other }
    }

    fn look_ascii(&self, bytes: &[u8]) -> Seen {
        match frame::decode_ascii(bytes) {
            Front::Incomplete => Seen::Incomplete,
            Front::Invalid => self.look_broken_ascii(bytes),
            Front::Frame((unit, _), _) if !self.is_from(unit.0) => Seen::Other,
            Front::Frame((_, pdu), size) => {
                let is_fit = pdu::size_of_answer(&self.request, &pdu) == Front::Frame((), pdu.len());
                match self.decode(&pdu).filter(|_| is_fit) {
                    Some(answer) => Seen::Answer(answer, size),
                    None if pdu.first() == Some(&self.request.function_code().value()) => Seen::Misfit,
                    None => Seen::Other,
                }
            }
        }
    }

    /// An ASCII frame as long as the answer: only its checksum, or a digit of it, can be wrong.
    fn look_broken_ascii(&self, bytes: &[u8]) -> Seen {
        let is_whole = bytes.first() == Some(&b':')
            && bytes.get(..self.answer_size()).is_some_and(|frame| frame.ends_with(b"\r\n"));
        if is_whole { Seen::Broken } else { Seen::Other }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_modbus::{ExceptionCode, Response};

    fn hr(address: u16, count: u16) -> Request<'static> {
        Request::ReadHoldingRegisters(address, count)
    }

    fn answer(words: &[u16], size: usize) -> Seen {
        Seen::Answer(Answer::Response(Response::ReadHoldingRegisters(words.to_vec())), size)
    }

    fn bytes(hex: &str) -> Vec<u8> {
        hex.split_whitespace().map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    }

    #[track_caller]
    fn check(framing: Framing, request: Request<'static>, bytes: &[u8], expected: Seen) {
        let transaction = Transaction::new(framing, 0, UnitId(1), request, Tolerance::default());
        assert_eq!(transaction.look(bytes), expected);
    }

    #[test]
    fn an_rtu_answer_is_taken_whole_and_only_when_it_fits_the_request() {
        let check = |request, hex, expected| check(Framing::Rtu, request, &bytes(hex), expected);
        check(hr(0x2102, 2), "01 03 04 17 70 00 00 FE 5C", answer(&[6000, 0], 9));
        check(hr(0x2102, 2), "01 03 04 17 70 00 00 FE", Seen::Incomplete);
        check(hr(0x2102, 1), "01 03 04 17 70 00 00 FE 5C", Seen::Misfit);
        check(hr(0x2102, 2), "02 03 04 17 70 00 00 FE 5C", Seen::Other);
        check(hr(0x2102, 2), "01 03 04 17 71 00 00 FE 5C", Seen::Broken);
        check(hr(0x2102, 2), "01 04 04 17 70 00 00 FE 5C", Seen::Other);
        let exception = Answer::Exception(ExceptionCode::IllegalDataAddress);
        check(hr(0, 2), "01 83 02 C0 F1", Seen::Answer(exception, 5));
    }

    #[test]
    fn an_ascii_answer_is_taken_whole_and_only_when_it_fits_the_request() {
        let check = |request, text: &str, expected| check(Framing::Ascii, request, text.as_bytes(), expected);
        check(hr(0x2102, 2), ":0103041770000071\r\n", answer(&[6000, 0], 19));
        check(hr(0x2102, 2), ":0103041770000071\r", Seen::Incomplete);
        check(hr(0x2102, 2), ":0103041770000072\r\n", Seen::Broken);
        check(hr(0x2102, 1), ":0103041770000071\r\n", Seen::Misfit);
        check(hr(0x2102, 2), "0103041770000071\r\n", Seen::Other);
    }

    #[test]
    fn a_device_that_names_another_unit_is_taken_where_that_is_allowed() {
        let tolerance = Tolerance { any_unit: true, ..Tolerance::default() };
        let transaction = Transaction::new(Framing::Rtu, 0, UnitId(9), hr(0x2102, 2), tolerance);
        assert_eq!(transaction.look(&bytes("01 03 04 17 70 00 00 FE 5C")), answer(&[6000, 0], 9));
    }
}
