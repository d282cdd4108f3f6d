//! What of a site is served: each device as the first of its variants, SunSpec models from 40000 on. Pure.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::config::site::{Registers, Site, Source, Tag};
use crate::tag::DeviceId;

/// Where a device's SunSpec models begin.
const BASE: u16 = 40_000;
/// "SunS"
const MARKER: [u16; 2] = [0x5375, 0x6E53];

/// A register that no tag has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fixed {
    pub(super) device: DeviceId,
    pub(super) address: u16,
    pub(super) word: u16,
}

/// The site whose tags lie where they are served, and the registers that say where models are.
pub(super) fn served(site: &Site) -> (Site, Vec<Fixed>) {
    let mut site = site.clone();
    as_first_variant(&mut site);
    let mut fixed = Vec::new();
    for (id, tags) in site.devices.iter().map(|device| (device.id, device.tags.clone())).collect::<Vec<_>>() {
        fixed.extend(lay_models(tags_in(&mut site.tags, tags), id));
    }
    (site, fixed)
}

fn tags_in(tags: &mut [Tag], range: Range<u32>) -> &mut [Tag] {
    let index = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    tags.get_mut(index(range.start)..index(range.end)).unwrap_or_default()
}

/// What is read in several ways is read in the first; what only the others read is not there.
fn as_first_variant(site: &mut Site) {
    let mut unread = Vec::new();
    for device in &mut site.devices {
        let others = device.variants.iter().skip(1).flat_map(|variant| &variant.probes);
        unread.extend(others.map(|probe| probe.tag));
        device.variants.truncate(1);
    }
    for index in 0..site.tags.len() {
        let Some(Source::Chosen(readers)) = site.tags.get(index).map(|tag| tag.source.clone()) else {
            continue;
        };
        let first =
            readers.first().and_then(|reader| site.tags.get(reader.index())).map(|tag| tag.source.clone());
        unread.extend(readers);
        if let (Some(tag), Some(first)) = (site.tags.get_mut(index), first) {
            tag.source = first;
        }
    }
    for id in unread {
        site.tags.get_mut(id.index()).into_iter().for_each(|tag| tag.source = Source::Computed);
    }
}

fn in_model(tag: &mut Tag) -> Option<&mut Registers> {
    match &mut tag.source {
        Source::Registers(registers) if registers.layout.model.is_some() => Some(registers),
        Source::Registers(_)
        | Source::Constant(_)
        | Source::Computed
        | Source::Chosen(_)
        | Source::Control(_) => None,
    }
}

/// Lays the models that `tags` name one behind the other, each as long as they need it; the registers around them.
fn lay_models(tags: &mut [Tag], device: DeviceId) -> Vec<Fixed> {
    let mut lengths: BTreeMap<u16, u16> = BTreeMap::new();
    for layout in tags.iter_mut().filter_map(in_model).map(|registers| registers.layout) {
        let end = u16::try_from(layout.span.end()).unwrap_or(u16::MAX);
        let length = lengths.entry(layout.model.unwrap_or_default()).or_default();
        *length = end.saturating_sub(2).max(*length);
    }
    let mut words = Vec::new();
    let mut bases = BTreeMap::new();
    let mut address = BASE;
    let mut put = |address: &mut u16, pair: [u16; 2]| {
        words.extend((*address..).zip(pair));
        *address = address.saturating_add(2);
    };
    if !lengths.is_empty() {
        put(&mut address, MARKER);
        for (model, length) in lengths {
            bases.insert(model, address);
            put(&mut address, [model, length]);
            address = address.saturating_add(length);
        }
        put(&mut address, [0xFFFF, 0]);
    }
    for registers in tags.iter_mut().filter_map(in_model) {
        let base = registers.layout.model.take().and_then(|model| bases.get(&model));
        let address = &mut registers.layout.span.address;
        *address = address.saturating_add(base.copied().unwrap_or_default());
    }
    words.into_iter().map(|(address, word)| Fixed { device, address, word }).collect()
}
