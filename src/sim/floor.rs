//! What stands on the floor: devices, their registers, how their values move, and the log of what was served. Pure.

mod demo;
mod encode;
mod instrument;
mod meter;
mod of_site;
mod point;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::reading::Timestamp;

pub use demo::{demo_floor, demo_instruments, demo_meters};
pub use instrument::{Habit, Instrument, Load, Scene, Weight};
pub use meter::{Digits, Item, Measured, Meter, Standard};
pub use of_site::{Made, Untold, far_end_of, floor_of};
pub use point::{Form, Layout, Motion, Order, Point, Step, Truth};

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

/// A device on the floor.
#[derive(Clone, Debug)]
pub struct Device {
    /// The name of the device in the configuration.
    pub name: Arc<str>,
    /// The link that it is on, by name.
    pub link: Arc<str>,
    /// Its address there.
    pub unit: u8,
    /// The speed that it has on a serial line, in baud; `None`: that of the line.
    pub baud: Option<u32>,
    /// What it has.
    pub points: Vec<Point>,
}

/// A value as it was served.
#[derive(Clone, Debug, PartialEq)]
pub struct Served {
    /// When, just before the reply was sent.
    pub at: Timestamp,
    /// What; where the device says that it is more than it can measure: what it says nothing of.
    pub truth: Truth,
    /// What the device says of it.
    pub mark: Mark,
}

/// What a device says of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Nothing: it holds.
    Plain,
    /// It has not settled yet.
    Moving,
    /// It is more than it can measure, and it says no value.
    Over,
    /// It has happened, and counts each time.
    Event,
    /// It is what a manual prints, which does not tell how good it is.
    Printed,
}

/// The name of a device and of one of its points.
pub type PointName = (Arc<str>, Arc<str>);

/// All units, meters and instruments, and the log.
#[derive(Debug)]
pub struct Floor {
    units: Vec<Unit>,
    meters: Vec<Meter>,
    instruments: Vec<Instrument>,
    /// Nothing is said any more that nobody asks for.
    is_hushed: bool,
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
    /// Several devices may be views of one.
    Points(Vec<Device>),
    /// See [`addressed`]; `reads` counts how often it was read.
    Addressed { reads: u8 },
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
        let mut by_unit: BTreeMap<(Arc<str>, u8), Vec<Device>> = BTreeMap::new();
        for device in devices {
            by_unit.entry((device.link.clone(), device.unit)).or_default().push(device);
        }
        let units = by_unit.into_iter().map(|((link, unit), devices)| Unit {
            link,
            unit,
            content: Content::Points(devices),
            written: BTreeMap::new(),
        });
        Floor {
            units: units.collect(),
            meters: Vec::new(),
            instruments: Vec::new(),
            is_hushed: false,
            log: BTreeMap::new(),
        }
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

    /// The floor with more meters.
    #[must_use]
    pub fn with_meters(mut self, meters: impl IntoIterator<Item = Meter>) -> Floor {
        self.meters.extend(meters);
        self
    }

    /// The meters on `link`.
    pub fn meters_on(&self, link: &str) -> impl Iterator<Item = &Meter> {
        self.meters.iter().filter(move |meter| *meter.link == *link)
    }

    /// The floor with more instruments.
    #[must_use]
    pub fn with_instruments(mut self, instruments: impl IntoIterator<Item = Instrument>) -> Floor {
        self.instruments.extend(instruments);
        self
    }

    /// The instruments on `link`.
    pub fn instruments_on(&self, link: &str) -> impl Iterator<Item = &Instrument> {
        self.instruments.iter().filter(move |instrument| *instrument.link == *link)
    }

    /// From now on instruments say nothing by themselves, so that nothing is on its way when a gateway ends.
    pub const fn hush(&mut self) {
        self.is_hushed = true;
    }

    /// Whether they are to say nothing by themselves.
    #[must_use]
    pub const fn is_hushed(&self) -> bool {
        self.is_hushed
    }

    /// The units on `link` that have a speed of their own, and which.
    pub fn own_speeds_on(&self, link: &str) -> impl Iterator<Item = (u8, u32)> {
        let own = |unit: &Unit| match &unit.content {
            Content::Points(devices) => Some((unit.unit, devices.first()?.baud?)),
            Content::Addressed { .. } => None,
        };
        self.units.iter().filter(move |unit| *unit.link == *link).filter_map(own)
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
            Content::Points(devices) => {
                let mut all = Read { words: vec![0; usize::from(request.count)], served: Vec::new() };
                for device in devices {
                    device.read(request, elapsed_ms, at, &unit.written, &mut all);
                }
                all
            }
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
    /// Adds the points that `request` reads; one whose registers were written to is no longer what it says.
    fn read(
        &self,
        request: Request,
        elapsed_ms: u64,
        at: Timestamp,
        written: &BTreeMap<(Table, u16), u16>,
        all: &mut Read,
    ) {
        for point in self.points.iter().filter(|point| point.table == request.table) {
            let (truth, registers) = point.moment(elapsed_ms);
            let mut places =
                (point.address..=u16::MAX).take(registers.len()).map(|address| (point.table, address));
            if point.place(&registers, request, &mut all.words)
                && !places.any(|place| written.contains_key(&place))
                && let Some(truth) = truth
            {
                let served = Served { at, truth, mark: Mark::Plain };
                all.served.push(((self.name.clone(), point.name.clone()), served));
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(names, [("press".into(), "temperature".into())]);
        assert!(floor.take_log().is_empty());
    }

    #[test]
    fn what_was_written_lies_over_the_points_which_are_served_no_more() {
        let mut floor = Floor::new(demo_floor());
        floor.write("plc", 1, Table::HoldingRegisters, 1, &[7, 8]).unwrap();
        let Read { words, served } = read(&mut floor, "plc", 1, 0, 8).unwrap();
        assert_eq!(words[1..3], [7, 8]);
        let names: Vec<_> = served.into_iter().map(|((_, point), _)| point).collect();
        assert_eq!(names, ["energy/import".into()]);
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
