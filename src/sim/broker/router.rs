//! The pure half of the broker: sessions, subscriptions, retained messages and wills.
//!
//! - In: what a connection received ([`Router::handle`]) and that it is over
//!   ([`Router::disconnect`]).
//! - Out: per call, in order, the packets to send and the connections to close.
//! - Never: sockets, clocks, tasks; it does not panic, and every collection in it is bounded.
//!
//! The document followed is MQTT Version 3.1.1, OASIS Standard, 29 October 2014; clauses stand at
//! the rules which come from them. Delivery visits every session, and of each every subscription:
//! right for the few hundred clients of [`super::MAX_CONNECTIONS`], not for a public service.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rumqttc::mqttbytes::v4::{
    ConnAck, Connect, ConnectReturnCode, LastWill, Packet, PubAck, Publish, SubAck, Subscribe,
    SubscribeReasonCode, UnsubAck, Unsubscribe,
};
use rumqttc::mqttbytes::{Protocol, QoS, valid_filter, valid_topic};
use thiserror::Error;

/// Subscriptions one client may hold; a SUBSCRIBE beyond it is answered with "failure" (0x80).
pub(super) const MAX_SUBSCRIPTIONS: usize = 256;

/// Retained messages the broker keeps; beyond it a message for a further topic is delivered to
/// those subscribed now and not kept, while topics already retained can still change.
pub(super) const MAX_RETAINED: usize = 4096;

/// QoS 1 messages a client may leave unacknowledged; at the next one it is disconnected. Above
/// [`MAX_RETAINED`], so that one subscription to everything fits, and below the 65535 packet
/// identifiers there are.
const MAX_UNACKNOWLEDGED: usize = 4 * MAX_RETAINED;

/// One network connection, and with it the session of the client behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConnectionId(pub(super) u64);

/// What is to be done on one connection.
pub(super) type Output = (ConnectionId, Action);

/// One thing to be done on a connection.
#[derive(Debug, PartialEq)]
pub(super) enum Action {
    /// Send the packet.
    Send(Packet),
    /// Send what is queued, end the connection, and report that with [`Router::disconnect`].
    Close(CloseReason),
}

/// Why the router ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum CloseReason {
    /// The client said DISCONNECT (3.14).
    #[error("the client disconnected")]
    Disconnected,
    /// The CONNECT was answered with a refusal (3.2.2.3).
    #[error("refused: {0:?}")]
    Refused(ConnectReturnCode),
    /// MQTT-3.1.4-2.
    #[error("another connection took over the client identifier")]
    TakenOver,
    /// MQTT-3.1.0-1.
    #[error("the first packet is not CONNECT")]
    NotConnected,
    /// MQTT-3.1.0-2.
    #[error("a second CONNECT")]
    SecondConnect,
    /// The packet is one which only a server sends, or belongs to QoS 2.
    #[error("a packet this broker does not take")]
    UnexpectedPacket,
    /// This broker offers QoS 0 and 1.
    #[error("a message with QoS 2")]
    ExactlyOnce,
    /// MQTT-2.3.1-1.
    #[error("packet identifier 0")]
    PacketIdZero,
    /// MQTT-1.5.3-2.
    #[error("a client identifier with the character U+0000")]
    InvalidClientId,
    /// MQTT-3.3.2-2 and MQTT-4.7.3.
    #[error("an invalid topic name")]
    InvalidTopic,
    /// MQTT-4.7.1 and MQTT-4.7.3.
    #[error("an invalid topic filter")]
    InvalidFilter,
    /// MQTT-3.8.3-3 and MQTT-3.10.3-2.
    #[error("no topic filter")]
    NoFilter,
    /// [`MAX_UNACKNOWLEDGED`] was reached.
    #[error("too many messages left unacknowledged")]
    Unacknowledged,
}

/// All the broker knows: who is connected, who wants what, and what is retained.
#[derive(Debug, Default)]
pub(super) struct Router {
    sessions: BTreeMap<ConnectionId, Session>,
    retained: Retained,
}

impl Router {
    /// Takes one packet from a connection. A violation of the protocol closes the connection it
    /// came from (4.8) and touches nothing else.
    pub(super) fn handle(&mut self, connection: ConnectionId, packet: Packet) -> Vec<Output> {
        self.dispatch(connection, packet).unwrap_or_else(|reason| vec![(connection, Action::Close(reason))])
    }

