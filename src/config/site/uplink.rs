//! `[uplink]`: brokers, and the ways to them.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Payload, Shares};

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
