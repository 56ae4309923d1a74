//! Spans: each request that is traced, and each copy of it as its child, marked as a mirror's.
//!
//! A request is traced if it comes with a sampled `traceparent` (W3C Trace Context), or, without one, if
//! it is drawn. What goes on of it names our span as its parent. Nobody waits for the export: a span
//! that finds the queue full is dropped and counted (`mirrorgate_spans_dropped_total`), and what sends
//! them (`export`, behind the feature `otlp`) lives on the control runtime.
//!
//! Called by [`crate::proxy::record`].

#[cfg(feature = "otlp")]
mod export;
#[cfg(feature = "otlp")]
mod json;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

#[cfg(feature = "otlp")]
use crate::limits;
use crate::mirror::trace;
use crate::plan::TracesPlan;
use crate::telemetry::metrics::Metrics;
use crate::upstream::registry::BackendRef;
use crate::worker::Worker;

/// Where spans go. Clones go to the same place.
#[derive(Clone)]
pub struct Traces(Option<Arc<Shared>>);

struct Shared {
    queue: mpsc::Sender<Span>,
    /// A draw below it begins a trace; `None` takes every draw.
    threshold: Option<u64>,
    metrics: Arc<Metrics>,
    closing: watch::Sender<bool>,
    closed: watch::Receiver<bool>,
}

/// Where in a trace a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The trace.
    pub trace: u128,
    /// The span that the gateway has in it.
    pub span: u64,
    /// The span that called.
    pub parent: Option<u64>,
}

/// One span that is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Where it is.
    pub place: Place,
    /// Whether it is a copy's: a call of ours, beside the one that the client waits for.
    pub is_copy: bool,
    /// `GET route-1`.
    pub name: String,
    /// When it began.
    pub start: SystemTime,
    /// How long it took.
    pub duration: Duration,
    /// What is known of it.
    pub attributes: Vec<(&'static str, Attribute)>,
    /// Whether it went wrong.
    pub failed: bool,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
    /// A switch.
    Flag(bool),
}

impl Traces {
    /// No spans: a request costs one branch.
    pub fn off() -> Self {
        Self(None)
    }

    /// Sends spans to `collector` as `plan` says, from a task among `tasks`.
    #[cfg_attr(not(feature = "otlp"), allow(unused_variables))]
    pub fn start(
        plan: &TracesPlan,
        collector: BackendRef,
        worker: Arc<Worker>,
        metrics: &Arc<Metrics>,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        #[cfg(not(feature = "otlp"))]
        {
            tracing::warn!("`traces` is without effect: this program was built without the feature `otlp`");
            Self::off()
        }
        #[cfg(feature = "otlp")]
        {
            let (queue, spans) = mpsc::channel(limits::SPANS_QUEUE);
            let (traces, ended) = Self::to(queue, plan.fraction.threshold(), metrics);
            let closing = traces.0.as_ref().map(|shared| shared.closing.subscribe());
            if let Some(closing) = closing {
                let exporter = export::Exporter::new(collector, worker, metrics.clone());
                tasks.spawn(exporter.run(spans, closing, ended));
            }
            traces
        }
    }

    #[cfg_attr(not(feature = "otlp"), allow(dead_code))]
    fn to(
        queue: mpsc::Sender<Span>,
        threshold: Option<u64>,
        metrics: &Arc<Metrics>,
    ) -> (Self, watch::Sender<bool>) {
        let (ended, closed) = watch::channel(false);
        let closing = watch::Sender::new(false);
        let shared = Shared { queue, threshold, metrics: metrics.clone(), closing, closed };
        (Self(Some(Arc::new(shared))), ended)
    }

    /// The place of a request with `headers`, if it is traced; it goes on with our span as its parent.
    pub fn begin(&self, headers: &mut HeaderMap, random: impl FnMut() -> u64) -> Option<Place> {
        self.0.as_ref()?.begin(headers, random)
    }

    /// A span is over.
    pub fn export(&self, span: Span) {
        if let Some(shared) = &self.0
            && shared.queue.try_send(span).is_err()
        {
            shared.metrics.gateway.spans_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sends what is queued, for `patience` at most.
    pub async fn flush(&self, patience: Duration) {
        let Some(shared) = &self.0 else { return };
        shared.closing.send_replace(true);
        let mut closed = shared.closed.clone();
        let _late = tokio::time::timeout(patience, closed.wait_for(|closed| *closed)).await;
    }
}

impl Shared {
    fn begin(&self, headers: &mut HeaderMap, mut random: impl FnMut() -> u64) -> Option<Place> {
        let place = match trace::known(headers) {
            Some(known) => Place::within(&known)?.with_span(random()),
            None if headers.contains_key(&trace::PARENT) => return None,
            None => {
                let draw = random();
                if self.threshold.is_some_and(|threshold| draw >= threshold) {
                    return None;
                }
                let trace = u128::from(random().max(1)) << 64 | u128::from(random());
                Place { trace, span: random().max(1), parent: None }
            }
        };
        let parent = format!("00-{:032x}-{:016x}-01", place.trace, place.span);
        // Hexadecimal digits are a header's value.
        headers.insert(&trace::PARENT, HeaderValue::from_str(&parent).ok()?);
        Some(place)
    }
}

impl Place {
    /// By a `traceparent`; `None` when it is not sampled, or names nobody.
    fn within(known: &[u8; trace::LENGTH]) -> Option<Self> {
        let text = std::str::from_utf8(known).ok()?;
        let trace = u128::from_str_radix(text.get(3..35)?, 16).ok().filter(|trace| *trace != 0)?;
        let parent = u64::from_str_radix(text.get(trace::SPAN)?, 16).ok().filter(|span| *span != 0)?;
        let flags = u8::from_str_radix(text.get(53..)?, 16).ok()?;
        (flags & 1 == 1).then_some(Self { trace, span: parent, parent: Some(parent) })
    }

    fn with_span(self, span: u64) -> Self {
        Self { span: span.max(1), ..self }
    }

    /// The place of a copy whose span is `span`.
    pub fn child(self, span: u64) -> Self {
        Self { span, parent: Some(self.span), ..self }
    }
}

#[cfg(test)]
mod tests;
