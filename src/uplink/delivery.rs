//! The ledger of one uplink: what the broker surely has, what is on its way, and what is still to be sent. Pure.
//!
//! A message at QoS 0 has no acknowledgement. After a while a *barrier* is sent, an empty message at QoS 1: a broker reads
//! a connection in order, so that its acknowledgement proves that everything before it has been read as well. A broker
//! can still die with what it has read; so what was confirmed is *sure* only when the broker is heard after a time in which
//! such a death would have been noticed, and a connection that ends uncleanly makes everything that is not sure to be sent again.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::position::{Position, Positions};
use crate::queue::Delivered;

/// The most barriers that are not acknowledged yet.
const BARRIERS_MAX: usize = 8;
/// Bytes that may be on their way before anything is known of the connection.
const WINDOW_START: usize = 16 << 10;
/// The fewest and the most bytes that may be on their way.
const WINDOW_MIN: usize = 4 << 10;
const WINDOW_MAX: usize = 1 << 20;
/// A barrier that comes back sooner shows that the connection takes more than is on its way.
const QUICK: Duration = Duration::from_secs(1);
/// A barrier that comes back later shows that it takes less: what is on its way must not hide a connection that is dead.
const SLOW: Duration = Duration::from_secs(4);
/// Bytes a second that the slowest connection takes which is not given up: 256 kbit/s.
const SLOWEST: u32 = 32 << 10;
/// What is confirmed within so long is kept as one: where each message is acknowledged, there are thousands a second.
const CONFIRMED_AT_ONCE: Duration = Duration::from_millis(100);
/// After this part of the window a barrier is sent at once.
const BARRIERS_PER_WINDOW: usize = 4;

/// What the broker has and has not.
#[derive(Debug)]
pub(super) struct Delivery {
    /// A barrier follows what was sent after so long.
    barrier_after: Duration,
    /// What was confirmed is sure after so long.
    sure_after: Duration,
    /// Delivered for good, or given up for good.
    sure: Positions,
    /// The oldest first.
    confirmed: VecDeque<Confirmed>,
    /// All of these.
    fresh: Positions,
    /// In messages that wait, or were handed over and are not confirmed.
    pending: Positions,
    /// Handed over, in order.
    sent: VecDeque<Sent>,
    /// Bytes of them.
    sent_size: usize,
    /// Bytes that may be on their way: as many as the connection takes within seconds.
    window: usize,
    barriers: usize,
    /// The first position that the store has not given yet.
    next: Position,
    /// From here on nothing has been asked from the store in this connection.
    history_from: Position,
    /// Before this everything is confirmed, as far as was looked.
    reached: Position,
}

/// What the broker has acknowledged.
#[derive(Debug)]
struct Confirmed {
    positions: Positions,
    /// The first of them.
    from: Instant,
    /// The last of them.
    to: Instant,
}

/// What was handed over to the connection.
#[derive(Debug)]
struct Sent {
    carried: Positions,
    size: usize,
    at: Instant,
    /// Acknowledged by the broker: a barrier, or any message at QoS 1. What was sent before is proven by it too.
    is_proof: bool,
}

impl Delivery {
    /// Everything before `start` is delivered; the store has readings up to `next`.
    pub(super) fn new(
        start: Delivered,
        next: Position,
        barrier_after: Duration,
        sure_after: Duration,
    ) -> Delivery {
        Delivery {
            barrier_after,
            sure_after,
            sure: Positions::of(Position(0)..start.sure),
            confirmed: VecDeque::new(),
            fresh: Positions::default(),
            pending: Positions::default(),
            sent: VecDeque::new(),
            sent_size: 0,
            window: WINDOW_START,
            barriers: 0,
            next,
            history_from: start.sure,
            reached: start.sure,
        }
    }

    /// How far this uplink has come.
    pub(super) fn delivered(&mut self, is_away: bool) -> Delivered {
        let sure = self.sure.first_missing(Position(0));
        let mut confirmed = sure.max(self.reached);
        loop {
            let further = self.fresh.first_missing(self.sure.first_missing(confirmed));
            if further == confirmed {
                self.reached = confirmed;
                return Delivered { confirmed, sure, is_away };
            }
            confirmed = further;
        }
    }

    /// How many readings the store has given that are neither confirmed nor given up.
    pub(super) fn missing(&self) -> u64 {
        self.next.0.saturating_sub(self.sure.count() + self.fresh.count())
    }

    /// The store has given positions up to there.
    pub(super) fn handle_stored(&mut self, next: Position) {
        self.next = self.next.max(next);
    }

    /// They are in a message that waits to be sent.
    pub(super) fn handle_waiting(&mut self, positions: &Positions) {
        self.pending.extend(positions);
    }

    /// A message of `size` bytes with these was handed over; `is_proof`: the broker acknowledges it.
    pub(super) fn handle_sent(&mut self, carried: Positions, size: usize, is_proof: bool, now: Instant) {
        self.pending.extend(&carried);
        self.sent_size += size;
        self.sent.push_back(Sent { carried, size, at: now, is_proof });
    }

    /// A barrier was handed over.
    pub(super) fn handle_barrier_sent(&mut self, now: Instant) {
        self.barriers += 1;
        self.handle_sent(Positions::default(), 0, true, now);
    }

    /// Whether the connection takes more now: what is on its way is less than it takes within seconds.
    pub(super) fn has_room(&self) -> bool {
        self.barriers < BARRIERS_MAX && self.sent_size < self.window
    }

