//! Where a configuration comes from, and its first load. What follows is up to [`super::reload`].

use std::path::PathBuf;
use std::sync::Arc;

use super::base::Base;
use super::feed::{Feed, ResourceFeed};
use super::{Unusable, unusable};
use crate::config::{self, Configuration};
use crate::discovery::kubernetes::SliceStore;
#[cfg(feature = "kubernetes")]
use crate::gateway_api::cluster::Cluster;
use crate::gateway_api::listeners::AddressPool;
use crate::gateway_api::translate;

/// Where the configuration comes from.
pub enum Origin {
    /// A file, which is watched.
    File(PathBuf),
    /// The command line, or a program.
    Flags(Box<Configuration>),
    /// Kubernetes resources from files, which are watched.
    Manifests {
        /// A file, or a folder.
        path: PathBuf,
        /// How they are served.
        resources: ResourceOptions,
    },
    /// Kubernetes resources from a cluster.
    #[cfg(feature = "kubernetes")]
    Kubernetes {
        /// How the cluster is talked to.
        cluster: Box<crate::gateway_api::cluster::Options>,
        /// How they are served.
        resources: ResourceOptions,
    },
}

/// How Kubernetes resources are served.
#[derive(Clone, Debug, Default)]
pub struct ResourceOptions {
    /// A configuration file with everything but routes.
    pub config: Option<PathBuf>,
    /// Where the admin API listens, or `off`, without such a file.
    pub admin: Option<String>,
    /// What is served.
    pub settings: translate::Settings,
    /// Where addresses for Gateways come from.
    pub pool: Option<AddressPool>,
}

impl Origin {
    /// Loads it for the first time, and says how it is followed and where it puts EndpointSlices.
    pub(super) async fn load(self) -> Result<(Configuration, Feed, Arc<SliceStore>), Unusable> {
        let slices = Arc::new(SliceStore::default());
        let feed = match self {
            Self::File(file) => {
                return Ok((config::load(&file).map_err(unusable)?, Feed::File(file), slices));
            }
            Self::Flags(configuration) => return Ok((*configuration, Feed::Fixed, slices)),
            Self::Manifests { path, resources } => {
                let base = Base::new(resources.config, resources.admin.as_deref())?;
                path.metadata()
                    .map_err(|error| Unusable(format!("{}: cannot be read: {error}", path.display())))?;
                ResourceFeed::manifests(path, base, resources.settings, resources.pool, slices.clone())
            }
            #[cfg(feature = "kubernetes")]
            Self::Kubernetes { cluster, resources } => {
                let base = Base::new(resources.config, resources.admin.as_deref())?;
                let controller = resources.settings.controller.clone();
                let cluster =
                    Cluster::connect(*cluster, controller, slices.clone()).await.map_err(unusable)?;
                cluster.listed_in_time().await;
                ResourceFeed::cluster(cluster, base, resources.settings, resources.pool, slices.clone())
            }
        };
        let feed = Arc::new(feed);
        let first = feed.clone();
        let configuration = tokio::task::spawn_blocking(move || first.load()).await.map_err(unusable)?;
        Ok((configuration, Feed::Resources(feed), slices))
    }
}
