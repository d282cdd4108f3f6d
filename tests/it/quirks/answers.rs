//! Answers that are late, foreign, spoilt, odd or missing: no value is ever taken from them.

use std::time::Duration;

use tidegate::driver::Answer;
use tidegate::poll::lane::OrderError;
use tidegate::reading::Quality;
use tidegate::sim::faults::{Fault, Faults, Refusal, Spoil, When};
use tidegate::sim::serve::Seen;

use super::{Field, Log, MS, SERIAL_WAYS, WAYS, Way, assert_good, bad_of, device, on_each};
use crate::rig::{Heard, tags};

/// Four blocks of the same shape.
fn four_blocks(keys: &str) -> String {
    device(1, &format!("every = \"50ms\"\nmax_registers = 4\n{keys}\n{}", tags(8, 2)))
}

fn once(number: u64) -> When {
    When::Requests { first: number, last: number }
}

/// The time from each request to the next.
fn pauses(seen: &[Seen]) -> Vec<Duration> {
    seen.iter().zip(seen.iter().skip(1)).map(|(one, next)| next.at - one.at).collect()
}

/// Q01
#[tokio::test]
async fn an_answer_that_comes_late_over_tcp_is_dropped_and_shifts_none_that_follow() {
    let late = Fault::new(When::Every(10), Spoil::Late(MS(450), MS(500)));
    let mut field = Field::new(Way::Tcp, [1], [late], "", &four_blocks("timeout = \"400ms\"")).await;
    let heard = field.hear(2500).await;
    heard.assert_true();
    assert_good(&heard, &["d1"]);
    let counters = field.rig.device("d1");
    assert!(counters.late.get() >= 3, "{} late answers", counters.late.get());
    assert_eq!(field.far.connections(), 1, "nothing is opened anew for it");
}

/// Q01: each held-back answer leaves glued to the front of the next one.
#[tokio::test]
async fn an_old_answer_in_front_of_the_right_one_is_passed_over() {
    let held = Fault::new(When::Every(5), Spoil::Held);
    let mut field = Field::new(Way::Tcp, [1], [held], "", &four_blocks("timeout = \"400ms\"")).await;
    let heard = field.hear(1500).await;
    heard.assert_true();
    assert_good(&heard, &["d1"]);
    assert!(field.rig.device("d1").late.get() >= 3);
    assert_eq!(field.far.connections(), 1);
}

/// Q02
#[tokio::test]
async fn without_ids_a_unit_that_did_not_answer_is_asked_nothing_until_its_answer_has_come_or_never_will() {
    on_each(SERIAL_WAYS, |way| async move {
        let faults = [
            Fault::new(once(20), Spoil::Late(MS(250), MS(250))),
            Fault::new(once(40), Refusal::Dead),
            Fault::new(When::Every(7), Spoil::Late(MS(100), MS(190))),
        ];
        let keys = "timeout = \"100ms\"\nretries = 0";
        let mut field = Field::new(way, [1], faults, "", &four_blocks(keys)).await;
        let heard = field.hear(4000).await;
        heard.assert_true();
        let pauses = pauses(&field.far.take_seen());
        assert!(pauses.len() > 40, "{way:?}: {}", pauses.len());
        assert!(pauses[19] >= MS(245), "{way:?}: its late answer was not waited for: {:?}", pauses[19]);
        assert!(pauses[39] >= MS(295), "{way:?}: no rest: {:?}", pauses[39]);
        let counters = field.rig.device("d1");
        assert!(counters.late.get() >= 4, "{way:?}: {} late answers", counters.late.get());
    })
    .await;
}

/// Q03
#[tokio::test]
async fn an_answer_with_another_id_is_not_taken_and_the_key_that_allows_it_is_named() {
    let (log, _guard) = Log::start();
    let odd = || [Fault::new(When::Always, Spoil::IdPlus(1))];
    let keys = "timeout = \"100ms\"\nretries = 0";
    let mut field = Field::new(Way::Tcp, [1], odd(), "", &four_blocks(keys)).await;
    let heard = field.hear(2000).await;
    assert_eq!(heard.count(), 0);
    assert_eq!(bad_of(&heard, "d1"), [Quality::BadCommLastValueKnown]);
    assert_eq!(log.count("tid = \"ignore\""), 1, "said once");

    let keys = "quirks = { tid = \"ignore\" }";
    let mut field = Field::new(Way::Tcp, [1], odd(), "", &four_blocks(keys)).await;
    let heard = field.hear(600).await;
    heard.assert_true();
    assert_good(&heard, &["d1"]);
}

