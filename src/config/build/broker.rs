//! How the brokers of an uplink are reached: addresses, MQTT version, TLS, proxy.

use std::path::PathBuf;
use std::time::Duration;

use super::super::finding::Finding;
use super::super::site::{self, Broker, Carrier, Protocol, Proxy, UplinkTls};
use super::super::tree::{Entry, Node, Table};
use super::super::values::{self, Parsed};
use super::{Build, flag_or, value};

/// The path of a websocket where none is written: what most brokers have.
const WEBSOCKET_PATH: &str = "/mqtt";
/// The files of TLS.
const TLS_KEYS: [&str; 3] = ["ca_file", "cert_file", "key_file"];

/// All brokers of an uplink behind this proxy, as far as they can be built.
pub(super) fn brokers(
    build: &mut Build,
    entry: &Entry,
    table: &Table,
    proxy: Option<&Proxy>,
) -> Option<Vec<Broker>> {
    let Some(node) = table.get("broker") else {
        build.find(
            Finding::new(entry.key_at, format!("uplink `{}` needs `broker`", entry.key))
                .with_help("write `broker = \"mqtt://HOST:1883\"`"),
        );
        return None;
    };
    let insecure = flag_or(table, "insecure", false);
    let brokers: Vec<Option<Broker>> =
        node.one_or_many().iter().map(|node| broker(build, node, insecure, proxy)).collect();
    if brokers.is_empty() {
        build.find(Finding::new(node.at, "`broker` names none"));
    }
    brokers.into_iter().collect()
}

fn broker(build: &mut Build, node: &Node, insecure: bool, proxy: Option<&Proxy>) -> Option<Broker> {
    let url = node.text()?;
    let broker = match parse(url) {
        Ok(broker) => broker,
        Err(message) => {
            build.find(Finding::new(node.at, format!("`broker`: {message}")));
            return None;
        }
    };
    if broker.is_exposed(proxy) && !insecure {
        let (plain, safe) = match broker.carrier.websocket {
            None => ("mqtt", "mqtts"),
            Some(_) => ("ws", "wss"),
        };
        let way = proxy.map(|proxy| format!(" through {}", proxy.host)).unwrap_or_default();
        let message =
            format!("plain {plain}:// to {}{way} would send readings and passwords unprotected", broker.host);
        let help = format!("write {safe}://, or `insecure = true` to allow it");
        build.find(Finding::new(node.at, message).with_help(help));
    }
    Some(broker)
}

fn parse(url: &str) -> Parsed<Broker> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(format!("wanted \"mqtts://HOST:PORT\", got \"{}\"", shown(url)));
    };
    let (is_tls, is_websocket, port) = match scheme {
        "mqtt" => (false, false, "1883"),
        "mqtts" => (true, false, "8883"),
        "ws" => (false, true, "80"),
        "wss" => (true, true, "443"),
        _ => {
            return Err(format!(
                "wanted mqtt://, mqtts://, ws:// or wss://, got {}",
                shown(&format!("{scheme}://"))
            ));
        }
    };
    if rest.contains('@') {
        return Err("name and password stand in `username` and `password`, not in the address".to_owned());
    }
    let (authority, path) = match rest.find('/') {
        Some(slash) if is_websocket => rest.split_at(slash),
        _ => (rest, WEBSOCKET_PATH),
    };
    let path_fits = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    let (Some((host, port)), true) = (host_and_port(authority, port), path_fits) else {
        let path = if is_websocket { "/PATH" } else { "" };
        return Err(format!("wanted \"{scheme}://HOST:PORT{path}\", got \"{}\"", shown(url)));
    };
    let websocket = is_websocket.then(|| path.to_owned());
    Ok(Broker { carrier: Carrier { is_tls, websocket }, host, port })
}

/// An address without what may be a secret: a name and a password, a query.
fn shown(url: &str) -> String {
    let (url, query) = url.split_once('?').map_or((url, ""), |(url, _)| (url, "?..."));
    match (url.split_once("://"), url.rsplit_once('@')) {
        (_, None) => format!("{url}{query}"),
        (Some((scheme, _)), Some((_, rest))) if !scheme.contains('@') => {
            format!("{scheme}://...@{rest}{query}")
        }
        (_, Some((_, rest))) => format!("...@{rest}{query}"),
    }
}

/// `HOST`, `HOST:PORT`, `[ADDRESS]:PORT` or an address of version 6 alone.
fn host_and_port(authority: &str, default_port: &str) -> Option<(String, u16)> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') && (!host.contains(':') || host.ends_with(']')) => {
            (host, port)
        }
        _ => (authority, default_port),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = port.parse().ok().filter(|port| *port > 0)?;
    let is_host =
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?#@".contains(&byte));
    is_host.then(|| (host.to_owned(), port))
}

/// `protocol`, which must fit the keep-alive.
pub(super) fn protocol(build: &mut Build, table: &Table, keep_alive: Duration) -> Protocol {
    if table.get("protocol").and_then(Node::text) != Some("5") {
        return Protocol::V3;
    }
    if let Some(node) = table.get("keep_alive").filter(|_| keep_alive < site::KEEP_ALIVE_MIN_V5) {
        build.find(Finding::new(node.at, "`keep_alive` must be at least \"5s\" with `protocol = \"5\"`"));
    }
    Protocol::V5
}

