//! Reading the configuration's files and the environment: the only I/O of `config`.
//!
//! A file or a folder comes in; one merged tree and the texts it came from go out. Every file is parsed strictly with
//! its places kept; values of the environment (`TIDEGATE__UPLINK__CLOUD__PASSWORD`, collected by the `config` crate)
//! are laid over it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use config::Source as _;
use toml::de::{DeTable, DeValue};

use super::finding::Finding;
use super::tree::{Content, Entry, Node, Place, Table};

/// The prefix of environment variables that override a key.
const ENVIRONMENT_PREFIX: &str = "TIDEGATE";
/// Where a package puts the device library.
const LIBRARY: &str = "/usr/share/tidegate/types";

/// The texts that a configuration was read from.
#[derive(Debug, Default)]
pub struct Sources {
    sources: Vec<Source>,
}

#[derive(Debug)]
struct Source {
    name: String,
    text: String,
}

/// A place in terms of lines; `line` is 0 for what has none (an environment variable, a missing file).
#[derive(Debug)]
pub struct Position<'a> {
    /// The file as it was named, or the variable.
    pub file: &'a str,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The line up to the place.
    pub before: &'a str,
    /// What is meant, up to the end of the line.
    pub marked: &'a str,
    /// The rest of the line.
    pub after: &'a str,
}

impl Sources {
    fn add(&mut self, name: String, text: String) -> usize {
        self.sources.push(Source { name, text });
        self.sources.len() - 1
    }

    /// The place that stands for the whole configuration: the start of what was read first.
    #[must_use]
    pub fn whole(&self) -> Place {
        Place { source: 0, start: 0, end: 0 }
    }

    /// Where `place` is, in lines and columns.
    #[must_use]
    pub fn position(&self, place: Place) -> Position<'_> {
        let Some(source) = self.sources.get(place.source) else {
            return Position { file: "", line: 0, column: 0, before: "", marked: "", after: "" };
        };
        let text = source.text.as_str();
        let cut = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
        let start = place.start.min(text.len());
        let line_start = cut(0, start).rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = cut(start, text.len()).find('\n').map_or(text.len(), |length| start + length);
        let end = place.end.clamp(start, line_end);
        Position {
            file: &source.name,
            line: if text.is_empty() { 0 } else { cut(0, start).matches('\n').count() + 1 },
            column: cut(line_start, start).chars().count() + 1,
            before: cut(line_start, start),
            marked: cut(start, end),
            after: cut(end, line_end).trim_end(),
        }
    }
}

/// Everything that was written, as one table, with the texts and with what could not be read.
#[derive(Debug, Default)]
pub struct Read {
    /// The merged tables.
    pub table: Table,
    /// The texts.
    pub sources: Sources,
    /// Files that cannot be read, syntax errors, keys set twice.
    pub findings: Vec<Finding>,
    /// Something could not be read at all: what else is found may only follow from that.
    pub is_partial: bool,
}

/// Reads `path` (a file, or a folder whose `*.toml` are read in name order), the device types beside it and in the
/// package's library, and the environment.
#[must_use]
pub fn read(path: &Path) -> Read {
    let mut read = Read::default();
    read.files(path);
    read.libraries(path);
    read.environment(variables());
    read
}

/// The links of the configuration at `path`, the types that it knows, and nothing else of it; where there is none, the types of
/// the libraries.
#[must_use]
pub fn read_types(path: &Path) -> Read {
    let mut read = Read::default();
    if path.exists() {
        read.files(path);
    }
    read.libraries(path);
    read.environment(variables());
    read.table.entries.retain(|entry| ["link", "type"].contains(&&*entry.key));
    read
}

/// Those of this program; a name or value that is no text is none of ours.
fn variables() -> Vec<(String, String)> {
    let text =
        |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    std::env::vars_os().filter_map(text).collect()
}

impl Read {
    /// Adds what stands in `text`, as if it stood in a file called `name`.
    pub fn add_text(&mut self, name: &str, text: &str) {
        let table = self.parse(name.to_owned(), text.to_owned());
        self.merge(table);
    }

    fn files(&mut self, path: &Path) {
        let files = if path.is_dir() { self.toml_files(path) } else { vec![path.to_path_buf()] };
        if files.is_empty() && self.findings.is_empty() {
            self.missing(path, "holds no *.toml file");
        }
        for file in &files {
            self.file(file);
        }
    }

