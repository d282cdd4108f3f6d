//! From values to registers, apart from the gateway's own decoding: neither can cover the other's mistake. Pure.

use super::point::{Form, Layout, Order, Truth};
use crate::tag::{TimeFormat, TimePart, TimeRegister};

const MS_A_MINUTE: i64 = 60_000;

/// The registers, or the bit, that hold `raw`; none where the form cannot hold such a thing.
pub(super) fn registers(layout: Layout, raw: &Truth) -> Vec<u16> {
    let words = match (layout.form, raw) {
        (Form::Bit, Truth::Bool(on)) => vec![u16::from(*on)],
        (Form::BitOf(bit), Truth::Bool(on)) => vec![u16::from(*on) << bit],
        (Form::BitIn { bit, registers }, Truth::Bool(on)) => split(i128::from(*on) << bit, registers),
        (Form::Slice(first, last), Truth::Integer(number)) => {
            vec![(low_word(*number) & u16::MAX >> (15 - (last - first))) << first]
        }
        (Form::Whole(count), Truth::Integer(number)) => split(*number, count),
        (Form::SignMagnitude(count), Truth::Integer(number)) => {
            let sign = i128::from(*number < 0) << (count * 16 - 1);
            split(number.abs() | sign, count)
        }
        (Form::Myriads(count), Truth::Integer(number)) => (0..u32::from(count))
            .rev()
            .map(|place| low_word(number / 10_000_i128.pow(place) % 10_000))
            .collect(),
        (Form::Bcd(digits), Truth::Integer(number)) => split(decimal(*number), digits.div_ceil(4)),
        (Form::BcdHalf { is_high }, Truth::Integer(number)) => {
            vec![low_word(decimal(*number)) << if is_high { 8 } else { 0 }]
        }
        (Form::Half, Truth::Float(number)) => vec![half((*number).into()).0],
        (Form::Single, Truth::Float(number)) => split(number.to_bits().into(), 2),
        (Form::Double, Truth::Double(number)) => split(number.to_bits().into(), 4),
        (Form::Text(count), Truth::Text(text)) => pairs(text.as_bytes(), count),
        (Form::Gbk(count), Truth::Text(text)) => pairs(&encoding_rs::GBK.encode(text).0, count),
        (Form::Letters(count), Truth::Text(text)) => {
            text.bytes().map(u16::from).chain(std::iter::repeat(0)).take(count.into()).collect()
        }
        (Form::Date { format, ahead_min }, Truth::Time(at)) => {
            let local = at.millis().saturating_add_signed(i64::from(ahead_min) * MS_A_MINUTE);
            date(format, local / 1000)
        }
        _ => Vec::new(),
    };
    reorder(words, layout)
}

/// The lowest `count` registers of a number, the highest of them first.
fn split(number: i128, count: u8) -> Vec<u16> {
    (0..count).rev().map(|place| low_word(number >> (place * 16))).collect()
}

/// Decimal digits, four bits each.
pub(super) fn decimal(number: i128) -> i128 {
    (0..16).map(|place| (number / 10_i128.pow(place) % 10) << (place * 4)).sum()
}

/// So many registers of two bytes each, the rest 0.
fn pairs(bytes: &[u8], count: u16) -> Vec<u16> {
    let mut bytes = bytes.to_vec();
    bytes.resize(usize::from(count) * 2, 0);
    bytes.as_chunks().0.iter().map(|pair| u16::from_be_bytes(*pair)).collect()
}

/// The day and time of `seconds` since 1970, as `format` wants it.
fn date(format: TimeFormat, seconds: u64) -> Vec<u16> {
    let civil = Civil::new(seconds);
    let part = |part: TimePart| {
        let number = i128::from(civil.part(part));
        low_word(if format.is_bcd { decimal(number) } else { number })
    };
    let register = |register: TimeRegister| match register {
        TimeRegister::Whole(whole) => part(whole),
        TimeRegister::Halves(high, low) => part(high) << 8 | part(low),
    };
    format.registers().map(register).collect()
}

/// A day, counted up from the first of January 1970 year by year and month by month.
struct Civil {
    year: u64,
    month: u64,
    day: u64,
    weekday: u64,
    second: u64,
}

