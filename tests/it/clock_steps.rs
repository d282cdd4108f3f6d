//! The system clock is stepped under the running program: nothing is reordered, lost or repeated.
//!
//! The program runs under libfaketime, which moves its system clock and no other; plant, broker and subscriber have the
//! real one. Needs the Debian package `libfaketime`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use prost::Message as _;
use tempfile::TempDir;
use tidegate::clock;
use tidegate::sim::broker::Broker;
use tidegate::sparkplug::proto::Payload;
use tokio::task::JoinSet;

use crate::lossless::{
    Arrival, How, Log, Plant, Program, Proxy, Served, Size, Subscriber, Tag, What, is_good, now_ms, number,
    value,
};

const SIZE: Size = Size { devices: 2, tags: 10 };
/// Between two steps.
const APART: Duration = Duration::from_secs(3);
/// Within these the broker goes away and comes back.
const MARGIN: Duration = Duration::from_secs(1);
/// The longest that anything may take that must happen, and between two looks.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(50);
const HOUR_S: i32 = 3600;
const HOUR_MS: u64 = 3_600_000;
/// The longest between two polls of a tag.
const PAUSE_MAX_MS: u64 = 1000;
/// How far the gateway's time of a value may be from the one that is expected.
const NEAR_MS: u64 = 1000;
/// Polls of a tag without which a test has tested nothing.
const POLLS_MIN: usize = 100;

/// The system clock of the gateway.
pub(crate) struct FakeClock {
    folder: PathBuf,
    /// When each step was made, by the real clock.
    steps_ms: Vec<u64>,
}

impl FakeClock {
    pub(crate) fn new(folder: &Path) -> FakeClock {
        let mut clock = FakeClock { folder: folder.to_owned(), steps_ms: Vec::new() };
        clock.set(0);
        clock.steps_ms.clear();
        clock
    }

    fn file(&self) -> PathBuf {
        self.folder.join("clock")
    }

    /// What a program needs to have this clock.
    pub(crate) fn environment(&self) -> [(&'static str, OsString); 5] {
        [
            ("LD_PRELOAD", library().into()),
            ("FAKETIME_TIMESTAMP_FILE", self.file().into()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
            ("NO_FAKE_STAT", "1".into()),
        ]
    }

    /// So many seconds ahead of the real clock from now on.
    pub(crate) fn set(&mut self, ahead_s: i32) {
        let new = self.folder.join("clock.new");
        std::fs::write(&new, format!("{ahead_s:+}\n")).unwrap();
        std::fs::rename(&new, self.file()).unwrap(); // it is never read half written
        self.steps_ms.push(now_ms());
    }
}

fn library() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").unwrap();
    let path =
        |folder: std::io::Result<std::fs::DirEntry>| folder.unwrap().path().join("faketime/libfaketime.so.1");
    let found = folders.map(path).find(|path| path.is_file());
    found.expect("/usr/lib/*/faketime/libfaketime.so.1: install the Debian package libfaketime")
}

/// Everything, running.
struct Scene {
    gateway: Program,
    clock: FakeClock,
    proxy: Proxy,
    subscriber: Subscriber,
    plant: Plant,
    broker: JoinSet<()>,
    address: SocketAddr,
    arrivals: Vec<Arrival>,
    folder: TempDir,
}

impl Scene {
    /// Starts all, and waits for the first reading of every tag.
    async fn start() -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let broker = Broker::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let address = broker.local_addr().unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(broker.serve());
        let (plant, proxy) = (Plant::start(SIZE), Proxy::start(address));
        proxy.open();
        let clock = FakeClock::new(folder.path());
        let configuration = configuration(folder.path(), &proxy, &plant);
        let subscriber = Subscriber::start(address);
        let arrivals = subscribed(&subscriber).await;
        let mut scene = Scene {
            gateway: Program::start(folder.path(), &configuration, &clock.environment()),
            clock,
            proxy,
            subscriber,
            plant,
            broker: serving,
            address,
            arrivals,
            folder,
        };
        scene
            .until("every tag is born", |scene| by_tag(&readings(&scene.arrivals)).len() == SIZE.count())
            .await;
        scene
    }

