//! What texts mean, which are refused and where, and time made up.

use std::collections::BTreeMap;
use std::fmt::Write;

use proptest::prelude::*;

use super::*;

const NAMES: [(&str, Kind); 9] = [
    ("a", Kind::Number),
    ("b", Kind::Number),
    ("n", Kind::Number),
    ("kw/15m", Kind::Number),
    ("imm1-meter:power/active", Kind::Number),
    ("on", Kind::Flag),
    ("off", Kind::Flag),
    ("mode", Kind::Word),
    ("größe 1", Kind::Number),
];

fn known(name: &str) -> Result<Known, String> {
    let at = NAMES.iter().position(|(known, _)| *known == name).ok_or_else(|| format!("no tag `{name}`"))?;
    Ok(Known { tag: TagId(u32::try_from(at).unwrap()), kind: NAMES[at].1 })
}

fn compiled(text: &str, scope: Scope) -> Result<Expression, Fault> {
    Expression::compile(text, scope, &mut known)
}

#[derive(Default)]
struct Floor {
    samples: BTreeMap<TagId, (Option<Value>, Quality, u64)>,
    raw: Option<Value>,
    words: Vec<u16>,
    rising: Option<f64>,
}

impl Floor {
    fn new() -> Floor {
        let mut floor = Floor { raw: Some(Value::UInt(10_005)), words: vec![7, 8], ..Floor::default() };
        floor.set("a", Value::Double(6.0));
        floor.set("b", Value::Int(4));
        floor.set("n", Value::Int(-2));
        floor.set("kw/15m", Value::Float(0.5));
        floor.set("imm1-meter:power/active", Value::Double(2.5));
        floor.set("on", Value::Bool(true));
        floor.set("off", Value::Bool(false));
        floor.set("mode", Value::Text("auto".into()));
        floor.set("größe 1", Value::UInt(9));
        floor
    }

    fn put(&mut self, name: &str, value: Option<Value>, quality: Quality) {
        let sample = self.samples.entry(known(name).unwrap().tag).or_insert((None, Quality::Good, 0));
        *sample = (value, quality, sample.2 + 1);
    }

    fn set(&mut self, name: &str, value: Value) {
        self.put(name, Some(value), Quality::Good);
    }
}

impl Inputs for Floor {
    fn sample(&self, tag: TagId) -> Sample<'_> {
        let (value, quality, serial) = &self.samples[&tag];
        Sample { value: value.as_ref(), quality: *quality, serial: *serial }
    }

    fn raw(&self) -> Option<&Value> {
        self.raw.as_ref()
    }

    fn word(&self, index: u16) -> Option<u16> {
        self.words.get(usize::from(index)).copied()
    }

    fn rising(&self, _: TagId) -> Option<f64> {
        self.rising
    }
}

fn shown(found: &Evaluated) -> String {
    match &found.value {
        Some(value) if found.quality.is_good() => value.to_string(),
        Some(value) => format!("{value} {}", found.quality.id()),
        None => found.quality.id().to_owned(),
    }
}

fn start() -> Instant {
    // A clock is needed once, as there is no other way to an `Instant`.
    #[expect(clippy::disallowed_methods, reason = "the origin of made-up time")]
    Instant::now()
}

fn once(expression: &Expression, floor: &Floor) -> String {
    shown(&expression.evaluate(floor, &mut Memory::new(expression), start()))
}

#[track_caller]
fn check(text: &str, wanted: &str) {
    let expression = compiled(text, Scope::Live).unwrap_or_else(|fault| panic!("{text}: {fault:?}"));
    assert_eq!(once(&expression, &Floor::new()), wanted, "{text}");
}

/// The text, what is meant under it, the message and the help.
fn told(text: &str, scope: Scope) -> String {
    let fault = compiled(text, scope).map(|_| ()).expect_err(text);
    let before = text.get(..fault.range.start).unwrap().chars().count();
    let meant = text.get(fault.range.clone()).unwrap().chars().count().max(1);
    let mut told = format!("{text}\n{}{}\n{}", " ".repeat(before), "^".repeat(meant), fault.message);
    if let Some(help) = fault.help {
        write!(told, "\n{help}").unwrap();
    }
    told
}

