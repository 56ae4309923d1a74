//! The request's way out over HTTP/1: head, body and trailers, in as few writes as may be.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use tokio::io::AsyncWrite;
use tokio::time::Sleep;

use super::head::{Length, write_request, write_trailers};
use crate::limits;
use crate::upstream::body::{BodyError, Chunk, RequestBody};
use crate::upstream::message::Head;
use crate::upstream::patience::Progress;
use crate::upstream::stream::Stream;
use crate::worker::yielding::Yield;

/// Chunks below this are gathered with what is written beside them: one `write` of a small buffer is
/// cheaper than a `writev`, and larger ones are never copied.
const GATHER_BELOW: usize = 4 * 1024;

/// RFC 9110, 10.1.1: a client that expects 100 must not wait for ever, nor must we.
const CONTINUE_PATIENCE: Duration = Duration::from_secs(1);

/// One request on its way out. Until something of it was sent it can go out on another connection.
pub struct Upload {
    /// Head, framing and small chunks; goes before `chunk`.
    buffer: BytesMut,
    chunk: Option<Chunk>,
    body: RequestBody,
    length: Length,
    first_chunk: bool,
    expects: bool,
    /// Holds the body back until the endpoint asks for it.
    hold: Option<Pin<Box<Sleep>>>,
    /// Why the body broke off: it stays broken, however often it is polled.
    broken: Option<BodyError>,
    progress: Option<Arc<Progress>>,
    upgrade: bool,
    sent: bool,
    /// Written to a stream that may hold it back until it is flushed, as TLS does.
    unflushed: bool,
    blocked: bool,
    /// Of its first write.
    yields: Yield,
    /// How long the endpoint may go on not reading, once somebody bounds it.
    stall: Option<Pin<Box<Sleep>>>,
}

/// Why a request cannot be sent to its end.
#[derive(Debug)]
pub enum UploadError {
    /// The connection broke. A response may still be there to read.
    Io(io::Error),
    /// The body broke off, or is not as long as its head says.
    Body(BodyError),
}

impl Upload {
    /// The request of `head` and `body`.
    pub fn new(head: &Head<'_>, host: Option<&HeaderValue>, body: RequestBody) -> Self {
        let mut buffer = BytesMut::new();
        let expects = write_request(&mut buffer, head, host);
        let length = head.length;
        let mut upload = Self {
            buffer,
            chunk: None,
            body: None,
            length,
            first_chunk: true,
            expects,
            hold: None,
            broken: None,
            progress: None,
            upgrade: head.upgrade.is_some(),
            sent: false,
            unflushed: false,
            blocked: false,
            yields: Yield::default(),
            stall: None,
        };
        upload.set_body(body);
        upload
    }

    /// Gives it the body that it was made without.
    pub fn set_body(&mut self, body: RequestBody) {
        let expects = self.expects && body.is_some();
        self.hold = expects.then(|| Box::pin(tokio::time::sleep(CONTINUE_PATIENCE)));
        self.body = body;
    }

    /// One of which nothing is left to send.
    pub fn done() -> Self {
        let length = Length::None;
        let buffer = BytesMut::new();
        Self {
            buffer,
            chunk: None,
            body: None,
            length,
            first_chunk: true,
            expects: false,
            hold: None,
            broken: None,
            progress: None,
            upgrade: false,
            sent: true,
            unflushed: false,
            blocked: false,
            yields: Yield::default(),
            stall: None,
        }
    }

    /// Tells `progress` of each step of the body.
    pub fn tell(&mut self, progress: Option<Arc<Progress>>) {
        self.progress = progress;
    }

    /// Its first write is to let others go first.
    pub fn gather(&mut self) {
        self.yields.due();
    }

    /// Whether it lets others go first: nothing can have been answered yet.
    pub fn lets_others_first(&self) -> bool {
        self.yields.is_waiting()
    }

    /// Whether any byte left.
    pub fn sent(&self) -> bool {
        self.sent
    }

    /// Whether all of it left.
    pub fn is_done(&self) -> bool {
        self.body.is_none() && self.chunk.is_none() && self.buffer.is_empty() && !self.unflushed
    }

    /// Whether the endpoint has not asked for the body that it could have had.
    pub fn is_held(&self) -> bool {
        self.hold.is_some()
    }

    /// Whether it asks for another protocol.
    pub fn asks_to_upgrade(&self) -> bool {
        self.upgrade
    }

    /// Whether it waits for the endpoint to read, not for the client to write.
    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Ready when the endpoint has taken nothing for [`limits::WRITE_STALL`]. Costs a timer only where it
    /// does not read.
    pub fn poll_stalled(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.blocked {
            return Poll::Pending;
        }
        let stall = || Box::pin(tokio::time::sleep(limits::WRITE_STALL));
        self.stall.get_or_insert_with(stall).as_mut().poll(context)
    }

