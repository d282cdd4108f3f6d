//! `protocol = "serial"`: how frames, requests, places and examples are written.

mod template;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::bytes::Regex;

use super::super::finding::did_you_mean;
use super::super::site::serial::{
    Check, CheckKind, Example, FRAME_MAX, Field, FieldAt, FieldType, FrameRule, Instrument, Length, Request,
    Template, Unpack, Var, Vars,
};
use super::super::tree::{Content, Node, Table};
use super::{
    Parsed, boolean, choice, data_type, encoding, integer, interval, name, operand, order, pattern, tag_name,
    text, wanted,
};
use crate::tag::{ByteForm, ByteOrder, DataType, TimeFormat};
pub(in crate::config) use template::{bytes, check_form, template};

/// The most of patterns, ends, positions of `match`, variables.
const LIST_MAX: usize = 32;
/// The longest frame of a fixed length.
const LENGTH_MAX: i64 = 4096;
/// The farthest place from either end of a frame.
const PLACE_MAX: i64 = 65_535;
/// The longest address, in digits.
const ADDRESS_MAX: usize = 24;

/// The table in `node`, none of whose keys is another than `known`.
fn table<'a>(node: &'a Node, what: &str, known: &[&str]) -> Parsed<&'a Table> {
    let Some(table) = node.table() else { return wanted(&format!("a table of {what}"), node) };
    match table.entries.iter().find(|entry| !known.contains(&entry.key.as_str())) {
        None => Ok(table),
        Some(entry) => {
            let hint = did_you_mean(&entry.key, known.iter().copied());
            let hint = hint.unwrap_or_else(|| known.join(" "));
            Err(format!("there is no key `{}` in {what}: {hint}", entry.key))
        }
    }
}

/// What is under `key`, if it is there; what is wrong with it begins with the key.
fn get<T>(table: &Table, key: &str, parse: impl Fn(&Node) -> Parsed<T>) -> Parsed<Option<T>> {
    table.get(key).map(parse).transpose().map_err(|why| format!("{key}: {why}"))
}

/// One or a list, at most so many.
fn many<T>(node: &Node, parse: impl Fn(&Node) -> Parsed<T>) -> Parsed<Vec<T>> {
    let nodes = node.one_or_many();
    if nodes.is_empty() || nodes.len() > LIST_MAX {
        return Err(format!("wanted one, or a list of 1 to {LIST_MAX}"));
    }
    nodes.iter().map(parse).collect()
}

fn place(node: &Node) -> Parsed<i32> {
    let place = integer(node, -PLACE_MAX - 1, PLACE_MAX)?;
    i32::try_from(place).map_err(|why| why.to_string())
}

/// `{ kind = "sum8", over = [0, -3], at = -2, as = "hex" }`.
pub(in crate::config) fn check(node: &Node) -> Parsed<Check> {
    let table = table(node, "a checksum", &["kind", "over", "at", "as"])?;
    let words = CheckKind::ALL.map(CheckKind::word);
    let kind = get(table, "kind", |node| choice(node, &words))?;
    let kind = kind.and_then(|word| CheckKind::from_word(&word)).ok_or("a checksum needs `kind`")?;
    let over = get(table, "over", |node| match (&node.content, node.one_or_many()) {
        (Content::List(_), [first, last]) => Ok((place(first)?, place(last)?)),
        _ => wanted("the first and the last byte, as [0, -3]", node),
    })?;
    let over = over.ok_or("a checksum needs `over`, the first and the last byte that count")?;
    if over.0 > over.1 && (over.0 < 0) == (over.1 < 0) {
        return Err("over: wanted the first byte before the last".to_owned());
    }
    let at = get(table, "at", place)?.ok_or("a checksum needs `at`, where it stands")?;
    let form = get(table, "as", |node| check_form(kind, Some(&text(node)?)))?;
    Ok(Check { kind, over, at, form: form.map_or_else(|| check_form(kind, None), Ok)? })
}

