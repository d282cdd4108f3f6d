//! The nouns of DL/T 645: addresses of meters, data identifiers, number formats, as the standards print them. Pure.

mod address;
mod format;
mod identifier;

pub use address::{Address, SIZE as ADDRESS_SIZE};
pub use format::{Decoded, Format, Number};
pub use identifier::{Identifier, Version, item};
