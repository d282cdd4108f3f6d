//! What the program costs at rest and at work: size, start, memory, wake-ups. Prints figures, judges none.
//!
//! `cargo bench --bench footprint`

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench ends with a message where something is amiss"
)]

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use tidegate::clock;
use tidegate::sim::broker::Broker;
use tidegate::sim::floor::{Floor, demo_floor};
use tidegate::sim::serve::{Shared, serve_tcp};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

const BINARY: &str = env!("CARGO_BIN_EXE_tidegate");
/// Starts that are timed; the median counts.
const STARTS: usize = 11;
/// How long a figure of the running program is watched.
const WATCH: Duration = Duration::from_secs(20);

/// What runs once at the start has ended by then; the thread for file access ends after 10 s without work.
const SETTLE: Duration = Duration::from_secs(12);

/// The program under test; it is killed when the figure has been taken.
struct Gateway(Child);

impl Drop for Gateway {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Where the simulated devices and the broker listen.
struct World {
    plc: SocketAddr,
    broker: SocketAddr,
    _tasks: JoinSet<()>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let world = world().await;
    let size = std::fs::metadata(BINARY).unwrap().len();
    println!("binary                     {:>8.2} MB", mega(size));
    println!("exec to NBIRTH, median     {:>8.1} ms of {STARTS} starts", start_ms(&world).await);
    let busy = watch(&world, 1000, "1s").await;
    println!("resident, 1000 tags at 1 s {:>8.2} MB", busy.resident_mb);
    println!("  context switches         {:>8.1} /s", busy.switches_per_s);
    let idle = watch(&world, 1000, "1h").await;
    println!("resident, 1000 tags at 1 h {:>8.2} MB", idle.resident_mb);
    println!("  context switches         {:>8.1} /s", idle.switches_per_s);
}

async fn world() -> World {
    let mut tasks = JoinSet::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let plc = listener.local_addr().unwrap();
    tasks.spawn(serve_tcp(listener, "plc".into(), Shared::new(Floor::new(demo_floor()))));
    let broker = Broker::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
    let address = broker.local_addr().unwrap();
    tasks.spawn(broker.serve());
    World { plc, broker: address, _tasks: tasks }
}

#[expect(clippy::cast_precision_loss, reason = "a size in megabytes")]
fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1_000_000.0
}

fn start(world: &World, folder: &Path, tags: u32, every: &str) -> Gateway {
    let mut text = format!(
        "[gateway]\nname = 'n'\nenterprise = 'e'\nstate_dir = '{}'\n[log]\nlevel = 'error'\n[uplink.u]\nbroker = 'mqtt://{}'\n\
         birth_jitter = '0s'\n[link.plc]\ntcp = '{}'\n[device.press]\nlink = 'plc'\nevery = '{every}'\nreport = 'always'\ntags = [\n",
        folder.join("state").display(),
        world.broker,
        world.plc,
    );
    for tag in 0..tags {
        writeln!(text, "  {{ name = 'group{}/tag{tag}', at = 'hr:{tag}' }},", tag / 100).unwrap();
    }
    text.push_str("]\n");
    let path = folder.join("gateway.toml");
    std::fs::write(&path, text).unwrap();
    Gateway(
        Command::new(BINARY)
            .args(["run", "--config"])
            .arg(&path)
            .env("RUNTIME_DIRECTORY", folder.join("run"))
            .spawn()
            .unwrap(),
    )
}

async fn consumer(broker: SocketAddr) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new("consumer", broker.ip().to_string(), broker.port());
    options.set_max_packet_size(1 << 20, 1 << 20);
    let (client, mut events) = AsyncClient::new(options, 8);
    client.subscribe("spBv1.0/#", QoS::AtLeastOnce).await.unwrap();
    while !matches!(events.poll().await.unwrap(), Event::Incoming(Packet::SubAck(_))) {}
    (client, events)
}

async fn wait_for(events: &mut EventLoop, verb: &str) {
    loop {
        if let Event::Incoming(Packet::Publish(publish)) = events.poll().await.unwrap()
            && publish.topic.contains(verb)
        {
            return;
        }
    }
}

async fn start_ms(world: &World) -> f64 {
    let (_client, mut events) = consumer(world.broker).await;
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let folder = tempfile::tempdir().unwrap();
        let begin = clock::monotonic();
        let _gateway = start(world, folder.path(), 100, "1s");
        wait_for(&mut events, "NBIRTH").await;
        times.push((clock::monotonic() - begin).as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    times.get(STARTS / 2).copied().unwrap()
}

/// What a running program costs.
struct Cost {
    resident_mb: f64,
    switches_per_s: f64,
}

async fn watch(world: &World, tags: u32, every: &str) -> Cost {
    let folder = tempfile::tempdir().unwrap();
    let (_client, mut events) = consumer(world.broker).await;
    let gateway = start(world, folder.path(), tags, every);
    wait_for(&mut events, "DBIRTH").await;
    let drain = async { while events.poll().await.is_ok() {} };
    let watched = async {
        tokio::time::sleep(SETTLE).await;
        let before = switches(&gateway);
        tokio::time::sleep(WATCH).await;
        f64::from(u32::try_from(switches(&gateway) - before).unwrap()) / WATCH.as_secs_f64()
    };
    tokio::select! {
        () = drain => panic!("the consumer has lost the broker"),
        switches_per_s = watched => Cost { resident_mb: mega(status(&gateway, "VmRSS:") * 1024), switches_per_s },
    }
}

/// A number of `/proc/PID/status`.
fn status(gateway: &Gateway, key: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", gateway.0.id())).unwrap();
    number(&text, key)
}

fn number(text: &str, key: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Context switches of all of its threads since it started.
fn switches(gateway: &Gateway) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", gateway.0.id())).unwrap();
    let of = |status: String| {
        number(&status, "voluntary_ctxt_switches:") + number(&status, "nonvoluntary_ctxt_switches:")
    };
    tasks.map(|task| of(std::fs::read_to_string(task.unwrap().path().join("status")).unwrap())).sum()
}
