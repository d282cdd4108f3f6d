//! Commands: what somebody wants written is held against the rules, written once, read back, told and recorded.
//!
//! Requests come in from the uplinks and from `control.sock`; orders go out to the lanes of the buses, an outcome to
//! whoever asked, to every uplink and to `audit.log`. What is to be done with an alarm goes to the normaliser and to no
//! lane. Nobody asks for the time to be told to meters: it is when its minute comes, and only `audit.log` has it. Nothing is
//! written that a rule does not allow, nothing is written twice, and nothing that could not be recorded.

mod act;
pub mod alarm;
pub mod allow;
pub mod audit;
mod broadcast;
pub mod daily;
pub mod encode;
pub mod history;
mod interlock;
pub mod plan;
pub mod socket;
pub mod task;
pub mod wording;
mod work;
