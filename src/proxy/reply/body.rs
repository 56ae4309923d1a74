//! The body of every reply, from an endpoint or from us, on its way to the client.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

use super::Reason;
use super::trailers::Trailers;
use crate::limits;
use crate::proxy::record::Finish;
use crate::streams::Piece;
use crate::telemetry::access_log::ResponseFlag as Flag;
use crate::upstream::body::{ResponseBody, ResponseError};
use crate::worker::alarms::Alarm;

/// The body of every reply. Its end, or its being dropped, is the end of the transaction.
pub struct ReplyBody {
    content: Content,
    finish: Finish,
    deadline: Option<Alarm>,
    trailers: Trailers,
    pieces: Option<Pieces>,
}

/// A body in pieces of which somebody watches how long they are held.
struct Pieces {
    piece: Arc<Piece>,
    /// What of the last frame was not handed over yet.
    rest: Bytes,
}

/// Where the bytes of a reply come from.
pub enum Content {
    /// From us.
    Own(Bytes),
    /// From an endpoint.
    Upstream(ResponseBody),
}

impl ReplyBody {
    /// A reply of `content`, whose end is reported to `finish`, and which is broken off at `deadline`.
    pub fn new(content: Content, finish: Finish, deadline: Option<Alarm>, trailers: Trailers) -> Self {
        let mut reply = Self { content, finish, deadline, trailers, pieces: None };
        // Nobody asks a body for what it does not have: hyper sends the head alone.
        if reply.is_end_stream() {
            reply.finish.complete();
        }
        reply
    }

    /// The same, with `piece` told what of it was taken.
    pub fn told_to(self, piece: Option<Arc<Piece>>) -> Self {
        Self { pieces: piece.map(|piece| Pieces { piece, rest: Bytes::new() }), ..self }
    }
}

impl Pieces {
    /// The next piece is asked for: there was room for the last. What is left of its frame comes first.
    fn rest(&mut self) -> Option<Bytes> {
        self.piece.passed();
        Some(std::mem::take(&mut self.rest)).filter(|rest| !rest.is_empty())
    }

    /// Hands `data` over, no more of it than a piece, and keeps the rest.
    fn hand(&mut self, data: &mut Bytes) {
        self.rest = data.split_off(data.len().min(limits::HTTP2_PIECE));
        self.piece.taken();
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = ResponseError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseError>>> {
        let reply = self.get_mut();
        if let Some(deadline) = &mut reply.deadline
            && Pin::new(deadline).poll(context).is_ready()
        {
            reply.content = Content::Own(Bytes::new());
            reply.finish.broke(Reason { flag: Flag::UpstreamTimeout, details: "request_timeout" });
            return Poll::Ready(Some(Err(ResponseError::Timeout)));
        }
        let rest = reply.pieces.as_mut().and_then(Pieces::rest);
        let mut frame = match (rest, &mut reply.content) {
            (Some(rest), _) => Poll::Ready(Some(Ok(Frame::data(rest)))),
            (None, Content::Own(bytes)) if bytes.is_empty() => Poll::Ready(None),
            (None, Content::Own(bytes)) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            (None, Content::Upstream(body)) => Pin::new(body).poll_frame(context),
        };
        if let Poll::Ready(Some(Ok(frame))) = &mut frame {
            match (frame.data_mut(), &mut reply.pieces) {
                (Some(data), Some(pieces)) => pieces.hand(data),
                (Some(_), None) => {}
                (None, _) => {
                    if frame.trailers_mut().is_some_and(|trailers| reply.trailers.restrict(trailers)) {
                        reply.finish.dropped_trailers();
                    }
                }
            }
        }
        match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                reply.finish.sent(frame.data_ref().map_or(0, Buf::remaining));
                if let Some(trailers) = frame.trailers_ref() {
                    reply.finish.fields(trailers);
                }
                if reply.is_end_stream() {
                    reply.finish.complete();
                }
            }
            Poll::Ready(Some(Err(_))) => {
                reply.finish.broke(Reason {
                    flag: Flag::UpstreamConnectionTermination,
                    details: "upstream_reset_after_response_started",
                });
            }
            Poll::Ready(None) => reply.finish.complete(),
            Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        let rest = self.pieces.as_ref().is_some_and(|pieces| !pieces.rest.is_empty());
        !rest
            && match &self.content {
                Content::Own(bytes) => bytes.is_empty(),
                Content::Upstream(body) => body.is_end_stream(),
            }
    }

    /// Asked for before the body is begun, to tell its length.
    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Own(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Upstream(body) => body.size_hint(),
        }
    }
}
