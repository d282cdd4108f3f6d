//! What a consumer at the broker has heard of each tag.

use std::collections::{BTreeMap, BTreeSet};

use tidegate::sparkplug::proto::Payload;
use tidegate::sparkplug::proto::payload::{Metric, metric};

/// By device and tag: its values by their times, for what was read before a birth comes after it as history.
#[derive(Debug, Default)]
pub(super) struct Heard {
    born: BTreeSet<String>,
    values: BTreeMap<(String, String), BTreeMap<u64, String>>,
}

impl Heard {
    pub(super) fn take(&mut self, topic: &str, payload: &Payload) {
        let parts: Vec<&str> = topic.split('/').collect();
        let [_, _, verb @ ("DBIRTH" | "DDATA"), _, device] = parts[..] else { return };
        if verb == "DBIRTH" {
            self.born.insert(device.to_owned());
        }
        for metric in &payload.metrics {
            if let (Some(name), Some(at), Some(value)) = (&metric.name, metric.timestamp, shown(metric)) {
                self.values.entry((device.to_owned(), name.clone())).or_default().insert(at, value);
            }
        }
    }

    pub(super) fn is_born(&self, device: &str) -> bool {
        self.born.contains(device)
    }

    /// All values of a tag, repetitions left out.
    pub(super) fn values(&self, device: &str, tag: &str) -> Vec<String> {
        let values = self.values.get(&(device.to_owned(), tag.to_owned()));
        let mut values: Vec<String> = values.into_iter().flat_map(BTreeMap::values).cloned().collect();
        values.dedup();
        values
    }

    /// The last value of a tag.
    pub(super) fn last(&self, device: &str, tag: &str) -> Option<String> {
        self.values(device, tag).pop()
    }

    /// The last value of a tag that is a number.
    pub(super) fn number(&self, device: &str, tag: &str) -> f64 {
        self.last(device, tag).unwrap().parse().unwrap()
    }

    /// What happened to the alarms of a device: "overheat raised".
    pub(super) fn events(&self, device: &str) -> Vec<String> {
        let event = |text: &String| {
            let event: serde_json::Value = serde_json::from_str(text).unwrap();
            format!("{} {}", event["alarm"].as_str().unwrap(), event["event"].as_str().unwrap())
        };
        self.values(device, "event/alarm").iter().map(event).collect()
    }

    /// The states of a machine, but for what is unknown at the beginning.
    pub(super) fn states(&self, device: &str) -> Vec<String> {
        self.values(device, "machine/state").into_iter().skip_while(|state| state == "unknown").collect()
    }
}

/// The value as text; `None` where there is none.
fn shown(metric: &Metric) -> Option<String> {
    let signed = matches!(metric.datatype, None | Some(1..=4));
    Some(match metric.value.as_ref()? {
        metric::Value::IntValue(bits) if signed => bits.cast_signed().to_string(),
        metric::Value::IntValue(bits) => bits.to_string(),
        metric::Value::LongValue(bits) => bits.cast_signed().to_string(),
        metric::Value::FloatValue(value) => value.to_string(),
        metric::Value::DoubleValue(value) => value.to_string(),
        metric::Value::BooleanValue(value) => value.to_string(),
        metric::Value::StringValue(value) => value.clone(),
        _ => return None,
    })
}
