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

fn check(read: Read) -> Checked {
    let Read { table, sources, findings, is_partial } = read;
    let site = if is_partial { Err(findings) } else { build::site(&table, sources.whole(), findings) };
    Checked { sources, site }
}
