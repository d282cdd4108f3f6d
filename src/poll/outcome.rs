//! What the end of a read means for the tags that it was made for. Pure.

use std::time::Duration;

use tokio_modbus::ExceptionCode;

use super::learned::Refusal;
use crate::driver::{Answer, Fault};
use crate::reading::Quality;
use crate::scan::Data;

/// How long a busy device is left alone before the same request is sent again (exception 6).
const BUSY_WAIT: Duration = Duration::from_millis(200);
/// As [`BUSY_WAIT`], for a device that has begun something long (exception 5).
const ACKNOWLEDGE_WAIT: Duration = Duration::from_millis(500);

/// What an answer, or its absence, means.
#[derive(Debug)]
pub(super) enum Outcome {
    /// All that was asked for.
    Data(Data),
    /// The device refuses these addresses: perhaps one of them only.
    Refused(Refusal),
    /// The device wants to be asked again after so long.
    Busy(Duration),
    /// The device answers, but gives no value.
    Bad(Quality),
    /// Nothing usable came: worth asking again.
    Unheard(Quality),
    /// The device answered something else: worth asking again.
    Garbled,
    /// The device cannot be reached.
    Missed(Quality),
}

impl Outcome {
    pub(super) fn of(result: Result<Answer, Fault>) -> Outcome {
        match result {
            Ok(answer @ (Answer::Response(_) | Answer::Values(_))) => {
                answer.into_data().map_or(Outcome::Bad(Quality::BadDecode), Outcome::Data)
            }
            Ok(Answer::Exception(code)) => Outcome::of_exception(code),
            Ok(Answer::Absent) => Outcome::Refused(Refusal::Address),
            Ok(Answer::Denied(quality)) => Outcome::Bad(quality),
            Ok(Answer::Unanswered) | Err(Fault::Refused(_)) => Outcome::Bad(Quality::BadConfig),
            Err(Fault::Garbled) => Outcome::Garbled,
            Err(fault) => Outcome::Unheard(quality(&fault)),
        }
    }

    fn of_exception(code: ExceptionCode) -> Outcome {
        match code {
            ExceptionCode::IllegalDataAddress => Outcome::Refused(Refusal::Address),
            ExceptionCode::IllegalDataValue => Outcome::Refused(Refusal::Quantity),
            ExceptionCode::IllegalFunction => Outcome::Bad(Quality::BadConfig),
            ExceptionCode::Acknowledge => Outcome::Busy(ACKNOWLEDGE_WAIT),
            ExceptionCode::ServerDeviceBusy => Outcome::Busy(BUSY_WAIT),
            // a gateway answers for a device that does not
            ExceptionCode::GatewayPathUnavailable | ExceptionCode::GatewayTargetDevice => {
                Outcome::Missed(Quality::BadCommLastValueKnown)
            }
            ExceptionCode::ServerDeviceFailure
            | ExceptionCode::MemoryParityError
            | ExceptionCode::Custom(_) => Outcome::Bad(Quality::BadDeviceFailure),
        }
    }
}

/// What becomes of tags whose request had no usable answer.
pub(super) fn quality(fault: &Fault) -> Quality {
    match fault {
        Fault::Silent | Fault::Checksum => Quality::BadCommLastValueKnown,
        Fault::Garbled | Fault::OutOfStep => Quality::BadDecode,
        Fault::Refused(_) => Quality::BadConfig,
        Fault::Link(_) => Quality::BadNotConnected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_exception_says_what_is_to_be_done() {
        let shown = |code| format!("{:?}", Outcome::of(Ok(Answer::Exception(ExceptionCode::new(code)))));
        for (code, expected) in [
            (1, "Bad(BadConfig)"),
            (2, "Refused(Address)"),
            (3, "Refused(Quantity)"),
            (4, "Bad(BadDeviceFailure)"),
            (5, "Busy(500ms)"),
            (6, "Busy(200ms)"),
            (8, "Bad(BadDeviceFailure)"),
            (0x0A, "Missed(BadCommLastValueKnown)"),
            (0x0B, "Missed(BadCommLastValueKnown)"),
            (0x23, "Bad(BadDeviceFailure)"),
        ] {
            assert_eq!(shown(code), expected, "exception {code:02X}");
        }
    }
}
