//! The verdict: what was owed, what came of it, and what came that should not have.

use std::fmt;

use super::judge::Judge;
use super::plant::{Log, Served, Tag};

/// What a gateway may not have taken in before it was killed: one poll, and as much again.
const BEFORE_A_KILL_MS: u64 = 200;
/// How far the gateway's time of a value may be from the plant's.
const EARLY_MAX_MS: u64 = 100;
const LATE_MAX_MS: u64 = 500;
/// Examples that are kept of each kind of finding.
const EXAMPLES: usize = 5;

/// Findings of one kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) count: u64,
    examples: Vec<String>,
}

impl Tally {
    pub(super) fn add(&mut self, describe: impl FnOnce() -> String) {
        self.count += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(describe());
        }
    }
}

/// The gateway was killed, or held as SIGSTOP does it: from before the signal until the process was gone, or went on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Absence {
    pub(super) start_ms: u64,
    pub(super) end_ms: u64,
    /// It was only held.
    pub(super) goes_on: bool,
}

impl Absence {
    /// The gateway may have died with this reading: it came over a connection of that process, just before its end or
    /// after it. Or it may have been held for longer than it waits for an answer.
    fn excuses(&self, served: &Served) -> bool {
        let is_after = match self.goes_on {
            true => served.at_ms > self.end_ms + BEFORE_A_KILL_MS,
            false => served.opened_ms >= self.end_ms,
        };
        !is_after && served.at_ms + BEFORE_A_KILL_MS >= self.start_ms
    }
}

/// A value that was owed and did not come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loss {
    pub(super) tag: Tag,
    pub(super) value: u32,
    pub(super) at_ms: u64,
}

#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Readings that were served, up to the end of the account.
    pub(super) served: usize,
    /// Those of them that must arrive.
    pub(super) owed: usize,
    /// Those of the served that arrived.
    pub(super) arrived: usize,
    pub(super) lost: Vec<Loss>,
    pub(super) corrupt: Tally,
    pub(super) out_of_order: Tally,
    pub(super) protocol: Tally,
    pub(super) duplicates: u64,
    pub(super) bad: u64,
    /// By the gateway's own account.
    pub(super) lost_said: u64,
}

/// Judges what was served up to `until_ms` and all that arrived.
pub(super) fn verdict(judge: &Judge, log: &Log, until_ms: u64, absences: &[Absence]) -> Verdict {
    let mut verdict = Verdict {
        corrupt: judge.corrupt.clone(),
        out_of_order: judge.out_of_order.clone(),
        protocol: judge.protocol.clone(),
        duplicates: judge.duplicates,
        bad: judge.bad,
        lost_said: judge.lost_said,
        ..Verdict::default()
    };
    for (value, served) in log.all().filter(|(_, served)| served.at_ms <= until_ms) {
        let has_arrived = judge.has(served.tag, value);
        let is_owed = !absences.iter().any(|absence| absence.excuses(&served));
        verdict.served += 1;
        verdict.owed += usize::from(is_owed);
        verdict.arrived += usize::from(has_arrived);
        if is_owed && !has_arrived {
            verdict.lost.push(Loss { tag: served.tag, value, at_ms: served.at_ms });
        }
    }
    for seen in judge.seen() {
        match log.get(seen.value) {
            None => verdict.corrupt.add(|| format!("never served: {seen:?}")),
            Some(served) if served.tag != seen.tag => {
                verdict.corrupt.add(|| format!("another's: {seen:?}, {served:?}"));
            }
            Some(served) => {
                let earliest = served.at_ms.saturating_sub(EARLY_MAX_MS);
                // what came while it was held was read when it went on
                let held = absences.iter().filter(|absence| absence.goes_on && absence.excuses(&served));
                let latest = held.map(|absence| absence.end_ms).fold(served.at_ms, u64::max) + LATE_MAX_MS;
                if !(earliest..=latest).contains(&seen.source_ms) {
                    verdict.corrupt.add(|| format!("of another time: {seen:?}, {served:?}"));
                }
            }
        }
    }
    verdict
}

impl Verdict {
    /// Nothing was lost, and nothing came that should not have.
    pub(super) fn is_clean(&self) -> bool {
        let found = self.corrupt.count + self.out_of_order.count + self.protocol.count;
        self.lost.is_empty() && found == 0
    }

    /// The losses, each stretch of time of them on a line behind the fault that came before it.
    pub(super) fn losses(&self, faults: &[(u64, String)]) -> String {
        let mut text = String::new();
        let mut rest = self.lost.as_slice();
        while let Some(first) = rest.first() {
            let before = faults.iter().rposition(|(at_ms, _)| *at_ms <= first.at_ms);
            let next_ms = faults.get(before.map_or(0, |index| index + 1)).map_or(u64::MAX, |next| next.0);
            let count = rest.iter().take_while(|loss| loss.at_ms < next_ms).count().max(1);
            let after = before.map(|index| &faults[index]);
            let (fault_ms, fault) = after.map_or((first.at_ms, "the start"), |(at_ms, text)| (*at_ms, text));
            let last_ms = rest[count - 1].at_ms;
            text += &format!(
                "  {count} lost from {} to {} ms after {fault}, first {:?} {}\n",
                first.at_ms - fault_ms,
                last_ms.saturating_sub(fault_ms),
                first.tag,
                first.value
            );
            rest = &rest[count..];
        }
        text
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} readings served, {} owed, {} arrived, {} lost, {} duplicates",
            self.served,
            self.owed,
            self.arrived,
            self.lost.len(),
            self.duplicates
        )?;
        if self.lost_said > 0 {
            write!(f, ", {} lost by the gateway's own account", self.lost_said)?;
        }
        if self.bad > 0 {
            write!(f, ", {} without a value", self.bad)?;
        }
        let kinds =
            [("corrupt", &self.corrupt), ("out of order", &self.out_of_order), ("protocol", &self.protocol)];
        for (kind, tally) in kinds.iter().filter(|(_, tally)| tally.count > 0) {
            write!(f, "\n  {} {kind}, such as {}", tally.count, tally.examples.join("; "))?;
        }
        Ok(())
    }
}
