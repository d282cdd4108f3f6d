use super::*;
use crate::clock;
use crate::command::plan::Check;
use crate::config;
use crate::tag::{DeviceId, TagId};

mod alarm;

const NOW: u64 = 1_764_000_000_000;

const CONFIGURATION: &str = r#"
[gateway]
name = "n"
enterprise = "e"
[uplink.cloud]
broker = "mqtt://127.0.0.1:1883"
[uplink.other]
broker = "mqtt://127.0.0.1:1884"
[commands]
enabled = true
uplinks = ["cloud"]
[link.l]
tcp = "127.0.0.1:502"
[device.oven]
link = "l"
probe = { at = "ir:70", type = "f32", between = [45, 65] }
tags = [
  { name = "sp", at = "hr:101", type = "i16", scale = 0.1, write = { min = 20, max = 350, step = 5, every = "2s" } },
  { name = "ro", at = "hr:102" },
  { name = "u32", at = "hr:104", type = "u32", order = "CDAB", write = { every = "0s" } },
  { name = "f32", at = "hr:106", type = "f32", write = { max = 0.3, every = "0s" } },
  { name = "coil", at = "coil:5", write = { every = "0s" } },
  { name = "on", at = "coil:6", write = { allow = [true], every = "0s" } },
  { name = "bit", at = "hr:110.3", write = { function = 22, every = "0s" } },
  { name = "few", at = "hr:111", write = { allow = [1, 5], every = "0s" } },
  { name = "locked", at = "hr:112", write = { max_change = 20, interlock = "mode == 'auto'", every = "0s" } },
  { name = "mode", at = "hr:120", type = "string", length = 2 },
  { name = "armed", at = "hr:113", write = { arm = "30s", every = "0s" } },
  { name = "blind", at = "hr:114", every = "never", write = { every = "0s" } },
  { name = "shown", at = "hr:115", write = { readback = "ro", function = 16, every = "0s" } },
  { name = "state", at = "hr:130", values = { 5 = "run", 6 = "stop", 7 = "hold", 8 = "hold", 9 = "?", else = "?" }, write = { every = "0s" } },
  { name = "stopper", at = "hr:131", values = { 5 = "run", 0xFFFE = "stop" }, write = { allow = ["stop"], readback = "lamp", every = "0s" } },
  { name = "lamp", at = "hr:132", values = { 1 = "stop", 2 = "run" } },
  { name = "valve", at = "coil:7", values = { 0 = "shut", 1 = "open" }, write = { every = "0s" } },
  { name = "level", at = "hr:133", type = "f32", values = { "1.5" = "low" }, write = { every = "0s" } },
]
[device.off]
link = "l"
unit = 2
enabled = false
tags = [{ name = "sp", at = "hr:0", write = {} }]
"#;

struct Case {
    rules: Rules,
    start: Instant,
    /// Since the start, and since `NOW`.
    elapsed_ms: u64,
    next_id: u64,
}

impl Case {
    fn new() -> Case {
        Case::of(CONFIGURATION)
    }

    fn of(text: &str) -> Case {
        let site = Arc::new(config::parse("test.toml", text).site.unwrap());
        Case { rules: Rules::new(site), start: clock::monotonic(), elapsed_ms: 0, next_id: 0 }
    }

    fn request(&mut self, tag: &str, value: Value) -> WriteRequest {
        self.next_id += 1;
        let at = Timestamp::from_millis(NOW + self.elapsed_ms);
        let tag_id = self.rules.site.tags.iter().find(|known| *known.name == *tag).map(|tag| tag.id);
        WriteRequest {
            id: self.next_id.to_string(),
            device: "oven".to_owned(),
            tag: tag.to_owned(),
            tag_id,
            value: Some(value),
            by: Requester::Uplink("cloud".into()),
            sent_at: Some(at),
            received_at: at,
            session_since: Timestamp::from_millis(NOW - 3_600_000),
            is_retained: false,
        }
    }

    /// What is written for it.
    fn admit(&mut self, request: &WriteRequest) -> Result<Plan, String> {
        self.admitted(request).map(plan_of)
    }

