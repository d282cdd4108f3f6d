//! One question to a meter, and which of the frames that come are its answer. Pure.
//!
//! An answer has no number that says which question it belongs to: address, function, data identifier and, from the second
//! frame on, its sequence number (2007) must all fit. A frame that does not fit is another meter's, a late answer to an
//! earlier question, or what was sent and comes back; it ends nothing.
//!
//! | asked | 2007 | 1997 |
//! |---|---|---|
//! | an item | `11` → `91`, `B1` with more to come, `D1` refused | `01` → `81`, `A1`, `C1` |
//! | more of it | `12` → `92`, `B2`, `D2`; the last byte of data is its sequence number | `02` → `82`, `A2`, `C2`; no number |
//! | the address | `13` → `93` | – |
//! | the time for all | `08`, no answer | the same |
//!
//! Follows the application layer of both standards. The parts of an answer of 1997 have nothing to tell them apart, so that
//! a part that comes twice is taken twice: what it makes is too long for its item.

use super::address::{self, Address};
use super::frame::{Control, Frame};
use super::identifier::{Identifier, Version};
use super::refusal::{ErrorWord, Refusal};
use crate::reading::Timestamp;

/// So many more frames are asked for after the first; a meter that has more after them has none that end.
pub const FOLLOW_UPS_MAX: u8 = 16;

const READ_ADDRESS: u8 = 0x13;
const BROADCAST_TIME: u8 = 0x08;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// An item, or a block of them.
    Item(Identifier),
    /// The meter's address; only DL/T 645-2007 has it, and only with [`Address::ANY`].
    Address,
}

/// A question that is being asked.
///
/// ```text
///           request            more to come
///  asked ───────────> waiting ─────────────> waiting for the next
///                        │ the last, or an error word   │
///                        └──────────────> over <────────┘
/// ```
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Who is asked; from the first frame on, who answered.
    address: Address,
    question: Question,
    wake: u8,
    /// Of the frame that is waited for; 0 for the first.
    sequence: u8,
    data: Vec<u8>,
    is_over: bool,
}

/// What a frame means to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is answered.
    Done(Answer),
    /// More is to be asked for: the bytes to send.
    FollowUp(Vec<u8>),
    /// There will be no answer.
    Refused(Refusal),
    /// The frame does not belong to it, which is still open.
    NotOurs(Stray),
}

/// What a meter said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Which meter.
    pub address: Address,
    /// The data of all frames without identifiers and sequence numbers, the lowest byte first; of
    /// [`Question::Address`] the six bytes of the address.
    pub data: Vec<u8>,
}

/// Why a frame is not the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stray {
    /// It is a request: an echo of this one, or somebody else asks on this line.
    Request,
    /// Another meter sent it.
    OtherMeter,
    /// It answers another function.
    OtherFunction,
    /// It holds another item, or too little for any.
    OtherItem,
    /// It is another part of the answer.
    OtherPart,
    /// The question is answered already.
    Late,
}

impl Stray {
    /// For the log.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Stray::Request => "a request: an echo, or somebody else asks on this line",
            Stray::OtherMeter => "from another meter",
            Stray::OtherFunction => "the answer to another function",
            Stray::OtherItem => "the answer about another data identifier",
            Stray::OtherPart => "another part of the answer",
            Stray::Late => "an answer that has come already",
        }
    }
}

impl Exchange {
    /// Asks `address`; each request has `wake` wake-up bytes before it, at most 8.
    #[must_use]
    pub const fn new(address: Address, question: Question, wake: u8) -> Exchange {
        Exchange { address, question, wake, sequence: 0, data: Vec::new(), is_over: false }
    }

    /// The bytes to send: the question, or what asks for the part of the answer that is waited for. The same again while
    /// nothing came.
    #[must_use]
    pub fn request(&self) -> Vec<u8> {
        let mut data = Vec::new();
        if let Question::Item(identifier) = self.question {
            identifier.append(&mut data);
            if self.is_numbered() {
                data.push(self.sequence);
            }
        }
        let frame = Frame { address: self.address, control: Control(self.function()), data };
        // five bytes of data at most: it is never too long
        frame.encode(self.wake).unwrap_or_default()
    }

