//! The client of one stream: opens it, keeps the line's silences, sends requests of whatever protocol, hears the ends of
//! them. Requests of Modbus may be outstanding side by side; one of another protocol is outstanding alone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf as _, BytesMut};
use tokio::time::timeout_at;
use tracing::{trace, warn};

use super::exchange::{self, Progress};
use super::modbus::conversation::{Call, Conversation, Done};
use super::modbus::pdu::{self, RequestError};
use crate::clock;
use crate::config::site::{self, Echo, Framing, SerialLine};
use crate::counters::{Counters, DeviceCounters, LinkCounters};
use crate::driver::serial::ask::Listener;
use crate::driver::{Answer, Fault};
use crate::link::{Link, LinkError, timing};
use crate::reading::{Quality, Timestamp};
use crate::scan::Raw;
use crate::tag::UnitId;

/// So many timeouts one after the other and a TCP connection of ours is opened anew: its far end may be gone without a
/// word. Not while the unit that was heard last has not missed one itself: others may be dead behind a gateway that is
/// not.
const TIMEOUTS_MAX: u32 = 3;
/// A line that is never silent is spoken on all the same after so long: its devices are not lost with the one that babbles.
const BABBLE_MAX: Duration = Duration::from_secs(1);

/// Talks to the devices on one stream.
#[derive(Debug)]
pub struct Client {
    link: Link,
    name: Arc<str>,
    framing: Framing,
    in_flight: usize,
    /// The silence before each request.
    gap: Duration,
    conversation: Conversation,
    /// After opening, what was asked before may still be answered until then.
    settled_at: Option<Instant>,
    /// When the last byte went or came.
    last_byte: Option<Instant>,
    /// Since when a request has waited for the line to be silent.
    waiting_since: Option<Instant>,
    /// Since when requests have been under way without a pause.
    busy_since: Option<Instant>,
    timeouts: u32,
    /// The unit that was heard last on this stream; `None` where none was, or it was silent since.
    heard: Option<UnitId>,
    /// The write that is not answered yet: one at a time.
    writing: Option<usize>,
    /// The stream was closed from here, and that has not been told yet.
    is_untold: bool,
    /// The request of another protocol that is outstanding.
    exchange: Option<Running>,
    /// Whether what is sent comes back.
    echo: Echo,
    has_advised: bool,
    /// Who sends by itself, and what of it has not been told yet.
    listeners: Vec<Hearing>,
    heard_unasked: VecDeque<Unasked>,
    counters: Arc<Counters>,
    link_counters: Arc<LinkCounters>,
}

/// A request of another protocol than Modbus that is outstanding.
#[derive(Debug)]
struct Running {
    call: exchange::Call,
    unit: UnitId,
    sent_at: Instant,
    deadline: Instant,
    /// What both frames need on the wire.
    wire: Duration,
    /// What is to be sent next, where the answer goes on.
    follow_up: Option<Vec<u8>>,
    buffer: BytesMut,
    /// What was sent and may come back before the answer; empty: it does not, or has.
    echo: Vec<u8>,
    has_echoed: bool,
}

impl Running {
    /// What came in, without what was sent and has come back; nothing while that cannot be told yet.
    fn take_input(&mut self) -> BytesMut {
        if self.echo.is_empty() {
            return self.buffer.split();
        }
        if self.buffer.len() < self.echo.len() && self.echo.starts_with(&self.buffer) {
            return BytesMut::new();
        }
        if self.buffer.starts_with(&self.echo) {
            self.has_echoed = true;
            self.buffer.advance(self.echo.len());
        }
        self.echo.clear();
        self.buffer.split()
    }
}

/// A request for a device on the stream.
#[derive(Debug)]
pub enum Request {
    /// Of Modbus; with speed and frame of the line for this device, where they are not those of the link.
    Modbus(Call, Option<SerialLine>),
    /// Of another protocol, for the device that counts as this unit.
    Other(UnitId, exchange::Call),
}

impl Request {
    /// Who asks: the end of the request names it.
    #[must_use]
    pub const fn ticket(&self) -> usize {
        match self {
            Request::Modbus(call, _) => call.ticket,
            Request::Other(_, call) => call.ticket,
        }
    }
}

