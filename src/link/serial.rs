//! Serial ports: opened with exactly the asked settings, and for this program alone.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::fs::{FlockOperation, OFlags, flock};
use serial2_tokio::rs4xx::{Rs485Config, TransceiverMode};
use serial2_tokio::{CharSize, SerialPort, Settings, StopBits};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tracing::{info, warn};

use crate::config::site::{Parity, SerialLine};

/// Where the system keeps names that stay with an adapter: by its serial number, else by the socket it is in.
const STABLE_NAMES: [&str; 2] = ["/dev/serial/by-id", "/dev/serial/by-path"];
/// Where drivers of USB adapters say how long they gather bytes before they hand them on.
const USB_SERIAL: &str = "/sys/bus/usb-serial/devices";
/// The shortest such time, in milliseconds; common adapters start with 16, which every short answer would wait for.
const LATENCY_MS: &str = "1";

/// An open port. Both fields go together: the lock ends with the port.
#[derive(Debug)]
pub(super) struct Port {
    stream: SerialPort,
    is_pseudo_terminal: bool,
    _lock: File,
}

/// Opens `path`, and has the driver raise RTS while it sends where `rts_on_send`.
///
/// A pseudo-terminal has no wire and refuses a parity bit: there only the speed is set.
pub(super) fn open(path: &Path, line: &SerialLine, rts_on_send: bool) -> io::Result<Port> {
    let lock = lock(path)?;
    let device = path.canonicalize()?;
    let is_pseudo_terminal = device.starts_with("/dev/pts");
    let stream = SerialPort::open(path, |mut settings: Settings| {
        apply_to(is_pseudo_terminal, line, &mut settings)?;
        Ok(settings)
    })?;
    if rts_on_send {
        stream.set_rs4xx_mode(rts_mode()).map_err(|error| {
            io::Error::new(error.kind(), format!("its driver cannot raise RTS while sending: {error}"))
        })?;
    }
    hasten(Path::new(USB_SERIAL), &device);
    Ok(Port { stream, is_pseudo_terminal, _lock: lock })
}

impl Port {
    /// Sets speed and frame anew.
    pub(super) fn set(&mut self, line: &SerialLine) -> io::Result<()> {
        let mut settings = self.stream.get_configuration()?;
        apply_to(self.is_pseudo_terminal, line, &mut settings)?;
        self.stream.set_configuration(&settings)
    }
}

fn apply_to(is_pseudo_terminal: bool, line: &SerialLine, settings: &mut Settings) -> io::Result<()> {
    if is_pseudo_terminal {
        settings.set_raw();
        return settings.set_baud_rate(line.baud);
    }
    apply(line, settings)
}

/// What a real line needs: nothing translated, speed, size, stop bits and parity as asked.
fn apply(line: &SerialLine, settings: &mut Settings) -> io::Result<()> {
    settings.set_raw();
    settings.set_baud_rate(line.baud)?;
    settings.set_char_size(if line.data_bits == 7 { CharSize::Bits7 } else { CharSize::Bits8 });
    settings.set_stop_bits(if line.stop_bits == 2 { StopBits::Two } else { StopBits::One });
    settings.set_parity(match line.parity {
        Parity::None => serial2_tokio::Parity::None,
        Parity::Even => serial2_tokio::Parity::Even,
        Parity::Odd => serial2_tokio::Parity::Odd,
    });
    Ok(())
}

/// RTS while sending, and nothing received meanwhile.
fn rts_mode() -> TransceiverMode {
    TransceiverMode::Rs485(Rs485Config::new())
}

/// Tells the driver of a USB adapter to hand bytes on at once, where it can be told and lets us.
fn hasten(drivers: &Path, device: &Path) {
    let Some(name) = device.file_name() else { return };
    let file = drivers.join(name).join("latency_timer");
    match fs::read_to_string(&file) {
        Ok(latency) if latency.trim() != LATENCY_MS => {
            if let Err(error) = fs::write(&file, LATENCY_MS) {
                let (file, latency) = (file.display(), latency.trim());
                warn!(%file, %error, "each short answer waits {latency} ms in this adapter's driver: let the gateway write {LATENCY_MS} there");
            }
        }
        Ok(_) | Err(_) => {} // fast already, or no such driver
    }
}

