//! Messages that wait for the connection, and how many metrics go into one.

use crate::outbox::{Lane, Outbox, Waiting};
use crate::position::{Position, Positions};
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
    /// It says nothing but what became of a command.
    pub(super) tells_outcome: bool,
}

impl Message {
    pub(super) fn is_not(&self, device: DeviceId) -> bool {
        self.device != Some(device)
    }

    pub(super) fn of_node(verb: Verb, payload: Payload) -> Message {
        Message { verb, device: None, payload, tells_outcome: false }
    }

    /// What became of a command to a device, or to the node.
    pub(super) fn outcome(device: Option<DeviceId>, metric: Metric) -> Waiting<Message> {
        let size = metric_size(&metric);
        let payload = Payload { metrics: vec![metric], ..Payload::default() };
        let verb = if device.is_some() { Verb::DeviceData } else { Verb::NodeData };
        let message = Message { verb, device, payload, tells_outcome: true };
        // counted as a reading, for what waits is bounded
        Waiting { message, carried: Positions::default(), size, readings: 1 }
    }

    pub(super) fn death(device: DeviceId, at: Timestamp) -> Message {
        let payload = Payload { timestamp: Some(at.millis()), ..Payload::default() };
        Message { verb: Verb::DeviceDeath, device: Some(device), payload, tells_outcome: false }
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
    let join = |last: &mut Waiting<Message>, metric: Metric| {
        let has_room = last.message.verb == Verb::DeviceData
            && !last.message.tells_outcome
            && last.message.device == Some(device)
            && last.message.payload.metrics.len() < DATA_METRICS_MAX
            && last.size + size <= size_max;
        if !has_room {
            return Some(metric);
        }
        last.message.payload.metrics.push(metric);
        None
    };
    let alone = |metric: Metric| {
        let payload = Payload { metrics: vec![metric], ..Payload::default() };
        Message { verb: Verb::DeviceData, device: Some(device), payload, tells_outcome: false }
    };
    outbox.add(lane, position, size, metric, join, alone);
}

/// About how many bytes a metric takes, and not fewer.
fn metric_size(metric: &Metric) -> usize {
    let text = match &metric.value {
        Some(metric::Value::StringValue(text)) => text.len(),
        _ => 0,
    };
    METRIC_SIZE + metric.name.as_ref().map_or(0, String::len) + text
}
