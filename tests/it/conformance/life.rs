//! A whole life, and each rule over it: start, data, a device that comes late, one that is lost and back, a rebirth, a
//! connection that is cut, a broker that refuses, a kill, and a clean end.

use std::time::Duration;

use tokio::sync::OnceCell;

use super::broker::Hold;
use super::log::{Log, quality};
use super::rebirth::{NCMD, rebirth};
use super::rules;
use super::scene::{PRESS, Scene};

/// How long the broker refuses connections.
const OUTAGE: Duration = Duration::from_millis(2500);

/// The log of a life; tests of one process share it.
pub(super) async fn life() -> &'static Log {
    static LIFE: OnceCell<Log> = OnceCell::const_new();
    LIFE.get_or_init(live).await
}

async fn live() -> Log {
    let mut scene = Scene::start("").await;
    scene.both_are_born().await;
    let broker = &scene.broker;
    for device in ["press", "oven", "press"] {
        broker.hears(broker.mark(), "DDATA", Some(device)).await;
    }
    let mark = broker.mark();
    scene.press.hang_up().await;
    broker.hears(mark, "DDEATH", Some("press")).await;
    scene.press.serve().await;
    let mark = broker.hears(mark, "DBIRTH", Some("press")).await;
    broker.hears(mark, "DDATA", Some("press")).await;
    broker.say(NCMD, &rebirth(), 0);
    let mark = broker.hears(mark, "NBIRTH", None).await;
    broker.hears(mark, "DDATA", Some("press")).await;
    broker.cut();
    let mark = broker.hears(mark, "NBIRTH", None).await;
    broker.hears(mark, "DDATA", Some("oven")).await;
    broker.hold(Hold::Connections, true);
    broker.cut();
    tokio::time::sleep(OUTAGE).await;
    broker.hold(Hold::Connections, false);
    let is_history = |entry: &super::log::Entry| {
        entry.message().is_some_and(|message| {
            message.payload.metrics.iter().any(|metric| metric.is_historical == Some(true))
        })
    };
    let mark = broker.wait(mark, "history", is_history).await;
    scene.gateway.kill();
    scene.gateway.start_again();
    let mark = broker.hears(mark, "NBIRTH", None).await;
    broker.hears(mark, "DDATA", Some("press")).await;
    broker.hears(mark, "DDATA", Some("oven")).await;
    scene.stop().await;
    let log = scene.broker.log();
    rules::all(&log);
    log
}

/// tck-id-topic-structure, tck-id-topic-structure-namespace-a,
/// tck-id-topic-structure-namespace-device-id-associated-message-types,
/// tck-id-topic-structure-namespace-device-id-non-associated-message-types, tck-id-topics-nbirth-topic,
/// tck-id-topics-dbirth-topic, tck-id-topics-ddata-topic, tck-id-topics-ddeath-topic,
/// tck-id-message-flow-edge-node-birth-publish-nbirth-topic, tck-id-message-flow-device-birth-publish-dbirth-topic,
/// tck-id-message-flow-device-birth-publish-dbirth-match-edge-node-topic
#[tokio::test]
async fn every_topic_has_namespace_group_verb_node_and_device() {
    let log = life().await;
    rules::topics(log);
    for verb in ["NBIRTH", "NDEATH", "DBIRTH", "DDATA", "DDEATH"] {
        assert!(log.messages().iter().any(|message| message.verb == verb), "no {verb} was seen");
    }
}

/// tck-id-topics-nbirth-mqtt, tck-id-topics-dbirth-mqtt, tck-id-topics-ddata-mqtt, tck-id-topics-ddeath-mqtt,
/// tck-id-message-flow-edge-node-birth-publish-nbirth-qos,
/// tck-id-message-flow-edge-node-birth-publish-nbirth-retained,
/// tck-id-message-flow-device-birth-publish-dbirth-qos, tck-id-message-flow-device-birth-publish-dbirth-retained,
/// tck-id-payloads-nbirth-qos, tck-id-payloads-nbirth-retain, tck-id-payloads-dbirth-qos,
/// tck-id-payloads-dbirth-retain, tck-id-payloads-ddata-qos, tck-id-payloads-ddata-retain
#[tokio::test]
async fn births_data_and_deaths_of_devices_are_qos_0_and_nothing_is_retained() {
    let log = life().await;
    rules::delivery(log);
    assert!(log.messages().len() > 30);
}

