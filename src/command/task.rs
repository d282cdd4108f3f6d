//! The one task that has things written: holds requests against the rules, gives orders to the lanes, tells and records.
//!
//! Of one bus at most one command is under way; another one is refused at once, and none waits. Orders about alarms touch no
//! bus: they are carried out one after the other, in the order in which they came.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tracing::{error, info};

use super::act::Errand;
use super::alarm::AlarmOrder;
use super::allow::{Admitted, Now, Rules};
use super::audit::Audit;
use super::broadcast::Broadcast;
use super::daily::{self, PATIENCE, Told};
use super::history::Allowance;
use super::plan::Plan;
use super::wording;
use super::work::{Verdict, Work};
use crate::clock;
use crate::config::site::Site;
use crate::normalize::task::Order;
use crate::poll::lane::{Lane, Lanes};
use crate::tag::{DeviceId, TagId};
use crate::write::{Outcome, Received, WriteRequest, WriteResult};

/// Requests that wait for the task; whoever has one more is told that it is busy.
pub const REQUESTS: usize = 16;
/// Outcomes that an uplink may be behind; it then misses the oldest, which are in the record.
pub const OUTCOMES: usize = 64;
/// Orders about alarms that wait for the one under way; whoever has one more is told that it is busy.
const ERRANDS: usize = 16;
/// Between two looks whether meters are to be told the time.
const LOOK: Duration = Duration::from_secs(1);
/// The records of a command that is refused once it has been recorded take about so many bytes beside its id.
const PAIR: usize = 512;
/// What is told of a request that still waits when the gateway ends.
const ENDING: &str = "the gateway is ending";
/// What is told of a request whose sender does not wait for it.
const GONE: &str = "whoever asked has gone";

/// What the task needs from outside.
#[derive(Debug)]
pub struct Ports {
    /// Requests of the uplinks.
    pub from_uplinks: mpsc::Receiver<Received>,
    /// Requests of people at the machine.
    pub from_here: mpsc::Receiver<Asked>,
    /// Where orders go.
    pub lanes: Lanes,
    /// Where orders about alarms go; `None`: there are none, for no gateway runs.
    pub alarms: Option<mpsc::Sender<Order>>,
    /// Where outcomes go.
    pub outcomes: broadcast::Sender<Arc<Outcome>>,
}

/// A request whose sender waits for the outcome.
#[derive(Debug)]
pub struct Asked {
    /// What is wanted.
    pub received: Received,
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
    /// What is under way; of a broadcast there is nothing to tell at its end.
    works: JoinSet<Option<Finished>>,
    /// The buses that each of them speaks on, and the tag that it writes.
    busy: BTreeMap<Id, (BTreeSet<usize>, Option<TagId>)>,
    /// The links whose meters are told the time.
    told: Vec<Told>,
    /// When it is looked next whether they are to be; `None`: none are.
    look_at: Option<Instant>,
    /// Orders about alarms that have not begun.
    errands: VecDeque<(AlarmOrder, WriteRequest, Reply)>,
    /// The one that has.
    errand: Option<Id>,
}

type Reply = Option<oneshot::Sender<Arc<Outcome>>>;

/// A command that has come to its end, and who waits for it.
type Finished = (WriteRequest, Verdict, Reply);

enum Woken {
    Stop,
    Ended(Result<(Id, Option<Finished>), JoinError>),
    Look,
    Asked(Received, Reply),
}

impl Task {
    /// The task of `site`.
    #[must_use]
    pub fn new(site: &Arc<Site>, ports: Ports) -> Task {
        // what writes one value while no gateway runs tells no time
        let told = if ports.alarms.is_some() { daily::told(site) } else { Vec::new() };
        Task {
            look_at: (!told.is_empty()).then(clock::monotonic),
            told,
            site: site.clone(),
            rules: Rules::new(site.clone()),
            ports,
            audit: Audit::new(&site.gateway.state_dir),
            allowance: Allowance::new(clock::monotonic()),
            works: JoinSet::new(),
            busy: BTreeMap::new(),
            errands: VecDeque::new(),
            errand: None,
        }
    }

