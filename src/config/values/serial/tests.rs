//! Whole types, as people write them, against what manuals print; and what is no such notation.

use std::time::Instant;

use super::super::super::source::Read;
use super::*;
use crate::config::site::serial::{CheckForm, Form, Mode, Part, Term};
use crate::driver::serial::example::run_example;
use crate::driver::serial::framer::Framer;
use crate::driver::serial::{Heard, hear};
use crate::reading::{Quality, Value};
use crate::scan::Raw;
use crate::unit;

const TYPES: &str = concat!(
    include_str!("../../../../configs/types/scales.toml"),
    include_str!("../../../../configs/types/readers.toml"),
    include_str!("../../../../configs/types/water-meters.toml"),
    include_str!("../../../../configs/types/drives-serial.toml"),
    include_str!("../../../../configs/types/controllers.toml"),
    include_str!("../../../../tests/it/serial/types.toml"),
);
const NAMES: [&str; 16] = [
    "yaohua-xk3190",
    "and-gs-scale",
    "barcode-reader",
    "cjt188-water",
    "huanyang-hy",
    "mt-sics",
    "fx-port",
    "toledo-continuous",
    "yaohua-equals",
    "yaohua-reversed",
    "yaohua-a12",
    "mewtocol",
    "hostlink",
    "mc-1c",
    "yaohua-asked",
    "huanyang-stop",
];

fn types() -> Table {
    let Read { table, findings, .. } = Read::from_text("types.toml", TYPES);
    assert!(findings.is_empty(), "{findings:?}");
    table.table("type").clone()
}

/// The value of `key` in a line of TOML.
fn node(line: &str) -> Node {
    let Read { table, findings, .. } = Read::from_text("line.toml", line);
    assert!(findings.is_empty(), "{findings:?}");
    table.entries.into_iter().next().unwrap().node
}

fn of(name: &str) -> (Table, Instrument, Vec<Example>) {
    let kind = types().table(name).clone();
    let instrument = instrument(&kind).unwrap();
    let examples = kind.tables("examples").map(|node| example(node).unwrap()).collect();
    (kind, instrument, examples)
}

fn now() -> Instant {
    crate::clock::monotonic()
}

/// What of the recipes the types here need: words, sign, scale, decimals, units.
fn publish(
    kind: &Table,
    request: &Request,
    fields: &[Result<Option<Raw>, Quality>],
) -> BTreeMap<Arc<str>, Value> {
    let own = request.name.as_ref().map_or(kind, |name| kind.table("request").table(name));
    let mut values: BTreeMap<Arc<str>, Value> = BTreeMap::new();
    for (field, raw) in request.fields.iter().zip(fields) {
        let Ok(Some(Raw::Value(raw))) = raw else { continue };
        let tag =
            own.tables("tags").find(|tag| super::super::super::tree::tag_name(tag) == Some(&*field.name));
        let tag = tag.and_then(Node::table).unwrap();
        let number = |key: &str| tag.get(key).map(|node| super::super::number(node).unwrap());
        let other = |key: &str| tag.get(key).map(|node| values[node.text().unwrap()].clone());
        let word = tag.table("values").entries.iter().find(|entry| {
            let code = entry.key.strip_prefix("0x").map(|digits| u64::from_str_radix(digits, 16).unwrap());
            entry.key == raw.to_string() || code.is_some_and(|code| *raw == Value::UInt(code))
        });
        let mut value = word.map_or(raw.clone(), |word| Value::Text(word.node.text().unwrap().into()));
        let is_computed = ["scale", "offset", "decimals_from", "unit_from", "expr"]
            .iter()
            .any(|key| tag.get(key).is_some());
        if let Some(mut number_of) = value.number().filter(|_| is_computed) {
            let is_negative = tag.get("expr").is_some() && values.get("negative") == Some(&Value::Bool(true));
            number_of *= if is_negative { -1.0 } else { 1.0 };
            number_of *= number("scale").unwrap_or(1.0);
            let decimals = other("decimals_from").and_then(|value| value.number()).unwrap_or(0.0);
            number_of = number_of / 10_f64.powf(decimals) + number("offset").unwrap_or(0.0);
            if let (Some(Value::Text(from)), Some(to)) = (other("unit_from"), tag.get("unit")) {
                let (from, to) = (unit::find(&from).unwrap(), unit::find(to.text().unwrap()).unwrap());
                number_of = from.to(to).unwrap().apply(number_of);
            }
            value = Value::Double(number_of);
        }
        values.insert(Arc::clone(&field.name), value);
    }
    values
}

