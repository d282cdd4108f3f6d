//! The last bdSeq that a connection used, kept over restarts (Sparkplug 3.0.0, 6.4.22): each CONNECT has the next one.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// The file that holds it, `session/UPLINK` in the state directory.
#[derive(Clone, Debug)]
pub(super) struct BdSeq {
    path: PathBuf,
    last: Option<u8>,
}

impl BdSeq {
    /// What the file says; nothing at the very first start.
    pub(super) fn open(state_dir: &Path, uplink: &str) -> BdSeq {
        let path = state_dir.join("session").join(uplink);
        let last = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
        BdSeq { path, last }
    }

    /// Whether no connection has ever been tried.
    pub(super) fn is_first(&self) -> bool {
        self.last.is_none()
    }

    /// The number for the next CONNECT: 0, 1, … 255, 0 …
    pub(super) fn next(&mut self) -> u8 {
        let next = self.last.map_or(0, |last| last.wrapping_add(1));
        self.last = Some(next);
        next
    }

    /// Writes it down, so that it is on the disk before the CONNECT is on the wire.
    pub(super) fn save(&self) -> io::Result<()> {
        let Some(last) = self.last else { return Ok(()) };
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let mut new = self.path.clone().into_os_string();
        new.push("~"); // no uplink's name has it
        fs::create_dir_all(folder)?;
        let mut file = File::create(&new)?;
        writeln!(file, "{last}")?;
        file.sync_data()?;
        fs::rename(&new, &self.path)?;
        File::open(folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_goes_on_over_restarts_and_wraps() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = BdSeq::open(folder.path(), "cloud");
        assert!(first.is_first());
        assert_eq!((first.next(), first.next()), (0, 1));
        first.save().unwrap();
        let mut second = BdSeq::open(folder.path(), "cloud");
        assert!(!second.is_first());
        assert_eq!(second.next(), 2);
        for _ in 0..253 {
            second.next();
        }
        assert_eq!(second.next(), 0);
    }

    #[test]
    fn a_damaged_file_counts_as_a_first_start() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("session")).unwrap();
        fs::write(folder.path().join("session/cloud"), "garbage").unwrap();
        assert_eq!(BdSeq::open(folder.path(), "cloud").next(), 0);
    }
}