    /// Serves until it is told to stop; what is under way comes to its end.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            let look_at = self.look_at;
            // every arm may be dropped at any time: recv, join_next, wait_for and sleep_until are cancel-safe
            let woken = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => Woken::Stop,
                Some(ended) = self.works.join_next_with_id() => Woken::Ended(ended),
                () = clock::until(look_at) => Woken::Look,
                Some(asked) = self.ports.from_here.recv() => Woken::Asked(asked.received, Some(asked.reply)),
                Some(received) = self.ports.from_uplinks.recv() => Woken::Asked(received, None),
            };
            match woken {
                Woken::Stop => break,
                Woken::Ended(ended) => self.finish(ended).await,
                Woken::Look => self.look(),
                Woken::Asked(received, reply) => self.take(received, reply).await,
            }
        }
        self.refuse_waiting().await;
        while let Some(ended) = self.works.join_next_with_id().await {
            self.finish(ended).await;
        }
    }

    /// Nothing that waits is begun any more.
    async fn refuse_waiting(&mut self) {
        self.ports.from_here.close();
        self.ports.from_uplinks.close();
        while let Some((_, request, reply)) = self.errands.pop_front() {
            self.tell((request, Verdict::refused(ENDING), reply)).await;
        }
        while let Ok(asked) = self.ports.from_here.try_recv() {
            self.tell((asked.received.request, Verdict::refused(ENDING), Some(asked.reply))).await;
        }
        while let Ok(received) = self.ports.from_uplinks.try_recv() {
            self.tell((received.request, Verdict::refused(ENDING), None)).await;
        }
    }

    async fn take(&mut self, received: Received, reply: Reply) {
        let Received { request, at: received } = received;
        let lanes = self.ports.lanes.borrow().clone();
        let bus_of = |device: DeviceId| lanes.get(&device).map(|lane| lane.bus);
        let busy: BTreeSet<usize> = self.busy.values().flat_map(|(buses, _)| buses).copied().collect();
        let is_busy = |device| bus_of(device).is_some_and(|bus| busy.contains(&bus));
        let (at, wall) = (clock::monotonic(), clock::wall());
        let now = Now { at, received, wall, is_clock_trusted: clock::is_trusted() };
        let admitted =
            if is_gone(&reply) { Err(GONE.to_owned()) } else { self.rules.admit(&request, is_busy, now) };
        match admitted {
            Err(reason) => self.tell((request, Verdict::refused(reason), reply)).await,
            Ok(Admitted::Write(plan)) => self.begin(plan, request, reply, lanes),
            Ok(Admitted::Alarm(_)) if self.errands.len() >= ERRANDS => {
                self.tell((request, Verdict::refused("busy: too many commands wait"), reply)).await;
            }
            Ok(Admitted::Alarm(order)) => {
                self.errands.push_back((order, request, reply));
                self.begin_errand().await;
            }
        }
    }

    /// Begins to write.
    fn begin(&mut self, plan: Plan, request: WriteRequest, reply: Reply, lanes: BTreeMap<DeviceId, Lane>) {
        let bus_of = |device: DeviceId| lanes.get(&device).map(|lane| lane.bus);
        let about = (plan.devices().into_iter().filter_map(bus_of).collect(), Some(plan.tag));
        let is_flooded = !self.allowance.has_room(request.id.len() + PAIR, clock::monotonic());
        let (site, audit) = (self.site.clone(), self.audit.clone());
        let work = Work { site, plan, request, lanes, audit, is_flooded };
        let id = self
            .works
            .spawn(async move {
                let verdict = work.perform().await;
                Some((work.request, verdict, reply))
            })
            .id();
        self.busy.insert(id, about);
    }

    /// Tells the meters the time where that is due.
    fn look(&mut self) {
        let (at, now, is_trusted) = (clock::monotonic(), clock::of_system(), clock::is_trusted());
        self.look_at = Some(at + LOOK);
        let lanes = self.ports.lanes.borrow().clone();
        let named = |id: &DeviceId| Some((*id, self.site.devices.get(id.index())?.name.clone()));
        for told in &mut self.told {
            let Some((day, due)) = told.daily.look(now, is_trusted, &self.site.calendar) else { continue };
            for devices in told.streams.iter().filter(|devices| !devices.is_empty()) {
                let broadcast = Broadcast {
                    link: told.link.clone(),
                    time: told.time.clone(),
                    zone: self.site.calendar.zone.clone(),
                    day,
                    due,
                    devices: devices.iter().filter_map(named).collect(),
                    not_after: at + PATIENCE,
                    lanes: lanes.clone(),
                    audit: self.audit.clone(),
                };
                let id = self.works.spawn(async move {
                    broadcast.perform().await;
                    None
                });
                let buses = devices.iter().filter_map(|device| Some(lanes.get(device)?.bus)).collect();
                self.busy.insert(id.id(), (buses, None));
            }
        }
    }

    /// Begins with the next order about an alarm, unless one is under way.
    async fn begin_errand(&mut self) {
        while self.errand.is_none()
            && let Some((order, request, reply)) = self.errands.pop_front()
        {
            if is_gone(&reply) {
                self.tell((request, Verdict::refused(GONE), reply)).await;
                continue;
            }
            let is_flooded = !self.allowance.has_room(request.id.len() + PAIR, clock::monotonic());
            let (alarms, audit) = (self.ports.alarms.clone(), self.audit.clone());
            let errand = Errand { order, request, alarms, audit, is_flooded };
            let id = self
                .works
                .spawn(async move {
                    let verdict = errand.perform().await;
                    Some((errand.request, verdict, reply))
                })
                .id();
            self.errand = Some(id);
        }
    }

    async fn finish(&mut self, ended: Result<(Id, Option<Finished>), JoinError>) {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        self.errand.take_if(|errand| *errand == id);
        let tag = self.busy.remove(&id).and_then(|(_, tag)| tag);
        // of one that has failed within it is not known: it may have been written
        let written_at = match &ended {
            Ok((_, finished)) => finished.as_ref().and_then(|(_, verdict, _)| verdict.sent_at),
            Err(_) => Some(clock::monotonic()),
        };
        if let (Some(tag), Some(at)) = (tag, written_at) {
            self.rules.history.note_write(tag, at);
        }
        match ended {
            Ok((_, Some(finished))) => self.tell(finished).await,
            Ok((_, None)) => {}
            Err(error) => error!(%error, "a command has failed within; what became of it is not known"),
        }
        self.begin_errand().await;
    }

    /// Tells whoever waits, the uplinks and the record.
    async fn tell(&mut self, (request, verdict, reply): Finished) {
        let Verdict { result, reason, about, is_recorded, .. } = verdict;
        let outcome = Outcome { about, ..request.outcome(result, reason, clock::wall()) };
        info!(
            device = outcome.device,
            tag = outcome.tag,
            result = result.word(),
            reason = outcome.reason,
            "command"
        );
        let record = wording::outcome_record(&outcome, self.allowance.unrecorded);
        if self.is_to_record(result, is_recorded, record.len()) {
            match self.audit.append(record, result != WriteResult::Refused).await {
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

    /// What was sent always is, and what has been recorded as wanted gets its sequel; other refusals within measure.
    fn is_to_record(&mut self, result: WriteResult, is_wanted_recorded: bool, size: usize) -> bool {
        let now = clock::monotonic();
        if result == WriteResult::Refused && !is_wanted_recorded {
            return self.allowance.take(size, now);
        }
        if result == WriteResult::Refused {
            self.allowance.spend(size * 2, now); // both records
        }
        true
    }
}

/// Whether somebody who waited does so no more.
fn is_gone(reply: &Reply) -> bool {
    reply.as_ref().is_some_and(oneshot::Sender::is_closed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::socket::local_request;
    use crate::config;
    use crate::normalize::task::Acted;
    use crate::poll::lane;

    const CONFIGURATION: &str = r#"
        [gateway]
        name = "n"
        enterprise = "e"
        [uplink.u]
        broker = "mqtt://127.0.0.1"
        [commands]
        enabled = true
        [link.l]
        tcp = "127.0.0.1:502"
        [device.d]
        link = "l"
        tags = [{ name = "sp", at = "hr:0", write = {} }]
        alarm = { hot = { when = "sp", above = 5 } }
        "#;

    /// Orders about alarms that the normaliser has not taken.
    const ALARMS: usize = 4;

    struct Bench {
        task: Task,
        site: Arc<Site>,
        uplinks: mpsc::Sender<Received>,
        here: mpsc::Sender<Asked>,
        /// What the normaliser would be told.
        alarms: mpsc::Receiver<Order>,
        outcomes: broadcast::Receiver<Arc<Outcome>>,
        folder: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Bench {
            let folder = tempfile::tempdir().unwrap();
            let mut site = config::parse("test.toml", CONFIGURATION).site.unwrap();
            site.gateway.state_dir = folder.path().to_owned();
            let site = Arc::new(site);
            let (ordering, alarms) = mpsc::channel(ALARMS);
            let (uplinks, from_uplinks) = mpsc::channel(REQUESTS);
            let (here, from_here) = mpsc::channel(REQUESTS);
            let (outcomes, told) = broadcast::channel(OUTCOMES);
            let lanes = watch::channel(BTreeMap::new()).1;
            let task =
                Task::new(&site, Ports { from_uplinks, from_here, lanes, alarms: Some(ordering), outcomes });
            Bench { task, site, uplinks, here, alarms, outcomes: told, folder }
        }

        fn request(&self) -> Received {
            let request = local_request(&self.site, "d", "sp", "5", "root".to_owned()).unwrap();
            Received { request, at: clock::monotonic() }
        }

        /// Somebody shelves the alarm for this time.
        async fn shelve(&mut self, time: &str) {
            let wanted = format!("hot {time}");
            let request =
                local_request(&self.site, "d", "Device Control/Shelve", &wanted, "li".to_owned()).unwrap();
            self.task.take(Received { request, at: clock::monotonic() }, None).await;
        }

        /// The next work comes to its end.
        async fn end_one(&mut self) {
            let ended = self.task.works.join_next_with_id().await.unwrap();
            self.task.finish(ended).await;
        }

        /// What was asked for, the result and the reason of the next outcome.
        fn told(&mut self) -> String {
            let outcome = self.outcomes.try_recv().unwrap();
            let value = outcome.value.as_ref().map(ToString::to_string).unwrap_or_default();
            format!("{value}: {} {}", outcome.result.word(), outcome.reason)
        }

        fn events(&self) -> Vec<String> {
            let text = std::fs::read_to_string(self.folder.path().join("audit.log")).unwrap_or_default();
            let event = |line: &str| {
                let record: serde_json::Value = serde_json::from_str(line).unwrap();
                format!("{} {}", record["value"].as_str().unwrap(), record["event"].as_str().unwrap())
            };
            text.lines().map(event).collect()
        }
    }

    #[tokio::test]
    async fn what_waits_when_the_gateway_ends_is_told_so_and_recorded() {
        let mut bench = Bench::new();
        let path = bench.site.gateway.state_dir.join("audit.log");
        bench.uplinks.try_send(bench.request()).unwrap();
        let (reply, told) = oneshot::channel();
        bench.here.try_send(Asked { received: bench.request(), reply }).unwrap();
        let (_stop, stopped) = watch::channel(true);
        bench.task.run(stopped).await;
        assert_eq!(told.await.unwrap().reason, "the gateway is ending");
        for _ in 0..2 {
            let outcome = bench.outcomes.recv().await.unwrap();
            assert_eq!(
                (outcome.result, outcome.reason.as_str()),
                (WriteResult::Refused, "the gateway is ending")
            );
        }
        assert!(bench.uplinks.is_closed() && bench.here.is_closed());
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text.matches("the gateway is ending").count(), 2, "{text}");
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_not_begun() {
        let mut bench = Bench::new();
        let (reply, told) = oneshot::channel();
        drop(told);
        let received = bench.request();
        bench.task.take(received, Some(reply)).await;
        assert!(bench.task.busy.is_empty());
        assert_eq!(bench.outcomes.recv().await.unwrap().reason, "whoever asked has gone");
        let (reply, _told) = oneshot::channel();
        let received = bench.request();
        bench.task.take(received, Some(reply)).await;
        assert_eq!(bench.task.busy.len(), 1);
    }

    #[tokio::test]
    async fn orders_about_alarms_are_given_one_after_the_other_in_the_order_in_which_they_came() {
        use crate::normalize::alarm::run::Act;
        let mut bench = Bench::new();
        for time in ["1m", "2m", "0s"] {
            bench.shelve(time).await;
        }
        assert!(bench.task.busy.is_empty(), "no line is");
        let minute = std::time::Duration::from_secs(60);
        let acts = [Act::Shelve(minute), Act::Shelve(2 * minute), Act::Unshelve];
        let ends = [
            (Acted::Kept, "hot 1m: done "),
            (
                Acted::NotKept("full".to_owned()),
                "hot 2m: done a restart of the gateway forgets it: it could not be written down: full",
            ),
            (Acted::Refused("no".to_owned()), "hot 0s: refused no"),
        ];
        for (act, (acted, told)) in acts.into_iter().zip(ends) {
            let order = bench.alarms.recv().await.unwrap();
            assert_eq!((order.act, &*order.alarm, order.who.as_str()), (act, "hot", "li"));
            assert!(!order.is_trial && bench.alarms.try_recv().is_err(), "one at a time");
            order.reply.send(acted).unwrap();
            bench.end_one().await;
            assert_eq!(bench.told(), told);
        }
        let events = [
            "hot 1m wanted",
            "hot 1m done",
            "hot 2m wanted",
            "hot 2m done",
            "hot 0s wanted",
            "hot 0s refused",
        ];
        assert_eq!(bench.events(), events);
    }

    #[tokio::test]
    async fn so_many_orders_about_alarms_wait_and_none_is_begun_when_the_gateway_ends() {
        let mut bench = Bench::new();
        for _ in 0..17 {
            bench.shelve("1m").await; // one is under way
        }
        assert!(bench.outcomes.try_recv().is_err());
        bench.shelve("2m").await;
        assert_eq!(bench.told(), "hot 2m: refused busy: too many commands wait");
        let order = bench.alarms.recv().await.unwrap();
        let (task, mut outcomes) = (bench.task, bench.outcomes);
        let ended = async {
            for _ in 0..16 {
                assert_eq!(outcomes.recv().await.unwrap().reason, "the gateway is ending");
            }
            order.reply.send(Acted::Kept).unwrap();
            assert_eq!(outcomes.recv().await.unwrap().result, WriteResult::Done);
        };
        tokio::join!(task.run(watch::channel(true).1), ended);
        assert!(bench.alarms.recv().await.is_none());
    }

    /// The bus of `d`, with a meter on its line that is told the time; what the bus is given.
    fn with_meter(bench: &mut Bench) -> mpsc::Receiver<lane::Order> {
        let (orders, ordered) = mpsc::channel(4);
        let lane = Lane { bus: 0, orders };
        bench.task.ports.lanes = watch::channel([(DeviceId(0), lane)].into()).1;
        let (link, time, streams) = ("l".into(), "02:30".to_owned(), vec![vec![DeviceId(0)], Vec::new()]);
        // the minute that comes with the next look: it has looked one before
        let (day_ms, minute_ms) = (24 * 3_600_000, 60_000);
        bench.task.site = Arc::new(Site {
            calendar: crate::calendar::Calendar::new(crate::calendar::zone("UTC").unwrap()),
            ..(*bench.site).clone()
        });
        let now_ms = clock::of_system().millis();
        let minute = u16::try_from(now_ms % day_ms / minute_ms).unwrap();
        let mut daily = daily::Daily::new(minute);
        let before = crate::reading::Timestamp::from_millis(now_ms - now_ms % minute_ms - 1);
        assert_eq!(daily.look(before, true, &bench.task.site.calendar), None);
        bench.task.told = vec![Told { link, time, daily, streams }];
        ordered
    }

    #[tokio::test]
    async fn only_a_running_gateway_tells_the_time() {
        let meter = "broadcast_time = \"02:30\"\n[device.m]\nprotocol = \"dlt645\"\nlink = \"l\"\n\
             address = \"210220003011\"\ntags = [{ name = \"v\", at = \"02010100\", format = \"XXX.X\" }]\n\
             [device.d]";
        let text = CONFIGURATION.replace("[device.d]", meter);
        let site = Arc::new(config::parse("test.toml", &text).site.unwrap());
        for is_running in [true, false] {
            let alarms = is_running.then(|| mpsc::channel(1).0);
            let (from_uplinks, from_here) = (mpsc::channel(1).1, mpsc::channel(1).1);
            let (lanes, outcomes) = (watch::channel(BTreeMap::new()).1, broadcast::channel(1).0);
            let task = Task::new(&site, Ports { from_uplinks, from_here, lanes, alarms, outcomes });
            assert_eq!((task.told.len(), task.look_at.is_some()), (usize::from(is_running), is_running));
        }
    }

    #[tokio::test]
    async fn while_the_time_is_told_nothing_else_is_begun_on_that_bus() {
        let mut bench = Bench::new();
        assert!(bench.task.look_at.is_none(), "nobody is to be told the time");
        let mut ordered = with_meter(&mut bench);
        bench.task.look();
        assert_eq!(bench.task.busy.len(), 1);
        let received = bench.request();
        bench.task.take(received, None).await;
        let told = bench.told();
        assert!(told.starts_with("5: refused busy"), "{told}");
        let order = ordered.recv().await.unwrap();
        assert!(matches!(order.job, lane::Job::BroadcastTime(_)));
        order.outcome.send(Ok(crate::driver::Answer::Unanswered)).unwrap();
        bench.end_one().await;
        assert!(bench.task.busy.is_empty() && bench.outcomes.try_recv().is_err(), "nobody has asked");
        bench.task.look();
        assert!(bench.task.busy.is_empty() && ordered.try_recv().is_err(), "once a day");
        let received = bench.request();
        bench.task.take(received, None).await;
        assert_eq!(bench.task.busy.len(), 1);
    }

    #[tokio::test]
    async fn without_a_normaliser_and_without_a_record_nothing_is_done_with_an_alarm() {
        let mut bench = Bench::new();
        bench.shelve("1m").await;
        drop(bench.alarms.recv().await.unwrap());
        bench.end_one().await;
        assert_eq!(bench.told(), "hot 1m: refused the gateway is ending");
        bench.alarms.close();
        bench.shelve("1m").await;
        bench.end_one().await;
        assert_eq!(bench.told(), "hot 1m: refused the gateway is ending");
        bench.task.ports.alarms = None;
        bench.shelve("1m").await;
        bench.end_one().await;
        assert_eq!(bench.told(), "hot 1m: refused no gateway is running: only a running one has alarms");

        let mut bench = Bench::new();
        std::fs::create_dir(bench.folder.path().join("audit.log")).unwrap();
        bench.shelve("1m").await;
        bench.end_one().await;
        let told = bench.told();
        assert!(told.starts_with("hot 1m: refused it could not be recorded, so it was not done:"), "{told}");
        assert!(bench.alarms.try_recv().is_err());
    }

    #[tokio::test]
    async fn in_a_flood_of_refusals_it_is_asked_first_whether_it_could_be_done() {
        let mut bench = Bench::new();
        bench.task.allowance.spend(1 << 30, clock::monotonic());
        bench.shelve("0s").await;
        let order = bench.alarms.recv().await.unwrap();
        assert!(order.is_trial);
        order.reply.send(Acted::Refused("the alarm is not shelved".to_owned())).unwrap();
        bench.end_one().await;
        assert_eq!(bench.told(), "hot 0s: refused the alarm is not shelved");
        assert_eq!(bench.events(), Vec::<String>::new());
        bench.task.allowance.spend(1 << 30, clock::monotonic());
        bench.shelve("1m").await;
        bench.alarms.recv().await.unwrap().reply.send(Acted::Kept).unwrap();
        let order = bench.alarms.recv().await.unwrap();
        assert!(!order.is_trial);
        order.reply.send(Acted::Kept).unwrap();
        bench.end_one().await;
        assert_eq!(bench.events(), ["hot 1m wanted", "hot 1m done"]);
    }
}