/// Q03: without ids a late answer could pass for the next one over TCP too.
#[tokio::test]
async fn where_ids_are_ignored_a_late_answer_is_still_not_taken_for_the_next_one() {
    let faults =
        [Fault::new(When::Always, Spoil::Id(0)), Fault::new(When::Every(7), Spoil::Late(MS(110), MS(190)))];
    let keys = "timeout = \"100ms\"\nretries = 0\nquirks = { tid = \"ignore\" }";
    let mut field = Field::new(Way::Tcp, [1], faults, "", &four_blocks(keys)).await;
    let heard = field.hear(2500).await;
    heard.assert_true();
    assert!(heard.count() > 20, "{}", heard.count());
    assert!(field.rig.device("d1").timeouts.get() >= 2);
}

/// Q04
#[tokio::test]
async fn an_exception_in_the_gateways_own_name_is_an_answer_and_data_in_another_name_is_not() {
    let busy = When::Requests { first: 5, last: 6 };
    let faults = [Fault::new(busy, Refusal::Exception(6)), Fault::new(busy, Spoil::Unit(0xFF))];
    let mut field = Field::new(Way::Tcp, [1], faults, "", &four_blocks("")).await;
    let heard = field.hear(1200).await;
    heard.assert_true();
    assert_good(&heard, &["d1"]);
    let counters = field.rig.device("d1");
    assert_eq!(counters.exceptions.all(), [(6, 2)].into(), "busy, not foreign");
    assert_eq!(counters.foreign.get(), 0);

    let (log, _guard) = Log::start();
    on_each(WAYS, |way| async move {
        let other = || [Fault::new(When::Always, Spoil::Unit(9))];
        let keys = "timeout = \"100ms\"\nretries = 0";
        let mut field = Field::new(way, [1], other(), "", &four_blocks(keys)).await;
        assert_eq!(field.hear(1600).await.count(), 0, "{way:?}");
        let keys = "quirks = { unit_reply = \"any\" }";
        let mut field = Field::new(way, [1], other(), "", &four_blocks(keys)).await;
        assert_good(&field.hear_all(5000).await, &["d1"]);
    })
    .await;
    assert_eq!(log.count("unit_reply = \"any\""), 1, "said over TCP, where only the unit can be wrong");
}

/// Q05
#[tokio::test]
async fn an_answer_of_another_length_is_a_decode_error_of_its_block_and_of_no_other_device() {
    let spoils = [Spoil::Short(2), Spoil::Long(2), Spoil::Short(1), Spoil::Short(4)];
    let cases = WAYS.iter().flat_map(|way| spoils.clone().map(|spoil| (*way, spoil)));
    on_each(cases, |(way, spoil)| async move {
        let keys = format!("every = \"50ms\"\ntimeout = \"60ms\"\nretries = 0\n{}", tags(2, 2));
        let devices = device(1, &keys) + &device(2, &keys);
        let odd = Fault::new(When::Always, spoil.clone()).of(1);
        let mut field = Field::new(way, 1..=2, [odd], "", &devices).await;
        let is_enough = |heard: &Heard| {
            let of_d1 = heard.bad.keys().filter(|name| name.starts_with("d1:"));
            of_d1.count() >= 2 && heard.of("d2") >= 4
        };
        let heard = field.rig.hear_until(MS(6000), is_enough).await;
        heard.assert_true();
        assert_eq!(heard.of("d1"), 0, "{way:?} {spoil:?}");
        assert_eq!(bad_of(&heard, "d1"), [Quality::BadDecode], "{way:?} {spoil:?}");
        assert!(heard.of("d2") > 0, "{way:?} {spoil:?}");
    })
    .await;
}

