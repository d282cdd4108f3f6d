//! The store in files, with made-up time; its jobs are done when a test says so, or never, as after a crash.

use std::collections::{BTreeMap, VecDeque};
use std::fs;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::config;
use crate::reading::{Quality, Value};
use crate::tag::TagId;

const SECOND: Duration = Duration::from_secs(1);

fn site() -> Arc<Site> {
    let text = r#"
        [gateway]
        name = "n"
        enterprise = "g"
        [uplink.a]
        broker = "mqtt://127.0.0.1"
        [uplink.b]
        broker = "mqtt://127.0.0.1"
        client_id = "b"
        [link.l]
        tcp = "127.0.0.1:502"
        [device.d]
        link = "l"
        tags = [{ name = "a", at = "hr:0", type = "u32" }, { name = "b", at = "hr:2", type = "string", length = 2 }]
        [device.e]
        link = "l"
        unit = 2
        tags = [{ name = "a", at = "hr:0", type = "f32" }]
        "#;
    Arc::new(config::parse("test.toml", text).site.unwrap())
}

/// A store in a folder, its disk, and all that it was given.
struct World {
    folder: TempDir,
    site: Arc<Site>,
    limits: Limits,
    store: Option<Store>,
    jobs: VecDeque<Job>,
    counters: Arc<StoreCounters>,
    /// Everything that was committed, by position.
    given: BTreeMap<u64, Reading>,
    /// Bytes of each segment that are surely on the disk, and the readings in them.
    kept: BTreeMap<Position, (u64, Position)>,
    is_disk_well: bool,
    now: Instant,
}

impl World {
    fn new(limits: Limits) -> World {
        let mut world = World {
            folder: tempfile::tempdir().unwrap(),
            site: site(),
            limits,
            store: None,
            jobs: VecDeque::new(),
            counters: Arc::default(),
            given: BTreeMap::new(),
            kept: BTreeMap::new(),
            is_disk_well: true,
            now: crate::clock::monotonic(),
        };
        world.open();
        world
    }

    fn plan(&self) -> Plan {
        Plan {
            disk: self.folder.path().join("disk"),
            memory: vec![self.folder.path().join("memory")],
            limits: self.limits,
            uplinks: vec!["a".into(), "b".into()],
            boot: [7; 16],
            far: Position(1 << 50),
        }
    }

    fn open(&mut self) {
        self.store = None; // its lock goes first
        self.store = Some(Store::open(self.plan(), self.site.clone(), self.counters.clone(), self.now));
    }

    fn store(&mut self) -> &mut Store {
        self.store.as_mut().unwrap()
    }

    fn add(&mut self, values: &[u64]) {
        let now = self.now;
        let reading = |(index, value): (usize, &u64)| Reading {
            tag: TagId(u32::try_from((index + usize::try_from(*value % 3).unwrap()) % 3).unwrap()),
            value: Some(Value::UInt(*value)),
            quality: Quality::ALL[usize::try_from(*value % 9).unwrap()],
            at: Stamp::Wall(Timestamp::from_millis(1_000_000 + value)),
        };
        let readings: Arc<[Reading]> = values.iter().enumerate().map(reading).collect();
        let first = self.store().add(&readings, now);
        self.store().commit(now);
        self.given.extend((first.0..).zip(readings.iter().cloned()));
        self.act();
    }

    fn act(&mut self) {
        let now = self.now;
        let jobs = self.store().act(now);
        self.jobs.extend(jobs);
    }

    /// Does what the disk has been asked, at most `count` of it.
    fn work(&mut self, count: usize) {
        for _ in 0..count {
            let Some(job) = self.jobs.pop_front() else { return };
            let disk = self.store().disk();
            let done = match job {
                Job::Keep { first, to, end, .. } if !self.is_disk_well => {
                    Done::Kept { first, to, end, result: Err(io::ErrorKind::StorageFull.into()) }
                }
                job @ (Job::Keep { .. } | Job::Delete(_) | Job::Read(_)) => disk.perform(job),
            };
            if let Done::Kept { first, to, end, result: Ok(()) } = &done {
                self.kept.insert(*first, (*to, *end));
            }
            let now = self.now;
            self.store().handle_done(done, now);
            self.act();
        }
    }

    fn deliver(&mut self, uplink: usize, sure: Position) {
        let now = self.now;
        self.store().handle_delivered(uplink, Delivered { confirmed: sure, sure, is_away: false }, now);
        self.act();
    }

