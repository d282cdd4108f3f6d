//! The site as checked: what the gateway runs on. Nothing invalid can be built from here on, so nobody checks again.

mod alarm;
mod commands;
mod computed;
mod duration;
mod json;
mod machine;
mod network;
mod report;
pub mod serial;
mod share;
mod tag;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use regex::bytes::Regex;

use crate::calendar::Calendar;
use crate::dlt645::{Address, Identifier};
use crate::tag::{DeviceId, Span, TagId, UnitId};
pub use alarm::{AlarmControl, AlarmRule, AlarmStep, Limit, SHELVE_MAX, Severity, Test};
pub use commands::{
    COMMAND_AGE, COMMAND_AGE_MAX, Commands, INTERLOCK_READS_MAX, Interlock, LIMIT_MAX, NodeControl, Operand,
    Probe, ProbeTest, Readback, SAME, WRITE_EVERY, WriteBy, WritePolicy,
};
pub use computed::{Derived, Step, Total, WindowStep, WindowTag};
pub use duration::parse_duration;
pub use json::{Extent, Json, Payload, Piece, Topics};
pub use machine::{Amount, ClassStep, Count, CountFrom, CountKind, MachineRule, MachineStep, MachineTag};
pub use network::{Network, NetworkError};
pub use report::{Deadband, Report};
pub use share::{Share, Shared, Shares};
pub use tag::{Code, Codes, Kind, Layout, Recipe, Registers, Scaling, Source, Tag, WordError};

/// Everything that is wanted of one gateway.
#[derive(Clone, Debug)]
pub struct Site {
    /// Who it is.
    pub gateway: Gateway,
    /// The lines and sockets.
    pub links: Vec<Link>,
    /// The devices on them, indexed by [`DeviceId`].
    pub devices: Vec<Device>,
    /// The tags of all devices, indexed by [`crate::tag::TagId`]; those of one device stand together.
    pub tags: Vec<Tag>,
    /// The local time of the place, and when work is planned there.
    pub calendar: Calendar,
    /// What is computed from tags, in this order.
    pub steps: Vec<Step>,
    /// The counters whose totals are kept.
    pub totals: Vec<Total>,
    /// The brokers that are told; at least one.
    pub uplinks: Vec<Uplink>,
    /// What is stored until it is delivered.
    pub queue: Queue,
    /// Whether anything may be written, and for whom.
    pub commands: Commands,
    /// How much is logged.
    pub log_level: LogLevel,
    /// How often the gateway tells of itself; `None`: only in births.
    pub publish: Option<Duration>,
    /// What may be meant so, and is odd; for people.
    pub remarks: Vec<String>,
    /// Which configuration this is: the same for the same keys and values, secrets apart.
    pub fingerprint: u32,
}

/// `[queue]`: what is stored until it is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Bytes on the disk; beyond it the oldest readings are dropped, and it is told which.
    pub max_size: u64,
    /// Older readings are dropped, and it is told which.
    pub max_age: Option<Duration>,
    /// The most that a power cut may cost.
    pub flush: Duration,
    /// The disk is used only while an uplink is away.
    pub is_offline_only: bool,
    /// Delivered readings stay so long.
    pub replay_window: Duration,
}

impl Default for Queue {
    fn default() -> Queue {
        Queue {
            max_size: QUEUE_SIZE,
            max_age: None,
            flush: QUEUE_FLUSH,
            is_offline_only: false,
            replay_window: Duration::ZERO,
        }
    }
}

/// One byte stream, and the devices that are read over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Index into [`Site::links`].
    pub link: usize,
    /// On a listening link: whose connection it is.
    pub caller: Option<Arc<str>>,
    /// At least one.
    pub devices: Vec<DeviceId>,
}

impl Site {
    /// The streams of link `link`: its devices dealt out to as many connections as the far end takes, or to their
    /// callers.
    #[must_use]
    pub fn channels(&self, link: usize) -> Vec<Channel> {
        let devices = || self.devices.iter().filter(|device| device.link == link);
        let connections = self.links.get(link).map_or(1, |link| usize::from(link.connections.max(1)));
        let mut channels: BTreeMap<(Option<Arc<str>>, usize), Vec<DeviceId>> = BTreeMap::new();
        for (index, device) in devices().enumerate() {
            let share = if device.caller.is_some() { 0 } else { index % connections };
            channels.entry((device.caller.clone(), share)).or_default().push(device.id);
        }
        let channel = |((caller, _), devices)| Channel { link, caller, devices };
        channels.into_iter().map(channel).collect()
    }

