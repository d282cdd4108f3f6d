//! Which keys there are, and what each may hold: the configuration reference as data, and the walk that holds a tree
//! against it.

use super::finding::{Finding, did_you_mean};
use super::topic;
use super::tree::{Content, Node, Place, Table};
use super::values::{self, Parsed, at, codes};
use crate::unit;

/// The keys of a table.
pub(super) type Fields = &'static [(&'static str, Rule)];

/// What a key may hold.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule {
    /// One value.
    Value(fn(&Node) -> Parsed<()>),
    /// One value or a list of such.
    OneOrMany(fn(&Node) -> Parsed<()>),
    /// A unit of the vocabulary.
    Unit,
    /// A table with these keys.
    Table(Fields),
    /// A table of tables with these keys, by name.
    Named(Fields),
    /// A list of tables with these keys.
    Tables(Fields),
    /// A table with these keys, a list of such, or "none".
    TablesOrNone(Fields),
}

const TEXT: Rule = Rule::Value(|node| values::text(node).map(drop));
const SECRET: Rule = Rule::Value(|node| values::secret(node).map(drop));
const NAME: Rule = Rule::Value(|node| values::name(node).map(drop));
const BOOL: Rule = Rule::Value(|node| values::boolean(node).map(drop));
const DURATION: Rule = Rule::Value(|node| values::duration(node).map(drop));
const INTERVAL: Rule = Rule::Value(|node| values::interval(node).map(drop));
const EVERY: Rule = Rule::Value(|node| values::every(node).map(drop));
const REPORT: Rule = Rule::Value(|node| values::report(node).map(drop));
const ORDER: Rule = Rule::Value(|node| values::order(node).map(drop));
const DATA_TYPE: Rule = Rule::Value(|node| values::data_type(node).map(drop));
const SCALE: Rule = Rule::Value(|node| values::scale(node).map(drop));
const NUMBER: Rule = Rule::Value(|node| values::number(node).map(drop));
const LIMIT: Rule = Rule::Value(|node| values::limit(node).map(drop));
/// A tag of this device, or `device:tag`.
const NAMED_TAG: Rule = Rule::Value(|node| values::named_tag(node).map(drop));
const TAG_NAMES: Rule = Rule::OneOrMany(|node| values::named_tag(node).map(drop));
const TAG_NAME: Rule = Rule::Value(|node| values::tag_name(node).map(drop));
/// Whether the number fits depends on the type's base and areas: that is looked at when the tag is built.
const AT: Rule = Rule::Value(|node| at::text(node).map(drop));
const AREAS: Rule = Rule::Value(|node| at::areas(node).map(drop));
const ENCODING: Rule = Rule::Value(|node| values::encoding(node).map(drop));
const PATTERN: Rule = Rule::Value(|node| values::pattern(node).map(drop));
const SHARE: Rule = Rule::Value(|node| values::share(node).map(drop));
const PROPERTIES: Rule = Rule::Value(|node| values::properties(node).map(drop));
const NOTES: Rule = Rule::OneOrMany(|node| values::text(node).map(drop));
const CONFIDENCE: Rule = Rule::Value(|node| values::choice(node, &["A", "B"]).map(drop));

const fn whole<const LOW: i64, const HIGH: i64>() -> Rule {
    Rule::Value(|node| values::integer(node, LOW, HIGH).map(drop))
}

/// A choice of which only some words are in this version.
fn only(node: &Node, now: &[&str], later: &[&str]) -> Parsed<()> {
    match node.text() {
        Some(word) if later.contains(&word) => Err(format!("\"{word}\" is not in this version")),
        _ => values::choice(node, now).map(drop),
    }
}

const PROTOCOL: Rule = Rule::Value(|node| values::choice(node, &["modbus", "dlt645", "serial"]).map(drop));

