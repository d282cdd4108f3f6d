//! A real broker that can be killed, stopped and started again on the same port.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Ports to choose from: below those of outgoing connections (32768 and up), for one of these could take the port while
/// the broker is down, or even connect to itself.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A port that nobody has now.
pub(crate) fn free_port() -> u16 {
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    std::iter::repeat_with(|| fastrand::u16(PORTS)).find(is_free).unwrap()
}

/// A running Mosquitto; it is killed when it is dropped.
pub(crate) struct Mosquitto {
    pub(crate) address: SocketAddr,
    folder: PathBuf,
    child: Child,
    /// How often it was started.
    pub(super) starts: usize,
}

impl Mosquitto {
    /// Starts it on a free port, and waits until it takes connections.
    pub(super) async fn start(folder: &Path) -> Mosquitto {
        Mosquitto::start_with(folder, "").await
    }

    /// The same with more lines of configuration, which may begin another listener.
    pub(crate) async fn start_with(folder: &Path, more: &str) -> Mosquitto {
        let port = free_port();
        // what it has taken it keeps until it is killed: no limit drops a message; it may write as who started it
        let text = format!(
            "user root\nlistener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 0\n\
             set_tcp_nodelay true\nlog_dest stderr\nlog_type error\nlog_type warning\nlog_type notice\n{more}"
        );
        std::fs::write(folder.join("mosquitto.conf"), text).unwrap();
        let child = spawn(folder);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut broker = Mosquitto { address, folder: folder.to_owned(), child, starts: 1 };
        broker.listening().await;
        broker
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again after it was killed.
    pub(super) async fn start_again(&mut self) {
        self.child = spawn(&self.folder);
        self.starts += 1;
        self.listening().await;
    }

    /// SIGSTOP, and after `time` SIGCONT.
    pub(crate) fn stop(&self) {
        self.signal("-STOP");
    }

    /// SIGCONT.
    pub(crate) fn go_on(&self) {
        self.signal("-CONT");
    }

    /// Sends it a signal, such as `-HUP`.
    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    async fn listening(&mut self) {
        for _ in 0..1000 {
            if TcpStream::connect(self.address).is_ok() {
                return;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "mosquitto has ended: {ended:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("mosquitto does not listen");
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn spawn(folder: &Path) -> Child {
    // Debian puts it where only root's PATH looks
    let debian = Path::new("/usr/sbin/mosquitto");
    let program = if debian.exists() { debian } else { Path::new("mosquitto") };
    let log = File::options().create(true).append(true).open(folder.join("mosquitto.log")).unwrap();
    let mut command = Command::new(program);
    command.arg("-c").arg(folder.join("mosquitto.conf")).stdout(Stdio::null()).stderr(log);
    command.spawn().expect("mosquitto, from the Debian package of that name")
}
