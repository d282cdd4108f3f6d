use proptest::prelude::*;

use super::*;
use crate::config::site::{Limit, Severity};

const WALL: u64 = 1_795_705_200_000;

fn rule(test: Test) -> AlarmRule {
    AlarmRule {
        test,
        delay: Duration::ZERO,
        clear_delay: Duration::ZERO,
        latch: false,
        severity: Severity::High,
    }
}

/// Above 320, cleared at 315.
fn overheat() -> AlarmRule {
    rule(Test::Above { limit: Limit::Number(320.0), hysteresis: 5.0 })
}

fn latching() -> AlarmRule {
    AlarmRule { latch: true, ..overheat() }
}

/// 3 s to be raised, 2 s to be cleared.
fn slow() -> AlarmRule {
    AlarmRule { delay: Duration::from_secs(3), clear_delay: Duration::from_secs(2), ..overheat() }
}

/// An alarm and its clocks.
struct Scene {
    rule: AlarmRule,
    alarm: Alarm,
    begin: Instant,
    ms: u64,
    /// What the wall clock says at the begin; `None`: it is not to be trusted.
    wall: Option<u64>,
    events: Vec<Event>,
    told: Vec<String>,
}

impl Scene {
    fn new(rule: AlarmRule) -> Scene {
        let begin = crate::clock::monotonic();
        let alarm = Alarm::new(rule.clone(), None, at(WALL), begin);
        Scene { rule, alarm, begin, ms: 0, wall: Some(WALL), events: Vec::new(), told: Vec::new() }
    }

    fn now(&self) -> Instant {
        self.begin + Duration::from_millis(self.ms)
    }

    fn wall(&self) -> Option<Timestamp> {
        self.wall.map(|wall| Timestamp::from_millis(wall + self.ms))
    }

    fn drain(&mut self) {
        while let Some(event) = self.alarm.poll_event() {
            assert_eq!(event.at, self.wall());
            self.told.push(format!("{}@{}", event.kind.word(), self.ms));
            self.events.push(event);
        }
    }

    /// Lets time pass, with a look whenever one is due.
    fn pass_to(&mut self, ms: u64) {
        while self.ms < ms {
            let due = self.alarm.next_due().map(|due| due.saturating_duration_since(self.begin).as_millis());
            self.ms = due.map_or(ms, |due| u64::try_from(due).unwrap()).clamp(self.ms, ms);
            self.alarm.handle_time(self.wall(), self.now());
            self.drain();
            assert!(self.alarm.next_due().is_none_or(|due| due > self.now()), "due, and nothing done");
        }
    }

    fn put(&mut self, value: Option<Value>, quality: Quality) {
        let sample = Sample { value: value.as_ref(), quality, limit: None };
        self.alarm.handle(sample, self.wall(), self.now());
        self.drain();
    }

    fn try_out(&mut self, act: impl Fn(&mut Alarm, Option<Timestamp>, Instant) -> Result<(), Refusal>) {
        let (wall, now) = (self.wall(), self.now());
        let done = act(&mut self.alarm, wall, now);
        self.drain();
        if done.is_err() {
            self.told.push(format!("refused@{}", self.ms));
        }
    }

    /// A restart, with what was kept written down and read back.
    fn restart(&mut self) {
        let kept = serde_json::to_string(&self.alarm.save(self.wall(), self.now())).unwrap();
        let saved: SavedAlarm = serde_json::from_str(&kept).unwrap();
        assert!(saved.is_sound());
        self.alarm = Alarm::new(self.rule.clone(), Some(saved), self.wall(), self.now());
        self.drain();
    }

