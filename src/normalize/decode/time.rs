//! Registers as a date and time (proleptic Gregorian calendar), and what the clock of a device has to do with UTC.

use std::fmt;
use std::sync::Arc;

use super::number;
use crate::reading::{Quality, Timestamp};
use crate::tag::{ByteOrder, TimeFormat, TimePart, TimeRegister};

/// From the local time that a device tells to UTC; both count milliseconds, the local one as if it were UTC.
/// `None`: a time that the clocks of the place leave out, as they do in spring.
#[derive(Clone)]
pub struct Zone(Arc<dyn Fn(Timestamp) -> Option<Timestamp> + Send + Sync>);

impl Zone {
    /// The zone whose local times become UTC so.
    #[must_use]
    pub fn new(to_utc: impl Fn(Timestamp) -> Option<Timestamp> + Send + Sync + 'static) -> Zone {
        Zone(Arc::new(to_utc))
    }

    /// A zone `minutes` ahead of UTC, the year round; 480 in China.
    #[must_use]
    pub fn fixed(minutes: i16) -> Zone {
        let ahead_ms = i64::from(minutes) * 60_000;
        Zone::new(move |local| local.millis().checked_add_signed(-ahead_ms).map(Timestamp::from_millis))
    }

    /// The UTC time of a local one.
    #[must_use]
    pub fn to_utc(&self, local: Timestamp) -> Option<Timestamp> {
        (self.0)(local)
    }
}

impl Default for Zone {
    fn default() -> Zone {
        Zone::fixed(0)
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Zone")
    }
}

/// What has been found of a date and time.
#[derive(Clone, Copy, Debug, Default)]
struct Civil {
    year: u16,
    month: u16,
    day: u16,
    hour: u16,
    minute: u16,
    second: u16,
}

/// The local time in `words`, as if it were UTC.
pub(super) fn time(words: &[u16], order: ByteOrder, format: TimeFormat) -> Result<Timestamp, Quality> {
    if words.len() != usize::from(format.count()) {
        return Err(Quality::BadDecode);
    }
    let mut civil = Civil::default();
    for (register, word) in format.registers().zip(words) {
        let word = if order.bytes_swapped { word.swap_bytes() } else { *word };
        match register {
            TimeRegister::Whole(part) => civil.set(part, digits(word, 4, format.is_bcd)?)?,
            TimeRegister::Halves(high, low) => {
                let [first, second] = word.to_be_bytes();
                civil.set(high, digits(first.into(), 2, format.is_bcd)?)?;
                civil.set(low, digits(second.into(), 2, format.is_bcd)?)?;
            }
        }
    }
    civil.timestamp().ok_or(Quality::BadDecode)
}

fn digits(raw: u16, count: u8, is_bcd: bool) -> Result<u16, Quality> {
    if !is_bcd {
        return Ok(raw);
    }
    u16::try_from(number::decimal(raw.into(), count)?).map_err(|_| Quality::BadDecode)
}

impl Civil {
    fn set(&mut self, part: TimePart, number: u16) -> Result<(), Quality> {
        match part {
            TimePart::Year => self.year = number,
            TimePart::YearOfCentury if number > 99 => return Err(Quality::BadDecode),
            TimePart::YearOfCentury => self.year = 2000 + number,
            TimePart::Month => self.month = number,
            TimePart::Day => self.day = number,
            TimePart::Hour => self.hour = number,
            TimePart::Minute => self.minute = number,
            TimePart::Second => self.second = number,
            TimePart::Weekday => {}
        }
        Ok(())
    }

    /// `None` where there is no such day or time, or before 1970.
    fn timestamp(self) -> Option<Timestamp> {
        let is_leap =
            self.year.is_multiple_of(4) && (!self.year.is_multiple_of(100) || self.year.is_multiple_of(400));
        let last_day = match self.month {
            4 | 6 | 9 | 11 => 30,
            2 if is_leap => 29,
            2 => 28,
            _ => 31,
        };
        let is_real = (1970..=9999).contains(&self.year)
            && (1..=12).contains(&self.month)
            && (1..=last_day).contains(&self.day)
            && self.hour < 24
            && self.minute < 60
            && self.second < 60;
        let seconds = [(self.hour, 3600), (self.minute, 60), (self.second, 1)];
        let seconds: u64 = seconds.iter().map(|(count, each)| u64::from(*count) * each).sum();
        is_real.then(|| Timestamp::from_millis((self.days() * 86_400 + seconds) * 1000))
    }