#[track_caller]
fn refused(text: &str, carets: &str, part: &str) {
    let told = told(text, Scope::Live);
    assert_eq!(told.lines().nth(1).unwrap(), carets, "{told}");
    assert!(told.contains(part), "{told}");
}

#[test]
fn every_operator_means_what_it_says() {
    check("a + b", "10");
    check("a - b", "2");
    check("a * b", "24");
    check("a / b", "1.5");
    check("a % b", "2");
    check("n % 3", "-2");
    check("-a", "-6");
    check("--a", "6");
    check("3-2", "1");
    check("a == 6", "true");
    check("a != 6", "false");
    check("a < b", "false");
    check("a <= 6", "true");
    check("a > b", "true");
    check("b >= a", "false");
    check("0.1 + 0.2 == 0.3", "true");
    check("9007199254740991 == 9007199254740992", "false");
    check("1e15 == 1000000000000001", "false");
    check("on and off", "false");
    check("on or off", "true");
    check("not on", "false");
    check("on == off", "false");
    check("on != off", "true");
    check("mode == 'auto'", "true");
    check("mode != 'auto' or 'x' == mode", "false");
    check("0x1F + 1.5e1", "46");
}

#[test]
fn functions_mean_what_they_say() {
    check("if(a > 3 and not off, a, b)", "6");
    check("if(off, 'x', mode)", "auto");
    check("if(on, off, on)", "false");
    check("min(a, b, n)", "-2");
    check("max(a, b, n)", "6");
    check("abs(n)", "2");
    check("round(2.5)", "3");
    check("round(1.2345, 2)", "1.23");
    check("round(1e300, 9)", &1e300f64.to_string());
    check("clamp(a, 0, 5)", "5");
    check("clamp(a, 9, 5)", "5");
    check("bit(a, 0)", "false");
    check("bit(a, 1)", "true");
    check("bit(n, 0)", "false");
    check("bit(n, 52)", "true");
    check("bit(0.5, 0)", "bad:sensor_failure");
}

#[test]
fn what_binds_tighter_is_done_first() {
    check("1 + 2 * 3", "7");
    check("(1 + 2) * 3", "9");
    check("10 - 2 - 3", "5");
    check("24 / 4 / 2", "3");
    check("2 * -3 + 1", "-5");
    check("1 + 2 > 2 and 2 < 1 + 2", "true");
    check("true or true and false", "true");
    check("not false and false", "false");
    check("not a > 7", "true");
    check("not (off or on)", "false");
    check("a > 3 and b > 9 or on", "true");
}

#[test]
fn a_name_may_hold_what_else_are_operators() {
    check("kw/15m", "0.5");
    check("imm1-meter:power/active > 2.0", "true");
    check("imm1-meter:power/active - a", "-3.5");
    check("tag('größe 1') / 3", "3");
    check("a -b", "2");
    check("a- b", "2");
    assert_eq!(compiled(" kw/15m ", Scope::Live).unwrap().is_tag(), Some(TagId(3)));
    assert_eq!(compiled("a + a + b", Scope::Live).unwrap().inputs(), [TagId(0), TagId(1)]);
    assert_eq!(compiled("a + 0", Scope::Live).unwrap().is_tag(), None);
}

