use proptest::prelude::*;

use super::super::floor::demo_floor;
use super::*;

/// The bytes written as hexadecimal digits, in any groups.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| *byte != b' ')
        .map(|byte| digit(byte.to_ascii_uppercase()).unwrap())
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn floor() -> Floor {
    Floor::new(demo_floor()).with_addressed("plc", [3])
}

fn on(floor: &mut Floor) -> Slave<'_> {
    Slave { floor, link: "plc", elapsed_ms: 5000, at: Timestamp::from_millis(0) }
}

/// The reply to the first request in `input`, if there is one and somebody speaks.
fn answer(floor: &mut Floor, framing: Framing, input: &mut BytesMut) -> Result<Option<Vec<u8>>, Foreign> {
    let Some(Frame { id, unit, pdu }) = take_request(framing, input)? else { return Ok(None) };
    Ok(on(floor).reply(unit, &pdu).map(|Reply { pdu, .. }| Frame { id, unit, pdu }.encode(framing)))
}

/// The replies of unit 3 to these requests in turn, "-" for none; both without framing.
#[track_caller]
fn check(exchanges: &[(&str, &str)]) {
    let mut floor = floor();
    for (request, reply) in exchanges {
        let got = on(&mut floor).reply(3, &hex(request)).map(|reply| reply.pdu);
        assert_eq!(got, (*reply != "-").then(|| hex(reply)), "{request}");
    }
}

#[test]
fn registers_and_bits_are_read() {
    check(&[("03 0004 0003", "03 06 0004 0301 0006"), ("04 0004 0001", "04 02 0004")]);
    check(&[("01 0000 000A", "01 02 49 02"), ("02 0003 0001", "02 01 01")]);
    check(&[("03 FFFF 0001", "03 02 0301")]);
}

#[test]
fn what_was_written_is_read_back() {
    check(&[
        ("06 0004 1234", "06 0004 1234"),
        ("03 0004 0001", "03 02 1234"),
        ("04 0004 0001", "04 02 0004"),
    ]);
    check(&[
        ("05 0001 FF00", "05 0001 FF00"),
        ("05 0000 0000", "05 0000 0000"),
        ("01 0000 0003", "01 01 02"),
    ]);
    check(&[("0F 0001 000A 02 FF 03", "0F 0001 000A"), ("01 0000 0010", "01 02 FF 97")]);
    check(&[("10 0002 0002 04 AABB CCDD", "10 0002 0002"), ("03 0001 0004", "03 08 0301 AABB CCDD 0004")]);
    // the example of Modbus V1.1b3, 6.16
    check(&[
        ("06 0004 0012", "06 0004 0012"),
        ("16 0004 00F2 0025", "16 0004 00F2 0025"),
        ("03 0004 0001", "03 02 0017"),
    ]);
    check(&[("17 0002 0003 0003 0001 02 BEEF", "17 06 0002 BEEF 0004")]);
}

#[test]
fn what_cannot_be_served_is_refused() {
    check(&[
        ("03 0000 0000", "83 03"),
        ("03 0000 007E", "83 03"),
        ("01 0000 07D1", "81 03"),
        ("03 FFFF 0002", "83 02"),
    ]);
    check(&[
        ("03 0000 00", "83 03"),
        ("03", "83 03"),
        ("07", "87 01"),
        ("64 00", "E4 01"),
        ("83 00", "83 01"),
    ]);
    check(&[("05 0000 0001", "85 03"), ("05 0000 FF", "85 03")]);
    check(&[("0F 0000 0009 01 00", "8F 03"), ("0F 0000 0008 01", "8F 03"), ("0F FFFF 0002 01 00", "8F 02")]);
    check(&[
        ("10 0000 0002 02 0000", "90 03"),
        ("10 0000 0000 00", "90 03"),
        ("10 FFFF 0002 04 0000 0000", "90 02"),
    ]);
    check(&[("17 0000 0000 0000 0001 02 0000", "97 03"), ("17 FFFF 0002 0000 0001 02 BEEF", "97 02")]);
    check(&[("17 FFFF 0002 0000 0001 02 BEEF", "97 02"), ("03 0000 0001", "03 02 0000")]);
}

#[test]
fn a_device_says_what_it_is() {
    let all = "2B 0E 01 81 00 00 03 00 08 5469646567617465 01 09 73696D756C61746564 02 03 312E30";
    check(&[("2B 0E 01 00", all), ("2B 0E 01 09", all)]);
    check(&[("2B 0E 03 02", "2B 0E 03 81 00 00 01 02 03 312E30")]);
    check(&[("2B 0E 04 02", "2B 0E 04 81 00 00 01 02 03 312E30"), ("2B 0E 04 03", "AB 02")]);
    check(&[("2B 0E 05 00", "AB 03"), ("2B 0E 01", "AB 03"), ("2B 0D 01 00", "AB 01"), ("2B", "AB 03")]);
}

#[test]
fn a_broadcast_is_obeyed_by_all_and_answered_by_none() {
    let mut floor = floor();
    assert_eq!(on(&mut floor).reply(0, &hex("06 0200 0009")), None);
    for unit in [1, 2, 3] {
        assert_eq!(on(&mut floor).reply(unit, &hex("03 0200 0001")).unwrap().pdu, hex("03 02 0009"));
    }
    assert_eq!(on(&mut floor).reply(9, &hex("03 0200 0001")), None);
}