    /// Days since 1970-01-01, for a year from 1970 on. Years begin in March, so that the leap day is their last.
    fn days(self) -> u64 {
        let year = u64::from(self.year) - u64::from(self.month <= 2);
        let month = (u64::from(self.month) + 9) % 12;
        let day_of_year = (153 * month + 2) / 5 + u64::from(self.day) - 1;
        (year * 365 + year / 4 + year / 400 + day_of_year) - year / 100 - 719_468
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(numbers: [u16; 6], expected: &str) {
        let format = TimeFormat::parse("YYYY MM DD hh mm ss").unwrap();
        let shown = match time(&numbers, ByteOrder::default(), format) {
            Ok(at) => at.to_string(),
            Err(quality) => quality.id().to_owned(),
        };
        assert_eq!(shown, expected, "{numbers:?}");
    }

    #[test]
    fn only_days_and_times_that_there_are_become_a_time() {
        check([1970, 1, 1, 0, 0, 0], "1970-01-01T00:00:00.000Z");
        check([2000, 2, 29, 23, 59, 59], "2000-02-29T23:59:59.000Z");
        check([2024, 2, 29, 1, 2, 3], "2024-02-29T01:02:03.000Z");
        check([2024, 3, 1, 0, 0, 0], "2024-03-01T00:00:00.000Z");
        check([2100, 2, 28, 0, 0, 0], "2100-02-28T00:00:00.000Z");
        check([2099, 12, 31, 23, 59, 59], "2099-12-31T23:59:59.000Z");
        check([9999, 12, 31, 23, 59, 59], "9999-12-31T23:59:59.000Z");
        for wrong in [
            [1969, 12, 31, 23, 59, 59],
            [10_000, 1, 1, 0, 0, 0],
            [2023, 2, 29, 0, 0, 0],
            [2100, 2, 29, 0, 0, 0],
            [2026, 4, 31, 0, 0, 0],
            [2026, 0, 1, 0, 0, 0],
            [2026, 13, 1, 0, 0, 0],
            [2026, 1, 0, 0, 0, 0],
            [2026, 1, 1, 24, 0, 0],
            [2026, 1, 1, 0, 60, 0],
            [2026, 1, 1, 0, 0, 60],
            [0, 0, 0, 0, 0, 0],
            [65535; 6],
        ] {
            check(wrong, "bad:decode");
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut expected = 0;
        for year in 1970..=2400 {
            for month in 1..=12 {
                for day in 1..=31 {
                    let civil = Civil { year, month, day, ..Civil::default() };
                    let Some(at) = civil.timestamp() else { continue };
                    assert_eq!(at.millis(), expected * 86_400_000, "{year}-{month}-{day}");
                    expected += 1;
                }
            }
        }
    }

    #[test]
    fn a_zone_turns_local_time_into_utc() {
        let local = Timestamp::from_millis(1_795_401_508_000);
        let shown = |zone: Zone| zone.to_utc(local).map(|at| at.to_string());
        assert_eq!(shown(Zone::default()).as_deref(), Some("2026-11-23T02:38:28.000Z"));
        assert_eq!(shown(Zone::fixed(480)).as_deref(), Some("2026-11-22T18:38:28.000Z"));
        assert_eq!(shown(Zone::fixed(-210)).as_deref(), Some("2026-11-23T06:08:28.000Z"));
        assert_eq!(Zone::fixed(480).to_utc(Timestamp::from_millis(0)), None);
        assert_eq!(Zone::fixed(-480).to_utc(Timestamp::from_millis(u64::MAX)), None);
    }
}