    fn read_from(&mut self, from: Position) -> Vec<(u64, Reading)> {
        let (mut from, mut bookmark, mut all) = (from, Bookmark::default(), Vec::new());
        while from < self.store().next_position() {
            let (reply, mut piece) = oneshot::channel();
            if let Some(job) = self.store().read(from, 3, bookmark, reply) {
                self.store().disk().perform(job);
            }
            let piece = piece.try_recv().unwrap();
            assert!(piece.next > from, "it gets on");
            all.extend(piece.readings.into_iter().map(|(position, reading)| (position.0, reading)));
            (from, bookmark) = (piece.next, piece.bookmark);
        }
        all
    }

    fn needed(&mut self) -> Position {
        self.store().delivered().iter().map(|delivered| delivered.sure).min().unwrap()
    }

    /// What is read is what was given, from `from` on all of it.
    #[track_caller]
    fn check(&mut self, from: Position) {
        let read = self.read_from(from);
        let given: Vec<(u64, Reading)> =
            self.given.range(from.0..).map(|(position, reading)| (*position, reading.clone())).collect();
        assert_eq!(read, given);
    }

    /// The program is killed: what it had not finished is not done, what it had written stays.
    fn kill(&mut self) {
        self.jobs.clear();
        self.open();
    }

    /// The power goes: the memory is empty, and of what the disk was not made sure of any part may be gone.
    fn cut_power(&mut self, chance: u64) {
        self.jobs.clear();
        self.store = None;
        fs::remove_dir_all(self.folder.path().join("memory")).ok();
        for entry in fs::read_dir(self.plan().disk).into_iter().flatten().flatten() {
            let Some(first) = super::super::segment::position_of(&entry.file_name().to_string_lossy()) else {
                continue;
            };
            let (sure, _) = self.kept.get(&first).copied().unwrap_or((0, first));
            let length = entry.metadata().unwrap().len();
            let file = fs::File::options().write(true).open(entry.path()).unwrap();
            file.set_len(sure.min(length) + chance % (length.saturating_sub(sure) + 1)).unwrap();
        }
        self.open();
    }
}

fn limits() -> Limits {
    Limits {
        disk_max: 1 << 30,
        memory_max: 1 << 20,
        segment_size: 600,
        flush: 5 * SECOND,
        age_max: None,
        is_offline_only: false,
        replay_window: Duration::ZERO,
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add(Vec<u64>),
    Wait(u64),
    Work(usize),
    Deliver(usize, u64),
    Kill,
    CutPower(u64),
    DiskWell(bool),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec(any::<u64>(), 1..12).prop_map(Step::Add),
        3 => (1_u64..7).prop_map(Step::Wait),
        4 => (1_usize..4).prop_map(Step::Work),
        3 => (0_usize..2, 0_u64..101).prop_map(|(uplink, percent)| Step::Deliver(uplink, percent)),
        1 => Just(Step::Kill),
        1 => any::<u64>().prop_map(Step::CutPower),
        1 => any::<bool>().prop_map(Step::DiskWell),
    ]
}

proptest! {
    /// Against a plain list, with a crash between any two steps.
    #[test]
    fn what_was_given_is_read_whatever_happens_in_between(steps in prop::collection::vec(any_step(), 1..60)) {
        let mut world = World::new(limits());
        for step in steps {
            match step {
                Step::Add(values) => world.add(&values),
                Step::Wait(seconds) => {
                    world.now += u32::try_from(seconds).unwrap() * SECOND;
                    world.act();
                }
                Step::Work(count) => world.work(count),
                Step::Deliver(uplink, percent) => {
                    let (sure, next) = (world.store().delivered()[uplink].sure, world.store().next_position());
                    world.deliver(uplink, sure.after(next.since(sure) * percent / 100));
                }
                Step::Kill => {
                    let next = world.store().next_position();
                    world.kill();
                    prop_assert_eq!(world.store().next_position(), next);
                }
                Step::CutPower(chance) => {
                    let needed = world.needed();
                    let sure = world.kept.values().map(|(_, end)| *end).max().unwrap_or_default();
                    world.cut_power(chance);
                    let next = world.store().next_position();
                    // what the disk was sure of and nobody had delivered is there; nothing else is made up
                    if sure > needed {
                        prop_assert!(next >= sure, "{} {}", next, sure);
                    }
                    let on_disk = world.read_from(Position(0));
                    for (position, reading) in &on_disk {
                        prop_assert_eq!(world.given.get(position), Some(reading));
                    }
                    world.given = on_disk.into_iter().collect();
                    world.kept.retain(|first, _| *first < next);
                }
                Step::DiskWell(is_well) => world.is_disk_well = is_well,
            }
            let needed = world.needed();
            if world.given.range(needed.0..).next().is_some() {
                let start = world.given.range(needed.0..).next().map(|(position, _)| Position(*position)).unwrap();
                world.check(start);
            }
        }
    }
}

