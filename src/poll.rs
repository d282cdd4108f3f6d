//! What is due is read: from tags to blocks, from blocks to scans, one task a link.
//!
//! Tags of one link come in with the configuration; scans and the comings and goings of devices go out. What a value
//! means is not known here.

mod bus;
pub mod health;
pub mod lane;
pub mod latency;
pub mod learned;
pub mod memory;
mod outcome;
pub mod plan;
pub mod schedule;
pub mod station;
pub mod task;
