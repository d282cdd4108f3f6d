use super::super::{Floor, Habit, Read, Request, Table};
use super::*;
use crate::config;

/// 2026-11-26T00:00:00Z, eight in the morning where the devices stand.
const START: Timestamp = Timestamp::from_millis(1_795_651_200_000);

const HEAD: &str = r#"
    [gateway]
    name = "n"
    enterprise = "e"
    timezone = "Asia/Shanghai"
    [uplink.u]
    broker = "mqtt://127.0.0.1"
    [link.l]
    tcp = "127.0.0.1:502"
"#;

fn made(text: &str) -> (Vec<Device>, Vec<Untold>) {
    let checked = config::parse("site.toml", &format!("{HEAD}{text}"));
    let site = checked
        .site
        .unwrap_or_else(|findings| panic!("{}", config::finding::render_text(&findings, &checked.sources)));
    let made = floor_of(&site, START);
    (made.devices, made.untold)
}

/// The points of one device with these tags.
fn points(tags: &str) -> (Vec<Device>, Vec<Untold>) {
    made(&format!("[device.d]\nlink = 'l'\ntags = [{tags}]"))
}

fn point<'a>(devices: &'a [Device], name: &str) -> &'a Point {
    devices[0].points.iter().find(|point| &*point.name == name).unwrap()
}

/// What a tag is at these milliseconds.
#[track_caller]
fn check(tags: &str, name: &str, expected: &[(u64, &str)]) {
    let (devices, untold) = points(tags);
    assert_eq!(untold, []);
    for (ms, shown) in expected {
        assert_eq!(point(&devices, name).truth(*ms).to_string(), *shown, "{name} after {ms} ms");
    }
}

#[track_caller]
fn check_untold(tags: &str, expected: &str) {
    let untold = points(tags).1;
    let shown: Vec<String> = untold.iter().map(|of| format!("{}: {}", of.tag, of.why)).collect();
    assert_eq!(shown, [expected]);
}

/// What of a device's points lies in registers `address` to `address + count`, after so many milliseconds.
fn read(devices: Vec<Device>, address: u16, count: u16, ms: u64) -> Read {
    let request = Request { table: Table::HoldingRegisters, address, count };
    Floor::new(devices).read("l", 1, request, ms, START).unwrap()
}

#[test]
fn a_tag_moves_as_its_kind_does() {
    check(
        "{ name = 't', at = 'coil:3' }",
        "t",
        &[(0, "false"), (1999, "false"), (2000, "true"), (4000, "false")],
    );
    check(
        "{ name = 't', at = 'hr:0', type = 'u32', kind = 'counter' }",
        "t",
        &[(0, "4000"), (999, "4000"), (1000, "4001"), (60_000, "4060")],
    );
    check(
        "{ name = 't', at = 'hr:0', kind = 'state', values = { 3 = 'run', 7 = 'stop' } }",
        "t",
        &[(0, "run"), (2000, "stop"), (4000, "run")],
    );
    check(
        "{ name = 't', at = 'hr:0', values = { 0 = 'ok', else = 'fault' } }",
        "t",
        &[(0, "ok"), (2000, "fault"), (4000, "ok")],
    );
    check(
        "{ name = 'job/mould', at = 'hr:0', type = 'string', length = 8 }",
        "job/mould",
        &[(0, "MOULD-1"), (2000, "MOULD-2")],
    );
    check("{ name = 'job/mould', at = 'hr:0', type = 'string', length = 2 }", "job/mould", &[(0, "MO-1")]);
    check(
        "{ name = 't', at = 'hr:0', type = 'datetime', format = 'YYMM DDhh mmss' }",
        "t",
        &[(1500, "2026-11-26T00:00:01.000Z")],
    );
    // a wave of seven seconds: its middle, its top, its middle, its bottom
    check(
        "{ name = 't', at = 'hr:0', scale = 0.1, range = [10, 20] }",
        "t",
        &[(0, "15"), (1750, "19"), (3500, "15"), (5250, "11")],
    );
    check("{ name = 't', at = 'hr:0', kind = 'info', range = [10, 20] }", "t", &[(0, "15"), (1750, "15")]);
}

