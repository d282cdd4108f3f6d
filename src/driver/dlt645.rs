//! DL/T 645-2007 and DL/T 645-1997, the protocol of Chinese electricity meters on RS-485. Pure.
//!
//! An [`exchange`] makes a request of an [`address`] and an [`identifier`], and tells which of the frames that a
//! [`frame::Decoder`] finds on the line are its answer; a [`mod@format`] makes a value of the data. [`discovery`] finds the
//! meters of a line.

pub mod address;
pub mod discovery;
pub mod exchange;
pub mod format;
pub mod frame;
pub mod identifier;
pub mod refusal;

#[cfg(test)]
mod vectors;