    /// What a frame that came means.
    pub fn handle(&mut self, frame: &Frame) -> Progress {
        if let Some(stray) = self.stray(frame) {
            return Progress::NotOurs(stray);
        }
        if frame.control.is_error() {
            self.is_over = true;
            let bits = frame.data.first().copied().unwrap_or_default();
            return Progress::Refused(Refusal::Meter(ErrorWord { version: self.version(), bits }));
        }
        match self.question {
            Question::Address if frame.data.len() != address::SIZE => Progress::NotOurs(Stray::OtherItem),
            Question::Address => self.done(frame.address, &frame.data),
            Question::Item(identifier) => match identifier.strip_from(&frame.data) {
                None => Progress::NotOurs(Stray::OtherItem),
                Some(data) => self.take(frame, data),
            },
        }
    }

    /// Takes a part of the data of the item.
    fn take(&mut self, frame: &Frame, data: &[u8]) -> Progress {
        let data = match data.split_last() {
            _ if !self.is_numbered() => data,
            Some((sequence, data)) if *sequence == self.sequence => data,
            _ => return Progress::NotOurs(Stray::OtherPart),
        };
        if !frame.control.has_more() {
            return self.done(frame.address, data);
        }
        if self.sequence == FOLLOW_UPS_MAX {
            self.is_over = true;
            return Progress::Refused(Refusal::Endless { frames: FOLLOW_UPS_MAX + 1 });
        }
        self.data.extend_from_slice(data);
        self.address = frame.address;
        self.sequence += 1;
        Progress::FollowUp(self.request())
    }

    fn done(&mut self, address: Address, data: &[u8]) -> Progress {
        self.is_over = true;
        self.data.extend_from_slice(data);
        Progress::Done(Answer { address, data: std::mem::take(&mut self.data) })
    }

    fn stray(&self, frame: &Frame) -> Option<Stray> {
        if !frame.control.is_reply() {
            return Some(Stray::Request);
        }
        if !self.address.matches(frame.address) {
            return Some(Stray::OtherMeter);
        }
        if frame.control.function() != self.function() {
            return Some(Stray::OtherFunction);
        }
        self.is_over.then_some(Stray::Late)
    }

    const fn version(&self) -> Version {
        match self.question {
            Question::Item(identifier) => identifier.version(),
            Question::Address => Version::V2007,
        }
    }

    /// Whether the frame that is waited for has a sequence number.
    fn is_numbered(&self) -> bool {
        self.version() == Version::V2007 && self.sequence > 0
    }

    const fn function(&self) -> u8 {
        match (self.question, self.sequence) {
            (Question::Address, _) => READ_ADDRESS,
            (Question::Item(Identifier::V2007(_)), 0) => 0x11,
            (Question::Item(Identifier::V2007(_)), _) => 0x12,
            (Question::Item(Identifier::V1997(_)), 0) => 0x01,
            (Question::Item(Identifier::V1997(_)), _) => 0x02,
        }
    }
}

