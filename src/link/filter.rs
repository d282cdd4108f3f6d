//! The protocol's bytes out of what a unit sends that has dialled in: without heartbeats, without its registration
//! before every packet.
//!
//! TCP has no packets: a chunk as it was read is taken for one, and rightly so but where the network glues or cuts. So
//! a heartbeat is looked for in one of two ways:
//!
//! - **anywhere** (`PING`): cut out wherever it stands, glued to frames or not. What may be the beginning of one at the
//!   end of a chunk is held back until the next chunk, or silence, tells.
//! - **whole packets only** (`^(PING|\x00)$`): a chunk that is one or more heartbeats and nothing else, and that does
//!   not come in the middle of a frame. This holds for every pattern that begins with `^` and ends with `$`, and for
//!   each that could match less than 3 bytes: so short a text stands in any frame. A heartbeat that is
//!   glued to a frame is not found this way, and the driver drops it as bytes that nobody asked for. So a reader must
//!   take what waits before it sends a request: the system glues what nobody reads.
//!
//! A prefix is cut off wherever it stands, and a packet begins behind it.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use regex::bytes::Regex;
use regex_syntax::hir::{Hir, HirKind, Look, Repetition};

use super::registration::Rules;

/// So long a held-back byte may wait for what follows it; then [`Filter::handle_quiet`] is to be called.
pub const HOLD: Duration = Duration::from_millis(50);
/// At most so many bytes are held back: what is longer is no heartbeat.
const HELD_MAX: usize = 256;
/// A heartbeat that may be shorter counts only as a whole packet.
const ANYWHERE_MIN: usize = 3;

/// What a unit says from time to time to keep its connection alive.
#[derive(Debug)]
pub(super) struct Heartbeat {
    /// Anywhere: one heartbeat. Whole packets only: one or more, from end to end.
    pattern: Regex,
    /// The beginning of what `pattern` matches, at the end of what there is; `None` where that is too large to compile:
    /// then nothing is held back.
    beginning: Option<Regex>,
    /// Only whole packets count.
    is_whole: bool,
    /// So many bytes at most may be the beginning of one.
    begun_max: usize,
}

impl Heartbeat {
    pub(super) fn new(pattern: Regex) -> Heartbeat {
        let mut parser = regex_syntax::ParserBuilder::new().utf8(false).unicode(false).build();
        let Ok(hir) = parser.parse(pattern.as_str()) else {
            // it has been compiled before: only limits of the parser could differ
            return Heartbeat { pattern, beginning: None, is_whole: true, begun_max: 0 };
        };
        let properties = hir.properties();
        let is_anchored = properties.look_set_prefix().contains(Look::Start)
            && properties.look_set_suffix().contains(Look::End);
        let is_whole = is_anchored || properties.minimum_len().is_none_or(|size| size < ANYWHERE_MIN);
        if !is_whole {
            let beginning = Hir::concat(vec![beginnings(&hir), Hir::look(Look::End)]);
            let begun_max = properties.maximum_len().unwrap_or(HELD_MAX).min(HELD_MAX);
            return Heartbeat { pattern, beginning: compiled(&beginning), is_whole, begun_max };
        }
        let many = repeated(without_ends(&hir), 1);
        let from_end_to_end =
            |hir: Hir| compiled(&Hir::concat(vec![Hir::look(Look::Start), hir, Hir::look(Look::End)]));
        let beginning = from_end_to_end(beginnings(&many));
        let pattern = from_end_to_end(many).unwrap_or(pattern);
        Heartbeat { pattern, beginning, is_whole, begun_max: HELD_MAX }
    }

    /// How many bytes at the end of `bytes` may begin a heartbeat.
    fn begun(&self, bytes: &[u8]) -> usize {
        let Some(beginning) = &self.beginning else { return 0 };
        if self.is_whole && bytes.len() > self.begun_max {
            return 0;
        }
        let tail = bytes.get(bytes.len().saturating_sub(self.begun_max)..).unwrap_or(bytes);
        beginning.find(tail).map_or(0, |found| found.len())
    }
}

/// What the bytes of one caller go through after its registration.
#[derive(Debug)]
pub struct Filter {
    rules: Arc<Rules>,
    /// Stands before every packet; empty: nothing does.
    prefix: Bytes,
    /// May begin a heartbeat or a prefix; at most [`HELD_MAX`].
    held: BytesMut,
}

