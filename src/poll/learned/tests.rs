use super::*;
use crate::poll::plan::{Cost, NETWORK_LATENCY, plan};
use proptest::prelude::*;

const NOW: Timestamp = Timestamp::from_millis(1_000_000);
const DAY: u64 = 24 * 60 * 60 * 1000;
/// After so many sweeps every device of these tests has taught what it can.
const SWEEPS_MAX: usize = 60;

fn hr(address: u16, count: u16) -> Span {
    Span { area: Area::HoldingRegisters, address, count }
}

/// A device that keeps to its rules.
#[derive(Clone, Debug)]
struct Device {
    /// Addresses that it does not have.
    absent: Vec<u16>,
    /// The most that it answers at once.
    limit: u16,
    /// It answers no request across a multiple of this.
    border: Option<u16>,
    /// What it says to one that is too large, and to an address that is not there.
    too_large: Refusal,
    not_there: Refusal,
}

impl Device {
    fn ask(&self, span: Span) -> Result<(), Refusal> {
        let addresses = || u32::from(span.address)..span.end();
        let crosses = |border: u16| addresses().skip(1).any(|address| address.is_multiple_of(border.into()));
        if span.count > self.limit {
            return Err(self.too_large);
        }
        let is_absent = self.absent.iter().any(|absent| addresses().contains(&u32::from(*absent)));
        if is_absent || self.border.is_some_and(crosses) { Err(self.not_there) } else { Ok(()) }
    }
}

/// A device, what is wanted of it, and the bus that reads it.
#[derive(Debug)]
struct Bench {
    device: Device,
    given: Limits,
    /// Tags of several rates, each of which has a plan of its own.
    rates: Vec<Vec<(TagId, Span)>>,
    spans: Vec<Span>,
    plans: Vec<Block>,
    learned: Learned,
}

impl Bench {
    fn new(device: Device, given: Limits, spans: Vec<Span>, rates: usize) -> Bench {
        let mut of_rate = vec![Vec::new(); rates];
        for (index, span) in spans.iter().enumerate() {
            of_rate[index % rates].push((TagId(u32::try_from(index).unwrap()), *span));
        }
        let mut bench =
            Bench { device, given, rates: of_rate, spans, plans: Vec::new(), learned: Learned::default() };
        bench.plan();
        bench
    }

    fn plan(&mut self) {
        let limits = self.learned.limits(&self.given);
        let cost = Cost::network(NETWORK_LATENCY);
        self.plans = self.rates.iter().flat_map(|tags| plan(tags, &limits, cost)).collect();
    }

    /// Reads all once and plans anew where that was taught; how many requests were refused, of values that are known to
    /// be refused not counted.
    #[track_caller]
    fn sweep(&mut self) -> usize {
        let mut refusals = 0;
        let mut read = vec![0; self.spans.len()];
        let mut queue: VecDeque<Block> = self.plans.clone().into();
        while let Some(block) = queue.pop_front() {
            let is_known = self.learned.is_refused(block.span);
            match self.device.ask(block.span) {
                Ok(()) => {
                    self.learned.answered(block.span);
                    for part in block.parts.iter() {
                        assert_eq!(block.span.address + part.offset, self.spans[part.tag.index()].address);
                        read[part.tag.index()] += 1;
                    }
                }
                Err(why) => {
                    refusals += usize::from(!is_known);
                    let span_of = |tag: TagId| self.spans[tag.index()];
                    if let Refused::Halves(first, second) =
                        self.learned.refused(&block, why, &self.given, span_of, NOW)
                    {
                        queue.push_front(second);
                        queue.push_front(first);
                    }
                }
            }
        }
        for (span, read) in self.spans.iter().zip(read) {
            let is_readable = self.device.ask(*span).is_ok();
            assert_eq!(read, usize::from(is_readable), "{span} read so often");
            assert!(!(is_readable && self.learned.is_refused(*span)), "{span} counts as refused");
        }
        if self.learned.take_changed() {
            self.plan();
        }
        refusals
    }

    /// Sweeps until nothing is refused and nothing planned anew; all refusals of each sweep.
    #[track_caller]
    fn settle(&mut self) -> Vec<usize> {
        let mut refusals = Vec::new();
        loop {
            let before = self.plans.clone();
            let count = self.sweep();
            if count == 0 && before == self.plans {
                return refusals;
            }
            refusals.push(count);
            assert!(refusals.len() < SWEEPS_MAX, "{refusals:?} {:?}", self.learned);
        }
    }
}

fn some_refusal() -> impl Strategy<Value = Refusal> {
    prop::sample::select(vec![Refusal::Address, Refusal::Quantity, Refusal::Silence])
}

fn some_device() -> impl Strategy<Value = Device> {
    let absent = prop::collection::vec(0u16..400, 0..12);
    let border = prop_oneof![3 => Just(None), 1 => (10u16..60).prop_map(Some)];
    let not_there = prop::sample::select(vec![Refusal::Address, Refusal::Silence]);
    let limit = prop_oneof![1 => Just(125u16), 2 => 4u16..125];
    (absent, limit, border, some_refusal(), not_there).prop_map(
        |(absent, limit, border, too_large, not_there)| Device {
            absent,
            limit,
            border,
            too_large,
            not_there,
        },
    )
}

/// Values and gaps, one after the other; now and then one that begins inside the one before.
fn some_map() -> impl Strategy<Value = Vec<Span>> {
    let one = (prop_oneof![3 => Just(0u16), 1 => 1u16..12], 1u16..=4, prop::bool::weighted(0.05));
    prop::collection::vec(one, 1..90).prop_map(|all| {
        let mut end = 0;
        let place = |(gap, count, overlaps): (u16, u16, bool)| {
            let address = if overlaps { u16::saturating_sub(end, 1) } else { end + gap };
            end = address + count;
            hr(address, count)
        };
        all.into_iter().map(place).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20000))]
    #[test]
    fn stats(
        device in some_device(), spans in some_map(), rates in 1usize..=2,
    ) {
        let mut bench = Bench::new(device, Limits::new(125, 2000), spans, rates);
        let refusals = bench.settle();
        let l = &bench.learned;
        let total: usize = refusals.iter().sum();
        let alone = bench.spans.iter().filter(|s| bench.device.ask(**s).is_err()).count();
        use std::io::Write;
        let mut f = std::fs::OpenOptions::new().append(true).create(true).open("/tmp/w/plan-stats.txt").unwrap();
        writeln!(f, "{} {} {} {} {} {} {} {} {} {:?} {:?}", total, refusals.len(), bench.spans.len(), l.holes.len(), alone, bench.device.limit, l.registers.good, bench.device.border.is_some(), rates, bench.device.too_large, refusals).unwrap();
    }
}
