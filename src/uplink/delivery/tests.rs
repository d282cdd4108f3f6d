use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

const SECOND: Duration = Duration::from_secs(1);
const BARRIER_AFTER: Duration = SECOND;
const SURE_AFTER: Duration = Duration::from_secs(10);

fn positions(range: Range<u64>) -> Positions {
    Positions::of(Position(range.start)..Position(range.end))
}

fn delivery(start: u64, next: u64) -> Delivery {
    let start = Delivered { confirmed: Position(start), sure: Position(start), is_away: true };
    Delivery::new(start, Position(next), BARRIER_AFTER, SURE_AFTER)
}

#[track_caller]
fn check(delivery: &mut Delivery, confirmed: u64, sure: u64) {
    let found = delivery.delivered(false);
    assert_eq!((found.confirmed.0, found.sure.0), (confirmed, sure));
}

#[test]
fn the_cursor_moves_only_to_what_a_barrier_has_proven() {
    let now = crate::clock::monotonic();
    let mut delivery = delivery(0, 0);
    assert_eq!(delivery.barrier_due(), None);
    delivery.handle_stored(Position(20));
    delivery.handle_sent(positions(0..10), 100, false, now);
    assert_eq!(delivery.barrier_due(), Some(now + BARRIER_AFTER));
    check(&mut delivery, 0, 0);
    delivery.handle_barrier_sent(now + SECOND);
    assert_eq!((delivery.barrier_due(), delivery.waits_since()), (None, Some(now + SECOND)));
    delivery.handle_sent(positions(10..20), 100, false, now + SECOND);
    check(&mut delivery, 0, 0);
    delivery.handle_acknowledged(now + 2 * SECOND);
    check(&mut delivery, 10, 0);
    delivery.handle_heard(now + 11 * SECOND);
    check(&mut delivery, 10, 0);
    delivery.handle_heard(now + 12 * SECOND);
    check(&mut delivery, 10, 10);
    assert!(!delivery.is_quiet());
    delivery.handle_barrier_sent(now);
    delivery.handle_acknowledged(now);
    assert!(delivery.is_quiet());
}

#[test]
fn a_message_that_is_acknowledged_itself_proves_itself_and_what_came_before() {
    let now = crate::clock::monotonic();
    let mut delivery = delivery(0, 30);
    delivery.handle_sent(positions(0..10), 100, false, now);
    delivery.handle_sent(positions(10..20), 100, true, now);
    delivery.handle_sent(positions(20..30), 100, true, now);
    assert_eq!(delivery.barrier_due(), None);
    delivery.handle_acknowledged(now);
    check(&mut delivery, 20, 0);
    delivery.handle_acknowledged(now);
    check(&mut delivery, 30, 0);
    delivery.handle_acknowledged(now); // of nothing
    check(&mut delivery, 30, 0);
}

#[test]
fn where_each_message_is_acknowledged_the_ledger_stays_small_and_nothing_is_sure_too_soon() {
    let start = crate::clock::monotonic();
    let at = |millis: u64| start + Duration::from_millis(millis);
    let mut delivery = delivery(0, 20_000);
    for millis in 0..20_000 {
        delivery.handle_sent(positions(millis..millis + 1), 100, true, at(millis));
        delivery.handle_acknowledged(at(millis));
        delivery.handle_heard(at(millis));
        let sure = delivery.delivered(false).sure.0;
        assert!(sure <= (millis + 1).saturating_sub(10_000), "{sure} at {millis}");
        assert!(sure + 200 >= millis.saturating_sub(10_000), "{sure} at {millis}");
    }
    let sure = delivery.delivered(false).sure.0;
    check(&mut delivery, 20_000, sure);
    assert!(delivery.confirmed.len() <= 102, "{}", delivery.confirmed.len());
    assert_eq!((delivery.barrier_due(), delivery.is_quiet()), (None, true));
}

#[test]
fn much_that_was_sent_is_proven_at_once_and_the_window_is_never_full_without_a_barrier_on_its_way() {
    let now = crate::clock::monotonic();
    let mut delivery = delivery(0, 0);
    let (mut next, mut sent) = (0, 0);
    while delivery.has_room() {
        delivery.handle_sent(positions(next..next + 1), 1000, false, now);
        next += 1;
        sent += 1000;
        if delivery.barrier_due().is_some_and(|due| due <= now) {
            delivery.handle_barrier_sent(now);
        }
    }
    assert!((WINDOW_START..WINDOW_START + 1000).contains(&sent), "{sent}");
    assert_eq!(delivery.waits_since(), Some(now));
    delivery.handle_acknowledged(now);
    assert!(delivery.has_room());
}

