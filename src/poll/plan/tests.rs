use super::*;
use crate::config::site::Parity;
use proptest::prelude::*;

const LIMITS: Limits = Limits::new(125, 2000);
const CHEAP_REQUESTS: Cost = Cost { request: 3, byte: 1 };

fn network() -> Cost {
    Cost::network(NETWORK_LATENCY)
}

/// `"hr:0+2"`; `hr:` and `+1` may be left out.
fn span(word: &str) -> Span {
    let areas = [Area::Coils, Area::DiscreteInputs, Area::HoldingRegisters, Area::InputRegisters];
    let (prefix, rest) = word.split_once(':').unwrap_or(("hr", word));
    let (address, count) = rest.split_once('+').unwrap_or((rest, "1"));
    let area = areas.into_iter().find(|area| area.prefix() == prefix).unwrap();
    Span { area, address: address.parse().unwrap(), count: count.parse().unwrap() }
}

/// Words of [`span`]; `x8` after one makes it eight neighbours.
fn spans(text: &str) -> Vec<Span> {
    let many = |word: &str| {
        let (word, times) = word.split_once('x').unwrap_or((word, "1"));
        let first = span(word);
        let nth = move |index| Span { address: first.address + index * first.count, ..first };
        (0..times.parse().unwrap()).map(nth)
    };
    text.split_whitespace().flat_map(many).collect()
}

fn tags(spans: &[Span]) -> Vec<(TagId, Span)> {
    (0..).map(TagId).zip(spans.iter().copied()).collect()
}

/// `hr:0+3[0,2]`: the block and the offset of each of its tags.
fn shown(blocks: &[Block]) -> String {
    let offsets =
        |block: &Block| -> Vec<String> { block.parts.iter().map(|part| part.offset.to_string()).collect() };
    let words: Vec<String> =
        blocks.iter().map(|block| format!("{}[{}]", block.span, offsets(block).join(","))).collect();
    words.join(" ")
}

#[track_caller]
fn check(text: &str, limits: &Limits, cost: Cost, expected: &str) {
    assert_eq!(shown(&plan(&tags(&spans(text)), limits, cost)), expected);
}

#[test]
fn neighbours_share_a_request_and_far_tags_do_not() {
    check("", &LIMITS, network(), "");
    check("0+2 2 9", &LIMITS, network(), "hr:0+10[0,2,9]");
    check("0+2 2 9", &LIMITS, CHEAP_REQUESTS, "hr:0+3[0,2] hr:9[0]");
    check("9 0+2 coil:3 2", &LIMITS, CHEAP_REQUESTS, "coil:3[0] hr:0+3[0,2] hr:9[0]");
    check("0 200", &LIMITS, network(), "hr:0[0] hr:200[0]");
}

#[test]
fn a_value_is_never_split_at_the_limit() {
    check("0+2 2+2 4+2", &Limits::new(5, 1), network(), "hr:0+4[0,2] hr:4+2[0]");
    check("65534+2", &LIMITS, network(), "hr:65534+2[0]");
    check("coil:0+1x2001", &LIMITS, network(), &{
        let offsets: Vec<String> = (0..2000).map(|offset| offset.to_string()).collect();
        format!("coil:0+2000[{}] coil:2000[0]", offsets.join(","))
    });
}

#[test]
fn values_that_share_registers_are_read_together() {
    check("5 5 5+2 4+4 8", &LIMITS, CHEAP_REQUESTS, "hr:4+5[0,1,1,1,4]");
    check("0+4 2+4 4+4", &Limits::new(6, 1), network(), "hr:0+6[0,2] hr:4+4[0]");
}

#[test]
fn no_request_for_registers_crosses_a_border() {
    let limits = Limits { no_cross: NonZeroU16::new(10), ..LIMITS };
    check("0 9 10 19 30 31", &limits, network(), "hr:0+10[0,9] hr:10+10[0,9] hr:30+2[0,1]");
    check("8 9+2 11", &limits, network(), "hr:8[0] hr:9+2[0] hr:11[0]");
    check("coil:9 coil:10 65535", &limits, network(), "coil:9+2[0,1] hr:65535[0]");
}

