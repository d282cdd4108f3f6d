//! Exchanges of meters and of other implementations, byte by byte: do not change them.

use super::exchange::{Answer, Exchange, Progress, Question, Stray};
use super::frame::{Control, Decoder, Frame};
use super::refusal::{ErrorWord, Refusal};
use crate::dlt645::Address;
use crate::dlt645::{Decoded, Format};
use crate::dlt645::{Identifier, Version};
use crate::reading::{Quality, Value};

/// Somebody asks a meter for an item.
struct Asked {
    meter: &'static str,
    item: &'static str,
    wake: u8,
    request: &'static str,
}

/// Items that were read: the question, the format, what came, and the value.
const READ: &[(Asked, &str, &str, &str)] = &[
    // dlt645 3.2.0 (PyPI) as the meter
    (
        Asked {
            meter: "210220003011",
            item: "00010000",
            wake: 4,
            request: "FE FE FE FE 68 11 30 00 20 02 21 68 11 04 33 33 34 33 36 16",
        },
        "XXXXXX.XX",
        "FE FE FE FE 68 11 30 00 20 02 21 68 91 08 33 33 34 33 75 39 45 33 E0 16",
        "1206.42",
    ),
    (
        Asked {
            meter: "210220003011",
            item: "00020000",
            wake: 4,
            request: "FE FE FE FE 68 11 30 00 20 02 21 68 11 04 33 33 35 33 37 16",
        },
        "XXXXXX.XX",
        "FE FE FE FE 68 11 30 00 20 02 21 68 91 08 33 33 35 33 36 33 33 33 8A 16",
        "0.03",
    ),
    (
        Asked {
            meter: "210220003011",
            item: "02010100",
            wake: 4,
            request: "FE FE FE FE 68 11 30 00 20 02 21 68 11 04 33 34 34 35 39 16",
        },
        "XXX.X",
        "FE FE FE FE 68 11 30 00 20 02 21 68 91 06 33 34 34 35 38 56 49 16",
        "230.5",
    ),
    (
        Asked {
            meter: "210220003011",
            item: "02020100",
            wake: 4,
            request: "FE FE FE FE 68 11 30 00 20 02 21 68 11 04 33 34 35 35 3A 16",
        },
        "-XXX.XXX",
        "FE FE FE FE 68 11 30 00 20 02 21 68 91 07 33 34 35 35 56 84 33 CA 16",
        "5.123",
    ),
    (
        Asked {
            meter: "210220003011",
            item: "02030000",
            wake: 4,
            request: "FE FE FE FE 68 11 30 00 20 02 21 68 11 04 33 33 36 35 3A 16",
        },
        "-XX.XXXX",
        "FE FE FE FE 68 11 30 00 20 02 21 68 91 07 33 33 36 35 78 56 B4 3F 16",
        "-1.2345",
    ),
    (
        Asked {
            meter: "210220003011",
            item: "02060000",
            wake: 4,
            request: "FE FE FE FE 68 11 30 00 20 02 21 68 11 04 33 33 39 35 3D 16",
        },
        "-X.XXX",
        "FE FE FE FE 68 11 30 00 20 02 21 68 91 06 33 33 39 35 B8 3C B3 16",
        "0.985",
    ),
    (
        Asked {
            meter: "210220003011",
            item: "02800002",
            wake: 4,
            request: "FE FE FE FE 68 11 30 00 20 02 21 68 11 04 35 33 B3 35 B9 16",
        },
        "XX.XX",
        "FE FE FE FE 68 11 30 00 20 02 21 68 91 06 35 33 B3 35 CB 7C 82 16",
        "49.98",
    ),
    // traces of meters, as published
    (
        Asked {
            meter: "000000000161",
            item: "00010000",
            wake: 4,
            request: "FE FE FE FE 68 61 01 00 00 00 00 68 11 04 33 33 34 33 14 16",
        },
        "XXXXXX.XX",
        "68 61 01 00 00 00 00 68 91 08 33 33 34 33 59 33 33 33 8A 16",
        "0.26",
    ),
    (
        Asked {
            meter: "000000000161",
            item: "02010100",
            wake: 0,
            request: "68 61 01 00 00 00 00 68 11 04 33 34 34 35 17 16",
        },
        "XXX.X",
        "68 61 01 00 00 00 00 68 91 06 33 34 34 35 34 43 10 16",
        "100.1",
    ),
    (
        Asked {
            meter: "000102030425",
            item: "00010000",
            wake: 0,
            request: "68 25 04 03 02 01 00 68 11 04 33 33 34 33 E1 16",
        },
        "XXXXXX.XX",
        "68 25 04 03 02 01 00 68 91 08 33 33 34 33 75 39 45 33 8B 16",
        "1206.42",
    ),
    (
        Asked {
            meter: "000000000003",
            item: "B611",
            wake: 0,
            request: "68 03 00 00 00 00 00 68 01 02 44 E9 03 16",
        },
        "XXXX",
        "68 03 00 00 00 00 00 68 81 04 44 E9 33 34 EC 16",
        "100",
    ),
    (
        Asked {
            meter: "138000130754",
            item: "9010",
            wake: 0,
            request: "68 54 07 13 00 80 13 68 01 02 43 C3 DA 16",
        },
        "XXXXXX.XX",
        "68 54 07 13 00 80 13 68 81 06 43 C3 34 33 33 33 2B 16",
        "0.01",
    ),
];

