//! What changes about the node itself.

use std::time::Duration;

use tidegate::sparkplug::proto::payload::metric;

use super::broker::Hold;
use super::rules;
use super::scene::Scene;

/// tck-id-topics-nbirth-metric-reqs, tck-id-operational-behavior-data-publish-nbirth, tck-id-topics-ndata-topic,
/// tck-id-topics-ndata-mqtt, tck-id-topics-ndata-seq-num, tck-id-topics-ndata-timestamp,
/// tck-id-topics-ndata-payload, tck-id-payloads-ndata-timestamp, tck-id-payloads-ndata-seq,
/// tck-id-payloads-ndata-seq-inc, tck-id-payloads-ndata-order, tck-id-payloads-ndata-qos,
/// tck-id-payloads-ndata-retain
#[tokio::test]
async fn what_changes_about_the_node_is_data_of_the_node_with_metrics_of_its_birth() {
    let more = "keep_alive = \"5s\"\n[queue]\nflush = \"1s\"";
    let mut scene = Scene::start(more).await;
    scene.broker.hears(0, "DBIRTH", Some("press")).await;
    // nothing is confirmed and the disk takes nothing: the store says so
    scene.broker.hold(Hold::Puback, true);
    let queue = scene.folder.path().join("state/queue");
    std::fs::remove_dir_all(&queue).ok(); // it may not be there yet
    std::fs::write(&queue, "").unwrap();
    let mark = scene.broker.hears(scene.broker.mark(), "NDATA", None).await;
    let data = scene.broker.log().since(mark - 1).remove(0);
    let said = data.payload.metrics.iter().find(|metric| metric.name.as_deref() == Some("Gateway/store"));
    let Some(metric::Value::StringValue(text)) = said.unwrap().value.clone() else { panic!("{said:?}") };
    assert_ne!(text, "ok");
    std::fs::remove_file(&queue).unwrap();
    std::fs::create_dir(&queue).unwrap();
    scene.broker.hold(Hold::Puback, false);
    tokio::time::sleep(Duration::from_millis(100)).await;
    scene.gateway.kill();
    let log = scene.broker.log();
    for message in log.messages().iter().filter(|message| message.verb == "NDATA") {
        assert_eq!((message.publish.qos, message.publish.is_retained), (0, false));
        assert_eq!(message.publish.topic, "spBv1.0/e/NDATA/n");
        assert!(message.payload.seq.is_some() && message.payload.timestamp.is_some());
    }
    rules::topics(&log);
    rules::delivery(&log);
    rules::sequence(&log);
    rules::times(&log);
    rules::data(&log);
}
