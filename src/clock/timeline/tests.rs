use proptest::prelude::*;

use super::*;

const HOUR_US: i64 = 3_600_000_000;
const TEN_YEARS_US: i64 = 10 * 365 * 24 * HOUR_US;
/// 2026-11-26, about.
const TODAY_US: u64 = 1_795_600_000_000_000;

/// A machine with its two clocks.
#[derive(Clone, Copy)]
struct Machine {
    uptime_us: u64,
    system_us: u64,
}

impl Machine {
    fn now(self) -> Clocks {
        let (uptime, system) = (Duration::from_micros(self.uptime_us), Duration::from_micros(self.system_us));
        Clocks { uptime, system }
    }

    fn pass(&mut self, micros: u64) -> Clocks {
        self.uptime_us += micros;
        self.step(i64::try_from(micros).unwrap())
    }

    fn step(&mut self, micros: i64) -> Clocks {
        self.system_us = self.system_us.saturating_add_signed(micros);
        self.now()
    }
}

fn today() -> Machine {
    Machine { uptime_us: 5_000_000, system_us: TODAY_US }
}

/// The stamp as it is once it has a wall time.
fn settled(stamp: Stamp, booted_at: Option<Timestamp>) -> u64 {
    stamp.wall(booted_at).unwrap().millis()
}

#[derive(Clone, Copy, Debug)]
enum Event {
    /// Time passes, in microseconds.
    Pass(u64),
    /// The system clock is set.
    Step(i64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0_u64..30_000).prop_map(Event::Pass),
        1 => (0_u64..20_000_000_000).prop_map(Event::Pass),
        1 => (-20_000_i64..20_000).prop_map(Event::Step),
        // together never so much that it is followed
        1 => (-HOUR_US / 60..HOUR_US).prop_map(Event::Step),
        1 => (0..TEN_YEARS_US).prop_map(Event::Step),
    ]
}

fn machine() -> impl Strategy<Value = Machine> {
    let system_us = prop_oneof![Just(TODAY_US), Just(0), Just(TODAY_US / 2), 0_u64..1_000_000_000];
    (0_u64..1_000_000_000, system_us).prop_map(|(uptime_us, system_us)| Machine { uptime_us, system_us })
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "up {} us, system {} us", self.uptime_us, self.system_us)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Trusted from the start, or from the event number `trusted_after` on.
    #[test]
    fn stamps_are_in_order_whatever_is_done_to_the_system_clock(
        mut machine in machine(),
        events in prop::collection::vec(event(), 1..60),
        trusted_after in prop::option::of(0_usize..60),
    ) {
        let mut timeline = Timeline::new();
        if trusted_after.is_some() {
            timeline.distrust();
        }
        let mut stamps = Vec::new();
        for (index, event) in events.into_iter().enumerate() {
            if trusted_after == Some(index) {
                prop_assert!(timeline.trust(machine.now()).is_some());
            }
            let now = match event {
                Event::Pass(micros) => machine.pass(micros),
                Event::Step(micros) => machine.step(micros),
            };
            let stamp = timeline.stamp(now);
            prop_assert_eq!(matches!(stamp, Stamp::Wall(_)), timeline.is_trusted());
            prop_assert!(timeline.wall(now).millis() >= machine.system_us / 1000, "a step forward is followed");
            stamps.push((machine.uptime_us, stamp));
        }
        timeline.trust(machine.now());
        let booted_at = timeline.booted_at(machine.now());
        stamps.push((machine.uptime_us, timeline.stamp(machine.now())));
        for (index, (uptime_us, stamp)) in stamps.iter().enumerate() {
            let at = settled(*stamp, booted_at);
            for (later_us, later) in &stamps[index + 1..] {
                let later = settled(*later, booted_at);
                prop_assert!(at <= later, "{} us {} ms, {} us {} ms", uptime_us, at, later_us, later);
                prop_assert!(at < later || later_us - uptime_us < 10_000, "{} ms twice", at);
            }
        }
        let ahead_us = u64::try_from(timeline.ahead(machine.now()).as_micros()).unwrap();
        let now = machine.pass(ahead_us / 9 * 10 + 20);
        prop_assert_eq!(timeline.wall(now).millis(), machine.system_us / 1000, "caught up");
        prop_assert_eq!(timeline.ahead(now), Duration::ZERO);
    }
}

