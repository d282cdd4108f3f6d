//! Meters that speak DL/T 645 on one pair with Modbus: literal frames on a pseudo-terminal, and the simulator's own meters.

use std::time::Duration;

use tidegate::config::site::{Framing, Parity, SerialLine};
use tidegate::sim::faults::{AnswerFault, AnswerFaults, When};
use tidegate::sim::floor::{Digits, Floor, Habit, Instrument, Item, Load, Meter, Motion, Standard};
use tidegate::sim::serve::{FarEnd, Line, Shared};
use tidegate::sim::slave::Frame;
use tidegate::sparkplug::proto::payload::metric;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::gateway::{Consumer, Gateway, free_address, metric, serve_broker};

/// A request as it comes on the wire, and what is answered; both without wake-up bytes.
const METER: [(&str, &str); 5] = [
    // 00010000: 1206.42 kWh
    (
        "68 11 30 00 20 02 21 68 11 04 33 33 34 33 36 16",
        "FE FE 68 11 30 00 20 02 21 68 91 08 33 33 34 33 75 39 45 33 E0 16",
    ),
    // 0201FF00: 221.7, 222.8 and 223.9 V
    (
        "68 11 30 00 20 02 21 68 11 04 33 32 34 35 37 16",
        "68 11 30 00 20 02 21 68 91 0A 33 32 34 35 4A 55 5B 55 6C 55 CD 16",
    ),
    // 0202FF00: there is no such data
    ("68 11 30 00 20 02 21 68 11 04 33 32 35 35 38 16", "68 11 30 00 20 02 21 68 D1 01 35 5B 16"),
    // 02020100 and 02020200: -1.234 and 5.678 A
    (
        "68 11 30 00 20 02 21 68 11 04 33 34 35 35 3A 16",
        "68 11 30 00 20 02 21 68 91 07 33 34 35 35 67 45 B3 1C 16",
    ),
    (
        "68 11 30 00 20 02 21 68 11 04 33 35 35 35 3B 16",
        "68 11 30 00 20 02 21 68 91 07 33 35 35 35 AB 89 33 25 16",
    ),
];

