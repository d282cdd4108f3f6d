//! What happens to the answers of meters and instruments. Pure.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use fastrand::Rng;

use super::super::meter::Frame;
use super::outgoing::{between, noise};
use super::{Act, Conduct, When};

/// Set in what stands for noise before text that has no check: it would pass for a part of it.
const NO_TEXT: u8 = 0x80;

/// What happens to an answer.
#[derive(Clone, Copy, Debug)]
pub enum AnswerFault {
    /// It does not leave.
    Lost,
    /// It leaves so much later, at random between the two. What nobody has asked for is never late.
    Late(Duration, Duration),
    /// So many random bytes stand before it.
    Noisy(usize),
    /// One bit of it, at random, is wrong: one that can be seen to be.
    FlippedBit,
    /// The request stands before it.
    Echoed,
    /// An answer of another device about the same, with other values, stands before it.
    Foreign,
    /// It leaves once more, right behind. Events do not: they would be two.
    Duplicated,
}

/// A right answer, or what is said unasked, and what may happen to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// To what it is an answer; empty: it is said unasked.
    pub asked: Vec<u8>,
    /// Its bytes.
    pub said: Vec<u8>,
    /// In which of them a bit may be wrong.
    pub flips: Range<usize>,
    /// Which bits that may be.
    pub bits: Range<u8>,
    /// What another device would say, if it can be told from this one.
    pub foreign: Vec<u8>,
    /// It says that something has happened.
    pub is_event: bool,
}

impl Answer {
    /// What a meter answers.
    #[must_use]
    pub fn of_meter(request: &Frame, reply: &Frame) -> Answer {
        let said = reply.encode_reply();
        Answer {
            asked: request.encode(),
            flips: said.len() - reply.encode().len()..said.len(),
            bits: 0..8,
            foreign: foreign(reply).encode_reply(),
            said,
            is_event: false,
        }
    }

    /// Whether such a thing can happen to it.
    fn may_suffer(&self, fault: AnswerFault) -> bool {
        match fault {
            AnswerFault::Lost | AnswerFault::Noisy(_) => true,
            AnswerFault::FlippedBit => !self.flips.is_empty(),
            AnswerFault::Late(..) | AnswerFault::Echoed => !self.asked.is_empty(),
            AnswerFault::Foreign => !self.foreign.is_empty(),
            AnswerFault::Duplicated => !self.is_event,
        }
    }

    /// Turns one of its bits.
    fn flip(&mut self, rng: &mut Rng) {
        let (place, bit) = (rng.usize(self.flips.clone()), rng.u8(self.bits.clone()));
        if let Some(byte) = self.said.get_mut(place) {
            *byte ^= 1 << bit;
        }
    }

    /// So many bytes that are none of it.
    fn noise(&self, count: usize, rng: &mut Rng) -> Vec<u8> {
        let is_text = self.bits == (7..8);
        noise(count, rng).into_iter().map(|byte| if is_text { byte | NO_TEXT } else { byte }).collect()
    }
}

/// The faults of the meters, or of the instruments, on one link, and how far they are; answers are counted over all of them.
#[derive(Debug)]
pub struct AnswerFaults {
    plan: Vec<(When, AnswerFault)>,
    rng: Rng,
    number: u64,
    injected: BTreeMap<&'static str, u64>,
}

impl AnswerFaults {
    /// The faults of `plan`; what is random in them follows from `seed`.
    #[must_use]
    pub fn new(seed: u64, plan: Vec<(When, AnswerFault)>) -> AnswerFaults {
        AnswerFaults { plan, rng: Rng::with_seed(seed), number: 0, injected: BTreeMap::new() }
    }

    /// How many faults of each kind have struck.
    #[must_use]
    pub fn injected(&self) -> &BTreeMap<&'static str, u64> {
        &self.injected
    }

    /// What leaves where `answer` is right, to what came so long after the start.
    pub fn handle(&mut self, mut answer: Answer, now: Duration) -> Conduct {
        self.number += 1;
        let mut before = Vec::new();
        let (mut after, mut is_right, mut is_lost, mut copies) = (Duration::ZERO, true, false, 1);
        for (when, fault) in &self.plan {
            if !when.is_now(self.number, now, &mut self.rng) || !answer.may_suffer(*fault) {
                continue;
            }
            *self.injected.entry(fault.name()).or_default() += 1;
            match *fault {
                AnswerFault::Lost => (is_lost, is_right) = (true, false),
                AnswerFault::Late(least, most) => after += between(least, most, &mut self.rng),
                AnswerFault::Noisy(count) => before.extend(answer.noise(count, &mut self.rng)),
                AnswerFault::FlippedBit => {
                    answer.flip(&mut self.rng);
                    is_right = false;
                }
                AnswerFault::Echoed => before.extend(&answer.asked),
                AnswerFault::Foreign => before.extend(&answer.foreign),
                AnswerFault::Duplicated => copies = 2,
            }
        }
        if is_lost {
            return Conduct::default();
        }
        let bytes = [before, answer.said.repeat(copies)].concat();
        Conduct { emissions: vec![(after, Act::Send(bytes))], is_right }
    }
}

/// The answer of the meter with the next address, whose last byte of data is another one.
fn foreign(reply: &Frame) -> Frame {
    let mut frame = reply.clone();
    frame.address.iter_mut().take(1).for_each(|pair| *pair ^= 1);
    frame.data.iter_mut().rev().take(1).for_each(|byte| *byte ^= 1);
    frame
}

