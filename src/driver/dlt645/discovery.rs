//! Which meters are on a line: asks all at once, and searches where several answer. Pure.
//!
//! First every meter is asked for its address, and then for an item that every meter has, as not all know the former. Where
//! one answers, that is it. Where several do, or their answers spoil each other, the meters are asked by the last two digits
//! of their address, then by the last four, and so on, as the reduced addresses of the standard allow: known bytes from the
//! lowest on, `AA` for the rest (DL/T 645-2007, 5.2.2). These are asked for the item, as only the reading of items takes
//! reduced addresses; a refusal tells the address as well.
//!
//! ```text
//!  AAAAAAAAAAAA ── one answers ──> found
//!       │ several, or spoilt twice
//!       ├─ AAAAAAAAAA00 ── nobody
//!       ├─ AAAAAAAAAA01 ── one ──> found
//!       └─ … 99
//! ```
//!
//! A meter that answers whatever address it is asked would be found under all of them: once anything has answered, somebody is
//! asked whom nobody has.
//!
//! With collisions a search takes 100 questions for each pair of digits that several meters share.

use std::collections::BTreeSet;

use super::exchange::{Exchange, Question};
use super::frame::Frame;
use crate::dlt645::{ADDRESS_SIZE, Address};
use crate::dlt645::{Identifier, Version};

/// So many questions, and the search is given up: several meters on each of 20 branches.
pub const QUESTIONS_MAX: u16 = 2000;
/// So many spoilt answers one after the other, and the search is given up: meters that all answer with the same digits are told
/// apart after 14.
pub const SPOILT_MAX: u16 = 30;
/// So many meters, and the search is given up: twice what a line of RS-485 bears.
pub const METERS_MAX: usize = 64;
/// The address of a meter that is on no line.
const STRANGER: [u8; ADDRESS_SIZE] = [0x98, 0x76, 0x54, 0x32, 0x10, 0x98];
/// All pairs of digits.
const PAIRS: u8 = 100;
/// The energy that every meter counts: drawn, of all tariffs.
const ENERGY_2007: Identifier = Identifier::V2007([0x00, 0x01, 0x00, 0x00]);
const ENERGY_1997: Identifier = Identifier::V1997([0x90, 0x10]);

/// Meters whose addresses end alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Branch {
    /// As on the wire; what is not known is a wildcard.
    bytes: [u8; ADDRESS_SIZE],
    /// How many bytes are known.
    known: usize,
    /// Whether the address is asked for, which only the whole line can be.
    by_address: bool,
    /// Whether it was asked before, and the answer was spoilt.
    is_again: bool,
}

/// Whether somebody is asked whom nobody has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    /// Nobody has answered yet.
    Later,
    Next,
    /// Nobody has answered for the stranger.
    Passed,
    Failed,
}

/// A search for the meters on a line.
#[derive(Clone, Debug)]
pub struct Discovery {
    version: Version,
    wake: u8,
    /// The one to ask next is the last.
    branches: Vec<Branch>,
    found: BTreeSet<Address>,
    /// Whole addresses with answers that spoil each other.
    shared: BTreeSet<Address>,
    test: Test,
    questions: u16,
    /// Spoilt answers, one after the other.
    spoilt: u16,
}

impl Discovery {
    /// A search for meters of this version, each question with `wake` wake-up bytes before it.
    #[must_use]
    pub fn new(version: Version, wake: u8) -> Discovery {
        let line = Branch { bytes: [0xAA; ADDRESS_SIZE], known: 0, by_address: false, is_again: false };
        let mut branches = vec![line];
        if version == Version::V2007 {
            branches.push(Branch { by_address: true, ..line });
        }
        let (found, shared) = (BTreeSet::new(), BTreeSet::new());
        Discovery { version, wake, branches, found, shared, test: Test::Later, questions: 0, spoilt: 0 }
    }

