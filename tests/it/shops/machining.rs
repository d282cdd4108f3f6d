//! `configs/machining.toml`: two lathes and a mill, each behind a unit that dials in, with a meter, the drive of the
//! spindle and a counting box.

use std::net::SocketAddr;
use std::time::Duration;

use tidegate::config::site::Framing;
use tidegate::sim::floor::{Device, Floor, Form, Layout, Motion, Point, Table};
use tidegate::sim::serve::{Dial, FarEnd, Shared};
use tokio::task::JoinSet;

use super::{Shop, device, register};
use crate::gateway::free_address;

/// What one machine does; numbers by the second. What is read by several requests does not change at one moment: a state that
/// is there between two requests is there for the gateway too.
struct Machine {
    name: &'static str,
    number: u32,
    watts: &'static [(f64, f64)],
    kilowatt_hours: &'static [(f64, f64)],
    /// 0 stopped, 2 standby, 3 running.
    drive: &'static [(f64, f64)],
    drive_fault: &'static [(f64, f64)],
    torque: &'static [(f64, f64)],
    parts: &'static [(f64, f64)],
    red: &'static [(f64, f64)],
    yellow: &'static [(f64, f64)],
}

const RUNNING: &[(f64, f64)] = &[(0.0, 3.0)];

/// It cuts for 9 s; a red lamp is on for 5, of which 2 do not count, and the drive stands by meanwhile; it waits for 3, and is
/// switched off.
const FIRST: Machine = Machine {
    name: "lathe-1",
    number: 10_000_001,
    watts: &[(0.0, 2400.0), (12.0, 220.0), (17.0, 40.0)],
    kilowatt_hours: &[(0.0, 1500.0), (4.0, 1500.25), (8.0, 1500.5)],
    drive: &[(0.0, 3.0), (12.0, 2.0), (17.0, 0.0)],
    drive_fault: &[],
    torque: &[(0.0, 61.5), (12.0, 0.0)],
    parts: &[(0.0, 120.0), (2.0, 121.0), (4.0, 122.0), (6.0, 123.0), (8.0, 124.0)],
    red: &[(9.0, 1.0), (14.0, 0.0)],
    yellow: &[],
};

/// It is ready for 6 s and cuts then; its counter goes over its end.
const SECOND: Machine = Machine {
    name: "lathe-2",
    number: 10_000_002,
    watts: &[(0.0, 150.0), (6.0, 900.0)],
    kilowatt_hours: &[(0.0, 77.0), (12.0, 77.75)],
    drive: RUNNING,
    drive_fault: &[],
    torque: &[(0.0, -12.5)],
    parts: &[(0.0, 4_294_967_294.0), (7.0, 4_294_967_295.0), (9.0, 0.0), (11.0, 1.0)],
    red: &[(2.0, 1.0), (3.2, 0.0)],
    yellow: &[(0.0, 1.0)],
};

/// It cuts two parts at a time, is overloaded for 4 s, and its drive trips and coasts.
const THIRD: Machine = Machine {
    name: "mill-1",
    number: 10_000_003,
    watts: &[(0.0, 5200.0)],
    kilowatt_hours: &[(0.0, 903.0), (3.0, 903.5), (6.0, 904.0), (14.0, 904.5)],
    drive: &[(0.0, 3.0), (10.5, 0.0), (12.0, 3.0)],
    drive_fault: &[(9.0, 18.0), (13.5, 0.0)],
    torque: &[(0.0, 80.0), (4.0, 130.5), (8.0, 75.0)],
    parts: &[(0.0, 7.0), (3.0, 8.0), (6.0, 9.0), (15.0, 10.0)],
    red: &[],
    yellow: &[],
};

impl Machine {
    fn devices(&self) -> [Device; 3] {
        let of = |what: &str| format!("{}{what}", self.name);
        [
            device(&of("-meter"), self.name, 1, self.meter()),
            device(&of("-drive"), self.name, 2, self.drive()),
            device(self.name, self.name, 3, self.counting_box()),
        ]
    }

    fn meter(&self) -> Vec<Point> {
        let single = |name, address, motion| {
            Point::new(name, Table::InputRegisters, address, Layout::new(Form::Single), motion)
        };
        vec![
            single("voltage/l1", 0x00, Motion::fixed(231.5)),
            single("current/l1", 0x06, Motion::Wave { middle: 8.0, swing: 3.0, seconds: 7.0 }),
            single("power/active", 0x34, Motion::script(self.watts)),
            single("frequency", 0x46, Motion::fixed(49.984_375)),
            single("energy/import", 0x48, Motion::script(self.kilowatt_hours)),
        ]
    }