#[test]
fn a_fault_has_its_place_and_a_way_out() {
    refused("a-b", "^^^", "did you mean `a - b`? operators need spaces");
    refused("1 + a/b", "    ^^^", "did you mean `a / b`?");
    refused("kw/15m-1", "^^^^^^^^", "did you mean `kw/15m - 1`?");
    refused("nope", "^^^^", "no tag `nope`");
    refused("a + on", "    ^^", "a number is wanted, this is a condition");
    refused("a and on", "^", "compare it: … != 0");
    refused("mode > 'x'", "^^^^^^^^^^", "compares numbers");
    refused("mode == 3", "^^^^^^^^^", "a word never compares with a number");
    refused("1 < 2 < 3", "      ^", "do not chain");
    refused("on and 1 < 2 < 3", "             ^", "do not chain");
    refused("a = 3", "  ^", "write `==`");
    refused("'größe' == !", "           ^", "write `not`");
    refused("mode == 'x", "        ^^", "no end");
    refused("if(on, 1, 'x')", "          ^^^", "a number is wanted");
    refused("if(on, 1)", "^^^^^^^^^", "write if(condition, then, else)");
    refused("min(1)", "^^^^^^", "two or more");
    refused("sin(1)", "^^^", "there is no function `sin`");
    refused("(1 + 2", "      ^", "must close");
    refused("1)", " ^", "no `(`");
    refused("", "^", "a value must come");
    refused("1 +", "   ^", "a value must come");
    refused("a b", "  ^", "an operator is missing");
    refused("and", "^^^", "keyword");
    refused("2x", "^^", "neither a number nor a duration");
    refused("1e999", "^^^^^", "too large");
    refused("5s", "^^", "a duration stands only");
    refused("on for 3", "       ^", "comes a duration");
    refused("a for 3s", "^", "a condition is wanted");
    refused("on for 8d", "       ^^", "7d at most");
    refused("avg(a, 8d)", "       ^^", "1s to 7d");
    refused("avg(a + 1, 1m)", "    ^^^^^", "about one tag");
    refused("bit(a, b)", "       ^", "0 to 52");
    refused("word(0)", "^^^^", "no function `word`");
    refused("x == not on", "^", "no tag");
    refused("on == not on", "      ^^^", "write `(not x)`");
}

#[test]
fn each_scope_has_what_fits_it() {
    let registers = Scope::Registers { words: 2, raw: Some(Kind::Number) };
    let text = "if(raw >= 10000, 10000 - raw, raw)";
    assert_eq!(once(&compiled(text, registers).unwrap(), &Floor::new()), "-5");
    assert_eq!(once(&compiled("word(1) * 65536 + word(0)", registers).unwrap(), &Floor::new()), "524295");
    assert!(told("word(2)", registers).contains("word(0) to word(1)"));
    assert!(told("raw", Scope::Registers { words: 2, raw: None }).contains("no raw value"));
    for text in ["on for 1s", "avg(a, 1m)", "rate(a, 1m)", "prev(a)", "count(on)"] {
        assert!(told(text, Scope::Once).contains("looks back"), "{text}");
        assert!(told(text, registers).contains("looks back"), "{text}");
        assert!(compiled(text, Scope::Live).unwrap().has_memory());
    }
}

#[test]
fn every_limit_is_kept() {
    let nested = |depth| format!("{}1{}", "(".repeat(depth), ")".repeat(depth));
    assert!(compiled(&nested(32), Scope::Live).is_ok());
    assert!(told(&nested(33), Scope::Live).contains("deeper than 32"));
    assert!(told(&"-".repeat(4000), Scope::Live).contains("deeper"));
    assert!(told(&"not ".repeat(1000), Scope::Live).contains("deeper"));
    assert!(told(&"1".repeat(4097), Scope::Live).contains("4096"));
    assert!(told(&["1"; 1000].join(" + "), Scope::Live).contains("more than 512"));
    let mut next = 0;
    let mut names = |_: &str| {
        next += 1;
        Ok(Known { tag: TagId(next), kind: Kind::Number })
    };
    assert!(Expression::compile(&["x"; 64].join(" + "), Scope::Live, &mut names).is_ok());
    assert!(Expression::compile(&["x"; 65].join(" + "), Scope::Live, &mut names).is_err());
}