    fn admitted(&mut self, request: &WriteRequest) -> Result<Admitted, String> {
        let now = Now {
            at: self.start + Duration::from_millis(self.elapsed_ms),
            received: self.start + Duration::from_millis(self.elapsed_ms),
            wall: Timestamp::from_millis(NOW + self.elapsed_ms),
            is_clock_trusted: true,
        };
        self.rules.admit(request, |_| false, now)
    }

    #[track_caller]
    fn check(&mut self, request: &WriteRequest, expected: &str) {
        let shown = match self.admitted(request) {
            Ok(Admitted::Write(plan)) => format!("{:?}", plan.job),
            Ok(Admitted::Alarm(order)) => format!("{} {:?}", order.alarm, order.act),
            Err(reason) => reason,
        };
        assert!(shown.contains(expected), "wanted \"{expected}\", got \"{shown}\"");
    }

    #[track_caller]
    fn check_value(&mut self, tag: &str, value: Value, expected: &str) {
        let request = self.request(tag, value);
        self.elapsed_ms += 2000;
        let request =
            WriteRequest { sent_at: Some(Timestamp::from_millis(NOW + self.elapsed_ms)), ..request };
        self.check(&request, expected);
    }
}

fn plan_of(admitted: Admitted) -> Plan {
    match admitted {
        Admitted::Write(plan) => plan,
        Admitted::Alarm(order) => panic!("{order:?}"),
    }
}

fn double(number: f64) -> Value {
    Value::Double(number)
}

#[test]
fn what_is_allowed_becomes_one_write_of_exactly_its_registers() {
    let mut case = Case::new();
    case.check_value(
        "sp",
        double(25.0),
        "Write { area: HoldingRegisters, address: 101, data: Words([250]), functions: None }",
    );
    case.check_value("u32", Value::UInt(0x0102_0304), "Words([772, 258])");
    case.check_value("coil", Value::Bool(true), "Write { area: Coils, address: 5, data: Bits([true])");
    case.check_value("bit", Value::Bool(true), "Mask { address: 110, and: 65527, or: 8 }");
    case.check_value("bit", Value::Bool(false), "Mask { address: 110, and: 65527, or: 0 }");
    case.check_value("shown", Value::UInt(1), "functions: Some(Multiple)");
}

#[test]
fn each_rule_about_the_value_has_its_boundaries() {
    let mut case = Case::new();
    case.check_value("sp", double(20.0), "Words([200])");
    case.check_value("sp", double(350.0), "Words([3500])");
    case.check_value("sp", double(15.0), "out of range: 15 is below write.min, 20");
    case.check_value("sp", double(355.0), "out of range: 355 is above write.max, 350");
    case.check_value("sp", double(27.0), "off the grid: write.step is 5, the nearest value is 25");
    case.check_value("sp", double(25.1), "off the grid");
    case.check_value("sp", double(25.05), "cannot hold 25.05: the nearest is 25.1");
    case.check_value("sp", double(-4000.0), "does not fit the registers");
    case.check_value("sp", double(f64::NAN), "not a finite number");
    case.check_value("sp", Value::Bool(true), "wrong type");
    case.check_value("sp", Value::Text("25".into()), "wrong type");
    case.check_value("u32", double(1.5), "the nearest is 2");
    case.check_value("u32", Value::Int(-1), "does not fit");
    case.check_value("f32", Value::Float(0.3), "Words");
    case.check_value("f32", double(0.3), "Words");
    case.check_value("f32", Value::Float(0.300_01), "above write.max");
    case.check_value("coil", Value::Int(1), "wrong type: the tag takes true or false");
    case.check_value("on", Value::Bool(true), "Bits([true])");
    case.check_value("on", Value::Bool(false), "not allowed: write.allow has true");
    case.check_value("few", Value::UInt(5), "Words([5])");
    case.check_value("few", Value::UInt(2), "not allowed: write.allow has 1, 5");
    let none = case.request("sp", double(25.0));
    case.check(&WriteRequest { value: None, ..none }, "no value");
}

