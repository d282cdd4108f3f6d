//! The gateway: the program itself as a child process, with its configuration, its state and its log in a folder.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A running gateway; it is killed when it is dropped.
pub(crate) struct Program {
    folder: PathBuf,
    environment: Vec<(&'static str, OsString)>,
    child: Child,
}

impl Program {
    /// Starts it with this configuration, and with this beside the test's environment.
    pub(crate) fn start(
        folder: &Path,
        configuration: &str,
        environment: &[(&'static str, OsString)],
    ) -> Program {
        std::fs::write(folder.join("gateway.toml"), configuration).unwrap();
        std::fs::create_dir_all(folder.join("run")).unwrap();
        let child = spawn(folder, environment);
        Program { folder: folder.to_owned(), environment: environment.to_owned(), child }
    }

    /// SIGKILL; the process is gone when this returns.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again after it was killed.
    pub(crate) fn start_again(&mut self) {
        self.child = spawn(&self.folder, &self.environment);
    }

    /// Sends it a signal, such as `-STOP`.
    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Its exit code, once it has ended.
    pub(crate) fn ended(&mut self) -> Option<Option<i32>> {
        self.child.try_wait().unwrap().map(|status| status.code())
    }

    /// It has not ended by itself.
    #[track_caller]
    pub(crate) fn assert_runs(&mut self) {
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

fn spawn(folder: &Path, environment: &[(&'static str, OsString)]) -> Child {
    let log = File::options().create(true).append(true).open(folder.join("gateway.log")).unwrap();
    Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["run", "--config"])
        .arg(folder.join("gateway.toml"))
        .env("RUNTIME_DIRECTORY", folder.join("run"))
        .env_remove("STATE_DIRECTORY")
        .envs(environment.iter().cloned())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}
