//! The check of HTTP/1 framing on raw bytes: where each message begins and ends, and whether two
//! parsers could disagree about it. No IO, no clock.
//!
//! Stricter than httparse and hyper wherever those are lenient, never the other way: what is accepted
//! here has the same method, target, fields and body boundaries for hyper (the tests hold it against
//! httparse). Bytes are looked at where they lie; only a line that is split between two reads is
//! copied.

mod lines;

use memchr::memchr;

use self::lines::{Facts, field, request_line_is_http_10};
use super::lexis::has_control;
use super::refusal::Refusal;
use crate::limits;

/// Follows the requests of one connection.
#[derive(Debug)]
pub struct Checker {
    state: State,
    facts: Facts,
    /// Bytes of the current head or trailer section so far.
    section: usize,
    /// Fields of the current head or trailer section so far.
    fields: usize,
    /// Empty lines before the current request line.
    empty_lines: u32,
    heads: u32,
    head_bytes: usize,
    head_fields: usize,
    /// The beginning of a line whose end has not been read. Bounded by `head_bytes`.
    partial: Vec<u8>,
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// Between two messages, or before the first.
    Between,
    /// In a head.
    Head,
    /// In a body.
    Body,
}

/// A request that must not get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Why.
    pub refusal: Refusal,
    /// Where the connection stood.
    pub position: Position,
    /// How many of the bytes given to [`Checker::advance`] may go on: with them alone no parser can
    /// complete what was refused.
    pub deliver: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    RequestLine,
    Fields,
    Length(u64),
    ChunkSize { size: u64, digits: u32 },
    ChunkExtension { size: u64, line: usize },
    ChunkSizeLineFeed { size: u64 },
    ChunkData(u64),
    ChunkDataReturn,
    ChunkDataLineFeed,
    Trailers,
    Refused(Refusal),
}

impl Default for Checker {
    fn default() -> Self {
        Self::new()
    }
}

impl Checker {
    /// At the beginning of a connection.
    pub fn new() -> Self {
        Self::within(limits::HEAD_BYTES, limits::HEAD_FIELDS)
    }

    /// Takes heads of so many bytes and fields.
    pub fn within(head_bytes: usize, head_fields: usize) -> Self {
        Self {
            head_bytes,
            head_fields,
            state: State::RequestLine,
            facts: Facts::default(),
            section: 0,
            fields: 0,
            empty_lines: 0,
            heads: 0,
            partial: Vec::new(),
        }
    }

    /// Where the connection stands after the bytes so far.
    pub fn position(&self) -> Position {
        match self.state {
            State::RequestLine if self.section == 0 => Position::Between,
            State::RequestLine | State::Fields => Position::Head,
            _ => Position::Body,
        }
    }

    /// Heads completed so far (wraps).
    pub fn heads(&self) -> u32 {
        self.heads
    }

