//! Instruments that a type describes: literal bytes on pseudo-terminals, with noise around them.

use std::time::Duration;

use tidegate::clock;
use tidegate::config::site::Framing;
use tidegate::sim::serve::Line;
use tidegate::sim::slave::Frame;
use tidegate::sparkplug::proto::Payload;
use tidegate::sparkplug::proto::payload::metric;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use crate::gateway::{Consumer, Gateway, free_address, metric, serve_broker};

const TYPES: &str = r#"
[type.yaohua]
protocol = "serial"
stale_after = "1s"
tags = [
  { name = "decimals", at = "byte:8", length = 1, type = "decimal", share = "private" },
  { name = "weight", at = "byte:1", length = 7, type = "decimal", decimals_from = "decimals", unit = "kg" },
]
[type.yaohua.frame]
start = "02"
end = "03"
length = 12
check = { kind = "xor8", over = [1, 8], at = 9, as = "hex" }

[type.reader]
protocol = "serial"
tags = [{ name = "code", at = "group:code", type = "string", kind = "event" }]
[type.reader.frame]
end = ["0D 0A", "0D"]
pattern = '^(?<code>[\x21-\x7E]{4,128})$'
[type.reader.derived]
pieces = { expr = "count(code)", kind = "counter" }

[type.sics]
protocol = "serial"
send = "'SI' 0D 0A"
tags = [
  { name = "status", at = "group:st", type = "string", quality = { S = "good", D = "uncertain:not_accurate moving", "+" = "bad:over_range overload" } },
  { name = "unit", at = "group:unit", type = "string", optional = true },
  { name = "weight", at = "group:val", type = "decimal", unit = "g", unit_from = "unit", quality_from = "status" },
]
[type.sics.frame]
end = "0D 0A"
pattern = ['^S (?<st>[SD]) +(?<val>-?[0-9.]+) +(?<unit>\S+)$', '^S (?<st>[I+-])$']
"#;

fn text<'a>(payload: &'a Payload, name: &str) -> Option<&'a str> {
    match metric(payload, name)?.value.as_ref()? {
        metric::Value::StringValue(text) => Some(text),
        _ => None,
    }
}

fn number(payload: &Payload, name: &str) -> Option<f64> {
    match metric(payload, name)?.value.as_ref()? {
        metric::Value::DoubleValue(number) => Some(*number),
        _ => None,
    }
}

/// A host and a gateway with these links and devices.
async fn scene(tasks: &mut JoinSet<()>, devices: &str) -> (Consumer, Gateway, tempfile::TempDir) {
    let broker = free_address().await;
    serve_broker(broker, tasks).await;
    let host = Consumer::subscribe(broker).await;
    let folder = tempfile::tempdir().unwrap();
    let uplink = format!("[uplink.u]\nbroker = \"mqtt://{broker}\"\nbirth_jitter = \"0s\"\n");
    let gateway = Gateway::start(folder.path(), &format!("{uplink}{TYPES}{devices}"));
    (host, gateway, folder)
}