/// `12`, or `{ at = 10, add = 13, size = 1, order = "AB" }`.
pub(in crate::config) fn length(node: &Node) -> Parsed<Length> {
    let number = |number: i64| u16::try_from(number).map_err(|why| why.to_string());
    if node.table().is_none() {
        return integer(node, 1, LENGTH_MAX).and_then(number).map(Length::Fixed);
    }
    let table = table(node, "a length", &["at", "add", "size", "order"])?;
    let at = get(table, "at", |node| integer(node, 0, LENGTH_MAX - 1))?;
    let at = number(at.ok_or("a length needs `at`, where its number stands")?)?;
    let add = get(table, "add", |node| integer(node, -64, 64))?.unwrap_or_default();
    let size = get(table, "size", |node| integer(node, 1, 2))?.unwrap_or(1);
    let order = get(table, "order", |node| choice(node, &["AB", "BA"]))?;
    Ok(Length::Field {
        at,
        add: i16::try_from(add).map_err(|why| why.to_string())?,
        is_wide: size == 2,
        is_low_first: order.as_deref() == Some("BA"),
    })
}

/// `{ 0 = "{unit as u8}", -2 = "81" }`: what stands where in an answer.
pub(in crate::config) fn matches(node: &Node) -> Parsed<Vec<(i32, Template)>> {
    let what = "a table of position = \"bytes\"";
    let Some(table) = node.table() else { return wanted(what, node) };
    if table.entries.len() > LIST_MAX {
        return Err(format!("wanted at most {LIST_MAX} positions"));
    }
    let mut all = Vec::new();
    for entry in &table.entries {
        let at = position(&entry.key).ok_or_else(|| format!("wanted {what}, got `{}`", entry.key))?;
        all.push((at, template(&entry.node).map_err(|why| format!("{}: {why}", entry.key))?));
    }
    Ok(all)
}

/// A place from either end, as digits.
fn position(text: &str) -> Option<i32> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: i64 = text.parse().ok().filter(|_| is_number)?;
    i32::try_from(number).ok().filter(|_| (-PLACE_MAX - 1..=PLACE_MAX).contains(&number))
}

/// `[type.X.frame]`, or that of a request: what it does not say stands in that of the type.
pub(in crate::config) fn frame(node: &Node) -> Parsed<FrameRule> {
    const KEYS: [&str; 13] = [
        "start", "end", "length", "idle", "max", "trailer", "skip", "check", "match", "nak", "decode",
        "pattern", "encoding",
    ];
    let table = table(node, "a frame", &KEYS)?;
    let length = get(table, "length", length)?;
    let max = get(table, "max", |node| integer(node, 1, FRAME_MAX.try_into().unwrap_or(i64::MAX)))?;
    let fill = |node: &Node| match bytes(node)?.as_slice() {
        [fill] => Ok(*fill),
        _ => wanted("one byte", node),
    };
    let unpack = get(table, "decode", |node| choice(node, &["hex", "reverse"]))?;
    let trailer = get(table, "trailer", |node| integer(node, 0, 16))?.unwrap_or_default();
    let fixed = if let Some(Length::Fixed(size)) = length { size.into() } else { 0 };
    let rule = FrameRule {
        start: get(table, "start", bytes)?.unwrap_or_default(),
        ends: get(table, "end", |node| many(node, bytes))?.unwrap_or_default(),
        length,
        idle: get(table, "idle", interval)?,
        max: max.map_or(FrameRule::MAX.max(fixed), |max| usize::try_from(max).unwrap_or(FRAME_MAX)),
        trailer: u8::try_from(trailer).map_err(|why| why.to_string())?,
        skip: get(table, "skip", fill)?,
        check: get(table, "check", check)?,
        matches: get(table, "match", matches)?.unwrap_or_default(),
        nak: get(table, "nak", bytes)?.unwrap_or_default(),
        unpack: unpack.map(|word| if word == "hex" { Unpack::Hex } else { Unpack::Reverse }),
        patterns: get(table, "pattern", |node| many(node, pattern))?.unwrap_or_default(),
        encoding: get(table, "encoding", encoding)?.unwrap_or_default(),
    };
    fits_together(&rule).map(|()| rule)
}

