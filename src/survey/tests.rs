use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;

use super::fragment::{Origin, fragment};
use super::*;
use crate::config;
use crate::config::site::Factory;
use crate::driver::dlt645::frame::{Control, Decoder, Frame};
use crate::driver::modbus::frame as modbus;

/// A line, or a TCP port: who is there, and how each is spoken to.
#[derive(Default)]
struct World {
    /// By manner and unit: holding registers from 0 on.
    units: Vec<(Manner, u8, Registers)>,
    /// By manner: address, and the data of each identifier.
    meters: Vec<(Manner, Address, Items)>,
    /// What is heard in a manner although nothing is asked.
    talk: Vec<(Manner, Vec<u8>)>,
    has_echo: bool,
    /// Answers of this unit come while the next is asked.
    late: Option<u8>,
    owed: Vec<u8>,
    /// Whatever is asked is answered as by this unit.
    any_unit: bool,
    /// What a gateway says of who is not there.
    missed: Option<u8>,
    /// It comes where the line turns around.
    glitch: Vec<u8>,
    asked: Vec<Question>,
}

type Items = BTreeMap<[u8; 4], Vec<u8>>;

#[derive(Clone, Default)]
struct Registers {
    holding: BTreeMap<u16, u16>,
    input: BTreeMap<u16, u16>,
}

fn registers(of: &[(u16, &[u16])]) -> BTreeMap<u16, u16> {
    of.iter().flat_map(|(first, words)| (*first..).zip(words.iter().copied())).collect()
}

fn holding(of: &[(u16, &[u16])]) -> Registers {
    Registers { holding: registers(of), ..Registers::default() }
}

fn input(of: &[(u16, &[u16])]) -> Registers {
    Registers { input: registers(of), ..Registers::default() }
}

fn float(value: f32) -> [u16; 2] {
    let bits = value.to_bits();
    [(bits >> 16) as u16, (bits & 0xFFFF) as u16]
}

fn manner(text: &str) -> Manner {
    Manner::of(Factory::parse(text).unwrap())
}

const NETWORK: Manner = Manner { line: None, framing: Framing::Tcp };

fn types() -> Arc<Site> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/demo.toml");
    let config::Types { checked, left_out } = config::types(&path);
    assert_eq!(left_out, [] as [&str; 0]);
    Arc::new(
        checked.site.unwrap_or_else(|findings| {
            panic!("{}", config::finding::render_text(&findings, &checked.sources))
        }),
    )
}

fn wishes(manners: &[Manner]) -> Wishes {
    Wishes {
        manners: manners.to_vec(),
        units: (1..=3).collect(),
        more_units: (4..=20).collect(),
        patience: None,
    }
}

impl World {
    fn search(&mut self, wishes: Wishes) -> Survey {
        let mut survey = Survey::new(types(), wishes);
        let now = crate::clock::monotonic();
        while let Some(question) = survey.next_question() {
            assert!(self.asked.len() < 20_000, "it ends");
            let mut heard = std::mem::take(&mut self.owed);
            if !question.bytes.is_empty() {
                heard.extend(&self.glitch);
            }
            if self.has_echo {
                heard.extend(&question.bytes);
            }
            heard.extend(self.hear(&question));
            self.asked.push(question);
            survey.handle(&heard, now);
        }
        survey
    }

    fn hear(&mut self, question: &Question) -> Vec<u8> {
        let manner = question.manner;
        if question.bytes.is_empty() {
            return self
                .talk
                .iter()
                .find(|(of, _)| *of == manner)
                .map(|(_, bytes)| bytes.clone())
                .unwrap_or_default();
        }
        let frames = Decoder::default().decode(&question.bytes);
        if let [asked] = frames.as_slice() {
            return self.meter(manner, asked);
        }
        let (unit, pdu) = match manner.framing {
            Framing::Rtu => match modbus::decode_rtu(&question.bytes) {
                Some((unit, pdu)) => (unit.0, pdu.to_vec()),
                None => return Vec::new(),
            },
            Framing::Tcp => match modbus::decode_tcp(&question.bytes) {
                modbus::Front::Frame(frame, _) => (frame.unit.0, frame.pdu.to_vec()),
                modbus::Front::Incomplete | modbus::Front::Invalid => panic!("{question:?}"),
            },
            Framing::Ascii => match modbus::decode_ascii(&question.bytes) {
                modbus::Front::Frame((unit, pdu), _) => (unit.0, pdu.to_vec()),
                modbus::Front::Incomplete | modbus::Front::Invalid => panic!("{question:?}"),
            },
        };
        let is_it = |(of, known, _): &&(Manner, u8, Registers)| {
            of.is_heard_as(&manner) && (*known == unit || self.any_unit)
        };
        let Some((.., registers)) = self.units.iter().find(is_it) else {
            return self
                .missed
                .map(|code| encode(question, unit, &[pdu[0] | 0x80, code]))
                .unwrap_or_default();
        };
        let answer = encode(question, unit, &registers.answer(&pdu));
        if self.late == Some(unit) {
            self.late = None;
            self.owed = answer;
            return Vec::new();
        }
        answer
    }

