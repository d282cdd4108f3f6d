//! Whether the system clock is to be trusted, from what the machine says of it. Pure.

use std::time::Duration;

/// 2026-01-01T00:00:00Z, which was before this version: a clock that says less has not been set. A date of the release, as
/// one of the build would make every build another; it is moved on with each.
pub(super) const RELEASED: Duration = Duration::from_secs(1_767_225_600);

/// What the machine says of its clocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// The system clock, since 1970-01-01T00:00:00Z.
    pub(super) system: Duration,
    /// The kernel says that a time server holds it.
    pub(super) is_synchronised: bool,
    /// What its hardware clocks say, the latest of them, since 1970-01-01T00:00:00Z.
    pub(super) hardware: Option<Duration>,
    /// It is a virtual machine that has its clock from the host.
    pub(super) is_virtual: bool,
}

/// Why the system clock is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// It has never been set.
    #[error("the system clock is before 2026: it has not been set")]
    BeforeRelease,
    /// It runs, but from where?
    #[error("no time server has set the system clock, and no clock of this machine runs while it is off")]
    Unset,
}

impl Facts {
    /// Whether the system clock is to be trusted.
    pub(super) fn judge(&self) -> Result<(), Doubt> {
        let is_kept = self.is_virtual || self.hardware.is_some_and(|hardware| hardware > RELEASED);
        if self.system <= RELEASED {
            Err(Doubt::BeforeRelease)
        } else if self.is_synchronised || is_kept {
            Ok(())
        } else {
            Err(Doubt::Unset)
        }
    }
}

/// Whether one of the clock sources of the kernel is a host's: the list is words with spaces between them.
pub(super) fn is_of_a_host(sources: &str) -> bool {
    sources
        .split_whitespace()
        .any(|source| ["kvm-clock", "xen"].contains(&source) || source.starts_with("hyperv_clocksource"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The year of the system clock, whether it is synchronised, the year of a hardware clock, whether it is a host's.
    #[track_caller]
    fn check(
        system: u64,
        is_synchronised: bool,
        hardware: Option<u64>,
        is_virtual: bool,
        wanted: Option<Doubt>,
    ) {
        let since_epoch = |year: u64| Duration::from_secs((year - 1970) * 31_557_600 + 86_400);
        let hardware = hardware.map(since_epoch);
        let facts = Facts { system: since_epoch(system), is_synchronised, hardware, is_virtual };
        assert_eq!(facts.judge().err(), wanted, "{facts:?}");
    }

    #[test]
    fn a_system_clock_is_trusted_that_is_held_by_a_server_or_a_battery() {
        let (unset, before) = (Some(Doubt::Unset), Some(Doubt::BeforeRelease));
        check(2026, true, None, false, None);
        check(2026, false, Some(2026), false, None);
        check(2026, false, None, true, None);
        check(2026, true, Some(1970), false, None);
        check(2031, true, Some(2031), true, None);
        // a board without a battery goes on from where its last file was written
        check(2026, false, None, false, unset);
        check(2026, false, Some(1970), false, unset);
        check(2026, false, Some(2000), false, unset);
        check(2026, false, Some(2025), false, unset);
        // nothing helps a clock that is wrong in any case
        check(1970, false, None, false, before);
        check(1970, true, None, false, before);
        check(2025, true, Some(2026), true, before);
    }

    #[test]
    fn the_clock_of_a_host_is_known_by_name() {
        for sources in ["kvm-clock tsc acpi_pm \n", "tsc xen", "hyperv_clocksource_tsc_page acpi_pm", "xen"] {
            assert!(is_of_a_host(sources), "{sources}");
        }
        for sources in ["", "\n", "tsc hpet acpi_pm\n", "arch_sys_counter", "xenon my-kvm-clock"] {
            assert!(!is_of_a_host(sources), "{sources}");
        }
    }
}
