//! What a number was in each window of time: mean, least, most, last, and what it rose by. Pure.
//!
//! Samples come in with the wall time and a monotonic `now`; the figures of each window go out when it has ended. Windows lie
//! one behind the other, at multiples of their length since 1970-01-01T00:00:00Z: those of 15 minutes begin at full
//! quarters of an hour wherever local time is UTC and whole quarters, those of a day at 00:00 UTC.
//!
//! A value holds until the next sample. How long is told by the monotonic clock only; the wall clock says where windows end.
//! One that jumps makes no time: the window that it leaves is closed with what it had, and those that it jumps over are not
//! told of. One that is put back by at most the length of a window opens none again: the window lasts until its end by
//! the clock, and may cover more than its length. Put back by more, it is followed, and ends of windows come a second time.
//!
//! Before the first wall time nothing ends: all of it belongs to the window that this time lies in. Nothing is kept over a
//! restart: the first window after it is partial, and its quality says so.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::reading::{Quality, Timestamp};

/// It is looked at least so often, so that a step of the wall clock is seen.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Time in which nobody looked for longer than this is not covered.
const UNSEEN_MAX: Duration = Duration::from_secs(600);
/// Nor is time in which nobody looked for more windows than this.
const WINDOWS_MAX: u32 = 24;
/// The shortest window.
const LENGTH_MIN: Duration = Duration::from_millis(1);
/// Windows that wait to be taken: more than end in one call; the oldest gives way.
const CLOSED_MAX: usize = 32;

/// 2^-64: the largest float stays finite when it is multiplied by this and by the nanoseconds of a hundred years.
const SHRINK: f64 = 1.0 / 18_446_744_073_709_551_616.0;

/// A window that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Closed {
    /// When it ended.
    pub at: Timestamp,
    /// The mean over the covered time; this and the next three are `None` where nothing is covered.
    pub mean: Option<f64>,
    /// The least value that held in it.
    pub min: Option<f64>,
    /// The greatest value that held in it.
    pub max: Option<f64>,
    /// The last value that held in it.
    pub last: Option<f64>,
    /// What a total rose by, at least 0: from each usable sample to the next, which need not be of this window nor of a
    /// time that is covered. A fall counts nothing. `None` where no sample of the window had one before it.
    pub rise: Option<f64>,
    /// The usable samples that came in it, also those that held for no time.
    pub count: u32,
    /// How long a usable value held.
    pub covered: Duration,
    /// The worst quality of the values that held; `uncertain:initial`, the window is not full, where less than half of it is
    /// covered and in the first window of a run; bad, as the last sample that was not usable, where nothing is covered.
    pub quality: Quality,
}

/// A value that holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    number: f64,
    quality: Quality,
}

/// What is known of the window that is open.
#[derive(Clone, Debug)]
struct Sums {
    covered: Duration,
    /// Over the covered time, in nanoseconds: then whole numbers have no rounding. Less by [`SHRINK`].
    integral: f64,
    min: f64,
    max: f64,
    last: f64,
    rise: Option<f64>,
    count: u32,
    quality: Quality,
}

impl Sums {
    const EMPTY: Sums = Sums {
        covered: Duration::ZERO,
        integral: 0.0,
        min: f64::INFINITY,
        max: f64::NEG_INFINITY,
        last: 0.0,
        rise: None,
        count: 0,
        quality: Quality::Good,
    };

    /// A value has held for some time.
    fn cover(&mut self, held: Option<Held>, time: Duration) {
        let Some(held) = held.filter(|_| !time.is_zero()) else { return };
        self.covered = self.covered.saturating_add(time);
        self.integral += held.number * SHRINK * nanos(time);
        self.min = self.min.min(held.number);
        self.max = self.max.max(held.number);
        self.last = held.number;
        self.quality = self.quality.worst(held.quality);
    }

    fn rise_by(&mut self, change: f64) {
        let rise = self.rise.unwrap_or_default() + change.max(0.0);
        self.rise = Some(rise.min(f64::MAX));
    }

    fn closed(&self, at: Timestamp, quality: Quality) -> Closed {
        let value = |number: f64| (!self.covered.is_zero()).then_some(number);
        let mean = self.integral / nanos(self.covered) / SHRINK;
        Closed {
            at,
            // Rounding could lead out of what it is the mean of.
            mean: value(mean.max(self.min).min(self.max)),
            min: value(self.min),
            max: value(self.max),
            last: value(self.last),
            rise: self.rise,
            count: self.count,
            covered: self.covered,
            quality,
        }
    }
}

