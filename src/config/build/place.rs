//! Where a value lies and what its registers mean: `at`, `type`, `length`, `order`, `scale`, held against the device.

use super::super::finding::Finding;
use super::super::site::{Quirks, Scaling};
use super::super::tree::{Content, Node, Table};
use super::super::values;
use super::Build;
use super::layers::Layers;
use crate::tag::{ByteOrder, DataType, Span};

/// Where the value lies and what it means, if the two fit each other and the device.
pub(super) fn place(
    build: &mut Build,
    layers: &Layers<'_>,
    node: &Node,
    table: &Table,
) -> Option<(Span, DataType)> {
    let Some(at_node) = layers.get(table, "at") else {
        build.find(
            Finding::new(node.at, "a tag needs `at`").with_help("write where it is read: at = \"hr:0\""),
        );
        return None;
    };
    let at = match values::at(at_node, layers.base()) {
        Ok(at) => at,
        Err(message) => {
            if matches!(at_node.content, Content::Text(_)) {
                build.find(Finding::new(at_node.at, format!("`at`: {message}")));
            }
            return None;
        }
    };
    let type_node = layers.get(table, "type");
    let is_single_bit = at.area.is_bits() || at.bit.is_some();
    let data_type = match type_node {
        Some(node) => values::data_type(node).ok()?,
        None if is_single_bit => DataType::Bool { bit: None },
        None => DataType::U16,
    };
    let data_type = match (data_type, is_single_bit) {
        (DataType::Bool { .. }, true) => DataType::Bool { bit: at.bit },
        (DataType::Bool { .. }, false) => {
            let finding = Finding::new(at_node.at, "a bool in a register needs the number of its bit");
            build.find(
                finding.with_help("write it after a point: \"hr:110.3\" is bit 3, bit 0 is the lowest"),
            );
            return None;
        }
        (_, true) => {
            build.find(Finding::new(type_node?.at, "a single bit is a \"bool\""));
            return None;
        }
        (other, false) => other,
    };
    if let (true, Some(bit)) = (at.area.is_bits(), at.bit) {
        build.find(Finding::new(
            at_node.at,
            format!("{}: holds single bits, there is no bit {bit}", at.area.prefix()),
        ));
        return None;
    }
    let count = count(build, layers, table, node, data_type)?;
    let span = Span { area: at.area, address: at.address, count };
    if span.end() > 65536 {
        build.find(Finding::new(at_node.at, format!("{span} ends after the last address, 65535")));
        return None;
    }
    Some((span, data_type))
}

/// A value is read in one request: the device must allow one for all of it.
pub(super) fn check_reach(build: &mut Build, node: &Node, span: Span, max_registers: u16, quirks: &Quirks) {
    if span.area.is_bits() {
        return;
    }
    let mut find = |message: String| build.find(Finding::new(node.at, message));
    let overlaps = |other: &&Span| {
        other.area == span.area
            && u32::from(other.address) < span.end()
            && u32::from(span.address) < other.end()
    };
    let whole = quirks.whole_blocks.iter().find(overlaps);
    match whole {
        Some(whole) if whole.address > span.address || whole.end() < span.end() => {
            find(format!(
                "{span} lies only partly in {whole}, which the device gives as a whole (quirks.whole_blocks)"
            ));
        }
        None if span.count > max_registers => find(format!(
            "a value of {} registers cannot be read from a device with max_registers = {max_registers}",
            span.count
        )),
        Some(_) | None => {}
    }
    if let Some(hole) = quirks.holes.iter().find(overlaps) {
        find(format!("{span} lies in {hole}, which is never read (quirks.holes)"));
    }
    let page = |address: u32| quirks.no_cross.map(|size| address / u32::from(size.get()));
    if whole.is_none() && page(span.address.into()) != page(span.end() - 1) {
        find(format!("{span} crosses a border that no request to this device may cross (quirks.no_cross)"));
    }
}

fn count(
    build: &mut Build,
    layers: &Layers<'_>,
    table: &Table,
    node: &Node,
    data_type: DataType,
) -> Option<u16> {
    let length = layers.get(table, "length");
    match (data_type, length) {
        (DataType::Text, Some(length)) => u16::try_from(values::integer(length, 1, 125).ok()?).ok(),
        (DataType::Text, None) => {
            let finding = Finding::new(node.at, "a string needs `length`");
            build.find(finding.with_help("write how many registers it takes, two characters each"));
            None
        }
        (_, Some(length))
            if layers.own(table, "length").is_some() && values::integer(length, 1, 125).is_ok() =>
        {
            build.find(Finding::new(length.at, "only a string has a `length`"));
            None
        }
        (DataType::Bool { .. } | DataType::I16 | DataType::U16, _) => Some(1),
        (DataType::I32 | DataType::U32 | DataType::F32, _) => Some(2),
        (DataType::I64 | DataType::U64 | DataType::F64, _) => Some(4),
    }
}

/// The order, if its letters are as many as the value's bytes; a longer order keeps only its letters, a shorter one
/// extends to 64 bits.
pub(super) fn order(
    build: &mut Build,
    layers: &Layers<'_>,
    table: &Table,
    span: Span,
    data_type: DataType,
) -> ByteOrder {
    let Some(node) = layers.get(table, "order") else { return ByteOrder::default() };
    let Ok((order, letters)) = values::order(node) else { return ByteOrder::default() };
    let is_number = !matches!(data_type, DataType::Bool { .. } | DataType::Text);
    if is_number && letters < usize::from(span.count * 2) && letters < 4 {
        let message = format!("an order of {letters} letters for a value of {} bytes", span.count * 2);
        build.find(Finding::new(node.at, message).with_help("write ABCD, CDAB, BADC or DCBA"));
    }
    order
}

pub(super) fn scaling(
    build: &mut Build,
    layers: &Layers<'_>,
    table: &Table,
    data_type: DataType,
) -> Option<Scaling> {
    let scale = layers.value(table, "scale", values::scale);
    let offset = layers.value(table, "offset", values::number);
    if scale.is_none() && offset.is_none() {
        return None;
    }
    if matches!(data_type, DataType::Bool { .. } | DataType::Text) {
        for node in ["scale", "offset"].iter().filter_map(|key| layers.own(table, key)) {
            build.find(Finding::new(node.at, "only a number can be scaled"));
        }
        return None;
    }
    Some(Scaling { scale: scale.unwrap_or(1.0), offset: offset.unwrap_or(0.0) })
}
