//! Serial ports: opened with exactly the asked settings, and for this program alone.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, OFlags, flock};
use serial2_tokio::{CharSize, SerialPort, Settings, StopBits};

use crate::config::site::{Parity, SerialLine};

/// An open port. Both fields go together: the lock ends with the port.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) stream: SerialPort,
    _lock: File,
}

/// Opens `path`.
///
/// A pseudo-terminal has no wire and refuses a parity bit: there only the speed is set.
pub(super) fn open(path: &Path, line: &SerialLine) -> io::Result<Port> {
    let lock = lock(path)?;
    let is_pseudo_terminal = path.canonicalize()?.starts_with("/dev/pts");
    let stream = SerialPort::open(path, |mut settings: Settings| {
        settings.set_raw();
        settings.set_baud_rate(line.baud)?;
        if !is_pseudo_terminal {
            settings.set_char_size(if line.data_bits == 7 { CharSize::Bits7 } else { CharSize::Bits8 });
            settings.set_stop_bits(if line.stop_bits == 2 { StopBits::Two } else { StopBits::One });
            settings.set_parity(match line.parity {
                Parity::None => serial2_tokio::Parity::None,
                Parity::Even => serial2_tokio::Parity::Even,
                Parity::Odd => serial2_tokio::Parity::Odd,
            });
        }
        Ok(settings)
    })?;
    Ok(Port { stream, _lock: lock })
}

/// Holds the port against other programs that lock it too: two talkers on one line read each other's answers.
fn lock(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(io::Error::new(io::ErrorKind::ResourceBusy, "another program uses this port"))
        }
        Err(error) => Err(error.into()),
    }
}
