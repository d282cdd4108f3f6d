//! The floor of `configs/demo.toml`. Pure data.

use super::{Device, Layout, Motion, Order, Point, Table};

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
