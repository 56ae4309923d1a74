//! HTTP/2's frames as they pass, for what h2 hides: a head that has begun and does not come to its end,
//! frames without end that ask for no work, and a pseudo-header field in trailers, by which a request is
//! malformed (RFC 9113, 8.1). h2 drops it while decoding and tells nobody.
//!
//! Follows frames by their heads alone; payloads are passed over, but for those of trailers. These are
//! read as far as HPACK's representations go (RFC 7541, 6): a field whose name is said by the static table
//! or by its text is seen.
//!
//! A name that stands in the connection's dynamic table is not. What an index means depends on every entry
//! before it: to know, every literal of every head would have to be followed as the encoder wrote it, with
//! evictions by its decoded size (RFC 7541, 4.1), which takes Huffman's decoding, and with changes of the
//! table's size. That is HPACK a second time for each request, and a table that once went out of step with
//! h2's would refuse good trailers. It would spare nobody anything: h2 drops the field, so that neither a
//! backend nor a mirror gets it, and the request is forwarded as if it had not been there.

use super::control::ControlFrames;
use crate::limits;

const PREFACE: usize = 24;
/// Bytes of a frame's head.
pub(super) const HEAD: usize = 9;
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const CONTINUATION: u8 = 9;
/// Of SETTINGS and PING: it is an answer.
pub(super) const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const WITH_PRIORITY: u8 = 32;
/// Entries of the static table whose names begin with a colon: from 1 to this.
const PSEUDO: u8 = 14;
/// A colon in HPACK's Huffman code: seven bits, the highest ones of a string's first byte.
const COLON: u8 = 0b1011_1000;

/// One connection's frames.
#[derive(Debug)]
pub(super) struct Frames {
    at: At,
    control: ControlFrames,
    /// Streams whose request goes on behind its head: another head on one of them is trailers.
    uploads: Vec<u32>,
    /// Of the trailers that are being read.
    block: Option<Block>,
    /// The frame that is being read, or was last, is of a head; and whether another one has to follow.
    of_head: bool,
    goes_on: bool,
}

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Nothing that h2 would hide.
    Nothing,
    /// A pseudo-header in trailers, whose END_STREAM was taken away: h2 resets the stream for it.
    Marked,
    /// The same, but the frame's head has gone on already.
    Late,
    /// More frames that ask for nothing than anybody has a reason for.
    Flood,
}

#[derive(Clone, Copy, Debug)]
enum At {
    Preface(usize),
    Head { read: usize, bytes: [u8; HEAD] },
    Payload { left: usize, of: Of },
}

/// What a payload is of.
#[derive(Clone, Copy, Debug)]
enum Of {
    /// Nothing that is looked at.
    Other,
    /// Trailers: bytes before the block, whether one of them tells the padding, and bytes behind it.
    Trailers { skipped: usize, padded: bool, padding: usize },
}

/// A block of trailers, as far as it has come.
#[derive(Clone, Copy, Debug)]
enum Block {
    /// A representation begins.
    Field,
    /// An integer goes on, and then this comes.
    Integer(Text),
    /// The length of a text, and then it.
    Length(Text),
    /// It goes on: what was read of it, in so many bits.
    LongLength { text: Text, coded: bool, length: usize, shift: u32 },
    /// So many bytes of a text are left.
    Text { text: Text, coded: bool, left: usize, begun: bool },
    /// It cannot be followed: h2 is about to say so.
    Lost,
}

/// Which text comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Text {
    Name,
    Value,
    /// None: a field or a size was said by its number.
    None,
}

impl Frames {
    /// Of a connection of which nothing was read.
    pub(super) fn new() -> Self {
        Self {
            at: At::Preface(PREFACE),
            control: ControlFrames::new(),
            uploads: Vec::new(),
            block: None,
            of_head: false,
            goes_on: false,
        }
    }

