//! Readings become Sparkplug B messages (Eclipse Sparkplug 3.0.0).
//!
//! Updates and the comings and goings of a broker come in; publications go out. Pure: nothing here knows a socket.

pub mod command;
mod host;
pub mod payload;
#[rustfmt::skip]
#[expect(missing_docs, reason = "made from proto/sparkplug_b.proto, which says what the fields are")]
pub mod proto;
pub mod session;
pub mod topic;