    /// `@MS` lets time pass up to it; a number is a good sample; the rest is as its names say, `shelve:SECONDS`.
    fn play(&mut self, script: &str) {
        for step in script.split_whitespace() {
            match step {
                "bad" => self.put(None, Quality::BadNotConnected),
                "stale" => self.put(Some(Value::Double(400.0)), Quality::UncertainLastUsable),
                "out" => self.put(None, Quality::BadOutOfService),
                "ack" => self.try_out(|alarm, wall, now| alarm.acknowledge("Li", wall, now)),
                "unshelve" => self.try_out(|alarm, wall, now| alarm.unshelve("Li", wall, now)),
                "restart" => self.restart(),
                "dark" => self.wall = None,
                "light" => self.wall = Some(WALL),
                "back" => self.wall = Some(WALL - 3_600_000),
                _ => match (step.strip_prefix('@'), step.strip_prefix("shelve:")) {
                    (Some(ms), _) => self.pass_to(ms.parse().unwrap()),
                    (None, Some(seconds)) => {
                        let time = Duration::from_secs(seconds.parse().unwrap());
                        self.try_out(|alarm, wall, now| alarm.shelve(time, "Li", wall, now));
                    }
                    (None, None) => self.put(Some(Value::Double(step.parse().unwrap())), Quality::Good),
                },
            }
        }
    }
}

fn at(ms: u64) -> Option<Timestamp> {
    Some(Timestamp::from_millis(ms))
}

/// What a script leads to: events with their times, the state, and whether it is active.
#[track_caller]
fn check(rule: AlarmRule, script: &str, told: &str, state: &str, is_active: bool) {
    let mut scene = Scene::new(rule);
    scene.play(script);
    assert_eq!(scene.told.join(" "), told, "{script}");
    assert_eq!((scene.alarm.state().word(), scene.alarm.is_active()), (state, is_active), "{script}");
}

/// Every state, and a script that leads to it.
const STATES: [(&str, &str, bool); 7] = [
    ("normal", "300", false),
    ("unacknowledged", "321", true),
    ("acknowledged", "321 ack", true),
    ("latched_unacknowledged", "321 300", true),
    ("latched_acknowledged", "321 ack 300", true),
    ("shelved", "321 shelve:60", true),
    ("out_of_service", "321 out", true),
];

#[test]
fn every_state_goes_on_as_the_table_says() {
    // in each state: the condition holds, ends, is not known; acknowledged, shelved, unshelved, put out of service
    let steps = ["321", "300", "bad", "ack", "shelve:60", "unshelve", "out"];
    let table = [
        "unacknowledged normal normal normal! shelved normal! out_of_service",
        "unacknowledged latched_unacknowledged unacknowledged acknowledged shelved unacknowledged! out_of_service",
        "acknowledged latched_acknowledged acknowledged acknowledged! shelved acknowledged! out_of_service",
        "unacknowledged latched_unacknowledged latched_unacknowledged normal shelved latched_unacknowledged! \
         out_of_service",
        "unacknowledged latched_acknowledged latched_acknowledged normal shelved latched_acknowledged! \
         out_of_service",
        "shelved shelved shelved shelved shelved unacknowledged out_of_service",
        "unacknowledged latched_unacknowledged unacknowledged out_of_service out_of_service out_of_service! \
         out_of_service",
    ];
    for ((from, way, _), row) in STATES.into_iter().zip(table) {
        for (step, expected) in steps.into_iter().zip(row.split_whitespace()) {
            let mut scene = Scene::new(latching());
            scene.play(way);
            assert_eq!(scene.alarm.state().word(), from);
            scene.play(step);
            let is_refused = scene.told.last().is_some_and(|told| told.starts_with("refused"));
            let found = format!("{}{}", scene.alarm.state().word(), if is_refused { "!" } else { "" });
            assert_eq!(found, expected, "{from} and {step}");
        }
    }
    assert_eq!(STATES.map(|(word, ..)| word), State::ALL.map(State::word));
}

#[test]
fn without_latch_an_alarm_is_normal_once_it_has_cleared() {
    check(overheat(), "321 @5 300", "raised@0 cleared@5", "normal", false);
    check(overheat(), "321 ack @5 300 ack", "raised@0 acknowledged@0 cleared@5 refused@5", "normal", false);
}

#[test]
fn with_latch_an_alarm_is_active_until_it_is_acknowledged_after_it_has_cleared() {
    check(latching(), "321 @5 300 @9 ack", "raised@0 cleared@5 acknowledged@9", "normal", false);
    check(
        latching(),
        "321 @1 ack @5 300 @9 ack",
        "raised@0 acknowledged@1 cleared@5 acknowledged@9",
        "normal",
        false,
    );
    check(latching(), "321 @5 300 @7 321", "raised@0 cleared@5 raised@7", "unacknowledged", true);
}