impl Filter {
    /// A filter that cuts out heartbeats and, where it is not empty, `prefix` wherever it stands.
    #[must_use]
    pub fn new(rules: Arc<Rules>, prefix: Bytes) -> Filter {
        Filter { rules, prefix, held: BytesMut::new() }
    }

    /// Takes one chunk as it was read, and appends the protocol's bytes to `protocol`.
    ///
    /// What `protocol` holds before counts as the beginning of a frame: a reader takes frames out as they are whole.
    pub fn handle_bytes(&mut self, bytes: &[u8], protocol: &mut BytesMut) {
        self.held.extend_from_slice(bytes);
        let pending = self.held.split().freeze();
        let mut packet = &pending[..];
        while let Some(index) = self.find_prefix(packet) {
            let (before, after) = packet.split_at(index);
            self.pass(before, false, protocol);
            packet = after.get(self.prefix.len()..).unwrap_or_default();
        }
        self.pass(packet, true, protocol);
    }

    /// Nothing has come for [`HOLD`]: what was held back is the protocol's.
    pub fn handle_quiet(&mut self, protocol: &mut BytesMut) {
        protocol.extend_from_slice(&self.held.split());
    }

    /// Whether bytes are held back, and for no longer than [`HOLD`].
    #[must_use]
    pub fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// One packet, or what has come of it: the last one may go on in the next chunk.
    fn pass(&mut self, packet: &[u8], is_last: bool, protocol: &mut BytesMut) {
        let mut rest = packet;
        let mut held = 0;
        // behind a prefix a packet begins, whatever came before
        let is_between_frames = protocol.is_empty() || !self.prefix.is_empty();
        match &self.rules.heartbeat {
            None => {}
            Some(heartbeat) if heartbeat.is_whole && !is_between_frames => {}
            Some(heartbeat) if heartbeat.is_whole => {
                if heartbeat.pattern.find(packet).is_some_and(|found| found.len() == packet.len()) {
                    return;
                }
                held = heartbeat.begun(packet);
            }
            Some(heartbeat) => {
                let mut end = 0;
                for found in heartbeat.pattern.find_iter(packet) {
                    protocol.extend_from_slice(packet.get(end..found.start()).unwrap_or_default());
                    end = found.end();
                }
                rest = packet.get(end..).unwrap_or_default();
                held = heartbeat.begun(rest);
            }
        }
        let held = if is_last { held.max(self.prefix_begun(rest)) } else { 0 };
        let (known, unknown) = rest.split_at(rest.len().saturating_sub(held));
        protocol.extend_from_slice(known);
        self.held.extend_from_slice(unknown);
    }

    fn find_prefix(&self, bytes: &[u8]) -> Option<usize> {
        let size = self.prefix.len();
        if size == 0 { None } else { bytes.windows(size).position(|window| window == self.prefix) }
    }

    /// How many bytes at the end of `bytes` may begin a prefix.
    fn prefix_begun(&self, bytes: &[u8]) -> usize {
        let sizes: RangeInclusive<usize> = 1..=self.prefix.len().saturating_sub(1).min(bytes.len());
        let is_begun = |size: &usize| self.prefix.get(..*size).is_some_and(|part| bytes.ends_with(part));
        sizes.rev().find(is_begun).unwrap_or(0)
    }
}

/// A pattern as derived; `None` where it is too large.
fn compiled(hir: &Hir) -> Option<Regex> {
    Regex::new(&hir.to_string()).ok()
}

fn repeated(sub: Hir, min: u32) -> Hir {
    Hir::repetition(Repetition { min, max: None, greedy: true, sub: Box::new(sub) })
}

/// The pattern without its `^` and `$`, so that it can stand several times in a row.
fn without_ends(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Look(Look::Start | Look::End) => Hir::empty(),
        HirKind::Capture(capture) => without_ends(&capture.sub),
        HirKind::Concat(parts) => Hir::concat(parts.iter().map(without_ends).collect()),
        HirKind::Alternation(parts) => Hir::alternation(parts.iter().map(without_ends).collect()),
        HirKind::Empty
        | HirKind::Literal(_)
        | HirKind::Class(_)
        | HirKind::Look(_)
        | HirKind::Repetition(_) => hir.clone(),
    }
}

