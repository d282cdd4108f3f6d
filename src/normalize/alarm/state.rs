//! The states of an alarm, and what is kept of one over a restart.

use serde::{Deserialize, Serialize};

use crate::config::site::SHELVE_MAX;
use crate::reading::Timestamp;

/// What an alarm is to whoever watches it (ISA-18.2-2016; the letters are those of its state diagram).
///
/// State D, cleared and not acknowledged, is not here: an alarm that does not latch is normal once it has cleared. State
/// H, suppressed by design, is not here either: that belongs into the alarm's condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A: the condition does not hold, and nobody has to do anything.
    Normal,
    /// B: the condition holds, and nobody has acknowledged it.
    Unacknowledged,
    /// C: the condition holds, and somebody knows.
    Acknowledged,
    /// E: the condition has ended; nobody has ever acknowledged it.
    LatchedUnacknowledged,
    /// F: the condition has ended after it was acknowledged; another acknowledgement resets it.
    LatchedAcknowledged,
    /// G: somebody has put it aside for a time; it is followed, and not announced.
    Shelved,
    /// I: its device is disabled.
    OutOfService,
}

impl State {
    /// All of them, in the order of their letters.
    pub const ALL: [State; 7] = [
        State::Normal,
        State::Unacknowledged,
        State::Acknowledged,
        State::LatchedUnacknowledged,
        State::LatchedAcknowledged,
        State::Shelved,
        State::OutOfService,
    ];

    /// The word that is published.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            State::Normal => "normal",
            State::Unacknowledged => "unacknowledged",
            State::Acknowledged => "acknowledged",
            State::LatchedUnacknowledged => "latched_unacknowledged",
            State::LatchedAcknowledged => "latched_acknowledged",
            State::Shelved => "shelved",
            State::OutOfService => "out_of_service",
        }
    }
}

/// The state below shelving and service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    #[default]
    Normal,
    Unacknowledged,
    Acknowledged,
    LatchedUnacknowledged,
    LatchedAcknowledged,
}

impl Phase {
    /// Whether the condition holds, by what is known and after the delays.
    pub(super) const fn is_raised(self) -> bool {
        matches!(self, Phase::Unacknowledged | Phase::Acknowledged)
    }

    /// After the condition has begun to hold.
    pub(super) const fn raised(self) -> Phase {
        match self {
            Phase::Normal | Phase::LatchedUnacknowledged | Phase::LatchedAcknowledged => {
                Phase::Unacknowledged
            }
            Phase::Unacknowledged | Phase::Acknowledged => self,
        }
    }

    /// After the condition has ended.
    pub(super) const fn cleared(self, latch: bool) -> Phase {
        match self {
            Phase::Unacknowledged if latch => Phase::LatchedUnacknowledged,
            Phase::Acknowledged if latch => Phase::LatchedAcknowledged,
            Phase::Unacknowledged | Phase::Acknowledged => Phase::Normal,
            Phase::Normal | Phase::LatchedUnacknowledged | Phase::LatchedAcknowledged => self,
        }
    }

    /// After an acknowledgement; `None` where there is nothing to acknowledge.
    pub(super) const fn acknowledged(self) -> Option<Phase> {
        match self {
            Phase::Unacknowledged => Some(Phase::Acknowledged),
            Phase::LatchedUnacknowledged | Phase::LatchedAcknowledged => Some(Phase::Normal),
            Phase::Normal | Phase::Acknowledged => None,
        }
    }

    pub(super) const fn state(self) -> State {
        match self {
            Phase::Normal => State::Normal,
            Phase::Unacknowledged => State::Unacknowledged,
            Phase::Acknowledged => State::Acknowledged,
            Phase::LatchedUnacknowledged => State::LatchedUnacknowledged,
            Phase::LatchedAcknowledged => State::LatchedAcknowledged,
        }
    }
}

/// What is kept of an alarm over a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedAlarm {
    /// What it was an alarm of; empty where nobody has said.
    #[serde(default)]
    pub(super) of: String,
    pub(super) phase: Phase,
    /// When it was raised last, in milliseconds since the epoch; `None`: never, or the clock was not to be trusted.
    pub(super) since_ms: Option<u64>,
    /// When it was kept; `None`: the clock was not to be trusted.
    pub(super) at_ms: Option<u64>,
    /// Until when it is shelved; `None`: it is not, or the clock was not to be trusted.
    pub(super) shelved_until_ms: Option<u64>,
    pub(super) is_shelved: bool,
}

impl SavedAlarm {
    /// Whether what was read back can be: shelved for no longer than anybody can shelve it, and only where it is shelved.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let max_ms = u64::try_from(SHELVE_MAX.as_millis()).unwrap_or(u64::MAX);
        match (self.shelved_until_ms, self.at_ms) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(until), Some(at)) => {
                self.is_shelved && until.checked_sub(at).is_some_and(|left| left <= max_ms)
            }
        }
    }

    /// What is left of it for another alarm of the same name: that it was shelved, so that the end of that is told.
    pub(super) fn forgotten(&self) -> SavedAlarm {
        SavedAlarm {
            of: String::new(),
            phase: Phase::Normal,
            since_ms: None,
            at_ms: self.at_ms,
            shelved_until_ms: None,
            is_shelved: self.is_shelved,
        }
    }

    /// How long it is shelved for yet, in milliseconds, above 0. `None` where it is not, or where that cannot be told: the
    /// wall clock is not to be trusted, or says that it is earlier than when this was kept.
    pub(super) fn shelved_for_ms(&self, wall: Option<Timestamp>) -> Option<u64> {
        let wall_ms = wall?.millis();
        let is_later = wall_ms >= self.at_ms?;
        self.shelved_until_ms?.checked_sub(wall_ms).filter(|left| is_later && *left > 0)
    }
}
