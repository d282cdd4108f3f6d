//! One machine as it runs: its conditions are evaluated, its counters followed, its figures told. Pure.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{Closed, Conditions, Figures, Machine, Sample, Saved, Seen, State, plan};
use crate::config::site::{Amount, Count, CountFrom, CountKind, MachineRule, MachineStep, MachineTag, Site};
use crate::expression::{Expression, Inputs as _, Memory};
use crate::normalize::Now;
use crate::normalize::computed::{Told, View};
use crate::reading::{Quality, Stamp, Timestamp, Value};
use crate::tag::TagId;

/// What is said of the shift between shifts.
const NO_SHIFT: &str = "none";

/// One machine, and how far its inputs have been taken in.
#[derive(Debug)]
pub struct Run {
    /// `None`: nothing has been asked yet.
    machine: Option<Machine>,
    /// From an earlier run, until the first question.
    saved: Option<Saved>,
    fault: Option<Memory>,
    setup: Option<Memory>,
    running: Memory,
    idle: Option<Memory>,
    pieces: Followed,
    scrap: Followed,
    energy: Followed,
    /// What counts and energy were to be doubted for when it was asked last.
    doubts: Doubts,
    /// An account has ended.
    has_ended: bool,
    /// The serials of the samples that were taken in last.
    product: u64,
    cycle: u64,
}

/// How far a counter, or what sends events, has been taken in.
#[derive(Debug, Default)]
struct Followed {
    /// Its total; `None`: it begins with the next one.
    total: Option<f64>,
    resets: u64,
    serial: u64,
    each: u64,
    /// It could not be read when an account ended: what it says next is in part of that account.
    is_late: bool,
    /// It is another counter than in the account that goes on.
    is_other: bool,
}

/// What is kept of a machine over a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedRun {
    machine: Saved,
    /// Of its counters: of pieces, of scrap, of the meter.
    #[serde(default)]
    taken: [Option<Taken>; 3],
}

/// How far a counter was taken in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Taken {
    /// `device:tag`.
    of: String,
    /// Its total then.
    total: f64,
}

impl Run {
    /// A machine of which nothing is known yet.
    #[must_use]
    pub fn new(step: &MachineStep) -> Run {
        let memory = |condition: &Option<Expression>| condition.as_ref().map(Memory::new);
        Run {
            machine: None,
            saved: None,
            fault: memory(&step.fault),
            setup: memory(&step.setup),
            running: Memory::new(&step.running),
            idle: memory(&step.idle),
            pieces: Followed::default(),
            scrap: Followed::default(),
            energy: Followed::default(),
            doubts: Doubts::NONE,
            has_ended: false,
            product: 0,
            cycle: 0,
        }
    }

    /// Goes on from what an earlier run has kept; before anything is asked. The total of another counter is not held against
    /// what was kept: it is followed from now on, and the account says that something may be missing.
    pub fn restore(&mut self, site: &Site, step: &MachineStep, saved: &SavedRun) {
        self.saved = Some(saved.machine.clone());
        let followed = [&mut self.pieces, &mut self.scrap, &mut self.energy];
        for ((followed, counter), taken) in followed.into_iter().zip(counters(step)).zip(&saved.taken) {
            let Some(counter) = counter else { continue };
            let taken = taken.as_ref().filter(|taken| taken.of == site.full_name(counter));
            followed.total = taken.map(|taken| taken.total);
            followed.is_other = taken.is_none();
        }
    }

    /// What is to be kept; `None`: nothing is known that is worth it.
    #[must_use]
    pub fn saved(&self, site: &Site, step: &MachineStep) -> Option<SavedRun> {
        let machine = self.machine.as_ref().and_then(Machine::save).or_else(|| self.saved.clone())?;
        let [pieces, scrap, energy] = counters(step);
        let taken = |counter: Option<TagId>, followed: &Followed| {
            Some(Taken { of: site.full_name(counter?), total: followed.total? })
        };
        let taken = [taken(pieces, &self.pieces), taken(scrap, &self.scrap), taken(energy, &self.energy)];
        Some(SavedRun { machine, taken })
    }

