//! What is computed when something that it needs has a new sample, and what each remembers. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Now;
use super::alarm::{self, Floods, SavedAlarm};
use super::live::Live;
use super::machine::run::{Run, SavedRun};
use super::machine::{Capacity, State};
use super::recipe::{whole, word_of};
use super::totals::Totals;
use super::window::Window;
use crate::config::site::{AlarmStep, ClassStep, Derived, Site, Step, WindowStep, WindowTag};
use crate::expression::{Inputs, Memory, Sample};
use crate::reading::{Quality, Stamp, Value};
use crate::tag::{DeviceId, TagId};

/// Free hours of a class go on while its machines stay free: they are added up at least so often.
const CLASS_EVERY: Duration = Duration::from_secs(60);

/// What was computed: a sample of a tag that the gateway makes itself.
#[derive(Debug)]
pub struct Told {
    /// Whose.
    pub tag: TagId,
    /// What, or why there is nothing.
    pub value: Result<Value, Quality>,
    /// What it is to be doubted for.
    pub doubt: Quality,
    /// Of when it is.
    pub at: Stamp,
}

/// What a derived tag has counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedCounts {
    /// The text of its expression.
    of: String,
    /// One for each `count` in it.
    counts: Vec<u64>,
}

/// What a step remembers.
#[derive(Debug)]
enum Kept {
    Derived(Memory),
    Alarm(Box<alarm::run::Run>),
    Machine(DeviceId, Box<Run>),
    /// The steps of its machines.
    Class(Vec<usize>),
    /// The windows, and which sample of the tag they have.
    Window(Option<Box<Window>>, (u64, Quality)),
}

/// Which steps are to be computed, and what each remembers.
#[derive(Debug)]
pub struct Computed {
    /// By tag: the steps that need it.
    dependents: Vec<Vec<usize>>,
    /// By step.
    kept: Vec<Kept>,
    /// By step: the class that a machine adds to.
    class_of: Vec<Option<usize>>,
    /// The steps with new inputs; those that others need come first.
    dirty: BinaryHeap<Reverse<usize>>,
    is_dirty: Vec<bool>,
    /// When to look at a step although nothing is new, or earlier: at most one entry a step.
    due: BTreeSet<(Instant, usize)>,
    /// By step: its entry in `due`.
    queued_at: Vec<Option<Instant>>,
    /// By step: when it is to be looked at; what lies later than its entry is entered when that has come.
    due_at: Vec<Option<Instant>>,
    /// Of all alarms of a device together.
    floods: Floods,
    /// Something has happened that should outlive a power cut.
    has_turned: bool,
}

impl Computed {
    /// Nothing has been computed yet.
    #[must_use]
    pub fn new(site: &Site) -> Computed {
        let mut dependents = vec![Vec::new(); site.tags.len()];
        let mut class_of = vec![None; site.steps.len()];
        for (index, step) in site.steps.iter().enumerate() {
            if let Step::Class(class) = step {
                // it hears of its machines themselves, and only when they change
                for machine in machines(site, class) {
                    class_of.get_mut(machine).into_iter().for_each(|of| *of = Some(index));
                }
                continue;
            }
            for tag in step.inputs() {
                dependents.get_mut(tag.index()).into_iter().for_each(|of: &mut Vec<usize>| of.push(index));
            }
        }
        let kept = |step: &Step| match step {
            Step::Derived(derived) => Kept::Derived(Memory::new(&derived.expression)),
            Step::Alarm(step) => Kept::Alarm(Box::new(alarm::run::Run::new(step))),
            Step::Machine(step) => Kept::Machine(step.device, Box::new(Run::new(step))),
            Step::Class(class) => Kept::Class(machines(site, class).collect()),
            Step::Window(_) => Kept::Window(None, (0, Quality::Good)),
        };
        Computed {
            dependents,
            kept: site.steps.iter().map(kept).collect(),
            class_of,
            dirty: BinaryHeap::new(),
            is_dirty: vec![false; site.steps.len()],
            due: BTreeSet::new(),
            queued_at: vec![None; site.steps.len()],
            due_at: vec![None; site.steps.len()],
            floods: Floods::default(),
            has_turned: false,
        }
    }

    /// A tag has a new sample.
    pub fn note(&mut self, tag: TagId) {
        let Some(dependents) = self.dependents.get(tag.index()) else { return };
        for step in dependents {
            if let Some(is_dirty) = self.is_dirty.get_mut(*step).filter(|is_dirty| !**is_dirty) {
                *is_dirty = true;
                self.dirty.push(Reverse(*step));
            }
        }
    }

