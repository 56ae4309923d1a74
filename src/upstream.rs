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
pub mod pool;
pub mod registry;
pub mod stream;
pub mod tls;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Response, StatusCode, request};

use self::backend::Backend;
use self::body::{BodyError, RequestBody, ResponseBody};
use self::connect::{ConnectError, connect};
use self::endpoint::Endpoint;
use self::http1::head::{Length, NotHttp};
use self::http1::upload::Upload;
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
    /// Whether a request without a body, whose method may be repeated (RFC 9110, 9.2.2), is sent once
    /// more when a reused connection closed before any byte of a response.
    pub repeat_idempotent: bool,
}

/// A request to be sent: its head, and a body of a known way to end.
pub struct Outgoing<'request> {
    /// Method, target and fields, sanitised.
    pub parts: &'request request::Parts,
    /// Body.
    pub body: RequestBody,
    /// How the body ends.
    pub length: Length,
    /// The protocol that the client asks to switch to.
    pub upgrade: Option<&'request HeaderValue>,
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

/// Sends `outgoing` to one endpoint of `backend` and waits for the head of the response.
///
/// A connect failure, or a request of which nothing was written, goes on to another endpoint. What
/// was written is repeated only as `policy` allows.
pub async fn exchange(
    worker: &Arc<Worker>,
    backend: &Backend,
    outgoing: Outgoing<'_>,
    policy: &Policy,
) -> Result<Exchanged, ExchangeError> {
    let Outgoing { parts, body, length, upgrade } = outgoing;
    let repeatable = policy.repeat_idempotent && body.is_none() && parts.method.is_idempotent();
    let head = Head { backend, parts, length, upgrade };
    let mut message = Message::New(body);
    let mut tried: Vec<Arc<Endpoint>> = Vec::new();
    let mut repeated = false;
    loop {
        let lease = lease(worker, backend, &tried, policy.lane)?;
        let endpoint = lease.endpoint().clone();
        let attempt = attempt(lease, message, head, policy);
        let ended = match policy.attempt {
            Some(patience) => tokio::time::timeout(patience, attempt).await.unwrap_or(Err(Failed {
                error: ExchangeError::Timeout(patience),
                unsent: None,
                reused: false,
            })),
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
        message = match failed.unsent {
            Some(unsent) => unsent,
            None if repeatable
                && failed.reused
                && !repeated
                && matches!(failed.error, ExchangeError::Reset) =>
            {
                repeated = true;
                Message::New(None)
            }
            None => return Err(failed.error),
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
    /// Whether the connection had served another exchange before.
    reused: bool,
}

/// A request without its body, and whom it is for.
#[derive(Clone, Copy)]
struct Head<'request> {
    backend: &'request Backend,
    parts: &'request request::Parts,
    length: Length,
    upgrade: Option<&'request HeaderValue>,
}

/// What is left to be sent of a request.
enum Message {
    /// All of it.
    New(RequestBody),
    /// All of it, in the form of HTTP/1; some of the body may have been pulled from its source.
    Http1(Box<Upload>),
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

/// Sends over whichever connection there is, or else over a new one, in the protocol that the backend
/// speaks.
async fn attempt(
    mut lease: Lease,
    message: Message,
    head: Head<'_>,
    policy: &Policy,
) -> Result<Answer, Failed> {
    let protocol = head.backend.protocol();
    // An upgrade is HTTP/1's alone, and what has taken its form cannot be given another.
    let http1 = protocol == Protocol::Http1
        || (protocol == Protocol::Auto && (head.upgrade.is_some() || matches!(message, Message::Http1(_))));
    if !http1 && let Some(connection) = lease.shared() {
        return attempt_http2(lease, connection, message, head, true).await;
    }
    if matches!(protocol, Protocol::Http1 | Protocol::Auto)
        && let Some(stream) = lease.take_idle()
    {
        return attempt_http1(lease, stream, message, head, true).await;
    }
    let endpoint = lease.endpoint().clone();
    let pool = endpoint.pool(lease.worker().id(), lease.lane());
    // Where connections are shared, the others wait for what the first one brings.
    let dialling = match protocol {
        Protocol::Http1 => None,
        Protocol::Auto if http1 || !pool.speaks_http2() => None,
        Protocol::H2c | Protocol::H2 | Protocol::Auto => Some(pool.dialling().await),
    };
    if dialling.is_some()
        && let Some(connection) = lease.shared()
    {
        drop(dialling);
        return attempt_http2(lease, connection, message, head, true).await;
    }
    let (stream, http2) = match dial(&lease, head, http1, policy).await {
        Ok(dialled) => dialled,
        Err(error) => return Err(Failed { error, unsent: Some(message), reused: false }),
    };
    if !http2 {
        lease.connected();
        return attempt_http1(lease, stream, message, head, false).await;
    }
    match http2::Connection::open(stream, &lease).await {
        Ok(connection) => {
            lease.share(connection.clone());
            drop(dialling);
            attempt_http2(lease, connection, message, head, false).await
        }
        Err(error) => {
            let error = ExchangeError::Protocol(error.to_string());
            Err(Failed { error, unsent: Some(message), reused: false })
        }
    }
}

/// A new connection, and whether it speaks HTTP/2.
async fn dial(
    lease: &Lease,
    head: Head<'_>,
    http1: bool,
    policy: &Policy,
) -> Result<(Stream, bool), ExchangeError> {
    let address = lease.endpoint().address();
    let stream = connect(address, policy.connect).await?;
    match head.backend.connector() {
        None => Ok((stream, head.backend.protocol() == Protocol::H2c)),
        Some(connector) => Ok(connector.handshake(stream, address, http1).await?),
    }
}

async fn attempt_http1(
    lease: Lease,
    stream: Stream,
    message: Message,
    head: Head<'_>,
    reused: bool,
) -> Result<Answer, Failed> {
    let upload = match message {
        Message::New(body) => {
            Box::new(Upload::new(head.parts, head.backend.host(), body, head.length, head.upgrade))
        }
        Message::Http1(upload) => upload,
    };
    let mut exchange = http1::Exchange::new(lease, stream, head.parts.method.clone(), *upload);
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
            let unsent = exchange.unsent().map(|upload| Message::Http1(Box::new(upload)));
            return Err(Failed { error, unsent, reused: reused && !answered });
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

async fn attempt_http2(
    lease: Lease,
    mut connection: http2::Connection,
    message: Message,
    head: Head<'_>,
    reused: bool,
) -> Result<Answer, Failed> {
    let failed = |error, unsent| Failed { error, unsent, reused };
    let Message::New(body) = message else {
        // A connect failure before has left it in a form that this endpoint does not speak.
        return Err(failed(ExchangeError::Reset, None));
    };
    let scheme = if head.backend.connector().is_some() { "https" } else { "http" };
    let without_body = body.is_none();
    let request = http2::request(head.parts, head.backend.host(), body, scheme)
        .map_err(|error| failed(ExchangeError::Protocol(error.to_string()), None))?;
    match connection.exchange(lease, request).await {
        Ok(response) => Ok((response.map(ResponseBody::Http2), None)),
        Err((error, message)) => {
            let unsent = match message {
                Some(request) => Some(request.into_body().into_inner()),
                // RFC 9113, 8.7: the endpoint says itself that it has not looked at it.
                None if without_body && http2::is_unprocessed(&error) => Some(None),
                None => None,
            };
            Err(failed(http2_error(&error), unsent.map(Message::New)))
        }
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
        repeat_idempotent: true,
    }
}
