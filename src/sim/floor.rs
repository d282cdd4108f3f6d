//! What stands on the floor: devices, their registers, how their values move, and the log of what was served. Pure.

mod demo;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::reading::Timestamp;

pub use demo::demo_floor;

/// The most registers and bits of one unit that may be written to; a write to a further one fails.
const WRITTEN_MAX: usize = 4096;

/// A table of the Modbus data model, by the function that reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

/// All units and the log.
#[derive(Debug)]
pub struct Floor {
    units: Vec<Unit>,
    log: BTreeMap<PointName, Vec<Served>>,
}

/// What answers at one address of a link.
#[derive(Debug)]
struct Unit {
    link: Arc<str>,
    unit: u8,
    content: Content,
    /// What has been written lies over what the content says.
    written: BTreeMap<(Table, u16), u16>,
}

#[derive(Debug)]
enum Content {
    Points(Device),
    /// See [`addressed`]; `reads` counts how often it was read.
    Addressed {
        reads: u8,
    },
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

/// What a request has read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Read {
    /// The registers, or bits, each in a word of its own.
    pub words: Vec<u16>,
    /// The points that lie in them whole.
    pub served: Vec<(PointName, Served)>,
}

/// The unit has been written to in too many places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Floor {
    /// A floor with `devices`, nothing served yet.
    #[must_use]
    pub fn new(devices: Vec<Device>) -> Floor {
        let units = devices.into_iter().map(|device| Unit {
            link: device.link.into(),
            unit: device.unit,
            content: Content::Points(device),
            written: BTreeMap::new(),
        });
        Floor { units: units.collect(), log: BTreeMap::new() }
    }

    /// The floor with more units on `link`, whose registers say whose they are: see [`addressed`].
    #[must_use]
    pub fn with_addressed(mut self, link: &str, units: impl IntoIterator<Item = u8>) -> Floor {
        self.units.extend(units.into_iter().map(|unit| Unit {
            link: link.into(),
            unit,
            content: Content::Addressed { reads: 0 },
            written: BTreeMap::new(),
        }));
        self
    }

    /// The addresses of the units on `link`.
    pub fn units_on(&self, link: &str) -> impl Iterator<Item = u8> {
        self.units.iter().filter(move |unit| *unit.link == *link).map(|unit| unit.unit)
    }

    /// Notes what a reply has carried.
    pub fn note(&mut self, served: Vec<(PointName, Served)>) {
        for (name, served) in served {
            self.log.entry(name).or_default().push(served);
        }
    }

    /// What has been noted of each point since this was asked last, in order.
    pub fn take_log(&mut self) -> BTreeMap<PointName, Vec<Served>> {
        std::mem::take(&mut self.log)
    }

    /// What `request` reads of `unit` on `link`, `elapsed_ms` after the start. Registers that no point has and nobody
    /// has written to read 0. `None` where there is no such unit.
    pub fn read(
        &mut self,
        link: &str,
        unit: u8,
        request: Request,
        elapsed_ms: u64,
        at: Timestamp,
    ) -> Option<Read> {
        let unit = self.unit(link, unit)?;
        let mut read = match &mut unit.content {
            Content::Points(device) => device.read(request, elapsed_ms, at, &unit.written),
            Content::Addressed { reads } => {
                *reads = reads.wrapping_add(1);
                let words =
                    request.addresses().map(|address| addressed(request.table, address, unit.unit, *reads));
                Read { words: words.collect(), served: Vec::new() }
            }
        };
        for (address, word) in request.addresses().zip(&mut read.words) {
            if let Some(written) = unit.written.get(&(request.table, address)) {
                *word = *written;
            }
        }
        Some(read)
    }

    /// Writes `words` to the registers or bits of `unit` from `address` on, as far as there are any. A unit that is not
    /// there takes nothing.
    ///
    /// # Errors
    /// [`Full`], and nothing is written, where the unit can remember no more.
    pub fn write(
        &mut self,
        link: &str,
        unit: u8,
        table: Table,
        address: u16,
        words: &[u16],
    ) -> Result<(), Full> {
        let Some(unit) = self.unit(link, unit) else { return Ok(()) };
        let places = (address..=u16::MAX).map(|address| (table, address));
        let new = places.clone().take(words.len()).filter(|place| !unit.written.contains_key(place)).count();
        if unit.written.len() + new > WRITTEN_MAX {
            return Err(Full);
        }
        unit.written.extend(places.zip(words.iter().copied()));
        Ok(())
    }

    fn unit(&mut self, link: &str, number: u8) -> Option<&mut Unit> {
        self.units.iter_mut().find(|unit| *unit.link == *link && unit.unit == number)
    }
}

impl Request {
    fn addresses(self) -> impl Iterator<Item = u16> {
        (self.address..=u16::MAX).take(usize::from(self.count))
    }
}