/// Q05, Q19: byte counts that lie, functions that were not asked for, nothing at all.
#[tokio::test]
async fn no_answer_however_odd_is_a_value_or_the_end_of_the_gateway() {
    let odd: [&'static [u8]; 8] = [
        &[3],
        &[3, 200, 0, 1],
        &[3, 0],
        &[3, 8, 0, 0],
        &[0xA3, 2],
        &[0x23, 2, 0, 0],
        &[0x83],
        &[4, 8, 0, 0, 0, 0, 0, 0, 0, 0],
    ];
    let cases = WAYS.iter().flat_map(|way| odd.map(|pdu| (*way, pdu)));
    on_each(cases, |(way, pdu)| async move {
        let keys = "timeout = \"60ms\"\nretries = 0\n";
        let odd = [Fault::new(When::Always, Refusal::Pdu(pdu.to_vec())).of(1)];
        let devices = four_blocks(keys) + &device(2, &format!("timeout = \"200ms\"\n{}", tags(1, 2)));
        let mut field = Field::new(way, 1..=2, odd, "", &devices).await;
        let is_enough = |heard: &Heard| heard.bad.len() >= 2 && heard.of("d2") >= 1;
        let heard = field.rig.hear_until(MS(6000), is_enough).await;
        assert_eq!(heard.of("d1"), 0, "{way:?} {pdu:02X?}");
        assert!(heard.of("d2") > 0, "{way:?} {pdu:02X?}");
        if matches!(way, Way::Tcp) {
            assert_eq!(bad_of(&heard, "d1"), [Quality::BadDecode], "{pdu:02X?}");
        }
    })
    .await;
}

/// Q14
#[tokio::test]
async fn what_was_sent_and_comes_back_is_never_an_answer_and_a_hint_names_the_key() {
    let (log, _guard) = Log::start();
    let cases = ["true", "\"auto\"", "false"].map(|key| SERIAL_WAYS.map(|way| (key, way)));
    on_each(cases.as_flattened().to_vec(), |(key, way)| async move {
        let echo = [Fault::new(When::Always, Spoil::Echoed(usize::MAX))];
        let mut field = Field::new(way, [1], echo, &format!("echo = {key}"), &four_blocks("")).await;
        let heard = field.hear_all(6000).await;
        let later = field.hear(500).await;
        for heard in [heard, later] {
            heard.assert_true();
            assert_good(&heard, &["d1"]);
        }
        assert_eq!(field.rig.counters.links[0].collisions.get(), 0, "{key} {way:?}");
    })
    .await;
    assert_eq!(log.count("`echo = true`"), 2, "once on each of the two links where it is not set");
}

/// Q14: the answer to a write looks like its echo.
#[tokio::test]
async fn the_echo_of_a_write_is_not_its_confirmation() {
    on_each(SERIAL_WAYS, |way| async move {
        let echo = || Fault::new(When::Always, Spoil::Echoed(usize::MAX));
        let keys = "timeout = \"150ms\"";
        let mut field = Field::new(way, [1], [echo()], "echo = true", &four_blocks(keys)).await;
        field.hear_all(5000).await;
        assert!(matches!(field.write("d1", 100, &[7]).await, Ok(Answer::Response(_))), "{way:?}");
        field.far.set_faults(Faults::new(1, vec![echo(), Fault::new(When::Always, Refusal::Dead)]));
        field.hear(20).await;
        assert_eq!(field.write("d1", 100, &[8]).await, Err(OrderError::Unclear(MS(150))), "{way:?}");
    })
    .await;
}

/// Q14: others' bytes in place of the echo, or half of it.
#[tokio::test]
async fn half_an_echo_counts_as_a_collision_and_costs_no_value() {
    on_each(SERIAL_WAYS, |way| async move {
        let faults = [
            Fault::new(When::Every(2), Spoil::Echoed(3)),
            Fault::new(When::Always, Spoil::Echoed(usize::MAX)),
            Fault::new(When::Every(3), Spoil::Noisy { before: 3, behind: 2 }),
        ];
        let mut field = Field::new(way, [1], faults, "echo = true", &four_blocks("")).await;
        let heard = field.hear(1700).await;
        heard.assert_true();
        assert!(heard.count() >= 4, "{way:?}: {}", heard.count());
        assert!(field.rig.counters.links[0].collisions.get() >= 2, "{way:?}");
    })
    .await;
}

/// Q16
#[tokio::test]
async fn a_slave_that_answers_in_anothers_place_is_not_taken_for_it() {
    on_each(SERIAL_WAYS, |way| async move {
        let keys = format!("every = \"100ms\"\ntimeout = \"100ms\"\n{}", tags(4, 2));
        let devices = device(1, &keys) + &device(2, &keys);
        let other = Fault::new(When::Always, Spoil::AnsweredBy(1)).of(2);
        let mut field = Field::new(way, 1..=2, [other], "", &devices).await;
        let heard = field.hear(1500).await;
        heard.assert_true();
        assert_eq!(heard.of("d2"), 0, "{way:?}");
        assert_good(&heard, &["d1"]);
        assert!(field.rig.device("d2").foreign.get() > 0, "{way:?}");
    })
    .await;
}

