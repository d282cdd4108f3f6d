//! Asks the machine about its clocks, and which start of it this is.

use std::fs;
use std::time::Duration;

use super::kernel;
use super::trust::{Facts, is_of_a_host};

/// One folder a hardware clock.
const HARDWARE_CLOCKS: &str = "/sys/class/rtc";
const SOURCES: &str = "/sys/devices/system/clocksource/clocksource0/available_clocksource";
/// Another one each time that the machine is started; that of the machine in a container too.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What the machine says, where its system clock says `system`. What cannot be read is not there.
pub(super) fn gather(system: Duration) -> Facts {
    let is_virtual = fs::read_to_string(SOURCES).is_ok_and(|sources| is_of_a_host(&sources));
    Facts { system, is_synchronised: kernel::is_synchronised(), hardware: hardware(), is_virtual }
}

fn hardware() -> Option<Duration> {
    let clocks = fs::read_dir(HARDWARE_CLOCKS).ok()?.flatten();
    let told = clocks.filter_map(|clock| fs::read_to_string(clock.path().join("since_epoch")).ok());
    told.filter_map(|seconds| seconds.trim().parse().ok()).max().map(Duration::from_secs)
}

/// The id of this start of the machine. Where it cannot be read, one that no other start of the program has: what is not
/// known to be of the same start must not pass for it.
pub(super) fn boot_id() -> [u8; 16] {
    let read = fs::read_to_string(BOOT_ID).ok().and_then(|text| parse_id(&text));
    read.unwrap_or_else(|| fastrand::u128(..).to_be_bytes())
}

/// 32 hexadecimal digits, with hyphens somewhere between them.
fn parse_id(text: &str) -> Option<[u8; 16]> {
    let digits = text.trim().replace('-', "");
    if digits.len() != 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(&digits, 16).ok().map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_in_the_order_in_which_it_is_written() {
        let id = parse_id("e4e84453-58c3-410e-ae0f-4cbb38d2fcef\n").unwrap();
        assert_eq!((id[0], id[1], id[15]), (0xe4, 0xe8, 0xef));
        for wrong in
            ["", "e4e84453", "+4e84453-58c3-410e-ae0f-4cbb38d2fcef", "e4e84453-58c3-410e-ae0f-4cbb38d2fcefe"]
        {
            assert_eq!(parse_id(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn this_machine_can_be_asked() {
        let facts = gather(Duration::ZERO);
        assert!(facts.judge().is_err(), "{facts:?}");
        assert_eq!(boot_id(), boot_id());
    }
}
