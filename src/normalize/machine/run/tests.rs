//! A moulding machine in made-up time, from its configuration to what is reported of it.

use crate::normalize::tests::Shop;

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