/// A segment on the disk with readings of three tags in several records, its file, and what was given.
fn one_segment() -> (World, PathBuf) {
    let mut world = World::new(Limits { segment_size: 4096, ..limits() });
    for start in 0..8 {
        world.add(&[start * 3, start * 3 + 1, start * 3 + 2]);
    }
    world.now += 6 * SECOND;
    world.act();
    world.work(9);
    let path = world.plan().disk.join(name_of(Position(0)));
    assert!(path.is_file());
    fs::remove_dir_all(world.folder.path().join("memory")).unwrap();
    (world, path)
}

#[test]
fn a_segment_cut_at_any_byte_gives_what_is_whole_and_starts() {
    let (mut world, path) = one_segment();
    let bytes = fs::read(&path).unwrap();
    let mut most = 0;
    for length in 0..=bytes.len() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &bytes[..length]).unwrap();
        world.cut_power(0);
        let read = world.read_from(Position(0));
        let expected: Vec<_> =
            world.given.iter().map(|(at, reading)| (*at, reading.clone())).take(read.len()).collect();
        assert_eq!(read, expected, "cut at {length}");
        assert!(read.len() >= most, "cut at {length}");
        most = read.len();
        world.store = None;
        fs::remove_dir_all(world.folder.path().join("memory")).unwrap();
    }
    assert_eq!(most, 24);
}

#[test]
fn any_flipped_bit_of_a_segment_costs_what_it_hit_and_nothing_is_ever_wrong() {
    let (mut world, path) = one_segment();
    let bytes = fs::read(&path).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &flipped).unwrap();
        world.cut_power(0);
        let read = world.read_from(Position(0));
        for (position, reading) in &read {
            assert_eq!(world.given.get(position), Some(reading), "bit {bit}");
        }
        // one record, or those of one tag where its name was hit
        assert!(read.len() >= 24 - 8, "bit {bit}: {}", read.len());
        world.store = None;
        fs::remove_dir_all(world.folder.path().join("memory")).unwrap();
    }
}

