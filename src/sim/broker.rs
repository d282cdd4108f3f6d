//! An embedded MQTT 3.1.1 broker, for `tidegate demo` and for tests.
//!
//! - In: TCP connections of MQTT clients.
//! - Out: the messages they publish, to those of them which subscribed.
//! - Never: it does not authenticate (a user name and password are read and ignored), does not
//!   encrypt, writes nothing to disk, and does not panic. Whatever bytes a client sends, only its
//!   own connection suffers.
//!
//! The document followed is MQTT Version 3.1.1, OASIS Standard, 29 October 2014; clauses stand at
//! the rules which come from them. Offered are QoS 0 and 1 (a subscription with QoS 2 is granted
//! QoS 1, a message with QoS 2 ends the connection), retained messages, wills and wildcards. Every
//! session is a clean one: a client asking for a persistent session is served, and told that none
//! is present; so nothing is sent again after a connection was lost.
//!
//! Here are the sockets and the clock; what is sent to whom is decided by the pure `router`. One
//! task, the hub, owns the router. Each connection has a task which decodes what arrives and
//! encodes what leaves. All queues between them are bounded, and the hub never waits for a
//! client: whoever does not keep up is disconnected.

mod router;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;

use bytes::BytesMut;
use rumqttc::mqttbytes::v4::{Connect, Packet};
use rumqttc::mqttbytes::{self, FixedHeader, PacketType, Protocol};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{Duration, sleep, timeout};
use tracing::{debug, warn};

use router::{Action, ConnectionId, MAX_RETAINED, Output, Router};

/// Connections at one time; a further one is closed as soon as it is accepted.
const MAX_CONNECTIONS: usize = 256;

/// Bytes a packet may have after its fixed header; at a longer one the connection is closed.
const MAX_PACKET_SIZE: usize = 1024 * 1024;

/// Packets waiting for one client; at one more the client is disconnected. Twice what is retained,
/// so that one subscription to everything fits.
const OUTGOING_QUEUE: usize = 2 * MAX_RETAINED;

/// Packets and endings waiting for the hub; while it is full, nothing more is read from sockets.
const INBOX: usize = 256;

/// How long a new connection may take for its CONNECT; then it is closed (3.1.4).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a client may take to accept what is written to it at once; then it is disconnected.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait when the operating system has no connection to give, as without free file
/// descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Room to read into, and the size from which on outgoing packets are no longer gathered.
const CHUNK: usize = 16 * 1024;

/// A broker which listens, and serves once it is told to.
///
/// Its limits: 256 connections (a further one is closed at once), 256 subscriptions per client (a
/// further one is refused in SUBACK), 4096 retained messages (one for a further topic is not
/// retained), 1 MiB per packet (a larger one ends the connection). A client is disconnected, and
/// its will published, when 8192 packets wait for it, when it has left 16384 messages
/// unacknowledged, when it accepts nothing for 10 s, or when it is silent for one and a half times
/// its keep-alive.
#[derive(Debug)]
pub struct Broker {
    listener: TcpListener,
    hub: Hub,
    inbox: Receiver<(ConnectionId, Event)>,
}

impl Broker {
    /// Listens on the address; port 0 takes any free port. Clients can connect from now on, and
    /// are answered once [`Broker::serve`] runs.
    ///
    /// # Errors
    ///
    /// If the operating system refuses the address.
    pub async fn bind(address: SocketAddr) -> io::Result<Broker> {
        let listener = TcpListener::bind(address).await?;
        let (events, inbox) = mpsc::channel(INBOX);
        Ok(Broker { listener, hub: Hub::new(events), inbox })
    }

