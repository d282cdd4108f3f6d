//! Lets units dial in: takes connections, hears who is calling, and hands each to the bus of its name.
//!
//! One task a listening link. It never reads a byte of the protocol but those that came with a registration: a caller's
//! stream belongs to the bus that gets it, and with it the rest of the connection's life. A caller that dials in again
//! is handed over again: its last connection was lost without a word, and the newest counts.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rustix::net::sockopt;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout, timeout_at};
use tracing::{debug, info, warn};

use super::caller::Caller;
use super::registration::{QUIET, Registered, Registering, Rules, Step};
use crate::clock;
use crate::config::site::{self, Network};
use crate::counters::LinkCounters;

/// Callers of one link that are connected at a time; further ones are refused.
pub const CALLERS_MAX: usize = 1024;
/// Connections of one link whose caller is not known yet; further ones are refused.
pub const REGISTERING_MAX: usize = 64;
/// How long a caller may take to say who it is.
pub const REGISTERING_TIME: Duration = Duration::from_secs(10);
/// Connections of one caller that may wait for its bus, which takes the last one; further ones are refused.
pub const WAITING_MAX: usize = 4;
/// Callers and addresses that are named in the log; of further ones nothing but their number is kept.
const NAMED_MAX: usize = 256;
/// The most that is read at once from a caller that is not known yet.
const READ_MAX: usize = 1024;
/// A port that cannot be had is tried again after so long.
const BIND_RETRY: Duration = Duration::from_secs(3);
/// After the system has refused a connection (no descriptors left, mostly) the next one waits so long.
const ACCEPT_RETRY: Duration = Duration::from_secs(1);
/// An idle mobile connection ends without a word: after 60 s of silence and 3 probes without an answer, 10 s apart, it
/// counts as lost.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(10), 3);

/// Who may call, and what it is called here.
#[derive(Clone, Debug)]
pub enum Callers {
    /// Everyone, by its id.
    Everyone,
    /// Those alone whose id stands here, by the name beside it.
    Named(BTreeMap<String, Arc<str>>),
}

/// What is asked of those that dial in on a link.
#[derive(Debug)]
pub struct Terms {
    /// The link's name in the configuration.
    pub link: Arc<str>,
    /// What the units send beside the protocol.
    pub rules: Arc<Rules>,
    /// Where they may call from; empty: from anywhere.
    pub allow: Vec<Network>,
    /// Who may call.
    pub callers: Callers,
}

/// A socket that waits for units to dial in.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
}

impl Terms {
    /// What `listen` of link `link` asks.
    #[must_use]
    pub fn new(link: Arc<str>, listen: &site::Listen) -> Terms {
        let rules = Rules::new(listen.registration.clone(), listen.heartbeat.clone(), listen.prefixed);
        let callers = listen.callers.clone().map_or(Callers::Everyone, Callers::Named);
        Terms { link, rules: Arc::new(rules), allow: listen.allow.clone(), callers }
    }
}

/// Listens at `address` until told to stop; tries again where the port cannot be had.
pub async fn run(
    address: SocketAddr,
    terms: Terms,
    buses: BTreeMap<Arc<str>, mpsc::Sender<Caller>>,
    counters: Arc<LinkCounters>,
    mut stop: watch::Receiver<bool>,
) {
    let mut is_failing = false;
    loop {
        match Listener::bind(&address.to_string()).await {
            Ok(listener) => return listener.serve(terms, buses, counters, stop).await,
            Err(error) if !is_failing => {
                warn!(link = %terms.link, %address, %error, "cannot listen: tried again every few seconds");
            }
            Err(_) => {}
        }
        is_failing = true;
        // both arms may be dropped at any time
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = sleep(BIND_RETRY) => {}
        }
    }
}

impl Listener {
    /// Listens at `address`, which is `host:port`.
    ///
    /// # Errors
    /// Where the address is not of this machine, or the port is in use or reserved.
    pub async fn bind(address: &str) -> io::Result<Listener> {
        Ok(Listener { socket: TcpListener::bind(address).await? })
    }

