//! JSON from the whole program: what it sends at the embedded broker, and that the schema is that of what it sends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use tidegate::clock;
use tidegate::reading::Quality;
use tidegate::sim::broker::Broker;
use tokio::task::JoinSet;

use crate::lossless::{Plant, Program, Size, Subscriber, What};
use crate::root;

const PATIENCE: Duration = Duration::from_secs(30);
const SIZE: Size = Size { devices: 2, tags: 3 };

/// The messages that came, by topic, in their order.
#[derive(Default)]
struct Heard(BTreeMap<String, Vec<Value>>);

impl Heard {
    /// Listens until `is_enough`.
    async fn until(&mut self, what: &str, subscriber: &Subscriber, is_enough: impl Fn(&Heard) -> bool) {
        let end = clock::monotonic() + PATIENCE;
        while !is_enough(self) {
            assert!(clock::monotonic() < end, "within {PATIENCE:?}: {what}; got {:?}", self.0);
            for arrival in subscriber.take() {
                if let What::Message { topic, payload } = arrival.what {
                    let message = serde_json::from_slice(&payload).unwrap();
                    self.0.entry(topic).or_default().push(message);
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn of(&self, topic: &str) -> &[Value] {
        self.0.get(topic).map_or(&[], Vec::as_slice)
    }

    fn topics(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

/// Runs the program from its start to its end, with these keys of the uplink; what was heard.
async fn run(uplink: &str, what: &str, is_enough: impl Fn(&Heard) -> bool) -> Heard {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = broker.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(broker.serve());
    let subscriber = Subscriber::start(address);
    let mut is_subscribed = false;
    while !is_subscribed {
        is_subscribed = subscriber.take().iter().any(|arrival| matches!(arrival.what, What::Subscribed));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let plant = Plant::start(SIZE);
    let configuration = format!(
        "[gateway]\nname = \"n\"\nenterprise = \"e\"\nsite = \"s/1\"\nclock = \"system\"\nstate_dir = \"{}\"\n\
         [uplink.u]\nbroker = \"mqtt://{address}\"\npayload = \"json\"\n{uplink}\n{}",
        folder.path().join("state").display(),
        plant.configuration()
    );
    let mut program = Program::start(folder.path(), &configuration, &[]);
    let mut heard = Heard::default();
    heard.until(what, &subscriber, is_enough).await;
    program.signal("-TERM");
    let is_over =
        |heard: &Heard| heard.of("e/s/1/n/status").last().is_some_and(|last| last["online"] == false);
    heard.until("the last word", &subscriber, is_over).await;
    while program.ended().is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(program.ended(), Some(Some(0)));
    let session = |index: usize| heard.of("e/s/1/n/status")[index]["session"].as_u64();
    assert_eq!(session(heard.of("e/s/1/n/status").len() - 1), session(0));
    heard
}

/// The names of an object's fields.
fn fields(message: &Value) -> BTreeSet<&str> {
    message.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Readings of one tag, as the plant gives them: each larger than the one before.
#[track_caller]
fn check_readings<'a>(readings: impl IntoIterator<Item = &'a Value>) {
    let (mut last_value, mut last_time) = (0, String::new());
    for reading in readings {
        let fields = fields(reading);
        let now = BTreeSet::from(["quality", "timestamp", "value"]);
        assert!(fields == now, "{reading}");
        let (value, time) = (reading["value"].as_u64().unwrap(), reading["timestamp"].as_str().unwrap());
        assert!(
            value >= last_value && time >= last_time.as_str(),
            "{reading} after {last_value} at {last_time}"
        );
        assert_eq!(reading["quality"], "good");
        (last_value, last_time) = (value, time.to_owned());
    }
    assert!(last_value > 0);
}

#[tokio::test]
async fn each_reading_goes_to_the_topic_of_its_tag_and_the_end_is_told() {
    let heard = run("", "readings of all tags", |heard| {
        (0..2).all(|device| (0..3).all(|tag| heard.of(&format!("e/s/1/n/d{device}/t{tag}")).len() >= 5))
    })
    .await;
    let mut topics: Vec<String> = (0..2)
        .flat_map(|device| ["status", "t0", "t1", "t2"].map(|last| format!("e/s/1/n/d{device}/{last}")))
        .collect();
    topics.push("e/s/1/n/status".to_owned());
    assert_eq!(heard.topics(), topics);
    for topic in topics.iter().filter(|topic| !topic.ends_with("status")) {
        check_readings(heard.of(topic));
    }
    assert_eq!(heard.of("e/s/1/n/d0/status").last().unwrap()["online"], true);
}

#[tokio::test]
async fn readings_of_a_device_go_together_to_its_topic() {
    let heard = run("message = \"device\"", "readings of all devices", |heard| {
        (0..2).all(|device| heard.of(&format!("e/s/1/n/d{device}")).len() >= 5)
    })
    .await;
    assert_eq!(heard.topics().len(), 5, "{:?}", heard.topics());
    for device in ["d0", "d1"] {
        let messages = heard.of(&format!("e/s/1/n/{device}"));
        for tag in ["t0", "t1", "t2"] {
            check_readings(messages.iter().filter_map(|message| message["tags"].get(tag)));
        }
        assert!(messages.iter().all(|message| message["device"] == device));
        assert!(messages.iter().any(|message| fields(&message["tags"]).len() == 3), "one block, one message");
    }
}

#[test]
fn the_schema_knows_every_quality_and_no_other() {
    let text = std::fs::read_to_string(root().join("docs/json-schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&text).unwrap();
    let known: Vec<&str> = schema["$defs"]["quality"]["enum"]
        .as_array()
        .unwrap()
        .iter()
        .map(|quality| quality.as_str().unwrap())
        .collect();
    assert_eq!(known, Quality::ALL.map(Quality::id));
}
