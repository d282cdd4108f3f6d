//! Commands of a host, by real messages through a broker to simulated devices that count what is written to them.

use std::process::{Command, Output};
use std::time::Duration;

use prost::Message as _;
use rumqttc::QoS;
use tidegate::clock;
use tidegate::config::site::Framing;
use tidegate::sim::faults::{Fault, Faults, Moment, Refusal, Spoil, When};
use tidegate::sim::floor::{Floor, Request, Table};
use tidegate::sim::serve::{FarEnd, Shared};
use tidegate::sparkplug::proto::Payload;
use tidegate::sparkplug::proto::payload::{Metric, metric};
use tokio::task::JoinSet;

use crate::gateway::{Consumer, Gateway, free_address, metric, serve_broker, within};
use crate::lossless::mosquitto::Mosquitto;
use crate::rig::{LINE, serve_line, serve_tcp};

/// A gateway between a broker and two ovens, with a host that commands.
struct Plant {
    folder: tempfile::TempDir,
    gateway: Gateway,
    host: Consumer,
    floor: Shared,
    far: FarEnd,
    _tasks: JoinSet<()>,
    _mosquitto: Option<(Mosquitto, tempfile::TempDir)>,
    sent: u64,
}

/// Between what the gateway stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The embedded broker, and devices over TCP.
    Tcp,
    /// The embedded broker, and devices on a serial line.
    Line,
    /// Mosquitto, and devices over TCP.
    Mosquitto,
}

/// What a host sends.
#[derive(Clone)]
struct Sent {
    device: &'static str,
    tag: &'static str,
    value: metric::Value,
    /// Milliseconds added to the time of now; `None`: no timestamp.
    at_ms: Option<i64>,
    is_retained: bool,
    /// `None`: a new one.
    id: Option<&'static str>,
}

impl Sent {
    fn new(tag: &'static str, value: metric::Value) -> Sent {
        Sent { device: "oven3", tag, value, at_ms: Some(0), is_retained: false, id: None }
    }

    fn double(tag: &'static str, value: f64) -> Sent {
        Sent::new(tag, metric::Value::DoubleValue(value))
    }

    fn int(tag: &'static str, value: u32) -> Sent {
        Sent::new(tag, metric::Value::IntValue(value))
    }
}

/// Nothing is polled but once, so that only commands speak to the ovens.
const TYPE: &str = r#"
[type.oven]
timeout = "400ms"
retries = 0
every = "1h"
probe = { at = "hr:20", type = "u16", between = [45, 65] }
variants = ["newer-oven"]
tags = [
  { name = "mode", at = "hr:10", type = "string", length = 2 },
  { name = "sp", at = "hr:101", type = "i16", scale = 0.1, write = { min = 20, max = 350, step = 5, every = "0s" } },
  { name = "slow", at = "hr:102", write = { every = "1h" } },
  { name = "ro", at = "hr:103" },
  { name = "coil", at = "coil:4", write = { every = "0s" } },
  { name = "bit", at = "hr:110.3", write = { function = 22, every = "0s" } },
  { name = "locked", at = "hr:111", write = { interlock = "mode == 'auto'", every = "0s" } },
  { name = "near", at = "hr:112", write = { max_change = 20, every = "0s" } },
  { name = "armed", at = "hr:113", write = { arm = "30s", every = "0s" } },
  { name = "blind", at = "hr:114", type = "u32", write = { readback = false, every = "0s" } },
  { name = "elsewhere", at = "hr:116", write = { readback = "ro", every = "0s" } },
  { name = "state", at = "hr:117", values = { 5 = "run", 6 = "stop", 7 = "hold", 8 = "hold" }, write = { every = "0s" } },
  { name = "stopper", at = "hr:118", values = { 5 = "run", 6 = "stop" }, write = { allow = ["stop"], readback = "lamp", every = "0s" } },
  { name = "lamp", at = "hr:119", values = { 1 = "stop", 2 = "run" } },
  { name = "select", at = "hr:120", values = { 1 = "auto", 2 = "semi_auto", 3 = "manual" } },
  { name = "level", at = "hr:121", type = "i16", scale = 0.1, range = [0, 100], bad_values = { 0x7FFF = "bad:over_range" } },
  { name = "guarded", at = "hr:122", write = { interlock = "(select == 'auto' or select == 'semi_auto') and level < 50", every = "0s" } },
  { name = "zone", at = "hr:130", type = "i16", scale = 0.1 },
]
[type.newer-oven]
like = "oven"
probe = { at = "hr:21", equals = 7 }
tags = [{ name = "zone", at = "hr:131", type = "i16", scale = 0.01 }]
"#;

