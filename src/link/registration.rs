//! What a unit that dials in (a 4G serial server) says before the protocol begins, and who it is by that.
//!
//! A unit sends a registration: a fixed text, its IMEI, its ICCID, a line the user has typed into it. TCP does not say
//! where that ends, so the pattern does: the registration is the longest beginning of the stream, of at most
//! [`REGISTRATION_MAX`] bytes, the whole of which the pattern matches. `^` and `$` are its two ends. It is looked for
//! once the stream has been quiet for [`QUIET`] or so many bytes have come, never earlier: a greedy pattern
//! (`^DTU-(?<id>[0-9]+)`) takes the same text however the network has cut it, and what follows glued to it (a heartbeat,
//! a frame) is the protocol's. A pattern that matches anything (`(?<id>.+)`) takes that too.
//!
//! A registration is a name, not a proof: who may reach the port can say any. `allow` and the network keep others out.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use regex::bytes::Regex;

use super::filter::{Filter, Heartbeat};

/// The longest registration; units have 40 to 100 bytes for it.
pub const REGISTRATION_MAX: usize = 256;
/// A stream that was silent for so long has ended its packet: serial servers cut theirs after 10 to 50 ms.
pub const QUIET: Duration = Duration::from_millis(100);
/// So many bytes of a failed registration are shown.
const SHOWN_MAX: usize = 48;

/// What the units of one link send beside the protocol.
///
/// The patterns speak of bytes: they are to be compiled by [`pattern`], or `\xff` would mean two bytes.
#[derive(Debug, Default)]
pub struct Rules {
    registration: Option<Regex>,
    pub(super) heartbeat: Option<Heartbeat>,
    prefixed: bool,
}

impl Rules {
    /// The rules of a link: `registration`, `heartbeat` and `prefixed` of the configuration.
    #[must_use]
    pub fn new(registration: Option<Regex>, heartbeat: Option<Regex>, prefixed: bool) -> Rules {
        Rules { registration, heartbeat: heartbeat.map(Heartbeat::new), prefixed }
    }
}

/// A pattern over bytes, in linear time for any input; `\d` and `(?i)` mean ASCII, `(?u:…)` holds other scripts.
///
/// # Errors
/// Where `text` is no regular expression, or too large a one.
pub fn pattern(text: &str) -> Result<Regex, regex::Error> {
    regex::bytes::RegexBuilder::new(text).unicode(false).build()
}

/// A connection whose caller is not known yet.
#[derive(Debug)]
pub struct Registering {
    rules: Arc<Rules>,
    peer: IpAddr,
    received: BytesMut,
}

/// How far a registration is.
#[derive(Debug)]
pub enum Step {
    /// More bytes, or silence, will tell.
    More,
    /// The caller is known.
    Registered(Registered),
    /// This is no registration.
    Refused(Refusal),
}

/// A caller that has said who it is.
#[derive(Debug)]
pub struct Registered {
    /// The group `id` of the pattern; without such a group all of the registration; without a pattern the address.
    /// Text as it came, anything else in hexadecimal.
    pub id: String,
    /// What all further bytes go through.
    pub filter: Filter,
    /// The protocol's bytes that have come already, filtered.
    pub early: BytesMut,
}

/// What came in place of a registration.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    received: Bytes,
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.received.is_empty() {
            return formatter.write_str("it sent nothing: is the unit set to send a registration packet?");
        }
        let shown = self.received.get(..SHOWN_MAX).unwrap_or(&self.received);
        let more = if shown.len() < self.received.len() { "…" } else { "" };
        write!(formatter, "`registration` does not match what it sent: \"{}{more}\"", shown.escape_ascii())
    }
}

impl Registering {
    /// A connection from `peer` that has said nothing yet.
    #[must_use]
    pub fn new(rules: Arc<Rules>, peer: IpAddr) -> Registering {
        Registering { rules, peer, received: BytesMut::new() }
    }

