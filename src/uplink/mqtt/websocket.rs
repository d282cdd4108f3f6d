//! MQTT in the frames of a websocket (RFC 6455, 5; MQTT 3.1.1, 6): a stream of bytes both ways, whatever the frames are. Pure.
//!
//! ```text
//!  bit 0       8        16                                          bytes
//!  FIN 000 op  M  size  [16 or 64 bits of size where size is 126, 127]  [4 of mask]  the data
//! ```

use bytes::{Buf as _, Bytes, BytesMut};

const CONTINUATION: u8 = 0;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
/// The most data of a frame that is no message (RFC 6455, 5.5).
const CONTROL_SIZE_MAX: usize = 125;

/// A frame of ours: whole, and masked, as all of a client are (RFC 6455, 5.3).
pub(super) fn binary(data: &[u8], mask: [u8; 4]) -> Vec<u8> {
    frame(BINARY, data, mask)
}

/// The answer to a ping.
pub(super) fn pong(data: &[u8], mask: [u8; 4]) -> Vec<u8> {
    frame(PONG, data, mask)
}

/// The end.
pub(super) fn close(mask: [u8; 4]) -> Vec<u8> {
    frame(CLOSE, &1000_u16.to_be_bytes(), mask)
}

fn frame(opcode: u8, data: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    if let Some(size) = u8::try_from(data.len()).ok().filter(|size| *size < 126) {
        frame.push(0x80 | size);
    } else if let Ok(size) = u16::try_from(data.len()) {
        frame.push(0x80 | 126);
        frame.extend(size.to_be_bytes());
    } else {
        frame.push(0x80 | 127);
        frame.extend((data.len() as u64).to_be_bytes());
    }
    frame.extend(mask);
    frame.extend(data.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// What has come in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Bytes of MQTT.
    Data(Bytes),
    /// It wants these back.
    Ping(Bytes),
    /// It ends, with this code where it gives one.
    Close(Option<u16>),
}

/// Takes the frames of the far end apart. It keeps a header or a short frame at most.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    buffer: BytesMut,
    /// Data of this frame that is still to come.
    left: u64,
    /// The last frame was not the end of its message.
    is_open: bool,
}

impl Incoming {
    pub(super) fn handle_bytes(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next piece, if it is there.
    ///
    /// # Errors
    /// Where it is no frame that a server may send, or no binary one (MQTT-6.0.0-1).
    pub(super) fn poll_piece(&mut self) -> Result<Option<Piece>, &'static str> {
        loop {
            if self.left > 0 {
                let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(self.buffer.len());
                if here == 0 {
                    return Ok(None);
                }
                self.left -= here as u64;
                return Ok(Some(Piece::Data(self.buffer.split_to(here).freeze())));
            }
            let Some(piece) = self.header()? else { return Ok(None) };
            if let Some(control) = piece {
                return Ok(Some(control));
            }
        }
    }

