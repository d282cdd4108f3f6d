//! What devices refuse to be asked: holes, sizes, borders, parts of blocks, functions.

use std::time::Duration;

use tidegate::config;
use tidegate::driver::Answer;
use tidegate::poll::lane::OrderError;
use tidegate::reading::Quality;
use tidegate::sim::faults::{Fault, Faults, Refusal, When};
use tidegate::sim::serve::Seen;
use tokio::task::JoinSet;
use tokio_modbus::ExceptionCode;

use super::{Field, MS, WAYS, Way, assert_good, bad_of, device, on_each};
use crate::rig::{Rig, far_end, serve_tcp, tags};

fn always(refusal: Refusal) -> [Fault; 1] {
    [Fault::new(When::Always, refusal)]
}

/// Function, first and end of each request.
fn spans(seen: &[Seen]) -> Vec<(u8, u32, u32)> {
    let span = |seen: &Seen| {
        let first = u32::from(seen.subject.address);
        (seen.subject.function, first, first + u32::from(seen.subject.count))
    };
    seen.iter().map(span).collect()
}

/// What is said of the configuration of one device on a TCP link.
fn findings(device: &str) -> String {
    let head = "[gateway]\nname = \"n\"\nenterprise = \"e\"\n[uplink.u]\nbroker = \"mqtt://127.0.0.1:1\"\n";
    let text = format!("{head}[link.l]\ntcp = \"127.0.0.1:502\"\n[device.d]\nlink = \"l\"\n{device}");
    let checked = config::parse("c.toml", &text);
    let findings = checked.site.expect_err("findings");
    config::finding::render_text(&findings, &checked.sources)
}

/// Q06
#[tokio::test]
async fn a_hole_costs_only_the_tag_that_lies_in_it() {
    on_each(WAYS, |way| async move {
        let keys = format!("every = \"100ms\"\ntimeout = \"200ms\"\n{}", tags(20, 2));
        let hole = always(Refusal::Hole { first: 13, last: 13 });
        let mut field = Field::new(way, [1], hole, "", &device(1, &keys)).await;
        let heard = field.hear(1500).await;
        heard.assert_true();
        assert_eq!(heard.bad.keys().collect::<Vec<_>>(), ["d1:r12"], "{way:?}");
        assert_eq!(heard.bad["d1:r12"], [Quality::BadConfig]);
        assert_eq!(heard.values.len(), 19);
        let refused = field.rig.device("d1").exceptions.sum();
        assert!(refused <= 6, "{way:?}: bisected once, but refused {refused} times");
        field.far.take_seen().clear();
        let heard = field.hear(500).await;
        assert_good(&heard, &["d1"]);
        let seen = spans(&field.far.take_seen());
        assert!(!seen.is_empty() && seen.len() <= 2 * 7, "{way:?}: two blocks each time: {seen:?}");
        assert!(seen.iter().all(|(_, first, end)| *first > 13 || *end <= 13), "{way:?}: {seen:?}");
    })
    .await;
}

/// Q06: where no tag lies in the hole nothing is ever bad.
#[tokio::test]
async fn a_hole_between_tags_costs_nothing() {
    let keys = format!("every = \"100ms\"\n{}", tags(6, 4));
    let hole = always(Refusal::Hole { first: 10, last: 11 });
    let mut field = Field::new(Way::Tcp, [1], hole, "", &device(1, &keys)).await;
    let heard = field.hear(1000).await;
    heard.assert_true();
    assert_good(&heard, &["d1"]);
    assert_eq!(heard.values.len(), 6);
    let refused = field.rig.device("d1").exceptions.sum();
    assert!((1..=3).contains(&refused), "{refused}");
}

