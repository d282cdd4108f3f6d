//! A connection as it goes: what is known of it, and what its happenings mean.

use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use super::Task;
use crate::clock;
use crate::sparkplug::session::Heard;
use crate::uplink::mqtt::{self, Connection, Happening, OUTGOING_SIZE_MAX};
use crate::uplink::selftest::Verdict;

/// A session that lasted so long was a good one: the next attempt to connect does not wait longer for its end.
const STEADY: Duration = Duration::from_secs(30);

/// The state of a connection.
pub(super) struct Talk {
    pub(super) bd_seq: u8,
    /// Publications that have been handed over and not been written yet.
    pub(super) in_hand: usize,
    /// The largest packet that the broker takes.
    pub(super) packet_size_max: usize,
    /// When the subscriptions stood; without any, when the broker took the connection.
    pub(super) subscribed: Option<Instant>,
    /// When the births were handed over.
    pub(super) born: Option<Instant>,
    /// When the broker was heard last.
    pub(super) heard: Instant,
    pub(super) started: Instant,
    /// The broker has acknowledged something.
    pub(super) has_proven: bool,
    pub(super) is_over: bool,
    /// The farewell has begun: nobody is obeyed any more.
    pub(super) is_leaving: bool,
    /// Why the connection is to be ended, if it is.
    pub(super) turn: Option<Turn>,
}

/// Why a connection is ended that has not failed.
pub(super) enum Turn {
    /// There will be no more news: what waits is sent first.
    Stop,
    /// For the next server, in good order.
    Leave(&'static str),
    /// It cannot go on.
    GiveUp(String),
}

impl Talk {
    pub(super) fn new(bd_seq: u8, now: Instant) -> Talk {
        Talk {
            bd_seq,
            in_hand: 0,
            packet_size_max: OUTGOING_SIZE_MAX,
            subscribed: None,
            born: None,
            heard: now,
            started: now,
            has_proven: false,
            is_over: false,
            is_leaving: false,
            turn: None,
        }
    }

    /// Whether it has been a good one: it lasted, and what was said was acknowledged.
    pub(super) fn is_steady(&self) -> bool {
        let was_heard = self.has_proven || self.born.is_none();
        was_heard
            && self
                .subscribed
                .is_some_and(|since| clock::monotonic().saturating_duration_since(since) >= STEADY)
    }
}

impl Task {
    /// Takes what has happened.
    pub(super) fn handle(&mut self, happening: Happening, connection: &Connection, talk: &mut Talk) {
        let now = clock::monotonic();
        let is_heard = !matches!(happening, Happening::Sent | Happening::Disconnected);
        if is_heard {
            talk.heard = now;
        }
        match happening {
            Happening::Connected { packet_size_max } => {
                self.counters.connects.add(1);
                talk.packet_size_max = packet_size_max;
                self.session.set_packet_size(packet_size_max);
                let mut filters = self.session.filters();
                filters.extend(self.uplink.plan.clone());
                filters.extend(self.barrier.clone());
                if filters.is_empty() {
                    self.begin(talk, now); // there is nothing to wait for
                } else {
                    connection.subscribe(filters).ok(); // closing: its end is told by the pump
                }
            }
            Happening::Subscribed { index, refusals } => self.handle_subscribed(index, &refusals, talk),
            Happening::Sent => talk.in_hand = talk.in_hand.saturating_sub(1),
            Happening::Message { topic, payload, .. } if self.is_plan(&topic) => self.plan(&topic, payload),
            Happening::Message { topic, payload, is_retained } => {
                if !self.self_test.handle_message(&topic, is_retained) && !talk.is_leaving {
                    let heard =
                        self.session.handle_message(&topic, &payload, is_retained, now, clock::wall());
                    debug!(uplink = %self.uplink.name, topic, ?heard, "message");
                    self.obey(&heard, talk, now);
                    self.command(&topic, &payload, is_retained);
                }
            }
            Happening::Acknowledged => {
                talk.has_proven = true;
                self.delivery.handle_acknowledged(now);
                self.self_test.handle_acknowledged(now);
            }
            Happening::Refused { behind, reason } => {
                let topic = self.self_test.topic_behind(behind);
                talk.turn = Some(Turn::GiveUp(format!("the broker has dropped {topic}: {reason}")));
            }
            Happening::Heard | Happening::Disconnected => {}
        }
        if is_heard && !self.self_test.is_open() {
            self.delivery.handle_heard(now);
        }
        while let Some(filter) = self.self_test.poll_settled() {
            connection.unsubscribe(filter).ok(); // closing: its end is told by the pump
        }
    }

