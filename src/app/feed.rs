//! Where a running gateway's configuration comes from, and when to look again.

mod changes;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::json;

pub(super) use self::changes::Changes;
use super::base::Base;
use crate::config::Configuration;
use crate::discovery::kubernetes::SliceStore;
use crate::file_watch::{FileWatch, Watched};
#[cfg(feature = "kubernetes")]
use crate::gateway_api::cluster::Cluster;
use crate::gateway_api::listeners::{AddressPool, Addresses};
use crate::gateway_api::manifests::{self, LastGood};
use crate::gateway_api::resources::Resources;
#[cfg(feature = "kubernetes")]
use crate::gateway_api::status::Statuses;
use crate::gateway_api::translate::{Settings, Translation, translate};

/// Where a running gateway's configuration comes from.
pub(super) enum Feed {
    /// It never changes.
    Fixed,
    /// A configuration file.
    File(PathBuf),
    /// Kubernetes resources.
    Resources(Arc<ResourceFeed>),
}

impl Feed {
    /// Resolves when all there is to be read was read once, or will not be.
    pub(super) async fn complete(&self) {
        if let Self::Resources(feed) = self {
            feed.complete().await;
        }
    }

    /// Leaves to others what only one process does.
    pub(super) async fn resign(&self) {
        #[cfg(feature = "kubernetes")]
        if let Self::Resources(feed) = self
            && let ResourceOrigin::Cluster(cluster) = &feed.origin
        {
            cluster.resign().await;
        }
    }
}

/// Kubernetes resources, and what is served of them.
pub(super) struct ResourceFeed {
    origin: ResourceOrigin,
    base: Arc<Base>,
    settings: Settings,
    slices: Arc<SliceStore>,
    state: Mutex<State>,
}

enum ResourceOrigin {
    Manifests {
        path: PathBuf,
        watched: Arc<Watched>,
    },
    #[cfg(feature = "kubernetes")]
    Cluster(Arc<Cluster>),
}

struct State {
    addresses: Addresses,
    /// Files that cannot be read, as told.
    told: String,
    /// What of objects that were read is not served as it was meant, as told.
    wrong: BTreeSet<String>,
    /// What stays of those files.
    last_good: LastGood,
    /// What became of the resources, as far as it is known before sockets are bound.
    #[cfg(feature = "kubernetes")]
    statuses: Statuses,
    /// Listeners that cannot be bound, as told.
    unbound: Vec<(Arc<str>, String)>,
}

impl ResourceFeed {
    /// Resources from files at `path`; nothing is read yet.
    pub(super) fn manifests(
        path: PathBuf,
        base: Base,
        settings: Settings,
        pool: Option<AddressPool>,
        slices: Arc<SliceStore>,
    ) -> Self {
        let watched = Arc::new(FileWatch::default().tree(path.clone(), manifests::matters));
        Self::new(ResourceOrigin::Manifests { path, watched }, base, settings, pool, slices)
    }

    /// Resources from a cluster.
    #[cfg(feature = "kubernetes")]
    pub(super) fn cluster(
        cluster: Arc<Cluster>,
        base: Base,
        settings: Settings,
        pool: Option<AddressPool>,
        slices: Arc<SliceStore>,
    ) -> Self {
        Self::new(ResourceOrigin::Cluster(cluster), base, settings, pool, slices)
    }

    fn new(
        origin: ResourceOrigin,
        base: Base,
        settings: Settings,
        pool: Option<AddressPool>,
        slices: Arc<SliceStore>,
    ) -> Self {
        let state = State {
            addresses: Addresses::new(pool),
            told: String::new(),
            wrong: BTreeSet::new(),
            last_good: LastGood::new(),
            #[cfg(feature = "kubernetes")]
            statuses: Statuses::default(),
            unbound: Vec::new(),
        };
        Self { origin, base: Arc::new(base), settings, slices, state: Mutex::new(state) }
    }

