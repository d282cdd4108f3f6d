//! The functions: their arguments, and what they become.

use std::ops::Range;
use std::time::Duration;

use super::memory::Cell;
use super::parse::{Parser, Part};
use super::token::Token;
use super::tree::{Flag, Number, Tree, Word};
use super::{Fault, Kind, SPAN_MAX, Scope};
use crate::tag::TagId;

const FUNCTIONS: &str =
    "there are if min max abs round clamp bit avg rate prev count tag, and word in the expr of a tag";

/// The function `name`, whose parenthesis is open.
pub(super) fn call(parser: &mut Parser<'_, '_>, name: &str, at: Range<usize>) -> Result<Part, Fault> {
    match name {
        "tag" => return quoted(parser, at),
        "word" if matches!(parser.scope, Scope::Registers { .. }) => return register(parser, at),
        "avg" | "rate" => return window(parser, name, at),
        "prev" | "count" => return remembered(parser, name, at),
        "if" | "min" | "max" | "abs" | "round" | "clamp" | "bit" => {}
        _ => return Err(Fault::new(at, format!("there is no function `{name}`")).help(FUNCTIONS)),
    }
    let mut arguments = Vec::new();
    loop {
        arguments.push(parser.inner()?);
        if !parser.takes(",") {
            break;
        }
    }
    let end = close(parser)?;
    let range = at.start..end;
    let tree = plain(name, arguments, &range)?;
    Ok(Part { tree, range })
}

fn close(parser: &mut Parser<'_, '_>) -> Result<usize, Fault> {
    Ok(parser.expect(")", "must close the function")?.end)
}

fn plain(name: &str, arguments: Vec<Part>, range: &Range<usize>) -> Result<Tree, Fault> {
    let wrong = |usage: &str| Fault::new(range.clone(), format!("write {usage}"));
    match name {
        "if" => choice(three(arguments, || wrong("if(condition, then, else)"))?),
        "abs" => {
            let [value] = <[Part; 1]>::try_from(arguments).map_err(|_| wrong("abs(x)"))?;
            Ok(Tree::Number(Number::Absolute(Box::new(value.number()?))))
        }
        "clamp" => {
            let [value, low, high] = three(arguments, || wrong("clamp(x, low, high)"))?;
            Ok(Tree::Number(Number::Clamped(Box::new([value.number()?, low.number()?, high.number()?]))))
        }
        "round" => rounded(arguments, wrong("round(x) or round(x, decimals)")),
        "bit" => {
            let [value, bit] = <[Part; 2]>::try_from(arguments).map_err(|_| wrong("bit(x, n)"))?;
            let worth = power(2.0, &bit, 52)?;
            Ok(Tree::Flag(Flag::Bit(Box::new(value.number()?), worth)))
        }
        _ if arguments.len() < 2 => Err(wrong(&format!("{name}(a, b, …) of two or more"))),
        _ => {
            let all = arguments.into_iter().map(Part::number).collect::<Result<Box<[Number]>, Fault>>()?;
            Ok(Tree::Number(if name == "min" { Number::Least(all) } else { Number::Greatest(all) }))
        }
    }
}

fn three(arguments: Vec<Part>, wrong: impl Fn() -> Fault) -> Result<[Part; 3], Fault> {
    <[Part; 3]>::try_from(arguments).map_err(|_| wrong())
}

fn rounded(arguments: Vec<Part>, wrong: Fault) -> Result<Tree, Fault> {
    let mut arguments = arguments.into_iter();
    let (Some(value), decimals, None) = (arguments.next(), arguments.next(), arguments.next()) else {
        return Err(wrong);
    };
    let factor = decimals.map_or(Ok(1.0), |decimals| power(10.0, &decimals, 9))?;
    Ok(Tree::Number(Number::Rounded(Box::new(value.number()?), factor)))
}

/// `base` to the power that stands as a whole number up to `most`.
fn power(base: f64, exponent: &Part, most: u8) -> Result<f64, Fault> {
    let wanted = literal(exponent);
    let found = (0..=most).find(|n| wanted.is_some_and(|wanted| f64::from(*n).total_cmp(&wanted).is_eq()));
    match found {
        Some(exponent) => Ok(base.powi(exponent.into())),
        None => {
            Err(Fault::new(exponent.range.clone(), format!("here a whole number is wanted, 0 to {most}")))
        }
    }
}