    fn drive(&self) -> Vec<Point> {
        let of = |name, address, form, divisor, motion| {
            let layout = Layout::new(form).scaled(1, divisor);
            Point::new(name, Table::HoldingRegisters, address, layout, motion)
        };
        vec![
            of("fault", 0x2100, Form::Slice(0, 7), 1, Motion::script(self.drive_fault)),
            of("frequency", 0x2103, Form::Whole(1), 100, Motion::fixed(49.98)),
            of("current", 0x2104, Form::Whole(1), 100, Motion::fixed(12.34)),
            of("torque", 0x210B, Form::Whole(1), 10, Motion::script(self.torque)),
            register("speed", 0x210C, Motion::fixed(2990.0)),
            of("state", 0x2119, Form::Slice(0, 1), 1, Motion::script(self.drive)).with_words(&[
                (0, "stopped"),
                (1, "stopping"),
                (2, "standby"),
                (3, "running"),
            ]),
            of("decimals", 0x211F, Form::Slice(8, 15), 1, Motion::fixed(2.0)),
        ]
    }

    fn counting_box(&self) -> Vec<Point> {
        let whole = Layout::new(Form::Whole(2));
        let lamp = |name, address, steps| {
            Point::new(name, Table::DiscreteInputs, address, Layout::new(Form::Bit), Motion::script(steps))
        };
        vec![
            Point::new("parts", Table::HoldingRegisters, 0, whole, Motion::script(self.parts)),
            lamp("lamp/red", 0, self.red),
            lamp("lamp/yellow", 1, self.yellow),
        ]
    }

    /// How its unit calls the gateway.
    fn dial(&self, gateway: SocketAddr) -> Dial {
        Dial {
            gateway,
            registration: format!("DTU-{}", self.number).into_bytes(),
            is_prefixed: false,
            heartbeat: Some((b"PING".to_vec(), Duration::from_secs(5))),
            pause: Duration::from_millis(200),
        }
    }
}

async fn open() -> Shop {
    let machines = [FIRST, SECOND, THIRD];
    let floor = Shared::new(Floor::new(machines.iter().flat_map(Machine::devices).collect()));
    let gateway = free_address().await;
    let mut tasks = JoinSet::new();
    for machine in &machines {
        let far = FarEnd::new(machine.name, Framing::Rtu, floor.clone());
        tasks.spawn(far.dial(machine.dial(gateway)));
    }
    let links = [
        ("TIDEGATE__LINK__DTU__LISTEN", gateway.to_string()),
        // figures of machines are told each minute, unless said otherwise
        ("TIDEGATE__TYPE__COUNTING_BOX__REPORT__AT_MOST", "100ms".to_owned()),
    ];
    let of = |what: &'static str| machines.iter().map(move |machine| format!("{}{what}", machine.name));
    let devices: Vec<String> = of("").chain(of("-meter")).chain(of("-drive")).collect();
    let devices: Vec<&str> = devices.iter().map(String::as_str).collect();
    Shop::open("machining.toml", &links, floor, tasks, &devices).await
}

#[tokio::test]
async fn lathes_and_a_mill_behind_units_that_dial_in_tell_states_pieces_and_energy() {
    let mut shop = open().await;
    shop.watch("the end", |heard| {
        let is = |device, tag, value: &str| heard.last(device, tag).as_deref() == Some(value);
        is("lathe-1", "machine/state", "stop")
            && is("lathe-2", "machine/energy", "0.75")
            && is("lathe-2", "machine/pieces", "3")
            && is("mill-1", "machine/energy", "1.5")
            && is("mill-1", "machine/pieces", "6")
    })
    .await;
    let states = |device| shop.heard.borrow().states(device);
    assert_eq!(states("lathe-1"), ["run", "fault", "idle", "stop"]);
    assert_eq!(states("lathe-2"), ["idle", "run"], "a lamp that is red for a moment is no fault");
    assert_eq!(states("mill-1"), ["run", "fault", "run"]);
    for (device, figures) in [
        ("lathe-1", ["4", "0.5", "0.125"]),
        ("lathe-2", ["3", "0.75", "0.25"]),
        ("mill-1", ["6", "1.5", "0.25"]),
    ] {
        let tags = ["machine/pieces", "machine/energy", "machine/kwh_per_piece"];
        shop.check_last(device, &tags.into_iter().zip(figures).collect::<Vec<_>>());
    }
    shop.check_last("lathe-2", &[("total/parts", "3"), ("parts", "1")]);
    let raised: &[&str] = &["false", "true", "false"];
    shop.check(
        "mill-1",
        &[("alarm/overload", raised), ("alarm/drive", raised), ("alarm/offline", &["false"])],
    );
    shop.check("lathe-1", &[("alarm/overload", &["false"]), ("alarm/drive", &["false"])]);
    shop.check("lathe-1", &[("spindle/load", &["61.5", "0"])]);
    shop.check("lathe-2-drive", &[("current", &["12.34"]), ("torque", &["-12.5"])]);
    shop.check(
        "mill-1-drive",
        &[("fault", &["0", "18", "0"]), ("state", &["running", "stopped", "running"])],
    );
    shop.check_served(&["parts", "energy/import", "fault", "state", "torque", "lamp/red", "frequency"]);
}