/// A device that sends by itself.
#[derive(Debug)]
pub struct Hearing {
    /// Which, by a number.
    pub device: usize,
    /// What hears it.
    pub listener: Listener,
    /// Of the device.
    pub counters: Arc<DeviceCounters>,
}

/// What a device has sent by itself.
#[derive(Debug)]
pub struct Unasked {
    /// Which, by the number that it was given.
    pub device: usize,
    /// The value of each of its tags.
    pub values: Vec<Result<Raw, Quality>>,
}

/// What a client hears.
#[derive(Debug)]
pub enum Event {
    /// What nobody has asked for.
    Unasked(Unasked),
    /// A request has come to its end.
    Done(Done),
    /// The answer of this unit came after it had been given up.
    Late(UnitId),
    /// The stream is gone, and with it the answers to the requests with these tickets.
    Lost(Vec<usize>, Fault),
}

impl Client {
    /// A client of `link` over `stream`.
    #[must_use]
    pub fn new(
        stream: Link,
        link: &site::Link,
        counters: Arc<Counters>,
        link_counters: Arc<LinkCounters>,
    ) -> Client {
        let conversation =
            Conversation::new(link.framing, link.echo, fastrand::u16(..), link_counters.clone());
        let least = stream.line().filter(|_| link.framing != Framing::Tcp).map(timing::frame_gap);
        Client {
            gap: link.gap.unwrap_or_default().max(least.unwrap_or_default()),
            link: stream,
            name: link.name.clone(),
            framing: link.framing,
            in_flight: if link.framing == Framing::Tcp { link.in_flight.into() } else { 1 },
            conversation,
            settled_at: None,
            last_byte: None,
            waiting_since: None,
            busy_since: None,
            timeouts: 0,
            heard: None,
            writing: None,
            is_untold: false,
            exchange: None,
            echo: link.echo,
            has_advised: false,
            listeners: Vec::new(),
            heard_unasked: VecDeque::new(),
            counters,
            link_counters,
        }
    }

    /// Of whatever protocol: one request is outstanding at a time.
    #[must_use]
    pub fn one_at_a_time(self) -> Client {
        Client { in_flight: 1, ..self }
    }

