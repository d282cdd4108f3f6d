//! Serves a floor: over TCP, and as RTU on a pseudo-terminal with the timing of a real line.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::floor::Floor;
use super::slave::Slave;
use crate::clock;
use crate::config::site::SerialLine;
use crate::link::timing;

/// How long a simulated device thinks before it answers on a line.
const TURNAROUND: Duration = Duration::from_millis(5);
/// Callers of one TCP server at a time; further ones wait.
const CALLERS_MAX: usize = 16;

/// A floor that several servers share.
#[derive(Clone, Debug)]
pub struct Shared {
    floor: Arc<Mutex<Floor>>,
    start: Instant,
}

impl Shared {
    /// Begins the floor's time.
    #[must_use]
    pub fn new(floor: Floor) -> Shared {
        Shared { floor: Arc::new(Mutex::new(floor)), start: clock::monotonic() }
    }

    /// Looks at the floor.
    pub fn with<T>(&self, look: impl FnOnce(&mut Floor) -> T) -> T {
        look(&mut self.floor.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn answer<T>(&self, link: &str, answer: impl FnOnce(&mut Slave<'_>) -> T) -> T {
        let elapsed = clock::monotonic().saturating_duration_since(self.start);
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        self.with(|floor| answer(&mut Slave { floor, link, elapsed_ms, at: clock::wall() }))
    }
}

/// Answers every caller of `listener` as the devices on `link`, until dropped.
pub async fn serve_tcp(listener: TcpListener, link: Arc<str>, floor: Shared) {
    let mut callers = JoinSet::new();
    loop {
        // accept and join_next are cancel-safe
        tokio::select! {
            Ok((stream, _)) = listener.accept(), if callers.len() < CALLERS_MAX => {
                callers.spawn(serve_caller(stream, link.clone(), floor.clone()));
            }
            Some(_ended) = callers.join_next() => {}
        }
    }
}

async fn serve_caller(mut stream: TcpStream, link: Arc<str>, floor: Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = BytesMut::new();
    while stream.read_buf(&mut input).await? > 0 {
        let Some(output) = floor.answer(&link, |slave| slave.answer_tcp(&mut input)) else { break };
        stream.write_all(&output).await?;
    }
    Ok(())
}

/// A pseudo-terminal: the end of a simulated line, and the path where a gateway opens the other.
#[derive(Debug)]
pub struct Line {
    /// What the gateway sends.
    pub input: pipe::Receiver,
    /// What the gateway gets.
    pub output: pipe::Sender,
    /// Kept open, so that the line outlives a gateway that closes it.
    _far: OwnedFd,
    /// What the gateway opens.
    pub path: PathBuf,
}

impl Line {
    /// A new pseudo-terminal that hands every byte through as it is.
    ///
    /// # Errors
    /// Where the system has none left.
    pub fn open() -> io::Result<Line> {
        let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        grantpt(&near)?;
        unlockpt(&near)?;
        let path = PathBuf::from(ptsname(&near, Vec::new())?.to_string_lossy().into_owned());
        let far = rustix::fs::open(&path, OFlags::RDWR | OFlags::NOCTTY, Mode::empty())?;
        let mut settings = tcgetattr(&far)?;
        settings.make_raw();
        tcsetattr(&far, OptionalActions::Now, &settings)?;
        let flags = rustix::fs::fcntl_getfl(&near)?;
        rustix::fs::fcntl_setfl(&near, flags | OFlags::NONBLOCK)?;
        // to tokio a terminal that does not block is a pipe for each direction
        let output = pipe::Sender::from_owned_fd_unchecked(near.try_clone()?)?;
        Ok(Line { input: pipe::Receiver::from_owned_fd_unchecked(near)?, output, _far: far, path })
    }
}

/// Answers as the devices on `link` at the end of `line`, at the pace of `speed`, until dropped or the line fails.
pub async fn serve_rtu(mut line: Line, speed: SerialLine, link: Arc<str>, floor: Shared) {
    let mut input = BytesMut::new();
    while line.input.read_buf(&mut input).await.is_ok() {
        let Some(output) = floor.answer(&link, |slave| slave.answer_rtu(&mut input)) else { continue };
        // the request and the answer need their time on a wire; here both are there at once
        let wire = timing::wire_time(&speed, 8 + output.len()) + timing::frame_gap(&speed);
        tokio::time::sleep(wire + TURNAROUND).await;
        if line.output.write_all(&output).await.is_err() {
            return;
        }
    }
}
