//! `tidegate demo`: a shop floor, a broker, the gateway between them, and what a consumer at the broker sees.

mod compare;
mod view;

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::faults::{self, Tally};
use super::{FAULT, USAGE, block_on, check, complain, quality, say, start_logging, stop_signal};
use crate::clock;
use crate::config::site::{Broker as BrokerAddress, Carrier, Device, Endpoint, Site};
use crate::config::{self, Checked, finding};
use crate::gateway;
use crate::sim::broker::Broker;
use crate::sim::floor::{Floor, demo_floor, demo_instruments, demo_meters};
use crate::sim::serve::Shared;
use crate::sim::serve::site::{End, Wishes, serve_site};
use compare::{Comparison, OfMarks};
use view::View;

/// The configuration of the demo.
const CONFIG: &str = include_str!("../../configs/demo.toml");
/// How often the table is drawn on a terminal.
const REDRAW: Duration = Duration::from_millis(500);
/// How often it is printed where standard output is no terminal.
const REPRINT: Duration = Duration::from_secs(5);
/// How long the last messages may take to come back from the broker.
const LAST_MESSAGES: Duration = Duration::from_millis(500);
/// How long before the gateway ends nothing is said any more that nobody asks for.
const HUSH: Duration = Duration::from_millis(400);
/// The fewest values a second that a demo of fixed length must have compared.
const VALUES_A_SECOND_MIN: u64 = 10;
/// The same where devices have faults.
const VALUES_A_SECOND_MIN_WITH_FAULTS: u64 = 5;
/// Messages from the broker that have not been looked at yet.
const MESSAGES: usize = 256;

pub(super) fn demo(seconds: Option<u32>, config: Option<&Path>, has_faults: bool) -> ExitCode {
    let Checked { sources, site } = match config {
        Some(path) => config::load(path),
        None => config::parse("configs/demo.toml", CONFIG),
    };
    let site = match site {
        Ok(site) => site,
        Err(findings) => {
            say(&finding::render_text(&findings, &sources));
            complain(&check::count(findings.len()));
            return ExitCode::from(USAGE);
        }
    };
    start_logging(site.log_level);
    match block_on(show(site, seconds, has_faults)) {
        Ok((comparison, tally)) => conclude(&comparison, tally.as_ref(), seconds),
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::from(FAULT)
        }
    }
}

/// A folder that is gone when the demo ends.
struct StateDir(PathBuf);

impl Drop for StateDir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok(); // a leftover in the temporary folder harms nobody
    }
}

async fn show(
    mut site: Site,
    seconds: Option<u32>,
    has_faults: bool,
) -> anyhow::Result<(Comparison, Option<Tally>)> {
    let state_dir = StateDir(std::env::temp_dir().join(format!("tidegate-demo-{}", std::process::id())));
    site.gateway.state_dir.clone_from(&state_dir.0);
    let floor = Floor::new(demo_floor()).with_meters(demo_meters()).with_instruments(demo_instruments());
    let floor = Shared::new(floor);
    let mut helpers = JoinSet::new();
    let ends = serve_links(&mut site, &floor, &mut helpers).await?;
    if has_faults {
        for end in &ends {
            faults::set(end);
        }
    }
    let broker =
        Broker::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.context("the demo's broker")?;
    let address = broker.local_addr()?;
    helpers.spawn(broker.serve());
    site.uplinks.truncate(1);
    for uplink in &mut site.uplinks {
        uplink.brokers = vec![BrokerAddress {
            carrier: Carrier { is_tls: false, websocket: None },
            host: address.ip().to_string(),
            port: address.port(),
        }];
        uplink.login = None;
        uplink.primary_host = None;
        uplink.budget = None;
    }
    let messages = observe(address, &mut helpers).await?;
    let comparison = Comparison::new(has_faults, computed(&site));
    let comparison = watch(site, floor, messages, seconds, comparison).await?;
    let mut tally = Tally::default();
    ends.iter().for_each(|end| tally.add(&end.far.injected()));
    Ok((comparison, has_faults.then_some(tally)))
}

/// The tags that no device serves, by device and name.
fn computed(site: &Site) -> BTreeSet<(String, String)> {
    let of = |device: &Device| {
        let tags = site.tags_of(device).iter().filter(|tag| tag.registers().is_none());
        tags.map(|tag| (device.name.to_string(), tag.name.to_string())).collect::<Vec<_>>()
    };
    site.devices.iter().flat_map(of).collect()
}

/// Puts simulated devices behind every link of the site.
async fn serve_links(site: &mut Site, floor: &Shared, helpers: &mut JoinSet<()>) -> anyhow::Result<Vec<End>> {
    if let Some(link) = site.links.iter().find(|link| matches!(link.endpoint, Endpoint::Listen(_))) {
        anyhow::bail!("link {}: no unit of the demo dials in", link.name);
    }
    let (ends, unserved) = serve_site(site, floor, &Wishes::default(), helpers).await?;
    if let Some(of) = unserved.first() {
        anyhow::bail!("link {}: {}", of.link, of.why);
    }
    ends.iter().for_each(|end| end.lead(site));
    Ok(ends)
}

/// Subscribes to everything before the gateway starts.
async fn observe(
    broker: SocketAddr,
    helpers: &mut JoinSet<()>,
) -> anyhow::Result<mpsc::Receiver<(String, Vec<u8>)>> {
    let mut options = MqttOptions::new("tidegate-demo-view", broker.ip().to_string(), broker.port());
    options.set_max_packet_size(1 << 20, 1 << 20);
    let (client, mut events) = AsyncClient::new(options, 4);
    client.try_subscribe("spBv1.0/#", QoS::AtLeastOnce)?;
    while !matches!(events.poll().await?, Event::Incoming(Packet::SubAck(_))) {}
    let (sender, messages) = mpsc::channel(MESSAGES);
    helpers.spawn(async move {
        let _client = client; // without it the event loop ends
        forward(events, sender).await;
    });
    Ok(messages)
}

