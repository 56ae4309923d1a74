//! A named pool of endpoints: what everybody who refers to it shares.
//!
//! Owns the endpoint set in use and how fresh it is. Knows no lane: what traffic does to an endpoint
//! lives in [`super::endpoint`], per lane.

use std::net::IpAddr;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use http::{HeaderValue, request};
use tokio::sync::{Notify, watch};

use super::balance;
use super::endpoint::Endpoint;
use super::endpoint_set::EndpointSet;
use super::leaving::Leaving;
use super::pace::Pace;
use super::registry::Signals;
use super::retry::{Budget, Failure};
use super::tls::Connector;
use super::{Connects, Speech};
use crate::discovery::source::{EndpointSpec, SourceSpec};
use crate::plan::{BackendPolicy, BackendSpec, BalancePlan, Protocol, Transport};
use crate::shard::{Lane, Sharded, WorkerId};
use crate::telemetry::metrics::BackendMetrics;

/// A named pool of endpoints.
pub struct Backend {
    name: Arc<str>,
    speech: Arc<Speech>,
    workers: usize,
    endpoints: ArcSwap<EndpointSet>,
    source: watch::Sender<SourceSpec>,
    /// Also the lock under which sets are published.
    state: Mutex<State>,
    answered: watch::Sender<bool>,
    revision: watch::Sender<u64>,
    metrics: Arc<BackendMetrics>,
    pace: Arc<Pace>,
    signals: Arc<Signals>,
    /// Calls for whoever looks after its endpoints' health.
    attention: Arc<Notify>,
    /// Whether requests have keys that decide where they go.
    keyed: AtomicBool,
    leaving: Arc<Leaving>,
    /// Picks in turn, and what may be sent again, by lane.
    turns: [Sharded<AtomicU64>; 2],
    budgets: [Sharded<Budget>; 2],
}

