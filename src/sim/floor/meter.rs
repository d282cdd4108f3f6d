//! A meter that speaks DL/T 645: what it measures, and how that lies in decimal digits. Pure, and written apart from the
//! gateway's own formats.

use std::sync::Arc;

use super::encode;
use super::{Mark, Motion, PointName, Served, Step, Truth};
use crate::config::site::SerialLine;
use crate::reading::Timestamp;

/// Which of the two standards a meter speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standard {
    /// DL/T 645-1997: identifiers of two bytes.
    Of1997,
    /// DL/T 645-2007: identifiers of four bytes.
    Of2007,
}

/// A meter on a serial line.
#[derive(Clone, Debug)]
pub struct Meter {
    /// The name of the device in the configuration.
    pub name: Arc<str>,
    /// The link that it is on, by name.
    pub link: Arc<str>,
    /// Its address there, at most 12 decimal digits.
    pub address: u64,
    /// What it speaks.
    pub standard: Standard,
    /// Speed and frame of the line at which it hears and answers.
    pub line: SerialLine,
    /// The most bytes of values in a frame, 1 to 195; what is more follows in further frames.
    pub part_max: usize,
    /// What it has. A block has its items in their order here, so they are all to be there.
    pub items: Vec<Item>,
}

/// One value of a meter.
#[derive(Clone, Debug)]
pub struct Item {
    /// The name of the tag that reads it.
    pub name: Arc<str>,
    /// Its data identifier as the standard prints it, as 0x0201_0100, or 0xB611 of 1997.
    pub identifier: u32,
    /// How it lies there.
    pub digits: Digits,
    /// How it moves: a number.
    pub motion: Motion,
    /// From the number that its digits say to the value, which is a double then; none: it is the value.
    pub steps: Arc<[Step]>,
    /// Whether what it is can be told: without that it is served and not noted.
    pub is_told: bool,
}

/// A number in decimal digits, two a byte, the lowest byte first.
#[derive(Clone, Copy, Debug)]
pub struct Digits {
    /// All of them, 2 to 16, an even count.
    pub count: u8,
    /// Those behind the point.
    pub decimals: u8,
    /// Whether the highest bit is a sign; the highest digit is 7 at most then.
    pub is_signed: bool,
}

/// What a meter has at an identifier.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// The bytes of its items, one behind the other.
    pub data: Vec<u8>,
    /// The items.
    pub served: Vec<(PointName, Served)>,
}

impl Standard {
    /// Whether an item is asked for by `asked`: `FF` in place of a byte (2007), or `F` in place of a digit (1997), stands
    /// for all.
    fn is_asked(self, asked: u32, item: u32) -> bool {
        let bits = match self {
            Standard::Of1997 => 4,
            Standard::Of2007 => 8,
        };
        let all = (1 << bits) - 1;
        (0..4).all(|place| {
            let part = |identifier: u32| identifier >> (place * bits) & all;
            part(asked) == all || part(asked) == part(item)
        })
    }
}

impl Meter {
    /// What it has at `asked`, an item or a block, `elapsed_ms` after the start; `None` where it has nothing there.
    #[must_use]
    pub fn read(&self, asked: u32, elapsed_ms: u64, at: Timestamp) -> Option<Measured> {
        let mut measured = Measured::default();
        for item in self.items.iter().filter(|item| self.standard.is_asked(asked, item.identifier)) {
            let (truth, bytes) = item.moment(elapsed_ms)?;
            measured.data.extend(bytes);
            if !item.is_told {
                continue;
            }
            let served = Served { at, truth, mark: Mark::Plain };
            measured.served.push(((self.name.clone(), item.name.clone()), served));
        }
        (!measured.data.is_empty()).then_some(measured)
    }
}

impl Item {
    /// An item whose digits are its value.
    #[must_use]
    pub fn new(name: &str, identifier: u32, digits: Digits, motion: Motion) -> Item {
        Item { name: name.into(), identifier, digits, motion, steps: Arc::default(), is_told: true }
    }

