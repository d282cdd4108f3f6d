//! Which tags may leave by which uplink.

use super::Site;
use crate::tag::{DeviceId, TagId};

/// The sharing class of a tag: how far its readings may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Share {
    /// They never leave the gateway.
    Private,
    /// To brokers of the firm.
    #[default]
    Enterprise,
    /// To the cluster of firms.
    Cluster,
    /// To the cluster only as means and extremes of a window, to the firm as they are.
    Aggregate,
    /// What has been made of an [`Share::Aggregate`] tag in a window: to where its own readings may not go. No tag is given
    /// this class or the next one: the gateway's own tags have them.
    Window,
    /// What has been made of the whole site: wherever [`Share::Aggregate`] is named.
    Summary,
}

impl Share {
    /// Those that a tag may be given.
    const ALL: [Share; 4] = [Share::Private, Share::Enterprise, Share::Cluster, Share::Aggregate];
    /// The words of the configuration.
    pub const WORDS: [&'static str; 4] = ["private", "enterprise", "cluster", "aggregate"];

    /// The class with this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Share> {
        Share::ALL.into_iter().zip(Share::WORDS).find(|(_, known)| *known == word).map(|(share, _)| share)
    }
}

/// The classes that may leave by an uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shares(Vec<Share>);

impl Default for Shares {
    /// All but private.
    fn default() -> Shares {
        Shares(vec![Share::Enterprise, Share::Cluster, Share::Aggregate])
    }
}

impl Shares {
    /// These, whatever else they hold never private.
    #[must_use]
    pub fn new(mut classes: Vec<Share>) -> Shares {
        classes.retain(|share| *share != Share::Private);
        Shares(classes)
    }

    /// Whether readings of this class leave as they are.
    #[must_use]
    pub fn takes(&self, share: Share) -> bool {
        match share {
            Share::Aggregate => self.0.contains(&share) && self.0.contains(&Share::Enterprise),
            Share::Window => self.takes_aggregates_only(),
            Share::Summary => self.0.contains(&Share::Aggregate),
            Share::Private | Share::Enterprise | Share::Cluster => self.0.contains(&share),
        }
    }

    /// Whether readings of [`Share::Aggregate`] leave only as means and extremes.
    #[must_use]
    pub fn takes_aggregates_only(&self) -> bool {
        self.0.contains(&Share::Aggregate) && !self.0.contains(&Share::Enterprise)
    }
}

/// What of a site may leave by one uplink.
#[derive(Clone, Debug)]
pub struct Shared {
    /// By tag.
    tags: Vec<bool>,
    /// By device: whether anything of it may.
    devices: Vec<bool>,
}

impl Shared {
    /// What `shares` lets out of `site`.
    #[must_use]
    pub fn new(site: &Site, shares: &Shares) -> Shared {
        let mut devices = vec![false; site.devices.len()];
        for tag in site.tags.iter().filter(|tag| shares.takes(tag.share)) {
            devices.get_mut(tag.device.index()).into_iter().for_each(|device| *device = true);
        }
        Shared { tags: site.tags.iter().map(|tag| shares.takes(tag.share)).collect(), devices }
    }

    /// Whether readings of the tag may.
    #[must_use]
    pub fn has_tag(&self, tag: TagId) -> bool {
        self.tags.get(tag.index()).copied().unwrap_or_default()
    }

    /// Whether anything of the device may.
    #[must_use]
    pub fn has_device(&self, device: DeviceId) -> bool {
        self.devices.get(device.index()).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_leaves_only_by_uplinks_that_name_it() {
        let check = |classes: &[Share], taken: [bool; 4]| {
            let shares = Shares::new(classes.to_vec());
            assert_eq!(Share::ALL.map(|share| shares.takes(share)), taken, "{classes:?}");
        };
        use Share::{Aggregate, Cluster, Enterprise, Private};
        check(&[Cluster], [false, false, true, false]);
        check(&[Private, Enterprise], [false, true, false, false]);
        check(&[Cluster, Aggregate], [false, false, true, false]);
        check(&[Enterprise, Aggregate], [false, true, false, true]);
        assert_eq!(Share::ALL.map(|share| Shares::default().takes(share)), [false, true, true, true]);
        assert!(Shares::new(vec![Aggregate]).takes_aggregates_only());
        assert!(
            Shares::new(vec![Aggregate]).takes(Share::Summary) && Shares::default().takes(Share::Summary)
        );
        assert!(!Shares::new(vec![Enterprise, Cluster]).takes(Share::Summary));
        assert!(!Shares::default().takes_aggregates_only());
    }
}