/// The files of TLS, which must be of use.
pub(super) fn tls(build: &mut Build, table: &Table, brokers: Option<&[Broker]>) -> UplinkTls {
    let file = |key: &str| value(table, key, values::text).map(PathBuf::from);
    if brokers.is_some_and(|brokers| brokers.iter().all(|broker| !broker.carrier.is_tls)) {
        for entry in TLS_KEYS.iter().filter_map(|key| table.entry(key)) {
            let finding = Finding::new(entry.key_at, format!("`{}` has no use without TLS", entry.key));
            build.find(finding.with_help("write the broker as mqtts:// or wss://"));
        }
    }
    let own = match (file("cert_file"), file("key_file")) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => {
            let present = table.entry("cert_file").or(table.entry("key_file"));
            let at = present.map_or(build.whole, |entry| entry.key_at);
            build.find(Finding::new(at, "`cert_file` and `key_file` go together: one of them is missing"));
            None
        }
    };
    UplinkTls { ca_file: file("ca_file"), own }
}

/// `proxy`.
pub(super) fn proxy(build: &mut Build, table: &Table) -> Option<Proxy> {
    let node = table.get("proxy")?;
    let url = node.text()?;
    let rest = url.strip_prefix("http://").map(|rest| rest.strip_suffix('/').unwrap_or(rest));
    let found = rest.filter(|rest| !rest.contains('@')).and_then(|rest| host_and_port(rest, "80"));
    if found.is_none() {
        let message = "`proxy`: wanted \"http://HOST:PORT\", without a name and a password";
        build.find(Finding::new(node.at, message));
    }
    found.map(|(host, port)| Proxy { host, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, expected: &str) {
        let shown = match parse(url) {
            Ok(Broker { carrier: Carrier { is_tls, websocket }, host, port }) => {
                let tls = if is_tls { " tls" } else { "" };
                format!("{host} {port}{tls}{}", websocket.map(|path| format!(" {path}")).unwrap_or_default())
            }
            Err(message) => message,
        };
        assert_eq!(shown, expected, "{url}");
    }

    #[test]
    fn an_address_has_the_port_and_the_path_of_its_scheme_where_none_is_written() {
        check("mqtt://broker", "broker 1883");
        check("mqtts://broker", "broker 8883 tls");
        check("ws://broker", "broker 80 /mqtt");
        check("wss://broker", "broker 443 tls /mqtt");
        check("wss://broker:8084/a/b?c=d", "broker 8084 tls /a/b?c=d");
        check("ws://broker/", "broker 80 /");
        check("mqtts://[2001:db8::1]:9", "2001:db8::1 9 tls");
        check("mqtt://2001:db8::1", "2001:db8::1 1883");
    }

    #[test]
    fn what_leaves_the_machine_without_tls_is_exposed() {
        for (url, expected) in [
            ("mqtt://10.0.0.5", true),
            ("ws://broker", true),
            ("mqtt://[2001:db8::1]", true),
            ("mqtts://10.0.0.5", false),
            ("wss://broker", false),
            ("mqtt://localhost", false),
            ("ws://127.0.0.7", false),
            ("mqtt://[::1]:1883", false),
        ] {
            assert_eq!(parse(url).unwrap().is_exposed(None), expected, "{url}");
        }
    }

    #[test]
    fn behind_a_proxy_elsewhere_every_broker_is_exposed_without_tls() {
        let proxy = |host: &str| Proxy { host: host.to_owned(), port: 3128 };
        for (url, host, expected) in [
            ("mqtt://127.0.0.1", "10.0.0.1", true),
            ("mqtt://localhost", "127.0.0.1", false),
            ("mqtt://10.0.0.5", "127.0.0.1", true),
            ("mqtts://127.0.0.1", "10.0.0.1", false),
        ] {
            assert_eq!(parse(url).unwrap().is_exposed(Some(&proxy(host))), expected, "{url} through {host}");
        }
    }

    #[test]
    fn no_message_shows_what_may_be_a_secret() {
        check("user:word@b", "wanted \"mqtts://HOST:PORT\", got \"...@b\"");
        check("user:word@b?token=word", "wanted \"mqtts://HOST:PORT\", got \"...@b?...\"");
        check("user:word@b://c", "wanted mqtt://, mqtts://, ws:// or wss://, got ...@b://");
        check("ws://b:0/a?token=word", "wanted \"ws://HOST:PORT/PATH\", got \"ws://b:0/a?...\"");
        check("ws://b?token=word", "wanted \"ws://HOST:PORT/PATH\", got \"ws://b?...\"");
        check("mqtt://b?token=word", "wanted \"mqtt://HOST:PORT\", got \"mqtt://b?...\"");
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_form_that_is_wanted() {
        check("broker:1883", "wanted \"mqtts://HOST:PORT\", got \"broker:1883\"");
        check("tcp://b", "wanted mqtt://, mqtts://, ws:// or wss://, got tcp://");
        check("mqtt://b/path", "wanted \"mqtt://HOST:PORT\", got \"mqtt://b/path\"");
        check("ws://b/a b", "wanted \"ws://HOST:PORT/PATH\", got \"ws://b/a b\"");
        check("ws://b:0/a", "wanted \"ws://HOST:PORT/PATH\", got \"ws://b:0/a\"");
        check("mqtts://u:p@b", "name and password stand in `username` and `password`, not in the address");
    }
}
