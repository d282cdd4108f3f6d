//! What stands on the floor: devices, their registers, how their values move, and the log of what was served. Pure.

use std::collections::BTreeMap;

use crate::reading::Timestamp;

/// A table of the Modbus data model, by the function that reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the four tables")]
pub enum Table {
    Coils,
    DiscreteInputs,
    HoldingRegisters,
    InputRegisters,
}

/// What a point really is at a moment.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "a value of each kind")]
pub enum Truth {
    Bool(bool),
    Integer(i128),
    Float(f32),
    Double(f64),
    Text(String),
}

impl std::fmt::Display for Truth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Truth::Bool(value) => value.fmt(f),
            Truth::Integer(value) => value.fmt(f),
            Truth::Float(value) => value.fmt(f),
            Truth::Double(value) => value.fmt(f),
            Truth::Text(value) => value.fmt(f),
        }
    }
}

/// The wire order of the registers of a value, by the letters of the manual.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the four orders")]
pub enum Order {
    Abcd,
    Cdab,
    Badc,
    Dcba,
}

/// How a point lies in its registers.
#[derive(Clone, Copy, Debug)]
pub enum Layout {
    /// One coil or discrete input.
    Bit,
    /// One bit of a register.
    BitOf(u8),
    /// A signed register that holds the value times this.
    Scaled16(f64),
    /// An unsigned register.
    Unsigned16,
    /// Two registers, signed or unsigned.
    Integer32(Order),
    /// Four registers, signed or unsigned.
    Integer64(Order),
    /// Two registers.
    Float32(Order),
    /// Four registers.
    Float64(Order),
    /// So many registers of text.
    Text(u16),
}

/// How a point moves.
#[derive(Clone, Copy, Debug)]
pub enum Motion {
    /// Up and down around a middle.
    Wave {
        /// The middle.
        middle: f64,
        /// The most above and below it.
        swing: f64,
        /// Of one whole wave.
        seconds: f64,
    },
    /// Upwards, or downwards, from a start.
    Ramp {
        /// At the beginning.
        start: i64,
        /// A second.
        step: i64,
    },
    /// On and off.
    Blink {
        /// Of each.
        seconds: u64,
    },
    /// These words and a number that grows.
    Job(&'static str),
    /// Always the same words.
    Words(&'static str),
}

/// One value of a device.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// The name of the tag that reads it.
    pub name: &'static str,
    /// Where.
    pub table: Table,
    /// The first register, 0-based.
    pub address: u16,
    /// How it lies there.
    pub layout: Layout,
    /// How it moves.
    pub motion: Motion,
}

/// A device on the floor.
#[derive(Clone, Debug)]
pub struct Device {
    /// The name of the device in the configuration.
    pub name: &'static str,
    /// The link that it is on, by name.
    pub link: &'static str,
    /// Its address there.
    pub unit: u8,
    /// What it has.
    pub points: &'static [Point],
}

/// A value as it was served.
#[derive(Clone, Debug, PartialEq)]
pub struct Served {
    /// When, just before the reply was sent.
    pub at: Timestamp,
    /// What.
    pub truth: Truth,
}

/// The name of a device and of one of its points.
pub type PointName = (&'static str, &'static str);

/// All devices and the log.
#[derive(Debug)]
pub struct Floor {
    devices: Vec<Device>,
    log: BTreeMap<PointName, Vec<Served>>,
}

/// What one request reads.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// From which table.
    pub table: Table,
    /// From which register or bit.
    pub address: u16,
    /// How many.
    pub count: u16,
}

impl Floor {
    /// A floor with `devices`, nothing served yet.
    #[must_use]
    pub fn new(devices: Vec<Device>) -> Floor {
        Floor { devices, log: BTreeMap::new() }
    }

    /// What has been served of each point since this was asked last, in order.
    pub fn take_log(&mut self) -> BTreeMap<PointName, Vec<Served>> {
        std::mem::take(&mut self.log)
    }

