//! Frames out of a stream that also carries noise. Pure.
//!
//! Bytes and their times come in; frames, and counts of what is none, come out. A frame begins where the last one ended,
//! or at the next `start`. What follows tells its end; the checksum tells whether it is one:
//!
//! | the end is known by | a wrong checksum | longer than `max` |
//! |---|---|---|
//! | `length` | the next byte may begin a frame | the next byte may begin a frame |
//! | `end`, with `start` | the next start may begin a frame | the next start may begin a frame |
//! | `end`, without `start` | the line is dropped whole | everything up to the next end is dropped |
//! | silence alone | what came is dropped whole | everything up to the next silence is dropped |
//! | the next start | the next start may begin a frame | the next start may begin a frame |
//!
//! A line without a start is dropped whole, for the rest of a spoilt line is not what the instrument said.

mod look;

use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};

use crate::config::site::serial::{FrameRule, Length};
use look::{Extent, Look, first_end, longest, look, rest_of};

/// A line that is quiet for so long says no more: what came before stands alone.
///
/// Longer than the pauses within a frame that serial servers make, far below any timeout.
const ALONE: Duration = Duration::from_millis(20);
/// A frame whose rest has not come for so long may be noise with a frame behind it.
const STALLED: Duration = Duration::from_millis(200);

/// A frame, or the word of an instrument that it refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// From its first byte to its last; fill bytes before it are not in it.
    pub bytes: Bytes,
    /// What of it stands between start and end.
    pub body: Range<usize>,
    /// It is `nak`, and nothing else.
    pub is_refusal: bool,
}

/// What a stream carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames, refusals included.
    pub frames: u64,
    /// Bytes that belong to no frame; fill bytes, empty lines and the ends of lines that are too long apart.
    pub noise: u64,
    /// Would-be frames with a wrong checksum; of those that overlap only the first.
    pub spoilt: u64,
    /// Would-be frames that are longer than they may be.
    pub too_long: u64,
}

/// Takes frames out of a stream. Take all frames after each push and each quiet: then it holds `max` bytes at most, or
/// those of a longer `nak`.
#[derive(Debug)]
pub struct Framer {
    rule: FrameRule,
    buffer: BytesMut,
    /// So many bytes of the buffer are followed by a silence that ends a frame.
    settled: usize,
    heard_at: Option<Instant>,
    /// No end begins before here.
    searched: usize,
    /// What is left of a longer end, when a shorter one was taken: it may still come.
    rest: Vec<u8>,
    state: State,
    /// The rest of a frame is overdue.
    is_stalled: bool,
    /// `nak` came alone.
    is_refused: bool,
    /// Nothing has come since the stream was opened.
    is_opened: bool,
    /// How many bytes have left the buffer.
    gone: u64,
    /// Up to here a wrong checksum is counted.
    spoilt_until: u64,
    counts: Counts,
}

/// What the front of the buffer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The first byte after a frame, or after silence.
    Fresh,
    /// Noise came before it.
    Noisy,
    /// The rest of a line that is too long.
    Overlong,
}

impl Framer {
    /// A framer at the beginning of a stream.
    #[must_use]
    pub fn new(rule: &FrameRule) -> Framer {
        Framer {
            rule: rule.clone(),
            buffer: BytesMut::new(),
            settled: 0,
            heard_at: None,
            searched: 0,
            rest: Vec::new(),
            state: State::Fresh,
            is_stalled: false,
            is_refused: false,
            is_opened: false,
            gone: 0,
            spoilt_until: 0,
            counts: Counts::default(),
        }
    }

    /// What has been found so far.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// How many bytes wait for more.
    #[must_use]
    pub fn held(&self) -> usize {
        self.buffer.len()
    }

    /// Takes `bytes`, which have come at `now`.
    pub fn push(&mut self, bytes: &[u8], now: Instant) {
        if bytes.is_empty() {
            return;
        }
        self.handle_quiet(now);
        self.is_opened = false;
        self.buffer.extend_from_slice(bytes);
        self.heard_at = Some(now);
        self.is_stalled = false;
    }

