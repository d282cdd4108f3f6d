//! Segments on the disk, and the one thread that touches them: a flash may take seconds for what memory does at once.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::history::{self, Bookmark, Boots, Piece, Source};
use super::memory::read_at;
use super::names::Names;
use super::segment::name_of;
use crate::counters::StoreCounters;
use crate::position::Position;

/// Bytes that are copied at once.
const COPY_SIZE: usize = 256 << 10;

/// What is to be done on the disk; done in the order in which it is asked.
#[derive(Debug)]
pub(super) enum Job {
    /// Bring bytes of a segment in memory to the disk, and be sure of it.
    Keep { first: Position, source: Arc<File>, from: u64, to: u64, end: Position },
    /// Delete a segment.
    Delete(Position),
    /// Read from a segment.
    Read(Box<Read>),
}

/// What is to be read, for whom.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) first: Position,
    pub(super) end: Position,
    pub(super) from: Position,
    pub(super) count: usize,
    pub(super) bookmark: Bookmark,
    pub(super) boots: Arc<Boots>,
    pub(super) reply: oneshot::Sender<Piece>,
}

/// What has become of a job.
#[derive(Debug)]
pub(super) enum Done {
    Kept { first: Position, to: u64, end: Position, result: io::Result<()> },
    Other,
}

/// The folder of the segments on the disk.
#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    names: Names,
    counters: Arc<StoreCounters>,
}

impl Disk {
    pub(super) fn new(folder: PathBuf, names: Names, counters: Arc<StoreCounters>) -> Disk {
        Disk { folder, names, counters }
    }

    /// Does what is asked until nobody can ask any more. Results have room: there are never more than jobs.
    pub(super) fn run(self, mut jobs: mpsc::Receiver<Job>, done: &mpsc::Sender<Done>) {
        while let Some(job) = jobs.blocking_recv() {
            let outcome = self.perform(job);
            if done.blocking_send(outcome).is_err() {
                return;
            }
        }
    }

    /// Does one job.
    pub(super) fn perform(&self, job: Job) -> Done {
        match job {
            Job::Keep { first, source, from, to, end } => {
                // after a failed write or sync the file is written anew, over what is there: on a disk that is only
                // full, what it was sure of stays until then
                Done::Kept { first, to, end, result: self.keep(first, &source, from, to) }
            }
            Job::Delete(first) => {
                fs::remove_file(self.path(first)).ok(); // may never have come to the disk; is found at the next start
                Done::Other
            }
            Job::Read(read) => {
                let Read { first, end, from, count, bookmark, boots, reply } = *read;
                let piece = self.read(first, end, from, count, bookmark, &boots).unwrap_or_else(|error| {
                    tracing::warn!(segment = %self.path(first).display(), %error, "cannot be read");
                    Piece { next: from, unreadable: Some(end), ..Piece::default() }
                });
                reply.send(piece).ok(); // the connection that wanted it is gone
                Done::Other
            }
        }
    }

    fn path(&self, first: Position) -> PathBuf {
        self.folder.join(name_of(first))
    }

    fn keep(&self, first: Position, source: &File, from: u64, to: u64) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).mode(0o600);
        let file = if from == 0 {
            self.make_folder()?;
            options.create(true).truncate(false).open(self.path(first))?
        } else {
            options.open(self.path(first))?
        };
        let mut buffer = vec![0; COPY_SIZE];
        let mut at = from;
        while at < to {
            let filled = read_at(source, at, to, &mut buffer)?;
            if filled == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            file.write_all_at(buffer.get(..filled).unwrap_or_default(), at)?;
            at += filled as u64;
            self.counters.disk_bytes.add(filled as u64);
        }
        if from == 0 && file.metadata()?.len() > to {
            file.set_len(to)?; // something else had its name
        }
        file.sync_data()?;
        if from == 0 {
            sync_folder(&self.folder)?;
        }
        self.counters.disk_syncs.add(1);
        Ok(())
    }

    fn make_folder(&self) -> io::Result<()> {
        if self.folder.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(&self.folder)?;
        self.folder.parent().map_or(Ok(()), sync_folder)
    }

    fn read(
        &self,
        first: Position,
        end: Position,
        from: Position,
        count: usize,
        bookmark: Bookmark,
        boots: &Boots,
    ) -> io::Result<Piece> {
        let file = File::open(self.path(first))?;
        let mut fetch = |offset: u64, buffer: &mut [u8]| read_at(&file, offset, u64::MAX, buffer);
        history::read(Source { first, end, fetch: &mut fetch }, from, count, bookmark, &self.names, boots)
    }
}

/// Makes sure that files which were made in a folder are found there after a power cut.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
