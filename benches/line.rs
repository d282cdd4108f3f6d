//! How near a bus comes to what a serial line can carry: simulated devices with true timing on pseudo-terminals, read as
//! fast as they let themselves be read. Prints a table; exits 1 where a limit is not kept.
//!
//! `cargo bench --bench line`
//!
//! *Minimum* is arithmetic: the requests of the best plan, the bytes of each and of its answer on the wire, the silence
//! after each, the device's turnaround. *Raw* is a loop without a gateway around it that asks the same requests and spins
//! through the silences: what it takes more than the minimum, the simulator and the pseudo-terminal add. *Gateway* is the
//! bus of the program.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a bench ends with a message where something is amiss"
)]

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tidegate::clock;
use tidegate::config;
use tidegate::config::site::{Framing, Parity, SerialLine};
use tidegate::driver::modbus::{frame, pdu};
use tidegate::link::{Link, timing};
use tidegate::poll::memory;
use tidegate::poll::plan::{Cost, Limits, plan};
use tidegate::poll::task::{Ports, Task};
use tidegate::sim::floor::Floor;
use tidegate::sim::serve::{FarEnd, Line, Seen, Shared};
use tidegate::tag::{Area, Span, TagId, UnitId};
use tokio::sync::{mpsc, oneshot, watch};

/// How long the simulated devices think.
const TURNAROUND: Duration = Duration::from_millis(5);
/// Opened, settled, planned for the measured latency by then.
const WARM_UP: Duration = Duration::from_secs(3);
/// How long each figure is measured.
const MEASURE: Duration = Duration::from_secs(10);
/// The most that a sweep may take, in minima, at each speed.
const LIMITS: [(u32, f64); 3] = [(9600, 1.05), (19_200, 1.05), (115_200, 1.08)];

/// What is read.
struct Map {
    name: &'static str,
    units: u8,
    spans: Vec<Span>,
}

/// How long a sweep took, and requests that came too soon.
struct Figure {
    sweep: Duration,
    requests: f64,
    too_soon: usize,
}

