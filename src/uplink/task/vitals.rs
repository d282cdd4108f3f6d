//! What the gateway says of itself by this uplink, and how it keeps to its budget.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::Task;
use crate::clock;
use crate::vitals::{Vital, facts};

/// How often it is looked whether the budget is kept.
const BUDGET_EVERY: Duration = Duration::from_secs(60);

impl Task {
    /// Tells how the gateway is, as far as that has changed.
    pub(super) fn tell_vitals(&mut self, now: Instant) {
        let facts = facts::gather(self.counters.store.disk_bytes.get());
        let mut vitals = self.observer.look(&facts, |device| self.session.is_told(device.id), now);
        let waits_from = self.delivery.delivered(false).confirmed;
        let (waiting, age) = (self.delivery.missing(), self.ages.age(waits_from, now));
        vitals.push(Vital::count("Gateway/queue_readings", waiting, 1000.0));
        vitals.push(Vital::count("Gateway/queue_age_s", age.as_secs(), 10.0));
        let is_exposed =
            self.uplink.brokers.iter().any(|broker| broker.is_exposed(self.uplink.proxy.as_ref()));
        vitals.push(Vital::word("Gateway/transport", if is_exposed { "insecure" } else { "protected" }));
        if let Some(budget) = &self.budget {
            vitals.push(Vital::percent("Gateway/budget_used_percent", budget.used(), 5.0));
            vitals.push(Vital::count("Gateway/budget_level", u64::from(budget.level()), 0.0));
            vitals.push(Vital::count("Gateway/readings_thinned", self.session.withheld(), 0.0));
        }
        self.session.handle_vitals(vitals, clock::wall());
        self.vitals_due = self.publish.map(|publish| now + publish);
    }

    /// Looks whether more was sent than the day has room for by now; when to look again.
    pub(super) fn keep_budget(&mut self, now: Instant) {
        let Some(budget) = &mut self.budget else { return };
        self.budget_due = Some(now + BUDGET_EVERY);
        if !budget.handle_time(clock::wall()) {
            return;
        }
        let (level, used, deadband) = (budget.level(), budget.used(), budget.deadband());
        self.replay.set_rate(self.uplink.history_rate * budget.history_share());
        self.session.set_thinning(deadband, clock::wall());
        let uplink = &self.uplink.name;
        match deadband {
            Some(deadband) => {
                warn!(%uplink, level, used, deadband, "more was sent than the budget has room for: small changes are withheld, history is slower")
            }
            None => info!(%uplink, used, "within the budget again"),
        }
        self.tell_vitals(now);
    }
}
