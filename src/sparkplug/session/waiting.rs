//! Messages that wait for the connection, and how many metrics go into one.

use crate::outbox::{Lane, Outbox};
use crate::position::Position;
use crate::reading::Timestamp;
use crate::sparkplug::proto::Payload;
use crate::sparkplug::proto::payload::{Metric, metric};
use crate::sparkplug::topic::Verb;
use crate::tag::DeviceId;

/// The most metrics in one data message.
const DATA_METRICS_MAX: usize = 500;
/// What a metric takes beside its name and text: numbers, quality and reason.
const METRIC_SIZE: usize = 64;
/// A message without its sequence number and time.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) verb: Verb,
    pub(super) device: Option<DeviceId>,
    pub(super) payload: Payload,
}

impl Message {
    pub(super) fn is_not(&self, device: DeviceId) -> bool {
        self.device != Some(device)
    }

    pub(super) fn of_node(verb: Verb, payload: Payload) -> Message {
        Message { verb, device: None, payload }
    }

    pub(super) fn death(device: DeviceId, at: Timestamp) -> Message {
        let payload = Payload { timestamp: Some(at.millis()), ..Payload::default() };
        Message { verb: Verb::DeviceDeath, device: Some(device), payload }
    }
}

/// Adds a metric to the message that waits last, if that is for the same device and has room.
pub(super) fn push_data(
    outbox: &mut Outbox<Message>,
    lane: Lane,
    device: DeviceId,
    position: Position,
    metric: Metric,
) {
    let (size, size_max) = (metric_size(&metric), outbox.data_size_max());
    let payload = Payload { metrics: vec![metric], ..Payload::default() };
    let message = Message { verb: Verb::DeviceData, device: Some(device), payload };
    outbox.add(lane, position, size, message, |last, mut message| {
        let has_room = last.message.verb == Verb::DeviceData
            && last.message.device == Some(device)
            && last.message.payload.metrics.len() < DATA_METRICS_MAX
            && last.size + size <= size_max;
        if !has_room {
            return Some(message);
        }
        last.message.payload.metrics.append(&mut message.payload.metrics);
        None
    });
}

/// About how many bytes a metric takes, and not fewer.
fn metric_size(metric: &Metric) -> usize {
    let text = match &metric.value {
        Some(metric::Value::StringValue(text)) => text.len(),
        _ => 0,
    };
    METRIC_SIZE + metric.name.as_ref().map_or(0, String::len) + text
}
