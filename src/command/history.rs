//! What was asked before: which ids have come, when each tag was written, what is armed. Pure, and bounded.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::reading::Value;
use crate::tag::TagId;
use crate::write::{Requester, WriteRequest};

/// Commands that are told from repetitions; while so many are remembered, further ones are refused as busy.
pub const IDS_MAX: usize = 1024;

/// What was asked before.
#[derive(Debug, Default)]
pub struct History {
    /// Each id, and until when a repetition of it would be taken for new without it.
    ids: BTreeMap<String, Instant>,
    /// When each tag was written last; as many as there are tags at most.
    written: BTreeMap<TagId, Instant>,
    /// What is to come once more; as many as there are tags at most.
    armed: BTreeMap<TagId, Armed>,
}

/// A command that is carried out when it comes once more.
#[derive(Debug)]
struct Armed {
    value: Value,
    by: Requester,
    until: Instant,
}

/// Why a command cannot be told from a repetition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It has come before.
    Repeated,
    /// Too many are remembered.
    Full,
}

impl History {
    /// Remembers the id of a command that would be too old after `keep`.
    ///
    /// # Errors
    /// Where it has come before, or no more can be remembered.
    pub fn remember(&mut self, id: &str, keep: Duration, now: Instant) -> Result<(), Known> {
        self.ids.retain(|_, until| *until > now);
        if self.ids.contains_key(id) {
            return Err(Known::Repeated);
        }
        if self.ids.len() >= IDS_MAX {
            return Err(Known::Full);
        }
        self.ids.insert(id.to_owned(), now + keep);
        Ok(())
    }

    /// How long `tag` must still be left alone, if it is written at most each `every`.
    #[must_use]
    pub fn wait(&self, tag: TagId, every: Duration, now: Instant) -> Option<Duration> {
        let next = *self.written.get(&tag)? + every;
        (next > now).then(|| next.saturating_duration_since(now))
    }

    /// `tag` is about to be written.
    pub fn note_write(&mut self, tag: TagId, now: Instant) {
        self.written.insert(tag, now);
    }

    /// It was not written after all.
    pub fn forget_write(&mut self, tag: TagId) {
        self.written.remove(&tag);
    }

    /// Whether this very command was armed; if not it is now, for `within`.
    pub fn is_armed(&mut self, tag: TagId, request: &WriteRequest, within: Duration, now: Instant) -> bool {
        let armed = self.armed.remove(&tag).filter(|armed| armed.until > now);
        let Some(value) = &request.value else { return false };
        if armed.is_some_and(|armed| armed.value.is_same(value) && armed.by == request.by) {
            return true;
        }
        let armed = Armed { value: value.clone(), by: request.by.clone(), until: now + within };
        self.armed.insert(tag, armed);
        false
    }
}

/// How many refusals are recorded a second in the long run.
const RECORDS_A_SECOND: f64 = 5.0;
/// How many may be recorded at once.
const RECORDS_AT_ONCE: f64 = 100.0;

/// How many refusals may still be recorded: a flood of them must not wear the flash out, nor wash away what was done.
#[derive(Debug)]
pub struct Allowance {
    left: f64,
    at: Instant,
    /// Those that were not recorded since one was.
    pub unrecorded: u64,
}

impl Allowance {
    /// A full one.
    #[must_use]
    pub const fn new(now: Instant) -> Allowance {
        Allowance { left: RECORDS_AT_ONCE, at: now, unrecorded: 0 }
    }

    /// Whether one more may be recorded; counted if not.
    pub fn take(&mut self, now: Instant) -> bool {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * RECORDS_A_SECOND;
        (self.left, self.at) = ((self.left + gained).min(RECORDS_AT_ONCE), now);
        if self.left < 1.0 {
            self.unrecorded += 1;
            return false;
        }
        self.left -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn an_id_is_known_until_it_would_be_too_old_and_none_is_forgotten_for_another() {
        let (mut history, start) = (History::default(), clock::monotonic());
        let keep = Duration::from_secs(21);
        for index in 0..IDS_MAX {
            assert_eq!(history.remember(&index.to_string(), keep, start), Ok(()));
        }
        assert_eq!(history.remember("7", keep, start), Err(Known::Repeated));
        assert_eq!(history.remember("more", keep, start), Err(Known::Full));
        assert_eq!(
            history.remember("7", keep, start + keep - Duration::from_millis(1)),
            Err(Known::Repeated)
        );
        assert_eq!(history.remember("7", keep, start + keep), Ok(()));
        assert_eq!(history.remember("more", keep, start + keep), Ok(()));
    }

    #[test]
    fn a_flood_of_refusals_is_recorded_at_a_pace_and_the_rest_is_counted() {
        let start = clock::monotonic();
        let mut allowance = Allowance::new(start);
        let taken = (0..500).filter(|_| allowance.take(start)).count();
        assert_eq!((taken, allowance.unrecorded), (100, 400));
        let taken = (0..500).filter(|_| allowance.take(start + Duration::from_secs(2))).count();
        assert_eq!(taken, 10);
    }
}
