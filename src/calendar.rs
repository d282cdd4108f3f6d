//! When work is planned: shifts, breaks and workdays in the local time of a place.
//!
//! Wall times come in as milliseconds since the epoch; what holds at them, and until when, goes out. Local times that a
//! change of the clocks skips or repeats are taken as RFC 5545, 3.3.5 has it: a skipped one by the offset before the
//! change, a repeated one as the first. So a shift over such a night has an hour less or more.

mod parse;
mod zone;

use std::fmt;
use std::sync::Arc;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

pub use parse::{shift, span, workdays};
pub use zone::{to_local, to_utc, zone, zone_names, zone_of_system};

/// Minutes of a day.
const DAY_MINUTES: u16 = 24 * 60;
/// The most shifts of a calendar; [`Calendar::faults`] says so beyond it.
pub const SHIFTS_MAX: usize = 24;
/// The most breaks of a calendar; [`Calendar::faults`] says so beyond it.
pub const BREAKS_MAX: usize = 48;
/// [`Calendar::planned_ms`] looks no further than this: 32 days.
pub const PLANNED_MAX_MS: u64 = 32 * 24 * 3_600_000;

/// A part of the day, from a minute to a later one, which may lie on the day after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    from: u16,
    to: u16,
}

impl Span {
    /// The whole day, from midnight to midnight.
    pub const DAY: Span = Span { from: 0, to: DAY_MINUTES };

    /// From a minute of the day to the next moment at which it is `to`; the same minute twice is 24 hours.
    ///
    /// # Errors
    /// `from` is not below 1440, or `to` is above it.
    pub fn new(from: u16, to: u16) -> Result<Span, String> {
        if from >= DAY_MINUTES || to > DAY_MINUTES {
            return Err("a time of day lies between 00:00 and 24:00".to_owned());
        }
        let to = if to > from { to } else { to.saturating_add(DAY_MINUTES) };
        Ok(Span { from, to })
    }

    /// The minute of the day at which it begins, 0 to 1439.
    #[must_use]
    pub const fn from(self) -> u16 {
        self.from
    }

    /// The minute at which it ends, counted from the midnight before its begin: 1 to 2879.
    #[must_use]
    pub const fn to(self) -> u16 {
        self.to
    }

    /// Whether the two have a minute in common on some days.
    fn overlaps(self, other: Span) -> bool {
        let meet = |a: Span, b: Span| a.from < b.to && b.from < a.to;
        let later =
            |s: Span| Span { from: s.from.saturating_add(DAY_MINUTES), to: s.to.saturating_add(DAY_MINUTES) };
        meet(self, other) || meet(later(self), other) || meet(self, later(other))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.to > DAY_MINUTES { self.to.saturating_sub(DAY_MINUTES) } else { self.to };
        write!(f, "{:02}:{:02}-{:02}:{:02}", self.from / 60, self.from % 60, end / 60, end % 60)
    }
}

/// A part of each day with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shift {
    /// What people call it; its times, where it has no name.
    pub name: Arc<str>,
    /// When it is.
    pub span: Span,
}

/// When work is planned at one place. Few fields, many uses: clones are cheap enough for one a machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Calendar {
    /// Whose local time it is.
    pub zone: TimeZone,
    /// What a day is cut into, at most [`SHIFTS_MAX`]; they do not overlap.
    pub shifts: Vec<Shift>,
    /// Not planned, whatever the shift, at most [`BREAKS_MAX`].
    pub breaks: Vec<Span>,
    /// Whether shifts that begin on this weekday are planned; Monday is the first.
    pub workdays: [bool; 7],
}

/// One shift of one day.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ShiftId {
    /// The local date on which it began.
    pub day: Date,
    /// The shift's name.
    pub name: Arc<str>,
}

impl fmt::Display for ShiftId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.day, self.name)
    }
}

/// A shift of a day, with its moments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShiftTime {
    /// Which.
    pub id: ShiftId,
    /// The first millisecond, since the epoch.
    pub from_ms: u64,
    /// The millisecond after the last.
    pub to_ms: u64,
    /// Whether it began on a workday.
    pub is_planned: bool,
}

/// A stretch of time in which nothing of the calendar changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The shift that it lies in.
    pub shift: Option<ShiftTime>,
    /// In a shift that began on a workday, and in no break.
    pub is_planned: bool,
    /// The last boundary of a shift or a break, in milliseconds since the epoch; not after the moment.
    pub since_ms: u64,
    /// The next boundary of a shift or a break, in milliseconds since the epoch; after the moment that was asked for.
    pub until_ms: u64,
}

impl Calendar {
    /// One shift, `day`, from midnight to midnight on all days, without breaks.
    #[must_use]
    pub fn new(zone: TimeZone) -> Calendar {
        let day = Shift { name: "day".into(), span: Span::DAY };
        Calendar { zone, shifts: vec![day], breaks: Vec::new(), workdays: [true; 7] }
    }

