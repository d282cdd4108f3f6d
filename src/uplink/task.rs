//! The task of one uplink: connects, bears, delivers, replays, and says farewell.

mod history;
mod vitals;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::sleep_until;
use tracing::{debug, info, warn};

use super::age::Ages;
use super::backoff::Backoff;
use super::bdseq::BdSeq;
use super::budget::Budget;
use super::conversation::Conversation;
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
use crate::sparkplug::session::Heard;
use crate::vitals::{Observer, facts};

/// How long a broker may take from the connection to the granted subscription; it then counts as failed.
const BIRTH_PATIENCE: Duration = Duration::from_secs(20);
/// How long a broker may take to acknowledge a barrier, where that is more than a keep-alive takes.
const BARRIER_PATIENCE: Duration = Duration::from_secs(30);
/// A session that lasted so long was a good one: the next attempt to connect does not wait longer for its end.
const STEADY: Duration = Duration::from_secs(30);
/// How long a clean end may take.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long a server is left that has nothing of the primary host, before the next one is tried.
const WALK_WAIT: Duration = Duration::from_secs(1);
/// How long the primary host may take to say at a server that it is there, where there are others.
const HOST_PATIENCE: Duration = Duration::from_secs(30);
/// How long data may wait for devices that have not answered yet, after the first births of the program.
const BIRTH_HOLD: Duration = Duration::from_secs(2);
/// What a packet takes beside its topic and payload, at most.
const PACKET_OVERHEAD: usize = 9;
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
    session: Conversation,
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
    reload: Arc<Notify>,
    bd_seq: BdSeq,
    backoff: Backoff,
    has_been_born: bool,
    budget: Option<Budget>,
    ages: Ages,
    observer: Observer,
    /// When the gateway tells of itself next.
    vitals_due: Option<Instant>,
    publish: Option<Duration>,
    /// When it is looked next whether the budget is kept.
    budget_due: Option<Instant>,
}

/// What an uplink needs from outside.
#[derive(Debug)]
pub struct Ports {
    /// Where news comes from, and what was missed.
    pub outlet: Outlet,
    /// What happens is counted there.
    pub counters: Arc<Counters>,
    /// Whoever is notified takes the configuration over anew.
    pub reload: Arc<Notify>,
}

/// Why a connection has ended.
enum End {
    /// There will be no more news: the gateway stops. `is_clean`: the broker has all and knows it.
    Stopped { is_clean: bool },
    /// It failed.
    Lost,
    /// This uplink left, for the next server in its list; `is_clean` as above.
    Left { is_clean: bool },
}

/// The state of a connection.
struct Talk {
    bd_seq: u8,
    /// Publications that have been handed over and not been written yet.
    in_hand: usize,
    /// When the subscriptions stood.
    subscribed: Option<Instant>,
    /// When the births were handed over.
    born: Option<Instant>,
    /// When the broker was heard last.
    heard: Instant,
    started: Instant,
    is_over: bool,
    /// Why the connection is to be ended, if it is.
    turn: Option<Turn>,
}

/// Why a connection is ended that has not failed.
enum Turn {
    /// There will be no more news: what waits is sent first.
    Stop,
    /// For the next server, in good order.
    Leave(&'static str),
    /// It cannot go on.
    GiveUp(String),
}

enum Woken {
    Happening(Happening),
    News(News),
    Closed,
    Piece(Position, Option<Piece>),
    Failed(String),
    Due,
}

impl Task {
    /// An uplink that takes what its outlet gives.
    #[must_use]
    pub fn new(site: &Arc<Site>, uplink: Uplink, ports: Ports) -> Task {
        let Ports { outlet, counters, reload } = ports;
        let barrier_after = (site.queue.flush / BARRIERS_PER_FLUSH).min(BARRIER_AFTER_MAX);
        let sure_after = uplink.keep_alive * SURE_KEEP_ALIVES;
        Task {
            session: Conversation::new(site.clone(), &uplink, counters.clone()),
            delivery: Delivery::new(outlet.start, outlet.next, barrier_after, sure_after),
            replay: Replay::new(uplink.history_rate, outlet.next, clock::monotonic()),
            asked: None,
            bookmark: Bookmark::default(),
            unread: None,
            told: outlet.start,
            is_clock_trusted: clock::is_trusted(),
            has_been_born: false,
            budget: uplink.budget.map(|budget| Budget::new(budget, clock::wall())),
            ages: Ages::new(outlet.next, clock::monotonic()),
            observer: Observer::new(site.clone(), counters.clone(), &facts::gather(0), clock::monotonic()),
            vitals_due: None,
            publish: site.publish,
            budget_due: uplink.budget.map(|_| clock::monotonic()),
            barrier: format!("tidegate/{}/{}/barrier", site.gateway.enterprise, site.gateway.name),
            bd_seq: BdSeq::open(&site.gateway.state_dir, &uplink.name),
            backoff: Backoff::new(&uplink),
            outlet,
            uplink,
            counters,
            reload,
        }
    }

