//! What leaves by which uplink, when: sharing classes, the primary host, what the gateway says of itself, budgets.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use prost::Message as _;
use tidegate::sparkplug::proto::Payload;
use tidegate::sparkplug::proto::payload::metric;
use tokio::task::JoinSet;

use crate::gateway::{Consumer, Gateway, free_address, metric, publish, serve_broker, serve_floor};

const PATIENCE: Duration = Duration::from_secs(30);

/// The press of the demo, with a tag of each class.
fn press(plc: SocketAddr) -> String {
    format!(
        r#"
        [link.plc]
        tcp = "{plc}"
        [device.press]
        link = "plc"
        every = "100ms"
        report = "always"
        tags = [
            {{ name = "model", at = "hr:40", type = "string", length = 8, share = "cluster" }},
            {{ name = "job", at = "hr:50", type = "string", length = 5 }},
            {{ name = "secret", at = "hr:51", share = "private" }},
        ]
        [device.press2]
        link = "plc"
        tags = [{{ name = "job", at = "hr:50", type = "string", length = 5 }}]
        "#
    )
}

fn uplink(name: &str, brokers: &[SocketAddr], more: &str) -> String {
    let brokers: Vec<String> = brokers.iter().map(|broker| format!("\"mqtt://{broker}\"")).collect();
    let brokers = brokers.join(", ");
    format!("[uplink.{name}]\nbroker = [{brokers}]\nbirth_jitter = \"0s\"\nreconnect_max = \"1s\"\n{more}\n")
}

/// Two brokers, of which nobody knows anything yet, and a consumer at each.
async fn two_brokers(tasks: &mut JoinSet<()>) -> ([SocketAddr; 2], [Consumer; 2]) {
    let addresses = [free_address().await, free_address().await];
    for address in addresses {
        serve_broker(address, tasks).await;
    }
    let consumers = [Consumer::subscribe(addresses[0]).await, Consumer::subscribe(addresses[1]).await];
    (addresses, consumers)
}

fn names(messages: &[(String, Payload)]) -> BTreeSet<String> {
    let named = messages.iter().filter(|(topic, _)| topic.starts_with('D'));
    named.flat_map(|(_, payload)| &payload.metrics).filter_map(|metric| metric.name.clone()).collect()
}

#[tokio::test]
async fn each_broker_gets_what_its_classes_allow_and_private_tags_reach_none() {
    let folder = tempfile::tempdir().unwrap();
    let mut tasks = JoinSet::new();
    let plc = free_address().await;
    serve_floor(plc, &mut tasks).await;
    let ([firm, cluster], [mut at_firm, mut at_cluster]) = two_brokers(&mut tasks).await;
    let uplinks = uplink("firm", &[firm], "") + &uplink("cluster", &[cluster], "share = [\"cluster\"]");
    let gateway = Gateway::start(folder.path(), &(uplinks + &press(plc)));
    let seen = |count: usize| {
        let data = std::cell::Cell::new(0);
        move |topic: &str, _: &Payload| {
            data.set(data.get() + usize::from(topic.starts_with("DDATA")));
            data.get() == count
        }
    };
    let mut of_firm = at_firm.take_until(PATIENCE, seen(40)).await;
    let mut of_cluster = at_cluster.take_until(PATIENCE, seen(20)).await;
    gateway.terminate();
    let is_death = |topic: &str, _: &Payload| topic == "NDEATH/n";
    of_firm.extend(at_firm.take_until(PATIENCE, is_death).await);
    of_cluster.extend(at_cluster.take_until(PATIENCE, is_death).await);
    assert_eq!(names(&of_firm), BTreeSet::from(["job".to_owned(), "model".to_owned()]));
    assert_eq!(names(&of_cluster), BTreeSet::from(["model".to_owned()]));
    let says = |messages: &[(String, Payload)], word: &str| {
        messages.iter().any(|(topic, payload)| {
            let bytes = payload.encode_to_vec();
            topic.contains(word) || bytes.windows(word.len()).any(|window| window == word.as_bytes())
        })
    };
    assert!(!says(&of_firm, "secret") && !says(&of_cluster, "secret"));
    assert!(says(&of_firm, "press2") && !says(&of_cluster, "press2"), "a device of which nothing may leave");
}

