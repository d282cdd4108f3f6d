//! Devices that misbehave: what goes wrong, for whom and when; a right reply becomes what leaves instead of it. Pure.
//!
//! Every fault has been seen in the field. What is random comes from a seed, so that a run can be repeated.

mod answer;
mod outgoing;

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;

use super::slave::{Frame, Subject};
use crate::config::site::Framing;
use outgoing::Outgoing;

pub use answer::{Answer, AnswerFault, AnswerFaults};

/// One thing that goes wrong.
#[derive(Clone, Debug)]
pub struct Fault {
    /// For requests to this unit; `None` is any unit, also one that is not there.
    pub unit: Option<u8>,
    /// For which of them.
    pub when: When,
    /// What.
    pub kind: Kind,
}

/// Which requests a fault strikes. They are counted from 1, among those to the fault's unit.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the bounds of a range")]
pub enum When {
    /// Every one.
    Always,
    /// Each nth.
    Every(u64),
    /// The last `length` of each `every`.
    Runs { length: u64, every: u64 },
    /// From the `first` to the `last`.
    Requests { first: u64, last: u64 },
    /// Those that come from so long after the start on, and before that.
    During { from: Duration, to: Duration },
    /// One in so many, at random.
    OneIn(u64),
}

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Kind {
    /// The request is not obeyed.
    Refusal(Refusal),
    /// It is obeyed, and the reply suffers.
    Spoil(Spoil),
}

/// What a device does instead of what it was asked for. Of several refusals the first in the plan counts.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// Nothing.
    Dead,
    /// Nothing, to the first request of a connection and to the first after so long a silence.
    FirstLost(Duration),
    /// Nothing, to a request that comes sooner than so long after the last byte.
    TooSoon(Duration),
    /// It answers with an exception: 6 busy, 5 acknowledge, 0A and 0B a gateway, others the maker's own.
    Exception(u8),
    /// It answers with this function byte and data, whatever they mean.
    Pdu(Vec<u8>),
    /// It answers with these bytes, without any framing: another protocol.
    Bytes(Vec<u8>),
    /// Exception 1 to this function.
    NoFunction(u8),
    /// Exception 2 where the request touches one of these registers or bits.
    Hole {
        /// The first of them.
        first: u16,
        /// The last of them.
        last: u16,
    },
    /// To requests for more than `most`: this exception, or nothing.
    SizeLimit {
        /// So many are answered.
        most: u16,
        /// 2 or 3 mostly.
        exception: Option<u8>,
    },
    /// Exception 2 where the request lies on both sides of a multiple of this.
    NoCross(u16),
    /// Exception 2 where the request touches this block and is not exactly it.
    WholeOnly {
        /// Where the block begins.
        address: u16,
        /// How long it is.
        count: u16,
    },
}

/// What happens to a reply.
#[derive(Clone, Debug)]
pub enum Spoil {
    /// It leaves so much later, at random between the two; requests that come meanwhile are answered in their own time.
    Late(Duration, Duration),
    /// The device takes so long for every request, and begins with the next one after that.
    Slow(Duration),
    /// It leaves once more, so long after it has left.
    Duplicated(Duration),
    /// A reply to a read has so many bytes of data less. Its byte count and checksum are right.
    Short(usize),
    /// A reply to a read has so many bytes of data more. Its byte count and checksum are right.
    Long(usize),
    /// One bit of it, at random.
    FlippedBit,
    /// It leaves in two pieces with a pause between them.
    Split {
        /// After so many bytes; `None` is at random.
        at: Option<usize>,
        /// How long after the first piece the second one leaves.
        pause: Duration,
    },
    /// It waits for the next reply and leaves right before it.
    Held,
    /// The last so many bytes of the request stand before it; `usize::MAX` is all of them.
    Echoed(usize),
    /// So many random bytes stand before and behind it.
    Noisy {
        /// Before.
        before: usize,
        /// Behind.
        behind: usize,
    },
    /// Its transaction id is this.
    Id(u16),
    /// So much is added to its transaction id.
    IdPlus(u16),
    /// It bears this unit.
    Unit(u8),
    /// It bears this function.
    Function(u8),
    /// This other unit obeys in place of the one that was asked, and answers under its own address.
    AnsweredBy(u8),
    /// The connection ends.
    HangUp(Moment),
}

/// When a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "of a reply")]
pub enum Moment {
    Before,
    Middle,
    After,
}

/// A request as a device sees it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The request.
    pub request: &'a Frame,
    /// What it came in.
    pub framing: Framing,
    /// Whether on a serial line, where a unit's replies leave in the order of its requests, however late.
    pub is_line: bool,
    /// Since the start.
    pub now: Duration,
    /// How long no byte had gone either way before it; `None` for the first of a connection.
    pub silence: Option<Duration>,
}

