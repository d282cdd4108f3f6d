//! A moulding machine in made-up time, from its configuration to what is reported of it.

use crate::normalize::tests::Shop;
use crate::reading::{Reading, Stamp, Update};
use crate::scan::{Data, Part, Polled, Scan};

const SHOP: &str = r#"
[gateway]
name = "n"
enterprise = "e"
timezone = "UTC"
shifts = { early = "00:00-00:10", late = "00:10-24:00" }
[uplink.u]
broker = "mqtt://127.0.0.1:1"
[link.l]
tcp = "127.0.0.1:1"
[device.meter]
link = "l"
unit = 2
tags = [{ name = "energy", at = "hr:0", type = "u32", unit = "Wh", kind = "counter" }]
[device.d]
link = "l"
stale_after = "1h"
tags = [
    { name = "on", at = "hr:0.0" },
    { name = "broken", at = "hr:0.1" },
    { name = "shots", at = "hr:1", kind = "counter" },
    { name = "rejects", at = "hr:2", kind = "counter" },
    { name = "cavities", at = "hr:3" },
]
[device.d.machine]
fault = "broken for 2s"
running = "on"
pieces = { counter = "shots", each = "cavities" }
scrap = { counter = "rejects" }
energy = "meter:energy"
cycle = "5s"
class = "small"
"#;

fn only<'a>(shown: &'a str, what: &str) -> Vec<&'a str> {
    shown.split([' ', '|']).filter(|one| one.starts_with(what)).collect()
}

#[test]
fn registers_become_states_pieces_and_energy_of_a_piece() {
    let mut shop = Shop::of(SHOP);
    let shown = shop.read("on=0001 broken=0000 shots=0064 rejects=0005 cavities=0002");
    assert_eq!(only(&shown, "machine/state"), ["machine/state=run"]);
    assert_eq!(only(&shown, "machine/pieces"), ["machine/pieces=0"], "until now its counter was not read");
    shop.read("meter:energy=000003E8");
    let shown = shop.pass(100.0);
    assert_eq!(only(&shown, "machine/availability"), ["machine/availability=1"]);
    // 10 shots of 2 pieces, 1 of them scrap; 500 Wh
    let shown = shop.read("on=0001 broken=0000 shots=006E rejects=0006 cavities=0002");
    assert_eq!(only(&shown, "machine/pieces"), ["machine/pieces=20"]);
    assert_eq!(only(&shown, "machine/scrap"), ["machine/scrap=1"]);
    assert_eq!(only(&shown, "machine/good"), ["machine/good=19"]);
    assert_eq!(only(&shown, "machine/quality"), ["machine/quality=0.95"]);
    // 10 planned counts of 5 s in 100 s
    assert_eq!(only(&shown, "machine/performance"), ["machine/performance=0.5"]);
    let shown = shop.read("meter:energy=000005DC");
    assert_eq!(only(&shown, "machine/energy"), ["machine/energy=0.5"]);
    assert_eq!(only(&shown, "machine/kwh_per_piece"), ["machine/kwh_per_piece=0.025"]);
    let shown = shop.read("meter:energy=000005E6");
    assert!(only(&shown, "machine/energy").is_empty(), "not oftener than each minute: {shown}");
    // a meter that has gone silent: what it said last is all there is
    let shown = shop.pass(5.0);
    assert_eq!(only(&shown, "machine/energy"), ["machine/energy=0.51(uncertain:last_usable)"]);
    let shown = shop.read("meter:energy=000005F0");
    assert_eq!(only(&shown, "machine/energy"), ["machine/energy=0.52"]);
    // a fault that lasts
    shop.read("on=0001 broken=0002");
    let shown = shop.pass(3.0);
    assert_eq!(only(&shown, "machine/state"), ["machine/state=fault"]);
    // and what cannot be known is not
    let shown = shop.read("broken!bad:comm_last_value_known");
    assert_eq!(only(&shown, "machine/state"), ["machine/state=unknown(uncertain:last_usable)"]);
}