/// What no frame could ever be.
fn fits_together(rule: &FrameRule) -> Parsed<()> {
    if rule.length.is_none() && rule.ends.is_empty() && rule.idle.is_none() && rule.start.is_empty() {
        return Err("nothing says where a frame ends: wanted `length`, `end`, `idle` or `start`".to_owned());
    }
    if rule.trailer > 0 && rule.ends.is_empty() {
        return Err("`trailer` is what follows `end`, which is not there".to_owned());
    }
    let end = rule.ends.iter().map(Vec::len).min().unwrap_or_default();
    let around = rule.start.len() + end + usize::from(rule.trailer);
    if around > rule.max {
        return Err(format!("`max`: start, end and trailer do not fit into {} bytes", rule.max));
    }
    let size = match rule.length {
        None => return Ok(()),
        Some(Length::Field { at, is_wide, .. }) => {
            let known = usize::from(at) + if is_wide { 2 } else { 1 };
            return if known > rule.max {
                Err(format!("length: it stands behind `max`, {} bytes", rule.max))
            } else {
                Ok(())
            };
        }
        Some(Length::Fixed(size)) => usize::from(size),
    };
    if size < around {
        return Err(format!("length: start, end and trailer do not fit into {size} bytes"));
    }
    if size > rule.max {
        return Err(format!("length: {size} bytes are more than `max`, {}", rule.max));
    }
    let is_inside = |place: i32| {
        let distance = usize::try_from(place.unsigned_abs()).unwrap_or(usize::MAX);
        distance < size || place < 0 && distance == size
    };
    match rule.check {
        Some(check) if ![check.over.0, check.over.1, check.at].into_iter().all(is_inside) => {
            Err(format!("check: it reaches beyond the {size} bytes of the frame"))
        }
        Some(_) | None => Ok(()),
    }
}

/// `byte:14`, `byte:-3`, `byte:2.3`, `byte:1.0-2`, `group:val`.
pub(in crate::config) fn field_at(node: &Node) -> Parsed<FieldAt> {
    let at = node.text().and_then(|text| match text.split_once(':')? {
        ("byte", place) => byte_at(place),
        ("group", name) => is_group_name(name).then(|| FieldAt::Group(name.into())),
        _ => None,
    });
    at.map_or_else(
        || wanted("a place in the frame, as \"byte:14\", \"byte:-3\", \"byte:2.0-1\" or \"group:val\"", node),
        Ok,
    )
}

fn byte_at(place: &str) -> Option<FieldAt> {
    let (byte, bits) = place.split_once('.').map_or((place, None), |(byte, bits)| (byte, Some(bits)));
    let bit = |text: &str| match text.as_bytes() {
        [digit @ b'0'..=b'7'] => Some(digit - b'0'),
        _ => None,
    };
    let bits = match bits.map(|bits| bits.split_once('-').ok_or(bits)) {
        None => None,
        Some(Err(one)) => Some((bit(one)?, bit(one)?)),
        Some(Ok((first, last))) => {
            Some((bit(first)?, bit(last)?)).filter(|(first, last)| first < last).map(Some)?
        }
    };
    Some(FieldAt::Byte { position: position(byte)?, bits })
}

/// As the engine of patterns takes them.
fn is_group_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// `type` of a tag of this protocol: those of registers, "decimal" and "hex".
pub(in crate::config) fn field_type(node: &Node) -> Parsed<FieldType> {
    match node.text() {
        Some("decimal") => Ok(FieldType::Decimal),
        Some("hex") => Ok(FieldType::Hex),
        _ => data_type(node).map(FieldType::Data),
    }
}

/// What of a tag says where its value stands in a frame; its order is `order` where it says none.
pub(in crate::config) fn field(tag: &Table, order_of_type: ByteOrder) -> Parsed<Field> {
    let name = get(tag, "name", tag_name)?.ok_or("a tag needs `name`")?;
    let at = get(tag, "at", field_at)?.ok_or("a tag needs `at`")?;
    let length = get(tag, "length", |node| integer(node, 1, 250))?;
    let length = length.map(u16::try_from).transpose().map_err(|why| why.to_string())?;
    let own = get(tag, "order", order)?.map(|(order, _)| order);
    let kind = get(tag, "kind", super::kind)?.unwrap_or_default();
    let mut field = Field {
        name: name.into(),
        field_type: typed(tag, &at)?,
        at,
        length,
        order: own.unwrap_or(order_of_type),
        is_event: kind == super::Kind::Event,
        is_optional: get(tag, "optional", boolean)?.unwrap_or_default(),
    };
    sized(&mut field)?;
    Ok(field)
}

