//! One MQTT connection: the only file that polls rumqttc.
//!
//! Each connection has a client and an event loop of its own and is never re-used: rumqttc would send what was queued
//! for an old connection before the births of the new one.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use rumqttc::{
    AsyncClient, ClientError, ConnectionError, Event, EventLoop, LastWill, MqttOptions, Outgoing, Packet,
    QoS, SubscribeFilter, SubscribeReasonCode,
};
use tokio::sync::mpsc;

use crate::config::site::{Broker, Login, Password, Uplink};
use crate::publication::Publication;

/// The largest packet that is taken from a broker: a command is far smaller.
const INCOMING_SIZE_MAX: usize = 1 << 20;
/// The largest packet that is sent: the birth of a device with a hundred thousand tags. Data messages are far smaller.
pub(super) const OUTGOING_SIZE_MAX: usize = 16 << 20;
/// Publications that have been handed over and not been written to the socket yet.
pub(super) const WINDOW: usize = 32;
/// Publications at QoS 1 that the broker has not acknowledged yet: where each message is one, so many travel in the time
/// of a round trip. Their bytes are bounded by the ledger.
const UNACKNOWLEDGED: u16 = 1000;
/// Requests beside publications: a subscription, a disconnection.
const OTHER_REQUESTS: usize = 8;
/// Events that the uplink has not looked at yet; a full channel holds the socket back.
const EVENTS: usize = 64;

/// What has happened on the connection.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    /// The broker has taken the connection.
    Connected,
    /// The subscriptions stand; false if the broker refused one.
    Subscribed(bool),
    /// The oldest publication not yet reported so has been written to the socket.
    Sent,
    /// The broker has the oldest publication at QoS 1 not yet reported so.
    Acknowledged,
    /// It is there.
    Heard,
    /// A message for us.
    Message {
        topic: String,
        payload: bytes::Bytes,
        /// Kept by the broker from before: never obeyed.
        is_retained: bool,
    },
    /// Our farewell has been written to the socket.
    Disconnected,
}

/// The sending half of a connection.
#[derive(Debug)]
pub(super) struct Connection {
    client: AsyncClient,
}

/// The half that must be polled for anything to move.
pub(super) struct Pump {
    event_loop: EventLoop,
    events: mpsc::Sender<Happening>,
    unacknowledged: Unacknowledged,
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
}

/// A new connection to `broker`, which is made when the pump runs.
///
/// # Errors
/// Where the password cannot be read.
pub(super) fn connect(
    uplink: &Uplink,
    broker: &Broker,
    will: Publication,
) -> io::Result<(Connection, Pump, mpsc::Receiver<Happening>)> {
    let mut options = MqttOptions::new(&uplink.client_id, &broker.host, broker.port);
    options.set_keep_alive(uplink.keep_alive);
    options.set_clean_session(true);
    options.set_inflight(UNACKNOWLEDGED);
    options.set_max_packet_size(INCOMING_SIZE_MAX, OUTGOING_SIZE_MAX);
    options.set_last_will(LastWill::new(will.topic, will.payload, QoS::AtLeastOnce, will.is_retained));
    if let Some(login) = &uplink.login {
        options.set_credentials(&login.username, password(login)?);
    }
    let (client, mut event_loop) = AsyncClient::new(options, WINDOW + OTHER_REQUESTS);
    event_loop.network_options.set_tcp_nodelay(true);
    let (events, happenings) = mpsc::channel(EVENTS);
    let pump = Pump { event_loop, events, unacknowledged: Unacknowledged::default() };
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
    pub(super) fn publish(&self, publication: Publication) -> Result<(), ClientError> {
        let Publication { topic, payload, is_acknowledged, is_retained, .. } = publication;
        let qos = if is_acknowledged { QoS::AtLeastOnce } else { QoS::AtMostOnce };
        self.client.try_publish(topic, qos, is_retained, payload)
    }

    pub(super) fn subscribe(&self, filters: Vec<String>) -> Result<(), ClientError> {
        let filters = filters.into_iter().map(|filter| SubscribeFilter::new(filter, QoS::AtLeastOnce));
        self.client.try_subscribe_many(filters)
    }

    pub(super) fn disconnect(&self) -> Result<(), ClientError> {
        self.client.try_disconnect()
    }
}

impl Pump {
    /// Keeps the connection going until it fails; why.
    pub(super) async fn run(mut self) -> ConnectionError {
        loop {
            let event = match self.event_loop.poll().await {
                Ok(event) => event,
                Err(error) => return error,
            };
            let (happening, count) = self.happening(event);
            for _ in 0..count {
                // the receiver lives as long as the uplink polls this pump
                self.events.send(happening.clone()).await.ok();
            }
        }
    }

    /// What an event says, and how often.
    fn happening(&mut self, event: Event) -> (Happening, usize) {
        let happening = match event {
            Event::Incoming(Packet::ConnAck(_)) => Happening::Connected,
            Event::Incoming(Packet::SubAck(ack)) => {
                Happening::Subscribed(!ack.return_codes.contains(&SubscribeReasonCode::Failure))
            }
            Event::Incoming(Packet::PubAck(ack)) => {
                return (Happening::Acknowledged, self.unacknowledged.handle_acknowledged(ack.pkid));
            }
            Event::Incoming(Packet::Publish(publish)) => Happening::Message {
                topic: publish.topic,
                payload: publish.payload,
                is_retained: publish.retain,
            },
            Event::Incoming(_) => Happening::Heard,
            Event::Outgoing(Outgoing::Publish(packet_id)) => {
                self.unacknowledged.handle_sent(packet_id);
                Happening::Sent
            }
            Event::Outgoing(Outgoing::Disconnect) => Happening::Disconnected,
            Event::Outgoing(_) => return (Happening::Heard, 0),
        };
        (happening, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_count_in_the_order_of_sending() {
        let mut ledger = Unacknowledged::default();
        for packet_id in [0, 1, 2, 0, 3] {
            ledger.handle_sent(packet_id);
        }
        assert_eq!(ledger.handle_acknowledged(2), 0);
        assert_eq!(ledger.handle_acknowledged(9), 0);
        assert_eq!(ledger.handle_acknowledged(1), 2);
        assert_eq!(ledger.handle_acknowledged(1), 0);
        assert_eq!(ledger.handle_acknowledged(3), 1);
    }
}
