//! A Sparkplug host application made of the crate `srad`: it follows every edge node at a broker, and prints a line of
//! JSON for each birth, each data message and each end that it learns of.
//!
//!     host 127.0.0.1:1883
//!
//! It asks for a rebirth as soon as anything does not fit, without a pause between two requests; whoever counts them at
//! the broker knows what it had to complain about. With SIGTERM it says that it is offline and ends.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Map, Value, json};
use srad_app::generic_app::{ApplicationBuilder, MetricStore, RebirthConfig, StateUpdateError};
use srad_app::{MetricBirthDetails, MetricDetails, SubscriptionConfig};
use srad_client_rumqtt::{EventLoop, MqttOptions};
use srad_types::payload::DataType;
use srad_types::{MetricId, MetricValue, MetricValueKind};
use tokio::signal::unix::{SignalKind, signal};

/// What the host knows of a node or of one of its devices.
struct Known {
    node: String,
    device: Option<String>,
    metrics: HashMap<MetricId, (String, DataType)>,
}

impl Known {
    fn new(node: &str, device: Option<&str>) -> Known {
        Known { node: node.to_owned(), device: device.map(str::to_owned), metrics: HashMap::new() }
    }

    fn say(&self, event: &str, metrics: Map<String, Value>) {
        println!(
            "{}",
            json!({ "event": event, "node": self.node, "device": self.device, "metrics": metrics })
        );
    }
}

impl MetricStore for Known {
    fn set_stale(&mut self) {
        self.say("stale", Map::new());
    }

    fn update_from_birth(
        &mut self,
        details: Vec<(MetricBirthDetails, MetricDetails)>,
    ) -> Result<(), StateUpdateError> {
        self.metrics.clear();
        let mut said = Map::new();
        for (birth, metric) in details {
            said.insert(birth.name.clone(), shown(birth.datatype, metric)?);
            self.metrics.insert(birth.get_metric_id(), (birth.name, birth.datatype));
        }
        self.say("birth", said);
        Ok(())
    }

    fn update_from_data(&mut self, details: Vec<(MetricId, MetricDetails)>) -> Result<(), StateUpdateError> {
        let mut said = Map::new();
        for (id, metric) in details {
            let (name, datatype) = self.metrics.get(&id).ok_or(StateUpdateError::UnknownMetric)?;
            said.insert(name.clone(), shown(*datatype, metric)?);
        }
        self.say("data", said);
        Ok(())
    }
}

/// A value as the host reads it with the datatype of the birth.
fn shown(datatype: DataType, metric: MetricDetails) -> Result<Value, StateUpdateError> {
    let value = match metric.value {
        Some(value) => plain(datatype, value)?,
        None => Value::Null,
    };
    Ok(json!({
        "datatype": datatype as u32,
        "value": value,
        "timestamp": metric.timestamp,
        "is_historical": metric.is_historical,
    }))
}

fn plain(datatype: DataType, value: MetricValue) -> Result<Value, StateUpdateError> {
    use MetricValueKind as Kind;
    let kind = Kind::try_from_metric_value(datatype, value).map_err(|_| StateUpdateError::InvalidValue)?;
    Ok(match kind {
        Kind::Int8(value) => json!(value),
        Kind::Int16(value) => json!(value),
        Kind::Int32(value) => json!(value),
        Kind::Int64(value) => json!(value),
        Kind::UInt8(value) => json!(value),
        Kind::UInt16(value) => json!(value),
        Kind::UInt32(value) => json!(value),
        Kind::UInt64(value) => json!(value),
        Kind::Float(value) => json!(f64::from(value)),
        Kind::Double(value) => json!(value),
        Kind::Boolean(value) => json!(value),
        Kind::String(value) => json!(value),
        _ => return Err(StateUpdateError::InvalidValue),
    })
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let address = std::env::args().nth(1).expect("the broker's HOST:PORT");
    let (host, port) = address.rsplit_once(':').expect("HOST:PORT");
    let mut options = MqttOptions::new("srad-host", host, port.parse().expect("a port"));
    options.set_keep_alive(Duration::from_secs(5));
    let (event_loop, client) = EventLoop::new(options, 64);
    let rebirths = RebirthConfig {
        rebirth_cooldown: Duration::ZERO,
        invalid_payload: true,
        out_of_sync_bdseq: true,
        unknown_node: true,
        unknown_device: true,
        unknown_metric: true,
        reorder_failure: true,
        recorded_state_stale: true,
        reorder_timeout: Some(Duration::from_millis(500)),
    };
    let (application, client) =
        ApplicationBuilder::new("srad", event_loop, client, SubscriptionConfig::AllGroups)
            .with_rebirth_config(rebirths)
            .on_online(|| println!("{}", json!({ "event": "online" })))
            .on_offline(|| println!("{}", json!({ "event": "offline" })))
            .on_node_created(|node| {
                let name = node.id().node.clone();
                node.register_metric_store(Known::new(&name, None));
                node.on_device_created(move |device| {
                    let known = Known::new(&name, Some(device.name()));
                    device.register_metric_store(known);
                });
            })
            .build();
    let mut terminated = signal(SignalKind::terminate()).expect("signals");
    tokio::select! {
        () = application.run() => {}
        _ = terminated.recv() => client.cancel().await,
    }
}
