//! The types that we ship, against images of registers that were written by hand: from the shipped files through the real
//! planner, a device that answers with what stands in `types/images.txt`, and the normaliser, to what is published.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use tidegate::clock;
use tidegate::config::site::{Device, Framing, Parity, SerialLine, Site, Tag};
use tidegate::config::{self, finding};
use tidegate::driver::modbus::sunspec::Walk;
use tidegate::normalize::{Normalizer, Now};
use tidegate::poll::plan::{self, Block, Cost, Limits, NETWORK_LATENCY, SERIAL_LATENCY, contains};
use tidegate::reading::{Reading, Stamp, Timestamp, Update};
use tidegate::scan::{Data, Polled, Scan};
use tidegate::tag::{Area, Span, TagId};

use crate::{files, root};

/// What every tag of a device is called in an image.
const ALL: &str = "*";
/// What stands in place of a tag where registers have none.
const NO_TAG: &str = "-";

/// A device and what stands in its registers.
#[derive(Clone, Debug)]
struct Image {
    type_name: String,
    title: String,
    /// Tags that the device adds.
    own: Vec<String>,
    /// What its manual says that it takes.
    limits: Limits,
    /// Registers, and bits as 0 and 1.
    words: BTreeMap<(Area, u16), u16>,
    expected: BTreeMap<String, String>,
}

impl Image {
    fn new(head: &str) -> Image {
        let (type_name, title) = head.split_once(": ").unwrap_or((head, ""));
        Image {
            type_name: type_name.to_owned(),
            title: title.to_owned(),
            own: Vec::new(),
            limits: Limits::new(125, 2000),
            words: BTreeMap::new(),
            expected: BTreeMap::new(),
        }
    }

    /// What the device takes: `registers 60` and the like.
    fn limit(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |text: &&str| text.parse::<u16>().expect(line);
        match words.as_slice() {
            ["registers", most] => self.limits.registers = number(most),
            ["bits", most] => self.limits.bits = number(most),
            ["border", every] => self.limits.no_cross = NonZeroU16::new(number(every)),
            ["block", first, count] => {
                let (address, count) = (number(first), number(count));
                self.limits.whole_blocks.push(Span { area: Area::HoldingRegisters, address, count });
            }
            _ => panic!("{line}"),
        }
    }

    /// A row: where, which words, which tag, and what it is then.
    fn add(&mut self, line: &str) {
        let line = line.split('#').next().unwrap_or_default().trim();
        let (place, rest) = line.split_once("  ").expect(line);
        let (words, rest) = rest.trim().split_once("  ").expect(line);
        let (area, address) = at(place);
        for (offset, word) in (0..).zip(expanded(words)) {
            self.words.insert((area, address + offset), word);
        }
        if let Some((tag, value)) = rest.trim().split_once(" = ") {
            self.expected.insert(tag.to_owned(), value.to_owned());
        } else {
            assert_eq!(rest.trim(), NO_TAG, "{line}");
        }
    }

    /// All of `whole`, but for what stands here.
    fn over(mut self, whole: &Image) -> Image {
        for (at, word) in &whole.words {
            self.words.entry(*at).or_insert(*word);
        }
        let all = self.expected.remove(ALL);
        for (tag, value) in &whole.expected {
            self.expected.entry(tag.clone()).or_insert_with(|| all.as_ref().unwrap_or(value).clone());
        }
        Image { own: whole.own.clone(), limits: whole.limits.clone(), ..self }
    }

    /// What stands in `span`; `poison` where no row names a register, and whether a bit that none names is set.
    fn answer(&self, span: Span, poison: (u16, bool)) -> Data {
        let addresses = (u32::from(span.address)..span.end()).map(|at| u16::try_from(at).unwrap());
        let words = addresses.map(|at| self.words.get(&(span.area, at)).copied());
        match span.area {
            Area::Coils | Area::DiscreteInputs => {
                Data::Bits(words.map(|bit| bit.map_or(poison.1, |bit| bit != 0)).collect())
            }
            _ => Data::Words(words.map(|word| word.unwrap_or(poison.0)).collect()),
        }
    }
}

