//! Whether each device is what it is taken for: what its probes show. Pure.

use std::collections::BTreeMap;

use crate::config::site::{Device, ProbeTest, Site};
use crate::reading::{Quality, Stamp, Value};
use crate::tag::{DeviceId, TagId};

/// What the probes of all devices have shown.
#[derive(Debug)]
pub struct Probes {
    /// By tag: which device it tells of, and what it must show.
    of: BTreeMap<TagId, (DeviceId, ProbeTest)>,
    shown: BTreeMap<TagId, bool>,
    /// By device: the probes of each of its variants.
    variants: Vec<Vec<Vec<TagId>>>,
    /// By device.
    fit: Vec<Fit>,
    /// What is to be doubted for nothing but that the probes have not been read yet.
    waiting: BTreeMap<TagId, Waiting>,
}

/// A value that was read before the probes of its device.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// What else it is to be doubted for.
    pub doubt: Quality,
    /// When it was read.
    pub at: Stamp,
    /// Which sample of its tag it was: nothing is known of another one.
    pub serial: u64,
}

/// Whether a device is what it is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Its probes have not all been read since it was there last.
    Unasked,
    /// It is this one of its variants: the first whose probes all hold, or that has none.
    Fits(usize),
    /// It is none of them: another device.
    Other,
}

impl Probes {
    /// Nothing has been read yet.
    #[must_use]
    pub fn new(site: &Site) -> Probes {
        let all = site
            .devices
            .iter()
            .flat_map(|device| device.probes().map(|probe| (probe.tag, (device.id, probe.test.clone()))));
        Probes {
            of: all.collect(),
            shown: BTreeMap::new(),
            variants: site.devices.iter().map(variants).collect(),
            fit: site.devices.iter().map(unasked).collect(),
            waiting: BTreeMap::new(),
        }
    }

    /// Whether a device is what it is taken for.
    #[must_use]
    pub fn fit(&self, device: DeviceId) -> Fit {
        self.fit.get(device.index()).copied().unwrap_or(Fit::Fits(0))
    }

    /// Whether a tag is a probe.
    #[must_use]
    pub fn is_probe(&self, tag: TagId) -> bool {
        !self.of.is_empty() && self.of.contains_key(&tag)
    }

    /// A probe was read, or refused; the device that it tells of.
    pub fn note(&mut self, tag: TagId, value: Option<&Value>, quality: Quality) -> Option<DeviceId> {
        let (device, test) = self.of.get(&tag)?;
        let device = *device;
        let holds = match value {
            Some(value) if !quality.is_bad() => test.holds(value),
            // it has no such register: it is another device
            _ if matches!(quality, Quality::BadConfig | Quality::BadDecode) => false,
            Some(_) | None => return None,
        };
        self.shown.insert(tag, holds);
        Some(device)
    }

    /// All probes of a scan have been noted: what the device is now, and what it was before, where that is something else.
    pub fn settle(&mut self, device: DeviceId) -> Option<(Fit, Fit)> {
        let fit = self.judge(device);
        let before = std::mem::replace(self.fit.get_mut(device.index())?, fit);
        (before != fit).then_some((fit, before))
    }

    /// The first variant of which no probe is known not to hold is the one, when all of its probes are known.
    fn judge(&self, device: DeviceId) -> Fit {
        let variants = self.variants.get(device.index()).map_or(&[][..], Vec::as_slice);
        for (number, probes) in variants.iter().enumerate() {
            let mut shown = probes.iter().map(|probe| self.shown.get(probe));
            if shown.clone().any(|shown| shown == Some(&false)) {
                continue;
            }
            return if shown.all(|shown| shown.is_some()) { Fit::Fits(number) } else { Fit::Unasked };
        }
        Fit::Other
    }

    /// The device has been away: another one may be there now.
    pub fn handle_away(&mut self, device: &Device) {
        if device.probes().next().is_none() {
            return;
        }
        self.fit.get_mut(device.id.index()).into_iter().for_each(|fit| *fit = Fit::Unasked);
        for probe in device.probes() {
            self.shown.remove(&probe.tag);
        }
    }

    /// A value is to be doubted until the probes of its device have been read.
    pub fn wait(&mut self, tag: TagId, waiting: Waiting) {
        self.waiting.insert(tag, waiting);
    }

    /// What a device has shown before its probes were read.
    pub fn take_waiting(&mut self, device: &Device) -> Vec<(TagId, Waiting)> {
        let of_device = device.tags.clone().map(TagId);
        of_device.filter_map(|tag| Some((tag, self.waiting.remove(&tag)?))).collect()
    }
}

fn unasked(device: &Device) -> Fit {
    if device.probes().next().is_none() { Fit::Fits(0) } else { Fit::Unasked }
}

fn variants(device: &Device) -> Vec<Vec<TagId>> {
    device.variants.iter().map(|variant| variant.probes.iter().map(|probe| probe.tag).collect()).collect()
}
