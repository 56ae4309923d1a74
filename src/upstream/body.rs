//! What is sent to an endpoint and what comes back.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

use super::http1;
use super::http2;
use crate::memory::Charge;

/// A request's body; `None` where the head ends the message.
pub type RequestBody = Option<Pin<Box<dyn Body<Data = Chunk, Error = BodyError> + Send>>>;

/// A piece of a body, with what it costs whoever holds it.
pub struct Chunk {
    bytes: Bytes,
    _charge: Option<Charge>,
}

/// Why a request's body ended before its end. The endpoint is shown a broken message, never one that
/// looks complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The client went away.
    #[error("the client went away")]
    ClientGone,
    /// What the client sends breaks the framing that it announced.
    #[error("malformed request body")]
    Malformed,
    /// It is longer than its route takes.
    #[error("the request's body is too large")]
    TooLarge,
    /// Whoever sends it gave it up.
    #[error("the request was broken off")]
    Cut,
}

/// A response's body, which gives its connection back at its end.
pub enum ResponseBody {
    /// From an HTTP/1 connection.
    Http1(Box<http1::Exchange>),
    /// From an HTTP/2 stream.
    Http2(http2::body::ResponseBody),
    /// There is none.
    Empty,
}

/// Why a response's body ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum ResponseError {
    /// The endpoint closed, reset, or sent what is not HTTP.
    #[error("the response broke off: {0}")]
    Upstream(String),
    /// The transaction took longer than `timeouts.request`.
    #[error("the transaction took too long")]
    Timeout,
}

/// A request's body in one piece.
pub struct Whole(Option<Bytes>);

impl Whole {
    /// A body of `bytes`.
    pub fn new(bytes: Bytes) -> Self {
        Self(Some(bytes))
    }
}

impl Body for Whole {
    type Data = Chunk;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, BodyError>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(Chunk::free(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}

impl Chunk {
    /// A piece that costs nobody.
    pub fn free(bytes: Bytes) -> Self {
        Self { bytes, _charge: None }
    }

    /// What is left of it.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// A piece that is booked somewhere until it is written.
    pub fn charged(bytes: Bytes, charge: Charge) -> Self {
        Self { bytes, _charge: Some(charge) }
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Chunk({} bytes)", self.bytes.len())
    }
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }

    fn copy_to_bytes(&mut self, count: usize) -> Bytes {
        self.bytes.copy_to_bytes(count)
    }
}

impl ResponseBody {
    /// Goes on with the request while nobody reads its response. Ready when it was written, or cannot
    /// be, or goes on by itself.
    pub fn poll_written(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Http1(exchange) => exchange.poll_written(context),
            // hyper sends each request in a task of its own.
            Self::Http2(_) | Self::Empty => Poll::Ready(()),
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = ResponseError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseError>>> {
        match self.get_mut() {
            Self::Http1(exchange) => exchange.poll_frame(context),
            Self::Http2(body) => body.poll_frame(context),
            Self::Empty => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(exchange) => exchange.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
            Self::Empty => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(exchange) => exchange.size_hint(),
            Self::Http2(body) => body.size_hint(),
            Self::Empty => SizeHint::with_exact(0),
        }
    }
}
