//! Registers become readings: decoded, scaled, with a quality, and reported when they are worth it.
//!
//! Scans come in from every bus; updates go out to every uplink. Where registers came from is not known here.

pub mod alarm;
pub mod computed;
pub mod counter;
pub mod decode;
mod keep;
pub mod live;
pub mod machine;
pub mod probes;
pub mod recipe;
pub mod report;
pub mod task;
pub mod totals;
pub mod ways;
pub mod window;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::config::site::{Device, Kind, Recipe, Site, Source, Step};
use crate::reading::{Quality, Reading, Stamp, Timestamp, Update, Value};
use crate::scan::{Part, Polled, Scan};
use crate::tag::{DeviceId, TagId};
use alarm::SavedAlarm;
use computed::{Computed, SavedCounts, Told, View};
use decode::Zone;
use live::{Live, excused};
use machine::plan;
use machine::run::SavedRun;
use probes::{Fit, Probes, Waiting};
use recipe::{Known, Made};
use report::Reporter;
use totals::{SavedTotal, Totals};
use ways::{Sample, Ways, is_out_of_reach};

/// The time, on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For intervals.
    pub at: Instant,
    /// What a reading of now is stamped with.
    pub stamp: Stamp,
}

impl Now {
    /// The wall time, where it is to be trusted.
    #[must_use]
    pub const fn wall(self) -> Option<Timestamp> {
        match self.stamp {
            Stamp::Wall(at) => Some(at),
            Stamp::SinceBoot(_) => None,
        }
    }
}

/// Turns scans into readings; keeps what is known of every tag.
#[derive(Debug)]
pub struct Normalizer {
    site: Arc<Site>,
    live: Vec<Live>,
    reporters: Vec<Reporter>,
    /// The totals of counters.
    counters: Totals,
    /// What is computed.
    computed: Computed,
    /// Whether devices are what they are taken for.
    probes: Probes,
    /// What was read in ways of which one counts.
    ways: Ways,
    /// What a step has told; empty between two steps.
    computed_now: Vec<Told>,
    /// By tag: whether its value needs that of another.
    needs_others: Vec<bool>,
    has_needy: bool,
    /// By device: since when it gives values; `None`: it does not.
    up_since: Vec<Option<Instant>>,
    /// By device: whether it counts as there.
    is_up: Vec<bool>,
    /// When a value turns stale, if none has come by then; at most one entry a tag.
    stale: BinaryHeap<Reverse<(Instant, TagId)>>,
    /// By tag: whether it is in `stale`.
    is_watched: Vec<bool>,
    /// The last plan of each machine, by device.
    plans: BTreeMap<String, String>,
    /// Kept plans that do not hold any more, and why.
    dropped_plans: Vec<(String, String)>,
    /// What is to be reported; empty between two calls.
    readings: Vec<Reading>,
    /// Of the devices' own clocks.
    zone: Zone,
}

impl Normalizer {
    /// Nothing has been read yet.
    #[must_use]
    pub fn new(site: Arc<Site>) -> Normalizer {
        let needs = |recipe: Option<&Recipe>| recipe.is_some_and(|recipe| recipe.inputs().next().is_some());
        let needs_others: Vec<bool> = site.tags.iter().map(|tag| needs(tag.recipe())).collect();
        Normalizer {
            live: site.tags.iter().map(|_| Live::new()).collect(),
            reporters: site.tags.iter().map(|tag| Reporter::new(tag.report, tag.deadband)).collect(),
            counters: Totals::new(&site),
            computed: Computed::new(&site),
            probes: Probes::new(&site),
            ways: Ways::new(&site),
            computed_now: Vec::new(),
            has_needy: needs_others.contains(&true),
            needs_others,
            up_since: vec![None; site.devices.len()],
            is_up: site.devices.iter().map(Device::is_own).collect(),
            stale: BinaryHeap::new(),
            is_watched: vec![false; site.tags.len()],
            plans: BTreeMap::new(),
            dropped_plans: Vec::new(),
            readings: Vec::new(),
            zone: Zone::default(),
            site,
        }
    }

