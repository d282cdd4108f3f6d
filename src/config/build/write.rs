//! `write` and `probe`: what may be written to a tag, and what must hold then.
//!
//! A policy may name tags of any device, so it is built when all of them are known.

use std::sync::Arc;

use super::super::finding::{Finding, did_you_mean};
use super::super::site::{
    Device, Interlock, Layout, Operand, ProbeTest, Readback, Recipe, Registers, Source, Tag, WriteBy,
    WriteFunctions, WritePolicy,
};
use super::super::tree::{Node, Table};
use super::super::values::{self, ReadbackKey};
use super::computed::{finding, said};
use super::item::Digits;
use super::names::Names;
use super::{Build, duration_or, value};
use crate::config::site;
use crate::expression::{self, Compared, Expression, Fault, Known, Scope};
use crate::tag::{Area, ByteForm, DataType, TagId, ValueType};

/// Builds the policies of all tags that may be written.
pub(super) fn build(
    build: &mut Build,
    names: &Names,
    devices: &[Device],
    tags: &mut [Tag],
    naming: &[Table],
) {
    for (index, keys) in naming.iter().enumerate() {
        let Some(node) = keys.get("write") else { continue };
        let (Some(tag), Some(table)) = (tags.get(index), node.table()) else { continue };
        let Some(device) = devices.iter().find(|device| device.id == tag.device) else { continue };
        let policy = Draft { build, names, tags, device, tag, node, table }.policy();
        if let Some(tag) = tags.get_mut(index) {
            tag.write = policy;
        }
    }
}

/// One policy on its way.
struct Draft<'a> {
    build: &'a mut Build,
    names: &'a Names,
    tags: &'a [Tag],
    device: &'a Device,
    tag: &'a Tag,
    node: &'a Node,
    table: &'a Table,
}

impl<'a> Draft<'a> {
    fn find(&mut self, key: &str, message: String) {
        let at = self.table.get(key).map_or(self.node.at, |node| node.at);
        self.build.find(Finding::new(at, message));
    }

    fn policy(mut self) -> Option<WritePolicy> {
        let (registers, layout) = match self.place() {
            Ok(registers) => (registers, registers.layout),
            Err(why) => {
                let name = &self.tag.name;
                self.find("", format!("tag `{name}` cannot be written: {why}"));
                return None;
            }
        };
        self.check_numbers(layout);
        Some(WritePolicy {
            layout,
            words: registers.recipe.as_ref().and_then(|recipe| recipe.words.clone()),
            min: value(self.table, "min", values::limit),
            max: value(self.table, "max", values::limit),
            step: value(self.table, "step", values::positive),
            max_change: value(self.table, "max_change", values::positive),
            allow: self.allow(layout),
            every: duration_or(self.table, "every", site::WRITE_EVERY),
            interlock: self.interlock(),
            arm: value(self.table, "arm", values::interval),
            readback: self.readback(),
            function: self.function(layout),
        })
    }

