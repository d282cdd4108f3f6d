//! Bytes of an MQTT packet that each reading takes, in every form that an uplink sends; fails where aliases take too many.
//!
//! `cargo bench --bench wire`

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench prints, and ends with a message where something is amiss"
)]

use std::process::ExitCode;
use std::sync::Arc;

use fastrand::Rng;
use tidegate::config;
use tidegate::config::site::{Payload, Site};
use tidegate::counters::Counters;
use tidegate::json;
use tidegate::position::Position;
use tidegate::publication::Publication;
use tidegate::reading::{Quality, Reading, Stamp, Timestamp, Update, Value};
use tidegate::sparkplug;
use tidegate::tag::{DeviceId, TagId};

const SEED: u64 = 7;
/// Tags of the device, all of which are read and sent together; half are floats, half whole numbers.
const TAGS: u32 = 50;
const MESSAGES: u32 = 100;
/// The most that a reading may take with aliases.
const ALIASES_MAX: f64 = 18.0;
/// When the first readings are taken, in milliseconds since the epoch: six bytes of a varint, as from 2004 to 2109.
const START: u64 = 1_795_000_000_000;

/// What others take, for comparison: measured on the wire at a broker before this gateway was written, with Telegraf,
/// Node-RED, Neuron and others reading the same simulated devices of 50 to 200 tags, single runs of 15 to 60 s. What
/// their JSON says with each value (name, time, quality) differs, and is mostly less.
const OTHERS: &str = "\
others, as measured on the wire:
  Sparkplug, alias and value                    7.5 to 10.7
    and a timestamp on each metric              + 7
    and a datatype on each metric               + 2
  JSON of other gateways                       12.6 to 26.6";

/// Either session, as far as this bench needs it.
enum Session {
    Sparkplug(Box<sparkplug::session::Session>),
    Json(Box<json::Session>),
}

impl Session {
    fn new(uplink: &str) -> Session {
        let tag = |index: u32| match index % 2 {
            0 => format!(
                "{{ name = \"zone{index}/temperature\", at = \"hr:{}\", type = \"f32\", unit = \"Cel\" }}",
                index * 2
            ),
            _ => format!("{{ name = \"press{index}/pieces\", at = \"hr:{}\", type = \"i32\" }}", index * 2),
        };
        let tags = (0..TAGS).map(tag).collect::<Vec<_>>().join(", ");
        let text = format!(
            "[gateway]\nname = \"press-shop-1\"\nenterprise = \"huaxing-tooling\"\n\
             [uplink.u]\nbroker = \"mqtt://127.0.0.1\"\n{uplink}\n\
             [link.l]\ntcp = \"127.0.0.1:502\"\n[device.oven-line-3]\nlink = \"l\"\ntags = [{tags}]\n"
        );
        let checked = config::parse("wire.toml", &text);
        let site: Arc<Site> = match checked.site {
            Ok(site) => Arc::new(site),
            Err(findings) => panic!("{}", config::finding::render_text(&findings, &checked.sources)),
        };
        let (uplink, counters) = (site.uplinks[0].clone(), Arc::new(Counters::default()));
        match &uplink.payload {
            Payload::Sparkplug => {
                Session::Sparkplug(Box::new(sparkplug::session::Session::new(site, &uplink, counters)))
            }
            Payload::Json(form) => {
                Session::Json(Box::new(json::Session::new(site, form.clone(), &uplink.share, counters)))
            }
        }
    }

    fn handle_connected(&mut self, now: Timestamp) {
        match self {
            Session::Sparkplug(session) => session.handle_connected(0, now),
            Session::Json(session) => session.handle_connected(0, now),
        }
    }

    fn handle_update(&mut self, first: Position, update: Update, now: Timestamp) {
        match self {
            Session::Sparkplug(session) => session.handle_update(first, update, now),
            Session::Json(session) => session.handle_update(first, update, now),
        }
    }

    fn drain(&mut self, now: Timestamp) -> Vec<Publication> {
        let next = || match self {
            Session::Sparkplug(session) => session.poll_publication(now),
            Session::Json(session) => session.poll_publication(now),
        };
        std::iter::from_fn(next).collect()
    }
}

/// One reading of each tag, in two blocks that were read one after the other.
fn readings(rng: &mut Rng, millis: u64) -> Vec<Reading> {
    let value = |rng: &mut Rng, tag: u32| match tag % 2 {
        0 => Value::Float(20.0 + 300.0 * rng.f32()),
        _ => Value::Int(rng.i64(0..1_000_000)),
    };
    let reading = |tag: u32| Reading {
        tag: TagId(tag),
        value: Some(value(rng, tag)),
        quality: Quality::Good,
        at: Stamp::Wall(Timestamp::from_millis(millis + u64::from(tag / 25) * 37)),
    };
    (0..TAGS).map(reading).collect()
}

/// Bytes of the packet (MQTT 3.1.1, 3.3): fixed header, topic, packet identifier at QoS 1, payload.
fn packet_size(publication: &Publication) -> usize {
    let identifier = if publication.is_acknowledged { 2 } else { 0 };
    let rest = 2 + publication.topic.len() + identifier + publication.payload.len();
    let length_size = match rest {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    };
    1 + length_size + rest
}

/// Bytes a reading; what comes at the start of a session does not count.
fn measure(uplink: &str) -> f64 {
    let (mut session, mut rng) = (Session::new(uplink), Rng::with_seed(SEED));
    let (mut size, mut count) = (0, 0);
    for round in 0..=MESSAGES {
        let millis = START + u64::from(round) * 1000;
        let (now, first) = (Timestamp::from_millis(millis + 40), Position(u64::from(round * TAGS)));
        session.handle_update(first, Update::Readings(readings(&mut rng, millis).into()), now);
        if round == 0 {
            session.handle_update(first, Update::DeviceUp(DeviceId(0)), now);
            session.handle_connected(now);
            session.drain(now);
            continue;
        }
        for publication in session.drain(now) {
            size += packet_size(&publication);
            count += publication.carried.count();
        }
    }
    assert_eq!(count, u64::from(TAGS * MESSAGES), "each reading once");
    f64::from(u32::try_from(size).unwrap()) / f64::from(TAGS * MESSAGES)
}

fn main() -> ExitCode {
    println!(
        "bytes of a packet for each reading, {TAGS} tags a message, f32 and i32, each with its timestamp:"
    );
    let forms = [
        ("Sparkplug, names", ""),
        ("Sparkplug, aliases", "aliases = true"),
        ("Sparkplug, aliases, datatype_in_data", "aliases = true\ndatatype_in_data = true"),
        ("Sparkplug, names, datatype_in_data", "datatype_in_data = true"),
        ("JSON, a device a message", "payload = \"json\"\nmessage = \"device\""),
        ("JSON, a tag a message", "payload = \"json\""),
    ];
    let mut with_aliases = f64::INFINITY;
    for (name, uplink) in forms {
        let size = measure(uplink);
        println!("  {name:<44} {size:6.1}");
        if uplink == "aliases = true" {
            with_aliases = size;
        }
    }
    println!("{OTHERS}");
    if with_aliases > ALIASES_MAX {
        println!("aliases take more than {ALIASES_MAX} bytes a reading: {with_aliases:.1}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
