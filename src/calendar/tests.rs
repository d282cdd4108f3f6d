use super::*;

fn berlin(shifts: &str, breaks: &str, days: &str) -> Calendar {
    let mut calendar = Calendar::new(zone("Europe/Berlin").unwrap());
    calendar.shifts = shifts.split_whitespace().map(|text| shift(None, text).unwrap()).collect();
    calendar.breaks = breaks.split_whitespace().map(|text| span(text).unwrap()).collect();
    calendar.workdays = workdays(days).unwrap();
    calendar
}

fn ms(text: &str) -> u64 {
    let moment: Timestamp = text.parse().unwrap();
    moment.as_millisecond().try_into().unwrap()
}

fn utc(ms: u64) -> String {
    Timestamp::from_millisecond(ms.try_into().unwrap()).unwrap().to_string()
}

/// Shift, hours of it, planned or not, next boundary.
#[track_caller]
fn check(calendar: &Calendar, at: &str, expected: &str) {
    let stretch = calendar.at(ms(at)).unwrap();
    let shift = match &stretch.shift {
        Some(shift) => format!("{} {} h", shift.id, (shift.to_ms - shift.from_ms) / 3_600_000),
        None => "none".to_owned(),
    };
    let planned = if stretch.is_planned { "planned" } else { "free" };
    assert_eq!(format!("{shift} {planned} {}", utc(stretch.until_ms)), expected);
}

#[test]
fn a_moment_lies_in_the_shift_that_has_begun() {
    let two = berlin("08:00-20:00 20:00-08:00", "12:00-12:30 00:00-00:30", "mon-sat");
    check(&two, "2026-11-26T06:59:59.999Z", "2026-11-25 20:00-08:00 12 h planned 2026-11-26T07:00:00Z");
    check(&two, "2026-11-26T07:00:00Z", "2026-11-26 08:00-20:00 12 h planned 2026-11-26T11:00:00Z");
    check(&two, "2026-11-26T11:00:00Z", "2026-11-26 08:00-20:00 12 h free 2026-11-26T11:30:00Z");
    check(&two, "2026-11-26T11:29:59.999Z", "2026-11-26 08:00-20:00 12 h free 2026-11-26T11:30:00Z");
    check(&two, "2026-11-26T11:30:00Z", "2026-11-26 08:00-20:00 12 h planned 2026-11-26T19:00:00Z");
    check(&two, "2026-11-26T23:10:00Z", "2026-11-26 20:00-08:00 12 h free 2026-11-26T23:30:00Z");
}

#[test]
fn a_night_belongs_to_the_day_on_which_it_began() {
    let night = berlin("22:00-06:00", "", "sat");
    check(&night, "2026-11-28T20:59:59Z", "none free 2026-11-28T21:00:00Z");
    check(&night, "2026-11-29T04:00:00Z", "2026-11-28 22:00-06:00 8 h planned 2026-11-29T05:00:00Z");
    check(&night, "2026-11-29T22:00:00Z", "2026-11-29 22:00-06:00 8 h free 2026-11-30T05:00:00Z");
}

#[test]
fn a_shift_over_a_change_of_the_clocks_is_an_hour_shorter_or_longer() {
    let night = berlin("22:00-06:00", "", "mon-sun");
    check(&night, "2026-03-29T00:30:00Z", "2026-03-28 22:00-06:00 7 h planned 2026-03-29T04:00:00Z");
    check(&night, "2026-10-25T00:30:00Z", "2026-10-24 22:00-06:00 9 h planned 2026-10-25T05:00:00Z");
    assert_eq!(night.planned_ms(ms("2026-03-28T12:00:00Z"), ms("2026-03-29T12:00:00Z")), 7 * 3_600_000);
    assert_eq!(night.planned_ms(ms("2026-10-24T12:00:00Z"), ms("2026-10-25T12:00:00Z")), 9 * 3_600_000);
}

#[test]
fn a_local_time_that_is_skipped_or_repeated_is_taken_once() {
    let skipped = berlin("02:30-10:00", "", "mon-sun");
    check(&skipped, "2026-03-29T02:00:00Z", "2026-03-29 02:30-10:00 6 h planned 2026-03-29T08:00:00Z");
    check(&skipped, "2026-10-25T00:30:00Z", "2026-10-25 02:30-10:00 8 h planned 2026-10-25T09:00:00Z");
    // The first of the two ends at 03:30 of the clock, which is after 03:00: it gives way.
    let meeting = berlin("22:00-02:30 03:00-06:00", "", "mon-sun");
    check(&meeting, "2026-03-29T00:59:00Z", "2026-03-28 22:00-02:30 4 h planned 2026-03-29T01:00:00Z");
    check(&meeting, "2026-03-29T01:00:00Z", "2026-03-29 03:00-06:00 3 h planned 2026-03-29T04:00:00Z");
}

