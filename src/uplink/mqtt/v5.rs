//! MQTT 5: what the library is told, and what its events and errors say.

use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAckProperties, ConnectReturnCode, Filter, LastWill, Packet, PubAckReason, SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, StateError};
use rumqttc::{NetworkOptions, Outgoing, Transport};

use super::{CONNECT_PATIENCE, Closing, INCOMING_SIZE_MAX, OUTGOING_SIZE_MAX, Plan, REQUESTS, Seen};
use crate::config::site::KEEP_ALIVE_MIN_V5;
use crate::publication::Publication;

/// Publications at QoS 1 that are not acknowledged; the library has room for 65,535 otherwise, which costs 14 MB.
const IN_FLIGHT_MAX: u16 = 200;
/// Messages at QoS 1 for us that are not acknowledged.
const RECEIVE_MAX: u16 = 64;

/// A client and its event loop, for one connection. A broker keeps nothing of it (session expiry 0).
pub(super) fn open(plan: Plan) -> (AsyncClient, EventLoop) {
    let Plan { client_id, host, port, is_local, keep_alive, will, login } = plan;
    let mut options = MqttOptions::new(client_id, host, port);
    options.set_keep_alive(keep_alive.max(KEEP_ALIVE_MIN_V5)); // it panics otherwise
    options.set_clean_start(true);
    options.set_session_expiry_interval(Some(0));
    options.set_receive_maximum(Some(RECEIVE_MAX));
    options.set_max_packet_size(u32::try_from(INCOMING_SIZE_MAX).ok());
    options.set_outgoing_inflight_upper_limit(IN_FLIGHT_MAX);
    options.set_connection_timeout(CONNECT_PATIENCE.as_secs());
    options.set_last_will(LastWill::new(will.topic, will.payload, QoS::AtLeastOnce, will.is_retained, None));
    if let Some((username, password)) = login {
        options.set_credentials(username, password);
    }
    if is_local {
        options.set_transport(Transport::unix());
    }
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options.set_network_options(network);
    AsyncClient::new(options, REQUESTS)
}

/// The broker has taken the connection. With a Server Keep Alive of 0 (MQTT 5, 3.2.2.3.14) it wants no pings; the library
/// would send them without a pause. Ours are needed all the same: they tell that the broker is there.
pub(super) fn handle_connected(event_loop: &mut EventLoop, keep_alive: Duration) {
    if event_loop.options.keep_alive().is_zero() {
        event_loop.options.set_keep_alive(keep_alive.max(KEEP_ALIVE_MIN_V5));
    }
}

pub(super) fn publish(client: &AsyncClient, publication: Publication) -> Result<(), Closing> {
    let Publication { topic, payload, is_acknowledged, is_retained, .. } = publication;
    let qos = if is_acknowledged { QoS::AtLeastOnce } else { QoS::AtMostOnce };
    client.try_publish(topic, qos, is_retained, payload).map_err(|_| Closing)
}

pub(super) fn subscribe(client: &AsyncClient, filters: Vec<String>) -> Result<(), Closing> {
    let filters = filters.into_iter().map(|filter| Filter::new(filter, QoS::AtLeastOnce));
    client.try_subscribe_many(filters).map_err(|_| Closing)
}

/// What a broker that has taken the connection asks of us (MQTT 5, 3.2.2.3).
#[derive(Debug, Default)]
pub(super) struct Terms {
    max_qos: Option<u8>,
    packet_size_max: Option<u32>,
    keep_alive_s: Option<u16>,
}

impl From<&ConnAckProperties> for Terms {
    fn from(properties: &ConnAckProperties) -> Terms {
        Terms {
            max_qos: properties.max_qos,
            packet_size_max: properties.max_packet_size,
            keep_alive_s: properties.server_keep_alive,
        }
    }
}

impl Terms {
    /// What is sent at most; `keep_alive` is ours.
    ///
    /// # Errors
    /// Where they are no terms to deliver under.
    pub(super) fn packet_size_max(&self, keep_alive: Duration) -> Result<usize, String> {
        if self.max_qos == Some(0) {
            return Err(
                "the broker acknowledges nothing (its Maximum QoS is 0): no delivery could be proven"
                    .to_owned(),
            );
        }
        if let Some(seconds) = self.keep_alive_s.filter(|seconds| u64::from(*seconds) > keep_alive.as_secs())
        {
            // no ping would come before ours had run out
            return Err(format!("the broker wants a longer keep-alive: write `keep_alive = \"{seconds}s\"`"));
        }
        let theirs = self.packet_size_max.and_then(|size| usize::try_from(size).ok());
        Ok(theirs.map_or(OUTGOING_SIZE_MAX, |size| size.min(OUTGOING_SIZE_MAX)))
    }
}