    /// The tags of `device`.
    #[must_use]
    pub fn tags_of(&self, device: &Device) -> &[Tag] {
        let first = usize::try_from(device.tags.start).unwrap_or_default();
        let last = usize::try_from(device.tags.end).unwrap_or_default();
        self.tags.get(first..last).unwrap_or_default()
    }

    /// A tag by the names of its device and its own, `device:tag`.
    #[must_use]
    pub fn full_name(&self, tag: TagId) -> String {
        let tag = self.tags.get(tag.index());
        let device = tag.and_then(|tag| self.devices.get(tag.device.index()));
        let name = |name: Option<&Arc<str>>| name.map(|name| name.to_string()).unwrap_or_default();
        format!("{}:{}", name(device.map(|device| &device.name)), name(tag.map(|tag| &tag.name)))
    }

    /// The rates at which tags of `device` are read, the fastest first.
    #[must_use]
    pub fn rates(&self, device: &Device) -> Vec<Duration> {
        let mut rates: Vec<Duration> = self.tags_of(device).iter().filter_map(|tag| tag.every).collect();
        rates.sort();
        rates.dedup();
        rates
    }
}

/// The gateway itself.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// Sparkplug edge node id.
    pub name: Arc<str>,
    /// Sparkplug group id: the tenant.
    pub enterprise: Arc<str>,
    /// A free path that says where it stands.
    pub site: Option<String>,
    /// A name for people, in any script.
    pub title: Option<String>,
    /// Name and text of what its birth says beside the rest.
    pub properties: Vec<(String, String)>,
    /// Where it keeps its files.
    pub state_dir: PathBuf,
    /// When readings get their wall time.
    pub clock: ClockTrust,
}

/// When the system clock is trusted, and readings are given their wall time by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClockTrust {
    /// When a time server holds it, or the machine has a clock that runs while it is off.
    #[default]
    Auto,
    /// From the start.
    System,
}

/// `[log] level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Data is being lost, or the gateway stops.
    Error,
    /// A person will have to look.
    Warn,
    /// A state has changed.
    Info,
    /// Why a decision fell.
    Debug,
    /// Every frame.
    Trace,
}

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

/// Speed and character frame of a serial line.
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
}

/// `timeout` where none is written: of 1,000 answers of slow devices 5 took longer than half of it.
pub const TIMEOUT: Duration = Duration::from_secs(1);
/// `retries` where none is written.
pub const RETRIES: u8 = 1;
/// `every` where none is written.
pub const EVERY: Duration = Duration::from_secs(1);
/// `max_registers` where none is written: the most of function 3 and 4 (Modbus V1.1b3, 6.3).
pub const MAX_REGISTERS: u16 = 125;
/// `max_bits` where none is written: the most of function 1 and 2 (Modbus V1.1b3, 6.1).
pub const MAX_BITS: u16 = 2000;
/// `connect_timeout` where none is written.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// `aggregate` where none is written.
pub const AGGREGATE: Duration = Duration::from_secs(900);
/// How often it is looked whether a device is what it is taken for.
pub const PROBE_EVERY: Duration = Duration::from_secs(60);
/// `wake` where none is written: bytes FE before each request to a meter.
pub const WAKE: u8 = 4;
/// The link of what is on no line: a device of the gateway's own.
pub const NO_LINK: usize = usize::MAX;
/// `report` where none is written.
pub const REPORT: Report = Report::OnChange { at_most: None, at_least: REPORT_AT_LEAST };
/// How often an unchanged value is repeated where `report` does not say.
pub const REPORT_AT_LEAST: Duration = Duration::from_secs(600);
/// The shortest `keep_alive` with `protocol = "5"`: the client library takes no shorter one.
pub const KEEP_ALIVE_MIN_V5: Duration = Duration::from_secs(5);
/// `keep_alive` where none is written.
pub const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// `birth_jitter` where none is written.
pub const BIRTH_JITTER: Duration = Duration::from_secs(5);
/// `reconnect_max` where none is written.
pub const RECONNECT_MAX: Duration = Duration::from_secs(300);
/// `history_rate` where none is written, readings a second.
pub const HISTORY_RATE: f64 = 5000.0;
/// `queue.max_size` where none is written.
pub const QUEUE_SIZE: u64 = 1 << 30;
/// The smallest `queue.max_size`.
pub const QUEUE_SIZE_MIN: u64 = 1 << 20;
/// `queue.flush` where none is written.
pub const QUEUE_FLUSH: Duration = Duration::from_secs(5);
/// `status.publish` where none is written.
pub const PUBLISH: Duration = Duration::from_secs(60);
/// The most tags of one device: its birth is one message, and brokers take 256 KiB to some MiB of those.
pub const TAGS_MAX: usize = 10_000;
/// `state_dir` where none is written.
pub const STATE_DIR: &str = "/var/lib/tidegate";

