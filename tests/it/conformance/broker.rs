//! A broker that writes down what a client says, byte by byte and in order, and does to it what a test wants.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use tidegate::clock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::log::{Entry, Log, What};
use super::wire::{self, Publish, Said};
use crate::gateway::within;

/// Between two looks at the log, or at a hold.
const LOOK: Duration = Duration::from_millis(10);

/// What the broker keeps from a client.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hold {
    /// A connection ends after its CONNECT.
    Connections,
    /// CONNACK is not sent until this is let go.
    Connack,
    /// SUBACK is not sent until this is let go.
    Suback,
    /// PUBACKs are not sent any more, those held back never.
    Puback,
}

/// A running broker.
pub(super) struct Broker {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    log: Mutex<Vec<Entry>>,
    holds: [AtomicBool; 4],
    retained: Mutex<Vec<Publish>>,
    connections: Mutex<BTreeMap<usize, mpsc::Sender<Order>>>,
}

enum Order {
    Send(Publish),
    /// Also to who has not subscribed.
    Push(Publish),
    Cut,
}

/// What is known of a connection.
#[derive(Default)]
struct Talk {
    number: usize,
    level: u8,
    filters: Vec<String>,
}

impl Broker {
    pub(super) async fn start() -> Broker {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::<Shared>::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, shared.clone()));
        Broker { address, shared, _tasks: tasks }
    }

    pub(super) fn log(&self) -> Log {
        Log(self.shared.log.lock().unwrap().clone())
    }

    /// How much the log has: a place to look from.
    pub(super) fn mark(&self) -> usize {
        self.shared.log.lock().unwrap().len()
    }

    /// The mark behind the first entry from `from` on that fits; the test fails where none comes.
    pub(super) async fn wait(&self, from: usize, what: &str, fits: impl Fn(&Entry) -> bool) -> usize {
        let found = within(async {
            loop {
                let position = self.shared.log.lock().unwrap().iter().skip(from).position(&fits);
                if let Some(position) = position {
                    return from + position + 1;
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        match tokio::time::timeout(Duration::from_secs(28), found).await {
            Ok(mark) => mark,
            Err(_) => panic!("{what} has not come; the log ends with\n{}", self.log().tail()),
        }
    }

    /// Waits for a Sparkplug message of this kind.
    pub(super) async fn hears(&self, from: usize, verb: &str, device: Option<&str>) -> usize {
        self.wait(from, &format!("{verb} {device:?}"), |entry| entry.is(verb, device)).await
    }

    pub(super) fn hold(&self, what: Hold, is_held: bool) {
        self.shared.holds[what as usize].store(is_held, Ordering::SeqCst);
    }

    /// Ends every connection without a word.
    pub(super) fn cut(&self) {
        self.order(|| Order::Cut);
    }

    /// Publishes a message, to whoever has subscribed.
    pub(super) fn say(&self, topic: &str, payload: &[u8], qos: u8) {
        let message = Publish { topic: topic.into(), payload: payload.into(), qos, ..Publish::default() };
        self.order(|| Order::Send(message.clone()));
    }

    /// Sends a message to every client, as no broker should.
    pub(super) fn push(&self, topic: &str, payload: &[u8]) {
        let message = Publish { topic: topic.into(), payload: payload.into(), ..Publish::default() };
        self.order(|| Order::Push(message.clone()));
    }

    /// Publishes a message and keeps it for whoever subscribes later.
    pub(super) fn keep(&self, topic: &str, payload: &[u8]) {
        self.say(topic, payload, 1);
        let message =
            Publish { topic: topic.into(), payload: payload.into(), qos: 1, is_retained: true, packet_id: 0 };
        let mut retained = self.shared.retained.lock().unwrap();
        retained.retain(|known| known.topic != message.topic);
        retained.push(message);
    }

    fn order(&self, order: impl Fn() -> Order) {
        for connection in self.shared.connections.lock().unwrap().values() {
            connection.try_send(order()).ok(); // one that has ended meanwhile
        }
    }
}

impl Shared {
    fn is_held(&self, what: Hold) -> bool {
        self.holds[what as usize].load(Ordering::SeqCst)
    }

    async fn let_go(&self, what: Hold) {
        while self.is_held(what) {
            tokio::time::sleep(LOOK).await;
        }
    }

    fn note(&self, connection: usize, what: What) {
        let at_ms = clock::wall().millis();
        self.log.lock().unwrap().push(Entry { connection, at_ms, what });
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut tasks = JoinSet::new();
    for number in 0.. {
        let (stream, _) = listener.accept().await.unwrap();
        let (sender, orders) = mpsc::channel(1024);
        shared.connections.lock().unwrap().insert(number, sender);
        let shared = shared.clone();
        tasks.spawn(async move {
            converse(stream, number, &shared, orders).await;
            shared.connections.lock().unwrap().remove(&number);
            shared.note(number, What::Ended);
        });
    }
}

/// One connection, to its end.
async fn converse(mut stream: TcpStream, number: usize, shared: &Shared, mut orders: mpsc::Receiver<Order>) {
    stream.set_nodelay(true).unwrap();
    let mut buffer = BytesMut::new();
    let mut talk = Talk { number, ..Talk::default() };
    loop {
        while let Some(said) = wire::next(&mut buffer, talk.level) {
            shared.note(number, What::Said(said.clone()));
            let Some(answer) = talk.answer(said, shared).await else { return };
            if stream.write_all(&answer).await.is_err() {
                return;
            }
        }
        tokio::select! {
            read = stream.read_buf(&mut buffer) => if !matches!(read, Ok(1..)) { return },
            order = orders.recv() => match order {
                Some(Order::Send(message)) if !talk.has_subscribed(&message.topic) => {}
                Some(Order::Send(message) | Order::Push(message)) => {
                    shared.note(number, What::Told);
                    if stream.write_all(&wire::message(talk.level, &message)).await.is_err() {
                        return;
                    }
                }
                Some(Order::Cut) | None => return,
            },
        }
    }
}

impl Talk {
    /// What a broker answers; nothing where the connection is to end.
    async fn answer(&mut self, said: Said, shared: &Shared) -> Option<Vec<u8>> {
        Some(match said {
            Said::Connect(connect) => {
                self.level = connect.level;
                if shared.is_held(Hold::Connections) {
                    return None;
                }
                shared.let_go(Hold::Connack).await;
                shared.note(self.number, What::Taken);
                wire::connack(self.level)
            }
            Said::Subscribe { packet_id, filters } => {
                shared.let_go(Hold::Suback).await;
                let mut answer = wire::suback(self.level, packet_id, filters.iter().map(|(_, qos)| *qos));
                self.filters.extend(filters.into_iter().map(|(filter, _)| filter));
                shared.note(self.number, What::Granted);
                for message in shared.retained.lock().unwrap().iter() {
                    if self.has_subscribed(&message.topic) {
                        answer.extend(wire::message(self.level, message));
                    }
                }
                answer
            }
            Said::Publish(publish) => {
                let mut answer = Vec::new();
                if publish.qos > 0 && !shared.is_held(Hold::Puback) {
                    answer.extend(wire::puback(publish.packet_id));
                }
                if self.has_subscribed(&publish.topic) {
                    let message = Publish { is_retained: false, ..publish };
                    answer.extend(wire::message(self.level, &message)); // also to who has published it
                }
                answer
            }
            Said::Unsubscribe { packet_id, filters } => {
                self.filters.retain(|filter| !filters.contains(filter));
                wire::unsuback(self.level, packet_id, filters.len())
            }
            Said::Acknowledge => Vec::new(),
            Said::Ping => wire::pong(),
            Said::Disconnect { .. } => return None,
        })
    }

    fn has_subscribed(&self, topic: &str) -> bool {
        self.filters.iter().any(|filter| {
            let (filter, topic) = (filter.split('/'), topic.split('/'));
            filter.clone().count() == topic.clone().count()
                && filter.zip(topic).all(|(wanted, got)| wanted == "+" || wanted == got)
        })
    }
}
