//! Bytes as they are written: pairs of hexadecimal digits, `'text'`, and in braces what is filled in.

use std::sync::Arc;

use super::super::super::finding::did_you_mean;
use super::super::super::site::serial::{CheckForm, CheckKind, Form, Operator, Part, Template, Term};
use super::super::{Node, Parsed, wanted};

/// The longest byte string, in characters as written.
const WRITTEN_MAX: usize = 1024;
/// The longest expression in braces, in characters.
const TERM_MAX: usize = 128;
/// The deepest parentheses.
const DEPTH_MAX: u8 = 8;

const FORMS: [(&str, Form); 11] = [
    ("u8", Form::U8),
    ("u16be", Form::U16Be),
    ("u16le", Form::U16Le),
    ("hex2", Form::Hex(2)),
    ("hex4", Form::Hex(4)),
    ("dec2", Form::Dec(2)),
    ("dec4", Form::Dec(4)),
    ("bcd", Form::Bcd),
    ("bcd-le", Form::BcdLe),
    ("bytes", Form::Bytes),
    ("text", Form::Text),
];

/// `"02 'SI' {unit as u8} {sum8 from 1 as hex} 0D 0A"`.
pub(in crate::config) fn template(node: &Node) -> Parsed<Template> {
    match node.text() {
        Some(text) => parse(text),
        None => wanted("bytes in quotes, as \"02 'SI' {unit as u8} 0D 0A\"", node),
    }
}

/// Bytes with nothing to fill in, at least one.
pub(in crate::config) fn bytes(node: &Node) -> Parsed<Vec<u8>> {
    let Some(text) = node.text() else { return wanted("bytes in quotes, as \"02 'ST' 0D\"", node) };
    match parse(text)?.constant() {
        Some(bytes) if !bytes.is_empty() => Ok(bytes),
        Some(_) => Err("wanted at least one byte".to_owned()),
        None => Err("wanted bytes that are always the same, without {…}".to_owned()),
    }
}

fn parse(text: &str) -> Parsed<Template> {
    if text.len() > WRITTEN_MAX {
        return Err(format!("wanted at most {WRITTEN_MAX} characters"));
    }
    let (mut parts, mut literal, mut rest) = (Vec::new(), Vec::new(), text.trim_start());
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('\'') {
            let (inner, behind) = quoted.split_once('\'').ok_or("a ' is open to the end")?;
            literal.extend_from_slice(inner.as_bytes());
            rest = behind;
        } else if let Some(braced) = rest.strip_prefix('{') {
            let (inner, behind) = braced.split_once('}').ok_or("a { is open to the end")?;
            if !literal.is_empty() {
                parts.push(Part::Bytes(std::mem::take(&mut literal)));
            }
            parts.push(filled(inner.trim())?);
            rest = behind;
        } else {
            let (byte, behind) = pair(rest).ok_or_else(|| {
                format!("wanted two hexadecimal digits, 'text' or {{NAME as FORM}}, got \"{rest}\"")
            })?;
            literal.push(byte);
            rest = behind;
        }
        rest = rest.trim_start();
    }
    if !literal.is_empty() {
        parts.push(Part::Bytes(literal));
    }
    Ok(Template(parts))
}

/// Two digits, and what follows them.
fn pair(text: &str) -> Option<(u8, &str)> {
    let (digits, behind) = text.split_at_checked(2)?;
    let is_pair = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let byte = u8::from_str_radix(digits, 16).ok().filter(|_| is_pair)?;
    Some((byte, behind))
}

/// What stands in braces: `unit as u8`, `2 * count as hex2`, `sum8`, `sum8 from 1 as hex`.
fn filled(text: &str) -> Parsed<Part> {
    let (what, form) = match text.rsplit_once(" as ") {
        Some((what, form)) => (what.trim(), Some(form.trim())),
        None => (text, None),
    };
    let (what, from) = match what.split_once(" from ") {
        Some((what, from)) => (what.trim(), Some(from.trim())),
        None => (what, None),
    };
    if let Some(kind) = CheckKind::from_word(what) {
        let from = match from.map(str::parse::<u16>) {
            None => 0,
            Some(Ok(from)) => from,
            Some(Err(_)) => return Err(format!("wanted the first byte after `from`, got {{{text}}}")),
        };
        return Ok(Part::Check { kind, from, form: check_form(kind, form)? });
    }
    let form = form.map(|word| (word, FORMS.iter().find(|(known, _)| *known == word)));
    match (from, form) {
        (None, Some((_, Some((_, form))))) => Ok(Part::Value { term: parse_term(what)?, form: *form }),
        (None, Some((word, None))) => {
            let known = FORMS.map(|(known, _)| known);
            let hint = did_you_mean(word, known).unwrap_or_else(|| known.join(" "));
            Err(format!("there is no form `{word}`: {hint}"))
        }
        (_, _) => {
            let known = CheckKind::ALL.map(CheckKind::word);
            let hint = did_you_mean(what, known).map(|hint| format!(": {hint}")).unwrap_or_default();
            Err(format!("wanted {{NAME as FORM}} or a checksum, got {{{text}}}{hint}"))
        }
    }
}

