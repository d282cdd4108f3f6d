//! The bus: the one task that talks on a stream. It asks for what is due, earliest deadline first, and says what it got.
//!
//! One loop: wait for something to happen, take it in, start what is due, send what may be sent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;
use tokio_modbus::{ExceptionCode, Response};
use tracing::{debug, info, warn};

use super::health::Action;
use super::lane::{Write, WriteError};
use super::learned::Refusal;
use super::memory::Memory;
use super::schedule::Schedule;
use super::station::{Ask, Station, Swept};
use crate::clock::{self, Alarm};
use crate::config::site::{Channel, Site};
use crate::counters::{Counters, DeviceCounters};
use crate::driver::modbus::client::{Client, Event};
use crate::driver::modbus::conversation::{Call, Done};
use crate::driver::modbus::pdu::{read_request, write_request};
use crate::driver::modbus::transaction::Tolerance;
use crate::driver::{Answer, Fault};
use crate::link::{Link, LinkError};
use crate::reading::Quality;
use crate::scan::{Data, Part, Polled, Scan};
use crate::tag::{Area, UnitId};

/// How long a busy device is left alone before the same request is sent again (exception 6).
const BUSY_WAIT: Duration = Duration::from_millis(200);
/// As [`BUSY_WAIT`], for a device that has begun something long (exception 5).
const ACKNOWLEDGE_WAIT: Duration = Duration::from_millis(500);
/// So often a device may be busy before its tags are bad.
const BUSY_MAX: u8 = 5;
/// The most of a line's time that is spent on devices that do not answer, as long as there are others on it.
const PROBES_SHARE_MAX: f64 = 0.15;
/// How long requests under way may take after the bus was told to stop.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// A link that is not open again after so long is down: its tags are bad.
const DOWN_AFTER: Duration = Duration::from_millis(500);

/// Reads the devices of one stream.
#[derive(Debug)]
pub struct Bus {
    client: Client,
    stations: Vec<Station>,
    counters: Vec<Arc<DeviceCounters>>,
    schedule: Schedule,
    /// For each slot of the schedule: which group of which station.
    slots: Vec<(usize, usize)>,
    /// For each ticket: what is under way.
    under_way: Vec<Option<UnderWay>>,
    /// What is to be written next.
    write: Option<Write>,
    writes: mpsc::Receiver<Write>,
    /// When a link that is not open counts as down; `None` where it is open, down already, or closed at rest.
    down_at: Option<Instant>,
    /// The link was closed because nothing was to be asked.
    is_at_rest: bool,
    idle_close: Option<Duration>,
    /// Of a serial line: its silences are not to last longer than they must.
    alarm: Option<Alarm>,
    out: mpsc::Sender<Polled>,
    memory: Memory,
}

/// A request that was sent.
#[derive(Debug)]
enum UnderWay {
    Read {
        station: usize,
        ask: Ask,
        /// A probe is given up after this where others are due.
        yields_at: Option<Instant>,
    },
    Write {
        station: usize,
        write: Write,
    },
}

/// Whoever took the scans is gone: the bus ends.
#[derive(Debug)]
struct Closed;

/// What the bus was waiting for.
enum Woken {
    Stop,
    Heard(Event),
    Opened(Result<(), LinkError>),
    Write(Write),
    Due,
}

/// What may be sent.
enum Choice {
    Read(usize),
    Write(usize),
    /// Nothing before then.
    Later(Option<Instant>),
}

/// What an answer, or its absence, means.
enum Outcome {
    /// All that was asked for.
    Data(Data),
    /// The device refuses these addresses: perhaps one of them only.
    Refused(Refusal),
    /// The device wants to be asked again later.
    Busy(Duration),
    /// The device answers, but gives no value.
    Bad(Quality),
    /// Nothing usable came: worth asking again.
    Unheard(Quality),
    /// The device answered something else: worth asking again.
    Garbled,
    /// The device cannot be reached.
    Missed(Quality),
}

/// What a bus needs from outside.
#[derive(Debug)]
pub struct Ports {
    /// Where scans go.
    pub out: mpsc::Sender<Polled>,
    /// Where writes come from.
    pub writes: mpsc::Receiver<Write>,
    /// What devices refused, over restarts.
    pub memory: Memory,
    /// What happens is counted there.
    pub counters: Arc<Counters>,
}

