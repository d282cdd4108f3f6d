//! `tidegate simulate`: every device of a configuration, served where a gateway looks for it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tokio::task::JoinSet;

use super::faults::{self, Tally};
use super::{FAULT, USAGE, block_on, check, complain, say, stop_signal};
use crate::clock;
use crate::config::site::Site;
use crate::config::{self, Checked, finding};
use crate::sim::floor::{Floor, Made, floor_of};
use crate::sim::serve::Shared;
use crate::sim::serve::site::{End, Place, Wishes, serve_site};

/// How often what was served is counted and forgotten.
const COUNTED: Duration = Duration::from_secs(5);

/// What a person has typed.
#[derive(Debug, Args)]
pub(super) struct Wanted {
    /// The configuration: a file, or a folder of *.toml.
    path: PathBuf,
    /// End after so many seconds; without it, run until Ctrl-C.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: Option<u32>,
    /// Let the devices misbehave: late, doubled, broken and foreign replies, noise, hang-ups.
    #[arg(long)]
    faults: bool,
    /// A folder for a link to each pseudo-terminal, by the name of its line.
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Where the gateway listens for the units of a link, if not here at the port of the configuration.
    #[arg(long, value_name = "LINK=HOST:PORT", value_parser = pair::<SocketAddr>)]
    dial: Vec<(String, SocketAddr)>,
    /// What the units of a link say first; {id} in it is the id of each.
    #[arg(long, value_name = "LINK=TEXT", value_parser = pair::<String>)]
    registration: Vec<(String, String)>,
}

/// `NAME=VALUE`
fn pair<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<(String, T), String> {
    let (name, value) = text.split_once('=').ok_or("wanted LINK=…")?;
    Ok((name.to_owned(), value.parse().map_err(|error: T::Err| error.to_string())?))
}

pub(super) fn simulate(wanted: &Wanted) -> ExitCode {
    let Checked { sources, site } = config::load(&wanted.path);
    let site = match site {
        Ok(site) => site,
        Err(findings) => {
            say(&finding::render_text(&findings, &sources));
            complain(&check::count(findings.len()));
            return ExitCode::from(USAGE);
        }
    };
    let names =
        wanted.dial.iter().map(|(name, _)| name).chain(wanted.registration.iter().map(|(name, _)| name));
    if let Some(name) = names.into_iter().find(|name| site.links.iter().all(|link| *link.name != ***name)) {
        complain(&format!("there is no link `{name}`"));
        return ExitCode::from(USAGE);
    }
    match block_on(serve(&site, wanted)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::from(FAULT)
        }
    }
}

async fn serve(site: &Site, wanted: &Wanted) -> anyhow::Result<()> {
    let made = floor_of(site, clock::wall());
    let (summary, untold) = (summary(&made), made.untold.clone());
    let floor = Shared::new(made.into_floor());
    let wishes = Wishes {
        gateways: wanted.dial.iter().cloned().collect(),
        registrations: wanted.registration.iter().cloned().collect(),
    };
    let mut tasks = JoinSet::new();
    let (mut ends, unserved) = serve_site(site, &floor, &wishes, &mut tasks).await?;
    for of in &unserved {
        complain(&format!("link `{}` is not served: {}", of.link, of.why));
    }
    for of in &untold {
        complain(&format!("`{}` is not told: {}", of.tag, of.why));
    }
    anyhow::ensure!(!ends.is_empty(), "there is nothing to serve");
    let _links = wanted.folder.as_deref().map(|folder| Links::make(folder, &mut ends)).transpose()?;
    if wanted.faults {
        for end in &ends {
            faults::set(end);
        }
    }
    say(&format!("{}{summary}; Ctrl-C ends it\n{}", places(&ends), variables(&ends)));
    let values = wait(&floor, wanted.seconds).await?;
    let mut tally = Tally::default();
    ends.iter().for_each(|end| tally.add(&end.far.injected()));
    let faults = if wanted.faults { format!(", faults: {tally}") } else { String::new() };
    say(&format!("{values} values served{faults}\n"));
    Ok(())
}

/// How much there is, in a line.
fn summary(made: &Made) -> String {
    let points: usize = made.devices.iter().map(|device| device.points.len()).sum();
    let items: usize =
        made.meters.iter().map(|meter| meter.items.iter().filter(|item| item.is_told).count()).sum();
    let tags = points + items + made.instruments.iter().map(|instrument| instrument.tags()).sum::<usize>();
    let devices = made.devices.len() + made.meters.len() + made.instruments.len();
    format!("{devices} devices, {tags} tags")
}

/// Where each far end is, a line each.
fn places(ends: &[End]) -> String {
    let line = |end: &End| match &end.place {
        Place::Tcp { address, .. } => format!("{}: listens at {address}\n", end.link),
        Place::Line(path) => format!("{}: {}\n", end.link, path.display()),
        Place::Dials { caller, gateway, registration } => {
            format!("{}: {caller} dials {gateway} as \"{}\"\n", end.link, registration.escape_ascii())
        }
    };
    ends.iter().map(line).collect()
}

/// What the environment of a gateway has to say so that it finds them.
fn variables(ends: &[End]) -> String {
    let all: BTreeMap<String, String> = ends.iter().filter_map(End::variable).collect();
    if all.is_empty() {
        return "a gateway with this configuration finds them as it is\n".to_owned();
    }
    let lines: String = all.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    format!("a gateway with this configuration finds them by its environment:\n{lines}")
}

/// Counts the values that are served until the time is over or somebody stops it.
async fn wait(floor: &Shared, seconds: Option<u32>) -> anyhow::Result<usize> {
    let stop = stop_signal()?;
    tokio::pin!(stop);
    let end = clock::monotonic() + Duration::from_secs(seconds.unwrap_or(u32::MAX).into());
    let mut pause = tokio::time::interval(COUNTED);
    let mut count = 0;
    let mut take = || count += floor.with(Floor::take_log).values().map(Vec::len).sum::<usize>();
    loop {
        // every arm may be dropped at any time
        tokio::select! {
            () = &mut stop => break,
            () = tokio::time::sleep_until(end.into()) => break,
            _ = pause.tick() => take(),
        }
    }
    take();
    Ok(count)
}

/// Links to pseudo-terminals, gone when the simulation ends.
struct Links(Vec<PathBuf>);

impl Links {
    /// Makes a link for each line of `ends`, which is where it is then. What an earlier run has left is replaced, anything
    /// else is not.
    fn make(folder: &Path, ends: &mut [End]) -> anyhow::Result<Links> {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let folder = std::path::absolute(folder)?;
        let mut links = Links(Vec::new());
        for end in ends {
            let Place::Line(path) = &mut end.place else { continue };
            let link = folder.join(&*end.link);
            if link.is_symlink() {
                std::fs::remove_file(&link).with_context(|| link.display().to_string())?;
            }
            std::os::unix::fs::symlink(&*path, &link).with_context(|| link.display().to_string())?;
            links.0.push(link.clone());
            *path = link;
        }
        Ok(links)
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        for link in &self.0 {
            std::fs::remove_file(link).ok(); // a link that leads nowhere is replaced by the next run
        }
    }
}
