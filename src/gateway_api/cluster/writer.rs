//! Writes statuses back: only what differs from what the object says, with the version that was seen,
//! so that a conflict is found, and decided anew by what is seen next.

mod changes;
mod features;
mod render;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use futures_util::StreamExt;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::Instant;

use self::changes::{Change, Scope, changes};
use super::lease::Held;
use super::{Shared, said};
use crate::gateway_api::resources::Key;
use crate::gateway_api::status::Statuses;
use crate::limits;

/// What writes statuses.
pub(super) struct Writer {
    client: Client,
    controller: String,
    namespaces: Vec<String>,
    shared: Arc<Shared>,
    /// Classes have been told what this process can do.
    introduced: bool,
    /// What could not be written at the last turn, and why, as it was told.
    told: BTreeMap<String, String>,
}

impl Writer {
    /// Writes in the name of `controller`; these `namespaces` are watched, or all.
    pub(super) fn new(
        client: Client,
        controller: String,
        namespaces: Vec<String>,
        shared: Arc<Shared>,
    ) -> Self {
        Self { client, controller, namespaces, shared, introduced: false, told: BTreeMap::new() }
    }

    /// Writes what `statuses` says about Gateways whose Lease is `held`.
    pub(super) async fn run(
        mut self,
        mut statuses: watch::Receiver<Option<Arc<Statuses>>>,
        mut held: watch::Receiver<Held>,
    ) {
        // Before that, what is missing may only not have been seen yet.
        self.shared.health.listed().await;
        let shared = self.shared.clone();
        loop {
            let begun = Instant::now();
            let wanted = statuses.borrow_and_update().clone();
            let gateways = held.borrow_and_update().gateways.clone();
            if let Some(wanted) = wanted
                && self.write(wanted, gateways, &held).await == Some(0)
            {
                *shared.all_said.lock().unwrap_or_else(PoisonError::into_inner) = Some(begun);
            }
            let ended = tokio::select! {
                changed = statuses.changed() => changed.is_err(),
                changed = held.changed() => changed.is_err(),
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

    /// Writes what differs; how much that was, if it is known.
    async fn write(
        &mut self,
        wanted: Arc<Statuses>,
        gateways: Arc<BTreeSet<Key>>,
        held: &watch::Receiver<Held>,
    ) -> Option<usize> {
        let resources = self.shared.snapshot.resources().clone();
        let health = &self.shared.health;
        let scope = Scope {
            controller: self.controller.clone(),
            held: gateways.clone(),
            namespaces: self.namespaces.clone(),
            knows_gateways: health.is_live("Gateways"),
            knows_sets: health.is_live("ListenerSets"),
            knows_classes: health.is_live("GatewayClasses"),
            introduces: !self.introduced,
        };
        // Off the control runtime, where endpoint updates must not wait for thousands of comparisons.
        let compared = tokio::task::spawn_blocking(move || changes(&resources, &wanted, &scope));
        let changes = compared.await.ok()?;
        let count = changes.len();
        let writes = changes
            .into_iter()
            // Who has lost a Lease meanwhile leaves the rest to who has it now.
            .take_while(|_| held.borrow().gateways.is_superset(&gateways))
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
        self.introduced |= failed.is_empty();
        self.shared.unwritten(&failed);
        self.told = failed;
        Some(count)
    }
}

/// Writes one; whose status could not be written, and why, if so.
async fn write(client: Client, change: Change) -> Option<(String, String)> {
    let Change { resource, key, patch } = change;
    let api: Api<DynamicObject> = match key.namespace.is_empty() {
        true => Api::all_with(client, &resource),
        false => Api::namespaced_with(client, &key.namespace, &resource),
    };
    let parameters = PatchParams::default();
    let patch = Patch::Merge(patch);
    let answer =
        tokio::time::timeout(limits::STATUS_ANSWER, api.patch_status(&key.name, &parameters, &patch));
    let error = match answer.await {
        Ok(Ok(_)) => return None,
        // It changed meanwhile, or is gone: what comes of that is on its way.
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => return None,
        Ok(Err(error)) => said::by_error(&error),
        Err(_) => "no answer in time".to_owned(),
    };
    Some((format!("{} {key}", resource.kind), error))
}
