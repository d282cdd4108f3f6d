//! The vocabulary of units: what people write, what is published for it, and which of them convert into each other.

/// A unit of measurement.
#[derive(Debug, PartialEq)]
pub struct Unit {
    /// What is written in a configuration and shown to people.
    pub written: &'static str,
    /// Other spellings.
    pub also: &'static [&'static str],
    /// The Unified Code for Units of Measure.
    pub ucum: &'static str,
    /// The common code of UN/ECE Recommendation 20.
    pub unece: &'static str,
    /// What it measures; units of one dimension convert into each other.
    dimension: Dimension,
    /// One of it is so many of the dimension's first unit.
    factor: f64,
    /// Where its zero lies, in the dimension's first unit.
    zero: f64,
}

/// What a unit measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dimension {
    Voltage,
    Current,
    ActivePower,
    ApparentPower,
    ReactivePower,
    ActiveEnergy,
    ReactiveEnergy,
    Frequency,
    Temperature,
    Pressure,
    Mass,
    Volume,
    Flow,
    /// Of gas, by its volume at normal conditions: not a [`Dimension::Flow`].
    NormalFlow,
    Length,
    Speed,
    Torque,
    Force,
    Time,
    Ratio,
    Pieces,
    Level,
    Angle,
    Illuminance,
}

/// From a value in one unit to the same in another: value × factor ÷ divisor + offset.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conversion {
    /// What it is multiplied by.
    pub factor: f64,
    /// What it is divided by then: 60 L/min are 3.6 m3/h, and not 3.5999999999999996.
    pub divisor: f64,
    /// What is added then.
    pub offset: f64,
}

impl Conversion {
    /// The value in the other unit.
    #[must_use]
    pub fn apply(self, value: f64) -> f64 {
        value * self.factor / self.divisor + self.offset
    }
}

/// `value` × `scale`. Where the scale is the inverse of a whole number, as 0.1 is, it is divided by that number: 3 × 0.1 is
/// 0.3 then, and not 0.30000000000000004.
#[must_use]
pub fn scaled(value: f64, scale: f64) -> f64 {
    let divisor = (1.0 / scale).round();
    let is_inverse = divisor.abs() >= 2.0 && (divisor * scale - 1.0).abs() < 1e-12;
    if is_inverse { value / divisor } else { value * scale }
}

impl Unit {
    /// How a value in this unit becomes one in `other`; `None` where they measure different things.
    #[must_use]
    pub fn to(&self, other: &Unit) -> Option<Conversion> {
        if self.dimension != other.dimension {
            return None;
        }
        let offset = (self.zero - other.zero) / other.factor;
        Some(Conversion { factor: self.factor, divisor: other.factor, offset })
    }

    /// `EUInformation.unitId` of OPC UA: the bytes of the common code as a number (Part 8, 5.6.3).
    #[must_use]
    pub fn opcua(&self) -> i32 {
        self.unece.bytes().fold(0, |id, byte| id << 8 | i32::from(byte))
    }
}

const fn unit(
    written: &'static str,
    also: &'static [&'static str],
    ucum: &'static str,
    unece: &'static str,
    dimension: Dimension,
    factor: f64,
) -> Unit {
    Unit { written, also, ucum, unece, dimension, factor, zero: 0.0 }
}

use Dimension as D;

