//! Segments in memory: files of a file system that is none of a disk, so that they outlive the program and cost no flash.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, MemfdFlags, flock, memfd_create};
use tracing::warn;

use super::segment::name_of;
use crate::position::Position;

/// What the service manager says to the service, and not to others.
const SERVICE_RUNTIME: &str = "/run/tidegate";
/// Where file systems in memory are, beside that.
const SHARED_MEMORY: &str = "/dev/shm";

/// The segments in memory.
#[derive(Debug)]
pub(super) struct Memory {
    folder: Option<PathBuf>,
    /// The folder is used for new segments; otherwise files without a name, which end with the program.
    is_folder_well: bool,
    _lock: Option<File>,
    files: BTreeMap<Position, Segment>,
}

#[derive(Debug)]
struct Segment {
    file: Arc<File>,
    /// `None`: it has no name.
    path: Option<PathBuf>,
}

impl Memory {
    /// Uses the first of `folders` that can be written and that no other program uses; without one, files that end with
    /// the program.
    pub(super) fn open(folders: &[PathBuf]) -> Memory {
        let files = BTreeMap::new;
        for folder in folders {
            match open(folder) {
                Ok(lock) => {
                    let folder = Some(folder.clone());
                    return Memory { folder, is_folder_well: true, _lock: Some(lock), files: files() };
                }
                Err(error) => warn!(folder = %folder.display(), %error, "not used for recent readings"),
            }
        }
        warn!("no folder in memory can be used: recent readings end with this program");
        Memory { folder: None, is_folder_well: false, _lock: None, files: files() }
    }

    /// The folder; `None` where there is none.
    pub(super) fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Whether new segments outlive the program.
    pub(super) fn is_lasting(&self) -> bool {
        self.is_folder_well
    }

    /// Whether the folder is to be used for new segments.
    pub(super) fn use_folder(&mut self, is_used: bool) {
        self.is_folder_well = is_used && self.folder.is_some();
    }

    /// Begins a segment with these bytes.
    pub(super) fn create(&mut self, first: Position, bytes: &[u8]) -> io::Result<()> {
        let path =
            self.folder.as_ref().filter(|_| self.is_folder_well).map(|folder| folder.join(name_of(first)));
        let file = match &path {
            Some(path) => {
                OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(path)?
            }
            None => File::from(memfd_create(name_of(first), MemfdFlags::CLOEXEC)?),
        };
        self.files.insert(first, Segment { file: Arc::new(file), path });
        self.append(first, bytes, 0).inspect_err(|_| self.remove(first))
    }

    /// Takes in a segment that was found.
    pub(super) fn adopt(&mut self, first: Position) -> io::Result<Arc<File>> {
        let path = self.folder.as_deref().unwrap_or(Path::new("")).join(name_of(first));
        let file = Arc::new(OpenOptions::new().read(true).write(true).open(&path)?);
        self.files.insert(first, Segment { file: file.clone(), path: Some(path) });
        Ok(file)
    }

    /// Adds bytes to a segment that has `size` bytes: all of them or none.
    pub(super) fn append(&mut self, first: Position, bytes: &[u8], size: u64) -> io::Result<()> {
        let mut file: &File =
            self.files.get(&first).map(|segment| &*segment.file).ok_or(io::ErrorKind::NotFound)?;
        file.write_all(bytes).inspect_err(|_| {
            file.set_len(size).ok(); // what cannot be taken back is damage that reading passes over
        })
    }

    /// The file of a segment, to be read.
    pub(super) fn file(&self, first: Position) -> Option<Arc<File>> {
        self.files.get(&first).map(|segment| segment.file.clone())
    }

    /// Forgets a segment that cannot be read now; it is looked for at the next start.
    pub(super) fn leave(&mut self, first: Position) {
        self.files.remove(&first);
    }

    /// Deletes a segment.
    pub(super) fn remove(&mut self, first: Position) {
        if let Some(path) = self.files.remove(&first).and_then(|segment| segment.path) {
            fs::remove_file(path).ok(); // what stays is found at the next start
        }
    }

    /// Leaves nothing behind where nothing is left.
    pub(super) fn close(self) {
        let Some(folder) = self.folder.filter(|_| self.files.is_empty()) else { return };
        fs::remove_file(folder.join(LOCK)).ok(); // the next start finds it free
        fs::remove_dir(folder).ok(); // something is in it that is none of ours
    }
}

const LOCK: &str = "lock";

fn open(folder: &Path) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let about = fs::symlink_metadata(folder)?;
    // whoever may write to the parent may have put something there before us
    if !about.is_dir() || about.uid() != rustix::process::geteuid().as_raw() || about.mode() & 0o022 != 0 {
        return Err(io::Error::other("it is not a folder that only this user may write to"));
    }
    let lock =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(folder.join(LOCK))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    Ok(lock)
}

/// Folders in memory for the gateway with this state directory, the best first: the service manager's, shared memory,
/// and, on a machine without either, the disk after all.
pub(super) fn folders(state_dir: &Path) -> Vec<PathBuf> {
    let runtime = std::env::var_os("RUNTIME_DIRECTORY").map(PathBuf::from);
    let shared = Some(PathBuf::from(SHARED_MEMORY)).filter(|folder| folder.is_dir());
    let named = runtime.into_iter().chain(shared).map(|folder| folder.join(name(state_dir)));
    named.chain([state_dir.join("queue").join("recent")]).collect()
}

/// Folders in memory that a gateway with this state directory may have, also where a service manager had named one.
pub(super) fn folders_to_look_at(state_dir: &Path) -> Vec<PathBuf> {
    let service = Path::new(SERVICE_RUNTIME).join(name(state_dir));
    folders(state_dir).into_iter().chain([service]).collect()
}

fn name(state_dir: &Path) -> String {
    let path: String = state_dir.to_string_lossy().chars().map(|c| if c == '/' { '-' } else { c }).collect();
    format!("tidegate{path}")
}

/// Fills `buffer` from `offset` on, but for what lies behind `end`; how much that was.
pub(super) fn read_at(file: &File, offset: u64, end: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let room = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX).min(buffer.len());
    let mut filled = 0;
    while filled < room {
        let rest = buffer.get_mut(filled..room).unwrap_or_default();
        match file.read_at(rest, offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