    fn meter(&self, manner: Manner, asked: &Frame) -> Vec<u8> {
        let mut answers = Vec::new();
        for (of, address, items) in &self.meters {
            if *of != manner || !asked.address.matches(*address) {
                continue;
            }
            let (control, data) = match asked.control.0 {
                0x13 => (0x93, address.to_wire().to_vec()),
                0x11 => match items.get(asked.data.as_slice()) {
                    Some(data) => (0x91, [&asked.data[..], data].concat()),
                    None => (0xD1, vec![2]),
                },
                _ => continue,
            };
            answers.push(Frame { address: *address, control: Control(control), data }.encode(0).unwrap());
        }
        // several at once spoil each other
        match answers.as_slice() {
            [answer] => answer.clone(),
            [] => Vec::new(),
            [first, ..] => first.iter().map(|byte| byte & 0x5A).collect(),
        }
    }
}

impl Registers {
    fn answer(&self, pdu: &[u8]) -> Vec<u8> {
        let [function, a, b, c, d] = *pdu else { panic!("no question to read: {pdu:?}") };
        let table = match function {
            3 => &self.holding,
            4 => &self.input,
            _ => return vec![function | 0x80, 1],
        };
        let (first, count) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let words: Option<Vec<u16>> =
            (first..first + count).map(|address| table.get(&address).copied()).collect();
        match words {
            Some(words) => {
                let mut pdu = vec![function, u8::try_from(count * 2).unwrap()];
                pdu.extend(words.iter().flat_map(|word| word.to_be_bytes()));
                pdu
            }
            None => vec![function | 0x80, 2],
        }
    }
}

fn encode(question: &Question, unit: u8, pdu: &[u8]) -> Vec<u8> {
    let unit = UnitId(unit);
    match question.manner.framing {
        Framing::Rtu => modbus::encode_rtu(unit, pdu),
        Framing::Ascii => modbus::encode_ascii(unit, pdu),
        Framing::Tcp => {
            modbus::encode_tcp(u16::from_be_bytes([question.bytes[0], question.bytes[1]]), unit, pdu)
        }
    }
}

/// Everybody who was found, in a line each.
fn found(survey: &Survey) -> Vec<String> {
    let one = |found: &Found| {
        let who = match &found.who {
            Who::Unit(unit, _) => format!("unit {unit}"),
            Who::Meter(address, _) => format!("meter {address}"),
            Who::Instrument(_) => "instrument".to_owned(),
        };
        let fits: Vec<&str> = found.fits.iter().map(|fit| &*fit.type_name).collect();
        format!("{}: {who}: {}", found.manner, fits.join(" "))
    };
    survey.found().iter().map(one).collect()
}

/// The grid's frequency where an Eastron meter has it.
fn eastron() -> Registers {
    input(&[(0x46, &float(49.98))])
}

#[test]
fn units_at_different_speeds_are_found_and_told_by_what_their_probes_read() {
    let mut world = World {
        units: vec![
            (manner("9600 8N1"), 2, eastron()),
            (manner("19200 8E1"), 2, holding(&[(49, &[0x6945, 0x4D33, 0x3135, 0x3500]), (53, &[0; 16])])),
            (manner("9600 7E1 ascii"), 3, holding(&[(0, &[7])])),
        ],
        ..World::default()
    };
    let survey = world.search(wishes(&["9600 8N1", "19200 8E1", "9600 7E1 ascii"].map(manner)));
    let expected = [
        "9600 8N1: unit 2: eastron-sdm630",
        "19200 8E1: unit 2: schneider-iem3000",
        "9600 7E1 ascii: unit 3: ",
    ];
    assert_eq!(found(&survey), expected);
    assert_eq!(survey.found()[0].fits[0].shown, "ir:70 = 49.98");
    assert_eq!(survey.found()[2].who, Who::Unit(3, Some((Area::HoldingRegisters, 7))));
    assert_eq!(survey.remarks(), [] as [&str; 0]);
}

