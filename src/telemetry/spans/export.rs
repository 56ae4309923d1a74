//! Sends spans to a collector, some hundred at a time, by OTLP over HTTP. On the control runtime.
//!
//! The collector is a backend like any other, found and spoken to by the same [`exchange`]. What it
//! does not take is lost and counted: a collector that is down must not fill memory, and nothing else
//! depends on it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::{HeaderValue, Request};
use tokio::sync::{mpsc, watch};

use super::{Span, json};
use crate::limits;
use crate::mirror::copy::throw_away;
use crate::telemetry::logging::RateLimitedLog;
use crate::telemetry::metrics::Metrics;
use crate::upstream::body::Whole;
use crate::upstream::http1::head::Length;
use crate::upstream::message::{Head, Message};
use crate::upstream::registry::BackendRef;
use crate::upstream::{exchange, primary_policy};
use crate::worker::Worker;

pub(super) struct Exporter {
    collector: BackendRef,
    worker: Arc<Worker>,
    metrics: Arc<Metrics>,
    failures: RateLimitedLog,
}

impl Exporter {
    pub(super) fn new(collector: BackendRef, worker: Arc<Worker>, metrics: Arc<Metrics>) -> Self {
        Self { collector, worker, metrics, failures: RateLimitedLog::new() }
    }

    /// Runs until the process ends; told that it is `closing`, sends what is left and says that it has
    /// `ended`.
    pub(super) async fn run(
        self,
        mut spans: mpsc::Receiver<Span>,
        mut closing: watch::Receiver<bool>,
        ended: watch::Sender<bool>,
    ) {
        let mut batch = Vec::with_capacity(limits::SPANS_BATCH);
        while gather(&mut spans, &mut closing, &mut batch).await {
            self.send(&batch).await;
            batch.clear();
        }
        ended.send_replace(true);
    }

    async fn send(&self, batch: &[Span]) {
        let sent = tokio::time::timeout(limits::SPANS_PATIENCE, self.post(json::request(batch)));
        let error = match sent.await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error),
            Err(_) => Some(format!("no answer within {:?}", limits::SPANS_PATIENCE)),
        };
        let gateway = &self.metrics.gateway;
        let count = if error.is_none() { &gateway.spans_exported } else { &gateway.spans_dropped };
        count.fetch_add(batch.len() as u64, Ordering::Relaxed);
        if let Some(error) = error
            && let Some(suppressed) = self.failures.permit()
        {
            tracing::warn!(collector = %self.collector.name(), error, suppressed, "spans were not exported");
        }
    }

    async fn post(&self, body: Vec<u8>) -> Result<(), String> {
        let name = self.collector.name();
        let host = name.split_once("://").map_or(&**name, |(_, host)| host);
        let request = Request::post("/v1/traces")
            .header(HOST, HeaderValue::from_str(host).map_err(|error| error.to_string())?)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header(CONTENT_LENGTH, HeaderValue::from(body.len()));
        let parts = request.body(()).map_err(|error| error.to_string())?.into_parts().0;
        let head = Head::new(&parts, Length::Exact(body.len() as u64));
        let body = Box::pin(Whole::new(body.into()));
        let message =
            Message::new(self.collector.speech(), &head, Some(body)).map_err(|error| error.to_string())?;
        let policy = primary_policy(None);
        let exchanged = exchange(&self.worker, &self.collector, message, None, &policy)
            .await
            .map_err(|error| error.to_string())?;
        let status = exchanged.response.status();
        throw_away(exchanged.response.into_body(), limits::UNWANTED_BYTES, None).await;
        match status.is_success() {
            true => Ok(()),
            false => Err(format!("the collector answered {status}")),
        }
    }
}

/// Waits for a span and then a little for more. False when there are none and will be none.
async fn gather(
    spans: &mut mpsc::Receiver<Span>,
    closing: &mut watch::Receiver<bool>,
    batch: &mut Vec<Span>,
) -> bool {
    if !*closing.borrow() {
        tokio::select! {
            _ = spans.recv_many(batch, limits::SPANS_BATCH) => {}
            _ = closing.wait_for(|closing| *closing) => {}
        }
    }
    let soon = tokio::time::sleep(limits::SPANS_INTERVAL);
    tokio::pin!(soon);
    while batch.len() < limits::SPANS_BATCH && !*closing.borrow() {
        let room = limits::SPANS_BATCH - batch.len();
        tokio::select! {
            taken = spans.recv_many(batch, room) => if taken == 0 { break },
            _ = closing.wait_for(|closing| *closing) => {}
            () = &mut soon => break,
        }
    }
    while batch.len() < limits::SPANS_BATCH
        && let Ok(span) = spans.try_recv()
    {
        batch.push(span);
    }
    !batch.is_empty()
}