/// Q16
#[tokio::test]
async fn dead_units_together_take_less_than_a_sixth_of_the_line() {
    let dead = [5, 6].map(|unit| Fault::new(When::Always, Refusal::Dead).of(unit));
    let keys = format!("every = \"100ms\"\ntimeout = \"200ms\"\n{}", tags(4, 2));
    let devices: String = (1..=4).map(|unit| device(unit, &keys)).collect();
    let mut field = Field::new(Way::Line, 1..=6, dead, "", &devices).await;
    field.hear(2500).await.assert_true();
    field.far.take_seen().clear();
    let heard = field.hear(4000).await;
    assert_good(&heard, &["d1", "d2", "d3", "d4"]);
    let probes = field.far.take_seen().iter().filter(|seen| seen.unit > 4).count();
    // 200 ms each at most: four would take a fifth of the four seconds, and most are given less
    assert!(probes <= 4, "{probes} probes");
    for unit in 1..=4 {
        let count = heard.of(&format!("d{unit}"));
        assert!(count >= 4 * 40 * 6 / 10, "unit {unit}: {count} of 160");
    }
}

/// Q17
#[tokio::test]
async fn a_busy_device_is_asked_again_after_a_moment_and_nothing_is_bad() {
    on_each(WAYS, |way| async move {
        let busy = When::Requests { first: 10, last: 12 };
        let faults = [Fault::new(busy, Refusal::Exception(6)), Fault::new(once(20), Refusal::Exception(5))];
        let mut field = Field::new(way, [1], faults, "", &four_blocks("")).await;
        let heard = field.hear(3000).await;
        heard.assert_true();
        assert_good(&heard, &["d1"]);
        let counters = field.rig.device("d1");
        assert_eq!(counters.exceptions.all(), [(5, 1), (6, 3)].into());
        assert_eq!((counters.timeouts.get(), counters.retries.get()), (0, 0), "no failure");
        let seen = field.far.take_seen();
        let pauses = pauses(&seen);
        for number in 10..=12 {
            let pause = pauses[number - 1];
            assert!(pause >= MS(100) && pause < MS(1000), "{way:?}: {pause:?}");
            assert_eq!(seen[number].subject, seen[number - 1].subject, "the same request");
        }
        assert!(pauses[19] >= MS(400), "{way:?}: acknowledged means later: {:?}", pauses[19]);
    })
    .await;
}

/// Q17: the budget.
#[tokio::test]
async fn a_device_that_stays_busy_is_bad_after_a_while_but_not_gone() {
    let busy = Fault::new(When::Requests { first: 10, last: 1000 }, Refusal::Exception(6));
    let mut field = Field::new(Way::Tcp, [1], [busy], "", &four_blocks("")).await;
    let heard = field.rig.hear_until(MS(6000), |heard| !heard.bad.is_empty()).await;
    assert_eq!(bad_of(&heard, "d1"), [Quality::BadCommLastValueKnown]);
    assert_eq!(heard.downs, [""; 0]);
    assert!((5..=8).contains(&field.rig.device("d1").exceptions.sum()));
    field.far.set_faults(Faults::new(1, Vec::new()));
    field.hear_all(3000).await;
}

/// Q18
#[tokio::test]
async fn a_gateways_exception_is_about_one_unit_and_never_about_the_connection() {
    on_each([0x0A, 0x0B], |code| async move {
        let keys = format!("every = \"100ms\"\n{}", tags(4, 2));
        let devices: String = (1..=3).map(|unit| device(unit, &keys)).collect();
        let path = Fault::new(When::Always, Refusal::Exception(code)).of(2);
        let mut field = Field::new(Way::Tcp, 1..=3, [path], "", &devices).await;
        let heard = field.hear(1500).await;
        heard.assert_true();
        assert_good(&heard, &["d1", "d3"]);
        assert_eq!(heard.of("d2"), 0);
        assert_eq!(bad_of(&heard, "d2"), [Quality::BadCommLastValueKnown]);
        for unit in ["d1", "d3"] {
            assert!(heard.of(unit) >= 30, "{unit}: {} of 60", heard.of(unit));
        }
        let asked = field.rig.device("d2").requests.get();
        assert!(asked <= 8, "it is only probed, but {asked} times");
        field.far.set_faults(Faults::new(1, Vec::new()));
        let heard = field.rig.hear_until(MS(10_000), |heard| heard.of("d2") > 0).await;
        assert_good(&heard, &["d1", "d3"]);
        assert_eq!(field.far.connections(), 1);
    })
    .await;
}