/// All tables.
pub(super) const ROOT: Fields = &[
    ("gateway", Rule::Table(GATEWAY)),
    ("uplink", Rule::Named(UPLINK)),
    ("link", Rule::Named(LINK)),
    ("type", Rule::Named(TYPE)),
    ("device", Rule::Named(DEVICE)),
    ("status", Rule::Table(STATUS)),
    ("log", Rule::Table(LOG)),
    ("queue", Rule::Table(QUEUE)),
    ("commands", Rule::Table(COMMANDS)),
];

const GATEWAY: Fields = &[
    ("name", NAME),
    ("enterprise", NAME),
    ("site", TEXT),
    ("title", TEXT),
    ("state_dir", TEXT),
    ("timezone", TEXT),
    ("language", Rule::Value(|node| only(node, &["en"], &["zh"]))),
    ("properties", PROPERTIES),
    ("shifts", SHIFTS),
    ("breaks", BREAKS),
    ("workdays", WORKDAYS),
    ("clock", Rule::Value(|node| values::choice(node, &["auto", "system"]).map(drop))),
];

const UPLINK: Fields = &[
    ("broker", Rule::OneOrMany(|node| values::text(node).map(drop))),
    ("protocol", Rule::Value(|node| values::choice(node, &["3.1.1", "5"]).map(drop))),
    ("payload", Rule::Value(|node| values::choice(node, &["sparkplug", "json"]).map(drop))),
    ("client_id", TEXT),
    ("username", TEXT),
    ("password", SECRET),
    ("password_file", TEXT),
    ("insecure", BOOL),
    ("keep_alive", Rule::Value(|node| values::interval(node).map(drop))),
    ("birth_jitter", DURATION),
    ("reconnect_max", INTERVAL),
    ("aliases", BOOL),
    ("types", Rule::Value(|node| values::choice(node, &["wide", "exact"]).map(drop))),
    ("datatype_in_data", BOOL),
    ("ca_file", TEXT),
    ("cert_file", TEXT),
    ("key_file", TEXT),
    ("proxy", TEXT),
    ("primary_host", NAME),
    ("state_format", Rule::Value(|node| values::choice(node, &["3.0", "2.2"]).map(drop))),
    ("share", Rule::OneOrMany(|node| values::share(node).map(drop))),
    ("aggregate", Rule::Value(|node| values::window(node).map(drop))),
    ("budget", Rule::Value(|node| values::budget(node).map(drop))),
    ("plan", Rule::Value(|node| values::topic_filter(node).map(drop))),
    ("confirm", Rule::Value(|node| only(node, &["broker"], &["platform"]))),
    ("history_rate", Rule::Value(|node| values::rate(node).map(drop))),
    ("topic", Rule::Value(|node| topic::template(node).map(drop))),
    ("message", Rule::Value(|node| values::choice(node, &["tag", "device"]).map(drop))),
    ("retain", BOOL),
];

const LINK: Fields = &[
    ("port", TEXT),
    ("serial", Rule::Value(|node| values::serial(node).map(drop))),
    ("tcp", Rule::Value(|node| values::address(node).map(drop))),
    ("connect_timeout", INTERVAL),
    ("framing", Rule::Value(|node| values::choice(node, &["tcp", "rtu", "ascii"]).map(drop))),
    ("rs485", Rule::Value(|node| values::choice(node, &["auto", "rts-on-send"]).map(drop))),
    ("gap", Rule::Value(|node| values::gap(node).map(drop))),
    ("echo", Rule::Value(|node| values::echo(node).map(drop))),
    ("connections", whole::<1, 16>()),
    ("in_flight", whole::<1, 16>()),
    ("idle_close", INTERVAL),
    ("broadcast_time", TEXT),
    ("tls", BOOL),
    ("ca_file", TEXT),
    ("cert_file", TEXT),
    ("key_file", TEXT),
    ("listen", Rule::Value(|node| values::listen(node).map(drop))),
    ("registration", PATTERN),
    ("heartbeat", PATTERN),
    ("prefixed", BOOL),
    ("callers", Rule::Value(|node| values::callers(node).map(drop))),
    ("allow", Rule::OneOrMany(|node| values::network(node).map(drop))),
];

