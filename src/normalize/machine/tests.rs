use std::sync::Arc;

use serde_json::Value;

use super::*;
use crate::calendar::{self, zone};
use crate::config::site::{Count, CountKind};

const DAY_EVENTS: &str = include_str!("../../../tests/it/day/events.jsonl");
const DAY_FIGURES: &str = include_str!("../../../tests/it/day/figures.json");

fn rule(shifts: &str, breaks: &str) -> MachineRule {
    let mut calendar = Calendar::new(zone("Europe/Berlin").unwrap());
    calendar.shifts = shifts.split_whitespace().map(|text| calendar::shift(None, text).unwrap()).collect();
    calendar.breaks = breaks.split_whitespace().map(|text| calendar::span(text).unwrap()).collect();
    MachineRule {
        has_fault: true,
        has_setup: true,
        has_idle: true,
        pieces: Some(Count { kind: CountKind::Counter, each: Amount::Number(4.0) }),
        scrap: Some(Count { kind: CountKind::Event, each: Amount::Number(1.0) }),
        has_energy: true,
        has_product: true,
        cycle: Some(Amount::Tag),
        class: Some(Arc::from("press")),
        calendar,
    }
}

fn wall_ms(text: &str) -> u64 {
    text.parse::<jiff::Timestamp>().unwrap().as_millisecond().try_into().unwrap()
}

fn at(ms: u64) -> Option<Timestamp> {
    Some(Timestamp::from_millis(ms))
}

fn conditions(fault: Option<bool>, setup: Option<bool>, running: Option<bool>, idle: Option<bool>) -> Sample {
    Sample::Conditions(Conditions { fault, setup, running, idle })
}

fn running(is: bool) -> Sample {
    conditions(Some(false), Some(false), Some(is), Some(false))
}

/// A machine, its clocks, and what it closed.
struct Scene {
    machine: Machine,
    begin: Instant,
    /// Monotonic time since the begin.
    now: Duration,
    wall: u64,
    closed: Vec<Closed>,
}

impl Scene {
    #[expect(
        clippy::disallowed_methods,
        reason = "an instant can be had in no other way; it is only counted from"
    )]
    fn new(rule: MachineRule, wall: u64) -> Scene {
        let begin = Instant::now();
        let machine = Machine::new(rule, None, begin);
        let mut scene = Scene { machine, begin, now: Duration::ZERO, wall, closed: Vec::new() };
        scene.machine.handle_time(at(wall), begin);
        scene
    }

    fn restart(&mut self, rule: MachineRule) {
        let saved: Saved =
            serde_json::from_str(&serde_json::to_string(&self.machine.save().unwrap()).unwrap()).unwrap();
        self.machine = Machine::new(rule, Some(saved), self.begin + self.now);
    }

    fn put(&mut self, sample: Sample) {
        self.machine.handle(sample, at(self.wall), self.begin + self.now);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(closed) = self.machine.poll_closed() {
            self.closed.push(closed);
        }
    }

    /// Lets time pass, with a look whenever one is due.
    fn pass_s(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        while self.now < end {
            let due = self.machine.next_due().duration_since(self.begin).min(end);
            let step = (due - self.now).max(Duration::from_millis(1));
            self.now += step;
            self.wall += u64::try_from(step.as_millis()).unwrap();
            self.machine.handle_time(at(self.wall), self.begin + self.now);
            self.drain();
        }
    }
}

#[track_caller]
fn near(name: &str, found: Option<f64>, expected: f64, within: f64) {
    let found = found.unwrap_or(f64::NAN);
    assert!((found - expected).abs() <= within, "{name}: {found} and not {expected}");
}

/// Hands in one line of the day.
fn put_event(scene: &mut Scene, event: &Value, total: &mut u64) {
    if let Some(list) = event["conditions"].as_array() {
        let [fault, setup, run, idle] = [0, 1, 2, 3].map(|index| list[index].as_bool());
        scene.put(conditions(fault, setup, run, idle));
    } else if let Some(counter) = event["counter"].as_u64() {
        // As a counter's total has it: a step up, a wrap of 16 bits near the top, else a reset.
        let delta = if counter >= *total {
            counter - *total
        } else if *total > 60_000 {
            counter + 65_536 - *total
        } else {
            counter
        };
        *total = counter;
        scene.put(Sample::Pieces(Seen::Delta(delta as f64)));
    } else if event["scrap"] == 1 {
        scene.put(Sample::Scrap(Seen::Event));
    } else if let Some(kwh) = event["energy"].as_f64() {
        scene.put(Sample::Energy(Some(kwh)));
    } else if let Some(product) = event["product"].as_str() {
        scene.put(Sample::Product(Some(product.to_owned())));
    } else if let Some(cycle_s) = event["cycle"].as_f64() {
        scene.put(Sample::Cycle(Some(cycle_s)));
    }
}