    /// What is written, or why nothing can be.
    fn place(&self) -> Result<&'a Registers, String> {
        if matches!(self.tag.source, Source::Chosen(_)) {
            return Err("a variant of the type reads it otherwise".to_owned());
        }
        let registers = self.tag.registers().ok_or("it is not read from the device")?;
        let (layout, recipe) = (registers.layout, registers.recipe.as_ref());
        if recipe.is_some_and(|recipe| recipe.expression.is_some()) {
            return Err("what an expression makes of registers cannot be undone".to_owned());
        }
        if recipe.is_some_and(|recipe| recipe.computes()) {
            return Err("what would have to be written depends on other tags".to_owned());
        }
        if layout.span.area == Area::Items {
            return Err("only Modbus is written in this version".to_owned());
        }
        if !matches!(layout.span.area, Area::Coils | Area::HoldingRegisters) {
            return Err(format!("{}: can only be read", layout.span.area.prefix()));
        }
        if layout.model.is_some() || self.device.probes().any(|probe| probe.layout.model.is_some()) {
            return Err(
                "what lies in SunSpec models is read only, also as the probe of what is written".to_owned()
            );
        }
        unwritable(layout).map_or(Ok(registers), |why| Err(why.to_owned()))
    }

    /// Limits belong to numbers, and lie within what the type can hold.
    fn check_numbers(&mut self, layout: Layout) {
        if matches!(self.tag.value_type, ValueType::Bool | ValueType::Text) {
            for key in ["min", "max", "step", "max_change"] {
                if self.table.get(key).is_some() {
                    self.find(key, format!("only a number has `{key}`"));
                }
            }
            return;
        }
        let (low, high) = range(layout);
        for key in ["min", "max"] {
            let limit = value(self.table, key, values::limit);
            if limit.is_some_and(|limit| !(low..=high).contains(&limit)) {
                self.find(key, format!("`{key}`: the registers hold {low} to {high}"));
            }
        }
        let limit = |key| value(self.table, key, values::limit);
        if let (Some(min), Some(max)) = (limit("min"), limit("max"))
            && min > max
        {
            self.find("min", format!("`min` ({min}) is above `max` ({max})"));
        }
    }

    fn allow(&mut self, layout: Layout) -> Vec<Operand> {
        let Some(node) = self.table.get("allow") else { return Vec::new() };
        let (low, high) = range(layout);
        let least = value(self.table, "min", values::limit).unwrap_or(low);
        let most = value(self.table, "max", values::limit).unwrap_or(high);
        let mut all = Vec::new();
        if node.one_or_many().is_empty() {
            self.find("allow", "`allow` names no value".to_owned());
        }
        let words = self.tag.recipe().and_then(|recipe| recipe.words.as_deref());
        for one in node.one_or_many() {
            let Ok(operand) = values::operand(one) else { continue };
            let is_bool = self.tag.value_type == ValueType::Bool;
            let message = match (&operand, words) {
                (Operand::Word(word), Some(words)) => words.code_of(word).err().map(|why| why.to_string()),
                (_, Some(_)) => Some("the tag has `values`: write their words".to_owned()),
                (Operand::Flag(_), None) if is_bool => None,
                (_, None) if is_bool => Some("the tag is a bool: write true or false".to_owned()),
                (Operand::Number(number), None) if (least..=most).contains(number) => None,
                (Operand::Number(number), None) => Some(format!("{number} is outside of {least} to {most}")),
                (Operand::Word(_), None) => Some("the tag is a number: words need `values`".to_owned()),
                (Operand::Flag(_), None) => Some("the tag is a number".to_owned()),
            };
            if let Some(message) = message {
                self.build.find(Finding::new(one.at, format!("`allow`: {message}")));
            }
            all.push(operand);
        }
        all
    }

    fn interlock(&mut self) -> Option<Arc<Interlock>> {
        let node = self.table.get("interlock")?;
        let text = node.text()?;
        let compiled = Expression::compile(text, Scope::Once, &mut |name| {
            let tag = self.names.find(self.device.id, name)?;
            Ok(Known { tag, kind: self.kind(tag, name)? })
        });
        let condition = match compiled {
            Ok(condition) => condition,
            Err(fault) => {
                self.build.find(finding("interlock", node, text, fault));
                return None;
            }
        };
        if condition.kind() != expression::Kind::Flag {
            let message = format!("`interlock`: it is {}, and a condition is wanted", said(condition.kind()));
            self.build.find(Finding::new(node.at, message).with_help("compare it: mode == 'auto'"));
        }
        self.check_words(&condition, node, text);
        let reads = self.reads(condition.inputs());
        if reads.len() > site::INTERLOCK_READS_MAX {
            let most = site::INTERLOCK_READS_MAX;
            self.find(
                "interlock",
                format!("`interlock`: more than {most} tags would be read before a write"),
            );
        }
        Some(Arc::new(Interlock { condition, reads }))
    }

    /// With a word that its tag never has, `!=` would always let pass.
    fn check_words(&mut self, condition: &Expression, node: &Node, text: &str) {
        for Compared { tag, word, range } in condition.compared() {
            let Some(tag) = self.tags.get(tag.index()) else { continue };
            let Some(words) = tag.recipe().and_then(|recipe| recipe.words.as_deref()) else { continue };
            if words.gives(word) {
                continue;
            }
            let message = format!("`{}` is never '{word}'", tag.name);
            let known = words.entries.iter().map(|(_, word)| &**word).chain(words.otherwise.as_deref());
            let help = did_you_mean(word, known);
            let fault = Fault { range: range.clone(), message, help };
            self.build.find(finding("interlock", node, text, fault));
        }
    }

    /// What a tag is in the condition of an interlock: it is read right before the write, or stands in the configuration.
    fn kind(&self, id: TagId, name: &str) -> Result<expression::Kind, String> {
        let tag = self.tags.get(id.index()).ok_or_else(|| format!("no tag is called `{name}`"))?;
        let is_computed = |tag: &Tag| matches!(tag.source, Source::Computed);
        if matches!(tag.source, Source::Chosen(_)) {
            return Err(format!(
                "`{name}` is read otherwise in a variant of the type, and a condition knows only one way"
            ));
        }
        if tag.layout().is_some_and(|layout| layout.model.is_some()) {
            return Err(format!(
                "`{name}` lies in a SunSpec model, and where that is is not known right before the write"
            ));
        }
        if is_computed(tag) {
            return Err(format!("`{name}` is computed, and only what is read right before the write counts"));
        }
        let inputs = tag.recipe().into_iter().flat_map(Recipe::inputs);
        let computed = inputs.filter_map(|id| self.tags.get(id.index())).find(|tag| is_computed(tag));
        if let Some(of) = computed {
            return Err(format!("`{name}` needs `{}`, which is not read but computed", of.name));
        }
        match tag.value_type {
            ValueType::Bool => Ok(expression::Kind::Flag),
            ValueType::Text => Ok(expression::Kind::Word),
            ValueType::Time => Err("a time cannot be used here".to_owned()),
            ValueType::Integer(_) | ValueType::Float | ValueType::Double => Ok(expression::Kind::Number),
        }
    }

    /// What is read for `tags`, each once, what others need first.
    fn reads(&self, tags: &[TagId]) -> Vec<TagId> {
        let tag_of = |id: &TagId| self.tags.get(id.index());
        let needed = tags.iter().filter_map(tag_of).filter_map(Tag::recipe).flat_map(Recipe::inputs);
        let mut reads: Vec<TagId> = Vec::new();
        for id in needed.chain(tags.iter().copied()) {
            if tag_of(&id).is_some_and(|tag| tag.registers().is_some()) && !reads.contains(&id) {
                reads.push(id);
            }
        }
        reads
    }

    fn readback(&mut self) -> Readback {
        let default = ReadbackKey::Own(self.tag.every.is_some());
        match value(self.table, "readback", values::readback).unwrap_or(default) {
            ReadbackKey::Own(true) => Readback::Own,
            ReadbackKey::Own(false) => Readback::Answer,
            ReadbackKey::Tag(name) => {
                let Some(tag) = self.plain("readback", &name) else { return Readback::Own };
                let of = self.tags.get(tag.index()).map(|of| sort(of.value_type));
                if of != Some(sort(self.tag.value_type)) {
                    self.find("readback", format!("`readback`: `{name}` is of another kind of value"));
                }
                Readback::Tag(tag)
            }
        }
    }

    /// The tag that `name` means, whose value is what its registers say: it is read right after a write, by itself.
    fn plain(&mut self, key: &str, name: &str) -> Option<TagId> {
        let id = self.named(key, name)?;
        let tag = self.tags.get(id.index())?;
        let needs_others = tag.recipe().is_some_and(|recipe| recipe.inputs().next().is_some());
        let is_placed = tag.layout().is_some_and(|layout| layout.model.is_none());
        if is_placed && !needs_others {
            return Some(id);
        }
        let message = format!("`{key}`: `{name}` is not what its registers say by themselves");
        self.find(key, message);
        None
    }

    /// The tag that `name` means.
    fn named(&mut self, key: &str, name: &str) -> Option<TagId> {
        match self.names.find(self.device.id, name) {
            Ok(tag) => Some(tag),
            Err(message) => {
                self.find(key, format!("`{key}`: {message}"));
                None
            }
        }
    }

    fn function(&mut self, layout: Layout) -> WriteBy {
        let is_bit = matches!(layout.data_type, DataType::Bool { bit: Some(_) });
        let (is_coil, count) = (layout.span.area == Area::Coils, layout.span.count);
        let function = value(self.table, "function", values::function);
        let (by, wrong) = match function {
            None if is_bit => (
                WriteBy::Mask,
                Some("a bit of a register is written by function 22 only: write `function = 22` if the device has it".to_owned()),
            ),
            Some(22) if is_bit => (WriteBy::Mask, None),
            Some(function) if is_bit || function == 22 => {
                let what = if is_bit { "a bit of a register needs 22" } else { "22 writes single bits of registers" };
                (WriteBy::Mask, Some(format!("`function`: {what}, got {function}")))
            }
            Some(5 | 15) if !is_coil => (WriteBy::Single, Some("`function`: 5 and 15 write coils: registers need 6 or 16".to_owned())),
            Some(6 | 16) if is_coil => (WriteBy::Single, Some("`function`: 6 and 16 write registers: a coil needs 5 or 15".to_owned())),
            Some(6) if count > 1 => (WriteBy::Single, Some(format!("`function`: 6 writes one register, and the value takes {count}"))),
            Some(5 | 6) => (WriteBy::Single, None),
            Some(_) => (WriteBy::Multiple, None),
            None if count > 1 && self.device.quirks.write == WriteFunctions::Single => (
                WriteBy::Device,
                Some(format!("the device takes single registers only (quirks.write), and the value takes {count}")),
            ),
            None => (WriteBy::Device, None),
        };
        if let Some(message) = wrong {
            self.find("function", message);
        }
        by
    }
}

