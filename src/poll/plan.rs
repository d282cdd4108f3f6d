//! From tags to blocks: the cheapest set of read requests that covers every tag. Pure.
//!
//! A block is one request: one area, at most so many registers. Reading over a gap between two tags costs registers,
//! a request of its own costs a round trip; the plan with the least sum is found by dynamic programming over the
//! sorted spans. A value is never split.

use std::sync::Arc;

use crate::config::site::SerialLine;
use crate::link::timing;
use crate::scan::Part;
use crate::tag::{Area, Span, TagId};

/// One read request and the tags in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// What is asked for.
    pub span: Span,
    /// Whose registers those are.
    pub parts: Arc<[Part]>,
}

/// The most that one request to a device may ask for.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of holding and input registers.
    pub registers: u16,
    /// Of coils and discrete inputs.
    pub bits: u16,
}

impl Limits {
    fn of(self, area: Area) -> u32 {
        u32::from(if area.is_bits() { self.bits } else { self.registers })
    }
}

/// What a request costs on a link, in any one unit.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Of a request and its answer, whatever they carry.
    request: u64,
    /// Of each byte that the answer carries.
    byte: u64,
}

/// The time that a device takes to answer, where nothing better is known: 5 ms.
const TURNAROUND_US: u64 = 5000;

impl Cost {
    /// Over TCP: a round trip and its work at both ends weigh more than the longest answer's bytes.
    pub const TCP: Cost = Cost { request: 1000, byte: 1 };

    /// On a serial line, in microseconds: 8 bytes of request, 5 of answer around the data, two silences.
    #[must_use]
    pub fn serial(line: &SerialLine) -> Cost {
        let micros = |duration: std::time::Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let byte = micros(timing::character(line));
        Cost { request: 13 * byte + 2 * micros(timing::frame_gap(line)) + TURNAROUND_US, byte }
    }

    fn of(self, area: Area, count: u32) -> u64 {
        let bytes = if area.is_bits() { count.div_ceil(8) } else { count * 2 };
        self.request + self.byte * u64::from(bytes)
    }
}

/// The cheapest blocks for `tags`, ordered by area and address; none for none.
#[must_use]
pub fn plan(tags: &[(TagId, Span)], limits: Limits, cost: Cost) -> Vec<Block> {
    let mut sorted = tags.to_vec();
    sorted.sort_by_key(|(tag, span)| (span.area, span.address, span.count, *tag));
    sorted
        .chunk_by(|(_, a), (_, b)| a.area == b.area)
        .flat_map(|tags| plan_area(tags, limits, cost))
        .collect()
}

/// A prefix of the sorted tags, covered as cheaply as can be.
#[derive(Clone, Copy)]
struct Best {
    cost: u64,
    /// Where the last block of it begins.
    from: usize,
}

fn plan_area(tags: &[(TagId, Span)], limits: Limits, cost: Cost) -> Vec<Block> {
    let mut best = vec![Best { cost: 0, from: 0 }];
    for end in 1..=tags.len() {
        best.push(cheapest_end(tags.get(..end).unwrap_or_default(), &best, limits, cost));
    }
    let mut blocks = Vec::new();
    let mut end = tags.len();
    while let Some(Best { from, .. }) = best.get(end).filter(|_| end > 0) {
        blocks.extend(tags.get(*from..end).and_then(block));
        end = *from;
    }
    blocks.reverse();
    blocks
}

/// The cheapest cover of `tags`, given the best of every shorter prefix.
fn cheapest_end(tags: &[(TagId, Span)], best: &[Best], limits: Limits, cost: Cost) -> Best {
    let mut cheapest = Best { cost: u64::MAX, from: tags.len().saturating_sub(1) };
    let mut last = 0;
    for (from, (_, span)) in tags.iter().enumerate().rev() {
        last = last.max(span.end());
        let count = last - u32::from(span.address);
        if count > limits.of(span.area) {
            break; // every earlier start is longer still
        }
        let before = best.get(from).map_or(u64::MAX, |best| best.cost);
        let total = before.saturating_add(cost.of(span.area, count));
        if total < cheapest.cost {
            cheapest = Best { cost: total, from };
        }
    }
    cheapest
}

/// `block` as two: cut at the widest stretch of registers that no tag needs, which is where a device's hole most likely
/// is, else nearest to the middle; never between values that share registers. `None` where it cannot be cut. `span_of` gives a tag's registers.
pub fn halves(whole: &Block, span_of: impl Fn(TagId) -> Span) -> Option<(Block, Block)> {
    let tags: Vec<(TagId, Span)> = whole.parts.iter().map(|part| (part.tag, span_of(part.tag))).collect();
    let mut end = 0;
    let mut cuts = Vec::new();
    for (index, (_, span)) in tags.iter().enumerate() {
        if let Some(gap) = u32::from(span.address).checked_sub(end).filter(|_| index > 0) {
            cuts.push((gap, index));
        }
        end = end.max(span.end());
    }
    let (_, cut) = cuts
        .into_iter()
        .max_by_key(|(gap, index)| (*gap, std::cmp::Reverse(index.abs_diff(tags.len() / 2))))?;
    let (first, second) = tags.split_at_checked(cut)?;
    Some((block(first)?, block(second)?))
}

