//! The text of an expression cut into tokens, each with its place in bytes.

use std::ops::Range;
use std::time::Duration;

use super::Fault;

/// The greatest integer up to which floats are exact.
const EXACT_MAX: u64 = 1 << 53;
/// Signs, the longer before those that they begin with.
const SIGNS: [&str; 14] = ["==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "(", ")", ","];

/// One token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Token<'a> {
    /// A finite number.
    Number(f64),
    /// A number with a unit of time.
    Span(Duration),
    /// What stands between quotes.
    Text(&'a str),
    /// A tag, a function or a keyword.
    Name(&'a str),
    /// An operator, a parenthesis or a comma.
    Sign(&'static str),
    /// Nothing follows.
    End,
}

/// A token with its bytes.
pub(super) type Placed<'a> = (Token<'a>, Range<usize>);

/// All tokens; the last one is [`Token::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<Placed<'_>>, Fault> {
    let mut all = Vec::new();
    let mut at = 0;
    loop {
        let rest = text.get(at..).unwrap_or_default();
        at += rest.len() - rest.trim_start().len();
        let (token, size) = token(rest.trim_start(), at)?;
        all.push((token, at..at + size));
        if token == Token::End {
            return Ok(all);
        }
        at += size;
    }
}

/// The token at the beginning of `rest`, and its bytes.
fn token(rest: &str, at: usize) -> Result<(Token<'_>, usize), Fault> {
    let Some(first) = rest.chars().next() else { return Ok((Token::End, 0)) };
    if first.is_ascii_digit() {
        return number(rest, at);
    }
    if first.is_ascii_alphabetic() || first == '_' {
        let name = rest.get(..name_size(rest)).unwrap_or_default();
        return Ok((Token::Name(name), name.len()));
    }
    if let Some(inside) = rest.strip_prefix('\'') {
        let Some((word, _)) = inside.split_once('\'') else {
            return Err(Fault::new(at..at + rest.len(), "this text has no end").help("close it with `'`"));
        };
        return Ok((Token::Text(word), word.len() + 2));
    }
    match SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
        Some(sign) => Ok((Token::Sign(sign), sign.len())),
        None => Err(stranger(first, at)),
    }
}

fn stranger(sign: char, at: usize) -> Fault {
    let fault = Fault::new(at..at + sign.len_utf8(), format!("`{}` means nothing here", sign.escape_debug()));
    match sign {
        '=' => fault.help("to compare write `==`"),
        '!' => fault.help("write `not`, or `!=` to compare"),
        '&' => fault.help("write `and`"),
        '|' => fault.help("write `or`"),
        '"' => fault.help("texts stand between single quotes: 'auto'"),
        _ => fault.help("a tag of another name is written tag('…')"),
    }
}

/// How far a name goes: `/ - . :` belong to it where a letter, a digit or `_` follows.
fn name_size(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let is_plain =
        |at: usize| bytes.get(at).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let is_joint = |at: usize| bytes.get(at).is_some_and(|byte| b"/-.:".contains(byte)) && is_plain(at + 1);
    (0..).find(|&at| !is_plain(at) && !is_joint(at)).unwrap_or(rest.len())
}

fn digits(rest: &str, from: usize) -> usize {
    rest.bytes().skip(from).take_while(u8::is_ascii_digit).count()
}

fn number(rest: &str, at: usize) -> Result<(Token<'_>, usize), Fault> {
    if let Some(hex) = rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X")) {
        return hexadecimal(hex, at);
    }
    let whole = digits(rest, 0);
    let mut size = whole;
    if rest.as_bytes().get(size) == Some(&b'.') && digits(rest, size + 1) > 0 {
        size += 1 + digits(rest, size + 1);
    }
    if matches!(rest.as_bytes().get(size), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(rest.as_bytes().get(size + 1), Some(b'+' | b'-')));
        let exponent = digits(rest, size + 1 + sign);
        size += if exponent > 0 { 1 + sign + exponent } else { 0 };
    }
    let unit = name_end(rest, size);
    if unit > 0 {
        return span(rest, whole, size, unit, at);
    }
    match rest.get(..size).and_then(|digits| digits.parse::<f64>().ok()).filter(|value| value.is_finite()) {
        Some(value) => Ok((Token::Number(value), size)),
        None => Err(Fault::new(at..at + size, "this number is too large")),
    }
}

/// The bytes of letters, digits and `_` from `from` on.
fn name_end(rest: &str, from: usize) -> usize {
    rest.bytes().skip(from).take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count()
}

fn hexadecimal(hex: &str, at: usize) -> Result<(Token<'_>, usize), Fault> {
    let size = name_end(hex, 0);
    let value = hex.get(..size).and_then(|digits| u64::from_str_radix(digits, 16).ok());
    match value.filter(|value| *value <= EXACT_MAX) {
        Some(value) => Ok((Token::Number(value as f64), size + 2)),
        None => Err(Fault::new(at..at + size + 2, "this is no hexadecimal number up to 2^53")),
    }
}

fn span(rest: &str, whole: usize, size: usize, unit: usize, at: usize) -> Result<(Token<'_>, usize), Fault> {
    let millis = match rest.get(size..size + unit) {
        Some("ms") => 1,
        Some("s") => 1000,
        Some("m") => 60_000,
        Some("h") => 3_600_000,
        Some("d") => 86_400_000,
        _ => {
            let fault = Fault::new(at..at + size + unit, "this is neither a number nor a duration");
            return Err(
                fault.help("durations are 500ms 1s 5m 1h 7d; a name begins with a letter, or is tag('…')")
            );
        }
    };
    let count =
        if size == whole { rest.get(..whole).and_then(|digits| digits.parse::<u64>().ok()) } else { None };
    match count.and_then(|count| count.checked_mul(millis)) {
        Some(millis) => Ok((Token::Span(Duration::from_millis(millis)), size + unit)),
        None => {
            let fault = Fault::new(at..at + size + unit, "a duration is a whole number of its unit");
            Err(fault.help("90s, not 1.5m"))
        }
    }
}