/// Every unit that a tag may have.
pub const UNITS: &[Unit] = &[
    unit("V", &["volt"], "V", "VLT", D::Voltage, 1.0),
    unit("mV", &[], "mV", "2Z", D::Voltage, 0.001),
    unit("kV", &[], "kV", "KVT", D::Voltage, 1000.0),
    unit("A", &["amp"], "A", "AMP", D::Current, 1.0),
    unit("mA", &[], "mA", "4K", D::Current, 0.001),
    unit("W", &["watt"], "W", "WTT", D::ActivePower, 1.0),
    unit("kW", &[], "kW", "KWT", D::ActivePower, 1000.0),
    unit("MW", &[], "MW", "MAW", D::ActivePower, 1e6),
    unit("VA", &[], "V.A", "D46", D::ApparentPower, 1.0),
    unit("kVA", &[], "kV.A", "KVA", D::ApparentPower, 1000.0),
    unit("var", &["Var", "VAR"], "var", "D44", D::ReactivePower, 1.0),
    unit("kvar", &["kVar", "kVAR"], "kvar", "KVR", D::ReactivePower, 1000.0),
    unit("Wh", &["W.h"], "W.h", "WHR", D::ActiveEnergy, 1.0),
    unit("kWh", &["kW.h", "KWH", "度"], "kW.h", "KWH", D::ActiveEnergy, 1000.0),
    unit("MWh", &["MW.h"], "MW.h", "MWH", D::ActiveEnergy, 1e6),
    unit("kvarh", &["kVarh", "kvar.h"], "kvar.h", "K3", D::ReactiveEnergy, 1.0),
    unit("Hz", &[], "Hz", "HTZ", D::Frequency, 60.0),
    unit("kHz", &[], "kHz", "KHZ", D::Frequency, 60_000.0),
    unit("rpm", &["RPM", "r/min", "/min", "1/min"], "/min", "RPM", D::Frequency, 1.0),
    Unit { zero: 273.15, ..unit("Cel", &["degC", "°C", "℃"], "Cel", "CEL", D::Temperature, 1.0) },
    unit("K", &[], "K", "KEL", D::Temperature, 1.0),
    unit("Pa", &[], "Pa", "PAL", D::Pressure, 1.0),
    unit("kPa", &[], "kPa", "KPA", D::Pressure, 1000.0),
    unit("MPa", &[], "MPa", "MPA", D::Pressure, 1e6),
    unit("mbar", &[], "mbar", "MBR", D::Pressure, 100.0),
    unit("bar", &[], "bar", "BAR", D::Pressure, 100_000.0),
    unit("g", &[], "g", "GRM", D::Mass, 1.0),
    unit("mg", &[], "mg", "MGM", D::Mass, 0.001),
    unit("kg", &["KG", "公斤"], "kg", "KGM", D::Mass, 1000.0),
    unit("t", &["吨"], "t", "TNE", D::Mass, 1e6),
    unit("lb", &["lbs"], "[lb_av]", "LBR", D::Mass, 453.592_37),
    unit("L", &["l", "升"], "L", "LTR", D::Volume, 1.0),
    unit("m3", &["m³", "m^3", "立方米"], "m3", "MTQ", D::Volume, 1000.0),
    unit("m3/h", &["m³/h", "m^3/h"], "m3/h", "MQH", D::Flow, 1000.0),
    unit("L/min", &["l/min"], "L/min", "L2", D::Flow, 60.0),
    unit("Nm3/h", &["Nm³/h"], "m3/h", "Q40", D::NormalFlow, 1.0),
    unit("mm", &[], "mm", "MMT", D::Length, 1.0),
    unit("um", &["µm", "μm"], "um", "4H", D::Length, 0.001),
    unit("cm", &[], "cm", "CMT", D::Length, 10.0),
    unit("m", &[], "m", "MTR", D::Length, 1000.0),
    unit("mm/s", &[], "mm/s", "C16", D::Speed, 60.0),
    unit("m/s", &[], "m/s", "MTS", D::Speed, 60_000.0),
    unit("m/min", &[], "m/min", "2X", D::Speed, 1000.0),
    unit("Nm", &["N.m", "N·m"], "N.m", "NU", D::Torque, 1.0),
    unit("N", &[], "N", "NEW", D::Force, 1.0),
    unit("kN", &[], "kN", "B47", D::Force, 1000.0),
    unit("ms", &[], "ms", "C26", D::Time, 1.0),
    unit("s", &["sec"], "s", "SEC", D::Time, 1000.0),
    unit("min", &[], "min", "MIN", D::Time, 60_000.0),
    unit("h", &["hour"], "h", "HUR", D::Time, 3_600_000.0),
    unit("1", &[], "1", "C62", D::Ratio, 100.0),
    unit("%", &["percent"], "%", "P1", D::Ratio, 1.0),
    unit("piece", &["pieces", "pcs", "pc", "件", "个"], "{piece}", "H87", D::Pieces, 1.0),
    unit("dB", &[], "dB", "2N", D::Level, 1.0),
    unit("deg", &["°"], "deg", "DD", D::Angle, 1.0),
    unit("lx", &["lux"], "lx", "LUX", D::Illuminance, 1.0),
];

/// The unit that is written so, by its name or another spelling.
#[must_use]
pub fn find(written: &str) -> Option<&'static Unit> {
    UNITS.iter().find(|unit| unit.written == written || unit.also.contains(&written))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[track_caller]
    fn check(value: f64, from: &str, to: &str, expected: &str) {
        let (from, to) = (find(from).unwrap(), find(to).unwrap());
        let shown = from.to(to).map_or("-".to_owned(), |way| way.apply(value).to_string());
        assert_eq!(shown, expected, "{value} {} in {}", from.written, to.written);
    }

    #[test]
    fn units_of_one_dimension_convert_and_others_do_not() {
        check(300.0, "kPa", "bar", "3");
        check(3.0, "bar", "kPa", "300");
        check(0.65, "MPa", "bar", "6.5");
        check(1234.0, "W", "kW", "1.234");
        check(2.0, "MWh", "kWh", "2000");
        check(25.0, "Cel", "K", "298.15");
        check(300.0, "K", "℃", "26.850000000000023");
        check(50.0, "Hz", "rpm", "3000");
        check(60.0, "L/min", "m3/h", "3.6");
        check(90.0, "min", "h", "1.5");
        check(12.0, "mm/s", "m/min", "0.72");
        check(1.0, "lb", "kg", "0.45359237");
        check(45.0, "%", "1", "0.45");
        check(7.0, "kg", "kg", "7");
        check(1.0, "m3/h", "Nm3/h", "-");
        check(1.0, "kW", "kVA", "-");
        check(1.0, "kWh", "kvarh", "-");
        check(1.0, "kg", "L", "-");
    }

    #[test]
    fn a_spelling_means_one_unit_and_a_code_one_unit() {
        let mut spellings = BTreeSet::new();
        let mut codes = BTreeSet::new();
        for unit in UNITS {
            assert!(codes.insert(unit.unece), "{}", unit.unece);
            for spelling in unit.also.iter().chain([&unit.written]) {
                assert!(spellings.insert(*spelling), "{spelling}");
            }
        }
    }

    #[test]
    fn the_id_of_opc_ua_is_made_of_the_letters_of_the_common_code() {
        for (written, id) in [("V", 5_655_636), ("kWh", 4_937_544), ("L/min", 19_506), ("1", 4_404_786)] {
            assert_eq!(find(written).unwrap().opcua(), id, "{written}");
        }
    }
}
