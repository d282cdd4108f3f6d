//! One MQTT connection: the only place that polls rumqttc.
//!
//! Each connection has a client and an event loop of its own and is never re-used: rumqttc would send what was queued
//! for an old connection before the births of the new one. It speaks 3.1.1 or 5 ([`v3`], [`v5`]) over plain TCP; all else
//! that may lie below is carried for it ([`carry`], [`route`], [`websocket`]).

mod carry;
mod http;
mod route;
mod v3;
mod v5;
mod websocket;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::QoS;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout_at};

use crate::clock;
use crate::config::site::{Broker, Login, Password, Protocol, Uplink};
use crate::publication::Publication;
use carry::Carriage;
use route::Route;

/// The largest packet that is taken from a broker: a command is far smaller.
pub(super) const INCOMING_SIZE_MAX: usize = 1 << 20;
/// The largest packet that is sent: the birth of a device with a hundred thousand tags. Data messages are far smaller.
pub(super) const OUTGOING_SIZE_MAX: usize = 16 << 20;
/// Publications that have been handed over and not been written to the socket yet.
pub(super) const WINDOW: usize = 32;
/// Publications at QoS 1 that the broker has not acknowledged yet: where each message is one, so many travel in the time
/// of a round trip. Their bytes are bounded by the ledger.
const UNACKNOWLEDGED: u16 = 1000;
/// Requests beside publications: subscriptions, their ends, a disconnection.
const OTHER_REQUESTS: usize = 16;
/// All requests that wait.
const REQUESTS: usize = WINDOW + OTHER_REQUESTS;
/// Events that the uplink has not looked at yet; a full channel holds the socket back.
const EVENTS: usize = 64;
/// How long a broker may take to answer a CONNECT, the way to it included: a cluster that has lost a node takes 10 s.
const CONNECT_PATIENCE: Duration = Duration::from_secs(15);

/// How long the library may take to read what a broker has said before it hung up.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What has happened on the connection.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    /// The broker has taken the connection.
    Connected {
        /// The largest packet that it takes.
        packet_size_max: usize,
    },
    /// The broker has answered a subscription.
    Subscribed {
        /// Which, in the order of [`Connection::subscribe`], from 0 on.
        index: usize,
        /// Of each filter: why it is refused; nothing where it is granted.
        refusals: Vec<Option<String>>,
    },
    /// The oldest publication not yet reported so has been written to the socket.
    Sent,
    /// The broker has the oldest publication at QoS 1 not yet reported so.
    Acknowledged,
    /// The broker says that it has dropped a publication at QoS 1.
    Refused {
        /// Which: so many before it are not reported yet.
        behind: usize,
        /// Why.
        reason: String,
    },
    /// It is there.
    Heard,
    /// A message for us.
    Message {
        topic: String,
        payload: bytes::Bytes,
        /// Kept by the broker from before: never obeyed.
        is_retained: bool,
    },
    /// All has been written to the socket, and it may be closed.
    Disconnected,
}

/// What an event of the library says.
enum Seen {
    Connected { packet_size_max: usize },
    Subscribed { packet_id: u16, refusals: Vec<Option<String>> },
    Acknowledged { packet_id: u16, refusal: Option<String> },
    Message { topic: String, payload: bytes::Bytes, is_retained: bool },
    Heard,
    Published(u16),
    Subscribing(u16),
    Disconnected,
    Nothing,
}

/// How a connection is to be made.
struct Plan {
    client_id: String,
    /// The name of a socket of this process where `is_local`.
    host: String,
    port: u16,
    is_local: bool,
    keep_alive: Duration,
    will: Publication,
    login: Option<(String, String)>,
}

/// The connection is closing: its end is told by the pump.
#[derive(Debug, thiserror::Error)]
#[error("the connection is closing")]
pub(super) struct Closing;

/// The sending half of a connection.
#[derive(Debug)]
pub(super) struct Connection {
    client: Client,
}

#[derive(Debug)]
enum Client {
    V3(rumqttc::AsyncClient),
    V5 { client: rumqttc::v5::AsyncClient, leave: Arc<Notify> },
}

