//! `tidegate write`: has one value written by the running gateway, by its rules, and says what became of it. Where none
//! runs, this program does it, by the same rules.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use serde_json::Value as Json;

use super::{FAULT, USAGE, block_on, check, complain, say};
use crate::command::encode::encode_as;
use crate::command::{socket, wording};
use crate::config::site::{Device, Site, Tag};
use crate::config::{self, Checked, finding};
use crate::gateway;
use crate::scan::Data;

/// The longest wait for an outcome: a slow line, and a device that does not answer.
const PATIENCE: Duration = Duration::from_secs(120);
/// The longest answer.
const ANSWER_MAX: u64 = 64 << 10;

/// What is to be written.
#[derive(Debug, Args)]
pub(super) struct Wanted {
    /// `DEVICE:TAG`, or a link.
    #[arg(value_name = "DEVICE:TAG | LINK")]
    target: String,
    /// The value; behind a link, where it goes and the value.
    #[arg(value_name = "[ADDRESS] VALUE", num_args = 1..=2, required = true, allow_negative_numbers = true)]
    words: Vec<String>,
    /// With a link: the unit.
    #[arg(long, default_value_t = 1)]
    unit: u8,
    /// With a link: the type, which must be the tag's.
    #[arg(long = "type", value_name = "TYPE")]
    data_type: Option<String>,
    /// The configuration of the gateway: a file, or a folder of *.toml.
    #[arg(long, value_name = "PATH", default_value = "/etc/tidegate/gateway.toml")]
    config: PathBuf,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

pub(super) fn write(wanted: &Wanted) -> ExitCode {
    let Checked { sources, site } = config::load(&wanted.config);
    let mut site = match site {
        Ok(site) => site,
        Err(findings) => {
            std::io::stderr().write_all(finding::render_text(&findings, &sources).as_bytes()).ok(); // nobody left to tell
            complain(&format!("{}: nothing was written", check::count(findings.len())));
            return ExitCode::from(USAGE);
        }
    };
    if let Some(state_dir) = std::env::var_os("STATE_DIRECTORY") {
        site.gateway.state_dir = state_dir.into();
    }
    match have_written(&Arc::new(site), wanted) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAULT),
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::from(FAULT)
        }
    }
}

/// Whether it was done.
fn have_written(site: &Arc<Site>, wanted: &Wanted) -> anyhow::Result<bool> {
    let (device, tag, value) = match wanted.words.as_slice() {
        [value] => {
            let (device, tag) = named(site, &wanted.target)?;
            (device, tag, value)
        }
        [address, value] => {
            let (device, tag) = at(site, wanted, address)?;
            (device, tag, value)
        }
        _ => bail!("wanted DEVICE:TAG VALUE, or LINK --unit N ADDRESS VALUE"),
    };
    let typed = wording::parse_value(tag, value).map_err(|why| anyhow!(why))?;
    let raw = tag.write.as_ref().and_then(|policy| encode_as(policy, &typed).ok());
    let raw = raw.map(|data| shown(&data)).unwrap_or_default();
    let place = tag.layout().map(|layout| format!(" ({}{raw})", layout.place())).unwrap_or_default();
    let unit = tag.unit.map(|unit| format!(" {}", unit.written)).unwrap_or_default();
    let question = format!("write {typed}{unit} to {} {}{place}? [y/N] ", device.name, tag.name);
    if !wanted.yes && !is_wanted(&question) {
        say("not written\n");
        return Ok(false);
    }
    let reply = match UnixStream::connect(socket::path(&site.gateway.state_dir)) {
        Ok(stream) => ask(stream, &socket::question(site.fingerprint, &device.name, &tag.name, value))?,
        Err(_) => write_here(site, &device.name, &tag.name, value)?,
    };
    let word = |key: &str| reply.get(key).and_then(Json::as_str);
    if let Some(error) = word("error") {
        bail!("{error}");
    }
    let (result, reason) = (word("result").unwrap_or("?"), word("reason").unwrap_or_default());
    say(&if reason.is_empty() { format!("{result}\n") } else { format!("{result}: {reason}\n") });
    Ok(result == "done")
}

