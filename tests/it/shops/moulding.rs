//! `configs/injection-moulding.toml`: three machines, each with a meter on one line and a PLC on the other.

use tidegate::config::site::{Framing, Parity, SerialLine};
use tidegate::sim::floor::{Device, Floor, Form, Layout, Motion, Order, Point, Table};
use tidegate::sim::serve::{FarEnd, Shared};
use tokio::task::JoinSet;

use super::{Shop, device, long, register};
use crate::rig::serve_line;

const METERS: SerialLine = SerialLine { baud: 9600, data_bits: 8, parity: Parity::None, stop_bits: 1 };
const PLCS: SerialLine = SerialLine { baud: 19_200, data_bits: 8, parity: Parity::Even, stop_bits: 1 };

/// What one machine does; numbers by the second. What is read by several requests does not change at one moment: a state that
/// is there between two requests is there for the gateway too.
struct Machine {
    unit: u8,
    /// Of the transformers of its meter, to 1.
    ct: u16,
    kilowatts: &'static [(f64, f64)],
    kilowatt_hours: &'static [(f64, f64)],
    mode: &'static [(f64, f64)],
    motor: &'static [(f64, f64)],
    shots: &'static [f64],
    rejects: &'static [f64],
    cavities: f64,
    moulds: &'static [(f64, f64)],
    heater: &'static [(f64, f64)],
    oil: &'static [(f64, f64)],
    ejector: &'static [(f64, f64)],
    temperature: &'static [(f64, f64)],
}

const ON: &[(f64, f64)] = &[(0.0, 1.0)];
const AUTO: &[(f64, f64)] = &[(0.0, 2.0)];

/// It works for 8 s, its heater fails for 4, its mould is changed for 3, it waits for 3, and is switched off.
const FIRST: Machine = Machine {
    unit: 1,
    ct: 40,
    kilowatts: &[(0.0, 12.0), (10.0, 0.4)],
    kilowatt_hours: &[(0.0, 32_000.0), (3.0, 32_000.625), (6.0, 32_001.25), (9.0, 32_001.875)],
    mode: &[(0.0, 2.0), (10.5, 3.0), (15.0, 0.0)],
    motor: &[(0.0, 1.0), (10.5, 0.0), (13.5, 1.0), (18.0, 0.0)],
    shots: &[2.0, 3.0, 4.0, 5.0, 6.0, 7.0],
    rejects: &[4.5],
    cavities: 2.0,
    moulds: &[],
    heater: &[(8.0, 1.0), (12.0, 0.0)],
    oil: &[(4.0, 1.0), (7.0, 0.0)],
    ejector: &[],
    temperature: &[(0.0, 200.0), (5.0, 260.5), (9.0, 203.0)],
};

/// It works; an ejector that is stuck for a moment is no fault.
const SECOND: Machine = Machine {
    unit: 2,
    ct: 20,
    kilowatts: &[(0.0, 7.5)],
    kilowatt_hours: &[(0.0, 1000.0), (5.0, 1000.3125), (10.0, 1000.625), (15.0, 1001.25)],
    mode: AUTO,
    motor: ON,
    shots: &[2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 15.0, 16.0],
    rejects: &[5.0, 9.0, 13.0],
    cavities: 4.0,
    moulds: &[],
    heater: &[],
    oil: &[],
    ejector: &[(6.0, 1.0), (7.2, 0.0)],
    temperature: &[(0.0, 185.5)],
};

/// It works, and gets another mould after 7 s.
const THIRD: Machine = Machine {
    unit: 3,
    ct: 80,
    kilowatts: &[(0.0, 31.0)],
    kilowatt_hours: &[(0.0, 4000.0), (3.0, 4001.25), (11.0, 4003.75)],
    mode: AUTO,
    motor: ON,
    shots: &[1.5, 2.5, 3.5, 11.0, 12.0, 13.0, 14.0],
    rejects: &[12.5],
    cavities: 2.0,
    moulds: &[(7.0, 1.0)],
    heater: &[],
    oil: &[],
    ejector: &[],
    temperature: &[(0.0, 221.0)],
};