#[test]
fn a_doubtful_input_makes_a_doubtful_result_in_whatever_branch() {
    use Quality::{BadCommLastValueKnown, BadNotConnected, Good, UncertainStuck};
    let case = |text, value, quality| {
        let mut floor = Floor::new();
        floor.put("b", value, quality);
        once(&compiled(text, Scope::Live).unwrap(), &floor)
    };
    let four = || Some(Value::Int(4));
    assert_eq!(case("a + b", four(), UncertainStuck), "10 uncertain:stuck");
    assert_eq!(case("a + b", four(), BadCommLastValueKnown), "bad:comm_last_value_known");
    assert_eq!(case("if(on, a, b)", None, BadNotConnected), "bad:not_connected");
    assert_eq!(case("on or b > 3", None, BadNotConnected), "bad:not_connected");
    assert_eq!(case("b", None, Good), "bad:no_communication");
    assert_eq!(case("b", None, UncertainStuck), "uncertain:stuck");
    assert_eq!(case("b > 3", Some(Value::Float(f32::NAN)), Good), "bad:sensor_failure");
    assert_eq!(case("b", Some(Value::Text("4".into())), Good), "bad:config");
    check("a / 0", "bad:sensor_failure");
    check("a / 0 > 3", "bad:sensor_failure");
    check("not (0 / 0 > 3)", "bad:sensor_failure");
    check("1e300 * 1e300 > 3", "bad:sensor_failure");
    check("if(off, a / 0, 1)", "1");
    check("n > 0 and a / 0 > 1", "false");
}

/// Steps such as `0 a=3; 500 a!; 1000`: at so many milliseconds a tag gets a value, or is bad (`!`), and what is found.
#[track_caller]
fn over_time(text: &str, steps: &[(u64, &str, &str)]) {
    let expression = compiled(text, Scope::Live).unwrap();
    let (mut memory, mut floor, start) = (Memory::new(&expression), Floor::new(), start());
    for (millis, what, wanted) in steps {
        if let Some(name) = what.strip_suffix('!') {
            floor.put(name, None, Quality::BadNotConnected);
        } else if let Some((name, value)) = what.split_once('=') {
            let value = match (value, value.parse::<f64>()) {
                (_, Ok(value)) => Value::Double(value),
                ("true" | "false", _) => Value::Bool(value == "true"),
                (text, Err(_)) => Value::Text(text.into()),
            };
            floor.set(name, value);
        }
        let now = start + Duration::from_millis(*millis);
        let found = expression.evaluate(&floor, &mut memory, now);
        assert_eq!(shown(&found), *wanted, "{text} at {millis}");
        assert!(found.due.is_none_or(|due| due > now), "{text} at {millis}: due at once");
        assert_eq!(
            shown(&expression.evaluate(&floor, &mut memory, now)),
            *wanted,
            "{text} again at {millis}"
        );
    }
}

#[test]
fn a_condition_must_hold_without_a_break() {
    over_time(
        "a > 5 for 5s",
        &[
            (0, "", "false"),
            (4999, "", "false"),
            (5000, "", "true"),
            (6000, "a=1", "false"),
            (7000, "a=9", "false"),
            (11_999, "", "false"),
            (12_000, "", "true"),
            (13_000, "a!", "bad:not_connected"),
            (13_001, "a=9", "false"),
            (18_001, "", "true"),
            (17_000, "", "false"),
        ][..10],
    );
    over_time(
        "on and a > 5 for 1s",
        &[(0, "", "false"), (1000, "", "true"), (1000, "on=false", "false"), (1001, "on=true", "true")],
    );
    over_time("on for 0s", &[(0, "", "true")]);
    let expression = compiled("on for 5s", Scope::Live).unwrap();
    let (mut memory, start) = (Memory::new(&expression), start());
    let due = |memory: &mut Memory, at| {
        expression.evaluate(&Floor::new(), memory, start + Duration::from_secs(at)).due
    };
    assert_eq!(due(&mut memory, 0), Some(start + Duration::from_secs(5)));
    assert_eq!(due(&mut memory, 5), None);
}

#[test]
fn the_mean_weighs_by_time_and_leaves_out_what_is_bad() {
    over_time(
        "avg(a, 60s)",
        &[
            (0, "a=10", "uncertain:initial"),
            (29_000, "", "uncertain:initial"),
            (30_000, "a=20", "10"),
            (60_000, "", "15"),
            (90_000, "", "20"),
            (90_000, "a!", "bad:not_connected"),
            (105_000, "a=20", "20"),
            (1_000_000, "", "20"),
            (1_000_000, "a!", "bad:not_connected"),
            (1_040_000, "a=5", "uncertain:initial"),
            (u64::from(u32::MAX), "", "5"),
        ],
    );
}

