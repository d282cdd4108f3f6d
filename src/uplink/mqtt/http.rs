//! What is said in HTTP before MQTT: CONNECT to a proxy (RFC 9110, 9.3.6), the upgrade to a websocket (RFC 6455, 4). Pure.

use std::fmt;

use ring::digest;

/// The longest head of an answer that is read.
pub(super) const HEAD_SIZE_MAX: usize = 8 << 10;
/// What is appended to the key of an upgrade (RFC 6455, 1.3).
const KEY_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The websocket protocol of MQTT (MQTT 3.1.1, 6).
const SUBPROTOCOL: &str = "mqtt";

/// A host and its port, as HTTP writes them.
pub(super) struct Authority<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
}

impl fmt::Display for Authority<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Authority { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Asks a proxy for a way to `broker`.
pub(super) fn tunnel_request(broker: &Authority<'_>) -> String {
    format!("CONNECT {broker} HTTP/1.1\r\nHost: {broker}\r\n\r\n")
}

/// Asks for a websocket at `path`, with a key of 16 random bytes.
pub(super) fn upgrade_request(broker: &Authority<'_>, path: &str, key: [u8; 16]) -> String {
    let key = base64(&key);
    format!(
        "GET {path} HTTP/1.1\r\nHost: {broker}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

/// The head of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    status: u16,
    reason: String,
    /// Names in lower case.
    fields: Vec<(String, String)>,
}

impl Head {
    /// The head at the start of `bytes`, and its size; nothing as long as it has no end.
    ///
    /// # Errors
    /// Where it is no head of HTTP, or is longer than [`HEAD_SIZE_MAX`].
    pub(super) fn read(bytes: &[u8]) -> Result<Option<(Head, usize)>, String> {
        const END: &[u8] = b"\r\n\r\n";
        let Some(at) = bytes.windows(END.len()).position(|window| window == END) else {
            let is_http = bytes.iter().zip(b"HTTP/").all(|(got, wanted)| got == wanted);
            return if is_http && bytes.len() < HEAD_SIZE_MAX {
                Ok(None)
            } else {
                Err("what answers does not speak HTTP".to_owned())
            };
        };
        let text = String::from_utf8_lossy(bytes.get(..at).unwrap_or_default());
        let mut lines = text.split("\r\n");
        let mut first = lines.next().unwrap_or_default().splitn(3, ' ');
        let status = match (first.next(), first.next().map(str::parse)) {
            (Some(version), Some(Ok(status))) if version.starts_with("HTTP/") => status,
            _ => return Err("what answers does not speak HTTP".to_owned()),
        };
        let reason = first.next().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
        let fields = lines.filter_map(|line| line.split_once(':'));
        let fields = fields.map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        Ok(Some((Head { status, reason, fields: fields.collect() }, at + END.len())))
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether a proxy has made the way to `broker`.
    ///
    /// # Errors
    /// Where it has not: why.
    pub(super) fn check_tunnel(&self, broker: &Authority<'_>) -> Result<(), String> {
        match self.status {
            200..=299 => Ok(()),
            407 => Err("the proxy wants a name and a password, which this version cannot give".to_owned()),
            status => Err(format!("the proxy refuses the way to {broker}: {status} {}", self.reason)),
        }
    }

    /// Whether the websocket is there that was asked for with `key` (RFC 6455, 4.1; MQTT 3.1.1, MQTT-6.0.0-4).
    ///
    /// # Errors
    /// Where it is not: why.
    pub(super) fn check_upgrade(&self, path: &str, key: [u8; 16]) -> Result<(), String> {
        let path = path.split('?').next().unwrap_or_default(); // a query may be a secret
        if self.status != 101 {
            let Head { status, reason, .. } = self;
            return Err(format!(
                "the broker answers {status} {reason} to a websocket at {path}: is the path right?"
            ));
        }
        let is_upgraded = self.field("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"));
        if !is_upgraded || self.field("sec-websocket-accept") != Some(&acceptance(key)) {
            return Err("what answers is no websocket".to_owned());
        }
        if self.field("sec-websocket-protocol") != Some(SUBPROTOCOL) {
            return Err(format!("the websocket at {path} does not speak \"{SUBPROTOCOL}\""));
        }
        Ok(())
    }
}

/// What proves that an upgrade was understood (RFC 6455, 4.2.2).
fn acceptance(key: [u8; 16]) -> String {
    let text = base64(&key) + KEY_SUFFIX;
    base64(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()).as_ref())
}

/// RFC 4648, 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let word =
            three.iter().zip([16, 8, 0]).fold(0, |word, (byte, shift)| word | u32::from(*byte) << shift);
        for (index, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let sextet = usize::try_from(word >> shift & 63).unwrap_or(0);
            let letter = ALPHABET.get(sextet).copied().unwrap_or(b'=');
            text.push(if index <= three.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROKER: Authority<'_> = Authority { host: "2001:db8::1", port: 443 };
    /// The key of RFC 6455, 1.3: "the sample nonce".
    const KEY: [u8; 16] = *b"the sample nonce";

    #[test]
    fn the_example_of_the_standard_is_met() {
        assert_eq!(base64(&KEY), "dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(acceptance(KEY), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let sizes = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        for (size, expected) in sizes.into_iter().enumerate() {
            assert_eq!(base64(&b"foobar"[..size]), expected);
        }
    }

    #[test]
    fn requests_name_the_broker() {
        assert_eq!(
            tunnel_request(&BROKER),
            "CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n\r\n"
        );
        let request = upgrade_request(&Authority { host: "b", port: 80 }, "/mqtt", KEY);
        assert!(request.starts_with("GET /mqtt HTTP/1.1\r\nHost: b:80\r\n"), "{request}");
        assert!(request.contains("\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), "{request}");
    }

    fn head(text: &str) -> Head {
        let text = text.replace('\n', "\r\n") + "\r\n\r\n";
        let (head, size) = Head::read(text.as_bytes()).unwrap().unwrap();
        assert_eq!(size, text.len());
        head
    }

    #[test]
    fn a_head_is_read_when_it_is_whole() {
        let whole = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nrest";
        for size in 0..whole.len() - 4 {
            assert_eq!(Head::read(&whole[..size]), Ok(None), "{size}");
        }
        let (head, size) = Head::read(whole).unwrap().unwrap();
        assert_eq!((head.status, size), (200, whole.len() - 4));
        assert_eq!(head.field("a"), Some("b"));
    }

    #[test]
    fn what_is_no_head_is_refused_and_one_without_end_too() {
        for bytes in [&b"\x20\x02\x00\x00"[..], b"SSH-2.0-OpenSSH", b"HTTP/1.1 abc\r\n\r\n", b"\r\n\r\n"] {
            assert_eq!(Head::read(bytes), Err("what answers does not speak HTTP".to_owned()));
        }
        let endless = [b"HTTP/1.1 200 OK\r\nA: ".to_vec(), vec![b'x'; HEAD_SIZE_MAX]].concat();
        assert!(Head::read(&endless).is_err());
    }

    #[test]
    fn a_proxy_that_refuses_is_told_with_its_reason() {
        assert_eq!(head("HTTP/1.0 200 Connection established").check_tunnel(&BROKER), Ok(()));
        let said = head("HTTP/1.1 403 Forbidden\nServer: x").check_tunnel(&BROKER).unwrap_err();
        assert_eq!(said, "the proxy refuses the way to [2001:db8::1]:443: 403 Forbidden");
        assert!(head("HTTP/1.1 407 No").check_tunnel(&BROKER).unwrap_err().contains("a name and a password"));
    }

    #[test]
    fn a_websocket_is_there_only_with_the_right_answer() {
        let check = |text: &str| head(text).check_upgrade("/m?token=word", KEY).err().unwrap_or_default();
        let right = "HTTP/1.1 101 Switching Protocols\nUpgrade: WebSocket\nConnection: upgrade\n\
                     Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\nSec-WebSocket-Protocol: mqtt";
        assert_eq!(check(right), "");
        assert_eq!(check(&right.replace("s3p", "S3p")), "what answers is no websocket");
        assert_eq!(check(&right.replace("WebSocket\n", "h2c\n")), "what answers is no websocket");
        assert_eq!(check(&right.replace(": mqtt", ": x")), "the websocket at /m does not speak \"mqtt\"");
        let said = check("HTTP/1.1 404 Not Found\nContent-Length: 0");
        assert_eq!(said, "the broker answers 404 Not Found to a websocket at /m: is the path right?");
    }
}
