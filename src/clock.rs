//! The only reader of clocks.
//!
//! Pure code gets `now` as an argument; only acting files ask here. The monotonic clock is tokio's, so that tests
//! can make time up (`#[tokio::test(start_paused = true)]`). The time that leaves the gateway is that of one [`Timeline`],
//! for the machine has one wall clock: it never goes back, and says since when the machine runs where the wall clock is not
//! trusted.

mod facts;
mod kernel;
mod timeline;
mod trust;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use tokio::net::unix::pipe;
use tokio::time::sleep_until;
use tracing::{info, warn};

use crate::reading::{Stamp, Timestamp};
pub use timeline::{Clocks, News, Timeline};
pub use trust::Doubt;

/// The time of this process: trusted until somebody says otherwise.
static TIME: Mutex<Timeline> = Mutex::new(Timeline::new());

/// The monotonic time: for every interval, deadline and schedule.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the file that reads clocks")]
pub fn monotonic() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Waits until `due`; `None`: for ever. May be dropped and called again.
pub async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// The time in UTC: for timestamps that leave the gateway, and for nothing else. Never goes back, but where the system clock
/// was wrong by hours, and once where trust comes ([`look`]).
///
/// A system clock before 1970 reads as 0.
#[must_use]
pub fn wall() -> Timestamp {
    ask(&TIME, clocks, Timeline::wall)
}

/// What the system clock says, also where it was set back: for setting other clocks by it, and for nothing else.
#[must_use]
pub fn of_system() -> Timestamp {
    Timestamp::from_millis(u64::try_from(system().as_millis()).unwrap_or(u64::MAX))
}

/// Now, as readings are to say it: of two that are at least 10 ms apart the later one is always later.
#[must_use]
pub fn stamp() -> Stamp {
    ask(&TIME, clocks, Timeline::stamp)
}

/// How far the time is ahead of the system clock, which was set back.
#[must_use]
pub fn ahead() -> Duration {
    ask(&TIME, clocks, Timeline::ahead)
}

/// When the machine was started: what turns [`Stamp::SinceBoot`] of this start into wall time. `None` while the system
/// clock is not trusted; then the same for the life of the process.
#[must_use]
pub fn booted_at() -> Option<Timestamp> {
    ask(&TIME, clocks, Timeline::booted_at)
}

/// Which start of the machine this is; where it cannot be read, which start of the program.
#[must_use]
pub fn boot_id() -> [u8; 16] {
    static BOOT_ID: OnceLock<[u8; 16]> = OnceLock::new();
    *BOOT_ID.get_or_init(facts::boot_id)
}

/// What the machine has to say against its system clock, where that was not asked before: from now on stamps say since when
/// the machine runs, until [`look`] finds the system clock to be trusted. To be called before the first stamp; what was
/// trusted once stays so.
#[must_use]
pub fn doubt() -> Option<Doubt> {
    static IS_JUDGED: AtomicBool = AtomicBool::new(false);
    if IS_JUDGED.swap(true, Ordering::Relaxed) {
        return None;
    }
    let doubt = judge().err()?;
    ask(&TIME, clocks, |time, _| time.distrust());
    Some(doubt)
}

/// Stamps are of the system clock from now on, whatever the machine says against it.
pub fn trust() {
    ask(&TIME, clocks, Timeline::trust);
}

/// What the machine has to say against its system clock; reads some small files.
fn judge() -> Result<(), Doubt> {
    facts::gather(system()).judge()
}

/// Whether stamps are of the wall clock.
#[must_use]
pub fn is_trusted() -> bool {
    ask(&TIME, clocks, |time, _| time.is_trusted())
}

/// Looks whether the system clock is to be trusted by now: gives [`booted_at`] when that has become so by this call.
/// Costs some small files each time, and nothing once it is trusted.
pub fn look() -> Option<Timestamp> {
    if is_trusted() || judge().is_err() {
        return None;
    }
    let booted_at = ask(&TIME, clocks, Timeline::trust)?;
    info!(booted_at = booted_at.millis(), "the system clock is trusted");
    Some(booted_at)
}

/// Both clocks are read under the lock, so that no thread comes with what was before.
fn ask<T>(
    time: &Mutex<Timeline>,
    clocks: fn() -> Clocks,
    what: impl FnOnce(&mut Timeline, Clocks) -> T,
) -> T {
    let mut time = time.lock().unwrap_or_else(PoisonError::into_inner);
    let answer = what(&mut time, clocks());
    let news = time.poll_news();
    drop(time); // a log may take long
    match news {
        Some(News::SetBack { by }) => warn!(
            by_ms = by.as_millis(),
            "the system clock was set back: timestamps go on at a tenth of their speed until it has caught up"
        ),
        Some(News::Followed { by }) => warn!(
            by_ms = by.as_millis(),
            "the system clock was wrong by hours and was set back: timestamps follow it, and repeat times that were said before"
        ),
        Some(News::CaughtUp) => info!("the system clock has caught up with the timestamps"),
        None => {}
    }
    answer
}

fn clocks() -> Clocks {
    // an uptime is never negative
    Clocks { uptime: clock_gettime(ClockId::Boottime).try_into().unwrap_or_default(), system: system() }
}

#[expect(clippy::disallowed_methods, reason = "this is the file that reads clocks")]
fn system() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
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
    use std::sync::atomic::{AtomicU64, Ordering};

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

    #[test]
    fn the_time_is_the_systems_and_stamps_say_it() {
        let before = system().as_millis();
        let Stamp::Wall(stamp) = stamp() else { panic!("it is trusted until somebody says otherwise") };
        assert!(u128::from(stamp.millis()) >= before && wall() >= stamp);
        assert!(ahead() < Duration::from_secs(1));
        assert_eq!(look(), None);
        assert_eq!(booted_at(), booted_at());
        assert!(booted_at().is_some_and(|booted_at| booted_at < stamp));
    }

    /// By another system clock than this machine's, which is set back by an hour with each second look at it.
    #[test]
    fn threads_that_ask_at_once_get_times_in_order() {
        static LOOKS: AtomicU64 = AtomicU64::new(0);
        let set = || {
            let looks = LOOKS.fetch_add(1, Ordering::Relaxed);
            Clocks { system: Duration::from_secs(1_800_000_000 + looks % 2 * 3600), ..clocks() }
        };
        let time = Mutex::new(Timeline::new());
        let latest = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let known = latest.load(Ordering::SeqCst);
                        let at = ask(&time, set, Timeline::wall).millis();
                        assert!(at >= known, "{at} after {known}");
                        latest.fetch_max(at, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(latest.into_inner() >= 1_800_003_600_000);
        assert_eq!(ask(&time, set, Timeline::ahead).as_secs() / 3600, (LOOKS.load(Ordering::Relaxed) % 2));
    }

    /// Prints what a stamp costs: `cargo nextest run --no-capture what_a_stamp_costs`.
    #[test]
    fn what_a_stamp_costs() {
        const COUNT: u32 = 100_000;
        let begin = monotonic();
        for _ in 0..COUNT {
            std::hint::black_box(stamp());
        }
        println!("{} ns", (monotonic() - begin).as_nanos() / u128::from(COUNT));
    }
}
