use proptest::prelude::*;

use super::*;

const MS: fn(u64) -> Duration = Duration::from_millis;

/// A link under test, whose units answer what is asked with a counter: `03 02 00 01`, `03 02 00 02` and so on.
struct Bench {
    faults: Faults,
    framing: Framing,
    is_line: bool,
    answers: u8,
}

impl Bench {
    fn new(framing: Framing, plan: Vec<Fault>) -> Bench {
        Bench { faults: Faults::new(1, plan), framing, is_line: false, answers: 0 }
    }

    /// What leaves in answer to a read of `count` registers from `address` on, asked at `now_ms` after a silence.
    fn ask_at(&mut self, unit: u8, address: u8, count: u8, now_ms: u64, silence_ms: Option<u64>) -> Conduct {
        let request = Frame { id: 7, unit, pdu: vec![3, 0, address, 0, count] };
        let asked = Asked {
            request: &request,
            framing: self.framing,
            is_line: self.is_line,
            now: MS(now_ms),
            silence: silence_ms.map(MS),
        };
        self.faults.handle(&asked, |_| {
            self.answers += 1;
            Some(vec![3, 2, 0, self.answers])
        })
    }

    /// What leaves in answer to a read by unit 1, as text.
    fn ask(&mut self, address: u8, count: u8) -> String {
        shown(&self.ask_at(1, address, count, 0, Some(50)))
    }
}

/// `300:0102` sends two bytes after 300 ms, `300:01+20:02` with a pause between them, `300!` hangs up; what holds the
/// right reply begins with `=`.
fn shown(conduct: &Conduct) -> String {
    let digits = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02X}")).collect::<String>();
    let emissions = conduct.emissions.iter().map(|(after, act)| match act {
        Act::Send(bytes) => format!("{}:{}", after.as_millis(), digits(bytes)),
        Act::SendInTwo { first, pause, rest } => {
            format!("{}:{}+{}:{}", after.as_millis(), digits(first), pause.as_millis(), digits(rest))
        }
        Act::HangUp => format!("{}!", after.as_millis()),
    });
    let all = emissions.collect::<Vec<_>>().join(" ");
    if conduct.is_right { format!("={all}") } else { all }
}

/// What leaves in answer to one read over TCP, whose right reply is `=0:000700000005010302 0001`.
#[track_caller]
fn check(kind: impl Into<Kind>, expected: &str) {
    let mut bench = Bench::new(Framing::Tcp, vec![Fault::new(When::Always, kind)]);
    assert_eq!(bench.ask(0, 1), expected.replace('_', ""));
}

#[test]
fn a_reply_is_spoiled_in_exact_bytes() {
    check(Spoil::Late(MS(300), MS(300)), "=300:0007_0000_0005_01_0302_0001");
    check(Spoil::Slow(MS(20)), "=20:0007_0000_0005_01_0302_0001");
    check(Spoil::Duplicated(MS(5)), "=0:0007_0000_0005_01_0302_0001 5:0007_0000_0005_01_0302_0001");
    check(Spoil::Short(2), "0:0007_0000_0003_01_0300");
    check(Spoil::Long(2), "0:0007_0000_0007_01_0304_0001_FFFF");
    check(Spoil::Split { at: Some(6), pause: MS(30) }, "=0:0007_0000_0005+30:01_0302_0001");
    check(Spoil::Split { at: Some(0), pause: MS(30) }, "=0:00+30:07_0000_0005_01_0302_0001");
    check(Spoil::Echoed(usize::MAX), "=0:0007_0000_0006_01_0300000001_0007_0000_0005_01_0302_0001");
    check(Spoil::Echoed(2), "=0:0001_0007_0000_0005_01_0302_0001");
    check(Spoil::Id(0), "0:0000_0000_0005_01_0302_0001");
    check(Spoil::IdPlus(1), "0:0008_0000_0005_01_0302_0001");
    check(Spoil::IdPlus(0), "=0:0007_0000_0005_01_0302_0001");
    check(Spoil::Unit(255), "0:0007_0000_0005_FF_0302_0001");
    check(Spoil::Function(4), "0:0007_0000_0005_01_0402_0001");
    check(Spoil::AnsweredBy(9), "0:0007_0000_0005_09_0302_0001");
    check(Spoil::AnsweredBy(1), "=0:0007_0000_0005_01_0302_0001");
    check(Spoil::HangUp(Moment::Before), "0!");
    check(Spoil::HangUp(Moment::Middle), "0:0007_0000_00 0!");
    check(Spoil::HangUp(Moment::After), "=0:0007_0000_0005_01_0302_0001 0!");
}

