//! What answers what: one request, and which of the bytes that come in are its answer. Pure.
//!
//! Over TCP the transaction id decides; an answer to an earlier request is dropped and counted. Over RTU and ASCII there
//! is no such id: unit, function, length and checksum must all fit the request, and whatever does not is skipped. That a
//! late answer of the same shape does not pass for this one is the client's care (it leaves a unit alone for a while after
//! each timeout).

use bytes::{Buf as _, Bytes, BytesMut};
use tokio_modbus::Request;

use super::frame::{self, Front};
use super::pdu::{self, RequestError};
use crate::config::site::Framing;
use crate::counters::Counters;
use crate::driver::Answer;
use crate::tag::UnitId;

/// An outstanding request.
#[derive(Clone, Debug)]
pub struct Transaction {
    framing: Framing,
    id: u16,
    unit: UnitId,
    request: Request<'static>,
}

/// What the bytes so far amount to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// Nothing yet.
    More,
    /// The answer.
    Answer(Answer),
    /// Nothing yet but a whole frame of this unit and function that does not fit: a late answer, or a wrong one.
    Misfit,
    /// The answer to this request, but not to what it asked.
    Garbled,
    /// The stream is out of step: it must be opened again.
    OutOfStep,
}

impl Transaction {
    /// A request to `unit`; `id` is its transaction id, of use over TCP only.
    #[must_use]
    pub fn new(framing: Framing, id: u16, unit: UnitId, request: Request<'static>) -> Transaction {
        Transaction { framing, id, unit, request }
    }

    /// The bytes of the request.
    ///
    /// # Errors
    /// Where the specification does not allow it.
    pub fn encode(&self) -> Result<Vec<u8>, RequestError> {
        let pdu = pdu::encode_request(&self.request)?;
        Ok(match self.framing {
            Framing::Tcp => frame::encode_tcp(self.id, self.unit, &pdu),
            Framing::Rtu => frame::encode_rtu(self.unit, &pdu),
            Framing::Ascii => frame::encode_ascii(self.unit, &pdu),
        })
    }

    /// The bytes of a whole answer in its frame, to tell how long it takes on a line.
    #[must_use]
    pub fn answer_size(&self) -> usize {
        let pdu = pdu::answer_size(&self.request);
        match self.framing {
            Framing::Tcp => pdu + 7,
            Framing::Rtu => pdu + 3,
            Framing::Ascii => (pdu + 2) * 2 + 3,
        }
    }

    /// Takes the answer from the front of `buffer`, and drops from it what is not the answer.
    pub fn receive(&self, buffer: &mut BytesMut, counters: &Counters) -> Received {
        match self.framing {
            Framing::Tcp => self.receive_tcp(buffer, counters),
            Framing::Rtu => self.receive_serial(buffer, counters, |bytes| self.front_rtu(bytes)),
            Framing::Ascii => self.receive_serial(buffer, counters, |bytes| self.front_ascii(bytes)),
        }
    }

    fn receive_tcp(&self, buffer: &mut BytesMut, counters: &Counters) -> Received {
        loop {
            let (frame, size) = match frame::decode_tcp(buffer) {
                Front::Incomplete => return Received::More,
                Front::Invalid => return Received::OutOfStep,
                Front::Frame(frame, size) => (frame, size),
            };
            buffer.advance(size);
            let is_exception = frame.pdu.first().is_some_and(|function| function & 0x80 != 0);
            if frame.transaction != self.id {
                counters.replies_late.add(1);
            } else if frame.unit != self.unit && !is_exception {
                // a gateway may sign an exception with a unit of its own; never data
                counters.frames_foreign.add(1);
            } else {
                return pdu::decode_answer(&self.request, &frame.pdu)
                    .map_or(Received::Garbled, Received::Answer);
            }
        }
    }

    /// Skips a byte at a time until a frame of this unit that fits the request begins.
    fn receive_serial(
        &self,
        buffer: &mut BytesMut,
        counters: &Counters,
        front: impl Fn(&[u8]) -> Front<Bytes>,
    ) -> Received {
        let mut has_skipped = false;
        let mut has_misfit = false;
        let received = loop {
            match front(buffer) {
                Front::Incomplete => break if has_misfit { Received::Misfit } else { Received::More },
                Front::Invalid => {
                    has_skipped = true;
                    has_misfit |= self.is_misfit(buffer);
                    buffer.advance(1);
                }
                Front::Frame(pdu, _) => {
                    buffer.clear();
                    break pdu::decode_answer(&self.request, &pdu)
                        .map_or(Received::Garbled, Received::Answer);
                }
            }
        };
        if has_skipped {
            counters.frames_foreign.add(1);
        }
        received
    }

