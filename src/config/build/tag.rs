//! From a tag as written to the tags that it makes: one, or one for each of its `bits`.

use std::time::Duration;

use super::super::finding::Finding;
use super::super::site::{
    self, Code, Codes, Deadband, Kind, Layout, Quirks, Recipe, Registers, Report, Source, Tag,
};
use super::super::tree::{Content, Node, Place, Table};
use super::super::values::{self, codes};
use super::instrument::FieldPlace;
use super::item::{self, Digits};
use super::layers::Layers;
use super::place::{Located, bit_of, check_reach, order, place, scaling};
use super::{Build, shared, value};
use crate::config::site::serial::Mode;
use crate::dlt645::Version;
use crate::reading::{Quality, Value};
use crate::tag::{DataType, DeviceId, TagId, ValueType};
use crate::unit::Unit;

/// A tag that is not read oftener than this if it tells what hardly ever changes.
const INFO_EVERY: Duration = Duration::from_secs(3600);
/// A value that so many reads have not confirmed is stale; a fast one after so many timeouts: a silent neighbour holds the
/// line for that long.
const STALE_READS: u32 = 3;
/// What an instrument sends by itself is stale when nothing has come for so long.
const STALE_HEARD: Duration = Duration::from_secs(10);
/// Keys that name other tags, or are about what is made of this one: looked at when all tags are known.
const NAMING: [&str; 9] = [
    "ratio",
    "scale_from",
    "decimals_from",
    "unit_from",
    "expr",
    "quality_from",
    "write",
    "wraps_at",
    "max_rate",
];
/// How many of [`NAMING`], from the first, make a double of what is read.
const COMPUTING: usize = 5;
/// Keys that only a number has. What `expr` makes is known when all tags are.
const NUMERIC: [&str; 11] = [
    "scale",
    "offset",
    "ratio",
    "scale_from",
    "decimals_from",
    "unit_from",
    "publish_unit",
    "range",
    "deadband",
    "wraps_at",
    "max_rate",
];

/// A tag, and what of it names others.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    /// The tag, its ids not yet given.
    pub(super) tag: Tag,
    /// The keys of [`NAMING`] that it has, whoever has said them, and the `share` that it has said itself.
    pub(super) naming: Table,
    /// The keys that only a number has which a tag with `expr` says itself, and where.
    pub(super) numeric: Vec<(&'static str, Place)>,
}

impl Draft {
    pub(super) fn plain(tag: Tag) -> Draft {
        Draft { tag, naming: Table::default(), numeric: Vec::new() }
    }
}

/// What a device asks of its tags.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach<'a> {
    pub(super) max_registers: u16,
    pub(super) timeout: Duration,
    pub(super) quirks: &'a Quirks,
    /// It is a meter that speaks DL/T 645, in this version.
    pub(super) meter: Option<Version>,
    /// The tag is this field of what an instrument says.
    pub(super) field: Option<FieldPlace<'a>>,
}

/// The tags that `node` makes; none where it has findings.
pub(super) fn tags(build: &mut Build, layers: &Layers<'_>, node: &Node, reach: Reach<'_>) -> Vec<Draft> {
    let Some(table) = node.table() else { return Vec::new() };
    let Some(name) = value(table, "name", values::tag_name) else { return Vec::new() };
    let mut maker = Maker { build, layers, node, table, reach };
    if let Some(node) = maker.constant() {
        return maker.of_constant(&name, &node).into_iter().collect();
    }
    if let Some(version) = reach.meter {
        let Some((layout, digits)) = item::place(maker.build, layers, node, table, version) else {
            return Vec::new();
        };
        return maker.of_registers(&name, layout, (Some(digits), None)).into_iter().collect();
    }
    if let Some(place) = reach.field {
        let layout = place.layout(maker.build, layers, table);
        return maker.of_registers(&name, layout, (None, Some(place.index))).into_iter().collect();
    }
    let Some(layout) = maker.layout() else { return Vec::new() };
    let bits = maker.layers.table_of(table, "bits");
    if layout.model.is_some() && bits.is_some() {
        maker.find(
            "bits",
            "bits of a SunSpec model are not in this version: a point that is not there would be all true"
                .to_owned(),
        );
        return Vec::new();
    }
    match bits {
        None => maker.of_registers(&name, layout, (None, None)).into_iter().collect(),
        Some(bits) => maker.of_bits(&name, layout, bits.cloned()),
    }
}

struct Maker<'a, 'b> {
    build: &'a mut Build,
    layers: &'a Layers<'b>,
    node: &'a Node,
    table: &'a Table,
    reach: Reach<'a>,
}

