//! Delivery to brokers: one task a broker.
//!
//! Updates come in and are always taken, in session or not; no uplink delays polling or another uplink.

mod age;
mod backoff;
mod bdseq;
mod budget;
mod conversation;
mod delivery;
mod mqtt;
mod replay;
mod selftest;
pub mod task;
