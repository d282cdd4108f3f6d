use proptest::prelude::*;

use super::*;
use crate::reading::Timestamp;

/// Each sample is `second:value`, `x` and `y` for faults; reported ones stand in the result, one that was held back before.
#[track_caller]
fn check(report: Report, deadband: Deadband, samples: &str, expected: &str) {
    let start = crate::clock::monotonic();
    let mut reporter = Reporter::new(report, deadband);
    let mut told = Vec::new();
    for sample in samples.split(' ') {
        let (second, value) = sample.split_once(':').unwrap();
        let second: u64 = second.parse().unwrap();
        let (value, quality) = match value {
            "x" => (None, Quality::BadCommLastValueKnown),
            "y" => (None, Quality::BadNotConnected),
            number => (Some(Value::Double(number.parse().unwrap())), Quality::Good),
        };
        let now = start + Duration::from_secs(second);
        let out = reporter.handle(value.as_ref(), quality, Stamp::SinceBoot(second), now);
        if let Some(Sample { value, at: Stamp::SinceBoot(second), .. }) = out.held {
            told.push(format!("{second}:{value}"));
        }
        if out.this {
            told.push(sample.to_owned());
        }
    }
    assert_eq!(told.join(" "), expected);
}

fn on_change(at_most: Option<u64>) -> Report {
    Report::OnChange { at_most: at_most.map(Duration::from_secs), at_least: Duration::from_secs(600) }
}

#[test]
fn an_unchanged_value_is_repeated_only_after_at_least() {
    check(on_change(None), Deadband::None, "0:1 1:1 2:2 3:2 601:2 602:2 1202:2", "0:1 2:2 602:2 1202:2");
}

#[test]
fn a_change_inside_at_most_is_reported_when_it_has_passed_if_it_still_stands() {
    check(on_change(Some(10)), Deadband::None, "0:1 1:2 9:2 10:2 11:3 12:2 20:2", "0:1 10:2");
    check(on_change(Some(10)), Deadband::Absolute(0.5), "0:1 1:2 9:2 10:2 11:3 12:2 20:2", "0:1 10:2");
}

#[test]
fn always_reports_each_good_reading() {
    check(Report::Always, Deadband::SwingingDoor(5.0), "0:1 1:1 2:1", "0:1 1:1 2:1");
}

#[test]
fn a_change_of_quality_is_reported_at_once_and_a_lasting_fault_once() {
    for report in [Report::Always, on_change(None), on_change(Some(100))] {
        check(report, Deadband::Absolute(9.0), "0:1 1:x 2:x 700:x 701:y 702:1", "0:1 1:x 701:y 702:1");
    }
}

#[test]
fn a_change_is_measured_from_the_value_reported_last() {
    check(
        on_change(None),
        Deadband::Absolute(1.0),
        "0:1 1:2 2:1.5 3:2.1 4:1.2 5:NaN 6:2",
        "0:1 3:2.1 5:NaN 6:2",
    );
    check(
        on_change(None),
        Deadband::OfValue(0.1),
        "0:0 1:0.1 2:0.105 3:0.2 4:-100 5:-109",
        "0:0 1:0.1 3:0.2 4:-100",
    );
    check(on_change(None), Deadband::Absolute(f64::NAN), "0:1 1:1.1 2:1.1", "0:1 1:1.1");
}

#[test]
fn a_straight_line_is_two_readings_and_a_corner_is_one() {
    let door = Deadband::SwingingDoor(0.1);
    check(on_change(None), door, "0:0 1:1 2:2 3:3 4:2 5:1 6:0 7:0", "0:0 3:3 6:0");
    check(on_change(None), door, "0:0 1:0 600:0 601:0", "0:0 600:0");
}

#[test]
fn what_was_held_back_goes_out_before_a_fault() {
    check(on_change(None), Deadband::SwingingDoor(0.1), "0:0 1:1 2:2 3:x 4:5", "0:0 2:2 3:x 4:5");
}

#[test]
fn a_door_that_may_not_close_yet_gives_the_value_that_stands_then() {
    check(on_change(Some(10)), Deadband::SwingingDoor(0.1), "0:0 1:0 2:9 3:9 10:9 11:9", "0:0 10:9");
}

#[test]
fn a_clock_that_stands_or_goes_back_closes_the_door() {
    check(on_change(None), Deadband::SwingingDoor(0.1), "5:0 6:0 6:0 3:0 4:0", "5:0 6:0 6:0 3:0");
}

fn walk() -> impl Strategy<Value = Vec<(u64, f64)>> {
    prop::collection::vec((1_u64..5000, -3.0..3.0_f64), 2..200).prop_map(|steps| {
        let mut point = (0, 0.0);
        let walk = steps.into_iter().map(|(elapsed, change)| {
            point = (point.0 + elapsed, point.1 + change);
            point
        });
        walk.collect()
    })
}

/// What is reported of a walk, and at last what was held back.
fn reported(walk: &[(u64, f64)], deadband: Deadband, at_least: Duration) -> Vec<(u64, f64)> {
    let start = crate::clock::monotonic();
    let mut reporter = Reporter::new(Report::OnChange { at_most: None, at_least }, deadband);
    let point = |sample: Sample| match sample.at {
        Stamp::Wall(at) => (at.millis(), sample.value.number().unwrap()),
        Stamp::SinceBoot(_) => panic!("by the wall clock"),
    };
    let mut points = Vec::new();
    let mut told_at = 0;
    for (millis, value) in walk {
        let (at, now) =
            (Stamp::Wall(Timestamp::from_millis(*millis)), start + Duration::from_millis(*millis));
        let told = reporter.handle(Some(&Value::Double(*value)), Quality::Good, at, now);
        if told.this || told.held.is_some() {
            told_at = *millis;
        }
        assert!(u128::from(millis - told_at) < at_least.as_millis(), "a heartbeat");
        points.extend(told.held.map(point));
        points.extend(told.this.then_some((*millis, *value)));
    }
    points.extend(reporter.take_held().map(point));
    assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0), "in order: {points:?}");
    points
}

proptest! {
    #[test]
    fn the_last_reported_value_is_within_the_deadband_of_each_sample(walk in walk(), width in 0.1..5.0_f64) {
        for deadband in [Deadband::Absolute(width), Deadband::OfValue(width / 10.0)] {
            let points = reported(&walk, deadband, Duration::from_secs(60));
            for (at, value) in &walk {
                let last = points.iter().rev().find(|point| point.0 <= *at).unwrap().1;
                let width = if deadband == Deadband::Absolute(width) { width } else { width / 10.0 * last.abs() };
                prop_assert!((last - value).abs() <= width);
            }
        }
    }

    #[test]
    fn a_line_between_reported_readings_is_within_the_deadband_of_each_sample(walk in walk(), width in 0.1..5.0_f64) {
        let points = reported(&walk, Deadband::SwingingDoor(width), Duration::from_secs(60));
        for (at, value) in &walk {
            let after = points.iter().position(|point| point.0 >= *at).unwrap();
            let (right, left) = (points[after], points[after.saturating_sub(1)]);
            let share = if right.0 == left.0 { 0.0 } else { (at - left.0) as f64 / (right.0 - left.0) as f64 };
            let line = left.1 + (right.1 - left.1) * share;
            prop_assert!((line - value).abs() <= width * (1.0 + 1e-9), "{at}: {line} for {value}");
        }
    }
}