impl Device {
    /// The points that `request` reads; one whose registers were written to is no longer what it says.
    fn read(
        &self,
        request: Request,
        elapsed_ms: u64,
        at: Timestamp,
        written: &BTreeMap<(Table, u16), u16>,
    ) -> Read {
        let mut words = vec![0; usize::from(request.count)];
        let mut served = Vec::new();
        for point in self.points.iter().filter(|point| point.table == request.table) {
            let truth = point.truth(elapsed_ms);
            let registers = point.encode(&truth);
            let mut places =
                (point.address..=u16::MAX).take(registers.len()).map(|address| (point.table, address));
            if point.place(&registers, request, &mut words)
                && !places.any(|place| written.contains_key(&place))
            {
                served.push(((self.name, point.name), Served { at, truth }));
            }
        }
        Read { words, served }
    }
}

/// What a unit that was added by [`Floor::with_addressed`] holds, when it is read for the `reads`th time (modulo 256).
///
/// Registers come in pairs: one at an even address holds that address, the next one the unit in its high byte and
/// `reads` in the low one. So a value tells of which register it is, of which unit, and how old. Bits are on where the
/// address is a multiple of 3.
#[must_use]
pub fn addressed(table: Table, address: u16, unit: u8, reads: u8) -> u16 {
    match table {
        Table::Coils | Table::DiscreteInputs => u16::from(address.is_multiple_of(3)),
        Table::HoldingRegisters | Table::InputRegisters if address.is_multiple_of(2) => address,
        Table::HoldingRegisters | Table::InputRegisters => u16::from_be_bytes([unit, reads]),
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

    /// Writes the point's `registers` into the words of `request`; true if all of them lie in it.
    fn place(&self, registers: &[u16], request: Request, words: &mut [u16]) -> bool {
        let mut all_lie_in = true;
        for (index, word) in registers.iter().enumerate() {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(layout: Layout, truth: &Truth) -> Vec<u16> {
        let motion = Motion::Words("");
        Point { name: "p", table: Table::HoldingRegisters, address: 0, layout, motion }.encode(truth)
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

    const AT: Timestamp = Timestamp::from_millis(1);

    fn read(floor: &mut Floor, link: &str, unit: u8, address: u16, count: u16) -> Option<Read> {
        floor.read(link, unit, Request { table: Table::HoldingRegisters, address, count }, 0, AT)
    }

    #[test]
    fn only_points_that_are_read_whole_are_served() {
        let mut floor = Floor::new(demo_floor());
        assert_eq!(read(&mut floor, "plc", 9, 0, 1), None);
        assert_eq!(read(&mut floor, "line1", 9, 0, 1), None);
        let served = read(&mut floor, "plc", 1, 0, 3).unwrap().served;
        assert!(floor.take_log().is_empty());
        floor.note(served);
        let names: Vec<_> = floor.take_log().into_keys().collect();
        assert_eq!(names, [("press", "temperature")]);
        assert!(floor.take_log().is_empty());
    }

    #[test]
    fn what_was_written_lies_over_the_points_which_are_served_no_more() {
        let mut floor = Floor::new(demo_floor());
        floor.write("plc", 1, Table::HoldingRegisters, 1, &[7, 8]).unwrap();
        let Read { words, served } = read(&mut floor, "plc", 1, 0, 8).unwrap();
        assert_eq!(words[1..3], [7, 8]);
        let names: Vec<_> = served.into_iter().map(|((_, point), _)| point).collect();
        assert_eq!(names, ["energy/import"]);
        assert_eq!(read(&mut floor, "plc", 2, 0, 2).unwrap().words, [0, 0], "another unit");
    }

    #[test]
    fn a_unit_remembers_so_many_writes_and_no_more() {
        let mut floor = Floor::new(demo_floor());
        let all = vec![1; WRITTEN_MAX];
        assert_eq!(floor.write("plc", 1, Table::HoldingRegisters, 0, &all), Ok(()));
        assert_eq!(floor.write("plc", 1, Table::HoldingRegisters, 0, &all), Ok(()), "the same ones");
        assert_eq!(floor.write("plc", 1, Table::HoldingRegisters, 4096, &[1]), Err(Full));
        assert_eq!(floor.write("plc", 1, Table::Coils, 65_535, &[1]), Err(Full));
        assert_eq!(floor.write("plc", 2, Table::Coils, 65_535, &[1, 1]), Ok(()), "one of two is there");
    }

    #[test]
    fn an_addressed_register_tells_whose_it_is_and_how_old() {
        let mut floor = Floor::new(Vec::new()).with_addressed("a", 1..=3).with_addressed("b", [3]);
        assert_eq!(read(&mut floor, "a", 3, 4, 3).unwrap().words, [4, 0x0301, 6]);
        assert_eq!(read(&mut floor, "a", 3, 5, 1).unwrap().words, [0x0302]);
        assert_eq!(read(&mut floor, "b", 3, 65_535, 1).unwrap().words, [0x0301]);
        assert_eq!(read(&mut floor, "a", 4, 0, 1), None);
        assert_eq!(floor.units_on("a").collect::<Vec<_>>(), [1, 2, 3]);
    }
}
