//! The task between normalising and the uplinks: stores what comes, hands it on, and answers for what is stored.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::disk::{Done, Job};
use super::history::{Bookmark, Piece};
use super::index::Delivered;
use super::record::Gap;
use super::store::{Plan, Store};
use crate::clock;
use crate::config::site::Site;
use crate::counters::StoreCounters;
use crate::position::Position;
use crate::reading::{Timestamp, Update};

/// Updates that are stored together.
const UPDATES_AT_ONCE: usize = 64;
/// What an uplink has not taken yet; it takes at once, in session or not.
const NEWS: usize = 256;
/// What uplinks have asked and said.
const REQUESTS: usize = 64;
/// What the disk has to do at a time; the rest waits here.
const JOBS: usize = 64;
/// How often a clock that is not trusted is looked at.
const CLOCK_EVERY: Duration = Duration::from_secs(1);

/// What an uplink is told.
#[derive(Clone, Debug)]
pub enum News {
    /// Stored; its readings have the positions from `first` on.
    Update {
        /// The position of the first reading, or of the next.
        first: Position,
        /// What has happened.
        update: Update,
    },
    /// The wall clock is trusted from now on; the machine was started then.
    Clock(Timestamp),
    /// Readings were dropped.
    Gap(Gap),
    /// What is wrong with the store now.
    Alarm(Option<&'static str>),
}

/// What an uplink asks or says.
#[derive(Debug)]
enum Request {
    Read { from: Position, count: usize, bookmark: Bookmark, reply: oneshot::Sender<Piece> },
    Delivered { uplink: usize, delivered: Delivered },
}

/// An uplink's end of the store.
#[derive(Debug)]
pub struct Outlet {
    uplink: usize,
    requests: mpsc::Sender<Request>,
    /// What happens.
    pub news: mpsc::Receiver<News>,
    /// How far it had come.
    pub start: Delivered,
    /// The position of the first reading that it is told of.
    pub next: Position,
}

impl Outlet {
    /// Asks for `count` readings or somewhat more from `from` on; `None` while the store is busy.
    #[must_use]
    pub fn read(&self, from: Position, count: usize, bookmark: Bookmark) -> Option<oneshot::Receiver<Piece>> {
        let (reply, piece) = oneshot::channel();
        self.requests.try_send(Request::Read { from, count, bookmark, reply }).ok()?;
        Some(piece)
    }

    /// Says how far it has come; false while the store is busy.
    #[must_use]
    pub fn say_delivered(&self, delivered: Delivered) -> bool {
        self.requests.try_send(Request::Delivered { uplink: self.uplink, delivered }).is_ok()
    }

    /// Says it for the last time.
    pub async fn part(mut self, delivered: Delivered) {
        self.news.close(); // the store must not wait for this uplink while this waits for the store
        let last = Request::Delivered { uplink: self.uplink, delivered };
        self.requests.send(last).await.ok(); // the store has ended first: it finds what it knew
    }
}

/// Stores until nobody needs it any more.
#[derive(Debug)]
pub struct Task {
    store: Store,
    outlets: Vec<mpsc::Sender<News>>,
    requests: mpsc::Receiver<Request>,
    disk: Disk,
    alarm: Option<&'static str>,
    /// While the clock is not trusted: when it is looked at again.
    look_due: Option<Instant>,
}

/// The thread that touches the disk.
#[derive(Debug)]
struct Disk {
    jobs: mpsc::Sender<Job>,
    done: mpsc::Receiver<Done>,
    waiting: VecDeque<Job>,
    under_way: usize,
}

enum Woken {
    Updates(Vec<Update>),
    /// There will be no more updates.
    Closed,
    Request(Request),
    /// No uplink is left.
    Abandoned,
    Done(Done),
    Due,
}

/// Opens the store of a site: its task, and one outlet for each uplink.
///
/// # Errors
/// Where the system has no thread to give.
pub fn open(site: &Arc<Site>, counters: &Arc<StoreCounters>) -> io::Result<(Task, Vec<Outlet>)> {
    let now = clock::monotonic();
    let mut store =
        Store::open(Plan::of(site, clock::boot_id(), clock::wall()), site.clone(), counters.clone(), now);
    if let Some(booted_at) = clock::booted_at().filter(|_| store.booted_at().is_none()) {
        store.handle_clock(booted_at, now);
    }
    let disk = Disk::start(store.disk())?;
    let (asking, requests) = mpsc::channel(REQUESTS);
    let (mut outlets, mut ends) = (Vec::new(), Vec::new());
    for (uplink, start) in store.delivered().iter().copied().enumerate() {
        let (telling, news) = mpsc::channel(NEWS);
        outlets.push(telling);
        ends.push(Outlet { uplink, requests: asking.clone(), news, start, next: store.next_position() });
    }
    let look_due = (!clock::is_trusted()).then_some(now);
    Ok((Task { store, outlets, requests, disk, alarm: None, look_due }, ends))
}

impl Task {
    /// Stores `updates` and hands them on, until there are no more and no uplink is left; then what is not delivered is
    /// brought to the disk.
    pub async fn run(mut self, mut updates: mpsc::Receiver<Update>) {
        let (mut is_open, mut is_needed) = (true, true);
        let jobs = self.store.act(clock::monotonic());
        self.disk.ask(jobs);
        self.tell().await;
        while is_open || is_needed {
            match self.wait(&mut updates, is_open, is_needed).await {
                Woken::Updates(updates) => self.take(updates).await,
                Woken::Closed => {
                    is_open = false;
                    self.outlets.clear(); // the uplinks end, and say how far they have come
                }
                Woken::Request(request) => self.answer(request),
                Woken::Abandoned => is_needed = false,
                Woken::Done(done) => {
                    self.disk.under_way -= 1;
                    self.store.handle_done(done, clock::monotonic());
                }
                Woken::Due => {}
            }
            self.look().await;
            let jobs = self.store.act(clock::monotonic());
            self.disk.ask(jobs);
            self.tell().await;
        }
        self.end().await;
    }

