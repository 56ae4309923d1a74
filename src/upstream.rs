//! Talking to backends. [`exchange`] is the only way to call anything: a request of a client, a copy
//! of it and a health probe differ in the values of their [`Policy`] and in nothing else.
//!
//! In order: *exchange → balance → pool → connect*. Called by [`crate::proxy`] and
//! [`crate::mirror`]; fed with endpoints by [`crate::discovery`] through the [`registry`].

mod attempt;
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
pub mod message;
pub mod pace;
pub mod patience;
pub mod pool;
pub mod proxy_protocol;
mod raw;
pub mod registry;
mod replay;
pub mod retry;
mod seeking;
mod speech;
pub mod stream;
pub mod tls;

use std::num::NonZeroU64;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Response;

use self::attempt::{Failed, attempt};
use self::backend::Backend;
use self::body::{BodyError, ResponseBody};
use self::connect::ConnectError;
use self::endpoint::Endpoint;
use self::http1::head::Length;
use self::message::{Head, Message};
use self::patience::{Progress, patiently};
use self::pool::Lease;
pub use self::raw::open_stream;
use self::retry::Retries;
use self::seeking::Seeking;
pub(crate) use self::speech::Connects;
pub use self::speech::Speech;
use self::stream::Stream;
use self::tls::TlsError;
use crate::limits;
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
    /// Whether its first write lets others go first, so that those of many leave together.
    pub gathers: bool,
    /// What decides where the request goes, for backends that choose by it.
    pub key: Option<NonZeroU64>,
}

/// What it takes to send a request again of which something was sent.
pub struct Again<'request> {
    /// What it was made of.
    pub head: Head<'request>,
    /// When it may be.
    pub retries: Retries<'request>,
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
    /// The endpoint was removed from its backend, and has had its time for what was in flight.
    #[error("the endpoint was removed before it answered")]
    Removed,
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
/// was written is sent again only by `again`. When the endpoint said that it did not look at it (RFC 9113,
/// 8.7) and all of its body that was sent is still there. Without a body: once when a reused connection
/// closed before any byte of a response, if its method may be repeated. Beyond that as its route says: to
/// an endpoint that it was sent to only if the route wants that, and when there is no other.
pub async fn exchange(
    worker: &Arc<Worker>,
    backend: &Backend,
    mut message: Message,
    mut again: Option<&mut Again<'_>>,
    policy: &Policy,
) -> Result<Exchanged, ExchangeError> {
    let mut tried: Vec<Arc<Endpoint>> = Vec::new();
    let (mut repeated, mut refused, mut removed, mut waits) = (false, 0_u8, 0_u8, false);
    if again.as_ref().is_some_and(|again| again.retries.are_planned()) {
        backend.budget(worker.id(), policy.lane).earn();
    }
    let has_body =
        again.as_ref().is_some_and(|again| !matches!(again.head.length, Length::None | Length::Exact(0)));
    let progress = (has_body && policy.attempt.is_some()).then(Progress::new);
    loop {
        // Here, where nothing of the last attempt is left, and not where it is decided: a future has room
        // for all that lives while it waits.
        if std::mem::take(&mut waits)
            && let Some(again) = again.as_deref()
        {
            again.retries.pause().await;
        }
        let (lease, begun) = Seeking::new(worker, backend, policy).lease(&tried)?;
        let endpoint = lease.endpoint().clone();
        message.tell(progress.clone());
        // Pinned once: either arm of the match would otherwise have room for it of its own.
        let attempt = pin!(attempt(lease, backend.speech(), message, policy));
        let ended = match policy.attempt {
            Some(patience) => patiently(worker, attempt, patience, progress.as_deref())
                .await
                .unwrap_or_else(|| Err(Failed::sent(ExchangeError::Timeout(patience)))),
            None => attempt.await,
        };
        let failure = Seeking::new(worker, backend, policy).met(&endpoint, &ended, begun);
        let failed = match ended {
            Ok((response, tunnel)) => {
                if let Some(again) = again.as_deref_mut().filter(|again| again.retries.cover(failure)) {
                    tried.push(endpoint.clone());
                    if Seeking::new(worker, backend, policy).may_send_again(&mut tried, &again.retries) {
                        drop((response, tunnel));
                        waits = true;
                        message = Message::new(backend.speech(), &again.head, again.retries.spend())?;
                        continue;
                    }
                }
                return Ok(Exchanged { response, endpoint, tunnel });
            }
            Err(failed) => failed,
        };
        // A connection that was closed while it was kept, or that its endpoint leaves, says nothing of
        // the endpoint, and one that was removed underway was not asked; a refused one was.
        match failed.is_removed() {
            true => removed += 1,
            false if failed.reused || failed.unprocessed => {}
            false => tried.push(endpoint.clone()),
        }
        let stale = failed.reused && matches!(failed.error, ExchangeError::Reset);
        let harmless = |again: &Again<'_>| match failed.unprocessed && refused < limits::UNPROCESSED {
            true => again.retries.untouched(has_body),
            false => (stale && !repeated && again.head.is_repeatable()).then_some(None),
        };
        message = match (failed.unsent, again.as_deref_mut()) {
            (Some(unsent), _) => unsent,
            (None, Some(again)) if let Some(body) = harmless(again) => {
                repeated |= !failed.unprocessed;
                refused += u8::from(failed.unprocessed);
                Message::new(backend.speech(), &again.head, body)?
            }
            (None, Some(again)) if again.retries.cover(failure) => {
                // It was sent there, whatever the connection had served before.
                if failed.reused {
                    tried.push(endpoint);
                }
                if !Seeking::new(worker, backend, policy).may_send_again(&mut tried, &again.retries) {
                    return Err(failed.error);
                }
                waits = true;
                message = Message::new(backend.speech(), &again.head, again.retries.spend())?;
                continue;
            }
            (None, _) => return Err(failed.error),
        };
        let most = again.as_ref().map_or(policy.attempts, |again| again.retries.endpoints(policy.attempts));
        let enough = tried.len() as u32 >= most || removed > limits::REMOVED_UNDERWAY;
        if enough || !Seeking::new(worker, backend, policy).is_somebody_left(&tried) {
            // Nothing was sent, and nobody else is there: only a route that wants it tries them again.
            let Some(again) = again.as_deref_mut().filter(|again| again.retries.cover_all_again(failure))
            else {
                return Err(failed.error);
            };
            if !Seeking::new(worker, backend, policy).may_send_again(&mut tried, &again.retries) {
                return Err(failed.error);
            }
            waits = true;
            message = Message::new(backend.speech(), &again.head, again.retries.spend())?;
            continue;
        }
        backend.metrics().retried(worker.id(), policy.lane);
    }
}

/// An endpoint for one exchange in `lane`, which counts there until the lease is dropped: what
/// [`exchange`] begins with.
///
/// # Errors
/// When there is none.
pub fn lease(worker: &Arc<Worker>, backend: &Backend, lane: Lane) -> Result<Lease, ExchangeError> {
    let policy = Policy { lane, ..primary_policy(None) };
    Seeking::new(worker, backend, &policy).lease(&[]).map(|(lease, _)| lease)
}

/// The policy of requests that a client waits for.
pub fn primary_policy(attempt: Option<Duration>) -> Policy {
    Policy {
        lane: Lane::Primary,
        connect: limits::CONNECT,
        attempt,
        attempts: limits::ATTEMPTS,
        fields: true,
        gathers: true,
        key: None,
    }
}

#[cfg(test)]
mod tests;
