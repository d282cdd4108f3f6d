//! A pseudo-terminal as the end of a simulated line.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use tokio::net::unix::pipe;

/// A pseudo-terminal: the end of a simulated line, and the path where a gateway opens the other.
#[derive(Debug)]
pub struct Line {
    /// What the gateway sends.
    pub input: pipe::Receiver,
    /// What the gateway gets.
    pub output: pipe::Sender,
    /// Kept open, so that the line outlives a gateway that closes it.
    pub(super) far: Far,
    /// What the gateway opens.
    pub path: PathBuf,
}

/// The gateway's end.
#[derive(Debug)]
pub(super) struct Far(OwnedFd);

impl Far {
    /// The speed that whoever opened it has set, in baud; `None` where the system does not say.
    pub(super) fn baud(&self) -> Option<u32> {
        tcgetattr(&self.0).ok().map(|settings| settings.output_speed())
    }
}

impl Line {
    /// A new pseudo-terminal that hands every byte through as it is.
    ///
    /// # Errors
    /// Where the system has none left.
    pub fn open() -> io::Result<Line> {
        let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        grantpt(&near)?;
        unlockpt(&near)?;
        let path = PathBuf::from(ptsname(&near, Vec::new())?.to_string_lossy().into_owned());
        let far = rustix::fs::open(&path, OFlags::RDWR | OFlags::NOCTTY, Mode::empty())?;
        let mut settings = tcgetattr(&far)?;
        settings.make_raw();
        tcsetattr(&far, OptionalActions::Now, &settings)?;
        let flags = rustix::fs::fcntl_getfl(&near)?;
        rustix::fs::fcntl_setfl(&near, flags | OFlags::NONBLOCK)?;
        // to tokio a terminal that does not block is a pipe for each direction
        let output = pipe::Sender::from_owned_fd_unchecked(near.try_clone()?)?;
        Ok(Line { input: pipe::Receiver::from_owned_fd_unchecked(near)?, output, far: Far(far), path })
    }
}
