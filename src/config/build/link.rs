//! Links: which of its kinds a link is, and which keys fit that kind.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::super::finding::Finding;
use super::super::site::{self, Device, DeviceProtocol, Echo, Endpoint, Framing, Link, Listen, TlsFiles};
use super::super::tree::{Entry, Node, Table};
use super::super::values;
use super::{Build, duration_or, flag_or, value};

/// The keys of which a link has exactly one: each makes it another kind.
const KINDS: [&str; 3] = ["port", "tcp", "listen"];

/// When meters may be told the time: not within 5 minutes of midnight (DL/T 645-2007), and as much again for a line
/// that is not free at once and for clocks that differ.
const TELLING: RangeInclusive<u16> = 10..=23 * 60 + 50;

/// Keys that fit some kinds only.
const FITS: &[(&str, &[&str])] = &[
    ("serial", &["port"]),
    ("rs485", &["port"]),
    ("connections", &["tcp"]),
    ("connect_timeout", &["tcp"]),
    ("in_flight", &["tcp", "listen"]),
    ("idle_close", &["tcp", "listen"]),
    // a unit that dials in may keep what it is to pass on for minutes: the meters would be told a time that is over
    ("broadcast_time", &["port", "tcp"]),
    ("tls", &["tcp"]),
    ("ca_file", &["tcp"]),
    ("cert_file", &["tcp"]),
    ("key_file", &["tcp"]),
    ("registration", &["listen"]),
    ("heartbeat", &["listen"]),
    ("prefixed", &["listen"]),
    ("callers", &["listen"]),
    ("allow", &["listen"]),
];

/// All links, as far as they can be built.
pub(super) fn build(build: &mut Build, links: &Table) -> Vec<Option<Link>> {
    let mut ends = BTreeSet::new();
    links
        .entries
        .iter()
        .map(|entry| {
            build.check_name("link", entry);
            let table = entry.node.table()?;
            for node in KINDS.iter().filter_map(|key| table.get(key)) {
                if !ends.insert(node.text().unwrap_or_default().to_owned()) {
                    let finding = Finding::new(node.at, "another link has this port or address already");
                    build.find(finding.with_help("put all devices of one line on one link"));
                }
            }
            link(build, entry, table)
        })
        .collect()
}

fn link(build: &mut Build, entry: &Entry, table: &Table) -> Option<Link> {
    let kind = kind(build, entry, table)?;
    for (key, kinds) in FITS.iter().filter(|(_, kinds)| !kinds.contains(&kind)) {
        if let Some(misplaced) = table.entry(key) {
            let message = format!("`{key}` belongs to a link with {}, not to {kind}", kinds.join(" or "));
            build.find(Finding::new(misplaced.key_at, message));
        }
    }
    let framing = framing(build, table, kind);
    let count = |key: &str| {
        let number = value(table, key, |node| values::integer(node, 1, 16));
        number.and_then(|number| u8::try_from(number).ok()).unwrap_or(1)
    };
    let in_flight = count("in_flight");
    if let Some(node) = table.get("in_flight").filter(|_| in_flight > 1 && framing != Framing::Tcp) {
        let message = "only framing \"tcp\" tells the answers to several requests apart";
        build.find(Finding::new(node.at, message).with_help("write `in_flight = 1`"));
    }
    let echo = value(table, "echo", values::echo).unwrap_or_default();
    if let Some(node) = table.get("echo").filter(|_| echo != Echo::No && framing == Framing::Tcp) {
        build
            .find(Finding::new(node.at, "nothing comes back on framing \"tcp\": echo is for two-wire lines"));
    }
    Some(Link {
        name: entry.key.as_str().into(),
        endpoint: endpoint(build, entry, table, kind)?,
        framing,
        gap: value(table, "gap", values::gap).flatten(),
        echo,
        connections: count("connections"),
        in_flight,
        idle_close: value(table, "idle_close", values::duration),
        broadcast_time: broadcast_time(build, table),
    })
}

/// The minute of the day at which meters are told the time.
fn broadcast_time(build: &mut Build, table: &Table) -> Option<u16> {
    let (node, text) = table.get("broadcast_time").and_then(|node| Some((node, node.text()?)))?;
    let help = "write a time of the local day, as `broadcast_time = \"02:30\"`";
    let Some(minute) = values::minute_of_day(text) else {
        let message = format!("`broadcast_time`: wanted hours and minutes, as \"02:30\", got \"{text}\"");
        build.find(Finding::new(node.at, message).with_help(help));
        return None;
    };
    if !TELLING.contains(&minute) {
        let message =
            "`broadcast_time` must be \"00:10\" to \"23:50\": around midnight meters close their day";
        build.find(Finding::new(node.at, message).with_help(help));
        return None;
    }
    Some(minute)
}

/// Setting clocks is writing, and there must be a meter to hear it.
pub(super) fn check_broadcasts(build: &mut Build, links: &Table, devices: &[Device], is_commanded: bool) {
    for (index, entry) in links.entries.iter().enumerate() {
        let Some(key) = entry.node.table().and_then(|table| table.entry("broadcast_time")) else { continue };
        if !is_commanded {
            let message = "`broadcast_time` sets clocks, and writing is off";
            let finding = Finding::new(key.key_at, message);
            build.find(
                finding.with_help("write `enabled = true` in [commands], or leave `broadcast_time` out"),
            );
        }
        let is_meter = |device: &Device| matches!(device.protocol, DeviceProtocol::Dlt645(_));
        let has_meter = devices.iter().any(|device| device.link == index && is_meter(device));
        // one that could not be built may be a meter
        if !has_meter && build.findings.is_empty() {
            let message = format!("`broadcast_time`: no device on link `{}` speaks dlt645", entry.key);
            let finding = Finding::new(key.key_at, message);
            build.find(finding.with_help("write it on the link of the meters, or leave it out"));
        }
    }
}