    /// What is known before anything is read: the values that stand in the configuration, and what is said of the site.
    pub fn start(&mut self, now: Now) -> Vec<Update> {
        let site = self.site.clone();
        for tag in &site.tags {
            let value = match &tag.source {
                Source::Constant(value) => value.clone(),
                Source::Control(_) => Value::Text("".into()),
                Source::Registers(_) | Source::Computed | Source::Chosen(_) => continue,
            };
            let value = if is_enabled(&site, tag.device) { Ok(value) } else { Err(Quality::BadOutOfService) };
            self.accept(tag.id, value, Quality::Good, now.stamp, now.at);
        }
        for step in site.steps.iter().filter(|step| !is_in_service(&site, step)) {
            for tag in step.outputs() {
                self.accept(tag, Err(Quality::BadOutOfService), Quality::Good, now.stamp, now.at);
            }
        }
        for tag in site.tags.iter().filter(|tag| matches!(tag.source, Source::Computed)) {
            if tag.kind == Kind::Event && is_enabled(&site, tag.device) {
                let none_yet = Err(Quality::UncertainInitial);
                self.accept(tag.id, none_yet, Quality::Good, now.stamp, now.at);
            }
        }
        for (name, plan) in std::mem::take(&mut self.plans) {
            let taken = match site.devices.iter().find(|device| *device.name == *name) {
                None => Err("there is no such device".to_owned()),
                Some(device) if !device.enabled => Ok(()), // it waits until the device is in service again
                Some(device) => self.computed.plan(&site, device.id, plan.as_bytes(), now),
            };
            match taken {
                Ok(()) => drop(self.plans.insert(name, plan)),
                Err(reason) => self.dropped_plans.push((name, reason)),
            }
        }
        self.computed.start();
        self.compute(now);
        let own = site.devices.iter().filter(|device| device.is_own());
        self.told().into_iter().chain(own.map(|device| Update::DeviceUp(device.id))).collect()
    }