/// What an event says.
pub(super) fn seen(event: Event, keep_alive: Duration) -> Result<Seen, String> {
    Ok(match event {
        Event::Incoming(Packet::ConnAck(ack)) => {
            let terms = ack.properties.as_ref().map(Terms::from).unwrap_or_default();
            Seen::Connected { packet_size_max: terms.packet_size_max(keep_alive)? }
        }
        Event::Incoming(Packet::SubAck(ack)) => Seen::Subscribed {
            packet_id: ack.pkid,
            refusals: ack.return_codes.iter().map(subscription_refusal).collect(),
        },
        Event::Incoming(Packet::PubAck(ack)) => {
            Seen::Acknowledged { packet_id: ack.pkid, refusal: refusal(ack.reason).map(str::to_owned) }
        }
        // none were offered (MQTT 5, 3.3.2.3.4), and the library would keep any number of them
        Event::Incoming(Packet::Publish(publish))
            if publish.properties.as_ref().is_some_and(|properties| properties.topic_alias.is_some()) =>
        {
            return Err("the broker uses topic aliases that were not offered".to_owned());
        }
        Event::Incoming(Packet::Publish(publish)) => match String::from_utf8(publish.topic.into()) {
            Ok(topic) => Seen::Message { topic, payload: publish.payload, is_retained: publish.retain },
            Err(_) => Seen::Heard, // no topic of ours
        },
        Event::Incoming(_) => Seen::Heard,
        Event::Outgoing(Outgoing::Publish(packet_id)) => Seen::Published(packet_id),
        Event::Outgoing(Outgoing::Subscribe(packet_id)) => Seen::Subscribing(packet_id),
        Event::Outgoing(_) => Seen::Nothing,
    })
}

/// Why a publication is not delivered although it is acknowledged (MQTT 5, 3.4.2.1).
fn refusal(reason: PubAckReason) -> Option<&'static str> {
    match reason {
        // nobody listens now, as it is with 3.1.1 without a word
        PubAckReason::Success | PubAckReason::NoMatchingSubscribers => None,
        PubAckReason::NotAuthorized => {
            Some("not authorised: its access list must allow this client to publish it")
        }
        PubAckReason::QuotaExceeded => Some("quota exceeded"),
        PubAckReason::TopicNameInvalid => Some("topic name invalid"),
        PubAckReason::PayloadFormatInvalid => Some("payload format invalid"),
        PubAckReason::PacketIdentifierInUse => Some("packet identifier in use"),
        PubAckReason::ImplementationSpecificError => Some("implementation specific error"),
        PubAckReason::UnspecifiedError => Some("unspecified error"),
    }
}

fn subscription_refusal(code: &SubscribeReasonCode) -> Option<String> {
    let is_granted = matches!(code, SubscribeReasonCode::Success(_));
    (!is_granted).then(|| format!("{code:?}"))
}

/// Whether an error is no word of the broker: a cut reads as an I/O error, or as a packet that is none.
pub(super) fn is_mere_end(error: &ConnectionError) -> bool {
    !matches!(
        error,
        ConnectionError::ConnectionRefused(_)
            | ConnectionError::MqttState(StateError::ServerDisconnect { .. })
    )
}

/// Why a connection has ended, for whoever can mend it; `is_answered`: the broker has taken it before.
#[expect(clippy::wildcard_enum_match_arm, reason = "the others say enough by themselves")]
pub(super) fn in_words(error: &ConnectionError, is_answered: bool) -> String {
    match error {
        ConnectionError::ConnectionRefused(code) => refused(*code),
        ConnectionError::Timeout(_) if !is_answered => {
            "the broker does not answer: does it speak MQTT 5, or is `protocol = \"3.1.1\"` right?".to_owned()
        }
        ConnectionError::MqttState(StateError::ConnectionAborted | StateError::Deserialization(_))
            if !is_answered =>
        {
            "the broker has hung up: does it speak MQTT 5, or is `protocol = \"3.1.1\"` right?".to_owned()
        }
        ConnectionError::MqttState(StateError::ConnectionAborted) => "the broker has hung up".to_owned(),
        ConnectionError::MqttState(StateError::AwaitPingResp) => {
            "the broker does not answer a ping".to_owned()
        }
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, reason_string }) => {
            let more = reason_string.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
            format!("the broker has ended the connection ({reason_code:?}{more})")
        }
        ConnectionError::MqttState(StateError::Io(error)) | ConnectionError::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// MQTT 5, 3.2.2.2.
