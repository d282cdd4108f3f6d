//! Plans for machines: a message that a broker keeps changes the shifts of a running gateway.

use tidegate::config::site::Framing;
use tidegate::sim::floor::Floor;
use tidegate::sim::serve::{FarEnd, Shared};
use tidegate::sparkplug::proto::Payload;
use tidegate::sparkplug::proto::payload::metric;
use tokio::task::JoinSet;

use crate::gateway::{Consumer, Gateway, free_address, metric, publish, serve_broker};
use crate::rig::serve_tcp;

/// The shift that a message of the press tells.
fn shift(payload: &Payload) -> Option<&str> {
    match metric(payload, "machine/shift")?.value.as_ref()? {
        metric::Value::StringValue(shift) => Some(shift),
        _ => None,
    }
}

#[tokio::test]
async fn a_plan_that_the_broker_keeps_holds_and_another_one_takes_its_place() {
    let far = FarEnd::new("l", Framing::Tcp, Shared::new(Floor::new(Vec::new()).with_addressed("l", [3])));
    let mut tasks = JoinSet::new();
    let link = serve_tcp(&far, &mut tasks).await;
    let broker = free_address().await;
    serve_broker(broker, &mut tasks).await;
    let topic = "mes/plan/press";
    publish(broker, topic, br#"{"machine": "press", "shifts": {"kept": "00:00-24:00"}}"#, true).await;
    let mut host = Consumer::subscribe(broker).await;
    let text = format!(
        r#"
        [uplink.u]
        broker = "mqtt://{broker}"
        birth_jitter = "0s"
        plan = "mes/plan/+"
        [link.l]
        tcp = "{link}"
        [device.press]
        link = "l"
        unit = 3
        every = "50ms"
        tags = [{{ name = "on", at = "hr:10.0" }}]
        machine = {{ running = "on" }}
        "#
    );
    let folder = tempfile::tempdir().unwrap();
    let _gateway = Gateway::start(folder.path(), &text);
    let ends_with = |wanted: &'static str| {
        move |_: &str, payload: &Payload| shift(payload).is_some_and(|shift| shift.ends_with(wanted))
    };
    host.wait_for_any(ends_with(" kept")).await;
    publish(broker, topic, br#"{"machine": "press", "shifts": ["all day"]}"#, false).await;
    publish(broker, topic, br#"{"machine": "press", "shifts": {"new": "00:00-24:00"}}"#, false).await;
    host.wait_for_any(ends_with(" new")).await;
}
