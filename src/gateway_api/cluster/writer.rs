//! Writes statuses back: only what differs from what the object says, with the version that was seen,
//! so that a conflict is found and the next snapshot decides again.

mod render;

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::Shared;
use super::lease::Lease;
use crate::gateway_api::model::RouteKind;
use crate::gateway_api::resources::{Key, Map, Resources};
use crate::gateway_api::status::Statuses;
use crate::limits;

/// Writes whatever `statuses` says, for as long as it is held by this process to do so.
pub(super) async fn run(
    client: Client,
    controller: String,
    only: Option<Key>,
    shared: Arc<Shared>,
    mut statuses: watch::Receiver<Option<Statuses>>,
    lease: Lease,
) {
    let mut turns = tokio::time::interval(limits::LEASE_RENEW);
    let mut leads = false;
    let mut told = String::new();
    loop {
        let renew = tokio::select! {
            _ = turns.tick() => true,
            changed = statuses.changed() => {
                if changed.is_err() {
                    return;
                }
                false
            }
        };
        if renew {
            let held = lease.hold().await;
            let held = held.unwrap_or_else(|error| {
                if told != error.to_string() {
                    tracing::warn!("the lease for writing statuses cannot be taken: {error}");
                    told = error.to_string();
                }
                false
            });
            if held != leads {
                tracing::info!(leads = held, "writing of statuses");
            }
            leads = held;
        }
        let wanted = statuses.borrow_and_update().clone();
        if let (true, Some(wanted)) = (leads, wanted) {
            let writer = Writer {
                client: &client,
                controller: &controller,
                only: only.as_ref(),
                now: Timestamp::now(),
            };
            let resources = shared.resources().clone();
            writer.write_all(&resources, &wanted).await;
        }
    }
}

struct Writer<'a> {
    client: &'a Client,
    controller: &'a str,
    only: Option<&'a Key>,
    now: Timestamp,
}

impl Writer<'_> {
    async fn write_all(&self, resources: &Resources, wanted: &Statuses) {
        for (key, status) in &wanted.classes {
            let Some(object) = resources.classes.get(key) else { continue };
            let next = |current: &Value| render::class(current, status, &self.now);
            self.write(Api::all(self.client.clone()), &**object, object.status.as_ref(), next).await;
        }
        for (key, status) in &wanted.gateways {
            let Some(object) = resources.gateways.get(key) else { continue };
            let next = |current: &Value| render::gateway(current, status, &self.now);
            self.write(self.api(key), &**object, object.status.as_ref(), next).await;
        }
        for (key, status) in &wanted.listener_sets {
            let Some(object) = resources.listener_sets.get(key) else { continue };
            let next = |current: &Value| render::listener_set(current, status, &self.now);
            self.write(self.api(key), &**object, object.status.as_ref(), next).await;
        }
        self.routes(RouteKind::Http, &resources.http_routes, wanted, |route| route.status.as_ref()).await;
        self.routes(RouteKind::Grpc, &resources.grpc_routes, wanted, |route| route.status.as_ref()).await;
        self.routes(RouteKind::Tls, &resources.tls_routes, wanted, |route| route.status.as_ref()).await;
        for (key, object) in &resources.tls_policies {
            let status = wanted.tls_policies.get(key);
            let next = |current: &Value| {
                render::policy(
                    current,
                    status,
                    self.controller,
                    &|gateway| self.is_ours(wanted, gateway),
                    &self.now,
                )
            };
            self.write(self.api(key), &**object, object.status.as_ref(), next).await;
        }
    }

    /// Routes, those that are not ours (any more) included: entries of parents that we serve go.
    async fn routes<K, S: Serialize>(
        &self,
        kind: RouteKind,
        routes: &Map<K>,
        wanted: &Statuses,
        status_of: fn(&K) -> Option<&S>,
    ) where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        for (key, object) in routes {
            let status = wanted.routes.get(&(kind, key.clone()));
            let next = |current: &Value| {
                let ours = |parent: &Key| self.is_ours(wanted, parent);
                render::route(current, status, &key.namespace, self.controller, &ours, &self.now)
            };
            self.write(self.api(key), &**object, status_of(object), next).await;
        }
    }

    /// Whether what is said about a parent under our controller's name is ours to change.
    fn is_ours(&self, wanted: &Statuses, parent: &Key) -> bool {
        self.only.is_none()
            || wanted.gateways.contains_key(parent)
            || wanted.listener_sets.contains_key(parent)
    }

    fn api<K>(&self, key: &Key) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &key.namespace)
    }

    /// Writes what `next` makes of an object's status, if that is something else.
    async fn write<K, S>(&self, api: Api<K>, object: &K, status: Option<&S>, next: impl Fn(&Value) -> Value)
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
        S: Serialize,
    {
        let current = serde_json::to_value(status).unwrap_or_default();
        let wanted = next(&current);
        if render::same(&current, &wanted) {
            return;
        }
        let patch = json!({
            "metadata": { "resourceVersion": object.resource_version() },
            "status": wanted,
        });
        let name = object.name_any();
        match api.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => {}
            // It changed meanwhile, or is gone: what comes of that is on its way.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => tracing::warn!("the status of {} {name} cannot be written: {error}", K::kind(&())),
        }
    }
}
