//! The time, told to all meters that hear it at once; none answers. Pure.
//!
//! What is told is the second that the system clock is nearest to when the last bit of the frame has left: the frame is made
//! when it is sent, and the time that its bytes need on a serial line is added. Of a line behind a network that time is not
//! known; at 1200 baud it is 0.2 s.

use std::time::{Duration, Instant};

use jiff::tz::TimeZone;

use super::exchange::broadcast_time;
use crate::calendar;
use crate::driver::exchange::{Exchange, Noise, Progress};
use crate::reading::Timestamp;

/// Nothing is sent for so long after it: every meter has taken it in, also at 1200 baud behind a network.
pub const SILENCE: Duration = Duration::from_millis(300);
/// The bytes of the frame, without those that wake the meters.
const FRAME: usize = 18;
const SECOND_MS: u64 = 1000;

/// Tells the meters of a line the local time of `zone`, behind so many wake-up bytes.
#[derive(Debug)]
pub struct Broadcast {
    /// Whose local time it is.
    pub zone: TimeZone,
    /// Bytes FE before it, at most 8.
    pub wake: u8,
}

impl Exchange for Broadcast {
    fn request(&self, over_at: Timestamp) -> Vec<u8> {
        let nearest_ms = over_at.millis().saturating_add(SECOND_MS / 2) / SECOND_MS * SECOND_MS;
        let local = calendar::to_local(&self.zone, Timestamp::from_millis(nearest_ms));
        // a clock that is trusted tells a year that two digits can say
        local.and_then(|local| broadcast_time(local, self.wake)).unwrap_or_default()
    }

    fn take(&mut self, _bytes: &[u8], _now: Instant) -> Progress {
        Progress::Wait
    }

    fn is_answered(&self) -> bool {
        false
    }

    fn noise(&self) -> Noise {
        Noise::default()
    }

    fn wire_size(&self) -> usize {
        usize::from(self.wake) + FRAME
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told at a moment in UTC, as it stands in the frame, and how long the frame is.
    #[track_caller]
    fn check(zone: &str, utc: &str, told: &str) {
        let utc: jiff::Timestamp = utc.parse().unwrap();
        let at = Timestamp::from_millis(utc.as_millisecond().try_into().unwrap());
        let broadcast = Broadcast { zone: calendar::zone(zone).unwrap(), wake: 4 };
        let bytes = broadcast.request(at);
        let data = bytes.get(14..20).unwrap_or_default().iter().rev();
        let shown: String = data.map(|byte| format!("{:02X}", byte.wrapping_sub(0x33))).collect();
        assert_eq!(shown, told);
        if !told.is_empty() {
            assert_eq!(bytes.len(), broadcast.wire_size());
        }
    }

    #[test]
    fn the_nearest_second_of_the_local_time_is_told() {
        check("Asia/Shanghai", "2026-11-26T18:30:00.499Z", "261127023000");
        check("Asia/Shanghai", "2026-11-26T18:30:00.500Z", "261127023001");
        check("Asia/Shanghai", "2026-12-31T15:59:59.500Z", "270101000000");
        check("Europe/Berlin", "2026-07-01T00:30:07.100Z", "260701023007");
        check("UTC", "2099-12-31T23:59:59.500Z", "");
    }
}
