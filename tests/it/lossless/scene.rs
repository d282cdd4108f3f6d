//! Plant, gateway, proxy, broker and judge together, and what is done to them.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tidegate::clock;

use super::judge::Judge;
use super::mosquitto::Mosquitto;
use super::plant::Plant;
use super::program::Program;
use super::proxy::{Fault, Proxy};
use super::subscriber::Subscriber;
use super::verdict::{Absence, Verdict, verdict};
use super::wire::End;
use super::{ENTERPRISE, NODE, SIZE};

/// The longest that anything may take that must happen.
const PATIENCE: Duration = Duration::from_secs(30);
/// In the end: the longest without a reading that was missing, and between two looks.
const STANDSTILL: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(500);
/// What a gateway that is held has said before without being heard.
const UNHEARD: Duration = Duration::from_millis(1500);
/// How often arrivals are handled.
const STEP: Duration = Duration::from_millis(10);
/// Readings a second that must have been owed for a test to have tested anything.
const OWED_A_SECOND_MIN: u64 = 800;
/// Lines of a log that are shown where a test fails.
const LOG_LINES: usize = 40;

/// Everything, running. Fields are dropped in this order: the gateway first.
pub(super) struct Scene {
    gateway: Program,
    pub(super) proxy: Proxy,
    broker: Mosquitto,
    subscriber: Subscriber,
    plant: Plant,
    pub(super) judge: Judge,
    absences: Vec<Absence>,
    /// What was done, and when.
    faults: Vec<(u64, String)>,
    start_ms: u64,
    folder: TempDir,
    /// One scene at a time: half of the machine is needed for each.
    _turn: File,
}

impl Scene {
    /// Starts all, and waits until every device is born.
    pub(super) async fn start() -> Scene {
        Scene::start_with("").await
    }

    /// The same, with these keys of the uplink.
    pub(super) async fn start_with(uplink: &str) -> Scene {
        let turn = turn();
        let shared = Path::new("/dev/shm");
        let mut builder = tempfile::Builder::new();
        builder.prefix("tidegate-lossless-");
        let folder = if shared.is_dir() { builder.tempdir_in(shared) } else { builder.tempdir() };
        let folder = folder.unwrap();
        let broker = Mosquitto::start(folder.path()).await;
        let plant = Plant::start(SIZE);
        let proxy = Proxy::start(broker.address);
        let subscriber = Subscriber::start(broker.address);
        let configuration = configuration(folder.path(), &proxy, &plant, uplink);
        let mut scene = Scene {
            gateway: Program::start(folder.path(), &configuration, &[]),
            proxy,
            broker,
            subscriber,
            plant,
            judge: Judge::new(SIZE),
            absences: Vec::new(),
            faults: Vec::new(),
            start_ms: now_ms(),
            folder,
            _turn: turn,
        };
        scene.heard_again().await;
        scene.proxy.open();
        scene.until("every device is born", |scene| scene.judge.born() == usize::from(SIZE.devices)).await;
        scene
    }

    /// Lets all run for so long.
    pub(super) async fn go_on(&mut self, time: Duration) {
        self.reached(time, |_| false).await;
    }

    /// Lets all run until something is so; false if it is not within `limit`.
    pub(super) async fn reached(&mut self, limit: Duration, is_so: impl Fn(&Scene) -> bool) -> bool {
        let end = clock::monotonic() + limit;
        loop {
            for arrival in self.subscriber.take() {
                self.judge.handle(&arrival);
            }
            self.gateway.assert_runs();
            if is_so(self) {
                return true;
            }
            let rest = end.saturating_duration_since(clock::monotonic());
            if rest.is_zero() {
                return false;
            }
            tokio::time::sleep(rest.min(STEP)).await;
        }
    }

    /// Lets all run until something is so, which must happen.
    pub(super) async fn until(&mut self, what: &str, is_so: impl Fn(&Scene) -> bool) {
        assert!(self.reached(PATIENCE, is_so).await, "within {PATIENCE:?}: {what}");
    }

    /// Writes down what is done.
    pub(super) fn note(&mut self, what: &str) {
        self.faults.push((now_ms(), format!("{} ({what})", self.faults.len())));
    }

    pub(super) fn order(&mut self, fault: Fault) {
        self.note(&format!("{fault:?}"));
        self.proxy.order(fault);
    }

    /// Kills the gateway and starts it again at once.
    pub(super) fn kill_gateway(&mut self) {
        self.gateway.assert_runs();
        self.note("kill");
        let start_ms = now_ms();
        self.gateway.kill();
        self.absences.push(Absence { start_ms, end_ms: now_ms(), goes_on: false });
        self.gateway.start_again();
    }

    /// Kills the broker and starts it again. The gateway is let in when the judge hears everything again: a broker has
    /// no memory of what it took while nobody listened.
    pub(super) async fn kill_broker(&mut self, away: Duration) {
        self.note("broker killed");
        self.proxy.close();
        self.broker.kill();
        self.go_on(away).await;
        self.broker.start_again().await;
        self.subscriber.set_deaf(false);
        self.heard_again().await;
        self.proxy.open();
    }

