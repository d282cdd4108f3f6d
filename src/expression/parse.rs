//! Text to trees: a Pratt parser that checks kinds as it goes, so that every fault has its place.
//!
//! From loose to tight: `or`, `and`, `not`, `… for 5s`, comparisons (which do not chain), `+ -`, `* / %`, unary minus.

use std::ops::Range;
use std::sync::Arc;

use super::call::call;
use super::memory::Cell;
use super::token::{Placed, Token, tokens};
use super::tree::{Flag, Math, Number, Order, Tree, Word};
use super::{
    Compared, Fault, INPUTS_MAX, Kind, Known, NESTING_MAX, SPAN_MAX, STEPS_MAX, Scope, TEXT_SIZE_MAX,
};
use crate::tag::TagId;

/// Words that are never names of tags, but for `tag('…')`.
const KEYWORDS: [&str; 7] = ["and", "or", "not", "for", "if", "true", "false"];

/// A tree and the bytes that it was made from.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) tree: Tree,
    pub(super) range: Range<usize>,
}

/// How tight an operator binds.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
enum Bond {
    Or,
    And,
    Held,
    Compared,
    Sum,
    Product,
}

/// Whoever knows the tags.
pub(super) type Names<'a> = &'a mut dyn FnMut(&str) -> Result<Known, String>;

/// The parser, and what it has found so far.
pub(super) struct Parser<'a, 'n> {
    tokens: Vec<Placed<'a>>,
    next: usize,
    depth: usize,
    steps: usize,
    names: Names<'n>,
    pub(super) scope: Scope,
    pub(super) inputs: Vec<(TagId, Kind)>,
    pub(super) cells: Vec<Cell>,
    compared: Vec<Compared>,
}

/// What a text compiles to.
pub(super) struct Compiled {
    pub(super) tree: Tree,
    pub(super) inputs: Vec<(TagId, Kind)>,
    pub(super) cells: Vec<Cell>,
    pub(super) compared: Vec<Compared>,
}

/// The whole text.
pub(super) fn parse(text: &str, scope: Scope, names: Names<'_>) -> Result<Compiled, Fault> {
    if text.len() > TEXT_SIZE_MAX {
        return Err(Fault::new(0..text.len(), format!("an expression has at most {TEXT_SIZE_MAX} bytes")));
    }
    let mut parser = Parser {
        tokens: tokens(text)?,
        next: 0,
        depth: 0,
        steps: 0,
        names,
        scope,
        inputs: Vec::new(),
        cells: Vec::new(),
        compared: Vec::new(),
    };
    let part = parser.whole(Bond::Or)?;
    match parser.peek() {
        (Token::End, _) => Ok(Compiled {
            tree: part.tree,
            inputs: parser.inputs,
            cells: parser.cells,
            compared: parser.compared,
        }),
        (token, range) => Err(parser.surplus(token, range)),
    }
}