#[test]
fn every_type_sends_and_understands_what_its_manual_prints() {
    let mut tried = 0;
    for name in NAMES {
        let (kind, instrument, examples) = of(name);
        assert!(!examples.is_empty(), "{name}");
        for example in examples {
            let result =
                run_example(&instrument, &example, now(), |request, fields| publish(&kind, request, fields));
            assert_eq!(result, Ok(()), "{name}: {example:?}");
            tried += 1;
        }
    }
    assert_eq!((tried, types().entries.len()), (32, NAMES.len()));
}

#[test]
fn an_example_that_is_wrong_says_what_differs() {
    let (kind, instrument, _) = of("yaohua-xk3190");
    let check = |line: &str, expected: &str| {
        let example = example(&node(line)).unwrap();
        let result =
            run_example(&instrument, &example, now(), |request, fields| publish(&kind, request, fields));
        assert_eq!(result, Err(expected.to_owned()));
    };
    let frame = "02 2B 30 30 32 30 30 30 32 31 42 03";
    check(&format!("e = {{ in = \"{frame}\", out = {{ weight = 20.01 }} }}"), "weight = 20, and not 20.01");
    check(&format!("e = {{ in = \"{frame}\", out = {{ weight = \"20\" }} }}"), "weight = 20, and not 20");
    check(&format!("e = {{ in = \"{frame}\", out = {{ weight = true }} }}"), "weight = 20, and not true");
    check(&format!("e = {{ in = \"{frame}\", out = {{}} }}"), "it is not dropped: decimals = 2");
    check("e = { in = '02', out = { weight = 20 } }", "weight has no value");
    check("e = { in = '02', out = {}, request = 'tare' }", "there is no request `tare`");
    check("e = { send = '02' }", "the type sends nothing");
    let (_, instrument, _) = of("huanyang-hy");
    let check = |line: &str, expected: &str| {
        let example = example(&node(line)).unwrap();
        assert_eq!(
            run_example(&instrument, &example, now(), |_, _| BTreeMap::new()),
            Err(expected.to_owned())
        );
    };
    check("e = { send = '01 04' }", "wanted `request`: the type has several");
    check(
        "e = { send = '01 04', request = 'current' }",
        "send: `unit` is not known here: wanted it in `vars`, or of the device",
    );
    check(
        "e = { send = '01 04', request = 'current', unit = 1 }",
        "it sends 01 04 03 02 00 00 51 8E, and not 01 04",
    );
}

/// What each frame in `bytes` gives, raw: `name=value` of every field, cut behind the first `cut` bytes.
fn heard(name: &str, request: Option<&str>, vars: &Vars, bytes: &[u8], cut: usize) -> Vec<String> {
    let (_, instrument, _) = of(name);
    let request = instrument.requests.iter().find(|known| known.name.as_deref() == request).unwrap();
    let vars = vars.over(&request.vars).over(&instrument.vars);
    let mut framer = Framer::new(&request.frame);
    let (mut all, mut frames) = (Vec::new(), Vec::new());
    let (before, behind) = bytes.split_at(cut.min(bytes.len()));
    framer.push(before, now());
    frames.extend(std::iter::from_fn(|| framer.next_frame()));
    framer.push(behind, now());
    frames.extend(std::iter::from_fn(|| framer.next_frame()));
    while let Some(due) = framer.next_due() {
        framer.handle_quiet(due);
        frames.extend(std::iter::from_fn(|| framer.next_frame()));
    }
    for frame in frames {
        match hear(request, &frame, &vars).unwrap() {
            Heard::Values(values) => {
                let shown = |(field, raw): (&Field, &Result<Option<Raw>, Quality>)| match raw {
                    Ok(Some(Raw::Value(value))) => format!("{}={value}", field.name),
                    Ok(Some(Raw::Words(words))) => format!("{}={words:?}", field.name),
                    Ok(None) => format!("{}=-", field.name),
                    Err(quality) => format!("{}={}", field.name, quality.id()),
                };
                let values: Vec<String> = request.fields.iter().zip(&values).map(shown).collect();
                all.push(values.join(" "));
            }
            Heard::Refused => all.push("refused".to_owned()),
            Heard::Nothing => {}
        }
    }
    all
}