/// Q06, Q07
#[tokio::test]
async fn what_a_device_refuses_is_known_after_a_restart() {
    let mut tasks = JoinSet::new();
    let faults = [Refusal::Hole { first: 10, last: 11 }, Refusal::SizeLimit { most: 16, exception: Some(3) }];
    let far = far_end(
        tidegate::config::site::Framing::Tcp,
        [1],
        faults.map(|refusal| Fault::new(When::Always, refusal)),
    );
    let address = serve_tcp(&far, &mut tasks).await;
    let keys = format!("every = \"50ms\"\n{}", tags(20, 4));
    let text = format!("[link.l]\ntcp = \"{address}\"\n{}", device(1, &keys));
    let mut rig = Rig::start(&text);
    rig.hear(MS(1200)).await.assert_true();
    assert!(rig.device("d1").exceptions.sum() > 0);
    let folder = rig.stop().await;
    far.take_seen().clear();
    let mut rig = Rig::start_in(folder, &text);
    let heard = rig.hear(MS(700)).await;
    heard.assert_true();
    assert_good(&heard, &["d1"]);
    assert_eq!(rig.device("d1").exceptions.all(), [].into(), "{:?}", spans(&far.take_seen()));
    assert_eq!(heard.values.len(), 20);
}

/// Q07
#[tokio::test]
async fn the_most_that_a_device_answers_at_once_is_found_and_kept_to() {
    let cases = [2, 3].map(|code| WAYS.map(|way| (way, code)));
    on_each(cases.as_flattened().to_vec(), |(way, code)| async move {
        let keys = format!("every = \"100ms\"\ntimeout = \"300ms\"\n{}", tags(40, 2));
        let limit = always(Refusal::SizeLimit { most: 16, exception: Some(code) });
        let mut field = Field::new(way, [1], limit, "", &device(1, &keys)).await;
        let heard = field.hear(2000).await;
        heard.assert_true();
        assert_good(&heard, &["d1"]);
        assert_eq!(heard.values.len(), 40, "{way:?} {code}");
        let refused = field.rig.device("d1").exceptions.sum();
        assert!(refused <= 20, "{way:?} {code}: {refused} refusals");
        field.far.take_seen().clear();
        field.hear(600).await;
        let sizes: Vec<u32> =
            spans(&field.far.take_seen()).iter().map(|(_, first, end)| end - first).collect();
        let most = sizes.iter().max().copied().unwrap_or_default();
        assert!((12..=16).contains(&most), "{way:?} {code}: {sizes:?}");
    })
    .await;
}

/// Q07: a device that says nothing where it should refuse.
#[tokio::test]
async fn silence_above_the_limit_is_taken_for_a_refusal() {
    let keys = format!("every = \"100ms\"\ntimeout = \"100ms\"\n{}", tags(20, 2));
    let limit = always(Refusal::SizeLimit { most: 16, exception: None });
    let mut field = Field::new(Way::Tcp, [1], limit, "", &device(1, &keys)).await;
    field.hear_all(6000).await.assert_true();
    field.hear(1500).await;
    let heard = field.hear(600).await;
    heard.assert_true();
    assert_good(&heard, &["d1"]);
    assert_eq!(heard.values.len(), 20);
}

/// Q07
#[tokio::test]
async fn a_limit_that_is_configured_is_never_exceeded() {
    let keys = format!("max_registers = 8\nevery = \"100ms\"\n{}", tags(20, 2));
    let limit = always(Refusal::SizeLimit { most: 8, exception: Some(2) });
    let mut field = Field::new(Way::Tcp, [1], limit, "", &device(1, &keys)).await;
    assert_good(&field.hear(600).await, &["d1"]);
    assert_eq!(field.rig.device("d1").exceptions.sum(), 0);
}

/// `count` pairs of registers from `first` on.
fn pairs(first: u16, count: u16) -> String {
    let tag = |index: u16| {
        let address = first + 2 * index;
        format!("{{ name = \"r{address}\", at = \"hr:{address}\", type = \"u32\" }}")
    };
    format!("tags = [{}]", (0..count).map(tag).collect::<Vec<_>>().join(", "))
}

