//! The task of one uplink: connects, bears, delivers, replays, and says farewell.

mod history;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep_until;
use tracing::{debug, error, info, warn};

use super::backoff::Backoff;
use super::bdseq::BdSeq;
use super::commands::Commands;
use super::delivery::Delivery;
use super::mqtt::{self, Connection, Happening, OUTGOING_SIZE_MAX, WINDOW};
use super::replay::Replay;
use crate::clock;
use crate::config::site::{Broker, Site, Uplink};
use crate::counters::Counters;
use crate::position::{Position, Positions};
use crate::publication::Publication;
use crate::queue::task::{News, Outlet};
use crate::queue::{Bookmark, Delivered, Piece};
use crate::reading::Update;
use crate::sparkplug::session::Session;
use crate::write::Outcome;

/// How long a broker may take from the connection to the granted subscription; it then counts as failed.
const BIRTH_PATIENCE: Duration = Duration::from_secs(20);
/// How long a broker may take to acknowledge a barrier, where that is more than a keep-alive takes.
const BARRIER_PATIENCE: Duration = Duration::from_secs(30);
/// A session that lasted so long was a good one: the next attempt to connect does not wait longer for its end.
const STEADY: Duration = Duration::from_secs(30);
/// How long a clean end may take.
const FAREWELL: Duration = Duration::from_secs(2);
/// News that is taken together before anything is sent, so that what belongs together travels together.
const NEWS_AT_ONCE: usize = 64;
/// What was sent is proven by a barrier after this part of `queue.flush`, so that it need not go to the disk.
const BARRIERS_PER_FLUSH: u32 = 2;
/// The longest wait for that.
const BARRIER_AFTER_MAX: Duration = Duration::from_secs(5);
/// A broker that has died is noticed within so many times the keep-alive: what was confirmed before is sure.
const SURE_KEEP_ALIVES: u32 = 2;

/// Delivers to one broker, or to several in turn.
#[derive(Debug)]
pub struct Task {
    uplink: Uplink,
    session: Session,
    outlet: Outlet,
    delivery: Delivery,
    replay: Replay,
    /// What has been asked from the store.
    asked: Option<(Position, oneshot::Receiver<Piece>)>,
    bookmark: Bookmark,
    /// What cannot be read: how often in a row it was tried, and when it is tried again.
    unread: Option<(u32, Instant)>,
    /// What the store knows of the delivery.
    told: Delivered,
    is_clock_trusted: bool,
    barrier: String,
    counters: Arc<Counters>,
    bd_seq: BdSeq,
    backoff: Backoff,
    commands: Commands,
}

/// Why a connection has ended.
enum End {
    /// There will be no more news: the gateway stops. `is_clean`: the broker has all and knows it.
    Stopped { is_clean: bool },
    /// It failed.
    Lost,
}

/// The state of a connection.
struct Talk {
    bd_seq: u8,
    /// Publications that have been handed over and not been written yet.
    in_hand: usize,
    /// When the births were handed over.
    born: Option<Instant>,
    /// When the broker was heard last.
    heard: Instant,
    started: Instant,
    is_over: bool,
}

enum Woken {
    Happening(Happening),
    News(News),
    Outcome(Arc<Outcome>),
    Closed,
    Piece(Position, Option<Piece>),
    Failed(String),
    Due,
}

impl Task {
    /// An uplink that takes what `outlet` gives.
    #[must_use]
    pub fn new(
        site: &Arc<Site>,
        uplink: Uplink,
        outlet: Outlet,
        commands: Commands,
        counters: Arc<Counters>,
    ) -> Task {
        let barrier_after = (site.queue.flush / BARRIERS_PER_FLUSH).min(BARRIER_AFTER_MAX);
        let sure_after = uplink.keep_alive * SURE_KEEP_ALIVES;
        Task {
            session: Session::new(site.clone(), &uplink, counters.clone()),
            delivery: Delivery::new(outlet.start, outlet.next, barrier_after, sure_after),
            replay: Replay::new(uplink.history_rate, outlet.next, clock::monotonic()),
            asked: None,
            bookmark: Bookmark::default(),
            unread: None,
            told: outlet.start,
            is_clock_trusted: clock::is_trusted(),
            barrier: format!("tidegate/{}/{}/barrier", site.gateway.enterprise, site.gateway.name),
            bd_seq: BdSeq::open(&site.gateway.state_dir, &uplink.name),
            backoff: Backoff::new(&uplink),
            outlet,
            uplink,
            counters,
            commands,
        }
    }

