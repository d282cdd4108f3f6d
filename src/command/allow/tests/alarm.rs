//! Commands about alarms: what is asked for, and who may ask.

use super::*;
use crate::normalize::alarm::run::Act;

const CONFIGURATION: &str = r#"
[gateway]
name = "n"
enterprise = "e"
[uplink.cloud]
broker = "mqtt://127.0.0.1:1883"
share = "enterprise"
[uplink.other]
broker = "mqtt://127.0.0.1:1884"
[commands]
enabled = true
uplinks = ["cloud"]
[link.l]
tcp = "127.0.0.1:502"
[device.oven]
link = "l"
tags = [{ name = "t", at = "hr:0" }, { name = "door", at = "coil:0" }]
[device.oven.alarm]
overheat = { when = "t", above = 320 }
"door/open" = { when = "door" }
theirs = { when = "t", below = 5, share = "cluster" }
[device.plain]
link = "l"
unit = 2
tags = [{ name = "t", at = "hr:0" }]
[device.off]
link = "l"
unit = 3
enabled = false
tags = [{ name = "t", at = "hr:0" }]
alarm = { cold = { when = "t", below = 5 } }
[device.hidden]
link = "l"
unit = 4
tags = [{ name = "t", at = "hr:0" }]
alarm = { cold = { when = "t", below = 5 }, secret = { when = "t", above = 5, share = "private" } }
"#;

const ACKNOWLEDGE: &str = "Device Control/Acknowledge";
const SHELVE: &str = "Device Control/Shelve";

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

/// Asks for it of a device, as somebody at the machine or by the uplink.
fn asked(case: &mut Case, device: &str, tag: &str, value: Value) -> WriteRequest {
    let request = case.request(tag, value);
    let site = &case.rules.site;
    let known = site.devices.iter().find(|known| *known.name == *device).unwrap();
    let tag_id = site.tags_of(known).iter().find(|known| *known.name == *tag).map(|tag| tag.id);
    WriteRequest { device: device.to_owned(), tag_id, ..request }
}

fn order_of(admitted: Result<Admitted, String>) -> Result<(String, Act), String> {
    match admitted? {
        Admitted::Alarm(order) => Ok((order.alarm.to_string(), order.act)),
        Admitted::Write(plan) => panic!("{plan:?}"),
    }
}

#[track_caller]
fn check(tag: &str, value: &str, expected: Result<(&str, Act), &str>) {
    let mut case = Case::of(CONFIGURATION);
    let request = asked(&mut case, "oven", tag, text(value));
    let found = order_of(case.admitted(&request));
    assert_eq!(found, expected.map(|(name, act)| (name.to_owned(), act)).map_err(str::to_owned), "{value}");
}

#[test]
fn what_names_an_alarm_is_an_order_about_it() {
    check(ACKNOWLEDGE, "overheat", Ok(("overheat", Act::Acknowledge)));
    check(ACKNOWLEDGE, " door/open ", Ok(("door/open", Act::Acknowledge)));
    check(SHELVE, "overheat 30m", Ok(("overheat", Act::Shelve(Duration::from_secs(1800)))));
    check(SHELVE, "door/open 24h", Ok(("door/open", Act::Shelve(Duration::from_secs(86_400)))));
    check(SHELVE, "overheat 0s", Ok(("overheat", Act::Unshelve)));
}

#[test]
fn anything_else_is_refused_with_what_to_write() {
    let of_both = "but `overheat`, `door/open`: write the name of an alarm";
    for wrong in ["", "Overheat", "overheat 30m", "cold"] {
        let refused = format!("device `oven` has no alarm `{wrong}`, {of_both}");
        check(ACKNOWLEDGE, wrong, Err(&refused));
    }
    let as_so = "and a time, as \"overheat 30m\"; \"overheat 0s\" takes it back";
    check(SHELVE, "heat 5m", Err(&format!("device `oven` has no alarm `heat`, {of_both} {as_so}")));
    check(
        SHELVE,
        "overheat",
        Err(&format!("\"overheat\" does not name an alarm and a time: write the name of an alarm {as_so}")),
    );
    check(SHELVE, "overheat 25h", Err("out of range: an alarm is shelved for at most 24h"));
    let mut case = Case::of(CONFIGURATION);
    let number = case.request(ACKNOWLEDGE, Value::UInt(5));
    let wanted =
        "no value, or not one of its datatype: `Device Control/Acknowledge` takes the name of an alarm";
    assert_eq!(order_of(case.admitted(&number)), Err(wanted.to_owned()));
    let none = WriteRequest { value: None, ..number };
    assert_eq!(order_of(case.admitted(&none)), Err(wanted.to_owned()));
}

