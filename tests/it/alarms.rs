//! Alarms that people acknowledge and shelve: by messages of a host through a broker, and at the machine.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::process::{Command, Output};
use std::time::Duration;

use prost::Message as _;
use rumqttc::QoS;
use tidegate::clock;
use tidegate::config::site::Framing;
use tidegate::sim::floor::{Floor, Table};
use tidegate::sim::serve::{FarEnd, Shared};
use tidegate::sparkplug::proto::Payload;
use tidegate::sparkplug::proto::payload::{Metric, metric};
use tokio::task::JoinSet;

use crate::gateway::{Consumer, Gateway, free_address, metric, publish, serve_broker, within};
use crate::rig::serve_tcp;

const ACKNOWLEDGE: &str = "Device Control/Acknowledge";
const SHELVE: &str = "Device Control/Shelve";
/// The longest that anything may take here.
const PATIENCE: Duration = Duration::from_secs(30);

/// A gateway between a broker and an oven with two alarms, with a host that commands.
struct Plant {
    folder: tempfile::TempDir,
    /// `None`: it has been killed.
    gateway: Option<Gateway>,
    text: String,
    broker: SocketAddr,
    host: Consumer,
    floor: Shared,
    far: FarEnd,
    _tasks: JoinSet<()>,
    sent: u64,
}

impl Plant {
    /// Running, and born; gives the birth of the oven too.
    async fn start(commands: &str) -> (Plant, Payload) {
        let floor = Shared::new(Floor::new(Vec::new()).with_addressed("l", [3]));
        floor.with(|floor| floor.write("l", 3, Table::HoldingRegisters, 10, &[0, 0])).unwrap();
        let far = FarEnd::new("l", Framing::Tcp, floor.clone());
        let mut tasks = JoinSet::new();
        let link = serve_tcp(&far, &mut tasks).await;
        let broker = free_address().await;
        serve_broker(broker, &mut tasks).await;
        let host = Consumer::subscribe(broker).await;
        let text = format!(
            r#"
            [commands]
            {commands}
            [uplink.u]
            broker = "mqtt://{broker}"
            birth_jitter = "0s"
            [link.l]
            tcp = "{link}"
            [device.oven3]
            link = "l"
            unit = 3
            every = "50ms"
            tags = [{{ name = "oil", at = "hr:10" }}, {{ name = "heat", at = "hr:11" }}]
            [device.oven3.alarm]
            oil = {{ when = "oil", above = 5, latch = true }}
            heat = {{ when = "heat", above = 5 }}
            "#
        );
        let folder = tempfile::tempdir().unwrap();
        let gateway = Some(Gateway::start(folder.path(), &text));
        let (tasks, sent) = (tasks, 0);
        let mut plant = Plant { folder, gateway, text, broker, host, floor, far, _tasks: tasks, sent };
        let birth = plant.host.wait_for("DBIRTH/n/oven3", |_| true).await;
        (plant, birth)
    }

    fn set(&self, address: u16, word: u16) {
        self.floor.with(|floor| floor.write("l", 3, Table::HoldingRegisters, address, &[word])).unwrap();
    }

    /// Sends a command; its id.
    async fn send(&mut self, tag: &str, text: &str) -> String {
        self.sent += 1;
        let id = format!("id-{}", self.sent);
        let payload = command(&id, tag, text);
        let topic = "spBv1.0/e/DCMD/n/oven3";
        self.host.client.publish(topic, QoS::AtLeastOnce, false, payload).await.unwrap();
        id
    }

    /// Waits until all of these have been told, in whatever order: `metric=value` each, or a part of it.
    async fn told(&mut self, wanted: &[&str]) {
        let missing = RefCell::new(wanted.to_vec());
        let is_last = |_: &str, payload: &Payload| {
            let mut missing = missing.borrow_mut();
            for metric in payload.metrics.iter().map(shown) {
                missing.retain(|wanted| !metric.contains(wanted));
            }
            missing.is_empty()
        };
        let taken = tokio::time::timeout(PATIENCE, self.host.take_until(2 * PATIENCE, is_last)).await;
        assert!(taken.is_ok(), "not told: {:?}", missing.borrow());
    }

    /// Sends it; it is done, and this is told.
    async fn does(&mut self, tag: &str, text: &str, wanted: &[&str]) {
        let id = self.send(tag, text).await;
        let outcome = format!(
            r#"Device Control/Outcome={{"id":"{id}","reason":"","result":"done","tag":"{tag}","value":"{text}"}}"#
        );
        self.told(&[&[outcome.as_str()], wanted].concat()).await;
        assert_eq!(self.events(&id), ["uplink u wanted", "uplink u done"]);
    }