#[tokio::test]
async fn births_wait_for_the_primary_host_and_follow_it_from_server_to_server() {
    let folder = tempfile::tempdir().unwrap();
    let mut tasks = JoinSet::new();
    let plc = free_address().await;
    serve_floor(plc, &mut tasks).await;
    let ([first, second], [mut at_first, mut at_second]) = two_brokers(&mut tasks).await;
    let topic = "spBv1.0/STATE/cluster";
    let state = |online: bool, timestamp: u64| format!("{{\"online\":{online},\"timestamp\":{timestamp}}}");
    publish(first, topic, state(false, 50).as_bytes(), true).await;
    publish(second, topic, state(true, 7).as_bytes(), true).await;
    let uplink = uplink("u", &[first, second], "primary_host = \"cluster\"\nkeep_alive = \"5s\"");
    let mut gateway = Gateway::start(folder.path(), &(uplink + &press(plc)));
    // the host is offline at the first server: the node goes on to the second
    at_second.wait_for("NBIRTH/n", |_| true).await;
    at_second.wait_for("DDATA/n/press", |_| true).await;
    // an older word is none
    publish(second, topic, state(false, 6).as_bytes(), true).await;
    at_second.wait_for("DDATA/n/press", |_| true).await;
    publish(first, topic, state(true, 60).as_bytes(), true).await;
    publish(second, topic, state(false, 8).as_bytes(), true).await;
    let left = at_second.take_until(PATIENCE, |topic, _| topic == "NDEATH/n").await;
    let bd_seq = |payload: &Payload| match metric(payload, "bdSeq").unwrap().value {
        Some(metric::Value::LongValue(bd_seq)) => bd_seq,
        _ => panic!("no bdSeq"),
    };
    let was = bd_seq(&left.last().unwrap().1);
    let births = at_first.take_until(PATIENCE, |topic, _| topic.starts_with("DDATA")).await;
    assert_eq!(births[0].0, "NBIRTH/n", "nothing came before the host was there");
    assert!(bd_seq(&births[0].1) > was);
    gateway.terminate();
    assert_eq!(gateway.ended().await, Some(0));
}

#[tokio::test]
async fn the_node_tells_how_it_its_links_and_its_devices_are() {
    let folder = tempfile::tempdir().unwrap();
    let mut tasks = JoinSet::new();
    let (broker, plc) = (free_address().await, free_address().await);
    let mut floor = JoinSet::new();
    serve_floor(plc, &mut floor).await;
    serve_broker(broker, &mut tasks).await;
    let mut consumer = Consumer::subscribe(broker).await;
    let text = uplink("u", &[broker], "") + &press(plc) + "[status]\npublish = \"1s\"\n";
    let _gateway = Gateway::start(folder.path(), &text);
    let birth = consumer.wait_for("NBIRTH/n", |_| true).await;
    for name in [
        "Properties/config_hash",
        "Gateway/clock",
        "Gateway/memory_kib",
        "Gateway/cpu_percent",
        "Gateway/flash_written_kib",
        "Gateway/queue_age_s",
        "Gateway/transport",
        "Link/plc/utilisation_percent",
        "Device/press/completeness_percent",
    ] {
        assert!(metric(&birth, name).is_some_and(|metric| metric.value.is_some()), "{name}");
    }
    let completeness = |payload: &Payload| match metric(payload, "Device/press/completeness_percent")?.value {
        Some(metric::Value::DoubleValue(percent)) => Some(percent),
        _ => None,
    };
    floor.shutdown().await;
    consumer.wait_for("NDATA/n", |data| completeness(data).is_some_and(|percent| percent < 20.0)).await;
    serve_floor(plc, &mut tasks).await;
    let told =
        consumer.wait_for("NDATA/n", |data| completeness(data).is_some_and(|percent| percent > 70.0)).await;
    assert!(told.metrics.iter().all(|metric| metric.datatype.is_none() && metric.timestamp.is_some()));
}

#[tokio::test]
async fn an_uplink_that_is_beyond_its_budget_says_so_and_withholds_small_changes() {
    let folder = tempfile::tempdir().unwrap();
    let mut tasks = JoinSet::new();
    let (broker, plc) = (free_address().await, free_address().await);
    serve_floor(plc, &mut tasks).await;
    serve_broker(broker, &mut tasks).await;
    let mut consumer = Consumer::subscribe(broker).await;
    let numbers = format!(
        "[link.plc]\ntcp = \"{plc}\"\n[device.press]\nlink = \"plc\"\nevery = \"100ms\"\nreport = \"always\"\ntags = [{{ name = \"n\", at = \"hr:50\" }}]\n"
    );
    let text = uplink("u", &[broker], "budget = \"1KiB/day\"") + &numbers;
    let _gateway = Gateway::start(folder.path(), &text);
    let level = |payload: &Payload| match metric(payload, "Gateway/budget_level")?.value {
        Some(metric::Value::LongValue(level)) => Some(level),
        _ => None,
    };
    let patience = Duration::from_secs(130); // it looks once a minute
    consumer.take_until(patience, |topic, data| topic == "NDATA/n" && level(data) == Some(10)).await;
    // a number that does not change is not told again: nothing comes in the time of twenty polls
    let silence = tokio::time::timeout(
        Duration::from_secs(2),
        consumer.take_until(patience, |topic, _| topic.starts_with("DDATA")),
    );
    let told_once = silence.await.is_ok();
    let again = tokio::time::timeout(
        Duration::from_secs(2),
        consumer.take_until(patience, |topic, _| topic.starts_with("DDATA")),
    );
    assert!(again.await.is_err(), "still told after it was told once ({told_once})");
}
