//! A line with an instrument that a type describes, on which anything may come.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use tidegate::config;
use tidegate::config::finding::Finding;
use tidegate::config::site::DeviceProtocol;
use tidegate::config::site::serial::{Instrument, Request, Vars};
use tidegate::driver::serial::framer::{Counts, Frame, Framer};
use tidegate::driver::serial::{Heard, check, hear};

/// The types that we ship.
const SHIPPED: [&str; 5] = [
    include_str!("../../../configs/types/controllers.toml"),
    include_str!("../../../configs/types/drives-serial.toml"),
    include_str!("../../../configs/types/readers.toml"),
    include_str!("../../../configs/types/scales.toml"),
    include_str!("../../../configs/types/water-meters.toml"),
];
/// So many descriptions are made up.
const MADE: usize = 256;
/// The length of a chunk from which on it stands for a whole frame.
const WHOLE: u8 = 0xE0;

/// A request of an instrument, and frames that answer it.
struct Subject {
    instrument: Arc<Instrument>,
    request: usize,
    vars: Vars,
    frames: Vec<Vec<u8>>,
}

static SHIPPED_SUBJECTS: LazyLock<Vec<Subject>> = LazyLock::new(|| {
    let name = |line: &str| Some(line.strip_prefix("[type.")?.strip_suffix(']')?.to_owned());
    let names = SHIPPED.iter().flat_map(|text| text.lines()).filter_map(name);
    let mut text = SHIPPED.concat();
    for name in names.filter(|name| !name.contains('.')) {
        let named = match name.split('-').next() {
            Some("cjt188") => "address = '78330011223344'",
            Some("huanyang" | "mewtocol" | "hostlink") => "unit = 1",
            _ => "",
        };
        writeln!(
            text,
            "[link.{name}]\nport = '/dev/{name}'\nserial = '9600 8N1'\n[device.{name}]\nlink = '{name}'\ntype = '{name}'\n{named}"
        )
        .expect("a text takes all");
    }
    let subjects = subjects(&text).expect("the types that we ship are fine");
    let with_frames = subjects.iter().filter(|subject| !subject.frames.is_empty()).count();
    assert!(with_frames >= 13, "{with_frames} have frames of manuals");
    subjects
});

static MADE_SUBJECTS: LazyLock<Vec<Subject>> = LazyLock::new(|| {
    let made: Vec<Subject> =
        (0..).filter_map(|number| subjects(&made(number)).ok()).flatten().take(MADE).collect();
    assert_eq!(made.len(), MADE);
    made
});

/// The requests of the devices in `text`, or what is wrong with it.
fn subjects(text: &str) -> Result<Vec<Subject>, Vec<Finding>> {
    let head = "[gateway]\nname = 'n'\nenterprise = 'e'\n[uplink.u]\nbroker = 'mqtt://127.0.0.1'\n";
    let site = config::parse("fuzzed.toml", &format!("{head}{text}")).site?;
    let mut all = Vec::new();
    for device in &site.devices {
        let DeviceProtocol::Serial(instrument, of_device) = &device.protocol else { continue };
        for (index, request) in instrument.requests.iter().enumerate() {
            let of_request = || instrument.examples.iter().filter(|example| example.request == request.name);
            let mut vars = of_device.over(&request.vars).over(&instrument.vars);
            if let Some(first) = of_request().next() {
                vars = first.vars.over(&vars);
            }
            let mut subject =
                Subject { instrument: instrument.clone(), request: index, vars, frames: Vec::new() };
            for incoming in of_request().filter_map(|example| example.incoming.clone()) {
                let heard = Line::new(&subject).hear_all(&incoming);
                let told = heard.into_iter().filter(|frame| matches!(subject.hear(frame), Heard::Values(_)));
                let told: Vec<Vec<u8>> = told.map(|frame| frame.bytes.to_vec()).collect();
                subject.frames.extend(told);
            }
            all.push(subject);
        }
    }
    Ok(all)
}