    async fn go_on(&mut self, time: Duration) {
        tokio::time::sleep(time).await;
        self.gateway.assert_runs();
    }

    async fn until(&mut self, what: &str, is_so: impl Fn(&Scene) -> bool) {
        let end = clock::monotonic() + PATIENCE;
        loop {
            self.arrivals.extend(self.subscriber.take());
            if is_so(self) {
                return;
            }
            assert!(clock::monotonic() < end, "within {PATIENCE:?}: {what}");
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn stop_broker(&mut self) {
        self.proxy.close();
        self.broker.shutdown().await;
    }

    async fn start_broker(&mut self) {
        let broker = Broker::bind(self.address).await.unwrap();
        self.broker.spawn(broker.serve());
        self.arrivals.extend(subscribed(&self.subscriber).await);
        self.proxy.open();
    }

    /// Waits for what has been served, ends the gateway, and gives when it was told to.
    async fn end(&mut self) -> u64 {
        let now = now_ms();
        self.until("all has arrived", |scene| {
            let arrived = readings(&scene.arrivals);
            by_tag(&arrived)
                .iter()
                .all(|(tag, of_tag)| missing(of_tag, &served(&scene.plant.log(), *tag), now).is_empty())
        })
        .await;
        self.gateway.assert_runs();
        let until_ms = now_ms();
        self.gateway.signal("-TERM");
        let end = clock::monotonic() + PATIENCE;
        let code = loop {
            if let Some(code) = self.gateway.ended() {
                break code;
            }
            assert!(clock::monotonic() < end, "the gateway ends within {PATIENCE:?}");
            tokio::time::sleep(LOOK).await;
        };
        assert_eq!(code, Some(0));
        let is_death = |arrival: &Arrival| matches!(&arrival.what, What::Message { topic, .. } if topic == "spBv1.0/e/NDEATH/n");
        self.until("the death of the node", |scene| scene.arrivals.last().is_some_and(is_death)).await;
        until_ms
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("gateway.log")).unwrap()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("steps at {:?}; gateway.log:\n{}", self.clock.steps_ms, self.log());
        }
    }
}

/// What has come until the subscriber has subscribed anew: from then on it misses nothing of what the gateway says.
async fn subscribed(subscriber: &Subscriber) -> Vec<Arrival> {
    let end = clock::monotonic() + PATIENCE;
    let mut arrivals = Vec::new();
    while !arrivals.iter().any(|arrival: &Arrival| matches!(arrival.what, What::Subscribed)) {
        assert!(clock::monotonic() < end, "within {PATIENCE:?}: subscribed");
        tokio::time::sleep(LOOK).await;
        arrivals.extend(subscriber.take());
    }
    arrivals
}

fn configuration(folder: &Path, proxy: &Proxy, plant: &Plant) -> String {
    format!(
        "[gateway]\nname = \"n\"\nenterprise = \"e\"\nclock = \"system\"\nstate_dir = \"{}\"\n\
         [log]\nlevel = \"warn\"\n\
         [uplink.u]\nbroker = \"mqtt://{}\"\nkeep_alive = \"30s\"\nreconnect_max = \"1s\"\nbirth_jitter = \"0s\"\n\
         {}",
        folder.join("state").display(),
        proxy.address,
        plant.configuration()
    )
}

/// A reading, as it arrived.
#[derive(Clone, Copy, Debug)]
struct Reading {
    tag: Tag,
    value: u32,
    time_ms: u64,
    how: How,
    /// Before it the subscriber had subscribed so often.
    connection: usize,
}

