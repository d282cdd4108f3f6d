//! A pseudo-terminal as the end of a simulated line.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, QueueSelector, tcflush, tcgetattr, tcsetattr};
use tokio::net::unix::pipe;

/// The speed that is set where nobody has opened the gateway's end, in baud; no instrument has it.
const NOBODY_BAUD: u32 = 134;

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

    /// Whether somebody has opened it since [`Far::forget`].
    pub(super) fn is_open(&self) -> bool {
        self.baud() != Some(NOBODY_BAUD)
    }

    /// Nobody has it open: whoever opens it sets a speed of its own.
    pub(super) fn forget(&self) {
        if let Ok(mut settings) = tcgetattr(&self.0)
            && settings.set_speed(NOBODY_BAUD).is_ok()
        {
            tcsetattr(&self.0, OptionalActions::Now, &settings).ok(); // then it is taken for open
        }
    }

    /// Drops what nobody has read, as a port does that is not open; whether there was anything.
    pub(super) fn drop_unread(&self) -> bool {
        let is_unread = rustix::io::ioctl_fionread(&self.0).is_ok_and(|count| count > 0);
        if is_unread {
            tcflush(&self.0, QueueSelector::IFlush).ok(); // it is read late then
        }
        is_unread
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
        settings.set_speed(NOBODY_BAUD)?;
        tcsetattr(&far, OptionalActions::Now, &settings)?;
        let flags = rustix::fs::fcntl_getfl(&near)?;
        rustix::fs::fcntl_setfl(&near, flags | OFlags::NONBLOCK)?;
        // to tokio a terminal that does not block is a pipe for each direction
        let output = pipe::Sender::from_owned_fd_unchecked(near.try_clone()?)?;
        Ok(Line { input: pipe::Receiver::from_owned_fd_unchecked(near)?, output, far: Far(far), path })
    }
}
