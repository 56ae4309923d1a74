//! What a mirror may cost: copies in flight, and a breaker that stops trying what cannot be reached.
//!
//! Lives as long as its route and backend are named in the configuration, across reloads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use super::outcome::Outcome;
use crate::limits;
use crate::shard::WorkerId;
use crate::telemetry::metrics::MirrorMetrics;

/// What one mirror of one route may cost, and costs.
pub struct Budget {
    metrics: Arc<MirrorMetrics>,
    in_flight: AtomicUsize,
    breaker: Breaker,
}

/// A copy in flight. Ends in exactly one outcome, whatever happens to its task.
pub struct Permit {
    budget: Arc<Budget>,
    worker: WorkerId,
    outcome: Outcome,
}

/// Counts connect failures in a row; from [`limits::BREAKER_FAILURES`] on lets one probe through in
/// each [`limits::BREAKER_PROBE`], until one succeeds.
struct Breaker {
    failures: AtomicU32,
    /// Milliseconds from `start` to the next probe.
    next_probe: AtomicU64,
    start: Instant,
}

impl Budget {
    /// A budget of `in_flight` copies.
    pub fn new(in_flight: usize, metrics: Arc<MirrorMetrics>) -> Arc<Self> {
        let breaker =
            Breaker { failures: AtomicU32::new(0), next_probe: AtomicU64::new(0), start: Instant::now() };
        Arc::new(Self { metrics, in_flight: AtomicUsize::new(in_flight), breaker })
    }

    /// Sets how many copies may be in flight from now on.
    pub fn set_in_flight(&self, limit: usize) {
        self.in_flight.store(limit, Ordering::Relaxed);
    }

    /// Leave for one copy, or why not.
    pub fn admit(self: &Arc<Self>, worker: WorkerId) -> Result<Permit, Outcome> {
        let before = self.metrics.in_flight.fetch_add(1, Ordering::Relaxed);
        if before >= self.in_flight.load(Ordering::Relaxed) {
            self.metrics.in_flight.fetch_sub(1, Ordering::Relaxed);
            return Err(Outcome::SkippedInFlight);
        }
        // Last, since an open breaker gives its one probe away here.
        if !self.breaker.admits() {
            self.metrics.in_flight.fetch_sub(1, Ordering::Relaxed);
            return Err(Outcome::SkippedBreaker);
        }
        // A copy whose task is dropped unfinished was dropped with its worker.
        Ok(Permit { budget: self.clone(), worker, outcome: Outcome::CutDraining })
    }

    /// There was no copy, for this reason.
    pub fn skipped(&self, worker: WorkerId, outcome: Outcome) {
        self.metrics.ended(worker, outcome);
    }

    /// Its counters.
    pub fn metrics(&self) -> &Arc<MirrorMetrics> {
        &self.metrics
    }
}

impl Permit {
    /// The copy ended so.
    pub fn end(mut self, outcome: Outcome) {
        self.outcome = outcome;
        self.budget.breaker.learn(outcome);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.metrics.ended(self.worker, self.outcome);
        self.budget.metrics.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Breaker {
    fn admits(&self) -> bool {
        if self.failures.load(Ordering::Relaxed) < limits::BREAKER_FAILURES {
            return true;
        }
        let now = self.start.elapsed().as_millis() as u64;
        let due = self.next_probe.load(Ordering::Relaxed);
        let next = now + limits::BREAKER_PROBE.as_millis() as u64;
        now >= due
            && self.next_probe.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn learn(&self, outcome: Outcome) {
        match outcome {
            Outcome::FailedConnect | Outcome::FailedTls => {
                let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
                if failures == limits::BREAKER_FAILURES {
                    let next = self.start.elapsed() + limits::BREAKER_PROBE;
                    self.next_probe.store(next.as_millis() as u64, Ordering::Relaxed);
                }
            }
            // A load first: while all goes well nobody writes to this line.
            _ if self.failures.load(Ordering::Relaxed) > 0 && reached(outcome) => {
                self.failures.store(0, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

/// Whether the outcome shows that the mirror can be connected to.
fn reached(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Delivered | Outcome::FailedReset | Outcome::FailedProtocol)
}