fn main() -> ExitCode {
    println!("{:<26}{:>8}  {:>10}  {:>16}  {:>24}", "", "", "minimum", "raw loop", "gateway");
    let mut is_kept = true;
    for map in [rows_of_twenty(), scattered()] {
        for (baud, limit) in LIMITS {
            is_kept &= measure(&map, baud, limit);
        }
    }
    if is_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Twenty registers, one beside the other, of each of eight units.
fn rows_of_twenty() -> Map {
    let spans = (0..20).map(|address| span(address, 1));
    Map { name: "8 units x 20 registers", units: 8, spans: spans.collect() }
}

/// Values of one, two and four registers over a map with narrow and wide gaps.
fn scattered() -> Map {
    let mut random = fastrand::Rng::with_seed(7);
    let mut next = 0;
    let spans = (0..60).map(|_| {
        let gap = if random.u8(..3) == 0 { random.u16(1..30) } else { 0 };
        let span = span(next + gap, 1 << random.u8(..3));
        next = span.address + span.count;
        span
    });
    Map { name: "1 unit, 60 values, gaps", units: 1, spans: spans.collect() }
}

fn span(address: u16, count: u16) -> Span {
    Span { area: Area::HoldingRegisters, address, count }
}

/// One row of the table; whether its limit was kept.
fn measure(map: &Map, baud: u32, limit: f64) -> bool {
    let line = SerialLine { baud, data_bits: 8, parity: Parity::None, stop_bits: 1 };
    let blocks = best_plan(map, &line);
    let minimum: Duration =
        blocks.iter().map(|block| time_of(*block, &line)).sum::<Duration>() * map.units.into();
    let raw = on_a_line(map, line, |path, time| ask_raw(path, time, map.units, &blocks, &line));
    let gateway = on_a_line(map, line, |path, time| ask_as_gateway(path, time, map, baud));
    let ratio = |figure: &Figure| figure.sweep.as_secs_f64() / minimum.as_secs_f64();
    let is_kept = ratio(&gateway) <= limit && gateway.too_soon == 0;
    println!(
        "{:<26}{baud:>8}  {:>7.2} ms  {:>7.2} ms {:.3}  {:>7.2} ms {:.3} <= {limit:.2} {}",
        map.name,
        ms(minimum),
        ms(raw.sweep),
        ratio(&raw),
        ms(gateway.sweep),
        ratio(&gateway),
        if is_kept { "kept" } else { "NOT KEPT" },
    );
    println!(
        "{:<26}requests a sweep: {} at best, {:.2} of the gateway; sent within t3.5: {} (raw {})",
        "",
        blocks.len() * usize::from(map.units),
        gateway.requests,
        gateway.too_soon,
        raw.too_soon,
    );
    is_kept
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn best_plan(map: &Map, line: &SerialLine) -> Vec<Span> {
    let tags: Vec<(TagId, Span)> = (0..).map(TagId).zip(map.spans.iter().copied()).collect();
    let blocks = plan(
        &tags,
        &Limits::new(125, 2000),
        Cost::serial(line, Framing::Rtu, timing::frame_gap(line) + TURNAROUND),
    );
    blocks.into_iter().map(|block| block.span).collect()
}

/// From the beginning of a request to the earliest beginning of the next.
fn time_of(block: Span, line: &SerialLine) -> Duration {
    let bytes = 8 + answer_size(block);
    timing::wire_time(line, bytes) + 2 * timing::frame_gap(line) + TURNAROUND
}

fn answer_size(block: Span) -> usize {
    5 + 2 * usize::from(block.count)
}

/// Devices on a line, on a thread of their own; `ask` reads them at this path for so long.
fn on_a_line(map: &Map, line: SerialLine, ask: impl FnOnce(&Path, Duration)) -> Figure {
    let floor = Floor::new(Vec::new()).with_addressed("l", 1..=map.units);
    let far = FarEnd::new("l", Framing::Rtu, Shared::new(floor));
    let (tell, told) = std::sync::mpsc::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let served = far.clone();
    let serving = std::thread::spawn(move || {
        runtime().block_on(async {
            let end = Line::open().unwrap();
            tell.send(end.path.clone()).unwrap();
            tokio::select! {
                () = served.serve_line(end, line) => {}
                _ = stopped => {}
            }
        });
    });
    ask(&told.recv().unwrap(), WARM_UP + MEASURE);
    stop.send(()).unwrap();
    serving.join().unwrap();
    figure(&far.take_seen(), &line)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// The mean of the whole sweeps after the warm-up.
fn figure(seen: &[Seen], line: &SerialLine) -> Figure {
    let start = seen.first().unwrap().at + WARM_UP;
    let warm = &seen[seen.partition_point(|seen| seen.at < start)..];
    let is_first = |seen: &&Seen| (seen.unit, seen.subject) == (warm[0].unit, warm[0].subject);
    let firsts: Vec<&Seen> = warm.iter().filter(is_first).collect();
    let (first, last) = (firsts[0].at, firsts[firsts.len() - 1].at);
    let sweeps = u32::try_from(firsts.len() - 1).unwrap();
    let asked = u32::try_from(warm.iter().filter(|seen| seen.at < last).count()).unwrap();
    let is_too_soon = |seen: &&Seen| seen.silence.is_some_and(|silence| silence < timing::frame_gap(line));
    Figure {
        sweep: (last - first) / sweeps,
        requests: f64::from(asked) / f64::from(sweeps),
        too_soon: seen.iter().filter(is_too_soon).count(),
    }
}

/// Asks one request after the other without any gateway.
fn ask_raw(path: &Path, time: Duration, units: u8, blocks: &[Span], line: &SerialLine) {
    let mut port = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let requests: Vec<(Vec<u8>, usize)> = (1..=units)
        .flat_map(|unit| blocks.iter().map(move |block| (unit, *block)))
        .map(|(unit, block)| {
            let pdu = pdu::encode_request(&pdu::read_request(block).unwrap()).unwrap();
            (frame::encode_rtu(UnitId(unit), &pdu), answer_size(block))
        })
        .collect();
    let end = clock::monotonic() + time;
    for (request, size) in requests.iter().cycle() {
        port.write_all(request).unwrap();
        let mut answer = vec![0; *size];
        port.read_exact(&mut answer).unwrap();
        let silent_at = clock::monotonic() + timing::frame_gap(line);
        if silent_at > end {
            return;
        }
        while clock::monotonic() < silent_at {
            std::hint::spin_loop();
        }
    }
}

/// Reads with the bus of the program.
fn ask_as_gateway(path: &Path, time: Duration, map: &Map, baud: u32) {
    let folder = tempfile::tempdir().unwrap();
    let tag = |span: &Span| {
        let kind = ["u16", "u32", "u64"][usize::from(span.count / 2)];
        format!("{{ name = \"r{0}\", at = \"hr:{0}\", type = \"{kind}\" }}", span.address)
    };
    let text = format!(
        "[gateway]\nname = \"n\"\nenterprise = \"e\"\nstate_dir = \"{}\"\n[uplink.u]\nbroker = \"mqtt://127.0.0.1:1\"\n\
         [link.l]\nport = \"{}\"\nserial = \"{baud} 8N1\"\n\
         [device.\"d{{unit}}\"]\nlink = \"l\"\nunit = \"1-{}\"\nevery = \"10ms\"\ntags = [{}]\n",
        folder.path().display(),
        path.display(),
        map.units,
        map.spans.iter().map(tag).collect::<Vec<_>>().join(", "),
    );
    let checked = config::parse("line.toml", &text);
    let site = match checked.site {
        Ok(site) => Arc::new(site),
        Err(findings) => panic!("{}", config::finding::render_text(&findings, &checked.sources)),
    };
    runtime().block_on(async {
        let (memory, _keeper) = memory::open(&site);
        let (out, mut polled) = mpsc::channel(256);
        let (_orders, orders) = mpsc::channel(1);
        let (_stop, stopped) = watch::channel(false);
        let ports = Ports { out, orders, memory, counters: tidegate::gateway::counters(&site) };
        let bus = Task::new(&site, &site.channels(0)[0], Link::new(&site.links[0]), ports).unwrap();
        let drain = async { while polled.recv().await.is_some() {} };
        let both = async { tokio::join!(bus.run(stopped), drain) };
        tokio::time::timeout(time, both).await.unwrap_err();
    });
}
