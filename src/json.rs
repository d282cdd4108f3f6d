//! The conversation of a gateway with one broker in JSON: who is there, readings, history (docs/json.md). Pure.
//!
//! Every message is sent at QoS 1, and its acknowledgement proves it. When a connection begins, it is told who is there and
//! what is known of every tag; from then on each reading is told as it comes, of a device that does not answer too, for its
//! quality says so. What was not told when it was read comes as history, marked so and never kept by the broker.

mod message;

use std::sync::Arc;

use crate::config::site::{Device, Extent, Json, Kind, Shared, Shares, Site, Tag};
use crate::counters::Counters;
use crate::outbox::{Lane, Lost, Moves, Outbox, Unsent, Waiting};
use crate::position::{Position, Positions};
use crate::publication::Publication;
use crate::reading::{Reading, Timestamp, Update, Value};
use crate::tag::{DeviceId, ValueType};
use crate::thinning::Thinning;
use message::{About, Told, reading_size};

/// One gateway's side of the conversation.
#[derive(Debug)]
pub struct Session {
    site: Arc<Site>,
    form: Json,
    counters: Arc<Counters>,
    /// What may leave by this uplink.
    shared: Shared,
    thinning: Thinning,
    /// By tag, what is known of it.
    known: Vec<Option<(Position, Reading)>>,
    /// By tag, what this connection was told last as being so now; only where messages are whole.
    told: Vec<Option<Reading>>,
    /// By device.
    presence: Vec<Presence>,
    readings_lost: u64,
    last_gap: Option<Lost>,
    alarm: Option<&'static str>,
    /// The wall time of the machine's start, for readings of before its clock was trusted.
    booted_at: Option<Timestamp>,
    /// While there is a connection.
    live: Option<Live>,
    outbox: Outbox<Message>,
}

/// Whether a device answers, and since when that is so.
#[derive(Clone, Copy, Debug, Default)]
struct Presence {
    is_up: bool,
    since: Option<Timestamp>,
}

#[derive(Debug)]
struct Live {
    number: u8,
    since: Timestamp,
}

/// What is to be said; how is decided when it is sent.
#[derive(Debug)]
enum Message {
    Gateway,
    Device(DeviceId, Presence),
    Readings { device: DeviceId, readings: Vec<Reading>, is_historical: bool },
}

impl Session {
    /// A session that has no connection yet.
    #[must_use]
    pub fn new(site: Arc<Site>, form: Json, shares: &Shares, counters: Arc<Counters>) -> Session {
        Session {
            shared: Shared::new(&site, shares),
            thinning: Thinning::new(site.tags.len()),
            known: vec![None; site.tags.len()],
            told: vec![None; site.tags.len()],
            presence: vec![Presence::default(); site.devices.len()],
            site,
            form,
            counters,
            readings_lost: 0,
            last_gap: None,
            alarm: None,
            booted_at: None,
            live: None,
            outbox: Outbox::default(),
        }
    }

    /// The word that the session with this number is over: the will of the connection, and the last message of a clean end.
    #[must_use]
    pub fn death(&self, number: u8) -> Publication {
        self.publication(self.form.topics.gateway_status.clone(), message::of_gateway_gone(number))
    }

    /// The broker has taken the connection: it is told all that is known.
    pub fn handle_connected(&mut self, number: u8, now: Timestamp) {
        self.live = Some(Live { number, since: now });
        self.told.fill(None);
        self.tell_all();
    }