    /// The address clients connect to.
    ///
    /// # Errors
    ///
    /// If the operating system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the future is dropped; every connection ends with it.
    pub async fn serve(mut self) {
        loop {
            tokio::select! {
                stream = accept(&self.listener) => self.hub.admit(stream),
                Some((connection, event)) = self.inbox.recv() => self.hub.take(connection, event),
                Some(result) = self.hub.tasks.join_next() => self.hub.reap(result),
            }
        }
    }
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                warn!(%error, "accepting a connection failed");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What a connection tells the hub.
#[derive(Debug)]
enum Event {
    /// The client sent a packet.
    Received(Packet),
    /// The connection is over; nothing follows.
    Ended(Ending),
}

/// Carries packets between the connections and the router.
#[derive(Debug)]
struct Hub {
    router: Router,
    links: BTreeMap<ConnectionId, Link>,
    /// Tasks of all connections, also of those which have no link any more and send what is left.
    tasks: JoinSet<()>,
    events: Sender<(ConnectionId, Event)>,
    last_connection: u64,
}

/// The hub's end of a connection. Once dropped, the connection sends what is queued and ends.
#[derive(Debug)]
struct Link {
    outgoing: Sender<Packet>,
    task: AbortHandle,
}

impl Hub {
    fn new(events: Sender<(ConnectionId, Event)>) -> Hub {
        Hub {
            router: Router::default(),
            links: BTreeMap::new(),
            tasks: JoinSet::new(),
            events,
            last_connection: 0,
        }
    }

    fn admit(&mut self, stream: TcpStream) {
        if self.tasks.len() >= MAX_CONNECTIONS {
            warn!("connection refused: there are {MAX_CONNECTIONS} already");
            return;
        }
        self.last_connection += 1;
        let connection = ConnectionId(self.last_connection);
        debug!(?connection, peer = ?stream.peer_addr().ok(), "accepted");
        let (outgoing, queue) = mpsc::channel(OUTGOING_QUEUE);
        let events = self.events.clone();
        let task = self.tasks.spawn(async move {
            let ending = converse(stream, connection, &events, queue).await;
            // Fails only where there is no hub left to tell.
            events.send((connection, Event::Ended(ending))).await.ok();
        });
        self.links.insert(connection, Link { outgoing, task });
    }

    fn take(&mut self, connection: ConnectionId, event: Event) {
        // What a connection had on its way when it was closed comes too late.
        if !self.links.contains_key(&connection) {
            return;
        }
        let outputs = match event {
            Event::Received(packet) => self.router.handle(connection, packet),
            Event::Ended(ending) => self.close(connection, &ending),
        };
        self.settle(outputs);
    }

    /// A task which panicked could not tell that its connection is over.
    fn reap(&mut self, result: Result<(), JoinError>) {
        let Err(error) = result else { return };
        let broken = self.links.iter().find(|(_, link)| link.task.id() == error.id());
        if let Some((&connection, _)) = broken {
            let outputs = self.close(connection, &error);
            self.settle(outputs);
        }
    }

    /// Carries out what the router wants, and what it wants in consequence.
    fn settle(&mut self, outputs: Vec<Output>) {
        let mut pending = VecDeque::from(outputs);
        while let Some((connection, action)) = pending.pop_front() {
            pending.extend(match action {
                Action::Send(packet) => self.send(connection, packet),
                Action::Close(reason) => self.close(connection, &reason),
            });
        }
    }

    fn send(&mut self, connection: ConnectionId, packet: Packet) -> Vec<Output> {
        let Some(link) = self.links.get(&connection) else {
            return Vec::new();
        };
        match link.outgoing.try_send(packet) {
            Ok(()) => Vec::new(),
            Err(TrySendError::Full(_)) => {
                link.task.abort();
                self.close(connection, &"the client does not keep up")
            }
            // Its end is in the inbox, behind packets of it which still count.
            Err(TrySendError::Closed(_)) => Vec::new(),
        }
    }

