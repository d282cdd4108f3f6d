//! What an MQTT client says, 3.1.1 and 5, taken apart by hand: a judge does not read with the library that wrote.

use bytes::{Buf as _, BytesMut};

/// A packet of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Connect(Connect),
    Subscribe { packet_id: u16, filters: Vec<(String, u8)> },
    Unsubscribe { packet_id: u16, filters: Vec<String> },
    Publish(Publish),
    Acknowledge,
    Ping,
    Disconnect { reason: u8 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Connect {
    /// 4 is MQTT 3.1.1, 5 is MQTT 5.
    pub(super) level: u8,
    /// Clean session, or clean start.
    pub(super) is_clean: bool,
    pub(super) keep_alive: u16,
    /// MQTT 5 only.
    pub(super) session_expiry: Option<u32>,
    pub(super) client_id: String,
    pub(super) will: Option<Publish>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Publish {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) qos: u8,
    pub(super) is_retained: bool,
    /// 0 at QoS 0.
    pub(super) packet_id: u16,
}

/// The session expiry interval among the properties (MQTT 5, 3.1.2.11.2).
const SESSION_EXPIRY: u8 = 0x11;

/// Takes the first packet off `buffer`, once it is whole; `level` is that of the connection, 0 before its CONNECT.
pub(super) fn next(buffer: &mut BytesMut, level: u8) -> Option<Said> {
    let (length, header) = length(buffer.get(1..)?)?;
    let end = 1 + header + length;
    if buffer.len() < end {
        return None;
    }
    let packet = buffer.split_to(end);
    let mut rest = Rest(&packet[1 + header..]);
    let flags = packet[0] & 0x0F;
    let said = match packet[0] >> 4 {
        1 => Said::Connect(connect(&mut rest)),
        3 => Said::Publish(publish(&mut rest, flags, level)),
        4 => return_acknowledge(&mut rest),
        8 => subscribe(&mut rest, flags, level),
        10 => unsubscribe(&mut rest, level),
        12 => Said::Ping,
        14 => Said::Disconnect { reason: if rest.0.is_empty() { 0 } else { rest.byte() } },
        other => panic!("a packet of type {other} from an edge node"),
    };
    Some(said)
}

/// A variable byte integer, and how many bytes it has (2.2.3).
fn length(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value += usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, index + 1));
        }
    }
    assert!(bytes.len() < 4, "a length of more than four bytes");
    None
}

fn connect(rest: &mut Rest<'_>) -> Connect {
    assert_eq!(rest.text(), "MQTT");
    let level = rest.byte();
    let flags = rest.byte();
    assert_eq!(flags & 1, 0, "the reserved flag of CONNECT");
    let keep_alive = rest.short();
    let session_expiry = if level == 5 { rest.session_expiry() } else { None };
    let client_id = rest.text();
    let will = (flags & 4 != 0).then(|| {
        if level == 5 {
            rest.session_expiry(); // of the will's properties none matters
        }
        let topic = rest.text();
        let payload = rest.string().to_vec();
        Publish { topic, payload, qos: flags >> 3 & 3, is_retained: flags & 0x20 != 0, packet_id: 0 }
    });
    Connect { level, is_clean: flags & 2 != 0, keep_alive, session_expiry, client_id, will }
}

fn publish(rest: &mut Rest<'_>, flags: u8, level: u8) -> Publish {
    let topic = rest.text();
    let qos = flags >> 1 & 3;
    let packet_id = if qos > 0 { rest.short() } else { 0 };
    if level == 5 {
        rest.properties();
    }
    Publish { topic, payload: rest.0.to_vec(), qos, is_retained: flags & 1 != 0, packet_id }
}

fn return_acknowledge(rest: &mut Rest<'_>) -> Said {
    assert_ne!(rest.short(), 0, "packet id of PUBACK");
    Said::Acknowledge
}

fn subscribe(rest: &mut Rest<'_>, flags: u8, level: u8) -> Said {
    assert_eq!(flags, 2, "flags of SUBSCRIBE");
    let packet_id = rest.short();
    if level == 5 {
        rest.properties();
    }
    let mut filters = Vec::new();
    while !rest.0.is_empty() {
        let filter = rest.text();
        filters.push((filter, rest.byte() & 3));
    }
    Said::Subscribe { packet_id, filters }
}

fn unsubscribe(rest: &mut Rest<'_>, level: u8) -> Said {
    let packet_id = rest.short();
    if level == 5 {
        rest.properties();
    }
    let mut filters = Vec::new();
    while !rest.0.is_empty() {
        filters.push(rest.text());
    }
    Said::Unsubscribe { packet_id, filters }
}

