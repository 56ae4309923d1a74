//! The one list of backends. **The reference is the subscription**: a backend is kept fresh for as
//! long as a [`BackendRef`] to it lives, whoever holds it and for whatever lane. There is no index to
//! build by walking routes, so there is none that can forget a mirror.
//!
//! Called by [`crate::routing`] to take references and by [`crate::discovery`] to see what lives.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Notify, watch};

use super::backend::Backend;
use crate::plan::BackendSpec;
use crate::telemetry::metrics::Metrics;

/// Every backend that somebody refers to.
pub struct Registry {
    backends: Mutex<Backends>,
    signals: Arc<Signals>,
    metrics: Arc<Metrics>,
    workers: usize,
}

/// What a registry and its backends tell the world.
pub(super) struct Signals {
    /// Backends came, went or changed their source: for whoever keeps them fresh.
    pub(super) changed: Notify,
    /// The same, and whatever else can be seen of a backend: for whoever looks on.
    news: watch::Sender<u64>,
}

#[derive(Default)]
struct Backends {
    /// What a reference to a name means now.
    named: HashMap<Arc<str>, Weak<Backend>>,
    /// Backends whose name means another one now, since the way to talk to it changed. As long as an
    /// old routing table refers to them they are kept fresh like any other.
    superseded: Vec<Weak<Backend>>,
    /// Size of `named` at which the dead are looked for next: doubling it keeps the cost of adding a
    /// backend independent of how many there are.
    sweep_at: usize,
}

/// A live reference to a backend. Only [`Registry::reference`] makes one; while it lives, the
/// backend's endpoints are kept fresh. Cloning it shares the subscription.
///
/// Nothing else can make one, which these two pin by not compiling:
///
/// ```compile_fail,E0423
/// # use std::sync::Arc;
/// # fn forge(backend: Arc<mirrorgate::upstream::backend::Backend>) {
/// let forged = mirrorgate::upstream::registry::BackendRef(backend);
/// # }
/// ```
///
/// ```compile_fail,E0277
/// # use std::sync::Arc;
/// # fn forge(backend: Arc<mirrorgate::upstream::backend::Backend>) {
/// let forged: mirrorgate::upstream::registry::BackendRef = backend.into();
/// # }
/// ```
#[derive(Clone)]
pub struct BackendRef(Arc<Backend>);

/// A reference that does not keep the subscription: what a source's task holds.
#[derive(Clone)]
pub struct WeakBackendRef(Weak<Backend>);

impl Registry {
    /// An empty registry whose backends keep connections apart for `workers` workers.
    pub fn new(workers: usize, metrics: Arc<Metrics>) -> Self {
        Self { backends: Mutex::default(), signals: Arc::default(), metrics, workers }
    }

    /// The backend called `spec.name`: the living one, told of its new source if that changed, so
    /// that endpoints found in both keep their connections; or a new one, also when the way to talk
    /// to it changed, since no connection of the old one would do.
    pub fn reference(&self, spec: &BackendSpec) -> BackendRef {
        let mut backends = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(living) = backends.named.get(&spec.name).and_then(Weak::upgrade) {
            if living.speaks_as(spec) {
                living.set_policy(&spec.policy);
                if living.set_source(&spec.source) {
                    self.announce();
                }
                return BackendRef(living);
            }
            backends.superseded.push(Arc::downgrade(&living));
        }
        backends.sweep();
        let metrics = self.metrics.backend(&spec.name);
        let backend = Arc::new(Backend::new(spec, self.workers, metrics, self.signals.clone()));
        backends.named.insert(spec.name.clone(), Arc::downgrade(&backend));
        self.announce();
        BackendRef(backend)
    }

    /// Every backend that is referred to now, ordered by name.
    pub fn live(&self) -> Vec<BackendRef> {
        let backends = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        let all = backends.named.values().chain(&backends.superseded);
        let mut live: Vec<_> = all.filter_map(Weak::upgrade).map(BackendRef).collect();
        live.sort_by(|one, other| one.name().cmp(other.name()));
        live
    }

    /// Resolves when backends came, went or changed their source since the last call.
    pub async fn changed(&self) {
        self.signals.changed.notified().await;
    }

    /// Counts what can be seen of any backend, that one came or went included.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.signals.news.subscribe()
    }

    fn announce(&self) {
        self.signals.changed.notify_one();
        self.signals.tell();
    }
}

impl Signals {
    pub(super) fn tell(&self) {
        self.news.send_modify(|count| *count += 1);
    }
}

impl Default for Signals {
    fn default() -> Self {
        Self { changed: Notify::new(), news: watch::Sender::new(0) }
    }
}

impl Backends {
    fn sweep(&mut self) {
        self.superseded.retain(|backend| backend.strong_count() > 0);
        if self.named.len() >= self.sweep_at {
            self.named.retain(|_, backend| backend.strong_count() > 0);
            self.sweep_at = 2 * self.named.len() + 16;
        }
    }
}

impl BackendRef {
    /// The same backend without keeping its subscription.
    pub fn downgrade(&self) -> WeakBackendRef {
        WeakBackendRef(Arc::downgrade(&self.0))
    }

    /// Whether both refer to the same backend.
    pub fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl WeakBackendRef {
    /// The backend, if anybody still refers to it.
    pub fn upgrade(&self) -> Option<BackendRef> {
        self.0.upgrade().map(BackendRef)
    }

    /// Whether nobody refers to it any more; it will never come back.
    pub fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }

    /// A number that no other backend has while this value lives.
    pub fn id(&self) -> usize {
        // The allocation stays taken for as long as a weak reference to it exists.
        Weak::as_ptr(&self.0).addr()
    }
}

impl Deref for BackendRef {
    type Target = Backend;

    fn deref(&self) -> &Backend {
        &self.0
    }
}

#[cfg(test)]
mod tests;
