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
pub(super) fn expand_devices(devices: &Table, links: &Table, findings: &mut Vec<Finding>) -> Vec<Instance> {
    let mut instances: Vec<Instance> = Vec::new();
    let mut refining: Vec<&Entry> = Vec::new();
    for entry in &devices.entries {
        let Some(fields) = entry.node.table() else { continue };
        if entry.key.contains('{') {
            instances.extend(expand(entry, fields, links, findings));
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

/// One instance for each value of each placeholder in the name; of two placeholders, for every combination.
fn expand(entry: &Entry, fields: &Table, links: &Table, findings: &mut Vec<Finding>) -> Vec<Instance> {
    let rest = entry.key.replace("{unit}", "").replace("{caller}", "");
    if rest.contains(['{', '}']) {
        let message = "a device's name may hold {unit} and {caller}; {address} is not in this version";
        findings.push(Finding::new(entry.key_at, message));
        return Vec::new();
    }
    let mut instances = vec![Instance { name: entry.key.clone(), fields: fields.clone(), at: entry.key_at }];
    for key in ["unit", "caller"].into_iter().filter(|key| entry.key.contains(&format!("{{{key}}}"))) {
        let contents = match placeholder(key, entry, fields, links) {
            Ok(contents) => contents,
            Err(finding) => {
                findings.push(finding);
                return Vec::new();
            }
        };
        let fill_one = |instance: &Instance| -> Vec<Instance> {
            contents.iter().map(|content| instance.filled(key, content)).collect()
        };
        instances = instances.iter().flat_map(fill_one).collect();
    }
    instances
}

/// What stands for `{key}`, one after the other.
fn placeholder(key: &str, entry: &Entry, fields: &Table, links: &Table) -> Result<Vec<Content>, Finding> {
    let Some(node) = fields.get(key) else {
        let example = if key == "unit" { "unit = \"1-4\"" } else { "caller = [\"lathe-1\", \"lathe-2\"]" };
        let finding =
            Finding::new(entry.key_at, format!("the name holds {{{key}}}, but the entry has no `{key}`"));
        return Err(finding.with_help(format!("write `{example}`")));
    };
    if key == "unit" {
        let units =
            values::units(node).map_err(|message| Finding::new(node.at, format!("`unit`: {message}")))?;
        return Ok(units.into_iter().map(|unit| Content::Integer(unit.into())).collect());
    }
    if node.text() != Some("*") {
        return Ok(node.one_or_many().iter().map(|node| node.content.clone()).collect());
    }
    let link = links.table(fields.get("link").and_then(Node::text).unwrap_or_default());
    match link.get("callers").map(values::callers) {
        Some(Ok(callers)) => Ok(callers.values().map(|name| Content::Text(name.to_string())).collect()),
        _ => {
            Err(Finding::new(node.at, "\"*\" stands for the callers that the link names, and it names none")
                .with_help("name them there: callers = { ID = \"NAME\" }"))
        }
    }
}

impl Instance {
    /// The instance with this content for `key`, filled in wherever `{key}` stands.
    fn filled(&self, key: &str, content: &Content) -> Instance {
        let text = match content {
            Content::Integer(number) => number.to_string(),
            Content::Text(text) => text.clone(),
            Content::Bool(_) | Content::Float(_) | Content::Date | Content::List(_) | Content::Table(_) => {
                String::new()
            }
        };
        let fill = |with: &str| with.replace(&format!("{{{key}}}"), &text);
        let mut fields = self.fields.map_text(&fill);
        for field in fields.entries.iter_mut().filter(|field| field.key == key) {
            field.node.content = content.clone();
        }
        Instance { name: fill(&self.name), fields, at: self.at }
    }
}
