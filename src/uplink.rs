//! Delivery to brokers: one task a broker.
//!
//! Updates come in and are always taken, in session or not; no uplink delays polling or another uplink.

mod bdseq;
mod mqtt;
pub mod task;
