//! `protocol = "serial"`: an instrument as its type describes it, without code. Plain data; `driver/serial` runs it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use regex::bytes::Regex;

use super::Operand;
use crate::tag::{ByteOrder, DataType, Encoding};

/// The longest frame that a rule may ask for, in bytes.
pub const FRAME_MAX: usize = 65_536;

/// An instrument: what is sent to it, what comes back, and where its values stand in it.
#[derive(Clone, Debug)]
pub struct Instrument {
    /// Bytes before every request; empty: none.
    pub wake: Vec<u8>,
    /// What the names in templates stand for where nothing nearer says it.
    pub vars: Vars,
    /// At least one; an instrument that only talks has one, with nothing to send.
    pub requests: Vec<Request>,
    /// What its manual prints.
    pub examples: Vec<Example>,
}

impl Instrument {
    /// How it is talked to.
    #[must_use]
    pub fn mode(&self) -> Mode {
        let is_event = |field: &Field| field.is_event;
        if self.requests.iter().any(|request| request.send.is_some()) {
            Mode::Poll
        } else if self.requests.iter().flat_map(|request| &request.fields).any(is_event) {
            Mode::Event
        } else {
            Mode::Listen
        }
    }
}

/// How an instrument is talked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It sends its state by itself: a frame is a sample, and silence means that it is gone.
    Listen,
    /// It is asked.
    Poll,
    /// It sends when something happens: each frame counts, and silence means nothing.
    Event,
}

/// One request and its answer, or what an instrument sends by itself.
#[derive(Clone, Debug)]
pub struct Request {
    /// Under `request`; `None`: the only one, which stands in the type itself.
    pub name: Option<Arc<str>>,
    /// What is sent, after `wake`; `None`: nothing.
    pub send: Option<Template>,
    /// Over those of the instrument and of the device.
    pub vars: Vars,
    /// What a frame looks like.
    pub frame: FrameRule,
    /// What stands in a frame.
    pub fields: Vec<Field>,
}

/// What a name in a template stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Var {
    /// A whole number.
    Number(i64),
    /// Text: an address as digits, bytes as pairs of hexadecimal digits, a word.
    Text(Arc<str>),
}

/// Names and what they stand for: `unit`, `address`, `value` and those of `vars`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vars(pub BTreeMap<Arc<str>, Var>);

impl Vars {
    /// What `name` stands for.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Var> {
        self.0.get(name)
    }

    /// These, with `name` standing for `var`.
    #[must_use]
    pub fn with(mut self, name: &str, var: Var) -> Vars {
        self.0.insert(name.into(), var);
        self
    }

    /// These, and of `lower` the names that these do not have.
    #[must_use]
    pub fn over(&self, lower: &Vars) -> Vars {
        let mut all = lower.0.clone();
        all.extend(self.0.iter().map(|(name, var)| (Arc::clone(name), var.clone())));
        Vars(all)
    }
}

/// Bytes with places that are filled in: `02 'SI' {unit as u8} {sum8 from 1 as hex}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template(pub Vec<Part>);

impl Template {
    /// The names that it fills in.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for part in &self.0 {
            if let Part::Value { term, .. } = part {
                term.add_names(&mut names);
            }
        }
        names
    }

    /// Its bytes, if there is nothing to fill in.
    #[must_use]
    pub fn constant(&self) -> Option<Vec<u8>> {
        let bytes = |part: &Part| match part {
            Part::Bytes(bytes) => Some(bytes.clone()),
            Part::Value { .. } | Part::Check { .. } => None,
        };
        let parts: Option<Vec<Vec<u8>>> = self.0.iter().map(bytes).collect();
        parts.map(|parts| parts.concat())
    }
}

/// One part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// These bytes.
    Bytes(Vec<u8>),
    /// What a name stands for, or a number that is computed of some.
    Value {
        /// What.
        term: Term,
        /// As which bytes.
        form: Form,
    },
    /// A checksum over what stands before it.
    Check {
        /// How it is computed.
        kind: CheckKind,
        /// The first byte that counts, 0-based.
        from: u16,
        /// As which bytes.
        form: CheckForm,
    },
}

/// A number in a template, in 64 bits; what does not fit into them is an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Term {
    /// This number.
    Number(i64),
    /// What the name stands for.
    Name(Arc<str>),
    /// Two terms.
    Two(Box<Term>, Operator, Box<Term>),
}

