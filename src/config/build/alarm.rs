//! `alarm`: what it watches, and what of that raises it.

use std::sync::Arc;
use std::time::Duration;

use super::super::finding::Finding;
use super::super::site::{AlarmRule, AlarmStep, Limit, Operand, Test};
use super::super::tree::{Node, Table};
use super::super::values::{self, NumberOrTag};
use super::computed::{Compiler, Pending, said};
use super::{duration_or, flag_or, value};
use crate::expression::{Expression, Kind};
use crate::reading::Value;
use crate::tag::{DeviceId, TagId};

/// The keys that say what of a tag raises an alarm.
const TESTS: [&str; 5] = ["above", "below", "equals", "rate", "silent"];

impl Compiler<'_> {
    /// The alarm that `one` describes; its findings are told where it cannot be one.
    pub(super) fn alarm(
        &mut self,
        one: &Pending,
        name: &Arc<str>,
        tag: TagId,
        events: TagId,
    ) -> Option<AlarmStep> {
        let table = &one.table;
        let Some(node) = table.get("when") else {
            let finding = Finding::new(one.at, "an alarm needs `when`");
            self.build.find(
                finding.with_help("write a tag and a limit, when = \"t\" and above = 320, or a condition"),
            );
            return None;
        };
        let when = self.compile("when", node, one.device, 0)?;
        let (test, limit) = self.test(table, node, &when, one.device)?;
        if let Some(node) = table.get("hysteresis")
            && !matches!(test, Test::Above { .. } | Test::Below { .. })
        {
            self.build
                .find(Finding::new(node.at, "`hysteresis` is about `above` or `below`, and there is none"));
        }
        let rule = AlarmRule {
            test,
            delay: duration_or(table, "delay", Duration::ZERO),
            clear_delay: duration_or(table, "clear_delay", Duration::ZERO),
            latch: flag_or(table, "latch", false),
            severity: value(table, "severity", values::severity).unwrap_or_default(),
        };
        let mut inputs: Vec<TagId> = when.inputs().iter().copied().chain(limit).collect();
        inputs.sort_unstable();
        inputs.dedup();
        let (device, name) = (one.device, name.clone());
        let of = identity(table, &when, &rule);
        Some(AlarmStep { device, name, of, rule, when, limit, tag, events, inputs })
    }

    /// What raises it, and the tag that is its limit.
    fn test(
        &mut self,
        table: &Table,
        when: &Node,
        watched: &Expression,
        device: DeviceId,
    ) -> Option<(Test, Option<TagId>)> {
        let mut keys = TESTS.iter().filter(|key| table.get(key).is_some());
        let (key, other) = (keys.next().copied(), keys.next());
        if let Some(node) = other.and_then(|key| table.get(key)) {
            let finding = Finding::new(node.at, "an alarm has one test, and this is the second");
            self.build.find(finding.with_help("describe another alarm for it"));
            return None;
        }
        let kind = watched.kind();
        let Some(key) = key else {
            if kind == Kind::Flag {
                return Some((Test::Holds, None));
            }
            let finding =
                Finding::new(when.at, format!("`when` alone must be a condition, and is {}", said(kind)));
            self.build
                .find(finding.with_help("compare it, or say `above`, `below`, `equals`, `rate` or `silent`"));
            return None;
        };
        if watched.is_tag().is_none() {
            let finding =
                Finding::new(when.at, format!("`{key}` is about one tag, and this is an expression"));
            self.build.find(finding.with_help("name the tag alone, or write the whole condition here"));
            return None;
        }
        if matches!(key, "above" | "below" | "rate") && kind != Kind::Number {
            let finding = Finding::new(
                when.at,
                format!("`{key}` needs a tag that is a number, and this is {}", said(kind)),
            );
            self.build.find(finding);
            return None;
        }
        let node = table.get(key)?;
        match key {
            "above" | "below" => self.limit(key, table, device),
            "equals" => Some((Test::Equals(self.wanted(node, kind)?), None)),
            "silent" => Some((Test::Silent(values::interval(node).ok()?), None)),
            _ => Some((self.rate(node)?, None)),
        }
    }

    fn limit(&mut self, key: &str, table: &Table, device: DeviceId) -> Option<(Test, Option<TagId>)> {
        let hysteresis = value(table, "hysteresis", values::hysteresis).unwrap_or(0.0);
        let (limit, tag) = match value(table, key, values::limit_of_alarm)? {
            NumberOrTag::Number(number) => (Limit::Number(number), None),
            NumberOrTag::Tag(_) => (Limit::Tag, Some(self.number_tag(key, table, device)?)),
        };
        let test = if key == "above" {
            Test::Above { limit, hysteresis }
        } else {
            Test::Below { limit, hysteresis }
        };
        Some((test, tag))
    }

    /// The value that raises it, of the kind of the tag.
    fn wanted(&mut self, node: &Node, kind: Kind) -> Option<Value> {
        match (values::operand(node).ok()?, kind) {
            (Operand::Number(number), Kind::Number) => Some(Value::Double(number)),
            (Operand::Word(word), Kind::Word) => Some(Value::Text(word.into())),
            (Operand::Flag(flag), Kind::Flag) => Some(Value::Bool(flag)),
            (Operand::Number(_) | Operand::Word(_) | Operand::Flag(_), _) => {
                let message = format!("`equals`: the tag is {}, and this is not", said(kind));
                self.build.find(Finding::new(node.at, message));
                None
            }
        }
    }

    fn rate(&mut self, node: &Node) -> Option<Test> {
        let table = node.table()?;
        for key in ["above", "per"] {
            if table.get(key).is_none() {
                let finding = Finding::new(node.at, format!("`rate` needs `{key}`"));
                self.build.find(finding.with_help("write rate = { above = 20, per = \"1m\" }"));
            }
        }
        Some(Test::Rate {
            above: value(table, "above", values::positive)?,
            per: value(table, "per", values::interval)?,
        })
    }
}

/// What an alarm is of.
fn identity(table: &Table, when: &Expression, rule: &AlarmRule) -> String {
    let of_tag = ["above", "below"].iter().find_map(|key| table.get(key)?.text()).unwrap_or_default();
    let bound = |limit: Limit| match limit {
        Limit::Number(number) => number.to_string(),
        Limit::Tag => of_tag.to_owned(),
    };
    let test = match &rule.test {
        Test::Above { limit, hysteresis } => format!("above {} by {hysteresis}", bound(*limit)),
        Test::Below { limit, hysteresis } => format!("below {} by {hysteresis}", bound(*limit)),
        Test::Equals(value) => format!("equals {value}"),
        Test::Holds => "holds".to_owned(),
        Test::Rate { above, per } => format!("rate {above} per {} s", per.as_secs_f64()),
        Test::Silent(longest) => format!("silent {} s", longest.as_secs_f64()),
    };
    format!("{} {test}, {}", when.text(), rule.severity.word())
}
