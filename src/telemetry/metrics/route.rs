//! What one route's requests came to.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;

use super::sum;
use crate::proxy::grpc;
use crate::shard::{Sharded, WorkerId};
use crate::telemetry::codes::{self, CodeCounts, RareCodes};
use crate::telemetry::histogram::{Distribution, Histogram};

/// One route.
pub struct RouteMetrics {
    shards: Sharded<RouteShard>,
    rare: RareCodes,
    /// Made with the first call, since few routes have any.
    grpc: OnceLock<Box<[AtomicU64; grpc::STATUSES]>>,
}

#[derive(Default)]
struct RouteShard {
    codes: CodeCounts,
    durations: Histogram,
    forwarded: AtomicU64,
}

impl RouteMetrics {
    pub(super) fn new(workers: usize) -> Self {
        Self { shards: Sharded::new(workers), rare: RareCodes::default(), grpc: OnceLock::new() }
    }

    /// A response was sent to a client.
    #[inline]
    pub fn responded(&self, worker: WorkerId, code: StatusCode, duration: Duration) {
        let shard = self.shards.of(worker);
        shard.codes.add(Some(code), &self.rare);
        shard.durations.observe(duration);
    }

    /// A gRPC call ended, with its status or without one.
    pub fn grpc(&self, status: Option<u16>) {
        let counts = self.grpc.get_or_init(Box::default);
        // What is no status of gRPC is counted with what has none.
        let slot = status.map_or(usize::MAX, usize::from).min(counts.len() - 1);
        if let Some(count) = counts.get(slot) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Ends of gRPC calls by status; `none` for those without one.
    pub fn grpc_statuses(&self) -> Vec<(String, u64)> {
        let counts = self.grpc.get().into_iter().flat_map(|counts| counts.iter().enumerate());
        counts
            .map(|(status, count)| (status, count.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
            .map(|(status, count)| match status + 1 {
                grpc::STATUSES => ("none".to_owned(), count),
                _ => (status.to_string(), count),
            })
            .collect()
    }

    /// A request was sent on to a backend (what mirror outcomes add up to).
    #[inline]
    pub fn forwarded(&self, worker: WorkerId) {
        self.shards.of(worker).forwarded.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests sent on to a backend.
    pub fn forwarded_total(&self) -> u64 {
        sum(self.shards.iter().map(|shard| &shard.forwarded))
    }

    /// Responses sent to clients, by the `code` label, without zeroes.
    pub fn responses(&self) -> Vec<(String, u64)> {
        codes::totals(self.shards.iter().map(|shard| &shard.codes), &self.rare)
    }

    pub(in crate::telemetry) fn durations(&self) -> Distribution {
        Distribution::of(self.shards.iter().map(|shard| &shard.durations))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the first page of [`metrics`](super::super) says of ten thousand routes.
    #[test]
    fn a_route_shard_stays_small() {
        assert!(size_of::<RouteShard>() <= 512, "{}", size_of::<RouteShard>());
    }
}
