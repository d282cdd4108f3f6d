//! `accounts` of the state directory: what is kept over restarts. Written beside the tasks, for a disk may stall for
//! seconds and readings do not wait for it; at most one writing is under way.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};
use tracing::warn;

use super::Saved;
use super::task::Acted;
use super::totals::KEEP_EVERY;

/// So many people wait at most until what they did is written down.
const WAITING_MAX: usize = 16;

/// What should outlive a power cut is written down this long after it has happened: more may come with it.
const SOON: Duration = Duration::from_secs(1);
/// And not oftener than this, for flash wears.
const SOON_EVERY: Duration = Duration::from_secs(10);

/// Writes down what is kept, and tells those who wait for it.
#[derive(Debug)]
pub(super) struct Keeper {
    path: PathBuf,
    /// What the file holds.
    kept: Saved,
    /// When it is to be written although nobody waits.
    due_at: Instant,
    /// When it was written last.
    begun_at: Option<Instant>,
    writing: Option<Writing>,
    /// Those whose act is not in what is being written.
    waiting: Vec<oneshot::Sender<Acted>>,
}

/// A writing that is under way.
#[derive(Debug)]
struct Writing {
    saved: Saved,
    told: Vec<oneshot::Sender<Acted>>,
    end: JoinHandle<io::Result<()>>,
}

impl Keeper {
    /// What an earlier run has kept in `state_dir`; where that cannot be read all begins again at 0.
    pub(super) fn open(state_dir: &Path, now: Instant) -> Keeper {
        let path = state_dir.join("accounts");
        let kept = read(&path);
        Keeper { path, kept, due_at: now + KEEP_EVERY, begun_at: None, writing: None, waiting: Vec::new() }
    }

    /// What the file holds.
    pub(super) const fn kept(&self) -> &Saved {
        &self.kept
    }

    /// Whether one more may wait.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_MAX
    }

    /// Somebody waits until what has just been done is written down.
    pub(super) fn wait_for(&mut self, reply: oneshot::Sender<Acted>) {
        self.waiting.push(reply);
    }

    /// Something has happened that should outlive a power cut.
    pub(super) fn hasten(&mut self, now: Instant) {
        let soon = now + SOON;
        let soon = self.begun_at.map_or(soon, |begun_at| soon.max(begun_at + SOON_EVERY));
        self.due_at = self.due_at.min(soon);
    }

    /// When it is to be written although nobody waits; `None` while a writing is under way.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.writing.is_none().then_some(self.due_at)
    }

    /// Whether it is to be written: somebody waits, or it is time, and no writing is under way.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.writing.is_none() && (!self.waiting.is_empty() || now >= self.due_at)
    }

    /// Begins to write `saved`; where the file holds that already, those who wait are told at once.
    pub(super) fn begin(&mut self, saved: Saved, now: Instant) {
        self.due_at = now + KEEP_EVERY;
        self.begun_at = Some(now);
        let told = std::mem::take(&mut self.waiting);
        if saved == self.kept {
            return tell(told, Acted::Kept);
        }
        let text = serde_json::to_string(&saved).unwrap_or_default();
        let path = self.path.clone();
        let end = spawn_blocking(move || write(&path, &text));
        self.writing = Some(Writing { saved, told, end });
    }

    /// Waits for the end of the writing that is under way; for ever where there is none. May be dropped and called again.
    pub(super) async fn written(&mut self) -> io::Result<()> {
        let Some(writing) = &mut self.writing else { return std::future::pending().await };
        (&mut writing.end).await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// The writing has ended so: who waited for it is told.
    pub(super) fn finish(&mut self, ended: io::Result<()>) {
        let Some(writing) = self.writing.take() else { return };
        match ended {
            Ok(()) => {
                self.kept = writing.saved;
                tell(writing.told, Acted::Kept);
            }
            Err(error) => {
                warn!(file = %self.path.display(), %error, "totals, machines and alarms cannot be written down");
                tell(writing.told, Acted::NotKept(error.to_string()));
            }
        }
    }

    /// Writes `saved` and waits for it, after what is under way.
    pub(super) async fn end(mut self, saved: Saved, now: Instant) {
        if self.writing.is_some() {
            let ended = self.written().await;
            self.finish(ended);
        }
        self.begin(saved, now);
        if self.writing.is_some() {
            let ended = self.written().await;
            self.finish(ended);
        }
    }
}

fn tell(waiting: Vec<oneshot::Sender<Acted>>, acted: Acted) {
    for reply in waiting {
        reply.send(acted.clone()).ok(); // gone meanwhile
    }
}

/// What an earlier run has kept; a file that cannot be read is passed over: all begins again at 0.
fn read(path: &Path) -> Saved {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Saved::default(),
        Err(error) => {
            warn!(file = %path.display(), %error, "what was kept of totals and machines cannot be read: they begin at 0");
            return Saved::default();
        }
    };
    serde_json::from_str(&text).unwrap_or_else(|error| {
        warn!(file = %path.display(), %error, "what was kept of totals and machines is damaged: they begin at 0");
        Saved::default()
    })
}

