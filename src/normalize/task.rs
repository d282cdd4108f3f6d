//! The task between the buses and the store.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use super::alarm::run::Act;
use super::decode::Zone;
use super::keep::Keeper;
use super::{Normalizer, Now};
use crate::calendar;
use crate::clock;
use crate::config::site::Site;
use crate::reading::Update;
use crate::scan::Polled;
use crate::tag::DeviceId;

/// Orders that wait for the task; whoever has one more is told that it is busy.
pub const ORDERS: usize = 16;
/// Plans that wait for the task: one for each machine of a large hall.
pub const PLANS: usize = 256;

/// Somebody wants something done with an alarm.
#[derive(Debug)]
pub struct Order {
    /// Whose alarm.
    pub device: DeviceId,
    /// Its name there.
    pub alarm: Arc<str>,
    /// What is to be done.
    pub act: Act,
    /// Who wants it.
    pub who: String,
    /// It is not done after this.
    pub not_after: Instant,
    /// Nothing is done: only whether it could be is told.
    pub is_trial: bool,
    /// Who is told what became of it.
    pub reply: oneshot::Sender<Acted>,
}

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acted {
    /// Done, and written down: it outlives this program. Of a trial: it could be done.
    Kept,
    /// Done, and not written down, for this reason: a restart forgets it.
    NotKept(String),
    /// Not done, for this reason.
    Refused(String),
}

/// What there is to do.
enum Event {
    Polled(Polled),
    Due,
    Ordered(Order),
    Planned(bytes::Bytes),
    Written(io::Result<()>),
    End,
}

/// What the task needs from outside.
#[derive(Debug)]
pub struct Ports {
    /// What the buses have read.
    pub polled: mpsc::Receiver<Polled>,
    /// What people want done with alarms.
    pub orders: mpsc::Receiver<Order>,
    /// Plans for machines, as messages bring them.
    pub plans: mpsc::Receiver<bytes::Bytes>,
    /// Where readings go.
    pub store: mpsc::Sender<Update>,
}

/// Normalises until every bus is gone. A store that has ended is passed over; a full one is waited for, which it lets
/// happen for moments only: it waits for no disk and no uplink. An order is answered when what it did is on the disk.
pub async fn run(site: Arc<Site>, mut ports: Ports) {
    let zone = site.calendar.zone.clone();
    let mut keeper = Keeper::open(&site.gateway.state_dir, clock::monotonic());
    let mut normalizer =
        Normalizer::new(site).with_zone(Zone::new(move |local| calendar::to_utc(&zone, local)));
    normalizer.restore(keeper.kept());
    let mut updates = normalizer.start(now());
    for (machine, reason) in normalizer.take_dropped_plans() {
        warn!(machine, reason, "the plan that was kept for a machine does not hold any more");
    }
    loop {
        let at = now();
        if normalizer.take_turn() {
            keeper.hasten(at.at);
        }
        if keeper.is_due(at.at) {
            updates.extend(normalizer.settle(at));
            keeper.begin(normalizer.saved(at), at.at);
        }
        for update in updates.drain(..) {
            ports.store.send(update).await.ok(); // ended: it has said so itself
        }
        let due = normalizer.next_due().into_iter().chain(keeper.next_due()).min();
        let update = match wait(&mut ports, &mut keeper, due).await {
            Event::Polled(polled) => normalizer.handle(polled, now()),
            Event::Due => normalizer.handle_due(now()),
            Event::Ordered(order) => obey(&mut normalizer, &mut keeper, order, now()),
            Event::Planned(message) => take_over(&mut normalizer, &message, now()),
            Event::Written(ended) => {
                keeper.finish(ended);
                None
            }
            Event::End => break,
        };
        updates.extend(update);
    }
    for update in normalizer.settle(now()).into_iter().chain(normalizer.finish()) {
        ports.store.send(update).await.ok();
    }
    let at = now();
    keeper.end(normalizer.saved(at), at.at).await;
}

fn now() -> Now {
    Now { at: clock::monotonic(), stamp: clock::stamp() }
}