#[test]
fn a_request_is_refused_in_exact_bytes() {
    check(Refusal::Dead, "");
    check(Refusal::Exception(6), "0:0007_0000_0003_01_8306");
    check(Refusal::Exception(0x0B), "0:0007_0000_0003_01_830B");
    check(Refusal::Pdu(vec![0xA3, 2]), "0:0007_0000_0003_01_A302");
    check(Refusal::NoFunction(3), "0:0007_0000_0003_01_8301");
    check(Refusal::NoFunction(4), "=0:0007_0000_0005_01_0302_0001");
    check(Refusal::Bytes(vec![0xFE, 0x68]), "0:FE68");
}

#[test]
fn one_bit_is_flipped_and_noise_surrounds() {
    let right = Frame { id: 0, unit: 1, pdu: vec![3, 2, 0, 1] }.encode(Framing::Rtu);
    for seed in 0..50 {
        let mut bench = Bench::new(Framing::Rtu, vec![Fault::new(When::Always, Spoil::FlippedBit)]);
        bench.faults.rng = fastrand::Rng::with_seed(seed);
        let conduct = bench.ask_at(1, 0, 1, 0, Some(50));
        let [(_, Act::Send(bytes))] = &conduct.emissions[..] else { panic!("{conduct:?}") };
        let flipped: u32 = bytes.iter().zip(&right).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!((flipped, conduct.is_right), (1, false));
    }
    let noisy = Spoil::Noisy { before: 3, behind: 2 };
    let conduct =
        Bench::new(Framing::Rtu, vec![Fault::new(When::Always, noisy)]).ask_at(1, 0, 1, 0, Some(50));
    let [(_, Act::Send(bytes))] = &conduct.emissions[..] else { panic!("{conduct:?}") };
    assert_eq!((bytes.len(), &bytes[3..10], conduct.is_right), (12, &right[..], true));
}

#[test]
fn a_reply_that_was_held_back_leaves_before_the_next_one() {
    let plan = vec![Fault::new(When::Requests { first: 1, last: 1 }, Spoil::Held)];
    let mut bench = Bench::new(Framing::Tcp, plan.clone());
    assert_eq!(bench.ask(0, 1), "");
    assert_eq!(bench.ask(0, 1), "=0:00070000000501030200010007000000050103020002");
    assert_eq!(bench.ask(0, 1), "=0:0007000000050103020003");
    let mut bench = Bench::new(Framing::Tcp, plan);
    bench.ask(0, 1);
    assert_eq!(shown(&bench.ask_at(1, 0, 1, 0, None)), "=0:0007000000050103020002", "another connection");
}

#[test]
fn a_request_that_is_refused_is_not_obeyed() {
    let mut bench = Bench::new(Framing::Tcp, vec![Fault::new(When::Always, Refusal::Dead).of(2)]);
    bench.ask_at(2, 0, 1, 0, None);
    assert_eq!(bench.answers, 0);
    bench.ask_at(1, 0, 1, 0, None);
    assert_eq!(bench.answers, 1);
}

/// Whether requests for these registers (from, count) are refused with exception 2.
#[track_caller]
fn check_refused(refusal: &Refusal, cases: &[(u8, u8, bool)]) {
    for (address, count, is_refused) in cases {
        let mut bench = Bench::new(Framing::Tcp, vec![Fault::new(When::Always, refusal.clone())]);
        let got = bench.ask(*address, *count) == "0:000700000003018302";
        assert_eq!(got, *is_refused, "{refusal:?}: {address}+{count}");
    }
}

#[test]
fn some_ranges_are_refused() {
    let hole = Refusal::Hole { first: 10, last: 11 };
    check_refused(&hole, &[(9, 1, false), (9, 2, true), (11, 1, true), (12, 5, false), (0, 99, true)]);
    let whole = Refusal::WholeOnly { address: 20, count: 4 };
    check_refused(&whole, &[(20, 4, false), (20, 3, true), (19, 5, true), (24, 1, false), (16, 4, false)]);
    check_refused(&Refusal::NoCross(16), &[(0, 16, false), (0, 17, true), (15, 2, true), (16, 16, false)]);
    check_refused(&Refusal::NoCross(0), &[(0, 17, false)]);
    let limit = Refusal::SizeLimit { most: 8, exception: Some(2) };
    check_refused(&limit, &[(0, 8, false), (0, 9, true)]);
    let mut bench = Bench::new(
        Framing::Tcp,
        vec![Fault::new(When::Always, Refusal::SizeLimit { most: 8, exception: None })],
    );
    assert_eq!(bench.ask(0, 9), "");
}

#[test]
fn a_request_after_a_short_or_a_long_silence_is_lost() {
    let mut bench = Bench::new(Framing::Tcp, vec![Fault::new(When::Always, Refusal::TooSoon(MS(10)))]);
    let mut answers = |silence: Option<u64>| !bench.ask_at(1, 0, 1, 0, silence).emissions.is_empty();
    assert_eq!([None, Some(9), Some(10)].map(&mut answers), [true, false, true]);
    let mut bench = Bench::new(Framing::Tcp, vec![Fault::new(When::Always, Refusal::FirstLost(MS(1000)))]);
    let mut answers = |silence: Option<u64>| !bench.ask_at(1, 0, 1, 0, silence).emissions.is_empty();
    assert_eq!([None, Some(999), Some(1000)].map(&mut answers), [false, true, false]);
}