#[test]
fn a_whole_block_is_asked_for_exactly_so() {
    let limits = Limits { whole_blocks: spans("10+200 ir:5+2"), ..LIMITS };
    check("9 12 209 210", &limits, network(), "hr:9[0] hr:10+200[2,199] hr:210[0]");
    check("9 210", &limits, network(), "hr:9[0] hr:210[0]");
    check("8 9+2 12", &limits, network(), "hr:8[0] hr:9+2[0] hr:10+200[2]");
    check("5 6", &limits, network(), "hr:5+2[0,1]");
}

#[test]
fn no_block_overlaps_a_hole() {
    let limits = Limits { holes: spans("10+5 12 20+1 coil:3"), ..LIMITS };
    check("0 9 15 19 21", &limits, network(), "hr:0+10[0,9] hr:15+5[0,4] hr:21[0]");
    check("9 14+2 12 12 16", &limits, network(), "hr:9[0] hr:12[0,0] hr:14+2[0] hr:16[0]");
    let border = Span { count: 0, ..span("12") };
    let limits = Limits { holes: vec![border], ..LIMITS };
    check("10 11 12 13", &limits, network(), "hr:10+2[0,1] hr:12+2[0,1]");
    check("10 11+2 13", &limits, network(), "hr:10[0] hr:11+2[0] hr:13[0]");
}

#[test]
fn every_third_of_600_registers_takes_five_requests() {
    let spans: Vec<Span> = (0..200).map(|index| Span { address: 1000 + index * 3, ..span("0") }).collect();
    assert_eq!(plan(&tags(&spans), &LIMITS, network()).len(), 5);
}

#[test]
fn a_request_costs_what_its_bytes_take_on_the_line() {
    let line = SerialLine { baud: 9600, data_bits: 8, parity: Parity::Even, stop_bits: 1 };
    let (character, gap, latency) = (1_145_833, 4_010_416, Duration::from_millis(5));
    let rtu = Cost::serial(&line, Framing::Rtu, latency);
    assert_eq!(rtu.of(span("0+2")), 5_000_000 + gap + (8 + 9) * character);
    assert_eq!(rtu.of(span("coil:0+9")), 5_000_000 + gap + (8 + 7) * character);
    let ascii = Cost::serial(&line, Framing::Ascii, latency);
    assert_eq!(ascii.of(span("0+2")), 5_000_000 + (17 + 19) * character);
    assert_eq!(network().of(span("0+100")), 3_600_000);
    assert!(Cost::network(Duration::ZERO).of(span("0+2")) > Cost::network(Duration::ZERO).of(span("0")));
    assert!(Cost::network(Duration::MAX).of(span("0+125")) < u64::MAX / 100);
}

/// 52 values of an Eastron SDM630, 22 of a Janitza UMG, 80 of a controller with scattered words and pairs.
const MAPS: [(&str, &str); 3] = [
    ("sdm630", "0+2x18 52+2 56+2 60+2x2 66+2 70+2x5 234+2x3 248+2 342+2x20"),
    ("janitza", "19000+2x3 19012+2x3 19020+2x4 19044+2x4 19062+2x8"),
    (
        "plc",
        "0 1+2 3x2 5+2 7 8+2 16x2 24x2 26+2 34x3 43 44+2 47+2 49x2 51+2x4 65 86+2 108 110x2 112+2 115+2 137 \
         158x2 166 169 190+2 192 195 198+2 220+2 242x2 264x2 286 293 294+2 298 299+2 301 303 304+2 312+2 314 \
         335+2 338 345+2 348+2 352+2 354x4 378+2 380 382 383+2 387+2 391 392+2 400+2 408+2x2 418x2 420+2 422 \
         425+2 427",
    ),
];

