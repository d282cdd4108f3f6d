//! What evaluating an expression costs: time, and allocations, of which there are none. Prints figures, judges none.
//!
//! `cargo bench --bench expression`

use std::time::Instant;

use divan::{AllocProfiler, Bencher, black_box};
use tidegate::expression::{Expression, Inputs, Kind, Known, Memory, Sample, Scope};
use tidegate::reading::{Quality, Value};
use tidegate::tag::TagId;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const TEXTS: [&str; 4] = [
    "voltage * current / 1000",
    "if(voltage > 3 and not on, voltage, current)",
    "on and voltage > 2.0 for 5s",
    "avg(voltage, 15m)",
];

fn main() {
    divan::main();
}

struct Floor([Value; 3]);

impl Inputs for Floor {
    fn sample(&self, tag: TagId) -> Sample<'_> {
        Sample { value: self.0.get(tag.index()), quality: Quality::Good, serial: 1 }
    }
}

#[divan::bench(args = TEXTS)]
fn evaluate(bencher: Bencher<'_, '_>, text: &str) {
    let mut names = |name: &str| {
        let at = ["voltage", "current", "on"].iter().position(|known| *known == name).ok_or("unknown")?;
        let kind = if name == "on" { Kind::Flag } else { Kind::Number };
        Ok(Known { tag: TagId(u32::try_from(at).map_err(|_| "too many")?), kind })
    };
    let Ok(expression) = Expression::compile(text, Scope::Live, &mut names) else { return };
    let floor = Floor([Value::Double(230.1), Value::Float(4.5), Value::Bool(true)]);
    let mut memory = Memory::new(&expression);
    let now = start();
    bencher.bench_local(|| expression.evaluate(black_box(&floor), &mut memory, black_box(now)));
}

#[expect(clippy::disallowed_methods, reason = "a bench has no other clock")]
fn start() -> Instant {
    Instant::now()
}
