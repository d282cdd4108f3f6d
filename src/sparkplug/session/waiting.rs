//! Messages that wait for the connection, and how many metrics go into one.

use std::collections::VecDeque;

use crate::position::{Position, Positions};
use crate::reading::Timestamp;
use crate::sparkplug::proto::Payload;
use crate::sparkplug::proto::payload::{Metric, metric};
use crate::sparkplug::topic::Verb;
use crate::tag::DeviceId;

/// The most metrics in one data message.
const DATA_METRICS_MAX: usize = 500;
/// About how many bytes a data message may have: under the limits that brokers are known to set.
pub(super) const DATA_SIZE_MAX: usize = 64 << 10;
/// What a metric takes beside its name and text: numbers, quality and reason.
const METRIC_SIZE: usize = 64;
/// A message without its sequence number and time.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) verb: Verb,
    pub(super) device: Option<DeviceId>,
    pub(super) payload: Payload,
    pub(super) carried: Positions,
    /// About how many bytes it has.
    pub(super) size: usize,
}

impl Waiting {
    pub(super) fn is_not(&self, device: DeviceId) -> bool {
        self.device != Some(device)
    }

    pub(super) fn of_node(verb: Verb, payload: Payload) -> Waiting {
        Waiting { verb, device: None, payload, carried: Positions::default(), size: 0 }
    }

    pub(super) fn death(device: DeviceId, at: Timestamp) -> Waiting {
        let payload = Payload { timestamp: Some(at.millis()), ..Payload::default() };
        let (verb, carried) = (Verb::DeviceDeath, Positions::default());
        Waiting { verb, device: Some(device), payload, carried, size: 0 }
    }
}

/// Adds a metric to the message that waits last, if that is for the same device and has room.
pub(super) fn push_data(queue: &mut VecDeque<Waiting>, device: DeviceId, position: Position, metric: Metric) {
    let size = metric_size(&metric);
    let range = position..position.after(1);
    match queue.back_mut() {
        Some(last)
            if last.verb == Verb::DeviceData
                && last.device == Some(device)
                && last.payload.metrics.len() < DATA_METRICS_MAX
                && last.size + size <= DATA_SIZE_MAX =>
        {
            last.payload.metrics.push(metric);
            last.carried.insert(range);
            last.size += size;
        }
        _ => {
            let payload = Payload { metrics: vec![metric], ..Payload::default() };
            let (verb, carried) = (Verb::DeviceData, Positions::of(range));
            queue.push_back(Waiting { verb, device: Some(device), payload, carried, size });
        }
    }
}

/// Adds a message with one metric of `device` that tells no reading.
pub(super) fn push_metric(queue: &mut VecDeque<Waiting>, device: DeviceId, metric: Metric) {
    let size = metric_size(&metric);
    let payload = Payload { metrics: vec![metric], ..Payload::default() };
    let carried = Positions::default();
    queue.push_back(Waiting { verb: Verb::DeviceData, device: Some(device), payload, carried, size });
}

/// About how many bytes a metric takes, and not fewer.
fn metric_size(metric: &Metric) -> usize {
    let text = match &metric.value {
        Some(metric::Value::StringValue(text)) => text.len(),
        _ => 0,
    };
    METRIC_SIZE + metric.name.as_ref().map_or(0, String::len) + text
}
