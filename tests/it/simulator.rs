//! The simulated devices, asked with bytes written by hand and by a client that others have written.

use std::borrow::Cow;
use std::time::Duration;

use tidegate::config::site::{Framing, Parity, SerialLine};
use tidegate::sim::faults::{Fault, Faults, Kind, Moment, Refusal, Spoil, When};
use tidegate::sim::floor::Floor;
use tidegate::sim::serve::{Dial, FarEnd, Line, Shared};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_modbus::prelude::*;

/// The longest that anything may take here.
const PATIENCE: Duration = Duration::from_secs(10);
/// After so long nothing comes any more.
const NOTHING: Duration = Duration::from_millis(80);
const MS: fn(u64) -> Duration = Duration::from_millis;

const LINE: SerialLine = SerialLine { baud: 9600, data_bits: 8, parity: Parity::None, stop_bits: 1 };

/// hr:4 and hr:5 of unit 3, in each framing.
const TCP_REQUEST: &[u8] = &[0, 9, 0, 0, 0, 6, 3, 3, 0, 4, 0, 2];
const RTU_REQUEST: &[u8] = &[3, 3, 0, 4, 0, 2, 0x84, 0x28];
const ASCII_REQUEST: &[u8] = b":030300040002F4\r\n";

/// The first reply to them.
const TCP_REPLY: &[u8] = &[0, 9, 0, 0, 0, 7, 3, 3, 4, 0, 4, 3, 1];
const RTU_REPLY: &[u8] = &[3, 3, 4, 0, 4, 3, 1, 0x59, 0x02];
const ASCII_REPLY: &[u8] = b":03030400040301EE\r\n";

/// Units 1 to 3 of a link, whose registers say whose they are, with one fault.
fn far_end(framing: Framing, fault: Option<Fault>) -> FarEnd {
    let far = FarEnd::new("l", framing, Shared::new(Floor::new(Vec::new()).with_addressed("l", 1..=3)));
    far.set_faults(Faults::new(1, fault.into_iter().collect()));
    far
}

fn always(kind: impl Into<Kind>) -> Option<Fault> {
    Some(Fault::new(When::Always, kind))
}

/// A connection to these devices; they go with the tasks.
async fn call(far: &FarEnd, tasks: &mut JoinSet<()>) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(far.clone().listen(listener));
    TcpStream::connect(address).await.unwrap()
}

/// The gateway's end of a line with these devices.
fn plug(far: &FarEnd, tasks: &mut JoinSet<()>) -> serial2_tokio::SerialPort {
    let line = Line::open().unwrap();
    let port = serial2_tokio::SerialPort::open(&line.path, LINE.baud).unwrap();
    tasks.spawn(far.clone().serve_line(line, LINE));
    port
}

/// Sends `request` and reads exactly `reply`.
#[track_caller]
fn exchange<'a>(
    stream: &'a mut (impl AsyncRead + AsyncWrite + Unpin),
    request: &'a [u8],
    reply: &'a [u8],
) -> impl Future<Output = ()> + 'a {
    let caller = std::panic::Location::caller();
    async move {
        stream.write_all(request).await.unwrap();
        let mut got = vec![0; reply.len()];
        timeout(PATIENCE, stream.read_exact(&mut got)).await.expect("in time").unwrap();
        assert_eq!(got, reply, "{caller}");
    }
}

/// Nothing comes.
async fn expect_silence(stream: &mut (impl AsyncRead + Unpin)) {
    let mut bytes = [0; 300];
    let read = timeout(NOTHING, stream.read(&mut bytes)).await;
    assert!(read.is_err(), "{read:?}: {bytes:?}");
}

/// The far side has hung up.
async fn expect_end(stream: &mut TcpStream) {
    let read = timeout(PATIENCE, stream.read(&mut [0])).await.expect("in time");
    assert!(matches!(read, Ok(0)), "{read:?}");
}

