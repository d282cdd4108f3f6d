//! What a consumer at the broker sees: Sparkplug messages become rows of a table and a list of received values. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use prost::Message as _;

use crate::reading::Timestamp;
use crate::sim::floor::{Mark, Truth};
use crate::sparkplug::proto::Payload;
use crate::sparkplug::proto::payload::{Metric, metric, property_value};
use crate::unit::UNITS;

/// What a device has said, as it came back from the broker.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub(super) device: String,
    pub(super) tag: String,
    pub(super) at: Timestamp,
    /// `None`: there is no value.
    pub(super) truth: Option<Truth>,
    /// What was said of it; events and what manuals print are as plain as all else here.
    pub(super) mark: Mark,
    /// It was read before the device was born.
    pub(super) is_history: bool,
}

/// All devices as the broker's consumers know them.
#[derive(Debug, Default)]
pub(super) struct View {
    rows: BTreeMap<(String, String), Row>,
    aliases: BTreeMap<u64, (String, String)>,
}

#[derive(Debug, Default)]
struct Row {
    datatype: u32,
    value: Option<Truth>,
    unit: String,
    quality: String,
    at: Timestamp,
}

impl View {
    /// Takes a message; what devices have said in it.
    pub(super) fn handle(&mut self, topic: &str, payload: &[u8]) -> Vec<Received> {
        let parts: Vec<&str> = topic.split('/').collect();
        let (["spBv1.0", _, verb, _, device], Ok(payload)) = (parts.as_slice(), Payload::decode(payload))
        else {
            return Vec::new();
        };
        match *verb {
            "DBIRTH" | "DDATA" => payload
                .metrics
                .into_iter()
                .filter_map(|metric| self.handle_metric(device, metric, *verb == "DBIRTH"))
                .collect(),
            "DDEATH" => {
                for (_, row) in self.rows.iter_mut().filter(|((of, _), _)| of == device) {
                    "offline".clone_into(&mut row.quality);
                }
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn handle_metric(&mut self, device: &str, metric: Metric, is_birth: bool) -> Option<Received> {
        let named = metric.name.as_ref().map(|name| (device.to_owned(), name.clone()));
        let key = named.or_else(|| self.aliases.get(&metric.alias?).cloned())?;
        if let (true, Some(alias)) = (is_birth, metric.alias) {
            self.aliases.insert(alias, key.clone());
        }
        let row = self.rows.entry(key.clone()).or_default();
        if let Some(datatype) = metric.datatype {
            row.datatype = datatype;
        }
        if let Some(code) = text_property(&metric, "unece") {
            let unit = UNITS.iter().find(|unit| unit.unece == code);
            row.unit = unit.map_or(code, |unit| unit.written.to_owned());
        }
        if let Some(reason) = text_property(&metric, "Reason") {
            row.quality = reason;
        }
        row.at = Timestamp::from_millis(metric.timestamp.unwrap_or_default());
        row.value = metric.value.and_then(|value| decode(value, row.datatype));
        let mark = mark(&row.quality)?;
        let is_history = metric.is_historical.unwrap_or_default();
        Some(Received { device: key.0, tag: key.1, at: row.at, truth: row.value.clone(), mark, is_history })
    }

    /// The table, one line a tag; ages count to `now`.
    pub(super) fn table(&self, now: Timestamp) -> String {
        let mut table = String::new();
        let mut line = |cells: [&str; 5]| {
            let [tag, value, unit, quality, age] = cells;
            writeln!(table, "{tag:<22} {value:>20} {unit:<5} {quality:<22} {age:>7}").ok(); // a String takes all
        };
        line(["TAG", "VALUE", "UNIT", "QUALITY", "AGE"]);
        for ((device, tag), row) in &self.rows {
            let value = row.value.as_ref().map_or_else(|| "-".to_owned(), shown);
            let age = format!("{}.{} s", age_ms(now, row) / 1000, age_ms(now, row) % 1000 / 100);
            line([&format!("{device}/{tag}"), &value, &row.unit, &row.quality, &age]);
        }
        table
    }
}

/// What a device has said of a value with this quality; `None`: the gateway says it.
fn mark(quality: &str) -> Option<Mark> {
    match quality {
        "good" => Some(Mark::Plain),
        "uncertain:not_accurate" => Some(Mark::Moving),
        "bad:sensor_failure" => Some(Mark::Over),
        _ => None,
    }
}

fn age_ms(now: Timestamp, row: &Row) -> u64 {
    now.millis().saturating_sub(row.at.millis())
}

fn shown(truth: &Truth) -> String {
    match truth {
        Truth::Float(value) => format!("{value:.3}"),
        Truth::Double(value) => format!("{value:.3}"),
        Truth::Time(value) => value.to_string().replace(".000Z", "Z"), // clocks of devices show seconds
        Truth::Bool(_) | Truth::Integer(_) | Truth::Text(_) => truth.to_string(),
    }
}

fn text_property(metric: &Metric, key: &str) -> Option<String> {
    let set = metric.properties.as_ref()?;
    let index = set.keys.iter().position(|known| known == key)?;
    let property_value::Value::StringValue(text) = set.values.get(index)?.value.as_ref()? else {
        return None;
    };
    Some(text.clone())
}

/// The value that a metric of this datatype has on the wire.
fn decode(value: metric::Value, datatype: u32) -> Option<Truth> {
    Some(match (value, datatype) {
        (metric::Value::IntValue(bits), 1..=3) => Truth::Integer(bits.cast_signed().into()),
        (metric::Value::IntValue(bits), 5..=7) => Truth::Integer(bits.into()),
        (metric::Value::LongValue(bits), 4) => Truth::Integer(bits.cast_signed().into()),
        (metric::Value::LongValue(bits), 8) => Truth::Integer(bits.into()),
        (metric::Value::FloatValue(value), 9) => Truth::Float(value),
        (metric::Value::DoubleValue(value), 10) => Truth::Double(value),
        (metric::Value::BooleanValue(value), 11) => Truth::Bool(value),
        (metric::Value::StringValue(value), 12) => Truth::Text(value),
        (metric::Value::LongValue(ms), 13) => Truth::Time(Timestamp::from_millis(ms)),
        _ => return None,
    })
}
