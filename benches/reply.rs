//! What one reply costs in steady state: time and allocations, of the driver alone and up to a reading that is not
//! reported. Prints figures, judges none.
//!
//! `cargo bench --bench reply`

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench ends with a message where something is amiss"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use divan::{AllocProfiler, Bencher, black_box};
use tidegate::clock;
use tidegate::config;
use tidegate::config::site::{Echo, Framing, Site};
use tidegate::driver::Answer;
use tidegate::driver::modbus::conversation::{Call, Conversation, Done};
use tidegate::driver::modbus::frame;
use tidegate::driver::modbus::pdu::read_request;
use tidegate::driver::modbus::transaction::Tolerance;
use tidegate::normalize::{Normalizer, Now};
use tidegate::scan::{Data, Part, Polled, Scan};
use tidegate::tag::{Area, Span, UnitId};
use tokio_modbus::Response;

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

/// As many registers as a reply has at least and at most.
const COUNTS: [u16; 2] = [1, 125];
const UNIT: UnitId = UnitId(1);

fn main() {
    divan::main();
}

/// One device that always says the same.
struct Device {
    conversation: Conversation,
    call: Call,
    framing: Framing,
    wire: Duration,
    answer: Vec<u8>,
    now: Instant,
}

impl Device {
    fn new(framing: Framing, count: u16) -> Device {
        let span = Span { area: Area::HoldingRegisters, address: 0, count };
        let mut pdu = vec![3, u8::try_from(2 * count).unwrap()];
        pdu.extend((0..count).flat_map(u16::to_be_bytes));
        let answer = match framing {
            Framing::Tcp => frame::encode_tcp(0, UNIT, &pdu),
            Framing::Rtu => frame::encode_rtu(UNIT, &pdu),
            Framing::Ascii => frame::encode_ascii(UNIT, &pdu),
        };
        let second = Duration::from_secs(1);
        Device {
            conversation: Conversation::new(framing, Echo::Auto, 0, Arc::default()),
            call: Call {
                ticket: 0,
                unit: UNIT,
                request: read_request(span).unwrap(),
                tolerance: Tolerance::default(),
                timeout: second,
                timeout_max: second,
                counters: Arc::default(),
            },
            framing,
            wire: Duration::ZERO,
            answer,
            now: clock::monotonic(),
        }
    }

    /// Asks, and takes the answer.
    fn ask(&mut self) -> Done {
        let wire = self.wire;
        let sent = self.conversation.begin(self.call.clone(), wire, self.now).unwrap();
        if let (Framing::Tcp, [id @ .., _]) = (self.framing, sent.first_chunk::<3>().unwrap()) {
            self.answer.splice(..2, *id);
        }
        self.conversation.buffer().extend_from_slice(&self.answer);
        self.conversation.take(self.now).unwrap().unwrap()
    }
}

/// The driver alone: the request is encoded, the answer is found and decoded.
#[divan::bench(args = COUNTS, consts = [true, false])]
fn driver<const IS_TCP: bool>(bencher: Bencher<'_, '_>, count: u16) {
    let mut device = Device::new(framing(IS_TCP), count);
    device.ask();
    bencher.bench_local(|| black_box(device.ask()));
}

/// From the request to readings that say nothing new: a tag a register.
#[divan::bench(args = COUNTS, consts = [true, false])]
fn unchanged_readings<const IS_TCP: bool>(bencher: Bencher<'_, '_>, count: u16) {
    let mut device = Device::new(framing(IS_TCP), count);
    let site = Arc::new(site(count));
    let parts: Arc<[Part]> =
        (0..).zip(&site.tags).map(|(offset, tag)| Part { tag: tag.id, offset }).collect();
    let mut normalizer = Normalizer::new(site);
    let (now, at) = (device.now, clock::wall());
    let mut read = || {
        let Ok(Answer::Response(Response::ReadHoldingRegisters(words))) = device.ask().result else {
            panic!("no answer");
        };
        let scan = Scan {
            parts: parts.clone(),
            result: Ok(Data::Words(words)),
            at: tidegate::reading::Stamp::Wall(at),
        };
        normalizer.handle(Polled::Scan(scan), Now { at: now, stamp: clock::stamp() })
    };
    assert!(read().is_some(), "the first readings are new");
    assert!(read().is_none(), "the second are not");
    bencher.bench_local(read);
}

fn framing(is_tcp: bool) -> Framing {
    if is_tcp { Framing::Tcp } else { Framing::Rtu }
}

/// A tag for each of `count` registers.
fn site(count: u16) -> Site {
    let tag = |index: u16| format!("{{ name = \"r{index}\", at = \"hr:{index}\" }}");
    let text = format!(
        "[gateway]\nname = \"n\"\nenterprise = \"e\"\n[uplink.u]\nbroker = \"mqtt://127.0.0.1:1\"\n\
         [link.l]\ntcp = \"127.0.0.1:1\"\n[device.d]\nlink = \"l\"\nevery = \"1s\"\ntags = [{}]\n",
        (0..count).map(tag).collect::<Vec<_>>().join(", "),
    );
    let checked = config::parse("reply.toml", &text);
    match checked.site {
        Ok(site) => site,
        Err(findings) => panic!("{}", config::finding::render_text(&findings, &checked.sources)),
    }
}
