//! The primary host: births wait for it, and the session ends with it.

use std::time::Duration;

use super::broker::Broker;
use super::log::{Log, What};
use super::rules;
use super::scene::Scene;

const STATE: &str = "spBv1.0/STATE/cluster";
/// Long enough for a birth that must not come.
const NOTHING: Duration = Duration::from_millis(1200);
/// A host that goes away is noticed within this.
const NOTICED_MS: u64 = 2_000;

fn state(is_online: bool, timestamp: u64) -> Vec<u8> {
    format!("{{\"online\":{is_online},\"timestamp\":{timestamp}}}").into_bytes()
}

fn rules_of_a_server(log: &Log) {
    rules::topics(log);
    rules::delivery(log);
    rules::sequence(log);
    rules::deaths(log);
    rules::births_first(log);
    rules::births(log);
    rules::data(log);
}

/// tck-id-message-flow-edge-node-birth-publish-phid-wait, tck-id-message-flow-edge-node-birth-publish-phid-wait-id,
/// tck-id-message-flow-edge-node-birth-publish-phid-wait-online,
/// tck-id-message-flow-edge-node-birth-publish-phid-wait-timestamp,
/// tck-id-operational-behavior-edge-node-birth-sequence-wait
#[tokio::test]
async fn births_wait_until_that_host_says_online_and_not_earlier_than_what_it_said_last() {
    let mut scene = Scene::start("primary_host = \"cluster\"").await;
    let broker = &scene.broker;
    let mark = broker.wait(0, "SUBACK", |entry| matches!(entry.what, What::Granted)).await;
    broker.push("spBv1.0/STATE/other", &state(true, 2000));
    for no_state in ["ONLINE", "{\"online\":true}", "{\"online\":\"true\",\"timestamp\":2000}", ""] {
        broker.say(STATE, no_state.as_bytes(), 1);
    }
    tokio::time::sleep(NOTHING).await;
    assert!(broker.log().0.iter().all(|entry| entry.publish().is_none()), "{}", broker.log().tail());
    broker.say(STATE, &state(false, 1000), 1);
    broker.say(STATE, &state(true, 999), 1);
    tokio::time::sleep(NOTHING).await;
    assert!(broker.log().0.iter().all(|entry| entry.publish().is_none()), "{}", broker.log().tail());
    broker.say(STATE, &state(true, 1000), 1);
    broker.hears(mark, "DBIRTH", Some("press")).await;
    broker.hears(mark, "DDATA", Some("press")).await;
    scene.stop().await;
    let log = scene.broker.log();
    rules::all(&log);
    let filters = rules::subscribed_first(&log.sessions()[0]);
    assert!(filters.contains(&(STATE.to_owned(), 1)), "{filters:?}");
    assert!(filters.iter().all(|(filter, _)| !filter.contains("STATE") || filter == STATE), "{filters:?}");
}

/// tck-id-message-flow-edge-node-birth-publish-phid-offline,
/// tck-id-operational-behavior-edge-node-termination-host-offline,
/// tck-id-operational-behavior-edge-node-termination-host-offline-reconnect,
/// tck-id-operational-behavior-edge-node-termination-host-offline-timestamp,
/// tck-id-operational-behavior-primary-application-state-with-multiple-servers-walk,
/// tck-id-operational-behavior-primary-application-state-with-multiple-servers-state-subs
#[tokio::test]
async fn when_the_host_is_offline_the_node_says_its_death_and_starts_anew_at_the_next_server() {
    let (first, second) = (Broker::start().await, Broker::start().await);
    first.keep(STATE, &state(true, 1000));
    second.keep(STATE, &state(true, 5000));
    let brokers = format!("\"mqtt://{}\", \"mqtt://{}\"", first.address, second.address);
    let uplink = format!("broker = [{brokers}]\nprimary_host = \"cluster\"");
    let mut scene = Scene::with(first, &uplink, |_| {}).await;
    let mark = scene.broker.hears(0, "DDATA", Some("press")).await;
    assert_eq!(second.mark(), 0, "one server at a time");
    scene.broker.keep(STATE, &state(false, 1000));
    let ended = scene.broker.wait(mark, "the end", |entry| matches!(entry.what, What::Ended)).await;
    let said = scene.broker.log();
    let death = said.since(mark).pop().unwrap();
    assert!(death.is("NDEATH", None), "the last message is {}", death.name());
    assert!(death.at_ms - said.0[mark].at_ms < NOTICED_MS, "{}", said.tail());
    assert_eq!(said.sessions()[0].disconnect, Some(0));
    let mark = second.hears(0, "DDATA", Some("press")).await;
    assert_eq!(scene.broker.mark(), ended, "nothing is said to the first server meanwhile");
    // its state there is a later one
    second.say(STATE, &state(false, 4999), 1);
    tokio::time::sleep(NOTHING).await;
    assert!(!second.log().0[mark..].iter().any(|entry| matches!(entry.what, What::Ended)));
    second.keep(STATE, &state(false, 5001));
    scene.broker.keep(STATE, &state(true, 1001));
    let mark = second.wait(mark, "the end", |entry| matches!(entry.what, What::Ended)).await;
    assert!(second.log().messages().pop().unwrap().is("NDEATH", None), "{}", second.log().tail());
    scene.broker.hears(ended, "DBIRTH", Some("press")).await;
    assert!(second.log().since(mark).is_empty(), "{}", second.log().tail());
    scene.stop().await;
    let (at_first, at_second) = (scene.broker.log(), second.log());
    for log in [&at_first, &at_second] {
        rules_of_a_server(log);
        for session in log.sessions() {
            assert!(rules::subscribed(&session).contains(&(STATE.to_owned(), 1)), "STATE at every server");
        }
    }
    let bd_seqs = [&at_first.sessions()[0], &at_second.sessions()[0]];
    let bd_seqs = bd_seqs.map(|session| rules::certificate(&session.connect.will.clone().unwrap().payload));
    assert_eq!(bd_seqs, [0, 1], "bdSeq is the node's");
}

#[tokio::test]
async fn at_a_single_server_the_node_waits_there_for_its_host_and_keeps_what_it_reads() {
    let mut scene = Scene::start("primary_host = \"cluster\"").await;
    scene.broker.keep(STATE, &state(true, 1));
    let mark = scene.broker.hears(0, "DDATA", Some("press")).await;
    scene.broker.keep(STATE, &state(false, 2));
    let mark = scene.broker.wait(mark, "the end", |entry| matches!(entry.what, What::Ended)).await;
    let mark = scene.broker.wait(mark, "SUBACK", |entry| matches!(entry.what, What::Granted)).await;
    tokio::time::sleep(NOTHING).await;
    assert!(scene.broker.log().since(mark).is_empty(), "{}", scene.broker.log().tail());
    scene.broker.keep(STATE, &state(true, 3));
    let mark = scene.broker.hears(mark, "DBIRTH", Some("press")).await;
    let is_history = |entry: &super::log::Entry| {
        entry.message().is_some_and(|message| {
            message.payload.metrics.iter().any(|metric| metric.is_historical == Some(true))
        })
    };
    scene.broker.wait(mark, "history", is_history).await;
    scene.stop().await;
    rules::all(&scene.broker.log());
}
