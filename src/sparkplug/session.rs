//! The conversation of one edge node with one broker: births, sequence numbers, data, deaths, history. Pure.
//!
//! The order of calls is the order on the wire: whoever owns the connection takes publications one by one with
//! [`Session::poll_publication`], only when it can hand each to the connection at once, for a sequence number is given
//! at that moment (Sparkplug 3.0.0, 6.4.5). While there is no connection, readings only renew what the next births will
//! say: what no message carried is in the store, and comes back as history.

pub mod node;
mod outcomes;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use prost::Message as _;

use super::payload::Form;
use super::proto::Payload;
use super::proto::payload::{Metric, metric};
use super::topic::{Node, Verb};
use crate::config::site::{Device, Site, Uplink};
use crate::counters::Counters;
use crate::position::{Position, Positions};
use crate::publication::Publication;
use crate::reading::{Quality, Reading, Timestamp, Update};
use crate::tag::DeviceId;
use waiting::{Waiting, push_data};

/// The most readings that wait for a connection that takes them too slowly; beyond it all that waits is taken back, to
/// come as history, and everything is born again with what is known then.
const WAITING_READINGS_MAX: usize = 20_000;

const REBIRTH: &str = "Node Control/Rebirth";
/// Births asked for oftener than this are born together, a while later.
const REBIRTH_MIN: Duration = Duration::from_secs(1);

/// One edge node's side of the conversation.
#[derive(Debug)]
pub struct Session {
    site: Arc<Site>,
    node: Node,
    form: Form,
    counters: Arc<Counters>,
    about: node::About,
    tags: Vec<Last>,
    /// Which devices answer.
    is_up: Vec<bool>,
    /// The wall time of the machine's start, for readings of before its clock was trusted.
    booted_at: Option<Timestamp>,
    /// While there is a connection.
    live: Option<Live>,
    waiting: VecDeque<Waiting>,
    waiting_readings: usize,
    /// What is sent when nothing else waits.
    history: VecDeque<Waiting>,
    /// Devices that do not answer and are born only for the time of their history.
    born_for_history: BTreeSet<DeviceId>,
    moves: Moves,
    rebirth: Rebirth,
    /// The name of the uplink.
    uplink: Arc<str>,
    outcomes: outcomes::Outcomes,
}

/// Which readings got into messages that wait, and out of them again without having been sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// In.
    pub queued: Positions,
    /// Out.
    pub taken_back: Positions,
    /// These say only that a device which counts as gone does not answer: nobody is told.
    pub idle: Positions,
}

/// Readings of a history that cannot be sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Unsent {
    /// Their tags have another type now.
    pub unfit: Positions,
    /// They say only that a device which does not answer did not answer.
    pub idle: Positions,
}