    /// Forgets the session of a connection which is over, and publishes its will unless the client
    /// said DISCONNECT (MQTT-3.1.2-8). Unknown connections are nobody's session: nothing happens.
    pub(super) fn disconnect(&mut self, connection: ConnectionId) -> Vec<Output> {
        match self.sessions.remove(&connection).and_then(|session| session.will) {
            Some(will) => self.publish(will),
            None => Vec::new(),
        }
    }

    fn dispatch(&mut self, connection: ConnectionId, packet: Packet) -> Result<Vec<Output>, CloseReason> {
        let Some(session) = self.sessions.get_mut(&connection) else {
            return self.connect(connection, packet);
        };
        let actions = match packet {
            Packet::Publish(publish) => return self.receive(connection, publish),
            Packet::PubAck(ack) => session.acknowledge(&ack),
            Packet::Subscribe(subscribe) => session.subscribe(subscribe, &self.retained)?,
            Packet::Unsubscribe(unsubscribe) => session.unsubscribe(&unsubscribe)?,
            Packet::PingReq => vec![Action::Send(Packet::PingResp)],
            Packet::Disconnect => session.leave(),
            Packet::Connect(_) => return Err(CloseReason::SecondConnect),
            Packet::ConnAck(_)
            | Packet::PubRec(_)
            | Packet::PubRel(_)
            | Packet::PubComp(_)
            | Packet::SubAck(_)
            | Packet::UnsubAck(_)
            | Packet::PingResp => return Err(CloseReason::UnexpectedPacket),
        };
        Ok(actions.into_iter().map(|action| (connection, action)).collect())
    }

    fn connect(&mut self, connection: ConnectionId, packet: Packet) -> Result<Vec<Output>, CloseReason> {
        let Packet::Connect(connect) = packet else {
            return Err(CloseReason::NotConnected);
        };
        if let Some(code) = refusal(&connect) {
            return Ok(vec![
                (connection, connack(code)),
                (connection, Action::Close(CloseReason::Refused(code))),
            ]);
        }
        let session = Session::new(connect)?;
        let mut outputs = Vec::new();
        if let Some(older) = self.holder_of(session.client_id.as_deref()) {
            outputs.push((older, Action::Close(CloseReason::TakenOver)));
        }
        outputs.push((connection, connack(ConnectReturnCode::Success)));
        self.sessions.insert(connection, session);
        Ok(outputs)
    }

    fn holder_of(&self, client_id: Option<&str>) -> Option<ConnectionId> {
        let client_id = client_id?;
        self.sessions
            .iter()
            .find(|(_, session)| session.client_id.as_deref() == Some(client_id))
            .map(|(connection, _)| *connection)
    }

    /// Takes a message from a client: acknowledges it (4.3.2) and passes it on.
    fn receive(&mut self, connection: ConnectionId, message: Publish) -> Result<Vec<Output>, CloseReason> {
        if message.qos == QoS::ExactlyOnce {
            return Err(CloseReason::ExactlyOnce);
        }
        check_topic(&message.topic)?;
        let mut outputs = Vec::new();
        if message.qos == QoS::AtLeastOnce {
            let ack = Packet::PubAck(PubAck::new(message.pkid));
            outputs.push((connection, Action::Send(ack)));
        }
        outputs.extend(self.publish(message));
        Ok(outputs)
    }

    /// Delivers a message to everyone subscribed, the publisher included, and retains it if asked.
    fn publish(&mut self, message: Publish) -> Vec<Output> {
        let outputs = self
            .sessions
            .iter_mut()
            .filter_map(|(connection, session)| {
                let granted = session.subscriptions.granted(&message.topic)?;
                // The flag tells stored messages from new ones (MQTT-3.3.1-9).
                Some((*connection, session.deliver(&message, granted, false)))
            })
            .collect();
        if message.retain {
            self.retained.keep(message);
        }
        outputs
    }
}

/// The code to refuse a CONNECT with, if it is to be refused.
fn refusal(connect: &Connect) -> Option<ConnectReturnCode> {
    if connect.protocol != Protocol::V4 {
        // MQTT-3.1.2-2.
        Some(ConnectReturnCode::RefusedProtocolVersion)
    } else if connect.client_id.is_empty() && !connect.clean_session {
        // MQTT-3.1.3-8.
        Some(ConnectReturnCode::BadClientId)
    } else {
        None
    }
}

/// No session outlives its connection, so none is ever present (MQTT-3.2.2-1).
fn connack(code: ConnectReturnCode) -> Action {
    Action::Send(Packet::ConnAck(ConnAck::new(code, false)))
}

