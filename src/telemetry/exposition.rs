//! The text of `/metrics`: adds up the shards and names the series. Called on the control side only,
//! since adding up ten thousand routes takes milliseconds.
//!
//! Series by code and by outcome appear once they are above 0, `delivered` from the start; counters
//! that are expected to stay 0 appear from the start, so that an alert on them has something to see.

mod backends;
mod gateway;
mod mirrors;
mod routes;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::text::{encode, encode_registry};
use prometheus_client::registry::Registry;

use super::metrics::Metrics;
use super::page::Page;
use super::process::ProcessFigures;
use crate::shard::Lane;

/// How the text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4, which every scraper reads.
    Prometheus,
    /// OpenMetrics 1.0, for scrapers that ask for it.
    OpenMetrics,
}

/// A backend at this moment.
pub struct BackendNow {
    /// Its name.
    pub name: Arc<str>,
    /// How long ago its source last said that the set in use is right; `None` before the source's first
    /// answer.
    pub age: Option<Duration>,
    /// Endpoints of the set in use that take no traffic of a lane, since probes or that traffic failed;
    /// all are used when all are left out.
    pub left_out: [usize; Lane::ALL.len()],
}

impl Format {
    /// The best that an `Accept` header allows.
    pub fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Every metric as text. `now` is handed in, since only whoever owns the backends knows it.
///
/// # Errors
/// None that writing to memory can meet; the encoder's signature has one.
pub fn render(metrics: &Arc<Metrics>, now: Vec<BackendNow>, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Exposition { metrics: metrics.clone(), now, format }));
    let mut text = String::new();
    match format {
        Format::Prometheus => encode_registry(&mut text, &registry)?,
        Format::OpenMetrics => encode(&mut text, &registry)?,
    }
    Ok(text)
}

struct Exposition {
    metrics: Arc<Metrics>,
    now: Vec<BackendNow>,
    format: Format,
}

impl fmt::Debug for Exposition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Exposition").finish_non_exhaustive()
    }
}

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page::new(&mut encoder, self.format);
        self.routes(&mut page)?;
        self.backends(&mut page)?;
        self.mirrors(&mut page)?;
        self.comparisons(&mut page)?;
        self.dials(&mut page)?;
        self.gateway(&mut page)?;
        process(&mut page, &ProcessFigures::read())
    }
}

/// The names that every Prometheus client library gives these.
fn process(page: &mut Page<'_, '_>, figures: &ProcessFigures) -> fmt::Result {
    if let Some(seconds) = figures.cpu_seconds {
        page.counter("process_cpu_seconds", "User and system CPU time", |family| family.seconds(seconds))?;
    }
    for (name, help, value) in [
        ("process_resident_memory_bytes", "Resident memory", figures.resident_bytes),
        ("process_virtual_memory_bytes", "Virtual memory", figures.virtual_bytes),
        ("process_threads", "Threads", figures.threads),
        ("process_open_fds", "File descriptors open", figures.open_files),
        ("process_max_fds", "File descriptors allowed", figures.max_files),
        ("process_start_time_seconds", "Start of the process since 1970", figures.started),
    ] {
        if let Some(value) = value {
            page.gauge(name, help, |family| family.value(&[], value as f64))?;
        }
    }
    Ok(())
}