impl AnswerFault {
    fn name(self) -> &'static str {
        match self {
            AnswerFault::Lost => "lost",
            AnswerFault::Late(..) => "late",
            AnswerFault::Noisy(_) => "noise",
            AnswerFault::FlippedBit => "flipped bit",
            AnswerFault::Echoed => "echo",
            AnswerFault::Foreign => "another meter's answer",
            AnswerFault::Duplicated => "duplicate",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn frame(control: u8, data: &[u8]) -> Frame {
        Frame { address: [0x11, 0x30, 0, 0x20, 2, 0x21], control, data: data.to_vec() }
    }

    fn request() -> Frame {
        frame(0x11, &[0, 1, 1, 2])
    }

    fn reply() -> Frame {
        frame(0x91, &[0, 1, 1, 2, 5, 0x23])
    }

    fn answer() -> Answer {
        Answer::of_meter(&request(), &reply())
    }

    fn conduct(fault: AnswerFault) -> Conduct {
        AnswerFaults::new(1, vec![(When::Always, fault)]).handle(answer(), MS(0))
    }

    /// The bytes that leave at once.
    #[track_caller]
    fn sent(conduct: &Conduct) -> &[u8] {
        let [(after, Act::Send(bytes))] = conduct.emissions.as_slice() else { panic!("{conduct:?}") };
        assert_eq!(*after, MS(0));
        bytes
    }

    #[test]
    fn each_fault_does_what_it_says() {
        let right = reply().encode_reply();
        assert_eq!(conduct(AnswerFault::Lost), Conduct::default());
        let late = conduct(AnswerFault::Late(MS(5), MS(5)));
        assert_eq!(late, Conduct { emissions: vec![(MS(5), Act::Send(right.clone()))], is_right: true });
        let echoed = conduct(AnswerFault::Echoed);
        assert_eq!((sent(&echoed), echoed.is_right), (&*[request().encode(), right.clone()].concat(), true));
        let twice = conduct(AnswerFault::Duplicated);
        assert_eq!((sent(&twice), twice.is_right), (&*right.repeat(2), true));
        let noisy = conduct(AnswerFault::Noisy(3));
        assert_eq!((&sent(&noisy)[3..], noisy.is_right), (&*right, true));
        let foreign =
            Frame { address: [0x10, 0x30, 0, 0x20, 2, 0x21], ..frame(0x91, &[0, 1, 1, 2, 5, 0x22]) };
        let between = conduct(AnswerFault::Foreign);
        assert_eq!((sent(&between), between.is_right), (&*[foreign.encode_reply(), right].concat(), true));
    }

    #[test]
    fn a_flipped_bit_is_one_of_the_frame() {
        let mut faults = AnswerFaults::new(1, vec![(When::Always, AnswerFault::FlippedBit)]);
        let right = reply().encode_reply();
        for _ in 0..1000 {
            let conduct = faults.handle(answer(), MS(0));
            assert!(!conduct.is_right);
            let changed = sent(&conduct).iter().zip(&right).map(|(got, right)| (got ^ right).count_ones());
            assert_eq!(changed.sum::<u32>(), 1);
            assert_eq!(sent(&conduct)[..4], [0xFE; 4]);
        }
        assert_eq!(faults.injected(), &BTreeMap::from([("flipped bit", 1000)]));
    }

    #[test]
    fn faults_strike_when_they_are_to() {
        let mut faults = AnswerFaults::new(1, vec![(When::Every(2), AnswerFault::Lost)]);
        let has_left = [1, 2, 3, 4].map(|_| faults.handle(answer(), MS(0)).is_right);
        assert_eq!(has_left, [true, false, true, false]);
    }

    #[test]
    fn what_happens_to_text_without_a_check_can_be_seen() {
        let text = Answer {
            said: b"S S     100.00 g\r\n".to_vec(),
            flips: 0..16,
            bits: 7..8,
            asked: b"SI\r\n".to_vec(),
            ..Answer::default()
        };
        let plan = vec![(When::Every(2), AnswerFault::FlippedBit), (When::Always, AnswerFault::Noisy(2))];
        let mut faults = AnswerFaults::new(1, plan);
        for number in 1..1000 {
            let conduct = faults.handle(text.clone(), MS(0));
            assert_eq!(conduct.is_right, number % 2 == 1);
            let bytes = sent(&conduct);
            assert!(bytes[..2].iter().all(|byte| *byte >= 0x80));
            let wrong = bytes[2..].iter().filter(|byte| **byte >= 0x80).count();
            assert_eq!((wrong, bytes.ends_with(b"\r\n")), ((number + 1) % 2, true));
        }
    }

    #[test]
    fn what_nobody_asked_for_is_not_late_or_echoed_and_an_event_is_one() {
        let code = Answer { said: b"LOT-7\r\n".to_vec(), is_event: true, ..Answer::default() };
        let all = [
            AnswerFault::Late(MS(5), MS(5)),
            AnswerFault::Echoed,
            AnswerFault::Foreign,
            AnswerFault::Duplicated,
            AnswerFault::FlippedBit,
        ];
        let mut faults = AnswerFaults::new(1, all.map(|fault| (When::Always, fault)).to_vec());
        let conduct = faults.handle(code.clone(), MS(0));
        assert_eq!((sent(&conduct), conduct.is_right), (&code.said[..], true));
        assert!(faults.injected().is_empty());
    }
}