    /// What is wrong with it, in sentences for a finding; empty where nothing is.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.shifts.len() > SHIFTS_MAX {
            return vec![format!("{} shifts: at most {SHIFTS_MAX} are possible", self.shifts.len())];
        }
        if self.breaks.len() > BREAKS_MAX {
            return vec![format!("{} breaks: at most {BREAKS_MAX} are possible", self.breaks.len())];
        }
        if self.shifts.is_empty() {
            faults.push("there is no shift: leave `shifts` out for one from midnight to midnight".to_owned());
        }
        for (index, a) in self.shifts.iter().enumerate() {
            for b in self.shifts.iter().skip(index.saturating_add(1)) {
                if a.name == b.name {
                    faults.push(format!("two shifts are named `{}`", a.name));
                } else if a.span.overlaps(b.span) {
                    faults.push(format!("the shifts `{}` and `{}` overlap", a.name, b.name));
                }
            }
        }
        faults
    }

    /// What holds at `at_ms`, and until when; `None` beyond the year 9998.
    #[must_use]
    pub fn at(&self, at_ms: u64) -> Option<Stretch> {
        let today = self.local(at_ms)?.date();
        let days: Vec<Date> = (-2..=2).filter_map(|day| today.checked_add(day.days()).ok()).collect();
        let shifts = self.shift_times(&days);
        let breaks: Vec<(u64, u64)> = days
            .iter()
            .flat_map(|day| self.breaks.iter().filter_map(|span| self.bounds(*day, *span)))
            .collect();
        let is_in = |from: u64, to: u64| from <= at_ms && at_ms < to;
        let shift = shifts.iter().find(|shift| is_in(shift.from_ms, shift.to_ms)).cloned();
        let is_break = breaks.iter().any(|(from, to)| is_in(*from, *to));
        let spans = shifts.iter().map(|shift| (shift.from_ms, shift.to_ms)).chain(breaks.iter().copied());
        let bounds: Vec<u64> = spans.flat_map(|(from, to)| [from, to]).collect();
        let until_ms = bounds.iter().copied().filter(|bound| *bound > at_ms).min();
        Some(Stretch {
            is_planned: !is_break && shift.as_ref().is_some_and(|shift| shift.is_planned),
            shift,
            since_ms: bounds.into_iter().filter(|bound| *bound <= at_ms).max().unwrap_or(at_ms),
            until_ms: until_ms.unwrap_or_else(|| at_ms.saturating_add(24 * 3_600_000)),
        })
    }

    /// The planned milliseconds from one moment to another, at most of [`PLANNED_MAX_MS`] after the first; 0 where the
    /// second is not later.
    #[must_use]
    pub fn planned_ms(&self, from_ms: u64, to_ms: u64) -> u64 {
        let to_ms = to_ms.min(from_ms.saturating_add(PLANNED_MAX_MS));
        let (mut at_ms, mut planned_ms) = (from_ms, 0_u64);
        while at_ms < to_ms {
            let Some(stretch) = self.at(at_ms) else { break };
            let until_ms = stretch.until_ms.min(to_ms);
            if stretch.is_planned {
                planned_ms = planned_ms.saturating_add(until_ms.saturating_sub(at_ms));
            }
            at_ms = until_ms;
        }
        planned_ms
    }

    /// The local day of a moment, and when on that day it is so many minutes after midnight by the clock on the wall, in
    /// milliseconds since the epoch; `None` beyond the year 9998.
    #[must_use]
    pub fn minute_of(&self, at_ms: u64, minute: u16) -> Option<(Date, u64)> {
        let day = self.local(at_ms)?.date();
        Some((day, self.wall_ms(day, minute)?))
    }

    /// The shifts of some days in their order; one ends at the latest where the next begins.
    fn shift_times(&self, days: &[Date]) -> Vec<ShiftTime> {
        let mut times: Vec<ShiftTime> = Vec::new();
        for day in days {
            let is_planned = self.is_workday(*day);
            times.extend(self.shifts.iter().filter_map(|shift| {
                let (from_ms, to_ms) = self.bounds(*day, shift.span)?;
                let id = ShiftId { day: *day, name: Arc::clone(&shift.name) };
                Some(ShiftTime { id, from_ms, to_ms, is_planned })
            }));
        }
        times.sort_by_key(|shift| (shift.from_ms, shift.to_ms));
        let starts: Vec<u64> = times.iter().skip(1).map(|shift| shift.from_ms).collect();
        for (shift, next_ms) in times.iter_mut().zip(starts) {
            shift.to_ms = shift.to_ms.min(next_ms);
        }
        times
    }

    fn is_workday(&self, day: Date) -> bool {
        let index = usize::try_from(day.weekday().to_monday_zero_offset()).unwrap_or(0);
        self.workdays.get(index).copied().unwrap_or(false)
    }

    /// First millisecond, and the one after the last, of a span that begins on this day.
    fn bounds(&self, day: Date, span: Span) -> Option<(u64, u64)> {
        Some((self.wall_ms(day, span.from)?, self.wall_ms(day, span.to)?))
    }

    /// The moment of a local time, `minute` minutes after the midnight of `day` by the clock on the wall.
    fn wall_ms(&self, day: Date, minute: u16) -> Option<u64> {
        let day = day.checked_add(i64::from(minute / DAY_MINUTES).days()).ok()?;
        let minute = minute % DAY_MINUTES;
        let (hour, minute) = (i8::try_from(minute / 60).ok()?, i8::try_from(minute % 60).ok()?);
        let local = DateTime::from_parts(day, Time::new(hour, minute, 0, 0).ok()?);
        let moment = self.zone.to_ambiguous_timestamp(local).compatible().ok()?;
        u64::try_from(moment.as_millisecond()).ok()
    }

    fn local(&self, at_ms: u64) -> Option<DateTime> {
        let moment = Timestamp::from_millisecond(i64::try_from(at_ms).ok()?).ok()?;
        Some(self.zone.to_datetime(moment))
    }
}

#[cfg(test)]
mod tests;
