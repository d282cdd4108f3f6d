//! What is wrong with a configuration, shown where it stands.

use std::fmt::Write as _;

use serde::Serialize;
use unicode_width::UnicodeWidthStr;

use super::source::{Position, Sources};
use super::tree::Place;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Where.
    pub at: Place,
    /// What is wrong: what was wanted and what was got.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

impl Finding {
    /// A finding without advice.
    #[must_use]
    pub fn new(at: Place, message: impl Into<String>) -> Finding {
        Finding { at, message: message.into(), help: None }
    }

    /// The same with advice.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Finding {
        self.help = Some(help.into());
        self
    }
}

/// A finding as `check --format json` prints it.
#[derive(Debug, Serialize)]
struct Located<'a> {
    file: &'a str,
    line: usize,
    column: usize,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<&'a str>,
}

/// All findings as text: `file:line:col: message`, the line, a caret under what is meant, and the advice.
#[must_use]
pub fn render_text(findings: &[Finding], sources: &Sources) -> String {
    let mut text = String::new();
    for finding in findings {
        render_one(finding, sources, &mut text);
    }
    text
}

/// All findings as one JSON object: `{"findings":[{"file","line","column","message","help"?}]}`.
#[must_use]
pub fn render_json(findings: &[Finding], sources: &Sources) -> String {
    let located: Vec<Located<'_>> = findings
        .iter()
        .map(|finding| {
            let position = sources.position(finding.at);
            Located {
                file: position.file,
                line: position.line,
                column: position.column,
                message: &finding.message,
                help: finding.help.as_deref(),
            }
        })
        .collect();
    serde_json::json!({ "findings": located }).to_string()
}

fn render_one(finding: &Finding, sources: &Sources, text: &mut String) {
    let position = sources.position(finding.at);
    let mut line = |arguments: std::fmt::Arguments<'_>| {
        writeln!(text, "{arguments}").ok(); // writing to a String cannot fail
    };
    if position.line == 0 {
        line(format_args!("{}: {}", position.file, finding.message));
    } else {
        line(format_args!("{}:{}:{}: {}", position.file, position.line, position.column, finding.message));
        if holds_password(&position) {
            return line(format_args!("    (the line is not shown: it holds a password)"));
        }
        let number = position.line.to_string();
        let margin = " ".repeat(number.len());
        let before = position.before.replace('\t', "    ");
        let carets = "^".repeat(position.marked.replace('\t', "    ").width().max(1));
        line(format_args!("{number} | {before}{}{}", position.marked, position.after));
        line(format_args!("{margin} | {}{carets}", " ".repeat(before.width())));
    }
    if let Some(help) = &finding.help {
        line(format_args!("    help: {help}"));
    }
}

fn holds_password(position: &Position<'_>) -> bool {
    let line = [position.before, position.marked, position.after].concat().replace("password_file", "");
    // an address may have a name and a password, or a token in its query
    let has_address = line.contains("://") || line.contains("broker");
    line.contains("password") || has_address && line.contains(['@', '?'])
}

/// The word among `known` that was probably meant by `word`.
#[must_use]
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let near =
        |candidate: &&str| strsim::damerau_levenshtein(word, candidate) <= 1 + word.chars().count() / 4;
    known
        .into_iter()
        .filter(near)
        .min_by_key(|candidate| strsim::damerau_levenshtein(word, candidate))
        .map(|candidate| format!("did you mean `{candidate}`?"))
}
