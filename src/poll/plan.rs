//! From tags to blocks: the cheapest set of read requests that covers every tag. Pure.
//!
//! A block is one request: one area, at most so many registers. Reading over a gap between two tags costs registers,
//! a request of its own costs a round trip; the plan with the least sum is found by dynamic programming over the
//! sorted spans. A value is never split.
//!
//! Why runs of neighbours suffice: whatever a device allows for a span it allows for every part of it, and a part is
//! never dearer. So of two blocks that overlap, the second may take every value that begins inside both, and
//! of two spans of which one lies inside the other, the inner one is read with the outer one at no cost.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use crate::config::site::{Device, Framing, SerialLine};
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

/// What one request to a device may ask for.
///
/// A tag that cannot obey (longer than the limit, across a border, over a hole, or partly in a whole block) is asked
/// for by itself, so that the device refuses nothing else with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most holding or input registers, 1 to 125.
    pub registers: u16,
    /// The most coils or discrete inputs, 1 to 2000.
    pub bits: u16,
    /// No request for holding or input registers crosses a multiple of this.
    pub no_cross: Option<NonZeroU16>,
    /// Asked for exactly so, or not at all: every tag inside one is read by it, no other block overlaps it. They may be
    /// longer than the limit, and holes do not count in them.
    pub whole_blocks: Vec<Span>,
    /// Never read. A hole of count 0 is a border before its address, which no block crosses.
    pub holes: Vec<Span>,
}

impl Limits {
    /// At most so many registers or bits, and no other rule.
    #[must_use]
    pub const fn new(registers: u16, bits: u16) -> Limits {
        Limits { registers, bits, no_cross: None, whole_blocks: Vec::new(), holes: Vec::new() }
    }

    /// What is said of a device; an item of a meter, or an instrument's request, is asked for by itself.
    #[must_use]
    pub fn of(device: &Device) -> Limits {
        let quirks = &device.quirks;
        Limits {
            registers: if device.protocol.is_modbus() { device.max_registers } else { 1 },
            bits: device.max_bits,
            no_cross: quirks.no_cross,
            whole_blocks: quirks.whole_blocks.clone(),
            holes: quirks.holes.clone(),
        }
    }

    /// Whether `span` is one of the blocks that are asked for exactly so.
    #[must_use]
    pub fn is_whole(&self, span: Span) -> bool {
        self.whole_blocks.contains(&span)
    }
}

/// The time that a device on a serial line takes to answer, where nothing better is known: a silence, and some thinking.
pub const SERIAL_LATENCY: Duration = Duration::from_millis(7);
/// The round trip to a device on a network, where nothing better is known.
pub const NETWORK_LATENCY: Duration = Duration::from_millis(3);
/// Over a network a request costs so many bytes: more than the longest answer has.
const NETWORK_BYTES: u64 = 1000;

/// A price in nanoseconds is no more than this, 18 minutes: so a request over a whole area, the dearest, is still a `u64`.
const PRICE_MAX: u64 = 1 << 40;

/// What a request costs on a link, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Of a request and its answer, whatever they carry.
    request: u64,
    /// Of each byte that the answer carries.
    byte: u64,
}

impl Cost {
    /// So much a request, and so much each register in its answer; a byte costs half a register.
    #[must_use]
    pub fn new(request: Duration, register: Duration) -> Cost {
        Cost { request: nanoseconds(request), byte: nanoseconds(register) / 2 }
    }

    /// On a network, where a round trip takes `latency`.
    #[must_use]
    pub fn network(latency: Duration) -> Cost {
        let request = nanoseconds(latency).max(NETWORK_BYTES);
        Cost { request, byte: request / NETWORK_BYTES }
    }

    /// On a serial line, where the device takes `latency` to answer: from the end of the request to the beginning of the
    /// answer, so the silence by which it knows the end of an RTU request is in it.
    ///
    /// RTU: 8 bytes of request, 5 of answer around the data, and the silence after that. ASCII: 17 characters of
    /// request, 11 of answer around the data, two for each byte of it (Modbus over Serial Line V1.02, 2.5).
    #[must_use]
    pub fn serial(line: &SerialLine, framing: Framing, latency: Duration) -> Cost {
        let character = nanoseconds(timing::character(line));
        let latency = nanoseconds(latency);
        match framing {
            Framing::Ascii => Cost { request: 28 * character + latency, byte: 2 * character },
            Framing::Rtu | Framing::Tcp => {
                let silence = nanoseconds(timing::frame_gap(line));
                Cost { request: 13 * character + silence + latency, byte: character }
            }
        }
    }