/// The block that carries `tags`, which are sorted by address; `None` for none.
fn block(tags: &[(TagId, Span)]) -> Option<Block> {
    let (_, Span { area, address, .. }) = *tags.first()?;
    let end = tags.iter().map(|(_, span)| span.end()).max()?;
    let count = u16::try_from(end - u32::from(address)).ok()?;
    let parts = tags.iter().map(|(tag, span)| Part { tag: *tag, offset: span.address - address });
    Some(Block { span: Span { area, address, count }, parts: parts.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { registers: 125, bits: 2000 };
    const CHEAP_REQUESTS: Cost = Cost { request: 3, byte: 1 };

    /// `"0+2 9+1"` as spans of holding registers, or of coils after `coil:`.
    fn spans(text: &str) -> Vec<(TagId, Span)> {
        let one = |(index, word): (usize, &str)| {
            let (area, word) = match word.strip_prefix("coil:") {
                Some(rest) => (Area::Coils, rest),
                None => (Area::HoldingRegisters, word),
            };
            let (address, count) = word.split_once('+').unwrap();
            let span = Span { area, address: address.parse().unwrap(), count: count.parse().unwrap() };
            (TagId(u32::try_from(index).unwrap()), span)
        };
        text.split_whitespace().enumerate().map(one).collect()
    }

    #[track_caller]
    fn check(tags: &str, limits: Limits, cost: Cost, expected: &str) {
        let blocks = plan(&spans(tags), limits, cost);
        let shown: Vec<String> = blocks.iter().map(|block| block.span.to_string()).collect();
        assert_eq!(shown.join(" "), expected);
    }

    #[test]
    fn neighbours_share_a_request_and_far_tags_do_not() {
        check("", LIMITS, Cost::TCP, "");
        check("0+2 2+1 9+1", LIMITS, Cost::TCP, "hr:0+10");
        check("0+2 2+1 9+1", LIMITS, CHEAP_REQUESTS, "hr:0+3 hr:9");
        check("9+1 0+2 coil:3+1 2+1", LIMITS, CHEAP_REQUESTS, "coil:3 hr:0+3 hr:9");
        check("0+1 200+1", LIMITS, Cost::TCP, "hr:0 hr:200");
    }

    #[test]
    fn a_value_is_never_split_at_the_limit() {
        check("0+2 2+2 4+2", Limits { registers: 5, bits: 1 }, Cost::TCP, "hr:0+4 hr:4+2");
        check("65534+2", LIMITS, Cost::TCP, "hr:65534+2");
    }

    #[test]
    fn every_third_of_600_registers_takes_five_requests() {
        let tags: Vec<String> = (0..200).map(|index| format!("{}+1", 1000 + index * 3)).collect();
        assert_eq!(plan(&spans(&tags.join(" ")), LIMITS, Cost::TCP).len(), 5);
    }

    #[track_caller]
    fn check_halves(tags: &str, expected: &str) {
        let tags = spans(tags);
        let whole = block(&tags).unwrap();
        let shown = match halves(&whole, |tag| tags[tag.index()].1) {
            Some((first, second)) => format!("{} {}", first.span, second.span),
            None => String::new(),
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_refused_block_is_cut_at_its_widest_gap() {
        check_halves("0+1", "");
        check_halves("0+1 1+1 2+1 3+1", "hr:0+2 hr:2+2");
        check_halves("0+2 3+1 10+1 12+1", "hr:0+4 hr:10+3");
        check_halves("0+8 2+1 4+1", "");
        check_halves("0+8 2+1 4+1 8+1", "hr:0+8 hr:8");
    }

    /// The least cost over every way to cut `tags` into runs, tried one by one.
    fn brute_force(tags: &[(TagId, Span)], limits: Limits, cost: Cost) -> u64 {
        let mut least = u64::MAX;
        for cuts in 0u32..1 << (tags.len() - 1) {
            let mut total = 0u64;
            let mut from = 0;
            for end in 1..=tags.len() {
                if end == tags.len() || cuts & (1 << (end - 1)) != 0 {
                    let span = block(&tags[from..end]).unwrap().span;
                    let is_legal = u32::from(span.count) <= limits.of(span.area);
                    total = total.saturating_add(if is_legal {
                        cost.of(span.area, span.count.into())
                    } else {
                        u64::MAX
                    });
                    from = end;
                }
            }
            least = least.min(total);
        }
        least
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn the_plan_covers_every_tag_once_within_the_limits_at_the_least_cost(
            spans in prop::collection::vec((0u16..60, 1u16..=4), 1..9),
            registers in 4u16..30, request in 1u64..40,
        ) {
            let mut tags: Vec<(TagId, Span)> = (0..).map(TagId).zip(spans.iter().map(|&(address, count)| {
                Span { area: Area::InputRegisters, address, count }
            })).collect();
            let limits = Limits { registers, bits: 2000 };
            let cost = Cost { request, byte: 1 };
            let blocks = plan(&tags, limits, cost);
            let mut seen: Vec<TagId> = Vec::new();
            for block in &blocks {
                prop_assert!(block.span.count <= registers);
                for part in block.parts.iter() {
                    let (_, span) = tags[part.tag.index()];
                    prop_assert_eq!(span.address, block.span.address + part.offset);
                    prop_assert!(span.end() <= block.span.end());
                    seen.push(part.tag);
                }
            }
            seen.sort();
            prop_assert_eq!(seen, tags.iter().map(|(tag, _)| *tag).collect::<Vec<_>>());
            tags.sort_by_key(|(tag, span)| (span.area, span.address, span.count, *tag));
            let total: u64 = blocks.iter().map(|block| cost.of(block.span.area, block.span.count.into())).sum();
            prop_assert_eq!(total, brute_force(&tags, limits, cost));
        }
    }
}
