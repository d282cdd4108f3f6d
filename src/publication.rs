//! A message for a broker.

use crate::position::Positions;

/// A message for a broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publication {
    /// Where to.
    pub topic: String,
    /// The encoded payload.
    pub payload: Vec<u8>,
    /// Which readings it carries.
    pub carried: Positions,
    /// The broker acknowledges it (QoS 1 of MQTT); otherwise it is sent and forgotten (QoS 0).
    pub is_acknowledged: bool,
    /// The broker keeps it for whoever subscribes later.
    pub is_retained: bool,
}