    /// When [`Framer::handle_quiet`] is to be called if nothing comes; `None`: a silence means nothing.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        let heard_at = self.heard_at.filter(|_| !self.buffer.is_empty())?;
        let idle = self.rule.idle.filter(|_| self.settled < self.buffer.len());
        let alone = self.is_nak().then_some(ALONE);
        let stalled = (!self.is_stalled && self.may_hide_a_frame()).then_some(STALLED);
        let wait = [idle, alone, stalled].into_iter().flatten().min()?;
        heard_at.checked_add(wait)
    }

    /// Nothing has come until `now`.
    pub fn handle_quiet(&mut self, now: Instant) {
        let Some(heard_at) = self.heard_at else { return };
        let quiet = now.saturating_duration_since(heard_at);
        if quiet >= ALONE && self.is_nak() {
            self.advance(self.buffer.len());
            self.is_refused = true;
        }
        let may_begin = self.state == State::Noisy || self.is_opened;
        if quiet >= ALONE && self.buffer.is_empty() && may_begin {
            self.state = State::Fresh;
        }
        if self.rule.idle.is_some_and(|idle| quiet >= idle) {
            self.settled = self.buffer.len();
            if self.buffer.is_empty() {
                self.state = State::Fresh;
            }
        }
        self.is_stalled |= quiet >= STALLED && self.may_hide_a_frame();
    }

    /// The stream was opened at `now`, perhaps amid a frame: where nothing marks the beginning of one, what comes up to the
    /// next end or silence may be the rest of one.
    pub fn restart(&mut self, now: Instant) {
        self.reset();
        self.is_opened = true;
        self.heard_at = Some(now);
        if self.is_line() {
            self.state = State::Overlong;
        }
    }

    /// Forgets what waits for more, for a request is about to be sent: what comes after it is the answer.
    pub fn reset(&mut self) {
        self.noise(self.buffer.len());
        self.rest.clear();
        self.state = State::Fresh;
        self.is_refused = false;
    }

    /// The next frame in what has come; `None`: more is needed.
    pub fn next_frame(&mut self) -> Option<Frame> {
        if std::mem::take(&mut self.is_refused) {
            self.counts.frames += 1;
            let bytes = Bytes::copy_from_slice(&self.rule.nak);
            return Some(Frame { bytes, body: 0..0, is_refusal: true });
        }
        loop {
            self.skip_fill();
            let is_quiet = self.settled > 0;
            let size = if is_quiet { self.settled } else { self.buffer.len() };
            let bytes = self.buffer.get(..size).filter(|bytes| !bytes.is_empty())?;
            if self.state == State::Overlong {
                self.skip_line(is_quiet)?;
                continue;
            }
            if !is_quiet && self.state == State::Fresh && self.rule.nak.starts_with(bytes) {
                return None; // it may be all that comes
            }
            match look(&self.rule, bytes, is_quiet, self.searched) {
                Look::Frame(extent) => return Some(self.take(extent)),
                Look::Empty(size) => self.advance(size),
                Look::Noise(size) => self.noise(size),
                Look::Spoilt(size) => self.spoilt(size),
                Look::TooLong => self.too_long(),
                Look::Incomplete(_) if is_quiet => self.noise(1),
                Look::Incomplete(searched) => {
                    self.searched = searched;
                    let hidden = self.hidden()?;
                    self.noise(hidden);
                }
            }
        }
    }

    /// Whether what waits is `nak`, and no noise came before it.
    fn is_nak(&self) -> bool {
        !self.rule.nak.is_empty() && self.state == State::Fresh && self.buffer == self.rule.nak.as_slice()
    }

    /// Whether noise could be taken for the beginning of a frame whose rest never comes.
    fn may_hide_a_frame(&self) -> bool {
        self.rule.check.is_some() && matches!(self.rule.length, Some(Length::Field { .. }))
    }

    /// Where behind an overdue frame a whole one begins.
    fn hidden(&self) -> Option<usize> {
        let is_frame = |from: &usize| {
            let bytes = self.buffer.get(*from..).unwrap_or_default();
            matches!(look(&self.rule, bytes, false, 0), Look::Frame(_))
        };
        (1..self.buffer.len()).filter(|_| self.is_stalled).find(is_frame)
    }

    /// Drops what may stand between frames and means nothing.
    fn skip_fill(&mut self) {
        while let (Some(wanted), Some(byte)) = (self.rest.first(), self.buffer.first()) {
            if wanted == byte {
                self.rest.remove(0);
                self.advance(1);
            } else {
                self.rest.clear();
            }
        }
        let is_between = self.state != State::Overlong;
        while is_between && self.rule.skip.is_some() && self.buffer.first().copied() == self.rule.skip {
            self.advance(1);
        }
    }

    /// Drops a line that is too long, up to its end; `None`: that has not come.
    fn skip_line(&mut self, is_quiet: bool) -> Option<()> {
        let size = if is_quiet { self.settled } else { self.buffer.len() };
        let bytes = self.buffer.get(..size)?;
        if let Some((at, end)) = first_end(&self.rule.ends, bytes, 0) {
            let whole = at + end.len() + usize::from(self.rule.trailer);
            if whole <= bytes.len() {
                let rest = rest_of(&self.rule.ends, end);
                self.noise(at);
                self.advance(whole - at);
                self.rest = if self.rule.trailer == 0 { rest } else { Vec::new() };
                self.state = State::Fresh;
                return Some(());
            }
            if !is_quiet {
                self.noise(at);
                self.state = State::Overlong;
                return None;
            }
        }
        let kept = if is_quiet { 0 } else { longest(&self.rule.ends).saturating_sub(1).min(size) };
        self.noise(size - kept);
        self.state = if is_quiet { State::Fresh } else { State::Overlong };
        is_quiet.then_some(())
    }

    fn take(&mut self, extent: Extent) -> Frame {
        let bytes = Bytes::copy_from_slice(self.buffer.get(..extent.size).unwrap_or_default());
        let end = bytes.get(extent.body.end..).unwrap_or_default();
        self.rest = if self.rule.trailer == 0 { rest_of(&self.rule.ends, end) } else { Vec::new() };
        self.advance(extent.size);
        self.state = State::Fresh;
        self.counts.frames += 1;
        Frame { bytes, body: extent.body, is_refusal: false }
    }

    fn spoilt(&mut self, size: usize) {
        if self.gone >= self.spoilt_until {
            self.counts.spoilt += 1;
            self.spoilt_until = self.gone.saturating_add(size.try_into().unwrap_or(u64::MAX));
        }
        self.noise(if self.is_line() { size } else { 1 });
    }

    fn too_long(&mut self) {
        self.counts.too_long += 1;
        if self.is_line() {
            self.state = State::Overlong;
        } else {
            self.noise(1);
        }
    }

    /// Whether only an end or a silence says where the next frame begins.
    const fn is_line(&self) -> bool {
        self.rule.start.is_empty() && self.rule.length.is_none()
    }

    fn noise(&mut self, size: usize) {
        if size > 0 {
            self.counts.noise = self.counts.noise.saturating_add(size.try_into().unwrap_or(u64::MAX));
            self.state = State::Noisy;
            self.advance(size);
        }
    }

    fn advance(&mut self, size: usize) {
        let size = size.min(self.buffer.len());
        self.buffer.advance(size);
        self.settled = self.settled.saturating_sub(size);
        self.searched = 0;
        self.gone = self.gone.saturating_add(size.try_into().unwrap_or(u64::MAX));
    }
}

#[cfg(test)]
mod tests;
