//! Serves a floor: over TCP in any framing, on a pseudo-terminal with the timing of a real line, and by calling a
//! gateway that listens.

pub mod site;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Interval, interval, sleep, sleep_until};

use super::faults::{Act, Asked, Faults};
use super::floor::Floor;
use super::slave::{Frame, Slave, Subject, take_request};
use crate::clock::{self, Alarm};
use crate::config::site::{Framing, SerialLine};
use crate::link::timing;

/// How long a simulated device thinks before it answers on a line.
const TURNAROUND: Duration = Duration::from_millis(5);
/// Callers of one TCP server at a time; further ones wait.
const CALLERS_MAX: usize = 16;
/// After so long a silence the rest of a serial request will not come: it was noise.
const STALE: Duration = Duration::from_millis(100);
/// How long a port stays after the last byte; with it goes what nobody has read.
const LINGER: Duration = Duration::from_millis(20);
/// Requests that are remembered; the oldest go first.
const REQUESTS_MAX: usize = 10_000;
/// What waits to leave one connection; what would come on top is not sent.
const WAITING_MAX: usize = 256;

/// The shortest time between two heartbeats.
const HEARTBEAT_MIN: Duration = Duration::from_millis(1);

/// A floor that several servers share.
#[derive(Clone, Debug)]
pub struct Shared {
    floor: Arc<Mutex<Floor>>,
    start: Arc<Mutex<Instant>>,
}

impl Shared {
    /// Begins the floor's time.
    #[must_use]
    pub fn new(floor: Floor) -> Shared {
        Shared { floor: Arc::new(Mutex::new(floor)), start: Arc::new(Mutex::new(clock::monotonic())) }
    }

    /// Begins the floor's time anew: what moves is where it was at the start.
    pub fn restart(&self) {
        *self.start.lock().unwrap_or_else(PoisonError::into_inner) = clock::monotonic();
    }

