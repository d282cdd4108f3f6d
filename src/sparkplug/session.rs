//! The conversation of one edge node with one broker: births, sequence numbers, data, deaths, history. Pure.
//!
//! The order of calls is the order on the wire: whoever owns the connection takes publications one by one with
//! [`Session::poll_publication`], only when it can hand each to the connection at once, for a sequence number is given
//! at that moment (Sparkplug 3.0.0, 6.4.5). While there is no connection, readings only renew what the next births will
//! say: what no message carried is in the store, and comes back as history.

mod heard;
mod history;
pub mod node;
mod outcomes;
mod waiting;

use std::collections::BTreeSet;
use std::sync::Arc;

use prost::Message as _;

use super::host::Host;
use super::payload::Form;
use super::proto::Payload;
use super::proto::payload::Metric;
use super::topic::{Node, Verb};
use crate::config::site::{Device, Kind, Shared, Site, Source, Tag, Uplink};
use crate::counters::Counters;
use crate::outbox::{Lane, Lost, Moves, Outbox, Waiting};
use crate::position::{Position, Positions};
use crate::publication::Publication;
use crate::reading::{Quality, Reading, Timestamp, Update};
use crate::tag::DeviceId;
use crate::thinning::Thinning;
use crate::vitals::Vital;
pub use heard::Heard;
use heard::Rebirth;
use waiting::{Message, push_data};

const REBIRTH: &str = "Node Control/Rebirth";
const NEXT_SERVER: &str = "Node Control/Next Server";
const RELOAD: &str = "Node Control/Reload";

/// One edge node's side of the conversation.
#[derive(Debug)]
pub struct Session {
    site: Arc<Site>,
    node: Node,
    form: Form,
    counters: Arc<Counters>,
    about: node::About,
    tags: Vec<Last>,
    /// What may leave by this uplink.
    shared: Shared,
    thinning: Thinning,
    /// Which devices answer.
    is_up: Vec<bool>,
    /// Of which devices it is known whether they answer.
    is_known: Vec<bool>,
    /// Only births are sent, until the devices are known: they come before all data (6.4.20).
    is_held: bool,
    /// The primary host, where the uplink waits for one.
    host: Option<Host>,
    /// The wall time of the machine's start, for readings of before its clock was trusted.
    booted_at: Option<Timestamp>,
    /// While there is a connection.
    live: Option<Live>,
    outbox: Outbox<Message>,
    /// Devices that do not answer and are born only for the time of their history.
    born_for_history: BTreeSet<DeviceId>,
    rebirth: Rebirth,
    /// The name of the uplink.
    uplink: Arc<str>,
    outcomes: outcomes::Outcomes,
}

/// What is known of a tag.
#[derive(Clone, Debug, Default)]
struct Last {
    reading: Option<(Position, Reading)>,
    /// The quality that a message carried last.
    told_quality: Option<Quality>,
}

#[derive(Debug)]
struct Live {
    bd_seq: u8,
    next_seq: u8,
    /// When it began.
    since: Timestamp,
}

impl Session {
    /// A session that has no connection yet.
    #[must_use]
    pub fn new(site: Arc<Site>, uplink: &Uplink, counters: Arc<Counters>) -> Session {
        let node = Node { group: site.gateway.enterprise.clone(), name: site.gateway.name.clone() };
        let form =
            Form { aliases: uplink.aliases, types: uplink.types, datatype_in_data: uplink.datatype_in_data };
        Session {
            tags: vec![Last::default(); site.tags.len()],
            shared: Shared::new(&site, &uplink.share),
            thinning: Thinning::new(site.tags.len()),
            is_up: vec![false; site.devices.len()],
            is_known: site.devices.iter().map(|device| !device.enabled).collect(),
            is_held: false,
            host: uplink.primary_host.as_ref().map(Host::new),
            site,
            node,
            form,
            counters,
            about: node::About::default(),
            booted_at: None,
            live: None,
            outbox: Outbox::default(),
            born_for_history: BTreeSet::new(),
            rebirth: Rebirth::default(),
            uplink: uplink.name.clone(),
            outcomes: outcomes::Outcomes::default(),
        }
    }

    /// The topic filters to subscribe to before the births.
    #[must_use]
    pub fn filters(&self) -> Vec<String> {
        let mut filters = vec![self.node.node_commands(), self.node.device_commands()];
        filters.extend(self.host.as_ref().map(|host| host.topic().to_owned()));
        filters
    }