/// Q08
#[tokio::test]
async fn no_request_crosses_a_border_that_is_configured_and_one_that_is_not_is_found() {
    let paged = || always(Refusal::NoCross(0x100));
    let (first, every) = (0x1F0, "every = \"100ms\"\n");
    let keys = format!("{every}quirks = {{ no_cross = 256 }}\n{}", pairs(first, 16));
    let mut field = Field::new(Way::Tcp, [1], paged(), "", &device(1, &keys)).await;
    let heard = field.hear(600).await;
    heard.assert_true();
    assert_good(&heard, &["d1"]);
    let seen = spans(&field.far.take_seen());
    assert!(seen.iter().all(|(_, first, end)| first / 256 == (end - 1) / 256), "{seen:?}");
    assert_eq!(field.rig.device("d1").exceptions.sum(), 0);

    let mut field =
        Field::new(Way::Tcp, [1], paged(), "", &device(1, &format!("{every}{}", pairs(first, 16)))).await;
    let heard = field.hear(1200).await;
    heard.assert_true();
    assert_good(&heard, &["d1"]);
    assert_eq!(heard.values.len(), 16);
    assert!((1..=6).contains(&field.rig.device("d1").exceptions.sum()));
}

/// Q09
#[tokio::test]
async fn a_whole_block_is_asked_for_exactly_so_or_not_at_all() {
    // two tags in it, one before and one behind; and longer than what the device answers otherwise
    let tags = [2998, 3004, 3010, 3020]
        .map(|address| format!("{{ name = \"r{address}\", at = \"hr:{address}\", type = \"u32\" }}"));
    let keys = format!(
        "every = \"100ms\"\nmax_registers = 10\nquirks = {{ whole_blocks = [[3000, 20]] }}\ntags = [{}]",
        tags.join(", ")
    );
    let faults = always(Refusal::WholeOnly { address: 3000, count: 20 });
    let mut field = Field::new(Way::Tcp, [1], faults, "", &device(1, &keys)).await;
    let heard = field.hear_all(3000).await;
    heard.assert_true();
    assert_eq!(bad_of(&heard, "d1"), []);
    let seen = spans(&field.far.take_seen());
    assert!(seen.contains(&(3, 3000, 3020)) && seen.len() >= 3, "{seen:?}");
    let touches = |first: u32, end: u32| first < 3020 && end > 3000;
    assert!(seen.iter().all(|(_, first, end)| !touches(*first, *end) || (*first, *end) == (3000, 3020)));
    assert_eq!(field.rig.device("d1").exceptions.sum(), 0);
    // refused, it is not split either
    field.far.set_faults(Faults::new(1, always(Refusal::Exception(2)).into()));
    field.hear(400).await;
    let seen = spans(&field.far.take_seen());
    assert!(seen.iter().all(|(_, first, end)| !touches(*first, *end) || (*first, *end) == (3000, 3020)));
}

/// Q25
#[test]
fn a_value_that_is_longer_than_what_the_device_answers_is_refused_before_anything_is_asked() {
    let tag = |kind: &str| format!("tags = [{{ name = \"t\", at = \"hr:0\", type = \"{kind}\" }}]");
    for (most, kind, count) in [(1, "u32", 2), (1, "f32", 2), (3, "f64", 4), (2, "i64", 4)] {
        let text = findings(&format!("max_registers = {most}\n{}", tag(kind)));
        let wanted =
            format!("a value of {count} registers cannot be read from a device with max_registers = {most}");
        assert!(text.contains(&wanted), "{text}");
    }
    let text = findings(&format!("quirks = {{ no_cross = 3 }}\n{}", tag("f64")));
    assert!(text.contains("crosses a border"), "{text}");
}

