//! `tidegate scan`: who is on a line or behind a TCP port, as a piece of a configuration. Reads and changes nothing.

use std::io::{IsTerminal as _, Write as _};
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use clap::Args;

use super::{FAULT, USAGE, block_on, check, complain, say, stop_signal};
use crate::clock;
use crate::config::site::{
    self, CONNECT_TIMEOUT, Echo, Endpoint, Factory, Framing, SerialLine, Site, parse_duration, parse_units,
};
use crate::config::{self, Checked, Types, finding};
use crate::link::Link;
use crate::survey::fragment::{Origin, fragment};
use crate::survey::manner::Manner;
use crate::survey::{Found, Question, Survey, UNITS_OF_SERVERS, Who, Wishes, task};

/// Nobody has answered.
const NONE: u8 = 4;
/// The units that are asked in each way.
const UNITS: std::ops::RangeInclusive<u8> = 1..=10;
/// Those that are asked as well where one has answered.
const MORE_UNITS: std::ops::RangeInclusive<u8> = 11..=247;
/// The port of Modbus TCP.
const PORT: u16 = 502;

/// What a person has typed.
#[derive(Debug, Args)]
pub(super) struct Wanted {
    /// A serial port (/dev/…), HOST or HOST:PORT, or a link of the configuration. Nothing but reading is asked; instruments that
    /// obey single letters may take some of it for an order: disconnect them first.
    #[arg(value_name = "LINK")]
    link: String,
    /// The configuration whose links and types are known; types beside it and those of the package are known as well.
    #[arg(long, value_name = "PATH", default_value = "/etc/tidegate/gateway.toml")]
    config: PathBuf,
    /// Only this speed and frame, as "9600 8N1" or "9600 7E1 ascii"; may be given several times.
    #[arg(long, value_name = "LINE", value_parser = line)]
    serial: Vec<Factory>,
    /// Only these Modbus units, in every way; else 1 to 10, and all where one of them answers.
    #[arg(long, value_name = "1-247", value_parser = units)]
    units: Option<Units>,
    /// How long a unit is waited for, as "500ms"; else 200ms, over TCP 1s.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,
}

/// A list of units, in one word of the command line.
#[derive(Clone, Debug)]
struct Units(Vec<u8>);

fn line(text: &str) -> Result<Factory, String> {
    let wanted = "wanted speed, data bits, parity and stop bits, as \"9600 8N1\" or \"9600 7E1 ascii\"";
    Factory::parse(text).ok_or_else(|| wanted.to_owned())
}

fn units(text: &str) -> Result<Units, String> {
    parse_units(text).map(Units).ok_or_else(|| "wanted units of 0 to 255, as \"1-10,20\"".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let wanted = "wanted a time from 10ms to 1m, as \"500ms\"";
    let is_sane = |time: &Duration| (Duration::from_millis(10)..=Duration::from_secs(60)).contains(time);
    parse_duration(text).filter(is_sane).ok_or_else(|| wanted.to_owned())
}

pub(super) fn scan(wanted: &Wanted) -> ExitCode {
    let Types { checked: Checked { sources, site }, left_out } = config::types(&wanted.config);
    for name in left_out {
        complain(&format!(
            "type `{name}` is left out: a device of it must say more than its unit or address"
        ));
    }
    let types = match site {
        Ok(types) => Arc::new(types),
        Err(findings) => {
            say(&finding::render_text(&findings, &sources));
            complain(&format!("{} in the device types: nothing was asked", check::count(findings.len())));
            return ExitCode::from(USAGE);
        }
    };
    let target = match target(wanted, &types) {
        Ok(target) => target,
        Err(why) => {
            complain(&why);
            return ExitCode::from(USAGE);
        }
    };
    if types.devices.iter().all(|device| device.type_name.is_none()) {
        complain(
            "no device types are known: what is found will have none; --config names a configuration with types",
        );
    }
    match block_on(search(wanted, &types, target)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(NONE),
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::from(FAULT)
        }
    }
}

/// What is searched.
struct Target {
    link: site::Link,
    origin: Origin,
}

