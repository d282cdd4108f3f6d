//! A machine's state, and the account of its shift (ISO 22400-2:2014, see [`figures`]).
//!
//! What the conditions gave, what was counted and what was used comes in, with the wall time and a monotonic `now`; the
//! state, figures, and at the end of each shift its final figures go out. How long something took is told by the
//! monotonic clock only; the wall clock says where the shifts lie. So a wall clock that is put forward or back moves
//! the ends of shifts, and makes no time. Nothing is claimed of time in which nobody looked: it is unknown.

mod account;
pub mod capacity;
mod count;
pub mod figures;
pub mod plan;
pub mod run;
mod state;
mod tally;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::calendar::{Calendar, Stretch};
use crate::config::site::{Amount, MachineRule};
use crate::reading::Timestamp;
use account::Account;
pub use account::Saved;
pub use capacity::{Capacity, FreeTime};
pub use count::Seen;
use count::{Counted, Counting};
pub use figures::Figures;
pub use state::{Conditions, State};
use tally::is_quantity;

/// A machine is looked at at least so often, so that a step of the wall clock is seen.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Time in which nobody looked for longer than this is unknown.
const UNSEEN_MAX: Duration = Duration::from_secs(600);
/// A wall clock that is put back by at most this does not open a shift that has been closed again; put forward by at
/// most this it leaves nothing unseen.
const STEP_MAX_MS: u64 = 3_600_000;
/// The most boundaries that are gone through at once; what lies beyond was unseen, and is not told of.
const BOUNDARIES_MAX: usize = 24;
/// Closed accounts that wait to be taken: twice the boundaries of one call and more; the oldest gives way.
const CLOSED_MAX: usize = 64;
/// A longer product name counts as unknown, in bytes.
const PRODUCT_MAX: usize = 256;

/// Something that was seen of a machine.
#[derive(Clone, Debug, PartialEq)]
pub enum Sample {
    /// What its conditions gave.
    Conditions(Conditions),
    /// Of what counts its pieces.
    Pieces(Seen),
    /// Of what counts its scrap.
    Scrap(Seen),
    /// Pieces of each count, where a tag says so; `None`: not known.
    PiecesEach(Option<f64>),
    /// Scrap of each count, where a tag says so; `None`: not known.
    ScrapEach(Option<f64>),
    /// What its meter has gone up by, in kWh; `None`: the meter was replaced or reset, and some is missing.
    Energy(Option<f64>),
    /// What is made; `None`: not known, then it is what it was.
    Product(Option<String>),
    /// The planned time of a count, in s, where a tag says so; `None`: not known, then it is what it was.
    Cycle(Option<f64>),
}

/// An account that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Closed {
    /// Whether it is that of a whole shift; else that of a product within one.
    pub is_shift: bool,
    /// When it ended; `None`: before the first wall time that is to be trusted.
    pub at: Option<Timestamp>,
    /// Its final figures; the state is the one in which it ended.
    pub figures: Figures,
}

/// Where in the calendar it is.
#[derive(Clone, Debug)]
struct Place {
    at_ms: u64,
    stretch: Stretch,
}

/// One machine.
#[derive(Debug)]
pub struct Machine {
    rule: MachineRule,
    state: State,
    /// Until when its time is accounted for.
    seen: Instant,
    /// `None`: no wall time that is to be trusted has come.
    place: Option<Place>,
    account: Account,
    /// From an earlier run, until the first wall time.
    saved: Option<Saved>,
    free: FreeTime,
    pieces: Option<Counting>,
    scrap: Option<Counting>,
    cycle_s: Option<f64>,
    closed: VecDeque<Closed>,
}

