//! The store on a real disk that fails: an ext4 file system of its own, mounted through a loop device.
//!
//! **These tests need root, loop devices, `mkfs.ext4` and `python3`.** Where one of them is missing they say so on
//! standard error and pass without having shown anything.

#[allow(dead_code, reason = "the bench of the store uses more of it")]
mod image;
#[allow(dead_code, reason = "the bench of the store uses more of it")]
mod plant;

pub(crate) use image::Disk;
pub(crate) use plant::{Plant, reading, site};

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use tidegate::clock;
use tidegate::position::Position;
use tidegate::queue::Delivered;

/// The uplink is away and has got nothing.
const AWAY: Delivered = Delivered { confirmed: Position(0), sure: Position(0), is_away: true };
/// A disk that failed is tried again after 15 s.
const RETRIED: Duration = Duration::from_secs(25);
const SOON: Duration = Duration::from_secs(8);
const FLUSH: Duration = Duration::from_secs(1);
const ALARM: Option<&str> = Some("disk not writable: readings are kept in memory");

/// A disk, or why there is none.
fn disk(mib: u64) -> Option<Disk> {
    // in memory: copies are made in no time, and nothing else is slowed down
    let at = [Path::new("/dev/shm"), Path::new("/tmp")].into_iter().find(|folder| folder.is_dir())?;
    Disk::new(at, mib).inspect_err(|why| eprintln!("not tested: {why}")).ok()
}

fn start(disk: &Disk) -> Plant {
    Plant::start(&site(&disk.path().join("state"), "flush = '1s'"))
}

/// Everything that was stored is read, each reading as it was, and from the disk alone as well.
async fn check(mut plant: Plant, disk: &Disk, count: u64) {
    plant.listen(SOON, |plant| plant.stored == Position(count)).await;
    let mut next = 0;
    let end = plant.read(Position(0), |position, read| {
        assert_eq!((position, read), (Position(next), reading(next)));
        next += 1;
    });
    assert_eq!((end.await, next, plant.dropped), (Position(count), count, 0));
    plant.end(AWAY).await;
    let mut again = start(disk);
    assert_eq!(again.stored, Position(count));
    let mut next = 0;
    let end = again.read(Position(0), |position, read| {
        assert_eq!((position, read), (Position(next), reading(next)));
        next += 1;
    });
    assert_eq!((end.await, next), (Position(count), count));
    let all = Delivered { confirmed: Position(count), sure: Position(count), is_away: false };
    again.end(all).await; // nothing is left in the folder in memory
}

/// Bytes of the segments on the disk.
fn on_disk(disk: &Disk) -> u64 {
    let files = fs::read_dir(disk.path().join("state/queue")).into_iter().flatten();
    files.map(|entry| entry.unwrap().metadata().map_or(0, |about| about.len())).sum()
}

#[tokio::test]
async fn on_a_full_disk_readings_wait_in_memory_and_come_to_the_disk_when_there_is_room() {
    let Some(disk) = disk(64) else { return };
    let mut plant = start(&disk);
    plant.add(0, 10_000).await;
    assert!(plant.listen(SOON, |_| on_disk(&disk) > 50_000).await, "the first readings are on the disk");
    let other = disk.path().join("other");
    let filled = fs::File::create(&other)
        .and_then(|mut file| std::io::copy(&mut std::io::repeat(7), &mut file).map(drop));
    assert!(filled.is_err(), "the disk is full");
    let before = on_disk(&disk);
    plant.add(10_000, 50_000).await;
    assert!(plant.listen(SOON, |plant| plant.alarm == ALARM).await, "it is told");
    assert!(plant.counters.disk_failures.get() > 0);
    assert!(on_disk(&disk) >= before, "what the disk had it still has: {} of {before} bytes", on_disk(&disk));
    plant.add(60_000, 10_000).await;
    fs::remove_file(&other).unwrap();
    assert!(plant.listen(RETRIED, |plant| plant.alarm.is_none()).await, "it is told that it is well");
    check(plant, &disk, 70_000).await;
}