/// The reply of the floor to these bytes, what is left of them, in this framing.
#[track_caller]
fn check_bytes(framing: Framing, input: &[u8], reply: Result<Option<&[u8]>, Foreign>, left: &[u8]) {
    let mut floor = floor();
    let mut input = BytesMut::from(input);
    let got = answer(&mut floor, framing, &mut input);
    assert_eq!(got.as_ref().map(Option::as_deref), reply.as_ref().map(|reply| *reply));
    assert_eq!(input, left);
}

#[test]
fn a_request_over_tcp_gets_its_reply() {
    let reply = hex("0009 0000 0005 03 03 02 0004");
    check_bytes(Framing::Tcp, &hex("0009 0000 0006 03 03 0004 0001 00"), Ok(Some(&reply)), &[0]);
    check_bytes(Framing::Tcp, &hex("0009 0000 0006 07 03 0004 0001"), Ok(None), &[]);
    check_bytes(
        Framing::Tcp,
        &hex("0009 0000 0006 03 03 0004 00"),
        Ok(None),
        &hex("0009 0000 0006 03 03 0004 00"),
    );
    check_bytes(Framing::Tcp, &hex("0009 0001"), Err(Foreign), &hex("0009 0001"));
    check_bytes(Framing::Tcp, &hex("0009 0000 0001 03"), Err(Foreign), &hex("0009 0000 0001 03"));
    check_bytes(Framing::Tcp, &hex("0009 0000 00FF 03"), Err(Foreign), &hex("0009 0000 00FF 03"));
}

#[test]
fn a_request_over_rtu_gets_its_reply_also_after_noise() {
    // the first is the check of every CRC page: 01 03 00 00 00 0A C5 CD
    assert_eq!(crc(&hex("01 03 0000 000A")).to_le_bytes(), [0xC5, 0xCD]);
    let reply = hex("03 03 02 0004 C047");
    let request = hex("03 03 0004 0001 C429");
    check_bytes(Framing::Rtu, &request, Ok(Some(&reply)), &[]);
    check_bytes(Framing::Rtu, &[&[0xFF, 0], &request[..], &[5]].concat(), Ok(Some(&reply)), &[5]);
    check_bytes(Framing::Rtu, &request[..7], Ok(None), &request[..7]);
    let unknown = Frame { id: 0, unit: 3, pdu: vec![0x65, 1, 2, 3] }.encode(Framing::Rtu);
    let refusal = Frame { id: 0, unit: 3, pdu: vec![0xE5, 1] }.encode(Framing::Rtu);
    check_bytes(Framing::Rtu, &unknown, Ok(Some(&refusal)), &[]);
}

#[test]
fn a_request_in_ascii_gets_its_reply_also_after_noise() {
    check_bytes(Framing::Ascii, b":030300040001F5\r\n", Ok(Some(b":0303020004F4\r\n")), b"");
    check_bytes(Framing::Ascii, b"x\r\n:03:030300040001F5\r\n:", Ok(Some(b":0303020004F4\r\n")), b":");
    check_bytes(Framing::Ascii, b":030300040001F4\r\n:0303", Ok(None), b":0303");
    check_bytes(Framing::Ascii, b":030300040001f5\r\n", Ok(None), b"");
    check_bytes(Framing::Ascii, b":030300040001F5\n", Ok(None), b":030300040001F5\n");
    check_bytes(Framing::Ascii, b":F\r\n:\r\n:00\r\n", Ok(None), b"");
    check_bytes(Framing::Ascii, &[b':'; 600], Ok(None), b"");
}

fn framings() -> impl Strategy<Value = Framing> {
    prop_oneof![Just(Framing::Tcp), Just(Framing::Rtu), Just(Framing::Ascii)]
}

/// Requests whose length their function tells, well formed or not.
fn requests() -> impl Strategy<Value = Frame> {
    let short = (1..=6_u8, any::<[u8; 4]>()).prop_map(|(function, data)| [&[function], &data[..]].concat());
    let write = (15..=16_u8, any::<[u8; 4]>(), prop::collection::vec(any::<u8>(), 0..=246)).prop_map(
        |(function, head, data)| {
            [&[function], &head[..], &[u8::try_from(data.len()).unwrap()], &data].concat()
        },
    );
    (any::<u8>(), prop_oneof![short, write]).prop_map(|(unit, pdu)| Frame { id: 0, unit, pdu })
}

proptest! {
    #[test]
    fn any_bytes_are_borne(bytes: Vec<u8>, framing in framings()) {
        let mut floor = floor();
        let mut input = BytesMut::from(&bytes[..]);
        while !input.is_empty() {
            let before = input.len();
            let got = answer(&mut floor, framing, &mut input);
            if got.is_err() || input.len() == before {
                break;
            }
        }
    }

    #[test]
    fn any_pdu_is_answered(pdu in prop::collection::vec(any::<u8>(), 1..=253)) {
        let reply = on(&mut floor()).reply(3, &pdu).unwrap().pdu;
        prop_assert!(reply.len() <= 253);
        prop_assert!(reply[0] == pdu[0] || reply[0] == pdu[0] | 0x80);
    }

    #[test]
    fn requests_are_found_however_they_are_cut(
        frames in prop::collection::vec(requests(), 1..5),
        size in 1..300_usize,
        framing in framings(),
    ) {
        let bytes: Vec<u8> = frames.iter().flat_map(|frame| frame.encode(framing)).collect();
        let mut input = BytesMut::new();
        let mut found = Vec::new();
        for piece in bytes.chunks(size) {
            input.extend_from_slice(piece);
            while let Some(frame) = take_request(framing, &mut input).unwrap() {
                found.push(frame);
            }
        }
        prop_assert_eq!(found, frames);
    }
}
