//! The meters on a line of the simulator: what they hear of it, and what leaves in answer.

use std::time::{Duration, Instant};

use super::super::faults::{Act, Answer, Conduct};
use super::super::floor::{PointName, Served};
use super::super::meter;
use super::{Conversation, is_same_speed, wire_time};
use crate::clock;
use crate::config::site::SerialLine;

/// How long a meter thinks before it answers: at least 20 ms (DL/T 645-2007, 5.3.3).
const METER_TURNAROUND: Duration = Duration::from_millis(20);

/// What a meter does with a request.
#[derive(Debug)]
struct MeterAnswer {
    /// How it speaks.
    line: SerialLine,
    /// What leaves.
    conduct: Conduct,
    /// What is served with it.
    served: Vec<(PointName, Served)>,
}

impl Conversation {
    /// Takes what came in at this speed as the meters on the line hear it.
    pub(super) fn hear_as_meters(&mut self, bytes: &[u8], baud: Option<u32>, now: Instant) {
        self.meter_input.extend_from_slice(bytes);
        while let Some(request) = meter::take_frame(&mut self.meter_input) {
            // nothing of a whole frame begins a request of Modbus, which may come behind it
            self.input.clear();
            if is_same_speed(self.speed.map(|line| line.baud), baud) {
                self.input.extend_from_slice(&self.meter_input);
            }
            self.answer_as_meters(&request, baud, now);
        }
    }

    /// Plans what leaves in answer to a request of DL/T 645.
    fn answer_as_meters(&mut self, request: &meter::Frame, baud: Option<u32>, now: Instant) {
        let elapsed = self.far.floor.elapsed(now);
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let at = clock::wall();
        let link = self.far.link.clone();
        let mut answers = Vec::new();
        self.far.with(|state| {
            self.far.floor.with(|floor| {
                for meter in floor.meters_on(&link) {
                    if !is_same_speed(Some(meter.line.baud), baud) {
                        continue;
                    }
                    let Some(reply) = state.metering.reply(meter, request, elapsed_ms, at) else { continue };
                    let answer = Answer::of_meter(request, &reply.frame);
                    let conduct = state.meter_faults.handle(answer, elapsed);
                    answers.push(MeterAnswer { line: meter.line, conduct, served: reply.served });
                }
            });
        });
        if answers.len() > 1 {
            self.collide(request, &answers, now);
            return;
        }
        for MeterAnswer { line, conduct, served } in answers {
            if conduct.is_right {
                self.far.floor.with(|floor| floor.note(served));
            }
            for (after, act) in conduct.emissions {
                self.send_as_meter(request, line, after, act, now);
            }
        }
    }

    /// Plans what is heard of the answers of several meters.
    fn collide(&mut self, request: &meter::Frame, answers: &[MeterAnswer], now: Instant) {
        let sent = |answer: &MeterAnswer| match answer.conduct.emissions.first() {
            Some((_, Act::Send(bytes))) => Some(bytes.clone()),
            Some((_, Act::SendInTwo { .. } | Act::HangUp)) | None => None,
        };
        let bytes = meter::collide(&answers.iter().filter_map(sent).collect::<Vec<_>>());
        if let Some(first) = answers.first() {
            self.send_as_meter(request, first.line, Duration::ZERO, Act::Send(bytes), now);
        }
    }

    fn send_as_meter(
        &mut self,
        request: &meter::Frame,
        line: SerialLine,
        after: Duration,
        act: Act,
        now: Instant,
    ) {
        let pace = self.speed.map(|_| line);
        let size = act.size();
        let thinking = pace.map_or(Duration::ZERO, |_| METER_TURNAROUND);
        let due = now + wire_time(pace, request.encode().len() + size) + thinking + after;
        self.enqueue(due, act, pace.map(|line| line.baud));
    }
}