impl Plant {
    /// Running, and born.
    async fn start(commands: &str) -> Plant {
        Plant::start_on(Way::Tcp, commands).await
    }

    async fn start_on(way: Way, commands: &str) -> Plant {
        let floor = Shared::new(Floor::new(Vec::new()).with_addressed("l", [3, 4]));
        let framing = if way == Way::Line { Framing::Rtu } else { Framing::Tcp };
        let far = FarEnd::new("l", framing, floor.clone());
        let mut tasks = JoinSet::new();
        let link = if way == Way::Line {
            format!("port = \"{}\"\nserial = \"115200 8N1\"", serve_line(&far, LINE, &mut tasks).display())
        } else {
            format!("tcp = \"{}\"", serve_tcp(&far, &mut tasks).await)
        };
        let (broker, mosquitto) = if way == Way::Mosquitto {
            let folder = tempfile::tempdir().unwrap();
            let mosquitto = Mosquitto::start(folder.path()).await;
            (mosquitto.address, Some((mosquitto, folder)))
        } else {
            let broker = free_address().await;
            serve_broker(broker, &mut tasks).await;
            (broker, None)
        };
        let mut host = Consumer::subscribe(broker).await;
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "[commands]\n{commands}\n[uplink.u]\nbroker = \"mqtt://{broker}\"\nbirth_jitter = \"0s\"\n\
             [link.l]\n{link}\n{TYPE}\n\
             [device.\"oven{{unit}}\"]\nlink = \"l\"\ntype = \"oven\"\nunit = \"3-4\"\n"
        );
        let gateway = Gateway::start(folder.path(), &text);
        for unit in [3, 4] {
            host.wait_for(&format!("DBIRTH/n/oven{unit}"), |_| true).await;
        }
        let mut plant =
            Plant { folder, gateway, host, floor, far, _tasks: tasks, _mosquitto: mosquitto, sent: 0 };
        for unit in [3, 4] {
            plant.set(unit, 10, &[0x6175, 0x746F]); // "auto"
            plant.set(unit, 20, &[50]);
        }
        plant
    }

    /// Ends the gateway cleanly, and starts another one with its configuration.
    async fn restart(&mut self) {
        let text = std::fs::read_to_string(self.folder.path().join("gateway.toml")).unwrap();
        let (_, text) = text.split_once("[commands]").unwrap();
        self.gateway.terminate();
        assert_eq!(self.gateway.ended().await, Some(0));
        self.gateway = Gateway::start(self.folder.path(), &format!("[commands]{text}"));
    }

    /// Lays words over what the registers of an oven hold.
    fn set(&mut self, unit: u8, address: u16, words: &[u16]) {
        self.floor.with(|floor| floor.write("l", unit, Table::HoldingRegisters, address, words)).unwrap();
    }

    /// What an oven holds.
    fn holds(&self, table: Table, address: u16, count: u16) -> Vec<u16> {
        let request = Request { table, address, count };
        self.floor.with(|floor| floor.read("l", 3, request, 0, clock::wall())).unwrap().words
    }

    /// Lets the next requests have these faults.
    fn spoil(&self, faults: impl IntoIterator<Item = Fault>) {
        self.far.set_faults(Faults::new(1, faults.into_iter().collect()));
    }

    /// Waits until nothing is asked of the ovens any more: behind a stream that was opened again their probes are read.
    async fn settle(&self) {
        loop {
            drop(self.far.take_seen());
            tokio::time::sleep(Duration::from_millis(300)).await;
            if self.far.take_seen().is_empty() {
                return;
            }
        }
    }

    /// Sends it, and gives what the host is told: result and reason.
    async fn command(&mut self, sent: Sent) -> (String, String) {
        let id = self.send(sent).await;
        self.told(&id).await
    }

    /// Sends it; its id.
    async fn send(&mut self, sent: Sent) -> String {
        self.sent += 1;
        let now = clock::wall().millis();
        let id = sent.id.map_or_else(|| format!("id-{}", self.sent), str::to_owned);
        let payload = Payload {
            timestamp: sent.at_ms.map(|at| now.checked_add_signed(at).unwrap()),
            uuid: Some(id.clone()),
            metrics: vec![Metric {
                name: Some(sent.tag.to_owned()),
                value: Some(sent.value),
                ..Metric::default()
            }],
            ..Payload::default()
        };
        let topic = format!("spBv1.0/e/DCMD/n/{}", sent.device);
        self.host
            .client
            .publish(topic, QoS::AtLeastOnce, sent.is_retained, payload.encode_to_vec())
            .await
            .unwrap();
        id
    }

    /// What the host is told of the command with this id, by the device or by the node.
    async fn told(&mut self, id: &str) -> (String, String) {
        let told = self.host.wait_for_any(|_, data| outcome(data).is_some_and(|told| told["id"] == id)).await;
        let told = outcome(&told).unwrap();
        (told["result"].as_str().unwrap().to_owned(), told["reason"].as_str().unwrap().to_owned())
    }

    /// Refused for this reason, and nothing on the wire.
    #[track_caller]
    fn refuses<'a>(&'a mut self, sent: Sent, reason: &'a str) -> impl Future<Output = ()> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let before = self.writes();
            let told = self.command(sent).await;
            assert!(told.0 == "refused" && told.1.contains(reason), "{caller}: {told:?}");
            assert_eq!(self.writes(), before, "{caller}: writes on the wire");
        }
    }

    /// Requests to write that the ovens have had.
    fn writes(&self) -> u64 {
        self.far.writes(3) + self.far.writes(4)
    }

    /// The records of a command.
    fn records(&self, id: &str) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.folder.path().join("state/audit.log")).unwrap_or_default();
        let all = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        all.filter(|record| record["id"] == id).collect()
    }

    /// `tidegate write` with this gateway's configuration.
    async fn write(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.arg("write").arg("--config").arg(self.folder.path().join("gateway.toml")).args(arguments);
        command.stdin(std::process::Stdio::null());
        within(tokio::task::spawn_blocking(move || command.output().unwrap())).await.unwrap()
    }
}

