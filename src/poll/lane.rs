//! The lane for orders: one request at a time to a device of a bus, ahead of everything that polls.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::site::WriteFunctions;
use crate::driver::Answer;
use crate::scan::Data;
use crate::tag::{Area, DeviceId, Span};

/// Something to be asked of a device, once.
#[derive(Debug)]
pub struct Order {
    /// Of which device.
    pub device: DeviceId,
    /// What.
    pub job: Job,
    /// It is not sent after this.
    pub not_after: Instant,
    /// It waits for a device that does not answer now; others are refused at once.
    pub is_patient: bool,
    /// Who is told what became of it.
    pub outcome: oneshot::Sender<Result<Answer, OrderError>>,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Job {
    /// Read these, as they are at that moment.
    Read(Span),
    /// Write coils or holding registers.
    Write {
        /// Coils or holding registers.
        area: Area,
        /// The first of them.
        address: u16,
        /// What.
        data: Data,
        /// By which functions; `None`: by those that the device has.
        functions: Option<WriteFunctions>,
    },
    /// Change bits of a holding register, the others stay (function 22).
    Mask {
        /// Which.
        address: u16,
        /// Bits that stay.
        and: u16,
        /// Bits that are set, of those that do not stay.
        or: u16,
    },
    /// Tell the local time of this zone to every meter of DL/T 645 that hears what this one hears; none answers, and it need
    /// not be there itself.
    BroadcastTime(TimeZone),
}

/// Why an order was not carried out, or may not have been. It is never repeated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// No such device on this bus, or nothing of its that can be written.
    #[error("not sent: the device has no such register, or no function to write so much")]
    Impossible,
    /// The device does not answer, so nothing was sent.
    #[error("not sent: the device does not answer")]
    Down,
    /// The line was not free in time: nothing was sent.
    #[error("not sent: the line was not free in time")]
    TooLate,
    /// It was sent, and no answer came: a write may have been done or not.
    #[error("sent, but not answered within {0:?}: it may have been done or not")]
    Unclear(Duration),
}

/// Where orders for each device go.
pub type Lanes = watch::Receiver<BTreeMap<DeviceId, Lane>>;

/// The way to one bus.
#[derive(Clone, Debug)]
pub struct Lane {
    /// Which bus: devices of one bus wait for each other.
    pub bus: usize,
    /// Takes a few orders.
    pub orders: mpsc::Sender<Order>,
}

impl Job {
    /// Whether it changes something in the device.
    #[must_use]
    pub const fn is_write(&self) -> bool {
        !matches!(self, Job::Read(_))
    }

    /// Whether it is for what was read from this stream before it, so that it must not be sent on another one.
    #[must_use]
    pub const fn is_of_stream(&self) -> bool {
        matches!(self, Job::Write { .. } | Job::Mask { .. })
    }
}