impl<'a> Parser<'a, '_> {
    fn peek(&self) -> Placed<'a> {
        let end = self.tokens.last().map_or(0, |(_, range)| range.end);
        self.tokens.get(self.next).cloned().unwrap_or((Token::End, end..end))
    }

    pub(super) fn take(&mut self) -> Placed<'a> {
        let placed = self.peek();
        self.next += 1;
        placed
    }

    pub(super) fn takes(&mut self, sign: &str) -> bool {
        let is_here = matches!(self.peek().0, Token::Sign(here) if here == sign);
        self.next += usize::from(is_here);
        is_here
    }

    /// The place of `sign`, which must come.
    pub(super) fn expect(&mut self, sign: &str, what_for: &str) -> Result<Range<usize>, Fault> {
        let (_, range) = self.peek();
        if self.takes(sign) { Ok(range) } else { Err(Fault::new(range, format!("here `{sign}` {what_for}"))) }
    }

    fn surplus(&self, token: Token<'_>, range: Range<usize>) -> Fault {
        let fault = Fault::new(range, "the expression is complete before this");
        match token {
            Token::Sign("<" | "<=" | ">" | ">=" | "==" | "!=") => {
                Fault { message: "comparisons do not chain".into(), ..fault }.help("write `a < b and b < c`")
            }
            Token::Name("for") => fault.help("one `for` is enough; else use parentheses"),
            Token::Sign(")") => fault.help("there is no `(` for it"),
            Token::Number(_)
            | Token::Span(_)
            | Token::Text(_)
            | Token::Name(_)
            | Token::Sign(_)
            | Token::End => fault.help("an operator is missing: + - * / % == != < <= > >= and or"),
        }
    }

    /// An argument or a parenthesis: everything down to `or`.
    pub(super) fn inner(&mut self) -> Result<Part, Fault> {
        self.nested(|parser| parser.whole(Bond::Or))
    }

    /// One level deeper.
    fn nested(&mut self, read: impl FnOnce(&mut Self) -> Result<Part, Fault>) -> Result<Part, Fault> {
        if self.depth >= NESTING_MAX {
            return Err(Fault::new(self.peek().1, format!("nested deeper than {NESTING_MAX}")));
        }
        self.depth += 1;
        let part = read(self);
        self.depth -= 1;
        part
    }

    fn whole(&mut self, loosest: Bond) -> Result<Part, Fault> {
        let mut left = self.unary(loosest)?;
        let mut has_compared = false;
        let mut has_held = false;
        while let Some(bond) = self.bond().filter(|bond| *bond >= loosest) {
            if (bond == Bond::Compared && (has_compared || has_held)) || (bond == Bond::Held && has_held) {
                break;
            }
            has_compared |= bond == Bond::Compared;
            has_held |= bond == Bond::Held;
            if bond <= Bond::And {
                // What binds tighter was taken by the right side, or does not chain.
                (has_compared, has_held) = (true, true);
            }
            left = self.operator(left, bond)?;
        }
        Ok(left)
    }

    fn bond(&self) -> Option<Bond> {
        match self.peek().0 {
            Token::Name("or") => Some(Bond::Or),
            Token::Name("and") => Some(Bond::And),
            Token::Name("for") => Some(Bond::Held),
            Token::Sign("==" | "!=" | "<" | "<=" | ">" | ">=") => Some(Bond::Compared),
            Token::Sign("+" | "-") => Some(Bond::Sum),
            Token::Sign("*" | "/" | "%") => Some(Bond::Product),
            Token::Number(_)
            | Token::Span(_)
            | Token::Text(_)
            | Token::Name(_)
            | Token::Sign(_)
            | Token::End => None,
        }
    }

    /// Counts one more node, of which there is a bound: trees are walked by recursion.
    pub(super) fn step(&mut self, range: &Range<usize>) -> Result<(), Fault> {
        self.steps += 1;
        if self.steps <= STEPS_MAX {
            return Ok(());
        }
        Err(Fault::new(range.clone(), format!("more than {STEPS_MAX} names, numbers and operators"))
            .help("take part of it into a derived tag"))
    }

    fn operator(&mut self, left: Part, bond: Bond) -> Result<Part, Fault> {
        let (token, at) = self.take();
        self.step(&at)?;
        let tighter = match bond {
            Bond::Or => Bond::And,
            Bond::And => Bond::Held,
            Bond::Held => return self.held(left, at),
            Bond::Compared => Bond::Sum,
            Bond::Sum | Bond::Product => Bond::Product,
        };
        let right = match bond {
            Bond::Product => self.unary(Bond::Product)?,
            Bond::Or | Bond::And | Bond::Held | Bond::Compared | Bond::Sum => self.whole(tighter)?,
        };
        let range = left.range.start..right.range.end;
        let tree = match token {
            Token::Name("or") => Tree::Flag(Flag::Or(Box::new((left.flag()?, right.flag()?)))),
            Token::Name(_) => Tree::Flag(Flag::And(Box::new((left.flag()?, right.flag()?)))),
            Token::Sign(sign) => match math(sign) {
                Some(math) => Tree::Number(Number::Math(math, Box::new((left.number()?, right.number()?)))),
                None => {
                    let flag = compared(sign, left, right)?;
                    self.note_compared(&flag, &range);
                    Tree::Flag(flag)
                }
            },
            Token::Number(_) | Token::Span(_) | Token::Text(_) | Token::End => left.tree,
        };
        Ok(Part { tree, range })
    }

    /// Keeps which word a tag is compared with.
    fn note_compared(&mut self, flag: &Flag, range: &Range<usize>) {
        let Flag::Words(_, sides) = flag else { return };
        if let (Word::Tag(tag), Word::Constant(word)) | (Word::Constant(word), Word::Tag(tag)) = &**sides {
            self.compared.push(Compared { tag: *tag, word: word.clone(), range: range.clone() });
        }
    }

    fn held(&mut self, left: Part, at: Range<usize>) -> Result<Part, Fault> {
        self.may_remember("for", &at)?;
        let (token, range) = self.take();
        let Token::Span(span) = token else {
            return Err(Fault::new(range, "after `for` comes a duration").help("such as 500ms 1s 5m 1h 7d"));
        };
        if span > SPAN_MAX {
            return Err(Fault::new(range, "a condition holds for 7d at most"));
        }
        let whole = left.range.start..range.end;
        self.cells.push(Cell::Held(left.flag()?, span));
        Ok(Part { tree: Tree::Flag(Flag::Memory(self.cells.len() - 1)), range: whole })
    }

    /// Refuses what has a memory where there is none.
    pub(super) fn may_remember(&self, what: &str, range: &Range<usize>) -> Result<(), Fault> {
        let why = match self.scope {
            Scope::Live => return Ok(()),
            Scope::Once => "this is asked once, at a write: it has seen nothing before",
            Scope::Registers { .. } => "the `expr` of a tag sees one reply, and nothing before",
        };
        let fault = Fault::new(range.clone(), format!("`{what}` looks back, and {why}"));
        Err(match self.scope {
            Scope::Live | Scope::Once => fault,
            Scope::Registers { .. } => fault.help("look back in a derived tag that names this one"),
        })
    }

    fn unary(&mut self, loosest: Bond) -> Result<Part, Fault> {
        let (token, at) = self.take();
        self.step(&at)?;
        match token {
            Token::Sign("-") => {
                let of = self.nested(|parser| parser.unary(Bond::Product))?;
                let range = at.start..of.range.end;
                Ok(Part { tree: Tree::Number(Number::Negative(Box::new(of.number()?))), range })
            }
            Token::Name("not") if loosest > Bond::Held => {
                Err(Fault::new(at, "`not` binds looser than what is before it").help("write `(not x)`"))
            }
            Token::Name("not") => {
                let of = self.nested(|parser| parser.whole(Bond::Held))?;
                let range = at.start..of.range.end;
                Ok(Part { tree: Tree::Flag(Flag::Not(Box::new(of.flag()?))), range })
            }
            Token::Sign("(") => {
                let part = self.inner()?;
                let end = self.expect(")", "must close the parenthesis")?;
                Ok(Part { range: at.start..end.end, ..part })
            }
            Token::Number(value) => Ok(Part { tree: Tree::Number(Number::Constant(value)), range: at }),
            Token::Text(text) => Ok(Part { tree: Tree::Word(Word::Constant(Arc::from(text))), range: at }),
            Token::Name(name) => self.named(name, at),
            Token::Span(_) => {
                Err(Fault::new(at, "a duration stands only after `for`, in avg(…) and in rate(…)"))
            }
            Token::Sign(_) | Token::End => {
                Err(Fault::new(at, "here a value must come: a tag, a number, a 'word', `(` or a function"))
            }
        }
    }

    fn named(&mut self, name: &'a str, at: Range<usize>) -> Result<Part, Fault> {
        match name {
            "true" | "false" => Ok(Part { tree: Tree::Flag(Flag::Constant(name == "true")), range: at }),
            _ if self.takes("(") => call(self, name, at),
            _ if KEYWORDS.contains(&name) => {
                Err(Fault::new(at, format!("`{name}` is a keyword; here a value must come"))
                    .help(format!("a tag of this name is written tag('{name}')")))
            }
            "raw" => {
                match self.scope {
                    Scope::Registers { raw: Some(kind), .. } => Ok(leaf(kind, at, &LEAVES_RAW)),
                    Scope::Registers { raw: None, .. } => Err(Fault::new(at, "this tag has no raw value")
                        .help("take registers one by one: word(0)")),
                    Scope::Live | Scope::Once => self.tag(name, at),
                }
            }
            _ => self.tag(name, at),
        }
    }

    /// The tag of this name.
    pub(super) fn tag(&mut self, name: &str, at: Range<usize>) -> Result<Part, Fault> {
        let known = (self.names)(name).map_err(|why| {
            let fault = Fault::new(at.clone(), why);
            match self.spaced(name) {
                Some(spaced) => fault.help(format!("did you mean `{spaced}`? operators need spaces")),
                None => fault,
            }
        })?;
        if !self.inputs.iter().any(|(tag, _)| *tag == known.tag) {
            if self.inputs.len() >= INPUTS_MAX {
                return Err(Fault::new(at, format!("an expression has at most {INPUTS_MAX} tags")));
            }
            self.inputs.push((known.tag, known.kind));
        }
        let tree = match known.kind {
            Kind::Number => Tree::Number(Number::Tag(known.tag)),
            Kind::Flag => Tree::Flag(Flag::Tag(known.tag)),
            Kind::Word => Tree::Word(Word::Tag(known.tag)),
        };
        Ok(Part { tree, range: at })
    }

    /// `x-y` as `x - y`, where both sides mean something.
    fn spaced(&mut self, name: &str) -> Option<String> {
        // A long name has many places to cut: the first few are enough to help.
        let cuts: Vec<usize> = name.match_indices(['-', '/']).map(|(at, _)| at).take(16).collect();
        cuts.into_iter().find_map(|at| {
            let (left, sign, right) = (name.get(..at)?, name.get(at..=at)?, name.get(at + 1..)?);
            let mut means = |side: &str| side.parse::<f64>().is_ok() || (self.names)(side).is_ok();
            (means(left) && means(right)).then(|| format!("{left} {sign} {right}"))
        })
    }
}

