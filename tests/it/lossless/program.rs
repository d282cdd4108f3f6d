//! The gateway: the program itself as a child process, with its configuration, its state and its log in a folder.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A running gateway; it is killed when it is dropped.
pub(super) struct Program {
    folder: PathBuf,
    child: Child,
}

impl Program {
    /// Starts it with this configuration.
    pub(super) fn start(folder: &Path, configuration: &str) -> Program {
        std::fs::write(folder.join("gateway.toml"), configuration).unwrap();
        std::fs::create_dir_all(folder.join("run")).unwrap();
        Program { folder: folder.to_owned(), child: spawn(folder) }
    }

    /// SIGKILL; the process is gone when this returns.
    pub(super) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again after it was killed.
    pub(super) fn start_again(&mut self) {
        self.child = spawn(&self.folder);
    }

    /// Sends it a signal, such as `-STOP`.
    pub(super) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// It has not ended by itself.
    #[track_caller]
    pub(super) fn assert_runs(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "the gateway has ended by itself: {ended:?}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn spawn(folder: &Path) -> Child {
    let log = File::options().create(true).append(true).open(folder.join("gateway.log")).unwrap();
    Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["run", "--config"])
        .arg(folder.join("gateway.toml"))
        .env("RUNTIME_DIRECTORY", folder.join("run"))
        .env_remove("STATE_DIRECTORY")
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}
