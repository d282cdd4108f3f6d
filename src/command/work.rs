//! One command under way: recorded, what must hold is read, the write is sent once, and what it did is read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::sleep;
use tokio_modbus::ExceptionCode;

use super::audit::Audit;
use super::plan::{Check, Plan, Readback};
use super::wording;
use crate::clock;
use crate::config::site::Site;
use crate::driver::Answer;
use crate::poll::lane::{Job, Lane, Order, OrderError};
use crate::scan::Data;
use crate::tag::{DeviceId, Span, TagId};
use crate::write::{WriteRequest, WriteResult};

/// How often a value that is not what was written is read again: a device may take a while.
const READBACKS: u32 = 3;
/// The pause between them.
const READBACK_PAUSE: Duration = Duration::from_millis(250);
/// A unit on a serial line that was silent is left alone for so many timeouts: the read-back waits for that.
const REST_TIMEOUTS: u32 = 4;
/// Beyond that, for other requests on the line.
const READBACK_SLACK: Duration = Duration::from_secs(1);

/// One command under way.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) site: Arc<Site>,
    pub(super) plan: Plan,
    pub(super) request: WriteRequest,
    pub(super) lanes: BTreeMap<DeviceId, Lane>,
    pub(super) audit: Audit,
    /// So much was refused that nothing is recorded before it is clear that it would be sent.
    pub(super) is_flooded: bool,
}

/// What became of it.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) result: WriteResult,
    /// Why, in words; empty where it was done.
    pub(super) reason: String,
    /// Other tags that the reason tells something of.
    pub(super) about: Vec<TagId>,
    /// When the write had been sent and was answered or given up; `None`: it was not sent.
    pub(super) sent_at: Option<Instant>,
    /// That it was wanted is in the record already.
    pub(super) is_recorded: bool,
}

/// Why it is not sent, and the tags that the reason tells something of.
type Refusal = (String, Vec<TagId>);

impl Verdict {
    /// Nothing was sent.
    pub(super) fn refused(reason: impl Into<String>) -> Verdict {
        let (result, reason) = (WriteResult::Refused, reason.into());
        Verdict { result, reason, about: Vec::new(), sent_at: None, is_recorded: false }
    }

    pub(super) fn told(result: WriteResult, reason: impl Into<String>) -> Verdict {
        Verdict { result, ..Verdict::refused(reason) }
    }
}

impl Work {
    pub(super) async fn perform(&self) -> Verdict {
        if self.is_flooded
            && let Err((reason, about)) = self.check().await
        {
            return Verdict { about, ..Verdict::refused(reason) };
        }
        // before the checks: flash may stall for seconds, and what was read must not grow old meanwhile
        let record = wording::wanted_record(&self.request, clock::wall());
        if let Err(error) = self.audit.append(record, true).await {
            let reason = format!("it could not be recorded, so it was not written: audit.log: {error}");
            return Verdict::refused(reason);
        }
        Verdict { is_recorded: true, ..self.write().await }
    }

    async fn write(&self) -> Verdict {
        let valid_until = match self.check().await {
            Ok(valid_until) => valid_until,
            Err((reason, about)) => {
                return Verdict { about, ..Verdict::refused(reason) };
            }
        };
        let answer = order(&self.lanes, self.plan.device, self.plan.job.clone(), valid_until, false).await;
        let sent_at = Some(clock::monotonic());
        let verdict = match answer {
            Ok(Answer::Response(_)) => self.read_back(None).await,
            // it may be done later, or have been done behind another gateway
            Ok(Answer::Exception(
                code @ (ExceptionCode::Acknowledge | ExceptionCode::GatewayTargetDevice),
            )) => self.read_back(Some(wording::exception(code))).await,
            Ok(Answer::Exception(code)) => Verdict::told(WriteResult::Failed, wording::exception(code)),
            // nothing is written in other protocols than Modbus
            Ok(Answer::Values(_) | Answer::Absent | Answer::Denied(_) | Answer::Unanswered) => {
                Verdict::told(WriteResult::Failed, "it answers something else")
            }
            Err(unclear @ OrderError::Unclear(_)) => self.read_back(Some(unclear.to_string())).await,
            Err(unsent) => return Verdict::refused(unsent.to_string()),
        };
        Verdict { sent_at, ..verdict }
    }

