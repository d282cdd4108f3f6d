use super::*;

const SECOND: Duration = Duration::from_secs(1);
/// What one reading takes here.
const SIZE: u64 = 10;

fn limits() -> Limits {
    Limits {
        disk_max: 4 << 20,
        memory_max: 1 << 20,
        segment_size: 64 << 10,
        flush: 5 * SECOND,
        age_max: None,
        is_offline_only: false,
        replay_window: Duration::ZERO,
    }
}

/// An index whose actions are done at once, on a disk that may fail.
struct Shop {
    index: Index,
    start: Instant,
    now: Instant,
    next: Position,
    is_disk_well: bool,
    log: Vec<String>,
    kept: u64,
    gaps: Vec<Gap>,
}

impl Shop {
    fn new(limits: Limits, uplinks: usize) -> Shop {
        let start = crate::clock::monotonic();
        let mut index = Index::new(limits, Vec::new(), vec![Delivered::default(); uplinks]);
        index.handle_rolled(Position(0), 40, start);
        Shop {
            index,
            start,
            now: start,
            next: Position(0),
            is_disk_well: true,
            log: Vec::new(),
            kept: 0,
            gaps: Vec::new(),
        }
    }

    fn write(&mut self, count: u64) {
        if self.index.active().unwrap().size >= self.index.limits.segment_size {
            self.index.handle_rolled(self.next, 40, self.now);
        }
        self.index.handle_written(
            self.next.after(count),
            count * SIZE,
            Some(Timestamp::from_millis(self.next.0)),
            self.now,
        );
        self.next = self.next.after(count);
        self.act();
    }

    fn act(&mut self) {
        while let Some(action) = self.index.next(self.now) {
            let at = (self.now - self.start).as_secs();
            match action {
                Action::Roll => self.index.handle_rolled(self.next, 40, self.now),
                Action::Keep { first, from, to, end } => {
                    self.log.push(format!("{at}s keep"));
                    if self.is_disk_well {
                        self.kept += to - from;
                        self.index.handle_kept(first, to, end);
                    } else {
                        self.index.handle_keep_failed(first, self.now);
                    }
                }
                Action::Forget(_) | Action::Delete(_) => {}
                Action::Drop(_, gap) => self.gaps.push(gap),
            }
            assert!(self.log.len() < 100_000, "it never comes to rest");
        }
    }

    fn deliver(&mut self, uplink: usize, position: Position) {
        self.index
            .handle_delivered(uplink, Delivered { confirmed: position, sure: position, is_away: false });
        self.act();
    }

    /// Seconds of 1,000 readings each, in ten writes; all but the last `lag` of them are delivered by the first uplink.
    fn run(&mut self, seconds: u64, lag: Option<u64>) {
        for _ in 0..seconds * 10 {
            self.now += SECOND / 10;
            self.write(100);
            if let Some(lag) = lag {
                self.deliver(0, Position(self.next.0.saturating_sub(lag)));
            }
        }
    }
}

#[test]
fn what_is_delivered_in_time_never_touches_the_disk() {
    let mut shop = Shop::new(limits(), 1);
    shop.run(600, Some(2_500));
    assert_eq!((shop.kept, shop.gaps.len()), (0, 0));
    assert!(shop.index.memory_size() < 512 << 10, "{}", shop.index.memory_size());
}

#[test]
fn what_waits_goes_to_the_disk_once_in_each_flush_and_only_once() {
    let mut shop = Shop::new(limits(), 1);
    shop.run(60, Some(0));
    assert_eq!(shop.kept, 0);
    let (before, base) = (shop.log.len(), shop.next);
    shop.run(60, None);
    let written = shop.next.since(base) * SIZE;
    assert!(shop.kept >= written - 6 * 1000 * SIZE && shop.kept <= written + (300 << 10), "{}", shop.kept);
    assert!(shop.log.len() - before < 60, "{:?}", shop.log);
    // and nothing stays there once it is delivered
    shop.deliver(0, shop.next);
    assert_eq!((shop.index.disk_size(), shop.index.segments().count()), (0, 1));
}

#[test]
fn the_slowest_uplink_decides() {
    let mut shop = Shop::new(limits(), 2);
    shop.run(60, Some(0));
    assert!(shop.kept > 500_000);
    assert_eq!(shop.index.needed_from(), Position(0));
    shop.deliver(1, shop.next);
    assert_eq!(shop.index.disk_size(), 0);
}

