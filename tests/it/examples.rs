//! Any configuration against the simulator: the whole program between the floor that is made from its own configuration
//! and embedded brokers. Every value that arrives is one that was served, and none is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tidegate::clock;
use tidegate::config;
use tidegate::config::site::serial::Mode;
use tidegate::config::site::{
    Deadband, Device, DeviceProtocol, Endpoint, Payload as Kind, Report, Share, Site, Source, Tag,
};
use tidegate::sim::floor::{Floor, Mark, Served, Truth, floor_of};
use tidegate::sim::serve::Shared;
use tidegate::sim::serve::site::{Wishes, serve_site};
use tidegate::sparkplug::proto::Payload;
use tidegate::sparkplug::proto::payload::{Metric, metric};
use tokio::task::JoinSet;

use crate::gateway::{Consumer, Gateway, free_address, publish, serve_broker};
use crate::lossless::{Subscriber, What};
use crate::{files, root};

/// How long all devices may take to be born.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long values are compared then.
const TIME: Duration = Duration::from_secs(12);
/// How long the last messages may take after the gateway has ended.
const LAST_MESSAGES: Duration = Duration::from_millis(500);
/// How long before the gateway ends nothing is said any more that nobody asks for.
const HUSH: Duration = Duration::from_millis(400);
/// A reading may be stamped so long after the device has put it on the wire.
const DELAY_MAX_MS: u64 = 2000;

/// What came to a broker.
#[derive(Default)]
struct Heard {
    births: BTreeMap<String, BTreeSet<String>>,
    /// Every name that ever came, with its device.
    names: BTreeSet<(String, String)>,
    /// Values by device and tag, and by their times.
    values: BTreeMap<(String, String), BTreeMap<u64, String>>,
}

impl Heard {
    fn take(&mut self, topic: &str, payload: &Payload) {
        let parts: Vec<&str> = topic.split('/').collect();
        let ["spBv1.0", _, verb @ ("DBIRTH" | "DDATA"), _, device] = parts[..] else { return };
        let named = payload.metrics.iter().filter_map(|metric| Some((metric.name.clone()?, metric)));
        for (name, metric) in named {
            if verb == "DBIRTH" {
                self.births.entry(device.to_owned()).or_default().insert(name.clone());
            }
            let key = (device.to_owned(), name);
            self.names.insert(key.clone());
            if let (Some(at), Some(value)) = (metric.timestamp, shown(metric)) {
                self.values.entry(key).or_default().insert(at, value);
            }
        }
    }

    /// The values of a tag, each with the time at which it came up.
    fn values(&self, device: &str, tag: &str) -> Vec<(u64, String)> {
        let values = self.values.get(&(device.to_owned(), tag.to_owned()));
        let all = values.into_iter().flatten().map(|(at, value)| (*at, value.clone()));
        without_repetitions(all)
    }
}

/// The value as text; `None` where there is none.
fn shown(metric: &Metric) -> Option<String> {
    let is_unsigned = matches!(metric.datatype, Some(5..=8));
    Some(match metric.value.as_ref()? {
        metric::Value::IntValue(bits) if is_unsigned => bits.to_string(),
        metric::Value::IntValue(bits) => bits.cast_signed().to_string(),
        metric::Value::LongValue(bits) if is_unsigned => bits.to_string(),
        metric::Value::LongValue(bits) => bits.cast_signed().to_string(),
        metric::Value::FloatValue(value) => value.to_string(),
        metric::Value::DoubleValue(value) => value.to_string(),
        metric::Value::BooleanValue(value) => value.to_string(),
        metric::Value::StringValue(value) => value.clone(),
        other => panic!("{other:?}"),
    })
}

fn shown_truth(truth: &Truth) -> String {
    match truth {
        Truth::Time(at) => at.millis().to_string(),
        other => other.to_string(),
    }
}

fn without_repetitions(all: impl Iterator<Item = (u64, String)>) -> Vec<(u64, String)> {
    let mut all: Vec<_> = all.collect();
    all.dedup_by(|next, before| next.1 == before.1);
    all
}

