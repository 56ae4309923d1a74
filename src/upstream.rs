//! Talking to backends. [`exchange`] is the only way to call anything: a request of a client, a copy
//! of it and a health probe differ in the values of their [`Policy`] and in nothing else.
//!
//! In order: *exchange → balance → pool → connect*. Called by [`crate::proxy`] and
//! [`crate::mirror`]; fed with endpoints by [`crate::discovery`] through the [`registry`].

pub mod backend;
mod balance;
pub mod body;
pub mod condition;
pub mod connect;
pub mod endpoint;
pub mod endpoint_set;
pub mod health;
pub mod http1;
pub mod http2;
mod leaving;
mod members;
pub mod pool;
pub mod registry;
mod replay;
mod retry;
pub mod stream;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Method, Response, StatusCode, request};

use self::backend::Backend;
use self::body::{BodyError, RequestBody, ResponseBody};
use self::connect::{ConnectError, connect};
use self::endpoint::Endpoint;
use self::http1::head::{Length, NotHttp};
use self::http1::upload::Upload;
use self::members::Circumstances;
use self::pool::Lease;
use self::retry::{Failure, Retries};
use self::stream::Stream;
use crate::limits;
use crate::plan::{HashKey, Protocol, RetryPlan};
use crate::shard::Lane;
use crate::worker::Worker;

/// What tells one kind of exchange from another.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'route> {
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
    /// When it is sent again although something of it was sent.
    pub retries: Option<&'route RetryPlan>,
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
    /// Whose it is, for backends that choose by it.
    pub client: Option<IpAddr>,
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
/// was written is repeated only as `policy` allows, and never to an endpoint that it was sent to.
pub async fn exchange(
    worker: &Arc<Worker>,
    backend: &Backend,
    outgoing: Outgoing<'_>,
    policy: &Policy<'_>,
) -> Result<Exchanged, ExchangeError> {
    let Outgoing { parts, body, length, upgrade, client } = outgoing;
    let seeking = Seeking { worker, backend, lane: policy.lane, parts, client };
    let idempotent = policy.repeat_idempotent && body.is_none() && parts.method.is_idempotent();
    let (mut retries, body) = Retries::new(policy.retries, body);
    if policy.retries.is_some() {
        backend.budget(worker.id(), policy.lane).earn();
    }
    let patience = policy.retries.and_then(|retries| retries.per_try_timeout).or(policy.attempt);
    let mut message = Message::new(backend.speech(), parts, body, length, upgrade)?;
    let mut tried: Vec<Arc<Endpoint>> = Vec::new();
    let (mut repeated, mut removed) = (false, 0);
    let (mut lease, mut begun) = seeking.lease(&tried)?;
    loop {
        let endpoint = lease.endpoint().clone();
        let ended = within(patience, attempt(lease, message, &parts.method, policy)).await;
        let failure = match &ended {
            Ok((response, _)) => Some(Failure::Status(response.status())),
            Err(failed) => Failure::of(&failed.error),
        };
        seeking.met(&endpoint, &ended, failure, begun);

        let failed = match ended {
            Ok((response, tunnel)) => {
                if failure.is_some_and(|failure| retries.cover(failure)) {
                    tried.push(endpoint.clone());
                    if let Some(next) = seeking.again(&tried) {
                        drop((response, tunnel));
                        (lease, begun) = next;
                        message = Message::new(backend.speech(), parts, retries.spend(), length, upgrade)?;
                        continue;
                    }
                }
                return Ok(Exchanged { response, endpoint, tunnel });
            }
            Err(failed) => failed,
        };
        // A connection that was closed while it was kept says nothing of its endpoint, and one that
        // was removed underway was not asked; a refused one was.
        if !failed.reused && !failed.removed {
            tried.push(endpoint);
        }
        message = match failed.unsent {
            Some(unsent) if failed.removed => {
                removed += 1;
                if removed > limits::REMOVED_UNDERWAY {
                    return Err(failed.error);
                }
                unsent
            }
            Some(unsent) => {
                if tried.len() as u32 >= retries.endpoints(policy.attempts) {
                    return Err(failed.error);
                }
                unsent
            }
            None if idempotent
                && failed.reused
                && !repeated
                && matches!(failed.error, ExchangeError::Reset) =>
            {
                repeated = true;
                Message::new(backend.speech(), parts, None, length, upgrade)?
            }
            None if failure.is_some_and(|failure| retries.cover(failure)) => {
                match seeking.again(&tried) {
                    Some(next) => (lease, begun) = next,
                    None => return Err(failed.error),
                }
                message = Message::new(backend.speech(), parts, retries.spend(), length, upgrade)?;
                continue;
            }
            None => return Err(failed.error),
        };
        match seeking.lease(&tried) {
            Ok(next) => (lease, begun) = next,
            Err(_) => return Err(failed.error),
        }
        backend.metrics().retried(worker.id(), policy.lane);
    }
}

