//! The whole program between simulated devices and the embedded broker; third-party peers are in `tests/peers`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prost::Message as _;
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use tidegate::sim::broker::Broker;
use tidegate::sim::floor::{Floor, demo_floor};
use tidegate::sim::serve::{Shared, serve_tcp};
use tidegate::sparkplug::proto::Payload;
use tidegate::sparkplug::proto::payload::{Metric, metric, property_value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// The longest that anything may take here.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running gateway; it is killed when the test ends.
pub(crate) struct Gateway(Child);

impl Gateway {
    pub(crate) fn start(folder: &Path, configuration: &str) -> Gateway {
        let path = folder.join("gateway.toml");
        let state = folder.join("state");
        let head = format!(
            "[gateway]\nname = \"n\"\nenterprise = \"e\"\nstate_dir = \"{}\"\nclock = \"system\"\n[log]\nlevel = \"error\"\n",
            state.display()
        );
        std::fs::write(&path, head + configuration).unwrap();
        Gateway::run(folder, &path, &[])
    }

    /// With the configuration at `path`, over which `variables` of the environment lay values.
    pub(crate) fn run(folder: &Path, path: &Path, variables: &[(&str, String)]) -> Gateway {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.env("RUNTIME_DIRECTORY", folder.join("run"));
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        Gateway(command.args(["run", "--config"]).arg(path).stderr(Stdio::inherit()).spawn().unwrap())
    }

    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    pub(crate) fn signal(&self, name: &str) {
        let killed = Command::new("kill").args(["-s", name, &self.0.id().to_string()]).status().unwrap();
        assert!(killed.success());
    }

    /// Its exit code.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        within(async {
            loop {
                if let Some(status) = self.0.try_wait().unwrap() {
                    return status.code();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("in time")
}

/// Publishes as a client of its own; the broker has it then.
pub(crate) async fn publish(broker: SocketAddr, topic: &str, payload: &[u8], is_retained: bool) {
    let options =
        MqttOptions::new(format!("publisher-{}", fastrand::u64(..)), broker.ip().to_string(), broker.port());
    let (client, mut events) = AsyncClient::new(options, 8);
    client.publish(topic, QoS::AtLeastOnce, is_retained, payload).await.unwrap();
    within(async { while !matches!(events.poll().await.unwrap(), Event::Incoming(Packet::PubAck(_))) {} })
        .await;
}

/// What a consumer at the broker gets.
pub(crate) struct Consumer {
    pub(crate) client: AsyncClient,
    events: EventLoop,
}

impl Consumer {
    pub(crate) async fn subscribe(broker: SocketAddr) -> Consumer {
        let mut options = MqttOptions::new("consumer", broker.ip().to_string(), broker.port());
        options.set_max_packet_size(1 << 20, 1 << 20); // a birth has every tag of a device
        let (client, mut events) = AsyncClient::new(options, 8);
        client.subscribe("spBv1.0/#", QoS::AtLeastOnce).await.unwrap();
        within(async {
            while !matches!(events.poll().await.unwrap(), Event::Incoming(Packet::SubAck(_))) {}
        })
        .await;
        Consumer { client, events }
    }

    /// All messages of gateways until one that `is_last`: their topics without namespace and group.
    pub(crate) async fn take_until(
        &mut self,
        patience: Duration,
        is_last: impl Fn(&str, &Payload) -> bool,
    ) -> Vec<(String, Payload)> {
        let mut taken = Vec::new();
        let all = async {
            loop {
                if let Event::Incoming(Packet::Publish(publish)) = self.events.poll().await.unwrap()
                    && let Some(topic) = publish.topic.strip_prefix("spBv1.0/e/")
                {
                    let payload = Payload::decode(publish.payload).unwrap();
                    let ends = is_last(topic, &payload);
                    taken.push((topic.to_owned(), payload));
                    if ends {
                        return;
                    }
                }
            }
        };
        tokio::time::timeout(patience, all).await.expect("in time");
        taken
    }

    /// The next message whose topic ends so and that fits.
    pub(crate) async fn wait_for(&mut self, topic: &str, fits: impl Fn(&Payload) -> bool) -> Payload {
        let topic = format!("spBv1.0/e/{topic}");
        self.wait_for_any(|got, payload| got == topic && fits(payload)).await
    }

    /// The next message that fits with its topic.
    pub(crate) async fn wait_for_any(&mut self, fits: impl Fn(&str, &Payload) -> bool) -> Payload {
        within(async {
            loop {
                if let Event::Incoming(Packet::Publish(publish)) = self.events.poll().await.unwrap()
                    && let Ok(payload) = Payload::decode(publish.payload)
                    && fits(&publish.topic, &payload)
                {
                    return payload;
                }
            }
        })
        .await
    }
}

pub(crate) fn metric<'a>(payload: &'a Payload, name: &str) -> Option<&'a Metric> {
    payload.metrics.iter().find(|metric| metric.name.as_deref() == Some(name))
}

fn reason(payload: &Payload, name: &str) -> Option<String> {
    let set = metric(payload, name)?.properties.as_ref()?;
    match set.values.get(set.keys.iter().position(|key| key == "Reason")?)?.value.as_ref()? {
        property_value::Value::StringValue(text) => Some(text.clone()),
        _ => None,
    }
}

/// An address where nobody listens yet.
pub(crate) async fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap()
}

