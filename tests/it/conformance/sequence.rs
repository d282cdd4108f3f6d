//! The sequence over its end.

use std::time::Duration;

use super::rules;
use super::scene::Scene;

/// tck-id-topics-nbirth-seq-num, tck-id-topics-dbirth-seq, tck-id-topics-ddata-seq-num,
/// tck-id-payloads-sequence-num-always-included, tck-id-payloads-sequence-num-req-nbirth,
/// tck-id-payloads-sequence-num-incrementing, tck-id-message-flow-edge-node-birth-publish-nbirth-payload-seq,
/// tck-id-message-flow-device-birth-publish-dbirth-payload-seq, tck-id-payloads-nbirth-seq,
/// tck-id-payloads-dbirth-seq, tck-id-payloads-dbirth-seq-inc, tck-id-payloads-ddata-seq,
/// tck-id-payloads-ddata-seq-inc
#[tokio::test]
async fn sequence_numbers_start_at_0_go_up_by_one_and_go_on_with_0_after_255() {
    let mut scene = Scene::start("").await;
    scene.both_are_born().await;
    let is_last =
        |entry: &super::log::Entry| entry.message().is_some_and(|message| message.payload.seq == Some(255));
    let patience = Duration::from_secs(28);
    let mark = tokio::time::timeout(patience, scene.broker.wait(0, "seq 255", is_last)).await.unwrap();
    let mark = scene.broker.hears(mark, "DDATA", Some("press")).await;
    scene.broker.hears(mark, "DDATA", Some("oven")).await;
    scene.stop().await;
    let log = scene.broker.log();
    rules::all(&log);
    let messages = log.messages();
    let wrap = messages.iter().position(|message| message.payload.seq == Some(255)).unwrap();
    assert_eq!(messages[0].payload.seq, Some(0), "{}", messages[0].name());
    assert_eq!(messages[wrap + 1].payload.seq, Some(0), "{}", messages[wrap + 1].name());
    assert!(messages[wrap + 1].is_data());
}
