//! A segment: one file of frames, and how it is walked through. Pure.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `TIDEGATE` |
//! | 2 | version of the format, little-endian: 1 |
//! | 2 | 0 |
//! | 4 | CRC-32 (IEEE) of all others of these 40 bytes, little-endian |
//! | 8 | position of the first reading, little-endian |
//! | 16 | boot id of the machine that wrote it |
//! | … | frames, to the end |
//!
//! The file's name is the position in 20 digits and `.segment`. A segment explains itself: every tag number that it uses
//! has a name record before it, and it begins with the cursors and with what is known of its boot.

use std::io;

use super::frame::{self, FRAME_SIZE_MAX, Found, Salt};
use super::record::{self, BootId, Record};
use crate::position::Position;

const MAGIC: [u8; 8] = *b"TIDEGATE";
const VERSION: u16 = 1;
/// What stands before the frames.
pub(super) const HEAD_SIZE: usize = 40;
/// Bytes that are fetched at once.
const WINDOW_SIZE: usize = 2 * FRAME_SIZE_MAX;
/// Bytes that are fetched first: the beginning of a segment is often all that is wanted of it.
const FIRST_WINDOW_SIZE: usize = 8 << 10;

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The position that its first reading has or would have.
    pub(super) first: Position,
    /// In which run of the machine it was written.
    pub(super) boot: BootId,
}

/// Why a file is no segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Foreign {
    /// Written by a version that is not known here.
    #[error("a segment of format {0}, which this version does not read")]
    Version(u16),
    /// Something else.
    #[error("not a segment of the queue")]
    Garbage,
}

impl Head {
    /// The bytes that a file begins with.
    pub(super) fn write(self) -> [u8; HEAD_SIZE] {
        let mut head = [0; HEAD_SIZE];
        let parts: [(usize, &[u8]); 4] =
            [(0, &MAGIC), (8, &VERSION.to_le_bytes()), (16, &self.first.0.to_le_bytes()), (24, &self.boot)];
        for (at, part) in parts {
            put(&mut head, at, part);
        }
        let sum = head_sum(&head);
        put(&mut head, 12, &sum.to_le_bytes());
        head
    }

    /// The head of a file, and a walk through it.
    ///
    /// # Errors
    /// Where the bytes cannot be fetched, or the file is no segment.
    pub(super) fn open(name: &str, fetch: &mut Fetch<'_>) -> io::Result<(Head, Walk)> {
        let mut bytes = [0; HEAD_SIZE];
        let filled = fetch(0, &mut bytes)?;
        let head = Head::read(bytes.get(..filled).unwrap_or_default(), name)
            .map_err(|foreign| io::Error::new(io::ErrorKind::InvalidData, foreign))?;
        Ok((head, Walk::new(head)))
    }

    /// What `bytes` say; where they are damaged, what the file's name says.
    ///
    /// # Errors
    /// Where they are whole and of another version, or where neither they nor the name are of a segment.
    pub(super) fn read(bytes: &[u8], name: &str) -> Result<Head, Foreign> {
        let named = position_of(name);
        let Some(head) = bytes.first_chunk::<HEAD_SIZE>() else {
            // cut off before anything was in it
            return named.map(Head::unsure).ok_or(Foreign::Garbage);
        };
        let number = |at: usize, size: usize| {
            head.iter().skip(at).take(size).rev().fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte))
        };
        let is_whole = head.starts_with(&MAGIC) && number(12, 4) == u64::from(head_sum(head));
        match u16::try_from(number(8, 2)) {
            Ok(VERSION) if is_whole => {
                let mut boot = [0; 16];
                put(&mut boot, 0, head.get(24..).unwrap_or_default());
                Ok(Head { first: Position(number(16, 8)), boot })
            }
            Ok(version) if is_whole => Err(Foreign::Version(version)),
            _ => named.map(Head::unsure).ok_or(Foreign::Garbage),
        }
    }

    fn unsure(first: Position) -> Head {
        Head { first, boot: BootId::default() }
    }

    pub(super) const fn salt(self) -> Salt {
        Salt(self.first.0)
    }
}

fn put(into: &mut [u8], at: usize, part: &[u8]) {
    for (to, from) in into.iter_mut().skip(at).zip(part) {
        *to = *from;
    }
}

/// The checksum of a head, its own place counted as zeros.
fn head_sum(head: &[u8; HEAD_SIZE]) -> u32 {
    let mut plain = *head;
    put(&mut plain, 12, &[0; 4]);
    crc32fast::hash(&plain)
}

/// The name of the file that begins with `first`.
pub(super) fn name_of(first: Position) -> String {
    format!("{:020}.segment", first.0)
}