/// What has not been read of a packet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn byte(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn short(&mut self) -> u16 {
        self.take(2).get_u16()
    }

    fn string(&mut self) -> &'a [u8] {
        let count = usize::from(self.short());
        self.take(count)
    }

    /// UTF-8, as MQTT has all text (1.5.3).
    fn text(&mut self) -> String {
        String::from_utf8(self.string().to_vec()).unwrap()
    }

    fn properties(&mut self) -> &'a [u8] {
        let (count, size) = length(self.0).unwrap();
        self.take(size);
        self.take(count)
    }

    /// Of these properties; ours send it first or not at all.
    fn session_expiry(&mut self) -> Option<u32> {
        let mut properties = Rest(self.properties());
        (!properties.0.is_empty() && properties.byte() == SESSION_EXPIRY)
            .then(|| properties.take(4).get_u32())
    }
}

/// A packet for the client: CONNACK without a session.
pub(super) fn connack(level: u8) -> Vec<u8> {
    if level == 5 { vec![0x20, 3, 0, 0, 0] } else { vec![0x20, 2, 0, 0] }
}

pub(super) fn suback(level: u8, packet_id: u16, granted: impl IntoIterator<Item = u8>) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    if level == 5 {
        body.push(0);
    }
    body.extend(granted);
    packet(0x90, &body)
}

/// For so many filters that are not subscribed any more.
pub(super) fn unsuback(level: u8, packet_id: u16, count: usize) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    if level == 5 {
        body.push(0);
        body.extend(std::iter::repeat_n(0, count));
    }
    packet(0xB0, &body)
}

pub(super) fn puback(packet_id: u16) -> Vec<u8> {
    packet(0x40, &packet_id.to_be_bytes())
}

pub(super) fn pong() -> Vec<u8> {
    vec![0xD0, 0]
}

/// A message for the client; its packet id is 1 where it has one.
pub(super) fn message(level: u8, message: &Publish) -> Vec<u8> {
    let mut body = u16::try_from(message.topic.len()).unwrap().to_be_bytes().to_vec();
    body.extend(message.topic.as_bytes());
    if message.qos > 0 {
        body.extend(1_u16.to_be_bytes());
    }
    if level == 5 {
        body.push(0);
    }
    body.extend(&message.payload);
    packet(0x30 | message.qos << 1 | u8::from(message.is_retained), &body)
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut rest = body.len();
    while rest >= 0x80 {
        bytes.push(u8::try_from(rest & 0x7F).unwrap() | 0x80);
        rest >>= 7;
    }
    bytes.push(u8::try_from(rest).unwrap());
    bytes.extend(body);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_taken_once_it_is_whole() {
        let sent = message(4, &Publish { topic: "a/b".into(), payload: vec![7; 200], ..Publish::default() });
        let mut buffer = BytesMut::from(&sent[..100]);
        assert_eq!(next(&mut buffer, 4), None);
        buffer.extend(&sent[100..]);
        buffer.extend([0xC0, 0]);
        let Some(Said::Publish(publish)) = next(&mut buffer, 4) else { panic!("no PUBLISH") };
        assert_eq!((publish.topic.as_str(), publish.payload.len(), publish.qos), ("a/b", 200, 0));
        assert_eq!(next(&mut buffer, 4), Some(Said::Ping));
        assert_eq!(next(&mut buffer, 4), None);
    }

    #[test]
    fn a_connect_of_either_version_is_read_with_its_will() {
        let body = |level: u8, properties: &[u8], of_will: &[u8]| {
            let mut body = b"\0\x04MQTT".to_vec();
            body.extend([level, 0b0000_1110, 0, 30]);
            body.extend(properties);
            body.extend(b"\0\x01c");
            body.extend(of_will);
            body.extend(b"\0\x01w\0\x02hi");
            BytesMut::from(&packet(0x10, &body)[..])
        };
        for (mut bytes, level, expiry) in
            [(body(4, &[], &[]), 4, None), (body(5, &[5, SESSION_EXPIRY, 0, 0, 0, 9], &[0]), 5, Some(9))]
        {
            let Some(Said::Connect(connect)) = next(&mut bytes, 0) else { panic!("no CONNECT") };
            assert_eq!((connect.level, connect.is_clean, connect.keep_alive), (level, true, 30));
            assert_eq!(connect.session_expiry, expiry);
            let will = connect.will.unwrap();
            assert_eq!((will.topic.as_str(), will.payload.as_slice(), will.qos), ("w", &b"hi"[..], 1));
            assert!(!will.is_retained);
        }
    }
}
