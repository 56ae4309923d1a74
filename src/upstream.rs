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
pub mod patience;
pub mod pool;
pub mod registry;
pub mod stream;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Response, StatusCode, request};

use self::backend::Backend;
use self::body::{BodyError, RequestBody, ResponseBody};
use self::connect::{ConnectError, connect};
use self::endpoint::Endpoint;
use self::http1::head::{Length, NotHttp};
use self::http1::upload::Upload;
use self::patience::{Progress, patiently};
use self::pool::Lease;
use self::stream::Stream;
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
    /// Interim responses before it that nobody was told of.
    pub interim: usize,
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
    let progress = (body.is_some() && policy.attempt.is_some()).then(Progress::new);
    let mut message = Message::new(backend, parts, body, length, upgrade)?;
    let mut tried: Vec<Arc<Endpoint>> = Vec::new();
    let mut repeated = false;
    loop {
        let lease = lease(worker, backend, &tried, policy.lane)?;
        let endpoint = lease.endpoint().clone();
        message.tell(progress.clone());
        let attempt = attempt(lease, message, &parts.method, backend, policy);
        let ended = match policy.attempt {
            Some(patience) => {
                patiently(attempt, patience, progress.as_deref()).await.unwrap_or(Err(Failed {
                    error: ExchangeError::Timeout(patience),
                    unsent: None,
                    reused: false,
                }))
            }
            None => attempt.await,
        };
        let failed = match ended {
            Ok(Answer { response, interim, tunnel }) => {
                backend.metrics().answered(worker.id(), policy.lane, Some(response.status()));
                return Ok(Exchanged { response, endpoint, interim, tunnel });
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
                Message::new(backend, parts, None, length, upgrade)?
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

/// A request in the form that a backend's protocol takes.
enum Message {
    Http1(Box<Upload>),
    Http2(Box<http::Request<http2::OutgoingBody>>),
}

impl Message {
    fn tell(&mut self, progress: Option<Arc<Progress>>) {
        match self {
            Self::Http1(upload) => upload.tell(progress),
            Self::Http2(request) => request.body_mut().tell(progress),
        }
    }

    fn new(
        backend: &Backend,
        parts: &request::Parts,
        body: RequestBody,
        length: Length,
        upgrade: Option<&HeaderValue>,
    ) -> Result<Self, ExchangeError> {
        Ok(match backend.protocol() {
            Protocol::Http1 => {
                Self::Http1(Box::new(Upload::new(parts, backend.host(), body, length, upgrade)))
            }
            Protocol::H2c => Self::Http2(Box::new(
                http2::request(parts, backend.host(), body)
                    .map_err(|error| ExchangeError::Protocol(error.to_string()))?,
            )),
        })
    }
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

struct Answer {
    response: Response<ResponseBody>,
    interim: usize,
    tunnel: Option<(Lease, Stream, bytes::Bytes)>,
}

async fn attempt(
    lease: Lease,
    message: Message,
    method: &Method,
    backend: &Backend,
    policy: &Policy,
) -> Result<Answer, Failed> {
    match message {
        Message::Http1(upload) => attempt_http1(lease, upload, method, backend, policy).await,
        Message::Http2(request) => attempt_http2(lease, *request, backend, policy).await,
    }
}

/// A new connection to the endpoint of `lease`, counted whether it comes about or not.
async fn dial(lease: &Lease, backend: &Backend, policy: &Policy) -> Result<Stream, ConnectError> {
    let dialled = connect(lease.endpoint().address(), policy.connect).await;
    backend.metrics().connected(lease.worker().id(), policy.lane, dialled.is_ok());
    dialled
}

async fn attempt_http1(
    mut lease: Lease,
    upload: Box<Upload>,
    method: &Method,
    backend: &Backend,
    policy: &Policy,
) -> Result<Answer, Failed> {
    let idle = lease.take_idle();
    let reused = idle.is_some();
    let stream = match idle {
        Some(stream) => stream,
        None => match dial(&lease, backend, policy).await {
            Ok(stream) => stream,
            Err(error) => {
                return Err(Failed { error: error.into(), unsent: Some(Message::Http1(upload)), reused });
            }
        },
    };
    lease.connected();
    let mut exchange = http1::Exchange::new(lease, stream, method.clone(), *upload);
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
    let interim = exchange.interim();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Answer { response, interim, tunnel: exchange.into_tunnel() });
    }
    if !exchange.is_end_stream() {
        *response.body_mut() = ResponseBody::Http1(exchange);
    }
    Ok(Answer { response, interim, tunnel: None })
}

async fn attempt_http2(
    lease: Lease,
    request: http::Request<http2::OutgoingBody>,
    backend: &Backend,
    policy: &Policy,
) -> Result<Answer, Failed> {
    let unsent = |error: ExchangeError, request| Failed {
        error,
        unsent: Some(Message::Http2(Box::new(request))),
        reused: false,
    };
    let mut reused = true;
    let mut connection = match lease.shared() {
        Some(connection) => connection,
        None => {
            let dialling = lease.pool().dialling.lock().await;
            match lease.shared() {
                Some(connection) => connection,
                None => {
                    reused = false;
                    let stream = match dial(&lease, backend, policy).await {
                        Ok(stream) => stream,
                        Err(error) => return Err(unsent(error.into(), request)),
                    };
                    match http2::Connection::open(stream, &lease).await {
                        Ok(connection) => {
                            lease.share(connection.clone());
                            drop(dialling);
                            connection
                        }
                        Err(error) => {
                            return Err(unsent(ExchangeError::Protocol(error.to_string()), request));
                        }
                    }
                }
            }
        }
    };
    match connection.exchange(lease, request).await {
        Ok(response) => Ok(Answer { response: response.map(ResponseBody::Http2), interim: 0, tunnel: None }),
        Err((error, message)) => {
            let unsent = message.map(|request| Message::Http2(Box::new(request)));
            Err(Failed { error: http2_error(&error), unsent, reused })
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
