//! What a mirror may cost: copies in flight and per second, the memory they pin, and a breaker that
//! stops trying what cannot be reached.
//!
//! Lives as long as its route and backend are named in the configuration, across reloads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::breaker::{Breaker, Pass};
use super::dial::Dial;
use super::outcome::Outcome;
use super::rate::Rate;
use super::record::Reading;
use super::slots;
use crate::plan::MirrorPlan;
use crate::shard::WorkerId;
use crate::telemetry::logging::RateLimitedLog;
use crate::telemetry::metrics::MirrorMetrics;

/// What one mirror of one route may cost, and costs.
pub struct Budget {
    metrics: Arc<MirrorMetrics>,
    dial: Dial,
    in_flight: AtomicUsize,
    rate: Rate,
    breaker: Breaker,
    /// tokio's clock, which simulations move.
    start: tokio::time::Instant,
    failures: RateLimitedLog,
}

/// A copy in flight. Ends in exactly one outcome, whatever happens to its task.
pub struct Permit {
    budget: Arc<Budget>,
    worker: WorkerId,
    pass: Pass,
    outcome: Outcome,
}

impl Budget {
    /// A budget as `plan` has it.
    pub fn new(plan: &MirrorPlan, metrics: Arc<MirrorMetrics>) -> Arc<Self> {
        let budget = Self {
            metrics,
            dial: Dial::new(plan.share.clone(), Instant::now()),
            in_flight: AtomicUsize::new(plan.in_flight),
            rate: Rate::default(),
            breaker: Breaker::default(),
            start: tokio::time::Instant::now(),
            failures: RateLimitedLog::new(),
        };
        budget.rate.set(plan.rate);
        budget.show();
        Arc::new(budget)
    }

    /// The configuration was loaded again: bounds as `plan` has them, counts as they are.
    pub fn configure(&self, plan: &MirrorPlan) {
        self.in_flight.store(plan.in_flight, Ordering::Relaxed);
        self.rate.set(plan.rate);
        self.dial.configure(plan.share.clone(), Instant::now());
        self.show();
    }

    /// Leave for one copy, or why not.
    pub fn admit(self: &Arc<Self>, worker: WorkerId) -> Result<Permit, Outcome> {
        if !slots::take(&self.metrics.in_flight, self.in_flight_limit()) {
            return Err(Outcome::SkippedInFlight);
        }
        self.pass()
            .map(|pass| Permit {
                budget: self.clone(),
                worker,
                pass,
                // A copy whose task is dropped unfinished was dropped with its worker.
                outcome: Outcome::CutDraining,
            })
            .inspect_err(|_| slots::give_back(&self.metrics.in_flight))
    }

    fn pass(&self) -> Result<Pass, Outcome> {
        if !self.rate.admit(|| self.start.elapsed().as_nanos() as u64) {
            return Err(Outcome::SkippedRate);
        }
        // Last, since an open breaker gives its one probe away here.
        self.breaker.admit(|| self.milliseconds()).ok_or(Outcome::SkippedBreaker)
    }

    /// There was no copy, for this reason.
    pub fn skipped(&self, worker: WorkerId, outcome: Outcome) {
        self.metrics.ended(worker, outcome);
    }

    /// How many requests are copied.
    pub fn dial(&self) -> &Dial {
        &self.dial
    }

    /// Whether nothing but probes is sent, since the mirror cannot be reached.
    pub fn is_broken(&self) -> bool {
        self.breaker.is_open()
    }

    /// Copies that may be in flight.
    pub fn in_flight_limit(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Its counters.
    pub fn metrics(&self) -> &Arc<MirrorMetrics> {
        &self.metrics
    }

    /// Whether to log a failure now, and how many were not since the last time.
    pub fn log_failure(&self) -> Option<u64> {
        self.failures.permit()
    }

    /// Its counters, as the dial looks at them.
    pub fn reading(&self) -> Reading {
        Reading::of(|outcome| self.metrics.outcome_total(outcome), self.metrics.worse_total())
    }

    /// Shows the dial's state in the metrics.
    pub fn show(&self) {
        self.metrics.dialled(&self.dial.view(Instant::now()));
    }

    fn milliseconds(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }
}

impl Permit {
    /// The copy ended so.
    pub fn end(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let budget = &self.budget;
        budget.breaker.learn(self.pass, self.outcome, || budget.milliseconds());
        budget.metrics.ended(self.worker, self.outcome);
        slots::give_back(&budget.metrics.in_flight);
    }
}
