//! All devices of a stream: what is due, what is sent next, what comes of it, and what is said of it. Pure.
//!
//! The task tells it what has happened, sends what it chooses, and takes what is to be said on.

mod ends;
mod send;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::debug;

use super::health::Action;
use super::lane::{Order, OrderError};
use super::memory::Memory;
use super::outcome::{self, Outcome};
use super::schedule::Schedule;
use super::station::{Ask, Station, Swept};
use crate::config::site::{Channel, Device, Site};
use crate::counters::{Counters, DeviceCounters};
use crate::driver::Fault;
use crate::driver::client::{Hearing, Unasked};
use crate::driver::modbus::conversation::{Done, RESTS};
use crate::reading::{Quality, Stamp, Timestamp};
use crate::scan::{Data, Polled};
use crate::tag::{Area, Span, UnitId};
pub(super) use send::Next;

/// A stream that is not open again after so long is down: its tags are bad.
const DOWN_AFTER: Duration = Duration::from_millis(500);

/// The devices of one stream.
#[derive(Debug)]
pub(super) struct Bus {
    stations: Vec<Station>,
    counters: Vec<Arc<DeviceCounters>>,
    schedule: Schedule,
    /// For each slot of the schedule: which group of which station.
    slots: Vec<(usize, usize)>,
    /// For each ticket: what is under way.
    under_way: Vec<Option<UnderWay>>,
    /// What goes before all polling.
    order: Option<Order>,
    reach: Reach,
    memory: Memory,
    said: VecDeque<Polled>,
}

/// The time, on both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// For intervals and deadlines.
    pub(super) at: Instant,
    /// For what is said.
    pub(super) stamp: Stamp,
    /// For what is kept over restarts.
    pub(super) wall: Timestamp,
}

/// Whether the devices can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Open,
    /// It is being opened, and counts as down from then on.
    Opening {
        down_at: Instant,
    },
    Down,
    /// It was closed because nothing was to be asked.
    AtRest,
}

/// A request that was sent.
#[derive(Debug)]
enum UnderWay {
    Read {
        station: usize,
        ask: Ask,
        /// A probe of a device that is gone is given up after this where others are due.
        yields_at: Option<Instant>,
    },
    Order {
        station: usize,
        order: Order,
    },
}

