//! An instrument as it is talked to: a request and the frame that answers it, or frames that it sends by itself. Pure.

use std::sync::Arc;
use std::time::Instant;

use super::framer::Framer;
use super::{Heard, hear};
use crate::config::site::serial::{Instrument, Request, Vars};
use crate::driver::Answer;
use crate::driver::exchange::{Exchange, Noise, Progress};
use crate::reading::{Quality, Timestamp};
use crate::scan::Raw;

/// One request to an instrument.
#[derive(Debug)]
pub struct Ask {
    instrument: Arc<Instrument>,
    index: usize,
    vars: Vars,
    /// The fields that are wanted, in the order of the answer.
    fields: Vec<usize>,
    bytes: Vec<u8>,
    framer: Framer,
    foreign: u64,
}

impl Ask {
    /// Asks request `index` of `instrument` for `fields`; its names stand for `vars` of the device. `None` where there is no
    /// such request, or nothing to send.
    #[must_use]
    pub fn new(instrument: &Arc<Instrument>, index: usize, vars: &Vars, fields: Vec<usize>) -> Option<Ask> {
        let request = instrument.requests.get(index)?;
        let vars = names(instrument, request, vars);
        let sent = request.send.as_ref()?.render(&vars).ok()?;
        Some(Ask {
            bytes: [instrument.wake.as_slice(), &sent].concat(),
            framer: Framer::new(&request.frame),
            instrument: instrument.clone(),
            index,
            vars,
            fields,
            foreign: 0,
        })
    }
}

impl Exchange for Ask {
    fn request(&self, _over_at: Timestamp) -> Vec<u8> {
        self.bytes.clone()
    }

    fn take(&mut self, bytes: &[u8], now: Instant) -> Progress {
        if bytes.is_empty() {
            self.framer.handle_quiet(now);
        } else {
            self.framer.push(bytes, now);
        }
        let Some(request) = self.instrument.requests.get(self.index) else { return Progress::Wait };
        while let Some(frame) = self.framer.next_frame() {
            match hear(request, &frame, &self.vars) {
                Ok(Heard::Values(values)) => {
                    return Progress::Done(Answer::Values(wanted(request, &values, &self.fields)));
                }
                Ok(Heard::Refused) => return Progress::Done(Answer::Denied(Quality::BadDeviceFailure)),
                Ok(Heard::Nothing) | Err(_) => self.foreign += 1,
            }
        }
        Progress::Wait
    }

    fn next_due(&self) -> Option<Instant> {
        self.framer.next_due()
    }

    fn noise(&self) -> Noise {
        Noise { checksum: self.framer.counts().spoilt, foreign: self.foreign }
    }

    fn wire_size(&self) -> usize {
        // an answer is about as long as what is asked, as far as anybody can tell
        self.bytes.len() * 2
    }
}

/// Hears what an instrument sends by itself.
#[derive(Debug)]
pub struct Listener {
    instrument: Arc<Instrument>,
    vars: Vars,
    fields: Vec<usize>,
    framer: Framer,
    foreign: u64,
}

impl Listener {
    /// Hears `fields` of what `instrument` sends. `None` where it sends nothing.
    #[must_use]
    pub fn new(instrument: Arc<Instrument>, vars: Vars, fields: Vec<usize>) -> Option<Listener> {
        let request = instrument.requests.first()?;
        let vars = names(&instrument, request, &vars);
        let framer = Framer::new(&request.frame);
        Some(Listener { instrument, vars, fields, framer, foreign: 0 })
    }

    /// The stream was opened at `now`: what came before goes on with nothing that comes from now on.
    pub fn restart(&mut self, now: Instant) {
        self.framer.restart(now);
    }

    /// What was heard and is no frame of it.
    #[must_use]
    pub fn noise(&self) -> Noise {
        let counts = self.framer.counts();
        Noise { checksum: counts.spoilt, foreign: self.foreign + counts.too_long }
    }

    /// Takes bytes that came in; none, where [`Listener::next_due`] has come. What each frame says, in their order.
    pub fn take(&mut self, bytes: &[u8], now: Instant) -> Vec<Vec<Result<Raw, Quality>>> {
        if bytes.is_empty() {
            self.framer.handle_quiet(now);
        } else {
            self.framer.push(bytes, now);
        }
        let Some(request) = self.instrument.requests.first() else { return Vec::new() };
        let mut heard = Vec::new();
        while let Some(frame) = self.framer.next_frame() {
            match hear(request, &frame, &self.vars) {
                Ok(Heard::Values(values)) => heard.push(wanted(request, &values, &self.fields)),
                Ok(Heard::Refused | Heard::Nothing) | Err(_) => self.foreign += 1,
            }
        }
        heard
    }

    /// When something may be known although no byte comes.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.framer.next_due()
    }
}

/// What names stand for: the device's before the request's before the type's.
fn names(instrument: &Instrument, request: &Request, of_device: &Vars) -> Vars {
    of_device.over(&request.vars).over(&instrument.vars)
}

/// The values of the wanted fields. What a frame does not have is no value; where it need not have it, no fault either.
fn wanted(
    request: &Request,
    values: &[Result<Option<Raw>, Quality>],
    fields: &[usize],
) -> Vec<Result<Raw, Quality>> {
    let one = |index: &usize| match values.get(*index) {
        Some(Ok(Some(raw))) => Ok(raw.clone()),
        Some(Err(quality)) => Err(*quality),
        Some(Ok(None)) | None => {
            let is_optional = request.fields.get(*index).is_some_and(|field| field.is_optional);
            Err(if is_optional { Quality::BadConfig } else { Quality::BadDecode })
        }
    };
    fields.iter().map(one).collect()
}