/// As which bytes a checksum is written: `byte` and `hex` of 8 bits, `le`, `be` and `hex` of 16; the first where nothing
/// is said.
pub(in crate::config) fn check_form(kind: CheckKind, word: Option<&str>) -> Parsed<CheckForm> {
    match (word, kind.is_wide()) {
        (None, _) | (Some("byte"), false) | (Some("le"), true) => Ok(CheckForm::LowFirst),
        (Some("be"), true) => Ok(CheckForm::HighFirst),
        (Some("hex"), _) => Ok(CheckForm::Hex),
        (Some(word), true) => {
            Err(format!("wanted \"le\", \"be\" or \"hex\" of {}, got \"{word}\"", kind.word()))
        }
        (Some(word), false) => Err(format!("wanted \"byte\" or \"hex\" of {}, got \"{word}\"", kind.word())),
    }
}

fn parse_term(text: &str) -> Parsed<Term> {
    let got = || format!("wanted a name, a number or arithmetic on them, got \"{text}\"");
    let mut reader = Reader { rest: text, depth: 0 };
    let term = if text.len() > TERM_MAX { None } else { reader.sum() };
    term.filter(|_| reader.rest.trim().is_empty()).ok_or_else(got)
}

/// Reads an expression from its front.
struct Reader<'a> {
    rest: &'a str,
    depth: u8,
}

impl Reader<'_> {
    /// Products with `+` and `-` between them.
    fn sum(&mut self) -> Option<Term> {
        let mut term = self.product()?;
        while let Some(operator) = self.operator(&[('+', Operator::Add), ('-', Operator::Subtract)]) {
            term = Term::Two(Box::new(term), operator, Box::new(self.product()?));
        }
        Some(term)
    }

    /// Factors with `*`, `/` and `%` between them.
    fn product(&mut self) -> Option<Term> {
        let operators = [('*', Operator::Multiply), ('/', Operator::Divide), ('%', Operator::Remainder)];
        let mut term = self.factor()?;
        while let Some(operator) = self.operator(&operators) {
            term = Term::Two(Box::new(term), operator, Box::new(self.factor()?));
        }
        Some(term)
    }

    /// A number, a name, or a sum in parentheses.
    fn factor(&mut self) -> Option<Term> {
        self.rest = self.rest.trim_start();
        if let Some(inner) = self.rest.strip_prefix('(') {
            self.depth = self.depth.checked_add(1).filter(|depth| *depth <= DEPTH_MAX)?;
            self.rest = inner;
            let term = self.sum()?;
            self.rest = self.rest.trim_start().strip_prefix(')')?;
            self.depth -= 1;
            return Some(term);
        }
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let (word, rest) = self.rest.split_at_checked(end.unwrap_or(self.rest.len()))?;
        self.rest = rest;
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            let number = match word.strip_prefix("0x") {
                Some(digits) => i64::from_str_radix(digits, 16),
                None => word.parse(),
            };
            return number.ok().map(Term::Number);
        }
        is_var_name(word).then(|| Term::Name(Arc::from(word)))
    }

    fn operator(&mut self, known: &[(char, Operator)]) -> Option<Operator> {
        let rest = self.rest.trim_start();
        let (_, operator) = known.iter().find(|(sign, _)| rest.starts_with(*sign))?;
        let mut characters = rest.chars();
        characters.next();
        self.rest = characters.as_str();
        Some(*operator)
    }
}

