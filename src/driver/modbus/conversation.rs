//! The requests outstanding on one stream, and what the bytes that come in mean to them. Pure.
//!
//! Over TCP up to `in_flight` requests are outstanding and the transaction id decides; an answer to an earlier request is
//! dropped and counted. Over RTU and ASCII, and where ids are ignored, there is one, and no id: a late answer of the same
//! shape could pass for this one. So a unit that did not answer *rests*: it is asked nothing until its answer has come after all, or so long after
//! the request that it will not come any more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf as _, BytesMut};
use tokio_modbus::Request;

use super::frame::{self, Front, TcpFrame};
use super::pdu::{self, RequestError};
use super::transaction::{Seen, Tolerance, Transaction};
use crate::config::site::{Echo, Framing};
use crate::counters::{DeviceCounters, LinkCounters};
use crate::driver::{Answer, Fault};
use crate::tag::UnitId;

/// A unit that did not answer rests until so many times its longest timeout have passed since it was asked.
pub const RESTS: u32 = 3;
/// What may follow a late answer, such as a second copy of it, has this long to come.
const AFTERMATH: Duration = Duration::from_millis(20);
/// A frame with a wrong checksum and then so much silence: the answer has come and is spoilt. Longer than any pause inside
/// a frame that adapters and networks make.
const SPOILT_AFTER: Duration = Duration::from_millis(60);
/// More than any frame; what comes in beyond it without being an answer is noise.
const BUFFER_MAX: usize = 1024;

/// Given-up requests whose late answers are known as such; older ones count as unasked.
const GIVEN_UP_MAX: usize = 64;

/// A request for a unit.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who asks: the end of the request names it.
    pub ticket: usize,
    /// Who is asked.
    pub unit: UnitId,
    /// What.
    pub request: Request<'static>,
    /// What is overlooked in the answer.
    pub tolerance: Tolerance,
    /// The longest wait for the answer now.
    pub timeout: Duration,
    /// The longest that the device may ever take.
    pub timeout_max: Duration,
    /// Where it is counted.
    pub counters: Arc<DeviceCounters>,
}

/// A request that has come to its end.
#[derive(Debug)]
pub struct Done {
    /// Whose, [`Call::ticket`].
    pub ticket: usize,
    /// Who was asked.
    pub unit: UnitId,
    /// How.
    pub result: Result<Answer, Fault>,
    /// Since it was sent, the time on the wire not counted.
    pub took: Duration,
}

/// From one transaction id to the next: all are used in turn, for it is odd, and of requests near each other no two have near
/// ids. A late answer that names an id a little off is never that to the next request.
const ID_STEP: u16 = 0x9E37;
/// So many answers in turn that would have fitted but for one field: the device will not do better.
const NEAR_MISSES_MAX: u32 = 3;

/// What is odd about a device and has a key of its own in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Advice {
    /// Its answers do not repeat the transaction id.
    Tid,
    /// Its answers name another unit.
    Unit,
    /// What is sent comes back.
    Echo,
}

impl Advice {
    /// The sentence for the log.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Advice::Tid => {
                "its answers do not repeat the transaction id: set quirks = { tid = \"ignore\" } if it is made so"
            }
            Advice::Unit => {
                "its answers name another unit: set quirks = { unit_reply = \"any\" } if it is made so"
            }
            Advice::Echo => "what is sent comes back: set `echo = true` on this link",
        }
    }
}

/// The requests outstanding on one stream.
#[derive(Debug)]
pub struct Conversation {
    framing: Framing,
    echo: Echo,
    /// What was sent comes back, although nobody said so.
    is_echoing: bool,
    /// What to tell whoever wrote the configuration, for each unit at most once each.
    advice: Vec<(UnitId, Advice)>,
    given: BTreeSet<(UnitId, Advice)>,
    /// For each unit, answers in turn that would have fitted but for the transaction id or the unit they name.
    near_misses: BTreeMap<UnitId, u32>,
    next_id: u16,
    outstanding: Vec<Outstanding>,
    /// Buffers of requests that were answered, for the next: never more than were outstanding at once.
    spare: Vec<Vec<u8>>,
    resting: Vec<Resting>,
    buffer: BytesMut,
    link: Arc<LinkCounters>,
    /// The ids of requests that were given up, the newest last.
    given_up: VecDeque<(u16, UnitId, Arc<DeviceCounters>)>,
    /// Units whose late answers have come.
    late: Vec<UnitId>,
}

#[derive(Debug)]
struct Outstanding {
    ticket: usize,
    transaction: Transaction,
    sent_at: Instant,
    timeout: Duration,
    timeout_max: Duration,
    /// What both frames need on a serial wire; it comes on top.
    wire: Duration,
    counters: Arc<DeviceCounters>,
    /// What was sent must come back before the answer.
    comes_back: bool,
    /// The request, to recognise its echo, expected or not.
    sent: Vec<u8>,
    has_misfit: bool,
    /// When the last byte of a frame with a wrong checksum, or of what followed it, came.
    spoilt_at: Option<Instant>,
}

