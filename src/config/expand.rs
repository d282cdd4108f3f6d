//! From entries as written to types and devices: `like`, ranged entries (`"oven{unit}"`), refining tables.

use super::finding::{Finding, did_you_mean};
use super::tree::{Content, Entry, Node, Place, Table};
use super::values;

/// Keys of a type that say how it is described, not what it is: not inherited.
const OWN_KEYS: [&str; 2] = ["variants", "examples"];

/// The type called `name` with everything that it inherits; `None` where there is no such type.
pub(super) fn resolve_type(types: &Table, name: &str) -> Option<Table> {
    resolve(types, name, &mut Vec::new())
}

fn resolve(types: &Table, name: &str, seen: &mut Vec<String>) -> Option<Table> {
    let own = types.get(name)?.table()?;
    seen.push(name.to_owned());
    let base = own.get("like").and_then(Node::text).filter(|base| !seen.iter().any(|known| known == base));
    let Some(base) = base.and_then(|base| resolve(types, base, seen)) else { return Some(own.clone()) };
    let base = OWN_KEYS.iter().fold(base, |table, key| table.without(key));
    Some(base.refined_by(own))
}

/// Types that are like one that does not exist, or like themselves.
pub(super) fn check_likes(types: &Table, findings: &mut Vec<Finding>) {
    for entry in &types.entries {
        let mut seen = vec![entry.key.as_str()];
        let mut own = entry.node.table();
        while let Some(like) = own.and_then(|own| own.get("like")) {
            let Some(name) = like.text() else { break };
            if seen.contains(&name) {
                findings.push(Finding::new(like.at, format!("type `{name}` is like itself")));
                break;
            }
            if types.get(name).is_none() {
                findings.push(unknown("type", name, like.at, types));
                break;
            }
            seen.push(name);
            own = types.get(name).and_then(Node::table);
        }
    }
}

/// A name that stands for nothing.
pub(super) fn unknown(what: &str, name: &str, at: Place, known: &Table) -> Finding {
    let names: Vec<&str> = known.entries.iter().map(|entry| entry.key.as_str()).collect();
    let finding = Finding::new(at, format!("there is no {what} `{name}`"));
    match did_you_mean(name, names.iter().copied()) {
        Some(help) => finding.with_help(help),
        None if names.is_empty() => finding.with_help(format!("describe it: [{what}.{name}]")),
        None => finding.with_help(format!("there is: {}", names.join(" "))),
    }
}

/// One device after expansion.
#[derive(Debug)]
pub(super) struct Instance {
    /// Its name, filled in.
    pub(super) name: String,
    /// Its keys, filled in and refined.
    pub(super) fields: Table,
    /// Where its entry begins.
    pub(super) at: Place,
}

/// All devices: ranged entries multiplied out, refining tables merged into the instance that they name.
pub(super) fn expand_devices(devices: &Table, findings: &mut Vec<Finding>) -> Vec<Instance> {
    let mut instances: Vec<Instance> = Vec::new();
    let mut refining: Vec<&Entry> = Vec::new();
    for entry in &devices.entries {
        let Some(fields) = entry.node.table() else { continue };
        if entry.key.contains('{') {
            instances.extend(expand(entry, fields, findings));
        } else if fields.get("link").is_some() {
            instances.push(Instance { name: entry.key.clone(), fields: fields.clone(), at: entry.key_at });
        } else {
            refining.push(entry);
        }
    }
    for entry in refining {
        refine(entry, &mut instances, findings);
    }
    instances
}

fn refine(entry: &Entry, instances: &mut [Instance], findings: &mut Vec<Finding>) {
    let Some(fields) = entry.node.table() else { return };
    match instances.iter_mut().find(|instance| instance.name == entry.key) {
        Some(instance) => instance.fields = instance.fields.refined_by(fields),
        None => findings.push(
            Finding::new(entry.key_at, format!("device `{}` has no link", entry.key))
                .with_help("write `link = \"NAME\"`, or give it the name of one device of a ranged entry"),
        ),
    }
}

fn expand(entry: &Entry, fields: &Table, findings: &mut Vec<Finding>) -> Vec<Instance> {
    let rest = entry.key.replace("{unit}", "");
    if rest.contains(['{', '}']) {
        let message = "a device's name may hold {unit}; {address} and {caller} are not in this version";
        findings.push(Finding::new(entry.key_at, message));
        return Vec::new();
    }
    let Some(node) = fields.get("unit") else {
        let finding = Finding::new(entry.key_at, "the name holds {unit}, but the entry has no `unit`");
        findings.push(finding.with_help("write `unit = \"1-4\"`"));
        return Vec::new();
    };
    match values::units(node) {
        Ok(units) => units.into_iter().map(|unit| instance(entry, fields, node, unit)).collect(),
        Err(message) => {
            findings.push(Finding::new(node.at, format!("`unit`: {message}")));
            Vec::new()
        }
    }
}

fn instance(entry: &Entry, fields: &Table, unit_node: &Node, unit: u8) -> Instance {
    let fill = |text: &str| text.replace("{unit}", &unit.to_string());
    let mut fields = fields.map_text(&fill);
    for field in fields.entries.iter_mut().filter(|field| field.key == "unit") {
        field.node = Node { content: Content::Integer(i64::from(unit)), ..unit_node.clone() };
    }
    Instance { name: fill(&entry.key), fields, at: entry.key_at }
}
