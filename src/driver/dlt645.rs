//! DL/T 645-2007 and DL/T 645-1997, the protocol of Chinese electricity meters on RS-485. Pure.
//!
//! A question becomes bytes; bytes from the line become [`frame`]s, of which one is the answer.

pub mod exchange;
pub mod frame;
pub mod read;
pub mod refusal;
