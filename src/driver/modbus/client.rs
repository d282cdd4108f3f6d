//! The client of one link: sends a request, waits for its answer, keeps the line's silences.

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
    /// Serial: no request before this; the end of the last byte and t3.5, or the guard after a timeout.
    quiet_until: Option<Instant>,
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
        }
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
        }
        self.next_id = self.next_id.wrapping_add(1);
        let transaction = Transaction::new(self.framing, self.next_id, unit, request);
        self.keep_quiet().await?;
        let result = self.exchange(&transaction, timeout).await;
        self.note(&result, timeout);
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
                    let free_at = self.line_free_at(0);
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

    /// When the next request may follow `bytes` more bytes on a serial line: after them and t3.5.
    fn line_free_at(&self, bytes: usize) -> Instant {
        let gap = self
            .link
            .line()
            .map_or(Duration::ZERO, |line| timing::wire_time(line, bytes) + timing::frame_gap(line));
        clock::monotonic() + gap
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
        loop {
            match transaction.receive(&mut self.buffer, &self.counters) {
                Received::Answer(answer) => return Ok(answer),
                Received::Garbled => return Err(Fault::Garbled),
                Received::OutOfStep => {
                    self.link.close();
                    return Err(Fault::Garbled);
                }
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
                Err(_elapsed) => return Err(Fault::Silent),
            }
        }
    }

    fn note(&mut self, result: &Result<Answer, Fault>, timeout: Duration) {
        let is_silent = matches!(result, Err(Fault::Silent));
        self.timeouts = if is_silent { self.timeouts + 1 } else { 0 };
        if is_silent {
            self.counters.timeouts.add(1);
        }
        if let Ok(Answer::Exception(_)) = result {
            self.counters.exceptions.add(1);
        }
        match self.framing {
            // a late answer of the same shape could pass for the next one's: leave it time to come and be dropped
            Framing::Rtu | Framing::Ascii if is_silent => {
                self.quiet_until = Some(clock::monotonic() + timeout)
            }
            Framing::Rtu | Framing::Ascii => self.quiet_until = Some(self.line_free_at(0)),
            Framing::Tcp if self.timeouts >= TIMEOUTS_MAX => self.link.close(),
            Framing::Tcp => {}
        }
    }
}
