//! Durations as people write them.

use std::time::Duration;

/// The longest duration that can be written: ten years, the life of a gateway.
const DURATION_MAX: Duration = Duration::from_secs(3650 * 86_400);

/// The duration in `text`, a decimal number and its unit: `"500ms"`, `"1.5s"`, `"5m"`, `"1h"`, `"7d"`. `None`: it is none,
/// or longer than ten years.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits_end = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (digits, unit) = text.split_at_checked(digits_end)?;
    let is_decimal = digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.ends_with(|c: char| c.is_ascii_digit())
        && digits.chars().all(|c| c.is_ascii_digit() || c == '.');
    let seconds_each = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        _ => return None,
    };
    let number: f64 = is_decimal.then(|| digits.parse().ok())??;
    Duration::try_from_secs_f64(number * seconds_each).ok().filter(|duration| *duration <= DURATION_MAX)
}