fn kind(build: &mut Build, entry: &Entry, table: &Table) -> Option<&'static str> {
    let mut kinds = KINDS.iter().filter(|kind| table.get(kind).is_some());
    if let (Some(kind), None) = (kinds.next(), kinds.next()) {
        return Some(kind);
    }
    let finding =
        Finding::new(entry.key_at, format!("link `{}` needs exactly one of port, tcp, listen", entry.key));
    build.find(finding.with_help(
        "write `port = \"/dev/ttyUSB0\"`, `tcp = \"192.168.1.20:502\"` or `listen = \"0.0.0.0:5020\"`",
    ));
    None
}

fn framing(build: &mut Build, table: &Table, kind: &str) -> Framing {
    let node = table.get("framing");
    match node.and_then(Node::text) {
        Some("rtu") => Framing::Rtu,
        Some("ascii") => Framing::Ascii,
        Some("tcp") if kind != "port" => Framing::Tcp,
        Some("tcp") => {
            let at = node.map_or(build.whole, |node| node.at);
            build.find(
                Finding::new(at, "a serial port has no TCP framing").with_help("write \"rtu\" or \"ascii\""),
            );
            Framing::Rtu
        }
        _ if kind == "tcp" => Framing::Tcp,
        _ => Framing::Rtu,
    }
}

fn endpoint(build: &mut Build, entry: &Entry, table: &Table, kind: &str) -> Option<Endpoint> {
    match kind {
        "port" => {
            build.needed(table, "serial", &format!("link `{}`", entry.key), entry.key_at)?;
            Some(Endpoint::Serial {
                port: PathBuf::from(table.get("port")?.text()?),
                line: value(table, "serial", values::serial)?,
                rts_on_send: table.get("rs485").and_then(Node::text) == Some("rts-on-send"),
            })
        }
        "tcp" => Some(Endpoint::Tcp {
            address: value(table, "tcp", values::address)?,
            connect_timeout: duration_or(table, "connect_timeout", site::CONNECT_TIMEOUT),
            tls: tls(build, table),
        }),
        _ => Some(Endpoint::Listen(Listen {
            address: value(table, "listen", values::listen)?,
            registration: registration(build, table),
            heartbeat: value(table, "heartbeat", values::pattern),
            prefixed: flag_or(table, "prefixed", false),
            callers: value(table, "callers", values::callers),
            allow: table
                .get("allow")
                .map(Node::one_or_many)
                .unwrap_or_default()
                .iter()
                .filter_map(|node| values::network(node).ok())
                .collect(),
        })),
    }
}

fn registration(build: &mut Build, table: &Table) -> Option<regex::bytes::Regex> {
    let pattern = value(table, "registration", values::pattern);
    let names_id = |pattern: &regex::bytes::Regex| pattern.capture_names().flatten().any(|name| name == "id");
    if let Some(node) =
        table.get("registration").filter(|_| pattern.as_ref().is_some_and(|one| !names_id(one)))
    {
        let finding = Finding::new(node.at, "`registration` does not say which part is the caller's id");
        build.find(finding.with_help("put it into a group of that name: '^DTU-(?<id>[0-9]{8})$'"));
    }
    if let Some(entry) =
        table.entry("prefixed").filter(|_| pattern.is_none() && flag_or(table, "prefixed", false))
    {
        build.find(Finding::new(
            entry.key_at,
            "`prefixed` needs `registration`: that is what stands before every packet",
        ));
    }
    pattern
}

fn tls(build: &mut Build, table: &Table) -> Option<TlsFiles> {
    let file = |key: &str| value(table, key, values::text).map(PathBuf::from);
    let (ca_file, cert_file, key_file) = (file("ca_file"), file("cert_file"), file("key_file"));
    if !flag_or(table, "tls", false) {
        for entry in ["ca_file", "cert_file", "key_file"].iter().filter_map(|key| table.entry(key)) {
            let finding = Finding::new(entry.key_at, format!("`{}` has no use without tls", entry.key));
            build.find(finding.with_help("write `tls = true`"));
        }
        return None;
    }
    let at = table.entry("tls").map_or(build.whole, |entry| entry.key_at);
    if table.get("framing").is_some_and(|node| node.text() != Some("tcp")) {
        build.find(Finding::new(at, "Modbus/TCP Security has framing \"tcp\""));
    }
    if ca_file.is_none() {
        let finding =
            Finding::new(at, "`tls` needs `ca_file`: whose signature on the device's certificate is trusted");
        build.find(finding.with_help("write `ca_file = \"/etc/tidegate/plant-ca.pem\"`"));
    }
    let own = match (cert_file, key_file) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => {
            build.find(Finding::new(at, "`cert_file` and `key_file` go together: one of them is missing"));
            None
        }
    };
    Some(TlsFiles { ca_file: ca_file?, own })
}
