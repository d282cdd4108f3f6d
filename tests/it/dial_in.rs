//! Units that dial in: over real sockets, from the first byte to the bus that gets them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tidegate::counters::LinkCounters;
use tidegate::link::caller::Caller;
use tidegate::link::listen::{Callers, Listener, REGISTERING_MAX, Terms, WAITING_MAX};
use tidegate::link::registration::{Rules, pattern};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// A listening link with the buses `lathe-1` and `lathe-2`.
struct Link {
    address: SocketAddr,
    counters: Arc<LinkCounters>,
    lathe_1: mpsc::Receiver<Caller>,
    lathe_2: mpsc::Receiver<Caller>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// `[link.dtu]` of the reference.
fn terms() -> Terms {
    let rules = Rules::new(
        Some(pattern("^DTU-(?<id>[0-9]{8})$").unwrap()),
        Some(pattern(r"^(PING|\x00)$").unwrap()),
        false,
    );
    let callers = [("10000001", "lathe-1"), ("10000002", "lathe-2"), ("10000003", "lathe-3")];
    let callers = callers.map(|(id, name)| (id.to_owned(), name.into())).into();
    Terms { link: "dtu".into(), rules: Arc::new(rules), allow: Vec::new(), callers: Callers::Named(callers) }
}

impl Link {
    async fn open(terms: Terms) -> Link {
        let listener = Listener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let counters = Arc::new(LinkCounters::default());
        let (stop, stopped) = watch::channel(false);
        let (sender_1, lathe_1) = mpsc::channel(WAITING_MAX);
        let (sender_2, lathe_2) = mpsc::channel(WAITING_MAX);
        let everyone = sender_1.clone();
        let buses = BTreeMap::from([
            ("lathe-1".into(), sender_1),
            ("lathe-2".into(), sender_2),
            ("127.0.0.1".into(), everyone),
        ]);
        let mut tasks = JoinSet::new();
        tasks.spawn(listener.serve(terms, buses, counters.clone(), stopped));
        Link { address, counters, lathe_1, lathe_2, stop, tasks }
    }