const METER: &str = "000000000161";
const ENERGY: &str = "68 61 01 00 00 00 00 68 91 08 33 33 34 33 59 33 33 33 8A 16";

fn bytes(hex: &str) -> Vec<u8> {
    hex.split_whitespace().map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

fn ask(meter: &str, item: &str, wake: u8) -> Exchange {
    let version = if item.len() == 4 { Version::V1997 } else { Version::V2007 };
    let question = Question::Item(Identifier::parse(item, version).unwrap());
    Exchange::new(Address::parse(meter).unwrap(), question, wake)
}

/// The frames in `pieces`, which come one after the other.
fn frames(pieces: &[&[u8]]) -> Vec<Frame> {
    let mut decoder = Decoder::default();
    let mut frames: Vec<Frame> = pieces.iter().flat_map(|piece| decoder.decode(piece)).collect();
    frames.extend(decoder.quiet());
    frames
}

fn only(pieces: &[&[u8]]) -> Frame {
    let frames = frames(pieces);
    let [frame] = frames.as_slice() else { panic!("one frame: {frames:?}") };
    frame.clone()
}

fn value(format: &str, data: &[u8]) -> Result<String, Quality> {
    Format::parse(format).unwrap().decode(data).map(|decoded| match decoded {
        Decoded::Value(value) => value.to_string(),
        Decoded::Time(..) => panic!("no number"),
    })
}

/// The value that `exchange` makes of an answer.
#[track_caller]
fn read(exchange: &mut Exchange, frame: &Frame, format: &str) -> Result<String, Quality> {
    let progress = exchange.handle(frame);
    let Progress::Done(Answer { data, .. }) = progress else { panic!("no answer: {progress:?}") };
    value(format, &data)
}

#[test]
fn every_item_is_asked_for_and_read_as_it_was_by_others() {
    for (Asked { meter, item, wake, request }, format, response, expected) in READ {
        let mut exchange = ask(meter, item, *wake);
        assert_eq!(exchange.request(), bytes(request), "{item}");
        // its echo is not the answer
        let echo = only(&[&bytes(request)]);
        assert_eq!(exchange.handle(&echo), Progress::NotOurs(Stray::Request));
        let frame = only(&[&bytes(response)]);
        assert_eq!(read(&mut exchange, &frame, format).unwrap(), *expected, "{item}");
    }
}

#[test]
fn every_answer_may_come_in_pieces_and_amid_noise() {
    for (Asked { meter, item, wake, request }, format, response, expected) in READ {
        let response = bytes(response);
        for cut in 0..=response.len() {
            let (first, last) = response.split_at(cut);
            for noise in ["", "00", "68", "68 FE 16", "68 68 68 68 68 68 68 68", "16 16 FE FE FE"] {
                let noise = bytes(noise);
                // behind an echo, noise and a whole or cut-off copy of itself
                for pieces in [
                    vec![&noise, first, last, &noise],
                    vec![first, &noise, &response],
                    vec![&bytes(request), &noise, first, last],
                ] {
                    let mut exchange = ask(meter, item, *wake);
                    let found = frames(&pieces);
                    let mut progress = found.iter().map(|frame| exchange.handle(frame));
                    let echo = Progress::NotOurs(Stray::Request);
                    let answer = progress.find(|progress| *progress != echo);
                    let Some(Progress::Done(Answer { data, .. })) = answer else {
                        panic!("{item} cut at {cut}: {answer:?}")
                    };
                    assert_eq!(value(format, &data).unwrap(), *expected, "{item} cut at {cut}");
                }
            }
        }
    }
}

#[test]
fn no_answer_is_taken_for_that_to_another_question() {
    for (asked, (Asked { meter, item, wake, .. }, ..)) in READ.iter().enumerate() {
        for (answered, (_, _, response, _)) in READ.iter().enumerate() {
            let progress = ask(meter, item, *wake).handle(&only(&[&bytes(response)]));
            assert_eq!(matches!(progress, Progress::Done(_)), asked == answered, "{item}: {progress:?}");
        }
    }
}

#[test]
fn any_wrong_bit_of_an_answer_is_seen() {
    for (Asked { meter, item, wake, .. }, _, response, _) in READ {
        let response = bytes(response);
        let start = response.iter().position(|byte| *byte == 0x68).unwrap();
        for bit in start * 8..response.len() * 8 {
            let mut spoilt = response.clone();
            spoilt[bit / 8] ^= 1 << (bit % 8);
            for frame in frames(&[&spoilt]) {
                let progress = ask(meter, item, *wake).handle(&frame);
                assert!(!matches!(progress, Progress::Done(_)), "{item} bit {bit}");
            }
        }
    }
}

#[test]
fn a_meter_says_that_it_has_no_such_data() {
    let mut exchange = ask("210220003011", "02FFFFFF", 4);
    assert_eq!(exchange.request(), bytes("FE FE FE FE 68 11 30 00 20 02 21 68 11 04 32 32 32 35 34 16"));
    let response = only(&[&bytes("FE FE FE FE 68 11 30 00 20 02 21 68 D1 01 35 5B 16")]);
    let refusal = Refusal::Meter(ErrorWord { version: Version::V2007, bits: 0x02 });
    assert_eq!(exchange.handle(&response), Progress::Refused(refusal));
    assert_eq!(refusal.to_string(), "the meter refuses: no requested data");
    assert_eq!(refusal.quality(), Quality::BadConfig);
}

#[test]
fn a_meter_tells_its_address() {
    let mut exchange = Exchange::new(Address::ANY, Question::Address, 4);
    assert_eq!(exchange.request(), bytes("FE FE FE FE 68 AA AA AA AA AA AA 68 13 00 DF 16"));
    let response = only(&[&bytes("FE FE FE FE 68 11 30 00 20 02 21 68 93 06 44 63 33 53 35 54 A3 16")]);
    let Progress::Done(answer) = exchange.handle(&response) else { panic!("no answer") };
    let told: [u8; 6] = answer.data.try_into().unwrap();
    assert_eq!(Address::from_wire(told).to_string(), "210220003011");
    assert_eq!(answer.address.to_string(), "210220003011");
}

#[test]
fn an_answer_with_a_wrong_checksum_is_none_and_is_counted() {
    let mut decoder = Decoder::default();
    let spoilt = bytes("68 61 01 00 00 00 00 68 91 08 33 33 34 33 59 33 33 33 8B 16");
    assert_eq!(decoder.decode(&spoilt), []);
    assert_eq!(decoder.quiet(), []);
    assert_eq!(decoder.checksum_errors(), 1);
}

#[test]
fn a_stray_start_before_an_answer_is_passed_over() {
    let response = only(&[&bytes(&format!("00 68 FE FE {ENERGY}"))]);
    assert_eq!(read(&mut ask(METER, "00010000", 0), &response, "XXXXXX.XX").unwrap(), "0.26");
}

#[test]
fn the_answer_of_another_meter_is_refused() {
    let mut exchange = ask(METER, "00010000", 0);
    let other = only(&[&bytes("68 25 04 03 02 01 00 68 91 08 33 33 34 33 75 39 45 33 8B 16")]);
    assert_eq!(exchange.handle(&other), Progress::NotOurs(Stray::OtherMeter));
    assert_eq!(read(&mut exchange, &only(&[&bytes(ENERGY)]), "XXXXXX.XX").unwrap(), "0.26");
}

#[test]
fn the_answer_about_another_item_is_refused() {
    let mut exchange = ask(METER, "00010000", 0);
    let stale = only(&[&bytes("68 61 01 00 00 00 00 68 91 06 33 34 34 35 34 43 10 16")]);
    assert_eq!(exchange.handle(&stale), Progress::NotOurs(Stray::OtherItem));
    assert_eq!(read(&mut exchange, &only(&[&bytes(ENERGY)]), "XXXXXX.XX").unwrap(), "0.26");
}

#[test]
fn an_address_may_hold_start_and_end() {
    let request = "68 68 16 00 00 00 00 68 11 04 33 33 34 33 30 16";
    assert_eq!(ask("000000001668", "00010000", 0).request(), bytes(request));
    let frame = only(&[&bytes(request)]);
    assert_eq!((frame.address.to_string().as_str(), frame.control), ("000000001668", Control(0x11)));
    assert_eq!(frame.data, [0, 0, 1, 0]);
}

#[test]
fn a_voltage_of_nothing_but_ff_is_none() {
    let mut exchange = ask(METER, "02010100", 0);
    let response = only(&[&bytes("68 61 01 00 00 00 00 68 91 06 33 34 34 35 32 32 FD 16")]);
    assert_eq!(read(&mut exchange, &response, "XXX.X"), Err(Quality::BadSensorFailure));
}

#[test]
fn three_voltages_come_in_one_block() {
    // 230.5 V, nothing, 229.8 V
    let (block, _) = Identifier::parse("02010100", Version::V2007).unwrap().block().unwrap();
    let mut exchange = Exchange::new(Address::parse(METER).unwrap(), Question::Item(block), 0);
    let response = only(&[&bytes("68 61 01 00 00 00 00 68 91 0A 33 32 34 35 38 56 32 32 CB 55 AD 16")]);
    let Progress::Done(Answer { data, .. }) = exchange.handle(&response) else { panic!("no answer") };
    let values = ["02010100", "02010200", "02010300"].map(|item| {
        let (_, index) = Identifier::parse(item, Version::V2007).unwrap().block().unwrap();
        let format = Format::parse("XXX.X").unwrap();
        format.decode(crate::dlt645::item(&data, format.width(), index).unwrap())
    });
    let value = |value| Ok(Decoded::Value(Value::Double(value)));
    assert_eq!(values, [value(230.5), Err(Quality::BadSensorFailure), value(229.8)]);
}
