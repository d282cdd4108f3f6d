//! Links that come and go: servers, ports, callers; and devices that were away.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::symlink;
use tidegate::clock;
use tidegate::config::site::Framing;
use tidegate::reading::Quality;
use tidegate::sim::faults::{Fault, Faults, Refusal, When};
use tidegate::sim::serve::{Dial, FarEnd};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::{Field, Log, MS, WAYS, Way, assert_good, bad_of, device, on_each};
use crate::rig::{Heard, LINE, Rig, far_end, serve_line, serve_tcp, tags};

fn dead(unit: u8) -> Fault {
    Fault::new(When::Always, Refusal::Dead).of(unit)
}

/// An address on this machine where nobody listens.
async fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap()
}

fn dial(gateway: SocketAddr, registration: &str, is_prefixed: bool, tasks: &mut JoinSet<()>, far: &FarEnd) {
    let dial = Dial {
        gateway,
        registration: registration.into(),
        is_prefixed,
        heartbeat: Some((b"PING".to_vec(), MS(150))),
        pause: MS(100),
    };
    tasks.spawn(far.clone().dial(dial));
}

/// Q20
#[tokio::test]
async fn callers_are_told_apart_and_what_they_say_beside_the_protocol_never_reaches_it() {
    on_each([(Framing::Rtu, false), (Framing::Rtu, true), (Framing::Tcp, false)], |(framing, prefixed)| async move {
        let gateway = free_address().await;
        let mut tasks = JoinSet::new();
        let [first, second, stranger] = [1, 2, 1].map(|unit| far_end(framing, [unit], []));
        dial(gateway, "DTU-10000001", prefixed, &mut tasks, &first);
        dial(gateway, "DTU-10000002", prefixed, &mut tasks, &second);
        dial(gateway, "DTU-99999999", prefixed, &mut tasks, &stranger);
        let framing = if framing == Framing::Tcp { "tcp" } else { "rtu" };
        let keys = format!("every = \"50ms\"\ntimeout = \"300ms\"\n{}", tags(4, 2));
        let text = format!(
            "[link.l]\nlisten = \"{gateway}\"\nframing = \"{framing}\"\nregistration = '^DTU-(?<id>[0-9]{{8}})$'\n\
             heartbeat = 'PING'\nprefixed = {prefixed}\n\
             callers = {{ 10000001 = \"one\", 10000002 = \"two\" }}\n{}{}",
            device(1, &format!("caller = \"one\"\n{keys}")),
            device(2, &format!("caller = \"two\"\n{keys}")),
        );
        let mut rig = Rig::start(&text);
        let is_enough = |heard: &Heard| heard.of("d1") > 40 && heard.of("d2") > 40;
        let heard = rig.hear_until(MS(6000), is_enough).await;
        heard.assert_true();
        assert!(is_enough(&heard), "{framing} {prefixed}: {} {}", heard.of("d1"), heard.of("d2"));
        let heard = rig.hear(MS(1200)).await;
        heard.assert_true();
        assert_good(&heard, &["d1", "d2"]);
        for device in ["d1", "d2"] {
            let counters = rig.device(device);
            assert_eq!(counters.foreign.get() + counters.timeouts.get(), 0, "{framing} {prefixed} {device}");
        }
        assert_eq!(rig.counters.links[0].unasked.get(), 0);
        assert!(rig.counters.links[0].callers_unknown.get() >= 1);
        assert_eq!(stranger.take_seen(), [], "a stranger is asked nothing");
        assert!(first.take_seen().iter().all(|seen| seen.unit == 1));
    })
    .await;
}

/// Q20
#[tokio::test]
async fn a_caller_that_has_hung_up_is_bad_and_good_again_when_it_dials_in() {
    let gateway = free_address().await;
    let (mut gone, mut stays) = (JoinSet::new(), JoinSet::new());
    let [first, second] = [1, 2].map(|unit| far_end(Framing::Rtu, [unit], []));
    dial(gateway, "DTU-10000001", false, &mut gone, &first);
    dial(gateway, "DTU-10000002", false, &mut stays, &second);
    let keys = format!("every = \"50ms\"\ntimeout = \"300ms\"\n{}", tags(2, 2));
    let text = format!(
        "[link.l]\nlisten = \"{gateway}\"\nregistration = '^DTU-(?<id>[0-9]{{8}})$'\nheartbeat = '^(PING)$'\n{}{}",
        device(1, &format!("caller = \"10000001\"\n{keys}")),
        device(2, &format!("caller = \"10000002\"\n{keys}")),
    );
    let mut rig = Rig::start(&text);
    let both = |heard: &Heard| heard.of("d1") > 0 && heard.of("d2") > 0;
    assert!(both(&rig.hear_until(MS(5000), both).await));
    gone.shutdown().await;
    let heard = rig.hear_until(MS(2000), |heard| !heard.bad.is_empty()).await;
    assert_eq!(bad_of(&heard, "d1"), [Quality::BadNotConnected]);
    let heard = rig.hear(MS(500)).await;
    assert_good(&heard, &["d2"]);
    assert_eq!(heard.of("d1"), 0);
    dial(gateway, "DTU-10000001", false, &mut gone, &first);
    let heard = rig.hear_until(MS(5000), both).await;
    heard.assert_true();
    assert!(both(&heard));
    assert_good(&heard, &["d2"]);
}