    /// The machines whose kept plans do not hold any more since the start, and why, as sentences: to be said once.
    pub fn take_dropped_plans(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.dropped_plans)
    }

    /// The same, where devices tell the time of `zone` and not UTC.
    #[must_use]
    pub fn with_zone(self, zone: Zone) -> Normalizer {
        Normalizer { zone, ..self }
    }

    /// What to tell the uplinks of what was polled; `None` where nothing is worth it.
    pub fn handle(&mut self, polled: Polled, now: Now) -> Option<Update> {
        match polled {
            Polled::DeviceUp(device) => {
                self.is_up.get_mut(device.index()).into_iter().for_each(|is_up| *is_up = true);
                Some(Update::DeviceUp(device))
            }
            Polled::Away(device) => {
                self.handle_away(device);
                None
            }
            Polled::DeviceDown(device, at) => {
                self.handle_away(device);
                self.is_up.get_mut(device.index()).into_iter().for_each(|is_up| *is_up = false);
                Some(Update::DeviceDown(device, at))
            }
            Polled::Scan(scan) => {
                self.read(&scan, now);
                self.compute(now);
                self.told()
            }
        }
    }

    /// When something is due although nothing is polled.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        let stale = self.stale.peek().map(|Reverse((at, _))| *at);
        stale.into_iter().chain(self.computed.next_due()).min()
    }

    /// What to tell of what is due; `None` where nothing is worth it.
    pub fn handle_due(&mut self, now: Now) -> Option<Update> {
        while let Some(Reverse((at, id))) = self.stale.peek().copied()
            && at <= now.at
        {
            self.stale.pop();
            self.check_stale(id, now);
        }
        self.computed.wake(now.at);
        self.compute(now);
        self.told()
    }

    /// Somebody, `who`, does something with an alarm of a device; what to tell of it.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn handle_act(
        &mut self,
        alarm: (DeviceId, &str),
        act: alarm::run::Act,
        who: &str,
        now: Now,
    ) -> Result<Option<Update>, String> {
        let site = self.site.clone();
        let mut told = Vec::new();
        self.computed.act(&site, alarm, act, who, now, &mut told)?;
        self.accept_all(&mut told, now.at);
        self.compute(now);
        Ok(self.told())
    }

    /// A plan for a machine, as a message brings it; it holds until another one comes, also over a restart. What to tell
    /// of it.
    ///
    /// # Errors
    /// Why it is refused, as a sentence; nothing of it holds then.
    pub fn handle_plan(&mut self, message: &[u8], now: Now) -> Result<Option<Update>, String> {
        let name = plan::machine(message)?;
        let site = self.site.clone();
        let device = site.devices.iter().find(|device| *device.name == *name);
        let device = device.ok_or_else(|| format!("there is no device `{name}`"))?;
        self.computed.plan(&site, device.id, message, now)?;
        let text = String::from_utf8_lossy(message).into_owned();
        self.plans.insert(name, text);
        self.compute(now);
        Ok(self.told())
    }

    /// Whether somebody, `who`, could do something with an alarm of a device. Nothing is done.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn check_act(&self, alarm: (DeviceId, &str), act: alarm::run::Act, who: &str) -> Result<(), String> {
        self.computed.check_act(&self.site, alarm, act, who)
    }

    fn told(&mut self) -> Option<Update> {
        (!self.readings.is_empty()).then(|| Update::Readings(self.readings.drain(..).collect()))
    }

    /// Takes what a scan brought; what others need comes first.
    fn read(&mut self, scan: &Scan, now: Now) {
        if let Some(first) = scan.parts.first()
            && let Some(tag) = self.site.tags.get(first.tag.index())
            && scan.result.is_ok()
        {
            let up_since = self.up_since.get_mut(tag.device.index());
            up_since.into_iter().for_each(|since| *since = since.or(Some(now.at)));
        }
        // what the device is comes before what it shows: one scan is of one device
        for part in scan.parts.iter() {
            if self.probes.is_probe(part.tag) {
                self.read_part(scan, *part, now.at);
            }
        }
        self.probed(scan, now.at);
        for needs in [false, true].into_iter().take(if self.has_needy { 2 } else { 1 }) {
            for part in scan.parts.iter() {
                let is_turn = self.needs_others.get(part.tag.index()).copied().unwrap_or_default() == needs;
                if is_turn && !self.probes.is_probe(part.tag) {
                    self.read_part(scan, *part, now.at);
                }
            }
        }
    }

    /// The device gives no values: another one may be there when it does again.
    fn handle_away(&mut self, device: DeviceId) {
        self.up_since.get_mut(device.index()).into_iter().for_each(|since| *since = None);
        let Some(of) = self.site.devices.get(device.index()) else { return };
        self.probes.handle_away(of);
        self.ways.handle_away(of);
    }

    fn read_part(&mut self, scan: &Scan, part: Part, now: Instant) {
        let Some(tag) = self.site.tags.get(part.tag.index()) else { return };
        let Some(registers) = tag.registers() else { return };
        let made = match &scan.result {
            Ok(data) => recipe::make(registers, data, part.offset, |other| known(&self.live, other)),
            Err(quality) => Made { value: Err(*quality), doubt: Quality::Good, colour: Quality::Good },
        };
        let mut doubt = made.doubt;
        if made.value.is_ok() && self.is_warming_up(tag.device, now) {
            doubt = doubt.worst(Quality::UncertainInitial);
        }
        let value = made.value.and_then(|value| in_utc(value, &self.zone));
        let value = value.map_err(|quality| excused(tag, quality));
        if let Some(shown) = self.ways.shown_by(part.tag) {
            let sample = Sample { value, doubt, colour: made.colour, at: scan.at };
            return self.read_way(shown, part.tag, sample, now);
        }
        if let Some(live) = self.live.get_mut(part.tag.index()) {
            live.colour = made.colour;
        }
        if self.probes.is_probe(part.tag) {
            return self.accept(part.tag, value, doubt, scan.at, now);
        }
        match self.probes.fit(tag.device) {
            Fit::Fits(_) => self.accept(part.tag, value, doubt, scan.at, now),
            Fit::Other => {
                let value = value.and(Err(Quality::BadConfig));
                self.accept(part.tag, value, doubt, scan.at, now);
            }
            Fit::Unasked => {
                let waits = value.is_ok() && tag.kind != Kind::Event;
                self.accept(part.tag, value, doubt.worst(Quality::UncertainInitial), scan.at, now);
                if let Some(live) = self.live.get(part.tag.index()).filter(|_| waits) {
                    self.probes.wait(part.tag, Waiting { doubt, at: scan.at, serial: live.serial });
                }
            }
        }
    }

    /// A tag was read in one of several ways; while it is not known which of them counts, it has no value.
    fn read_way(&mut self, shown: TagId, reader: TagId, sample: Sample, now: Instant) {
        let Some(tag) = self.site.tags.get(shown.index()) else { return };
        let fit = self.probes.fit(tag.device);
        let counts = match (fit, &tag.source) {
            (Fit::Fits(variant), Source::Chosen(readers)) => readers.get(variant) == Some(&reader),
            _ => sample.value.as_ref().is_err_and(|quality| is_out_of_reach(*quality)),
        };
        if counts {
            self.show(shown, sample.clone(), now);
        }
        // what it was made with may be of the device that was there before
        let is_certain = matches!(fit, Fit::Fits(_)) || self.needs_others.get(reader.index()) == Some(&false);
        if is_certain {
            self.ways.keep(reader, sample);
        }
    }

    fn show(&mut self, shown: TagId, sample: Sample, now: Instant) {
        let Some(tag) = self.site.tags.get(shown.index()) else { return };
        let value = sample.value.map_err(|quality| excused(tag, quality));
        if let Some(live) = self.live.get_mut(shown.index()) {
            live.colour = sample.colour;
        }
        self.accept(shown, value, sample.doubt, sample.at, now);
    }

    /// The probes of a scan have been read: their device is what it is taken for, or all of its tags are bad.
    fn probed(&mut self, scan: &Scan, now: Instant) {
        if matches!(scan.result, Err(Quality::BadDecode)) {
            return; // an answer that was garbled says nothing of the device
        }
        let (mut of, mut shown) = (None, String::new());
        for part in scan.parts.iter() {
            let Some(live) = self.live.get(part.tag.index()) else { continue };
            let noted = self.probes.note(part.tag, live.value.as_ref(), live.quality);
            if noted.is_some() {
                shown = live.value.as_ref().map_or("nothing".to_owned(), ToString::to_string);
            }
            of = noted.or(of);
        }
        let Some((device, (fit, before))) = of.and_then(|of| Some((of, self.probes.settle(of)?))) else {
            return;
        };
        let site = self.site.clone();
        let (Some(device), at) = (site.devices.get(device.index()), scan.at) else { return };
        if before != Fit::Unasked {
            self.ways.handle_away(device); // it was read while the device was another one
        }
        let waiting = self.probes.take_waiting(device);
        match fit {
            Fit::Unasked => {}
            Fit::Fits(variant) => {
                for (id, Waiting { doubt, at, serial }) in waiting {
                    if let (Some(tag), Some(live)) =
                        (site.tags.get(id.index()), self.live.get_mut(id.index()))
                        && live.confirm(serial, doubt, tag, now)
                    {
                        self.pass_on(id, at, now);
                    }
                }
                self.choose(device, variant, at, now);
            }
            Fit::Other => {
                warn!(device = %device.name, shown, "its probe does not hold: it is not what its type says, and its tags are bad");
                for tag in site.tags_of(device).iter().filter(|tag| tag.is_read()) {
                    if !self.probes.is_probe(tag.id) && self.ways.shown_by(tag.id).is_none() {
                        self.accept(tag.id, Err(Quality::BadConfig), Quality::Good, at, now);
                    }
                }
            }
        }
    }

    /// It is known which of its variants a device is, and so how its tags are read.
    fn choose(&mut self, device: &Device, variant: usize, at: Stamp, now: Instant) {
        if let Some(of) = device.variants.get(variant).filter(|_| device.variants.len() > 1) {
            info!(device = %device.name, variant = %of.type_name, "its probes show which variant it is");
        }
        let site = self.site.clone();
        for (shown, reader, last) in self.ways.choose(&site, device, variant) {
            self.counters.read_as(&site, shown, reader);
            let is_of_another = self.live.get(shown.index()).is_some_and(|live| !live.quality.is_bad());
            match last {
                Some(sample) => self.show(shown, sample, now),
                None if is_of_another => {
                    self.accept(shown, Err(Quality::BadNoCommunication), Quality::Good, at, now);
                }
                None => {}
            }
        }
    }

    fn is_warming_up(&self, device: DeviceId, now: Instant) -> bool {
        let warmup = self.site.devices.get(device.index()).map_or(Duration::ZERO, |device| device.warmup);
        let up_since = self.up_since.get(device.index()).copied().flatten();
        !warmup.is_zero() && up_since.is_none_or(|since| now.saturating_duration_since(since) < warmup)
    }

    /// A sample of a tag, from wherever: what is known of it, and whether that is worth a report.
    fn accept(&mut self, id: TagId, value: Result<Value, Quality>, doubt: Quality, at: Stamp, now: Instant) {
        let (Some(tag), Some(live)) = (self.site.tags.get(id.index()), self.live.get_mut(id.index())) else {
            return;
        };
        live.settle(value, doubt, tag, now);
        if let Some(after) = tag.stale_after
            && let Some(is_watched) = self.is_watched.get_mut(id.index()).filter(|is_watched| !**is_watched)
            && let Some(at) = live.stale_at(after)
        {
            *is_watched = true;
            self.stale.push(Reverse((at, id)));
        }
        self.pass_on(id, at, now);
    }

    /// What is known of a tag has changed: whoever needs it hears of it.
    fn pass_on(&mut self, id: TagId, at: Stamp, now: Instant) {
        self.report(id, at, now);
        self.computed.note(id);
        self.count(id, at, now);
    }

    fn report(&mut self, id: TagId, at: Stamp, now: Instant) {
        let (Some(live), Some(reporter)) =
            (self.live.get_mut(id.index()), self.reporters.get_mut(id.index()))
        else {
            return;
        };
        let told = reporter.handle(live.value.as_ref(), live.quality, at, now);
        if let Some(held) = told.held {
            let at = live.own_time(held.at);
            self.readings.push(Reading { tag: id, value: Some(held.value), quality: held.quality, at });
        }
        if told.this {
            let at = live.own_time(at);
            self.readings.push(Reading { tag: id, value: live.value.clone(), quality: live.quality, at });
        }
    }

    /// The total of a counter follows it.
    fn count(&mut self, id: TagId, at: Stamp, now: Instant) {
        let Some(live) = self.live.get(id.index()) else { return };
        let Some(total) = self.counters.handle(id, live.value.as_ref(), live.quality, at, now) else {
            return;
        };
        self.accept(total.tag, total.value, total.doubt, at, now);
    }

    /// Computes what has new inputs, what others need before them.
    fn compute(&mut self, now: Now) {
        let site = self.site.clone();
        let mut told = std::mem::take(&mut self.computed_now);
        self.computed.pass(now, &mut told);
        self.accept_all(&mut told, now.at);
        // each comes after what it needs, and so once: whatever is left over is computed with what comes next
        for _ in 0..site.steps.len() {
            let Some(index) = self.computed.next_dirty() else { break };
            let Some(step) = site.steps.get(index).filter(|step| is_in_service(&site, step)) else {
                continue;
            };
            let view = View { live: &self.live, counters: &self.counters, is_up: &self.is_up };
            self.computed.step(index, step, &view, now, &mut told);
            self.accept_all(&mut told, now.at);
        }
        self.computed_now = told;
    }

    fn accept_all(&mut self, told: &mut Vec<Told>, now: Instant) {
        for one in told.drain(..) {
            self.accept(one.tag, one.value, one.doubt, one.at, now);
        }
    }

    /// Whether something has happened since this was asked last that should outlive a power cut: an alarm is in another state,
    /// an account has ended, a plan was taken over.
    pub fn take_turn(&mut self) -> bool {
        self.computed.take_turn()
    }

    /// Takes in the time that has passed, before what is known is kept; what to tell of it.
    pub fn settle(&mut self, now: Now) -> Option<Update> {
        self.computed.start();
        self.compute(now);
        self.told()
    }

    /// Readings that were held back and would never be told: there is nothing after them.
    pub fn finish(&mut self) -> Option<Update> {
        for (index, reporter) in (0..).zip(&mut self.reporters) {
            if let (Some(held), Some(live)) = (reporter.take_held(), self.live.get_mut(TagId(index).index()))
            {
                let at = live.own_time(held.at);
                self.readings.push(Reading {
                    tag: TagId(index),
                    value: Some(held.value),
                    quality: held.quality,
                    at,
                });
            }
        }
        self.told()
    }

    /// What is kept over a restart; time since something was handled last is not in it, see [`Normalizer::settle`].
    #[must_use]
    pub fn saved(&self, now: Now) -> Saved {
        let name =
            |device: DeviceId| self.site.devices.get(device.index()).map(|device| device.name.to_string());
        let machines = self.computed.saved_machines(&self.site);
        let alarms = self.computed.saved_alarms(&self.site, now);
        let counts = self.computed.saved_counts(&self.site);
        Saved {
            totals: self.counters.saved(&self.site),
            machines: machines.filter_map(|(device, run)| Some((name(device)?, run))).collect(),
            alarms: alarms
                .filter_map(|(alarm, saved)| Some((format!("{}:{}", name(alarm.device)?, alarm.name), saved)))
                .collect(),
            plans: self.plans.clone(),
            counts: counts.map(|(derived, saved)| (self.site.full_name(derived.tag), saved)).collect(),
        }
    }

    /// Goes on from what an earlier run has kept, before the start.
    pub fn restore(&mut self, saved: &Saved) {
        self.counters.restore(&self.site, &saved.totals);
        self.plans.clone_from(&saved.plans);
        let site = &self.site;
        self.computed
            .restore_machines(site, |device| saved.machines.get(&*site.devices.get(device.index())?.name));
        self.computed.restore_counts(site, |tag| saved.counts.get(&site.full_name(tag)));
        self.computed.restore_alarms(site, |alarm| {
            let device = &site.devices.get(alarm.device.index())?.name;
            saved.alarms.get(&format!("{device}:{}", alarm.name))
        });
    }

    /// A value that no sample has confirmed turns stale; one that has been is looked at again later.
    fn check_stale(&mut self, id: TagId, now: Now) {
        let (Some(tag), Some(live), Some(is_watched)) = (
            self.site.tags.get(id.index()),
            self.live.get_mut(id.index()),
            self.is_watched.get_mut(id.index()),
        ) else {
            return;
        };
        match tag.stale_after.and_then(|after| live.stale_at(after)) {
            None => *is_watched = false,
            Some(at) if at > now.at => self.stale.push(Reverse((at, id))),
            Some(_) => {
                *is_watched = false;
                self.turn_stale(id, now);
                if let Some(total) = self.counters.tag_of(id) {
                    self.turn_stale(total, now);
                }
            }
        }
    }

    fn turn_stale(&mut self, id: TagId, now: Now) {
        let live = self.live.get_mut(id.index()).filter(|live| !live.quality.is_bad());
        let Some(live) = live else { return };
        live.turn_stale();
        self.report(id, now.stamp, now.at);
        self.computed.note(id);
    }
}

