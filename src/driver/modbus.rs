//! Modbus TCP and Modbus RTU.

pub mod client;
pub mod frame;
pub mod transaction;
