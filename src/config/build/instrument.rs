//! `protocol = "serial"`: instruments that a type describes, and which tag is which field of what they say.

use super::super::finding::Finding;
use super::super::site::Layout;
use super::super::site::serial::{Field, FieldType, Instrument, Mode, Request, Var, Vars};
use super::super::tree::{Content, Entry, Node, Place, Table};
use super::super::values;
use super::layers::Layers;
use super::place::scaling;
use super::{Build, value};
use crate::tag::{Area, DataType, Span};

/// Which field of which answer a tag is.
#[derive(Clone, Copy, Debug)]
pub(super) struct FieldPlace<'a> {
    request: u16,
    pub(super) index: usize,
    field: &'a Field,
    pub(super) mode: Mode,
}

impl FieldPlace<'_> {
    /// How the value lies, as far as what comes after it must know.
    pub(super) fn layout(self, build: &mut Build, layers: &Layers<'_>, table: &Table) -> Layout {
        let data_type = match self.field.field_type {
            FieldType::Data(DataType::Byte { is_high: _, form }) => DataType::Byte { is_high: false, form },
            FieldType::Data(data_type) => data_type,
            FieldType::Decimal => DataType::F64,
            FieldType::Hex => DataType::U64,
        };
        let scaling = scaling(build, layers, table, data_type);
        let span = Span { area: Area::Items, address: self.request, count: 1 };
        Layout { span, model: None, data_type, order: self.field.order, scaling }
    }
}

/// A tag of an instrument as written, and which field it is.
pub(super) struct Told<'a> {
    pub(super) node: Node,
    pub(super) place: FieldPlace<'a>,
}

/// The instrument that a type and a device describe together: `merged` without tags, `tags` the type's and the device's.
pub(super) fn instrument(build: &mut Build, merged: &Table, tags: &[&Node], at: Place) -> Option<Instrument> {
    let mut kind = merged.clone();
    let list = Content::List(tags.iter().map(|node| (*node).clone()).collect());
    let template = merged.entries.first()?;
    kind.entries.push(Entry {
        key: "tags".to_owned(),
        key_at: template.key_at,
        node: Node { content: list, ..template.node.clone() },
    });
    let instrument =
        values::serial::instrument(&kind).map_err(|message| build.find(Finding::new(at, message))).ok()?;
    if instrument.requests.len() > 1 && instrument.requests.iter().any(|request| request.send.is_none()) {
        let finding = Finding::new(at, "it has several requests, and one that sends nothing");
        build.find(
            finding.with_help("write `send` in each, or describe what it sends by itself without `request`"),
        );
    }
    if let Some(probe) = merged.get("probe") {
        let finding = Finding::new(probe.at, "an instrument that a type describes has no `probe`");
        build.find(finding.with_help("take it out; `match` in its frame tells whose an answer is"));
    }
    Some(instrument)
}

/// The tags that are fields of what `instrument` says, each with its place: those in `tags`, or those of its requests.
pub(super) fn told<'a>(instrument: &'a Instrument, merged: &Table, tags: &[&Node]) -> Vec<Told<'a>> {
    let mode = instrument.mode();
    let mut all = Vec::new();
    for (number, request) in (0_u16..).zip(&instrument.requests) {
        let own = request.name.as_deref().map(|name| merged.table("request").table(name));
        let nodes: Vec<Node> = match own {
            None => tags.iter().map(|node| (*node).clone()).collect(),
            Some(own) => own.tables("tags").map(|node| with_every(node, own)).collect(),
        };
        all.extend(nodes.into_iter().filter_map(|node| {
            let place = place(number, request, mode, &node)?;
            Some(Told { node, place })
        }));
    }
    all
}

fn place<'a>(request: u16, of: &'a Request, mode: Mode, node: &Node) -> Option<FieldPlace<'a>> {
    let name = node.table()?.get("name")?.text()?;
    let index = of.fields.iter().position(|field| *field.name == *name)?;
    Some(FieldPlace { request, index, field: of.fields.get(index)?, mode })
}

/// A tag that is read as often as its request says.
fn with_every(node: &Node, request: &Table) -> Node {
    let (Some(every), Some(table)) = (request.entry("every"), node.table()) else { return node.clone() };
    if table.get("every").is_some() {
        return node.clone();
    }
    let mut table = table.clone();
    table.entries.push(every.clone());
    Node { content: Content::Table(table), ..node.clone() }
}

/// What the names in templates stand for, for this device; every one of them must stand for something.
pub(super) fn vars(build: &mut Build, instrument: &Instrument, device: &Table, at: Place) -> Vars {
    let mut vars = value(device, "vars", values::serial::vars).unwrap_or_default();
    if let Some(unit) = value(device, "unit", values::units).as_deref().and_then(<[u8]>::first) {
        vars = vars.with("unit", Var::Number((*unit).into()));
    }
    if let Some(address) = value(device, "address", values::serial::address) {
        vars = vars.with("address", Var::Text(address.into()));
    }
    for request in &instrument.requests {
        let known = vars.over(&request.vars).over(&instrument.vars);
        let matches = request.frame.matches.iter().map(|(_, template)| template);
        for name in request.send.iter().chain(matches).flat_map(|template| template.names()) {
            if known.get(name).is_none() && name != "value" {
                let finding =
                    Finding::new(at, format!("nothing says what `{name}` is, which its requests need"));
                build.find(finding.with_help(format!("write {name} = …, or vars = {{ {name} = … }}")));
            }
        }
    }
    vars
}