/// The half that must be polled for anything to move.
pub(super) struct Pump {
    event_loop: Events,
    carriage: Option<Carriage>,
    keep_alive: Duration,
    /// Ends a connection over MQTT 5.
    leave: Arc<Notify>,
    events: mpsc::Sender<Happening>,
    unacknowledged: Unacknowledged,
    subscribing: Subscribing,
    is_answered: bool,
}

/// Why the library has ended.
struct Failure {
    said: String,
    /// It is no word of the broker: only that the way to it has ended.
    is_mere_end: bool,
}

/// The way below the client has ended: why, and until when the library may still have a better word for it.
struct Cut {
    said: String,
    until: Instant,
}

enum Events {
    V3(Box<rumqttc::EventLoop>),
    V5(Box<rumqttc::v5::EventLoop>),
}

/// The packet ids of publications at QoS 1, in the order in which they were sent.
#[derive(Debug, Default)]
struct Unacknowledged(VecDeque<(u16, bool)>);

impl Unacknowledged {
    fn handle_sent(&mut self, packet_id: u16) {
        if packet_id != 0 {
            self.0.push_back((packet_id, false));
        }
    }

    /// How many of the oldest are acknowledged with this; an acknowledgement out of order waits for those before it.
    fn handle_acknowledged(&mut self, packet_id: u16) -> usize {
        if let Some((_, is_there)) = self.0.iter_mut().find(|(id, is_there)| *id == packet_id && !is_there) {
            *is_there = true;
        }
        let count = self.0.iter().take_while(|(_, is_there)| *is_there).count();
        self.0.drain(..count);
        count
    }

    /// How many were sent before this and are still here.
    fn behind(&self, packet_id: u16) -> Option<usize> {
        self.0.iter().position(|(id, is_there)| *id == packet_id && !is_there)
    }
}

/// Whether a topic is one of those that a filter names (MQTT 3.1.1, 4.7).
pub(super) fn matches(topic: &str, filter: &str) -> bool {
    rumqttc::matches(topic, filter)
}

/// The packet ids of subscriptions that are not answered, and which they are.
#[derive(Debug, Default)]
struct Subscribing {
    count: usize,
    waiting: VecDeque<(u16, usize)>,
}

impl Subscribing {
    fn handle_sent(&mut self, packet_id: u16) {
        self.waiting.push_back((packet_id, self.count));
        self.count += 1;
    }

    /// Which subscription this answers.
    fn handle_answered(&mut self, packet_id: u16) -> Option<usize> {
        let at = self.waiting.iter().position(|(id, _)| *id == packet_id)?;
        self.waiting.remove(at).map(|(_, index)| index)
    }
}

fn qos(is_acknowledged: bool) -> QoS {
    if is_acknowledged { QoS::AtLeastOnce } else { QoS::AtMostOnce }
}

/// A new connection to `broker`, which is made when the pump runs.
///
/// # Errors
/// Where a file cannot be read: the password's, or one of TLS.
pub(super) fn connect(
    uplink: &Uplink,
    broker: &Broker,
    will: Publication,
) -> io::Result<(Connection, Pump, mpsc::Receiver<Happening>)> {
    let login = match &uplink.login {
        Some(login) => Some((login.username.clone(), password(login)?)),
        None => None,
    };
    let (carriage, host) = if Route::is_more_than_tcp(uplink, broker) {
        let (carriage, name) = Carriage::new(Route::new(uplink, broker)?)?;
        (Some(carriage), name)
    } else {
        (None, broker.host.clone())
    };
    let plan = Plan {
        client_id: uplink.client_id.clone(),
        host,
        port: broker.port,
        is_local: carriage.is_some(),
        keep_alive: uplink.keep_alive,
        will,
        login,
    };
    let leave = Arc::new(Notify::new());
    let (client, event_loop) = match uplink.protocol {
        Protocol::V3 => {
            let (client, event_loop) = v3::open(plan);
            (Client::V3(client), Events::V3(Box::new(event_loop)))
        }
        Protocol::V5 => {
            let (client, event_loop) = v5::open(plan);
            (Client::V5 { client, leave: leave.clone() }, Events::V5(Box::new(event_loop)))
        }
    };
    let (events, happenings) = mpsc::channel(EVENTS);
    let pump = Pump {
        event_loop,
        carriage,
        keep_alive: uplink.keep_alive,
        leave,
        events,
        unacknowledged: Unacknowledged::default(),
        subscribing: Subscribing::default(),
        is_answered: false,
    };
    Ok((Connection { client }, pump, happenings))
}