impl Machine {
    /// A machine of which nothing is known, but what an earlier run has kept.
    #[must_use]
    pub fn new(rule: MachineRule, saved: Option<Saved>, now: Instant) -> Machine {
        let cycle_s = match rule.cycle {
            Some(Amount::Number(cycle_s)) => Some(cycle_s).filter(|cycle_s| is_quantity(*cycle_s)),
            Some(Amount::Tag) | None => None,
        };
        Machine {
            state: State::of(&rule, Conditions::default()),
            seen: now,
            place: None,
            account: Account::default(),
            saved: saved.filter(Saved::is_sound),
            free: FreeTime::default(),
            pieces: rule.pieces.map(Counting::new),
            scrap: rule.scrap.map(Counting::new),
            cycle_s,
            closed: VecDeque::new(),
            rule,
        }
    }

    /// Takes what was seen at `now`; `wall` is `None` while the wall clock is not to be trusted.
    pub fn handle(&mut self, sample: Sample, wall: Option<Timestamp>, now: Instant) {
        self.handle_time(wall, now);
        match sample {
            Sample::Conditions(conditions) => self.state = State::of(&self.rule, conditions),
            Sample::Pieces(seen) => {
                let counted = self.pieces.as_mut().map(|counting| counting.see(seen)).unwrap_or_default();
                self.count_pieces(counted);
            }
            Sample::Scrap(seen) => {
                let counted = self.scrap.as_mut().map(|counting| counting.see(seen)).unwrap_or_default();
                self.account.count_scrap(counted);
            }
            Sample::PiecesEach(each) => self.pieces.iter_mut().for_each(|counting| counting.set_each(each)),
            Sample::ScrapEach(each) => self.scrap.iter_mut().for_each(|counting| counting.set_each(each)),
            Sample::Energy(kwh) => match kwh.filter(|kwh| is_quantity(*kwh)) {
                Some(kwh) => self.account.use_energy(kwh),
                None => self.account.mark_energy_gap(),
            },
            Sample::Product(product) => self.make(product),
            Sample::Cycle(cycle_s) => {
                self.cycle_s = cycle_s.filter(|cycle_s| is_quantity(*cycle_s)).or(self.cycle_s);
            }
        }
    }

    /// Lets time pass up to `now`: to be called at the latest when [`Machine::next_due`] says so.
    pub fn handle_time(&mut self, wall: Option<Timestamp>, now: Instant) {
        let elapsed = now.saturating_duration_since(self.seen);
        self.seen = self.seen.max(now);
        let state = if elapsed > UNSEEN_MAX { State::Unknown } else { self.state };
        self.pass(state, elapsed);
        if let Some(wall) = wall {
            self.settle(wall.millis());
        }
    }

    /// An account that has ended; to be taken after each `handle`, until there is none.
    pub fn poll_closed(&mut self) -> Option<Closed> {
        self.closed.pop_front()
    }

    /// Other shifts or another cycle from `now` on; what was counted stays, in the shift that it is by the new plan.
    pub fn handle_plan(
        &mut self,
        calendar: Calendar,
        cycle: Option<Amount>,
        wall: Option<Timestamp>,
        now: Instant,
    ) {
        self.handle_time(wall, now);
        self.rule.cycle = cycle;
        if let Some(Amount::Number(cycle_s)) = cycle {
            self.cycle_s = Some(cycle_s);
        }
        self.rule.calendar = calendar;
        if let Some(place) = self.place.take()
            && let Some(stretch) = self.rule.calendar.at(place.at_ms)
        {
            self.account.name(&stretch);
            self.place = Some(Place { at_ms: place.at_ms, stretch });
        }
    }

    /// When it is to be looked at again: at the next boundary of a shift or a break, and each minute.
    #[must_use]
    pub fn next_due(&self) -> Instant {
        let left = self.place.as_ref().map_or(LOOK_EVERY, |place| {
            Duration::from_millis(place.stretch.until_ms.saturating_sub(place.at_ms)).min(LOOK_EVERY)
        });
        self.seen.checked_add(left).unwrap_or(self.seen)
    }

