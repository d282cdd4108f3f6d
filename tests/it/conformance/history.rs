//! What was read while the broker was away.

use std::collections::BTreeMap;
use std::time::Duration;

use super::broker::Hold;
use super::log::{Entry, quality};
use super::rules;
use super::scene::Scene;

/// How long the broker refuses connections.
const OUTAGE: Duration = Duration::from_millis(1500);

#[tokio::test]
async fn history_follows_the_births_in_order_marked_with_its_own_time_within_the_sequence() {
    let mut scene = Scene::start("").await;
    let mark = scene.broker.hears(0, "DDATA", Some("press")).await;
    scene.broker.hold(Hold::Connections, true);
    scene.broker.cut();
    tokio::time::sleep(OUTAGE).await;
    scene.broker.hold(Hold::Connections, false);
    let born = scene.broker.hears(mark, "DBIRTH", Some("press")).await;
    let is_history = |entry: &Entry| {
        entry.message().is_some_and(|message| {
            message.payload.metrics.iter().any(|metric| metric.is_historical == Some(true))
        })
    };
    scene.broker.wait(born, "history", is_history).await;
    for _ in 0..3 {
        scene.broker.hears(scene.broker.mark(), "DDATA", Some("press")).await;
    }
    scene.stop().await;
    let log = scene.broker.log();
    rules::all(&log);
    let born_ms = log.0[born - 1].at_ms;
    let mut last = BTreeMap::new();
    let mut count = 0;
    for message in log.since(born) {
        for metric in message.payload.metrics.iter().filter(|metric| metric.is_historical == Some(true)) {
            assert_eq!(message.verb, "DDATA");
            let (name, at) = (metric.name.clone().unwrap(), metric.timestamp.unwrap());
            assert!(at < born_ms, "{name}: history of now");
            let before = last.insert(name.clone(), at);
            assert!(before.is_none_or(|before| before < at), "{name}: {before:?} before {at}");
            count += 1;
        }
    }
    assert!(count >= 10, "{count} readings of an outage of {OUTAGE:?} at ten a second");
}

#[tokio::test]
async fn a_device_that_is_gone_is_born_with_its_bad_qualities_for_its_history_and_dies_again() {
    let mut scene = Scene::start("").await;
    let mark = scene.broker.hears(0, "DDATA", Some("press")).await;
    scene.broker.hold(Hold::Connections, true);
    scene.broker.cut();
    tokio::time::sleep(OUTAGE).await;
    scene.press.hang_up().await;
    tokio::time::sleep(OUTAGE * 2).await;
    scene.broker.hold(Hold::Connections, false);
    let born = scene.broker.hears(mark, "DBIRTH", Some("press")).await;
    scene.broker.hears(born, "DDEATH", Some("press")).await;
    scene.stop().await;
    let log = scene.broker.log();
    rules::all(&log);
    let messages = log.since(born - 1);
    let of_press: Vec<_> =
        messages.iter().filter(|message| message.device.as_deref() == Some("press")).collect();
    for (name, _) in super::scene::PRESS {
        let metric = of_press[0].metric(name);
        assert_eq!(
            (metric.value.clone(), metric.is_null, quality(metric)),
            (None, Some(true), Some(0)),
            "{name}"
        );
    }
    let (last, history) = of_press[1..].split_last().unwrap();
    assert_eq!(last.verb, "DDEATH");
    assert!(!history.is_empty());
    for metric in history.iter().flat_map(|message| &message.payload.metrics) {
        assert_eq!(metric.is_historical, Some(true), "{metric:?}");
    }
}