#[test]
fn what_others_need_stands_still_and_they_are_reckoned_with_it() {
    let ratio = "{ name = 'ct', at = 'hr:9', scale = 0.1 },";
    // (12.0 / 10) x 20 W is 0.024 kW: registers have what makes 1 to 18 kW
    let (devices, untold) = points(&format!(
        "{ratio} {{ name = 'p', at = 'hr:0', type = 'u32', scale = 0.1, ratio = 'ct', unit = 'W', publish_unit = 'kW' }}"
    ));
    assert_eq!(untold, []);
    assert_eq!(point(&devices, "ct").truth(5).to_string(), "20");
    // the middle of 1 and 18 kW is 9.5 kW
    assert_eq!(point(&devices, "p").truth(0).to_string(), "9.5");
    assert_eq!(read(devices, 0, 2, 0).words, [0, 4750]);
    check(
        "{ name = 'sf', at = 'hr:9', type = 'i16' }, { name = 'v', at = 'hr:0', scale_from = 'sf', unit = 'V' }",
        "v",
        &[(0, "230")],
    );
    check(
        "{ name = 'dec', at = 'hr:9.8-15', type = 'u8' }, { name = 'i', at = 'hr:0', decimals_from = 'dec', unit = 'A' }",
        "i",
        &[(0, "8")],
    );
    check(
        "{ name = 'u', at = 'hr:9', values = { 1 = 'kg', 2 = 'bar', 3 = 'kPa' } }, { name = 'p', at = 'hr:0', unit_from = 'u', unit = 'kPa', range = [0, 900] }",
        "u",
        &[(0, "bar"), (9000, "bar")],
    );
}

#[test]
fn registers_that_several_tags_have_are_one_thing_with_several_views() {
    let (devices, untold) = points(
        "{ name = 'a', at = 'hr:4', type = 'u32', order = 'CDAB', bits = { 0 = 'heater', 17 = 'ejector' } },
         { name = 'again', at = 'hr:4', type = 'u32', order = 'CDAB' }, { name = 'high', at = 'hr:5' },
         { name = 'low/half', at = 'hr:5.0-7', type = 'u8' }",
    );
    assert_eq!(untold, []);
    let seen: Vec<String> = [0, 3000, 6000, 9000]
        .map(|ms| {
            let of = |name| point(&devices, name).truth(ms);
            format!(
                "{} {} {} {} {}",
                of("again"),
                of("a/heater"),
                of("a/ejector"),
                of("high"),
                of("low/half")
            )
        })
        .into();
    assert_eq!(
        seen,
        ["0 false false 0 0", "1 true false 0 0", "131072 false true 2 2", "16711680 false true 255 255"]
    );
}

#[test]
fn parts_of_a_register_without_a_whole_move_by_themselves() {
    let (devices, untold) = points(
        "{ name = 'a', at = 'hr:4.0' }, { name = 'b', at = 'hr:4.4-7' }, { name = 'c', at = 'hr:4.8-15', type = 'i8' }",
    );
    assert_eq!(untold, []);
    let Read { words, served } = read(devices, 4, 1, 2500);
    let values: Vec<String> = served.iter().map(|((_, name), one)| format!("{name} {}", one.truth)).collect();
    assert_eq!(values.len(), 3, "{values:?}");
    let number = |index: usize| served[index].1.truth.to_string().parse::<i32>().unwrap();
    let at = |name: &str| served.iter().position(|((_, of), _)| &**of == name).unwrap();
    assert_eq!(i32::from(words[0] & 1), i32::from(served[at("a")].1.truth == Truth::Bool(true)));
    assert_eq!(i32::from(words[0] >> 4 & 15), number(at("b")));
    assert_eq!(i32::from((words[0] >> 8).to_be_bytes()[1].cast_signed()), number(at("c")));
}

#[test]
fn numbers_that_say_that_there_is_none_are_kept_off() {
    check(
        "{ name = 't', at = 'hr:0', values = { 0 = 'a', 1 = 'b', 2 = 'c' }, bad_values = [1] }",
        "t",
        &[(0, "a"), (2000, "c"), (4000, "a")],
    );
    let (devices, _) = points("{ name = 't', at = 'hr:0', range = [0, 100], bad_values = [60] }");
    for ms in 0..7000 {
        let Truth::Integer(number) = point(&devices, "t").truth(ms) else { panic!("a number") };
        assert!((0..60).contains(&number), "{number}");
    }
    // where another tag moves the registers, what says that there is none is not served
    let (devices, _) = points(
        "{ name = 'a', at = 'hr:0', type = 'u32', bits = { 0 = 'x' } }, { name = 'all', at = 'hr:0', type = 'u32' },
         { name = 'low', at = 'hr:1', bad_values = [1] }",
    );
    let served: Vec<_> = read(devices, 0, 2, 3000).served.into_iter().map(|((_, name), _)| name).collect();
    assert_eq!(served.iter().map(|name| &**name).collect::<Vec<_>>(), ["all", "a/x"]);
}

