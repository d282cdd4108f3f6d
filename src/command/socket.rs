//! `control.sock`: a person at the machine asks the running gateway, one line of JSON each way.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::task::Asked;
use super::wording;
use crate::clock;
use crate::config::site::Site;
use crate::write::{Requester, WriteRequest};

/// Connections at a time; further ones wait.
const CONNECTIONS: usize = 8;
/// The longest request.
const LINE_MAX: u64 = 4096;
/// How long a request may take to come in.
const LINE_WAIT: Duration = Duration::from_secs(5);

/// Where the socket of a gateway with this state directory is.
#[must_use]
pub fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("control.sock")
}

/// Serves it until told to stop. Where it cannot be made, there are no commands from here: a warning, and no fault.
pub async fn run(site: Arc<Site>, requests: mpsc::Sender<Asked>, mut stop: watch::Receiver<bool>) {
    let path = path(&site.gateway.state_dir);
    let listener = match bind(&path) {
        Ok(listener) => listener,
        Err(error) => {
            warn!(socket = %path.display(), %error, "cannot be made: `tidegate write` cannot reach this gateway");
            stop.wait_for(|stop| *stop).await.ok(); // the gateway is gone
            return;
        }
    };
    let mut connections = JoinSet::new();
    loop {
        // every arm may be dropped at any time
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            Ok((stream, _)) = listener.accept(), if connections.len() < CONNECTIONS => {
                connections.spawn(serve(stream, site.clone(), requests.clone()));
            }
            Some(_ended) = connections.join_next() => {}
        }
    }
    fs::remove_file(&path).ok(); // the next start removes it as well
}

/// Nobody but the owner may connect, not even for a moment: it gets its name when it is closed to others.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let new = path.with_extension("sock~");
    fs::remove_file(&new).ok(); // mostly there is none
    let listener = UnixListener::bind(&new)?;
    fs::set_permissions(&new, Permissions::from_mode(0o600))?;
    fs::rename(&new, path)?;
    Ok(listener)
}

async fn serve(mut stream: UnixStream, site: Arc<Site>, requests: mpsc::Sender<Asked>) {
    let reply = match timeout(LINE_WAIT, line(&mut stream)).await {
        Ok(Ok(line)) => answer(&line, user(&stream), &site, &requests).await,
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no request came".to_owned()),
    };
    let reply = reply.unwrap_or_else(|error| json!({ "error": error }).to_string());
    if let Err(error) = stream.write_all(format!("{reply}\n").as_bytes()).await {
        debug!(%error, "whoever asked at control.sock is gone");
    }
}

/// The first line.
async fn line(stream: &mut UnixStream) -> io::Result<String> {
    let mut line = String::new();
    BufReader::new(stream.take(LINE_MAX)).read_line(&mut line).await?;
    if line.ends_with('\n') { Ok(line) } else { Err(io::Error::other("wanted one line of at most 4 KiB")) }
}

/// Who is at the other end.
fn user(stream: &UnixStream) -> String {
    stream.peer_cred().map_or_else(|_| "?".to_owned(), |peer| user_name(peer.uid()))
}

/// The name of a user, where there is one.
#[must_use]
pub fn user_name(uid: u32) -> String {
    let uid = uid.to_string();
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let is_it = |line: &&str| line.split(':').nth(2) == Some(&uid);
    let name = users.lines().find(is_it).and_then(|line| line.split(':').next());
    name.map_or_else(|| format!("uid {uid}"), str::to_owned)
}

async fn answer(
    line: &str,
    user: String,
    site: &Site,
    requests: &mpsc::Sender<Asked>,
) -> Result<String, String> {
    let asked: Json = serde_json::from_str(line).map_err(|error| format!("not JSON: {error}"))?;
    let request = write_request(&asked, user, site)?;
    let (reply, told) = oneshot::channel();
    requests.try_send(Asked { request, reply }).map_err(|_| "busy: too many commands wait".to_owned())?;
    let outcome = told.await.map_err(|_| "the gateway is ending".to_owned())?;
    Ok(wording::reply(&outcome))
}

/// `{"write": {"device": "oven3", "tag": "zone1/setpoint", "value": "250"}}`
fn write_request(asked: &Json, user: String, site: &Site) -> Result<WriteRequest, String> {
    let write = asked.get("write").ok_or("wanted {\"write\": {\"device\", \"tag\", \"value\"}}")?;
    let text =
        |key: &str| write.get(key).and_then(Json::as_str).ok_or_else(|| format!("`{key}` must be text"));
    local_request(site, text("device")?, text("tag")?, text("value")?, user)
}

/// What `user` wants: `value`, as typed, for the tag called `name` of the device called `device`.
///
/// # Errors
/// What the tag takes instead.
pub fn local_request(
    site: &Site,
    device: &str,
    name: &str,
    value: &str,
    user: String,
) -> Result<WriteRequest, String> {
    let found = site.devices.iter().find(|one| &*one.name == device);
    let tag = found.and_then(|device| site.tags_of(device).iter().find(|tag| &*tag.name == name));
    let value = tag.map(|tag| wording::parse_value(tag, value)).transpose()?;
    let now = clock::wall();
    Ok(WriteRequest {
        id: format!("local-{:016x}", fastrand::u64(..)),
        device: device.to_owned(),
        tag: name.to_owned(),
        tag_id: tag.map(|tag| tag.id),
        value,
        by: Requester::Local(user),
        sent_at: Some(now),
        received_at: now,
        session_since: now,
        is_retained: false,
    })
}