#[test]
fn where_one_unit_was_found_all_others_are_asked_as_well() {
    let line = manner("9600 8N1");
    let units = vec![(line, 2, eastron()), (line, 19, eastron()), (manner("19200 8N1"), 19, eastron())];
    let mut world = World { units, ..World::default() };
    let survey = world.search(wishes(&[line, manner("19200 8N1")]));
    assert_eq!(found(&survey), ["9600 8N1: unit 2: eastron-sdm630", "9600 8N1: unit 19: eastron-sdm630"]);
}

#[test]
fn a_device_that_hears_two_manners_is_found_once() {
    // who has no parity mostly bears a second stop bit, and some bear any parity
    let both = ["9600 8N1", "9600 8E1"].map(manner);
    let units = both.iter().map(|line| (*line, 1, eastron())).collect();
    let survey = World { units, ..World::default() }.search(wishes(&both));
    assert_eq!(found(&survey), ["9600 8N1: unit 1: eastron-sdm630"]);
}

#[test]
fn an_answer_that_comes_while_the_next_unit_is_asked_is_that_of_the_first() {
    let line = manner("9600 8N1");
    let mut world = World { units: vec![(line, 2, eastron())], late: Some(2), ..World::default() };
    assert_eq!(found(&world.search(wishes(&[line]))), ["9600 8N1: unit 2: eastron-sdm630"]);
}

#[test]
fn what_is_nothing_but_zero_makes_no_type() {
    let line = manner("9600 8N1");
    let zeros = Registers { holding: registers(&[(0, &[0; 100])]), input: registers(&[(0, &[0; 100])]) };
    let survey = World { units: vec![(line, 1, zeros)], ..World::default() }.search(wishes(&[line]));
    assert!(survey.found()[0].fits.iter().all(|fit| fit.is_weak), "{:?}", survey.found());
    let origin = Origin { name: "line1".into(), opens: Some("port = \"/dev/ttyUSB0\"".into()), set: None };
    let text = fragment(&origin, &survey);
    assert!(text.contains("tags = [{ name = \"hr0\", at = \"hr:0\" }]    # 0"), "{text}");
    assert!(!text.contains("\ntype"), "{text}");
}

#[test]
fn of_types_that_fit_the_one_is_likeliest_whose_tags_are_there() {
    let line = manner("9600 8N2");
    // the state, which the MD380 has as well, and the rest where only the others have it
    let drive = holding(&[(0x3000, &[2]), (0x7000, &[50; 8]), (0x8000, &[0])]);
    let survey = World { units: vec![(line, 1, drive)], ..World::default() }.search(wishes(&[line]));
    let fits: Vec<&str> = survey.found()[0].fits.iter().map(|fit| &*fit.type_name).collect();
    assert_eq!(fits, ["inovance-md", "inovance-md380"]);
}

#[test]
fn a_sun_spec_device_is_known_by_its_models() {
    let line = manner("9600 8N1");
    let common: Vec<u16> =
        [vec![0x5375, 0x6E53, 1, 66], vec![0; 66], vec![203, 105], vec![1; 105], vec![0xFFFF, 0]].concat();
    let mut world = World { units: vec![(line, 1, holding(&[(40_000, &common)]))], ..World::default() };
    let survey = world.search(wishes(&[line]));
    assert_eq!(found(&survey), ["9600 8N1: unit 1: sunspec-203"]);
    assert_eq!(survey.found()[0].fits[0].shown, "sunspec:203+0 = 203");
}

fn meter(address: &str, items: &[([u8; 4], &[u8])]) -> (Manner, Address, Items) {
    let items = items.iter().map(|(identifier, data)| (*identifier, data.to_vec())).collect();
    (manner("2400 8E1"), Address::parse(address).unwrap(), items)
}

/// Identifiers as on the wire, the lowest byte first.
const FREQUENCY: [u8; 4] = [0x02, 0x00, 0x80, 0x02];
const VOLTAGE: [u8; 4] = [0x00, 0x01, 0x01, 0x02];