    /// Delivers until the gateway stops.
    pub async fn run(mut self) {
        let brokers = self.uplink.brokers.clone();
        let mut wait =
            if self.bd_seq.is_first() { Duration::ZERO } else { self.backoff.wait(fastrand::f64()) };
        for broker in brokers.iter().cycle() {
            if self.rest(clock::monotonic() + wait).await {
                break;
            }
            let end = self.converse(broker).await;
            self.session.handle_disconnected();
            let is_clean = matches!(end, End::Stopped { is_clean: true });
            self.delivery.handle_end(is_clean);
            self.asked = None;
            self.say_delivered(true);
            if matches!(end, End::Stopped { .. }) {
                break;
            }
            wait = self.backoff.wait(fastrand::f64());
        }
        let delivered = self.delivery.delivered(true);
        self.outlet.part(delivered).await;
    }

    /// Takes news until `until`, and until the time of day is known, without a broker to tell; true if there will be no
    /// more.
    async fn rest(&mut self, until: Instant) -> bool {
        loop {
            let is_known = self.is_clock_trusted;
            // every arm may be dropped at any time: recv is cancel-safe, a sleep has no effect
            tokio::select! {
                news = self.outlet.news.recv() => match news {
                    Some(news) => self.take(news),
                    None => return true,
                },
                outcome = self.commands.outcome() => self.session.handle_outcome(&outcome, clock::wall()),
                () = sleep_until(until.into()), if is_known => return false,
            }
            self.say_delivered(true);
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
                self.backoff.handle_end(false);
                return End::Lost;
            }
        };
        let pump = pump.run();
        tokio::pin!(pump);
        let now = clock::monotonic();
        let mut talk = Talk { bd_seq, in_hand: 0, born: None, heard: now, started: now, is_over: false };
        loop {
            self.send(&connection, &mut talk);
            let ask_due = self.ask(&talk);
            let due = self.due(&talk).min(ask_due.unwrap_or(talk.heard + self.uplink.keep_alive * 2));
            // the pump is never dropped half-way: it lives outside of the loop; all other arms may be dropped
            let woken = tokio::select! {
                error = &mut pump => Woken::Failed(error.to_string()),
                Some(happening) = happenings.recv() => Woken::Happening(happening),
                news = self.outlet.news.recv() => news.map_or(Woken::Closed, Woken::News),
                outcome = self.commands.outcome() => Woken::Outcome(outcome),
                (from, piece) = piece(&mut self.asked) => Woken::Piece(from, piece),
                () = sleep_until(due.into()) => Woken::Due,
            };
            if clock::monotonic().saturating_duration_since(due) > self.uplink.keep_alive / 2 {
                // what comes in now may be of a broker that has died meanwhile
                return self.lost("this program was held up", &talk);
            }
            match woken {
                Woken::Happening(happening) => self.handle(happening, &connection, &mut talk),
                Woken::News(news) => self.take(news),
                Woken::Outcome(outcome) => self.session.handle_outcome(&outcome, clock::wall()),
                Woken::Piece(from, piece) => self.replay(from, piece.unwrap_or_default()),
                Woken::Failed(error) => return self.lost(&error, &talk),
                Woken::Due => {
                    if let Some(why) = self.handle_due(&talk) {
                        return self.lost(why, &talk);
                    }
                }
                Woken::Closed => {
                    let farewell = self.farewell(&connection, &mut talk, &mut happenings);
                    // a farewell that hangs or a pump that fails ends it all the same: the will speaks then
                    tokio::select! {
                        _ = &mut pump => {}
                        _ = tokio::time::timeout(FAREWELL, farewell) => {}
                    }
                    return End::Stopped { is_clean: talk.is_over };
                }
            }
            self.say_delivered(talk.born.is_none());
        }
    }

    async fn next_bd_seq(&mut self) -> u8 {
        let next = self.bd_seq.next();
        let bd_seq = self.bd_seq.clone();
        let mut saving = tokio::task::spawn_blocking(move || bd_seq.save());
        // flash may stall for seconds: news is taken meanwhile; a handle may be polled again, recv is cancel-safe
        let saved = loop {
            tokio::select! {
                saved = &mut saving => break saved,
                Some(news) = self.outlet.news.recv() => self.take(news),
            }
        };
        if let Ok(Err(error)) = saved {
            warn!(uplink = %self.uplink.name, %error, "cannot keep the birth sequence number: is state_dir writable?");
        }
        next
    }

    /// Takes news and what waits behind it.
    fn take(&mut self, news: News) {
        self.take_one(news);
        for _ in 1..NEWS_AT_ONCE {
            match self.outlet.news.try_recv() {
                Ok(news) => self.take_one(news),
                Err(_) => break, // empty, or closed: the next recv tells which
            }
        }
        self.book();
    }

    fn take_one(&mut self, news: News) {
        let now = clock::wall();
        match news {
            News::Update { first, update } => {
                let count = match &update {
                    Update::Readings(readings) => readings.len() as u64,
                    Update::DeviceUp(_) | Update::DeviceDown(..) => 0,
                };
                self.delivery.handle_stored(first.after(count));
                self.replay.handle_stored(first.after(count), clock::monotonic());
                self.session.handle_update(first, update, now);
            }
            News::Clock(booted_at) => {
                self.is_clock_trusted = true;
                self.session.handle_clock(booted_at);
            }
            News::Gap(gap) => self.lose(gap),
            News::Alarm(alarm) => self.session.handle_alarm(alarm, now),
        }
    }

    /// Brings the ledger up to what the session has queued and taken back.
    fn book(&mut self) {
        let moves = self.session.take_moves();
        self.delivery.handle_taken_back(&moves.taken_back);
        self.delivery.handle_waiting(&moves.queued);
        self.delivery.give_up(&moves.idle);
    }

    /// Hands over what there is to send, as far as the window goes.
    fn send(&mut self, connection: &Connection, talk: &mut Talk) {
        while talk.in_hand < WINDOW {
            let now = clock::monotonic();
            if self.delivery.barrier_due().is_some_and(|due| due <= now) {
                let barrier = Publication {
                    topic: self.barrier.clone(),
                    is_acknowledged: true,
                    ..Publication::default()
                };
                if connection.publish(barrier).is_err() {
                    return; // the connection is closing: its end is told by the pump
                }
                talk.in_hand += 1;
                self.delivery.handle_barrier_sent(now);
                continue;
            }
            if !self.delivery.has_room() {
                return; // a barrier is on its way
            }
            let Some(mut publication) = self.session.poll_publication(clock::wall()) else { return };
            let carried = std::mem::take(&mut publication.carried);
            let size = publication.payload.len() + publication.topic.len();
            let is_proof = publication.is_acknowledged;
            if size > OUTGOING_SIZE_MAX - 16 {
                error!(
                    topic = publication.topic,
                    size = publication.payload.len(),
                    "larger than any broker takes: not sent"
                );
                continue;
            }
            if connection.publish(publication).is_err() {
                return;
            }
            talk.in_hand += 1;
            self.delivery.handle_sent(carried, size, is_proof, now);
        }
    }

    /// When something is to be done if nothing happens before.
    fn due(&self, talk: &Talk) -> Instant {
        let silent = talk.heard + self.uplink.keep_alive * 3 / 2;
        let has_room = talk.in_hand < WINDOW;
        let all = [
            Some(silent),
            talk.born.is_none().then_some(talk.started + BIRTH_PATIENCE),
            self.delivery.waits_since().map(|since| since + self.barrier_patience()),
            self.delivery.barrier_due().filter(|_| has_room),
            self.session.rebirth_due(),
        ];
        all.into_iter().flatten().min().unwrap_or(silent)
    }

    fn barrier_patience(&self) -> Duration {
        BARRIER_PATIENCE.max(self.uplink.keep_alive * 3 / 2)
    }

    /// Does what is due; why the connection is to be given up, if it is.
    fn handle_due(&mut self, talk: &Talk) -> Option<&'static str> {
        let now = clock::monotonic();
        self.session.handle_due(now, clock::wall());
        self.book();
        let has_waited =
            |since: Instant, patience: Duration| now.saturating_duration_since(since) >= patience;
        if has_waited(talk.heard, self.uplink.keep_alive * 3 / 2) {
            return Some("the broker has not been heard for one and a half keep-alives");
        }
        if talk.born.is_none() && has_waited(talk.started, BIRTH_PATIENCE) {
            return Some("the broker does not answer the subscription");
        }
        let is_unproven =
            self.delivery.waits_since().is_some_and(|since| has_waited(since, self.barrier_patience()));
        is_unproven.then_some("the broker does not acknowledge the barrier: may this client publish it?")
    }

    fn handle(&mut self, happening: Happening, connection: &Connection, talk: &mut Talk) {
        let now = clock::monotonic();
        if !matches!(happening, Happening::Sent | Happening::Disconnected) {
            talk.heard = now;
            self.delivery.handle_heard(now);
        }
        match happening {
            Happening::Connected => {
                self.counters.connects.add(1);
                connection.subscribe(self.session.command_filters()).ok(); // closing: its end is told by the pump
            }
            Happening::Subscribed(is_granted) => {
                if !is_granted {
                    warn!(uplink = %self.uplink.name, "the broker refuses the subscription to commands");
                }
                info!(uplink = %self.uplink.name, bd_seq = talk.bd_seq, "session born");
                talk.born = Some(now);
                self.session.handle_connected(talk.bd_seq, clock::wall());
                self.book();
            }
            Happening::Sent => talk.in_hand = talk.in_hand.saturating_sub(1),
            Happening::Message { topic, payload, is_retained } => {
                let is_obeyed = !is_retained && self.session.handle_message(&topic, &payload, now);
                debug!(uplink = %self.uplink.name, topic, is_obeyed, "command");
                self.command(&topic, &payload, is_retained);
            }
            Happening::Acknowledged => self.delivery.handle_acknowledged(now),
            Happening::Heard | Happening::Disconnected => {}
        }
    }

    /// Passes on what a message wants written.
    fn command(&mut self, topic: &str, payload: &[u8], is_retained: bool) {
        let now = clock::wall();
        for request in self.session.write_requests(topic, payload, is_retained, now) {
            if let Err(refused) = self.commands.ask(request, now) {
                self.session.handle_outcome(&refused, now);
            }
        }
    }

    fn lost(&mut self, error: &str, talk: &Talk) -> End {
        let was_steady = talk.born.is_some_and(|born| clock::monotonic() - born >= STEADY);
        if talk.born.is_some() || self.backoff.failures == 0 {
            warn!(uplink = %self.uplink.name, %error, "no connection to the broker; polling goes on");
        } else {
            debug!(uplink = %self.uplink.name, %error, failures = self.backoff.failures, "still no connection");
        }
        self.backoff.handle_end(was_steady);
        End::Lost
    }

    /// Tells the store how far this uplink has come, where that has changed.
    fn say_delivered(&mut self, is_away: bool) {
        let delivered = self.delivery.delivered(is_away);
        if delivered != self.told && self.outlet.say_delivered(delivered) {
            self.told = delivered;
        }
    }

    /// Sends what waits, then the death certificate, then DISCONNECT. The broker's acknowledgement of the death proves
    /// that it has all that came before.
    async fn farewell(
        &mut self,
        connection: &Connection,
        talk: &mut Talk,
        happenings: &mut mpsc::Receiver<Happening>,
    ) {
        if talk.born.is_none() {
            return;
        }
        let mut is_said = false;
        loop {
            if !is_said {
                self.send(connection, talk); // after a death there is nothing but a new session
            }
            if !is_said && talk.in_hand < WINDOW && !self.session.is_waiting() {
                is_said = true;
                let death = self.session.death(talk.bd_seq, clock::wall());
                connection.publish(death).ok(); // closing: the will speaks
                self.delivery.handle_sent(Positions::default(), 0, true, clock::monotonic());
            }
            match happenings.recv().await {
                None | Some(Happening::Disconnected) => return,
                Some(happening) => self.handle(happening, connection, talk),
            }
            if is_said && self.delivery.is_quiet() {
                talk.is_over = true;
                connection.disconnect().ok(); // closing already
            }
        }
    }
}

/// What the store answers, and from where on it was asked; `None` where it has ended.
async fn piece(asked: &mut Option<(Position, oneshot::Receiver<Piece>)>) -> (Position, Option<Piece>) {
    match asked {
        Some((from, piece)) => {
            let answer = (*from, piece.await.ok());
            *asked = None;
            answer
        }
        None => std::future::pending().await,
    }
}