/// Which of twelve requests to unit 1 are not answered, the nth at n * 100 ms; another unit is asked between them.
#[track_caller]
fn check_when(when: When, expected: &[u64]) {
    let mut bench = Bench::new(Framing::Tcp, vec![Fault::new(when, Refusal::Dead).of(1)]);
    let struck = (1..=12).filter(|number| {
        assert!(!bench.ask_at(2, 0, 1, 0, Some(50)).emissions.is_empty());
        bench.ask_at(1, 0, 1, number * 100, Some(50)).emissions.is_empty()
    });
    assert_eq!(struck.collect::<Vec<_>>(), expected, "{when:?}");
    assert_eq!(bench.faults.injected().get("dead").copied().unwrap_or_default(), expected.len() as u64);
}

#[test]
fn a_fault_strikes_when_it_is_to() {
    check_when(When::Always, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    check_when(When::Every(5), &[5, 10]);
    check_when(When::Every(0), &[]);
    check_when(When::Runs { length: 2, every: 5 }, &[4, 5, 9, 10]);
    check_when(When::Runs { length: 2, every: 0 }, &[]);
    check_when(When::Requests { first: 3, last: 4 }, &[3, 4]);
    check_when(When::During { from: MS(200), to: MS(400) }, &[2, 3]);
    check_when(When::OneIn(1), &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    check_when(When::OneIn(0), &[]);
}

/// When the replies to three requests leave, asked at 0, 100 and 200 ms.
fn departures(spoil: Spoil, is_line: bool) -> Vec<u128> {
    let mut bench = Bench::new(Framing::Rtu, vec![Fault::new(When::Requests { first: 1, last: 2 }, spoil)]);
    bench.is_line = is_line;
    let asked = [0, 100, 200];
    asked
        .map(|now| u128::from(now) + bench.ask_at(1, 0, 1, now, Some(50)).emissions[0].0.as_millis())
        .to_vec()
}

#[test]
fn late_replies_overtake_each_other_on_a_network_and_not_on_a_line() {
    assert_eq!(departures(Spoil::Late(MS(500), MS(500)), false), [500, 600, 200]);
    assert_eq!(departures(Spoil::Late(MS(500), MS(500)), true), [500, 600, 600]);
    assert_eq!(departures(Spoil::Slow(MS(300)), true), [300, 600, 600]);
    assert_eq!(departures(Spoil::Slow(MS(300)), false), [300, 600, 200]);
}

#[test]
fn faults_add_up_and_are_counted() {
    let plan = vec![
        Fault::new(When::Always, Spoil::Short(2)),
        Fault::new(When::Always, Spoil::Unit(2)),
        Fault::new(When::Always, Spoil::Late(MS(1), MS(1))),
        Fault::new(When::Every(2), Refusal::Exception(6)),
    ];
    let mut bench = Bench::new(Framing::Tcp, plan);
    assert_eq!(bench.ask(0, 1), "1:0007000000030203 00".replace(' ', ""));
    assert_eq!(bench.ask(0, 1), "1:000700000003028306", "an exception cannot be short");
    let injected: Vec<_> = bench.faults.injected().iter().map(|(name, count)| (*name, *count)).collect();
    assert_eq!(injected, [("busy", 1), ("late", 2), ("short", 1), ("wrong unit", 2)]);
}

fn kinds() -> impl Strategy<Value = Kind> {
    let spoils = vec![
        Spoil::Late(MS(1), MS(9)),
        Spoil::FlippedBit,
        Spoil::Held,
        Spoil::Short(999),
        Spoil::Long(999),
        Spoil::Split { at: None, pause: MS(1) },
        Spoil::Split { at: Some(999), pause: MS(1) },
        Spoil::Noisy { before: 9, behind: 9 },
        Spoil::HangUp(Moment::Middle),
        Spoil::Function(0),
    ];
    prop::sample::select(spoils).prop_map(Kind::Spoil)
}

proptest! {
    #[test]
    fn any_answer_is_borne_and_the_same_seed_gives_the_same_bytes(
        kinds in prop::collection::vec(kinds(), 0..5),
        pdu in prop::collection::vec(any::<u8>(), 0..=253),
        seed: u64,
        is_there: bool,
    ) {
        let run = || {
            let plan = kinds.iter().map(|kind| Fault::new(When::OneIn(2), kind.clone())).collect();
            let mut faults = Faults::new(seed, plan);
            let request = Frame { id: 0, unit: 1, pdu: pdu.clone() };
            let asked = Asked {
                request: &request, framing: Framing::Ascii, is_line: true, now: MS(0), silence: Some(MS(0)),
            };
            [(); 4].map(|()| faults.handle(&asked, |_| is_there.then(|| pdu.clone())))
        };
        prop_assert_eq!(run(), run());
    }
}
