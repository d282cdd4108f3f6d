//! Delivery to brokers: one task a broker.
//!
//! Updates come in and are always taken, in session or not; no uplink delays polling or another uplink.

mod backoff;
mod bdseq;
pub mod commands;
mod delivery;
mod mqtt;
mod replay;
pub mod task;
