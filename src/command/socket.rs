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
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::task::Asked;
use super::wording;
use crate::clock;
use crate::config::site::Site;
use crate::write::{Received, Requester, WriteRequest};

/// Connections at a time; further ones wait.
const CONNECTIONS: usize = 8;
/// The longest request.
const LINE_MAX: u64 = 4096;
/// How long a request may take to come in.
const LINE_WAIT: Duration = Duration::from_secs(5);

/// The pause after a connection that could not be taken.
const REFUSED_WAIT: Duration = Duration::from_millis(100);

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
            stream = accept(&listener), if connections.len() < CONNECTIONS => {
                connections.spawn(serve(stream, site.clone(), requests.clone()));
            }
            Some(_ended) = connections.join_next() => {}
        }
    }
    fs::remove_file(&path).ok(); // the next start removes it as well
}

/// The next connection, however long none can be taken. May be dropped and called again.
async fn accept(listener: &UnixListener) -> UnixStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => debug!(%error, "control.sock: nobody can be let in"),
        }
        sleep(REFUSED_WAIT).await; // no descriptor is free: one may be soon
    }
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
        Ok(Ok(line)) => answer(&line, &mut stream, &site, &requests).await,
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
    stream: &mut UnixStream,
    site: &Site,
    requests: &mpsc::Sender<Asked>,
) -> Result<String, String> {
    let asked: Json = serde_json::from_str(line).map_err(|error| format!("not JSON: {error}"))?;
    let request = write_request(&asked, user(stream), site)?;
    let (reply, told) = oneshot::channel();
    let received = Received { request, at: clock::monotonic() };
    requests.try_send(Asked { received, reply }).map_err(|error| match error {
        TrySendError::Full(_) => "busy: too many commands wait".to_owned(),
        TrySendError::Closed(_) => "the gateway is ending".to_owned(),
    })?;
    // both arms may be dropped: whoever asks says nothing more, and what nobody waits for is not begun
    let outcome = tokio::select! {
        outcome = told => outcome.map_err(|_| "the gateway is ending".to_owned())?,
        () = hung_up(stream) => return Err("whoever asked has gone".to_owned()),
    };
    Ok(wording::reply(&outcome))
}

/// Waits until the far end has hung up; what else it says is nothing.
async fn hung_up(stream: &mut UnixStream) {
    let mut bytes = [0; 64];
    while let Ok(1..) = stream.read(&mut bytes).await {}
}

/// What is asked at `control.sock`, by a program that has read the configuration with this fingerprint.
#[must_use]
pub fn question(fingerprint: u32, device: &str, tag: &str, value: &str) -> Json {
    json!({ "write": { "config": format!("{fingerprint:08x}"), "device": device, "tag": tag, "value": value } })
}

/// `{"write": {"config": "0a1b2c3d", "device": "oven3", "tag": "zone1/setpoint", "value": "250"}}`
fn write_request(asked: &Json, user: String, site: &Site) -> Result<WriteRequest, String> {
    let write =
        asked.get("write").ok_or("wanted {\"write\": {\"config\", \"device\", \"tag\", \"value\"}}")?;
    let text =
        |key: &str| write.get(key).and_then(Json::as_str).ok_or_else(|| format!("`{key}` must be text"));
    if text("config")? != format!("{:08x}", site.fingerprint) {
        return Err("the running gateway has another configuration: kill -HUP it first".to_owned());
    }
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
