//! What the gateway says of itself: how it, its lines and its devices are.
//!
//! Counters and facts of the machine come in, now and then; figures with names go out, the same ones in the same order
//! each time, so that whoever tells of them can see which have changed.

pub mod facts;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::site::{Device, Site};
use crate::counters::{Counters, DeviceCounters};
use crate::reading::Value;
use facts::Facts;

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Vital {
    /// Its metric name.
    pub name: String,
    /// What it is now.
    pub value: Value,
    /// A change of up to so much is not worth telling; 0 for all that are no numbers.
    pub deadband: f64,
}

impl Vital {
    /// A count or a size.
    #[must_use]
    pub fn count(name: impl Into<String>, count: u64, deadband: f64) -> Vital {
        let value = Value::Int(i64::try_from(count).unwrap_or(i64::MAX));
        Vital { name: name.into(), value, deadband }
    }

    /// A share of the whole, in percent.
    #[must_use]
    pub fn percent(name: impl Into<String>, share: f64, deadband: f64) -> Vital {
        let tenths = (share * 1000.0).round() / 10.0;
        Vital { name: name.into(), value: Value::Double(tenths), deadband }
    }

    /// A state.
    #[must_use]
    pub fn word(name: impl Into<String>, word: &str) -> Vital {
        Vital { name: name.into(), value: Value::Text(word.into()), deadband: 0.0 }
    }

    /// Whether it is worth telling, where `told` was told last.
    #[must_use]
    pub fn has_changed(&self, told: &Value) -> bool {
        match (self.value.number(), told.number()) {
            (Some(now), Some(then)) => (now - then).abs() > self.deadband,
            _ => !self.value.is_same(told),
        }
    }
}

/// Looks at the counters from time to time, and knows what they were before.
#[derive(Debug)]
pub struct Observer {
    site: Arc<Site>,
    counters: Arc<Counters>,
    started: Instant,
    before: Before,
}

/// What was found the last time.
#[derive(Debug)]
struct Before {
    at: Instant,
    cpu: Duration,
    /// Of each link: the time in which it was busy.
    busy: Vec<Duration>,
    /// Of each device: readings that it has given.
    given: Vec<u64>,
}

impl Observer {
    /// Begins to look.
    #[must_use]
    pub fn new(site: Arc<Site>, counters: Arc<Counters>, facts: &Facts, now: Instant) -> Observer {
        let before = before(&counters, facts, now);
        Observer { site, counters, started: now, before }
    }

    /// How everything is; shares are of the time since this was asked last. `is_told` says which devices are spoken of.
    pub fn look(&mut self, facts: &Facts, is_told: impl Fn(&Device) -> bool, now: Instant) -> Vec<Vital> {
        let passed = now.saturating_duration_since(self.before.at).as_secs_f64().max(0.001);
        let mut vitals = self.of_gateway(facts, passed, now);
        vitals.extend(self.of_links(&is_told, passed));
        for (device, counters) in self.site.devices.iter().zip(&self.counters.devices) {
            if is_told(device) && !device.is_own() {
                let given = self.before.given.get(device.id.index()).copied().unwrap_or_default();
                let given = counters.readings.get().saturating_sub(given);
                vitals.extend(of_device(&self.site, device, counters, given, passed));
            }
        }
        self.before = before(&self.counters, facts, now);
        vitals
    }

    fn of_gateway(&self, facts: &Facts, passed: f64, now: Instant) -> Vec<Vital> {
        let cpu = facts.cpu.saturating_sub(self.before.cpu).as_secs_f64() / passed;
        let of_devices = |count: fn(&DeviceCounters) -> u64| self.counters.of_devices(count);
        let store = &self.counters.store;
        vec![
            Vital::count("Gateway/uptime_s", now.saturating_duration_since(self.started).as_secs(), 3599.0),
            Vital::word("Gateway/clock", facts.clock),
            Vital::count("Gateway/clock_ahead_ms", millis(facts.clock_ahead), 1000.0),
            Vital::percent("Gateway/cpu_percent", cpu, 2.0),
            Vital::count("Gateway/memory_kib", facts.memory >> 10, 512.0),
            Vital::count("Gateway/flash_written_kib", facts.flash_written >> 10, 1024.0),
            Vital::count("Gateway/queue_size_kib", store.size.get() >> 10, 512.0),
            Vital::count("Gateway/timeouts", of_devices(|device| device.timeouts.get()), 0.0),
            Vital::count("Gateway/replies_late", of_devices(|device| device.late.get()), 0.0),
            Vital::count("Gateway/frames_foreign", of_devices(|device| device.foreign.get()), 0.0),
            Vital::count("Gateway/exceptions", of_devices(|device| device.exceptions.sum()), 0.0),
            Vital::count("Gateway/overruns", of_devices(DeviceCounters::overruns), 0.0),
            Vital::count("Gateway/connects", self.counters.connects.get(), 0.0),
            Vital::count("Gateway/reloads_refused", self.counters.reloads_refused.get(), 0.0),
        ]
    }