    /// Takes a header, with all of a frame that is no message; nothing as long as it is not whole.
    fn header(&mut self) -> Result<Option<Option<Piece>>, &'static str> {
        let [first, second, ..] = *self.buffer else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err("the websocket has extensions that nobody asked for");
        }
        if second & 0x80 != 0 {
            return Err("the websocket masks its frames, which a server must not do");
        }
        let (header_size, size) = match (second, &*self.buffer) {
            (126, [_, _, a, b, ..]) => (4, u64::from(u16::from_be_bytes([*a, *b]))),
            (127, [_, _, a, b, c, d, e, f, g, h, ..]) => {
                (10, u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]))
            }
            (126 | 127, _) => return Ok(None),
            (size, _) => (2, u64::from(size)),
        };
        let (is_last, opcode) = (first & 0x80 != 0, first & 0x0F);
        if opcode >= CLOSE {
            return self.control(opcode, is_last, size);
        }
        match (opcode, self.is_open) {
            (BINARY, false) | (CONTINUATION, true) => {}
            (1, _) => return Err("the websocket sends text: MQTT is binary"),
            _ => return Err("the websocket's frames are out of order"),
        }
        self.buffer.advance(header_size);
        self.left = size;
        self.is_open = !is_last;
        Ok(Some(None))
    }

    fn control(
        &mut self,
        opcode: u8,
        is_last: bool,
        size: u64,
    ) -> Result<Option<Option<Piece>>, &'static str> {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if !is_last || size > CONTROL_SIZE_MAX {
            return Err("the websocket sends a control frame that is too long or in parts");
        }
        if self.buffer.len() < 2 + size {
            return Ok(None);
        }
        self.buffer.advance(2);
        let data = self.buffer.split_to(size).freeze();
        match opcode {
            CLOSE => {
                let code = data.first_chunk().map(|code| u16::from_be_bytes(*code));
                Ok(Some(Some(Piece::Close(code))))
            }
            PING => Ok(Some(Some(Piece::Ping(data)))),
            PONG => Ok(Some(None)),
            _ => Err("the websocket sends a frame of an unknown kind"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A frame as a server sends it.
    fn served(is_last: bool, opcode: u8, data: &[u8]) -> Vec<u8> {
        let mut frame = vec![if is_last { 0x80 | opcode } else { opcode }];
        match data.len() {
            size @ 0..126 => frame.push(u8::try_from(size).unwrap()),
            size @ 126..65536 => {
                frame.push(126);
                frame.extend(u16::try_from(size).unwrap().to_be_bytes());
            }
            size => {
                frame.push(127);
                frame.extend((size as u64).to_be_bytes());
            }
        }
        frame.extend(data);
        frame
    }

    /// All data and all else that comes of these bytes, cut into chunks of this size.
    fn taken(bytes: &[u8], chunk: usize) -> Result<(Vec<u8>, Vec<Piece>), &'static str> {
        let mut incoming = Incoming::default();
        let (mut data, mut others) = (Vec::new(), Vec::new());
        for bytes in bytes.chunks(chunk) {
            incoming.handle_bytes(bytes);
            while let Some(piece) = incoming.poll_piece()? {
                match piece {
                    Piece::Data(bytes) => data.extend(bytes),
                    piece @ (Piece::Ping(_) | Piece::Close(_)) => others.push(piece),
                }
            }
            assert!(incoming.buffer.len() <= 2 + CONTROL_SIZE_MAX, "it keeps {}", incoming.buffer.len());
        }
        Ok((data, others))
    }

    #[test]
    fn the_frames_of_the_standard_are_made() {
        // RFC 6455, 5.7, with another opcode
        let expected = [0x82, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(binary(b"Hello", [0x37, 0xfa, 0x21, 0x3d]), expected);
        assert_eq!(binary(&[0; 126], [0; 4])[..4], [0x82, 0xFE, 0, 126]);
        assert_eq!(binary(&[0; 65536], [0; 4])[..10], [0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(pong(b"a", [0; 4]), [0x8A, 0x81, 0, 0, 0, 0, b'a']);
        assert_eq!(close([0; 4]), [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE8]);
    }

    #[test]
    fn fragments_and_pings_between_them_are_taken_apart() {
        let bytes = [
            served(false, BINARY, b"ab"),
            served(true, PING, b"p"),
            served(false, CONTINUATION, b""),
            served(true, PONG, b"q"),
            served(true, CONTINUATION, &[b'c'; 70_000]),
            served(true, CLOSE, &[0x03, 0xE9]),
        ]
        .concat();
        for chunk in [1, 3, 100, 100_000] {
            let (data, others) = taken(&bytes, chunk).unwrap();
            assert_eq!(data, [b"ab".to_vec(), vec![b'c'; 70_000]].concat());
            assert_eq!(others, [Piece::Ping(Bytes::from_static(b"p")), Piece::Close(Some(1001))]);
        }
    }

    #[test]
    fn what_a_server_must_not_send_is_refused() {
        for (bytes, expected) in [
            (served(true, 1, b"text"), "text"),
            (served(true, CONTINUATION, b"a"), "out of order"),
            ([served(false, BINARY, b"a"), served(true, BINARY, b"b")].concat(), "out of order"),
            (served(true, PING, &[0; 126]), "too long"),
            (served(false, PING, b""), "in parts"),
            (served(true, 11, b""), "unknown kind"),
            (binary(b"a", [1; 4]), "masks"),
            (vec![0xC2, 0], "extensions"),
        ] {
            let fault = taken(&bytes, 1).unwrap_err();
            assert!(fault.contains(expected), "{fault}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_borne(bytes in proptest::collection::vec(any::<u8>(), 0..300), chunk in 1_usize..40) {
            taken(&bytes, chunk).ok();
        }

        #[test]
        fn what_is_framed_comes_out_again(data in proptest::collection::vec(any::<u8>(), 0..400), cut in 0_usize..400) {
            let (first, second) = data.split_at(cut.min(data.len()));
            let bytes = [served(false, BINARY, first), served(true, CONTINUATION, second)].concat();
            prop_assert_eq!(taken(&bytes, 7).unwrap().0, data);
        }
    }
}