    /// Looks at a clock that is not trusted, from time to time.
    async fn look(&mut self) {
        let now = clock::monotonic();
        if self.look_due.is_none_or(|due| due > now) {
            return;
        }
        self.look_due = Some(now + CLOCK_EVERY);
        if let Some(booted_at) = clock::look() {
            self.look_due = None;
            self.store.handle_clock(booted_at, now);
            self.tell_all(&News::Clock(booted_at)).await;
        }
    }

    async fn wait(&mut self, updates: &mut mpsc::Receiver<Update>, is_open: bool, is_needed: bool) -> Woken {
        let due = self.store.due().into_iter().chain(self.look_due).min();
        let mut batch = Vec::new();
        // all of them may be dropped at any time: what was not received stays
        tokio::select! {
            count = updates.recv_many(&mut batch, UPDATES_AT_ONCE), if is_open => match count {
                0 => Woken::Closed,
                _ => Woken::Updates(batch),
            },
            request = self.requests.recv(), if is_needed => request.map_or(Woken::Abandoned, Woken::Request),
            Some(done) = self.disk.done.recv() => Woken::Done(done),
            () = clock::until(due) => Woken::Due,
        }
    }

    /// Stores first, then tells.
    async fn take(&mut self, updates: Vec<Update>) {
        let now = clock::monotonic();
        let mut news = Vec::with_capacity(updates.len());
        for update in updates {
            let (first, update) = match update {
                Update::Readings(readings) => {
                    let readings = self.store.settled(readings);
                    (self.store.add(&readings, now), Update::Readings(readings))
                }
                Update::DeviceUp(_) | Update::DeviceDown(..) => (self.store.next_position(), update),
            };
            news.push(News::Update { first, update });
        }
        self.store.commit(now);
        for news in news {
            self.tell_all(&news).await;
        }
    }

    async fn tell_all(&self, news: &News) {
        for outlet in &self.outlets {
            outlet.send(news.clone()).await.ok(); // an uplink that has ended has said so itself
        }
    }

    /// Tells what has changed beside updates.
    async fn tell(&mut self) {
        for gap in self.store.take_gaps() {
            self.tell_all(&News::Gap(gap)).await;
        }
        let alarm = self.store.alarm();
        if std::mem::replace(&mut self.alarm, alarm) != alarm {
            self.tell_all(&News::Alarm(alarm)).await;
        }
    }

    fn answer(&mut self, request: Request) {
        match request {
            Request::Read { from, count, bookmark, reply } => {
                let job = self.store.read(from, count, bookmark, reply);
                self.disk.ask(job);
            }
            Request::Delivered { uplink, delivered } => {
                self.store.handle_delivered(uplink, delivered, clock::monotonic());
            }
        }
    }

    async fn end(mut self) {
        loop {
            let job = self.store.keep_all(clock::monotonic());
            self.disk.ask(job);
            if self.disk.under_way == 0 {
                break;
            }
            let Some(done) = self.disk.done.recv().await else { break };
            self.disk.under_way -= 1;
            let is_failed = matches!(&done, Done::Kept { result: Err(_), .. });
            self.store.handle_done(done, clock::monotonic());
            if is_failed {
                break; // what is in memory is found there at the next start
            }
        }
        self.store.close();
    }
}

impl Disk {
    fn start(disk: super::disk::Disk) -> io::Result<Disk> {
        let (jobs, to_do) = mpsc::channel(JOBS);
        let (doing, done) = mpsc::channel(JOBS);
        thread::Builder::new().name("store".to_owned()).spawn(move || disk.run(to_do, &doing))?;
        Ok(Disk { jobs, done, waiting: VecDeque::new(), under_way: 0 })
    }

    /// Has jobs done, in their order.
    fn ask(&mut self, jobs: impl IntoIterator<Item = Job>) {
        self.waiting.extend(jobs);
        while self.under_way < JOBS
            && let Some(job) = self.waiting.pop_front()
        {
            if self.jobs.try_send(job).is_err() {
                return; // the thread is gone, which only a panic does: nothing is kept any more, and reads end empty
            }
            self.under_way += 1;
        }
    }
}