/// Q34
#[tokio::test]
async fn a_port_that_vanishes_is_bad_at_once_and_good_soon_after_it_is_back_under_its_stable_name() {
    let (log, _guard) = Log::start();
    let folder = tempfile::tempdir().unwrap();
    let name = folder.path().join("usb-adapter");
    let (mut adapter, mut tasks) = (JoinSet::new(), JoinSet::new());
    let line = far_end(Framing::Rtu, [1], []);
    symlink(serve_line(&line, LINE, &mut adapter), &name).unwrap();
    let other = far_end(Framing::Tcp, [2], []);
    let address = serve_tcp(&other, &mut tasks).await;
    let keys = format!("every = \"200ms\"\ntimeout = \"200ms\"\n{}", tags(3, 2));
    let text = format!(
        "[link.l]\nport = \"{}\"\nserial = \"115200 8N1\"\n[link.o]\ntcp = \"{address}\"\n{}{}",
        name.display(),
        device(1, &keys),
        device(2, &keys).replace("link = \"l\"", "link = \"o\""),
    );
    let mut rig = Rig::start(&text);
    let both = |heard: &Heard| heard.of("d1") > 5 && heard.of("d2") > 5;
    assert!(both(&rig.hear_until(MS(5000), both).await));

    std::fs::remove_file(&name).unwrap();
    adapter.shutdown().await;
    let vanished = clock::monotonic();
    let heard = rig.hear_until(MS(3000), |heard| heard.bad.len() == 3).await;
    let took = clock::monotonic() - vanished;
    assert_eq!(bad_of(&heard, "d1"), [Quality::BadNotConnected]);
    assert!(took < MS(200) + MS(500), "bad within a cycle, not after {took:?}");

    let heard = rig.hear(MS(2500)).await;
    assert_good(&heard, &["d2"]);
    assert!(heard.values["d2:r0"] >= 9, "{} of 12", heard.values["d2:r0"]);
    assert_eq!(heard.of("d1"), 0);
    let attempts = log.count("not open");
    assert!((2..=5).contains(&attempts), "{attempts} attempts in 3 s");

    symlink(serve_line(&line, LINE, &mut adapter), &name).unwrap();
    let heard = rig.hear_until(MS(10_000), |heard| heard.values.len() == 6).await;
    heard.assert_true();
    assert_good(&heard, &["d1", "d2"]);
    assert_eq!(rig.counters.connects.get(), 3, "each link once, and the port once more");
}

#[tokio::test]
async fn a_server_that_was_away_for_5_s_is_good_again_within_10_s() {
    let far = far_end(Framing::Tcp, [1], []);
    let mut tasks = JoinSet::new();
    let address = serve_tcp(&far, &mut tasks).await;
    let keys = format!("every = \"200ms\"\n{}", tags(3, 2));
    let mut rig = Rig::start(&format!("[link.l]\ntcp = \"{address}\"\n{}", device(1, &keys)));
    assert_good(&rig.hear_until(MS(3000), |heard| heard.of("d1") > 5).await, &["d1"]);
    tasks.shutdown().await;
    let heard = rig.hear(MS(5000)).await;
    assert_eq!(bad_of(&heard, "d1"), [Quality::BadNotConnected]);
    assert_eq!(heard.downs, ["d1"]);
    tasks.spawn(far.clone().listen(TcpListener::bind(address).await.unwrap()));
    let heard = rig.hear_until(MS(10_000), |heard| heard.values.len() == 3).await;
    heard.assert_true();
    assert_good(&heard, &["d1"]);
}

/// Whether a unit stays dead until the longest wait between two probes is reached, and not only until it counts as gone.
fn is_long() -> bool {
    std::env::var_os("TIDEGATE_LONG").is_some()
}

