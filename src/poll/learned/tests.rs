use super::*;
use crate::poll::plan::{Cost, NETWORK_LATENCY, plan};
use proptest::prelude::*;

const NOW: Timestamp = Timestamp::from_millis(1_000_000);
const DAY: u64 = 24 * 60 * 60 * 1000;
/// After so many sweeps every device of these tests has taught what it can.
const SWEEPS_MAX: usize = 12;

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
    /// Whether it plans after each request, and not after each sweep.
    is_eager: bool,
}

impl Bench {
    fn new(device: Device, given: Limits, spans: Vec<Span>, rates: usize) -> Bench {
        let mut of_rate = vec![Vec::new(); rates];
        for (index, span) in spans.iter().enumerate() {
            of_rate[index % rates].push((TagId(u32::try_from(index).unwrap()), *span));
        }
        let mut bench = Bench {
            device,
            given,
            rates: of_rate,
            spans,
            plans: Vec::new(),
            learned: Learned::default(),
            is_eager: false,
        };
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
            let span_of = |tag: TagId| self.spans[tag.index()];
            if let Some((first, second)) = self.learned.foresee(&block, &self.given, span_of) {
                queue.push_front(second);
                queue.push_front(first);
                continue;
            }
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
                    if let Refused::Halves(first, second) =
                        self.learned.refused(&block, why, &self.given, span_of, NOW)
                    {
                        queue.push_front(second);
                        queue.push_front(first);
                    }
                }
            }
            if self.is_eager && self.learned.take_changed() {
                self.plan();
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
    let limit = prop_oneof![1 => Just(125u16), 2 => 4u16..125];
    (absent, limit, border, some_refusal(), some_refusal()).prop_map(
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

/// What a map and a device come to: refusals of each sweep until all is quiet.
#[track_caller]
fn settled(device: Device, spans: Vec<Span>) -> (Bench, Vec<usize>) {
    let mut bench = Bench::new(device, Limits::new(125, 2000), spans, 1);
    let refusals = bench.settle();
    (bench, refusals)
}

const SOUND: Device = Device {
    absent: Vec::new(),
    limit: 125,
    border: None,
    too_large: Refusal::Quantity,
    not_there: Refusal::Address,
};

fn every(step: usize, count: u16) -> Vec<Span> {
    (0..count).step_by(step).map(|address| hr(address, 1)).collect()
}

fn holes(bench: &Bench) -> String {
    let mut spans = bench.learned.limits(&bench.given).holes;
    spans.sort();
    let words: Vec<String> = spans.iter().map(|span| format!("{}+{}", span.address, span.count)).collect();
    words.join(" ")
}

#[test]
fn a_sound_device_teaches_nothing() {
    let (mut bench, refusals) = settled(SOUND, every(3, 600));
    assert!(refusals.is_empty());
    assert!(bench.learned.is_empty() && !bench.learned.take_changed());
    assert_eq!(bench.learned.limits(&bench.given), bench.given);
}

#[track_caller]
fn check_limit(limit: u16, too_large: Refusal, step: usize) {
    let (bench, refusals) = settled(Device { limit, too_large, ..SOUND }, every(step, 600));
    let least = 600_usize.div_ceil(limit.into());
    assert_eq!(bench.learned.limits(&bench.given).registers, limit);
    assert!(bench.plans.len() <= least + 1, "{} blocks, at least {least}", bench.plans.len());
    // the steps of a bisection of 125, and in each the block that teaches and its witnesses
    assert!(refusals.iter().sum::<usize>() <= 7 * 3 && refusals.len() <= 7, "{refusals:?}");
}

#[test]
fn the_most_that_a_device_answers_is_found_by_bisection() {
    for limit in [1, 2, 7, 60, 64, 99, 124] {
        for too_large in [Refusal::Address, Refusal::Quantity, Refusal::Silence] {
            check_limit(limit, too_large, 1);
        }
    }
    check_limit(60, Refusal::Quantity, 2);
}

#[test]
fn a_size_that_is_refused_like_an_address_is_told_from_holes() {
    let (bench, refusals) =
        settled(Device { limit: 61, too_large: Refusal::Address, ..SOUND }, every(3, 600));
    assert_eq!((bench.learned.registers.good, bench.plans.len()), (61, 10));
    assert!(bench.learned.holes.is_empty());
    assert!(refusals.iter().sum::<usize>() <= 7 * 4, "{refusals:?}");
}

#[test]
fn the_gap_between_two_halves_that_are_answered_is_a_hole() {
    let spans = vec![hr(0, 10), hr(12, 2), hr(20, 10)];
    let (bench, refusals) = settled(Device { absent: vec![17], ..SOUND }, spans);
    assert_eq!((holes(&bench).as_str(), bench.plans.len()), ("14+6", 2));
    assert_eq!(refusals, [1]);
}

#[test]
fn holes_in_every_block_do_not_pass_for_a_limit() {
    let absent = (0..600).filter(|address| address % 50 == 49).collect();
    let mut spans: Vec<Span> = every(1, 600).into_iter().filter(|span| span.address % 50 < 40).collect();
    spans.extend((1000..1250).map(|address| hr(address, 1)));
    let (bench, refusals) = settled(Device { absent, ..SOUND }, spans);
    assert_eq!(bench.learned.limits(&bench.given).registers, 125);
    assert_eq!(bench.plans.len(), 12 + 2);
    assert!(refusals.len() <= 3, "{refusals:?}");
}

#[test]
fn touching_values_that_are_refused_only_together_have_a_border_between_them() {
    let (bench, _) = settled(Device { border: Some(40), ..SOUND }, every(1, 80));
    assert!(holes(&bench).split(' ').any(|hole| hole == "40+0"), "{}", holes(&bench));
    assert_eq!(bench.plans.len(), 2);
}

#[test]
fn a_value_that_is_not_there_is_refused_alone_until_it_is_answered() {
    let (mut bench, _) = settled(Device { absent: vec![5], ..SOUND }, every(1, 10));
    assert!(bench.learned.is_refused(hr(5, 1)) && !bench.learned.is_refused(hr(4, 1)));
    assert_eq!((holes(&bench).as_str(), bench.plans.len()), ("5+1", 3));
    bench.device = SOUND;
    bench.sweep();
    assert!(bench.learned.is_empty());
    assert_eq!(bench.plans.len(), 1);
}

#[test]
fn a_value_inside_one_that_is_refused_is_read() {
    let spans = vec![hr(0, 8), hr(2, 1), hr(4, 1), hr(10, 1)];
    let (bench, _) = settled(Device { absent: vec![7], ..SOUND }, spans);
    assert!(bench.learned.is_refused(hr(0, 8)) && !bench.learned.is_refused(hr(2, 1)));
}

#[test]
fn a_whole_block_is_never_split() {
    let given = Limits { whole_blocks: vec![hr(0, 10)], ..Limits::new(125, 2000) };
    let spans = [hr(2, 1), hr(4, 1)];
    let tags: Vec<(TagId, Span)> = (0..).map(TagId).zip(spans).collect();
    let blocks = plan(&tags, &given, Cost::network(NETWORK_LATENCY));
    let mut learned = Learned::default();
    let span_of = |tag: TagId| spans[tag.index()];
    assert_eq!(learned.refused(&blocks[0], Refusal::Address, &given, span_of, NOW), Refused::Alone);
    assert!(learned.is_refused(hr(0, 10)));
    let again = plan(&tags, &learned.limits(&given), Cost::network(NETWORK_LATENCY));
    assert_eq!(again, blocks);
}

#[test]
fn bits_and_registers_have_limits_of_their_own() {
    let coil = |address| Span { area: Area::Coils, address, count: 1 };
    let mut spans: Vec<Span> = (0..100).map(coil).collect();
    spans.extend(every(1, 50));
    let (bench, _) = settled(Device { limit: 70, ..SOUND }, spans);
    let limits = bench.learned.limits(&bench.given);
    assert_eq!((limits.registers, limits.bits), (125, 70));
}

#[test]
fn what_was_refused_in_passing_is_corrected_by_answers() {
    let mut learned = Learned::default();
    let spans = every(1, 2);
    let tags: Vec<(TagId, Span)> = (0..).map(TagId).zip(spans.clone()).collect();
    let given = Limits::new(125, 2000);
    let block = plan(&tags, &given, Cost::network(NETWORK_LATENCY)).remove(0);
    let span_of = |tag: TagId| spans[tag.index()];
    assert!(matches!(learned.refused(&block, Refusal::Address, &given, span_of, NOW), Refused::Halves(_, _)));
    learned.answered(hr(0, 1));
    assert!(!learned.take_changed());
    learned.answered(hr(1, 1));
    assert!(learned.take_changed());
    assert_eq!(learned.limits(&given).registers, 1);
    learned.answered(hr(100, 60));
    assert!(learned.take_changed());
    assert_eq!(learned.limits(&given).registers, 125);
}

#[test]
fn a_hole_that_is_read_across_after_all_was_a_size() {
    let spans = [hr(0, 1), hr(50, 20)];
    let tags: Vec<(TagId, Span)> = (0..).map(TagId).zip(spans).collect();
    let given = Limits::new(125, 2000);
    let block = plan(&tags, &given, Cost::network(NETWORK_LATENCY)).remove(0);
    let mut learned = Learned::default();
    learned.refused(&block, Refusal::Address, &given, |tag| spans[tag.index()], NOW);
    spans.iter().for_each(|span| learned.answered(*span));
    assert_eq!(learned.limits(&given).holes, [hr(1, 49)]);
    learned.answered(hr(10, 20));
    assert_eq!(learned.limits(&given).holes, [hr(1, 9), hr(30, 20)]);
    learned.answered(hr(0, 60));
    assert_eq!(learned.limits(&given), Limits::new(65, 2000));
}

#[test]
fn one_small_refusal_does_not_keep_all_blocks_small() {
    let device = Device { absent: vec![1], not_there: Refusal::Quantity, ..SOUND };
    let mut spans = vec![hr(0, 1), hr(2, 1)];
    spans.extend((200..320).map(|address| hr(address, 1)));
    let (bench, refusals) = settled(device, spans);
    assert_eq!((holes(&bench).as_str(), bench.plans.len()), ("1+1", 3));
    assert_eq!(refusals, [1, 1]);
}

#[test]
fn an_answer_that_the_line_lost_teaches_nothing() {
    let spans = every(1, 4);
    let mut bench = Bench::new(SOUND, Limits::new(125, 2000), spans.clone(), 1);
    bench.sweep();
    let span_of = |tag: TagId| spans[tag.index()];
    let mut queue = bench.plans.clone();
    while let Some(block) = queue.pop() {
        if let Refused::Halves(first, second) =
            bench.learned.refused(&block, Refusal::Silence, &bench.given, span_of, NOW)
        {
            queue.extend([first, second]);
        }
    }
    spans.iter().for_each(|span| bench.learned.answered(*span));
    assert!(bench.learned.is_empty() && !bench.learned.take_changed());
    let block = bench.plans[0].clone();
    bench.learned.refused(&block, Refusal::Address, &bench.given, span_of, NOW);
    assert_eq!(bench.learned.trials.len(), 1);
}

#[test]
fn all_that_is_kept_is_bounded() {
    let mut learned = Learned::default();
    let given = Limits::new(125, 2000);
    let part = |tag, offset| crate::scan::Part { tag: TagId(tag), offset };
    for address in 0..2000u16 {
        let alone = Block { span: hr(address * 4, 1), parts: [part(0, 0)].into() };
        let pair = Block { span: hr(address * 4, 3), parts: [part(0, 0), part(1, 2)].into() };
        let span_of = |tag: TagId| hr(address * 4 + 2 * u16::try_from(tag.0).unwrap(), 1);
        learned.refused(&alone, Refusal::Silence, &given, span_of, NOW);
        learned.refused(&pair, Refusal::Silence, &given, span_of, NOW);
    }
    assert_eq!((learned.refused.len(), learned.trials.len()), (HOLES_MAX, TRIALS_MAX));
    (0..2000).for_each(|address| {
        learned.dig(Hole { span: hr(address, 1), block: 3, since: NOW, is_planned: true })
    });
    assert_eq!(learned.holes.len(), HOLES_MAX);
    (9000..11_000).for_each(|address| learned.answered(hr(address, 3)));
    assert!(learned.proven.len() <= PROVEN_MAX);
    learned.answered(hr(0, 1)); // leaves a border at either end
    assert_eq!(learned.holes.len(), HOLES_MAX);
}

#[test]
fn what_was_learned_a_day_ago_is_tried_anew() {
    let device = Device { absent: vec![5, 30], limit: 40, ..SOUND };
    let (mut bench, _) = settled(device, every(1, 100));
    let at = |millis: u64| Timestamp::from_millis(millis);
    assert!(!bench.learned.forget(at(NOW.millis() + DAY - 1), AGE));
    assert!(!bench.learned.is_empty() && !bench.learned.take_changed());
    assert!(bench.learned.forget(at(NOW.millis() + DAY), AGE));
    assert!(bench.learned.is_empty() && bench.learned.take_changed());
    assert!(!bench.learned.forget(at(NOW.millis() + DAY), AGE));

    bench.device = Device { limit: 20, ..SOUND };
    bench.plan();
    bench.settle();
    assert_eq!(bench.learned.limits(&bench.given).registers, 20);
    assert!(bench.learned.forget(at(NOW.millis().saturating_sub(2 * DAY) + 3 * DAY), AGE));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    /// The bound: each block of the last plan has cost at most one way down through the halves, and the bisection its
    /// seven steps. It is far from reached; 12 refusals are the mean.
    #[test]
    fn every_device_is_understood_after_a_few_sweeps_and_no_value_is_lost_meanwhile(
        device in some_device(), spans in some_map(), rates in 1usize..=2, is_eager: bool,
    ) {
        let mut bench = Bench { is_eager, ..Bench::new(device, Limits::new(125, 2000), spans, rates) };
        let refusals = bench.settle();
        let depth = usize::try_from(bench.spans.len().ilog2()).unwrap() + 1;
        let total: usize = refusals.iter().sum();
        prop_assert!(total <= bench.plans.len() * depth + 7, "{refusals:?}");

        let text = file::to_toml([("line1/3", &bench.learned)]);
        let (devices, faults) = file::from_toml(&text);
        prop_assert!(faults.is_empty(), "{faults:?}");
        let read = devices.get("line1/3").cloned().unwrap_or_default();
        prop_assert_eq!(read.limits(&bench.given), bench.learned.limits(&bench.given));
        prop_assert_eq!(read.registers.good, bench.learned.registers.good * u16::from(!bench.learned.is_empty()));
        prop_assert_eq!(file::to_toml([("line1/3", &read)]), text);
    }
}