    /// The next step to compute.
    pub fn next_dirty(&mut self) -> Option<usize> {
        let Reverse(step) = self.dirty.pop()?;
        self.is_dirty.get_mut(step).into_iter().for_each(|is_dirty| *is_dirty = false);
        Some(step)
    }

    /// When a step is to be looked at although nothing is new.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        let step = self.due.first().map(|(at, _)| *at);
        step.into_iter().chain(self.floods.next_due()).min()
    }

    /// Steps whose time has come are to be computed.
    pub fn wake(&mut self, now: Instant) {
        while let Some((at, step)) = self.due.first().copied()
            && at <= now
        {
            self.due.pop_first();
            self.queued_at.get_mut(step).into_iter().for_each(|queued| *queued = None);
            let due = self.due_at.get_mut(step).and_then(Option::take);
            if due.is_some_and(|due| due <= now) {
                self.soil(step);
            } else {
                self.wake_at(step, due);
            }
        }
    }

    /// Everything that says something although nothing has been read is to be computed.
    pub fn start(&mut self) {
        for (step, kept) in self.kept.iter().enumerate() {
            let is_told = match kept {
                Kept::Derived(_) => false,
                Kept::Alarm(_) | Kept::Machine(..) | Kept::Class(_) | Kept::Window(..) => true,
            };
            if let Some(is_dirty) = self.is_dirty.get_mut(step).filter(|is_dirty| is_told && !**is_dirty) {
                *is_dirty = true;
                self.dirty.push(Reverse(step));
            }
        }
    }

    /// Computes a step; what it gives is `told`.
    pub fn step(&mut self, index: usize, step: &Step, view: &View<'_>, now: Now, told: &mut Vec<Told>) {
        let due = match (step, self.kept.get_mut(index)) {
            (Step::Derived(derived), Some(Kept::Derived(memory))) => {
                let evaluated = derived.expression.evaluate(view, memory, now.at);
                let value = evaluated.value.map_or(Err(evaluated.quality), |value| shaped(value, derived));
                told.push(Told { tag: derived.tag, value, doubt: evaluated.quality, at: now.stamp });
                evaluated.due
            }
            (Step::Alarm(step), Some(Kept::Alarm(run))) => {
                let due = run.handle(step, view, now);
                self.has_turned |= run.take_turn();
                tell_alarm(run, step, &mut self.floods, now, told);
                due
            }
            (Step::Machine(step), Some(Kept::Machine(_, run))) => {
                let before = free(run);
                let due = run.handle(step, view, now, told);
                self.has_turned |= run.take_ended();
                if free(run) != before
                    && let Some(class) = self.class_of.get(index).copied().flatten()
                {
                    self.soil(class);
                }
                Some(due)
            }
            (Step::Class(class), Some(Kept::Class(_))) => {
                self.tell_class(index, class, now.stamp, told);
                let due = self.due_at.get(index).copied().flatten();
                due.filter(|due| *due > now.at).or_else(|| now.at.checked_add(CLASS_EVERY))
            }
            (Step::Window(step), Some(Kept::Window(window, taken))) => {
                let window = window.get_or_insert_with(|| Box::new(Window::new(step.length, now.at)));
                Some(tell_window(window, taken, step, view, now, told))
            }
            (Step::Derived(_) | Step::Alarm(_) | Step::Machine(_) | Step::Class(_) | Step::Window(_), _) => {
                None
            }
        };
        self.wake_at(index, due);
    }

    fn tell_class(&self, index: usize, class: &ClassStep, at: Stamp, told: &mut Vec<Told>) {
        let mut capacity = Capacity::default();
        let Some(Kept::Class(machines)) = self.kept.get(index) else { return };
        for machine in machines {
            if let Some(Kept::Machine(_, run)) = self.kept.get(*machine)
                && let Some(machine) = run.machine()
            {
                capacity.add(machine);
            }
        }
        let doubt = if capacity.unknown > 0 { Quality::UncertainNotAccurate } else { Quality::Good };
        let figures = [capacity.machines.into(), capacity.free.into(), capacity.free_24h, capacity.free_7d];
        for (tag, figure) in class.tags.into_iter().zip(figures) {
            told.push(Told { tag, value: Ok(Value::Double(figure)), doubt, at });
        }
    }

    /// Lets time pass for what is told of all alarms of a device together.
    pub fn pass(&mut self, now: Now, told: &mut Vec<Told>) {
        for (events, notice) in self.floods.handle_time(now.wall(), now.at) {
            told.push(said(events, notice.text(), now));
        }
    }

    /// Somebody does something with an alarm; what comes of it is `told`.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn act(
        &mut self,
        site: &Site,
        (device, name): (DeviceId, &str),
        act: alarm::run::Act,
        who: &str,
        now: Now,
        told: &mut Vec<Told>,
    ) -> Result<(), String> {
        for (step, kept) in site.steps.iter().zip(&mut self.kept) {
            if let (Step::Alarm(step), Kept::Alarm(run)) = (step, kept)
                && step.is_called(device, name)
            {
                run.act(step, act, who, now).map_err(|refusal| refusal.to_string())?;
                tell_alarm(run, step, &mut self.floods, now, told);
                return Ok(());
            }
        }
        Err(no_alarm(name))
    }

    /// Whether somebody could do something with an alarm. Nothing is done.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn check_act(
        &self,
        site: &Site,
        (device, name): (DeviceId, &str),
        act: alarm::run::Act,
        who: &str,
    ) -> Result<(), String> {
        let run = site.steps.iter().zip(&self.kept).find_map(|(step, kept)| match (step, kept) {
            (Step::Alarm(step), Kept::Alarm(run)) if step.is_called(device, name) => Some(run),
            (Step::Derived(_) | Step::Alarm(_) | Step::Machine(_) | Step::Class(_) | Step::Window(_), _) => {
                None
            }
        });
        run.ok_or_else(|| no_alarm(name))?.check(act, who).map_err(|refusal| refusal.to_string())
    }

    /// What derived tags have counted, to be kept over a restart.
    pub fn saved_counts<'a>(&self, site: &'a Site) -> impl Iterator<Item = (&'a Derived, SavedCounts)> {
        site.steps.iter().zip(&self.kept).filter_map(|(step, kept)| match (step, kept) {
            (Step::Derived(derived), Kept::Derived(memory)) => {
                let counts = memory.counts();
                let of = derived.expression.text().to_owned();
                (!counts.is_empty()).then_some((derived, SavedCounts { of, counts }))
            }
            (Step::Derived(_) | Step::Alarm(_) | Step::Machine(_) | Step::Class(_) | Step::Window(_), _) => {
                None
            }
        })
    }

    /// Derived tags go on counting from what an earlier run has kept, where they are still what they were.
    pub fn restore_counts<'a>(&mut self, site: &Site, saved: impl Fn(TagId) -> Option<&'a SavedCounts>) {
        for (step, kept) in site.steps.iter().zip(&mut self.kept) {
            if let (Step::Derived(derived), Kept::Derived(memory)) = (step, kept)
                && let Some(saved) = saved(derived.tag).filter(|saved| saved.of == derived.expression.text())
            {
                memory.restore_counts(&saved.counts);
            }
        }
    }

    /// What is to be kept of alarms over a restart.
    pub fn saved_alarms<'a>(
        &self,
        site: &'a Site,
        now: Now,
    ) -> impl Iterator<Item = (&'a AlarmStep, SavedAlarm)> {
        site.steps.iter().zip(&self.kept).filter_map(move |(step, kept)| match (step, kept) {
            (Step::Alarm(step), Kept::Alarm(run)) => Some((&**step, run.saved(step, now)?)),
            (Step::Derived(_) | Step::Alarm(_) | Step::Machine(_) | Step::Class(_) | Step::Window(_), _) => {
                None
            }
        })
    }

    /// Alarms go on from what an earlier run has kept, before anything is computed.
    pub fn restore_alarms<'a>(&mut self, site: &Site, saved: impl Fn(&AlarmStep) -> Option<&'a SavedAlarm>) {
        for (step, kept) in site.steps.iter().zip(&mut self.kept) {
            if let (Step::Alarm(step), Kept::Alarm(run)) = (step, kept)
                && let Some(saved) = saved(step)
            {
                run.restore(step, saved);
            }
        }
    }

    /// A plan for the machine that a device is.
    ///
    /// # Errors
    /// Why it is refused, as a sentence; nothing of it holds then.
    pub fn plan(&mut self, site: &Site, of: DeviceId, message: &[u8], now: Now) -> Result<(), String> {
        if site.devices.get(of.index()).is_some_and(|device| !device.enabled) {
            return Err("that device is out of service (enabled = false)".to_owned());
        }
        for (index, (step, kept)) in site.steps.iter().zip(&mut self.kept).enumerate() {
            if let (Step::Machine(step), Kept::Machine(device, run)) = (step, kept)
                && *device == of
            {
                run.handle_plan(step, message, now)?;
                self.has_turned = true;
                self.soil(index);
                if let Some(class) = self.class_of.get(index).copied().flatten() {
                    self.soil(class);
                }
                return Ok(());
            }
        }
        Err("that device is no machine".to_owned())
    }

    /// Whether something has happened since this was asked last that should outlive a power cut.
    pub fn take_turn(&mut self) -> bool {
        std::mem::take(&mut self.has_turned)
    }

    /// A step is to be computed.
    fn soil(&mut self, step: usize) {
        if let Some(is_dirty) = self.is_dirty.get_mut(step).filter(|is_dirty| !**is_dirty) {
            *is_dirty = true;
            self.dirty.push(Reverse(step));
        }
    }

    /// What is to be kept of machines over a restart, by device.
    pub fn saved_machines(&self, site: &Site) -> impl Iterator<Item = (DeviceId, SavedRun)> {
        site.steps.iter().zip(&self.kept).filter_map(|(step, kept)| match (step, kept) {
            (Step::Machine(step), Kept::Machine(device, run)) => Some((*device, run.saved(site, step)?)),
            (Step::Derived(_) | Step::Alarm(_) | Step::Machine(_) | Step::Class(_) | Step::Window(_), _) => {
                None
            }
        })
    }

    /// Machines go on from what an earlier run has kept, before anything is computed.
    pub fn restore_machines<'a>(&mut self, site: &Site, saved: impl Fn(DeviceId) -> Option<&'a SavedRun>) {
        for (step, kept) in site.steps.iter().zip(&mut self.kept) {
            if let (Step::Machine(step), Kept::Machine(device, run)) = (step, kept)
                && let Some(saved) = saved(*device)
            {
                run.restore(site, step, saved);
            }
        }
    }

    fn wake_at(&mut self, step: usize, due: Option<Instant>) {
        let (Some(known), Some(queued)) = (self.due_at.get_mut(step), self.queued_at.get_mut(step)) else {
            return;
        };
        *known = due;
        if let Some(at) = due.filter(|at| queued.is_none_or(|queued| *at < queued)) {
            if let Some(late) = queued.replace(at) {
                self.due.remove(&(late, step));
            }
            self.due.insert((at, step));
        }
    }
}

