//! What fuzzing calls with arbitrary bytes: each function bears any, and panics where a promise is broken. The targets in
//! `fuzz/` include this file; `corpus.rs` calls the same with the kept inputs and with random ones.

#[path = "fuzzed/instruments.rs"]
mod instruments;
#[path = "fuzzed/meters.rs"]
mod meters;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tidegate::command::allow;
use tidegate::config;
use tidegate::config::site::{Echo, Framing, IntegerTypes, Shared, Site};
use tidegate::counters::{DeviceCounters, LinkCounters};
use tidegate::driver::Answer;
use tidegate::driver::modbus::conversation::{Call, Conversation, Done};
use tidegate::driver::modbus::frame::{self, Front};
use tidegate::driver::modbus::transaction::Tolerance;
use tidegate::link::filter::Filter;
use tidegate::link::registration::{REGISTRATION_MAX, Registering, Rules, Step, pattern};
use tidegate::reading::Timestamp;
use tidegate::sparkplug::command::{Origin, write_requests};
use tidegate::sparkplug::payload::Form;
use tidegate::tag::UnitId;
use tidegate::write::{ID_MAX, Requester};
use tokio_modbus::{Request, Response};

pub(crate) use instruments::serial;
pub(crate) use meters::dlt645;

/// What is called with arbitrary bytes.
pub(crate) struct Target {
    /// As its folder in `tests/corpus`.
    pub(crate) name: &'static str,
    pub(crate) call: fn(&[u8]),
}

/// All of them.
pub(crate) const TARGETS: [Target; 7] = [
    Target { name: "conversation", call: conversation },
    Target { name: "frames", call: frames },
    Target { name: "filter", call: filter },
    Target { name: "registration", call: registration },
    Target { name: "command", call: command },
    Target { name: "dlt645", call: dlt645 },
    Target { name: "serial", call: serial },
];

/// The longest that a simulated device may take.
const TIMEOUT: Duration = Duration::from_millis(100);
/// What a serial wire adds.
const WIRE: Duration = Duration::from_millis(3);
/// Requests that are outstanding at once over TCP.
const IN_FLIGHT: usize = 4;
/// Room for anything that a reader of a stream may leave in the buffer.
const READ_MAX: usize = 4096;

/// A script of a conversation, one step after the other. The first byte chooses: bits 0 and 1 the framing, 2 and 3 the
/// echo, 4 and 5 the tolerance. Then each step is a byte and what belongs to it:
///
/// | byte | step |
/// |---|---|
/// | 0..=3 | ask: unit, function, address and count follow, a byte each |
/// | 4, 5 | hear: a length and so many bytes follow |
/// | 6 | hear what was sent last: the right answer, from the registers' addresses |
/// | 7 | hear an echo of what was sent last |
/// | 8 | wait: so many milliseconds follow |
/// | 9 | wait until the next deadline |
/// | 10 | give up the ticket that follows |
/// | 11 | the stream is gone |
pub(crate) fn conversation(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let mut script = Script::new(*first);
    let mut rest = rest.iter().copied();
    while let Some(step) = rest.next() {
        if script.step(step % 12, &mut rest).is_none() {
            break;
        }
        script.hear_out();
    }
    script.end();
}

/// A conversation in made-up time, and what must hold of it.
struct Script {
    conversation: Conversation,
    framing: Framing,
    tolerance: Tolerance,
    now: Instant,
    counters: Arc<DeviceCounters>,
    /// What was asked and has not ended.
    asked: Vec<Asked>,
    last: Option<(Vec<u8>, Vec<u8>)>,
    next_ticket: usize,
}

struct Asked {
    ticket: usize,
    request: Request<'static>,
}

