//! Frames of the instruments that `docs` and the library describe, in noise, cut anywhere, too long, too late.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::check;
use super::*;
use crate::config::site::serial::{Check, CheckForm, CheckKind};

const YAOHUA: &[u8] = b"\x02+00200021B\x03";
const TOLEDO: &[u8] = b"\x02,1   1234   100\x0Dy";
const WATER: &[u8] = &[
    0x68, 0x10, 0x44, 0x33, 0x22, 0x11, 0x00, 0x33, 0x78, 0x81, 0x16, 0x1F, 0x90, 0x00, 0x00, 0x77, 0x66,
    0x55, 0x2C, 0x00, 0x77, 0x66, 0x55, 0x2C, 0x31, 0x01, 0x22, 0x11, 0x05, 0x15, 0x20, 0x21, 0x84, 0x13,
    0x16,
];
const DRIVE: &[u8] = &[0x01, 0x04, 0x03, 0x01, 0x13, 0x88, 0xAC, 0xD8];
const FX: &[u8] = b"\x02D204\x03DD";

/// Fixed length, start and end, two digits of checksum.
fn yaohua() -> FrameRule {
    FrameRule {
        start: vec![0x02],
        ends: vec![vec![0x03]],
        length: Some(Length::Fixed(12)),
        check: Some(Check { kind: CheckKind::Xor8, over: (1, 8), at: 9, form: CheckForm::Hex }),
        ..FrameRule::default()
    }
}

/// Fixed length, a start, seven bits of checksum.
fn toledo() -> FrameRule {
    FrameRule {
        start: vec![0x02],
        length: Some(Length::Fixed(18)),
        check: Some(Check { kind: CheckKind::Sum7Neg, over: (0, -2), at: -1, form: CheckForm::LowFirst }),
        ..FrameRule::default()
    }
}

/// Fill bytes, a start, a length byte, an end.
fn water() -> FrameRule {
    FrameRule {
        skip: Some(0xFE),
        start: vec![0x68],
        ends: vec![vec![0x16]],
        length: Some(Length::Field { at: 10, add: 13, is_wide: false, is_low_first: false }),
        check: Some(Check { kind: CheckKind::Sum8, over: (0, -3), at: -2, form: CheckForm::LowFirst }),
        ..FrameRule::default()
    }
}

/// Neither start nor end: a length byte and a CRC.
fn drive() -> FrameRule {
    FrameRule {
        length: Some(Length::Field { at: 2, add: 5, is_wide: false, is_low_first: false }),
        check: Some(Check { kind: CheckKind::Crc16Modbus, over: (0, -3), at: -2, form: CheckForm::LowFirst }),
        ..FrameRule::default()
    }
}

/// Start and end, two digits behind the end, a byte that says no.
fn fx() -> FrameRule {
    FrameRule {
        start: vec![0x02],
        ends: vec![vec![0x03]],
        trailer: 2,
        nak: vec![0x15],
        check: Some(Check { kind: CheckKind::Sum8, over: (1, -3), at: -2, form: CheckForm::Hex }),
        ..FrameRule::default()
    }
}

fn lines() -> FrameRule {
    FrameRule { ends: vec![b"\r\n".to_vec()], max: 64, ..FrameRule::default() }
}

/// Whatever a barcode reader is set to send behind a code, or nothing.
fn barcode() -> FrameRule {
    let ends = [b"\r\n".as_slice(), b"\r", b"\n", b"\t"].map(<[u8]>::to_vec).to_vec();
    FrameRule { ends, idle: Some(Duration::from_millis(50)), max: 16, ..FrameRule::default() }
}

/// `=0003.000=-0001.00`: the next start is the end.
fn equals() -> FrameRule {
    FrameRule { start: b"=".to_vec(), max: 12, ..FrameRule::default() }
}

