//! A shop in made-up time: what is read goes in as raw registers, what is reported comes out as text.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::config;
use crate::reading::Timestamp;
use crate::scan::Data;

/// 2026-11-26T00:00:00Z.
const MIDNIGHT_MS: u64 = 1_795_651_200_000;

pub(crate) struct Shop {
    pub(crate) site: Arc<Site>,
    pub(crate) normalizer: Normalizer,
    start: Instant,
    /// Milliseconds since the start.
    pub(crate) elapsed_ms: u64,
    /// What the wall clock said at the start.
    pub(crate) wall_ms: u64,
    /// Whether the clock is to be trusted.
    pub(crate) has_clock: bool,
    /// What was told when it went on after a restart.
    pub(crate) first: String,
}

impl Shop {
    /// A gateway with the device `d`, whose tables stand in `device`.
    pub(crate) fn new(device: &str) -> Shop {
        Shop::of(&format!(
            "[gateway]\nname = \"n\"\nenterprise = \"e\"\n[uplink.u]\nbroker = \"mqtt://127.0.0.1:1\"\n\
             [link.l]\ntcp = \"127.0.0.1:1\"\n[device.d]\nlink = \"l\"\n{device}"
        ))
    }

    pub(crate) fn of(text: &str) -> Shop {
        let checked = config::parse("shop.toml", text);
        let site = match checked.site {
            Ok(site) => Arc::new(site),
            Err(findings) => panic!("{}", config::finding::render_text(&findings, &checked.sources)),
        };
        let normalizer = Normalizer::new(site.clone());
        let start = crate::clock::monotonic();
        let first = String::new();
        let mut shop =
            Shop { site, normalizer, start, elapsed_ms: 0, wall_ms: MIDNIGHT_MS, has_clock: true, first };
        shop.normalizer.start(shop.now());
        shop
    }

    /// What is told when a gateway of `text` starts.
    pub(crate) fn started(text: &str) -> String {
        Shop::restored(text, &Saved::default())
    }

    /// The same, with what was kept.
    pub(crate) fn restored(text: &str, saved: &Saved) -> String {
        let mut shop = Shop::of(text);
        let mut normalizer = Normalizer::new(shop.site.clone());
        normalizer.restore(saved);
        let updates = normalizer.start(shop.now());
        shop.normalizer = normalizer;
        shop.shown(updates.into_iter().find(|update| matches!(update, Update::Readings(_))))
    }

    /// A gateway whose clock is not to be trusted yet, and what it tells when it starts.
    pub(crate) fn without_clock(text: &str) -> (Shop, String) {
        let mut shop = Shop { has_clock: false, ..Shop::of(text) };
        shop.normalizer = Normalizer::new(shop.site.clone());
        let updates = shop.normalizer.start(shop.now());
        let shown = shop.shown(updates.into_iter().find(|update| matches!(update, Update::Readings(_))));
        (shop, shown)
    }

    /// The same shop after `away` seconds, with what was kept.
    pub(crate) fn again(self, saved: &Saved, away: f64) -> Shop {
        let mut normalizer = Normalizer::new(self.site.clone());
        normalizer.restore(saved);
        let mut shop = Shop { normalizer, ..self };
        shop.elapsed_ms += u64::try_from(Duration::from_secs_f64(away).as_millis()).unwrap();
        let updates = shop.normalizer.start(shop.now());
        shop.first = shop.shown(updates.into_iter().find(|update| matches!(update, Update::Readings(_))));
        shop
    }

    /// Nothing of `d` is within reach.
    fn away(&mut self) {
        let (device, now) = (self.site.devices[0].id, self.now());
        self.normalizer.handle(Polled::Away(device), now);
    }

    /// Whether `d` counts as there.
    pub(crate) fn set_up(&mut self, is_up: bool) {
        let (device, now) = (self.tag("on").device, self.now());
        let polled = if is_up { Polled::DeviceUp(device) } else { Polled::DeviceDown(device, now.stamp) };
        self.normalizer.handle(polled, now);
    }

    /// A message brings a plan.
    pub(crate) fn plan(&mut self, message: &str) -> Result<String, String> {
        let update = self.normalizer.handle_plan(message.as_bytes(), self.now())?;
        Ok(self.shown(update))
    }

    /// Somebody does something with an alarm of `d`.
    pub(crate) fn act(&mut self, alarm: &str, act: alarm::run::Act) -> Result<String, String> {
        let device = self.tag("alarm/oil").device;
        let now = self.now();
        let update = self.normalizer.handle_act((device, alarm), act, "Li", now)?;
        Ok(self.shown(update))
    }

    pub(crate) fn now(&self) -> Now {
        let wall = Timestamp::from_millis(self.wall_ms + self.elapsed_ms);
        let stamp = if self.has_clock { Stamp::Wall(wall) } else { Stamp::SinceBoot(self.elapsed_ms) };
        Now { at: self.start + Duration::from_millis(self.elapsed_ms), stamp }
    }

