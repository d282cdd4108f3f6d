//! One value is written while no gateway runs: by the same rules, over the buses that it takes, and nothing else runs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tracing::warn;

use super::{GatewayError, Lock, Name, SCANS, Tasks, counters, lock};
use crate::clock;
use crate::command::task::Asked;
use crate::config::site::{Endpoint, Readback, Site};
use crate::poll::memory;
use crate::tag::{DeviceId, TagId};
use crate::write::{Outcome, Received, WriteRequest};

/// Has `request` written where no gateway of this state directory runs.
///
/// # Errors
/// Where one runs, or that cannot be told; where the device is only reached when it dials in; where a task fails.
pub async fn write_once(site: Arc<Site>, request: WriteRequest) -> Result<Arc<Outcome>, GatewayError> {
    let state_dir = &site.gateway.state_dir;
    let _lock = match lock(state_dir)? {
        Lock::Held(lock) => lock,
        Lock::Unknown => return Err(GatewayError::Unlockable(state_dir.clone())),
        Lock::Unwritable => return Err(GatewayError::Unwritable(state_dir.clone())),
    };
    let (polled, mut scans) = mpsc::channel(SCANS);
    let mut tasks = bare(&site, polled);
    let (_no_uplink, from_uplinks) = mpsc::channel(1);
    let (asking, _outcomes) = tasks.start_command_task(from_uplinks);
    let devices = devices_of(&site, request.tag_id);
    for index in 0..tasks.channels.len() {
        let Some(channel) = tasks.channels.get(index) else { continue };
        let Some(first) = channel.devices.iter().find(|device| devices.contains(device)) else { continue };
        let listens = |link: usize| {
            site.links.get(link).is_some_and(|link| matches!(link.endpoint, Endpoint::Listen(_)))
        };
        if listens(channel.link) {
            let name = site.devices.get(first.index()).map(|device| device.name.clone());
            return Err(GatewayError::Listening(name.unwrap_or_default()));
        }
        tasks.start_bus(index, None);
    }
    let (reply, told) = oneshot::channel();
    let received = Received { request, at: clock::monotonic() };
    let asked = asking.send(Asked { received, reply });
    let nobody_reads = async { while scans.recv().await.is_some() {} };
    // both arms may be dropped: what is read besides is of no use here
    let outcome = tokio::select! {
        outcome = async { asked.await.ok()?; told.await.ok() } => outcome,
        () = nobody_reads => None,
    };
    drop(scans);
    if let Err(error) = tasks.end().await {
        warn!(%error, "after the command"); // what became of it counts
    }
    outcome.ok_or_else(|| GatewayError::Failed("that has things written".to_owned()))
}

/// No task but the keeper of what devices refuse.
fn bare(site: &Arc<Site>, polled: mpsc::Sender<crate::scan::Polled>) -> Tasks {
    let (memory, keeper) = memory::open(site);
    let channels = (0..site.links.len()).flat_map(|link| site.channels(link)).collect();
    let (lanes, stop) = (watch::channel(BTreeMap::new()).0, watch::channel(false).0);
    let (set, names, arrivals) = (JoinSet::new(), HashMap::new(), HashMap::new());
    let (site, counters) = (site.clone(), counters(site));
    let mut tasks = Tasks { site, counters, set, names, channels, arrivals, memory, polled, lanes, stop };
    tasks.spawn(Name::Keeper, keeper.run());
    tasks
}

/// Whose registers are read or written for a write to `tag`.
fn devices_of(site: &Site, tag: Option<TagId>) -> BTreeSet<DeviceId> {
    let tag_of = |id: TagId| site.tags.get(id.index());
    let Some(tag) = tag.and_then(tag_of) else { return BTreeSet::new() };
    let policy = tag.write.as_ref();
    let interlock = policy.and_then(|policy| policy.interlock.as_ref());
    let interlock = interlock.into_iter().flat_map(|interlock| &interlock.reads).filter_map(|id| tag_of(*id));
    let readback = policy.and_then(|policy| match policy.readback {
        Readback::Tag(id) => tag_of(id),
        Readback::Answer | Readback::Own => None,
    });
    interlock.chain(readback).chain([tag]).map(|tag| tag.device).collect()
}