/// What `raw` is, by its kind: number, flag, word.
const LEAVES_RAW: (Number, Flag, Word) = (Number::Raw, Flag::Raw, Word::Raw);

fn leaf(kind: Kind, range: Range<usize>, leaves: &(Number, Flag, Word)) -> Part {
    let tree = match kind {
        Kind::Number => Tree::Number(leaves.0.clone()),
        Kind::Flag => Tree::Flag(leaves.1.clone()),
        Kind::Word => Tree::Word(leaves.2.clone()),
    };
    Part { tree, range }
}

fn math(sign: &str) -> Option<Math> {
    match sign {
        "+" => Some(Math::Add),
        "-" => Some(Math::Subtract),
        "*" => Some(Math::Multiply),
        "/" => Some(Math::Divide),
        "%" => Some(Math::Remainder),
        _ => None,
    }
}

fn compared(sign: &str, left: Part, right: Part) -> Result<Flag, Fault> {
    let range = left.range.start..right.range.end;
    let order = match sign {
        "==" => Order::Equal,
        "!=" => Order::Unequal,
        "<" => Order::Less,
        "<=" => Order::LessOrEqual,
        ">" => Order::Greater,
        _ => Order::GreaterOrEqual,
    };
    let (a, b) = (left.tree.kind(), right.tree.kind());
    let same = order == Order::Equal;
    let is_equality = same || order == Order::Unequal;
    match (left.tree, right.tree) {
        (Tree::Number(a), Tree::Number(b)) => Ok(Flag::Compared(order, Box::new((a, b)))),
        (Tree::Flag(a), Tree::Flag(b)) if is_equality => Ok(Flag::Flags(same, Box::new((a, b)))),
        (Tree::Word(a), Tree::Word(b)) if is_equality => Ok(Flag::Words(same, Box::new((a, b)))),
        _ if a == b => Err(Fault::new(range, format!("`{sign}` compares numbers, these are {}s", a.noun()))
            .help("only `==` and `!=` compare these")),
        _ => Err(Fault::new(range, format!("a {} never compares with a {}", a.noun(), b.noun()))),
    }
}