/// Values of one sort can be the same.
const fn sort(value_type: ValueType) -> u8 {
    match value_type {
        ValueType::Bool => 0,
        ValueType::Integer(_) | ValueType::Float | ValueType::Double => 1,
        ValueType::Text => 2,
        ValueType::Time => 3,
    }
}

/// Why no value of the tag is written, whatever the device.
fn unwritable(layout: Layout) -> Option<&'static str> {
    match layout.data_type {
        DataType::Text { .. } => Some("writing a string is not in this version"),
        DataType::Time(_) => Some("writing a time is not in this version"),
        DataType::Words => Some("what an expression makes of registers cannot be undone"),
        DataType::Byte { .. } | DataType::Slice { .. } => Some(
            "the register holds more than this value, and that would be overwritten: write the whole register",
        ),
        DataType::Bool { bit: Some(_) } if layout.span.count > 1 => {
            Some("a bit of a value of several registers: write the value")
        }
        DataType::Bool { .. }
        | DataType::I16
        | DataType::U16
        | DataType::I32
        | DataType::U32
        | DataType::I48
        | DataType::U48
        | DataType::I64
        | DataType::U64
        | DataType::F16
        | DataType::F32
        | DataType::F64
        | DataType::Bcd { .. } => None,
    }
}

/// The least and the most value that the registers can hold.
fn range(layout: Layout) -> (f64, f64) {
    let (low, high) = match layout.data_type {
        DataType::Bool { .. } => (0.0, 1.0),
        DataType::Byte { form: ByteForm::Signed, .. } => (f64::from(i8::MIN), f64::from(i8::MAX)),
        DataType::Byte { form: ByteForm::Unsigned, .. } => (0.0, f64::from(u8::MAX)),
        DataType::Byte { form: ByteForm::Bcd, .. } => (0.0, 99.0),
        DataType::Slice { first, last } => {
            (0.0, f64::from(2_u32.pow(u32::from(last.saturating_sub(first)) + 1) - 1))
        }
        DataType::I16 => (f64::from(i16::MIN), f64::from(i16::MAX)),
        DataType::U16 => (0.0, f64::from(u16::MAX)),
        DataType::I32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
        DataType::U32 => (0.0, f64::from(u32::MAX)),
        DataType::I48 => (-140_737_488_355_328.0, 140_737_488_355_327.0),
        DataType::U48 => (0.0, 281_474_976_710_655.0),
        DataType::I64 => (-9_223_372_036_854_775_808.0, 9_223_372_036_854_775_808.0),
        DataType::U64 => (0.0, 18_446_744_073_709_551_616.0),
        DataType::Bcd { digits } => (0.0, 10_f64.powi(digits.into()) - 1.0),
        DataType::F16 => (-65504.0, 65504.0),
        DataType::F32 => (f64::from(f32::MIN), f64::from(f32::MAX)),
        DataType::F64 | DataType::Text { .. } | DataType::Time(_) | DataType::Words => (f64::MIN, f64::MAX),
    };
    let Some(scaling) = layout.scaling else { return (low, high) };
    let scaled = |raw: f64| (raw * scaling.scale + scaling.offset).clamp(f64::MIN, f64::MAX);
    let (a, b) = (scaled(low), scaled(high));
    (a.min(b), a.max(b))
}