impl Script {
    fn new(choice: u8) -> Script {
        let framing = [Framing::Tcp, Framing::Rtu, Framing::Ascii, Framing::Rtu][usize::from(choice & 3)];
        let echo = [Echo::No, Echo::Yes, Echo::Auto, Echo::Auto][usize::from(choice >> 2 & 3)];
        let tolerance = Tolerance { any_tid: choice & 16 != 0, any_unit: choice & 32 != 0 };
        Script {
            conversation: Conversation::new(framing, echo, 1, Arc::new(LinkCounters::default())),
            framing,
            tolerance,
            now: tidegate::clock::monotonic(),
            counters: Arc::default(),
            asked: Vec::new(),
            last: None,
            next_ticket: 0,
        }
    }

    /// `None` where the script ends within the step.
    fn step(&mut self, step: u8, rest: &mut impl Iterator<Item = u8>) -> Option<()> {
        match step {
            0..=3 => self.ask(rest.next()?, rest.next()?, rest.next()?, rest.next()?),
            4 | 5 => {
                let size = rest.next()?;
                self.hear(&rest.take(size.into()).collect::<Vec<u8>>());
            }
            6 => self.hear(&self.last.clone()?.1),
            7 => self.hear(&self.last.clone()?.0),
            8 => self.now += Duration::from_millis(rest.next()?.into()),
            9 => self.now = self.conversation.deadline().unwrap_or(self.now).max(self.now),
            10 => self.conversation.give_up(rest.next()?.into()),
            _ => {
                let mut gone = self.conversation.abandon();
                gone.sort_unstable();
                let asked: Vec<usize> = self.asked.drain(..).map(|asked| asked.ticket).collect();
                assert_eq!(gone, asked, "each request ends once");
            }
        }
        Some(())
    }