/// The outcome that a message tells.
fn outcome(payload: &Payload) -> Option<serde_json::Value> {
    let told = metric(payload, "Device Control/Outcome").or(metric(payload, "Node Control/Outcome"))?;
    match told.value.as_ref()? {
        metric::Value::StringValue(text) => Some(serde_json::from_str(text).unwrap()),
        _ => None,
    }
}

const ENABLED: &str = "enabled = true";

#[tokio::test]
async fn an_allowed_command_is_written_once_read_back_reported_and_recorded() {
    let mut plant = Plant::start(ENABLED).await;
    let told = plant.command(Sent::double("sp", 250.0)).await;
    assert_eq!(told, ("done".to_owned(), String::new()));
    assert_eq!((plant.holds(Table::HoldingRegisters, 101, 1), plant.writes()), (vec![2500], 1));
    let records = plant.records("id-1");
    let events: Vec<&str> = records.iter().map(|record| record["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["wanted", "done"]);
    for record in &records {
        assert_eq!(
            (&record["by"], &record["device"], &record["tag"], &record["value"]),
            (&"uplink u".into(), &"oven3".into(), &"sp".into(), &250.0.into())
        );
        assert!(record["at_ms"].as_u64().unwrap() > 1_700_000_000_000);
    }
    // probe, write, read-back, and nothing else
    let seen: Vec<u8> = plant.far.take_seen().iter().map(|seen| seen.subject.function).collect();
    assert!(seen.ends_with(&[3, 6, 3]), "{seen:?}");
    assert_eq!(plant.command(Sent::new("coil", metric::Value::BooleanValue(true))).await.0, "done");
    assert_eq!(plant.holds(Table::Coils, 4, 1), [1]);
    plant.set(3, 110, &[0xF0F0]);
    assert_eq!(plant.command(Sent::new("bit", metric::Value::BooleanValue(true))).await.0, "done");
    assert_eq!(plant.holds(Table::HoldingRegisters, 110, 1), [0xF0F8]);
    let blind = Sent::new("blind", metric::Value::LongValue(0x0001_0002));
    assert_eq!(plant.command(blind).await.0, "done");
    assert_eq!(plant.holds(Table::HoldingRegisters, 114, 2), [1, 2]);
    assert_eq!((plant.writes(), plant.far.writes(4)), (4, 0));
    plant.gateway.terminate();
    assert_eq!(plant.gateway.ended().await, Some(0));
}

#[tokio::test]
async fn whatever_a_rule_forbids_is_refused_with_its_reason_and_nothing_is_on_the_wire() {
    let mut plant = Plant::start("enabled = true\nmax_age = \"2s\"").await;
    tokio::time::sleep(Duration::from_secs(2)).await; // so that an old command is of this session
    let sp = || Sent::double("sp", 250.0);
    plant.refuses(Sent::int("ro", 1), "tag `ro` is read-only").await;
    plant.refuses(Sent::double("sp", 355.0), "out of range").await;
    plant.refuses(Sent::double("sp", 252.0), "off the grid").await;
    plant.refuses(Sent::double("sp", 250.01), "the nearest is 250").await;
    plant.refuses(Sent::new("sp", metric::Value::StringValue("250".into())), "no value, or not one").await;
    plant.refuses(Sent::new("coil", metric::Value::IntValue(1)), "no value, or not one").await;
    plant.refuses(Sent::int("slow", 70_000), "does not fit the registers").await;
    plant.refuses(Sent { at_ms: Some(-2100), ..sp() }, "expired").await;
    plant.refuses(Sent { at_ms: Some(6000), ..sp() }, "ahead of the gateway's clock").await;
    plant.refuses(Sent { at_ms: None, ..sp() }, "no timestamp").await;
    plant.refuses(Sent { device: "oven9", ..sp() }, "there is no device `oven9`").await;
    plant.refuses(Sent { tag: "nothing", ..sp() }, "device `oven3` has no tag `nothing`").await;
    plant.refuses(Sent::int("armed", 5), "armed: send it again within 30 s").await;
    plant.set(3, 112, &[100]);
    plant.refuses(Sent::int("near", 121), "max_change: from 100 to 121 is more than 20").await;
    plant.set(3, 10, &[0x6D61, 0x6E00]);
    plant.refuses(Sent::int("locked", 1), "interlock: mode == 'auto' does not hold: `mode` is man").await;
    plant.set(3, 20, &[66]);
    plant.refuses(sp(), "the probe does not hold: hr:20 is 66").await;
    plant.set(3, 20, &[65]);
    assert_eq!(plant.writes(), 0);
    // what was refused can be done when it is right
    plant.set(3, 10, &[0x6175, 0x746F]);
    for sent in [Sent::int("locked", 1), Sent::int("near", 120), Sent::int("armed", 5), Sent::int("slow", 1)]
    {
        assert_eq!(plant.command(sent).await, ("done".to_owned(), String::new()));
    }
    plant.refuses(Sent::int("slow", 2), "too fast").await;
    let again = Sent { id: Some("same"), ..sp() };
    assert_eq!(plant.command(again.clone()).await.0, "done");
    plant.refuses(again, "replayed").await;
    assert_eq!(plant.writes(), 5);
    let refused = plant.records("id-1");
    assert_eq!((refused.len(), &refused[0]["event"]), (1, &"refused".into()));
}

#[tokio::test]
async fn a_device_is_read_and_written_as_the_variant_that_it_is_and_as_none_of_them_it_is_not_written() {
    let mut plant = Plant::start(ENABLED).await;
    plant.set(3, 130, &[215, 2150]);
    plant.set(3, 20, &[66]);
    plant.refuses(Sent::double("sp", 250.0), "the probe does not hold: hr:20 is 66").await;
    plant.set(3, 21, &[7]);
    assert_eq!(plant.command(Sent::double("sp", 250.0)).await, ("done".to_owned(), String::new()));
    plant.set(3, 131, &[3000]); // 30.00, where the older one would have 300.0
    let zone = |payload: &Payload| match metric(payload, "zone")?.value {
        Some(metric::Value::DoubleValue(value)) => Some(value),
        _ => None,
    };
    let is_told = |payload: &Payload| zone(payload).is_some();
    plant.restart().await;
    let shown = plant.host.wait_for_any(|topic, data| topic.ends_with("n/oven3") && is_told(data)).await;
    assert_eq!(zone(&shown), Some(30.0));
    plant.set(3, 21, &[8]);
    plant.refuses(Sent::double("sp", 200.0), "the probe does not hold").await;
    plant.set(3, 20, &[50]);
    plant.restart().await;
    let shown = plant.host.wait_for_any(|topic, data| topic.ends_with("n/oven3") && is_told(data)).await;
    assert_eq!(zone(&shown), Some(21.5));
}

#[tokio::test]
async fn a_word_is_written_as_its_code_and_what_is_no_word_is_not() {
    let mut plant = Plant::start(ENABLED).await;
    let word = |tag, word: &str| Sent::new(tag, metric::Value::StringValue(word.to_owned()));
    plant.refuses(word("state", "hold"), "several values have the word 'hold'").await;
    plant.refuses(word("state", "halt"), "no value has the word 'halt'").await;
    plant.refuses(word("state", "6"), "no value has the word '6'").await;
    plant.refuses(Sent::int("state", 6), "no value, or not one of its datatype").await;
    plant.refuses(word("stopper", "run"), "run is not allowed: write.allow has 'stop'").await;
    assert_eq!(plant.command(word("state", "stop")).await, ("done".to_owned(), String::new()));
    assert_eq!((plant.holds(Table::HoldingRegisters, 117, 1), plant.writes()), (vec![6], 1));
    // another tag must then show the same word
    plant.set(3, 119, &[1]);
    assert_eq!(plant.command(word("stopper", "stop")).await, ("done".to_owned(), String::new()));
    assert_eq!((plant.holds(Table::HoldingRegisters, 118, 1), plant.writes()), (vec![6], 2));
    plant.set(3, 119, &[2]);
    let told = plant.command(word("stopper", "stop")).await;
    assert_eq!(told, ("failed".to_owned(), "the device has run and not what was written".to_owned()));
    assert_eq!(plant.records("id-6").last().unwrap()["value"], "stop");
    let output = plant.write(&["oven3:state", "run", "--yes"]).await;
    assert_eq!((output.status.code(), plant.holds(Table::HoldingRegisters, 117, 1)), (Some(0), vec![5]));
}

#[tokio::test]
async fn an_interlock_of_several_tags_lets_pass_what_it_is_sure_of() {
    let mut plant = Plant::start(ENABLED).await;
    let mut check = async |select: u16, level: u16, refusal: Option<&str>| {
        plant.set(3, 120, &[select, level]);
        match refusal {
            Some(reason) => plant.refuses(Sent::int("guarded", 1), reason).await,
            None => {
                let before = plant.writes();
                let told = plant.command(Sent::int("guarded", 1)).await;
                assert_eq!((told, plant.writes()), (("done".to_owned(), String::new()), before + 1));
            }
        }
    };
    check(3, 100, Some("does not hold: `select` is manual, `level` is 10")).await;
    check(1, 500, Some("does not hold: `select` is auto, `level` is 50")).await;
    check(1, 0x7FFF, Some("interlock: `level` is bad:over_range")).await;
    check(1, 0xFFFF, Some("interlock: `level` is uncertain:eu_exceeded")).await;
    check(1, 499, None).await;
    check(2, 0, None).await;
}

#[tokio::test]
async fn garbage_is_refused_and_the_gateway_goes_on() {
    let mut plant = Plant::start(ENABLED).await;
    for payload in [
        vec![],
        vec![0xFF; 100],
        Payload { metrics: vec![Metric::default(); 17], ..Payload::default() }.encode_to_vec(),
    ] {
        plant.host.client.publish("spBv1.0/e/DCMD/n/oven3", QoS::AtLeastOnce, false, payload).await.unwrap();
        let told = plant.host.wait_for("DDATA/n/oven3", |data| outcome(data).is_some()).await;
        assert_eq!(outcome(&told).unwrap()["result"], "refused");
    }
    assert_eq!(plant.writes(), 0);
    assert_eq!(plant.command(Sent::double("sp", 250.0)).await.0, "done");
}

#[tokio::test]
async fn commands_are_off_unless_they_are_switched_on() {
    let mut plant = Plant::start("").await;
    plant.refuses(Sent::double("sp", 250.0), "commands are switched off").await;
    let output = plant.write(&["--yes", "oven3:sp", "250"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("switched off"), "{output:?}");
    assert_eq!(plant.writes(), 0);
}

#[tokio::test]
async fn an_uplink_that_may_not_command_is_told_so() {
    let mut plant = Plant::start("enabled = true\nuplinks = []").await;
    plant.refuses(Sent::double("sp", 250.0), "uplink `u` may not command").await;
}

/// Kept by the broker before the gateway came: it is delivered with the subscription.
#[tokio::test]
async fn a_command_that_the_broker_kept_is_never_obeyed() {
    let mut plant = Plant::start(ENABLED).await;
    let done = plant.send(Sent { is_retained: true, id: Some("kept"), ..Sent::double("sp", 250.0) }).await;
    // to those who are there it is a command as any other
    assert_eq!(plant.told(&done).await.0, "done");
    plant.restart().await;
    let (result, reason) = plant.told("kept").await;
    assert!(result == "refused" && reason.contains("retained"), "{result}: {reason}");
    assert_eq!(plant.writes(), 1);
}

/// The device has done it, and its answer is lost.
#[tokio::test]
async fn a_write_whose_answer_is_lost_is_on_the_wire_once_and_the_read_back_decides() {
    let mut plant = Plant::start(ENABLED).await;
    let lost = || Spoil::Late(Duration::from_secs(60), Duration::from_secs(60));
    let second = || When::Requests { first: 2, last: 2 };
    plant.spoil([Fault::new(second(), lost())]);
    assert_eq!(plant.command(Sent::double("sp", 250.0)).await, ("done".to_owned(), String::new()));
    assert_eq!((plant.holds(Table::HoldingRegisters, 101, 1), plant.writes()), (vec![2500], 1));
    // the device has not done it
    plant.settle().await;
    plant.spoil([Fault::new(second(), Refusal::Dead)]);
    let told = plant.command(Sent::double("sp", 300.0)).await;
    assert_eq!(told.0, "unclear"); // it might still do it
    assert!(told.1.contains("the device has 250 so far"), "{told:?}");
    assert_eq!(plant.writes(), 2);
    // whether it has done it cannot be seen
    plant.settle().await;
    plant.spoil([Fault::new(second(), lost())]);
    let told = plant.command(Sent::new("blind", metric::Value::LongValue(7))).await;
    assert_eq!(told.0, "unclear");
    assert!(told.1.contains("it may have been done or not"), "{told:?}");
    assert_eq!((plant.holds(Table::HoldingRegisters, 114, 2), plant.writes()), (vec![0, 7], 3));
    // nor here: the device falls silent with the write
    plant.settle().await;
    plant.spoil([Fault::new(When::Requests { first: 2, last: 100 }, lost())]);
    let told = plant.command(Sent::double("sp", 350.0)).await;
    assert_eq!(told.0, "unclear");
    assert!(told.1.contains("cannot be read back"), "{told:?}");
    assert_eq!(plant.writes(), 4);
}

#[tokio::test]
async fn a_device_that_says_no_has_failed_the_command_in_its_own_words() {
    let mut plant = Plant::start(ENABLED).await;
    plant.spoil([Fault::new(When::Requests { first: 2, last: 2 }, Refusal::Exception(3))]);
    let told = plant.command(Sent::double("sp", 250.0)).await;
    assert_eq!(told, ("failed".to_owned(), "it does not take this value (exception 3)".to_owned()));
    // it is shown by another tag
    plant.set(3, 103, &[8]);
    plant.spoil([]);
    let told = plant.command(Sent::int("elsewhere", 7)).await;
    assert_eq!(told, ("failed".to_owned(), "the device has 8 and not what was written".to_owned()));
    plant.set(3, 103, &[7]);
    assert_eq!(plant.command(Sent::int("elsewhere", 7)).await.0, "done");
}

#[tokio::test]
async fn a_device_that_does_not_answer_is_not_written_to() {
    let mut plant = Plant::start(ENABLED).await;
    plant.spoil([Fault::new(When::Always, Refusal::Dead)]);
    plant.refuses(Sent::double("sp", 250.0), "`oven3` hr:20: no answer within 400ms").await;
    plant.spoil([]);
    assert_eq!(plant.command(Sent::double("sp", 250.0)).await.0, "done");
}

#[tokio::test]
async fn while_one_command_is_under_way_another_on_its_line_is_refused_at_once() {
    let mut plant = Plant::start(ENABLED).await;
    plant.spoil([Fault::new(When::Always, Spoil::Slow(Duration::from_millis(150)))]);
    let first = plant.send(Sent::double("sp", 250.0)).await;
    let second = plant.send(Sent { device: "oven4", ..Sent::double("sp", 250.0) }).await;
    let told = plant.told(&second).await;
    assert_eq!(told, ("refused".to_owned(), "busy: another command is under way on this line".to_owned()));
    assert_eq!(plant.told(&first).await.0, "done");
    assert_eq!((plant.far.writes(3), plant.far.writes(4)), (1, 0));
}

#[tokio::test]
async fn nothing_is_written_that_cannot_be_recorded() {
    let mut plant = Plant::start(ENABLED).await;
    std::fs::create_dir(plant.folder.path().join("state/audit.log")).unwrap();
    plant.refuses(Sent::double("sp", 250.0), "could not be recorded").await;
    std::fs::remove_dir(plant.folder.path().join("state/audit.log")).unwrap();
    assert_eq!(plant.command(Sent::double("sp", 250.0)).await.0, "done");
}

#[tokio::test]
async fn births_carry_the_last_outcome() {
    let mut plant = Plant::start(ENABLED).await;
    assert_eq!(plant.command(Sent::double("sp", 250.0)).await.0, "done");
    let rebirth = Metric {
        name: Some("Node Control/Rebirth".to_owned()),
        value: Some(metric::Value::BooleanValue(true)),
        ..Metric::default()
    };
    let payload = Payload { metrics: vec![rebirth], ..Payload::default() }.encode_to_vec();
    plant.host.client.publish("spBv1.0/e/NCMD/n", QoS::AtLeastOnce, false, payload).await.unwrap();
    let birth = plant.host.wait_for("NBIRTH/n", |_| true).await;
    assert_eq!(metric(&birth, "Node Control/Outcome").unwrap().is_null, Some(true));
    let birth = plant.host.wait_for("DBIRTH/n/oven3", |_| true).await;
    assert_eq!(outcome(&birth).unwrap()["id"], "id-1");
    let birth = plant.host.wait_for("DBIRTH/n/oven4", |_| true).await;
    assert_eq!(metric(&birth, "Device Control/Outcome").unwrap().is_null, Some(true));
}

#[tokio::test]
async fn a_person_writes_by_the_same_rules_through_the_running_gateway() {
    let mut plant = Plant::start(ENABLED).await;
    let socket = plant.folder.path().join("state/control.sock");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&socket).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let output = plant.write(&["--yes", "oven3:sp", "250"]).await;
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stdout).as_ref()), (Some(0), "done\n"));
    assert_eq!((plant.holds(Table::HoldingRegisters, 101, 1), plant.writes()), (vec![2500], 1));
    let output = plant.write(&["--yes", "l", "--unit", "3", "hr:101", "--type", "i16", "300"]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!((plant.holds(Table::HoldingRegisters, 101, 1), plant.writes()), (vec![3000], 2));
    for (arguments, said) in [
        (vec!["--yes", "oven3:sp", "355"], "out of range"),
        (vec!["--yes", "oven3:ro", "1"], "read-only"),
        (vec!["--yes", "oven3:nothing", "1"], "no tag `nothing`"),
        (vec!["--yes", "oven9:sp", "1"], "no device `oven9`"),
        (vec!["--yes", "oven3:sp", "warm"], "takes a number"),
        (vec!["--yes", "oven3:sp", "-5"], "out of range"),
        (vec!["--yes", "l", "--unit", "3", "hr:5", "7"], "no tag with `write` at hr:5"),
        (vec!["--yes", "l", "--unit", "3", "hr:101", "--type", "u16", "300"], "is a i16"),
        (vec!["--yes", "m", "--unit", "3", "hr:101", "300"], "no link `m`"),
        (vec!["oven3:sp", "250"], "not written"),
    ] {
        let output = plant.write(&arguments).await;
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && text.contains(said), "{arguments:?}: {output:?}");
    }
    assert_eq!(plant.writes(), 2);
    let text = std::fs::read_to_string(plant.folder.path().join("state/audit.log")).unwrap();
    assert!(text.contains("\"by\":\"user "), "{text}");
    // what is in the file now may mean something else by that name
    let file = plant.folder.path().join("gateway.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("max = 350", "max = 351")).unwrap();
    let output = plant.write(&["--yes", "oven3:sp", "250"]).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(1) && said.contains("has another configuration: kill -HUP"),
        "{output:?}"
    );
    assert_eq!(plant.writes(), 2);
    plant.gateway.terminate();
    assert_eq!(plant.gateway.ended().await, Some(0));
    assert!(!socket.exists());
}