    /// What it costs to ask for `span`.
    #[must_use]
    pub fn of(self, span: Span) -> u64 {
        self.of_count(span.area, span.count.into())
    }

    fn of_count(self, area: Area, count: u32) -> u64 {
        let bytes = if area.is_bits() { count.div_ceil(8) } else { count * 2 };
        self.request + self.byte * u64::from(bytes)
    }
}

/// At most [`PRICE_MAX`].
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(PRICE_MAX).min(PRICE_MAX)
}

/// The cheapest blocks for `tags`, ordered by area and address; none for none.
#[must_use]
pub fn plan(tags: &[(TagId, Span)], limits: &Limits, cost: Cost) -> Vec<Block> {
    let mut sorted = tags.to_vec();
    sorted.sort_unstable_by_key(|(tag, span)| (*span, *tag));
    sorted
        .chunk_by(|(_, a), (_, b)| a.area == b.area)
        .flat_map(|tags| plan_area(tags, limits, cost))
        .collect()
}

/// The blocks for `tags`, which are sorted and of one area.
fn plan_area(tags: &[(TagId, Span)], limits: &Limits, cost: Cost) -> Vec<Block> {
    let Some((_, Span { area, .. })) = tags.first() else { return Vec::new() };
    let rules = Rules::new(*area, limits);
    let mut whole = vec![Vec::new(); rules.whole_blocks.len()];
    let mut alone = Vec::new();
    let mut free = Vec::new();
    for &(tag, span) in tags {
        let holder = rules.whole_blocks.iter().position(|block| contains(*block, span));
        match holder.and_then(|index| whole.get_mut(index)) {
            Some(whole) => whole.push((tag, span)),
            None if rules.allow(span) => free.push((tag, span)),
            None => alone.push((tag, span)),
        }
    }
    let whole = rules.whole_blocks.iter().zip(&whole).filter(|(_, tags)| !tags.is_empty());
    let mut blocks: Vec<Block> = whole.map(|(span, tags)| block_over(*span, tags)).collect();
    // what shares a span is refused or answered as one
    blocks.extend(alone.chunk_by(|(_, a), (_, b)| a == b).filter_map(block));
    blocks.extend(cheapest(&free, &rules, cost));
    blocks.sort_by_key(|block| block.span);
    blocks
}

/// What holds for one area.
struct Rules {
    limit: u32,
    no_cross: Option<u32>,
    whole_blocks: Vec<Span>,
    /// What no free block overlaps: the first address of each, ascending, and the end of all up to it.
    barriers: Vec<(u32, u32)>,
}

impl Rules {
    fn new(area: Area, limits: &Limits) -> Rules {
        let of_area = |spans: &[Span]| -> Vec<Span> {
            spans.iter().copied().filter(|span| span.area == area).collect()
        };
        let whole_blocks = of_area(&limits.whole_blocks);
        let mut spans = of_area(&limits.holes);
        spans.extend(&whole_blocks);
        spans.sort_unstable();
        let mut end = 0;
        let barriers = spans.iter().map(|span| {
            end = span.end().max(end);
            (u32::from(span.address), end)
        });
        let barriers = barriers.collect();
        let limit = if area.is_bits() { limits.bits } else { limits.registers };
        let no_cross = limits.no_cross.filter(|_| !area.is_bits()).map(|border| u32::from(border.get()));
        Rules { limit: limit.into(), no_cross, whole_blocks, barriers }
    }

    /// The lowest address at which a block may begin that ends before `end`, which is at least 1.
    fn floor(&self, end: u32) -> u32 {
        let border = self.no_cross.map_or(0, |every| (end - 1) / every * every);
        let before = self.barriers.partition_point(|(address, _)| *address < end);
        let barrier = before.checked_sub(1).and_then(|index| self.barriers.get(index));
        end.saturating_sub(self.limit).max(border).max(barrier.map_or(0, |(_, end)| *end))
    }

    /// Whether `span` may be a block.
    fn allow(&self, span: Span) -> bool {
        self.floor(span.end()) <= span.address.into()
    }
}

