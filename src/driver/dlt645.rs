//! DL/T 645-2007 and DL/T 645-1997, the protocol of Chinese electricity meters on RS-485. Pure.
//!
//! An [`exchange`] makes a request of an address and an identifier, and tells which of the frames that a
//! [`frame::Decoder`] finds on the line are its answer; [`read`] asks for the values of several tags, [`broadcast`] tells
//! all meters the time. [`discovery`] finds the meters of a line.

pub mod broadcast;
pub mod discovery;
pub mod exchange;
pub mod frame;
pub mod read;
pub mod refusal;

#[cfg(test)]
mod vectors;