/// All readings, in the order of their arrival; none may be without a value.
fn readings(arrivals: &[Arrival]) -> Vec<Reading> {
    let mut readings = Vec::new();
    let mut connection = 0;
    for arrival in arrivals {
        let (topic, payload) = match &arrival.what {
            What::Message { topic, payload } => (topic, payload),
            What::Subscribed => {
                connection += 1;
                continue;
            }
        };
        let parts: Vec<&str> = topic.split('/').collect();
        let ["spBv1.0", "e", verb @ ("DBIRTH" | "DDATA"), "n", device] = parts[..] else { continue };
        for metric in Payload::decode(payload.clone()).unwrap().metrics {
            assert!(is_good(&metric), "{topic}: {metric:?}");
            let index = number("t", metric.name.as_deref().unwrap()).unwrap();
            let how = match verb {
                "DBIRTH" => How::Birth,
                _ if metric.is_historical == Some(true) => How::History,
                _ => How::Live,
            };
            let tag = Tag { device: number("d", device).unwrap(), index };
            let (value, time_ms) = (value(&metric).unwrap(), metric.timestamp.unwrap());
            readings.push(Reading { tag, value, time_ms, how, connection });
        }
    }
    readings
}

fn by_tag(readings: &[Reading]) -> BTreeMap<Tag, Vec<Reading>> {
    let mut tags = BTreeMap::<Tag, Vec<Reading>>::new();
    for reading in readings {
        tags.entry(reading.tag).or_default().push(*reading);
    }
    tags
}

/// What was served to a tag, in order.
fn served(log: &Log, tag: Tag) -> Vec<(u32, Served)> {
    log.all().filter(|(_, served)| served.tag == tag).collect()
}

/// What was served from the first birth to `until_ms` and has not arrived.
fn missing(of_tag: &[Reading], served: &[(u32, Served)], until_ms: u64) -> Vec<u32> {
    let arrived: BTreeMap<u32, u64> = of_tag.iter().map(|reading| (reading.value, reading.time_ms)).collect();
    let owed = served.iter().filter(|(value, served)| *value >= of_tag[0].value && served.at_ms <= until_ms);
    owed.map(|(value, _)| *value).filter(|value| !arrived.contains_key(value)).collect()
}

/// What came of one tag over one connection: no reading before one that was read earlier, and none twice, but that a
/// birth says again what came last. Gives what came as live data or in births.
fn check_order(readings: &[Reading]) -> Vec<u32> {
    let (mut live, mut history) = (Vec::new(), Vec::new());
    for reading in readings {
        let values = if reading.how == How::History { &mut history } else { &mut live };
        let last = values.last().copied().unwrap_or_default();
        if reading.how == How::Birth && reading.value == last {
            continue;
        }
        assert!(reading.value > last, "{reading:?} after {last}");
        values.push(reading.value);
    }
    live
}

/// Every value has one time, and a later one has a later time, whatever way they came.
fn check_times(of_tag: &[Reading], known: &BTreeMap<u32, Served>) -> BTreeMap<u32, u64> {
    let mut times = BTreeMap::new();
    for reading in of_tag {
        assert!(known.contains_key(&reading.value), "never served: {reading:?}");
        let before = times.insert(reading.value, reading.time_ms);
        assert!(before.is_none_or(|before| before == reading.time_ms), "{reading:?} was of {before:?}");
    }
    for ((value, time_ms), (next, next_ms)) in times.iter().zip(times.iter().skip(1)) {
        // a gateway that is starved polls late and then on its grid: some ms apart, of which a tenth may be none
        let apart_ms = known[next].at_ms - known[value].at_ms;
        assert!(
            time_ms < next_ms,
            "{value} of {time_ms} before {next} of {next_ms}, served {apart_ms} ms apart"
        );
    }
    times
}

