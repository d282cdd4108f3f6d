//! The one task that has things written: holds requests against the rules, gives orders to the lanes, tells and records.
//!
//! Of one bus at most one command is under way; another one is refused at once, and none waits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::sleep;
use tokio_modbus::ExceptionCode;
use tracing::{error, info};

use super::allow::{Now, Rules};
use super::audit::Audit;
use super::history::Allowance;
use super::plan::{Plan, Readback};
use super::wording;
use crate::clock;
use crate::config::site::Site;
use crate::driver::Answer;
use crate::poll::lane::{Job, Lane, Lanes, Order, OrderError};
use crate::scan::Data;
use crate::tag::{DeviceId, Span, TagId};
use crate::write::{Outcome, WriteRequest, WriteResult};

/// Requests that wait for the task; whoever has one more is told that it is busy.
pub const REQUESTS: usize = 16;
/// Outcomes that an uplink may be behind; it then misses the oldest, which are in the record.
pub const OUTCOMES: usize = 64;
/// What was read right before the write counts for so long: the write is not sent later.
const CHECKED_FOR: Duration = Duration::from_secs(2);
/// How often a value that is not what was written is read again: a device may take a while.
const READBACKS: u32 = 3;
/// The pause between them.
const READBACK_PAUSE: Duration = Duration::from_millis(250);
/// A unit on a serial line that was silent is left alone for so many timeouts: the read-back waits for that.
const REST_TIMEOUTS: u32 = 4;
/// Beyond that, for other requests on the line.
const READBACK_SLACK: Duration = Duration::from_secs(1);

/// What the task needs from outside.
#[derive(Debug)]
pub struct Ports {
    /// Requests of the uplinks.
    pub from_uplinks: mpsc::Receiver<WriteRequest>,
    /// Requests of people at the machine.
    pub from_here: mpsc::Receiver<Asked>,
    /// Where orders go.
    pub lanes: Lanes,
    /// Where outcomes go.
    pub outcomes: broadcast::Sender<Arc<Outcome>>,
}

/// A request whose sender waits for the outcome.
#[derive(Debug)]
pub struct Asked {
    /// What is wanted.
    pub request: WriteRequest,
    /// Who is told.
    pub reply: oneshot::Sender<Arc<Outcome>>,
}

/// Has things written.
#[derive(Debug)]
pub struct Task {
    site: Arc<Site>,
    rules: Rules,
    ports: Ports,
    audit: Audit,
    allowance: Allowance,
    works: JoinSet<Finished>,
    /// What each of them is about.
    busy: BTreeMap<Id, (usize, TagId)>,
}

/// One command under way.
#[derive(Debug)]
struct Work {
    site: Arc<Site>,
    plan: Plan,
    request: WriteRequest,
    lanes: BTreeMap<DeviceId, Lane>,
    audit: Audit,
}

type Reply = Option<oneshot::Sender<Arc<Outcome>>>;

/// A command that has come to its end.
#[derive(Debug)]
struct Finished {
    request: WriteRequest,
    result: WriteResult,
    reason: String,
    reply: Reply,
}

enum Woken {
    Stop,
    Ended(Result<(Id, Finished), JoinError>),
    Asked(WriteRequest, Reply),
}

impl Task {
    /// The task of `site`.
    #[must_use]
    pub fn new(site: &Arc<Site>, ports: Ports) -> Task {
        Task {
            site: site.clone(),
            rules: Rules::new(site.clone()),
            ports,
            audit: Audit::new(&site.gateway.state_dir),
            allowance: Allowance::new(clock::monotonic()),
            works: JoinSet::new(),
            busy: BTreeMap::new(),
        }
    }

    /// Serves until it is told to stop; what is under way comes to its end.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            // every arm may be dropped at any time: recv, join_next and wait_for are cancel-safe
            let woken = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => Woken::Stop,
                Some(ended) = self.works.join_next_with_id() => Woken::Ended(ended),
                Some(asked) = self.ports.from_here.recv() => Woken::Asked(asked.request, Some(asked.reply)),
                Some(request) = self.ports.from_uplinks.recv() => Woken::Asked(request, None),
            };
            match woken {
                Woken::Stop => break,
                Woken::Ended(ended) => self.finish(ended).await,
                Woken::Asked(request, reply) => self.take(request, reply).await,
            }
        }
        while let Some(ended) = self.works.join_next_with_id().await {
            self.finish(ended).await;
        }
    }

    async fn take(&mut self, request: WriteRequest, reply: Reply) {
        let lanes = self.ports.lanes.borrow().clone();
        let busy: BTreeSet<usize> = self.busy.values().map(|(bus, _)| *bus).collect();
        let bus_of = |device| lanes.get(&device).map(|lane| lane.bus);
        let now = Now { at: clock::monotonic(), wall: clock::wall(), is_clock_trusted: clock::is_trusted() };
        let is_busy = |device| bus_of(device).is_some_and(|bus| busy.contains(&bus));
        match self.rules.admit(&request, |device| is_busy(device.id), now) {
            Err(reason) => {
                self.tell(Finished { request, result: WriteResult::Refused, reason, reply }).await;
            }
            Ok(plan) => {
                let about = (bus_of(plan.device).unwrap_or(usize::MAX), plan.tag);
                let (site, audit) = (self.site.clone(), self.audit.clone());
                let work = Work { site, plan, request, lanes, audit };
                let id = self.works.spawn(work.run(reply)).id();
                self.busy.insert(id, about);
            }
        }
    }

    async fn finish(&mut self, ended: Result<(Id, Finished), JoinError>) {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let about = self.busy.remove(&id);
        match ended {
            Ok((_, finished)) => {
                if let (WriteResult::Refused, Some((_, tag))) = (finished.result, about) {
                    self.rules.history.forget_write(tag);
                }
                self.tell(finished).await;
            }
            Err(error) => error!(%error, "a command has failed within; what became of it is not known"),
        }
    }

    /// Tells whoever waits, the uplinks and the record.
    async fn tell(&mut self, finished: Finished) {
        let Finished { request, result, reason, reply } = finished;
        let outcome = request.outcome(result, reason, clock::wall());
        info!(
            device = outcome.device,
            tag = outcome.tag,
            result = result.word(),
            reason = outcome.reason,
            "command"
        );
        let is_sure = result != WriteResult::Refused;
        if is_sure || self.allowance.take(clock::monotonic()) {
            let record = wording::outcome_record(&outcome, self.allowance.unrecorded);
            match self.audit.append(record, is_sure).await {
                Ok(()) => self.allowance.unrecorded = 0,
                Err(error) => error!(%error, id = outcome.id, "not recorded: is state_dir writable?"),
            }
        }
        let outcome = Arc::new(outcome);
        self.ports.outcomes.send(outcome.clone()).ok(); // no uplink is left
        if let Some(reply) = reply {
            reply.send(outcome).ok(); // gone meanwhile
        }
    }
}

