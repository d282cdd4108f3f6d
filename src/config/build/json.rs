//! The payload of an uplink: for JSON the template of its topics, filled in as far as it is the same for all messages.
//!
//! A level that is nothing but `{site}`, where the gateway has none, or nothing but `{tag}`, where a message holds a whole
//! device, falls away.

use std::collections::HashMap;
use std::fmt;

use super::super::finding::Finding;
use super::super::site::{Device, Extent, Gateway, Json, Payload, Piece, Tag, Topics, Uplink};
use super::super::topic::{self, Level, Placeholder};
use super::super::tree::{Entry, Node, Place, Table};
use super::{Build, flag_or};

/// `topic` where none is written.
const TOPIC: &str = "{enterprise}/{site}/{gateway}/{device}/{tag}";
/// The last level of topics that say whether somebody is there.
const STATUS: &str = "status";
/// The longest topic, in bytes (MQTT 3.1.1, 1.5.3).
const TOPIC_SIZE_MAX: usize = 65_535;
/// Keys that mean nothing with the other payload.
const JSON_KEYS: [&str; 3] = ["topic", "message", "retain"];
const SPARKPLUG_KEYS: [&str; 5] = ["aliases", "types", "datatype_in_data", "primary_host", "state_format"];

/// What the messages of the uplink in `entry` look like.
pub(super) fn payload(
    build: &mut Build,
    entry: &Entry,
    table: &Table,
    gateway: Option<&Gateway>,
) -> Option<Payload> {
    let is_json = table.get("payload").and_then(Node::text) == Some("json");
    let (useless, other): (&[&str], &str) =
        if is_json { (&SPARKPLUG_KEYS, "sparkplug") } else { (&JSON_KEYS, "json") };
    for entry in useless.iter().filter_map(|key| table.entry(key)) {
        let message = format!("`{}` is only for `payload = \"{other}\"`", entry.key);
        build.find(Finding::new(entry.key_at, message).with_help("take it out: it would have no effect"));
    }
    if !is_json {
        return Some(Payload::Sparkplug);
    }
    let extent = match table.get("message").and_then(Node::text) {
        Some("device") => Extent::Device,
        _ => Extent::Tag,
    };
    let at = table.get("topic").map_or(entry.key_at, |node| node.at);
    let levels = match table.get("topic") {
        Some(node) => topic::template(node).ok()?, // else the schema has found it
        None => topic::levels(TOPIC).ok()?,
    };
    match topics(&levels, extent, gateway?) {
        Ok(topics) => {
            Some(Payload::Json(Json { topics, extent, is_retained: flag_or(table, "retain", false) }))
        }
        Err(message) => {
            build.find(Finding::new(at, format!("`topic`: {message}")));
            None
        }
    }
}

/// The topics of a template, or why there are none.
fn topics(levels: &[Level], extent: Extent, gateway: &Gateway) -> Result<Topics, String> {
    check_site(levels, gateway)?;
    let holds = |wanted: &Placeholder| levels.iter().any(|level| level.contains(wanted));
    if !holds(&Placeholder::Device) {
        return Err("it needs {device}: the messages of all devices would be on one topic".to_owned());
    }
    if extent == Extent::Tag && !holds(&Placeholder::Tag) {
        return Err("it needs {tag} with `message = \"tag\"`, which is the default".to_owned());
    }
    let falls_away = |level: &&Level| {
        let is_only = |wanted: Placeholder| **level == [wanted];
        (is_only(Placeholder::Site) && gateway.site.is_none())
            || (is_only(Placeholder::Tag) && extent == Extent::Device)
    };
    let levels: Vec<&Level> = levels.iter().filter(|level| !falls_away(level)).collect();
    if extent == Extent::Device && levels.iter().any(|level| level.contains(&Placeholder::Tag)) {
        return Err(
            "with `message = \"device\"` {tag} must be a level of its own, which falls away".to_owned()
        );
    }
    let readings = joined(&levels, gateway);
    if readings.first().is_some_and(|piece| matches!(piece, Piece::Text(text) if text.starts_with('$'))) {
        return Err("topics that begin with $ are the broker's own (MQTT 3.1.1, 4.7.2)".to_owned());
    }
    let mut device_status: Vec<Piece> = readings.clone();
    match extent {
        Extent::Tag => device_status
            .iter_mut()
            .filter(|piece| **piece == Piece::Tag)
            .for_each(|piece| *piece = Piece::Text(STATUS.to_owned())),
        Extent::Device => device_status.push(Piece::Text(format!("/{STATUS}"))),
    }
    let gateway_status = gateway_status(&levels, gateway);
    Ok(Topics { readings, device_status, gateway_status })
}