#[test]
fn garbage_is_set_aside_and_nothing_is_refused() {
    let mut world = World::new(limits());
    world.add(&[1, 2, 3]);
    world.now += 6 * SECOND;
    world.act();
    world.work(9);
    let disk = world.plan().disk;
    let newer = {
        let mut head = Head { first: Position(77), boot: [0; 16] }.write();
        head[8] = 9;
        head[12..16].fill(0);
        let sum = crc32fast::hash(&head).to_le_bytes();
        head[12..16].copy_from_slice(&sum);
        head
    };
    fs::write(disk.join("core"), [0; 5000]).unwrap();
    fs::write(disk.join("00000000000000000077.segment"), newer).unwrap();
    fs::write(disk.join("99999999999999999999.segment"), "x").unwrap();
    fs::create_dir(disk.join("lost+found")).unwrap();
    world.kill();
    world.check(Position(0));
    let aside: Vec<String> = fs::read_dir(disk.join("set-aside"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(aside.len(), 3, "{aside:?}");
    assert_eq!(world.counters.set_aside.get(), 3);
    assert!(disk.join("lost+found").is_dir());
}

#[test]
fn a_disk_that_cannot_be_used_at_all_leaves_a_store_in_memory() {
    let mut world = World::new(limits());
    fs::write(world.plan().disk, "a file where the folder should be").unwrap();
    world.kill();
    world.add(&[1, 2, 3]);
    world.now += 6 * SECOND;
    world.act();
    world.work(9);
    assert_eq!(world.store().alarm(), Some("disk not writable: readings are kept in memory"));
    world.kill();
    world.check(Position(0));
    fs::remove_file(world.plan().disk).unwrap();
    world.now += 20 * SECOND;
    world.act();
    world.work(9);
    assert_eq!(world.store().alarm(), None);
    world.cut_power(0);
    world.check(Position(0));
}

#[test]
fn a_disk_that_cannot_be_read_at_the_start_loses_nothing_when_it_comes_back() {
    let mut world = World::new(limits());
    for value in 0..100 {
        world.add(&[value]);
    }
    world.now += 6 * SECOND;
    world.act();
    world.work(99);
    let (disk, away) = (world.plan().disk, world.folder.path().join("away"));
    fs::rename(&disk, &away).unwrap();
    fs::write(&disk, "no folder").unwrap();
    world.cut_power(0);
    let before: Vec<_> = world.given.iter().map(|(at, reading)| (*at, reading.clone())).collect();
    world.given.clear();
    world.add(&[500]);
    assert!(world.store().next_position() > Position(1 << 50));
    fs::remove_file(&disk).unwrap();
    fs::rename(&away, &disk).unwrap();
    world.now += 20 * SECOND;
    world.act();
    world.work(99);
    world.kill();
    let after: Vec<_> = world.given.iter().map(|(at, reading)| (*at, reading.clone())).collect();
    assert_eq!(world.read_from(Position(0)), [before, after].concat());
}

#[test]
fn without_a_folder_in_memory_the_store_works_as_long_as_the_program_lives() {
    let mut world = World::new(limits());
    world.store = None;
    fs::remove_dir_all(world.folder.path().join("memory")).unwrap();
    fs::write(world.folder.path().join("memory"), "").unwrap();
    world.open();
    assert_eq!(world.store().alarm(), Some("no folder in memory: recent readings end with the program"));
    for value in 0..100 {
        world.add(&[value]);
    }
    world.check(Position(0));
    world.now += 6 * SECOND;
    world.act();
    world.work(99);
    world.kill();
    world.check(Position(0));
}

#[test]
fn another_program_has_the_folder_in_memory_and_is_left_alone() {
    let world = World::new(limits());
    let second = Store::open(world.plan(), site(), Arc::default(), world.now);
    assert!(!second.memory.is_lasting());
}

#[test]
fn readings_of_before_the_clock_was_trusted_get_their_time_when_it_is_known_and_not_before() {
    let mut world = World::new(limits());
    let early = Reading {
        tag: TagId(0),
        value: Some(Value::UInt(1)),
        quality: Quality::Good,
        at: Stamp::SinceBoot(5000),
    };
    let now = world.now;
    world.store().add(&Arc::from([early.clone()]), now);
    world.store().commit(now);
    assert!(world.read_from(Position(0)).is_empty(), "undated");
    world.kill();
    world.store().handle_clock(Timestamp::from_millis(1_000_000), now);
    world.kill();
    assert_eq!(world.store().booted_at(), Some(Timestamp::from_millis(1_000_000)));
    let dated = Reading { at: Stamp::Wall(Timestamp::from_millis(1_005_000)), ..early.clone() };
    assert_eq!(world.read_from(Position(0)), [(0, dated.clone())]);
    let settled = world.store().settled(Arc::from([early]));
    assert_eq!(*settled, [dated]);
}

#[test]
fn a_clean_end_leaves_nothing_in_memory_and_on_the_disk_only_what_is_not_delivered() {
    let mut world = World::new(limits());
    world.add(&[1, 2, 3]);
    let now = world.now;
    while let Some(job) = world.store().keep_all(now) {
        world.jobs.push_back(job);
        world.work(1);
    }
    world.store.take().unwrap().close();
    assert!(!world.folder.path().join("memory").exists());
    world.open();
    world.check(Position(0));
    world.deliver(0, Position(3));
    world.deliver(1, Position(3));
    world.work(9);
    world.store.take().unwrap().close();
    assert_eq!(fs::read_dir(world.plan().disk).unwrap().count(), 0);
    world.open();
}

#[test]
fn tags_that_are_no_longer_configured_are_told_apart_from_those_that_are() {
    let mut world = World::new(limits());
    world.add(&[0, 1, 2]);
    let text = r#"
        [gateway]
        name = "n"
        enterprise = "g"
        [uplink.a]
        broker = "mqtt://127.0.0.1"
        [link.l]
        tcp = "127.0.0.1:502"
        [device.e]
        link = "l"
        tags = [{ name = "new", at = "hr:9", type = "u16" }, { name = "a", at = "hr:0", type = "f32" }]
        "#;
    world.site = Arc::new(config::parse("test.toml", text).site.unwrap());
    world.kill();
    let (reply, mut piece) = oneshot::channel();
    assert!(world.store().read(Position(0), 99, Bookmark::default(), reply).is_none());
    let piece = piece.try_recv().unwrap();
    let (of_e, unknown): (Vec<_>, Vec<_>) =
        world.given.iter().partition(|(_, reading)| reading.tag == TagId(2));
    assert_eq!(
        piece.readings.iter().map(|(at, reading)| (at.0, reading.tag)).collect::<Vec<_>>(),
        [(*of_e[0].0, TagId(1))]
    );
    assert_eq!(piece.unknown.count(), unknown.len() as u64);
}

#[test]
fn a_gap_is_still_known_after_a_restart() {
    let mut world = World::new(Limits { disk_max: 4000, ..limits() });
    for value in 0..400 {
        world.add(&[value]);
        world.now += SECOND;
        world.act();
        world.work(9);
    }
    let gaps = world.store().take_gaps();
    assert!(gaps.len() > 3 && gaps.iter().all(|gap| gap.reason == Reason::Size), "{gaps:?}");
    let lost: u64 = gaps.iter().map(|gap| gap.end.since(gap.first)).sum();
    let first = world.read_from(Position(0))[0].0;
    assert_eq!((gaps[0].first, lost), (Position(0), first));
    world.kill();
    let again = world.store().take_gaps();
    assert_eq!(again.last(), gaps.last());
    world.check(Position(first));
}
