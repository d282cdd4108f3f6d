//! Whether types do what their manuals print: the `examples` of described instruments, through the whole normalising.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::clock;
use crate::config::site::serial::{Instrument, Request};
use crate::config::site::{Device, DeviceProtocol, Site};
use crate::driver::serial::example::run_example;
use crate::normalize::{Normalizer, Now};
use crate::reading::{Quality, Stamp, Timestamp, Update, Value};
use crate::scan::{Data, Part, Polled, Raw, Scan};

/// What differs, a sentence each; a type is tried once, by the first device that is of it.
pub(super) fn differences(site: &Arc<Site>) -> Vec<String> {
    let mut tried = BTreeSet::new();
    let mut all = Vec::new();
    for device in &site.devices {
        let DeviceProtocol::Serial(instrument, _) = &device.protocol else { continue };
        let name = device.type_name.as_deref().unwrap_or(&device.name);
        if !tried.insert(name) {
            continue;
        }
        for (number, example) in (1..).zip(&instrument.examples) {
            let publish = |request: &Request, fields: &[Result<Option<Raw>, Quality>]| {
                published(site, device, instrument, request, fields)
            };
            if let Err(why) = run_example(instrument, example, clock::monotonic(), publish) {
                all.push(format!("{name}: example {number}: {why}"));
            }
        }
    }
    all
}

/// The values of the tags of `device` that are fields of `request`, by name.
fn published(
    site: &Arc<Site>,
    device: &Device,
    instrument: &Instrument,
    request: &Request,
    fields: &[Result<Option<Raw>, Quality>],
) -> BTreeMap<Arc<str>, Value> {
    let index = instrument.requests.iter().position(|known| known.name == request.name);
    let (mut parts, mut values) = (Vec::new(), Vec::new());
    for tag in site.tags_of(device) {
        let Some(registers) = tag.registers() else { continue };
        let is_of_request = Some(usize::from(registers.layout.span.address)) == index;
        let Some(Ok(Some(raw))) =
            registers.field.filter(|_| is_of_request).and_then(|field| fields.get(field))
        else {
            continue;
        };
        let offset = u16::try_from(values.len()).unwrap_or(u16::MAX);
        parts.push(Part { tag: tag.id, offset });
        values.push(Ok(raw.clone()));
    }
    let now = Now { at: clock::monotonic(), stamp: Stamp::Wall(Timestamp::default()) };
    let scan = Scan { parts: parts.into(), result: Ok(Data::Values(values)), at: now.stamp };
    let mut normalizer = Normalizer::new(site.clone());
    let Some(Update::Readings(readings)) = normalizer.handle(Polled::Scan(scan), now) else {
        return BTreeMap::new();
    };
    let named = readings.iter().filter_map(|reading| {
        let tag = site.tags.get(reading.tag.index())?;
        Some((tag.name.clone(), reading.value.clone()?))
    });
    named.collect()
}
