//! One question that is asked by itself, of a line on which nothing else is under way: all that was heard until the line was
//! quiet may hold its answer. For searching; a gateway that polls holds a [`super::conversation`]. Pure.

use super::frame::{self, Front};
use super::pdu;
use super::transaction::{Seen, Tolerance, Transaction};
use crate::config::site::Framing;
use crate::driver::Answer;
use crate::tag::{Span, UnitId};

/// A question to a unit.
#[derive(Clone, Debug)]
pub struct Query {
    framing: Framing,
    transaction: Transaction,
    bytes: Vec<u8>,
}

impl Query {
    /// Reads `span` of `unit`; over TCP the answer repeats `id`. `None`: it is nothing that Modbus reads.
    #[must_use]
    pub fn read(framing: Framing, id: u16, unit: UnitId, span: Span) -> Option<Query> {
        let request = pdu::read_request(span)?;
        let transaction = Transaction::new(framing, id, unit, request, Tolerance::default());
        let mut bytes = Vec::new();
        transaction.encode(&mut bytes).ok()?;
        Some(Query { framing, transaction, bytes })
    }

    /// What is sent.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many bytes question and answer have on the wire.
    #[must_use]
    pub fn wire_size(&self) -> usize {
        self.bytes.len() + self.transaction.answer_size()
    }

    /// The answer among all that was `heard`; what stands before and behind it is passed over.
    #[must_use]
    pub fn answer(&self, heard: &[u8]) -> Option<Answer> {
        match self.framing {
            Framing::Tcp => self.answer_over_tcp(heard),
            Framing::Rtu | Framing::Ascii => {
                let fronts = (0..heard.len()).filter_map(|start| heard.get(start..));
                fronts.map(|front| self.transaction.look(front)).find_map(|seen| match seen {
                    Seen::Answer(answer, _) => Some(answer),
                    Seen::Incomplete | Seen::Misfit | Seen::Broken | Seen::Other => None,
                })
            }
        }
    }

    fn answer_over_tcp(&self, mut heard: &[u8]) -> Option<Answer> {
        while let Front::Frame(frame, size) = frame::decode_tcp(heard) {
            if (frame.transaction, frame.unit) == (self.transaction.id, self.transaction.unit) {
                return self.transaction.decode(frame.pdu);
            }
            heard = heard.get(size..).unwrap_or_default();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tag::Area;
    use proptest::prelude::*;
    use tokio_modbus::{ExceptionCode, Response};

    fn query(framing: Framing) -> Query {
        let span = Span { area: Area::HoldingRegisters, address: 0, count: 1 };
        Query::read(framing, 7, UnitId(3), span).unwrap()
    }

    fn answer(word: u16) -> Option<Answer> {
        Some(Answer::Response(Response::ReadHoldingRegisters(vec![word])))
    }

    #[test]
    fn the_answer_is_found_behind_an_echo_and_what_another_unit_says() {
        for framing in [Framing::Rtu, Framing::Ascii] {
            let query = query(framing);
            let encode = if framing == Framing::Rtu { frame::encode_rtu } else { frame::encode_ascii };
            let other = encode(UnitId(2), &[3, 2, 0, 9]);
            let own = encode(UnitId(3), &[3, 2, 0, 5]);
            let heard = [query.bytes(), &other, &own, &[0xFF]].concat();
            assert_eq!(query.answer(&heard), answer(5));
            assert_eq!(query.answer(&[query.bytes(), &other].concat()), None);
            let refused = encode(UnitId(3), &[0x83, 2]);
            assert_eq!(query.answer(&refused), Some(Answer::Exception(ExceptionCode::IllegalDataAddress)));
        }
    }

    #[test]
    fn over_tcp_the_answer_repeats_the_question_s_number_and_unit() {
        let query = query(Framing::Tcp);
        let late = frame::encode_tcp(6, UnitId(3), &[3, 2, 0, 9]);
        let own = frame::encode_tcp(7, UnitId(3), &[3, 2, 0, 5]);
        assert_eq!(query.answer(&[late.clone(), own].concat()), answer(5));
        assert_eq!(query.answer(&late), None);
        assert_eq!(query.answer(&frame::encode_tcp(7, UnitId(4), &[3, 2, 0, 5])), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_borne(heard: Vec<u8>) {
            for framing in [Framing::Tcp, Framing::Rtu, Framing::Ascii] {
                prop_assert!(query(framing).answer(&heard).is_none());
            }
        }
    }
}
