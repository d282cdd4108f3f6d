//! `audit.log`: who wanted what written, when, and what became of it. One JSON object a line, only ever added to.
//!
//! A file that is full is kept as `audit.log.1`, the one before it as `.2`, up to `.4`; the oldest is dropped.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::spawn_blocking;

/// A file of so many bytes is full.
pub const SIZE_MAX: u64 = 1 << 20;
/// So many full files are kept.
pub const KEPT: u32 = 4;

/// The file; clones are the same one.
#[derive(Clone, Debug)]
pub struct Audit(Arc<Mutex<Log>>);

#[derive(Debug)]
struct Log {
    path: PathBuf,
    /// Open, and how long; `None` before the first record, and after a failure.
    open: Option<(File, u64)>,
}

impl Audit {
    /// The file in `state_dir`; it is opened with the first record.
    #[must_use]
    pub fn new(state_dir: &Path) -> Audit {
        Audit(Arc::new(Mutex::new(Log { path: state_dir.join("audit.log"), open: None })))
    }

    /// Adds a line; where `is_sure`, it is on the disk when this returns. Off the thread that runs the tasks: flash may
    /// stall for seconds.
    ///
    /// # Errors
    /// Where it could not be written.
    pub async fn append(&self, line: String, is_sure: bool) -> io::Result<()> {
        let log = self.0.clone();
        let appended =
            spawn_blocking(move || log.lock().unwrap_or_else(PoisonError::into_inner).append(&line, is_sure));
        appended.await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

impl Log {
    fn append(&mut self, line: &str, is_sure: bool) -> io::Result<()> {
        let result = self.try_append(line, is_sure);
        if result.is_err() {
            self.open = None; // whatever of the line is there is ended when it is opened again
        }
        result
    }

    fn try_append(&mut self, line: &str, is_sure: bool) -> io::Result<()> {
        let size = u64::try_from(line.len()).unwrap_or(u64::MAX).saturating_add(1);
        let is_full = |(_, held): &(File, u64)| *held > 0 && held.saturating_add(size) > SIZE_MAX;
        // moved or deleted by somebody: what is written there would be in no record
        if self.open.as_ref().is_some_and(|(file, _)| !is_at(file, &self.path)) {
            self.open = None;
        }
        if self.open.is_none() {
            self.open = Some(open(&self.path)?);
        }
        if self.open.as_ref().is_some_and(is_full) {
            self.open = None;
            rotate(&self.path)?;
            self.open = Some(open(&self.path)?);
        }
        let Some((file, held)) = &mut self.open else { return Err(io::ErrorKind::NotFound.into()) };
        file.write_all(format!("{line}\n").as_bytes())?;
        *held += size;
        if is_sure { file.sync_data() } else { Ok(()) }
    }
}

/// Whether the file with this name is this one.
fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(ours), Ok(there)) = (file.metadata(), fs::metadata(path)) else { return false };
    (ours.dev(), ours.ino()) == (there.dev(), there.ino())
}

/// The file and its length; a line that was cut off by a fault is ended.
fn open(path: &Path) -> io::Result<(File, u64)> {
    let is_new = !path.exists();
    let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
    if is_new && let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    let mut length = file.metadata()?.len();
    if length > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
            length += 1;
        }
    }
    Ok((file, length))
}

/// `audit.log.3` becomes `.4`, and so on.
fn rotate(path: &Path) -> io::Result<()> {
    let numbered = |number: u32| {
        let mut name = path.to_owned().into_os_string();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    for number in (1..KEPT).rev().filter(|number| numbered(*number).exists()) {
        fs::rename(numbered(number), numbered(number + 1))?;
    }
    fs::rename(path, numbered(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &Path) -> Vec<String> {
        fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn records_are_added_and_a_line_that_was_cut_off_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        Audit::new(folder.path()).append("{\"n\":1}".to_owned(), true).await.unwrap();
        fs::write(&path, "{\"n\":1}\n{\"n\":2").unwrap();
        Audit::new(folder.path()).append("{\"n\":3}".to_owned(), true).await.unwrap();
        assert_eq!(lines(&path), ["{\"n\":1}", "{\"n\":2", "{\"n\":3}"]);
    }

    #[tokio::test]
    async fn a_file_that_was_moved_or_deleted_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (path, audit) = (folder.path().join("audit.log"), Audit::new(folder.path()));
        audit.append("1".to_owned(), true).await.unwrap();
        fs::rename(&path, folder.path().join("moved")).unwrap();
        audit.append("2".to_owned(), true).await.unwrap();
        assert_eq!(lines(&path), ["2"]);
        fs::remove_file(&path).unwrap();
        audit.append("3".to_owned(), true).await.unwrap();
        assert_eq!(
            (lines(&path), lines(&folder.path().join("moved"))),
            (vec!["3".to_owned()], vec!["1".to_owned()])
        );
    }

    #[tokio::test]
    async fn five_files_of_a_mebibyte_are_the_most_that_there_is() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::new(folder.path());
        let line = |number: u32| format!("{number:0>49999}");
        for number in 0..160 {
            audit.append(line(number), false).await.unwrap();
        }
        let size = |name: &str| fs::metadata(folder.path().join(name)).unwrap().len();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 5);
        for name in ["audit.log.1", "audit.log.2", "audit.log.3", "audit.log.4"] {
            assert_eq!(size(name), 1_000_000, "{name}");
        }
        let last = lines(&folder.path().join("audit.log"));
        assert_eq!(*last.last().unwrap(), line(159));
        assert_eq!(lines(&folder.path().join("audit.log.4"))[0], line(60));
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_is_an_error_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::new(&folder.path().join("missing"));
        audit.append("{}".to_owned(), true).await.unwrap_err();
        audit.append("{}".to_owned(), true).await.unwrap_err();
    }
}
