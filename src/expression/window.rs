//! The last stretch of time of one number, in a fixed number of buckets.
//!
//! A value holds until the next one. Each bucket has the time that was covered by usable values, the integral over it,
//! and the value at its beginning. A window of `w` is 60 buckets of `w / 60`, and one for the part that leaves.

use std::time::{Duration, Instant};

/// Buckets of a whole window.
const WHOLE: u64 = 60;
/// With the one that leaves.
const COUNT: usize = 61;

/// A stretch of `width`.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    covered_s: f64,
    integral: f64,
    /// What held when it began.
    first: Option<f64>,
}

/// The window; its memory does not grow.
#[derive(Clone, Debug)]
pub(super) struct Window {
    width: Duration,
    /// When bucket 0 began; none before the first look.
    origin: Option<Instant>,
    /// How far it is told.
    at: Duration,
    held: Option<f64>,
    ring: Box<[Bucket; COUNT]>,
}

impl Window {
    pub(super) fn new(whole: Duration) -> Window {
        // Rounded up: 60 of them are never less than the whole.
        let width = Duration::from_nanos(u64::try_from(whole.as_nanos().div_ceil(60)).unwrap_or(u64::MAX));
        Window {
            width,
            origin: None,
            at: Duration::ZERO,
            held: None,
            ring: Box::new([Bucket::default(); COUNT]),
        }
    }

    fn number(&self, at: Duration) -> u64 {
        let nanos = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        nanos(at) / nanos(self.width).max(1)
    }

    fn begin(&self, number: u64) -> Duration {
        let nanos = u64::try_from(self.width.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(number.saturating_mul(nanos))
    }

    fn bucket(&mut self, number: u64) -> Option<&mut Bucket> {
        self.ring.get_mut(usize::try_from(number % COUNT as u64).ok()?)
    }

    fn past(&self, back: u64) -> Option<&Bucket> {
        let number = self.number(self.at).checked_sub(back)?;
        self.ring.get(usize::try_from(number % COUNT as u64).ok()?)
    }

    /// What held until `now` is told; from `now` on it is `value`, or nothing that is usable.
    ///
    /// A `now` that stands still adds nothing; one that goes back counts as standing still.
    pub(super) fn take(&mut self, value: Option<f64>, now: Instant) {
        let origin = *self.origin.get_or_insert(now);
        let until = now.saturating_duration_since(origin).max(self.at);
        let last = self.number(until);
        let oldest = last.saturating_sub(WHOLE);
        if self.number(self.at) < oldest {
            self.at = self.begin(oldest);
            let held = self.held;
            if let Some(bucket) = self.bucket(oldest) {
                *bucket = Bucket { first: held, ..Bucket::default() };
            }
        }
        while self.number(self.at) < last {
            let next = self.number(self.at) + 1;
            self.cover(self.begin(next));
            let held = self.held;
            if let Some(bucket) = self.bucket(next) {
                *bucket = Bucket { first: held, ..Bucket::default() };
            }
        }
        self.cover(until);
        self.held = value;
        if self.begin(last) == until
            && let Some(bucket) = self.bucket(last)
        {
            bucket.first = value;
        }
    }

    fn cover(&mut self, until: Duration) {
        let span_s = until.saturating_sub(self.at).as_secs_f64();
        let number = self.number(self.at);
        if let Some(held) = self.held
            && let Some(bucket) = self.bucket(number)
        {
            bucket.covered_s += span_s;
            bucket.integral += held * span_s;
        }
        self.at = until;
    }

    /// How much of the oldest bucket is still inside, 0 to 1.
    fn remaining(&self) -> f64 {
        let gone = self.at.saturating_sub(self.begin(self.number(self.at)));
        1.0 - gone.as_secs_f64() / self.width.as_secs_f64()
    }

    /// The mean of what is covered; none where that is less than half of the window.
    pub(super) fn mean(&self) -> Option<f64> {
        let (mut covered_s, mut integral) = (0.0, 0.0);
        for back in 0..=WHOLE {
            let share = if back == WHOLE { self.remaining() } else { 1.0 };
            let Some(bucket) = self.past(back) else { break };
            covered_s += bucket.covered_s * share;
            integral += bucket.integral * share;
        }
        // Half, less what sums of floats may lack.
        let enough_s = self.width.as_secs_f64() * 29.999_999;
        (covered_s >= enough_s).then(|| integral / covered_s)
    }

    /// The change a second between the oldest known beginning of a bucket in the window and now; none where less than
    /// half of the window lies between.
    pub(super) fn rate(&self) -> Option<f64> {
        let held = self.held?;
        let now = self.number(self.at);
        (WHOLE / 2..=WHOLE).rev().find_map(|back| {
            let number = now.checked_sub(back)?;
            let then = self.begin(number);
            let is_inside = self.at.saturating_sub(then) <= self.begin(WHOLE);
            let first = self.past(back)?.first.filter(|_| is_inside)?;
            Some((held - first) / self.at.saturating_sub(then).as_secs_f64())
        })
    }

    /// When the answer changes although nothing new comes: at the next border of a bucket; never where all of the
    /// window is like now.
    pub(super) fn due(&self) -> Option<Instant> {
        let next = self.begin(self.number(self.at) + 1).max(self.at + Duration::from_millis(50));
        if self.is_settled() { None } else { self.origin?.checked_add(next) }
    }

    fn is_settled(&self) -> bool {
        let width_s = self.width.as_secs_f64();
        let is_like_now = |back: u64| match (self.held, self.past(back)) {
            (_, None) => self.held.is_none(),
            (None, Some(bucket)) => bucket.covered_s <= 0.0 && bucket.first.is_none(),
            (Some(held), Some(bucket)) => {
                let is_whole = back == 0 || bucket.covered_s >= width_s * (1.0 - 1e-9);
                let strays = (bucket.integral - held * bucket.covered_s).abs();
                is_whole && bucket.first == Some(held) && strays <= 1e-12 * (held * width_s).abs()
            }
        };
        (0..=WHOLE).all(is_like_now)
    }
}
