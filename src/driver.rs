//! Requests become frames, frames become answers: one driver a protocol.
//!
//! A request for one span of one unit goes in; what the device answered, or why there is no usable answer, comes out.
//! A driver knows no schedules, no scales and no MQTT.

pub mod client;
pub mod dlt645;
pub mod exchange;
pub mod modbus;
pub mod serial;

use tokio_modbus::{ExceptionCode, Response};

use crate::link::LinkError;
use crate::reading::Quality;
use crate::scan::{Data, Raw};

/// What a device said.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// What was asked for, all of it.
    Response(Response),
    /// "No", with the reason (Modbus V1.1b3, 7).
    Exception(ExceptionCode),
    /// The value of each tag that was asked for, in another protocol than Modbus, or why it has none.
    Values(Vec<Result<Raw, Quality>>),
    /// "There is no such thing", in another protocol than Modbus.
    Absent,
    /// "No", in another protocol than Modbus, for this reason.
    Denied(Quality),
    /// Nothing: it was sent, and nobody answers such a thing.
    Unanswered,
}

impl Answer {
    /// What was read; `None`: it is a refusal, or answers a write.
    #[must_use]
    pub fn into_data(self) -> Option<Data> {
        let response = match self {
            Answer::Response(response) => response,
            Answer::Values(values) => return Some(Data::Values(values)),
            Answer::Exception(_) | Answer::Absent | Answer::Denied(_) | Answer::Unanswered => return None,
        };
        if let Response::ReadHoldingRegisters(words) | Response::ReadInputRegisters(words) = response {
            return Some(Data::Words(words));
        }
        let (Response::ReadCoils(bits) | Response::ReadDiscreteInputs(bits)) = response else { return None };
        Some(Data::Bits(bits))
    }
}

/// Why there is no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The link is down.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Nothing that fits the request came in time.
    #[error("no answer in time")]
    Silent,
    /// The request is not allowed, and was not sent.
    #[error("not sent: {0}")]
    Refused(#[from] modbus::pdu::RequestError),
    /// The answer came with a wrong checksum.
    #[error("the answer is spoilt: wrong checksum")]
    Checksum,
    /// What comes in is no Modbus: the link is opened again.
    #[error("the stream is out of step")]
    OutOfStep,
    /// The answer to this very request came, and is not what was asked for.
    #[error("the answer is not what was asked for")]
    Garbled,
}
