//! Which of the two sessions an uplink has: Sparkplug or JSON. The task drives either.

use std::sync::Arc;
use std::time::Instant;

use crate::config::site::{Payload, Site, Uplink};
use crate::counters::Counters;
use crate::json;
use crate::outbox::{Lost, Moves, Unsent};
use crate::position::Position;
use crate::publication::Publication;
use crate::reading::{Reading, Timestamp, Update};
use crate::sparkplug;
use crate::sparkplug::session::Heard;
use crate::tag::DeviceId;
use crate::vitals::Vital;
use crate::write::{Outcome, WriteRequest};

/// The session of an uplink.
#[derive(Debug)]
pub(super) enum Conversation {
    Sparkplug(Box<sparkplug::session::Session>),
    Json(Box<json::Session>),
}

impl Conversation {
    pub(super) fn new(site: Arc<Site>, uplink: &Uplink, counters: Arc<Counters>) -> Conversation {
        match &uplink.payload {
            Payload::Sparkplug => {
                Conversation::Sparkplug(Box::new(sparkplug::session::Session::new(site, uplink, counters)))
            }
            Payload::Json(form) => {
                Conversation::Json(Box::new(json::Session::new(site, form.clone(), &uplink.share, counters)))
            }
        }
    }

    /// What is to be subscribed to before anything is said; JSON takes no commands.
    pub(super) fn filters(&self) -> Vec<String> {
        match self {
            Conversation::Sparkplug(session) => session.filters(),
            Conversation::Json(_) => Vec::new(),
        }
    }

    /// The will of a connection, and the last message of a clean end.
    pub(super) fn death(&self, bd_seq: u8, now: Timestamp) -> Publication {
        match self {
            Conversation::Sparkplug(session) => session.death(bd_seq, now),
            Conversation::Json(session) => session.death(bd_seq),
        }
    }

    pub(super) fn handle_connected(&mut self, bd_seq: u8, now: Timestamp) {
        match self {
            Conversation::Sparkplug(session) => session.handle_connected(bd_seq, now),
            Conversation::Json(session) => session.handle_connected(bd_seq, now),
        }
    }

    pub(super) fn handle_disconnected(&mut self) {
        match self {
            Conversation::Sparkplug(session) => session.handle_disconnected(),
            Conversation::Json(session) => session.handle_disconnected(),
        }
    }

    pub(super) fn take_moves(&mut self) -> Moves {
        match self {
            Conversation::Sparkplug(session) => session.take_moves(),
            Conversation::Json(session) => session.take_moves(),
        }
    }

    pub(super) fn handle_clock(&mut self, booted_at: Timestamp) {
        match self {
            Conversation::Sparkplug(session) => session.handle_clock(booted_at),
            Conversation::Json(session) => session.handle_clock(booted_at),
        }
    }

    pub(super) fn handle_update(&mut self, first: Position, update: Update, now: Timestamp) {
        match self {
            Conversation::Sparkplug(session) => session.handle_update(first, update, now),
            Conversation::Json(session) => session.handle_update(first, update, now),
        }
    }

    pub(super) fn handle_history(&mut self, readings: Vec<(Position, Reading)>, now: Timestamp) -> Unsent {
        match self {
            Conversation::Sparkplug(session) => session.handle_history(readings, now),
            Conversation::Json(session) => session.handle_history(readings),
        }
    }

    /// There is no more history than what waits.
    pub(super) fn handle_history_end(&mut self, now: Timestamp) {
        match self {
            Conversation::Sparkplug(session) => session.handle_history_end(now),
            Conversation::Json(_) => {}
        }
    }