/// One run: the site, what was served, and what came to the broker of each uplink that speaks Sparkplug.
struct Run {
    site: Site,
    served: BTreeMap<(String, String), Vec<Served>>,
    heard: Vec<Heard>,
    /// What came as JSON.
    json: Option<Heard>,
}

/// Runs the configuration at `path` but for the keys in `left_out`, with these variables beside those of places.
async fn run(path: &str, left_out: &[&str], variables: &[(&str, &str)]) -> Run {
    let text = std::fs::read_to_string(root().join(path)).unwrap();
    let is_kept = |line: &&str| !left_out.iter().any(|key| line.split([' ', '=']).next() == Some(key));
    let text: String = text.lines().filter(is_kept).map(|line| format!("{line}\n")).collect();
    run_text(&text, variables).await
}

/// Runs this configuration, with these variables beside those of places.
async fn run_text(text: &str, variables: &[(&str, &str)]) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.toml");
    std::fs::write(&path, text).unwrap();
    let checked = config::parse("gateway.toml", text);
    let site = checked
        .site
        .unwrap_or_else(|findings| panic!("{}", config::finding::render_text(&findings, &checked.sources)));

    let mut tasks = JoinSet::new();
    let floor = Shared::new(floor_of(&site, clock::wall()).into_floor());
    let mut variables: Vec<(String, String)> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    variables.extend(serve(&site, &floor, &mut tasks).await);
    let (mut consumers, mut json) = (Vec::new(), None);
    for uplink in &site.uplinks {
        let broker = free_address().await;
        serve_broker(broker, &mut tasks).await;
        match uplink.payload {
            Kind::Json(_) => json = Some(subscribe(broker, &site.gateway.enterprise).await),
            Kind::Sparkplug => consumers.push(Consumer::subscribe(broker).await),
        }
        if let Some(host) = &uplink.primary_host {
            let state = format!("{{\"online\":true,\"timestamp\":{}}}", clock::wall().millis());
            publish(broker, &format!("spBv1.0/STATE/{}", host.id), state.as_bytes(), true).await;
        }
        variables.extend(of_uplink(&uplink.name, uplink.login.is_some(), broker, folder.path()));
    }
    variables.extend([
        ("STATE_DIRECTORY".to_owned(), folder.path().join("state").display().to_string()),
        ("TIDEGATE__GATEWAY__CLOCK".to_owned(), "system".to_owned()),
        ("TIDEGATE__LOG__LEVEL".to_owned(), "error".to_owned()),
    ]);
    let variables: Vec<(&str, String)> =
        variables.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    let mut gateway = Gateway::run(folder.path(), &path, &variables);
    let heard = listen(&site, &floor, &mut gateway, consumers).await;
    let log = floor.with(Floor::take_log);
    let served = log.into_iter().map(|((device, tag), all)| ((device.to_string(), tag.to_string()), all));
    let json = json.map(|subscriber| heard_as_json(&subscriber));
    Run { site, served: served.collect(), heard, json }
}

/// Subscribes to everything of an enterprise.
async fn subscribe(broker: SocketAddr, enterprise: &str) -> Subscriber {
    let subscriber = Subscriber::to(broker, vec![format!("{enterprise}/#")]);
    while !subscriber.take().iter().any(|arrival| matches!(arrival.what, What::Subscribed)) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    subscriber
}