    /// Looks at the next bytes of the connection.
    ///
    /// # Errors
    ///
    /// When they break a rule; every later call fails too and lets nothing through.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        let mut at = 0;
        let mut head_start = 0;
        while let Some(rest) = bytes.get(at..)
            && !rest.is_empty()
        {
            let step = match self.state {
                State::RequestLine | State::Fields => {
                    if self.section == 0 {
                        head_start = at;
                    }
                    self.section_bytes(rest).map_err(|(refusal, deliver)| Violation {
                        refusal,
                        position: Position::Head,
                        deliver: deliver.map_or(head_start, |length| at + length),
                    })
                }
                State::Trailers => self.section_bytes(rest).map_err(|(refusal, _)| Violation {
                    refusal: match refusal {
                        Refusal::HeadBytes | Refusal::HeadFields => Refusal::Trailers,
                        other => other,
                    },
                    position: Position::Body,
                    deliver: at,
                }),
                _ => self.body_bytes(rest).map_err(|(refusal, length)| Violation {
                    refusal,
                    position: Position::Body,
                    deliver: at + length,
                }),
            };
            match step {
                Ok(length) => at += length,
                Err(violation) => {
                    self.state = State::Refused(violation.refusal);
                    self.partial = Vec::new();
                    return Err(violation);
                }
            }
        }
        Ok(())
    }

    /// Takes one line, or what there is of it. An error says how many bytes hyper needs to find the
    /// same fault itself, where that gives a better status than 400.
    fn section_bytes(&mut self, rest: &[u8]) -> Result<usize, (Refusal, Option<usize>)> {
        let room = self.head_bytes.saturating_sub(self.section);
        let within = rest.get(..room).unwrap_or(rest);
        let Some(end) = memchr(b'\n', within) else {
            // A head that fills the limit and is not complete is refused by hyper at this byte too.
            if within.len() == room {
                return Err((Refusal::HeadBytes, Some(room)));
            }
            self.section += within.len();
            self.partial.extend_from_slice(within);
            return Ok(within.len());
        };
        let length = end + 1;
        self.section += length;
        let line = within.get(..end).unwrap_or_default();
        let verdict = if self.partial.is_empty() {
            self.line(line)
        } else {
            let mut whole = std::mem::take(&mut self.partial);
            whole.extend_from_slice(line);
            self.line(&whole)
        };
        match verdict {
            Err(Refusal::HeadFields) => Err((Refusal::HeadFields, Some(length))),
            Err(refusal) => Err((refusal, None)),
            Ok(()) if self.section >= self.head_bytes => Err((Refusal::HeadBytes, Some(length))),
            Ok(()) => Ok(length),
        }
    }

    /// A whole line, without its LF.
    #[inline]
    fn line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let Some((b'\r', line)) = line.split_last() else {
            return Err(Refusal::BareLineFeed);
        };
        match self.state {
            State::RequestLine if line.is_empty() => {
                self.empty_lines += 1;
                if self.empty_lines > limits::LEADING_EMPTY_LINES {
                    return Err(Refusal::EmptyLines);
                }
                Ok(())
            }
            State::RequestLine => {
                self.facts.http_10 = request_line_is_http_10(line)?;
                self.state = State::Fields;
                Ok(())
            }
            State::Fields if line.is_empty() => self.end_of_head(),
            State::Fields => {
                let (name, value) = field(line)?;
                self.facts.note(name, value)?;
                self.count_field()
            }
            _ if line.is_empty() => {
                self.end_of_message();
                Ok(())
            }
            _ => field(line).and_then(|_| self.count_field()),
        }
    }

    fn count_field(&mut self) -> Result<(), Refusal> {
        self.fields += 1;
        if self.fields > self.head_fields { Err(Refusal::HeadFields) } else { Ok(()) }
    }

    fn end_of_head(&mut self) -> Result<(), Refusal> {
        if !self.facts.http_10 && !self.facts.host {
            return Err(Refusal::MissingHost);
        }
        self.heads = self.heads.wrapping_add(1);
        let facts = self.facts;
        self.end_of_message();
        self.state = match facts.length {
            _ if facts.chunked => State::ChunkSize { size: 0, digits: 0 },
            Some(length) if length > 0 => State::Length(length),
            _ => State::RequestLine,
        };
        Ok(())
    }

    fn end_of_message(&mut self) {
        self.state = State::RequestLine;
        self.facts = Facts::default();
        self.section = 0;
        self.fields = 0;
        self.empty_lines = 0;
    }

    /// Takes what it can of a body: all that is there of its data, or one byte of a chunk's frame. An
    /// error says how many bytes may go on.
    fn body_bytes(&mut self, rest: &[u8]) -> Result<usize, (Refusal, usize)> {
        let Some(&byte) = rest.first() else {
            return Ok(0);
        };
        let mut taken = 1;
        self.state = match self.state {
            State::Length(left) => {
                let left = take(left, rest.len(), &mut taken);
                if left == 0 { State::RequestLine } else { State::Length(left) }
            }
            State::ChunkData(left) => {
                let left = take(left, rest.len(), &mut taken);
                if left == 0 { State::ChunkDataReturn } else { State::ChunkData(left) }
            }
            State::ChunkSize { size, digits } => match (byte, hexadecimal(byte)) {
                // 16 digits hold every size; more are zeros in front, which nobody sends in earnest.
                (_, Some(digit)) if digits < 16 => {
                    // No overflow: at most 16 digits of 4 bits.
                    let size = (size << 4) | digit;
                    if size > limits::BODY_LENGTH {
                        return Err((Refusal::ChunkSize, 0));
                    }
                    State::ChunkSize { size, digits: digits + 1 }
                }
                (b'\r', _) if digits > 0 => State::ChunkSizeLineFeed { size },
                (b';', _) if digits > 0 => State::ChunkExtension { size, line: digits as usize + 1 },
                (b'\n', _) if digits > 0 => return Err((Refusal::BareLineFeed, 0)),
                _ => return Err((Refusal::ChunkSize, 0)),
            },
            State::ChunkExtension { size, line } => match byte {
                b'\r' => State::ChunkSizeLineFeed { size },
                b'\n' => return Err((Refusal::BareLineFeed, 0)),
                _ if has_control(&[byte]) => return Err((Refusal::ControlByte, 0)),
                _ if line >= limits::CHUNK_LINE => return Err((Refusal::ChunkLine, 0)),
                _ => State::ChunkExtension { size, line: line + 1 },
            },
            State::ChunkSizeLineFeed { size } => match (byte, size) {
                (b'\n', 0) => State::Trailers,
                (b'\n', size) => State::ChunkData(size),
                _ => return Err((Refusal::BareReturn, 0)),
            },
            State::ChunkDataReturn if byte == b'\r' => State::ChunkDataLineFeed,
            State::ChunkDataLineFeed if byte == b'\n' => State::ChunkSize { size: 0, digits: 0 },
            State::ChunkDataReturn | State::ChunkDataLineFeed => return Err((Refusal::ChunkEnd, 0)),
            State::Refused(refusal) => return Err((refusal, 0)),
            // Lines are not the body's business.
            State::RequestLine | State::Fields | State::Trailers => self.state,
        };
        Ok(taken)
    }
}

fn hexadecimal(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

/// How many of `left` bytes are left after `available` have come; says how many were taken.
fn take(left: u64, available: usize, taken: &mut usize) -> u64 {
    *taken = usize::try_from(left).unwrap_or(usize::MAX).min(available);
    left - *taken as u64
}

#[cfg(test)]
mod tests;