    /// The types beside `path` and in the package's library.
    fn libraries(&mut self, path: &Path) {
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
        for library in [folder.join("types"), PathBuf::from(LIBRARY)] {
            if library.is_dir() {
                self.library(&library);
            }
        }
    }

    /// The configuration in `text`, as if it stood in a file called `name`; nothing else is read.
    #[must_use]
    pub fn from_text(name: &str, text: &str) -> Read {
        let mut read = Read::default();
        read.add_text(name, text);
        read
    }

    fn missing(&mut self, path: &Path, why: &str) {
        let source = self.sources.add(path.display().to_string(), String::new());
        self.findings.push(Finding::new(Place { source, start: 0, end: 0 }, why));
        self.is_partial = true;
    }

    fn toml_files(&mut self, folder: &Path) -> Vec<PathBuf> {
        match std::fs::read_dir(folder) {
            Ok(entries) => {
                let is_toml = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "toml");
                let mut files: Vec<PathBuf> =
                    entries.flatten().map(|entry| entry.path()).filter(is_toml).collect();
                files.sort();
                files
            }
            Err(error) => {
                self.missing(folder, &format!("cannot be read: {error}"));
                Vec::new()
            }
        }
    }

    fn file(&mut self, path: &Path) {
        if let Some(table) = self.parse_file(path) {
            self.merge(table);
        }
    }

    /// Types of a library, each whole and only where the configuration has none of that name; a library holds nothing
    /// else.
    fn library(&mut self, folder: &Path) {
        for file in self.toml_files(folder) {
            let Some(table) = self.parse_file(&file) else { continue };
            for entry in table.entries.iter().filter(|entry| entry.key != "type") {
                let message = format!("a device library holds types only, not `{}`", entry.key);
                self.findings.push(Finding::new(entry.key_at, message));
            }
            let known = self.table.table("type");
            let missing = table.table("type").entries.iter().filter(|entry| known.get(&entry.key).is_none());
            let missing = Table { entries: missing.cloned().collect() };
            let at = self.sources.whole();
            let node = Node { content: Content::Table(missing), at, from_environment: false };
            let types = Table { entries: vec![Entry { key: "type".to_owned(), key_at: at, node }] };
            self.merge(types);
        }
    }

    fn parse_file(&mut self, path: &Path) -> Option<Table> {
        match std::fs::read_to_string(path) {
            Ok(text) => Some(self.parse(path.display().to_string(), text)),
            Err(error) => {
                self.missing(path, &format!("cannot be read: {error}"));
                None
            }
        }
    }

    fn parse(&mut self, name: String, text: String) -> Table {
        let (document, errors) = DeTable::parse_recoverable(&text);
        let source = self.sources.sources.len();
        for error in errors {
            let span = error.span().unwrap_or_default();
            let at = Place { source, start: span.start, end: span.end };
            self.findings.push(Finding::new(at, format!("not TOML: {}", error.message())));
            self.is_partial = true;
        }
        let table = convert_table(document.get_ref(), source);
        self.sources.add(name, text);
        table
    }

    /// Lays a further file over the tree; a key that is set already is a finding that names both places.
    fn merge(&mut self, table: Table) {
        let mut merged = std::mem::take(&mut self.table);
        self.merge_into(&mut merged, table);
        self.table = merged;
    }

    fn merge_into(&mut self, old: &mut Table, new: Table) {
        for entry in new.entries {
            match old.entries.iter_mut().find(|known| known.key == entry.key) {
                None => old.entries.push(entry),
                Some(known) => match (&mut known.node.content, entry.node.content) {
                    (Content::Table(a), Content::Table(b)) => self.merge_into(a, b),
                    _ => self.set_twice(entry.key_at, known.key_at, &entry.key),
                },
            }
        }
    }

    fn set_twice(&mut self, again: Place, first: Place, key: &str) {
        let position = self.sources.position(first);
        let message = format!("`{key}` is set twice: first at {}:{}", position.file, position.line);
        self.findings.push(Finding::new(again, message).with_help("keep one of the two"));
    }

    /// Lays `TIDEGATE__A__B=value` over key `b` of table `a`. Names match without regard to case, and `_` also
    /// matches `-` and `.`, which a variable's name cannot have.
    fn environment(&mut self, variables: Vec<(String, String)>) {
        let ours: config::Map<String, String> =
            variables.into_iter().filter(|(name, _)| name.starts_with("TIDEGATE__")).collect();
        let environment = config::Environment::with_prefix(ENVIRONMENT_PREFIX)
            .prefix_separator("__")
            .separator("__")
            .try_parsing(false)
            .source(Some(ours));
        let Ok(values) = environment.collect() else { return };
        let mut values: Vec<(String, String)> =
            values.into_iter().filter_map(|(key, value)| Some((key, value.into_string().ok()?))).collect();
        values.sort();
        for (key, value) in values {
            let path: Vec<&str> = key.split('.').collect();
            let variable = format!("{ENVIRONMENT_PREFIX}__{}", path.join("__").to_uppercase());
            let source = self.sources.add(variable, String::new());
            let at = Place { source, start: 0, end: 0 };
            overlay(
                &mut self.table,
                &path,
                Node { content: Content::Text(value), at, from_environment: true },
            );
        }
    }
}

