//! How long to wait before the next attempt to connect: full jitter, so that a thousand gateways do not come at once. Pure.

use std::time::Duration;

use crate::config::site::Uplink;

/// The first wait after a failed attempt to connect; it doubles up to `reconnect_max`.
const RECONNECT_MIN: Duration = Duration::from_secs(1);

/// How often in a row it has failed.
#[derive(Debug)]
pub(super) struct Backoff {
    pub(super) failures: u32,
    reconnect_max: Duration,
    birth_jitter: Duration,
}

impl Backoff {
    pub(super) fn new(uplink: &Uplink) -> Backoff {
        Backoff { failures: 0, reconnect_max: uplink.reconnect_max, birth_jitter: uplink.birth_jitter }
    }

    /// A connection has ended; one that `was_steady` is no failure.
    pub(super) fn handle_end(&mut self, was_steady: bool) {
        self.failures = if was_steady { 0 } else { self.failures.saturating_add(1) };
    }

    /// `chance` is 0 to 1.
    pub(super) fn wait(&self, chance: f64) -> Duration {
        let doubled = RECONNECT_MIN.saturating_mul(1 << self.failures.saturating_sub(1).min(16));
        let ceiling = match self.failures {
            0 => self.birth_jitter,
            _ => doubled.min(self.reconnect_max),
        };
        ceiling.mul_f64(chance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_the_ceiling_and_is_jittered_over_its_whole_length() {
        let mut backoff = Backoff {
            failures: 0,
            reconnect_max: Duration::from_secs(300),
            birth_jitter: Duration::from_secs(5),
        };
        let waits: Vec<u64> = (0..11)
            .map(|failures| {
                backoff.failures = failures;
                backoff.wait(1.0).as_secs()
            })
            .collect();
        assert_eq!(waits, [5, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert_eq!(backoff.wait(0.0), Duration::ZERO);
    }
}
