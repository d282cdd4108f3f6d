//! What may pass on one connection through the proxy.

use std::sync::Mutex;

use tokio::sync::Notify;

/// Whose bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Gateway,
    Broker,
}

/// How a connection is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Fin,
    Rst,
}

/// The end of a connection after so many bytes from a side, counted from its start; the gateway's from the end of its
/// CONNECT.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trap {
    pub(super) side: Side,
    pub(super) bytes: u64,
    pub(super) end: End,
}

/// What becomes of bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pass {
    All,
    Nothing,
    /// So many of them, and then the connection ends.
    Last(usize, End),
}

/// One connection.
pub(super) struct Wire {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    is_stalled: bool,
    has_vanished: bool,
    /// Where the connection ends, in bytes from here.
    cut: Option<Trap>,
    /// A cut whose bytes are counted from the end of the gateway's first packet on.
    trap: Option<Trap>,
}

impl Wire {
    /// A connection that ends there, or not before its sides end it.
    pub(super) fn new(trap: Option<Trap>) -> Wire {
        let (cut, trap) = match trap {
            Some(Trap { side: Side::Broker, .. }) => (trap, None),
            _ => (None, trap),
        };
        Wire { state: Mutex::new(State { cut, trap, ..State::default() }), changed: Notify::new() }
    }

    pub(super) fn set_stalled(&self, is_stalled: bool) {
        self.state.lock().unwrap().is_stalled = is_stalled;
        self.changed.notify_waiters();
    }

    pub(super) fn vanish(&self) {
        self.state.lock().unwrap().has_vanished = true;
    }

    pub(super) fn has_vanished(&self) -> bool {
        self.state.lock().unwrap().has_vanished
    }

    /// Ends it after exactly so many more bytes, at least one, from that side.
    pub(super) fn cut_after(&self, side: Side, bytes: u64, end: End) {
        self.state.lock().unwrap().cut = Some(Trap { side, bytes, end });
    }

    /// Ready when bytes from that side are read.
    pub(super) async fn flowing(&self, side: Side) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if side == Side::Broker || !self.state.lock().unwrap().is_stalled {
                return;
            }
            changed.await;
        }
    }

    /// What becomes of bytes from that side.
    pub(super) fn pass(&self, side: Side, bytes: &[u8]) -> Pass {
        let mut state = self.state.lock().unwrap();
        if state.has_vanished {
            return Pass::Nothing;
        }
        if side == Side::Gateway
            && let Some(trap) = state.trap.take()
        {
            state.cut = Some(Trap { bytes: packet_size(bytes) + trap.bytes, ..trap });
        }
        let count = u64::try_from(bytes.len()).unwrap();
        match &mut state.cut {
            Some(cut) if cut.side == side => {
                if count >= cut.bytes {
                    return Pass::Last(usize::try_from(cut.bytes).unwrap(), cut.end);
                }
                cut.bytes -= count;
                Pass::All
            }
            _ => Pass::All,
        }
    }
}

/// The size of the MQTT packet at the start of `bytes`, of which type and remaining length must be there (MQTT 3.1.1,
/// 2.2.3); a client sends its CONNECT at once.
fn packet_size(bytes: &[u8]) -> u64 {
    let mut size = 1;
    let mut rest = 0;
    for (index, byte) in bytes.iter().skip(1).take(4).enumerate() {
        size += 1;
        rest += u64::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            break;
        }
    }
    size + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_falls_after_exactly_so_many_bytes_of_its_side() {
        let wire = Wire::new(None);
        wire.cut_after(Side::Broker, 5, End::Rst);
        assert_eq!(wire.pass(Side::Gateway, &[0; 100]), Pass::All);
        assert_eq!(wire.pass(Side::Broker, &[0; 4]), Pass::All);
        assert_eq!(wire.pass(Side::Broker, &[0; 4]), Pass::Last(1, End::Rst));
    }

    #[test]
    fn a_trap_counts_from_the_end_of_the_first_packet() {
        let wire = Wire::new(Some(Trap { side: Side::Gateway, bytes: 3, end: End::Fin }));
        let mut first = vec![0x10, 0x80, 0x01]; // 128 bytes follow
        first.extend([0; 128]);
        assert_eq!(wire.pass(Side::Broker, &[0; 4]), Pass::All);
        assert_eq!(wire.pass(Side::Gateway, &first), Pass::All);
        assert_eq!(wire.pass(Side::Gateway, &[0; 4]), Pass::Last(3, End::Fin));
    }

    #[test]
    fn nothing_passes_on_a_connection_that_has_vanished() {
        let wire = Wire::new(None);
        wire.vanish();
        assert_eq!(wire.pass(Side::Gateway, &[0; 4]), Pass::Nothing);
        assert_eq!(wire.pass(Side::Broker, &[0; 4]), Pass::Nothing);
    }
}