const QUIRKS: Fields = &[
    ("gap", DURATION),
    ("no_cross", whole::<1, 65535>()),
    ("whole_blocks", Rule::Value(|node| values::at::spans(node, 125).map(drop))),
    ("holes", Rule::Value(|node| values::at::spans(node, 65535).map(drop))),
    ("tid", Rule::Value(|node| values::choice(node, &["check", "ignore"]).map(drop))),
    ("unit_reply", Rule::Value(|node| values::choice(node, &["check", "any"]).map(drop))),
    ("write", Rule::Value(|node| values::choice(node, &["auto", "single", "multiple"]).map(drop))),
    ("connect_delay", DURATION),
    ("wake", whole::<0, 8>()),
    ("blocks", BOOL),
];

const QUEUE: Fields = &[
    ("max_size", Rule::Value(|node| values::size(node).map(drop))),
    ("max_age", INTERVAL),
    ("flush", INTERVAL),
    ("mode", Rule::Value(|node| values::choice(node, &["always", "offline"]).map(drop))),
    ("replay_window", DURATION),
];

const COMMANDS: Fields = &[
    ("enabled", BOOL),
    ("max_age", INTERVAL),
    ("uplinks", Rule::OneOrMany(|node| values::name(node).map(drop))),
    (
        "node_control",
        Rule::OneOrMany(|node| values::choice(node, &["rebirth", "reload", "next-server"]).map(drop)),
    ),
];

const WRITE: Fields = &[
    ("min", LIMIT),
    ("max", LIMIT),
    ("step", Rule::Value(|node| values::positive(node).map(drop))),
    ("max_change", Rule::Value(|node| values::positive(node).map(drop))),
    ("allow", Rule::OneOrMany(|node| values::operand(node).map(drop))),
    ("every", DURATION),
    ("interlock", EXPRESSION),
    ("arm", INTERVAL),
    ("readback", Rule::Value(|node| values::readback(node).map(drop))),
    ("function", Rule::Value(|node| values::function(node).map(drop))),
];

const PROBE: Fields = &[
    ("at", AT),
    ("type", DATA_TYPE),
    ("length", whole::<1, 125>()),
    ("order", ORDER),
    ("scale", SCALE),
    ("format", TEXT),
    ("encoding", ENCODING),
    ("between", Rule::Value(|node| values::between(node).map(drop))),
    ("equals", Rule::Value(|node| values::operand(node).map(drop))),
    ("matches", PATTERN),
];

const STATUS: Fields = &[
    (
        "listen",
        Rule::Value(|node| match node.text() {
            Some("off") => Ok(()),
            Some(_) => Err("the status page is not in this version: write \"off\"".to_owned()),
            None => values::text(node).map(drop),
        }),
    ),
    ("publish", Rule::Value(|node| values::publish(node).map(drop))),
];

const LOG: Fields = &[
    (
        "level",
        Rule::Value(|node| values::choice(node, &["error", "warn", "info", "debug", "trace"]).map(drop)),
    ),
    ("format", Rule::Value(|node| only(node, &["text"], &["json"]))),
];

const TYPE: Fields = &[
    ("protocol", PROTOCOL),
    ("like", NAME),
    ("order", ORDER),
    ("max_registers", whole::<1, 125>()),
    ("max_bits", whole::<1, 2000>()),
    ("base", whole::<0, 1>()),
    ("defaults", Rule::Table(TAG_DEFAULTS)),
    ("every", EVERY),
    ("timeout", INTERVAL),
    ("retries", whole::<0, 10>()),
    ("report", REPORT),
    ("tags", Rule::Tables(TAG)),
    ("title", TEXT),
    ("models", NOTES),
    ("source", NOTES),
    ("confidence", CONFIDENCE),
    ("note", TEXT),
    ("variants", Rule::OneOrMany(|node| values::name(node).map(drop))),
    ("probe", Rule::TablesOrNone(PROBE)),
    ("factory", Rule::OneOrMany(|node| values::factory(node).map(drop))),
    ("warmup", DURATION),
    ("stale_after", INTERVAL),
    ("version", Rule::Value(|node| values::choice(node, &["1997", "2007"]).map(drop))),
    ("quirks", Rule::Table(QUIRKS)),
    ("values", Rule::Value(|node| codes::is_tables(node, |node| codes::is_codes(node, codes::word)))),
    ("bits", Rule::Value(|node| codes::is_tables(node, |node| codes::bits(node).map(drop)))),
    ("areas", AREAS),
    ("wake", Rule::Value(|node| values::serial::bytes(node).map(drop))),
    ("send", Rule::Value(|node| values::serial::template(node).map(drop))),
    ("vars", Rule::Value(|node| values::serial::vars(node).map(drop))),
    ("examples", Rule::OneOrMany(|node| values::serial::example(node).map(drop))),
    ("frame", Rule::Value(|node| values::serial::frame(node).map(drop))),
    ("request", Rule::Named(REQUEST)),
    ("derived", Rule::Named(DERIVED)),
    ("alarm", Rule::Named(ALARM)),
    ("machine", Rule::Table(MACHINE)),
];