    /// Whether history has nothing to wait for; in JSON a device needs no birth before it.
    pub(super) fn is_all_up(&self) -> bool {
        match self {
            Conversation::Sparkplug(session) => session.is_all_up(),
            Conversation::Json(_) => true,
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        match self {
            Conversation::Sparkplug(session) => session.is_waiting(),
            Conversation::Json(session) => session.is_waiting(),
        }
    }

    pub(super) fn history_waiting(&self) -> usize {
        match self {
            Conversation::Sparkplug(session) => session.history_waiting(),
            Conversation::Json(session) => session.history_waiting(),
        }
    }

    pub(super) fn handle_lost(&mut self, lost: &Lost, now: Timestamp) {
        match self {
            Conversation::Sparkplug(session) => session.handle_lost(lost, now),
            Conversation::Json(session) => session.handle_lost(lost),
        }
    }

    pub(super) fn handle_alarm(&mut self, alarm: Option<&'static str>, now: Timestamp) {
        match self {
            Conversation::Sparkplug(session) => session.handle_alarm(alarm, now),
            Conversation::Json(session) => session.handle_alarm(alarm),
        }
    }

    /// A message that the broker delivered, and what it says.
    pub(super) fn handle_message(
        &mut self,
        topic: &str,
        payload: &[u8],
        is_retained: bool,
        now: Instant,
        wall: Timestamp,
    ) -> Heard {
        match self {
            Conversation::Sparkplug(session) => {
                session.handle_message(topic, payload, is_retained, now, wall)
            }
            Conversation::Json(_) => Heard::Nothing,
        }
    }

    /// What a message that the broker delivered wants written; JSON takes no commands.
    pub(super) fn write_requests(
        &mut self,
        topic: &str,
        payload: &[u8],
        is_retained: bool,
        now: Timestamp,
    ) -> Vec<WriteRequest> {
        match self {
            Conversation::Sparkplug(session) => session.write_requests(topic, payload, is_retained, now),
            Conversation::Json(_) => Vec::new(),
        }
    }

    /// What became of a request, which JSON does not tell.
    pub(super) fn handle_outcome(&mut self, outcome: &Outcome, now: Timestamp) {
        match self {
            Conversation::Sparkplug(session) => session.handle_outcome(outcome, now),
            Conversation::Json(_) => {}
        }
    }

    /// The connection is to the server with this number in the list of the uplink.
    pub(super) fn handle_server(&mut self, server: usize) {
        match self {
            Conversation::Sparkplug(session) => session.handle_server(server),
            Conversation::Json(_) => {}
        }
    }

    /// The broker takes no larger packet than this.
    pub(super) fn set_packet_size(&mut self, size: usize) {
        match self {
            Conversation::Sparkplug(session) => session.set_packet_size(size),
            Conversation::Json(session) => session.set_packet_size(size),
        }
    }

    /// Whether a primary host has to come before anything is said.
    pub(super) fn waits_for_host(&self) -> bool {
        match self {
            Conversation::Sparkplug(session) => session.waits_for_host(),
            Conversation::Json(_) => false,
        }
    }

    /// Data waits until it is known of every device whether it answers; in JSON it needs no birth before it.
    pub(super) fn hold(&mut self) {
        match self {
            Conversation::Sparkplug(session) => session.hold(),
            Conversation::Json(_) => {}
        }
    }

    pub(super) fn is_held(&self) -> bool {
        match self {
            Conversation::Sparkplug(session) => session.is_held(),
            Conversation::Json(_) => false,
        }
    }

    pub(super) fn release(&mut self) {
        match self {
            Conversation::Sparkplug(session) => session.release(),
            Conversation::Json(_) => {}
        }
    }

    /// Numbers are sent only when they have changed by this part of their value.
    pub(super) fn set_thinning(&mut self, deadband: Option<f64>, now: Timestamp) {
        match self {
            Conversation::Sparkplug(session) => session.set_thinning(deadband, now),
            Conversation::Json(session) => session.set_thinning(deadband),
        }
    }

    /// How many readings were withheld so.
    pub(super) fn withheld(&self) -> u64 {
        match self {
            Conversation::Sparkplug(session) => session.withheld(),
            Conversation::Json(session) => session.withheld(),
        }
    }

    /// Whether anything of a device may leave by this uplink.
    pub(super) fn is_told(&self, device: DeviceId) -> bool {
        match self {
            Conversation::Sparkplug(session) => session.is_told(device),
            Conversation::Json(session) => session.is_told(device),
        }
    }

    /// How the gateway is: metrics of the node, which JSON does not have.
    pub(super) fn handle_vitals(&mut self, vitals: Vec<Vital>, now: Timestamp) {
        match self {
            Conversation::Sparkplug(session) => session.handle_vitals(vitals, now),
            Conversation::Json(_) => {}
        }
    }

    pub(super) fn rebirth_due(&self) -> Option<Instant> {
        match self {
            Conversation::Sparkplug(session) => session.rebirth_due(),
            Conversation::Json(_) => None,
        }
    }

    pub(super) fn handle_due(&mut self, now: Instant, wall: Timestamp) {
        match self {
            Conversation::Sparkplug(session) => session.handle_due(now, wall),
            Conversation::Json(_) => {}
        }
    }

    pub(super) fn poll_publication(&mut self, now: Timestamp) -> Option<Publication> {
        match self {
            Conversation::Sparkplug(session) => session.poll_publication(now),
            Conversation::Json(session) => session.poll_publication(now),
        }
    }
}