    /// The floor's time.
    fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(*self.start.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks at the floor.
    pub fn with<T>(&self, look: impl FnOnce(&mut Floor) -> T) -> T {
        look(&mut self.floor.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A request as it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Who was asked.
    pub unit: u8,
    /// For what.
    pub subject: Subject,
    /// When, since the floor's start.
    pub at: Duration,
    /// How long no byte had gone either way before it; `None` for the first of a connection. On a line a request
    /// counts as under way for the time that its bytes need there.
    pub silence: Option<Duration>,
}

/// The devices on one link: they answer, or misbehave, and remember what they were asked. Clones are the same devices.
#[derive(Clone, Debug)]
pub struct FarEnd {
    link: Arc<str>,
    framing: Framing,
    floor: Shared,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    faults: Faults,
    seen: VecDeque<Seen>,
    /// Requests to write, by unit.
    writes: BTreeMap<u8, u64>,
    connections: u64,
}

impl FarEnd {
    /// The devices of `floor` on the link of this name, without fault.
    #[must_use]
    pub fn new(link: impl Into<Arc<str>>, framing: Framing, floor: Shared) -> FarEnd {
        let state = State {
            faults: Faults::new(0, Vec::new()),
            seen: VecDeque::new(),
            writes: BTreeMap::new(),
            connections: 0,
        };
        FarEnd { link: link.into(), framing, floor, state: Arc::new(Mutex::new(state)) }
    }

    /// From now on the devices have these faults and no others.
    pub fn set_faults(&self, faults: Faults) {
        self.with(|state| state.faults = faults);
    }

    /// How many faults of each kind have struck since they were set.
    #[must_use]
    pub fn injected(&self) -> BTreeMap<&'static str, u64> {
        self.with(|state| state.faults.injected().clone())
    }

    /// The requests since this was asked last, at most the last 10,000.
    #[must_use]
    pub fn take_seen(&self) -> Vec<Seen> {
        self.with(|state| std::mem::take(&mut state.seen)).into()
    }

    /// How many requests to write have come for this unit since the start, obeyed or not.
    #[must_use]
    pub fn writes(&self, unit: u8) -> u64 {
        self.with(|state| state.writes.get(&unit).copied().unwrap_or_default())
    }

    /// How many connections there have been.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.with(|state| state.connections)
    }

    /// Answers every caller of `listener`, until dropped.
    pub async fn listen(self, listener: TcpListener) {
        let mut callers = JoinSet::new();
        loop {
            // accept and join_next are cancel-safe
            tokio::select! {
                Ok((stream, _)) = listener.accept(), if callers.len() < CALLERS_MAX => {
                    stream.set_nodelay(true).ok(); // slower, no worse
                    callers.spawn(self.clone().serve_stream(stream, None));
                }
                Some(_ended) = callers.join_next() => {}
            }
        }
    }

    /// Answers at the end of `line`, at the pace of `speed`, until dropped or a device hangs up: then the port is gone.
    pub async fn serve_line(self, line: Line, speed: SerialLine) {
        let Line { input, output, _far, .. } = line;
        self.serve_stream(tokio::io::join(input, output), Some(speed)).await;
    }

    /// Answers on any stream, at the pace of a serial line or at once, until either side ends it.
    pub async fn serve_stream(self, stream: impl AsyncRead + AsyncWrite + Unpin, speed: Option<SerialLine>) {
        Conversation::new(self, speed).hold(stream, None).await.ok(); // a stream that fails has ended
    }

    /// Calls a gateway that listens and answers what it asks, again and again, until dropped.
    pub async fn dial(self, dial: Dial) {
        loop {
            if let Ok(stream) = TcpStream::connect(dial.gateway).await {
                self.call(&dial, stream).await.ok(); // the next call follows
            }
            sleep(dial.pause).await;
        }
    }

    async fn call(&self, dial: &Dial, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.write_all(&dial.registration).await?;
        let mut conversation = Conversation::new(self.clone(), None);
        if dial.is_prefixed {
            conversation.prefix.clone_from(&dial.registration);
        }
        conversation.hold(stream, dial.heartbeat.as_ref()).await
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How a modem or a serial server calls a gateway.
#[derive(Clone, Debug)]
pub struct Dial {
    /// Where the gateway listens.
    pub gateway: SocketAddr,
    /// What it says first, by which the gateway knows it; may be empty.
    pub registration: Vec<u8>,
    /// Whether that stands before everything that its devices send as well.
    pub is_prefixed: bool,
    /// What it says by itself, and how often.
    pub heartbeat: Option<(Vec<u8>, Duration)>,
    /// How long after a call has ended or failed the next one follows.
    pub pause: Duration,
}

/// Answers every caller of `listener` with Modbus TCP as the devices on `link`, without fault, until dropped.
pub async fn serve_tcp(listener: TcpListener, link: Arc<str>, floor: Shared) {
    FarEnd::new(link, Framing::Tcp, floor).listen(listener).await;
}

/// One connection or line: what has come in of a request, and what is to leave and when.
#[derive(Debug)]
struct Conversation {
    far: FarEnd,
    /// Of a serial line.
    speed: Option<SerialLine>,
    /// What stands before everything that leaves.
    prefix: Vec<u8>,
    input: BytesMut,
    /// By the time at which it leaves, and in the order in which it came up.
    waiting: BTreeMap<(Instant, u64), Act>,
    last_number: u64,
    /// Of what has begun to leave.
    rest: Option<(Instant, Vec<u8>)>,
    /// The end of the last byte, either way.
    last_byte: Option<Instant>,
    /// Before the first byte of the request that is coming in.
    silence: Option<Duration>,
}

impl Conversation {
    fn new(far: FarEnd, speed: Option<SerialLine>) -> Conversation {
        far.with(|state| state.connections += 1);
        Conversation {
            far,
            speed,
            prefix: Vec::new(),
            input: BytesMut::new(),
            waiting: BTreeMap::new(),
            last_number: 0,
            rest: None,
            last_byte: None,
            silence: None,
        }
    }

    /// Answers until either side ends it.
    async fn hold(
        mut self,
        mut stream: impl AsyncRead + AsyncWrite + Unpin,
        heartbeat: Option<&(Vec<u8>, Duration)>,
    ) -> io::Result<()> {
        let mut beat = heartbeat.map(|(_, every)| interval((*every).max(HEARTBEAT_MIN)));
        if let Some(beat) = &mut beat {
            beat.tick().await; // the first one is at once
        }
        let mut input = BytesMut::new();
        let mut alarm = self.speed.map(|_| Alarm::default());
        loop {
            let due = self.due();
            // read_buf, until and tick are cancel-safe
            tokio::select! {
                read = stream.read_buf(&mut input) => {
                    if read? == 0 || !self.take(&input.split()) {
                        return Ok(());
                    }
                }
                () = at(due, &mut alarm) => {
                    let Some(bytes) = self.leave() else { return Ok(()) };
                    // before it is written: the far side may have read it before this task goes on
                    self.last_byte = Some(clock::monotonic());
                    stream.write_all(&[&self.prefix[..], &bytes].concat()).await?;
                }
                () = next(&mut beat) => {
                    stream.write_all(heartbeat.map_or(&[], |(bytes, _)| bytes)).await?;
                }
            }
        }
    }

    /// When the next bytes leave: what has begun ends before anything else begins.
    fn due(&self) -> Option<Instant> {
        let begun = self.rest.as_ref().map(|(due, _)| *due);
        begun.or_else(|| self.waiting.first_key_value().map(|((due, _), _)| *due))
    }

    /// The bytes that leave at that time; nothing for a hang-up.
    fn leave(&mut self) -> Option<Vec<u8>> {
        if let Some((_, rest)) = self.rest.take() {
            return Some(rest);
        }
        match self.waiting.pop_first()?.1 {
            Act::Send(bytes) => Some(bytes),
            Act::SendInTwo { first, pause, rest } => {
                self.rest = Some((clock::monotonic() + pause + self.wire_time(rest.len()), rest));
                Some(first)
            }
            Act::HangUp => None,
        }
    }

    /// Takes what came in; false where it is no Modbus.
    fn take(&mut self, bytes: &[u8]) -> bool {
        let now = clock::monotonic();
        let silence = self.last_byte.map(|last| now.saturating_duration_since(last));
        if self.far.framing != Framing::Tcp && silence.is_some_and(|silence| silence >= STALE) {
            self.input.clear();
        }
        if self.input.is_empty() {
            self.silence = silence;
        }
        self.input.extend_from_slice(bytes);
        self.last_byte = Some(now + self.wire_time(bytes.len()));
        loop {
            match take_request(self.far.framing, &mut self.input) {
                Ok(Some(request)) => self.answer(&request, now),
                Ok(None) => return true,
                Err(_foreign) => return false,
            }
            self.silence = Some(Duration::ZERO); // the next one came right behind it
        }
    }

    /// Plans what leaves in answer to `request`.
    fn answer(&mut self, request: &Frame, now: Instant) {
        let (far, silence) = (&self.far, self.silence);
        let elapsed = far.floor.elapsed(now);
        let asked =
            Asked { request, framing: far.framing, is_line: self.speed.is_some(), now: elapsed, silence };
        let mut served = Vec::new();
        let conduct = far.with(|state| {
            state.remember(Seen { unit: request.unit, subject: request.subject(), at: elapsed, silence });
            state.faults.handle(&asked, |unit| {
                let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
                let at = clock::wall();
                let reply = far.floor.with(|floor| {
                    Slave { floor, link: &far.link, elapsed_ms, at }.reply(unit, &request.pdu)
                })?;
                served = reply.served;
                Some(reply.pdu)
            })
        });
        if conduct.is_right {
            far.floor.with(|floor| floor.note(served));
        }
        // on a wire the request takes its time, and the device thinks; here the request is there at once
        let thinking = self.speed.map_or(Duration::ZERO, |speed| timing::frame_gap(&speed) + TURNAROUND);
        let start = now + self.wire_time(request.encode(far.framing).len()) + thinking;
        let mut sent = 0;
        for (after, act) in conduct.emissions {
            let (size, linger) = match &act {
                Act::Send(bytes) | Act::SendInTwo { first: bytes, .. } => (bytes.len(), Duration::ZERO),
                Act::HangUp => (0, self.speed.map_or(Duration::ZERO, |_| LINGER)),
            };
            sent += size;
            self.enqueue(start + after + self.wire_time(sent) + linger, act);
        }
    }

    fn enqueue(&mut self, due: Instant, act: Act) {
        if self.waiting.len() < WAITING_MAX {
            self.last_number += 1;
            self.waiting.insert((due, self.last_number), act);
        }
    }

    fn wire_time(&self, count: usize) -> Duration {
        self.speed.map_or(Duration::ZERO, |speed| timing::wire_time(&speed, count))
    }
}

impl State {
    fn remember(&mut self, seen: Seen) {
        if self.seen.len() >= REQUESTS_MAX {
            self.seen.pop_front();
        }
        if matches!(seen.subject.function, 5 | 6 | 15 | 16 | 22 | 23) {
            *self.writes.entry(seen.unit).or_default() += 1;
        }
        self.seen.push_back(seen);
    }
}

async fn at(due: Option<Instant>, alarm: &mut Option<Alarm>) {
    match (due, alarm) {
        (Some(due), _) if due <= clock::monotonic() => {} // a timer would round up to a whole millisecond
        (Some(due), Some(alarm)) => alarm.until(due).await,
        (Some(due), None) => sleep_until(due.into()).await,
        (None, _) => std::future::pending().await,
    }
}

async fn next(beat: &mut Option<Interval>) {
    match beat {
        Some(beat) => {
            beat.tick().await;
        }
        None => std::future::pending().await,
    }
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
