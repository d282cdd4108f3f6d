//! The task between the buses and the store.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

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
    Written(io::Result<()>),
    End,
}

/// Normalises until every bus is gone. A store that has ended is passed over; a full one is waited for, which it lets
/// happen for moments only: it waits for no disk and no uplink. An order is answered when what it did is on the disk.
pub async fn run(
    site: Arc<Site>,
    mut polled: mpsc::Receiver<Polled>,
    mut orders: mpsc::Receiver<Order>,
    store: mpsc::Sender<Update>,
) {
    let zone = site.calendar.zone.clone();
    let mut keeper = Keeper::open(&site.gateway.state_dir, clock::monotonic());
    let mut normalizer =
        Normalizer::new(site).with_zone(Zone::new(move |local| calendar::to_utc(&zone, local)));
    normalizer.restore(keeper.kept());
    let mut updates = normalizer.start(now());
    loop {
        for update in updates.drain(..) {
            store.send(update).await.ok(); // ended: it has said so itself
        }
        let at = now();
        if keeper.is_due(at.at) {
            keeper.begin(normalizer.saved(at), at.at);
        }
        let update = match wait(&mut polled, &mut orders, &mut keeper, normalizer.next_due()).await {
            Event::Polled(polled) => normalizer.handle(polled, now()),
            Event::Due => normalizer.handle_due(now()),
            Event::Ordered(order) => obey(&mut normalizer, &mut keeper, order, now()),
            Event::Written(ended) => {
                keeper.finish(ended);
                None
            }
            Event::End => break,
        };
        updates.extend(update);
    }
    if let Some(update) = normalizer.finish() {
        store.send(update).await.ok();
    }
    let at = now();
    keeper.end(normalizer.saved(at), at.at).await;
}

fn now() -> Now {
    Now { at: clock::monotonic(), stamp: clock::stamp() }
}

/// Waits for the next thing to do; whatever it was, nothing is lost when the wait is given up.
async fn wait(
    polled: &mut mpsc::Receiver<Polled>,
    orders: &mut mpsc::Receiver<Order>,
    keeper: &mut Keeper,
    due: Option<Instant>,
) -> Event {
    let has_room = keeper.has_room();
    let time = async {
        match due {
            Some(due) => tokio::time::sleep_until(due.into()).await,
            None => std::future::pending().await,
        }
    };
    // every arm may be dropped at any time; orders are few, so that they hold nothing back
    tokio::select! {
        biased;
        ended = keeper.written() => Event::Written(ended),
        Some(order) = orders.recv(), if has_room => Event::Ordered(order),
        polled = polled.recv() => polled.map_or(Event::End, Event::Polled),
        () = time => Event::Due,
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
