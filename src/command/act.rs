//! One order about an alarm under way: recorded, given to the normaliser, and what it says is told.
//!
//! No bus is touched. One is under way at a time and the others wait in the order in which they came, so that what is taken
//! back last is back.

use tokio::sync::{mpsc, oneshot};

use super::alarm::AlarmOrder;
use super::audit::Audit;
use super::wording;
use super::work::Verdict;
use crate::clock;
use crate::normalize::task::{Acted, Order};
use crate::write::{Requester, WriteRequest, WriteResult};

/// One order under way.
#[derive(Debug)]
pub(super) struct Errand {
    pub(super) order: AlarmOrder,
    pub(super) request: WriteRequest,
    /// `None`: no gateway runs.
    pub(super) alarms: Option<mpsc::Sender<Order>>,
    pub(super) audit: Audit,
    /// So much was refused that nothing is recorded before it is clear that it could be done.
    pub(super) is_flooded: bool,
}

impl Errand {
    pub(super) async fn perform(&self) -> Verdict {
        if self.is_flooded
            && let Acted::Refused(reason) = self.order(true).await
        {
            return Verdict::refused(reason);
        }
        let record = wording::wanted_record(&self.request, clock::wall());
        if let Err(error) = self.audit.append(record, true).await {
            return Verdict::refused(format!(
                "it could not be recorded, so it was not done: audit.log: {error}"
            ));
        }
        let verdict = match self.order(false).await {
            Acted::Kept => Verdict::told(WriteResult::Done, ""),
            Acted::NotKept(why) => {
                let reason =
                    format!("a restart of the gateway forgets it: it could not be written down: {why}");
                Verdict::told(WriteResult::Done, reason)
            }
            Acted::Refused(reason) => Verdict::refused(reason),
        };
        Verdict { is_recorded: true, ..verdict }
    }

    /// Gives the order and waits for its end.
    async fn order(&self, is_trial: bool) -> Acted {
        let refused = |reason: &str| Acted::Refused(reason.to_owned());
        let Some(alarms) = &self.alarms else {
            return refused("no gateway is running: only a running one has alarms");
        };
        let (reply, told) = oneshot::channel();
        let who = match &self.request.by {
            Requester::Uplink(name) => name.to_string(),
            Requester::Local(name) => name.clone(),
        };
        let AlarmOrder { device, alarm, act, not_after, .. } = self.order.clone();
        let order = Order { device, alarm, act, who, not_after, is_trial, reply };
        if alarms.send(order).await.is_err() {
            return refused("the gateway is ending");
        }
        told.await.unwrap_or_else(|_| refused("the gateway is ending"))
    }
}
