//! From the tree to the site: what the schema cannot say (which names must exist, what must fit what).
//!
//! Every table is first held against the schema; building goes on after a finding, so that all are shown at once.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::expand;
use super::finding::Finding;
use super::schema;
use super::site::{
    self, ClockTrust, Commands, Gateway, IntegerTypes, LogLevel, Login, NodeControl, Password, PrimaryHost,
    Queue, Secret, Shares, Site, Uplink,
};
use super::tree::{Entry, Node, Place, Table};
use super::values::{self, Parsed};

mod alarm;
mod broker;
mod calendar;
mod computed;
mod device;
mod expr;
mod generated;
mod instrument;
mod item;
mod json;
mod layers;
mod link;
mod machine;
mod names;
mod place;
mod recipe;
mod sharing;
mod tag;
mod write;

use device::Shop;

/// The site in `root`, or all findings, in the order of their places. `whole` is where a finding about the whole
/// configuration points; `findings` are those of reading it.
pub(super) fn site(root: &Table, whole: Place, findings: Vec<Finding>) -> Result<Site, Vec<Finding>> {
    let mut build = Build { whole, findings, remarks: Vec::new() };
    schema::walk(root, schema::ROOT, "device", &mut build.findings);
    expand::check_likes(root.table("type"), &mut build.findings);
    let site = build.root(root);
    let mut findings = build.findings;
    findings.sort();
    findings.dedup();
    match site {
        Some(site) if findings.is_empty() => Ok(site),
        _ => Err(findings),
    }
}

/// Collects findings while the site is built.
struct Build {
    whole: Place,
    findings: Vec<Finding>,
    /// What may be meant so, and is odd.
    remarks: Vec<String>,
}

/// The value of `key` where there is one and the schema has let it pass.
fn value<T>(table: &Table, key: &str, parse: impl Fn(&Node) -> Parsed<T>) -> Option<T> {
    table.get(key).and_then(|node| parse(node).ok())
}

fn duration_or(table: &Table, key: &str, default: Duration) -> Duration {
    value(table, key, values::duration).unwrap_or(default)
}

fn flag_or(table: &Table, key: &str, default: bool) -> bool {
    value(table, key, values::boolean).unwrap_or(default)
}

/// An alarm that stays active until somebody acknowledges it, where nobody can.
fn never_acknowledged(step: &site::Step, devices: &[site::Device]) -> Option<String> {
    let site::Step::Alarm(alarm) = step else { return None };
    let device = devices.get(alarm.device.index()).filter(|_| alarm.rule.latch)?;
    Some(format!(
        "device `{}`, alarm `{}`: latch = true keeps it active until it is acknowledged, and that is a command: \
         enabled = true in [commands], else it stays active for ever",
        device.name, alarm.name
    ))
}