    /// The connection is gone, and with it all that waited for it.
    pub fn handle_disconnected(&mut self) {
        self.live = None;
        self.outbox.clear();
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
            Update::Readings(readings) => {
                for (position, reading) in (first.0..).map(Position).zip(readings.iter()) {
                    self.handle_reading(position, reading);
                }
                if self.outbox.is_overfull() {
                    self.outbox.take_back();
                    self.tell_all();
                }
            }
            Update::DeviceUp(device) => self.set_presence(device, true, now),
            Update::DeviceDown(device, at) => {
                self.set_presence(device, false, at.wall(self.booted_at).unwrap_or(now));
            }
        }
    }

    fn handle_reading(&mut self, position: Position, reading: &Reading) {
        if !self.shared.has_tag(reading.tag) {
            // without a connection the ledger would be full of holes; it comes as history, and is given up then
            if self.live.is_some() {
                self.outbox.handle_idle(position);
            }
            return;
        }
        let Some(known) = self.known.get_mut(reading.tag.index()) else { return };
        *known = Some((position, reading.clone()));
        if self.live.is_none() {
            return;
        }
        let is_event = self.site.tags.get(reading.tag.index()).is_some_and(|tag| tag.kind == Kind::Event);
        if !is_event && self.thinning.withholds(reading) {
            self.outbox.handle_idle(position);
        } else {
            self.add(Lane::Now, position, reading);
        }
    }

    /// Whether anything of a device may leave by this uplink.
    #[must_use]
    pub fn is_told(&self, device: DeviceId) -> bool {
        self.shared.has_device(device)
    }

    /// From now on numbers are told only when they have changed by this part of their value.
    pub fn set_thinning(&mut self, deadband: Option<f64>) {
        for tag in self.thinning.set(deadband) {
            if let Some((position, reading)) = self.known.get(tag.index()).cloned().flatten() {
                self.handle_reading(position, &reading);
            }
        }
    }

    /// How many readings were withheld so.
    #[must_use]
    pub const fn withheld(&self) -> u64 {
        self.thinning.count()
    }

    fn set_presence(&mut self, device: DeviceId, is_up: bool, since: Timestamp) {
        let presence = Presence { is_up, since: Some(since) };
        if let Some(known) = self.presence.get_mut(device.index()) {
            *known = presence;
            if self.is_told(device) {
                self.tell(Message::Device(device, presence));
            }
        }
    }

    /// Readings that are sent late or again, in order. They follow all that waits.
    pub fn handle_history(&mut self, readings: Vec<(Position, Reading)>) -> Unsent {
        let mut unsent = Unsent::default();
        for (position, reading) in readings {
            if !self.shared.has_tag(reading.tag) {
                unsent.idle.insert(position..position.after(1));
                continue;
            }
            let is_fit = self.site.tags.get(reading.tag.index()).is_some_and(|tag| fits(tag, &reading));
            let at = reading.at.wall(self.booted_at);
            if is_fit && at.is_some_and(message::is_writable) {
                self.add(Lane::History, position, &reading);
            } else {
                unsent.unfit.insert(position..position.after(1));
            }
        }
        unsent
    }

    /// The broker takes no larger packet than this.
    pub fn set_packet_size(&mut self, size: usize) {
        self.outbox.set_packet_size(size);
    }

    /// Whether anything but history waits.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.live.is_some() && self.outbox.is_waiting()
    }

    /// How many messages of history wait.
    #[must_use]
    pub fn history_waiting(&self) -> usize {
        self.outbox.history_waiting()
    }

    /// Readings were lost.
    pub fn handle_lost(&mut self, lost: &Lost) {
        self.counters.readings_lost.add(lost.count);
        self.readings_lost += lost.count;
        self.last_gap = Some(lost.clone());
        self.tell(Message::Gateway);
    }

    /// What is wrong with the store.
    pub fn handle_alarm(&mut self, alarm: Option<&'static str>) {
        self.alarm = alarm;
        self.tell(Message::Gateway);
    }

    /// The next message; take it only to send it.
    pub fn poll_publication(&mut self, now: Timestamp) -> Option<Publication> {
        let live = self.live.as_ref()?;
        let Waiting { message, carried, .. } = self.outbox.pop()?;
        let publication = match message {
            Message::Gateway => {
                let about = About {
                    session: live.number,
                    since: live.since,
                    readings_lost: self.readings_lost,
                    last_gap: self.last_gap.as_ref(),
                    alarm: self.alarm,
                };
                self.publication(self.form.topics.gateway_status.clone(), message::of_gateway(&about))
            }
            Message::Device(device, presence) => {
                let topic = self.form.topics.device_status(self.name_of(device));
                self.publication(topic, message::of_device_status(presence.is_up, presence.since))
            }
            Message::Readings { device, readings, is_historical } => {
                self.readings_publication(device, &readings, is_historical, now)?
            }
        };
        Some(Publication { carried, ..publication })
    }

    fn publication(&self, topic: String, payload: Vec<u8>) -> Publication {
        let is_retained = self.form.is_retained;
        Publication { topic, payload, carried: Positions::default(), is_acknowledged: true, is_retained }
    }

    /// What the broker keeps of a device must be whole: with `retain` a message has all of its tags as they were told last.
    /// What is old is never kept, for it would replace what is so now.
    fn readings_publication(
        &mut self,
        device: DeviceId,
        readings: &[Reading],
        is_historical: bool,
        now: Timestamp,
    ) -> Option<Publication> {
        let is_retained = self.form.is_retained && !is_historical;
        let is_whole = is_retained && self.form.extent == Extent::Device;
        for reading in readings.iter().filter(|_| is_whole) {
            if let Some(told) = self.told.get_mut(reading.tag.index()) {
                *told = Some(reading.clone());
            }
        }
        let device = self.site.devices.get(device.index())?;
        let told = if is_whole {
            let of_device = self.site.tags_of(device).iter();
            self.told_of(of_device.filter_map(|tag| self.told.get(tag.id.index())?.as_ref()), now)
        } else {
            self.told_of(readings.iter(), now)
        };
        let (tag, payload) = match self.form.extent {
            Extent::Tag => {
                let one = told.first()?;
                (&*one.tag.name, message::of_tag(one, is_historical))
            }
            Extent::Device => ("", message::of_device(&device.name, &told, is_historical)),
        };
        let topic = self.form.topics.readings(&device.name, tag);
        Some(Publication { is_retained, ..self.publication(topic, payload) })
    }

    fn told_of<'a>(&'a self, readings: impl Iterator<Item = &'a Reading>, now: Timestamp) -> Vec<Told<'a>> {
        let told = |reading: &'a Reading| {
            let at = reading.at.wall(self.booted_at).unwrap_or(now);
            Some(Told { tag: self.site.tags.get(reading.tag.index())?, reading, at })
        };
        readings.filter_map(told).collect()
    }

    fn name_of(&self, device: DeviceId) -> &str {
        self.site.devices.get(device.index()).map_or("", |device| &device.name)
    }

    fn tell(&mut self, message: Message) {
        if self.live.is_some() {
            self.outbox.push(Lane::Now, Waiting::whole(message, Positions::default()));
        }
    }

    /// Who is there, and what is known of every tag.
    fn tell_all(&mut self) {
        self.tell(Message::Gateway);
        let site = self.site.clone();
        for device in &site.devices {
            if !self.is_told(device.id) {
                continue;
            }
            let presence = self.presence.get(device.id.index()).copied().unwrap_or_default();
            self.tell(Message::Device(device.id, presence));
            self.tell_known(&site, device);
        }
    }

    fn tell_known(&mut self, site: &Site, device: &Device) {
        let mut waiting: Option<Waiting<Message>> = None;
        for tag in site.tags_of(device) {
            let Some((position, reading)) = self.known.get(tag.id.index()).and_then(Option::as_ref) else {
                continue;
            };
            let carried = Positions::of(*position..position.after(1));
            let size = reading_size(tag, reading);
            let alone = readings_of(device.id, reading, false);
            let Some(last) = &mut waiting else {
                waiting = Some(Waiting { size, ..Waiting::whole(alone, carried) });
                continue;
            };
            match self.joined(last, size, alone) {
                None => {
                    last.carried.extend(&carried);
                    last.size += size;
                }
                Some(alone) => {
                    let full = waiting.replace(Waiting { size, ..Waiting::whole(alone, carried) });
                    full.into_iter().for_each(|full| self.outbox.push(Lane::Now, full));
                }
            }
        }
        waiting.into_iter().for_each(|last| self.outbox.push(Lane::Now, last));
    }

    fn add(&mut self, lane: Lane, position: Position, reading: &Reading) {
        let Some(tag) = self.site.tags.get(reading.tag.index()) else { return };
        let size = reading_size(tag, reading);
        let alone = readings_of(tag.device, reading, lane == Lane::History);
        let limits = self.limits();
        let join = |last: &mut Waiting<Message>, alone| joined(limits, last, size, alone);
        self.outbox.add(lane, position, size, alone, join, |alone| alone);
    }

    /// What a message holds, and how many bytes.
    fn limits(&self) -> (Extent, usize) {
        (self.form.extent, self.outbox.data_size_max())
    }

    fn joined(&self, last: &mut Waiting<Message>, size: usize, alone: Message) -> Option<Message> {
        joined(self.limits(), last, size, alone)
    }
}