impl Machine {
    fn devices(&self) -> [Device; 2] {
        let name = format!("imm{}", self.unit);
        let meter = device(&format!("{name}-meter"), "line1", self.unit, self.meter());
        [meter, device(&name, "line2", self.unit, self.plc())]
    }

    fn meter(&self) -> Vec<Point> {
        let single = |name, address, factor, divisor, motion| {
            let layout = Layout::new(Form::Single).scaled(factor, divisor);
            Point::new(name, Table::HoldingRegisters, address, layout, motion)
        };
        let ct = u32::from(self.ct);
        vec![
            register("ratio/ct", 6, Motion::fixed(self.ct.into())),
            register("ratio/vt", 7, Motion::fixed(10.0)),
            single("energy/import", 0x101E, ct, 1, Motion::script(self.kilowatt_hours)),
            single("voltage/l1", 0x2006, 1, 10, Motion::Wave { middle: 228.0, swing: 2.0, seconds: 9.0 }),
            single("power/active", 0x2012, ct, 10_000, Motion::script(self.kilowatts)),
            single("frequency", 0x2044, 1, 100, Motion::fixed(50.0)),
        ]
    }

    fn plc(&self) -> Vec<Point> {
        let tenths = |name, address, motion| {
            let layout = Layout::new(Form::Whole(1)).scaled(1, 10);
            Point::new(name, Table::HoldingRegisters, address, layout, motion)
        };
        let bit = |name, address, bit, steps| {
            let layout = Layout::new(Form::BitOf(bit));
            Point::new(name, Table::HoldingRegisters, address, layout, Motion::script(steps))
        };
        let mould = Layout::new(Form::Text(8)).ordered(Order::Cdab);
        vec![
            register("mode", 100, Motion::script(self.mode)).with_words(&[
                (0, "manual"),
                (1, "semi_auto"),
                (2, "auto"),
                (3, "mould_change"),
            ]),
            Point::new("motor/on", Table::Coils, 0xFC00, Layout::new(Form::Bit), Motion::script(self.motor)),
            long("shots", 200, Motion::counts(4000, self.shots)),
            long("rejects", 202, Motion::counts(17, self.rejects)),
            register("cavities", 204, Motion::fixed(self.cavities)),
            Point::new("mould", Table::HoldingRegisters, 300, mould, Motion::script(self.moulds))
                .with_words(&[(0, "MX-204"), (1, "MX-311")]),
            bit("faults/heater", 400, 0, self.heater),
            bit("faults/oil_level", 400, 1, self.oil),
            bit("faults/ejector", 401, 1, self.ejector),
            tenths("zone1/temperature", 500, Motion::script(self.temperature)),
            tenths("zone1/setpoint", 520, Motion::fixed(205.0)),
        ]
    }
}

async fn open() -> Shop {
    let machines = [FIRST, SECOND, THIRD];
    let floor = Shared::new(Floor::new(machines.iter().flat_map(Machine::devices).collect()));
    let mut tasks = JoinSet::new();
    let mut serve = |link, line| {
        let far = FarEnd::new(link, Framing::Rtu, floor.clone());
        serve_line(&far, line, &mut tasks).display().to_string()
    };
    let links = [
        ("TIDEGATE__LINK__LINE1__PORT", serve("line1", METERS)),
        ("TIDEGATE__LINK__LINE2__PORT", serve("line2", PLCS)),
        // figures of machines are told each minute, unless said otherwise
        ("TIDEGATE__TYPE__MOULDING_PLC__REPORT__AT_MOST", "100ms".to_owned()),
    ];
    let devices = ["imm1", "imm2", "imm3", "imm1-meter", "imm2-meter", "imm3-meter"];
    Shop::open("injection-moulding.toml", &links, floor, tasks, &devices).await
}