/// What came as messages of whole devices, whose topics end with the device.
fn heard_as_json(subscriber: &Subscriber) -> Heard {
    let mut heard = Heard::default();
    for arrival in subscriber.take() {
        let What::Message { topic, payload } = arrival.what else { continue };
        let message: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        let (Some(device), Some(tags)) = (topic.rsplit('/').next(), message["tags"].as_object()) else {
            continue;
        };
        for (tag, reading) in tags {
            let at: jiff::Timestamp = reading["timestamp"].as_str().unwrap().parse().unwrap();
            let value = match &reading["value"] {
                serde_json::Value::Null => continue,
                serde_json::Value::Number(number) => number.as_f64().unwrap().to_string(),
                serde_json::Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let at = u64::try_from(at.as_millisecond()).unwrap();
            heard.values.entry((device.to_owned(), tag.clone())).or_default().insert(at, value);
        }
    }
    heard
}

/// Serves the floor; the variables that lead to it.
async fn serve(site: &Site, floor: &Shared, tasks: &mut JoinSet<()>) -> Vec<(String, String)> {
    let (mut wishes, mut variables) = (Wishes::default(), Vec::new());
    for link in site.links.iter().filter(|link| matches!(link.endpoint, Endpoint::Listen(_))) {
        let address = free_address().await;
        wishes.gateways.insert(link.name.to_string(), address);
        let name = link.name.to_uppercase().replace('-', "_");
        variables.push((format!("TIDEGATE__LINK__{name}__LISTEN"), address.to_string()));
    }
    let (ends, unserved) = serve_site(site, floor, &wishes, tasks).await.unwrap();
    assert_eq!(unserved, []);
    variables.extend(ends.iter().filter_map(tidegate::sim::serve::site::End::variable));
    variables
}

fn of_uplink(name: &str, has_login: bool, broker: SocketAddr, folder: &Path) -> Vec<(String, String)> {
    let of = |key: &str, value: String| (format!("TIDEGATE__UPLINK__{}__{key}", name.to_uppercase()), value);
    let mut variables = vec![of("BROKER", format!("mqtt://{broker}")), of("BIRTH_JITTER", "0s".to_owned())];
    if has_login {
        let password = folder.join("password");
        std::fs::write(&password, "secret").unwrap();
        variables.push(of("PASSWORD_FILE", password.display().to_string()));
    }
    variables
}

/// Listens at every broker until all devices are born and have been compared for some time, and the gateway has ended.
async fn listen(site: &Site, floor: &Shared, gateway: &mut Gateway, consumers: Vec<Consumer>) -> Vec<Heard> {
    let heard: Vec<std::cell::RefCell<Heard>> = consumers.iter().map(|_| Default::default()).collect();
    let mut consumers: Vec<_> = consumers.into_iter().zip(&heard).collect();
    let mut hear = async |until: Duration, is_enough: &dyn Fn(&Heard) -> bool| {
        let end = clock::monotonic() + until;
        while clock::monotonic() < end && !is_enough(&heard[0].borrow()) {
            // no message of one consumer is lost while others are heard: it waits in its socket
            for (consumer, heard) in &mut consumers {
                let next = consumer.wait_for_any(|topic, payload| {
                    heard.borrow_mut().take(topic, payload);
                    true
                });
                tokio::time::timeout(Duration::from_millis(20), next).await.ok();
            }
        }
    };
    let wanted: Vec<String> = enabled(site).map(|device| device.name.to_string()).collect();
    let is_born = |heard: &Heard| wanted.iter().all(|device| heard.births.contains_key(device));
    hear(PATIENCE, &is_born).await;
    let born: Vec<String> = heard[0].borrow().births.keys().cloned().collect();
    assert!(is_born(&heard[0].borrow()), "born are {born:?} of {wanted:?}");
    hear(TIME, &|_| false).await;
    floor.with(Floor::hush);
    hear(HUSH, &|_| false).await;
    gateway.terminate();
    let ends = async {
        let code = gateway.ended().await;
        assert_eq!(code, Some(0));
    };
    tokio::join!(ends, hear(Duration::from_secs(5), &|_| false));
    hear(LAST_MESSAGES, &|_| false).await;
    drop(consumers);
    heard.into_iter().map(std::cell::RefCell::into_inner).collect()
}

/// The devices that are read and can answer: not those that no example of their type is meant for.
fn enabled(site: &Site) -> impl Iterator<Item = &Device> {
    let made = floor_of(site, clock::wall());
    let silent: Vec<_> = made.instruments.into_iter().filter(|of| of.tags() == 0).map(|of| of.name).collect();
    site.devices
        .iter()
        .filter(move |device| device.enabled && !device.is_own() && !silent.contains(&device.name))
}

/// Whether a device is read so that a tag of it can be told at all.
fn is_read(device: &Device, tag: &Tag) -> bool {
    match &device.protocol {
        DeviceProtocol::Modbus | DeviceProtocol::Dlt645(_) => tag.every.is_some(),
        DeviceProtocol::Serial(instrument, _) => tag.every.is_some() || instrument.mode() != Mode::Poll,
    }
}

/// What a manual prints, as near as a float is to it.
fn rounded(value: &str) -> String {
    value.parse::<f64>().map_or_else(|_| value.to_owned(), |number| format!("{number:.6}"))
}

impl Run {
    /// Every value that came to the first broker was served then, and each that was served came, but for changes that are too
    /// small to tell. How many values agree. Nobody can say what the tags `untold` are, and no other tag is left out.
    fn compare(&self, untold: &[&str]) -> usize {
        let found = floor_of(&self.site, clock::wall()).untold.into_iter().map(|of| of.tag);
        assert_eq!(found.collect::<Vec<String>>(), untold);
        self.compare_with(&self.heard[0], untold)
    }

    fn compare_with(&self, heard: &Heard, untold: &[&str]) -> usize {
        let mut agreed = 0;
        for device in enabled(&self.site) {
            for tag in self.site.tags_of(device).iter().filter(|tag| tag.is_read()) {
                let name = format!("{}:{}", device.name, tag.name);
                if untold.contains(&&*name) {
                    continue;
                }
                let from = self.known_from(tag);
                let served = self.served_of(tag).iter().filter(|one| one.at.millis() >= from);
                let is_printed = self.served_of(tag).iter().any(|one| one.mark == Mark::Printed);
                let near =
                    |(at, value): (u64, String)| (at, if is_printed { rounded(&value) } else { value });
                let served = served.map(|one| near((one.at.millis(), shown_truth(&one.truth))));
                let served = without_repetitions(served);
                let heard = heard.values(&device.name, &tag.name).into_iter().map(near);
                let heard: Vec<_> = heard.collect();
                if tag.share == Share::Private || !is_read(device, tag) {
                    assert_eq!(heard, [], "{name} is not to be told");
                    continue;
                }
                agreed += agree(&name, &served, &heard, has_gaps(tag, &self.site, device));
            }
        }
        agreed
    }

    fn served_of(&self, tag: &Tag) -> &[Served] {
        let device = &self.site.devices[tag.device.index()];
        self.served.get(&(device.name.to_string(), tag.name.to_string())).map_or(&[], Vec::as_slice)
    }

    /// When all that a tag needs of others had been read: before that it has no value.
    fn known_from(&self, tag: &Tag) -> u64 {
        let (shown, is_chosen) = (tag, matches!(tag.source, Source::Chosen(_)));
        let tag = match &tag.source {
            Source::Chosen(readers) => &self.site.tags[readers[0].index()], // as which it is served
            _ => tag,
        };
        let inputs: Vec<_> = tag.recipe().into_iter().flat_map(|recipe| recipe.inputs()).collect();
        if is_chosen && !inputs.is_empty() {
            // with what it is made of it counts from the round after the one that shows which variant it is
            return self.served_of(shown).first().map_or(0, |one| one.at.millis() + 1);
        }
        let first = |of: &Tag| self.served_of(of).first().map_or(0, |one| one.at.millis());
        inputs.into_iter().map(|of| first(&self.site.tags[of.index()])).max().unwrap_or_default()
    }

    /// The birth of every device has all of its tags: machines and alarms too.
    fn check_births(&self) {
        for device in enabled(&self.site) {
            let born = &self.heard[0].births[&*device.name];
            let tags = self.site.tags_of(device).iter();
            let tags = tags.filter(|tag| !matches!(tag.share, Share::Private | Share::Window));
            let missing: Vec<&str> = tags.map(|tag| &*tag.name).filter(|tag| !born.contains(*tag)).collect();
            assert!(missing.is_empty(), "{}: {missing:?} not in {born:?}", device.name);
        }
    }

    /// Each of these tags stands in the birth of `device`.
    fn check_born(&self, device: &str, tags: &[&str]) {
        let born = &self.heard[0].births[device];
        for tag in tags {
            assert!(born.contains(*tag), "{device}/{tag} not in {born:?}");
        }
    }
}

/// Whether changes of a tag are left out on purpose: they are small, or it is read beside others more often than is asked for.
fn has_gaps(tag: &Tag, site: &Site, device: &Device) -> bool {
    let is_slow = tag.every > site.rates(device).first().copied();
    is_slow
        || tag.deadband != Deadband::None
        || matches!(tag.report, Report::OnChange { at_most: Some(_), .. })
}

/// How many of what was served was heard: all of it, in its order, or with gaps a part of it.
#[track_caller]
fn agree(name: &str, served: &[(u64, String)], heard: &[(u64, String)], has_gaps: bool) -> usize {
    let mut rest = served.iter();
    for (at, value) in heard {
        let is_it = |(of, one): &&(u64, String)| one == value && (*of..=of + DELAY_MAX_MS).contains(at);
        let next = if has_gaps { rest.find(is_it) } else { rest.next().filter(is_it) };
        assert!(next.is_some(), "{name}: {value} came at {at} and was not served:\n{served:?}\n{heard:?}");
    }
    let missing: Vec<_> = rest.collect();
    assert!(has_gaps || missing.is_empty(), "{name}: missing {missing:?} in\n{heard:?}");
    heard.len()
}

#[test]
fn what_was_not_served_or_not_then_or_is_missing_does_not_agree() {
    let of =
        |all: &[(u64, &str)]| all.iter().map(|(at, value)| (*at, (*value).to_owned())).collect::<Vec<_>>();
    let served = of(&[(10, "a"), (20, "b"), (30, "c")]);
    let check = |heard: &[(u64, &str)], has_gaps| {
        let (served, heard) = (served.clone(), of(heard));
        std::panic::catch_unwind(move || agree("t", &served, &heard, has_gaps)).ok()
    };
    assert_eq!(check(&[(11, "a"), (20, "b"), (31, "c")], false), Some(3));
    assert_eq!(check(&[(11, "a"), (31, "c")], false), None);
    assert_eq!(check(&[(11, "a"), (31, "c")], true), Some(2));
    assert_eq!(check(&[(11, "a"), (20, "b")], false), None);
    assert_eq!(check(&[(11, "a"), (20, "x")], true), None);
    assert_eq!(check(&[(9, "a")], true), None);
    assert_eq!(check(&[(31, "c"), (31, "a")], true), None);
}

#[tokio::test]
async fn six_moulding_machines_and_a_cluster_that_gets_only_what_is_meant_for_it() {
    let variables = [("TIDEGATE__UPLINK__CLUSTER__AGGREGATE", "5s")];
    let run = run("tests/it/examples/injection-moulding.toml", &["cert_file", "key_file"], &variables).await;
    let values = run.compare(&[]);
    assert!(values > 500, "{values}");
    run.check_births();
    for unit in 1..=6 {
        let alarms = ["overheat", "cold", "oil", "no-shots", "runaway", "silent"];
        let alarms = alarms.map(|alarm| format!("alarm/{alarm}"));
        let tags = ["machine/state", "machine/pieces", "machine/kwh_per_piece", "zone1/error", "kw/15m"];
        let tags: Vec<&str> = alarms.iter().map(String::as_str).chain(tags).collect();
        run.check_born(&format!("imm{unit}"), &tags);
    }
    let cluster = &run.heard[1];
    let means = ["mean", "min", "max", "last", "count"].map(|of| format!("power/active/{of}"));
    for (device, name) in &cluster.names {
        let is_mean = device.ends_with("-meter") && means.contains(name);
        let is_of_site = device == "capacity"
            && ["injection-160t/", "injection-250t/"].iter().any(|class| name.starts_with(class));
        let is_title = name == "Properties/title"; // of the device's birth, no reading
        assert!(is_mean || name == "kw/15m" || is_of_site || is_title, "{device}/{name} came to the cluster");
    }
    for unit in 1..=6 {
        let meter = format!("imm{unit}-meter");
        let of =
            |tag: &str| cluster.values(&meter, tag).last().map(|(_, value)| value.parse::<f64>().unwrap());
        let [mean, least, most] =
            ["power/active/mean", "power/active/min", "power/active/max"].map(|tag| of(tag).expect(tag));
        assert!(least <= mean && mean <= most, "{meter}: {least} {mean} {most}");
        assert!((1.0..=18.0).contains(&least) && (1.0..=18.0).contains(&most), "{meter}: {least} {most}");
    }
}

#[tokio::test]
async fn eight_machines_behind_units_that_dial_in() {
    let left_out = ["ca_file", "cert_file", "key_file", "allow"];
    let variables = [("TIDEGATE__UPLINK__CLOUD__PROTOCOL", "3.1.1")]; // the embedded broker speaks no other
    let run = run("tests/it/examples/cnc-yard.toml", &left_out, &variables).await;
    let values = run.compare(&[]);
    assert!(values > 200, "{values}");
    let json = run.compare_with(run.json.as_ref().unwrap(), &[]);
    assert!(json > 200, "{json}");
    run.check_births();
    for caller in ["lathe-1", "lathe-2", "lathe-3", "mill-1", "mill-2", "mill-3", "grinder-1"] {
        run.check_born(caller, &["alarm/offline", "machine/state", "machine/pieces", "lamp/red"]);
    }
    run.check_born("press-9-meter", &["energy/import", "frequency", "serial_number"]);
    assert!(!run.heard[0].births.contains_key("edm-1"), "it is not wired yet");
}

#[tokio::test]
async fn the_demo() {
    let run = run("configs/demo.toml", &[], &[]).await;
    // expressions make the first two; the types of the others have no examples
    let values = run.compare(&[
        "meter:export/total",
        "meter:power/balance",
        "balance:status",
        "balance:weight",
        "scale:decimals",
        "scale:weight",
        "reader:code",
    ]);
    assert!(values > 300, "{values}");
    run.check_births();
}

#[tokio::test]
async fn the_moulding_shop() {
    let run = run("configs/injection-moulding.toml", &[], &[]).await;
    let values = run.compare(&[]);
    assert!(values > 250, "{values}");
    run.check_births();
    run.check_born("imm3", &["machine/state", "alarm/oil", "power/15m"]);
}

#[tokio::test]
async fn the_machining_shop() {
    let run = run("configs/machining.toml", &[], &[]).await;
    let values = run.compare(&[]);
    assert!(values > 100, "{values}");
    run.check_births();
    run.check_born("mill-1", &["machine/state", "alarm/overload", "spindle/load"]);
}

#[tokio::test]
async fn devices_of_many_makes() {
    let mut text = std::fs::read_to_string(root().join("tests/it/examples/types.toml")).unwrap();
    let shipped = files(&root().join("configs/types"), "toml");
    text.extend(shipped.iter().map(|path| std::fs::read_to_string(path).unwrap()));
    let run = run_text(&text, &[]).await;
    let values = run.compare(&["kincony-sht30:temperature"]); // an expression makes it
    assert!(values > 600, "{values}");
    run.check_births();
}

#[tokio::test]
async fn meters_and_instruments() {
    let run = run("tests/it/examples/meters.toml", &[], &[]).await;
    let untold = [
        "main:date", // the simulator's meters have numbers only
        "balance:status",
        "balance:unit", // no example says what they are
        "scale:decimals",
        "water-2:volume", // no example is of its address
        "lab:status",
        "lab:unit",
    ];
    let values = run.compare(&untold);
    assert!(values > 100, "{values}");
    run.check_births();
    let of = |device: &str, tag: &str| {
        let values = run.heard[0].values(device, tag).into_iter().map(|(_, value)| rounded(&value));
        values.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    };
    for balance in ["balance", "lab"] {
        assert_eq!(of(balance, "weight"), ["100.000000", "100.010000", "200.000000"], "{balance}");
    }
    assert_eq!(
        of("scale", "weight"),
        ["-0.150000", "20.000000"],
        "and what its check does not fit is no weight"
    );
    assert_eq!(of("reader", "code").len(), 2);
    assert_eq!(of("water", "volume"), ["556677.000000"]);
    for (device, tag) in [("main", "voltage/l3"), ("old", "voltage/l2"), ("sub", "power/active")] {
        assert!(of(device, tag).len() > 2, "{device}/{tag} moves: {:?}", of(device, tag));
    }
    assert!(!run.heard[0].births.contains_key("water-2"), "it never answered");
}