    /// Bytes went to the client.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.control.wrote(bytes);
    }

    /// Whether something has begun that says nothing until its rest is there: the preface, a frame's head, or
    /// the head of a message.
    pub(super) fn is_within_head(&self) -> bool {
        match self.at {
            At::Preface(_) => true,
            At::Head { read, .. } => read > 0 || self.goes_on,
            At::Payload { .. } => self.of_head,
        }
    }

    /// Follows `bytes`, the next to go on.
    pub(super) fn advance(&mut self, bytes: &mut [u8]) -> Seen {
        let mut seen = Seen::Nothing;
        let (mut from, mut flags_at) = (0, None);
        while from < bytes.len() {
            let rest = bytes.get(from..).unwrap_or_default();
            match &mut self.at {
                At::Preface(left) => {
                    let taken = rest.len().min(*left);
                    (*left, from) = (*left - taken, from + taken);
                    if *left == 0 {
                        self.at = At::Head { read: 0, bytes: [0; HEAD] };
                    }
                }
                At::Head { read, bytes: head } => {
                    let taken = rest.len().min(HEAD - *read);
                    for (to, byte) in head.iter_mut().skip(*read).zip(rest) {
                        *to = *byte;
                    }
                    // Where its flags are among these bytes, if they are.
                    let flags = 4_usize.checked_sub(*read).map(|ahead| from + ahead);
                    (*read, from) = (*read + taken, from + taken);
                    if *read == HEAD {
                        let head = *head;
                        if head[3] == HEADERS {
                            flags_at = flags;
                        }
                        if !self.begin(head) {
                            return Seen::Flood;
                        }
                    }
                }
                At::Payload { left, of: Of::Other } => {
                    let taken = rest.len().min(*left);
                    (*left, from) = (*left - taken, from + taken);
                }
                At::Payload { left, of: Of::Trailers { .. } } if *left > 0 => {
                    let byte = rest.first().copied().unwrap_or_default();
                    from += 1;
                    if self.trailers_have_pseudo(byte) {
                        match flags_at.and_then(|at| bytes.get_mut(at)) {
                            Some(flags) if *flags & END_STREAM != 0 => {
                                *flags &= !END_STREAM;
                                seen = Seen::Marked;
                            }
                            // It had none, for which it is refused anyway; or was marked before.
                            Some(_) => {}
                            None => return Seen::Late,
                        }
                    }
                }
                At::Payload { .. } => {}
            }
            if let At::Payload { left: 0, .. } = self.at {
                self.at = At::Head { read: 0, bytes: [0; HEAD] };
            }
        }
        seen
    }

    /// A frame begins; false when it is one too many.
    fn begin(&mut self, head: [u8; HEAD]) -> bool {
        let [high, middle, low, kind, flags, stream @ ..] = head;
        let left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
        let ends = match kind {
            DATA | HEADERS => flags & END_STREAM != 0,
            kind => kind == RST_STREAM,
        };
        self.of_head = matches!(kind, HEADERS | CONTINUATION);
        self.goes_on = self.of_head && flags & END_HEADERS == 0;
        let known = self.uploads.iter().position(|upload| *upload == stream);
        let block = match (kind, known) {
            (HEADERS, Some(_)) => Some(Block::Field),
            // It goes on with what the frame before it began.
            (CONTINUATION, _) => self.block,
            _ => None,
        };
        match known {
            Some(at) if ends => drop(self.uploads.swap_remove(at)),
            None if kind == HEADERS && !ends => self.upload(stream),
            _ => {}
        }
        self.block = block;
        let of = match (block, kind) {
            (None, _) => Of::Other,
            (Some(_), HEADERS) => {
                let padded = flags & PADDED != 0;
                let priority = if flags & WITH_PRIORITY != 0 { 5 } else { 0 };
                Of::Trailers { skipped: priority, padded, padding: 0 }
            }
            (Some(_), _) => Of::Trailers { skipped: 0, padded: false, padding: 0 },
        };
        self.at = At::Payload { left, of };
        self.control.take(kind, flags, left)
    }

    /// A request begins whose body is to come. One too many is forgotten: what h2 refused need not be ended
    /// by its client.
    fn upload(&mut self, stream: u32) {
        if self.uploads.len() >= limits::HTTP2_UPLOADS_FOLLOWED {
            self.uploads.remove(0);
        }
        self.uploads.push(stream);
    }

    /// Takes one byte of a payload of trailers.
    fn trailers_have_pseudo(&mut self, byte: u8) -> bool {
        let At::Payload { left, of: Of::Trailers { skipped, padded, padding } } = &mut self.at else {
            return false;
        };
        *left -= 1;
        if std::mem::take(padded) {
            *padding = usize::from(byte);
        } else if *skipped > 0 {
            *skipped -= 1;
        } else if *left >= *padding
            && let Some(block) = &mut self.block
        {
            return block.take(byte);
        }
        false
    }
}