    /// The registers (or bits, each in a word of its own) that `request` asks of `unit` on `link`, `elapsed_ms` after
    /// the start; every point that lies in them whole is logged. Registers that no point has read 0. `None` where there
    /// is no such unit.
    pub fn serve(
        &mut self,
        link: &str,
        unit: u8,
        request: Request,
        elapsed_ms: u64,
        at: Timestamp,
    ) -> Option<Vec<u16>> {
        let device = self.devices.iter().find(|device| device.link == link && device.unit == unit)?;
        let mut words = vec![0; usize::from(request.count)];
        for point in device.points.iter().filter(|point| point.table == request.table) {
            let truth = point.truth(elapsed_ms);
            let lies_in = point.place(&truth, request, &mut words);
            if lies_in {
                self.log.entry((device.name, point.name)).or_default().push(Served { at, truth });
            }
        }
        Some(words)
    }
}

impl Point {
    /// What the point is, `elapsed_ms` after the start, exactly as its registers can say it.
    #[must_use]
    pub fn truth(&self, elapsed_ms: u64) -> Truth {
        match (self.motion, self.layout) {
            (Motion::Blink { seconds }, _) => Truth::Bool((elapsed_ms / (seconds.max(1) * 1000)) % 2 == 1),
            (Motion::Words(words), _) => Truth::Text(words.to_owned()),
            (Motion::Job(words), _) => Truth::Text(format!("{words}{:04}", elapsed_ms / 3000 % 10_000)),
            (Motion::Ramp { start, step }, _) => {
                Truth::Integer(i128::from(start) + i128::from(step) * i128::from(elapsed_ms) / 1000)
            }
            (Motion::Wave { middle, swing, seconds }, layout) => {
                let turn = seconds_of(elapsed_ms) / seconds * std::f64::consts::TAU;
                wave(middle + swing * turn.sin(), layout)
            }
        }
    }

    /// Writes the point's registers into the words of `request`; true if all of them lie in it.
    fn place(&self, truth: &Truth, request: Request, words: &mut [u16]) -> bool {
        let encoded = self.encode(truth);
        let mut all_lie_in = true;
        for (index, word) in encoded.iter().enumerate() {
            let place = (usize::from(self.address) + index).checked_sub(usize::from(request.address));
            match place.and_then(|place| words.get_mut(place)) {
                Some(slot) => *slot |= *word, // several points may be bits of one register
                None => all_lie_in = false,
            }
        }
        all_lie_in
    }

    fn encode(&self, truth: &Truth) -> Vec<u16> {
        match (self.layout, truth) {
            (Layout::Bit, Truth::Bool(on)) => vec![u16::from(*on)],
            (Layout::BitOf(bit), Truth::Bool(on)) => vec![u16::from(*on) << bit],
            (Layout::Scaled16(factor), Truth::Double(value)) => vec![low_word(whole(value * factor).into())],
            (Layout::Unsigned16, Truth::Integer(value)) => vec![low_word(*value)],
            (Layout::Integer32(order), Truth::Integer(value)) => {
                reorder(vec![low_word(value >> 16), low_word(*value)], order)
            }
            (Layout::Integer64(order), Truth::Integer(value)) => {
                reorder([48, 32, 16, 0].map(|shift| low_word(value >> shift)).to_vec(), order)
            }
            (Layout::Float32(order), Truth::Float(value)) => {
                let bits = i128::from(value.to_bits());
                reorder(vec![low_word(bits >> 16), low_word(bits)], order)
            }
            (Layout::Float64(order), Truth::Double(value)) => {
                let bits = i128::from(value.to_bits());
                reorder([48, 32, 16, 0].map(|shift| low_word(bits >> shift)).to_vec(), order)
            }
            (Layout::Text(registers), Truth::Text(text)) => {
                let mut bytes = text.clone().into_bytes();
                bytes.resize(usize::from(registers) * 2, 0);
                bytes
                    .chunks(2)
                    .map(|pair| pair.iter().fold(0, |word, byte| (word << 8) | u16::from(*byte)))
                    .collect()
            }
            _ => Vec::new(),
        }
    }
}