/// What an endpoint is sought for.
struct Seeking<'request> {
    worker: &'request Arc<Worker>,
    backend: &'request Backend,
    lane: Lane,
    parts: &'request request::Parts,
    client: Option<IpAddr>,
}

/// An exchange that is counted on its endpoint, and when it began, if anybody wants to know.
type Leased = (Lease, Option<Instant>);

impl Seeking<'_> {
    /// Picks an endpoint and counts the exchange on it. This is where it is checked that nobody is
    /// sent to an endpoint that was retired before the pick, apart from the balancer that picked it.
    fn lease(&self, tried: &[Arc<Endpoint>]) -> Result<Leased, ExchangeError> {
        let metrics = self.backend.metrics();
        loop {
            let set = self.backend.endpoints();
            let endpoint = set.pick(self.lane, tried, self).ok_or(ExchangeError::NoEndpoints)?;
            match endpoint.retired() {
                // The set was swapped between the load and now: pick from the new one.
                Some(generation) if generation > set.generation() => continue,
                Some(_) => metrics.sent_to_removed(self.worker.id(), self.lane),
                None => {}
            }
            if let Some(delay) = set.first_used() {
                metrics.first_used(delay);
            }
            let ejection = set.policy().ejection.as_ref();
            let timed = ejection.is_some_and(|ejection| ejection.slower_than.is_some());
            let mut lease = Lease::new(self.worker.clone(), endpoint.clone(), self.lane);
            if set.policy().drain.is_some() {
                lease.expires();
            }
            return Ok((lease, timed.then(Instant::now)));
        }
    }

    /// The same for a request that was sent before, if there is somebody else and the budget lasts.
    fn again(&self, tried: &[Arc<Endpoint>]) -> Option<Leased> {
        let leased = self.lease(tried).ok()?;
        let metrics = self.backend.metrics();
        if !self.backend.budget(self.worker.id(), self.lane).spend(Instant::now()) {
            metrics.retry_denied(self.worker.id(), self.lane);
            return None;
        }
        metrics.retried(self.worker.id(), self.lane);
        Some(leased)
    }

    /// Takes note of how an attempt ended, for the metrics and for the endpoint.
    fn met(
        &self,
        endpoint: &Endpoint,
        ended: &Result<Answer, Failed>,
        failure: Option<Failure>,
        begun: Option<Instant>,
    ) {
        let status = ended.as_ref().ok().map(|(response, _)| response.status());
        let harmless = match ended {
            Ok((response, _)) => response.status().as_u16() < 400 && begun.is_none(),
            Err(failed) if failed.removed => return,
            Err(_) => false,
        };
        self.backend.metrics().answered(self.worker.id(), self.lane, status);
        if harmless {
            return endpoint.condition().succeeded(self.lane);
        }
        let stale = matches!(ended, Err(failed) if failed.reused);
        if let Some(failure) = failure.filter(|_| !stale) {
            self.backend.met(endpoint, self.lane, failure, begun.map(|begun| begun.elapsed()));
        }
    }
}

impl Circumstances for Seeking<'_> {
    #[inline]
    fn random(&self) -> u64 {
        self.worker.random()
    }

    fn turn(&self) -> u64 {
        self.backend.turn(self.worker.id(), self.lane)
    }

    fn key(&self, by: &HashKey) -> Option<u64> {
        balance::hash_of(by, self.parts, self.client)
    }

    #[inline]
    fn load(&self, endpoint: &Endpoint) -> usize {
        endpoint.pool(self.worker.id(), self.lane).in_flight()
    }
}

/// How a backend's endpoints are spoken to.
#[derive(Clone)]
pub(crate) struct Speech {
    pub(crate) protocol: Protocol,
    /// The Host that they are sent instead of the client's.
    pub(crate) host: Option<HeaderValue>,
}

/// One attempt that came to nothing.
struct Failed {
    error: ExchangeError,
    /// The request, if nothing of it was sent.
    unsent: Option<Message>,
    /// Whether the connection had served another exchange before.
    reused: bool,
    /// Whether the endpoint was removed before anything could be sent to it.
    removed: bool,
}

