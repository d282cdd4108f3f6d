//! What somebody wants written to a device, and what became of it.

use std::sync::Arc;
use std::time::Instant;

use crate::reading::{Timestamp, Value};
use crate::tag::TagId;

/// The longest id of a request, in bytes: longer ones are refused.
pub const ID_MAX: usize = 512;

/// Somebody wants a tag to have a value. Nothing of it has been checked yet.
#[derive(Clone, Debug, PartialEq)]
pub struct WriteRequest {
    /// What tells it from every other: the id that the sender gave it, else where it came from and when it was sent.
    pub id: String,
    /// The device, as it was named.
    pub device: String,
    /// The tag, as it was named.
    pub tag: String,
    /// The tag of that name; `None`: there is none.
    pub tag_id: Option<TagId>,
    /// What it is to be, as published (scaled); `None`: the request has no value.
    pub value: Option<Value>,
    /// Who wants it.
    pub by: Requester,
    /// When it was sent, by the sender's clock; `None`: it does not say.
    pub sent_at: Option<Timestamp>,
    /// When it came here.
    pub received_at: Timestamp,
    /// What it was sent into began then; a request that is older was not meant for it.
    pub session_since: Timestamp,
    /// A broker had kept it for whoever comes: never obeyed.
    pub is_retained: bool,
}

/// A request, and since when it waits.
#[derive(Clone, Debug)]
pub struct Received {
    /// What is wanted.
    pub request: WriteRequest,
    /// When it came, on the clock for intervals.
    pub at: Instant,
}

/// Who wants something written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requester {
    /// A client of the broker of this uplink.
    Uplink(Arc<str>),
    /// A person at the machine, by the name of the user.
    Local(String),
}

/// What became of a request, told to whoever asked, to the audit record and to every uplink.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The request's.
    pub id: String,
    /// The request's.
    pub device: String,
    /// The request's.
    pub tag: String,
    /// The tag of that name.
    pub tag_id: Option<TagId>,
    /// What was asked for.
    pub value: Option<Value>,
    /// Who asked.
    pub by: Requester,
    /// In a word.
    pub result: WriteResult,
    /// Why, in words that tell what to do; empty where it was done.
    pub reason: String,
    /// Other tags that the reason tells something of: it is not for whoever may not have them.
    pub about: Vec<TagId>,
    /// When it was known.
    pub at: Timestamp,
}

impl WriteRequest {
    /// What became of it, known `at`.
    #[must_use]
    pub fn outcome(&self, result: WriteResult, reason: impl Into<String>, at: Timestamp) -> Outcome {
        Outcome {
            id: self.id.clone(),
            device: self.device.clone(),
            tag: self.tag.clone(),
            tag_id: self.tag_id,
            value: self.value.clone(),
            by: self.by.clone(),
            result,
            reason: reason.into(),
            about: Vec::new(),
            at,
        }
    }
}

/// What became of a request, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteResult {
    /// Written, and read back as wanted where the tag can be read back.
    Done,
    /// Not allowed or not possible: nothing was sent to the device.
    Refused,
    /// Sent, and the device said no or has another value.
    Failed,
    /// Sent; whether it was done is not known. It is never tried again.
    Unclear,
}

impl WriteResult {
    /// The word that is published.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            WriteResult::Done => "done",
            WriteResult::Refused => "refused",
            WriteResult::Failed => "failed",
            WriteResult::Unclear => "unclear",
        }
    }
}