#[test]
fn a_scripted_day_gives_the_figures_that_were_counted_second_by_second() {
    let mut scene = Scene::new(rule("06:00-14:00", "10:00-10:30"), wall_ms("2026-11-26T05:00:00Z"));
    let mut total = 65400_u64;
    let mut second = 0;
    for line in DAY_EVENTS.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let next = event["at"].as_u64().unwrap();
        if event["restore"] == true {
            scene.now += Duration::from_secs(next - second);
            scene.wall = event["wall"].as_u64().unwrap() * 1000;
            scene.restart(rule("06:00-14:00", "10:00-10:30"));
            second = next;
        }
        scene.pass_s(next - second);
        scene.wall = event["wall"].as_u64().unwrap() * 1000;
        second = next;
        if event["step"] == true {
            scene.machine.handle_time(at(scene.wall), scene.begin + scene.now);
        }
        put_event(&mut scene, &event, &mut total);
    }
    scene.pass_s(8 * 3600 - second);
    let truth: Value = serde_json::from_str(DAY_FIGURES).unwrap();
    let kinds: Vec<_> = scene.closed.iter().map(|c| (c.is_shift, c.figures.product.as_deref())).collect();
    assert_eq!(kinds, [(false, Some("cup")), (false, Some("lid")), (true, Some("lid"))]);
    let shift = &scene.closed[2];
    assert_eq!(shift.at, at(wall_ms("2026-11-26T13:00:00Z")));
    let f = &shift.figures;
    assert_eq!(f.shift.as_deref(), Some("2026-11-26 06:00-14:00"));
    let check = |name: &str, found: Option<f64>, within: f64| {
        near(name, found, truth[name].as_f64().unwrap(), within);
    };
    for (name, seconds) in
        [("apt_s", f.apt_s), ("adot_s", f.adot_s), ("adet_s", f.adet_s), ("aust_s", f.aust_s)]
    {
        check(name, Some(seconds), 0.001);
    }
    check("pbt_s", Some(f.pbt_s), 0.001);
    check("unknown_s", Some(f.unknown_s), 0.001);
    for (name, figure) in
        [("pieces", f.pieces), ("scrap", f.scrap), ("good", f.good), ("energy_kwh", f.energy_kwh)]
    {
        check(name, figure, 0.0);
    }
    for (name, figure) in [
        ("availability", f.availability),
        ("performance", f.performance),
        ("quality", f.quality),
        ("oee", f.oee),
        ("kwh_per_piece", f.kwh_per_piece),
    ] {
        check(name, figure, 0.000_05);
    }
    for closed in &scene.closed[..2] {
        let name = closed.figures.product.as_deref().unwrap();
        near(name, closed.figures.pieces, truth["products"][name].as_f64().unwrap(), 0.0);
    }
    assert_eq!(
        (f.time_quality, f.count_quality),
        (crate::reading::Quality::UncertainNotAccurate, crate::reading::Quality::UncertainNotAccurate)
    );
}

#[test]
fn the_first_condition_that_holds_is_the_state_and_one_before_it_that_is_not_known_hides_it() {
    #[track_caller]
    fn check(text: &str, expected: &str) {
        let of = |index| match text.as_bytes()[index] {
            b'1' => Some(true),
            b'0' => Some(false),
            _ => None,
        };
        let conditions = Conditions { fault: of(0), setup: of(1), running: of(2), idle: of(3) };
        assert_eq!(State::of(&rule("06:00-14:00", ""), conditions).word(), expected);
    }
    check("1???", "fault");
    check("01??", "setup");
    check("001?", "run");
    check("0001", "idle");
    check("0000", "stop");
    check("?111", "unknown");
    check("0?11", "unknown");
    check("00?1", "unknown");
    check("000?", "unknown");
}

#[test]
fn a_night_over_a_change_of_the_clocks_has_its_true_hours_and_is_cut_at_its_end() {
    #[track_caller]
    fn check(begin: &str, hours: f64, shift: &str) {
        let mut scene = Scene::new(rule("22:00-06:00", ""), wall_ms(begin));
        scene.put(running(true));
        scene.pass_s(12 * 3600);
        let closed = scene.closed.iter().find(|closed| closed.is_shift).unwrap();
        assert_eq!(closed.figures.shift.as_deref(), Some(shift));
        near("apt_s", Some(closed.figures.apt_s), hours * 3600.0, 0.001);
        near("pbt_s", Some(closed.figures.pbt_s), hours * 3600.0, 0.001);
    }
    check("2026-03-28T21:00:00Z", 7.0, "2026-03-28 22:00-06:00");
    check("2026-10-24T20:00:00Z", 9.0, "2026-10-24 22:00-06:00");
    check("2026-11-26T20:30:00Z", 8.0, "2026-11-26 22:00-06:00");
}