/// Bus time of one sweep, in hundredths of a millisecond, with the requests and registers of the cheapest plan.
#[track_caller]
fn check_map(map: usize, request_ns: u64, register_ns: u64, requests: usize, registers: u32, time: u64) {
    let (name, text) = MAPS[map];
    let cost = Cost::new(Duration::from_nanos(request_ns), Duration::from_nanos(register_ns));
    let blocks = plan(&tags(&spans(text)), &LIMITS, cost);
    let read: u32 = blocks.iter().map(|block| u32::from(block.span.count)).sum();
    let total: u64 = blocks.iter().map(|block| cost.of(block.span)).sum();
    assert_eq!((blocks.len(), read, (total + 5000) / 10_000), (requests, registers, time), "{name}");
}

#[test]
fn known_maps_cost_the_least_that_is_known() {
    for (map, count) in [52, 22, 80].into_iter().enumerate() {
        assert_eq!(spans(MAPS[map].1).len(), count);
    }
    // RTU at 9600 baud, 20 ms to answer; RTU at 115200 baud, 5 ms; TCP, 3 ms
    check_map(0, 40_833_300, 2_083_300, 3, 136, 40583);
    check_map(0, 9_628_500, 173_600, 3, 136, 5250);
    check_map(0, 3_050_000, 2_000, 3, 136, 942);
    check_map(1, 40_833_300, 2_083_300, 1, 78, 20333);
    check_map(1, 9_628_500, 173_600, 1, 78, 2317);
    check_map(1, 3_050_000, 2_000, 1, 78, 321);
    check_map(2, 40_833_300, 2_083_300, 12, 208, 92333);
    check_map(2, 9_628_500, 173_600, 4, 368, 10240);
    check_map(2, 3_050_000, 2_000, 4, 368, 1294);
}

#[track_caller]
fn check_halves(text: &str, expected: &str) {
    let tags = tags(&spans(text));
    let whole = block(&tags).unwrap();
    let cut = halves(&whole, |tag| tags[tag.index()].1);
    assert_eq!(cut.map_or(String::new(), |(first, second)| shown(&[first, second])), expected);
}

#[test]
fn a_refused_block_is_cut_at_its_widest_gap() {
    check_halves("0", "");
    check_halves("0+2 0+2 0+2", "");
    check_halves("0 1 2 3", "hr:0+2[0,1] hr:2+2[0,1]");
    check_halves("0+2 3 10 12", "hr:0+4[0,3] hr:10+3[0,2]");
    check_halves("0+8 2 4 8", "hr:0+8[0,2,4] hr:8[0]");
}

#[test]
fn values_that_overlap_come_apart_one_by_one() {
    check_halves("0+8 2 4", "hr:0+8[0] hr:2+3[0,2]");
    check_halves("0+2 0+2 0+8", "hr:0+2[0,0] hr:0+8[0]");
    check_halves("0+3 2+6 7+3", "hr:0+3[0] hr:2+8[0,5]");
}

/// The rules once more, register by register.
mod brute {
    use super::*;

    fn registers(span: Span) -> impl Iterator<Item = (Area, u32)> {
        (u32::from(span.address)..span.end()).map(move |address| (span.area, address))
    }

    fn overlap(a: Span, b: Span) -> bool {
        registers(a).any(|register| registers(b).any(|other| register == other))
    }

    pub(super) fn is_inside(inner: Span, outer: Span) -> bool {
        registers(inner).all(|register| registers(outer).any(|other| register == other))
    }

    pub(super) fn may_be_asked(span: Span, limits: &Limits) -> bool {
        let limit = if span.area.is_bits() { limits.bits } else { limits.registers };
        let crosses = |border: NonZeroU16| {
            let border = u32::from(border.get());
            !span.area.is_bits() && registers(span).skip(1).any(|(_, address)| address % border == 0)
        };
        span.count <= limit
            && !limits.no_cross.is_some_and(crosses)
            && !limits.holes.iter().chain(&limits.whole_blocks).any(|barrier| overlap(*barrier, span))
    }