impl Build {
    fn find(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    fn root(&mut self, root: &Table) -> Option<Site> {
        let gateway = self.gateway(root);
        let links = link::build(self, root.table("link"));
        let uplinks = self.uplinks(root.table("uplink"), gateway.as_ref());
        let queue = self.queue(root.table("queue"));
        let commands = self.commands(root.table("commands"), root.table("uplink"));
        let calendar = calendar::of_gateway(self, root.table("gateway"));
        let window = self.window(root.table("uplink"), &uplinks);
        let Shop { devices, tags, steps, totals } = device::build(self, root, window, calendar.as_ref());
        json::check_topics(self, &root.table("uplink").entries, &uplinks, &devices, &tags);
        link::check_broadcasts(self, root.table("link"), &devices, commands.enabled);
        if !commands.enabled {
            self.remarks.extend(steps.iter().filter_map(|step| never_acknowledged(step, &devices)));
        }
        if devices.is_empty() && self.findings.is_empty() {
            let finding = Finding::new(self.whole, "there is no device to read");
            self.find(finding.with_help("describe one: [device.NAME] with link, unit and type or tags"));
        }
        Some(Site {
            gateway: gateway?,
            links: links.into_iter().collect::<Option<Vec<_>>>()?,
            devices,
            tags,
            calendar: calendar?,
            steps,
            totals,
            uplinks: uplinks.into_iter().collect::<Option<Vec<_>>>()?,
            queue,
            commands,
            log_level: log_level(root.table("log")),
            publish: value(root.table("status"), "publish", values::publish).unwrap_or(Some(site::PUBLISH)),
            remarks: std::mem::take(&mut self.remarks),
            fingerprint: root.fingerprint(),
        })
    }

    /// How long the windows are that tags of class "aggregate" leave in; `None`: every uplink has their readings, or
    /// nothing of them.
    fn window(&mut self, table: &Table, uplinks: &[Option<Uplink>]) -> Option<Duration> {
        let mut window = None;
        for (entry, uplink) in table.entries.iter().zip(uplinks) {
            let (Some(uplink), Some(table)) = (uplink, entry.node.table()) else { continue };
            let node = table.get("aggregate");
            if !uplink.share.takes_aggregates_only() {
                if let Some(node) = node {
                    let finding =
                        Finding::new(node.at, "`aggregate` has no effect: readings leave here as they are");
                    self.find(
                        finding
                            .with_help("write share = [\"cluster\", \"aggregate\"]: without \"enterprise\""),
                    );
                }
                continue;
            }
            let length = value(table, "aggregate", values::window).unwrap_or(site::AGGREGATE);
            if *window.get_or_insert(length) != length {
                let finding = Finding::new(
                    node.map_or(entry.key_at, |node| node.at),
                    "another uplink has windows of another length",
                );
                self.find(finding.with_help("write the same `aggregate` for all of them"));
            }
        }
        window
    }

    fn queue(&mut self, table: &Table) -> Queue {
        let max_size = value(table, "max_size", values::size).unwrap_or(site::QUEUE_SIZE);
        if let Some(node) = table.get("max_size").filter(|_| max_size < site::QUEUE_SIZE_MIN) {
            self.find(Finding::new(node.at, "`max_size` must be at least \"1MiB\""));
        }
        Queue {
            max_size,
            max_age: value(table, "max_age", values::interval),
            flush: duration_or(table, "flush", site::QUEUE_FLUSH),
            is_offline_only: table.get("mode").and_then(Node::text) == Some("offline"),
            replay_window: duration_or(table, "replay_window", Duration::ZERO),
        }
    }

    fn commands(&mut self, table: &Table, uplinks: &Table) -> Commands {
        let names = table.get("uplinks").map(Node::one_or_many);
        for node in names.unwrap_or_default() {
            let name = node.text().unwrap_or_default();
            if values::is_name(name) && uplinks.get(name).is_none() {
                self.find(expand::unknown("uplink", name, node.at, uplinks));
            }
        }
        let max_age = duration_or(table, "max_age", site::COMMAND_AGE);
        if let Some(node) = table.get("max_age").filter(|_| max_age > site::COMMAND_AGE_MAX) {
            self.find(Finding::new(node.at, "`max_age` must be at most \"1h\""));
        }
        let all = || uplinks.entries.iter().map(|entry| shared(&entry.key)).collect();
        let node_control = match table.get("node_control") {
            None => NodeControl::default(),
            Some(node) => {
                let has = |word| node.one_or_many().iter().any(|node| node.text() == Some(word));
                NodeControl { reload: has("reload"), next_server: has("next-server") }
            }
        };
        Commands {
            enabled: flag_or(table, "enabled", false),
            max_age,
            uplinks: names
                .map_or_else(all, |nodes| nodes.iter().filter_map(Node::text).map(shared).collect()),
            node_control,
        }
    }

    /// The text under a key that must be there.
    fn needed(&mut self, table: &Table, key: &str, of: &str, at: Place) -> Option<String> {
        if table.get(key).is_none() {
            self.find(Finding::new(at, format!("{of} needs `{key}`")));
        }
        value(table, key, values::text)
    }

    fn gateway(&mut self, root: &Table) -> Option<Gateway> {
        let table = root.table("gateway");
        let at = root.entry("gateway").map_or(self.whole, |entry| entry.key_at);
        let name = self.needed(table, "name", "[gateway]", at);
        let enterprise = self.needed(table, "enterprise", "[gateway]", at);
        if let Some(node) = table.get("enterprise").filter(|node| node.text() == Some("STATE")) {
            self.find(Finding::new(
                node.at,
                "`enterprise` must not be \"STATE\": Sparkplug hosts use that word",
            ));
        }
        Some(Gateway {
            name: name?.into(),
            enterprise: enterprise?.into(),
            site: value(table, "site", values::text),
            title: value(table, "title", values::text),
            properties: value(table, "properties", values::properties).unwrap_or_default(),
            state_dir: value(table, "state_dir", values::text)
                .map_or_else(|| PathBuf::from(site::STATE_DIR), PathBuf::from),
            clock: match table.get("clock").and_then(Node::text) {
                Some("system") => ClockTrust::System,
                _ => ClockTrust::Auto,
            },
        })
    }

    fn uplinks(&mut self, uplinks: &Table, gateway: Option<&Gateway>) -> Vec<Option<Uplink>> {
        if uplinks.entries.is_empty() {
            let finding = Finding::new(self.whole, "there is no uplink to deliver to");
            self.find(finding.with_help("write [uplink.cloud] with broker = \"mqtt://127.0.0.1:1883\""));
        }
        let built: Vec<Option<Uplink>> =
            uplinks.entries.iter().map(|entry| self.uplink(entry, gateway)).collect();
        for (index, (entry, uplink)) in uplinks.entries.iter().zip(&built).enumerate() {
            let before = built.iter().take(index).flatten();
            let Some(uplink) = uplink else { continue };
            let shares = |other: &Uplink| other.brokers.iter().any(|broker| uplink.brokers.contains(broker));
            if before.filter(|other| other.client_id == uplink.client_id).any(shares) {
                let finding = Finding::new(
                    entry.key_at,
                    "another uplink has this broker and this client id: they would evict each other",
                );
                self.find(finding.with_help("give one of them a `client_id` of its own"));
            }
        }
        built
    }

    fn uplink(&mut self, entry: &Entry, gateway: Option<&Gateway>) -> Option<Uplink> {
        self.check_name("uplink", entry);
        let table = entry.node.table()?;
        let proxy = broker::proxy(self, table);
        let brokers = broker::brokers(self, entry, table, proxy.as_ref());
        let login = self.login(table);
        let payload = json::payload(self, entry, table, gateway);
        let default_id = gateway.map(|gateway| format!("{}/{}", gateway.enterprise, gateway.name));
        let keep_alive = duration_or(table, "keep_alive", site::KEEP_ALIVE);
        if !(1..=65535).contains(&keep_alive.as_secs()) {
            let at = table.get("keep_alive").map_or(entry.key_at, |node| node.at);
            self.find(Finding::new(at, "`keep_alive` must be \"1s\" to \"65535s\""));
        }
        let protocol = broker::protocol(self, table, keep_alive);
        let tls = broker::tls(self, table, brokers.as_deref());
        Some(Uplink {
            name: entry.key.as_str().into(),
            brokers: brokers?,
            protocol,
            tls,
            proxy,
            client_id: value(table, "client_id", values::text).or(default_id)?,
            login,
            keep_alive,
            birth_jitter: duration_or(table, "birth_jitter", site::BIRTH_JITTER),
            reconnect_max: duration_or(table, "reconnect_max", site::RECONNECT_MAX),
            payload: payload?,
            aliases: flag_or(table, "aliases", false),
            types: match table.get("types").and_then(Node::text) {
                Some("exact") => IntegerTypes::Exact,
                _ => IntegerTypes::Wide,
            },
            datatype_in_data: flag_or(table, "datatype_in_data", false),
            history_rate: value(table, "history_rate", values::rate).unwrap_or(site::HISTORY_RATE),
            primary_host: self.primary_host(table),
            share: shares(table),
            budget: value(table, "budget", values::budget),
            plan: value(table, "plan", values::topic_filter),
        })
    }

    fn primary_host(&mut self, table: &Table) -> Option<PrimaryHost> {
        let id = value(table, "primary_host", values::name);
        if let (None, Some(node)) = (&id, table.get("state_format")) {
            self.find(Finding::new(node.at, "`state_format` is about a `primary_host`, and there is none"));
        }
        let is_2_2 = table.get("state_format").and_then(Node::text) == Some("2.2");
        Some(PrimaryHost { id: id?.into(), is_2_2 })
    }

    fn login(&mut self, table: &Table) -> Option<Login> {
        let given = value(table, "password", values::secret).map(|text| Password::Given(Secret::new(text)));
        let file = value(table, "password_file", values::text).map(|path| Password::File(path.into()));
        let is_overridden = table.get("password").is_some_and(|node| node.from_environment);
        if let (Some(_), Some(_), Some(entry), false) =
            (&given, &file, table.entry("password_file"), is_overridden)
        {
            self.find(Finding::new(entry.key_at, "both `password` and `password_file` are set: keep one"));
        }
        let password = given.or(file);
        match (value(table, "username", values::text), password) {
            (Some(username), password) => {
                Some(Login { username, password: password.unwrap_or(Password::None) })
            }
            (None, Some(_)) => {
                let entry = table.entry("password").or(table.entry("password_file"))?;
                self.find(Finding::new(entry.key_at, "a password without `username`"));
                None
            }
            (None, None) => None,
        }
    }

    fn check_name(&mut self, what: &str, entry: &Entry) {
        if !values::is_name(&entry.key) {
            let message =
                format!("a {what}'s name is ASCII letters, digits, `_`, `.`, `-`, got \"{}\"", entry.key);
            self.find(Finding::new(entry.key_at, message));
        }
    }
}

fn shares(table: &Table) -> Shares {
    let Some(node) = table.get("share") else { return Shares::default() };
    Shares::new(node.one_or_many().iter().filter_map(|one| values::share(one).ok()).collect())
}

fn log_level(table: &Table) -> LogLevel {
    match table.get("level").and_then(Node::text) {
        Some("error") => LogLevel::Error,
        Some("warn") => LogLevel::Warn,
        Some("debug") => LogLevel::Debug,
        Some("trace") => LogLevel::Trace,
        _ => LogLevel::Info,
    }
}

/// A shared name.
fn shared(text: &str) -> Arc<str> {
    text.into()
}
