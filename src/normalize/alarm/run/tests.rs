//! Alarms in made-up time, from their configuration to what is reported of them.

use std::time::Duration;

use crate::normalize::alarm::run::Act;
use crate::normalize::tests::Shop;

fn shop() -> Shop {
    Shop::new(
        r#"
        stale_after = "1h"
        tags = [
            { name = "t", at = "hr:0", type = "i16", scale = 0.1 },
            { name = "most", at = "hr:1" },
            { name = "mode", at = "hr:2", values = { 0 = "manual", 2 = "auto" } },
            { name = "oil", at = "hr:3.0" },
            { name = "shots", at = "hr:4", kind = "counter", stale_after = "2m" },
        ]
        [device.d.alarm]
        "overheat" = { when = "t", above = 320, hysteresis = 5, delay = "3s", severity = "high" }
        "too-hot" = { when = "t", above = "most" }
        "oil" = { when = "oil", latch = true, severity = "critical" }
        "by-hand" = { when = "mode", equals = "manual" }
        "idle" = { when = "mode == 'auto' and t < 50", delay = "10s" }
        "runaway" = { when = "t", rate = { above = 20, per = "1m" } }
        "silent" = { when = "shots", silent = "1m" }
        "#,
    )
}

/// What is told of alarms.
#[track_caller]
fn told(shown: &str) -> Vec<String> {
    let parts = shown.split([' ', '|']).filter(|one| one.starts_with("alarm/"));
    parts.map(str::to_owned).collect()
}

/// The events, in short.
fn events(shown: &str) -> Vec<String> {
    let event = |text: &str| {
        let json: serde_json::Value =
            serde_json::from_str(text.split_inclusive('}').next().unwrap()).unwrap();
        format!("{} {}", json["alarm"].as_str().unwrap(), json["event"].as_str().unwrap())
    };
    shown.split("event/alarm=").skip(1).map(event).collect()
}

