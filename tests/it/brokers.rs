//! The gateway at a real broker, Mosquitto, over both versions of MQTT and all that may lie below; what it says where that
//! fails; and what it finds out about access lists.

mod carried;
mod conversation;
mod permission;
mod scene;
mod secured;

/// Both versions, as `protocol` names them.
const VERSIONS: [&str; 2] = ["3.1.1", "5"];