/// Q19
#[tokio::test]
async fn a_makers_own_exception_is_a_failure_of_the_device_and_its_code_is_kept() {
    on_each(WAYS, |way| async move {
        let own = Fault::new(When::Always, Refusal::Exception(0x23)).of(1);
        let devices = four_blocks("") + &device(2, &tags(1, 2));
        let mut field = Field::new(way, 1..=2, [own], "", &devices).await;
        let heard = field.rig.hear_until(MS(3000), |heard| heard.bad.len() == 8 && heard.of("d2") > 0).await;
        assert_eq!(bad_of(&heard, "d1"), [Quality::BadDeviceFailure], "{way:?}");
        assert_good(&heard, &["d2"]);
        let codes = field.rig.device("d1").exceptions.all();
        assert!(codes.len() == 1 && codes[&0x23] >= 4, "{codes:?}");
    })
    .await;
}

/// Q33
#[tokio::test]
async fn an_answer_in_pieces_is_an_answer() {
    on_each(WAYS, |way| async move {
        let split = Fault::new(When::Always, Spoil::Split { at: None, pause: MS(50) });
        let mut field = Field::new(way, [1], [split], "", &four_blocks("timeout = \"500ms\"")).await;
        let heard = field.hear(1700).await;
        heard.assert_true();
        assert_good(&heard, &["d1"]);
        let counters = field.rig.device("d1");
        assert_eq!(counters.checksum_errors.get(), 0, "{way:?}");
        assert!(heard.count() >= 10, "{way:?}: {}", heard.count());
    })
    .await;
}

/// Q33: cut behind each of its nine bytes.
#[tokio::test]
async fn an_answer_may_be_cut_anywhere() {
    on_each(SERIAL_WAYS, |way| async move {
        let mut field =
            Field::new(way, [1], [], "", &device(1, &format!("every = \"30ms\"\n{}", tags(1, 2)))).await;
        for at in 1..9 {
            let split = Fault::new(When::Always, Spoil::Split { at: Some(at), pause: MS(10) });
            field.far.set_faults(Faults::new(1, vec![split]));
            let heard = field.rig.hear_until(MS(3000), |heard| heard.count() >= 3).await;
            heard.assert_true();
            assert_good(&heard, &["d1"]);
        }
        assert_eq!(field.rig.device("d1").timeouts.get(), 0, "{way:?}");
    })
    .await;
}

/// Q33: right behind it comes noise, or all of it once more.
#[tokio::test]
async fn what_is_glued_to_an_answer_is_not_taken_for_the_next() {
    on_each(SERIAL_WAYS, |way| async move {
        // a second copy that comes after the silence could not be told from an answer
        let faults = [
            Fault::new(When::Every(2), Spoil::Noisy { before: 4, behind: 7 }),
            Fault::new(When::Every(3), Spoil::Duplicated(Duration::ZERO)),
            Fault::new(When::Every(5), Spoil::Duplicated(MS(8))),
        ];
        let mut field = Field::new(way, [1], faults, "gap = \"30ms\"", &four_blocks("")).await;
        let heard = field.hear(1500).await;
        heard.assert_true();
        assert_good(&heard, &["d1"]);
    })
    .await;
}

/// Q33: bytes that came wrong are seen, and cost one request.
#[tokio::test]
async fn a_spoilt_answer_is_asked_for_once_more() {
    on_each(SERIAL_WAYS, |way| async move {
        let flipped = Fault::new(When::Every(6), Spoil::FlippedBit);
        let mut field = Field::new(way, [1], [flipped], "", &four_blocks("timeout = \"200ms\"")).await;
        let heard = field.hear(2000).await;
        heard.assert_true();
        assert_good(&heard, &["d1"]);
        assert!(field.rig.device("d1").retries.get() >= 1, "{way:?}");
    })
    .await;
}