    fn close(&mut self, connection: ConnectionId, why: &dyn Display) -> Vec<Output> {
        debug!(?connection, %why, "closed");
        self.links.remove(&connection);
        self.router.disconnect(connection)
    }
}

/// Why a connection is over.
#[derive(Debug, Error)]
enum Ending {
    #[error("closed by the broker")]
    Released,
    #[error("closed by the client")]
    EndOfStream,
    #[error("no packet within {0:?}")]
    Silent(Duration),
    #[error("nothing accepted within {0:?}")]
    Stuck(Duration),
    #[error("malformed packet: {0}")]
    Malformed(#[from] mqttbytes::Error),
    #[error("{0}")]
    Socket(#[from] io::Error),
}

/// One connection from its beginning to its end.
async fn converse(
    mut stream: TcpStream,
    connection: ConnectionId,
    events: &Sender<(ConnectionId, Event)>,
    queue: Receiver<Packet>,
) -> Ending {
    if let Err(error) = stream.set_nodelay(true) {
        return error.into();
    }
    let (reader, writer) = stream.split();
    let mut receiving = pin!(receive(reader, connection, events));
    tokio::select! {
        ending = &mut receiving => ending,
        // A client may send, say DISCONNECT and be gone before it was answered: what it sent still
        // counts, and reading comes to the same end.
        ending = transmit(writer, queue) => {
            if matches!(ending, Ending::Socket(_)) { receiving.await } else { ending }
        }
    }
}

/// Hands packets to the hub until the client sends no more of them.
async fn receive(
    mut reader: impl AsyncRead + Unpin,
    connection: ConnectionId,
    events: &Sender<(ConnectionId, Event)>,
) -> Ending {
    let mut buffer = BytesMut::new();
    let mut patience = CONNECT_TIMEOUT;
    loop {
        let packet = match timeout(patience, next_packet(&mut reader, &mut buffer)).await {
            Ok(Ok(packet)) => packet,
            Ok(Err(ending)) => return ending,
            Err(_) => return Ending::Silent(patience),
        };
        if let Packet::Connect(connect) = &packet {
            patience = patience_with(connect.keep_alive);
        }
        if events.send((connection, Event::Received(packet))).await.is_err() {
            return Ending::Released;
        }
    }
}

/// One and a half times the keep-alive (MQTT-3.1.2-24); 0 turns it off.
fn patience_with(keep_alive: u16) -> Duration {
    match keep_alive {
        0 => Duration::MAX,
        seconds => Duration::from_millis(1500) * u32::from(seconds),
    }
}

async fn next_packet(reader: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut) -> Result<Packet, Ending> {
    loop {
        if let Some(packet) = decode(buffer)? {
            return Ok(packet);
        }
        buffer.reserve(CHUNK);
        if reader.read_buf(buffer).await? == 0 {
            return Err(Ending::EndOfStream);
        }
    }
}

/// Sends what is queued until the hub lets go of the connection.
async fn transmit(mut writer: impl AsyncWrite + Unpin, mut queue: Receiver<Packet>) -> Ending {
    let mut buffer = BytesMut::new();
    while let Some(packet) = queue.recv().await {
        // What was within the limit when it came is sent, also where its header, which the codec
        // counts here but not there, exceeds it.
        if let Err(error) = packet.write(&mut buffer, usize::MAX) {
            return error.into();
        }
        if !queue.is_empty() && buffer.len() < CHUNK {
            continue;
        }
        match timeout(WRITE_TIMEOUT, writer.write_all_buf(&mut buffer)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error.into(),
            Err(_) => return Ending::Stuck(WRITE_TIMEOUT),
        }
    }
    Ending::Released
}

/// Takes the first packet off the buffer, or nothing while it is incomplete.
fn decode(buffer: &mut BytesMut) -> Result<Option<Packet>, mqttbytes::Error> {
    let header = match mqttbytes::check(buffer.iter(), MAX_PACKET_SIZE) {
        Ok(header) => header,
        Err(mqttbytes::Error::InsufficientBytes(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut frame = buffer.split_to(header.frame_length());
    check_flags(header, &frame)?;
    if header.packet_type()? == PacketType::Connect && !speaks_level_4(&frame)? {
        // The codec would read it by the rules of level 4 and may fail; that it is of another
        // level is all the router needs to refuse it.
        let connect = Connect { protocol: Protocol::V5, ..Connect::new("") };
        return Ok(Some(Packet::Connect(connect)));
    }
    Packet::read(&mut frame, MAX_PACKET_SIZE).map(Some)
}

/// The flags the codec does not look at have fixed values (MQTT-2.2.2-2).
fn check_flags(header: FixedHeader, frame: &[u8]) -> Result<(), mqttbytes::Error> {
    let kind = header.packet_type()?;
    let numbered = [PacketType::PubRel, PacketType::Subscribe, PacketType::Unsubscribe];
    let expected = if numbered.contains(&kind) { 0b0010 } else { 0 };
    let actual = frame.first().map(|byte| byte & 0b1111);
    if kind == PacketType::Publish || actual == Some(expected) {
        Ok(())
    } else {
        Err(mqttbytes::Error::IncorrectPacketFormat)
    }
}

/// Whether a CONNECT is of protocol level 4, which is MQTT 3.1.1 (3.1.2.2).
fn speaks_level_4(frame: &[u8]) -> Result<bool, mqttbytes::Error> {
    let remaining_length = frame.iter().skip(1).take_while(|byte| *byte & 0x80 != 0).count() + 1;
    match frame.get(1 + remaining_length..) {
        // The lowest connect flag is reserved (MQTT-3.1.2-3).
        Some([0, 4, b'M', b'Q', b'T', b'T', 4, flags, ..]) if flags & 1 == 0 => Ok(true),
        Some([0, 4, b'M', b'Q', b'T', b'T', level, ..]) if *level != 4 => Ok(false),
        _ => Err(mqttbytes::Error::InvalidProtocol),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rumqttc::mqttbytes::QoS;
    use rumqttc::mqttbytes::v4::LastWill;
    use rumqttc::{AsyncClient, EventLoop, Incoming, MqttOptions};

    const REFUSED_PROTOCOL_VERSION: &[u8] = &[0x20, 2, 0, 1];
    const ACCEPTED: &[u8] = &[0x20, 2, 0, 0];

    /// A broker which serves as long as the set lives.
    async fn start() -> (SocketAddr, JoinSet<()>) {
        let broker = Broker::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = broker.local_addr().unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(broker.serve());
        (address, serving)
    }

    fn client(address: SocketAddr, name: &str) -> (AsyncClient, EventLoop) {
        let mut options = MqttOptions::new(name, address.ip().to_string(), address.port());
        options.set_max_packet_size(2 * MAX_PACKET_SIZE, 2 * MAX_PACKET_SIZE);
        AsyncClient::new(options, 16)
    }

    async fn subscriber(address: SocketAddr, name: &str, filter: &str) -> (AsyncClient, EventLoop) {
        let (client, mut events) = client(address, name);
        client.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
        while !matches!(next(&mut events).await, Incoming::SubAck(_)) {}
        (client, events)
    }

    async fn next(events: &mut EventLoop) -> Incoming {
        loop {
            if let rumqttc::Event::Incoming(packet) = events.poll().await.unwrap() {
                return packet;
            }
        }
    }

    async fn next_message(events: &mut EventLoop) -> (String, Vec<u8>) {
        loop {
            if let Incoming::Publish(message) = next(events).await {
                return (message.topic, message.payload.to_vec());
            }
        }
    }

    fn encode(packets: &[Packet]) -> BytesMut {
        let mut bytes = BytesMut::new();
        for packet in packets {
            packet.write(&mut bytes, usize::MAX).unwrap();
        }
        bytes
    }

    fn connect_with_will(keep_alive: u16) -> Packet {
        let last_will = Some(LastWill::new("will", "gone", QoS::AtLeastOnce, false));
        Packet::Connect(Connect { keep_alive, last_will, ..Connect::new("mortal") })
    }

    fn publish(topic: &str, qos: QoS, payload: &[u8], pkid: u16) -> Packet {
        let message = rumqttc::Publish::new(topic, qos, payload);
        Packet::Publish(rumqttc::Publish { pkid, ..message })
    }

    async fn send(address: SocketAddr, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }

    /// All the broker sends until it closes the connection; a reset counts as closed.
    async fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.ok();
        bytes
    }

    #[tokio::test]
    async fn a_message_reaches_a_subscriber() {
        let (address, _serving) = start().await;
        let (_subscriber, mut received) = subscriber(address, "subscriber", "hall/+").await;
        let (publisher, mut events) = client(address, "publisher");
        publisher.publish("hall/1", QoS::AtLeastOnce, false, "20.5").await.unwrap();
        while !matches!(next(&mut events).await, Incoming::PubAck(_)) {}
        assert_eq!(next_message(&mut received).await, ("hall/1".into(), b"20.5".to_vec()));
    }

    #[tokio::test]
    async fn a_packet_of_the_largest_size_passes() {
        let (address, _serving) = start().await;
        let (client, mut events) = subscriber(address, "both", "big").await;
        // What remains beside the topic with its length and the packet identifier.
        let payload = vec![7; MAX_PACKET_SIZE - 7];
        client.publish("big", QoS::AtLeastOnce, false, payload.clone()).await.unwrap();
        assert_eq!(next_message(&mut events).await, ("big".into(), payload));
    }

    #[tokio::test]
    async fn garbage_ends_its_own_connection_only() {
        let (address, _serving) = start().await;
        let (client, mut events) = subscriber(address, "bystander", "a").await;
        let oversized: &[u8] = &[0x30, 0xFF, 0xFF, 0xFF, 0x7F];
        for garbage in [[b'G'; 256].as_slice(), &[0xFF; 64], &[0; 64], oversized] {
            let mut stream = send(address, garbage).await;
            assert_eq!(until_closed(&mut stream).await, b"");
        }
        client.publish("a", QoS::AtMostOnce, false, "still here").await.unwrap();
        assert_eq!(next_message(&mut events).await.1, b"still here");
    }

    #[tokio::test]
    async fn garbage_after_connect_publishes_the_will() {
        let (address, _serving) = start().await;
        let (_watcher, mut events) = subscriber(address, "watcher", "will").await;
        let mut bytes = encode(&[connect_with_will(0)]);
        bytes.extend_from_slice(&[0xFF; 8]);
        let _stream = send(address, &bytes).await;
        assert_eq!(next_message(&mut events).await.1, b"gone");
    }

    #[tokio::test]
    async fn another_protocol_level_is_refused_with_its_code() {
        let (address, _serving) = start().await;
        let version_5 = [0x10, 17, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 60, 3, 0x21, 0, 20, 0, 1, b'x'];
        let mut stream = send(address, &version_5).await;
        assert_eq!(until_closed(&mut stream).await, REFUSED_PROTOCOL_VERSION);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_connect_is_closed() {
        let (address, _serving) = start().await;
        let mut stream = send(address, &[0x10]).await;
        assert_eq!(until_closed(&mut stream).await, b"");
    }

    #[tokio::test]
    async fn a_client_silent_for_longer_than_its_keep_alive_is_gone() {
        let (address, _serving) = start().await;
        let (_watcher, mut events) = subscriber(address, "watcher", "will").await;
        let mut stream = send(address, &encode(&[connect_with_will(1)])).await;
        assert_eq!(next_message(&mut events).await.1, b"gone");
        assert_eq!(until_closed(&mut stream).await, ACCEPTED);
    }

    #[tokio::test]
    async fn what_a_client_sent_before_it_left_still_counts() {
        let (address, _serving) = start().await;
        let (_watcher, mut events) = subscriber(address, "watcher", "#").await;
        let mut packets = vec![connect_with_will(0)];
        packets.extend((1..=1000).map(|id| publish("last", QoS::AtLeastOnce, b"words", id)));
        packets.push(Packet::Disconnect);
        drop(send(address, &encode(&packets)).await);
        for _ in 1..=1000 {
            assert_eq!(next_message(&mut events).await.0, "last");
        }
        let _other = send(
            address,
            &encode(&[Packet::Connect(Connect::new("other")), publish("after", QoS::AtMostOnce, b"", 0)]),
        )
        .await;
        assert_eq!(next_message(&mut events).await.0, "after");
    }

    #[tokio::test]
    async fn a_client_which_does_not_read_is_disconnected() {
        let (address, _serving) = start().await;
        let (_watcher, mut events) = subscriber(address, "watcher", "will").await;
        let subscribe = rumqttc::Subscribe { pkid: 1, ..rumqttc::Subscribe::new("flood", QoS::AtMostOnce) };
        let deaf = encode(&[connect_with_will(0), Packet::Subscribe(subscribe)]);
        let mut deaf = send(address, &deaf).await;
        let mut greeting = [0; 9];
        deaf.read_exact(&mut greeting).await.unwrap();
        let mut flood = send(address, &encode(&[Packet::Connect(Connect::new("flood"))])).await;
        let message = encode(&[publish("flood", QoS::AtMostOnce, &[0; 32 * 1024], 0)]);
        tokio::select! {
            () = async { while flood.write_all(&message).await.is_ok() {} } => panic!("flood ended"),
            (topic, _) = next_message(&mut events) => assert_eq!(topic, "will"),
        }
    }

    #[tokio::test]
    async fn connections_beyond_the_bound_are_closed_and_room_is_made_by_those_which_end() {
        let (address, _serving) = start().await;
        let hello = encode(&[Packet::Connect(Connect::new(""))]);
        let mut streams = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            let mut stream = send(address, &hello).await;
            stream.read_exact(&mut [0; 4]).await.unwrap();
            streams.push(stream);
        }
        let mut excess = TcpStream::connect(address).await.unwrap();
        assert_eq!(until_closed(&mut excess).await, b"");

        let mut leaving = streams.pop().unwrap();
        leaving.write_all(&encode(&[Packet::Disconnect])).await.unwrap();
        assert_eq!(until_closed(&mut leaving).await, b"");
        let mut welcome = send(address, &hello).await;
        let mut answer = [0; 4];
        welcome.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, ACCEPTED);
    }

    #[tokio::test]
    async fn dropping_the_future_ends_every_connection() {
        let (address, mut serving) = start().await;
        let mut stream = send(address, &encode(&[Packet::Connect(Connect::new("a"))])).await;
        stream.read_exact(&mut [0; 4]).await.unwrap();
        serving.shutdown().await;
        assert_eq!(until_closed(&mut stream).await, b"");
    }

    #[test]
    fn a_packet_is_decoded_once_it_is_complete() {
        let bytes = encode(&[connect_with_will(30), Packet::PingReq]);
        let mut buffer = BytesMut::new();
        let mut decoded = Vec::new();
        for byte in bytes {
            buffer.extend_from_slice(&[byte]);
            decoded.extend(decode(&mut buffer).unwrap());
        }
        assert_eq!(decoded, [connect_with_will(30), Packet::PingReq]);
    }

    #[test]
    fn malformed_packets_are_told_from_incomplete_ones() {
        let malformed: [&[u8]; 12] = [
            &[0x00, 0x00],                                               // no such type
            &[0xF0, 0x00],                                               // no such type
            &[0xC1, 0x00],                                               // PINGREQ with a flag
            &[0x80, 6, 0, 1, 0, 1, b'a', 0],                             // SUBSCRIBE without its flag
            &[0x82, 2, 0, 1],                                            // SUBSCRIBE to nothing
            &[0x82, 6, 0, 1, 0, 1, b'a', 3],                             // SUBSCRIBE with QoS 3
            &[0xA2, 5, 0, 1, 0, 9, b'a'],                                // a filter beyond the end
            &[0x36, 3, 0, 1, b'a'],                                      // PUBLISH with QoS 3
            &[0x32, 5, 0, 1, b'a', 0, 0],                                // PUBLISH with identifier 0
            &[0x30, 3, 0, 1, 0xFF],                                      // a topic not UTF-8
            &[0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 3, 0, 0, 0, 0], // reserved connect flag
            &[0x30, 0x80, 0x80, 0x80, 0x80, 0x01],                       // a length of five bytes
        ];
        for bytes in malformed {
            assert!(decode(&mut BytesMut::from(bytes)).is_err(), "{bytes:02x?}");
        }
    }

    #[test]
    fn no_bytes_make_the_broker_panic() {
        let mut random = 1_u64;
        let mut router = Router::default();
        let valid = encode(&[
            connect_with_will(1),
            publish("é/b", QoS::AtLeastOnce, b"payload", 1),
            Packet::Subscribe(rumqttc::Subscribe {
                pkid: 1,
                ..rumqttc::Subscribe::new("é/#", QoS::AtLeastOnce)
            }),
            Packet::Unsubscribe(rumqttc::Unsubscribe { pkid: 2, topics: vec!["é/#".into()] }),
        ]);
        for round in 0..20_000 {
            let mut bytes = valid.clone();
            for _ in 0..3 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let place = usize::try_from(random >> 33).unwrap() % bytes.len();
                bytes[place] = random.to_be_bytes()[0];
            }
            while let Ok(Some(packet)) = decode(&mut bytes) {
                router.handle(ConnectionId(round), packet);
            }
            router.disconnect(ConnectionId(round));
        }
    }
}
