//! An uplink's way to those who have things written, and back.

use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tracing::warn;

use crate::reading::Timestamp;
use crate::write::{Outcome, WriteRequest, WriteResult};

/// Where requests go, and where outcomes come from.
#[derive(Debug)]
pub struct Commands {
    requests: mpsc::Sender<WriteRequest>,
    outcomes: broadcast::Receiver<Arc<Outcome>>,
}

impl Commands {
    /// Requests go to `requests`, outcomes come from `outcomes`.
    #[must_use]
    pub const fn new(
        requests: mpsc::Sender<WriteRequest>,
        outcomes: broadcast::Receiver<Arc<Outcome>>,
    ) -> Commands {
        Commands { requests, outcomes }
    }

    /// Asks for it, without waiting.
    ///
    /// # Errors
    /// The refusal, where too many wait already.
    pub(super) fn ask(&self, request: WriteRequest, now: Timestamp) -> Result<(), Box<Outcome>> {
        self.requests.try_send(request).map_err(|refused| {
            let reason = "busy: too many commands wait; send it again later";
            Box::new(refused.into_inner().outcome(WriteResult::Refused, reason, now))
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