/// A description with keys of all kinds, many of which no configuration may have together.
fn made(number: u32) -> String {
    let mut rest = number.wrapping_mul(2_654_435_761) ^ 0x5DEE_CE66;
    let mut one_of = |lines: &[&'static str]| {
        rest = rest.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        lines[(rest >> 16) as usize % lines.len()]
    };
    let frame = [
        one_of(&["", "start = \"02\"", "start = \"'='\"", "start = \"FE 68\"", "start = \"02 02\""]),
        one_of(&[
            "",
            "end = \"03\"",
            "end = \"0D 0A\"",
            "end = [\"0D\", \"0D 0A\"]",
            "end = [\"0A\", \"03 03\"]",
        ]),
        one_of(&[
            "",
            "length = 6",
            "length = { at = 1, add = 4 }",
            "length = { at = 2, add = 0, size = 2, order = \"BA\" }",
        ]),
        one_of(&["", "", "idle = \"30ms\"", "idle = \"1s\""]),
        one_of(&["", "max = 8", "max = 40", "max = 1"]),
        one_of(&["", "", "trailer = 1", "trailer = 3"]),
        one_of(&["", "", "skip = \"FE\"", "skip = \"00\"", "skip = \"02\""]),
        one_of(&["", "", "nak = \"15\"", "nak = \"15 15\"", "nak = \"02\""]),
        one_of(&["", "", "decode = \"hex\"", "decode = \"reverse\""]),
        one_of(&["", "pattern = '^(?<val>[0-9.]*)'", "pattern = ['^(?<val>-?[0-9]+)$', '(?s)(?<val>.*)']"]),
        one_of(&[
            "",
            "check = { kind = \"xor8\", over = [1, -2], at = -1 }",
            "check = { kind = \"sum8\", over = [0, -3], at = -2, as = \"hex\" }",
            "check = { kind = \"sum7-neg\", over = [0, -2], at = -1 }",
            "check = { kind = \"crc16-modbus\", over = [0, -3], at = -2 }",
            "check = { kind = \"crc16-ccitt\", over = [1, 3], at = 4, as = \"be\" }",
        ]),
    ];
    let group = if frame.iter().any(|line| line.starts_with("pattern")) {
        "{ name = 'g', at = 'group:val', type = 'decimal', optional = true }, { name = 't', at = 'group:val', type = 'string' },"
    } else {
        ""
    };
    format!(
        "[link.l]\nport = '/dev/l'\nserial = '9600 8N1'\n[device.d]\nlink = 'l'\ntype = 'made'\n\
         [type.made]\nprotocol = 'serial'\ntags = [{group} {{ name = 'a', at = 'byte:0', type = 'u8' }}, \
         {{ name = 'b', at = 'byte:-1.0-3' }}, {{ name = 'c', at = 'byte:1', length = 4, type = 'decimal' }}, \
         {{ name = 'd', at = 'byte:-2', type = 'i16' }}, {{ name = 'e', at = 'byte:2', length = 2, type = 'hex' }}]\n\
         [type.made.frame]\n{}\n",
        frame.join("\n")
    )
}

impl Subject {
    fn request(&self) -> &Request {
        &self.instrument.requests[self.request]
    }

    fn hear(&self, frame: &Frame) -> Heard {
        hear(self.request(), frame, &self.vars).expect("all names stand for something")
    }

    /// Whether noise before a frame cannot make it another one: each frame begins at a mark, or says how long it is, and has a
    /// checksum.
    fn is_guarded(&self) -> bool {
        let rule = &self.request().frame;
        rule.check.is_some() && (!rule.start.is_empty() || rule.length.is_some())
    }
}

/// What comes in, what is found of it, and where.
struct Line<'a> {
    subject: &'a Subject,
    framer: Framer,
    now: std::time::Instant,
    stream: Vec<u8>,
    found: Vec<(Range<usize>, Frame)>,
}

