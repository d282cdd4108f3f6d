//! What somebody wants done with an alarm: the text of a command to an order. Pure.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::site::{AlarmControl, AlarmStep, Device, SHELVE_MAX, Site, Step, Tag, parse_duration};
use crate::normalize::alarm::run::Act;
use crate::reading::Value;
use crate::tag::{DeviceId, TagId};

/// So many names of alarms are told at most to somebody who names none of them.
const NAMES_MAX: usize = 8;

/// What is to be done with an alarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlarmOrder {
    /// The tag that the command named.
    pub tag: TagId,
    /// Whose alarm.
    pub device: DeviceId,
    /// Its name there.
    pub alarm: Arc<str>,
    /// What is to be done.
    pub act: Act,
    /// It is not done after this.
    pub not_after: Instant,
}

/// The order that `value` gives, written to `tag`, a `control` of `device`. `may_have` says whether whoever asks may know of
/// a tag.
///
/// # Errors
/// What is to be written instead.
pub(super) fn order(
    site: &Site,
    (device, tag, control): (&Device, &Tag, AlarmControl),
    value: Option<&Value>,
    may_have: impl Fn(&Tag) -> bool,
    not_after: Instant,
) -> Result<AlarmOrder, String> {
    let Some(Value::Text(text)) = value else {
        return Err(format!(
            "no value, or not one of its datatype: `{}` takes {}",
            tag.name,
            wanted(control)
        ));
    };
    let (name, act) = match control {
        AlarmControl::Acknowledge => (text.trim(), Act::Acknowledge),
        AlarmControl::Shelve => shelving(text)?,
    };
    let is_known = |step: &&AlarmStep| site.tags.get(step.tag.index()).is_some_and(&may_have);
    let alarms = || alarms(site, device.id).filter(is_known);
    let Some(alarm) = alarms().find(|alarm| *alarm.name == *name) else {
        return Err(format!(
            "device `{}` has no alarm `{name}`, but {}: write {}",
            device.name,
            listed(alarms().map(|alarm| &*alarm.name)),
            wanted(control)
        ));
    };
    Ok(AlarmOrder { tag: tag.id, device: device.id, alarm: alarm.name.clone(), act, not_after })
}

/// The alarm that is to be shelved, and for how long.
fn shelving(text: &str) -> Result<(&str, Act), String> {
    let parts = text.trim().rsplit_once(char::is_whitespace);
    let parts = parts.and_then(|(name, time)| Some((name.trim_end(), parse_duration(time)?)));
    let Some((name, time)) = parts else {
        let wanted = wanted(AlarmControl::Shelve);
        return Err(format!("\"{text}\" does not name an alarm and a time: write {wanted}"));
    };
    if time > SHELVE_MAX {
        let most = SHELVE_MAX.as_secs() / 3600;
        return Err(format!("out of range: an alarm is shelved for at most {most}h"));
    }
    Ok((name, if time == Duration::ZERO { Act::Unshelve } else { Act::Shelve(time) }))
}

const fn wanted(control: AlarmControl) -> &'static str {
    match control {
        AlarmControl::Acknowledge => "the name of an alarm",
        AlarmControl::Shelve => {
            "the name of an alarm and a time, as \"overheat 30m\"; \"overheat 0s\" takes it back"
        }
    }
}

fn alarms(site: &Site, device: DeviceId) -> impl Iterator<Item = &AlarmStep> {
    site.steps.iter().filter_map(move |step| match step {
        Step::Alarm(alarm) if alarm.device == device => Some(&**alarm),
        Step::Alarm(_) | Step::Derived(_) | Step::Machine(_) | Step::Class(_) | Step::Window(_) => None,
    })
}

/// Names in a row; of many the first ones.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    match names.split_at_checked(NAMES_MAX) {
        Some((first, others)) if !others.is_empty() => {
            format!("{} and {} more", first.join(", "), others.len())
        }
        Some(_) | None => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_a_time_shelve_and_no_time_takes_back() {
        let minutes = |count: u64| Act::Shelve(Duration::from_secs(60 * count));
        assert_eq!(shelving("overheat 30m"), Ok(("overheat", minutes(30))));
        assert_eq!(shelving("  overheat \t 24h "), Ok(("overheat", minutes(1440))));
        assert_eq!(shelving("overheat 0s"), Ok(("overheat", Act::Unshelve)));
        assert_eq!(shelving("a/b 0.5h"), Ok(("a/b", minutes(30))));
    }

    #[test]
    fn what_is_no_shelving_says_what_to_write() {
        for wrong in
            ["", "overheat", "30m", "overheat 30", "overheat -5m", "overheat 30 m", "overheat 5weeks"]
        {
            let refused = shelving(wrong).unwrap_err();
            let wanted = format!(
                "\"{wrong}\" does not name an alarm and a time: write the name of an alarm and a time, as \"overheat 30m\"; \"overheat 0s\" takes it back"
            );
            assert_eq!(refused, wanted);
        }
        for long in ["overheat 86401s", "overheat 25h", "overheat 2d"] {
            assert_eq!(shelving(long), Err("out of range: an alarm is shelved for at most 24h".to_owned()));
        }
    }

    #[test]
    fn of_many_alarms_the_first_eight_are_named() {
        let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
        assert_eq!(listed(names.into_iter().take(2)), "`a`, `b`");
        assert_eq!(listed(names.into_iter().take(8)), "`a`, `b`, `c`, `d`, `e`, `f`, `g`, `h`");
        assert_eq!(listed(names.into_iter()), "`a`, `b`, `c`, `d`, `e`, `f`, `g`, `h` and 2 more");
    }
}
