//! An HTTP/2 client that writes frames, whatever is in them.

use std::net::SocketAddr;

use super::wire::Wire;
use super::{PATIENCE, within};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const WITH_PRIORITY: u8 = 32;

/// A connection on which anything may be written.
pub struct Frames {
    pub wire: Wire,
}

/// A frame as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// What the other side did about a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    /// It answered, with this status and so many bytes of a body.
    Answered(u16, usize),
    /// It reset the stream, with this code.
    Reset(u32),
    /// It gave the connection up, with this code, or without a word.
    Ended(Option<u32>),
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header block of literals, none of them indexed or compressed.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            length(&mut bytes, text.len());
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

/// An integer of HPACK with a prefix of seven bits.
pub fn length(bytes: &mut Vec<u8>, length: usize) {
    if length < 127 {
        return bytes.push(u8::try_from(length).unwrap());
    }
    bytes.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).unwrap());
}

/// A good GET, but for what is put in its place or added.
pub fn get<'a>(changes: &[(&'a str, Option<&'a str>)]) -> Vec<(&'a str, &'a str)> {
    let mut fields =
        vec![(":method", "GET"), (":scheme", "http"), (":authority", "test"), (":path", "/smuggled")];
    for (name, value) in changes {
        fields.retain(|(other, _)| other != name);
        fields.extend(value.map(|value| (*name, value)));
    }
    // Pseudo-headers come first.
    fields.sort_by_key(|(name, _)| !name.starts_with(':'));
    fields
}

impl Frames {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::with_settings(address, &[]).await
    }

    /// Nothing is written but what the test writes.
    pub async fn silent(address: SocketAddr) -> Self {
        Self { wire: Wire::connect(address).await }
    }

    /// With settings of its own, as they stand in the frame.
    pub async fn with_settings(address: SocketAddr, settings: &[u8]) -> Self {
        let mut wire = Wire::connect(address).await;
        wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        wire.send(frame(SETTINGS, 0, 0, settings)).await;
        wire.send(frame(SETTINGS, 1, 0, &[])).await;
        Self { wire }
    }

    pub async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        self.wire.send(frame(kind, flags, stream, payload)).await
    }

    /// The next frame; `None` at the end of the connection.
    pub async fn next(&mut self) -> Option<Frame> {
        while self.wire.unread().len() < 9 {
            if !self.wire.more().await {
                return None;
            }
        }
        let head = self.wire.unread()[..9].to_vec();
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        while self.wire.unread().len() < 9 + length {
            if !self.wire.more().await {
                return None;
            }
        }
        let payload = self.wire.take(9 + length).split_off(9);
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// What becomes of `stream`.
    pub async fn fate(&mut self, stream: u32) -> Fate {
        within("an answer of any kind", async {
            let (mut status, mut size) = (None, 0);
            loop {
                let Some(frame) = self.next().await else { return Fate::Ended(None) };
                let code = |at: usize| u32::from_be_bytes(frame.payload[at..at + 4].try_into().unwrap());
                match frame.kind {
                    GOAWAY if code(4) != 0 => return Fate::Ended(Some(code(4))),
                    RST_STREAM if frame.stream == stream => match status {
                        Some(status) if code(0) == 0 => return Fate::Answered(status, size),
                        _ => return Fate::Reset(code(0)),
                    },
                    HEADERS if frame.stream == stream => status = Some(decode_status(&frame.payload)),
                    DATA if frame.stream == stream => size += frame.payload.len(),
                    _ => {}
                }
                if frame.stream == stream
                    && matches!(frame.kind, HEADERS | DATA)
                    && frame.flags & END_STREAM != 0
                {
                    return Fate::Answered(status.unwrap(), size);
                }
            }
        })
        .await
    }

    /// Sends a request that is nothing but a head.
    pub async fn ask(&mut self, stream: u32, fields: &[(&str, &str)]) -> Fate {
        self.send(HEADERS, END_STREAM | END_HEADERS, stream, &block(fields)).await;
        self.fate(stream).await
    }

    /// The code of the GOAWAY with which the other side gives the connection up, reading over all
    /// else; `None` when it closes without one.
    pub async fn ended(&mut self) -> Option<u32> {
        let last = tokio::time::timeout(PATIENCE, async {
            while let Some(frame) = self.next().await {
                if frame.kind == GOAWAY {
                    let code = u32::from_be_bytes(frame.payload[4..8].try_into().unwrap());
                    if code != 0 {
                        return Some(code);
                    }
                }
            }
            None
        });
        last.await.expect("the connection goes on")
    }
}

/// `:status` comes first, indexed or as a literal with an indexed name.
pub fn decode_status(block: &[u8]) -> u16 {
    match block[0] {
        0x88 => 200,
        0x89 => 204,
        0x8a => 206,
        0x8b => 304,
        0x8c => 400,
        0x8d => 404,
        0x8e => 500,
        // A literal: its length, perhaps with the bit of Huffman's code.
        _ if block[1] & 0x80 == 0 => std::str::from_utf8(&block[2..5]).unwrap().parse().unwrap(),
        _ => huffman_digits(&block[2..2 + usize::from(block[1] & 0x7f)]),
    }
}

/// Digits have five bits (0, 1, 2) or six (3 to 9) in the code of RFC 7541.
fn huffman_digits(bytes: &[u8]) -> u16 {
    let bits: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
    let (mut at, mut number) = (0, 0);
    for _ in 0..3 {
        let five = u16::from_str_radix(&bits[at..at + 5], 2).unwrap();
        if five <= 2 {
            number = number * 10 + five;
            at += 5;
        } else {
            number = number * 10 + u16::from_str_radix(&bits[at..at + 6], 2).unwrap() - 0x19 + 3;
            at += 6;
        }
    }
    number
}
