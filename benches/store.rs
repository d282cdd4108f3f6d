//! What the store costs: time, writes to the disk, memory. Fails where a goal is missed.
//!
//! `cargo bench --bench store`, about 7 minutes; as root it has a disk of its own, whose writes are counted.
//! `TIDEGATE_BENCH_SECONDS` is the length of each run at a rate (60).

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a bench ends with a message where something is amiss, and prints rounded figures"
)]

#[allow(dead_code, reason = "tests use more of it")]
#[path = "../tests/it/disk/image.rs"]
mod image;
#[allow(dead_code, reason = "tests use more of it")]
#[path = "../tests/it/disk/plant.rs"]
mod plant;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use image::Disk;
use plant::{Plant, site};
use tempfile::TempDir;
use tidegate::clock;
use tidegate::position::Position;
use tidegate::queue::Delivered;

/// Bytes written to the disk for each byte of a record, at 500 KB/s and more.
const AMPLIFICATION_MAX: f64 = 1.1;
/// The same rate of records as a plant with some 60,000 values a second.
const FAST: f64 = 500_000.0;
/// Written a day with the uplink there, at 1,000 readings a second.
const DAY_MB_MAX: f64 = 200.0;
/// Resident with a full queue.
const RESIDENT_MB_MAX: f64 = 10.0;
/// Opening a full queue.
const OPEN_MAX: Duration = Duration::from_secs(2);

const GIB: u64 = 1 << 30;
/// The store brings to the disk what is more in memory than half of this; what is more than this it would drop.
const UNSAVED_MAX: u64 = 24 << 20;
const AWAY: Delivered = Delivered { confirmed: Position(0), sure: Position(0), is_away: true };

/// Where state directories lie, and the disk that is measured.
struct Place {
    disk: Option<Disk>,
    folder: TempDir,
    missed: Vec<String>,
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, what, state, ..] = arguments.as_slice()
        && what == "full"
    {
        runtime.block_on(full(Path::new(state)));
        return ExitCode::SUCCESS;
    }
    let mut place = Place::new();
    runtime.block_on(async {
        place.speed().await;
        place.away().await;
        place.online().await;
        place.filled().await;
    });
    place.missed.iter().for_each(|missed| println!("MISSED: {missed}"));
    if place.missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_time() -> Duration {
    let seconds = std::env::var("TIDEGATE_BENCH_SECONDS").map_or(60, |seconds| seconds.parse().unwrap());
    Duration::from_secs(seconds)
}

fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(folder.path(), 2048);
        let disk = disk.inspect_err(|why| println!("writes of the device: not measured ({why})")).ok();
        Place { disk, folder, missed: Vec::new() }
    }

    fn state(&self, name: &str) -> PathBuf {
        self.disk.as_ref().map_or_else(|| self.folder.path().to_owned(), Disk::path).join(name)
    }

    fn written(&self) -> Option<u64> {
        self.disk.as_ref().map(Disk::written)
    }

    fn expect(&mut self, is_kept: bool, goal: impl Into<String>) {
        if !is_kept {
            self.missed.push(goal.into());
        }
    }

    /// In memory only, as it is until `flush`.
    async fn speed(&mut self) {
        const ROUNDS: u32 = 9;
        const COUNT: u64 = 1_500_000;
        let (mut appends, mut drains, mut bytes) = (Vec::new(), Vec::new(), 0);
        for round in 0..ROUNDS {
            let site = site(&self.state(&format!("speed{round}")), "flush = '1h'");
            let mut plant = Plant::start(&site);
            let begin = clock::monotonic();
            plant.add(0, COUNT).await;
            plant.listen(Duration::from_secs(60), |plant| plant.stored == Position(COUNT)).await;
            appends.push(begin.elapsed().as_secs_f64());
            let (begin, mut count) = (clock::monotonic(), 0);
            plant.read(Position(0), |_, _| count += 1).await;
            assert_eq!((count, plant.counters.disk_bytes.get()), (COUNT, 0));
            drains.push(begin.elapsed().as_secs_f64());
            bytes = plant.counters.bytes.get();
            plant.end(delivered(COUNT)).await;
        }
        let (append, drain) = (median(appends), median(drains));
        println!("append, median of {ROUNDS}          {:>9.2} M readings/s", COUNT as f64 / append / 1e6);
        println!(
            "  records                  {:>9.1} MB/s, {:.2} bytes a reading",
            mega(bytes) / append,
            bytes as f64 / COUNT as f64
        );
        println!("read from memory           {:>9.2} M readings/s", COUNT as f64 / drain / 1e6);
    }

    /// Nobody takes anything.
    async fn away(&mut self) {
        println!("\nuplink away, flush 5 s     records KB/s   file KB   syncs   device KB   device/record");
        let fast = run_time().min(Duration::from_secs(20));
        for (rate, time) in [(100_000, fast), (10, run_time()), (100, run_time()), (1000, run_time())] {
            let mut plant = Plant::start(&site(&self.state(&format!("away{rate}")), ""));
            let before = self.written();
            paced(&mut plant, rate, time, |_, _| None).await;
            let counters = plant.counters.clone();
            assert_eq!(plant.dropped, 0);
            plant.end(AWAY).await;
            let device = self.written().zip(before).map(|(now, before)| now - before);
            let bytes = counters.bytes.get() as f64;
            let share = device.map(|device| device as f64 / bytes);
            println!(
                "  {rate:>7} readings/s       {:>10.1} {:>9.0} {:>7} {:>11} {:>15}",
                bytes / 1e3 / time.as_secs_f64(),
                counters.disk_bytes.get() as f64 / 1e3,
                counters.disk_syncs.get(),
                device.map_or("-".to_owned(), |device| format!("{:.0}", device as f64 / 1e3)),
                share.map_or("not measured".to_owned(), |share| format!("{share:.3}")),
            );
            if bytes / time.as_secs_f64() >= FAST {
                let is_kept = share.is_none_or(|share| share <= AMPLIFICATION_MAX);
                self.expect(is_kept, format!("{AMPLIFICATION_MAX} bytes written for each byte of a record"));
            } else {
                assert!(rate < 100_000, "the machine is too slow for this bench");
            }
        }
    }

    /// Everything is confirmed soon, and sure later.
    async fn online(&mut self) {
        let time = run_time();
        let sure_after = if time < Duration::from_secs(60) { 10 } else { 60 };
        // where it is sure after a minute, that minute is waited for first
        let time = time + Duration::from_secs(sure_after);
        let mut plant = Plant::start(&site(&self.state("online"), ""));
        let mut reached: VecDeque<(Instant, Position)> = VecDeque::new();
        let before = self.written();
        paced(&mut plant, 1000, time, |now, stored| {
            reached.push_back((now, stored));
            let at = |age: Duration| {
                let known = reached.iter().rev().find(|(at, _)| now.saturating_duration_since(*at) >= age);
                known.map_or(Position(0), |(_, stored)| *stored)
            };
            let (confirmed, sure) = (at(Duration::from_millis(2500)), at(Duration::from_secs(sure_after)));
            while reached.front().is_some_and(|(_, stored)| *stored < sure) {
                reached.pop_front();
            }
            Some(Delivered { confirmed, sure, is_away: false })
        })
        .await;
        let device = self.written().zip(before).map(|(now, before)| now - before);
        let (stored, counters) = (plant.stored, plant.counters.clone());
        plant.end(delivered(stored.0)).await;
        println!(
            "\nonline, 1,000 readings/s, confirmed after 2.5 s, sure after {sure_after} s, {} s",
            time.as_secs()
        );
        println!(
            "  brought to the disk      {:>9.1} KB, {} syncs",
            counters.disk_bytes.get() as f64 / 1e3,
            counters.disk_syncs.get()
        );
        let Some(device) = device else {
            println!("  device                   not measured (needs root and a loop device)");
            return;
        };
        let day = mega(device) / time.as_secs_f64() * 86_400.0;
        println!(
            "  device                   {:>9.1} KB a million readings",
            device as f64 / 1e3 / (stored.0 as f64 / 1e6)
        );
        println!("  device                   {day:>9.1} MB a day");
        self.expect(day <= DAY_MB_MAX, format!("{DAY_MB_MAX} MB a day online: {day:.0}"));
    }

    /// 1 GiB in the queue.
    async fn filled(&mut self) {
        let state = self.state("full");
        let mut plant = Plant::start(&full_site(&state));
        let (begin, mut next) = (clock::monotonic(), 0);
        let counters = plant.counters.clone();
        while counters.bytes.get() < GIB {
            plant.add(next, 5000).await;
            next += 5000;
            let is_saved =
                |plant: &Plant| plant.counters.bytes.get() < plant.counters.disk_bytes.get() + UNSAVED_MAX;
            assert!(plant.listen(Duration::from_secs(60), is_saved).await, "the disk stands still");
        }
        assert_eq!(plant.dropped, 0);
        plant.end(AWAY).await;
        println!(
            "\n1 GiB queued, {:.1} M readings, filled in {:.0} s",
            next as f64 / 1e6,
            begin.elapsed().as_secs_f64()
        );
        for how in ["cached", "not cached"] {
            let is_dropped = std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok();
            if how == "cached" {
                fresh(&state); // has it cached
            } else if !is_dropped {
                println!("  {how}: not measured (needs root)");
                continue;
            }
            let (open, resident, resident_read, read) = fresh(&state);
            println!("  open, {how:<19}{:>9.0} ms", open * 1e3);
            println!(
                "    resident               {resident:>9.2} MB, {resident_read:.2} MB after {next} readings were read"
            );
            println!("    read from the disk     {:>9.2} M readings/s", next as f64 / read / 1e6);
            self.expect(
                open <= OPEN_MAX.as_secs_f64(),
                format!("1 GiB opened within {OPEN_MAX:?}, {how}: {open:.2} s"),
            );
            self.expect(
                resident <= RESIDENT_MB_MAX,
                format!("{RESIDENT_MB_MAX} MB with 1 GiB queued: {resident:.1}"),
            );
            self.expect(
                resident_read <= RESIDENT_MB_MAX,
                format!("{RESIDENT_MB_MAX} MB while 1 GiB is read: {resident_read:.1}"),
            );
        }
    }
}

