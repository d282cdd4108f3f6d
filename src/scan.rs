//! What reading a block gave: how polling speaks to normalising.

use std::sync::Arc;

use crate::reading::{Quality, Stamp, Value};
use crate::tag::{DeviceId, TagId};

/// What polling hands on, in the order in which it happened on the line.
#[derive(Clone, Debug)]
pub enum Polled {
    /// A block was read, or could not be.
    Scan(Scan),
    /// The device answers again, or for the first time; the scans of its first round came before this.
    DeviceUp(DeviceId),
    /// The device is out of reach, all of it: another one may be there when it answers again. The scan that says so of its
    /// tags comes next.
    Away(DeviceId),
    /// The device has missed so many cycles that it counts as gone.
    DeviceDown(DeviceId, Stamp),
}

/// The outcome of one read request.
#[derive(Clone, Debug)]
pub struct Scan {
    /// The tags that this block carries; nothing is ever stored under any other.
    pub parts: Arc<[Part]>,
    /// What came back, or why nothing usable did.
    pub result: Result<Data, Quality>,
    /// When the last byte of the reply came, or when the fault was found.
    pub at: Stamp,
}

/// Where one tag lies in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Whose registers.
    pub tag: TagId,
    /// The first of them, counted from the block's first; of [`Data::Values`] which of them.
    pub offset: u16,
}

/// The content of a reply, as many as were asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Registers.
    Words(Vec<u16>),
    /// Coils or discrete inputs.
    Bits(Vec<bool>),
    /// What another protocol than Modbus brought, each before scaling, or why there is none.
    Values(Vec<Result<Raw, Quality>>),
}

/// A value of another protocol than Modbus, before anything is made of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Raw {
    /// A number, a word, true or false.
    Value(Value),
    /// Registers that hold it, the highest byte first.
    Words(Vec<u16>),
}