    /// Asks where the bus would: not a unit that rests, not more at once than there may be.
    fn ask(&mut self, unit: u8, function: u8, address: u8, count: u8) {
        let most = if self.framing == Framing::Tcp && !self.tolerance.any_tid { IN_FLIGHT } else { 1 };
        let unit = UnitId(unit);
        let is_resting = self.conversation.rests_until(unit, self.tolerance.any_unit, self.now).is_some();
        if self.conversation.outstanding() >= most || is_resting {
            return;
        }
        let (address, count) = (u16::from(address), u16::from(count));
        let request = match function % 6 {
            0 => Request::ReadCoils(address, count),
            1 => Request::ReadHoldingRegisters(address, count),
            2 => Request::ReadInputRegisters(address, count),
            3 => Request::WriteSingleRegister(address, count),
            4 => Request::WriteMultipleRegisters(address, (0..count).collect::<Vec<u16>>().into()),
            _ => Request::ReadDeviceIdentification(tokio_modbus::prelude::ReadCode::Basic, 0),
        };
        if self.framing != Framing::Tcp {
            self.conversation.drop_unasked();
        }
        let ticket = self.next_ticket;
        let call = Call {
            ticket,
            unit,
            request: request.clone(),
            tolerance: self.tolerance,
            timeout: TIMEOUT,
            timeout_max: TIMEOUT * 2,
            counters: self.counters.clone(),
        };
        let size = self.conversation.wire_size(&request);
        let before = self.conversation.outstanding();
        match self.conversation.begin(call, WIRE, self.now) {
            Err(_) => {
                assert_eq!(self.conversation.outstanding(), before, "what is not sent is not outstanding")
            }
            Ok(sent) => {
                let sent = sent.to_vec();
                assert!(sent.len() < size, "{} of {size} bytes on the wire", sent.len());
                let answer = answer(self.framing, &sent, unit, &request);
                self.last = Some((sent, answer));
                self.asked.push(Asked { ticket, request });
                self.next_ticket += 1;
            }
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.conversation.buffer().extend_from_slice(bytes);
    }

    /// All ends that there are now.
    fn hear_out(&mut self) {
        loop {
            match self.conversation.take(self.now) {
                Ok(Some(done)) => self.done(&done),
                Ok(None) => break,
                Err(_) => {
                    assert_eq!(self.framing, Framing::Tcp, "only TCP can be out of step");
                    self.conversation.abandon();
                    self.asked.clear();
                }
            }
        }
        while let Some(done) = self.conversation.expire(self.now) {
            assert!(done.result.is_err(), "what has expired has no answer");
            self.done(&done);
        }
        assert_eq!(self.conversation.outstanding(), self.asked.len(), "each request ends once");
        assert!(self.conversation.deadline().is_none_or(|at| at > self.now), "nothing is overdue");
        while self.conversation.take_advice().is_some() {}
        while self.conversation.take_late().is_some() {}
        assert!(self.conversation.buffer().len() < READ_MAX, "what is noise is dropped");
    }

    /// It was asked, and the answer is of the form that was asked for.
    fn done(&mut self, done: &Done) {
        let index = self.asked.iter().position(|asked| asked.ticket == done.ticket);
        let asked = self.asked.remove(index.expect("each request ends once"));
        let Ok(Answer::Response(response)) = &done.result else { return };
        let is_fit = match (&asked.request, response) {
            (Request::ReadCoils(_, count), Response::ReadCoils(bits)) => bits.len() == usize::from(*count),
            (Request::ReadHoldingRegisters(_, count), Response::ReadHoldingRegisters(words))
            | (Request::ReadInputRegisters(_, count), Response::ReadInputRegisters(words)) => {
                words.len() == usize::from(*count)
            }
            (Request::WriteSingleRegister(a, b), Response::WriteSingleRegister(c, d)) => (a, b) == (c, d),
            (Request::WriteMultipleRegisters(a, words), Response::WriteMultipleRegisters(b, count)) => {
                a == b && words.len() == usize::from(*count)
            }
            (Request::ReadDeviceIdentification(..), Response::ReadDeviceIdentification(_)) => true,
            _ => false,
        };
        assert!(is_fit, "{:?} for {:?}", response, asked.request);
    }

    /// In the end each request has ended, however long nobody says a word.
    fn end(&mut self) {
        self.now += TIMEOUT + WIRE;
        self.hear_out();
        assert_eq!(self.asked.len(), 0, "in the end all has ended");
    }
}

/// What a device that is right answers.
fn answer(framing: Framing, sent: &[u8], unit: UnitId, request: &Request<'_>) -> Vec<u8> {
    let bytes = |function: u8, data: &[u8]| {
        let size = u8::try_from(data.len()).unwrap_or_default();
        [&[function, size], data].concat()
    };
    let words = |address: u16, count: u16| {
        (0..count).flat_map(|at| (address + at).to_be_bytes()).collect::<Vec<u8>>()
    };
    let pdu = match request {
        Request::ReadCoils(_, count) => bytes(1, &vec![0xA5; usize::from(count.div_ceil(8))]),
        Request::ReadHoldingRegisters(address, count) => bytes(3, &words(*address, *count)),
        Request::ReadInputRegisters(address, count) => bytes(4, &words(*address, *count)),
        Request::WriteSingleRegister(address, value) => {
            [&[6], &address.to_be_bytes()[..], &value.to_be_bytes()].concat()
        }
        Request::WriteMultipleRegisters(address, values) => {
            let count = u16::try_from(values.len()).unwrap_or_default();
            [&[16], &address.to_be_bytes()[..], &count.to_be_bytes()].concat()
        }
        _ => vec![0x2B, 0x0E, 1, 1, 0, 0, 1, 0, 2, b'a', b'b'],
    };
    match (framing, sent) {
        (Framing::Tcp, [high, low, ..]) => frame::encode_tcp(u16::from_be_bytes([*high, *low]), unit, &pdu),
        (Framing::Rtu, _) => frame::encode_rtu(unit, &pdu),
        (Framing::Ascii | Framing::Tcp, _) => frame::encode_ascii(unit, &pdu),
    }
}

/// The decoders of frames: what they take, encoded again, is what came in.
pub(crate) fn frames(bytes: &[u8]) {
    if let Front::Frame(frame, size) = frame::decode_tcp(bytes) {
        assert_eq!(frame::encode_tcp(frame.transaction, frame.unit, frame.pdu), bytes[..size]);
    }
    if let Some((unit, pdu)) = frame::decode_rtu(bytes) {
        assert_eq!(frame::encode_rtu(unit, pdu), bytes);
    }
    if let Front::Frame((unit, pdu), size) = frame::decode_ascii(bytes) {
        let again = frame::encode_ascii(unit, &pdu);
        assert!(again.eq_ignore_ascii_case(&bytes[..size]), "{unit} {pdu:?}");
    }
}

/// Heartbeats that people write, of both kinds.
const HEARTBEATS: [&str; 8] =
    ["PING", "^PING$", r"^(PING|\x00)$", "PI+NG?", "^D", "(?s).{3}", "[0-9]{3,200}X", r"^(\xfe)+$"];

/// Compiled once: a pattern takes longer than all else.
static FILTER_RULES: LazyLock<Vec<Arc<Rules>>> = LazyLock::new(|| {
    HEARTBEATS.iter().map(|text| Arc::new(Rules::new(None, pattern(text).ok(), false))).collect()
});

/// The filter of a caller. The first byte chooses the heartbeat and whether there is a prefix; then each chunk is a
/// length and so many bytes, a length of 255 is silence.
pub(crate) fn filter(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let prefix = if first & 8 == 0 { &b""[..] } else { b"DTU1" };
    let rules = &FILTER_RULES[usize::from(first & 7)];
    let mut filter = Filter::new(rules.clone(), Bytes::from_static(prefix));
    let (mut protocol, mut total) = (BytesMut::new(), 0);
    for chunk in chunks(rest) {
        match chunk {
            Some(chunk) => {
                total += chunk.len();
                filter.handle_bytes(chunk, &mut protocol);
            }
            None => {
                filter.handle_quiet(&mut protocol);
                assert!(!filter.is_holding(), "nothing is held back for ever");
            }
        }
        assert!(protocol.len() <= total, "nothing is made up");
    }
    filter.handle_quiet(&mut protocol);
    assert!(
        is_part(&protocol, &chunks(rest).flatten().flatten().copied().collect::<Vec<u8>>()),
        "nothing is made up"
    );
}

/// Registrations that people write.
const REGISTRATIONS: [&str; 8] = [
    "^DTU-(?<id>[0-9]{8})$",
    "^DTU-(?<id>[0-9]+)",
    "(?<id>.+)",
    "^(?<id>[0-9]{15})(,[0-9]{4})?",
    "(?s-u)^\\xAA(?<id>.{3})",
    "^IMEI(?<id>[0-9]*)",
    "DTU-(?<id>.{2})\\r\\n",
    "(?s).*(?<id>x)",
];

/// Compiled once, by the bits of the first byte.
static REGISTRATION_RULES: LazyLock<Vec<Arc<Rules>>> = LazyLock::new(|| {
    let rules = |choice: usize| {
        let heartbeat = if choice & 16 == 0 { None } else { pattern("PING").ok() };
        Arc::new(Rules::new(pattern(REGISTRATIONS[choice & 7]).ok(), heartbeat, choice & 8 != 0))
    };
    (0..32).map(rules).collect()
});

/// A registration. The first byte chooses the pattern, the heartbeat and whether there is a prefix; then as for
/// [`filter`]. However the stream is cut, the caller is the same.
pub(crate) fn registration(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let whole: Vec<u8> = chunks(rest).flatten().flatten().copied().collect();
    // silence ends a registration, so only a stream without one can be cut anywhere
    let is_one_piece = chunks(rest).all(|chunk| chunk.is_some());
    let id = register(*first, chunks(rest));
    if is_one_piece {
        assert_eq!(id, register(*first, [Some(&whole[..])].into_iter()), "cut otherwise, it is another");
    }
}

/// Who is calling after these chunks and silence.
fn register<'a>(choice: u8, chunks: impl Iterator<Item = Option<&'a [u8]>>) -> Option<String> {
    let rules = REGISTRATION_RULES[usize::from(choice & 31)].clone();
    let mut registering = Registering::new(rules, IpAddr::V4(Ipv4Addr::LOCALHOST));
    let mut received = 0;
    for chunk in chunks.chain([None]) {
        received += chunk.map_or(0, <[u8]>::len);
        let step = match chunk {
            Some(chunk) => registering.handle_bytes(chunk),
            None => registering.handle_quiet(),
        };
        match step {
            Step::More => {
                assert!(chunk.is_none() || received < REGISTRATION_MAX, "it ends after so many bytes")
            }
            Step::Refused(refusal) => {
                assert!(!refusal.to_string().is_empty());
                return None;
            }
            Step::Registered(registered) => {
                assert!(registered.early.len() <= received, "nothing is made up");
                return Some(registered.id);
            }
        }
    }
    None
}