/// What leaves, in the order of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conduct {
    /// What, and how much later than the right reply of a sound device.
    pub emissions: Vec<(Duration, Act)>,
    /// Whether the right reply is whole among it, so that whoever asked may take its values.
    pub is_right: bool,
}

/// What a device does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// It sends these bytes.
    Send(Vec<u8>),
    /// It sends the first piece of a reply and after a pause, in which it sends nothing else, the rest.
    SendInTwo {
        /// The first piece.
        first: Vec<u8>,
        /// The pause.
        pause: Duration,
        /// The rest.
        rest: Vec<u8>,
    },
    /// It ends the connection.
    HangUp,
}

impl Act {
    /// The bytes that leave at once.
    #[must_use]
    pub const fn size(&self) -> usize {
        match self {
            Act::Send(bytes) | Act::SendInTwo { first: bytes, .. } => bytes.len(),
            Act::HangUp => 0,
        }
    }
}

/// The faults of the devices on one link, and how far they are.
#[derive(Debug)]
pub struct Faults {
    plan: Vec<(Fault, u64)>,
    rng: Rng,
    held: Vec<u8>,
    /// When each unit has done with what it was asked last.
    free_at: BTreeMap<u8, Duration>,
    injected: BTreeMap<&'static str, u64>,
}

impl From<Refusal> for Kind {
    fn from(refusal: Refusal) -> Kind {
        Kind::Refusal(refusal)
    }
}

impl From<Spoil> for Kind {
    fn from(spoil: Spoil) -> Kind {
        Kind::Spoil(spoil)
    }
}

impl Fault {
    /// A fault of all units.
    #[must_use]
    pub fn new(when: When, kind: impl Into<Kind>) -> Fault {
        Fault { unit: None, when, kind: kind.into() }
    }

    /// The same fault of one unit.
    #[must_use]
    pub fn of(self, unit: u8) -> Fault {
        Fault { unit: Some(unit), ..self }
    }
}

impl When {
    fn is_now(self, number: u64, now: Duration, rng: &mut Rng) -> bool {
        match self {
            When::Always => true,
            When::Every(every) => number.is_multiple_of(every),
            When::Runs { length, every } => every > 0 && (number - 1) % every + length >= every,
            When::Requests { first, last } => (first..=last).contains(&number),
            When::During { from, to } => (from..to).contains(&now),
            When::OneIn(many) => many > 0 && rng.u64(0..many) == 0,
        }
    }
}

impl Faults {
    /// The faults of `plan`; what is random in them follows from `seed`.
    #[must_use]
    pub fn new(seed: u64, plan: Vec<Fault>) -> Faults {
        Faults {
            plan: plan.into_iter().map(|fault| (fault, 0)).collect(),
            rng: Rng::with_seed(seed),
            held: Vec::new(),
            free_at: BTreeMap::new(),
            injected: BTreeMap::new(),
        }
    }

    /// How many faults of each kind have struck.
    #[must_use]
    pub fn injected(&self) -> &BTreeMap<&'static str, u64> {
        &self.injected
    }

    /// What leaves in answer to `asked`. `answer` says what a unit that obeys the request replies, and is not called
    /// where none does.
    pub fn handle(&mut self, asked: &Asked<'_>, answer: impl FnOnce(u8) -> Option<Vec<u8>>) -> Conduct {
        if asked.silence.is_none() {
            self.held.clear(); // what was held back for another connection
        }
        let (refusals, spoils) = self.strike(asked);
        let refusal = refusals.iter().find_map(|refusal| Some((refusal, refusal.reaction(asked)?)));
        let mut outgoing = match refusal {
            Some((refusal, reaction)) => {
                self.count(refusal.name());
                match reaction {
                    Reaction::Silence => Outgoing::default(),
                    Reaction::Pdu(pdu) => Outgoing::reply(Frame { pdu, ..asked.request.clone() }, false),
                    Reaction::Bytes(bytes) => Outgoing::bytes(bytes),
                }
            }
            None => self.obey(asked, &spoils, answer),
        };
        let free_in = self.free_at.get(&asked.request.unit).map(|free| free.saturating_sub(asked.now));
        for spoil in spoils {
            if outgoing.spoil(&spoil, asked, free_in.unwrap_or_default(), &mut self.rng) {
                self.count(spoil.name());
            }
        }
        if asked.is_line {
            outgoing.after = outgoing.after.max(free_in.unwrap_or_default());
        }
        self.free_at.insert(asked.request.unit, asked.now + outgoing.after);
        outgoing.conduct(asked.framing, &mut self.held, &mut self.rng)
    }

    /// The faults that strike this request.
    fn strike(&mut self, asked: &Asked<'_>) -> (Vec<Refusal>, Vec<Spoil>) {
        let (mut refusals, mut spoils) = (Vec::new(), Vec::new());
        for (fault, seen) in &mut self.plan {
            if fault.unit.is_some_and(|unit| unit != asked.request.unit) {
                continue;
            }
            *seen += 1;
            match &fault.kind {
                _ if !fault.when.is_now(*seen, asked.now, &mut self.rng) => {}
                Kind::Refusal(refusal) => refusals.push(refusal.clone()),
                Kind::Spoil(spoil) => spoils.push(spoil.clone()),
            }
        }
        (refusals, spoils)
    }

    fn obey(
        &mut self,
        asked: &Asked<'_>,
        spoils: &[Spoil],
        answer: impl FnOnce(u8) -> Option<Vec<u8>>,
    ) -> Outgoing {
        let asked_unit = asked.request.unit;
        let other = spoils.iter().find_map(|spoil| {
            let Spoil::AnsweredBy(unit) = spoil else { return None };
            Some(*unit)
        });
        let unit = other.unwrap_or(asked_unit);
        let Some(pdu) = answer(unit) else { return Outgoing::default() };
        Outgoing::reply(Frame { id: asked.request.id, unit, pdu }, unit == asked_unit)
    }

    fn count(&mut self, name: &'static str) {
        *self.injected.entry(name).or_default() += 1;
    }
}