/// What must hold of a device, from its `probe`; `place` says where each lies.
pub(super) fn probes(
    build: &mut Build,
    node: Option<&Node>,
    mut place: impl FnMut(&mut Build, &Node, &Table) -> Option<(Layout, Option<Digits>)>,
) -> Vec<(Layout, Option<Digits>, ProbeTest)> {
    let mut all = Vec::new();
    for one in node.map_or(&[][..], Node::one_or_many) {
        let Some(table) = one.table() else { continue };
        let Some((layout, digits)) = place(build, one, table) else { continue };
        let kinds = ["between", "equals", "matches"];
        if kinds.iter().filter(|key| table.get(key).is_some()).count() != 1 {
            let finding = Finding::new(one.at, "a probe needs one of `between`, `equals` and `matches`");
            build.find(finding.with_help("write what it must be: between = [45, 65]"));
            continue;
        }
        let Some(test) = test(table) else { continue };
        let fits = match (&test, layout.data_type) {
            (ProbeTest::Between(..) | ProbeTest::Equals(Operand::Number(_)), of) => of.is_number(),
            (ProbeTest::Equals(Operand::Word(_)) | ProbeTest::Matches(_), of) => {
                matches!(of, DataType::Text { .. })
            }
            (ProbeTest::Equals(Operand::Flag(_)), of) => matches!(of, DataType::Bool { .. }),
        };
        if !fits {
            build.find(Finding::new(one.at, "the probe's `type` has no such values"));
        }
        all.push((layout, digits, test));
    }
    all
}

fn test(table: &Table) -> Option<ProbeTest> {
    let between = value(table, "between", values::between).map(|(low, high)| ProbeTest::Between(low, high));
    let equals = || value(table, "equals", values::operand).map(ProbeTest::Equals);
    let matches = || value(table, "matches", values::pattern).map(ProbeTest::Matches);
    between.or_else(equals).or_else(matches)
}