    async fn dial(&self, first: &[u8]) -> TcpStream {
        let mut unit = TcpStream::connect(self.address).await.unwrap();
        unit.write_all(first).await.unwrap();
        unit
    }
}

/// The far end has closed the connection.
async fn assert_closed(mut unit: TcpStream) {
    let count = unit.read(&mut [0]).await;
    assert!(matches!(count, Ok(0) | Err(_)), "{count:?}");
}

/// All protocol bytes until the unit hangs up.
async fn read_all(caller: &mut Caller) -> Vec<u8> {
    let mut protocol = BytesMut::new();
    let mut taken = Vec::new();
    while caller.read(&mut protocol).await.unwrap() > 0 {
        taken.extend_from_slice(&protocol.split());
    }
    taken
}

#[tokio::test]
async fn a_caller_is_handed_to_its_bus_and_its_heartbeats_never_reach_the_protocol() {
    let mut link = Link::open(terms()).await;
    let mut unit = link.dial(b"DTU-10000002").await;
    let mut caller = link.lathe_2.recv().await.unwrap();
    assert_eq!((caller.id.as_str(), caller.peer), ("10000002", unit.local_addr().unwrap()));

    caller.write(b"\x01\x03\x00\x00\x00\x01\x84\x0a").await.unwrap();
    let mut request = [0; 8];
    unit.read_exact(&mut request).await.unwrap();
    let answer = b"\x01\x03\x02\x00\x00\xb8\x44";
    let speak = async {
        for chunk in [&b"PING"[..], answer, b"\x00"] {
            unit.write_all(chunk).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await; // read as a packet of its own
        }
        drop(unit);
    };
    let ((), protocol) = tokio::join!(speak, read_all(&mut caller));
    assert_eq!(protocol, answer);
    assert!(link.lathe_1.try_recv().is_err());
}

#[tokio::test]
async fn a_registration_in_pieces_or_glued_to_what_follows_is_understood() {
    let mut link = Link::open(terms()).await;
    let mut unit = link.dial(b"DTU-1").await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    unit.write_all(b"0000001\x01\x83\x02\xc0\xf1").await.unwrap();
    let mut caller = link.lathe_1.recv().await.unwrap();
    let mut protocol = BytesMut::new();
    assert_eq!(caller.read(&mut protocol).await.unwrap(), 5);
    assert_eq!(&protocol[..], b"\x01\x83\x02\xc0\xf1");
}

#[tokio::test]
async fn heartbeats_that_nobody_has_read_are_not_glued_to_the_answer() {
    let mut link = Link::open(terms()).await;
    let mut unit = link.dial(b"DTU-10000001").await;
    let mut caller = link.lathe_1.recv().await.unwrap();
    unit.write_all(b"PINGPING\x00PING").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(caller.discard_input(), 0);
    unit.write_all(b"late").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(caller.discard_input(), 4);
    unit.write_all(b"\x01\x83\x02\xc0\xf1").await.unwrap();
    let mut protocol = BytesMut::new();
    caller.read(&mut protocol).await.unwrap();
    assert_eq!(&protocol[..], b"\x01\x83\x02\xc0\xf1");
}

#[tokio::test]
async fn what_is_held_back_is_handed_out_when_nothing_follows_and_no_wait_loses_it() {
    let rules =
        Rules::new(Some(pattern("^DTU-(?<id>[0-9]{8})").unwrap()), Some(pattern("PING").unwrap()), false);
    let mut link = Link::open(Terms { rules: Arc::new(rules), ..terms() }).await;
    let mut unit = link.dial(b"DTU-10000001\x01P").await;
    let mut caller = link.lathe_1.recv().await.unwrap();
    let mut protocol = BytesMut::new();
    assert_eq!(caller.read(&mut protocol).await.unwrap(), 1);
    for _ in 0..3 {
        let given_up = tokio::time::timeout(Duration::from_millis(5), caller.read(&mut protocol)).await;
        assert!(given_up.is_err());
    }
    assert_eq!(caller.read(&mut protocol).await.unwrap(), 1);
    assert_eq!(&protocol.split()[..], b"\x01P");
    unit.write_all(b"\x02PI").await.unwrap();
    assert_eq!(caller.read(&mut protocol).await.unwrap(), 1);
    unit.write_all(b"NG\x03").await.unwrap();
    assert_eq!(caller.read(&mut protocol).await.unwrap(), 1);
    assert_eq!(&protocol[..], b"\x02\x03");
}

#[tokio::test]
async fn an_unknown_caller_is_refused_and_counted() {
    let mut link = Link::open(terms()).await;
    assert_closed(link.dial(b"DTU-99999999").await).await;
    assert_eq!(link.counters.callers_unknown.get(), 1);
    // known, but without a device behind it
    assert_closed(link.dial(b"DTU-10000003").await).await;
    assert_eq!(link.counters.callers_unknown.get(), 2);
    assert!(link.lathe_1.try_recv().is_err());
}

#[tokio::test]
async fn what_is_no_registration_is_refused_and_counted() {
    let link = Link::open(terms()).await;
    assert_closed(link.dial(&[b'x'; 300]).await).await;
    assert_eq!(link.counters.callers_refused.get(), 1);
    let mut hung_up = link.dial(b"DTU-1000").await;
    hung_up.shutdown().await.unwrap();
    assert_closed(hung_up).await;
    assert_eq!(link.counters.callers_refused.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_says_nothing_is_refused_after_a_while() {
    let link = Link::open(terms()).await;
    let start = tidegate::clock::monotonic();
    assert_closed(link.dial(b"").await).await;
    assert_eq!(link.counters.callers_refused.get(), 1);
    assert_eq!((tidegate::clock::monotonic() - start).as_secs(), 10);
}

#[tokio::test]
async fn an_address_that_is_not_allowed_is_refused_before_a_byte_is_read() {
    let allow = vec!["10.64.0.0/16".parse().unwrap()];
    let link = Link::open(Terms { allow, ..terms() }).await;
    assert_closed(TcpStream::connect(link.address).await.unwrap()).await;
    assert_eq!(link.counters.callers_refused.get(), 1);

    let allow = vec!["10.64.0.0/16".parse().unwrap(), "127.0.0.0/8".parse().unwrap()];
    let mut link = Link::open(Terms { allow, ..terms() }).await;
    let _unit = link.dial(b"DTU-10000001").await;
    link.lathe_1.recv().await.unwrap();
}

#[tokio::test]
async fn a_caller_that_dials_in_again_is_handed_over_again_and_the_newest_comes_last() {
    let mut link = Link::open(terms()).await;
    let _lost = link.dial(b"DTU-10000001").await;
    let first = link.lathe_1.recv().await.unwrap();
    let unit = link.dial(b"DTU-10000001").await;
    let second = link.lathe_1.recv().await.unwrap();
    assert_ne!(first.peer, second.peer);
    assert_eq!(second.peer, unit.local_addr().unwrap());
}

#[tokio::test]
async fn a_bus_that_takes_no_callers_refuses_them() {
    let mut link = Link::open(terms()).await;
    let mut units = Vec::new();
    for _ in 0..WAITING_MAX {
        units.push(link.dial(b"DTU-10000001").await);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_closed(link.dial(b"DTU-10000001").await).await;
    assert_eq!(link.counters.callers_refused.get(), 1);
    assert_eq!(link.lathe_1.len(), WAITING_MAX);
    link.lathe_1.close();
    assert_closed(link.dial(b"DTU-10000001").await).await;
    assert_eq!(link.counters.callers_refused.get(), 2);
}

#[tokio::test]
async fn only_so_many_may_register_at_a_time() {
    let link = Link::open(terms()).await;
    let mut silent = Vec::new();
    for _ in 0..REGISTERING_MAX {
        silent.push(link.dial(b"DTU").await);
    }
    assert_closed(link.dial(b"DTU-10000001").await).await;
    assert_eq!(link.counters.callers_refused.get(), 1);
}

#[tokio::test]
async fn without_a_registration_the_address_is_the_id_and_nothing_is_waited_for() {
    let terms = Terms { rules: Arc::new(Rules::default()), callers: Callers::Everyone, ..terms() };
    let mut link = Link::open(terms).await;
    let _unit = link.dial(b"").await;
    assert_eq!(link.lathe_1.recv().await.unwrap().id, "127.0.0.1");
}

#[tokio::test]
async fn a_stopped_link_ends_and_closes_its_port() {
    let mut link = Link::open(terms()).await;
    let registering = link.dial(b"DTU").await;
    link.stop.send(true).unwrap();
    link.tasks.join_next().await.unwrap().unwrap();
    assert_closed(registering).await;
    assert!(TcpStream::connect(link.address).await.is_err());
}