/// The windows of one tag.
#[derive(Debug)]
pub struct Window {
    length: Duration,
    /// Up to when its time is accounted for; never goes back.
    seen: Instant,
    /// The wall time of `seen`, since the epoch; `None`: none that is to be trusted has come.
    place: Option<Duration>,
    held: Option<Held>,
    /// The last usable sample, however long ago.
    before: Option<f64>,
    /// Why the last sample that was not usable was not.
    fault: Quality,
    sums: Sums,
    /// The window that is open is the first.
    is_first: bool,
    closed: VecDeque<Closed>,
}

impl Window {
    /// Nothing is known yet. A `length` below 1 ms is 1 ms.
    #[must_use]
    pub fn new(length: Duration, now: Instant) -> Window {
        Window {
            length: length.max(LENGTH_MIN),
            seen: now,
            place: None,
            held: None,
            before: None,
            fault: Quality::BadNoCommunication,
            sums: Sums::EMPTY,
            is_first: true,
            closed: VecDeque::new(),
        }
    }

    /// Takes a sample of `now`; `wall` is `None` while the wall clock is not to be trusted.
    ///
    /// A value that is doubtful but fresh is usable, and its doubt is that of the window. One that is bad, stale or not finite
    /// is not, and no value is: from then on nothing is covered.
    pub fn handle(&mut self, value: Option<f64>, quality: Quality, wall: Option<Timestamp>, now: Instant) {
        self.handle_time(wall, now);
        let number = match usable(value, quality) {
            Ok(number) => number,
            Err(fault) => {
                (self.held, self.fault) = (None, fault);
                return;
            }
        };
        self.held = Some(Held { number, quality });
        self.sums.count = self.sums.count.saturating_add(1);
        if let Some(before) = self.before.replace(number) {
            self.sums.rise_by(number - before);
        }
    }

    /// Lets time pass up to `now`: to be called at the latest when [`Window::next_due`] says so.
    pub fn handle_time(&mut self, wall: Option<Timestamp>, now: Instant) {
        let elapsed = now.saturating_duration_since(self.seen);
        self.seen = self.seen.max(now);
        let wall = wall.map(|wall| Duration::from_millis(wall.millis()));
        let Some(place) = self.place else {
            let held = self.held.filter(|_| elapsed <= UNSEEN_MAX);
            self.sums.cover(held, elapsed);
            self.place = wall;
            return;
        };
        let target = wall.unwrap_or_else(|| place.saturating_add(elapsed));
        if elapsed > UNSEEN_MAX.min(self.length.saturating_mul(WINDOWS_MAX)) {
            self.jump(place, target);
        } else {
            self.pass(place, target, elapsed);
        }
    }

    /// A window that has ended; to be taken after each `handle`, until there is none.
    pub fn poll_closed(&mut self) -> Option<Closed> {
        self.closed.pop_front()
    }

    /// When it is to be looked at again: at the end of the window, and each minute.
    #[must_use]
    pub fn next_due(&self) -> Instant {
        let left = self.place.map_or(LOOK_EVERY, |place| self.left_at(place).min(LOOK_EVERY));
        self.seen.checked_add(left).unwrap_or(self.seen)
    }

    /// Goes on from one wall time to another in the time that has passed, over the ends of windows on its way.
    fn pass(&mut self, place: Duration, target: Duration, elapsed: Duration) {
        let end = place.saturating_add(self.left_at(place));
        let beyond = target.checked_sub(end).filter(|beyond| *beyond <= elapsed);
        let Some(mut left) = beyond else {
            self.sums.cover(self.held, elapsed);
            self.jump(place, target);
            return;
        };
        self.sums.cover(self.held, elapsed.saturating_sub(left));
        self.close(end);
        let mut end = end.saturating_add(self.length);
        while let Some(rest) = left.checked_sub(self.length) {
            self.sums.cover(self.held, self.length);
            self.close(end);
            end = end.saturating_add(self.length);
            left = rest;
        }
        self.sums.cover(self.held, left);
        self.place = Some(target);
    }

