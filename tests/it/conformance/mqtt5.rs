//! What is particular to MQTT 5.

use super::log::What;
use super::rules;
use super::scene::Scene;
use super::wire::Said;

/// The reason of a DISCONNECT after which the broker publishes the will (MQTT 5, 3.14.2.1).
const WITH_WILL: u8 = 0x04;

/// tck-id-principles-persistence-clean-session-50
#[tokio::test]
async fn over_mqtt_5_every_connection_starts_clean_and_its_session_ends_with_it() {
    let mut scene = Scene::start("protocol = \"5\"").await;
    scene.both_are_born().await;
    let mark = scene.broker.hears(0, "DDATA", Some("oven")).await;
    scene.broker.cut();
    scene.broker.hears(mark, "DBIRTH", Some("oven")).await;
    scene.stop().await;
    let log = scene.broker.log();
    rules::all(&log);
    let sessions = log.sessions();
    assert_eq!(sessions.len(), 2);
    for session in sessions {
        assert_eq!((session.connect.level, session.connect.is_clean), (5, true), "{:?}", session.connect);
        // an interval that is not there is 0 (MQTT 5, 3.1.2.11.2)
        assert_eq!(session.connect.session_expiry.unwrap_or_default(), 0);
        for filter in ["spBv1.0/e/NCMD/n", "spBv1.0/e/DCMD/n/+"] {
            assert!(rules::subscribed_first(&session).contains(&(filter.to_owned(), 1)), "{filter}");
        }
    }
}

/// tck-id-payloads-ndeath-will-message-publisher-disconnect-mqtt50
#[tokio::test]
async fn over_mqtt_5_an_intended_end_says_the_death_and_no_disconnect_that_drops_the_will() {
    let mut scene = Scene::start("protocol = \"5\"").await;
    scene.broker.hears(0, "DDATA", Some("press")).await;
    scene.stop().await;
    let log = scene.broker.log();
    rules::all(&log);
    let session = log.sessions().pop().unwrap();
    let death = session.messages.last().unwrap();
    assert!(death.is("NDEATH", None), "the last message is {}", death.name());
    assert_eq!(death.bd_seq(), session.messages[0].bd_seq());
    for entry in &session.entries {
        if let What::Said(Said::Disconnect { reason }) = entry.what {
            assert_eq!(reason, WITH_WILL, "{}", log.tail());
        }
    }
}
