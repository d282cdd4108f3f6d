//! What a reading costs between the poller and the store: decoded, scaled, judged, held against its deadband; and the same
//! with a derived tag for each. First readings a second on one core, beside a plain loop over the same registers; then a
//! table of time and allocations for a round of 1,000 tags. Fails where a goal is missed.
//!
//! `cargo bench --bench normalize`

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench ends with a message where something is amiss, and prints"
)]

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher, black_box};
use tidegate::clock;
use tidegate::config;
use tidegate::config::site::Site;
use tidegate::normalize::{Normalizer, Now};
use tidegate::reading::{Stamp, Timestamp, Update};
use tidegate::scan::{Data, Part, Polled, Scan};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

/// Readings a second, of tags alone, and where each has a derived tag.
const PLAIN_MIN: f64 = 2e6;
const DERIVED_MIN: f64 = 1e6;

const DEVICES: usize = 10;
const TAGS: f64 = 1000.0;
/// The most registers of one request.
const BLOCK: usize = 125;
/// Between two scans of a tag.
const EVERY: Duration = Duration::from_secs(1);
const ROUNDS: u32 = 300;
const ATTEMPTS: u32 = 7;

/// What tags are like, ten times each in a device: the keys of the configuration, and how the plain loop reads them.
const KINDS: [(&str, Plain); 10] = [
    ("scale = 0.1, deadband = 1", Plain::U16(0.1)),
    ("type = 'i16', deadband = 5", Plain::I16),
    ("type = 'u32', scale = 0.01, deadband = 0.5", Plain::U32(0.01)),
    ("type = 'f32', deadband = 0.5", Plain::F32),
    ("type = 'f32', order = 'CDAB', deadband = '1%'", Plain::F32Cdab),
    ("type = 'i32', deadband = 5", Plain::I32),
    ("type = 'u64', deadband = 5", Plain::U64),
    ("type = 'f64', deadband = 0.5", Plain::F64),
    ("type = 'u48', scale = 0.01, deadband = 0.5", Plain::U48(0.01)),
    ("type = 'bcd32', deadband = 5", Plain::Bcd32),
];

/// A value as a loop without a gateway around it reads it.
#[derive(Clone, Copy, Debug)]
enum Plain {
    U16(f64),
    I16,
    U32(f64),
    F32,
    F32Cdab,
    I32,
    U64,
    F64,
    U48(f64),
    Bcd32,
}

impl Plain {
    const fn registers(self) -> usize {
        match self {
            Plain::U16(_) | Plain::I16 => 1,
            Plain::U32(_) | Plain::F32 | Plain::F32Cdab | Plain::I32 | Plain::Bcd32 => 2,
            Plain::U48(_) => 3,
            Plain::U64 | Plain::F64 => 4,
        }
    }

