//! A request of another protocol than Modbus, and what of the bytes that come in is its answer. Pure.
//!
//! Of a stream that carries such requests one is outstanding at a time, whoever it is for.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Answer;
use crate::config::site::SerialLine;
use crate::counters::DeviceCounters;
use crate::reading::Timestamp;

/// One request and what follows from it.
pub trait Exchange: fmt::Debug + Send {
    /// The bytes that are sent first, now; [`Exchange::wire_size`] bytes will have been on the wire at `over_at`, by the
    /// system clock.
    fn request(&self, over_at: Timestamp) -> Vec<u8>;

    /// Takes bytes that came in; none, where [`Exchange::next_due`] has come.
    fn take(&mut self, bytes: &[u8], now: Instant) -> Progress;

    /// When something may be known although no byte comes: a quiet line ends some frames.
    fn next_due(&self) -> Option<Instant> {
        None
    }

    /// Whether anybody answers it; what nobody answers is over when its time is, and has been sent to more than one.
    fn is_answered(&self) -> bool {
        true
    }

    /// What came in beside the answer, until now.
    fn noise(&self) -> Noise;

    /// The bytes of the request and, about, of its answer: for the time that they need on a serial line.
    fn wire_size(&self) -> usize;
}

/// How far an exchange has come.
#[derive(Debug, PartialEq)]
pub enum Progress {
    /// More bytes are wanted.
    Wait,
    /// These are to be sent: the answer goes on. It is waited for anew.
    Send(Vec<u8>),
    /// It has come to its end.
    Done(Answer),
}

/// What came in beside the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noise {
    /// Frames with a wrong checksum.
    pub checksum: u64,
    /// Whole frames that are not the answer: of another device, or to another request.
    pub foreign: u64,
}

/// A request for a device.
#[derive(Debug)]
pub struct Call {
    /// Who asks: the end of the request names it.
    pub ticket: usize,
    /// What is asked.
    pub exchange: Box<dyn Exchange>,
    /// How long a (part of an) answer is waited for.
    pub timeout: Duration,
    /// Speed and frame of the line for this device; `None`: those of the link.
    pub line: Option<SerialLine>,
    /// Where it is counted.
    pub counters: Arc<DeviceCounters>,
}