    fn front_rtu(&self, bytes: &[u8]) -> Front<Bytes> {
        let pdu = match bytes.split_first() {
            None => return Front::Incomplete,
            Some((unit, pdu)) if *unit == self.unit.0 => pdu,
            Some(_) => return Front::Invalid,
        };
        let size = match pdu::size_of_answer(&self.request, pdu) {
            Front::Incomplete => return Front::Incomplete,
            Front::Invalid => return Front::Invalid,
            Front::Frame((), size) => size + 3,
        };
        match bytes.get(..size).map(frame::decode_rtu) {
            None => Front::Incomplete,
            Some(None) => Front::Invalid,
            Some(Some((_, pdu))) => Front::Frame(Bytes::copy_from_slice(pdu), size),
        }
    }

    /// Whether an RTU frame of this unit and function, right but for its length, stands at the front of `bytes`.
    fn is_misfit(&self, bytes: &[u8]) -> bool {
        let [unit, function, size, ..] = *bytes else { return false };
        let frame = bytes.get(..usize::from(size) + 5);
        self.framing == Framing::Rtu
            && unit == self.unit.0
            && function == self.request.function_code().value()
            && frame.and_then(frame::decode_rtu).is_some()
    }

    fn front_ascii(&self, bytes: &[u8]) -> Front<Bytes> {
        match frame::decode_ascii(bytes) {
            Front::Incomplete => Front::Incomplete,
            Front::Frame((unit, pdu), size)
                if unit == self.unit
                    && matches!(pdu::size_of_answer(&self.request, &pdu), Front::Frame((), whole) if whole == pdu.len()) =>
            {
                Front::Frame(pdu, size)
            }
            Front::Frame(..) | Front::Invalid => Front::Invalid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio_modbus::{ExceptionCode, Response};

    fn hr(address: u16, count: u16) -> Request<'static> {
        Request::ReadHoldingRegisters(address, count)
    }

    fn rtu(request: Request<'static>) -> Transaction {
        Transaction::new(Framing::Rtu, 0, UnitId(1), request)
    }

    fn tcp(id: u16) -> Transaction {
        Transaction::new(Framing::Tcp, id, UnitId(1), hr(0, 1))
    }

    fn words(words: &[u16]) -> Received {
        Received::Answer(Answer::Response(Response::ReadHoldingRegisters(words.to_vec())))
    }

    fn bytes(hex: &str) -> Vec<u8> {
        hex.split_whitespace().map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    }

    #[track_caller]
    fn check(transaction: Transaction, hex: &str, expected: Received) -> BytesMut {
        let mut buffer = BytesMut::from(&bytes(hex)[..]);
        assert_eq!(transaction.receive(&mut buffer, &Counters::default()), expected);
        buffer
    }

    #[test]
    fn an_rtu_answer_is_taken_whole_and_only_when_it_fits_the_request() {
        check(rtu(hr(0x2102, 2)), "01 03 04 17 70 00 00 FE 5C", words(&[6000, 0]));
        check(rtu(hr(0x2102, 2)), "01 03 04 17 70 00 00 FE", Received::More);
        check(rtu(hr(0x2102, 1)), "01 03 04 17 70 00 00 FE 5C", Received::Misfit);
        check(rtu(hr(0x2102, 2)), "02 03 04 17 70 00 00 FE 5C", Received::More);
        check(rtu(hr(0x2102, 2)), "01 03 04 17 71 00 00 FE 5C", Received::More);
    }

    #[test]
    fn noise_before_an_rtu_answer_is_skipped_and_counted() {
        let counters = Counters::default();
        let mut buffer = BytesMut::from(&bytes("FF 01 03 00 01 03 04 17 70 00 00 FE 5C")[..]);
        assert_eq!(rtu(hr(0, 2)).receive(&mut buffer, &counters), words(&[6000, 0]));
        assert_eq!(counters.frames_foreign.get(), 1);
    }

    #[test]
    fn an_exception_is_an_answer() {
        let exception = Received::Answer(Answer::Exception(ExceptionCode::IllegalDataAddress));
        let frame = frame::encode_rtu(UnitId(1), &[0x83, 2]);
        let mut buffer = BytesMut::from(&frame[..]);
        assert_eq!(rtu(hr(0, 2)).receive(&mut buffer, &Counters::default()), exception);
        check(tcp(7), "00 07 00 00 00 03 01 83 02", exception.clone());
        check(tcp(7), "00 07 00 00 00 03 FF 83 02", exception);
    }

    #[test]
    fn a_late_tcp_answer_is_dropped_and_counted() {
        let counters = Counters::default();
        let mut buffer =
            BytesMut::from(&bytes("00 06 00 00 00 05 01 03 02 00 63 00 07 00 00 00 05 01 03 02 00 2A")[..]);
        assert_eq!(tcp(7).receive(&mut buffer, &counters), words(&[42]));
        assert_eq!(counters.replies_late.get(), 1);
    }

    #[test]
    fn a_tcp_answer_of_another_unit_length_or_function_is_never_taken() {
        check(tcp(7), "00 07 00 00 00 05 02 03 02 00 2A", Received::More);
        check(tcp(7), "00 07 00 00 00 07 01 03 04 00 2A 00 2B", Received::Garbled);
        check(tcp(7), "00 07 00 00 00 05 01 03 04 00 2A", Received::Garbled);
        check(tcp(7), "00 07 00 00 00 05 01 04 02 00 2A", Received::Garbled);
        check(tcp(7), "00 07 00 01 00 05 01 03 02 00 2A", Received::OutOfStep);
        check(tcp(7), "00 07 00 00 FF FF 01 03 02 00 2A", Received::OutOfStep);
    }

    #[test]
    fn an_ascii_answer_is_found_after_noise_and_foreign_frames() {
        let ascii = Transaction::new(Framing::Ascii, 0, UnitId(1), hr(0x2102, 2));
        assert_eq!(ascii.encode(), Ok(b":010321020002D7\r\n".to_vec()));
        let counters = Counters::default();
        let mut foreign = frame::encode_ascii(UnitId(2), &[3, 4, 0, 1, 0, 2]);
        foreign.extend(b"garbage:01030417:0103041770000071\r\n");
        let mut buffer = BytesMut::from(&foreign[..]);
        assert_eq!(ascii.receive(&mut buffer, &counters), words(&[6000, 0]));
        assert_eq!(counters.frames_foreign.get(), 1);
        let mut wrong_check = BytesMut::from(&b":0103041770000072\r\n"[..]);
        assert_eq!(ascii.receive(&mut wrong_check, &counters), Received::More);
        assert!(wrong_check.is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_are_borne(
            framing in prop::sample::select(vec![Framing::Tcp, Framing::Rtu, Framing::Ascii]), count in 1u16..=125, pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..16),
        ) {
            let transaction = Transaction::new(framing, 7, UnitId(1), hr(0, count));
            let mut buffer = BytesMut::new();
            for piece in pieces {
                buffer.extend_from_slice(&piece);
                transaction.receive(&mut buffer, &Counters::default());
                prop_assert!(buffer.len() <= 1024);
            }
        }

        #[test]
        fn an_answer_after_noise_is_found(
            noise in prop::collection::vec(any::<u8>(), 0..40), registers in prop::collection::vec(any::<u16>(), 1..=125),
        ) {
            // noise that could begin an answer of this very shape is another test's matter
            let noise: Vec<u8> = noise.into_iter().map(|byte| if byte == 1 { 2 } else { byte }).collect();
            let mut pdu = vec![3, u8::try_from(registers.len() * 2).unwrap()];
            pdu.extend(registers.iter().flat_map(|word| word.to_be_bytes()));
            let mut buffer = BytesMut::from(&noise[..]);
            buffer.extend_from_slice(&frame::encode_rtu(UnitId(1), &pdu));
            let transaction = rtu(hr(0, u16::try_from(registers.len()).unwrap()));
            prop_assert_eq!(transaction.receive(&mut buffer, &Counters::default()), words(&registers));
        }
    }
}
