//! Frames of manuals and of the specification: every request is encoded so, every answer decoded so, on each framing.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use tidegate::config::site::{Echo, Framing};
use tidegate::driver::Answer;
use tidegate::driver::modbus::conversation::{Call, Conversation};
use tidegate::driver::modbus::transaction::Tolerance;
use tidegate::tag::UnitId;
use tokio_modbus::prelude::ReadCode;
use tokio_modbus::{ExceptionCode, Request, Response};

const FRAMES: &str = include_str!("frames.txt");
const FRAMINGS: [Framing; 3] = [Framing::Rtu, Framing::Ascii, Framing::Tcp];

/// The bytes of each frame by its name, for RTU, ASCII and TCP.
fn frames() -> BTreeMap<&'static str, [Vec<u8>; 3]> {
    let hex = |text: &str| -> Vec<u8> {
        text.split_whitespace().map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    };
    let lines = FRAMES.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let fields: Vec<&str> = line.split(" | ").collect();
            let [name, rtu, ascii, tcp] = fields[..] else { panic!("four fields: {line}") };
            (name, [hex(rtu), format!("{ascii}\r\n").into_bytes(), hex(tcp)])
        })
        .collect()
}

/// The request that each frame asks, or answers.
fn request(name: &str) -> (u8, Request<'static>) {
    use Request::*;
    let words = |words: &'static [u16]| Cow::Borrowed(words);
    const COILS: &[bool] = &[true, false, true, true, false, false, true, true, true, false];
    let request = match name.rsplit_once('_').map_or(name, |(stem, _)| stem.trim_end_matches("_answer")) {
        "fc03_delta_frequency" => ReadHoldingRegisters(0x2102, 2),
        "fc04_xymd02" => ReadInputRegisters(1, 2),
        "fc04_sdm630_v" => ReadInputRegisters(0, 6),
        "fc03_dtsu666_v" => ReadHoldingRegisters(0x2006, 6),
        "fc03_iem3000_energy_i64" => ReadHoldingRegisters(0x0C83, 4),
        "fc01" => ReadCoils(19, 19),
        "fc02" => ReadDiscreteInputs(196, 22),
        "fc05_on" => WriteSingleCoil(172, true),
        "fc06" => WriteSingleRegister(13, 6000),
        "fc15" => WriteMultipleCoils(19, Cow::Borrowed(COILS)),
        "fc16" => WriteMultipleRegisters(1, words(&[1, 5000])),
        "fc22" => MaskWriteRegister(4, 0xF2, 0x25),
        "fc23" => ReadWriteMultipleRegisters(3, 6, 14, words(&[255, 255, 255])),
        "fc43_14_request" | "fc43_14" => ReadDeviceIdentification(ReadCode::Basic, 0),
        _ if name.starts_with("exc_") => ReadHoldingRegisters(0, 1),
        other => panic!("{other}: which request is that?"),
    };
    (if name.starts_with("fc06") { 5 } else { 1 }, request)
}

/// A conversation in which `request` is outstanding with transaction id 1, and the bytes that were sent.
fn ask(framing: Framing, unit: u8, request: Request<'static>) -> (Conversation, Vec<u8>) {
    let mut conversation = Conversation::new(framing, Echo::No, 1, Default::default());
    let second = Duration::from_secs(1);
    let call = Call {
        ticket: 0,
        unit: UnitId(unit),
        request,
        tolerance: Tolerance::default(),
        timeout: second,
        timeout_max: second,
        counters: Default::default(),
    };
    let sent = conversation.begin(call, Duration::ZERO, tidegate::clock::monotonic()).unwrap().to_vec();
    (conversation, sent)
}

#[test]
fn every_request_has_the_bytes_of_the_manual_on_each_framing() {
    let frames = frames();
    let requests: Vec<_> = frames.iter().filter(|(name, _)| name.contains("_request")).collect();
    assert_eq!(requests.len(), 14);
    for (name, frame) in requests {
        let (unit, request) = request(name);
        for (framing, bytes) in FRAMINGS.into_iter().zip(frame) {
            assert_eq!(&ask(framing, unit, request.clone()).1, bytes, "{name} {framing:?}");
        }
    }
}

