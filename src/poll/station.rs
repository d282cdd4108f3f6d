//! One device on a bus: which of its tags are due, in which requests, and what each end of a request means. Pure.
//!
//! Tags with the same rate are a group. Groups that are due at the same moment are read in one *sweep*: the cheapest
//! requests for all of their tags together, so that groups share blocks and no tag is read oftener than it was asked for.

mod models;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::health::{Health, PROBE_MAX};
use super::latency::Latency;
use super::learned::{self, Learned, Refusal, Refused};
use super::plan::{self, Block, Cost, Limits};
use crate::config::site::serial::{Mode, Request};
use crate::config::site::{Device, DeviceProtocol, Endpoint, Link, Tag};
use crate::dlt645::{Format, Identifier};
use crate::driver::dlt645::read::Read;
use crate::driver::exchange::Exchange;
use crate::driver::serial;
use crate::driver::serial::ask::Listener;
use crate::reading::Timestamp;
use crate::scan::Part;
use crate::tag::{Span, TagId};
use models::Modelled;

/// How often a tag that the device refuses is asked for all the same.
const REFUSED_RETRY: Duration = Duration::from_secs(60);
/// A block that the device is silent about, where it answers others, is left out for so long.
const HUSH: Duration = PROBE_MAX;
/// A probe yields to what is due within this time of it.
const PROBE_SLACK: Duration = Duration::from_secs(1);
/// A device that was not asked for so long may miss the first request.
const IDLE: Duration = Duration::from_secs(30);
/// So many answers that came only when asked again, and one in [`SECOND_SHARE`] of all: the device wants a pause.
const SECOND_MIN: u32 = 10;
const SECOND_SHARE: u32 = 5;
/// A device that sends by itself is gone when its values have been stale for as long again as this, with the first time.
const GONE_STALE: u32 = 3;
/// Plans that are kept, one for each set of groups that was due at once; beyond it they are made anew.
const PLANS_MAX: usize = 64;

/// A device on the bus.
#[derive(Debug)]
pub struct Station {
    /// As configured.
    pub device: Device,
    /// Whether it answers.
    pub health: Health,
    /// How fast it answers.
    pub latency: Latency,
    /// What it has refused.
    pub learned: Learned,
    /// Tags with the same rate; the last holds what the device refuses.
    pub groups: Vec<Group>,
    /// Every tag of it, for when none can be read.
    pub all: Arc<[Part]>,
    /// What it has refused is other than what was written down.
    pub has_lessons: bool,
    /// It is asked nothing before this.
    pub not_before: Option<Instant>,
    /// When the next probe of a device that does not answer is due.
    pub probe_at: Option<Instant>,
    /// It is asked for the first time since the link was opened, or after a long rest: that request may get lost.
    pub is_fresh: bool,
    /// Requests under way.
    pub asked: usize,
    /// When it was asked last.
    pub asked_at: Option<Instant>,
    /// When it said something by itself last; `None`: it has not, or counts as gone since.
    pub heard_at: Option<Instant>,
    /// Tags whose request cannot be made.
    pub unaskable: Arc<[Part]>,
    answers: u32,
    second_answers: u32,
    tags: Vec<(TagId, Span)>,
    /// Of a SunSpec device: the tags that lie in its models.
    modelled: Option<Modelled>,
    /// Of an instrument: which field of an answer each tag is.
    fields: BTreeMap<TagId, usize>,
    /// Of a meter: what each tag is.
    digits: BTreeMap<TagId, (Identifier, Format)>,
    /// Of a meter: the items that it does not bring as blocks.
    is_split: Vec<Arc<AtomicBool>>,
    /// Of a device that sends its state by itself: after so long without a word it is gone.
    silence: Duration,
    limits: Limits,
    link: Link,
    plans: BTreeMap<Vec<usize>, Arc<[Block]>>,
    /// The latency that the plans were made for.
    planned_for: Option<Duration>,
    sweeps: Vec<Sweep>,
    /// Blocks that are not asked for, until when; at most those of one plan.
    hushed: BTreeMap<Span, Instant>,
    next_sweep: u64,
    next_probe: usize,
}

/// Tags that are read at the same rate.
#[derive(Debug)]
pub struct Group {
    /// How often.
    pub every: Duration,
    /// Its slot in the schedule.
    pub slot: usize,
    tags: Vec<(TagId, Span)>,
}

