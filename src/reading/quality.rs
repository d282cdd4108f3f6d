//! How far a value is to be trusted, and why not: one internal reason for each doubtful value, and the three views of it
//! that others have.

/// How far a value is to be trusted, and why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quality {
    /// Read, checked, decoded.
    Good,
    /// Put in by a person or kept by the device on its own, in place of a measurement.
    GoodLocalOverride,
    /// No fresh sample within `stale_after`; the value is the last one.
    UncertainLastUsable,
    /// A default or a value put in by hand stands for the measurement.
    UncertainSubstitute,
    /// The first values after a start or an outage, while the device warms up (`warmup`), or before a window is full.
    UncertainInitial,
    /// The device says so of its own value: a scale in motion, a sensor out of calibration.
    UncertainNotAccurate,
    /// Read, but outside of what is plausible (`range`).
    UncertainEuExceeded,
    /// Unchanged for longer than `stuck_after`.
    UncertainStuck,
    /// The device refuses this address, function or count (exceptions 1, 2 and 3).
    BadConfig,
    /// The port is missing, or the connection was refused or lost.
    BadNotConnected,
    /// The device says that it has failed (exception 4, or a maker's own code).
    BadDeviceFailure,
    /// The value itself says that there is none (`bad_values`, a float that is not a number).
    BadSensorFailure,
    /// The instrument says that the value is above what it can measure: an overloaded scale.
    BadOverRange,
    /// The instrument says that the value is below what it can measure.
    BadUnderRange,
    /// No usable answer in time; the last value is kept.
    BadCommLastValueKnown,
    /// Never read since start.
    BadNoCommunication,
    /// Switched off by the integrator.
    BadOutOfService,
    /// The bytes do not make a value of this type.
    BadDecode,
}

/// The state of a device as NAMUR NE 107 has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ne107 {
    /// In order.
    Normal,
    /// F: the signal is not valid.
    Failure,
    /// C: the signal is of no use for a time, as somebody works on it.
    CheckFunction,
    /// S: outside of what was specified, the value is doubtful.
    OutOfSpec,
}

impl Ne107 {
    /// The word of the recommendation.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Ne107::Normal => "normal",
            Ne107::Failure => "failure",
            Ne107::CheckFunction => "check_function",
            Ne107::OutOfSpec => "out_of_spec",
        }
    }
}

/// What others call a quality.
#[derive(Clone, Copy, Debug)]
struct Views {
    id: &'static str,
    sparkplug: u32,
    opcua: u32,
    ne107: Ne107,
}

const fn views(id: &'static str, sparkplug: u32, opcua: u32, ne107: Ne107) -> Views {
    Views { id, sparkplug, opcua, ne107 }
}

impl Quality {
    /// Every one of them, in the order of their numbers in the store: new ones stand at the end.
    pub const ALL: [Quality; 18] = [
        Quality::Good,
        Quality::BadConfig,
        Quality::BadNotConnected,
        Quality::BadDeviceFailure,
        Quality::BadSensorFailure,
        Quality::BadCommLastValueKnown,
        Quality::BadNoCommunication,
        Quality::BadOutOfService,
        Quality::BadDecode,
        Quality::UncertainEuExceeded,
        Quality::GoodLocalOverride,
        Quality::UncertainLastUsable,
        Quality::UncertainSubstitute,
        Quality::UncertainInitial,
        Quality::UncertainNotAccurate,
        Quality::UncertainStuck,
        Quality::BadOverRange,
        Quality::BadUnderRange,
    ];

    /// The one with this id.
    #[must_use]
    pub fn from_id(id: &str) -> Option<Quality> {
        Quality::ALL.into_iter().find(|quality| quality.id() == id)
    }

