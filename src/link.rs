//! One byte stream with one talker: opened when it is needed, closed when it has failed, opened again.
//!
//! Bytes go out and come in; nothing here knows what they mean. A refused opening is tried again after a growing
//! wait, a lost connection at once. End of file from a serial port means that it is gone.

pub mod caller;
pub mod filter;
pub mod listen;
pub mod registration;
mod serial;
pub mod timing;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rustix::net::sockopt::set_socket_linger;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{sleep_until, timeout};
use tokio_rustls::client::TlsStream;
use tracing::{info, warn};

use crate::clock;
use crate::config::site::{self, Endpoint, SerialLine, TlsFiles};
use crate::tls::{self, FarEnd, Tls, Wanted};
use caller::{Arrivals, Caller};

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
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    /// Sets speed and frame, where there are any.
    fn set_line(&mut self, line: &SerialLine) -> io::Result<()> {
        let _ = line;
        Ok(())
    }
}

impl Stream for TcpStream {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for TlsStream<T> {}

impl Stream for serial::Port {
    fn set_line(&mut self, line: &SerialLine) -> io::Result<()> {
        self.set(line)
    }
}

/// A link: its endpoint, and the stream while it is open.
pub struct Link {
    name: Arc<str>,
    endpoint: Endpoint,
    /// What a serial port is set to now; `None`: as the endpoint has it.
    line: Option<SerialLine>,
    /// Where units dial in: those that have.
    arrivals: Option<Arrivals>,
    state: State,
    retry: Retry,
}

enum State {
    Closed,
    Opening(Pin<Box<dyn Future<Output = io::Result<Open>> + Send>>),
    Open(Open),
}

/// What bytes go through.
enum Open {
    /// What was opened from here.
    Ours {
        stream: Box<dyn Stream>,
        /// The socket beneath it; of a serial port there is none.
        socket: Option<OwnedFd>,
        /// A far end that takes the connection and never answers is no better than one that refuses it.
        has_answered: bool,
    },
    /// A unit that has dialled in.
    Caller(Box<Caller>),
}

impl Open {
    fn ours(stream: impl Stream + 'static) -> Open {
        Open::Ours { stream: Box::new(stream), socket: None, has_answered: false }
    }

    /// A stream over the TCP connection of `socket`.
    fn over(stream: impl Stream + 'static, socket: OwnedFd) -> Open {
        Open::Ours { stream: Box::new(stream), socket: Some(socket), has_answered: false }
    }

    fn socket(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Open::Caller(caller) => Some(caller.socket()),
            Open::Ours { socket, .. } => socket.as_ref().map(AsFd::as_fd),
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Open::Caller(caller) => caller.write(bytes).await,
            Open::Ours { stream, .. } => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    async fn read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        match self {
            Open::Caller(caller) => caller.read(buffer).await,
            Open::Ours { stream, .. } => stream.read_buf(buffer).await,
        }
    }

    /// Throws away what has come in unasked, without waiting; the number of bytes.
    async fn discard_input(&mut self) -> usize {
        let stream = match self {
            Open::Caller(caller) => return caller.discard_input(),
            Open::Ours { stream, .. } => stream,
        };
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
        Link { name, endpoint, line: None, arrivals: None, state: State::Closed, retry: Retry::default() }
    }

    /// A link that is open while a unit has dialled in: the last of `arrivals`.
    #[must_use]
    pub fn dialled(link: &site::Link, arrivals: Arrivals) -> Link {
        Link { arrivals: Some(arrivals), ..Link::new(link) }
    }

    /// Speed and frame now, if it is a serial line.
    #[must_use]
    pub fn line(&self) -> Option<&SerialLine> {
        match &self.endpoint {
            Endpoint::Serial { line, .. } => Some(self.line.as_ref().unwrap_or(line)),
            Endpoint::Tcp { .. } | Endpoint::Listen(_) => None,
        }
    }

