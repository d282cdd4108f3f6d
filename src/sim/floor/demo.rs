//! The floor of `configs/demo.toml`. Pure data.

use super::Order::{Badc, Cdab, Dcba};
use super::Table::{Coils, DiscreteInputs, HoldingRegisters, InputRegisters};
use super::{
    Device, Digits, Form, Habit, Instrument, Item, Layout, Load, Meter, Motion, Point, Standard, Table,
};
use crate::config::site::{Parity, SerialLine};
use crate::reading::Timestamp;
use crate::tag::TimeFormat;

/// 2026-11-26T00:00:00Z, from which the oven's clock goes.
const OVEN_CLOCK: Timestamp = Timestamp::from_millis(1_795_651_200_000);

const fn wave_of(middle: f64, swing: f64, seconds: f64) -> Motion {
    Motion::Wave { middle, swing, seconds }
}

const fn ramp(start: i64, step: i64) -> Motion {
    Motion::Ramp { start, step }
}

const fn blink(seconds: u64) -> Motion {
    Motion::Blink { seconds }
}

fn words(words: &str) -> Motion {
    Motion::Words(words.into())
}

fn tenths(form: Form) -> Layout {
    Layout::new(form).scaled(1, 10)
}

/// Adds points of one table to a device.
struct Points(Table, Vec<Point>);

impl Points {
    fn add(mut self, name: &str, address: u16, layout: Layout, motion: Motion) -> Points {
        self.1.push(Point::new(name, self.0, address, layout, motion));
        self
    }

    fn add_form(self, name: &str, address: u16, form: Form, motion: Motion) -> Points {
        self.add(name, address, Layout::new(form), motion)
    }
}

fn of(table: Table) -> Points {
    Points(table, Vec::new())
}

fn press() -> Vec<Point> {
    let (whole, long) = (Layout::new(Form::Whole(2)), Layout::new(Form::Whole(4)));
    let registers = of(HoldingRegisters)
        .add_form("temperature", 0, Form::Single, wave_of(181.0, 6.5, 20.0))
        .add("position", 2, whole.ordered(Cdab), wave_of(-150.0, 90_000.0, 9.0))
        .add("energy/import", 4, long, ramp(9_007_199_254_740_993, 7))
        .add("pieces", 8, whole.ordered(Badc), ramp(3_000_000_000, 3))
        .add_form("alarm/overheat", 10, Form::BitOf(3), blink(4))
        .add_form("alarm/door", 10, Form::BitOf(12), blink(3))
        .add("balance", 12, long.ordered(Dcba), ramp(-8_000_000_000, -11))
        .add_form("model", 40, Form::Text(8), words("Press TG-200"))
        .add_form("job", 50, Form::Text(5), Motion::Job("JOB-".into()));
    let coils = of(Coils).add_form("running", 0, Form::Bit, blink(5));
    let inputs = of(DiscreteInputs).add_form("guard/closed", 3, Form::Bit, blink(2));
    [registers.1, coils.1, inputs.1].concat()
}

fn oven() -> Vec<Point> {
    #[expect(clippy::expect_used, reason = "a constant, and each start of the demo reads it")]
    let clock = TimeFormat::parse("YYMM DDhh mmss").expect("year, month and day stand in it once");
    let inputs = of(InputRegisters)
        .add("zone1/temperature", 70, tenths(Form::Whole(1)), wave_of(-2.0, 25.0, 15.0))
        .add("zone2/temperature", 71, tenths(Form::Whole(1)), wave_of(40.0, 3.0, 11.0))
        .add_form("speed", 72, Form::Whole(1), ramp(100, 2));
    let registers = of(HoldingRegisters)
        .add_form("flow", 100, Form::Double, wave_of(12.5, 2.25, 8.0))
        .add("pressure", 110, Layout::new(Form::Double).ordered(Badc), wave_of(-0.5, 0.75, 13.0))
        .add_form("fan/load", 120, Form::Slice(8, 15), wave_of(128.0, 120.0, 9.0))
        .add_form("fan/trim", 120, Form::Slice(0, 7), wave_of(0.0, 110.0, 7.0))
        .add_form("door/closed", 121, Form::BitOf(0), blink(3))
        .add_form("recipe/step", 121, Form::Slice(4, 6), wave_of(3.5, 3.4, 12.0))
        .add("fuel/burnt", 122, Layout::new(Form::Whole(3)).ordered(Cdab), ramp(40_000_000_000_000, 9))
        .add_form("humidity", 125, Form::Half, wave_of(35.0, 20.0, 14.0))
        .add_form("batch", 126, Form::Bcd(8), ramp(20_261_126, 1))
        .add_form("racks", 128, Form::BcdHalf { is_high: true }, wave_of(50.0, 49.0, 10.0))
        .add_form("recipe/name", 130, Form::Gbk(6), words("固化 180"))
        .add_form("operator", 136, Form::Letters(4), words("LIU"))
        .add("label", 140, Layout::new(Form::Text(4)).ordered(Badc), words("OVEN-7"))
        .add_form("clock", 150, Form::Date { format: clock, ahead_min: 480 }, Motion::Clock(OVEN_CLOCK));
    let states = [(0.0, 0.0), (3.0, 1.0), (5.0, 3.0), (6.5, 2.0), (9.0, 1.0)];
    let state =
        Point::new("state", HoldingRegisters, 160, Layout::new(Form::Whole(1)), Motion::script(&states))
            .with_words(&[(0, "idle"), (1, "heating"), (2, "holding"), (3, "fault")]);
    [inputs.1, registers.1, vec![state]].concat()
}