/// tck-id-topics-nbirth-timestamp, tck-id-topics-dbirth-timestamp, tck-id-topics-ddata-timestamp,
/// tck-id-payloads-nbirth-timestamp, tck-id-payloads-dbirth-timestamp, tck-id-payloads-ddata-timestamp,
/// tck-id-payloads-ddeath-timestamp, tck-id-payloads-timestamp-in-UTC, tck-id-payloads-metric-timestamp-in-UTC,
/// tck-id-payloads-name-birth-data-requirement
#[tokio::test]
async fn payloads_have_the_time_of_sending_and_metrics_that_of_reading_in_utc() {
    let log = life().await;
    rules::times(log);
    let all = log.messages();
    assert!(all.iter().filter(|message| message.verb == "DDEATH").all(|m| m.payload.timestamp.is_some()));
}

/// tck-id-principles-birth-certificates-order, tck-id-message-flow-device-birth-publish-nbirth-wait,
/// tck-id-message-flow-device-birth-publish-dbirth-payload,
/// tck-id-message-flow-edge-node-birth-publish-nbirth-payload,
/// tck-id-message-flow-edge-node-birth-publish-nbirth-payload-bdSeq, tck-id-topics-nbirth-bdseq-included,
/// tck-id-topics-nbirth-bdseq-matching, tck-id-payloads-nbirth-bdseq, tck-id-payloads-nbirth-bdseq-repeat,
/// tck-id-payloads-dbirth-order, tck-id-payloads-ddata-order
#[tokio::test]
async fn births_come_first_and_those_of_all_living_devices_before_any_data() {
    let log = life().await;
    rules::births_first(log);
    let sessions = log.sessions();
    let born: Vec<_> = sessions.iter().filter(|session| !session.messages.is_empty()).collect();
    assert!(born.len() >= 4, "{} sessions with births", born.len());
    for session in born {
        assert!(session.messages[0].is("NBIRTH", None));
        assert_eq!(
            rules::certificate(&session.connect.will.clone().unwrap().payload),
            session.messages[0].bd_seq()
        );
    }
}

/// tck-id-topics-nbirth-metrics, tck-id-topics-dbirth-metric-reqs, tck-id-topics-dbirth-metrics,
/// tck-id-operational-behavior-data-publish-dbirth, tck-id-operational-behavior-data-commands-rebirth-name,
/// tck-id-operational-behavior-data-commands-rebirth-datatype,
/// tck-id-operational-behavior-data-commands-rebirth-value, tck-id-topics-nbirth-rebirth-metric,
/// tck-id-payloads-nbirth-rebirth-req, tck-id-payloads-metric-datatype-req, tck-id-payloads-name-requirement
#[tokio::test]
async fn births_have_every_metric_with_name_datatype_time_and_value_or_null() {
    let log = life().await;
    rules::births(log);
    let births = log.messages().into_iter().filter(|message| message.is("DBIRTH", Some("press")));
    let mut count = 0;
    for birth in births {
        for (name, datatype) in PRESS {
            assert_eq!(birth.metric(name).datatype, Some(datatype), "{name} of {}", birth.name());
        }
        assert_eq!(birth.payload.metrics.len(), PRESS.len() + 1, "the tags and the title of the press");
        count += 1;
    }
    assert!(count >= 4, "{count} births of the press");
}

/// tck-id-principles-rbe-recommended, tck-id-topics-ddata-payload,
/// tck-id-operational-behavior-data-publish-nbirth-change, tck-id-operational-behavior-data-publish-dbirth-change,
/// tck-id-operational-behavior-data-publish-nbirth-order, tck-id-operational-behavior-data-publish-dbirth-order,
/// tck-id-payloads-metric-datatype-not-req
#[tokio::test]
async fn data_is_of_metrics_that_were_born_and_says_what_has_changed_in_order_of_time() {
    let log = life().await;
    rules::data(log);
    rules::changes(log);
    // what never changes is in births only
    let is_model = |message: &super::log::Message| {
        message.payload.metrics.iter().any(|metric| {
            metric.name.as_deref() == Some("model")
                && metric.is_historical.is_none()
                && quality(metric).is_none()
        })
    };
    assert!(!log.messages().iter().any(|message| message.verb == "DDATA" && is_model(message)));
    let data = log.messages().into_iter().filter(|message| message.verb == "DDATA");
    let metrics: Vec<_> = data.flat_map(|message| message.payload.metrics).collect();
    assert!(metrics.iter().all(|metric| metric.name.is_some() && metric.datatype.is_none()));
}