#[test]
fn a_word_is_written_as_the_one_code_that_means_it() {
    let word = |word: &str| Value::Text(word.into());
    let mut case = Case::new();
    case.check_value("state", word("run"), "address: 130, data: Words([5])");
    case.check_value("state", word("stop"), "Words([6])");
    case.check_value("state", word("hold"), "several values have the word 'hold'");
    case.check_value("state", word("?"), "several values have the word '?'");
    case.check_value("state", word("Run"), "no value has the word 'Run'");
    case.check_value("state", word("5"), "no value has the word '5'");
    case.check_value("state", Value::UInt(5), "wrong type: the tag takes a word, got a whole number");
    case.check_value("stopper", word("stop"), "Words([65534])");
    case.check_value("stopper", word("run"), "run is not allowed: write.allow has 'stop'");
    case.check_value("valve", word("open"), "Write { area: Coils, address: 7, data: Bits([true])");
    case.check_value("valve", Value::Bool(true), "wrong type: the tag takes a word, got true or false");
    case.check_value("level", word("low"), "Words([16320, 0])");
}

#[test]
fn a_word_is_read_back_as_a_word() {
    let mut case = Case::new();
    let mut readback = |tag: &str, word: &str| {
        let request = case.request(tag, Value::Text(word.into()));
        case.admit(&request).unwrap().readback.unwrap()
    };
    let own = readback("state", "stop");
    assert_eq!(own.judge(&Data::Words(vec![6])), Ok(()));
    assert_eq!(own.judge(&Data::Words(vec![5])), Err("run".to_owned()));
    let lamp = readback("stopper", "stop");
    assert_eq!(lamp.registers.layout.span.address, 132);
    assert_eq!(lamp.judge(&Data::Words(vec![1])), Ok(()));
    assert_eq!(lamp.judge(&Data::Words(vec![2])), Err("run".to_owned()));
    assert_eq!(lamp.judge(&Data::Words(vec![6])), Err("6".to_owned()));
}

#[test]
fn what_may_not_be_written_at_all_is_said_to_be_so() {
    let mut case = Case::new();
    case.check_value("ro", Value::UInt(1), "tag `ro` is read-only");
    case.check_value("nothing", Value::UInt(1), "device `oven` has no tag `nothing`");
    let request = case.request("sp", double(25.0));
    case.check(&WriteRequest { device: "stove".to_owned(), ..request.clone() }, "there is no device `stove`");
    let other = WriteRequest { id: "o".to_owned(), device: "off".to_owned(), ..request };
    case.check(&other, "device `off` has no tag `sp`");
    let of_off = case.rules.site.tags.last().unwrap().id;
    case.check(
        &WriteRequest { id: "p".to_owned(), tag_id: Some(of_off), ..other },
        "switched off (enabled = false)",
    );
}

#[test]
fn whoever_may_not_command_is_told_so() {
    let mut case = Case::of(&CONFIGURATION.replace("enabled = true", "enabled = false"));
    case.check_value("sp", double(25.0), "commands are switched off");
    let mut case = Case::new();
    let request = case.request("sp", double(25.0));
    case.check(
        &WriteRequest { by: Requester::Uplink("other".into()), ..request.clone() },
        "uplink `other` may not command",
    );
    case.check(&WriteRequest { is_retained: true, ..request.clone() }, "retained");
    case.check(&WriteRequest { by: Requester::Local("root".to_owned()), sent_at: None, ..request }, "Words");
}