/// Groups that came due at the same moment.
#[derive(Debug)]
struct Sweep {
    id: u64,
    groups: Vec<usize>,
    deadline: Instant,
    pending: VecDeque<Ask>,
    under_way: usize,
    /// When its first request was sent.
    started_at: Option<Instant>,
}

impl Sweep {
    fn swept(self, groups: usize, now: Instant) -> Swept {
        let started_at = self.started_at.unwrap_or(now);
        Swept { is_all: self.groups.len() == groups, groups: self.groups, started_at }
    }
}

/// A request to be made, and its history.
#[derive(Clone, Debug)]
pub struct Ask {
    /// What is asked for.
    pub block: Block,
    /// How often it was asked before in vain.
    pub attempts: u8,
    /// How often the device said that it is busy.
    pub busy: u8,
    sweep: Option<u64>,
}

impl Ask {
    fn new(block: Block, sweep: Option<u64>) -> Ask {
        Ask { block, attempts: 0, busy: 0, sweep }
    }

    /// A step of a walk: registers that no tag has.
    fn step(span: Span, sweep: Option<u64>) -> Ask {
        Ask::new(Block { span, parts: Arc::default() }, sweep)
    }

    /// Whether it is a step of a walk.
    #[must_use]
    pub fn is_step(&self) -> bool {
        self.block.parts.is_empty()
    }
}

/// A sweep whose requests have all come to their end.
#[derive(Debug, PartialEq, Eq)]
pub struct Swept {
    /// The groups in it.
    pub groups: Vec<usize>,
    /// Whether that was everything that the device has.
    pub is_all: bool,
    /// When its first request was sent.
    pub started_at: Instant,
}

/// Whether there is a request for a tag: a template may say what cannot be sent.
fn can_be_asked(device: &Device, tag: &Tag) -> bool {
    match (&device.protocol, tag.layout()) {
        (DeviceProtocol::Serial(instrument, vars), Some(layout)) if tag.every.is_some() => {
            serial::ask::Ask::new(instrument, layout.span.address.into(), vars, Vec::new()).is_some()
        }
        _ => true,
    }
}

/// A tag that is read, and where, as far as that is known: a model is found later.
fn placed(tag: &Tag) -> Option<(TagId, Span)> {
    tag.layout().filter(|layout| layout.model.is_none()).map(|layout| (tag.id, layout.span))
}

impl Station {
    /// `device` with its `tags` on `link`, nothing asked yet. `learned` is what it refused in an earlier life.
    #[must_use]
    pub fn new(device: &Device, tags: &[Tag], link: &Link, learned: Learned) -> Station {
        let (tags, unaskable): (Vec<Tag>, Vec<Tag>) =
            tags.iter().cloned().partition(|tag| can_be_asked(device, tag));
        let unaskable = unaskable.into_iter().map(|tag| Part { tag: tag.id, offset: 0 }).collect();
        let rates: BTreeSet<Duration> = tags.iter().filter_map(|tag| tag.every).collect();
        let of_rate = |every: Duration| {
            let tags = tags.iter().filter(|tag| tag.every == Some(every));
            Group { every, slot: 0, tags: tags.filter_map(placed).collect() }
        };
        let mut groups: Vec<Group> = rates.into_iter().map(of_rate).collect();
        if let Some(slowest) = groups.last().map(|group| group.every) {
            groups.push(Group { every: slowest.max(REFUSED_RETRY), slot: 0, tags: Vec::new() });
        }
        Station {
            limits: Limits::of(device),
            device: device.clone(),
            health: Health::default(),
            latency: Latency::default(),
            learned,
            groups,
            all: tags
                .iter()
                .filter(|tag| tag.registers().is_some())
                .map(|tag| Part { tag: tag.id, offset: 0 })
                .collect(),
            modelled: Modelled::new(&tags),
            tags: tags.iter().filter(|tag| tag.every.is_some()).filter_map(placed).collect(),
            silence: tags.iter().filter_map(|tag| tag.stale_after).max().unwrap_or_default() * GONE_STALE,
            fields: tags.iter().filter_map(|tag| Some((tag.id, tag.registers()?.field?))).collect(),
            digits: tags.iter().filter_map(|tag| Some((tag.id, tag.registers()?.digits?))).collect(),
            is_split: match &device.protocol {
                DeviceProtocol::Modbus | DeviceProtocol::Serial(..) => Vec::new(),
                DeviceProtocol::Dlt645(meter) => meter.items.iter().map(|_| Arc::default()).collect(),
            },
            has_lessons: false,
            not_before: None,
            probe_at: None,
            is_fresh: true,
            asked: 0,
            answers: 0,
            second_answers: 0,
            asked_at: None,
            heard_at: None,
            unaskable,
            link: link.clone(),
            plans: BTreeMap::new(),
            planned_for: None,
            sweeps: Vec::new(),
            hushed: BTreeMap::new(),
            next_sweep: 0,
            next_probe: 0,
        }
    }