pub(crate) async fn serve_floor(address: SocketAddr, tasks: &mut JoinSet<()>) {
    let listener = TcpListener::bind(address).await.unwrap();
    tasks.spawn(serve_tcp(listener, "plc".into(), Shared::new(Floor::new(demo_floor()))));
}

pub(crate) async fn serve_broker(address: SocketAddr, tasks: &mut JoinSet<()>) {
    tasks.spawn(Broker::bind(address).await.unwrap().serve());
}

fn configuration(broker: SocketAddr, plc: SocketAddr) -> String {
    format!(
        r#"
        [uplink.u]
        broker = "mqtt://{broker}"
        birth_jitter = "0s"
        reconnect_max = "1s"
        [link.plc]
        tcp = "{plc}"
        [device.press]
        link = "plc"
        every = "100ms"
        timeout = "200ms"
        tags = [{{ name = "model", at = "hr:40", type = "string", length = 8 }}, {{ name = "job", at = "hr:50", type = "string", length = 5 }}]
        "#
    )
}

#[tokio::test]
async fn it_starts_with_broker_and_devices_away_heals_and_ends_cleanly() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, plc) = (free_address().await, free_address().await);
    let mut gateway = Gateway::start(folder.path(), &configuration(broker, plc));
    let mut tasks = JoinSet::new();
    tokio::time::sleep(Duration::from_millis(500)).await;
    serve_broker(broker, &mut tasks).await;
    let mut consumer = Consumer::subscribe(broker).await;
    let birth = consumer.wait_for("NBIRTH/n", |_| true).await;
    let bd_seq = metric(&birth, "bdSeq").unwrap().value.clone();
    serve_floor(plc, &mut tasks).await;
    let birth = consumer.wait_for("DBIRTH/n/press", |_| true).await;
    assert_eq!(
        metric(&birth, "model").unwrap().value,
        Some(metric::Value::StringValue("Press TG-200".into()))
    );
    consumer.wait_for("DDATA/n/press", |data| metric(data, "job").is_some()).await;
    gateway.terminate();
    let death = consumer.wait_for("NDEATH/n", |_| true).await;
    assert_eq!(metric(&death, "bdSeq").unwrap().value, bd_seq);
    assert_eq!(gateway.ended().await, Some(0));
}

#[tokio::test]
async fn a_broker_that_goes_away_and_comes_back_gets_new_births_with_the_next_bd_seq() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, plc) = (free_address().await, free_address().await);
    let mut tasks = JoinSet::new();
    serve_floor(plc, &mut tasks).await;
    let mut first = JoinSet::new();
    serve_broker(broker, &mut first).await;
    let mut consumer = Consumer::subscribe(broker).await;
    let _gateway = Gateway::start(folder.path(), &configuration(broker, plc));
    consumer.wait_for("DBIRTH/n/press", |_| true).await;
    first.shutdown().await;
    serve_broker(broker, &mut tasks).await;
    let mut consumer = Consumer::subscribe(broker).await;
    let birth = consumer.wait_for("NBIRTH/n", |_| true).await;
    let Some(metric::Value::LongValue(bd_seq)) = metric(&birth, "bdSeq").unwrap().value else {
        panic!("no bdSeq")
    };
    assert!(bd_seq >= 1, "{bd_seq}");
    consumer.wait_for("DBIRTH/n/press", |birth| metric(birth, "job").unwrap().value.is_some()).await;
}