fn written(text: &str) -> Vec<u8> {
    bytes(&node(&format!("b = {text:?}"))).unwrap()
}

#[track_caller]
fn check(name: &str, text: &str, expected: &[&str]) {
    assert_eq!(heard(name, None, &Vars::default(), &written(text), 0), expected, "{name} {text}");
}

#[test]
fn scales_that_talk_by_themselves() {
    check("yaohua-xk3190", "02 2B 30 30 32 30 30 30 32 31 42 03", &["decimals=2 weight=2000"]);
    check("yaohua-xk3190", "02 2D 30 30 30 30 31 35 32 31 42 03", &["decimals=2 weight=-15"]);
    check("yaohua-xk3190", "02 2B 31 32 33 34 35 36 30 31 43 03", &["decimals=0 weight=123456"]);
    check("yaohua-xk3190", "02 2B 30 30 32 30 30 31 32 31 42 03", &[]);
    let toledo = "02 2C 31 20 20 20 31 32 33 34 20 20 20 31 30 30 0D";
    check(
        "toledo-continuous",
        &format!("{toledo} 79"),
        &["decimals=4 negative=false overload=false motion=false weight=1234 tare=100"],
    );
    check("toledo-continuous", &format!("{toledo} 78"), &[]);
    // in motion and below 0: 3B in place of 31, so the sum is 10 more
    check(
        "toledo-continuous",
        "02 2C 3B 20 20 20 31 32 33 34 20 20 20 31 30 30 0D 6F",
        &["decimals=4 negative=true overload=false motion=true weight=1234 tare=100"],
    );
    check(
        "yaohua-a12",
        "57 47 30 30 34 2E 31 33 39 6B 67 33 44 0D 0A",
        &["status=- mode=WG unit=kg weight=4.139"],
    );
    check(
        "yaohua-a12",
        "20 20 20 20 20 20 20 20 20 4F 4C 32 33 0D 0A",
        &["status=OL mode=- unit=- weight=-"],
    );
    check("yaohua-equals", "'=0003.000=-0001.00='", &["weight=3", "weight=-1"]);
    check("yaohua-equals", "'=0003.000'", &[]);
    check("yaohua-reversed", "3D 30 30 30 2E 33 30 30 30 3D", &["weight=3"]);
}

#[test]
fn scales_that_send_lines() {
    let check = |line: &str, expected: &str| check("and-gs-scale", &format!("'{line}' 0D 0A"), &[expected]);
    check("ST,+00123.45  g", "status=ST unit=g weight=123.45 mode=-");
    check("US,-00183.96  g", "status=US unit=g weight=-183.96 mode=-");
    check("OL,+9999999E+19", "status=OL unit=- weight=99999990000000000000000000 mode=-");
    check("QT,+00001234 PC", "status=QT unit=PC weight=1234 mode=-");
    check("ST,GS,+  1.234kg", "status=ST unit=kg weight=1.234 mode=GS");
    check("US,NT,- 0.500kg", "status=US unit=kg weight=-0.5 mode=NT");
    check("OL,GS,+        kg", "status=OL unit=kg weight=bad:decode mode=GS");
    check("01ST,GS,+  1.234kg", "status=ST unit=kg weight=1.234 mode=GS");
}