/// tck-id-payloads-metric-datatype-value-type, tck-id-payloads-metric-datatype-value
#[tokio::test]
async fn values_are_in_the_field_and_the_range_of_their_datatype() {
    let log = life().await;
    rules::values(log);
    let told = log.messages().into_iter().flat_map(|message| message.payload.metrics);
    let datatypes: std::collections::BTreeSet<u32> = told.filter_map(|metric| metric.datatype).collect();
    assert!([3, 4, 8, 9, 10, 11, 12].iter().all(|datatype| datatypes.contains(datatype)), "{datatypes:?}");
}

/// tck-id-payloads-metric-propertyvalue-type-req, tck-id-payloads-metric-propertyvalue-type-type,
/// tck-id-payloads-metric-propertyvalue-type-value, tck-id-payloads-propertyset-keys-array-size,
/// tck-id-payloads-propertyset-values-array-size, tck-id-payloads-propertyset-quality-value-type,
/// tck-id-payloads-propertyset-quality-value-value
#[tokio::test]
async fn properties_have_types_and_quality_is_good_bad_or_stale() {
    let log = life().await;
    rules::properties(log);
    let all = log.messages();
    let qualities: std::collections::BTreeSet<_> =
        all.iter().flat_map(|message| message.payload.metrics.iter().filter_map(quality)).collect();
    assert!(qualities.contains(&192) && qualities.contains(&0), "{qualities:?}");
    for birth in
        all.iter().filter(|message| message.verb == "DBIRTH" && message.device.as_deref() == Some("press"))
    {
        assert!(PRESS.iter().all(|(name, _)| quality(birth.metric(name)).is_some()), "{}", birth.name());
    }
}

/// tck-id-topics-nbirth-templates, tck-id-payloads-template-definition-nbirth-only,
/// tck-id-payloads-template-definition-is-definition, tck-id-payloads-template-definition-ref,
/// tck-id-payloads-template-definition-members, tck-id-payloads-template-definition-nbirth,
/// tck-id-payloads-template-definition-parameters, tck-id-payloads-template-definition-parameters-default,
/// tck-id-payloads-template-instance-is-definition, tck-id-payloads-template-instance-ref,
/// tck-id-payloads-template-instance-members, tck-id-payloads-template-instance-members-birth,
/// tck-id-payloads-template-instance-members-data, tck-id-payloads-template-instance-parameters,
/// tck-id-payloads-template-version, tck-id-payloads-template-ref-definition,
/// tck-id-payloads-template-ref-instance, tck-id-payloads-template-is-definition,
/// tck-id-payloads-template-is-definition-definition, tck-id-payloads-template-is-definition-instance,
/// tck-id-payloads-template-parameter-name-required, tck-id-payloads-template-parameter-name-type,
/// tck-id-payloads-template-parameter-value-type, tck-id-payloads-template-parameter-type-value,
/// tck-id-payloads-template-parameter-type-req, tck-id-payloads-template-parameter-value,
/// tck-id-payloads-dataset-column-size, tck-id-payloads-dataset-column-num-headers,
/// tck-id-payloads-dataset-types-def, tck-id-payloads-dataset-types-num, tck-id-payloads-dataset-types-type,
/// tck-id-payloads-dataset-types-value, tck-id-payloads-dataset-parameter-type-req,
/// tck-id-payloads-template-dataset-value
#[tokio::test]
async fn no_template_no_data_set_and_no_body_is_ever_sent() {
    let log = life().await;
    rules::nothing_composite(log);
    assert!(log.messages().iter().any(|message| message.verb == "NBIRTH"));
}
