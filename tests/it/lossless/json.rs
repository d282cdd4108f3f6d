//! Nothing is lost in JSON either, where each message is acknowledged by itself.

use std::time::Duration;

use super::assert_clean;
use super::proxy::Fault;
use super::scene::Scene;
use super::wire::{End, Side};

const PAUSE: Duration = Duration::from_secs(1);

/// Everything that a link, a broker and a gateway can suffer, once.
async fn suffer(message: &str) {
    let mut scene = Scene::start_with(&format!("payload = \"json\"\nmessage = \"{message}\"\n")).await;
    scene.go_on(PAUSE).await;
    scene.order(Fault::Cut(End::Rst));
    scene.go_on(PAUSE).await;
    scene.kill_gateway();
    scene.go_on(2 * PAUSE).await;
    scene.let_broker_forget(PAUSE).await;
    scene.go_on(2 * PAUSE).await;
    scene.order(Fault::CutAfter(Side::Broker, 10, End::Fin)); // after two acknowledgements and a half
    scene.go_on(PAUSE).await;
    scene.order(Fault::Vanish);
    scene.go_on(4 * PAUSE).await;
    scene.proxy.close();
    scene.order(Fault::Cut(End::Fin));
    scene.go_on(PAUSE).await;
    scene.kill_gateway();
    scene.go_on(PAUSE).await;
    scene.proxy.open();
    scene.go_on(2 * PAUSE).await;
    assert_clean(&scene.end(&format!("json, a {message} a message")).await);
}

#[tokio::test]
async fn json_with_a_tag_a_message_outlives_cuts_and_kills() {
    suffer("tag").await;
}

#[tokio::test]
async fn json_with_a_device_a_message_outlives_cuts_and_kills() {
    suffer("device").await;
}