/// Each a length and so many bytes; `None` for 255.
fn chunks(bytes: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (size, after) = rest.split_first()?;
        if *size == u8::MAX {
            rest = after;
            return Some(None);
        }
        let (chunk, after) = after.split_at(usize::from(*size).min(after.len()));
        rest = after;
        Some(Some(chunk))
    })
}

/// Whether `part` is `whole` with some bytes left out.
fn is_part(part: &[u8], whole: &[u8]) -> bool {
    let mut whole = whole.iter();
    part.iter().all(|byte| whole.any(|other| other == byte))
}

/// A site with a tag of each kind that can be written.
static COMMANDED: LazyLock<Arc<Site>> = LazyLock::new(|| {
    let text = r#"
        [gateway]
        name = "n"
        enterprise = "e"
        [uplink.u]
        broker = "mqtt://127.0.0.1"
        [commands]
        enabled = true
        [link.l]
        tcp = "127.0.0.1:502"
        [device.d]
        link = "l"
        tags = [
          { name = "i16", at = "hr:0", type = "i16", scale = 0.1, write = { min = -5, max = 5, step = 0.5, every = "0s" } },
          { name = "u64", at = "hr:4", type = "u64", write = { every = "0s" } },
          { name = "f32", at = "hr:8", type = "f32", write = { max_change = 3, every = "0s" } },
          { name = "f64", at = "hr:10", type = "f64", scale = 0.3, offset = 1, write = { every = "0s", arm = "5s" } },
          { name = "coil", at = "coil:0", write = { every = "0s" } },
          { name = "bit", at = "hr:20.15", write = { function = 22, every = "0s" } },
        ]
        alarm = { hot = { when = "i16", above = 5 } }
    "#;
    Arc::new(config::parse("fuzzed.toml", text).site.expect("a fine configuration"))
});