    /// The registers of a value near 100 that is `more` above it, in the last place.
    fn encode(self, more: u16) -> Vec<u16> {
        let float = (100.0 + f32::from(more) / 10.0).to_bits();
        let double = (100.0 + f64::from(more) / 10.0).to_bits();
        let low = 100 + more;
        match self {
            Plain::U16(_) | Plain::I16 => vec![low],
            Plain::U32(_) | Plain::I32 => vec![0, low],
            Plain::F32 => words(float.into())[2..].to_vec(),
            Plain::F32Cdab => words(float.into())[2..].iter().rev().copied().collect(),
            Plain::U64 => vec![0, 0, 0, low],
            Plain::F64 => words(double).to_vec(),
            Plain::U48(_) => vec![0, 0, low],
            Plain::Bcd32 => {
                vec![0, (0..4).map(|place| (low / 10_u16.pow(place) % 10) << (place * 4)).sum()]
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "as the gateway does it")]
    fn decode(self, words: &[u16]) -> f64 {
        let joined = words.iter().fold(0_u64, |whole, word| whole << 16 | u64::from(*word));
        let low = u32::try_from(joined & 0xFFFF_FFFF).unwrap_or_default();
        match self {
            Plain::U16(scale) | Plain::U32(scale) | Plain::U48(scale) => joined as f64 * scale,
            Plain::I16 => f64::from(words.first().copied().unwrap_or_default().cast_signed()),
            Plain::I32 => low.cast_signed().into(),
            Plain::F32 => f32::from_bits(low).into(),
            Plain::F32Cdab => f32::from_bits(low.rotate_left(16)).into(),
            Plain::U64 => joined as f64,
            Plain::F64 => f64::from_bits(joined),
            Plain::Bcd32 => {
                (0..8).rev().fold(0, |whole, place| whole * 10 + (joined >> (place * 4) & 0xF)) as f64
            }
        }
    }
}

fn words(bits: u64) -> [u16; 4] {
    let [a, b, c, d, e, f, g, h] = bits.to_be_bytes();
    [[a, b], [c, d], [e, f], [g, h]].map(u16::from_be_bytes)
}

fn kind(index: u32) -> Plain {
    let (_, plain) = KINDS.iter().cycle().nth(index as usize % KINDS.len()).unwrap();
    *plain
}

/// A block of the plan: its parts, and its registers in a round whose values stand at `more`.
#[derive(Default)]
struct Block {
    parts: Vec<Part>,
    kinds: Vec<Plain>,
    size: usize,
}

impl Block {
    fn scan(&self, parts: &Arc<[Part]>, more: u16, at: Stamp) -> Scan {
        let words: Vec<u16> = self.kinds.iter().flat_map(|kind| kind.encode(more)).collect();
        Scan { parts: parts.clone(), result: Ok(Data::Words(words)), at }
    }
}

/// A gateway with 1,000 tags, and what the poller hands it.
struct Plant {
    blocks: Vec<(Block, Arc<[Part]>)>,
    normalizer: Normalizer,
    start: Instant,
    round: u32,
    readings: usize,
}

impl Plant {
    /// After its first round, which is all news.
    fn new(has_derived: bool) -> Plant {
        let site = Arc::new(site(has_derived));
        let mut blocks = vec![Block::default()];
        for (index, tag) in (0..).zip(site.tags.iter().filter(|tag| tag.registers().is_some())) {
            let kind = kind(index);
            if blocks.last().is_some_and(|block| block.size + kind.registers() > BLOCK) || index % 100 == 0 {
                blocks.push(Block::default());
            }
            let block = blocks.last_mut().unwrap();
            block.parts.push(Part { tag: tag.id, offset: u16::try_from(block.size).unwrap() });
            block.kinds.push(kind);
            block.size += kind.registers();
        }
        blocks.retain(|block| block.size > 0);
        let shared = |block: Block| {
            let parts = block.parts.clone().into();
            (block, parts)
        };
        let blocks = blocks.into_iter().map(shared).collect();
        let (start, normalizer) = (clock::monotonic(), Normalizer::new(site));
        let mut plant = Plant { blocks, normalizer, start, round: 0, readings: 0 };
        let first = plant.scans(0);
        plant.take(first);
        plant
    }

    /// The scans of a round: values move to and fro by `step` in the last place.
    fn scans(&self, step: u16) -> Vec<Scan> {
        let more = if self.round.is_multiple_of(2) { 0 } else { step };
        let at = self.now().stamp;
        self.blocks.iter().map(|(block, parts)| block.scan(parts, more, at)).collect()
    }

    fn now(&self) -> Now {
        let elapsed = EVERY * self.round;
        let wall = 1_795_651_200_000 + u64::from(self.round) * 1000;
        Now { at: self.start + elapsed, stamp: Stamp::Wall(Timestamp::from_millis(wall)) }
    }

    /// A round, as the task between poller and store has it.
    fn take(&mut self, scans: Vec<Scan>) {
        let now = self.now();
        for scan in scans {
            while self.normalizer.next_due().is_some_and(|due| due <= now.at) {
                let update = self.normalizer.handle_due(now);
                self.count(update);
            }
            let update = self.normalizer.handle(Polled::Scan(scan), now);
            self.count(update);
        }
        self.round += 1;
    }

