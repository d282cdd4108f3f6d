//! Devices that answer late, and lines that they share: no value is ever another's, and no device costs another its own.

use std::time::Duration;

use tidegate::config::site::Framing;
use tidegate::poll::lane::{Job, Order, OrderError};
use tidegate::reading::Quality;
use tidegate::scan::Data;
use tidegate::sim::faults::{Fault, Refusal, Spoil, When};
use tidegate::tag::Area;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::rig::{LINE, Rig, far_end, serve_line, serve_tcp, tags};

/// The longest that a simulated device may take to be asked again.
const TIMEOUT: Duration = Duration::from_millis(100);

/// A short form of what `tests/long` runs for ten minutes each.
const SHORT: Duration = Duration::from_secs(30);

/// Every seventh answer comes between one timeout and 1.9 of them after its request.
fn every_seventh_is_late() -> Fault {
    Fault::new(When::Every(7), Spoil::Late(TIMEOUT, TIMEOUT * 19 / 10))
}

/// How long: the short form, or `TIDEGATE_LONG` seconds.
fn time() -> Duration {
    let long = std::env::var("TIDEGATE_LONG").ok().and_then(|seconds| seconds.parse().ok());
    long.map_or(SHORT, Duration::from_secs)
}

/// Polls four blocks at 50 ms on a link with this configuration; not one value may be another's, and so many must come.
async fn check_late_answers(link: &str, a_second_min: u64) {
    let text = format!(
        "[link.l]\n{link}\n[device.d]\nlink = \"l\"\nevery = \"50ms\"\ntimeout = \"100ms\"\nmax_registers = 4\n{}",
        tags(8, 2)
    );
    let mut rig = Rig::start(&text);
    let heard = rig.hear(time()).await;
    heard.assert_true();
    let device = rig.device("d");
    eprintln!(
        "{} values, {} requests, {} timeouts, {} late answers",
        heard.count(),
        device.requests.get(),
        device.timeouts.get(),
        device.late.get()
    );
    assert!(device.late.get() > time().as_secs() / 4, "answers were late");
    assert!(heard.count() >= a_second_min * time().as_secs(), "{} values", heard.count());
}

#[tokio::test]
async fn late_answers_over_tcp_are_never_taken_for_others() {
    let mut tasks = JoinSet::new();
    let far = far_end(Framing::Tcp, [1], [every_seventh_is_late()]);
    let address = serve_tcp(&far, &mut tasks).await;
    check_late_answers(&format!("tcp = \"{address}\""), 40).await;
}

#[tokio::test]
async fn late_answers_on_a_serial_line_are_never_taken_for_others() {
    let mut tasks = JoinSet::new();
    let far = far_end(Framing::Rtu, [1], [every_seventh_is_late()]);
    let port = serve_line(&far, LINE, &mut tasks);
    check_late_answers(&format!("port = \"{}\"\nserial = \"115200 8N1\"", port.display()), 20).await;
}

#[tokio::test]
async fn late_answers_of_a_serial_line_behind_tcp_are_never_taken_for_others() {
    let mut tasks = JoinSet::new();
    let far = far_end(Framing::Rtu, [1], [every_seventh_is_late()]);
    let address = serve_tcp(&far, &mut tasks).await;
    check_late_answers(&format!("tcp = \"{address}\"\nframing = \"rtu\""), 20).await;
}

/// Eight units ask for three quarters of a line; one of them is dead.
#[tokio::test]
async fn one_dead_unit_costs_the_seven_others_next_to_nothing() {
    let mut tasks = JoinSet::new();
    let far = far_end(Framing::Rtu, 1..=8, [Fault::new(When::Always, Refusal::Dead).of(5)]);
    let line = tidegate::config::site::SerialLine { baud: 19_200, ..LINE };
    let port = serve_line(&far, line, &mut tasks);
    // 20 registers take 8 + 45 bytes, two silences and a turnaround: about 40 ms
    let text = format!(
        "[link.l]\nport = \"{}\"\nserial = \"19200 8N1\"\n[device.\"d{{unit}}\"]\nlink = \"l\"\nunit = \"1-8\"\nevery = \"400ms\"\n{}",
        port.display(),
        tags(10, 2)
    );
    let mut rig = Rig::start(&text);
    rig.hear(SHORT).await.assert_true();
    let seconds = 20;
    let heard = rig.hear(Duration::from_secs(seconds)).await;
    heard.assert_true();
    assert_eq!(heard.of("d5"), 0);
    let asked = seconds * 1000 / 400 * 10;
    for seen in far.take_seen().iter().filter(|seen| seen.unit == 5) {
        eprintln!("dead unit asked at {:?}", seen.at);
    }
    for unit in 1..=8 {
        let device = rig.device(&format!("d{unit}"));
        eprintln!(
            "{unit}: {} requests, {} retries, {} timeouts, {} overruns, p50 {:?} p99 {:?}",
            device.requests.get(),
            device.retries.get(),
            device.timeouts.get(),
            device.overruns(),
            device.replies.percentile(50),
            device.replies.percentile(99)
        );
    }
    eprintln!("busy {:?}", rig.counters.links[0].busy.get());
    for unit in [1, 2, 3, 4, 6, 7, 8] {
        let got = heard.of(&format!("d{unit}"));
        assert!(got * 100 >= asked * 95, "unit {unit}: {got} of {asked}");
    }
}

