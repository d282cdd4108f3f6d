//! What is due on a connection, and what has been waited for too long.

use std::time::{Duration, Instant};

use super::Task;
use super::talk::{Talk, Turn};
use crate::clock;
use crate::uplink::mqtt::WINDOW;

/// How long a broker may take from the connection to the granted subscription; it then counts as failed.
const BIRTH_PATIENCE: Duration = Duration::from_secs(20);
/// How long a broker may take to acknowledge a barrier, where that is more than a keep-alive takes.
const BARRIER_PATIENCE: Duration = Duration::from_secs(30);
/// How long the primary host may take to say at a server that it is there, where there are others.
const HOST_PATIENCE: Duration = Duration::from_secs(30);
/// How long data may wait for devices that have not answered yet, after the first births of the program.
const BIRTH_HOLD: Duration = Duration::from_secs(2);

impl Task {
    /// When something is to be done if nothing happens before.
    pub(super) fn due(&self, talk: &Talk) -> Instant {
        let silent = talk.heard + self.silence();
        let has_room = talk.in_hand < WINDOW;
        let all = [
            Some(silent),
            talk.subscribed.is_none().then_some(talk.started + BIRTH_PATIENCE),
            self.host_due(talk),
            talk.born.filter(|_| self.session.is_held()).map(|born| born + BIRTH_HOLD),
            self.vitals_due,
            self.budget_due.map(|due| due.max(talk.started)),
            self.delivery.waits_since().map(|since| since + self.barrier_patience()),
            self.delivery.barrier_due().filter(|_| has_room),
            self.session.rebirth_due(),
            self.self_test.due(),
        ];
        all.into_iter().flatten().min().unwrap_or(silent)
    }

    /// When the next server is tried because the primary host says nothing here.
    fn host_due(&self, talk: &Talk) -> Option<Instant> {
        let has_others = self.uplink.brokers.len() > 1;
        talk.subscribed.filter(|_| has_others && talk.born.is_none()).map(|at| at + HOST_PATIENCE)
    }

    /// How long a broker may say nothing. A large birth on a slow line keeps its answers away.
    fn silence(&self) -> Duration {
        self.uplink.keep_alive * 3 / 2 + self.delivery.transit()
    }

    fn barrier_patience(&self) -> Duration {
        BARRIER_PATIENCE.max(self.uplink.keep_alive * 3 / 2) + self.delivery.transit()
    }

    /// Does what is due.
    pub(super) fn handle_due(&mut self, talk: &mut Talk) {
        let now = clock::monotonic();
        self.session.handle_due(now, clock::wall());
        if talk.born.is_some_and(|born| now.saturating_duration_since(born) >= BIRTH_HOLD) {
            self.session.release();
        }
        if self.vitals_due.is_some_and(|due| due <= now) {
            self.tell_vitals(now);
        }
        if self.budget_due.is_some_and(|due| due <= now) {
            self.keep_budget(now);
        }
        self.book();
        if let Some(verdict) = self.self_test.poll_verdict(now) {
            self.judge(verdict, talk);
        }
        if self.host_due(talk).is_some_and(|due| due <= now) {
            talk.turn = Some(Turn::Leave("the primary host says nothing here"));
        }
        if let Some(why) = self.overdue(talk, now) {
            talk.turn = Some(Turn::GiveUp(why));
        }
    }

    /// What has been waited for too long.
    fn overdue(&self, talk: &Talk, now: Instant) -> Option<String> {
        let has_waited =
            |since: Instant, patience: Duration| now.saturating_duration_since(since) >= patience;
        if has_waited(talk.heard, self.silence()) {
            let why = "the broker has not been heard for one and a half keep-alives";
            return Some(why.to_owned() + &self.on_its_way(talk));
        }
        if talk.subscribed.is_none() && has_waited(talk.started, BIRTH_PATIENCE) {
            return Some("the broker does not answer the subscription".to_owned());
        }
        let is_unproven =
            self.delivery.waits_since().is_some_and(|since| has_waited(since, self.barrier_patience()));
        is_unproven.then(|| {
            let why = "the broker does not acknowledge the barrier: may this client publish it?";
            why.to_owned() + &self.on_its_way(talk)
        })
    }

    /// What does not get through, where that is much.
    fn on_its_way(&self, talk: &Talk) -> String {
        let seconds = self.delivery.transit().as_secs();
        if seconds == 0 {
            return String::new();
        }
        let what = if talk.has_proven { "messages" } else { "births" };
        let size = self.delivery.sent_size();
        format!(
            " and {seconds} s more for {size} bytes of {what} that are on their way: is the line too slow?"
        )
    }
}
