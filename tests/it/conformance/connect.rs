//! CONNECT, the will, bdSeq, subscriptions, and the ends of connections.

use std::time::Duration;

use super::broker::{Broker, Hold};
use super::log::What;
use super::rules;
use super::scene::Scene;

/// Long enough for anything that must not come.
const NOTHING: Duration = Duration::from_millis(700);

/// tck-id-principles-persistence-clean-session-311, tck-id-message-flow-edge-node-birth-publish-will-message,
/// tck-id-message-flow-edge-node-birth-publish-will-message-topic,
/// tck-id-message-flow-edge-node-birth-publish-will-message-payload,
/// tck-id-message-flow-edge-node-birth-publish-will-message-qos,
/// tck-id-message-flow-edge-node-birth-publish-will-message-will-retained, tck-id-payloads-ndeath-will-message,
/// tck-id-payloads-ndeath-will-message-qos, tck-id-payloads-ndeath-will-message-retain,
/// tck-id-payloads-ndeath-bdseq, tck-id-topics-ndeath-payload, tck-id-topics-ndeath-seq, tck-id-payloads-ndeath-seq
#[tokio::test]
async fn the_will_of_every_clean_connection_is_the_death_of_its_session() {
    let mut scene = Scene::start("").await;
    let mark = scene.broker.hears(0, "DBIRTH", Some("press")).await;
    scene.broker.cut();
    scene.broker.hears(mark, "DBIRTH", Some("press")).await;
    scene.stop().await;
    let log = scene.broker.log();
    rules::all(&log);
    let sessions = log.sessions();
    assert_eq!(sessions.len(), 2);
    for session in sessions {
        assert_eq!((session.connect.level, session.connect.is_clean), (4, true), "{:?}", session.connect);
        assert!(session.connect.keep_alive > 0);
        let will = session.connect.will.unwrap();
        assert_eq!((will.topic.as_str(), will.qos, will.is_retained), ("spBv1.0/e/NDEATH/n", 1, false));
        assert_eq!(rules::certificate(&will.payload), session.messages[0].bd_seq());
    }
}

/// tck-id-topics-nbirth-bdseq-increment
#[tokio::test]
async fn bd_seq_starts_at_0_and_goes_up_with_every_connect_over_refusals_cuts_and_restarts() {
    let mut scene = Scene::start("").await;
    let mark = scene.broker.hears(0, "DBIRTH", Some("press")).await;
    scene.broker.hold(Hold::Connections, true);
    scene.broker.cut();
    let mut at = mark;
    for _ in 0..2 {
        at = scene.broker.wait(at, "a CONNECT", |entry| entry.connect().is_some()).await;
    }
    scene.gateway.kill();
    scene.broker.hold(Hold::Connections, false);
    scene.gateway.start_again();
    scene.broker.hears(at, "NBIRTH", None).await;
    scene.stop().await;
    let log = scene.broker.log();
    rules::all(&log);
    let sessions = log.sessions();
    let all: Vec<_> = sessions
        .iter()
        .map(|session| rules::certificate(&session.connect.will.clone().unwrap().payload))
        .collect();
    assert!(all.len() >= 4, "{all:?}");
    let expected: Vec<u64> = (0..).take(all.len()).collect();
    assert_eq!(all, expected);
}

/// tck-id-message-flow-edge-node-birth-publish-will-message-payload-bdSeq
#[tokio::test]
async fn bd_seq_goes_on_with_0_after_255() {
    let last = |state: &std::path::Path| {
        std::fs::create_dir(state.join("session")).unwrap();
        std::fs::write(state.join("session/u"), "254\n").unwrap();
    };
    let mut scene = Scene::begin("", last).await;
    let mark = scene.broker.hears(0, "NBIRTH", None).await;
    scene.broker.cut();
    scene.broker.hears(mark, "NBIRTH", None).await;
    scene.stop().await;
    let log = scene.broker.log();
    rules::all(&log);
    let births = log.messages().into_iter().filter(|message| message.verb == "NBIRTH");
    let all: Vec<u64> = births.map(|birth| birth.bd_seq()).collect();
    assert_eq!(all, [255, 0]);
}