#[test]
fn a_full_disk_costs_the_oldest_whole_segment_and_a_gap_says_which() {
    let mut shop = Shop::new(limits(), 1);
    shop.run(600, None);
    assert!(shop.index.disk_size() <= 4 << 20);
    let mut end = Position(0);
    for gap in &shop.gaps {
        assert_eq!((gap.first, gap.reason), (end, Reason::Size));
        assert_eq!(gap.from, Some(Timestamp::from_millis(gap.first.0)));
        end = gap.end;
    }
    assert_eq!(shop.index.segments().next().unwrap().first, end);
    assert!(shop.next.since(end) * SIZE > 3 << 20, "no more than needed is dropped");
}

#[test]
fn while_the_disk_fails_the_memory_is_a_bounded_ring_and_afterwards_all_of_it_is_kept() {
    let mut shop = Shop::new(limits(), 1);
    shop.is_disk_well = false;
    shop.run(300, None);
    assert!(shop.index.is_disk_failing());
    assert!(shop.index.memory_size() <= 1 << 20);
    assert!(shop.log.len() <= 300 / 15 + 1, "{:?}", shop.log);
    let lost: u64 = shop.gaps.iter().map(|gap| gap.end.since(gap.first)).sum();
    assert!(shop.gaps.iter().all(|gap| gap.reason == Reason::Memory));
    assert_eq!(lost, shop.index.segments().next().unwrap().first.0);
    shop.is_disk_well = true;
    shop.run(20, None);
    assert!(!shop.index.is_disk_failing());
    assert!(shop.index.disk_size() > 900 << 10, "{}", shop.index.disk_size());
    assert!(shop.index.memory_size() < 200 << 10);
}

#[test]
fn what_is_too_old_is_dropped_and_what_is_delivered_may_stay_for_a_while() {
    let mut shop = Shop::new(Limits { age_max: Some(60 * SECOND), ..limits() }, 1);
    shop.run(100, None);
    assert!(shop.gaps.iter().all(|gap| gap.reason == Reason::Age) && !shop.gaps.is_empty());
    let kept = shop.next.since(shop.index.segments().next().unwrap().first);
    assert!((58_000..70_000).contains(&kept), "{kept}");
    shop.now = shop.index.due().unwrap().max(shop.now);
    shop.now += 60 * SECOND;
    shop.act();
    assert_eq!(shop.index.segments().map(|segment| segment.end.since(segment.first)).sum::<u64>(), 0);

    let mut shop = Shop::new(Limits { replay_window: 60 * SECOND, ..limits() }, 1);
    shop.run(100, Some(0));
    let kept = shop.next.since(shop.index.segments().next().unwrap().first);
    assert!((58_000..70_000).contains(&kept) && shop.gaps.is_empty(), "{kept}");
    assert!(shop.index.disk_size() > 500_000);
}

#[test]
fn the_next_thing_is_due_when_the_first_that_waits_has_waited_for_the_flush() {
    let mut shop = Shop::new(limits(), 1);
    assert_eq!(shop.index.due(), None);
    shop.write(10);
    assert_eq!(shop.index.due(), Some(shop.now + 5 * SECOND));
    shop.now += 2 * SECOND;
    shop.write(10);
    shop.deliver(0, Position(10));
    assert_eq!(shop.index.due(), Some(shop.now + 5 * SECOND));
    shop.deliver(0, Position(20));
    assert_eq!(shop.index.due(), None);
}

/// Whatever is due is done when it is due: nothing is due again and again and never done.
#[test]
fn nothing_stays_due() {
    let modes = [
        limits(),
        Limits { is_offline_only: true, ..limits() },
        Limits { replay_window: 20 * SECOND, ..limits() },
        Limits { age_max: Some(30 * SECOND), ..limits() },
        Limits { disk_max: 100 << 10, memory_max: 100 << 10, ..limits() },
    ];
    for (mode, is_disk_well) in modes.into_iter().flat_map(|mode| [(mode, true), (mode, false)]) {
        let mut shop = Shop::new(mode, 2);
        shop.is_disk_well = is_disk_well;
        for lag in [Some(0), Some(10_000), None] {
            shop.run(40, lag);
            if lag.is_some() {
                shop.deliver(1, Position(shop.next.0 / 2));
            }
            for _ in 0..1000 {
                let Some(due) = shop.index.due() else { break };
                shop.now = shop.now.max(due);
                shop.act();
                let next = shop.index.due();
                assert!(next.is_none_or(|next| next > shop.now), "{mode:?}: due and not done");
            }
        }
    }
}