#[test]
fn lines_that_no_pattern_knows_are_dropped() {
    check("and-gs-scale", "'XX,GS,+  1.234kg' 0D 0A 'GS,+  1.234kg' 0D 0A", &[]);
    check("mt-sics", "'S X' 0D 0A 'I4 A \"0123\"' 0D 0A", &[]);
    check("barcode-reader", "'123' 0D '69 01' 0D 80 '6901' 0D", &[]);
}

#[test]
fn the_answers_of_mt_sics() {
    let check = |line: &str, expected: &str| check("mt-sics", &format!("'{line}' 0D 0A"), &[expected]);
    check("S S     100.00 g", "status=S unit=g weight=100");
    check("S D     100.01 g", "status=D unit=g weight=100.01");
    check("S I", "status=I unit=- weight=-");
    check("S +", "status=+ unit=- weight=-");
    check("S -", "status=- unit=- weight=-");
    check("ES", "status=ES unit=- weight=-");
    check("ET", "status=ET unit=- weight=-");
    check("EL", "status=EL unit=- weight=-");
}

#[test]
fn codes_with_any_end_and_with_none() {
    let code = "36 39 30 31 32 33 34 35 36 37 38 39 32";
    for end in ["0D 0A", "0D", "0A", "09", ""] {
        check("barcode-reader", &format!("{code} {end}"), &["code=6901234567892"]);
    }
    check("barcode-reader", &format!("{code} 0D 0A {code} 0D 0A"), &["code=6901234567892"; 2]);
}

const WATER: &str = "FE FE FE 68 10 44 33 22 11 00 33 78 81 16 1F 90 00 00 77 66 55 2C 00 77 66 55 2C 31 01 22 11 05 15 20 21 84 13 16";

#[test]
fn an_answer_is_that_of_the_meter_and_the_item_that_were_asked() {
    let check = |address: &str, di: Option<&str>, expected: &[&str]| {
        let mut vars = Vars::default().with("address", Var::Text(address.into()));
        if let Some(di) = di {
            vars = vars.with("di", Var::Text(di.into()));
        }
        assert_eq!(heard("cjt188-water", None, &vars, &written(WATER), 0), expected);
    };
    check("78330011223344", None, &["unit=44 volume=55667700"]);
    check("78330011223345", None, &[]);
    check("78330011223344", Some("901F"), &[]);
    let said = |kind: &str, request: &str, unit: i64, text: &str| {
        let vars = Vars::default().with("unit", Var::Number(unit));
        heard(kind, Some(request), &vars, &written(text), 0)
    };
    let drive = |request: &str, unit: i64, text: &str| said("huanyang-hy", request, unit, text);
    assert_eq!(drive("frequency", 1, "01 04 03 01 13 88 AC D8"), ["frequency/output=5000"]);
    assert_eq!(drive("current", 1, "01 04 03 01 13 88 AC D8"), [""; 0], "the answer to another request");
    assert_eq!(drive("frequency", 2, "01 04 03 01 13 88 AC D8"), [""; 0], "another unit");
    assert_eq!(drive("frequency", 4, "04 01 02 01 02 F5 AD"), [""; 0], "another function");
    assert_eq!(said("huanyang-stop", "control", 1, "01 03 01 08 F1 8E"), ["command=8"]);
}

#[track_caller]
fn check_sent(name: &str, request: Option<&str>, vars: &Vars, expected: &str) {
    let (_, instrument, _) = of(name);
    let request = instrument.requests.iter().find(|known| known.name.as_deref() == request).unwrap();
    let vars = vars.over(&request.vars).over(&instrument.vars);
    let sent = request.send.as_ref().unwrap().render(&vars).unwrap();
    assert_eq!([instrument.wake, sent].concat(), written(expected));
}