#[test]
fn devices_at_one_address_are_views_of_one() {
    let (devices, untold) = made(
        "[device.one]\nlink = 'l'\ntags = [{ name = 'n', at = 'hr:0' }]
         [device.two]\nlink = 'l'\ntags = [{ name = 'm', at = 'hr:0', scale = 0.1 }, { name = 'k', at = 'hr:1', kind = 'counter' }]",
    );
    assert_eq!(untold, []);
    let Read { words, served } = read(devices, 0, 2, 0);
    assert_eq!(words, [500, 4000]);
    let shown: Vec<String> =
        served.iter().map(|((device, name), one)| format!("{device}:{name} {}", one.truth)).collect();
    assert_eq!(shown, ["one:n 500", "two:m 50", "two:k 4000"]);
}

#[test]
fn a_counter_is_half_as_fast_as_it_may_be() {
    check(
        "{ name = 't', at = 'hr:0', type = 'f32', unit = 'kWh', kind = 'counter', max_rate = '200/h' }",
        "t",
        &[(0, "4000"), (4499, "4000"), (4500, "4000.125"), (9000, "4000.25")],
    );
    check(
        "{ name = 't', at = 'hr:0', kind = 'counter', bad_values = [4000, 4003] }",
        "t",
        &[(0, "4001"), (1000, "4002"), (2000, "4001")],
    );
    check(
        "{ name = 't', at = 'hr:0.0-7', type = 'u8', kind = 'counter' }",
        "t",
        &[(0, "0"), (255_000, "255"), (256_000, "0")],
    );
}

#[test]
fn what_cannot_be_told_is_said_and_moves_all_the_same() {
    check_untold("{ name = 't', at = 'hr:0', expr = 'raw * 2' }", "d:t: an expression makes its value");
    check_untold(
        "{ name = 'f', at = 'hr:0', type = 'f32' }, { name = 'g', at = 'hr:1', type = 'f32' }",
        "d:g: `f` means something else by the same registers",
    );
    check_untold(
        "{ name = 't', at = 'hr:0', bad_values = { 0 = 'good', else = 'bad:sensor_failure' } }",
        "d:t: `bad_values` speak of all other values",
    );
    let (devices, _) = points("{ name = 't', at = 'hr:0', expr = 'raw * 2' }");
    let Read { words, served } = read(devices, 0, 1, 0);
    assert_eq!((words, served), (vec![500], Vec::new()));
}

/// The floor of a line with these devices.
fn on_line(devices: &str) -> Made {
    let line = "[link.line]\nport = '/dev/ttyS9'\nserial = '9600 8N1'\n";
    let checked = config::parse("site.toml", &format!("{HEAD}{line}{devices}"));
    let site = checked
        .site
        .unwrap_or_else(|findings| panic!("{}", config::finding::render_text(&findings, &checked.sources)));
    floor_of(&site, START)
}

fn untold(made: &Made) -> Vec<String> {
    made.untold.iter().map(|of| format!("{}: {}", of.tag, of.why)).collect()
}

/// A meter with this address and these tags.
fn metered(address: &str, tags: &str) -> Made {
    on_line(&format!(
        "[device.m]\nprotocol = 'dlt645'\nlink = 'line'\naddress = '{address}'\nserial = '2400 8E1'\ntags = [{tags}]"
    ))
}

#[test]
fn a_meter_of_a_site_has_what_is_read_and_what_lies_between() {
    let made = metered(
        "210220003011",
        "{ name = 'l1', at = '02010100', format = 'XXX.X', unit = 'V' }, { name = 'l3', at = '02010300', format = 'XXX.X', unit = 'V' },
         { name = 'ct', value = 80 }, { name = 'i', at = '02020100', format = '-XXX.XXX', ratio = 'ct', unit = 'A' },
         { name = 'e', at = '00010000', format = 'XXXXXX', kind = 'counter' }",
    );
    assert_eq!(untold(&made), [""; 0]);
    let [meter] = &made.meters[..] else { panic!("{:?}", made.meters) };
    assert_eq!((meter.address, meter.line.baud), (210_220_003_011, 2400));
    let read = |identifier| {
        let measured = meter.read(identifier, 0, START).unwrap();
        let served = measured.served.iter().map(|((_, name), one)| format!("{name} {}", one.truth));
        (measured.data.len(), served.collect::<Vec<_>>())
    };
    // the middles of 225 to 235 V, and of 2 to 14 A behind a transformer of 80
    assert_eq!(read(0x0201_FF00), (6, vec!["l1 230".to_owned(), "l3 230".to_owned()]));
    assert_eq!(read(0x0202_0100), (3, vec!["i 8".to_owned()]));
    assert_eq!(read(0x0001_0000), (3, vec!["e 4000".to_owned()]));
}