/// tck-id-message-flow-edge-node-birth-publish-connect, tck-id-message-flow-edge-node-ncmd-subscribe,
/// tck-id-message-flow-device-dcmd-subscribe
#[tokio::test]
async fn nothing_is_said_before_the_connection_is_taken_and_commands_are_subscribed() {
    let broker = Broker::start().await;
    broker.hold(Hold::Connack, true);
    broker.hold(Hold::Suback, true);
    let uplink = format!("broker = \"mqtt://{}\"", broker.address);
    let mut scene = Scene::with(broker, &uplink, |_| {}).await;
    let broker = &scene.broker;
    let mark = broker.wait(0, "a CONNECT", |entry| entry.connect().is_some()).await;
    tokio::time::sleep(NOTHING).await;
    assert_eq!(broker.mark(), mark, "{}", broker.log().tail());
    broker.hold(Hold::Connack, false);
    let mark = broker.wait(mark, "CONNACK", |entry| matches!(entry.what, What::Taken)).await;
    tokio::time::sleep(NOTHING).await;
    assert!(broker.log().0[mark..].iter().all(|entry| entry.publish().is_none()), "{}", broker.log().tail());
    broker.hold(Hold::Suback, false);
    broker.hears(mark, "DBIRTH", Some("press")).await;
    scene.stop().await;
    let log = scene.broker.log();
    rules::all(&log);
    let filters = rules::subscribed_first(&log.sessions()[0]);
    for filter in ["spBv1.0/e/NCMD/n", "spBv1.0/e/DCMD/n/+"] {
        assert!(filters.contains(&(filter.to_owned(), 1)), "{filter} in {filters:?}");
    }
}

/// tck-id-operational-behavior-edge-node-intentional-disconnect-ndeath,
/// tck-id-operational-behavior-edge-node-intentional-disconnect-packet,
/// tck-id-payloads-ndeath-will-message-publisher, tck-id-payloads-ndeath-will-message-publisher-disconnect-mqtt311,
/// tck-id-topics-ndeath-topic
#[tokio::test]
async fn an_intended_end_says_the_death_of_its_session_and_then_disconnects() {
    let mut scene = Scene::start("").await;
    scene.broker.hears(0, "DDATA", Some("press")).await;
    scene.stop().await;
    let log = scene.broker.log();
    rules::all(&log);
    let session = log.sessions().pop().unwrap();
    let death = session.messages.last().unwrap();
    assert!(death.is("NDEATH", None), "the last message is {}", death.name());
    assert_eq!((death.bd_seq(), death.publish.qos), (session.messages[0].bd_seq(), 1));
    assert_eq!(session.disconnect, Some(0), "DISCONNECT");
    let said = |fits: &dyn Fn(&super::log::Entry) -> bool| session.entries.iter().rposition(fits).unwrap();
    let farewell = said(&|entry| matches!(entry.what, What::Said(super::wire::Said::Disconnect { .. })));
    assert!(said(&|entry| entry.publish().is_some()) < farewell, "{}", log.tail());
}

/// tck-id-operational-behavior-primary-application-state-with-multiple-servers-single-server
#[tokio::test]
async fn of_several_servers_one_is_connected_at_a_time() {
    let (first, second) = (Broker::start().await, Broker::start().await);
    let uplink = format!("broker = [\"mqtt://{}\", \"mqtt://{}\"]", first.address, second.address);
    let mut scene = Scene::with(first, &uplink, |_| {}).await;
    let mut mark = scene.broker.hears(0, "DBIRTH", Some("press")).await;
    let mut other = 0;
    for _ in 0..2 {
        assert_eq!(second.mark(), other, "{}", second.log().tail());
        scene.broker.cut();
        other = second.hears(other, "DBIRTH", Some("press")).await;
        // the end of the first is before the beginning of the second
        mark = scene.broker.wait(mark, "the end", |entry| matches!(entry.what, What::Ended)).await;
        assert_eq!(scene.broker.mark(), mark, "{}", scene.broker.log().tail());
        second.cut();
        mark = scene.broker.hears(mark, "DBIRTH", Some("press")).await;
        other = second.wait(other, "the end", |entry| matches!(entry.what, What::Ended)).await;
    }
    scene.stop().await;
    let mut all: Vec<_> = [scene.broker.log().0, second.log().0].concat();
    all.sort_by_key(|entry| entry.at_ms);
    let connects = all.iter().filter_map(|entry| entry.connect());
    let numbers: Vec<u64> =
        connects.map(|connect| rules::certificate(&connect.will.clone().unwrap().payload)).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4], "bdSeq is the node's, over all servers");
    for log in [scene.broker.log(), second.log()] {
        rules::births_first(&log);
        rules::sequence(&log);
    }
}

/// tck-id-intro-edge-node-id-uniqueness, tck-id-topic-structure-namespace-unique-edge-node-descriptor,
/// tck-id-payloads-nbirth-edge-node-descriptor
#[tokio::test]
async fn the_client_id_is_the_edge_node_so_that_two_of_a_name_cannot_stay_unseen() {
    let mut scene = Scene::start("").await;
    scene.broker.hears(0, "NBIRTH", None).await;
    scene.stop().await;
    // a broker keeps one connection a client id (MQTT-3.1.4-2): each of two gateways ends the other's, and says so
    assert_eq!(scene.broker.log().sessions()[0].connect.client_id, "e/n");
}