    /// Whether anything of it is polled.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        !self.tags.is_empty() || self.modelled.as_ref().is_some_and(Modelled::is_asked)
    }

    fn mode(&self) -> Option<Mode> {
        match &self.device.protocol {
            DeviceProtocol::Modbus | DeviceProtocol::Dlt645(_) => None,
            DeviceProtocol::Serial(instrument, _) => Some(instrument.mode()),
        }
    }

    /// Whether it sends only when something happens: silence means nothing.
    #[must_use]
    pub fn is_heard_by_event(&self) -> bool {
        self.mode() == Some(Mode::Event)
    }

    /// When a device that sends its state by itself counts as gone.
    #[must_use]
    pub fn silent_at(&self) -> Option<Instant> {
        let heard_at = self.heard_at.filter(|_| self.mode() == Some(Mode::Listen))?;
        heard_at.checked_add(self.silence)
    }

    /// Its rate: that of its fastest group.
    #[must_use]
    pub fn every(&self) -> Duration {
        self.groups.first().map_or(Duration::MAX, |group| group.every)
    }

    /// Whether a request for it must be the only one under way to it.
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        self.device.quirks.any_tid || self.device.quirks.gap.is_some()
    }

    /// The groups that came due at `due` are to be read. The sweep, if there is nothing to ask in it.
    pub fn begin(&mut self, groups: Vec<usize>, due: Instant, now: Instant) -> Option<Swept> {
        let id = self.next_sweep;
        self.next_sweep += 1;
        let every = groups.iter().filter_map(|group| self.groups.get(*group)).map(|group| group.every).min();
        let step = self.modelled.as_mut().and_then(|modelled| modelled.due(now));
        let pending = match step {
            Some(step) => VecDeque::from([Ask::step(step, Some(id))]),
            None => self.asks(&groups, id, now),
        };
        let deadline = due + every.unwrap_or_default();
        let sweep = Sweep { id, groups, deadline, pending, under_way: 0, started_at: None };
        if sweep.pending.is_empty() {
            return Some(sweep.swept(self.groups.len(), now));
        }
        self.sweeps.push(sweep);
        None
    }

    /// The requests for these groups together, in sweep `id`.
    fn asks(&mut self, groups: &[usize], id: u64, now: Instant) -> VecDeque<Ask> {
        self.check_latency();
        let blocks = self.plan(groups);
        self.hushed.retain(|_, until| *until > now);
        let to_ask = blocks.iter().filter(|block| !self.hushed.contains_key(&block.span));
        to_ask.map(|block| Ask::new(block.clone(), Some(id))).collect()
    }

    /// A step of the walk over the device's models has come to its end: what it read, `None` where it could not be read. The
    /// next step follows in the same sweep, and after the last one the requests for its groups. Where the walk has ended with
    /// it, and not with what was known before, the tags whose models the device does not have.
    pub fn walked(&mut self, ask: &Ask, words: Option<&[u16]>, now: Instant) -> Option<Vec<Part>> {
        let modelled = self.modelled.as_mut()?;
        let is_news = modelled.take(ask.block.span, words, now);
        let (step, missing) = (modelled.due(now), is_news.then(|| modelled.missing()));
        if is_news {
            self.place();
        }
        let Some(index) = self.sweeps.iter().position(|sweep| Some(sweep.id) == ask.sweep) else {
            return missing;
        };
        let groups = self.sweeps.get(index).map(|sweep| (sweep.id, sweep.groups.clone()));
        let asks = match (step, groups) {
            (Some(step), _) => VecDeque::from([Ask::step(step, ask.sweep)]),
            (None, Some((id, groups))) => self.asks(&groups, id, now),
            (None, None) => VecDeque::new(),
        };
        self.sweeps.get_mut(index).into_iter().for_each(|sweep| sweep.pending.extend(asks.iter().cloned()));
        missing
    }

    /// The models are known: their tags are read where they lie.
    fn place(&mut self) {
        let Some(modelled) = &self.modelled else { return };
        self.tags.retain(|(tag, _)| !modelled.has(*tag));
        self.tags.extend(
            modelled.placed().filter(|(.., every)| every.is_some()).map(|(tag, span, _)| (tag, span)),
        );
        self.tags.sort_unstable_by_key(|(tag, _)| *tag);
        let refused = self.groups.len().saturating_sub(1);
        for group in self.groups.iter_mut().take(refused) {
            group.tags.retain(|(tag, _)| !modelled.has(*tag));
            let of_group = modelled.placed().filter(|(.., every)| *every == Some(group.every));
            group.tags.extend(of_group.map(|(tag, span, _)| (tag, span)));
        }
        self.plans.clear();
    }

    /// Another device may be there, with its models elsewhere; `is_silent`: this one does not answer.
    pub fn restart_walk(&mut self, is_silent: bool) {
        let Some(modelled) = &mut self.modelled else { return };
        if is_silent {
            return modelled.handle_silence();
        }
        modelled.restart();
        // what was planned for the places of before is not asked any more: it follows the walk
        let Some(step) = modelled.step() else { return };
        for sweep in self.sweeps.iter_mut().filter(|sweep| !sweep.pending.is_empty()) {
            sweep.pending = VecDeque::from([Ask::step(step, Some(sweep.id))]);
        }
    }

    /// The device is silent about this block where it answers others: for a while it is left out.
    pub fn hush(&mut self, block: Span, now: Instant) {
        self.hushed.insert(block, now + HUSH.max(self.every()));
    }

    /// What a request to it costs may have changed: then the plans are made anew.
    fn check_latency(&mut self) {
        let (Some(usual), planned_for) = (self.latency.usual(), self.planned_for.unwrap_or_default()) else {
            return;
        };
        let is_near = usual.abs_diff(planned_for) < Duration::from_millis(2)
            || (usual < planned_for * 2 && planned_for < usual * 2);
        if !is_near {
            self.planned_for = Some(usual);
            self.plans.clear();
        }
    }

    /// The requests for these groups together.
    fn plan(&mut self, groups: &[usize]) -> Arc<[Block]> {
        if self.learned.take_changed() {
            self.has_lessons = true;
            self.plans.clear();
        }
        if self.plans.len() >= PLANS_MAX {
            self.plans.clear();
        }
        if let Some(plan) = self.plans.get(groups) {
            return plan.clone();
        }
        let last = self.groups.len().saturating_sub(1);
        let mut tags = Vec::new();
        for (index, group) in self.groups.iter().enumerate().filter(|(index, _)| groups.contains(index)) {
            // what the device refuses is asked for seldom, by the last group
            let of_group = if index == last { &self.tags } else { &group.tags };
            let is_of_group = |(_, span): &&(TagId, Span)| self.learned.is_refused(*span) == (index == last);
            tags.extend(of_group.iter().filter(is_of_group).copied());
        }
        let limits = self.learned.limits(&self.limits);
        let plan: Arc<[Block]> = plan::plan(&tags, &limits, self.cost()).into();
        self.plans.insert(groups.to_vec(), plan.clone());
        plan
    }

    fn cost(&self) -> Cost {
        match &self.link.endpoint {
            Endpoint::Serial { line, .. } => {
                Cost::serial(line, self.link.framing, self.planned_for.unwrap_or(plan::SERIAL_LATENCY))
            }
            Endpoint::Tcp { .. } | Endpoint::Listen(_) => {
                Cost::network(self.planned_for.unwrap_or(plan::NETWORK_LATENCY))
            }
        }
    }

    /// When the most urgent of its requests should be done; `None` where there is none to make.
    #[must_use]
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let sweeps = self.sweeps.iter().filter(|sweep| !sweep.pending.is_empty());
        let probe = self.probe_at.filter(|at| *at <= now).map(|at| at + PROBE_SLACK);
        sweeps.map(|sweep| sweep.deadline).chain(probe).min()
    }

    /// Whether a request of a sweep waits to be made.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        self.sweeps.iter().any(|sweep| !sweep.pending.is_empty())
    }

    /// The most urgent of its requests, which is under way from now on.
    pub fn take(&mut self, now: Instant) -> Option<Ask> {
        let ask = if self.probe_at.is_some_and(|at| at <= now) {
            self.probe_at = None;
            self.probe()?
        } else {
            let pending = self.sweeps.iter_mut().filter(|sweep| !sweep.pending.is_empty());
            let sweep = pending.min_by_key(|sweep| sweep.deadline)?;
            sweep.under_way += 1;
            sweep.started_at.get_or_insert(now);
            let mut ask = sweep.pending.pop_front()?;
            // what is known to be refused is asked for in halves from the start
            let span_of = span_in(&self.tags);
            while let Some((first, second)) = self.learned.foresee(&ask.block, &self.limits, &span_of) {
                sweep.pending.push_front(Ask::new(second, ask.sweep));
                ask = Ask::new(first, ask.sweep);
            }
            ask
        };
        self.asked += 1;
        self.is_fresh |= self.asked_at.is_none_or(|at| at + IDLE <= now);
        self.asked_at = Some(now);
        Some(ask)
    }

    /// The request in the device's own protocol; `None`: it speaks Modbus.
    #[must_use]
    pub fn exchange(&self, ask: &Ask) -> Option<Box<dyn Exchange>> {
        let index = usize::from(ask.block.span.address);
        match &self.device.protocol {
            DeviceProtocol::Modbus => None,
            DeviceProtocol::Dlt645(meter) => {
                let parts = ask.block.parts.iter();
                let wanted = parts.filter_map(|part| self.digits.get(&part.tag).copied()).collect();
                let (item, is_split) = (meter.items.get(index)?, self.is_split.get(index)?.clone());
                Some(Box::new(Read::new(meter.address, meter.wake, item, wanted, is_split)?))
            }
            DeviceProtocol::Serial(instrument, vars) => {
                Some(Box::new(serial::ask::Ask::new(instrument, index, vars, self.fields(&ask.block.parts))?))
            }
        }
    }

    /// Of an instrument: which fields of a frame these tags are.
    fn fields(&self, parts: &[Part]) -> Vec<usize> {
        parts.iter().filter_map(|part| self.fields.get(&part.tag).copied()).collect()
    }

    /// The slots of the groups that its probes are in.
    pub fn probe_slots(&self) -> impl Iterator<Item = usize> {
        let is_probe = |id: &TagId| self.device.probes().any(|probe| probe.tag == *id);
        self.groups
            .iter()
            .filter(move |group| group.tags.iter().any(|(id, _)| is_probe(id)))
            .map(|group| group.slot)
    }

    /// Whether its answers do not tell whose they are: they are known by their time alone.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        let DeviceProtocol::Serial(instrument, _) = &self.device.protocol else { return false };
        let names_one =
            |request: &Request| request.frame.matches.iter().any(|(_, of)| !of.names().is_empty());
        instrument.mode() == Mode::Poll && !instrument.requests.iter().all(names_one)
    }

    /// What an instrument that talks by itself says in a frame: its tags, and the value of each. `None`: it is asked, or
    /// speaks another protocol.
    #[must_use]
    pub fn listener(&self) -> Option<Listener> {
        let DeviceProtocol::Serial(instrument, vars) = &self.device.protocol else { return None };
        let is_asked = instrument.mode() == Mode::Poll;
        let fields = self.fields(&self.all);
        (!is_asked).then(|| Listener::new(instrument.clone(), vars.clone(), fields))?
    }

    /// One value of it, each time another: the cheapest request that shows whether the device answers.
    fn probe(&mut self) -> Option<Ask> {
        if let Some(step) = self.modelled.as_ref().and_then(Modelled::step) {
            return Some(Ask::step(step, None));
        }
        let readable: Vec<(TagId, Span)> =
            self.tags.iter().filter(|(_, span)| !self.learned.is_refused(*span)).copied().collect();
        let tags = if readable.is_empty() { &self.tags } else { &readable };
        self.next_probe = self.next_probe.wrapping_add(1);
        let tag = tags.get(self.next_probe.checked_rem(tags.len())?)?;
        let limits = self.learned.limits(&self.limits);
        let block = plan::plan(&[*tag], &limits, self.cost()).into_iter().next()?;
        Some(Ask::new(block, None))
    }

    /// The request is to be made again.
    pub fn give_back(&mut self, ask: Ask) {
        self.asked = self.asked.saturating_sub(1);
        let Some(sweep) = self.sweeps.iter_mut().find(|sweep| Some(sweep.id) == ask.sweep) else { return };
        sweep.under_way = sweep.under_way.saturating_sub(1);
        sweep.pending.push_front(ask);
    }

    /// Whether the request is part of a sweep that goes on.
    #[must_use]
    pub fn is_sweeping(&self, ask: &Ask) -> bool {
        self.sweeps.iter().any(|sweep| Some(sweep.id) == ask.sweep)
    }

    /// Whether a request without a usable answer is worth repeating. `is_first`: it was the first after the link was
    /// opened or the device was left alone for long, when some devices miss it.
    #[must_use]
    pub fn may_repeat(&self, ask: &Ask, is_first: bool) -> bool {
        let retries = self.device.retries.max(u8::from(is_first));
        ask.attempts < retries && self.health.may_retry(ask.block.span) && self.is_sweeping(ask)
    }

    /// An answer to `ask` has come. True once, where the device often answers only when it is asked again: it seems to
    /// drop requests that come too soon after its last answer.
    pub fn note_answer(&mut self, ask: &Ask) -> bool {
        self.answers = self.answers.saturating_add(1);
        if ask.attempts == 0 || self.second_answers > SECOND_MIN {
            return false;
        }
        self.second_answers += 1;
        if self.second_answers == SECOND_MIN && self.answers > SECOND_MIN * SECOND_SHARE {
            (self.answers, self.second_answers) = (0, 0); // too seldom: counted afresh
        }
        self.second_answers > SECOND_MIN
    }

    /// Whether the end of the request means anything: it is a probe, or of a sweep that was not given up.
    #[must_use]
    pub fn is_wanted(&self, ask: &Ask) -> bool {
        ask.sweep.is_none() || self.is_sweeping(ask)
    }

    /// The request has come to its end, and so perhaps has its sweep.
    pub fn ended(&mut self, ask: &Ask, now: Instant) -> Option<Swept> {
        self.asked = self.asked.saturating_sub(1);
        let index = self.sweeps.iter().position(|sweep| Some(sweep.id) == ask.sweep)?;
        let sweep = self.sweeps.get_mut(index)?;
        sweep.under_way = sweep.under_way.saturating_sub(1);
        if sweep.under_way > 0 || !sweep.pending.is_empty() {
            return None;
        }
        Some(self.sweeps.swap_remove(index).swept(self.groups.len(), now))
    }

    /// Nothing of what was to be asked is to be asked any more.
    pub fn give_up(&mut self) {
        self.sweeps.clear();
    }

    /// The device refused the block of `ask`: its halves are asked for in the same sweep. False where a single value is
    /// refused: that is bad by itself.
    pub fn refused(&mut self, ask: &Ask, why: Refusal, now: Timestamp) -> bool {
        let (whole, limits) = (ask.block.span, self.limits.clone());
        let span_of =
            |tag: TagId| self.tags.iter().find(|(other, _)| *other == tag).map_or(whole, |(_, span)| *span);
        match self.learned.refused(&ask.block, why, &limits, span_of, now) {
            Refused::Alone => false,
            Refused::Halves(first, second) => {
                if let Some(sweep) = self.sweeps.iter_mut().find(|sweep| Some(sweep.id) == ask.sweep) {
                    sweep.pending.push_front(Ask::new(second, ask.sweep));
                    sweep.pending.push_front(Ask::new(first, ask.sweep));
                }
                true
            }
        }
    }

    /// Drops what was learned long ago: it is tried again.
    pub fn forget(&mut self, now: Timestamp) -> bool {
        self.learned.forget(now, learned::AGE)
    }
}