/// What the broker knows of one connected client.
#[derive(Debug)]
struct Session {
    /// `None` where the client left it to the broker (MQTT-3.1.3-6): then its connection is its
    /// identifier, which no other client can name and so take over.
    client_id: Option<String>,
    will: Option<Publish>,
    subscriptions: Subscriptions,
    last_packet_id: u16,
    unacknowledged: BTreeSet<u16>,
}

impl Session {
    fn new(connect: Connect) -> Result<Session, CloseReason> {
        if connect.client_id.contains('\0') {
            return Err(CloseReason::InvalidClientId);
        }
        Ok(Session {
            client_id: Some(connect.client_id).filter(|client_id| !client_id.is_empty()),
            will: connect.last_will.map(will_message).transpose()?,
            subscriptions: Subscriptions::default(),
            last_packet_id: 0,
            unacknowledged: BTreeSet::new(),
        })
    }

    /// Grants what fits, and sends what is retained under the filters of this packet: each message
    /// once, also where filters overlap.
    fn subscribe(&mut self, subscribe: Subscribe, retained: &Retained) -> Result<Vec<Action>, CloseReason> {
        check_request(subscribe.pkid, subscribe.filters.iter().map(|filter| filter.path.as_str()))?;
        let mut new = Subscriptions::default();
        let mut codes = Vec::new();
        for filter in subscribe.filters {
            let granted = lesser(filter.qos, QoS::AtLeastOnce);
            if self.subscriptions.insert(filter.path.clone(), granted) {
                new.insert(filter.path, granted);
                codes.push(SubscribeReasonCode::Success(granted));
            } else {
                codes.push(SubscribeReasonCode::Failure);
            }
        }
        let suback = SubAck::new(subscribe.pkid, codes);
        let mut actions = vec![Action::Send(Packet::SubAck(suback))];
        actions.extend(retained.messages().filter_map(|message| {
            // MQTT-3.3.1-8.
            Some(self.deliver(message, new.granted(&message.topic)?, true))
        }));
        Ok(actions)
    }

    fn unsubscribe(&mut self, unsubscribe: &Unsubscribe) -> Result<Vec<Action>, CloseReason> {
        check_request(unsubscribe.pkid, unsubscribe.topics.iter().map(String::as_str))?;
        for filter in &unsubscribe.topics {
            self.subscriptions.remove(filter);
        }
        // Also where no subscription was removed (MQTT-3.10.4-5).
        let unsuback = UnsubAck::new(unsubscribe.pkid);
        Ok(vec![Action::Send(Packet::UnsubAck(unsuback))])
    }

    fn acknowledge(&mut self, ack: &PubAck) -> Vec<Action> {
        self.unacknowledged.remove(&ack.pkid);
        Vec::new()
    }

    /// Leaves on the client's own wish: without its will (MQTT-3.14.4-3).
    fn leave(&mut self) -> Vec<Action> {
        self.will = None;
        vec![Action::Close(CloseReason::Disconnected)]
    }

    /// One message for this client, with the QoS it was published with at most (3.8.4).
    fn deliver(&mut self, message: &Publish, granted: QoS, retain: bool) -> Action {
        let qos = lesser(message.qos, granted);
        let packet_id = match qos {
            QoS::AtMostOnce => Some(0),
            QoS::AtLeastOnce | QoS::ExactlyOnce => self.free_packet_id(),
        };
        match packet_id {
            Some(pkid) => {
                Action::Send(Packet::Publish(Publish { dup: false, qos, retain, pkid, ..message.clone() }))
            }
            None => Action::Close(CloseReason::Unacknowledged),
        }
    }

    /// The next packet identifier the client does not still owe an acknowledgement for
    /// (MQTT-2.3.1-4), never 0.
    fn free_packet_id(&mut self) -> Option<u16> {
        if self.unacknowledged.len() >= MAX_UNACKNOWLEDGED {
            return None;
        }
        loop {
            self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
            if self.unacknowledged.insert(self.last_packet_id) {
                return Some(self.last_packet_id);
            }
        }
    }
}

/// The message to publish as a client's will. One with QoS 2 is taken, and delivered with the
/// QoS 1 which subscribers have at most.
fn will_message(will: LastWill) -> Result<Publish, CloseReason> {
    check_topic(&will.topic)?;
    let mut message = Publish::from_bytes(will.topic, will.qos, will.message);
    message.retain = will.retain;
    Ok(message)
}

