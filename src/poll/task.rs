//! The one task that talks on a stream: waits for what happens, tells the bus, sends what it chooses, says what it says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;
use tracing::{debug, warn};

use super::bus::{Bus, Next, Now};
use super::lane::{Order, OrderError};
use super::memory::Memory;
use crate::clock::{self, Alarm};
use crate::config::site::{Channel, Site};
use crate::counters::Counters;
use crate::driver::client::{Client, Event};
use crate::link::{Link, LinkError};
use crate::scan::Polled;

/// How long requests under way may take after the task was told to stop.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// Reads the devices of one stream.
#[derive(Debug)]
pub struct Task {
    bus: Bus,
    client: Client,
    idle_close: Option<Duration>,
    /// Of a serial line: its silences are not to last longer than they must.
    alarm: Option<Alarm>,
    out: mpsc::Sender<Polled>,
    orders: mpsc::Receiver<Order>,
}

/// What a bus needs from outside.
#[derive(Debug)]
pub struct Ports {
    /// Where scans go.
    pub out: mpsc::Sender<Polled>,
    /// Where orders come from.
    pub orders: mpsc::Receiver<Order>,
    /// What devices refused, over restarts.
    pub memory: Memory,
    /// What happens is counted there.
    pub counters: Arc<Counters>,
}

/// Whoever took the scans is gone: the task ends.
#[derive(Debug)]
struct Closed;

/// What has happened.
enum Woken {
    Stop,
    Heard(Event),
    Opened(Result<(), LinkError>),
    Order(Order),
    Due,
}

fn now() -> Now {
    Now { at: clock::monotonic(), stamp: clock::stamp(), wall: clock::wall() }
}

impl Task {
    /// Reads the devices of `channel` of `site` over `link`.
    #[must_use]
    pub fn new(site: &Site, channel: &Channel, link: Link, ports: Ports) -> Option<Task> {
        let Ports { out, orders, memory, counters } = ports;
        let link_of_site = site.links.get(channel.link)?;
        let link_counters = counters.links.get(channel.link).cloned().unwrap_or_default();
        let bus = Bus::new(site, channel, &counters, memory, clock::monotonic())?;
        let alarm = link.line().map(|_| Alarm::default());
        let mut client = Client::new(link, link_of_site, counters, link_counters);
        if bus.is_mixed() {
            client = client.one_at_a_time().hearing(bus.listeners());
        }
        Some(Task { bus, client, idle_close: link_of_site.idle_close, alarm, out, orders })
    }

    /// Reads until it is told to stop; what is under way may come to its end.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        self.bus.handle_start(now());
        loop {
            self.bus.handle_time(now());
            if self.say().await.is_err() {
                return;
            }
            let until = self.send().await;
            let woken = self.wait(until, &mut stop).await;
            if matches!(woken, Woken::Stop) {
                self.refuse_orders();
                tokio::time::timeout(STOP_GRACE, self.finish()).await.ok(); // the rest is not waited for
                return;
            }
            self.take_in(woken);
        }
    }

    /// Whoever waits for an order that was not sent is told so.
    fn refuse_orders(&mut self) {
        self.orders.close();
        self.bus.handle_stop();
        while let Ok(order) = self.orders.try_recv() {
            order.outcome.send(Err(OrderError::TooLate)).ok(); // whoever asked may be gone
        }
    }

    /// Hears what is under way to its end.
    async fn finish(&mut self) {
        while self.bus.is_waiting() && self.say().await.is_ok() {
            let event = self.client.next().await;
            self.take_in(Woken::Heard(event));
        }
        self.say().await.ok(); // nobody may be left to tell
    }

    async fn say(&mut self) -> Result<(), Closed> {
        while let Some(polled) = self.bus.take_said() {
            self.out.send(polled).await.map_err(|_| Closed)?;
        }
        Ok(())
    }

    /// Sends all that may be sent now; when the next may be.
    async fn send(&mut self) -> Option<Instant> {
        loop {
            let call = match self.bus.next(&mut self.client, clock::monotonic()) {
                Next::Wait(until) => return until,
                Next::Send(call) => call,
            };
            let ticket = call.ticket();
            if let Err(error) = self.client.send(call).await {
                warn!(%error, "not asked");
                self.bus.handle_refused(ticket, now());
            }
        }
    }

    async fn wait(&mut self, until: Option<Instant>, stop: &mut watch::Receiver<bool>) -> Woken {
        let idle_at = self.idle_at();
        let due = [until, self.bus.next_due(clock::monotonic()), idle_at].into_iter().flatten().min();
        let (wants_open, settle) = (self.bus.wants_open(), self.bus.timeout_max());
        let client = &mut self.client;
        let stream = async {
            if client.is_listening() {
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
            Some(order) = self.orders.recv(), if self.bus.has_room_for_order() => Woken::Order(order),
            () = rest_until(due, &mut self.alarm) => Woken::Due,
        }
    }

    /// When the stream will have carried nothing for as long as it may.
    fn idle_at(&self) -> Option<Instant> {
        Some(self.client.idle_since()? + self.idle_close.filter(|_| !self.client.hears_unasked())?)
    }

    fn take_in(&mut self, woken: Woken) {
        let now = now();
        match woken {
            Woken::Heard(Event::Done(done)) => self.bus.handle_done(done, now),
            Woken::Heard(Event::Unasked(unasked)) => self.bus.handle_unasked(unasked, now),
            Woken::Heard(Event::Late(unit)) => self.bus.handle_late(unit, now),
            Woken::Heard(Event::Lost(tickets, fault)) => self.bus.handle_lost(tickets, &fault, now),
            Woken::Opened(Ok(())) => self.bus.handle_open(now),
            Woken::Opened(Err(error)) => {
                debug!(%error, "not open");
                self.bus.handle_down(now);
            }
            Woken::Order(order) => self.bus.handle_order(order),
            Woken::Due | Woken::Stop if self.idle_at().is_some_and(|at| at <= now.at) => {
                debug!("closed: not a byte for so long");
                self.client.close();
                self.bus.handle_rest();
            }
            Woken::Due | Woken::Stop => {}
        }
    }
}

async fn rest_until(due: Option<Instant>, alarm: &mut Option<Alarm>) {
    match (due, alarm) {
        (Some(due), Some(alarm)) => alarm.until(due).await,
        (Some(due), None) => sleep_until(due.into()).await,
        (None, _) => std::future::pending().await,
    }
}
