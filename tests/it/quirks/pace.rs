//! When devices are asked: silences, slow devices, several requests and connections at a time, writes between reads.

use std::time::Duration;

use tidegate::clock;
use tidegate::config::site::{Framing, SerialLine};
use tidegate::driver::Answer;
use tidegate::link::timing;
use tidegate::poll::lane::{Job, OrderError};
use tidegate::sim::faults::{Fault, Faults, Refusal, Spoil, When};
use tidegate::tag::{Area, Span};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_modbus::Response;

use super::{Field, MS, WAYS, Way, assert_good, device, on_each};
use crate::rig::{LINE, Rig, far_end, serve_line, tags};

fn always(kind: impl Into<tidegate::sim::faults::Kind>) -> Fault {
    Fault::new(When::Always, kind)
}

/// Q11
#[tokio::test]
async fn a_device_that_needs_a_pause_gets_the_one_that_is_configured() {
    let pause = MS(40);
    let keys = |quirks: &str| {
        format!("every = \"100ms\"\ntimeout = \"200ms\"\nmax_registers = 4\n{quirks}\n{}", tags(6, 2))
    };
    let cases = [("gap = \"45ms\"", ""), ("", "quirks = { gap = \"45ms\" }")];
    let cases = cases.map(|(link, quirks)| WAYS.map(|way| (way, link, keys(quirks))));
    on_each(cases.as_flattened().to_vec(), move |(way, link, keys)| async move {
        let mut field =
            Field::new(way, [1], [always(Refusal::TooSoon(pause))], link, &device(1, &keys)).await;
        let heard = field.hear(1700).await;
        heard.assert_true();
        assert_good(&heard, &["d1"]);
        assert_eq!(field.rig.device("d1").timeouts.get(), 0, "{way:?}: it dropped requests");
        let silences: Vec<_> = field.far.take_seen().iter().filter_map(|seen| seen.silence).collect();
        assert!(silences.len() > 10 && silences.iter().all(|silence| *silence >= pause), "{silences:?}");
    })
    .await;
    // without it requests are lost: the device is as described
    let mut field =
        Field::new(Way::Tcp, [1], [always(Refusal::TooSoon(pause))], "", &device(1, &keys(""))).await;
    field.hear(600).await;
    assert!(field.rig.device("d1").timeouts.get() > 0);
}

/// Modbus over Serial Line V1.02, 2.5.1.1: at 9600 baud 4 ms, and whatever the configuration asks for on top.
#[tokio::test]
async fn before_each_request_a_line_is_silent_for_as_long_as_a_frame_needs() {
    let line = SerialLine { baud: 9600, ..LINE };
    on_each([("", MS(0)), ("gap = \"1ms\"", MS(0)), ("gap = \"12ms\"", MS(12))], |(gap, least)| async move {
        let line = line;
        let mut tasks = JoinSet::new();
        let far = far_end(Framing::Rtu, 1..=2, []);
        let port = serve_line(&far, line, &mut tasks);
        let devices = format!("every = \"20ms\"\nmax_registers = 2\n{}", tags(3, 2));
        let devices = device(1, &devices) + &device(2, &devices);
        let text =
            format!("[link.l]\nport = \"{}\"\nserial = \"9600 8N1\"\n{gap}\n{devices}", port.display());
        let mut rig = Rig::start(&text);
        let heard = rig.hear(MS(2000)).await;
        heard.assert_true();
        assert_good(&heard, &["d1", "d2"]);
        let least = least.max(timing::frame_gap(&line));
        let silences: Vec<_> = far.take_seen().iter().filter_map(|seen| seen.silence).collect();
        assert!(silences.len() > 15, "{}", silences.len());
        assert!(silences.iter().all(|silence| *silence >= least), "{least:?}: {:?}", silences.iter().min());
    })
    .await;
}