/// The old file or the new one is there, whatever happens.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let part: PathBuf = path.with_extension("part");
    let mut file = File::create(&part)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&part, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::clock;
    use crate::normalize::counter::{SavedCounter, SavedRaw};
    use crate::normalize::totals::SavedTotal;

    fn saved(total: f64) -> Saved {
        let counter = SavedCounter { raw: SavedRaw::Number(total), total, at_ms: Some(5) };
        let total = SavedTotal { counter, from: Some("hr:0 U16".to_owned()), unit: None };
        Saved { totals: BTreeMap::from([("d:t".to_owned(), total)]), ..Saved::default() }
    }

    fn waiting(keeper: &mut Keeper) -> oneshot::Receiver<Acted> {
        let (reply, told) = oneshot::channel();
        keeper.wait_for(reply);
        told
    }

    #[tokio::test]
    async fn who_waits_is_told_when_what_was_done_is_in_the_file() {
        let (folder, now) = (tempfile::tempdir().unwrap(), clock::monotonic());
        let mut keeper = Keeper::open(folder.path(), now);
        assert!(!keeper.is_due(now), "nobody waits, and it is not time");
        let mut first = waiting(&mut keeper);
        assert!(keeper.is_due(now));
        keeper.begin(saved(1.0), now);
        // what is done meanwhile is not in what is being written
        let mut second = waiting(&mut keeper);
        assert!(!keeper.is_due(now), "one at a time");
        assert!(first.try_recv().is_err());
        let ended = keeper.written().await;
        keeper.finish(ended);
        assert_eq!(first.try_recv(), Ok(Acted::Kept));
        assert_eq!(read(&folder.path().join("accounts")), saved(1.0));
        assert!(second.try_recv().is_err() && keeper.is_due(now));
        keeper.end(saved(2.0), now).await;
        assert_eq!(second.try_recv(), Ok(Acted::Kept));
        assert_eq!(*Keeper::open(folder.path(), now).kept(), saved(2.0));
    }

    #[tokio::test]
    async fn what_the_file_holds_is_not_written_again() {
        let (folder, now) = (tempfile::tempdir().unwrap(), clock::monotonic());
        let mut keeper = Keeper::open(folder.path(), now);
        let mut told = waiting(&mut keeper);
        keeper.begin(Saved::default(), now);
        assert_eq!(told.try_recv(), Ok(Acted::Kept));
        assert!(!folder.path().join("accounts").exists());
        assert!(!keeper.is_due(now + KEEP_EVERY.saturating_sub(std::time::Duration::from_millis(1))));
        assert!(keeper.is_due(now + KEEP_EVERY));
    }

    #[tokio::test]
    async fn who_waits_is_told_why_nothing_could_be_written_down() {
        let (folder, now) = (tempfile::tempdir().unwrap(), clock::monotonic());
        let mut keeper = Keeper::open(&folder.path().join("gone"), now);
        let told = waiting(&mut keeper);
        keeper.begin(saved(1.0), now);
        let ended = keeper.written().await;
        keeper.finish(ended);
        let Ok(Acted::NotKept(why)) = told.await else { panic!("there is no such folder") };
        assert!(why.contains("No such file"), "{why}");
        assert!(!keeper.is_due(now), "it is not tried again at once");
    }

    #[tokio::test]
    async fn what_should_outlive_a_power_cut_is_written_a_second_later_and_not_oftener_than_flash_bears() {
        let (folder, now) = (tempfile::tempdir().unwrap(), clock::monotonic());
        let mut keeper = Keeper::open(folder.path(), now);
        let after = |seconds| now + Duration::from_secs(seconds);
        keeper.hasten(now);
        keeper.hasten(after(1));
        assert_eq!(keeper.next_due(), Some(after(1)), "what comes meanwhile does not put it off");
        assert!(keeper.is_due(after(1)) && !keeper.is_due(now));
        keeper.begin(saved(1.0), after(1));
        keeper.hasten(after(2));
        assert_eq!(keeper.next_due(), None, "one at a time");
        let ended = keeper.written().await;
        keeper.finish(ended);
        assert_eq!(keeper.next_due(), Some(after(11)));
        keeper.begin(saved(2.0), after(11));
        let ended = keeper.written().await;
        keeper.finish(ended);
        assert_eq!(keeper.next_due(), Some(after(11) + KEEP_EVERY));
        keeper.hasten(after(60));
        assert_eq!(keeper.next_due(), Some(after(61)));
    }

    #[test]
    fn no_more_wait_than_there_is_room_for() {
        let (folder, now) = (tempfile::tempdir().unwrap(), clock::monotonic());
        let mut keeper = Keeper::open(folder.path(), now);
        for _ in 0..16 {
            assert!(keeper.has_room());
            drop(waiting(&mut keeper));
        }
        assert!(!keeper.has_room());
    }
}
