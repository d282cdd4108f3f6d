//! From the uptime and the system clock to the time that readings carry. Pure.
//!
//! ```text
//!  the system clock    the time that readings carry
//!  goes on             is the system clock's
//!  is set forward      follows at once
//!  is set back         goes on at a tenth of its speed until the system clock has caught up
//!  is set far back     follows at once: what was said before was wrong, and for hours more it would be
//! ```
//!
//! So but for a clock that was wrong by hours, of two readings of a tag that are at least 10 ms apart the later one always has the later millisecond, whatever is
//! done to the system clock.

use std::time::Duration;

use crate::reading::{Stamp, Timestamp};

/// The time is kept in tenths of a microsecond: at a tenth of its speed it takes one of them a microsecond, however often
/// it is asked for, and no rounding is lost.
const TENTHS_A_MICRO: u64 = 10;
const TENTHS_A_MILLI: u64 = 10_000;
/// A larger step back is followed at once.
const STEP_WALKED_OFF: Duration = Duration::from_secs(2 * 3600);
/// A smaller step back is a correction that is not worth a word.
const STEP_TOLD: Duration = Duration::from_secs(1);

/// What both clocks say at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// Since the machine was started, sleep included; never goes back, and counts on over a restart of the process.
    pub uptime: Duration,
    /// The system clock, since 1970-01-01T00:00:00Z.
    pub system: Duration,
}

/// What is worth telling a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// The system clock was set back by more than a second.
    SetBack {
        /// How far.
        by: Duration,
    },
    /// It is where it was before that.
    CaughtUp,
    /// It was set back so far that the time followed.
    Followed {
        /// How far.
        by: Duration,
    },
}

/// The time that readings carry.
#[derive(Debug)]
pub struct Timeline {
    uptime_us: u64,
    /// In tenths of a microsecond, since 1970-01-01T00:00:00Z.
    time: u64,
    /// How far that is ahead of the system clock, in tenths of a microsecond.
    ahead: u64,
    is_trusted: bool,
    booted_at: Option<Timestamp>,
    is_set_back: bool,
    news: Option<News>,
}

impl Timeline {
    /// One whose system clock is trusted from the start.
    #[must_use]
    pub const fn new() -> Timeline {
        Timeline {
            uptime_us: 0,
            time: 0,
            ahead: 0,
            is_trusted: true,
            booted_at: None,
            is_set_back: false,
            news: None,
        }
    }

    /// The system clock is not to be trusted until [`Timeline::trust`]: to be said before the first stamp.
    pub fn distrust(&mut self) {
        (self.is_trusted, self.booted_at) = (false, None);
    }

    /// The system clock is to be trusted from `now` on: gives the start of the machine by it, or `None` where it was
    /// trusted before.
    ///
    /// The time begins anew with the system clock, be that earlier: no stamp has said it yet.
    pub fn trust(&mut self, now: Clocks) -> Option<Timestamp> {
        if self.is_trusted {
            return None;
        }
        (self.is_trusted, self.is_set_back) = (true, false);
        (self.time, self.ahead) = (0, 0);
        self.advance(now);
        self.booted_at
    }

    /// Whether stamps are of the wall clock.
    #[must_use]
    pub const fn is_trusted(&self) -> bool {
        self.is_trusted
    }

    /// The time in UTC, trusted or not.
    pub fn wall(&mut self, now: Clocks) -> Timestamp {
        self.advance(now);
        Timestamp::from_millis(self.time / TENTHS_A_MILLI)
    }

    /// The time, as readings are to say it.
    pub fn stamp(&mut self, now: Clocks) -> Stamp {
        let wall = self.wall(now);
        if self.is_trusted { Stamp::Wall(wall) } else { Stamp::SinceBoot(self.uptime_us / 1000) }
    }

    /// How far the time is ahead of a system clock that was set back.
    pub fn ahead(&mut self, now: Clocks) -> Duration {
        self.advance(now);
        duration(self.ahead)
    }

    /// When the machine was started: what turns [`Stamp::SinceBoot`] of this start into wall time, never later than the
    /// stamps after it. `None` while the system clock is not trusted; then the same for the life of the process.
    pub fn booted_at(&mut self, now: Clocks) -> Option<Timestamp> {
        self.advance(now);
        self.booted_at
    }

    /// What there is to tell.
    pub fn poll_news(&mut self) -> Option<News> {
        self.news.take()
    }

    fn advance(&mut self, now: Clocks) {
        let uptime_us = micros(now.uptime).max(self.uptime_us);
        let slow = self.time.saturating_add(uptime_us - self.uptime_us);
        let system = micros(now.system).saturating_mul(TENTHS_A_MICRO);
        self.uptime_us = uptime_us;
        self.time = slow.max(system);
        let back = duration(self.time - system);
        if back > STEP_WALKED_OFF && self.is_trusted {
            (self.time, self.ahead, self.is_set_back) = (system, 0, false);
            self.news = Some(News::Followed { by: back });
        }
        if self.is_trusted && self.booted_at.is_none() {
            self.settle();
        }
        let ahead_before = std::mem::replace(&mut self.ahead, self.time - system);
        if self.is_trusted {
            self.tell(ahead_before);
        }
    }

    /// Fixes the start of the machine, so that what was stamped by the uptime until now is not after this moment: not in
    /// the fraction of its millisecond either, and not where the system clock says less than the uptime.
    fn settle(&mut self) {
        let booted_at_ms = (self.time / TENTHS_A_MILLI).saturating_sub(self.uptime_us / 1000);
        let uptime = self.uptime_us.saturating_mul(TENTHS_A_MICRO);
        self.time = self.time.max(booted_at_ms.saturating_mul(TENTHS_A_MILLI).saturating_add(uptime));
        self.booted_at = Some(Timestamp::from_millis(booted_at_ms));
    }

    fn tell(&mut self, ahead_before: u64) {
        let by = duration(self.ahead.saturating_sub(ahead_before));
        if by > STEP_TOLD {
            self.is_set_back = true;
            self.news = Some(News::SetBack { by });
        } else if self.ahead == 0 && self.is_set_back {
            self.is_set_back = false;
            self.news = Some(News::CaughtUp);
        }
    }
}

impl Default for Timeline {
    fn default() -> Timeline {
        Timeline::new()
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn duration(tenths: u64) -> Duration {
    Duration::from_micros(tenths / TENTHS_A_MICRO)
}

#[cfg(test)]
mod tests;