    /// Other shifts or another cycle from now on; what the message does not name is as the configuration has it. What comes
    /// of it is told when it is asked again.
    ///
    /// # Errors
    /// Why the message is refused, as a sentence; nothing of it holds then.
    pub fn handle_plan(&mut self, step: &MachineStep, message: &[u8], now: Now) -> Result<(), String> {
        let plan = plan::parse(message, &step.rule.calendar)?;
        let calendar = plan.calendar.unwrap_or_else(|| step.rule.calendar.clone());
        let cycle = plan.cycle_s.map(Amount::Number).or(step.rule.cycle);
        match &mut self.machine {
            Some(machine) => machine.handle_plan(calendar, cycle, now.wall(), now.at),
            None => {
                // before the time that has passed is put into the shifts of the configuration
                let rule = MachineRule { calendar, cycle, ..step.rule.clone() };
                self.machine = Some(Machine::new(rule, self.saved.take(), now.at));
            }
        }
        Ok(())
    }

    /// Whether an account has ended since this was asked last.
    pub fn take_ended(&mut self) -> bool {
        std::mem::take(&mut self.has_ended)
    }

    /// The machine, once something has been asked of it.
    #[must_use]
    pub const fn machine(&self) -> Option<&Machine> {
        self.machine.as_ref()
    }

    /// Takes in what is known now; tells its tags. When it is to be asked again although nothing is new.
    pub fn handle(&mut self, step: &MachineStep, view: &View<'_>, now: Now, told: &mut Vec<Told>) -> Instant {
        let wall = now.wall();
        let saved = &mut self.saved;
        let mut machine =
            self.machine.take().unwrap_or_else(|| Machine::new(step.rule.clone(), saved.take(), now.at));
        machine.handle_time(wall, now.at);
        self.take_product(step, view, &mut machine, wall, now.at);
        self.tell_closed(step, view, &mut machine, now.stamp, told);
        let (conditions, due) = self.conditions(step, view, now.at);
        self.take_counts(step, view, &mut machine, wall, now.at);
        machine.handle(Sample::Conditions(conditions), wall, now.at);
        let is_away = machine.state() == State::Unknown && !view.is_up(step.device);
        tell(&machine, step, self.doubts, is_away, now.stamp, told);
        let next = machine.next_due();
        self.machine = Some(machine);
        due.map_or(next, |due| due.min(next))
    }

    /// Tells accounts that have ended, at their own time. One that ends while a counter cannot be read lacks what that counter
    /// says later, and the account that takes it has too much.
    fn tell_closed(
        &mut self,
        step: &MachineStep,
        view: &View<'_>,
        machine: &mut Machine,
        at: Stamp,
        told: &mut Vec<Told>,
    ) {
        let before = self.doubts;
        self.doubts = Doubts::of(step, view);
        let doubts = before.worst(self.doubts);
        let account = step.tags.iter().find(|(what, _)| *what == MachineTag::Account).map(|(_, tag)| *tag);
        while let Some(mut closed) = machine.poll_closed() {
            self.has_ended = true;
            self.pieces.is_late |= !doubts.pieces.is_good();
            self.scrap.is_late |= !doubts.scrap.is_good();
            self.energy.is_late |= !doubts.energy.is_good();
            let Some(tag) = account else { continue };
            let figures = &mut closed.figures;
            figures.count_quality = figures.count_quality.worst(doubts.pieces).worst(doubts.scrap);
            figures.energy_quality = figures.energy_quality.worst(doubts.energy);
            let doubt = figures.time_quality.worst(figures.count_quality).worst(figures.energy_quality);
            let value = Ok(Value::Text(text(&closed).into()));
            told.push(Told { tag, value, doubt, at: closed.at.map_or(at, Stamp::Wall) });
        }
    }

    /// What is made, and how long a count of it takes, before what was counted.
    fn take_product(
        &mut self,
        step: &MachineStep,
        view: &View<'_>,
        machine: &mut Machine,
        wall: Option<Timestamp>,
        now: Instant,
    ) {
        if let Some(tag) = step.product.filter(|tag| is_new(view, *tag, &mut self.product)) {
            let made = usable(view, tag).map(ToString::to_string);
            machine.handle(Sample::Product(made), wall, now);
        }
        if let Some((tag, conversion)) = step.cycle
            && is_new(view, tag, &mut self.cycle)
        {
            let cycle = usable(view, tag).and_then(Value::number).map(|cycle| conversion.apply(cycle));
            machine.handle(Sample::Cycle(cycle), wall, now);
        }
    }

