//! Who is asked: the 12 digits of a meter's address (DL/T 645-2007, 5.2.2).

use std::fmt;

/// The bytes of an address on the wire, two digits each.
pub const SIZE: usize = 6;
/// Stands for any digit of an address.
const WILDCARD: u8 = 0xA;
/// Digits of an address as it is written.
const DIGITS: usize = 2 * SIZE;

/// The address of a meter, or of all that a pattern fits.
///
/// | written | who is meant |
/// |---|---|
/// | `210220003011` | this meter |
/// | `AAAAAAAAAA11` | every meter whose address ends in 11: the standard replaces whole bytes, from the highest on |
/// | `AAAAAAAAAAAA` | every meter; of use where there is one on the line |
/// | `999999999999` | every meter, and none of them answers (broadcast) |
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// As it is written, the highest digits first.
    bytes: [u8; SIZE],
}

impl Address {
    /// Any meter.
    pub const ANY: Address = Address { bytes: [0xAA; SIZE] };
    /// All meters; none answers.
    pub const BROADCAST: Address = Address { bytes: [0x99; SIZE] };

    /// Reads an address as it is written: 12 characters, each a digit or `A`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Address, String> {
        let wrong = || {
            let shown: String = text.chars().take(20).collect();
            format!("an address is 12 digits, or `A` for any digit, got \"{shown}\"")
        };
        if text.len() != DIGITS {
            return Err(wrong());
        }
        let mut bytes = [0; SIZE];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            for character in pair {
                *byte = *byte << 4 | digit(*character).ok_or_else(wrong)?;
            }
        }
        Ok(Address { bytes })
    }

    /// The address of these bytes on the wire, which has the lowest first. Any bytes are borne; what is neither a digit
    /// nor a wildcard fits no meter that is asked by its digits.
    #[must_use]
    pub fn from_wire(mut bytes: [u8; SIZE]) -> Address {
        bytes.reverse();
        Address { bytes }
    }

    /// The bytes on the wire, the lowest first.
    #[must_use]
    pub fn to_wire(self) -> [u8; SIZE] {
        let mut bytes = self.bytes;
        bytes.reverse();
        bytes
    }

    /// Whether it names one meter: digits only, and not the broadcast.
    #[must_use]
    pub fn is_single(self) -> bool {
        self.nibbles().all(|nibble| nibble <= 9) && self != Address::BROADCAST
    }

    /// Whether a meter with address `other` is meant.
    #[must_use]
    pub fn matches(self, other: Address) -> bool {
        let fits = |(asked, given): (u8, u8)| asked == WILDCARD || asked == given;
        self == Address::BROADCAST || self.nibbles().zip(other.nibbles()).all(fits)
    }

    fn nibbles(self) -> impl Iterator<Item = u8> {
        self.bytes.into_iter().flat_map(|byte| [byte >> 4, byte & 0x0F])
    }
}

fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'A' | b'a' => Some(WILDCARD),
        _ => None,
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[test]
    fn an_address_lies_on_the_wire_with_its_lowest_digits_first() {
        let wire = [0x11, 0x30, 0x00, 0x20, 0x02, 0x21];
        assert_eq!(address("210220003011").to_wire(), wire);
        assert_eq!(Address::from_wire(wire).to_string(), "210220003011");
        assert_eq!(address("aaaaaaaaaa11").to_wire(), [0x11, 0xAA, 0xAA, 0xAA, 0xAA, 0xAA]);
        assert_eq!(address("aaaaaaaaaa11").to_string(), "AAAAAAAAAA11");
    }

    #[test]
    fn what_is_not_twelve_digits_is_refused_in_words() {
        for wrong in ["", "21022000301", "2102200030111", "21022000301B", "2102 2000301", "21022000301\u{e9}"]
        {
            let message = Address::parse(wrong).unwrap_err();
            assert_eq!(message, format!("an address is 12 digits, or `A` for any digit, got \"{wrong}\""));
        }
    }

    #[test]
    fn a_wildcard_fits_any_digit_in_its_place() {
        let check =
            |asked: &str, other: &str, fits: bool| assert_eq!(address(asked).matches(address(other)), fits);
        check("210220003011", "210220003011", true);
        check("210220003011", "210220003012", false);
        check("AAAAAAAAAA11", "210220003011", true);
        check("AAAAAAAAAA11", "210220003012", false);
        check("21022000301A", "210220003012", true);
        check("AAAAAAAAAAAA", "000000000161", true);
        check("999999999999", "000000000161", true);
        // only the question has wildcards
        check("210220003011", "AAAAAAAAAAAA", false);
    }

    #[test]
    fn only_digits_name_a_single_meter() {
        for (text, is_single) in [
            ("210220003011", true),
            ("999999999998", true),
            ("999999999999", false),
            ("AAAAAAAAAAAA", false),
            ("A00000000000", false),
        ] {
            assert_eq!(address(text).is_single(), is_single, "{text}");
        }
        assert!(!Address::from_wire([0xBC, 0, 0, 0, 0, 0]).is_single());
    }
}
