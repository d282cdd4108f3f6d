//! Where a value lies and what its registers mean: `at`, `type`, `length`, `format`, `encoding`, `order`, `scale`, held
//! against each other and against the device.

use super::super::finding::Finding;
use super::super::site::{Layout, Quirks, Scaling};
use super::super::tree::{Content, Node, Table};
use super::super::values;
use super::super::values::at::{self, At, Bits};
use super::Build;
use super::layers::Layers;
use crate::tag::{ByteForm, ByteOrder, DataType, Encoding, Span, TimeFormat};

/// Where a value lies, and what its registers mean.
pub(super) struct Located {
    pub(super) model: Option<u16>,
    pub(super) span: Span,
    pub(super) data_type: DataType,
}

/// Where the value lies and what it means, if the two fit each other and the device.
pub(super) fn place(build: &mut Build, layers: &Layers<'_>, node: &Node, table: &Table) -> Option<Located> {
    let Some(at_node) = layers.get(table, "at") else {
        build.find(
            Finding::new(node.at, "a tag needs `at`").with_help("write where it is read: at = \"hr:0\""),
        );
        return None;
    };
    let at = match at::at(at_node, layers.base(), &layers.areas()) {
        Ok(at) => at,
        Err(message) => {
            if matches!(at_node.content, Content::Text(_)) {
                build.find(Finding::new(at_node.at, format!("`at`: {message}")));
            }
            return None;
        }
    };
    let draft = Draft { layers, node, table, at_node, at };
    let data_type = draft.data_type(build)?;
    let data_type = draft.refined(build, data_type)?;
    draft.check_keys(build, data_type);
    let count = draft.count(build, data_type)?;
    let span = Span { area: at.area, address: at.address, count };
    if span.end() > at.end {
        let message = match at.end {
            65536 => format!("{span} ends after the last address, 65535"),
            _ => format!("{span} ends after the area of `{}`", at_node.text().unwrap_or_default()),
        };
        build.find(Finding::new(at_node.at, message));
        return None;
    }
    Some(Located { model: at.model, span, data_type })
}

/// A tag or a probe whose address is known.
struct Draft<'a> {
    layers: &'a Layers<'a>,
    node: &'a Node,
    table: &'a Table,
    at_node: &'a Node,
    at: At,
}