    fn conditions(
        &mut self,
        step: &MachineStep,
        view: &View<'_>,
        now: Instant,
    ) -> (Conditions, Option<Instant>) {
        let mut due: Option<Instant> = None;
        let mut holds = |condition: Option<&Expression>, memory: Option<&mut Memory>| {
            let evaluated = condition?.evaluate(view, memory?, now);
            due = due.into_iter().chain(evaluated.due).min();
            match evaluated.value {
                Some(Value::Bool(holds)) if is_usable(evaluated.quality) => Some(holds),
                Some(_) | None => None,
            }
        };
        let conditions = Conditions {
            fault: holds(step.fault.as_ref(), self.fault.as_mut()),
            setup: holds(step.setup.as_ref(), self.setup.as_mut()),
            running: holds(Some(&step.running), Some(&mut self.running)),
            idle: holds(step.idle.as_ref(), self.idle.as_mut()),
        };
        (conditions, due)
    }

    fn take_counts(
        &mut self,
        step: &MachineStep,
        view: &View<'_>,
        machine: &mut Machine,
        wall: Option<Timestamp>,
        now: Instant,
    ) {
        let counts = [
            (step.pieces.zip(step.rule.pieces), &mut self.pieces, true),
            (step.scrap.zip(step.rule.scrap), &mut self.scrap, false),
        ];
        for (source, followed, is_pieces) in counts {
            let Some((from, count)) = source else { continue };
            if let Some(each) = from.each.filter(|each| is_new(view, *each, &mut followed.each)) {
                let each = usable(view, each).and_then(Value::number);
                let sample = if is_pieces { Sample::PiecesEach(each) } else { Sample::ScrapEach(each) };
                machine.handle(sample, wall, now);
            }
            for seen in followed.seen(from, count.kind, view).into_iter().flatten() {
                machine.handle(if is_pieces { Sample::Pieces(seen) } else { Sample::Scrap(seen) }, wall, now);
            }
        }
        if let Some((tag, conversion)) = step.energy {
            let (delta, is_reset) = self.energy.rise(tag, view);
            if is_reset {
                machine.handle(Sample::Energy(None), wall, now);
            }
            if delta > 0.0 {
                machine.handle(Sample::Energy(Some(conversion.apply(delta))), wall, now);
            }
        }
    }
}

/// The counters of pieces, of scrap and of energy, where there are any.
fn counters(step: &MachineStep) -> [Option<TagId>; 3] {
    let counter = |from: Option<CountFrom>, count: Option<Count>| {
        let is_counter = count.is_some_and(|count| count.kind == CountKind::Counter);
        from.filter(|_| is_counter).map(|from| from.tag)
    };
    [
        counter(step.pieces, step.rule.pieces),
        counter(step.scrap, step.rule.scrap),
        step.energy.map(|(tag, _)| tag),
    ]
}

impl Followed {
    /// What the total of a counter has risen by since it was asked last, and whether some of it may be missing.
    fn rise(&mut self, counter: TagId, view: &View<'_>) -> (f64, bool) {
        let (Some(total), resets) = (view.rising(counter), view.resets(counter)) else { return (0.0, false) };
        let delta = self.total.map_or(0.0, |before| total - before);
        let is_late = self.is_late && delta > 0.0;
        let is_other = std::mem::take(&mut self.is_other);
        let is_reset = resets != self.resets || delta < 0.0 || is_late || is_other;
        (self.total, self.resets) = (Some(total), resets);
        self.is_late &= !is_late && usable(view, counter).is_none();
        (delta.max(0.0), is_reset)
    }

    /// What counts has been seen to do since it was asked last.
    fn seen(&mut self, from: CountFrom, kind: CountKind, view: &View<'_>) -> [Option<Seen>; 2] {
        match kind {
            CountKind::Counter => {
                let (delta, is_reset) = self.rise(from.tag, view);
                [(delta > 0.0).then_some(Seen::Delta(delta)), is_reset.then_some(Seen::Missed)]
            }
            CountKind::Rising => {
                let level = match usable(view, from.tag) {
                    Some(Value::Bool(level)) => Some(*level),
                    Some(_) | None => None,
                };
                [Some(Seen::Level(level)), None]
            }
            CountKind::Event => {
                let is_event = is_new(view, from.tag, &mut self.serial) && usable(view, from.tag).is_some();
                [is_event.then_some(Seen::Event), None]
            }
        }
    }
}

