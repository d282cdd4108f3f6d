//! The values of a meter that are asked for together: as a block where the meter has one, else one after the other. Pure.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::exchange::{self, Question};
use super::frame::{Decoder, Frame};
use super::refusal::Refusal;
use crate::config::site::Item;
use crate::dlt645::{Address, Decoded, Format, Identifier, Version, item};
use crate::driver::Answer;
use crate::driver::exchange::{Exchange, Noise, Progress};
use crate::reading::{Quality, Timestamp};
use crate::scan::Raw;

/// At most this passes between two bytes of a frame (DL/T 645-2007, 5.3.3).
const QUIET: Duration = Duration::from_millis(500);
/// The bytes of a request and of its answer, about, without the wake-up bytes.
const FRAMES: usize = 16 + 24;

/// Reads the values of some tags, all of one item.
#[derive(Debug)]
pub struct Read {
    address: Address,
    wake: u8,
    /// What each tag is, in the order of the answer.
    wanted: Vec<(Identifier, Format)>,
    values: Vec<Option<Result<Raw, Quality>>>,
    /// What is asked now, and then.
    asked: Identifier,
    pending: VecDeque<Identifier>,
    exchange: exchange::Exchange,
    decoder: Decoder,
    heard_at: Option<Instant>,
    foreign: u64,
    /// The meter does not have the block: its parts are asked for.
    is_split: Arc<AtomicBool>,
    parts: Vec<Identifier>,
}

impl Read {
    /// The values of `wanted`, which are parts of `item`, from the meter with this address. `is_split` is known from one
    /// question to the next: the meter does not have the item's block. `None` where nothing is wanted.
    #[must_use]
    pub fn new(
        address: Address,
        wake: u8,
        item: &Item,
        wanted: Vec<(Identifier, Format)>,
        is_split: Arc<AtomicBool>,
    ) -> Option<Read> {
        let mut parts: Vec<Identifier> = Vec::new();
        for (identifier, _) in &wanted {
            if !parts.contains(identifier) {
                parts.push(*identifier);
            }
        }
        let block = item.block.filter(|_| parts.len() > 1 && !is_split.load(Ordering::Relaxed));
        let mut pending: VecDeque<Identifier> = match block {
            Some(block) => [block].into(),
            None => parts.iter().copied().collect(),
        };
        let asked = pending.pop_front()?;
        Some(Read {
            address,
            wake,
            values: vec![None; wanted.len()],
            wanted,
            asked,
            pending,
            exchange: exchange::Exchange::new(address, Question::Item(asked), wake),
            decoder: Decoder::default(),
            heard_at: None,
            foreign: 0,
            is_split,
            parts,
        })
    }

    fn handle(&mut self, frames: Vec<Frame>) -> Progress {
        for frame in frames {
            match self.exchange.handle(&frame) {
                exchange::Progress::NotOurs(_) => self.foreign += 1,
                exchange::Progress::FollowUp(_) if self.is_block_of_1997() => {
                    // its parts have no number: one that comes twice would shift all items behind it
                    return self.split();
                }
                exchange::Progress::FollowUp(bytes) => return Progress::Send(bytes),
                exchange::Progress::Done(answer) => {
                    self.take_data(&answer.data);
                    return self.go_on();
                }
                exchange::Progress::Refused(refusal) => {
                    if self.asked.is_block() && matches!(refusal, Refusal::Meter(_)) {
                        return self.split();
                    }
                    self.settle(|_| Err(refusal.quality()));
                    return self.go_on();
                }
            }
        }
        Progress::Wait
    }

    fn is_block_of_1997(&self) -> bool {
        self.asked.is_block() && self.asked.version() == Version::V1997
    }

    /// The block is not to be had: its parts are asked for, from now on.
    fn split(&mut self) -> Progress {
        self.is_split.store(true, Ordering::Relaxed);
        self.pending = self.parts.iter().copied().collect();
        self.go_on()
    }

    /// Gives each tag that what is asked brings its value.
    fn settle(&mut self, value: impl Fn(&(Identifier, Format)) -> Result<Raw, Quality>) {
        let is_block = self.asked.is_block();
        for (wanted, slot) in self.wanted.iter().zip(&mut self.values) {
            if is_block || wanted.0 == self.asked {
                *slot = Some(value(wanted));
            }
        }
    }