fn start() -> Instant {
    crate::clock::monotonic()
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The bodies of all frames that can be taken now.
fn bodies(framer: &mut Framer) -> Vec<Vec<u8>> {
    let frames = std::iter::from_fn(|| framer.next_frame());
    frames.map(|frame| frame.bytes[frame.body.clone()].to_vec()).collect()
}

/// Pushes `parts`, each `gap` after the one before, and lets every silence tell.
fn run(rule: &FrameRule, parts: &[&[u8]], gap: Duration) -> (Vec<Vec<u8>>, Counts) {
    let (mut framer, mut now, mut found) = (Framer::new(rule), start(), Vec::new());
    for part in parts {
        framer.push(part, now);
        found.extend(bodies(&mut framer));
        now += gap;
    }
    while let Some(due) = framer.next_due() {
        framer.handle_quiet(due);
        found.extend(bodies(&mut framer));
    }
    (found, framer.counts())
}

#[track_caller]
fn check(rule: &FrameRule, parts: &[&[u8]], expected: &[&[u8]], noise: u64, spoilt: u64, too_long: u64) {
    let (found, counts) = run(rule, parts, ms(1));
    assert_eq!(found, expected, "{counts:?}");
    let frames = expected.len().try_into().unwrap();
    assert_eq!(counts, Counts { frames, noise, spoilt, too_long });
}

#[test]
fn a_frame_is_what_stands_between_start_and_end() {
    check(&yaohua(), &[YAOHUA], &[b"+00200021B"], 0, 0, 0);
    check(&toledo(), &[TOLEDO], &[&TOLEDO[1..]], 0, 0, 0);
    check(&water(), &[WATER], &[&WATER[1..34]], 0, 0, 0);
    check(&drive(), &[DRIVE], &[DRIVE], 0, 0, 0);
    check(&fx(), &[FX], &[b"D204"], 0, 0, 0);
    check(&lines(), &[b"ES\r\n"], &[b"ES"], 0, 0, 0);
}

#[test]
fn what_a_stream_begins_with_may_be_the_rest_of_a_frame() {
    for (rule, quiet) in [(lines(), 20), (barcode(), 50)] {
        let mut framer = Framer::new(&rule);
        let mut now = start();
        framer.push(b"12", now);
        assert!(bodies(&mut framer).is_empty());
        // it is opened again amid another frame
        framer.restart(now);
        now += ms(5);
        framer.push(b"3.4\r\n", now);
        assert!(bodies(&mut framer).is_empty(), "neither 123.4 nor 3.4");
        framer.push(b"56.7\r\n", now);
        assert_eq!(bodies(&mut framer), [b"56.7"]);
        // after a silence a frame is whole
        framer.restart(now);
        framer.push(b"89\r\n", now + ms(quiet));
        assert_eq!(bodies(&mut framer), [b"89"]);
    }
    // what is marked is found at once
    let mut framer = Framer::new(&yaohua());
    framer.restart(start());
    framer.push(&[b"0021B\x03", YAOHUA].concat(), start() + ms(1));
    assert_eq!(bodies(&mut framer), [b"+00200021B"]);
}

#[test]
fn fill_bytes_before_a_frame_count_for_nothing() {
    check(&water(), &[&[0xFE; 4], WATER, &[0xFE; 2], WATER], &[&WATER[1..34]; 2], 0, 0, 0);
}

#[test]
fn frames_cut_at_every_byte_are_whole_again() {
    for (rule, frame) in [
        (yaohua(), YAOHUA),
        (toledo(), TOLEDO),
        (water(), WATER),
        (drive(), DRIVE),
        (fx(), FX),
        (lines(), b"ES\r\n"),
    ] {
        let whole = run(&rule, &[frame], ms(1));
        for cut in 0..=frame.len() {
            assert_eq!(run(&rule, &[&frame[..cut], &frame[cut..]], ms(1)), whole, "cut at {cut}");
            let (found, _) = run(&rule, &[&frame[..cut]], ms(1));
            assert_eq!(found.is_empty(), cut < frame.len(), "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = frame.chunks(1).collect();
        assert_eq!(run(&rule, &bytes, ms(1)), whole);
    }
}

#[test]
fn noise_before_between_and_after_is_dropped_and_counted() {
    let noise: &[u8] = &[0x00, 0x02, 0xFF, 0x68];
    for (rule, frame) in [(yaohua(), YAOHUA), (toledo(), TOLEDO), (water(), WATER), (fx(), FX)] {
        let (one, _) = run(&rule, &[frame], ms(1));
        let (found, counts) = run(&rule, &[noise, frame, noise, frame, noise, &[0; 300]], ms(1));
        assert_eq!(found, [one.clone(), one].concat());
        // of what follows the last start some may still wait for more
        assert!((8..=312).contains(&counts.noise), "{counts:?}");
    }
}

#[test]
fn a_frame_with_a_wrong_checksum_is_dropped_and_the_next_one_found() {
    let spoil = |frame: &[u8], at: usize| {
        let mut frame = frame.to_vec();
        frame[at] ^= 1;
        frame
    };
    check(&yaohua(), &[&spoil(YAOHUA, 7), YAOHUA], &[b"+00200021B"], 12, 1, 0);
    check(&toledo(), &[&spoil(TOLEDO, 7), TOLEDO], &[&TOLEDO[1..]], 18, 1, 0);
    check(&water(), &[&spoil(WATER, 14), WATER], &[&WATER[1..34]], 35, 1, 0);
    check(&fx(), &[&spoil(FX, 2), FX], &[b"D204"], 8, 1, 0);
    check(&drive(), &[&spoil(DRIVE, 4), DRIVE], &[DRIVE], 8, 1, 0);
}

#[test]
fn a_frame_that_was_cut_off_does_not_take_the_next_one_with_it() {
    for (rule, frame) in
        [(yaohua(), YAOHUA), (toledo(), TOLEDO), (water(), WATER), (fx(), FX), (drive(), DRIVE)]
    {
        let (one, _) = run(&rule, &[frame], ms(1));
        for cut in 1..frame.len() {
            let (found, _) = run(&rule, &[&frame[..cut], frame], ms(1));
            assert_eq!(found, one, "cut at {cut}");
        }
    }
}

#[test]
fn a_frame_that_does_not_end_as_it_should_is_none() {
    let mut frame = YAOHUA.to_vec();
    frame[11] = 0x04;
    check(&yaohua(), &[&frame], &[], 12, 0, 0);
}

#[test]
fn noise_that_looks_like_a_long_frame_gives_way_to_a_whole_one_behind_it() {
    let long = [0x68, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xC8];
    let mut framer = Framer::new(&water());
    let now = start();
    framer.push(&long, now);
    framer.push(WATER, now + ms(5));
    framer.push(&long, now + ms(5));
    framer.push(WATER, now + ms(10));
    assert_eq!(framer.next_frame(), None, "211 bytes may still come");
    assert_eq!(framer.next_due(), Some(now + ms(210)));
    framer.handle_quiet(now + ms(209));
    assert_eq!(framer.next_frame(), None);
    framer.handle_quiet(now + ms(210));
    assert_eq!(bodies(&mut framer), [&WATER[1..34]; 2]);
    assert_eq!(framer.counts(), Counts { frames: 2, noise: 22, spoilt: 0, too_long: 0 });
    assert_eq!(framer.next_due(), None);
}

#[test]
fn a_slow_frame_is_not_given_up() {
    let mut framer = Framer::new(&water());
    let now = start();
    framer.push(&WATER[..20], now);
    framer.handle_quiet(now + ms(900));
    assert_eq!((framer.next_frame(), framer.next_due()), (None, None));
    framer.push(&WATER[20..], now + ms(1000));
    assert_eq!(bodies(&mut framer), [&WATER[1..34]]);
}

#[test]
fn a_length_may_have_two_bytes_in_either_order() {
    let rule = |is_low_first| FrameRule {
        start: vec![0xAA],
        length: Some(Length::Field { at: 1, add: 3, is_wide: true, is_low_first }),
        ..FrameRule::default()
    };
    check(&rule(false), &[&[0xAA, 0, 2, 7, 8, 0xAA, 0, 0]], &[&[0, 2, 7, 8], &[0, 0]], 0, 0, 0);
    check(&rule(true), &[&[0xAA, 2, 0, 7, 8]], &[&[2, 0, 7, 8]], 0, 0, 0);
    check(&rule(false), &[&[0xAA, 1, 0, 7, 8]], &[], 5, 0, 1);
}

#[test]
fn a_length_shorter_than_itself_is_noise() {
    let length = Some(Length::Field { at: 1, add: -4, is_wide: false, is_low_first: false });
    let rule = FrameRule { start: vec![0xAA], length, ..FrameRule::default() };
    check(&rule, &[&[0xAA, 0, 0xAA, 5, 0xAA, 6]], &[&[6]], 4, 0, 0);
}

#[test]
fn any_of_several_ends_ends_a_line_and_empty_lines_are_none() {
    check(
        &barcode(),
        &[b"6901\r\n6902\r6903\n6904\t\r\n\r\n"],
        &[b"6901", b"6902", b"6903", b"6904"],
        0,
        0,
        0,
    );
    check(&barcode(), &[b"6901\r", b"\n", b"6902\r", b"\n"], &[b"6901", b"6902"], 0, 0, 0);
}

#[test]
fn what_a_longer_end_has_left_is_no_noise_behind_a_start_either() {
    let rule = FrameRule { start: vec![0x02], ..barcode() };
    check(&rule, &[b"\x026901\r", b"\n\x026902\r\n"], &[b"6901", b"6902"], 0, 0, 0);
    check(&rule, &[b"\x026901\r", b"x\n\x026902\r\n"], &[b"6901", b"6902"], 2, 0, 0);
}

#[test]
fn a_silence_ends_a_frame_where_the_rule_says_so() {
    let (mut framer, now) = (Framer::new(&barcode()), start());
    framer.push(b"690123", now);
    framer.push(b"4567892", now + ms(40));
    assert_eq!((framer.next_frame(), framer.next_due()), (None, Some(now + ms(90))));
    framer.handle_quiet(now + ms(89));
    assert_eq!(framer.next_frame(), None);
    framer.handle_quiet(now + ms(90));
    assert_eq!(bodies(&mut framer), [b"6901234567892"]);
    // the silence is also seen where only the next bytes tell of it
    framer.push(b"11", now + ms(200));
    framer.push(b"22\r", now + ms(250));
    assert_eq!(bodies(&mut framer), [b"11", b"22"]);
    assert_eq!(framer.next_due(), None);
}

#[test]
fn a_line_that_is_too_long_is_dropped_up_to_its_end() {
    let long = [b'7'; 40];
    check(&barcode(), &[b"1111\r", &long, b"\r2222\r"], &[b"1111", b"2222"], 40, 0, 1);
    check(&barcode(), &[&[&long[..16], b"\r3333\r"].concat()], &[b"3333"], 16, 0, 1);
    check(&barcode(), &[&long[..15], b"\r"], &[&long[..15]], 0, 0, 0);
    let filled = FrameRule { skip: Some(0xFE), ends: vec![b"\r".to_vec()], ..barcode() };
    check(&filled, &[&[&long[..17], b"\xFE7\r\xFE5\r"].concat()], &[b"5"], 19, 0, 1);
    check(&filled, &[&long[..17], b"\xFE7\r\xFE5\r"], &[b"5"], 19, 0, 1); // amid a line it is no fill byte
    let (mut framer, now) = (Framer::new(&barcode()), start());
    framer.push(&long, now);
    assert_eq!(framer.next_frame(), None);
    framer.push(&long, now + ms(10));
    assert_eq!((framer.next_frame(), framer.counts().too_long), (None, 1));
    framer.push(b"4444\r", now + ms(90));
    assert_eq!(bodies(&mut framer), [b"4444"], "a silence ends it too");
}

#[test]
fn a_line_without_a_start_and_with_a_wrong_checksum_is_dropped_whole() {
    let check_rule = Check { kind: CheckKind::Xor8, over: (0, -5), at: -4, form: CheckForm::Hex };
    let rule = FrameRule { check: Some(check_rule), ..lines() };
    check(&rule, &[b"WG004.139kg3D\r\n"], &[b"WG004.139kg3D"], 0, 0, 0);
    // without its first two characters what is left would have the checksum that is there
    check(&rule, &[b"WWWG004.139kg3E\r\nWG004.139kg3D\r\n"], &[b"WG004.139kg3D"], 17, 1, 0);
}

#[test]
fn a_start_within_a_frame_that_nothing_guards_begins_anew() {
    let rule = FrameRule { start: vec![0x02], ends: vec![vec![0x03]], ..FrameRule::default() };
    check(&rule, &[b"\x0212\x0234\x03"], &[b"34"], 3, 0, 0);
}

#[test]
fn the_next_start_ends_a_frame_where_nothing_else_does() {
    check(&equals(), &[b"9=0003.000=-0001.00="], &[b"0003.000", b"-0001.00"], 1, 0, 0);
    check(&equals(), &[b"==0003.000=1234567890123456="], &[b"0003.000"], 18, 0, 1);
}

#[test]
fn silence_alone_ends_a_frame() {
    let rule = FrameRule { idle: Some(ms(30)), max: 4, ..FrameRule::default() };
    let (found, counts) = run(&rule, &[&[1, 2], &[3, 4], &[5, 6, 7, 8, 9], &[1]], ms(40));
    assert_eq!(found, [&[1, 2][..], &[3, 4], &[1]]);
    assert_eq!(counts, Counts { frames: 3, noise: 5, spoilt: 0, too_long: 1 });
}

#[test]
fn a_refusal_counts_when_it_stands_alone() {
    let (mut framer, now) = (Framer::new(&fx()), start());
    framer.push(&[0x15], now);
    assert_eq!((framer.next_frame(), framer.next_due()), (None, Some(now + ms(20))));
    framer.handle_quiet(now + ms(20));
    let refusal = Frame { bytes: Bytes::from_static(&[0x15]), body: 0..0, is_refusal: true };
    assert_eq!((framer.next_frame(), framer.next_frame()), (Some(refusal), None));

    framer.push(&[0x15], now + ms(100));
    framer.push(FX, now + ms(101));
    assert_eq!(bodies(&mut framer), [b"D204"], "noise before an answer");
    framer.push(&[0x33, 0x15], now + ms(102));
    assert_eq!((framer.next_frame(), framer.next_due()), (None, None), "noise of two bytes");
    assert_eq!(framer.counts(), Counts { frames: 2, noise: 3, spoilt: 0, too_long: 0 });
}

#[test]
fn a_refusal_behind_noise_is_none_until_the_line_was_quiet() {
    let check = Check { kind: CheckKind::Xor8, over: (0, -5), at: -4, form: CheckForm::Hex };
    let rule = FrameRule { nak: vec![0x15], check: Some(check), ..lines() };
    let (mut framer, now) = (Framer::new(&rule), start());
    framer.push(b"WG004.139kg3E\r\n\x15", now);
    assert_eq!(framer.next_frame(), None);
    framer.handle_quiet(now + ms(20));
    assert_eq!(framer.next_frame(), None);
    framer.push(b"\r\n", now + ms(30));
    assert_eq!((framer.next_frame(), framer.held()), (None, 0));
    framer.push(b"\x15", now + ms(60));
    framer.handle_quiet(now + ms(80));
    assert!(framer.next_frame().is_some_and(|frame| frame.is_refusal));
    assert_eq!(framer.counts(), Counts { frames: 1, noise: 18, spoilt: 2, too_long: 0 });
}

#[test]
fn a_request_begins_anew() {
    let (mut framer, now) = (Framer::new(&fx()), start());
    framer.push(&FX[..5], now);
    assert_eq!(framer.next_frame(), None);
    framer.reset();
    framer.push(&FX[5..], now + ms(1));
    framer.push(FX, now + ms(2));
    assert_eq!(bodies(&mut framer), [b"D204"]);
    assert_eq!(framer.counts(), Counts { frames: 1, noise: 8, spoilt: 0, too_long: 0 });
}

fn rules() -> Vec<FrameRule> {
    let silent = FrameRule { idle: Some(ms(30)), max: 4, ..FrameRule::default() };
    vec![yaohua(), toledo(), water(), drive(), fx(), lines(), barcode(), equals(), silent]
}

/// Bytes of which many mean something to the rules.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let marks = prop::sample::select(vec![0x02, 0x03, 0x0A, 0x0D, 0x15, 0x16, 0x3D, 0x68, 0xFE]);
    prop::collection::vec(prop_oneof![any::<u8>(), marks], 0..400)
}

proptest! {
    #[test]
    fn any_bytes_are_borne_and_cuts_change_nothing(bytes in soup(), sizes in prop::collection::vec(1_usize..40, 1..20)) {
        let now = start();
        for rule in rules() {
            let mut whole = Framer::new(&rule);
            whole.push(&bytes, now);
            let expected = bodies(&mut whole);
            let (mut cut, mut found) = (Framer::new(&rule), Vec::new());
            let (mut rest, mut sizes) = (bytes.as_slice(), sizes.iter().cycle());
            while !rest.is_empty() {
                let (part, more) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
                cut.push(part, now);
                found.extend(bodies(&mut cut));
                prop_assert!(cut.held() <= rule.max);
                rest = more;
            }
            prop_assert_eq!(&found, &expected);
            prop_assert_eq!(cut.counts(), whole.counts());
            while let Some(due) = cut.next_due() {
                cut.handle_quiet(due);
                found.extend(bodies(&mut cut));
            }
            prop_assert!(found.iter().all(|body| body.len() <= rule.max));
        }
    }

    #[test]
    fn every_whole_frame_in_a_soup_is_found_but_where_another_holds_a_part_of_it(
        pieces in prop::collection::vec((soup(), any::<bool>()), 1..8),
    ) {
        let now = start();
        for (rule, frame) in [(yaohua(), YAOHUA), (toledo(), TOLEDO), (water(), WATER), (drive(), DRIVE), (fx(), FX)] {
            let mut stream = Vec::new();
            let mut planted = Vec::new();
            for (noise, has_frame) in &pieces {
                stream.extend(noise);
                if *has_frame {
                    planted.push(stream.len());
                    stream.extend(frame);
                }
            }
            let mut framer = Framer::new(&rule);
            framer.push(&stream, now);
            let mut found = Vec::new();
            loop {
                while let Some(frame) = framer.next_frame().filter(|frame| !frame.is_refusal) {
                    let end = usize::try_from(framer.gone).unwrap();
                    found.push(end - frame.bytes.len()..end);
                }
                let Some(due) = framer.next_due() else { break };
                framer.handle_quiet(due);
            }
            for at in planted {
                let is_met = |found: &&Range<usize>| found.start < at + frame.len() && found.end > at;
                prop_assert!(found.iter().any(|found| is_met(&found)), "not found at {}", at);
            }
            for range in found {
                let check = rule.check.unwrap();
                prop_assert!(check::holds(&check, &stream[range]));
            }
        }
    }
}
