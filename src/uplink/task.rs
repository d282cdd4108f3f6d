//! The task of one uplink: connects, bears, delivers, replays, and says farewell.

mod history;
mod send;
mod talk;
mod vitals;
mod watch;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::sleep_until;
use tracing::{debug, info, warn};

use super::age::Ages;
use super::backoff::Backoff;
use super::bdseq::BdSeq;
use super::budget::Budget;
use super::commands::Commands;
use super::conversation::Conversation;
use super::delivery::Delivery;
use super::mqtt::{self, Connection, Happening};
use super::replay::Replay;
use super::selftest::SelfTest;
use crate::clock;
use crate::config::site::{Broker, Payload, Site, Uplink};
use crate::counters::Counters;
use crate::position::Position;
use crate::queue::task::{News, Outlet};
use crate::queue::{Bookmark, Delivered, Piece};
use crate::reading::Update;
use crate::vitals::{Observer, facts};
use crate::write::Outcome;
use talk::{Talk, Turn};

/// How long a clean end may take.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long a server is left that has nothing of the primary host, before the next one is tried.
const WALK_WAIT: Duration = Duration::from_secs(1);
/// The same when none of them had it.
const ROUND_WAIT: Duration = Duration::from_secs(30);
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
    /// None in JSON, where each message is acknowledged by itself.
    barrier: Option<String>,
    self_test: SelfTest,
    counters: Arc<Counters>,
    reload: Arc<Notify>,
    bd_seq: BdSeq,
    backoff: Backoff,
    /// Why the last connection has ended.
    said: String,
    has_been_born: bool,
    /// Servers in a row that were left.
    walked: usize,
    budget: Option<Budget>,
    ages: Ages,
    observer: Observer,
    /// When the gateway tells of itself next.
    vitals_due: Option<Instant>,
    publish: Option<Duration>,
    /// When it is looked next whether the budget is kept.
    budget_due: Option<Instant>,
    commands: Commands,
    plans: mpsc::Sender<bytes::Bytes>,
}