    /// What must hold right before; until when it counts.
    async fn check(&self) -> Result<Instant, Refusal> {
        let valid_until = self.plan.valid_until(&self.site, clock::monotonic());
        let mut is_known = Ok(());
        for checks in &self.plan.variants {
            let holds = self.hold(checks, valid_until).await;
            if holds.is_ok() {
                is_known = Ok(());
                break;
            }
            is_known = is_known.and(holds); // the first says what its type should be
        }
        is_known?;
        self.hold(&self.plan.checks, valid_until).await?;
        Ok(valid_until)
    }

    /// Whether all of these hold.
    async fn hold(&self, checks: &[Check], valid_until: Instant) -> Result<(), Refusal> {
        for check in checks {
            let mut answers = Vec::with_capacity(check.reads.len());
            for (device, span) in &check.reads {
                let data = self.read(*device, *span, valid_until, false).await;
                answers.push(data.map_err(|reason| (reason, check.about()))?);
            }
            check.judge(&self.site, &answers).map_err(|reason| (reason, check.about()))?;
        }
        Ok(())
    }

    /// Whether the device has what was written; `doubt` says why its answer to the write proves nothing. What was not
    /// answered may still be done after each look: that another value is there does not prove that it failed.
    async fn read_back(&self, doubt: Option<String>) -> Verdict {
        let Some(readback) = &self.plan.readback else {
            let result = if doubt.is_some() { WriteResult::Unclear } else { WriteResult::Done };
            return Verdict::told(result, doubt.unwrap_or_default());
        };
        let mut seen = Err(String::new());
        for attempt in 0..READBACKS {
            if attempt > 0 {
                sleep(READBACK_PAUSE).await;
            }
            seen = self.look(readback).await;
            if seen == Ok(None) {
                return Verdict::told(WriteResult::Done, "");
            }
        }
        let verdict = match (seen, doubt) {
            (Ok(shown), None) => {
                let shown = shown.unwrap_or_default();
                Verdict::told(WriteResult::Failed, format!("the device has {shown} and not what was written"))
            }
            (Ok(shown), Some(doubt)) => {
                let shown = shown.unwrap_or_default();
                Verdict::told(WriteResult::Unclear, format!("{doubt}; the device has {shown} so far"))
            }
            (Err(why), doubt) => {
                let before = doubt.map_or_else(String::new, |doubt| format!("{doubt}; "));
                Verdict::told(WriteResult::Unclear, format!("{before}it cannot be read back: {why}"))
            }
        };
        let other = Some(readback.tag).filter(|tag| *tag != self.plan.tag);
        Verdict { about: other.into_iter().collect(), ..verdict }
    }

    /// What the device has in place of what was written; `None` where it has that.
    async fn look(&self, readback: &Readback) -> Result<Option<String>, String> {
        let device = self.site.devices.get(readback.device.index());
        let timeout = device.map_or(Duration::ZERO, |device| device.timeout);
        let not_after = clock::monotonic() + timeout * REST_TIMEOUTS + READBACK_SLACK;
        let data = self.read(readback.device, readback.registers.layout.span, not_after, true).await?;
        Ok(readback.judge(&data).err())
    }

    async fn read(
        &self,
        device: DeviceId,
        span: Span,
        not_after: Instant,
        is_patient: bool,
    ) -> Result<Data, String> {
        let name = self.site.devices.get(device.index()).map_or("", |device| &*device.name);
        match order(&self.lanes, device, Job::Read(span), not_after, is_patient).await {
            Ok(answer) => wording::data(answer).map_err(|no| format!("`{name}` {span}: {no}")),
            Err(OrderError::Unclear(time)) => Err(format!("`{name}` {span}: no answer within {time:?}")),
            Err(error) => Err(format!("`{name}` {span}: {error}")),
        }
    }
}

/// Gives an order and waits for its end.
pub(super) async fn order(
    lanes: &BTreeMap<DeviceId, Lane>,
    device: DeviceId,
    job: Job,
    not_after: Instant,
    is_patient: bool,
) -> Result<Answer, OrderError> {
    let is_write = job.is_write();
    let lane = lanes.get(&device).ok_or(OrderError::Impossible)?;
    let (outcome, told) = oneshot::channel();
    let order = Order { device, job, not_after, is_patient, outcome };
    lane.orders.try_send(order).map_err(|_| OrderError::TooLate)?;
    // a bus that has failed takes its orders with it, sent or not
    told.await.unwrap_or(Err(if is_write { OrderError::Unclear(Duration::ZERO) } else { OrderError::Down }))
}
