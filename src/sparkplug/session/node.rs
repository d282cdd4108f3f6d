//! What the node says of itself.

use serde_json::json;

use super::REBIRTH;
use crate::config::site::Site;
use crate::counters::{Counters, DeviceCounters};
use crate::outbox::Lost;
use crate::reading::Timestamp;
use crate::sparkplug::payload::{Datatype, node_metric};
use crate::sparkplug::proto::payload::{Metric, metric};

/// How many readings were taken in and will not reach this broker.
pub(super) const READINGS_LOST: &str = "Gateway/readings_lost";
/// Which they were, the last of them.
const LAST_GAP: &str = "Gateway/last_gap";
/// Whether the store is well, or what is wrong with it.
const STORE: &str = "Gateway/store";

/// What changes about the node.
#[derive(Debug, Default)]
pub(super) struct About {
    readings_lost: u64,
    last_gap: Option<Lost>,
    /// What is wrong with the store.
    pub(super) alarm: Option<&'static str>,
}

impl About {
    pub(super) fn handle_lost(&mut self, lost: &Lost) {
        self.readings_lost += lost.count;
        self.last_gap = Some(lost.clone());
    }

    /// The metrics that say it.
    pub(super) fn metrics(&self, now: Timestamp) -> Vec<Metric> {
        let gap = match &self.last_gap {
            Some(gap) => text(LAST_GAP, &gap_json(gap), now),
            None => {
                let none = text(LAST_GAP, "", now);
                Metric { value: None, is_null: Some(true), ..none }
            }
        };
        vec![count(READINGS_LOST, self.readings_lost, now), gap, text(STORE, self.alarm.unwrap_or("ok"), now)]
    }

    /// Everything that the node's birth says.
    pub(super) fn birth_metrics(
        &self,
        site: &Site,
        counters: &Counters,
        bd_seq_now: u8,
        now: Timestamp,
    ) -> Vec<Metric> {
        let mut metrics = vec![
            bd_seq(bd_seq_now, now),
            node_metric(REBIRTH, Datatype::Boolean, metric::Value::BooleanValue(false), now),
            text("Properties/version", env!("CARGO_PKG_VERSION"), now),
            count("Gateway/timeouts", counters.of_devices(|device| device.timeouts.get()), now),
            count("Gateway/replies_late", counters.of_devices(|device| device.late.get()), now),
            count("Gateway/frames_foreign", counters.of_devices(|device| device.foreign.get()), now),
            count("Gateway/exceptions", counters.of_devices(|device| device.exceptions.sum()), now),
            count("Gateway/overruns", counters.of_devices(DeviceCounters::overruns), now),
            count("Gateway/connects", counters.connects.get(), now),
        ];
        metrics.extend(self.metrics(now));
        metrics.extend(site.gateway.site.as_deref().map(|site| text("Properties/site", site, now)));
        metrics.extend(site.gateway.title.as_deref().map(|title| text("Properties/title", title, now)));
        metrics
    }
}

/// A loss as it is told in `LAST_GAP`.
fn gap_json(lost: &Lost) -> String {
    let millis = |at: Option<Timestamp>| at.map(Timestamp::millis);
    json!({ "readings": lost.count, "from_ms": millis(lost.from), "to_ms": millis(lost.to), "reason": lost.reason })
        .to_string()
}

pub(super) fn bd_seq(bd_seq: u8, now: Timestamp) -> Metric {
    node_metric("bdSeq", Datatype::Int64, metric::Value::LongValue(u64::from(bd_seq)), now)
}

pub(super) fn text(name: &str, text: &str, now: Timestamp) -> Metric {
    node_metric(name, Datatype::String, metric::Value::StringValue(text.to_owned()), now)
}

fn count(name: &str, count: u64, now: Timestamp) -> Metric {
    node_metric(name, Datatype::Int64, metric::Value::LongValue(count), now)
}