impl Part {
    fn wrong(&self, wanted: Kind) -> Fault {
        let message = format!("here a {} is wanted, this is a {}", wanted.noun(), self.tree.kind().noun());
        let fault = Fault::new(self.range.clone(), message);
        match (wanted, self.tree.kind()) {
            (Kind::Number, Kind::Flag) => fault.help("write if(…, 1, 0)"),
            (Kind::Flag, Kind::Number) => fault.help("compare it: … != 0"),
            (Kind::Flag, Kind::Word) => fault.help("compare it: … == 'word'"),
            (Kind::Number | Kind::Word, _) | (Kind::Flag, Kind::Flag) => fault,
        }
    }

    /// The tree, which must be a number.
    pub(super) fn number(self) -> Result<Number, Fault> {
        if let Tree::Number(number) = self.tree { Ok(number) } else { Err(self.wrong(Kind::Number)) }
    }

    /// The tree, which must be a flag.
    pub(super) fn flag(self) -> Result<Flag, Fault> {
        if let Tree::Flag(flag) = self.tree { Ok(flag) } else { Err(self.wrong(Kind::Flag)) }
    }

    /// The tree, which must be a word.
    pub(super) fn word(self) -> Result<Word, Fault> {
        if let Tree::Word(word) = self.tree { Ok(word) } else { Err(self.wrong(Kind::Word)) }
    }
}
