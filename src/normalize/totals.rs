//! The totals of all counters: each follows its counter, and is kept over restarts. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::computed::Told;
use super::counter::{Counter, CounterEvent, CounterRule, SavedCounter};
use crate::config::site::{EVERY, Registers, Site, Source, Total};
use crate::reading::{Quality, Stamp, Timestamp, Value};
use crate::tag::TagId;

/// The counters of a site.
#[derive(Debug)]
pub struct Totals {
    counters: Vec<Entry>,
    /// By tag: the counter that it is.
    of: Vec<Option<usize>>,
}

#[derive(Debug)]
struct Entry {
    total: Total,
    rule: CounterRule,
    counter: Counter,
    /// What it was read from last and how; `None`: it may be read in several ways, and it is not known yet in which.
    from: Option<String>,
    /// The wall time of the last sample.
    wall: Option<Timestamp>,
    /// How often it was reset or replaced in this run.
    resets: u64,
}

/// What is kept of a total over a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedTotal {
    /// The counter.
    #[serde(flatten)]
    pub counter: SavedCounter,
    /// What it was read from and how, as words that differ where that does; `None`: an earlier version has not kept it.
    #[serde(default)]
    pub from: Option<String>,
    /// What it was measured in.
    #[serde(default)]
    pub unit: Option<String>,
}

impl Totals {
    /// All from 0.
    #[must_use]
    pub fn new(site: &Site) -> Totals {
        let mut of = vec![None; site.tags.len()];
        let mut counters = Vec::new();
        for total in &site.totals {
            let every = site.tags.get(total.of.index()).and_then(|tag| tag.every).unwrap_or(EVERY);
            let rule = CounterRule { wraps_at: total.wraps_at, max_rate: total.max_rate, every };
            of.get_mut(total.of.index()).into_iter().for_each(|of| *of = Some(counters.len()));
            counters.push(Entry {
                total: *total,
                rule,
                counter: Counter::new(rule, None),
                from: identity(site, total.of).0,
                wall: None,
                resets: 0,
            });
        }
        Totals { counters, of }
    }

    /// Goes on from what an earlier run has kept, before the first sample. Where the counter is read from something else, or
    /// scaled otherwise, its values cannot be held against those of before: what came meanwhile counts for nothing. In
    /// another unit the total begins at 0.
    pub fn restore(&mut self, site: &Site, saved: &BTreeMap<String, SavedTotal>) {
        for entry in &mut self.counters {
            let Some(saved) = saved.get(&site.full_name(entry.total.of)) else { continue };
            let (_, unit) = identity(site, entry.total.of);
            if saved.from.is_some() && saved.unit.as_deref() != unit {
                entry.resets += 1;
                continue;
            }
            entry.wall = saved.counter.at_ms.map(Timestamp::from_millis);
            entry.counter = Counter::new(entry.rule, Some(saved.counter.clone()));
            if let Some(from) = std::mem::replace(&mut entry.from, saved.from.clone()) {
                entry.read_from(from);
            }
        }
    }

    /// A tag is read as `reader` from now on: where that is another way than before, its values cannot be held against
    /// those of before.
    pub fn read_as(&mut self, site: &Site, tag: TagId, reader: TagId) {
        let index = self.of.get(tag.index()).copied().flatten();
        let entry = index.and_then(|index| self.counters.get_mut(index));
        if let (Some(entry), (Some(from), _)) = (entry, identity(site, reader)) {
            entry.read_from(from);
        }
    }

    /// What is to be kept, by device and tag.
    #[must_use]
    pub fn saved(&self, site: &Site) -> BTreeMap<String, SavedTotal> {
        let saved = |entry: &Entry| {
            let counter = entry.counter.saved(entry.wall)?;
            let (_, unit) = identity(site, entry.total.of);
            let saved = SavedTotal { counter, from: entry.from.clone(), unit: unit.map(str::to_owned) };
            Some((site.full_name(entry.total.of), saved))
        };
        self.counters.iter().filter_map(saved).collect()
    }