#[test]
fn a_command_is_neither_old_nor_of_the_future_nor_of_another_session() {
    let mut case = Case::new();
    let mut at = |offset_ms: i64, expected: &str| {
        let request = case.request("few", Value::UInt(1));
        let sent_at = Timestamp::from_millis(NOW.checked_add_signed(offset_ms).unwrap());
        case.check(&WriteRequest { sent_at: Some(sent_at), ..request }, expected);
    };
    at(-10_000, "Words");
    at(-10_001, "expired: sent 10 s ago");
    at(10_000, "Words");
    at(10_001, "ahead of the gateway's clock");
    let request = case.request("few", Value::UInt(1));
    case.check(&WriteRequest { sent_at: None, ..request.clone() }, "no timestamp");
    let since = Timestamp::from_millis(NOW + 1);
    case.check(&WriteRequest { session_since: since, ..request.clone() }, "before this session");
    let request = case.request("few", Value::UInt(1));
    case.check(&WriteRequest { session_since: Timestamp::from_millis(NOW), ..request }, "Words");
    let now = Now {
        at: case.start,
        received: case.start,
        wall: Timestamp::from_millis(NOW),
        is_clock_trusted: false,
    };
    let request = case.request("few", Value::UInt(1));
    let refused = case.rules.admit(&request, |_| false, now).unwrap_err();
    assert!(refused.contains("clock is not set"), "{refused}");
}

/// It is refused when it reaches the line later than it may.
#[test]
fn a_command_that_is_old_already_has_less_time_to_reach_the_wire() {
    let mut case = Case::new();
    let request = case.request("few", Value::UInt(1));
    let sent_at = Some(Timestamp::from_millis(NOW - 9000));
    let plan = case.admit(&WriteRequest { sent_at, ..request }).unwrap();
    assert_eq!(plan.send_by, case.start + Duration::from_secs(1));
}

#[test]
fn a_command_that_has_waited_here_has_less_time_to_reach_the_wire_and_at_last_none() {
    let mut case = Case::new();
    let request =
        WriteRequest { by: Requester::Local("root".to_owned()), ..case.request("few", Value::UInt(1)) };
    let mut after = |waited_ms: u64| {
        let at = case.start + Duration::from_millis(waited_ms);
        let now = Now { at, received: case.start, wall: Timestamp::from_millis(NOW), is_clock_trusted: true };
        case.rules.admit(&request, |_| false, now).map(|admitted| plan_of(admitted).send_by - case.start)
    };
    assert_eq!(after(0), Ok(Duration::from_secs(10)));
    assert_eq!(after(9999), Ok(Duration::from_secs(10)));
    assert_eq!(after(10_000), Err("expired: it has waited here for 10 s".to_owned()));
}

const TWO_LINES: &str = r#"
[gateway]
name = "n"
enterprise = "e"
[uplink.cloud]
broker = "mqtt://127.0.0.1:1883"
[commands]
enabled = true
[link.a]
tcp = "127.0.0.1:502"
[link.b]
tcp = "127.0.0.1:503"
[device.one]
link = "a"
timeout = "3s"
tags = [
  { name = "run1", at = "coil:0", write = { interlock = "not two:run2", every = "0s" } },
  { name = "set1", at = "hr:1", write = { readback = "got1", every = "0s" } },
  { name = "got1", at = "hr:3" },
  { name = "secret", at = "hr:2", share = "private", write = { every = "0s" } },
]
[device.two]
link = "b"
tags = [
  { name = "run2", at = "coil:0", write = { interlock = "not one:run1", every = "0s" } },
]
[device.hidden]
link = "b"
unit = 2
share = "private"
tags = [{ name = "run3", at = "coil:0", write = {} }]
"#;

#[test]
fn while_a_command_is_under_way_nothing_that_it_has_read_may_be_written_by_another() {
    let mut case = Case::of(TWO_LINES);
    let of = |device: &str, request: WriteRequest| WriteRequest { device: device.to_owned(), ..request };
    let one = of("one", case.request("run1", Value::Bool(true)));
    let both = [DeviceId(0), DeviceId(1)];
    assert_eq!(case.admit(&one).unwrap().devices().into_iter().collect::<Vec<_>>(), both);
    let now = Now {
        at: case.start,
        received: case.start,
        wall: Timestamp::from_millis(NOW),
        is_clock_trusted: true,
    };
    for (busy, tag, value) in [(0, "run2", Value::Bool(true)), (1, "run1", Value::Bool(true))] {
        let device = if tag == "run2" { "two" } else { "one" };
        let request = of(device, case.request(tag, value));
        let refused = case.rules.admit(&request, |device| device == DeviceId(busy), now).unwrap_err();
        assert!(refused.contains("busy"), "{tag}: {refused}");
    }
}

