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
    /// All hold, or it has none.
    Fits,
    /// One does not hold: it is another device.
    Other,
}

impl Probes {
    /// Nothing has been read yet.
    #[must_use]
    pub fn new(site: &Site) -> Probes {
        let all = site.devices.iter().flat_map(|device| {
            device.probes.iter().map(|probe| (probe.tag, (device.id, probe.test.clone())))
        });
        Probes {
            of: all.collect(),
            shown: BTreeMap::new(),
            fit: site.devices.iter().map(unasked).collect(),
            waiting: BTreeMap::new(),
        }
    }

    /// Whether a device is what it is taken for.
    #[must_use]
    pub fn fit(&self, device: DeviceId) -> Fit {
        self.fit.get(device.index()).copied().unwrap_or(Fit::Fits)
    }

    /// Whether a tag is a probe.
    #[must_use]
    pub fn is_probe(&self, tag: TagId) -> bool {
        !self.of.is_empty() && self.of.contains_key(&tag)
    }

    /// A probe was read, or refused. The device, and whether it fits, where that has changed.
    pub fn handle(&mut self, tag: TagId, value: Option<&Value>, quality: Quality) -> Option<(DeviceId, Fit)> {
        let (device, test) = self.of.get(&tag)?;
        let device = *device;
        let holds = match value {
            Some(value) if !quality.is_bad() => test.holds(value),
            // it has no such register: it is another device
            _ if matches!(quality, Quality::BadConfig | Quality::BadDecode) => false,
            Some(_) | None => return None,
        };
        self.shown.insert(tag, holds);
        let shown = self.of.iter().filter(|(_, (of, _))| *of == device).map(|(tag, _)| self.shown.get(tag));
        let fit = shown.fold(Fit::Fits, |fit, shown| match (fit, shown) {
            (Fit::Other, _) | (_, Some(false)) => Fit::Other,
            (Fit::Unasked, _) | (_, None) => Fit::Unasked,
            (Fit::Fits, Some(true)) => Fit::Fits,
        });
        let known = self.fit.get_mut(device.index())?;
        (std::mem::replace(known, fit) != fit).then_some((device, fit))
    }

    /// The device has been away: another one may be there now.
    pub fn handle_away(&mut self, device: &Device) {
        if device.probes.is_empty() {
            return;
        }
        self.fit.get_mut(device.id.index()).into_iter().for_each(|fit| *fit = Fit::Unasked);
        for probe in &device.probes {
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
    if device.probes.is_empty() { Fit::Fits } else { Fit::Unasked }
}