#[test]
fn the_figures_of_a_machine_that_is_switched_off_stand_still_and_are_bad_until_it_is_back() {
    let mut shop = Shop::of(&SHOP.replace("00:10", "00:30"));
    let all = "on=0001 broken=0000 shots=0064 rejects=0005 cavities=0002";
    let none = "on!bad:comm_last_value_known broken!bad:comm_last_value_known \
                shots!bad:comm_last_value_known rejects!bad:comm_last_value_known";
    shop.read(all);
    shop.set_up(true);
    shop.pass(600.0);
    assert!(only(&shop.read(none), "machine/apt").is_empty(), "it may be one answer that was lost");
    shop.set_up(false);
    let shown = shop.read(none) + " " + &shop.pass(60.0);
    assert_eq!(only(&shown, "machine/apt"), ["machine/apt=600(bad:comm_last_value_known)"]);
    assert_eq!(only(&shown, "machine/availability"), ["machine/availability=1(bad:comm_last_value_known)"]);
    let shown = shop.pass(1000.0);
    for name in ["apt", "adot", "adet", "aust", "pbt", "availability", "performance", "quality", "oee"] {
        assert!(only(&shown, &format!("machine/{name}")).is_empty(), "{name}: {shown}");
    }
    let shown = shop.pass(200.0);
    assert_eq!(account(&shown).0["unknown"].as_f64(), Some(1200.0), "the account goes on");
    shop.set_up(true);
    let shown = shop.read(all);
    assert_eq!(only(&shown, "machine/apt"), ["machine/apt=0(uncertain:not_accurate)"]);
}

#[test]
fn before_the_clock_is_trusted_nothing_is_claimed_of_the_shift() {
    let text = SHOP.replace("cycle =", "product = \"cavities\"\ncycle =");
    let (mut shop, started) = Shop::without_clock(&text);
    let shown = started + " " + &shop.read("on=0001 broken=0000 shots=0064 rejects=0005 cavities=0002");
    let shown = shown + " " + &shop.read("on=0001 broken=0000 shots=006E rejects=0005 cavities=0002");
    assert_eq!(only(&shown, "machine/state").last(), Some(&"machine/state=run"));
    let claimed: Vec<_> = only(&shown, "machine/")
        .into_iter()
        .chain(only(&shown, "capacity:small/free"))
        .filter(|one| {
            !one.starts_with("machine/state") && !one.contains("=-(") && !one.contains("(uncertain:")
        })
        .collect();
    assert_eq!(claimed, [""; 0]);
    // another product: an account that is stamped as all else is
    let now = shop.now();
    let parts = shop.site.tags.iter().filter(|tag| *tag.name == *"cavities");
    let parts = parts.map(|tag| Part { tag: tag.id, offset: 0 }).collect();
    let scan = Scan { parts, result: Ok(Data::Words(vec![4])), at: now.stamp };
    let Some(Update::Readings(readings)) = shop.normalizer.handle(Polled::Scan(scan), now) else {
        panic!("an account is told")
    };
    let is_account = |reading: &&Reading| *shop.site.tags[reading.tag.index()].name == *"machine/account";
    let account = readings.iter().find(is_account).unwrap();
    assert!(matches!(account.at, Stamp::SinceBoot(_)), "{account:?}");
    shop.has_clock = true;
    let shown = shop.pass(60.0);
    assert_eq!(only(&shown, "machine/shift"), ["machine/shift=2026-11-26"]);
    // the minute of the shift that had passed by then was in no shift that was known
    assert_eq!(only(&shown, "machine/pbt"), ["machine/pbt=60(uncertain:not_accurate)"]);
}

