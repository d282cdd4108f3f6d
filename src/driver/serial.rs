//! Instruments that a type describes without code: frames out of a stream, requests out of templates, values out of
//! frames. Pure: bytes, names and `now` come in; nothing here waits or sends.

pub mod check;
pub mod framer;
