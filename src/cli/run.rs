//! `tidegate run`: the daemon.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use super::{FAULT, USAGE, block_on, check, complain, quality, start_logging};
use crate::clock;
use crate::config::{self, Checked, finding};
use crate::gateway;

pub(super) fn run(path: &Path) -> ExitCode {
    let Checked { sources, site } = config::load(path);
    let mut site = match site {
        Ok(site) => site,
        Err(findings) => {
            std::io::stderr().write_all(finding::render_text(&findings, &sources).as_bytes()).ok(); // nobody left to tell
            complain(&format!("{}: nothing was started", check::count(findings.len())));
            return ExitCode::from(USAGE);
        }
    };
    drop(sources);
    start_logging(site.log_level);
    if let Some(state_dir) = std::env::var_os("STATE_DIRECTORY") {
        site.gateway.state_dir = state_dir.into();
    }
    let (site, start) = (Arc::new(site), clock::monotonic());
    let counters = gateway::counters(&site);
    let result = block_on(async {
        let stop = stop_signal()?;
        gateway::run(site.clone(), counters.clone(), stop).await.map_err(anyhow::Error::from)
    });
    let running = clock::monotonic().saturating_duration_since(start);
    for line in quality::table(&site, &counters, running).lines() {
        info!("{line}");
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::from(FAULT)
        }
    }
}

/// Ready when the system or a person asks to stop.
pub(super) fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        // recv is cancel-safe
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