#[test]
fn a_shift_ends_with_its_account_and_the_next_begins_at_nothing() {
    let mut shop = Shop::of(SHOP);
    shop.read("on=0001 broken=0000 shots=0064 rejects=0005 cavities=0002");
    shop.pass(300.0);
    shop.read("on=0000 broken=0000 shots=0069 rejects=0005 cavities=0002");
    let shown = shop.pass(300.0);
    let account = only(&shown, "machine/account");
    assert_eq!(account.len(), 1, "{shown}");
    // 5 shots of 2 pieces in 300 s of 600, the other 300 s stopped: availability 0.5, performance 5 × 5 s / 300 s
    let text = shown.split("machine/account=").nth(1).unwrap();
    let json = text.split('}').next().unwrap().to_owned() + "}";
    let account: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(account["shift"], "2026-11-26 early");
    assert_eq!(account["of"], "shift");
    let of = |key: &str| format!("{:.4}", account[key].as_f64().unwrap());
    assert_eq!(["pieces", "apt", "adot"].map(of), ["10.0000", "300.0000", "300.0000"]);
    assert_eq!(["pbt", "unknown", "adet"].map(of), ["600.0000", "0.0000", "0.0000"]);
    assert_eq!(["availability", "performance"].map(of), ["0.5000", "0.0833"]);
    assert_eq!(["quality", "oee"].map(of), ["1.0000", "0.0417"]);
    assert_eq!(only(&shown, "machine/shift"), ["machine/shift=2026-11-26"]);
    let shown = shop.read("on=0000 broken=0000 shots=006A rejects=0005 cavities=0002");
    assert_eq!(only(&shown, "machine/pieces"), ["machine/pieces=2"]);
}

/// The account that was told, and the quality of the event.
fn account(shown: &str) -> (serde_json::Value, &str) {
    let text = shown.split("machine/account={").nth(1).unwrap_or_else(|| panic!("{shown}"));
    let (json, rest) = text.split_once('}').unwrap();
    let quality = rest.split([' ', '|']).next().unwrap_or_default();
    (serde_json::from_str(&format!("{{{json}}}")).unwrap(), quality)
}

#[test]
fn an_account_that_ends_while_a_counter_is_silent_says_so_and_so_does_the_one_that_takes_its_pieces() {
    let mut shop = Shop::of(SHOP);
    shop.read("on=0001 broken=0000 shots=0064 rejects=0005 cavities=0002");
    shop.read("meter:energy=000003E8");
    shop.pass(300.0);
    shop.read("shots!bad:comm_last_value_known");
    shop.read("meter:energy=000003E8");
    let shown = shop.pass(300.0);
    let (ended, quality) = account(&shown);
    assert_eq!(ended["shift"], "2026-11-26 early");
    assert_eq!(ended["count_quality"], "uncertain:last_usable");
    assert_eq!(ended["energy_quality"], "uncertain:last_usable", "the meter is stale by then");
    assert_eq!(quality, "(uncertain:last_usable)");
    // 10 shots of 2 pieces, of both shifts
    let shown = shop.read("on=0001 broken=0000 shots=006E rejects=0005 cavities=0002");
    assert_eq!(only(&shown, "machine/pieces"), ["machine/pieces=20(uncertain:not_accurate)"]);
    let mut shop = Shop::of(SHOP);
    shop.read("on=0001 broken=0000 shots=0064 rejects=0005 cavities=0002");
    shop.pass(599.0);
    shop.read("meter:energy=000003E8");
    let shown = shop.pass(1.0);
    let (ended, quality) = account(&shown);
    assert_eq!(
        (ended["count_quality"].as_str(), ended["energy_quality"].as_str()),
        (Some("good"), Some("good"))
    );
    assert_eq!(quality, "");
    let shown = shop.read("on=0001 broken=0000 shots=006E rejects=0005 cavities=0002");
    assert_eq!(only(&shown, "machine/pieces"), ["machine/pieces=20"]);
}

#[test]
fn a_counter_that_answers_again_with_what_ends_the_account_was_silent_all_the_same() {
    let mut shop = Shop::of(SHOP);
    shop.read("on=0001 broken=0000 shots=0064 rejects=0005 cavities=0002");
    shop.pass(599.0);
    shop.read("shots!bad:comm_last_value_known");
    shop.elapsed_ms += 1001;
    let shown = shop.read("on=0001 broken=0000 shots=006E rejects=0005 cavities=0002");
    assert_eq!(account(&shown).0["count_quality"], "uncertain:last_usable");
    let shown = shown.split("machine/account=").nth(1).unwrap();
    assert_eq!(only(shown, "machine/pieces"), ["machine/pieces=20(uncertain:not_accurate)"]);
}