#[tokio::test]
async fn a_device_that_hangs_up_is_bad_then_dead_and_is_born_again_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, plc) = (free_address().await, free_address().await);
    let mut tasks = JoinSet::new();
    serve_broker(broker, &mut tasks).await;
    let mut consumer = Consumer::subscribe(broker).await;
    let mut first = JoinSet::new();
    serve_floor(plc, &mut first).await;
    let mut gateway = Gateway::start(folder.path(), &configuration(broker, plc));
    consumer.wait_for("DBIRTH/n/press", |_| true).await;
    first.shutdown().await;
    let bad = consumer.wait_for("DDATA/n/press", |data| reason(data, "model").is_some()).await;
    assert_eq!(reason(&bad, "model").as_deref(), Some("bad:not_connected"));
    assert_eq!(metric(&bad, "model").unwrap().is_null, Some(true));
    consumer.wait_for("DDEATH/n/press", |_| true).await;
    serve_floor(plc, &mut tasks).await;
    let birth = consumer.wait_for("DBIRTH/n/press", |_| true).await;
    assert_eq!(reason(&birth, "model").as_deref(), Some("good"));
    gateway.terminate();
    assert_eq!(gateway.ended().await, Some(0));
}

/// A device whose answers are right until it `is_born`; from then on it sends one register instead of two.
async fn serve_garbled(garbled: TcpListener, is_born: Arc<AtomicBool>) {
    loop {
        let (mut stream, _) = garbled.accept().await.unwrap();
        let mut request = [0; 12];
        while stream.read_exact(&mut request).await.is_ok() {
            let mut reply = vec![request[0], request[1], 0, 0, 0, 7, request[6], 3, 4, 0, 1, 0, 2];
            if is_born.load(Ordering::Relaxed) {
                reply = vec![request[0], request[1], 0, 0, 0, 5, request[6], 3, 2, 0, 1];
            }
            if stream.write_all(&reply).await.is_err() {
                break;
            }
        }
    }
}

#[tokio::test]
async fn refused_silent_and_garbled_devices_are_bad_with_a_reason_and_their_neighbours_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut tasks = JoinSet::new();
    let (broker, plc, refused) = (free_address().await, free_address().await, free_address().await);
    serve_broker(broker, &mut tasks).await;
    serve_floor(plc, &mut tasks).await;
    let garbled = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let garbled_address = garbled.local_addr().unwrap();
    let is_born = Arc::new(AtomicBool::new(false));
    tasks.spawn(serve_garbled(garbled, is_born.clone()));
    let mut consumer = Consumer::subscribe(broker).await;
    let others = format!(
        r#"
        [device.silent]
        link = "plc"
        unit = 77
        timeout = "50ms"
        tags = [{{ name = "t", at = "hr:0" }}]
        [link.refused]
        tcp = "{refused}"
        [device.refused]
        link = "refused"
        tags = [{{ name = "t", at = "hr:0" }}]
        [link.garbled]
        tcp = "{garbled_address}"
        [device.garbled]
        link = "garbled"
        every = "200ms"
        timeout = "200ms"
        tags = [{{ name = "t", at = "hr:0", type = "u32" }}]
        "#
    );
    let _gateway = Gateway::start(folder.path(), &(configuration(broker, plc) + &others));
    let birth = consumer.wait_for("DBIRTH/n/garbled", |_| true).await;
    assert_eq!(metric(&birth, "t").unwrap().value, Some(metric::Value::LongValue(65538)));
    is_born.store(true, Ordering::Relaxed);
    let data = consumer.wait_for("DDATA/n/garbled", |_| true).await;
    assert_eq!(reason(&data, "t").as_deref(), Some("bad:decode"));
    assert_eq!(
        (metric(&data, "t").unwrap().is_null, metric(&data, "t").unwrap().value.clone()),
        (Some(true), None)
    );
    for _ in 0..2 {
        consumer
            .wait_for("DDATA/n/press", |data| metric(data, "job").is_some_and(|job| job.value.is_some()))
            .await;
    }
}