    /// Puts it where the wall clock says that it is, which may be in the same window.
    fn jump(&mut self, place: Duration, target: Duration) {
        let end = place.saturating_add(self.left_at(place));
        let begin = end.saturating_sub(self.length);
        let is_back = target < begin && begin.saturating_sub(target) <= self.length;
        if is_back {
            self.place = Some(begin);
            return;
        }
        if !(begin..end).contains(&target) {
            self.close(end);
        }
        self.place = Some(target);
    }

    /// The time from a moment to the end of its window, above 0.
    fn left_at(&self, place: Duration) -> Duration {
        let length = self.length.as_nanos();
        let gone = place.as_nanos().checked_rem(length).unwrap_or_default();
        Duration::from_nanos(u64::try_from(length.saturating_sub(gone)).unwrap_or(u64::MAX))
    }

    fn close(&mut self, end: Duration) {
        let at = Timestamp::from_millis(u64::try_from(end.as_millis()).unwrap_or(u64::MAX));
        let is_half = self.sums.covered >= self.length / 2;
        let quality = if self.sums.covered.is_zero() {
            self.fault
        } else if self.is_first || !is_half {
            Quality::UncertainInitial
        } else {
            self.sums.quality
        };
        if self.closed.len() >= CLOSED_MAX {
            self.closed.pop_front();
        }
        self.closed.push_back(self.sums.closed(at, quality));
        self.sums = Sums::EMPTY;
        self.is_first = false;
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 104 days; beyond it rounded once")]
fn nanos(time: Duration) -> f64 {
    time.as_nanos() as f64
}

/// The number of a sample, where it says something of now.
///
/// # Errors
/// The bad quality for which it says nothing.
fn usable(value: Option<f64>, quality: Quality) -> Result<f64, Quality> {
    if quality.is_bad() {
        return Err(quality);
    }
    let number = value.filter(|_| quality != Quality::UncertainLastUsable);
    let number = number.ok_or(Quality::BadNoCommunication)?;
    if number.is_finite() { Ok(number) } else { Err(Quality::BadSensorFailure) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A multiple of 10 s.
    const WALL: u64 = 1_795_705_200_000;

    struct Scene {
        window: Window,
        begin: Instant,
        ms: u64,
        /// What the wall clock says at the begin; `None`: it is not to be trusted.
        wall: Option<u64>,
        closed: Vec<Closed>,
    }

    impl Scene {
        fn new(length_ms: u64, wall: Option<u64>) -> Scene {
            let begin = crate::clock::monotonic();
            let window = Window::new(Duration::from_millis(length_ms), begin);
            let mut scene = Scene { window, begin, ms: 0, wall, closed: Vec::new() };
            scene.look();
            scene
        }

        fn wall(&self) -> Option<Timestamp> {
            self.wall.map(|wall| Timestamp::from_millis(wall + self.ms))
        }

        fn now(&self) -> Instant {
            self.begin + Duration::from_millis(self.ms)
        }

        fn look(&mut self) {
            self.window.handle_time(self.wall(), self.now());
            self.drain();
        }

        fn drain(&mut self) {
            self.closed.extend(std::iter::from_fn(|| self.window.poll_closed()));
            assert!(self.window.next_due() > self.now(), "due, and nothing done");
        }

        fn put(&mut self, value: Option<f64>, quality: Quality) {
            self.window.handle(value, quality, self.wall(), self.now());
            self.drain();
        }

        /// Lets time pass, with a look whenever one is due.
        fn pass_to(&mut self, ms: u64) {
            while self.ms < ms {
                let due = (self.window.next_due() - self.begin).as_nanos().div_ceil(1_000_000);
                self.ms = u64::try_from(due).unwrap().min(ms);
                self.look();
            }
        }

        /// `@SECONDS` lets time pass; a number is a good sample; the rest is as its names say, `wall:SECONDS` since `WALL`.
        fn play(&mut self, script: &str) {
            for step in script.split_whitespace() {
                match (step, step.strip_prefix('@'), step.strip_prefix("wall:")) {
                    ("bad", ..) => self.put(None, Quality::BadNotConnected),
                    ("stale", ..) => self.put(Some(7.0), Quality::UncertainLastUsable),
                    ("dark", ..) => self.wall = None,
                    (_, Some(seconds), _) => self.pass_to(seconds.parse::<u64>().unwrap() * 1000),
                    (_, _, Some(seconds)) => {
                        self.wall = Some(WALL + seconds.parse::<u64>().unwrap() * 1000 - self.ms);
                        self.look();
                    }
                    (number, None, None) => self.put(Some(number.parse().unwrap()), Quality::Good),
                }
            }
        }
    }

    /// Seconds since `WALL`, mean, least, most, last, rise, samples, covered seconds, quality.
    fn line(closed: &Closed) -> String {
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| value.to_string());
        let [mean, min, max, last, rise] =
            [closed.mean, closed.min, closed.max, closed.last, closed.rise].map(number);
        let at = (closed.at.millis() - WALL) / 1000;
        let (count, covered) = (closed.count, closed.covered.as_secs_f64());
        format!("{at}: {mean} {min} {max} {last} {rise} {count} {covered} {}", closed.quality.id())
    }

    /// What a script leads to in windows of 10 s, that begins at the begin of one.
    #[track_caller]
    fn check(script: &str, expected: &[&str]) {
        let mut scene = Scene::new(10_000, Some(WALL));
        scene.play(script);
        assert_eq!(scene.closed.iter().map(line).collect::<Vec<_>>(), expected, "{script}");
    }

    #[test]
    fn the_mean_is_weighted_by_how_long_each_value_held() {
        // 8 s of 10 and 2 s of 20; then 20 goes on for 5 s, and 40 for 5 s
        check(
            "10 @8 20 @15 40 @20",
            &["10: 12 10 20 20 10 2 10 uncertain:initial", "20: 30 20 40 40 20 1 10 good"],
        );
    }

    #[test]
    fn a_sample_at_the_border_belongs_to_the_later_window() {
        check("10 @10 30 @20", &["10: 10 10 10 10 - 1 10 uncertain:initial", "20: 30 30 30 30 20 1 10 good"]);
    }

    #[test]
    fn time_without_a_usable_value_is_not_covered() {
        for nothing in ["bad", "stale", "NaN", "inf"] {
            check(
                &format!("1 @10 4 @17 {nothing} @20"),
                &["10: 1 1 1 1 - 1 10 uncertain:initial", "20: 4 4 4 4 3 1 7 good"],
            );
        }
        // a window is half full, and a little less
        check("1 @15 bad @20", &["10: 1 1 1 1 - 1 10 uncertain:initial", "20: 1 1 1 1 - 0 5 good"]);
        check(
            "1 @14 bad @20",
            &["10: 1 1 1 1 - 1 10 uncertain:initial", "20: 1 1 1 1 - 0 4 uncertain:initial"],
        );
    }

    #[test]
    fn a_window_in_which_nothing_is_known_has_no_values_and_says_why() {
        check(
            "@10 bad @20",
            &["10: - - - - - 0 0 bad:no_communication", "20: - - - - - 0 0 bad:not_connected"],
        );
        check(
            "stale @10 NaN @20",
            &["10: - - - - - 0 0 bad:no_communication", "20: - - - - - 0 0 bad:sensor_failure"],
        );
    }

    #[test]
    fn the_doubt_of_a_value_is_that_of_each_window_that_it_held_in() {
        let mut scene = Scene::new(10_000, Some(WALL));
        scene.play("1 @12");
        scene.put(Some(2.0), Quality::UncertainNotAccurate);
        scene.play("@22 3 @40");
        let qualities: Vec<_> = scene.closed.iter().map(|closed| closed.quality.id()).collect();
        assert_eq!(
            qualities,
            ["uncertain:initial", "uncertain:not_accurate", "uncertain:not_accurate", "good"]
        );
    }

    #[test]
    fn a_total_rises_by_what_was_counted_also_while_nobody_could_read_it() {
        // a fall, of what is no total, counts nothing
        check(
            "100 @4 103 @8 bad @12 110 @15 104 @18 105 @20 @30",
            &[
                "10: 101.5 100 103 103 3 2 8 uncertain:initial",
                "20: 106.5 104 110 105 8 3 8 good",
                "30: 105 105 105 105 - 0 10 good",
            ],
        );
    }

    #[test]
    fn before_the_wall_clock_is_known_nothing_ends() {
        let mut scene = Scene::new(10_000, None);
        scene.play("2 @24 4 @30");
        assert!(scene.closed.is_empty());
        // 24 s of 2, and 6 s of 4 up to the first wall time and 2 s after it
        scene.play("wall:8 @32 @42");
        let lines: Vec<_> = scene.closed.iter().map(line).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0], "10: 2.5 2 4 4 2 2 32 uncertain:initial");
        assert_eq!(lines[1], "20: 4 4 4 4 - 0 10 good");
    }

