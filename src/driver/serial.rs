//! Instruments that a type describes without code: frames out of a stream, requests out of templates, values out of
//! frames. Pure: bytes, names and `now` come in; nothing here waits or sends.

pub mod ask;
pub mod check;
pub mod example;
pub mod extract;
pub mod framer;
pub mod template;

use crate::config::site::serial::{Request, Vars};
use crate::reading::Quality;
use crate::scan::Raw;
use extract::{Content, Unfit, extract};
use framer::Frame;
use template::{Reply, TemplateError, reply};

/// What a frame says to somebody who waits for the answer to a request, or who only listens.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// The values of the request's fields, in their order; `None`: the frame does not have it.
    Values(Vec<Result<Option<Raw>, Quality>>),
    /// The instrument refuses: [`Quality::BadDeviceFailure`].
    Refused,
    /// Nothing: it is not the answer, or no pattern matches it. It is dropped.
    Nothing,
}

/// What `frame` says to `request`, the names in whose templates stand for `vars`.
///
/// # Errors
/// What of `match` could not be filled in.
pub fn hear(request: &Request, frame: &Frame, vars: &Vars) -> Result<Heard, TemplateError> {
    match reply(&request.frame, frame, vars)? {
        Reply::Refused => return Ok(Heard::Refused),
        Reply::Other => return Ok(Heard::Nothing),
        Reply::Answer => {}
    }
    Ok(match Content::of(&request.frame, frame) {
        Ok(content) => Heard::Values(request.fields.iter().map(|field| extract(&content, field)).collect()),
        Err(Unfit::NoPattern) => Heard::Nothing,
        Err(Unfit::NotHex) => Heard::Values(vec![Err(Quality::BadDecode); request.fields.len()]),
    })
}