#[test]
fn what_was_read_right_before_counts_for_two_seconds_or_two_timeouts_of_a_slow_device() {
    let mut case = Case::of(TWO_LINES);
    let mut valid = |device: &str, tag: &str, value: Value| {
        let request = WriteRequest { device: device.to_owned(), ..case.request(tag, value) };
        let plan = case.admit(&request).unwrap();
        plan.valid_until(&case.rules.site, case.start) - case.start
    };
    assert_eq!(valid("one", "run1", Value::Bool(true)), Duration::from_secs(2));
    assert_eq!(valid("two", "run2", Value::Bool(true)), Duration::from_secs(6)); // `one` is slow
    assert_eq!(valid("one", "set1", Value::UInt(1)), Duration::from_secs(10)); // nothing is read
}

#[test]
fn a_tag_that_an_uplink_may_not_have_is_not_there_for_its_hosts() {
    let mut case = Case::of(TWO_LINES);
    let secret = WriteRequest { device: "one".to_owned(), ..case.request("secret", Value::UInt(1)) };
    case.check(&secret, "device `one` has no tag `secret`");
    let hidden = WriteRequest { device: "hidden".to_owned(), ..case.request("run3", Value::Bool(true)) };
    case.check(&hidden, "there is no device `hidden`");
    let local = |request: WriteRequest| WriteRequest { by: Requester::Local("root".to_owned()), ..request };
    case.check(&local(secret), "Words([1])");
    case.check(&local(hidden), "Bits([true])");
}

#[test]
fn a_command_that_comes_again_is_refused_for_as_long_as_it_could_be_taken_for_new() {
    let mut case = Case::new();
    let request = case.request("few", Value::UInt(1));
    let ahead = WriteRequest { sent_at: Some(Timestamp::from_millis(NOW + 10_000)), ..request };
    case.check(&ahead, "Words");
    case.check(&ahead, "replayed");
    case.elapsed_ms = 20_000;
    case.check(&ahead, "replayed");
    case.elapsed_ms = 20_001;
    case.check(&ahead, "expired");
    // of what could never be written no id is kept, nor of what comes from the machine itself
    let request = case.request("few", Value::UInt(2));
    case.check(&request, "not allowed");
    case.check(&request, "not allowed");
    let local =
        WriteRequest { by: Requester::Local("root".to_owned()), ..case.request("few", Value::UInt(1)) };
    for _ in 0..2 {
        case.check(&local, "Words");
    }
    let request = case.request("few", Value::UInt(1));
    case.check(&WriteRequest { id: "x".repeat(ID_MAX + 1), ..request.clone() }, "the id is longer");
    case.check(&WriteRequest { id: "x".repeat(ID_MAX), ..request }, "Words");
}

#[test]
fn a_tag_is_not_written_oftener_than_it_may_be() {
    let mut case = Case::new();
    let first = case.request("sp", double(25.0));
    case.check(&first, "Words");
    // it was not sent: nothing was written yet
    let second = case.request("sp", double(25.0));
    case.check(&second, "Words");
    case.rules.history.note_write(TagId(0), case.start + Duration::from_secs(1));
    case.elapsed_ms = 2999;
    let third = case.request("sp", double(30.0));
    case.check(&third, "too fast: wait 1 ms (write.every is 2 s)");
    case.elapsed_ms = 3000;
    let fourth = case.request("sp", double(30.0));
    case.check(&fourth, "Words");
}

#[test]
fn while_another_command_has_the_line_it_is_refused_and_arms_nothing() {
    let mut case = Case::new();
    let now = Now {
        at: case.start,
        received: case.start,
        wall: Timestamp::from_millis(NOW),
        is_clock_trusted: true,
    };
    let request = case.request("armed", Value::UInt(1));
    let refused = case.rules.admit(&request, |_| true, now).unwrap_err();
    assert!(refused.contains("busy"), "{refused}");
    let request = case.request("armed", Value::UInt(1));
    case.check(&request, "armed: send it again within 30 s");
}

