//! The body of a client's request, and what becomes of the rest when nobody wants it.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

use super::framing::refusal::Refusal;
use super::sanitize;
use crate::limits;
use crate::upstream::body::{BodyError, Chunk};
use crate::worker::Worker;

/// What a client sends, counted.
pub struct ClientBody<B> {
    incoming: B,
    received: Arc<AtomicU64>,
    most: u64,
}

/// A body whose rest is read and thrown away when it is dropped before its end, within
/// [`limits::DRAIN_REQUEST_BYTES`] and [`limits::DRAIN_REQUEST_TIME`]: a client that still sends when
/// it is answered early would otherwise see a reset instead of the answer.
pub struct Drained<B>
where
    B: Body<Data = Chunk, Error = BodyError> + Send + Unpin + 'static,
{
    body: Option<B>,
    worker: Arc<Worker>,
    /// The client waits to be told to send it (RFC 9110, 10.1.1). Polling tells it; once it has its
    /// answer, it must not be told, so its rest is not read either.
    unasked: bool,
}

impl<B> ClientBody<B> {
    /// Counts what comes into `received`; more than `most` bytes are an error.
    pub fn new(incoming: B, received: Arc<AtomicU64>, most: u64) -> Self {
        Self { incoming, received, most }
    }
}

impl<B: Body<Data = Bytes, Error: std::error::Error + 'static> + Unpin> Body for ClientBody<B> {
    type Data = Chunk;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, BodyError>>> {
        let frame = match ready!(Pin::new(&mut self.incoming).poll_frame(context)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(broken(&error)))),
            Some(Ok(frame)) => frame,
        };
        let mut frame = frame;
        if let Some(trailers) = frame.trailers_mut() {
            // No check of the head has seen them.
            sanitize::trailers(trailers);
        }
        let mut received = 0;
        let frame = frame.map_data(|bytes| {
            received = self.received.fetch_add(bytes.len() as u64, Ordering::Relaxed) + bytes.len() as u64;
            Chunk::free(bytes)
        });
        if received > self.most {
            return Poll::Ready(Some(Err(BodyError::TooLarge)));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl<B> Drained<B>
where
    B: Body<Data = Chunk, Error = BodyError> + Send + Unpin + 'static,
{
    /// Guards `body`; the rest is read on `worker`. `expected`: the client waits to be told to send it.
    pub fn new(body: B, worker: Arc<Worker>, expected: bool) -> Self {
        Self { body: Some(body), worker, unasked: expected }
    }
}

impl<B> Body for Drained<B>
where
    B: Body<Data = Chunk, Error = BodyError> + Send + Unpin + 'static,
{
    type Data = Chunk;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, BodyError>>> {
        self.unasked = false;
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(&mut *body).poll_frame(context));
        if !matches!(frame, Some(Ok(_))) || body.is_end_stream() {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl<B> Drop for Drained<B>
where
    B: Body<Data = Chunk, Error = BodyError> + Send + Unpin + 'static,
{
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) else { return };
        if self.unasked {
            return;
        }
        self.worker.spawn(async move {
            let reading = pin!(read_away(body));
            // Out of time or of patience: dropping the body closes the connection.
            let _ended = tokio::time::timeout(limits::DRAIN_REQUEST_TIME, reading).await;
        });
    }
}

/// What the end of a body means that hyper gives up: bytes that are no body, or none any more.
fn broken(error: &(impl std::error::Error + 'static)) -> BodyError {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            let refused = io.get_ref().is_some_and(|inner| inner.is::<Refusal>());
            let kinds = [io::ErrorKind::InvalidData, io::ErrorKind::InvalidInput];
            if refused || kinds.contains(&io.kind()) {
                return BodyError::Malformed;
            }
        }
        source = cause.source();
    }
    BodyError::ClientGone
}

async fn read_away(body: impl Body<Data = Chunk, Error = BodyError> + Unpin) {
    let mut body = body;
    let mut left = limits::DRAIN_REQUEST_BYTES;
    while let Some(Ok(frame)) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await
    {
        let size = frame.data_ref().map_or(0, Buf::remaining);
        let Some(rest) = left.checked_sub(size) else { return };
        left = rest;
    }
}
