//! Checksummed frames: how one record stands in a file, and how reading finds the next one behind damage. Pure.
//!
//! | bytes | what |
//! |---|---|
//! | 2 | `D1 6E` |
//! | 2 | length of the record, 1 to 65,535, little-endian |
//! | 4 | CRC-32 (IEEE) of salt, length and record, little-endian |
//! | length | the record |
//!
//! The salt is the first position of the segment, 8 bytes, little-endian; it stands in no frame. So nothing that a
//! record holds, and nothing of another segment, can pass for a frame.

/// What every frame begins with.
const MARKER: [u8; 2] = [0xD1, 0x6E];
/// What stands before the record.
const HEADER_SIZE: usize = 8;
/// The longest record.
pub(super) const RECORD_SIZE_MAX: usize = 65_535;
/// The longest frame: whoever reads with a window of so many bytes sees every frame whole.
pub(super) const FRAME_SIZE_MAX: usize = HEADER_SIZE + RECORD_SIZE_MAX;

/// What is mixed into every checksum of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Salt(pub(super) u64);

/// What stands at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// A record that is as it was written; the frame has `size` bytes.
    Record { record: &'a [u8], size: usize },
    /// Bytes that are no frame; behind them there is a frame, or one that may be whole when there are more bytes.
    Damage { size: usize },
    /// Perhaps a frame, if there were more bytes.
    Incomplete,
    /// No frame, to the end.
    Nothing,
}

/// Adds a frame. A record that is empty or too long is not added; whoever writes keeps them shorter.
pub(super) fn push(out: &mut Vec<u8>, salt: Salt, record: &[u8]) {
    let Ok(length) = u16::try_from(record.len()) else { return };
    if length == 0 {
        return;
    }
    out.extend(MARKER);
    out.extend(length.to_le_bytes());
    out.extend(checksum(salt, length, record).to_le_bytes());
    out.extend(record);
}

/// What stands at the beginning of `bytes`. `is_last`: there are no more behind them.
pub(super) fn find(bytes: &[u8], salt: Salt, is_last: bool) -> Found<'_> {
    match look(bytes, salt) {
        Look::Frame { record, size } => return Found::Record { record, size },
        Look::Short if !is_last => return Found::Incomplete,
        Look::Short | Look::Other => {}
    }
    for at in 1..bytes.len() {
        match look(bytes.get(at..).unwrap_or_default(), salt) {
            Look::Frame { .. } => return Found::Damage { size: at },
            Look::Short if !is_last => return Found::Damage { size: at },
            Look::Short | Look::Other => {}
        }
    }
    if is_last { Found::Nothing } else { Found::Damage { size: bytes.len() } }
}

enum Look<'a> {
    Frame {
        record: &'a [u8],
        size: usize,
    },
    /// The beginning of what may be a frame.
    Short,
    Other,
}

fn look(bytes: &[u8], salt: Salt) -> Look<'_> {
    let is_begun = bytes.iter().zip(MARKER).all(|(byte, expected)| *byte == expected);
    if !is_begun {
        return Look::Other;
    }
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_SIZE>() else { return Look::Short };
    let [_, _, low, high, sum @ ..] = *header;
    let length = u16::from_le_bytes([low, high]);
    let Some(record) = rest.get(..usize::from(length)) else { return Look::Short };
    if length > 0 && checksum(salt, length, record) == u32::from_le_bytes(sum) {
        Look::Frame { record, size: HEADER_SIZE + record.len() }
    } else {
        Look::Other
    }
}

fn checksum(salt: Salt, length: u16, record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.0.to_le_bytes());
    hasher.update(&length.to_le_bytes());
    hasher.update(record);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SALT: Salt = Salt(7);

    fn all(bytes: &[u8], salt: Salt) -> (Vec<Vec<u8>>, usize) {
        let (mut records, mut damage, mut rest) = (Vec::new(), 0, bytes);
        loop {
            let size = match find(rest, salt, true) {
                Found::Record { record, size } => {
                    records.push(record.to_vec());
                    size
                }
                Found::Damage { size } => {
                    damage += 1;
                    size
                }
                Found::Nothing => return (records, damage),
                Found::Incomplete => unreachable!("there is no more"),
            };
            rest = &rest[size..];
        }
    }

    fn three() -> Vec<u8> {
        let mut bytes = Vec::new();
        for record in [&b"one"[..], b"\xD1\x6E\x03\x00two", b"three"] {
            push(&mut bytes, SALT, record);
        }
        bytes
    }

    #[test]
    fn a_frame_is_so_and_not_otherwise() {
        // frozen: files of ten years ago are read by it
        let mut bytes = Vec::new();
        push(&mut bytes, SALT, b"tide");
        assert_eq!(bytes, [0xD1, 0x6E, 4, 0, 0x01, 0x6D, 0xF5, 0xB0, b't', b'i', b'd', b'e']);
        let plain = [&7_u64.to_le_bytes()[..], &[4, 0], b"tide"].concat();
        assert_eq!(crc32fast::hash(&plain).to_le_bytes(), bytes[4..8]);
    }

    #[test]
    fn cut_anywhere_all_whole_frames_are_found_and_nothing_else() {
        let (bytes, ends) = (three(), [11, 26, 39]);
        assert_eq!(bytes.len(), ends[2]);
        for length in 0..=bytes.len() {
            let whole = ends.iter().filter(|end| **end <= length).count();
            let (records, damage) = all(&bytes[..length], SALT);
            assert_eq!((records.len(), damage), (whole, 0), "{length} bytes");
        }
    }

    #[test]
    fn any_flipped_bit_costs_the_frame_that_it_hit_and_no_other() {
        let bytes = three();
        let (intact, _) = all(&bytes, SALT);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let hit = [11, 26, 39].iter().filter(|end| **end <= bit / 8).count();
            let (records, _) = all(&flipped, SALT);
            let expected: Vec<_> = intact
                .iter()
                .enumerate()
                .filter(|(index, _)| *index != hit)
                .map(|(_, record)| record.clone())
                .collect();
            assert_eq!(records, expected, "bit {bit}");
        }
    }

    #[test]
    fn frames_of_another_segment_are_none() {
        assert_eq!(all(&three(), Salt(8)).0, Vec::<Vec<u8>>::new());
    }

    #[test]
    fn what_may_become_a_frame_is_waited_for() {
        let bytes = three();
        assert_eq!(find(&bytes[..5], SALT, false), Found::Incomplete);
        assert_eq!(find(&bytes[..10], SALT, false), Found::Incomplete);
        assert_eq!(find(&[&b"x"[..], &bytes[..5]].concat(), SALT, false), Found::Damage { size: 1 });
        assert_eq!(find(b"xyz", SALT, false), Found::Damage { size: 3 });
        assert_eq!((find(b"", SALT, false), find(b"", SALT, true)), (Found::Incomplete, Found::Nothing));
    }

    proptest! {
        #[test]
        fn any_bytes_are_borne_and_frames_between_them_are_found(
            parts in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..40), prop::collection::vec(any::<u8>(), 1..80)), 0..6)
        ) {
            let (mut bytes, mut expected) = (Vec::new(), Vec::new());
            for (noise, record) in &parts {
                // noise that begins a frame may hide what follows it only as long as that is shorter than it claims
                bytes.extend(noise.iter().filter(|byte| **byte != MARKER[0]));
                push(&mut bytes, SALT, record);
                expected.push(record.clone());
            }
            prop_assert_eq!(all(&bytes, SALT).0, expected);
        }
    }
}
