//! The shape of the house: which stage imports what, who waits, who spawns.

use std::path::Path;

use crate::{files, root};

const VOCABULARY: [&str; 13] = [
    "calendar",
    "clock",
    "counters",
    "dlt645",
    "position",
    "publication",
    "reading",
    "scan",
    "tag",
    "thinning",
    "unit",
    "vitals",
    "write",
];

/// What each stage may import beside the vocabulary, and `config::site` where `config` stands. ARCHITECTURE.md has the
/// same table.
const IMPORTS: &[(&str, &[&str])] = &[
    ("calendar", &[]),
    ("clock", &[]),
    ("expression", &[]),
    ("counters", &[]),
    ("dlt645", &[]),
    ("position", &[]),
    ("publication", &[]),
    ("reading", &[]),
    ("scan", &[]),
    ("tag", &["config"]), // its documentation says what an id indexes
    ("thinning", &[]),
    ("unit", &[]),
    ("vitals", &["config"]),
    ("write", &[]),
    ("tls", &[]),
    ("config", &["config", "expression"]),
    ("link", &["config", "link", "tls"]),
    ("driver", &["config", "driver", "link"]),
    ("poll", &["config", "driver", "link", "poll"]),
    ("normalize", &["config", "expression", "normalize"]),
    ("queue", &["config", "queue"]),
    ("outbox", &[]),
    ("command", &["command", "config", "driver", "expression", "normalize", "poll"]),
    ("sparkplug", &["config", "outbox", "sparkplug"]),
    ("json", &["config", "json", "outbox"]),
    ("uplink", &["config", "json", "outbox", "queue", "sparkplug", "tls", "uplink"]),
    ("sim", &["config", "link", "sim"]),
    ("gateway", &["command", "config", "link", "poll", "normalize", "queue", "uplink"]),
    ("survey", &["config", "driver", "link", "normalize", "survey"]),
    (
        "cli",
        &[
            "cli",
            "command",
            "config",
            "driver",
            "gateway",
            "link",
            "normalize",
            "queue",
            "sim",
            "sparkplug",
            "survey",
        ],
    ),
];

/// Stages that may import more of `config` than the checked site.
const CONFIG_READERS: [&str; 2] = ["config", "cli"];

/// Files that own a socket, a port, a file or a timer; all others decide and never wait.
const ACTING: &[&str] = &[
    "cli.rs",
    "cli/demo.rs",
    "cli/run.rs",
    "cli/scan.rs",
    "cli/simulate.rs",
    "cli/write.rs",
    "clock.rs",
    "clock/facts.rs",
    "clock/kernel.rs",
    "command/act.rs",
    "command/audit.rs",
    "command/broadcast.rs",
    "command/socket.rs",
    "command/task.rs",
    "command/work.rs",
    "driver/client.rs",
    "gateway.rs",
    "gateway/once.rs",
    "link.rs",
    "link/caller.rs",
    "link/listen.rs",
    "link/serial.rs",
    "normalize/keep.rs",
    "normalize/task.rs",
    "poll/lane.rs",
    "poll/memory.rs",
    "poll/task.rs",
    "queue/disk.rs",
    "queue/inspect.rs",
    "queue/memory.rs",
    "queue/recover.rs",
    "queue/store.rs",
    "queue/task.rs",
    "sim/broker.rs",
    "sim/serve.rs",
    "sim/serve/line.rs",
    "sim/serve/site.rs",
    "survey/task.rs",
    "tls.rs",
    "uplink/commands.rs",
    "uplink/mqtt.rs",
    "uplink/mqtt/carry.rs",
    "uplink/mqtt/route.rs",
    "uplink/task.rs",
    "uplink/task/send.rs",
    "vitals/facts.rs",
];

/// The file that may hold `unsafe`.
const UNSAFE: &str = "clock/kernel.rs";

/// Files that may start tasks.
const SPAWNING: &[&str] = &[
    "cli/demo.rs",
    "command/socket.rs",
    "command/task.rs",
    "gateway.rs",
    "gateway/once.rs",
    "link/listen.rs",
    "queue/task.rs",
    "sim/broker.rs",
    "sim/serve.rs",
    "sim/serve/site.rs",
];

