//! HTTP/2 to an endpoint: connections shared by the exchanges of one worker and lane.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderValue, Request, Uri, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use super::body::{BodyError, Chunk, RequestBody, ResponseError};
use super::http1::head::Length;
use super::message::Head;
use super::patience::Progress;
use super::pool::Lease;
use super::stream::Stream;
use crate::limits;

/// A connection that several exchanges share.
#[derive(Clone)]
pub struct Connection {
    sender: SendRequest<OutgoingBody>,
    streams: Arc<AtomicUsize>,
    /// What the endpoint allows, as far as it has said so.
    allowed: Arc<AtomicUsize>,
}

/// A request's body as hyper takes it.
pub struct OutgoingBody {
    body: RequestBody,
    progress: Option<Arc<Progress>>,
}

/// A response's body; the stream counts as in flight until it is dropped.
pub struct ResponseBody {
    incoming: Incoming,
    _lease: Lease,
    _stream: StreamCount,
}

struct StreamCount(Arc<AtomicUsize>);

impl Connection {
    /// Greets the endpoint and runs the connection on `lease`'s worker.
    pub async fn open(stream: Stream, lease: &Lease) -> Result<Self, hyper::Error> {
        let (sender, mut connection) = Builder::new(TokioExecutor::new())
            .max_header_list_size(limits::HEAD_BYTES as u32)
            .max_concurrent_reset_streams(limits::HTTP2_PENDING_RESETS)
            .initial_stream_window_size(limits::HTTP2_STREAM_WINDOW)
            .initial_connection_window_size(limits::HTTP2_STREAM_WINDOW * limits::HTTP2_STREAMS)
            .max_send_buf_size(limits::HTTP2_SEND_BUFFER)
            .timer(TokioTimer::new())
            .keep_alive_interval(limits::HTTP2_ENDPOINT_PING)
            .keep_alive_timeout(limits::HTTP2_PING_PATIENCE)
            .handshake(TokioIo::new(stream))
            .await?;
        let allowed = Arc::new(AtomicUsize::new(limits::HTTP2_STREAMS as usize));
        let told = allowed.clone();
        lease.worker().spawn(async move {
            // Each exchange is told of its own failure; the connection's adds nothing to it.
            let _ended = poll_fn(|context| {
                let ended = Pin::new(&mut connection).poll(context);
                let most = connection.current_max_send_streams().min(limits::HTTP2_STREAMS as usize);
                told.store(most, Ordering::Relaxed);
                ended
            })
            .await;
        });
        Ok(Self { sender, streams: Arc::default(), allowed })
    }

    /// Whether it takes requests at all.
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Exchanges that use it.
    pub fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// Whether it takes one more without others waiting for it.
    pub fn has_room(&self) -> bool {
        self.is_open() && self.streams() < self.allowed.load(Ordering::Relaxed)
    }

    /// Sends a request and waits for the head of the response. A request that was never written
    /// comes back with the error.
    pub async fn exchange(
        &mut self,
        lease: Lease,
        request: Request<OutgoingBody>,
    ) -> Result<http::Response<ResponseBody>, (hyper::Error, Option<Request<OutgoingBody>>)> {
        let stream = StreamCount::new(&self.streams);
        let response = self.sender.try_send_request(request).await;
        let mut response = response
            .map_err(|mut error| (error.take_message(), error))
            .map_err(|(message, error)| (error.into_error(), message))?;
        *response.version_mut() = Version::HTTP_11;
        Ok(response.map(|incoming| ResponseBody { incoming, _lease: lease, _stream: stream }))
    }
}

/// The request of `parts` in HTTP/2's form: the host is the authority, and there is no Host field.
pub fn request(
    head: &Head<'_>,
    host: Option<&HeaderValue>,
    body: RequestBody,
    scheme: &str,
) -> Result<Request<OutgoingBody>, http::Error> {
    let parts = head.parts;
    let host = host.or_else(|| parts.headers.get(http::header::HOST));
    let authority = host.map_or(&b"localhost"[..], HeaderValue::as_bytes);
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(target).build()?;
    let mut request = Request::new(OutgoingBody { body, progress: None });
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = parts.headers.clone();
    for connection_specific in [http::header::HOST, http::header::TRANSFER_ENCODING, http::header::EXPECT] {
        request.headers_mut().remove(connection_specific);
    }
    if let Length::Exact(bytes) = head.length {
        request.headers_mut().insert(http::header::CONTENT_LENGTH, HeaderValue::from(bytes));
    }
    for name in head.without {
        request.headers_mut().remove(*name);
    }
    for (name, value) in head.extra {
        request.headers_mut().try_append(*name, value.clone())?;
    }
    Ok(request)
}

/// Whether the endpoint has said that it did not process the request: by a GOAWAY that leaves its
/// stream out, or by refusing the stream.
pub fn is_unprocessed(error: &hyper::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
            let left_out = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
            return error.is_remote() && (refused || left_out);
        }
        cause = error.source();
    }
    false
}

impl OutgoingBody {
    /// Gives it the body that it was made without.
    pub fn set(&mut self, body: RequestBody) {
        self.body = body;
    }

    /// Tells `progress` of each step.
    pub fn tell(&mut self, progress: Option<Arc<Progress>>) {
        self.progress = progress;
    }
}

impl Body for OutgoingBody {
    type Data = Chunk;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, BodyError>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        let frame = body.as_mut().poll_frame(context);
        if let Some(progress) = &this.progress {
            progress.step(frame.is_ready());
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), |body| body.size_hint())
    }
}

impl ResponseBody {
    /// The next frame of the response.
    pub fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseError>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(context));
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

impl StreamCount {
    fn new(streams: &Arc<AtomicUsize>) -> Self {
        streams.fetch_add(1, Ordering::Relaxed);
        Self(streams.clone())
    }
}

impl Drop for StreamCount {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