    /// Of those links that carry a device which is spoken of.
    fn of_links(&self, is_told: &impl Fn(&Device) -> bool, passed: f64) -> impl Iterator<Item = Vital> {
        let links = self.site.links.iter().zip(&self.counters.links).zip(&self.before.busy).enumerate();
        let is_spoken_of =
            |link: usize| self.site.devices.iter().any(|device| device.link == link && is_told(device));
        let links = links.filter(move |(index, _)| is_spoken_of(*index));
        links.flat_map(move |(index, ((link, counters), busy))| {
            let busy = counters.busy.get().saturating_sub(*busy).as_secs_f64();
            let on_it = self.site.devices.iter().zip(&self.counters.devices);
            let errors = on_it.filter(|(device, _)| device.link == index).map(|(_, device)| {
                device.checksum_errors.get() + device.foreign.get() + device.timeouts.get()
            });
            let errors = errors.sum::<u64>() + counters.unasked.get() + counters.collisions.get();
            let refused = counters.callers_refused.get() + counters.callers_unknown.get();
            let name = |what: &str| format!("Link/{}/{what}", link.name);
            let share = (busy / passed / f64::from(link.connections.max(1))).min(1.0);
            [
                Vital::percent(name("utilisation_percent"), share, 5.0),
                Vital::count(name("errors"), errors, 0.0),
                Vital::count(name("callers_refused"), refused, 0.0),
            ]
        })
    }
}

fn before(counters: &Counters, facts: &Facts, now: Instant) -> Before {
    Before {
        at: now,
        cpu: facts.cpu,
        busy: counters.links.iter().map(|link| link.busy.get()).collect(),
        given: counters.devices.iter().map(|device| device.readings.get()).collect(),
    }
}

/// A device's completeness is what it gave of what was due by the rates of its tags, whatever the reason.
fn of_device(site: &Site, device: &Device, counters: &DeviceCounters, given: u64, passed: f64) -> [Vital; 2] {
    let rate: f64 = site
        .tags_of(device)
        .iter()
        .filter_map(|tag| tag.every)
        .map(|every| every.as_secs_f64().recip())
        .sum();
    let due = rate * passed;
    let share = if due < 1.0 { 1.0 } else { (whole(given) / due).min(1.0) };
    let name = |what: &str| format!("Device/{}/{what}", device.name);
    let errors = counters.timeouts.get() + counters.checksum_errors.get() + counters.exceptions.sum();
    [Vital::percent(name("completeness_percent"), share, 2.0), Vital::count(name("errors"), errors, 0.0)]
}

#[expect(clippy::cast_precision_loss, reason = "a share of some thousands of readings")]
fn whole(count: u64) -> f64 {
    count as f64
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: &str = "
        [gateway]\nname = \"n\"\nenterprise = \"g\"\n[uplink.u]\nbroker = \"mqtt://127.0.0.1\"
        [link.l]\ntcp = \"127.0.0.1:1502\"\nconnections = 2
        [device.d]\nlink = \"l\"\ntags = [{ name = \"a\", at = \"hr:0\" }, { name = \"b\", at = \"hr:1\", every = \"500ms\" }]
        [device.e]\nlink = \"l\"\ntags = [{ name = \"a\", at = \"hr:0\", every = \"never\" }]
    ";

    fn number(vitals: &[Vital], name: &str) -> f64 {
        let vital = vitals.iter().find(|vital| vital.name == name);
        vital.unwrap_or_else(|| panic!("{name}")).value.number().unwrap()
    }

    #[test]
    fn shares_are_of_the_time_since_the_last_look() {
        let site = Arc::new(crate::config::parse("site", SITE).site.unwrap());
        let counters = Arc::new(Counters::new(1, site.devices.iter().map(|device| site.rates(device))));
        let start = crate::clock::monotonic();
        let facts = |cpu| Facts { cpu: Duration::from_millis(cpu), memory: 8 << 20, ..Facts::default() };
        let mut observer = Observer::new(site, counters.clone(), &facts(500), start);
        counters.links[0].busy.add(Duration::from_secs(5));
        counters.devices[0].readings.add(15);
        let now = start + Duration::from_secs(10);
        let vitals = observer.look(&facts(700), |_| true, now);
        let expected = [
            ("Gateway/cpu_percent", 2.0),
            ("Gateway/memory_kib", 8192.0),
            ("Link/l/utilisation_percent", 25.0),
            ("Device/d/completeness_percent", 50.0),
            ("Device/e/completeness_percent", 100.0),
        ];
        for (name, expected) in expected {
            assert!((number(&vitals, name) - expected).abs() < 1e-9, "{name}: {}", number(&vitals, name));
        }
        let later = observer.look(&facts(700), |device| &*device.name == "e", now + Duration::from_secs(10));
        assert!(number(&later, "Link/l/utilisation_percent").abs() < 1e-9);
        assert!(later.iter().all(|vital| !vital.name.starts_with("Device/d/")), "not spoken of");
        let none = observer.look(&facts(700), |_| false, now + Duration::from_secs(20));
        assert!(none.iter().all(|vital| vital.name.starts_with("Gateway/")), "nor its link");
    }

    #[test]
    fn a_change_within_the_deadband_is_not_told() {
        let told = |deadband, now, then| Vital::count("x", now, deadband).has_changed(&Value::Int(then));
        assert_eq!([told(10.0, 110, 100), told(10.0, 111, 100), told(0.0, 1, 1)], [false, true, false]);
        let word = Vital::word("x", "ok");
        assert!(
            !word.has_changed(&Value::Text("ok".into())) && word.has_changed(&Value::Text("full".into()))
        );
    }
}
