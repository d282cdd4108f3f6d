//! Why a meter does not answer what it was asked, and what that makes of a reading.

use std::fmt;

use super::identifier::Version;
use crate::reading::Quality;

/// The error word of a meter, ERR in both standards.
///
/// | bit | 2007 | 1997 |
/// |---|---|---|
/// | 0 | another error | illegal data |
/// | 1 | no such data | no such identifier |
/// | 2 | wrong password or not authorised | wrong password |
/// | 3 | the rate cannot be changed | – |
/// | 4 | too many seasons in a year | the same |
/// | 5 | too many time slots in a day | the same |
/// | 6 | too many tariffs | the same |
/// | 7 | – | – |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorWord {
    /// Whose bits they are.
    pub version: Version,
    /// As the meter sent them.
    pub bits: u8,
}

/// The bit that says that there is no such data.
const NO_DATA: u8 = 0x02;
/// "Another error" (2007): the standard leaves no other bit to a meter that has failed.
const OTHER: u8 = 0x01;

impl ErrorWord {
    /// What the meter says, the lowest bit first.
    pub fn reasons(self) -> impl Iterator<Item = &'static str> {
        let first = match self.version {
            Version::V1997 => ["illegal data", "no such data identifier", "wrong password", "reserved bit 3"],
            Version::V2007 => [
                "other error",
                "no requested data",
                "wrong password or not authorised",
                "rate cannot be changed",
            ],
        };
        let last = [
            "too many seasons in a year",
            "too many time slots in a day",
            "too many tariffs",
            "reserved bit 7",
        ];
        let bits = self.bits;
        first
            .into_iter()
            .chain(last)
            .enumerate()
            .filter(move |(bit, _)| bits >> bit & 1 == 1)
            .map(|(_, text)| text)
    }

    /// What a reading is that the meter refuses so: it has failed if it says "other error" (2007) or nothing at all, and
    /// else does not have what the configuration asks for, or does not give it.
    #[must_use]
    pub fn quality(self) -> Quality {
        let is_other = self.version == Version::V2007 && self.bits & (OTHER | NO_DATA) == OTHER;
        if is_other || self.bits == 0 { Quality::BadDeviceFailure } else { Quality::BadConfig }
    }
}

/// Why there will be no data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The meter says so.
    Meter(ErrorWord),
    /// After so many frames it still has more.
    Endless {
        /// How many came.
        frames: u8,
    },
}

impl Refusal {
    /// What a reading is that is refused so.
    #[must_use]
    pub fn quality(self) -> Quality {
        match self {
            Refusal::Meter(word) => word.quality(),
            Refusal::Endless { .. } => Quality::BadDecode,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Meter(word) if word.bits == 0 => f.write_str("the meter refuses, and says not why"),
            Refusal::Meter(word) => {
                write!(f, "the meter refuses: {}", word.reasons().collect::<Vec<_>>().join(", "))
            }
            Refusal::Endless { frames } => write!(f, "more data after {frames} frames"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(version: Version, bits: u8, expected: &str) {
        let refusal = Refusal::Meter(ErrorWord { version, bits });
        assert_eq!(format!("{} {refusal}", refusal.quality().id()), expected);
    }

    #[test]
    fn an_error_word_is_a_quality_and_a_reason_in_words() {
        use Version::{V1997, V2007};
        check(V2007, 0x01, "bad:device_failure the meter refuses: other error");
        check(V2007, 0x02, "bad:config the meter refuses: no requested data");
        check(V2007, 0x03, "bad:config the meter refuses: other error, no requested data");
        check(V2007, 0x04, "bad:config the meter refuses: wrong password or not authorised");
        check(V2007, 0x48, "bad:config the meter refuses: rate cannot be changed, too many tariffs");
        check(V2007, 0x00, "bad:device_failure the meter refuses, and says not why");
        check(V1997, 0x01, "bad:config the meter refuses: illegal data");
        check(V1997, 0x02, "bad:config the meter refuses: no such data identifier");
        check(
            V1997,
            0xB8,
            "bad:config the meter refuses: reserved bit 3, too many seasons in a year, too many time slots in a day, \
             reserved bit 7",
        );
    }

    #[test]
    fn an_answer_without_end_makes_no_value() {
        let endless = Refusal::Endless { frames: 17 };
        assert_eq!(endless.to_string(), "more data after 17 frames");
        assert_eq!(endless.quality(), Quality::BadDecode);
    }
}