    /// Whether closing it and opening it again may help a far end that is gone without a word: a port has no far end, and
    /// a unit that dials in comes by itself.
    #[must_use]
    pub fn is_ours_to_reopen(&self) -> bool {
        matches!(self.endpoint, Endpoint::Tcp { .. })
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
                State::Closed => {
                    let attempt = open(self.endpoint.clone(), self.arrivals.clone());
                    self.state = State::Opening(Box::pin(attempt));
                }
                State::Opening(attempt) => match attempt.await {
                    Ok(open) => {
                        info!(link = %self.name, "link open");
                        if let Endpoint::Serial { port, .. } = &mut self.endpoint
                            && let Some(stable) = serial::stable_name(port)
                        {
                            *port = stable;
                        }
                        self.line = None;
                        self.state = State::Open(open);
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

    /// Whether bytes that the far end has not acknowledged are thrown away when the connection is closed, however that comes
    /// about: else the system goes on sending them. A serial port has no such bytes.
    pub fn set_hard_close(&self, is_hard: bool) {
        let State::Open(open) = &self.state else { return };
        let linger = is_hard.then_some(Duration::ZERO);
        if let Some(Err(error)) = open.socket().map(|socket| set_socket_linger(socket, linger)) {
            warn!(link = %self.name, %error, "what is not acknowledged may be sent after the end of the connection");
        }
    }

    /// Sets speed and frame of a serial port, for a device that has its own, or back to the link's. One that cannot be set is
    /// lost: it is opened again.
    pub fn set_line(&mut self, line: Option<SerialLine>) {
        let Endpoint::Serial { line: own, .. } = &self.endpoint else { return };
        let (own, line) = (*own, line.filter(|line| line != own));
        if self.line == line {
            return;
        }
        let State::Open(Open::Ours { stream, .. }) = &mut self.state else { return };
        match stream.set_line(&line.unwrap_or(own)) {
            Ok(()) => self.line = line,
            Err(error) => {
                warn!(link = %self.name, %error, "speed and frame cannot be set");
                self.close();
            }
        }
    }

    /// Whether it is a TCP connection, opened from here or by a unit.
    #[must_use]
    pub const fn is_network(&self) -> bool {
        matches!(self.endpoint, Endpoint::Tcp { .. } | Endpoint::Listen(_))
    }

    /// Closes it because what comes in makes no sense. A far end of which nothing ever did is called again after a wait.
    pub fn reject(&mut self) {
        if matches!(self.state, State::Open(Open::Ours { has_answered: false, .. })) {
            self.retry.refused(clock::monotonic());
        }
        self.close();
    }

    /// An answer has come: the far end is worth calling again at once when it is lost. Any bytes do not show that: a
    /// server without a free place says so, and hangs up.
    pub fn answered(&mut self) {
        self.retry = Retry::default();
        if let State::Open(Open::Ours { has_answered, .. }) = &mut self.state {
            *has_answered = true;
        }
    }

    /// Sends all of `bytes`.
    ///
    /// # Errors
    /// [`LinkError::Lost`], and the link is closed.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        let State::Open(open) = &mut self.state else { return Err(self.lost(not_connected())) };
        let result = timeout(WRITE_MAX, open.write(bytes))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        result.map_err(|error| self.lost(error))
    }

    /// Waits for bytes and appends them to `buffer`. Nothing is lost where the wait is given up.
    ///
    /// # Errors
    /// [`LinkError::Lost`] at a fault or the end of the stream, or where the unit has dialled in again, and the link is
    /// closed.
    pub async fn read(&mut self, buffer: &mut BytesMut) -> Result<usize, LinkError> {
        let State::Open(open) = &mut self.state else { return Err(self.lost(not_connected())) };
        let again = async {
            match &self.arrivals {
                Some(arrivals) => arrivals.wait().await,
                None => std::future::pending().await,
            }
        };
        // both may be dropped at any time
        let result = tokio::select! {
            biased;
            result = open.read(buffer) => result,
            () = again => Err(io::Error::other("the unit has dialled in again")),
        };
        match result {
            Ok(0) => Err(self.lost(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => Ok(count),
            Err(error) => Err(self.lost(error)),
        }
    }

    /// Throws away what has come in unasked, without waiting; the number of bytes.
    pub async fn discard_input(&mut self) -> usize {
        match &mut self.state {
            State::Open(open) => open.discard_input().await,
            State::Closed | State::Opening(_) => 0,
        }
    }

    fn lost(&mut self, error: io::Error) -> LinkError {
        let is_tls = matches!(&self.endpoint, Endpoint::Tcp { tls: Some(_), .. });
        let error = if is_tls { tls::in_words(error, FarEnd::Device) } else { error };
        if let State::Open(open) = &self.state {
            warn!(link = %self.name, %error, "link lost");
            if matches!(open, Open::Ours { has_answered: false, .. }) {
                self.retry.refused(clock::monotonic());
            }
            // the descriptor goes first: a port that comes back shall get its old name
            self.state = State::Closed;
        }
        LinkError::Lost(error)
    }
}

fn not_connected() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

async fn open(endpoint: Endpoint, arrivals: Option<Arrivals>) -> io::Result<Open> {
    match (endpoint, arrivals) {
        (Endpoint::Tcp { address, connect_timeout, tls }, _) => {
            let connected = timeout(connect_timeout, connect(&address, tls.as_ref())).await;
            connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        }
        (Endpoint::Serial { port, line, rts_on_send }, _) => {
            Ok(Open::ours(serial::open(&port, &line, rts_on_send)?))
        }
        (Endpoint::Listen(_), Some(arrivals)) => Ok(Open::Caller(Box::new(arrivals.newest().await))),
        (Endpoint::Listen(_), None) => std::future::pending().await,
    }
}

async fn connect(address: &str, tls: Option<&TlsFiles>) -> io::Result<Open> {
    let stream = TcpStream::connect(address).await?;
    listen::prepare(&stream)?;
    let socket = stream.as_fd().try_clone_to_owned()?;
    let Some(TlsFiles { ca_file, own }) = tls else { return Ok(Open::over(stream, socket)) };
    let host = address.rsplit_once(':').map_or(address, |(host, _port)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let own = own.as_ref().map(|(cert_file, key_file)| (cert_file.as_path(), key_file.as_path()));
    let wanted = Wanted {
        ca_file: Some(ca_file),
        identity: own,
        server_name: host,
        protocol: None,
        far_end: FarEnd::Device,
    };
    let tls = Tls::new(&wanted).map_err(io::Error::other)?;
    Ok(Open::over(tls.connect(stream).await?, socket))
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

    /// A close without linger 0 is a clean end of the stream at the far end, and the system goes on sending.
    #[tokio::test]
    async fn a_connection_that_is_closed_hard_is_reset_and_its_bytes_are_not_sent_later() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        for is_hard in [true, false] {
            let open = connect(&address, None).await.unwrap();
            let (mut far, _) = listener.accept().unwrap();
            let endpoint = Endpoint::Tcp { address: address.clone(), connect_timeout: WRITE_MAX, tls: None };
            let (name, state) = ("l".into(), State::Open(open));
            let mut link =
                Link { name, endpoint, line: None, arrivals: None, state, retry: Retry::default() };
            link.set_hard_close(true);
            link.set_hard_close(is_hard);
            link.close();
            let end = std::io::Read::read(&mut far, &mut [0; 8]).map_err(|error| error.kind());
            assert_eq!(end, if is_hard { Err(io::ErrorKind::ConnectionReset) } else { Ok(0) });
        }
    }
}