/// Matches every beginning of what `hir` matches, from nothing to all of it.
fn beginnings(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Hir::empty(),
        HirKind::Literal(literal) => Hir::alternation(
            (0..=literal.0.len()).rev().filter_map(|size| literal.0.get(..size)).map(Hir::literal).collect(),
        ),
        HirKind::Class(_) => Hir::alternation(vec![hir.clone(), Hir::empty()]),
        HirKind::Capture(capture) => beginnings(&capture.sub),
        HirKind::Alternation(parts) => Hir::alternation(parts.iter().map(beginnings).collect()),
        HirKind::Repetition(repetition) => {
            Hir::concat(vec![repeated((*repetition.sub).clone(), 0), beginnings(&repetition.sub)])
        }
        HirKind::Concat(parts) => Hir::alternation(
            (0..parts.len())
                .rev()
                .map(|index| {
                    let (before, from) = parts.split_at(index);
                    Hir::concat(before.iter().cloned().chain(from.first().map(beginnings)).collect())
                })
                .collect(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::registration::pattern;
    use super::*;

    fn filter(heartbeat: &str, prefix: &'static [u8]) -> Filter {
        let rules = Rules::new(None, Some(pattern(heartbeat).unwrap()), !prefix.is_empty());
        Filter::new(Arc::new(rules), Bytes::from_static(prefix))
    }

    /// What a reader gets that takes all there is after each chunk, and what it gets in the end, after silence.
    #[track_caller]
    fn check(filter: &mut Filter, chunks: &[&[u8]], expected: &[&[u8]]) {
        let mut taken = Vec::new();
        let mut protocol = BytesMut::new();
        for chunk in chunks {
            filter.handle_bytes(chunk, &mut protocol);
            taken.push(protocol.split());
        }
        filter.handle_quiet(&mut protocol);
        taken.push(protocol);
        assert_eq!(taken, expected);
    }

    const WHOLE: &str = r"^(PING|\x00)$";

    #[test]
    fn a_heartbeat_anywhere_is_cut_out_wherever_it_stands() {
        check(&mut filter("PING", b""), &[b"PING"], &[b"", b""]);
        check(&mut filter("PING", b""), &[b"PING\x01\x03", b"\x02PING"], &[b"\x01\x03", b"\x02", b""]);
        check(&mut filter("PING", b""), &[b"\x01PINGPING\x02"], &[b"\x01\x02", b""]);
        check(&mut filter("PING", b""), &[b"\x01PI", b"NG\x02"], &[b"\x01", b"\x02", b""]);
        check(&mut filter("PING", b""), &[b"P", b"I", b"N", b"G"], &[b"", b"", b"", b"", b""]);
    }

    #[test]
    fn what_only_looks_like_the_beginning_of_a_heartbeat_is_held_until_the_next_chunk_or_silence() {
        check(&mut filter("PING", b""), &[b"\x01P", b"\x02"], &[b"\x01", b"P\x02", b""]);
        check(&mut filter("PING", b""), &[b"\x01PIN"], &[b"\x01", b"PIN"]);
        check(&mut filter("PING", b""), &[b"PIPING"], &[b"PI", b""]);
        check(
            &mut filter("(?i)ping|HB[0-9]{2}", b""),
            &[b"\x01pI", b"NG\x01HB1", b"2"],
            &[b"\x01", b"\x01", b"", b""],
        );
        check(&mut filter("PING|HELLO", b""), &[b"\x01PING\x02HELL", b"O\x03"], &[b"\x01\x02", b"\x03", b""]);
        check(&mut filter(r"HB[0-9]+\r\n", b""), &[b"HB1234", b"5\r", b"\n\x07"], &[b"", b"", b"\x07", b""]);
    }

    #[test]
    fn a_whole_heartbeat_is_one_or_more_and_nothing_else() {
        check(&mut filter(WHOLE, b""), &[b"PING", b"\x00", b"PINGPING\x00"], &[b"", b"", b"", b""]);
        check(&mut filter(WHOLE, b""), &[b"PI", b"NG", b"\x01"], &[b"", b"", b"\x01", b""]);
        check(&mut filter(WHOLE, b""), &[b"PI", b"\x01"], &[b"", b"PI\x01", b""]);
        check(&mut filter(WHOLE, b""), &[b"PI"], &[b"", b"PI"]);
        check(&mut filter(WHOLE, b""), &[b"PING\x01", b"\x01PING"], &[b"PING\x01", b"\x01PING", b""]);
    }

    #[test]
    fn a_zero_is_never_cut_out_of_a_frame() {
        check(
            &mut filter(WHOLE, b""),
            &[b"\x01\x03\x02\x00\x00\xb8\x44"],
            &[b"\x01\x03\x02\x00\x00\xb8\x44", b""],
        );
        // the reader leaves the beginning of a frame where it is
        let mut protocol = BytesMut::new();
        let mut filter = filter(WHOLE, b"");
        for chunk in [&b"\x00\x01"[..], b"\x00", b"\x00\x00", b"\x05"] {
            filter.handle_bytes(chunk, &mut protocol);
        }
        assert_eq!(&protocol[..], b"\x00\x01\x00\x00\x00\x05");
        assert!(!filter.is_holding());
    }

    #[test]
    fn a_pattern_for_one_or_two_bytes_counts_only_as_a_whole_packet() {
        check(&mut filter(r"\x00", b""), &[b"\x01\x00\x02", b"\x00"], &[b"\x01\x00\x02", b"", b""]);
        check(&mut filter(r"(PING|\xfe\xfe)", b""), &[b"\xfe\xfe\x01"], &[b"\xfe\xfe\x01", b""]);
        check(&mut filter("(LONG)?", b""), &[b"LONG", b"\x01"], &[b"", b"\x01", b""]);
    }

    #[test]
    fn a_prefix_is_cut_off_each_packet() {
        check(&mut filter(WHOLE, b"DTU1"), &[b"DTU1\x01", b"DTU1\x02DTU1\x03"], &[b"\x01", b"\x02\x03", b""]);
        check(&mut filter(WHOLE, b"DTU1"), &[b"DT", b"U1\x01D", b"T"], &[b"", b"\x01", b"", b"DT"]);
        check(&mut filter(WHOLE, b"DTU1"), &[b"DTU1PINGDTU1\x01DTU1\x00"], &[b"\x01", b""]);
        check(&mut filter("PING", b"DTU1"), &[b"DTU1PI", b"NGDTU1\x01"], &[b"", b"\x01", b""]);
    }

    #[test]
    fn no_more_is_held_back_than_the_bound() {
        let mut filter = filter("^[0-9]{3,5000}X$", b"");
        let mut protocol = BytesMut::new();
        for _ in 0..100 {
            filter.handle_bytes(&[b'7'; 100], &mut protocol);
            assert!(filter.held.len() <= HELD_MAX);
        }
        filter.handle_quiet(&mut protocol);
        assert_eq!(protocol.len(), 10_000);
    }

    /// Chunks that are full of pieces of heartbeats and prefixes.
    fn chunks() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let chunk = prop::collection::vec(prop::sample::select(b"PINGDTU1\x00\x01\xff".to_vec()), 0..12);
        prop::collection::vec(chunk, 0..20)
    }

    proptest! {
        #[test]
        fn any_chunks_are_borne(heartbeat in prop::sample::select(vec![WHOLE, "PING", "PI+NG?", "^D", "(G|T|U)+1$", ".*", "(?s).{3}"]), is_prefixed: bool, chunks in chunks()) {
            let mut filter = filter(heartbeat, if is_prefixed { b"DTU1" } else { b"" });
            let mut protocol = BytesMut::new();
            for chunk in &chunks {
                filter.handle_bytes(chunk, &mut protocol);
                prop_assert!(filter.held.len() <= HELD_MAX);
            }
            filter.handle_quiet(&mut protocol);
            prop_assert!(protocol.len() <= chunks.concat().len());
        }

        #[test]
        fn bytes_without_heartbeats_come_out_as_they_went_in(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20)) {
            for heartbeat in ["PINGPINGPING", r"^PINGPINGPING$"] {
                let mut filter = filter(heartbeat, b"REGISTRATION");
                let mut protocol = BytesMut::new();
                for chunk in &chunks {
                    filter.handle_bytes(chunk, &mut protocol);
                }
                filter.handle_quiet(&mut protocol);
                prop_assert_eq!(&protocol[..], &chunks.concat()[..]);
            }
        }

        #[test]
        fn heartbeats_anywhere_are_found_however_the_stream_is_cut(chunks in chunks()) {
            let mut filter = filter("PING", b"");
            let mut protocol = BytesMut::new();
            for chunk in &chunks {
                filter.handle_bytes(chunk, &mut protocol);
            }
            filter.handle_quiet(&mut protocol);
            let whole = pattern("PING").unwrap().replace_all(&chunks.concat(), &b""[..]).into_owned();
            prop_assert_eq!(&protocol[..], &whole[..]);
        }
    }
}
