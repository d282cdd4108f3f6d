//! The slaves of Modbus on a line of the simulator: what leaves in answer to a request.

use std::time::{Duration, Instant};

use super::super::faults::{Act, Asked};
use super::super::slave::{Frame, Slave};
use super::{Conversation, Seen};
use crate::clock;
use crate::link::timing;

/// How long a simulated device thinks before it answers on a line.
const TURNAROUND: Duration = Duration::from_millis(5);
/// How long a port stays after the last byte; with it goes what nobody has read.
const LINGER: Duration = Duration::from_millis(20);

impl Conversation {
    /// Plans what leaves in answer to `request`.
    pub(super) fn answer(&mut self, request: &Frame, now: Instant) {
        let (far, silence) = (&self.far, self.silence);
        let elapsed = far.floor.elapsed(now);
        let asked =
            Asked { request, framing: far.framing, is_line: self.speed.is_some(), now: elapsed, silence };
        let mut served = Vec::new();
        let conduct = far.with(|state| {
            state.remember(Seen { unit: request.unit, subject: request.subject(), at: elapsed, silence });
            state.faults.handle(&asked, |unit| {
                let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
                let at = clock::wall();
                let reply = far.floor.with(|floor| {
                    Slave { floor, link: &far.link, elapsed_ms, at }.reply(unit, &request.pdu)
                })?;
                served = reply.served;
                Some(reply.pdu)
            })
        });
        if conduct.is_right {
            far.floor.with(|floor| floor.note(served));
        }
        // on a wire the request takes its time, and the device thinks; here the request is there at once
        let thinking = self.speed.map_or(Duration::ZERO, |speed| timing::frame_gap(&speed) + TURNAROUND);
        let start = now + self.wire_time(request.encode(far.framing).len()) + thinking;
        let mut sent = 0;
        for (after, act) in conduct.emissions {
            let linger = match &act {
                Act::Send(_) | Act::SendInTwo { .. } => Duration::ZERO,
                Act::HangUp => self.speed.map_or(Duration::ZERO, |_| LINGER),
            };
            sent += act.size();
            self.enqueue(start + after + self.wire_time(sent) + linger, act, self.speed_of(request.unit));
        }
    }
}
