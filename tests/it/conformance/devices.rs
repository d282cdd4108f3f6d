//! Devices that come late, are lost, come back, or are never there.

use super::rules;
use super::scene::Scene;

#[tokio::test]
async fn a_device_is_born_when_it_first_answers_and_one_that_never_does_is_not() {
    let mut scene = Scene::start("").await;
    scene.broker.hears(0, "DDATA", Some("press")).await;
    assert!(!scene.broker.log().messages().iter().any(|message| message.device.as_deref() == Some("oven")));
    scene.both_are_born().await;
    scene.broker.hears(0, "DDATA", Some("oven")).await;
    scene.stop().await;
    let log = scene.broker.log();
    rules::all(&log);
    assert!(!log.messages().iter().any(|message| message.device.as_deref() == Some("nobody")));
    assert_eq!(log.messages().iter().filter(|message| message.verb == "NBIRTH").count(), 1);
}

/// tck-id-operational-behavior-device-ddeath, tck-id-topics-ddeath-seq-num, tck-id-payloads-ddeath-seq,
/// tck-id-payloads-ddeath-seq-inc, tck-id-payloads-ddeath-seq-number
#[tokio::test]
async fn a_lost_device_dies_once_while_others_go_on_and_its_return_is_a_birth() {
    let mut scene = Scene::start("").await;
    scene.both_are_born().await;
    for _ in 0..2 {
        let mark = scene.broker.hears(scene.broker.mark(), "DDATA", Some("press")).await;
        scene.press.hang_up().await;
        let dead = scene.broker.hears(mark, "DDEATH", Some("press")).await;
        scene.broker.hears(dead, "DDATA", Some("oven")).await;
        scene.press.serve().await;
        let born = scene.broker.hears(dead, "DBIRTH", Some("press")).await;
        scene.broker.hears(born, "DDATA", Some("press")).await;
        let messages = scene.broker.log().since(mark);
        let of_press: Vec<_> =
            messages.iter().filter(|message| message.device.as_deref() == Some("press")).collect();
        assert_eq!(of_press.iter().filter(|message| message.verb == "DDEATH").count(), 1);
        assert_eq!(messages.iter().filter(|message| message.verb.starts_with('N')).count(), 0);
        let death = of_press.iter().find(|message| message.verb == "DDEATH").unwrap();
        assert!(death.payload.seq.is_some() && death.payload.timestamp.is_some(), "{}", death.name());
        let after = of_press.iter().skip_while(|message| message.verb != "DDEATH").nth(1).unwrap();
        assert!(after.is_birth(), "{} follows the death", after.name());
    }
    scene.stop().await;
    rules::all(&scene.broker.log());
}
