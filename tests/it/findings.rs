//! What `check` says of broken configurations: each `findings/NAME.toml` has its `NAME.txt`.

use crate::{files, root};
use tidegate::config::site::ClockTrust;
use tidegate::config::{self, finding};

#[test]
fn each_broken_configuration_has_its_findings() {
    let mut faults = Vec::new();
    let configurations = files(&root().join("tests/it/findings"), "toml");
    assert!(configurations.len() >= 5);
    for path in configurations {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let checked = config::parse(&name, &std::fs::read_to_string(&path).unwrap());
        let findings = checked.site.err().unwrap_or_default();
        let shown = finding::render_text(&findings, &checked.sources);
        let kept_path = path.with_extension("txt");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&kept_path, &shown).unwrap();
        }
        let kept = std::fs::read_to_string(&kept_path).unwrap_or_default();
        if shown != kept || findings.is_empty() {
            faults.push(format!("--- {name}: expected\n{kept}--- got\n{shown}"));
        }
    }
    assert!(faults.is_empty(), "(UPDATE=1 takes what is got)\n{}", faults.join("\n"));
}

#[test]
fn the_configurations_that_we_ship_are_fine() {
    let types = root().join("configs/types"); // checked with a device of each
    for path in files(&root().join("configs"), "toml").iter().filter(|path| !path.starts_with(&types)) {
        let checked = config::load(path);
        if let Err(findings) = checked.site {
            panic!("{}", finding::render_text(&findings, &checked.sources));
        }
    }
}

/// The configuration in a README or a document is one that works.
#[test]
fn the_configurations_in_the_documents_are_fine() {
    let mut seen = 0;
    for document in ["README.md", "docs/configuration.md"] {
        let text = std::fs::read_to_string(root().join(document)).unwrap();
        for block in text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()) {
            if !block.contains("[gateway]") {
                continue;
            }
            seen += 1;
            let checked = config::parse(document, block);
            if let Err(findings) = checked.site {
                panic!("{}", finding::render_text(&findings, &checked.sources));
            }
        }
    }
    assert!(seen >= 2, "README and the configuration reference each show a whole configuration");
}

#[test]
fn the_system_clock_is_judged_unless_it_is_said_to_be_right() {
    let shipped = std::fs::read_to_string(root().join("configs/demo.toml")).unwrap();
    let written = "clock = \"system\"\n";
    assert!(shipped.contains(written));
    for (line, expected) in
        [(written, ClockTrust::System), ("clock = \"auto\"\n", ClockTrust::Auto), ("", ClockTrust::Auto)]
    {
        let site = config::parse("c.toml", &shipped.replace(written, line)).site.unwrap();
        assert_eq!(site.gateway.clock, expected, "{line}");
    }
}