impl Maker<'_, '_> {
    /// A finding about `key`, where it stands.
    fn find(&mut self, key: &str, message: String) {
        let at = self.layers.get(self.table, key).map_or(self.node.at, |node| node.at);
        self.build.find(Finding::new(at, message));
    }

    /// The value that takes the place of what is read.
    fn constant(&mut self) -> Option<Node> {
        let node = self.layers.get(self.table, "value")?.clone();
        if self.table.get("value").is_some() && self.table.get("at").is_some() {
            self.find("value", "a tag has `at` or `value`, never both".to_owned());
        }
        Some(node)
    }

    fn of_constant(&mut self, name: &str, node: &Node) -> Option<Draft> {
        let (constant, value_type) = match &node.content {
            Content::Bool(flag) => (Value::Bool(*flag), ValueType::Bool),
            Content::Text(text) => (Value::Text(text.as_str().into()), ValueType::Text),
            Content::Integer(_) | Content::Float(_) => {
                (Value::Double(values::number(node).ok()?), ValueType::Double)
            }
            Content::Date | Content::List(_) | Content::Table(_) => return None, // the schema has said so
        };
        for key in
            NAMING.iter().chain(&["scale", "offset", "values", "bits", "bad_values", "order", "length"])
        {
            if self.layers.own(self.table, key).is_some() {
                self.find(key, format!("`{key}` is of no use where the value stands here"));
            }
        }
        let mut tag = self.common(name, Source::Constant(constant), value_type);
        (tag.every, tag.stale_after, tag.stuck_after) = (None, None, None);
        Some(Draft::plain(tag))
    }

    fn layout(&mut self) -> Option<Layout> {
        let Located { model, span, data_type } = place(self.build, self.layers, self.node, self.table)?;
        if model.is_none() {
            check_reach(self.build, self.node, span, self.reach.max_registers, self.reach.quirks);
        }
        let order = order(self.build, self.layers, self.table, span, data_type);
        let scaling = scaling(self.build, self.layers, self.table, data_type);
        Some(Layout { span, model, data_type, order, scaling })
    }

    /// Bool tags, one for each bit that has a name.
    fn of_bits(&mut self, name: &str, layout: Layout, bits: Result<Node, String>) -> Vec<Draft> {
        let bits = match bits.and_then(|node| codes::bits(&node)) {
            Ok(bits) => bits,
            Err(message) => {
                self.find("bits", format!("`bits`: {message}"));
                return Vec::new();
            }
        };
        for key in ["scale", "offset", "values", "bad_values", "range", "write", "quality", "ratio", "expr"] {
            if self.layers.own(self.table, key).is_some() {
                self.find(key, format!("`{key}` is of no use beside `bits`, which make a bool of each bit"));
            }
        }
        let mut drafts = Vec::new();
        for (bit, bit_name) in bits {
            let Some(layout) = bit_of(Layout { scaling: None, ..layout }, bit) else {
                self.find("bits", format!("`bits`: a value of this type has no bit {bit}"));
                continue;
            };
            let source = Source::Registers(Registers { layout, recipe: None, digits: None, field: None });
            let mut tag = self.common(&format!("{name}/{bit_name}"), source, ValueType::Bool);
            tag.unit = None;
            drafts.push(Draft::plain(tag));
        }
        drafts
    }

    fn of_registers(
        &mut self,
        name: &str,
        layout: Layout,
        (digits, field): (Option<Digits>, Option<usize>),
    ) -> Option<Draft> {
        let recipe = self.recipe(layout)?;
        let naming = self.naming(layout);
        let computes =
            recipe.computes() || NAMING.iter().take(COMPUTING).any(|key| naming.get(key).is_some());
        let value_type = match &recipe {
            recipe if recipe.words.is_some() => ValueType::Text,
            _ if computes => ValueType::Double,
            _ => layout.value_type(),
        };
        let needs_recipe = computes
            || recipe.words.is_some()
            || !recipe.bad_values.is_empty()
            || !recipe.colours.is_empty()
            || naming.get("quality_from").is_some();
        let recipe = needs_recipe.then(|| Box::new(recipe));
        let tag =
            self.common(name, Source::Registers(Registers { layout, recipe, digits, field }), value_type);
        Some(Draft { tag, naming, numeric: self.numeric() })
    }

    fn is_computed(&self) -> bool {
        self.layers.get(self.table, "expr").is_some()
    }

    fn numeric(&self) -> Vec<(&'static str, Place)> {
        let own = |key: &'static str| Some((key, self.layers.own(self.table, key)?.at));
        NUMERIC.into_iter().filter(|_| self.is_computed()).filter_map(own).collect()
    }

