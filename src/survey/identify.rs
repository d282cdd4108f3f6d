//! Of which types a device is: those whose probes hold. Where several do, the one of whose tags the device lacks the
//! fewest, and then the one of which it has the most. Pure.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::config::site::{Device, Registers, Site, Tag};
use crate::dlt645::{Format, Identifier};
use crate::driver::modbus::sunspec::Walk;
use crate::normalize::decode::decode_at;
use crate::reading::Value;
use crate::scan::Data;
use crate::tag::Span;

/// So many tags of types that fit are read at most to tell them apart.
const READS_MAX: usize = 64;

/// What can be read of a device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place {
    /// Registers of a Modbus unit.
    Registers(Span),
    /// A data item of a meter.
    Item(Identifier, Format),
}

/// A type that a device may be of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fit {
    /// Which.
    pub type_name: Arc<str>,
    /// What has shown it, in words: of its probes, or of frames.
    pub shown: String,
    /// It was heard without being asked.
    pub is_heard: bool,
    /// All that speaks for it is zero, which registers are as well that mean nothing.
    pub is_weak: bool,
}

/// A device that is being asked of which type it is.
#[derive(Clone, Debug)]
pub struct Identify {
    /// Devices of the site of all types.
    candidates: Vec<usize>,
    /// What was read; `None`: the device does not have it.
    known: Vec<(Place, Option<Data>)>,
    walk: Walk,
}

impl Identify {
    /// Nothing has been asked yet; it may be of any of the types of `candidates`, indices into the devices of the site of all
    /// types.
    #[must_use]
    pub fn new(candidates: Vec<usize>) -> Identify {
        Identify { candidates, known: Vec::new(), walk: Walk::default() }
    }

    /// What is to be read next; `None`: everything that matters is known.
    #[must_use]
    pub fn next(&self, types: &Site) -> Option<Place> {
        let is_modelled = |device: &&Device| probed(types, device).any(|of| of.layout.model.is_some());
        if let Some(span) =
            self.walk.next().filter(|_| self.devices(types).any(|device| is_modelled(&device)))
        {
            return Some(Place::Registers(span));
        }
        let open = self.devices(types).filter(|device| self.holds(types, device) != Some(false));
        let mut probes = open.flat_map(|device| probed(types, device)).filter_map(|of| self.place(of));
        if let Some(place) = probes.find(|place| self.get(*place).is_none()) {
            return Some(place);
        }
        let fitting: Vec<&Device> =
            self.fitting(types).filter(|device| !self.is_weak(types, device)).collect();
        if fitting.len() < 2 || self.known.len() >= READS_MAX {
            return None;
        }
        let mut tags = fitting.into_iter().flat_map(|device| of_tags(types, device));
        tags.find_map(|of| self.place(of).filter(|place| self.get(*place).is_none()))
    }

    /// What [`Identify::next`] wanted is this; `None`: the device does not have it.
    pub fn take(&mut self, place: Place, data: Option<Data>) {
        if let Place::Registers(span) = place
            && self.walk.next() == Some(span)
        {
            self.walk.take(match &data {
                Some(Data::Words(words)) => Some(words),
                _ => None,
            });
        }
        self.known.push((place, data));
    }

    /// The types that fit, the likeliest first.
    #[must_use]
    pub fn fits(&self, types: &Site) -> Vec<Fit> {
        let fit = |device: &Device| {
            let (has, wanted) = self.count(types, device);
            let (type_name, shown) = (device.name.clone(), self.shown(types, device));
            let is_weak = self.is_weak(types, device);
            (wanted - has, has, Fit { type_name, shown, is_heard: false, is_weak })
        };
        let mut all: Vec<(usize, usize, Fit)> = self.fitting(types).map(fit).collect();
        all.sort_by_key(|(missing, has, fit)| (fit.is_weak, *missing, Reverse(*has)));
        all.into_iter().map(|(.., fit)| fit).collect()
    }

    /// Of the tags of a type that were asked for: how many the device has, and how many there are.
    fn count(&self, types: &Site, device: &Device) -> (usize, usize) {
        let asked = of_tags(types, device).filter_map(|of| self.get(self.place(of)?));
        asked.fold((0, 0), |(has, wanted), data| (has + usize::from(data.is_some()), wanted + 1))
    }

    fn devices<'a>(&'a self, types: &'a Site) -> impl Iterator<Item = &'a Device> {
        self.candidates.iter().filter_map(|index| types.devices.get(*index))
    }

    fn fitting<'a>(&'a self, types: &'a Site) -> impl Iterator<Item = &'a Device> {
        self.devices(types).filter(|device| self.holds(types, device) == Some(true))
    }

    fn get(&self, place: Place) -> Option<&Option<Data>> {
        self.known.iter().find(|(known, _)| *known == place).map(|(_, data)| data)
    }

    /// Where it lies; `None`: in a model that the device does not have.
    fn place(&self, of: &Registers) -> Option<Place> {
        match (of.digits, of.layout.model) {
            (Some((identifier, format)), _) => Some(Place::Item(identifier, format)),
            (None, None) => Some(Place::Registers(of.layout.span)),
            (None, Some(model)) => self.walk.place(model, of.layout.span).map(Place::Registers),
        }
    }

    /// The value that was read; `None`: the device has none there. Outer `None`: it was not asked for.
    fn value(&self, of: &Registers) -> Option<Option<Value>> {
        let Some(place) = self.place(of) else { return Some(None) };
        let data = self.get(place)?;
        Some(data.as_ref().and_then(|data| decode_at(of.layout, data, 0).ok()))
    }

    /// Whether all probes of a type hold; `None` while that is not known.
    fn holds(&self, types: &Site, device: &Device) -> Option<bool> {
        let mut is_open = false;
        for probe in device.variants.first().into_iter().flat_map(|variant| &variant.probes) {
            let of = types.tags.get(probe.tag.index()).and_then(Tag::registers)?;
            match self.value(of) {
                None => is_open = true,
                Some(Some(value)) if probe.test.holds(&value) => {}
                Some(_) => return Some(false),
            }
        }
        (!is_open).then_some(true)
    }

    /// Whether all probes show nothing but zero.
    fn is_weak(&self, types: &Site, device: &Device) -> bool {
        let is_zero = |value: Value| value == Value::Bool(false) || value.number() == Some(0.0);
        probed(types, device).filter_map(|of| self.value(of).flatten()).all(is_zero)
    }

    fn shown(&self, types: &Site, device: &Device) -> String {
        let one = |of: &Registers| {
            let place = match of.digits {
                Some((identifier, _)) => identifier.to_string(),
                None => of.layout.place(),
            };
            let value = self.value(of).flatten()?.to_string();
            // a text of the device may hold anything, and this ends up in comments
            Some(format!("{place} = {}", value.replace(char::is_control, " ").trim()))
        };
        probed(types, device).filter_map(one).collect::<Vec<_>>().join(", ")
    }
}

/// What the probes of a device's own type read.
fn probed<'a>(types: &'a Site, device: &'a Device) -> impl Iterator<Item = &'a Registers> {
    let probes = device.variants.first().into_iter().flat_map(|variant| &variant.probes);
    probes.filter_map(|probe| types.tags.get(probe.tag.index())?.registers())
}

/// What the tags of a device read that each device of the type has.
fn of_tags<'a>(types: &'a Site, device: &'a Device) -> impl Iterator<Item = &'a Registers> {
    let tags = types.tags_of(device).iter().filter(|tag| tag.every.is_some() && !tag.is_optional);
    tags.filter_map(Tag::registers)
}