fn password(login: &Login) -> io::Result<String> {
    match &login.password {
        Password::None => Ok(String::new()),
        Password::Given(secret) => Ok(secret.reveal().to_owned()),
        Password::File(path) => {
            let path = credential_path(path);
            let text = std::fs::read_to_string(&path).map_err(|error| {
                io::Error::new(error.kind(), format!("password_file {}: {error}", path.display()))
            })?;
            Ok(text.trim_end_matches(['\r', '\n']).to_owned())
        }
    }
}

/// A relative path stands in systemd's folder of credentials, where there is one.
fn credential_path(path: &Path) -> PathBuf {
    match std::env::var_os("CREDENTIALS_DIRECTORY") {
        Some(folder) => Path::new(&folder).join(path),
        None => path.to_owned(),
    }
}

impl Connection {
    /// Hands a publication over. There is room as long as no more than [`WINDOW`] are under way.
    pub(super) fn publish(&self, publication: Publication) -> Result<(), Closing> {
        match &self.client {
            Client::V3(client) => v3::publish(client, publication),
            Client::V5 { client, .. } => v5::publish(client, publication),
        }
    }

    /// Subscribes to these, at QoS 1.
    pub(super) fn subscribe(&self, filters: Vec<String>) -> Result<(), Closing> {
        match &self.client {
            Client::V3(client) => v3::subscribe(client, filters),
            Client::V5 { client, .. } => v5::subscribe(client, filters),
        }
    }

    /// Ends the subscription to one of them.
    pub(super) fn unsubscribe(&self, filter: String) -> Result<(), Closing> {
        match &self.client {
            Client::V3(client) => client.try_unsubscribe(filter).map_err(|_| Closing),
            Client::V5 { client, .. } => client.try_unsubscribe(filter).map_err(|_| Closing),
        }
    }

    /// Ends the connection when all that was handed over is written; [`Happening::Disconnected`] tells when. With MQTT 5
    /// nothing is said: the library knows only a DISCONNECT that would take the will back, which Sparkplug does not allow
    /// (`tck-id-operational-behavior-edge-node-intentional-disconnect-packet`).
    pub(super) fn disconnect(&self) -> Result<(), Closing> {
        match &self.client {
            Client::V3(client) => client.try_disconnect().map_err(|_| Closing),
            Client::V5 { leave, .. } => {
                leave.notify_one();
                Ok(())
            }
        }
    }
}