    /// Whether the stream is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.link.is_open()
    }

    /// Opens the stream. May be dropped and called again. Where there are no transaction ids, `settle` must pass before
    /// the first request: what was asked before the opening may still be answered.
    ///
    /// # Errors
    /// Where it cannot be opened now; the next call waits and tries again.
    pub async fn open(&mut self, settle: Duration) -> Result<(), LinkError> {
        self.link.open().await?;
        let now = clock::monotonic();
        self.counters.connects.add(1);
        self.timeouts = 0;
        self.heard = None;
        self.last_byte = Some(now);
        self.settled_at = (self.framing != Framing::Tcp).then(|| now + settle);
        self.waiting_since = None;
        self.is_untold = false;
        self.listeners.iter_mut().for_each(|hearing| hearing.listener.restart(now));
        Ok(())
    }

    /// Closes the stream.
    pub fn close(&mut self) {
        self.conversation.abandon();
        self.exchange = None;
        self.is_untold = false;
        self.link.close();
    }

    /// Hears also what devices send by themselves, each by a number.
    #[must_use]
    pub fn hearing(self, listeners: Vec<Hearing>) -> Client {
        Client { listeners, ..self }
    }

    /// Whether any device sends by itself: whoever waits for that keeps the stream open.
    #[must_use]
    pub fn hears_unasked(&self) -> bool {
        !self.listeners.is_empty()
    }

    fn outstanding(&self) -> usize {
        self.conversation.outstanding() + usize::from(self.exchange.is_some())
    }

    /// Whether [`Client::next`] has anything to wait for.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        self.link.is_open() || self.outstanding() > 0 || self.is_untold
    }

    /// When the last byte came or went, or the stream was opened; `None` while something is outstanding.
    #[must_use]
    pub fn idle_since(&self) -> Option<Instant> {
        self.last_byte.filter(|_| self.link.is_open() && self.outstanding() == 0)
    }

    /// Whether one more request may be outstanding.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.link.is_open() && self.outstanding() < self.in_flight
    }

    /// From when on a request may be sent to a unit that needs a silence of `gap` itself: when the line has been silent
    /// for so long. Asked by whoever wants to send now.
    pub fn ready_at(&mut self, gap: Option<Duration>, now: Instant) -> Instant {
        let gap = gap.map_or(self.gap, |gap| gap.max(self.gap_least()));
        let silent_at = self.last_byte.map_or(now, |at| at + gap).max(now);
        if silent_at > now {
            let patience = *self.waiting_since.get_or_insert(now) + BABBLE_MAX;
            return silent_at.min(patience).max(self.settled_at.unwrap_or(now));
        }
        self.waiting_since = None;
        self.settled_at.unwrap_or(now).max(now)
    }

    /// What the framing itself needs, whatever the configuration says.
    fn gap_least(&self) -> Duration {
        let line = self.link.line().filter(|_| self.framing != Framing::Tcp);
        line.map_or(Duration::ZERO, timing::frame_gap)
    }

    /// Until when `unit` must be left alone, because it may still answer what has been given up.
    #[must_use]
    pub fn rests_until(&self, unit: UnitId, any_unit: bool, now: Instant) -> Option<Instant> {
        self.conversation.rests_until(unit, any_unit, now)
    }

    /// Sends a request; its end comes out of [`Client::next`].
    ///
    /// # Errors
    /// Where the request is not allowed and was not sent. A stream that fails now is told by [`Client::next`].
    pub async fn send(&mut self, request: Request) -> Result<(), RequestError> {
        let line = match &request {
            Request::Modbus(_, line) => *line,
            Request::Other(_, call) => call.line,
        };
        self.link.set_line(line);
        match request {
            Request::Modbus(call, _) => self.send_modbus(call).await,
            Request::Other(unit, call) => {
                self.send_other(unit, call).await;
                Ok(())
            }
        }
    }

    /// What came in before is nobody's answer.
    async fn drop_unasked(&mut self) {
        self.conversation.drop_unasked();
        if self.link.discard_input().await > 0 {
            self.link_counters.unasked.add(1);
        }
    }

    async fn send_other(&mut self, unit: UnitId, call: exchange::Call) {
        self.drop_unasked().await;
        let wire = self
            .link
            .line()
            .map_or(Duration::ZERO, |line| timing::wire_time(line, call.exchange.wire_size()));
        if !call.exchange.is_answered() {
            // a time that comes late is wrong: whatever closes the stream, the system shall not send it then
            self.writing = Some(call.ticket);
            self.link.set_hard_close(true);
        }
        let wire_ms = u64::try_from(wire.as_millis()).unwrap_or(u64::MAX);
        let over_at = clock::of_system().millis().saturating_add(wire_ms);
        let bytes = call.exchange.request(Timestamp::from_millis(over_at));
        let now = clock::monotonic();
        call.counters.requests.add(1);
        self.settled_at = None;
        self.waiting_since = None;
        self.busy_since.get_or_insert(now);
        trace!(link = %self.name, ?bytes, "sent");
        let deadline = now + call.timeout + wire;
        self.exchange = Some(Running {
            call,
            unit,
            sent_at: now,
            deadline,
            wire,
            follow_up: None,
            buffer: BytesMut::new(),
            echo: if self.echo == Echo::No { Vec::new() } else { bytes.clone() },
            has_echoed: false,
        });
        self.link.write(&bytes).await.ok(); // a fault is told by the read that follows
        self.last_byte = Some(clock::monotonic());
    }

    async fn send_modbus(&mut self, call: Call) -> Result<(), RequestError> {
        if self.framing != Framing::Tcp {
            self.drop_unasked().await;
        }
        // the time that both frames need on the wire is not the device's
        let wire_time = |line| timing::wire_time(line, self.conversation.wire_size(&call.request));
        let wire = self.link.line().map_or(Duration::ZERO, wire_time);
        let now = clock::monotonic();
        let (ticket, is_write) = (call.ticket, pdu::is_write(&call.request));
        let bytes = self.conversation.begin(call, wire, now)?;
        if is_write {
            // whatever closes the stream before the answer, the system shall not send it later
            self.writing = Some(ticket);
            self.link.set_hard_close(true);
        }
        self.settled_at = None;
        self.waiting_since = None;
        self.busy_since.get_or_insert(now);
        trace!(link = %self.name, ?bytes, "sent");
        self.link.write(bytes).await.ok(); // a fault is told by the read that follows
        self.last_byte = Some(clock::monotonic());
        Ok(())
    }

    /// The request with this ticket is waited for no longer: its end comes out of [`Client::next`] at once.
    pub fn give_up(&mut self, ticket: usize) {
        self.conversation.give_up(ticket);
        if let Some(running) = self.exchange.as_mut().filter(|running| running.call.ticket == ticket) {
            running.deadline = running.sent_at;
        }
    }

    /// Waits for the end of a request, or of the stream. May be dropped and called again. What comes in unasked is
    /// counted and dropped.
    pub async fn next(&mut self) -> Event {
        loop {
            if let Some(unasked) = self.heard_unasked.pop_front() {
                return Event::Unasked(unasked);
            }
            if !self.listeners.is_empty() && self.outstanding() == 0 {
                match self.listen().await {
                    Some(event) => return event,
                    None => continue,
                }
            }
            if self.exchange.is_some() {
                match self.next_of_exchange().await {
                    Some(event) => return event,
                    None => continue,
                }
            }
            let taken = self.conversation.take(clock::monotonic());
            if let (Ok(None), Some(unit)) = (&taken, self.conversation.take_late()) {
                return Event::Late(unit);
            }
            match taken {
                Ok(Some(done)) => return self.done(done),
                Ok(None) => {}
                Err(fault) => {
                    self.link.reject();
                    return self.lost(fault);
                }
            }
            while let Some((unit, advice)) = self.conversation.take_advice() {
                warn!(link = %self.name, %unit, "{}", advice.text());
            }
            let deadline = self.conversation.deadline();
            let read = self.link.read(self.conversation.buffer());
            let read = match deadline {
                Some(deadline) => timeout_at(deadline.into(), read).await.ok(),
                None => Some(read.await),
            };
            let now = clock::monotonic();
            match read {
                Some(Ok(count)) => {
                    trace!(link = %self.name, count, "received");
                    self.last_byte = Some(now);
                }
                Some(Err(error)) => return self.lost(error.into()),
                None => {
                    if let Some(done) = self.conversation.expire(now) {
                        return self.done(done);
                    }
                }
            }
        }
    }

    /// Waits for what devices send by themselves; `None`: nothing that is worth telling. May be dropped and called again.
    async fn listen(&mut self) -> Option<Event> {
        let due = self.listeners.iter().filter_map(|hearing| hearing.listener.next_due()).min();
        let read = self.link.read(self.conversation.buffer());
        let read = match due {
            Some(due) => timeout_at(due.into(), read).await.ok(),
            None => Some(read.await),
        };
        let now = clock::monotonic();
        if let Some(Err(error)) = read {
            return Some(self.lost(error.into()));
        }
        if read.is_some() {
            self.last_byte = Some(now);
            self.link.answered();
        }
        let bytes = self.conversation.buffer().split();
        for Hearing { device, listener, counters } in &mut self.listeners {
            let before = listener.noise();
            for values in listener.take(&bytes, now) {
                self.heard_unasked.push_back(Unasked { device: *device, values });
            }
            let noise = listener.noise();
            counters.checksum_errors.add(noise.checksum - before.checksum);
            counters.foreign.add(noise.foreign - before.foreign);
        }
        None
    }

    /// Waits for what comes next of the exchange; `None`: it goes on. May be dropped and called again.
    async fn next_of_exchange(&mut self) -> Option<Event> {
        let running = self.exchange.as_mut()?;
        if let Some(bytes) = running.follow_up.take() {
            running.deadline = clock::monotonic() + running.call.timeout + running.wire;
            running.echo = if self.echo == Echo::No { Vec::new() } else { bytes.clone() };
            self.link.write(&bytes).await.ok(); // a fault is told by the read that follows
        }
        let due = running.call.exchange.next_due();
        let until = due.map_or(running.deadline, |due| due.min(running.deadline));
        let read = timeout_at(until.into(), self.link.read(&mut running.buffer)).await;
        let now = clock::monotonic();
        let progress = match read {
            Ok(Err(error)) => return Some(self.lost(error.into())),
            Ok(Ok(count)) => {
                trace!(link = %self.name, count, "received");
                self.last_byte = Some(now);
                match running.take_input() {
                    bytes if bytes.is_empty() => Progress::Wait,
                    bytes => running.call.exchange.take(&bytes, now),
                }
            }
            Err(_) if due.is_some_and(|due| due <= now) => running.call.exchange.take(&[], now),
            // a short answer may look like the beginning of an echo
            Err(_) if !running.buffer.is_empty() => {
                running.echo.clear();
                let bytes = running.buffer.split();
                running.call.exchange.take(&bytes, now)
            }
            Err(_) => Progress::Wait,
        };
        match progress {
            Progress::Done(answer) => Some(self.end_exchange(Ok(answer), now)),
            Progress::Send(bytes) => {
                running.follow_up = Some(bytes);
                None
            }
            Progress::Wait if running.deadline <= now => {
                let is_missed = running.call.exchange.is_answered();
                let result = if is_missed { Err(Fault::Silent) } else { Ok(Answer::Unanswered) };
                Some(self.end_exchange(result, now))
            }
            Progress::Wait => None,
        }
    }

    fn end_exchange(&mut self, result: Result<Answer, Fault>, now: Instant) -> Event {
        let Some(running) = self.exchange.take() else { return Event::Lost(Vec::new(), Fault::Silent) };
        let Running { call, unit, sent_at, wire, has_echoed, .. } = running;
        if result.is_err() && has_echoed && !std::mem::replace(&mut self.has_advised, true) {
            warn!(link = %self.name, "what is sent comes back and nothing else: where that is the answer, set `echo = false` on this link");
        }
        let took = now.saturating_duration_since(sent_at).saturating_sub(wire);
        let noise = call.exchange.noise();
        call.counters.checksum_errors.add(noise.checksum);
        call.counters.foreign.add(noise.foreign);
        match &result {
            Ok(Answer::Unanswered) => {}
            Ok(_) => call.counters.replies.add(took),
            Err(_) => call.counters.timeouts.add(1),
        }
        self.done(Done { ticket: call.ticket, unit, result, took })
    }

    fn lost(&mut self, fault: Fault) -> Event {
        self.end_busy();
        self.writing = None;
        self.is_untold = false;
        let mut tickets = self.conversation.abandon();
        tickets.extend(self.exchange.take().map(|running| running.call.ticket));
        Event::Lost(tickets, fault)
    }

    fn done(&mut self, done: Done) -> Event {
        match done.result {
            Ok(Answer::Unanswered) => {} // nothing of anybody is known by it
            Err(Fault::Silent) => {
                self.timeouts += 1;
                self.heard.take_if(|unit| *unit == done.unit);
            }
            Ok(_) | Err(_) => (self.timeouts, self.heard) = (0, Some(done.unit)),
        }
        let is_heard = !matches!(done.result, Ok(Answer::Unanswered) | Err(_));
        if is_heard {
            self.link.answered();
        }
        if self.link.is_ours_to_reopen() && self.timeouts >= TIMEOUTS_MAX && self.heard.is_none() {
            self.hang_up();
        }
        if self.writing.take_if(|ticket| *ticket == done.ticket).is_some() {
            if !is_heard && self.link.is_network() {
                self.hang_up(); // hard, before anybody is told
            }
            self.link.set_hard_close(false);
        }
        if self.outstanding() == 0 {
            self.end_busy();
        }
        Event::Done(done)
    }

    /// Closes the stream; the next read tells.
    fn hang_up(&mut self) {
        self.link.close();
        self.is_untold = true;
    }

    fn end_busy(&mut self) {
        if let Some(since) = self.busy_since.take() {
            self.link_counters.busy.add(clock::monotonic().saturating_duration_since(since));
        }
    }
}