/// Waits for the next thing to do; whatever it was, nothing is lost when the wait is given up.
async fn wait(ports: &mut Ports, keeper: &mut Keeper, due: Option<Instant>) -> Event {
    let has_room = keeper.has_room();
    let time = clock::until(due);
    // every arm may be dropped at any time; orders are few, and hold nothing back; many plans may come at once, and wait
    tokio::select! {
        biased;
        ended = keeper.written() => Event::Written(ended),
        Some(order) = ports.orders.recv(), if has_room => Event::Ordered(order),
        polled = ports.polled.recv() => polled.map_or(Event::End, Event::Polled),
        Some(message) = ports.plans.recv() => Event::Planned(message),
        () = time => Event::Due,
    }
}

/// Takes a plan over, or says why not; what to tell of it.
fn take_over(normalizer: &mut Normalizer, message: &[u8], now: Now) -> Option<Update> {
    if message.is_empty() {
        return None; // nothing is kept at the broker any more: the last plan holds
    }
    match normalizer.handle_plan(message, now) {
        Ok(update) => {
            info!("a plan for a machine is taken over");
            update
        }
        Err(reason) => {
            warn!(reason, "a plan for a machine is refused");
            None
        }
    }
}

/// Does what somebody wants, unless it is too late; what to tell of it.
fn obey(normalizer: &mut Normalizer, keeper: &mut Keeper, order: Order, now: Now) -> Option<Update> {
    let Order { device, alarm, act, who, not_after, is_trial, reply } = order;
    let done = if now.at > not_after {
        Err("expired: it has waited here for too long".to_owned())
    } else if is_trial {
        normalizer.check_act((device, &alarm), act, &who).map(|()| None)
    } else {
        normalizer.handle_act((device, &alarm), act, &who, now)
    };
    match done {
        Ok(update) if is_trial => {
            reply.send(Acted::Kept).ok(); // gone meanwhile
            update
        }
        Ok(update) => {
            keeper.wait_for(reply);
            update
        }
        Err(reason) => {
            reply.send(Acted::Refused(reason)).ok(); // gone meanwhile
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config;
    use crate::reading::{Stamp, Timestamp, Value};
    use crate::scan::{Data, Part, Scan};

    const CONFIGURATION: &str = r#"
        [gateway]
        name = "n"
        enterprise = "e"
        [uplink.u]
        broker = "mqtt://127.0.0.1"
        [link.l]
        tcp = "127.0.0.1:502"
        [device.d]
        link = "l"
        tags = [{ name = "t", at = "hr:0" }]
        alarm = { hot = { when = "t", above = 5 } }
        "#;

    /// The task between a bus and a store, with somebody who orders.
    struct Bench {
        polled: mpsc::Sender<Polled>,
        orders: mpsc::Sender<Order>,
        updates: mpsc::Receiver<Update>,
        site: Arc<Site>,
        folder: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> (Bench, impl Future<Output = ()>) {
            let folder = tempfile::tempdir().unwrap();
            let mut site = config::parse("test.toml", CONFIGURATION).site.unwrap();
            site.gateway.state_dir = folder.path().to_owned();
            let site = Arc::new(site);
            let (polled, scans) = mpsc::channel(8);
            let (ordering, orders) = mpsc::channel(ORDERS);
            let (store, updates) = mpsc::channel(64);
            let (_, plans) = mpsc::channel(PLANS);
            let task = run(site.clone(), Ports { polled: scans, orders, plans, store });
            (Bench { polled, orders: ordering, updates, site, folder }, task)
        }

        async fn read(&self, raw: u16) {
            let parts = [Part { tag: self.site.tags[0].id, offset: 0 }].into();
            let at = Stamp::Wall(Timestamp::from_millis(5));
            let scan = Scan { parts, result: Ok(Data::Words(vec![raw])), at };
            self.polled.send(Polled::Scan(scan)).await.unwrap();
        }

        async fn order(&self, not_after: Instant, is_trial: bool) -> Acted {
            let (reply, told) = oneshot::channel();
            let order = Order {
                device: self.site.devices[0].id,
                alarm: "hot".into(),
                act: Act::Acknowledge,
                who: "Li".to_owned(),
                not_after,
                is_trial,
                reply,
            };
            self.orders.send(order).await.unwrap();
            told.await.unwrap()
        }

        /// Waits until the text of an event holds this.
        async fn told(&mut self, part: &str) {
            let has = |update: &Update| match update {
                Update::Readings(readings) => readings
                    .iter()
                    .any(|reading| matches!(&reading.value, Some(Value::Text(text)) if text.contains(part))),
                Update::DeviceUp(_) | Update::DeviceDown(..) => false,
            };
            while !has(&self.updates.recv().await.unwrap()) {}
        }
    }

    #[tokio::test]
    async fn an_order_is_obeyed_told_and_on_the_disk_before_it_is_answered() {
        let (mut bench, task) = Bench::new();
        let later = clock::monotonic() + Duration::from_secs(60);
        let accounts = bench.folder.path().join("accounts");
        let orders = async {
            bench.read(6).await;
            bench.told(r#""event":"raised""#).await;
            assert_eq!(bench.order(later, true).await, Acted::Kept);
            let kept = std::fs::read_to_string(&accounts).unwrap_or_default();
            assert!(!kept.contains(r#""phase":"acknowledged""#), "a trial does nothing: {kept}");
            let past = clock::monotonic().checked_sub(Duration::from_millis(1)).unwrap();
            let expired = "expired: it has waited here for too long";
            assert_eq!(bench.order(past, false).await, Acted::Refused(expired.to_owned()));
            assert_eq!(bench.order(later, false).await, Acted::Kept);
            let kept = std::fs::read_to_string(&accounts).unwrap();
            assert!(kept.contains(r#""phase":"acknowledged""#), "{kept}");
            bench.told(r#""by":"Li""#).await;
            let nothing = "there is nothing to acknowledge";
            assert_eq!(bench.order(later, false).await, Acted::Refused(nothing.to_owned()));
            drop(bench);
        };
        tokio::join!(task, orders);
    }

    #[tokio::test]
    async fn an_alarm_that_is_raised_is_on_the_disk_soon_although_nobody_does_anything() {
        let (mut bench, task) = Bench::new();
        let accounts = bench.folder.path().join("accounts");
        let raised = async {
            bench.read(6).await;
            bench.told(r#""event":"raised""#).await;
            let is_kept = || {
                std::fs::read_to_string(&accounts)
                    .is_ok_and(|kept| kept.contains(r#""phase":"unacknowledged""#))
            };
            while !is_kept() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            drop(bench);
        };
        let both = async { tokio::join!(task, raised) };
        tokio::time::timeout(Duration::from_secs(30), both).await.unwrap();
    }

    #[tokio::test]
    async fn an_order_that_comes_when_all_buses_are_gone_is_not_answered() {
        let (bench, task) = Bench::new();
        let Bench { polled, orders, updates: _updates, .. } = bench;
        drop(polled);
        task.await;
        assert!(orders.is_closed());
    }

    #[tokio::test]
    async fn readings_do_not_wait_for_plans() {
        let folder = tempfile::tempdir().unwrap();
        let mut keeper = Keeper::open(folder.path(), clock::monotonic());
        let (polling, polled) = mpsc::channel(8);
        let (_ordering, orders) = mpsc::channel(ORDERS);
        let (planning, plans) = mpsc::channel(PLANS);
        let (store, _updates) = mpsc::channel(64);
        let mut ports = Ports { polled, orders, plans, store };
        planning.send(bytes::Bytes::from_static(b"{}")).await.unwrap();
        polling.send(Polled::DeviceUp(DeviceId(0))).await.unwrap();
        polling.send(Polled::DeviceUp(DeviceId(1))).await.unwrap();
        for device in 0..2 {
            let event = wait(&mut ports, &mut keeper, None).await;
            assert!(matches!(event, Event::Polled(Polled::DeviceUp(DeviceId(up))) if up == device));
        }
        assert!(matches!(wait(&mut ports, &mut keeper, None).await, Event::Planned(_)));
    }
}
