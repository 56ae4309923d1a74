//! One copy: built from the request as the primary gets it, delivered to a mirror, and forgotten.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Buf;
use futures_util::future::{Either, select};
use http::header::EXPECT;
use http::{HeaderName, HeaderValue, Request, StatusCode};
use http_body::Body;

use super::budget::Permit;
use super::outcome::Outcome;
use super::tee::{End, Reader};
use super::{Mirror, Subject};
use crate::limits;
use crate::shard::Lane;
use crate::upstream::body::{RequestBody, ResponseBody};
use crate::upstream::endpoint::Endpoint;
use crate::upstream::message::{Head, Message};
use crate::upstream::{ExchangeError, Policy, exchange};
use crate::worker::Worker;

/// By which a gateway knows a copy; its value counts the hops.
pub const MARKER: HeaderName = HeaderName::from_static("x-mirrorgate-copy");

/// One copy that was admitted.
pub struct Copy {
    mirror: Arc<Mirror>,
    permit: Permit,
    message: Result<Message, ExchangeError>,
    reader: Option<Arc<Reader>>,
}

/// How a copy ended, for the access log.
pub struct Delivery {
    /// What is counted.
    pub outcome: Outcome,
    /// What the mirror answered, if it did.
    pub status: Option<StatusCode>,
    /// Who answered.
    pub endpoint: Option<Arc<Endpoint>>,
    /// Why it failed, if it did.
    pub error: Option<String>,
    /// From the start of the copy.
    pub started: Instant,
}

#[derive(Default)]
struct Answer {
    status: Option<StatusCode>,
    endpoint: Option<Arc<Endpoint>>,
}

impl Copy {
    pub(super) fn new(
        mirror: Arc<Mirror>,
        permit: Permit,
        subject: &Subject<'_>,
        reader: Option<Arc<Reader>>,
    ) -> Self {
        let body = reader.as_ref().map(|reader| Box::pin(reader.body()) as _);
        let message = message(subject, &mirror, body);
        Self { mirror, permit, message, reader }
    }

    /// Where the request's body is to be offered, if it has one.
    pub fn reader(&self) -> Option<&Arc<Reader>> {
        self.reader.as_ref()
    }

    /// Whom it goes to.
    pub fn mirror(&self) -> &Arc<Mirror> {
        &self.mirror
    }

    /// Sends it and reads the answer, which is thrown away.
    pub async fn deliver(self, worker: &Arc<Worker>) -> Delivery {
        let Self { mirror, permit, message, reader } = self;
        let started = Instant::now();
        let answer = Mutex::new(Answer::default());
        let error = {
            let delivery = pin!(transact(worker, &mirror, message, reader.as_deref(), &answer));
            let deadline = pin!(deadline(&mirror, reader.as_deref()));
            match select(delivery, deadline).await {
                Either::Left((result, _)) => result.err(),
                Either::Right(_) => Some(ExchangeError::Timeout(mirror.timeout)),
            }
        };
        let Answer { status, endpoint } = answer.into_inner().unwrap_or_else(PoisonError::into_inner);
        let outcome = outcome(error.as_ref(), status, reader.as_deref().and_then(Reader::ended));
        permit.end(outcome);
        Delivery { outcome, status, endpoint, error: error.map(|error| error.to_string()), started }
    }
}

/// The copy's request: what the primary gets, without what is meant for it alone, with the mirror's
/// edits and the marker. Written straight from the primary's head unless the mirror edits it: that
/// saves a map's copy for each request (2,000 instructions of 28,000).
fn message(subject: &Subject<'_>, mirror: &Mirror, body: RequestBody) -> Result<Message, ExchangeError> {
    let marker = HeaderValue::from(subject.hops.unwrap_or(0) + 1);
    let head = Head {
        extra: Some((&MARKER, &marker)),
        without: Some(&EXPECT),
        ..Head::new(subject.parts, subject.length)
    };
    if mirror.headers.is_empty() {
        return Message::new(&mirror.backend, &head, body);
    }
    let (mut parts, ()) = Request::new(()).into_parts();
    (parts.method, parts.uri) = (subject.parts.method.clone(), subject.parts.uri.clone());
    parts.headers = subject.parts.headers.clone();
    mirror.headers.apply(&mut parts.headers);
    Message::new(&mirror.backend, &Head { parts: &parts, ..head }, body)
}

async fn transact(
    worker: &Arc<Worker>,
    mirror: &Mirror,
    message: Result<Message, ExchangeError>,
    reader: Option<&Reader>,
    answer: &Mutex<Answer>,
) -> Result<(), ExchangeError> {
    let policy = Policy {
        lane: Lane::Mirror,
        connect: limits::CONNECT,
        attempt: None,
        attempts: limits::ATTEMPTS,
        fields: false,
    };
    let exchanged = exchange(worker, &mirror.backend, message?, None, &policy).await?;
    if let Ok(mut answer) = answer.lock() {
        answer.status = Some(exchanged.response.status());
        answer.endpoint = Some(exchanged.endpoint);
    }
    throw_away(exchanged.response.into_body()).await;
    if let Some(reader) = reader {
        poll_fn(|context| reader.poll_ended(context)).await;
    }
    Ok(())
}

/// Reads an answer to its end so that the connection can be used again, or closes it when that takes
/// too many bytes.
async fn throw_away(mut body: ResponseBody) {
    let mut left = limits::MIRROR_RESPONSE_BYTES;
    while let Some(Ok(frame)) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let size = frame.data_ref().map_or(0, Buf::remaining);
        let Some(rest) = left.checked_sub(size) else { return };
        left = rest;
    }
}

/// The mirror's time runs from the end of the request: a slow client is not the mirror's fault.
async fn deadline(mirror: &Mirror, reader: Option<&Reader>) {
    if let Some(reader) = reader {
        poll_fn(|context| reader.poll_ended(context)).await;
    }
    tokio::time::sleep(mirror.timeout).await;
}

fn outcome(error: Option<&ExchangeError>, status: Option<StatusCode>, ended: Option<End>) -> Outcome {
    match (error, status, ended) {
        // An answer counts, unless the request it answers never became whole.
        (_, Some(_), Some(End::Cut(outcome @ (Outcome::CutClientGone | Outcome::CutDraining)))) => outcome,
        (_, Some(_), _) | (None, None, _) => Outcome::Delivered,
        (Some(_), None, Some(End::Cut(outcome))) => outcome,
        (Some(error), None, _) => match error {
            ExchangeError::NoEndpoints => Outcome::SkippedNoEndpoints,
            ExchangeError::Connect(_) => Outcome::FailedConnect,
            ExchangeError::Tls(_) => Outcome::FailedTls,
            ExchangeError::Timeout(_) => Outcome::FailedTimeout,
            ExchangeError::Reset => Outcome::FailedReset,
            ExchangeError::Protocol(_) => Outcome::FailedProtocol,
            ExchangeError::Request(_) => Outcome::CutClientGone,
        },
    }
}