fn readings_of(device: DeviceId, reading: &Reading, is_historical: bool) -> Message {
    Message::Readings { device, readings: vec![reading.clone()], is_historical }
}

/// Puts the reading of `alone` into `last` where it can go there; else gives it back.
fn joined(
    (extent, size_max): (Extent, usize),
    last: &mut Waiting<Message>,
    size: usize,
    alone: Message,
) -> Option<Message> {
    let has_room = extent == Extent::Device && last.size + size <= size_max;
    match (&mut last.message, alone) {
        (
            Message::Readings { device, readings, is_historical },
            Message::Readings { device: of, readings: mut added, is_historical: is_too },
        ) if has_room
            && (*device, *is_historical) == (of, is_too)
            && !added.iter().any(|new| readings.iter().any(|known| known.tag == new.tag)) =>
        {
            readings.append(&mut added);
            None
        }
        (_, alone) => Some(alone),
    }
}

/// Whether a value of before is of the type that the tag has now.
fn fits(tag: &Tag, reading: &Reading) -> bool {
    match (tag.value_type, &reading.value) {
        (_, None)
        | (ValueType::Bool, Some(Value::Bool(_)))
        | (ValueType::Integer(_), Some(Value::Int(_) | Value::UInt(_)))
        | (ValueType::Float, Some(Value::Float(_)))
        | (ValueType::Double, Some(Value::Double(_)))
        | (ValueType::Text, Some(Value::Text(_)))
        | (ValueType::Time, Some(Value::Time(_))) => true,
        (_, Some(_)) => false,
    }
}

#[cfg(test)]
mod tests;
