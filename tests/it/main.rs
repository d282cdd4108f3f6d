//! The integration tests: one binary.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::string_slice,
    clippy::wildcard_enum_match_arm,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test ends with a message where something is amiss"
)]

mod alarms;
mod broadcast;
mod brokers;
mod cli;
mod clock_steps;
mod commands;
mod conformance;
mod corpus;
mod dial_in;
mod disk;
mod examples;
mod findings;
mod frames;
mod fuzzed;
mod gateway;
mod instruments;
mod json;
mod line;
mod lossless;
mod meters;
mod plans;
mod proto;
mod quirks;
mod rig;
mod scan;
mod shops;
mod simulator;
mod tidy;
mod tls;
mod types;
mod uplinks;

use std::path::{Path, PathBuf};

/// The project's folder.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files under `folder` with this extension, sorted.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|known| known == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}
