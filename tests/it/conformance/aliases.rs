//! Aliases, and datatypes in data where they are wanted.

use std::collections::BTreeMap;

use super::rebirth::{NCMD, rebirth};
use super::rules;
use super::scene::Scene;

/// tck-id-payloads-alias-uniqueness, tck-id-payloads-alias-birth-requirement,
/// tck-id-payloads-alias-data-cmd-requirement, tck-id-operational-behavior-data-commands-rebirth-name-aliases
#[tokio::test]
async fn with_aliases_births_have_name_and_alias_and_data_the_alias_only() {
    let mut scene = Scene::start("aliases = true").await;
    scene.both_are_born().await;
    let mark = scene.broker.hears(0, "DDATA", Some("oven")).await;
    scene.broker.say(NCMD, &rebirth(), 0);
    let born = scene.broker.hears(mark, "DBIRTH", Some("oven")).await;
    scene.broker.hears(born, "DDATA", Some("press")).await;
    scene.broker.hears(born, "DDATA", Some("oven")).await;
    scene.stop().await;
    let log = scene.broker.log();
    rules::all(&log);
    let mut names = BTreeMap::new();
    for message in log.messages() {
        for metric in &message.payload.metrics {
            let is_ours = message.device.is_some() && metric.name.as_deref() != Some("Properties/title");
            if message.is_birth() && is_ours {
                let whose = (message.device.clone(), metric.name.clone().unwrap());
                let known = names.insert(metric.alias.unwrap(), whose.clone());
                assert!(known.is_none_or(|known| known == whose), "alias {:?} is not unique", metric.alias);
            } else if message.verb == "DDATA" {
                assert_eq!(metric.name, None, "{}", message.name());
                let (device, _) = &names[&metric.alias.unwrap()];
                assert_eq!(device, &message.device, "{}", message.name());
            }
            if metric.name.as_deref().is_some_and(|name| name == "bdSeq" || name.starts_with("Node Control/"))
            {
                assert_eq!(metric.alias, None, "{:?}", metric.name);
            }
        }
    }
    assert_eq!(names.len(), 11, "tags of press and oven: {names:?}");
}

#[tokio::test]
async fn datatypes_are_in_data_only_where_they_are_wanted_and_then_those_of_the_birth() {
    let mut scene = Scene::start("datatype_in_data = true").await;
    scene.both_are_born().await;
    scene.broker.hears(0, "DDATA", Some("oven")).await;
    scene.stop().await;
    let log = scene.broker.log();
    rules::all(&log);
    let mut born = BTreeMap::new();
    for message in log.messages().iter().filter(|message| message.device.is_some()) {
        for metric in &message.payload.metrics {
            let key = (message.device.clone(), metric.name.clone());
            let datatype = metric.datatype.unwrap();
            assert_eq!(*born.entry(key).or_insert(datatype), datatype, "{}: {metric:?}", message.name());
        }
    }
    assert!(born.len() >= 11);
}

#[tokio::test]
async fn exact_integers_are_sign_extended_in_the_field_of_their_datatype() {
    let mut scene = Scene::start("types = \"exact\"").await;
    scene.both_are_born().await;
    scene.broker.hears(0, "DDATA", Some("oven")).await;
    scene.stop().await;
    let log = scene.broker.log();
    rules::all(&log);
    let birth =
        |device| log.messages().into_iter().find(|message| message.is("DBIRTH", Some(device))).unwrap();
    assert_eq!(birth("press").metric("pieces").datatype, Some(7));
    assert_eq!(birth("press").metric("speed").datatype, Some(6));
    assert_eq!(birth("oven").metric("zone1/temperature").datatype, Some(2));
}