/// A link of the configuration, a port or a host.
fn target(wanted: &Wanted, types: &Site) -> Result<Target, String> {
    let named = &wanted.link;
    if named.contains(char::is_control) {
        return Err(format!("{named:?} is no port and no host"));
    }
    if let Some(link) = configured(types, named)? {
        return Ok(link);
    }
    if named.starts_with('/') {
        let line = SerialLine::parse("9600 8N1").ok_or("no line")?;
        let endpoint = Endpoint::Serial { port: named.into(), line, rts_on_send: false };
        return Ok(fresh("line1", endpoint, format!("port = {named:?}")));
    }
    if !named.contains(['.', ':']) && named != "localhost" {
        return Err(format!(
            "`{named}` is no link of {}, and neither a port (/dev/…) nor HOST or HOST:PORT",
            wanted.config.display()
        ));
    }
    let address = address(named)?;
    let endpoint = Endpoint::Tcp { address: address.clone(), connect_timeout: CONNECT_TIMEOUT, tls: None };
    Ok(fresh("net1", endpoint, format!("tcp = {address:?}")))
}

/// HOST:PORT; the port of Modbus TCP where none is named.
fn address(named: &str) -> Result<String, String> {
    if let Ok(address) = named.parse::<Ipv6Addr>() {
        return Ok(format!("[{address}]:{PORT}"));
    }
    match named.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(named.to_owned()),
        Some(_) => Err(format!("`{named}`: wanted HOST or HOST:PORT, with a port of 1 to 65535")),
        None => Ok(format!("{named}:{PORT}")),
    }
}

fn fresh(name: &str, endpoint: Endpoint, opens: String) -> Target {
    let link = site::Link {
        name: name.into(),
        endpoint,
        framing: Framing::Rtu,
        gap: None,
        echo: Echo::No,
        connections: 1,
        in_flight: 1,
        idle_close: None,
        broadcast_time: None,
    };
    Target { link, origin: Origin { name: name.to_owned(), opens: Some(opens), set: None } }
}

/// The link of this name, or to this port or address, if the configuration has it.
fn configured(types: &Site, name: &str) -> Result<Option<Target>, String> {
    let leads_there = |link: &&site::Link| match &link.endpoint {
        Endpoint::Serial { port, .. } => *port == Path::new(name),
        Endpoint::Tcp { address, .. } => address == name,
        Endpoint::Listen(_) => false,
    };
    let named = types.links.iter().find(|link| *link.name == *name);
    let Some(link) = named.or_else(|| types.links.iter().find(leads_there)) else { return Ok(None) };
    let line = match &link.endpoint {
        Endpoint::Serial { line, .. } => Some(*line),
        Endpoint::Tcp { .. } => None,
        Endpoint::Listen(_) => {
            return Err(format!("units dial in on `{name}`: only what is called can be searched"));
        }
    };
    let set = Some(Manner { line, framing: link.framing });
    Ok(Some(Target { link: link.clone(), origin: Origin { name: link.name.to_string(), opens: None, set } }))
}

/// How the line is to be spoken to, and whom to ask.
fn wishes(wanted: &Wanted, types: &Site, target: &Target) -> Wishes {
    let is_network = matches!(target.link.endpoint, Endpoint::Tcp { .. });
    let of_types =
        || types.devices.iter().flat_map(|device| device.factory.clone()).collect::<Vec<Factory>>();
    let mut manners = match wanted.serial.as_slice() {
        _ if is_network => Manner::of_network(),
        [] => Manner::of_port(&of_types()),
        lines => lines.iter().map(|factory| Manner::of(*factory)).collect(),
    };
    // where it is set already most are set alike
    if let Some(set) = target.origin.set.filter(|_| is_network || wanted.serial.is_empty()) {
        manners.retain(|manner| !manner.is_heard_as(&set));
        manners.insert(0, set);
    }
    let patience = wanted.timeout;
    match &wanted.units {
        Some(Units(units)) => Wishes { manners, units: units.clone(), more_units: Vec::new(), patience },
        None => {
            let mut units: Vec<u8> = UNITS.collect();
            if is_network {
                units.extend(UNITS_OF_SERVERS);
            }
            Wishes { manners, units, more_units: MORE_UNITS.collect(), patience }
        }
    }
}