#[test]
fn meters_that_answer_at_once_are_found_one_after_the_other_and_told_by_what_they_measure() {
    let meters = vec![
        meter("210220003011", &[(FREQUENCY, &[0x98, 0x49])]),
        meter("210220003012", &[(VOLTAGE, &[0x05, 0x22])]),
        meter("210220003013", &[]),
    ];
    let mut world = World { meters, ..World::default() };
    let survey = world.search(wishes(&[manner("9600 8N1"), manner("2400 8E1")]));
    let expected = [
        "2400 8E1: meter 210220003011: dlt645-2007-3ph",
        "2400 8E1: meter 210220003012: dlt645-2007-1ph",
        "2400 8E1: meter 210220003013: ",
    ];
    let mut all = found(&survey);
    all.sort();
    assert_eq!(all, expected);
    let shown: Vec<&str> =
        survey.found().iter().flat_map(|found| &found.fits).map(|fit| &*fit.shown).collect();
    assert!(shown.contains(&"02800002 = 49.98") && shown.contains(&"02010100 = 220.5"), "{shown:?}");
}

#[test]
fn two_meters_with_one_address_are_remarked_upon() {
    let meters = vec![meter("000000000161", &[]), meter("000000000161", &[])];
    let survey = World { meters, ..World::default() }.search(wishes(&[manner("2400 8E1")]));
    assert_eq!(found(&survey), [] as [&str; 0]);
    assert!(survey.remarks()[0].contains("000000000161"), "{:?}", survey.remarks());
}

#[test]
fn a_server_that_answers_as_any_unit_is_one_device() {
    let registers = Registers { holding: registers(&[(0, &[1])]), ..eastron() };
    let mut world = World { units: vec![(NETWORK, 1, registers)], any_unit: true, ..World::default() };
    let survey = world.search(wishes(&Manner::of_network()));
    assert_eq!(found(&survey), ["Modbus TCP: unit 1: eastron-sdm630"]);
    assert_eq!(survey.remarks(), ["it answers as whatever unit it is asked: one device"]);
    assert!(world.asked.iter().all(|question| question.manner == NETWORK), "it hands no line through");
}

#[test]
fn a_unit_that_answers_for_all_on_a_line_is_one_device_and_one_that_refuses_everything_a_comment() {
    let line = manner("9600 8N1");
    let mut world =
        World { units: vec![(line, 1, Registers::default())], any_unit: true, ..World::default() };
    let survey = world.search(wishes(&[line]));
    assert_eq!(found(&survey), ["9600 8N1: unit 1: "]);
    assert_eq!(survey.remarks().len(), 1);
    let origin = Origin { name: "line1".into(), opens: None, set: None };
    let text = fragment(&origin, &survey);
    assert!(text.contains("\n# [device.unit-1]\n# link = \"line1\"\n# unit = 1\n"), "{text}");
    assert!(text.lines().all(|line| line.is_empty() || line.starts_with('#')), "{text}");
}

#[test]
fn what_a_device_says_of_itself_cannot_leave_its_comment() {
    let line = manner("19200 8E1");
    // "iEM3\n[x]"
    let text = [0x6945, 0x4D33, 0x0A5B, 0x785D].into_iter().chain([0; 16]).collect::<Vec<u16>>();
    let survey =
        World { units: vec![(line, 1, holding(&[(49, &text)]))], ..World::default() }.search(wishes(&[line]));
    let origin = Origin { name: "line1".into(), opens: None, set: None };
    let told = "type = \"schneider-iem3000\"    # hr:49 = iEM3 [x]\n";
    assert!(fragment(&origin, &survey).contains(told), "{}", fragment(&origin, &survey));
}

#[test]
fn a_gateway_that_refuses_for_units_that_are_not_there_hides_none_that_is() {
    let line = manner("9600 8N1");
    let units = vec![(line, 3, holding(&[(0, &[7])])), (line, 7, holding(&[(0, &[8])]))];
    let mut world = World { units, missed: Some(4), ..World::default() };
    let survey = world.search(wishes(&[line]));
    let mut all = found(&survey);
    all.sort();
    assert_eq!(all, ["9600 8N1: unit 1: ", "9600 8N1: unit 3: ", "9600 8N1: unit 7: "]);
    assert!(survey.remarks()[0].contains("with exception 04"), "{:?}", survey.remarks());
}