#[test]
fn a_delay_is_kept_to_the_millisecond() {
    check(slow(), "321 @2999", "", "normal", false);
    check(slow(), "321 @3000", "raised@3000", "unacknowledged", true);
    check(slow(), "321 @2999 320 @9000", "", "normal", false);
    check(slow(), "321 @2999 320 321 @5998", "", "normal", false);
    check(slow(), "321 @2999 320 321 @5999", "raised@5999", "unacknowledged", true);
    check(slow(), "321 @3000 315 @4999", "raised@3000", "unacknowledged", true);
    check(slow(), "321 @3000 315 @5000", "raised@3000 cleared@5000", "normal", false);
    check(slow(), "321 @3000 315 @4999 316 315 @6998", "raised@3000", "unacknowledged", true);
    check(slow(), "321 @3000 315 @4999 316 315 @6999", "raised@3000 cleared@6999", "normal", false);
}

#[test]
fn a_sample_that_says_nothing_keeps_the_state_and_starts_a_delay_again() {
    for nothing in ["bad", "stale"] {
        let rules = |script: &str, told: &str, state, is_active| {
            check(slow(), &script.replace('?', nothing), told, state, is_active);
        };
        rules("321 @2000 ? @9000", "", "normal", false);
        rules("321 @2000 ? @2500 321 @5499", "", "normal", false);
        rules("321 @2000 ? @2500 321 @5500", "raised@5500", "unacknowledged", true);
        rules("321 @3000 ? @9000", "raised@3000", "unacknowledged", true);
        rules("321 @3000 300 @4000 ? @4500 300 @6499", "raised@3000", "unacknowledged", true);
        rules("321 @3000 300 @4000 ? @4500 300 @6500", "raised@3000 cleared@6500", "normal", false);
    }
}

#[test]
fn the_quality_of_the_bool_is_that_of_the_sample() {
    let mut scene = Scene::new(overheat());
    assert_eq!(scene.alarm.quality(), Quality::BadNoCommunication);
    scene.play("321");
    assert_eq!(scene.alarm.quality(), Quality::Good);
    scene.put(Some(Value::Double(999.0)), Quality::UncertainEuExceeded);
    assert_eq!(scene.alarm.quality(), Quality::UncertainEuExceeded);
    scene.play("bad");
    assert_eq!((scene.alarm.is_active(), scene.alarm.quality()), (true, Quality::BadNotConnected));
    scene.put(Some(Value::Text(Arc::from("hot"))), Quality::Good);
    assert_eq!((scene.alarm.is_active(), scene.alarm.quality()), (true, Quality::BadDecode));
}

#[test]
fn a_value_that_chatters_around_its_limit_at_ten_hertz_raises_one_event() {
    let mut scene = Scene::new(overheat());
    for index in 0..600_u64 {
        scene.pass_to(index * 100);
        scene.play(if index % 2 == 0 { "322" } else { "318" });
    }
    assert_eq!(scene.told, ["raised@0"]);
    // the same without hysteresis, by the delay to clear
    let test = Test::Above { limit: Limit::Number(320.0), hysteresis: 0.0 };
    let mut scene = Scene::new(AlarmRule { clear_delay: Duration::from_millis(150), ..rule(test) });
    for index in 0..600_u64 {
        scene.pass_to(index * 100);
        scene.play(if index % 2 == 0 { "322" } else { "318" });
    }
    scene.pass_to(70_000);
    assert_eq!(scene.told, ["raised@0", "cleared@60050"]);
}

#[test]
fn a_shelved_alarm_is_followed_and_not_announced_until_its_time_is_over() {
    check(overheat(), "shelve:60 321 @59999", "shelved@0", "shelved", true);
    check(overheat(), "shelve:60 321 @60000", "shelved@0 expired@60000", "unacknowledged", true);
    check(overheat(), "shelve:60 321 @5 300 @60000", "shelved@0 expired@60000", "normal", false);
    check(overheat(), "321 shelve:60 @9 unshelve", "raised@0 shelved@0 unshelved@9", "unacknowledged", true);
    check(
        overheat(),
        "shelve:60 @9000 shelve:60 @69000",
        "shelved@0 shelved@9000 expired@69000",
        "normal",
        false,
    );
    let mut scene = Scene::new(overheat());
    scene.play("shelve:60 321 @60000");
    assert!(scene.events.last().unwrap().is_annunciation());
}