fn check_topic(topic: &str) -> Result<(), CloseReason> {
    if !topic.is_empty() && valid_topic(topic) && !topic.contains('\0') {
        Ok(())
    } else {
        Err(CloseReason::InvalidTopic)
    }
}

/// What SUBSCRIBE and UNSUBSCRIBE have in common and the codec does not check.
fn check_request<'filter>(
    packet_id: u16,
    filters: impl ExactSizeIterator<Item = &'filter str>,
) -> Result<(), CloseReason> {
    if packet_id == 0 {
        return Err(CloseReason::PacketIdZero);
    }
    if filters.len() == 0 {
        return Err(CloseReason::NoFilter);
    }
    for filter in filters {
        if !valid_filter(filter) || filter.contains('\0') {
            return Err(CloseReason::InvalidFilter);
        }
    }
    Ok(())
}

/// Topic filters with the QoS granted to each; never more than [`MAX_SUBSCRIPTIONS`].
#[derive(Debug, Default)]
struct Subscriptions(BTreeMap<String, QoS>);

impl Subscriptions {
    /// Adds a filter, or replaces the same one (MQTT-3.8.4-3); false if there is no room.
    fn insert(&mut self, filter: String, granted: QoS) -> bool {
        let has_room = self.0.len() < MAX_SUBSCRIPTIONS || self.0.contains_key(&filter);
        if has_room {
            self.0.insert(filter, granted);
        }
        has_room
    }

    fn remove(&mut self, filter: &str) {
        self.0.remove(filter);
    }

    /// The highest QoS granted to a filter matching the topic (MQTT-3.3.5-1); `None` if no filter
    /// matches.
    fn granted(&self, topic: &str) -> Option<QoS> {
        self.0
            .iter()
            .filter(|(filter, _)| matches(filter, topic))
            .map(|(_, granted)| *granted)
            .reduce(greater)
    }
}

/// The last retained message of each topic (3.3.1.3); never more than [`MAX_RETAINED`].
#[derive(Debug, Default)]
struct Retained(BTreeMap<String, Publish>);

impl Retained {
    fn keep(&mut self, message: Publish) {
        if message.payload.is_empty() {
            // MQTT-3.3.1-10 and MQTT-3.3.1-11.
            self.0.remove(&message.topic);
        } else if self.0.len() < MAX_RETAINED || self.0.contains_key(&message.topic) {
            // The payload is a window into what was read from the socket, and would keep all of it.
            let payload = Bytes::copy_from_slice(&message.payload);
            self.0.insert(message.topic.clone(), Publish { payload, ..message });
        } else {
            tracing::warn!(topic = message.topic, "not retained: the store is full");
        }
    }

    fn messages(&self) -> impl Iterator<Item = &Publish> {
        self.0.values()
    }
}

