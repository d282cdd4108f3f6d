//! The time is told to the meters of a stream, once a day, by literal frames.
//!
//! The program runs under libfaketime, which moves its system clock and no other; the far end has the real one.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate::clock;
use tidegate::sim::serve::Line;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::clock_steps::FakeClock;
use crate::gateway::{free_address, serve_broker};
use crate::lossless::{Program, now_ms};

/// 02010100 of the meter 210220003011: 230.5 V.
const ASKED: &str = "FE FE FE 68 11 30 00 20 02 21 68 11 04 33 34 34 35 39 16";
const ANSWERED: &str = "FE FE FE FE 68 11 30 00 20 02 21 68 91 06 33 34 34 35 38 56 49 16";
/// What stands before the time in a broadcast, behind as many wake-up bytes as the device has.
const TELL: &str = "FE FE FE 68 99 99 99 99 99 99 68 08 06";
const DAY_MS: i64 = 24 * 3_600_000;
/// What is 02:30 at the gateway is 18:30 in UTC.
const DUE_MS: i64 = (18 * 60 + 30) * 60_000;
/// The longest that anything may take that must happen.
const PATIENCE: Duration = Duration::from_secs(15);

fn bytes(hex: &str) -> Vec<u8> {
    hex.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

/// What has come to the far end.
#[derive(Clone, Debug, Default)]
struct Heard {
    polls: usize,
    connections: usize,
    /// When each broadcast was whole, by the real clock, and its bytes.
    told: Vec<(u64, Vec<u8>)>,
}

/// Answers one meter, and keeps what is told to all.
async fn serve(
    mut input: impl AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
    heard: Arc<Mutex<Heard>>,
) {
    let (asked, answered, tell) = (bytes(ASKED), bytes(ANSWERED), bytes(TELL));
    let mut seen = Vec::new();
    let mut buffer = [0; 64];
    loop {
        let Ok(count @ 1..) = input.read(&mut buffer).await else { return };
        seen.extend_from_slice(&buffer[..count]);
        if seen.ends_with(&asked) {
            heard.lock().unwrap().polls += 1;
            seen.clear();
            if output.write_all(&answered).await.is_err() {
                return;
            }
        } else if let Some(start) = seen.windows(tell.len()).position(|window| window == tell)
            && seen.len() >= start + tell.len() + 8
        {
            assert!(!seen[..start].ends_with(&[0xFE]), "three bytes wake the meters");
            heard.lock().unwrap().told.push((now_ms(), seen.split_off(start)));
            seen.clear();
        }
    }
}

/// A gateway whose system clock is set, and the far end of its link.
struct Scene {
    gateway: Program,
    clock: FakeClock,
    /// Its system clock is so far ahead of the real one.
    ahead_ms: i64,
    /// What a broadcast needs on a real line, and does not on this one.
    wire_ms: i64,
    heard: Arc<Mutex<Heard>>,
    folder: tempfile::TempDir,
    _tasks: JoinSet<()>,
}

impl Scene {
    /// Two minutes before it is due on the first day.
    async fn start(link: &str, wire_ms: i64, heard: Arc<Mutex<Heard>>, mut tasks: JoinSet<()>) -> Scene {
        let broker = free_address().await;
        serve_broker(broker, &mut tasks).await;
        let folder = tempfile::tempdir().unwrap();
        let configuration = configuration(folder.path(), &broker.to_string(), link);
        let mut clock = FakeClock::new(folder.path());
        let ahead_ms = set(&mut clock, 0, -120_000);
        let gateway = Program::start(folder.path(), &configuration, &clock.environment());
        Scene { gateway, clock, ahead_ms, wire_ms, heard, folder, _tasks: tasks }
    }

    fn heard(&self) -> Heard {
        self.heard.lock().unwrap().clone()
    }

    /// From now on it is 2 s before it is due, on this day counted from the first.
    fn set(&mut self, day: i64) {
        self.ahead_ms = set(&mut self.clock, day, -2000);
    }

    async fn until(&mut self, what: &str, is_so: impl Fn(&Heard) -> bool) {
        let end = clock::monotonic() + PATIENCE;
        while !is_so(&self.heard()) {
            self.gateway.assert_runs();
            let log = || std::fs::read_to_string(self.folder.path().join("gateway.log")).unwrap();
            assert!(clock::monotonic() < end, "within {PATIENCE:?}: {what}; {:?}; {}", self.heard(), log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn until_polled(&mut self) {
        let before = self.heard().polls;
        self.until("polled", |heard| heard.polls >= before + 3).await;
    }

    /// The last broadcast is one frame, and says the time at which it came.
    fn check_last(&self) {
        let (at_ms, frame) = self.heard().told.pop().unwrap();
        let start = bytes(TELL);
        assert_eq!((frame.len(), &frame[..start.len()]), (start.len() + 8, &start[..]), "{frame:02X?}");
        let (summed, sum) = (&frame[3..frame.len() - 2], frame[frame.len() - 2]);
        assert_eq!(summed.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)), sum);
        let pairs = frame[start.len()..start.len() + 6].iter().rev();
        let told: Vec<String> = pairs.map(|byte| format!("{:02X}", byte.wrapping_sub(0x33))).collect();
        let [year, month, day, hour, minute, second] = told.try_into().unwrap();
        let local = format!("20{year}-{month}-{day}T{hour}:{minute}:{second}+08:00");
        let told: jiff::Timestamp = local.parse().unwrap();
        let came_ms = i64::try_from(at_ms).unwrap() + self.ahead_ms;
        let off_ms = told.as_millisecond() - came_ms;
        // the nearest second, and the far end needs some time itself on a machine that has much to do
        let early_ms = off_ms - self.wire_ms;
        assert!((-900..=500).contains(&early_ms), "{local} is off by {off_ms} ms");
        assert!(local.contains("T02:30:0"), "{local}");
    }

    /// Event, device and reason of each line of the record.
    fn recorded(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.path().join("state/audit.log")).unwrap_or_default();
        let line = |line: &str| {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(
                (&record["by"], &record["link"], &record["value"], &record["tag"]),
                (&"broadcast_time".into(), &"l".into(), &"02:30".into(), &serde_json::Value::Null)
            );
            let word = |key: &str| record[key].as_str().unwrap().to_owned();
            format!("{} {}: {}", word("device"), word("event"), word("reason"))
        };
        text.lines().map(line).collect()
    }

    async fn until_recorded(&self, count: usize) {
        let end = clock::monotonic() + PATIENCE;
        while self.recorded().len() < count {
            assert!(clock::monotonic() < end, "{:?}", self.recorded());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Sets the clock to so long after what is due on a day; how far it is ahead then.
fn set(clock: &mut FakeClock, day: i64, after_ms: i64) -> i64 {
    let now = i64::try_from(now_ms()).unwrap();
    let wanted = now - now % DAY_MS + day * DAY_MS + DUE_MS + after_ms;
    let ahead_s = (wanted - now) / 1000;
    clock.set(i32::try_from(ahead_s).unwrap());
    ahead_s * 1000
}

/// Behind a network the first meter is not there, but hears like the second one.
fn configuration(folder: &Path, broker: &str, link: &str) -> String {
    let meter = |name: &str, address: &str| {
        format!(
            "[device.{name}]\nprotocol = \"dlt645\"\nlink = \"l\"\naddress = \"{address}\"\nquirks = {{ wake = 3 }}\n\
             every = \"300ms\"\ntimeout = \"200ms\"\ntags = [{{ name = \"v\", at = \"02010100\", format = \"XXX.X\" }}]\n"
        )
    };
    // on a line a miss would take seconds of the test
    let first = if link.contains("tcp") { meter("gone", "210220003012") } else { String::new() };
    format!(
        "[gateway]\nname = \"n\"\nenterprise = \"e\"\nclock = \"system\"\ntimezone = \"Asia/Shanghai\"\nstate_dir = \"{}\"\n\
         [uplink.u]\nbroker = \"mqtt://{broker}\"\n[commands]\nenabled = true\n\
         [link.l]\n{link}\nbroadcast_time = \"02:30\"\n{}{}",
        folder.join("state").display(),
        first,
        meter("there", "210220003011"),
    )
}

/// It is told on each of two days, and no second time when the clock goes back; whoever is polled is polled on.
async fn check(mut scene: Scene, over: &str) -> Heard {
    scene.until_polled().await;
    assert_eq!((scene.heard().told.len(), scene.recorded()), (0, Vec::new()));
    scene.set(0);
    scene.until("told", |heard| !heard.told.is_empty()).await;
    scene.check_last();
    scene.until_recorded(2).await;
    scene.until_polled().await;
    scene.set(0);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(scene.heard().told.len(), 1, "once a day");
    scene.set(1);
    scene.until("told on the next day", |heard| heard.told.len() == 2).await;
    scene.check_last();
    scene.until_polled().await;
    scene.until_recorded(4).await;
    let unclear = "unclear: no meter answers a broadcast: whether any has followed is not known";
    let expected = ["wanted: ", unclear, "wanted: ", unclear].map(|told| format!("{over} {told}"));
    assert_eq!(scene.recorded(), expected);
    assert_eq!(scene.heard().told.len(), 2);
    scene.heard()
}

#[tokio::test]
async fn the_meters_of_a_line_are_told_the_time_once_a_day() {
    let (line, heard, mut tasks) = (Line::open().unwrap(), Arc::<Mutex<Heard>>::default(), JoinSet::new());
    // 21 bytes of 11 bits: 2.1 s
    let link = format!("port = \"{}\"\nserial = \"110 8E1\"", line.path.display());
    tasks.spawn(serve(line.input, line.output, heard.clone()));
    check(Scene::start(&link, 2100, heard, tasks).await, "there").await;
}

/// What the system may have kept is thrown away with the connection: a time that comes late would be wrong.
#[tokio::test]
async fn behind_a_network_the_connection_is_closed_once_the_time_was_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (heard, mut tasks) = (Arc::<Mutex<Heard>>::default(), JoinSet::new());
    let link = format!("tcp = \"{}\"\nframing = \"rtu\"", listener.local_addr().unwrap());
    let of_all = heard.clone();
    tasks.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            of_all.lock().unwrap().connections += 1;
            let (input, output) = stream.into_split();
            serve(input, output, of_all.clone()).await;
        }
    });
    let heard = check(Scene::start(&link, 0, heard, tasks).await, "gone").await;
    assert_eq!(heard.connections, 3);
}