    /// The bytes to send, after which the line is listened to for as long as a meter may take to answer; `None` once the
    /// search is over.
    #[must_use]
    pub fn next(&self) -> Option<Vec<u8>> {
        if self.is_given_up() {
            return None;
        }
        if self.test == Test::Next {
            return Some(Exchange::new(Address::from_wire(STRANGER), self.item(), self.wake).request());
        }
        let branch = self.branches.last()?;
        let question = match self.version {
            _ if branch.by_address => Question::Address,
            Version::V1997 | Version::V2007 => self.item(),
        };
        Some(Exchange::new(Address::from_wire(branch.bytes), question, self.wake).request())
    }

    /// What every meter has.
    const fn item(&self) -> Question {
        Question::Item(match self.version {
            Version::V1997 => ENERGY_1997,
            Version::V2007 => ENERGY_2007,
        })
    }

    /// What came after the question of [`Discovery::next`]: all frames, and whether there was anything that was none, such
    /// as answers that spoilt each other.
    pub fn handle(&mut self, frames: &[Frame], is_spoilt: bool) {
        let mut replies = frames.iter().filter(|frame| frame.control.is_reply());
        if self.test == Test::Next {
            self.questions = self.questions.saturating_add(1);
            let stranger = Address::from_wire(STRANGER);
            let is_answered = replies.any(|frame| frame.address == stranger || !frame.address.is_single());
            self.test = if is_answered { Test::Failed } else { Test::Passed };
            if is_answered {
                self.branches.clear();
            }
            return;
        }
        let Some(branch) = self.branches.pop() else { return };
        self.questions = self.questions.saturating_add(1);
        if self.test == Test::Later && replies.next().is_some() {
            self.test = Test::Next;
        }
        let asked = Address::from_wire(branch.bytes);
        let replies = frames.iter().filter(|frame| frame.control.is_reply());
        // a late answer to the question before is that of a meter as well
        let (clear, odd): (BTreeSet<Address>, BTreeSet<Address>) =
            replies.map(|frame| frame.address).partition(|address| address.is_single());
        let here = clear.iter().filter(|address| asked.matches(**address)).count();
        for address in clear {
            if self.found.len() < METERS_MAX {
                self.found.insert(address);
            }
        }
        let is_spoilt = is_spoilt || !odd.is_empty();
        self.spoilt = if is_spoilt { self.spoilt + 1 } else { 0 };
        match here {
            0 | 1 if !is_spoilt => {}
            0 | 1 if !branch.is_again => self.branches.push(Branch { is_again: true, ..branch }),
            _ => self.split(branch, asked),
        }
    }

    fn split(&mut self, branch: Branch, asked: Address) {
        if branch.by_address {
            self.branches.clear();
        }
        if branch.known == ADDRESS_SIZE {
            self.shared.insert(asked);
            return;
        }
        for pair in (0..PAIRS).rev() {
            let mut child = Branch { known: branch.known + 1, by_address: false, is_again: false, ..branch };
            if let Some(byte) = child.bytes.get_mut(branch.known) {
                *byte = ((pair / 10) << 4) | (pair % 10);
            }
            self.branches.push(child);
        }
    }

    fn is_given_up(&self) -> bool {
        self.spoilt >= SPOILT_MAX || self.questions >= QUESTIONS_MAX || self.found.len() >= METERS_MAX
    }