#[test]
fn a_byte_where_the_line_turns_around_costs_nobody_anything() {
    let line = manner("2400 8E1");
    let meters = vec![meter("210220003011", &[(FREQUENCY, &[0x98, 0x49])])];
    let mut world = World { units: vec![(line, 1, eastron())], meters, glitch: vec![0], ..World::default() };
    let survey = world.search(wishes(&[line]));
    let expected = ["2400 8E1: unit 1: eastron-sdm630", "2400 8E1: meter 210220003011: dlt645-2007-3ph"];
    assert_eq!(found(&survey), expected);
    // nor does noise that looks like meters which spoil each other make an endless search, or meters
    let mut world = World { glitch: vec![0x68; 20], ..World::default() };
    let survey = world.search(wishes(&[line]));
    assert!(world.asked.len() < 100, "{}", world.asked.len());
    assert_eq!((survey.found().len(), survey.remarks().len()), (0, 1), "{:?}", survey.remarks());
}

#[test]
fn before_somebody_is_asked_who_they_are_what_is_owed_is_over() {
    let line = manner("9600 8N1");
    let mut world = World { units: vec![(line, 2, eastron())], late: Some(2), ..World::default() };
    let survey = world.search(wishes(&[line]));
    assert_eq!(found(&survey), ["9600 8N1: unit 2: eastron-sdm630"]);
    let quiet = |question: &Question| question.bytes.is_empty() && question.patience == PATIENCE_KNOWN;
    let first = world.asked.iter().position(quiet).expect("it waits");
    let identified = world.asked.iter().position(|question| question.bytes.get(3) == Some(&0x46));
    assert!(Some(first) < identified, "{first} {identified:?}");
}

#[test]
fn a_question_that_gets_nothing_is_asked_once_more_before_a_type_is_out() {
    let line = manner("9600 8N1");
    let mut survey = Survey::new(types(), wishes(&[line]));
    let (mut world, mut missed) = (World { units: vec![(line, 1, eastron())], ..World::default() }, false);
    while let Some(question) = survey.next_question() {
        let is_probe = question.bytes.get(1..4) == Some(&[4, 0, 0x46]);
        let heard = if is_probe && !missed { Vec::new() } else { world.hear(&question) };
        missed |= is_probe;
        survey.handle(&heard, crate::clock::monotonic());
    }
    assert_eq!(found(&survey), ["9600 8N1: unit 1: eastron-sdm630"]);
}

#[test]
fn whoever_was_met_is_told_although_the_far_end_hangs_up_or_the_search_is_given_up() {
    let mut world = World { units: vec![(NETWORK, 1, holding(&[(0, &[7])]))], ..World::default() };
    for is_lost in [true, false] {
        let mut survey = Survey::new(types(), wishes(&[NETWORK]));
        loop {
            let question = survey.next_question().expect("it goes on");
            if question.bytes.get(8..10).is_some_and(|at| at != [0, 0]) {
                break;
            }
            survey.handle(&world.hear(&question), crate::clock::monotonic());
        }
        if is_lost {
            survey.handle_lost()
        } else {
            survey.finish()
        }
        assert_eq!(found(&survey), ["Modbus TCP: unit 1: "]);
        assert_eq!(survey.next_question(), None);
        assert_eq!(survey.remarks().len(), usize::from(is_lost));
    }
}

#[test]
fn a_drive_that_answers_what_it_was_asked_gives_nothing_back() {
    let line = manner("9600 8N1");
    let mut survey = Survey::new(types(), wishes(&[line]));
    let at_rest = [0x01, 0x04, 0x03, 0x01, 0x00, 0x00, 0xA1, 0x8E];
    while let Some(question) = survey.next_question() {
        let heard: &[u8] = if question.bytes == at_rest { &at_rest } else { &[] };
        survey.handle(heard, crate::clock::monotonic());
    }
    assert_eq!(found(&survey), ["9600 8N1: instrument: huanyang-hy"]);
    assert!(!survey.has_echo());
}

#[test]
fn units_with_other_parity_at_one_speed_are_others() {
    let lines = ["9600 8N1", "9600 8E1"].map(manner);
    let units =
        vec![(lines[0], 1, eastron()), (lines[1], 1, holding(&[(0, &[7])])), (lines[1], 20, eastron())];
    let survey = World { units, ..World::default() }.search(wishes(&lines));
    let expected =
        ["9600 8N1: unit 1: eastron-sdm630", "9600 8E1: unit 1: ", "9600 8E1: unit 20: eastron-sdm630"];
    assert_eq!(found(&survey), expected);
}