/// The steps of a class's machines.
fn machines<'a>(site: &'a Site, class: &'a ClassStep) -> impl Iterator<Item = usize> + 'a {
    site.steps.iter().enumerate().filter_map(|(index, step)| match step {
        Step::Machine(machine) => class.machines.contains(&machine.device).then_some(index),
        Step::Derived(_) | Step::Alarm(_) | Step::Class(_) | Step::Window(_) => None,
    })
}

/// What the capacity of a class has of a machine: whether it is free, in which state, and whether its shift is known.
fn free(run: &Run) -> Option<(bool, State, bool)> {
    run.machine().map(|machine| (machine.is_free(), machine.state(), machine.wall_ms().is_some()))
}

fn no_alarm(name: &str) -> String {
    format!("there is no alarm `{name}`")
}

/// Tells what has happened to an alarm, and whether it is active.
fn tell_alarm(
    run: &mut alarm::run::Run,
    step: &AlarmStep,
    floods: &mut Floods,
    now: Now,
    told: &mut Vec<Told>,
) {
    while let Some(event) = run.poll_event() {
        let verdict = floods.handle(step.events, &event, now.wall(), now.at);
        if let Some(notice) = verdict.notice {
            told.push(said(step.events, notice.text(), now));
        }
        if verdict.is_told {
            told.push(said(step.events, event.text(&step.name), now));
        }
    }
    told.extend(run.told(step.tag, now));
}

