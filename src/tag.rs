//! The nouns of what is read: identities, register spans and how a value lies in them.

mod data_type;
mod time;

use std::fmt;

pub use data_type::{ByteForm, DataType, Encoding};
pub use time::{TimeFormat, TimePart, TimeRegister};

/// A tag's index in [`crate::config::site::Site::tags`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagId(pub u32);

/// A device's index in [`crate::config::site::Site::devices`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(pub u32);

impl TagId {
    /// The index into a table of all tags.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl DeviceId {
    /// The index into a table of all devices.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A Modbus unit identifier, 0 to 255 (Modbus over Serial Line V1.02, 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitId(pub u8);

impl fmt::Display for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One of the four tables of the Modbus data model (Modbus Application Protocol V1.1b3, 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Area {
    /// `coil:`, read by function 1.
    Coils,
    /// `di:`, read by function 2.
    DiscreteInputs,
    /// `hr:`, read by function 3.
    HoldingRegisters,
    /// `ir:`, read by function 4.
    InputRegisters,
    /// None of Modbus: what another protocol asks for, by its number among all that is asked of the device.
    Items,
}

impl Area {
    /// Whether the table holds single bits and not 16-bit registers.
    #[must_use]
    pub const fn is_bits(self) -> bool {
        matches!(self, Area::Coils | Area::DiscreteInputs)
    }

    /// The prefix of an address in the configuration.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Area::Coils => "coil",
            Area::DiscreteInputs => "di",
            Area::HoldingRegisters => "hr",
            Area::InputRegisters => "ir",
            Area::Items => "item",
        }
    }
}

/// The registers (or bits) of one value, inside one area.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Which table.
    pub area: Area,
    /// The 0-based protocol address of the first.
    pub address: u16,
    /// How many, at least 1; `address + count` is at most 65536.
    pub count: u16,
}

impl Span {
    /// The address after the last, at most 65536.
    #[must_use]
    pub const fn end(self) -> u32 {
        self.address as u32 + self.count as u32
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.area.prefix(), self.address)?;
        if self.count > 1 { write!(f, "+{}", self.count) } else { Ok(()) }
    }
}

/// How the bytes of a value lie on the wire, as `order` says it.
///
/// The letters stand as they come on the wire, A the highest byte. Both flags together give DCBA.
///
/// | `order` | 16 bits | 32 bits | 48 bits | 64 bits |
/// |---|---|---|---|---|
/// | ABCD | AB | ABCD | ABCDEF | ABCDEFGH |
/// | CDAB | AB | CDAB | EFCDAB | GHEFCDAB |
/// | BADC | BA | BADC | BADCFE | BADCFEHG |
/// | DCBA | BA | DCBA | FEDCBA | HGFEDCBA |
///
/// Of a string and of a date and time the registers stay in their place; only their bytes are swapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByteOrder {
    /// The lowest register comes first (CDAB, DCBA).
    pub words_reversed: bool,
    /// The low byte of each register comes first (BADC, DCBA).
    pub bytes_swapped: bool,
}

/// What a tag's published values are, whatever the reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// [`crate::reading::Value::Bool`]
    Bool,
    /// [`crate::reading::Value::Int`] or `UInt`, of this raw type.
    Integer(DataType),
    /// [`crate::reading::Value::Float`]
    Float,
    /// [`crate::reading::Value::Double`]
    Double,
    /// [`crate::reading::Value::Text`]
    Text,
    /// [`crate::reading::Value::Time`]
    Time,
}