impl Block {
    /// Takes one byte; true when it says that a field's name begins with a colon.
    fn take(&mut self, byte: u8) -> bool {
        *self = match *self {
            Self::Field => return self.begin(byte),
            Self::Integer(text) if byte & 0x80 != 0 => Self::Integer(text),
            Self::Integer(text) => Self::before(text),
            Self::Length(text) => {
                let (coded, length) = (byte & 0x80 != 0, usize::from(byte & 0x7f));
                match length {
                    0x7f => Self::LongLength { text, coded, length, shift: 0 },
                    _ => Self::within(text, coded, length),
                }
            }
            Self::LongLength { shift: 28.., .. } => Self::Lost,
            Self::LongLength { text, coded, length, shift } => {
                let length = length + (usize::from(byte & 0x7f) << shift);
                match byte & 0x80 {
                    0 => Self::within(text, coded, length),
                    _ => Self::LongLength { text, coded, length, shift: shift + 7 },
                }
            }
            Self::Text { text, coded, left, begun } => {
                let next = match left {
                    0 | 1 => Self::behind(text),
                    _ => Self::Text { text, coded, left: left - 1, begun: true },
                };
                *self = next;
                let colon = if coded { byte & 0xfe == COLON } else { byte == b':' };
                return text == Text::Name && !begun && colon;
            }
            Self::Lost => Self::Lost,
        };
        false
    }

    /// A representation begins with `byte`.
    fn begin(&mut self, byte: u8) -> bool {
        // RFC 7541, 6.1 to 6.3: which one it is, and how many bits of its number are here.
        let (most, text) = match byte {
            0x80.. => (0x7f, Text::None),
            0x40.. => (0x3f, Text::Value),
            0x20.. => (0x1f, Text::None),
            _ => (0x0f, Text::Value),
        };
        let number = byte & most;
        let sizes = (0x20..0x40).contains(&byte);
        *self = match number {
            0 if text == Text::Value => Self::Length(Text::Name),
            _ if number == most => Self::Integer(text),
            _ => Self::before(text),
        };
        // No static entry with a number that goes on has a pseudo-header's name.
        !sizes && number != most && (1..=PSEUDO).contains(&number)
    }

    fn before(text: Text) -> Self {
        if text == Text::None { Self::Field } else { Self::Length(text) }
    }

    fn within(text: Text, coded: bool, length: usize) -> Self {
        match length {
            0 => Self::behind(text),
            left => Self::Text { text, coded, left, begun: false },
        }
    }

