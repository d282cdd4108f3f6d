//! How a date and time lies in registers: `format` of a `datetime`.

/// The most registers that a date and time takes.
const REGISTERS_MAX: usize = 8;

/// One part of a date and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimePart {
    /// `YYYY`, a whole register.
    Year,
    /// `YY`: 0 to 99 stand for 2000 to 2099.
    YearOfCentury,
    /// `MM`, 1 to 12.
    Month,
    /// `DD`, 1 to 31.
    Day,
    /// `hh`, 0 to 23.
    Hour,
    /// `mm`, 0 to 59.
    Minute,
    /// `ss`, 0 to 59.
    Second,
    /// `WW`: the day of the week, which nobody needs.
    Weekday,
}

/// What one register of a date and time holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeRegister {
    /// One part, as a 16-bit number.
    Whole(TimePart),
    /// One part in the high byte, one in the low byte.
    Halves(TimePart, TimePart),
}

/// How a date and time lies in its registers.
///
/// | written | registers |
/// |---|---|
/// | `YYMM DDhh mmss` | three, two parts each: the first pair of letters is the high byte |
/// | `YYYY MM DD hh mm ss` | six, a number each |
/// | `bcd ssmm hhDD MMYY` | three, each byte two decimal digits |
///
/// Pairs of letters are `YY MM DD hh mm ss WW`; `YYYY` takes a register. A blank begins the next register. Year, month
/// and day are needed; hours, minutes and seconds that are not there are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeFormat {
    registers: [Option<TimeRegister>; REGISTERS_MAX],
    /// Decimal digits, four bits each; else binary numbers.
    pub is_bcd: bool,
}

impl TimeFormat {
    /// Reads a format as it is written.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<TimeFormat, String> {
        let (is_bcd, groups) = match text.strip_prefix("bcd ") {
            Some(groups) => (true, groups),
            None => (false, text),
        };
        let mut registers = [None; REGISTERS_MAX];
        let mut slots = registers.iter_mut();
        for group in groups.split(' ') {
            let Some(slot) = slots.next() else {
                return Err(format!("a date and time has at most {REGISTERS_MAX} registers"));
            };
            *slot = Some(register(group)?);
        }
        let format = TimeFormat { registers, is_bcd };
        format.check()?;
        Ok(format)
    }

    fn check(&self) -> Result<(), String> {
        let mut parts = Vec::new();
        for register in self.registers() {
            match register {
                TimeRegister::Whole(part) => parts.push(part),
                TimeRegister::Halves(high, low) => parts.extend([high, low]),
            }
        }
        let count = |of: &[TimePart]| parts.iter().filter(|part| of.contains(part)).count();
        let year = count(&[TimePart::Year, TimePart::YearOfCentury]);
        if year != 1 || count(&[TimePart::Month]) != 1 || count(&[TimePart::Day]) != 1 {
            return Err("a date and time needs one year, one month and one day".to_owned());
        }
        let is_twice =
            [TimePart::Hour, TimePart::Minute, TimePart::Second].iter().any(|one| count(&[*one]) > 1);
        if is_twice { Err("hours, minutes and seconds stand at most once".to_owned()) } else { Ok(()) }
    }

    /// What each register holds, the first one first.
    pub fn registers(&self) -> impl Iterator<Item = TimeRegister> {
        self.registers.iter().map_while(|register| *register)
    }

    /// How many registers it takes, 1 to 8.
    #[must_use]
    pub const fn count(&self) -> u16 {
        let mut count = 0;
        let mut rest: &[Option<TimeRegister>] = &self.registers;
        while let [Some(_), behind @ ..] = rest {
            count += 1;
            rest = behind;
        }
        count
    }
}

fn register(group: &str) -> Result<TimeRegister, String> {
    if group == "YYYY" {
        return Ok(TimeRegister::Whole(TimePart::Year));
    }
    let wrong = || {
        format!(
            "wanted one or two pairs of YY MM DD hh mm ss WW, or YYYY, for a register, got \"{}\"",
            group.chars().take(20).collect::<String>()
        )
    };
    let (first, second) = group.split_at_checked(2).ok_or_else(wrong)?;
    let first = part(first).ok_or_else(wrong)?;
    if second.is_empty() {
        return Ok(TimeRegister::Whole(first));
    }
    part(second).map(|second| TimeRegister::Halves(first, second)).ok_or_else(wrong)
}

fn part(letters: &str) -> Option<TimePart> {
    Some(match letters {
        "YY" => TimePart::YearOfCentury,
        "MM" => TimePart::Month,
        "DD" => TimePart::Day,
        "hh" => TimePart::Hour,
        "mm" => TimePart::Minute,
        "ss" => TimePart::Second,
        "WW" => TimePart::Weekday,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let shown = match TimeFormat::parse(text) {
            Ok(format) => format!("{} {}", format.count(), if format.is_bcd { "bcd" } else { "binary" }),
            Err(message) => message,
        };
        assert!(shown.contains(expected), "{text}: {shown}");
    }

    #[test]
    fn a_format_says_what_each_register_holds() {
        check("YYMM DDhh mmss", "3 binary");
        check("YYYY MM DD hh mm ss", "6 binary");
        check("bcd ssmm hhDD MMYY", "3 bcd");
        check("YYMM DDWW", "2 binary");
        check("YYMM DD", "2 binary");
        check("YYYYMMDD", "for a register, got");
        check("YYMM  DDhh", "for a register, got");
        check("YYMM DDhh mmXX", "got \"mmXX\"");
        check("YM", "got \"YM\"");
        check("", "got \"\"");
        check("空空", "got");
        check("hh mm ss", "needs one year");
        check("YYMM DDYY", "needs one year");
        check("YYMM DDhh hhmm", "at most once");
        check("YY MM DD hh mm ss WW WW WW", "at most 8 registers");
        check(&"YY ".repeat(100_000), "at most 8 registers");
    }
}
