//! The task between the buses and the store.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Normalizer, Now};
use crate::clock;
use crate::config::site::Site;
use crate::reading::Update;
use crate::scan::Polled;

/// What there is to do.
enum Event {
    Polled(Polled),
    Due,
    End,
}

/// Normalises until every bus is gone. A store that has ended is passed over; a full one is waited for, which it lets
/// happen for moments only: it waits for no disk and no uplink.
pub async fn run(site: Arc<Site>, mut polled: mpsc::Receiver<Polled>, store: mpsc::Sender<Update>) {
    let mut normalizer = Normalizer::new(site);
    let mut update = normalizer.start(now());
    loop {
        if let Some(update) = update.take() {
            store.send(update).await.ok(); // ended: it has said so itself
        }
        update = match wait(&mut polled, &normalizer).await {
            Event::Polled(polled) => normalizer.handle(polled, now()),
            Event::Due => normalizer.handle_due(now()),
            Event::End => return,
        };
    }
}

fn now() -> Now {
    Now { at: clock::monotonic(), stamp: clock::stamp() }
}

/// Waits for the next thing to do; whatever it was, nothing is lost when the wait is given up.
async fn wait(polled: &mut mpsc::Receiver<Polled>, normalizer: &Normalizer) -> Event {
    let next = async { polled.recv().await.map_or(Event::End, Event::Polled) };
    let Some(due) = normalizer.next_due() else { return next.await };
    tokio::select! {
        biased;
        next = next => next,
        () = tokio::time::sleep_until(due.into()) => Event::Due,
    }
}