#[tokio::test]
async fn every_framing_is_served_over_tcp() {
    let cases = [
        (Framing::Tcp, TCP_REQUEST, TCP_REPLY),
        (Framing::Rtu, RTU_REQUEST, RTU_REPLY),
        (Framing::Ascii, ASCII_REQUEST, ASCII_REPLY),
    ];
    for (framing, request, reply) in cases {
        let (far, mut tasks) = (far_end(framing, None), JoinSet::new());
        let mut stream = call(&far, &mut tasks).await;
        exchange(&mut stream, request, reply).await;
        stream.write_all(&request[..7]).await.unwrap();
        expect_silence(&mut stream).await;
        let seen = far.take_seen();
        assert_eq!((seen.len(), far.connections()), (1, 1));
        let subject = seen[0].subject;
        assert_eq!((seen[0].unit, subject.function, subject.address, subject.count), (3, 3, 4, 2));
    }
}

#[tokio::test]
async fn what_is_no_modbus_tcp_ends_the_connection() {
    let (far, mut tasks) = (far_end(Framing::Tcp, None), JoinSet::new());
    let mut stream = call(&far, &mut tasks).await;
    stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    expect_end(&mut stream).await;
}

#[tokio::test]
async fn a_late_reply_over_tcp_does_not_hold_up_the_next_one() {
    let late = Fault::new(When::Requests { first: 1, last: 1 }, Spoil::Late(MS(150), MS(150)));
    let (far, mut tasks) = (far_end(Framing::Tcp, Some(late)), JoinSet::new());
    let mut stream = call(&far, &mut tasks).await;
    let second = [0, 10, 0, 0, 0, 6, 3, 3, 0, 6, 0, 2];
    let reply = [0, 10, 0, 0, 0, 7, 3, 3, 4, 0, 6, 3, 2];
    exchange(&mut stream, &[TCP_REQUEST, &second].concat(), &[&reply, TCP_REPLY].concat()).await;
    assert_eq!(far.injected().into_iter().collect::<Vec<_>>(), [("late", 1)]);
}

#[tokio::test]
async fn a_line_takes_its_time_and_the_silence_before_each_request_is_known() {
    let (far, mut tasks) = (far_end(Framing::Rtu, None), JoinSet::new());
    let mut port = plug(&far, &mut tasks);
    let start = tidegate::clock::monotonic();
    exchange(&mut port, RTU_REQUEST, RTU_REPLY).await;
    // 17 characters of 10 bits at 9600 baud, and 3.5 between request and reply
    assert!(start.elapsed() >= MS(21), "{:?}", start.elapsed());
    tokio::time::sleep(MS(30)).await;
    port.write_all(&RTU_REQUEST[..5]).await.unwrap();
    tokio::time::sleep(MS(10)).await;
    port.write_all(&RTU_REQUEST[5..]).await.unwrap();
    port.read_exact(&mut [0; 9]).await.unwrap();
    let silences: Vec<_> = far.take_seen().into_iter().map(|seen| seen.silence).collect();
    assert!(matches!(silences[..], [None, Some(silence)] if silence >= MS(30)), "{silences:?}");
}

#[tokio::test]
async fn a_line_speaks_ascii_as_well() {
    let (far, mut tasks) = (far_end(Framing::Ascii, None), JoinSet::new());
    let mut port = plug(&far, &mut tasks);
    exchange(&mut port, ASCII_REQUEST, ASCII_REPLY).await;
}

#[tokio::test]
async fn half_a_request_on_a_line_is_forgotten() {
    let (far, mut tasks) = (far_end(Framing::Rtu, None), JoinSet::new());
    let mut port = plug(&far, &mut tasks);
    port.write_all(&[3, 16, 0, 0, 0, 100, 200]).await.unwrap(); // waits for 202 bytes more
    tokio::time::sleep(MS(150)).await;
    exchange(&mut port, RTU_REQUEST, RTU_REPLY).await;
}

