//! Too many alarms for somebody to read: they are counted, and told of in one event (EEMUA 191, ISA-18.2-2016).
//!
//! A flood begins when more than 10 alarms of a device ask somebody to look within 10 minutes, and ends when fewer than 5 have done so in
//! the last 10. While it lasts, what happens by itself to alarms below critical is held back and counted; critical alarms
//! and what people do are told as ever. How many were held back is told when the flood begins, each minute, and when it ends.
//! Only events are held back: the alarms themselves are followed, and so are their bool tags.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::event::Event;
use crate::config::site::Severity;
use crate::reading::Timestamp;
use crate::tag::TagId;

/// More alarms than this in the window are a flood.
const MOST: usize = 10;
/// A flood is over when fewer than this lie in the window.
const FEW: usize = 5;
/// What alarms are counted in.
const WINDOW: Duration = Duration::from_secs(600);
/// How often it is told how many were held back.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// What a notice is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    /// A flood has begun.
    Began,
    /// It goes on.
    GoesOn,
    /// It is over.
    Ended,
}

impl NoticeKind {
    /// The word that is published.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            NoticeKind::Began => "flood_began",
            NoticeKind::GoesOn => "flood",
            NoticeKind::Ended => "flood_ended",
        }
    }
}

/// Events that were held back, by the severity of their alarm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Withheld {
    /// Of low severity.
    pub low: u32,
    /// Of medium severity.
    pub medium: u32,
    /// Of high severity.
    pub high: u32,
}

impl Withheld {
    fn count(&mut self, severity: Severity) {
        let count = match severity {
            Severity::Low => &mut self.low,
            Severity::Medium => &mut self.medium,
            Severity::High => &mut self.high,
            Severity::Critical => return,
        };
        *count = count.saturating_add(1);
    }
}

/// What is told of a flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What.
    pub kind: NoticeKind,
    /// When; `None` while the wall clock is not to be trusted.
    pub at: Option<Timestamp>,
    /// Held back since the notice before.
    pub withheld: Withheld,
}

#[derive(Serialize)]
struct Line<'a> {
    event: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
    withheld: Withheld,
}

impl Notice {
    /// One line of JSON: what happened, when, and how many events were held back since the notice before.
    #[must_use]
    pub fn text(&self) -> String {
        let at = self.at.map(|at| at.to_string());
        // What has text keys and whole numbers only can always be written.
        serde_json::to_string(&Line { event: self.kind.word(), at, withheld: self.withheld })
            .unwrap_or_default()
    }
}

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// It is told; else it was counted.
    pub is_told: bool,
    /// What is to be told of the flood, before it.
    pub notice: Option<Notice>,
}

/// All alarms of a device; its memory does not grow.
#[derive(Debug)]
pub struct Flood {
    /// The last alarms that asked somebody to look, the oldest first; one more than a flood takes.
    asked: VecDeque<Instant>,
    /// Up to when its time is accounted for; never goes back.
    seen: Instant,
    /// In a flood: when it is to be told of next.
    tell_at: Option<Instant>,
    withheld: Withheld,
}

impl Flood {
    /// No alarm has been raised yet.
    #[must_use]
    pub fn new(now: Instant) -> Flood {
        Flood {
            asked: VecDeque::with_capacity(MOST + 1),
            seen: now,
            tell_at: None,
            withheld: Withheld::default(),
        }
    }