/// Q12
#[tokio::test]
async fn the_first_request_after_opening_may_get_lost_and_nothing_is_bad() {
    on_each(WAYS, |way| async move {
        let lost = Fault::new(When::Always, Refusal::FirstLost(MS(60_000)));
        let keys = format!("every = \"100ms\"\ntimeout = \"200ms\"\nretries = 0\n{}", tags(4, 2));
        let mut field = Field::new(way, [1], [lost], "", &device(1, &keys)).await;
        let heard = field.hear_all(5000).await;
        heard.assert_true();
        assert_good(&heard, &["d1"]);
        assert_eq!(field.far.injected()["first lost"], 1);
        assert_eq!(field.rig.device("d1").retries.get(), 1, "{way:?}");
    })
    .await;
}

/// Q12; and a connection at rest is closed, and opened when it is needed.
#[tokio::test]
async fn a_connection_without_use_is_closed_and_each_new_one_may_lose_its_first_request() {
    let lost = Fault::new(When::Always, Refusal::FirstLost(MS(60_000)));
    let keys = format!("every = \"700ms\"\ntimeout = \"150ms\"\nretries = 0\n{}", tags(2, 2));
    let mut field = Field::new(Way::Tcp, [1], [lost], "idle_close = \"150ms\"", &device(1, &keys)).await;
    let heard = field.hear(3000).await;
    heard.assert_true();
    assert_good(&heard, &["d1"]);
    let (connections, polls) = (field.far.connections(), heard.values["d1:r0"]);
    assert!((3..=6).contains(&connections), "{connections} connections");
    assert!(polls + 1 >= connections, "{polls} polls over {connections} connections");
    assert_eq!(heard.downs, [""; 0]);
}

/// Q12
#[tokio::test]
async fn a_device_that_needs_time_after_connecting_is_left_alone_for_so_long() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let keys = format!("quirks = {{ connect_delay = \"400ms\" }}\n{}", tags(1, 2));
    let text = format!("[link.l]\ntcp = \"{}\"\n{}", listener.local_addr().unwrap(), device(1, &keys));
    let mut rig = Rig::start(&text);
    let wait = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let connected = clock::monotonic();
        stream.read_exact(&mut [0; 12]).await.unwrap();
        clock::monotonic() - connected
    };
    tokio::select! {
        waited = wait => assert!(waited >= MS(390) && waited < MS(3000), "{waited:?}"),
        _ = rig.hear(MS(8000)) => panic!("nothing was asked"),
    }
}

/// Q13
#[tokio::test]
async fn a_slow_device_is_waited_for_and_costs_others_no_more_than_its_own_slot() {
    on_each([Way::Tcp, Way::Line], |way| async move {
        let slow = always(Spoil::Late(MS(550), MS(650))).of(1);
        let devices = device(1, &format!("every = \"1s\"\n{}", tags(2, 2)))
            + &device(2, &format!("every = \"250ms\"\n{}", tags(2, 2)));
        let mut field = Field::new(way, 1..=2, [slow], "", &devices).await;
        field.hear_all(6000).await.assert_true();
        field.far.take_seen().clear();
        let heard = field.hear(3500).await;
        heard.assert_true();
        assert_good(&heard, &["d1", "d2"]);
        let slow = field.rig.device("d1");
        assert_eq!((slow.timeouts.get(), slow.late.get()), (0, 0), "{way:?}");
        assert!(heard.values["d1:r0"] >= 3, "{way:?}");
        assert!(heard.values["d2:r0"] >= 6, "{way:?}: {}", heard.values["d2:r0"]);
        let at: Vec<Duration> =
            field.far.take_seen().iter().filter(|seen| seen.unit == 2).map(|seen| seen.at).collect();
        let most = at.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(most < MS(1300), "{way:?}: unit 2 waited {most:?}");
    })
    .await;
}

/// Q13: a device becomes slow, within what is configured.
#[tokio::test]
async fn a_device_that_is_slow_at_times_is_not_given_up_before_its_timeout() {
    on_each(WAYS, |way| async move {
        let slow = Fault::new(When::Every(10), Spoil::Late(MS(600), MS(600)));
        let keys = format!("every = \"100ms\"\ntimeout = \"1s\"\nretries = 0\n{}", tags(2, 2));
        let mut field = Field::new(way, [1], [slow], "", &device(1, &keys)).await;
        let heard = field.hear(2700).await;
        heard.assert_true();
        assert_good(&heard, &["d1"]);
    })
    .await;
}