#[tokio::test]
async fn a_scale_that_talks_by_itself_is_heard_among_noise_and_is_gone_when_it_is_silent() {
    let mut line = Line::open().unwrap();
    let mut tasks = JoinSet::new();
    let port = line.path.display().to_string();
    let devices = format!(
        "[link.l]\nport = \"{port}\"\nserial = \"1200 8N1\"\n[device.scale]\nlink = \"l\"\ntype = \"yaohua\"\n"
    );
    let (mut host, _gateway, _folder) = scene(&mut tasks, &devices).await;
    let say = async |line: &mut Line, bytes: &[u8]| line.output.write_all(bytes).await.unwrap();
    let heavy = b"\x02+0020002\x31\x42\x03"; // 20.00 kg
    let light = b"\x02-0000152\x31\x42\x03"; // -0.15 kg
    let spoilt = b"\x02+0020012\x31\x42\x03";
    for _ in 0..20 {
        say(&mut line, b"\x00\xFF02+").await;
        say(&mut line, heavy).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let birth = host.wait_for("DBIRTH/n/scale", |_| true).await;
    assert_eq!(number(&birth, "weight"), Some(20.0));
    say(&mut line, spoilt).await;
    say(&mut line, light).await;
    let data = host.wait_for("DDATA/n/scale", |payload| metric(payload, "weight").is_some()).await;
    assert_eq!(number(&data, "weight"), Some(-0.15), "and not 20.01, whose check is wrong");
    host.wait_for("DDEATH/n/scale", |_| true).await;
}

#[tokio::test]
async fn each_code_of_a_reader_is_an_event_also_the_same_one_twice() {
    let mut line = Line::open().unwrap();
    let mut tasks = JoinSet::new();
    let port = line.path.display().to_string();
    let devices = format!(
        "[link.l]\nport = \"{port}\"\nserial = \"9600 8N1\"\n[device.reader]\nlink = \"l\"\ntype = \"reader\"\n"
    );
    let (mut host, _gateway, _folder) = scene(&mut tasks, &devices).await;
    host.wait_for("DBIRTH/n/reader", |_| true).await;
    // what comes within 20 ms after the port was opened may be the rest of a code
    line.output.write_all(b"789\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut codes = Vec::new();
    for code in ["6901234567892\r\n", "6901234567892\r", "4006381333931\r\n"] {
        line.output.write_all(code.as_bytes()).await.unwrap();
        let data = host.wait_for("DDATA/n/reader", |payload| text(payload, "code").is_some()).await;
        codes.push((text(&data, "code").unwrap().to_owned(), number(&data, "pieces")));
    }
    let expected = [("6901234567892", 1.0), ("6901234567892", 2.0), ("4006381333931", 3.0)];
    assert_eq!(codes, expected.map(|(code, pieces)| (code.to_owned(), Some(pieces))));
}

#[tokio::test]
async fn a_scale_that_is_asked_shares_a_pair_with_modbus_and_its_status_is_the_quality() {
    let mut line = Line::open().unwrap();
    let mut tasks = JoinSet::new();
    let port = line.path.display().to_string();
    tasks.spawn(async move {
        let modbus = Frame { id: 0, unit: 7, pdu: vec![4, 0, 1, 0, 1] }.encode(Framing::Rtu);
        let answer = Frame { id: 0, unit: 7, pdu: vec![4, 2, 0, 215] }.encode(Framing::Rtu);
        let mut weights = ["S S     100.00 g\r\n", "S D     100.01 g\r\n", "S +\r\n", "S S       0.2 kg\r\n"]
            .into_iter()
            .cycle();
        let mut input = Vec::new();
        loop {
            let mut buffer = [0; 64];
            let Ok(count) = line.input.read(&mut buffer).await else { return };
            input.extend_from_slice(&buffer[..count]);
            if input.ends_with(&modbus) {
                line.output.write_all(&answer).await.unwrap();
                input.clear();
            } else if input.ends_with(b"SI\r\n") {
                line.output.write_all(b"ES\r\n").await.unwrap(); // to somebody else
                line.output.write_all(weights.next().unwrap().as_bytes()).await.unwrap();
                input.clear();
            }
        }
    });
    let devices = format!(
        "[link.l]\nport = \"{port}\"\nserial = \"9600 8N1\"\n[device.scale]\nlink = \"l\"\ntype = \"sics\"\nevery = \"300ms\"\n\
         [device.hall]\nlink = \"l\"\nunit = 7\nevery = \"100ms\"\ntags = [{{ name = \"t\", at = \"ir:1\", scale = 0.1 }}]\n"
    );
    let (mut host, _gateway, _folder) = scene(&mut tasks, &devices).await;
    let mut seen = Vec::new();
    while seen.len() < 4 {
        let payload = host
            .wait_for_any(|topic, payload| topic.ends_with("scale") && metric(payload, "weight").is_some())
            .await;
        let quality = metric(&payload, "weight").unwrap().properties.as_ref().map(|set| {
            let reason = set.keys.iter().position(|key| key == "Reason");
            format!("{:?}", reason.map(|index| set.values[index].value.clone()))
        });
        seen.push((number(&payload, "weight"), quality.unwrap_or_default()));
    }
    let weights: Vec<Option<f64>> = seen.iter().map(|(weight, _)| *weight).collect();
    assert_eq!(weights, [Some(100.0), Some(100.01), None, Some(200.0)], "{seen:?}");
    assert!(seen[1].1.contains("uncertain:not_accurate") && seen[2].1.contains("bad:over_range"), "{seen:?}");
}

/// Two scales whose answers do not say whose they are; the first one is often late.
#[tokio::test]
async fn a_late_answer_of_a_scale_is_not_taken_for_that_of_another_one() {
    let mut line = Line::open().unwrap();
    let mut tasks = JoinSet::new();
    let port = line.path.display().to_string();
    tasks.spawn(async move {
        let (mut input, mut asked) = (Vec::new(), 0_u32);
        let mut answers: Vec<(std::time::Instant, &[u8])> = Vec::new();
        loop {
            let mut buffer = [0; 64];
            let next = answers.iter().map(|(at, _)| *at).min();
            let heard = line.input.read(&mut buffer);
            let heard = match next {
                Some(at) => tokio::time::timeout_at(at.into(), heard).await.ok(),
                None => Some(heard.await),
            };
            let now = clock::monotonic();
            match heard {
                None => {}
                Some(Ok(count)) => input.extend_from_slice(&buffer[..count]),
                Some(Err(_)) => return,
            }
            for (_, answer) in answers.extract_if(.., |(at, _)| *at <= now) {
                line.output.write_all(answer).await.unwrap();
            }
            if input.ends_with(b"01R\r") {
                asked += 1;
                input.clear();
                let late = if asked % 3 == 0 { 240 } else { 10 };
                answers.push((now + Duration::from_millis(late), b"  100.0 kg\r\n"));
            } else if input.ends_with(b"02R\r") {
                input.clear();
                answers.push((now + Duration::from_millis(100), b"  200.0 kg\r\n"));
            }
        }
    });
    let devices = format!(
        "[type.plain]\nprotocol = \"serial\"\nsend = \"{{unit as dec2}} 'R' 0D\"\ntimeout = \"200ms\"\nretries = 0\nevery = \"100ms\"\n\
         report = \"always\"\ntags = [{{ name = \"weight\", at = \"group:val\", type = \"decimal\", unit = \"kg\" }}]\n\
         [type.plain.frame]\nend = \"0D 0A\"\npattern = '^ *(?<val>[0-9.]+) kg$'\n\
         [link.l]\nport = \"{port}\"\nserial = \"9600 8N1\"\n\
         [device.one]\nlink = \"l\"\nunit = 1\ntype = \"plain\"\n[device.two]\nlink = \"l\"\nunit = 2\ntype = \"plain\"\n"
    );
    let (mut host, _gateway, _folder) = scene(&mut tasks, &devices).await;
    let mut seen = [0, 0];
    while seen[0] < 12 || seen[1] < 12 {
        let device = std::cell::Cell::new(0);
        let payload = host
            .wait_for_any(|topic, payload| {
                device.set(usize::from(topic.ends_with("two")));
                number(payload, "weight").is_some()
            })
            .await;
        assert_eq!(number(&payload, "weight"), Some([100.0, 200.0][device.get()]));
        seen[device.get()] += 1;
    }
}
