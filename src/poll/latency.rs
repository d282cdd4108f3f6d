//! How long a device takes to answer, as measured: how long to wait for it, and what a request to it costs. Pure.

use std::time::Duration;

/// No answer is given up sooner than this, or than a quarter of the longest timeout: devices have slow moments.
const TIMEOUT_MIN: Duration = Duration::from_millis(100);

/// One in so many probes has the line for as long as may be.
const WHOLE_PROBES: u32 = 8;

/// The smoothed time of a device's answers and how far they stray from it (as RFC 6298, 2, does it).
#[derive(Debug, Default)]
pub struct Latency {
    measured: Option<Measured>,
    /// Answers in turn that did not come in time.
    missed: u32,
    /// An answer came after its time.
    is_slow: bool,
}

#[derive(Clone, Copy, Debug)]
struct Measured {
    smoothed: Duration,
    deviation: Duration,
}

impl Latency {
    /// An answer took so long.
    pub fn answered(&mut self, took: Duration) {
        self.missed = 0;
        self.is_slow = false;
        self.measured = Some(match self.measured {
            None => Measured { smoothed: took, deviation: took / 2 },
            Some(Measured { smoothed, deviation }) => Measured {
                deviation: (deviation * 3 + smoothed.abs_diff(took)) / 4,
                smoothed: (smoothed * 7 + took) / 8,
            },
        });
    }

    /// An answer did not come in time.
    pub fn missed(&mut self) {
        self.missed = self.missed.saturating_add(1);
    }

    /// An answer came when it was not waited for any more: the next is waited for as long as may be.
    pub fn came_late(&mut self) {
        self.is_slow = true;
    }

    /// How long a probe has the line to itself, before others that are due are let in: what the device was known to need,
    /// or a short time. A late answer is heard all the same; and one probe in eight has the line for the whole time.
    #[must_use]
    pub fn probe_time(&self, most: Duration) -> Duration {
        if self.is_slow || self.missed.is_multiple_of(WHOLE_PROBES) {
            return most;
        }
        self.needed().max(TIMEOUT_MIN).min(most)
    }

    /// Four deviations beyond the usual; nothing before the first answer.
    fn needed(&self) -> Duration {
        self.measured.map_or(Duration::ZERO, |measured| measured.smoothed + measured.deviation * 4)
    }

    /// How long to wait for the next answer, `most` at most: four deviations beyond the usual, and twice as long after
    /// each miss, so that a device that has become slow is heard again.
    #[must_use]
    pub fn timeout(&self, most: Duration) -> Duration {
        if self.measured.is_none() || self.is_slow {
            return most;
        }
        let least = TIMEOUT_MIN.max(most / 4);
        self.needed().max(least).saturating_mul(1 << self.missed.min(8)).min(most)
    }

    /// How long an answer usually takes; `None` before the first.
    #[must_use]
    pub fn usual(&self) -> Option<Duration> {
        self.measured.map(|measured| measured.smoothed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_secs(1);

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_timeout_follows_what_is_measured_and_never_exceeds_what_was_configured() {
        let mut latency = Latency::default();
        assert_eq!((latency.timeout(MOST), latency.usual()), (MOST, None));
        for _ in 0..50 {
            latency.answered(ms(5));
        }
        assert_eq!((latency.timeout(MOST), latency.usual()), (ms(250), Some(ms(5))));
        assert_eq!(latency.timeout(ms(60)), ms(60));
        for _ in 0..50 {
            latency.answered(ms(600));
        }
        assert!(latency.timeout(MOST) > ms(600) && latency.timeout(MOST) <= MOST);
    }

    #[test]
    fn a_device_that_has_become_slow_is_given_more_time_after_each_miss() {
        let mut latency = Latency::default();
        latency.answered(ms(5));
        let timeouts = [(); 4].map(|()| {
            let timeout = latency.timeout(MOST);
            latency.missed();
            timeout
        });
        assert_eq!(timeouts, [ms(250), ms(500), MOST, MOST]);
        latency.answered(ms(700));
        assert_eq!(latency.missed, 0);
        latency.came_late();
        assert_eq!(latency.timeout(MOST), MOST);
    }

    #[test]
    fn a_probe_yields_soon_but_for_one_in_eight_and_after_a_late_answer() {
        let mut latency = Latency::default();
        let times = [(); 9].map(|()| {
            latency.missed();
            latency.probe_time(MOST).as_millis()
        });
        assert_eq!(times, [100, 100, 100, 100, 100, 100, 100, 1000, 100]);
        assert_eq!(latency.probe_time(ms(60)), ms(60));
        latency.answered(ms(300));
        latency.missed();
        assert!(latency.probe_time(MOST) >= ms(300), "it is known to need so long");
        latency.came_late();
        assert_eq!(latency.probe_time(MOST), MOST);
    }
}