/// The number as its layout can hold it.
fn wave(value: f64, layout: Layout) -> Truth {
    match layout {
        Layout::Scaled16(factor) => Truth::Double((value * factor).round() / factor),
        Layout::Float32(_) => Truth::Float(single(value)),
        Layout::Float64(_) => Truth::Double(value),
        Layout::Bit | Layout::BitOf(_) => Truth::Bool(value > 0.0),
        Layout::Unsigned16 | Layout::Integer32(_) | Layout::Integer64(_) | Layout::Text(_) => {
            Truth::Integer(whole(value).into())
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a demo does not run for 2^53 ms")]
fn seconds_of(elapsed_ms: u64) -> f64 {
    elapsed_ms as f64 / 1000.0
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to a whole number is what is wanted")]
fn whole(value: f64) -> i64 {
    value.round() as i64
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to single precision is what is wanted")]
fn single(value: f64) -> f32 {
    value as f32
}

#[expect(clippy::cast_sign_loss, reason = "the low 16 bits are what is wanted")]
fn low_word(value: i128) -> u16 {
    (value & 0xFFFF) as u16
}

/// Registers from the highest to the lowest, put into the order of the wire.
fn reorder(mut words: Vec<u16>, order: Order) -> Vec<u16> {
    if matches!(order, Order::Cdab | Order::Dcba) {
        words.reverse();
    }
    if matches!(order, Order::Badc | Order::Dcba) {
        for word in &mut words {
            *word = word.rotate_left(8);
        }
    }
    words
}

const fn point(name: &'static str, table: Table, address: u16, layout: Layout, motion: Motion) -> Point {
    Point { name, table, address, layout, motion }
}

const fn wave_of(middle: f64, swing: f64, seconds: f64) -> Motion {
    Motion::Wave { middle, swing, seconds }
}

const PRESS: &[Point] = {
    use Table::{Coils, DiscreteInputs, HoldingRegisters};
    &[
        point("temperature", HoldingRegisters, 0, Layout::Float32(Order::Abcd), wave_of(181.0, 6.5, 20.0)),
        point(
            "position",
            HoldingRegisters,
            2,
            Layout::Integer32(Order::Cdab),
            wave_of(-150.0, 90_000.0, 9.0),
        ),
        point(
            "energy/import",
            HoldingRegisters,
            4,
            Layout::Integer64(Order::Abcd),
            Motion::Ramp { start: 9_007_199_254_740_993, step: 7 },
        ),
        point(
            "pieces",
            HoldingRegisters,
            8,
            Layout::Integer32(Order::Badc),
            Motion::Ramp { start: 3_000_000_000, step: 3 },
        ),
        point("alarm/overheat", HoldingRegisters, 10, Layout::BitOf(3), Motion::Blink { seconds: 4 }),
        point("alarm/door", HoldingRegisters, 10, Layout::BitOf(12), Motion::Blink { seconds: 3 }),
        point(
            "balance",
            HoldingRegisters,
            12,
            Layout::Integer64(Order::Dcba),
            Motion::Ramp { start: -8_000_000_000, step: -11 },
        ),
        point("model", HoldingRegisters, 40, Layout::Text(8), Motion::Words("Press TG-200")),
        point("job", HoldingRegisters, 50, Layout::Text(5), Motion::Job("JOB-")),
        point("running", Coils, 0, Layout::Bit, Motion::Blink { seconds: 5 }),
        point("guard/closed", DiscreteInputs, 3, Layout::Bit, Motion::Blink { seconds: 2 }),
    ]
};

const OVEN: &[Point] = {
    use Table::{HoldingRegisters, InputRegisters};
    &[
        point("zone1/temperature", InputRegisters, 70, Layout::Scaled16(10.0), wave_of(-2.0, 25.0, 15.0)),
        point("zone2/temperature", InputRegisters, 71, Layout::Scaled16(10.0), wave_of(40.0, 3.0, 11.0)),
        point("speed", InputRegisters, 72, Layout::Unsigned16, Motion::Ramp { start: 100, step: 2 }),
        point("flow", HoldingRegisters, 100, Layout::Float64(Order::Abcd), wave_of(12.5, 2.25, 8.0)),
        point("pressure", HoldingRegisters, 110, Layout::Float64(Order::Badc), wave_of(-0.5, 0.75, 13.0)),
    ]
};

const METER: &[Point] = {
    use Table::{HoldingRegisters, InputRegisters};
    &[
        point("voltage/l1", InputRegisters, 0, Layout::Float32(Order::Cdab), wave_of(230.0, 4.0, 17.0)),
        point("voltage/l2", InputRegisters, 2, Layout::Float32(Order::Cdab), wave_of(229.0, 4.0, 19.0)),
        point("current/l1", InputRegisters, 6, Layout::Float32(Order::Cdab), wave_of(12.0, 9.0, 7.0)),
        point("power/active", InputRegisters, 52, Layout::Float32(Order::Cdab), wave_of(0.0, 2.7, 10.0)),
        point("frequency", InputRegisters, 70, Layout::Float32(Order::Cdab), wave_of(50.0, 0.05, 23.0)),
        point(
            "energy/import",
            InputRegisters,
            72,
            Layout::Integer32(Order::Cdab),
            Motion::Ramp { start: 70_000, step: 5 },
        ),
        point("serial_number", HoldingRegisters, 10, Layout::Text(4), Motion::Words("TG-4711")),
    ]
};

const DRIVE: &[Point] = {
    use Table::HoldingRegisters;
    &[
        point("torque", HoldingRegisters, 0x210, Layout::Scaled16(10.0), wave_of(0.0, 80.0, 6.0)),
        point("speed", HoldingRegisters, 0x211, Layout::Unsigned16, wave_of(1450.0, 30.0, 12.0)),
        point("state/run", HoldingRegisters, 0x212, Layout::BitOf(0), Motion::Blink { seconds: 6 }),
        point(
            "distance",
            HoldingRegisters,
            0x214,
            Layout::Integer32(Order::Dcba),
            Motion::Ramp { start: -1000, step: 13 },
        ),
    ]
};

/// The floor of `configs/demo.toml`: a press and an oven behind a TCP controller, a meter and a drive on a serial line.
#[must_use]
pub fn demo_floor() -> Vec<Device> {
    vec![
        Device { name: "press", link: "plc", unit: 1, points: PRESS },
        Device { name: "oven", link: "plc", unit: 2, points: OVEN },
        Device { name: "meter", link: "line1", unit: 1, points: METER },
        Device { name: "drive", link: "line1", unit: 2, points: DRIVE },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(layout: Layout, truth: &Truth) -> Vec<u16> {
        point("p", Table::HoldingRegisters, 0, layout, Motion::Words("")).encode(truth)
    }

    #[test]
    fn values_lie_on_the_wire_as_manuals_print_them() {
        let f = Truth::Float(1_234.567_7);
        assert_eq!(encoded(Layout::Float32(Order::Abcd), &f), [0x449A, 0x522B]);
        assert_eq!(encoded(Layout::Float32(Order::Cdab), &f), [0x522B, 0x449A]);
        assert_eq!(encoded(Layout::Float32(Order::Badc), &f), [0x9A44, 0x2B52]);
        assert_eq!(encoded(Layout::Float32(Order::Dcba), &f), [0x2B52, 0x9A44]);
        assert_eq!(
            encoded(Layout::Integer64(Order::Cdab), &Truth::Integer(1_234_567_890_123)),
            [0x04CB, 0x71FB, 0x011F, 0]
        );
        assert_eq!(encoded(Layout::Integer32(Order::Abcd), &Truth::Integer(-2)), [0xFFFF, 0xFFFE]);
        assert_eq!(encoded(Layout::Scaled16(10.0), &Truth::Double(-20.5)), [0xFF33]);
        assert_eq!(encoded(Layout::Text(3), &Truth::Text("SDM6".into())), [0x5344, 0x4D36, 0]);
    }

    #[test]
    fn only_points_that_are_read_whole_are_logged() {
        let mut floor = Floor::new(demo_floor());
        let request = |address, count| Request { table: Table::HoldingRegisters, address, count };
        let at = Timestamp::from_millis(1);
        assert_eq!(floor.serve("plc", 9, request(0, 1), 0, at), None);
        assert_eq!(floor.serve("line1", 9, request(0, 1), 0, at), None);
        floor.serve("plc", 1, request(0, 3), 0, at);
        let names: Vec<_> = floor.take_log().into_keys().collect();
        assert_eq!(names, [("press", "temperature")]);
        assert!(floor.take_log().is_empty());
    }
}