    /// Takes what has come in.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Step {
        self.received.extend_from_slice(bytes);
        if self.received.len() < REGISTRATION_MAX {
            return Step::More;
        }
        self.registered().map_or_else(|| Step::Refused(self.refusal()), Step::Registered)
    }

    /// The stream has been quiet for [`QUIET`], or has only been opened.
    pub fn handle_quiet(&mut self) -> Step {
        self.registered().map_or(Step::More, Step::Registered)
    }

    /// What is to be said of a caller that has had enough time.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        Refusal { received: Bytes::copy_from_slice(&self.received) }
    }

    fn registered(&mut self) -> Option<Registered> {
        let (id, size) = match &self.rules.registration {
            None => (self.peer.to_string(), 0),
            Some(pattern) => (1..=self.received.len().min(REGISTRATION_MAX))
                .rev()
                .find_map(|size| Some((id_of(pattern, self.received.get(..size)?)?, size)))?,
        };
        let registration = self.received.split_to(size).freeze();
        let prefix = if self.rules.prefixed { registration } else { Bytes::new() };
        let mut filter = Filter::new(self.rules.clone(), prefix);
        let mut early = BytesMut::new();
        filter.handle_bytes(&self.received.split(), &mut early);
        Some(Registered { id, filter, early })
    }
}

/// Who is calling, if the whole of `text` is a registration.
fn id_of(pattern: &Regex, text: &[u8]) -> Option<String> {
    let found = pattern.find(text)?;
    if found.len() < text.len() {
        return None;
    }
    let group = pattern.captures(text)?.name("id").map(|id| id.as_bytes());
    Some(legible(group.filter(|id| !id.is_empty()).unwrap_or(text)))
}

