//! DL/T 645-2007 and DL/T 645-1997, the protocol of Chinese electricity meters on RS-485. Pure.
//!
//! An [`address`] and an [`identifier`] go into a request; bytes from the line become a [`frame`].

pub mod address;
pub mod frame;