    fn tag(&self, name: &str) -> &config::site::Tag {
        let (device, name) = name.split_once(':').unwrap_or(("d", name));
        let device = self.site.devices.iter().find(|known| *known.name == *device).unwrap();
        self.site.tags_of(device).iter().find(|tag| *tag.name == *name).unwrap_or_else(|| panic!("{name}"))
    }

    /// One scan: `tag=HEX` words, or `tag!quality` alone.
    pub(crate) fn read(&mut self, text: &str) -> String {
        let (mut words, mut parts, mut result) = (Vec::new(), Vec::new(), None);
        for one in text.split_whitespace() {
            let (name, hex) = one.split_once(['=', '!']).unwrap();
            let name = &name.replace("(probe_", "(probe ").replace(")_", ") ");
            let offset = u16::try_from(words.len()).unwrap();
            parts.push(Part { tag: self.tag(name).id, offset });
            if one.contains('!') {
                result = Quality::from_id(hex);
            } else {
                words.extend(
                    hex.as_bytes()
                        .chunks(4)
                        .map(|four| u16::from_str_radix(std::str::from_utf8(four).unwrap(), 16).unwrap()),
                );
            }
        }
        let result = result.map_or(Ok(Data::Words(words)), Err);
        let now = self.now();
        let scan = Scan { parts: parts.into(), result, at: now.stamp };
        let update = self.normalizer.handle(Polled::Scan(scan), now);
        self.shown(update)
    }

    /// Lets time pass; what is due on the way is handled when it is due.
    pub(crate) fn pass(&mut self, seconds: f64) -> String {
        let end = self.elapsed_ms + u64::try_from(Duration::from_secs_f64(seconds).as_millis()).unwrap();
        let mut shown = Vec::new();
        while let Some(due) = self.normalizer.next_due() {
            let due_ns = due.saturating_duration_since(self.start).as_nanos();
            let due_ms = u64::try_from(due_ns.div_ceil(1_000_000)).unwrap();
            if due_ms > end {
                break;
            }
            self.elapsed_ms = self.elapsed_ms.max(due_ms);
            let now = self.now();
            let update = self.normalizer.handle_due(now);
            shown.push(self.shown(update));
        }
        self.elapsed_ms = end;
        shown.retain(|shown| !shown.is_empty());
        shown.join(" | ")
    }

    fn shown(&self, update: Option<Update>) -> String {
        let Some(Update::Readings(readings)) = update else { return String::new() };
        let one = |reading: &Reading| {
            let tag = &self.site.tags[reading.tag.index()];
            let device = &self.site.devices[tag.device.index()];
            let of = if *device.name == *"d" { String::new() } else { format!("{}:", device.name) };
            let value = reading.value.as_ref().map_or("-".to_owned(), ToString::to_string);
            let quality =
                if reading.quality.is_good() { String::new() } else { format!("({})", reading.quality.id()) };
            format!("{of}{}={value}{quality}", tag.name)
        };
        readings.iter().map(one).collect::<Vec<_>>().join(" ")
    }
}