impl Bus {
    /// A bus for `channel` of `site`, which goes over `link`.
    #[must_use]
    pub fn new(site: &Site, channel: &Channel, link: Link, ports: Ports) -> Option<Bus> {
        let link_of_site = site.links.get(channel.link)?;
        let devices = channel.devices.iter().filter_map(|id| site.devices.get(id.index()));
        let counters_of =
            |id: &crate::tag::DeviceId| ports.counters.devices.get(id.index()).cloned().unwrap_or_default();
        let link_counters = ports.counters.links.get(channel.link).cloned().unwrap_or_default();
        let alarm = link.line().map(|_| Alarm::default());
        let client = Client::new(link, link_of_site, ports.counters.clone(), link_counters);
        let mut bus = Bus {
            client,
            stations: Vec::new(),
            counters: channel.devices.iter().map(counters_of).collect(),
            schedule: Schedule::default(),
            slots: Vec::new(),
            under_way: Vec::new(),
            write: None,
            writes: ports.writes,
            down_at: Some(clock::monotonic() + DOWN_AFTER),
            is_at_rest: false,
            idle_close: link_of_site.idle_close,
            alarm,
            out: ports.out,
            memory: ports.memory,
        };
        let now = clock::monotonic();
        for device in devices {
            let learned = bus.memory.of(device);
            bus.add(Station::new(device, site.tags_of(device), link_of_site, learned), now);
        }
        Some(bus)
    }

    fn add(&mut self, mut station: Station, now: Instant) {
        let index = self.stations.len();
        for (number, group) in station.groups.iter_mut().enumerate().filter(|_| station.device.enabled) {
            group.slot = self.schedule.add(group.every, now);
            self.slots.push((index, number));
        }
        self.stations.push(station);
    }

