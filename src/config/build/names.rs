//! What a name of a tag means: of the same device, or, with `device:` before it, of another one.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::finding::did_you_mean;
use super::super::site::{Device, Tag};
use crate::tag::{DeviceId, TagId};

/// All devices and tags by their names.
#[derive(Debug, Default)]
pub(super) struct Names {
    devices: BTreeMap<Arc<str>, DeviceId>,
    tags: BTreeMap<DeviceId, BTreeMap<Arc<str>, TagId>>,
}

impl Names {
    pub(super) fn new<'a>(devices: &[Device], tags: impl Iterator<Item = &'a Tag>) -> Names {
        let mut names = Names::default();
        names.devices.extend(devices.iter().map(|device| (device.name.clone(), device.id)));
        for tag in tags {
            names.tags.entry(tag.device).or_default().insert(tag.name.clone(), tag.id);
        }
        names
    }

    /// The tag that `name` means where `device` says it.
    ///
    /// # Errors
    /// What there is in its place.
    pub(super) fn find(&self, device: DeviceId, name: &str) -> Result<TagId, String> {
        let (of, tag) = match name.split_once(':') {
            None => (device, name),
            Some((other, tag)) => match self.devices.get(other) {
                Some(other) => (*other, tag),
                None => {
                    let near = did_you_mean(other, self.devices.keys().map(|known| &**known));
                    return Err(with_help(format!("there is no device `{other}`"), near));
                }
            },
        };
        let known = self.tags.get(&of);
        known.and_then(|known| known.get(tag)).copied().ok_or_else(|| {
            let near = did_you_mean(tag, known.iter().flat_map(|known| known.keys()).map(|known| &**known));
            with_help(format!("no tag is called `{name}`"), near)
        })
    }
}

fn with_help(message: String, help: Option<String>) -> String {
    match help {
        Some(help) => format!("{message}: {help}"),
        None => message,
    }
}