#[test]
fn transformers_and_powers_of_ten_make_the_value_and_without_them_there_is_none() {
    let mut shop = Shop::new(
        "tags = [
            { name = \"b\", at = \"hr:5\", type = \"u32\", scale = 0.01, ratio = [\"ct\", \"pt\"] },
            { name = \"ct\", at = \"hr:9\" }, { name = \"pt\", value = 10 },
            { name = \"c\", at = \"hr:3\", scale_from = \"sf\" }, { name = \"sf\", at = \"hr:4\", type = \"i16\" },
            { name = \"d\", at = \"hr:7\", decimals_from = \"dp\", offset = -1 }, { name = \"dp\", at = \"hr:8\" },
        ]",
    );
    assert_eq!(shop.read("b=00002710"), "b=-(bad:no_communication)");
    assert_eq!(shop.read("b=00002710 ct=0050"), "ct=80 b=80000");
    assert_eq!(shop.read("c=0901 sf=FFFF"), "sf=-1 c=230.5");
    assert_eq!(shop.read("d=0901 dp=0002"), "dp=2 d=22.05");
    assert_eq!(shop.read("sf!bad:config"), "sf=-(bad:config)");
    assert_eq!(shop.read("c=0901"), "c=-(bad:config)");
    assert_eq!(shop.read("dp=0099 d=0001"), "dp=153 d=-(bad:decode)");
}

#[test]
fn codes_are_words_and_bad_values_have_their_reason() {
    let mut shop = Shop::new(
        "tags = [
            { name = \"i\", at = \"hr:8\", values = { 1 = \"run\", 2 = \"stop\", else = \"fault\" } },
            { name = \"n\", at = \"hr:8\", values = { 1 = \"run\" } },
            { name = \"k\", at = \"hr:11\", type = \"i16\", scale = 0.1, bad_values = { 0x8003 = \"sensor not connected\", 5 = \"bad:over_range\", 6 = \"uncertain:not_accurate\" } },
            { name = \"f\", at = \"hr:12\", type = \"f32\", bad_values = [-9999.0] },
            { name = \"a\", at = \"hr:20\", bits = { 0 = \"heater\", 15 = \"door\" } },
        ]",
    );
    assert_eq!(shop.read("i=0001 n=0007"), "i=run n=7");
    assert_eq!(shop.read("i=0009"), "i=fault");
    assert_eq!(shop.read("k=8003"), "k=-(bad:sensor_failure)");
    assert_eq!(shop.read("k=0005"), "k=-(bad:over_range)");
    assert_eq!(shop.read("k=0006"), "k=0.6(uncertain:not_accurate)");
    assert_eq!(shop.read("k=0014"), "k=2");
    assert_eq!(shop.read("f=C61C3C00"), "f=-(bad:sensor_failure)");
    assert_eq!(shop.read("f=41200000"), "f=10");
    assert_eq!(shop.read("a/heater=8000 a/door=8000"), "a/heater=false a/door=true");
}

#[test]
fn units_are_converted_and_another_dimension_is_no_value() {
    let mut shop = Shop::new(
        "tags = [
            { name = \"l\", at = \"hr:1\", unit = \"kPa\", publish_unit = \"bar\" },
            { name = \"m\", at = \"hr:2\", unit = \"kg\", unit_from = \"n\" },
            { name = \"n\", at = \"hr:3\", values = { 0 = \"g\", 1 = \"kg\", 2 = \"mm\", 3 = \"?\" } },
        ]",
    );
    assert_eq!(shop.read("l=012C"), "l=3");
    assert_eq!(shop.read("m=01F4 n=0000"), "n=g m=0.5");
    assert_eq!(shop.read("m=01F4 n=0001"), "n=kg m=500");
    assert_eq!(shop.read("m=01F4 n=0002"), "n=mm m=-(bad:decode)");
    assert_eq!(shop.read("m=01F4 n=0003"), "n=?");
}

#[test]
fn a_tag_is_coloured_by_another() {
    let mut shop = Shop::new(
        "tags = [
            { name = \"o\", at = \"hr:1\", quality_from = [\"p\", \"e\"] },
            { name = \"p\", at = \"hr:2.2\", quality = { true = \"uncertain:not_accurate moving\" } },
            { name = \"e\", at = \"hr:3\", quality = { 7 = \"bad:over_range\" } },
        ]",
    );
    assert_eq!(shop.read("o=0001 p=0000 e=0000"), "p=false e=0 o=1");
    assert_eq!(shop.read("o=0001 p=0004 e=0000"), "p=true o=1(uncertain:not_accurate)");
    assert_eq!(shop.read("o=0001 p=0004 e=0007"), "e=7 o=-(bad:over_range)");
    assert_eq!(shop.read("e!bad:decode"), "e=-(bad:decode)");
    assert_eq!(shop.read("o=0001"), "o=-(bad:decode)");
}

#[test]
fn a_value_that_nothing_confirms_turns_stale_once() {
    let mut shop = Shop::new("stale_after = \"10s\"\ntags = [{ name = \"a\", at = \"hr:1\" }]");
    assert_eq!(shop.read("a=0001"), "a=1");
    assert_eq!(shop.pass(9.0), "");
    assert_eq!(shop.read("a=0001"), "");
    assert_eq!(shop.pass(9.9), "");
    assert_eq!(shop.pass(50.0), "a=1(uncertain:last_usable)");
    assert_eq!(shop.read("a=0001"), "a=1");
    assert_eq!(shop.read("a!bad:comm_last_value_known"), "a=1(bad:comm_last_value_known)");
    assert_eq!(shop.pass(100.0), "", "what is bad is not stale");
}

#[test]
fn the_total_of_a_counter_that_nothing_confirms_is_as_stale_as_the_counter_and_what_hangs_on_it() {
    let mut shop = Shop::new(
        "stale_after = \"10s\"
        tags = [{ name = \"c\", at = \"hr:1\", kind = \"counter\" }]
        [device.d.derived]
        \"twice\" = { expr = \"tag('total/c') * 2\" }",
    );
    assert_eq!(shop.read("c=0001"), "c=1 total/c=0 twice=0");
    let stale = "(uncertain:last_usable)";
    assert_eq!(shop.pass(50.0), format!("c=1{stale} total/c=0{stale} twice=0{stale}"));
    assert_eq!(shop.read("c=0003"), "c=3 total/c=2 twice=4");
    shop.read("c!bad:decode");
    assert_eq!(shop.pass(50.0), "", "what is bad is not stale");
}

#[test]
fn a_value_that_never_changes_is_stuck_until_it_does() {
    let mut shop =
        Shop::new("tags = [{ name = \"a\", at = \"hr:1\", stuck_after = \"5s\", stale_after = \"1h\" }]");
    assert_eq!(shop.read("a=0001"), "a=1");
    assert_eq!(shop.pass(4.9) + &shop.read("a=0001"), "");
    assert_eq!(shop.pass(0.1) + &shop.read("a=0001"), "a=1(uncertain:stuck)");
    assert_eq!(shop.read("a=0002"), "a=2");
}

#[test]
fn after_an_outage_a_device_warms_up() {
    let mut shop =
        Shop::new("warmup = \"5s\"\ntags = [{ name = \"a\", at = \"hr:1\", stale_after = \"1h\" }]");
    assert_eq!(shop.read("a=0001"), "a=1(uncertain:initial)");
    assert_eq!(shop.pass(5.0) + &shop.read("a=0001"), "a=1");
    shop.away();
    assert_eq!(shop.read("a!bad:not_connected"), "a=-(bad:not_connected)");
    assert_eq!(shop.pass(5.0) + &shop.read("a=0001"), "a=1(uncertain:initial)");
    assert_eq!(shop.pass(1.0) + &shop.read("a!bad:decode"), "a=-(bad:decode)");
    assert_eq!(shop.pass(4.0) + &shop.read("a=0001"), "a=1", "a garbled answer is no outage");
}

#[test]
fn an_optional_tag_that_is_absent_is_no_fault_of_the_configuration() {
    let mut shop = Shop::new("tags = [{ name = \"a\", at = \"hr:1\", optional = true }]");
    assert_eq!(shop.read("a!bad:config"), "a=-(bad:out_of_service)");
}

#[test]
fn derived_tags_follow_their_inputs_and_are_as_good_as_the_worst_of_them() {
    let mut shop = Shop::new(
        "stale_after = \"1h\"
        tags = [{ name = \"u\", at = \"hr:1\" }, { name = \"i\", at = \"hr:2\" }, { name = \"on\", at = \"hr:3.0\" }]
        [device.d.derived]
        \"p\" = { expr = \"u * i / 1000\", unit = \"kW\" }
        \"double\" = { expr = \"p * 2\", type = \"i64\" }
        \"state\" = { expr = \"if(on for 5s, 1, 0)\", values = { 0 = \"stop\", 1 = \"run\" } }
        \"mean\" = { expr = \"avg(u, 10s)\" }",
    );
    assert_eq!(shop.read("u=00E6 i=000A"), "u=230 i=10 p=2.3 mean=-(uncertain:initial) double=5");
    assert_eq!(shop.read("i!bad:config"), "i=-(bad:config) p=-(bad:config) double=-(bad:config)");
    assert_eq!(shop.read("on=0001"), "on=true state=stop");
    assert!(shop.pass(5.0).contains("state=run"), "although nothing is read");
    assert_eq!(shop.read("on!bad:decode"), "on=-(bad:decode) state=-(bad:decode)");
}

#[test]
fn the_total_of_a_counter_goes_on_over_wraps_resets_and_restarts() {
    let device = "stale_after = \"1h\"
        tags = [{ name = \"c\", at = \"hr:1\", kind = \"counter\", scale = 0.1, max_rate = \"100/s\" }]
        [device.d.derived]
        \"speed\" = { expr = \"rate(c, 4s)\" }";
    let mut shop = Shop::new(device);
    assert_eq!(shop.read("c=FFF0"), "c=6552 total/c=0 speed=-(uncertain:initial)");
    shop.pass(1.0);
    assert_eq!(shop.read("c=FFFA"), "c=6553 total/c=1");
    shop.pass(1.0);
    assert_eq!(shop.read("c=000E"), "c=1.4 total/c=3");
    shop.pass(1.0);
    assert_eq!(shop.read("c!bad:decode"), "c=-(bad:decode) total/c=-(bad:decode) speed=-(bad:decode)");
    shop.pass(1.0);
    assert_eq!(shop.read("c=0005"), "c=0.5 total/c=3.5 speed=0.875", "cleared");
    let saved = shop.normalizer.saved(shop.now());
    let mut next = Shop::new(device);
    next.normalizer.restore(&saved);
    next.elapsed_ms = 60_000;
    assert!(next.read("c=0019").starts_with("c=2.5 total/c=5.5"));
}

#[test]
fn a_counter_that_is_read_otherwise_after_a_restart_counts_nothing_of_the_time_between() {
    #[track_caller]
    fn check(before: &str, after: &str, expected: &str) {
        let device = |tag: &str| {
            format!("tags = [{{ name = \"c\", kind = \"counter\", {tag} }}, {{ name = \"r\", value = 2 }}]")
        };
        let mut shop = Shop::new(&device(before));
        shop.read("c=0064");
        shop.read("c=006E");
        let text = serde_json::to_string(&shop.normalizer.saved(shop.now())).unwrap();
        let mut next = Shop::new(&device(after));
        next.normalizer.restore(&serde_json::from_str(&text).unwrap());
        let shown = next.read("c=03E8") + " " + &next.read("c=03E9");
        let totals: Vec<_> = shown.split(' ').filter(|one| one.starts_with("total/c=")).collect();
        assert_eq!(totals.join(" "), expected, "{after}");
    }
    // 0x64 to 0x6E are 10, 0x6E to 0x3E8 890
    check("at = \"hr:1\"", "at = \"hr:1\"", "total/c=900 total/c=901");
    check("at = \"hr:1\"", "at = \"hr:1\", scale = 10", "total/c=10 total/c=20");
    check("at = \"hr:1\"", "at = \"hr:2\"", "total/c=10 total/c=11");
    check("at = \"hr:1\"", "at = \"hr:1\", ratio = [\"r\"]", "total/c=10 total/c=12");
    check(
        "at = \"hr:1\", unit = \"kWh\", publish_unit = \"Wh\"",
        "at = \"hr:1\", unit = \"MWh\", publish_unit = \"Wh\"",
        "total/c=10000 total/c=1010000",
    );
    check("at = \"hr:1\", unit = \"kWh\"", "at = \"hr:1\", unit = \"Wh\"", "total/c=0 total/c=1");
}

#[test]
fn small_changes_are_not_told_and_a_door_tells_the_sample_before() {
    let mut shop = Shop::new(
        "stale_after = \"1h\"
        tags = [
            { name = \"a\", at = \"hr:1\", deadband = 2 },
            { name = \"r\", at = \"hr:2\", deadband = \"10% of range\", range = [0, 100] },
            { name = \"s\", at = \"hr:3\", deadband = { swinging_door = 1 } },
        ]",
    );
    assert_eq!(shop.read("a=000A r=000A s=000A"), "a=10 r=10 s=10");
    shop.pass(1.0);
    assert_eq!(shop.read("a=000C r=0014 s=000C"), "");
    shop.pass(1.0);
    assert_eq!(shop.read("a=000D r=0015 s=000E"), "a=13 r=21");
    shop.pass(1.0);
    assert!(shop.read("s=0032").starts_with("s=14"), "the last sample that lay on the line");
    shop.pass(1.0);
    shop.read("s=0033");
    assert!(shop.normalizer.finish().is_some(), "what is held back at the end is told");
}

#[test]
fn a_fast_tag_is_not_stale_while_a_silent_neighbour_may_hold_the_line() {
    let mut shop = Shop::new("every = \"100ms\"\ntags = [{ name = \"a\", at = \"hr:1\" }]");
    assert_eq!(shop.read("a=0001"), "a=1");
    assert_eq!(shop.pass(2.9), "", "three timeouts of a second");
    assert_eq!(shop.pass(0.2), "a=1(uncertain:last_usable)");
}

#[test]
fn an_expression_makes_a_number_of_odd_registers() {
    let mut shop = Shop::new(
        "tags = [
            { name = \"sign\", at = \"hr:1\", expr = \"if(bit(raw, 15), 32768 - raw, raw)\" },
            { name = \"offset\", at = \"hr:2\", expr = \"if(raw >= 10000, 10000 - raw, raw)\" },
            { name = \"mod\", at = \"hr:3\", type = \"words\", length = 2, order = \"CDAB\", expr = \"word(0) * 10000 + word(1)\" },
            { name = \"kw\", at = \"hr:5\", type = \"words\", length = 2, expr = \"word(0) * 10000 + word(1)\",
              scale = 0.5, offset = 10, unit = \"W\", publish_unit = \"kW\" },
            { name = \"digit\", at = \"hr:7\", expr = \"raw % 10\", values = { 1 = \"run\", 2 = \"stop\" } },
            { name = \"inverse\", at = \"hr:8\", expr = \"1 / raw\", bad_values = [3] },
        ]",
    );
    assert_eq!(shop.read("sign=8005"), "sign=-5");
    assert_eq!(shop.read("sign=0005"), "sign=5");
    assert_eq!(shop.read("offset=2715"), "offset=-5");
    assert_eq!(shop.read("offset=270F"), "offset=9999");
    assert_eq!(shop.read("mod=000C0D80"), "mod=123456", "word(0) is the first that came, whatever the order");
    assert_eq!(shop.read("mod=000C"), "mod=-(bad:decode)", "one register is missing");
    assert_eq!(shop.read("kw=000C0D80"), "kw=61.738");
    assert_eq!(shop.read("digit=000B"), "digit=run");
    assert_eq!(shop.read("digit=0017"), "digit=3");
    assert_eq!(shop.read("inverse=0004"), "inverse=0.25");
    assert_eq!(shop.read("inverse=0000"), "inverse=-(bad:sensor_failure)");
    assert_eq!(shop.read("inverse=0002"), "inverse=0.5");
    assert_eq!(shop.read("inverse=0003"), "inverse=-(bad:sensor_failure)");
}

#[test]
fn an_expression_of_registers_is_as_good_as_the_tags_that_it_names() {
    let mut shop = Shop::new(
        "tags = [
            { name = \"safe\", at = \"hr:1\", expr = \"bit(raw, 3) and not stop\" },
            { name = \"stop\", at = \"hr:2.0\" },
            { name = \"word\", at = \"hr:3\", type = \"string\", length = 1, expr = \"if(raw == 'OK', 'fine', raw)\" },
            { name = \"sum\", at = \"hr:4\", expr = \"raw + plain * 2\" },
            { name = \"plain\", at = \"hr:5\", expr = \"raw / 2\", range = [0, 100] },
        ]",
    );
    assert_eq!(shop.read("safe=0008"), "safe=-(bad:no_communication)", "`stop` is not known yet");
    assert_eq!(shop.read("safe=0008 stop=0000"), "stop=false safe=true");
    assert_eq!(shop.read("safe=0008 stop=0001"), "stop=true safe=false");
    assert_eq!(shop.read("stop!bad:comm_last_value_known"), "stop=true(bad:comm_last_value_known)");
    assert_eq!(shop.read("safe=0008"), "safe=false(bad:comm_last_value_known)");
    assert_eq!(shop.read("word=4F4B"), "word=fine");
    assert_eq!(shop.read("word=4E4F"), "word=NO");
    assert_eq!(shop.read("sum=0001 plain=0003"), "plain=1.5 sum=4");
    assert_eq!(
        shop.read("sum=0001 plain=00CA"),
        "plain=101(uncertain:eu_exceeded) sum=203(uncertain:eu_exceeded)"
    );
    assert_eq!(shop.read("plain!bad:config"), "plain=-(bad:config)");
    assert_eq!(shop.read("sum=0002"), "sum=-(bad:config)");
}

#[test]
fn a_counter_wraps_where_its_number_does_and_not_where_its_type_does() {
    let mut shop = Shop::new(
        "tags = [
            { name = \"c\", at = \"hr:1\", type = \"words\", length = 2, kind = \"counter\",
              expr = \"word(0) * 10000 + word(1)\", wraps_at = 100000000 },
            { name = \"r\", at = \"hr:3\", kind = \"counter\", ratio = \"ct\" }, { name = \"ct\", value = 0.99 },
        ]",
    );
    assert_eq!(shop.read("c=270F270F"), "c=99999999 total/c=0");
    assert_eq!(shop.read("c=00000001"), "c=1 total/c=2");
    assert_eq!(shop.read("r=FFFF"), "r=64879.65 total/r=0");
    assert_eq!(
        shop.read("r=0002"),
        "r=1.98",
        "where it wraps depends on another tag: what was counted is not known"
    );
}

#[test]
fn what_may_not_leave_raw_leaves_as_what_it_was_in_each_window() {
    let mut shop = Shop::of(
        r#"
        [gateway]
        name = "n"
        enterprise = "e"
        [uplink.own]
        broker = "mqtt://127.0.0.1:1"
        [uplink.cluster]
        broker = "mqtt://127.0.0.1:2"
        share = ["cluster", "aggregate"]
        aggregate = "1m"
        [link.l]
        tcp = "127.0.0.1:1"
        [device.d]
        link = "l"
        share = "aggregate"
        stale_after = "1h"
        tags = [
            { name = "power", at = "hr:0", unit = "kW" },
            { name = "energy", at = "hr:1", unit = "kWh", kind = "counter" },
            { name = "mode", at = "hr:2", values = { 1 = "run" } },
            { name = "price", at = "hr:3", share = "cluster" },
        ]
        "#,
    );
    let names = |uplink: usize| {
        let shared = config::site::Shared::new(&shop.site, &shop.site.uplinks[uplink].share);
        let has = shop.site.tags.iter().filter(|tag| shared.has_tag(tag.id));
        has.map(|tag| tag.name.to_string()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(0), "power energy mode price total/energy");
    assert_eq!(
        names(1),
        "price power/mean power/min power/max power/last power/count energy/delta energy/count"
    );
    shop.read("power=0064 energy=000A mode=0001 price=0001");
    shop.pass(15.0);
    shop.read("power=0010 energy=000C");
    shop.pass(15.0);
    shop.read("power!bad:comm_last_value_known");
    shop.pass(15.0);
    shop.read("power=0010 energy=000F");
    let shown = shop.pass(15.0);
    // 100 for 15 s, 16 for 15 s, not known for 15 s, 16 for 15 s: (100 + 16 + 16) / 3; the first window after a start
    let about = "(uncertain:initial)";
    let expected = format!(
        "power/mean=44{about} power/min=16{about} power/max=100{about} power/last=16{about} power/count=3 \
         energy/delta=5{about} energy/count=3"
    );
    assert_eq!(shown.replace(" | ", " "), expected);
    let shown = shop.pass(60.0);
    assert!(
        shown.starts_with("power/mean=16 power/min=16 power/max=16 power/last=16 power/count=0"),
        "{shown}"
    );
}

#[test]
fn what_an_expression_has_counted_goes_on_over_a_restart_where_it_is_still_the_same() {
    let device = |expr: &str| {
        format!(
            "tags = [{{ name = \"m30\", at = \"hr:0.0\" }}]\n[device.d.derived]\nparts = {{ expr = \"{expr}\" }}"
        )
    };
    let mut shop = Shop::new(&device("count(m30)"));
    for _ in 0..3 {
        shop.read("m30=0000");
        shop.read("m30=0001");
    }
    let saved = shop.normalizer.saved(shop.now());
    let mut shop = shop.again(&saved, 10.0);
    assert_eq!(shop.read("m30=0000"), "m30=false parts=3");
    assert_eq!(shop.read("m30=0001"), "m30=true parts=4");
    let mut other = Shop::new(&device("count(m30) * 2"));
    other = other.again(&saved, 10.0);
    assert_eq!(other.read("m30=0000"), "m30=false parts=0");
}

#[test]
fn a_device_that_is_not_what_its_type_says_has_no_values_and_one_that_is_loses_none() {
    let mut shop = Shop::new(
        "probe = { at = \"ir:70\", type = \"f32\", between = [45, 65] }
        tags = [{ name = \"power\", at = \"ir:52\" }]",
    );
    // 50.0; what came before it is as good as what comes after
    assert_eq!(shop.read("power=0005"), "power=5(uncertain:initial)");
    assert!(shop.read("(probe_1)=42480000").ends_with("power=5"));
    assert_eq!(shop.read("power=0006"), "power=6");
    // 0.0: it is another device
    assert!(shop.read("(probe_1)=00000000").ends_with("power=-(bad:config)"));
    assert_eq!(shop.read("power=0007"), "");
    assert!(shop.read("(probe_1)=42480000").starts_with("(probe 1)=50"));
    assert_eq!(shop.read("power=0007"), "power=7");
    // one value that is silent by itself says nothing of the device
    shop.read("power!bad:comm_last_value_known");
    assert_eq!(shop.read("power=0008"), "power=8");
    // after an outage it is not known again
    shop.away();
    assert_eq!(shop.read("power=0008"), "power=8(uncertain:initial)");
    // and what was read before the next outage is not good after it
    shop.away();
    shop.read("power!bad:comm_last_value_known");
    assert!(!shop.read("(probe_1)=42480000").contains("power"), "it was not read");
    assert_eq!(shop.read("power=0008"), "power=8");
    shop.away();
    shop.read("power=0009");
    shop.pass(1000.0);
    assert!(!shop.read("(probe_1)=42480000").contains("power"), "it is stale");
    assert_eq!(shop.read("power=0009"), "power=9");
    shop.away();
    shop.read("power=0009");
    assert_eq!(shop.read("(probe_1)!bad:config"), "(probe 1)=-(bad:config) power=-(bad:config)");
}

/// A sensor of which some are sold that report a hundred parts of a degree.
const TWO_SENSORS: &str = "type = \"sensor\"
    [type.sensor]
    variants = [\"fine\"]
    probe = { at = \"ir:1\", type = \"i16\", scale = 0.1, between = [-40, 85] }
    tags = [
      { name = \"temperature\", at = \"ir:1\", type = \"i16\", scale = 0.1, unit = \"Cel\", range = [-40, 85] },
      { name = \"pulses\", at = \"ir:3\", type = \"u32\", kind = \"counter\" },
      { name = \"model\", at = \"hr:9\" },
    ]
    [type.fine]
    like = \"sensor\"
    probe = { at = \"hr:5\", equals = 100 }
    tags = [
      { name = \"temperature\", at = \"ir:1\", type = \"i16\", scale = 0.01, unit = \"Cel\" },
      { name = \"pulses\", at = \"ir:3\", type = \"u32\", kind = \"counter\", order = \"CDAB\" },
    ]";

#[test]
fn a_device_is_read_as_the_variant_that_its_probes_show() {
    let mut shop = Shop::new(TWO_SENSORS);
    // what is read in two ways has no value before it is known in which; what is read in one has
    assert_eq!(shop.read("(sensor)_temperature=0131"), "");
    assert_eq!(shop.read("(fine)_temperature=0131"), "");
    assert_eq!(shop.read("model=0007"), "model=7(uncertain:initial)");
    assert_eq!(shop.read("(probe_1)=0131"), "(probe 1)=30.5 model=7 temperature=30.5");
    // from then on only that one counts
    assert_eq!(shop.read("(fine)_temperature=0BEA"), "");
    assert_eq!(shop.read("(sensor)_temperature=FF33"), "temperature=-20.5");
    // another sensor
    let shown = shop.read("(probe_1)=0BEA");
    assert!(!shown.contains("temperature"), "the second probe has not been read: {shown}");
    assert_eq!(shop.read("(sensor)_temperature=0BEA"), "");
    let shown = shop.read("(probe_2)=0064");
    assert_eq!(
        shown, "(probe 2)=100 temperature=-(bad:no_communication)",
        "what was read of the first is none of it"
    );
    assert_eq!(shop.read("(fine)_temperature=0BEA"), "temperature=30.5");
    assert_eq!(shop.read("(sensor)_temperature=0131"), "");
    // none of them
    let shown = shop.read("(probe_2)=0065");
    assert!(shown.contains("temperature=-(bad:config)") && shown.contains("model=-(bad:config)"), "{shown}");
    assert_eq!(shop.read("(fine)_temperature=0BEA") + &shop.read("model=0007"), "");
    assert!(shop.read("(probe_2)!bad:config").ends_with("(bad:config)"), "it is still none");
    assert!(!shop.read("(probe_1)=0131").contains("temperature=3"), "nor what was read of none");
    assert_eq!(shop.read("(sensor)_temperature=0131"), "temperature=30.5");
}

#[test]
fn an_answer_that_was_garbled_makes_no_other_device_and_probes_of_one_scan_are_judged_together() {
    let mut shop = Shop::new(TWO_SENSORS);
    shop.read("(probe_1)=0131 (probe_2)=0064");
    shop.read("(fine)_temperature=0131");
    assert!(shop.read("(sensor)_temperature=0131").ends_with("temperature=30.5"));
    shop.read("(probe_1)!bad:decode (probe_2)!bad:decode (sensor)_temperature!bad:decode");
    assert_eq!(shop.read("(sensor)_temperature=0132"), "temperature=30.6");
    // neither of them any more, at once: not the second in between
    let shown = shop.read("(sensor)_temperature=0133 (probe_1)=7FFF (probe_2)=0065");
    assert!(shown.contains("temperature=-(bad:config)"), "{shown}");
    assert!(!shown.contains("temperature=3"), "{shown}");
}

#[test]
fn what_was_read_before_an_outage_is_not_shown_after_it_whatever_the_variant() {
    let mut shop = Shop::new(TWO_SENSORS);
    shop.read("(sensor)_temperature=0131");
    shop.read("(probe_1)=0131");
    shop.away();
    assert!(shop.read("(sensor)_temperature!bad:not_connected").contains("temperature=-(bad:not_connected)"));
    shop.away();
    assert!(!shop.read("(probe_1)=0131").contains("temperature"));
    assert_eq!(shop.read("(sensor)_temperature=0132"), "temperature=30.6");
    // a register that only the other variant has is no fault of this one
    assert_eq!(shop.read("(fine)_temperature!bad:config"), "");
}

#[test]
fn a_counter_that_is_read_in_another_way_does_not_count_the_step_between_them() {
    let mut shop = Shop::new(TWO_SENSORS);
    shop.read("(probe_1)=0131");
    shop.read("(sensor)_pulses=00000005");
    assert_eq!(shop.read("(sensor)_pulses=00000007"), "pulses=7 total/pulses=2");
    let saved = shop.normalizer.saved(shop.now());
    shop.read("(fine)_pulses=00070000");
    shop.read("(probe_1)=7FFF");
    shop.read("(probe_2)=0064");
    assert_eq!(shop.read("(fine)_pulses=00090000"), "pulses=9 total/pulses=2");
    assert_eq!(shop.read("(fine)_pulses=000B0000"), "pulses=11 total/pulses=4");
    // over a restart as well: as the same variant it goes on, as another one it begins anew
    let mut same = shop.again(&saved, 10.0);
    same.read("(probe_1)=0131");
    assert_eq!(same.read("(sensor)_pulses=00000009"), "pulses=9 total/pulses=4");
    let mut other = same.again(&saved, 10.0);
    other.read("(probe_1)=7FFF");
    other.read("(probe_2)=0064");
    assert_eq!(other.read("(fine)_pulses=00090000"), "pulses=9 total/pulses=2");
}

#[test]
fn what_would_go_round_for_ever_is_left_for_the_next_time() {
    let checked = config::parse(
        "shop.toml",
        "[gateway]\nname = 'n'\nenterprise = 'e'\n[uplink.u]\nbroker = 'mqtt://127.0.0.1:1'\n[link.l]\ntcp = '127.0.0.1:1'\n\
         [device.d]\nlink = 'l'\ntags = [{ name = 't', at = 'hr:0' }]\n[device.d.derived]\ntwice = { expr = 't * 2' }\n\
         [device.d.alarm]\nfirst = { when = 't', above = 0 }\nodd = { when = 't > 3', severity = 'critical' }",
    );
    let mut site = checked.site.unwrap();
    for step in &mut site.steps {
        // no configuration gives this: an alarm that holds while an odd number of events was told of it
        if let Step::Alarm(alarm) = step
            && *alarm.name == *"odd"
        {
            let known = crate::expression::Known { tag: alarm.events, kind: crate::expression::Kind::Word };
            let scope = crate::expression::Scope::Live;
            let text = "count(told) % 2 == 1";
            alarm.when = crate::expression::Expression::compile(text, scope, &mut |_| Ok(known)).unwrap();
            alarm.inputs = vec![alarm.events];
        }
    }
    let mut shop = Shop {
        normalizer: Normalizer::new(Arc::new(site.clone())),
        site: Arc::new(site),
        start: crate::clock::monotonic(),
        elapsed_ms: 0,
        wall_ms: MIDNIGHT_MS,
        has_clock: true,
        first: String::new(),
    };
    shop.normalizer.start(shop.now());
    let events = |shown: &str| shown.matches("event/alarm=").count();
    let mut told = 0;
    for value in 1..5 {
        let shown = shop.read(&format!("t={value:04X}"));
        assert!(shown.contains(&format!("twice={}", value * 2)), "{shown}");
        assert!(events(&shown) <= 3, "one of each step: {shown}");
        told += events(&shown);
    }
    assert!(told > 4, "it goes on each time: {told}");
}