impl Pump {
    /// Keeps the connection going until it fails; why.
    pub(super) async fn run(mut self) -> String {
        let carriage = self.carriage.take();
        let is_carried = carriage.is_some();
        let carried = async {
            match carriage {
                Some(carriage) => carriage.run().await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(carried);
        let mut cut = None;
        loop {
            let seen = match self.next(carried.as_mut(), &mut cut).await {
                Ok(seen) => seen,
                Err(error) => return error,
            };
            if self.is_answered && matches!(seen, Seen::Connected { .. }) {
                // the library would take new terms, and number messages beyond its own bounds
                return "the broker answers the connection twice".to_owned();
            }
            let is_over = matches!(seen, Seen::Disconnected);
            let Some((happening, count)) = self.happening(seen) else { continue };
            if is_over {
                break;
            }
            for _ in 0..count {
                // the receiver lives as long as the uplink polls this pump
                self.events.send(happening.clone()).await.ok();
            }
        }
        let Pump { event_loop, events, .. } = self;
        drop(event_loop);
        let said = match cut {
            Some(Cut { said, .. }) => said,
            None if is_carried => closed(carried.await), // what the client has said before is still on its way
            None => closed(Ok(())),
        };
        events.send(Happening::Disconnected).await.ok();
        said
    }

    /// What the library sees next. When the way below it ends, the broker's last words may still be unread.
    async fn next(
        &mut self,
        carried: Pin<&mut impl Future<Output = io::Result<()>>>,
        cut: &mut Option<Cut>,
    ) -> Result<Seen, String> {
        // it is never given up half-way but where the connection ends: it would connect a second time
        let next = self.event_loop.next(self.keep_alive, self.is_answered);
        tokio::pin!(next);
        let Cut { said, until } = match cut {
            Some(cut) => cut,
            None => tokio::select! {
                biased;
                ended = carried => {
                    cut.insert(Cut { said: closed(ended), until: (clock::monotonic() + LAST_WORDS).into() })
                }
                () = self.leave.notified() => return Ok(Seen::Disconnected),
                seen = &mut next => return seen.map_err(|failure| failure.said),
            },
        };
        match timeout_at(*until, next).await {
            Ok(Ok(seen)) => Ok(seen),
            Ok(Err(failure)) if !failure.is_mere_end => Err(failure.said),
            Ok(Err(_)) | Err(_) => Err(std::mem::take(said)),
        }
    }

    /// What is to be said of an event, and how often.
    fn happening(&mut self, seen: Seen) -> Option<(Happening, usize)> {
        let happening = match seen {
            Seen::Connected { packet_size_max } => {
                self.is_answered = true;
                Happening::Connected { packet_size_max }
            }
            Seen::Subscribed { packet_id, refusals } => {
                let index = self.subscribing.handle_answered(packet_id)?;
                Happening::Subscribed { index, refusals }
            }
            Seen::Acknowledged { packet_id, refusal: Some(reason) } => {
                Happening::Refused { behind: self.unacknowledged.behind(packet_id)?, reason }
            }
            Seen::Acknowledged { packet_id, refusal: None } => {
                return Some((Happening::Acknowledged, self.unacknowledged.handle_acknowledged(packet_id)));
            }
            Seen::Message { topic, payload, is_retained } => {
                Happening::Message { topic, payload, is_retained }
            }
            Seen::Heard => Happening::Heard,
            Seen::Published(packet_id) => {
                self.unacknowledged.handle_sent(packet_id);
                Happening::Sent
            }
            Seen::Subscribing(packet_id) => {
                self.subscribing.handle_sent(packet_id);
                return None;
            }
            Seen::Disconnected => Happening::Disconnected,
            Seen::Nothing => return None,
        };
        Some((happening, 1))
    }
}

fn closed(ended: io::Result<()>) -> String {
    ended.map_or_else(|error| error.to_string(), |()| "the connection is closed".to_owned())
}

impl Events {
    /// The next one.
    async fn next(&mut self, keep_alive: Duration, is_answered: bool) -> Result<Seen, Failure> {
        match self {
            Events::V3(event_loop) => match event_loop.poll().await {
                Ok(event) => {
                    let seen = v3::seen(event);
                    if matches!(seen, Seen::Connected { .. }) {
                        v3::handle_connected(event_loop);
                    }
                    Ok(seen)
                }
                Err(error) => {
                    Err(Failure { said: v3::in_words(&error), is_mere_end: v3::is_mere_end(&error) })
                }
            },
            Events::V5(event_loop) => match event_loop.poll().await {
                Ok(event) => {
                    let seen = v5::seen(event, keep_alive);
                    if matches!(seen, Ok(Seen::Connected { .. })) {
                        v5::handle_connected(event_loop, keep_alive);
                    }
                    seen.map_err(|said| Failure { said, is_mere_end: false })
                }
                Err(error) => Err(Failure {
                    said: v5::in_words(&error, is_answered),
                    is_mere_end: v5::is_mere_end(&error),
                }),
            },
        }
    }
}

#[cfg(test)]
mod tests;