/// Whether the site's path can stand in a topic, if it is to.
fn check_site(levels: &[Level], gateway: &Gateway) -> Result<(), String> {
    let mut with_site = levels.iter().filter(|level| level.contains(&Placeholder::Site));
    match &gateway.site {
        Some(site) => match with_site.next().map(|_| topic::check(site)) {
            Some(Err(why)) => Err(format!("{{site}} is \"{site}\" in [gateway], which {why}")),
            Some(Ok(())) | None => Ok(()),
        },
        None if with_site.any(|level| level.len() > 1) => {
            Err("{site} needs `site` in [gateway] where it is not a level of its own".to_owned())
        }
        None => Ok(()),
    }
}

/// Levels with slashes between them, and all filled in but device and tag.
fn joined(levels: &[&Level], gateway: &Gateway) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    for (index, level) in levels.iter().enumerate() {
        if index > 0 {
            text.push('/');
        }
        for placeholder in level.iter() {
            let variable = match placeholder {
                Placeholder::Device => Piece::Device,
                Placeholder::Tag => Piece::Tag,
                Placeholder::Text(_) | Placeholder::Enterprise | Placeholder::Site | Placeholder::Gateway => {
                    text.push_str(fixed(placeholder, gateway));
                    continue;
                }
            };
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
            }
            pieces.push(variable);
        }
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    pieces
}

/// What is the same for all devices; nothing for device and tag.
fn fixed<'a>(placeholder: &'a Placeholder, gateway: &'a Gateway) -> &'a str {
    match placeholder {
        Placeholder::Text(text) => text,
        Placeholder::Enterprise => &gateway.enterprise,
        Placeholder::Site => gateway.site.as_deref().unwrap_or_default(),
        Placeholder::Gateway => &gateway.name,
        Placeholder::Device | Placeholder::Tag => "",
    }
}

/// The levels before the first that names a device or a tag, with the gateway's name among them or behind them.
fn gateway_status(levels: &[&Level], gateway: &Gateway) -> String {
    let is_common =
        |level: &&&Level| !level.contains(&Placeholder::Device) && !level.contains(&Placeholder::Tag);
    let common: Vec<&Level> = levels.iter().take_while(is_common).copied().collect();
    let mut topic = String::new();
    for level in &common {
        level.iter().for_each(|placeholder| topic.push_str(fixed(placeholder, gateway)));
        topic.push('/');
    }
    if !common.iter().any(|level| level.contains(&Placeholder::Gateway)) {
        topic = format!("{topic}{}/", gateway.name);
    }
    topic + STATUS
}

/// Each tag, each device and the gateway must have a topic of their own.
pub(super) fn check_topics(
    build: &mut Build,
    entries: &[Entry],
    uplinks: &[Option<Uplink>],
    devices: &[Device],
    tags: &[Tag],
) {
    for (entry, uplink) in entries.iter().zip(uplinks) {
        let Some(Uplink { payload: Payload::Json(json), .. }) = uplink else { continue };
        if let Some(message) = clash(json, devices, tags) {
            let at: Place =
                entry.node.table().and_then(|table| table.get("topic")).map_or(entry.key_at, |node| node.at);
            build.find(Finding::new(at, message).with_help("choose another name, or another `topic`"));
        }
    }
}

