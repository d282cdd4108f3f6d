//! What was found, as a piece of a configuration. Pure.

use std::collections::BTreeSet;

use super::manner::Manner;
use super::{Found, Survey, Who};
use crate::config::site::{Framing, SerialLine};
use crate::dlt645::Version;

/// The link that was searched.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Its name in the configuration.
    pub name: String,
    /// The lines that its table begins with, as `port = "/dev/ttyUSB0"`; `None`: it stands in the configuration, as `set`.
    pub opens: Option<String>,
    /// How it is spoken to where a device does not say otherwise; `None`: as most of the devices that were found.
    pub set: Option<Manner>,
}

/// A piece of a configuration with everybody who was found; what cannot stand in it as it is is a comment.
#[must_use]
pub fn fragment(origin: &Origin, survey: &Survey) -> String {
    let Some(usual) = origin.set.or_else(|| most_frequent(survey.found())) else { return String::new() };
    let mut text = String::new();
    if let Some(opens) = &origin.opens {
        text += &format!("[link.{}]\n{opens}\n", origin.name);
        if let Some(line) = usual.line {
            text += &format!("serial = \"{line}\"\n");
        }
        let default = if usual.line.is_some() { Framing::Rtu } else { Framing::Tcp };
        if usual.framing != default {
            text += &format!("framing = \"{}\"\n", word(usual.framing));
        }
        if survey.has_echo() {
            text += "echo = true\n";
        }
    }
    let mut names = BTreeSet::new();
    for found in survey.found() {
        let of_device = device(origin, usual, found, &mut names);
        text.push('\n');
        match obstacle(usual, found, survey.found().len() == 1) {
            None => text += &of_device,
            Some(why) => {
                text += &format!("# {why}\n");
                of_device.lines().for_each(|line| text += &format!("# {line}\n"));
            }
        }
    }
    text
}

/// Why a device cannot stand in the configuration as it is.
fn obstacle(usual: Manner, found: &Found, is_alone: bool) -> Option<&'static str> {
    let is_talker = matches!(found.who, Who::Instrument(_)) && found.fits.iter().all(|fit| fit.is_heard);
    if is_talker && !is_alone {
        return Some("it talks by itself: give it a link of its own");
    }
    let is_unit = matches!(found.who, Who::Unit(..));
    if is_unit && usual.framing != found.manner.framing {
        return Some("the link is framed otherwise: give it a link of its own");
    }
    let is_dumb = matches!(found.who, Who::Unit(_, None)) && found.best().is_none();
    is_dumb.then_some("it refuses hr:0 and ir:0, and no probe of a known type fits: write its type, or tags")
}

/// How most of those who were found are spoken to; of several the first.
fn most_frequent(found: &[Found]) -> Option<Manner> {
    let count = |manner: Manner| found.iter().filter(|other| other.manner == manner).count();
    found.iter().rev().map(|found| found.manner).max_by_key(|manner| count(*manner))
}

fn word(framing: Framing) -> &'static str {
    match framing {
        Framing::Tcp => "tcp",
        Framing::Rtu => "rtu",
        Framing::Ascii => "ascii",
    }
}

fn device(origin: &Origin, usual: Manner, found: &Found, names: &mut BTreeSet<String>) -> String {
    let best = found.best();
    let of_type = best.map(|fit| &*fit.type_name);
    let own = match &found.who {
        Who::Unit(unit, _) => format!("{}-{unit}", of_type.unwrap_or("unit")),
        Who::Meter(address, _) => format!("meter-{address}"),
        Who::Instrument(_) => of_type.unwrap_or("instrument").to_owned(),
    };
    let more = (2_u32..).map(|number| format!("{own}-{number}"));
    let name = [own.clone()].into_iter().chain(more).find(|name| names.insert(name.clone())).unwrap_or(own);
    // a dot in a bare key would make a table of it
    let key = if name.contains('.') { format!("\"{name}\"") } else { name };
    let mut text = format!("[device.{key}]\nlink = \"{}\"\n", origin.name);
    match &found.who {
        Who::Unit(unit, _) | Who::Instrument(Some(unit)) => text += &format!("unit = {unit}\n"),
        Who::Meter(address, _) => text += &format!("address = \"{address}\"\n"),
        Who::Instrument(None) => {}
    }
    let is_usual = |line: &SerialLine| usual.line.is_some_and(|usual| usual.hears(line));
    if let Some(line) = found.manner.line.filter(|line| !is_usual(line)) {
        text += &format!("serial = \"{line}\"\n");
    }
    match best {
        Some(fit) => text += &format!("type = \"{}\"    # {}\n", fit.type_name, fit.shown),
        None => text += &untyped(&found.who),
    }
    // zeros speak for nobody where something speaks for somebody
    let others = found.fits.iter().skip(usize::from(best.is_some()));
    for other in others.filter(|other| best.is_none() || !other.is_weak) {
        let word = if other.is_weak { "perhaps" } else { "or" };
        text += &format!("# {word}: type = \"{}\"    # {}\n", other.type_name, other.shown);
    }
    text
}

/// What stands for the type of somebody whom no type fits.
fn untyped(who: &Who) -> String {
    let head = "# no probe of a known type fits: write its type, or tags as its manual has them\n";
    let says = match who {
        Who::Unit(_, Some((area, word))) => {
            let prefix = area.prefix();
            format!("tags = [{{ name = \"{prefix}0\", at = \"{prefix}:0\" }}]    # {word}\n")
        }
        Who::Meter(_, version) => {
            let (version, at) = match version {
                Version::V2007 => ("2007", "00010000"),
                Version::V1997 => ("1997", "9010"),
            };
            format!(
                "protocol = \"dlt645\"\nversion = \"{version}\"\ntags = [{{ name = \"energy/import\", at = \"{at}\", format = \"XXXXXX.XX\", unit = \"kWh\", kind = \"counter\" }}]\n"
            )
        }
        Who::Unit(_, None) | Who::Instrument(_) => String::new(),
    };
    format!("{head}{says}")
}