/// Q15
#[tokio::test]
async fn how_fast_each_unit_answers_is_measured_without_the_time_on_the_wire() {
    let mut tasks = JoinSet::new();
    let far = far_end(Framing::Rtu, 1..=2, [always(Spoil::Slow(MS(80))).of(2)]);
    let port = serve_line(&far, SerialLine { baud: 9600, ..LINE }, &mut tasks);
    // 40 registers take 102 ms at 9600 baud
    let keys = format!("every = \"200ms\"\n{}", tags(20, 2));
    let devices = device(1, &keys) + &device(2, &keys);
    let text = format!("[link.l]\nport = \"{}\"\nserial = \"9600 8N1\"\n{devices}", port.display());
    let mut rig = Rig::start(&text);
    assert_good(&rig.hear(MS(3000)).await, &["d1", "d2"]);
    let half = |device: &str| rig.device(device).replies.percentile(50).unwrap();
    assert!(rig.device("d1").replies.count() >= 3);
    // it thinks for 5 ms and a frame's silence
    assert!(half("d1") >= MS(5) && half("d1") < MS(60), "{:?}", half("d1"));
    assert!(half("d2") >= MS(80) && half("d2") < MS(160), "{:?}", half("d2"));
}

/// Nothing else: the device is slow, and has eight blocks that are always due.
#[tokio::test]
async fn a_write_waits_for_the_request_under_way_and_for_nothing_else() {
    on_each(WAYS, |way| async move {
        let keys = format!("every = \"50ms\"\nmax_registers = 2\n{}", tags(8, 2));
        let slow = always(Spoil::Slow(MS(150)));
        let mut field = Field::new(way, [1], [slow], "", &device(1, &keys)).await;
        field.hear_all(8000).await;
        for number in 0..3 {
            field.hear(70).await;
            field.far.take_seen().clear();
            let asked = clock::monotonic();
            let outcome = field.write("d1", 100, &[number]).await;
            let took = clock::monotonic() - asked;
            assert!(matches!(outcome, Ok(Answer::Response(_))), "{way:?}: {outcome:?}");
            let seen = field.far.take_seen();
            let before = seen.iter().position(|seen| seen.subject.function == 6).expect("a write");
            assert!(before <= 1, "{way:?}: {before} reads came first");
            assert!(took < MS(300) + MS(400), "{way:?}: {took:?}");
        }
    })
    .await;
}

/// A device of another maker on the same line waits for nothing either.
#[tokio::test]
async fn a_write_comes_before_the_reads_of_all_devices() {
    let keys = format!("every = \"20ms\"\nmax_registers = 2\n{}", tags(8, 2));
    let devices: String = (1..=4).map(|unit| device(unit, &keys)).collect();
    let mut field = Field::new(Way::Line, 1..=4, [], "", &devices).await;
    field.hear_all(6000).await;
    field.far.take_seen().clear();
    assert!(matches!(field.write("d4", 100, &[1, 2]).await, Ok(Answer::Response(_))));
    let seen = field.far.take_seen();
    let before = seen.iter().position(|seen| seen.subject.function == 16).expect("a write");
    assert!(before <= 1, "{before} reads came first");
}