/// How many bytes are on their way at most in the end, on a connection that takes so many a second.
fn window_at(bytes_a_second: u32, seconds: u32) -> usize {
    let mut delivery = delivery(0, 0);
    let (start, mut next, mut most) = (crate::clock::monotonic(), 0, 0);
    // when the broker will have read each barrier
    let mut line: VecDeque<Duration> = VecDeque::new();
    let (mut now, mut busy_until) = (Duration::ZERO, Duration::ZERO);
    while now < seconds * SECOND {
        while delivery.has_room() {
            busy_until = busy_until.max(now) + Duration::from_secs_f64(2000.0 / f64::from(bytes_a_second));
            delivery.handle_sent(positions(next..next + 1), 2000, false, start + now);
            next += 1;
            if delivery.barrier_due().is_some_and(|due| due <= start + now) {
                delivery.handle_barrier_sent(start + now);
                line.push_back(busy_until);
            }
        }
        if now > seconds / 2 * SECOND {
            most = most.max(delivery.sent_size);
        }
        now = line.pop_front().unwrap_or(now + SECOND).max(now);
        delivery.handle_acknowledged(start + now);
    }
    most
}

#[test]
fn what_is_on_its_way_is_what_the_connection_takes_within_seconds() {
    for rate in [1_000, 5_000, 20_000, 100_000] {
        let seconds = f64::from(u32::try_from(window_at(rate, 300)).unwrap()) / f64::from(rate);
        assert!((0.5..9.0).contains(&seconds), "{rate} bytes/s: {seconds} s on the way");
    }
    assert!(window_at(20_000_000, 2) >= WINDOW_MAX);
}

#[test]
fn after_an_unclean_end_what_is_not_sure_is_sent_again_and_after_a_clean_one_nothing() {
    let now = crate::clock::monotonic();
    for is_clean in [true, false] {
        let mut delivery = delivery(0, 40);
        for (second, range) in [(0, 0..10), (8, 10..20)] {
            delivery.handle_sent(positions(range), 100, false, now + second * SECOND);
            delivery.handle_barrier_sent(now + second * SECOND);
            delivery.handle_acknowledged(now + second * SECOND);
        }
        delivery.handle_heard(now + 11 * SECOND);
        check(&mut delivery, 20, 10);
        delivery.handle_end(is_clean);
        check(&mut delivery, if is_clean { 20 } else { 10 }, if is_clean { 20 } else { 10 });
        let due = delivery.history_due(Position(100));
        assert_eq!(due, Some(Position(if is_clean { 20 } else { 10 })));
    }
}

#[test]
fn history_is_what_neither_was_sent_nor_waits_and_lies_before_what_is_too_young() {
    let now = crate::clock::monotonic();
    let mut delivery = delivery(5, 50);
    assert_eq!(delivery.history_due(Position(5)), None);
    assert_eq!(delivery.history_due(Position(50)), Some(Position(5)));
    delivery.handle_sent(positions(5..8), 100, false, now);
    delivery.handle_waiting(&positions(8..10));
    assert_eq!(delivery.history_due(Position(50)), Some(Position(10)));
    assert!(!delivery.is_wanted(Position(9)) && delivery.is_wanted(Position(10)));
    delivery.handle_read(Position(10), Position(30));
    assert_eq!(delivery.history_due(Position(50)), Some(Position(30)));
    assert_eq!(delivery.history_due(Position(30)), None);
    delivery.handle_taken_back(&positions(8..10));
    assert_eq!(delivery.history_due(Position(50)), Some(Position(8)));
    // what was asked for before comes after
    delivery.handle_read(Position(30), Position(40));
    assert_eq!(delivery.history_due(Position(50)), Some(Position(8)));
    delivery.handle_end(false);
    assert_eq!(delivery.history_due(Position(50)), Some(Position(5)));
}

#[test]
fn of_a_gap_only_what_was_not_delivered_is_lost_and_the_cursor_passes_it() {
    let now = crate::clock::monotonic();
    let mut delivery = delivery(5, 50);
    delivery.handle_sent(positions(5..10), 100, false, now);
    delivery.handle_barrier_sent(now);
    delivery.handle_acknowledged(now);
    delivery.handle_sent(positions(10..12), 100, false, now);
    assert_eq!(delivery.handle_gap(Position(0)..Position(20)), 8);
    assert_eq!(delivery.handle_gap(Position(0)..Position(20)), 0);
    check(&mut delivery, 10, 5);
    delivery.handle_barrier_sent(now);
    delivery.handle_acknowledged(now);
    check(&mut delivery, 20, 5);
}