fn full_site(state: &Path) -> std::sync::Arc<tidegate::config::site::Site> {
    site(state, "max_size = '2GiB'")
}

const fn delivered(count: u64) -> Delivered {
    Delivered { confirmed: Position(count), sure: Position(count), is_away: false }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap()
}

/// Readings at a steady rate; `say`, asked four times a second, tells how far the uplink has come.
async fn paced(
    plant: &mut Plant,
    rate: u64,
    time: Duration,
    mut say: impl FnMut(Instant, Position) -> Option<Delivered>,
) {
    let (begin, mut next, mut said) = (clock::monotonic(), 0, clock::monotonic());
    loop {
        let passed = begin.elapsed().min(time);
        let due = (passed.as_secs_f64() * rate as f64) as u64;
        if due >= next + 50.min(rate) || (passed == time && due > next) {
            plant.add(next, due - next).await;
            next = due;
        }
        if said.elapsed() >= Duration::from_millis(250) {
            said = clock::monotonic();
            if let Some(delivered) = say(said, plant.stored) {
                plant.say(delivered).await;
            }
        }
        if passed == time {
            plant.listen(Duration::from_secs(10), |plant| plant.stored == Position(next)).await;
            return;
        }
        plant.listen(Duration::from_millis(5), |_| false).await;
    }
}

/// Opens what is queued in a process of its own: seconds, MB resident, MB resident after all was read, seconds of that.
fn fresh(state: &Path) -> (f64, f64, f64, f64) {
    let output = Command::new(std::env::current_exe().unwrap()).arg("full").arg(state).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let mut figures = text.split_whitespace().map(|figure| figure.parse().unwrap());
    let mut figure =
        || figures.next().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (figure(), figure(), figure(), figure())
}

/// The fresh process.
async fn full(state: &Path) {
    let site = full_site(state);
    let begin = clock::monotonic();
    let mut plant = Plant::start(&site);
    let open = begin.elapsed().as_secs_f64();
    plant.listen(Duration::from_millis(500), |_| false).await;
    let resident = resident_mb();
    let begin = clock::monotonic();
    let mut count = 0;
    let end = plant.read(Position(0), |_, _| count += 1).await;
    assert_eq!(count, end.0);
    let read = begin.elapsed().as_secs_f64();
    println!("{open} {resident} {} {read}", resident_mb());
    plant.end(AWAY).await;
}

fn resident_mb() -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    mega(line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024)
}