#[test]
fn a_step_forward_is_followed_at_once_and_a_step_back_is_walked_off() {
    let (mut machine, mut timeline) = (today(), Timeline::new());
    let begin = timeline.wall(machine.now()).millis();
    assert_eq!(timeline.wall(machine.step(HOUR_US)).millis(), begin + 3_600_000);
    machine.step(-HOUR_US);
    // often asked, and nothing is lost to rounding
    for _ in 0..1_000_000 {
        timeline.wall(machine.pass(7));
    }
    assert_eq!(timeline.wall(machine.now()).millis(), begin + 3_600_000 + 700);
    assert_eq!(timeline.ahead(machine.now()), Duration::from_millis(3_600_000 - 6300));
    assert!(timeline.ahead(machine.pass(3_992_999_990)) > Duration::ZERO);
    assert_eq!(timeline.ahead(machine.pass(20)), Duration::ZERO);
    assert_eq!(timeline.wall(machine.now()).millis(), machine.system_us / 1000);
}

#[test]
fn a_step_back_that_nobody_saw_in_between_is_followed() {
    let (mut machine, mut timeline) = (today(), Timeline::new());
    timeline.wall(machine.now());
    machine.step(-HOUR_US);
    let now = machine.pass(3_600_000_000);
    // the slow time has gone on for 6 minutes, the system clock is where it was
    assert_eq!(timeline.ahead(now), Duration::from_secs(360));
    assert_eq!(timeline.ahead(machine.pass(400_000_000)), Duration::ZERO);
}

#[test]
fn a_step_back_is_told_once_and_so_is_its_end() {
    let (mut machine, mut timeline) = (today(), Timeline::new());
    let mut news = |now| {
        timeline.wall(now);
        timeline.poll_news()
    };
    assert_eq!(news(machine.now()), None);
    assert_eq!(news(machine.step(HOUR_US)), None);
    assert_eq!(news(machine.step(-900_000)), None);
    assert_eq!(news(machine.step(-HOUR_US)), Some(News::SetBack { by: Duration::from_secs(3600) }));
    assert_eq!(news(machine.now()), None);
    assert_eq!(news(machine.pass(60_000_000)), None);
    assert_eq!(news(machine.step(-2_000_000)), Some(News::SetBack { by: Duration::from_secs(2) }));
    assert_eq!(news(machine.step(HOUR_US)), Some(News::CaughtUp));
    assert_eq!(news(machine.pass(10_000)), None);
}

#[test]
fn readings_before_trust_get_their_time_when_it_comes() {
    let mut machine = Machine { uptime_us: 12_345_678, system_us: 4_000_000_000 };
    let mut timeline = Timeline::new();
    timeline.distrust();
    let early = timeline.stamp(machine.now());
    assert_eq!(early, Stamp::SinceBoot(12_345));
    assert_eq!(timeline.booted_at(machine.now()), None);
    machine.pass(10_000_000);
    machine.system_us = TODAY_US;
    let last = timeline.stamp(machine.now());
    let booted_at = timeline.trust(machine.now());
    assert_eq!(booted_at, Some(Timestamp::from_millis(TODAY_US / 1000 - 22_345)));
    assert_eq!(last.settled(booted_at), timeline.stamp(machine.now()), "continuous");
    assert_eq!(settled(early, booted_at), TODAY_US / 1000 - 10_000);
    assert_eq!(timeline.trust(machine.pass(1_000_000)), None, "it was trusted before");
    machine.step(HOUR_US);
    assert_eq!(timeline.booted_at(machine.now()), booted_at, "for the life of the process");
}

#[test]
fn a_system_clock_of_the_far_future_is_given_up_when_trust_comes() {
    let (mut machine, mut timeline) = (today(), Timeline::new());
    timeline.distrust();
    machine.step(TEN_YEARS_US);
    assert_eq!(timeline.wall(machine.now()).millis(), machine.system_us / 1000);
    machine.step(-TEN_YEARS_US);
    timeline.trust(machine.now());
    assert_eq!(timeline.stamp(machine.now()), Stamp::Wall(Timestamp::from_millis(TODAY_US / 1000)));
    assert_eq!(timeline.poll_news(), None);
}

#[test]
fn clocks_that_cannot_be_are_borne() {
    let mut timeline = Timeline::new();
    for seconds in [0, u64::MAX, 5] {
        let far = Duration::from_secs(seconds);
        timeline.stamp(Clocks { uptime: far, system: far });
        timeline.stamp(Clocks { uptime: far, system: Duration::ZERO });
        timeline.ahead(Clocks { uptime: Duration::ZERO, system: far });
    }
}

#[test]
fn a_clock_that_was_wrong_by_hours_is_followed_back_at_once() {
    let (mut machine, mut timeline) = (today(), Timeline::new());
    timeline.wall(machine.now());
    let now = machine.step(-8 * HOUR_US);
    assert_eq!(timeline.wall(now).millis(), machine.system_us / 1000);
    assert_eq!(timeline.poll_news(), Some(News::Followed { by: Duration::from_secs(8 * 3600) }));
    assert_eq!(timeline.ahead(now), Duration::ZERO);
}
