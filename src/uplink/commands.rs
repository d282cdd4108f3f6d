//! An uplink's way to those who have things written, and back.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{broadcast, mpsc};
use tracing::{info, warn};

use crate::clock;
use crate::reading::Timestamp;
use crate::write::{Outcome, Received, WriteRequest, WriteResult};

/// Refusals made here are said in the log so often at most: of a flood of them each is as good as another.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// Where requests go, and where outcomes come from.
#[derive(Debug)]
pub struct Commands {
    requests: mpsc::Sender<Received>,
    outcomes: broadcast::Receiver<Arc<Outcome>>,
    said: Cell<Option<Instant>>,
}

impl Commands {
    /// Requests go to `requests`, outcomes come from `outcomes`.
    #[must_use]
    pub const fn new(
        requests: mpsc::Sender<Received>,
        outcomes: broadcast::Receiver<Arc<Outcome>>,
    ) -> Commands {
        Commands { requests, outcomes, said: Cell::new(None) }
    }

    /// Asks for it, without waiting.
    ///
    /// # Errors
    /// The refusal, where too many wait already, or the gateway is ending.
    pub(super) fn ask(&self, request: WriteRequest, now: Timestamp) -> Result<(), Box<Outcome>> {
        let at = clock::monotonic();
        self.requests.try_send(Received { request, at }).map_err(|refused| {
            let reason = match &refused {
                TrySendError::Full(_) => "busy: too many commands wait; send it again later",
                TrySendError::Closed(_) => "the gateway is ending",
            };
            let request = refused.into_inner().request;
            if self.said.get().is_none_or(|said| at.saturating_duration_since(said) >= SAY_EVERY) {
                self.said.set(Some(at));
                info!(device = request.device, tag = request.tag, reason, "command refused");
            }
            Box::new(request.outcome(WriteResult::Refused, reason, now))
        })
    }

    /// The next outcome. May be dropped and called again.
    pub(super) async fn outcome(&mut self) -> Arc<Outcome> {
        loop {
            match self.outcomes.recv().await {
                Ok(outcome) => return outcome,
                Err(RecvError::Lagged(count)) => {
                    warn!(count, "outcomes of commands were not told: they are in audit.log");
                }
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}