/// The payload of a command. The first byte says how old the gateway takes it to be.
///
/// What is allowed is within its limits, and every answer is of bounded size.
pub(crate) fn command(bytes: &[u8]) {
    let Some((first, payload)) = bytes.split_first() else { return };
    let site = COMMANDED.clone();
    let now = Timestamp::from_millis(1_764_000_000_000 + u64::from(*first) * 100);
    let origin = Origin {
        shared: &Shared::new(&site, &site.uplinks[0].share),
        site: &site,
        form: Form { aliases: first & 1 != 0, types: IntegerTypes::Exact, datatype_in_data: false },
        uplink: &"u".into(),
        session_since: Timestamp::from_millis(0),
        received_at: now,
        is_retained: false,
    };
    let requests = match write_requests(origin, "spBv1.0/e/DCMD/n/d", "d", payload) {
        Ok(requests) => requests,
        Err(refused) => return assert!(refused.reason.len() < 200),
    };
    let mut rules = allow::Rules::new(site.clone());
    for request in requests {
        assert!(request.id.len() <= ID_MAX + 4 && matches!(request.by, Requester::Uplink(_)));
        let at = tidegate::clock::monotonic();
        let now = allow::Now { at, received: at, wall: now, is_clock_trusted: true };
        match rules.admit(&request, |_| false, now) {
            Ok(allow::Admitted::Write(plan)) => assert!(site.tags[plan.tag.index()].write.is_some()),
            Ok(allow::Admitted::Alarm(order)) => {
                assert!(site.tags[order.tag.index()].control().is_some() && &*order.alarm == "hot");
            }
            Err(reason) => assert!(!reason.is_empty() && reason.len() < 2000),
        }
    }
}
