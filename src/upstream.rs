//! Talking to backends. [`exchange`] is the only way to call anything: a request of a client, a copy
//! of it and a health probe differ in the values of their [`Policy`] and in nothing else.
//!
//! In order: *exchange → balance → pool → connect*. Called by [`crate::proxy`] and
//! [`crate::mirror`]; fed with endpoints by [`crate::discovery`] through the [`registry`].

pub mod backend;
pub mod balance;
pub mod body;
pub mod connect;
pub mod endpoint;
pub mod endpoint_set;
pub mod http1;
pub mod http2;
pub mod message;
pub mod patience;
pub mod pool;
pub mod registry;
pub mod stream;
pub mod tls;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};

use self::backend::Backend;
use self::body::{BodyError, ResponseBody};
use self::connect::{ConnectError, connect};
use self::endpoint::Endpoint;
use self::http1::head::{Length, NotHttp};
use self::message::{Either, Head, Message};
use self::patience::{Progress, patiently};
use self::pool::Lease;
use self::stream::Stream;
use self::tls::TlsError;
use crate::limits;
use crate::plan::Protocol;
use crate::shard::Lane;
use crate::worker::Worker;

/// What tells one kind of exchange from another.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Whose connections, counts and metrics it uses.
    pub lane: Lane,
    /// To establish a connection.
    pub connect: Duration,
    /// One attempt, up to the response's head.
    pub attempt: Option<Duration>,
    /// Endpoints tried before giving up.
    pub attempts: u32,
    /// Whether the response's fields are wanted.
    pub fields: bool,
}

