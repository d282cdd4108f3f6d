use super::super::floor::Scene;
use super::*;

const AT: Timestamp = Timestamp::from_millis(7);
const LOAD: Load = Load { most: 200_000, decimals: 2, overload_every: 2 };

fn instrument(habit: Habit) -> Instrument {
    Instrument { name: "i".into(), link: "l".into(), line: None, habit }
}

fn balance_says(heard: &[u8], elapsed_ms: u64) -> Option<String> {
    let saying = Instruments::default().reply(&instrument(Habit::Balance(LOAD)), heard, elapsed_ms, AT)?;
    Some(String::from_utf8(saying.answer.said).unwrap())
}

#[test]
fn a_balance_says_its_weight_in_the_forms_of_its_manual() {
    let says = |ms| balance_says(b"SI\r\n", ms).unwrap();
    assert_eq!(says(0), "S S       0.00 g\r\n");
    assert_eq!(says(1600), "S D     200.16 g\r\n");
    assert_eq!(says(3000), "S S     400.00 g\r\n");
    assert_eq!(says(4500), "S +\r\n");
    assert_eq!(says(6000), "S S      -0.15 g\r\n");
    assert_eq!(says(9000).len(), "S S     100.00 g\r\n".len(), "as the manual prints it");
}

#[test]
fn a_balance_answers_to_what_it_is_asked_and_to_nothing_else() {
    for heard in [
        &b"SI\r"[..],
        b"SI\n",
        b"S\r\n",
        b"XSI\r\n",
        b"\x01\x03\x00\x00\x00\x01\x84\x0ASI\r\n",
        b"\xD3I\r\n",
        b"",
        b"\x01\x03\x00\x00\x00\x01\x84\x0A",
    ] {
        assert_eq!(balance_says(heard, 0), None, "{}", heard.escape_ascii());
    }
    let mut all = Instruments::default();
    assert_eq!(all.talk(&instrument(Habit::Balance(LOAD)), 0, AT), None);
    let indicator = instrument(Habit::Indicator { load: LOAD, every_ms: 200 });
    assert_eq!(all.reply(&indicator, b"SI\r\n", 0, AT), None);
}

#[test]
fn what_a_balance_shows_is_noted_with_what_it_says_of_it() {
    let noted = |ms| {
        let balance = instrument(Habit::Balance(LOAD));
        let saying = Instruments::default().reply(&balance, b"SI\r\n", ms, AT).unwrap();
        let [(name, served)] = &saying.served[..] else { panic!("{saying:?}") };
        assert_eq!((&*name.0, &*name.1, served.at), ("i", "weight", AT));
        format!("{} {:?}", served.truth, served.mark)
    };
    assert_eq!([1600, 3000, 4500].map(noted), ["200.16 Moving", "400 Plain", "2000.01 Over"]);
}

/// The frames that the manual prints: 20.00, -0.15 and 123456 without a point.
#[test]
fn an_indicator_says_twelve_bytes_with_their_check() {
    let says = |most, decimals, ms| {
        let load = Load { most, decimals, overload_every: 0 };
        indicator(&instrument(Habit::Indicator { load, every_ms: 200 }), load, ms, AT).answer.said
    };
    assert_eq!(
        says(10_000, 2, 3000),
        [0x02, 0x2B, 0x30, 0x30, 0x32, 0x30, 0x30, 0x30, 0x32, 0x31, 0x42, 0x03]
    );
    assert_eq!(
        says(10_000, 2, 6000),
        [0x02, 0x2D, 0x30, 0x30, 0x30, 0x30, 0x31, 0x35, 0x32, 0x31, 0x42, 0x03]
    );
    assert_eq!(
        says(617_280, 0, 3000),
        [0x02, 0x2B, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x30, 0x31, 0x43, 0x03]
    );
}

#[test]
fn a_reader_says_each_code_in_its_turn_the_same_one_twice_too() {
    let reader = instrument(Habit::Reader(["4006381333931", "4006381333931", "LOT-7"].map(Arc::from).into()));
    let mut all = Instruments::default();
    let mut said = Vec::new();
    for _ in 0..4 {
        let (saying, pause) = all.talk(&reader, 0, AT).unwrap();
        assert!((600..2700).contains(&pause.as_millis()), "{pause:?}");
        assert_eq!(saying.served[0].1.mark, Mark::Event);
        said.push(String::from_utf8(saying.answer.said).unwrap());
    }
    assert_eq!(said, ["4006381333931\r\n", "4006381333931\r\n", "LOT-7\r\n", "4006381333931\r\n"]);
}

#[test]
fn a_player_answers_what_its_scenes_say_each_in_its_turn() {
    let scene = |asked: &[u8], said: &[u8], number| Scene {
        asked: asked.to_vec(),
        said: said.to_vec(),
        means: vec![("t".into(), Truth::Integer(number))],
        is_event: false,
    };
    let scenes = vec![scene(b"A", b"1", 1), scene(b"B", b"2", 2), scene(b"A", b"3", 3), scene(b"", b"4", 4)];
    let player = instrument(Habit::Player { scenes, every_ms: 900 });
    let mut all = Instruments::default();
    let mut says = |heard: &[u8]| {
        let saying = all.reply(&player, heard, 0, AT)?;
        Some((saying.answer.said[0], saying.served[0].1.truth.to_string()))
    };
    let expected = |said, truth: &str| Some((said, truth.to_owned()));
    assert_eq!(says(b"A"), expected(b'1', "1"));
    assert_eq!(says(b"B"), expected(b'2', "2"));
    assert_eq!(says(b"A"), expected(b'3', "3"));
    assert_eq!(says(b"A"), expected(b'1', "1"));
    assert_eq!(says(b"AB"), None);
    assert_eq!(says(b""), None);
    let (saying, pause) = all.talk(&player, 0, AT).unwrap();
    assert_eq!((&saying.answer.said[..], pause.as_millis()), (&b"4"[..], 900));
}