#[tokio::test]
async fn a_unit_that_was_dead_is_good_again_within_10_s_and_the_others_all_the_time() {
    on_each(WAYS, |way| async move {
        let keys = format!("every = \"200ms\"\ntimeout = \"300ms\"\n{}", tags(3, 2));
        let devices: String = (1..=3).map(|unit| device(unit, &keys)).collect();
        let mut field = Field::new(way, 1..=3, [], "", &devices).await;
        field.hear_all(5000).await;
        field.far.set_faults(Faults::new(1, vec![dead(2)]));
        let is_gone = |heard: &Heard| !is_long() && !heard.downs.is_empty();
        let heard = field.rig.hear_until(MS(20_000), is_gone).await;
        assert_good(&heard, &["d1", "d3"]);
        assert_eq!(bad_of(&heard, "d2"), [Quality::BadCommLastValueKnown], "{way:?}");
        assert_eq!(heard.downs, ["d2"], "{way:?}");
        field.far.set_faults(Faults::new(1, Vec::new()));
        let is_enough = |heard: &Heard| heard.of("d2") >= 3 && heard.of("d1") > 0 && heard.of("d3") > 0;
        let heard = field.rig.hear_until(MS(10_000), is_enough).await;
        heard.assert_true();
        assert_good(&heard, &["d1", "d3"]);
        assert!(heard.of("d2") >= 3, "{way:?}: not back");
        assert_eq!(field.far.connections(), 1, "{way:?}");
    })
    .await;
}

/// A server that has no place left says so and hangs up.
#[tokio::test]
async fn a_server_that_greets_and_hangs_up_is_not_called_again_and_again_without_a_pause() {
    on_each(
        [("tcp", &b"all ports in use\r\n"[..]), ("rtu", b"all ports in use\r\n"), ("tcp", b"")],
        |(framing, words)| async move {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let address = listener.local_addr().unwrap();
            let text =
                format!("[link.l]\ntcp = \"{address}\"\nframing = \"{framing}\"\n{}", device(1, &tags(1, 2)));
            let mut rig = Rig::start(&text);
            let mut calls = 0;
            let greet = async {
                loop {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    calls += 1;
                    stream.write_all(words).await.unwrap();
                }
            };
            tokio::select! {
                () = greet => {}
                heard = rig.hear(MS(3000)) => assert_eq!(heard.count(), 0),
            }
            assert!((2..=8).contains(&calls), "{framing} {words:?}: {calls} calls in 3 s");
        },
    )
    .await;
}

/// Behind a gateway the silence of some units says nothing about the connection.
#[tokio::test]
async fn dead_units_behind_a_gateway_do_not_end_its_connection_or_take_the_time_of_others() {
    let keys = format!("every = \"1s\"\ntimeout = \"400ms\"\n{}", tags(3, 2));
    let devices: String = (1..=5).map(|unit| device(unit, &keys)).collect();
    let mut field = Field::new(Way::Tcp, 1..=5, (2..=5).map(dead), "", &devices).await;
    field.hear(2500).await;
    field.far.take_seen().clear();
    let (before, heard) = (field.far.connections(), field.hear(4000).await);
    assert_good(&heard, &["d1"]);
    let probes = field.far.take_seen().iter().filter(|seen| seen.unit > 1).count();
    let opened = field.far.connections() - before;
    assert!(probes <= 12 && opened == 0, "{probes} probes, opened {opened} times in 4 s");
}

/// A server that answers, and hangs up after each answer.
#[tokio::test]
async fn a_device_that_hangs_up_after_each_answer_is_called_again_at_once() {
    let hang_up =
        Fault::new(When::Always, tidegate::sim::faults::Spoil::HangUp(tidegate::sim::faults::Moment::After));
    let keys = format!("every = \"100ms\"\n{}", tags(2, 2));
    let mut field = Field::new(Way::Tcp, [1], [hang_up], "", &device(1, &keys)).await;
    let heard = field.hear(2000).await;
    heard.assert_true();
    assert_good(&heard, &["d1"]);
    assert!(heard.values["d1:r0"] >= 12, "{} of 20", heard.values["d1:r0"]);
}

/// Nobody reads; then somebody does.
#[tokio::test]
async fn a_server_that_takes_the_connection_and_never_answers_is_opened_anew_and_found_again() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let keys = format!("every = \"200ms\"\ntimeout = \"200ms\"\n{}", tags(2, 2));
    let mut rig = Rig::start(&format!("[link.l]\ntcp = \"{address}\"\n{}", device(1, &keys)));
    let mut calls = 0;
    let swallow = async {
        let mut streams = JoinSet::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            calls += 1;
            streams
                .spawn(async move { while stream.read(&mut [0; 64]).await.is_ok_and(|count| count > 0) {} });
        }
    };
    tokio::select! {
        () = swallow => {}
        heard = rig.hear(MS(2500)) => assert_eq!(bad_of(&heard, "d1"), [Quality::BadCommLastValueKnown]),
    }
    assert!((2..=10).contains(&calls), "{calls} calls in 2.5 s");
    let mut tasks = JoinSet::new();
    tasks.spawn(far_end(Framing::Tcp, [1], []).listen(listener));
    let heard = rig.hear_until(MS(10_000), |heard| heard.of("d1") >= 2).await;
    assert!(heard.of("d1") >= 2);
}