    /// A sample of a tag; `None` where it is no counter.
    pub fn handle(
        &mut self,
        tag: TagId,
        value: Option<&Value>,
        quality: Quality,
        at: Stamp,
        now: Instant,
    ) -> Option<Told> {
        let index = self.of.get(tag.index()).copied().flatten()?;
        let entry = self.counters.get_mut(index)?;
        let told = |value| Some(Told { tag: entry.total.tag, value, doubt: quality, at });
        if quality.is_bad() {
            return told(Err(quality));
        }
        let wall = match at {
            Stamp::Wall(at) => Some(at),
            Stamp::SinceBoot(_) => None,
        };
        let Some(step) = value.and_then(|value| entry.counter.handle(value, now, wall)) else {
            return told(Err(Quality::BadSensorFailure));
        };
        entry.wall = wall.or(entry.wall);
        entry.resets += u64::from(step.event == Some(CounterEvent::Reset));
        told(Ok(Value::Double(step.total)))
    }

    /// The total of a tag that is a counter.
    #[must_use]
    pub fn total(&self, tag: TagId) -> Option<f64> {
        let index = self.of.get(tag.index()).copied().flatten()?;
        self.counters.get(index).map(|entry| entry.counter.total())
    }

    /// The tag of the total of a tag that is a counter.
    #[must_use]
    pub fn tag_of(&self, tag: TagId) -> Option<TagId> {
        let index = self.of.get(tag.index()).copied().flatten()?;
        self.counters.get(index).map(|entry| entry.total.tag)
    }

    /// How often a counter was reset or replaced in this run; 0 for what is none.
    #[must_use]
    pub fn resets(&self, tag: TagId) -> u64 {
        let index = self.of.get(tag.index()).copied().flatten();
        index.and_then(|index| self.counters.get(index)).map_or(0, |entry| entry.resets)
    }
}

impl Entry {
    fn read_from(&mut self, from: String) {
        if self.from.as_ref().is_some_and(|before| *before != from) {
            self.counter.forget_value();
            self.resets += 1;
        }
        self.from = Some(from);
    }
}

/// What a counter is read from and how, in words, `None` where it may be read in several ways; and what it is measured in.
fn identity(site: &Site, tag: TagId) -> (Option<String>, Option<&'static str>) {
    let Some(tag) = site.tags.get(tag.index()) else { return (None, None) };
    let from = match &tag.source {
        Source::Registers(registers) => Some(read_from(site, registers)),
        Source::Constant(_) | Source::Computed | Source::Control(_) => Some(String::new()),
        Source::Chosen(_) => None,
    };
    (from, tag.unit.map(|unit| unit.written))
}

fn read_from(site: &Site, registers: &Registers) -> String {
    let mut from = match registers.digits {
        Some((identifier, format)) => format!("{identifier:?} {format:?}"),
        None => {
            let layout = &registers.layout;
            let model = layout.model.map_or_else(String::new, |model| format!("{model}+"));
            format!("{model}{} {:?} {:?}", layout.span, layout.data_type, layout.order)
        }
    };
    if let Some(scaling) = registers.layout.scaling {
        from += &format!(" * {} + {}", scaling.scale, scaling.offset);
    }
    let Some(recipe) = &registers.recipe else { return from };
    if let Some(expression) = &recipe.expression {
        from += &format!(" = {}", expression.text());
    }
    for other in recipe.ratio.iter().chain(&recipe.scale_from).chain(&recipe.decimals_from) {
        from += &format!(" * {}", site.full_name(*other));
        if let Some(Source::Constant(value)) = site.tags.get(other.index()).map(|tag| &tag.source) {
            from += &format!("={value}");
        }
    }
    if let Some(conversion) = recipe.conversion {
        from += &format!(" * {} / {} + {}", conversion.factor, conversion.divisor, conversion.offset);
    }
    from
}

/// How often totals are written down while the gateway runs: flash wears, and a counter says itself what came since.
pub const KEEP_EVERY: Duration = Duration::from_secs(300);
