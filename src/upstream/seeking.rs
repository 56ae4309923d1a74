//! Who gets an exchange, and what is made of how it ended: the side of [`exchange`](super::exchange) that faces the
//! backend. It sends nothing.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Instant;

use super::attempt::{Answer, Failed};
use super::backend::Backend;
use super::endpoint::Endpoint;
use super::members::Circumstances;
use super::pool::Lease;
use super::retry::{Failure, Retries};
use super::{ExchangeError, Policy};
use crate::plan::HashKey;
use crate::worker::Worker;

/// What an endpoint is sought for.
pub(super) struct Seeking<'request> {
    worker: &'request Arc<Worker>,
    backend: &'request Backend,
    policy: &'request Policy,
}

/// An exchange that is counted on its endpoint, and when it began, if anybody wants to know.
pub(super) type Leased = (Lease, Option<Box<Instant>>);

impl<'request> Seeking<'request> {
    /// Made anew whenever it is wanted: as a variable it would lie in every request's future.
    pub(super) fn new(
        worker: &'request Arc<Worker>,
        backend: &'request Backend,
        policy: &'request Policy,
    ) -> Self {
        Self { worker, backend, policy }
    }

    /// Picks an endpoint and counts the exchange on it. This is where it is checked that nobody is
    /// sent to an endpoint that was retired before the pick, apart from the balancer that picked it.
    pub(super) fn lease(&self, tried: &[Arc<Endpoint>]) -> Result<Leased, ExchangeError> {
        let metrics = self.backend.metrics();
        loop {
            let set = self.backend.endpoints();
            let endpoint = set.pick(self.policy.lane, tried, self).ok_or(ExchangeError::NoEndpoints)?;
            // Counted before the check, so that what is left at a removed endpoint only becomes less.
            let mut lease = Lease::new(self.worker.clone(), endpoint.clone(), self.policy.lane);
            match endpoint.retired() {
                // The set was swapped between the load and now: pick from the new one.
                Some(generation) if generation > set.generation() => continue,
                Some(_) => metrics.sent_to_removed(self.worker.id(), self.policy.lane),
                None => {}
            }
            if let Some(delay) = set.first_used() {
                metrics.first_used(delay);
            }
            let ejection = set.policy().ejection.as_ref();
            let timed = ejection.is_some_and(|ejection| ejection.slower_than.is_some());
            if set.policy().drain.is_some() {
                lease.expires();
            }
            // Boxed, since a future has room for it whether or not anybody wants to know.
            return Ok((lease, timed.then(|| Box::new(Instant::now()))));
        }
    }

    #[cold]
    pub(super) fn is_somebody_left(&self, tried: &[Arc<Endpoint>]) -> bool {
        self.backend.endpoints().pick(self.policy.lane, tried, self).is_some()
    }

    /// Whether there is somebody else and the budget lasts, for a request of which something was sent.
    #[cold]
    pub(super) fn may_send_again(&self, tried: &mut Vec<Arc<Endpoint>>, retries: &Retries<'_>) -> bool {
        let metrics = self.backend.metrics();
        if !self.is_somebody_left(tried) {
            if !retries.may_repeat_endpoints() {
                return false;
            }
            tried.clear();
        }
        let allowed = self.backend.budget(self.worker.id(), self.policy.lane).spend(Instant::now());
        match allowed {
            true => metrics.retried(self.worker.id(), self.policy.lane),
            false => metrics.retry_denied(self.worker.id(), self.policy.lane),
        }
        allowed
    }

    /// Takes note of how an attempt ended, for the metrics and for the endpoint. Says what it was if
    /// it failed, or may count as failed.
    pub(super) fn met(
        &self,
        endpoint: &Endpoint,
        ended: &Result<Answer, Failed>,
        begun: Option<Box<Instant>>,
    ) -> Option<Failure> {
        let status = ended.as_ref().ok().map(|(response, _)| response.status());
        let metrics = self.backend.metrics();
        if let Some(status) = status.filter(|status| status.as_u16() < 400 && begun.is_none()) {
            metrics.answered(self.worker.id(), self.policy.lane, Some(status));
            endpoint.condition().succeeded(self.policy.lane);
            return Some(Failure::Status(status));
        }
        let failure = match ended {
            Ok(_) => status.map(Failure::Status),
            Err(failed) if failed.is_removed() => return None,
            Err(failed) => Failure::of(&failed.error),
        };
        metrics.answered(self.worker.id(), self.policy.lane, status);
        let stale = matches!(ended, Err(failed) if failed.reused);
        if let Some(failure) = failure.filter(|_| !stale) {
            self.backend.met(endpoint, self.policy.lane, failure, begun.map(|begun| begun.elapsed()));
        }
        failure
    }
}

impl Circumstances for Seeking<'_> {
    #[inline]
    fn random(&self) -> u64 {
        self.worker.random()
    }

    fn turn(&self) -> u64 {
        self.backend.turn(self.worker.id(), self.policy.lane)
    }

    fn key(&self, _: &HashKey) -> Option<u64> {
        self.policy.key.map(NonZeroU64::get)
    }

    #[inline]
    fn load(&self, endpoint: &Endpoint) -> usize {
        endpoint.pool(self.worker.id(), self.policy.lane).in_flight()
    }
}