#[test]
fn nobody_shelves_an_alarm_for_no_time_or_for_more_than_a_day() {
    check(
        overheat(),
        "shelve:0 shelve:86401 shelve:86400",
        "refused@0 refused@0 shelved@0",
        "shelved",
        false,
    );
    check(overheat(), "unshelve", "refused@0", "normal", false);
    let mut alarm = Scene::new(overheat()).alarm;
    let day = Duration::from_secs(86_400);
    let refused = alarm.shelve(Duration::MAX, "Li", None, crate::clock::monotonic());
    assert_eq!(refused, Err(Refusal::ShelveTime { max: day }));
    assert_eq!(refused.unwrap_err().to_string(), "an alarm is shelved for more than 0 s and at most 24 h");
}

#[test]
fn an_event_says_who_did_it_and_since_when_the_alarm_is_raised() {
    let mut scene = Scene::new(latching());
    scene.play("@1000 321 @2000 ack @3000 300 @4000 ack");
    let said: Vec<_> = scene.events.iter().map(|event| (event.by.as_deref(), event.since)).collect();
    let since = at(WALL + 1000);
    assert_eq!(said, [(None, since), (Some("Li"), since), (None, since), (Some("Li"), since)]);
    let values: Vec<_> = scene.events.iter().map(|event| event.value.as_ref().unwrap().to_string()).collect();
    assert_eq!(values, ["321", "321", "300", "300"]);
    scene.play("shelve:1");
    assert_eq!(scene.events.last().unwrap().since, None);
    scene.play("unshelve @5000 321");
    assert_eq!(scene.events.last().unwrap().since, at(WALL + 5000));
    let long = "x".repeat(WHO_MAX + 1);
    let refused = scene.alarm.acknowledge(&long, None, scene.now());
    assert_eq!(refused, Err(Refusal::NameTooLong { max: 128 }));
    assert_eq!(scene.alarm.state(), State::Unacknowledged);
    scene.try_out(|alarm, wall, now| alarm.acknowledge("", wall, now));
    assert_eq!(scene.events.last().unwrap().by, None);
}

#[test]
fn a_restart_leaves_each_state_as_it_was() {
    for (state, way, is_active) in STATES {
        let mut scene = Scene::new(latching());
        scene.play(way);
        let told = scene.told.clone();
        scene.play("restart");
        // Service is not kept: the first sample tells it again.
        let state = if state == "out_of_service" { "unacknowledged" } else { state };
        assert_eq!((scene.alarm.state().word(), scene.alarm.is_active()), (state, is_active));
        assert_eq!(scene.told, told);
        assert_eq!(scene.alarm.quality(), Quality::BadNoCommunication);
    }
    check(overheat(), "321 @5 restart @7 300", "raised@0 cleared@7", "normal", false);
    check(slow(), "321 @2000 restart @2500 321 @5499", "", "normal", false);
    let mut scene = Scene::new(overheat());
    scene.play("321 @5 restart @7 300");
    assert_eq!(scene.events.last().unwrap().since, at(WALL));
}

