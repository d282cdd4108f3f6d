//! `tidegate check PATH`: all findings at once, and what differs from the examples of types; offline.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use super::{Format, USAGE, complain, examples, say};
use crate::config::{self, Checked, finding};

pub(super) fn check(path: &Path, format: Format) -> ExitCode {
    let Checked { sources, site } = config::load(path);
    let findings = site.as_ref().err().map(Vec::as_slice).unwrap_or_default();
    match format {
        Format::Json => say(&format!("{}\n", finding::render_json(findings, &sources))),
        Format::Text => say(&finding::render_text(findings, &sources)),
    }
    for remark in site.as_ref().map(|site| site.remarks.as_slice()).unwrap_or_default() {
        complain(remark);
    }
    let differences =
        site.as_ref().map(|site| examples::differences(&Arc::new(site.clone()))).unwrap_or_default();
    for difference in &differences {
        complain(difference);
    }
    if !differences.is_empty() {
        return ExitCode::from(USAGE);
    }
    match (&site, format) {
        (Err(findings), Format::Text) => complain(&count(findings.len())),
        (Ok(site), Format::Text) => say(&format!(
            "{}: fine: {} devices, {} tags on {} links, {} uplinks\n",
            path.display(),
            site.devices.len(),
            site.tags.len(),
            site.links.len(),
            site.uplinks.len()
        )),
        (_, Format::Json) => {}
    }
    ExitCode::from(if site.is_ok() { 0 } else { USAGE })
}

pub(super) fn count(findings: usize) -> String {
    if findings == 1 { "1 finding".to_owned() } else { format!("{findings} findings") }
}
