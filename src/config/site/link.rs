//! `[link]`: byte streams, and how they are spoken on.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use regex::bytes::Regex;

use super::Network;

/// One byte stream: a serial port or a TCP connection.
#[derive(Clone, Debug)]
pub struct Link {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// What is opened.
    pub endpoint: Endpoint,
    /// How Modbus is framed on it.
    pub framing: Framing,
    /// The silence before each request; `None`: t3.5 on a serial framing, none on TCP.
    pub gap: Option<Duration>,
    /// Whether what is sent comes back before the answer.
    pub echo: Echo,
    /// How many connections at a time the far end takes, 1 to 16.
    pub connections: u8,
    /// Requests outstanding on a connection, 1 to 16; more than 1 only with [`Framing::Tcp`].
    pub in_flight: u8,
    /// A stream is closed after so long without a byte.
    pub idle_close: Option<Duration>,
    /// The minute of the local day at which its meters of DL/T 645 are told the time; `None`: never.
    pub broadcast_time: Option<u16>,
}

/// Whether a half-duplex adapter gives back what was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Echo {
    /// It does not.
    #[default]
    No,
    /// It does: what was sent is expected back, byte for byte, before the answer.
    Yes,
    /// Found out from the first answer.
    Auto,
}

/// How a Modbus PDU is framed on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// With an MBAP header (Modbus Messaging on TCP/IP V1.0b).
    Tcp,
    /// Binary, with a CRC (Modbus over Serial Line V1.02, 2.5.1).
    Rtu,
    /// Hexadecimal, with an LRC (Modbus over Serial Line V1.02, 2.5.2).
    Ascii,
}

/// What a link opens.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// A TCP connection.
    Tcp {
        /// `host:port`
        address: String,
        /// The longest wait for a connection.
        connect_timeout: Duration,
        /// Modbus/TCP Security; `None`: plain.
        tls: Option<TlsFiles>,
    },
    /// A serial port.
    Serial {
        /// The device file, best a stable name under `/dev/serial/by-id`.
        port: PathBuf,
        /// Speed and frame.
        line: SerialLine,
        /// The driver is to raise RTS while sending.
        rts_on_send: bool,
    },
    /// A TCP port where units dial in.
    Listen(Listen),
}

/// The files of a TLS client, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Whose signature on the far end's certificate is trusted.
    pub ca_file: PathBuf,
    /// Our own certificate and its key.
    pub own: Option<(PathBuf, PathBuf)>,
}

/// Where and how units dial in.
#[derive(Clone, Debug)]
pub struct Listen {
    /// `host:port`
    pub address: SocketAddr,
    /// What a unit says first; its group `id` is the caller's id. `None`: the id is the peer's address.
    pub registration: Option<Regex>,
    /// What a unit says to keep the connection alive.
    pub heartbeat: Option<Regex>,
    /// The unit puts its registration before every packet.
    pub prefixed: bool,
    /// The name of each id; `None`: everyone, by id.
    pub callers: Option<BTreeMap<String, Arc<str>>>,
    /// The address ranges that may connect; empty: all.
    pub allow: Vec<Network>,
}

/// Speed and character frame of a serial line; as text `9600 8N1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SerialLine {
    /// Bits a second.
    pub baud: u32,
    /// 7 or 8.
    pub data_bits: u8,
    /// The parity bit.
    pub parity: Parity,
    /// 1 or 2.
    pub stop_bits: u8,
}

/// The parity bit of a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parity {
    /// N: there is none.
    None,
    /// E
    Even,
    /// O
    Odd,
}

impl Parity {
    /// The parity with this letter.
    #[must_use]
    pub fn from_letter(letter: char) -> Option<Parity> {
        Some(match letter {
            'N' => Parity::None,
            'E' => Parity::Even,
            'O' => Parity::Odd,
            _ => return None,
        })
    }

    /// Its letter.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Parity::None => 'N',
            Parity::Even => 'E',
            Parity::Odd => 'O',
        }
    }
}

impl SerialLine {
    /// What `text`, as `9600 8N1`, says.
    #[must_use]
    pub fn parse(text: &str) -> Option<SerialLine> {
        let (baud, frame) = text.split_once(' ')?;
        let frame: Vec<char> = frame.chars().collect();
        let [data_bits, parity, stop_bits] = frame.as_slice() else { return None };
        let baud = baud.parse().ok().filter(|baud| (50..=4_000_000).contains(baud))?;
        let data_bits = data_bits.to_digit(10).filter(|bits| [7, 8].contains(bits))?;
        let stop_bits = stop_bits.to_digit(10).filter(|bits| [1, 2].contains(bits))?;
        Some(SerialLine {
            baud,
            data_bits: u8::try_from(data_bits).ok()?,
            parity: Parity::from_letter(*parity)?,
            stop_bits: u8::try_from(stop_bits).ok()?,
        })
    }

    /// Whether who is set so hears `other` and is heard: a second stop bit makes no difference.
    #[must_use]
    pub fn hears(&self, other: &SerialLine) -> bool {
        (self.baud, self.data_bits, self.parity) == (other.baud, other.data_bits, other.parity)
    }
}

impl fmt::Display for SerialLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SerialLine { baud, data_bits, parity, stop_bits } = self;
        write!(f, "{baud} {data_bits}{}{stop_bits}", parity.letter())
    }
}

/// How a device leaves the factory; as text `9600 8N1`, or `9600 7E1 ascii`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factory {
    /// Speed and frame.
    pub line: SerialLine,
    /// It speaks Modbus ASCII.
    pub is_ascii: bool,
}

impl Factory {
    /// What `text`, as `9600 8N1` or `9600 7E1 ascii`, says.
    #[must_use]
    pub fn parse(text: &str) -> Option<Factory> {
        let line = text.strip_suffix(" ascii");
        Some(Factory { line: SerialLine::parse(line.unwrap_or(text))?, is_ascii: line.is_some() })
    }
}

impl fmt::Display for Factory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.line, if self.is_ascii { " ascii" } else { "" })
    }
}

/// The units in `text`, as `3-4,7`, in its order.
#[must_use]
pub fn parse_units(text: &str) -> Option<Vec<u8>> {
    let mut units = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u8, u8) = (first.parse().ok()?, last.parse().ok()?);
        if first > last {
            return None;
        }
        units.extend(first..=last);
    }
    Some(units)
}
