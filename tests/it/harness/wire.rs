//! One end of a connection, byte for byte: reads messages without interpreting more of them than
//! where they end.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::within;

/// One end of a connection.
pub struct Wire {
    stream: TcpStream,
    read: Vec<u8>,
}

/// A message as it stood on the wire.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// Request or status line.
    pub line: String,
    /// Fields in order, names as written.
    pub fields: Vec<(String, String)>,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// Fields after the last chunk.
    pub trailers: Vec<(String, String)>,
    /// How it ended.
    pub end: End,
}

/// How a message ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// As its head said.
    #[default]
    Complete,
    /// The connection closed before.
    Cut,
    /// With the connection, which is as its head said.
    Closed,
}

impl Wire {
    pub fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, read: Vec::new() }
    }

    pub async fn connect(address: SocketAddr) -> Self {
        Self::new(within("connecting", TcpStream::connect(address)).await.unwrap())
    }

    /// Writes all of `bytes`; false when the other side does not take them.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        within("sending", self.stream.write_all(bytes.as_ref())).await.is_ok()
    }

    /// The same without a bound on the time it takes.
    pub async fn push(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// Writes what the other side takes until it takes nothing for `quiet`; how much that was.
    pub async fn send_until_blocked(&mut self, bytes: &[u8], quiet: Duration) -> usize {
        let mut sent = 0;
        while sent < bytes.len() {
            match tokio::time::timeout(quiet, self.stream.write(&bytes[sent..])).await {
                Ok(Ok(count)) => sent += count,
                Ok(Err(error)) => panic!("{error}"),
                Err(_) => break,
            }
        }
        sent
    }

    /// The same, where the other side may also close.
    pub async fn send_until_blocked_or_closed(&mut self, bytes: &[u8], quiet: Duration) -> usize {
        let mut sent = 0;
        while sent < bytes.len() {
            match tokio::time::timeout(quiet, self.stream.write(&bytes[sent..])).await {
                Ok(Ok(count)) => sent += count,
                Ok(Err(_)) | Err(_) => break,
            }
        }
        sent
    }

    /// Closes the sending side.
    pub async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Closes so that the other side sees a reset.
    pub fn reset(self) {
        self.linger_zero();
    }

    /// Makes the close to come a reset.
    pub fn linger_zero(&self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Whether a byte or an end has come, or comes in time.
    pub async fn is_silent_for(&mut self, time: Duration) -> bool {
        self.read.is_empty() && tokio::time::timeout(time, self.more()).await.is_err()
    }

    /// Reads what comes next; false at the end, be it orderly or not.
    pub async fn more(&mut self) -> bool {
        self.read.reserve(64 * 1024);
        matches!(self.stream.read_buf(&mut self.read).await, Ok(count) if count > 0)
    }

    /// Waits until the other side closes; what it sent until then.
    pub async fn closed(&mut self) -> Vec<u8> {
        within("the other side closing", async { while self.more().await {} }).await;
        std::mem::take(&mut self.read)
    }

    /// A head, as a message without a body; `None` at the end of the connection.
    pub async fn head(&mut self) -> Option<Message> {
        let end = self.find(b"\r\n\r\n").await?;
        let head: Vec<u8> = self.read.drain(..end + 4).collect();
        let text = String::from_utf8_lossy(&head);
        let (line, rest) = text.split_once("\r\n")?;
        Some(Message { line: line.into(), fields: fields(rest), ..Message::default() })
    }

    /// A request with its body.
    pub async fn request(&mut self) -> Option<Message> {
        let head = self.head().await?;
        Some(self.body_of(head, false).await)
    }

    /// A final response with its body; interim ones are read over.
    pub async fn response(&mut self) -> Message {
        loop {
            let response = self.response_to("GET").await.expect("a response");
            if !response.line.starts_with("HTTP/1.1 1") {
                return response;
            }
        }
    }

    /// The next response, interim or not, to a request of `method`.
    pub async fn response_to(&mut self, method: &str) -> Option<Message> {
        let head = within("a response", self.head()).await?;
        let bodiless =
            method == "HEAD" || [" 1", " 204", " 304"].iter().any(|code| head.line[8..].starts_with(code));
        if bodiless { Some(head) } else { Some(within("a response's body", self.body_of(head, true)).await) }
    }

    /// The body that belongs to `head`.
    pub async fn body_of(&mut self, mut head: Message, response: bool) -> Message {
        if head.field("transfer-encoding").is_some() {
            head.end = self.chunks(&mut head).await.map_or(End::Cut, |()| End::Complete);
        } else if let Some(length) = head.field("content-length") {
            let length: usize = length.parse().unwrap();
            while self.read.len() < length && self.more().await {}
            head.end = if self.read.len() < length { End::Cut } else { End::Complete };
            head.body = self.take(length.min(self.read.len()));
        } else if response {
            while self.more().await {}
            (head.body, head.end) = (std::mem::take(&mut self.read), End::Closed);
        }
        head
    }

    async fn chunks(&mut self, message: &mut Message) -> Option<()> {
        loop {
            let end = self.find(b"\r\n").await?;
            let line = String::from_utf8(self.take(end + 2)).unwrap();
            let size = usize::from_str_radix(line.trim(), 16).unwrap();
            if size == 0 {
                break;
            }
            while self.read.len() < size + 2 {
                if !self.more().await {
                    message.body.append(&mut self.read);
                    return None;
                }
            }
            message.body.extend_from_slice(&self.take(size));
            assert_eq!(self.take(2), b"\r\n");
        }
        loop {
            let end = self.find(b"\r\n").await?;
            let line = self.take(end + 2);
            if line == b"\r\n" {
                return Some(());
            }
            message.trailers.extend(fields(&String::from_utf8(line).unwrap()));
        }
    }

    async fn find(&mut self, what: &[u8]) -> Option<usize> {
        let mut from: usize = 0;
        loop {
            if let Some(at) = self.read[from..].windows(what.len()).position(|window| window == what) {
                return Some(from + at);
            }
            from = self.read.len().saturating_sub(what.len());
            if !self.more().await {
                return None;
            }
        }
    }

    /// `count` bytes off the front of what was read.
    pub fn take(&mut self, count: usize) -> Vec<u8> {
        let rest = self.read.split_off(count);
        std::mem::replace(&mut self.read, rest)
    }

    /// What was read and not taken.
    pub fn unread(&self) -> &[u8] {
        &self.read
    }
}

impl Message {
    /// The value of a field, if it is there once.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        let only = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} more than once in {self:?}");
        only
    }

    /// The status of a response.
    pub fn status(&self) -> u16 {
        self.line
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or_else(|| panic!("{:?}", self.line))
    }

    /// Names of the fields, in lower case, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.fields.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
        names.sort();
        names
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into()
    }
}

fn fields(text: &str) -> Vec<(String, String)> {
    let lines = text.split("\r\n").filter(|line| !line.is_empty());
    lines
        .map(|line| line.split_once(':').unwrap_or_else(|| panic!("no field: {line:?}")))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_string()))
        .collect()
}