#[tokio::test]
async fn three_moulding_machines_tell_states_pieces_scrap_and_the_energy_of_a_piece() {
    let mut shop = open().await;
    shop.watch("the end", |heard| {
        let is = |device, tag, value: &str| heard.last(device, tag).as_deref() == Some(value);
        is("imm1", "machine/state", "stop")
            && is("imm2", "machine/energy", "1.25")
            && is("imm2", "machine/pieces", "36")
            && is("imm3", "machine/pieces", "8")
    })
    .await;

    // 6 shots of 2, 9 of 4; of the third 3 of 2 with one mould, and 4 of 2 with the other
    let states = |device| shop.heard.borrow().states(device);
    assert_eq!(states("imm1"), ["idle", "run", "fault", "setup", "idle", "stop"]);
    assert_eq!(states("imm2"), ["idle", "run"]);
    assert_eq!(states("imm3"), ["idle", "run"]);
    for (device, figures) in [
        ("imm1", ["12", "1", "11", "1.875", "0.15625"]),
        ("imm2", ["36", "3", "33", "1.25", "0.034722222222222224"]),
        ("imm3", ["8", "1", "7", "2.5", "0.3125"]),
    ] {
        let tags = ["pieces", "scrap", "good", "energy", "kwh_per_piece"].map(|tag| format!("machine/{tag}"));
        let expected: Vec<_> = tags.iter().map(String::as_str).zip(figures).collect();
        shop.check_last(device, &expected);
    }
    check_alarms(&shop);
    check_account(&shop);
    check_times(&shop);
    shop.check("imm1", &[("mode", &["auto", "mould_change", "manual"]), ("mould", &["MX-204"])]);
    shop.check("imm3", &[("mould", &["MX-204", "MX-311"])]);
    shop.check_served(&[
        "shots",
        "rejects",
        "energy/import",
        "zone1/temperature",
        "faults/ejector",
        "frequency",
    ]);
}

/// The first machine was too hot for 4 s, and short of oil for 3: that is an alarm until somebody acknowledges it.
fn check_alarms(shop: &Shop) {
    shop.check("imm1", &[("alarm/overheat", &["false", "true", "false"]), ("alarm/oil", &["false", "true"])]);
    shop.check("imm2", &[("alarm/overheat", &["false"]), ("alarm/oil", &["false"])]);
    let events = |device| shop.heard.borrow().events(device);
    assert_eq!(events("imm1"), ["oil raised", "overheat raised", "oil cleared", "overheat cleared"]);
    assert_eq!(events("imm2"), Vec::<String>::new());
}

/// What was made with the first mould of the third machine is closed and told.
fn check_account(shop: &Shop) {
    let accounts = shop.heard.borrow().values("imm3", "machine/account");
    assert_eq!(accounts.len(), 1, "{accounts:?}");
    let account: serde_json::Value = serde_json::from_str(&accounts[0]).unwrap();
    let is = |key: &str, value: &str| assert_eq!(account[key].to_string(), value, "{key} of {account}");
    is("of", "\"product\"");
    is("product", "\"MX-204\"");
    is("pieces", "6.0");
    is("scrap", "0.0");
    is("energy", "1.25");
}

/// The first machine ran from 3 to 8 s and later, had its fault from 8 to 12 s and its setup until 15 s, each as far as polls
/// each second can tell.
fn check_times(shop: &Shop) {
    let heard = shop.heard.borrow();
    let number = |tag: &str| heard.number("imm1", &format!("machine/{tag}"));
    for (tag, seconds) in [("adet", 4.0), ("aust", 3.0)] {
        assert!((number(tag) - seconds).abs() < 1.5, "{tag}: {}", number(tag));
    }
    // planned time of 6 shots of 24 s
    let planned = number("performance") * number("apt");
    assert!((planned - 144.0).abs() < 144.0 * 0.2, "{planned}");
}