    const fn views(self) -> Views {
        use Ne107::{CheckFunction, Failure, Normal, OutOfSpec};
        match self {
            Quality::Good => views("good", 192, 0x0000_0000, Normal),
            Quality::GoodLocalOverride => views("good:local_override", 192, 0x0096_0000, CheckFunction),
            Quality::UncertainLastUsable => views("uncertain:last_usable", 500, 0x4090_0000, OutOfSpec),
            Quality::UncertainSubstitute => views("uncertain:substitute", 192, 0x4091_0000, CheckFunction),
            Quality::UncertainInitial => views("uncertain:initial", 500, 0x4092_0000, Normal),
            Quality::UncertainNotAccurate => views("uncertain:not_accurate", 192, 0x4093_0000, OutOfSpec),
            Quality::UncertainEuExceeded => views("uncertain:eu_exceeded", 192, 0x4094_0000, OutOfSpec),
            Quality::UncertainStuck => views("uncertain:stuck", 192, 0x4095_0000, OutOfSpec),
            Quality::BadConfig => views("bad:config", 0, 0x8089_0000, Normal),
            Quality::BadNotConnected => views("bad:not_connected", 0, 0x808A_0000, Normal),
            Quality::BadDeviceFailure => views("bad:device_failure", 0, 0x808B_0000, Failure),
            Quality::BadSensorFailure => views("bad:sensor_failure", 0, 0x808C_0000, Failure),
            Quality::BadOverRange => views("bad:over_range", 0, 0x803C_0000, OutOfSpec),
            Quality::BadUnderRange => views("bad:under_range", 0, 0x803C_0000, OutOfSpec),
            Quality::BadCommLastValueKnown => views("bad:comm_last_value_known", 500, 0x8005_0000, Normal),
            Quality::BadNoCommunication => views("bad:no_communication", 0, 0x8031_0000, Normal),
            Quality::BadOutOfService => views("bad:out_of_service", 0, 0x808D_0000, CheckFunction),
            Quality::BadDecode => views("bad:decode", 0, 0x8007_0000, Normal),
        }
    }

    /// The id that is published as the property `Reason` and shown to people.
    #[must_use]
    pub const fn id(self) -> &'static str {
        self.views().id
    }

    /// The three that Sparkplug knows (3.0.0, 6.4.18): 192 good, 0 bad, 500 stale.
    #[must_use]
    pub const fn sparkplug(self) -> u32 {
        self.views().sparkplug
    }

    /// The status code of OPC UA (Part 8, 6.3, and Part 4, 7.39); its two highest bits say good, uncertain or bad.
    #[must_use]
    pub const fn opcua(self) -> u32 {
        self.views().opcua
    }

    /// The state of the device as NAMUR NE 107 has it, as far as the value tells it.
    #[must_use]
    pub const fn ne107(self) -> Ne107 {
        self.views().ne107
    }

    /// Whether the value may be used without a second thought.
    #[must_use]
    pub const fn is_good(self) -> bool {
        self.opcua() >> 30 == 0
    }

    /// Whether there is no value of now.
    #[must_use]
    pub const fn is_bad(self) -> bool {
        self.opcua() >> 30 == 2
    }

    /// The worse of two; of two that are as bad as each other the first.
    #[must_use]
    pub const fn worst(self, other: Quality) -> Quality {
        if other.opcua() >> 30 > self.opcua() >> 30 { other } else { self }
    }

    /// Whether the last good value is still worth showing beside this quality.
    #[must_use]
    pub const fn keeps_last_value(self) -> bool {
        matches!(self, Quality::BadCommLastValueKnown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_of_a_reason_is_that_of_its_code() {
        for quality in Quality::ALL {
            let class = quality.id().split(':').next().unwrap();
            assert_eq!(class == "good", quality.is_good(), "{}", quality.id());
            assert_eq!(class == "bad", quality.is_bad(), "{}", quality.id());
            assert!([0, 192, 500].contains(&quality.sparkplug()));
            assert_eq!(Quality::from_id(quality.id()), Some(quality));
        }
    }

    #[test]
    fn the_worst_of_two_is_the_first_of_the_worst_class() {
        use Quality::{BadConfig, BadDecode, Good, UncertainStuck};
        assert_eq!(Good.worst(UncertainStuck), UncertainStuck);
        assert_eq!(BadConfig.worst(UncertainStuck), BadConfig);
        assert_eq!(BadConfig.worst(BadDecode), BadConfig);
        assert_eq!(UncertainStuck.worst(BadDecode), BadDecode);
    }
}