#[tokio::test]
async fn two_gateways_do_not_share_a_state_directory() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, plc) = (free_address().await, free_address().await);
    let _first = Gateway::start(folder.path(), &configuration(broker, plc));
    within(async {
        while !folder.path().join("state/session").exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let mut second = Gateway::start(folder.path(), &configuration(broker, plc));
    assert_eq!(second.ended().await, Some(1));
}

/// What `tidegate queue` says of the state of a gateway that was started in `folder`.
fn queue(folder: &Path, more: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.env("RUNTIME_DIRECTORY", folder.join("run")).arg("queue").arg(folder.join("state")).args(more);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn what_was_read_without_a_broker_outlives_a_kill_and_comes_as_history() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, plc) = (free_address().await, free_address().await);
    let mut tasks = JoinSet::new();
    serve_floor(plc, &mut tasks).await;
    let configuration = configuration(broker, plc).replace("tags = [", "report = \"always\"\ntags = [");
    let gateway = Gateway::start(folder.path(), &configuration);
    let stored =
        |text: &str| text.lines().filter(|line| line.contains(",press,model,Press TG-200,good")).count();
    within(async {
        while !folder.path().join("state/lock").is_file()
            || stored(&queue(folder.path(), &["--export", "csv"])) < 20
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    drop(gateway);
    let exported = queue(folder.path(), &["--export", "csv"]);
    let summary = queue(folder.path(), &[]);
    assert!(
        summary.contains("uplink u: ") && summary.contains("readings may still have to be delivered"),
        "{summary}"
    );
    serve_broker(broker, &mut tasks).await;
    let mut consumer = Consumer::subscribe(broker).await;
    let gateway = Gateway::start(folder.path(), &configuration);
    let mut times = Vec::new();
    within(async {
        while times.len() < stored(&exported) {
            let data = consumer
                .wait_for("DDATA/n/press", |data| {
                    data.metrics.iter().any(|metric| metric.is_historical == Some(true))
                })
                .await;
            let of_model = data.metrics.iter().filter(|metric| metric.name.as_deref() == Some("model"));
            times.extend(of_model.filter_map(|metric| metric.timestamp));
        }
    })
    .await;
    assert!(times.is_sorted(), "{times:?}");
    let first =
        exported.lines().find(|line| line.contains(",model,")).unwrap().split(',').nth(1).unwrap().to_owned();
    let sent = std::time::UNIX_EPOCH + Duration::from_millis(times[0]);
    assert_eq!(humantime::parse_rfc3339(&first).unwrap(), sent);
    // a clean end leaves nothing behind
    gateway.terminate();
    consumer.wait_for("NDEATH/n", |_| true).await;
    within(async {
        while !queue(folder.path(), &[])
            .starts_with(&format!("{}/state/queue\n\n0 readings", folder.path().display()))
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_new_configuration_is_taken_over_while_running_and_one_with_findings_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, plc) = (free_address().await, free_address().await);
    let mut tasks = JoinSet::new();
    serve_broker(broker, &mut tasks).await;
    serve_floor(plc, &mut tasks).await;
    let mut consumer = Consumer::subscribe(broker).await;
    let mut gateway =
        Gateway::start(folder.path(), &(configuration(broker, plc) + "[status]\npublish = \"100ms\"\n"));
    let hash = |birth: &Payload| metric(birth, "Properties/config_hash").unwrap().value.clone();
    let first = hash(&consumer.wait_for("NBIRTH/n", |_| true).await);
    consumer.wait_for("DBIRTH/n/press", |_| true).await;
    let path = folder.path().join("gateway.toml");
    let good = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, good.replace("name = \"job\", at = \"hr:50\"", "name = \"job\", at = \"hr:x\""))
        .unwrap();
    gateway.signal("HUP");
    let refused = |data: &Payload| {
        metric(data, "Gateway/reloads_refused").and_then(|count| count.value.clone())
            == Some(metric::Value::LongValue(1))
    };
    consumer.wait_for("NDATA/n", refused).await;
    std::fs::write(&path, good.replace("name = \"job\"", "name = \"order\"")).unwrap();
    gateway.signal("HUP");
    consumer.wait_for("NDEATH/n", |_| true).await;
    assert_ne!(hash(&consumer.wait_for("NBIRTH/n", |_| true).await), first);
    let birth = consumer.wait_for("DBIRTH/n/press", |_| true).await;
    assert!(metric(&birth, "order").is_some() && metric(&birth, "job").is_none());
    gateway.terminate();
    assert_eq!(gateway.ended().await, Some(0));
}
