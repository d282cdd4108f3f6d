use super::super::floor::{Digits, Item, Mark, Motion, Truth};
use super::*;
use crate::config::site::{Parity, SerialLine};

const AT: Timestamp = Timestamp::from_millis(7);

fn bytes(hex: &str) -> Vec<u8> {
    hex.split_whitespace().map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(" ")
}

/// The only frame in these bytes.
fn frame(hex: &str) -> Frame {
    let mut input = BytesMut::from(bytes(hex).as_slice());
    let frame = take_frame(&mut input).unwrap();
    assert_eq!(input.len(), 0, "{hex}");
    frame
}

fn meter(address: u64, standard: Standard, items: &[(u32, u8, u8, bool, f64)]) -> Meter {
    let item = |(identifier, count, decimals, is_signed, value): &(u32, u8, u8, bool, f64)| {
        let digits = Digits { count: *count, decimals: *decimals, is_signed: *is_signed };
        Item::new(&format!("{identifier:X}"), *identifier, digits, Motion::fixed(*value))
    };
    Meter {
        name: "m".into(),
        link: "l".into(),
        address,
        standard,
        line: SerialLine { baud: 2400, data_bits: 8, parity: Parity::Even, stop_bits: 1 },
        part_max: 195,
        items: items.iter().map(item).collect(),
    }
}

/// The meter that the frames of a server that others have written come from.
fn known() -> Meter {
    meter(
        210_220_003_011,
        Standard::Of2007,
        &[
            (0x0001_0000, 8, 2, false, 1206.42),
            (0x0002_0000, 8, 2, false, 0.03),
            (0x0201_0100, 4, 1, false, 230.5),
            (0x0202_0100, 6, 3, true, 5.123),
            (0x0203_0000, 6, 4, true, -1.2345),
            (0x0206_0000, 4, 3, true, 0.985),
            (0x0280_0002, 4, 2, false, 49.98),
        ],
    )
}

/// What is replied to a request, both on the wire and without wake-up bytes; nothing for silence.
#[track_caller]
fn check(metering: &mut Metering, meter: &Meter, request: &str, reply: &str) {
    let got = metering.reply(meter, &frame(request), 0, AT).map(|reply| hex(&reply.frame.encode()));
    assert_eq!(got.unwrap_or_default(), reply, "{request}");
}

#[test]
fn frames_are_those_of_servers_and_meters_that_others_have_made() {
    let (mut metering, meter) = (Metering::default(), known());
    for (request, reply) in [
        (
            "68 11 30 00 20 02 21 68 11 04 33 33 34 33 36 16",
            "68 11 30 00 20 02 21 68 91 08 33 33 34 33 75 39 45 33 E0 16",
        ),
        (
            "68 11 30 00 20 02 21 68 11 04 33 33 35 33 37 16",
            "68 11 30 00 20 02 21 68 91 08 33 33 35 33 36 33 33 33 8A 16",
        ),
        (
            "68 11 30 00 20 02 21 68 11 04 33 34 34 35 39 16",
            "68 11 30 00 20 02 21 68 91 06 33 34 34 35 38 56 49 16",
        ),
        (
            "68 11 30 00 20 02 21 68 11 04 33 34 35 35 3A 16",
            "68 11 30 00 20 02 21 68 91 07 33 34 35 35 56 84 33 CA 16",
        ),
        (
            "68 11 30 00 20 02 21 68 11 04 33 33 36 35 3A 16",
            "68 11 30 00 20 02 21 68 91 07 33 33 36 35 78 56 B4 3F 16",
        ),
        (
            "68 11 30 00 20 02 21 68 11 04 33 33 39 35 3D 16",
            "68 11 30 00 20 02 21 68 91 06 33 33 39 35 B8 3C B3 16",
        ),
        (
            "68 11 30 00 20 02 21 68 11 04 35 33 B3 35 B9 16",
            "68 11 30 00 20 02 21 68 91 06 35 33 B3 35 CB 7C 82 16",
        ),
        // there is no 02FFFFFE
        ("68 11 30 00 20 02 21 68 11 04 31 32 32 35 33 16", "68 11 30 00 20 02 21 68 D1 01 35 5B 16"),
        ("68 AA AA AA AA AA AA 68 13 00 DF 16", "68 11 30 00 20 02 21 68 93 06 44 63 33 53 35 54 A3 16"),
    ] {
        check(&mut metering, &meter, request, reply);
    }
    let meter = self::meter(3, Standard::Of1997, &[(0xB611, 4, 0, false, 100.0)]);
    check(
        &mut metering,
        &meter,
        "68 03 00 00 00 00 00 68 01 02 44 E9 03 16",
        "68 03 00 00 00 00 00 68 81 04 44 E9 33 34 EC 16",
    );
}