#[test]
fn requests_are_those_of_the_manuals() {
    let number = |name: &str, number: i64| Vars::default().with(name, Var::Number(number));
    let water = Vars::default().with("address", Var::Text("78330011223344".into()));
    check_sent("cjt188-water", None, &water, "FE FE FE 68 10 44 33 22 11 00 33 78 01 03 1F 90 00 80 16");
    check_sent("fx-port", None, &number("count", 1), "02 30 31 30 30 30 30 32 03 35 36");
    let two = number("count", 2).with("first", Var::Number(123));
    check_sent("fx-port", None, &two, "02 30 31 30 46 36 30 34 03 37 34");
    let stop = number("unit", 1).with("value", Var::Number(8));
    check_sent("huanyang-stop", Some("control"), &stop, "01 03 01 08 F1 8E");
    check_sent("huanyang-hy", Some("frequency"), &number("unit", 1), "01 04 03 01 00 00 A1 8E");
    check_sent("mt-sics", None, &Vars::default(), "53 49 0D 0A");
}

#[test]
fn the_programming_port_answers_or_refuses() {
    check("fx-port", "02 44 32 30 34 03 44 44", &["d0=1234 d2=-"]);
    check("fx-port", "02 44 32 30 34 03 44 45", &[]);
    check("fx-port", "15", &["refused"]);
    // FF 0F and FE FF FF FF in D0 and D2; the sum of the digits and 03 is 3F4
    check("fx-port", "02 'FF0F0000FEFFFFFF' 03 'F4'", &["d0=4095 d2=-2"]);
}

/// What stands between frames and is none for the type: what has no end of its own is ended, as on a line.
fn noise_of(name: &str) -> &'static [u8] {
    match name {
        "and-gs-scale" | "mt-sics" | "yaohua-a12" => b"\x00\xFF noise\r\n",
        "barcode-reader" => b"\x00\xFF\r\n",
        "yaohua-equals" | "yaohua-reversed" => b"=\x00\xFF",
        _ => b"\x00\xFF\x02\x68 %@",
    }
}

#[test]
fn noise_before_between_and_after_changes_nothing() {
    for name in NAMES {
        let (kind, instrument, examples) = of(name);
        let noise = noise_of(name);
        for example in examples {
            let Some(incoming) = &example.incoming else { continue };
            let noisy = Example {
                incoming: Some([noise, incoming, noise, incoming, noise].concat()),
                ..example.clone()
            };
            let result =
                run_example(&instrument, &noisy, now(), |request, fields| publish(&kind, request, fields));
            assert_eq!(result, Ok(()), "{name}: {noisy:?}");
        }
    }
}

#[test]
fn examples_cut_at_every_byte_give_the_same() {
    for name in NAMES {
        let (_, _, examples) = of(name);
        for example in examples {
            let Some(incoming) = &example.incoming else { continue };
            let whole = heard(name, example.request.as_deref(), &example.vars, incoming, 0);
            assert_eq!(whole.is_empty(), example.out.is_empty(), "{name}");
            for cut in 1..incoming.len() {
                let parts = heard(name, example.request.as_deref(), &example.vars, incoming, cut);
                assert_eq!(parts, whole, "{name} cut at {cut}");
            }
        }
    }
}

#[test]
fn a_type_that_sends_asks_and_one_of_events_counts_each() {
    assert_eq!(of("yaohua-xk3190").1.mode(), Mode::Listen);
    assert_eq!(of("barcode-reader").1.mode(), Mode::Event);
    assert_eq!(of("huanyang-hy").1.mode(), Mode::Poll);
    let (_, drive, _) = of("huanyang-hy");
    let names: Vec<_> = drive.requests.iter().map(|request| request.name.as_deref().unwrap()).collect();
    assert_eq!(names, ["frequency", "current"]);
    assert_eq!(
        drive.requests[0].frame.length,
        Some(Length::Field { at: 2, add: 5, is_wide: false, is_low_first: false })
    );
    assert_eq!(of("huanyang-stop").1.requests[0].vars, Vars::default());
}

#[track_caller]
fn check_error<T: std::fmt::Debug>(parse: impl Fn(&Node) -> Parsed<T>, value: &str, expected: &str) {
    assert_eq!(parse(&node(&format!("x = {value}"))).unwrap_err(), expected, "{value}");
}

