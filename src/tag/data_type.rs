//! What registers mean before scaling.

use super::time::TimeFormat;

/// What the registers of a tag mean before scaling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataType {
    /// A coil or a discrete input, or the bit of a value with this number.
    Bool {
        /// `None` for coils and discrete inputs. Of registers 0 to 63; 0 is the lowest bit of the value under its order.
        bit: Option<u8>,
    },
    /// One half of a register.
    Byte {
        /// The half with bits 8 to 15.
        is_high: bool,
        /// What it means.
        form: ByteForm,
    },
    /// Bits `first` to `last` of a register, both included, unsigned.
    Slice {
        /// The lowest, 0 to 15.
        first: u8,
        /// The highest, `first` to 15.
        last: u8,
    },
    /// Signed, 16 bits.
    I16,
    /// Unsigned, 16 bits.
    U16,
    /// Signed, 32 bits.
    I32,
    /// Unsigned, 32 bits.
    U32,
    /// Signed, 48 bits.
    I48,
    /// Unsigned, 48 bits.
    U48,
    /// Signed, 64 bits.
    I64,
    /// Unsigned, 64 bits.
    U64,
    /// IEEE 754, 16 bits.
    F16,
    /// IEEE 754, 32 bits.
    F32,
    /// IEEE 754, 64 bits.
    F64,
    /// Decimal digits, four a register.
    Bcd {
        /// How many, 4 to 16; digits of the registers above them are 0.
        digits: u8,
    },
    /// Text, two bytes a register or one.
    Text {
        /// What its bytes are.
        encoding: Encoding,
        /// The low byte of each register is one, and the high byte is 0 (order "B").
        is_sparse: bool,
    },
    /// A local date and time.
    Time(TimeFormat),
    /// Registers of which an expression makes a number; by themselves they are no value.
    Words,
}

/// What half a register means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteForm {
    /// 0 to 255.
    Unsigned,
    /// Two's complement, -128 to 127.
    Signed,
    /// Two decimal digits.
    Bcd,
}

/// What the bytes of a string are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// UTF-8 where they are that, else GBK.
    #[default]
    Auto,
    /// UTF-8
    Utf8,
    /// GBK, which includes ASCII and GB 2312.
    Gbk,
}

impl DataType {
    /// How many bits its raw numbers have; of what is no number 0.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            DataType::Bool { .. } => 1,
            DataType::Byte { .. } => 8,
            DataType::Slice { first, last } => last.saturating_sub(first).saturating_add(1),
            DataType::I16 | DataType::U16 | DataType::F16 => 16,
            DataType::I32 | DataType::U32 | DataType::F32 => 32,
            DataType::I48 | DataType::U48 => 48,
            DataType::I64 | DataType::U64 | DataType::F64 | DataType::Bcd { .. } => 64,
            DataType::Text { .. } | DataType::Time(_) | DataType::Words => 0,
        }
    }

    /// Whether the highest bit of a whole number is its sign.
    #[must_use]
    pub const fn is_signed(self) -> bool {
        matches!(
            self,
            DataType::Byte { form: ByteForm::Signed, .. }
                | DataType::I16
                | DataType::I32
                | DataType::I48
                | DataType::I64
        )
    }

    /// One more than the highest number that a counter of this type shows; `None`: it is no counter that goes back to 0.
    #[must_use]
    pub fn modulus(self) -> Option<f64> {
        match self {
            DataType::Byte { form: ByteForm::Bcd, .. } => Some(100.0),
            DataType::Bcd { digits } => Some(10_f64.powi(digits.into())),
            DataType::Byte { form: ByteForm::Unsigned, .. }
            | DataType::Slice { .. }
            | DataType::U16
            | DataType::U32
            | DataType::U48
            | DataType::U64 => Some(2_f64.powi(self.bits().into())),
            DataType::Byte { form: ByteForm::Signed, .. }
            | DataType::Bool { .. }
            | DataType::I16
            | DataType::I32
            | DataType::I48
            | DataType::I64
            | DataType::F16
            | DataType::F32
            | DataType::F64
            | DataType::Text { .. }
            | DataType::Time(_)
            | DataType::Words => None,
        }
    }

    /// As `type` says it; a slice is a "u16".
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            DataType::Bool { .. } => "bool",
            DataType::Byte { form: ByteForm::Unsigned, .. } => "u8",
            DataType::Byte { form: ByteForm::Signed, .. } => "i8",
            DataType::Byte { form: ByteForm::Bcd, .. } => "bcd8",
            DataType::U16 | DataType::Slice { .. } => "u16",
            DataType::I16 => "i16",
            DataType::I32 => "i32",
            DataType::U32 => "u32",
            DataType::I48 => "i48",
            DataType::U48 => "u48",
            DataType::I64 => "i64",
            DataType::U64 => "u64",
            DataType::F16 => "f16",
            DataType::F32 => "f32",
            DataType::F64 => "f64",
            DataType::Bcd { digits: ..=4 } => "bcd16",
            DataType::Bcd { digits: 5..=6 } => "bcd24",
            DataType::Bcd { digits: 7..=8 } => "bcd32",
            DataType::Bcd { digits: 9..=10 } => "bcd40",
            DataType::Bcd { digits: 11..=12 } => "bcd48",
            DataType::Bcd { digits: 13.. } => "bcd64",
            DataType::Text { .. } => "string",
            DataType::Time(_) => "datetime",
            DataType::Words => "words",
        }
    }

    /// How many registers one value takes; `None` where `length` says it, or the value that a bit is of.
    #[must_use]
    pub const fn registers(self) -> Option<u16> {
        Some(match self {
            DataType::Byte { .. } | DataType::Slice { .. } => 1,
            DataType::I16 | DataType::U16 | DataType::F16 => 1,
            DataType::I32 | DataType::U32 | DataType::F32 => 2,
            DataType::I48 | DataType::U48 => 3,
            DataType::I64 | DataType::U64 | DataType::F64 => 4,
            DataType::Bcd { digits } => (digits as u16).div_ceil(4),
            DataType::Time(format) => format.count(),
            DataType::Bool { .. } | DataType::Text { .. } | DataType::Words => return None,
        })
    }

    /// Whether its values are numbers: they can be scaled, and have a range.
    #[must_use]
    pub const fn is_number(self) -> bool {
        !matches!(self, DataType::Bool { .. } | DataType::Text { .. } | DataType::Time(_))
    }

    /// Whether a value is a float without a scale.
    #[must_use]
    pub const fn is_float(self) -> bool {
        matches!(self, DataType::F16 | DataType::F32 | DataType::F64)
    }

    /// Whether the register holds more than this value, so that it cannot be written without the rest.
    #[must_use]
    pub const fn is_part(self) -> bool {
        matches!(self, DataType::Byte { .. } | DataType::Slice { .. } | DataType::Bool { bit: Some(_) })
    }
}