/// Q25
#[tokio::test]
async fn a_value_is_never_asked_for_in_parts() {
    // neither where the limit is odd, nor where less is learned than a value needs
    for (keys, most) in [("max_registers = 3", 125), ("", 3), ("", 1)] {
        let keys = format!("every = \"50ms\"\n{keys}\n{}", tags(10, 2));
        let limit = always(Refusal::SizeLimit { most, exception: Some(3) });
        let mut field = Field::new(Way::Tcp, [1], limit, "", &device(1, &keys)).await;
        field.hear(700).await.assert_true();
        let seen = spans(&field.far.take_seen());
        assert!(seen.iter().all(|(_, first, end)| first % 2 == 0 && end % 2 == 0 && end > first), "{seen:?}");
    }
}

/// Q27
#[tokio::test]
async fn each_area_is_read_by_its_own_function_and_no_other_is_tried() {
    let areas = [("coil", 1), ("di", 2), ("hr", 3), ("ir", 4)];
    let tag = |(area, _)| format!("{{ name = \"{area}\", at = \"{area}:6\" }}");
    let keys = format!("every = \"50ms\"\ntags = [{}]", areas.map(tag).join(", "));
    let mut field = Field::new(Way::Tcp, [1], [], "", &device(1, &keys)).await;
    assert_good(&field.hear_all(3000).await, &["d1"]);
    let functions = |seen: &[Seen]| {
        let mut all: Vec<u8> = seen.iter().map(|seen| seen.subject.function).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    assert_eq!(functions(&field.far.take_seen()), [1, 2, 3, 4]);

    // function 3 is missing
    let keys = "every = \"50ms\"\ntags = [{ name = \"hr\", at = \"hr:6\" }]";
    let mut field = Field::new(Way::Tcp, [1], always(Refusal::Exception(1)), "", &device(1, keys)).await;
    let heard = field.hear(400).await;
    assert_eq!(bad_of(&heard, "d1"), [Quality::BadConfig]);
    assert_eq!(functions(&field.far.take_seen()), [3]);
}

/// Q27
#[tokio::test]
async fn a_write_is_done_by_the_function_that_is_configured_or_not_at_all() {
    for (key, one, two) in
        [("auto", Some(6), Some(16)), ("single", Some(6), None), ("multiple", Some(16), Some(16))]
    {
        let quirk = if key == "auto" { String::new() } else { format!("quirks = {{ write = \"{key}\" }}\n") };
        let mut field =
            Field::new(Way::Tcp, [1], [], "", &device(1, &format!("{quirk}{}", tags(1, 2)))).await;
        field.hear_all(2000).await;
        for (words, function) in [(&[7][..], one), (&[7, 8][..], two)] {
            field.far.take_seen().clear();
            let outcome = field.write("d1", 100, words).await;
            let seen = field.far.take_seen();
            let writes: Vec<u8> =
                seen.iter().map(|seen| seen.subject.function).filter(|function| *function > 4).collect();
            assert_eq!(writes, Vec::from_iter(function), "{key} {words:?}");
            match function {
                Some(_) => assert!(matches!(outcome, Ok(Answer::Response(_))), "{key} {outcome:?}"),
                None => assert_eq!(outcome, Err(OrderError::Impossible)),
            }
        }
    }
}

/// Q27: a device without function 6.
#[tokio::test]
async fn a_refused_write_is_not_tried_with_another_function_or_again() {
    let mut field = Field::new(Way::Tcp, [1], [], "", &device(1, &tags(1, 2))).await;
    field.hear_all(2000).await;
    field.far.set_faults(Faults::new(1, always(Refusal::Exception(1)).into()));
    field.far.take_seen().clear();
    let outcome = field.write("d1", 100, &[7]).await;
    assert_eq!(outcome, Ok(Answer::Exception(ExceptionCode::IllegalFunction)));
    field.rig.hear(Duration::from_millis(300)).await;
    let seen = field.far.take_seen();
    let writes = seen.iter().filter(|seen| seen.subject.function > 4).count();
    assert_eq!(writes, 1);
}
