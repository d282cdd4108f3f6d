//! The task of one uplink: connects, bears, delivers, and says farewell.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rumqttc::{ConnectionError, QoS};
use tokio::sync::mpsc;
use tokio::time::sleep_until;
use tracing::{debug, info, warn};

use super::bdseq::BdSeq;
use super::mqtt::{self, Connection, Happening, WINDOW};
use crate::clock;
use crate::config::site::{Broker, Site, Uplink};
use crate::counters::Counters;
use crate::reading::Update;
use crate::sparkplug::session::{Publication, Session};
use crate::tag::TagId;

/// The first wait after a failed attempt to connect; it doubles up to `reconnect_max`.
const RECONNECT_MIN: Duration = Duration::from_secs(1);
/// How long a broker may take from the connection to the granted subscription; it then counts as failed.
const BIRTH_PATIENCE: Duration = Duration::from_secs(20);
/// A session that lasted so long was a good one: the next attempt to connect does not wait longer for its end.
const STEADY: Duration = Duration::from_secs(30);
/// How long a clean end may take.
const FAREWELL: Duration = Duration::from_secs(2);
/// Updates that are taken together before anything is sent, so that what belongs together travels together.
const UPDATES_AT_ONCE: usize = 64;

/// Delivers to one broker, or to several in turn.
#[derive(Debug)]
pub struct Task {
    uplink: Uplink,
    session: Session,
    updates: mpsc::Receiver<Update>,
    counters: Arc<Counters>,
    bd_seq: BdSeq,
    backoff: Backoff,
}

/// Why a connection has ended.
enum End {
    /// There will be no more updates: the gateway stops.
    Stopped,
    /// It failed; `was_steady` if it had lasted.
    Lost { was_steady: bool },
}

/// How long to wait before the next attempt to connect: full jitter, so that a thousand gateways do not come at once.
#[derive(Debug)]
struct Backoff {
    failures: u32,
    reconnect_max: Duration,
    birth_jitter: Duration,
}

impl Backoff {
    /// `chance` is 0 to 1.
    fn wait(&self, chance: f64) -> Duration {
        let doubled = RECONNECT_MIN.saturating_mul(1 << self.failures.saturating_sub(1).min(16));
        let ceiling = match self.failures {
            0 => self.birth_jitter,
            _ => doubled.min(self.reconnect_max),
        };
        ceiling.mul_f64(chance)
    }
}

/// What is under way on a connection.
#[derive(Default)]
struct UnderWay {
    /// What each publication carries that has been handed over and not been written yet.
    unsent: VecDeque<Vec<TagId>>,
    /// When the births were handed over.
    born: Option<Instant>,
    farewell: Farewell,
}

#[derive(Default, PartialEq)]
enum Farewell {
    #[default]
    NotYet,
    /// The death certificate has been handed over.
    Said,
    /// The broker has it.
    Heard,
}

impl Task {
    /// An uplink that takes `updates`.
    #[must_use]
    pub fn new(
        site: Arc<Site>,
        uplink: Uplink,
        updates: mpsc::Receiver<Update>,
        counters: Arc<Counters>,
    ) -> Task {
        let bd_seq = BdSeq::open(&site.gateway.state_dir, &uplink.name);
        let backoff =
            Backoff { failures: 0, reconnect_max: uplink.reconnect_max, birth_jitter: uplink.birth_jitter };
        Task {
            session: Session::new(site, &uplink, counters.clone()),
            uplink,
            updates,
            counters,
            bd_seq,
            backoff,
        }
    }

    /// Delivers until there are no more updates.
    pub async fn run(mut self) {
        let brokers = self.uplink.brokers.clone();
        let mut wait =
            if self.bd_seq.is_first() { Duration::ZERO } else { self.backoff.wait(fastrand::f64()) };
        for broker in brokers.iter().cycle() {
            if self.rest(clock::monotonic() + wait).await {
                return;
            }
            match self.converse(broker).await {
                End::Stopped => return,
                End::Lost { was_steady } => {
                    self.backoff.failures =
                        if was_steady { 0 } else { self.backoff.failures.saturating_add(1) };
                    wait = self.backoff.wait(fastrand::f64());
                }
            }
        }
    }

    /// Takes updates until `until`, without a broker to tell; true if there will be no more.
    async fn rest(&mut self, until: Instant) -> bool {
        loop {
            // both arms may be dropped at any time: recv is cancel-safe, a sleep has no effect
            tokio::select! {
                update = self.updates.recv() => match update {
                    Some(update) => self.session.handle_update(update, clock::wall()),
                    None => return true,
                },
                () = sleep_until(until.into()) => return false,
            }
        }
    }

    /// One connection, from CONNECT to its end.
    async fn converse(&mut self, broker: &Broker) -> End {
        let bd_seq = self.next_bd_seq().await;
        let will = self.session.death(bd_seq, clock::wall());
        let (connection, pump, mut happenings) = match mqtt::connect(&self.uplink, broker, will) {
            Ok(parts) => parts,
            Err(error) => {
                warn!(uplink = %self.uplink.name, %error, "cannot connect");
                return End::Lost { was_steady: false };
            }
        };
        let pump = pump.run();
        tokio::pin!(pump);
        let mut under_way = UnderWay::default();
        let patience = clock::monotonic() + BIRTH_PATIENCE;
        let end = loop {
            self.send(&connection, &mut under_way);
            let rebirth_due = self.session.rebirth_due();
            // the pump is never dropped half-way: it lives outside of the loop; both recv are cancel-safe
            tokio::select! {
                error = &mut pump => break self.lost(&error, &under_way),
                Some(happening) = happenings.recv() => self.handle(happening, &connection, &mut under_way, bd_seq),
                () = sleep_until(patience.into()), if under_way.born.is_none() => {
                    warn!(uplink = %self.uplink.name, "the broker does not answer the subscription: connecting again");
                    break End::Lost { was_steady: false };
                }
                () = sleep_until(rebirth_due.unwrap_or(clock::monotonic()).into()), if rebirth_due.is_some() => {
                    self.session.handle_due(clock::monotonic(), clock::wall());
                }
                update = self.updates.recv() => match update {
                    Some(update) => self.take(update),
                    None => {
                        let farewell = self.farewell(&connection, &mut under_way, &mut happenings, bd_seq);
                        // a farewell that hangs or a pump that fails ends it all the same: the will speaks then
                        tokio::select! {
                            _ = &mut pump => {}
                            _ = tokio::time::timeout(FAREWELL, farewell) => {}
                        }
                        break End::Stopped;
                    }
                },
            }
        };
        self.session.handle_disconnected(under_way.unsent.into());
        end
    }