#[test]
fn what_servers_call_themselves_is_asked_only_where_nobody_answers_otherwise() {
    let all = Wishes { units: vec![1, 2, 255, 0], more_units: Vec::new(), ..wishes(&[NETWORK]) };
    let units = [0, 1, 255].map(|unit| (NETWORK, unit, eastron())).to_vec();
    assert_eq!(
        found(&World { units, ..World::default() }.search(all.clone())),
        ["Modbus TCP: unit 1: eastron-sdm630"]
    );
    let units = vec![(NETWORK, 255, eastron())];
    assert_eq!(
        found(&World { units, ..World::default() }.search(all)),
        ["Modbus TCP: unit 255: eastron-sdm630"]
    );
}

#[test]
fn behind_a_gateway_all_units_are_asked_and_those_that_it_misses_are_not_there() {
    let units = vec![(NETWORK, 2, eastron()), (NETWORK, 20, eastron())];
    let mut world = World { units, missed: Some(0x0B), ..World::default() };
    let survey = world.search(wishes(&[NETWORK]));
    assert_eq!(found(&survey), ["Modbus TCP: unit 2: eastron-sdm630", "Modbus TCP: unit 20: eastron-sdm630"]);
    // a server without a line is not asked for units that nobody sets
    let mut world = World { units: vec![(NETWORK, 2, eastron())], ..World::default() };
    assert_eq!(found(&world.search(wishes(&[NETWORK]))), ["Modbus TCP: unit 2: eastron-sdm630"]);
    assert!(!world.asked.iter().any(|question| question.bytes[6] == 20));
}

#[test]
fn an_adapter_that_gives_back_what_is_sent_is_told() {
    let line = manner("2400 8E1");
    let units = vec![(line, 1, eastron())];
    let meters = vec![meter("210220003011", &[(FREQUENCY, &[0x98, 0x49])])];
    let mut world = World { units, meters, has_echo: true, ..World::default() };
    let survey = world.search(wishes(&[line]));
    assert_eq!(
        found(&survey),
        ["2400 8E1: unit 1: eastron-sdm630", "2400 8E1: meter 210220003011: dlt645-2007-3ph"]
    );
    assert!(survey.has_echo());
    let origin = Origin { name: "line1".into(), opens: Some("port = \"/dev/ttyUSB0\"".into()), set: None };
    assert!(fragment(&origin, &survey).contains("\necho = true\n"));
}

/// Two frames of an XK3190 that talks by itself, from amid an earlier one.
const SCALE: &[u8] = b"21B\x03\x02+00200021B\x03\x02+00200021B\x03";

#[test]
fn a_scale_that_talks_by_itself_is_heard_and_nothing_is_asked_at_its_speed() {
    let line = manner("1200 8N1");
    let mut world = World { talk: vec![(line, SCALE.to_vec())], ..World::default() };
    let survey = world.search(wishes(&[line, manner("9600 8N1")]));
    // the demo describes the same scale once more
    assert_eq!(found(&survey), ["1200 8N1: instrument: indicator yaohua-xk3190"]);
    assert!(world.asked.iter().all(|question| question.manner != line || question.bytes.is_empty()));
    assert_eq!(survey.stray(), None);
}

#[test]
fn another_master_on_the_line_is_told_and_no_meters_are_searched_among_its_talk() {
    let line = manner("9600 8E1");
    let talk = [&[0x00, 0xFF][..], &modbus::encode_rtu(UnitId(1), &[3, 0, 0, 0, 2])].concat();
    let mut world = World { talk: vec![(line, talk.clone())], ..World::default() };
    let survey = world.search(wishes(&[line]));
    assert_eq!(survey.stray(), Some(&Stray { manner: line, bytes: talk, is_master: true }));
    assert!(!world.asked.iter().any(|question| question.bytes.contains(&0x68)));
    let told = "meters were not searched at 9600 8E1: bytes come there that nobody has asked for";
    assert_eq!(survey.remarks(), [told]);
}