/// Takes a new sample in, and tells what has ended; when to look again.
fn tell_window(
    window: &mut Window,
    taken: &mut (u64, Quality),
    step: &WindowStep,
    view: &View<'_>,
    now: Now,
    told: &mut Vec<Told>,
) -> Instant {
    let sample = view.sample(step.of);
    let seen = (sample.serial, sample.quality);
    if std::mem::replace(taken, seen) == seen {
        window.handle_time(now.wall(), now.at);
    } else {
        window.handle(sample.value.and_then(Value::number), sample.quality, now.wall(), now.at);
    }
    while let Some(closed) = window.poll_closed() {
        for (what, tag) in &step.tags {
            let value = match what {
                WindowTag::Mean => closed.mean.map(Value::Double),
                WindowTag::Min => closed.min.map(Value::Double),
                WindowTag::Max => closed.max.map(Value::Double),
                WindowTag::Last => closed.last.map(Value::Double),
                WindowTag::Delta => closed.rise.map(Value::Double),
                WindowTag::Count => Some(Value::UInt(closed.count.into())),
            };
            // how many came is known in any case
            let doubt = if *what == WindowTag::Count { Quality::Good } else { closed.quality };
            let why = if doubt.is_good() { Quality::UncertainInitial } else { doubt };
            let value = value.filter(|_| !doubt.is_bad()).ok_or(why);
            told.push(Told { tag: *tag, value, doubt, at: Stamp::Wall(closed.at) });
        }
    }
    window.next_due()
}

