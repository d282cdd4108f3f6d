//! What is sent, made of a template and what its names stand for; and whether a frame holds what an answer must. Pure.

use std::sync::Arc;

use super::check::{self, from_hex, hex_digits};
use super::framer::Frame;
use crate::config::site::serial::{Form, FrameRule, Operator, Part, Template, Term, Var, Vars};

/// The most bytes that a template may become.
pub const RENDERED_MAX: usize = 4096;

/// Why a template gives no bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The name stands for nothing.
    #[error("`{0}` is not known here: wanted it in `vars`, or of the device")]
    Unknown(Arc<str>),
    /// The name stands for text.
    #[error("`{0}` is text, and a number is wanted")]
    NotANumber(Arc<str>),
    /// The text cannot be sent so.
    #[error("\"{0}\" is not pairs of digits")]
    NotDigits(Arc<str>),
    /// The number cannot be sent so.
    #[error("{number} does not fit {form}")]
    DoesNotFit {
        /// It.
        number: i64,
        /// What it was to fit.
        form: &'static str,
    },
    /// A result beyond 64 bits, or a division by 0.
    #[error("a number cannot be computed: divided by 0, or beyond 64 bits")]
    Arithmetic,
    /// More than [`RENDERED_MAX`] bytes.
    #[error("more than {RENDERED_MAX} bytes")]
    TooLong,
}

/// What a frame is to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Its answer.
    Answer,
    /// The instrument refuses.
    Refused,
    /// Something else: another instrument's, or another request's answer.
    Other,
}

impl Template {
    /// The bytes of it where its names stand for `vars`.
    ///
    /// # Errors
    /// What could not be filled in.
    pub fn render(&self, vars: &Vars) -> Result<Vec<u8>, TemplateError> {
        let mut bytes = Vec::new();
        for part in &self.0 {
            match part {
                Part::Bytes(literal) => bytes.extend(literal),
                Part::Value { term, form } => bytes.extend(value(term, *form, vars)?),
                Part::Check { kind, from, form } => {
                    let covered = bytes.get(usize::from(*from)..).unwrap_or_default();
                    bytes.extend(check::encoded(*kind, *form, covered));
                }
            }
            if bytes.len() > RENDERED_MAX {
                return Err(TemplateError::TooLong);
            }
        }
        Ok(bytes)
    }
}

/// What `frame` is to a request whose names stand for `vars`.
///
/// # Errors
/// What of `match` could not be filled in.
pub fn reply(rule: &FrameRule, frame: &Frame, vars: &Vars) -> Result<Reply, TemplateError> {
    if frame.is_refusal {
        return Ok(Reply::Refused);
    }
    for (position, template) in &rule.matches {
        let wanted = template.render(vars)?;
        let at = check::index(*position, frame.bytes.len());
        let got = at.and_then(|at| frame.bytes.get(at..at.checked_add(wanted.len())?));
        if got != Some(wanted.as_slice()) {
            return Ok(Reply::Other);
        }
    }
    Ok(Reply::Answer)
}

fn value(term: &Term, form: Form, vars: &Vars) -> Result<Vec<u8>, TemplateError> {
    let text = match term {
        Term::Name(name) => match vars.get(name) {
            Some(Var::Text(text)) => Some((name, text)),
            Some(Var::Number(_)) | None => None,
        },
        Term::Number(_) | Term::Two(..) => None,
    };
    match text {
        Some((name, text)) => of_text(name, text, form),
        None => of_number(number(term, vars)?, form),
    }
}

fn of_text(name: &Arc<str>, text: &Arc<str>, form: Form) -> Result<Vec<u8>, TemplateError> {
    let pairs = || from_hex(text.as_bytes()).ok_or_else(|| TemplateError::NotDigits(Arc::clone(text)));
    match form {
        Form::Bytes | Form::Bcd => pairs(),
        Form::BcdLe => pairs().map(|pairs| pairs.into_iter().rev().collect()),
        Form::Text => Ok(text.as_bytes().to_vec()),
        Form::U8 | Form::U16Be | Form::U16Le | Form::Hex(_) | Form::Dec(_) => {
            Err(TemplateError::NotANumber(Arc::clone(name)))
        }
    }
}

