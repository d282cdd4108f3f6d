//! Which tags may leave by which uplink.

use super::{Site, Tag};
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

    /// Whether readings of a tag leave: its own class does, and so do those of all that it is computed from.
    #[must_use]
    pub fn takes_tag(&self, tag: &Tag) -> bool {
        self.takes(tag.share) && tag.made_of.iter().all(|share| self.takes(*share))
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
        for tag in site.tags.iter().filter(|tag| shares.takes_tag(tag)) {
            devices.get_mut(tag.device.index()).into_iter().for_each(|device| *device = true);
        }
        Shared { tags: site.tags.iter().map(|tag| shares.takes_tag(tag)).collect(), devices }
    }

    /// The same without the tags that are there for commands only, for an uplink that takes none.
    #[must_use]
    pub fn without_controls(self, site: &Site) -> Shared {
        let is_told = |(is_shared, tag): (bool, &Tag)| is_shared && tag.control().is_none();
        Shared { tags: self.tags.into_iter().zip(&site.tags).map(is_told).collect(), ..self }
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

    #[test]
    fn tags_that_are_there_for_commands_leave_by_no_uplink_that_takes_none() {
        let text = "[gateway]\nname = 'n'\nenterprise = 'e'\n[uplink.u]\nbroker = 'mqtt://127.0.0.1'\n\
             [commands]\nenabled = true\n[link.l]\ntcp = '127.0.0.1:502'\n[device.d]\nlink = 'l'\n\
             tags = [{ name = 't', at = 'hr:0' }]\nalarm = { hot = { when = 't', above = 5 } }";
        let site = crate::config::parse("test.toml", text).site.unwrap();
        let names = |shared: &Shared| {
            let told = site.tags.iter().filter(|tag| shared.has_tag(tag.id));
            told.map(|tag| tag.name.to_string()).collect::<Vec<_>>()
        };
        let shared = Shared::new(&site, &Shares::default());
        let controls = ["Device Control/Acknowledge", "Device Control/Shelve"];
        let all = [&["t", "event/alarm", "alarm/hot"][..], &controls].concat();
        assert_eq!(names(&shared), all);
        let without = shared.without_controls(&site);
        assert_eq!(names(&without), ["t", "event/alarm", "alarm/hot"]);
        assert!(without.has_device(DeviceId(0)));
    }

    /// What leaves by an uplink that takes `classes`, of the device `d` whose tables stand in `device`.
    fn leaving(classes: &str, device: &str) -> String {
        let text = format!(
            "[gateway]\nname = 'n'\nenterprise = 'e'\n[uplink.u]\nbroker = 'mqtt://127.0.0.1'\nshare = {classes}\n\
             [commands]\nenabled = true\n[link.l]\ntcp = '127.0.0.1:502'\n[device.d]\nlink = 'l'\n{device}"
        );
        let checked = crate::config::parse("test.toml", &text);
        let site = checked.site.unwrap_or_else(|findings| panic!("{findings:?}"));
        let shared = Shared::new(&site, &site.uplinks[0].share);
        let told = site.tags.iter().filter(|tag| shared.has_tag(tag.id));
        told.map(|tag| &*tag.name).collect::<Vec<_>>().join(" ")
    }

    const ALL: &str = "['enterprise', 'cluster', 'aggregate']";

    #[test]
    fn what_is_computed_from_a_private_tag_leaves_only_where_it_is_said_of_it() {
        let device = "tags = [\n{ name = 't', at = 'hr:0', share = 'private' },\n{ name = 'u', at = 'hr:1' },\n\
             { name = 'raw', at = 'hr:2', expr = 'raw + t' },\n\
             { name = 'said', at = 'hr:3', expr = 'raw + t', share = 'enterprise' },\n\
             { name = 'n', at = 'hr:4', kind = 'counter', expr = 'raw + t' }]\n[device.d.derived]\n\
             copy = { expr = 't' }\ntwice = { expr = 'copy * 2 + u' }\nover = { expr = 'copy > 5', share = 'enterprise' }\n\
             free = { expr = 'u + 1' }\nafter = { expr = 'if(over, 1, 0)' }\n";
        assert_eq!(leaving(ALL, device), "u said over free after");
        let alarm = format!("{device}[device.d.alarm]\nhot = {{ when = 't', above = 5 }}");
        assert_eq!(leaving(ALL, &alarm), "u said over free after");
        let alarm = format!("{device}[device.d.alarm]\nwet = {{ when = 'u', above = 5 }}");
        let controls = "Device Control/Acknowledge Device Control/Shelve";
        assert_eq!(leaving(ALL, &alarm), format!("u said over free after event/alarm alarm/wet {controls}"));
    }

    #[test]
    fn what_is_computed_leaves_only_where_all_of_it_may() {
        let device = "share = 'cluster'\ntags = [\n{ name = 'c', at = 'hr:0' },\n\
             { name = 'e', at = 'hr:1', share = 'enterprise' }]\n[device.d.derived]\n\
             both = { expr = 'c + e' }\none = { expr = 'c + 1' }";
        assert_eq!(leaving("['cluster']", device), "c one");
        assert_eq!(leaving("['enterprise']", device), "e");
        assert_eq!(leaving(ALL, device), "c e both one");
        // windows of what is computed, too: of `power` they may leave, of what `e` is in they may not
        let device = "share = 'aggregate'\ntags = [\n{ name = 'power', at = 'hr:0' },\n\
             { name = 'e', at = 'hr:1', share = 'enterprise' }]\n[device.d.derived]\n\
             twice = { expr = 'power * 2' }\nboth = { expr = 'power + e' }";
        let windows = |name: &str| format!("{name}/mean {name}/min {name}/max {name}/last {name}/count");
        assert_eq!(
            leaving("['cluster', 'aggregate']", device),
            format!("{} {}", windows("power"), windows("twice"))
        );
        assert_eq!(leaving("['enterprise', 'aggregate']", device), "power e twice both");
        assert_eq!(leaving("['enterprise']", device), "e");
    }

    #[test]
    fn a_machine_goes_as_far_as_its_device_and_what_it_watches_and_a_private_one_is_not_added_up() {
        let machine = |share: &str, on: &str, machine: &str| {
            format!(
                "{share}\ntags = [{{ name = 'on', at = 'hr:0.0'{on} }}, {{ name = 'u', at = 'hr:1' }}]\n\
                 machine = {{ running = 'on', class = 'c'{machine} }}"
            )
        };
        let figures = "machine/state machine/shift machine/availability machine/apt machine/adot machine/pbt machine/account";
        let free = "c/machines c/free/now c/free/24h c/free/7d";
        assert_eq!(leaving(ALL, &machine("", "", "")), format!("on u {figures} {free}"));
        assert_eq!(leaving(ALL, &machine("share = 'private'", "", "")), "");
        let own = ", share = 'enterprise'";
        assert_eq!(leaving(ALL, &machine("share = 'private'", "", own)), format!("{figures} {free}"));
        assert_eq!(leaving(ALL, &machine("", ", share = 'private'", "")), "u");
        assert_eq!(leaving(ALL, &machine("", "", ", share = 'private'")), "on u");
        let two = machine("", "", ", share = 'private'")
            + "\n[device.f]\nlink = 'l'\nunit = 2\ntags = [{ name = 'on', at = 'hr:0.0' }]\n\
               machine = { running = 'on', class = 'c' }";
        assert_eq!(leaving(ALL, &two), format!("on u on {figures} {free}"));
        let text = format!(
            "[gateway]\nname = 'n'\nenterprise = 'e'\n[uplink.u]\nbroker = 'mqtt://127.0.0.1'\n\
             [link.l]\ntcp = '127.0.0.1:502'\n[device.d]\nlink = 'l'\n{two}"
        );
        let site = crate::config::parse("test.toml", &text).site.unwrap();
        let class = site.tags.iter().find(|tag| *tag.name == *"c/machines").unwrap().id;
        let step = site.steps.iter().find(|step| step.outputs().contains(&class)).unwrap();
        let state = |tag: &Tag| tag.device == DeviceId(1) && *tag.name == *"machine/state";
        let other = site.tags.iter().find(|tag| state(tag)).unwrap().id;
        assert_eq!(step.inputs(), [other], "the other one only");
    }

    #[test]
    fn what_happens_to_alarms_leaves_only_where_each_of_them_may() {
        let device = "tags = [{ name = 't', at = 'hr:0', share = 'private' }]\n[device.d.alarm]\n\
             hot = { when = 't', above = 5, share = 'cluster' }\ncold = { when = 't', below = 1, share = 'aggregate' }";
        let controls = "Device Control/Acknowledge Device Control/Shelve";
        assert_eq!(leaving("['cluster', 'aggregate']", device), format!("alarm/hot {controls}"));
        assert_eq!(leaving("['enterprise', 'aggregate']", device), "alarm/cold");
        assert_eq!(leaving("['cluster', 'enterprise']", device), format!("alarm/hot {controls}"));
        assert_eq!(leaving(ALL, device), format!("event/alarm alarm/hot alarm/cold {controls}"));
    }
}