/// `hr:0x2006` and the like.
fn at(text: &str) -> (Area, u16) {
    let (prefix, number) = text.split_once(':').expect(text);
    let area = match prefix {
        "hr" => Area::HoldingRegisters,
        "ir" => Area::InputRegisters,
        "coil" => Area::Coils,
        "di" => Area::DiscreteInputs,
        _ => panic!("{text}"),
    };
    let address = match number.strip_prefix("0x") {
        Some(hex) => u16::from_str_radix(hex, 16),
        None => number.parse(),
    };
    (area, address.expect(text))
}

/// Words in hex; `0000*3` is three of them.
fn expanded(text: &str) -> Vec<u16> {
    let one = |text: &str| {
        let (hex, times) = text.split_once('*').unwrap_or((text, "1"));
        vec![u16::from_str_radix(hex, 16).expect(text); times.parse().expect(text)]
    };
    text.split_whitespace().flat_map(one).collect()
}

fn images() -> Vec<Image> {
    let text = std::fs::read_to_string(root().join("tests/it/types/images.txt")).unwrap();
    let mut images: Vec<Image> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        if let Some(head) = line.strip_prefix("== ") {
            images.push(Image::new(head));
            continue;
        }
        let image = images.last_mut().expect("a line belongs to an image");
        match line.split('#').next().unwrap_or_default().trim().split_once(' ') {
            Some(("!", limit)) => image.limit(limit),
            Some(("+", tag)) => image.own.push(tag.to_owned()),
            _ => image.add(line),
        }
    }
    let whole = |name: &str| images.iter().find(|image| image.type_name == name).unwrap();
    images.iter().map(|image| image.clone().over(whole(&image.type_name))).collect()
}

/// The shipped files that have types of Modbus.
fn shipped() -> String {
    let texts = files(&root().join("configs/types"), "toml");
    let texts = texts.iter().map(|path| std::fs::read_to_string(path).unwrap());
    texts.filter(|text| text.contains("\"modbus\"")).collect()
}

/// A site with the shipped types and a device for each image, whose number is its name.
fn site(images: &[Image]) -> Arc<Site> {
    let mut text = "[gateway]\nname = 'n'\nenterprise = 'e'\ntimezone = 'UTC'\n[uplink.u]\nbroker = 'mqtt://127.0.0.1'\n\
                    [link.l]\ntcp = '127.0.0.1:502'\n"
        .to_owned();
    text += &shipped();
    for (number, image) in images.iter().enumerate() {
        let own = image.own.join(", ");
        writeln!(text, "[device.{number}]\nlink = 'l'\ntype = '{}'\ntags = [{own}]", image.type_name)
            .unwrap();
    }
    let checked = config::parse("types.toml", &text);
    match checked.site {
        Ok(site) => Arc::new(site),
        Err(findings) => panic!("{}", finding::render_text(&findings, &checked.sources)),
    }
}

/// Where a device has its models, as its registers say.
fn walked(image: &Image) -> Walk {
    let mut walk = Walk::default();
    while let Some(span) = walk.next() {
        let Data::Words(words) = image.answer(span, (0xDEAD, false)) else { panic!("{span}") };
        walk.take(Some(&words));
    }
    walk
}

/// The tags that are read, with their registers; probes among them.
fn polled<'a>(site: &'a Site, device: &Device, image: &Image) -> Vec<(&'a Tag, Span)> {
    let walk = walked(image);
    let read = site.tags_of(device).iter().filter(|tag| tag.every.is_some());
    let placed = read.filter_map(|tag| {
        let layout = tag.layout()?;
        let span = layout.model.map_or(Some(layout.span), |model| walk.place(model, layout.span));
        Some((tag, span?))
    });
    placed.collect()
}

/// What a request costs on a network, and on a line.
fn costs() -> [Cost; 2] {
    let line = SerialLine { baud: 9600, data_bits: 8, parity: Parity::None, stop_bits: 1 };
    [Cost::network(NETWORK_LATENCY), Cost::serial(&line, Framing::Rtu, SERIAL_LATENCY)]
}

/// The requests for all tags of a device, or for those of one rate.
fn requests(site: &Site, device: &Device, image: &Image, rate: Option<Duration>, cost: Cost) -> Vec<Block> {
    let due = polled(site, device, image).into_iter().filter(|(tag, _)| rate.is_none() || tag.every == rate);
    let due: Vec<(TagId, Span)> = due.map(|(tag, span)| (tag.id, span)).collect();
    plan::plan(&due, &Limits::of(device), cost)
}