fn of_number(number: i64, form: Form) -> Result<Vec<u8>, TemplateError> {
    let unfit = |form| TemplateError::DoesNotFit { number, form };
    let word = |form| u16::try_from(number).map_err(|_| unfit(form));
    match form {
        Form::U8 => u8::try_from(number).map(|byte| vec![byte]).map_err(|_| unfit("u8")),
        Form::U16Be => word("u16be").map(|word| word.to_be_bytes().to_vec()),
        Form::U16Le => word("u16le").map(|word| word.to_le_bytes().to_vec()),
        Form::Hex(digits) => {
            let all: Vec<u8> = number.to_be_bytes().into_iter().flat_map(hex_digits).collect();
            last_digits(&all, digits).ok_or_else(|| unfit("so few hexadecimal digits"))
        }
        Form::Dec(digits) => {
            let number = u64::try_from(number).map_err(|_| unfit("decimal digits"))?;
            last_digits(format!("{number:020}").as_bytes(), digits)
                .ok_or_else(|| unfit("so few decimal digits"))
        }
        Form::Bcd | Form::BcdLe => {
            let number = u64::try_from(number).map_err(|_| unfit("decimal digits"))?;
            let digits = number.to_string();
            let padding = if digits.len() % 2 == 1 { "0" } else { "" };
            let bytes = from_hex((padding.to_owned() + &digits).as_bytes()).unwrap_or_default();
            Ok(if form == Form::BcdLe { bytes.into_iter().rev().collect() } else { bytes })
        }
        Form::Text => Ok(number.to_string().into_bytes()),
        Form::Bytes => Err(unfit("`bytes`, which takes text of hexadecimal digits")),
    }
}

/// So many digits at the end, if those before them are 0.
fn last_digits(all: &[u8], count: u8) -> Option<Vec<u8>> {
    let (above, digits) = all.split_at_checked(all.len().checked_sub(count.into())?)?;
    above.iter().all(|digit| *digit == b'0').then(|| digits.to_vec())
}