    /// Sends it, and it is refused for this reason.
    async fn refuses(&mut self, tag: &str, text: &str, reason: &str) {
        let id = self.send(tag, text).await;
        let (id, reason) = (format!(r#""id":"{id}""#), reason.replace('"', "\\\""));
        let is_it = |payload: &Payload| {
            let metrics = payload.metrics.iter().map(shown);
            metrics.into_iter().find(|metric| metric.contains("Control/Outcome=") && metric.contains(&id))
        };
        let told = self.host.wait_for_any(|_, payload| is_it(payload).is_some()).await;
        let told = is_it(&told).unwrap();
        assert!(told.contains(r#""result":"refused""#) && told.contains(&reason), "wanted {reason}: {told}");
    }

    /// What is recorded of a command: by whom, and what.
    fn events(&self, id: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.path().join("state/audit.log")).unwrap_or_default();
        let all = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        all.filter(|record| record["id"] == id)
            .map(|record| format!("{} {}", record["by"].as_str().unwrap(), record["event"].as_str().unwrap()))
            .collect()
    }

    /// `tidegate write` with this gateway's configuration: exit code, and all that it says.
    async fn write(&self, tag: &str, text: &str) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.arg("write").arg("--config").arg(self.folder.path().join("gateway.toml"));
        command.arg("--yes").arg(format!("oven3:{tag}")).arg(text).stdin(std::process::Stdio::null());
        let output: Output =
            within(tokio::task::spawn_blocking(move || command.output().unwrap())).await.unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    }
}

/// The payload of a command.
fn command(id: &str, tag: &str, text: &str) -> Vec<u8> {
    let metric = Metric {
        name: Some(tag.to_owned()),
        value: Some(metric::Value::StringValue(text.to_owned())),
        ..Metric::default()
    };
    let (timestamp, uuid) = (Some(clock::wall().millis()), Some(id.to_owned()));
    Payload { timestamp, uuid, metrics: vec![metric], ..Payload::default() }.encode_to_vec()
}

/// `name=value`
fn shown(metric: &Metric) -> String {
    let value = match &metric.value {
        Some(metric::Value::StringValue(text)) => text.clone(),
        Some(metric::Value::BooleanValue(flag)) => flag.to_string(),
        other => format!("{other:?}"),
    };
    format!("{}={value}", metric.name.as_deref().unwrap_or_default())
}

const ENABLED: &str = "enabled = true";

#[tokio::test]
async fn a_host_acknowledges_a_latched_alarm_and_it_is_told_who_did_and_recorded() {
    let (mut plant, birth) = Plant::start(ENABLED).await;
    for name in [ACKNOWLEDGE, SHELVE] {
        let control = metric(&birth, name).unwrap();
        assert_eq!((control.datatype, shown(control)), (Some(12), format!("{name}=")));
    }
    plant.refuses(ACKNOWLEDGE, "oil", "there is nothing to acknowledge").await;
    plant.set(10, 6);
    plant
        .told(&["alarm/oil=true", r#"event/alarm={"alarm":"oil","event":"raised","state":"unacknowledged""#])
        .await;
    plant.set(10, 0);
    plant
        .told(&[
            r#"event/alarm={"alarm":"oil","event":"cleared","state":"latched_unacknowledged","active":true"#,
        ])
        .await;
    let acknowledged = r#"event/alarm={"alarm":"oil","event":"acknowledged","state":"normal","active":false"#;
    plant.does(ACKNOWLEDGE, "oil", &["alarm/oil=false", acknowledged, r#""by":"u"}"#]).await;
    plant.refuses(ACKNOWLEDGE, "oil", "there is nothing to acknowledge").await;
    assert_eq!(plant.events("id-1"), ["uplink u wanted", "uplink u refused"]);
    assert_eq!(plant.far.writes(3), 0);
    let gateway = plant.gateway.as_mut().unwrap();
    gateway.terminate();
    assert_eq!(gateway.ended().await, Some(0));
}

#[tokio::test]
async fn a_host_shelves_an_alarm_and_takes_it_back_and_is_told_what_to_write() {
    let (mut plant, _) = Plant::start(ENABLED).await;
    plant
        .does(SHELVE, "heat 30m", &[r#"event/alarm={"alarm":"heat","event":"shelved","state":"shelved""#])
        .await;
    // what happens on the shelf is not announced, but its tag tells it
    plant.set(11, 6);
    plant.told(&["alarm/heat=true"]).await;
    let back = r#"event/alarm={"alarm":"heat","event":"unshelved","state":"unacknowledged","active":true"#;
    plant.does(SHELVE, "heat 0s", &[back]).await;
    plant.refuses(SHELVE, "heat 0s", "the alarm is not shelved").await;
    plant.refuses(SHELVE, "heat 25h", "out of range: an alarm is shelved for at most 24h").await;
    plant.refuses(SHELVE, "heat", "\"heat\" does not name an alarm and a time: write the name").await;
    plant.refuses(ACKNOWLEDGE, "water", "device `oven3` has no alarm `water`, but `oil`, `heat`").await;
    plant.refuses("alarm/heat", "false", "tag `alarm/heat` is read-only").await;
    assert_eq!(plant.far.writes(3), 0);
}

#[tokio::test]
async fn an_acknowledgement_outlives_a_kill_and_one_that_the_broker_kept_is_not_obeyed() {
    let (mut plant, _) = Plant::start(ENABLED).await;
    plant.set(11, 6);
    plant.told(&["alarm/heat=true"]).await;
    plant.does(ACKNOWLEDGE, "heat", &[]).await;
    plant.gateway = None; // as kill -9
    let kept = command("kept", ACKNOWLEDGE, "heat");
    publish(plant.broker, "spBv1.0/e/DCMD/n/oven3", &kept, true).await;
    plant.gateway = Some(Gateway::start(plant.folder.path(), &plant.text));
    plant.told(&["alarm/heat=true", "retained: what a broker keeps for later is never carried out"]).await;
    // it would be unacknowledged else
    plant.refuses(ACKNOWLEDGE, "heat", "there is nothing to acknowledge").await;
}

#[tokio::test]
async fn a_gateway_that_has_read_its_configuration_again_obeys_as_before() {
    let (mut plant, _) = Plant::start(ENABLED).await;
    let file = plant.folder.path().join("gateway.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(
        &file,
        text.replace("heat = { when = \"heat\", above = 5", "heat = { when = \"heat\", above = 9"),
    )
    .unwrap();
    plant.gateway.as_ref().unwrap().signal("HUP");
    plant.host.wait_for("DBIRTH/n/oven3", |_| true).await;
    plant.set(11, 10);
    plant.told(&["alarm/heat=true"]).await;
    plant
        .does(ACKNOWLEDGE, "heat", &[r#""event":"acknowledged","state":"acknowledged","active":true"#])
        .await;
}

#[tokio::test]
async fn where_commands_are_off_there_is_nothing_to_write_to() {
    let (mut plant, birth) = Plant::start("").await;
    assert!(birth.metrics.iter().all(|metric| !shown(metric).starts_with("Device Control/")));
    plant.refuses(ACKNOWLEDGE, "oil", "commands are switched off").await;
    let (code, said) = plant.write(ACKNOWLEDGE, "oil").await;
    assert!(
        code == Some(1) && said.contains("device `oven3` has no tag `Device Control/Acknowledge`"),
        "{said}"
    );
}

#[tokio::test]
async fn an_uplink_that_may_not_command_acknowledges_nothing() {
    let (mut plant, _) = Plant::start("enabled = true\nuplinks = []").await;
    plant.refuses(ACKNOWLEDGE, "oil", "uplink `u` may not command").await;
}

#[tokio::test]
async fn a_person_at_the_machine_acknowledges_and_shelves_through_the_running_gateway() {
    let (mut plant, _) = Plant::start(ENABLED).await;
    plant.set(11, 6);
    plant.told(&["alarm/heat=true"]).await;
    assert_eq!(plant.write(ACKNOWLEDGE, "heat").await, (Some(0), "done\n".to_owned()));
    plant.told(&[r#"{"alarm":"heat","event":"acknowledged","state":"acknowledged","active":true"#]).await;
    assert_eq!(plant.write(SHELVE, "heat 1h").await, (Some(0), "done\n".to_owned()));
    let refused = "refused: there is nothing to acknowledge\n".to_owned();
    assert_eq!(plant.write(ACKNOWLEDGE, "heat").await, (Some(1), refused));
    let text = std::fs::read_to_string(plant.folder.path().join("state/audit.log")).unwrap();
    let user = text.lines().filter(|line| line.contains(r#""by":"user "#)).count();
    assert_eq!(user, 6, "wanted and its end, three times: {text}");
    plant.gateway = None;
    let (code, said) = plant.write(ACKNOWLEDGE, "heat").await;
    assert!(
        code == Some(1) && said.contains("no gateway is running: only a running one has alarms"),
        "{said}"
    );
}
