//! When to look again: hints of all that a feed reads. A hint may be wrong; what is there is for the feed to say.

use std::path::Path;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::select_all;

#[cfg(feature = "kubernetes")]
use crate::app::base::Base;
use crate::file_watch::{FileWatch, Watched};
#[cfg(feature = "kubernetes")]
use crate::gateway_api::cluster::Cluster;

/// Waits for a feed to say something new.
pub(in crate::app) struct Changes {
    pub(super) watched: Vec<Arc<Watched>>,
    /// With what stands beside it.
    #[cfg(feature = "kubernetes")]
    pub(super) cluster: Option<(Arc<Cluster>, Arc<Base>)>,
}

impl Changes {
    /// A change of a file's.
    pub(in crate::app) fn file(path: &Path) -> Self {
        Self {
            watched: vec![Arc::new(FileWatch::default().file(path.to_owned()))],
            #[cfg(feature = "kubernetes")]
            cluster: None,
        }
    }

    /// Resolves when there may be something new.
    pub(in crate::app) async fn next(&self) {
        let files = self.watched.iter().map(|watched| watched.changed().map(drop).boxed());
        let sources = files.chain([self.of_cluster().boxed()]);
        select_all(sources).await;
    }

    /// Somebody says that there is something new. A file that is being written is waited for as if its change
    /// had been seen; whether there is one, so that [`Changes::next`] resolves.
    pub(in crate::app) fn suspect(&self) -> bool {
        self.watched.iter().for_each(|watched| watched.suspect());
        !self.watched.is_empty()
    }

    async fn of_cluster(&self) {
        #[cfg(feature = "kubernetes")]
        if let Some((cluster, _)) = &self.cluster {
            return cluster.changed().await;
        }
        std::future::pending().await
    }

    /// Whether every change was told, so that nothing need be looked at again. Blocks.
    pub(in crate::app) fn tell_all(&self) -> bool {
        // A cluster's are; those of a file beside it are seldom lost, and cheap to find.
        #[cfg(feature = "kubernetes")]
        if let Some((_, base)) = &self.cluster {
            return !base.is_outdated();
        }
        false
    }

    /// Whether somebody is about to write what is to be read, which is told once it is done.
    pub(in crate::app) fn are_being_written(&self) -> bool {
        self.watched.iter().any(|watched| watched.is_being_written())
    }

    /// Looks at where changes can come from, before what is there is read. Blocks.
    pub(in crate::app) fn refresh(&self) {
        for watched in &self.watched {
            if let Err(error) = watched.refresh() {
                tracing::warn!("not everything is watched, only looked at now and then: {error}");
            }
            watched.take();
        }
    }
}
