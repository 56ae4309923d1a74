//! Where endpoints come from: *source → update → resolver → endpoint set → registry → backend*.
//!
//! [`Discovery::run`] keeps every backend fresh that somebody refers to, whoever that is: the
//! registry's live references are its only input. For each it runs one task (`task`) that asks the
//! backend's source ([`source`]: a list, a `file`, names in `dns`, [`kubernetes`]) and obeys the state machine of
//! [`resolver`], which publishes through `Backend::publish`.
//!
//! It runs on the control runtime and must never do so on a worker: a large file or a slow name
//! server must not stand in front of a request.

mod dns;
mod file;
pub mod kubernetes;
pub mod resolver;
pub mod source;
mod task;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{Id, JoinSet};
use tokio::time::sleep;

pub use self::dns::DnsSettings;
use self::dns::client::DnsClient;
use self::kubernetes::SliceStore;
use self::resolver::ResolverPolicy;
use self::source::EndpointSpec;
use crate::file_watch::FileWatch;
use crate::limits;
use crate::upstream::health;
use crate::upstream::registry::{BackendRef, Registry, WeakBackendRef};

/// Reads the text of an endpoint file; the error is shown to people.
pub type ParseEndpoints = fn(&str) -> Result<Vec<EndpointSpec>, String>;

/// How sources are asked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How an endpoint file is read.
    pub parse: ParseEndpoints,
    /// Who answers for names.
    pub dns: DnsSettings,
    /// EndpointSlices, filled by whoever reads them.
    pub slices: Arc<SliceStore>,
    /// How sources are trusted. Each kind of source decides itself about `confirm_empty`.
    pub policy: ResolverPolicy,
}

/// Keeps the backends of a registry fresh.
pub struct Discovery {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    kept: HashMap<Id, Kept>,
    /// Ids ([`WeakBackendRef::id`]) of the backends in `kept`.
    known: HashSet<usize>,
}

/// What all tasks use.
struct Shared {
    parse: ParseEndpoints,
    policy: ResolverPolicy,
    dns: Arc<DnsClient>,
    files: FileWatch,
    slices: Arc<SliceStore>,
}

/// A backend that a task keeps fresh.
struct Kept {
    backend: WeakBackendRef,
    begun: Instant,
    /// Panics of its task, one after the other.
    panics: u32,
}

impl Discovery {
    /// Nothing is started before [`Discovery::run`].
    pub fn new(settings: Settings) -> Self {
        let shared = Shared {
            parse: settings.parse,
            policy: settings.policy,
            dns: Arc::new(DnsClient::new(settings.dns)),
            files: FileWatch::default(),
            slices: settings.slices,
        };
        Self { shared: Arc::new(shared), tasks: JoinSet::new(), kept: HashMap::new(), known: HashSet::new() }
    }

    /// Keeps every backend of `registry` fresh while it lives; never ends. Dropping it stops all.
    pub async fn run(mut self, registry: Arc<Registry>) {
        loop {
            self.reconcile(&registry);
            tokio::select! {
                () = registry.changed() => {}
                () = sleep(limits::RECONCILE) => {}
                Some(ended) = self.tasks.join_next_with_id() => match ended {
                    Ok((id, ())) => {
                        self.forget(id);
                    }
                    Err(error) => self.restart(error.id()),
                },
            }
        }
    }

    /// Starts a task for every live backend that has none. Those of dead ones end by themselves.
    fn reconcile(&mut self, registry: &Registry) {
        for backend in registry.live() {
            if self.known.contains(&backend.downgrade().id()) {
                continue;
            }
            if self.kept.len() >= limits::BACKENDS {
                tracing::error!(bound = limits::BACKENDS, "too many backends: some are not kept fresh");
                return;
            }
            self.start(&backend, 0, Duration::ZERO);
        }
    }

    fn start(&mut self, backend: &BackendRef, panics: u32, delay: Duration) {
        let weak = backend.downgrade();
        let specs = backend.watch_source();
        let shared = self.shared.clone();
        let task_weak = weak.clone();
        let handle = self.tasks.spawn(async move {
            sleep(delay).await;
            // Both end with the backend.
            let healthy = health::keep(task_weak.clone());
            tokio::join!(task::keep_fresh(task_weak, specs, shared), healthy);
        });
        self.known.insert(weak.id());
        self.kept.insert(handle.id(), Kept { backend: weak, begun: Instant::now() + delay, panics });
    }

    fn forget(&mut self, task: Id) -> Option<Kept> {
        let kept = self.kept.remove(&task)?;
        self.known.remove(&kept.backend.id());
        Some(kept)
    }

    /// One source's panic is that source's failure: its backend keeps what it has, all others are
    /// not touched, and the task starts again after a pause.
    fn restart(&mut self, task: Id) {
        let Some(kept) = self.forget(task) else { return };
        let Some(backend) = kept.backend.upgrade() else { return };
        let (first, greatest) = limits::SOURCE_BACKOFF;
        let panics = if kept.begun.elapsed() > 2 * greatest { 0 } else { kept.panics };
        let pause = first.saturating_mul(1_u32.checked_shl(panics).unwrap_or(u32::MAX)).min(greatest);
        tracing::error!(backend = %backend.name(), "the source's task panicked; it starts again");
        backend.fail("the source's task failed (internal error)".to_owned());
        self.start(&backend, panics.saturating_add(1), pause);
    }
}

#[cfg(test)]
mod tests;