/// A unit that may still answer what has been given up.
#[derive(Debug)]
struct Resting {
    transaction: Transaction,
    counters: Arc<DeviceCounters>,
    until: Instant,
}

impl Outstanding {
    fn deadline(&self) -> Instant {
        let deadline = self.sent_at + self.timeout + self.wire;
        self.spoilt_at.map_or(deadline, |at| deadline.min(at + SPOILT_AFTER))
    }

    fn done(&self, result: Result<Answer, Fault>, now: Instant) -> Done {
        let took = now.saturating_duration_since(self.sent_at).saturating_sub(self.wire);
        Done { ticket: self.ticket, unit: self.transaction.unit, result, took }
    }

    /// As [`Outstanding::done`], for an answer that came.
    fn end(&self, result: Result<Answer, Fault>, now: Instant) -> Done {
        let done = self.done(result, now);
        self.counters.replies.add(done.took);
        if let Ok(Answer::Exception(code)) = done.result {
            self.counters.exceptions.add(code.into());
        }
        done
    }

    fn fault(&self) -> Fault {
        if self.has_misfit {
            Fault::Garbled
        } else if self.spoilt_at.is_some() {
            Fault::Checksum
        } else {
            Fault::Silent
        }
    }
}

impl Conversation {
    /// Nothing asked yet. `first_id` is best a random number.
    #[must_use]
    pub fn new(framing: Framing, echo: Echo, first_id: u16, link: Arc<LinkCounters>) -> Conversation {
        Conversation {
            framing,
            echo,
            is_echoing: false,
            advice: Vec::new(),
            given: BTreeSet::new(),
            near_misses: BTreeMap::new(),
            next_id: first_id,
            outstanding: Vec::new(),
            spare: Vec::new(),
            resting: Vec::new(),
            buffer: BytesMut::with_capacity(BUFFER_MAX),
            link,
            given_up: VecDeque::new(),
            late: Vec::new(),
        }
    }

    /// The bytes of a request, which is outstanding from now on. `wire` is the time that it and its answer need on a
    /// serial line.
    ///
    /// # Errors
    /// Where the specification does not allow it.
    pub fn begin(&mut self, call: Call, wire: Duration, now: Instant) -> Result<&[u8], RequestError> {
        let Call { ticket, unit, request, tolerance, timeout, timeout_max, counters } = call;
        let transaction = Transaction::new(self.framing, self.next_id, unit, request, tolerance);
        let mut sent = self.spare.pop().unwrap_or_default();
        transaction.encode(&mut sent)?;
        self.next_id = self.next_id.wrapping_add(ID_STEP);
        let comes_back = self.echo == Echo::Yes || (self.echo == Echo::Auto && self.is_echoing);
        counters.requests.add(1);
        self.outstanding.push(Outstanding {
            ticket,
            transaction,
            sent_at: now,
            timeout,
            timeout_max,
            wire,
            counters,
            comes_back,
            sent,
            has_misfit: false,
            spoilt_at: None,
        });
        Ok(self.outstanding.last().map_or(&[], |outstanding| &outstanding.sent))
    }

    /// The frames that `request` and its answer take, in bytes.
    #[must_use]
    pub fn wire_size(&self, request: &Request<'static>) -> usize {
        let sizes = [pdu::request_size(request), pdu::answer_size(request)];
        sizes.map(|pdu| frame::size(self.framing, pdu)).iter().sum()
    }

    /// How many requests are outstanding.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// Where bytes that come in are put.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// What is odd about a unit, once for each.
    pub fn take_advice(&mut self) -> Option<(UnitId, Advice)> {
        self.advice.pop()
    }

    /// A unit whose answer has come after it was given up: it is there, and slow.
    pub fn take_late(&mut self) -> Option<UnitId> {
        self.late.pop()
    }

    fn advise(&mut self, unit: UnitId, advice: Advice) {
        if self.given.insert((unit, advice)) {
            self.advice.push((unit, advice));
        }
    }

    /// Until when `unit` must not be asked anything. Where answers may name another unit (`any_unit`), every unit that
    /// rests stands in the way.
    #[must_use]
    pub fn rests_until(&self, unit: UnitId, any_unit: bool, now: Instant) -> Option<Instant> {
        let in_the_way = |resting: &&Resting| any_unit || resting.transaction.unit == unit;
        let until = self.resting.iter().filter(in_the_way).map(|resting| resting.until);
        until.filter(|until| *until > now).max()
    }