/// On a serial line, where a unit that was silent rests: the read-back waits for it. The answer comes, and is spoilt.
#[tokio::test]
async fn on_a_serial_line_a_write_whose_answer_is_spoilt_is_sent_once_and_read_back() {
    let mut plant = Plant::start_on(Way::Line, ENABLED).await;
    assert_eq!(plant.command(Sent::double("sp", 250.0)).await, ("done".to_owned(), String::new()));
    plant.spoil([Fault::new(When::Requests { first: 2, last: 2 }, Spoil::FlippedBit)]);
    assert_eq!(plant.command(Sent::double("sp", 300.0)).await, ("done".to_owned(), String::new()));
    assert_eq!((plant.holds(Table::HoldingRegisters, 101, 1), plant.writes()), (vec![3000], 2));
    plant.spoil([Fault::new(When::Requests { first: 2, last: 2 }, Refusal::Dead)]);
    assert_eq!(plant.command(Sent::double("sp", 350.0)).await.0, "unclear");
    assert_eq!(plant.writes(), 3);
}

/// A broker that others have written: commands, and one that it kept.
#[tokio::test]
async fn through_mosquitto_an_allowed_command_is_done_and_a_kept_one_refused() {
    let mut plant = Plant::start_on(Way::Mosquitto, ENABLED).await;
    let kept = Sent { is_retained: true, id: Some("kept"), ..Sent::double("sp", 250.0) };
    assert_eq!(plant.command(kept).await.0, "done");
    plant.refuses(Sent::double("sp", 5.0), "out of range").await;
    plant.restart().await;
    let (result, reason) = plant.told("kept").await;
    assert!(result == "refused" && reason.contains("retained"), "{result}: {reason}");
    assert_eq!(plant.command(Sent::double("sp", 300.0)).await.0, "done");
    assert_eq!(plant.writes(), 2);
}