impl Civil {
    fn new(seconds: u64) -> Civil {
        let mut days = seconds / 86_400;
        let (mut year, mut month, weekday) = (1970, 1, (days + 4) % 7); // it was a Thursday
        while days >= 365 + leap_day(year) {
            days -= 365 + leap_day(year);
            year += 1;
        }
        for length in [31, 28 + leap_day(year), 31, 30, 31, 30, 31, 31, 30, 31, 30] {
            if days < length {
                break;
            }
            days -= length;
            month += 1;
        }
        Civil { year, month, day: days + 1, weekday, second: seconds % 86_400 }
    }

    fn part(&self, part: TimePart) -> u64 {
        match part {
            TimePart::Year => self.year,
            TimePart::YearOfCentury => self.year % 100,
            TimePart::Month => self.month,
            TimePart::Day => self.day,
            TimePart::Hour => self.second / 3600,
            TimePart::Minute => self.second / 60 % 60,
            TimePart::Second => self.second % 60,
            TimePart::Weekday => self.weekday,
        }
    }
}

fn leap_day(year: u64) -> u64 {
    u64::from(year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)))
}

/// Registers from the highest to the lowest, put into the order of the wire.
fn reorder(mut words: Vec<u16>, layout: Layout) -> Vec<u16> {
    let is_number =
        !matches!(layout.form, Form::Text(_) | Form::Gbk(_) | Form::Letters(_) | Form::Date { .. });
    if is_number && matches!(layout.order, Order::Cdab | Order::Dcba) {
        words.reverse();
    }
    if matches!(layout.order, Order::Badc | Order::Dcba) {
        for word in &mut words {
            *word = word.rotate_left(8);
        }
    }
    words
}

/// The bits of each register, or the bit, that a value takes.
pub(super) fn occupied(layout: Layout) -> Vec<u16> {
    let whole = |count: u16| vec![u16::MAX; usize::from(count)];
    match layout.form {
        Form::Bit | Form::BitOf(_) | Form::BitIn { .. } => registers(layout, &Truth::Bool(true)),
        Form::Slice(..) => registers(layout, &Truth::Integer(-1)),
        Form::BcdHalf { is_high } => reorder(vec![if is_high { 0xFF00 } else { 0x00FF }], layout),
        Form::Whole(count) | Form::SignMagnitude(count) | Form::Myriads(count) => whole(count.into()),
        Form::Bcd(digits) => whole(digits.div_ceil(4).into()),
        Form::Half => whole(1),
        Form::Single => whole(2),
        Form::Double => whole(4),
        Form::Text(count) | Form::Gbk(count) | Form::Letters(count) => whole(count),
        Form::Date { format, .. } => whole(format.count()),
    }
}

/// What registers hold that lie so; `None` where that is nothing to be found out by their bits alone.
pub(super) fn seen(layout: Layout, words: &[u16], is_signed: bool) -> Option<Truth> {
    let words = reorder(words.to_vec(), layout); // done twice it is undone
    let number = words.iter().fold(0, |number, word| number << 16 | i128::from(*word));
    let cut = |number: i128, bits: usize| {
        let number = number & ((1 << bits) - 1);
        let is_below = is_signed && number >> (bits - 1) == 1;
        Truth::Integer(if is_below { number - (1 << bits) } else { number })
    };
    match layout.form {
        Form::Bit => Some(Truth::Bool(number & 1 == 1)),
        Form::BitOf(bit) | Form::BitIn { bit, .. } => Some(Truth::Bool(number >> bit & 1 == 1)),
        Form::Slice(first, last) => Some(cut(number >> first, usize::from(last - first + 1))),
        Form::Whole(1..=4) if !words.is_empty() => Some(cut(number, words.len() * 16)),
        Form::Whole(_)
        | Form::SignMagnitude(_)
        | Form::Myriads(_)
        | Form::Bcd(_)
        | Form::BcdHalf { .. }
        | Form::Half
        | Form::Single
        | Form::Double
        | Form::Text(_)
        | Form::Gbk(_)
        | Form::Letters(_)
        | Form::Date { .. } => None,
    }
}

/// The nearest half-precision number, as bits and as what they mean; beyond the greatest one it is that.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole, and from 0 to 2048")]
pub(super) fn half(number: f64) -> (u16, f32) {
    let size = number.abs().min(65_504.0);
    // the exponent that a double has counts from 1023; below -14 there is none
    let exponent = i32::try_from(size.to_bits() >> 52).unwrap_or_default().max(1009) - 1023;
    let step = 2_f64.powi(exponent - 10);
    let steps = (size / step).round_ties_even();
    // 1024 steps and more carry into the exponent
    let bits = (exponent + 14).unsigned_abs() as u16 * 1024 + steps as u16;
    let sign = u16::from(number.is_sign_negative()) << 15;
    (sign | bits, single((steps * step).copysign(number)))
}

