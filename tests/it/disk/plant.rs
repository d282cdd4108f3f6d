//! A store with its task, as the gateway runs it, and readings that say which they are. `benches/store.rs` uses it too.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidegate::config;
use tidegate::config::site::Site;
use tidegate::counters::StoreCounters;
use tidegate::position::Position;
use tidegate::queue::task::{News, Outlet, open};
use tidegate::queue::{Bookmark, Delivered};
use tidegate::reading::{Quality, Reading, Stamp, Timestamp, Update, Value};
use tidegate::tag::TagId;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Devices, and tags of each.
const DEVICES: u32 = 4;
const TAGS: u32 = 50;
/// Readings that are asked for at a time.
const PORTION: usize = 2000;

/// A site whose state lies in a folder; `queue` is its section.
pub(crate) fn site(state: &Path, queue: &str) -> Arc<Site> {
    let tag =
        |tag: u32| format!("{{ name = 'zone{}/value{tag}', at = 'hr:{}', type = 'u32' }}", tag / 10, tag * 2);
    let tags: Vec<String> = (0..TAGS).map(tag).collect();
    let device = |unit: u32| {
        format!("[device.oven{unit}]\nlink = 'l'\nunit = {}\ntags = [{}]\n", unit + 1, tags.join(", "))
    };
    let devices: String = (0..DEVICES).map(device).collect();
    let text = format!(
        "[gateway]\nname = 'n'\nenterprise = 'e'\nstate_dir = '{}'\n[uplink.cloud]\nbroker = 'mqtt://127.0.0.1'\n\
         [link.l]\ntcp = '127.0.0.1:502'\n{devices}[queue]\n{queue}\n",
        state.display(),
    );
    Arc::new(config::parse("site.toml", &text).site.unwrap())
}

/// The reading with this number: a tag, a value and a time that follow from it.
pub(crate) fn reading(number: u64) -> Reading {
    let tag = TagId(u32::try_from(number % u64::from(DEVICES * TAGS)).unwrap());
    let value = match number % 4 {
        0 => Value::UInt(number % 60_000),
        1 => Value::Int(-(i64::try_from(number % 30_000).unwrap())),
        _ => Value::Double(f64::from(u32::try_from(number % 1_000_000).unwrap()) / 8.0),
    };
    let millis = 1_764_000_000_000 + number / 50 * 50; // a scan has one time
    Reading {
        tag,
        value: Some(value),
        quality: Quality::Good,
        at: Stamp::Wall(Timestamp::from_millis(millis)),
    }
}

/// Readings as the normaliser hands them on.
pub(crate) fn scan(first: u64, count: u64) -> Update {
    Update::Readings((first..first + count).map(reading).collect())
}

/// A running store with one uplink.
pub(crate) struct Plant {
    pub(crate) updates: mpsc::Sender<Update>,
    pub(crate) outlet: Outlet,
    pub(crate) counters: Arc<StoreCounters>,
    task: JoinHandle<()>,
    /// What the store says of itself.
    pub(crate) alarm: Option<&'static str>,
    /// Everything before this has been stored.
    pub(crate) stored: Position,
    /// Readings that the store has dropped.
    pub(crate) dropped: u64,
}

impl Plant {
    /// Starts a store, on the runtime of whoever calls.
    #[expect(clippy::disallowed_methods, reason = "a bench or a test is its own gateway")]
    pub(crate) fn start(site: &Arc<Site>) -> Plant {
        let counters = Arc::new(StoreCounters::default());
        let (task, mut outlets) = open(site, &counters).unwrap();
        let outlet = outlets.remove(0);
        let (updates, coming) = mpsc::channel(256);
        let (task, stored) = (tokio::spawn(task.run(coming)), outlet.next);
        Plant { updates, outlet, counters, task, alarm: None, stored, dropped: 0 }
    }

    /// Hands on the readings from `first` on, in scans, and hears what becomes of them.
    pub(crate) async fn add(&mut self, first: u64, count: u64) {
        let mut next = first;
        while next < first + count {
            let size = (first + count - next).min(50);
            self.send(scan(next, size)).await;
            next += size;
        }
    }

    async fn send(&mut self, update: Update) {
        let updates = self.updates.clone();
        let mut sending = std::pin::pin!(updates.send(update));
        loop {
            tokio::select! {
                sent = &mut sending => return sent.unwrap(),
                news = self.outlet.news.recv() => self.hear(news.unwrap()),
            }
        }
    }

    /// Hears what the store says, until `is_so` or for so long; whether it is so.
    pub(crate) async fn listen(&mut self, time: Duration, is_so: impl Fn(&Plant) -> bool) -> bool {
        let mut end = std::pin::pin!(tokio::time::sleep(time));
        let mut beat = tokio::time::interval(Duration::from_millis(20)); // counters do not call
        while !is_so(self) {
            tokio::select! {
                () = &mut end => return false,
                _ = beat.tick() => {}
                news = self.outlet.news.recv() => self.hear(news.unwrap()),
            }
        }
        true
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Update { first, update: Update::Readings(readings) } => {
                self.stored = first.after(readings.len() as u64);
            }
            News::Alarm(alarm) => self.alarm = alarm,
            News::Gap(gap) => self.dropped += gap.end.since(gap.first),
            News::Update { .. } | News::Clock(_) => {}
        }
    }

    /// Says how far the uplink has come, as soon as the store has ears.
    pub(crate) async fn say(&mut self, delivered: Delivered) {
        while !self.outlet.say_delivered(delivered) {
            self.listen(Duration::from_millis(1), |_| false).await;
        }
    }

    /// Reads all that there is from a position on; `take` gets each reading. Where it ended.
    pub(crate) async fn read(&mut self, from: Position, mut take: impl FnMut(Position, Reading)) -> Position {
        let (mut from, mut bookmark) = (from, Bookmark::default());
        while from < self.stored {
            let Some(mut piece) = self.outlet.read(from, PORTION, std::mem::take(&mut bookmark)) else {
                self.listen(Duration::from_millis(1), |_| false).await;
                continue;
            };
            let piece = loop {
                tokio::select! {
                    piece = &mut piece => break piece.unwrap(),
                    news = self.outlet.news.recv() => self.hear(news.unwrap()),
                }
            };
            if piece.unreadable.is_some() {
                return from; // whoever wants it asks again later
            }
            piece.readings.into_iter().for_each(|(position, reading)| take(position, reading));
            (from, bookmark) = (piece.next, piece.bookmark);
        }
        from
    }

    /// The clean end: what is not delivered goes to the disk.
    pub(crate) async fn end(self, delivered: Delivered) {
        let Plant { updates, outlet, task, .. } = self;
        drop(updates);
        outlet.part(delivered).await;
        task.await.unwrap();
    }
}
