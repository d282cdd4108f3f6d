//! Serves a floor: over TCP in any framing, on a pseudo-terminal with the timing of a real line, and by calling a
//! gateway that listens.
//!
//! Slaves of Modbus, meters of DL/T 645 and instruments on one line hear the same bytes, each those that come at its own
//! speed; whatever comes at another is noise to it, and is left out.

mod instruments;
mod line;
mod meters;
mod slaves;

pub mod site;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Interval, interval, sleep, sleep_until};

use super::faults::{Act, AnswerFaults, Faults};
use super::floor::Floor;
use super::instrument::Instruments;
use super::meter::Metering;
use super::slave::{Subject, take_request};
use crate::clock::{self, Alarm};
use crate::config::site::{Framing, SerialLine};
use crate::link::timing;
use instruments::Talker;
use line::Far;

pub use line::Line;

/// Callers of one TCP server at a time; further ones wait.
const CALLERS_MAX: usize = 16;
/// After so long a silence the rest of a serial request will not come: it was noise.
const STALE: Duration = Duration::from_millis(100);
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
    meter_faults: AnswerFaults,
    instrument_faults: AnswerFaults,
    metering: Metering,
    instruments: Instruments,
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
            meter_faults: AnswerFaults::new(0, Vec::new()),
            instrument_faults: AnswerFaults::new(0, Vec::new()),
            metering: Metering::default(),
            instruments: Instruments::default(),
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

    /// From now on the meters have these faults and no others.
    pub fn set_meter_faults(&self, faults: AnswerFaults) {
        self.with(|state| state.meter_faults = faults);
    }

    /// From now on the instruments have these faults and no others.
    pub fn set_instrument_faults(&self, faults: AnswerFaults) {
        self.with(|state| state.instrument_faults = faults);
    }

    /// How many faults of each kind have struck since they were set.
    #[must_use]
    pub fn injected(&self) -> BTreeMap<&'static str, u64> {
        self.with(|state| {
            let mut all = state.faults.injected().clone();
            for faults in [&state.meter_faults, &state.instrument_faults] {
                for (name, count) in faults.injected() {
                    *all.entry(name).or_default() += count;
                }
            }
            all
        })
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

    /// How often the meter with this address has been told the time since the start.
    #[must_use]
    pub fn told(&self, meter: u64) -> u64 {
        self.with(|state| state.metering.told(meter))
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
        let Line { input, output, far, .. } = line;
        let conversation = Conversation { gateway: Some(far), ..Conversation::new(self, Some(speed)) };
        conversation.hold(tokio::io::join(input, output), None).await.ok(); // a line that fails has ended
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
    /// The other end of it.
    gateway: Option<Far>,
    /// The speeds of units that have not that of the line.
    own_speeds: BTreeMap<u8, u32>,
    /// There are units on it, or nothing else: what comes in is Modbus.
    has_units: bool,
    has_meters: bool,
    has_instruments: bool,
    /// The instruments that talk by themselves.
    talkers: Vec<Talker>,
    /// What stands before everything that leaves.
    prefix: Vec<u8>,
    input: BytesMut,
    /// The same as meters hear it.
    meter_input: BytesMut,
    /// The same as instruments hear it.
    instrument_input: BytesMut,
    /// By the time at which it leaves, and in the order in which it came up: what, and at which speed.
    waiting: BTreeMap<(Instant, u64), (Act, Option<u32>)>,
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
        let now = clock::monotonic();
        let own_speeds = far.floor.with(|floor| floor.own_speeds_on(&far.link).collect());
        let (has_units, has_meters, has_instruments, talkers) = far.floor.with(|floor| {
            let talkers = floor.instruments_on(&far.link).filter(|instrument| instrument.talks());
            (
                floor.units_on(&far.link).next().is_some(),
                floor.meters_on(&far.link).next().is_some(),
                floor.instruments_on(&far.link).next().is_some(),
                talkers.map(|instrument| Talker::new(instrument.name.clone(), now)).collect(),
            )
        });
        let has_others = has_meters || has_instruments;
        // Modbus TCP is alone on its connection
        let is_alone = far.framing == Framing::Tcp && has_units;
        Conversation {
            far,
            speed,
            gateway: None,
            own_speeds,
            has_units: has_units || !has_others,
            has_meters: has_meters && !is_alone,
            has_instruments: has_instruments && !is_alone,
            talkers,
            prefix: Vec::new(),
            input: BytesMut::new(),
            meter_input: BytesMut::new(),
            instrument_input: BytesMut::new(),
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
            let due = self.due().into_iter().chain(self.talk_due()).min();
            // read_buf, until and tick are cancel-safe
            tokio::select! {
                read = stream.read_buf(&mut input) => {
                    if read? == 0 || !self.take(&input.split()) {
                        return Ok(());
                    }
                }
                () = at(due, &mut alarm) => {
                    self.talk(clock::monotonic());
                    if self.due().is_none_or(|due| due > clock::monotonic()) {
                        continue;
                    }
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
        let (act, baud) = self.waiting.pop_first()?.1;
        let is_heard = is_same_speed(baud, self.baud());
        // at another speed other bits are read
        let as_heard = |bytes: Vec<u8>| {
            if is_heard { bytes } else { bytes.into_iter().map(|byte| !byte).collect() }
        };
        match act {
            Act::Send(bytes) => Some(as_heard(bytes)),
            Act::SendInTwo { first, pause, rest } => {
                let due = clock::monotonic() + pause + self.wire_time(rest.len());
                self.rest = Some((due, as_heard(rest)));
                Some(as_heard(first))
            }
            Act::HangUp => None,
        }
    }

    /// The speed that the gateway has set, where that is known.
    fn baud(&self) -> Option<u32> {
        self.gateway.as_ref()?.baud()
    }

    /// The speed of a unit.
    fn speed_of(&self, unit: u8) -> Option<u32> {
        self.own_speeds.get(&unit).copied().or(self.speed.map(|line| line.baud))
    }

    /// Takes what came in; false where it is no Modbus.
    fn take(&mut self, bytes: &[u8]) -> bool {
        let now = clock::monotonic();
        let silence = self.last_byte.map(|last| now.saturating_duration_since(last));
        if self.far.framing != Framing::Tcp && silence.is_some_and(|silence| silence >= STALE) {
            self.input.clear();
            self.meter_input.clear();
        }
        if self.input.is_empty() {
            self.silence = silence;
        }
        let baud = self.baud();
        let pace = self.speed.map(|line| SerialLine { baud: baud.unwrap_or(line.baud), ..line });
        self.last_byte = Some(now + wire_time(pace, bytes.len()));
        let is_own = baud.is_some_and(|baud| self.own_speeds.values().any(|own| *own == baud));
        if is_own || is_same_speed(self.speed.map(|line| line.baud), baud) {
            self.input.extend_from_slice(bytes);
        }
        if self.has_meters {
            self.hear_as_meters(bytes, baud, now);
        }
        if self.has_instruments {
            self.hear_as_instruments(bytes, baud, silence, now);
        }
        if !self.has_units {
            self.input.clear();
            return true;
        }
        loop {
            match take_request(self.far.framing, &mut self.input) {
                Ok(Some(request)) if is_same_speed(self.speed_of(request.unit), baud) => {
                    self.answer(&request, now)
                }
                Ok(Some(_)) => {} // noise to this unit
                Ok(None) => return true,
                Err(_foreign) => return false,
            }
            if self.has_meters {
                self.meter_input.clone_from(&self.input);
            }
            self.silence = Some(Duration::ZERO); // the next one came right behind it
        }
    }

    fn enqueue(&mut self, due: Instant, act: Act, baud: Option<u32>) {
        if self.waiting.len() < WAITING_MAX {
            self.last_number += 1;
            self.waiting.insert((due, self.last_number), (act, baud));
        }
    }

    fn wire_time(&self, count: usize) -> Duration {
        wire_time(self.speed, count)
    }
}

/// Whether who speaks at `own` and the gateway at `baud` understand each other; where either is not known they do.
fn is_same_speed(own: Option<u32>, baud: Option<u32>) -> bool {
    own.zip(baud).is_none_or(|(own, baud)| own == baud)
}

fn wire_time(line: Option<SerialLine>, count: usize) -> Duration {
    line.map_or(Duration::ZERO, |line| timing::wire_time(&line, count))
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