    fn behind(text: Text) -> Self {
        if text == Text::Name { Self::Length(Text::Value) } else { Self::Field }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const GOOD: &[u8] = b"\x82\x86\x84\x41\x04test";

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    /// A request on stream 1 with `trailers`, and one on stream 3.
    fn connection(trailers: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = vec![b'P'; PREFACE];
        bytes.extend(frame(4, 0, 0, &[]));
        bytes.extend(frame(HEADERS, 4, 1, GOOD));
        bytes.extend(frame(0, 0, 1, b"\x82:method"));
        bytes.extend(trailers.concat());
        bytes.extend(frame(HEADERS, 5, 3, GOOD));
        bytes
    }

    /// What is seen of `bytes` in pieces of `piece`, and what becomes of them.
    fn seen(bytes: &[u8], piece: usize) -> (Seen, Vec<u8>) {
        let (mut frames, mut bytes) = (Frames::new(), bytes.to_vec());
        let mut most = Seen::Nothing;
        for piece in bytes.chunks_mut(piece) {
            match frames.advance(piece) {
                Seen::Nothing => {}
                seen => most = seen,
            }
            if most == Seen::Late {
                break;
            }
        }
        (most, bytes)
    }

    fn literal(name: &[u8], coded: u8, value: &[u8]) -> Vec<u8> {
        let length = |text: &[u8]| u8::try_from(text.len()).unwrap();
        [&[0, coded | length(name)], name, &[length(value)], value].concat()
    }

    #[test]
    fn pseudo_headers_in_trailers_are_seen_however_they_are_written() {
        for bad in [
            vec![0x83],
            vec![0x42, 3, b'P', b'U', b'T'],
            vec![0x02, 1, b'x'],
            vec![0x1e, 1, b'x'],
            literal(b":path", 0, b"/"),
            // `:x` in Huffman's code.
            literal(&[0xb9, 0xe7], 0x80, b"/"),
            literal(b":", 0, b""),
        ] {
            for (before, behind) in
                [(vec![], vec![]), (literal(b"x-sum", 0, &[b':'; 90]), vec![0x3f, 0xe1, 0x1f])]
            {
                let block = [before, bad.clone(), behind].concat();
                let padded = [&[3, 0, 0, 0, 0, 15][..], &block, b"\x82\x82\x82"].concat();
                for trailers in
                    [frame(HEADERS, 5, 1, &block), frame(HEADERS, 5 | PADDED | WITH_PRIORITY, 1, &padded)]
                {
                    let whole = connection(&[trailers]);
                    let (at_once, now) = seen(&whole, whole.len());
                    assert_eq!(at_once, Seen::Marked, "{block:?}");
                    let changed: Vec<_> = whole.iter().zip(&now).filter(|(a, b)| a != b).collect();
                    assert_eq!(changed.len(), 1, "{changed:?}");
                    assert_eq!(seen(&whole, 1).0, Seen::Late, "{block:?}");
                }
                let halves = block.split_at(block.len() / 2);
                let frames = [frame(HEADERS, 1, 1, halves.0), frame(CONTINUATION, 4, 1, halves.1)];
                assert_ne!(seen(&connection(&frames), usize::MAX).0, Seen::Nothing, "{block:?}");
            }
        }
    }

    #[test]
    fn a_head_is_told_from_its_first_byte_to_its_last() {
        let halves = GOOD.split_at(3);
        let parts = [
            [&[b'P'; PREFACE][..], &frame(4, 0, 0, &[])].concat(),
            [frame(HEADERS, 1, 1, halves.0), frame(CONTINUATION, 4, 1, halves.1)].concat(),
            frame(6, 0, 0, &[0; 8]),
            frame(HEADERS, 5, 3, GOOD),
        ];
        let (mut frames, mut at) = (Frames::new(), Vec::new());
        for (number, part) in parts.iter().enumerate() {
            for byte in part {
                frames.advance(&mut [*byte]);
                at.push((number, frames.is_within_head()));
            }
            assert!(!frames.is_within_head(), "{number} has come to its end");
        }
        let without = |number: usize| at.iter().filter(|(of, within)| *of == number && !within).count();
        // Of a PING, whose payload is no head, and at the end of the others.
        assert_eq!([0, 1, 2, 3].map(without), [2, 1, 9, 1]);
    }

    #[test]
    fn good_trailers_pass_unchanged() {
        for block in [
            vec![],
            vec![0x8f],
            vec![0xbe],
            vec![0xff, 0x80, 0x01],
            vec![0x7f, 0x03, 1, b'x'],
            vec![0x0f, 0x2b, 2, b':', b'x'],
            literal(b"x:y", 0, b":path"),
            // `user-agent` and `h2spec` in Huffman's code.
            b"\x00\x87\xb5\x05\xb1\x61\xcc\x5a\x93\x84\x9c\x48\xac\xa4".to_vec(),
            [&[0, 0x7f, 0x49][..], &[b'x'; 200], &[0x7f, 0x49], &[b':'; 200]].concat(),
            [literal(b"x", 0, b""), vec![0x20], literal(b"", 0, b"\x82")].concat(),
        ] {
            let whole = connection(&[frame(HEADERS, 5, 1, &block)]);
            for piece in 1..whole.len() {
                assert_eq!(seen(&whole, piece), (Seen::Nothing, whole.clone()), "{block:?}");
            }
        }
    }

    proptest! {
        /// Whatever comes, and however it is split: no byte but the flags of trailers is touched, and
        /// nothing is seen where there are none.
        #[test]
        fn nothing_else_is_changed(bytes in proptest::collection::vec(any::<u8>(), 0..400), piece in 1_usize..100) {
            let (_, now) = seen(&bytes, piece);
            for (before, after) in bytes.iter().zip(now) {
                prop_assert!(*before == after || before & !END_STREAM == after);
            }
            let mut heads = vec![b'P'; PREFACE];
            for (stream, block) in (1..).step_by(2).zip(bytes.chunks(7)) {
                heads.extend(frame(HEADERS, 5, stream, block));
                // On a stream that its client has ended: h2 says so by itself.
                heads.extend(frame(HEADERS, 5, stream, block));
            }
            prop_assert_eq!(seen(&heads, piece), (Seen::Nothing, heads.clone()));
        }
    }
}