/// What forbids a request, if anything does.
fn forbids(span: Span, limits: &Limits) -> Option<String> {
    if limits.is_whole(span) {
        return None;
    }
    let most = if span.area.is_bits() { limits.bits } else { limits.registers };
    if span.count > most {
        return Some(format!("{span:?} is more than {most}"));
    }
    let overlaps = |other: &&Span| {
        other.area == span.area
            && u32::from(other.address) < span.end()
            && u32::from(span.address) < other.end()
    };
    if let Some(whole) = limits.whole_blocks.iter().chain(&limits.holes).find(overlaps) {
        return Some(format!("{span:?} has a part of {whole:?}"));
    }
    let border = limits.no_cross.filter(|_| !span.area.is_bits())?.get();
    (u32::from(span.address / border) != (span.end() - 1) / u32::from(border))
        .then(|| format!("{span:?} crosses a multiple of {border}"))
}

/// Reads all of `device` twice, so that what was read first knows what came later, and whoever warms up is warm; what was
/// told of each tag last.
fn read(site: &Arc<Site>, device: &Device, image: &Image, poison: (u16, bool)) -> BTreeMap<String, String> {
    let start = clock::monotonic();
    let now = |elapsed_ms| {
        let stamp = Stamp::Wall(Timestamp::from_millis(1_795_651_200_000 + elapsed_ms));
        Now { at: start + Duration::from_millis(elapsed_ms), stamp }
    };
    let mut normalizer = Normalizer::new(site.clone());
    normalizer.start(now(0));
    let mut told = BTreeMap::new();
    for now in [now(0), now(4000)] {
        for block in requests(site, device, image, None, costs()[0]) {
            let data = image.answer(block.span, poison);
            let scan = Scan { parts: block.parts, result: Ok(data), at: now.stamp };
            if let Some(Update::Readings(readings)) = normalizer.handle(Polled::Scan(scan), now) {
                told.extend(readings.iter().map(|reading| shown(site, reading)));
            }
        }
    }
    let read = site.tags_of(device).iter().filter(|tag| tag.is_read() && tag.every.is_some());
    let is_read: BTreeSet<&str> = read.map(|tag| &*tag.name).collect();
    told.retain(|name, _| is_read.contains(name.as_str()) && !name.starts_with('('));
    told
}

fn shown(site: &Site, reading: &Reading) -> (String, String) {
    let value = reading.value.as_ref().map_or("-".to_owned(), ToString::to_string);
    let quality =
        if reading.quality.is_good() { String::new() } else { format!("({})", reading.quality.id()) };
    (site.tags[reading.tag.index()].name.to_string(), format!("{value}{quality}"))
}

/// What differs, a line each.
fn differences(site: &Arc<Site>, device: &Device, image: &Image, poison: (u16, bool)) -> Vec<String> {
    let told = read(site, device, image, poison);
    let names: BTreeSet<&String> = told.keys().chain(image.expected.keys()).collect();
    let of = |all: &BTreeMap<String, String>, name| all.get(name).cloned().unwrap_or("nothing".to_owned());
    let mut all = Vec::new();
    for name in names {
        let (told, expected) = (of(&told, name), of(&image.expected, name));
        if told != expected {
            let Image { type_name, title, .. } = image;
            all.push(format!("{type_name} ({title}): {name} is {told}, and not {expected}"));
        }
    }
    all
}

