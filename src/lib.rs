//! Tidegate: the industrial edge gateway for small factories.
//!
//! ```text
//!  link ──> driver ──> poll ──> normalize ──> queue ──> sparkplug ──> uplink ──> a broker
//!  bytes    frames     what is   registers     kept      or json       a broker
//!           to scans   due       to readings   until     readings      session
//!                                              delivered to messages
//!  command: what somebody wants written, from the uplinks back to the lanes of poll
//!
//!  around it: config (what is wanted) · gateway (who runs) · sim (a shop floor) · cli
//! ```
//! A stage imports only downwards; ARCHITECTURE.md has the table, `tests/it/tidy.rs` holds it.

pub mod calendar;
pub mod cli;
pub mod clock;
pub mod command;
pub mod config;
pub mod counters;
pub mod dlt645;
pub mod driver;
pub mod expression;
pub mod gateway;
pub mod json;
pub mod link;
pub mod normalize;
pub mod outbox;
pub mod poll;
pub mod position;
pub mod publication;
pub mod queue;
pub mod reading;
pub mod scan;
#[cfg(feature = "demo")]
pub mod sim;
pub mod sparkplug;
pub mod survey;
pub mod tag;
pub mod thinning;
pub mod tls;
pub mod unit;
pub mod uplink;
pub mod vitals;
pub mod write;