/// A broker that has what reached it, and may die with the last seconds of it.
#[derive(Clone, Debug)]
enum Step {
    Store(u64),
    Send(u64),
    Barrier,
    /// The broker reads one message, and acknowledges it if it asks for that.
    Read,
    Acknowledge,
    Wait(u32),
    Cut,
    Die,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1_u64..20).prop_map(Step::Store),
        4 => (1_u64..8).prop_map(Step::Send),
        3 => Just(Step::Barrier),
        6 => Just(Step::Read),
        4 => Just(Step::Acknowledge),
        2 => (1_u32..6).prop_map(Step::Wait),
        1 => Just(Step::Cut),
        1 => Just(Step::Die),
    ]
}

proptest! {
    /// Whatever happens, everything before the cursor was read by the broker, and everything before the sure cursor by a
    /// broker that did not die with it; in the end a quiet link delivers all.
    #[test]
    fn nothing_counts_as_delivered_that_is_not(steps in prop::collection::vec(any_step(), 1..120)) {
        let (mut now, mut ledger, mut next) = (crate::clock::monotonic(), delivery(0, 0), 0);
        let mut on_the_wire: VecDeque<(Positions, bool)> = VecDeque::new();
        let mut acknowledgements = 0;
        // when each position was read by the broker; what died with it is taken out
        let mut had: std::collections::BTreeMap<u64, Instant> = std::collections::BTreeMap::new();
        let send = |ledger: &mut Delivery, wire: &mut VecDeque<(Positions, bool)>, count: u64, next: u64, now: Instant| {
            let Some(from) = ledger.history_due(Position(next)) else { return };
            let mut carried = Positions::default();
            (from.0..next.min(from.0 + count)).map(Position).filter(|at| ledger.is_wanted(*at)).for_each(|at| carried.insert(at..at.after(1)));
            ledger.handle_read(from, Position(next.min(from.0 + count)));
            ledger.handle_sent(carried.clone(), 100, false, now);
            wire.push_back((carried, false));
        };
        for step in steps {
            match step {
                Step::Store(count) => {
                    next += count;
                    ledger.handle_stored(Position(next));
                }
                Step::Send(count) => send(&mut ledger, &mut on_the_wire, count, next, now),
                Step::Barrier => {
                    ledger.handle_barrier_sent(now);
                    on_the_wire.push_back((Positions::default(), true));
                }
                Step::Read => if let Some((carried, is_proof)) = on_the_wire.pop_front() {
                    had.extend(carried.iter().flat_map(|range| range.start.0..range.end.0).map(|at| (at, now)));
                    acknowledgements += usize::from(is_proof);
                },
                Step::Acknowledge => if acknowledgements > 0 {
                    acknowledgements -= 1;
                    ledger.handle_acknowledged(now);
                },
                Step::Wait(seconds) => {
                    now += seconds * SECOND;
                    ledger.handle_heard(now);
                }
                Step::Cut | Step::Die => {
                    if matches!(step, Step::Die) {
                        // it forgets what it read in the last seconds
                        had.retain(|_, at| now - *at >= SURE_AFTER / 2);
                    }
                    ledger.handle_end(false);
                    on_the_wire.clear();
                    acknowledgements = 0;
                }
            }
            let delivered = ledger.delivered(false);
            prop_assert!(delivered.sure <= delivered.confirmed);
            for at in 0..delivered.confirmed.0 {
                prop_assert!(had.contains_key(&at), "{at} counts as delivered");
            }
        }
        ledger.handle_end(false);
        for _ in 0..10_000 {
            send(&mut ledger, &mut on_the_wire, 50, next, now);
            if ledger.history_due(Position(next)).is_none() { break; }
        }
        ledger.handle_barrier_sent(now);
        ledger.handle_acknowledged(now);
        prop_assert_eq!(ledger.delivered(false).confirmed, Position(next));
        let all: BTreeSet<u64> = on_the_wire.iter().flat_map(|(carried, _)| carried.iter().flat_map(|range| range.start.0..range.end.0)).collect();
        prop_assert!((0..next).all(|at| all.contains(&at) || had.contains_key(&at)));
    }
}

#[test]
fn what_is_on_its_way_gives_a_slow_connection_time_until_it_is_proven() {
    let now = crate::clock::monotonic();
    let mut delivery = delivery(0, 0);
    assert_eq!(delivery.transit(), Duration::ZERO);
    delivery.handle_sent(Positions::default(), 1 << 20, false, now);
    assert_eq!((delivery.transit(), delivery.sent_size()), (32 * SECOND, 1 << 20));
    delivery.handle_barrier_sent(now);
    delivery.handle_acknowledged(now + 31 * SECOND);
    assert_eq!(delivery.transit(), Duration::ZERO);
    delivery.handle_sent(Positions::default(), 16 << 20, false, now);
    assert_eq!(delivery.transit(), 512 * SECOND);
}
