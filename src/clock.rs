//! The only reader of clocks.
//!
//! Pure code gets `now` as an argument; only acting files ask here. The monotonic clock is tokio's, so that tests
//! can make time up (`#[tokio::test(start_paused = true)]`).

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::reading::Timestamp;

/// The monotonic time: for every interval, deadline and schedule.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the file that reads clocks")]
pub fn monotonic() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The wall clock in UTC: for timestamps that leave the gateway, and for nothing else.
///
/// A clock before 1970 reads as 0.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the file that reads clocks")]
pub fn wall() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}
