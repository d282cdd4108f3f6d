//! The store: what was read stays until it is delivered, over the end of the program, and over a power cut but for its last
//! seconds.
//!
//! Readings come in from normalising, get a position, and are written at once to a segment in memory (files of a file
//! system that is none of a disk), from where they go to the uplinks. What is delivered within `queue.flush` never
//! touches the disk; what is not is brought there by one thread that nobody waits for. An uplink that has been away, or
//! whose broker has died, reads from here what it has not surely delivered.
//!
//! `frame`, `record` and `segment` have the format byte by byte. It is frozen: their tests do not change.

mod disk;
mod frame;
mod history;
mod index;
pub mod inspect;
mod memory;
mod names;
mod record;
mod recover;
mod segment;
mod store;
pub mod task;

pub use history::{Bookmark, Piece};
pub use index::Delivered;
pub use record::{Gap, Reason};
pub use recover::JUMP;
