//! Wires the tasks of a gateway; starts them, restarts a bus that has failed, and stops them in order.
//!
//! The buses are stopped; each stage behind them ends because its input has closed; the uplinks say farewell.

mod once;

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tracing::{error, info, warn};

use crate::clock;
use crate::command::{self, task::Asked};
use crate::config::site::{Channel, ClockTrust, Endpoint, Site};
use crate::counters::Counters;
use crate::link::Link;
use crate::link::caller::Arrivals;
use crate::link::listen::{self, Terms, WAITING_MAX};
use crate::normalize;
use crate::normalize::task::Order;
use crate::poll::lane::Lane;
use crate::poll::memory::{self, Memory};
use crate::poll::task::{Ports, Task};
use crate::queue;
use crate::reading::Quality;
use crate::scan::{Part, Polled, Scan};
use crate::tag::DeviceId;
use crate::uplink;
use crate::uplink::commands::Commands;
use crate::write::{Outcome, Received};
pub use once::write_once;

/// Scans that wait to be normalised; a full channel holds the buses back, which counts as overruns.
const SCANS: usize = 256;
/// Updates that wait for the store; it takes them at once.
const UPDATES: usize = 256;
/// Orders that wait for a bus; whoever has one more is told that it is busy.
const ORDERS: usize = 4;
/// How long everything may take to end.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// How long a bus that has failed is left alone.
const RESTART_WAIT: Duration = Duration::from_secs(5);

/// Why a gateway ended otherwise than cleanly.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// Two gateways must not share a state directory.
    #[error("{0} is locked: another tidegate uses this state_dir")]
    Locked(PathBuf),
    /// The system has no thread to give.
    #[error("no thread for the store")]
    Store(#[source] io::Error),
    /// Whether a gateway runs cannot be told, and nothing could be recorded.
    #[error("{0} cannot be written: run it as the user of the gateway")]
    Unwritable(PathBuf),
    /// Whether a gateway runs cannot be told.
    #[error(
        "{0} is on a file system without locks: whether a gateway runs cannot be told; have the running one write it"
    )]
    Unlockable(PathBuf),
    /// Its devices are there when they dial in.
    #[error("device `{0}` is on a link that listens: only a running gateway reaches it")]
    Listening(Arc<str>),
    /// A task has failed: nothing of the kind may happen.
    #[error("the task {0} has failed")]
    Failed(String),
    /// The end took too long.
    #[error("did not end within {} s", STOP_DEADLINE.as_secs())]
    Deadline,
}

/// Counters for what a gateway with this site does.
#[must_use]
pub fn counters(site: &Site) -> Arc<Counters> {
    Arc::new(Counters::new(site.links.len(), site.devices.iter().map(|device| site.rates(device))))
}

/// Runs `site` until `stop` is ready, then ends cleanly and gives what that gave. What happens is counted in `counters`; who
/// may ask for it to be reloaded notifies `reload`.
///
/// # Errors
/// Where the state directory is in use, a task fails, or the end takes too long.
pub async fn run<T>(
    site: Arc<Site>,
    counters: Arc<Counters>,
    reload: Arc<Notify>,
    stop: impl Future<Output = T>,
) -> Result<T, GatewayError> {
    let _lock = lock(&site.gateway.state_dir)?;
    info!(name = %site.gateway.name, devices = site.devices.len(), tags = site.tags.len(), "starting");
    doubt_clock(site.gateway.clock);
    let mut tasks = Tasks::start(site, counters, &reload)?;
    tokio::pin!(stop);
    let told = loop {
        // join_next is cancel-safe
        tokio::select! {
            told = &mut stop => break told,
            ended = tasks.set.join_next_with_id() => tasks.handle_end(ended)?,
        }
    };
    info!("stopping");
    tasks.end().await.map(|()| told)
}