    /// The least cost over every way to put `spans` into groups: each goes into every group there is, and into a new
    /// one.
    pub(super) fn least(spans: &[Span], groups: &mut Vec<Span>, limits: &Limits, cost: Cost) -> u64 {
        let Some((next, rest)) = spans.split_first() else {
            return groups.iter().map(|group| cost.of(*group)).sum();
        };
        let mut least = u64::MAX;
        for index in 0..groups.len() {
            let group = groups[index];
            let address = group.address.min(next.address);
            let count = u16::try_from(group.end().max(next.end()) - u32::from(address)).unwrap();
            let joined = Span { address, count, ..group };
            if group.area == next.area && may_be_asked(joined, limits) {
                groups[index] = joined;
                least = least.min(self::least(rest, groups, limits, cost));
                groups[index] = group;
            }
        }
        groups.push(*next);
        least = least.min(self::least(rest, groups, limits, cost));
        groups.pop();
        least
    }

    /// The least cost of all: whole blocks and tags that cannot obey have but one way.
    pub(super) fn least_of_all(spans: &[Span], limits: &Limits, cost: Cost) -> u64 {
        let holder = |span: Span| limits.whole_blocks.iter().copied().find(|block| is_inside(span, *block));
        let mut fixed: Vec<Span> = Vec::new();
        let mut free = Vec::new();
        for &span in spans {
            match holder(span) {
                None if may_be_asked(span, limits) => free.push(span),
                holder => fixed.push(holder.unwrap_or(span)),
            }
        }
        fixed.sort();
        fixed.dedup();
        let fixed: u64 = fixed.iter().map(|span| cost.of(*span)).sum();
        fixed + least(&free, &mut Vec::new(), limits, cost)
    }
}

fn some_spans(address: u16, count: u16, most: usize) -> impl Strategy<Value = Vec<Span>> {
    let areas = prop::sample::select(vec![
        Area::InputRegisters,
        Area::InputRegisters,
        Area::HoldingRegisters,
        Area::DiscreteInputs,
    ]);
    let one = (areas, 0..address, 1..=count).prop_map(|(area, address, count)| Span { area, address, count });
    prop::collection::vec(one, 0..=most)
}

/// One in three of them without the rule, so that rules are tried alone as well as together.
fn some_limits() -> impl Strategy<Value = Limits> {
    let few = |count: u16, most: usize| prop_oneof![1 => Just(Vec::new()), 2 => some_spans(60, count, most)];
    (4u16..30, 1u16..40, prop_oneof![Just(0u16), 0u16..20], few(8, 3), few(3, 4)).prop_map(
        |(registers, bits, no_cross, whole, holes)| {
            // the configuration has no whole blocks that overlap each other
            let mut whole_blocks: Vec<Span> = Vec::new();
            for span in whole {
                let apart = |other: &Span| {
                    other.area != span.area
                        || other.end() <= span.address.into()
                        || span.end() <= other.address.into()
                };
                if whole_blocks.iter().all(apart) {
                    whole_blocks.push(span);
                }
            }
            Limits { registers, bits, no_cross: NonZeroU16::new(no_cross), whole_blocks, holes }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6000))]
    #[test]
    fn the_plan_covers_every_tag_once_within_the_rules_at_the_least_cost(
        spans in some_spans(60, 4, 7), limits in some_limits(), request in 1u64..40, byte in 1u64..4,
    ) {
        let tags = tags(&spans);
        let cost = Cost { request, byte };
        let blocks = plan(&tags, &limits, cost);
        let mut seen: Vec<TagId> = Vec::new();
        for block in &blocks {
            let is_alone = block.parts.iter().all(|part| tags[part.tag.index()].1 == block.span);
            let is_whole = limits.whole_blocks.contains(&block.span);
            prop_assert!(is_alone || is_whole || brute::may_be_asked(block.span, &limits), "{}", block.span);
            for part in block.parts.iter() {
                let (_, span) = tags[part.tag.index()];
                prop_assert!(brute::is_inside(span, block.span));
                prop_assert_eq!(span.address, block.span.address + part.offset);
                seen.push(part.tag);
            }
        }
        seen.sort();
        prop_assert_eq!(seen, tags.iter().map(|(tag, _)| *tag).collect::<Vec<_>>());
        prop_assert!(blocks.is_sorted_by_key(|block| block.span));
        let total: u64 = blocks.iter().map(|block| cost.of(block.span)).sum();
        prop_assert_eq!(total, brute::least_of_all(&spans, &limits, cost));
    }
}
