//! Bodies of HTTP/2: a request's as hyper takes it, with its pieces watched; a response's, with the
//! stream that it is counted as.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::StreamCount;
use crate::limits;
use crate::streams::{Piece, StreamTasks};
use crate::upstream::body::{BodyError, Chunk, RequestBody, ResponseError};
use crate::upstream::patience::Progress;
use crate::upstream::pool::{Expiry, Lease};

/// A request's body as hyper takes it.
pub struct OutgoingBody {
    body: RequestBody,
    progress: Option<Arc<Progress>>,
    /// Once it is on a connection: its piece, and until it is first asked for, who is to watch it.
    piece: Option<Arc<Piece>>,
    tasks: Option<StreamTasks>,
}

/// Why a request's body ended before its end, in a form that hyper makes CANCEL of (RFC 9113, 7: the
/// stream is no longer needed). Of any other error it would make INTERNAL_ERROR, a fault of ours.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct Broken {
    why: BodyError,
    #[source]
    reset: h2::Error,
}

/// A response's body; the stream counts as in flight until it is dropped.
pub struct ResponseBody {
    incoming: Incoming,
    lease: Lease,
    expiry: Expiry,
    /// Of the request.
    piece: Arc<Piece>,
    _stream: StreamCount,
}

impl OutgoingBody {
    /// Of `body`, not on a connection yet.
    pub fn new(body: RequestBody) -> Self {
        Self { body, progress: None, piece: None, tasks: None }
    }

    /// Gives it the body that it was made without.
    pub fn set(&mut self, body: RequestBody) {
        self.body = body;
    }

    /// Tells `progress` of each step.
    pub fn tell(&mut self, progress: Option<Arc<Progress>>) {
        self.progress = progress;
    }

    /// It is sent by one of `tasks`, which watches `piece`.
    pub(super) fn goes_by(&mut self, piece: Arc<Piece>, tasks: StreamTasks) {
        (self.piece, self.tasks) = (Some(piece), Some(tasks));
    }
}

impl Body for OutgoingBody {
    type Data = Chunk;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, Broken>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        if let Some(piece) = &this.piece {
            piece.passed();
            // hyper polls it once before it spawns the task that goes on with it.
            if let Some(tasks) = this.tasks.take() {
                tasks.next(piece.clone());
            }
        }
        let frame = body.as_mut().poll_frame(context);
        match (&this.piece, &frame) {
            (Some(piece), Poll::Ready(Some(Ok(_)))) => piece.taken(),
            (Some(piece), Poll::Ready(Some(Err(why)))) => piece.broke(*why),
            _ => {}
        }
        if let Some(progress) = &this.progress {
            progress.step(frame.is_ready());
        }
        frame.map(|frame| frame.map(|frame| frame.map_err(Broken::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), |body| body.size_hint())
    }
}

impl Drop for OutgoingBody {
    fn drop(&mut self) {
        // Nothing is held any more.
        self.piece.iter().for_each(|piece| piece.passed());
    }
}

impl From<BodyError> for Broken {
    fn from(why: BodyError) -> Self {
        Self { why, reset: h2::Reason::CANCEL.into() }
    }
}

impl Drop for ResponseBody {
    /// A request that is longer than its answer goes on for as long as the endpoint makes room; one
    /// whose answer nobody reads to its end is broken off.
    fn drop(&mut self) {
        self.piece.hurry(match self.incoming.is_end_stream() {
            true => limits::DRAIN_REQUEST_TIME,
            false => Duration::ZERO,
        });
    }
}

impl ResponseBody {
    /// To be read from `incoming`, which is `stream`'s. `piece` is of the request's body.
    pub(super) fn new(incoming: Incoming, lease: Lease, piece: Arc<Piece>, stream: StreamCount) -> Self {
        Self { incoming, lease, expiry: Expiry::default(), piece, _stream: stream }
    }

    /// The next frame of the response.
    pub fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseError>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(context);
        if polled.is_pending() && self.lease.poll_expired(&mut self.expiry, context).is_ready() {
            let error = ResponseError::Upstream("the endpoint was removed".to_owned());
            return Poll::Ready(Some(Err(error)));
        }
        let frame = ready!(polled);
        Poll::Ready(frame.map(|frame| frame.map_err(|error| ResponseError::Upstream(error.to_string()))))
    }

    /// Whether the response was read to its end.
    pub fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    /// What is known of the rest's size.
    pub fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