async fn within(
    patience: Option<Duration>,
    attempt: impl Future<Output = Result<Answer, Failed>>,
) -> Result<Answer, Failed> {
    let Some(patience) = patience else { return attempt.await };
    let timeout =
        Failed { error: ExchangeError::Timeout(patience), unsent: None, reused: false, removed: false };
    tokio::time::timeout(patience, attempt).await.unwrap_or(Err(timeout))
}

impl Failed {
    /// Its endpoint was retired after the pick: nothing new may be sent there.
    fn removed(message: Message) -> Self {
        let error = ConnectError::Io(std::io::Error::other("the endpoint was removed"));
        Self { error: error.into(), unsent: Some(message), reused: false, removed: true }
    }
}

/// A request in the form that a backend's protocol takes.
enum Message {
    Http1(Box<Upload>),
    Http2(http::Request<http2::OutgoingBody>),
}

impl Message {
    fn new(
        speech: &Speech,
        parts: &request::Parts,
        body: RequestBody,
        length: Length,
        upgrade: Option<&HeaderValue>,
    ) -> Result<Self, ExchangeError> {
        let host = speech.host.as_ref();
        Ok(match speech.protocol {
            Protocol::Http1 => Self::Http1(Box::new(Upload::new(parts, host, body, length, upgrade))),
            Protocol::H2c => Self::Http2(
                http2::request(parts, host, body)
                    .map_err(|error| ExchangeError::Protocol(error.to_string()))?,
            ),
        })
    }
}

type Answer = (Response<ResponseBody>, Option<(Lease, Stream, bytes::Bytes)>);

async fn attempt(lease: Lease, message: Message, method: &Method, policy: &Policy<'_>) -> Result<Answer, Failed> {
    match message {
        Message::Http1(upload) => attempt_http1(lease, upload, method, policy).await,
        Message::Http2(request) => attempt_http2(lease, request, policy).await,
    }
}

async fn attempt_http1(
    mut lease: Lease,
    upload: Box<Upload>,
    method: &Method,
    policy: &Policy<'_>,
) -> Result<Answer, Failed> {
    let idle = lease.take_idle();
    let reused = idle.is_some();
    let stream = match idle {
        Some(stream) => stream,
        None => match connect(lease.endpoint().address(), policy.connect).await {
            Ok(stream) => stream,
            Err(error) => {
                let unsent = Some(Message::Http1(upload));
                return Err(Failed { error: error.into(), unsent, reused, removed: false });
            }
        },
    };
    if lease.endpoint().retired().is_some() {
        return Err(Failed::removed(Message::Http1(upload)));
    }
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
            return Err(Failed { error, unsent, reused: reused && !answered, removed: false });
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
    request: http::Request<http2::OutgoingBody>,
    policy: &Policy<'_>,
) -> Result<Answer, Failed> {
    let unsent = |error: ExchangeError, request| Failed {
        error,
        unsent: Some(Message::Http2(request)),
        reused: false,
        removed: false,
    };
    let mut reused = true;
    let mut connection = match lease.shared() {
        Some(connection) => connection,
        None => {
            let dialling = lease.pool().dialling.lock().await;
            match lease.shared() {
                Some(connection) => connection,
                None => {
                    // Retired while it waited for its turn, or for the connection.
                    if lease.endpoint().retired().is_some() {
                        return Err(Failed::removed(Message::Http2(request)));
                    }
                    reused = false;
                    let stream = match connect(lease.endpoint().address(), policy.connect).await {
                        Ok(stream) => stream,
                        Err(error) => return Err(unsent(error.into(), request)),
                    };
                    match http2::Connection::open(stream, &lease).await {
                        Ok(_) if lease.endpoint().retired().is_some() => {
                            return Err(Failed::removed(Message::Http2(request)));
                        }
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
        Ok(response) => Ok((response.map(ResponseBody::Http2), None)),
        Err((error, message)) => {
            let (error, unsent) = (http2_error(&error), message.map(Message::Http2));
            Err(Failed { error, unsent, reused, removed: false })
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
pub fn primary_policy(attempt: Option<Duration>, retries: Option<&RetryPlan>) -> Policy<'_> {
    Policy {
        lane: Lane::Primary,
        connect: limits::CONNECT,
        attempt,
        attempts: limits::ATTEMPTS,
        repeat_idempotent: true,
        retries,
    }
}

#[cfg(test)]
mod tests;