#[tokio::test]
async fn the_echo_of_an_adapter_stands_before_the_reply() {
    let (far, mut tasks) = (far_end(Framing::Rtu, always(Spoil::Echoed(usize::MAX))), JoinSet::new());
    let mut port = plug(&far, &mut tasks);
    exchange(&mut port, RTU_REQUEST, &[RTU_REQUEST, RTU_REPLY].concat()).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_device_is_slow_each_time_and_a_dead_one_is_dead_for_its_time() {
    let far = far_end(Framing::Rtu, None);
    let dead = When::During { from: MS(1000), to: MS(2000) };
    let plan = vec![
        Fault::new(When::Always, Spoil::Slow(MS(400))).of(3),
        Fault::new(dead, Refusal::Dead), // of all units
    ];
    far.set_faults(Faults::new(1, plan));
    let (mut near, served) = tokio::io::duplex(512);
    let mut tasks = JoinSet::new();
    tasks.spawn(far.clone().serve_stream(served, None));
    let start = tidegate::clock::monotonic();
    let elapsed = || (tidegate::clock::monotonic() - start).as_millis();
    near.write_all(&RTU_REQUEST.repeat(2)).await.unwrap();
    near.read_exact(&mut [0; 9]).await.unwrap();
    assert!((400..=402).contains(&elapsed()), "{}", elapsed());
    near.read_exact(&mut [0; 9]).await.unwrap();
    assert!((800..=802).contains(&elapsed()), "{}", elapsed());
    tokio::time::sleep(MS(300)).await;
    near.write_all(RTU_REQUEST).await.unwrap();
    expect_silence(&mut near).await;
    tokio::time::sleep(MS(1000)).await;
    near.write_all(RTU_REQUEST).await.unwrap();
    near.read_exact(&mut [0; 9]).await.unwrap();
    let injected: Vec<_> = far.injected().into_iter().collect();
    assert_eq!(injected, [("dead", 1), ("slow", 3)]);
}

#[tokio::test]
async fn on_a_line_a_late_unit_answers_into_the_window_of_another_and_keeps_its_own_order() {
    let late = Fault::new(When::Requests { first: 1, last: 1 }, Spoil::Late(MS(200), MS(200))).of(3);
    let (far, mut tasks) = (far_end(Framing::Rtu, Some(late)), JoinSet::new());
    let mut port = plug(&far, &mut tasks);
    let other = [2, 3, 0, 4, 0, 1, 0xC5, 0xF8];
    let others = [2, 3, 2, 0, 4, 0xFD, 0x87];
    let again = [3, 3, 4, 0, 4, 3, 2, 0x19, 0x03];
    let requests = [RTU_REQUEST, &other, RTU_REQUEST].concat();
    exchange(&mut port, &requests, &[&others, RTU_REPLY, &again].concat()).await;
}

#[tokio::test]
async fn nothing_gets_between_the_pieces_of_a_reply() {
    let split = Spoil::Split { at: Some(3), pause: MS(60) };
    let split = Fault::new(When::Requests { first: 1, last: 1 }, split);
    let (far, mut tasks) = (far_end(Framing::Tcp, Some(split)), JoinSet::new());
    let mut stream = call(&far, &mut tasks).await;
    let second = [&TCP_REPLY[..12], &[2]].concat();
    exchange(&mut stream, &TCP_REQUEST.repeat(2), &[TCP_REPLY, &second].concat()).await;
}

#[tokio::test]
async fn a_hang_up_ends_the_connection_and_the_next_one_is_served() {
    let fault = Fault::new(When::Requests { first: 1, last: 1 }, Spoil::HangUp(Moment::Middle));
    let (far, mut tasks) = (far_end(Framing::Tcp, Some(fault)), JoinSet::new());
    let mut stream = call(&far, &mut tasks).await;
    exchange(&mut stream, TCP_REQUEST, &TCP_REPLY[..6]).await;
    expect_end(&mut stream).await;
    let mut stream = TcpStream::connect(stream.peer_addr().unwrap()).await.unwrap();
    exchange(&mut stream, TCP_REQUEST, &[&TCP_REPLY[..12], &[2]].concat()).await;
    assert_eq!(far.connections(), 2);
}

#[tokio::test]
async fn a_port_is_gone_after_a_hang_up() {
    let (far, mut tasks) = (far_end(Framing::Rtu, always(Spoil::HangUp(Moment::After))), JoinSet::new());
    let mut port = plug(&far, &mut tasks);
    exchange(&mut port, RTU_REQUEST, RTU_REPLY).await;
    let read = timeout(PATIENCE, port.read(&mut [0])).await.expect("in time");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

#[tokio::test]
async fn the_first_request_of_each_connection_is_lost() {
    let (far, mut tasks) = (far_end(Framing::Tcp, always(Refusal::FirstLost(PATIENCE))), JoinSet::new());
    let mut stream = call(&far, &mut tasks).await;
    stream.write_all(TCP_REQUEST).await.unwrap();
    expect_silence(&mut stream).await;
    exchange(&mut stream, TCP_REQUEST, TCP_REPLY).await;
    let mut stream = TcpStream::connect(stream.peer_addr().unwrap()).await.unwrap();
    stream.write_all(TCP_REQUEST).await.unwrap();
    expect_silence(&mut stream).await;
}

#[tokio::test]
async fn a_modem_calls_says_who_it_is_and_calls_again() {
    let (far, mut tasks) = (far_end(Framing::Rtu, None), JoinSet::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dial = Dial {
        gateway: listener.local_addr().unwrap(),
        registration: b"IMEI".to_vec(),
        is_prefixed: true,
        heartbeat: Some((b"beat".to_vec(), MS(100))),
        pause: MS(1),
    };
    tasks.spawn(far.clone().dial(dial));
    for count in 1..=2 {
        let (mut stream, _) = timeout(PATIENCE, listener.accept()).await.expect("in time").unwrap();
        let reply = if count == 1 { RTU_REPLY } else { &[3, 3, 4, 0, 4, 3, 2, 0x19, 0x03] };
        exchange(&mut stream, b"", b"IMEI").await;
        exchange(&mut stream, RTU_REQUEST, &[b"IMEI", reply].concat()).await;
        exchange(&mut stream, b"", b"beatbeat").await;
        assert_eq!(far.connections(), count);
    }
}

#[tokio::test]
async fn a_client_that_others_have_written_is_served_in_every_function() {
    let (far, mut tasks) = (far_end(Framing::Tcp, None), JoinSet::new());
    let stream = call(&far, &mut tasks).await;
    let mut client = tcp::attach_slave(stream, Slave(2));
    assert_eq!(client.read_holding_registers(8, 2).await.unwrap().unwrap(), [8, 0x0201]);
    assert_eq!(client.read_input_registers(7, 2).await.unwrap().unwrap(), [0x0202, 8]);
    assert_eq!(client.read_discrete_inputs(2, 3).await.unwrap().unwrap(), [false, true, false]);
    client.write_single_coil(1, true).await.unwrap().unwrap();
    client.write_multiple_coils(2, &[true, false]).await.unwrap().unwrap();
    assert_eq!(client.read_coils(0, 4).await.unwrap().unwrap(), [true, true, true, false]);
    client.write_single_register(10, 1).await.unwrap().unwrap();
    client.write_multiple_registers(11, &[2, 3]).await.unwrap().unwrap();
    client.masked_write_register(10, 0xFF00, 0x00F0).await.unwrap().unwrap();
    let read = client.read_write_multiple_registers(10, 4, 13, &[4]).await.unwrap().unwrap();
    assert_eq!(read, [0x00F0, 2, 3, 4]);
    let identification = client.read_device_identification(ReadCode::Basic, 0).await.unwrap().unwrap();
    let values: Vec<Cow<'_, str>> = identification
        .device_id_objects
        .iter()
        .map(|object| String::from_utf8_lossy(&object.value))
        .collect();
    assert_eq!(values, ["Tidegate", "simulated", "1.0"]);
    let refused = client.read_holding_registers(65_535, 2).await.unwrap();
    assert_eq!(refused, Err(ExceptionCode::IllegalDataAddress));
}
