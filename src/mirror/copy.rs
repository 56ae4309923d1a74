//! One copy: built from the request as the primary gets it, delivered to a mirror, and forgotten.

use std::future::poll_fn;
use std::num::NonZeroU64;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Buf;
use futures_util::future::{Either, select};
use http::StatusCode;
use http_body::Body;

use super::budget::Permit;
use super::outcome::Outcome;
use super::pair::Pair;
use super::tee::{End, Reader};
use super::{Mirror, Subject, head};
use crate::limits;
use crate::plan::Oversize;
use crate::shard::Lane;
use crate::upstream::body::{BodyError, ResponseBody};
use crate::upstream::endpoint::Endpoint;
use crate::upstream::message::Message;
use crate::upstream::{ExchangeError, Policy, exchange};
use crate::worker::Worker;

/// One copy that was admitted.
pub struct Copy {
    pair: Arc<Pair>,
    permit: Permit,
    message: Result<Message, ExchangeError>,
    reader: Option<Arc<Reader>>,
    key: Option<NonZeroU64>,
    span: u64,
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
    /// Its span in a trace.
    pub span: u64,
}

#[derive(Default)]
struct Answer {
    status: Option<StatusCode>,
    endpoint: Option<Arc<Endpoint>>,
    /// Whether it was read to its end.
    whole: bool,
}

impl Copy {
    pub(super) fn new(
        mirror: Arc<Mirror>,
        permit: Permit,
        subject: &Subject<'_>,
        started: Instant,
        worker: &Worker,
    ) -> Self {
        let omits = mirror.plan.on_oversize == Oversize::HeadersOnly && mirror.is_oversize(subject.length);
        let reader = if omits { None } else { mirror.reader(subject, worker) };
        let body = reader.as_ref().map(|reader| Box::pin(reader.body()) as _);
        let key = mirror.backend.key(subject.parts, Some(subject.client));
        // A span of zeroes is none (W3C Trace Context, 2.2.3.4).
        let span = worker.random().max(1);
        let message = head::message(subject, &mirror, body, omits, (started, span));
        if omits {
            mirror.budget.metrics().omitted_body(worker.id());
        }
        Self { pair: Pair::new(mirror, started), permit, message, reader, key, span }
    }

    /// Where the request's body is to be offered, if it has one.
    pub fn reader(&self) -> Option<&Arc<Reader>> {
        self.reader.as_ref()
    }

    /// Whom it goes to.
    pub fn mirror(&self) -> &Arc<Mirror> {
        self.pair.mirror()
    }

    /// What its answer is compared in.
    pub fn pair(&self) -> &Arc<Pair> {
        &self.pair
    }

    /// Sends it and reads the answer, which is thrown away.
    pub async fn deliver(self, worker: &Arc<Worker>) -> Delivery {
        let Self { pair, permit, message, reader, key, span } = self;
        let mirror = pair.mirror();
        let started = Instant::now();
        let answer = Mutex::new(Answer::default());
        let error = {
            let delivery = pin!(transact(worker, &pair, key, message, reader.as_deref(), &answer));
            let deadline = pin!(deadline(worker, mirror, reader.as_deref(), &answer));
            match select(delivery, deadline).await {
                Either::Left((result, _)) => result.err(),
                Either::Right((over, _)) => Some(over),
            }
        };
        let Answer { status, endpoint, whole } = answer.into_inner().unwrap_or_else(PoisonError::into_inner);
        let outcome = outcome(error.as_ref(), status, reader.as_deref().and_then(Reader::ended));
        permit.end(outcome);
        if outcome != Outcome::Delivered {
            tell(mirror, outcome, error.as_ref());
        } else if !whole {
            mirror.budget.metrics().left_unread(worker.id());
        }
        Delivery { outcome, status, endpoint, error: error.map(|error| error.to_string()), started, span }
    }
}

/// One line for many, with how many it stands for.
fn tell(mirror: &Mirror, outcome: Outcome, error: Option<&ExchangeError>) {
    if let Some(suppressed) = mirror.budget.log_failure() {
        let error = error.map(ToString::to_string);
        tracing::warn!(
            route = &*mirror.route,
            mirror = &*mirror.name,
            outcome = outcome.as_str(),
            error,
            suppressed,
            "a copy was not delivered"
        );
    }
}

async fn transact(
    worker: &Arc<Worker>,
    pair: &Pair,
    key: Option<NonZeroU64>,
    message: Result<Message, ExchangeError>,
    reader: Option<&Reader>,
    answer: &Mutex<Answer>,
) -> Result<(), ExchangeError> {
    let mirror = pair.mirror();
    let policy = Policy {
        lane: Lane::Mirror,
        connect: connect_patience(mirror),
        attempt: None,
        attempts: limits::ATTEMPTS,
        fields: false,
        // It begins behind all of them.
        gathers: false,
        key,
    };
    let exchanged = exchange(worker, &mirror.backend, message?, None, &policy).await?;
    pair.answered(Lane::Mirror, exchanged.response.status(), worker.id());
    if let Ok(mut answer) = answer.lock() {
        answer.status = Some(exchanged.response.status());
        answer.endpoint = Some(exchanged.endpoint);
    }
    let pace = mirror.backend.pace();
    let most = pace.unwanted_bytes(worker.id(), Lane::Mirror);
    let thrown = throw_away(exchanged.response.into_body(), most, reader).await;
    match thrown {
        Thrown::Whole => pace.ended(worker.id(), Lane::Mirror),
        Thrown::Left => pace.left(worker.id(), Lane::Mirror, Instant::now()),
        Thrown::TooLong => pace.overran(worker.id(), Lane::Mirror, Instant::now()),
        Thrown::Broken => {}
    }
    if let Ok(mut answer) = answer.lock() {
        answer.whole = thrown == Thrown::Whole;
    }
    if let Some(reader) = reader {
        poll_fn(|context| reader.poll_ended(context)).await;
    }
    Ok(())
}