fn ask(address: &str, control: u8, data: &str) -> Frame {
    Frame { address: bytes(address).try_into().unwrap(), control, data: bytes(data) }
}

/// The control code and the data of a reply, and how many items are whole with it.
fn told(metering: &mut Metering, meter: &Meter, request: &Frame) -> Option<(u8, String, usize)> {
    let reply = metering.reply(meter, request, 0, AT)?;
    Some((reply.frame.control, hex(&reply.frame.data), reply.served.len()))
}

#[test]
fn a_long_answer_comes_in_numbered_parts_and_counts_as_served_with_the_last() {
    let items = [0_u32, 1, 2, 3, 4]
        .map(|tariff| (0x0001_0000 + tariff * 0x100, 4, 0, false, f64::from(tariff) + 10.0));
    let (mut metering, mut meter) = (Metering::default(), meter(1, Standard::Of2007, &items));
    meter.part_max = 4;
    let own = "01 00 00 00 00 00";
    let mut told = |control, data| told(&mut metering, &meter, &ask(own, control, data));
    assert_eq!(told(0x12, "00 FF 01 00 01"), Some((0xD2, "02".into(), 0)), "nothing was begun");
    assert_eq!(told(0x11, "00 FF 01 00"), Some((0xB1, "00 FF 01 00 10 00 11 00".into(), 0)));
    assert_eq!(told(0x12, "00 FF 01 00 01"), Some((0xB2, "00 FF 01 00 12 00 13 00 01".into(), 0)));
    assert_eq!(told(0x12, "00 FF 01 00 01"), Some((0xB2, "00 FF 01 00 12 00 13 00 01".into(), 0)), "again");
    assert_eq!(told(0x12, "00 FF 01 00 02"), Some((0x92, "00 FF 01 00 14 00 02".into(), 5)));
    assert_eq!(told(0x12, "00 FF 01 00 03"), Some((0xD2, "02".into(), 0)), "there is no such part");
    assert_eq!(told(0x12, "00 00 01 00 01"), Some((0xD2, "02".into(), 0)), "another item was begun");
    assert_eq!(told(0x11, "00 02 01 00"), Some((0x91, "00 02 01 00 12 00".into(), 1)));
}

#[test]
fn a_long_answer_of_1997_comes_in_parts_without_a_number() {
    let items = [0_u32, 1, 2].map(|tariff| (0x9010 + tariff, 4, 0, false, f64::from(tariff) + 10.0));
    let (mut metering, mut meter) = (Metering::default(), meter(1, Standard::Of1997, &items));
    meter.part_max = 2;
    let own = "01 00 00 00 00 00";
    let mut told = |control, data| told(&mut metering, &meter, &ask(own, control, data));
    assert_eq!(told(0x01, "1F 90"), Some((0xA1, "1F 90 10 00".into(), 0)));
    assert_eq!(told(0x02, "1F 90"), Some((0xA2, "1F 90 11 00".into(), 0)));
    assert_eq!(told(0x02, "1F 90"), Some((0x82, "1F 90 12 00".into(), 3)));
    assert_eq!(told(0x02, "1F 90"), Some((0xC2, "02".into(), 0)));
    assert_eq!(told(0x01, "20 90"), Some((0xC1, "02".into(), 0)));
}

#[test]
fn the_parts_of_an_answer_are_of_one_moment() {
    let mut meter = meter(1, Standard::Of2007, &[(0x0001_0000, 4, 0, false, 0.0)]);
    meter.part_max = 1;
    for item in &mut meter.items {
        item.motion = Motion::Ramp { start: 1234, step: 1000 };
    }
    let mut metering = Metering::default();
    let own = "01 00 00 00 00 00";
    let first = metering.reply(&meter, &ask(own, 0x11, "00 00 01 00"), 0, AT).unwrap();
    assert_eq!(hex(&first.frame.data), "00 00 01 00 34");
    let rest =
        metering.reply(&meter, &ask(own, 0x12, "00 00 01 00 01"), 1000, Timestamp::from_millis(8)).unwrap();
    assert_eq!(hex(&rest.frame.data), "00 00 01 00 12 01");
    assert_eq!(rest.served[0].1, Served { at: AT, truth: Truth::Integer(1234), mark: Mark::Plain });
}

