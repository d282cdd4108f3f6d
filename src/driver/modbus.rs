//! Modbus TCP, RTU and ASCII.

pub mod client;
pub mod frame;
pub mod pdu;
pub mod transaction;