#[test]
fn planned_time_is_without_breaks_and_days_off() {
    let day = berlin("08:00-17:00", "12:00-12:30 12:15-13:00", "mon-fri");
    let minutes = |from: &str, to: &str| day.planned_ms(ms(from), ms(to)) / 60_000;
    assert_eq!(minutes("2026-11-26T00:00:00Z", "2026-11-27T00:00:00Z"), 480);
    assert_eq!(minutes("2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"), 2400);
    assert_eq!(minutes("2026-11-26T11:59:00Z", "2026-11-26T12:30:00Z"), 30);
    assert_eq!(minutes("2026-11-27T00:00:00Z", "2026-11-26T00:00:00Z"), 0);
}

#[test]
fn times_beyond_the_calendar_are_no_shift_and_cost_nothing() {
    let day = Calendar::new(TimeZone::UTC);
    assert_eq!(day.at(u64::MAX), None);
    assert_eq!(day.planned_ms(u64::MAX - 1, u64::MAX), 0);
    assert_eq!(day.planned_ms(0, u64::MAX), PLANNED_MAX_MS);
    assert!(day.at(0).is_some_and(|stretch| stretch.is_planned));
    let none = Calendar { shifts: Vec::new(), ..day };
    assert_eq!(none.planned_ms(0, u64::MAX), 0);
}

#[test]
fn shifts_that_overlap_are_a_fault() {
    #[track_caller]
    fn check(shifts: &str, expected: &[&str]) {
        assert_eq!(berlin(shifts, "", "mon").faults(), expected);
    }
    check("08:00-20:00 20:00-08:00", &[]);
    check("00:00-24:00", &[]);
    check("08:00-16:00 15:59-20:00", &["the shifts `08:00-16:00` and `15:59-20:00` overlap"]);
    check("22:00-06:00 05:00-14:00", &["the shifts `22:00-06:00` and `05:00-14:00` overlap"]);
    check("05:00-14:00 22:00-06:00", &["the shifts `05:00-14:00` and `22:00-06:00` overlap"]);
    check("08:00-09:00 08:00-09:00", &["two shifts are named `08:00-09:00`"]);
    check("", &["there is no shift: leave `shifts` out for one from midnight to midnight"]);
}

#[test]
fn spans_are_read_as_people_write_them() {
    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(span(text).map_or_else(|error| error, |span| span.to_string()), expected);
    }
    check("08:00-20:00", "08:00-20:00");
    check("8:00 - 20:00", "08:00-20:00");
    check("20:00-08:00", "20:00-08:00");
    check("00:00-24:00", "00:00-24:00");
    check("00:00-00:00", "00:00-24:00");
    check("08:00", "`08:00` is no span: written like `08:00-20:00`");
    check("08:60-20:00", "`08:60-20:00` is no span: written like `08:00-20:00`");
    check("08:0-20:00", "`08:0-20:00` is no span: written like `08:00-20:00`");
    check("24:00-08:00", "`24:00-08:00`: a time of day lies between 00:00 and 24:00");
    check("08:00-24:01", "`08:00-24:01`: a time of day lies between 00:00 and 24:00");
    check("٠٨:00-20:00", "`٠٨:00-20:00` is no span: written like `08:00-20:00`");
}

#[test]
fn workdays_are_read_as_people_write_them() {
    #[track_caller]
    fn check(text: &str, expected: &str) {
        let shown = |days: [bool; 7]| days.map(|day| if day { 'x' } else { '.' }).iter().collect();
        assert_eq!(workdays(text).map_or_else(|error| error, shown), expected);
    }
    check("mon-sun", "xxxxxxx");
    check("mon-fri, sun", "xxxxx.x");
    check("sat-mon", "x....xx");
    check("wed", "..x....");
    check("Mon", "`Mon` is no day: one of mon tue wed thu fri sat sun");
    check("", "`` is no day: one of mon tue wed thu fri sat sun");
    assert!(workdays(&"mon,".repeat(100_000)).is_err());
}

#[test]
fn zones_are_found_by_name() {
    assert_eq!(zone("Asia/Shanghai").unwrap().iana_name(), Some("Asia/Shanghai"));
    assert_eq!(
        zone("Asia/Shanghigh").unwrap_err(),
        "`Asia/Shanghigh` is no time zone: a name of the IANA database, as `Asia/Shanghai`"
    );
    assert!(zone(&"x".repeat(100_000)).is_err());
    assert!(zone("../../etc/passwd").is_err());
    assert!(zone_names().iter().any(|name| name == "Europe/Berlin"));
}
