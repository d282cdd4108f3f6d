//! Group, node and device ids, as the configuration takes them.

use tidegate::config::{self, finding};

/// What `check` says of a configuration with these names.
fn findings(enterprise: &str, name: &str, device: &str, tag: &str) -> String {
    let text = format!(
        "[gateway]\nname = \"{name}\"\nenterprise = \"{enterprise}\"\n[uplink.u]\nbroker = \"mqtt://127.0.0.1\"\n\
         [link.l]\ntcp = \"127.0.0.1:502\"\n[device.\"{device}\"]\nlink = \"l\"\ntags = [{{ name = \"{tag}\", at = \"hr:0\" }}]\n"
    );
    let checked = config::parse("c.toml", &text);
    finding::render_text(&checked.site.err().unwrap_or_default(), &checked.sources)
}

/// tck-id-intro-group-id-string, tck-id-intro-group-id-chars, tck-id-intro-edge-node-id-string,
/// tck-id-intro-edge-node-id-chars, tck-id-intro-device-id-string, tck-id-intro-device-id-chars,
/// tck-id-topic-structure-namespace-valid-group-id, tck-id-topic-structure-namespace-valid-edge-node-id,
/// tck-id-topic-structure-namespace-valid-device-id
#[test]
fn ids_that_a_topic_cannot_hold_are_refused() {
    assert_eq!(findings("e", "n-1_a.b", "d", "folder/tag"), "");
    for id in ["", "a+b", "a/b", "a#b", "+", "#", "a b", "\\u0000", "二车间"] {
        assert!(findings(id, "n", "d", "t").contains("`enterprise`"), "enterprise {id:?}");
        assert!(findings("e", id, "d", "t").contains("`name`"), "name {id:?}");
        let found = findings("e", "n", id, "t");
        assert!(!found.is_empty(), "device {id:?}");
    }
}

/// tck-id-topic-structure-namespace-unique-device-id,
/// tck-id-topic-structure-namespace-duplicate-device-id-across-edge-node
#[test]
fn a_device_and_a_metric_are_named_once() {
    let twice = "[gateway]\nname = \"n\"\nenterprise = \"e\"\n[uplink.u]\nbroker = \"mqtt://127.0.0.1\"\n\
         [link.l]\ntcp = \"127.0.0.1:502\"\n[device.\"d{unit}\"]\nlink = \"l\"\nunit = \"1-2\"\ntags = [{ name = \"t\", at = \"hr:0\" }]\n\
         [device.d2]\nlink = \"l\"\ntags = [{ name = \"t\", at = \"hr:0\" }]\n";
    let found = config::parse("c.toml", twice).site.unwrap_err();
    assert!(!found.is_empty());
    let metric = twice.replace("tags = [{ name", "tags = [{ name = \"t\", at = \"hr:9\" }, { name");
    assert!(config::parse("c.toml", &metric).site.unwrap_err().len() > found.len());
}

/// tck-id-case-sensitivity-sparkplug-ids, tck-id-case-sensitivity-metric-names
#[test]
fn names_that_differ_in_capitals_only_are_refused() {
    let text = "[gateway]\nname = \"n\"\nenterprise = \"e\"\n[uplink.u]\nbroker = \"mqtt://127.0.0.1\"\n\
         [link.l]\ntcp = \"127.0.0.1:502\"\n[device.oven]\nlink = \"l\"\nunit = 1\n\
         tags = [{ name = \"t\", at = \"hr:0\" }, { name = \"T\", at = \"hr:1\" }]\n\
         [device.Oven]\nlink = \"l\"\nunit = 2\ntags = [{ name = \"t\", at = \"hr:0\" }]\n";
    let checked = config::parse("c.toml", text);
    let found = finding::render_text(&checked.site.unwrap_err(), &checked.sources);
    for name in ["tag `T` is described twice", "device `Oven` is described twice"] {
        assert!(found.contains(name), "{found}");
    }
}