fn number(term: &Term, vars: &Vars) -> Result<i64, TemplateError> {
    match term {
        Term::Number(number) => Ok(*number),
        Term::Name(name) => match vars.get(name) {
            Some(Var::Number(number)) => Ok(*number),
            Some(Var::Text(_)) => Err(TemplateError::NotANumber(Arc::clone(name))),
            None => Err(TemplateError::Unknown(Arc::clone(name))),
        },
        Term::Two(a, operator, b) => {
            let (a, b) = (number(a, vars)?, number(b, vars)?);
            let result = match operator {
                Operator::Add => a.checked_add(b),
                Operator::Subtract => a.checked_sub(b),
                Operator::Multiply => a.checked_mul(b),
                Operator::Divide => a.checked_div(b),
                Operator::Remainder => a.checked_rem(b),
            };
            result.ok_or(TemplateError::Arithmetic)
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::config::site::serial::{CheckForm, CheckKind};

    fn name(name: &str) -> Term {
        Term::Name(name.into())
    }

    fn two(a: Term, operator: Operator, b: Term) -> Term {
        Term::Two(Box::new(a), operator, Box::new(b))
    }

    fn vars() -> Vars {
        let text = |text: &str| Var::Text(text.into());
        Vars::default()
            .with("unit", Var::Number(1))
            .with("address", text("78330011223344"))
            .with("value", Var::Number(1234))
            .with("low", Var::Number(i64::MIN))
            .with("word", text("run"))
    }

    #[track_caller]
    fn check(term: Term, form: Form, expected: &[u8]) {
        let template = Template(vec![Part::Value { term, form }]);
        assert_eq!(template.render(&vars()).as_deref(), Ok(expected));
    }

    #[track_caller]
    fn check_error(term: Term, form: Form, expected: &str) {
        let template = Template(vec![Part::Value { term, form }]);
        assert_eq!(template.render(&vars()).unwrap_err().to_string(), expected);
    }

    #[test]
    fn a_value_is_sent_in_the_form_that_is_wanted() {
        check(name("unit"), Form::U8, &[1]);
        check(name("value"), Form::U16Be, &[0x04, 0xD2]);
        check(name("value"), Form::U16Le, &[0xD2, 0x04]);
        check(name("value"), Form::Hex(4), b"04D2");
        check(name("value"), Form::Dec(4), b"1234");
        check(name("unit"), Form::Hex(2), b"01");
        check(name("unit"), Form::Dec(2), b"01");
        check(name("value"), Form::Bcd, &[0x12, 0x34]);
        check(name("value"), Form::BcdLe, &[0x34, 0x12]);
        check(Term::Number(123), Form::Bcd, &[0x01, 0x23]);
        check(name("value"), Form::Text, b"1234");
        check(name("low"), Form::Text, b"-9223372036854775808");
        check(name("address"), Form::Bcd, &[0x78, 0x33, 0x00, 0x11, 0x22, 0x33, 0x44]);
        check(name("address"), Form::BcdLe, &[0x44, 0x33, 0x22, 0x11, 0x00, 0x33, 0x78]);
        check(name("address"), Form::Bytes, &[0x78, 0x33, 0x00, 0x11, 0x22, 0x33, 0x44]);
        check(name("word"), Form::Text, b"run");
    }

    #[test]
    fn numbers_are_computed() {
        let sum = |operator| two(name("value"), operator, Term::Number(100));
        check(sum(Operator::Add), Form::Text, b"1334");
        check(sum(Operator::Subtract), Form::Text, b"1134");
        check(sum(Operator::Multiply), Form::Text, b"123400");
        check(sum(Operator::Divide), Form::Text, b"12");
        check(sum(Operator::Remainder), Form::Text, b"34");
    }

    #[test]
    fn what_cannot_be_sent_is_an_error() {
        check_error(name("value"), Form::U8, "1234 does not fit u8");
        check_error(Term::Number(65_536), Form::U16Be, "65536 does not fit u16be");
        check_error(Term::Number(-1), Form::U16Le, "-1 does not fit u16le");
        check_error(name("value"), Form::Hex(2), "1234 does not fit so few hexadecimal digits");
        check_error(Term::Number(-1), Form::Hex(4), "-1 does not fit so few hexadecimal digits");
        check_error(name("value"), Form::Dec(2), "1234 does not fit so few decimal digits");
        check_error(Term::Number(-1), Form::Dec(2), "-1 does not fit decimal digits");
        check_error(Term::Number(-1), Form::Bcd, "-1 does not fit decimal digits");
        check_error(
            name("unit"),
            Form::Bytes,
            "1 does not fit `bytes`, which takes text of hexadecimal digits",
        );
        check_error(name("word"), Form::U8, "`word` is text, and a number is wanted");
        check_error(name("word"), Form::Bytes, "\"run\" is not pairs of digits");
        check_error(name("no"), Form::U8, "`no` is not known here: wanted it in `vars`, or of the device");
        let arithmetic = "a number cannot be computed: divided by 0, or beyond 64 bits";
        check_error(two(name("unit"), Operator::Divide, Term::Number(0)), Form::U8, arithmetic);
        check_error(two(name("low"), Operator::Subtract, name("unit")), Form::U8, arithmetic);
        check_error(two(name("low"), Operator::Remainder, Term::Number(-1)), Form::U8, arithmetic);
    }

    #[test]
    fn a_template_has_a_greatest_length() {
        let half = Part::Bytes(vec![0; RENDERED_MAX / 2]);
        assert_eq!(
            Template(vec![half.clone(), half.clone()]).render(&vars()).map(|bytes| bytes.len()),
            Ok(4096)
        );
        let over = Template(vec![half.clone(), half, Part::Bytes(vec![0])]);
        assert_eq!(over.render(&vars()), Err(TemplateError::TooLong));
    }

    #[test]
    fn a_checksum_covers_what_stands_before_it() {
        let check = |from, form| Part::Check { kind: CheckKind::Sum8, from, form };
        let bytes = || Part::Bytes(b"\x020100002\x03".to_vec());
        // 30+31+30+30+30+30+32+03 = 156, with the 02 158
        let template = Template(vec![bytes(), check(1, CheckForm::Hex)]);
        assert_eq!(template.render(&vars()).unwrap(), b"\x020100002\x0356");
        let template = Template(vec![bytes(), check(0, CheckForm::LowFirst), Part::Bytes(vec![0x0D])]);
        assert_eq!(template.render(&vars()).unwrap(), b"\x020100002\x03\x58\x0D");
        let template = Template(vec![check(9, CheckForm::HighFirst)]);
        assert_eq!(template.render(&vars()).unwrap(), [0], "nothing before it sums up to 0");
    }

    fn frame(bytes: &'static [u8]) -> Frame {
        Frame { bytes: Bytes::from_static(bytes), body: 0..bytes.len(), is_refusal: false }
    }

    #[test]
    fn an_answer_holds_what_the_request_says() {
        let unit = Template(vec![Part::Value { term: name("unit"), form: Form::U8 }]);
        let end = Template(vec![Part::Bytes(vec![8, 9])]);
        let rule = FrameRule { matches: vec![(0, unit), (-2, end)], ..FrameRule::default() };
        let reply = |bytes| reply(&rule, &frame(bytes), &vars()).unwrap();
        assert_eq!(reply(&[1, 8, 9]), Reply::Answer);
        assert_eq!(reply(&[1, 2, 8, 9]), Reply::Answer);
        assert_eq!(reply(&[2, 8, 9]), Reply::Other);
        assert_eq!(reply(&[1, 8, 8]), Reply::Other);
        assert_eq!(reply(&[1]), Reply::Other);
        assert_eq!(reply(&[]), Reply::Other);
    }

    #[test]
    fn a_refusal_is_one_and_a_missing_name_is_an_error() {
        let refusal = Frame { is_refusal: true, ..frame(&[0x15]) };
        let rule = FrameRule {
            matches: vec![(0, Template(vec![Part::Value { term: name("no"), form: Form::U8 }]))],
            ..FrameRule::default()
        };
        assert_eq!(reply(&rule, &refusal, &vars()), Ok(Reply::Refused));
        assert_eq!(reply(&rule, &frame(&[1]), &vars()), Err(TemplateError::Unknown("no".into())));
    }
}