#[test]
fn a_meter_answers_what_is_for_it_and_nothing_else() {
    let (mut metering, meter) = (Metering::default(), known());
    let mut told = |address: &str, control, data: &str| {
        told(&mut metering, &meter, &ask(address, control, data)).map(|(control, ..)| control)
    };
    let (item, own) = ("02 00 80 02", "11 30 00 20 02 21");
    assert_eq!(told(own, 0x11, item), Some(0x91));
    assert_eq!(told("AA AA AA AA AA AA", 0x11, item), Some(0x91));
    assert_eq!(told("11 30 AA AA AA AA", 0x11, item), Some(0x91), "a shortened address");
    assert_eq!(told("12 30 AA AA AA AA", 0x11, item), None);
    assert_eq!(told("11 30 00 20 02 22", 0x11, item), None);
    assert_eq!(told("99 99 99 99 99 99", 0x11, item), None);
    assert_eq!(told("99 99 99 99 99 99", 0x08, "00 00 12 27 11 26"), None, "the time for all");
    assert_eq!(told(own, 0x08, "00 00 12 27 11 26"), None);
    assert_eq!(told(own, 0x01, "11 B6"), None, "a question of 1997");
    assert_eq!(told(own, 0x11, "02 00 80"), None);
    assert_eq!(told(own, 0x13, ""), Some(0x93));
    assert_eq!(told(own, 0x91, item), None, "a reply");
    let meter = self::meter(1, Standard::Of1997, &[]);
    assert_eq!(Metering::default().reply(&meter, &ask("AA AA AA AA AA AA", 0x13, ""), 0, AT), None);
}

#[test]
fn frames_are_found_among_other_bytes() {
    let request = "68 11 30 00 20 02 21 68 11 04 33 33 34 33 36 16";
    let wanted = frame(request);
    for before in
        ["FE FE FE FE", "68", "68 00 68 16", "68 11 30 00 20 02 21 68 11 C9", "01 03 00 00 00 02 C4 0B"]
    {
        assert_eq!(frame(&format!("{before} {request}")), wanted, "{before}");
    }
    let all = bytes(request);
    for cut in 0..all.len() {
        let mut input = BytesMut::from(&all[..cut]);
        assert_eq!(take_frame(&mut input), None, "cut at {cut}");
        input.extend_from_slice(&all[cut..]);
        assert_eq!(take_frame(&mut input).as_ref(), Some(&wanted), "cut at {cut}");
    }
    for spoilt in [request.replace("36 16", "37 16"), request.replace("36 16", "36 17")] {
        let mut input = BytesMut::from(bytes(&spoilt).as_slice());
        assert_eq!(take_frame(&mut input), None);
        assert_eq!(input.len(), 0, "{spoilt}");
    }
}

#[test]
fn answers_at_once_pull_the_line_low() {
    assert_eq!(collide(&[vec![0x68, 0x11, 0xFF], vec![0x68, 0x12]]), [0x68, 0x10, 0xFF]);
    assert_eq!(collide(&[vec![1, 2]]), [1, 2]);
    assert_eq!(collide(&[]), [0_u8; 0]);
}

#[test]
fn the_time_is_heard_by_all_meters_and_answered_by_none() {
    let (mut metering, old) = (Metering::default(), meter(3, Standard::Of1997, &[]));
    let time = "68 99 99 99 99 99 99 68 08 06 43 3C 3B 5A 44 59 25 16";
    for meter in [&known(), &old] {
        check(&mut metering, meter, time, "");
        // five bytes are no time, and one meter alone is not told
        check(&mut metering, meter, "68 99 99 99 99 99 99 68 08 05 43 3C 3B 5A 44 CB 16", "");
        check(&mut metering, meter, "68 03 00 00 00 00 00 68 08 06 43 3C 3B 5A 44 59 92 16", "");
    }
    assert_eq!([210_220_003_011, 3, 4].map(|address| metering.told(address)), [1, 1, 0]);
}
