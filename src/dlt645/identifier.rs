//! What is asked for: the data identifiers of DL/T 645-2007, annex A, and DL/T 645-1997, annex A.

use std::fmt;

/// Which of the two standards a meter speaks. They have the same frame, and other functions and identifiers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// DL/T 645-1997: identifiers of two bytes.
    V1997,
    /// DL/T 645-2007: identifiers of four bytes.
    #[default]
    V2007,
}

/// A data identifier; its version says how long it is.
///
/// `FF` in place of a byte (2007), or `F` in place of a digit (1997), means all items that differ in it: a block, whose
/// items come one behind the other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identifier {
    /// DI1 and DI0, as `9010`.
    V1997([u8; 2]),
    /// DI3 to DI0, as `00010000`.
    V2007([u8; 4]),
}

/// The last tariff of an energy or a demand; tariff 0 is the sum of all.
const TARIFF_MAX: u8 = 63;
/// The last phase; phase 0 is the sum, or the mean, of all.
const PHASE_MAX: u8 = 3;
/// The last harmonic of a voltage or a current; the first is the fundamental.
const HARMONIC_MAX: u8 = 21;

impl Identifier {
    /// Reads an identifier as the standard prints it: 8 hexadecimal digits (2007) or 4 (1997), the highest first.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str, version: Version) -> Result<Identifier, String> {
        let (digits, example) = match version {
            Version::V1997 => (4, "9010"),
            Version::V2007 => (8, "00010000"),
        };
        let is_fit = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u32::from_str_radix(text, 16).ok().filter(|_| is_fit);
        let Some(number) = number else {
            let shown: String = text.chars().take(20).collect();
            return Err(format!(
                "a data identifier has {digits} hexadecimal digits, as \"{example}\", got \"{shown}\""
            ));
        };
        let [di3, di2, di1, di0] = number.to_be_bytes();
        Ok(match version {
            Version::V1997 => Identifier::V1997([di1, di0]),
            Version::V2007 => Identifier::V2007([di3, di2, di1, di0]),
        })
    }

    /// Which standard it is of.
    #[must_use]
    pub const fn version(self) -> Version {
        match self {
            Identifier::V1997(_) => Version::V1997,
            Identifier::V2007(_) => Version::V2007,
        }
    }

    /// The bytes on the wire, DI0 first, at the end of `data`.
    pub fn append(self, data: &mut Vec<u8>) {
        match self {
            Identifier::V1997(bytes) => data.extend(bytes.iter().rev()),
            Identifier::V2007(bytes) => data.extend(bytes.iter().rev()),
        }
    }

    /// What follows this identifier in `data`; `None` where another one stands there, or none.
    #[must_use]
    pub fn strip_from(self, data: &[u8]) -> Option<&[u8]> {
        let mut wire = Vec::new();
        self.append(&mut wire);
        data.strip_prefix(wire.as_slice())
    }

    /// Whether it means several items.
    #[must_use]
    pub fn is_block(self) -> bool {
        match self {
            Identifier::V1997([di1, di0]) => {
                [di1, di0].iter().any(|byte| byte & 0x0F == 0x0F || byte >> 4 == 0x0F)
            }
            Identifier::V2007(bytes) => bytes.contains(&0xFF),
        }
    }

    /// The block that brings this item, and which of its items it is, the first being 0.
    ///
    /// Tariffs begin with the sum of all. Phases of a voltage, a current, an angle or a distortion begin with the first
    /// phase, those of a power or a power factor with their sum. `None` where the standard has no such block.
    #[must_use]
    pub fn block(self) -> Option<(Identifier, usize)> {
        match self {
            Identifier::V1997(bytes) => block_1997(bytes),
            Identifier::V2007(bytes) => block_2007(bytes),
        }
    }
}

fn block_1997([di1, di0]: [u8; 2]) -> Option<(Identifier, usize)> {
    let (kind, item) = (di0 & 0xF0, di0 & 0x0F);
    let index = match (di1, kind) {
        // energies, demands and their times: tariffs, of this month, the last and the one before
        (0x90 | 0x91 | 0x94 | 0x95 | 0x98 | 0x99, 0x10..=0x60) if item < 0x0F => item,
        (0xA0 | 0xA1 | 0xA4 | 0xA5 | 0xA8 | 0xA9, 0x10..=0x60) if item < 0x0F => item,
        (0xB0 | 0xB1 | 0xB4 | 0xB5 | 0xB8 | 0xB9, 0x10..=0x60) if item < 0x0F => item,
        // voltages and currents
        (0xB6, 0x10 | 0x20) if item <= PHASE_MAX => item.checked_sub(1)?,
        // active and reactive power, power factor
        (0xB6, 0x30..=0x50) if item <= PHASE_MAX => item,
        _ => return None,
    };
    Some((Identifier::V1997([di1, kind | 0x0F]), index.into()))
}

fn block_2007([di3, di2, di1, di0]: [u8; 4]) -> Option<(Identifier, usize)> {
    let (block, index) = match [di3, di2, di1, di0] {
        [_, 0xFF, ..] | [.., 0xFF] => return None,
        // energies and demands: tariffs
        [0x00 | 0x01, _, ..=TARIFF_MAX, _] => ([di3, di2, 0xFF, di0], di1),
        // voltages, currents, angles and distortions
        [0x02, 0x01 | 0x02 | 0x07..=0x09, 1..=PHASE_MAX, 0x00] => ([di3, di2, 0xFF, di0], di1 - 1),
        // powers and power factors
        [0x02, 0x03..=0x06, ..=PHASE_MAX, 0x00] => ([di3, di2, 0xFF, di0], di1),
        // harmonics of the voltage and the current of a phase
        [0x02, 0x0A | 0x0B, 1..=PHASE_MAX, 1..=HARMONIC_MAX] => ([di3, di2, di1, 0xFF], di0 - 1),
        _ => return None,
    };
    Some((Identifier::V2007(block), index.into()))
}

