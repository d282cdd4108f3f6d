//! Free capacity: planned time in which a machine is known to do nothing, hour by hour over a week.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

const HOUR_MS: u64 = 3_600_000;
const DAY_HOURS: u64 = 24;
const WEEK_HOURS: u64 = 7 * 24;
/// Buckets of a machine: an older one is dropped.
const BUCKETS_MAX: usize = 7 * 24;

/// The hours of one machine in which it was free, by the wall clock.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<Bucket>", into = "Vec<Bucket>")]
pub struct FreeTime {
    /// By their hours, ascending; an hour without free time has none.
    buckets: VecDeque<Bucket>,
}

/// Free time within one hour.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Bucket {
    /// Hours since the epoch.
    hour: u64,
    /// At most an hour.
    free: Duration,
}

impl From<Vec<Bucket>> for FreeTime {
    fn from(mut buckets: Vec<Bucket>) -> FreeTime {
        buckets.sort_by_key(|bucket| bucket.hour);
        let mut time = FreeTime::default();
        for bucket in buckets {
            time.put(bucket.hour, bucket.free);
        }
        time
    }
}

impl From<FreeTime> for Vec<Bucket> {
    fn from(time: FreeTime) -> Vec<Bucket> {
        time.buckets.into()
    }
}

impl FreeTime {
    /// Adds free time that began at a moment, in milliseconds since the epoch; at most a week of it.
    pub fn add(&mut self, from_ms: u64, time: Duration) {
        let (mut at_ms, mut left) = (from_ms, time);
        for _ in 0..=WEEK_HOURS {
            let until_ms = (at_ms / HOUR_MS).saturating_add(1).saturating_mul(HOUR_MS);
            let part = left.min(Duration::from_millis(until_ms.saturating_sub(at_ms)));
            if part.is_zero() {
                return;
            }
            self.put(at_ms / HOUR_MS, part);
            left = left.saturating_sub(part);
            at_ms = until_ms;
        }
    }

    fn put(&mut self, hour: u64, free: Duration) {
        let index = self.buckets.partition_point(|bucket| bucket.hour < hour);
        let hour_long = Duration::from_millis(HOUR_MS);
        match self.buckets.get_mut(index) {
            // A clock that was put back goes through an hour twice.
            Some(bucket) if bucket.hour == hour => {
                bucket.free = bucket.free.saturating_add(free).min(hour_long);
            }
            Some(_) | None => self.buckets.insert(index, Bucket { hour, free: free.min(hour_long) }),
        }
        if self.buckets.len() > BUCKETS_MAX {
            self.buckets.pop_front();
        }
    }

    /// Free time in the hour that is running and the `hours` - 1 before it.
    fn within(&self, hours: u64, now_ms: u64) -> Duration {
        let now = now_ms / HOUR_MS;
        let first = now.saturating_add(1).saturating_sub(hours);
        self.buckets
            .iter()
            .filter(|bucket| (first..=now).contains(&bucket.hour))
            .fold(Duration::ZERO, |sum, bucket| sum.saturating_add(bucket.free))
    }

    /// Free machine-hours of the hour that is running and the 23 before it.
    #[must_use]
    pub fn day_h(&self, now_ms: u64) -> f64 {
        self.within(DAY_HOURS, now_ms).as_secs_f64() / 3600.0
    }

    /// Free machine-hours of the hour that is running and the 167 before it.
    #[must_use]
    pub fn week_h(&self, now_ms: u64) -> f64 {
        self.within(WEEK_HOURS, now_ms).as_secs_f64() / 3600.0
    }
}

/// The free capacity of a class of machines: published as `machines`, `free/now`, `free/24h` and `free/7d`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Capacity {
    /// Machines of the class.
    pub machines: u32,
    /// Those that are free now: idle or stopped, known to be, and in planned time.
    pub free: u32,
    /// Those of which it is not known, or not known which shift they are in.
    pub unknown: u32,
    /// Machine-hours of the last 24 h in which they were free.
    pub free_24h: f64,
    /// Machine-hours of the last 7 days in which they were free.
    pub free_7d: f64,
}

impl Capacity {
    /// Adds a machine of the class; a machine whose state is not known is not free.
    pub fn add(&mut self, machine: &super::Machine) {
        self.machines = self.machines.saturating_add(1);
        self.free = self.free.saturating_add(machine.is_free().into());
        let is_unknown = machine.state() == super::State::Unknown || machine.wall_ms().is_none();
        self.unknown = self.unknown.saturating_add(is_unknown.into());
        if let Some(now_ms) = machine.wall_ms() {
            self.free_24h += machine.free_time().day_h(now_ms);
            self.free_7d += machine.free_time().week_h(now_ms);
        }
    }
}
