//! Removed endpoints whose exchanges in flight are broken off at a deadline.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::endpoint::Endpoint;

/// Removed endpoints, with their deadlines. Outlives its backend.
#[derive(Default)]
pub(super) struct Leaving(Mutex<Vec<(Instant, Arc<Endpoint>)>>);

impl Leaving {
    /// Breaks off what `endpoint` still has in flight then.
    pub(super) fn add(&self, endpoint: Arc<Endpoint>, deadline: Instant) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((deadline, endpoint));
    }

    /// Breaks off what is due, and says when the next is.
    pub(super) fn turn(&self, now: Instant) -> Option<Instant> {
        let mut leaving = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        leaving.retain(|(deadline, endpoint)| {
            let due = *deadline <= now;
            if due {
                endpoint.expire();
            }
            !due
        });
        leaving.iter().map(|(deadline, _)| *deadline).min()
    }
}