    /// Whether there is a flood.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.tell_at.is_some()
    }

    /// Takes an event of any alarm, and says whether it is told.
    pub fn handle(&mut self, event: &Event, wall: Option<Timestamp>, now: Instant) -> Verdict {
        let mut notice = self.handle_time(wall, now);
        let begins = event.is_annunciation() && self.count();
        let is_told =
            event.kind.is_by_hand() || event.severity == Severity::Critical || !(begins || self.is_on());
        if !is_told {
            self.withheld.count(event.severity);
        }
        if begins {
            notice = Some(self.tell(NoticeKind::Began, wall));
        }
        Verdict { is_told, notice }
    }

    /// Lets time pass up to `now`: to be called at the latest when [`Flood::next_due`] says so. Gives what is to be told.
    pub fn handle_time(&mut self, wall: Option<Timestamp>, now: Instant) -> Option<Notice> {
        self.seen = self.seen.max(now);
        let tell_at = self.tell_at?;
        if self.ends_at().is_none_or(|at| at <= self.seen) {
            let notice = self.tell(NoticeKind::Ended, wall);
            self.tell_at = None;
            return Some(notice);
        }
        (tell_at <= self.seen).then(|| self.tell(NoticeKind::GoesOn, wall))
    }

    /// When there is something to tell although nothing happens; `None` where there is no flood.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        let tell_at = self.tell_at?;
        Some(self.ends_at().map_or(tell_at, |at| at.min(tell_at)))
    }

    /// Counts an alarm; whether a flood begins with it.
    fn count(&mut self) -> bool {
        if self.asked.len() > MOST {
            self.asked.pop_front();
        }
        self.asked.push_back(self.seen);
        let is_inside = |at: &Instant| self.seen.saturating_duration_since(*at) < WINDOW;
        !self.is_on() && self.asked.len() > MOST && self.asked.front().is_some_and(is_inside)
    }

    /// When fewer than [`FEW`] lie in the window, if nothing more comes.
    fn ends_at(&self) -> Option<Instant> {
        let last = self.asked.len().checked_sub(FEW)?;
        self.asked.get(last)?.checked_add(WINDOW)
    }

    fn tell(&mut self, kind: NoticeKind, at: Option<Timestamp>) -> Notice {
        self.tell_at = Some(self.seen.checked_add(TELL_EVERY).unwrap_or(self.seen));
        Notice { kind, at, withheld: std::mem::take(&mut self.withheld) }
    }
}

/// The floods of all devices, by the tags that tell their events: one device's hides no other's alarms.
#[derive(Debug, Default)]
pub struct Floods {
    of: BTreeMap<TagId, Flood>,
    /// When one of them is due.
    due_at: Option<Instant>,
}

impl Floods {
    /// Takes an event of an alarm that is told in `events`, and says whether it is told.
    pub fn handle(&mut self, events: TagId, event: &Event, wall: Option<Timestamp>, now: Instant) -> Verdict {
        let verdict = self.of.entry(events).or_insert_with(|| Flood::new(now)).handle(event, wall, now);
        self.look();
        verdict
    }

    /// Lets time pass up to `now`: to be called at the latest when [`Floods::next_due`] says so. Gives what is to be told, and
    /// where.
    pub fn handle_time(&mut self, wall: Option<Timestamp>, now: Instant) -> Vec<(TagId, Notice)> {
        if self.due_at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        let told = |(events, flood): (&TagId, &mut Flood)| Some((*events, flood.handle_time(wall, now)?));
        let told = self.of.iter_mut().filter_map(told).collect();
        self.look();
        told
    }

    /// When there is something to tell although nothing happens; `None` where there is no flood.
    #[must_use]
    pub const fn next_due(&self) -> Option<Instant> {
        self.due_at
    }

