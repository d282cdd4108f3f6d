//! In which ways a line may be spoken to: speed and frame of a serial port, framing of Modbus. Pure.

use std::fmt;

use crate::config::site::{Factory, Framing, Parity, SerialLine};

/// What is set most often where a type does not say how it leaves the factory.
const COMMON: [&str; 13] = [
    "9600 8N1",
    "9600 8E1",
    "19200 8E1",
    "19200 8N1",
    "2400 8E1",
    "4800 8N1",
    "38400 8N1",
    "115200 8N1",
    "4800 8E1",
    "1200 8E1",
    "57600 8N1",
    "38400 8E1",
    "9600 8O1",
];

/// One way to speak on a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    /// Speed and frame; `None`: it is no serial port.
    pub line: Option<SerialLine>,
    /// How Modbus is framed.
    pub framing: Framing,
}

impl Manner {
    /// All ways for a serial port that are worth trying: how known devices leave the factory, the most frequent first, then what
    /// is common. A second stop bit makes no difference to who hears whom, so that it makes no way of its own.
    #[must_use]
    pub fn of_port(factory: &[Factory]) -> Vec<Manner> {
        let count = |one: &Factory| factory.iter().filter(|other| *other == one).count();
        let mut known = factory.to_vec();
        known.sort_by_key(|one| std::cmp::Reverse(count(one)));
        let common = COMMON.iter().filter_map(|text| SerialLine::parse(text));
        let common = common.map(|line| Factory { line, is_ascii: false });
        let mut all: Vec<Manner> = Vec::new();
        for manner in known.into_iter().chain(common).map(Manner::of) {
            if !all.iter().any(|other| other.is_heard_as(&manner)) {
                all.push(manner);
            }
        }
        all
    }

    /// As a device that leaves the factory so is spoken to.
    #[must_use]
    pub fn of(factory: Factory) -> Manner {
        let framing = if factory.is_ascii { Framing::Ascii } else { Framing::Rtu };
        Manner { line: Some(factory.line), framing }
    }

    /// All ways for a TCP connection: Modbus TCP, or what a serial line carries, handed through.
    #[must_use]
    pub fn of_network() -> Vec<Manner> {
        [Framing::Tcp, Framing::Rtu, Framing::Ascii].map(|framing| Manner { line: None, framing }).to_vec()
    }

    /// Whether whoever is spoken to in this way also hears `other`.
    #[must_use]
    pub fn is_heard_as(&self, other: &Manner) -> bool {
        let is_same_line = match (self.line, other.line) {
            (Some(line), Some(other)) => line.hears(&other),
            (line, other) => line == other,
        };
        self.framing == other.framing && is_same_line
    }

    /// Whether a device that answers in both ways is one and the same: two of them with one address at one speed would have
    /// spoilt each other's answers.
    #[must_use]
    pub fn has_speed_of(&self, other: &Manner) -> bool {
        self.framing == other.framing && self.line.map(|line| line.baud) == other.line.map(|line| line.baud)
    }

    /// Whether meters that speak DL/T 645 may be spoken to so: they have 8 bits and even parity (DL/T 645-2007, 5.1).
    #[must_use]
    pub fn is_of_meters(&self) -> bool {
        self.framing == Framing::Rtu
            && self.line.is_none_or(|line| (line.data_bits, line.parity) == (8, Parity::Even))
    }
}

impl fmt::Display for Manner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.framing) {
            (Some(line), Framing::Ascii) => write!(f, "{line} ascii"),
            (Some(line), Framing::Tcp | Framing::Rtu) => write!(f, "{line}"),
            (None, Framing::Tcp) => f.write_str("Modbus TCP"),
            (None, Framing::Rtu) => f.write_str("a serial line behind TCP"),
            (None, Framing::Ascii) => f.write_str("a serial line behind TCP, ascii"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factory(text: &str) -> Factory {
        Factory::parse(text).unwrap()
    }

    #[test]
    fn how_most_known_devices_leave_the_factory_is_tried_first_and_each_way_once() {
        let known = ["2400 8E1", "9600 8N2", "9600 7E1 ascii", "9600 8N1", "2400 8E1"].map(factory);
        let all: Vec<String> = Manner::of_port(&known).iter().map(ToString::to_string).collect();
        assert_eq!(all[..4], ["2400 8E1", "9600 8N2", "9600 7E1 ascii", "9600 8E1"]);
        assert_eq!(all.len(), 3 + COMMON.len() - 2);
        assert_eq!(COMMON.iter().filter_map(|text| SerialLine::parse(text)).count(), COMMON.len());
    }

    #[test]
    fn meters_are_asked_with_even_parity_or_through_a_network() {
        let is_asked = |text: &str| Manner::of(factory(text)).is_of_meters();
        assert!(is_asked("2400 8E1") && is_asked("9600 8E1"));
        assert!(!is_asked("9600 8N1") && !is_asked("9600 7E1") && !is_asked("9600 8E1 ascii"));
        let network: Vec<bool> = Manner::of_network().iter().map(Manner::is_of_meters).collect();
        assert_eq!(network, [false, true, false]);
    }
}