/// Whether a tag has another sample than the one whose serial is known; it is known then.
fn is_new(view: &View<'_>, tag: TagId, serial: &mut u64) -> bool {
    let now = view.sample(tag).serial;
    std::mem::replace(serial, now) != now
}

/// Neither bad nor only the last usable one.
fn is_usable(quality: Quality) -> bool {
    !quality.is_bad() && quality != Quality::UncertainLastUsable
}

/// The value of a tag, as far as it is to be used.
fn usable<'a>(view: &'a View<'_>, tag: TagId) -> Option<&'a Value> {
    let sample = view.sample(tag);
    sample.value.filter(|_| is_usable(sample.quality))
}

/// What counts and energy are to be doubted for: of a counter that cannot be read, what it said last is all there is.
#[derive(Clone, Copy, Debug)]
struct Doubts {
    pieces: Quality,
    scrap: Quality,
    energy: Quality,
}

impl Doubts {
    const NONE: Doubts = Doubts { pieces: Quality::Good, scrap: Quality::Good, energy: Quality::Good };

    fn worst(self, other: Doubts) -> Doubts {
        Doubts {
            pieces: self.pieces.worst(other.pieces),
            scrap: self.scrap.worst(other.scrap),
            energy: self.energy.worst(other.energy),
        }
    }

    fn of(step: &MachineStep, view: &View<'_>) -> Doubts {
        let of_tag = |tag: TagId| match usable(view, tag) {
            Some(_) => Quality::Good,
            None => Quality::UncertainLastUsable,
        };
        let of_count = |from: Option<CountFrom>, count: Option<Count>| match from.zip(count) {
            Some((from, Count { kind: CountKind::Counter | CountKind::Rising, .. })) => of_tag(from.tag),
            Some((_, Count { kind: CountKind::Event, .. })) | None => Quality::Good,
        };
        Doubts {
            pieces: of_count(step.pieces, step.rule.pieces),
            scrap: of_count(step.scrap, step.rule.scrap),
            energy: step.energy.map_or(Quality::Good, |(tag, _)| of_tag(tag)),
        }
    }

    /// What a figure is to be doubted for on their account.
    fn about(self, what: MachineTag) -> Quality {
        match what {
            MachineTag::Pieces | MachineTag::Performance => self.pieces,
            MachineTag::Scrap => self.scrap,
            MachineTag::Good | MachineTag::Quality | MachineTag::Oee => self.pieces.worst(self.scrap),
            MachineTag::Energy => self.energy,
            MachineTag::EnergyPerPiece => self.energy.worst(self.pieces),
            MachineTag::State
            | MachineTag::Shift
            | MachineTag::Availability
            | MachineTag::Apt
            | MachineTag::Adot
            | MachineTag::Adet
            | MachineTag::Aust
            | MachineTag::Pbt
            | MachineTag::Account => Quality::Good,
        }
    }
}

/// Tells what is known now. The figures that move by themselves stand still while nobody is there, and are bad: else a
/// machine that is switched off would have something new to say each minute.
fn tell(
    machine: &Machine,
    step: &MachineStep,
    doubts: Doubts,
    is_away: bool,
    at: Stamp,
    told: &mut Vec<Told>,
) {
    let (of_shift, of_product) = (machine.figures(), machine.product_figures());
    for (what, tag) in &step.tags {
        if let Some((value, doubt)) = figure(*what, &of_shift, &of_product, machine.wall_ms().is_some()) {
            let doubt = doubt.worst(doubts.about(*what));
            let value = if is_away && moves(*what) { Err(Quality::BadCommLastValueKnown) } else { value };
            told.push(Told { tag: *tag, value, doubt, at });
        }
    }
}

/// Whether a figure goes on although nothing is read of the machine itself.
const fn moves(what: MachineTag) -> bool {
    match what {
        MachineTag::State
        | MachineTag::Shift
        | MachineTag::Pieces
        | MachineTag::Scrap
        | MachineTag::Good
        | MachineTag::Account => false,
        MachineTag::Energy
        | MachineTag::EnergyPerPiece
        | MachineTag::Availability
        | MachineTag::Performance
        | MachineTag::Quality
        | MachineTag::Oee
        | MachineTag::Apt
        | MachineTag::Adot
        | MachineTag::Adet
        | MachineTag::Aust
        | MachineTag::Pbt => true,
    }
}

