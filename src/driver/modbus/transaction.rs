//! What answers what: one read request, and which of the bytes that come in are its answer. Pure.
//!
//! Over TCP the transaction id decides; an answer to an earlier request is dropped and counted. Over RTU there is no
//! such id: unit, function, byte count and checksum must all fit the request, and whatever does not is skipped a byte
//! at a time. That a late answer of the same shape cannot pass for this one is the client's care (it keeps a guard
//! time after each timeout).

use bytes::{Buf as _, Bytes, BytesMut};
use tokio_modbus::{ExceptionCode, Request, Response};

use super::frame::{self, Front};
use crate::counters::Counters;
use crate::driver::Answer;
use crate::scan::Data;
use crate::tag::{Area, Span, UnitId};

/// How a PDU is framed on the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Modbus TCP.
    Tcp,
    /// Modbus RTU.
    Rtu,
}

/// An outstanding read request.
#[derive(Clone, Copy, Debug)]
pub struct Transaction {
    framing: Framing,
    id: u16,
    unit: UnitId,
    span: Span,
}

/// What the bytes so far amount to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// Nothing yet.
    More,
    /// The answer.
    Answer(Answer),
    /// The answer to this request, but not to what it asked.
    Garbled,
    /// The stream is out of step: it must be opened again.
    OutOfStep,
}

impl Transaction {
    /// A request for `span` of `unit`; `id` is its transaction id, of use over TCP only.
    #[must_use]
    pub fn new(framing: Framing, id: u16, unit: UnitId, span: Span) -> Transaction {
        Transaction { framing, id, unit, span }
    }

    fn request(&self) -> Request<'static> {
        let Span { area, address, count } = self.span;
        match area {
            Area::Coils => Request::ReadCoils(address, count),
            Area::DiscreteInputs => Request::ReadDiscreteInputs(address, count),
            Area::HoldingRegisters => Request::ReadHoldingRegisters(address, count),
            Area::InputRegisters => Request::ReadInputRegisters(address, count),
        }
    }

    fn function(&self) -> u8 {
        self.request().function_code().value()
    }

    /// The bytes of the request.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let [a1, a0] = self.span.address.to_be_bytes();
        let [c1, c0] = self.span.count.to_be_bytes();
        let pdu = [self.function(), a1, a0, c1, c0];
        match self.framing {
            Framing::Tcp => frame::encode_tcp(self.id, self.unit, &pdu),
            Framing::Rtu => frame::encode_rtu(self.unit, &pdu),
        }
    }

    /// The data bytes that the answer must have.
    fn data_size(&self) -> usize {
        let count = usize::from(self.span.count);
        if self.span.area.is_bits() { count.div_ceil(8) } else { count * 2 }
    }

    /// The bytes of a whole answer in its frame, to tell how long it takes on a line.
    #[must_use]
    pub fn answer_size(&self) -> usize {
        match self.framing {
            Framing::Tcp => self.data_size() + 9,
            Framing::Rtu => self.data_size() + 5,
        }
    }

    /// Takes the answer from the front of `buffer`, and drops from it what is not the answer.
    pub fn receive(&self, buffer: &mut BytesMut, counters: &Counters) -> Received {
        match self.framing {
            Framing::Tcp => self.receive_tcp(buffer, counters),
            Framing::Rtu => self.receive_rtu(buffer, counters),
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
                return self.answer(frame.pdu);
            }
        }
    }

    fn receive_rtu(&self, buffer: &mut BytesMut, counters: &Counters) -> Received {
        let mut skipped = false;
        let received = loop {
            let size = match self.rtu_size(buffer) {
                Front::Incomplete => break Received::More,
                Front::Invalid => None,
                Front::Frame((), size) => Some(size),
            };
            let frame = size.and_then(|size| buffer.get(..size));
            if let Some((_, pdu)) = frame.and_then(frame::decode_rtu) {
                let answer = self.answer(Bytes::copy_from_slice(pdu));
                buffer.clear();
                break answer;
            }
            skipped = true;
            buffer.advance(1);
        };
        if skipped {
            counters.frames_foreign.add(1);
        }
        received
    }

    /// How long the frame at the front of `bytes` must be to be the answer.
    fn rtu_size(&self, bytes: &[u8]) -> Front<()> {
        let size = match *bytes {
            [] => return Front::Incomplete,
            [unit, ..] if unit != self.unit.0 => return Front::Invalid,
            [_] => return Front::Incomplete,
            [_, function, ..] if function == self.function() | 0x80 => 5,
            [_, function, ..] if function != self.function() => return Front::Invalid,
            [_, _] => return Front::Incomplete,
            [_, _, data_size, ..] if usize::from(data_size) != self.data_size() => return Front::Invalid,
            _ => self.answer_size(),
        };
        if bytes.len() < size { Front::Incomplete } else { Front::Frame((), size) }
    }

    fn answer(&self, pdu: Bytes) -> Received {
        match pdu.as_ref() {
            [function, code] if *function == self.function() | 0x80 => {
                Received::Answer(Answer::Exception(ExceptionCode::new(*code)))
            }
            [function, size, data @ ..]
                if *function == self.function()
                    && usize::from(*size) == self.data_size()
                    && data.len() == self.data_size() =>
            {
                self.data(pdu).map_or(Received::Garbled, |data| Received::Answer(Answer::Data(data)))
            }
            _ => Received::Garbled,
        }
    }

    fn data(&self, pdu: Bytes) -> Option<Data> {
        let count = usize::from(self.span.count);
        let response = Response::try_from(pdu).ok()?;
        if let Response::ReadHoldingRegisters(words) | Response::ReadInputRegisters(words) = response {
            return (words.len() == count).then_some(Data::Words(words));
        }
        let (Response::ReadCoils(mut bits) | Response::ReadDiscreteInputs(mut bits)) = response else {
            return None;
        };
        let is_whole = bits.len() >= count;
        bits.truncate(count);
        is_whole.then_some(Data::Bits(bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hr(address: u16, count: u16) -> Span {
        Span { area: Area::HoldingRegisters, address, count }
    }

    fn rtu(span: Span) -> Transaction {
        Transaction::new(Framing::Rtu, 0, UnitId(1), span)
    }

    fn tcp(id: u16) -> Transaction {
        Transaction::new(Framing::Tcp, id, UnitId(1), hr(0, 1))
    }

    fn words(words: &[u16]) -> Received {
        Received::Answer(Answer::Data(Data::Words(words.to_vec())))
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
        check(rtu(hr(0x2102, 1)), "01 03 04 17 70 00 00 FE 5C", Received::More);
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
    fn bits_are_as_many_as_were_asked_for() {
        let span = Span { area: Area::Coils, address: 19, count: 10 };
        let transaction = Transaction::new(Framing::Tcp, 1, UnitId(1), span);
        let bits = [true, false, true, true, false, false, true, true, true, false];
        let expected = Received::Answer(Answer::Data(Data::Bits(bits.to_vec())));
        check(transaction, "00 01 00 00 00 05 01 01 02 CD 01", expected);
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_are_borne(
            is_rtu: bool, count in 1u16..=125, pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..16),
        ) {
            let framing = if is_rtu { Framing::Rtu } else { Framing::Tcp };
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