    /// When [`Conversation::expire`] has something to say.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.outstanding.iter().map(Outstanding::deadline).min()
    }

    /// The request with this ticket is waited for no longer.
    pub fn give_up(&mut self, ticket: usize) {
        for outstanding in self.outstanding.iter_mut().filter(|outstanding| outstanding.ticket == ticket) {
            (outstanding.timeout, outstanding.wire) = (Duration::ZERO, Duration::ZERO);
        }
    }

    /// Ends the requests whose time is over, one a call.
    pub fn expire(&mut self, now: Instant) -> Option<Done> {
        let index = self.outstanding.iter().position(|outstanding| outstanding.deadline() <= now)?;
        let outstanding = self.outstanding.swap_remove(index);
        let fault = outstanding.fault();
        let is_spoilt = matches!(fault, Fault::Checksum);
        let done = outstanding.done(Err(fault), now);
        let Outstanding { transaction, counters, sent_at, timeout_max, wire, .. } = outstanding;
        if is_spoilt { &counters.checksum_errors } else { &counters.timeouts }.add(1);
        if self.framing == Framing::Tcp && !transaction.tolerance.any_tid {
            if self.given_up.len() == GIVEN_UP_MAX {
                self.given_up.pop_front();
            }
            self.given_up.push_back((transaction.id, transaction.unit, counters));
        } else if !is_spoilt {
            // a spoilt answer has come, another will not; any other may still
            self.resting.retain(|resting| resting.until > now);
            self.resting.push(Resting { transaction, counters, until: sent_at + timeout_max * RESTS + wire });
        }
        Some(done)
    }

    /// The stream is gone: the tickets of all that was outstanding.
    pub fn abandon(&mut self) -> Vec<usize> {
        self.buffer.clear();
        self.outstanding.drain(..).map(|outstanding| outstanding.ticket).collect()
    }

    /// Drops what came in before a request is sent: nobody's answer.
    pub fn drop_unasked(&mut self) {
        if !self.buffer.is_empty() {
            self.link.unasked.add(1);
            self.buffer.clear();
        }
    }

    /// Takes the next end of a request from the bytes that came in. `Err` where the stream is out of step: it must be
    /// opened again.
    ///
    /// # Errors
    /// [`Fault::OutOfStep`]
    pub fn take(&mut self, now: Instant) -> Result<Option<Done>, Fault> {
        if self.framing == Framing::Tcp { self.take_tcp(now) } else { Ok(self.take_serial(now)) }
    }

    fn take_tcp(&mut self, now: Instant) -> Result<Option<Done>, Fault> {
        loop {
            let size = match frame::decode_tcp(&self.buffer) {
                Front::Incomplete => return Ok(None),
                Front::Invalid => return Err(Fault::OutOfStep),
                Front::Frame(_, size) => size,
            };
            let bytes = self.buffer.split_to(size);
            let Front::Frame(frame, _) = frame::decode_tcp(&bytes) else { continue };
            let is_exception = frame.pdu.first().is_some_and(|function| function & 0x80 != 0);
            let is_answer = |outstanding: &Outstanding| {
                outstanding.transaction.tolerance.any_tid || outstanding.transaction.id == frame.transaction
            };
            let Some(index) = self.outstanding.iter().position(is_answer) else {
                if self.end_rest(&frame, now) {
                    continue;
                }
                let given_up = self.given_up.iter().find(|(id, ..)| *id == frame.transaction);
                given_up.map_or(&self.link.unasked, |(_, _, counters)| &counters.late).add(1);
                self.late.extend(given_up.map(|(_, unit, _)| *unit));
                self.miss_nearly(frame.unit, frame.pdu, Advice::Tid);
                continue;
            };
            let outstanding = self.outstanding.swap_remove(index);
            let asked = outstanding.transaction.unit;
            if frame.unit != asked && !outstanding.transaction.tolerance.any_unit && !is_exception {
                // a gateway may sign an exception with a unit of its own; never data
                outstanding.counters.foreign.add(1);
                self.outstanding.push(outstanding);
                self.miss_nearly(asked, frame.pdu, Advice::Unit);
                continue;
            }
            let answer = outstanding.transaction.decode(frame.pdu);
            self.near_misses.remove(&asked);
            return Ok(Some(self.end(outstanding, answer.ok_or(Fault::Garbled), now)));
        }
    }

    /// Whether this is the late answer of a resting unit, whose answers bear no id; that unit has nothing more to say.
    fn end_rest(&mut self, frame: &TcpFrame<'_>, now: Instant) -> bool {
        let is_answer = |resting: &&mut Resting| {
            let Resting { transaction, until, .. } = resting;
            *until > now && transaction.unit == frame.unit && transaction.decode(frame.pdu).is_some()
        };
        let Some(resting) = self.resting.iter_mut().find(is_answer) else { return false };
        resting.until = resting.until.min(now + AFTERMATH);
        resting.counters.late.add(1);
        self.late.push(resting.transaction.unit);
        true
    }

    /// An answer came; the request's buffer is for the next.
    fn end(&mut self, outstanding: Outstanding, result: Result<Answer, Fault>, now: Instant) -> Done {
        let done = outstanding.end(result, now);
        self.spare.push(outstanding.sent);
        done
    }

    /// An answer in which only one field is not that of a request to `unit`.
    fn miss_nearly(&mut self, unit: UnitId, pdu: &[u8], advice: Advice) {
        let of_unit = self.outstanding.iter().filter(|outstanding| outstanding.transaction.unit == unit);
        if of_unit.filter_map(|outstanding| outstanding.transaction.decode(pdu)).next().is_none() {
            return;
        }
        let misses = self.near_misses.entry(unit).or_default();
        *misses += 1;
        if *misses >= NEAR_MISSES_MAX {
            self.advise(unit, advice);
        }
    }

    /// Skips a byte at a time until a frame begins that somebody has been asked for.
    fn take_serial(&mut self, now: Instant) -> Option<Done> {
        if let Some(done) = self.take_echo(now) {
            return done;
        }
        let asked = self.outstanding.first().map(|outstanding| outstanding.counters.clone());
        let mut skipped = 0;
        let done = loop {
            let seen = self.outstanding.first().map(|outstanding| outstanding.transaction.look(&self.buffer));
            match seen {
                Some(Seen::Answer(answer, size)) => {
                    self.buffer.advance(size);
                    let outstanding = self.outstanding.swap_remove(0);
                    break Some(self.end(outstanding, Ok(answer), now));
                }
                Some(Seen::Incomplete) => break None,
                _ if self.skip_late(now) => {}
                None if self.buffer.is_empty() || self.may_become_late() => break None,
                Some(Seen::Other | Seen::Misfit | Seen::Broken) | None => {
                    self.skip(seen.as_ref(), now);
                    skipped += 1;
                }
            }
        };
        if skipped > 0 {
            asked.as_ref().map_or(&self.link.unasked, |counters| &counters.foreign).add(1);
        }
        if self.buffer.len() >= BUFFER_MAX {
            self.buffer.clear();
        }
        done
    }

    /// Drops the byte at the front, and remembers what seemed to begin there.
    fn skip(&mut self, seen: Option<&Seen>, now: Instant) {
        let Some(outstanding) = self.outstanding.first_mut() else { return self.buffer.advance(1) };
        match seen {
            Some(Seen::Misfit) => outstanding.has_misfit = true,
            Some(Seen::Broken) => outstanding.spoilt_at = Some(now),
            Some(Seen::Other | Seen::Incomplete | Seen::Answer(..)) | None => {}
        }
        if !self.buffer.starts_with(&outstanding.sent) {
            return self.buffer.advance(1);
        }
        let (unit, size) = (outstanding.transaction.unit, outstanding.sent.len());
        self.buffer.advance(size);
        self.is_echoing = true;
        if self.echo == Echo::No {
            self.advise(unit, Advice::Echo);
        }
    }

    /// Holds what comes in against what must come back first. `Some(None)`: not all of it is there.
    fn take_echo(&mut self, now: Instant) -> Option<Option<Done>> {
        let outstanding = self.outstanding.first_mut().filter(|outstanding| outstanding.comes_back)?;
        let echo = &outstanding.sent;
        if echo.starts_with(&self.buffer) && self.buffer.len() < echo.len() {
            return Some(None);
        }
        outstanding.comes_back = false;
        if self.buffer.starts_with(echo) {
            self.buffer.advance(echo.len());
            return None;
        }
        self.link.collisions.add(1);
        if !outstanding.transaction.is_write() {
            return None;
        }
        // the answer to a write looks like its echo: which of them comes now, nobody knows
        let outstanding = self.outstanding.swap_remove(0);
        self.buffer.clear();
        Some(Some(outstanding.done(Err(Fault::Garbled), now)))
    }

    /// Takes the late answer of a resting unit; that unit has nothing more to say.
    fn skip_late(&mut self, now: Instant) -> bool {
        for resting in &mut self.resting {
            if let Seen::Answer(_, size) = resting.transaction.look(&self.buffer) {
                self.buffer.advance(size);
                resting.until = resting.until.min(now + AFTERMATH);
                resting.counters.late.add(1);
                self.late.push(resting.transaction.unit);
                return true;
            }
        }
        false
    }

    fn may_become_late(&self) -> bool {
        self.resting.iter().any(|resting| resting.transaction.look(&self.buffer) == Seen::Incomplete)
    }
}

#[cfg(test)]
mod tests;
