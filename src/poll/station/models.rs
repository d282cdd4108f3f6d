//! Tags that lie in SunSpec models: where the device has those is found by a walk. Pure.

use std::time::{Duration, Instant};

use crate::config::site::Tag;
use crate::driver::modbus::sunspec::Walk;
use crate::scan::Part;
use crate::tag::{Span, TagId};

/// Models that a device does not have are looked for again after so long.
const MISSING_RETRY: Duration = Duration::from_secs(60);

/// The tags of a device that lie in models.
#[derive(Debug)]
pub(super) struct Modelled {
    walk: Walk,
    tags: Vec<InModel>,
    /// When it is walked again although nothing has happened.
    again_at: Option<Instant>,
    /// Where the tags were found before such a walk.
    before: Option<Vec<(TagId, Span)>>,
}

#[derive(Debug)]
struct InModel {
    tag: TagId,
    model: u16,
    /// Counted from the id register of the model.
    span: Span,
    every: Option<Duration>,
}

impl Modelled {
    /// Those of `tags` that lie in models; `None` for none.
    pub(super) fn new(tags: &[Tag]) -> Option<Modelled> {
        let tags: Vec<InModel> = tags
            .iter()
            .filter_map(|tag| {
                let layout = tag.layout()?;
                Some(InModel { tag: tag.id, model: layout.model?, span: layout.span, every: tag.every })
            })
            .collect();
        (!tags.is_empty()).then(|| Modelled { walk: Walk::default(), tags, again_at: None, before: None })
    }

    /// Whether any of them is polled.
    pub(super) fn is_asked(&self) -> bool {
        self.tags.iter().any(|tag| tag.every.is_some())
    }

    /// The same, and where something was missing the walk begins again after a while.
    pub(super) fn due(&mut self, now: Instant) -> Option<Span> {
        if self.again_at.take_if(|at| *at <= now).is_some() {
            let before = self.places();
            self.restart();
            self.before = Some(before);
        }
        self.walk.next()
    }

    /// The next step of the walk, as long as it has not come to its end.
    pub(super) fn step(&self) -> Option<Span> {
        self.walk.next()
    }

    /// `asked` has these registers, or none that could be read. Whether the walk has ended with that, and not with what was
    /// known before it.
    pub(super) fn take(&mut self, asked: Span, words: Option<&[u16]>, now: Instant) -> bool {
        if self.walk.next() != Some(asked) {
            return false; // another sweep has asked for the same
        }
        self.walk.take(words);
        let has_ended = self.walk.next().is_none();
        self.again_at = (has_ended && !self.missing().is_empty()).then(|| now + MISSING_RETRY);
        has_ended && self.before.take() != Some(self.places())
    }

    /// All over again: another device may be there.
    pub(super) fn restart(&mut self) {
        self.walk.restart();
        (self.again_at, self.before) = (None, None);
    }

    /// The device does not answer.
    pub(super) fn handle_silence(&mut self) {
        self.walk.pass_over();
        (self.again_at, self.before) = (None, None);
    }

    /// The tags whose models the device has, where they lie, and how often they are read.
    pub(super) fn placed(&self) -> impl Iterator<Item = (TagId, Span, Option<Duration>)> {
        self.tags.iter().filter_map(|tag| Some((tag.tag, self.walk.place(tag.model, tag.span)?, tag.every)))
    }

    fn places(&self) -> Vec<(TagId, Span)> {
        self.placed().map(|(tag, span, _)| (tag, span)).collect()
    }

    /// The tags whose models it does not have.
    pub(super) fn missing(&self) -> Vec<Part> {
        let is_missing = |tag: &&InModel| self.walk.place(tag.model, tag.span).is_none();
        self.tags.iter().filter(is_missing).map(|tag| Part { tag: tag.tag, offset: 0 }).collect()
    }

    /// Whether `tag` lies in a model.
    pub(super) fn has(&self, tag: TagId) -> bool {
        self.tags.iter().any(|known| known.tag == tag)
    }
}
