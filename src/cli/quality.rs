//! How good lines and devices are, as a table: what was asked, what went wrong, how long answers took.

use std::time::Duration;

use crate::config::site::Site;
use crate::counters::{Counters, DeviceCounters};

/// A line for each link, with the share of `running` in which a request was under way, and one for each of its devices.
pub(super) fn table(site: &Site, counters: &Counters, running: Duration) -> String {
    let mut text = format!(
        "  {:<22} {:>8} {:>7} {:>8} {:>5} {:>8} {:>7} {:>8} {:>8} {:>8}  exceptions\n",
        "", "requests", "retries", "timeouts", "late", "checksum", "foreign", "overruns", "p50 ms", "p99 ms"
    );
    for (index, (link, of_link)) in site.links.iter().zip(&counters.links).enumerate() {
        let share = of_link.busy.get().as_secs_f64() / running.as_secs_f64().max(f64::MIN_POSITIVE);
        let strays = of_link.unasked.get();
        text += &format!("  {:<22} {:.0} % busy, {strays} strays\n", &*link.name, share * 100.0);
        for (device, counters) in site.devices.iter().zip(&counters.devices) {
            if device.link == index {
                text += &line(&format!("  {} (unit {})", device.name, device.unit), counters);
            }
        }
    }
    text
}

fn line(name: &str, device: &DeviceCounters) -> String {
    let percentile = |percent| {
        let time = device.replies.percentile(percent);
        time.map_or_else(|| "-".to_owned(), |time| format!("{:.1}", time.as_secs_f64() * 1000.0))
    };
    let exceptions: Vec<String> =
        device.exceptions.all().iter().map(|(code, count)| format!("{code:02X}:{count}")).collect();
    format!(
        "  {name:<22} {:>8} {:>7} {:>8} {:>5} {:>8} {:>7} {:>8} {:>8} {:>8}  {}\n",
        device.requests.get(),
        device.retries.get(),
        device.timeouts.get(),
        device.late.get(),
        device.checksum_errors.get(),
        device.foreign.get(),
        device.overruns(),
        percentile(50),
        percentile(99),
        exceptions.join(" ")
    )
}
