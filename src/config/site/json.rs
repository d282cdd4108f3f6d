//! `payload = "json"`: on which topics messages go, and what one holds.

/// What an uplink's messages look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Sparkplug B.
    Sparkplug,
    /// JSON on topics of the user's own.
    Json(Json),
}

/// How JSON is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Json {
    /// Where to.
    pub topics: Topics,
    /// What one message holds.
    pub extent: Extent,
    /// The broker keeps the last message of each topic for whoever subscribes later.
    pub is_retained: bool,
}

/// What one message holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// A reading of one tag.
    Tag,
    /// Readings of one device, at most one of each tag.
    Device,
}

/// A piece of a topic: what is the same for all of them, or what is filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// This.
    Text(String),
    /// The device's name.
    Device,
    /// The tag's name.
    Tag,
}

/// The topics of an uplink. Each tag, each device and the gateway have their own: that is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    /// Of a message with readings.
    pub readings: Vec<Piece>,
    /// Of a message that says whether a device answers.
    pub device_status: Vec<Piece>,
    /// Of the message that says whether the gateway is there.
    pub gateway_status: String,
}

impl Topics {
    /// Where a reading of `tag` goes, or, with [`Extent::Device`], the readings of `device`.
    #[must_use]
    pub fn readings(&self, device: &str, tag: &str) -> String {
        filled(&self.readings, device, tag)
    }

    /// Where it is said whether `device` answers.
    #[must_use]
    pub fn device_status(&self, device: &str) -> String {
        filled(&self.device_status, device, "")
    }
}

fn filled(pieces: &[Piece], device: &str, tag: &str) -> String {
    let mut topic = String::new();
    for piece in pieces {
        topic.push_str(match piece {
            Piece::Text(text) => text,
            Piece::Device => device,
            Piece::Tag => tag,
        });
    }
    topic
}