/// One device.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its index.
    pub id: DeviceId,
    /// Sparkplug device id.
    pub name: Arc<str>,
    /// A name for people.
    pub title: Option<String>,
    /// Name and text of what its birth says beside the tags.
    pub properties: Vec<(String, String)>,
    /// The type that it is of, if it names one.
    pub type_name: Option<Arc<str>>,
    /// Index into [`Site::links`], or [`NO_LINK`].
    pub link: usize,
    /// Its address on the link; of another protocol than Modbus of no meaning on the wire.
    pub unit: UnitId,
    /// What it speaks.
    pub protocol: DeviceProtocol,
    /// Speed and frame of the line for it, where they are not those of the link.
    pub line: Option<SerialLine>,
    /// How long an answer is waited for.
    pub timeout: Duration,
    /// How often a request without an answer is repeated.
    pub retries: u8,
    /// The most registers that one request may ask for, 1 to 125.
    pub max_registers: u16,
    /// The most bits that one request may ask for, 1 to 2000.
    pub max_bits: u16,
    /// Where it differs from what the specification asks of it.
    pub quirks: Quirks,
    /// On a listening link: the caller that it is behind.
    pub caller: Option<Arc<str>>,
    /// `false`: no requests, its tags are out of service.
    pub enabled: bool,
    /// For so long after an outage its values are doubtful.
    pub warmup: Duration,
    /// What it may be, at least one: the first whose probes hold is what it is.
    pub variants: Vec<Variant>,
    /// Its tags, a range of [`Site::tags`].
    pub tags: std::ops::Range<u32>,
}

/// One of the types that a device may be of.
#[derive(Clone, Debug, Default)]
pub struct Variant {
    /// Which; empty for what the device itself says.
    pub type_name: Arc<str>,
    /// What must hold of the device then; none: it is taken for granted.
    pub probes: Vec<Probe>,
}

impl Device {
    /// The probes of all of its variants.
    pub fn probes(&self) -> impl Iterator<Item = &Probe> {
        self.variants.iter().flat_map(|variant| &variant.probes)
    }

    /// Whether it stands in no cabinet: the gateway tells of the whole site under its name.
    #[must_use]
    pub const fn is_own(&self) -> bool {
        self.link == NO_LINK
    }
}

/// What a device speaks.
#[derive(Clone, Debug, Default)]
pub enum DeviceProtocol {
    /// Modbus, in the framing of its link.
    #[default]
    Modbus,
    /// DL/T 645.
    Dlt645(Meter),
    /// What its type describes; with what the names in its templates stand for.
    Serial(Arc<serial::Instrument>, serial::Vars),
}

impl DeviceProtocol {
    /// Whether it is Modbus.
    #[must_use]
    pub const fn is_modbus(&self) -> bool {
        matches!(self, DeviceProtocol::Modbus)
    }
}

/// A meter that speaks DL/T 645.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meter {
    /// Who it is.
    pub address: Address,
    /// Bytes FE before each request, at most 8.
    pub wake: u8,
    /// What is asked of it, by number.
    pub items: Vec<Item>,
}

/// What one request to a meter brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What is asked for in place of the parts, which stand in it in their order.
    pub block: Option<Identifier>,
    /// The identifiers whose values are wanted, at least one.
    pub parts: Vec<Identifier>,
}

/// Where a device differs from what the specification asks of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quirks {
    /// The silence that it needs before each request; `None`: the link's.
    pub gap: Option<Duration>,
    /// No request for registers may cross a multiple of this.
    pub no_cross: Option<NonZeroU16>,
    /// Registers that are only given exactly so.
    pub whole_blocks: Vec<Span>,
    /// Registers that are never asked for.
    pub holes: Vec<Span>,
    /// Its answers do not repeat the transaction id.
    pub any_tid: bool,
    /// Its answers name another unit.
    pub any_unit_reply: bool,
    /// The functions that write to it.
    pub write: WriteFunctions,
    /// How long after connecting it takes the first request.
    pub connect_delay: Duration,
}

