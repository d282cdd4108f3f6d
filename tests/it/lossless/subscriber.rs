//! What a consumer at the broker gets, taken down raw and at once: what it means is found out elsewhere.
//!
//! It must miss nothing that the broker took. So it has a thread of its own; it subscribes at QoS 0 and sends no pings,
//! for a socket that it wrote to could be reset while there is something to read on it; and what was read before a
//! connection failed is taken before the next one is made.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS, SubscribeFilter};
use tidegate::clock;
use tokio::sync::watch;

use super::worker::Worker;

/// Between two attempts to connect.
const RECONNECT: Duration = Duration::from_millis(20);
/// The largest packet either way.
const PACKET_SIZE_MAX: usize = 64 << 20;

/// Something that the subscriber saw, and when.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) at_ms: u64,
    pub(crate) what: What,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    /// A new connection, of which everything is heard from here on.
    Subscribed,
    /// A message.
    Message { topic: String, payload: Bytes },
}

/// A running subscriber.
pub(crate) struct Subscriber {
    heard: Arc<Mutex<Vec<Arrival>>>,
    is_deaf: watch::Sender<bool>,
    _worker: Worker,
}

impl Subscriber {
    pub(crate) fn start(broker: SocketAddr) -> Subscriber {
        Subscriber::to(broker, vec!["spBv1.0/#".to_owned(), format!("{}/#", super::ENTERPRISE)])
    }

    /// One that hears what these filters match.
    pub(crate) fn to(broker: SocketAddr, filters: Vec<String>) -> Subscriber {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let kept = heard.clone();
        let (is_deaf, mut deaf) = watch::channel(false);
        let worker = Worker::start("subscriber", move || async move {
            while deaf.wait_for(|deaf| !deaf).await.is_ok() {
                tokio::select! {
                    () = listen(broker, &filters, &heard) => tokio::time::sleep(RECONNECT).await,
                    is_deaf = deaf.wait_for(|deaf| *deaf) => drop(is_deaf), // or the end
                }
            }
        });
        Subscriber { heard: kept, is_deaf, _worker: worker }
    }

    /// Deaf it has no connection, and misses what the broker takes.
    pub(crate) fn set_deaf(&self, is_deaf: bool) {
        self.is_deaf.send_replace(is_deaf);
    }

    /// What has come since the last call.
    pub(crate) fn take(&self) -> Vec<Arrival> {
        std::mem::take(&mut self.heard.lock().unwrap())
    }
}

/// One connection, until it fails.
async fn listen(broker: SocketAddr, filters: &[String], heard: &Mutex<Vec<Arrival>>) {
    let mut options = MqttOptions::new("judge", broker.ip().to_string(), broker.port());
    options.set_keep_alive(Duration::ZERO).set_max_packet_size(PACKET_SIZE_MAX, PACKET_SIZE_MAX);
    let (client, mut events) = AsyncClient::new(options, 8);
    let filters = filters.iter().map(|filter| SubscribeFilter::new(filter.clone(), QoS::AtMostOnce));
    client.try_subscribe_many(filters).unwrap();
    while let Ok(event) = events.poll().await {
        take_down(event, heard);
    }
    for event in events.state.events.drain(..) {
        take_down(event, heard);
    }
}

fn take_down(event: Event, heard: &Mutex<Vec<Arrival>>) {
    let Event::Incoming(packet) = event else { return };
    let what = match packet {
        Packet::SubAck(_) => What::Subscribed,
        Packet::Publish(publish) => What::Message { topic: publish.topic, payload: publish.payload },
        _ => return,
    };
    heard.lock().unwrap().push(Arrival { at_ms: clock::wall().millis(), what });
}
