//! Meters that speak DL/T 645 on one pair with Modbus: literal frames on a pseudo-terminal.

use std::time::Duration;

use tidegate::config::site::Framing;
use tidegate::sim::serve::Line;
use tidegate::sim::slave::Frame;
use tidegate::sparkplug::proto::payload::metric;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

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