/// What a tag says, and what it is to be doubted for; `None`: that is told at other times.
fn figure(
    what: MachineTag,
    shift: &Figures,
    product: &Figures,
    is_placed: bool,
) -> Option<(Result<Value, Quality>, Quality)> {
    let number = |figure: Option<f64>, doubt: Quality| {
        Some((figure.map(Value::Double).ok_or(Quality::UncertainInitial), doubt))
    };
    if !is_placed && what != MachineTag::State && what != MachineTag::Account {
        // not even that nothing was made in its shift is known
        return Some((Err(Quality::UncertainInitial), Quality::UncertainInitial));
    }
    match what {
        MachineTag::State => {
            let doubt =
                if shift.state == State::Unknown { Quality::UncertainLastUsable } else { Quality::Good };
            Some((Ok(Value::Text(shift.state.word().into())), doubt))
        }
        MachineTag::Shift => {
            let name = shift.shift.as_deref().unwrap_or(NO_SHIFT);
            Some((Ok(Value::Text(name.into())), Quality::Good))
        }
        MachineTag::Pieces => number(product.pieces, product.count_quality),
        MachineTag::Scrap => number(product.scrap, product.count_quality),
        MachineTag::Good => number(product.good, product.count_quality),
        MachineTag::Energy => number(product.energy_kwh, product.energy_quality),
        MachineTag::EnergyPerPiece => number(product.kwh_per_piece, product.kwh_per_piece_quality()),
        MachineTag::Availability => number(shift.availability, shift.time_quality),
        MachineTag::Performance => number(shift.performance, shift.oee_quality()),
        MachineTag::Quality => number(shift.quality, shift.count_quality),
        MachineTag::Oee => number(shift.oee, shift.oee_quality()),
        MachineTag::Apt => number(Some(shift.apt_s), shift.time_quality),
        MachineTag::Adot => number(Some(shift.adot_s), shift.time_quality),
        MachineTag::Adet => number(Some(shift.adet_s), shift.time_quality),
        MachineTag::Aust => number(Some(shift.aust_s), shift.time_quality),
        MachineTag::Pbt => number(Some(shift.pbt_s), shift.time_quality),
        MachineTag::Account => None,
    }
}

/// An account that has ended, as it is published.
#[derive(Serialize)]
struct Account<'a> {
    /// `shift`, or `product` within one.
    of: &'static str,
    shift: Option<&'a str>,
    product: Option<&'a str>,
    pieces: Option<f64>,
    scrap: Option<f64>,
    good: Option<f64>,
    energy: Option<f64>,
    kwh_per_piece: Option<f64>,
    availability: Option<f64>,
    performance: Option<f64>,
    quality: Option<f64>,
    oee: Option<f64>,
    apt: f64,
    adot: f64,
    adet: f64,
    aust: f64,
    pbt: f64,
    unknown: f64,
    /// Which of it is to be doubted, and why.
    time_quality: &'static str,
    count_quality: &'static str,
    energy_quality: &'static str,
}

fn text(closed: &Closed) -> String {
    let figures = &closed.figures;
    let account = Account {
        of: if closed.is_shift { "shift" } else { "product" },
        shift: figures.shift.as_deref(),
        product: figures.product.as_deref(),
        pieces: figures.pieces,
        scrap: figures.scrap,
        good: figures.good,
        energy: figures.energy_kwh,
        kwh_per_piece: figures.kwh_per_piece,
        availability: figures.availability,
        performance: figures.performance,
        quality: figures.quality,
        oee: figures.oee,
        apt: figures.apt_s,
        adot: figures.adot_s,
        adet: figures.adet_s,
        aust: figures.aust_s,
        pbt: figures.pbt_s,
        unknown: figures.unknown_s,
        time_quality: figures.time_quality.id(),
        count_quality: figures.count_quality.id(),
        energy_quality: figures.energy_quality.id(),
    };
    serde_json::to_string(&account).unwrap_or_default()
}

#[cfg(test)]
mod tests;