    fn look(&mut self) {
        self.due_at = self.of.values().filter_map(Flood::next_due).min();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::normalize::alarm::{EventKind, State};

    fn event(kind: EventKind, severity: Severity) -> Event {
        let state = State::Unacknowledged;
        Event { kind, state, is_active: true, severity, at: None, since: None, value: None, by: None }
    }

    /// Events at seconds, `SECOND` and then `l m h c` for one that is raised, `-` before it for one that is cleared, `!` for
    /// one that is acknowledged, or nothing to let time pass; the result is for each `t` or `w` for told or held back, with
    /// `B`, `G` or `E` and the counts of low, medium and high before it.
    #[track_caller]
    fn check(events: &str, expected: &str) {
        let begin = crate::clock::monotonic();
        let mut flood = Flood::new(begin);
        let told = events.split(' ').map(|step| {
            let (second, what) =
                step.split_at(step.find(|c: char| !c.is_ascii_digit()).unwrap_or(step.len()));
            let now = begin + Duration::from_secs(second.parse().unwrap());
            let kind = match what.chars().next() {
                Some('-') => EventKind::Cleared,
                Some('!') => EventKind::Acknowledged,
                _ => EventKind::Raised,
            };
            let severity = match what.chars().last() {
                Some('l') => Severity::Low,
                Some('m') => Severity::Medium,
                Some('h') => Severity::High,
                _ => Severity::Critical,
            };
            let (told, notice) = if what.is_empty() {
                ("", flood.handle_time(None, now))
            } else {
                let verdict = flood.handle(&event(kind, severity), None, now);
                (if verdict.is_told { "t" } else { "w" }, verdict.notice)
            };
            notice.map_or(told.to_owned(), |notice| {
                let letter = match notice.kind {
                    NoticeKind::Began => 'B',
                    NoticeKind::GoesOn => 'G',
                    NoticeKind::Ended => 'E',
                };
                let Withheld { low, medium, high } = notice.withheld;
                format!("{letter}{low}{medium}{high}{told}")
            })
        });
        assert_eq!(told.collect::<Vec<_>>().join(" "), expected);
    }

    #[test]
    fn the_eleventh_alarm_in_ten_minutes_is_a_flood() {
        check("0m 1m 2m 3m 4m 5m 6m 7m 8m 9m 599m", "t t t t t t t t t t B010w");
        check("0m 1m 2m 3m 4m 5m 6m 7m 8m 9m 600m 600m", "t t t t t t t t t t t B010w");
        // what does not ask to look is not counted
        check("0m 0-m 1m 1-m 2m 2-m 3m 4m 5m 6m 7m 8m 9!m 9m", "t t t t t t t t t t t t t t");
    }

    #[test]
    fn in_a_flood_critical_alarms_and_what_people_do_pass_and_the_rest_is_counted() {
        check(
            "0m 0m 0m 0m 0m 0m 0m 0m 0m 0m 0c 1c 2l 3-h 4!m 59m 60 61-l 120 180",
            "t t t t t t t t t t B000t t w w t w G111 w G100 G000",
        );
    }

    #[test]
    fn a_flood_ends_when_fewer_than_five_lie_in_the_last_ten_minutes() {
        check("0m 0m 0m 0m 0m 0m 0m 0m 0m 0m 0m 599 600 601m", "t t t t t t t t t t B010w G000 E000 t");
        check(
            "0m 0m 0m 0m 0m 0m 0m 0m 0m 0m 0m 100m 100m 100m 100m 100m 600 640 699 700",
            "t t t t t t t t t t B010w G000w w w w w G050  G000 E000",
        );
    }

    #[test]
    fn what_is_due_in_a_flood_lies_ahead() {
        let begin = crate::clock::monotonic();
        let mut flood = Flood::new(begin);
        assert_eq!(flood.next_due(), None);
        for _ in 0..11 {
            flood.handle(&event(EventKind::Raised, Severity::Low), None, begin);
        }
        let mut seconds = Vec::new();
        while let Some(at) = flood.next_due() {
            seconds.push((at - begin).as_secs());
            assert!(flood.handle_time(None, at).is_some());
            assert!(flood.next_due().is_none_or(|next| next > at));
        }
        assert_eq!(seconds, [60, 120, 180, 240, 300, 360, 420, 480, 540, 600]);
        assert!(!flood.is_on());
    }

    #[test]
    fn a_notice_is_one_line_of_json() {
        let withheld = Withheld { low: 0, medium: 12, high: 3 };
        let at = Some(Timestamp::from_millis(1_795_705_445_678));
        let notice = Notice { kind: NoticeKind::GoesOn, at, withheld };
        let expected =
            r#"{"event":"flood","at":"2026-11-26T15:04:05.678Z","withheld":{"low":0,"medium":12,"high":3}}"#;
        assert_eq!(notice.text(), expected);
    }
}