/// Item `index` of the data of a block whose items take `width` bytes each; `None` where the data does not have it, or
/// is no whole number of items.
#[must_use]
pub fn item(data: &[u8], width: usize, index: usize) -> Option<&[u8]> {
    if width == 0 || !data.len().is_multiple_of(width) {
        return None;
    }
    let first = index.checked_mul(width)?;
    data.get(first..first.checked_add(width)?)
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: &[u8] = match self {
            Identifier::V1997(bytes) => bytes,
            Identifier::V2007(bytes) => bytes,
        };
        bytes.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

impl fmt::Debug for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identifier({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identifier(text: &str) -> Identifier {
        Identifier::parse(text, if text.len() == 4 { Version::V1997 } else { Version::V2007 }).unwrap()
    }

    #[test]
    fn an_identifier_lies_on_the_wire_with_its_lowest_byte_first() {
        let wire = |text: &str| {
            let mut wire = Vec::new();
            identifier(text).append(&mut wire);
            wire
        };
        assert_eq!(wire("02010300"), [0x00, 0x03, 0x01, 0x02]);
        assert_eq!(wire("b611"), [0x11, 0xB6]);
        assert_eq!(identifier("b611").to_string(), "B611");
        assert_eq!(identifier("02800002").to_string(), "02800002");
    }

    #[test]
    fn an_identifier_of_another_length_is_refused_in_words() {
        let check = |text: &str, version, expected: &str| {
            assert_eq!(Identifier::parse(text, version).unwrap_err(), expected);
        };
        let wanted = "a data identifier has 8 hexadecimal digits, as \"00010000\", got";
        check("9010", Version::V2007, &format!("{wanted} \"9010\""));
        check("", Version::V2007, &format!("{wanted} \"\""));
        check("+0010000", Version::V2007, &format!("{wanted} \"+0010000\""));
        check("0001000g", Version::V2007, &format!("{wanted} \"0001000g\""));
        let wanted = "a data identifier has 4 hexadecimal digits, as \"9010\", got";
        check("00010000", Version::V1997, &format!("{wanted} \"00010000\""));
        check("\u{7535}1", Version::V1997, &format!("{wanted} \"\u{7535}1\""));
    }

    #[test]
    fn an_identifier_is_taken_from_data_that_begins_with_it() {
        let data = [0x00, 0x01, 0x01, 0x02, 0x05, 0x23];
        assert_eq!(identifier("02010100").strip_from(&data), Some(&[0x05, 0x23][..]));
        assert_eq!(identifier("02010200").strip_from(&data), None);
        assert_eq!(identifier("02010100").strip_from(&data[..4]), Some(&[][..]));
        assert_eq!(identifier("02010100").strip_from(&data[..3]), None);
        assert_eq!(identifier("0100").strip_from(&data), Some(&data[2..]));
    }

    /// The block of an item and its index there.
    #[track_caller]
    fn check(item: &str, expected: Option<(&str, usize)>) {
        let block = identifier(item).block();
        assert_eq!(block, expected.map(|(block, index)| (identifier(block), index)), "{item}");
        assert!(block.is_none_or(|(block, _)| block.is_block() && block.block().is_none()));
    }

    #[test]
    fn an_item_is_read_with_its_block() {
        check("00010000", Some(("0001FF00", 0)));
        check("00010400", Some(("0001FF00", 4)));
        check("00010401", Some(("0001FF01", 4)));
        check("01010000", Some(("0101FF00", 0)));
        check("02010100", Some(("0201FF00", 0)));
        check("02010300", Some(("0201FF00", 2)));
        check("02020200", Some(("0202FF00", 1)));
        check("02030000", Some(("0203FF00", 0)));
        check("02060300", Some(("0206FF00", 3)));
        check("02070100", Some(("0207FF00", 0)));
        check("020A0101", Some(("020A01FF", 0)));
        check("020B0315", Some(("020B03FF", 20)));
        check("020A0100", None);
        check("02010000", None);
        check("02010400", None);
        check("02800002", None);
        check("04000101", None);
        check("02090100", Some(("0209FF00", 0)));
        check("00FF0000", None);
        check("000100FF", None);
        check("0001FF00", None);
        check("9010", Some(("901F", 0)));
        check("9024", Some(("902F", 4)));
        check("B611", Some(("B61F", 0)));
        check("B613", Some(("B61F", 2)));
        check("B013", Some(("B01F", 3)));
        check("B630", Some(("B63F", 0)));
        check("B610", None);
        check("B614", None);
        check("901F", None);
        check("90F0", None);
        check("C010", None);
    }

    #[test]
    fn an_identifier_with_ff_or_f_in_a_place_is_a_block() {
        for block in ["0001FF00", "000100FF", "00FF0000", "901F", "90F0", "9F10", "FF10"] {
            assert!(identifier(block).is_block(), "{block}");
        }
        for item in ["00010000", "0FF00FF0", "9010", "901E", "90E0"] {
            assert!(!identifier(item).is_block(), "{item}");
        }
    }

    #[test]
    fn a_block_is_a_whole_number_of_items() {
        let data = [1, 2, 3, 4, 5, 6];
        assert_eq!(item(&data, 2, 0), Some(&[1, 2][..]));
        assert_eq!(item(&data, 2, 2), Some(&[5, 6][..]));
        assert_eq!(item(&data, 2, 3), None);
        assert_eq!(item(&data, 4, 0), None);
        assert_eq!(item(&data, 0, 0), None);
        assert_eq!(item(&data, 6, usize::MAX), None);
        assert_eq!(item(&[], 2, 0), None);
    }
}