/// When births were sent last, and when those are due that have been asked for since.
#[derive(Debug, Default)]
struct Rebirth {
    last: Option<Instant>,
    due: Option<Instant>,
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
            is_up: vec![false; site.devices.len()],
            site,
            node,
            form,
            counters,
            about: node::About::default(),
            booted_at: None,
            live: None,
            waiting: VecDeque::new(),
            waiting_readings: 0,
            history: VecDeque::new(),
            born_for_history: BTreeSet::new(),
            moves: Moves::default(),
            rebirth: Rebirth::default(),
            uplink: uplink.name.clone(),
            outcomes: outcomes::Outcomes::default(),
        }
    }

    /// The topic filters to subscribe to before the births.
    #[must_use]
    pub fn command_filters(&self) -> [String; 2] {
        [self.node.node_commands(), self.node.device_commands()]
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
        self.take_back();
        self.moves = Moves::default();
    }

    /// Nothing waits any more: readings that did are to come as history.
    fn take_back(&mut self) {
        for waiting in self.waiting.drain(..).chain(self.history.drain(..)) {
            self.moves.queued.subtract(&waiting.carried);
            self.moves.taken_back.extend(&waiting.carried);
            self.outcomes.take_back(waiting);
        }
        self.waiting_readings = 0;
        self.born_for_history.clear();
    }

    /// No data follows a death: what waits of a device comes when it is born again, or for its history.
    fn take_back_history(&mut self, device: DeviceId) {
        let (stays, goes): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.history).into_iter().partition(|waiting| waiting.is_not(device));
        self.history = stays;
        for waiting in goes {
            self.moves.queued.subtract(&waiting.carried);
            self.moves.taken_back.extend(&waiting.carried);
        }
    }

    /// Which readings got into messages, and out of them, since this was asked last.
    pub fn take_moves(&mut self) -> Moves {
        std::mem::take(&mut self.moves)
    }

    /// The wall clock is trusted from now on; the machine was started then.
    pub fn handle_clock(&mut self, booted_at: Timestamp) {
        self.booted_at = Some(booted_at);
    }

    /// What has happened; its readings have the positions from `first` on.
    pub fn handle_update(&mut self, first: Position, update: Update, now: Timestamp) {
        match update {
            Update::Readings(readings) => {
                for (position, reading) in (first.0..).map(Position).zip(readings.iter()) {
                    self.handle_reading(position, reading, now);
                }
                if self.waiting_readings > WAITING_READINGS_MAX {
                    self.take_back();
                    self.bear(now);
                }
            }
            Update::DeviceUp(device) => {
                self.set_up(device, true);
                if self.born_for_history.remove(&device) {
                    // what was said of it while it did not answer must not follow its birth
                    self.history.retain(|waiting| waiting.is_not(device) || waiting.verb == Verb::DeviceData);
                }
                if self.live.is_some() {
                    let birth = self.device_birth(device, now);
                    self.wait(birth);
                }
            }
            Update::DeviceDown(device, at) => {
                if self.set_up(device, false) && self.live.is_some() {
                    self.take_back_history(device);
                    let at = at.wall(self.booted_at).unwrap_or(now);
                    self.wait(Some(Waiting::death(device, at)));
                }
            }
        }
    }

    /// Whether every device answers.
    #[must_use]
    pub fn is_all_up(&self) -> bool {
        self.is_up.iter().all(|is_up| *is_up)
    }

    /// Readings that are sent late or again, in order. They follow all that waits; a device that does not answer is born
    /// for as long as its history takes, with its qualities as they are.
    pub fn handle_history(&mut self, readings: Vec<(Position, Reading)>, now: Timestamp) -> Unsent {
        let mut unsent = Unsent::default();
        let mut of_devices: BTreeMap<DeviceId, Vec<(Position, Reading)>> = BTreeMap::new();
        for (position, reading) in readings {
            if let Some(tag) = self.site.tags.get(reading.tag.index()) {
                of_devices.entry(tag.device).or_default().push((position, reading));
            }
        }
        for (device, readings) in of_devices {
            if !self.bear_for_history(device, &readings, now) {
                readings.iter().for_each(|(position, _)| unsent.idle.insert(*position..position.after(1)));
                continue;
            }
            for (position, reading) in readings {
                if !self.push_history(device, position, &reading) {
                    unsent.unfit.insert(position..position.after(1));
                }
            }
        }
        unsent
    }

    /// Whether a device is born, or was now because there is something to tell of it.
    fn bear_for_history(
        &mut self,
        device: DeviceId,
        readings: &[(Position, Reading)],
        now: Timestamp,
    ) -> bool {
        if self.is_device_up(device) || self.born_for_history.contains(&device) {
            return true;
        }
        if !readings.iter().any(|(_, reading)| reading.quality.is_good()) {
            return false;
        }
        self.born_for_history.insert(device);
        let birth = self.device_birth(device, now);
        self.history.extend(birth);
        true
    }

    /// False where the reading does not fit the tag any more.
    fn push_history(&mut self, device: DeviceId, position: Position, reading: &Reading) -> bool {
        let Some(tag) = self.site.tags.get(reading.tag.index()) else { return false };
        let Some(at) = reading.at.wall(self.booted_at) else { return false };
        let mut metric = self.form.data_metric(tag, reading, at, !reading.quality.is_good());
        if metric.value.is_none() && reading.value.is_some() {
            return false;
        }
        metric.is_historical = Some(true);
        push_data(&mut self.history, device, position, metric);
        self.moves.taken_back.remove(position..position.after(1));
        self.moves.queued.insert(position..position.after(1));
        true
    }

    /// Whether anything but history waits.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.live.is_some() && !self.waiting.is_empty()
    }

    /// How many messages of history wait.
    #[must_use]
    pub fn history_waiting(&self) -> usize {
        self.history.len()
    }

    /// There is no more history than what waits: when that is sent, devices that were born for it are gone again.
    pub fn handle_history_end(&mut self, now: Timestamp) {
        if !self.history.is_empty() {
            return;
        }
        for device in std::mem::take(&mut self.born_for_history) {
            self.wait(Some(Waiting::death(device, now))); // in line with a birth that may follow
        }
    }

    /// Readings of this range were lost, `count` of them.
    pub fn handle_lost(&mut self, lost: &node::Lost, now: Timestamp) {
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
            let payload = Payload { metrics: self.about.metrics(now), ..Payload::default() };
            self.wait(Some(Waiting::of_node(Verb::NodeData, payload)));
        }
    }

    /// A message that the broker delivered. A command that asks for a rebirth is obeyed, a burst of them once; anything
    /// else, garbage included, is passed over. True if it was obeyed.
    pub fn handle_message(&mut self, topic: &str, payload: &[u8], now: Instant) -> bool {
        let is_rebirth = |metric: &Metric| {
            metric.name.as_deref() == Some(REBIRTH) && metric.value == Some(metric::Value::BooleanValue(true))
        };
        let is_asked = topic == self.node.node_commands()
            && Payload::decode(payload).is_ok_and(|payload| payload.metrics.iter().any(is_rebirth));
        if is_asked && self.live.is_some() {
            let soonest = self.rebirth.last.map_or(now, |last| last + REBIRTH_MIN);
            self.rebirth.due.get_or_insert(soonest.max(now));
        }
        is_asked
    }

    /// When births are due that were asked for.
    #[must_use]
    pub fn rebirth_due(&self) -> Option<Instant> {
        self.rebirth.due
    }

    /// Bears everything again if that is due.
    pub fn handle_due(&mut self, now: Instant, wall: Timestamp) {
        if self.rebirth.due.is_some_and(|due| due <= now) {
            self.rebirth = Rebirth { last: Some(now), due: None };
            self.take_back();
            self.bear(wall);
        }
    }

    /// The next message, numbered; take it only to send it.
    pub fn poll_publication(&mut self, now: Timestamp) -> Option<Publication> {
        let live = self.live.as_mut()?;
        let mut waiting = self.waiting.pop_front().or_else(|| self.history.pop_front())?;
        if waiting.verb == Verb::DeviceData {
            self.waiting_readings = self.waiting_readings.saturating_sub(waiting.payload.metrics.len());
        }
        if waiting.verb == Verb::NodeBirth {
            live.next_seq = 0;
        }
        waiting.payload.seq = Some(u64::from(live.next_seq));
        live.next_seq = live.next_seq.wrapping_add(1);
        waiting.payload.timestamp.get_or_insert(now.millis());
        let device = waiting.device.and_then(|device| self.site.devices.get(device.index()));
        let topic = self.node.topic(waiting.verb, device.map(|device| device.name.as_ref()));
        let (payload, carried) = (waiting.payload.encode_to_vec(), waiting.carried);
        Some(Publication { topic, payload, carried, ..Publication::default() })
    }

    /// Whether it was up before.
    fn set_up(&mut self, device: DeviceId, is_up: bool) -> bool {
        self.is_up.get_mut(device.index()).is_some_and(|known| std::mem::replace(known, is_up))
    }

    fn is_device_up(&self, device: DeviceId) -> bool {
        self.is_up.get(device.index()).copied().unwrap_or_default()
    }

    fn wait(&mut self, waiting: Option<Waiting>) {
        if let Some(waiting) = &waiting {
            self.moves.taken_back.subtract(&waiting.carried);
            self.moves.queued.extend(&waiting.carried);
        }
        self.waiting.extend(waiting);
    }

    fn handle_reading(&mut self, position: Position, reading: &Reading, now: Timestamp) {
        let Some(tag) = self.site.tags.get(reading.tag.index()) else { return };
        let is_born = self.live.is_some() && self.is_device_up(tag.device);
        let Some(last) = self.tags.get_mut(reading.tag.index()) else { return };
        last.reading = Some((position, reading.clone()));
        let range = position..position.after(1);
        if !is_born {
            // a birth tells the last of them, the others come as history
            if self.live.is_some() && !reading.quality.is_good() {
                self.moves.idle.insert(range);
            }
            return;
        }
        let with_quality = !reading.quality.is_good() || last.told_quality != Some(reading.quality);
        last.told_quality = Some(reading.quality);
        let at = reading.at.wall(self.booted_at).unwrap_or(now);
        let metric = self.form.data_metric(tag, reading, at, with_quality);
        push_data(&mut self.waiting, tag.device, position, metric);
        self.waiting_readings += 1;
        self.moves.queued.insert(range);
    }

    /// The node's birth and those of all devices that answer.
    fn bear(&mut self, now: Timestamp) {
        let bd_seq = self.live.as_ref().map_or(0, |live| live.bd_seq);
        let mut metrics = self.about.birth_metrics(&self.site, &self.counters, bd_seq, now);
        metrics.push(self.node_outcome(now));
        let payload = Payload { timestamp: Some(now.millis()), metrics, ..Payload::default() };
        self.wait(Some(Waiting::of_node(Verb::NodeBirth, payload)));
        for device in self.site.clone().devices.iter().map(|device| device.id) {
            if self.is_device_up(device) {
                let birth = self.device_birth(device, now);
                self.wait(birth);
            }
        }
        self.tell_unsent();
    }

    /// A device's birth: every tag of it, with what is known of it now.
    fn device_birth(&mut self, id: DeviceId, now: Timestamp) -> Option<Waiting> {
        let site = self.site.clone();
        let device = site.devices.get(id.index())?;
        let (mut metrics, carried) = self.device_metrics(device, now);
        metrics.extend(self.device_outcome(id, now));
        metrics.extend(device.title.as_deref().map(|title| node::text("Properties/title", title, now)));
        let payload = Payload { timestamp: Some(now.millis()), metrics, ..Payload::default() };
        Some(Waiting { verb: Verb::DeviceBirth, device: Some(id), payload, carried, size: 0 })
    }

    /// The metrics, and which readings they tell.
    fn device_metrics(&mut self, device: &Device, now: Timestamp) -> (Vec<Metric>, Positions) {
        let (form, booted_at) = (self.form, self.booted_at);
        let mut carried = Positions::default();
        let mut metrics = Vec::new();
        for tag in self.site.tags_of(device) {
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

impl Last {
    fn position(&self) -> Positions {
        let range = self.reading.as_ref().map(|(position, _)| *position..position.after(1));
        range.map(Positions::of).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
