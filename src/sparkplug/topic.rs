//! Topics (Sparkplug 3.0.0, chapter 4).

/// The namespace of Sparkplug B.
const NAMESPACE: &str = "spBv1.0";

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// The edge node is there, with all of its metrics.
    NodeBirth,
    /// The edge node is gone.
    NodeDeath,
    /// Changed metrics of the node.
    NodeData,
    /// A device is there, with all of its metrics.
    DeviceBirth,
    /// A device is gone.
    DeviceDeath,
    /// Changed metrics of a device.
    DeviceData,
}

impl Verb {
    const fn word(self) -> &'static str {
        match self {
            Verb::NodeBirth => "NBIRTH",
            Verb::NodeDeath => "NDEATH",
            Verb::NodeData => "NDATA",
            Verb::DeviceBirth => "DBIRTH",
            Verb::DeviceDeath => "DDEATH",
            Verb::DeviceData => "DDATA",
        }
    }
}

/// An edge node: its group and its own id.
#[derive(Clone, Debug)]
pub struct Node {
    /// `gateway.enterprise`
    pub group: std::sync::Arc<str>,
    /// `gateway.name`
    pub name: std::sync::Arc<str>,
}

impl Node {
    /// The topic of a message of the node, or of one of its devices.
    #[must_use]
    pub fn topic(&self, verb: Verb, device: Option<&str>) -> String {
        let Node { group, name } = self;
        let verb = verb.word();
        match device {
            None => format!("{NAMESPACE}/{group}/{verb}/{name}"),
            Some(device) => format!("{NAMESPACE}/{group}/{verb}/{name}/{device}"),
        }
    }

    /// Where commands to the node come from.
    #[must_use]
    pub fn node_commands(&self) -> String {
        format!("{NAMESPACE}/{}/NCMD/{}", self.group, self.name)
    }

    /// Where commands to its devices come from.
    #[must_use]
    pub fn device_commands(&self) -> String {
        format!("{NAMESPACE}/{}/DCMD/{}/+", self.group, self.name)
    }

    /// The device that a command on `topic` is for; `None` where it is no command to a device of this node.
    #[must_use]
    pub fn commanded_device<'a>(&self, topic: &'a str) -> Option<&'a str> {
        let filter = self.device_commands();
        topic.strip_prefix(filter.strip_suffix('+')?).filter(|device| !device.contains('/'))
    }
}

/// Where a host application says whether it is there.
#[must_use]
pub fn host_state(id: &str) -> String {
    format!("{NAMESPACE}/STATE/{id}")
}