    #[test]
    fn windows_end_on_time_while_the_wall_clock_is_lost() {
        check("3 @4 dark @20", &["10: 3 3 3 3 - 1 10 uncertain:initial", "20: 3 3 3 3 - 0 10 good"]);
    }

    #[test]
    fn a_wall_clock_that_is_put_forward_makes_no_time() {
        // at 13 s it says 47: the window has its 3 s, those up to 40 are not told of
        check(
            "1 @13 wall:47 @16",
            &[
                "10: 1 1 1 1 - 1 10 uncertain:initial",
                "20: 1 1 1 1 - 0 3 uncertain:initial",
                "50: 1 1 1 1 - 0 3 uncertain:initial",
            ],
        );
        // within the window: it has 8 s
        check("1 @13 wall:15 @18", &["10: 1 1 1 1 - 1 10 uncertain:initial", "20: 1 1 1 1 - 0 8 good"]);
    }

    #[test]
    fn a_wall_clock_that_is_put_back_a_little_opens_no_window_again() {
        check(
            "1 @13 wall:8 @25 @35",
            &["10: 1 1 1 1 - 1 10 uncertain:initial", "20: 1 1 1 1 - 0 15 good", "30: 1 1 1 1 - 0 10 good"],
        );
        check("1 @13 wall:0 @33", &["10: 1 1 1 1 - 1 10 uncertain:initial", "20: 1 1 1 1 - 0 23 good"]);
        check("1 @13 wall:11 @22", &["10: 1 1 1 1 - 1 10 uncertain:initial", "20: 1 1 1 1 - 0 12 good"]);
    }

