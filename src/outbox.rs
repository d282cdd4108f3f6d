//! What waits for a connection: messages of now, behind them those of history, and which readings are in them. Pure.
//!
//! Whatever the messages look like, the rules are the same: history is sent when nothing else waits; what was queued and
//! not sent is taken back, to come as history; and how much may wait is bounded.

use std::collections::VecDeque;

use crate::position::{Position, Positions};
use crate::reading::Timestamp;

/// The most readings that wait for a connection that takes them too slowly; beyond it all that waits is to be taken back,
/// to come as history, and everything is told anew as it is known then.
pub const WAITING_READINGS_MAX: usize = 20_000;

/// About how many bytes a message with readings may have: under the limits that brokers are known to set.
pub const DATA_SIZE_MAX: usize = 64 << 10;
/// What a packet has beside its payload: a topic, the header.
const ENVELOPE_SIZE: usize = 512;

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

/// Readings that were lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// How many.
    pub count: u64,
    /// The time of the first, where that is known.
    pub from: Option<Timestamp>,
    /// The time of the last, where that is known.
    pub to: Option<Timestamp>,
    /// Why, in words.
    pub reason: &'static str,
}

/// Of what a message tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// What has just happened.
    Now,
    /// What was not sent when it happened, or is sent again.
    History,
}

/// A message that waits.
#[derive(Debug)]
pub struct Waiting<M> {
    /// What is to be said.
    pub message: M,
    /// Which readings say so.
    pub carried: Positions,
    /// About how many bytes it has, and not fewer.
    pub size: usize,
    /// How many readings were added one by one.
    pub readings: usize,
}

impl<M> Waiting<M> {
    /// A message that carries these, and that does not count against [`WAITING_READINGS_MAX`].
    pub fn whole(message: M, carried: Positions) -> Waiting<M> {
        Waiting { message, carried, size: 0, readings: 0 }
    }
}

/// Messages that wait for a connection.
#[derive(Debug)]
pub struct Outbox<M> {
    now: VecDeque<Waiting<M>>,
    history: VecDeque<Waiting<M>>,
    /// How many readings wait in `now`.
    readings: usize,
    moves: Moves,
    data_size_max: usize,
}

impl<M> Default for Outbox<M> {
    fn default() -> Outbox<M> {
        Outbox {
            now: VecDeque::new(),
            history: VecDeque::new(),
            readings: 0,
            moves: Moves::default(),
            data_size_max: DATA_SIZE_MAX,
        }
    }
}

impl<M> Outbox<M> {
    /// The broker takes no larger packet than this.
    pub fn set_packet_size(&mut self, size: usize) {
        self.data_size_max = size.saturating_sub(ENVELOPE_SIZE).min(DATA_SIZE_MAX);
    }

    /// About how many bytes a message with readings may have; a single reading is sent whatever it has.
    #[must_use]
    pub fn data_size_max(&self) -> usize {
        self.data_size_max
    }

    /// Adds a whole message.
    pub fn push(&mut self, lane: Lane, waiting: Waiting<M>) {
        self.handle_queued(&waiting.carried);
        if lane == Lane::Now {
            self.readings += waiting.readings;
        }
        self.lane(lane).push_back(waiting);
    }

    /// Adds a reading, of which `item` is what a message says, in about `size` bytes: to the message that waits last, where
    /// `join` finds that it goes there, or in one of its own, which `alone` makes of what `join` gives back.
    pub fn add<T>(
        &mut self,
        lane: Lane,
        position: Position,
        size: usize,
        item: T,
        join: impl FnOnce(&mut Waiting<M>, T) -> Option<T>,
        alone: impl FnOnce(T) -> M,
    ) {
        let range = position..position.after(1);
        self.moves.taken_back.remove(range.clone());
        self.moves.queued.insert(range.clone());
        if lane == Lane::Now {
            self.readings += 1;
        }
        let queue = self.lane(lane);
        let left = match queue.back_mut() {
            None => Some(item),
            Some(last) => {
                let left = join(last, item);
                if left.is_none() {
                    last.carried.insert(range.clone());
                    last.size += size;
                    last.readings += 1;
                }
                left
            }
        };
        queue.extend(left.map(|item| Waiting {
            message: alone(item),
            carried: Positions::of(range),
            size,
            readings: 1,
        }));
    }

    /// The next message; take it only to send it.
    pub fn pop(&mut self) -> Option<Waiting<M>> {
        match self.now.pop_front() {
            Some(waiting) => {
                self.readings = self.readings.saturating_sub(waiting.readings);
                Some(waiting)
            }
            None => self.history.pop_front(),
        }
    }

    /// The first message of now that `goes_ahead` and that nothing which `is_of_same` stands before.
    pub fn pop_ahead(
        &mut self,
        goes_ahead: impl Fn(&M) -> bool,
        is_of_same: impl Fn(&M, &M) -> bool,
    ) -> Option<Waiting<M>> {
        let index = self.now.iter().enumerate().position(|(index, waiting)| {
            let mut before = self.now.iter().take(index);
            goes_ahead(&waiting.message) && before.all(|other| !is_of_same(&other.message, &waiting.message))
        })?;
        let waiting = self.now.remove(index)?;
        self.readings = self.readings.saturating_sub(waiting.readings);
        Some(waiting)
    }