fn literal(part: &Part) -> Option<f64> {
    if let Tree::Number(Number::Constant(value)) = part.tree { Some(value) } else { None }
}

fn choice([condition, then, other]: [Part; 3]) -> Result<Tree, Fault> {
    let condition = condition.flag()?;
    match then.tree.kind() {
        Kind::Number => Ok(Tree::Number(Number::If(Box::new((condition, then.number()?, other.number()?))))),
        Kind::Flag => Ok(Tree::Flag(Flag::If(Box::new((condition, then.flag()?, other.flag()?))))),
        Kind::Word => Ok(Tree::Word(Word::If(Box::new((condition, then.word()?, other.word()?))))),
    }
}

fn quoted(parser: &mut Parser<'_, '_>, at: Range<usize>) -> Result<Part, Fault> {
    let (token, range) = parser.take();
    let Token::Text(name) = token else {
        return Err(Fault::new(range, "here the name of a tag stands in quotes").help("tag('any name')"));
    };
    let part = parser.tag(name, range)?;
    let end = close(parser)?;
    Ok(Part { range: at.start..end, ..part })
}

fn register(parser: &mut Parser<'_, '_>, at: Range<usize>) -> Result<Part, Fault> {
    let Scope::Registers { words: words @ 1.., .. } = parser.scope else {
        return Err(Fault::new(at, "there are no registers here"));
    };
    let part = parser.inner()?;
    let wanted = literal(&part);
    let found = (0..words).find(|n| wanted.is_some_and(|wanted| f64::from(*n).total_cmp(&wanted).is_eq()));
    let Some(index) = found else {
        let most = words.saturating_sub(1);
        return Err(Fault::new(
            part.range,
            format!("the tag has {words} registers: word(0) to word({most})"),
        ));
    };
    let end = close(parser)?;
    Ok(Part { tree: Tree::Number(Number::Register(index)), range: at.start..end })
}

/// The tag that a function over time is about.
fn tag_of(part: &Part, name: &str) -> Result<TagId, Fault> {
    part.tree.tag().ok_or_else(|| {
        Fault::new(part.range.clone(), format!("`{name}` is about one tag"))
            .help("make a derived tag of this")
    })
}

fn window(parser: &mut Parser<'_, '_>, name: &str, at: Range<usize>) -> Result<Part, Fault> {
    parser.may_remember(name, &at)?;
    let part = parser.inner()?;
    let tag = tag_of(&part, name)?;
    part.number()?;
    parser.expect(",", &format!("and a duration follow: {name}(x, 15m)"))?;
    let (token, range) = parser.take();
    let whole = match token {
        Token::Span(span) if (Duration::from_secs(1)..=SPAN_MAX).contains(&span) => span,
        Token::Number(_) | Token::Span(_) | Token::Text(_) | Token::Name(_) | Token::Sign(_) | Token::End => {
            return Err(Fault::new(range, "here the window stands, 1s to 7d"));
        }
    };
    let end = close(parser)?;
    parser.cells.push(if name == "avg" { Cell::Mean(tag, whole) } else { Cell::Rate(tag, whole) });
    Ok(Part { tree: Tree::Number(Number::Memory(parser.cells.len() - 1)), range: at.start..end })
}

fn remembered(parser: &mut Parser<'_, '_>, name: &str, at: Range<usize>) -> Result<Part, Fault> {
    parser.may_remember(name, &at)?;
    let part = parser.inner()?;
    let end = close(parser)?;
    let kind = part.tree.kind();
    let cell = match (name, part.tree.tag(), part.tree.clone()) {
        ("prev", ..) => Cell::Previous(tag_of(&part, name)?),
        (_, Some(tag), _) => Cell::Samples(tag),
        (_, None, Tree::Flag(flag)) => Cell::Edges(flag),
        (_, None, Tree::Number(_) | Tree::Word(_)) => {
            let fault = Fault::new(part.range, "`count` is about one tag or a condition");
            return Err(fault.help("compare it, or make a derived tag of it"));
        }
    };
    parser.cells.push(cell);
    let index = parser.cells.len() - 1;
    let tree = match kind {
        Kind::Flag if name == "prev" => Tree::Flag(Flag::Memory(index)),
        Kind::Word if name == "prev" => Tree::Word(Word::Memory(index)),
        Kind::Number | Kind::Flag | Kind::Word => Tree::Number(Number::Memory(index)),
    };
    Ok(Part { tree, range: at.start..end })
}
