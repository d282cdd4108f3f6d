//! The task between the buses and the uplinks.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::Normalizer;
use crate::clock;
use crate::config::site::Site;
use crate::reading::Update;
use crate::scan::Polled;

/// Normalises until every bus is gone. An uplink that has ended is passed over; a full one is waited for, which no
/// uplink lets happen for long: it takes everything at once, in session or not.
pub async fn run(site: Arc<Site>, mut polled: mpsc::Receiver<Polled>, uplinks: Vec<mpsc::Sender<Update>>) {
    let mut normalizer = Normalizer::new(site);
    while let Some(polled) = polled.recv().await {
        let Some(update) = normalizer.handle(polled, clock::monotonic()) else { continue };
        for uplink in &uplinks {
            uplink.send(update.clone()).await.ok(); // ended: it has said so itself
        }
    }
}
