//! What a tag is called in a segment, and which tag of the present configuration that is. Pure.

use std::sync::Arc;

use crate::config::site::Site;
use crate::tag::TagId;

/// Device and name of every tag, both ways.
#[derive(Clone, Debug)]
pub(super) struct Names {
    site: Arc<Site>,
    /// All tags, ordered by device and name.
    sorted: Arc<[TagId]>,
}

impl Names {
    pub(super) fn new(site: Arc<Site>) -> Names {
        let mut sorted: Vec<TagId> = site.tags.iter().map(|tag| tag.id).collect();
        sorted.sort_by(|a, b| of(&site, *a).cmp(&of(&site, *b)));
        Names { site, sorted: sorted.into() }
    }

    /// Device and name of a tag.
    pub(super) fn of(&self, tag: TagId) -> Option<(&str, &str)> {
        of(&self.site, tag)
    }

    /// The tag that is called so now.
    pub(super) fn find(&self, device: &str, name: &str) -> Option<TagId> {
        let found = self.sorted.binary_search_by(|tag| of(&self.site, *tag).cmp(&Some((device, name))));
        found.ok().and_then(|index| self.sorted.get(index)).copied()
    }
}

fn of(site: &Site, tag: TagId) -> Option<(&str, &str)> {
    let tag = site.tags.get(tag.index())?;
    let device = site.devices.get(tag.device.index())?;
    Some((&device.name, &tag.name))
}
