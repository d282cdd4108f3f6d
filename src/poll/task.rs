//! The bus: the one task that talks on a link. It reads what is due and says what it got.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;
use tokio_modbus::{ExceptionCode, Response};
use tracing::{debug, info, warn};

use super::health::{Action, Health, PROBE_MAX};
use super::plan::{self, Block, Cost, Limits, NETWORK_LATENCY, SERIAL_LATENCY};
use super::schedule::Schedule;
use crate::clock;
use crate::config::site::{self, Device, Endpoint, Site};
use crate::counters::Counters;
use crate::driver::modbus::client::Client;
use crate::driver::modbus::pdu::read_request;
use crate::driver::{Answer, Fault};
use crate::link::{Link, LinkError};
use crate::reading::Quality;
use crate::scan::{Data, Part, Polled, Scan};
use crate::tag::{Span, TagId};

/// How long a busy device is left alone before the same request is sent again.
const BUSY_WAIT: Duration = Duration::from_millis(200);
/// The most of a line's time that is spent on devices that are gone, as long as there are others on it.
const PROBES_SHARE_MAX: f64 = 0.15;
/// How long the request in hand may take after the bus was told to stop.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// How often a tag that the device refuses is asked for all the same.
const REFUSED_RETRY: Duration = Duration::from_secs(60);

/// Reads the devices of one link.
#[derive(Debug)]
pub struct Bus {
    site: Arc<Site>,
    client: Client,
    stations: Vec<Station>,
    schedule: Schedule,
    /// For each slot of the schedule: which block of which station.
    slots: Vec<(usize, usize)>,
    out: mpsc::Sender<Polled>,
    counters: Arc<Counters>,
}

/// A device on the bus.
#[derive(Debug)]
struct Station {
    device: Device,
    health: Health,
    polls: Vec<Poll>,
    /// Every tag of it, for when none can be read.
    all: Arc<[Part]>,
    /// Repetitions of the request that is not answered, where each waits until the unit has rested.
    repeated: u8,
}

/// A block that is read again and again.
#[derive(Debug)]
struct Poll {
    block: Block,
    every: Duration,
    slot: usize,
}

/// Whoever took the scans is gone: the bus ends.
#[derive(Debug)]
struct Closed;

/// What became of one request and its repetitions.
enum Outcome {
    /// All that was asked for.
    Data(Data),
    /// The device refuses these addresses: perhaps one of them only.
    Refused,
    /// The device answers, but gives no value.
    Bad(Quality),
    /// Nothing came in time.
    Silent,
    /// The device cannot be reached.
    Missed(Quality),
}

impl Bus {
    /// A bus for link `link` of `site`; scans go to `out`.
    #[must_use]
    pub fn new(
        site: Arc<Site>,
        link: usize,
        out: mpsc::Sender<Polled>,
        counters: Arc<Counters>,
    ) -> Option<Bus> {
        let link_of_site = site.links.get(link)?;
        let client = Client::new(Link::new(link_of_site), counters.clone());
        let mut bus = Bus {
            client,
            stations: Vec::new(),
            schedule: Schedule::default(),
            slots: Vec::new(),
            out,
            counters,
            site: site.clone(),
        };
        for device in site.devices.iter().filter(|device| device.link == link) {
            bus.add(device);
        }
        Some(bus)
    }

    fn add(&mut self, device: &Device) {
        let first = usize::try_from(device.tags.start).unwrap_or_default();
        let last = usize::try_from(device.tags.end).unwrap_or_default();
        let tags = self.site.tags.get(first..last).unwrap_or_default();
        let cost = self.site.links.get(device.link).map_or(Cost::network(NETWORK_LATENCY), cost);
        let limits = Limits::new(device.max_registers, device.max_bits);
        let mut rates: Vec<Duration> = tags.iter().filter_map(|tag| tag.every).collect();
        rates.sort();
        rates.dedup();
        let station = self.stations.len();
        let now = clock::monotonic();
        let mut polls = Vec::new();
        for every in rates.into_iter().filter(|_| device.enabled) {
            let of_rate = tags.iter().filter(|tag| tag.every == Some(every));
            let spans: Vec<(TagId, Span)> = of_rate.map(|tag| (tag.id, tag.span)).collect();
            for block in plan::plan(&spans, &limits, cost) {
                debug!(device = %device.name, block = %block.span, ?every, tags = block.parts.len(), "planned");
                self.slots.push((station, polls.len()));
                polls.push(Poll { block, every, slot: self.schedule.add(every, now) });
            }
        }
        let all = tags.iter().map(|tag| Part { tag: tag.id, offset: 0 }).collect();
        self.stations.push(Station {
            device: device.clone(),
            health: Health::new(polls.len()),
            polls,
            all,
            repeated: 0,
        });
    }

