//! What devices have refused, kept over restarts in `learned.toml` of the state directory.
//!
//! Each bus tells what it has learned; one task writes it down, whole and seldom. A file that cannot be written or read
//! costs some refusals after the next start, and a warning.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::warn;

use super::learned::{Learned, file};
use crate::config::site::{Device, Link, Site};

/// Lessons that wait to be written; one that finds no room is written with the next.
const LESSONS: usize = 64;

/// What is known of each device, and where news of it go.
#[derive(Clone, Debug)]
pub struct Memory {
    known: Arc<BTreeMap<String, Learned>>,
    keys: Arc<Vec<String>>,
    news: mpsc::Sender<(String, Learned)>,
}

/// The task that writes the file.
#[derive(Debug)]
pub struct Keeper {
    path: PathBuf,
    known: BTreeMap<String, Learned>,
    news: mpsc::Receiver<(String, Learned)>,
}

/// Reads the file of `site`.
#[must_use]
pub fn open(site: &Site) -> (Memory, Keeper) {
    let path = site.gateway.state_dir.join("learned.toml");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let (known, complaints) = file::from_toml(&text);
    for complaint in complaints {
        warn!(file = %path.display(), complaint, "passed over");
    }
    let (sender, news) = mpsc::channel(LESSONS);
    let key_of =
        |device: &Device| site.links.get(device.link).map_or_else(String::new, |link| key(device, link));
    let keys = Arc::new(site.devices.iter().map(key_of).collect());
    let memory = Memory { known: Arc::new(known.clone()), keys, news: sender };
    (memory, Keeper { path, known, news })
}

/// A device that is exchanged for one of another type has another key.
fn key(device: &Device, link: &Link) -> String {
    let parts = [
        Some(&*link.name),
        device.caller.as_deref(),
        Some(&*device.unit.to_string()),
        device.type_name.as_deref(),
    ]
    .map(|part| part.map(str::to_owned));
    parts.into_iter().flatten().collect::<Vec<_>>().join("/")
}

impl Memory {
    /// What is known of `device`.
    #[must_use]
    pub fn of(&self, device: &Device) -> Learned {
        let key = self.keys.get(device.id.index());
        key.and_then(|key| self.known.get(key)).cloned().unwrap_or_default()
    }

    /// Has written down what is known of `device` now.
    pub fn keep(&self, device: &Device, learned: &Learned) {
        if let Some(key) = self.keys.get(device.id.index()) {
            self.news.try_send((key.clone(), learned.clone())).ok(); // written with the next lesson
        }
    }
}

impl Keeper {
    /// Writes what it is told until nobody is left to tell.
    pub async fn run(mut self) {
        let mut lessons = Vec::new();
        while self.news.recv_many(&mut lessons, LESSONS).await > 0 {
            self.known.extend(lessons.drain(..));
            let (path, text) = (
                self.path.clone(),
                file::to_toml(self.known.iter().map(|(key, learned)| (key.as_str(), learned))),
            );
            // a flash may stall for seconds
            let saved = tokio::task::spawn_blocking(move || save(&path, &text)).await;
            if let Ok(Err(error)) = saved {
                warn!(file = %self.path.display(), %error, "not written: what devices refuse is found out again after a restart");
            }
        }
    }
}

/// Replaces the file: it is the old one or the new one, never half of one.
fn save(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("toml~");
    let mut file = File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_data()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("learned.toml");
        save(&path, "one").unwrap();
        save(&path, "two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(save(&folder.path().join("missing/learned.toml"), "").is_err());
    }
}