#[test]
fn a_meter_that_is_asked_by_no_address_has_one_and_what_is_no_number_is_not_told() {
    let any =
        |address| metered(address, "{ name = 'v', at = '02010100', format = 'XXX.X' }").meters[0].address;
    assert_eq!(["AAAAAAAAAAAA", "AAAAAAAAAA11", "000000000007"].map(any), [1, 11, 7]);
    let made = metered("000000000007", "{ name = 'd', at = '04000101', format = 'YYMMDDWW' }");
    assert_eq!(untold(&made), ["m:d: the simulator's meters have numbers only"]);
}

/// What an instrument of a type with these keys says, as `ASKED>SAID=MEANT`.
fn scenes(keys: &str, device: &str) -> (Vec<String>, Vec<String>) {
    let made = on_line(&format!(
        "[type.t]\nprotocol = 'serial'\n{keys}\n[type.t.frame]\nend = '0D'\npattern = '^(?<v>[0-9]+)$'\n\
         [device.i]\nlink = 'line'\ntype = 't'\n{device}"
    ));
    let Habit::Player { scenes, .. } = &made.instruments[0].habit else { panic!("{:?}", made.instruments) };
    let shown = |scene: &super::super::Scene| {
        let means: Vec<String> = scene.means.iter().map(|(tag, truth)| format!("{tag} {truth}")).collect();
        format!("{}>{}={}", scene.asked.escape_ascii(), scene.said.escape_ascii(), means.join(","))
    };
    (scenes.iter().map(shown).collect(), untold(&made))
}

const TAG: &str = "tags = [{ name = 'v', at = 'group:v', type = 'decimal' }]";

#[test]
fn an_instrument_plays_the_examples_of_its_type() {
    let examples = "examples = [{ in = \"'12' 0D\", out = { v = 12 } }, { in = \"'x' 0D\", out = {} }]";
    let (talking, untold) = scenes(&format!("{TAG}\n{examples}"), "");
    assert_eq!((talking, untold.len()), (vec![">12\\r=v 12".to_owned(), ">x\\r=".to_owned()], 0));
    // of what is asked, what is to be dropped is no answer
    let (asked, _) = scenes(&format!("{TAG}\nsend = \"'R' 0D\"\nwake = 'FE'\n{examples}"), "");
    assert_eq!(asked, ["\\xfeR\\r>12\\r=v 12"]);
}

#[test]
fn an_example_is_for_the_device_whose_address_it_has() {
    let keys = format!(
        "{TAG}\nsend = \"{{unit as dec2}} 'R' 0D\"\nexamples = [\
         {{ unit = 1, send = \"'01R' 0D\", in = \"'12' 0D\", out = {{ v = 12 }} }}, \
         {{ unit = 1, in = \"'13' 0D\", out = {{ v = 13 }} }}]"
    );
    assert_eq!(scenes(&keys, "unit = 1").0, ["01R\\r>12\\r=v 12", "01R\\r>13\\r=v 13"]);
    let (other, untold) = scenes(&keys, "unit = 2");
    assert!(other.is_empty());
    let [why] = &untold[..] else { panic!("{untold:?}") };
    assert!(
        why.starts_with(
            "i:v: no example of its type has an answer for this device: give the type `examples`"
        ),
        "{why}"
    );
}

#[test]
fn what_no_example_says_and_what_holds_another_example_is_left_out() {
    let (none, why) = scenes(TAG, "");
    assert!(none.is_empty() && why[0].contains("give the type `examples`"), "{why:?}");
    let examples =
        "examples = [{ in = \"'12' 0D\", out = {} }, { in = \"'12' 0D '13' 0D\", out = { v = 13 } }]";
    let (scenes, why) = scenes(&format!("{TAG}\n{examples}"), "");
    assert_eq!(scenes, [">12\\r="]);
    assert_eq!(why, ["i:v: no example of its type says what it is: name it in `out` of one"]);
}