/// Whether a topic filter covers a topic name (4.7). The codec's own `matches` lets no filter have
/// `$` topics and panics where a topic begins with a character of several bytes.
fn matches(filter: &str, topic: &str) -> bool {
    // MQTT-4.7.2-1.
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for pattern in filter.split('/') {
        match (pattern, levels.next()) {
            // Also of no level at all: "sport/#" covers "sport" (4.7.1.2).
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (pattern, Some(level)) if pattern == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

fn lesser(one: QoS, other: QoS) -> QoS {
    if other < one { other } else { one }
}

fn greater(one: QoS, other: QoS) -> QoS {
    if other > one { other } else { one }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rumqttc::mqttbytes::v4::SubscribeFilter;

    const AT_MOST_ONCE: QoS = QoS::AtMostOnce;
    const AT_LEAST_ONCE: QoS = QoS::AtLeastOnce;

    /// A router whose outputs are carried out: what it closes is reported to it.
    #[derive(Default)]
    struct Carried {
        router: Router,
    }

    impl Carried {
        /// A router with a connected client of the name "client" + number for each number.
        fn with_clients(clients: impl IntoIterator<Item = u64>) -> Carried {
            let mut router = Carried::default();
            for client in clients {
                router.take(client, connect(&format!("client{client}")));
            }
            router
        }

        fn take(&mut self, client: u64, packet: Packet) -> Vec<Output> {
            let outputs = self.router.handle(ConnectionId(client), packet);
            self.carry_out(outputs)
        }

        fn lose(&mut self, client: u64) -> Vec<Output> {
            let outputs = self.router.disconnect(ConnectionId(client));
            self.carry_out(outputs)
        }

        fn carry_out(&mut self, mut outputs: Vec<Output>) -> Vec<Output> {
            let mut done = 0;
            while done < outputs.len() {
                if let (connection, Action::Close(_)) = outputs[done] {
                    outputs.extend(self.router.disconnect(connection));
                }
                done += 1;
            }
            outputs
        }
    }

    fn connect(client_id: &str) -> Packet {
        Packet::Connect(Connect::new(client_id))
    }

    fn connect_with_will(client_id: &str, qos: QoS, retain: bool) -> Packet {
        let last_will = Some(LastWill::new("will", "gone", qos, retain));
        Packet::Connect(Connect { last_will, ..Connect::new(client_id) })
    }

    fn subscribe(filters: &[(&str, QoS)]) -> Packet {
        let filters = filters.iter().map(|(path, qos)| SubscribeFilter::new((*path).into(), *qos));
        Packet::Subscribe(Subscribe { pkid: 9, filters: filters.collect() })
    }

    fn unsubscribe(filter: &str) -> Packet {
        Packet::Unsubscribe(Unsubscribe { pkid: 9, ..Unsubscribe::new(filter) })
    }

    /// A message as a client sends it: with packet identifier 77 where it has one.
    fn message(topic: &str, qos: QoS, retain: bool, payload: &str) -> Packet {
        let pkid = if qos == AT_MOST_ONCE { 0 } else { 77 };
        Packet::Publish(Publish { pkid, retain, ..Publish::new(topic, qos, payload) })
    }

    fn send(client: u64, packet: Packet) -> Output {
        (ConnectionId(client), Action::Send(packet))
    }

    fn close(client: u64, reason: CloseReason) -> Output {
        (ConnectionId(client), Action::Close(reason))
    }

    fn accepted(client: u64) -> Output {
        (ConnectionId(client), connack(ConnectReturnCode::Success))
    }

    fn granted(client: u64, codes: &[SubscribeReasonCode]) -> Output {
        send(client, Packet::SubAck(SubAck::new(9, codes.to_vec())))
    }

    fn acknowledged(client: u64) -> Output {
        send(client, Packet::PubAck(PubAck::new(77)))
    }

    fn delivered(client: u64, topic: &str, qos: QoS, pkid: u16, retain: bool, payload: &str) -> Output {
        send(client, Packet::Publish(Publish { pkid, retain, ..Publish::new(topic, qos, payload) }))
    }

    #[test]
    fn filters_match_topics_by_the_wildcard_rules() {
        let table = [
            ("a/b", "a/b", true),
            ("a/b", "a/c", false),
            ("a/b", "a", false),
            ("a", "a/b", false),
            ("A", "a", false),
            ("+", "a", true),
            ("+", "/a", false),
            ("+/+", "/a", true),
            ("/+", "/a", true),
            ("a/+", "a", false),
            ("a/+", "a/", true),
            ("a/+", "a/b", true),
            ("a/+", "a/b/c", false),
            ("a/+/c", "a/b/c", true),
            ("+/b/#", "a/b/c/d", true),
            ("#", "a/b", true),
            ("#", "/", true),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("a/#", "ab", false),
            ("#", "$SYS/load", false),
            ("+/load", "$SYS/load", false),
            ("$SYS/#", "$SYS/load", true),
            ("$SYS/+", "$SYS/load", true),
            ("a/#", "a/$b", true),
            ("ü/+", "ü/é", true),
        ];
        for (filter, topic, expected) in table {
            assert_eq!(matches(filter, topic), expected, "{filter} on {topic}");
        }
    }

    #[test]
    fn the_first_packet_must_be_connect_and_no_later_one_may() {
        let mut router = Carried::default();
        assert_eq!(router.take(1, Packet::PingReq), [close(1, CloseReason::NotConnected)]);
        assert_eq!(router.take(2, connect("a")), [accepted(2)]);
        assert_eq!(router.take(2, connect("a")), [close(2, CloseReason::SecondConnect)]);
        assert_eq!(router.take(2, Packet::PingReq), [close(2, CloseReason::NotConnected)]);
    }

    #[test]
    fn another_protocol_level_is_refused() {
        let connect = Packet::Connect(Connect { protocol: Protocol::V5, ..Connect::new("a") });
        let code = ConnectReturnCode::RefusedProtocolVersion;
        let refusal = [(ConnectionId(1), connack(code)), close(1, CloseReason::Refused(code))];
        assert_eq!(Carried::default().take(1, connect), refusal);
    }

    #[test]
    fn a_persistent_session_is_served_as_clean_and_never_present() {
        let mut router = Carried::default();
        let connect = Packet::Connect(Connect { clean_session: false, ..Connect::new("a") });
        router.take(1, connect.clone());
        router.take(1, subscribe(&[("#", AT_MOST_ONCE)]));
        router.lose(1);
        assert_eq!(router.take(2, connect), [accepted(2)]);
        assert_eq!(router.take(2, message("t", AT_MOST_ONCE, false, "x")), []);
    }

    #[test]
    fn clients_without_identifier_live_side_by_side_but_only_with_clean_sessions() {
        let mut router = Carried::default();
        assert_eq!(router.take(1, connect("")), [accepted(1)]);
        assert_eq!(router.take(2, connect("")), [accepted(2)]);
        let persistent = Packet::Connect(Connect { clean_session: false, ..Connect::new("") });
        let code = ConnectReturnCode::BadClientId;
        let refusal = [(ConnectionId(3), connack(code)), close(3, CloseReason::Refused(code))];
        assert_eq!(router.take(3, persistent), refusal);
    }

    #[test]
    fn the_same_client_identifier_takes_over_and_the_old_will_is_published() {
        let mut router = Carried::with_clients([1]);
        router.take(1, subscribe(&[("will", AT_MOST_ONCE)]));
        router.take(2, connect_with_will("twin", AT_MOST_ONCE, false));
        router.take(2, subscribe(&[("will", AT_MOST_ONCE)]));
        let expected = [
            close(2, CloseReason::TakenOver),
            accepted(3),
            delivered(1, "will", AT_MOST_ONCE, 0, false, "gone"),
        ];
        assert_eq!(router.take(3, connect("twin")), expected);
        assert_eq!(router.take(3, Packet::PingReq), [send(3, Packet::PingResp)]);
    }

    #[test]
    fn a_message_is_acknowledged_and_reaches_whoever_subscribed() {
        let mut router = Carried::with_clients(1..=3);
        router.take(1, subscribe(&[("hall/+", AT_LEAST_ONCE)]));
        router.take(2, subscribe(&[("hall/#", AT_MOST_ONCE)]));
        router.take(3, subscribe(&[("yard/#", AT_LEAST_ONCE)]));
        let expected = [
            acknowledged(1),
            delivered(1, "hall/1", AT_LEAST_ONCE, 1, false, "x"),
            delivered(2, "hall/1", AT_MOST_ONCE, 0, false, "x"),
        ];
        assert_eq!(router.take(1, message("hall/1", AT_LEAST_ONCE, false, "x")), expected);
        let expected = [
            delivered(1, "hall/1", AT_MOST_ONCE, 0, false, "y"),
            delivered(2, "hall/1", AT_MOST_ONCE, 0, false, "y"),
        ];
        assert_eq!(router.take(3, message("hall/1", AT_MOST_ONCE, false, "y")), expected);
    }

    #[test]
    fn overlapping_subscriptions_deliver_once_with_the_highest_qos() {
        let mut router = Carried::with_clients([1]);
        router.take(1, subscribe(&[("a/#", AT_MOST_ONCE), ("a/b", AT_LEAST_ONCE), ("+/b", AT_MOST_ONCE)]));
        let expected = [acknowledged(1), delivered(1, "a/b", AT_LEAST_ONCE, 1, false, "x")];
        assert_eq!(router.take(1, message("a/b", AT_LEAST_ONCE, false, "x")), expected);
    }

    #[test]
    fn subscribing_again_replaces_the_qos() {
        let mut router = Carried::with_clients([1]);
        router.take(1, subscribe(&[("a", AT_LEAST_ONCE)]));
        router.take(1, subscribe(&[("a", AT_MOST_ONCE)]));
        let expected = [acknowledged(1), delivered(1, "a", AT_MOST_ONCE, 0, false, "x")];
        assert_eq!(router.take(1, message("a", AT_LEAST_ONCE, false, "x")), expected);
    }

    #[test]
    fn a_subscription_with_qos_2_is_granted_qos_1() {
        let mut router = Carried::with_clients([1]);
        let codes = [SubscribeReasonCode::Success(AT_LEAST_ONCE)];
        assert_eq!(router.take(1, subscribe(&[("a", QoS::ExactlyOnce)])), [granted(1, &codes)]);
    }

    #[test]
    fn after_unsubscribe_nothing_is_delivered() {
        let mut router = Carried::with_clients([1]);
        router.take(1, subscribe(&[("a", AT_MOST_ONCE)]));
        let answer = [send(1, Packet::UnsubAck(UnsubAck::new(9)))];
        assert_eq!(router.take(1, unsubscribe("a")), answer);
        assert_eq!(router.take(1, unsubscribe("never subscribed")), answer);
        assert_eq!(router.take(1, message("a", AT_MOST_ONCE, false, "x")), []);
    }

    #[test]
    fn the_retained_flag_marks_stored_messages_only() {
        let mut router = Carried::with_clients([1, 2]);
        router.take(1, subscribe(&[("a", AT_LEAST_ONCE)]));
        let live = [delivered(1, "a", AT_MOST_ONCE, 0, false, "x")];
        assert_eq!(router.take(2, message("a", AT_MOST_ONCE, true, "x")), live);
        let codes = [SubscribeReasonCode::Success(AT_LEAST_ONCE)];
        let stored = [granted(2, &codes), delivered(2, "a", AT_MOST_ONCE, 0, true, "x")];
        assert_eq!(router.take(2, subscribe(&[("a", AT_LEAST_ONCE)])), stored);
    }

    #[test]
    fn the_last_retained_message_is_sent_once_however_filters_overlap() {
        let mut router = Carried::with_clients([1]);
        router.take(1, message("a", AT_LEAST_ONCE, true, "first"));
        router.take(1, message("a", AT_LEAST_ONCE, true, "last"));
        let codes = [AT_MOST_ONCE, AT_LEAST_ONCE].map(SubscribeReasonCode::Success);
        let expected = [granted(1, &codes), delivered(1, "a", AT_LEAST_ONCE, 1, true, "last")];
        assert_eq!(router.take(1, subscribe(&[("#", AT_MOST_ONCE), ("+", AT_LEAST_ONCE)])), expected);
    }

    #[test]
    fn an_empty_retained_message_clears_the_store_and_is_delivered() {
        let mut router = Carried::with_clients([1]);
        router.take(1, message("a", AT_MOST_ONCE, true, "x"));
        router.take(1, subscribe(&[("a", AT_MOST_ONCE)]));
        let expected = [delivered(1, "a", AT_MOST_ONCE, 0, false, "")];
        assert_eq!(router.take(1, message("a", AT_MOST_ONCE, true, "")), expected);
        let codes = [SubscribeReasonCode::Success(AT_MOST_ONCE)];
        assert_eq!(router.take(1, subscribe(&[("a", AT_MOST_ONCE)])), [granted(1, &codes)]);
    }

    #[test]
    fn beyond_the_bound_topics_are_not_retained_but_retained_ones_change() {
        let mut router = Carried::with_clients([1]);
        for number in 0..=MAX_RETAINED {
            router.take(1, message(&format!("t/{number}"), AT_MOST_ONCE, true, "old"));
        }
        router.take(1, message("t/0", AT_MOST_ONCE, true, "new"));
        let outputs = router.take(1, subscribe(&[("#", AT_MOST_ONCE)]));
        assert_eq!(outputs.len(), 1 + MAX_RETAINED);
        assert!(outputs.contains(&delivered(1, "t/0", AT_MOST_ONCE, 0, true, "new")));
    }

    #[test]
    fn a_will_is_published_when_the_connection_is_lost() {
        let mut router = Carried::with_clients([1]);
        router.take(1, subscribe(&[("will", AT_LEAST_ONCE)]));
        router.take(2, connect_with_will("mortal", AT_LEAST_ONCE, false));
        assert_eq!(router.lose(2), [delivered(1, "will", AT_LEAST_ONCE, 1, false, "gone")]);
        assert_eq!(router.lose(2), []);
    }

    #[test]
    fn a_will_can_be_retained_and_its_qos_2_is_delivered_as_qos_1() {
        let mut router = Carried::with_clients([1]);
        router.take(2, connect_with_will("mortal", QoS::ExactlyOnce, true));
        router.lose(2);
        let outputs = router.take(1, subscribe(&[("will", QoS::ExactlyOnce)]));
        assert_eq!(outputs[1..], [delivered(1, "will", AT_LEAST_ONCE, 1, true, "gone")]);
    }

    #[test]
    fn a_will_is_published_when_the_client_violates_the_protocol() {
        let mut router = Carried::with_clients([1]);
        router.take(1, subscribe(&[("will", AT_MOST_ONCE)]));
        router.take(2, connect_with_will("mortal", AT_MOST_ONCE, false));
        let expected =
            [close(2, CloseReason::ExactlyOnce), delivered(1, "will", AT_MOST_ONCE, 0, false, "gone")];
        assert_eq!(router.take(2, message("a", QoS::ExactlyOnce, false, "x")), expected);
    }

    #[test]
    fn a_will_is_not_published_after_disconnect() {
        let mut router = Carried::with_clients([1]);
        router.take(1, subscribe(&[("will", AT_MOST_ONCE)]));
        router.take(2, connect_with_will("mortal", AT_MOST_ONCE, false));
        assert_eq!(router.take(2, Packet::Disconnect), [close(2, CloseReason::Disconnected)]);
    }

    #[test]
    fn violations_close_the_connection_they_came_from() {
        let unnumbered = Subscribe::new("a", AT_MOST_ONCE);
        let table = [
            (message("a/+", AT_MOST_ONCE, false, "x"), CloseReason::InvalidTopic),
            (message("", AT_MOST_ONCE, false, "x"), CloseReason::InvalidTopic),
            (message("a\0", AT_MOST_ONCE, false, "x"), CloseReason::InvalidTopic),
            (subscribe(&[("a", AT_MOST_ONCE), ("a/#/b", AT_MOST_ONCE)]), CloseReason::InvalidFilter),
            (subscribe(&[("", AT_MOST_ONCE)]), CloseReason::InvalidFilter),
            (subscribe(&[]), CloseReason::NoFilter),
            (Packet::Subscribe(unnumbered), CloseReason::PacketIdZero),
            (unsubscribe("a+"), CloseReason::InvalidFilter),
            (Packet::Unsubscribe(Unsubscribe { pkid: 9, topics: Vec::new() }), CloseReason::NoFilter),
            (Packet::PingResp, CloseReason::UnexpectedPacket),
            (Packet::UnsubAck(UnsubAck::new(1)), CloseReason::UnexpectedPacket),
        ];
        for (packet, reason) in table {
            let mut router = Carried::with_clients([1, 2]);
            assert_eq!(router.take(1, packet.clone()), [close(1, reason)], "{packet:?}");
            assert_eq!(router.take(2, Packet::PingReq), [send(2, Packet::PingResp)]);
        }
    }

    #[test]
    fn invalid_text_in_connect_is_not_answered() {
        let mut router = Carried::default();
        assert_eq!(router.take(1, connect("a\0")), [close(1, CloseReason::InvalidClientId)]);
        let last_will = Some(LastWill::new("a/#", "gone", AT_MOST_ONCE, false));
        let connect = Packet::Connect(Connect { last_will, ..Connect::new("a") });
        assert_eq!(router.take(2, connect), [close(2, CloseReason::InvalidTopic)]);
    }

    #[test]
    fn beyond_the_bound_a_subscription_fails_and_the_others_stay() {
        let mut router = Carried::with_clients([1]);
        let names: Vec<_> = (0..=MAX_SUBSCRIPTIONS).map(|number| format!("t/{number}")).collect();
        let filters: Vec<_> = names.iter().map(|name| (name.as_str(), AT_MOST_ONCE)).collect();
        let mut codes = vec![SubscribeReasonCode::Success(AT_MOST_ONCE); MAX_SUBSCRIPTIONS];
        codes.push(SubscribeReasonCode::Failure);
        assert_eq!(router.take(1, subscribe(&filters)), [granted(1, &codes)]);
        assert_eq!(router.take(1, subscribe(&filters[..1])), [granted(1, &codes[..1])]);
    }

    #[test]
    fn packet_identifiers_are_reused_only_once_acknowledged_and_never_0() {
        let mut router = Carried::with_clients([1, 2]);
        router.take(1, subscribe(&[("a", AT_LEAST_ONCE)]));
        for packet_id in (1..=u16::MAX).chain(2..=4) {
            let outputs = router.take(2, message("a", AT_LEAST_ONCE, false, "x"));
            assert_eq!(outputs[1..], [delivered(1, "a", AT_LEAST_ONCE, packet_id, false, "x")]);
            if packet_id != 1 {
                router.take(1, Packet::PubAck(PubAck::new(packet_id)));
            }
        }
    }

    #[test]
    fn a_client_which_never_acknowledges_is_disconnected_at_the_bound() {
        let mut router = Carried::with_clients([1, 2]);
        router.take(1, subscribe(&[("a", AT_LEAST_ONCE)]));
        for _ in 0..MAX_UNACKNOWLEDGED {
            router.take(2, message("a", AT_LEAST_ONCE, false, "x"));
        }
        let expected = [acknowledged(2), close(1, CloseReason::Unacknowledged)];
        assert_eq!(router.take(2, message("a", AT_LEAST_ONCE, false, "x")), expected);
    }
}
