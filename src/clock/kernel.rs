//! The one question to the system that has no safe form in any crate that is here, and so the only `unsafe`.

/// Whether a time server (chrony, ntpd, systemd-timesyncd, PTP) holds the system clock, by the kernel's own word: it takes
/// that back when nobody has corrected the clock for some hours (`adjtimex(2)`, `STA_UNSYNC`).
///
/// Where the kernel does not say: no.
#[expect(unsafe_code, reason = "libc has adjtimex as the C function that it is")]
pub(super) fn is_synchronised() -> bool {
    // SAFETY: `timex` is plain integers, for which zeros are valid; with `modes` 0 adjtimex sets nothing and writes into
    // this struct only.
    let (state, status) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        let state = libc::adjtimex(&raw mut timex);
        (state, timex.status)
    };
    state >= 0 && status & libc::STA_UNSYNC == 0
}
