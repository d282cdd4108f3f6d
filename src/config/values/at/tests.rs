use super::super::super::tree::Place;
use super::*;
use proptest::prelude::*;

const PLACE: Place = Place { source: 0, start: 0, end: 0 };

fn node(text: &str) -> Node {
    Node { content: Content::Text(text.to_owned()), at: PLACE, from_environment: false }
}

/// `D hr:0x1000 4096; X di:0x400 256 octal`: name, address, count, then what else is said.
fn areas_of(text: &str) -> Areas {
    let mut areas: Vec<(String, Vec<Part>)> = Vec::new();
    for line in text.split(';') {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, first, count, rest @ ..] = words.as_slice() else { panic!("{line}") };
        let begin = at(&node(first), 0, &Areas::default()).unwrap();
        let mut part = Part {
            area: begin.area,
            first_wire: begin.address,
            first: 0,
            count: count.parse().unwrap(),
            step: 1,
            words: 1,
            notation: Notation::Decimal,
        };
        for word in rest {
            match word.split_once('=') {
                None if *word == "octal" => part.notation = Notation::Octal,
                None => part.notation = Notation::ByteBit,
                Some(("first", number)) => part.first = number.parse().unwrap(),
                Some(("step", number)) => part.step = number.parse().unwrap(),
                Some((_, number)) => part.words = number.parse().unwrap(),
            }
        }
        match areas.iter_mut().find(|(known, _)| known == name) {
            Some((_, parts)) => parts.push(part),
            None => areas.push(((*name).to_owned(), vec![part])),
        }
    }
    Areas(areas)
}

fn shown(at: Parsed<At>) -> String {
    match at {
        Ok(At { area, address, bits, .. }) => {
            let bits = match bits {
                None => String::new(),
                Some(Bits::One(bit)) => format!(".{bit}"),
                Some(Bits::Slice(first, last)) => format!(".{first}-{last}"),
            };
            format!("{}:{address}{bits}", area.prefix())
        }
        Err(message) => message,
    }
}

#[track_caller]
fn check(text: &str, base: u16, expected: &str) {
    let shown = shown(at(&node(text), base, &Areas::default()));
    assert!(shown.contains(expected), "{text}: {shown}");
}

#[test]
fn addresses_are_read_strictly() {
    check("hr:100", 0, "hr:100");
    check("ir:0x0046", 0, "ir:70");
    check("hr:3000", 1, "hr:2999");
    check("hr:110.3", 0, "hr:110.3");
    check("hr:0x2119.0-1", 0, "hr:8473.0-1");
    check("hr:9.8-15", 0, "hr:9.8-15");
    check("coil:65535", 0, "coil:65535");
    check("40001", 0, "hr:0");
    check("40001.2", 0, "hr:0.2");
    check("400201", 0, "hr:200");
    check("30010", 1, "ir:9");
    check("465536", 0, "hr:65535");
    check("00017", 0, "coil:16");
    check("40000", 0, "count from 1");
    check("465537", 0, "count from 1");
    check("20001", 0, "begins with 0, 1, 3 or 4");
    check("hr:0", 1, "wanted 1 to 65536");
    check("hr:65536", 0, "wanted 0 to 65535");
    check("hr:-1", 0, "wanted 0 to 65535");
    check("hr:+1", 0, "wanted 0 to 65535");
    check("hr:0x+1", 0, "wanted 0 to 65535");
    check("hr:1.16", 0, "bit of 0 to 15");
    check("hr:1.+1", 0, "bit of 0 to 15");
    check("hr:1.", 0, "bit of 0 to 15");
    check("hr:9.8-16", 0, "two bits of 0 to 15");
    check("hr:9.5-3", 0, "the lower one first");
    check("hr:9.3-3", 0, "the lower one first");
    check("hr:9.-", 0, "two bits of 0 to 15");
    check("D100", 0, "needs `areas`");
    check("xx:1", 0, "wanted hr:");
    check("", 0, "wanted an address");
}

#[track_caller]
fn check_named(areas: &str, text: &str, expected: &str) {
    let shown = shown(at(&node(text), 1, &areas_of(areas)));
    assert!(shown.contains(expected), "{areas} {text}: {shown}");
}

#[test]
fn a_controllers_own_names_become_addresses() {
    let dvp = "D hr:0x1000 4096; D hr:0x9000 5904 first=4096; C coil:0x0E00 200; C hr:0x0700 56 first=200 words=2; X di:0x0400 256 octal; M coil:0x0800 1536";
    check_named(dvp, "D0", "hr:4096");
    check_named(dvp, "D4095", "hr:8191");
    check_named(dvp, "D4096", "hr:36864");
    check_named(dvp, "D9999", "hr:42767");
    check_named(dvp, "D210.3", "hr:4306.3");
    check_named(dvp, "D210.8-15", "hr:4306.8-15");
    check_named(dvp, "C199", "coil:3783");
    check_named(dvp, "C200", "hr:1792");
    check_named(dvp, "C255", "hr:1902");
    check_named(dvp, "X0", "di:1024");
    check_named(dvp, "X10", "di:1032");
    check_named(dvp, "X377", "di:1279");
    check_named(dvp, "D10000", "it has D0 to D4095, D4096 to D9999");
    check_named(dvp, "X400", "it has X0 to X377");
    check_named(dvp, "X8", "an octal number");
    check_named(dvp, "Y0", "no area \"Y\": it has D, C, X, M");
    check_named(dvp, "D", "wanted a number after \"D\"");
    check_named(dvp, "D-1", "no area \"D-\"");
    check_named(dvp, "D1x", "got \"1x\"");
    check_named(dvp, "D99999999999", "got \"99999999999\"");
    check_named(dvp, "D1.16", "bit of 0 to 15");
}

#[test]
fn areas_count_in_steps_and_in_bytes_and_bits() {
    let smart = "Q coil:0 256 byte_bit; AIW ir:0 56 step=2; VW hr:0 100 step=2 first=1000";
    check_named(smart, "Q0.3", "coil:3");
    check_named(smart, "Q31.7", "coil:255");
    check_named(smart, "Q32.0", "it has Q0.0 to Q31.7");
    check_named(smart, "Q0.8", "a byte and a bit of 0 to 7");
    check_named(smart, "Q3", "a byte and a bit of 0 to 7");
    check_named(smart, "AIW4", "ir:2");
    check_named(smart, "AIW110", "ir:55");
    check_named(smart, "AIW3", "they are AIW0, AIW2 and so on");
    check_named(smart, "AIW112", "it has AIW0 to AIW110");
    check_named(smart, "VW1000", "hr:0");
    check_named(smart, "VW1198", "hr:99");
    check_named(smart, "VW998", "it has VW1000 to VW1198");
}

proptest! {
    #[test]
    fn any_text_is_borne(text in "\\PC{0,40}", upper in "[A-Z]{1,3}[0-9.\\-]{0,24}", base in 0_u16..2) {
        let areas = areas_of("D hr:0 65536; X di:0x400 256 octal; Q coil:0 256 byte_bit; A ir:7 9 step=16 first=65535 words=4");
        drop(shown(at(&node(&text), base, &areas)));
        drop(shown(at(&node(&upper), base, &areas)));
    }
}
