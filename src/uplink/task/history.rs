//! What was missed: asked from the store, queued behind all that is new, or counted and announced as lost.

use std::time::{Duration, Instant};

use tracing::error;

use super::Task;
use super::talk::Talk;
use crate::clock;
use crate::outbox::Lost;
use crate::position::{Position, Positions};
use crate::queue::{Gap, JUMP, Piece, Reason};

/// The longest wait for devices that do not answer before the history is sent.
const HISTORY_HOLD: Duration = Duration::from_secs(5);
/// Messages of history that wait; with fewer, more is read.
const HISTORY_WAITING_MAX: usize = 16;
/// How often, and how long apart, a segment is read again that cannot be read, before what it holds is given up.
const READ_TRIES: u32 = 12;
const READ_RETRY: Duration = Duration::from_secs(5);
impl Task {
    /// Counts and announces what of a gap this uplink had not delivered.
    pub(super) fn lose(&mut self, gap: Gap) {
        let count = self.delivery.handle_gap(gap.first..gap.end);
        self.announce(&Lost { count, from: gap.from, to: gap.to, reason: gap.reason.id() });
    }

    fn lose_all(&mut self, positions: &Positions, reason: Reason) {
        let mut count = 0;
        for range in positions.iter() {
            if range.end.since(range.start) >= JUMP {
                self.delivery.give_up(&Positions::of(range)); // there was never a reading
            } else {
                count += self.delivery.handle_gap(range);
            }
        }
        self.announce(&Lost { count, from: None, to: None, reason: reason.id() });
    }

    fn announce(&mut self, lost: &Lost) {
        if lost.count > 0 {
            error!(uplink = %self.uplink.name, readings = lost.count, reason = lost.reason, "readings are lost");
            self.session.handle_lost(lost, clock::wall());
        }
    }

    /// Asks the store for what was missed, as fast as it may be sent; when to ask again, if that is known.
    pub(super) fn ask(&mut self, talk: &Talk) -> Option<Instant> {
        let now = clock::monotonic();
        let settled = self.replay.settled(now);
        let born = talk.born?;
        if self.asked.is_some()
            || self.session.history_waiting() >= HISTORY_WAITING_MAX
            || !self.delivery.has_room()
        {
            return None; // something else will happen first
        }
        let held_until = born + HISTORY_HOLD;
        if !self.session.is_all_up() && now < held_until {
            return Some(held_until);
        }
        let Some(from) = self.delivery.history_due(settled) else {
            if self.session.history_waiting() == 0 {
                self.session.handle_history_end(clock::wall());
            }
            return self.replay.settles_at();
        };
        if let Some((_, retry)) = self.unread.filter(|(_, retry)| *retry > now) {
            return Some(retry);
        }
        match self.replay.count(now) {
            Ok(count) => {
                let piece = self.outlet.read(from, count, std::mem::take(&mut self.bookmark));
                self.asked = piece.map(|piece| (from, piece));
                None
            }
            Err(later) => Some(later),
        }
    }

    /// Queues what was read from the store, as far as it is still to be sent.
    pub(super) fn replay(&mut self, from: Position, mut piece: Piece) {
        if let Some(end) = piece.unreadable {
            let tries = self.unread.map_or(0, |(tries, _)| tries) + 1;
            if tries < READ_TRIES {
                self.unread = Some((tries, clock::monotonic() + READ_RETRY));
                return;
            }
            piece.next = end;
        }
        self.unread = None;
        // what was dropped meanwhile has been told before, and why
        while let Ok(news) = self.outlet.news.try_recv() {
            self.take_one(news);
        }
        self.book(); // what is queued by now is not wanted again
        self.replay.handle_read(piece.readings.len());
        self.bookmark = piece.bookmark;
        let mut missing = Positions::of(from..piece.next);
        missing.subtract(&piece.unknown);
        missing.subtract(&piece.undated);
        piece.readings.iter().for_each(|(position, _)| missing.remove(*position..position.after(1)));
        let wanted =
            piece.readings.into_iter().filter(|(position, _)| self.delivery.is_wanted(*position)).collect();
        let unsent = self.session.handle_history(wanted, clock::wall());
        self.book();
        self.delivery.handle_read(from, piece.next);
        self.delivery.give_up(&unsent.idle);
        let reasons = [Reason::Damage, Reason::Tag, Reason::Tag, Reason::Clock];
        for (positions, reason) in [missing, piece.unknown, unsent.unfit, piece.undated].iter().zip(reasons) {
            self.lose_all(positions, reason);
        }
    }
}