    /// The broker dies with what it took and acknowledged in the time before, and nobody has heard it. `time` must be less
    /// than that for which the gateway does not rely on an acknowledgement.
    pub(super) async fn let_broker_forget(&mut self, time: Duration) {
        self.note(&format!("broker forgets {time:?}"));
        self.subscriber.set_deaf(true);
        self.go_on(time).await;
        self.kill_broker(Duration::ZERO).await;
    }

    /// Stops the broker for a time as SIGSTOP does it.
    pub(super) async fn stop_broker(&mut self, time: Duration) {
        self.note("broker stopped");
        self.broker.stop();
        self.go_on(time).await;
        self.broker.go_on();
    }

    /// Holds the gateway as SIGSTOP does it. What it said last is still on its way, and the connection ends meanwhile: it
    /// learns of that only after all times have run out by which it could have told.
    pub(super) async fn hold_gateway(&mut self, time: Duration, end: End) {
        self.order(Fault::Stall(time, Some(end)));
        self.go_on(UNHEARD).await;
        self.note("gateway held");
        let start_ms = now_ms();
        self.gateway.signal("-STOP");
        self.order(Fault::Cut(end));
        self.go_on(time).await;
        self.gateway.signal("-CONT");
        self.absences.push(Absence { start_ms, end_ms: now_ms(), goes_on: true });
    }

    async fn heard_again(&mut self) {
        let is_heard = |scene: &Scene| scene.judge.subscriptions == scene.broker.starts;
        self.until("the judge has subscribed", is_heard).await;
    }

    /// Waits until all that has been served so far has arrived, or nothing of it comes any more; prints the figures.
    pub(super) async fn end(&mut self, test: &str) -> Verdict {
        let until_ms = now_ms();
        let mut missing = usize::MAX;
        let mut stands_still = Duration::ZERO;
        let verdict = loop {
            self.go_on(LOOK).await;
            let verdict = verdict(&self.judge, &self.plant.log(), until_ms, &self.absences);
            stands_still = if verdict.lost.len() < missing { Duration::ZERO } else { stands_still + LOOK };
            missing = verdict.lost.len();
            if missing == 0 || stands_still >= STANDSTILL {
                break verdict;
            }
        };
        let drained_ms = now_ms() - until_ms;
        let seconds = (until_ms - self.start_ms) / 1000;
        eprintln!("{test}: {} faults, {verdict}, {seconds} s + {drained_ms} ms", self.faults.len());
        if !verdict.lost.is_empty() {
            eprint!("{}", verdict.losses(&self.faults));
        }
        assert_eq!(self.judge.subscriptions, self.broker.starts, "the judge was away");
        let log = self.folder.path().join("gateway.log");
        assert!(log.exists(), "somebody has deleted {}, and the store with it", log.display());
        let held_ms: u64 =
            self.absences.iter().filter(|one| one.goes_on).map(|one| one.end_ms - one.start_ms).sum();
        let owed_min = usize::try_from((seconds - held_ms / 1000) * OWED_A_SECOND_MIN).unwrap();
        assert!(verdict.owed >= owed_min, "{} readings owed, of {owed_min} at least", verdict.owed);
        verdict
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in ["gateway.log", "mosquitto.log"] {
                let path = self.folder.path().join(name);
                let text = std::fs::read_to_string(&path)
                    .unwrap_or_else(|error| format!("cannot be read: {}: {error}", path.display()));
                let lines: Vec<&str> = text.lines().collect();
                let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
                eprintln!("{name}, the end of {} lines:\n{tail}", lines.len());
            }
        }
    }
}

/// Milliseconds of the wall clock, which all here share.
pub(crate) fn now_ms() -> u64 {
    clock::wall().millis()
}

/// Waits for the other tests of this kind, whatever process they are in.
fn turn() -> File {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lossless.lock");
    let file = File::options().create(true).append(true).open(path).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    file
}

fn configuration(folder: &Path, proxy: &Proxy, plant: &Plant, uplink: &str) -> String {
    // another protocol than the usual one, for a long run: MQTT 5 has a longer keep-alive at least
    let protocol = std::env::var("TIDEGATE_PROTOCOL").unwrap_or_else(|_| "3.1.1".to_owned());
    let keep_alive = if protocol == "5" { "5s" } else { "2s" };
    format!(
        "[gateway]\nname = \"{NODE}\"\nenterprise = \"{ENTERPRISE}\"\nstate_dir = \"{}\"\n\
         [log]\nlevel = \"warn\"\n[queue]\nflush = \"1s\"\n\
         [uplink.u]\nbroker = \"mqtt://{}\"\nkeep_alive = \"{keep_alive}\"\nprotocol = \"{protocol}\"\nreconnect_max = \"1s\"\nbirth_jitter = \"0s\"\nhistory_rate = \"5000/s\"\n{uplink}\
         {}",
        folder.join("state").display(),
        proxy.address,
        plant.configuration()
    )
}