#[test]
fn each_type_reads_what_stands_in_registers_that_were_written_by_hand() {
    let images = images();
    let site = site(&images);
    let mut all = Vec::new();
    for (image, device) in images.iter().zip(&site.devices) {
        for poison in [(0xDEAD, false), (0xBEEF, true)] {
            all.extend(differences(&site, device, image, poison));
        }
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}

/// With another word in any register of an image, something else is published.
#[test]
fn each_word_of_an_image_counts() {
    let images = images();
    let site = site(&images);
    let (mut words, mut unseen) = (0, BTreeMap::new());
    for (image, device) in images.iter().zip(&site.devices).filter(|(image, _)| image.title.is_empty()) {
        for (at, word) in &image.words {
            let mut spoilt = image.clone();
            let other = if at.0.is_bits() { word ^ 1 } else { !word };
            spoilt.words.insert(*at, other);
            words += 1;
            if differences(&site, device, &spoilt, (0xDEAD, false)).is_empty() {
                *unseen.entry(&*image.type_name).or_insert(0) += 1;
            }
        }
    }
    assert!(words > 300, "{words} words");
    // a text ends at its first NUL
    assert_eq!(unseen, BTreeMap::from([("schneider-iem3000", 16), ("sunspec-203", 43)]));
}

#[test]
fn no_request_to_a_device_of_a_type_is_more_than_it_takes() {
    let images = images();
    let site = site(&images);
    for (image, device) in images.iter().zip(&site.devices) {
        let (limits, wanted) = (&image.limits, polled(&site, device, image));
        let rates: BTreeSet<Option<Duration>> = wanted.iter().map(|(tag, _)| tag.every).collect();
        for (cost, rate) in costs().into_iter().flat_map(|cost| rates.iter().map(move |rate| (cost, *rate))) {
            for Block { span, .. } in requests(&site, device, image, rate, cost) {
                assert_eq!(forbids(span, limits), None, "{}", image.type_name);
            }
        }
        for cost in costs() {
            let blocks = requests(&site, device, image, None, cost);
            assert_eq!(
                blocks.iter().find_map(|block| forbids(block.span, limits)),
                None,
                "{:?}",
                device.type_name
            );
            let is_read = |(tag, span): &(&Tag, Span)| {
                let mut of = blocks.iter().filter(|block| block.parts.iter().any(|part| part.tag == tag.id));
                of.all(|block| contains(block.span, *span))
                    && blocks.iter().any(|block| contains(block.span, *span))
            };
            assert!(wanted.iter().all(is_read), "{:?}: every tag is read", device.type_name);
        }
    }
}

#[test]
fn a_request_that_is_too_long_or_crosses_a_border_or_cuts_a_block_is_seen() {
    let span = |address, count| Span { area: Area::HoldingRegisters, address, count };
    let no_cross = NonZeroU16::new(256);
    let limits = Limits { no_cross, whole_blocks: vec![span(3000, 20)], ..Limits::new(12, 16) };
    assert_eq!(forbids(span(0x7000, 12), &limits), None);
    assert_eq!(forbids(span(3000, 20), &limits), None);
    for wrong in [span(0x7000, 13), span(0x70FF, 2), span(3010, 2), span(2999, 2), span(3019, 2)] {
        assert!(forbids(wrong, &limits).is_some(), "{wrong:?}");
    }
}

#[test]
fn none_takes_the_place_of_a_probe_and_a_probe_that_of_none() {
    let text = format!(
        "[gateway]\nname = 'n'\nenterprise = 'e'\n[uplink.u]\nbroker = 'mqtt://127.0.0.1'\n\
         [link.l]\ntcp = '127.0.0.1:502'\n{}
         [type.unprobed]\nlike = 'eastron-sdm630'\nprobe = 'none'\n\
         [device.meter]\nlink = 'l'\ntype = 'eastron-sdm630'\n\
         [device.unprobed]\nlink = 'l'\ntype = 'unprobed'\n\
         [device.own]\nlink = 'l'\ntype = 'unprobed'\nprobe = {{ at = 'ir:0x46', type = 'f32', equals = 50 }}\n\
         [device.never]\nlink = 'l'\ntype = 'chint-dtsu666'\nprobe = 'none'\n",
        shipped()
    );
    let site = config::parse("types.toml", &text).site.unwrap();
    let probes = site.devices.iter().map(|device| (&*device.name, device.probes().count()));
    assert_eq!(probes.collect::<Vec<_>>(), [("meter", 1), ("unprobed", 0), ("own", 1), ("never", 0)]);
}

#[test]
fn each_shipped_type_of_modbus_has_an_image() {
    let of_images: BTreeSet<String> = images().into_iter().map(|image| image.type_name).collect();
    let name = |line: &str| Some(line.strip_prefix("[type.")?.split_once(']')?.0.to_owned());
    let shipped: BTreeSet<String> =
        shipped().lines().filter_map(name).filter(|name| !name.contains('.')).collect();
    assert_eq!(of_images, shipped);
}
