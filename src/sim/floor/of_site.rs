//! A floor made from a checked site: every tag that is read gets a point, or an item of a meter, which moves as such a thing
//! does, and every instrument says what the examples of its type say. Pure.
//!
//! Registers that several tags share are one thing with several views: the widest tag moves, the others show what its
//! registers hold. Tags on which others depend (transformers, powers of ten) stand still. What a tag is that an expression
//! makes cannot be told without the gateway's own arithmetic: its registers move, and its value is not noted.

mod form;
mod instrument;
mod meter;
mod served;
mod value;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Device, Floor, Form, Instrument, Layout, Meter, Motion, Point, Table, Truth, encode};
use crate::config::site::{self, Endpoint, Kind, SerialLine, Site, Tag};
use crate::reading::Timestamp;
use crate::tag::{DataType, DeviceId};
use served::{Fixed, served};
use value::Values;

/// How long a number holds of which several tags show single bits.
const PATTERN_SECONDS: u64 = 3;
/// Of so many single views a number that they share shows each alone.
const PATTERNS_MAX: usize = 64;

/// Why it cannot be told what a tag is; its registers may move all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untold {
    /// `device:tag`
    pub tag: String,
    /// In words.
    pub why: String,
}

/// What stands on the floor of a site.
#[derive(Clone, Debug)]
pub struct Made {
    /// The devices that speak Modbus.
    pub devices: Vec<Device>,
    /// The meters.
    pub meters: Vec<Meter>,
    /// The instruments.
    pub instruments: Vec<Instrument>,
    /// The tags that are served, or should be, and cannot be told.
    pub untold: Vec<Untold>,
}

impl Made {
    /// The floor itself.
    #[must_use]
    pub fn into_floor(self) -> Floor {
        Floor::new(self.devices).with_meters(self.meters).with_instruments(self.instruments)
    }
}

/// The floor of `site`, on which clocks show `start` at the beginning.
#[must_use]
pub fn floor_of(site: &Site, start: Timestamp) -> Made {
    let (site, fixed) = served(site);
    let site = &site;
    let values = Values::new(site, start);
    let mut units: BTreeMap<(Arc<str>, u8), Vec<&site::Device>> = BTreeMap::new();
    for device in site.devices.iter().filter(|device| device.protocol.is_modbus()) {
        if let Some(name) = far_end_of(site, device) {
            units.entry((name, device.unit.0)).or_default().push(device);
        }
    }
    let (mut devices, mut untold) = (Vec::new(), Vec::new());
    for ((link, unit), of) in units {
        let tags = of.iter().flat_map(|device| site.tags_of(device)).collect();
        let mut content = Unit { site, values: &values, tags, points: Vec::new(), untold: Vec::new() };
        let around = fixed.iter().filter(|fixed| of.iter().any(|device| device.id == fixed.device));
        content.points.extend(around.map(|fixed| (fixed.device, Arc::new(unnamed(*fixed)))));
        content.fill();
        devices.extend(of.iter().map(|device| Device {
            name: device.name.clone(),
            link: link.clone(),
            unit,
            baud: device.line.map(|line| line.baud),
            points: content.points_of(device.id),
        }));
        untold.append(&mut content.untold);
    }
    let (meters, of_meters) = meter::meters(site, &values);
    let (instruments, of_instruments) = instrument::instruments(site);
    untold.extend(of_meters.into_iter().chain(of_instruments));
    Made { devices, meters, instruments, untold }
}

/// A register that is told of no tag.
fn unnamed(Fixed { address, word, .. }: Fixed) -> Point {
    let layout = Layout::new(Form::Whole(1));
    let name = format!("(register {address})");
    let mut point = Point::new(&name, Table::HoldingRegisters, address, layout, Motion::fixed(word.into()));
    point.is_told = false;
    point
}

/// Speed and frame of the line for a device; `None`: it is on none.
fn line_of(site: &Site, device: &site::Device) -> Option<SerialLine> {
    let of_link = || match site.links.get(device.link)?.endpoint {
        Endpoint::Serial { line, .. } => Some(line),
        Endpoint::Tcp { .. } | Endpoint::Listen(_) => None,
    };
    device.line.or_else(of_link)
}

/// What the far end of a device's link is called on the floor: the link's name, and that of the caller where units dial in.
/// `None`: it is on no link.
#[must_use]
pub fn far_end_of(site: &Site, device: &site::Device) -> Option<Arc<str>> {
    let link = site.links.get(device.link)?;
    Some(match &device.caller {
        Some(caller) => format!("{}/{caller}", link.name).into(),
        None => link.name.clone(),
    })
}

/// What answers at one address of a link; several devices may be views of it.
struct Unit<'a> {
    site: &'a Site,
    values: &'a Values<'a>,
    tags: Vec<&'a Tag>,
    points: Vec<(DeviceId, Arc<Point>)>,
    untold: Vec<Untold>,
}