    /// What the resources mean at present. Blocks.
    pub(super) fn load(&self) -> Configuration {
        let (resources, problems, mut wrong): (_, _, BTreeSet<_>) = match &self.origin {
            ResourceOrigin::Manifests { path, watched } => {
                let mut last_good = std::mem::take(&mut self.state().last_good);
                let is_being_written = |file: &Path| watched.is_being_written_at(file);
                let read = manifests::load_again(path, &mut last_good, is_being_written);
                self.state().last_good = last_good;
                // Endpoints go their own way: a change of them alone leaves the plan as it is.
                self.slices.replace_in(None, read.slices, Instant::now());
                self.slices.live_but(read.doubt);
                let problems: Vec<_> = read.problems.iter().map(ToString::to_string).collect();
                let warnings = read.warnings.iter().map(ToString::to_string);
                (read.resources, problems.join("\n"), warnings.collect())
            }
            #[cfg(feature = "kubernetes")]
            ResourceOrigin::Cluster(cluster) => (cluster.snapshot(), String::new(), BTreeSet::new()),
        };
        let translation = self.translate(&resources, problems);
        wrong.extend(translation.ignored.iter().cloned());
        // In a cluster statuses tell it.
        if matches!(self.origin, ResourceOrigin::Manifests { .. }) {
            wrong.extend(translation.statuses.complaints());
        }
        self.tell(wrong);
        let mut configuration = self.base.load();
        configuration.plan = translation.plan(&configuration.plan);
        let statuses = translation.statuses.to_string();
        configuration.document = json!({
            "base": configuration.document,
            "statuses": statuses.lines().collect::<Vec<_>>(),
        });
        #[cfg(feature = "kubernetes")]
        {
            self.state().statuses = translation.statuses;
        }
        configuration
    }

    /// What was loaded is about to be used, except for listeners that could not be bound.
    pub(super) fn report(&self, unbound: &[(Arc<str>, String)]) {
        let mut state = self.state();
        // They are tried again and again; why they cannot be bound is told once.
        for told in unbound.iter().filter(|one| !state.unbound.contains(one)) {
            tracing::error!("{}", left_out(told));
        }
        state.unbound = unbound.to_vec();
        #[cfg(feature = "kubernetes")]
        if let ResourceOrigin::Cluster(cluster) = &self.origin {
            let mut statuses = state.statuses.clone();
            unbound.iter().for_each(|(listener, error)| statuses.not_listening(listener, error));
            cluster.report(statuses);
        }
    }

    fn translate(&self, resources: &Resources, problems: String) -> Translation {
        let mut state = self.state();
        // The same files are looked at again and again; what is wrong with them is told once.
        if !problems.is_empty() && state.told != problems {
            tracing::warn!("manifests cannot be read, what was last good of these files stays:\n{problems}");
        }
        state.told = problems;
        translate(resources, &self.settings, &mut state.addresses)
    }

    /// Tells of what is not as it was meant, each once for as long as it stays so.
    fn tell(&self, wrong: BTreeSet<String>) {
        let mut state = self.state();
        for told in wrong.difference(&state.wrong) {
            tracing::warn!("{told}");
        }
        state.wrong = wrong;
    }

    /// Resolves when all there is to be read was read once, or will not be.
    pub(super) async fn complete(&self) {
        match &self.origin {
            ResourceOrigin::Manifests { .. } => {}
            #[cfg(feature = "kubernetes")]
            ResourceOrigin::Cluster(cluster) => cluster.listed().await,
        }
    }

    /// What is wrong with the file beside the resources.
    pub(super) fn base_problem(&self) -> Option<String> {
        self.base.problem()
    }

    /// What cannot be read or listened on at present, a line each.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems: Vec<_> = match &self.origin {
            ResourceOrigin::Manifests { .. } => self.state().told.lines().map(str::to_owned).collect(),
            #[cfg(feature = "kubernetes")]
            ResourceOrigin::Cluster(cluster) => cluster.problems(),
        };
        problems.extend(self.base.problem().iter().flat_map(|text| text.lines()).map(str::to_owned));
        problems.extend(self.unbound());
        problems
    }

    /// Listeners that cannot be bound at present, a line each.
    pub(super) fn unbound(&self) -> Vec<String> {
        self.state().unbound.iter().map(left_out).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to watch.
    pub(super) fn watch(&self) -> Changes {
        let mut changes = Changes {
            watched: Vec::from_iter(self.base.watched()),
            #[cfg(feature = "kubernetes")]
            cluster: None,
        };
        match &self.origin {
            ResourceOrigin::Manifests { watched, .. } => changes.watched.push(watched.clone()),
            #[cfg(feature = "kubernetes")]
            ResourceOrigin::Cluster(cluster) => {
                changes.cluster = Some((cluster.clone(), self.base.clone()));
            }
        }
        changes
    }
}

/// What there is to be said about a listener that cannot be bound.
fn left_out((listener, error): &(Arc<str>, String)) -> String {
    format!("listener {listener} is left out: {error}")
}

#[cfg(test)]
mod tests;
