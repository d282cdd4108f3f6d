//! Which request goes next, and when. Pure.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Bus, UnderWay, refuse};
use crate::config::site::{Device, DeviceProtocol, Quirks, WriteFunctions};
use crate::driver::client::{Client, Request};
use crate::driver::dlt645::broadcast::{Broadcast, SILENCE};
use crate::driver::exchange::{self, Exchange};
use crate::driver::modbus::conversation::Call;
use crate::driver::modbus::pdu::{read_request, write_request};
use crate::driver::modbus::transaction::Tolerance;
use crate::poll::lane::{Job, Order, OrderError};
use crate::poll::station::Station;
use crate::scan::Data;
use crate::tag::Area;

/// What is to be done next.
#[derive(Debug)]
pub(in crate::poll) enum Next {
    /// Send this.
    Send(Request),
    /// Nothing may be sent before then, as far as is known.
    Wait(Option<Instant>),
}

/// What is asked of a device, in its protocol.
enum Wanted {
    Modbus(tokio_modbus::Request<'static>),
    Other(Box<dyn Exchange>),
}

impl Wanted {
    fn is_answered(&self) -> bool {
        match self {
            Wanted::Modbus(_) => true,
            Wanted::Other(exchange) => exchange.is_answered(),
        }
    }
}

impl Bus {
    /// The most urgent request that may be sent: an order before all polling, else the earliest deadline.
    pub(in crate::poll) fn next(&mut self, client: &mut Client, now: Instant) -> Next {
        if !client.has_room() {
            return Next::Wait(self.let_probe_yield(client, now));
        }
        let ordered = self.order.as_ref().and_then(|order| self.station_of(order));
        let owed_until = self.owed_until(client, now);
        let mut later = None;
        let mut best = None;
        for (index, station) in self.stations.iter().enumerate() {
            let is_poll = ordered != Some(index);
            let Some(deadline) = station.deadline(now).or((!is_poll).then_some(now)) else { continue };
            if station.is_exclusive() && station.asked > 0 {
                continue;
            }
            let Device { unit, quirks, .. } = &station.device;
            let rests_until = client.rests_until(*unit, quirks.any_unit_reply, now);
            let owed_until = owed_until.filter(|_| station.is_anonymous());
            let free_at = station.not_before.filter(|at| *at > now).max(rests_until).max(owed_until);
            if free_at.is_some() {
                later = earliest(later, free_at);
                continue;
            }
            // of equals the one that has waited longest: the last in the list is not to pay for every delay
            let urgency = (is_poll, deadline, station.asked_at);
            if best.is_none_or(|(_, most)| urgency < most) {
                best = Some((index, urgency));
            }
        }
        let Some((index, (is_poll, ..))) = best else { return Next::Wait(later) };
        let gap = self.stations.get(index).and_then(|station| station.device.quirks.gap);
        let ready_at = client.ready_at(gap, now);
        if ready_at > now {
            return Next::Wait(earliest(later, Some(ready_at)));
        }
        let call = if is_poll { self.take_read(index, now) } else { self.take_order(index, now) };
        call.map_or(Next::Wait(Some(now)), Next::Send)
    }

    /// Until when an answer that has been given up may still come, from whomever: whose answers name nobody must wait for
    /// that, or would be given the answer of another.
    fn owed_until(&self, client: &Client, now: Instant) -> Option<Instant> {
        if !self.stations.iter().any(Station::is_anonymous) {
            return None;
        }
        let rest = |station: &Station| {
            let Device { unit, quirks, protocol, .. } = &station.device;
            let own = station.not_before.filter(|at| *at > now && !protocol.is_modbus());
            own.max(client.rests_until(*unit, quirks.any_unit_reply, now))
        };
        self.stations.iter().filter_map(rest).max()
    }

    /// A probe that has had its time is given up where another device is due; when it will have had it.
    fn let_probe_yield(&self, client: &mut Client, now: Instant) -> Option<Instant> {
        let probe = |(ticket, under_way): (usize, &Option<UnderWay>)| match under_way {
            Some(UnderWay::Read { station, yields_at: Some(at), .. }) => Some((ticket, *station, *at)),
            _ => None,
        };
        let (ticket, probed, at) = self.under_way.iter().enumerate().find_map(probe)?;
        let mut others = self.stations.iter().enumerate().filter(|(index, _)| *index != probed);
        let is_other_due = self.order.is_some() || others.any(|(_, station)| station.has_pending());
        if !is_other_due {
            return None;
        }
        if at <= now {
            client.give_up(ticket);
            return None;
        }
        Some(at)
    }