#[test]
fn places_are_bytes_bits_and_groups() {
    let at = |text: &str| field_at(&node(&format!("x = \"{text}\"")));
    assert_eq!(at("byte:14"), Ok(FieldAt::Byte { position: 14, bits: None }));
    assert_eq!(at("byte:-3"), Ok(FieldAt::Byte { position: -3, bits: None }));
    assert_eq!(at("byte:2.3"), Ok(FieldAt::Byte { position: 2, bits: Some((3, 3)) }));
    assert_eq!(at("byte:-1.0-7"), Ok(FieldAt::Byte { position: -1, bits: Some((0, 7)) }));
    assert_eq!(at("group:val"), Ok(FieldAt::Group("val".into())));
    for wrong in [
        "byte:",
        "byte:x",
        "byte:+1",
        "byte:--1",
        "byte:65536",
        "byte:-65537",
        "byte:1.8",
        "byte:1.",
        "byte:1.3-3",
        "byte:1.3-1",
        "byte:1.0-1-2",
        "group:",
        "group:1a",
        "group:a-b",
        "hr:1",
        "14",
        "",
    ] {
        let expected = format!(
            "wanted a place in the frame, as \"byte:14\", \"byte:-3\", \"byte:2.0-1\" or \"group:val\", got \"{wrong}\""
        );
        assert_eq!(at(wrong), Err(expected));
    }
}

#[test]
fn checks_and_lengths_are_tables() {
    let form = |line: &str| check_of(line).form;
    fn check_of(text: &str) -> Check {
        super::check(&node(&format!("x = {text}"))).unwrap()
    }
    let crc = "{ kind = 'crc16-arc', over = [1, -3], at = -2 }";
    let expected = Check { kind: CheckKind::Crc16Arc, over: (1, -3), at: -2, form: CheckForm::LowFirst };
    assert_eq!(check_of(crc), expected);
    assert_eq!(form("{ kind = 'crc16-arc', over = [1, -3], at = -2, as = 'be' }"), CheckForm::HighFirst);
    assert_eq!(form("{ kind = 'xor8', over = [1, -3], at = -2, as = 'hex' }"), CheckForm::Hex);
    let check = |value: &str, expected: &str| check_error(super::check, value, expected);
    check("{ kind = 'sum8', over = [1, 2] }", "a checksum needs `at`, where it stands");
    check("{ kind = 'sum8', at = 2 }", "a checksum needs `over`, the first and the last byte that count");
    check("{ over = [1, 2], at = 2 }", "a checksum needs `kind`");
    check("{ kind = 'sum8', over = [2, 1], at = 3 }", "over: wanted the first byte before the last");
    check(
        "{ kind = 'sum8', over = 2, at = 3 }",
        "over: wanted the first and the last byte, as [0, -3], got 2",
    );
    check(
        "{ kind = 'sum8', over = [1, 2], at = 3, as = 'le' }",
        "as: wanted \"byte\" or \"hex\" of sum8, got \"le\"",
    );
    check("{ kind = 'sum8', ower = [1, 2] }", "there is no key `ower` in a checksum: did you mean `over`?");
    check("7", "wanted a table of a checksum, got 7");

    let wide = length(&node("x = { at = 1, add = -2, size = 2, order = 'BA' }"));
    assert_eq!(wide, Ok(Length::Field { at: 1, add: -2, is_wide: true, is_low_first: true }));
    assert_eq!(length(&node("x = 12")), Ok(Length::Fixed(12)));
    let check = |value: &str, expected: &str| check_error(length, value, expected);
    check("0", "wanted a whole number of 1 to 4096, got 0");
    check("{ add = 1 }", "a length needs `at`, where its number stands");
    check("{ at = 1, add = 65 }", "add: wanted a whole number of -64 to 64, got 65");
    check("{ at = 1, size = 3 }", "size: wanted a whole number of 1 to 2, got 3");
}