/// The keys of a device, beside those of its type.
pub(super) const DEVICE: Fields = &[
    ("link", NAME),
    ("unit", Rule::Value(|node| values::units(node).map(drop))),
    ("type", NAME),
    ("protocol", PROTOCOL),
    ("order", ORDER),
    ("max_registers", whole::<1, 125>()),
    ("max_bits", whole::<1, 2000>()),
    ("base", whole::<0, 1>()),
    ("defaults", Rule::Table(TAG_DEFAULTS)),
    ("every", EVERY),
    ("timeout", INTERVAL),
    ("retries", whole::<0, 10>()),
    ("report", REPORT),
    ("tags", Rule::Tables(TAG)),
    ("override", Rule::Named(TAG_DEFAULTS)),
    ("enabled", BOOL),
    ("title", TEXT),
    ("address", TEXT),
    ("caller", Rule::OneOrMany(|node| values::text(node).map(drop))),
    ("serial", Rule::Value(|node| values::serial(node).map(drop))),
    ("share", SHARE),
    ("properties", PROPERTIES),
    ("variants", Rule::OneOrMany(|node| values::name(node).map(drop))),
    ("probe", Rule::TablesOrNone(PROBE)),
    ("warmup", DURATION),
    ("stale_after", INTERVAL),
    ("version", Rule::Value(|node| values::choice(node, &["1997", "2007"]).map(drop))),
    ("quirks", Rule::Table(QUIRKS)),
    ("values", Rule::Value(|node| codes::is_tables(node, |node| codes::is_codes(node, codes::word)))),
    ("bits", Rule::Value(|node| codes::is_tables(node, |node| codes::bits(node).map(drop)))),
    ("areas", AREAS),
    ("vars", Rule::Value(|node| values::serial::vars(node).map(drop))),
    ("derived", Rule::Named(DERIVED)),
    ("alarm", Rule::Named(ALARM)),
    ("machine", Rule::Table(MACHINE)),
];

macro_rules! tag_fields {
    ($($first:tt)*) => {
        &[
            $($first)*
            ("at", AT),
            ("type", Rule::Value(|node| values::serial::field_type(node).map(drop))),
            ("length", whole::<1, 250>()),
            ("order", ORDER),
            ("scale", SCALE),
            ("offset", NUMBER),
            ("unit", Rule::Unit),
            ("every", EVERY),
            ("report", REPORT),
            ("title", TEXT),
            ("note", TEXT),
            ("confidence", CONFIDENCE),
            ("value", Rule::Value(|node| values::constant(node).map(drop))),
            ("format", TEXT),
            ("encoding", ENCODING),
            ("ratio", TAG_NAMES),
            ("scale_from", NAMED_TAG),
            ("decimals_from", NAMED_TAG),
            ("expr", EXPRESSION),
            ("values", Rule::Value(|node| codes::is_codes_or_name(node, codes::word))),
            ("bits", Rule::Value(codes::is_bits_or_name)),
            ("bad_values", Rule::Value(codes::is_bad_values)),
            ("range", Rule::Value(|node| values::range(node).map(drop))),
            ("unit_from", NAMED_TAG),
            ("publish_unit", Rule::Unit),
            ("quality", Rule::Value(|node| codes::is_codes(node, codes::quality))),
            ("quality_from", TAG_NAMES),
            ("kind", Rule::Value(|node| values::kind(node).map(drop))),
            ("wraps_at", Rule::Value(|node| values::positive(node).map(drop))),
            ("max_rate", Rule::Value(|node| values::rate(node).map(drop))),
            ("deadband", DEADBAND),
            ("stuck_after", INTERVAL),
            ("stale_after", INTERVAL),
            ("share", SHARE),
            ("write", Rule::Table(WRITE)),
            ("optional", BOOL),
        ]
    };
}

