//! What one backend's endpoints answered, by lane, and how fresh its set is.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;

use super::sum;
use crate::shard::{Lane, Sharded, WorkerId};
use crate::telemetry::codes::{self, CodeCounts, RareCodes};
use crate::telemetry::histogram::{Distribution, Histogram};

/// One backend.
pub struct BackendMetrics {
    lanes: [BackendLane; 2],
    generation: AtomicU64,
    endpoints: AtomicUsize,
    propagation: Histogram,
    first_use: Histogram,
    /// How often the source could not tell, and whether that is so now.
    source_failures: AtomicU64,
    source_failing: AtomicBool,
}

struct BackendLane {
    shards: Sharded<BackendShard>,
    rare: RareCodes,
}

#[derive(Default)]
struct BackendShard {
    codes: CodeCounts,
    retried: AtomicU64,
    retry_denied: AtomicU64,
    sent_to_removed: AtomicU64,
    connects: [AtomicU64; Connect::ALL.len()],
}

/// How an attempt to connect to an endpoint ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connect {
    /// With a connection.
    Established,
    /// It failed.
    Failed,
    /// The endpoint was removed meanwhile: nobody's failure.
    Removed,
}

impl Connect {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Established, Self::Failed, Self::Removed];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Established => "established",
            Self::Failed => "failed",
            Self::Removed => "removed",
        }
    }
}

impl BackendMetrics {
    pub(super) fn new(workers: usize) -> Self {
        let lane = || BackendLane { shards: Sharded::new(workers), rare: RareCodes::default() };
        Self {
            lanes: [lane(), lane()],
            generation: AtomicU64::new(0),
            endpoints: AtomicUsize::new(0),
            propagation: Histogram::default(),
            first_use: Histogram::default(),
            source_failures: AtomicU64::new(0),
            source_failing: AtomicBool::new(false),
        }
    }

    /// An endpoint answered, or `None`: the exchange failed (label `code="none"`).
    #[inline]
    pub fn answered(&self, worker: WorkerId, lane: Lane, code: Option<StatusCode>) {
        let lane = self.lane(lane);
        lane.shards.of(worker).codes.add(code, &lane.rare);
    }

    /// An attempt failed and another endpoint was tried.
    pub fn retried(&self, worker: WorkerId, lane: Lane) {
        self.lane(lane).shards.of(worker).retried.fetch_add(1, Ordering::Relaxed);
    }

    /// An attempt failed and was not repeated, since the budget for that was used up.
    pub fn retry_denied(&self, worker: WorkerId, lane: Lane) {
        self.lane(lane).shards.of(worker).retry_denied.fetch_add(1, Ordering::Relaxed);
    }

    /// A request was handed to a connection of an endpoint that was retired before the pick.
    pub fn sent_to_removed(&self, worker: WorkerId, lane: Lane) {
        self.lane(lane).shards.of(worker).sent_to_removed.fetch_add(1, Ordering::Relaxed);
    }

    /// An attempt to connect to an endpoint ended.
    pub fn connected(&self, worker: WorkerId, lane: Lane, how: Connect) {
        self.lane(lane).shards.of(worker).connects[how as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A new set is in use, `delay` after its source learned of it.
    pub fn published(&self, generation: u64, endpoints: usize, delay: Duration) {
        self.generation.store(generation, Ordering::Relaxed);
        self.endpoints.store(endpoints, Ordering::Relaxed);
        self.propagation.observe(delay);
    }

    /// The first request went by the set in use, `delay` after its source learned of what is new.
    pub fn first_used(&self, delay: Duration) {
        self.first_use.observe(delay);
    }

    /// The source could not tell what its endpoints are.
    pub fn source_failed(&self) {
        self.source_failures.fetch_add(1, Ordering::Relaxed);
        self.source_failing.store(true, Ordering::Relaxed);
    }

    /// The source has told.
    pub fn source_answered(&self) {
        self.source_failing.store(false, Ordering::Relaxed);
    }

    /// How often the source could not tell, and whether that is so now.
    pub fn source_failures(&self) -> (u64, bool) {
        (self.source_failures.load(Ordering::Relaxed), self.source_failing.load(Ordering::Relaxed))
    }

    /// Generation of the set in use; 0 before the first.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Endpoints of the set in use.
    pub fn endpoints(&self) -> usize {
        self.endpoints.load(Ordering::Relaxed)
    }

    /// Answers in `lane`, by the `code` label, without zeroes.
    pub fn answers(&self, lane: Lane) -> Vec<(String, u64)> {
        let lane = self.lane(lane);
        codes::totals(lane.shards.iter().map(|shard| &shard.codes), &lane.rare)
    }

    /// Attempts in `lane` that went to another endpoint.
    pub fn retried_total(&self, lane: Lane) -> u64 {
        sum(self.lane(lane).shards.iter().map(|shard| &shard.retried))
    }

    /// Attempts in `lane` that the budget for retries did not allow.
    pub fn retry_denied_total(&self, lane: Lane) -> u64 {
        sum(self.lane(lane).shards.iter().map(|shard| &shard.retry_denied))
    }

    /// Requests in `lane` that were sent to an endpoint after it was removed.
    pub fn sent_to_removed_total(&self, lane: Lane) -> u64 {
        sum(self.lane(lane).shards.iter().map(|shard| &shard.sent_to_removed))
    }

    /// Attempts of `lane` to connect that ended so.
    pub fn connects_total(&self, lane: Lane, how: Connect) -> u64 {
        sum(self.lane(lane).shards.iter().map(|shard| &shard.connects[how as usize]))
    }

    pub(in crate::telemetry) fn propagation(&self) -> Distribution {
        Distribution::of([&self.propagation].into_iter())
    }

    pub(in crate::telemetry) fn first_use(&self) -> Distribution {
        Distribution::of([&self.first_use].into_iter())
    }

    fn lane(&self, lane: Lane) -> &BackendLane {
        &self.lanes[lane.index()]
    }
}