#[test]
fn a_step_of_the_wall_clock_makes_no_time_and_closes_no_shift_twice() {
    #[track_caller]
    fn check(step_ms: i64) {
        let mut scene = Scene::new(rule("08:00-20:00 20:00-08:00", ""), wall_ms("2026-11-26T07:00:00Z"));
        scene.put(running(true));
        scene.pass_s(12 * 3600 - 10);
        scene.wall = scene.wall.saturating_add_signed(step_ms);
        scene.machine.handle_time(at(scene.wall), scene.begin + scene.now);
        scene.pass_s(60);
        scene.wall = scene.wall.saturating_add_signed(-step_ms);
        scene.machine.handle_time(at(scene.wall), scene.begin + scene.now);
        scene.pass_s(4 * 3600);
        let shifts: Vec<_> =
            scene.closed.iter().filter(|c| c.is_shift).map(|c| c.figures.shift.clone().unwrap()).collect();
        assert_eq!(shifts, ["2026-11-26 08:00-20:00"], "{step_ms}");
        let closed: f64 = scene.closed.iter().filter(|c| c.is_shift).map(|c| c.figures.pbt_s).sum();
        let sum = closed + scene.machine.figures().pbt_s;
        near("pbt_s", Some(sum), 16.0 * 3600.0 + 50.0, 0.001);
    }
    check(0);
    check(3_600_000);
    check(-3_600_000);
    check(-20_000);
    check(20_000);
}

#[test]
fn an_edge_counts_between_two_known_samples_only() {
    #[track_caller]
    fn check(levels: &str, pieces: f64, is_sure: bool) {
        let mut rule = rule("06:00-14:00", "");
        rule.pieces = Some(Count { kind: CountKind::Rising, each: Amount::Number(2.0) });
        let mut scene = Scene::new(rule, wall_ms("2026-11-26T05:00:00Z"));
        for level in levels.chars() {
            let level = match level {
                '1' => Some(true),
                '0' => Some(false),
                _ => None,
            };
            scene.put(Sample::Pieces(Seen::Level(level)));
        }
        let figures = scene.machine.figures();
        near(levels, figures.pieces, pieces, 0.0);
        assert_eq!(figures.count_quality == crate::reading::Quality::Good, is_sure, "{levels}");
    }
    check("0101", 4.0, true);
    check("1101", 2.0, true);
    check("?01", 2.0, true);
    check("0?1", 0.0, false);
    check("01?01", 4.0, false);
}

#[test]
fn nothing_is_claimed_where_nothing_was_counted_or_known() {
    let scene = Scene::new(rule("06:00-14:00", ""), wall_ms("2026-11-26T08:00:00Z"));
    let figures = scene.machine.figures();
    assert_eq!(
        (figures.availability, figures.performance, figures.quality, figures.oee),
        (None, None, None, None)
    );
    near("unknown_s", Some(figures.unknown_s), 3.0 * 3600.0, 0.001);
    assert_eq!(figures.kwh_per_piece, None);
    let mut none = rule("06:00-14:00", "");
    none.scrap = None;
    let mut scene = Scene::new(none, wall_ms("2026-11-26T05:00:00Z"));
    scene.put(Sample::Pieces(Seen::Delta(5.0)));
    let figures = scene.machine.figures();
    assert_eq!((figures.good, figures.quality, figures.oee), (None, None, None));
}

#[test]
fn hostile_numbers_and_times_are_borne() {
    let mut scene = Scene::new(rule("06:00-14:00", ""), wall_ms("2026-11-26T05:00:00Z"));
    for number in [f64::NAN, f64::INFINITY, -1.0, f64::MAX] {
        scene.put(Sample::Pieces(Seen::Delta(number)));
        scene.put(Sample::Energy(Some(number)));
        scene.put(Sample::Cycle(Some(number)));
        scene.put(Sample::PiecesEach(Some(number)));
    }
    for wall in [u64::MAX, 0, u64::MAX / 2, wall_ms("2026-11-26T05:00:00Z")] {
        scene.wall = wall;
        scene.machine.handle_time(at(wall), scene.begin);
        scene.machine.handle_time(at(wall), scene.begin + Duration::from_secs(1 << 40));
    }
    let figures = scene.machine.figures();
    for figure in [figures.pieces, figures.energy_kwh, figures.performance, figures.oee].into_iter().flatten()
    {
        assert!(figure.is_finite());
    }
}