/// A response's head, with a body still to be read.
pub struct Exchanged {
    /// The response.
    pub response: Response<ResponseBody>,
    /// Who sent it.
    pub endpoint: Arc<Endpoint>,
    /// After 101: the connection, to be spliced to the client's.
    pub tunnel: Option<(Lease, Stream, bytes::Bytes)>,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The backend has no endpoints.
    #[error("no endpoints")]
    NoEndpoints,
    /// No endpoint could be connected to.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No endpoint could be spoken to by TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No head of a response in time.
    #[error("no response within {0:?}")]
    Timeout(Duration),
    /// The connection ended before a response.
    #[error("the endpoint closed the connection before it answered")]
    Reset,
    /// What came is not HTTP.
    #[error("not HTTP: {0}")]
    Protocol(String),
    /// The request itself broke off.
    #[error(transparent)]
    Request(#[from] BodyError),
}

/// Sends `message` to one endpoint of `backend` and waits for the head of the response.
///
/// A connect failure, or a request of which nothing was written, goes on to another endpoint. What
/// was written is repeated once, and only from `again`: when a reused connection closed before any
/// byte of a response to a request without a body, whose method may be repeated.
pub async fn exchange(
    worker: &Arc<Worker>,
    backend: &Backend,
    mut message: Message,
    again: Option<&Head<'_>>,
    policy: &Policy,
) -> Result<Exchanged, ExchangeError> {
    let mut tried: Vec<Arc<Endpoint>> = Vec::new();
    let has_body = again.is_some_and(|head| !matches!(head.length, Length::None | Length::Exact(0)));
    let progress = (has_body && policy.attempt.is_some()).then(Progress::new);
    let mut again = again.filter(|head| head.length == Length::None);
    loop {
        let lease = lease(worker, backend, &tried, policy.lane)?;
        let endpoint = lease.endpoint().clone();
        message.tell(progress.clone());
        // Pinned once: either arm of the match would otherwise have room for it of its own.
        let attempt = pin!(attempt(lease, backend, message, policy));
        let ended = match policy.attempt {
            Some(patience) => {
                patiently(attempt, patience, progress.as_deref()).await.unwrap_or(Err(Failed {
                    error: ExchangeError::Timeout(patience),
                    unsent: None,
                    unprocessed: false,
                    reused: false,
                }))
            }
            None => attempt.await,
        };
        let failed = match ended {
            Ok((response, tunnel)) => {
                backend.metrics().answered(worker.id(), policy.lane, Some(response.status()));
                return Ok(Exchanged { response, endpoint, tunnel });
            }
            Err(failed) => failed,
        };
        backend.metrics().answered(worker.id(), policy.lane, None);
        let stale = failed.reused && matches!(failed.error, ExchangeError::Reset);
        let again = again.take_if(|head| failed.unprocessed || (stale && head.is_repeatable()));
        message = match (failed.unsent, again) {
            (Some(unsent), _) => unsent,
            (None, Some(head)) => Message::new(backend, head, None)?,
            (None, None) => return Err(failed.error),
        };
        // A stale connection says nothing of its endpoint; a refused one does.
        if !failed.reused {
            tried.push(endpoint);
        }
        if tried.len() as u32 >= policy.attempts || tried.len() >= backend.endpoints().len() {
            return Err(failed.error);
        }
        backend.metrics().retried(worker.id(), policy.lane);
    }
}

/// One attempt that came to nothing.
struct Failed {
    error: ExchangeError,
    /// The request, if nothing of it was sent.
    unsent: Option<Message>,
    /// The endpoint has said that it did not look at it (RFC 9113, 8.7).
    unprocessed: bool,
    /// Whether the connection had served another exchange before.
    reused: bool,
}

/// Picks an endpoint and counts the exchange on it. This is where it is checked that nobody is sent
/// to an endpoint that was retired before the pick, apart from the balancer that picked it.
fn lease(
    worker: &Arc<Worker>,
    backend: &Backend,
    tried: &[Arc<Endpoint>],
    lane: Lane,
) -> Result<Lease, ExchangeError> {
    loop {
        let set = backend.endpoints();
        let draws = [worker.random(), if set.len() > 1 { worker.random() } else { 0 }];
        let load = |endpoint: &Endpoint| endpoint.pool(worker.id(), lane).in_flight();
        let endpoint = balance::pick(&set, tried, draws, load).ok_or(ExchangeError::NoEndpoints)?;
        match endpoint.retired() {
            // The set was swapped between the load and now: pick from the new one.
            Some(generation) if generation > set.generation() => continue,
            Some(_) => backend.metrics().sent_to_removed(worker.id(), lane),
            None => {}
        }
        return Ok(Lease::new(worker.clone(), endpoint.clone(), lane));
    }
}

type Answer = (Response<ResponseBody>, Option<(Lease, Stream, bytes::Bytes)>);

impl Failed {
    /// Nothing was sent, since there was no connection.
    fn unconnected(error: ExchangeError, message: Message) -> Self {
        Self { error, unsent: Some(message), unprocessed: false, reused: false }
    }
}

async fn attempt(
    lease: Lease,
    backend: &Backend,
    message: Message,
    policy: &Policy,
) -> Result<Answer, Failed> {
    match message {
        Message::Http1(exchange) => attempt_http1(lease, backend, exchange, policy).await,
        // Boxed, as all that is rare: a future is as large as its largest branch, and is moved whole.
        Message::Http2(request) => Box::pin(attempt_http2(lease, backend, request, policy)).await,
        Message::Either(forms) => Box::pin(attempt_either(lease, backend, forms, policy)).await,
    }
}

async fn attempt_http1(
    mut lease: Lease,
    backend: &Backend,
    exchange: Box<http1::Exchange>,
    policy: &Policy,
) -> Result<Answer, Failed> {
    let idle = lease.take_idle();
    let reused = idle.is_some();
    let stream = match idle {
        Some(stream) => stream,
        None => match Box::pin(dial(&lease, backend, true, policy)).await {
            Ok((stream, _)) => stream,
            Err(error) => return Err(Failed::unconnected(error, Message::Http1(exchange))),
        },
    };
    exchange_http1(lease, stream, exchange, reused, policy).await
}

async fn attempt_http2(
    lease: Lease,
    backend: &Backend,
    request: Box<http::Request<http2::OutgoingBody>>,
    policy: &Policy,
) -> Result<Answer, Failed> {
    if let Some(connection) = lease.shared() {
        return exchange_http2(lease, connection, request, true).await;
    }
    // The others wait for what the first one brings.
    let endpoint = lease.endpoint().clone();
    let dialling = endpoint.pool(lease.worker().id(), lease.lane()).dialling().await;
    if let Some(connection) = lease.shared() {
        drop(dialling);
        return exchange_http2(lease, connection, request, true).await;
    }
    let opened = match dial(&lease, backend, false, policy).await {
        Ok((stream, true)) => share_http2(&lease, stream).await,
        Ok((_, false)) => Err(ExchangeError::Tls(TlsError::Alpn)),
        Err(error) => Err(error),
    };
    drop(dialling);
    match opened {
        Ok(connection) => exchange_http2(lease, connection, request, false).await,
        Err(error) => Err(Failed::unconnected(error, Message::Http2(request))),
    }
}

/// Over whichever connection there is, else over a new one in the protocol that the endpoint prefers.
async fn attempt_either(
    mut lease: Lease,
    backend: &Backend,
    forms: Box<Either>,
    policy: &Policy,
) -> Result<Answer, Failed> {
    if let Some(connection) = lease.shared() {
        return exchange_http2(lease, connection, forms.http2(), true).await;
    }
    if let Some(stream) = lease.take_idle() {
        return exchange_http1(lease, stream, forms.http1(), true, policy).await;
    }
    let endpoint = lease.endpoint().clone();
    let pool = endpoint.pool(lease.worker().id(), lease.lane());
    let dialling = if pool.speaks_http2() { Some(pool.dialling().await) } else { None };
    if dialling.is_some()
        && let Some(connection) = lease.shared()
    {
        drop(dialling);
        return exchange_http2(lease, connection, forms.http2(), true).await;
    }
    let opened = match dial(&lease, backend, false, policy).await {
        Ok((stream, false)) => {
            drop(dialling);
            return exchange_http1(lease, stream, forms.http1(), false, policy).await;
        }
        Ok((stream, true)) => share_http2(&lease, stream).await,
        Err(error) => Err(error),
    };
    drop(dialling);
    match opened {
        Ok(connection) => exchange_http2(lease, connection, forms.http2(), false).await,
        Err(error) => Err(Failed::unconnected(error, Message::Either(forms))),
    }
}

/// A new connection, and whether it speaks HTTP/2; with `http1` it does not.
async fn dial(
    lease: &Lease,
    backend: &Backend,
    http1: bool,
    policy: &Policy,
) -> Result<(Stream, bool), ExchangeError> {
    let address = lease.endpoint().address();
    let dialled = match (connect(address, policy.connect).await, backend.connector()) {
        (Ok(stream), None) => Ok((stream, backend.protocol() == Protocol::H2c)),
        (Ok(stream), Some(connector)) => connector.handshake(stream, address, http1).await.map_err(|error| {
            if connector.may_tell() {
                tracing::warn!(backend = %backend.name(), endpoint = %address, "{error}");
            }
            error.into()
        }),
        (Err(error), _) => Err(error.into()),
    };
    backend.metrics().connected(lease.worker().id(), policy.lane, dialled.is_ok());
    dialled
}

async fn share_http2(lease: &Lease, stream: Stream) -> Result<http2::Connection, ExchangeError> {
    let connection = http2::Connection::open(stream, lease).await;
    let connection = connection.map_err(|error| ExchangeError::Protocol(error.to_string()))?;
    lease.share(connection.clone());
    Ok(connection)
}

async fn exchange_http1(
    mut lease: Lease,
    stream: Stream,
    mut exchange: Box<http1::Exchange>,
    reused: bool,
    policy: &Policy,
) -> Result<Answer, Failed> {
    lease.connected();
    exchange.connect(lease, stream, policy.fields);
    let head = match exchange.head().await {
        Ok(head) => head,
        Err(failure) => {
            let (error, answered) = match failure {
                http1::Failure::Reset { answered } => (ExchangeError::Reset, answered),
                http1::Failure::Protocol(NotHttp::Head) => {
                    (ExchangeError::Protocol(NotHttp::Head.to_string()), true)
                }
                http1::Failure::Protocol(error) => (ExchangeError::Protocol(error.to_string()), true),
                http1::Failure::Request(error) => (ExchangeError::Request(error), true),
            };
            let unsent = exchange.unsent().map(Message::Http1);
            return Err(Failed { error, unsent, unprocessed: false, reused: reused && !answered });
        }
    };
    let mut response = Response::new(ResponseBody::Empty);
    (*response.status_mut(), *response.version_mut(), *response.headers_mut()) =
        (head.status, head.version, head.headers);
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        let tunnel = exchange.into_tunnel();
        return Ok((response, tunnel));
    }
    if !exchange.is_end_stream() {
        *response.body_mut() = ResponseBody::Http1(exchange);
    }
    Ok((response, None))
}

async fn exchange_http2(
    lease: Lease,
    mut connection: http2::Connection,
    request: Box<http::Request<http2::OutgoingBody>>,
    reused: bool,
) -> Result<Answer, Failed> {
    match connection.exchange(lease, *request).await {
        Ok(response) => Ok((response.map(ResponseBody::Http2), None)),
        Err((error, message)) => Err(Failed {
            error: http2_error(&error),
            unsent: message.map(|request| Message::Http2(Box::new(request))),
            unprocessed: http2::is_unprocessed(&error),
            reused,
        }),
    }
}

fn http2_error(error: &hyper::Error) -> ExchangeError {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(body) = cause.downcast_ref::<BodyError>() {
            return ExchangeError::Request(*body);
        }
        source = cause.source();
    }
    match error.is_parse() {
        true => ExchangeError::Protocol(error.to_string()),
        false => ExchangeError::Reset,
    }
}

/// The policy of requests that a client waits for.
pub fn primary_policy(attempt: Option<Duration>) -> Policy {
    Policy {
        lane: Lane::Primary,
        connect: limits::CONNECT,
        attempt,
        attempts: limits::ATTEMPTS,
        fields: true,
    }
}