    /// The endpoint wants the body.
    pub fn proceed(&mut self) {
        self.hold = None;
    }

    /// Gives the rest up.
    pub fn abandon(&mut self) {
        (self.body, self.chunk, self.hold, self.stall) = (None, None, None, None);
        (self.unflushed, self.blocked) = (false, false);
        self.buffer.clear();
    }

    /// Sends what can be sent; ready when all of it is.
    pub fn poll(&mut self, stream: &mut Stream, context: &mut Context<'_>) -> Poll<Result<(), UploadError>> {
        loop {
            // Pulling before writing lets the head and a small body leave together.
            if self.chunk.is_none() && self.buffer.len() < GATHER_BELOW && self.poll_pull(context)?.is_ready()
            {
                continue;
            }
            let rest = self.chunk.as_ref().map_or(&[][..], Buf::chunk);
            if self.buffer.is_empty() && rest.is_empty() {
                if self.unflushed {
                    let flushed = Pin::new(&mut *stream).poll_flush(context);
                    self.blocked = flushed.is_pending();
                    ready!(flushed).map_err(UploadError::Io)?;
                    self.unflushed = false;
                }
                self.blocked = false;
                return if self.body.is_none() { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            ready!(self.yields.poll(context));
            let stream = Pin::new(&mut *stream);
            let written = match (self.buffer.is_empty(), rest.is_empty()) {
                (_, true) => stream.poll_write(context, &self.buffer),
                (true, _) => stream.poll_write(context, rest),
                _ => stream.poll_write_vectored(context, &[IoSlice::new(&self.buffer), IoSlice::new(rest)]),
            };
            self.blocked = written.is_pending();
            match ready!(written) {
                Ok(0) => return Poll::Ready(Err(UploadError::Io(io::ErrorKind::WriteZero.into()))),
                Ok(count) => self.advance(count),
                Err(error) => return Poll::Ready(Err(UploadError::Io(error))),
            }
        }
    }

    /// Takes the next frame of the body; pending when there is none to take now, or ever.
    fn poll_pull(&mut self, context: &mut Context<'_>) -> Poll<Result<(), UploadError>> {
        if let Some(hold) = &mut self.hold {
            ready!(hold.as_mut().poll(context));
            self.hold = None;
        }
        if let Some(broken) = self.broken {
            return Poll::Ready(Err(UploadError::Body(broken)));
        }
        let Some(body) = &mut self.body else { return Poll::Pending };
        let polled = body.as_mut().poll_frame(context);
        if let Some(progress) = &self.progress {
            progress.step(polled.is_ready());
        }
        let frame = ready!(polled).transpose().map_err(|error| self.breaks(error))?;
        match frame.map(Frame::into_data) {
            Some(Ok(chunk)) => self.take(chunk)?,
            Some(Err(frame)) => self.end(frame.into_trailers().ok())?,
            None => self.end(None)?,
        }
        Poll::Ready(Ok(()))
    }

    fn breaks(&mut self, error: BodyError) -> UploadError {
        self.broken = Some(error);
        UploadError::Body(error)
    }

    fn take(&mut self, chunk: Chunk) -> Result<(), UploadError> {
        let size = chunk.remaining();
        if size == 0 {
            return Ok(());
        }
        match &mut self.length {
            Length::Exact(left) => match left.checked_sub(size as u64) {
                Some(rest) => *left = rest,
                None => return Err(self.breaks(BodyError::Cut)),
            },
            _ => {
                let line_end = if std::mem::take(&mut self.first_chunk) { "" } else { "\r\n" };
                self.buffer.extend_from_slice(format!("{line_end}{size:x}\r\n").as_bytes());
            }
        }
        if size < GATHER_BELOW {
            self.buffer.extend_from_slice(chunk.chunk());
        } else {
            self.chunk = Some(chunk);
        }
        Ok(())
    }

    fn end(&mut self, trailers: Option<HeaderMap>) -> Result<(), UploadError> {
        self.body = None;
        match self.length {
            // Shorter than announced must not look complete.
            Length::Exact(left) if left > 0 => return Err(self.breaks(BodyError::Cut)),
            Length::Chunked => {
                self.buffer.extend_from_slice(if self.first_chunk { b"0\r\n" } else { b"\r\n0\r\n" });
                write_trailers(&mut self.buffer, &trailers.unwrap_or_default());
            }
            _ => {}
        }
        Ok(())
    }

    fn advance(&mut self, count: usize) {
        (self.sent, self.unflushed, self.stall) = (true, true, None);
        let head = count.min(self.buffer.len());
        self.buffer.advance(head);
        if let Some(chunk) = &mut self.chunk {
            chunk.advance(count - head);
            if !chunk.has_remaining() {
                self.chunk = None;
            }
        }
    }
}

#[cfg(test)]
mod tests;
