//! Bodies of HTTP/1: where a response's ends (RFC 9112, 6 and 7). Pure: bytes in, pieces out.

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;

use super::head::{Length, NotHttp, read_trailers};
use crate::limits;

/// Finds the pieces of a body in what was read.
#[derive(Debug)]
pub struct Decoder(State);

#[derive(Debug, PartialEq, Eq)]
enum State {
    Length(u64),
    UntilClose,
    /// Before a chunk's size line.
    Size,
    /// Within a chunk.
    Chunk(u64),
    /// Before the line end that closes a chunk.
    ChunkEnd,
    /// After the last chunk.
    Trailers,
    End,
}

/// What was found.
#[derive(Debug)]
pub enum Piece {
    /// Bytes of the body, never empty.
    Data(Bytes),
    /// Trailer fields; the body ends here.
    Trailers(HeaderMap),
    /// The body ends here.
    End,
    /// More must be read first.
    More,
}

impl Decoder {
    /// For a body of `length`.
    pub fn new(length: Length) -> Self {
        Self(match length {
            Length::None | Length::Exact(0) => State::End,
            Length::Exact(bytes) => State::Length(bytes),
            Length::Chunked => State::Size,
            Length::UntilClose => State::UntilClose,
        })
    }

    /// Whether the end was found.
    pub fn is_end(&self) -> bool {
        self.0 == State::End
    }

    /// Whether the connection's end is the body's end, too.
    pub fn may_close(&self) -> bool {
        matches!(self.0, State::UntilClose | State::End)
    }

    /// Bytes still to come, where that is known.
    pub fn remaining(&self) -> Option<u64> {
        match self.0 {
            State::Length(bytes) => Some(bytes),
            State::End => Some(0),
            _ => None,
        }
    }

    /// How many bytes are worth reading at once.
    pub fn appetite(&self) -> usize {
        match self.0 {
            State::Length(bytes) => usize::try_from(bytes).unwrap_or(usize::MAX).min(limits::READ_CHUNK),
            _ => limits::READ_CHUNK,
        }
    }

    /// The next piece of `input`.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Piece, NotHttp> {
        loop {
            match &mut self.0 {
                State::End => return Ok(Piece::End),
                State::Length(left) | State::Chunk(left) => {
                    if input.is_empty() {
                        return Ok(Piece::More);
                    }
                    let size = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                    *left -= size as u64;
                    if *left == 0 {
                        self.0 = if matches!(self.0, State::Chunk(_)) { State::ChunkEnd } else { State::End };
                    }
                    return Ok(Piece::Data(input.split_to(size).freeze()));
                }
                State::UntilClose if input.is_empty() => return Ok(Piece::More),
                State::UntilClose => return Ok(Piece::Data(input.split().freeze())),
                State::Size => match size_line(input)? {
                    None => return Ok(Piece::More),
                    Some(0) => self.0 = State::Trailers,
                    Some(size) => self.0 = State::Chunk(size),
                },
                State::ChunkEnd => match input.get(..2) {
                    None => return Ok(Piece::More),
                    Some(b"\r\n") => {
                        input.advance(2);
                        self.0 = State::Size;
                    }
                    Some(_) => return Err(NotHttp::Chunk),
                },
                State::Trailers => {
                    let Some(trailers) = read_trailers(input)? else { return Ok(Piece::More) };
                    self.0 = State::End;
                    return Ok(if trailers.is_empty() { Piece::End } else { Piece::Trailers(trailers) });
                }
            }
        }
    }
}

/// Takes `1*HEXDIG [ chunk-ext ] CRLF` off `input`. Extensions are read over, as RFC 9112, 7.1.1
/// asks of whoever does not know them.
fn size_line(input: &mut BytesMut) -> Result<Option<u64>, NotHttp> {
    let Some(end) = memchr::memchr(b'\n', input) else {
        return if input.len() > limits::CHUNK_LINE { Err(NotHttp::Chunk) } else { Ok(None) };
    };
    let line = input.get(..end).and_then(|line| line.strip_suffix(b"\r")).ok_or(NotHttp::Chunk)?;
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (number, rest) = line.split_at(digits);
    let extension = rest.trim_ascii_start();
    if digits == 0
        || digits > 16
        || end > limits::CHUNK_LINE
        || !(extension.is_empty() || extension[0] == b';')
    {
        return Err(NotHttp::Chunk);
    }
    let size = number
        .iter()
        .fold(0_u64, |size, digit| (size << 4) | u64::from((*digit as char).to_digit(16).unwrap_or(0)));
    input.advance(end + 1);
    Ok(Some(size))
}

#[cfg(test)]
mod tests;