#[expect(clippy::cast_precision_loss, reason = "what is compared as a float has at most 53 bits")]
pub(super) fn float(number: i128) -> f64 {
    number as f64
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to a whole number is what is wanted")]
pub(super) fn whole(number: f64) -> i64 {
    number.round() as i64
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to single precision is what is wanted")]
pub(super) fn single(number: f64) -> f32 {
    number as f32
}

#[expect(clippy::cast_sign_loss, reason = "the low 16 bits are what is wanted")]
fn low_word(number: i128) -> u16 {
    (number & 0xFFFF) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::Timestamp;

    #[track_caller]
    fn check(form: Form, order: Order, raw: &Truth, expected: &[u16]) {
        let words = registers(Layout::new(form).ordered(order), raw);
        assert_eq!(words, expected, "{form:?} {order:?} {raw}: {words:04X?}");
    }

    fn whole(number: i128) -> Truth {
        Truth::Integer(number)
    }

    #[test]
    fn numbers_lie_on_the_wire_as_manuals_print_them() {
        use Order::{Abcd, Badc, Cdab, Dcba};
        let f = Truth::Float(1_234.567_7);
        check(Form::Single, Abcd, &f, &[0x449A, 0x522B]);
        check(Form::Single, Cdab, &f, &[0x522B, 0x449A]);
        check(Form::Single, Badc, &f, &[0x9A44, 0x2B52]);
        check(Form::Single, Dcba, &f, &[0x2B52, 0x9A44]);
        check(Form::Double, Abcd, &Truth::Double(-1.5), &[0xBFF8, 0, 0, 0]);
        check(Form::Whole(4), Cdab, &whole(1_234_567_890_123), &[0x04CB, 0x71FB, 0x011F, 0]);
        check(Form::Whole(3), Abcd, &whole(-2), &[0xFFFF, 0xFFFF, 0xFFFE]);
        check(Form::Whole(3), Dcba, &whole(0x1122_3344_5566), &[0x6655, 0x4433, 0x2211]);
        check(Form::Whole(1), Badc, &whole(-205), &[0x33FF]);
        check(Form::SignMagnitude(1), Abcd, &whole(-205), &[0x80CD]);
        check(Form::SignMagnitude(2), Cdab, &whole(-70_000), &[0x1170, 0x8001]);
        check(Form::SignMagnitude(2), Abcd, &whole(70_000), &[0x0001, 0x1170]);
        check(Form::Myriads(2), Abcd, &whole(1_234_567), &[123, 4567]);
        check(Form::Myriads(2), Cdab, &whole(1_234_567), &[4567, 123]);
    }

    #[test]
    fn parts_of_a_register_and_decimal_digits() {
        use Order::{Abcd, Cdab};
        check(Form::Bit, Abcd, &Truth::Bool(true), &[1]);
        check(Form::BitOf(12), Abcd, &Truth::Bool(true), &[0x1000]);
        check(Form::Slice(8, 15), Abcd, &whole(200), &[0xC800]);
        check(Form::Slice(0, 7), Abcd, &whole(-3), &[0x00FD]);
        check(Form::Slice(4, 6), Abcd, &whole(5), &[0x0050]);
        check(Form::Slice(0, 15), Abcd, &whole(-1), &[0xFFFF]);
        check(Form::Bcd(4), Abcd, &whole(1234), &[0x1234]);
        check(Form::Bcd(6), Abcd, &whole(123_456), &[0x0012, 0x3456]);
        check(Form::Bcd(16), Cdab, &whole(1_234_567_890_123_456), &[0x3456, 0x9012, 0x5678, 0x1234]);
        check(Form::BcdHalf { is_high: true }, Abcd, &whole(59), &[0x5900]);
        check(Form::BcdHalf { is_high: false }, Abcd, &whole(59), &[0x0059]);
    }

    #[test]
    fn what_bits_lie_where_and_what_they_hold() {
        use Order::{Abcd, Badc, Cdab};
        let occupied = |form, order| super::occupied(Layout::new(form).ordered(order));
        assert_eq!(occupied(Form::BitIn { bit: 17, registers: 2 }, Abcd), [2, 0]);
        assert_eq!(occupied(Form::BitIn { bit: 17, registers: 2 }, Cdab), [0, 2]);
        assert_eq!(occupied(Form::Slice(4, 9), Badc), [0xF003]);
        assert_eq!(occupied(Form::BcdHalf { is_high: true }, Abcd), [0xFF00]);
        assert_eq!(occupied(Form::Bcd(6), Abcd), [0xFFFF, 0xFFFF]);
        let seen = |form, order, words: &[u16], is_signed| {
            super::seen(Layout::new(form).ordered(order), words, is_signed).map(|truth| truth.to_string())
        };
        let is = |truth: &str| Some(truth.to_owned());
        assert_eq!(seen(Form::BitIn { bit: 17, registers: 2 }, Cdab, &[0, 2], false), is("true"));
        assert_eq!(seen(Form::BitIn { bit: 1, registers: 2 }, Cdab, &[0, 2], false), is("false"));
        assert_eq!(seen(Form::BitOf(3), Badc, &[0x0800], false), is("true"));
        assert_eq!(seen(Form::Slice(8, 15), Abcd, &[0xFE01], false), is("254"));
        assert_eq!(seen(Form::Slice(8, 15), Abcd, &[0xFE01], true), is("-2"));
        assert_eq!(seen(Form::Whole(2), Cdab, &[0xFFFF, 0x8000], false), is("2147549183"));
        assert_eq!(seen(Form::Whole(2), Abcd, &[0xFFFF, 0xFFFF], true), is("-1"));
        assert_eq!(seen(Form::Single, Abcd, &[0, 0], false), None);
    }

    #[test]
    fn half_precision_is_the_nearest_there_is() {
        for (number, bits, shown) in [
            (0.0, 0x0000, 0.0),
            (-0.0, 0x8000, -0.0),
            (1.0, 0x3C00, 1.0),
            (-2.5, 0xC100, -2.5),
            (0.1, 0x2E66, 0.099_975_586),
            (2047.6, 0x6800, 2048.0),
            (65_504.0, 0x7BFF, 65_504.0),
            (1e9, 0x7BFF, 65_504.0),
            (5.960_464_477_539_063e-8, 0x0001, 5.960_464_5e-8),
            (6.097_555_160_522_461e-5, 0x03FF, 6.097_555e-5),
        ] {
            let (got, means) = half(number);
            assert_eq!((got, means.to_bits()), (bits, f32::to_bits(shown)), "{number}: {got:04X} {means}");
        }
    }

    #[test]
    fn text_is_in_the_bytes_and_the_order_of_the_maker() {
        use Order::{Abcd, Badc, Cdab};
        let text = |text: &str| Truth::Text(text.to_owned());
        check(Form::Text(3), Abcd, &text("SDM6"), &[0x5344, 0x4D36, 0]);
        check(Form::Text(2), Cdab, &text("SDM6"), &[0x5344, 0x4D36]);
        check(Form::Text(2), Badc, &text("SDM6"), &[0x4453, 0x364D]);
        check(Form::Letters(3), Abcd, &text("OP"), &[0x004F, 0x0050, 0]);
        check(Form::Gbk(3), Abcd, &text("注塑"), &[0xD7A2, 0xCBDC, 0]);
    }

    #[test]
    fn a_date_is_in_the_time_of_the_place() {
        let at = Truth::Time(Timestamp::from_millis(1_795_651_200_000 - 1000)); // a Wednesday, 23:59:59 UTC
        let date = |format, ahead_min| Form::Date { format: TimeFormat::parse(format).unwrap(), ahead_min };
        let check = |format, ahead_min, expected: &[u16]| {
            check(date(format, ahead_min), Order::Abcd, &at, expected);
        };
        check("YYMM DDhh mmss", 0, &[0x1A0B, 0x1917, 0x3B3B]);
        check("YYYY MM DD hh mm ss WW", 480, &[2026, 11, 26, 7, 59, 59, 4]);
        check("bcd ssmm hhDD MMYY", 480, &[0x5959, 0x0726, 0x1126]);
        check("YYMM DDhh", -90, &[0x1A0B, 0x1916]);
        let leap = Truth::Time(Timestamp::from_millis(951_782_400_000));
        super::tests::check(date("YYYY MM DD", 0), Order::Abcd, &leap, &[2000, 2, 29]);
    }
}