struct State {
    confirmed: Option<Instant>,
    last_error: Option<String>,
    /// Sets that were in use and may still be held by a worker for a moment.
    replaced: Vec<Arc<EndpointSet>>,
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
        signals: Arc<Signals>,
    ) -> Self {
        let pace = Arc::new(Pace::new(workers));
        Self {
            name: spec.name.clone(),
            speech: Arc::new(Speech {
                name: spec.name.clone(),
                protocol: spec.protocol,
                host: spec.host.clone(),
                transport: spec.transport.clone(),
                connector: spec
                    .transport
                    .tls
                    .as_ref()
                    .map(|tls| Arc::new(Connector::new(tls, spec.protocol))),
                counts: Some(Connects { metrics: metrics.clone(), pace: pace.clone() }),
            }),
            workers,
            endpoints: ArcSwap::from_pointee(EndpointSet::before_any(spec.policy.clone())),
            source: watch::Sender::new(spec.source.clone()),
            state: Mutex::new(State { confirmed: None, last_error: None, replaced: Vec::new() }),
            answered: watch::Sender::new(false),
            revision: watch::Sender::new(0),
            metrics,
            pace,
            signals,
            attention: Arc::default(),
            keyed: AtomicBool::new(is_keyed(&spec.policy)),
            leaving: Arc::default(),
            turns: [Sharded::new(workers), Sharded::new(workers)],
            budgets: [Sharded::new(workers), Sharded::new(workers)],
        }
    }

    /// Its name in the configuration, or its URL.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// How fast connections to its endpoints are made.
    pub fn pace(&self) -> &Pace {
        &self.pace
    }

    /// What its endpoints speak.
    pub fn protocol(&self) -> Protocol {
        self.speech.protocol
    }

    /// The Host that its endpoints are sent instead of the client's.
    pub fn host(&self) -> Option<&HeaderValue> {
        self.speech.host.as_ref()
    }

    /// What lies between the protocol and the socket.
    pub fn transport(&self) -> &Transport {
        &self.speech.transport
    }

    /// What begins TLS with its endpoints, if they speak it.
    pub fn connector(&self) -> Option<&Connector> {
        self.speech.connector.as_deref()
    }

    /// Reads its TLS files again. Blocks.
    pub fn reload_tls(&self) {
        if let Some(connector) = &self.speech.connector {
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

    /// Whether its endpoints are looked up by a name, and the last look-up failed or found nothing.
    pub fn is_unresolved(&self) -> bool {
        self.source.borrow().is_name() && self.state().last_error.is_some()
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
        self.publish_as_of(wanted, event, Some(Instant::now()))
    }

    /// The same with what the source said when it was last heard, which may be a while ago; `None` if
    /// it has not been heard yet.
    pub fn publish_as_of(&self, wanted: &[EndpointSpec], event: Instant, confirmed: Option<Instant>) -> bool {
        let mut state = self.state();
        state.confirmed = confirmed.or(state.confirmed);
        let healed = state.last_error.take().is_some();
        let current = self.endpoints.load_full();
        let changed = current.generation() == 0 || !current.same_as(wanted);
        if changed {
            let (next, removed) = current.successor(wanted, self.workers, event);
            let next = Arc::new(next);
            self.replace(&mut state, next.clone());
            let deadline = next.policy().drain.map(|drain| Instant::now() + drain);
            // After the swap: whoever still picks from the old set finds the mark and picks again.
            removed.iter().for_each(|endpoint| endpoint.retire(next.generation()));
            if let Some(deadline) = deadline {
                self.leaving.add(removed, deadline);
            }
            self.metrics.published(next.generation(), next.len(), event.elapsed());
        }
        self.metrics.source_answered();
        drop(state);
        self.answered.send_replace(true);
        if changed || healed {
            self.revise();
        }
        changed
    }

    /// The source confirmed that nothing changed; `error` is what is wrong all the same.
    pub fn confirm(&self, error: Option<String>) {
        let mut state = self.state();
        state.confirmed = Some(Instant::now());
        let news = state.last_error != error;
        state.last_error = error;
        self.metrics.source_answered();
        drop(state);
        if news {
            self.revise();
        }
    }

    /// The source could not tell: the set in use stays and ages.
    pub fn fail(&self, error: String) {
        let mut state = self.state();
        let news = state.last_error.as_ref() != Some(&error);
        state.last_error = Some(error);
        self.metrics.source_failed();
        drop(state);
        self.answered.send_replace(true);
        if news {
            self.revise();
        }
    }

    /// Closes connections that have been idle for too long at `now`.
    pub fn reap(&self, now: Instant) {
        self.state().replaced.retain(|set| Arc::strong_count(set) > 1);
        let set = self.endpoints.load_full();
        set.entries().iter().for_each(|entry| entry.endpoint.reap(now));
    }

    /// Puts the same endpoints into use as they do now. `news`: when there is something to tell.
    pub(super) fn rebalance(&self, now: Instant, news: bool) {
        let mut state = self.state();
        let current = self.endpoints.load_full();
        self.replace(&mut state, Arc::new(current.rebalanced(current.policy().clone(), now)));
        drop(state);
        if news {
            self.revise();
        }
    }

    /// Does with its endpoints as `policy` says from now on.
    pub(super) fn set_policy(&self, policy: &BackendPolicy) {
        let mut state = self.state();
        let current = self.endpoints.load_full();
        if **current.policy() == *policy {
            return;
        }
        let older = current.policy().max_age != policy.max_age;
        let next = current.rebalanced(Arc::new(policy.clone()), Instant::now());
        self.keyed.store(is_keyed(policy), Ordering::Relaxed);
        self.replace(&mut state, Arc::new(next));
        drop(state);
        if older {
            // Whoever keeps it fresh begins anew, by the new bound.
            self.source.send_modify(|_| ());
        }
        self.revise();
    }

    /// An exchange in `lane` ended in what may be a failure, after so long.
    pub(super) fn met(&self, endpoint: &Endpoint, lane: Lane, failure: Failure, after: Option<Duration>) {
        let set = self.endpoints();
        let Some(ejection) = &set.policy().ejection else { return };
        let slow = ejection.slower_than.zip(after).is_some_and(|(limit, after)| after > limit);
        if !slow && !failure.is_in(&ejection.on) {
            // What ended in an error that does not count is no success either.
            if matches!(failure, Failure::Status(_)) {
                endpoint.condition().succeeded(lane);
            }
            return;
        }
        // Not with each: whoever may not be left out would call all the time.
        if endpoint.condition().failed(lane).is_multiple_of(ejection.failures.max(1)) {
            self.attention.notify_one();
        }
    }

    /// What decides where a request goes, if that is up to the request.
    pub fn key(&self, parts: &request::Parts, client: Option<IpAddr>) -> Option<NonZeroU64> {
        if !self.keyed.load(Ordering::Relaxed) {
            return None;
        }
        match &self.endpoints().policy().balance {
            BalancePlan::Consistent(by) => balance::hash_of(by, parts, client).and_then(NonZeroU64::new),
            BalancePlan::LeastLoad | BalancePlan::RoundRobin | BalancePlan::Random => None,
        }
    }

    /// Calls whoever looks after its endpoints' health.
    pub(super) fn attention(&self) -> &Arc<Notify> {
        &self.attention
    }

    /// Removed endpoints that still have exchanges in flight.
    pub(super) fn leaving(&self) -> &Arc<Leaving> {
        &self.leaving
    }

    /// How its endpoints are spoken to.
    pub fn speech(&self) -> &Arc<Speech> {
        &self.speech
    }

    /// Counts the picks of `worker` in `lane`.
    pub(super) fn turn(&self, worker: WorkerId, lane: Lane) -> u64 {
        self.turns[lane.index()].of(worker).fetch_add(1, Ordering::Relaxed)
    }

    /// What `worker` may send again in `lane`.
    pub(super) fn budget(&self, worker: WorkerId, lane: Lane) -> &Budget {
        self.budgets[lane.index()].of(worker)
    }

    /// The replaced set is kept until no worker holds it, so that none has to free it: that takes a
    /// while with thousands of endpoints.
    fn replace(&self, state: &mut State, next: Arc<EndpointSet>) {
        state.replaced.retain(|set| Arc::strong_count(set) > 1);
        state.replaced.push(self.endpoints.swap(next));
    }

    /// Whether connections of this backend would do for `spec`.
    pub(super) fn speaks_as(&self, spec: &BackendSpec) -> bool {
        let own = &self.speech;
        own.protocol == spec.protocol && own.host == spec.host && own.transport == spec.transport
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
        self.signals.tell();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_keyed(policy: &BackendPolicy) -> bool {
    matches!(policy.balance, BalancePlan::Consistent(_))
}

impl Drop for Backend {
    /// The last reference is gone: the subscription ends and the pool closes.
    fn drop(&mut self) {
        let set = self.endpoints.load();
        let removed: Vec<_> = set.entries().iter().map(|entry| entry.endpoint.clone()).collect();
        removed.iter().for_each(|endpoint| endpoint.retire(set.generation() + 1));
        if let Some(drain) = set.policy().drain {
            self.leaving.add(removed, Instant::now() + drain);
        }
        self.signals.changed.notify_one();
        self.signals.tell();
    }
}
