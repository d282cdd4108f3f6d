//! Time zones by name: the machine's data first, for it is kept up to date; the bundled data where the machine has none.

use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};

use crate::reading::Timestamp;

/// The longest name of a zone; the longest known has 32 bytes.
const NAME_MAX: usize = 64;

/// The zone with this name of the IANA database, as `Europe/Berlin` or `Asia/Shanghai`.
///
/// # Errors
/// There is none; [`zone_names`] has those that there are.
pub fn zone(name: &str) -> Result<TimeZone, String> {
    if name.is_empty() || name.len() > NAME_MAX {
        return Err(format!("a time zone's name has 1 to {NAME_MAX} bytes, as `Asia/Shanghai`"));
    }
    jiff::tz::db()
        .get(name)
        .or_else(|_| TimeZoneDatabase::bundled().get(name))
        .map_err(|_| format!("`{name}` is no time zone: a name of the IANA database, as `Asia/Shanghai`"))
}

/// The zone that the machine is set to; UTC where that is not known.
#[must_use]
pub fn zone_of_system() -> TimeZone {
    TimeZone::try_system().unwrap_or(TimeZone::UTC)
}

/// Every name that [`zone`] knows, sorted, for a proposal.
#[must_use]
pub fn zone_names() -> Vec<String> {
    let mut names: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
    names.extend(TimeZoneDatabase::bundled().available().map(|name| name.to_string()));
    names.sort();
    names.dedup();
    names
}

/// The local time of one in UTC, which counts milliseconds as if it were UTC. `None` before 1970 and beyond the year 9999.
#[must_use]
pub fn to_local(zone: &TimeZone, utc: Timestamp) -> Option<Timestamp> {
    let moment = jiff::Timestamp::from_millisecond(i64::try_from(utc.millis()).ok()?).ok()?;
    let local = TimeZone::UTC.to_timestamp(zone.to_datetime(moment)).ok()?;
    u64::try_from(local.as_millisecond()).ok().map(Timestamp::from_millis)
}

/// The UTC time of a local one, which counts milliseconds as if it were UTC; of a time that comes twice the first. `None`: the
/// clocks of the place leave it out.
#[must_use]
pub fn to_utc(zone: &TimeZone, local: Timestamp) -> Option<Timestamp> {
    let civil = jiff::Timestamp::from_millisecond(i64::try_from(local.millis()).ok()?).ok()?;
    let ambiguous = zone.to_ambiguous_timestamp(TimeZone::UTC.to_datetime(civil));
    if matches!(ambiguous.offset(), AmbiguousOffset::Gap { .. }) {
        return None;
    }
    let utc = ambiguous.compatible().ok()?.as_millisecond();
    u64::try_from(utc).ok().map(Timestamp::from_millis)
}
