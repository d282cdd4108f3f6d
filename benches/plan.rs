//! What planning costs: maps that devices have, and such as are hard on the planner. Prints figures, judges none.
//!
//! `cargo bench --bench plan`

use divan::{Bencher, black_box};
use tidegate::poll::plan::{Cost, Limits, NETWORK_LATENCY, plan};
use tidegate::tag::{Area, Span, TagId};

const SEED: u64 = 7;
const COUNTS: [u16; 2] = [1000, 10_000];

fn main() {
    divan::main();
}

fn measure(bencher: Bencher<'_, '_>, spans: Vec<Span>) {
    let tags: Vec<(TagId, Span)> = (0..).map(TagId).zip(spans).collect();
    let (limits, cost) = (Limits::new(125, 2000), Cost::network(NETWORK_LATENCY));
    bencher.bench(|| plan(black_box(&tags), &limits, cost));
}

/// `count` values of one, two or four registers, with gaps between as in a device's map, in holding and input registers.
#[divan::bench(args = COUNTS)]
fn scattered_values(bencher: Bencher<'_, '_>, count: u16) {
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut address = [0u16; 2];
    let spans = (0..count).map(|_| {
        let input = random.bool();
        let (area, next) = match input {
            true => (Area::InputRegisters, &mut address[1]),
            false => (Area::HoldingRegisters, &mut address[0]),
        };
        let gap = if random.u8(..8) == 0 { random.u16(1..40) } else { 0 };
        let span = Span { area, address: *next + gap, count: 1 << random.u8(..3) };
        *next = span.address + span.count;
        span
    });
    measure(bencher, spans.collect());
}

/// Every register is a value of its own.
#[divan::bench(args = COUNTS)]
fn every_register(bencher: Bencher<'_, '_>, count: u16) {
    let spans = (0..count).map(|address| Span { area: Area::HoldingRegisters, address, count: 1 });
    measure(bencher, spans.collect());
}

/// Every coil is a value of its own: thousands of places where a block may begin.
#[divan::bench(args = COUNTS)]
fn every_coil(bencher: Bencher<'_, '_>, count: u16) {
    let spans = (0..count).map(|address| Span { area: Area::Coils, address, count: 1 });
    measure(bencher, spans.collect());
}

/// Sixteen bits of each register, as alarms are packed.
#[divan::bench(args = COUNTS)]
fn bits_of_registers(bencher: Bencher<'_, '_>, count: u16) {
    let spans = (0..count).map(|bit| Span { area: Area::HoldingRegisters, address: bit / 16, count: 1 });
    measure(bencher, spans.collect());
}

/// As scattered values, with a border each 100 registers and a hole in each tenth hundred.
#[divan::bench(args = COUNTS)]
fn with_borders_and_holes(bencher: Bencher<'_, '_>, count: u16) {
    let span = |address, count| Span { area: Area::HoldingRegisters, address, count };
    let tags: Vec<(TagId, Span)> = (0..count).map(|n| (TagId(n.into()), span(n * 6, 2))).collect();
    let limits = Limits {
        no_cross: std::num::NonZeroU16::new(100),
        holes: (0..60).map(|n| span(n * 1000 + 3, 1)).collect(),
        ..Limits::new(125, 2000)
    };
    bencher.bench(|| plan(black_box(&tags), &limits, Cost::network(NETWORK_LATENCY)));
}
