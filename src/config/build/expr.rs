//! `expr` of a tag: what makes a value of its registers, and of which kind that is.

use std::collections::BTreeSet;

use super::super::finding::Finding;
use super::super::site::{Deadband, Kind, Source, Tag};
use super::super::tree::{Node, Place, Table};
use super::Build;
use super::computed::{finding, said};
use super::names::Names;
use crate::expression::{self, Expression, Fault, Known, Scope};
use crate::tag::{DataType, Span, TagId, ValueType};

/// Compiles the `expr` of every tag that has one in its `naming`; `numeric` are the keys of each that only a number has.
///
/// A tag's kind must be known before another names it, so those that name one without a kind wait; where no more can be
/// compiled they name each other.
pub(super) fn compile(
    build: &mut Build,
    names: &Names,
    tags: &mut [Tag],
    naming: &[Table],
    numeric: &[Vec<(&'static str, Place)>],
) {
    let mut waiting: BTreeSet<TagId> =
        tags.iter().map(|tag| tag.id).filter(|id| written(naming, *id).is_some()).collect();
    let mut is_last = false;
    while !waiting.is_empty() {
        let before = waiting.len();
        for id in waiting.clone() {
            let (Some((node, text)), Some(tag)) = (written(naming, id), tags.get(id.index())) else {
                continue;
            };
            match (Compiler { names, tags, tag, waiting: &waiting }.compile(text), is_last) {
                (Compiled::Waits(_), false) => continue,
                (Compiled::Waits(fault), true) => {
                    build.find(finding("expr", node, text, fault));
                    continue; // the others of the circle are found as well
                }
                (Compiled::Faulty(fault), _) => build.find(finding("expr", node, text, fault)),
                (Compiled::Done(expression), _) => {
                    let numeric = numeric.get(id.index()).map_or(&[][..], Vec::as_slice);
                    if let Some(tag) = tags.get_mut(id.index()) {
                        take(build, tag, expression, node, numeric);
                    }
                }
            }
            waiting.remove(&id);
        }
        if is_last {
            break;
        }
        is_last = waiting.len() == before;
    }
}

/// The `expr` of a tag.
fn written(naming: &[Table], tag: TagId) -> Option<(&Node, &str)> {
    let node = naming.get(tag.index())?.get("expr")?;
    Some((node, node.text()?))
}

/// What came of a text.
enum Compiled {
    Done(Expression),
    Faulty(Fault),
    /// It names a tag that waits itself.
    Waits(Fault),
}

struct Compiler<'a> {
    names: &'a Names,
    tags: &'a [Tag],
    tag: &'a Tag,
    waiting: &'a BTreeSet<TagId>,
}

impl Compiler<'_> {
    fn compile(&self, text: &str) -> Compiled {
        let mut waits = false;
        let Some(scope) = self.tag.layout().map(|layout| scope(layout.span, layout.data_type)) else {
            return Compiled::Faulty(Fault {
                range: 0..0,
                message: "there are no registers here".to_owned(),
                help: None,
            });
        };
        let compiled = Expression::compile(text, scope, &mut |name| {
            let tag = self.names.find(self.tag.device, name)?;
            if self.waiting.contains(&tag) {
                waits = true;
                return Err(format!("`{name}` would depend on itself"));
            }
            Ok(Known { tag, kind: self.kind(tag, name)? })
        });
        match compiled {
            Ok(expression) => Compiled::Done(expression),
            Err(fault) if waits => Compiled::Waits(fault),
            Err(fault) => Compiled::Faulty(fault),
        }
    }

    /// What a tag is in an expression.
    fn kind(&self, tag: TagId, name: &str) -> Result<expression::Kind, String> {
        let tag = self.tags.get(tag.index()).ok_or_else(|| format!("no tag is called `{name}`"))?;
        if matches!(tag.source, Source::Computed) {
            return Err(format!("`{name}` is computed itself: make a derived tag of this"));
        }
        match tag.value_type {
            ValueType::Bool => Ok(expression::Kind::Flag),
            ValueType::Text => Ok(expression::Kind::Word),
            ValueType::Time => Err("a time cannot be used here".to_owned()),
            ValueType::Integer(_) | ValueType::Float | ValueType::Double => Ok(expression::Kind::Number),
        }
    }
}

/// What the expression of a tag that lies so may use.
fn scope(span: Span, data_type: DataType) -> Scope {
    let raw = match data_type {
        DataType::Bool { .. } => Some(expression::Kind::Flag),
        DataType::Text { .. } => Some(expression::Kind::Word),
        DataType::Time(_) | DataType::Words => None,
        DataType::Byte { .. }
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
        | DataType::Bcd { .. } => Some(expression::Kind::Number),
    };
    Scope::Registers { words: if span.area.is_bits() { 0 } else { span.count }, raw }
}

/// Gives a tag its expression, and the type of what it makes.
fn take(
    build: &mut Build,
    tag: &mut Tag,
    expression: Expression,
    node: &Node,
    numeric: &[(&'static str, Place)],
) {
    let Source::Registers(registers) = &mut tag.source else { return };
    let Some(recipe) = &mut registers.recipe else { return };
    let kind = expression.kind();
    recipe.expression = Some(expression);
    if kind == expression::Kind::Number {
        return; // a double, or a word of `values`, as it was taken for
    }
    let mut find = |at, message| build.find(Finding::new(at, message));
    if recipe.words.is_some() {
        find(node.at, format!("the expression is {}, and a number for `values` is wanted", said(kind)));
    }
    for (key, at) in numeric {
        find(*at, format!("only a number has `{key}`, and the expression is {}", said(kind)));
    }
    if tag.kind == Kind::Counter {
        find(node.at, format!("only a number is a \"counter\", and the expression is {}", said(kind)));
    }
    registers.layout.scaling = None;
    recipe.conversion = None;
    (tag.range, tag.unit, tag.deadband) = (None, None, Deadband::None);
    tag.value_type = if kind == expression::Kind::Flag { ValueType::Bool } else { ValueType::Text };
}