#[expect(clippy::wildcard_enum_match_arm, reason = "the others say enough by their names")]
fn refused(code: ConnectReturnCode) -> String {
    let why = match code {
        ConnectReturnCode::RefusedProtocolVersion | ConnectReturnCode::UnsupportedProtocolVersion => {
            "it does not speak MQTT 5: write `protocol = \"3.1.1\"`"
        }
        ConnectReturnCode::BadClientId | ConnectReturnCode::ClientIdentifierNotValid => {
            "it does not take this `client_id`"
        }
        ConnectReturnCode::BadUserNamePassword => "`username` or `password` is wrong",
        ConnectReturnCode::NotAuthorized => {
            "this client may not connect: are `username` and `password` right, and does it want a certificate?"
        }
        ConnectReturnCode::Banned => "this client is banned",
        ConnectReturnCode::PacketTooLarge => "the CONNECT is too large for it",
        ConnectReturnCode::TopicNameInvalid => "it does not take the topic of the death certificate",
        ConnectReturnCode::QoSNotSupported => "it has no QoS 1",
        ConnectReturnCode::UseAnotherServer | ConnectReturnCode::ServerMoved => {
            "another broker is to be used"
        }
        _ => "see its log",
    };
    format!("the broker refuses the connection: {why} ({code:?})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use proptest::prelude::*;

    #[test]
    fn terms_bound_what_is_sent_and_may_be_none_to_deliver_under() {
        let ours = Duration::from_secs(30);
        let size = |packet_size_max| Terms { packet_size_max, ..Terms::default() }.packet_size_max(ours);
        assert_eq!(size(None), Ok(OUTGOING_SIZE_MAX));
        assert_eq!(size(Some(4096)), Ok(4096));
        assert_eq!(size(Some(u32::MAX)), Ok(OUTGOING_SIZE_MAX));
        let terms = |max_qos, keep_alive_s| {
            Terms { max_qos, keep_alive_s, packet_size_max: None }.packet_size_max(ours)
        };
        assert!(terms(Some(1), Some(10)).is_ok());
        assert!(terms(None, Some(0)).is_ok());
        assert!(terms(Some(0), None).unwrap_err().contains("Maximum QoS is 0"));
        assert!(terms(None, Some(60)).unwrap_err().contains("`keep_alive = \"60s\"`"));
    }

    #[test]
    fn an_acknowledgement_with_a_reason_against_it_is_no_delivery() {
        assert_eq!(refusal(PubAckReason::Success), None);
        assert_eq!(refusal(PubAckReason::NoMatchingSubscribers), None);
        assert!(refusal(PubAckReason::NotAuthorized).unwrap().starts_with("not authorised"));
        assert_eq!(refusal(PubAckReason::QuotaExceeded), Some("quota exceeded"));
    }

    #[test]
    fn refusals_name_what_to_change() {
        let said =
            in_words(&ConnectionError::ConnectionRefused(ConnectReturnCode::BadUserNamePassword), false);
        assert!(said.contains("`username` or `password` is wrong"), "{said}");
        let said = in_words(&ConnectionError::MqttState(StateError::ConnectionAborted), false);
        assert!(said.contains("`protocol = \"3.1.1\"`"), "{said}");
        assert_eq!(
            in_words(&ConnectionError::MqttState(StateError::ConnectionAborted), true),
            "the broker has hung up"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        /// The library reads what a broker sends. The first byte is of a packet that it may send, and the length is right.
        #[test]
        fn the_library_bears_any_packet(kind in 2_u8..16, flags in 0_u8..16, body in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut bytes = BytesMut::from(&[kind << 4 | flags, u8::try_from(body.len()).unwrap()][..]);
            bytes.extend_from_slice(&body);
            Packet::read(&mut bytes, Some(1 << 20)).ok();
        }
    }
}
