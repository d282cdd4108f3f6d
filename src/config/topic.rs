//! The template of a topic as it is written: levels between slashes, and what is filled in.

use super::tree::Node;
use super::values::{Parsed, wanted};

/// A part of a level of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Placeholder {
    /// This itself.
    Text(String),
    /// `{enterprise}`
    Enterprise,
    /// `{site}`
    Site,
    /// `{gateway}`
    Gateway,
    /// `{device}`
    Device,
    /// `{tag}`
    Tag,
}

/// What stands between two slashes of a topic.
pub(super) type Level = Vec<Placeholder>;

/// The template of a topic.
pub(super) fn template(node: &Node) -> Parsed<Vec<Level>> {
    match node.text() {
        Some(text) => levels(text),
        None => wanted("a topic with {device} and {tag} in it", node),
    }
}

/// The levels of the template of a topic.
pub(super) fn levels(template: &str) -> Parsed<Vec<Level>> {
    check(template).map_err(|why| format!("\"{template}\" {why}"))?;
    template.split('/').map(level).collect()
}

/// Whether a topic can have these levels; if not, what is wrong with them.
pub(super) fn check(text: &str) -> Parsed<()> {
    if text.contains(['+', '#']) {
        return Err("has `+` or `#`, which are for subscriptions only".to_owned());
    }
    if text.contains(char::is_control) {
        return Err("has a control character".to_owned());
    }
    if text.split('/').any(str::is_empty) {
        return Err("has an empty level: no `/` at its ends, no `//`".to_owned());
    }
    Ok(())
}

fn level(text: &str) -> Parsed<Level> {
    let mut level = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, behind)) = after.split_once('}') else {
            return Err(format!("a `{{` without `}}` in \"{text}\""));
        };
        let placeholder = match name {
            "enterprise" => Placeholder::Enterprise,
            "site" => Placeholder::Site,
            "gateway" => Placeholder::Gateway,
            "device" => Placeholder::Device,
            "tag" => Placeholder::Tag,
            _ => {
                return Err(format!(
                    "wanted {{enterprise}}, {{site}}, {{gateway}}, {{device}} or {{tag}}, got {{{name}}}"
                ));
            }
        };
        if !before.is_empty() {
            level.push(Placeholder::Text(before.to_owned()));
        }
        level.push(placeholder);
        rest = behind;
    }
    if rest.contains('}') {
        return Err(format!("a `}}` without `{{` in \"{text}\""));
    }
    if !rest.is_empty() {
        level.push(Placeholder::Text(rest.to_owned()));
    }
    Ok(level)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_level_is_text_and_placeholders_as_they_stand() {
        use Placeholder::{Device, Site, Tag, Text};
        let text = |text: &str| Text(text.to_owned());
        let expected = vec![vec![text("a-"), Site, text("\u{7a7a}")], vec![Device, Tag], vec![text("b c")]];
        assert_eq!(levels("a-{site}\u{7a7a}/{device}{tag}/b c"), Ok(expected));
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_refused_or_can_be_a_topic(template in "[{}/+#$ a\u{0}\u{7a7a}]{0,12}|\\PC{0,20}|(\\{(tag|device)\\}|[/x{]){0,6}") {
            if let Ok(levels) = levels(&template) {
                for level in levels {
                    prop_assert!(!level.is_empty());
                    for part in level {
                        if let Placeholder::Text(text) = part {
                            let is_plain = !text.contains(['/', '+', '#', '\u{0}', '{', '}']);
                            prop_assert!(is_plain && !text.is_empty());
                        }
                    }
                }
            }
        }
    }
}