/// Whether a name can stand in a template: small letters, digits, `_`, a letter first.
pub(super) fn is_var_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::site::serial::{Var, Vars};

    fn vars() -> Vars {
        let address = Var::Text("78330011223344".into());
        Vars::default()
            .with("unit", Var::Number(1))
            .with("first", Var::Number(123))
            .with("count", Var::Number(2))
            .with("address", address)
    }

    /// What `text` becomes, in hexadecimal digits, or what is wrong with it.
    #[track_caller]
    fn check(text: &str, expected: &str) {
        let rendered =
            parse(text).and_then(|template| template.render(&vars()).map_err(|error| error.to_string()));
        let shown = rendered.map_or_else(
            |why| why,
            |bytes| bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(" "),
        );
        assert_eq!(shown, expected, "{text}");
    }

    #[test]
    fn bytes_are_digits_text_and_what_is_filled_in() {
        check("02 'ST' {unit as u8}", "02 53 54 01");
        check("0d0A  'a b'", "0D 0A 61 20 62");
        check("'公斤'", "E5 85 AC E6 96 A4");
        check("{address as bcd-le} FF", "44 33 22 11 00 33 78 FF");
        check("{ unit  as  u16be }", "00 01");
        check("", "");
    }

    #[test]
    fn arithmetic_binds_as_usual() {
        check("{0x1000 + 2 * first as hex4}", "31 30 46 36");
        check("{2 * count as hex2}", "30 34");
        check("{(1 + 2) * 3 as u8}", "09");
        check("{10 - 2 - 3 as u8}", "05");
        check("{100 / 7 % 4 as u8}", "02");
        check("{((((((((7)))))))) as u8}", "07");
    }

    #[test]
    fn checksums_are_written_like_values() {
        check("01 04 03 01 00 00 {crc16-modbus}", "01 04 03 01 00 00 A1 8E");
        check("01 04 03 01 00 00 {crc16-modbus as be}", "01 04 03 01 00 00 8E A1");
        check(
            "02 '0' {0x1000 + 2 * first as hex4} {2 * count as hex2} 03 {sum8 from 1 as hex}",
            "02 30 31 30 46 36 30 34 03 37 34",
        );
        check("02 'AA' {xor8 from 1 as hex} 03", "02 41 41 30 30 03");
        check("02 'AB' {xor8 from 1 as hex} 03", "02 41 42 30 33 03");
        check("{sum8 as byte}", "00");
    }

    #[test]
    fn what_is_no_byte_string_is_said() {
        let digits =
            |got: &str| format!("wanted two hexadecimal digits, 'text' or {{NAME as FORM}}, got \"{got}\"");
        check("02 3", &digits("3"));
        check("2 3", &digits("2 3"));
        check("0x02", &digits("0x02"));
        check("+1", &digits("+1"));
        check("é1", &digits("é1"));
        check("02 'ST", "a ' is open to the end");
        check("02 {unit as u8", "a { is open to the end");
        check("{unit}", "wanted {NAME as FORM} or a checksum, got {unit}");
        check("{sum}", "wanted {NAME as FORM} or a checksum, got {sum}: did you mean `sum8`?");
        check("{ as u8}", "wanted {NAME as FORM} or a checksum, got {as u8}");
        check("{unit from 1 as u8}", "wanted {NAME as FORM} or a checksum, got {unit from 1 as u8}");
        check("{unit as u9}", "there is no form `u9`: did you mean `u8`?");
        check("{sum8 as le}", "wanted \"byte\" or \"hex\" of sum8, got \"le\"");
        check("{crc16-arc as byte}", "wanted \"le\", \"be\" or \"hex\" of crc16-arc, got \"byte\"");
        check("{sum8 from x}", "wanted the first byte after `from`, got {sum8 from x}");
        let term = |got: &str| format!("wanted a name, a number or arithmetic on them, got \"{got}\"");
        for wrong in
            ["1 +", "1 2", "(1", "1)", "Unit", "-1", "0x", "0xG", "1a", "99999999999999999999", "a ~ b"]
        {
            check(&format!("{{{wrong} as u8}}"), &term(wrong));
        }
        let deep = format!("{}7{}", "(".repeat(9), ")".repeat(9));
        check(&format!("{{{deep} as u8}}"), &term(&deep));
        let long = "1+".repeat(64) + "1";
        check(&format!("{{{long} as u8}}"), &term(&long));
        check(&"00".repeat(513), "wanted at most 1024 characters");
    }

    #[test]
    fn a_template_tells_its_names() {
        let names = parse("02 {unit as u8} {first + 2 * (count - 1) as hex4} {sum8}").unwrap();
        assert_eq!(names.names(), ["unit", "first", "count"]);
        assert_eq!(names.constant(), None);
        assert_eq!(parse("02 'A'").unwrap().constant(), Some(vec![0x02, 0x41]));
    }
}