impl Term {
    fn add_names<'a>(&'a self, names: &mut Vec<&'a str>) {
        match self {
            Term::Number(_) => {}
            Term::Name(name) => names.push(name),
            Term::Two(a, _, b) => {
                a.add_names(names);
                b.add_names(names);
            }
        }
    }
}

/// What is done to two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`, without the rest
    Divide,
    /// `%`, the rest
    Remainder,
}

/// As which bytes a value is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One byte.
    U8,
    /// Two bytes, the high one first.
    U16Be,
    /// Two bytes, the low one first.
    U16Le,
    /// So many hexadecimal digits as text, 2 or 4; upper case.
    Hex(u8),
    /// So many decimal digits as text, 2 or 4.
    Dec(u8),
    /// Two digits a byte, as they are written.
    Bcd,
    /// Two digits a byte, the last ones first.
    BcdLe,
    /// Text that is pairs of hexadecimal digits, as the bytes that they write.
    Bytes,
    /// The text itself, or the number in decimal.
    Text,
}

/// A checksum. The figure is that of `123456789`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// The sum, its lowest 8 bits: DD.
    Sum8,
    /// What makes the sum 0, also called LRC: 23.
    Sum8Neg,
    /// The lowest 7 bits of that (Toledo continuous output): 23.
    Sum7Neg,
    /// All bytes exclusive-or, also called BCC and FCS: 31.
    Xor8,
    /// CRC-16/MODBUS: 4B37.
    Crc16Modbus,
    /// CRC-16/ARC: BB3D.
    Crc16Arc,
    /// CRC-16/CCITT-FALSE: 29B1.
    Crc16Ccitt,
    /// CRC-16/XMODEM: 31C3.
    Crc16Xmodem,
    /// CRC-16/X-25: 906E.
    Crc16X25,
    /// CRC-16/KERMIT: 2189.
    Crc16Kermit,
}

impl CheckKind {
    /// All of them.
    pub const ALL: [CheckKind; 10] = [
        CheckKind::Sum8,
        CheckKind::Sum8Neg,
        CheckKind::Sum7Neg,
        CheckKind::Xor8,
        CheckKind::Crc16Modbus,
        CheckKind::Crc16Arc,
        CheckKind::Crc16Ccitt,
        CheckKind::Crc16Xmodem,
        CheckKind::Crc16X25,
        CheckKind::Crc16Kermit,
    ];

    /// As a configuration has it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            CheckKind::Sum8 => "sum8",
            CheckKind::Sum8Neg => "sum8-neg",
            CheckKind::Sum7Neg => "sum7-neg",
            CheckKind::Xor8 => "xor8",
            CheckKind::Crc16Modbus => "crc16-modbus",
            CheckKind::Crc16Arc => "crc16-arc",
            CheckKind::Crc16Ccitt => "crc16-ccitt",
            CheckKind::Crc16Xmodem => "crc16-xmodem",
            CheckKind::Crc16X25 => "crc16-x25",
            CheckKind::Crc16Kermit => "crc16-kermit",
        }
    }

    /// The one that is called so.
    #[must_use]
    pub fn from_word(word: &str) -> Option<CheckKind> {
        CheckKind::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// Whether it has 16 bits and not 8.
    #[must_use]
    pub const fn is_wide(self) -> bool {
        match self {
            CheckKind::Sum8 | CheckKind::Sum8Neg | CheckKind::Sum7Neg | CheckKind::Xor8 => false,
            CheckKind::Crc16Modbus
            | CheckKind::Crc16Arc
            | CheckKind::Crc16Ccitt
            | CheckKind::Crc16Xmodem
            | CheckKind::Crc16X25
            | CheckKind::Crc16Kermit => true,
        }
    }
}

/// As which bytes a checksum stands in a frame. Of 8 bits `LowFirst` and `HighFirst` are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckForm {
    /// The low byte first.
    LowFirst,
    /// The high byte first.
    HighFirst,
    /// Hexadecimal digits as text, two a byte, the high ones first.
    Hex,
}

/// The checksum of a frame. Its places count from 0, or from the end of the frame, whose last byte is -1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// How it is computed.
    pub kind: CheckKind,
    /// The first and the last byte that count, both included.
    pub over: (i32, i32),
    /// Where its first byte stands.
    pub at: i32,
    /// As which bytes.
    pub form: CheckForm,
}