    /// The connection is to the server with this number in the list of the uplink: what the primary host is has to be
    /// said there.
    pub fn handle_server(&mut self, server: usize) {
        self.host.as_mut().into_iter().for_each(|host| host.handle_server(server));
    }

    /// Whether births have to wait for the primary host.
    #[must_use]
    pub fn waits_for_host(&self) -> bool {
        self.host.as_ref().is_some_and(|host| !host.is_online())
    }

    /// Whether anything of a device may leave by this uplink.
    #[must_use]
    pub fn is_told(&self, device: DeviceId) -> bool {
        self.shared.has_device(device)
    }

    /// The death certificate that belongs to `bd_seq`: the will of the connection, and the last message of a clean end.
    /// It has no sequence number (6.4.22).
    #[must_use]
    pub fn death(&self, bd_seq: u8, now: Timestamp) -> Publication {
        let payload = Payload {
            timestamp: Some(now.millis()),
            metrics: vec![node::bd_seq(bd_seq, now)],
            ..Payload::default()
        };
        let topic = self.node.topic(Verb::NodeDeath, None);
        Publication {
            topic,
            payload: payload.encode_to_vec(),
            is_acknowledged: true,
            ..Publication::default()
        }
    }

    /// The broker has taken the connection and the subscriptions: births first.
    pub fn handle_connected(&mut self, bd_seq: u8, now: Timestamp) {
        self.live = Some(Live { bd_seq, next_seq: 0, since: now });
        self.bear(now);
    }

    /// The connection is gone, and with it all that waited for it.
    pub fn handle_disconnected(&mut self) {
        self.live = None;
        self.rebirth.due = None;
        self.born_for_history.clear();
        let unsent = self.outbox.clear();
        unsent.into_iter().for_each(|message| self.outcomes.take_back(message));
    }

    /// Nothing waits any more, and all is born again with what is known now.
    fn bear_again(&mut self, now: Timestamp) {
        self.born_for_history.clear();
        let unsent = self.outbox.take_back();
        unsent.into_iter().for_each(|message| self.outcomes.take_back(message));
        self.bear(now);
    }

    /// The broker takes no larger packet than this.
    pub fn set_packet_size(&mut self, size: usize) {
        self.outbox.set_packet_size(size);
    }

    /// Data waits until it is known of every device whether it answers, or until [`Session::release`].
    pub fn hold(&mut self) {
        self.is_held = !self.is_known.iter().all(|is_known| *is_known);
    }