#[test]
fn an_account_that_ends_during_a_restart_says_that_it_lacks_what_was_made_meanwhile() {
    let mut shop = Shop::of(SHOP);
    shop.read("on=0001 broken=0000 shots=0064 rejects=0005 cavities=0002");
    shop.read("meter:energy=000003E8");
    shop.pass(598.0);
    shop.read("on=0001 broken=0000 shots=0066 rejects=0005 cavities=0002");
    let text = serde_json::to_string(&shop.normalizer.saved(shop.now())).unwrap();
    let mut shop = shop.again(&serde_json::from_str(&text).unwrap(), 4.0);
    let (ended, quality) = account(&shop.first);
    assert_eq!((ended["shift"].as_str(), ended["pieces"].as_f64()), (Some("2026-11-26 early"), Some(4.0)));
    assert_eq!(ended["time_quality"], "good", "2 s of 600 s are unknown");
    assert_eq!(ended["count_quality"], "uncertain:not_accurate");
    assert_eq!(ended["energy_quality"], "uncertain:not_accurate");
    assert_eq!(quality, "(uncertain:not_accurate)");
    let shown = shop.read("on=0001 broken=0000 shots=0069 rejects=0005 cavities=0002");
    assert_eq!(only(&shown, "machine/pieces"), ["machine/pieces=6(uncertain:not_accurate)"]);
}