/// The name of the port at `path` that stays with the adapter, where `path` is none itself and there is one.
pub(super) fn stable_name(path: &Path) -> Option<PathBuf> {
    let found = stable_name_in(&STABLE_NAMES.map(Path::new), path)?;
    info!(port = %path.display(), stable = %found.display(), "opened again by this name from now on");
    Some(found)
}

fn stable_name_in(folders: &[&Path], path: &Path) -> Option<PathBuf> {
    if path.is_symlink() {
        return None;
    }
    let entries = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|name| name.canonicalize().is_ok_and(|target| target == path))
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

impl AsyncRead for Port {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Port {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// The far end is closed: settings can be made all the same.
    fn pseudo_terminal() -> SerialPort {
        let near =
            rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY).unwrap();
        rustix::pty::grantpt(&near).unwrap();
        rustix::pty::unlockpt(&near).unwrap();
        let path = rustix::pty::ptsname(&near, Vec::new()).unwrap().into_string().unwrap();
        let port = SerialPort::open(path, 9600).unwrap();
        std::mem::forget(near);
        port
    }

    #[tokio::test]
    async fn a_port_is_asked_for_exactly_the_wanted_settings() {
        let port = pseudo_terminal();
        for (line, size, parity, stop) in [
            ((8, Parity::Even, 1), CharSize::Bits8, serial2_tokio::Parity::Even, StopBits::One),
            ((7, Parity::Odd, 1), CharSize::Bits7, serial2_tokio::Parity::Odd, StopBits::One),
            ((8, Parity::None, 2), CharSize::Bits8, serial2_tokio::Parity::None, StopBits::Two),
        ] {
            let mut settings = port.get_configuration().unwrap();
            let (data_bits, parity_bit, stop_bits) = line;
            apply(&SerialLine { baud: 19_200, data_bits, parity: parity_bit, stop_bits }, &mut settings)
                .unwrap();
            assert_eq!(settings.get_baud_rate().unwrap(), 19_200);
            assert_eq!(settings.get_char_size().unwrap(), size);
            assert_eq!(settings.get_parity().unwrap(), parity);
            assert_eq!(settings.get_stop_bits().unwrap(), stop);
        }
        let TransceiverMode::Rs485(mode) = rts_mode() else { panic!("no RS-485") };
        assert!(!mode.get_full_duplex(), "it would hear itself");
    }

    #[test]
    fn a_port_that_cannot_do_rs485_says_so() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let port = pseudo_terminal();
            assert!(port.set_rs4xx_mode(rts_mode()).is_err(), "a pseudo-terminal has no RTS");
        });
    }

    #[test]
    fn an_unplugged_adapter_is_found_again_by_the_name_that_stays_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let (by_id, port) = (folder.path().join("by-id"), folder.path().join("ttyUSB0"));
        fs::create_dir(&by_id).unwrap();
        fs::write(&port, "").unwrap();
        let folders = [Path::new("/nowhere"), by_id.as_path()];
        assert_eq!(stable_name_in(&folders, &port), None);
        let name = by_id.join("usb-FTDI-if00-port0");
        symlink(&port, &name).unwrap();
        let port = port.canonicalize().unwrap();
        assert_eq!(stable_name_in(&folders, &port), Some(name.clone()));
        assert_eq!(stable_name_in(&folders, &name), None, "it is one already");
    }

    #[test]
    fn the_latency_of_a_usb_adapter_is_set_to_the_least() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ttyUSB0/latency_timer");
        fs::create_dir(file.parent().unwrap()).unwrap();
        fs::write(&file, "16\n").unwrap();
        hasten(folder.path(), Path::new("/dev/ttyUSB0"));
        assert_eq!(fs::read_to_string(&file).unwrap(), "1");
        hasten(folder.path(), Path::new("/dev/ttyS0"));
    }
}
