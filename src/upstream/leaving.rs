//! Removed endpoints whose exchanges in flight are broken off at a deadline.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::endpoint::Endpoint;
use crate::limits;
use crate::shard::Lane;

/// Removed endpoints, with their deadlines. Outlives its backend.
#[derive(Default)]
pub(super) struct Leaving(Mutex<VecDeque<(Instant, Arc<Endpoint>)>>);

impl Leaving {
    /// Breaks off what `endpoints` still have in flight then. Beyond the bound those that have nothing
    /// in flight are forgotten, and then the first to have been removed broken off at once.
    pub(super) fn add(&self, endpoints: Vec<Arc<Endpoint>>, deadline: Instant) {
        let mut leaving = self.lock();
        leaving.extend(endpoints.into_iter().map(|endpoint| (deadline, endpoint)));
        if leaving.len() > limits::LEAVING {
            leaving.retain(|(_, endpoint)| Lane::ALL.iter().any(|lane| endpoint.load(*lane).0 > 0));
        }
        while leaving.len() > limits::LEAVING
            && let Some((_, endpoint)) = leaving.pop_front()
        {
            endpoint.expire();
        }
    }

    /// Breaks off what is due, and says when the next is.
    pub(super) fn turn(&self, now: Instant) -> Option<Instant> {
        let mut leaving = self.lock();
        leaving.retain(|(deadline, endpoint)| {
            let due = *deadline <= now;
            if due {
                endpoint.expire();
            }
            !due
        });
        leaving.iter().map(|(deadline, _)| *deadline).min()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Instant, Arc<Endpoint>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
