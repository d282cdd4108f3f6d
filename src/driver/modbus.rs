//! Modbus TCP, RTU and ASCII.

pub mod conversation;
pub mod frame;
pub mod pdu;
pub mod query;
pub mod sunspec;
pub mod transaction;
