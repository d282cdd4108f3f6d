//! The lane for writes: one request at a time to a device of a bus, ahead of everything that polls.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::driver::Answer;
use crate::scan::Data;
use crate::tag::{Area, DeviceId};

/// Something to be written.
#[derive(Debug)]
pub struct Write {
    /// To which device.
    pub device: DeviceId,
    /// Coils or holding registers.
    pub area: Area,
    /// The first of them.
    pub address: u16,
    /// What.
    pub data: Data,
    /// It is not sent after this.
    pub not_after: Instant,
    /// Who is told what became of it.
    pub outcome: oneshot::Sender<Result<Answer, WriteError>>,
}

/// Why a write was not done, or may not have been. It is never repeated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// No such device on this bus, or nothing of its that can be written.
    #[error("not sent: the device has no such register, or no function to write so much")]
    Impossible,
    /// The line was not free in time: nothing was sent.
    #[error("not sent: the line was not free in time")]
    TooLate,
    /// It was sent, and no answer came: it may have been done or not.
    #[error("sent, but not answered within {0:?}: it may have been done or not")]
    Unclear(Duration),
}
