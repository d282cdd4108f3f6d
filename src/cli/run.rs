//! `tidegate run`: the daemon.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tracing::{info, warn};

use super::{FAULT, USAGE, block_on, check, complain, quality, start_logging};
use crate::clock;
use crate::config::site::Site;
use crate::config::{self, Checked, finding};
use crate::counters::Counters;
use crate::gateway;

pub(super) fn run(path: &Path) -> ExitCode {
    let Checked { sources, site } = config::load(path);
    let site = match site {
        Ok(site) => site,
        Err(findings) => {
            std::io::stderr().write_all(finding::render_text(&findings, &sources).as_bytes()).ok(); // nobody left to tell
            complain(&format!("{}: nothing was started", check::count(findings.len())));
            return ExitCode::from(USAGE);
        }
    };
    drop(sources);
    start_logging(site.log_level);
    match block_on(run_on(path, site)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::from(FAULT)
        }
    }
}

/// Runs, with a new configuration each time that one is asked for and has no findings, until it is told to stop.
async fn run_on(path: &Path, mut site: Site) -> anyhow::Result<()> {
    let (mut signals, reload) = (Signals::listen()?, Arc::new(Notify::new()));
    loop {
        if let Some(state_dir) = std::env::var_os("STATE_DIRECTORY") {
            site.gateway.state_dir = state_dir.into();
        }
        let (running, start) = (Arc::new(site), clock::monotonic());
        let counters = gateway::counters(&running);
        let told = signals.told(path, &reload, &counters);
        let told = gateway::run(running.clone(), counters.clone(), reload.clone(), told).await;
        let time = clock::monotonic().saturating_duration_since(start);
        for line in quality::table(&running, &counters, time).lines() {
            info!("{line}");
        }
        match told? {
            Told::Stop => return Ok(()),
            Told::Reload(new) => site = *new,
        }
    }
}

/// What a running gateway was told.
enum Told {
    Stop,
    /// To go on with this configuration.
    Reload(Box<Site>),
}

/// What the system or a person has to say.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Ready when there is something to do about it: a configuration with findings is refused, and the old one stays.
    async fn told(&mut self, path: &Path, reload: &Notify, counters: &Counters) -> Told {
        loop {
            // all of them are cancel-safe
            tokio::select! {
                _ = self.terminate.recv() => return Told::Stop,
                _ = self.interrupt.recv() => return Told::Stop,
                _ = self.hang_up.recv() => {}
                () = reload.notified() => {}
            }
            let Checked { sources, site } = config::load(path);
            match site {
                Ok(site) => return Told::Reload(Box::new(site)),
                Err(findings) => {
                    counters.reloads_refused.add(1);
                    let shown = finding::render_text(&findings, &sources);
                    warn!(
                        findings = findings.len(),
                        "the new configuration is not taken over: the old one stays\n{shown}"
                    );
                }
            }
        }
    }
}
