//! What a machine is doing, from the conditions of its rule.

use serde::{Deserialize, Serialize};

use crate::config::site::MachineRule;

/// What a machine is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It makes something.
    Run,
    /// It is ready and makes nothing.
    Idle,
    /// No condition holds.
    Stop,
    /// It is being set up.
    Setup,
    /// It cannot go on.
    Fault,
    /// An input that the answer hangs on is not known.
    Unknown,
}

impl State {
    /// All of them, in the order of their numbers.
    pub const ALL: [State; 6] =
        [State::Run, State::Idle, State::Stop, State::Setup, State::Fault, State::Unknown];

    /// The word that is published.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            State::Run => "run",
            State::Idle => "idle",
            State::Stop => "stop",
            State::Setup => "setup",
            State::Fault => "fault",
            State::Unknown => "unknown",
        }
    }

    /// Whether the machine could take work: it is known to do nothing, and to be able to.
    #[must_use]
    pub const fn is_free(self) -> bool {
        matches!(self, State::Idle | State::Stop)
    }

    /// The first of fault, setup, running and idle that holds, else stop; unknown where one that is not known comes
    /// before the first that holds.
    #[must_use]
    pub fn of(rule: &MachineRule, conditions: Conditions) -> State {
        let order = [
            (rule.has_fault, conditions.fault, State::Fault),
            (rule.has_setup, conditions.setup, State::Setup),
            (true, conditions.running, State::Run),
            (rule.has_idle, conditions.idle, State::Idle),
        ];
        for (exists, holds, state) in order {
            match holds {
                Some(true) if exists => return state,
                None if exists => return State::Unknown,
                Some(_) | None => {}
            }
        }
        State::Stop
    }
}

/// What the conditions of a rule gave; `None`: not known. What the rule does not have is not looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// It cannot go on.
    pub fault: Option<bool>,
    /// It is being set up.
    pub setup: Option<bool>,
    /// It makes something.
    pub running: Option<bool>,
    /// It is ready.
    pub idle: Option<bool>,
}