impl Bus {
    /// The devices of `channel` of `site`, all due at `now`.
    pub(super) fn new(
        site: &Site,
        channel: &Channel,
        counters: &Counters,
        memory: Memory,
        now: Instant,
    ) -> Option<Bus> {
        let link = site.links.get(channel.link)?;
        let devices = channel.devices.iter().filter_map(|id| site.devices.get(id.index()));
        let of_device =
            |device: &Device| counters.devices.get(device.id.index()).cloned().unwrap_or_default();
        let mut bus = Bus {
            stations: Vec::new(),
            counters: devices.clone().map(of_device).collect(),
            schedule: Schedule::default(),
            slots: Vec::new(),
            under_way: Vec::new(),
            order: None,
            reach: Reach::Opening { down_at: now + DOWN_AFTER },
            memory,
            said: VecDeque::new(),
        };
        for device in devices {
            let learned = bus.memory.of(device);
            bus.add(Station::new(device, site.tags_of(device), link, learned), now);
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

    /// The longest that any of the devices may take to answer.
    pub(super) fn timeout_max(&self) -> Duration {
        self.stations.iter().map(|station| station.device.timeout).max().unwrap_or_default()
    }

    /// Whether any of the devices speaks another protocol than Modbus.
    pub(super) fn is_mixed(&self) -> bool {
        self.stations.iter().any(|station| !station.device.protocol.is_modbus())
    }

    /// The devices that send by themselves, by their numbers.
    pub(super) fn listeners(&self) -> Vec<Hearing> {
        let enabled = self.stations.iter().enumerate().filter(|(_, station)| station.device.enabled);
        let hearing = |(device, station): (usize, &Station)| {
            let counters = self.counters.get(device)?.clone();
            Some(Hearing { device, listener: station.listener()?, counters })
        };
        enabled.filter_map(hearing).collect()
    }

    /// A device has said something by itself.
    pub(super) fn handle_unasked(&mut self, unasked: Unasked, now: Now) {
        let Some(station) = self.stations.get_mut(unasked.device) else { return };
        station.heard_at = Some(now.at);
        if let Some(counters) = self.counters.get(unasked.device) {
            counters.readings.add(unasked.values.len() as u64);
        }
        let all = station.all.clone();
        self.say_scan(all, Ok(Data::Values(unasked.values)), now);
        self.is_there(unasked.device, now);
    }

    /// A device that is not asked is there.
    fn is_there(&mut self, index: usize, now: Now) {
        let Some(station) = self.stations.get_mut(index) else { return };
        station.health.handle_answer(Span { area: Area::Items, address: 0, count: 1 });
        let action = station.health.handle_swept();
        self.act(index, action, now);
    }

    /// Devices that send their state by themselves and have been silent for too long are gone.
    fn end_silence(&mut self, now: Now) {
        for index in 0..self.stations.len() {
            let Some(station) = self.stations.get_mut(index) else { continue };
            if station.silent_at().is_some_and(|at| at <= now.at) {
                station.heard_at = None;
                let action = station.health.handle_silence();
                self.say_away(index, Quality::BadCommLastValueKnown, now);
                self.act(index, action, now);
            }
        }
    }

    /// Whether a request is under way.
    pub(super) fn is_waiting(&self) -> bool {
        self.under_way.iter().any(Option::is_some)
    }

    /// Whether one more order can be taken.
    pub(super) fn has_room_for_order(&self) -> bool {
        self.order.is_none()
    }

    /// Whether the stream should be open.
    pub(super) fn wants_open(&self) -> bool {
        self.reach != Reach::AtRest
    }

    /// What is to be said on, in the order in which it happened.
    pub(super) fn take_said(&mut self) -> Option<Polled> {
        self.said.pop_front()
    }

    /// When [`Bus::handle_time`] has something to do.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        // a probe that is due already waits for the line
        let probes = self.stations.iter().filter_map(|station| station.probe_at).filter(|at| *at > now);
        let order = self.order.as_ref().map(|order| order.not_after);
        let polls = self.schedule.next().map(|(_, due)| due);
        let down_at = match self.reach {
            Reach::Opening { down_at } => Some(down_at),
            Reach::Open | Reach::Down | Reach::AtRest => None,
        };
        let silent = self.stations.iter().filter_map(Station::silent_at);
        probes.chain(order).chain(polls).chain(down_at).chain(silent).min()
    }

    // -- what happens

    /// Devices that are switched off say so.
    pub(super) fn handle_start(&mut self, now: Now) {
        let disabled = self.stations.iter().filter(|station| !station.device.enabled);
        for all in disabled.map(|station| station.all.clone()).collect::<Vec<_>>() {
            self.say_scan(all, Err(Quality::BadOutOfService), now);
        }
        let enabled = self.stations.iter().filter(|station| station.device.enabled);
        for unaskable in enabled.map(|station| station.unaskable.clone()).collect::<Vec<_>>() {
            if !unaskable.is_empty() {
                self.say_scan(unaskable, Err(Quality::BadConfig), now);
            }
        }
    }

    /// Begins what is due, and ends what is too late.
    pub(super) fn handle_time(&mut self, now: Now) {
        if let Some(order) = self.order.take_if(|order| order.not_after <= now.at) {
            refuse(order, OrderError::TooLate);
        }
        match self.reach {
            Reach::Opening { down_at } if down_at <= now.at => self.handle_down(now),
            Reach::Down => self.probe_in_vain(now),
            Reach::Open | Reach::Opening { .. } | Reach::AtRest => {}
        }
        self.end_silence(now);
        self.begin_due(now);
        let has_requests = || self.stations.iter().any(|station| station.deadline(now.at).is_some());
        if self.reach == Reach::AtRest && (self.order.is_some() || has_requests()) {
            self.reach = Reach::Opening { down_at: now.at + DOWN_AFTER };
        }
    }

    /// Something is to be asked ahead of all polling.
    pub(super) fn handle_order(&mut self, order: Order) {
        let station = self.station_of(&order).and_then(|index| self.stations.get(index));
        let Some(station) = station.filter(|station| station.device.enabled) else {
            return refuse(order, OrderError::Impossible);
        };
        let is_there = station.health.is_answering() && self.reach != Reach::Down;
        if !is_there && !order.is_patient {
            return refuse(order, OrderError::Down);
        }
        self.order = Some(order);
    }

    /// Nothing more is sent.
    pub(super) fn handle_stop(&mut self) {
        if let Some(order) = self.order.take() {
            refuse(order, OrderError::TooLate);
        }
    }

    /// The stream is open: devices that did not answer are probed at once.
    pub(super) fn handle_open(&mut self, now: Now) {
        self.reach = Reach::Open;
        for station in &mut self.stations {
            let ready_at = now.at + station.device.quirks.connect_delay;
            station.restart_walk(false);
            station.is_fresh = true;
            station.not_before = Some(ready_at);
            if !station.health.is_answering() {
                station.health.handle_open();
                station.probe_at = Some(ready_at).filter(|_| station.is_asked());
            } else if station.device.probes().next().is_some() {
                // the stream may lead to another device
                self.said.push_back(Polled::Away(station.device.id));
                station.probe_slots().for_each(|slot| self.schedule.hasten(slot, ready_at));
            }
        }
        // what sends only when something happens is there as soon as it can be heard
        let is_event = |station: &Station| station.device.enabled && station.is_heard_by_event();
        let heard: Vec<usize> = (0..)
            .zip(&self.stations)
            .filter(|(_, station)| is_event(station))
            .map(|(index, _)| index)
            .collect();
        for index in heard {
            self.is_there(index, now);
        }
    }

    /// The stream was closed because nothing was to be asked.
    pub(super) fn handle_rest(&mut self) {
        self.reach = Reach::AtRest;
    }

    /// The stream is gone; it is opened again at once. What was under way is asked again.
    pub(super) fn handle_lost(&mut self, tickets: Vec<usize>, fault: &Fault, now: Now) {
        self.reach = Reach::Opening { down_at: now.at + DOWN_AFTER };
        // what was read before a write was on this stream
        if let Some(order) = self.order.take_if(|order| order.job.is_of_stream()) {
            refuse(order, OrderError::Down);
        }
        for ticket in tickets {
            match self.under_way.get_mut(ticket).and_then(Option::take) {
                None => {}
                Some(UnderWay::Order { station, order }) => self.ordered(station, order, Err(Fault::Silent)),
                Some(UnderWay::Read { station, ask, .. }) => {
                    self.ended(station, ask, Outcome::Unheard(outcome::quality(fault)), now);
                }
            }
        }
    }

    /// The stream cannot be opened: no tag has a value.
    pub(super) fn handle_down(&mut self, now: Now) {
        if !matches!(self.reach, Reach::Opening { .. }) {
            return;
        }
        self.reach = Reach::Down;
        for index in 0..self.stations.len() {
            let Some(station) = self.stations.get_mut(index).filter(|station| station.device.enabled) else {
                continue;
            };
            let action = match (station.is_asked(), station.health.is_answering()) {
                (true, true) => station.health.handle_unreachable(),
                (true, false) => Action::Suspend,
                // no probe will ever tell that it is gone
                (false, _) => station.health.handle_silence(),
            };
            self.say_away(index, Quality::BadNotConnected, now);
            self.act(index, action, now);
        }
    }

    /// A unit that has not answered in time is there all the same: it is given more time, and asked soon.
    pub(super) fn handle_late(&mut self, unit: UnitId, now: Now) {
        for station in self.stations.iter_mut().filter(|station| station.device.unit == unit) {
            station.latency.came_late();
            if !station.health.is_answering() {
                station.probe_at = Some(now.at);
            }
        }
    }

    /// A request has come to its end.
    pub(super) fn handle_done(&mut self, done: Done, now: Now) {
        match self.under_way.get_mut(done.ticket).and_then(Option::take) {
            None => {}
            Some(UnderWay::Order { station, order }) => self.ordered(station, order, done.result),
            Some(UnderWay::Read { station, ask, .. }) => {
                if let Some(station) = self.stations.get_mut(station) {
                    match done.result {
                        Ok(_) => station.latency.answered(done.took),
                        Err(_) => station.latency.missed(),
                    }
                    if matches!(done.result, Err(Fault::Silent)) && !station.device.protocol.is_modbus() {
                        // what it may still answer is to have come before it is asked again
                        let rest = (station.device.timeout * RESTS).saturating_sub(done.took);
                        station.not_before = Some(now.at + rest);
                    }
                }
                self.ended(station, ask, Outcome::of(done.result), now);
            }
        }
    }

    /// The specification does not allow the request with this ticket: it was not sent.
    pub(super) fn handle_refused(&mut self, ticket: usize, now: Now) {
        match self.under_way.get_mut(ticket).and_then(Option::take) {
            None => {}
            Some(UnderWay::Order { station, order }) => {
                if let Some(station) = self.stations.get_mut(station) {
                    station.asked = station.asked.saturating_sub(1);
                }
                refuse(order, OrderError::Impossible);
            }
            Some(UnderWay::Read { station, ask, .. }) => {
                self.ended(station, ask, Outcome::Bad(Quality::BadConfig), now);
            }
        }
    }

    // -- what is due

    fn begin_due(&mut self, now: Now) {
        let mut due: BTreeMap<usize, (Vec<usize>, Instant)> = BTreeMap::new();
        while let Some((slot, at)) = self.schedule.next().filter(|(_, at)| *at <= now.at) {
            self.schedule.park(slot);
            let Some((station, group)) = self.slots.get(slot) else { continue };
            let (groups, first) = due.entry(*station).or_insert_with(|| (Vec::new(), at));
            groups.push(*group);
            *first = at.min(*first);
        }
        for (index, (mut groups, at)) in due {
            groups.sort_unstable();
            let Some(station) = self.stations.get_mut(index) else { continue };
            if station.forget(now.wall) {
                debug!(device = %station.device.name, "what it refused is asked for once more");
            }
            let swept = station.begin(groups, at, now.at);
            if std::mem::take(&mut station.has_lessons) {
                self.memory.keep(&station.device, &station.learned);
            }
            if let Some(swept) = swept {
                self.swept(index, &swept, now);
            }
        }
    }

    /// The sweep is over: its groups are due again at the next points of their grids.
    fn swept(&mut self, index: usize, swept: &Swept, now: Now) {
        let Some(station) = self.stations.get_mut(index) else { return };
        let groups = swept.groups.iter().filter_map(|number| Some((*number, station.groups.get(*number)?)));
        for (number, group) in groups {
            let missed = self.schedule.done(group.slot, swept.started_at);
            let counters = self.counters.get(index).and_then(|device| device.overruns.get(number));
            if let Some((_, overruns)) = counters {
                overruns.add(missed);
            }
        }
        if swept.is_all {
            let action = station.health.handle_swept();
            self.act(index, action, now);
        }
    }

    /// Probes that are due while the stream is down are missed without being sent.
    fn probe_in_vain(&mut self, now: Now) {
        for index in 0..self.stations.len() {
            let Some(station) = self.stations.get_mut(index) else { continue };
            if station.probe_at.take_if(|at| *at <= now.at).is_some() {
                let action = station.health.handle_unreachable();
                self.act(index, action, now);
            }
        }
    }
}

/// Nothing of it was sent.
fn refuse(order: Order, why: OrderError) {
    order.outcome.send(Err(why)).ok(); // whoever asked may be gone
}

#[cfg(test)]
mod tests;