#[test]
fn an_armed_tag_wants_the_same_command_twice_by_the_same_sender() {
    let mut case = Case::new();
    let mut send = |elapsed_ms: u64, value: u64, by: &str, expected: &str| {
        case.elapsed_ms = elapsed_ms;
        let by = if by == "cloud" { Requester::Uplink(by.into()) } else { Requester::Local(by.to_owned()) };
        let request = WriteRequest { by, ..case.request("armed", Value::UInt(value)) };
        case.check(&request, expected);
    };
    send(0, 1, "cloud", "armed: send it again");
    send(29_999, 1, "cloud", "Words([1])");
    send(30_000, 1, "cloud", "armed");
    send(60_000, 1, "cloud", "armed"); // too late
    send(60_001, 2, "cloud", "armed"); // another value
    send(60_002, 2, "root", "armed"); // another sender
    send(60_003, 2, "root", "Words([2])");
    send(60_004, 2, "root", "armed");
}

/// What one check says to these registers.
#[track_caller]
fn judged(case: &Case, check: &Check, words: &[u16], expected: &str) {
    all_judged(case, check, &[words], expected);
}

/// What one check that reads several things says to these registers.
#[track_caller]
fn all_judged(case: &Case, check: &Check, answers: &[&[u16]], expected: &str) {
    let answers: Vec<Data> = answers.iter().map(|words| Data::Words(words.to_vec())).collect();
    let judged = check.judge(&case.rules.site, &answers);
    let shown = judged.err().unwrap_or_else(|| "holds".to_owned());
    assert!(shown.contains(expected), "{shown}");
}

#[test]
fn what_is_read_right_before_must_be_as_the_rules_want_it() {
    let mut case = Case::new();
    let request = case.request("locked", Value::UInt(120));
    let plan = case.admit(&request).unwrap();
    let [variant] = plan.variants.as_slice() else { panic!("{:?}", plan.variants) };
    let [probe] = variant.as_slice() else { panic!("{variant:?}") };
    let [interlock, change] = plan.checks.as_slice() else { panic!("{:?}", plan.checks) };
    assert!(plan.checks.iter().flat_map(|check| &check.reads).all(|(device, _)| *device == DeviceId(0)));
    let words = |value: f32| {
        let bits = value.to_bits();
        [u16::try_from(bits >> 16).unwrap(), u16::try_from(bits & 0xFFFF).unwrap()]
    };
    judged(&case, probe, &words(45.0), "holds");
    judged(&case, probe, &words(65.0), "holds");
    judged(&case, probe, &words(44.9), "the probe does not hold: ir:70+2 is 44.9: is it the right device?");
    judged(&case, probe, &words(f32::NAN), "the probe at ir:70+2 is bad:sensor_failure");
    judged(&case, probe, &[1], "bad:decode");
    judged(&case, interlock, &[0x6175, 0x746F], "holds");
    judged(&case, interlock, &[0x6D61, 0x6E00], "interlock: mode == 'auto' does not hold: `mode` is man");
    judged(&case, interlock, &[0xFFFF, 0xFFFF], "interlock: `mode` is bad:decode");
    judged(&case, change, &[140], "holds");
    judged(&case, change, &[100], "holds");
    judged(&case, change, &[141], "max_change: from 141 to 120 is more than 20");
    judged(&case, change, &[99], "max_change");
    // what a reason tells of other tags is not for everybody
    let mode = case.rules.site.tags.iter().find(|tag| &*tag.name == "mode").unwrap().id;
    assert_eq!([probe.about(), interlock.about(), change.about()], [vec![], vec![mode], vec![]]);
}