/// Whether anybody was found.
async fn search(wanted: &Wanted, types: &Arc<Site>, target: Target) -> anyhow::Result<bool> {
    let began = clock::monotonic();
    let mut survey = Survey::new(types.clone(), wishes(wanted, types, &target));
    let mut link = Link::new(&target.link);
    let stop = stop_signal()?;
    let mut told = Told::default();
    // a search that is given up has changed nothing: what it has found so far is told
    let ended = tokio::select! {
        ended = task::run(&mut survey, &mut link, target.link.gap, |survey, question| told.tell(survey, question)) => Some(ended),
        () = stop => None,
    };
    survey.finish();
    told.tell_found(&survey);
    show("");
    if survey.questions() > 0 {
        let seconds = clock::monotonic().saturating_duration_since(began).as_secs();
        tell(wanted, &target, &survey, seconds, matches!(ended, Some(Ok(()))));
    }
    if let Some(Err(error)) = ended {
        bail!("{error}"); // its words have the reason in them already
    }
    Ok(!survey.found().is_empty())
}

/// What a search has come to, after so many seconds.
fn tell(wanted: &Wanted, target: &Target, survey: &Survey, seconds: u64, is_whole: bool) {
    tell_remarks(survey);
    let is_network = matches!(target.link.endpoint, Endpoint::Tcp { .. });
    if survey.has_echo()
        && (target.origin.opens.is_none() || survey.found().is_empty())
        && target.link.echo == Echo::No
    {
        complain("what is sent comes back: the link needs `echo = true`");
    }
    let count = survey.found().len();
    let end = if is_whole { "" } else { ", not searched to the end" };
    let summary = format!("{count} found with {} questions in {seconds} s{end}", survey.questions());
    complain(&summary);
    if wanted.units.is_none() && is_whole {
        complain(
            "units above 10 were asked only where others answered: --units 1-247 asks all of them in every way",
        );
    }
    if count > 0 {
        let guess = "# A type is a guess by what stands behind it: compare it with the nameplate.";
        say(&format!(
            "# tidegate scan {}: {summary}\n{guess}\n{}",
            wanted.link,
            fragment(&target.origin, survey)
        ));
    } else if is_whole && !is_network {
        complain(
            "nobody answers: is the line connected, A to A and B to B, and is everything on it switched on?",
        );
    }
}

/// What there is to say beside who was found.
fn tell_remarks(survey: &Survey) {
    if let Some(stray) = survey.stray() {
        let bytes: Vec<String> = stray.bytes.iter().map(|byte| format!("{byte:02X}")).collect();
        let who = if stray.is_master {
            "another master asks on this line: two masters spoil each other's answers"
        } else {
            "something talks on this line by itself that no type describes"
        };
        complain(&format!("{who} (at {}: {})", stray.manner, bytes.join(" ")));
    }
    survey.remarks().iter().for_each(|remark| complain(remark));
}

/// What a person has been told of the search.
#[derive(Debug, Default)]
struct Told {
    found: usize,
    manner: Option<Manner>,
}

impl Told {
    /// Where the search is now, on a line that the next takes the place of.
    fn tell(&mut self, survey: &Survey, question: &Question) {
        self.tell_found(survey);
        if self.manner != Some(question.manner) {
            self.manner = Some(question.manner);
            show(&format!("tidegate: asking at {} …", question.manner));
        }
    }

    fn tell_found(&mut self, survey: &Survey) {
        for found in survey.found().iter().skip(self.found) {
            show("");
            complain(&in_words(found));
        }
        self.found = survey.found().len();
    }
}

/// Puts `text` in the place of what was shown last on this line of a terminal.
fn show(text: &str) {
    let mut stderr = std::io::stderr();
    if stderr.is_terminal() {
        write!(stderr, "\r\x1b[K{text}").and_then(|()| stderr.flush()).ok(); // nobody left to tell
    }
}

fn in_words(found: &Found) -> String {
    let who = match &found.who {
        Who::Unit(unit, _) => format!("unit {unit} answers Modbus"),
        Who::Meter(address, _) => format!("meter {address} answers DL/T 645"),
        Who::Instrument(_) => "an instrument".to_owned(),
    };
    let of_type = found.best().map_or("of no known type", |fit| &*fit.type_name);
    format!("{}: {who}: {of_type}", found.manner)
}
