//! Where a running gateway's configuration comes from, and when to look again.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde_json::json;

use super::{Unusable, unusable};
use crate::config::{self, Configuration};
use crate::discovery::kubernetes::SliceStore;
use crate::file_watch::{FileWatch, Watched};
#[cfg(feature = "kubernetes")]
use crate::gateway_api::cluster::Cluster;
use crate::gateway_api::listeners::{AddressPool, Addresses};
use crate::gateway_api::manifests;
use crate::gateway_api::resources::Resources;
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

/// Kubernetes resources, and what is served of them.
pub(super) struct ResourceFeed {
    origin: ResourceOrigin,
    /// Everything but routes.
    base: Configuration,
    settings: Settings,
    slices: Arc<SliceStore>,
    state: Mutex<State>,
}

enum ResourceOrigin {
    Manifests(PathBuf),
    #[cfg(feature = "kubernetes")]
    Cluster(Arc<Cluster>),
}

struct State {
    addresses: Addresses,
    told: String,
}

/// Waits for a feed to say something new.
pub(super) struct Changes {
    watched: Option<Watched>,
    #[cfg(feature = "kubernetes")]
    cluster: Option<Arc<Cluster>>,
}

impl ResourceFeed {
    /// Resources from files at `path`; nothing is read yet.
    pub(super) fn manifests(
        path: PathBuf,
        base: Configuration,
        settings: Settings,
        pool: Option<AddressPool>,
        slices: Arc<SliceStore>,
    ) -> Self {
        Self::new(ResourceOrigin::Manifests(path), base, settings, pool, slices)
    }

    /// Resources from a cluster.
    #[cfg(feature = "kubernetes")]
    pub(super) fn cluster(
        cluster: Arc<Cluster>,
        base: Configuration,
        settings: Settings,
        pool: Option<AddressPool>,
        slices: Arc<SliceStore>,
    ) -> Self {
        Self::new(ResourceOrigin::Cluster(cluster), base, settings, pool, slices)
    }

    fn new(
        origin: ResourceOrigin,
        base: Configuration,
        settings: Settings,
        pool: Option<AddressPool>,
        slices: Arc<SliceStore>,
    ) -> Self {
        let state = Mutex::new(State { addresses: Addresses::new(pool), told: String::new() });
        Self { origin, base, settings, slices, state }
    }

    /// What the resources mean at present. Blocks.
    pub(super) fn load(&self) -> Configuration {
        let (resources, problems) = match &self.origin {
            ResourceOrigin::Manifests(path) => {
                let read = manifests::load(path);
                // Endpoints go their own way: a change of them alone leaves the plan as it is.
                self.slices.replace(read.slices, Instant::now());
                let problems: Vec<_> = read.problems.iter().map(ToString::to_string).collect();
                (read.resources, problems.join("\n"))
            }
            #[cfg(feature = "kubernetes")]
            ResourceOrigin::Cluster(cluster) => (cluster.snapshot(), String::new()),
        };
        let translation = self.translate(&resources, problems);
        let mut configuration = self.base.clone();
        configuration.plan = translation.plan(&self.base.plan);
        let statuses = translation.statuses.to_string();
        configuration.document = json!({
            "base": self.base.document,
            "statuses": statuses.lines().collect::<Vec<_>>(),
        });
        #[cfg(feature = "kubernetes")]
        if let ResourceOrigin::Cluster(cluster) = &self.origin {
            cluster.report(translation.statuses);
        }
        configuration
    }

    fn translate(&self, resources: &Resources, problems: String) -> Translation {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // The same files are looked at again and again; what is wrong with them is told once.
        if !problems.is_empty() && state.told != problems {
            tracing::warn!("manifests that cannot be used are left out:\n{problems}");
        }
        state.told = problems;
        translate(resources, &self.settings, &mut state.addresses)
    }

    /// Begins to watch.
    pub(super) fn watch(&self) -> Changes {
        match &self.origin {
            ResourceOrigin::Manifests(path) => Changes {
                watched: Some(FileWatch::default().tree(path.clone())),
                #[cfg(feature = "kubernetes")]
                cluster: None,
            },
            #[cfg(feature = "kubernetes")]
            ResourceOrigin::Cluster(cluster) => Changes { watched: None, cluster: Some(cluster.clone()) },
        }
    }
}

impl Changes {
    /// A change of a file's.
    pub(super) fn file(path: &Path) -> Self {
        Self {
            watched: Some(FileWatch::default().file(path.to_owned())),
            #[cfg(feature = "kubernetes")]
            cluster: None,
        }
    }

    /// Resolves when there may be something new.
    pub(super) async fn next(&self) {
        #[cfg(feature = "kubernetes")]
        if let Some(cluster) = &self.cluster {
            return cluster.changed().await;
        }
        match &self.watched {
            Some(watched) => {
                watched.changed().await;
            }
            None => std::future::pending().await,
        }
    }

    /// Looks at where changes can come from, before what is there is read. Blocks.
    pub(super) fn refresh(&self) {
        if let Some(watched) = &self.watched {
            if let Err(error) = watched.refresh() {
                tracing::warn!("not everything is watched, only looked at now and then: {error}");
            }
            watched.take();
        }
    }
}

/// Everything but routes: a configuration file's, or the defaults with `admin`.
pub(super) fn base(file: Option<&Path>, admin: Option<&str>) -> Result<Configuration, Unusable> {
    match file {
        Some(file) => config::load_base(file).map_err(unusable),
        None => config::default_base(admin).map_err(unusable),
    }
}
