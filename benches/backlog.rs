//! An hour of backlog at 1,000 readings a second, delivered to Mosquitto: how soon the first live value comes, how fast the
//! rest follows, and what that costs. The hour is put into the store at once; the program is then started as after an
//! outage.
//!
//! `cargo bench --bench backlog`; needs Mosquitto.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench ends with a message where something is amiss"
)]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use prost::Message as _;
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use tidegate::config::site::{Framing, Site};
use tidegate::reading::{Quality, Reading, Stamp, Timestamp, Update, Value};
use tidegate::sim::floor::Floor;
use tidegate::sim::serve::{FarEnd, Shared};
use tidegate::sparkplug::proto::Payload;
use tidegate::{clock, config, gateway, queue};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

const BINARY: &str = env!("CARGO_BIN_EXE_tidegate");
/// What is read, each second.
const TAGS: u32 = 1000;
/// How long that was not delivered.
const SECONDS: u64 = 3600;
/// Readings that one reply carries.
const READINGS_A_REPLY: usize = 100;

/// A program that is killed when it is not needed any more.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let plc = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = plc.local_addr().unwrap();
    let floor = Shared::new(Floor::new(Vec::new()).with_addressed("plc", [1]));
    let far = FarEnd::new("plc", Framing::Tcp, floor);
    let mut devices = JoinSet::new();
    devices.spawn(far.listen(plc));
    let broker = free_address().await;
    let folder = tempfile::tempdir().unwrap();
    let _mosquitto = mosquitto(folder.path(), broker);
    for rate in ["5000/s", "10000000/s"] {
        println!("history_rate = \"{rate}\"");
        let state = folder.path().join(rate.replace('/', "-"));
        let text = configuration(&state, broker, address, rate);
        fill(&text).await;
        // at the usual pace an hour takes twelve minutes: the beginning of it tells enough
        let wanted = if rate == "5000/s" { 50_000 } else { SECONDS * u64::from(TAGS) };
        deliver(folder.path(), &text, broker, wanted).await;
    }
}

async fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap()
}

fn mosquitto(folder: &Path, address: SocketAddr) -> Killed {
    let path = folder.join("mosquitto.conf");
    let text =
        format!("listener {} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n", address.port());
    std::fs::write(&path, text).unwrap();
    let program =
        ["/usr/sbin/mosquitto", "/usr/bin/mosquitto"].into_iter().find(|path| Path::new(path).exists());
    let mut command = Command::new(program.unwrap_or("mosquitto"));
    Killed(command.arg("-c").arg(&path).stderr(Stdio::null()).spawn().unwrap())
}

fn configuration(state: &Path, broker: SocketAddr, plc: SocketAddr, rate: &str) -> String {
    let mut text = format!(
        "[gateway]\nname = 'n'\nenterprise = 'e'\nstate_dir = '{}'\n[log]\nlevel = 'warn'\n[uplink.u]\nbroker = 'mqtt://{broker}'\n\
         birth_jitter = '0s'\nhistory_rate = '{rate}'\n[link.plc]\ntcp = '{plc}'\n[device.press]\nlink = 'plc'\nreport = 'always'\ntags = [\n",
        state.display(),
    );
    for tag in 0..TAGS {
        writeln!(text, "  {{ name = 'group{}/tag{tag}', at = 'hr:{tag}', type = 'i16' }},", tag / 100)
            .unwrap();
    }
    text + "]\n"
}

/// Stores the hour before now, and ends the store cleanly.
async fn fill(text: &str) {
    let site: Arc<Site> = Arc::new(config::parse("backlog.toml", text).site.unwrap());
    let counters = gateway::counters(&site);
    let (task, outlets) = queue::task::open(&site, &counters.store).unwrap();
    drop(outlets);
    let (updates, stored) = mpsc::channel(64);
    let begin = clock::monotonic();
    let end = clock::wall().millis() - 1000;
    let fed = async move {
        for second in (0..SECONDS).rev() {
            let at = Stamp::Wall(Timestamp::from_millis(end - second * 1000));
            let tags = &site.tags;
            for part in tags.chunks(READINGS_A_REPLY) {
                let value = |index: u32| {
                    Value::Int(i64::from(index % 100) * 300 + i64::try_from(second % 300).unwrap())
                };
                let readings = part
                    .iter()
                    .map(|tag| Reading {
                        tag: tag.id,
                        value: Some(value(tag.id.0)),
                        quality: Quality::Good,
                        at,
                    })
                    .collect();
                updates.send(Update::Readings(readings)).await.unwrap();
            }
        }
    };
    tokio::join!(task.run(stored), fed);
    let seconds = (clock::monotonic() - begin).as_secs_f64();
    let bytes = counters.store.bytes.get();
    println!(
        "  stored           {:>10} readings, {:.1} MB in {seconds:.1} s ({:.0} readings/s)",
        counters.store.readings.get(),
        bytes_mb(bytes),
        float(counters.store.readings.get()) / seconds
    );
}