/// How long a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// So many bytes in all, at least 1.
    Fixed(u16),
    /// The frame says it: bytes in all = the number at `at` + `add`.
    Field {
        /// The first byte of the number, 0-based.
        at: u16,
        /// The bytes that the number does not count.
        add: i16,
        /// Two bytes and not one.
        is_wide: bool,
        /// Of two bytes the low one comes first.
        is_low_first: bool,
    },
}

/// What is done to the bytes between start and end before values are looked for in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unpack {
    /// Pairs of hexadecimal digits become bytes.
    Hex,
    /// The last byte comes first.
    Reverse,
}

/// Which part of a stream is a frame, and which frame is an answer.
///
/// The end is known by `length`, else by `ends`, else by `idle`, else by the next start, in this order.
#[derive(Clone, Debug)]
pub struct FrameRule {
    /// What a frame begins with; empty: anything. Noise before it is dropped a byte at a time.
    pub start: Vec<u8>,
    /// What it ends with, one of these, none of them empty. Of two at one place the shorter one ends the frame; what the
    /// longer one has left is dropped.
    pub ends: Vec<Vec<u8>>,
    /// How long it is.
    pub length: Option<Length>,
    /// So long a silence ends it.
    pub idle: Option<Duration>,
    /// What is longer is noise; bytes, at least 1.
    pub max: usize,
    /// So many bytes follow the end.
    pub trailer: u8,
    /// A fill byte before a frame, which is not counted.
    pub skip: Option<u8>,
    /// Its checksum.
    pub check: Option<Check>,
    /// What stands where in the answer to a request, from 0 or from the end (-1); empty: every frame is one.
    pub matches: Vec<(i32, Template)>,
    /// This alone means that the request is refused; empty: nothing does.
    pub nak: Vec<u8>,
    /// What is done to the bytes between start and end.
    pub unpack: Option<Unpack>,
    /// The first that matches what stands between start and end names its parts; empty: nothing is matched.
    pub patterns: Vec<Regex>,
    /// What the text in it is.
    pub encoding: Encoding,
}

impl FrameRule {
    /// The longest frame where nothing else is said, in bytes.
    pub const MAX: usize = 256;
}

impl Default for FrameRule {
    fn default() -> FrameRule {
        FrameRule {
            start: Vec::new(),
            ends: Vec::new(),
            length: None,
            idle: None,
            max: FrameRule::MAX,
            trailer: 0,
            skip: None,
            check: None,
            matches: Vec::new(),
            nak: Vec::new(),
            unpack: None,
            patterns: Vec::new(),
            encoding: Encoding::Auto,
        }
    }
}

/// Where a value stands in a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldAt {
    /// `byte:14`, `byte:-3`, `byte:2.3`, `byte:1.0-2`. Of a frame that is unpacked, a byte of what comes out.
    Byte {
        /// The first byte, from 0 or from the end (-1).
        position: i32,
        /// The lowest and the highest bit of that byte, 0 to 7; `None`: the whole byte, and those that follow.
        bits: Option<(u8, u8)>,
    },
    /// `group:val`: what the named group of the pattern holds.
    Group(Arc<str>),
}

/// What the bytes of a field mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldType {
    /// As in registers, two bytes each; one byte where the type needs no more.
    Data(DataType),
    /// A number as text: blanks are dropped, then a sign, digits, a point, an exponent.
    Decimal,
    /// Hexadecimal digits as text, at most 16, two a byte: a number that is not negative.
    Hex,
}

/// One value of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name of its tag.
    pub name: Arc<str>,
    /// Where it stands.
    pub at: FieldAt,
    /// What its bytes mean.
    pub field_type: FieldType,
    /// How many bytes it has; `None`: as many as its type needs, of text all that follow. Groups know it themselves.
    pub length: Option<u16>,
    /// How its bytes lie.
    pub order: ByteOrder,
    /// Each frame is an event.
    pub is_event: bool,
    /// A frame without it is no fault.
    pub is_optional: bool,
}

/// An exchange as a manual prints it, by which a type is tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// Which request; `None`: the only one.
    pub request: Option<Arc<str>>,
    /// What names stand for: `unit`, `address`, and those of `vars`.
    pub vars: Vars,
    /// What must be sent, `wake` included.
    pub send: Option<Vec<u8>>,
    /// What comes in.
    pub incoming: Option<Vec<u8>>,
    /// What it must give; nothing: it must be dropped.
    pub out: BTreeMap<Arc<str>, Operand>,
}