/// The type of a field, with what else says of it.
fn typed(tag: &Table, at: &FieldAt) -> Parsed<FieldType> {
    let written = get(tag, "type", field_type)?;
    let byte = DataType::Byte { is_high: false, form: ByteForm::Unsigned };
    let field_type = match (written, at) {
        (None, FieldAt::Byte { bits: Some((first, last)), .. }) if first == last => {
            FieldType::Data(DataType::Bool { bit: None })
        }
        (None, FieldAt::Byte { bits: Some(_), .. }) => FieldType::Data(byte),
        (None, FieldAt::Byte { bits: None, .. }) => FieldType::Data(DataType::U16),
        (None, FieldAt::Group(_)) => return Err("a group needs `type`: string, decimal or hex".to_owned()),
        (Some(written), _) => written,
    };
    if let FieldAt::Byte { bits: Some((first, last)), .. } = at {
        let wanted = if first == last { DataType::Bool { bit: None } } else { byte };
        if field_type != FieldType::Data(wanted) {
            return Err(format!("type: these bits are \"{}\"", wanted.name()));
        }
    }
    let encoding = get(tag, "encoding", encoding)?;
    let format = get(tag, "format", |node| TimeFormat::parse(&text(node)?))?;
    Ok(match (field_type, encoding, format) {
        (FieldType::Data(DataType::Text { is_sparse, .. }), Some(encoding), _) => {
            FieldType::Data(DataType::Text { encoding, is_sparse })
        }
        (FieldType::Data(DataType::Time(_)), _, Some(format)) => FieldType::Data(DataType::Time(format)),
        (other, ..) => other,
    })
}

/// Sees that a field knows how many bytes it has.
fn sized(field: &mut Field) -> Parsed<()> {
    let FieldAt::Byte { bits: None, .. } = field.at else {
        return match field.length {
            None => Ok(()),
            Some(_) => Err("length: bits and groups know theirs".to_owned()),
        };
    };
    if let FieldType::Data(DataType::Bcd { digits: 6 | 10 }) = field.field_type
        && field.order.words_reversed != field.order.bytes_swapped
    {
        return Err("order: wanted ABCD or DCBA of an odd number of bytes".to_owned());
    }
    match (field.field_type, field.length) {
        (FieldType::Decimal | FieldType::Hex, None) => {
            Err("digits need `length`, how many bytes they take".to_owned())
        }
        (FieldType::Data(DataType::Bool { .. }), _) => Err("a bool needs a bit, as \"byte:2.3\"".to_owned()),
        (FieldType::Data(DataType::Words), None) => {
            field.length = Some(2);
            Ok(())
        }
        (FieldType::Data(DataType::Words), Some(length)) if length % 2 == 1 => {
            Err("length: words have two bytes each".to_owned())
        }
        (
            FieldType::Decimal | FieldType::Hex | FieldType::Data(DataType::Words | DataType::Text { .. }),
            _,
        )
        | (FieldType::Data(_), None) => Ok(()),
        (FieldType::Data(_), Some(_)) => Err("length: the type says how many bytes there are".to_owned()),
    }
}

/// `vars`: a name stands for text or a whole number.
pub(in crate::config) fn vars(node: &Node) -> Parsed<Vars> {
    let Some(table) = node.table() else { return wanted("a table of name = \"text\" or a number", node) };
    if table.entries.len() > LIST_MAX {
        return Err(format!("wanted at most {LIST_MAX} names"));
    }
    let mut vars = BTreeMap::new();
    for entry in &table.entries {
        if !template::is_var_name(&entry.key) || ["unit", "address", "value"].contains(&entry.key.as_str()) {
            return Err(format!(
                "wanted a name of small letters, digits, `_`, and not unit, address or value, got `{}`",
                entry.key
            ));
        }
        let var = match entry.node.text() {
            Some(text) => Var::Text(text.into()),
            None => {
                Var::Number(integer(&entry.node, 0, 1 << 32).map_err(|why| format!("{}: {why}", entry.key))?)
            }
        };
        vars.insert(Arc::from(entry.key.as_str()), var);
    }
    Ok(Vars(vars))
}

/// What of a type says how its instruments are talked to.
pub(in crate::config) fn instrument(kind: &Table) -> Parsed<Instrument> {
    let requests = match kind.get("request").and_then(Node::table) {
        None => vec![request(None, kind, &Table::default())?],
        Some(_) if kind.tables("tags").any(is_read) => {
            return Err("a type with several requests has its tags in them".to_owned());
        }
        Some(table) => {
            let one = |entry: &super::Entry| {
                let own = entry.node.table().ok_or("wanted a table of send, tags, frame, vars, every")?;
                request(Some(&entry.key), own, kind)
            };
            let named =
                |entry: &super::Entry| one(entry).map_err(|why| format!("request {}: {why}", entry.key));
            table.entries.iter().map(named).collect::<Parsed<_>>()?
        }
    };
    Ok(Instrument {
        wake: get(kind, "wake", bytes)?.unwrap_or_default(),
        vars: get(kind, "vars", vars)?.unwrap_or_default(),
        requests,
        examples: kind.tables("examples").map(example).collect::<Parsed<_>>()?,
    })
}