#[test]
fn what_is_read_after_must_be_what_was_written() {
    let mut case = Case::new();
    let mut readback = |tag: &str, value: Value| {
        let request = case.request(tag, value);
        case.admit(&request).unwrap().readback
    };
    assert!(readback("blind", Value::UInt(1)).is_none());
    let own = readback("sp", double(25.0)).unwrap();
    assert_eq!(own.judge(&Data::Words(vec![250])), Ok(()));
    assert_eq!(own.judge(&Data::Words(vec![251])), Err("25.1".to_owned()));
    assert_eq!(own.judge(&Data::Words(vec![250, 0])), Err("25".to_owned()));
    let bit = readback("bit", Value::Bool(true)).unwrap();
    assert_eq!(bit.judge(&Data::Words(vec![0xFF08])), Ok(()));
    assert_eq!(bit.judge(&Data::Words(vec![0xFFF7])), Err("false".to_owned()));
    let shown = readback("shown", Value::UInt(7)).unwrap();
    assert_eq!(shown.tag, TagId(1));
    assert_eq!((shown.registers.layout.span.address, shown.judge(&Data::Words(vec![7]))), (102, Ok(())));
    assert_eq!(shown.judge(&Data::Words(vec![8])), Err("8".to_owned()));
    let coil = readback("coil", Value::Bool(true)).unwrap();
    assert_eq!(coil.judge(&Data::Bits(vec![true])), Ok(()));
    assert_eq!(coil.judge(&Data::Bits(vec![false])), Err("false".to_owned()));
}

const INTERLOCKS: &str = r#"
[gateway]
name = "n"
enterprise = "e"
[uplink.cloud]
broker = "mqtt://127.0.0.1:1883"
[commands]
enabled = true
[link.l]
tcp = "127.0.0.1:502"
[device.oven]
link = "l"
tags = [
  { name = "mode", at = "hr:1", values = { 1 = "auto", 2 = "semi_auto", 3 = "manual" } },
  { name = "level", at = "hr:2", type = "i16", scale = 0.1, range = [0, 100], bad_values = { 0x7FFF = "bad:over_range", 0x7FFE = "uncertain:not_accurate" } },
  { name = "sf", at = "hr:3", type = "i16" },
  { name = "press", at = "hr:4", scale_from = "sf", quality_from = "moving" },
  { name = "moving", at = "hr:5.0", quality = { true = "uncertain:not_accurate" } },
  { name = "temp", at = "hr:6", type = "f32" },
  { name = "limit", value = 50 },
  { name = "serial", at = "hr:8", type = "u64" },
  { name = "odd", at = "hr:12", expr = "if(bit(raw, 15), 32768 - raw, raw)" },
  { name = "run", at = "hr:13.3" },
  { name = "a", at = "hr:20", write = { interlock = "mode == 'auto' or mode == 'semi_auto'" } },
  { name = "b", at = "hr:21", write = { interlock = "level < limit and press > 2" } },
  { name = "c", at = "hr:22", write = { interlock = "temp == 0.3" } },
  { name = "d", at = "hr:23", write = { interlock = "serial != 0" } },
  { name = "e", at = "hr:24", write = { interlock = "1 / odd < 0 or true" } },
]
"#;

/// The interlock of `tag`, and the case.
fn interlock_of(tag: &str) -> (Case, Check) {
    let mut case = Case::of(INTERLOCKS);
    let request = case.request(tag, Value::UInt(1));
    let mut checks = case.admit(&request).unwrap().checks;
    assert_eq!(checks.len(), 1);
    (case, checks.remove(0))
}

#[test]
fn an_interlock_sees_each_tag_as_it_is_published() {
    let (case, mode) = interlock_of("a");
    judged(&case, &mode, &[1], "holds");
    judged(&case, &mode, &[2], "holds");
    let text = "interlock: mode == 'auto' or mode == 'semi_auto' does not hold: ";
    judged(&case, &mode, &[3], &format!("{text}`mode` is manual"));
    judged(&case, &mode, &[9], &format!("{text}`mode` is 9"));
    let (case, temp) = interlock_of("c");
    judged(&case, &temp, &[0x3E99, 0x999A], "holds"); // the float next to 0.3
    judged(&case, &temp, &[0x3E99, 0x999B], "temp == 0.3 does not hold: `temp` is 0.30000004");
    let (case, odd) = interlock_of("e");
    judged(&case, &odd, &[0x8005], "holds");
    judged(&case, &odd, &[0], "interlock: 1 / odd < 0 or true cannot be told: bad:sensor_failure");
}

