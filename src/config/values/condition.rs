//! The conditions of an interlock: one comparison of one tag, a part of the language of expressions.

use super::{Node, Operand, Parsed, is_name, wanted};

/// A condition as written, its tag still a name.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::config) struct Written {
    /// `TAG`, or `DEVICE:TAG`.
    pub(in crate::config) tag: String,
    /// `==`; `false`: `!=`.
    pub(in crate::config) is: bool,
    pub(in crate::config) operand: Operand,
}

/// `TAG`, `not TAG`, `TAG == VALUE` or `TAG != VALUE`; a value is a number, `'a word'`, `true` or `false`.
pub(in crate::config) fn condition(node: &Node) -> Parsed<Written> {
    let Some(text) = node.text().filter(|text| !text.trim().is_empty()) else {
        return wanted("a condition, as \"mode == 'auto'\"", node);
    };
    parse(text).ok_or_else(|| {
        format!(
            "the condition \"{text}\" is not in this version: possible are `TAG`, `not TAG`, `TAG == VALUE` and `TAG != VALUE`, \
             where a value is a number, 'a word', true or false"
        )
    })
}

fn parse(text: &str) -> Option<Written> {
    for (sign, is) in [(" == ", true), (" != ", false)] {
        if let Some((tag, value)) = text.split_once(sign) {
            return Some(Written { tag: tag_of(tag)?, is, operand: operand(value.trim())? });
        }
    }
    let (is, tag) = match text.trim().strip_prefix("not ") {
        Some(tag) => (false, tag),
        None => (true, text),
    };
    Some(Written { tag: tag_of(tag)?, is, operand: Operand::Flag(true) })
}

fn tag_of(text: &str) -> Option<String> {
    let tag = text.trim();
    let quoted = tag.strip_prefix("tag('").and_then(|rest| rest.strip_suffix("')"));
    let tag = quoted.unwrap_or(tag);
    let (device, name) = tag.split_once(':').map_or((None, tag), |(device, name)| (Some(device), name));
    let is_keyword = ["not", "and", "or", "true", "false"].contains(&tag);
    let is_tag = name.split('/').all(is_name) && device.is_none_or(is_name) && !is_keyword;
    (is_tag && tag.starts_with(|c: char| c.is_ascii_alphabetic())).then(|| tag.to_owned())
}

fn operand(text: &str) -> Option<Operand> {
    if let Some(word) = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        return (!word.contains('\'')).then(|| Operand::Word(word.to_owned()));
    }
    match text {
        "true" => Some(Operand::Flag(true)),
        "false" => Some(Operand::Flag(false)),
        _ if text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte)) => {
            text.parse().ok().filter(|number: &f64| number.is_finite()).map(Operand::Number)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let shown = parse(text).map_or("-".to_owned(), |written| {
            format!("{} {} {}", written.tag, if written.is { "==" } else { "!=" }, written.operand)
        });
        assert_eq!(shown, expected, "{text}");
    }

    #[test]
    fn a_condition_is_one_comparison_of_one_tag() {
        check("mode == 'auto'", "mode == 'auto'");
        check("plc:mode != 'by hand'", "plc:mode != 'by hand'");
        check("zone1/level == -2.5", "zone1/level == -2.5");
        check("safe", "safe == true");
        check("not guard/open", "guard/open != true");
        check("guard/open == false", "guard/open == false");
        check("tag('x-y') != 3", "x-y != 3");
        for wrong in [
            "",
            "a > 3",
            "a == 'x' and b",
            "a or b",
            "a for 5s",
            "a=='x'",
            "a == b",
            "a == ",
            " == 3",
            "a == 'x",
            "a == 'x' == 'y'",
            "a == inf",
            "a == 1 + 2",
            "bit(a, 3)",
            "not not a",
            "a:b:c",
            "true",
            "not",
        ] {
            check(wrong, "-");
        }
    }
}
