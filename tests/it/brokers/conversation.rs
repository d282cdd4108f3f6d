//! Birth, data, rebirth and death, as somebody else at the broker sees them.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use prost::Message as _;
use rumqttc::{AsyncClient, Event, MqttOptions, Outgoing, Packet, QoS};
use tidegate::sparkplug::proto::Payload;
use tidegate::sparkplug::proto::payload::{Metric, metric};

use super::VERSIONS;
use super::scene::{Scene, folder};
use crate::lossless::Mosquitto;

/// Asks for a rebirth.
async fn rebirth(scene: &Scene) {
    let command = Metric {
        name: Some("Node Control/Rebirth".to_owned()),
        datatype: Some(11),
        value: Some(metric::Value::BooleanValue(true)),
        ..Metric::default()
    };
    let payload = Payload { timestamp: Some(1), metrics: vec![command], ..Payload::default() };
    let address = scene.broker.address;
    let (client, mut events) =
        AsyncClient::new(MqttOptions::new("host", address.ip().to_string(), address.port()), 8);
    client.publish("spBv1.0/e/NCMD/n", QoS::AtLeastOnce, false, payload.encode_to_vec()).await.unwrap();
    while !matches!(events.poll().await.unwrap(), Event::Incoming(Packet::PubAck(_))) {}
    client.disconnect().await.unwrap();
    while !matches!(events.poll().await.unwrap(), Event::Outgoing(Outgoing::Disconnect)) {}
}

#[tokio::test]
async fn birth_data_rebirth_and_death_are_seen_over_both_versions() {
    for version in VERSIONS {
        let folder = folder();
        let broker = Mosquitto::start_with(folder.path(), "").await;
        let mut scene = Scene::plain(folder, broker, &format!("protocol = \"{version}\"")).await;
        scene.delivers().await;
        assert_eq!(scene.heard[0].0, "spBv1.0/e/NBIRTH/n", "{version}");
        rebirth(&scene).await;
        scene
            .until("it is born again", |scene| scene.count("NBIRTH") == 2 && scene.count("DBIRTH") == 2)
            .await;
        assert_eq!(scene.count("NDEATH"), 0, "{version}");
        scene.go_on(Duration::from_secs(12)).await; // two keep-alives, and the self-test's patience
        assert_eq!(scene.stop().await, Some(0), "{version}");
        scene.until("it is dead", |scene| scene.count("NDEATH") > 0).await;
        scene.go_on(Duration::from_millis(500)).await;
        let births = scene.bd_seqs("NBIRTH");
        assert_eq!(births, [births[0]; 2], "{version}");
        assert!(scene.bd_seqs("NDEATH").iter().all(|number| *number == births[0]), "{version}");
        assert_eq!(scene.count("NBIRTH"), 2, "{version}: one connection held\n{}", scene.log());
        assert!(!scene.log().contains("WARN"), "{version}: {}", scene.log());
        // over 5 the library's DISCONNECT would take the will back, so that there must be none
        let broker_log = scene.broker_log();
        let end = if version == "5" { "closed its connection" } else { "disconnected" };
        assert!(broker_log.contains(&format!("Client e/n {end}.")), "{version}: {broker_log}");
        let deaths = if version == "5" { 2 } else { 1 };
        assert_eq!(
            scene.count("NDEATH"),
            deaths,
            "{version}: its own, and the will where it is not taken back"
        );
    }
}

#[tokio::test]
async fn a_gateway_that_is_killed_is_told_dead_by_its_will_over_both_versions() {
    for version in VERSIONS {
        let folder = folder();
        let broker = Mosquitto::start_with(folder.path(), "").await;
        let mut scene = Scene::plain(folder, broker, &format!("protocol = \"{version}\"")).await;
        scene.delivers().await;
        scene.gateway.signal("-KILL");
        scene.until("its will is heard", |scene| scene.count("NDEATH") == 1).await;
        assert_eq!(scene.bd_seqs("NDEATH"), scene.bd_seqs("NBIRTH"), "{version}");
    }
}

#[tokio::test]
async fn a_broker_is_left_alone_for_long_and_comes_back_over_both_versions() {
    for version in VERSIONS {
        let folder = folder();
        let broker = Mosquitto::start_with(folder.path(), "").await;
        let mut scene = Scene::plain(folder, broker, &format!("protocol = \"{version}\"")).await;
        scene.delivers().await;
        scene.broker.stop(); // half-open: nothing is taken, nothing is answered
        scene.said("no connection to the broker").await;
        scene.broker.go_on();
        scene.until("it is born again", |scene| scene.count("NBIRTH") >= 2).await;
    }
}

#[tokio::test]
async fn what_a_broker_takes_at_most_is_respected_over_5() {
    let folder = folder();
    let broker = Mosquitto::start_with(folder.path(), "max_packet_size 300\n").await;
    let mut scene = Scene::plain(folder, broker, "protocol = \"5\"").await;
    scene.said("bytes, more than the 300 that the broker takes").await;
}

#[tokio::test]
async fn a_password_is_checked_and_a_wrong_one_named_over_both_versions() {
    for version in VERSIONS {
        let login =
            |password| format!("protocol = \"{version}\"\nusername = \"gw\"\npassword = \"{password}\"");
        for (password, expected) in [("secret", None), ("wrong", Some("(NotAuthorized)"))] {
            let folder = folder();
            let broker = Mosquitto::start_with(folder.path(), &password_file(folder.path())).await;
            let mut scene = Scene::plain(folder, broker, &login(password)).await;
            match expected {
                None => scene.delivers().await,
                Some(code) => {
                    scene.said("are `username` and `password` right").await;
                    assert!(scene.log().contains(code), "{version}: {}", scene.log());
                }
            }
        }
    }
}

/// The line for a password file in `folder`, with "gw" and "secret"; who gives no name is let in.
fn password_file(folder: &Path) -> String {
    let file = folder.join("passwords");
    std::fs::write(&file, "gw:secret\n").unwrap();
    let made = Command::new("mosquitto_passwd").arg("-U").arg(&file).status().unwrap();
    assert!(made.success());
    format!("password_file {}\n", file.display())
}
