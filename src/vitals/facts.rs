//! Asks the system what this program takes of the machine.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::clock;

/// What this program takes of the machine, and which time it goes by.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Processor time so far.
    pub cpu: Duration,
    /// Memory that it holds now, in bytes.
    pub memory: u64,
    /// What it has caused to be written to disks, in bytes; `fallback` where the system does not count it.
    pub flash_written: u64,
    /// Whether timestamps are of a clock that is trusted.
    pub clock: &'static str,
    /// How far timestamps are ahead of a system clock that was set back.
    pub clock_ahead: Duration,
}

/// Asks. What cannot be read is 0; `flash_written` is `fallback` then.
#[must_use]
pub fn gather(fallback: u64) -> Facts {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    Facts {
        cpu: cpu.try_into().unwrap_or_default(),
        memory: figure(&read("/proc/self/status"), "VmRSS:").unwrap_or_default() << 10,
        flash_written: figure(&read("/proc/self/io"), "write_bytes:").unwrap_or(fallback),
        clock: if clock::is_trusted() { "trusted" } else { "not trusted" },
        clock_ahead: clock::ahead(),
    }
}

/// The number after `key` in lines of keys and numbers.
fn figure(text: &str, key: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_tells_what_this_program_takes() {
        let facts = gather(0);
        assert!(facts.memory > 1 << 20, "{facts:?}");
        assert!(facts.cpu > Duration::ZERO);
        assert_eq!(figure("VmRSS:\t    8192 kB\n", "VmRSS:"), Some(8192));
        assert_eq!(figure("", "VmRSS:"), None);
    }
}