    async fn next_bd_seq(&mut self) -> u8 {
        let next = self.bd_seq.next();
        let bd_seq = self.bd_seq.clone();
        let mut saving = tokio::task::spawn_blocking(move || bd_seq.save());
        // flash may stall for seconds: updates are taken meanwhile; a handle may be polled again, recv is cancel-safe
        let saved = loop {
            tokio::select! {
                saved = &mut saving => break saved,
                Some(update) = self.updates.recv() => self.take(update),
            }
        };
        if let Ok(Err(error)) = saved {
            warn!(uplink = %self.uplink.name, %error, "cannot keep the birth sequence number: is state_dir writable?");
        }
        next
    }

    /// Takes an update and those that wait behind it.
    fn take(&mut self, update: Update) {
        let now = clock::wall();
        self.session.handle_update(update, now);
        for _ in 1..UPDATES_AT_ONCE {
            match self.updates.try_recv() {
                Ok(update) => self.session.handle_update(update, now),
                Err(_) => return, // empty, or closed: the next recv tells which
            }
        }
    }

    /// Hands over what there is to send, as far as the window goes.
    fn send(&mut self, connection: &Connection, under_way: &mut UnderWay) {
        while under_way.unsent.len() < WINDOW {
            let Some(mut publication) = self.session.poll_publication(clock::wall()) else { return };
            under_way.unsent.push_back(std::mem::take(&mut publication.carried));
            if connection.publish(publication, QoS::AtMostOnce).is_err() {
                return; // the connection is closing: what is unsent is counted at its end
            }
        }
    }

    fn handle(
        &mut self,
        happening: Happening,
        connection: &Connection,
        under_way: &mut UnderWay,
        bd_seq: u8,
    ) {
        match happening {
            Happening::Connected => {
                self.counters.connects.add(1);
                connection.subscribe(self.session.command_filters()).ok(); // closing: its end is told by the pump
            }
            Happening::Subscribed(is_granted) => {
                if !is_granted {
                    warn!(uplink = %self.uplink.name, "the broker refuses the subscription to commands");
                }
                info!(uplink = %self.uplink.name, bd_seq, "session born");
                under_way.born = Some(clock::monotonic());
                self.session.handle_connected(bd_seq, clock::wall());
            }
            Happening::Sent => {
                under_way.unsent.pop_front();
            }
            Happening::Message { topic, payload, is_retained } => {
                let is_obeyed =
                    !is_retained && self.session.handle_message(&topic, &payload, clock::monotonic());
                debug!(uplink = %self.uplink.name, topic, is_obeyed, "command");
            }
            Happening::Acknowledged if under_way.farewell == Farewell::Said => {
                under_way.farewell = Farewell::Heard;
            }
            Happening::Acknowledged | Happening::Disconnected => {}
        }
    }

    fn lost(&self, error: &ConnectionError, under_way: &UnderWay) -> End {
        let was_steady = under_way.born.is_some_and(|born| clock::monotonic() - born >= STEADY);
        if under_way.born.is_some() || self.backoff.failures == 0 {
            warn!(uplink = %self.uplink.name, %error, "no connection to the broker; polling goes on");
        } else {
            debug!(uplink = %self.uplink.name, %error, failures = self.backoff.failures, "still no connection");
        }
        End::Lost { was_steady }
    }

    /// Sends what waits, then the death certificate, then DISCONNECT.
    async fn farewell(
        &mut self,
        connection: &Connection,
        under_way: &mut UnderWay,
        happenings: &mut mpsc::Receiver<Happening>,
        bd_seq: u8,
    ) {
        if under_way.born.is_none() {
            return;
        }
        loop {
            if under_way.farewell == Farewell::NotYet {
                self.send(connection, under_way); // after a death there is nothing but a new session
            }
            if under_way.farewell == Farewell::NotYet && under_way.unsent.is_empty() {
                let death: Publication = self.session.death(bd_seq, clock::wall());
                under_way.unsent.push_back(Vec::new());
                under_way.farewell = Farewell::Said;
                connection.publish(death, QoS::AtLeastOnce).ok(); // closing: the will speaks
            }
            match happenings.recv().await {
                None | Some(Happening::Disconnected) => return,
                Some(happening) => self.handle(happening, connection, under_way, bd_seq),
            }
            if under_way.farewell == Farewell::Heard {
                connection.disconnect().ok(); // closing already
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_the_ceiling_and_is_jittered_over_its_whole_length() {
        let mut backoff = Backoff {
            failures: 0,
            reconnect_max: Duration::from_secs(300),
            birth_jitter: Duration::from_secs(5),
        };
        let waits: Vec<u64> = (0..11)
            .map(|failures| {
                backoff.failures = failures;
                backoff.wait(1.0).as_secs()
            })
            .collect();
        assert_eq!(waits, [5, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert_eq!(backoff.wait(0.0), Duration::ZERO);
    }
}
