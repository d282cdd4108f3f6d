//! The totals of all counters: each follows its counter, and is kept over restarts. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::computed::Told;
use super::counter::{Counter, CounterEvent, CounterRule, SavedCounter};
use crate::config::site::{EVERY, Site, Total};
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
    /// The wall time of the last sample.
    wall: Option<Timestamp>,
    /// How often it was reset or replaced in this run.
    resets: u64,
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
                wall: None,
                resets: 0,
            });
        }
        Totals { counters, of }
    }

    /// Goes on from what an earlier run has kept, before the first sample.
    pub fn restore(&mut self, site: &Site, saved: &BTreeMap<String, SavedCounter>) {
        for entry in &mut self.counters {
            if let Some(saved) = saved.get(&site.full_name(entry.total.of)) {
                entry.wall = saved.at_ms.map(Timestamp::from_millis);
                entry.counter = Counter::new(entry.rule, Some(saved.clone()));
            }
        }
    }

    /// What is to be kept, by device and tag.
    #[must_use]
    pub fn saved(&self, site: &Site) -> BTreeMap<String, SavedCounter> {
        let saved = |entry: &Entry| Some((site.full_name(entry.total.of), entry.counter.saved(entry.wall)?));
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

    /// How often a counter was reset or replaced in this run; 0 for what is none.
    #[must_use]
    pub fn resets(&self, tag: TagId) -> u64 {
        let index = self.of.get(tag.index()).copied().flatten();
        index.and_then(|index| self.counters.get(index)).map_or(0, |entry| entry.resets)
    }
}

/// How often totals are written down while the gateway runs: flash wears, and a counter says itself what came since.
pub const KEEP_EVERY: Duration = Duration::from_secs(300);