/// What became of an answer that nobody reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thrown {
    /// It came to its end.
    Whole,
    /// It said that it is longer than what is read; its connection is closed.
    Left,
    /// It turned out to be longer than that; its connection is closed.
    TooLong,
    /// The mirror broke it off.
    Broken,
}

/// Reads an answer to its end so that the connection can be used again, or closes it when that takes too
/// many bytes: of a request without a body, `most` of an answer that does not say how long it is, and of one
/// that does all, or no more than came with its head.
///
/// The answer may be longer by what the mirror took of the request: one that echoes would otherwise be cut
/// off in the middle of a request that it was said to have, and does not yet have when its last byte was
/// written. What is longer than that stays in the socket, where it costs nothing, until the request is
/// written.
pub(crate) async fn throw_away(mut body: ResponseBody, most: u64, reader: Option<&Reader>) -> Thrown {
    let length = body.size_hint().exact();
    let is_long = length.is_some_and(|length| length > limits::UNWANTED_BYTES);
    let most = match length {
        // One that is both sent to and read from needs room, lest it waits for us and we for it.
        _ if reader.is_some() => limits::UNWANTED_BYTES,
        Some(_) if is_long => 0,
        Some(_) => limits::UNWANTED_BYTES,
        None => most,
    };
    let mut read = 0_u64;
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let Ok(frame) = frame else { return Thrown::Broken };
        read += frame.data_ref().map_or(0, Buf::remaining) as u64;
        if read > most + reader.map_or(0, Reader::taken) {
            poll_fn(|context| body.poll_written(context)).await;
            if let (ResponseBody::Http2(_), Some(reader)) = (&body, reader) {
                written(reader).await;
            }
            return if is_long { Thrown::Left } else { Thrown::TooLong };
        }
        // An answer that is always there would be read in one go while requests wait for the worker.
        // Most end with their first piece, and a turn more would be a fifth of what a copy costs.
        if !body.is_end_stream() {
            tokio::task::yield_now().await;
        }
    }
    Thrown::Whole
}

/// Waits until the request has left for a connection of HTTP/2, which drops what it still has of a stream
/// when that is given up. Nobody is told when that is, but it can be seen: what was written costs nothing
/// any more. Its end costs nothing at all; it goes within the time of one look more.
async fn written(reader: &Reader) {
    poll_fn(|context| reader.poll_ended(context)).await;
    let mut is_written = false;
    while !is_written {
        is_written = reader.is_written();
        tokio::time::sleep(limits::MIRROR_WRITTEN_LOOK).await;
    }
}

/// For one endpoint: so that all that are tried fail before the copy's own time is over, and what
/// cannot be connected to is called that and opens the breaker.
fn connect_patience(mirror: &Mirror) -> Duration {
    let tried = (mirror.backend.endpoints().len() as u32).clamp(1, limits::ATTEMPTS);
    mirror.plan.timeouts.connect.min(mirror.plan.timeouts.total * 3 / (4 * tried))
}

/// When nothing more can come of a copy. The mirror's time runs from the end of the request: a slow
/// client is not the mirror's fault. What was cut ends at once: a mirror that does not read would
/// otherwise hold its place, and the connection that is to show the cut, until its time is over.
async fn deadline(
    worker: &Worker,
    mirror: &Mirror,
    reader: Option<&Reader>,
    answer: &Mutex<Answer>,
) -> ExchangeError {
    if let Some(reader) = reader
        && let End::Cut(_) = poll_fn(|context| reader.poll_ended(context)).await
    {
        return ExchangeError::Request(BodyError::Cut);
    }
    let total = mirror.plan.timeouts.total;
    let mut left = total;
    if let Some(first_byte) = mirror.plan.timeouts.first_byte.filter(|first_byte| *first_byte < total) {
        let asked = tokio::time::Instant::now();
        worker.alarm(first_byte).await;
        if answer.lock().is_ok_and(|answer| answer.status.is_none()) {
            return ExchangeError::Timeout(first_byte);
        }
        left = total.saturating_sub(asked.elapsed());
    }
    worker.alarm(left).await;
    ExchangeError::Timeout(total)
}

fn outcome(error: Option<&ExchangeError>, status: Option<StatusCode>, ended: Option<End>) -> Outcome {
    match (error, status, ended) {
        // An answer counts, unless the request that it answers was broken off before the answer's end.
        (_, _, Some(End::Cut(outcome))) => outcome,
        (_, Some(_), _) | (None, None, _) => Outcome::Delivered,
        (Some(error), None, _) => match error {
            ExchangeError::NoEndpoints => Outcome::SkippedNoEndpoints,
            ExchangeError::Connect(_) => Outcome::FailedConnect,
            ExchangeError::Tls(_) => Outcome::FailedTls,
            ExchangeError::Timeout(_) => Outcome::FailedTimeout,
            ExchangeError::Reset | ExchangeError::Removed => Outcome::FailedReset,
            ExchangeError::Protocol(_) => Outcome::FailedProtocol,
            ExchangeError::Request(_) => Outcome::CutClientGone,
        },
    }
}
