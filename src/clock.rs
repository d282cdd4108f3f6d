//! The only reader of clocks.
//!
//! Pure code gets `now` as an argument; only acting files ask here. The monotonic clock is tokio's, so that tests
//! can make time up (`#[tokio::test(start_paused = true)]`).

use std::io;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::net::unix::pipe;
use tokio::time::sleep_until;

use crate::reading::{Stamp, Timestamp};

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

/// Now, as readings are to say it.
#[must_use]
pub fn stamp() -> Stamp {
    Stamp::Wall(wall())
}

/// stub
pub fn booted_at() -> Option<Timestamp> {
    Some(Timestamp::from_millis(0))
}
/// stub
pub fn look() -> Option<Timestamp> {
    None
}
/// stub
pub fn boot_id() -> [u8; 16] {
    [0; 16]
}

/// A timer that is exact to some ten microseconds, where that of the runtime rounds up to whole milliseconds: as much as
/// some silences of a serial line. Knows no made-up time.
#[derive(Debug, Default)]
pub struct Alarm {
    /// To tokio a timer that does not block is a pipe.
    timer: Option<pipe::Receiver>,
}

impl Alarm {
    /// Waits until `due`. May be dropped and called again. Where the system has no such timer, as exact as the runtime.
    pub async fn until(&mut self, due: Instant) {
        if self.wait(due).await.is_err() {
            sleep_until(due.into()).await;
        }
    }

    async fn wait(&mut self, due: Instant) -> io::Result<()> {
        let timer = match self.timer.take() {
            Some(timer) => timer,
            None => timer()?,
        };
        let timer = self.timer.insert(timer);
        let mut rest = due.saturating_duration_since(monotonic());
        set(timer, rest)?;
        while rest > Duration::ZERO {
            timer.readable().await?;
            timer.try_read(&mut [0; 8]).ok(); // it rang, or had rung for an earlier wait
            rest = due.saturating_duration_since(monotonic());
        }
        Ok(())
    }
}

fn timer() -> io::Result<pipe::Receiver> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    pipe::Receiver::from_owned_fd_unchecked(timerfd_create(TimerfdClockId::Monotonic, flags)?)
}

/// Rings once after `rest`; never for none.
fn set(timer: &pipe::Receiver, rest: Duration) -> io::Result<()> {
    let it_value = Timespec::try_from(rest).map_err(io::Error::other)?;
    let time = Itimerspec { it_interval: Timespec::default(), it_value };
    timerfd_settime(timer, TimerfdTimerFlags::empty(), &time)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_alarm_rings_when_it_is_due_and_not_for_a_wait_that_was_dropped() {
        let mut alarm = Alarm::default();
        let after = |micros| monotonic() + Duration::from_micros(micros);
        for _ in 0..10 {
            tokio::select! {
                biased;
                () = alarm.until(after(100)) => {}
                () = tokio::task::yield_now() => {}
            }
            let due = after(1500);
            alarm.until(due).await;
            assert!(monotonic() >= due);
        }
        alarm.until(monotonic()).await;
    }
}
