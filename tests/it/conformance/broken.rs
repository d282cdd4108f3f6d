//! The judge himself: each rule fails for a life in which just that is broken.

use std::panic::{AssertUnwindSafe, catch_unwind};

use prost::Message as _;
use tidegate::sparkplug::proto::Payload;
use tidegate::sparkplug::proto::payload::{DataSet, Metric, Template, metric, property_value};

use super::life::life;
use super::log::{Entry, Log, What};
use super::rules;
use super::wire::{Publish, Said};

/// Breaks one thing.
type Break = fn(&mut Log);
/// What must notice.
type Rule = fn(&Log);

/// The first message of this kind, behind the first ten entries of it.
fn find(log: &Log, verb: &str) -> usize {
    let mut of_verb = (0..log.0.len()).filter(|index| {
        let message = log.0[*index].message();
        message.is_some_and(|message| {
            // one without a value cannot lose it
            let has_value = message.payload.metrics.first().is_none_or(|metric| metric.value.is_some());
            message.verb == verb && !is_history(&message.payload) && has_value
        })
    });
    let first = of_verb.next().unwrap();
    of_verb.nth(9).unwrap_or(first)
}

fn is_history(payload: &Payload) -> bool {
    payload.metrics.iter().any(|metric| metric.is_historical == Some(true))
}

fn publish(entry: &mut Entry) -> &mut Publish {
    let What::Said(Said::Publish(publish)) = &mut entry.what else { panic!("no PUBLISH") };
    publish
}

fn edit(log: &mut Log, verb: &str, change: impl Fn(&mut Payload)) {
    let index = find(log, verb);
    let publish = publish(&mut log.0[index]);
    let mut payload = Payload::decode(publish.payload.as_slice()).unwrap();
    change(&mut payload);
    publish.payload = payload.encode_to_vec();
}

fn edit_metric(log: &mut Log, verb: &str, change: impl Fn(&mut Metric)) {
    edit(log, verb, |payload| change(&mut payload.metrics[0]));
}

fn with_property(log: &mut Log, change: impl Fn(&mut property_value::Value)) {
    edit_metric(log, "DBIRTH", |metric| {
        let set = metric.properties.as_mut().unwrap();
        change(set.values[0].value.as_mut().unwrap());
    });
}

fn will(log: &mut Log) -> &mut Publish {
    let connect = log.0.iter_mut().find_map(|entry| match &mut entry.what {
        What::Said(Said::Connect(connect)) => Some(connect),
        _ => None,
    });
    connect.unwrap().will.as_mut().unwrap()
}