#[test]
fn a_shelving_goes_on_over_a_restart_by_the_wall_clock_or_is_over() {
    let begun = "321 shelve:60 @20000";
    let case = |rest: &str, told: &str, state, is_active| {
        let told = format!("raised@0 shelved@0{told}");
        check(overheat(), &format!("{begun} {rest}"), &told, state, is_active);
    };
    case("restart @59999", "", "shelved", true);
    case("restart @60000", " expired@60000", "unacknowledged", true);
    case("dark restart", " expired@20000", "unacknowledged", true);
    case("dark @59999", "", "shelved", true);
    case("dark @60000", " expired@60000", "unacknowledged", true);
    // kept without a wall time: how long the restart took cannot be told
    let mut scene = Scene::new(overheat());
    scene.play("321 dark shelve:60 @20000");
    let saved = scene.alarm.save(None, scene.now());
    let restored = |saved: &SavedAlarm, wall| {
        let mut alarm = Alarm::new(overheat(), Some(saved.clone()), wall, scene.now());
        (alarm.state().word(), alarm.poll_event().map(|event| event.kind.word()))
    };
    assert_eq!(restored(&saved, at(WALL + 20_000)), ("unacknowledged", Some("expired")));
    // a wall clock that was put back meanwhile
    let saved = scene.alarm.save(at(WALL + 20_000), scene.now());
    assert_eq!(restored(&saved, at(WALL + 19_999)), ("unacknowledged", Some("expired")));
    assert_eq!(restored(&saved, at(WALL + 20_000)), ("shelved", None));
    assert_eq!(restored(&saved, at(WALL + 59_999)), ("shelved", None));
    assert_eq!(restored(&saved, at(WALL + 60_000)), ("unacknowledged", Some("expired")));
}

#[test]
fn a_step_of_the_wall_clock_moves_no_delay_and_no_shelving() {
    check(slow(), "321 @2000 back @2999", "", "normal", false);
    check(slow(), "321 @2000 dark @2999 light @3000", "raised@3000", "unacknowledged", true);
    check(
        overheat(),
        "shelve:60 @20000 back @59999 light @60000",
        "shelved@0 expired@60000",
        "normal",
        false,
    );
}

#[test]
fn what_was_kept_and_cannot_be_is_not_used() {
    let day_ms = 86_400_000;
    let saved = |shelved_until_ms, at_ms, is_shelved| SavedAlarm {
        of: String::new(),
        phase: Phase::Acknowledged,
        since_ms: Some(5),
        at_ms,
        shelved_until_ms,
        is_shelved,
    };
    assert!(saved(Some(WALL + day_ms), Some(WALL), true).is_sound());
    for unsound in [
        saved(Some(WALL + day_ms + 1), Some(WALL), true),
        saved(Some(WALL), Some(WALL + 1), true),
        saved(Some(WALL), None, true),
        saved(Some(WALL + 1), Some(WALL), false),
    ] {
        assert!(!unsound.is_sound());
        let alarm = Alarm::new(overheat(), Some(unsound), at(WALL), crate::clock::monotonic());
        assert_eq!(alarm.state(), State::Normal);
    }
}

#[test]
fn an_alarm_that_does_not_latch_any_more_is_normal_after_a_restart() {
    let mut scene = Scene::new(latching());
    scene.play("321 300");
    scene.rule = overheat();
    scene.restart();
    assert_eq!((scene.alarm.state(), scene.alarm.is_active()), (State::Normal, false));
    scene.play("shelve:1");
    assert_eq!(scene.events.last().unwrap().since, None);
}

#[test]
fn a_cleared_alarm_is_not_raised_since_anything() {
    let mut scene = Scene::new(overheat());
    scene.play("321 @5 300 shelve:1");
    let since: Vec<_> = scene.events.iter().map(|event| event.since).collect();
    assert_eq!(since, [at(WALL), at(WALL), None]);
}

#[test]
fn a_silence_is_told_by_time_alone_and_ended_by_a_good_value() {
    let silent = || rule(Test::Silent(Duration::from_secs(60)));
    check(silent(), "@59999", "", "normal", false);
    check(silent(), "@60000", "raised@60000", "unacknowledged", true);
    check(silent(), "@50000 1 @109999 bad", "", "normal", false);
    check(silent(), "@50000 1 @100000 bad stale @110000", "raised@110000", "unacknowledged", true);
    check(silent(), "@61000 1", "raised@60000 cleared@61000", "normal", false);
    let delayed = AlarmRule { delay: Duration::from_secs(5), ..silent() };
    check(delayed.clone(), "@64999", "", "normal", false);
    check(delayed, "@65000", "raised@65000", "unacknowledged", true);
    // one who looks late finds both times over
    let mut alarm = Scene::new(silent()).alarm;
    alarm.handle_time(None, crate::clock::monotonic() + Duration::from_secs(600));
    assert!(alarm.is_active());
}