impl<'a> Line<'a> {
    fn new(subject: &'a Subject) -> Line<'a> {
        let framer = Framer::new(&subject.request().frame);
        Line { subject, framer, now: tidegate::clock::monotonic(), stream: Vec::new(), found: Vec::new() }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.stream.extend_from_slice(bytes);
        self.framer.push(bytes, self.now);
        self.take();
    }

    /// Nothing comes for so long that nothing is due any more.
    fn rest(&mut self) {
        let mut turns = 0;
        while let Some(due) = self.framer.next_due() {
            assert!(due >= self.now, "what is due lies ahead");
            self.now = due;
            self.framer.handle_quiet(due);
            self.take();
            turns += 1;
            assert!(turns < 16, "in silence all comes to an end");
        }
        self.now += std::time::Duration::from_secs(1);
        self.framer.handle_quiet(self.now);
        self.take();
    }

    fn take(&mut self) {
        while let Some(frame) = self.framer.next_frame() {
            let end = self.stream.len() - self.framer.held();
            let range = end - frame.bytes.len()..end;
            self.check(&range, &frame);
            self.found.push((range, frame));
        }
        let rule = &self.subject.request().frame;
        let most = rule.max.max(rule.nak.len());
        assert!(self.framer.held() <= most, "{} bytes are kept, of {most}", self.framer.held());
    }

    /// It came, it is of this form, and whatever is in it is borne.
    fn check(&self, range: &Range<usize>, frame: &Frame) {
        let rule = &self.subject.request().frame;
        assert!(
            self.found.last().is_none_or(|(before, _)| before.end <= range.start),
            "frames do not overlap"
        );
        assert_eq!(self.stream[range.clone()], frame.bytes, "nothing is made up");
        if frame.is_refusal {
            assert!(!rule.nak.is_empty() && frame.bytes == rule.nak);
            return;
        }
        assert!(frame.bytes.len() <= rule.max && frame.bytes.starts_with(&rule.start));
        assert!(rule.check.is_none_or(|check| check::holds(&check, &frame.bytes)), "its checksum is right");
        assert!(frame.body.start <= frame.body.end && frame.body.end <= frame.bytes.len());
        if let Heard::Values(values) = self.subject.hear(frame) {
            assert_eq!(values.len(), self.subject.request().fields.len());
        }
    }

    fn hear_all(mut self, bytes: &[u8]) -> Vec<Frame> {
        self.push(bytes);
        self.rest();
        self.found.into_iter().map(|(_, frame)| frame).collect()
    }

    /// Every byte is of a frame, or noise, or means nothing.
    fn counts(&self) -> Counts {
        let counts = self.framer.counts();
        let framed: usize = self.found.iter().map(|(range, _)| range.len()).sum();
        assert_eq!(counts.frames, self.found.len() as u64);
        assert!(framed as u64 + counts.noise <= self.stream.len() as u64, "no byte counts twice");
        counts
    }
}

/// The first byte chooses: even, a request of a type that we ship; odd, a made-up one. The second is the length of the pieces
/// less one in bits 0 to 5; bit 6: there is a silence after each; bit 7: the other half of the made-up ones. Then each chunk is
/// a length and so many bytes; from 0xE0 on it stands for a whole frame.
///
/// What is found came so, is of the form that is described, and does not overlap; never more than `max` is kept; however the
/// stream is cut, the same is found. Where noise cannot make a frame another one, each whole frame is found, unless another one
/// that is found has a part of it; and after whatever came, and a silence, frames are found again.
pub(crate) fn serial(bytes: &[u8]) {
    let [first, second, rest @ ..] = bytes else { return };
    let half = usize::from(first >> 1);
    let subject = if first & 1 == 0 {
        &SHIPPED_SUBJECTS[half % SHIPPED_SUBJECTS.len()]
    } else {
        &MADE_SUBJECTS[half + usize::from(second >> 7) * 128]
    };
    let (stream, planted) = stream(subject, rest);
    let (size, is_silent) = (usize::from(second & 0x3F) + 1, second & 0x40 != 0);
    let mut line = Line::new(subject);
    for piece in stream.chunks(size) {
        line.push(piece);
        if is_silent {
            line.rest();
        }
    }
    if !is_silent {
        let mut whole = Line::new(subject);
        whole.push(&stream);
        assert_eq!(line.found, whole.found, "cut otherwise, something else is found");
        assert_eq!(line.counts(), whole.counts());
    }
    line.rest();
    line.counts();
    if subject.is_guarded() {
        for range in planted {
            let is_met = |found: &Range<usize>| found.start < range.end && found.end > range.start;
            assert!(line.found.iter().any(|(found, _)| is_met(found)), "the frame at {range:?} is not found");
        }
    }
    recover(line);
}

/// Bytes as they come, and where whole frames lie in them.
fn stream(subject: &Subject, bytes: &[u8]) -> (Vec<u8>, Vec<Range<usize>>) {
    let (mut stream, mut planted) = (Vec::new(), Vec::new());
    let mut rest = bytes;
    while let Some((size, after)) = rest.split_first() {
        rest = after;
        if *size < WHOLE {
            let (chunk, after) = after.split_at(usize::from(*size).min(after.len()));
            stream.extend_from_slice(chunk);
            rest = after;
        } else if let Some(number) = usize::from(size - WHOLE).checked_rem(subject.frames.len()) {
            let frame = &subject.frames[number];
            planted.push(stream.len()..stream.len() + frame.len());
            stream.extend_from_slice(frame);
        }
    }
    (stream, planted)
}

/// Whatever came before a silence: of the same frame three times, at least one is found. Where bytes that came before make one
/// with a right checksum that holds a part of all three, one of the next three is.
fn recover(mut line: Line<'_>) {
    for frame in &line.subject.frames {
        let is_found = three_times(&mut line, frame) || three_times(&mut line, frame);
        assert!(is_found, "{} is not found", frame.escape_ascii());
    }
    line.counts();
}

/// Whether one of three is found; if not, a frame with a checksum lies over them.
fn three_times(line: &mut Line<'_>, frame: &[u8]) -> bool {
    let before = line.stream.len();
    for _ in 0..3 {
        line.push(frame);
    }
    line.rest();
    let mut since = line.found.iter().filter(|(range, _)| range.end > before);
    if since.clone().any(|(range, found)| range.start >= before && found.bytes == frame) {
        return true;
    }
    let has_check = line.subject.request().frame.check.is_some();
    assert!(has_check && since.next().is_some(), "{} is not found", frame.escape_ascii());
    false
}