    /// What it is doing.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Whether it could take work now: idle or stopped, in planned time.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.state.is_free() && self.is_planned()
    }

    /// The figures of the shift so far, all products.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.figures_of(true)
    }

    /// The figures of what is made now, within the shift.
    #[must_use]
    pub fn product_figures(&self) -> Figures {
        self.figures_of(false)
    }

    /// When it is planned to work.
    #[must_use]
    pub const fn calendar(&self) -> &Calendar {
        &self.rule.calendar
    }

    /// The class whose free capacity it adds to.
    #[must_use]
    pub fn class(&self) -> Option<&str> {
        self.rule.class.as_deref()
    }

    /// When it was free.
    #[must_use]
    pub const fn free_time(&self) -> &FreeTime {
        &self.free
    }

    /// The wall time up to which its time is accounted for, in milliseconds since the epoch.
    #[must_use]
    pub fn wall_ms(&self) -> Option<u64> {
        self.place.as_ref().map(|place| place.at_ms)
    }

    /// What is to be kept over a restart; `None` while no wall time has come and nothing was kept before.
    #[must_use]
    pub fn save(&self) -> Option<Saved> {
        match &self.place {
            Some(place) => {
                let (account, free) = (self.account.clone(), self.free.clone());
                Some(Saved { at_ms: place.at_ms, account, free })
            }
            None => self.saved.clone(),
        }
    }

    fn is_planned(&self) -> bool {
        self.place.as_ref().is_some_and(|place| place.stretch.is_planned)
    }

    fn count_pieces(&mut self, counted: Counted) {
        let is_planned = self.is_planned();
        self.account.count_pieces(counted, is_planned, self.cycle_s);
    }

    /// Another product closes the account of the one before it; the first that is known does not.
    fn make(&mut self, product: Option<String>) {
        let Some(product) = product.filter(|product| product.len() <= PRODUCT_MAX) else { return };
        if self.account.product.as_ref().is_some_and(|made| *made != product) {
            self.close(false, self.wall_ms());
            self.account.part = tally::Tally::default();
        }
        self.account.product = Some(product);
    }

    /// Goes on by the time that has passed, over the boundaries on its way.
    fn pass(&mut self, state: State, elapsed: Duration) {
        let mut left = elapsed;
        for _ in 0..BOUNDARIES_MAX {
            let Some(place) = &mut self.place else { return };
            let at_ms = place.at_ms;
            let until = Duration::from_millis(place.stretch.until_ms.saturating_sub(at_ms));
            let part = left.min(until);
            place.at_ms = at_ms.saturating_add(u64::try_from(part.as_millis()).unwrap_or(u64::MAX));
            if place.stretch.is_planned {
                self.account.spend(state, part);
                if state.is_free() {
                    self.free.add(at_ms, part);
                }
            }
            if left < until {
                return;
            }
            left = left.saturating_sub(part);
            let to_ms = place.stretch.until_ms;
            self.turn(to_ms, false);
        }
    }

    /// Puts it where the wall clock says that it is.
    fn settle(&mut self, wall_ms: u64) {
        let Some(place) = &mut self.place else {
            self.begin(wall_ms);
            return;
        };
        let from_ms = self.account.from_ms;
        let is_back = wall_ms < from_ms && from_ms.saturating_sub(wall_ms) <= STEP_MAX_MS;
        let wall_ms = if is_back { from_ms } else { wall_ms };
        let is_far = wall_ms.abs_diff(place.at_ms) > STEP_MAX_MS;
        if (place.stretch.since_ms..place.stretch.until_ms).contains(&wall_ms) {
            place.at_ms = wall_ms;
        } else {
            self.turn(wall_ms, is_far);
        }
    }

    /// The first wall time: what was kept goes on, and the time away is unknown.
    fn begin(&mut self, wall_ms: u64) {
        let counted = std::mem::take(&mut self.account);
        let mut ends = false;
        match self.saved.take() {
            Some(saved) => {
                self.account = saved.account;
                self.free = saved.free;
                // what was made meanwhile is of both, and is put into the later one
                ends = self.rule.calendar.at(wall_ms).is_none_or(|stretch| !self.account.is_of(&stretch));
                if ends {
                    self.mark_missed();
                }
                self.place =
                    self.rule.calendar.at(saved.at_ms).map(|stretch| Place { at_ms: saved.at_ms, stretch });
                let away_ms = wall_ms.saturating_sub(saved.at_ms);
                if away_ms > 0 && self.misses_what_is_unseen() {
                    self.account.mark_gap();
                }
                self.pass(State::Unknown, Duration::from_millis(away_ms));
                if self.place.is_some() {
                    self.settle(wall_ms);
                } else {
                    self.turn(wall_ms, true);
                }
            }
            None => self.turn(wall_ms, true),
        }
        if ends && !counted.whole.is_empty() {
            self.mark_missed();
        }
        self.account.whole.merge(&counted.whole);
        self.account.part.merge(&counted.part);
        if counted.product.is_some() {
            self.make(counted.product);
        }
    }

    /// Some of what is counted and metered is not in the account.
    fn mark_missed(&mut self) {
        if self.pieces.is_some() || self.scrap.is_some() {
            self.account.mark_gap();
        }
        if self.rule.has_energy {
            self.account.mark_energy_gap();
        }
    }

    fn misses_what_is_unseen(&self) -> bool {
        [&self.pieces, &self.scrap].into_iter().flatten().any(Counting::misses_what_is_unseen)
    }

    /// Enters the stretch of a moment; where it is of another shift, the account is closed and another opened. What
    /// has passed of a shift that is entered late, `unseen`, is unknown.
    fn turn(&mut self, at_ms: u64, unseen: bool) {
        let Some(stretch) = self.rule.calendar.at(at_ms) else {
            self.place = None;
            return;
        };
        if self.place.is_none() && self.account.from_ms == 0 {
            self.account = Account::open(&stretch, at_ms, self.account.product.take());
            self.add_unseen(&stretch, at_ms);
        } else if !self.account.is_of(&stretch) {
            self.close_all(at_ms);
            self.account = Account::open(&stretch, at_ms, self.account.product.take());
            if unseen {
                self.add_unseen(&stretch, at_ms);
            }
        } else {
            self.account.name(&stretch);
        }
        self.place = Some(Place { at_ms, stretch });
    }

    fn add_unseen(&mut self, stretch: &Stretch, at_ms: u64) {
        let Some(shift) = &stretch.shift else { return };
        let unseen_ms = self.rule.calendar.planned_ms(shift.from_ms, at_ms);
        if unseen_ms > 0 {
            self.account.spend(State::Unknown, Duration::from_millis(unseen_ms));
            self.account.mark_gap();
            self.account.mark_energy_gap();
        }
    }

    /// Ends the account, where it holds anything.
    fn close_all(&mut self, at_ms: u64) {
        let at_ms = if self.account.shift.is_some() { self.account.to_ms } else { at_ms };
        if self.account.whole.is_empty() {
            return;
        }
        if self.rule.has_product {
            self.close(false, Some(at_ms));
        }
        self.close(true, Some(at_ms));
    }

    fn close(&mut self, is_shift: bool, at_ms: Option<u64>) {
        if self.closed.len() >= CLOSED_MAX {
            self.closed.pop_front();
        }
        let figures = self.figures_of(is_shift);
        self.closed.push_back(Closed { is_shift, at: at_ms.map(Timestamp::from_millis), figures });
    }

    fn figures_of(&self, is_shift: bool) -> Figures {
        let account = &self.account;
        let tally = if is_shift { &account.whole } else { &account.part };
        Figures::of(&self.rule, tally, self.state, account.shift.clone(), account.product.clone())
    }
}

#[cfg(test)]
mod tests;
