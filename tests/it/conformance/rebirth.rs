//! Rebirth requests, single, in a burst, and what only looks like one.

use std::time::Duration;

use prost::Message as _;
use tidegate::sparkplug::proto::Payload;
use tidegate::sparkplug::proto::payload::{Metric, metric};

use super::broker::Broker;
use super::log::Message;
use super::rules;
use super::scene::Scene;

pub(super) const NCMD: &str = "spBv1.0/e/NCMD/n";
const REBIRTH: &str = "Node Control/Rebirth";

/// A request for births, as a host sends it.
pub(super) fn rebirth() -> Vec<u8> {
    command(REBIRTH, 11, Some(metric::Value::BooleanValue(true)))
}

fn command(name: &str, datatype: u32, value: Option<metric::Value>) -> Vec<u8> {
    let at = tidegate::clock::wall().millis();
    let metric = Metric {
        name: Some(name.into()),
        timestamp: Some(at),
        datatype: Some(datatype),
        is_null: value.is_none().then_some(true),
        value,
        ..Metric::default()
    };
    Payload { timestamp: Some(at), metrics: vec![metric], ..Payload::default() }.encode_to_vec()
}

fn births(messages: &[Message]) -> usize {
    messages.iter().filter(|message| message.verb == "NBIRTH").count()
}

/// tck-id-operational-behavior-data-commands-rebirth-action-1,
/// tck-id-operational-behavior-data-commands-rebirth-action-2,
/// tck-id-operational-behavior-data-commands-rebirth-action-3
#[tokio::test]
async fn a_rebirth_stops_data_and_bears_node_and_devices_again_with_the_same_bd_seq() {
    let mut scene = Scene::start("").await;
    scene.both_are_born().await;
    let broker = &scene.broker;
    for qos in [0, 1] {
        let mark = broker.hears(broker.mark(), "DDATA", Some("press")).await;
        broker.say(NCMD, &rebirth(), qos);
        let born = broker.hears(mark, "NBIRTH", None).await;
        broker.hears(born, "DDATA", Some("oven")).await;
        let messages = broker.log().since(born - 1);
        let first: Vec<_> = messages.iter().take(3).map(|m| (m.verb.as_str(), m.device.as_deref())).collect();
        assert_eq!(first, [("NBIRTH", None), ("DBIRTH", Some("press")), ("DBIRTH", Some("oven"))]);
        assert_eq!(messages[0].bd_seq(), 0, "that of the present CONNECT");
        assert_eq!(births(&messages), 1);
    }
    scene.stop().await;
    let log = scene.broker.log();
    rules::all(&log);
    assert_eq!(log.sessions().len(), 1, "no new connection");
    assert_eq!(
        log.messages().iter().filter(|message| message.verb == "NDEATH").count(),
        1,
        "at the end only"
    );
}

/// tck-id-operational-behavior-data-publish-nbirth-values, tck-id-operational-behavior-data-publish-dbirth-values
#[tokio::test]
async fn a_birth_has_the_newest_value_of_every_metric() {
    let mut scene = Scene::start("").await;
    scene.broker.hears(0, "DBIRTH", Some("press")).await;
    for _ in 0..3 {
        let mark = scene.broker.hears(scene.broker.mark(), "DDATA", Some("press")).await;
        scene.broker.say(NCMD, &rebirth(), 0);
        scene.broker.hears(mark, "DBIRTH", Some("press")).await;
    }
    scene.stop().await;
    let log = scene.broker.log();
    rules::all(&log);
    let mut last = std::collections::BTreeMap::new();
    let mut checked = 0;
    for message in log.messages().iter().filter(|message| message.device.as_deref() == Some("press")) {
        for metric in message.payload.metrics.iter().filter(|metric| metric.is_historical.is_none()) {
            let name = metric.name.clone().unwrap();
            let now = (metric.timestamp.unwrap(), metric.value.clone());
            if let Some((at, value)) = last.insert(name.clone(), now.clone()) {
                assert!(now.0 >= at, "{name} of {} is older than what was told", message.name());
                assert!(now.0 > at || now.1 == value, "{name} of {} is another value", message.name());
                checked += usize::from(message.is_birth());
            }
        }
    }
    assert!(checked >= 24, "{checked} values in later births");
}

#[tokio::test]
async fn a_burst_of_requests_is_answered_with_few_births_and_the_last_one_is_not_forgotten() {
    let mut scene = Scene::start("").await;
    let born = scene.broker.hears(0, "DBIRTH", Some("press")).await;
    for _ in 0..50 {
        scene.broker.say(NCMD, &rebirth(), 0);
    }
    scene.broker.hears(born, "NBIRTH", None).await;
    // a moment after an answer, when it is too soon for another
    let mark = scene.broker.hears(scene.broker.mark(), "DDATA", Some("press")).await;
    scene.broker.say(NCMD, &rebirth(), 0);
    scene.broker.hears(mark, "NBIRTH", None).await;
    scene.stop().await;
    let log = scene.broker.log();
    rules::all(&log);
    let count = births(&log.since(born));
    assert!((2..=3).contains(&count), "{count} births for 51 requests");
}

#[tokio::test]
async fn what_is_no_request_is_passed_over_and_the_gateway_lives() {
    let mut scene = Scene::start("").await;
    let mark = scene.broker.hears(0, "DBIRTH", Some("press")).await;
    let value = metric::Value::BooleanValue(true);
    let others = [
        command(REBIRTH, 11, Some(metric::Value::BooleanValue(false))),
        command(REBIRTH, 11, None),
        command(REBIRTH, 3, Some(metric::Value::IntValue(1))),
        command(REBIRTH, 12, Some(metric::Value::StringValue("true".into()))),
        command("Node Control/rebirth", 11, Some(value.clone())),
        command("Node Control/Nothing", 11, Some(value)),
        Vec::new(),
        vec![0xFF; 1000],
        vec![0x12, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F],
        b"{\"rebirth\": true}".to_vec(),
        rebirth()[..20].to_vec(),
    ];
    for other in &others {
        scene.broker.say(NCMD, other, 0);
        scene.broker.say("spBv1.0/e/DCMD/n/press", other, 1);
        scene.broker.say("spBv1.0/e/DCMD/n/no-such-device", other, 0);
    }
    scene.broker.say("spBv1.0/e/DCMD/n/press", &rebirth(), 0);
    // commands are obeyed in order: when data has come after this one, all have been read
    tokio::time::sleep(Duration::from_millis(1500)).await;
    scene.broker.hears(scene.broker.mark(), "DDATA", Some("press")).await;
    scene.gateway.assert_runs();
    assert_eq!(births(&scene.broker.log().since(mark)), 0, "{}", scene.broker.log().tail());
    scene.broker.say(NCMD, &rebirth(), 0);
    scene.broker.hears(mark, "NBIRTH", None).await;
    scene.stop().await;
    rules::all(&scene.broker.log());
}

#[tokio::test]
async fn a_request_that_the_broker_has_kept_is_not_obeyed() {
    let broker = Broker::start().await;
    broker.keep(NCMD, &rebirth());
    let uplink = format!("broker = \"mqtt://{}\"", broker.address);
    let mut scene = Scene::with(broker, &uplink, |_| {}).await;
    scene.broker.hears(0, "DBIRTH", Some("press")).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(births(&scene.broker.log().messages()), 1);
    scene.stop().await;
    rules::all(&scene.broker.log());
}