    pub(super) fn station_of(&self, order: &Order) -> Option<usize> {
        self.stations.iter().position(|station| station.device.id == order.device)
    }

    pub(super) fn take_read(&mut self, index: usize, now: Instant) -> Option<Request> {
        let station = self.stations.get_mut(index)?;
        let ask = station.take(now)?;
        let wanted = match station.exchange(&ask) {
            Some(exchange) => Wanted::Other(exchange),
            None => Wanted::Modbus(read_request(ask.block.span)?),
        };
        let most = station.device.timeout;
        // nobody is given up before all of the configured time: only what will be asked again ends sooner
        let will_repeat = station.may_repeat(&ask, station.is_fresh);
        let timeout = if will_repeat { station.latency.timeout(most) } else { most };
        let yields_at = station.health.is_gone().then(|| now + station.latency.probe_time(most));
        if ask.attempts > 0
            && let Some(counters) = self.counters.get(index)
        {
            counters.retries.add(1);
        }
        self.call(index, UnderWay::Read { station: index, ask, yields_at }, wanted, timeout)
    }

    /// `None` where it is too late, or there is no such request: whoever asked is told.
    pub(super) fn take_order(&mut self, index: usize, now: Instant) -> Option<Request> {
        let order = self.order.take()?;
        if order.not_after <= now {
            refuse(order, OrderError::TooLate);
            return None;
        }
        let station = self.stations.get_mut(index)?;
        let Some(wanted) = wanted(&order.job, &station.device) else {
            refuse(order, OrderError::Impossible);
            return None;
        };
        station.asked += 1;
        let timeout = if wanted.is_answered() { station.device.timeout } else { SILENCE };
        self.call(index, UnderWay::Order { station: index, order }, wanted, timeout)
    }

    /// The call for a request that is under way from now on.
    fn call(
        &mut self,
        index: usize,
        under_way: UnderWay,
        wanted: Wanted,
        timeout: Duration,
    ) -> Option<Request> {
        let ticket = self.under_way.iter().position(Option::is_none).unwrap_or(self.under_way.len());
        match self.under_way.get_mut(ticket) {
            Some(slot) => *slot = Some(under_way),
            None => self.under_way.push(Some(under_way)),
        }
        let device = &self.stations.get(index)?.device;
        // what nobody answers is no request to this device
        let counters = if wanted.is_answered() { self.counters.get(index)?.clone() } else { Arc::default() };
        Some(match wanted {
            Wanted::Modbus(request) => {
                let Quirks { any_tid, any_unit_reply: any_unit, .. } = device.quirks;
                let (unit, timeout_max) = (device.unit, device.timeout);
                let tolerance = Tolerance { any_tid, any_unit };
                Request::Modbus(
                    Call { ticket, unit, request, tolerance, timeout, timeout_max, counters },
                    device.line,
                )
            }
            Wanted::Other(exchange) => Request::Other(
                device.unit,
                exchange::Call { ticket, exchange, timeout, line: device.line, counters },
            ),
        })
    }
}

/// What does it; `None` where the device has nothing for it.
fn wanted(job: &Job, device: &Device) -> Option<Wanted> {
    match (job, &device.protocol) {
        (Job::BroadcastTime(zone), DeviceProtocol::Dlt645(meter)) => {
            Some(Wanted::Other(Box::new(Broadcast { zone: zone.clone(), wake: meter.wake })))
        }
        _ => request_of(job, device.quirks.write).map(Wanted::Modbus),
    }
}

/// The request that does it; `None` where the device, which has `own` functions to write, has none for it.
fn request_of(job: &Job, own: WriteFunctions) -> Option<tokio_modbus::Request<'static>> {
    match job {
        Job::Read(span) => read_request(*span),
        Job::Mask { address, and, or } => Some(tokio_modbus::Request::MaskWriteRegister(*address, *and, *or)),
        Job::Write { area, address, data, functions } => match (area, data) {
            (Area::HoldingRegisters, Data::Words(_)) | (Area::Coils, Data::Bits(_)) => {
                write_request(*address, data, functions.unwrap_or(own))
            }
            _ => None,
        },
        Job::BroadcastTime(_) => None,
    }
}

fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    a.into_iter().chain(b).min()
}