#[test]
fn free_hours_are_planned_time_in_which_nothing_was_done() {
    let mut scene = Scene::new(rule("06:00-14:00", "10:00-10:30"), wall_ms("2026-11-26T05:00:00Z"));
    scene.put(running(true));
    scene.pass_s(3600);
    scene.put(conditions(None, None, None, None));
    scene.pass_s(1800);
    scene.put(running(false));
    scene.pass_s(9 * 3600);
    let mut capacity = Capacity::default();
    capacity.add(&scene.machine);
    near("free_24h", Some(capacity.free_24h), 6.0, 1e-6);
    assert_eq!((capacity.machines, capacity.free), (1, 0));
    scene.restart(rule("06:00-14:00", "10:00-10:30"));
    scene.pass_s(1);
    near("kept", Some(scene.machine.free_time().week_h(scene.wall)), 6.0, 1e-6);
}

#[test]
fn what_was_made_after_a_restart_before_the_clock_is_trusted_is_doubtful_in_both_shifts_that_it_may_be_of() {
    let rule = || {
        let count = Count { kind: CountKind::Counter, each: Amount::Number(1.0) };
        MachineRule { pieces: Some(count), has_product: false, ..rule("06:00-14:00 14:00-22:00", "") }
    };
    let mut scene = Scene::new(rule(), wall_ms("2026-11-26T05:00:00Z"));
    scene.put(running(true));
    scene.put(Sample::Pieces(Seen::Delta(5.0)));
    scene.pass_s(8 * 3600 - 2);
    scene.restart(rule());
    scene.machine.handle(Sample::Pieces(Seen::Delta(3.0)), None, scene.begin + scene.now);
    scene.wall += 4000;
    scene.put(running(true));
    let counted = |figures: &Figures| (figures.pieces, figures.count_quality, figures.energy_quality);
    let doubt = crate::reading::Quality::UncertainNotAccurate;
    assert_eq!(scene.closed.len(), 1);
    assert_eq!(counted(&scene.closed[0].figures), (Some(5.0), doubt, doubt));
    let good = crate::reading::Quality::Good;
    assert_eq!(counted(&scene.machine.figures()), (Some(3.0), doubt, doubt));
    scene.pass_s(8 * 3600);
    assert_eq!(counted(&scene.machine.figures()), (Some(0.0), good, good));
}

#[test]
fn a_plan_changes_what_it_names_and_keeps_what_was_counted() {
    #[track_caller]
    fn refused(text: &str, expected: &str) {
        let error = plan::parse(text.as_bytes(), &rule("06:00-14:00", "").calendar).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    refused("{", "the plan cannot be read");
    refused(r#"{"machine": "a", "cycle_s": 0}"#, "`cycle_s` is 0: wanted more than 0");
    refused(r#"{"machine": "a", "cycles": 1}"#, "unknown field `cycles`");
    refused(r#"{"machine": "a", "shifts": ["08:00"]}"#, "`shifts`: `08:00` is no span");
    refused(r#"{"machine": "a", "shifts": ["08:00-16:00", "15:00-20:00"]}"#, "overlap");
    refused(r#"{"machine": "a", "workdays": "all"}"#, "`workdays`: `all` is no day");
    refused(&"[".repeat(10_000), "the plan cannot be read");
    refused(&" ".repeat(plan::MESSAGE_MAX + 1), "at most 16384 are read");
    let mut scene = Scene::new(rule("06:00-14:00", ""), wall_ms("2026-11-26T05:00:00Z"));
    scene.put(running(true));
    scene.pass_s(3600);
    let text = br#"{"machine": "a", "cycle_s": 24.0, "shifts": {"early": "06:00-15:00"}, "breaks": []}"#;
    let plan = plan::parse(text, scene.machine.calendar()).unwrap();
    let cycle = plan.cycle_s.map(Amount::Number);
    let (wall, now) = (at(scene.wall), scene.begin + scene.now);
    scene.machine.handle_plan(plan.calendar.unwrap(), cycle, wall, now);
    let figures = scene.machine.figures();
    assert_eq!(figures.shift.as_deref(), Some("2026-11-26 early"));
    near("apt_s", Some(figures.apt_s), 3600.0, 0.001);
}
