//! HTTP/2 to an endpoint: connections shared by the exchanges of one worker and lane.

pub mod body;

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::{Either, select};
use futures_util::task::AtomicWaker;
use http::header::SEC_WEBSOCKET_KEY;
use http::{HeaderValue, Method, Request, StatusCode, Uri, Version};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::ext::Protocol;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioIo, TokioTimer};

use self::body::{OutgoingBody, ResponseBody};
use super::body::{BodyError, RequestBody};
use super::http1::head::Length;
use super::message::Head;
use super::pool::Lease;
use super::stream::Stream;
use crate::limits;
use crate::streams::{Piece, StreamTasks, Watch};

/// A connection that several exchanges share.
#[derive(Clone)]
pub struct Connection {
    sender: SendRequest<OutgoingBody>,
    shared: Arc<Shared>,
    tasks: StreamTasks,
}

/// What is known of a connection.
struct Shared {
    streams: AtomicUsize,
    /// Streams that the endpoint allows, as far as it has said so.
    allowed: AtomicUsize,
    /// Whether it has said that it takes extended CONNECT (RFC 8441, 3).
    takes_connect: AtomicBool,
    /// Looks again at what the endpoint has said.
    look: AtomicWaker,
    /// Requests that were answered.
    answers: AtomicUsize,
    /// Requests that were given up since the last answer.
    unanswered: AtomicUsize,
}

/// A request that waits for its answer.
struct Waiting {
    shared: Arc<Shared>,
    /// Answers that there were when it began.
    answers: usize,
}

/// A stream that carries another protocol; it counts as in flight until it is dropped.
#[derive(Debug)]
pub struct Tunnel {
    /// What it carries.
    pub upgraded: TokioIo<Upgraded>,
    _stream: StreamCount,
}

/// Why there is no response.
pub enum Failure {
    /// The stream or the connection failed. A request that was never written comes along.
    Stream(hyper::Error, Option<Box<Request<OutgoingBody>>>),
    /// The endpoint does not take what another protocol is carried by.
    NoConnect,
    /// The endpoint was removed and has had its time.
    Removed,
    /// The request broke off before its end, which the endpoint was shown by a reset.
    Request(BodyError),
}

struct StreamCount(Arc<Shared>);

impl Connection {
    /// Greets the endpoint and runs the connection on `lease`'s worker.
    pub async fn open(stream: Stream, lease: &Lease) -> Result<Self, hyper::Error> {
        let shared = Arc::new(Shared {
            streams: AtomicUsize::new(0),
            allowed: AtomicUsize::new(limits::HTTP2_STREAMS as usize),
            takes_connect: AtomicBool::new(false),
            look: AtomicWaker::new(),
            answers: AtomicUsize::new(0),
            unanswered: AtomicUsize::new(0),
        });
        let tasks = StreamTasks::new(lease.worker().clone(), shared.clone());
        let (sender, mut connection) = Builder::new(tasks.clone())
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
        let told = shared.clone();
        lease.worker().spawn(async move {
            // Each exchange is told of its own failure; the connection's adds nothing to it.
            let _ended = poll_fn(|context| {
                told.look.register(context.waker());
                let ended = Pin::new(&mut connection).poll(context);
                let most = connection.current_max_send_streams().min(limits::HTTP2_STREAMS as usize);
                told.allowed.store(most, Ordering::Relaxed);
                let takes_connect = connection.is_extended_connect_protocol_enabled();
                told.takes_connect.store(takes_connect, Ordering::Relaxed);
                ended
            })
            .await;
        });
        Ok(Self { sender, shared, tasks })
    }

    /// Whether it takes requests at all.
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Whether it is better replaced: the last requests were given up, and nothing was answered in the
    /// meantime. Where a network drops packets instead of resetting, the connection looks open for a
    /// quarter of an hour, and each request would wait for its time-out on it.
    pub fn is_silent(&self) -> bool {
        self.shared.unanswered.load(Ordering::Relaxed) >= limits::HTTP2_UNANSWERED
    }

    /// Requests that it has answered.
    pub fn answers(&self) -> usize {
        self.shared.answers.load(Ordering::Relaxed)
    }

    /// Exchanges that use it.
    pub fn streams(&self) -> usize {
        self.shared.streams.load(Ordering::Relaxed)
    }