/// The registers of each of `tags`, which are in the order of their ids.
fn span_in(tags: &[(TagId, Span)]) -> impl Fn(TagId) -> Span {
    move |tag| {
        let index = tags.binary_search_by_key(&tag, |(id, _)| *id).unwrap_or_default();
        tags.get(index).map_or(NOWHERE, |(_, span)| *span)
    }
}

/// The registers of a tag that there is not.
const NOWHERE: Span = Span { area: crate::tag::Area::HoldingRegisters, address: 0, count: 1 };

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    /// The first device of a site with two groups of tags.
    fn station(every: &str) -> Station {
        let text = format!(
            "[gateway]\nname = \"n\"\nenterprise = \"e\"\n[uplink.u]\nbroker = \"mqtt://127.0.0.1:1\"\n\
             [link.l]\ntcp = \"127.0.0.1:1\"\n[device.d]\nlink = \"l\"\nevery = \"{every}\"\nmax_registers = 2\n\
             tags = [{{ name = \"a\", at = \"hr:0\" }}, {{ name = \"b\", at = \"hr:1\" }}, {{ name = \"c\", at = \"hr:9\", every = \"1h\" }}]\n"
        );
        let site = config::parse("s", &text).site.unwrap();
        let device = &site.devices[0];
        Station::new(device, site.tags_of(device), &site.links[0], Learned::default())
    }

    #[test]
    fn a_sweep_asks_for_what_is_due_once_and_ends_with_its_last_request() {
        let now = crate::clock::monotonic();
        let mut station = station("1s");
        assert_eq!(station.groups.len(), 3, "1 s, 1 h, and what is refused");
        assert_eq!(station.begin(vec![0, 1, 2], now, now), None);
        assert_eq!(station.deadline(now), Some(now + Duration::from_secs(1)));
        let (first, second) = (station.take(now).unwrap(), station.take(now).unwrap());
        assert_eq!([first.block.span.address, second.block.span.address], [0, 9]);
        assert!(station.take(now).is_none());
        station.give_back(first);
        let first = station.take(now).unwrap();
        assert_eq!(station.ended(&second, now), None);
        let swept = station.ended(&first, now).unwrap();
        assert_eq!((swept.groups.len(), swept.is_all, swept.started_at), (3, true, now));
        assert_eq!((station.asked, station.deadline(now)), (0, None));
        assert!(station.begin(vec![2], now, now).is_some(), "nothing is refused, nothing is asked");
    }

    #[test]
    fn the_end_of_a_request_of_a_sweep_that_was_given_up_means_nothing() {
        let now = crate::clock::monotonic();
        let mut station = station("1s");
        station.begin(vec![0], now, now);
        let ask = station.take(now).unwrap();
        assert!(station.is_wanted(&ask) && station.may_repeat(&ask, false));
        station.give_up();
        assert!(!station.is_wanted(&ask) && !station.may_repeat(&ask, false));
        assert_eq!((station.ended(&ask, now), station.asked), (None, 0));
        station.probe_at = Some(now);
        let probe = station.take(now).unwrap();
        assert!(station.is_wanted(&probe) && !station.may_repeat(&probe, true), "a probe is never repeated");
        assert_eq!(probe.block.span.count, 1, "and as cheap as can be");
    }

    #[test]
    fn a_block_that_is_hushed_is_left_out_for_a_while() {
        let now = crate::clock::monotonic();
        let mut station = station("1s");
        station.begin(vec![0], now, now);
        let ask = station.take(now).unwrap();
        station.hush(ask.block.span, now);
        station.ended(&ask, now);
        assert!(station.begin(vec![0], now, now).is_some());
        assert!(station.begin(vec![0], now + HUSH, now + HUSH).is_none());
    }

    #[test]
    fn a_device_that_answers_only_when_asked_again_is_noticed_once() {
        let now = crate::clock::monotonic();
        let mut station = station("1s");
        station.begin(vec![0], now, now);
        let mut ask = station.take(now).unwrap();
        let mut hints = 0;
        for _ in 0..200 {
            ask.attempts = 0;
            hints += u32::from(station.note_answer(&ask));
        }
        for _ in 0..200 {
            ask.attempts = 1;
            hints += u32::from(station.note_answer(&ask));
        }
        assert_eq!(hints, 1);
    }
}