    /// Where it listens: the port that the system chose where 0 was asked for.
    ///
    /// # Errors
    /// Where the system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Hands every caller to the bus with its name, until told to stop.
    ///
    /// A bus that is gone, or slow, refuses its callers: they dial in again.
    pub async fn serve(
        self,
        terms: Terms,
        buses: BTreeMap<Arc<str>, mpsc::Sender<Caller>>,
        counters: Arc<LinkCounters>,
        mut stop: watch::Receiver<bool>,
    ) {
        let places = Arc::new(Semaphore::new(CALLERS_MAX));
        let mut desk = Desk { terms, buses, counters, places, named: Named::default() };
        let mut registering = JoinSet::new();
        let mut is_failing = false;
        loop {
            // all arms may be dropped at any time: accept and join_next are cancel-safe, a sleep has no effect
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                accepted = accept(&self.socket, is_failing) => {
                    if let (Err(error), false) = (&accepted, is_failing) {
                        warn!(link = %desk.terms.link, %error, "cannot take connections");
                    }
                    is_failing = accepted.is_err();
                    if let Some((stream, peer)) = accepted.ok().filter(|(_, peer)| desk.lets_in(*peer, registering.len())) {
                        registering.spawn(register(stream, peer, desk.terms.rules.clone()));
                    }
                }
                Some(ended) = registering.join_next() => match ended {
                    Ok(Ok(arrival)) => desk.hand_over(arrival),
                    Ok(Err(stranger)) => desk.refuse(&stranger),
                    Err(error) => warn!(link = %desk.terms.link, %error, "a registration has failed"),
                },
            }
        }
    }
}

/// Takes a connection; where the last attempt has failed, after a while.
async fn accept(socket: &TcpListener, is_failing: bool) -> io::Result<(TcpStream, SocketAddr)> {
    if is_failing {
        sleep(ACCEPT_RETRY).await;
    }
    socket.accept().await
}

/// A connection that has said who it is.
struct Arrival {
    peer: SocketAddr,
    stream: TcpStream,
    registered: Registered,
}

/// A connection that has not.
struct Stranger {
    peer: SocketAddr,
    why: String,
}

/// Hears who is calling.
async fn register(mut stream: TcpStream, peer: SocketAddr, rules: Arc<Rules>) -> Result<Arrival, Stranger> {
    let mut registering = Registering::new(rules, peer.ip().to_canonical());
    let refused = |why: String| Stranger { peer, why };
    prepare(&stream).map_err(|error| refused(error.to_string()))?;
    let deadline = clock::monotonic() + REGISTERING_TIME;
    let mut bytes = BytesMut::with_capacity(READ_MAX);
    let mut step = registering.handle_quiet();
    loop {
        match step {
            Step::More => {}
            Step::Registered(registered) => return Ok(Arrival { peer, stream, registered }),
            Step::Refused(refusal) => return Err(refused(refusal.to_string())),
        }
        let read = timeout(QUIET, stream.read_buf(&mut bytes));
        step = match timeout_at(deadline.into(), read).await {
            Ok(Ok(Ok(0))) => return Err(refused(format!("it hung up: {}", registering.refusal()))),
            Ok(Ok(Ok(_count))) => registering.handle_bytes(&bytes.split()),
            Ok(Ok(Err(error))) => return Err(refused(error.to_string())),
            Ok(Err(_quiet)) => registering.handle_quiet(),
            Err(_too_late) => return Err(refused(registering.refusal().to_string())),
        };
        bytes.reserve(READ_MAX);
    }
}

/// Small frames go out at once; a connection that is gone is noticed though nothing is sent.
pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (idle, interval, count) = KEEPALIVE;
    sockopt::set_tcp_keepidle(stream, idle)?;
    sockopt::set_tcp_keepintvl(stream, interval)?;
    sockopt::set_tcp_keepcnt(stream, count)?;
    Ok(sockopt::set_socket_keepalive(stream, true)?)
}

/// Decides who is let in and where it goes.
struct Desk {
    terms: Terms,
    buses: BTreeMap<Arc<str>, mpsc::Sender<Caller>>,
    counters: Arc<LinkCounters>,
    places: Arc<Semaphore>,
    named: Named,
}