/// Whether every register of `inner` is one of `outer`.
#[must_use]
pub fn contains(outer: Span, inner: Span) -> bool {
    outer.area == inner.area && outer.address <= inner.address && inner.end() <= outer.end()
}

/// The cheapest blocks for `tags`, each of which may be a block by itself.
fn cheapest(tags: &[(TagId, Span)], rules: &Rules, cost: Cost) -> Vec<Block> {
    let mut tags = tags;
    let mut blocks = Vec::new();
    let mut runs = cheapest_runs(&outermost(tags), rules, cost).into_iter().peekable();
    while let Some(run) = runs.next() {
        let next = runs.peek().map_or(u32::MAX, |next| next.address.into());
        let (inside, rest) = tags.split_at(tags.partition_point(|(_, span)| u32::from(span.address) < next));
        blocks.push(block_over(run, inside));
        tags = rest;
    }
    blocks
}

/// The spans of `tags` but for those that lie inside another: address and end both rise.
fn outermost(tags: &[(TagId, Span)]) -> Vec<Span> {
    let mut outer: Vec<Span> = Vec::new();
    for &(_, span) in tags {
        outer.pop_if(|last| last.address == span.address); // the shorter comes first
        if outer.last().is_none_or(|last| last.end() < span.end()) {
            outer.push(span);
        }
    }
    outer
}

/// The best cover of the spans up to one of them.
struct Best {
    cost: u64,
    /// The last block of it.
    last: Span,
    /// How many spans come before that block.
    before: usize,
}

/// What to ask for to have all of `spans`, whose addresses and ends rise; ascending.
fn cheapest_runs(spans: &[Span], rules: &Rules, cost: Cost) -> Vec<Span> {
    let mut bests: Vec<Best> = Vec::with_capacity(spans.len());
    // for each span what all before it cost, beside where a block begins that has it first: read over and over
    let mut starts: Vec<(u64, u32)> = Vec::with_capacity(spans.len());
    let mut low = 0;
    for span in spans {
        starts.push((bests.last().map_or(0, |best| best.cost), span.address.into()));
        let (end, floor) = (span.end(), rules.floor(span.end()));
        low += starts.iter().skip(low).take_while(|(_, address)| *address < floor).count();
        let totals = starts.iter().enumerate().skip(low).rev().map(|(from, (before, address))| {
            (before.saturating_add(cost.of_count(span.area, end - address)), from)
        });
        // there is one: the span may be a block by itself
        let Some((total, before)) = totals.min_by_key(|(total, _)| *total) else { continue };
        let address = spans.get(before).map_or(span.address, |first| first.address);
        let count = u16::try_from(end - u32::from(address)).unwrap_or(span.count);
        bests.push(Best { cost: total, last: Span { address, count, ..*span }, before });
    }
    let mut runs = Vec::new();
    while let Some(best) = bests.pop() {
        runs.push(best.last);
        bests.truncate(best.before);
    }
    runs.reverse();
    runs
}

/// `whole` as two, each tag in one of them; `None` where all its tags have the same span.
///
/// It is cut at the widest stretch of registers that no tag needs, which is where a device's hole most likely is, else
/// nearest to the middle. Where values overlap so that every cut would split one, the first of them is one half and
/// all others are the other. `span_of` gives a tag's registers.
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
    let widest =
        cuts.into_iter().max_by_key(|(gap, index)| (*gap, std::cmp::Reverse(index.abs_diff(tags.len() / 2))));
    let same = tags.chunk_by(|(_, a), (_, b)| a == b).next().map_or(0, <[_]>::len);
    let (first, second) = tags.split_at_checked(widest.map_or(same, |(_, index)| index))?;
    Some((block(first)?, block(second)?))
}

/// The block that carries `tags`, which are sorted by address; `None` for none.
fn block(tags: &[(TagId, Span)]) -> Option<Block> {
    let (_, Span { area, address, .. }) = *tags.first()?;
    let end = tags.iter().map(|(_, span)| span.end()).max()?;
    let count = u16::try_from(end - u32::from(address)).ok()?;
    Some(block_over(Span { area, address, count }, tags))
}

/// The block over `span`, which has all of `tags` inside.
fn block_over(span: Span, tags: &[(TagId, Span)]) -> Block {
    let parts = tags.iter().map(|(tag, inner)| Part { tag: *tag, offset: inner.address - span.address });
    Block { span, parts: parts.collect() }
}

#[cfg(test)]
mod tests;
