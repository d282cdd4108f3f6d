//! What is wanted: from TOML files to a checked [`site::Site`], or to all findings at once.
//!
//! A path comes in; a site or findings go out. Nothing is coerced, nothing unknown is let pass, and no other stage
//! checks again. Past [`source`] nothing here does I/O.

pub mod finding;
pub mod site;
pub mod source;
pub mod tree;

mod build;
mod expand;
mod schema;
mod topic;
mod values;

use std::path::Path;

use finding::Finding;
use site::Site;
use source::{Read, Sources};
use tree::Node;

/// A configuration after checking.
#[derive(Debug)]
pub struct Checked {
    /// What it came from, to show findings with.
    pub sources: Sources,
    /// The site, or everything that is wrong.
    pub site: Result<Site, Vec<Finding>>,
}

/// Reads and checks the configuration at `path`, a file or a folder.
#[must_use]
pub fn load(path: &Path) -> Checked {
    check(source::read(path))
}

/// Checks a configuration that stands in `text`; `name` is what findings call it.
#[must_use]
pub fn parse(name: &str, text: &str) -> Checked {
    check(Read::from_text(name, text))
}

/// What [`types`] finds.
#[derive(Debug)]
pub struct Types {
    /// The links of a configuration, and a device of each type that it knows; or what is wrong with them.
    pub checked: Checked,
    /// Types that nothing can be of without saying more than where it is.
    pub left_out: Vec<String>,
}

/// The links of the configuration at `path`, and the types that it knows: its own, those beside it and those of the package's
/// library; only the latter two where there is no such file. As a site that nobody runs: with a device of each type, of the
/// type's name, alone on a link of its own, as unit 1 or with the address 1; and one of no type, so that there is one.
#[must_use]
pub fn types(path: &Path) -> Types {
    let read = source::read_types(path);
    let types = read.table.table("type");
    let mut devices = Vec::new();
    let names = types.entries.iter().map(|entry| &entry.key).filter(|name| values::is_name(name));
    for (port, name) in (2..=u16::MAX).zip(names) {
        let Some(of_type) = expand::resolve_type(types, name) else { continue };
        let own = match of_type.get("protocol").and_then(Node::text) {
            Some("dlt645") => "address = '000000000001'",
            Some("serial") => "unit = 1\naddress = '00000000000001'",
            // a PLC's registers are what its program makes of them
            _ if of_type.get("tags").is_none() => "tags = [{ name = 'hr0', at = 'hr:0', every = 'never' }]",
            _ => "unit = 1",
        };
        devices.push((name.clone(), nobody(port, name, &format!("type = '{name}'\n{own}"))));
    }
    let of = |devices: &str| {
        let none = nobody(1, "", "tags = [{ name = 'hr0', at = 'hr:0' }]");
        let mut read = source::read_types(path);
        read.add_text("a device of each type", &format!("{NOBODY}{none}{devices}"));
        check(read)
    };
    let all = |devices: &[(String, String)]| devices.iter().map(|(_, text)| &**text).collect::<String>();
    let checked = of(&all(&devices));
    if checked.site.is_ok() || of("").site.is_err() {
        return Types { checked, left_out: Vec::new() };
    }
    // those with which nothing is wrong but what a device of them must say
    let (fine, other): (Vec<_>, Vec<_>) = devices.into_iter().partition(|(_, text)| of(text).site.is_ok());
    Types { checked: of(&all(&fine)), left_out: other.into_iter().map(|(name, _)| name).collect() }
}

/// What every site has.
const NOBODY: &str = "[gateway]\nname = 'n'\nenterprise = 'e'\n[uplink.none]\nbroker = 'mqtt://127.0.0.1'\n";

/// A device on a link that nobody else has: the address is one of documentation (RFC 5737).
fn nobody(port: u16, name: &str, says: &str) -> String {
    let link = format!("{name}..type");
    let device = if name.is_empty() { &link } else { name };
    format!(
        "[link.'{link}']\ntcp = '192.0.2.1:{port}'\nframing = 'rtu'\n[device.'{device}']\nlink = '{link}'\n{says}\n"
    )
}

fn check(read: Read) -> Checked {
    let Read { table, sources, findings, is_partial } = read;
    let site = if is_partial { Err(findings) } else { build::site(&table, sources.whole(), findings) };
    Checked { sources, site }
}
