//! What was asked before: which ids have come, when each tag was written, what is armed. Pure, and bounded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::reading::Value;
use crate::tag::TagId;
use crate::write::{Requester, WriteRequest};

/// Commands of one uplink that are told from repetitions; while so many are remembered, further ones of it are refused as
/// busy.
pub const IDS_MAX: usize = 1024;

/// What was asked before.
#[derive(Debug, Default)]
pub struct History {
    /// Each id, by which uplink it came, and until when a repetition of it would be taken for new without it.
    ids: BTreeMap<String, (Arc<str>, Instant)>,
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
    /// Remembers the id of a command that came by `uplink` and would be too old after `keep`. It is known whichever way it
    /// comes again.
    ///
    /// # Errors
    /// Where it has come before, or no more of this uplink can be remembered.
    pub fn remember(
        &mut self,
        uplink: &Arc<str>,
        id: &str,
        keep: Duration,
        now: Instant,
    ) -> Result<(), Known> {
        self.ids.retain(|_, (_, until)| *until > now);
        if self.ids.contains_key(id) {
            return Err(Known::Repeated);
        }
        if self.ids.values().filter(|(by, _)| by == uplink).count() >= IDS_MAX {
            return Err(Known::Full);
        }
        self.ids.insert(id.to_owned(), (uplink.clone(), now + keep));
        Ok(())
    }

    /// How long `tag` must still be left alone, if it is written at most each `every`.
    #[must_use]
    pub fn wait(&self, tag: TagId, every: Duration, now: Instant) -> Option<Duration> {
        let next = *self.written.get(&tag)? + every;
        (next > now).then(|| next.saturating_duration_since(now))
    }

    /// `tag` was written, or may have been.
    pub fn note_write(&mut self, tag: TagId, now: Instant) {
        self.written.insert(tag, now);
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
/// How many bytes of refusals are recorded a day: of what was done the record must go back for weeks.
const BYTES_A_DAY: f64 = 262_144.0;
/// A day, in seconds.
const DAY: f64 = 86_400.0;

/// How many refusals may still be recorded: a flood of them must not wear the flash out, nor wash away what was done.
#[derive(Debug)]
pub struct Allowance {
    records: f64,
    bytes: f64,
    at: Instant,
    /// Those that were not recorded since something was.
    pub unrecorded: u64,
}

impl Allowance {
    /// A full one.
    #[must_use]
    pub const fn new(now: Instant) -> Allowance {
        Allowance { records: RECORDS_AT_ONCE, bytes: BYTES_A_DAY, at: now, unrecorded: 0 }
    }

    /// Whether a refusal of `size` bytes may be recorded; counted if not.
    pub fn take(&mut self, size: usize, now: Instant) -> bool {
        if !self.has_room(size, now) {
            self.unrecorded += 1;
            return false;
        }
        self.spend(size, now);
        true
    }

    /// Whether a refusal of `size` bytes could be recorded.
    pub fn has_room(&mut self, size: usize, now: Instant) -> bool {
        let gained = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.records = (self.records + gained * RECORDS_A_SECOND).min(RECORDS_AT_ONCE);
        self.bytes = (self.bytes + gained * BYTES_A_DAY / DAY).min(BYTES_A_DAY);
        self.records >= 1.0 && self.bytes >= bytes(size)
    }

    /// A refusal of `size` bytes is recorded, whether there is room or not.
    pub fn spend(&mut self, size: usize, now: Instant) {
        self.has_room(size, now);
        (self.records, self.bytes) = ((self.records - 1.0).max(0.0), (self.bytes - bytes(size)).max(0.0));
    }
}

fn bytes(size: usize) -> f64 {
    u32::try_from(size).map_or(f64::INFINITY, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn an_id_is_known_until_it_would_be_too_old_and_none_is_forgotten_for_another() {
        let (mut history, start) = (History::default(), clock::monotonic());
        let (keep, cloud) = (Duration::from_secs(21), Arc::from("cloud"));
        for index in 0..IDS_MAX {
            assert_eq!(history.remember(&cloud, &index.to_string(), keep, start), Ok(()));
        }
        assert_eq!(history.remember(&cloud, "7", keep, start), Err(Known::Repeated));
        assert_eq!(history.remember(&cloud, "more", keep, start), Err(Known::Full));
        let later = start + keep - Duration::from_millis(1);
        assert_eq!(history.remember(&cloud, "7", keep, later), Err(Known::Repeated));
        assert_eq!(history.remember(&cloud, "7", keep, start + keep), Ok(()));
        assert_eq!(history.remember(&cloud, "more", keep, start + keep), Ok(()));
    }

    #[test]
    fn an_uplink_with_very_many_commands_locks_no_other_out_and_an_id_is_known_at_each() {
        let (mut history, start) = (History::default(), clock::monotonic());
        let (keep, cloud, plant) = (Duration::from_secs(21), Arc::from("cloud"), Arc::from("plant"));
        for index in 0..IDS_MAX {
            assert_eq!(history.remember(&cloud, &index.to_string(), keep, start), Ok(()));
        }
        assert_eq!(history.remember(&plant, "7", keep, start), Err(Known::Repeated));
        assert_eq!(history.remember(&plant, "more", keep, start), Ok(()));
    }

    #[test]
    fn a_flood_of_refusals_is_recorded_at_a_pace_and_the_rest_is_counted() {
        let start = clock::monotonic();
        let mut allowance = Allowance::new(start);
        let taken = (0..500).filter(|_| allowance.take(100, start)).count();
        assert_eq!((taken, allowance.unrecorded), (100, 400));
        let taken = (0..500).filter(|_| allowance.take(100, start + Duration::from_secs(2))).count();
        assert_eq!(taken, 10);
    }

    #[test]
    fn refusals_take_a_quarter_of_a_mebibyte_a_day_and_no_more() {
        let start = clock::monotonic();
        let mut allowance = Allowance::new(start);
        let second = |number: u64| start + Duration::from_secs(number);
        let taken = (0..86_400).filter(|number| allowance.take(1024, second(*number))).count();
        assert!((510..=512).contains(&taken), "{taken}"); // half was there, half came in the day
        allowance.spend(1 << 30, second(86_400));
        assert!(!allowance.has_room(1, second(86_400)) && allowance.has_room(1, second(86_401)));
    }
}
