//! Frames of DL/T 645: how one is written, and how they are found among the bytes of a line. Pure.
//!
//! | bytes | what |
//! |---|---|
//! | 0 to 8 × `FE` | wakes an optical or infrared receiver; no part of the frame (5.3.1) |
//! | `68` | begins the frame |
//! | 6 | the address, its lowest digits first (5.2.2) |
//! | `68` | ends the address |
//! | 1 | the control code (5.2.3) |
//! | 1 | how many bytes of data follow, at most 200 (5.2.4) |
//! | 0 to 200 | the data, each byte plus `33` (5.2.5) |
//! | 1 | the sum of all bytes from the first `68` on, modulo 256 (5.2.6) |
//! | `16` | ends the frame |
//!
//! The clauses are those of DL/T 645-2007; DL/T 645-1997 has the same frame. `68` and `16` may stand in the address and in
//! the data, so that the length alone says where a frame ends.

use super::address::{self, Address};

/// The most bytes of data in a frame (5.2.4).
pub const DATA_MAX: usize = 200;
/// The most wake-up bytes before a request: the standard has 4, some meters need more.
pub const WAKE_MAX: u8 = 8;

const WAKE: u8 = 0xFE;
const START: u8 = 0x68;
const END: u8 = 0x16;
/// What is added to each byte of data.
const OFFSET: u8 = 0x33;
/// Start, address, start, control code and length.
const HEAD: usize = 4 + address::SIZE;
/// Checksum and end.
const TAIL: usize = 2;
/// The longest frame, without wake-up bytes.
pub const FRAME_MAX: usize = HEAD + DATA_MAX + TAIL;

/// A control code (5.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control(pub u8);

impl Control {
    /// Whether a meter has sent it, and not whoever asks.
    #[must_use]
    pub const fn is_reply(self) -> bool {
        self.0 & 0x80 != 0
    }

    /// Whether the meter refuses what was asked.
    #[must_use]
    pub const fn is_error(self) -> bool {
        self.0 & 0x40 != 0
    }

    /// Whether more data is to be asked for.
    #[must_use]
    pub const fn has_more(self) -> bool {
        self.0 & 0x20 != 0
    }

    /// What is asked, or answered: 0 to 31.
    #[must_use]
    pub const fn function(self) -> u8 {
        self.0 & 0x1F
    }
}

/// A frame, its checksum right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Who is asked, or answers.
    pub address: Address,
    /// What is asked, or answered.
    pub control: Control,
    /// The data, at most 200 bytes, without what the wire adds to each.
    pub data: Vec<u8>,
}

/// A frame has at most 200 bytes of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} bytes are too much for a frame, which has at most {DATA_MAX}")]
pub struct TooLong(pub usize);

impl Frame {
    /// The bytes on the wire behind `wake` wake-up bytes, of which there are at most 8.
    ///
    /// # Errors
    /// More data than a frame can have.
    pub fn encode(&self, wake: u8) -> Result<Vec<u8>, TooLong> {
        let too_long = TooLong(self.data.len());
        let length = u8::try_from(self.data.len()).map_err(|_| too_long)?;
        if self.data.len() > DATA_MAX {
            return Err(too_long);
        }
        let mut frame = vec![START];
        frame.extend_from_slice(&self.address.to_wire());
        frame.extend_from_slice(&[START, self.control.0, length]);
        frame.extend(self.data.iter().map(|byte| byte.wrapping_add(OFFSET)));
        frame.extend_from_slice(&[sum(&frame), END]);
        let mut bytes = vec![WAKE; usize::from(wake.min(WAKE_MAX))];
        bytes.append(&mut frame);
        Ok(bytes)
    }
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// What the bytes from a first `68` on are.
#[derive(Debug, PartialEq, Eq)]
enum Front {
    /// Not enough yet to tell.
    Incomplete,
    /// A frame of so many bytes.
    Frame(Frame, usize),
    /// A frame but for its checksum.
    Spoilt,
    /// No frame begins here.
    Other,
}

fn front(bytes: &[u8]) -> Front {
    let is_start = |index: usize| bytes.get(index).is_none_or(|byte| *byte == START);
    let is_short = |length: &u8| usize::from(*length) <= DATA_MAX;
    if !is_start(0) || !is_start(HEAD - 3) || !bytes.get(HEAD - 1).is_none_or(is_short) {
        return Front::Other;
    }
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else { return Front::Incomplete };
    let [_, a0, a1, a2, a3, a4, a5, _, control, length] = *head;
    let length = usize::from(length);
    let (Some(data), Some([check, end])) = (rest.get(..length), rest.get(length..length + TAIL)) else {
        return Front::Incomplete;
    };
    if *end != END {
        return Front::Other;
    }
    if sum(head).wrapping_add(sum(data)) != *check {
        return Front::Spoilt;
    }
    let frame = Frame {
        address: Address::from_wire([a0, a1, a2, a3, a4, a5]),
        control: Control(control),
        data: data.iter().map(|byte| byte.wrapping_sub(OFFSET)).collect(),
    };
    Front::Frame(frame, HEAD + length + TAIL)
}

/// Finds the frames among the bytes of a line.
///
/// What looks like the beginning of a frame and is none is passed over a byte at a time, so that a frame that begins
/// within it is found. It keeps less than one frame from call to call.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    noise: u64,
    checksum_errors: u64,
}