/// An answer takes 100 ms, whatever else is asked meanwhile.
#[tokio::test]
async fn as_many_requests_as_configured_are_under_way_at_a_time() {
    on_each([(1, 14..=25), (4, 50..=90)], |(in_flight, requests)| async move {
        let keys = format!("every = \"10ms\"\nmax_registers = 2\n{}", tags(8, 2));
        let late = always(Spoil::Late(MS(100), MS(100)));
        let link = format!("in_flight = {in_flight}");
        let mut field = Field::new(Way::Tcp, [1], [late], &link, &device(1, &keys)).await;
        field.hear_all(5000).await;
        field.far.take_seen().clear();
        let heard = field.hear(2000).await;
        heard.assert_true();
        assert_good(&heard, &["d1"]);
        let seen = field.far.take_seen().len();
        assert!(requests.contains(&seen), "{seen} requests in 2 s with {in_flight} in flight");
        assert_eq!(field.far.connections(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_link_has_one_connection_or_as_many_as_configured() {
    on_each([("", 1), ("connections = 2", 2), ("connections = 16", 5)], |(link, wanted)| async move {
        let keys = format!("every = \"20ms\"\n{}", tags(4, 2));
        let devices: String = (1..=5).map(|unit| device(unit, &keys)).collect();
        let mut field = Field::new(Way::Tcp, 1..=5, [], link, &devices).await;
        field.hear_all(3000).await.assert_true();
        let heard = field.hear(500).await;
        heard.assert_true();
        assert_good(&heard, &["d1", "d2", "d3", "d4", "d5"]);
        assert_eq!(field.far.connections(), wanted, "{link}");
    })
    .await;
}

/// With two connections a dead unit holds up only its own.
#[tokio::test]
async fn units_on_another_connection_do_not_wait_for_a_slow_one() {
    let devices: String =
        (1..=2).map(|unit| device(unit, &format!("every = \"50ms\"\n{}", tags(2, 2)))).collect();
    let mut field = Field::new(Way::Tcp, 1..=2, [], "connections = 2", &devices).await;
    field.hear_all(3000).await;
    field.far.set_faults(Faults::new(1, vec![always(Spoil::Late(MS(800), MS(800))).of(1)]));
    let heard = field.hear(1500).await;
    assert!(heard.values["d2:r0"] >= 15, "{} of 30", heard.values["d2:r0"]);
}

/// A read that is ordered: what the device has now, ahead of polling, and one request only.
#[tokio::test]
async fn an_ordered_read_is_answered_once_and_a_masked_write_leaves_the_other_bits() {
    on_each(WAYS, |way| async move {
        let mut field =
            Field::new(way, [1, 2], [], "", &(device(1, &tags(2, 2)) + &device(2, &tags(2, 2)))).await;
        field.hear_all(5000).await;
        let id = field.rig.site.devices[0].id;
        let read = |address| Job::Read(Span { area: Area::HoldingRegisters, address, count: 1 });
        assert!(matches!(field.write("d1", 100, &[0x00F0]).await, Ok(Answer::Response(_))), "{way:?}");
        let mask = Job::Mask { address: 100, and: 0xFFF7, or: 0x0008 };
        assert!(matches!(field.order(id, mask, false).await, Ok(Answer::Response(_))), "{way:?}");
        let before = field.far.take_seen().len();
        let got = field.order(id, read(100), false).await;
        assert_eq!(got, Ok(Answer::Response(Response::ReadHoldingRegisters(vec![0x00F8]))), "{way:?}");
        assert!(before > 0);
        let asked = field.far.take_seen().into_iter().filter(|seen| seen.subject.address == 100).count();
        assert_eq!((asked, field.far.writes(1), field.far.writes(2)), (1, 2, 0), "{way:?}");
    })
    .await;
}

/// A device that is gone is not written to, and not asked in vain; who is patient waits for it.
#[tokio::test]
async fn orders_to_a_device_that_is_gone_are_refused_at_once_but_for_the_patient() {
    let keys = format!("every = \"50ms\"\ntimeout = \"50ms\"\n{}", tags(1, 2));
    let mut field = Field::new(Way::Tcp, [1], [], "", &device(1, &keys)).await;
    field.hear_all(2000).await;
    field.far.set_faults(Faults::new(1, vec![always(Refusal::Dead)]));
    field.rig.hear_until(MS(10_000), |heard| !heard.downs.is_empty()).await;
    let id = field.rig.site.devices[0].id;
    let read = || Job::Read(Span { area: Area::HoldingRegisters, address: 0, count: 1 });
    assert_eq!(field.write("d1", 100, &[7]).await, Err(OrderError::Down));
    assert_eq!(field.order(id, read(), false).await, Err(OrderError::Down));
    assert_eq!(field.order(id, read(), true).await, Err(OrderError::Unclear(MS(50))));
    field.far.set_faults(Faults::new(1, Vec::new()));
    assert!(matches!(field.order(id, read(), true).await, Ok(Answer::Response(_))));
    assert_eq!(field.far.writes(1), 0);
}