    /// Whether it takes one more without others waiting for it.
    pub fn has_room(&self) -> bool {
        self.is_open() && self.streams() < self.shared.allowed.load(Ordering::Relaxed)
    }

    /// Sends a request and waits for the head of the response. One by which another protocol is asked
    /// for is answered with 101 and the stream that carries it, whichever way HTTP/2 says so.
    pub async fn exchange(
        &mut self,
        lease: Lease,
        mut request: Request<OutgoingBody>,
    ) -> Result<(http::Response<super::body::ResponseBody>, Option<(Lease, Tunnel)>), Failure> {
        let stream = StreamCount::new(&self.shared);
        let connects = request.method() == Method::CONNECT;
        if connects && !self.takes_connect().await {
            return Err(Failure::NoConnect);
        }
        let piece = Piece::new(None);
        request.body_mut().goes_by(piece.clone(), self.tasks.clone());
        let waiting = Waiting::new(&self.shared);
        let response = {
            let sending = pin!(self.sender.try_send_request(request));
            match select(sending, pin!(lease.expired())).await {
                Either::Left((response, _)) => response,
                Either::Right(_) => return Err(Failure::Removed),
            }
        };
        waiting.answered();
        let mut response = response.map_err(|mut error| {
            if let Some(why) = piece.broken() {
                return Failure::Request(why);
            }
            let request = error.take_message().map(Box::new);
            Failure::Stream(error.into_error(), request)
        })?;
        *response.version_mut() = Version::HTTP_11;
        if connects && response.status() == StatusCode::OK {
            let upgraded = hyper::upgrade::on(&mut response).await;
            let upgraded = upgraded.map_err(|error| Failure::Stream(error, None))?;
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let tunnel = Tunnel { upgraded: TokioIo::new(upgraded), _stream: stream };
            return Ok((response.map(|_| super::body::ResponseBody::Empty), Some((lease, tunnel))));
        }
        // An endpoint that answers and does not read: its answer goes on without the rest.
        piece.hurry(limits::WRITE_STALL);
        let body = |incoming| ResponseBody::new(incoming, lease, piece, stream);
        Ok((response.map(|incoming| super::body::ResponseBody::Http2(body(incoming))), None))
    }

    /// Whether the endpoint takes extended CONNECT, as it says soon after the connection was made.
    async fn takes_connect(&self) -> bool {
        // hyper tells nobody when the endpoint's settings come, but it can be asked. Only the first
        // such request of a connection finds no answer at once.
        let asked = async {
            while !self.shared.takes_connect.load(Ordering::Relaxed) {
                self.shared.look.wake();
                tokio::time::sleep(limits::HTTP2_SETTINGS_LOOK).await;
            }
        };
        tokio::time::timeout(limits::HTTP2_SETTINGS, asked).await.is_ok()
    }
}

/// The request of `parts` in HTTP/2's form: the host is the authority, and there is no Host field. What
/// asks for another protocol becomes extended CONNECT (RFC 8441, 4), whose WebSocket has no key.
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
    let mut request = Request::new(OutgoingBody::new(body));
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
    if let Some(protocol) = head.upgrade {
        *request.method_mut() = Method::CONNECT;
        request.extensions_mut().insert(Protocol::from(protocol.to_str().unwrap_or_default()));
        request.headers_mut().remove(SEC_WEBSOCKET_KEY);
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

impl Watch for Shared {
    /// Not known of connections to endpoints, which are waited for in other ways.
    fn is_blocked(&self) -> bool {
        false
    }

    fn stalled(&self) {}
}

impl Waiting {
    fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: shared.clone(), answers: shared.answers.load(Ordering::Relaxed) }
    }

    /// Whatever the answer is: a reset is one, too.
    fn answered(self) {
        self.shared.answers.fetch_add(1, Ordering::Relaxed);
        self.shared.unanswered.store(0, Ordering::Relaxed);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.shared.answers.load(Ordering::Relaxed) == self.answers {
            self.shared.unanswered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl StreamCount {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.streams.fetch_add(1, Ordering::Relaxed);
        Self(shared.clone())
    }
}

impl Drop for StreamCount {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for StreamCount {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "StreamCount({})", self.0.streams.load(Ordering::Relaxed))
    }
}
