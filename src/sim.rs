//! A simulated shop floor: devices that serve moving values and remember what they have served, and a broker.
//!
//! Product code, used by `tidegate demo` and by tests. It has its own encoder and shares no code with the gateway's
//! drivers and decoders, so that neither can cover the other's mistake.

pub mod broker;
pub mod faults;
pub mod floor;
pub mod instrument;
pub mod meter;
pub mod sample;
pub mod serve;
pub mod slave;