/// Whose a topic is.
#[derive(Clone, Copy)]
enum Owner<'a> {
    Gateway,
    Status(&'a Device),
    Readings(&'a Device),
    Tag(&'a Device, &'a Tag),
}

impl Owner<'_> {
    fn topic(self, topics: &Topics) -> String {
        match self {
            Owner::Gateway => topics.gateway_status.clone(),
            Owner::Status(device) => topics.device_status(&device.name),
            Owner::Readings(device) => topics.readings(&device.name, ""),
            Owner::Tag(device, tag) => topics.readings(&device.name, &tag.name),
        }
    }
}

impl fmt::Display for Owner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Gateway => f.write_str("the status of the gateway"),
            Owner::Status(device) => write!(f, "the status of device `{}`", device.name),
            Owner::Readings(device) => write!(f, "device `{}`", device.name),
            Owner::Tag(device, tag) => write!(f, "tag `{}` of device `{}`", tag.name, device.name),
        }
    }
}

/// The first topic that is not to be had.
fn clash(json: &Json, devices: &[Device], tags: &[Tag]) -> Option<String> {
    let of_devices = devices.iter().flat_map(|device| {
        let readings = (json.extent == Extent::Device).then_some(Owner::Readings(device));
        std::iter::once(Owner::Status(device)).chain(readings)
    });
    let of_tags = tags.iter().filter(|tag| json.extent == Extent::Tag && tag.control().is_none());
    let of_tags = of_tags.filter_map(|tag| Some(Owner::Tag(devices.get(tag.device.index())?, tag)));
    let mut taken = HashMap::new();
    std::iter::once(Owner::Gateway).chain(of_devices).chain(of_tags).find_map(|owner| {
        let topic = owner.topic(&json.topics);
        if topic.len() > TOPIC_SIZE_MAX {
            return Some(format!(
                "{owner} would have a topic of {} bytes: at most {TOPIC_SIZE_MAX}",
                topic.len()
            ));
        }
        let other = taken.insert(topic, owner)?;
        Some(format!("{owner} would have the topic of {other}, \"{}\"", owner.topic(&json.topics)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    /// The topics of the tag `a/b` of the device `d`, of the device's status and of the gateway's, by the keys of an uplink.
    #[track_caller]
    fn check(site: &str, uplink: &str, expected: &str) {
        let text = format!(
            "[gateway]\nname = 'n'\nenterprise = 'e'\n{site}\n\
             [uplink.u]\nbroker = 'mqtt://127.0.0.1'\npayload = 'json'\n{uplink}\n\
             [link.l]\ntcp = '127.0.0.1:502'\n[device.d]\nlink = 'l'\ntags = [{{ name = 'a/b', at = 'hr:0' }}]"
        );
        let site = config::parse("test.toml", &text).site.unwrap();
        let Payload::Json(Json { topics, .. }) = &site.uplinks[0].payload else { panic!("JSON") };
        let found = [topics.readings("d", "a/b"), topics.device_status("d"), topics.gateway_status.clone()];
        assert_eq!(found.join(" "), expected);
    }

    #[test]
    fn each_kind_of_message_has_its_topic() {
        let site = "site = 'p/q'";
        check("", "", "e/n/d/a/b e/n/d/status e/n/status");
        check(site, "", "e/p/q/n/d/a/b e/p/q/n/d/status e/p/q/n/status");
        check(site, "message = 'device'", "e/p/q/n/d e/p/q/n/d/status e/p/q/n/status");
        check(site, "topic = 'x{site}y/{device}/{tag}'", "xp/qy/d/a/b xp/qy/d/status xp/qy/n/status");
        check("", "topic = '{device}-{tag}'", "d-a/b d-status n/status");
        check(
            "",
            "topic = 'v1/{device}/{gateway}/{tag}/now'",
            "v1/d/n/a/b/now v1/d/n/status/now v1/n/status",
        );
        check("", "topic = '{tag}/{device}'\nmessage = 'device'", "d d/status n/status");
        check("", "topic = '{site}/{device}/{tag}'", "d/a/b d/status n/status");
    }
}
