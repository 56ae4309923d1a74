//! Counters of the data plane. Handles are resolved when a table is compiled; a request touches only
//! its worker's shard.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;

use crate::mirror::outcome::Outcome;
use crate::shard::{Lane, WorkerId};

/// Every metric of the process.
pub struct Metrics {
    workers: usize,
    pub gateway: GatewayMetrics,
}

/// What belongs to no route.
#[derive(Default)]
pub struct GatewayMetrics {
    pub client_connections: AtomicI64,
    pub client_connections_total: AtomicU64,
}

/// One route.
pub struct RouteMetrics {}

/// One backend.
pub struct BackendMetrics {}

/// One mirror of one route.
pub struct MirrorMetrics {
    pub in_flight: AtomicUsize,
    pub buffered_bytes: AtomicUsize,
}

impl Metrics {
    pub fn new(workers: usize) -> Self {
        Self { workers, gateway: GatewayMetrics::default() }
    }
    pub fn route(&self, _name: &Arc<str>) -> Arc<RouteMetrics> {
        let _ = self.workers;
        Arc::new(RouteMetrics {})
    }
    pub fn backend(&self, _name: &Arc<str>) -> Arc<BackendMetrics> {
        Arc::new(BackendMetrics {})
    }
    pub fn mirror(&self, _route: &Arc<str>, _backend: &Arc<str>) -> Arc<MirrorMetrics> {
        Arc::new(MirrorMetrics { in_flight: AtomicUsize::new(0), buffered_bytes: AtomicUsize::new(0) })
    }
}

impl RouteMetrics {
    /// A response was sent to a client.
    pub fn responded(&self, _worker: WorkerId, _code: StatusCode, _duration: Duration) {}
    /// A request was sent on to a backend (what mirror outcomes add up to).
    pub fn forwarded(&self, _worker: WorkerId) {}
}

impl BackendMetrics {
    /// An endpoint answered, or `None`: the exchange failed (label `code="none"`... see interface).
    pub fn answered(&self, _worker: WorkerId, _lane: Lane, _code: Option<StatusCode>) {}
    /// An attempt failed and another endpoint was tried.
    pub fn retried(&self, _worker: WorkerId, _lane: Lane) {}
    /// A request was handed to a connection of an endpoint that was retired before the pick.
    pub fn sent_to_removed(&self, _worker: WorkerId, _lane: Lane) {}
    /// A new set is in use, `delay` after its source learned of it.
    pub fn published(&self, _generation: u64, _endpoints: usize, _delay: Duration) {}
}

impl MirrorMetrics {
    pub fn ended(&self, _worker: WorkerId, _outcome: Outcome) {
        self.in_flight.load(Ordering::Relaxed);
    }
}
