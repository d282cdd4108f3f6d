//! A small ext4 file system in a file, mounted through a loop device: a disk that can be filled, cut off and measured.
//! Needs root, `mkfs.ext4` and loop devices. `benches/store.rs` uses it as well.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Sectors of `/sys/block/*/stat` have so many bytes, whatever the device says.
const SECTOR_SIZE: u64 = 512;

/// A mounted disk; it is taken away again in the end.
pub(crate) struct Disk {
    folder: TempDir,
    device: String,
}

impl Disk {
    /// A new disk of so many MiB, its image in the folder `at`.
    ///
    /// # Errors
    /// Why it is not to be had here, in words.
    pub(crate) fn new(at: &Path, mib: u64) -> Result<Disk, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("needs root and a loop device".to_owned());
        }
        let folder = TempDir::new_in(at).map_err(|error| error.to_string())?;
        let image = folder.path().join("image");
        File::create(&image).and_then(|file| file.set_len(mib << 20)).map_err(|error| error.to_string())?;
        // nothing of the file system is to be made later: it would count as written
        run("mkfs.ext4", &["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", text(&image)])?;
        Disk::open(folder)
    }

    /// The disk of the image in a folder.
    fn open(folder: TempDir) -> Result<Disk, String> {
        let path = folder.path().join("mounted");
        fs::create_dir(&path).map_err(|error| error.to_string())?;
        let device = run("losetup", &["--find", "--show", text(&folder.path().join("image"))])?;
        let disk = Disk { folder, device };
        disk.mount()?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    /// The file system brings nothing to the device by itself but what it is asked to.
    pub(crate) fn mount(&self) -> Result<String, String> {
        run("mount", &["-t", "ext4", "-o", "commit=300", &self.device, text(&self.path())])
    }

    /// Bytes that were written to the device since it was made; all that waits is written before.
    pub(crate) fn written(&self) -> u64 {
        run("sync", &["--file-system", text(&self.path())]).unwrap();
        let name = self.device.trim_start_matches("/dev/");
        let stat = fs::read_to_string(format!("/sys/block/{name}/stat")).unwrap();
        stat.split_whitespace().nth(6).and_then(|sectors| sectors.parse::<u64>().ok()).unwrap() * SECTOR_SIZE
    }
}

/// What only the tests of faults do.
#[cfg(test)]
impl Disk {
    pub(crate) fn unmount(&self) -> Result<String, String> {
        run("umount", &[text(&self.path())])
    }

    /// `ro` or `rw`.
    pub(crate) fn remount(&self, how: &str) -> Result<String, String> {
        run("mount", &["-o", &format!("remount,{how}"), text(&self.path())])
    }

    /// From now on the disk answers with EIO, as one that was pulled out; what was not written yet never will be
    /// (`EXT4_IOC_SHUTDOWN`, 2: the journal is not written either).
    pub(crate) fn shut_down(&self) -> Result<String, String> {
        const SCRIPT: &str = "import fcntl, os, struct, sys\n\
            fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack('I', 2))";
        run("python3", &["-c", SCRIPT, text(&self.path())])
    }

    /// What a power cut would leave now: a disk of the same content. The copy is of one moment, for nothing has been
    /// written to the device between the copying and the comparing of any part; `at_copy` is called at that moment.
    pub(crate) fn cut<T>(&self, at_copy: impl Fn() -> T) -> Result<(Disk, T), String> {
        let at = self.folder.path().parent().unwrap();
        let folder = TempDir::new_in(at).map_err(|error| error.to_string())?;
        let copy = folder.path().join("image");
        loop {
            run("cp", &["--sparse=always", text(&self.image()), text(&copy)])?;
            let moment = at_copy();
            if run("cmp", &["--silent", text(&self.image()), text(&copy)]).is_ok() {
                return Ok((Disk::open(folder)?, moment));
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // what is still open on it goes on; the device is free when that is closed
        run("umount", &["--lazy", text(&self.path())]).ok();
        run("losetup", &["--detach", &self.device]).ok();
        // a test that ends with a message leaves recent readings in memory
        let state = self.path().join("state").display().to_string().replace('/', "-");
        fs::remove_dir_all(Path::new("/dev/shm").join(format!("tidegate{state}"))).ok();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What a command says; why not, where it fails.
fn run(command: &str, arguments: &[&str]) -> Result<String, String> {
    let output =
        Command::new(command).args(arguments).output().map_err(|error| format!("{command}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(format!("{command} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