/// What an uplink needs from outside.
#[derive(Debug)]
pub struct Ports {
    /// Where news comes from, and what was missed.
    pub outlet: Outlet,
    /// Where requests to write go, and where outcomes come from.
    pub commands: Commands,
    /// Where plans for machines go.
    pub plans: mpsc::Sender<bytes::Bytes>,
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
    /// An uplink that takes what its outlet gives.
    #[must_use]
    pub fn new(site: &Arc<Site>, uplink: Uplink, ports: Ports) -> Task {
        let Ports { outlet, commands, plans, counters, reload } = ports;
        let barrier_after = (site.queue.flush / BARRIERS_PER_FLUSH).min(BARRIER_AFTER_MAX);
        let sure_after = uplink.keep_alive * SURE_KEEP_ALIVES;
        let barrier = match uplink.payload {
            Payload::Sparkplug => {
                Some(format!("tidegate/{}/{}/barrier", site.gateway.enterprise, site.gateway.name))
            }
            Payload::Json(_) => None,
        };
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
            walked: 0,
            budget: uplink.budget.map(|budget| Budget::new(budget, clock::wall())),
            ages: Ages::new(outlet.next, clock::monotonic()),
            observer: Observer::new(site.clone(), counters.clone(), &facts::gather(0), clock::monotonic()),
            vitals_due: None,
            publish: site.publish,
            budget_due: uplink.budget.map(|_| clock::monotonic()),
            self_test: SelfTest::new(barrier.clone(), uplink.plan.is_some()),
            barrier,
            bd_seq: BdSeq::open(&site.gateway.state_dir, &uplink.name),
            backoff: Backoff::new(&uplink),
            said: String::new(),
            outlet,
            uplink,
            counters,
            reload,
            commands,
            plans,
        }
    }

    /// Delivers until the gateway stops.
    pub async fn run(mut self) {
        let brokers = self.uplink.brokers.clone();
        let proxy = self.uplink.proxy.as_ref();
        for broker in brokers.iter().filter(|broker| broker.is_exposed(proxy)) {
            warn!(uplink = %self.uplink.name, broker = broker.host, "readings and passwords go unprotected (insecure)");
        }
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
            self.self_test.handle_end();
            self.asked = None;
            self.say_delivered(true);
            if matches!(end, End::Stopped { .. }) {
                break;
            }
            wait = match end {
                End::Left { .. } if self.walked <= brokers.len() => WALK_WAIT,
                End::Left { .. } => ROUND_WAIT,
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
        let verdict = self.self_test.handle_start();
        let bd_seq = self.next_bd_seq().await;
        let will = self.session.death(bd_seq, clock::wall());
        let mut talk = Talk::new(bd_seq, clock::monotonic());
        if let Some(verdict) = verdict {
            self.judge(verdict, &mut talk);
        }
        let (connection, pump, mut happenings) = match mqtt::connect(&self.uplink, broker, will) {
            Ok(parts) => parts,
            Err(error) => return self.lost(&error.to_string(), &talk),
        };
        let pump = pump.run();
        tokio::pin!(pump);
        let turn = loop {
            self.send(&connection, &mut talk);
            if let Some(turn) = talk.turn.take() {
                break turn;
            }
            let ask_due = self.ask(&talk);
            let due = self.due(&talk).min(ask_due.unwrap_or(talk.heard + self.uplink.keep_alive * 2));
            // the pump is never dropped half-way: it lives outside of the loop; all other arms may be dropped
            let woken = tokio::select! {
                error = &mut pump => Woken::Failed(error),
                Some(happening) = happenings.recv() => Woken::Happening(happening),
                news = self.outlet.news.recv() => news.map_or(Woken::Closed, Woken::News),
                outcome = self.commands.outcome() => Woken::Outcome(outcome),
                (from, piece) = piece(&mut self.asked) => Woken::Piece(from, piece),
                () = sleep_until(due.into()) => Woken::Due,
            };
            let is_held_up = clock::monotonic().saturating_duration_since(due) > self.uplink.keep_alive / 2;
            self.apply(woken, is_held_up, &connection, &mut talk);
            if let Some(turn) = talk.turn.take() {
                break turn;
            }
            self.say_delivered(talk.born.is_none());
        };
        if let Turn::GiveUp(why) = &turn {
            return self.lost(why, &talk);
        }
        let farewell = self.farewell(&connection, &mut talk, &mut happenings, &turn);
        // a farewell that hangs or a pump that fails ends it all the same: the will speaks then
        tokio::select! {
            _ = &mut pump => {}
            _ = tokio::time::timeout(FAREWELL, farewell) => {}
        }
        self.left(&turn, &talk)
    }

    /// Does what is to be done about it. After this program `was_held_up`, what comes in may be of a broker that has died
    /// meanwhile; what is news stays so.
    fn apply(&mut self, woken: Woken, was_held_up: bool, connection: &Connection, talk: &mut Talk) {
        match woken {
            Woken::News(news) => self.take(news),
            Woken::Outcome(outcome) => self.session.handle_outcome(&outcome, clock::wall()),
            Woken::Happening(happening) if !was_held_up => self.handle(happening, connection, talk),
            Woken::Piece(from, piece) if !was_held_up => self.replay(from, piece.unwrap_or_default()),
            Woken::Due if !was_held_up => self.handle_due(talk),
            Woken::Failed(error) => talk.turn = Some(Turn::GiveUp(error)),
            Woken::Closed => talk.turn = Some(Turn::Stop),
            Woken::Happening(_) | Woken::Piece(..) | Woken::Due => {}
        }
        if was_held_up {
            talk.turn = Some(Turn::GiveUp("this program was held up".to_owned()));
        }
    }

    /// The farewell is over.
    fn left(&mut self, turn: &Turn, talk: &Talk) -> End {
        let is_clean = talk.is_over;
        match turn {
            Turn::Leave(why) => {
                self.walked = if talk.born.is_some() { 1 } else { self.walked + 1 };
                if talk.is_steady() {
                    self.backoff.handle_end(true);
                }
                info!(uplink = %self.uplink.name, why, "left for the next server");
                End::Left { is_clean }
            }
            Turn::Stop | Turn::GiveUp(_) => End::Stopped { is_clean },
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
                self.budget = self.uplink.budget.map(|budget| Budget::new(budget, now));
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

    fn lost(&mut self, error: &str, talk: &Talk) -> End {
        if talk.born.is_some() || self.backoff.failures == 0 || self.said != error {
            error.clone_into(&mut self.said);
            warn!(uplink = %self.uplink.name, %error, "no connection to the broker; polling goes on");
        } else {
            debug!(uplink = %self.uplink.name, %error, failures = self.backoff.failures, "still no connection");
        }
        self.backoff.handle_end(talk.is_steady());
        End::Lost
    }

    /// Tells the store how far this uplink has come, where that has changed.
    fn say_delivered(&mut self, is_away: bool) {
        let delivered = self.delivery.delivered(is_away);
        if delivered != self.told && self.outlet.say_delivered(delivered) {
            self.told = delivered;
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
