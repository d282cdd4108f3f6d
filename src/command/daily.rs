//! When the meters of a link are told the time, and over which devices. Pure.
//!
//! Once in a local day, when its minute comes while somebody looks: what a restart has missed is not made up for, and what
//! has been on its way on a day is not on its way again, whatever is done to the system clock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;

use crate::calendar::Calendar;
use crate::config::site::{Channel, DeviceProtocol, Endpoint, Link, Site};
use crate::reading::Timestamp;
use crate::tag::DeviceId;

/// For so long after its minute has come the time may be told.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Days that are remembered; a clock that is set back further may have one served twice.
const DAYS_MAX: usize = 31;
/// The years that two digits tell.
const YEARS: std::ops::Range<i16> = 2000..2100;

/// A minute of each local day.
#[derive(Debug)]
pub struct Daily {
    minute: u16,
    /// When it was looked last, and whether the system clock was trusted then.
    looked: Option<(Timestamp, bool)>,
    /// The days that have been served, the last of them behind.
    served: VecDeque<Date>,
}

/// What is to be done now that the minute has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// The time is to be told.
    Now,
    /// It is not, for the system clock is not trusted.
    Untrusted,
    /// It is not, for the minute is over: nobody could look, or the system clock was set past it.
    Over,
}

impl Daily {
    /// The minute that is so many after midnight.
    #[must_use]
    pub const fn new(minute: u16) -> Daily {
        Daily { minute, looked: None, served: VecDeque::new() }
    }

    /// What is due at `now` by the system clock, and on which day; `None`: nothing. To be asked more than once a minute.
    pub fn look(&mut self, now: Timestamp, is_trusted: bool, calendar: &Calendar) -> Option<(Date, Due)> {
        let looked = self.looked.replace((now, is_trusted));
        // when trust comes the clock has been set: what lies between was never the time
        let (before, _) = looked.filter(|(_, was_trusted)| *was_trusted == is_trusted)?;
        let (day, due_ms) = calendar.minute_of(now.millis(), self.minute)?;
        if before.millis() >= due_ms || now.millis() < due_ms || self.served.contains(&day) {
            return None;
        }
        if !is_trusted || !YEARS.contains(&day.year()) {
            return Some((day, Due::Untrusted));
        }
        if u128::from(now.millis() - due_ms) >= PATIENCE.as_millis() {
            return Some((day, Due::Over));
        }
        if self.served.len() == DAYS_MAX {
            self.served.pop_front();
        }
        self.served.push_back(day);
        Some((day, Due::Now))
    }
}

/// The meters of a link that are told the time each day.
#[derive(Debug)]
pub struct Told {
    /// The link, by name.
    pub link: Arc<str>,
    /// When, as it is written.
    pub time: String,
    /// When.
    pub daily: Daily,
    /// For each of its streams: the devices as which all are told.
    pub streams: Vec<Vec<DeviceId>>,
}

/// What is told on which link of `site`.
#[must_use]
pub fn told(site: &Site) -> Vec<Told> {
    let of_link = |(index, link): (usize, &Link)| {
        let minute = link.broadcast_time?;
        Some(Told {
            link: link.name.clone(),
            time: format!("{:02}:{:02}", minute / 60, minute % 60),
            daily: Daily::new(minute),
            streams: site.channels(index).iter().map(|channel| heard_by_all(site, channel)).collect(),
        })
    };
    site.links.iter().enumerate().filter_map(of_link).collect()
}

