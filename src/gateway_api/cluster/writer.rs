//! Writes statuses back: only what differs from what the object says, with the version that was seen,
//! so that a conflict is found, and decided anew by what is seen next.

mod changes;
mod features;
mod render;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::StreamExt;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use tokio::sync::watch;

use self::changes::{Change, Scope, changes};
use super::Shared;
use crate::gateway_api::resources::Key;
use crate::gateway_api::status::Statuses;
use crate::limits;

/// What writes statuses.
pub(super) struct Writer {
    client: Client,
    scope: Arc<Scope>,
    shared: Arc<Shared>,
    /// What could not be written at the last turn, and why, as it was told.
    told: BTreeMap<String, String>,
}

impl Writer {
    /// Writes about `only`, or about all Gateways of `controller`.
    pub(super) fn new(client: Client, controller: String, only: Option<Key>, shared: Arc<Shared>) -> Self {
        Self { client, scope: Arc::new(Scope { controller, only }), shared, told: BTreeMap::new() }
    }

    /// Writes whatever `statuses` says, for as long as this process `leads`.
    pub(super) async fn run(
        mut self,
        mut statuses: watch::Receiver<Option<Arc<Statuses>>>,
        mut leads: watch::Receiver<bool>,
    ) {
        // Before that, what is missing may only not have been seen yet.
        self.shared.health.listed().await;
        let shared = self.shared.clone();
        loop {
            let wanted = statuses.borrow_and_update().clone();
            let leading = *leads.borrow_and_update();
            if let (true, Some(wanted)) = (leading, wanted) {
                self.write(wanted, &leads).await;
            }
            let ended = tokio::select! {
                changed = statuses.changed() => changed.is_err(),
                changed = leads.changed() => changed.is_err(),
                // Somebody else may have written over what was written, or refused it for a conflict.
                () = shared.snapshot.seen() => false,
                () = tokio::time::sleep(limits::STATUS_RESYNC) => false,
            };
            if ended {
                return;
            }
            tokio::time::sleep(limits::STATUS_SETTLE).await;
        }
    }

    async fn write(&mut self, wanted: Arc<Statuses>, leads: &watch::Receiver<bool>) {
        let resources = self.shared.snapshot.resources().clone();
        let scope = self.scope.clone();
        // Off the control runtime, where endpoint updates must not wait for thousands of comparisons.
        let compared = tokio::task::spawn_blocking(move || changes(&resources, &wanted, &scope));
        let Ok(changes) = compared.await else { return };
        let writes = changes
            .into_iter()
            // Who does not lead any more leaves the rest to who does.
            .take_while(|_| *leads.borrow())
            .map(|change| write(self.client.clone(), change));
        let failed: BTreeMap<String, String> = futures_util::stream::iter(writes)
            .buffer_unordered(limits::STATUS_WRITES)
            .filter_map(std::future::ready)
            .collect()
            .await;
        for (object, error) in &failed {
            if self.told.get(object) != Some(error) {
                tracing::warn!("the status of {object} cannot be written: {error}");
            }
        }
        self.told = failed;
    }
}

/// Writes one; whose status could not be written, and why, if so.
async fn write(client: Client, change: Change) -> Option<(String, String)> {
    let Change { resource, key, patch } = change;
    let api: Api<DynamicObject> = match key.namespace.is_empty() {
        true => Api::all_with(client, &resource),
        false => Api::namespaced_with(client, &key.namespace, &resource),
    };
    match api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(_) => None,
        // It changed meanwhile, or is gone: what comes of that is on its way.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => None,
        Err(error) => Some((format!("{} {key}", resource.kind), error.to_string())),
    }
}
