//! The commands of the one binary: what a person types, what they see, and the exit code.
//!
//! Exit codes: 0 done, 1 fault, 2 wrong usage or a bad configuration, 4 (of `scan`) nobody was found.

mod check;
#[cfg(feature = "demo")]
mod demo;
mod examples;
#[cfg(feature = "demo")]
mod faults;
mod quality;
mod queue;
mod run;
mod scan;
#[cfg(feature = "demo")]
mod simulate;
mod write;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use crate::config::site::LogLevel;

/// A fault while running.
const FAULT: u8 = 1;
/// Wrong usage, or a configuration with findings.
const USAGE: u8 = 2;

/// Commands of the contract that a later version builds.
const LATER: [&str; 6] = ["plan", "read", "watch", "types", "fleet", "schema"];

/// The industrial edge gateway for small factories: Modbus equipment to MQTT Sparkplug B.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway until it is told to stop (SIGTERM or Ctrl-C).
    Run {
        /// The configuration: a file, or a folder of *.toml.
        #[arg(long, value_name = "PATH", default_value = "/etc/tidegate/gateway.toml")]
        config: PathBuf,
    },
    /// Check a configuration without running it: all findings at once.
    Check {
        /// A file, or a folder of *.toml.
        path: PathBuf,
        /// How findings are printed.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Write one value, by the rules of the configuration and through the running gateway where there is one: asks
    /// first, says what became of it.
    Write(write::Wanted),
    /// Search a line or a host for devices, without changing anything: how they are spoken to, and of which types they may
    /// be. Prints a piece of a configuration.
    Scan(scan::Wanted),
    /// Show what is stored and not delivered yet: sizes, ages, gaps. Changes nothing; the gateway may be running.
    Queue {
        /// The state directory, the queue in it, or a copy.
        path: PathBuf,
        /// Print every reading that is stored.
        #[arg(long, value_enum, value_name = "FORMAT")]
        export: Option<Export>,
    },
    /// Show it all on this machine: simulated devices, an embedded broker, the gateway between them.
    #[cfg(feature = "demo")]
    Demo {
        /// End after so many seconds with a summary; without it, run until Ctrl-C.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=86_400))]
        seconds: Option<u32>,
        /// Another configuration for the gateway; links and broker are those of the demo.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Let the devices misbehave: late, doubled, broken and foreign replies, noise, hang-ups.
        #[arg(long)]
        faults: bool,
    },
    /// Serve every device of a configuration, with values that move: TCP ports, pseudo-terminals, units that dial in.
    #[cfg(feature = "demo")]
    Simulate(simulate::Wanted),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Export {
    Csv,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Does what `arguments` say.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let later = arguments.get(1).and_then(|word| word.to_str()).filter(|word| LATER.contains(word));
    if let Some(command) = later {
        complain(&format!("`tidegate {command}` is not in this version"));
        return ExitCode::from(USAGE);
    }
    let command = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments.command,
        Err(error) => {
            error.print().ok(); // nobody left to tell
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    match command {
        Command::Run { config } => run::run(&config),
        Command::Check { path, format } => check::check(&path, format),
        Command::Write(wanted) => write::write(&wanted),
        Command::Scan(wanted) => scan::scan(&wanted),
        Command::Queue { path, export } => queue::queue(&path, export),
        #[cfg(feature = "demo")]
        Command::Demo { seconds, config, faults } => demo::demo(seconds, config.as_deref(), faults),
        #[cfg(feature = "demo")]
        Command::Simulate(wanted) => simulate::simulate(&wanted),
    }
}

/// Prints to standard output; a reader that has gone away is no fault.
fn say(text: &str) {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).ok();
}

/// Prints a line to standard error.
fn complain(text: &str) {
    writeln!(std::io::stderr(), "tidegate: {text}").ok(); // nobody left to tell
}

/// Sends events of at least `level` to standard error, in colour where that is a terminal.
fn start_logging(level: LogLevel) {
    let level = match level {
        LogLevel::Error => tracing::Level::ERROR,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Debug => tracing::Level::DEBUG,
        LogLevel::Trace => tracing::Level::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(level == tracing::Level::TRACE)
        .try_init()
        .ok(); // a second start in one process keeps the first
}

/// Ready when the system or a person asks to stop.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
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

/// Runs `future` to its end. Whatever a blocking thread still does then (a look-up of a name, a write to flash) is left
/// behind: the end does not wait for it.
///
/// One thread does it all: there is never more work than one core, and a second would only wake up beside it.
fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(future);
    runtime.shutdown_background();
    result
}