    fn take_data(&mut self, data: &[u8]) {
        let is_block = self.asked.is_block();
        self.settle(|(identifier, format)| {
            let own = if is_block {
                let index = identifier.block().map_or(0, |(_, index)| index);
                item(data, format.width(), index).ok_or(Quality::BadDecode)?
            } else {
                data
            };
            Ok(match format.decode(own)? {
                Decoded::Value(value) => Raw::Value(value),
                Decoded::Time(_, words) => Raw::Words(words),
            })
        });
    }

    /// Asks the next, or ends.
    fn go_on(&mut self) -> Progress {
        if let Some(asked) = self.pending.pop_front() {
            self.asked = asked;
            self.exchange = exchange::Exchange::new(self.address, Question::Item(asked), self.wake);
            return Progress::Send(self.exchange.request());
        }
        let values: Vec<Result<Raw, Quality>> = std::mem::take(&mut self.values)
            .into_iter()
            .map(|value| value.unwrap_or(Err(Quality::BadDecode)))
            .collect();
        // a single value that is not there is no reason to ask for it as often as for others
        let is_absent = self.parts.len() == 1 && values.iter().all(|value| *value == Err(Quality::BadConfig));
        Progress::Done(if is_absent { Answer::Absent } else { Answer::Values(values) })
    }
}

impl Exchange for Read {
    fn request(&self, _over_at: Timestamp) -> Vec<u8> {
        self.exchange.request()
    }

    fn take(&mut self, bytes: &[u8], now: Instant) -> Progress {
        let frames = if bytes.is_empty() {
            self.heard_at = None;
            self.decoder.quiet()
        } else {
            self.heard_at = Some(now);
            self.decoder.decode(bytes)
        };
        self.handle(frames)
    }

    fn next_due(&self) -> Option<Instant> {
        self.heard_at.filter(|_| self.decoder.is_amid()).map(|at| at + QUIET)
    }

    fn noise(&self) -> Noise {
        Noise { checksum: self.decoder.checksum_errors(), foreign: self.foreign }
    }

    fn wire_size(&self) -> usize {
        usize::from(self.wake) + FRAMES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::dlt645::frame::Control;
    use crate::reading::Value;

    const METER: &str = "210220003011";

    fn frame(control: u8, data: &[u8]) -> Vec<u8> {
        let address = Address::parse(METER).unwrap();
        Frame { address, control: Control(control), data: data.to_vec() }.encode(0).unwrap()
    }

    fn read(parts: &[&str], block: &str, version: Version, format: &str) -> Read {
        let of = |text: &&str| Identifier::parse(text, version).unwrap();
        let item = Item { block: Some(of(&block)), parts: parts.iter().map(of).collect() };
        let format = Format::parse(format).unwrap();
        let wanted = parts.iter().map(|part| (of(part), format)).collect();
        Read::new(Address::parse(METER).unwrap(), 0, &item, wanted, Arc::default()).unwrap()
    }

    #[test]
    fn a_block_of_1997_in_parts_is_asked_for_item_by_item_for_a_part_may_come_twice() {
        let now = crate::clock::monotonic();
        let mut read = read(&["9010", "9011"], "901F", Version::V1997, "XXXXXX.XX");
        // 0.11, and more to come
        let asked = read.take(&frame(0xA1, &[0x1F, 0x90, 0x11, 0, 0, 0]), now);
        assert_eq!(asked, Progress::Send(frame(0x01, &[0x10, 0x90])));
        let asked = read.take(&frame(0x81, &[0x10, 0x90, 0x11, 0, 0, 0]), now);
        assert_eq!(asked, Progress::Send(frame(0x01, &[0x11, 0x90])));
        let done = read.take(&frame(0x81, &[0x11, 0x90, 0x22, 0, 0, 0]), now);
        let values = [0.11, 0.22].map(|number| Ok(Raw::Value(Value::Double(number))));
        assert_eq!(done, Progress::Done(Answer::Values(values.to_vec())));
        assert!(read.is_split.load(Ordering::Relaxed));
    }

    #[test]
    fn a_single_item_that_a_meter_does_not_have_is_absent() {
        let now = crate::clock::monotonic();
        let mut read = read(&["02010100"], "0201FF00", Version::V2007, "XXX.X");
        assert_eq!(read.take(&frame(0xD1, &[0x02]), now), Progress::Done(Answer::Absent));
    }
}
