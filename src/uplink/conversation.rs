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
                Conversation::Json(Box::new(json::Session::new(site, form.clone(), counters)))
            }
        }
    }

    /// What is to be subscribed to before anything is said; JSON takes no commands.
    pub(super) fn command_filters(&self) -> Vec<String> {
        match self {
            Conversation::Sparkplug(session) => session.command_filters().into(),
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

    /// A message that the broker delivered; true if it was obeyed.
    pub(super) fn handle_message(&mut self, topic: &str, payload: &[u8], now: Instant) -> bool {
        match self {
            Conversation::Sparkplug(session) => session.handle_message(topic, payload, now),
            Conversation::Json(_) => false,
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