fn bytes(hex: &str) -> Vec<u8> {
    hex.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

/// Answers on the line, after some bytes that are nobody's.
async fn answer(mut line: Line) {
    let mut modbus = vec![(
        Frame { id: 0, unit: 7, pdu: vec![4, 0, 1, 0, 1] }.encode(Framing::Rtu),
        Frame { id: 0, unit: 7, pdu: vec![4, 2, 0, 215] }.encode(Framing::Rtu),
    )];
    modbus.extend(METER.iter().map(|(asked, answered)| (bytes(asked), bytes(answered))));
    let mut input = Vec::new();
    loop {
        let mut buffer = [0; 64];
        let Ok(count) = line.input.read(&mut buffer).await else { return };
        input.extend_from_slice(&buffer[..count]);
        let found = modbus.iter().find(|(asked, _)| input.ends_with(asked));
        if let Some((asked, answered)) = found {
            if asked[0] == 0x68 {
                assert!(input.ends_with(&[&[0xFE; 4][..], asked].concat()), "four bytes wake the meter");
                line.output.write_all(&[0x68, 0x00]).await.unwrap();
            }
            line.output.write_all(answered).await.unwrap();
            input.clear();
        }
    }
}

#[tokio::test]
async fn a_meter_shares_a_pair_with_modbus_and_its_block_is_asked_for_by_parts_where_it_has_none() {
    let line = Line::open().unwrap();
    let port = line.path.display().to_string();
    let mut tasks = JoinSet::new();
    tasks.spawn(answer(line));
    let broker = free_address().await;
    serve_broker(broker, &mut tasks).await;
    let mut host = Consumer::subscribe(broker).await;
    let text = format!(
        r#"
        [uplink.u]
        broker = "mqtt://{broker}"
        birth_jitter = "0s"
        [link.line]
        port = "{port}"
        serial = "9600 8E1"
        [device.meter]
        protocol = "dlt645"
        link = "line"
        address = "210220003011"
        serial = "2400 8E1"
        every = "300ms"
        tags = [
            {{ name = "ratio/ct", value = 2 }},
            {{ name = "energy/import", at = "00010000", format = "XXXXXX.XX", ratio = "ratio/ct", unit = "kWh", kind = "counter" }},
            {{ name = "voltage/l1", at = "02010100", format = "XXX.X", unit = "V" }},
            {{ name = "voltage/l3", at = "02010300", format = "XXX.X", unit = "V" }},
            {{ name = "current/l1", at = "02020100", format = "-XXX.XXX", unit = "A" }},
            {{ name = "current/l2", at = "02020200", format = "-XXX.XXX", unit = "A" }},
        ]
        [device.hall]
        link = "line"
        unit = 7
        every = "300ms"
        tags = [{{ name = "temperature", at = "ir:1", type = "i16", scale = 0.1, unit = "Cel" }}]
        "#
    );
    let folder = tempfile::tempdir().unwrap();
    let _gateway = Gateway::start(folder.path(), &text);
    let number = |payload: &tidegate::sparkplug::proto::Payload, name: &str| match metric(payload, name)?
        .value
        .as_ref()?
    {
        metric::Value::DoubleValue(number) => Some(*number),
        _ => None,
    };
    let (mut meter, mut hall) = (None, None);
    let end = tidegate::clock::monotonic() + Duration::from_secs(30);
    while (meter.is_none() || hall.is_none()) && tidegate::clock::monotonic() < end {
        let payload = host.wait_for_any(|topic, _| topic.contains("DBIRTH")).await;
        if number(&payload, "temperature").is_some() { hall = Some(payload) } else { meter = Some(payload) }
    }
    let meter = meter.unwrap();
    let shown = |name: &str| format!("{:?}", number(&meter, name).unwrap());
    let names = ["energy/import", "voltage/l1", "voltage/l3", "current/l1", "current/l2"];
    assert_eq!(names.map(shown), ["2412.84", "221.7", "223.9", "-1.234", "5.678"]);
    assert_eq!(number(&hall.unwrap(), "temperature"), Some(21.5));
}

/// hr:4 and hr:5 of unit 3, the first time.
const MODBUS: (&[u8], &[u8]) = (&[3, 3, 0, 4, 0, 2, 0x84, 0x28], &[3, 3, 4, 0, 4, 3, 1, 0x59, 0x02]);
/// 02010100 of the meter 210220003011: 230.5 V.
const VOLTAGE: (&str, &str) = (
    "FE FE FE FE 68 11 30 00 20 02 21 68 11 04 33 34 34 35 39 16",
    "FE FE FE FE 68 11 30 00 20 02 21 68 91 06 33 34 34 35 38 56 49 16",
);
/// Whoever is there is asked for its address: that meter answers, and the next one.
const WHO: (&str, &str, &str) = (
    "68 AA AA AA AA AA AA 68 13 00 DF 16",
    "FE FE FE FE 68 11 30 00 20 02 21 68 93 06 44 63 33 53 35 54 A3 16",
    // both at once: 11 and 12, 44 and 45, A3 and A5
    "FE FE FE FE 68 10 30 00 20 02 21 68 93 06 44 63 33 53 35 54 A1 16",
);

/// Meters with these addresses at 2400 baud, and slaves at `baud`, on one line; the gateway's end of it.
fn line_with(addresses: &[u64], baud: u32, tasks: &mut JoinSet<()>) -> (FarEnd, serial2_tokio::SerialPort) {
    let at = |baud| SerialLine { baud, data_bits: 8, parity: Parity::Even, stop_bits: 1 };
    let meter = |address: &u64| Meter {
        name: format!("m{address}").into(),
        link: "l".into(),
        address: *address,
        standard: Standard::Of2007,
        line: at(2400),
        part_max: 195,
        items: vec![item("voltage", 0x0201_0100, 4, 1, 230.5)],
    };
    let floor = Floor::new(Vec::new()).with_addressed("l", [3]).with_meters(addresses.iter().map(meter));
    let far = FarEnd::new("l", Framing::Rtu, Shared::new(floor));
    let line = Line::open().unwrap();
    let port = serial2_tokio::SerialPort::open(&line.path, baud).unwrap();
    tasks.spawn(far.clone().serve_line(line, at(baud)));
    (far, port)
}

fn set_baud(port: &mut serial2_tokio::SerialPort, baud: u32) {
    let mut settings = port.get_configuration().unwrap();
    settings.set_baud_rate(baud).unwrap();
    port.set_configuration(&settings).unwrap();
}

/// Sends `request` and reads exactly `reply`; nothing else comes, nothing at all where it is empty.
async fn exchange(port: &mut serial2_tokio::SerialPort, request: &[u8], reply: &[u8]) {
    port.write_all(request).await.unwrap();
    let mut got = vec![0; reply.len()];
    timeout(Duration::from_secs(10), port.read_exact(&mut got)).await.expect("in time").unwrap();
    assert_eq!(got, reply);
    let mut more = [0; 64];
    let read = timeout(Duration::from_millis(300), port.read(&mut more)).await;
    assert!(read.is_err(), "{read:?}: {more:?}");
}

#[tokio::test]
async fn simulated_slaves_and_meters_answer_on_one_line_each_at_its_own_speed() {
    let mut tasks = JoinSet::new();
    let (_far, mut port) = line_with(&[210_220_003_011], 9600, &mut tasks);
    let voltage = (bytes(VOLTAGE.0), bytes(VOLTAGE.1));
    exchange(&mut port, MODBUS.0, MODBUS.1).await;
    exchange(&mut port, &voltage.0, &[]).await;
    set_baud(&mut port, 2400);
    exchange(&mut port, MODBUS.0, &[]).await;
    let start = tidegate::clock::monotonic();
    exchange(&mut port, &voltage.0, &voltage.1).await;
    // 16 and 22 characters of 11 bits at 2400 baud, and 20 ms between them; the wake-up bytes wake
    assert!(start.elapsed() >= Duration::from_millis(194), "{:?}", start.elapsed());
    set_baud(&mut port, 9600);
    let again = [3, 3, 4, 0, 4, 3, 2, 0x19, 0x03];
    exchange(&mut port, MODBUS.0, &again).await;
}

#[tokio::test]
async fn simulated_slaves_and_meters_at_one_speed_hear_each_other_and_are_not_confused() {
    let mut tasks = JoinSet::new();
    let (_far, mut port) = line_with(&[210_220_003_011], 2400, &mut tasks);
    exchange(&mut port, &bytes(VOLTAGE.0), &bytes(VOLTAGE.1)).await;
    exchange(&mut port, MODBUS.0, MODBUS.1).await;
    // one right behind the other: the slave is the quicker one
    let both = [&bytes(VOLTAGE.0)[..], MODBUS.0].concat();
    let again = [3, 3, 4, 0, 4, 3, 2, 0x19, 0x03];
    exchange(&mut port, &both, &[&again[..], &bytes(VOLTAGE.1)].concat()).await;
}

#[tokio::test]
async fn two_simulated_meters_that_answer_at_once_spoil_each_others_answer() {
    let mut tasks = JoinSet::new();
    let (_far, mut port) = line_with(&[210_220_003_011], 2400, &mut tasks);
    exchange(&mut port, &bytes(WHO.0), &bytes(WHO.1)).await;
    let (_far, mut port) = line_with(&[210_220_003_011, 210_220_003_012], 2400, &mut tasks);
    exchange(&mut port, &bytes(WHO.0), &bytes(WHO.2)).await;
    exchange(&mut port, &bytes(VOLTAGE.0), &bytes(VOLTAGE.1)).await;
}

#[tokio::test]
async fn simulated_meters_hear_the_time_that_is_told_to_all_at_their_speed() {
    let mut tasks = JoinSet::new();
    let (far, mut port) = line_with(&[210_220_003_011, 210_220_003_012], 9600, &mut tasks);
    let time = bytes("FE 68 99 99 99 99 99 99 68 08 06 43 3C 3B 5A 44 59 25 16");
    exchange(&mut port, &time, b"").await;
    assert_eq!([210_220_003_011, 210_220_003_012].map(|meter| far.told(meter)), [0, 0]);
    set_baud(&mut port, 2400);
    exchange(&mut port, &time, b"").await;
    assert_eq!([210_220_003_011, 210_220_003_012].map(|meter| far.told(meter)), [1, 1]);
    exchange(&mut port, &bytes(VOLTAGE.0), &bytes(VOLTAGE.1)).await;
}

#[tokio::test]
async fn an_answer_of_a_simulated_meter_that_leaves_at_another_speed_is_noise() {
    let mut tasks = JoinSet::new();
    let (far, mut port) = line_with(&[210_220_003_011], 9600, &mut tasks);
    let late = AnswerFault::Late(Duration::from_millis(300), Duration::from_millis(300));
    far.set_meter_faults(AnswerFaults::new(1, vec![(When::Always, late)]));
    set_baud(&mut port, 2400);
    port.write_all(&bytes(VOLTAGE.0)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    set_baud(&mut port, 9600);
    let noise: Vec<u8> = bytes(VOLTAGE.1).iter().map(|byte| !byte).collect();
    exchange(&mut port, &[], &noise).await;
    assert_eq!(far.injected().into_iter().collect::<Vec<_>>(), [("late", 1)]);
}

/// A balance at 4800 baud shares the pair of the slaves and the meters.
#[tokio::test]
async fn a_simulated_balance_answers_what_it_is_asked_at_its_own_speed_and_nothing_else() {
    let at = |baud| SerialLine { baud, data_bits: 8, parity: Parity::None, stop_bits: 1 };
    let load = Load { most: 0, decimals: 2, overload_every: 0 };
    let balance =
        Instrument { name: "b".into(), link: "l".into(), line: Some(at(4800)), habit: Habit::Balance(load) };
    let floor = Floor::new(Vec::new()).with_addressed("l", [3]).with_instruments([balance]);
    let floor = Shared::new(floor);
    let far = FarEnd::new("l", Framing::Rtu, floor.clone());
    let (line, mut tasks) = (Line::open().unwrap(), JoinSet::new());
    let mut port = serial2_tokio::SerialPort::open(&line.path, 9600).unwrap();
    tasks.spawn(far.clone().serve_line(line, at(9600)));
    exchange(&mut port, MODBUS.0, MODBUS.1).await;
    exchange(&mut port, b"SI\r\n", b"").await;
    set_baud(&mut port, 4800);
    exchange(&mut port, MODBUS.0, b"").await;
    exchange(&mut port, b"SJ\r\n", b"").await;
    let start = tidegate::clock::monotonic();
    floor.restart(); // in its first second it is empty and settled
    exchange(&mut port, b"SI\r\n", b"S S       0.00 g\r\n").await;
    // 4 and 18 characters of 10 bits at 4800 baud, and 15 ms between them
    assert!(start.elapsed() >= Duration::from_millis(60), "{:?}", start.elapsed());
    far.set_instrument_faults(AnswerFaults::new(1, vec![(When::Every(2), AnswerFault::Echoed)]));
    floor.restart();
    exchange(&mut port, b"SI\r\n", b"S S       0.00 g\r\n").await;
    floor.restart();
    exchange(&mut port, b"SI\r\n", b"SI\r\nS S       0.00 g\r\n").await;
    set_baud(&mut port, 9600);
    exchange(&mut port, MODBUS.0, &[3, 3, 4, 0, 4, 3, 2, 0x19, 0x03]).await;
}

/// Nothing waits for a gateway that is not there: neither before it opens the port nor after it has closed it.
#[tokio::test]
async fn a_simulated_scale_talks_to_whoever_listens_and_to_nobody_else() {
    let own = SerialLine { baud: 9600, data_bits: 8, parity: Parity::None, stop_bits: 1 };
    let load = Load { most: 0, decimals: 2, overload_every: 0 };
    let habit = Habit::Indicator { load, every_ms: 60 };
    let scale = Instrument { name: "s".into(), link: "l".into(), line: None, habit };
    let floor = Shared::new(Floor::new(Vec::new()).with_instruments([scale]));
    let far = FarEnd::new("l", Framing::Rtu, floor.clone());
    let (line, mut tasks) = (Line::open().unwrap(), JoinSet::new());
    let path = line.path.clone();
    tasks.spawn(far.serve_line(line, own));
    let noted = || floor.with(Floor::take_log).into_values().flatten().count();
    let pause = async |ms| tokio::time::sleep(Duration::from_millis(ms)).await;
    pause(500).await;
    assert_eq!(noted(), 0, "nobody listens");
    for _ in 0..2 {
        floor.restart(); // in its first seconds it shows no less than nothing
        let mut port = serial2_tokio::SerialPort::open(&path, 9600).unwrap();
        let mut got = vec![0; 36];
        timeout(Duration::from_secs(10), port.read_exact(&mut got)).await.expect("in time").unwrap();
        assert_eq!(got, b"\x02+000000219\x03".repeat(3));
        assert!(noted() >= 3);
        drop(port);
        pause(1500).await;
        noted();
        pause(500).await;
        assert_eq!(noted(), 0, "nobody listens any more");
    }
    floor.with(Floor::hush);
    let mut port = serial2_tokio::SerialPort::open(&path, 9600).unwrap();
    exchange(&mut port, b"", b"").await;
    pause(500).await;
    assert_eq!(noted(), 0, "hushed");
}

fn item(name: &str, identifier: u32, count: u8, decimals: u8, value: f64) -> Item {
    let digits = Digits { count, decimals, is_signed: false };
    Item::new(name, identifier, digits, Motion::fixed(value))
}

/// A site with a meter of each standard and a slave on the line at `port`.
fn both_standards(broker: &str, port: &str) -> String {
    format!(
        r#"
        [uplink.u]
        broker = "mqtt://{broker}"
        birth_jitter = "0s"
        [link.l]
        port = "{port}"
        serial = "9600 8E1"
        [device.old]
        protocol = "dlt645"
        version = "1997"
        link = "l"
        address = "000000000003"
        serial = "2400 8E1"
        tags = [
            {{ name = "old/energy/import", at = "9010", format = "XXXXXX.XX" }},
            {{ name = "old/energy/peak", at = "9011", format = "XXXXXX.XX" }},
            {{ name = "old/voltage/l1", at = "B611", format = "XXXX" }},
            {{ name = "old/voltage/l3", at = "B613", format = "XXXX" }},
        ]
        [device.new]
        protocol = "dlt645"
        link = "l"
        address = "210220003011"
        serial = "4800 8E1"
        tags = [
            {{ name = "new/energy/import", at = "00010000", format = "XXXXXX.XX" }},
            {{ name = "new/energy/valley", at = "00010200", format = "XXXXXX.XX" }},
        ]
        [device.slave]
        link = "l"
        unit = 3
        tags = [{{ name = "slave/register", at = "hr:4" }}]
        "#
    )
}

/// Meters of both standards, which send five bytes of values in a frame, and a slave.
fn far_end_of_both() -> FarEnd {
    let meter = |name: &str, address, standard, baud, items| Meter {
        name: name.into(),
        link: "l".into(),
        address,
        standard,
        line: SerialLine { baud, data_bits: 8, parity: Parity::Even, stop_bits: 1 },
        part_max: 5,
        items,
    };
    let old = vec![
        item("energy/import", 0x9010, 8, 2, 1206.42),
        item("energy/peak", 0x9011, 8, 2, 499.55),
        item("voltage/l1", 0xB611, 4, 0, 231.0),
        item("voltage/l2", 0xB612, 4, 0, 229.0),
        item("voltage/l3", 0xB613, 4, 0, 228.0),
    ];
    let new = vec![
        item("energy/import", 0x0001_0000, 8, 2, 700.01),
        item("energy/peak", 0x0001_0100, 8, 2, 300.25),
        item("energy/valley", 0x0001_0200, 8, 2, 399.76),
    ];
    let floor = Floor::new(Vec::new()).with_addressed("l", [3]).with_meters([
        meter("old", 3, Standard::Of1997, 2400, old),
        meter("new", 210_220_003_011, Standard::Of2007, 4800, new),
    ]);
    FarEnd::new("l", Framing::Rtu, Shared::new(floor))
}

/// A meter of each standard and a slave; each answer of a meter comes behind an echo and the answer of another one.
#[tokio::test]
async fn simulated_meters_of_both_standards_are_read_in_parts_behind_echoes_and_foreign_answers() {
    let far = far_end_of_both();
    let always = |fault| (When::Always, fault);
    far.set_meter_faults(AnswerFaults::new(
        1,
        vec![always(AnswerFault::Echoed), always(AnswerFault::Foreign), always(AnswerFault::Duplicated)],
    ));
    let (line, mut tasks) = (Line::open().unwrap(), JoinSet::new());
    let port = line.path.display().to_string();
    let speed = SerialLine { baud: 9600, data_bits: 8, parity: Parity::Even, stop_bits: 1 };
    tasks.spawn(far.clone().serve_line(line, speed));
    let broker = free_address().await;
    serve_broker(broker, &mut tasks).await;
    let mut host = Consumer::subscribe(broker).await;
    let text = both_standards(&broker.to_string(), &port);
    let folder = tempfile::tempdir().unwrap();
    let _gateway = Gateway::start(folder.path(), &text);
    let mut shown = std::collections::BTreeMap::new();
    let end = tidegate::clock::monotonic() + Duration::from_secs(30);
    while shown.len() < 7 && tidegate::clock::monotonic() < end {
        let payload = host.wait_for_any(|topic, _| topic.contains("DBIRTH")).await;
        for metric in payload.metrics {
            let value = match metric.value {
                Some(metric::Value::DoubleValue(number)) => format!("{number}"),
                Some(metric::Value::LongValue(number)) => number.to_string(),
                Some(metric::Value::IntValue(number)) => number.to_string(),
                _ => "none".to_owned(),
            };
            shown.insert(metric.name.unwrap(), value);
        }
    }
    let shown: Vec<String> = shown.into_iter().map(|(tag, value)| format!("{tag} {value}")).collect();
    assert_eq!(
        shown,
        [
            "new/energy/import 700.01",
            "new/energy/valley 399.76",
            "old/energy/import 1206.42",
            "old/energy/peak 499.55",
            "old/voltage/l1 231",
            "old/voltage/l3 228",
            "slave/register 4",
        ]
    );
}