#[test]
fn a_silence_before_the_first_value_is_not_known_to_be_one_or_none() {
    let mut scene = Scene::new(rule(Test::Silent(Duration::from_secs(60))));
    assert_eq!(scene.alarm.quality(), Quality::UncertainInitial);
    scene.play("@60000");
    assert_eq!((scene.alarm.is_active(), scene.alarm.quality()), (true, Quality::Good));
    // a restart does not end it: nothing was heard
    scene.play("restart");
    assert_eq!((scene.alarm.is_active(), scene.alarm.quality()), (true, Quality::UncertainInitial));
    scene.play("@120000");
    assert_eq!((scene.alarm.is_active(), scene.alarm.quality()), (true, Quality::Good));
    scene.play("@121000 1");
    assert_eq!(scene.told, ["raised@60000", "cleared@121000"]);
}

#[test]
fn what_is_out_of_service_is_not_waited_for() {
    let silent = rule(Test::Silent(Duration::from_secs(60)));
    check(silent.clone(), "@10000 out @200000", "", "out_of_service", false);
    check(silent.clone(), "@10000 out @200000 bad @259999", "", "normal", false);
    check(silent, "@10000 out @200000 bad @260000", "raised@260000", "unacknowledged", true);
    check(slow(), "321 @2000 out @9000", "", "out_of_service", false);
    let mut scene = Scene::new(rule(Test::Silent(Duration::from_secs(60))));
    scene.play("out");
    assert_eq!(scene.alarm.next_due(), None);
}

#[test]
fn a_rise_that_is_too_fast_raises_an_alarm() {
    // 20 in a minute, looked at each 15 s
    let runaway = || rule(Test::Rate { above: 20.0, per: Duration::from_secs(60) });
    check(runaway(), "100 @15000 105 @30000 110 @45000 115 @60000 120", "", "normal", false);
    check(runaway(), "100 @15000 106 @30000 111", "raised@30000", "unacknowledged", true);
    check(runaway(), "100 @15000 90 @30000 60", "", "normal", false);
    let gap = "100 @15000 bad @20000 150 @30000 151 @49999 152";
    check(runaway(), gap, "", "normal", false);
    check(runaway(), "100 @30000 120 @60000 121 @90000 122", "raised@30000 cleared@90000", "normal", false);
}

#[test]
fn a_whole_condition_and_an_equal_word_raise_an_alarm() {
    let mut scene = Scene::new(rule(Test::Holds));
    scene.put(Some(Value::Bool(true)), Quality::Good);
    scene.put(Some(Value::Bool(false)), Quality::Good);
    assert_eq!(scene.told, ["raised@0", "cleared@0"]);
    let mut scene = Scene::new(rule(Test::Equals(Value::Text(Arc::from("fault")))));
    scene.put(Some(Value::Text(Arc::from("run"))), Quality::Good);
    scene.put(Some(Value::Text(Arc::from("fault"))), Quality::Good);
    assert_eq!(scene.told, ["raised@0"]);
}

#[test]
fn time_that_goes_back_stands_still() {
    let mut scene = Scene::new(slow());
    scene.play("@5000 bad");
    let value = Value::Double(321.0);
    let sample = Sample { value: Some(&value), quality: Quality::Good, limit: None };
    scene.alarm.handle(sample, None, scene.begin);
    assert_eq!(scene.alarm.next_due(), Some(scene.begin + Duration::from_secs(8)));
}

#[test]
fn a_delay_that_never_ends_is_never_due() {
    let mut scene = Scene::new(AlarmRule { delay: Duration::MAX, ..overheat() });
    scene.play("321 @100000");
    assert_eq!((scene.alarm.next_due(), scene.alarm.is_active()), (None, false));
}

/// What happens to an alarm, and how many milliseconds later.
#[derive(Clone, Debug)]
enum Act {
    Good(f64),
    Bad,
    OutOfService,
    Acknowledge,
    Shelve(u64),
    Unshelve,
    Restart(bool),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (300_i32..340).prop_map(|number| Act::Good(number.into())),
        2 => Just(Act::Bad),
        1 => Just(Act::OutOfService),
        1 => Just(Act::Acknowledge),
        1 => (0_u64..3).prop_map(Act::Shelve),
        1 => Just(Act::Unshelve),
        1 => any::<bool>().prop_map(Act::Restart),
    ]
}