fn overlay(table: &mut Table, path: &[&str], node: Node) {
    let Some((first, rest)) = path.split_first() else { return };
    let plain = |key: &str| key.to_lowercase().replace(['-', '.'], "_");
    let index = table.entries.iter().position(|entry| plain(&entry.key) == plain(first));
    let at = node.at;
    let index = index.unwrap_or_else(|| {
        let empty = Node { content: Content::Table(Table::default()), at, from_environment: true };
        table.entries.push(Entry { key: (*first).to_owned(), key_at: at, node: empty });
        table.entries.len() - 1
    });
    let Some(entry) = table.entries.get_mut(index) else { return };
    if rest.is_empty() {
        (entry.key_at, entry.node) = (at, node);
        return;
    }
    if entry.node.table().is_none() {
        entry.node = Node { content: Content::Table(Table::default()), at, from_environment: true };
    }
    if let Content::Table(inner) = &mut entry.node.content {
        overlay(inner, rest, node);
    }
}

fn convert_table(table: &DeTable<'_>, source: usize) -> Table {
    let mut entries: Vec<Entry> = table
        .iter()
        .map(|(key, value)| Entry {
            key: key.get_ref().to_string(),
            key_at: Place { source, start: key.span().start, end: key.span().end },
            node: convert(
                value.get_ref(),
                Place { source, start: value.span().start, end: value.span().end },
            ),
        })
        .collect();
    entries.sort_by_key(|entry| entry.key_at);
    Table { entries }
}

fn convert(value: &DeValue<'_>, at: Place) -> Node {
    let content = match value {
        DeValue::String(text) => Content::Text(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Content::Integer(number),
            // beyond 64 bits: no key takes so large a whole number
            Err(_) => Content::Float(number.to_string().parse().unwrap_or(f64::NAN)),
        },
        DeValue::Float(number) => number.as_str().parse().map_or(Content::Float(f64::NAN), Content::Float),
        DeValue::Boolean(value) => Content::Bool(*value),
        DeValue::Datetime(_) => Content::Date,
        DeValue::Array(values) => Content::List(
            values
                .iter()
                .map(|value| {
                    let span = value.span();
                    convert(value.get_ref(), Place { source: at.source, start: span.start, end: span.end })
                })
                .collect(),
        ),
        DeValue::Table(table) => Content::Table(convert_table(table, at.source)),
    };
    Node { content, at, from_environment: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_overrides_a_key_whatever_the_case_and_the_dashes_of_its_table() {
        let mut read = Read::from_text("a.toml", "[uplink.Cloud-1]\npassword = 'old'");
        read.environment(vec![
            ("TIDEGATE__UPLINK__CLOUD_1__PASSWORD".into(), "007".into()),
            ("OTHER__X".into(), "1".into()),
        ]);
        let uplink = read.table.table("uplink").table("Cloud-1");
        assert_eq!(uplink.get("password").and_then(Node::text), Some("007"));
        assert_eq!(read.table.entries.len(), 1);
    }

    #[test]
    fn a_key_set_in_two_files_names_both_places() {
        let mut read = Read::from_text("a.toml", "[log]\nlevel = 'info'\n");
        let second = read.parse("b.toml".into(), "[log]\nlevel = 'warn'\n".into());
        read.merge(second);
        assert_eq!(read.findings.len(), 1);
        assert_eq!(read.findings[0].message, "`level` is set twice: first at a.toml:2");
        assert_eq!(read.sources.position(read.findings[0].at).file, "b.toml");
    }

    #[test]
    fn every_syntax_error_has_its_line() {
        let read = Read::from_text("a.toml", "[gateway\nname = \n[log]\nlevel = 'info'\n");
        assert!(!read.findings.is_empty());
        let position = read.sources.position(read.findings[0].at);
        assert_eq!((position.file, position.line), ("a.toml", 1));
    }
}