impl Draft<'_> {
    /// The type that is written for this very tag, not for all of the device.
    fn own_type(&self) -> Option<&Node> {
        self.layers.own(self.table, "type")
    }

    fn data_type(&self, build: &mut Build) -> Option<DataType> {
        if self.at.area.is_bits() && self.at.bits.is_some() {
            let prefix = self.at.area.prefix();
            let message = format!("{prefix}: holds single bits, which have no bits themselves");
            build.find(Finding::new(self.at_node.at, message));
            return None;
        }
        match self.at.bits {
            None if self.at.area.is_bits() => self.single(build, None),
            Some(Bits::One(bit)) => self.single(build, Some(bit)),
            Some(Bits::Slice(first, last)) => self.slice(build, first, last),
            None => self.whole(build),
        }
    }

    /// A type of registers; others have been let pass for instruments.
    fn parsed(&self, build: &mut Build, node: &Node) -> Option<DataType> {
        let is_of_instruments = matches!(node.text(), Some("decimal" | "hex"));
        match values::data_type(node) {
            Ok(data_type) => Some(data_type),
            Err(message) => {
                if is_of_instruments {
                    build.find(Finding::new(node.at, format!("`type`: {message}")));
                }
                None
            }
        }
    }

    /// A coil, a discrete input or one bit of a register.
    fn single(&self, build: &mut Build, bit: Option<u8>) -> Option<DataType> {
        let Some(node) = self.own_type() else { return Some(DataType::Bool { bit }) };
        if let DataType::Bool { .. } = self.parsed(build, node)? {
            return Some(DataType::Bool { bit });
        }
        let finding = Finding::new(node.at, "a single bit is a \"bool\"");
        build.find(match bit {
            Some(bit) => finding.with_help(format!(
                "for bits of a number give the number's address and name them: bits = {{ {bit} = \"NAME\" }}"
            )),
            None => finding,
        });
        None
    }

    /// Bits `first` to `last` of a register: a half of it, or an unsigned number.
    fn slice(&self, build: &mut Build, first: u8, last: u8) -> Option<DataType> {
        let half = match (first, last) {
            (0, 7) => Some(false),
            (8, 15) => Some(true),
            _ => None,
        };
        let slice = DataType::Slice { first, last };
        let Some(node) = self.own_type() else {
            let byte = |is_high| DataType::Byte { is_high, form: ByteForm::Unsigned };
            return Some(half.map_or(slice, byte));
        };
        match (self.parsed(build, node)?, half) {
            (DataType::Byte { form, .. }, Some(is_high)) => Some(DataType::Byte { is_high, form }),
            (DataType::Byte { form: ByteForm::Unsigned, .. }, None) if last - first < 8 => Some(slice),
            (DataType::U16, _) => Some(slice),
            (other, _) => {
                let message = format!("bits {first} to {last} are no \"{}\"", other.name());
                build.find(
                    Finding::new(node.at, message)
                        .with_help("write \"u16\"; 0-7 and 8-15 may be \"u8\", \"i8\" or \"bcd8\""),
                );
                None
            }
        }
    }

    /// All of one register or of several.
    fn whole(&self, build: &mut Build) -> Option<DataType> {
        let data_type = match self.layers.get(self.table, "type") {
            Some(node) => self.parsed(build, node)?,
            None => DataType::U16,
        };
        if let DataType::Bool { .. } = data_type {
            let finding = Finding::new(self.at_node.at, "a bool in a register needs the number of its bit");
            build.find(
                finding.with_help("write it after a point: \"hr:110.3\" is bit 3, bit 0 is the lowest"),
            );
            return None;
        }
        Some(data_type)
    }

    /// The type with what `encoding`, `order`, `format` and `expr` say of it.
    fn refined(&self, build: &mut Build, data_type: DataType) -> Option<DataType> {
        match data_type {
            DataType::Text { .. } => {
                let order = self.layers.get(self.table, "order").and_then(Node::text);
                let encoding: Option<Encoding> = self.layers.value(self.table, "encoding", values::encoding);
                Some(DataType::Text { encoding: encoding.unwrap_or_default(), is_sparse: order == Some("B") })
            }
            DataType::Time(_) => self.time(build).map(DataType::Time),
            DataType::Words if self.layers.get(self.table, "expr").is_none() => {
                let finding = Finding::new(self.node.at, "\"words\" are no value by themselves");
                build.find(finding.with_help("write what they mean: expr = \"word(0) * 10000 + word(1)\""));
                None
            }
            DataType::Bool { .. }
            | DataType::Byte { .. }
            | DataType::Slice { .. }
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
            | DataType::Bcd { .. }
            | DataType::Words => Some(data_type),
        }
    }

    fn time(&self, build: &mut Build) -> Option<TimeFormat> {
        let Some(node) = self.layers.get(self.table, "format") else {
            let finding = Finding::new(self.node.at, "a datetime needs `format`");
            build.find(finding.with_help(
                "write what its registers hold, as \"YYMM DDhh mmss\" or \"YYYY MM DD hh mm ss\"",
            ));
            return None;
        };
        match TimeFormat::parse(node.text()?) {
            Ok(format) => Some(format),
            Err(message) => {
                build.find(Finding::new(node.at, format!("`format`: {message}")));
                None
            }
        }
    }

    /// Keys of the tag that its type has no use for.
    fn check_keys(&self, build: &mut Build, data_type: DataType) {
        let is_text = matches!(data_type, DataType::Text { .. });
        let is_time = matches!(data_type, DataType::Time(_));
        for (key, is_used, message) in [
            ("encoding", is_text, "only a string has an `encoding`"),
            ("format", is_time, "only a datetime has a `format`"),
            ("length", is_text || data_type == DataType::Words, "only a string has a `length`"),
        ] {
            let own = self.layers.own(self.table, key);
            // what is no length at all has been found already
            let own = own.filter(|node| key != "length" || values::integer(node, 1, 125).is_ok());
            if let (Some(node), false) = (own, is_used) {
                build.find(Finding::new(node.at, message));
            }
        }
    }

    /// How many registers it takes.
    fn count(&self, build: &mut Build, data_type: DataType) -> Option<u16> {
        if let Some(count) = data_type.registers() {
            return Some(count);
        }
        if let DataType::Bool { .. } = data_type {
            return Some(1);
        }
        let Some(length) = self.layers.get(self.table, "length") else {
            let is_words = data_type == DataType::Words;
            let message = if is_words { "\"words\" need `length`" } else { "a string needs `length`" };
            let help = if is_words {
                "write how many registers they are"
            } else {
                "write how many registers it takes, two characters each"
            };
            build.find(Finding::new(self.node.at, message).with_help(help));
            return None;
        };
        u16::try_from(values::integer(length, 1, 125).ok()?).ok()
    }
}

/// One bit of the number that lies so: `bits` names them, 0 is the lowest under the number's order. It is read with all
/// registers of the number, for devices refuse half of one. `None`: the number has no such bit, or it is no whole number.
pub(super) fn bit_of(layout: Layout, bit: u8) -> Option<Layout> {
    let bit = match layout.data_type {
        DataType::Byte { form: ByteForm::Bcd, .. } => return None,
        DataType::Byte { is_high, .. } if bit < 8 => bit + if is_high { 8 } else { 0 },
        DataType::Slice { first, last } if bit <= last.saturating_sub(first) => first + bit,
        DataType::I16
        | DataType::U16
        | DataType::I32
        | DataType::U32
        | DataType::I48
        | DataType::U48
        | DataType::I64
        | DataType::U64
            if u16::from(bit) < layout.span.count * 16 =>
        {
            bit
        }
        DataType::Bool { .. }
        | DataType::Byte { .. }
        | DataType::Slice { .. }
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
        | DataType::Bcd { .. }
        | DataType::Text { .. }
        | DataType::Time(_)
        | DataType::Words => return None,
    };
    Some(Layout { data_type: DataType::Bool { bit: Some(bit) }, scaling: None, ..layout })
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
    if data_type.is_number() && letters < usize::from(span.count * 2) && letters < 4 {
        let message = format!("an order of {letters} letters for a value of {} bytes", span.count * 2);
        build.find(
            Finding::new(node.at, message).with_help("write ABCD, CDAB, BADC or DCBA; B is for strings"),
        );
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
    let is_computed = layers.get(table, "expr").is_some();
    if !data_type.is_number() && !is_computed {
        for node in ["scale", "offset"].iter().filter_map(|key| layers.own(table, key)) {
            build.find(Finding::new(node.at, "only a number can be scaled"));
        }
        return None;
    }
    Some(Scaling { scale: scale.unwrap_or(1.0), offset: offset.unwrap_or(0.0) })
}

#[cfg(test)]
mod tests;