    #[test]
    fn a_wall_clock_that_is_put_back_far_is_followed() {
        check(
            "1 @93 wall:8 @95",
            &[
                "10: 1 1 1 1 - 1 10 uncertain:initial",
                "20: 1 1 1 1 - 0 10 good",
                "30: 1 1 1 1 - 0 10 good",
                "40: 1 1 1 1 - 0 10 good",
                "50: 1 1 1 1 - 0 10 good",
                "60: 1 1 1 1 - 0 10 good",
                "70: 1 1 1 1 - 0 10 good",
                "80: 1 1 1 1 - 0 10 good",
                "90: 1 1 1 1 - 0 10 good",
                "100: 1 1 1 1 - 0 3 uncertain:initial",
                "10: 1 1 1 1 - 0 2 uncertain:initial",
            ],
        );
    }

    /// One look at a moment, after none since the begin.
    fn late(length_ms: u64, seconds: u64) -> Vec<String> {
        let mut scene = Scene::new(length_ms, Some(WALL));
        scene.play("5");
        scene.ms = seconds * 1000;
        scene.look();
        scene.closed.iter().map(line).collect()
    }

    #[test]
    fn one_who_looks_late_finds_each_window_and_one_who_looks_too_late_finds_none() {
        assert_eq!(late(10_000, 25), ["10: 5 5 5 5 - 1 10 uncertain:initial", "20: 5 5 5 5 - 0 10 good"]);
        assert_eq!(late(10_000, 240).len(), 24);
        assert_eq!(late(10_000, 241), ["10: - - - - - 1 0 bad:no_communication"]);
        assert_eq!(late(900_000, 600), [""; 0]);
        assert_eq!(late(900_000, 901), ["900: - - - - - 1 0 bad:no_communication"]);
    }

    #[test]
    fn what_nobody_looked_at_is_not_covered_before_the_wall_clock_is_known_either() {
        let mut scene = Scene::new(10_000, None);
        scene.play("5");
        for (ms, covered_s) in [(600_000, 600), (1_200_001, 600), (1_201_001, 601)] {
            scene.ms = ms;
            scene.look();
            assert_eq!(scene.window.sums.covered.as_secs(), covered_s);
        }
    }

    #[test]
    fn large_numbers_have_a_mean() {
        let mut scene = Scene::new(10_000, Some(WALL));
        scene.put(Some(f64::MAX), Quality::Good);
        scene.play("@5");
        scene.put(Some(f64::MIN), Quality::Good);
        scene.play("@10");
        scene.put(Some(f64::MAX), Quality::Good);
        scene.play("@20");
        let found: Vec<_> = scene.closed.iter().map(|closed| (closed.mean, closed.rise)).collect();
        assert_eq!(found, [(Some(0.0), Some(0.0)), (Some(f64::MAX), Some(f64::MAX))]);
    }