#[test]
fn what_is_matched_stands_at_places_from_either_end() {
    let found = matches(&node("x = { 0 = '{unit as u8}', -2 = '81' }")).unwrap();
    let unit = Template(vec![Part::Value { term: Term::Name("unit".into()), form: Form::U8 }]);
    assert_eq!(found, [(0, unit), (-2, Template(vec![Part::Bytes(vec![0x81])]))]);
    let what = "wanted a table of position = \"bytes\", got";
    check_error(matches, "{ a = '81' }", &format!("{what} `a`"));
    check_error(matches, "'81'", &format!("{what} \"81\""));
    check_error(
        matches,
        "{ 0 = '8' }",
        "0: wanted two hexadecimal digits, 'text' or {NAME as FORM}, got \"8\"",
    );
}

#[test]
fn a_frame_that_can_never_be_is_refused() {
    let check = |value: &str, expected: &str| check_error(frame, value, expected);
    check("{ max = 9 }", "nothing says where a frame ends: wanted `length`, `end`, `idle` or `start`");
    check("{ start = '02', trailer = 2 }", "`trailer` is what follows `end`, which is not there");
    check(
        "{ start = '02', end = '03', length = 1 }",
        "length: start, end and trailer do not fit into 1 bytes",
    );
    check("{ length = 12, max = 11 }", "length: 12 bytes are more than `max`, 11");
    check(
        "{ start = '02 02', end = '03', max = 2 }",
        "`max`: start, end and trailer do not fit into 2 bytes",
    );
    check("{ length = { at = 2, add = 0, size = 2 }, max = 3 }", "length: it stands behind `max`, 3 bytes");
    let reach = "check: it reaches beyond the 4 bytes of the frame";
    check("{ length = 4, check = { kind = 'sum8', over = [0, 4], at = 3 } }", reach);
    check("{ length = 4, check = { kind = 'sum8', over = [-5, 2], at = 3 } }", reach);
    check("{ length = 4, check = { kind = 'sum8', over = [0, 2], at = 4 } }", reach);
    assert!(frame(&node("x = { length = 4, check = { kind = 'sum8', over = [-4, 2], at = 3 } }")).is_ok());
    check("{ end = [] }", "end: wanted one, or a list of 1 to 32");
    check("{ end = '' }", "end: wanted at least one byte");
    check("{ end = '{unit as u8}' }", "end: wanted bytes that are always the same, without {…}");
    check("{ end = '0D', skip = 'FE FE' }", "skip: wanted one byte, got \"FE FE\"");
    check("{ end = '0D', trailer = 17 }", "trailer: wanted a whole number of 0 to 16, got 17");
    check("{ end = '0D', idle = '0s' }", "idle: wanted a duration above 0, got \"0s\"");
    check("{ end = '0D', pattern = '(' }", "pattern: not a regular expression: unclosed group");
    check("{ end = '0D', patern = 'a' }", "there is no key `patern` in a frame: did you mean `pattern`?");
    check("{ end = '0D', decode = 'bcd' }", "decode: wanted \"hex\" or \"reverse\", got \"bcd\"");
    let long = frame(&node("x = { length = 300 }")).unwrap();
    assert_eq!(long.max, 300, "a frame of a fixed length is never too long");
}