/// An event, as text.
fn said(tag: TagId, text: String, now: Now) -> Told {
    Told { tag, value: Ok(Value::Text(text.into())), doubt: Quality::Good, at: now.stamp }
}

/// The value as it is published: a whole number, a word.
fn shaped(value: Value, derived: &Derived) -> Result<Value, Quality> {
    if !derived.is_whole {
        return Ok(value);
    }
    let whole = whole(&value)?;
    Ok(match &derived.words {
        None => whole,
        Some(words) => word_of(&whole, words),
    })
}

/// What is known of all tags, as steps see it.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// By tag.
    pub live: &'a [Live],
    /// The totals of counters.
    pub counters: &'a Totals,
    /// By device: whether it counts as there.
    pub is_up: &'a [bool],
}

impl View<'_> {
    /// Whether a device counts as there.
    #[must_use]
    pub fn is_up(&self, device: DeviceId) -> bool {
        self.is_up.get(device.index()).copied().unwrap_or_default()
    }

    /// How often a counter was reset or replaced in this run.
    #[must_use]
    pub fn resets(&self, tag: TagId) -> u64 {
        self.counters.resets(tag)
    }
}

impl Inputs for View<'_> {
    fn sample(&self, tag: TagId) -> Sample<'_> {
        match self.live.get(tag.index()) {
            Some(live) => Sample { value: live.value.as_ref(), quality: live.quality, serial: live.serial },
            None => Sample { value: None, quality: Quality::BadNoCommunication, serial: 0 },
        }
    }

    fn rising(&self, tag: TagId) -> Option<f64> {
        self.counters.total(tag)
    }
}

#[cfg(test)]
mod tests {
    use crate::config;
    use crate::normalize::tests::Shop;

    use super::*;

    #[test]
    fn whatever_is_read_a_step_is_due_once() {
        let mut shop = Shop::new(
            "stale_after = '1h'\ntags = [{ name = 't', at = 'hr:0' }]\n[device.d.alarm]\n\
             silent = { when = 't', silent = '1m' }\nhot = { when = 't', above = 500, delay = '2s' }",
        );
        let mut late = 0;
        for value in 0..1000_u64 {
            shop.read(&format!("t={value:04X}"));
            shop.read("t=0000");
            shop.elapsed_ms += 10;
            late = late.max(shop.normalizer.computed.due.len());
        }
        assert_eq!(late, 2, "one for each alarm");
        assert_eq!(shop.pass(59.989), "", "silent since the last");
        assert!(shop.pass(0.001).contains("alarm/silent=true"));
    }

    #[test]
    fn a_class_is_not_added_up_again_because_something_was_read() {
        let machine = |name: &str, unit: u8| {
            format!(
                "[device.{name}]\nlink = \"l\"\nunit = {unit}\ntags = [{{ name = \"on\", at = \"hr:0.0\" }}]\n\
                 machine = {{ running = \"on\", class = \"c\" }}\n"
            )
        };
        let text = "[gateway]\nname = \"n\"\nenterprise = \"e\"\ntimezone = \"UTC\"\n\
                    [uplink.u]\nbroker = \"mqtt://127.0.0.1\"\n[link.l]\ntcp = \"127.0.0.1:502\"\n";
        let text = format!("{text}{}{}", machine("a", 1), machine("b", 2));
        let site = config::parse("test.toml", &text).site.unwrap();
        let class = site.steps.iter().position(|step| matches!(step, Step::Class(_))).unwrap();
        let mut computed = Computed::new(&site);
        site.tags.iter().for_each(|tag| computed.note(tag.id));
        let dirty: Vec<usize> = std::iter::from_fn(|| computed.next_dirty()).collect();
        assert_eq!(dirty.len(), 2, "the machines");
        assert!(!dirty.contains(&class));
        assert!(matches!(&computed.kept[class], Kept::Class(machines) if *machines == dirty));
    }
}