const BROKEN: &[(&str, Break, Rule)] = &[
    (
        "a device's topic without the device",
        |log| {
            let index = find(log, "DDATA");
            publish(&mut log.0[index]).topic = "spBv1.0/e/DDATA/n".into();
        },
        rules::topics,
    ),
    (
        "another group",
        |log| {
            let index = find(log, "DBIRTH");
            publish(&mut log.0[index]).topic = "spBv1.0/x/DBIRTH/n/press".into();
        },
        rules::topics,
    ),
    (
        "a birth that is kept",
        |log| {
            let index = find(log, "NBIRTH");
            publish(&mut log.0[index]).is_retained = true;
        },
        rules::delivery,
    ),
    (
        "data at QoS 1",
        |log| {
            let index = find(log, "DDATA");
            publish(&mut log.0[index]).qos = 1;
        },
        rules::delivery,
    ),
    (
        "a message that is missing",
        |log| {
            let index = find(log, "DDATA");
            log.0.remove(index);
        },
        rules::sequence,
    ),
    (
        "a birth of the node with seq 1",
        |log| edit(log, "NBIRTH", |payload| payload.seq = Some(1)),
        rules::sequence,
    ),
    (
        "a death of the node with a seq",
        |log| edit(log, "NDEATH", |payload| payload.seq = Some(0)),
        rules::sequence,
    ),
    ("data without a seq", |log| edit(log, "DDATA", |payload| payload.seq = None), rules::sequence),
    ("a will at QoS 0", |log| will(log).qos = 0, rules::deaths),
    ("a will that is kept", |log| will(log).is_retained = true, rules::deaths),
    (
        "a death with a second metric",
        |log| {
            edit(log, "NDEATH", |payload| payload.metrics.push(payload.metrics[0].clone()));
        },
        rules::deaths,
    ),
    ("a CONNECT that is missing", |log| log.0.retain(|entry| entry.connection != 1), rules::bd_seqs),
    (
        "a birth with another bdSeq",
        |log| {
            edit_metric(log, "NBIRTH", |metric| metric.value = Some(metric::Value::LongValue(77)));
        },
        rules::bd_seqs,
    ),
    (
        "a birth that is missing",
        |log| {
            let index = find(log, "NBIRTH");
            log.0.remove(index);
        },
        rules::births_first,
    ),
    (
        "a device that was not born",
        |log| {
            let index = find(log, "DDATA");
            publish(&mut log.0[index]).topic = "spBv1.0/e/DDATA/n/nobody".into();
        },
        rules::births_first,
    ),
    (
        "data after the death",
        |log| {
            let data = log.0[find(log, "DDATA")].clone();
            let death = find(log, "NDEATH");
            let connection = log.0[death].connection;
            log.0.insert(death + 1, Entry { connection, ..data });
        },
        rules::births_first,
    ),
    ("no datatype", |log| edit_metric(log, "DBIRTH", |metric| metric.datatype = None), rules::births),
    ("no name", |log| edit_metric(log, "DBIRTH", |metric| metric.name = None), rules::births),
    (
        "a metric twice",
        |log| {
            edit(log, "DBIRTH", |payload| payload.metrics.push(payload.metrics[0].clone()));
        },
        rules::births,
    ),
    (
        "null with a value",
        |log| edit_metric(log, "DBIRTH", |metric| metric.is_null = Some(true)),
        rules::births,
    ),
    (
        "no rebirth control",
        |log| {
            edit(log, "NBIRTH", |payload| {
                payload.metrics.retain(|metric| metric.name.as_deref() != Some("Node Control/Rebirth"));
            });
        },
        rules::births,
    ),
    ("no time of sending", |log| edit(log, "DDATA", |payload| payload.timestamp = None), rules::times),
    ("no time of reading", |log| edit_metric(log, "DDATA", |metric| metric.timestamp = None), rules::times),
    (
        "local time",
        |log| {
            edit_metric(log, "DDATA", |metric| {
                metric.timestamp = metric.timestamp.map(|at| at + 8 * 3_600_000)
            });
        },
        rules::times,
    ),
    (
        "a metric of no birth",
        |log| edit_metric(log, "DDATA", |metric| metric.name = Some("x".into())),
        rules::data,
    ),
    ("neither a value nor null", |log| edit_metric(log, "DDATA", |metric| metric.value = None), rules::data),
    ("nothing in data", |log| edit(log, "DDATA", |payload| payload.metrics.clear()), rules::data),
    (
        "the same twice",
        |log| {
            let index = find(log, "DDATA");
            log.0.insert(index, log.0[index].clone());
        },
        rules::changes,
    ),
    (
        "time that goes back",
        |log| {
            edit_metric(log, "DDATA", |metric| metric.timestamp = metric.timestamp.map(|at| at - 5_000));
        },
        rules::changes,
    ),
    (
        "an explicit mark of what is no history",
        |log| {
            edit_metric(log, "DDATA", |metric| metric.is_historical = Some(false));
        },
        rules::changes,
    ),
    (
        "a value in another field",
        |log| {
            edit_metric(log, "DDATA", |metric| metric.value = Some(metric::Value::BytesValue(vec![1])));
        },
        rules::values,
    ),
    (
        "a quality of 300",
        |log| {
            with_property(log, |value| *value = property_value::Value::IntValue(300));
        },
        rules::properties,
    ),
    (
        "a quality in text",
        |log| {
            with_property(log, |value| *value = property_value::Value::StringValue("good".into()));
        },
        rules::properties,
    ),
    (
        "a key without a value",
        |log| {
            edit_metric(log, "DBIRTH", |metric| metric.properties.as_mut().unwrap().keys.push("more".into()));
        },
        rules::properties,
    ),
    (
        "a property without a type",
        |log| {
            edit_metric(log, "DBIRTH", |metric| metric.properties.as_mut().unwrap().values[1].r#type = None);
        },
        rules::properties,
    ),
    (
        "a data set",
        |log| {
            edit_metric(log, "DDATA", |metric| {
                metric.value = Some(metric::Value::DatasetValue(DataSet::default()))
            });
        },
        rules::nothing_composite,
    ),
    (
        "a template",
        |log| {
            edit_metric(log, "NBIRTH", |metric| {
                metric.value = Some(metric::Value::TemplateValue(Template::default()));
            });
        },
        rules::nothing_composite,
    ),
    ("a body", |log| edit(log, "DDATA", |payload| payload.body = Some(vec![1])), rules::nothing_composite),
];

#[tokio::test]
async fn each_rule_notices_what_breaks_it() {
    let life = life().await;
    for (name, damage, rule) in BROKEN {
        let mut log = life.clone();
        rule(&log);
        damage(&mut log);
        let judged = catch_unwind(AssertUnwindSafe(|| rule(&log)));
        assert!(judged.is_err(), "nobody notices {name}");
    }
    assert!(BROKEN.len() > 30);
}