/// The bytes that set the clocks of all meters on the line to `local`, a local time counted as if it were UTC; no meter
/// answers. `None` for a year that two digits do not tell, before 2000 or after 2099.
///
/// A meter that is more than 5 minutes off does not follow, and one follows once a day. It is not to be sent within 5
/// minutes of midnight.
#[must_use]
pub fn broadcast_time(local: Timestamp, wake: u8) -> Option<Vec<u8>> {
    let text = local.to_string();
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_digit).map(|digit| digit - b'0').collect();
    let (century, rest) = digits.split_first_chunk::<2>()?;
    if *century != [2, 0] {
        return None;
    }
    // YYMMDDhhmmss, and what is below a second
    let bytes = rest.chunks_exact(2).take(6).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit));
    let mut data: Vec<u8> = bytes.collect();
    data.reverse();
    let frame = Frame { address: Address::BROADCAST, control: Control(BROADCAST_TIME), data };
    frame.encode(wake).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::Quality;

    const METER: &str = "000000000161";

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    fn item(text: &str) -> Question {
        let version = if text.len() == 4 { Version::V1997 } else { Version::V2007 };
        Question::Item(Identifier::parse(text, version).unwrap())
    }

    fn frame(meter: &str, control: u8, data: &[u8]) -> Frame {
        Frame { address: address(meter), control: Control(control), data: data.to_vec() }
    }

    fn bytes(hex: &str) -> Vec<u8> {
        hex.split_whitespace().map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    }

    fn done(data: &[u8]) -> Progress {
        Progress::Done(Answer { address: address(METER), data: data.to_vec() })
    }

    #[test]
    fn an_answer_in_three_frames_of_2007_is_put_together() {
        let mut exchange = Exchange::new(address(METER), item("0001FF00"), 0);
        assert_eq!(exchange.request(), bytes("68 61 01 00 00 00 00 68 11 04 33 32 34 33 13 16"));
        let first = frame(METER, 0xB1, &[0x00, 0xFF, 0x01, 0x00, 1, 2, 3, 4]);
        let second = bytes("68 61 01 00 00 00 00 68 12 05 33 32 34 33 34 49 16");
        assert_eq!(exchange.handle(&first), Progress::FollowUp(second.clone()));
        assert_eq!(exchange.request(), second);
        // the first once more, and a part that was not asked for
        assert_eq!(exchange.handle(&first), Progress::NotOurs(Stray::OtherFunction));
        let part = |control, sequence| frame(METER, control, &[0x00, 0xFF, 0x01, 0x00, 5, 6, sequence]);
        assert_eq!(exchange.handle(&part(0xB2, 2)), Progress::NotOurs(Stray::OtherPart));
        let third = bytes("68 61 01 00 00 00 00 68 12 05 33 32 34 33 35 4A 16");
        assert_eq!(exchange.handle(&part(0xB2, 1)), Progress::FollowUp(third));
        assert_eq!(exchange.handle(&part(0xB2, 1)), Progress::NotOurs(Stray::OtherPart));
        // a part without its number
        let bare = frame(METER, 0x92, &[0x00, 0xFF, 0x01, 0x00]);
        assert_eq!(exchange.handle(&bare), Progress::NotOurs(Stray::OtherPart));
        assert_eq!(exchange.handle(&part(0x92, 2)), done(&[1, 2, 3, 4, 5, 6, 5, 6]));
        assert_eq!(exchange.handle(&part(0x92, 2)), Progress::NotOurs(Stray::Late));
    }

    #[test]
    fn an_answer_in_two_frames_of_1997_is_put_together() {
        let mut exchange = Exchange::new(address(METER), item("901F"), 2);
        assert_eq!(exchange.request(), bytes("FE FE 68 61 01 00 00 00 00 68 01 02 52 C3 4A 16"));
        let more = bytes("FE FE 68 61 01 00 00 00 00 68 02 02 52 C3 4B 16");
        let first = frame(METER, 0xA1, &[0x1F, 0x90, 1, 2]);
        assert_eq!(exchange.handle(&first), Progress::FollowUp(more));
        assert_eq!(exchange.handle(&first), Progress::NotOurs(Stray::OtherFunction));
        let last = frame(METER, 0x82, &[0x1F, 0x90, 3, 4]);
        assert_eq!(exchange.handle(&last), done(&[1, 2, 3, 4]));
    }

    #[test]
    fn a_meter_that_always_has_more_is_given_up() {
        let mut exchange = Exchange::new(address(METER), item("0001FF00"), 0);
        let first = frame(METER, 0xB1, &[0x00, 0xFF, 0x01, 0x00, 0]);
        assert!(matches!(exchange.handle(&first), Progress::FollowUp(_)));
        let part = |sequence| frame(METER, 0xB2, &[0x00, 0xFF, 0x01, 0x00, 0, sequence]);
        for sequence in 1..16 {
            assert!(matches!(exchange.handle(&part(sequence)), Progress::FollowUp(_)), "{sequence}");
        }
        assert_eq!(exchange.handle(&part(16)), Progress::Refused(Refusal::Endless { frames: 17 }));
        assert_eq!(exchange.handle(&part(16)), Progress::NotOurs(Stray::Late));
    }

    #[test]
    fn a_frame_that_does_not_fit_is_not_the_answer_and_the_question_stays_open() {
        let mut exchange = Exchange::new(address(METER), item("02010100"), 0);
        let data = [0x00, 0x01, 0x01, 0x02, 0x05, 0x23];
        for (stray, expected) in [
            (frame(METER, 0x11, &data[..4]), Stray::Request),
            (frame("000000000162", 0x91, &data), Stray::OtherMeter),
            (frame("AAAAAAAAAAAA", 0x91, &data), Stray::OtherMeter),
            (frame(METER, 0x92, &data), Stray::OtherFunction),
            (frame(METER, 0x81, &data), Stray::OtherFunction),
            (frame(METER, 0x94, &[]), Stray::OtherFunction),
            (frame(METER, 0xD2, &[2]), Stray::OtherFunction),
            (frame(METER, 0x91, &[0x00, 0x02, 0x01, 0x02, 0x05, 0x23]), Stray::OtherItem),
            (frame(METER, 0x91, &data[..3]), Stray::OtherItem),
            (frame(METER, 0x91, &[]), Stray::OtherItem),
        ] {
            assert_eq!(exchange.handle(&stray), Progress::NotOurs(expected), "{stray:?}");
        }
        assert_eq!(exchange.handle(&frame(METER, 0x91, &data)), done(&[0x05, 0x23]));
        assert_eq!(exchange.handle(&frame(METER, 0x91, &data)), Progress::NotOurs(Stray::Late));
    }

    #[test]
    fn an_error_word_ends_the_question() {
        let refused = |question, control, data: &[u8]| {
            let mut exchange = Exchange::new(address(METER), question, 0);
            let Progress::Refused(refusal) = exchange.handle(&frame(METER, control, data)) else {
                panic!("{control:02X} is no refusal")
            };
            assert_eq!(exchange.handle(&frame(METER, control, data)), Progress::NotOurs(Stray::Late));
            refusal.quality()
        };
        assert_eq!(refused(item("00010000"), 0xD1, &[0x02]), Quality::BadConfig);
        assert_eq!(refused(item("00010000"), 0xD1, &[0x01]), Quality::BadDeviceFailure);
        assert_eq!(refused(item("00010000"), 0xD1, &[]), Quality::BadDeviceFailure);
        assert_eq!(refused(item("9010"), 0xC1, &[0x01]), Quality::BadConfig);
        // and in the midst of an answer
        let mut exchange = Exchange::new(address(METER), item("0001FF00"), 0);
        exchange.handle(&frame(METER, 0xB1, &[0x00, 0xFF, 0x01, 0x00, 1]));
        assert!(matches!(exchange.handle(&frame(METER, 0xD2, &[0x02])), Progress::Refused(_)));
    }

    #[test]
    fn whoever_answers_first_where_any_may_is_asked_for_the_rest() {
        let mut exchange = Exchange::new(Address::ANY, item("0001FF00"), 0);
        let first = |meter| frame(meter, 0xB1, &[0x00, 0xFF, 0x01, 0x00, 1]);
        let Progress::FollowUp(request) = exchange.handle(&first(METER)) else { panic!("no follow-up") };
        assert_eq!(request[..8], bytes("68 61 01 00 00 00 00 68"));
        let last = |meter| frame(meter, 0x92, &[0x00, 0xFF, 0x01, 0x00, 2, 1]);
        assert_eq!(exchange.handle(&last("000000000162")), Progress::NotOurs(Stray::OtherMeter));
        assert_eq!(exchange.handle(&last(METER)), done(&[1, 2]));
    }

    #[test]
    fn an_address_has_six_bytes() {
        let mut exchange = Exchange::new(Address::ANY, Question::Address, 0);
        let answer = |data: &[u8]| frame(METER, 0x93, data);
        assert_eq!(exchange.handle(&answer(&[0x61, 0x01])), Progress::NotOurs(Stray::OtherItem));
        let wire = [0x61, 0x01, 0, 0, 0, 0];
        assert_eq!(exchange.handle(&answer(&wire)), done(&wire));
    }

    #[test]
    fn the_time_is_told_to_all_meters() {
        // 2026-11-27T08:09:10Z
        let at = Timestamp::from_millis(1_795_766_950_123);
        assert_eq!(at.to_string(), "2026-11-27T08:09:10.123Z");
        // 43 3C 3B 5A 44 59: each plus 33
        let expected = "FE 68 99 99 99 99 99 99 68 08 06 43 3C 3B 5A 44 59 25 16";
        assert_eq!(broadcast_time(at, 1), Some(bytes(expected)));
        assert_eq!(broadcast_time(Timestamp::from_millis(946_684_799_999), 0), None);
        assert!(broadcast_time(Timestamp::from_millis(946_684_800_000), 0).is_some());
        assert!(broadcast_time(Timestamp::from_millis(4_102_444_799_999), 0).is_some());
        assert_eq!(broadcast_time(Timestamp::from_millis(4_102_444_800_000), 0), None);
    }
}
