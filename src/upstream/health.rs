//! Who of a backend's endpoints is left out, and for how long: probes, ejection, slow start.
//!
//! [`keep`] runs on the control runtime beside the task that keeps the backend fresh. Workers count
//! failures in an endpoint's [`super::condition`] and call when there are enough; what follows is
//! decided here, in one place for both lanes, and put into use as a new set of members. A pick
//! therefore looks at nobody's health.

mod ejection;
mod probe;
mod probing;

use std::time::Instant;

use tokio::time::sleep_until;

use self::probing::Probing;
use super::endpoint_set::EndpointSet;
use super::registry::{BackendRef, WeakBackendRef};
use crate::limits;
use crate::plan::BackendPolicy;
use crate::shard::Lane;

/// Looks after the endpoints of `backend` until nobody refers to it any more. Holds no reference
/// across an await, so that it never keeps a subscription alive.
pub async fn keep(backend: WeakBackendRef) {
    let Some((mut revision, attention, leaving)) = backend
        .upgrade()
        .map(|backend| (backend.revision(), backend.attention().clone(), backend.leaving().clone()))
    else {
        return;
    };
    let mut keeper = Keeper::default();
    while let Some(backend) = backend.upgrade() {
        let next = keeper.turn(&backend, Instant::now());
        drop(backend);
        let next = [next, leaving.turn(Instant::now())].into_iter().flatten().min();
        let wake = async {
            match next {
                Some(next) => sleep_until(next.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // An error means that nobody refers to it any more.
            changed = revision.changed() => if changed.is_err() { break },
            () = attention.notified() => {}
            () = keeper.probing.heard() => {}
            () = wake => {}
        }
    }
    drop(keeper);
    while let Some(next) = leaving.turn(Instant::now()) {
        sleep_until(next.into()).await;
    }
}

/// One backend's keeper.
#[derive(Default)]
struct Keeper {
    probing: Probing,
    /// When shares that grow are looked at again.
    grow_at: Option<Instant>,
}

impl Keeper {
    /// Does what is to be done now; says when to come again at the latest.
    fn turn(&mut self, backend: &BackendRef, now: Instant) -> Option<Instant> {
        let set = backend.endpoints().clone();
        let policy = set.policy().clone();
        let review = ejection::review(set.entries(), policy.ejection.as_ref(), now, fastrand::f64);
        let probed = self.probing.turn(backend, &set, now);
        let grown = self.grow_at.is_some_and(|at| at <= now);
        if review.news || probed || grown {
            backend.rebalance(now, review.news || probed);
        }
        if grown || self.grow_at.is_none() {
            // Once more after the last one is grown, for its last step.
            self.grow_at = (grown || is_growing(&set, &policy, now))
                .then(|| policy.slow_start.filter(|_| !grown || is_growing(&set, &policy, now)))
                .flatten()
                .map(|window| now + (window / limits::SLOW_START_STEPS).max(limits::SLOW_START_TICK));
        }
        [review.next, self.probing.next(), self.grow_at].into_iter().flatten().min()
    }
}

/// Whether somebody's share is still to grow.
fn is_growing(set: &EndpointSet, policy: &BackendPolicy, now: Instant) -> bool {
    policy.slow_start.is_some_and(|window| {
        set.entries()
            .iter()
            .any(|entry| Lane::ALL.iter().any(|lane| entry.endpoint.condition().age(*lane, now) < window))
    })
}

#[cfg(test)]
mod tests;