fn named<'a>(site: &'a Site, target: &str) -> anyhow::Result<(&'a Device, &'a Tag)> {
    let Some((device, tag)) = target.split_once(':') else { bail!("wanted DEVICE:TAG, got \"{target}\"") };
    let found = site.devices.iter().find(|known| *known.name == *device);
    let found = found.with_context(|| format!("there is no device `{device}`"))?;
    let tag = site.tags_of(found).iter().find(|known| *known.name == *tag);
    Ok((found, tag.with_context(|| format!("device `{device}` has no tag `{}`", target_tag(target)))?))
}

fn target_tag(target: &str) -> &str {
    target.split_once(':').map_or("", |(_, tag)| tag)
}

/// The tag of a link's unit that lies at `address`.
fn at<'a>(site: &'a Site, wanted: &Wanted, address: &str) -> anyhow::Result<(&'a Device, &'a Tag)> {
    let name = &wanted.target;
    let link = site.links.iter().position(|link| *link.name == **name);
    let link = link.with_context(|| format!("there is no link `{name}`"))?;
    let units = site.devices.iter().filter(|device| device.link == link && device.unit.0 == wanted.unit);
    let is_it = |tag: &&Tag| tag.write.as_ref().is_some_and(|policy| policy.layout.place() == address);
    let found =
        units.flat_map(|device| site.tags_of(device).iter().filter(is_it).map(move |tag| (device, tag)));
    let mut found = found.collect::<Vec<_>>().into_iter();
    let Some((device, tag)) = found.next() else {
        bail!(
            "unit {} of link `{name}` has no tag with `write` at {address}: only those are written",
            wanted.unit
        )
    };
    if found.next().is_some() {
        bail!("several tags of link `{name}` lie at {address}: write DEVICE:TAG");
    }
    let is = tag.layout().map_or("", |layout| layout.data_type.name());
    if let Some(wanted) = wanted.data_type.as_deref().filter(|wanted| *wanted != is) {
        bail!("tag `{}` at {address} is a {is}, not a {wanted}", tag.name);
    }
    Ok((device, tag))
}

fn shown(data: &Data) -> String {
    match data {
        Data::Bits(_) | Data::Values(_) => String::new(),
        Data::Words(words) => {
            let words: Vec<String> = words.iter().map(|word| format!("{word:04X}")).collect();
            format!(", registers {}", words.join(" "))
        }
    }
}

/// Whether the person says yes; nobody there says no.
fn is_wanted(question: &str) -> bool {
    say(question);
    let mut answer = String::new();
    let is_read = std::io::stdin().lock().read_line(&mut answer).is_ok();
    is_read && ["y", "yes"].contains(&answer.trim().to_lowercase().as_str())
}

/// One line to the gateway and one back.
fn ask(mut stream: UnixStream, request: &Json) -> anyhow::Result<Json> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{request}\n").as_bytes())?;
    let mut line = String::new();
    let read = BufReader::new(stream.take(ANSWER_MAX)).read_line(&mut line);
    read.context("no answer from the gateway: whether it was written is in its audit.log")?;
    serde_json::from_str(&line).context("the gateway has ended: whether it was written is in its audit.log")
}

/// No gateway runs: this program writes it, by the same rules and with the same record.
fn write_here(site: &Arc<Site>, device: &str, tag: &str, value: &str) -> anyhow::Result<Json> {
    say("no gateway is running: writing without one\n");
    let user = socket::user_name(rustix::process::getuid().as_raw());
    let request = socket::local_request(site, device, tag, value, user).map_err(|why| anyhow!(why))?;
    let outcome =
        block_on(async { gateway::write_once(site.clone(), request).await.context("not written") })?;
    Ok(serde_json::from_str(&wording::reply(&outcome))?)
}