impl Unit<'_> {
    fn points_of(&self, device: DeviceId) -> Vec<Point> {
        let own = self.points.iter().filter(|(of, _)| *of == device);
        own.map(|(_, point)| Point::clone(point)).collect()
    }

    /// Places what others depend on first, then what takes most registers, then parts of registers.
    fn fill(&mut self) {
        let mut tags: Vec<_> = self.tags.iter().filter_map(|tag| Some((*tag, tag.layout()?))).collect();
        tags.sort_by_key(|(tag, layout)| {
            (!self.values.is_needed(tag.id), layout.data_type.is_part(), Reverse(layout.span.count))
        });
        for (tag, layout) in tags {
            let (mut point, mut why) = self.values.point(tag, layout);
            match self.place(&mut point, layout.data_type.is_signed()) {
                Ok(()) => {
                    self.share_bits(tag, &mut point);
                    self.points.push((tag.device, Arc::new(point)));
                }
                Err(clash) => why = Some(clash),
            }
            self.untold.extend(why.map(|why| Untold { tag: self.site.full_name(tag.id), why }));
        }
    }

    /// Makes the point a view of another where they have registers in common.
    fn place(&self, point: &mut Point, is_signed: bool) -> Result<(), String> {
        let Some((_, other)) = self.points.iter().find(|(_, other)| overlaps(point, other)) else {
            return Ok(());
        };
        let is_same = other.address == point.address && other.layout == point.layout;
        if is_same && !matches!(other.motion, Motion::Shown { .. }) {
            point.motion = other.motion.clone();
            if is_text(point) {
                point.words = other.words.clone();
            }
            return Ok(());
        }
        let widest = match &other.motion {
            Motion::Shown { by, .. } => by,
            Motion::Wave { .. }
            | Motion::Ramp { .. }
            | Motion::Blink { .. }
            | Motion::Script(_)
            | Motion::Job(_)
            | Motion::Words(_)
            | Motion::Clock(_)
            | Motion::Walk { .. }
            | Motion::Count { .. } => other,
        };
        if lies_in(point, widest) && encode::seen(point.layout, &[0; 4], is_signed).is_some() {
            point.motion = Motion::Shown { by: widest.clone(), is_signed };
            return Ok(());
        }
        Err(format!("`{}` means something else by the same registers", other.name))
    }

    /// A number of which others show single bits shows each of them.
    fn share_bits(&self, tag: &Tag, point: &mut Point) {
        let is_free = matches!(tag.kind, Kind::Measurement | Kind::State)
            && matches!(point.layout.form, Form::Whole(_))
            && matches!(point.motion, Motion::Wave { .. } | Motion::Walk { .. })
            && point.words.is_empty();
        if !is_free {
            return;
        }
        let parts = self.tags.iter().filter_map(|tag| Some((*tag, tag.layout()?)));
        let parts = parts.filter(|(_, layout)| layout.data_type.is_part());
        let views = parts.map(|(tag, layout)| self.values.point(tag, layout).0);
        let masks: Vec<i64> = views.filter_map(|view| mask_in(&view, point)).take(PATTERNS_MAX).collect();
        if masks.is_empty() {
            return;
        }
        let all = masks.iter().fold(0, |all, mask| all | mask);
        let numbers = [0].into_iter().chain(masks).chain([all]).collect();
        point.motion = Motion::Walk { numbers, seconds: PATTERN_SECONDS };
    }
}

/// The bits of the number in `whole` that `view` has; `None` where it has none, or the sign.
fn mask_in(view: &Point, whole: &Point) -> Option<i64> {
    if !lies_in(view, whole) || !overlaps(view, whole) {
        return None;
    }
    let mut words = vec![0; encode::occupied(whole.layout).len()];
    let first = usize::from(view.address - whole.address);
    for (word, bits) in words.iter_mut().skip(first).zip(encode::occupied(view.layout)) {
        *word = bits;
    }
    match encode::seen(whole.layout, &words, false)? {
        Truth::Integer(mask) => {
            let is_sign = mask >> (words.len() * 16 - 1) == 1;
            i64::try_from(mask).ok().filter(|_| !is_sign)
        }
        Truth::Bool(_) | Truth::Float(_) | Truth::Double(_) | Truth::Text(_) | Truth::Time(_) => None,
    }
}

const fn is_text(point: &Point) -> bool {
    matches!(point.layout.form, Form::Text(_) | Form::Gbk(_) | Form::Letters(_))
}

fn end(point: &Point) -> usize {
    usize::from(point.address) + encode::occupied(point.layout).len()
}

/// Whether all registers of `view` are of `whole` too.
fn lies_in(view: &Point, whole: &Point) -> bool {
    view.table == whole.table && view.address >= whole.address && end(view) <= end(whole)
}

/// Whether any bit is of both.
fn overlaps(one: &Point, other: &Point) -> bool {
    let bits = |point: &Point| {
        let places = usize::from(point.address)..;
        places.zip(encode::occupied(point.layout)).collect::<BTreeMap<_, _>>()
    };
    let others = bits(other);
    let is_shared = |(place, mask): (usize, u16)| others.get(&place).is_some_and(|of| of & mask != 0);
    one.table == other.table && bits(one).into_iter().any(is_shared)
}

/// Whether the registers of such a value are a number by themselves.
const fn is_number(data_type: DataType) -> bool {
    data_type.is_number() && !matches!(data_type, DataType::Words)
}

#[cfg(test)]
mod tests;