/// The position that a file's name says; `None` for a name that no segment has.
pub(super) fn position_of(name: &str) -> Option<Position> {
    let digits = name.strip_suffix(".segment")?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| digits.parse().ok().map(Position))?
}

/// What a walk through a segment meets.
#[derive(Debug, PartialEq)]
pub(super) enum Met<'a> {
    /// A record that is as it was written.
    Record(Record<'a>),
    /// Bytes of a record that was damaged; there are whole ones behind it.
    Damage,
}

/// Fetches bytes from an offset on, as many as there are; fewer than fit only at the end.
pub(super) type Fetch<'a> = dyn FnMut(u64, &mut [u8]) -> io::Result<usize> + 'a;

/// A place in a segment's file between two frames.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    salt: Salt,
    /// Bytes of the file that are behind.
    at: u64,
    /// The end of the last record that was whole: what follows, if anything, was never written whole.
    pub(super) whole: u64,
}

impl Walk {
    /// At the first frame.
    pub(super) fn new(head: Head) -> Walk {
        let start = HEAD_SIZE as u64;
        Walk { salt: head.salt(), at: start, whole: start }
    }

    /// Walks on, frame by frame, as long as `visit` wants to; true at the end of the file.
    ///
    /// # Errors
    /// Where the bytes cannot be fetched.
    pub(super) fn on(
        &mut self,
        fetch: &mut Fetch<'_>,
        visit: &mut dyn FnMut(Met<'_>) -> bool,
    ) -> io::Result<bool> {
        let mut window = vec![0; FIRST_WINDOW_SIZE];
        loop {
            let filled = fetch(self.at, &mut window)?;
            let (is_first, is_last) = (window.len() == FIRST_WINDOW_SIZE, filled < window.len());
            let mut rest = window.get(..filled).unwrap_or_default();
            while is_first || is_last || rest.len() >= FRAME_SIZE_MAX {
                let (met, size) = match frame::find(rest, self.salt, is_last) {
                    Found::Record { record, size } => {
                        self.whole = self.at + size as u64;
                        (record::read(record).map_or(Met::Damage, Met::Record), size)
                    }
                    Found::Damage { size } => (Met::Damage, size),
                    Found::Incomplete => break,
                    Found::Nothing => return Ok(true),
                };
                self.at += size as u64;
                rest = rest.get(size..).unwrap_or_default();
                if !visit(met) {
                    return Ok(false);
                }
            }
            window.resize(WINDOW_SIZE, 0); // what did not fit into the first is seen whole in the next
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Head = Head { first: Position(0x0102), boot: *b"0123456789abcdef" };

    #[test]
    fn a_head_is_so_and_not_otherwise() {
        // frozen: files of ten years ago are read by it
        let bytes = HEAD.write();
        assert_eq!(bytes[..12], *b"TIDEGATE\x01\0\0\0");
        assert_eq!(bytes[16..24], [2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[24..], HEAD.boot);
        let mut plain = bytes;
        plain[12..16].fill(0);
        assert_eq!(bytes[12..16], crc32fast::hash(&plain).to_le_bytes());
        assert_eq!(name_of(HEAD.first), "00000000000000000258.segment");
        assert_eq!(position_of("00000000000000000258.segment"), Some(HEAD.first));
        assert_eq!(Head::read(&bytes, "whatever"), Ok(HEAD));
    }

    #[test]
    fn a_damaged_head_is_made_up_from_the_name_and_one_of_another_version_is_left_alone() {
        let name = name_of(HEAD.first);
        for bit in 0..HEAD_SIZE * 8 {
            let mut bytes = HEAD.write();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Head::read(&bytes, &name).unwrap().first, HEAD.first, "bit {bit}");
            assert_eq!(Head::read(&bytes, "a"), Err(Foreign::Garbage));
        }
        for length in 0..HEAD_SIZE {
            assert_eq!(Head::read(&HEAD.write()[..length], &name).unwrap().first, HEAD.first);
        }
        let mut newer = HEAD.write();
        newer[8] = 2;
        newer[12..16].fill(0);
        let sum = crc32fast::hash(&newer).to_le_bytes();
        newer[12..16].copy_from_slice(&sum);
        assert_eq!(Head::read(&newer, &name), Err(Foreign::Version(2)));
    }

    #[test]
    fn other_names_are_no_segments() {
        for name in [
            "",
            "1.segment",
            "0000000000000000025x.segment",
            "00000000000000000258",
            "99999999999999999999.segment",
        ] {
            assert_eq!(position_of(name), None, "{name}");
        }
    }
}