#[test]
fn the_rate_is_the_change_a_second() {
    over_time(
        "rate(a, 60s)",
        &[
            (0, "a=0", "uncertain:initial"),
            (10_000, "a=20", "uncertain:initial"),
            (40_000, "a=80", "2"),
            (60_000, "a=120", "2"),
            (200_000, "", "0"),
            (230_000, "a=60", "-1"),
        ],
    );
}

#[test]
fn a_window_comes_to_rest() {
    for text in ["avg(a, 60s)", "rate(a, 60s)"] {
        let expression = compiled(text, Scope::Live).unwrap();
        let (mut memory, mut now, floor) = (Memory::new(&expression), start(), Floor::new());
        let mut looks = 0;
        while let Some(due) = expression.evaluate(&floor, &mut memory, now).due {
            assert!(due > now && looks < 70, "{text}");
            (now, looks) = (due, looks + 1);
        }
        assert!(looks >= 60, "{text}");
    }
}

#[test]
fn the_rate_of_a_counter_is_that_of_its_total() {
    let expression = compiled("rate(a, 10s)", Scope::Live).unwrap();
    let (mut memory, mut floor, start) = (Memory::new(&expression), Floor::new(), start());
    for (at, value, total) in [(0u64, 65_530.0, 65_530.0), (10, 4.0, 65_540.0)] {
        floor.set("a", Value::Double(value));
        floor.rising = Some(total);
        let found = shown(&expression.evaluate(&floor, &mut memory, start + Duration::from_secs(at)));
        assert_eq!(found, if at == 0 { "uncertain:initial" } else { "1" });
    }
}

#[test]
fn the_sample_before_is_the_last_usable_one() {
    over_time(
        "prev(a)",
        &[
            (0, "a=1", "uncertain:initial"),
            (1, "a=2", "1"),
            (2, "", "1"),
            (3, "a=2", "2"),
            (4, "a!", "bad:not_connected"),
            (5, "a=7", "2"),
        ],
    );
    over_time(
        "mode != prev(mode)",
        &[(0, "", "uncertain:initial"), (1, "mode=x", "true"), (2, "mode=x", "false")],
    );
}

#[test]
fn counts_are_edges_or_events_and_are_kept() {
    over_time(
        "count(on)",
        &[
            (0, "", "0"),
            (1, "on=false", "0"),
            (2, "on=true", "1"),
            (3, "on!", "bad:not_connected"),
            (4, "on=true", "1"),
        ],
    );
    over_time(
        "count(a > 5)",
        &[(0, "a=1", "0"), (1, "a=9", "1"), (2, "a=9", "1"), (3, "a=1", "1"), (4, "a=6", "2")],
    );
    over_time("count(mode)", &[(0, "", "1"), (1, "mode=auto", "2"), (1, "", "2")]);
    let expression = compiled("count(on) + count(a)", Scope::Live).unwrap();
    let mut memory = Memory::new(&expression);
    memory.restore_counts(&[40, u64::MAX, 9]);
    assert_eq!(
        shown(&expression.evaluate(&Floor::new(), &mut memory, start())),
        (40.0 + u64::MAX as f64).to_string()
    );
    assert_eq!(memory.counts(), [40, u64::MAX]);
}