    /// What names other tags; where a device's defaults say it of what is no number, it does not count.
    fn naming(&mut self, layout: Layout) -> Table {
        let mut naming = Table::default();
        for key in NAMING {
            let Some(node) = self.layers.get(self.table, key) else { continue };
            let is_about_numbers = !["write", "quality_from", "expr"].contains(&key);
            if is_about_numbers && !layout.data_type.is_number() && !self.is_computed() {
                if self.layers.own(self.table, key).is_some() {
                    self.find(key, format!("only a number has `{key}`"));
                }
                continue;
            }
            let (key, key_at) = (key.to_owned(), node.at);
            naming.entries.push(super::super::tree::Entry { key, key_at, node: node.clone() });
        }
        if let Some(node) = self.layers.own(self.table, "share") {
            let (key, key_at) = ("share".to_owned(), node.at);
            naming.entries.push(super::super::tree::Entry { key, key_at, node: node.clone() });
        }
        naming
    }

    /// What is done with raw values and needs no other tag.
    fn recipe(&mut self, layout: Layout) -> Option<Recipe> {
        let (data_type, mut faults) = (layout.data_type, Vec::new());
        let is_bare = data_type == DataType::Words;
        // an expression gives numbers of any size
        let coded = if self.is_computed() { DataType::I64 } else { data_type };
        let bad_values = self.layers.get(self.table, "bad_values").filter(|_| !is_bare);
        let bad_values = bad_values.map(|node| codes::bad_values(node, data_type));
        let colours = self.layers.own(self.table, "quality").filter(|_| !is_bare).and_then(Node::table);
        let colours = colours.map(|table| codes::codes(table, data_type, codes::quality));
        let words = self.layers.table_of(self.table, "values").map(|node| {
            let table = node.and_then(|node| node.table().ok_or_else(|| "no table".to_owned()));
            table.and_then(|table| codes::codes(table, coded, codes::word))
        });
        let mut taken = |key: &'static str, message: String| faults.push((key, message));
        let bad_values = match bad_values {
            None if layout.model.is_some() => {
                let kind = self.layers.value(self.table, "kind", values::kind).unwrap_or_default();
                not_implemented(data_type, kind)
            }
            written => kept(written, "bad_values", &mut taken),
        };
        let recipe = Recipe {
            bad_values,
            colours: kept(colours, "quality", &mut taken),
            words: words.and_then(|words| words.map_err(|why| taken("values", why)).ok()).map(Into::into),
            conversion: self.conversion(&mut taken),
            ..Recipe::default()
        };
        for key in ["bad_values", "quality"] {
            if is_bare && self.layers.own(self.table, key).is_some() {
                taken(key, "\"words\" have no raw value that could be compared".to_owned());
            }
        }
        if recipe.words.is_some() && layout.scaling.is_some() {
            taken("values", "words and a scale exclude each other".to_owned());
        }
        let is_faulty = !faults.is_empty();
        for (key, message) in faults {
            self.find(key, format!("`{key}`: {message}"));
        }
        (!is_faulty).then_some(recipe)
    }

