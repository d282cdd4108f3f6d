//! One byte stream with one talker: opened when it is needed, closed when it has failed, opened again.
//!
//! Bytes go out and come in; nothing here knows what they mean. A refused opening is tried again after a growing
//! wait, a lost connection at once. End of file from a serial port means that it is gone.

pub mod caller;
pub mod filter;
pub mod listen;
pub mod network;
pub mod registration;
mod serial;
pub mod timing;
pub mod tls;

use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tracing::{info, warn};

use crate::clock;
use crate::config::site::{self, Endpoint, Framing, SerialLine};

/// The first wait after a refused opening; it doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(500);
/// The longest wait between two attempts to open a link.
const RETRY_MAX: Duration = Duration::from_secs(8);

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
    /// It was refused a moment ago and is not tried again yet.
    #[error("waiting before the next attempt to open it")]
    Waiting,
    /// It was open and has failed.
    #[error("lost: {0}")]
    Lost(#[source] io::Error),
}

/// A link: its endpoint, and the stream while it is open.
#[derive(Debug)]
pub struct Link {
    name: std::sync::Arc<str>,
    endpoint: Endpoint,
    framing: Framing,
    stream: Option<Stream>,
    retry: Retry,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Serial(serial::Port),
}

/// When a refused link may be tried again.
#[derive(Debug, Default)]
struct Retry {
    wait: Duration,
    not_before: Option<Instant>,
}

impl Retry {
    fn may_try(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|not_before| now >= not_before)
    }

    fn refused(&mut self, now: Instant) {
        self.wait = (self.wait * 2).clamp(RETRY_MIN, RETRY_MAX);
        self.not_before = Some(now + self.wait);
    }
}

impl Link {
    /// A link that is not open yet.
    #[must_use]
    pub fn new(link: &site::Link) -> Link {
        let site::Link { name, endpoint, framing } = link.clone();
        Link { name, endpoint, framing, stream: None, retry: Retry::default() }
    }

    /// Speed and frame, if it is a serial line.
    #[must_use]
    pub fn line(&self) -> Option<&SerialLine> {
        match &self.endpoint {
            Endpoint::Serial { line, .. } => Some(line),
            Endpoint::Tcp { .. } => None,
        }
    }

    /// How Modbus is framed on it.
    #[must_use]
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Opens the link if it is closed; true if it had to be opened.
    ///
    /// # Errors
    /// Where it cannot be opened, or was refused a moment ago.
    pub async fn open(&mut self) -> Result<bool, LinkError> {
        if self.stream.is_some() {
            return Ok(false);
        }
        if !self.retry.may_try(clock::monotonic()) {
            return Err(LinkError::Waiting);
        }
        match open(&self.endpoint).await {
            Ok(stream) => {
                info!(link = %self.name, "link open");
                self.stream = Some(stream);
                self.retry = Retry::default();
                Ok(true)
            }
            Err(source) => {
                let error = LinkError::Open { what: describe(&self.endpoint), source };
                if self.retry.wait.is_zero() {
                    warn!(link = %self.name, %error, "link down");
                }
                self.retry.refused(clock::monotonic());
                Err(error)
            }
        }
    }

    /// Closes it: the next [`Link::open`] begins afresh.
    pub fn close(&mut self) {
        self.stream = None;
    }

    /// Sends all of `bytes`.
    ///
    /// # Errors
    /// [`LinkError::Lost`], and the link is closed.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        let result = match &mut self.stream {
            Some(Stream::Tcp(stream)) => stream.write_all(bytes).await,
            Some(Stream::Serial(port)) => port.stream.write_all(bytes).await,
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        result.map_err(|error| self.lost(error))
    }

    /// Waits for bytes and appends them to `buffer`. Nothing is lost where the wait is given up.
    ///
    /// # Errors
    /// [`LinkError::Lost`] at a fault or the end of the stream, and the link is closed.
    pub async fn read(&mut self, buffer: &mut BytesMut) -> Result<usize, LinkError> {
        let result = match &mut self.stream {
            Some(Stream::Tcp(stream)) => stream.read_buf(buffer).await,
            Some(Stream::Serial(port)) => port.stream.read_buf(buffer).await,
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        match result {
            Ok(0) => Err(self.lost(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => Ok(count),
            Err(error) => Err(self.lost(error)),
        }
    }

    /// Throws away what has come in unasked, without waiting; the number of bytes.
    pub async fn discard_input(&mut self) -> usize {
        let mut discarded = 0;
        let mut bytes = [0; 256];
        loop {
            let count = std::future::poll_fn(|context| {
                let mut buffer = ReadBuf::new(&mut bytes);
                let polled = match &mut self.stream {
                    Some(Stream::Tcp(stream)) => Pin::new(stream).poll_read(context, &mut buffer),
                    Some(Stream::Serial(port)) => Pin::new(&mut port.stream).poll_read(context, &mut buffer),
                    None => Poll::Pending,
                };
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
        if self.stream.take().is_some() {
            warn!(link = %self.name, %error, "link lost");
        }
        LinkError::Lost(error)
    }
}

async fn open(endpoint: &Endpoint) -> io::Result<Stream> {
    match endpoint {
        Endpoint::Tcp { address, connect_timeout } => {
            let connected = tokio::time::timeout(*connect_timeout, TcpStream::connect(address)).await;
            let stream = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
            stream.set_nodelay(true)?;
            Ok(Stream::Tcp(stream))
        }
        Endpoint::Serial { port, line } => serial::open(port, line).map(Stream::Serial),
    }
}

fn describe(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Tcp { address, .. } => address.clone(),
        Endpoint::Serial { port, .. } => port.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_link_waits_longer_each_time_up_to_the_ceiling() {
        let mut retry = Retry::default();
        let mut now = clock::monotonic();
        assert!(retry.may_try(now));
        for wait_ms in [500, 1000, 2000, 4000, 8000, 8000] {
            retry.refused(now);
            assert!(!retry.may_try(now + Duration::from_millis(wait_ms - 1)));
            now += Duration::from_millis(wait_ms);
            assert!(retry.may_try(now));
        }
    }
}
