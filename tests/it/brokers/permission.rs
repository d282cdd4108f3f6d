//! Access lists that forbid what a gateway must do: Mosquitto acknowledges it over 3.1.1 as if it were stored.

use std::path::Path;
use std::time::Duration;

use super::VERSIONS;
use super::scene::{Scene, folder};
use crate::lossless::Mosquitto;

/// The line for an access list in `folder`: who gives no name reads all, "gw" may what is written.
fn access_list(folder: &Path, may: &str) -> String {
    let file = folder.join("access");
    std::fs::write(&file, format!("topic read #\n\nuser gw\n{may}")).unwrap();
    // without a limit Mosquitto 2.0.11 takes each refusal for a queue that is full, and hangs up
    format!("acl_file {}\nmax_queued_messages 1000\n", file.display())
}

async fn start(version: &str, may: &str) -> Scene {
    let folder = folder();
    let lines = access_list(folder.path(), may);
    let broker = Mosquitto::start_with(folder.path(), &lines).await;
    Scene::plain(folder, broker, &format!("protocol = \"{version}\"\nusername = \"gw\"")).await
}

/// What docs/configuration.md asks for.
const ALL: &str = "topic readwrite tidegate/e/n/barrier\ntopic readwrite spBv1.0/e/+/n/#\n";
const BARRIER: &str = "topic readwrite tidegate/e/n/barrier\n";
const COMMANDS: &str = "topic read spBv1.0/e/NCMD/n\ntopic read spBv1.0/e/DCMD/n/#\n";

#[tokio::test]
async fn a_list_that_allows_what_is_asked_for_is_found_right() {
    for version in VERSIONS {
        let mut scene = start(version, ALL).await;
        scene.delivers().await;
        scene.go_on(Duration::from_secs(13)).await;
        assert!(!scene.log().contains("WARN"), "{version}: {}", scene.log());
        assert_eq!(scene.count("NBIRTH"), 1);
    }
}

/// The broker acknowledges everything over 3.1.1 and stores nothing: no reading may count as delivered.
#[tokio::test]
async fn what_a_list_forbids_is_kept_until_it_is_allowed() {
    for (version, expected) in [
        ("3.1.1", "acknowledges tidegate/e/n/barrier and does not hand it back"),
        ("5", "the broker has dropped tidegate/e/n/barrier: not authorised"),
    ] {
        let mut scene = start(version, "topic read nothing\n").await;
        scene.said(expected).await;
        scene.go_on(Duration::from_secs(3)).await;
        assert_eq!(scene.count("DDATA"), 0, "{version}");
        access_list(scene.folder(), ALL);
        scene.broker.signal("-HUP"); // it reads its list again
        let before = scene.served();
        assert!(before.len() > 10, "{version}: {} readings were served", before.len());
        scene.until("all that was read before is heard", |scene| before.is_subset(&scene.values())).await;
        assert_eq!(scene.stop().await, Some(0));
    }
}

#[tokio::test]
async fn a_barrier_that_may_not_be_read_ends_the_connection_too() {
    let mut scene =
        start("3.1.1", "topic write tidegate/e/n/barrier\ntopic readwrite spBv1.0/e/+/n/#\n").await;
    scene.said("must let this client publish and read it").await;
}

#[tokio::test]
async fn births_that_are_dropped_are_tried_again_and_then_told_with_both_reasons_over_both_versions() {
    for version in VERSIONS {
        let may = format!("{BARRIER}{COMMANDS}topic readwrite spBv1.0/e/DDATA/n/#\n");
        let mut scene = start(version, &may).await;
        scene.said("(all is sent once more, to see whether that lasts)").await;
        scene.said("WARN the broker has read spBv1.0/e/NBIRTH/n and did not hand it back").await;
        scene.said("WARN the broker has read spBv1.0/e/DBIRTH/n/").await;
        scene.go_on(Duration::from_secs(2)).await;
        assert_eq!(scene.count("NBIRTH"), 0, "{version}: the broker has dropped it");
        assert!(!scene.log().contains("DDATA"), "{version}: data comes back\n{}", scene.log());
        let ends = scene.log().matches("no connection to the broker").count();
        assert_eq!(ends, 1, "{version}: the second connection holds\n{}", scene.log());
    }
}

/// JSON: what a list must allow is its own topics, and no other.
#[tokio::test]
async fn json_asks_back_only_what_it_publishes() {
    let folder = folder();
    let lines = access_list(folder.path(), "topic readwrite e/n/#\n");
    let broker = Mosquitto::start_with(folder.path(), &lines).await;
    let mut scene = Scene::plain(folder, broker, "payload = \"json\"\nusername = \"gw\"").await;
    let is_read = |scene: &Scene| scene.heard.iter().filter(|(topic, _)| topic == "e/n/d0/t0").count() > 2;
    scene.until("readings are heard", is_read).await;
    scene.go_on(Duration::from_secs(12)).await; // the self-test's patience
    assert!(!scene.log().contains("WARN"), "{}", scene.log());
    assert!(!scene.heard.iter().any(|(topic, _)| topic.starts_with("tidegate/")), "there is no barrier");
    assert_eq!(scene.stop().await, Some(0));
}

#[tokio::test]
async fn json_readings_that_are_dropped_are_noticed_though_the_status_passes() {
    let folder = folder();
    let lines = access_list(folder.path(), "topic readwrite e/n/status\ntopic readwrite e/n/+/status\n");
    let broker = Mosquitto::start_with(folder.path(), &lines).await;
    let mut scene = Scene::plain(folder, broker, "payload = \"json\"\nusername = \"gw\"").await;
    scene.said("the broker has read e/n/d0/t").await;
    scene.said("(all is sent once more, to see whether that lasts)").await;
}