/// What the answer of a frame says.
fn expected(name: &str) -> Answer {
    use Response::*;
    let exception = |code| Answer::Exception(ExceptionCode::new(code));
    Answer::Response(match name {
        "fc03_delta_frequency_answer" => ReadHoldingRegisters(vec![6000, 0]),
        "fc04_xymd02_answer" => ReadInputRegisters(vec![305, 546]),
        "fc04_xymd02_answer_negative" => ReadInputRegisters(vec![0xFF33, 546]),
        "fc04_sdm630_v_answer" => ReadInputRegisters(vec![0x4366, 0x8000, 0x4365, 0xC000, 0x4367, 0x4000]),
        "fc03_dtsu666_v_answer" => ReadHoldingRegisters(vec![0x4510, 0x1000, 0x450F, 0x9000, 0x4510, 0x8000]),
        "fc03_iem3000_energy_i64_answer" => ReadHoldingRegisters(vec![0, 0, 0x075B, 0xCD15]),
        "fc01_answer" => ReadCoils(
            [0xCD, 0x6B, 0x05]
                .iter()
                .flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1))
                .take(19)
                .collect(),
        ),
        other => return exception(u8::from_str_radix(&other[4..6], 16).unwrap()),
    })
}

#[test]
fn every_answer_is_understood_alike_on_each_framing_and_in_any_two_pieces() {
    let frames = frames();
    let answers = frames.iter().filter(|(name, _)| !name.contains("_request") && !name.starts_with("fc43"));
    let mut count = 0;
    for (name, frame) in answers {
        let (unit, request) = request(name);
        for (framing, bytes) in FRAMINGS.into_iter().zip(frame) {
            for cut in 0..bytes.len() {
                let (mut conversation, _) = ask(framing, unit, request.clone());
                let now = tidegate::clock::monotonic();
                conversation.buffer().extend_from_slice(&bytes[..cut]);
                assert!(conversation.take(now).unwrap().is_none(), "{name} {framing:?} cut at {cut}");
                conversation.buffer().extend_from_slice(&bytes[cut..]);
                let done = conversation.take(now).unwrap().expect("an end");
                assert_eq!(done.result.unwrap(), expected(name), "{name} {framing:?} cut at {cut}");
                assert!(conversation.buffer().is_empty());
            }
        }
        count += 1;
    }
    assert_eq!(count, 16);
}

#[test]
fn a_device_says_who_it_is_on_each_framing() {
    for (framing, bytes) in FRAMINGS.into_iter().zip(&frames()["fc43_14_answer"]) {
        let (mut conversation, _) = ask(framing, 1, Request::ReadDeviceIdentification(ReadCode::Basic, 0));
        conversation.buffer().extend_from_slice(bytes);
        let done = conversation.take(tidegate::clock::monotonic()).unwrap().expect("an end");
        let Answer::Response(Response::ReadDeviceIdentification(identification)) = done.result.unwrap()
        else {
            panic!("{framing:?}: no identification")
        };
        let texts: Vec<&[u8]> = identification
            .device_id_objects
            .iter()
            .map(|object| object.value_as_str().unwrap().as_bytes())
            .collect();
        assert_eq!(texts, [&b"Vendor"[..], b"PC-1", b"V1.2"]);
    }
}

/// The echoes of writes are their answers: each is taken, and one that differs in a single bit is not.
#[test]
fn a_write_is_answered_by_what_it_said_and_by_nothing_else() {
    let frames = frames();
    for name in ["fc05_on_request", "fc06_request", "fc22_request"] {
        let (unit, request) = request(name);
        for (framing, bytes) in FRAMINGS.into_iter().zip(&frames[name]) {
            let (mut conversation, _) = ask(framing, unit, request.clone());
            conversation.buffer().extend_from_slice(bytes);
            let done = conversation.take(tidegate::clock::monotonic()).unwrap().expect("an end");
            assert!(done.result.is_ok(), "{name} {framing:?}");
        }
        let mut other = frames[name][2].clone();
        *other.last_mut().unwrap() ^= 1;
        let (mut conversation, _) = ask(Framing::Tcp, unit, request);
        conversation.buffer().extend_from_slice(&other);
        let done = conversation.take(tidegate::clock::monotonic()).unwrap().expect("an end");
        assert!(done.result.is_err(), "{name}: another value");
    }
}