/// Which functions write to a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WriteFunctions {
    /// 5 and 6 for a single coil or register, 15 and 16 for more.
    #[default]
    Auto,
    /// 5 and 6 only.
    Single,
    /// 15 and 16 only.
    Multiple,
}

/// One broker, or several that are tried in turn.
#[derive(Clone, Debug)]
pub struct Uplink {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// At least one.
    pub brokers: Vec<Broker>,
    /// Which MQTT is spoken.
    pub protocol: Protocol,
    /// What TLS is made with, where a broker is reached by it.
    pub tls: UplinkTls,
    /// The HTTP proxy that stands before all brokers.
    pub proxy: Option<Proxy>,
    /// MQTT client id.
    pub client_id: String,
    /// Name and password.
    pub login: Option<Login>,
    /// MQTT keep alive, whole seconds, at least 1 s.
    pub keep_alive: Duration,
    /// A connection at other times than the first start waits a random part of this.
    pub birth_jitter: Duration,
    /// The longest wait between attempts to connect.
    pub reconnect_max: Duration,
    /// What its messages look like; the next three are Sparkplug's.
    pub payload: Payload,
    /// Data messages name metrics by a number.
    pub aliases: bool,
    /// Which Sparkplug types integers get.
    pub types: IntegerTypes,
    /// Data messages repeat each metric's datatype.
    pub datatype_in_data: bool,
    /// Readings that are sent again or late, so many a second.
    pub history_rate: f64,
    /// The Sparkplug host that must be online before anything is sent.
    pub primary_host: Option<PrimaryHost>,
    /// Which tags may leave by it.
    pub share: Shares,
    /// Bytes that it may send in a day.
    pub budget: Option<u64>,
    /// The topic filter under which plans for machines are kept at the broker.
    pub plan: Option<String>,
}

/// The Sparkplug host application that an uplink waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrimaryHost {
    /// Its id.
    pub id: Arc<str>,
    /// It says its state as of Sparkplug 2.2: text on `STATE/ID`.
    pub is_2_2: bool,
}

/// How a gateway names itself to a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The user's name.
    pub username: String,
    /// Where the password is.
    pub password: Password,
}

/// Where a password is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Password {
    /// There is none.
    None,
    /// In the configuration or the environment.
    Given(Secret),
    /// In a file, read at each connection; a relative path stands in `$CREDENTIALS_DIRECTORY` where that is set.
    File(PathBuf),
}

/// Which MQTT an uplink speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// 3.1.1, which every broker knows.
    V3,
    /// 5: says why something is refused.
    V5,
}

/// Where a broker listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// What is spoken below MQTT.
    pub carrier: Carrier,
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Broker {
    /// Whether readings and passwords would leave this machine unprotected: behind a proxy elsewhere every broker is
    /// elsewhere.
    #[must_use]
    pub fn is_exposed(&self, proxy: Option<&Proxy>) -> bool {
        let is_here = is_loopback(&self.host) && proxy.is_none_or(|proxy| is_loopback(&proxy.host));
        !self.carrier.is_tls && !is_here
    }
}

fn is_loopback(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host == "localhost",
    }
}

/// What is spoken below MQTT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carrier {
    /// `mqtts://` and `wss://`.
    pub is_tls: bool,
    /// `ws://` and `wss://`: the path that is asked for, with its slash.
    pub websocket: Option<String>,
}

/// The files of TLS to a broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UplinkTls {
    /// The authorities that are trusted; none: those of this machine.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate and its key.
    pub own: Option<(PathBuf, PathBuf)>,
}

/// An HTTP proxy (RFC 9110, 9.3.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// `types` of an uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntegerTypes {
    /// Int32, Int64, UInt64: encodings that every consumer reads alike.
    Wide,
    /// Int16, UInt16, UInt32 and so on, as the registers have them.
    Exact,
}

/// Text that no log and no finding shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    #[must_use]
    pub fn new(text: String) -> Secret {
        Secret(text)
    }

    /// The text itself, for the wire only.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}