async fn forward(mut events: EventLoop, sender: mpsc::Sender<(String, Vec<u8>)>) {
    while let Ok(event) = events.poll().await {
        if let Event::Incoming(Packet::Publish(publish)) = event
            && sender.send((publish.topic, publish.payload.to_vec())).await.is_err()
        {
            return;
        }
    }
}

/// Runs the gateway, shows the table, and compares, until the time is over or somebody stops it.
async fn watch(
    site: Site,
    floor: Shared,
    mut messages: mpsc::Receiver<(String, Vec<u8>)>,
    seconds: Option<u32>,
    mut comparison: Comparison,
) -> anyhow::Result<Comparison> {
    let is_terminal = std::io::stdout().is_terminal();
    let mut redraw = tokio::time::interval(if is_terminal { REDRAW } else { REPRINT });
    redraw.tick().await;
    let (stop, stopped) = oneshot::channel::<()>();
    let (site, start) = (Arc::new(site), clock::monotonic());
    let counters = gateway::counters(&site);
    let gateway = gateway::run(site.clone(), counters.clone(), Arc::default(), async move {
        stopped.await.ok(); // a dropped sender stops as well
    });
    tokio::pin!(gateway);
    let stop_signal = stop_signal()?;
    tokio::pin!(stop_signal);
    let end = clock::monotonic() + Duration::from_secs(seconds.unwrap_or(u32::MAX).into());
    let mut view = View::default();
    let mut hushed_at = None;
    loop {
        // every arm may be dropped at any time; the gateway lives outside of the loop
        tokio::select! {
            ended = &mut gateway => {
                ended?;
                anyhow::bail!("the gateway has ended by itself");
            }
            () = &mut stop_signal, if hushed_at.is_none() => hushed_at = Some(hush(&floor)),
            () = tokio::time::sleep_until(end.into()), if hushed_at.is_none() => hushed_at = Some(hush(&floor)),
            () = tokio::time::sleep_until(hushed_at.unwrap_or(end).into()), if hushed_at.is_some() => break,
            Some((topic, payload)) = messages.recv() => take(&mut view, &mut comparison, &topic, &payload),
            _ = redraw.tick() => {
                draw(&view, is_terminal);
                comparison.add_served(floor.with(Floor::take_log));
                comparison.settle();
            }
        }
    }
    drop(stop);
    gateway.await?;
    let running = clock::monotonic().saturating_duration_since(start);
    while let Ok(Some((topic, payload))) = tokio::time::timeout(LAST_MESSAGES, messages.recv()).await {
        take(&mut view, &mut comparison, &topic, &payload);
    }
    comparison.add_served(floor.with(Floor::take_log));
    comparison.settle();
    say(&format!("\n{}", quality::table(&site, &counters, running)));
    Ok(comparison)
}

/// Has nothing more said unasked, so that all that is said is heard; when the gateway may end.
fn hush(floor: &Shared) -> Instant {
    floor.with(Floor::hush);
    clock::monotonic() + HUSH
}

fn take(view: &mut View, comparison: &mut Comparison, topic: &str, payload: &[u8]) {
    for received in view.handle(topic, payload) {
        comparison.add_received(received);
    }
}

fn draw(view: &View, is_terminal: bool) {
    let table = view.table(clock::wall());
    if is_terminal {
        say(&format!(
            "\x1b[H\x1b[Jtidegate demo: simulated devices, as the broker's consumers see them. Ctrl-C ends it.\n\n{table}"
        ));
    } else {
        say(&format!("{table}\n"));
    }
}

fn conclude(comparison: &Comparison, tally: Option<&Tally>, seconds: Option<u32>) -> ExitCode {
    let (missing, invented) = comparison.left_over();
    let mut devices: Vec<&str> = comparison.by_point().map(|(device, _)| device).collect();
    let tags = devices.len();
    devices.dedup();
    let OfMarks { moving, over, events } = comparison.of_marks;
    say(&format!(
        "\ntidegate demo: what the devices served against what came back from the broker\n  \
         devices     {} ({})\n  tags        {tags}\n  \
         values      {} compared: {moving} in motion, {over} overloads, {events} events among them\n  \
         mismatches  {}\n  missing     {missing}\n",
        devices.len(),
        devices.join(", "),
        comparison.matched,
        comparison.mismatches + u64::try_from(invented).unwrap_or(u64::MAX),
    ));
    for mismatch in &comparison.described {
        say(&format!("  {mismatch}\n"));
    }
    if let Some(tally) = tally {
        say(&format!("  faults      {tally}: what is missing got lost in them\n"));
    }
    let least = if tally.is_some() { VALUES_A_SECOND_MIN_WITH_FAULTS } else { VALUES_A_SECOND_MIN };
    let wanted = u64::from(seconds.unwrap_or_default()) * least;
    let silent = comparison.by_point().filter(|(_, matched)| *matched == 0).count();
    let faults = [
        (comparison.mismatches > 0 || invented > 0, "values came back that were not served so"),
        (missing > 0 && tally.is_none(), "values were served and did not come back"),
        (comparison.matched < wanted, "fewer values came back than the demo promises"),
        (seconds.is_some() && silent > 0, "some tags never came back right"),
    ];
    let mut code = ExitCode::SUCCESS;
    for (_, fault) in faults.iter().filter(|(is_so, _)| *is_so) {
        complain(fault);
        code = ExitCode::from(FAULT);
    }
    code
}
