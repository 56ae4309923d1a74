//! The same resources from a cluster: watches keep a snapshot up to date, and statuses are written back.
//!
//! One task for each kind and namespace (`watch`) swaps complete lists into the `snapshot` and then
//! follows events; one kind that cannot be read (its CRD is missing, a permission is) costs only itself
//! (`health`). What stands in front of the API server never speaks for it (`client`); when it was away, the
//! first that reaches it again tells the others (`recovery`). EndpointSlices go straight to the
//! [`SliceStore`]. What is said about a Gateway is written by the holder of its Lease (`lease`, `writer`), and
//! only when it says something new.

mod client;
mod health;
mod lease;
mod recovery;
mod said;
mod snapshot;
mod watch;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::Config;
use tokio::sync::watch as channel;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::health::{Failure, Health};
use self::lease::{Held, Leases};
use self::recovery::Recovery;
use self::snapshot::Snapshot;
use super::resources::{Key, Resources};
use super::status::Statuses;
use crate::discovery::kubernetes::SliceStore;
use crate::limits;

/// How a cluster is talked to.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Namespaces to watch; empty is all.
    pub namespaces: Vec<String>,
    /// The only Gateway that is served.
    pub gateway: Option<Key>,
    /// Another client than the environment's.
    pub client: Option<Config>,
}

/// Why a cluster cannot be talked to.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Neither a kubeconfig nor a service account was found.
    #[error("no cluster is configured: {0}; hint: set KUBECONFIG, or run inside of a cluster")]
    Config(#[from] kube::config::InferConfigError),
    /// The client cannot be made of it.
    #[error("the cluster's configuration cannot be used: {0}")]
    Client(#[from] kube::Error),
}

/// A cluster that is watched for as long as this lives.
pub struct Cluster {
    shared: Arc<Shared>,
    statuses: channel::Sender<Option<Arc<Statuses>>>,
    /// One Gateway is named.
    serves_one: bool,
    /// Gateways about which this process writes.
    held: channel::Receiver<Held>,
    /// Whether the Leases are to be given up.
    resigns: channel::Sender<bool>,
    _tasks: JoinSet<()>,
}

/// What the watches fill.
struct Shared {
    snapshot: Snapshot,
    slices: Arc<SliceStore>,
    health: Health,
    recovery: Recovery,
    /// EndpointSlice watches that have a complete list, of all of them.
    live_slices: Mutex<HashMap<String, bool>>,
    /// Statuses that could not be written at the last turn, and why, if there are any.
    unwritten: Mutex<Option<String>>,
    /// When the last turn began that found no status to write.
    all_said: Mutex<Option<Instant>>,
}

impl Cluster {
    /// Begins to watch.
    ///
    /// # Errors
    /// There is no configuration for a client. A cluster that does not answer is no error: it is tried
    /// again until it does.
    pub async fn connect(
        options: Options,
        controller: String,
        slices: Arc<SliceStore>,
    ) -> Result<Arc<Self>, ClusterError> {
        // kube asks rustls for the process's provider.
        let _already = rustls::crypto::ring::default_provider().install_default();
        let mut config = match options.client {
            Some(config) => config,
            None => Config::infer().await?,
        };
        // A connection that went silent is given up soon after the watch on it would have ended.
        config.read_timeout = Some(limits::WATCH_TIME + Duration::from_secs(10));
        config.connect_timeout = Some(limits::API_SILENCE);
        let client = client::client(config)?;
        let shared = Arc::new(Shared::new(slices));
        let mut tasks = JoinSet::new();
        watch::start(&client, &options.namespaces, &shared, &mut tasks);
        let statuses = channel::Sender::new(None);
        let serves_one = options.gateway.is_some();
        let (holds, held) = channel::channel(Held::default());
        let resigns = channel::Sender::new(false);
        let leases = Leases::new(client.clone(), shared.clone(), holds);
        tasks.spawn(leases.keep(statuses.subscribe(), resigns.subscribe()));
        let writer = writer::Writer::new(client, controller, options.namespaces, shared.clone());
        tasks.spawn(writer.run(statuses.subscribe(), held.clone()));
        Ok(Arc::new(Self { shared, statuses, serves_one, held, resigns, _tasks: tasks }))
    }

    /// Resolves when every kind was listed, or will not be.
    pub async fn listed(&self) {
        self.shared.health.listed().await;
    }

    /// The same, but not for ever.
    pub async fn listed_in_time(&self) {
        if tokio::time::timeout(limits::FIRST_LISTS, self.listed()).await.is_err() {
            let missing = self.problems().join("; ");
            tracing::warn!(
                "the cluster has not told everything yet, what it tells is used as soon as it does: {missing}"
            );
        }
    }

    /// What is not up to date, a line for each kind, and which objects cannot be read.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = self.shared.health.problems();
        let resources = self.shared.snapshot.resources();
        if resources.classes_refused && resources.classes.is_empty() && !self.serves_one {
            problems.push("no Gateway is served: whose they are is not known without GatewayClasses, unless --gateway names one".to_owned());
        }
        problems.extend(self.held.borrow().problem.clone());
        problems.extend(self.shared.unwritten.lock().unwrap_or_else(PoisonError::into_inner).clone());
        problems
    }

    /// The resources as last seen.
    pub fn snapshot(&self) -> Resources {
        self.shared.snapshot.resources().clone()
    }

    /// Resolves when resources changed; changes that follow closely are one.
    pub async fn changed(&self) {
        self.shared.snapshot.changed().await;
        tokio::time::sleep(limits::RESOURCES_SETTLE).await;
    }

    /// Has `statuses` written, if this process is the one that writes.
    pub fn report(&self, statuses: Statuses) {
        self.statuses.send_if_modified(|current| {
            let news = current.as_deref() != Some(&statuses);
            if news {
                *current = Some(Arc::new(statuses));
            }
            news
        });
    }

    /// Leaves the writing of statuses to others, for good. Resolves when the Leases are given up, or when
    /// that takes too long.
    pub async fn resign(&self) {
        self.resigns.send_replace(true);
        // The task drops its receiver at its end.
        let _late = tokio::time::timeout(limits::LEASE_RELEASE, self.resigns.closed()).await;
    }
}

impl Shared {
    fn new(slices: Arc<SliceStore>) -> Self {
        Self {
            snapshot: Snapshot::default(),
            slices,
            health: Health::new(),
            recovery: Recovery::new(),
            live_slices: Mutex::default(),
            unwritten: Mutex::default(),
            all_said: Mutex::default(),
        }
    }

    fn all_said(&self) -> Option<Instant> {
        *self.all_said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes whose statuses could not be written, and why.
    fn unwritten(&self, failed: &BTreeMap<String, String>) {
        let problem = failed.iter().next().map(|(object, error)| match failed.len() - 1 {
            0 => format!("the status of {object} cannot be written: {error}"),
            more => format!("the statuses of {object} and {more} others cannot be written: {error}"),
        });
        *self.unwritten.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    /// Whether the watch of EndpointSlices called `watch` is up to date; the store is believed when
    /// all of them are.
    fn slices_live(&self, watch: &str, state: Result<(), &Failure>) {
        let mut live = self.live_slices.lock().unwrap_or_else(PoisonError::into_inner);
        live.insert(watch.to_owned(), state.is_ok());
        match state {
            Err(failure) => {
                self.slices.stale(format!("the API server cannot be watched: {}", failure.text()))
            }
            Ok(()) if live.values().all(|live| *live) => self.slices.live(),
            Ok(()) => {}
        }
    }
}
