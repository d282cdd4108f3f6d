//! Meters of DL/T 645 on a floor that is made from a site. Pure.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::super::{Digits, Item, Meter, Motion, Standard, Step};
use super::value::Values;
use super::{Untold, far_end_of, line_of};
use crate::config::site::{self, DeviceProtocol, Parity, SerialLine, Site, Tag};
use crate::dlt645::{Address, Format, Identifier};
use crate::tag::DataType;

/// How a meter leaves the factory, for one that is on no line.
const FACTORY: SerialLine = SerialLine { baud: 2400, data_bits: 8, parity: Parity::Even, stop_bits: 1 };
/// The most bytes of values in a frame.
const PART_MAX: usize = 195;
/// The address of a meter that is asked by none.
const ANYBODY: u64 = 1;

/// The meters of `site`, and which of their tags cannot be told.
pub(super) fn meters(site: &Site, values: &Values<'_>) -> (Vec<Meter>, Vec<Untold>) {
    let (mut meters, mut untold) = (Vec::<Meter>::new(), Vec::new());
    for device in &site.devices {
        let DeviceProtocol::Dlt645(of) = &device.protocol else { continue };
        let Some(link) = far_end_of(site, device) else { continue };
        let address = address(of.address);
        let tags = site.tags_of(device).iter().filter(|tag| tag.registers().is_some());
        if meters.iter().any(|other| other.link == link && other.address == address) {
            let why = "another device has its address: two meters would answer at once";
            untold.extend(tags.map(|tag| Untold { tag: site.full_name(tag.id), why: why.to_owned() }));
            continue;
        }
        let (mut items, mut standard) = (BTreeMap::<u32, Item>::new(), Standard::Of2007);
        for tag in tags {
            match item(tag, values) {
                Ok((item, of)) => {
                    standard = of;
                    let is_needed = values.is_needed(tag.id);
                    match items.entry(item.identifier) {
                        Entry::Vacant(vacant) => drop(vacant.insert(item)),
                        // what a probe reads of it is as good as what its tag reads
                        Entry::Occupied(mut other) if is_needed => other.get_mut().motion = item.motion,
                        Entry::Occupied(_) => {
                            let why = "another tag is the same item of the meter".to_owned();
                            untold.push(Untold { tag: site.full_name(tag.id), why });
                        }
                    }
                }
                Err(why) => untold.push(Untold { tag: site.full_name(tag.id), why }),
            }
        }
        fill(&mut items, standard);
        meters.push(Meter {
            name: device.name.clone(),
            link,
            address,
            standard,
            line: line_of(site, device).unwrap_or(FACTORY),
            part_max: PART_MAX,
            items: items.into_values().collect(),
        });
    }
    (meters, untold)
}

/// What a tag reads, and by which standard.
fn item(tag: &Tag, values: &Values<'_>) -> Result<(Item, Standard), String> {
    let none = || "the simulator's meters have numbers only".to_owned();
    let registers = tag.registers().ok_or_else(none)?;
    let Some((identifier, Format::Number(number))) = registers.digits else { return Err(none()) };
    let (identifier, standard) = match identifier {
        Identifier::V1997(bytes) => (u16::from_be_bytes(bytes).into(), Standard::Of1997),
        Identifier::V2007(bytes) => (u32::from_be_bytes(bytes), Standard::Of2007),
    };
    let digits = Digits { count: number.digits(), decimals: 0, is_signed: number.is_signed() };
    // its digits as a whole number, and the point as the first step to the value
    let held = DataType::Bcd { digits: digits.count - u8::from(digits.is_signed) };
    let point = (number.decimals() > 0).then(|| Step::Over(10_f64.powi(number.decimals().into())));
    let (motion, steps) = values.digits(tag, site::Layout { data_type: held, ..registers.layout }, point)?;
    Ok((Item { name: tag.name.clone(), identifier, digits, motion, steps, is_told: true }, standard))
}

/// Adds what lies between the items of a block: a meter has all of its phases and tariffs.
fn fill(items: &mut BTreeMap<u32, Item>, standard: Standard) {
    let own: Vec<Item> = items.values().cloned().collect();
    for item in own {
        let [.., di1, di0] = item.identifier.to_be_bytes();
        let identifier = match standard {
            Standard::Of1997 => Identifier::V1997([di1, di0]),
            Standard::Of2007 => Identifier::V2007(item.identifier.to_be_bytes()),
        };
        let Some((block, index)) = identifier.block() else { continue };
        let block = match block {
            Identifier::V1997(bytes) => u16::from_be_bytes(bytes).into(),
            Identifier::V2007(bytes) => u32::from_be_bytes(bytes),
        };
        // the lowest bit in which items of the block differ
        let step = match standard {
            Standard::Of1997 => 1,
            Standard::Of2007 if block & 0xFF == 0xFF => 1,
            Standard::Of2007 => 0x100,
        };
        for lower in
            (1..=u32::try_from(index).unwrap_or_default()).map(|below| item.identifier - below * step)
        {
            let other = || Item {
                identifier: lower,
                motion: Motion::Ramp { start: i64::from(lower & 0xFF), step: 0 },
                is_told: false,
                ..item.clone()
            };
            items.entry(lower).or_insert_with(other);
        }
    }
}

/// The number of a meter that is asked by this address, which may be meant for any.
fn address(address: Address) -> u64 {
    let digit = |digit: u8| u64::from(digit).min(10) % 10;
    let number = address
        .to_wire()
        .into_iter()
        .rev()
        .fold(0, |number, pair| number * 100 + digit(pair >> 4) * 10 + digit(pair & 0x0F));
    if number == 0 { ANYBODY } else { number }
}
