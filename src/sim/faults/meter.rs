//! What happens to the answers of meters that speak DL/T 645. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;

use super::super::meter::Frame;
use super::outgoing::{between, noise};
use super::{Act, Conduct, When};

/// What happens to an answer.
#[derive(Clone, Copy, Debug)]
pub enum MeterFault {
    /// It does not leave.
    Lost,
    /// It leaves so much later, at random between the two.
    Late(Duration, Duration),
    /// So many random bytes stand before it.
    Noisy(usize),
    /// One bit of it, at random, behind the wake-up bytes.
    FlippedBit,
    /// The request stands before it.
    Echoed,
    /// An answer of another meter about the same, with other values, stands before it.
    Foreign,
    /// It leaves once more, right behind.
    Duplicated,
}

/// The faults of the meters on one link, and how far they are; answers are counted over all meters.
#[derive(Debug)]
pub struct MeterFaults {
    plan: Vec<(When, MeterFault)>,
    rng: Rng,
    number: u64,
    injected: BTreeMap<&'static str, u64>,
}

impl MeterFaults {
    /// The faults of `plan`; what is random in them follows from `seed`.
    #[must_use]
    pub fn new(seed: u64, plan: Vec<(When, MeterFault)>) -> MeterFaults {
        MeterFaults { plan, rng: Rng::with_seed(seed), number: 0, injected: BTreeMap::new() }
    }

    /// How many faults of each kind have struck.
    #[must_use]
    pub fn injected(&self) -> &BTreeMap<&'static str, u64> {
        &self.injected
    }

    /// What leaves where `reply` is the right answer to `request`, which came so long after the start.
    pub fn handle(&mut self, request: &Frame, reply: &Frame, now: Duration) -> Conduct {
        self.number += 1;
        let (mut bytes, mut before) = (reply.encode_reply(), Vec::new());
        let (mut after, mut is_right, mut is_lost, mut copies) = (Duration::ZERO, true, false, 1);
        for (when, fault) in &self.plan {
            if !when.is_now(self.number, now, &mut self.rng) {
                continue;
            }
            *self.injected.entry(fault.name()).or_default() += 1;
            match *fault {
                MeterFault::Lost => (is_lost, is_right) = (true, false),
                MeterFault::Late(least, most) => after += between(least, most, &mut self.rng),
                MeterFault::Noisy(count) => before.extend(noise(count, &mut self.rng)),
                MeterFault::FlippedBit => {
                    flip(&mut bytes, reply.encode().len(), &mut self.rng);
                    is_right = false;
                }
                MeterFault::Echoed => before.extend(request.encode()),
                MeterFault::Foreign => before.extend(foreign(reply).encode_reply()),
                MeterFault::Duplicated => copies = 2,
            }
        }
        if is_lost {
            return Conduct::default();
        }
        let bytes = [before, bytes.repeat(copies)].concat();
        Conduct { emissions: vec![(after, Act::Send(bytes))], is_right }
    }
}

/// Turns one bit of the last `size` bytes.
fn flip(bytes: &mut [u8], size: usize, rng: &mut Rng) {
    let first = bytes.len().saturating_sub(size);
    let bit = rng.usize(0..size.max(1) * 8);
    if let Some(byte) = bytes.get_mut(first + bit / 8) {
        *byte ^= 1 << (bit % 8);
    }
}

/// The answer of the meter with the next address, whose last byte of data is another one.
fn foreign(reply: &Frame) -> Frame {
    let mut frame = reply.clone();
    frame.address.iter_mut().take(1).for_each(|pair| *pair ^= 1);
    frame.data.iter_mut().rev().take(1).for_each(|byte| *byte ^= 1);
    frame
}

impl MeterFault {
    fn name(self) -> &'static str {
        match self {
            MeterFault::Lost => "lost",
            MeterFault::Late(..) => "late",
            MeterFault::Noisy(_) => "noise",
            MeterFault::FlippedBit => "flipped bit",
            MeterFault::Echoed => "echo",
            MeterFault::Foreign => "another meter's answer",
            MeterFault::Duplicated => "duplicate",
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

    fn conduct(fault: MeterFault) -> Conduct {
        MeterFaults::new(1, vec![(When::Always, fault)]).handle(&request(), &reply(), MS(0))
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
        assert_eq!(conduct(MeterFault::Lost), Conduct::default());
        let late = conduct(MeterFault::Late(MS(5), MS(5)));
        assert_eq!(late, Conduct { emissions: vec![(MS(5), Act::Send(right.clone()))], is_right: true });
        let echoed = conduct(MeterFault::Echoed);
        assert_eq!((sent(&echoed), echoed.is_right), (&*[request().encode(), right.clone()].concat(), true));
        let twice = conduct(MeterFault::Duplicated);
        assert_eq!((sent(&twice), twice.is_right), (&*right.repeat(2), true));
        let noisy = conduct(MeterFault::Noisy(3));
        assert_eq!((&sent(&noisy)[3..], noisy.is_right), (&*right, true));
        let foreign =
            Frame { address: [0x10, 0x30, 0, 0x20, 2, 0x21], ..frame(0x91, &[0, 1, 1, 2, 5, 0x22]) };
        let between = conduct(MeterFault::Foreign);
        assert_eq!((sent(&between), between.is_right), (&*[foreign.encode_reply(), right].concat(), true));
    }

    #[test]
    fn a_flipped_bit_is_one_of_the_frame() {
        let mut faults = MeterFaults::new(1, vec![(When::Always, MeterFault::FlippedBit)]);
        let right = reply().encode_reply();
        for _ in 0..1000 {
            let conduct = faults.handle(&request(), &reply(), MS(0));
            assert!(!conduct.is_right);
            let changed = sent(&conduct).iter().zip(&right).map(|(got, right)| (got ^ right).count_ones());
            assert_eq!(changed.sum::<u32>(), 1);
            assert_eq!(sent(&conduct)[..4], [0xFE; 4]);
        }
        assert_eq!(faults.injected(), &BTreeMap::from([("flipped bit", 1000)]));
    }

    #[test]
    fn faults_strike_when_they_are_to() {
        let mut faults = MeterFaults::new(1, vec![(When::Every(2), MeterFault::Lost)]);
        let has_left = [1, 2, 3, 4].map(|_| faults.handle(&request(), &reply(), MS(0)).is_right);
        assert_eq!(has_left, [true, false, true, false]);
    }
}