/// Every source file: its path below `src`, its stage, and its lines but for tests and comments.
fn sources() -> Vec<(String, String, Vec<String>)> {
    let source = root().join("src");
    let of = |path: &Path| {
        let name = path.strip_prefix(&source).unwrap().to_string_lossy().into_owned();
        let stage = name.split(['/', '.']).next().unwrap().to_owned();
        let text = std::fs::read_to_string(path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let lines = code.lines().map(|line| line.split("//").next().unwrap().to_owned()).collect();
        (name, stage, lines)
    };
    let all = files(&source, "rs");
    all.iter().filter(|path| !path.ends_with("tests.rs")).map(|path| of(path)).collect()
}

/// The words after each `crate::` in a line.
fn imported(line: &str) -> impl Iterator<Item = (&str, &str)> {
    line.match_indices("crate::").map(|(index, prefix)| {
        let path = &line[index + prefix.len()..];
        let first = path.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
        (first, path[first.len()..].strip_prefix("::").unwrap_or_default())
    })
}

#[test]
fn stages_import_downwards_only() {
    let mut faults = Vec::new();
    for (name, stage, lines) in sources() {
        if ["lib", "main"].contains(&stage.as_str()) {
            continue;
        }
        let Some((_, allowed)) = IMPORTS.iter().find(|(known, _)| *known == stage) else {
            panic!("{name}: no row in the import table for {stage}");
        };
        for line in lines {
            for (import, rest) in imported(&line) {
                let is_allowed = VOCABULARY.contains(&import) || allowed.contains(&import);
                let is_site = import != "config"
                    || rest.starts_with("site")
                    || CONFIG_READERS.contains(&stage.as_str());
                if !is_allowed || !is_site {
                    faults.push(format!("{name}: {}", line.trim()));
                }
            }
        }
    }
    assert!(faults.is_empty(), "imports that run upwards:\n{}", faults.join("\n"));
}

#[test]
fn only_acting_files_wait_or_touch_the_system() {
    let signs =
        ["async fn", "async move", ".await", "tokio::", "rustix::", "libc::", "std::fs", "std::net::Tcp"];
    let pure_exceptions = ["config/source.rs", "uplink/bdseq.rs"]; // files, no waiting
    for (name, _, lines) in sources() {
        if ACTING.contains(&name.as_str()) || pure_exceptions.contains(&name.as_str()) {
            continue;
        }
        for line in lines {
            let sign = signs.iter().find(|sign| line.contains(*sign));
            assert!(sign.is_none(), "{name} is a deciding file: {}", line.trim());
        }
    }
}

#[test]
fn tasks_are_started_in_named_files_only() {
    for (name, _, lines) in sources().into_iter().filter(|(name, ..)| !SPAWNING.contains(&name.as_str())) {
        for line in lines {
            assert!(!line.contains(".spawn("), "{name}: {}", line.trim());
        }
    }
}

#[test]
fn unsafe_is_in_one_file_only() {
    let all = [files(&root().join("src"), "rs"), files(&root().join("benches"), "rs")].concat();
    let text = |path: &Path| std::fs::read_to_string(path).unwrap();
    let has_unsafe = |path: &Path| {
        text(path).lines().any(|line| line.split("//").next().unwrap_or_default().contains("unsafe"))
    };
    let found: Vec<_> = all.iter().filter(|path| has_unsafe(path)).collect();
    assert_eq!(found, [&root().join("src").join(UNSAFE)]);
}

#[test]
fn every_acting_and_spawning_file_exists() {
    for name in ACTING.iter().chain(SPAWNING) {
        assert!(root().join("src").join(name).is_file(), "{name}");
    }
}

#[test]
fn the_import_table_of_the_architecture_is_this_one() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for (stage, allowed) in IMPORTS.iter().filter(|(stage, _)| !VOCABULARY.contains(stage)) {
        let others: Vec<&str> = allowed.iter().copied().filter(|other| other != stage).collect();
        let row =
            format!("| {stage} | {} |", if others.is_empty() { "–".to_owned() } else { others.join(", ") });
        assert!(text.contains(&row), "ARCHITECTURE.md lacks the row: {row}");
    }
}