impl Work {
    async fn run(self, reply: Reply) -> Finished {
        let (result, reason) = self.perform().await;
        Finished { request: self.request, result, reason, reply }
    }

    async fn perform(&self) -> (WriteResult, String) {
        let checked_at = clock::monotonic();
        if let Err(reason) = self.check().await {
            return (WriteResult::Refused, reason);
        }
        let record = wording::wanted_record(&self.request, clock::wall());
        if let Err(error) = self.audit.append(record, true).await {
            let reason = format!("it could not be recorded, so it was not written: audit.log: {error}");
            return (WriteResult::Refused, reason);
        }
        match self.order(self.plan.device, self.plan.job.clone(), self.send_by(checked_at), false).await {
            Ok(Answer::Response(_)) => self.read_back(None).await,
            // it may be done later, or have been done behind another gateway
            Ok(Answer::Exception(
                code @ (ExceptionCode::Acknowledge | ExceptionCode::GatewayTargetDevice),
            )) => self.read_back(Some(wording::exception(code))).await,
            Ok(Answer::Exception(code)) => (WriteResult::Failed, wording::exception(code)),
            Err(unclear @ OrderError::Unclear(_)) => self.read_back(Some(unclear.to_string())).await,
            Err(unsent) => (WriteResult::Refused, unsent.to_string()),
        }
    }

    /// The last moment for the write, if the first check began then.
    fn send_by(&self, checked_at: Instant) -> Instant {
        if self.plan.checks.is_empty() {
            return self.plan.send_by;
        }
        self.plan.send_by.min(checked_at + CHECKED_FOR * u32::try_from(self.plan.checks.len()).unwrap_or(1))
    }

    /// What must hold right before.
    async fn check(&self) -> Result<(), String> {
        for check in &self.plan.checks {
            let data = self.read(check.device, check.layout.span, self.plan.send_by, false).await?;
            check.judge(&data)?;
        }
        Ok(())
    }

    /// Whether the device has what was written; `doubt` says why its answer to the write proves nothing.
    async fn read_back(&self, doubt: Option<String>) -> (WriteResult, String) {
        let Some(readback) = &self.plan.readback else {
            return doubt.map_or((WriteResult::Done, String::new()), |doubt| (WriteResult::Unclear, doubt));
        };
        let mut seen = Err(String::new());
        for attempt in 0..READBACKS {
            if attempt > 0 {
                sleep(READBACK_PAUSE).await;
            }
            seen = self.look(readback).await;
            if seen == Ok(None) {
                return (WriteResult::Done, String::new());
            }
        }
        let before = doubt.map_or_else(String::new, |doubt| format!("{doubt}; "));
        match seen {
            Ok(shown) => {
                let shown = shown.unwrap_or_default();
                (WriteResult::Failed, format!("{before}the device has {shown} and not what was written"))
            }
            Err(why) => (WriteResult::Unclear, format!("{before}it cannot be read back: {why}")),
        }
    }

    /// What the device has in place of what was written; `None` where it has that.
    async fn look(&self, readback: &Readback) -> Result<Option<String>, String> {
        let device = self.site.devices.get(readback.device.index());
        let timeout = device.map_or(Duration::ZERO, |device| device.timeout);
        let not_after = clock::monotonic() + timeout * REST_TIMEOUTS + READBACK_SLACK;
        let data = self.read(readback.device, readback.layout.span, not_after, true).await?;
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
        match self.order(device, Job::Read(span), not_after, is_patient).await {
            Ok(answer) => wording::data(answer).map_err(|no| format!("`{name}` {span}: {no}")),
            Err(OrderError::Unclear(time)) => Err(format!("`{name}` {span}: no answer within {time:?}")),
            Err(error) => Err(format!("`{name}` {span}: {error}")),
        }
    }

    /// Gives an order and waits for its end.
    async fn order(
        &self,
        device: DeviceId,
        job: Job,
        not_after: Instant,
        is_patient: bool,
    ) -> Result<Answer, OrderError> {
        let is_write = job.is_write();
        let lane = self.lanes.get(&device).ok_or(OrderError::Impossible)?;
        let (outcome, told) = oneshot::channel();
        let order = Order { device, job, not_after, is_patient, outcome };
        lane.orders.try_send(order).map_err(|_| OrderError::TooLate)?;
        // a bus that has failed takes its orders with it, sent or not
        told.await.unwrap_or(Err(if is_write {
            OrderError::Unclear(Duration::ZERO)
        } else {
            OrderError::Down
        }))
    }
}