    /// Delivers until the gateway stops.
    pub async fn run(mut self) {
        let brokers = self.uplink.brokers.clone();
        let mut wait =
            if self.bd_seq.is_first() { Duration::ZERO } else { self.backoff.wait(fastrand::f64()) };
        for (server, broker) in brokers.iter().enumerate().cycle() {
            if self.rest(clock::monotonic() + wait).await {
                break;
            }
            self.session.handle_server(server);
            let end = self.converse(broker).await;
            self.session.handle_disconnected();
            let is_clean = matches!(end, End::Stopped { is_clean: true } | End::Left { is_clean: true });
            self.vitals_due = None;
            self.delivery.handle_end(is_clean);
            self.asked = None;
            self.say_delivered(true);
            if matches!(end, End::Stopped { .. }) {
                break;
            }
            wait = match end {
                End::Left { .. } => WALK_WAIT,
                End::Stopped { .. } | End::Lost => self.backoff.wait(fastrand::f64()),
            };
        }
        let delivered = self.delivery.delivered(true);
        self.outlet.part(delivered).await;
    }

    /// Takes news until `until`, and until the time of day is known, without a broker to tell; true if there will be no
    /// more.
    async fn rest(&mut self, until: Instant) -> bool {
        loop {
            let is_known = self.is_clock_trusted;
            // both arms may be dropped at any time: recv is cancel-safe, a sleep has no effect
            tokio::select! {
                news = self.outlet.news.recv() => match news {
                    Some(news) => self.take(news),
                    None => return true,
                },
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
        let mut talk = Talk {
            bd_seq,
            in_hand: 0,
            subscribed: None,
            born: None,
            heard: now,
            started: now,
            is_over: false,
            turn: None,
        };
        loop {
            self.send(&connection, &mut talk);
            let ask_due = self.ask(&talk);
            let due = self.due(&talk).min(ask_due.unwrap_or(talk.heard + self.uplink.keep_alive * 2));
            // the pump is never dropped half-way: it lives outside of the loop; all other arms may be dropped
            let woken = tokio::select! {
                error = &mut pump => Woken::Failed(error.to_string()),
                Some(happening) = happenings.recv() => Woken::Happening(happening),
                news = self.outlet.news.recv() => news.map_or(Woken::Closed, Woken::News),
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
                Woken::Piece(from, piece) => self.replay(from, piece.unwrap_or_default()),
                Woken::Failed(error) => return self.lost(&error, &talk),
                Woken::Due => {
                    if let Some(why) = self.handle_due(&mut talk) {
                        return self.lost(why, &talk);
                    }
                }
                Woken::Closed => talk.turn = Some(Turn::Stop),
            }
            if let Some(turn) = talk.turn.take() {
                if let Turn::GiveUp(why) = &turn {
                    return self.lost(why, &talk);
                }
                let farewell = self.farewell(&connection, &mut talk, &mut happenings, &turn);
                // a farewell that hangs or a pump that fails ends it all the same: the will speaks then
                tokio::select! {
                    _ = &mut pump => {}
                    _ = tokio::time::timeout(FAREWELL, farewell) => {}
                }
                return match turn {
                    Turn::Leave(why) => {
                        info!(uplink = %self.uplink.name, why, "left for the next server");
                        End::Left { is_clean: talk.is_over }
                    }
                    Turn::Stop | Turn::GiveUp(_) => End::Stopped { is_clean: talk.is_over },
                };
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
                self.ages.handle_stored(first.after(count), clock::monotonic());
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
        while talk.in_hand < WINDOW && talk.turn.is_none() {
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
                talk.turn = Some(Turn::GiveUp(format!(
                    "{} would be {size} bytes, more than the broker takes: describe the device as two",
                    publication.topic
                )));
                return;
            }
            self.budget.iter_mut().for_each(|budget| budget.handle_sent(size + PACKET_OVERHEAD));
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
            talk.subscribed.is_none().then_some(talk.started + BIRTH_PATIENCE),
            self.host_due(talk),
            talk.born.filter(|_| self.session.is_held()).map(|born| born + BIRTH_HOLD),
            self.vitals_due,
            self.budget_due.map(|due| due.max(talk.started)),
            self.delivery.waits_since().map(|since| since + self.barrier_patience()),
            self.delivery.barrier_due().filter(|_| has_room),
            self.session.rebirth_due(),
        ];
        all.into_iter().flatten().min().unwrap_or(silent)
    }

    /// When the next server is tried because the primary host says nothing here.
    fn host_due(&self, talk: &Talk) -> Option<Instant> {
        let has_others = self.uplink.brokers.len() > 1;
        talk.subscribed.filter(|_| has_others && talk.born.is_none()).map(|at| at + HOST_PATIENCE)
    }

    fn barrier_patience(&self) -> Duration {
        BARRIER_PATIENCE.max(self.uplink.keep_alive * 3 / 2)
    }

    /// Does what is due; why the connection is to be given up, if it is.
    fn handle_due(&mut self, talk: &mut Talk) -> Option<&'static str> {
        let now = clock::monotonic();
        self.session.handle_due(now, clock::wall());
        if talk.born.is_some_and(|born| now.saturating_duration_since(born) >= BIRTH_HOLD) {
            self.session.release();
        }
        if self.vitals_due.is_some_and(|due| due <= now) {
            self.tell_vitals(now);
        }
        if self.budget_due.is_some_and(|due| due <= now) {
            self.keep_budget(now);
        }
        self.book();
        if self.host_due(talk).is_some_and(|due| due <= now) {
            talk.turn = Some(Turn::Leave("the primary host says nothing here"));
        }
        let has_waited =
            |since: Instant, patience: Duration| now.saturating_duration_since(since) >= patience;
        if has_waited(talk.heard, self.uplink.keep_alive * 3 / 2) {
            return Some("the broker has not been heard for one and a half keep-alives");
        }
        if talk.subscribed.is_none() && has_waited(talk.started, BIRTH_PATIENCE) {
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
                let filters = self.session.filters();
                if filters.is_empty() {
                    talk.subscribed = Some(now);
                    self.bear(talk, now);
                } else {
                    connection.subscribe(filters).ok(); // closing: its end is told by the pump
                }
            }
            Happening::Subscribed(is_granted) => {
                if !is_granted {
                    warn!(uplink = %self.uplink.name, "the broker refuses the subscription to commands");
                }
                talk.subscribed = Some(now);
                if self.session.waits_for_host() {
                    info!(uplink = %self.uplink.name, "waits for the primary host");
                } else {
                    self.bear(talk, now);
                }
            }
            Happening::Sent => talk.in_hand = talk.in_hand.saturating_sub(1),
            Happening::Message { topic, payload, is_retained } => {
                let heard = self.session.handle_message(&topic, &payload, is_retained, now);
                debug!(uplink = %self.uplink.name, topic, ?heard, "message");
                self.obey(&heard, talk, now);
            }
            Happening::Acknowledged => self.delivery.handle_acknowledged(now),
            Happening::Heard | Happening::Disconnected => {}
        }
    }

    /// Births, from which on there is a session.
    fn bear(&mut self, talk: &mut Talk, now: Instant) {
        info!(uplink = %self.uplink.name, bd_seq = talk.bd_seq, "session born");
        talk.born = Some(now);
        self.tell_vitals(now);
        self.session.handle_connected(talk.bd_seq, clock::wall());
        if !std::mem::replace(&mut self.has_been_born, true) {
            self.session.hold();
        }
        self.book();
    }

    fn obey(&mut self, heard: &Heard, talk: &mut Talk, now: Instant) {
        let has_others = self.uplink.brokers.len() > 1;
        match heard {
            Heard::HostOnline if talk.subscribed.is_some() && talk.born.is_none() => self.bear(talk, now),
            Heard::HostOffline if talk.born.is_some() || has_others => {
                talk.turn = Some(Turn::Leave("the primary host is offline"));
            }
            Heard::HostOnline | Heard::HostOffline | Heard::Rebirth | Heard::Nothing => {}
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
        turn: &Turn,
    ) {
        self.session.release();
        let sends_rest = matches!(turn, Turn::Stop);
        let mut is_said = talk.born.is_none();
        if is_said {
            connection.disconnect().ok(); // closing already
        }
        loop {
            if !is_said && sends_rest {
                self.send(connection, talk); // after a death there is nothing but a new session
            }
            if !is_said && talk.in_hand < WINDOW && !(sends_rest && self.session.is_waiting()) {
                is_said = true;
                let death = self.session.death(talk.bd_seq, clock::wall());
                connection.publish(death).ok(); // closing: the will speaks
                self.delivery.handle_sent(Positions::default(), 0, true, clock::monotonic());
            }
            match happenings.recv().await {
                None | Some(Happening::Disconnected) => return,
                Some(happening) => self.handle(happening, connection, talk),
            }
            if is_said && talk.born.is_some() && self.delivery.is_quiet() {
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
