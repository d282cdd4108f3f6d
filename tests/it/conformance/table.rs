//! The table of docs/sparkplug.md against `ids.txt` and against the tests: every id once, each with a test that exists,
//! names the id above itself and asserts something.

use std::collections::{BTreeMap, BTreeSet};

use crate::{files, root};

/// How an obligation that cannot arise begins; the reason follows, and the test that holds it.
const CANNOT_ARISE: &str = "cannot arise: ";
/// What an operator must do; the reason follows, and the test of our part of it.
const OPERATOR: &str = "the operator's: ";

/// A row: what is asked, and what holds it.
struct Row {
    obligation: String,
    test: String,
}

/// The rows of the table, by id.
fn rows() -> BTreeMap<String, Row> {
    let text = std::fs::read_to_string(root().join("docs/sparkplug.md")).unwrap();
    let mut rows = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `tck-id-")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [id, obligation, test] = cells[..] else { panic!("not three cells: {line}") };
        let row = Row { obligation: obligation.to_owned(), test: test.trim_matches('`').to_owned() };
        let before = rows.insert(id.trim_matches('`').to_owned(), row);
        assert!(before.is_none(), "{id} stands twice");
    }
    rows
}

/// A function of the conformance tests.
#[derive(Debug)]
struct Function {
    is_test: bool,
    /// The ids above it.
    ids: BTreeSet<String>,
    body: String,
}

/// All functions of the conformance tests, by their path.
fn functions() -> BTreeMap<String, Function> {
    let mut all = BTreeMap::new();
    for path in files(&root().join("tests/it/conformance"), "rs") {
        let module = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let (mut ids, mut is_test) = (BTreeSet::new(), false);
        let mut lines = code.lines();
        while let Some(line) = lines.next() {
            if let Some(comment) = line.strip_prefix("/// ") {
                let words = comment.split([' ', ',']).filter(|word| word.starts_with("tck-id-"));
                ids.extend(words.map(str::to_owned));
            } else if line.starts_with("#[test]") || line.starts_with("#[tokio::test]") {
                is_test = true;
            } else if let Some((_, rest)) = line.split_once("fn ")
                && !line.starts_with(' ')
            {
                let name = rest.split(['(', '<']).next().unwrap();
                let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "}").collect();
                let function = Function { is_test, ids: std::mem::take(&mut ids), body: body.join("\n") };
                is_test = false;
                all.insert(format!("conformance::{module}::{name}"), function);
            } else if !line.starts_with("#[") {
                ids.clear();
                is_test = false;
            }
        }
    }
    all
}

/// Whether a body asserts, itself or in a rule that it names.
fn asserts(body: &str, functions: &BTreeMap<String, Function>) -> bool {
    let is_called = |path: &str| body.contains(&format!("{}(", path.trim_start_matches("conformance::")));
    body.contains("assert")
        || functions.iter().any(|(path, rule)| {
            path.starts_with("conformance::rules::") && is_called(path) && rule.body.contains("assert")
        })
}

/// The ids that apply to an edge node.
fn ids() -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("tests/it/conformance/ids.txt")).unwrap();
    text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("tck-id-{line}")).collect()
}

#[test]
fn every_assertion_for_an_edge_node_stands_once_in_the_table_in_words() {
    let (ids, rows) = (ids(), rows());
    assert_eq!(ids.len(), 200);
    let known: BTreeSet<String> = rows.keys().cloned().collect();
    assert_eq!(known, ids);
    for (id, row) in &rows {
        assert!(row.obligation.split(' ').count() >= 3, "{id}: {}", row.obligation);
    }
}

#[test]
fn each_test_of_the_table_exists_names_its_ids_and_asserts() {
    let functions = functions();
    assert!(functions.len() > 40);
    let mut named: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (id, row) in rows() {
        let test = row.test.rsplit('`').next().unwrap();
        let function = functions.get(test).unwrap_or_else(|| panic!("{id}: there is no {test}"));
        assert!(function.is_test, "{id}: {test} is no test");
        assert!(function.ids.contains(&id), "{id} does not stand above {test}");
        assert!(asserts(&function.body, &functions), "{test} asserts nothing");
        let said = row.test.split('`').next().unwrap();
        let has_reason = said.starts_with(CANNOT_ARISE) || said.starts_with(OPERATOR);
        assert!(row.test == test || has_reason, "{id}: {said}");
        named.entry(test.to_owned()).or_default().insert(id);
    }
    for (path, function) in functions.iter().filter(|(_, function)| function.is_test) {
        let in_table = named.remove(path).unwrap_or_default();
        assert_eq!(function.ids, in_table, "above {path} and in the table");
    }
}
