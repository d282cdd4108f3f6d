//! One gateway, one plant, one broker, and somebody who listens there.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use prost::Message as _;
use tempfile::TempDir;
use tidegate::clock;
use tidegate::sparkplug::proto::Payload;
use tidegate::sparkplug::proto::payload::metric;

use crate::lossless::{Mosquitto, Plant, Program, Size, Subscriber, What, now_ms, value};

/// The longest that anything may take that must happen.
const PATIENCE: Duration = Duration::from_secs(40);
/// Between two looks.
const STEP: Duration = Duration::from_millis(20);

/// Lines of a log that are shown where a test fails.
const LOG_LINES: usize = 20;

/// Everything, running. Fields are dropped in this order: the gateway first.
pub(super) struct Scene {
    pub(super) gateway: Program,
    pub(super) broker: Mosquitto,
    subscriber: Subscriber,
    plant: Plant,
    /// What has been heard, as topics and payloads.
    pub(super) heard: Vec<(String, Payload)>,
    folder: TempDir,
}

/// A folder that Mosquitto may read.
pub(super) fn folder() -> TempDir {
    tempfile::Builder::new().prefix("tidegate-brokers-").tempdir().unwrap()
}

impl Scene {
    /// Starts all, with these lines in `[uplink.u]`.
    pub(super) async fn start(folder: TempDir, broker: Mosquitto, uplink: &str) -> Scene {
        let plant = Plant::start(Size { devices: 1, tags: 2 });
        let subscriber = Subscriber::start(broker.address);
        // the first birth must be heard
        while !subscriber.take().iter().any(|arrival| matches!(arrival.what, What::Subscribed)) {
            tokio::time::sleep(STEP).await;
        }
        Scene {
            gateway: Program::start(folder.path(), &configuration(folder.path(), uplink, &plant), &[]),
            broker,
            subscriber,
            plant,
            heard: Vec::new(),
            folder,
        }
    }

    /// Starts all, with the broker's plain listener as the gateway's.
    pub(super) async fn plain(folder: TempDir, broker: Mosquitto, uplink: &str) -> Scene {
        let uplink = format!("broker = \"mqtt://{}\"\n{uplink}", broker.address);
        Scene::start(folder, broker, &uplink).await
    }

    /// Waits until something is so, which must happen.
    pub(super) async fn until(&mut self, what: &str, is_so: impl Fn(&Scene) -> bool) {
        let end = clock::monotonic() + PATIENCE;
        while !self.look(&is_so) {
            assert!(
                clock::monotonic() < end,
                "within {PATIENCE:?}: {what}\n{}\n{}",
                end_of(&self.log()),
                end_of(&self.broker_log())
            );
            tokio::time::sleep(STEP).await;
        }
    }

    /// Looks on for so long.
    pub(super) async fn go_on(&mut self, time: Duration) {
        let end = clock::monotonic() + time;
        while clock::monotonic() < end {
            self.look(&|_: &Scene| false);
            tokio::time::sleep(STEP).await;
        }
    }

    fn look(&mut self, is_so: &impl Fn(&Scene) -> bool) -> bool {
        for arrival in self.subscriber.take() {
            if let What::Message { topic, payload } = arrival.what {
                self.heard.push((topic, Payload::decode(payload).unwrap_or_default()));
            }
        }
        is_so(self)
    }

    /// Waits until the gateway has said this.
    pub(super) async fn said(&mut self, expected: &str) {
        self.until(&format!("it says: {expected}"), |scene| scene.log().contains(expected)).await;
    }

    /// How many messages of a kind, such as `NBIRTH`, were heard.
    pub(super) fn count(&self, verb: &str) -> usize {
        self.of(verb).count()
    }

    fn of(&self, verb: &str) -> impl Iterator<Item = &Payload> {
        let kind = format!("spBv1.0/e/{verb}/");
        self.heard.iter().filter(move |(topic, _)| topic.starts_with(&kind)).map(|(_, payload)| payload)
    }

    /// The birth-death numbers of all messages of a kind.
    pub(super) fn bd_seqs(&self, verb: &str) -> Vec<u64> {
        let of = |payload: &Payload| {
            let metric = payload.metrics.iter().find(|metric| metric.name.as_deref() == Some("bdSeq"));
            match metric.and_then(|metric| metric.value.clone()) {
                Some(metric::Value::LongValue(number)) => number,
                other => panic!("bdSeq is {other:?}"),
            }
        };
        self.of(verb).map(of).collect()
    }

    /// All values that were heard.
    pub(super) fn values(&self) -> BTreeSet<u32> {
        let data = self.of("DDATA").chain(self.of("DBIRTH"));
        data.flat_map(|payload| payload.metrics.iter().filter_map(value)).collect()
    }

    /// All values that the gateway has surely read: those that the plant gave out a while ago.
    pub(super) fn served(&self) -> BTreeSet<u32> {
        let until_ms = now_ms() - 1000;
        let log = self.plant.log();
        log.all().filter(|(_, served)| served.at_ms < until_ms).map(|(value, _)| value).collect()
    }

    /// Waits until data of the device is heard.
    pub(super) async fn delivers(&mut self) {
        self.until("data is heard", |scene| scene.count("DBIRTH") > 0 && scene.count("DDATA") > 2).await;
    }

    /// SIGTERM, and its exit code.
    pub(super) async fn stop(&mut self) -> Option<i32> {
        self.gateway.signal("-TERM");
        for _ in 0..PATIENCE.as_millis() / STEP.as_millis() {
            if let Some(code) = self.gateway.ended() {
                return code;
            }
            tokio::time::sleep(STEP).await;
        }
        panic!("it does not stop\n{}", self.log());
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("gateway.log")).unwrap_or_default()
    }

    pub(super) fn broker_log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("mosquitto.log")).unwrap_or_default()
    }
}

/// The last lines of a log, for a test that has failed.
fn end_of(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

fn configuration(folder: &Path, uplink: &str, plant: &Plant) -> String {
    let keep_alive = if uplink.contains("keep_alive") { "" } else { "keep_alive = \"5s\"\n" };
    format!(
        "[gateway]\nname = \"n\"\nenterprise = \"e\"\nstate_dir = \"{}\"\nclock = \"system\"\n[log]\nlevel = \"info\"\n\
         [queue]\nflush = \"1s\"\n[uplink.u]\nreconnect_max = \"1s\"\nbirth_jitter = \"0s\"\n{keep_alive}{uplink}\n{}",
        folder.join("state").display(),
        plant.configuration()
    )
}