    /// A subscription is answered; the first has the barrier as its last filter, where there is one.
    fn handle_subscribed(&mut self, index: usize, refusals: &[Option<String>], talk: &mut Talk) {
        let own = refusals.last().and_then(Option::as_deref);
        let is_of_plans = self.barrier.is_none() && self.uplink.plan.is_some() && index == 0;
        if !is_of_plans && let Some(verdict) = self.self_test.handle_subscribed(index, own) {
            self.judge(verdict, talk);
        }
        if index > 0 || talk.subscribed.is_some() {
            return;
        }
        let others = match refusals.split_last() {
            Some((_barrier, others)) if !is_of_plans => others,
            Some(_) | None => refusals,
        };
        if let Some(refusal) = others.iter().flatten().next() {
            warn!(uplink = %self.uplink.name, refusal, "the broker refuses the subscription to commands or plans");
        }
        self.begin(talk, clock::monotonic());
    }

    /// All subscriptions stand.
    fn begin(&mut self, talk: &mut Talk, now: Instant) {
        talk.subscribed = Some(now);
        if self.session.waits_for_host() {
            info!(uplink = %self.uplink.name, "waits for the primary host");
        } else {
            self.bear(talk, now);
        }
    }

    /// What the self-test has found.
    pub(super) fn judge(&self, verdict: Verdict, talk: &mut Talk) {
        match verdict {
            Verdict::Useless(why) => talk.turn = Some(Turn::GiveUp(why)),
            Verdict::Warning(what) => warn!(uplink = %self.uplink.name, "{what}"),
        }
    }

    /// Births, from which on there is a session.
    fn bear(&mut self, talk: &mut Talk, now: Instant) {
        info!(uplink = %self.uplink.name, bd_seq = talk.bd_seq, "session born");
        talk.born = Some(now);
        self.tell_vitals(now);
        self.session.handle_connected(talk.bd_seq, clock::wall());
        if !std::mem::replace(&mut self.has_been_born, true) {
            self.session.hold();
        }
        self.book();
    }

    fn obey(&mut self, heard: &Heard, talk: &mut Talk, now: Instant) {
        let has_others = self.uplink.brokers.len() > 1;
        match heard {
            Heard::HostOnline if talk.subscribed.is_some() && talk.born.is_none() => self.bear(talk, now),
            Heard::HostOffline if talk.born.is_some() || has_others => {
                talk.turn = Some(Turn::Leave("the primary host is offline"));
            }
            Heard::NextServer => talk.turn = Some(Turn::Leave("a host asked for it")),
            Heard::Reload => self.reload.notify_one(),
            Heard::HostOnline | Heard::HostOffline | Heard::Rebirth | Heard::Nothing => {}
        }
    }

    /// Whether a message holds a plan for a machine.
    fn is_plan(&self, topic: &str) -> bool {
        self.uplink.plan.as_deref().is_some_and(|filter| mqtt::matches(topic, filter))
    }

    /// Hands a plan on; whoever has sent too many at once sends it again.
    fn plan(&self, topic: &str, payload: bytes::Bytes) {
        if self.plans.try_send(payload).is_err() {
            warn!(uplink = %self.uplink.name, topic, "too many plans at once: this one is not taken over");
        }
    }

    /// Passes on what a message wants written.
    fn command(&mut self, topic: &str, payload: &[u8], is_retained: bool) {
        let now = clock::wall();
        for request in self.session.write_requests(topic, payload, is_retained, now) {
            if let Err(refused) = self.commands.ask(request, now) {
                self.session.handle_outcome(&refused, now);
            }
        }
    }
}