#[tokio::test]
async fn on_a_disk_that_is_read_only_readings_wait_in_memory() {
    let Some(disk) = disk(32) else { return };
    let mut plant = start(&disk);
    plant.add(0, 1000).await;
    assert!(plant.listen(SOON, |_| on_disk(&disk) > 0).await);
    disk.remount("ro").unwrap();
    plant.add(1000, 1000).await;
    assert!(plant.listen(SOON, |plant| plant.alarm == ALARM).await);
    disk.remount("rw").unwrap();
    assert!(plant.listen(RETRIED, |plant| plant.alarm.is_none()).await);
    check(plant, &disk, 2000).await;
}

#[tokio::test]
async fn a_disk_that_was_pulled_out_and_put_in_again_is_used_again_without_a_restart() {
    let Some(disk) = disk(64) else { return };
    let mut plant = start(&disk);
    // the first segments are on the disk only, the last is in memory
    plant.add(0, 500_000).await;
    assert!(plant.listen(SOON, |_| on_disk(&disk) > 3_000_000).await);
    disk.shut_down().unwrap();
    plant.add(500_000, 10_000).await;
    assert!(plant.listen(SOON, |plant| plant.alarm == ALARM).await);
    // what is on the disk only cannot be read now, and nobody passes over it
    let mut count = 0;
    assert_eq!(plant.read(Position(0), |_, _| count += 1).await, Position(count));
    assert!(count < 510_000);
    while let Err(why) = disk.unmount() {
        assert!(why.contains("busy"), "{why}");
        plant.listen(Duration::from_millis(100), |_| false).await;
    }
    disk.mount().unwrap();
    assert!(plant.listen(RETRIED, |plant| plant.alarm.is_none()).await);
    check(plant, &disk, 510_000).await;
}

/// When which readings had been stored, and how far it had come at the last.
#[derive(Default)]
struct Diary(Vec<(Instant, Position)>);

impl Diary {
    /// Everything before this had been stored at a time.
    fn at(&self, time: Instant) -> Position {
        self.0.iter().rev().find(|(at, _)| *at <= time).map_or(Position(0), |(_, stored)| *stored)
    }
}

/// `TIDEGATE_LONG_POWER_CUTS` is the number of cuts (3).
#[tokio::test]
async fn a_power_cut_costs_what_the_last_flush_did_not_save_and_nothing_is_ever_wrong() {
    let Some(disk) = disk(64) else { return };
    let cuts = std::env::var("TIDEGATE_LONG_POWER_CUTS").map_or(3, |cuts| cuts.parse().unwrap());
    let (mut plant, mut diary, mut next) = (start(&disk), Diary::default(), 0);
    for cut in 0..cuts {
        let until = clock::monotonic() + FLUSH * 2 + Duration::from_millis(fastrand::u64(0..2000));
        while clock::monotonic() < until {
            let count = fastrand::u64(1..150);
            plant.add(next, count).await;
            next += count;
            plant.listen(Duration::from_millis(fastrand::u64(1..40)), |_| false).await;
            diary.0.push((clock::monotonic(), plant.stored));
        }
        let (copy, moment) = disk.cut(clock::monotonic).unwrap();
        let wanted = diary.at(moment - FLUSH - Duration::from_secs(1));
        let mut found = start(&copy); // another folder, so that its recent readings are none
        let mut read = 0;
        let end = found.read(Position(0), |position, reading_read| {
            assert_eq!((position, reading_read), (Position(read), reading(read)), "cut {cut}");
            read += 1;
        });
        end.await;
        assert!(wanted > Position(0) && Position(read) >= wanted, "cut {cut}: {read} of {wanted}");
        assert!(Position(read) <= plant.stored, "cut {cut}: nothing is made up");
        eprintln!("cut {cut}: {next} stored, {wanted} wanted, {read} found");
        let all = Delivered { confirmed: found.stored, sure: found.stored, is_away: false };
        found.end(all).await;
    }
    let all = Delivered { confirmed: plant.stored, sure: plant.stored, is_away: false };
    plant.end(all).await;
}
