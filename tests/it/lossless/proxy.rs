//! The road between gateway and broker, with faults on command.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate::clock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::wire::{End, Pass, Side, Trap, Wire};
use super::worker::Worker;

/// How long a connection that was ended by FIN still takes what its ends send.
const FADING: Duration = Duration::from_secs(1);

/// What happens to the present connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    Cut(End),
    /// Whatever either side sends from now on is swallowed, and neither hears of the other's end.
    Vanish,
    /// Nothing is read from the gateway for a time; then it goes on or ends.
    Stall(Duration, Option<End>),
    /// It ends after exactly so many more bytes from that side.
    CutAfter(Side, u64, End),
}

#[derive(Default)]
struct Door {
    is_open: bool,
    /// How often it was opened: who came in before may not go on.
    opened: u64,
    /// What happens to the next connections that come in.
    traps: VecDeque<Trap>,
    /// When each connection came in.
    admitted_ms: Vec<u64>,
}

/// A running proxy; closed at first.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    door: Arc<Mutex<Door>>,
    /// Only connections that are there already obey an order.
    orders: watch::Sender<Option<Fault>>,
    _worker: Worker,
}

impl Proxy {
    pub(crate) fn start(broker: SocketAddr) -> Proxy {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let door = Arc::new(Mutex::new(Door::default()));
        let (orders, obeyed) = watch::channel(None);
        let kept = door.clone();
        let worker = Worker::start("proxy", move || async move {
            let listener = TcpListener::from_std(listener).unwrap();
            let mut tasks = JoinSet::new();
            loop {
                let (gateway, _) = listener.accept().await.unwrap();
                tasks.spawn(admit(gateway, broker, door.clone(), obeyed.clone()));
                while tasks.try_join_next().is_some() {}
            }
        });
        Proxy { address, door: kept, orders, _worker: worker }
    }

    /// Refuses new connections; those that are there go on.
    pub(crate) fn close(&self) {
        self.door.lock().unwrap().is_open = false;
    }

    pub(crate) fn open(&self) {
        let mut door = self.door.lock().unwrap();
        door.is_open = true;
        door.opened += 1;
    }

    /// Lets this happen to the present connection, if there is one.
    pub(super) fn order(&self, fault: Fault) {
        self.orders.send_replace(Some(fault));
    }

    /// Lets one of these happen to each of the next connections.
    pub(super) fn set_traps(&self, traps: impl IntoIterator<Item = Trap>) {
        self.door.lock().unwrap().traps.extend(traps);
    }

    /// How many connections are still to meet theirs.
    pub(super) fn traps(&self) -> usize {
        self.door.lock().unwrap().traps.len()
    }

    /// When each connection came in that was let through to the broker.
    pub(super) fn admitted_ms(&self) -> Vec<u64> {
        self.door.lock().unwrap().admitted_ms.clone()
    }
}

/// Lets a connection in if the door has been open from its first packet to the broker's answer, and carries it.
async fn admit(
    gateway: TcpStream,
    address: SocketAddr,
    door: Arc<Mutex<Door>>,
    mut orders: watch::Receiver<Option<Fault>>,
) {
    let came_in = clock::wall().millis();
    let pass = |door: &Door| door.is_open.then_some(door.opened);
    let before = pass(&door.lock().unwrap());
    let broker = match before {
        Some(_) => TcpStream::connect(address).await.ok(),
        None => None,
    };
    let wire = {
        let mut door = door.lock().unwrap();
        if broker.is_none() || before != pass(&door) {
            gateway.set_zero_linger().ok();
            return;
        }
        door.admitted_ms.push(came_in);
        orders.mark_unchanged();
        Wire::new(door.traps.pop_front())
    };
    carry(gateway, broker.unwrap(), &wire, orders).await;
}

/// Carries bytes both ways until an end or a fault.
async fn carry(
    mut gateway: TcpStream,
    mut broker: TcpStream,
    wire: &Wire,
    mut orders: watch::Receiver<Option<Fault>>,
) {
    gateway.set_nodelay(true).ok();
    broker.set_nodelay(true).ok();
    let end = {
        let ((from_gateway, to_gateway), (from_broker, to_broker)) = (gateway.split(), broker.split());
        let up = pump(wire, Side::Gateway, from_gateway, to_broker);
        let down = pump(wire, Side::Broker, from_broker, to_gateway);
        tokio::pin!(up, down);
        let mut is_broker_gone = false;
        loop {
            tokio::select! {
                end = &mut up => break end,
                end = &mut down, if !is_broker_gone => match end {
                    None if wire.has_vanished() => is_broker_gone = true, // the gateway must not hear of it
                    end => break end,
                },
                end = obey(&mut orders, wire) => break Some(end),
            }
        }
    };
    match end {
        None => {} // each side hears of the other's end
        Some(End::Rst) => {
            gateway.set_zero_linger().ok();
            broker.set_zero_linger().ok();
        }
        Some(End::Fin) => {
            tokio::join!(fade(gateway), fade(broker));
        }
    }
}

/// Carries orders out; ends with the one that ends the connection. An order that comes during another replaces it.
async fn obey(orders: &mut watch::Receiver<Option<Fault>>, wire: &Wire) -> End {
    let mut pending: Option<(Duration, Option<End>)> = None;
    loop {
        tokio::select! {
            changed = orders.changed() => if changed.is_err() { std::future::pending::<()>().await },
            () = tokio::time::sleep(pending.unwrap_or_default().0), if pending.is_some() => {
                match pending.take() {
                    Some((_, Some(end))) => return end,
                    _ => wire.set_stalled(false),
                }
                continue;
            }
        }
        let order = *orders.borrow_and_update();
        match order {
            None => {}
            Some(Fault::Cut(end)) => return end,
            Some(Fault::Vanish) => wire.vanish(),
            Some(Fault::CutAfter(side, bytes, end)) => wire.cut_after(side, bytes, end),
            Some(Fault::Stall(time, end)) => {
                wire.set_stalled(true);
                pending = Some((time, end));
            }
        }
    }
}

/// Carries bytes one way; ends with the fault that cuts it, or with none where a side has ended.
async fn pump(wire: &Wire, side: Side, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> Option<End> {
    let mut bytes = vec![0; 64 << 10];
    loop {
        wire.flowing(side).await;
        let count = match from.read(&mut bytes).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => count,
        };
        wire.flowing(side).await; // it may have been stalled meanwhile
        match wire.pass(side, &bytes[..count]) {
            Pass::Nothing => {}
            Pass::All => to.write_all(&bytes[..count]).await.ok()?,
            Pass::Last(count, end) => {
                to.write_all(&bytes[..count]).await.ok();
                return Some(end);
            }
        }
    }
}

/// Sends FIN, and takes what comes until the far side ends as well, so that no RST follows.
async fn fade(mut stream: TcpStream) {
    stream.shutdown().await.ok();
    let mut bytes = vec![0; 64 << 10];
    let rest = async { while stream.read(&mut bytes).await.is_ok_and(|count| count > 0) {} };
    tokio::time::timeout(FADING, rest).await.ok();
}