/// One meter of a stream for each speed and frame of the line with each count of wake-up bytes: what these hear, all hear.
fn heard_by_all(site: &Site, channel: &Channel) -> Vec<DeviceId> {
    let own = site.links.get(channel.link).and_then(|link| match &link.endpoint {
        Endpoint::Serial { line, .. } => Some(*line),
        Endpoint::Tcp { .. } | Endpoint::Listen(_) => None,
    });
    let (mut ways, mut heard) = (Vec::new(), Vec::new());
    for device in channel.devices.iter().filter_map(|id| site.devices.get(id.index())) {
        let DeviceProtocol::Dlt645(meter) = &device.protocol else { continue };
        let way = (device.line.or(own), meter.wake);
        if device.enabled && !ways.contains(&way) {
            ways.push(way);
            heard.push(device.id);
        }
    }
    heard
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::zone;
    use crate::config;

    /// What is due at each of these looks, in UTC; `?` before one: the system clock is not trusted.
    #[track_caller]
    fn check(place: &str, minute: u16, looks: &[(&str, &str)]) {
        let calendar = Calendar::new(zone(place).unwrap());
        let mut daily = Daily::new(minute);
        for (at, expected) in looks {
            let moment: jiff::Timestamp = at.trim_start_matches('?').parse().unwrap();
            let now = Timestamp::from_millis(moment.as_millisecond().try_into().unwrap());
            let due = daily.look(now, !at.starts_with('?'), &calendar);
            let shown = due.map(|(day, due)| format!("{day} {due:?}")).unwrap_or_default();
            assert_eq!(shown, *expected, "{at}");
        }
    }

    #[test]
    fn it_is_due_once_a_day_when_its_minute_comes() {
        check(
            "Asia/Shanghai",
            150,
            &[
                ("2026-11-26T18:29:59Z", ""),
                ("2026-11-26T18:30:00Z", "2026-11-27 Now"),
                ("2026-11-26T18:30:01Z", ""),
                ("2026-11-27T18:29:59.999Z", ""),
                ("2026-11-27T18:30:59.999Z", "2026-11-28 Now"),
                ("2026-11-28T18:29:59Z", ""),
                ("2026-11-28T18:31:00Z", "2026-11-29 Over"),
                ("2026-11-28T18:32:00Z", ""),
            ],
        );
    }

    #[test]
    fn what_a_restart_has_missed_is_not_made_up_for() {
        check("UTC", 150, &[("2026-11-27T02:30:00Z", ""), ("2026-11-27T02:30:01Z", "")]);
        check("UTC", 150, &[("2026-11-27T02:31:00Z", ""), ("2026-11-27T02:32:00Z", "")]);
    }

    #[test]
    fn a_clock_that_is_set_makes_it_due_no_second_time_on_a_day() {
        check(
            "UTC",
            150,
            &[
                ("2026-11-27T02:29:59Z", ""),
                ("2026-11-27T02:30:00Z", "2026-11-27 Now"),
                ("2026-11-27T02:29:59Z", ""),
                ("2026-11-27T02:30:00Z", ""),
                ("2026-11-28T02:29:59Z", ""),
                ("2026-11-28T02:30:00Z", "2026-11-28 Now"),
                ("2026-11-27T02:29:59Z", ""),
                ("2026-11-27T02:30:00Z", ""),
                // one that was passed by may come yet
                ("2026-11-29T02:00:00Z", ""),
                ("2026-11-29T03:00:00Z", "2026-11-29 Over"),
                ("2026-11-29T02:29:59Z", ""),
                ("2026-11-29T02:30:00Z", "2026-11-29 Now"),
            ],
        );
    }

    #[test]
    fn when_the_clocks_change_a_time_that_comes_twice_counts_first_and_one_that_is_left_out_an_hour_later() {
        check(
            "Europe/Berlin",
            150,
            &[
                ("2026-10-25T00:29:59Z", ""),
                ("2026-10-25T00:30:00Z", "2026-10-25 Now"),
                ("2026-10-25T01:29:59Z", ""),
                ("2026-10-25T01:30:00Z", ""),
            ],
        );
        check(
            "Europe/Berlin",
            150,
            &[
                ("2026-03-29T00:59:59Z", ""),
                ("2026-03-29T01:00:00Z", ""),
                ("2026-03-29T01:29:59Z", ""),
                ("2026-03-29T01:30:00Z", "2026-03-29 Now"),
            ],
        );
    }

    #[test]
    fn a_clock_that_is_not_trusted_tells_nobody_the_time() {
        check(
            "UTC",
            150,
            &[
                ("?2026-11-27T02:29:59Z", ""),
                ("?2026-11-27T02:30:00Z", "2026-11-27 Untrusted"),
                ("?2026-11-27T02:30:01Z", ""),
                // trust comes, and with it the time
                ("2026-11-28T02:30:30Z", ""),
                ("2026-11-28T02:30:31Z", ""),
                ("2026-11-29T02:29:59Z", ""),
                ("2026-11-29T02:30:00Z", "2026-11-29 Now"),
            ],
        );
        check("UTC", 150, &[("2100-01-01T02:29:59Z", ""), ("2100-01-01T02:30:00Z", "2100-01-01 Untrusted")]);
    }

    #[test]
    fn each_stream_is_told_once_in_each_way_that_its_meters_hear() {
        let meter = |name: &str, keys: &str| {
            format!(
                "[device.{name}]\nprotocol = \"dlt645\"\naddress = \"210220003011\"\n{keys}\n\
                 tags = [{{ name = \"v\", at = \"02010100\", format = \"XXX.X\" }}]\n"
            )
        };
        let text = [
            "[gateway]\nname = \"n\"\nenterprise = \"e\"\n[uplink.u]\nbroker = \"mqtt://127.0.0.1\"\n\
             [commands]\nenabled = true\n\
             [link.l]\nport = \"/dev/ttyS0\"\nserial = \"9600 8E1\"\nbroadcast_time = \"02:30\"\n\
             [link.t]\ntcp = \"127.0.0.1:502\"\nframing = \"rtu\"\nconnections = 2\nbroadcast_time = \"23:05\"\n\
             [link.o]\ntcp = \"127.0.0.1:503\"\nframing = \"rtu\"\n",
            "[device.slave]\nlink = \"l\"\ntags = [{ name = \"r\", at = \"hr:0\" }]\n",
            &meter("off", "link = \"l\"\nserial = \"1200 8E1\"\nenabled = false"),
            &meter("a", "link = \"l\"\nserial = \"2400 8E1\""),
            &meter("b", "link = \"l\"\nserial = \"2400 8E1\""),
            &meter("c", "link = \"l\"\nserial = \"2400 8E1\"\nquirks = { wake = 1 }"),
            &meter("d", "link = \"l\""),
            &meter("e", "link = \"l\"\nserial = \"9600 8E1\""),
            &meter("f", "link = \"t\""),
            &meter("g", "link = \"t\""),
            &meter("h", "link = \"o\""),
        ]
        .concat();
        let site = config::parse("test.toml", &text).site.unwrap();
        let names = |devices: &Vec<DeviceId>| {
            let name = |id: &DeviceId| site.devices[id.index()].name.to_string();
            devices.iter().map(name).collect::<Vec<_>>().join(" ")
        };
        let shown = |told: &Told| {
            let streams: Vec<String> = told.streams.iter().map(names).collect();
            format!("{} {}: {}", told.link, told.time, streams.join("; "))
        };
        let all: Vec<String> = told(&site).iter().map(shown).collect();
        assert_eq!(all, ["l 02:30: a c d", "t 23:05: f; g"]);
    }
}
