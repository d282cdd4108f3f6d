//! MQTT 3.1.1: what the library is told, and what its events and errors say.

use std::time::Duration;

use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, LastWill, MqttOptions, NetworkOptions,
    Outgoing, Packet, QoS, StateError, SubscribeFilter, SubscribeReasonCode, Transport,
};

use super::{
    CONNECT_PATIENCE, Closing, INCOMING_SIZE_MAX, OUTGOING_SIZE_MAX, Plan, REQUESTS, Seen, UNACKNOWLEDGED,
    qos,
};
use crate::publication::Publication;

/// How long a packet may take to the socket: the largest at 256 kbit/s. Who listens gives up sooner (`task/watch.rs`).
const FLUSH_PATIENCE: Duration = Duration::from_secs(600);

/// A client and its event loop, for one connection.
pub(super) fn open(plan: Plan) -> (AsyncClient, EventLoop) {
    let Plan { client_id, host, port, is_local, keep_alive, will, login } = plan;
    let mut options = MqttOptions::new(client_id, host, port);
    options.set_keep_alive(keep_alive);
    options.set_clean_session(true);
    options.set_max_packet_size(INCOMING_SIZE_MAX, OUTGOING_SIZE_MAX);
    options.set_last_will(LastWill::new(will.topic, will.payload, QoS::AtLeastOnce, will.is_retained));
    options.set_inflight(UNACKNOWLEDGED);
    if let Some((username, password)) = login {
        options.set_credentials(username, password);
    }
    if is_local {
        options.set_transport(Transport::unix());
    }
    let (client, mut event_loop) = AsyncClient::new(options, REQUESTS);
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(CONNECT_PATIENCE.as_secs());
    event_loop.network_options = network;
    (client, event_loop)
}

/// The broker has taken the connection. The library has one patience for the answer to a CONNECT and for the flush of
/// each packet, which a large birth outlasts on a slow line.
pub(super) fn handle_connected(event_loop: &mut EventLoop) {
    event_loop.network_options.set_connection_timeout(FLUSH_PATIENCE.as_secs());
}

pub(super) fn publish(client: &AsyncClient, publication: Publication) -> Result<(), Closing> {
    let Publication { topic, payload, is_acknowledged, is_retained, .. } = publication;
    client.try_publish(topic, qos(is_acknowledged), is_retained, payload).map_err(|_| Closing)
}

pub(super) fn subscribe(client: &AsyncClient, filters: Vec<String>) -> Result<(), Closing> {
    let filters = filters.into_iter().map(|filter| SubscribeFilter::new(filter, QoS::AtLeastOnce));
    client.try_subscribe_many(filters).map_err(|_| Closing)
}

/// What an event says.
pub(super) fn seen(event: Event) -> Seen {
    match event {
        Event::Incoming(Packet::ConnAck(_)) => Seen::Connected { packet_size_max: OUTGOING_SIZE_MAX },
        Event::Incoming(Packet::SubAck(ack)) => {
            Seen::Subscribed { packet_id: ack.pkid, refusals: ack.return_codes.iter().map(refusal).collect() }
        }
        Event::Incoming(Packet::PubAck(ack)) => Seen::Acknowledged { packet_id: ack.pkid, refusal: None },
        Event::Incoming(Packet::Publish(publish)) => {
            Seen::Message { topic: publish.topic, payload: publish.payload, is_retained: publish.retain }
        }
        Event::Incoming(_) => Seen::Heard,
        Event::Outgoing(Outgoing::Publish(packet_id)) => Seen::Published(packet_id),
        Event::Outgoing(Outgoing::Subscribe(packet_id)) => Seen::Subscribing(packet_id),
        Event::Outgoing(Outgoing::Disconnect) => Seen::Disconnected,
        Event::Outgoing(_) => Seen::Nothing,
    }
}

fn refusal(code: &SubscribeReasonCode) -> Option<String> {
    matches!(code, SubscribeReasonCode::Failure).then(|| "refused".to_owned())
}

/// Whether an error is no word of the broker: a cut reads as an I/O error, or as a packet that is none.
pub(super) fn is_mere_end(error: &ConnectionError) -> bool {
    !matches!(error, ConnectionError::ConnectionRefused(_))
}

/// Why a connection has ended, for whoever can mend it.
#[expect(clippy::wildcard_enum_match_arm, reason = "the others say enough by themselves")]
pub(super) fn in_words(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionRefused(code) => refused(*code),
        ConnectionError::NetworkTimeout => "the broker does not answer".to_owned(),
        ConnectionError::FlushTimeout => "the broker does not take what is sent".to_owned(),
        ConnectionError::MqttState(StateError::ConnectionAborted) => "the broker has hung up".to_owned(),
        ConnectionError::MqttState(StateError::AwaitPingResp) => {
            "the broker does not answer a ping".to_owned()
        }
        ConnectionError::MqttState(StateError::Io(error)) | ConnectionError::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// MQTT 3.1.1, 3.2.2.3.
fn refused(code: ConnectReturnCode) -> String {
    let why = match code {
        ConnectReturnCode::RefusedProtocolVersion => "it does not speak MQTT 3.1.1: is `protocol` right?",
        ConnectReturnCode::BadClientId => "it does not take this `client_id`",
        ConnectReturnCode::ServiceUnavailable => "it is not available",
        ConnectReturnCode::BadUserNamePassword => "`username` or `password` is wrong",
        ConnectReturnCode::NotAuthorized => {
            "this client may not connect: are `username` and `password` right, and does it want a certificate?"
        }
        _ => "for a reason that is not known",
    };
    format!("the broker refuses the connection: {why} ({code:?})")
}