impl Decoder {
    /// The frames that end within `bytes`, which follow what came before.
    pub fn decode(&mut self, bytes: &[u8]) -> Vec<Frame> {
        self.buffer.extend_from_slice(bytes);
        self.take(false)
    }

    /// As [`Decoder::decode`] once the line has been silent so long that nothing will follow what has come: at most half
    /// a second passes between two bytes of a frame (5.3.3). What has begun and not ended is no frame.
    pub fn quiet(&mut self) -> Vec<Frame> {
        self.take(true)
    }

    /// Whether a frame has begun that has not ended.
    #[must_use]
    pub fn is_amid(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The bytes so far that belonged to no frame, and were no wake-up bytes.
    #[must_use]
    pub const fn noise(&self) -> u64 {
        self.noise
    }

    /// The frames so far that were whole but for their checksum.
    #[must_use]
    pub const fn checksum_errors(&self) -> u64 {
        self.checksum_errors
    }

    fn take(&mut self, is_over: bool) -> Vec<Frame> {
        let mut frames = Vec::new();
        let mut rest = self.buffer.as_slice();
        while let Some((first, behind)) = rest.split_first() {
            match front(rest) {
                Front::Incomplete if !is_over => break,
                Front::Frame(frame, size) => {
                    frames.push(frame);
                    rest = rest.get(size..).unwrap_or_default();
                    continue;
                }
                Front::Spoilt => self.checksum_errors += 1,
                Front::Incomplete | Front::Other => {}
            }
            self.noise += u64::from(*first != WAKE);
            rest = behind;
        }
        self.buffer = rest.to_vec();
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads 00010000 of the meter 000000000161.
    const REQUEST: &str = "FE FE FE FE 68 61 01 00 00 00 00 68 11 04 33 33 34 33 14 16";
    /// 0.26 kWh.
    const REPLY: &str = "68 61 01 00 00 00 00 68 91 08 33 33 34 33 59 33 33 33 8A 16";

    fn bytes(hex: &str) -> Vec<u8> {
        hex.split_whitespace().map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    }

    fn reply() -> Frame {
        Frame {
            address: Address::parse("000000000161").unwrap(),
            control: Control(0x91),
            data: vec![0, 0, 1, 0, 0x26, 0, 0, 0],
        }
    }

    /// Frames, bytes of noise and wrong checksums.
    #[track_caller]
    fn check(hex: &str, frames: &[Frame], noise: u64, checksum_errors: u64) {
        let mut decoder = Decoder::default();
        let mut found = decoder.decode(&bytes(hex));
        found.extend(decoder.quiet());
        assert_eq!(found, frames, "{hex}");
        assert_eq!((decoder.noise(), decoder.checksum_errors()), (noise, checksum_errors), "{hex}");
        assert!(!decoder.is_amid());
    }

    #[test]
    fn a_frame_is_written_as_the_standard_has_it() {
        let request = Frame { control: Control(0x11), data: vec![0, 0, 1, 0], ..reply() };
        assert_eq!(request.encode(4).unwrap(), bytes(REQUEST));
        assert_eq!(reply().encode(0).unwrap(), bytes(REPLY));
        assert_eq!(reply().encode(255).unwrap().len(), 8 + 20);
        let read_address = Frame { address: Address::ANY, control: Control(0x13), data: Vec::new() };
        assert_eq!(read_address.encode(0).unwrap(), bytes("68 AA AA AA AA AA AA 68 13 00 DF 16"));
    }

    #[test]
    fn a_frame_has_at_most_200_bytes_of_data() {
        let frame = |size| Frame { data: vec![0xCD; size], ..reply() };
        assert_eq!(frame(200).encode(0).unwrap().len(), 212);
        assert_eq!(frame(201).encode(0), Err(TooLong(201)));
        assert_eq!(frame(256).encode(0), Err(TooLong(256)));
        let mut wire = frame(200).encode(0).unwrap();
        assert_eq!(Decoder::default().decode(&wire), [frame(200)]);
        // 201 bytes are no frame: that is seen as soon as the length is there; the other 68 may still begin one
        wire[9] = 201;
        let mut decoder = Decoder::default();
        assert_eq!(decoder.decode(&wire[..9]), []);
        assert_eq!(decoder.noise(), 0);
        assert_eq!(decoder.decode(&wire[9..10]), []);
        assert_eq!(decoder.noise(), 7);
    }

    #[test]
    fn noise_and_wake_up_bytes_are_passed_over() {
        check(REPLY, &[reply()], 0, 0);
        check(&format!("FE FE FE FE {REPLY}"), &[reply()], 0, 0);
        check(&format!("00 68 FE FE {REPLY}"), &[reply()], 2, 0);
        check(&format!("00 FF {REPLY} 16 68 {REPLY} 68 68"), &[reply(), reply()], 6, 0);
        check("FE FE FE FE FE FE FE FE", &[], 0, 0);
    }

    #[test]
    fn a_wrong_checksum_is_counted_and_what_follows_is_found() {
        let spoilt = REPLY.replace("8A 16", "8B 16");
        check(&spoilt, &[], 20, 1);
        check(&format!("{spoilt} {REPLY}"), &[reply()], 20, 1);
        // without its end it is no frame at all
        check(&REPLY.replace("8A 16", "8A 17"), &[], 20, 0);
    }

    #[test]
    fn start_and_end_may_stand_in_the_address_and_in_the_data() {
        let request = Frame {
            address: Address::parse("000000001668").unwrap(),
            control: Control(0x11),
            data: vec![0, 0, 1, 0],
        };
        check("68 68 16 00 00 00 00 68 11 04 33 33 34 33 30 16", &[request], 0, 0);
        // 35 + 33 = 68, E3 + 33 = 16
        let full = Frame { data: [0x35, 0xE3].repeat(100), ..reply() };
        let wire = full.encode(0).unwrap();
        assert_eq!(Decoder::default().decode(&wire), [full]);
    }

    #[test]
    fn a_frame_within_what_only_seemed_to_be_one_is_found() {
        // a head that announces 200 bytes, with the reply behind it
        let head = "68 61 01 00 00 00 00 68 91 C8";
        let mut decoder = Decoder::default();
        assert_eq!(decoder.decode(&bytes(&format!("{head} {REPLY}"))), []);
        assert!(decoder.is_amid());
        assert_eq!(decoder.quiet(), [reply()]);
        assert_eq!((decoder.noise(), decoder.checksum_errors()), (10, 0));
        // or as soon as more has come than it announced: 212 bytes
        let mut decoder = Decoder::default();
        assert_eq!(decoder.decode(&bytes(head)), []);
        let frames: Vec<Frame> = (0..11).flat_map(|_| decoder.decode(&bytes(REPLY))).collect();
        assert_eq!(frames.len(), 11);
    }

    #[test]
    fn a_frame_may_come_in_any_two_pieces() {
        let wire = bytes(&format!("FE FE {REPLY}"));
        for cut in 0..wire.len() {
            let mut decoder = Decoder::default();
            assert_eq!(decoder.decode(&wire[..cut]), [], "cut at {cut}");
            assert_eq!(decoder.decode(&wire[cut..]), [reply()], "cut at {cut}");
            assert_eq!((decoder.noise(), decoder.checksum_errors()), (0, 0));
        }
    }

    #[test]
    fn a_frame_that_breaks_off_does_not_hide_the_next() {
        let wire = bytes(REPLY);
        for cut in 0..wire.len() {
            let mut decoder = Decoder::default();
            let mut found = decoder.decode(&wire[..cut]);
            found.extend(decoder.quiet());
            assert_eq!(found, []);
            assert_eq!(decoder.decode(&wire), [reply()], "cut at {cut}");
            // and without the silence between them
            let mut decoder = Decoder::default();
            let mut found = decoder.decode(&[&wire[..cut], &wire].concat());
            found.extend(decoder.quiet());
            assert_eq!(found, [reply()], "cut at {cut}");
        }
    }

    fn any_frame() -> impl Strategy<Value = Frame> {
        (any::<[u8; 6]>(), any::<u8>(), prop::collection::vec(any::<u8>(), 0..=DATA_MAX)).prop_map(
            |(address, control, data)| Frame {
                address: Address::from_wire(address),
                control: Control(control),
                data,
            },
        )
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(frame in any_frame(), wake in 0..=WAKE_MAX) {
            let mut decoder = Decoder::default();
            prop_assert_eq!(decoder.decode(&frame.encode(wake).unwrap()), [frame]);
            prop_assert_eq!(decoder.noise(), 0);
        }

        /// Noise that begins no frame; 16 and FE it may have.
        #[test]
        fn every_frame_in_a_soup_is_found(
            parts in prop::collection::vec(
                (any_frame(), prop::collection::vec(any::<u8>().prop_filter("no start", |byte| *byte != START), 0..20)),
                1..6,
            ),
            size in 1_usize..50,
        ) {
            let frames: Vec<Frame> = parts.iter().map(|(frame, _)| frame.clone()).collect();
            let encoded = |(frame, noise): &(Frame, Vec<u8>)| [noise.clone(), frame.encode(0).unwrap()].concat();
            let soup: Vec<u8> = parts.iter().flat_map(encoded).collect();
            let mut decoder = Decoder::default();
            let found: Vec<Frame> = soup.chunks(size).flat_map(|bytes| decoder.decode(bytes)).collect();
            prop_assert_eq!(found, frames);
        }

        #[test]
        fn any_bytes_are_borne_and_each_is_in_a_frame_or_noise(
            soup in prop::collection::vec(prop_oneof![Just(START), Just(END), any::<u8>()], 0..600), size in 1_usize..50,
        ) {
            let mut decoder = Decoder::default();
            let mut seen = 0;
            for bytes in soup.chunks(size) {
                for frame in decoder.decode(bytes) {
                    seen += frame.encode(0).unwrap().len();
                }
                prop_assert!(decoder.buffer.len() < FRAME_MAX);
            }
            for frame in decoder.quiet() {
                seen += frame.encode(0).unwrap().len();
            }
            let wakes = soup.iter().filter(|byte| **byte == WAKE).count();
            let noise = usize::try_from(decoder.noise()).unwrap();
            prop_assert!(noise + seen <= soup.len() && soup.len() <= noise + seen + wakes);
            prop_assert_eq!(decoder.decode(&reply().encode(0).unwrap()), [reply()]);
        }

        /// Without a silence: a beginning that is none hides at most what fits into the longest frame.
        #[test]
        fn the_decoder_is_in_step_again_within_the_longest_frame(
            soup in prop::collection::vec(prop_oneof![Just(START), Just(200), any::<u8>()], 0..600),
        ) {
            let mut decoder = Decoder::default();
            decoder.decode(&soup);
            let mut found = Vec::new();
            for _ in 0..=FRAME_MAX / 20 {
                found = decoder.decode(&reply().encode(0).unwrap());
            }
            prop_assert_eq!(found.last(), Some(&reply()));
            prop_assert_eq!(decoder.decode(&reply().encode(0).unwrap()), [reply()]);
        }

        #[test]
        fn bytes_decode_alike_in_pieces_of_any_size(
            soup in prop::collection::vec(prop_oneof![Just(START), Just(2), any::<u8>()], 0..600), size in 1_usize..50,
        ) {
            let (mut whole, mut pieces) = (Decoder::default(), Decoder::default());
            let mut at_once = whole.decode(&soup);
            at_once.extend(whole.quiet());
            let mut found: Vec<Frame> = soup.chunks(size).flat_map(|bytes| pieces.decode(bytes)).collect();
            found.extend(pieces.quiet());
            prop_assert_eq!(at_once, found);
            prop_assert_eq!((whole.noise(), whole.checksum_errors()), (pieces.noise(), pieces.checksum_errors()));
        }
    }
}