/// Readings get their wall time later where the system clock is not to be trusted yet.
fn doubt_clock(trust: ClockTrust) {
    if trust == ClockTrust::System {
        clock::trust();
    } else if let Some(reason) = clock::doubt() {
        warn!(%reason, "readings get their time when a time server has set the system clock; where it is right all the same: `clock = \"system\"` in [gateway]");
    }
}

/// Who has the state directory.
#[derive(Debug)]
enum Lock {
    /// This program, for as long as the file is open.
    Held(File),
    /// The file system has no locks: this program, or another one.
    Unknown,
    /// It cannot be written.
    Unwritable,
}

impl Lock {
    /// What a lock that was asked for is worth.
    fn of(file: File, path: &Path, locked: rustix::io::Result<()>) -> Result<Lock, GatewayError> {
        match locked {
            Ok(()) => Ok(Lock::Held(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(GatewayError::Locked(path.to_owned())),
            Err(_) => Ok(Lock::Unknown),
        }
    }
}

/// Holds the state directory, where that is possible; else a gateway runs all the same, with a warning.
fn lock(state_dir: &Path) -> Result<Lock, GatewayError> {
    let path = state_dir.join("lock");
    let open = || -> io::Result<File> {
        fs::create_dir_all(state_dir)?;
        File::create(&path)
    };
    match open() {
        Ok(file) => {
            let locked = flock(&file, FlockOperation::NonBlockingLockExclusive);
            Lock::of(file, &path, locked)
        }
        Err(error) => {
            warn!(state_dir = %state_dir.display(), %error, "state_dir cannot be written: nothing is kept over a restart");
            Ok(Lock::Unwritable)
        }
    }
}

/// The running tasks.
struct Tasks {
    site: Arc<Site>,
    counters: Arc<Counters>,
    set: JoinSet<()>,
    names: HashMap<Id, Name>,
    channels: Vec<Channel>,
    /// For each channel whose unit dials in: its connections.
    arrivals: HashMap<usize, Arrivals>,
    memory: Memory,
    polled: mpsc::Sender<Polled>,
    /// Where orders for each device go.
    lanes: watch::Sender<BTreeMap<DeviceId, Lane>>,
    stop: watch::Sender<bool>,
}

/// What a task is.
#[derive(Clone, Debug)]
enum Name {
    Bus(usize),
    Listener(usize),
    Keeper,
    Normalize,
    Store,
    Uplink(Arc<str>),
    Command,
    Socket,
}

impl Tasks {
    fn start(site: Arc<Site>, counters: Arc<Counters>, reload: &Arc<Notify>) -> Result<Tasks, GatewayError> {
        let (store, outlets) = queue::task::open(&site, &counters.store).map_err(GatewayError::Store)?;
        let (polled, scans) = mpsc::channel(SCANS);
        let (stop, _) = watch::channel(false);
        let (memory, keeper) = memory::open(&site);
        let channels = (0..site.links.len()).flat_map(|link| site.channels(link)).collect();
        let (set, names) = (JoinSet::new(), HashMap::new());
        let (arrivals, (lanes, _)) = (HashMap::new(), watch::channel(BTreeMap::new()));
        let mut tasks = Tasks { site, counters, set, names, channels, arrivals, memory, polled, lanes, stop };
        let site = tasks.site.clone();
        tasks.spawn(Name::Keeper, keeper.run());
        let (ordering, orders) = mpsc::channel(normalize::task::ORDERS);
        let (planning, plans) = mpsc::channel(normalize::task::PLANS);
        let (requests, outcomes) = tasks.start_commands(ordering);
        for (uplink, outlet) in site.uplinks.iter().zip(outlets) {
            let ports = uplink::task::Ports {
                outlet,
                commands: Commands::new(requests.clone(), outcomes.subscribe()),
                plans: planning.clone(),
                counters: tasks.counters.clone(),
                reload: reload.clone(),
            };
            let task = uplink::task::Task::new(&site, uplink.clone(), ports);
            tasks.spawn(Name::Uplink(uplink.name.clone()), task.run());
        }
        let (storing, updates) = mpsc::channel(UPDATES);
        tasks.spawn(Name::Store, store.run(updates));
        let ports = normalize::task::Ports { polled: scans, orders, plans, store: storing };
        tasks.spawn(Name::Normalize, normalize::task::run(site.clone(), ports));
        for link in 0..site.links.len() {
            tasks.start_listener(link);
        }
        for channel in 0..tasks.channels.len() {
            tasks.start_bus(channel, None);
        }
        Ok(tasks)
    }

    fn spawn(&mut self, name: Name, task: impl Future<Output = ()> + Send + 'static) {
        let id = self.set.spawn(task).id();
        self.names.insert(id, name);
    }

    /// Starts the task that has things written, and what lets people ask it; where requests of the uplinks go, and
    /// where outcomes come from. What is to be done with alarms goes to `alarms`.
    fn start_commands(
        &mut self,
        alarms: mpsc::Sender<Order>,
    ) -> (mpsc::Sender<Received>, broadcast::Sender<Arc<Outcome>>) {
        let (requests, from_uplinks) = mpsc::channel(command::task::REQUESTS);
        let (asking, outcomes) = self.start_command_task(from_uplinks, Some(alarms));
        let socket = command::socket::run(self.site.clone(), asking, self.stop.subscribe());
        self.spawn(Name::Socket, socket);
        (requests, outcomes)
    }

    /// Starts the task that has things written; where people's requests go, and where outcomes come from.
    fn start_command_task(
        &mut self,
        from_uplinks: mpsc::Receiver<Received>,
        alarms: Option<mpsc::Sender<Order>>,
    ) -> (mpsc::Sender<Asked>, broadcast::Sender<Arc<Outcome>>) {
        let (asking, from_here) = mpsc::channel(command::task::REQUESTS);
        let (outcomes, _) = broadcast::channel(command::task::OUTCOMES);
        let lanes = self.lanes.subscribe();
        let ports =
            command::task::Ports { from_uplinks, from_here, lanes, alarms, outcomes: outcomes.clone() };
        let task = command::task::Task::new(&self.site, ports);
        self.spawn(Name::Command, task.run(self.stop.subscribe()));
        (asking, outcomes)
    }

    /// Starts what lets units dial in on a listening link.
    fn start_listener(&mut self, index: usize) {
        let Some(link) = self.site.links.get(index) else { return };
        let Endpoint::Listen(listen) = &link.endpoint else { return };
        let (address, terms) = (listen.address, Terms::new(link.name.clone(), listen));
        let mut buses = BTreeMap::new();
        for (channel, of_channel) in
            self.channels.iter().enumerate().filter(|(_, channel)| channel.link == index)
        {
            let (sender, receiver) = mpsc::channel(WAITING_MAX);
            buses.extend(of_channel.caller.clone().map(|caller| (caller, sender)));
            self.arrivals.insert(channel, Arrivals::new(receiver));
        }
        let counters = self.counters.links.get(index).cloned().unwrap_or_default();
        let task = listen::run(address, terms, buses, counters, self.stop.subscribe());
        self.spawn(Name::Listener(index), task);
    }

    /// Starts the bus of a channel; after a failure its tags are bad, and it is left alone for a while.
    fn start_bus(&mut self, index: usize, after: Option<Duration>) {
        let Some(channel) = self.channels.get(index).cloned() else { return };
        let Some(link) = self.site.links.get(channel.link) else { return };
        let link = match self.arrivals.get(&index) {
            Some(arrivals) => Link::dialled(link, arrivals.clone()),
            None => Link::new(link),
        };
        let (sender, orders) = mpsc::channel(ORDERS);
        let lane = Lane { bus: index, orders: sender };
        self.lanes.send_modify(|lanes| lanes.extend(channel.devices.iter().map(|id| (*id, lane.clone()))));
        let ports = Ports {
            out: self.polled.clone(),
            orders,
            memory: self.memory.clone(),
            counters: self.counters.clone(),
        };
        let Some(bus) = Task::new(&self.site, &channel, link, ports) else { return };
        let (mut stop, polled, site) = (self.stop.subscribe(), self.polled.clone(), self.site.clone());
        self.spawn(Name::Bus(index), async move {
            if let Some(wait) = after {
                for bad in all_bad(&site, &channel) {
                    polled.send(bad).await.ok(); // closed: the gateway is ending
                }
                // both arms may be dropped at any time
                tokio::select! {
                    _ = stop.wait_for(|stop| *stop) => return,
                    () = tokio::time::sleep(wait) => {}
                }
            }
            drop(polled);
            bus.run(stop).await;
        });
    }

    /// A task that ends unasked is news: a bus is started again, anything else ends the gateway.
    fn handle_end(&mut self, ended: Option<Result<(Id, ()), JoinError>>) -> Result<(), GatewayError> {
        let id = match &ended {
            Some(Ok((id, ()))) => *id,
            Some(Err(error)) => error.id(),
            None => return Err(GatewayError::Failed("all".to_owned())),
        };
        match self.names.remove(&id) {
            Some(Name::Bus(index)) => {
                error!(bus = index, ?ended, "a bus has failed: it is started again");
                self.start_bus(index, Some(RESTART_WAIT));
                Ok(())
            }
            other => Err(GatewayError::Failed(said(other))),
        }
    }

    async fn end(mut self) -> Result<(), GatewayError> {
        self.stop.send(true).ok(); // no bus left: nothing to stop
        drop((self.polled, self.memory));
        let all_ended = async {
            let mut result = Ok(());
            while let Some(ended) = self.set.join_next_with_id().await {
                if let Err(error) = ended {
                    let name = self.names.remove(&error.id());
                    result = Err(GatewayError::Failed(said(name)));
                }
            }
            result
        };
        tokio::time::timeout(STOP_DEADLINE, all_ended).await.unwrap_or(Err(GatewayError::Deadline))
    }
}

fn said(name: Option<Name>) -> String {
    match name {
        Some(Name::Bus(index)) => format!("of bus {index}"),
        Some(Name::Listener(link)) => format!("that listens for link {link}"),
        Some(Name::Keeper) => "that keeps learned.toml".to_owned(),
        Some(Name::Normalize) => "that normalises".to_owned(),
        Some(Name::Store) => "that stores".to_owned(),
        Some(Name::Uplink(name)) => format!("of uplink {name}"),
        Some(Name::Command) => "that has things written".to_owned(),
        Some(Name::Socket) => "of control.sock".to_owned(),
        None => "without a name".to_owned(),
    }
}

/// No tag of a channel has a value any more, and its devices are gone.
fn all_bad(site: &Site, channel: &Channel) -> Vec<Polled> {
    let tags = site.tags.iter().filter(|tag| channel.devices.contains(&tag.device));
    let parts = tags.map(|tag| Part { tag: tag.id, offset: 0 }).collect();
    let at = clock::stamp();
    let bad = Polled::Scan(Scan { parts, result: Err(Quality::BadNotConnected), at });
    std::iter::once(bad).chain(channel.devices.iter().map(|id| Polled::DeviceDown(*id, at))).collect()
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn only_a_lock_that_was_granted_counts_as_held() {
        let of = |locked| Lock::of(tempfile::tempfile().unwrap(), Path::new("lock"), locked);
        assert!(matches!(of(Ok(())), Ok(Lock::Held(_))));
        assert!(matches!(of(Err(Errno::WOULDBLOCK)), Err(GatewayError::Locked(_))));
        assert!(matches!(of(Err(Errno::NOLCK)), Ok(Lock::Unknown)));
        assert!(matches!(of(Err(Errno::NOTSUP)), Ok(Lock::Unknown)));
    }
}