/// What a consumer saw.
#[derive(Default)]
struct Seen {
    born: Option<Instant>,
    first_live: Option<Instant>,
    historical: u64,
    last_historical: Option<Instant>,
    live_gap_max: Duration,
    last_live: Option<Instant>,
    times: HashMap<String, u64>,
    out_of_order: u64,
}

async fn deliver(folder: &Path, text: &str, broker: SocketAddr, wanted: u64) {
    let path = folder.join("gateway.toml");
    std::fs::write(&path, text).unwrap();
    let (client, mut events) = consumer(broker).await;
    let gateway = Killed(
        Command::new(BINARY)
            .args(["run", "--config"])
            .arg(&path)
            .env("RUNTIME_DIRECTORY", folder.join("run"))
            .spawn()
            .unwrap(),
    );
    let mut seen = Seen::default();
    let mut cpu_at_birth = 0.0;
    while seen.historical < wanted {
        let event = tokio::time::timeout(Duration::from_secs(120), events.poll()).await.unwrap().unwrap();
        let Event::Incoming(Packet::Publish(publish)) = event else { continue };
        if publish.topic.contains("/NBIRTH/") {
            cpu_at_birth = cpu_seconds(gateway.0.id());
        }
        seen.take(&publish.topic, &publish.payload);
    }
    let born = seen.born.unwrap();
    let drained = (seen.last_historical.unwrap() - born).as_secs_f64();
    let cpu = cpu_seconds(gateway.0.id()) - cpu_at_birth;
    println!("  first live value {:>10.3} s after NBIRTH", (seen.first_live.unwrap() - born).as_secs_f64());
    println!("  longest wait     {:>10.3} s between live messages", seen.live_gap_max.as_secs_f64());
    println!(
        "  drained          {:>10} readings in {drained:.1} s: {:.0} readings/s",
        seen.historical,
        float(seen.historical) / drained
    );
    println!("  out of order     {:>10}", seen.out_of_order);
    println!(
        "  CPU              {:>10.2} s per million readings, live ones included",
        cpu / float(seen.historical) * 1e6
    );
    println!("  resident, peak   {:>10.1} MB", peak_mb(gateway.0.id()));
    drop((gateway, client));
}

impl Seen {
    fn take(&mut self, topic: &str, payload: &[u8]) {
        let now = clock::monotonic();
        if topic.contains("/NBIRTH/") {
            self.born = Some(now);
        }
        if !topic.contains("/DDATA/") {
            return;
        }
        let payload = Payload::decode(payload).unwrap();
        let mut is_live = false;
        for metric in payload.metrics {
            if metric.is_historical != Some(true) {
                is_live = true;
                continue;
            }
            self.historical += 1;
            self.last_historical = Some(now);
            let at = metric.timestamp.unwrap();
            let last = self.times.entry(metric.name.unwrap()).or_default();
            self.out_of_order += u64::from(at < *last);
            *last = at;
        }
        if is_live {
            self.first_live.get_or_insert(now);
            let gap = self.last_live.replace(now).map_or(Duration::ZERO, |last| now - last);
            self.live_gap_max = self.live_gap_max.max(gap);
        }
    }
}

async fn consumer(broker: SocketAddr) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new("consumer", broker.ip().to_string(), broker.port());
    options.set_max_packet_size(1 << 24, 1 << 24);
    loop {
        let (client, mut events) = AsyncClient::new(options.clone(), 8);
        client.subscribe("spBv1.0/#", QoS::AtMostOnce).await.unwrap();
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::SubAck(_))) => return (client, events),
                Ok(_) => {}
                Err(_) => break tokio::time::sleep(Duration::from_millis(50)).await, // not listening yet
            }
        }
    }
}

/// User and system time of a process.
fn cpu_seconds(id: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields.iter().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    float(ticks) / 100.0
}

fn peak_mb(id: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    float(line.split_whitespace().nth(1).unwrap().parse().unwrap()) * 1.024 / 1000.0
}

fn bytes_mb(bytes: u64) -> f64 {
    float(bytes) / 1_000_000.0
}

#[expect(clippy::cast_precision_loss, reason = "a count to be printed")]
fn float(count: u64) -> f64 {
    count as f64
}