    /// Reads until it is told to stop; what is under way may come to its end.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        if self.say_out_of_service().await.is_err() {
            return;
        }
        loop {
            let now = clock::monotonic();
            self.start_due(now);
            let taken_in = match self.send_ready(now).await {
                Err(closed) => Err(closed),
                Ok(until) => {
                    let woken = self.wait(until, &mut stop).await;
                    if matches!(woken, Woken::Stop) {
                        break;
                    }
                    self.take_in(woken).await
                }
            };
            if taken_in.is_err() {
                return;
            }
        }
        tokio::time::timeout(STOP_GRACE, self.finish()).await.ok(); // what is not answered by then is not waited for
    }

    /// Hears what is under way to its end.
    async fn finish(&mut self) {
        while self.under_way.iter().any(Option::is_some) {
            let event = self.client.next().await;
            if self.take_in(Woken::Heard(event)).await.is_err() {
                return;
            }
        }
    }

    async fn wait(&mut self, until: Option<Instant>, stop: &mut watch::Receiver<bool>) -> Woken {
        let due = self.next_due(until, clock::monotonic());
        let is_listening = self.client.is_listening();
        let wants_open = !self.client.is_open() && !self.is_at_rest;
        let settle = self.stations.iter().map(|station| station.device.timeout).max().unwrap_or_default();
        let client = &mut self.client;
        let stream = async {
            if is_listening {
                Woken::Heard(client.next().await)
            } else if wants_open {
                Woken::Opened(client.open(settle).await)
            } else {
                std::future::pending().await
            }
        };
        // every arm may be dropped at any time: what it has begun goes on at the next call
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => Woken::Stop,
            woken = stream => woken,
            Some(write) = self.writes.recv(), if self.write.is_none() => Woken::Write(write),
            () = rest_until(due, &mut self.alarm) => Woken::Due,
        }
    }

    /// When there is something to do by itself.
    fn next_due(&self, until: Option<Instant>, now: Instant) -> Option<Instant> {
        // what is due already waits for the line, and `until` says for how long
        let probes = self.stations.iter().filter_map(|station| station.probe_at).filter(|at| *at > now);
        let write = self.write.as_ref().map(|write| write.not_after);
        let polls = self.schedule.next().map(|(_, due)| due);
        let rest = self.idle_close.and_then(|wait| Some(self.client.idle_since()? + wait));
        probes.chain(until).chain(write).chain(polls).chain(self.down_at).chain(rest).min()
    }

    async fn take_in(&mut self, woken: Woken) -> Result<(), Closed> {
        let now = clock::monotonic();
        match woken {
            Woken::Heard(Event::Done(done)) => self.done(done, now).await,
            Woken::Heard(Event::Late(unit)) => {
                self.came_late(unit, now);
                Ok(())
            }
            Woken::Heard(Event::Lost(tickets, fault)) => self.lost(tickets, &fault, now).await,
            Woken::Opened(Ok(())) => {
                self.opened(now);
                Ok(())
            }
            Woken::Opened(Err(error)) => {
                debug!(%error, "not open");
                self.down(now).await
            }
            Woken::Write(write) => {
                self.write = Some(write);
                Ok(())
            }
            Woken::Due | Woken::Stop => self.be_late(now).await,
        }
    }

    /// What happens because nothing else did: the link counts as down, is closed at rest, a write is too late.
    async fn be_late(&mut self, now: Instant) -> Result<(), Closed> {
        if let Some(write) = self.write.take_if(|write| write.not_after <= now) {
            write.outcome.send(Err(WriteError::TooLate)).ok(); // whoever asked may be gone
        }
        let is_over = |since: Instant| self.idle_close.is_some_and(|wait| since + wait <= now);
        if self.client.idle_since().is_some_and(is_over) {
            debug!("closed: not a byte for so long");
            self.client.close();
            self.is_at_rest = true;
        }
        if self.down_at.is_some_and(|at| at <= now) { self.down(now).await } else { Ok(()) }
    }

    // -- what is due

    fn start_due(&mut self, now: Instant) {
        let mut due: BTreeMap<usize, (Vec<usize>, Instant)> = BTreeMap::new();
        while let Some((slot, at)) = self.schedule.next().filter(|(_, at)| *at <= now) {
            self.schedule.park(slot);
            let Some((station, group)) = self.slots.get(slot) else { continue };
            let (groups, first) = due.entry(*station).or_insert_with(|| (Vec::new(), at));
            groups.push(*group);
            *first = at.min(*first);
        }
        for (index, (mut groups, at)) in due {
            let Some(station) = self.stations.get_mut(index) else { continue };
            groups.sort_unstable();
            if station.forget(clock::wall()) {
                debug!(device = %station.device.name, "what it refused is asked for once more");
            }
            station.begin(groups, at);
            while let Some(swept) = self.stations.get_mut(index).and_then(|station| station.take_empty(now)) {
                self.swept(index, &swept);
            }
        }
        let has_requests = self.stations.iter().any(|station| station.deadline(now).is_some());
        if self.is_at_rest && (has_requests || self.write.is_some()) {
            self.is_at_rest = false;
            self.down_at = Some(now + DOWN_AFTER);
        }
    }

    /// The sweep is over: its groups are due again at the next points of their grids.
    fn swept(&mut self, index: usize, swept: &Swept) {
        let Some(station) = self.stations.get(index) else { return };
        for (number, group) in
            swept.groups.iter().filter_map(|number| Some((number, station.groups.get(*number)?)))
        {
            let missed = self.schedule.done(group.slot, swept.started_at);
            let counters = self.counters.get(index).and_then(|device| device.overruns.get(*number));
            if let Some((_, overruns)) = counters {
                overruns.add(missed);
            }
        }
    }

    // -- what is sent

    /// Sends all that may be sent now; when the next may be.
    async fn send_ready(&mut self, now: Instant) -> Result<Option<Instant>, Closed> {
        self.probe_in_vain(now).await?;
        loop {
            match self.choose(now) {
                Choice::Later(until) => return Ok(until),
                Choice::Write(station) => self.send_write(station).await,
                Choice::Read(station) => self.send_read(station, now).await?,
            }
        }
    }

    /// Probes that are due while the link is down are missed without being sent.
    async fn probe_in_vain(&mut self, now: Instant) -> Result<(), Closed> {
        if self.client.is_open() || self.down_at.is_some() || self.is_at_rest {
            return Ok(());
        }
        for index in 0..self.stations.len() {
            let Some(station) = self.stations.get_mut(index) else { continue };
            if station.probe_at.take_if(|at| *at <= now).is_some() {
                let action = station.health.handle_unreachable();
                self.act(index, action, now).await?;
            }
        }
        Ok(())
    }

    /// The most urgent request that may be sent: a write before all reads, else the earliest deadline.
    fn choose(&mut self, now: Instant) -> Choice {
        if !self.client.has_room() {
            return Choice::Later(self.let_probe_yield(now));
        }
        let writes_to = self.write.as_ref().and_then(|write| self.station_of(write));
        let mut later = None;
        let mut best = None;
        for (index, station) in self.stations.iter().enumerate() {
            let is_writing = writes_to == Some(index);
            let Some(deadline) = station.deadline(now).or(is_writing.then_some(now)) else { continue };
            if station.is_exclusive() && station.asked > 0 {
                continue;
            }
            let free_at =
                station.not_before.filter(|at| *at > now).max(self.client.rests_until(station.device.unit));
            if free_at.is_some() {
                later = earliest(later, free_at);
                continue;
            }
            let urgency = (!is_writing, deadline);
            if best.is_none_or(|(_, most)| urgency < most) {
                best = Some((index, urgency));
            }
        }
        let Some((index, (is_read, _))) = best else { return Choice::Later(later) };
        let gap = self.stations.get(index).and_then(|station| station.device.quirks.gap);
        let ready_at = self.client.ready_at(gap, now);
        if ready_at > now {
            return Choice::Later(earliest(later, Some(ready_at)));
        }
        if is_read { Choice::Read(index) } else { Choice::Write(index) }
    }

    /// A probe that has had its time is given up where another device is due; when it will have had it.
    fn let_probe_yield(&mut self, now: Instant) -> Option<Instant> {
        let probe = |(ticket, under_way): (usize, &Option<UnderWay>)| match under_way {
            Some(UnderWay::Read { station, yields_at: Some(at), .. }) => Some((ticket, *station, *at)),
            _ => None,
        };
        let (ticket, probed, at) = self.under_way.iter().enumerate().find_map(probe)?;
        let mut others = self.stations.iter().enumerate().filter(|(index, _)| *index != probed);
        let is_other_due = self.write.is_some() || others.any(|(_, station)| station.has_pending());
        if !is_other_due {
            return None;
        }
        if at <= now {
            self.client.give_up(ticket);
            return None;
        }
        Some(at)
    }

    fn station_of(&self, write: &Write) -> Option<usize> {
        self.stations.iter().position(|station| station.device.id == write.device)
    }

    async fn send_read(&mut self, index: usize, now: Instant) -> Result<(), Closed> {
        let Some(station) = self.stations.get_mut(index) else { return Ok(()) };
        let Some(ask) = station.take(now) else { return Ok(()) };
        let request = read_request(ask.block.span);
        let most = station.device.timeout;
        let is_answering = station.health.is_answering();
        let timeout = if is_answering { station.latency.timeout(most) } else { most };
        let yields_at = (!is_answering).then(|| now + station.latency.probe_time(most));
        if ask.attempts > 0
            && let Some(counters) = self.counters.get(index)
        {
            counters.retries.add(1);
        }
        match self.send(UnderWay::Read { station: index, ask, yields_at }, index, request, timeout).await {
            Some(UnderWay::Read { ask, .. }) => {
                self.answered(index, &ask, Err(Quality::BadConfig), now).await
            }
            Some(UnderWay::Write { .. }) | None => Ok(()),
        }
    }

    async fn send_write(&mut self, index: usize) {
        let Some(write) = self.write.take() else { return };
        let Some(station) = self.stations.get_mut(index) else { return };
        let functions = station.device.quirks.write;
        let request = match (write.area, &write.data) {
            (Area::HoldingRegisters, Data::Words(_)) | (Area::Coils, Data::Bits(_)) => {
                write_request(write.address, &write.data, functions)
            }
            _ => None,
        };
        let timeout = station.device.timeout;
        let Some(request) = request else {
            write.outcome.send(Err(WriteError::Impossible)).ok(); // whoever asked may be gone
            return;
        };
        station.asked += 1;
        let back = self.send(UnderWay::Write { station: index, write }, index, request, timeout).await;
        if let Some(UnderWay::Write { station, write }) = back {
            if let Some(station) = self.stations.get_mut(station) {
                station.asked = station.asked.saturating_sub(1);
            }
            write.outcome.send(Err(WriteError::Impossible)).ok(); // whoever asked may be gone
        }
    }

    /// Gives back what the specification does not allow to be sent.
    async fn send(
        &mut self,
        under_way: UnderWay,
        index: usize,
        request: tokio_modbus::Request<'static>,
        timeout: Duration,
    ) -> Option<UnderWay> {
        let Some(station) = self.stations.get(index) else { return Some(under_way) };
        let quirks = &station.device.quirks;
        let ticket = self.under_way.iter().position(Option::is_none).unwrap_or(self.under_way.len());
        let call = Call {
            ticket,
            unit: station.device.unit,
            request,
            tolerance: Tolerance { any_tid: quirks.any_tid, any_unit: quirks.any_unit_reply },
            timeout,
            timeout_max: station.device.timeout,
            counters: self.counters.get(index).cloned().unwrap_or_default(),
        };
        if let Err(error) = self.client.send(call).await {
            warn!(device = %station.device.name, %error, "not asked");
            return Some(under_way);
        }
        match self.under_way.get_mut(ticket) {
            Some(slot) => *slot = Some(under_way),
            None => self.under_way.push(Some(under_way)),
        }
        None
    }

    // -- what came of it

    async fn done(&mut self, done: Done, now: Instant) -> Result<(), Closed> {
        match self.under_way.get_mut(done.ticket).and_then(Option::take) {
            None => Ok(()),
            Some(UnderWay::Write { station, write }) => {
                self.wrote(station, write, done.result);
                Ok(())
            }
            Some(UnderWay::Read { station, ask, .. }) => {
                if let Some(station) = self.stations.get_mut(station) {
                    match done.result {
                        Ok(_) => station.latency.answered(done.took),
                        Err(_) => station.latency.missed(),
                    }
                }
                self.ended(station, ask, outcome(done.result), now).await
            }
        }
    }

    /// A unit that has not answered in time is there all the same: it is given more time, and asked soon.
    fn came_late(&mut self, unit: UnitId, now: Instant) {
        for station in self.stations.iter_mut().filter(|station| station.device.unit == unit) {
            station.latency.came_late();
            if !station.health.is_answering() {
                station.probe_at = Some(now);
            }
        }
    }

    fn wrote(&mut self, index: usize, write: Write, result: Result<Answer, Fault>) {
        let Some(station) = self.stations.get_mut(index) else { return };
        station.asked = station.asked.saturating_sub(1);
        let unclear = WriteError::Unclear(station.device.timeout);
        write.outcome.send(result.map_err(|_| unclear)).ok(); // whoever asked may be gone
    }

    async fn ended(
        &mut self,
        index: usize,
        mut ask: Ask,
        outcome: Outcome,
        now: Instant,
    ) -> Result<(), Closed> {
        let Some(station) = self.stations.get_mut(index) else { return Ok(()) };
        let is_first = std::mem::take(&mut station.is_fresh);
        match outcome {
            Outcome::Data(data) => self.answered(index, &ask, Ok(data), now).await,
            Outcome::Bad(quality) => self.answered(index, &ask, Err(quality), now).await,
            Outcome::Refused(why) => self.refused(index, ask, why, now).await,
            Outcome::Busy(wait) if ask.busy < BUSY_MAX && station.is_sweeping(&ask) => {
                ask.busy += 1;
                station.not_before = Some(now + wait);
                station.give_back(ask);
                Ok(())
            }
            Outcome::Busy(_) => self.answered(index, &ask, Err(Quality::BadCommLastValueKnown), now).await,
            Outcome::Unheard(_) | Outcome::Garbled if station.may_repeat(&ask, is_first) => {
                ask.attempts += 1;
                debug!(device = %station.device.name, block = %ask.block.span, "asked again");
                station.give_back(ask);
                Ok(())
            }
            Outcome::Garbled => self.answered(index, &ask, Err(Quality::BadDecode), now).await,
            Outcome::Unheard(quality) | Outcome::Missed(quality) => {
                self.missed(index, ask, quality, now).await
            }
        }
    }

    async fn answered(
        &mut self,
        index: usize,
        ask: &Ask,
        result: Result<Data, Quality>,
        now: Instant,
    ) -> Result<(), Closed> {
        let Some(station) = self.stations.get_mut(index) else { return Ok(()) };
        if result.is_ok() {
            station.learned.answered(ask.block.span);
        }
        let action = station.health.handle_answer(ask.block.span);
        self.say_scan(ask.block.parts.clone(), result).await?;
        self.act(index, action, now).await?;
        self.end(index, ask, now).await
    }

    /// Part of the block is not there: it is read in halves from now on; a single value is bad by itself.
    async fn refused(&mut self, index: usize, ask: Ask, why: Refusal, now: Instant) -> Result<(), Closed> {
        let Some(station) = self.stations.get_mut(index) else { return Ok(()) };
        let is_halved = station.refused(&ask, why, clock::wall());
        info!(device = %station.device.name, block = %ask.block.span, ?why, is_halved, "refused");
        self.memory.keep(&station.device, &station.learned);
        if !is_halved {
            let quality = match why {
                Refusal::Silence => Quality::BadCommLastValueKnown,
                Refusal::Address | Refusal::Quantity => Quality::BadConfig,
            };
            self.say_scan(ask.block.parts.clone(), Err(quality)).await?;
        }
        if why != Refusal::Silence {
            let Some(station) = self.stations.get_mut(index) else { return Ok(()) };
            let action = station.health.handle_answer(ask.block.span);
            self.act(index, action, now).await?;
        }
        self.end(index, &ask, now).await
    }

    async fn missed(&mut self, index: usize, ask: Ask, quality: Quality, now: Instant) -> Result<(), Closed> {
        let Some(station) = self.stations.get_mut(index) else { return Ok(()) };
        if !station.is_wanted(&ask) {
            return self.end(index, &ask, now).await;
        }
        let action = station.health.handle_miss(ask.block.span);
        if action == Action::Isolate {
            self.say_scan(ask.block.parts.clone(), Err(quality)).await?;
            return self.refused(index, ask, Refusal::Silence, now).await;
        }
        let all = station.all.clone();
        self.say_scan(all, Err(quality)).await?;
        self.end(index, &ask, now).await?;
        self.act(index, action, now).await
    }

    /// The request is over, and perhaps its sweep.
    async fn end(&mut self, index: usize, ask: &Ask, now: Instant) -> Result<(), Closed> {
        let Some(swept) = self.stations.get_mut(index).and_then(|station| station.ended(ask, now)) else {
            return Ok(());
        };
        self.swept(index, &swept);
        let station = self.stations.get_mut(index).filter(|_| swept.is_all);
        let Some(action) = station.map(|station| station.health.handle_swept()) else { return Ok(()) };
        self.act(index, action, now).await
    }

    async fn act(&mut self, index: usize, action: Action, now: Instant) -> Result<(), Closed> {
        let Some(station) = self.stations.get(index) else { return Ok(()) };
        let device = station.device.id;
        match action {
            Action::Carry | Action::Isolate => Ok(()),
            Action::Announce => {
                info!(device = %station.device.name, "device online");
                self.say(Polled::DeviceUp(device)).await
            }
            Action::Resume => {
                for group in &station.groups {
                    self.schedule.wake(group.slot, now);
                }
                Ok(())
            }
            Action::Suspend => {
                self.suspend(index, now);
                Ok(())
            }
            Action::Withdraw => {
                warn!(device = %station.device.name, "device offline");
                self.suspend(index, now);
                self.say(Polled::DeviceDown(device, clock::wall())).await
            }
        }
    }

    /// Nothing of the device goes on but a probe.
    fn suspend(&mut self, index: usize, now: Instant) {
        let gone = self.stations.iter().filter(|station| station.health.is_gone());
        let cost: Duration = gone.map(|station| station.device.timeout).sum();
        let is_alone = self.stations.len() == 1;
        let is_open = self.client.is_open();
        let Some(station) = self.stations.get_mut(index) else { return };
        station.give_up();
        for group in &station.groups {
            self.schedule.park(group.slot);
        }
        let mut wait = station.health.probe_wait(station.every());
        if station.health.is_gone() && !is_alone {
            wait = wait.max(cost.mul_f64(1.0 / PROBES_SHARE_MAX));
        }
        // of a device that is gone behind a link that is down nothing more can be learned
        station.probe_at = (is_open || !station.health.is_gone()).then(|| now + wait);
    }

    // -- the link

    fn opened(&mut self, now: Instant) {
        self.down_at = None;
        for station in &mut self.stations {
            let ready_at = now + station.device.quirks.connect_delay;
            station.is_fresh = true;
            station.not_before = Some(ready_at);
            if !station.health.is_answering() {
                station.health.handle_open();
                station.probe_at = Some(ready_at);
            }
        }
    }

    /// The stream is gone; it is opened again at once. What was under way is asked again.
    async fn lost(&mut self, tickets: Vec<usize>, fault: &Fault, now: Instant) -> Result<(), Closed> {
        self.down_at = Some(now + DOWN_AFTER);
        let quality =
            if matches!(fault, Fault::OutOfStep) { Quality::BadDecode } else { Quality::BadNotConnected };
        for ticket in tickets {
            match self.under_way.get_mut(ticket).and_then(Option::take) {
                None => {}
                Some(UnderWay::Write { station, write }) => self.wrote(station, write, Err(Fault::Silent)),
                Some(UnderWay::Read { station, ask, .. }) => {
                    self.ended(station, ask, Outcome::Unheard(quality), now).await?;
                }
            }
        }
        Ok(())
    }

    /// The link is down: no tag of it has a value.
    async fn down(&mut self, now: Instant) -> Result<(), Closed> {
        if self.down_at.take().is_none() {
            return Ok(());
        }
        for index in 0..self.stations.len() {
            let Some(station) = self.stations.get_mut(index).filter(|station| station.device.enabled) else {
                continue;
            };
            let all = station.all.clone();
            let action = if station.health.is_answering() {
                station.health.handle_unreachable()
            } else {
                Action::Suspend
            };
            self.say_scan(all, Err(Quality::BadNotConnected)).await?;
            self.act(index, action, now).await?;
        }
        Ok(())
    }

    // -- what is said

    async fn say_out_of_service(&mut self) -> Result<(), Closed> {
        let disabled = self.stations.iter().filter(|station| !station.device.enabled);
        let parts: Vec<Arc<[Part]>> = disabled.map(|station| station.all.clone()).collect();
        for all in parts {
            self.say_scan(all, Err(Quality::BadOutOfService)).await?;
        }
        Ok(())
    }

    async fn say_scan(&mut self, parts: Arc<[Part]>, result: Result<Data, Quality>) -> Result<(), Closed> {
        self.say(Polled::Scan(Scan { parts, result, at: clock::wall() })).await
    }

    async fn say(&mut self, polled: Polled) -> Result<(), Closed> {
        self.out.send(polled).await.map_err(|_| Closed)
    }
}

fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    a.into_iter().chain(b).min()
}

fn outcome(result: Result<Answer, Fault>) -> Outcome {
    match result {
        Ok(Answer::Response(response)) => {
            data(response).map_or(Outcome::Bad(Quality::BadDecode), Outcome::Data)
        }
        Ok(Answer::Exception(code)) => match code {
            ExceptionCode::IllegalDataAddress => Outcome::Refused(Refusal::Address),
            ExceptionCode::IllegalDataValue => Outcome::Refused(Refusal::Quantity),
            ExceptionCode::IllegalFunction => Outcome::Bad(Quality::BadConfig),
            ExceptionCode::Acknowledge => Outcome::Busy(ACKNOWLEDGE_WAIT),
            ExceptionCode::ServerDeviceBusy => Outcome::Busy(BUSY_WAIT),
            // a gateway answers for a device that does not
            ExceptionCode::GatewayPathUnavailable | ExceptionCode::GatewayTargetDevice => {
                Outcome::Missed(Quality::BadCommLastValueKnown)
            }
            ExceptionCode::ServerDeviceFailure
            | ExceptionCode::MemoryParityError
            | ExceptionCode::Custom(_) => Outcome::Bad(Quality::BadDeviceFailure),
        },
        Err(Fault::Refused(_)) => Outcome::Bad(Quality::BadConfig),
        Err(Fault::Garbled) => Outcome::Garbled,
        Err(Fault::Silent | Fault::Checksum) => Outcome::Unheard(Quality::BadCommLastValueKnown),
        Err(Fault::OutOfStep) => Outcome::Unheard(Quality::BadDecode),
        Err(Fault::Link(_)) => Outcome::Missed(Quality::BadNotConnected),
    }
}

/// The registers or bits of an answer to a read.
fn data(response: Response) -> Option<Data> {
    if let Response::ReadHoldingRegisters(words) | Response::ReadInputRegisters(words) = response {
        return Some(Data::Words(words));
    }
    let (Response::ReadCoils(bits) | Response::ReadDiscreteInputs(bits)) = response else { return None };
    Some(Data::Bits(bits))
}

async fn rest_until(due: Option<Instant>, alarm: &mut Option<Alarm>) {
    match (due, alarm) {
        (Some(due), Some(alarm)) => alarm.until(due).await,
        (Some(due), None) => sleep_until(due.into()).await,
        (None, _) => std::future::pending().await,
    }
}
