//! Tags that are read in one of several ways: the variant that their device is says in which. Pure.

use std::collections::BTreeMap;

use crate::config::site::{Device, Site, Source};
use crate::reading::{Quality, Stamp, Value};
use crate::tag::TagId;

/// What the hidden tags have read that stand for others.
#[derive(Debug)]
pub struct Ways {
    /// By hidden tag: the one that it stands for.
    shown: BTreeMap<TagId, TagId>,
    /// What each hidden tag has read last, since its device was away.
    last: BTreeMap<TagId, Sample>,
}

/// What was read of a tag.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The value, or why there is none.
    pub value: Result<Value, Quality>,
    /// What it is to be doubted for.
    pub doubt: Quality,
    /// What it says of the tags that it colours.
    pub colour: Quality,
    /// When it was read.
    pub at: Stamp,
}

impl Ways {
    /// Nothing has been read yet.
    #[must_use]
    pub fn new(site: &Site) -> Ways {
        let mut shown = BTreeMap::new();
        for tag in &site.tags {
            if let Source::Chosen(readers) = &tag.source {
                shown.extend(readers.iter().map(|reader| (*reader, tag.id)));
            }
        }
        Ways { shown, last: BTreeMap::new() }
    }

    /// The tag that a hidden one stands for; `None`: it is none of those.
    #[must_use]
    pub fn shown_by(&self, reader: TagId) -> Option<TagId> {
        if self.shown.is_empty() { None } else { self.shown.get(&reader).copied() }
    }

    /// Takes what a hidden tag has read.
    pub fn keep(&mut self, reader: TagId, sample: Sample) {
        self.last.insert(reader, sample);
    }

    /// Which tags of a device show which hidden one from now on, when it is its `variant`; and what that has read last.
    #[must_use]
    pub fn choose(
        &self,
        site: &Site,
        device: &Device,
        variant: usize,
    ) -> Vec<(TagId, TagId, Option<Sample>)> {
        let chosen = site.tags_of(device).iter().filter_map(|tag| match &tag.source {
            Source::Chosen(readers) => Some((tag.id, *readers.get(variant)?)),
            Source::Registers(_) | Source::Constant(_) | Source::Computed | Source::Control(_) => None,
        });
        chosen.map(|(tag, reader)| (tag, reader, self.last.get(&reader).cloned())).collect()
    }

    /// The device has been away: another one may be there now.
    pub fn handle_away(&mut self, device: &Device) {
        self.last.retain(|reader, _| !device.tags.contains(&reader.0));
    }
}

/// Whether there is no value because the device cannot be asked, in whatever way.
#[must_use]
pub const fn is_out_of_reach(quality: Quality) -> bool {
    matches!(
        quality,
        Quality::BadNotConnected
            | Quality::BadCommLastValueKnown
            | Quality::BadNoCommunication
            | Quality::BadOutOfService
    )
}