impl Desk {
    /// Whether a connection from `peer` may say who it is, while so many others are at it.
    fn lets_in(&mut self, peer: SocketAddr, registering: usize) -> bool {
        let is_allowed =
            self.terms.allow.is_empty() || self.terms.allow.iter().any(|network| network.contains(peer.ip()));
        if !is_allowed {
            self.counters.callers_refused.add(1);
            if self.named.is_new_address(peer.ip()) {
                info!(link = %self.terms.link, %peer, "refused: its address is not in `allow`");
            }
            return false;
        }
        if registering >= REGISTERING_MAX {
            self.counters.callers_refused.add(1);
            debug!(link = %self.terms.link, %peer, "refused: too many are registering");
            return false;
        }
        true
    }

    fn refuse(&mut self, stranger: &Stranger) {
        self.counters.callers_refused.add(1);
        if self.named.is_new_address(stranger.peer.ip()) {
            warn!(link = %self.terms.link, peer = %stranger.peer, why = stranger.why, "refused: it did not register");
        }
    }

    fn hand_over(&mut self, arrival: Arrival) {
        let Arrival { peer, stream, registered: Registered { id, filter, early } } = arrival;
        let Some((name, bus)) = self.bus_of(&id) else {
            self.counters.callers_unknown.add(1);
            self.say_unknown(&id, peer);
            return;
        };
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            self.counters.callers_refused.add(1);
            debug!(link = %self.terms.link, %peer, id, "refused: {CALLERS_MAX} callers are connected");
            return;
        };
        let link = &self.terms.link;
        match bus.try_send(Caller::new(id, (stream, peer), (filter, early), place)) {
            Ok(()) => info!(%link, %peer, caller = %name, "dialled in"),
            Err(TrySendError::Full(caller) | TrySendError::Closed(caller)) => {
                self.counters.callers_refused.add(1);
                debug!(%link, %peer, id = caller.id, caller = %name, "refused: its bus does not take it");
            }
        }
    }

    /// The name that the caller with this id has here, and its bus.
    fn bus_of(&self, id: &str) -> Option<(&Arc<str>, &mpsc::Sender<Caller>)> {
        match &self.terms.callers {
            Callers::Everyone => self.buses.get_key_value(id),
            Callers::Named(names) => self.buses.get_key_value(names.get(id)?),
        }
    }

    fn say_unknown(&mut self, id: &str, peer: SocketAddr) {
        if !self.named.is_new_id(id) {
            return;
        }
        let link = &self.terms.link;
        match &self.terms.callers {
            Callers::Named(names) if !names.contains_key(id) => {
                warn!(%link, %peer, id, "refused: unknown caller; add it to `callers` if it is yours");
            }
            Callers::Named(_) | Callers::Everyone => {
                warn!(%link, %peer, id, "refused: no device is behind this caller; name it in a device's `caller`");
            }
        }
    }
}

/// Who has been named in the log: nobody is twice, and only so many are.
#[derive(Debug, Default)]
struct Named {
    ids: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
}

impl Named {
    fn is_new_id(&mut self, id: &str) -> bool {
        self.ids.len() < NAMED_MAX && self.ids.insert(id.to_owned())
    }

    fn is_new_address(&mut self, address: IpAddr) -> bool {
        self.addresses.len() < NAMED_MAX && self.addresses.insert(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_is_prepared_for_small_frames_and_for_an_end_without_a_word() {
        let listener = Listener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        prepare(&stream).unwrap();
        assert!(stream.nodelay().unwrap() && sockopt::socket_keepalive(&stream).unwrap());
        assert_eq!(
            sockopt::tcp_keepidle(&stream).unwrap() + 3 * sockopt::tcp_keepintvl(&stream).unwrap(),
            Duration::from_secs(90)
        );
        assert_eq!(sockopt::tcp_keepcnt(&stream).unwrap(), 3);
    }

    #[test]
    fn nobody_is_named_twice_and_only_so_many_are() {
        let mut named = Named::default();
        let is_new: Vec<bool> = (0..1000).map(|index| named.is_new_id(&(index / 2).to_string())).collect();
        assert!(is_new.iter().take(NAMED_MAX * 2).step_by(2).all(|is_new| *is_new));
        assert_eq!(is_new.iter().filter(|is_new| **is_new).count(), NAMED_MAX);
        assert!(named.is_new_address([127, 0, 0, 1].into()) && !named.is_new_address([127, 0, 0, 1].into()));
    }
}