    /// Whether anything but history waits.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.now.is_empty()
    }

    /// How many messages of history wait.
    #[must_use]
    pub fn history_waiting(&self) -> usize {
        self.history.len()
    }

    /// Whether more readings wait than may.
    #[must_use]
    pub fn is_overfull(&self) -> bool {
        self.readings > WAITING_READINGS_MAX
    }

    /// Nothing waits any more: readings that did are to come as history. The messages that told what is so now.
    pub fn take_back(&mut self) -> Vec<M> {
        let (now, history) = (std::mem::take(&mut self.now), std::mem::take(&mut self.history));
        self.handle_taken_back(&history);
        self.handle_taken_back(&now);
        self.readings = 0;
        now.into_iter().map(|waiting| waiting.message).collect()
    }

    /// Takes back the history that `is_meant`.
    pub fn take_back_history(&mut self, is_meant: impl Fn(&M) -> bool) {
        let (goes, stays): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.history).into_iter().partition(|waiting| is_meant(&waiting.message));
        self.history = stays;
        self.handle_taken_back(&goes);
    }

    /// The connection is gone, and with it all that waited for it: whoever owned it knows.
    pub fn clear(&mut self) -> Vec<M> {
        let messages = self.take_back();
        self.moves = Moves::default();
        messages
    }

    /// Nobody is to be told of these.
    pub fn handle_idle(&mut self, position: Position) {
        self.moves.idle.insert(position..position.after(1));
    }

    /// Which readings got into messages, and out of them, since this was asked last.
    pub fn take_moves(&mut self) -> Moves {
        std::mem::take(&mut self.moves)
    }

    fn lane(&mut self, lane: Lane) -> &mut VecDeque<Waiting<M>> {
        match lane {
            Lane::Now => &mut self.now,
            Lane::History => &mut self.history,
        }
    }

    fn handle_queued(&mut self, carried: &Positions) {
        self.moves.taken_back.subtract(carried);
        self.moves.queued.extend(carried);
    }

    fn handle_taken_back(&mut self, all: &VecDeque<Waiting<M>>) {
        for waiting in all {
            self.moves.queued.subtract(&waiting.carried);
            self.moves.taken_back.extend(&waiting.carried);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds a letter; the same letters make one message of at most three.
    fn add(outbox: &mut Outbox<String>, lane: Lane, position: u64, letter: &str) {
        let join = |last: &mut Waiting<String>, letter: String| {
            if !last.message.starts_with(&letter) || last.message.len() == 3 {
                return Some(letter);
            }
            last.message.push_str(&letter);
            None
        };
        outbox.add(lane, Position(position), 1, letter.to_owned(), join, |letter| letter);
    }

    fn drain(outbox: &mut Outbox<String>) -> String {
        let next = || outbox.pop().map(|waiting| format!("{}:{}", waiting.message, waiting.carried.count()));
        std::iter::from_fn(next).collect::<Vec<_>>().join(" ")
    }

    fn positions(range: std::ops::Range<u64>) -> Positions {
        Positions::of(Position(range.start)..Position(range.end))
    }

    #[test]
    fn readings_join_the_last_message_of_their_lane_and_history_is_last() {
        let mut outbox = Outbox::default();
        add(&mut outbox, Lane::History, 0, "h");
        for (position, letter) in ["a", "a", "a", "a", "b", "a"].into_iter().enumerate() {
            add(&mut outbox, Lane::Now, 10 + position as u64, letter);
        }
        add(&mut outbox, Lane::History, 1, "h");
        assert_eq!(outbox.history_waiting(), 1);
        assert_eq!(drain(&mut outbox), "aaa:3 a:1 b:1 a:1 hh:2");
        assert!(!outbox.is_waiting());
    }

    #[test]
    fn what_is_taken_back_was_never_queued_and_may_be_queued_again() {
        let mut outbox = Outbox::default();
        (0..4).for_each(|position| add(&mut outbox, Lane::Now, position, "a"));
        add(&mut outbox, Lane::History, 9, "h");
        assert_eq!(outbox.pop().unwrap().carried, positions(0..3));
        outbox.take_back();
        outbox.push(Lane::Now, Waiting::whole("whole".to_owned(), positions(3..4)));
        let moves = outbox.take_moves();
        assert_eq!(
            moves,
            Moves { queued: positions(0..4), taken_back: positions(9..10), ..Moves::default() }
        );
        assert_eq!((outbox.take_moves(), drain(&mut outbox).as_str()), (Moves::default(), "whole:1"));
    }

    #[test]
    fn it_is_overfull_when_too_many_single_readings_wait_and_only_then() {
        let mut outbox = Outbox::default();
        for position in 0..=WAITING_READINGS_MAX as u64 {
            assert!(!outbox.is_overfull(), "{position}");
            outbox.push(Lane::Now, Waiting::whole(String::new(), positions(0..1)));
            add(&mut outbox, Lane::History, position, "h");
            add(&mut outbox, Lane::Now, position, "a");
        }
        assert!(outbox.is_overfull());
        outbox.take_back();
        assert!(!outbox.is_overfull() && !outbox.is_waiting() && outbox.history_waiting() == 0);
    }
}