/// Three units ask for three times what the line carries.
#[tokio::test]
async fn a_line_that_is_asked_too_much_serves_its_units_alike_and_counts_what_it_missed() {
    let mut tasks = JoinSet::new();
    let far = far_end(Framing::Rtu, 1..=3, []);
    let port = serve_line(&far, LINE, &mut tasks);
    let text = format!(
        "[link.l]\nport = \"{}\"\nserial = \"115200 8N1\"\n[device.\"d{{unit}}\"]\nlink = \"l\"\nunit = \"1-3\"\nevery = \"10ms\"\n{}",
        port.display(),
        tags(5, 2)
    );
    let mut rig = Rig::start(&text);
    rig.hear(TIMEOUT * 15).await; // the line must be silent at first
    let heard = rig.hear(TIMEOUT * 30).await;
    heard.assert_true();
    let each = [1, 2, 3].map(|unit| heard.of(&format!("d{unit}")));
    let (least, most) = (each.iter().min().unwrap(), each.iter().max().unwrap());
    assert!(*least > 50 && least * 10 >= most * 9, "{each:?}");
    assert!((1..=3).all(|unit| rig.device(&format!("d{unit}")).overruns() > 50));
    let utilisation = rig.counters.links[0].busy.get().as_secs_f64() / 4.5;
    assert!((0.5..=1.0).contains(&utilisation), "{utilisation}");
}

/// A fast tag beside slow ones: where both are due they share a request, and no tag is read oftener than it was asked for.
#[tokio::test]
async fn groups_that_are_due_at_once_share_requests() {
    let mut tasks = JoinSet::new();
    let far = far_end(Framing::Tcp, [1], []);
    let address = serve_tcp(&far, &mut tasks).await;
    let text = format!(
        "[link.l]\ntcp = \"{address}\"\n[device.d]\nlink = \"l\"\nevery = \"1s\"\ntags = [\n\
         {{ name = \"fast\", at = \"hr:0\", type = \"u32\", every = \"200ms\" }},\n\
         {{ name = \"slow\", at = \"hr:2\", type = \"u32\" }},\n]\n"
    );
    let mut rig = Rig::start(&text);
    let heard = rig.hear(TIMEOUT * 31).await;
    heard.assert_true();
    let requests = far.take_seen().len();
    assert!((14..=17).contains(&heard.values["d:fast"]), "{heard:?}");
    assert!((3..=4).contains(&heard.values["d:slow"]), "{heard:?}");
    assert!((14..=17).contains(&requests), "{requests} requests: the slow tag rides along");
}

/// A write without an answer resets its connection: where it is not to be had again, nothing is left as it was read last.
#[tokio::test]
async fn after_a_write_without_an_answer_a_link_that_cannot_be_opened_again_is_down() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let text = format!(
        "[link.l]\ntcp = \"{}\"\n[device.d]\nlink = \"l\"\nevery = \"100ms\"\ntimeout = \"200ms\"\n\
         tags = [{{ name = \"t\", at = \"hr:0\" }}]\n",
        listener.local_addr().unwrap()
    );
    let mut rig = Rig::start(&text);
    let (mut stream, _) = listener.accept().await.unwrap();
    drop(listener);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut request = [0; 12];
        while stream.read_exact(&mut request).await.is_ok() {
            if request[7] == 3 {
                let [high, low, ..] = request;
                stream.write_all(&[high, low, 0, 0, 0, 5, 1, 3, 2, 0, 0]).await.unwrap();
            }
        }
    });
    let heard = rig.hear_until(TIMEOUT * 50, |heard| heard.count() > 2).await;
    assert!(heard.count() > 2 && heard.bad.is_empty(), "{heard:?}");
    let (outcome, told) = oneshot::channel();
    let data = Data::Words(vec![7]);
    let job = Job::Write { area: Area::HoldingRegisters, address: 1, data, functions: None };
    let not_after = tidegate::clock::monotonic() + TIMEOUT * 50;
    let order = Order { device: rig.site.devices[0].id, job, not_after, is_patient: false, outcome };
    rig.orders[0].as_ref().unwrap().send(order).await.unwrap();
    let heard = rig.hear_until(TIMEOUT * 50, |heard| !heard.bad.is_empty()).await;
    assert!(matches!(told.await.unwrap(), Err(OrderError::Unclear(_))));
    assert_eq!(heard.bad["d:t"], [Quality::BadNotConnected]);
}
