//! One byte stream with one talker: opened when it is needed, closed when it has failed, opened again.
//!
//! Bytes go out and come in; nothing here knows what they mean. A refused opening is tried again after a growing
//! wait, a lost connection at once. End of file from a serial port means that it is gone.

mod serial;
pub mod timing;

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::sleep_until;
use tracing::{info, warn};

use crate::clock;
use crate::config::site::{self, Endpoint, SerialLine};

/// The first wait after a refused opening; it doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(500);
/// The longest wait between two attempts to open a link.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How long a stream may refuse to take bytes before it counts as lost.
const WRITE_MAX: Duration = Duration::from_secs(5);

/// Why a link carries nothing.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// It cannot be opened; tried again later.
    #[error("cannot open {what}: {source}")]
    Open {
        /// The port or address.
        what: String,
        /// The system's reason.
        source: io::Error,
    },
    /// It was open and has failed.
    #[error("lost: {0}")]
    Lost(#[source] io::Error),
}

/// What bytes go through.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A link: its endpoint, and the stream while it is open.
pub struct Link {
    name: std::sync::Arc<str>,
    endpoint: Endpoint,
    state: State,
    retry: Retry,
}

enum State {
    Closed,
    Opening(Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>),
    Open(Box<dyn Stream>),
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({})", self.name)
    }
}

/// When a refused link may be tried again.
#[derive(Debug, Default)]
struct Retry {
    wait: Duration,
    not_before: Option<Instant>,
}

impl Retry {
    fn refused(&mut self, now: Instant) {
        self.wait = (self.wait * 2).clamp(RETRY_MIN, RETRY_MAX);
        self.not_before = Some(now + self.wait);
    }
}

impl Link {
    /// A link that is not open yet.
    #[must_use]
    pub fn new(link: &site::Link) -> Link {
        let (name, endpoint) = (link.name.clone(), link.endpoint.clone());
        Link { name, endpoint, state: State::Closed, retry: Retry::default() }
    }

    /// Speed and frame, if it is a serial line.
    #[must_use]
    pub fn line(&self) -> Option<&SerialLine> {
        match &self.endpoint {
            Endpoint::Serial { line, .. } => Some(line),
            Endpoint::Tcp { .. } | Endpoint::Listen(_) => None,
        }
    }

    /// Whether bytes can go through.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Opens the link, after a wait where it was refused a moment ago. May be dropped and called again: the attempt
    /// goes on.
    ///
    /// # Errors
    /// [`LinkError::Open`]; the next call waits and tries again.
    pub async fn open(&mut self) -> Result<(), LinkError> {
        if let Some(not_before) = self.retry.not_before {
            sleep_until(not_before.into()).await;
        }
        loop {
            match &mut self.state {
                State::Open(_) => return Ok(()),
                State::Closed => self.state = State::Opening(Box::pin(open(self.endpoint.clone()))),
                State::Opening(attempt) => match attempt.await {
                    Ok(stream) => {
                        info!(link = %self.name, "link open");
                        if let Endpoint::Serial { port, .. } = &mut self.endpoint
                            && let Some(stable) = serial::stable_name(port)
                        {
                            *port = stable;
                        }
                        self.state = State::Open(stream);
                        self.retry = Retry::default();
                    }
                    Err(source) => {
                        self.state = State::Closed;
                        return Err(self.refused(source));
                    }
                },
            }
        }
    }

    fn refused(&mut self, source: io::Error) -> LinkError {
        let error = LinkError::Open { what: describe(&self.endpoint), source };
        if self.retry.wait.is_zero() {
            warn!(link = %self.name, %error, "link down");
        }
        self.retry.refused(clock::monotonic());
        error
    }

    /// Closes it: the next [`Link::open`] begins afresh.
    pub fn close(&mut self) {
        self.state = State::Closed;
    }

    /// Sends all of `bytes`.
    ///
    /// # Errors
    /// [`LinkError::Lost`], and the link is closed.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        let State::Open(stream) = &mut self.state else { return Err(self.lost(not_connected())) };
        let written = tokio::time::timeout(WRITE_MAX, async {
            stream.write_all(bytes).await?;
            stream.flush().await
        });
        let result = written.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        result.map_err(|error| self.lost(error))
    }

    /// Waits for bytes and appends them to `buffer`. Nothing is lost where the wait is given up.
    ///
    /// # Errors
    /// [`LinkError::Lost`] at a fault or the end of the stream, and the link is closed.
    pub async fn read(&mut self, buffer: &mut BytesMut) -> Result<usize, LinkError> {
        let State::Open(stream) = &mut self.state else { return Err(self.lost(not_connected())) };
        match stream.read_buf(buffer).await {
            Ok(0) => Err(self.lost(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => Ok(count),
            Err(error) => Err(self.lost(error)),
        }
    }

    /// Throws away what has come in unasked, without waiting; the number of bytes.
    pub async fn discard_input(&mut self) -> usize {
        let State::Open(stream) = &mut self.state else { return 0 };
        let mut discarded = 0;
        let mut bytes = [0; 256];
        loop {
            let count = std::future::poll_fn(|context| {
                let mut buffer = ReadBuf::new(&mut bytes);
                let polled = Pin::new(&mut *stream).poll_read(context, &mut buffer);
                // a fault is left to the read that follows
                Poll::Ready(if polled.is_ready() { buffer.filled().len() } else { 0 })
            })
            .await;
            if count == 0 {
                return discarded;
            }
            discarded += count;
        }
    }

    fn lost(&mut self, error: io::Error) -> LinkError {
        if self.is_open() {
            warn!(link = %self.name, %error, "link lost");
            // the descriptor goes first: a port that comes back shall get its old name
            self.state = State::Closed;
        }
        LinkError::Lost(error)
    }
}

fn not_connected() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

async fn open(endpoint: Endpoint) -> io::Result<Box<dyn Stream>> {
    match endpoint {
        Endpoint::Tcp { address, connect_timeout, .. } => {
            let connected = tokio::time::timeout(connect_timeout, TcpStream::connect(address)).await;
            let stream = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
        Endpoint::Serial { port, line, rts_on_send } => {
            Ok(Box::new(serial::open(&port, &line, rts_on_send)?))
        }
        Endpoint::Listen(_) => std::future::pending().await,
    }
}

fn describe(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Tcp { address, .. } => address.clone(),
        Endpoint::Serial { port, .. } => port.display().to_string(),
        Endpoint::Listen(listen) => listen.address.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_link_waits_longer_each_time_up_to_the_ceiling() {
        let mut retry = Retry::default();
        let now = clock::monotonic();
        for wait_ms in [500, 1000, 2000, 4000, 5000, 5000] {
            retry.refused(now);
            assert_eq!(retry.not_before, Some(now + Duration::from_millis(wait_ms)));
        }
    }
}