fn any_test() -> impl Strategy<Value = Test> {
    let limit = Limit::Number(320.0);
    prop_oneof![
        Just(Test::Above { limit, hysteresis: 5.0 }),
        Just(Test::Below { limit, hysteresis: 5.0 }),
        Just(Test::Equals(Value::Int(320))),
        Just(Test::Rate { above: 5.0, per: Duration::from_millis(400) }),
        Just(Test::Silent(Duration::from_millis(300))),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_nothing_due_lies_behind_and_events_tell_the_state(
        test in any_test(), delay in 0_u64..700, clear_delay in 0_u64..700, latch in any::<bool>(),
        acts in prop::collection::vec((0_u64..500, act()), 0..60),
    ) {
        let (delay, clear_delay) = (Duration::from_millis(delay), Duration::from_millis(clear_delay));
        let mut scene = Scene::new(AlarmRule { delay, clear_delay, latch, ..rule(test) });
        for (step, act) in acts {
            scene.pass_to(scene.ms + step);
            match act {
                Act::Good(number) => scene.put(Some(Value::Double(number)), Quality::Good),
                Act::Bad => scene.play("bad"),
                Act::OutOfService => scene.play("out"),
                Act::Acknowledge => scene.play("ack"),
                Act::Shelve(seconds) => scene.play(&format!("shelve:{seconds}")),
                Act::Unshelve => scene.play("unshelve"),
                Act::Restart(is_dark) => scene.play(if is_dark { "dark restart light" } else { "restart" }),
            }
            prop_assert!(scene.alarm.next_due().is_none_or(|due| due > scene.now()));
            prop_assert!(scene.alarm.phase != Phase::LatchedAcknowledged || latch);
        }
        let mut was_active = None;
        for event in &scene.events {
            // what is raised was not, or had only been latched; what is cleared was active
            if event.kind == EventKind::Cleared {
                prop_assert!(was_active != Some(false) && event.is_active == latch);
            }
            if event.kind == EventKind::Raised {
                prop_assert!(latch || was_active != Some(true));
            }
            was_active = Some(event.is_active);
        }
    }

    #[test]
    fn an_alarm_is_active_as_one_that_is_looked_at_each_millisecond(
        delay in 0_u64..700, clear_delay in 0_u64..700, hysteresis in 0_i32..10,
        samples in prop::collection::vec((1_u64..500, prop::option::weighted(0.9, 300_i32..340)), 1..60),
    ) {
        let test = Test::Above { limit: Limit::Number(320.0), hysteresis: hysteresis.into() };
        let mut scene = Scene::new(AlarmRule {
            delay: Duration::from_millis(delay), clear_delay: Duration::from_millis(clear_delay), ..rule(test)
        });
        // the model: for how many milliseconds in a row it has held, and has not
        let (mut is_raised, mut held, mut free) = (false, None, None);
        for (step, sample) in samples {
            for _ in 0..step {
                scene.pass_to(scene.ms + 1);
                (held, free) = (held.map(|ms: u64| ms + 1), free.map(|ms: u64| ms + 1));
                if !is_raised && held.is_some_and(|ms| ms >= delay) {
                    (is_raised, held) = (true, None);
                } else if is_raised && free.is_some_and(|ms| ms >= clear_delay) {
                    (is_raised, free) = (false, None);
                }
                prop_assert_eq!(scene.alarm.is_active(), is_raised);
            }
            match sample {
                Some(number) => scene.play(&number.to_string()),
                None => scene.play("bad"),
            }
            let is_high = sample.map(|number| number > 320);
            let is_low = sample.map(|number| number <= 320 - hysteresis);
            held = if !is_raised && is_high == Some(true) { held.or(Some(0)) } else { None };
            free = if is_raised && is_low == Some(true) { free.or(Some(0)) } else { None };
            if held.is_some_and(|ms| ms >= delay) {
                (is_raised, held) = (true, None);
            } else if free.is_some_and(|ms| ms >= clear_delay) {
                (is_raised, free) = (false, None);
            }
            prop_assert_eq!(scene.alarm.is_active(), is_raised);
        }
    }
}
