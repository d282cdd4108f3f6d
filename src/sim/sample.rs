//! A text that a pattern matches, so that a simulated unit says what a gateway waits for. Pure.
//!
//! Of each choice the first is taken, and of each repetition the fewest. Patterns with flags or in which a text must not
//! stand are not understood.

use std::iter::Peekable;
use std::str::Chars;

use regex::bytes::Regex;

/// No sample is longer.
const LENGTH_MAX: usize = 256;
/// Groups stand in each other up to so deep.
const DEPTH_MAX: u8 = 20;

/// What a unit with this id says first where `pattern` is to know it by its group `id`; `None`: none was found.
#[must_use]
pub fn registration(pattern: &Regex, id: &str) -> Option<Vec<u8>> {
    let sample = sample(pattern.as_str(), id)?;
    says_id(pattern, &sample, id).then_some(sample)
}

/// Whether `pattern` takes the whole of `said`, and this id from it.
#[must_use]
pub fn says_id(pattern: &Regex, said: &[u8], id: &str) -> bool {
    pattern.captures(said).is_some_and(|captures| {
        let is_whole = captures.get(0).is_some_and(|whole| whole.as_bytes() == said);
        is_whole && captures.name("id").is_some_and(|group| group.as_bytes() == id.as_bytes())
    })
}

/// Something that `pattern` matches and that is not empty; `None`: none was found.
#[must_use]
pub fn heartbeat(pattern: &Regex) -> Option<Vec<u8>> {
    sample(pattern.as_str(), "").filter(|sample| !sample.is_empty() && pattern.is_match(sample))
}

fn sample(pattern: &str, id: &str) -> Option<Vec<u8>> {
    let mut reader = Reader { rest: pattern.chars().peekable(), id };
    let sample = reader.choice(0)?;
    reader.rest.peek().is_none().then_some(sample)
}

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
    id: &'a str,
}

impl Reader<'_> {
    /// The first of what stands between bars.
    fn choice(&mut self, depth: u8) -> Option<Vec<u8>> {
        if depth > DEPTH_MAX {
            return None;
        }
        let first = self.sequence(depth)?;
        while self.rest.next_if_eq(&'|').is_some() {
            self.sequence(depth)?;
        }
        Some(first)
    }

    fn sequence(&mut self, depth: u8) -> Option<Vec<u8>> {
        let mut said = Vec::new();
        while self.rest.peek().is_some_and(|next| !matches!(next, ')' | '|')) {
            let piece = self.piece(depth)?;
            let count = self.count()?;
            if said.len() + piece.len().saturating_mul(count) > LENGTH_MAX {
                return None;
            }
            said.extend(piece.repeat(count));
        }
        Some(said)
    }

    fn piece(&mut self, depth: u8) -> Option<Vec<u8>> {
        Some(match self.rest.next()? {
            '^' | '$' => Vec::new(),
            '(' => self.group(depth)?,
            '[' => self.class()?,
            '\\' => self.escape()?,
            '.' => b"x".to_vec(),
            other => other.to_string().into_bytes(),
        })
    }

    /// What stands behind an opening bracket, up to the closing one.
    fn group(&mut self, depth: u8) -> Option<Vec<u8>> {
        let mut name = String::new();
        if self.rest.next_if_eq(&'?').is_some() {
            self.rest.next_if_eq(&'P');
            match self.rest.next()? {
                ':' => {}
                '<' => loop {
                    match self.rest.next()? {
                        '>' => break,
                        letter => name.push(letter),
                    }
                },
                _ => return None,
            }
        }
        let inner = self.choice(depth + 1)?;
        self.rest.next_if_eq(&')')?;
        Some(if name == "id" { self.id.as_bytes().to_vec() } else { inner })
    }

    /// One of the characters in square brackets.
    fn class(&mut self) -> Option<Vec<u8>> {
        let is_not = self.rest.next_if_eq(&'^').is_some();
        let first = match self.rest.next()? {
            '\\' => self.escape()?,
            '[' => return None,
            other => other.to_string().into_bytes(),
        };
        loop {
            match self.rest.next()? {
                ']' => return Some(if is_not { b"x".to_vec() } else { first }),
                '\\' => drop(self.rest.next()?),
                _ => {}
            }
        }
    }

    fn escape(&mut self) -> Option<Vec<u8>> {
        Some(match self.rest.next()? {
            'd' => b"0".to_vec(),
            'w' => b"a".to_vec(),
            's' => b" ".to_vec(),
            'n' => b"\n".to_vec(),
            'r' => b"\r".to_vec(),
            't' => b"\t".to_vec(),
            'A' | 'z' | 'b' => Vec::new(),
            'x' => {
                let digits: String = [self.rest.next()?, self.rest.next()?].into_iter().collect();
                vec![u8::from_str_radix(&digits, 16).ok()?]
            }
            other if other.is_ascii_alphanumeric() => return None,
            other => other.to_string().into_bytes(),
        })
    }

    /// How often the last piece has to stand there at least.
    fn count(&mut self) -> Option<usize> {
        let count = match self.rest.peek() {
            Some('*' | '?') => 0,
            Some('{') => {
                self.rest.next();
                let mut digits = String::new();
                while let Some(digit) = self.rest.next_if(char::is_ascii_digit) {
                    digits.push(digit);
                }
                while self.rest.peek()? != &'}' {
                    self.rest.next();
                }
                digits.parse().ok()?
            }
            Some('+') => 1,
            _ => return Some(1),
        };
        self.rest.next();
        self.rest.next_if_eq(&'?');
        Some(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Regex {
        regex::bytes::RegexBuilder::new(text).unicode(false).build().unwrap()
    }

    #[track_caller]
    fn check(text: &str, id: &str, expected: Option<&[u8]>) {
        assert_eq!(registration(&pattern(text), id).as_deref(), expected, "{text} for {id}");
    }

    #[test]
    fn a_unit_says_what_the_pattern_knows_it_by() {
        check("^DTU-(?<id>[0-9]{8})$", "10000001", Some(b"DTU-10000001"));
        check("^(?<id>86[0-9]{13})", "861234567890123", Some(b"861234567890123"));
        check(r"^(?:REG|LOGIN)[ ,]?\x02(?P<id>\w+)#?\r\n$", "a1", Some(b"REG\x02a1\r\n"));
        check(r"^\[(?<id>\d+)\]v[^0-9]{2,4}.*$", "7", Some(b"[7]vxx"));
    }

    #[test]
    fn what_does_not_fit_is_not_said() {
        check("^DTU-(?<id>[0-9]{8})$", "lathe", None);
        check("(?i)^dtu(?<id>[0-9]+)$", "1", None);
        check("^(?<id>[0-9]{8})[[:alpha:]]$", "10000001", None);
        check("^x{300}(?<id>[0-9])$", "1", None);
    }

    #[test]
    fn a_heartbeat_is_the_first_that_the_pattern_takes() {
        let is = |text: &str, expected: Option<&[u8]>| {
            assert_eq!(heartbeat(&pattern(text)).as_deref(), expected, "{text}");
        };
        is(r"^(PING|\x00)$", Some(b"PING"));
        is(r"^\xFE$", Some(b"\xFE"));
        is("PING", Some(b"PING"));
        is("^a*$", None);
        is(r"^[\x00-\x1f]+$", Some(b"\0"));
    }
}