    /// Whether data waits for devices.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.is_held
    }

    /// Data does not wait for devices any longer.
    pub fn release(&mut self) {
        self.is_held = false;
    }

    fn learn(&mut self, device: DeviceId) {
        if let Some(is_known) = self.is_known.get_mut(device.index()) {
            *is_known = true;
        }
        self.is_held &= !self.is_known.iter().all(|is_known| *is_known);
    }

    /// From now on numbers are sent only when they have changed by this part of their value.
    pub fn set_thinning(&mut self, deadband: Option<f64>, now: Timestamp) {
        for tag in self.thinning.set(deadband) {
            let last = self.tags.get(tag.index()).and_then(|last| last.reading.clone());
            if let Some((position, reading)) = last {
                self.handle_reading(position, &reading, now);
            }
        }
    }

    /// How many readings were withheld so.
    #[must_use]
    pub const fn withheld(&self) -> u64 {
        self.thinning.count()
    }

    /// How the gateway is; what has changed is told.
    pub fn handle_vitals(&mut self, vitals: Vec<Vital>, now: Timestamp) {
        self.about.vitals = vitals;
        self.tell_about(now);
    }

    /// Which readings got into messages, and out of them, since this was asked last.
    pub fn take_moves(&mut self) -> Moves {
        self.outbox.take_moves()
    }

    /// The wall clock is trusted from now on; the machine was started then.
    pub fn handle_clock(&mut self, booted_at: Timestamp) {
        self.booted_at = Some(booted_at);
    }

    /// What has happened; its readings have the positions from `first` on.
    pub fn handle_update(&mut self, first: Position, update: Update, now: Timestamp) {
        match update {
            Update::DeviceUp(device) | Update::DeviceDown(device, _) if !self.is_told(device) => {
                self.learn(device)
            }
            Update::Readings(readings) => {
                for (position, reading) in (first.0..).map(Position).zip(readings.iter()) {
                    self.handle_reading(position, reading, now);
                }
                if self.outbox.is_overfull() {
                    self.bear_again(now);
                }
            }
            Update::DeviceUp(device) => {
                self.set_up(device, true);
                if self.born_for_history.remove(&device) {
                    // what was said of it while it did not answer must not follow its birth
                    self.outbox.take_back_history(|message| {
                        !message.is_not(device) && message.verb != Verb::DeviceData
                    });
                }
                if self.live.is_some() {
                    let birth = self.device_birth(device, now);
                    self.wait(birth);
                    self.tell_unsent();
                }
            }
            Update::DeviceDown(device, at) => {
                if self.set_up(device, false) && self.live.is_some() {
                    // no data follows a death: it comes when it is born again, or for its history
                    self.outbox.take_back_history(|message| !message.is_not(device));
                    let at = at.wall(self.booted_at).unwrap_or(now);
                    self.wait(Some(Waiting::whole(Message::death(device, at), Positions::default())));
                }
            }
        }
    }

    /// Whether every device answers.
    #[must_use]
    pub fn is_all_up(&self) -> bool {
        let mut told = self.site.devices.iter().filter(|device| self.is_told(device.id));
        told.all(|device| self.is_device_up(device.id))
    }

    /// Whether anything but history waits.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.live.is_some() && self.outbox.is_waiting()
    }

    /// Readings of this range were lost, `count` of them.
    pub fn handle_lost(&mut self, lost: &Lost, now: Timestamp) {
        self.counters.readings_lost.add(lost.count);
        self.about.handle_lost(lost);
        self.tell_about(now);
    }

    /// What is wrong with the store.
    pub fn handle_alarm(&mut self, alarm: Option<&'static str>, now: Timestamp) {
        self.about.alarm = alarm;
        self.tell_about(now);
    }

    fn tell_about(&mut self, now: Timestamp) {
        if self.live.is_some() {
            let metrics = self.about.changed(self.form, first_node_alias(&self.site), now);
            if !metrics.is_empty() {
                let message = Message::of_node(Verb::NodeData, Payload { metrics, ..Payload::default() });
                self.wait(Some(Waiting::whole(message, Positions::default())));
            }
        }
    }

    /// The next message, numbered; take it only to send it.
    pub fn poll_publication(&mut self, now: Timestamp) -> Option<Publication> {
        let live = self.live.as_mut()?;
        let next = if self.is_held { self.outbox.pop_ahead(is_birth, is_of_same) } else { self.outbox.pop() };
        let Waiting { mut message, carried, .. } = next?;
        if message.verb == Verb::NodeBirth {
            live.next_seq = 0;
        }
        message.payload.seq = Some(u64::from(live.next_seq));
        live.next_seq = live.next_seq.wrapping_add(1);
        message.payload.timestamp.get_or_insert(now.millis());
        let device = message.device.and_then(|device| self.site.devices.get(device.index()));
        let topic = self.node.topic(message.verb, device.map(|device| device.name.as_ref()));
        Some(Publication {
            topic,
            payload: message.payload.encode_to_vec(),
            carried,
            ..Publication::default()
        })
    }

    /// Whether it was up before; it is known now.
    fn set_up(&mut self, device: DeviceId, is_up: bool) -> bool {
        self.learn(device);
        self.is_up.get_mut(device.index()).is_some_and(|known| std::mem::replace(known, is_up))
    }

    fn is_device_up(&self, device: DeviceId) -> bool {
        self.is_up.get(device.index()).copied().unwrap_or_default()
    }

    fn wait(&mut self, waiting: Option<Waiting<Message>>) {
        if let Some(waiting) = waiting {
            self.outbox.push(Lane::Now, waiting);
        }
    }

    fn handle_reading(&mut self, position: Position, reading: &Reading, now: Timestamp) {
        let Some(device) = self.site.tags.get(reading.tag.index()).map(|tag| tag.device) else { return };
        if !self.shared.has_tag(reading.tag) {
            // without a connection the ledger would be full of holes; it comes as history, and is given up then
            if self.live.is_some() {
                self.outbox.handle_idle(position);
            }
            return;
        }
        let site = self.site.clone();
        let Some(tag) = site.tags.get(reading.tag.index()) else { return };
        if reading.quality.is_bad() && tag.registers().is_some() {
            self.learn(device);
        }
        let is_born = self.live.is_some() && self.is_device_up(device);
        let Some(last) = self.tags.get_mut(reading.tag.index()) else { return };
        let before = last.reading.replace((position, reading.clone()));
        if is_born && tag.kind != Kind::Event && self.thinning.withholds(reading) {
            self.outbox.handle_idle(position);
            return;
        }
        if !is_born {
            // a birth tells the last of them, the others come as history; not for what is told again and again
            let is_same = before.is_some_and(|(_, before)| is_repeated(tag, &before, reading));
            if self.live.is_some() && (reading.quality.is_bad() || is_same) {
                self.outbox.handle_idle(position);
            }
            return;
        }
        let with_quality = !reading.quality.is_good() || last.told_quality != Some(reading.quality);
        last.told_quality = Some(reading.quality);
        let at = reading.at.wall(self.booted_at).unwrap_or(now);
        let metric = self.form.data_metric(tag, reading, at, with_quality);
        push_data(&mut self.outbox, Lane::Now, device, position, metric);
    }

    /// The node's birth and those of all devices that answer.
    fn bear(&mut self, now: Timestamp) {
        let bd_seq = self.live.as_ref().map_or(0, |live| live.bd_seq);
        let mut metrics = self.about.birth_metrics(&self.site, self.form, bd_seq, now);
        metrics.push(self.node_outcome(now));
        self.outcomes.handle_births(now);
        let payload = Payload { timestamp: Some(now.millis()), metrics, ..Payload::default() };
        self.wait(Some(Waiting::whole(Message::of_node(Verb::NodeBirth, payload), Positions::default())));
        for device in self.site.clone().devices.iter().map(|device| device.id) {
            if self.is_device_up(device) {
                let birth = self.device_birth(device, now);
                self.wait(birth);
            }
        }
        self.tell_unsent();
    }

    /// A device's birth: every tag of it, with what is known of it now.
    fn device_birth(&mut self, id: DeviceId, now: Timestamp) -> Option<Waiting<Message>> {
        let site = self.site.clone();
        let device = site.devices.get(id.index())?;
        let (mut metrics, carried) = self.device_metrics(device, now);
        metrics.extend(self.device_outcome(id, now));
        metrics.extend(node::properties(&device.properties, now));
        metrics.extend(device.title.as_deref().map(|title| node::text("Properties/title", title, now)));
        let payload = Payload { timestamp: Some(now.millis()), metrics, ..Payload::default() };
        Some(Waiting::whole(
            Message { verb: Verb::DeviceBirth, device: Some(id), payload, tells_outcome: false },
            carried,
        ))
    }

    /// The metrics, and which readings they tell.
    fn device_metrics(&mut self, device: &Device, now: Timestamp) -> (Vec<Metric>, Positions) {
        let (form, booted_at) = (self.form, self.booted_at);
        let mut carried = Positions::default();
        let mut metrics = Vec::new();
        for tag in self.site.tags_of(device).iter().filter(|tag| self.shared.has_tag(tag.id)) {
            let Some(last) = self.tags.get_mut(tag.id.index()) else { continue };
            let reading = last.reading.as_ref().map(|(_, reading)| reading);
            let quality = reading.map_or(Quality::BadNoCommunication, |reading| reading.quality);
            last.told_quality = Some(quality);
            carried.extend(&last.position());
            let at = reading.and_then(|reading| reading.at.wall(booted_at)).unwrap_or(now);
            metrics.push(form.birth_metric(tag, reading, at));
        }
        (metrics, carried)
    }
}

/// Whether a reading of what the gateway computes says what the one before it has said already.
fn is_repeated(tag: &Tag, before: &Reading, reading: &Reading) -> bool {
    let is_same = match (&before.value, &reading.value) {
        (Some(before), Some(value)) => before.is_same(value),
        (before, value) => before.is_none() && value.is_none(),
    };
    let is_computed = matches!(tag.source, Source::Computed) && tag.kind != Kind::Event;
    is_computed && is_same && before.quality == reading.quality
}

fn is_birth(message: &Message) -> bool {
    matches!(message.verb, Verb::NodeBirth | Verb::DeviceBirth)
}

fn is_of_same(one: &Message, other: &Message) -> bool {
    one.device == other.device
}

/// The first alias of what changes about the node. Before it are those of the tags, and of what became of commands to each
/// device.
fn first_node_alias(site: &Site) -> u64 {
    first_outcome_alias(site) + site.devices.len() as u64
}

fn first_outcome_alias(site: &Site) -> u64 {
    site.tags.len() as u64 + 1
}

impl Last {
    fn position(&self) -> Positions {
        let range = self.reading.as_ref().map(|(position, _)| *position..position.after(1));
        range.map(Positions::of).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
