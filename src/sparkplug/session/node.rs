//! What the node says of itself.

use serde_json::json;

use super::{NEXT_SERVER, REBIRTH, RELOAD};
use crate::config::site::Site;
use crate::outbox::Lost;
use crate::reading::{Timestamp, Value};
use crate::sparkplug::payload::{Datatype, Form, encode, node_metric};
use crate::sparkplug::proto::payload::{Metric, metric};
use crate::vitals::Vital;

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
    /// The rest, the same figures in the same order each time.
    pub(super) vitals: Vec<Vital>,
    /// What was told last of each figure.
    told: Vec<Value>,
}

impl About {
    pub(super) fn handle_lost(&mut self, lost: &Lost) {
        self.readings_lost += lost.count;
        self.last_gap = Some(lost.clone());
    }

    /// Everything that changes, the same figures in the same order each time.
    fn figures(&self) -> Vec<Vital> {
        let gap = self.last_gap.as_ref().map(gap_json).unwrap_or_default();
        let mut figures = vec![
            Vital::count(READINGS_LOST, self.readings_lost, 0.0),
            Vital::word(LAST_GAP, &gap),
            Vital::word(STORE, self.alarm.unwrap_or("ok")),
        ];
        figures.extend(self.vitals.iter().cloned());
        figures
    }

    /// What has changed since it was told last, by more than it may. Aliases begin after `first_alias`.
    pub(super) fn changed(&mut self, form: Form, first_alias: u64, now: Timestamp) -> Vec<Metric> {
        let mut changed = Vec::new();
        for (index, figure) in self.figures().into_iter().enumerate() {
            let Some(told) = self.told.get_mut(index) else { continue }; // no birth has named it
            if figure.has_changed(told) {
                told.clone_from(&figure.value);
                let alias = alias(form, first_alias, index);
                let metric = figure_metric(figure, now);
                changed.push(Metric {
                    name: metric.name.filter(|_| alias.is_none()),
                    alias,
                    datatype: metric.datatype.filter(|_| form.datatype_in_data),
                    ..metric
                });
            }
        }
        changed
    }

    /// Everything that the node's birth says.
    pub(super) fn birth_metrics(
        &mut self,
        site: &Site,
        form: Form,
        bd_seq_now: u8,
        now: Timestamp,
    ) -> Vec<Metric> {
        let mut metrics = vec![
            bd_seq(bd_seq_now, now),
            control(REBIRTH, now),
            text("Properties/version", env!("CARGO_PKG_VERSION"), now),
            text("Properties/config_hash", &format!("{:08x}", site.fingerprint), now),
        ];
        let may = site.commands.node_control;
        metrics.extend(may.next_server.then(|| control(NEXT_SERVER, now)));
        metrics.extend(may.reload.then(|| control(RELOAD, now)));
        metrics.extend(site.gateway.site.as_deref().map(|site| text("Properties/site", site, now)));
        metrics.extend(site.gateway.title.as_deref().map(|title| text("Properties/title", title, now)));
        metrics.extend(properties(&site.gateway.properties, now));
        let figures = self.figures();
        self.told = figures.iter().map(|figure| figure.value.clone()).collect();
        for (index, figure) in figures.into_iter().enumerate() {
            let alias = alias(form, super::first_node_alias(site), index);
            metrics.push(Metric { alias, ..figure_metric(figure, now) });
        }
        metrics
    }
}

/// Node metrics have their aliases behind those of the tags.
fn alias(form: Form, first_alias: u64, index: usize) -> Option<u64> {
    form.aliases.then(|| first_alias + index as u64)
}

/// A figure with its name and datatype; no text is null.
fn figure_metric(figure: Vital, now: Timestamp) -> Metric {
    let datatype = match figure.value {
        Value::Bool(_) => Datatype::Boolean,
        Value::Int(_) | Value::UInt(_) => Datatype::Int64,
        Value::Float(_) | Value::Double(_) => Datatype::Double,
        Value::Text(_) => Datatype::String,
        Value::Time(_) => Datatype::DateTime,
    };
    let is_empty = matches!(&figure.value, Value::Text(text) if text.is_empty());
    let value = encode(&figure.value, datatype).filter(|_| !is_empty);
    Metric {
        name: Some(figure.name),
        timestamp: Some(now.millis()),
        datatype: Some(datatype.code()),
        is_null: value.is_none().then_some(true),
        value,
        ..Metric::default()
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

/// Something that a host may ask of the node, which nobody has asked for.
fn control(name: &str, now: Timestamp) -> Metric {
    node_metric(name, Datatype::Boolean, metric::Value::BooleanValue(false), now)
}

/// What the configuration has to say of a node or a device.
pub(super) fn properties(all: &[(String, String)], now: Timestamp) -> impl Iterator<Item = Metric> {
    all.iter().map(move |(name, value)| text(&format!("Properties/{name}"), value, now))
}

pub(super) fn text(name: &str, text: &str, now: Timestamp) -> Metric {
    node_metric(name, Datatype::String, metric::Value::StringValue(text.to_owned()), now)
}
