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
use super::tls::Connector;
use crate::discovery::source::{EndpointSpec, SourceSpec};
use crate::plan::{BackendSpec, Protocol, Transport};
use crate::telemetry::metrics::BackendMetrics;

/// A named pool of endpoints.
pub struct Backend {
    name: Arc<str>,
    protocol: Protocol,
    host: Option<HeaderValue>,
    transport: Transport,
    connector: Option<Connector>,
    workers: usize,
    endpoints: ArcSwap<EndpointSet>,
    source: watch::Sender<SourceSpec>,
    /// Also the lock under which sets are published.
    state: Mutex<State>,
    answered: watch::Sender<bool>,
    revision: watch::Sender<u64>,
    metrics: Arc<BackendMetrics>,
    gone: Arc<Notify>,
}

struct State {
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
            transport: spec.transport.clone(),
            connector: spec.transport.tls.as_ref().map(|tls| Connector::new(tls, spec.protocol)),
            workers,
            endpoints: ArcSwap::from_pointee(EndpointSet::default()),
            source: watch::Sender::new(spec.source.clone()),
            state: Mutex::new(State { confirmed: None, last_error: None }),
            answered: watch::Sender::new(false),
            revision: watch::Sender::new(0),
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

    /// What lies between the protocol and the socket.
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// What begins TLS with its endpoints, if they speak it.
    pub fn connector(&self) -> Option<&Connector> {
        self.connector.as_ref()
    }

    /// Reads its TLS files again. Blocks.
    pub fn reload_tls(&self) {
        if let Some(connector) = &self.connector {
            connector.reload();
        }
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
        self.source.borrow().clone()
    }

    /// The same as a channel, which closes when the last reference to this backend is dropped.
    pub fn watch_source(&self) -> watch::Receiver<SourceSpec> {
        self.source.subscribe()
    }

    /// How fresh the set in use is.
    pub fn freshness(&self) -> Freshness {
        let state = self.state();
        let always_right =
            state.confirmed.is_some() && matches!(*self.source.borrow(), SourceSpec::Static(_));
        let confirmed = if always_right { Some(Instant::now()) } else { state.confirmed };
        Freshness { confirmed, last_error: state.last_error.clone() }
    }

    /// Whether the source has answered at all, with a set or with a failure.
    pub fn answered(&self) -> watch::Receiver<bool> {
        self.answered.subscribe()
    }

    /// Counts what can be seen of this backend: a set that differs, an error that came or went. A
    /// confirmation that nothing changed is not counted.
    pub fn revision(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Puts `wanted` into use; called by the resolver alone.
    ///
    /// Endpoints found in both sets keep their connections. Once this returns, no request that
    /// begins picks a removed endpoint and its idle connections are closed. `event` is when the
    /// source learned of the change. Returns whether anything changed.
    pub fn publish(&self, wanted: &[EndpointSpec], event: Instant) -> bool {
        let mut state = self.state();
        state.confirmed = Some(Instant::now());
        let healed = state.last_error.take().is_some();
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
        if changed || healed {
            self.revise();
        }
        changed
    }

    /// The source confirmed that nothing changed.
    pub fn confirm(&self) {
        let mut state = self.state();
        state.confirmed = Some(Instant::now());
        let healed = state.last_error.take().is_some();
        drop(state);
        if healed {
            self.revise();
        }
    }

    /// The source could not tell: the set in use stays and ages.
    pub fn fail(&self, error: String) {
        let mut state = self.state();
        let news = state.last_error.as_ref() != Some(&error);
        state.last_error = Some(error);
        drop(state);
        self.answered.send_replace(true);
        if news {
            self.revise();
        }
    }

    /// Closes connections that have been idle since before `oldest`.
    pub fn reap(&self, oldest: Instant) {
        let set = self.endpoints.load_full();
        set.entries().iter().for_each(|entry| entry.endpoint.reap(oldest));
    }

    /// Whether connections of this backend would do for `spec`.
    pub(super) fn speaks_as(&self, spec: &BackendSpec) -> bool {
        self.protocol == spec.protocol && self.host == spec.host && self.transport == spec.transport
    }

    pub(super) fn set_source(&self, source: &SourceSpec) -> bool {
        self.source.send_if_modified(|current| {
            let changed = current != source;
            if changed {
                *current = source.clone();
            }
            changed
        })
    }

    fn revise(&self) {
        self.revision.send_modify(|revision| *revision += 1);
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
