//! A named pool of endpoints: what everybody who refers to it shares.
//!
//! Owns the endpoint set in use and how fresh it is. Knows no lane: what traffic does to an endpoint
//! lives in [`super::endpoint`], per lane.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};
use http::HeaderValue;
use tokio::sync::{Notify, watch};

use super::endpoint_set::EndpointSet;
use crate::discovery::source::{EndpointSpec, SourceSpec};
use crate::plan::{BackendSpec, Protocol};
use crate::telemetry::metrics::BackendMetrics;

/// A named pool of endpoints.
pub struct Backend {
    name: Arc<str>,
    protocol: Protocol,
    host: Option<HeaderValue>,
    workers: usize,
    endpoints: ArcSwap<EndpointSet>,
    /// Also the lock under which sets are published.
    state: Mutex<State>,
    answered: watch::Sender<bool>,
    metrics: Arc<BackendMetrics>,
    gone: Arc<Notify>,
}

struct State {
    source: SourceSpec,
    confirmed: Option<Instant>,
    last_error: Option<String>,
}

/// How old what a backend uses is, for people and metrics.
#[derive(Clone, Debug)]
pub struct Freshness {
    /// When the source last said that the set in use is right; `None` before its first answer. A
    /// static list is always right.
    pub confirmed: Option<Instant>,
    /// Why the source could not answer last time; `None` once it did again.
    pub last_error: Option<String>,
}

impl Backend {
    pub(super) fn new(
        spec: &BackendSpec,
        workers: usize,
        metrics: Arc<BackendMetrics>,
        gone: Arc<Notify>,
    ) -> Self {
        Self {
            name: spec.name.clone(),
            protocol: spec.protocol,
            host: spec.host.clone(),
            workers,
            endpoints: ArcSwap::from_pointee(EndpointSet::default()),
            state: Mutex::new(State { source: spec.source.clone(), confirmed: None, last_error: None }),
            answered: watch::Sender::new(false),
            metrics,
            gone,
        }
    }

    /// Its name in the configuration, or its URL.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What its endpoints speak.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The Host that its endpoints are sent instead of the client's.
    pub fn host(&self) -> Option<&HeaderValue> {
        self.host.as_ref()
    }

    /// Counters of the traffic to it.
    pub fn metrics(&self) -> &Arc<BackendMetrics> {
        &self.metrics
    }

    /// The set in use. The guard must not be held across an await.
    pub fn endpoints(&self) -> Guard<Arc<EndpointSet>> {
        self.endpoints.load()
    }

    /// Where its endpoints come from at present.
    pub fn source(&self) -> SourceSpec {
        self.state().source.clone()
    }

    /// How fresh the set in use is.
    pub fn freshness(&self) -> Freshness {
        let state = self.state();
        Freshness { confirmed: state.confirmed, last_error: state.last_error.clone() }
    }

    /// Whether the source has answered at all, with a set or with a failure.
    pub fn answered(&self) -> watch::Receiver<bool> {
        self.answered.subscribe()
    }

    /// Puts `wanted` into use; called by the resolver alone.
    ///
    /// Endpoints found in both sets keep their connections. Once this returns, no request that
    /// begins picks a removed endpoint and its idle connections are closed. `event` is when the
    /// source learned of the change. Returns whether anything changed.
    pub fn publish(&self, wanted: &[EndpointSpec], event: Instant) -> bool {
        let mut state = self.state();
        state.confirmed = Some(Instant::now());
        state.last_error = None;
        let current = self.endpoints.load_full();
        let changed = current.generation() == 0 || !current.same_as(wanted);
        if changed {
            let (next, removed) = current.successor(wanted, self.workers);
            let next = Arc::new(next);
            self.endpoints.store(next.clone());
            // After the swap: whoever still picks from the old set finds the mark and picks again.
            for endpoint in removed {
                endpoint.retire(next.generation());
            }
            self.metrics.published(next.generation(), next.len(), event.elapsed());
        }
        drop(state);
        self.answered.send_replace(true);
        changed
    }

    /// The source confirmed that nothing changed.
    pub fn confirm(&self) {
        let mut state = self.state();
        state.confirmed = Some(Instant::now());
        state.last_error = None;
    }

    /// The source could not tell: the set in use stays and ages.
    pub fn fail(&self, error: String) {
        self.state().last_error = Some(error);
        self.answered.send_replace(true);
    }

    /// Whether connections of this backend would do for `spec`.
    pub(super) fn speaks_as(&self, spec: &BackendSpec) -> bool {
        self.protocol == spec.protocol && self.host == spec.host
    }

    pub(super) fn set_source(&self, source: &SourceSpec) -> bool {
        let mut state = self.state();
        let changed = state.source != *source;
        if changed {
            state.source = source.clone();
        }
        changed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Backend {
    /// The last reference is gone: the subscription ends and the pool closes.
    fn drop(&mut self) {
        let set = self.endpoints.load();
        for entry in set.entries() {
            entry.endpoint.retire(set.generation() + 1);
        }
        self.gone.notify_one();
    }
}