#[test]
fn an_alarm_that_may_not_leave_by_an_uplink_is_no_alarm_to_it() {
    let mut case = Case::of(CONFIGURATION);
    let request = case.request(ACKNOWLEDGE, text("theirs"));
    let refused = order_of(case.admitted(&request)).unwrap_err();
    assert!(
        refused.starts_with("device `oven` has no alarm `theirs`, but `overheat`, `door/open`:"),
        "{refused}"
    );
    let here = WriteRequest { by: Requester::Local("li".to_owned()), ..request };
    assert_eq!(order_of(case.admitted(&here)), Ok(("theirs".to_owned(), Act::Acknowledge)));
    // one private alarm keeps the tags here, as it keeps `event/alarm`
    let hidden = asked(&mut case, "hidden", ACKNOWLEDGE, text("cold"));
    assert_eq!(
        order_of(case.admitted(&hidden)),
        Err("device `hidden` has no tag `Device Control/Acknowledge`".to_owned())
    );
}

#[test]
fn who_may_command_is_asked_of_alarms_too_and_no_line_is() {
    let mut case = Case::of(CONFIGURATION);
    let request = || Case::of(CONFIGURATION).request(ACKNOWLEDGE, text("overheat"));
    let retained = WriteRequest { is_retained: true, ..request() };
    case.check(&retained, "retained: what a broker keeps for later");
    case.check(
        &WriteRequest { by: Requester::Uplink("other".into()), ..request() },
        "uplink `other` may not command",
    );
    case.check(
        &WriteRequest { sent_at: Some(Timestamp::from_millis(NOW - 10_001)), ..request() },
        "expired: sent 10 s ago",
    );
    case.check(&WriteRequest { sent_at: None, ..request() }, "no timestamp");
    let off = asked(&mut case, "off", ACKNOWLEDGE, text("cold"));
    case.check(&off, "device `off` is switched off");
    let plain = asked(&mut case, "plain", ACKNOWLEDGE, text("cold"));
    case.check(&plain, "device `plain` has no tag `Device Control/Acknowledge`");
    let now = Now {
        at: case.start,
        received: case.start,
        wall: Timestamp::from_millis(NOW),
        is_clock_trusted: true,
    };
    let Ok(Admitted::Alarm(order)) = case.rules.admit(&request(), |_| true, now) else { panic!("busy") };
    assert_eq!(order.not_after, case.start + Duration::from_secs(10));
    case.check(&request(), "replayed: a command with this id has come before");
    // nor is there a pause between two
    let next = WriteRequest { id: "next".to_owned(), ..request() };
    case.check(&next, "overheat Acknowledge");
}

#[test]
fn where_commands_are_off_there_is_no_tag_for_them_and_where_they_are_on_only_with_alarms() {
    let tags = |text: &str| {
        let site = config::parse("test.toml", text).site.unwrap();
        let is_control = |tag: &&Tag| tag.control().is_some();
        let name = |tag: &Tag| format!("{}:{}", site.devices[tag.device.index()].name, tag.name);
        site.tags.iter().filter(is_control).map(name).collect::<Vec<_>>()
    };
    let off = CONFIGURATION.replace("enabled = true", "enabled = false");
    assert_eq!(tags(&off), Vec::<String>::new());
    let both = |device: &str| [format!("{device}:{ACKNOWLEDGE}"), format!("{device}:{SHELVE}")];
    assert_eq!(tags(CONFIGURATION), [both("oven"), both("off"), both("hidden")].concat());
    let mut case = Case::of(&off);
    let request = case.request(ACKNOWLEDGE, text("overheat"));
    case.check(&request, "commands are switched off");
}