/// What a device that does not obey does.
enum Reaction {
    Silence,
    Pdu(Vec<u8>),
    Bytes(Vec<u8>),
}

impl Refusal {
    /// What it does with this request; `None` where it obeys after all.
    fn reaction(&self, asked: &Asked<'_>) -> Option<Reaction> {
        let Subject { function, address, count } = asked.request.subject();
        let end = u32::from(address) + u32::from(count);
        let touches = |first: u16, last: u32| u32::from(address) <= last && u32::from(first) < end;
        let exception = |code| Reaction::Pdu(vec![function | 0x80, code]);
        match *self {
            Refusal::Dead => Some(Reaction::Silence),
            Refusal::FirstLost(idle) => {
                asked.silence.is_none_or(|silence| silence >= idle).then_some(Reaction::Silence)
            }
            Refusal::TooSoon(gap) => {
                asked.silence.is_some_and(|silence| silence < gap).then_some(Reaction::Silence)
            }
            Refusal::Exception(code) => Some(exception(code)),
            Refusal::Pdu(ref pdu) => Some(Reaction::Pdu(pdu.clone())),
            Refusal::Bytes(ref bytes) => Some(Reaction::Bytes(bytes.clone())),
            Refusal::NoFunction(missing) => (function == missing).then(|| exception(1)),
            Refusal::Hole { first, last } => touches(first, last.into()).then(|| exception(2)),
            Refusal::SizeLimit { most, exception: code } => {
                (count > most).then(|| code.map_or(Reaction::Silence, exception))
            }
            Refusal::NoCross(page) => {
                let page_of = |place: u32| place.checked_div(page.into());
                (count > 0 && page_of(address.into()) != page_of(end - 1)).then(|| exception(2))
            }
            Refusal::WholeOnly { address: first, count: size } => {
                let is_part = (address, count) != (first, size);
                let last = (u32::from(first) + u32::from(size)).saturating_sub(1);
                (is_part && touches(first, last)).then(|| exception(2))
            }
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Refusal::Dead => "dead",
            Refusal::FirstLost(_) => "first lost",
            Refusal::TooSoon(_) => "too soon",
            Refusal::Exception(5) => "acknowledge",
            Refusal::Exception(6) => "busy",
            Refusal::Exception(_) => "exception",
            Refusal::Pdu(_) => "odd answer",
            Refusal::Bytes(_) => "foreign",
            Refusal::NoFunction(_) => "no such function",
            Refusal::Hole { .. } => "hole",
            Refusal::SizeLimit { .. } => "too many",
            Refusal::NoCross(_) => "crossing",
            Refusal::WholeOnly { .. } => "part of a block",
        }
    }
}

impl Spoil {
    fn name(&self) -> &'static str {
        match self {
            Spoil::Late(..) => "late",
            Spoil::Slow(_) => "slow",
            Spoil::Duplicated(_) => "duplicate",
            Spoil::Short(_) => "short",
            Spoil::Long(_) => "long",
            Spoil::FlippedBit => "flipped bit",
            Spoil::Split { .. } => "split",
            Spoil::Held => "held back",
            Spoil::Echoed(_) => "echo",
            Spoil::Noisy { .. } => "noise",
            Spoil::Id(_) | Spoil::IdPlus(_) => "wrong id",
            Spoil::Unit(_) => "wrong unit",
            Spoil::Function(_) => "wrong function",
            Spoil::AnsweredBy(_) => "answered by another",
            Spoil::HangUp(_) => "hang-up",
        }
    }
}

#[cfg(test)]
mod tests;