    /// Reads until it is told to stop; a request in hand is finished first.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        if self.say_out_of_service().await.is_err() {
            return;
        }
        let mut late = stop.clone();
        loop {
            let next = self.schedule.next();
            let due = next.map(|(_, due)| due);
            // both arms may be dropped at any time: neither has begun anything
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                () = rest_until(due) => {}
            }
            let Some((slot, _)) = next else { continue };
            // a request is dropped half-way only where the bus ends with it
            tokio::select! {
                polled = self.poll(slot) => if polled.is_err() { return },
                () = long_after(&mut late) => return,
            }
        }
    }

    async fn say_out_of_service(&self) -> Result<(), Closed> {
        for station in self.stations.iter().filter(|station| !station.device.enabled) {
            self.say_scan(station.all.clone(), Err(Quality::BadOutOfService)).await?;
        }
        Ok(())
    }

    async fn poll(&mut self, slot: usize) -> Result<(), Closed> {
        let Some(&(index, number)) = self.slots.get(slot) else { return Ok(()) };
        let outcome = self.read(index, number).await;
        let now = clock::monotonic();
        self.counters.overruns.add(self.schedule.done(slot, now));
        if matches!(outcome, Outcome::Silent) && self.rests(index, number, now) {
            return Ok(());
        }
        if let Some(station) = self.stations.get_mut(index) {
            station.repeated = 0;
        }
        match outcome {
            Outcome::Data(data) => self.answered(index, number, Ok(data), now).await,
            Outcome::Bad(quality) => self.answered(index, number, Err(quality), now).await,
            Outcome::Refused => self.refused(index, number, now).await,
            Outcome::Silent => self.missed(index, number, Quality::BadCommLastValueKnown, now).await,
            Outcome::Missed(quality) => self.missed(index, number, quality, now).await,
        }
    }

    async fn answered(
        &mut self,
        index: usize,
        number: usize,
        result: Result<Data, Quality>,
        now: Instant,
    ) -> Result<(), Closed> {
        let Some(station) = self.stations.get_mut(index) else { return Ok(()) };
        let Some(poll) = station.polls.get(number) else { return Ok(()) };
        let action = station.health.handle_answer(number);
        let parts = poll.block.parts.clone();
        self.say_scan(parts, result).await?;
        self.act(index, action, now).await
    }

    /// After a silence the unit is left alone for a while, where a late answer could pass for the next one's, and the
    /// others go on. True if the request is to be repeated then.
    fn rests(&mut self, index: usize, number: usize, now: Instant) -> bool {
        let Some(station) = self.stations.get_mut(index) else { return false };
        let rest = self.client.rest_after(station.device.timeout);
        if rest.is_zero() {
            return false;
        }
        for poll in &station.polls {
            self.schedule.postpone(poll.slot, now + rest);
        }
        let is_repeated = station.health.may_retry(number) && station.repeated < station.device.retries;
        if is_repeated {
            station.repeated += 1;
            if let Some(poll) = station.polls.get(number) {
                self.schedule.wake(poll.slot, now + rest);
            }
        }
        is_repeated
    }

    async fn missed(
        &mut self,
        index: usize,
        number: usize,
        quality: Quality,
        now: Instant,
    ) -> Result<(), Closed> {
        let Some(station) = self.stations.get_mut(index) else { return Ok(()) };
        let Some(poll) = station.polls.get(number) else { return Ok(()) };
        let action = station.health.handle_miss(number);
        let is_isolated = matches!(action, Action::Isolate { .. });
        let silent = if is_isolated { poll.block.parts.clone() } else { station.all.clone() };
        if is_isolated {
            self.schedule.wake(poll.slot, now + poll.every.max(PROBE_MAX));
        }
        self.say_scan(silent, Err(quality)).await?;
        self.act(index, action, now).await
    }

    /// Sends the request, again where that may help.
    async fn read(&mut self, index: usize, number: usize) -> Outcome {
        let Some(station) = self.stations.get(index) else {
            return Outcome::Missed(Quality::BadNotConnected);
        };
        let Some(poll) = station.polls.get(number) else { return Outcome::Missed(Quality::BadNotConnected) };
        // where a silent unit must rest, the bus repeats the request later
        let must_rest = !self.client.rest_after(station.device.timeout).is_zero();
        let retries = if station.health.may_retry(number) { station.device.retries } else { 0 };
        let mut attempt = 0;
        loop {
            let answer = self
                .client
                .call(station.device.unit, read_request(poll.block.span), station.device.timeout)
                .await;
            let is_last = attempt == retries;
            attempt += 1;
            match &answer {
                Ok(Answer::Exception(ExceptionCode::ServerDeviceBusy)) if !is_last => {
                    sleep_until((clock::monotonic() + BUSY_WAIT).into()).await;
                }
                Err(Fault::Silent | Fault::Garbled) if must_rest => return outcome(answer),
                Err(error) if !is_last && !matches!(error, Fault::Link(LinkError::Waiting)) => {
                    debug!(device = %station.device.name, block = %poll.block.span, %error, "asking again");
                }
                _ => return outcome(answer),
            }
        }
    }

    /// Part of the block is not there: read it in halves from now on; a single tag is bad by itself.
    async fn refused(&mut self, index: usize, number: usize, now: Instant) -> Result<(), Closed> {
        let Some(station) = self.stations.get_mut(index) else { return Ok(()) };
        let second = station.polls.len();
        let Some(poll) = station.polls.get_mut(number) else { return Ok(()) };
        let site = &self.site;
        let span_of = |tag: TagId| site.tags.get(tag.index()).map_or(poll.block.span, |tag| tag.span);
        let Some((a, b)) = plan::halves(&poll.block, span_of) else {
            debug!(device = %station.device.name, block = %poll.block.span, "refused");
            let (parts, wait) = (poll.block.parts.clone(), poll.every.max(REFUSED_RETRY));
            self.schedule.wake(poll.slot, now + wait);
            let action = station.health.handle_answer(number);
            self.say_scan(parts, Err(Quality::BadConfig)).await?;
            return self.act(index, action, now).await;
        };
        info!(device = %station.device.name, block = %poll.block.span, "refused as a whole: read in halves");
        poll.block = a;
        let every = poll.every;
        self.schedule.wake(poll.slot, now);
        self.slots.push((index, second));
        station.polls.push(Poll { block: b, every, slot: self.schedule.add(every, now) });
        let action = station.health.handle_split(number, second);
        self.act(index, action, now).await
    }

    async fn act(&mut self, index: usize, action: Action, now: Instant) -> Result<(), Closed> {
        let Some(station) = self.stations.get(index) else { return Ok(()) };
        let device = station.device.id;
        match action {
            Action::Carry | Action::Isolate { announce: false } => Ok(()),
            Action::Announce | Action::Isolate { announce: true } => {
                info!(device = %station.device.name, "device online");
                self.say(Polled::DeviceUp(device)).await
            }
            Action::Resume => {
                for poll in &station.polls {
                    self.schedule.wake(poll.slot, now);
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

    /// Only one of the device's blocks goes on, as a probe.
    fn suspend(&mut self, index: usize, now: Instant) {
        let Some(station) = self.stations.get(index) else { return };
        for poll in &station.polls {
            self.schedule.park(poll.slot);
        }
        let Some(probe) = station.polls.get(station.health.probe()) else { return };
        let rest = self.client.rest_after(station.device.timeout);
        let mut wait = station.health.probe_wait(probe.every).max(rest);
        if station.health.is_gone() && self.stations.len() > 1 {
            let gone = self.stations.iter().filter(|station| station.health.is_gone());
            let cost: Duration = gone.map(|station| station.device.timeout).sum();
            wait = wait.max(cost.mul_f64(1.0 / PROBES_SHARE_MAX));
        }
        self.schedule.wake(probe.slot, now + wait);
    }

    async fn say_scan(&self, parts: Arc<[Part]>, result: Result<Data, Quality>) -> Result<(), Closed> {
        self.say(Polled::Scan(Scan { parts, result, at: clock::wall() })).await
    }

    async fn say(&self, polled: Polled) -> Result<(), Closed> {
        self.out.send(polled).await.map_err(|_| Closed)
    }
}

fn cost(link: &site::Link) -> Cost {
    match &link.endpoint {
        Endpoint::Serial { line, .. } => Cost::serial(line, link.framing, SERIAL_LATENCY),
        Endpoint::Tcp { .. } => Cost::network(NETWORK_LATENCY),
    }
}

fn outcome(answer: Result<Answer, Fault>) -> Outcome {
    match answer {
        Ok(Answer::Response(response)) => {
            data(response).map_or(Outcome::Bad(Quality::BadDecode), Outcome::Data)
        }
        Ok(Answer::Exception(code)) => match code {
            ExceptionCode::IllegalDataAddress | ExceptionCode::IllegalDataValue => Outcome::Refused,
            ExceptionCode::IllegalFunction => Outcome::Bad(Quality::BadConfig),
            ExceptionCode::Acknowledge | ExceptionCode::ServerDeviceBusy => {
                Outcome::Bad(Quality::BadCommLastValueKnown)
            }
            // a gateway answers for a device that does not
            ExceptionCode::GatewayPathUnavailable | ExceptionCode::GatewayTargetDevice => {
                Outcome::Missed(Quality::BadCommLastValueKnown)
            }
            ExceptionCode::ServerDeviceFailure
            | ExceptionCode::MemoryParityError
            | ExceptionCode::Custom(_) => Outcome::Bad(Quality::BadDeviceFailure),
        },
        Err(Fault::Garbled) => Outcome::Bad(Quality::BadDecode),
        Err(Fault::Refused(_)) => Outcome::Bad(Quality::BadConfig),
        Err(Fault::Silent) => Outcome::Silent,
        Err(Fault::OutOfStep) => Outcome::Missed(Quality::BadDecode),
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

/// Ready when the request in hand has had [`STOP_GRACE`] since the stop.
async fn long_after(stop: &mut watch::Receiver<bool>) {
    stop.wait_for(|stop| *stop).await.ok(); // a gateway that is gone stops as well
    tokio::time::sleep(STOP_GRACE).await;
}

async fn rest_until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