    /// Whether nothing is left to be asked; `false` as well where the search was given up.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.branches.is_empty()
    }

    /// The meters so far, by address, at most 64.
    pub fn found(&self) -> impl Iterator<Item = Address> {
        self.found.iter().copied()
    }

    /// Whole addresses that more than one meter seems to have, or whose meter cannot be understood.
    pub fn shared(&self) -> impl Iterator<Item = Address> {
        self.shared.iter().copied()
    }

    /// Whether a meter answers whatever address it is asked: it is the only one that can be told on its line.
    #[must_use]
    pub fn is_indiscriminate(&self) -> bool {
        self.test == Test::Failed
    }

    /// How many questions were asked.
    #[must_use]
    pub const fn questions(&self) -> u16 {
        self.questions
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{Control, Decoder};
    use super::*;
    use proptest::prelude::*;

    /// Meters on a line, and what they do when several answer at once.
    struct Line {
        meters: Vec<Address>,
        version: Version,
        /// Answers come one after the other, and do not spoil each other.
        in_turn: bool,
        /// Meters know how to tell their address.
        tells: bool,
    }

    impl Line {
        fn new(meters: &[&str]) -> Line {
            let meters = meters.iter().map(|meter| Address::parse(meter).unwrap()).collect();
            Line { meters, version: Version::V2007, in_turn: false, tells: true }
        }

        /// The frames that answer a request, and whether they spoil each other.
        fn hear(&self, request: &[u8]) -> (Vec<Frame>, bool) {
            let frames = Decoder::default().decode(request);
            let [request] = frames.as_slice() else { panic!("one request: {frames:?}") };
            let (control, data) = match (request.control.0, self.version) {
                (0x13, Version::V2007) if self.tells && request.address == Address::ANY => (0x93, None),
                (0x11, Version::V2007) => (0x91, Some(request.data.clone())),
                (0x01, Version::V1997) => (0x81, Some(request.data.clone())),
                _ => return (Vec::new(), false),
            };
            let answer = |meter: &Address| Frame {
                address: *meter,
                control: Control(control),
                data: data.clone().unwrap_or_else(|| meter.to_wire().to_vec()),
            };
            let answers: Vec<Frame> =
                self.meters.iter().filter(|meter| request.address.matches(**meter)).map(answer).collect();
            if answers.len() > 1 && !self.in_turn { (Vec::new(), true) } else { (answers, false) }
        }

        fn search(&self, version: Version) -> Discovery {
            let mut discovery = Discovery::new(version, 4);
            while let Some(request) = discovery.next() {
                assert!(discovery.branches.len() <= 600, "bounded");
                let (frames, is_spoilt) = self.hear(&request);
                discovery.handle(&frames, is_spoilt);
            }
            discovery
        }
    }

    fn found(discovery: &Discovery) -> Vec<String> {
        discovery.found().map(|address| address.to_string()).collect()
    }

    #[test]
    fn a_meter_that_is_alone_is_found_with_the_first_question() {
        let line = Line::new(&["210220003011"]);
        let discovery = line.search(Version::V2007);
        assert_eq!(found(&discovery), ["210220003011"]);
        // for its address, for an item, and somebody who is not there
        assert_eq!(discovery.questions(), 3);
        let mut discovery = Discovery::new(Version::V2007, 0);
        discovery.handle(&line.hear(&discovery.next().unwrap()).0, false);
        assert_eq!(found(&discovery), ["210220003011"]);
    }

    #[test]
    fn a_meter_beside_one_that_tells_its_address_is_found() {
        let two = Line::new(&["000000000161", "000000000162"]);
        let mut discovery = Discovery::new(Version::V2007, 0);
        let one = Line::new(&["000000000161"]);
        discovery.handle(&one.hear(&discovery.next().unwrap()).0, false);
        while let Some(request) = discovery.next() {
            let (frames, is_spoilt) = two.hear(&request);
            discovery.handle(&frames, is_spoilt);
        }
        assert_eq!(found(&discovery), ["000000000161", "000000000162"]);
        assert!(discovery.is_complete());
    }

    #[test]
    fn a_meter_that_does_not_tell_its_address_is_asked_for_its_energy() {
        let line = Line { tells: false, ..Line::new(&["210220003011"]) };
        let discovery = line.search(Version::V2007);
        assert_eq!(found(&discovery), ["210220003011"]);
        assert_eq!(discovery.questions(), 3);
        let line = Line { version: Version::V1997, ..Line::new(&["138000130754"]) };
        let discovery = line.search(Version::V1997);
        assert_eq!(found(&discovery), ["138000130754"]);
        assert_eq!(discovery.questions(), 2);
    }

    #[test]
    fn on_a_line_without_meters_the_search_ends() {
        let discovery = Line::new(&[]).search(Version::V2007);
        assert_eq!(discovery.questions(), 2);
        assert!(discovery.is_complete());
        assert_eq!(found(&discovery), [] as [&str; 0]);
        assert_eq!(Line::new(&[]).search(Version::V1997).questions(), 1);
    }

    #[test]
    fn meters_whose_answers_spoil_each_other_are_searched_by_their_last_digits() {
        let meters = ["000000000161", "000000000261", "210220003011"];
        let discovery = Line::new(&meters).search(Version::V2007);
        assert_eq!(found(&discovery), meters);
        // all twice, 100 pairs, those that end in 61 once more, and their 100 pairs; and somebody who is not there
        assert_eq!(discovery.questions(), 2 + 100 + 1 + 100 + 1);
        assert!(discovery.is_complete());
        let mut discovery = Discovery::new(Version::V2007, 0);
        discovery.handle(&[], true);
        discovery.handle(&[], true);
        let pair = Discovery::next(&discovery).unwrap();
        // 00010000 of AAAAAAAAAA00
        assert_eq!(pair[..12], [0x68, 0x00, 0xAA, 0xAA, 0xAA, 0xAA, 0xAA, 0x68, 0x11, 0x04, 0x33, 0x33]);
    }

    #[test]
    fn meters_that_answer_one_after_the_other_are_searched_as_well() {
        let line = Line { in_turn: true, ..Line::new(&["000000000161", "000000000162"]) };
        let discovery = line.search(Version::V2007);
        assert_eq!(found(&discovery), ["000000000161", "000000000162"]);
        assert_eq!(discovery.questions(), 1 + 1 + 100);
    }

    #[test]
    fn noise_once_costs_one_question() {
        let line = Line::new(&["210220003011"]);
        let mut discovery = Discovery::new(Version::V2007, 0);
        discovery.handle(&[], true);
        let (frames, _) = line.hear(&discovery.next().unwrap());
        discovery.handle(&frames, false);
        assert_eq!(discovery.branches.len(), 1);
        assert_eq!(found(&discovery), ["210220003011"]);
    }

    #[test]
    fn two_meters_with_one_address_are_told() {
        let mut line = Line::new(&["000000000161", "000000000161"]);
        let discovery = line.search(Version::V2007);
        assert_eq!(found(&discovery), [] as [&str; 0]);
        assert_eq!(discovery.shared().collect::<Vec<_>>(), [line.meters[0]]);
        assert!(discovery.is_complete());
        // the whole line and five times 100 pairs, of which one is asked again, and the whole address
        assert_eq!(discovery.questions(), 2 + 6 * 101);
        line.meters.push(Address::parse("000000000162").unwrap());
        assert_eq!(found(&line.search(Version::V2007)), ["000000000162"]);
    }

    #[test]
    fn an_echo_and_a_late_answer_are_not_taken_for_a_collision() {
        let line = Line::new(&["210220003011"]);
        let mut discovery = Discovery::new(Version::V2007, 0);
        let request = discovery.next().unwrap();
        let mut frames = Decoder::default().decode(&request);
        frames.extend(line.hear(&request).0);
        assert_eq!(frames.len(), 2);
        discovery.handle(&frames, false);
        assert_eq!(discovery.branches.len(), 1);
        // an answer to another branch is a meter that is there
        let mut discovery = Discovery::new(Version::V1997, 0);
        discovery.handle(&[], true);
        discovery.handle(&[], true);
        let late =
            Frame { address: Address::parse("000000000161").unwrap(), control: Control(0x81), data: vec![] };
        discovery.handle(&[late], false);
        assert_eq!(found(&discovery), ["000000000161"]);
        assert_eq!(discovery.branches.len(), 99);
    }

    #[test]
    fn a_refusal_tells_the_address_too() {
        let refusal =
            Frame { address: Address::parse("000000000161").unwrap(), control: Control(0xC1), data: vec![2] };
        let mut discovery = Discovery::new(Version::V1997, 0);
        discovery.handle(&[refusal], false);
        assert_eq!(found(&discovery), ["000000000161"]);
        assert!(discovery.is_complete());
    }

    #[test]
    fn an_answer_without_a_meters_address_is_asked_for_again() {
        let nobody = Frame { address: Address::ANY, control: Control(0x81), data: vec![] };
        let mut discovery = Discovery::new(Version::V1997, 0);
        let request = discovery.next();
        discovery.handle(&[nobody], false);
        assert_ne!(discovery.next(), request, "somebody who is not there first");
        discovery.handle(&[], false);
        assert_eq!(discovery.next(), request);
        assert_eq!(found(&discovery), [] as [&str; 0]);
    }

    #[test]
    fn a_meter_that_answers_whatever_it_is_asked_is_not_found_under_every_address() {
        let own = Address::parse("210220003011").unwrap();
        let mut discovery = Discovery::new(Version::V2007, 4);
        while let Some(request) = discovery.next() {
            let asked = Decoder::default().decode(&request).remove(0);
            let (address, control) =
                if asked.control.0 == 0x13 { (own, 0x93) } else { (asked.address, 0x91) };
            let data = if control == 0x93 { own.to_wire().to_vec() } else { asked.data };
            discovery.handle(&[Frame { address, control: Control(control), data }], false);
        }
        assert_eq!(found(&discovery), ["210220003011"]);
        assert!(discovery.is_indiscriminate());
        assert_eq!(discovery.questions(), 2);
        assert!(!Line::new(&["210220003011"]).search(Version::V2007).is_indiscriminate());
    }

    #[test]
    fn more_answers_at_once_than_there_may_be_meters_are_borne() {
        let frame = |number: u8| Frame {
            address: Address::from_wire([number / 10 * 16 + number % 10, 0, 0, 0, 0, 0]),
            control: Control(0x81),
            data: vec![],
        };
        let frames: Vec<Frame> = (0..70).map(frame).collect();
        let mut discovery = Discovery::new(Version::V1997, 0);
        discovery.handle(&frames, false);
        assert_eq!(discovery.found().count(), 64);
        assert_eq!(discovery.next(), None);
    }

    #[test]
    fn a_line_of_nothing_but_noise_is_given_up() {
        let mut discovery = Discovery::new(Version::V2007, 0);
        while discovery.next().is_some() {
            discovery.handle(&[], true);
        }
        assert_eq!(discovery.questions(), SPOILT_MAX);
        assert!(!discovery.is_complete());
    }

    #[test]
    fn more_meters_than_a_line_bears_are_given_up() {
        let meters: Vec<String> = (0..70).map(|number| format!("{number:012}")).collect();
        let meters: Vec<&str> = meters.iter().map(String::as_str).collect();
        let discovery = Line::new(&meters).search(Version::V2007);
        assert_eq!(found(&discovery), meters[..64]);
        assert!(!discovery.is_complete());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn every_meter_of_a_line_is_found(
            numbers in prop::collection::btree_set(0_u64..999_999_999_999, 0..12),
            shift in 0_u32..6,
            in_turn: bool,
        ) {
            // with few of the last digits used, more of them collide
            let meters: BTreeSet<String> =
                numbers.iter().map(|number| format!("{:012}", number / 100_u64.pow(shift) * 100_u64.pow(shift))).collect();
            let meters: Vec<&str> = meters.iter().map(String::as_str).collect();
            let discovery = Line { in_turn, ..Line::new(&meters) }.search(Version::V2007);
            prop_assert!(discovery.is_complete());
            prop_assert_eq!(found(&discovery), meters);
        }
    }
}