/// Text as it is; what is no text, in hexadecimal.
fn legible(bytes: &[u8]) -> String {
    match str::from_utf8(bytes) {
        Ok(text) if !text.contains(char::is_control) => text.to_owned(),
        _ => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 64, 0, 7));

    fn registering(registration: Option<&str>, heartbeat: Option<&str>, prefixed: bool) -> Registering {
        let compiled = |text: Option<&str>| text.map(|text| pattern(text).unwrap());
        let rules = Rules::new(compiled(registration), compiled(heartbeat), prefixed);
        Registering::new(Arc::new(rules), PEER)
    }

    /// The id and what is left for the protocol, after all pieces and silence.
    #[track_caller]
    fn check(registration: &str, pieces: &[&[u8]], expected: Option<(&str, &[u8])>) {
        let mut registering = registering(Some(registration), None, false);
        for piece in pieces {
            assert!(matches!(registering.handle_bytes(piece), Step::More));
        }
        match (registering.handle_quiet(), expected) {
            (Step::Registered(registered), Some((id, early))) => {
                assert_eq!((registered.id.as_str(), &registered.early[..]), (id, early));
            }
            (Step::More, None) => {}
            (step, _) => panic!("{step:?}"),
        }
    }

    #[test]
    fn a_registration_ends_where_its_pattern_ends() {
        check("^DTU-(?<id>[0-9]{8})$", &[b"DTU-10000001"], Some(("10000001", b"")));
        check("^DTU-(?<id>[0-9]{8})$", &[b"DT", b"U-1000", b"0001"], Some(("10000001", b"")));
        check("^DTU-(?<id>[0-9]{8})$", &[b"DTU-10000001PING"], Some(("10000001", b"PING")));
        check("^DTU-(?<id>[0-9]{8})$", &[b"DTU-10000001", b"\x01\x03"], Some(("10000001", b"\x01\x03")));
        check("^DTU-(?<id>[0-9]{8})$", &[b"DTU-1000000"], None);
        check("^DTU-(?<id>[0-9]{8})$", &[b"PINGDTU-10000001"], None);
        check("DTU-(?<id>[0-9]{8})", &[b" DTU-10000001"], None);
        check("DTU-(?<id>.{2})\\r\\n", &[b"DTU-ab\r", b"\n\x01"], Some(("ab", b"\x01")));
        check("^$", &[b"anything"], None);
    }

    #[test]
    fn a_greedy_pattern_takes_the_same_however_the_stream_is_cut() {
        check("^DTU-(?<id>[0-9]+)", &[b"DTU-12", b"34", b"PING"], Some(("1234", b"PING")));
        check("^DTU-(?<id>[0-9]+)", &[b"DTU-1", b"2", b"34PING"], Some(("1234", b"PING")));
        let imei = "^(?<id>[0-9]{15})(,[0-9]{4})?";
        check(imei, &[b"860123456789012,12", b"34\x01"], Some(("860123456789012", b"\x01")));
    }

    #[test]
    fn an_id_that_is_no_text_is_hexadecimal() {
        check("(?s-u)^\\xAA(?<id>.{3})", &[b"\xaa\x01\x02\xff"], Some(("0102ff", b"")));
        check("^(?<id>..)", &[b"a\x07"], Some(("6107", b"")));
        check("(?u:注册)(?<id>.)", &["注册7".as_bytes()], Some(("7", b"")));
    }

    #[test]
    fn without_a_group_the_whole_registration_is_the_id() {
        check("^[0-9]{15}", &[b"860123456789012\x01"], Some(("860123456789012", b"\x01")));
        check("^IMEI(?<id>[0-9]*)", &[b"IMEI"], Some(("IMEI", b"")));
    }

    #[test]
    fn without_a_pattern_everyone_is_who_its_address_says_at_once() {
        let Step::Registered(registered) = registering(None, None, false).handle_quiet() else { panic!() };
        assert_eq!((registered.id.as_str(), &registered.early[..]), ("10.64.0.7", &b""[..]));
    }

    #[test]
    fn what_is_no_registration_within_256_bytes_is_refused_with_what_came() {
        let mut registering = registering(Some("^DTU"), None, false);
        assert!(registering.refusal().to_string().contains("nothing"));
        assert!(matches!(registering.handle_bytes(b"GET / HTTP/1.1\r\n"), Step::More));
        let Step::Refused(refusal) = registering.handle_bytes(&[b'x'; 240]) else { panic!() };
        let expected = r#"`registration` does not match what it sent: "GET / HTTP/1.1\r\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…""#;
        assert_eq!(refusal.to_string(), expected);
    }

    #[test]
    fn a_stream_without_pauses_is_registered_after_256_bytes() {
        let mut registering = registering(Some("^DTU-(?<id>[0-9])"), None, false);
        let mut stream = b"DTU-1".to_vec();
        stream.resize(1000, b'z');
        let Step::Registered(registered) = registering.handle_bytes(&stream) else { panic!() };
        assert_eq!((registered.id.as_str(), registered.early.len()), ("1", 995));
    }

    #[test]
    fn what_follows_a_registration_is_filtered() {
        let mut registering = registering(Some("^DTU[0-9]"), Some("^PING$"), true);
        assert!(matches!(registering.handle_bytes(b"DTU1PINGDTU1\x01\x03"), Step::More));
        let Step::Registered(registered) = registering.handle_quiet() else { panic!() };
        assert_eq!((registered.id.as_str(), &registered.early[..]), ("DTU1", &b"\x01\x03"[..]));
    }

    proptest! {
        #[test]
        fn any_pieces_are_borne_and_give_what_the_whole_gives(
            pieces in prop::collection::vec(prop::collection::vec(prop::sample::select(b"DTU-01\xff".to_vec()), 0..20), 0..12),
        ) {
            let outcome = |pieces: &[Vec<u8>]| {
                let mut registering = registering(Some("^D?(?<id>[^U]+)(U-)?"), None, false);
                let mut step = Step::More;
                for piece in pieces {
                    step = registering.handle_bytes(piece);
                }
                if matches!(step, Step::More) { step = registering.handle_quiet() }
                match step {
                    Step::Registered(registered) => Some((registered.id, registered.early)),
                    Step::More => None,
                    Step::Refused(refusal) => panic!("{refusal}"),
                }
            };
            prop_assert_eq!(outcome(&pieces), outcome(&[pieces.concat()]));
        }
    }
}
