//! What is said of an alarm: what raises it, how long that must last, how much it matters, and the tags that tell it.

use std::sync::Arc;
use std::time::Duration;

use crate::expression::Expression;
use crate::reading::Value;
use crate::tag::{DeviceId, TagId};

/// One alarm: its rule, what it watches, and the tags that it gives.
#[derive(Clone, Debug)]
pub struct AlarmStep {
    /// Whose it is.
    pub device: DeviceId,
    /// Its name there.
    pub name: Arc<str>,
    /// What it is an alarm of, as text: what it watches, its test and its severity. What is kept of another one is not its.
    pub of: String,
    /// Its rule.
    pub rule: AlarmRule,
    /// What it watches: a tag, or a whole condition.
    pub when: Expression,
    /// The tag that is its limit.
    pub limit: Option<TagId>,
    /// The tag that is true while it is active.
    pub tag: TagId,
    /// The tag that tells what happens to alarms of its device.
    pub events: TagId,
    /// The tags that it needs, each once.
    pub inputs: Vec<TagId>,
}

impl AlarmStep {
    /// Whether it is the alarm of `device` with this name.
    #[must_use]
    pub fn is_called(&self, device: DeviceId, name: &str) -> bool {
        self.device == device && *self.name == *name
    }
}

/// What may be done with the alarms of a device, by a command to a tag of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlarmControl {
    /// Say that somebody knows of it.
    Acknowledge,
    /// Put it aside for a time, or take it back.
    Shelve,
}

impl AlarmControl {
    /// All of them.
    pub const ALL: [AlarmControl; 2] = [AlarmControl::Acknowledge, AlarmControl::Shelve];

    /// The name of the tag: no tag of a configuration can be called so.
    #[must_use]
    pub const fn tag_name(self) -> &'static str {
        match self {
            AlarmControl::Acknowledge => "Device Control/Acknowledge",
            AlarmControl::Shelve => "Device Control/Shelve",
        }
    }
}

/// The longest time that an alarm may be shelved for.
pub const SHELVE_MAX: Duration = Duration::from_secs(24 * 3600);

/// The rule of one alarm.
#[derive(Clone, Debug, PartialEq)]
pub struct AlarmRule {
    /// What raises it.
    pub test: Test,
    /// The test must hold for so long, without a break, before it is raised.
    pub delay: Duration,
    /// The test must not hold for so long, without a break, before it is cleared.
    pub clear_delay: Duration,
    /// It stays active when it has cleared, until somebody acknowledges it after that.
    pub latch: bool,
    /// How much it matters.
    pub severity: Severity,
}

/// What raises an alarm.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// A number above a limit.
    Above {
        /// It holds above this.
        limit: Limit,
        /// A raised alarm holds until the number is at most the limit less this; in the tag's unit, at least 0.
        hysteresis: f64,
    },
    /// A number below a limit.
    Below {
        /// It holds below this.
        limit: Limit,
        /// A raised alarm holds until the number is at least the limit and this; in the tag's unit, at least 0.
        hysteresis: f64,
    },
    /// This number, word or bool.
    Equals(Value),
    /// A whole condition, whose bool is handed in.
    Holds,
    /// A number that rises fast. A fall is none: that is a condition over a derived tag.
    Rate {
        /// It holds while the number rises by more than this in `per`; in the tag's unit, above 0.
        above: f64,
        /// The time that the rise is measured over, above 0.
        per: Duration,
    },
    /// No good value has come for so long, above 0.
    Silent(Duration),
}

/// What a number is compared with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// This.
    Number(f64),
    /// The last known value of a tag, which is handed in with each sample.
    Tag,
}

/// How much an alarm matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Somebody should look at it some time.
    Low,
    /// Somebody should look at it in this shift.
    #[default]
    Medium,
    /// Somebody must act soon.
    High,
    /// Somebody must act at once: no flood of alarms holds it back.
    Critical,
}

impl Severity {
    /// All of them, in the order of their numbers.
    pub const ALL: [Severity; 4] = [Severity::Low, Severity::Medium, Severity::High, Severity::Critical];

    /// The word that stands in the configuration and is published.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
            Severity::Critical => "critical",
        }
    }

    /// The one with this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Severity> {
        Severity::ALL.into_iter().find(|severity| severity.word() == word)
    }

    /// The severity that OPC UA has, 1 to 1000 (Part 5, 6.4.2).
    ///
    /// Each in the middle of one of the fifths of OPC 40250-1, 6.6.1; in companion specifications with three bands, high and
    /// critical lie in the upper one, medium and low in theirs.
    #[must_use]
    pub const fn opcua(self) -> u16 {
        match self {
            Severity::Low => 100,
            Severity::Medium => 500,
            Severity::High => 700,
            Severity::Critical => 900,
        }
    }

    /// The one whose band a severity of OPC UA lies in: up to 333 low, up to 666 medium, up to 800 high; `None` where it is
    /// no severity, 0 or above 1000.
    #[must_use]
    pub const fn from_opcua(number: u16) -> Option<Severity> {
        match number {
            1..=333 => Some(Severity::Low),
            334..=666 => Some(Severity::Medium),
            667..=800 => Some(Severity::High),
            801..=1000 => Some(Severity::Critical),
            0 | 1001.. => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_severity_has_one_word_and_lies_in_its_own_band_of_opc_ua() {
        assert_eq!(Severity::ALL.map(Severity::word), ["low", "medium", "high", "critical"]);
        assert_eq!(Severity::ALL.map(Severity::opcua), [100, 500, 700, 900]);
        for severity in Severity::ALL {
            assert_eq!(Severity::from_word(severity.word()), Some(severity));
            assert_eq!(Severity::from_opcua(severity.opcua()), Some(severity));
        }
        assert_eq!(Severity::from_word("urgent"), None);
    }

    #[test]
    fn the_bands_of_opc_ua_meet_without_a_gap() {
        use Severity::{Critical, High, Low, Medium};
        let bands = [0, 1, 333, 334, 666, 667, 800, 801, 1000, 1001].map(Severity::from_opcua);
        let expected = [
            None,
            Some(Low),
            Some(Low),
            Some(Medium),
            Some(Medium),
            Some(High),
            Some(High),
            Some(Critical),
            Some(Critical),
            None,
        ];
        assert_eq!(bands, expected);
    }
}