#[test]
fn what_an_interlock_needs_is_read_too_and_whatever_is_not_good_forbids_the_write() {
    let (case, check) = interlock_of("b");
    let spans: Vec<String> = check.reads.iter().map(|(_, span)| span.to_string()).collect();
    assert_eq!(spans, ["hr:5", "hr:3", "hr:2", "hr:4"], "what others need comes first");
    // moving, power of ten, level × 10, pressure
    all_judged(&case, &check, &[&[0], &[0xFFFF], &[499], &[21]], "holds");
    all_judged(
        &case,
        &check,
        &[&[0], &[0xFFFF], &[500], &[21]],
        "`level` is 50, `limit` is 50, `press` is 2.1",
    );
    all_judged(&case, &check, &[&[0], &[0xFFFF], &[499], &[20]], "`press` is 2");
    all_judged(&case, &check, &[&[0], &[0xFFFF], &[0x7FFF], &[21]], "interlock: `level` is bad:over_range");
    all_judged(
        &case,
        &check,
        &[&[0], &[0xFFFF], &[0x7FFE], &[21]],
        "interlock: `level` is uncertain:not_accurate",
    );
    all_judged(
        &case,
        &check,
        &[&[0], &[0xFFFF], &[0xFFFF], &[21]],
        "interlock: `level` is uncertain:eu_exceeded",
    );
    all_judged(
        &case,
        &check,
        &[&[1], &[0xFFFF], &[499], &[21]],
        "interlock: `press` is uncertain:not_accurate",
    );
    all_judged(&case, &check, &[&[0], &[99], &[499], &[21]], "interlock: `press` is bad:decode");
    all_judged(&case, &check, &[&[0], &[0xFFFF], &[499]], "interlock: `press` is bad:no_communication");
    let (case, serial) = interlock_of("d");
    judged(&case, &serial, &[0, 0, 0, 7], "holds");
    judged(&case, &serial, &[0, 0, 0, 0], "serial != 0 does not hold: `serial` is 0");
    judged(&case, &serial, &[0x20, 0, 0, 0], "holds"); // 2^53
    judged(&case, &serial, &[0x20, 0, 0, 1], "`serial` is beyond 2^53");
}

/// The forms of an interlock before there was a language mean what they did.
#[test]
fn the_small_forms_of_an_interlock_keep_their_meaning() {
    let holds = |interlock: &str, words: &[u16]| {
        let text = INTERLOCKS.replace("mode == 'auto' or mode == 'semi_auto'", interlock);
        let mut case = Case::of(&text);
        let request = case.request("a", Value::UInt(1));
        let plan = case.admit(&request).unwrap();
        plan.checks[0].judge(&case.rules.site, &[Data::Words(words.to_vec())]).is_ok()
    };
    for (interlock, yes, no) in [
        ("run", &[8_u16][..], &[7_u16][..]),
        ("not run", &[7], &[8]),
        ("run == true", &[8], &[7]),
        ("run != false", &[8], &[7]),
        ("odd == 3", &[3], &[4]),
        ("odd != 3", &[4], &[3]),
        ("odd == -2", &[0x8002], &[2]),
        ("level == 2.5", &[25], &[26]),
        ("level == 0", &[0], &[1]),
        ("temp != 0.3", &[0x3E99, 0x999B], &[0x3E99, 0x999A]),
        ("mode == 'auto'", &[1], &[2]),
        ("oven:mode != 'auto'", &[2], &[1]),
        ("tag('mode') == 'auto'", &[1], &[2]),
        ("serial == 4000000000", &[0, 0, 0xEE6B, 0x2800], &[0, 0, 0xEE6B, 0x2801]),
    ] {
        assert!(holds(interlock, yes), "{interlock} with {yes:?}");
        assert!(!holds(interlock, no), "{interlock} with {no:?}");
    }
}
