//! A line with meters of DL/T 645, on which anything may come.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tidegate::config::site::Item;
use tidegate::dlt645::{Address, Format, Identifier, Version};
use tidegate::driver::Answer;
use tidegate::driver::dlt645::exchange::FOLLOW_UPS_MAX;
use tidegate::driver::dlt645::frame::{Control, Decoder, FRAME_MAX, Frame};
use tidegate::driver::dlt645::read::Read;
use tidegate::driver::exchange::{Exchange as _, Progress};
use tidegate::reading::Timestamp;

const START: u8 = 0x68;
const END: u8 = 0x16;
const WAKE: u8 = 0xFE;

/// Bytes of a line; the first one says in which pieces they come, and bit 7 of it which standard is asked.
///
/// Exactly the frames are found that a plain search of all bytes finds, every other byte is counted as noise, less than a
/// frame is kept, and a frame that comes after a silence is found. A question on the line comes to at most one end, after a
/// bounded number of requests.
pub(crate) fn dlt645(bytes: &[u8]) {
    let Some((first, soup)) = bytes.split_first() else { return };
    let size = usize::from(first & 0x7F) + 1;
    let mut decoder = Decoder::default();
    let mut found = Vec::new();
    let (mut heard, mut framed) = (0, 0);
    for piece in soup.chunks(size) {
        heard += plain(piece);
        for frame in decoder.decode(piece) {
            framed += plain(&frame.encode(0).unwrap());
            found.push(frame);
        }
        let kept = heard - framed - decoder.noise();
        assert!(usize::try_from(kept).unwrap() < FRAME_MAX, "{kept} bytes are kept");
    }
    found.extend(decoder.quiet());
    assert!(!decoder.is_amid());
    let (wanted, noise, spoilt) = search(soup);
    assert_eq!(found, wanted);
    assert_eq!((decoder.noise(), decoder.checksum_errors()), (noise, spoilt));
    let next = Frame { address: Address::BROADCAST, control: Control(*first), data: vec![*first; 4] };
    assert_eq!(decoder.decode(&next.encode(4).unwrap()), [next]);
    ask(soup, size, if first & 0x80 == 0 { Version::V2007 } else { Version::V1997 });
}

/// How many of the bytes are no wake-up bytes.
fn plain(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte != WAKE)).sum()
}

/// The frames in these bytes, after which none will come; the noise between them, and how many frames are spoilt.
fn search(bytes: &[u8]) -> (Vec<Frame>, u64, u64) {
    let (mut frames, mut noise, mut spoilt, mut at) = (Vec::new(), 0, 0, 0);
    while at < bytes.len() {
        let rest = &bytes[at..];
        if rest.len() >= 12 && rest[0] == START && rest[7] == START && rest[9] <= 200 {
            let size = 12 + usize::from(rest[9]);
            if rest.len() >= size && rest[size - 1] == END {
                let sum = rest[..size - 2].iter().fold(0_u32, |sum, byte| sum + u32::from(*byte));
                if sum % 256 == u32::from(rest[size - 2]) {
                    frames.push(Frame {
                        address: Address::from_wire(rest[1..7].try_into().unwrap()),
                        control: Control(rest[8]),
                        data: rest[10..size - 2].iter().map(|byte| byte.wrapping_sub(0x33)).collect(),
                    });
                    at += size;
                    continue;
                }
                spoilt += 1;
            }
        }
        noise += plain(&rest[..1]);
        at += 1;
    }
    (frames, noise, spoilt)
}

/// Asks for three values while this comes, with a silence of a second after each piece.
fn ask(soup: &[u8], size: usize, version: Version) {
    let (items, block, format) = match version {
        Version::V2007 => (["02010100", "02010200", "02010300"], "0201FF00", "XXX.X"),
        Version::V1997 => (["B611", "B612", "B613"], "B61F", "XXXX"),
    };
    let identifier = |text| Identifier::parse(text, version).unwrap();
    let format = Format::parse(format).unwrap();
    let item = Item { block: Some(identifier(block)), parts: items.map(identifier).to_vec() };
    let wanted = items.map(|item| (identifier(item), format)).to_vec();
    let address = Address::parse("210220003011").unwrap();
    let mut read = Read::new(address, 4, &item, wanted, Arc::new(AtomicBool::new(false))).unwrap();
    assert!(!read.request(Timestamp::from_millis(0)).is_empty());
    let (mut now, mut requests) = (tidegate::clock::monotonic(), 1);
    for piece in soup.chunks(size).chain([&[][..]]) {
        for heard in [piece, &[]] {
            match read.take(heard, now) {
                Progress::Wait => {}
                Progress::Send(bytes) => {
                    assert!(bytes.len() <= 4 + 17, "{bytes:?}");
                    requests += 1;
                }
                Progress::Done(Answer::Values(values)) => {
                    assert_eq!(values.len(), 3);
                    return;
                }
                Progress::Done(answer) => panic!("{answer:?}"),
            }
            now += Duration::from_secs(1);
        }
    }
    assert!(requests <= 4 * (1 + usize::from(FOLLOW_UPS_MAX)), "{requests} requests");
}