    fn conversion(&self, taken: &mut impl FnMut(&'static str, String)) -> Option<crate::unit::Conversion> {
        let unit = self.layers.value::<&'static Unit>(self.table, "unit", values::unit);
        let wanted = self.layers.value::<&'static Unit>(self.table, "publish_unit", values::unit)?;
        let Some(unit) = unit else {
            taken("publish_unit", "the tag has no `unit` to convert from".to_owned());
            return None;
        };
        let conversion = unit.to(wanted);
        if conversion.is_none() {
            taken(
                "publish_unit",
                format!("{} and {} measure different things", unit.written, wanted.written),
            );
        }
        conversion.filter(|_| unit != wanted)
    }

    /// What every tag has.
    /// How long a value is fresh: what an instrument sends when something happens does not age.
    fn stale_after(&self, every: Option<Duration>) -> Option<Duration> {
        let written = self.layers.value(self.table, "stale_after", values::interval);
        match self.reach.field.map(|place| place.mode) {
            Some(Mode::Listen) => written.or(Some(STALE_HEARD)),
            Some(Mode::Event) => written,
            Some(Mode::Poll) | None => {
                written.or_else(|| every.map(|every| every.max(self.reach.timeout) * STALE_READS))
            }
        }
    }

    fn common(&mut self, name: &str, source: Source, value_type: ValueType) -> Tag {
        let layers = self.layers;
        let kind = layers.value(self.table, "kind", values::kind).unwrap_or_default();
        let is_heard = self.reach.field.is_some_and(|place| place.mode != Mode::Poll);
        let every = match (kind, layers.own(self.table, "every")) {
            _ if is_heard => None,
            (Kind::Info, None) => Some(INFO_EVERY),
            _ => layers.value(self.table, "every", values::every).unwrap_or(Some(site::EVERY)),
        };
        if kind == Kind::Counter && matches!(value_type, ValueType::Bool | ValueType::Text | ValueType::Time)
        {
            self.find("kind", "only a number is a \"counter\"".to_owned());
        }
        let publish_unit = layers.value::<&'static Unit>(self.table, "publish_unit", values::unit);
        let unit = publish_unit.or_else(|| layers.value(self.table, "unit", values::unit));
        Tag {
            id: TagId(0),
            device: DeviceId(0),
            name: shared(name),
            title: layers.value(self.table, "title", values::text),
            source,
            value_type,
            kind,
            unit,
            every,
            stale_after: self.stale_after(every),
            stuck_after: layers.value(self.table, "stuck_after", values::interval),
            is_optional: layers.value(self.table, "optional", values::boolean).unwrap_or_default(),
            report: match kind {
                // each one counts, equal or not
                Kind::Event => Report::Always,
                Kind::Measurement | Kind::Counter | Kind::State | Kind::Info => {
                    layers.value(self.table, "report", values::report).unwrap_or(site::REPORT)
                }
            },
            deadband: self.deadband(kind, value_type),
            range: self.range(value_type),
            share: layers.value(self.table, "share", values::share).unwrap_or_default(),
            made_of: Vec::new(),
            write: None,
        }
    }

    /// Counters, states and events have none: each change of theirs counts.
    fn deadband(&mut self, kind: Kind, value_type: ValueType) -> Deadband {
        let Some(written) = self.layers.value(self.table, "deadband", values::deadband) else {
            return Deadband::None;
        };
        let is_number = !matches!(value_type, ValueType::Bool | ValueType::Text | ValueType::Time);
        let is_exempt = matches!(kind, Kind::Counter | Kind::State | Kind::Event) || !is_number;
        if is_exempt {
            if self.layers.own(self.table, "deadband").is_some() {
                self.find("deadband", "only a measurement has a `deadband`".to_owned());
            }
            return Deadband::None;
        }
        let range = self.layers.value(self.table, "range", values::range);
        written.of(range).unwrap_or_else(|| {
            self.find("deadband", "a part of the range needs `range`".to_owned());
            Deadband::None
        })
    }

    fn range(&mut self, value_type: ValueType) -> Option<(f64, f64)> {
        let is_number = !matches!(value_type, ValueType::Bool | ValueType::Text | ValueType::Time);
        if !is_number && self.layers.own(self.table, "range").is_some() {
            self.find("range", "only numbers have a `range`".to_owned());
        }
        self.layers.value(self.table, "range", values::range).filter(|_| is_number)
    }
}

/// What a SunSpec device has in place of a value that it does not have (SunSpec Device Information Model Specification 1.1,
/// 4.2); a counter that is not there is 0.
fn not_implemented(data_type: DataType, kind: Kind) -> Codes<Quality> {
    let of_type = match data_type {
        DataType::I16 => Code::Number(i16::MIN.into()),
        DataType::U16 => Code::Number(u16::MAX.into()),
        DataType::I32 => Code::Number(i32::MIN.into()),
        DataType::U32 => Code::Number(u32::MAX.into()),
        DataType::I64 => Code::Number(i64::MIN.into()),
        DataType::U64 => Code::Number(u64::MAX.into()),
        DataType::Text { .. } => Code::Text("".into()),
        DataType::Bool { .. }
        | DataType::Byte { .. }
        | DataType::Slice { .. }
        | DataType::I48
        | DataType::U48
        | DataType::F16
        | DataType::F32
        | DataType::F64
        | DataType::Bcd { .. }
        | DataType::Time(_)
        | DataType::Words => return Codes::default(),
    };
    let of_counter = Some(Code::Number(0)).filter(|_| kind == Kind::Counter && data_type.is_number());
    let codes = [Some(of_type), of_counter].into_iter().flatten();
    Codes { entries: codes.map(|code| (code, Quality::BadConfig)).collect(), otherwise: None }
}

/// The codes, or a fault told.
fn kept<T>(
    codes: Option<values::Parsed<Codes<T>>>,
    key: &'static str,
    taken: &mut impl FnMut(&'static str, String),
) -> Codes<T> {
    codes.and_then(|codes| codes.map_err(|why| taken(key, why)).ok()).unwrap_or_default()
}
