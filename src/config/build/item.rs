//! Tags of meters that speak DL/T 645: `at` is a data identifier, `format` how its digits are printed.

use std::collections::BTreeMap;

use super::super::finding::Finding;
use super::super::site::{Item, Layout, Source};
use super::super::tree::{Node, Table};
use super::Build;
use super::layers::Layers;
use super::place::scaling;
use super::tag::Draft;
use crate::dlt645::{Format, Identifier, Version};
use crate::tag::{Area, ByteOrder, DataType, Encoding, Span};

/// What is asked for, and how the value lies in it.
pub(super) type Digits = (Identifier, Format);

/// Keys that say how a value lies in registers.
const OF_REGISTERS: [&str; 5] = ["type", "length", "order", "encoding", "bits"];

/// Where the value lies, if it can; which request brings it is not known yet.
pub(super) fn place(
    build: &mut Build,
    layers: &Layers<'_>,
    node: &Node,
    table: &Table,
    version: Version,
) -> Option<(Layout, Digits)> {
    let own = OF_REGISTERS.iter().filter_map(|key| layers.own(table, key));
    for at in own.filter(|node| node.text() != Some("datetime")).map(|node| node.at) {
        build.find(Finding::new(at, "a meter's value has a `format`, and nothing of this"));
    }
    let at = layers.get(table, "at");
    let format = layers.get(table, "format");
    if at.is_none() {
        let finding = Finding::new(node.at, "a tag of a meter needs `at`");
        build.find(finding.with_help("write its data identifier: at = \"02010100\""));
    }
    if format.is_none() {
        let finding = Finding::new(node.at, "a tag of a meter needs `format`");
        build.find(finding.with_help("write its digits as the standard prints them: format = \"XXX.X\""));
    }
    let mut parsed = |node: &Node, key: &str| -> Option<String> {
        let text = node.text();
        if text.is_none() {
            build.find(Finding::new(
                node.at,
                format!("`{key}` must be text in quotes, but is {}", node.kind()),
            ));
        }
        text.map(str::to_owned)
    };
    let (at, format) = (at?, format?);
    let (identifier, digits) = (parsed(at, "at")?, parsed(format, "format")?);
    let identifier = Identifier::parse(&identifier, version)
        .map_err(|message| build.find(Finding::new(at.at, format!("`at`: {message}"))))
        .ok()?;
    if identifier.is_block() {
        let finding = Finding::new(at.at, "`at`: this means several items at once");
        build.find(finding.with_help("name each by itself: they are asked for together where the meter can"));
        return None;
    }
    let digits = Format::parse(&digits)
        .map_err(|message| build.find(Finding::new(format.at, format!("`format`: {message}"))))
        .ok()?;
    let data_type = data_type(digits);
    let scaling = scaling(build, layers, table, data_type);
    let span = Span { area: Area::Items, address: 0, count: 1 };
    Some((
        Layout { span, model: None, data_type, order: ByteOrder::default(), scaling },
        (identifier, digits),
    ))
}

fn data_type(format: Format) -> DataType {
    match format {
        Format::Number(number) if number.has_decimals() => DataType::F64,
        Format::Number(_) => DataType::I64,
        Format::Time(format, _) => DataType::Time(format),
        Format::Digits(_) => DataType::Text { encoding: Encoding::Auto, is_sparse: false },
        Format::Bits(_) => DataType::U64,
    }
}

/// Deals the tags of a meter out to requests: those of one block that are read at one rate share one, where `blocks`
/// may be asked for.
pub(super) fn items(drafts: &mut [Draft], blocks: bool) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    let mut known = BTreeMap::new();
    for draft in drafts {
        let every = draft.tag.every;
        let Source::Registers(registers) = &mut draft.tag.source else { continue };
        let Some((identifier, format)) = registers.digits else { continue };
        let block = identifier.block().filter(|_| blocks);
        let of = block.map_or(identifier, |(block, _)| block);
        let index = *known.entry((of, every, format.width())).or_insert_with(|| {
            items.push(Item { block: block.map(|(block, _)| block), parts: Vec::new() });
            items.len() - 1
        });
        if let Some(item) = items.get_mut(index)
            && !item.parts.contains(&identifier)
        {
            item.parts.push(identifier);
        }
        registers.layout.span.address = u16::try_from(index).unwrap_or(u16::MAX);
    }
    // a block of which one item is wanted is more than is wanted
    for item in items.iter_mut().filter(|item| item.parts.len() < 2) {
        item.block = None;
    }
    items
}
