//! The client of one link: sends a request, waits for its answer, keeps the line's silences.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::time::timeout_at;
use tokio_modbus::Request;
use tracing::{debug, trace};

use super::transaction::{Received, Transaction};
use crate::clock;
use crate::config::site::Framing;
use crate::counters::Counters;
use crate::driver::{Answer, Fault};
use crate::link::{Link, LinkError, timing};
use crate::tag::UnitId;

/// So many timeouts one after the other and a TCP connection is opened anew: its far end may be gone without a word.
const TIMEOUTS_MAX: u32 = 3;
/// Without transaction ids, a unit that did not answer is left alone for so many timeouts more.
const RESTS: u32 = 2;
/// A line that is never silent is spoken on all the same after so long: its devices are not lost with the one that babbles.
const BABBLE_MAX: Duration = Duration::from_secs(1);
/// More than any frame; what comes in beyond it without being an answer is noise.
const BUFFER_MAX: usize = 1024;

/// Reads the devices of one link, one request at a time.
#[derive(Debug)]
pub struct Client {
    link: Link,
    framing: Framing,
    counters: Arc<Counters>,
    buffer: BytesMut,
    next_id: u16,
    timeouts: u32,
    /// Without transaction ids: no request before this; the end of the last byte and t3.5, or the time in which what
    /// was asked before the link was opened may still be answered.
    quiet_until: Option<Instant>,
    /// Without transaction ids: units that may still answer what has been given up, and until when.
    resting: BTreeMap<UnitId, Instant>,
}

impl Client {
    /// A client that owns `link`.
    #[must_use]
    pub fn new(link: Link, counters: Arc<Counters>) -> Client {
        Client {
            framing: link.framing(),
            link,
            counters,
            buffer: BytesMut::with_capacity(BUFFER_MAX),
            next_id: fastrand::u16(..),
            timeouts: 0,
            quiet_until: None,
            resting: BTreeMap::new(),
        }
    }

    /// How long a unit is to be left alone after it did not answer within `timeout`: an answer that comes meanwhile is
    /// dropped, and cannot pass for that to the next request. Nothing where transaction ids tell them apart.
    #[must_use]
    pub fn rest_after(&self, timeout: Duration) -> Duration {
        if self.framing == Framing::Tcp { Duration::ZERO } else { timeout * RESTS }
    }

    /// Sends `request` to `unit` and waits at most `timeout` for the answer.
    ///
    /// # Errors
    /// Where the link is down, nothing that fits came in time, or the answer is not what was asked for.
    pub async fn call(
        &mut self,
        unit: UnitId,
        request: Request<'static>,
        timeout: Duration,
    ) -> Result<Answer, Fault> {
        if self.link.open().await? {
            self.counters.connects.add(1);
            self.buffer.clear();
            self.timeouts = 0;
            if self.framing != Framing::Tcp {
                self.quiet_until = Some(clock::monotonic() + timeout);
            }
        }
        if let Some(rested) = self.resting.remove(&unit) {
            self.quiet_until = self.quiet_until.max(Some(rested));
        }
        self.next_id = self.next_id.wrapping_add(1);
        let transaction = Transaction::new(self.framing, self.next_id, unit, request);
        self.keep_quiet().await?;
        let result = self.exchange(&transaction, timeout).await;
        self.note(unit, &result, timeout);
        result
    }

    /// Waits until the line has been silent for as long as it must be; what comes in meanwhile is nobody's answer.
    async fn keep_quiet(&mut self) -> Result<(), LinkError> {
        let mut foreign = 0;
        let patience = self.quiet_until.map(|quiet_until| quiet_until + BABBLE_MAX);
        while let Some(quiet_until) = self.quiet_until {
            match timeout_at(quiet_until.into(), self.link.read(&mut self.buffer)).await {
                Ok(count) => {
                    foreign += count?;
                    self.buffer.clear();
                    let free_at = self.line_free_at();
                    self.quiet_until =
                        patience.filter(|patience| free_at < *patience).map(|_| quiet_until.max(free_at));
                }
                Err(_elapsed) => self.quiet_until = None,
            }
        }
        if self.framing != Framing::Tcp {
            foreign += self.link.discard_input().await + self.buffer.len();
            self.buffer.clear();
        }
        if foreign > 0 {
            debug!(bytes = foreign, "dropped bytes that no request had asked for");
            self.counters.frames_foreign.add(1);
        }
        Ok(())
    }

    /// When the next request may follow on a serial line: after t3.5.
    fn line_free_at(&self) -> Instant {
        clock::monotonic() + self.link.line().map_or(Duration::ZERO, timing::frame_gap)
    }

    async fn exchange(&mut self, transaction: &Transaction, timeout: Duration) -> Result<Answer, Fault> {
        let request = transaction.encode()?;
        trace!(bytes = ?request, "sent");
        self.link.write(&request).await?;
        // the time that both frames need on the wire is not the device's
        let line = self.link.line().copied();
        let wire = line.map_or(Duration::ZERO, |line| {
            timing::wire_time(&line, request.len() + transaction.answer_size())
        });
        let deadline = clock::monotonic() + timeout + wire;
        let mut has_misfit = false;
        loop {
            match transaction.receive(&mut self.buffer, &self.counters) {
                Received::Answer(answer) => return Ok(answer),
                Received::Garbled => return Err(Fault::Garbled),
                Received::OutOfStep => {
                    self.link.close();
                    return Err(Fault::OutOfStep);
                }
                Received::Misfit => has_misfit = true,
                Received::More => {}
            }
            if self.buffer.len() >= BUFFER_MAX {
                self.buffer.clear();
            }
            match timeout_at(deadline.into(), self.link.read(&mut self.buffer)).await {
                Ok(read) => {
                    let count = read?;
                    trace!(count, "received");
                }
                Err(_elapsed) if has_misfit => return Err(Fault::Garbled),
                Err(_elapsed) => return Err(Fault::Silent),
            }
        }
    }

    fn note(&mut self, unit: UnitId, result: &Result<Answer, Fault>, timeout: Duration) {
        let is_silent = matches!(result, Err(Fault::Silent));
        self.timeouts = if is_silent { self.timeouts + 1 } else { 0 };
        if is_silent {
            self.counters.timeouts.add(1);
        }
        if let Ok(Answer::Exception(_)) = result {
            self.counters.exceptions.add(1);
        }
        if self.link.line().is_none() && self.timeouts >= TIMEOUTS_MAX {
            self.link.close();
        }
        if self.framing != Framing::Tcp {
            self.quiet_until = Some(self.line_free_at());
            if is_silent || matches!(result, Err(Fault::Garbled)) {
                self.resting.insert(unit, clock::monotonic() + self.rest_after(timeout));
            }
        }
    }
}