fn meter() -> Vec<Point> {
    let single = Layout::new(Form::Single).ordered(Cdab);
    let inputs = of(InputRegisters)
        .add("voltage/l1", 0, single, wave_of(230.0, 4.0, 17.0))
        .add("voltage/l2", 2, single, wave_of(229.0, 4.0, 19.0))
        .add("current/l1", 6, single, wave_of(12.0, 9.0, 7.0))
        .add("power/active", 52, single, wave_of(0.0, 2.7, 10.0))
        .add("frequency", 70, single, wave_of(50.0, 0.05, 23.0))
        .add("energy/import", 72, Layout::new(Form::Whole(2)).ordered(Cdab), ramp(70_000, 5))
        .add("energy/primary", 74, Layout::new(Form::Whole(2)).ordered(Cdab).scaled(40, 1), ramp(1_234, 2))
        .add("export/total", 76, tenths(Form::Myriads(2)), ramp(1_239_950, 8))
        .add("power/balance", 78, tenths(Form::SignMagnitude(1)), wave_of(0.0, 40.0, 8.0))
        .add("power/reactive", 80, tenths(Form::Whole(1)), wave_of(3.0, 12.0, 9.0))
        .add_form("power/scale", 81, Form::Whole(1), Motion::fixed(-1.0));
    let registers = of(HoldingRegisters)
        .add_form("serial_number", 10, Form::Text(4), words("TG-4711"))
        .add_form("ratio/ct", 14, Form::Whole(1), Motion::fixed(40.0));
    [inputs.1, registers.1].concat()
}

fn drive() -> Vec<Point> {
    of(HoldingRegisters)
        .add("torque", 0x210, tenths(Form::Whole(1)), wave_of(0.0, 80.0, 6.0))
        .add_form("speed", 0x211, Form::Whole(1), wave_of(1450.0, 30.0, 12.0))
        .add_form("state/run", 0x212, Form::BitOf(0), blink(6))
        .add("distance", 0x214, Layout::new(Form::Whole(2)).ordered(Dcba), ramp(-1000, 13))
        .1
}

/// The floor of `configs/demo.toml`: a press and an oven behind a TCP controller, a meter and a drive on a serial line.
#[must_use]
pub fn demo_floor() -> Vec<Device> {
    let device = |name: &str, link: &str, unit, points| Device {
        name: name.into(),
        link: link.into(),
        unit,
        baud: None,
        points,
    };
    vec![
        device("press", "plc", 1, press()),
        device("oven", "plc", 2, oven()),
        device("meter", "line1", 1, meter()),
        device("drive", "line1", 2, drive()),
    ]
}

/// The meter at the incoming supply, which shares the line of the drive at another speed.
fn incomer() -> Vec<Item> {
    let item = |name: &str, identifier, (count, decimals, is_signed), motion| {
        Item::new(name, identifier, Digits { count, decimals, is_signed }, motion)
    };
    let (energy, voltage, current) = ((8, 2, false), (4, 1, false), (6, 3, true));
    vec![
        item("energy/import", 0x0001_0000, energy, ramp(120_642, 9)),
        item("energy/sharp", 0x0001_0100, energy, ramp(2_031, 1)),
        item("energy/peak", 0x0001_0200, energy, ramp(49_955, 4)),
        item("energy/flat", 0x0001_0300, energy, ramp(40_123, 3)),
        item("energy/valley", 0x0001_0400, energy, ramp(28_533, 1)),
        item("voltage/l1", 0x0201_0100, voltage, wave_of(230.0, 4.0, 17.0)),
        item("voltage/l2", 0x0201_0200, voltage, wave_of(229.0, 4.0, 19.0)),
        item("voltage/l3", 0x0201_0300, voltage, wave_of(231.0, 4.0, 23.0)),
        item("current/l1", 0x0202_0100, current, wave_of(0.0, 9.5, 9.0)),
        item("current/l2", 0x0202_0200, current, wave_of(4.0, 7.5, 11.0)),
        item("current/l3", 0x0202_0300, current, wave_of(-3.0, 8.5, 13.0)),
        item("power/active", 0x0203_0000, (6, 4, true), wave_of(0.0, 2.7, 10.0)),
        item("frequency", 0x0280_0002, (4, 2, false), wave_of(50.0, 0.05, 23.0)),
        item("constant", 0x0400_0409, (6, 0, false), ramp(6400, 0)),
    ]
}

/// The meters of `configs/demo.toml`. What one has of energies is too long for one of its frames.
#[must_use]
pub fn demo_meters() -> Vec<Meter> {
    vec![Meter {
        name: "incomer".into(),
        link: "line1".into(),
        address: 210_220_003_011,
        standard: Standard::Of2007,
        line: SerialLine { baud: 2400, data_bits: 8, parity: Parity::Even, stop_bits: 1 },
        part_max: 12,
        items: incomer(),
    }]
}

/// The instruments of `configs/demo.toml`: a balance on the line of the drive at a third speed; a scale and a reader on
/// lines of their own, which talk by themselves.
#[must_use]
pub fn demo_instruments() -> Vec<Instrument> {
    let instrument = |name: &str, link: &str, baud, habit| {
        let line = SerialLine { baud, data_bits: 8, parity: Parity::None, stop_bits: 1 };
        Instrument { name: name.into(), link: link.into(), line: Some(line), habit }
    };
    let balance = Habit::Balance(Load { most: 220_000, decimals: 2, overload_every: 2 });
    let scale =
        Habit::Indicator { load: Load { most: 150_000, decimals: 2, overload_every: 0 }, every_ms: 250 };
    let codes = ["6901234567892", "4006381333931", "4006381333931", "LOT-2026-0417", "9780201379624"];
    vec![
        instrument("balance", "line1", 9600, balance),
        instrument("scale", "scale", 1200, scale),
        instrument("reader", "reader", 9600, Habit::Reader(codes.map(Into::into).into())),
    ]
}
