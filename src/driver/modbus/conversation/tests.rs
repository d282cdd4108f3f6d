use proptest::prelude::*;
use tokio_modbus::{ExceptionCode, Response};

use super::*;

const TIMEOUT: Duration = Duration::from_millis(100);
const UNIT: UnitId = UnitId(1);

fn hr(address: u16, count: u16) -> Request<'static> {
    Request::ReadHoldingRegisters(address, count)
}

fn bytes(hex: &str) -> Vec<u8> {
    hex.split_whitespace().map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

fn answer_pdu(words: &[u16]) -> Vec<u8> {
    let mut pdu = vec![3, u8::try_from(words.len() * 2).unwrap()];
    pdu.extend(words.iter().flat_map(|word| word.to_be_bytes()));
    pdu
}

fn rtu_answer(unit: UnitId, words: &[u16]) -> Vec<u8> {
    frame::encode_rtu(unit, &answer_pdu(words))
}

/// A conversation in made-up time.
struct Talk {
    conversation: Conversation,
    unit: Arc<DeviceCounters>,
    other: Arc<DeviceCounters>,
    link: Arc<LinkCounters>,
    now: Instant,
}

impl Talk {
    fn new(framing: Framing, echo: Echo) -> Talk {
        let (unit, other, link) = (Arc::default(), Arc::default(), Arc::default());
        let conversation = Conversation::new(framing, echo, 7, Arc::clone(&link));
        Talk { conversation, unit, other, link, now: crate::clock::monotonic() }
    }

    fn ask_unit(&mut self, ticket: usize, unit: UnitId, request: Request<'static>) -> Vec<u8> {
        self.ask_tolerantly(ticket, unit, request, Tolerance::default())
    }

    fn ask_tolerantly(
        &mut self,
        ticket: usize,
        unit: UnitId,
        request: Request<'static>,
        tolerance: Tolerance,
    ) -> Vec<u8> {
        let counters = if unit == UNIT { &self.unit } else { &self.other }.clone();
        let call =
            Call { ticket, unit, request, tolerance, timeout: TIMEOUT, timeout_max: TIMEOUT, counters };
        self.conversation.begin(call, Duration::ZERO, self.now).unwrap().to_vec()
    }

    fn ask(&mut self, ticket: usize, request: Request<'static>) -> Vec<u8> {
        self.ask_unit(ticket, UNIT, request)
    }

    fn wait(&mut self, time: Duration) -> Option<Done> {
        self.now += time;
        self.conversation.expire(self.now)
    }

    fn hear(&mut self, bytes: &[u8]) -> Option<Done> {
        self.conversation.buffer().extend_from_slice(bytes);
        self.conversation.take(self.now).unwrap()
    }
}

#[track_caller]
fn check_words(done: Option<Done>, ticket: usize, words: &[u16]) {
    let done = done.expect("an end");
    assert_eq!(done.ticket, ticket);
    let expected = Answer::Response(Response::ReadHoldingRegisters(words.to_vec()));
    assert_eq!(done.result.expect("an answer"), expected);
}

#[test]
fn up_to_sixteen_requests_are_told_apart_by_their_ids_in_any_order() {
    let mut talk = Talk::new(Framing::Tcp, Echo::No);
    let requests: Vec<Vec<u8>> = (0..16).map(|ticket| talk.ask(ticket, hr(0, 1))).collect();
    let mut ids: Vec<&[u8]> = requests.iter().map(|request| &request[..2]).collect();
    ids.dedup();
    assert_eq!(ids.len(), 16);
    // one that is a little off names none of the others
    let id = |bytes: &&[u8]| u16::from_be_bytes([bytes[0], bytes[1]]);
    let pairs = ids.iter().flat_map(|one| ids.iter().map(move |other| (id(one), id(other))));
    assert!(pairs.filter(|(one, other)| one != other).all(|(one, other)| one.abs_diff(other) > 1000));
    for (ticket, request) in requests.iter().enumerate().rev() {
        let word = u16::try_from(ticket).unwrap();
        let id = u16::from_be_bytes([request[0], request[1]]);
        check_words(talk.hear(&frame::encode_tcp(id, UNIT, &answer_pdu(&[word]))), ticket, &[word]);
    }
    assert_eq!(talk.conversation.outstanding(), 0);
}

#[test]
fn a_late_tcp_answer_is_dropped_and_counted_and_the_right_one_taken() {
    let mut talk = Talk::new(Framing::Tcp, Echo::No);
    talk.ask(0, hr(0, 1));
    assert!(matches!(talk.wait(TIMEOUT).unwrap().result, Err(Fault::Silent)));
    talk.ask(1, hr(1, 1));
    let both = bytes("00 07 00 00 00 05 01 03 02 00 63 9E 3E 00 00 00 05 01 03 02 00 2A");
    check_words(talk.hear(&both), 1, &[42]);
    assert_eq!((talk.unit.late.get(), talk.unit.timeouts.get(), talk.unit.requests.get()), (1, 1, 2));
    assert_eq!(talk.conversation.take_late(), Some(UNIT));
    assert_eq!(talk.conversation.rests_until(UNIT, false, talk.now), None, "ids tell them apart");
}

#[test]
fn a_tcp_answer_of_another_unit_length_or_function_is_never_taken() {
    for (answer, is_garbled) in [
        ("00 07 00 00 00 07 01 03 04 00 2A 00 2B", true),
        ("00 07 00 00 00 05 01 03 04 00 2A", true),
        ("00 07 00 00 00 05 01 04 02 00 2A", true),
        ("00 07 00 00 00 05 02 03 02 00 2A", false),
    ] {
        let mut talk = Talk::new(Framing::Tcp, Echo::No);
        talk.ask(0, hr(0, 1));
        let done = talk.hear(&bytes(answer));
        assert_eq!(
            done.is_some_and(|done| matches!(done.result, Err(Fault::Garbled))),
            is_garbled,
            "{answer}"
        );
        assert_eq!(talk.unit.foreign.get(), u64::from(!is_garbled));
    }
    for stray in ["00 07 00 01 00 05 01 03 02 00 2A", "00 07 00 00 FF FF 01 03 02 00 2A"] {
        let mut talk = Talk::new(Framing::Tcp, Echo::No);
        talk.ask(0, hr(0, 1));
        talk.conversation.buffer().extend_from_slice(&bytes(stray));
        assert!(matches!(talk.conversation.take(talk.now), Err(Fault::OutOfStep)));
        assert_eq!(talk.conversation.abandon(), [0]);
    }
}

#[test]
fn a_gateway_may_sign_an_exception_with_a_unit_of_its_own() {
    let mut talk = Talk::new(Framing::Tcp, Echo::No);
    talk.ask(0, hr(0, 1));
    let done = talk.hear(&bytes("00 07 00 00 00 03 FF 83 06")).unwrap();
    assert_eq!(done.result.unwrap(), Answer::Exception(ExceptionCode::ServerDeviceBusy));
    assert_eq!(talk.unit.exceptions.all(), BTreeMap::from([(6, 1)]));
}

#[test]
fn a_device_that_never_repeats_the_id_or_the_unit_is_named_with_the_key_that_helps() {
    for (answer, advice) in [
        ("00 63 00 00 00 05 01 03 02 00 2A", Advice::Tid),
        ("00 07 00 00 00 05 09 03 02 00 2A", Advice::Unit),
    ] {
        let mut talk = Talk::new(Framing::Tcp, Echo::No);
        talk.ask(0, hr(0, 1));
        let given: Vec<_> = (0..4)
            .map(|_| {
                assert!(talk.hear(&bytes(answer)).is_none(), "strict by default");
                talk.conversation.take_advice()
            })
            .collect();
        assert_eq!(given, [None, None, Some((UNIT, advice)), None]);
    }
    let tolerance = Tolerance { any_tid: true, any_unit: true };
    let mut talk = Talk::new(Framing::Tcp, Echo::No);
    talk.ask_tolerantly(3, UNIT, hr(0, 1), tolerance);
    check_words(talk.hear(&bytes("00 63 00 00 00 05 09 03 02 00 2A")), 3, &[42]);
}

#[test]
fn a_unit_that_did_not_answer_rests_until_its_answer_would_not_come_any_more() {
    let mut talk = Talk::new(Framing::Rtu, Echo::No);
    let asked_at = talk.now;
    talk.ask(0, hr(0, 1));
    assert!(matches!(talk.wait(TIMEOUT).unwrap().result, Err(Fault::Silent)));
    assert_eq!(talk.conversation.rests_until(UNIT, false, talk.now), Some(asked_at + TIMEOUT * RESTS));
    assert_eq!(talk.conversation.rests_until(UnitId(2), false, talk.now), None, "others go on");
    assert!(
        talk.conversation.rests_until(UnitId(2), true, talk.now).is_some(),
        "but for those that take any unit's answer"
    );
    assert_eq!(talk.conversation.rests_until(UNIT, false, asked_at + TIMEOUT * RESTS), None);
}

#[test]
fn a_late_answer_ends_the_rest_whatever_else_is_going_on() {
    for is_asking in [false, true] {
        let mut talk = Talk::new(Framing::Rtu, Echo::No);
        talk.ask(0, hr(0, 1));
        talk.wait(TIMEOUT).unwrap();
        if is_asking {
            talk.ask_unit(1, UnitId(2), hr(0, 1));
        }
        assert!(talk.hear(&rtu_answer(UNIT, &[99])).is_none(), "nobody waits for it");
        assert_eq!(talk.unit.late.get(), 1);
        assert_eq!((talk.conversation.take_late(), talk.conversation.take_late()), (Some(UNIT), None));
        assert_eq!(talk.conversation.rests_until(UNIT, false, talk.now), Some(talk.now + AFTERMATH));
        if is_asking {
            check_words(talk.hear(&rtu_answer(UnitId(2), &[7])), 1, &[7]);
        }
        assert_eq!((talk.other.foreign.get(), talk.link.unasked.get()), (0, 0));
    }
}

#[test]
fn noise_and_frames_of_others_before_an_answer_are_skipped_and_counted() {
    let mut talk = Talk::new(Framing::Rtu, Echo::No);
    talk.ask(0, hr(0, 2));
    check_words(
        talk.hear(&bytes("FF 01 03 00 02 03 04 00 01 00 02 C9 33 01 03 04 17 70 00 00 FE 5C")),
        0,
        &[6000, 0],
    );
    assert_eq!(talk.unit.foreign.get(), 1);
    let mut talk = Talk::new(Framing::Ascii, Echo::No);
    assert_eq!(talk.ask(0, hr(0x2102, 2)), b":010321020002D7\r\n");
    check_words(talk.hear(b":020304000100F6\r\ngarbage:01030417:0103041770000071\r\n"), 0, &[6000, 0]);
    assert_eq!(talk.unit.foreign.get(), 1);
}

#[test]
fn a_spoilt_answer_ends_the_wait_and_needs_no_rest() {
    let mut talk = Talk::new(Framing::Rtu, Echo::No);
    talk.ask(0, hr(0, 2));
    assert!(talk.hear(&bytes("01 03 04 17 71 00 00 FE 5C")).is_none());
    assert!(talk.wait(SPOILT_AFTER / 2).is_none());
    assert!(matches!(talk.wait(SPOILT_AFTER / 2).unwrap().result, Err(Fault::Checksum)));
    assert_eq!((talk.unit.checksum_errors.get(), talk.unit.timeouts.get()), (1, 0));
    assert_eq!(talk.conversation.rests_until(UNIT, false, talk.now), None);
}

#[test]
fn an_answer_after_a_spoilt_one_is_still_taken() {
    let mut talk = Talk::new(Framing::Rtu, Echo::No);
    talk.ask(0, hr(0, 2));
    assert!(talk.hear(&bytes("01 03 04 17 71 00 00 FE 5C")).is_none());
    check_words(talk.hear(&bytes("01 03 04 17 70 00 00 FE 5C")), 0, &[6000, 0]);
}

#[test]
fn a_whole_answer_of_another_length_is_garbled_and_the_unit_rests() {
    let mut talk = Talk::new(Framing::Rtu, Echo::No);
    talk.ask(0, hr(0, 1));
    assert!(talk.hear(&bytes("01 03 04 17 70 00 00 FE 5C")).is_none());
    assert!(matches!(talk.wait(TIMEOUT).unwrap().result, Err(Fault::Garbled)));
    assert!(talk.conversation.rests_until(UNIT, false, talk.now).is_some(), "it may have been a late one");
}

#[test]
fn an_echo_is_held_against_what_was_sent_byte_for_byte() {
    let mut talk = Talk::new(Framing::Rtu, Echo::Yes);
    let sent = talk.ask(0, hr(0, 2));
    assert!(talk.hear(&sent[..3]).is_none());
    assert!(talk.hear(&sent[3..]).is_none());
    check_words(talk.hear(&bytes("01 03 04 17 70 00 00 FE 5C")), 0, &[6000, 0]);
    assert_eq!((talk.link.collisions.get(), talk.unit.foreign.get()), (0, 0));
}

#[test]
fn a_spoilt_echo_is_a_collision_and_a_read_goes_on_where_a_write_does_not() {
    let mut talk = Talk::new(Framing::Rtu, Echo::Yes);
    let mut sent = talk.ask(0, hr(0, 2));
    sent[0] ^= 1;
    sent.extend(bytes("01 03 04 17 70 00 00 FE 5C"));
    check_words(talk.hear(&sent), 0, &[6000, 0]);
    assert_eq!(talk.link.collisions.get(), 1);
    let mut talk = Talk::new(Framing::Rtu, Echo::Yes);
    let sent = talk.ask(0, Request::WriteSingleRegister(1, 3));
    let done = talk.hear(&[&[0], &sent[..]].concat()).unwrap();
    assert!(matches!(done.result, Err(Fault::Garbled)), "its own echo is no answer to a write");
}

#[test]
fn the_echo_of_a_write_is_not_its_answer() {
    let mut talk = Talk::new(Framing::Rtu, Echo::Yes);
    let sent = talk.ask(0, Request::WriteSingleRegister(1, 3));
    assert!(talk.hear(&sent).is_none());
    assert!(talk.hear(&sent).unwrap().result.is_ok());
}

#[test]
fn an_echo_that_nobody_expects_is_found_out() {
    for (echo, advice) in [(Echo::No, Some((UNIT, Advice::Echo))), (Echo::Auto, None)] {
        let mut talk = Talk::new(Framing::Rtu, echo);
        let mut heard = talk.ask(0, hr(0, 2));
        heard.extend(bytes("01 03 04 17 70 00 00 FE 5C"));
        check_words(talk.hear(&heard), 0, &[6000, 0]);
        assert_eq!(talk.conversation.take_advice(), advice);
        let sent = talk.ask(1, Request::WriteSingleRegister(1, 3));
        assert_eq!(talk.hear(&sent).is_none(), echo == Echo::Auto, "known now");
    }
}

#[test]
fn what_comes_in_unasked_is_counted() {
    let mut talk = Talk::new(Framing::Rtu, Echo::No);
    assert!(talk.hear(&bytes("00 FF 12")).is_none());
    assert_eq!(talk.link.unasked.get(), 1);
    assert!(talk.conversation.buffer().is_empty());
    talk.conversation.buffer().extend_from_slice(b"x");
    talk.conversation.drop_unasked();
    assert_eq!(talk.link.unasked.get(), 2);
}

const FRAMINGS: [Framing; 3] = [Framing::Tcp, Framing::Rtu, Framing::Ascii];
const ECHOES: [Echo; 3] = [Echo::No, Echo::Yes, Echo::Auto];

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_at_any_time_are_borne_and_never_kept(
        framing in prop::sample::select(&FRAMINGS[..]), echo in prop::sample::select(&ECHOES[..]), count in 1u16..=125,
        pieces in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..64), 0u64..80), 0..16),
    ) {
        let mut talk = Talk::new(framing, echo);
        for (piece, pause) in pieces {
            if talk.conversation.outstanding() == 0 && talk.conversation.rests_until(UNIT, false, talk.now).is_none() {
                talk.ask(0, hr(0, count));
            }
            talk.conversation.buffer().extend_from_slice(&piece);
            if talk.conversation.take(talk.now).is_err() {
                talk.conversation.abandon();
            }
            talk.wait(Duration::from_millis(pause));
            prop_assert!(talk.conversation.buffer().len() <= 1024);
            prop_assert!(talk.conversation.resting.len() <= 4);
        }
    }

    #[test]
    fn an_answer_after_noise_is_found(
        noise in prop::collection::vec(any::<u8>(), 0..40), registers in prop::collection::vec(any::<u16>(), 1..=125),
        is_ascii: bool, cut: prop::sample::Index,
    ) {
        // noise that could begin an answer of this very shape is another test's matter
        let noise: Vec<u8> = noise.into_iter().map(|byte| if byte == 1 || byte == b':' { 2 } else { byte }).collect();
        let encode = if is_ascii { frame::encode_ascii } else { frame::encode_rtu };
        let mut talk = Talk::new(if is_ascii { Framing::Ascii } else { Framing::Rtu }, Echo::No);
        talk.ask(5, hr(0, u16::try_from(registers.len()).unwrap()));
        let heard = [noise, encode(UNIT, &answer_pdu(&registers))].concat();
        let (first, second) = heard.split_at(cut.index(heard.len()));
        prop_assert!(talk.hear(first).is_none());
        check_words(talk.hear(second), 5, &registers);
    }
}
