//! What was asked, dropped, late, refused or skipped: one counter each, so that nothing is lost without a number.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// One count that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The count since the program started.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A figure that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// It is this now.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// What it is.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All counters of the program; shared, written by whoever counts.
#[derive(Debug, Default)]
pub struct Counters {
    /// Readings that were taken and will not be delivered.
    pub readings_lost: Counter,
    /// What the store does.
    pub store: Arc<StoreCounters>,
    /// Configurations that were to be taken over while running and had findings.
    pub reloads_refused: Counter,
    /// Connections to brokers and devices that were opened.
    pub connects: Counter,
    /// Of each link, in the order of the site.
    pub links: Vec<Arc<LinkCounters>>,
    /// Of each device, by its id.
    pub devices: Vec<Arc<DeviceCounters>>,
}

/// What the store does.
#[derive(Debug, Default)]
pub struct StoreCounters {
    /// Readings that were stored.
    pub readings: Counter,
    /// Bytes of records that were stored.
    pub bytes: Counter,
    /// Bytes of them that were brought to the disk.
    pub disk_bytes: Counter,
    /// How often the disk was made to be sure of them.
    pub disk_syncs: Counter,
    /// How often it failed.
    pub disk_failures: Counter,
    /// Records that were found damaged.
    pub damaged: Counter,
    /// Files that were no segments and were set aside.
    pub set_aside: Counter,
    /// Readings that were dropped before every uplink had delivered them.
    pub dropped: Counter,
    /// Bytes that are stored, in memory and on the disk.
    pub size: Gauge,
}

/// How good one link is.
#[derive(Debug, Default)]
pub struct LinkCounters {
    /// Time in which a request was under way.
    pub busy: Elapsed,
    /// Bytes or frames that came in while nothing was asked.
    pub unasked: Counter,
    /// Echoes that were not what had been sent: somebody else was talking.
    pub collisions: Counter,
    /// Connections to a listening link that were refused: from an address that is not allowed, without a registration,
    /// too many at a time, or of a bus that does not take them.
    pub callers_refused: Counter,
    /// Connections to a listening link whose caller is none of ours.
    pub callers_unknown: Counter,
}

/// How well one device answers.
#[derive(Debug, Default)]
pub struct DeviceCounters {
    /// Readings that it gave.
    pub readings: Counter,
    /// Requests sent, repetitions included.
    pub requests: Counter,
    /// Repetitions.
    pub retries: Counter,
    /// Requests without a usable answer in time.
    pub timeouts: Counter,
    /// Answers that came after their request had been given up, and were dropped.
    pub late: Counter,
    /// Answers with a wrong checksum.
    pub checksum_errors: Counter,
    /// Bytes or frames of others, or of nobody, while an answer was awaited.
    pub foreign: Counter,
    /// Exception replies, by their code (Modbus V1.1b3, 7; makers have codes of their own).
    pub exceptions: ByCode,
    /// How long answers took, the time on a serial wire not counted.
    pub replies: Histogram,
    /// For each group of tags that are read together: how often, and points of its grid that were missed.
    pub overruns: Vec<(Duration, Counter)>,
}

impl Counters {
    /// Counters for so many links, and for devices with these rates.
    #[must_use]
    pub fn new(links: usize, devices: impl IntoIterator<Item = Vec<Duration>>) -> Counters {
        let of_device = |rates: Vec<Duration>| {
            let overruns = rates.into_iter().map(|every| (every, Counter::default())).collect();
            Arc::new(DeviceCounters { overruns, ..DeviceCounters::default() })
        };
        Counters {
            links: (0..links).map(|_| Arc::default()).collect(),
            devices: devices.into_iter().map(of_device).collect(),
            ..Counters::default()
        }
    }

    /// The sum of one count over all devices.
    #[must_use]
    pub fn of_devices(&self, count: impl Fn(&DeviceCounters) -> u64) -> u64 {
        self.devices.iter().map(|device| count(device)).sum()
    }
}

impl DeviceCounters {
    /// The overruns of all groups.
    #[must_use]
    pub fn overruns(&self) -> u64 {
        self.overruns.iter().map(|(_, count)| count.get()).sum()
    }
}

/// Counts by a code of one byte.
#[derive(Debug, Default)]
pub struct ByCode(Mutex<BTreeMap<u8, u64>>);

impl ByCode {
    /// One more of `code`.
    pub fn add(&self, code: u8) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(code).or_default() += 1;
    }

    /// Every code that has come, and how often.
    #[must_use]
    pub fn all(&self) -> BTreeMap<u8, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many in all.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.all().values().sum()
    }
}

/// A time that only grows.
#[derive(Debug, Default)]
pub struct Elapsed(Counter);

impl Elapsed {
    /// Adds `time`.
    pub fn add(&self, time: Duration) {
        self.0.add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// The sum so far.
    #[must_use]
    pub fn get(&self) -> Duration {
        Duration::from_micros(self.0.get())
    }
}

/// Steps an octave: neighbouring bounds differ by a quarter at most.
const STEPS: u32 = 4;
/// From below 128 µs to beyond 60 s.
const BUCKETS: usize = 80;
/// The upper end of the first bucket is 2 to this power, in microseconds.
const FIRST_OCTAVE: u32 = 7;

/// How often times of which size occurred: enough for percentiles within a quarter of their size.
#[derive(Debug)]
pub struct Histogram([Counter; BUCKETS]);

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram(std::array::from_fn(|_| Counter::default()))
    }
}

impl Histogram {
    /// One more of `time`.
    pub fn add(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        if let Some(count) = self.0.get(bucket(micros)) {
            count.add(1);
        }
    }

    /// The time that `percent` of all did not exceed, rounded up to a bucket's end; `None` where there were none.
    #[must_use]
    pub fn percentile(&self, percent: u64) -> Option<Duration> {
        let counts = || self.0.iter().map(Counter::get);
        let all: u64 = counts().sum();
        let wanted = (all * percent.min(100)).div_ceil(100).max(1);
        let mut seen = 0;
        let found = counts().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        Some(Duration::from_micros(bound(found)))
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(Counter::get).sum()
    }
}

/// The bucket of a time; the last holds all that is longer.
fn bucket(micros: u64) -> usize {
    (0..BUCKETS - 1).find(|index| micros <= bound(*index)).unwrap_or(BUCKETS - 1)
}

/// The longest time in a bucket, in microseconds.
fn bound(index: usize) -> u64 {
    let index = u32::try_from(index).unwrap_or(u32::MAX);
    let octave = 1_u64 << (FIRST_OCTAVE + index / STEPS);
    octave + octave / u64::from(STEPS) * u64::from(index % STEPS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_within_a_quarter() {
        let histogram = Histogram::default();
        assert_eq!(histogram.percentile(50), None);
        for millis in 1..=100 {
            histogram.add(Duration::from_millis(millis));
        }
        for (percent, exact) in [(0, 1), (50, 50), (95, 95), (100, 100)] {
            let found = histogram.percentile(percent).unwrap();
            let exact = Duration::from_millis(exact);
            assert!(found >= exact && found <= exact * 5 / 4, "p{percent}: {found:?}");
        }
        histogram.add(Duration::from_secs(86_400));
        assert!(histogram.percentile(100).unwrap() >= Duration::from_secs(60));
        assert_eq!(histogram.count(), 101);
    }

    #[test]
    fn codes_are_counted_apart() {
        let codes = ByCode::default();
        for code in [2, 0x23, 2] {
            codes.add(code);
        }
        assert_eq!(codes.all(), BTreeMap::from([(2, 2), (0x23, 1)]));
        assert_eq!(codes.sum(), 3);
    }
}
