//! What a connection makes of all that a broker may say.

use super::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

#[test]
fn acknowledgements_count_in_the_order_of_sending() {
    let mut ledger = Unacknowledged::default();
    for packet_id in [0, 1, 2, 0, 3] {
        ledger.handle_sent(packet_id);
    }
    assert_eq!(ledger.handle_acknowledged(2), 0);
    assert_eq!(ledger.handle_acknowledged(9), 0);
    assert_eq!(ledger.behind(3), Some(2));
    assert_eq!(ledger.handle_acknowledged(1), 2);
    assert_eq!(ledger.behind(3), Some(0));
    assert_eq!(ledger.handle_acknowledged(1), 0);
    assert_eq!(ledger.handle_acknowledged(3), 1);
    assert_eq!(ledger.behind(3), None);
}

#[test]
fn answers_to_subscriptions_are_told_apart_in_any_order() {
    let mut ledger = Subscribing::default();
    for packet_id in [7, 1, 9] {
        ledger.handle_sent(packet_id);
    }
    assert_eq!(ledger.handle_answered(1), Some(1));
    assert_eq!(ledger.handle_answered(7), Some(0));
    assert_eq!(ledger.handle_answered(7), None);
    assert_eq!(ledger.handle_answered(9), Some(2));
}

/// A connection that is to be made to `broker`.
fn connection(protocol: &str, broker: &str, more: &str) -> (Connection, Pump, mpsc::Receiver<Happening>) {
    let text = format!(
        "[gateway]\nname = \"n\"\nenterprise = \"e\"\n[uplink.u]\nbroker = \"{broker}\"\nprotocol = \"{protocol}\"\n{more}\n\
         [link.l]\ntcp = \"127.0.0.1:9\"\n[device.d]\nlink = \"l\"\ntags = [{{ name = \"t\", at = \"hr:0\" }}]\n",
    );
    let site = crate::config::parse("a.toml", &text).site.unwrap();
    let will = Publication { topic: "will".to_owned(), ..Publication::default() };
    let uplink = &site.uplinks[0];
    connect(uplink, &uplink.brokers[0], will).unwrap()
}

/// How a connection ends at a broker that says this, and then hangs up or listens on.
async fn end(protocol: &str, answer: &[u8], hangs_up: bool) -> (String, Vec<Happening>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let broker = format!("mqtt://{}", listener.local_addr().unwrap());
    let (_connection, pump, mut happenings) = connection(protocol, &broker, "");
    let broker = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut connect = [0; 200];
        assert!(stream.read(&mut connect).await.unwrap() > 10);
        stream.write_all(answer).await.unwrap();
        if hangs_up {
            stream.shutdown().await.unwrap();
        }
        stream.read_to_end(&mut Vec::new()).await.ok();
    };
    let (error, ()) = tokio::join!(pump.run(), broker);
    let mut seen = Vec::new();
    while let Ok(happening) = happenings.try_recv() {
        seen.push(happening);
    }
    (error, seen)
}

/// How a connection through a proxy ends at a broker that says this and hangs up in the same breath.
async fn end_behind_a_proxy(protocol: &str, answer: &[u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("proxy = \"http://{}\"", listener.local_addr().unwrap());
    let (_connection, pump, _happenings) = connection(protocol, "mqtt://127.0.0.1:9", &proxy);
    let broker = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 200];
        assert!(stream.read(&mut request).await.unwrap() > 10);
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        assert!(stream.read(&mut request).await.unwrap() > 10);
        stream.write_all(answer).await.unwrap();
    };
    tokio::join!(pump.run(), broker).0
}

#[tokio::test]
async fn the_last_words_of_a_broker_behind_a_proxy_are_heard() {
    for (protocol, answer, expected) in [
        ("3.1.1", &b"\x20\x02\x00\x04"[..], "`username` or `password` is wrong"),
        ("3.1.1", b"", "the broker has hung up"),
        ("5", b"\x20\x03\x00\x86\x00", "`username` or `password` is wrong"),
        ("5", b"\x20\x03\x00\x00\x00\xe0\x02\x8e\x00", "(SessionTakenOver)"),
        ("5", b"\x20\x03\x00\x00\x00", "the broker has hung up"),
    ] {
        for _ in 0..20 {
            let error = end_behind_a_proxy(protocol, answer).await;
            assert!(error.contains(expected), "{error}");
        }
    }
}

/// The library would ping without a pause, and give the second ping up for want of an answer to the first.
#[tokio::test]
async fn a_broker_that_wants_no_pings_is_pinged_in_our_own_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let broker = format!("mqtt://{}", listener.local_addr().unwrap());
    let (_connection, pump, _happenings) = connection("5", &broker, "");
    let broker = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = [0; 200];
        assert!(stream.read(&mut heard).await.unwrap() > 10);
        stream.write_all(b"\x20\x06\x00\x00\x03\x13\x00\x00").await.unwrap();
        let mut pings = 0;
        while let Ok(size) = tokio::time::timeout(Duration::from_millis(500), stream.read(&mut heard)).await {
            pings += size.unwrap() / 2;
            assert!(pings <= 1, "a ping each moment");
            stream.write_all(b"\xd0\x00").await.unwrap();
        }
    };
    tokio::select! {
        error = pump.run() => panic!("{error}"),
        () = broker => {}
    }
}

#[tokio::test]
async fn how_a_broker_ends_a_connection_over_3_1_1_is_said_in_words() {
    for (answer, expected) in [
        (&b"\x20\x02\x00\x04"[..], "`username` or `password` is wrong"),
        (b"\x20\x02\x00\x01", "it does not speak MQTT 3.1.1"),
        (b"\x20\x02\x00\x00", "the broker has hung up"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", ""),
    ] {
        let (error, _) = end("3.1.1", answer, true).await;
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn how_a_broker_ends_a_connection_over_5_is_said_in_words() {
    for (answer, expected) in [
        (&b"\x20\x03\x00\x86\x00"[..], "`username` or `password` is wrong (BadUserNamePassword)"),
        (b"\x20\x03\x00\x84\x00", "write `protocol = \"3.1.1\"`"),
        (b"\x20\x02\x00\x01", "does it speak MQTT 5"), // one that knows 3.1.1 only
        (b"", "does it speak MQTT 5"),
        (b"\x20\x03\x00\x00\x00", "the broker has hung up"),
        (b"\x20\x03\x00\x00\x00\xe0\x02\x8e\x00", "(SessionTakenOver)"),
        (b"\x20\x05\x00\x00\x02\x24\x00", "its Maximum QoS is 0"),
        (b"\x20\x06\x00\x00\x03\x13\x00\x3c", "write `keep_alive = \"60s\"`"),
        (b"\x20\x03\x00\x00\x00\x20\x06\x00\x00\x03\x21\x00\x01", "answers the connection twice"),
        (b"\x20\x03\x00\x00\x00\x30\x08\x00\x01a\x03\x23\x00\x01x", "topic aliases"),
    ] {
        let hangs_up = expected.contains("hung up") || expected.contains("does it speak");
        let (error, _) = end("5", answer, hangs_up).await;
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn what_a_broker_takes_at_most_is_told_over_5() {
    let (_, seen) = end("5", b"\x20\x08\x00\x00\x05\x27\x00\x00\x10\x00", true).await;
    assert!(matches!(seen[0], Happening::Connected { packet_size_max: 4096 }), "{seen:?}");
}
