//! The vocabulary of units: what people write, and what is published for it.

/// A unit of measurement.
#[derive(Debug, PartialEq, Eq)]
pub struct Unit {
    /// What is written in a configuration and shown to people.
    pub written: &'static str,
    /// Other spellings.
    pub also: &'static [&'static str],
    /// The Unified Code for Units of Measure.
    pub ucum: &'static str,
    /// The common code of UN/ECE Recommendation 20.
    pub unece: &'static str,
}

const fn unit(written: &'static str, ucum: &'static str, unece: &'static str) -> Unit {
    Unit { written, also: &[], ucum, unece }
}

/// Every unit that a tag may have.
pub const UNITS: &[Unit] = &[
    unit("V", "V", "VLT"),
    unit("A", "A", "AMP"),
    unit("W", "W", "WTT"),
    unit("kW", "kW", "KWT"),
    unit("VA", "V.A", "D46"),
    unit("kVA", "kV.A", "KVA"),
    unit("var", "var", "D44"),
    unit("kvar", "kvar", "KVR"),
    unit("Wh", "W.h", "WHR"),
    unit("kWh", "kW.h", "KWH"),
    unit("MWh", "MW.h", "MWH"),
    unit("kvarh", "kvar.h", "K3"),
    unit("Hz", "Hz", "HTZ"),
    unit("rpm", "/min", "RPM"),
    Unit { written: "Cel", also: &["degC", "°C", "℃"], ucum: "Cel", unece: "CEL" },
    unit("K", "K", "KEL"),
    unit("Pa", "Pa", "PAL"),
    unit("kPa", "kPa", "KPA"),
    unit("MPa", "MPa", "MPA"),
    unit("bar", "bar", "BAR"),
    unit("kg", "kg", "KGM"),
    unit("g", "g", "GRM"),
    unit("t", "t", "TNE"),
    unit("L", "L", "LTR"),
    unit("m3", "m3", "MTQ"),
    unit("m3/h", "m3/h", "MQH"),
    unit("L/min", "L/min", "L2"),
    unit("Nm3/h", "m3/h", "Q40"),
    unit("mm", "mm", "MMT"),
    unit("mm/s", "mm/s", "C16"),
    unit("m/min", "m/min", "2X"),
    unit("Nm", "N.m", "NU"),
    unit("s", "s", "SEC"),
    unit("min", "min", "MIN"),
    unit("h", "h", "HUR"),
    unit("ms", "ms", "C26"),
    unit("1", "1", "C62"),
    unit("%", "%", "P1"),
    unit("piece", "{piece}", "H87"),
    unit("dB", "dB", "2N"),
    unit("deg", "deg", "DD"),
];

/// The unit that is written so, by its name or another spelling.
#[must_use]
pub fn find(written: &str) -> Option<&'static Unit> {
    UNITS.iter().find(|unit| unit.written == written || unit.also.contains(&written))
}
