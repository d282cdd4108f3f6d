//! A reply on its way out, and what happens to it there. Pure.

use std::time::Duration;

use fastrand::Rng;

use super::super::slave::Frame;
use super::{Act, Asked, Conduct, Moment, Spoil};
use crate::config::site::Framing;

/// A reply, or silence, before it becomes bytes.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    frame: Option<Frame>,
    is_right: bool,
    pub(super) after: Duration,
    before: Vec<u8>,
    behind: Vec<u8>,
    is_flipped: bool,
    is_held: bool,
    split: Option<(Option<usize>, Duration)>,
    again: Option<Duration>,
    hang_up: Option<Moment>,
}

impl Outgoing {
    /// A reply, which is the right one or not.
    pub(super) fn reply(frame: Frame, is_right: bool) -> Outgoing {
        Outgoing { frame: Some(frame), is_right, ..Outgoing::default() }
    }

    /// No reply, but these bytes.
    pub(super) fn bytes(bytes: Vec<u8>) -> Outgoing {
        Outgoing { before: bytes, ..Outgoing::default() }
    }

    /// Lets `spoil` happen to the reply of a unit that is busy for `free_in` more; false where there is nothing that it
    /// could happen to.
    pub(super) fn spoil(
        &mut self,
        spoil: &Spoil,
        asked: &Asked<'_>,
        free_in: Duration,
        rng: &mut Rng,
    ) -> bool {
        let is_reply = self.frame.is_some();
        match *spoil {
            Spoil::Echoed(most) => {
                let request = asked.request.encode(asked.framing);
                let tail = request.len().saturating_sub(most);
                self.before.extend(request.into_iter().skip(tail));
                return true;
            }
            Spoil::Noisy { before, behind } => {
                self.before.extend(noise(before, rng));
                self.behind.extend(noise(behind, rng));
                return true;
            }
            Spoil::HangUp(moment) => {
                self.hang_up = Some(moment);
                self.is_right &= moment == Moment::After;
                return true;
            }
            Spoil::Late(least, most) => self.after += between(least, most, rng),
            Spoil::Slow(time) => self.after += free_in + time,
            Spoil::Duplicated(pause) => self.again = Some(pause),
            Spoil::Split { at, pause } => self.split = Some((at, pause)),
            Spoil::FlippedBit => (self.is_flipped, self.is_right) = (true, false),
            Spoil::Held => (self.is_held, self.is_right) = (is_reply, false),
            Spoil::AnsweredBy(unit) => return is_reply && unit != asked.request.unit,
            Spoil::Short(less) => {
                return self.change(|frame| resize(frame, |size| size.saturating_sub(less)));
            }
            Spoil::Long(more) => return self.change(|frame| resize(frame, |size| size + more)),
            Spoil::Id(id) => return self.change(|frame| frame.id = id),
            Spoil::IdPlus(more) => return self.change(|frame| frame.id = frame.id.wrapping_add(more)),
            Spoil::Unit(unit) => return self.change(|frame| frame.unit = unit),
            Spoil::Function(function) => {
                return self.change(|frame| frame.pdu.iter_mut().take(1).for_each(|byte| *byte = function));
            }
        }
        is_reply
    }

    /// Changes what the reply says; false where it says the same as before.
    fn change(&mut self, how: impl FnOnce(&mut Frame)) -> bool {
        let Some(frame) = &mut self.frame else { return false };
        let before = frame.clone();
        how(frame);
        let has_changed = *frame != before;
        self.is_right &= !has_changed;
        has_changed
    }

    /// What leaves. `held` is what an earlier reply has left behind.
    pub(super) fn conduct(self, framing: Framing, held: &mut Vec<u8>, rng: &mut Rng) -> Conduct {
        let mut reply = self.frame.as_ref().map(|frame| frame.encode(framing)).unwrap_or_default();
        if self.is_flipped && !reply.is_empty() {
            let bit = rng.usize(0..reply.len() * 8);
            if let Some(byte) = reply.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
        }
        let mut bytes = [self.before, reply.clone(), self.behind].concat();
        if self.is_held {
            *held = bytes;
            return Conduct::default();
        }
        if !bytes.is_empty() {
            bytes.splice(0..0, held.drain(..));
        }
        match self.hang_up {
            Some(Moment::Before) => bytes.clear(),
            Some(Moment::Middle) => bytes.truncate(bytes.len() / 2),
            Some(Moment::After) | None => {}
        }
        let mut left = self.after;
        let mut emissions = Vec::new();
        match self.split.filter(|_| bytes.len() > 1) {
            Some((at, pause)) => {
                let at = at.unwrap_or_else(|| rng.usize(1..bytes.len())).clamp(1, bytes.len() - 1);
                let rest = bytes.split_off(at);
                emissions.push((left, Act::SendInTwo { first: bytes, pause, rest }));
                left += pause;
            }
            None if bytes.is_empty() => {}
            None => emissions.push((left, Act::Send(bytes))),
        }
        match (self.hang_up, self.again) {
            (Some(_), _) => emissions.push((left, Act::HangUp)),
            (None, Some(pause)) => emissions.push((left + pause, Act::Send(reply))),
            (None, None) => {}
        }
        Conduct { emissions, is_right: self.is_right }
    }
}

/// Gives the reply to a read so many bytes of data, as far as its byte count can say it.
fn resize(frame: &mut Frame, size: impl FnOnce(usize) -> usize) {
    let [1..=4 | 23, count, data @ ..] = frame.pdu.as_mut_slice() else { return };
    let wanted = u8::try_from(size(data.len())).unwrap_or(u8::MAX);
    *count = wanted;
    frame.pdu.resize(2 + usize::from(wanted), 0xFF);
}

pub(super) fn noise(count: usize, rng: &mut Rng) -> Vec<u8> {
    std::iter::repeat_with(|| rng.u8(..)).take(count).collect()
}

pub(super) fn between(least: Duration, most: Duration, rng: &mut Rng) -> Duration {
    least + most.saturating_sub(least).mul_f64(rng.f64())
}