/// What is kept over a restart, by the names of devices and tags.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Saved {
    /// By `device:tag`.
    pub totals: BTreeMap<String, SavedTotal>,
    /// By device.
    pub machines: BTreeMap<String, SavedRun>,
    /// By `device:alarm`.
    pub alarms: BTreeMap<String, SavedAlarm>,
    /// The last plan of each machine, by device, as it came.
    pub plans: BTreeMap<String, String>,
    /// By `device:tag`.
    pub counts: BTreeMap<String, SavedCounts>,
}

fn is_enabled(site: &Site, device: DeviceId) -> bool {
    site.devices.get(device.index()).is_none_or(|device| device.enabled)
}

/// Whether what a step tells is told: a device that is out of service is no machine and has no alarms.
fn is_in_service(site: &Site, step: &Step) -> bool {
    match step {
        Step::Derived(_) | Step::Class(_) | Step::Window(_) => true,
        Step::Machine(step) => is_enabled(site, step.device),
        Step::Alarm(step) => is_enabled(site, step.device),
    }
}

/// What is known of `tag`.
fn known(live: &[Live], tag: TagId) -> Known<'_> {
    let of = live.get(tag.index());
    Known {
        value: of.and_then(|live| live.value.as_ref()),
        quality: of.map_or(Quality::BadNoCommunication, |live| live.quality),
        colour: of.map_or(Quality::Good, |live| live.colour),
    }
}

/// A time that a device tells, in UTC; one that its clocks leave out is none.
fn in_utc(value: Value, zone: &Zone) -> Result<Value, Quality> {
    let Value::Time(local) = value else { return Ok(value) };
    zone.to_utc(local).map(Value::Time).ok_or(Quality::BadDecode)
}

#[cfg(test)]
mod tests;