const REQUEST: Fields = &[
    ("send", Rule::Value(|node| values::serial::template(node).map(drop))),
    ("vars", Rule::Value(|node| values::serial::vars(node).map(drop))),
    ("frame", Rule::Value(|node| values::serial::frame(node).map(drop))),
    ("tags", Rule::Tables(TAG)),
    ("every", EVERY),
];

const DEADBAND: Rule = Rule::Value(|node| values::deadband(node).map(drop));
const EXPRESSION: Rule = Rule::Value(|node| values::text(node).map(drop));

const DERIVED: Fields = &[
    ("expr", EXPRESSION),
    ("type", Rule::Value(|node| values::choice(node, &["f64", "i64", "bool", "string"]).map(drop))),
    ("unit", Rule::Unit),
    ("kind", Rule::Value(|node| values::kind(node).map(drop))),
    ("values", Rule::Value(|node| codes::is_codes(node, codes::word))),
    ("range", Rule::Value(|node| values::range(node).map(drop))),
    ("deadband", DEADBAND),
    ("report", REPORT),
    ("share", SHARE),
    ("title", TEXT),
];

const SHIFTS: Rule = Rule::Value(|node| values::shifts(node).map(drop));
const BREAKS: Rule = Rule::OneOrMany(|node| values::span(node).map(drop));
const WORKDAYS: Rule = Rule::Value(|node| values::workdays(node).map(drop));

const MACHINE: Fields = &[
    ("fault", EXPRESSION),
    ("setup", EXPRESSION),
    ("running", EXPRESSION),
    ("idle", EXPRESSION),
    ("pieces", Rule::Table(COUNT)),
    ("scrap", Rule::Table(COUNT)),
    ("energy", NAMED_TAG),
    ("product", NAMED_TAG),
    ("cycle", Rule::Value(|node| values::cycle(node).map(drop))),
    ("class", NAME),
    ("share", SHARE),
    ("shifts", SHIFTS),
    ("breaks", BREAKS),
    ("workdays", WORKDAYS),
    ("title", TEXT),
];

const ALARM: Fields = &[
    ("when", EXPRESSION),
    ("above", Rule::Value(|node| values::limit_of_alarm(node).map(drop))),
    ("below", Rule::Value(|node| values::limit_of_alarm(node).map(drop))),
    ("equals", Rule::Value(|node| values::operand(node).map(drop))),
    ("rate", Rule::Table(ALARM_RATE)),
    ("silent", INTERVAL),
    ("hysteresis", Rule::Value(|node| values::hysteresis(node).map(drop))),
    ("delay", DURATION),
    ("clear_delay", DURATION),
    ("latch", BOOL),
    ("severity", Rule::Value(|node| values::severity(node).map(drop))),
    ("share", SHARE),
    ("title", TEXT),
];

const ALARM_RATE: Fields =
    &[("above", Rule::Value(|node| values::positive(node).map(drop))), ("per", INTERVAL)];

const COUNT: Fields = &[
    ("counter", NAMED_TAG),
    ("rising", NAMED_TAG),
    ("event", NAMED_TAG),
    ("each", Rule::Value(|node| values::each(node).map(drop))),
];

/// The keys of a tag in `tags`.
const TAG: Fields = tag_fields!(("name", TAG_NAME),);
/// The keys of a tag in `defaults` and `override`.
const TAG_DEFAULTS: Fields = tag_fields!();

