//! What was dropped, late, refused or skipped: one counter each, so that nothing is lost without a number.

use std::sync::atomic::{AtomicU64, Ordering};

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

/// All counters of the program; shared, written by whoever counts.
#[derive(Debug, Default)]
pub struct Counters {
    /// Readings that were taken and will not be delivered.
    pub readings_lost: Counter,
    /// Requests that had no usable answer in time.
    pub timeouts: Counter,
    /// Answers that came after their request had been given up, and were dropped.
    pub replies_late: Counter,
    /// Bytes or frames that no request had asked for, or whose checksum was wrong.
    pub frames_foreign: Counter,
    /// Exception replies.
    pub exceptions: Counter,
    /// Polls that came due while the one before had not been done.
    pub overruns: Counter,
    /// Connections to brokers and devices that were opened.
    pub connects: Counter,
    /// Connections to a listening link that were refused: from an address that is not allowed, without a registration,
    /// too many at a time, or of a bus that does not take them.
    pub callers_refused: Counter,
    /// Connections to a listening link whose caller is none of ours.
    pub callers_unknown: Counter,
}
