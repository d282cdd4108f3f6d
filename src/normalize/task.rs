//! The task between the buses and the store; what is kept over restarts, in `accounts` of the state directory.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use tracing::warn;

use super::decode::Zone;
use super::totals::KEEP_EVERY;
use super::{Normalizer, Now, Saved};
use crate::calendar;
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
    let zone = site.calendar.zone.clone();
    let path = site.gateway.state_dir.join("accounts");
    let mut normalizer =
        Normalizer::new(site).with_zone(Zone::new(move |local| calendar::to_utc(&zone, local)));
    let mut kept = read(&path);
    normalizer.restore(&kept);
    let mut keep_at = clock::monotonic() + KEEP_EVERY;
    let mut updates = normalizer.start(now());
    loop {
        for update in updates.drain(..) {
            store.send(update).await.ok(); // ended: it has said so itself
        }
        let update = match wait(&mut polled, &normalizer).await {
            Event::Polled(polled) => normalizer.handle(polled, now()),
            Event::Due => normalizer.handle_due(now()),
            Event::End => break,
        };
        updates.extend(update);
        if clock::monotonic() >= keep_at {
            updates.extend(normalizer.settle(now()));
            keep_at = keep(&path, &normalizer, &mut kept).await;
        }
    }
    for update in normalizer.settle(now()).into_iter().chain(normalizer.finish()) {
        store.send(update).await.ok();
    }
    keep(&path, &normalizer, &mut kept).await;
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

/// What an earlier run has kept; a file that cannot be read is passed over: all begins again at 0.
fn read(path: &Path) -> Saved {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Saved::default(),
        Err(error) => {
            warn!(file = %path.display(), %error, "what was kept of totals and machines cannot be read: they begin at 0");
            return Saved::default();
        }
    };
    serde_json::from_str(&text).unwrap_or_else(|error| {
        warn!(file = %path.display(), %error, "what was kept of totals and machines is damaged: they begin at 0");
        Saved::default()
    })
}

/// Writes down what has changed, beside the tasks: a disk may stall for seconds. When to do it again.
async fn keep(path: &Path, normalizer: &Normalizer, kept: &mut Saved) -> Instant {
    let saved = normalizer.saved(now());
    if saved != *kept {
        let text = serde_json::to_string(&saved).unwrap_or_default();
        let to = path.to_owned();
        match tokio::task::spawn_blocking(move || write(&to, &text)).await {
            Ok(Ok(())) => *kept = saved,
            Ok(Err(error)) => {
                warn!(file = %path.display(), %error, "totals and machines cannot be written down")
            }
            Err(error) => warn!(%error, "totals and machines cannot be written down"),
        }
    }
    clock::monotonic() + KEEP_EVERY
}

/// The old file or the new one is there, whatever happens.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let part: PathBuf = path.with_extension("part");
    let mut file = File::create(&part)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&part, path)
}
