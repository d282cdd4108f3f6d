//! What happened to an alarm, as plain data and as the text of a string tag.

use std::sync::Arc;

use serde::Serialize;

use super::state::State;
use crate::config::site::Severity;
use crate::reading::{Timestamp, Value};

/// What happened to an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Its condition holds.
    Raised,
    /// Its condition has ended.
    Cleared,
    /// Somebody has acknowledged it; one that has cleared is reset by it.
    Acknowledged,
    /// Somebody has put it aside for a time.
    Shelved,
    /// Somebody has taken it back before that time was over.
    Unshelved,
    /// The time that it was put aside for is over, or could not be told any more.
    Expired,
}

impl EventKind {
    /// The word that is published.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            EventKind::Raised => "raised",
            EventKind::Cleared => "cleared",
            EventKind::Acknowledged => "acknowledged",
            EventKind::Shelved => "shelved",
            EventKind::Unshelved => "unshelved",
            EventKind::Expired => "expired",
        }
    }

    /// Whether somebody did it; else it happened by itself.
    #[must_use]
    pub const fn is_by_hand(self) -> bool {
        match self {
            EventKind::Acknowledged | EventKind::Shelved | EventKind::Unshelved => true,
            EventKind::Raised | EventKind::Cleared | EventKind::Expired => false,
        }
    }
}

/// Something that happened to an alarm.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// What.
    pub kind: EventKind,
    /// The state that it led to.
    pub state: State,
    /// Whether the alarm is active after it.
    pub is_active: bool,
    /// How much the alarm matters.
    pub severity: Severity,
    /// When; `None` while the wall clock is not to be trusted.
    pub at: Option<Timestamp>,
    /// When the alarm was raised last; `None` where it has not been, or the wall clock was not to be trusted then.
    pub since: Option<Timestamp>,
    /// The last usable value of what is watched; `None` where none has come.
    pub value: Option<Value>,
    /// Who did it; `None` where it happened by itself, or nobody said who.
    pub by: Option<Arc<str>>,
}

/// The text of an event; keys without a value are left out.
#[derive(Serialize)]
struct Line<'a> {
    alarm: &'a str,
    event: &'a str,
    state: &'a str,
    active: bool,
    severity: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<&'a str>,
}

impl Event {
    /// Whether it asks somebody to look: the alarm was raised, or came back from the shelf and nobody has acknowledged it.
    #[must_use]
    pub const fn is_annunciation(&self) -> bool {
        match self.kind {
            EventKind::Raised => true,
            EventKind::Unshelved | EventKind::Expired => {
                matches!(self.state, State::Unacknowledged | State::LatchedUnacknowledged)
            }
            EventKind::Cleared | EventKind::Acknowledged | EventKind::Shelved => false,
        }
    }

    /// One line of JSON: the alarm's `name`, the event, the state after it, and what else is known.
    ///
    /// Times are in UTC, in the notation of RFC 3339.
    #[must_use]
    pub fn text(&self, name: &str) -> String {
        let line = Line {
            alarm: name,
            event: self.kind.word(),
            state: self.state.word(),
            active: self.is_active,
            severity: self.severity.word(),
            at: self.at.map(|at| at.to_string()),
            since: self.since.map(|since| since.to_string()),
            value: self.value.as_ref().map(Value::json),
            by: self.by.as_deref(),
        };
        // What has text keys and finite numbers only can always be written.
        serde_json::to_string(&line).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        Event {
            kind: EventKind::Raised,
            state: State::Unacknowledged,
            is_active: true,
            severity: Severity::High,
            at: Some(Timestamp::from_millis(1_795_705_445_678)),
            since: Some(Timestamp::from_millis(1_795_705_445_000)),
            value: Some(Value::Double(321.5)),
            by: None,
        }
    }

    #[test]
    fn the_text_of_an_event_is_one_line_of_json() {
        assert_eq!(
            event().text("overheat"),
            r#"{"alarm":"overheat","event":"raised","state":"unacknowledged","active":true,"severity":"high","at":"2026-11-26T15:04:05.678Z","since":"2026-11-26T15:04:05.000Z","value":321.5}"#
        );
        let unknown = Event {
            kind: EventKind::Acknowledged,
            state: State::Normal,
            is_active: false,
            at: None,
            since: None,
            value: None,
            by: Some(Arc::from("Li \"the\nshift\"")),
            ..event()
        };
        assert_eq!(
            unknown.text("a/b"),
            r#"{"alarm":"a/b","event":"acknowledged","state":"normal","active":false,"severity":"high","by":"Li \"the\nshift\""}"#
        );
    }

    #[test]
    fn an_event_asks_somebody_to_look_where_nobody_has_acknowledged_the_alarm() {
        let asks = |kind, state| Event { kind, state, ..event() }.is_annunciation();
        assert!(asks(EventKind::Raised, State::Unacknowledged));
        assert!(asks(EventKind::Expired, State::Unacknowledged));
        assert!(asks(EventKind::Unshelved, State::LatchedUnacknowledged));
        assert!(!asks(EventKind::Unshelved, State::Normal));
        assert!(!asks(EventKind::Expired, State::Acknowledged));
        assert!(!asks(EventKind::Cleared, State::LatchedUnacknowledged));
        assert!(!asks(EventKind::Acknowledged, State::Acknowledged));
        assert!(!asks(EventKind::Shelved, State::Shelved));
    }
}