#[test]
fn a_number_above_its_limit_for_its_delay_is_an_alarm_until_it_is_back_by_the_hysteresis() {
    let mut shop = shop();
    shop.read("t=0BB8 most=01F4 mode=0002 oil=0000 shots=0001");
    assert!(told(&shop.read("t=0C81")).is_empty(), "320.1, not yet for 3 s");
    let shown = shop.pass(3.0);
    assert_eq!(told(&shown), ["alarm/overheat=true"]);
    assert_eq!(events(&shown), ["overheat raised"]);
    assert!(shown.contains(r#""severity":"high","at":"2026-11-26T00:00:03.000Z","since":"2026-11-26T00:00:03.000Z","value":320.1"#), "{shown}");
    assert!(told(&shop.read("t=0C4F")).is_empty(), "315.1 is within the hysteresis");
    let shown = shop.read("t=0C4E");
    assert_eq!(
        (told(&shown), events(&shown)),
        (vec!["alarm/overheat=false".to_owned()], vec!["overheat cleared".to_owned()])
    );
}

#[test]
fn limits_words_conditions_rates_and_silence_raise_alarms() {
    let mut shop = shop();
    shop.read("t=0BB8 most=01F4 mode=0002 oil=0000 shots=0001");
    shop.pass(20.0);
    let shown = shop.read("most=0064");
    assert_eq!(told(&shown), ["alarm/too-hot=true"], "300 is above 100");
    assert_eq!(told(&shop.read("mode=0000")), ["alarm/by-hand=true"]);
    assert_eq!(
        told(&shop.read("mode=0002 t=012C")),
        ["alarm/too-hot=false", "alarm/by-hand=false"],
        "30 degrees"
    );
    assert_eq!(told(&shop.pass(9.0)), Vec::<String>::new());
    assert_eq!(told(&shop.pass(1.0)), ["alarm/idle=true"]);
    assert_eq!(told(&shop.pass(50.0)), ["alarm/silent=true"]);
    assert_eq!(told(&shop.read("shots=0001")), ["alarm/silent=false"]);
    shop.pass(20.0);
    let shown = shop.read("t=0258");
    assert_eq!(told(&shown), ["alarm/idle=false", "alarm/runaway=true"], "30 degrees in 80 s: {shown}");
}

#[test]
fn what_is_not_known_raises_and_clears_nothing() {
    let mut shop = shop();
    shop.read("t=0BB8 most=01F4 mode=0002 oil=0001 shots=0001");
    let shown = shop.read("oil!bad:comm_last_value_known");
    assert_eq!(told(&shown), ["alarm/oil=true(bad:comm_last_value_known)"]);
    assert!(events(&shown).is_empty());
    assert_eq!(told(&shop.read("oil=0001")), ["alarm/oil=true"]);
}

#[test]
fn each_change_of_an_alarm_is_worth_writing_down_also_while_it_is_shelved_and_nothing_else_is() {
    let mut shop = shop();
    shop.read("t=0BB8 most=01F4 mode=0002 oil=0000 shots=0001");
    assert!(!shop.normalizer.take_turn(), "all are normal, as they were");
    shop.read("oil=0001");
    assert!(shop.normalizer.take_turn() && !shop.normalizer.take_turn());
    shop.read("oil=0001 t=0BB9");
    assert!(!shop.normalizer.take_turn());
    shop.act("oil", Act::Shelve(Duration::from_secs(600))).unwrap();
    shop.read("oil=0001");
    shop.normalizer.take_turn();
    assert_eq!(events(&shop.read("oil=0000")), [""; 0], "latched, and shelved: nothing is told");
    assert!(shop.normalizer.take_turn());
}

#[test]
fn a_latched_alarm_stays_until_somebody_has_acknowledged_it_also_over_a_restart() {
    let mut shop = shop();
    shop.read("t=0BB8 most=01F4 mode=0002 oil=0001 shots=0001");
    assert!(told(&shop.read("oil=0000")).is_empty());
    let text = serde_json::to_string(&shop.normalizer.saved(shop.now())).unwrap();
    let mut shop = shop.again(&serde_json::from_str(&text).unwrap(), 60.0);
    assert_eq!(told(&shop.read("oil=0000")), ["alarm/oil=true"]);
    let shown = shop.act("oil", Act::Acknowledge).unwrap();
    assert_eq!(
        (told(&shown), events(&shown)),
        (vec!["alarm/oil=false".to_owned()], vec!["oil acknowledged".to_owned()])
    );
    assert!(shown.contains(r#""by":"Li""#), "{shown}");
    assert_eq!(shop.act("oil", Act::Acknowledge), Err("there is nothing to acknowledge".to_owned()));
    assert_eq!(shop.act("water", Act::Acknowledge), Err("there is no alarm `water`".to_owned()));
}

#[test]
fn whether_something_could_be_done_is_told_without_doing_it() {
    let mut shop = shop();
    shop.read("t=0BB8 most=01F4 mode=0002 oil=0000 shots=0001");
    let check = |shop: &Shop, name: &str, act: Act| {
        let device = shop.site.devices[0].id;
        shop.normalizer.check_act((device, name), act, "Li")
    };
    let nothing = Err("there is nothing to acknowledge".to_owned());
    let too_long = Err("an alarm is shelved for more than 0 s and at most 24 h".to_owned());
    let hour = Duration::from_secs(3600);
    assert_eq!(check(&shop, "oil", Act::Acknowledge), nothing);
    assert_eq!(check(&shop, "oil", Act::Unshelve), Err("the alarm is not shelved".to_owned()));
    assert_eq!(check(&shop, "oil", Act::Shelve(Duration::ZERO)), too_long);
    assert_eq!(check(&shop, "oil", Act::Shelve(24 * hour + Duration::from_millis(1))), too_long);
    assert_eq!(check(&shop, "oil", Act::Shelve(24 * hour)), Ok(()));
    assert_eq!(check(&shop, "water", Act::Shelve(hour)), Err("there is no alarm `water`".to_owned()));
    shop.read("oil=0001");
    assert_eq!(check(&shop, "oil", Act::Acknowledge), Ok(()));
    assert_eq!(check(&shop, "oil", Act::Acknowledge), Ok(()), "nothing has been done");
    shop.act("oil", Act::Acknowledge).unwrap();
    assert_eq!(check(&shop, "oil", Act::Acknowledge), nothing);
    shop.act("oil", Act::Shelve(hour)).unwrap();
    assert_eq!(check(&shop, "oil", Act::Unshelve), Ok(()));
}

#[test]
fn the_tags_that_are_there_for_commands_hold_an_empty_text() {
    let text = |is_enabled: bool| {
        format!(
            "[gateway]\nname = 'n'\nenterprise = 'e'\n[uplink.u]\nbroker = 'mqtt://127.0.0.1:1'\n\
             [commands]\nenabled = true\n[link.l]\ntcp = '127.0.0.1:1'\n[device.d]\nlink = 'l'\nenabled = {is_enabled}\n\
             tags = [{{ name = 't', at = 'hr:0' }}]\nalarm = {{ hot = {{ when = 't', above = 5 }} }}"
        )
    };
    assert_eq!(
        Shop::started(&text(true)),
        "Device Control/Acknowledge= Device Control/Shelve= event/alarm=-(uncertain:initial) alarm/hot=-(bad:no_communication)"
    );
    assert_eq!(
        Shop::started(&text(false)),
        "Device Control/Acknowledge=-(bad:out_of_service) Device Control/Shelve=-(bad:out_of_service) alarm/hot=-(bad:out_of_service)"
    );
}

#[test]
fn a_device_out_of_service_has_no_alarms() {
    let mut shop = Shop::new(
        r#"
        enabled = false
        tags = [{ name = "t", at = "hr:0" }]
        [device.d.alarm]
        "silent" = { when = "t", silent = "1m" }
        "#,
    );
    assert_eq!(shop.pass(600.0), "");
}

#[test]
fn a_flood_of_one_device_holds_back_and_tells_nothing_of_another() {
    let alarms: String = (0..12).map(|n| format!("a{n} = {{ when = 't', above = {n} }}\n")).collect();
    let mut shop = Shop::new(&format!(
        "share = 'private'\nstale_after = '1h'\ntags = [{{ name = 't', at = 'hr:0' }}]\n[device.d.alarm]\n{alarms}\
         [device.e]\nlink = 'l'\nunit = 2\nstale_after = '1h'\ntags = [{{ name = 'u', at = 'hr:0' }}]\n[device.e.alarm]\n\
         hot = {{ when = 'u', above = 5 }}"
    ));
    let shown = shop.read("t=0064");
    assert_eq!(shown.matches(r#""event":"raised""#).count(), 10, "{shown}");
    assert!(shown.contains(r#" event/alarm={"event":"flood_began""#), "{shown}");
    let shown = shop.read("e:u=0006");
    assert!(shown.contains(r#"e:event/alarm={"alarm":"hot","event":"raised""#), "{shown}");
    let shown = shop.pass(60.0);
    assert!(shown.contains(r#"event/alarm={"event":"flood","#), "{shown}");
    assert!(!shown.contains("e:event/alarm"), "{shown}");
    let shown = shop.pass(540.0);
    assert!(shown.contains(r#""event":"flood_ended""#) && !shown.contains("e:"), "{shown}");
    assert_eq!(shop.pass(600.0), "");
}

#[test]
fn what_was_kept_of_an_alarm_is_not_that_of_another_one_with_its_name() {
    let shop = |test: &str| {
        Shop::new(&format!(
            "stale_after = '1h'\ntags = [{{ name = 't', at = 'hr:0' }}, {{ name = 'u', at = 'hr:1' }}]\n\
             [device.d.alarm]\noil = {{ latch = true, {test} }}"
        ))
    };
    let hour = Duration::from_secs(3600);
    let kept = |is_shelved: bool| {
        let mut shop = shop("when = 't', above = 5");
        shop.read("t=0006 u=0000");
        shop.read("t=0000");
        if is_shelved {
            shop.act("oil", Act::Shelve(hour)).unwrap();
        }
        let text = serde_json::to_string(&shop.normalizer.saved(shop.now())).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    let after = |test: &str, is_shelved: bool| {
        let mut shop = shop(test).again(&kept(is_shelved), 60.0);
        let again = serde_json::to_string(&shop.normalizer.saved(shop.now())).unwrap();
        let is_shelved = again.contains(r#""is_shelved":true"#);
        let shown = shop.read("t=0000 u=0000");
        (told(&shown).join(" "), is_shelved, shop.act("oil", Act::Unshelve).is_ok())
    };
    let latched = "alarm/oil=true".to_owned();
    let normal = "alarm/oil=false".to_owned();
    for same in ["when = 't', above = 5", "when = 't', above = 5, delay = '3s', title = 'oil'"] {
        assert_eq!(after(same, true), (latched.clone(), true, true), "{same}");
        assert_eq!(after(same, false), (latched.clone(), false, false), "{same}");
    }
    for other in [
        "when = 'u', above = 5",
        "when = 't', above = 6",
        "when = 't', above = 'u'",
        "when = 't', above = 5, hysteresis = 1",
        "when = 't', above = 5, severity = 'critical'",
        "when = 't > 5'",
        "when = 't', rate = { above = 5, per = '1m' }",
    ] {
        for is_shelved in [false, true] {
            let (shown, was_shelved, is_unshelved) = after(other, is_shelved);
            assert_ne!(shown, latched, "{other}");
            assert!(shown == normal || other.contains("rate"), "{other}: {shown}");
            assert_eq!((was_shelved, is_unshelved), (false, false), "{other}");
        }
    }
}

#[test]
fn that_a_shelving_ends_with_the_alarm_that_it_was_of_is_told() {
    let text = |test: &str| {
        format!(
            "[gateway]\nname = 'n'\nenterprise = 'e'\n[uplink.u]\nbroker = 'mqtt://127.0.0.1:1'\n\
             [link.l]\ntcp = '127.0.0.1:1'\n[device.d]\nlink = 'l'\n\
             tags = [{{ name = 't', at = 'hr:0' }}]\nalarm = {{ oil = {{ when = 't', {test} }} }}"
        )
    };
    let mut shop = Shop::of(&text("above = 5"));
    shop.read("t=0006");
    shop.act("oil", Act::Shelve(Duration::from_secs(3600))).unwrap();
    let saved = shop.normalizer.saved(shop.now());
    let expired =
        |test: &str| Shop::restored(&text(test), &saved).contains(r#""event":"expired","state":"normal""#);
    assert!(expired("above = 6"));
    assert!(!expired("above = 5"));
}