#[test]
fn a_far_end_that_hangs_up_is_not_asked_so_any_more() {
    let mut survey = Survey::new(types(), wishes(&Manner::of_network()));
    while survey.next_question().is_some_and(|question| question.manner.framing == Framing::Tcp) {
        survey.handle(&[], crate::clock::monotonic());
    }
    survey.handle_lost();
    assert_eq!(survey.next_question().map(|question| question.manner.framing), Some(Framing::Ascii));
}

#[test]
fn the_fragment_is_a_configuration_that_check_takes() {
    let units = vec![
        (manner("9600 8N1"), 2, eastron()),
        (manner("9600 8N1"), 3, holding(&[(0, &[1234])])),
        (manner("19200 8E1"), 2, eastron()),
        (manner("9600 7E1 ascii"), 3, eastron()),
    ];
    let meters = vec![meter("210220003011", &[(FREQUENCY, &[0x98, 0x49])]), meter("210220003013", &[])];
    let mut world = World { units, meters, ..World::default() };
    let manners = ["9600 8N1", "19200 8E1", "9600 7E1 ascii", "2400 8E1"].map(manner);
    let survey = world.search(wishes(&manners));
    assert_eq!(survey.found().len(), 6);
    let origin = Origin { name: "line1".into(), opens: Some("port = \"/dev/ttyUSB0\"".into()), set: None };
    let text = fragment(&origin, &survey);
    let expected = [
        "[link.line1]\nport = \"/dev/ttyUSB0\"\nserial = \"9600 8N1\"\n\n",
        "[device.eastron-sdm630-2]\nlink = \"line1\"\nunit = 2\ntype = \"eastron-sdm630\"    # ir:70 = 49.98\n",
        "[device.eastron-sdm630-2-2]\nlink = \"line1\"\nunit = 2\nserial = \"19200 8E1\"\n",
        "[device.meter-210220003011]\nlink = \"line1\"\naddress = \"210220003011\"\nserial = \"2400 8E1\"\n",
        "# the link is framed otherwise: give it a link of its own\n# [device.eastron-sdm630-3]\n",
        "tags = [{ name = \"hr0\", at = \"hr:0\" }]    # 1234\n",
    ];
    for piece in expected {
        assert!(text.contains(piece), "{piece}\n{text}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.toml");
    let head = "[gateway]\nname = 'n'\nenterprise = 'e'\n[uplink.u]\nbroker = 'mqtt://127.0.0.1'\n";
    std::fs::write(&path, format!("{head}{text}")).unwrap();
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/types");
    std::os::unix::fs::symlink(library, folder.path().join("types")).unwrap();
    let checked = config::load(&path);
    let site = checked
        .site
        .unwrap_or_else(|findings| panic!("{}", config::finding::render_text(&findings, &checked.sources)));
    assert_eq!(site.devices.len(), 5);
}

#[test]
fn of_a_link_that_is_configured_only_the_devices_are_told() {
    let line = manner("9600 8N1");
    let survey = World { units: vec![(line, 2, eastron())], ..World::default() }.search(wishes(&[line]));
    let origin = Origin { name: "hall".into(), opens: None, set: Some(manner("19200 8N1")) };
    let expected = "\n[device.eastron-sdm630-2]\nlink = \"hall\"\nunit = 2\nserial = \"9600 8N1\"\ntype = \"eastron-sdm630\"    # ir:70 = 49.98\n";
    assert_eq!(fragment(&origin, &survey), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever is heard: the search ends, nothing but reading is ever asked, and what it makes of it is text.
    #[test]
    fn any_bytes_are_borne_and_nothing_but_reading_is_asked(
        noise in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 1..40),
    ) {
        let mut survey = Survey::new(types(), wishes(&["2400 8E1", "9600 7E1 ascii", "9600 8N1"].map(manner)));
        let now = crate::clock::monotonic();
        let mut count = 0;
        while let Some(question) = survey.next_question() {
            count += 1;
            prop_assert!(count < 12_000, "it ends");
            if let Some((_, pdu)) = modbus::decode_rtu(&question.bytes) {
                prop_assert!((1..=4).contains(&pdu[0]));
            }
            for frame in Decoder::default().decode(&question.bytes) {
                prop_assert!([0x01, 0x11, 0x13].contains(&frame.control.0));
            }
            survey.handle(&noise[count % noise.len()], now);
        }
        let origin = Origin { name: "line1".into(), opens: None, set: None };
        prop_assert!(!fragment(&origin, &survey).contains('\0'));
    }
}
