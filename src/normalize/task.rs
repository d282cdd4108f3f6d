//! The task between the buses and the store.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::Normalizer;
use crate::clock;
use crate::config::site::Site;
use crate::reading::Update;
use crate::scan::Polled;

/// Normalises until every bus is gone. A store that has ended is passed over; a full one is waited for, which it lets
/// happen for moments only: it waits for no disk and no uplink.
pub async fn run(site: Arc<Site>, mut polled: mpsc::Receiver<Polled>, store: mpsc::Sender<Update>) {
    let mut normalizer = Normalizer::new(site);
    while let Some(polled) = polled.recv().await {
        let Some(update) = normalizer.handle(polled, clock::monotonic()) else { continue };
        store.send(update).await.ok(); // ended: it has said so itself
    }
}