fn is_read(tag: &Node) -> bool {
    tag.table().is_some_and(|tag| tag.get("at").is_some())
}

/// `upper`, and of `lower` the keys that it does not have. Keys are taken whole: what one request matches is no part of
/// what another does.
fn over(upper: &Table, lower: &Table) -> Table {
    let kept = lower.entries.iter().filter(|entry| upper.get(&entry.key).is_none());
    Table { entries: upper.entries.iter().chain(kept).cloned().collect() }
}

/// The request in `own`; what it does not say stands in `kind`.
fn request(name: Option<&str>, own: &Table, kind: &Table) -> Parsed<Request> {
    let order_of_type = [own, kind].into_iter().find_map(|table| table.get("order"));
    let order_of_type = order_of_type.map(order).transpose()?.map(|(order, _)| order).unwrap_or_default();
    let rule = over(own.table("frame"), kind.table("frame"));
    let at = [own, kind].into_iter().find_map(|table| table.get("frame")).ok_or("there is no `frame`")?;
    let rule = frame(&Node { content: Content::Table(rule), ..at.clone() })
        .map_err(|why| format!("frame: {why}"))?;
    let send = [own, kind].into_iter().find_map(|table| table.get("send"));
    let fields = own.tables("tags").filter(|tag| is_read(tag)).filter_map(Node::table);
    let one = |tag: &Table| {
        let name = tag.get("name").and_then(Node::text).unwrap_or_default();
        field(tag, order_of_type).map_err(|why| format!("tag {name}: {why}"))
    };
    let fields: Vec<Field> = fields.map(one).collect::<Parsed<_>>()?;
    let is_in_pattern = |name: &str| {
        rule.patterns
            .iter()
            .any(|pattern: &Regex| pattern.capture_names().flatten().any(|known| known == name))
    };
    for field in &fields {
        if let FieldAt::Group(group) = &field.at
            && !is_in_pattern(group)
        {
            return Err(format!("tag {}: no pattern has a group `{group}`", field.name));
        }
    }
    Ok(Request {
        name: name.map(Arc::from),
        send: send.map(template).transpose().map_err(|why| format!("send: {why}"))?,
        vars: if name.is_some() { get(own, "vars", vars)?.unwrap_or_default() } else { Vars::default() },
        frame: rule,
        fields,
    })
}

/// `{ in = "01 04 13 88", out = { f = 50.0 }, send = "01 04", unit = 1 }`.
pub(in crate::config) fn example(node: &Node) -> Parsed<Example> {
    let table = table(node, "an example", &["in", "out", "send", "request", "unit", "address", "vars"])?;
    let mut all = get(table, "vars", vars)?.unwrap_or_default();
    if let Some(unit) = get(table, "unit", |node| integer(node, 0, 255))? {
        all = all.with("unit", Var::Number(unit));
    }
    if let Some(address) = get(table, "address", address)? {
        all = all.with("address", Var::Text(address.into()));
    }
    let (send, incoming) = (get(table, "send", bytes)?, get(table, "in", bytes)?);
    if send.is_none() && incoming.is_none() || incoming.is_some() != table.get("out").is_some() {
        return Err("wanted `in` with `out`, or `send`, or all three".to_owned());
    }
    let mut out = BTreeMap::new();
    for entry in &table.table("out").entries {
        let value = operand(&entry.node).map_err(|why| format!("{}: {why}", entry.key))?;
        out.insert(Arc::<str>::from(entry.key.as_str()), value);
    }
    let request = get(table, "request", name)?.map(Arc::from);
    Ok(Example { request, vars: all, send, incoming, out })
}

/// The address of an instrument: 2 to 24 hexadecimal digits.
pub(in crate::config) fn address(node: &Node) -> Parsed<String> {
    match node.text() {
        Some(text)
            if (2..=ADDRESS_MAX).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_hexdigit()) =>
        {
            Ok(text.to_owned())
        }
        _ => wanted("an address of 2 to 24 hexadecimal digits in quotes", node),
    }
}