    /// When a barrier is to be sent; none while nothing waits for one.
    pub(super) fn barrier_due(&self) -> Option<Instant> {
        if self.barriers >= BARRIERS_MAX {
            return None;
        }
        let unproven = self.sent.iter().rev().take_while(|sent| !sent.is_proof);
        let (mut size, mut oldest) = (0, None);
        for sent in unproven {
            size += sent.size;
            oldest = Some(sent.at);
        }
        let is_much = size >= self.window / BARRIERS_PER_WINDOW;
        oldest.map(|oldest| oldest + if is_much { Duration::ZERO } else { self.barrier_after })
    }

    /// The oldest message that asks for it has been acknowledged.
    pub(super) fn handle_acknowledged(&mut self, now: Instant) {
        let Some(proof) = self.sent.iter().position(|sent| sent.is_proof) else { return };
        let was_full = self.sent_size >= self.window / 2;
        let (mut proven, mut took) = (Positions::default(), Duration::ZERO);
        for sent in self.sent.drain(..=proof) {
            self.sent_size -= sent.size;
            proven.extend(&sent.carried);
            took = now.saturating_duration_since(sent.at);
        }
        if took > SLOW {
            self.window = (self.window / 2).max(WINDOW_MIN);
        } else if took < QUICK && was_full {
            self.window = (self.window * 2).min(WINDOW_MAX);
        }
        self.barriers = self.barriers.saturating_sub(1);
        self.pending.subtract(&proven);
        self.fresh.extend(&proven);
        match self.confirmed.back_mut() {
            _ if proven.is_empty() => {}
            Some(last) if now.saturating_duration_since(last.from) < CONFIRMED_AT_ONCE => {
                last.positions.extend(&proven);
                last.to = now;
            }
            _ => self.confirmed.push_back(Confirmed { positions: proven, from: now, to: now }),
        }
    }

    /// The oldest thing that was handed over and has not been acknowledged: since when it waits.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        self.sent.iter().find(|sent| sent.is_proof).map(|sent| sent.at)
    }

    /// Bytes that were handed over and not proven.
    pub(super) fn sent_size(&self) -> usize {
        self.sent_size
    }

    /// How long a slow connection may take for what is on its way: meanwhile a broker has nothing to answer.
    pub(super) fn transit(&self) -> Duration {
        Duration::from_secs(1) * u32::try_from(self.sent_size).unwrap_or(u32::MAX) / SLOWEST
    }

    /// Whether nothing is on its way.
    pub(super) fn is_quiet(&self) -> bool {
        self.sent.is_empty()
    }

    /// The broker was heard at `now`: what it confirmed long enough before is sure.
    pub(super) fn handle_heard(&mut self, now: Instant) {
        while let Some(oldest) = self.confirmed.front()
            && now.saturating_duration_since(oldest.to) >= self.sure_after
            && let Some(Confirmed { positions, .. }) = self.confirmed.pop_front()
        {
            self.fresh.subtract(&positions);
            self.sure.extend(&positions);
        }
    }

    /// These will never be delivered: they are gone, or nobody wants them.
    pub(super) fn give_up(&mut self, positions: &Positions) {
        self.sure.extend(positions);
    }

    /// How many of a range were not delivered; from now on they count as given up.
    pub(super) fn handle_gap(&mut self, range: Range<Position>) -> u64 {
        let mut lost = Positions::of(range.clone());
        for known in [&self.sure, &self.fresh, &self.pending] {
            lost.subtract(known);
        }
        self.give_up(&lost);
        lost.count()
    }

    /// What waits was taken back: it is to be sent another time.
    pub(super) fn handle_taken_back(&mut self, positions: &Positions) {
        self.pending.subtract(positions);
        self.history_from = positions.first().map_or(self.history_from, |first| self.history_from.min(first));
    }

    /// The connection has ended. What was on its way is to be sent again; after an unclean end also what is not sure.
    pub(super) fn handle_end(&mut self, is_clean: bool) {
        self.pending = Positions::default();
        self.sent.clear();
        (self.sent_size, self.window, self.barriers) = (0, WINDOW_START, 0);
        if is_clean {
            for Confirmed { positions, .. } in self.confirmed.drain(..) {
                self.sure.extend(&positions);
            }
        }
        self.confirmed.clear();
        self.fresh = Positions::default();
        self.history_from = self.sure.first_missing(Position(0));
        self.reached = self.history_from;
    }

    /// From where to read what is to be sent late, if anything before `until` is.
    pub(super) fn history_due(&mut self, until: Position) -> Option<Position> {
        let mut from = self.history_from;
        loop {
            let further = [&self.sure, &self.fresh, &self.pending]
                .into_iter()
                .fold(from, |from, known| known.first_missing(from));
            if further == from {
                break;
            }
            from = further;
        }
        self.history_from = from;
        (from < until.min(self.next)).then_some(from)
    }

    /// Whether a reading that was read from the store is still to be sent.
    pub(super) fn is_wanted(&self, position: Position) -> bool {
        ![&self.sure, &self.fresh, &self.pending].into_iter().any(|known| known.contains(position))
    }

    /// What lies from `from` to `next` has been read from the store. Something before it may have been taken back meanwhile.
    pub(super) fn handle_read(&mut self, from: Position, next: Position) {
        if self.history_from >= from {
            self.history_from = self.history_from.max(next);
        }
    }
}

#[cfg(test)]
mod tests;