/// The time that a reading at `at_ms` is to carry after steps by +1 h, -1 h, -1 h and +1 h: the first is followed, from
/// the second on time goes on at a tenth of its speed. `None` where a step is too near to tell.
fn expected_ms(at_ms: u64, steps_ms: &[u64]) -> Option<u64> {
    let (forward, back) = (steps_ms[0], steps_ms[1]);
    if at_ms.abs_diff(forward) < NEAR_MS {
        None
    } else if at_ms < forward {
        Some(at_ms)
    } else {
        Some(at_ms.min(back) + HOUR_MS + at_ms.saturating_sub(back) / 10)
    }
}

fn check_tag(of_tag: &[Reading], served: &[(u32, Served)], steps_ms: &[u64], until_ms: u64) {
    assert!(served.len() >= POLLS_MIN, "{} polls", served.len());
    let polls = served.iter().map(|(_, served)| served.at_ms).chain([until_ms]);
    for ((_, before), at_ms) in served.iter().zip(polls.skip(1)) {
        let pause_ms = at_ms.saturating_sub(before.at_ms);
        assert!(pause_ms <= PAUSE_MAX_MS, "{pause_ms} ms without a poll from {}", before.at_ms);
    }
    let lost = missing(of_tag, served, until_ms);
    assert!(lost.is_empty(), "lost: {lost:?}");
    let known: BTreeMap<u32, Served> = served.iter().copied().collect();
    for (value, time_ms) in check_times(of_tag, &known) {
        let served = known[&value];
        if let Some(expected_ms) = expected_ms(served.at_ms, steps_ms) {
            let off_ms = time_ms.abs_diff(expected_ms);
            assert!(off_ms <= NEAR_MS, "{value} of {time_ms}, {off_ms} ms from {expected_ms}: {served:?}");
        }
    }
    for of_connection in of_tag.chunk_by(|one, next| one.connection == next.connection) {
        let live = check_order(of_connection);
        if of_connection[0].connection == 1 {
            let all: Vec<u32> = served.iter().map(|(value, _)| *value).filter(|v| *v >= live[0]).collect();
            assert_eq!(live, all[..live.len().min(all.len())], "what was served, in its order");
            let is_late = |reading: &&Reading| reading.how == How::History && reading.value >= live[0];
            assert_eq!(
                of_connection.iter().filter(is_late).count(),
                0,
                "nothing is late that was read after the birth"
            );
        }
    }
}

/// Steps the clock; `is_away` is whether the broker is away during the steps back.
async fn step(scene: &mut Scene, is_away: bool) {
    scene.go_on(APART).await;
    scene.clock.set(HOUR_S);
    scene.go_on(APART - MARGIN).await;
    if is_away {
        scene.stop_broker().await;
    }
    scene.go_on(MARGIN).await;
    scene.clock.set(0);
    scene.go_on(APART).await;
    scene.clock.set(-HOUR_S);
    scene.go_on(MARGIN).await;
    if is_away {
        scene.start_broker().await;
    }
    scene.go_on(APART - MARGIN).await;
    scene.clock.set(0);
    scene.go_on(APART).await;
}

async fn check(is_away: bool) {
    let mut scene = Scene::start().await;
    step(&mut scene, is_away).await;
    let until_ms = scene.end().await;
    let arrived = readings(&scene.arrivals);
    let history = arrived.iter().filter(|reading| reading.how == How::History).count();
    let log = scene.plant.log();
    eprintln!(
        "{} readings served, {} arrived, {history} of them as history",
        log.all().count(),
        arrived.len()
    );
    assert!(history > 0 || !is_away);
    let connections = if is_away { 2 } else { 1 };
    assert_eq!(arrived.last().unwrap().connection, connections);
    for (tag, of_tag) in by_tag(&arrived) {
        check_tag(&of_tag, &served(&log, tag), &scene.clock.steps_ms, until_ms);
    }
    // both steps back were noticed, so they were made
    assert_eq!(scene.log().matches("the system clock was set back").count(), 2);
}

#[tokio::test]
async fn the_clock_is_stepped_while_all_is_well() {
    check(false).await;
}

#[tokio::test]
async fn the_clock_is_stepped_back_while_the_broker_is_away() {
    check(true).await;
}