/// An expression as a test makes it up.
#[derive(Clone, Debug)]
enum Made {
    Leaf(String, f64),
    Negative(Box<Made>),
    Two(&'static str, Box<Made>, Box<Made>),
    If(&'static str, Box<[Made; 4]>),
}

fn made() -> impl Strategy<Value = Made> {
    let leaf = prop_oneof![
        (0u32..50).prop_map(|n| Made::Leaf(n.to_string(), n.into())),
        Just(Made::Leaf("a".into(), 6.0)),
        Just(Made::Leaf("kw/15m".into(), 0.5)),
    ];
    leaf.prop_recursive(5, 48, 4, |inner| {
        let one = || inner.clone().prop_map(Box::new);
        let sign = prop::sample::select(vec!["+", "-", "*", "/", "%"]);
        let order = prop::sample::select(vec!["<", "<=", ">", ">="]);
        prop_oneof![
            one().prop_map(Made::Negative),
            (sign, one(), one()).prop_map(|(sign, a, b)| Made::Two(sign, a, b)),
            (order, inner.clone(), inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(order, a, b, c, d)| Made::If(order, Box::new([a, b, c, d]))),
        ]
    })
}

impl Made {
    /// With no more parentheses than are needed: `tight` is how tight the place binds.
    fn text(&self, tight: u8) -> String {
        match self {
            Made::Leaf(text, _) => text.clone(),
            Made::Negative(of) => format!("-{}", of.text(3)),
            Made::Two(sign, a, b) => {
                let own = if matches!(*sign, "+" | "-") { 1 } else { 2 };
                let text = format!("{} {sign} {}", a.text(own), b.text(own + 1));
                if own < tight { format!("({text})") } else { text }
            }
            Made::If(order, parts) => {
                let [a, b, c, d] = parts.as_ref().each_ref().map(|part| part.text(0));
                format!("if({a} {order} {b}, {c}, {d})")
            }
        }
    }

    fn value(&self) -> Option<f64> {
        let value = match self {
            Made::Leaf(_, value) => *value,
            Made::Negative(of) => -of.value()?,
            Made::Two(sign, a, b) => match (*sign, a.value()?, b.value()?) {
                ("+", a, b) => a + b,
                ("-", a, b) => a - b,
                ("*", a, b) => a * b,
                ("/", a, b) => a / b,
                (_, a, b) => a % b,
            },
            Made::If(order, parts) => {
                let (a, b) = (parts[0].value()?, parts[1].value()?);
                let holds = match *order {
                    "<" => a < b,
                    "<=" => a <= b,
                    ">" => a > b,
                    _ => a >= b,
                };
                parts[if holds { 2 } else { 3 }].value()?
            }
        };
        value.is_finite().then_some(value)
    }
}

proptest! {
    #[test]
    fn what_is_printed_and_compiled_evaluates_as_the_naive_way(made in made()) {
        let expression = compiled(&made.text(0), Scope::Live).unwrap();
        let found = expression.evaluate(&Floor::new(), &mut Memory::new(&expression), start());
        let bits = |value: f64| value.to_bits();
        prop_assert_eq!(found.value.as_ref().and_then(Value::number).map(bits), made.value().map(bits));
        prop_assert_eq!(found.quality.is_good(), made.value().is_some());
    }

    #[test]
    fn no_text_breaks_anything(text in "\\PC{0,80}") {
        probe(&text)?;
    }

    #[test]
    fn no_soup_of_tokens_breaks_anything(tokens in prop::collection::vec(prop::sample::select(vec![
        "a", "on", "mode", "1", "0x1", "'x'", "(", ")", ",", "+", "-", "/", "==", "<", "and", "or", "not", "for", "5s",
        "if(", "min(", "avg(", "rate(", "prev(", "count(", "bit(", "round(", "tag(", "word(", "raw", "true", "é", "'",
    ]), 0..30)) {
        probe(&tokens.join(" "))?;
        probe(&tokens.concat())?;
    }

    #[test]
    fn a_mean_lies_between_the_least_and_the_greatest(steps in prop::collection::vec((0u64..90_000, -50i32..50), 1..60)) {
        let expression = compiled("avg(a, 1m)", Scope::Live).unwrap();
        let (mut memory, mut floor, mut now) = (Memory::new(&expression), Floor::new(), start());
        for (millis, value) in steps {
            now += Duration::from_millis(millis);
            floor.set("a", Value::Int(value.into()));
            let found = expression.evaluate(&floor, &mut memory, now);
            prop_assert!(found.due.is_none_or(|due| due > now));
            if let Some(mean) = found.value.as_ref().and_then(Value::number) {
                prop_assert!((-50.001..50.001).contains(&mean));
            }
        }
    }
}

fn probe(text: &str) -> Result<(), TestCaseError> {
    for scope in [Scope::Live, Scope::Once, Scope::Registers { words: 2, raw: Some(Kind::Word) }] {
        match compiled(text, scope) {
            Ok(expression) => {
                let found = expression.evaluate(&Floor::new(), &mut Memory::new(&expression), start());
                prop_assert!(found.value.is_some() || !found.quality.is_good());
            }
            Err(fault) => prop_assert!(text.get(fault.range).is_some()),
        }
    }
    Ok(())
}