    /// What the item is, exactly as its digits can say it, and the bytes that say so; `None` for a motion that is no
    /// number. What the digits cannot hold goes round, as in a counter.
    fn moment(&self, elapsed_ms: u64) -> Option<(Truth, Vec<u8>)> {
        let Digits { count, decimals, is_signed } = self.digits;
        let power = 10_f64.powi(decimals.into());
        let number = match self.motion.alone(elapsed_ms)? {
            Truth::Integer(number) => number,
            Truth::Double(number) => encode::whole(number * power).into(),
            Truth::Bool(_) | Truth::Float(_) | Truth::Text(_) | Truth::Time(_) => return None,
        };
        let all = 10_i128.pow(count.into());
        let number = if is_signed { number % (all / 10 * 8) } else { number.rem_euclid(all) };
        let sign = i128::from(number < 0) << (u32::from(count) * 4 - 1);
        let bits = encode::decimal(number.abs()) | sign;
        let bytes = bits.to_le_bytes().into_iter().take(usize::from(count) / 2).collect();
        let truth = match decimals {
            0 if self.steps.is_empty() => Truth::Integer(number),
            _ => {
                let said = encode::float(number) / power;
                Truth::Double(self.steps.iter().fold(said, |number, step| step.apply(number)))
            }
        };
        Some((truth, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::site::Parity;

    /// The value of an item and its bytes.
    #[track_caller]
    fn check(digits: (u8, u8, bool), motion: Motion, shown: &str, bytes: &[u8]) {
        let (count, decimals, is_signed) = digits;
        let digits = Digits { count, decimals, is_signed };
        let item = Item::new("i", 0, digits, motion);
        let (truth, got) = item.moment(0).unwrap();
        assert_eq!((truth.to_string().as_str(), got.as_slice()), (shown, bytes));
    }

    #[test]
    fn a_number_lies_in_decimal_digits_with_its_lowest_byte_first() {
        let ramp = |start| Motion::Ramp { start, step: 0 };
        check((8, 2, false), ramp(120_642), "1206.42", &[0x42, 0x06, 0x12, 0x00]);
        check((4, 1, false), Motion::fixed(230.46), "230.5", &[0x05, 0x23]);
        check((6, 3, true), Motion::fixed(-1.234), "-1.234", &[0x34, 0x12, 0x80]);
        check((6, 4, true), Motion::fixed(-79.9999), "-79.9999", &[0x99, 0x99, 0xF9]);
        check((6, 3, true), Motion::fixed(-0.0001), "0", &[0, 0, 0]);
        check((6, 0, false), ramp(6400), "6400", &[0x00, 0x64, 0x00]);
        check((4, 0, true), ramp(-12), "-12", &[0x12, 0x80]);
    }

    #[test]
    fn steps_lead_from_the_digits_to_the_value_and_what_cannot_be_told_is_served_all_the_same() {
        let four = Digits { count: 4, decimals: 0, is_signed: false };
        let item = Item::new("i", 0x0201_0100, four, Motion::fixed(2305.0));
        let item = Item { steps: Arc::new([Step::Over(10.0), Step::Times(20.0)]), ..item };
        assert_eq!(item.moment(0), Some((Truth::Double(4610.0), vec![0x05, 0x23])));
        let untold = Item { is_told: false, ..item };
        let meter = Meter { items: vec![untold], ..meter(Standard::Of2007, &[]) };
        let measured = meter.read(0x0201_0100, 0, Timestamp::from_millis(0)).unwrap();
        assert_eq!((measured.data, measured.served), (vec![0x05, 0x23], Vec::new()));
    }

    #[test]
    fn what_the_digits_cannot_hold_goes_round() {
        let ramp = |start| Motion::Ramp { start, step: 0 };
        check((8, 2, false), ramp(100_000_001), "0.01", &[1, 0, 0, 0]);
        check((4, 0, true), ramp(8001), "1", &[1, 0]);
        check((4, 0, true), ramp(-7999), "-7999", &[0x99, 0xF9]);
        check((4, 0, false), ramp(-1), "9999", &[0x99, 0x99]);
        let four = Digits { count: 4, decimals: 0, is_signed: false };
        let words = Item::new("i", 0, four, Motion::Words("no number".into()));
        assert_eq!(words.moment(0), None);
    }

    fn meter(standard: Standard, identifiers: &[u32]) -> Meter {
        let digits = Digits { count: 2, decimals: 0, is_signed: false };
        let item = |(index, identifier): (usize, &u32)| {
            let motion = Motion::Ramp { start: i64::try_from(index).unwrap(), step: 0 };
            Item::new(&format!("i{index}"), *identifier, digits, motion)
        };
        Meter {
            name: "m".into(),
            link: "l".into(),
            address: 1,
            standard,
            line: SerialLine { baud: 2400, data_bits: 8, parity: Parity::Even, stop_bits: 1 },
            part_max: 195,
            items: identifiers.iter().enumerate().map(item).collect(),
        }
    }

    #[test]
    fn a_block_is_all_items_that_differ_in_one_place() {
        let meter2007 =
            meter(Standard::Of2007, &[0x0001_0000, 0x0001_0100, 0x0201_0100, 0x0201_0200, 0x0002_0000]);
        let data = |asked| {
            let measured = meter2007.read(asked, 0, Timestamp::from_millis(0))?;
            assert_eq!(measured.data.len(), measured.served.len());
            Some(measured.data)
        };
        assert_eq!(data(0x0001_0100), Some(vec![1]));
        assert_eq!(data(0x0001_FF00), Some(vec![0, 1]));
        assert_eq!(data(0x0201_FF00), Some(vec![2, 3]));
        assert_eq!(data(0x0202_FF00), None);
        assert_eq!(data(0x0202_0100), None);
        let meter1997 = meter(Standard::Of1997, &[0x9010, 0x9011, 0xB611, 0xB612]);
        let data = |asked| Some(meter1997.read(asked, 0, Timestamp::from_millis(0))?.data);
        assert_eq!(data(0x901F), Some(vec![0, 1]));
        assert_eq!(data(0xB612), Some(vec![3]));
        assert_eq!(data(0xB6FF), Some(vec![2, 3]));
        assert_eq!(data(0x0000), None);
    }
}