#[test]
fn a_field_knows_how_many_bytes_it_has() {
    let of = |tag: &str| {
        field(node(&format!("x = {{ name = 'a', {tag} }}")).table().unwrap(), ByteOrder::default())
    };
    let shown = |tag: &str| of(tag).map(|field| (field.field_type, field.length));
    let u8 = DataType::Byte { is_high: false, form: ByteForm::Unsigned };
    assert_eq!(shown("at = 'byte:2.3'"), Ok((FieldType::Data(DataType::Bool { bit: None }), None)));
    assert_eq!(shown("at = 'byte:2.3-4'"), Ok((FieldType::Data(u8), None)));
    assert_eq!(shown("at = 'byte:2'"), Ok((FieldType::Data(DataType::U16), None)));
    assert_eq!(shown("at = 'byte:2', type = 'words'"), Ok((FieldType::Data(DataType::Words), Some(2))));
    assert_eq!(shown("at = 'byte:2', type = 'decimal', length = 7"), Ok((FieldType::Decimal, Some(7))));
    let gbk = FieldType::Data(DataType::Text { encoding: crate::tag::Encoding::Gbk, is_sparse: false });
    assert_eq!(shown("at = 'byte:2', type = 'string', encoding = 'gbk'"), Ok((gbk, None)));
    let check = |tag: &str, expected: &str| assert_eq!(of(tag).unwrap_err(), expected, "{tag}");
    check("type = 'u8'", "a tag needs `at`");
    check("at = 'group:a'", "a group needs `type`: string, decimal or hex");
    check("at = 'byte:2', type = 'decimal'", "digits need `length`, how many bytes they take");
    check("at = 'byte:2', type = 'bool'", "a bool needs a bit, as \"byte:2.3\"");
    check("at = 'byte:2.1', type = 'u8'", "type: these bits are \"bool\"");
    check("at = 'byte:2.1-2', type = 'bool'", "type: these bits are \"u8\"");
    check("at = 'byte:2', type = 'u16', length = 2", "length: the type says how many bytes there are");
    check(
        "at = 'byte:2', type = 'bcd24', order = 'CDAB'",
        "order: wanted ABCD or DCBA of an odd number of bytes",
    );
    assert!(of("at = 'byte:2', type = 'bcd24', order = 'DCBA'").is_ok());
    check("at = 'byte:2', type = 'words', length = 3", "length: words have two bytes each");
    check("at = 'group:a', type = 'decimal', length = 3", "length: bits and groups know theirs");
}

#[test]
fn a_type_that_does_not_hold_together_is_refused() {
    let check = |text: &str, expected: &str| {
        let Read { table, .. } = Read::from_text("type.toml", text);
        assert_eq!(instrument(&table).unwrap_err(), expected);
    };
    check("send = '01'", "there is no `frame`");
    check(
        "frame = { max = 2 }",
        "frame: nothing says where a frame ends: wanted `length`, `end`, `idle` or `start`",
    );
    check(
        "frame = { end = '0D' }\nsend = '1'",
        "send: wanted two hexadecimal digits, 'text' or {NAME as FORM}, got \"1\"",
    );
    check(
        "frame = { end = '0D', pattern = '(?<b>.)' }\ntags = [{ name = 'x', at = 'group:a', type = 'string' }]",
        "tag x: no pattern has a group `a`",
    );
    check(
        "frame = { end = '0D' }\ntags = [{ name = 'x', at = '1' }]",
        "tag x: at: wanted a place in the frame, as \"byte:14\", \"byte:-3\", \"byte:2.0-1\" or \"group:val\", got \"1\"",
    );
    check(
        "frame = { end = '0D' }\ntags = [{ name = 'x', at = 'byte:1' }]\nrequest.a = { send = '01' }",
        "a type with several requests has its tags in them",
    );
    check(
        "frame = { end = '0D' }\nrequest.a = 1",
        "request a: wanted a table of send, tags, frame, vars, every",
    );
}

#[test]
fn names_and_examples_are_checked() {
    let name = "wanted a name of small letters, digits, `_`, and not unit, address or value, got";
    check_error(vars, "{ unit = 1 }", &format!("{name} `unit`"));
    check_error(vars, "{ Di = 1 }", &format!("{name} `Di`"));
    check_error(vars, "{ di = -1 }", "di: wanted a whole number of 0 to 4294967296, got -1");
    check_error(vars, "7", "wanted a table of name = \"text\" or a number, got 7");
    let both = "wanted `in` with `out`, or `send`, or all three";
    check_error(example, "{ in = '01' }", both);
    check_error(example, "{ out = {} }", both);
    check_error(example, "{ unit = 1 }", both);
    check_error(example, "{ send = '01', unit = 256 }", "unit: wanted a whole number of 0 to 255, got 256");
    let digits = "address: wanted an address of 2 to 24 hexadecimal digits in quotes, got";
    check_error(example, "{ send = '01', address = 12 }", &format!("{digits} 12"));
    check_error(example, "{ send = '01', address = '1G' }", &format!("{digits} \"1G\""));
}