#[test]
fn an_account_that_has_ended_and_a_plan_are_worth_writing_down() {
    let mut shop = Shop::of(SHOP);
    shop.read("on=0001 broken=0000 shots=0064 rejects=0005 cavities=0002");
    shop.pass(599.0);
    assert!(!shop.normalizer.take_turn());
    shop.pass(1.0);
    assert!(shop.normalizer.take_turn() && !shop.normalizer.take_turn());
    shop.plan(r#"{"machine": "d", "cycle_s": 10}"#).unwrap();
    assert!(shop.normalizer.take_turn());
    shop.plan(r#"{"machine": "x"}"#).unwrap_err();
    assert!(!shop.normalizer.take_turn());
}

#[test]
fn free_machines_of_a_class_are_told_by_the_gateway_itself() {
    let mut shop = Shop::of(SHOP);
    let shown = shop.read("on=0001 broken=0000 shots=0064 rejects=0005 cavities=0002");
    // until now it was not known of one machine
    assert_eq!(only(&shown, "capacity:small/free/now"), ["capacity:small/free/now=0"]);
    shop.pass(60.0);
    let shown = shop.read("on=0000 broken=0000 shots=0064 rejects=0005 cavities=0002");
    assert_eq!(only(&shown, "capacity:small/free/now"), ["capacity:small/free/now=1"]);
    let shown = shop.pass(1800.0);
    let free =
        only(&shown, "capacity:small/free/24h").last().unwrap().split('=').nth(1).unwrap().parse::<f64>();
    assert!((free.unwrap() - 0.5).abs() < 0.02, "{shown}");
}

#[test]
fn a_class_follows_breaks_and_plans_of_its_machines_at_once_and_their_free_hours_each_minute() {
    let mut shop = Shop::of(&SHOP.replace("[uplink.u]", "breaks = [\"00:05-00:06\"]\n[uplink.u]"));
    shop.read("on=0000 broken=0000 shots=0064 rejects=0005 cavities=0002");
    let shown = shop.pass(300.0);
    let hours = only(&shown, "capacity:small/free/24h");
    // each 60 s, a sixtieth of an hour
    let last = hours.last().unwrap().split('=').nth(1).unwrap().parse::<f64>().unwrap();
    assert!(hours.len() >= 4 && last > 0.06, "{hours:?}");
    assert_eq!(only(&shown, "capacity:small/free/now").last(), Some(&"capacity:small/free/now=0"), "a break");
    assert_eq!(only(&shop.pass(60.0), "capacity:small/free/now"), ["capacity:small/free/now=1"]);
    shop.pass(90.0);
    let shown = shop.plan(r#"{"machine": "d", "shifts": ["12:00-13:00"]}"#).unwrap();
    assert_eq!(only(&shown, "capacity:small/free/now"), ["capacity:small/free/now=0"]);
}

#[test]
fn a_restart_goes_on_with_the_shift_and_counts_what_was_made_meanwhile() {
    let mut shop = Shop::of(SHOP);
    shop.read("on=0001 broken=0000 shots=0064 rejects=0005 cavities=0002");
    shop.pass(60.0);
    shop.read("on=0001 broken=0000 shots=0066 rejects=0005 cavities=0002");
    let text = serde_json::to_string(&shop.normalizer.saved(shop.now())).unwrap();
    let mut shop = shop.again(&serde_json::from_str(&text).unwrap(), 30.0);
    let shown = shop.read("on=0001 broken=0000 shots=0069 rejects=0006 cavities=0002");
    assert_eq!(only(&shown, "machine/pieces"), ["machine/pieces=10"]);
    assert_eq!(only(&shown, "machine/scrap"), ["machine/scrap=1"]);
    let shown = shop.pass(65.0);
    assert_eq!(only(&shown, "machine/apt").last(), Some(&"machine/apt=120(uncertain:not_accurate)"));
}

#[test]
fn a_machine_that_is_counted_otherwise_after_a_restart_goes_on_without_what_is_not_known() {
    #[track_caller]
    fn check(from: &str, to: &str, pieces: &str, energy: &str) {
        let mut shop = Shop::of(SHOP);
        shop.read("on=0001 broken=0000 shots=0064 rejects=0005 cavities=0002");
        shop.read("meter:energy=000003E8");
        shop.read("on=0001 broken=0000 shots=006E rejects=0AF0 cavities=0002");
        shop.read("meter:energy=000007D0");
        let text = serde_json::to_string(&shop.normalizer.saved(shop.now())).unwrap();
        let mut shop = Shop::of(&SHOP.replace(from, to));
        shop = shop.again(&serde_json::from_str(&text).unwrap(), 0.0);
        let shown = shop.first.clone() + " " + &shop.read("meter:energy=00000FA0") + " ";
        let shown = shown + &shop.read("on=0001 broken=0000 shots=07D0 rejects=0AF0 cavities=0002");
        assert_eq!(only(&shown, "machine/pieces").last(), Some(&pieces), "{to}");
        let shown = shown + " " + &shop.pass(60.0);
        assert_eq!(only(&shown, "machine/energy").last(), Some(&energy), "{to}");
    }
    // 1890 more shots of 2 pieces; 2 kWh more
    let same = "shots";
    let stale = "(uncertain:last_usable)";
    check(same, same, "machine/pieces=3800", &format!("machine/energy=3{stale}"));
    check(
        "pieces = { counter = \"shots\"",
        "pieces = { counter = \"rejects\"",
        "machine/pieces=20(uncertain:not_accurate)",
        &format!("machine/energy=3{stale}"),
    );
    check(
        "unit = \"Wh\"",
        "unit = \"kWh\"",
        "machine/pieces=3800",
        "machine/energy=1(uncertain:not_accurate)",
    );
    check(
        "at = \"hr:1\"",
        "at = \"hr:1\", scale = 10",
        "machine/pieces=20(uncertain:not_accurate)",
        &format!("machine/energy=3{stale}"),
    );
}

#[test]
fn a_plan_holds_until_another_one_comes_also_over_a_restart() {
    let mut shop = Shop::of(SHOP);
    shop.read("on=0001 broken=0000 shots=0064 rejects=0005 cavities=0002");
    shop.pass(100.0);
    let shown = shop.plan(r#"{"machine": "d", "cycle_s": 10, "shifts": {"long": "00:00-12:00"}}"#).unwrap();
    assert!(shown.contains("machine/shift=2026-11-26 long"), "{shown}");
    shop.read("on=0001 broken=0000 shots=006E rejects=0005 cavities=0002");
    // 10 counts of 10 s, in 160 s
    assert_eq!(only(&shop.pass(60.0), "machine/performance"), ["machine/performance=0.625"]);
    shop.normalizer.settle(shop.now());
    let text = serde_json::to_string(&shop.normalizer.saved(shop.now())).unwrap();
    let mut shop = shop.again(&serde_json::from_str(&text).unwrap(), 1000.0);
    let shown = shop.read("on=0001 broken=0000 shots=006F rejects=0005 cavities=0002");
    assert_eq!(only(&shown, "machine/pieces"), ["machine/pieces=22"], "the same shift goes on");
    let shown = shop.plan(r#"{"machine": "d"}"#).unwrap();
    assert!(shown.contains("machine/shift=2026-11-26 late"), "as configured: {shown}");
    assert_eq!(shop.plan(r#"{"machine": "meter"}"#), Err("that device is no machine".to_owned()));
    assert_eq!(shop.plan(r#"{"machine": "x"}"#), Err("there is no device `x`".to_owned()));
}

#[test]
fn a_device_out_of_service_takes_no_plan_and_is_no_free_machine() {
    let off = SHOP.replace("[device.d]\n", "[device.d]\nenabled = false\n");
    let message = r#"{"machine": "d", "shifts": {"long": "00:00-24:00"}}"#;
    let mut shop = Shop::of(&off);
    let refused = "that device is out of service (enabled = false)".to_owned();
    assert_eq!(shop.plan(message), Err(refused));
    assert!(!shop.pass(120.0).contains("machine/"));
    // one that was kept waits for the device to be in service again
    let mut on = Shop::of(SHOP);
    on.plan(message).unwrap();
    let saved = on.normalizer.saved(on.now());
    let shown = Shop::restored(&off, &saved);
    assert_eq!(only(&shown, "capacity:small/machines"), ["capacity:small/machines=0"]);
    let mut shop = shop.again(&saved, 0.0);
    assert!(shop.normalizer.take_dropped_plans().is_empty());
    let saved = shop.normalizer.saved(shop.now());
    assert!(Shop::restored(SHOP, &saved).contains("machine/shift=2026-11-26 long"));
}

#[test]
fn a_kept_plan_that_the_configuration_does_not_allow_any_more_is_told_once() {
    let mut shop = Shop::of(SHOP);
    shop.plan(r#"{"machine": "d", "shifts": {"long": "00:00-12:00"}}"#).unwrap();
    let mut saved = shop.normalizer.saved(shop.now());
    saved.plans.insert("gone".to_owned(), r#"{"machine": "gone"}"#.to_owned());
    saved.plans.insert("meter".to_owned(), r#"{"machine": "meter"}"#.to_owned());
    let mut shop = shop.again(&saved, 0.0);
    let told = [("gone", "there is no such device"), ("meter", "that device is no machine")];
    let told = told.map(|(machine, reason)| (machine.to_owned(), reason.to_owned()));
    assert_eq!(shop.normalizer.take_dropped_plans(), told);
    assert!(shop.normalizer.take_dropped_plans().is_empty());
    let kept = shop.normalizer.saved(shop.now()).plans;
    assert_eq!(kept.into_keys().collect::<Vec<_>>(), ["d"]);
}

/// The script of the day, and what is true of it: see `tests/peers/oee.py`.
const DAY_EVENTS: &str = include_str!("../../../../tests/it/day/events.jsonl");
const DAY_FIGURES: &str = include_str!("../../../../tests/it/day/figures.json");

const DAY_SHOP: &str = r#"
[gateway]
name = "n"
enterprise = "e"
timezone = "Europe/Berlin"
shifts = ["06:00-14:00"]
breaks = ["10:00-10:30"]
[uplink.u]
broker = "mqtt://127.0.0.1:1"
[link.l]
tcp = "127.0.0.1:1"
[device.d]
link = "l"
stale_after = "1d"
tags = [
    { name = "fault", at = "hr:0.0" },
    { name = "setup", at = "hr:0.1" },
    { name = "run", at = "hr:0.2" },
    { name = "idle", at = "hr:0.3" },
    { name = "shots", at = "hr:1", kind = "counter" },
    { name = "rejects", at = "hr:2", kind = "counter" },
    { name = "energy", at = "hr:3", type = "u32", unit = "Wh", kind = "counter" },
    { name = "product", at = "hr:5", type = "string", length = 2 },
    { name = "cycle", at = "hr:7", unit = "s" },
]
[device.d.machine]
fault = "fault"
setup = "setup"
running = "run"
idle = "idle"
pieces = { counter = "shots", each = 4 }
scrap = { counter = "rejects" }
energy = "energy"
product = "product"
cycle = "cycle"
"#;

/// What one line of the script is in the registers of the machine; those that count go on from what they were.
fn registers(event: &serde_json::Value, rejects: &mut u64, watt_hours: &mut u64) -> String {
    if let Some(list) = event["conditions"].as_array() {
        let names = ["fault", "setup", "run", "idle"];
        let one = |(index, holds): (usize, &serde_json::Value)| match holds.as_bool() {
            Some(holds) => format!("{}={:04X} ", names[index], u16::from(holds) << index),
            None => format!("{}!bad:no_communication ", names[index]),
        };
        return list.iter().enumerate().map(one).collect();
    }
    if let Some(counter) = event["counter"].as_u64() {
        return format!("shots={counter:04X}");
    }
    if let Some(kwh) = event["energy"].as_f64() {
        *watt_hours += format!("{:.0}", kwh * 1000.0).parse::<u64>().unwrap();
        return format!("energy={watt_hours:08X}");
    }
    if event["scrap"] == 1 {
        *rejects += 1;
        return format!("rejects={rejects:04X}");
    }
    if let Some(product) = event["product"].as_str() {
        let hex: String = product.bytes().map(|byte| format!("{byte:02X}")).collect();
        return format!("product={hex}00");
    }
    let cycle = event["cycle"].as_f64().map(|cycle| format!("{cycle:.0}").parse::<u16>().unwrap());
    cycle.map_or_else(String::new, |cycle| format!("cycle={cycle:04X}"))
}

#[test]
fn registers_of_a_scripted_day_give_the_figures_that_were_counted_second_by_second() {
    let mut shop = Shop::of(DAY_SHOP);
    shop.wall_ms += 5 * 3_600_000;
    let (mut rejects, mut watt_hours, mut second) = (0, 0, 0_u64);
    let mut shown = shop.read("shots=FF78 rejects=0000 energy=00000000");
    for line in DAY_EVENTS.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let at = event["at"].as_u64().unwrap();
        if event["save"] == true {
            shown += &shop.pass((at - second) as f64);
            shop.normalizer.settle(shop.now());
        } else if event["restore"] == true {
            let text = serde_json::to_string(&shop.normalizer.saved(shop.now())).unwrap();
            shop = shop.again(&serde_json::from_str(&text).unwrap(), (at - second) as f64);
        } else {
            shown += &shop.pass((at - second) as f64);
        }
        second = at;
        shop.wall_ms = event["wall"].as_u64().unwrap() * 1000 - shop.elapsed_ms;
        shown += &shop.read(&registers(&event, &mut rejects, &mut watt_hours));
    }
    shown += &shop.pass((8 * 3600 - second) as f64);
    let account = |text: &str| {
        let text = text.split_inclusive('}').next().unwrap();
        serde_json::from_str::<serde_json::Value>(text).unwrap()
    };
    let accounts: Vec<serde_json::Value> = shown.split("machine/account=").skip(1).map(account).collect();
    let of = |account: &serde_json::Value| {
        format!("{} {} {}", account["of"], account["product"], account["pieces"]).replace('"', "")
    };
    assert_eq!(
        accounts.iter().map(of).collect::<Vec<_>>(),
        ["product cup 2508.0", "product lid 1352.0", "shift lid 3860.0"]
    );
    let truth: serde_json::Value = serde_json::from_str(DAY_FIGURES).unwrap();
    let four = |number: &serde_json::Value| format!("{:.4}", number.as_f64().unwrap());
    for (name, of_truth) in [
        ("availability", "availability"),
        ("performance", "performance"),
        ("quality", "quality"),
        ("oee", "oee"),
        ("apt", "apt_s"),
        ("aust", "aust_s"),
        ("adet", "adet_s"),
        ("adot", "adot_s"),
        ("unknown", "unknown_s"),
        ("pbt", "pbt_s"),
        ("pieces", "pieces"),
        ("scrap", "scrap"),
        ("good", "good"),
        ("energy", "energy_kwh"),
        ("kwh_per_piece", "kwh_per_piece"),
    ] {
        assert_eq!(four(&accounts[2][name]), four(&truth[of_truth]), "{name}");
    }
}