/// Holds `table` against `fields`; `skip` names a key whose content is looked at elsewhere.
pub(super) fn walk(table: &Table, fields: Fields, skip: &str, findings: &mut Vec<Finding>) {
    for entry in table.entries.iter().filter(|entry| entry.key != skip) {
        match fields.iter().find(|(key, _)| *key == entry.key) {
            Some((key, rule)) => apply(*rule, key, &entry.node, findings),
            None => findings.push(unknown_key(&entry.key, entry.key_at, fields)),
        }
    }
}

fn unknown_key(key: &str, at: Place, fields: Fields) -> Finding {
    let known = fields.iter().map(|(key, _)| *key);
    let finding = Finding::new(at, format!("unknown key `{key}`"));
    match did_you_mean(key, fields.iter().map(|(key, _)| *key)) {
        Some(help) => finding.with_help(help),
        None => finding.with_help(format!("known here: {}", known.collect::<Vec<_>>().join(" "))),
    }
}

fn apply(rule: Rule, key: &str, node: &Node, findings: &mut Vec<Finding>) {
    match rule {
        Rule::Value(check) => report(key, node, check, findings),
        Rule::OneOrMany(check) => {
            for one in node.one_or_many() {
                report(key, one, check, findings);
            }
        }
        Rule::Unit => check_unit(node, findings),
        Rule::Table(fields) => match node.table() {
            Some(table) => walk(table, fields, "", findings),
            None => findings
                .push(Finding::new(node.at, format!("`{key}` must be a table, but is {}", node.kind()))),
        },
        Rule::Named(fields) => named(key, node, fields, findings),
        Rule::Tables(fields) => tables(key, node, fields, findings),
        Rule::TablesOrNone(fields) => match (node.table(), node.text()) {
            (Some(table), _) => walk(table, fields, "", findings),
            (None, Some("none")) => {}
            (None, Some(_)) => report(
                key,
                node,
                |node| values::wanted("a table, a list of tables or \"none\"", node),
                findings,
            ),
            (None, None) => tables(key, node, fields, findings),
        },
    }
}

fn report(key: &str, node: &Node, check: fn(&Node) -> Parsed<()>, findings: &mut Vec<Finding>) {
    if let Err(message) = check(node) {
        findings.push(Finding::new(node.at, format!("`{key}`: {message}")));
    }
}

fn check_unit(node: &Node, findings: &mut Vec<Finding>) {
    if let Err(message) = values::unit(node) {
        let known = || unit::UNITS.iter().map(|unit| unit.written);
        let near = node.text().and_then(|text| did_you_mean(text, known()));
        let help = near.unwrap_or_else(|| format!("known units: {}", known().collect::<Vec<_>>().join(" ")));
        findings.push(Finding::new(node.at, message).with_help(help));
    }
}

fn named(key: &str, node: &Node, fields: Fields, findings: &mut Vec<Finding>) {
    let Some(table) = node.table() else {
        findings.push(Finding::new(
            node.at,
            format!("`{key}` must be a table of tables, but is {}", node.kind()),
        ));
        return;
    };
    for entry in &table.entries {
        match entry.node.table() {
            Some(inner) => walk(inner, fields, "", findings),
            None => findings.push(
                Finding::new(
                    entry.node.at,
                    format!("`{key}.{}` must be a table, but is {}", entry.key, entry.node.kind()),
                )
                .with_help(format!("name the {key}: [{key}.NAME]")),
            ),
        }
    }
}

fn tables(key: &str, node: &Node, fields: Fields, findings: &mut Vec<Finding>) {
    let Content::List(nodes) = &node.content else {
        findings
            .push(Finding::new(node.at, format!("`{key}` must be a list of tables, but is {}", node.kind())));
        return;
    };
    for one in nodes {
        match one.table() {
            Some(table) => walk(table, fields, "", findings),
            None => findings
                .push(Finding::new(one.at, format!("`{key}` must hold tables, but this is {}", one.kind()))),
        }
    }
}
