//! The body of a client's request, and what becomes of the rest when nobody wants it.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

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
}

impl<B> ClientBody<B> {
    /// Counts what comes into `received`; more than `most` bytes are an error.
    pub fn new(incoming: B, received: Arc<AtomicU64>, most: u64) -> Self {
        Self { incoming, received, most }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for ClientBody<B> {
    type Data = Chunk;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, BodyError>>> {
        let frame = match ready!(Pin::new(&mut self.incoming).poll_frame(context)) {
            None => return Poll::Ready(None),
            Some(Err(_)) => return Poll::Ready(Some(Err(BodyError::ClientGone))),
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
    /// Guards `body`; the rest is read on `worker`.
    pub fn new(body: B, worker: Arc<Worker>) -> Self {
        Self { body: Some(body), worker }
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
        self.worker.spawn(async move {
            let reading = pin!(read_away(body));
            // Out of time or of patience: dropping the body closes the connection.
            let _ended = tokio::time::timeout(limits::DRAIN_REQUEST_TIME, reading).await;
        });
    }
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