/// The connection is cut with the write, and is open again for the read-back.
#[tokio::test]
async fn a_write_with_which_the_connection_is_cut_is_not_sent_again() {
    let mut plant = Plant::start(ENABLED).await;
    plant.spoil([Fault::new(When::Requests { first: 2, last: 2 }, Spoil::HangUp(Moment::Before))]);
    assert_eq!(plant.command(Sent::double("sp", 250.0)).await, ("done".to_owned(), String::new()));
    assert_eq!((plant.holds(Table::HoldingRegisters, 101, 1), plant.writes()), (vec![2500], 1));
}

/// The same rules, the same record, the same care: but never beside a gateway.
#[tokio::test]
async fn where_no_gateway_runs_a_person_writes_without_one() {
    let mut plant = Plant::start(ENABLED).await;
    let socket = plant.folder.path().join("state/control.sock");
    std::fs::remove_file(&socket).unwrap();
    let output = plant.write(&["--yes", "oven3:sp", "250"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("another tidegate uses this state_dir"),
        "{output:?}"
    );
    plant.gateway.terminate();
    assert_eq!(plant.gateway.ended().await, Some(0));
    for (arguments, code, said) in [
        (["--yes", "oven3:sp", "250"], 0, "done"),
        (["--yes", "oven3:bit", "true"], 0, "done"),
        (["--yes", "oven3:locked", "3"], 0, "done"),
        (["--yes", "oven3:sp", "252"], 1, "off the grid"),
    ] {
        let output = plant.write(&arguments).await;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.code() == Some(code) && text.contains(said), "{arguments:?}: {output:?}");
        assert!(text.starts_with("no gateway is running: writing without one\n"), "{text}");
    }
    assert_eq!((plant.holds(Table::HoldingRegisters, 101, 1), plant.writes()), (vec![2500], 3));
    let text = std::fs::read_to_string(plant.folder.path().join("state/audit.log")).unwrap();
    assert_eq!(text.lines().filter(|line| line.contains("\"event\":\"wanted\"")).count(), 3, "{text}");
    plant.set(3, 20, &[0]);
    let output = plant.write(&["--yes", "oven3:sp", "300"]).await;
    assert!(String::from_utf8_lossy(&output.stdout).contains("the probe does not hold"), "{output:?}");
    assert_eq!(plant.writes(), 3);
    // what is read does not wait for the disk: that it is wanted stands there first
    let text = std::fs::read_to_string(plant.folder.path().join("state/audit.log")).unwrap();
    let [.., wanted, refused] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
    assert!(wanted.contains("\"event\":\"wanted\"") && refused.contains("\"event\":\"refused\""), "{text}");
}