    fn count(&mut self, update: Option<Update>) {
        match black_box(update) {
            Some(Update::Readings(readings)) => self.readings += readings.len(),
            Some(Update::DeviceUp(_) | Update::DeviceDown(..)) | None => {}
        }
    }
}

/// Ten devices of a hundred tags each, of all kinds in turn; each with a derived tag or without.
fn site(has_derived: bool) -> Site {
    let mut text =
        "[gateway]\nname = \"n\"\nenterprise = \"e\"\n[uplink.u]\nbroker = \"mqtt://127.0.0.1:1\"\n\
                    [link.l]\ntcp = \"127.0.0.1:1\"\n"
            .to_owned();
    for device in 0..DEVICES {
        writeln!(text, "[device.d{device}]\nlink = 'l'\nunit = {}\nevery = '1s'\ntags = [", device + 1)
            .unwrap();
        for (index, (keys, _)) in KINDS.iter().cycle().take(100).enumerate() {
            writeln!(text, "{{ name = 'r{index}', at = 'hr:{}', {keys} }},", index * 4).unwrap();
        }
        text.push_str("]\n");
        if has_derived {
            writeln!(text, "[device.d{device}.derived]").unwrap();
            for index in 0..100 {
                writeln!(text, "v{index} = {{ expr = 'r{index} * 1.5 + 2', deadband = 100 }}").unwrap();
            }
        }
    }
    let checked = config::parse("normalize.toml", &text);
    match checked.site {
        Ok(site) => site,
        Err(findings) => panic!("{}", config::finding::render_text(&findings, &checked.sources)),
    }
}

/// The plain loop: each value is decoded, scaled and held against the one that was told last.
struct Loop {
    last: Vec<f64>,
    told: usize,
}

impl Loop {
    fn take(&mut self, plant: &Plant, scans: &[Scan]) {
        let mut last = self.last.iter_mut();
        for ((block, parts), scan) in plant.blocks.iter().zip(scans) {
            let Ok(Data::Words(words)) = &scan.result else { continue };
            for (part, kind) in parts.iter().zip(&block.kinds) {
                let first = usize::from(part.offset);
                let Some(own) = words.get(first..first + kind.registers()) else { continue };
                let value = kind.decode(own);
                if let Some(last) = last.next()
                    && (value - *last).abs() > 5.0
                {
                    *last = value;
                    self.told += 1;
                }
            }
        }
    }
}

/// The shortest time of some attempts at [`ROUNDS`] rounds, as readings a second; and how many of a round were told.
fn speed(step: u16, mut plant: Plant) -> (f64, usize) {
    let mut best = Duration::MAX;
    let before = plant.readings;
    for _ in 0..ATTEMPTS {
        let mut took = Duration::ZERO;
        for _ in 0..ROUNDS {
            let scans = plant.scans(step);
            let start = clock::monotonic();
            plant.take(scans);
            took += start.elapsed();
        }
        best = best.min(took);
    }
    let told = (plant.readings - before) / (ROUNDS * ATTEMPTS) as usize;
    (f64::from(ROUNDS) * TAGS / best.as_secs_f64(), told)
}

fn floor_speed() -> f64 {
    let mut plant = Plant::new(false);
    let mut plain = Loop { last: vec![0.0; 1000], told: 0 };
    let mut best = Duration::MAX;
    for _ in 0..ATTEMPTS {
        let mut took = Duration::ZERO;
        for _ in 0..ROUNDS {
            let scans = plant.scans(1);
            let start = clock::monotonic();
            plain.take(black_box(&plant), black_box(&scans));
            drop(scans); // as the gateway has to
            took += start.elapsed();
            plant.round += 1;
        }
        best = best.min(took);
    }
    black_box(plain.told);
    f64::from(ROUNDS) * TAGS / best.as_secs_f64()
}

fn main() -> ExitCode {
    let floor = floor_speed();
    println!("{:<44} {:>12} {:>14} {:>8}", "1,000 tags of ten types", "readings/s", "x plain loop", "told");
    println!("{:<44} {floor:>12.0} {:>14.1} {:>8}", "a plain loop", 1.0, "");
    let mut missed = false;
    for (name, step, has_derived, least) in [
        ("changes within the deadband", 1, false, PLAIN_MIN),
        ("each change is told", 200, false, 0.0),
        ("within, each with a derived tag", 1, true, DERIVED_MIN),
    ] {
        let (speed, told) = speed(step, Plant::new(has_derived));
        println!("{name:<44} {speed:>12.0} {:>14.1} {told:>8}", floor / speed);
        if speed < least {
            println!("MISSED: {name}: {least:.0} readings/s were wanted");
            missed = true;
        }
    }
    divan::main();
    if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Rounds of which nothing is told.
#[divan::bench(args = [false, true])]
fn within_the_deadband(bencher: Bencher<'_, '_>, has_derived: bool) {
    round(bencher, 1, has_derived);
}

/// Rounds of which all is told: one allocation a scan, which hands the readings on.
#[divan::bench]
fn each_change_told(bencher: Bencher<'_, '_>) {
    round(bencher, 200, false);
}

fn round(bencher: Bencher<'_, '_>, step: u16, has_derived: bool) {
    let plant = std::cell::RefCell::new(Plant::new(has_derived));
    for _ in 0..4 {
        let scans = plant.borrow().scans(step);
        plant.borrow_mut().take(scans);
    }
    bencher
        .with_inputs(|| plant.borrow().scans(step))
        .input_counter(|_| ItemsCount::new(1000_usize))
        .bench_local_values(|scans| plant.borrow_mut().take(scans));
}
