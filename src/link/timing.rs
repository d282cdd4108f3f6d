//! How long things take on a serial line.

use std::time::Duration;

use crate::config::site::{Parity, SerialLine};

/// The time of one character: start, data, parity and stop bits.
#[must_use]
pub fn character(line: &SerialLine) -> Duration {
    let bits =
        1 + u32::from(line.data_bits) + u32::from(line.parity != Parity::None) + u32::from(line.stop_bits);
    Duration::from_secs(1) * bits / line.baud
}

/// The time that `count` bytes need on the wire.
#[must_use]
pub fn wire_time(line: &SerialLine, count: usize) -> Duration {
    character(line) * u32::try_from(count).unwrap_or(u32::MAX)
}

/// The silence that ends an RTU frame.
///
/// 3.5 character times of 11 bits; fixed at 1750 µs above 19200 baud
/// (Modbus over Serial Line V1.02, 2.5.1.1).
#[must_use]
pub fn frame_gap(line: &SerialLine) -> Duration {
    if line.baud > 19_200 {
        Duration::from_micros(1750)
    } else {
        Duration::from_secs(1) * 77 / (line.baud * 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gap_is_three_and_a_half_characters_and_never_below_1750_microseconds() {
        let line = |baud| SerialLine { baud, data_bits: 8, parity: Parity::Even, stop_bits: 1 };
        assert_eq!(frame_gap(&line(9600)).as_micros(), 4010);
        assert_eq!(frame_gap(&line(19_200)).as_micros(), 2005);
        assert_eq!(frame_gap(&line(115_200)).as_micros(), 1750);
        assert_eq!(wire_time(&line(9600), 8).as_micros(), 9166);
    }
}