    #[test]
    fn a_window_is_looked_at_at_its_end_and_each_minute() {
        let due = |scene: &Scene| (scene.window.next_due() - scene.now()).as_millis();
        assert_eq!(due(&Scene::new(10_000, Some(WALL + 2500))), 7500);
        assert_eq!(due(&Scene::new(900_000, Some(WALL))), 60_000);
        assert_eq!(due(&Scene::new(10_000, None)), 60_000);
        // a length that cannot be is the shortest
        assert_eq!(due(&Scene::new(0, Some(WALL))), 1);
        let forever = Scene::new(u64::MAX, Some(WALL));
        assert_eq!(due(&forever), 60_000);
    }

    /// A sample, and how many milliseconds it comes after the one before.
    fn samples() -> impl Strategy<Value = Vec<(u64, Option<f64>)>> {
        prop::collection::vec((0_u64..900, prop::option::weighted(0.8, -1e3..1e3)), 1..60)
    }

    proptest! {
        #[test]
        fn each_window_is_that_of_an_integration_millisecond_by_millisecond(
            length in 1_u64..3000, offset in 0_u64..3000, samples in samples(),
        ) {
            let mut scene = Scene::new(length, Some(WALL + offset));
            let mut held = None;
            let mut by_ms = Vec::new();
            for (step, sample) in samples {
                scene.pass_to(scene.ms + step);
                by_ms.resize(usize::try_from(scene.ms).unwrap(), held);
                scene.put(sample, if sample.is_some() { Quality::Good } else { Quality::BadDecode });
                held = sample;
            }
            scene.pass_to(scene.ms + 2 * length);
            by_ms.resize(usize::try_from(scene.ms).unwrap(), held);
            let mut from = 0;
            for closed in &scene.closed {
                prop_assert_eq!(closed.at.millis() % length, 0);
                let to = usize::try_from(closed.at.millis() - WALL - offset).unwrap();
                let known: Vec<f64> = by_ms[from..to].iter().copied().flatten().collect();
                from = to;
                prop_assert_eq!(closed.covered.as_millis(), known.len() as u128);
                prop_assert_eq!(closed.mean.is_some(), !known.is_empty());
                prop_assert_eq!(closed.last, known.last().copied());
                prop_assert_eq!(closed.min, known.iter().copied().reduce(f64::min));
                prop_assert_eq!(closed.max, known.iter().copied().reduce(f64::max));
                if let Some(mean) = closed.mean {
                    prop_assert!((mean - known.iter().sum::<f64>() / known.len() as f64).abs() < 1e-9);
                }
            }
            prop_assert!(by_ms.len() - from <= usize::try_from(length).unwrap());
        }

        #[test]
        fn whatever_the_wall_clock_does_covered_time_is_that_of_usable_values(
            length in 1_u64..3000, samples in samples(),
            walls in prop::collection::vec(prop::option::of(0_u64..20_000), 60),
        ) {
            let mut scene = Scene::new(length, None);
            let (mut held, mut usable_ms, mut count) = (None, 0_u64, 0_u32);
            for ((step, sample), wall) in samples.into_iter().zip(walls) {
                let before = scene.ms;
                scene.pass_to(before + step);
                usable_ms += if held.is_some() { step } else { 0 };
                scene.wall = wall.map(|wall| WALL + wall);
                scene.put(sample, Quality::UncertainStuck);
                held = sample;
                count += u32::from(sample.is_some());
            }
            let open = &scene.window.sums;
            let covered: Duration = scene.closed.iter().map(|closed| closed.covered).sum();
            prop_assert_eq!((covered + open.covered).as_millis(), u128::from(usable_ms));
            prop_assert_eq!(scene.closed.iter().map(|closed| closed.count).sum::<u32>() + open.count, count);
            for closed in &scene.closed {
                if let (Some(mean), Some(min), Some(max)) = (closed.mean, closed.min, closed.max) {
                    prop_assert!(min <= mean && mean <= max);
                }
                prop_assert_eq!(closed.mean.is_none(), closed.quality.is_bad());
            }
        }
    }
}
