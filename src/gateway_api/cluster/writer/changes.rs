//! Which statuses say something else than they should: pure.

use k8s_openapi::jiff::Timestamp;
use kube::core::ApiResource;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde_json::{Value, json};

use super::render;
use crate::gateway_api::model::RouteKind;
use crate::gateway_api::resources::{Key, Map, Resources};
use crate::gateway_api::status::Statuses;

/// Whose statuses are written.
pub(super) struct Scope {
    /// The name under which entries of routes and policies are ours.
    pub(super) controller: String,
    /// The only Gateway, if there is only one.
    pub(super) only: Option<Key>,
}

/// A status to be written.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) resource: ApiResource,
    pub(super) key: Key,
    /// With the version of the object that it was made of.
    pub(super) patch: Value,
}

/// What is to be written so that `resources` say what is `wanted`.
pub(super) fn changes(resources: &Resources, wanted: &Statuses, scope: &Scope) -> Vec<Change> {
    let mut work = Work { wanted, scope, now: Timestamp::now(), changes: Vec::new() };
    let now = work.now;
    for (key, status) in &wanted.classes {
        let Some(object) = resources.classes.get(key) else { continue };
        let next = |current: &Value| render::class(current, status, &now);
        work.compare(key, &**object, object.status.as_ref(), next);
    }
    for (key, status) in &wanted.gateways {
        let Some(object) = resources.gateways.get(key) else { continue };
        let next = |current: &Value| render::gateway(current, status, &now);
        work.compare(key, &**object, object.status.as_ref(), next);
    }
    for (key, status) in &wanted.listener_sets {
        let Some(object) = resources.listener_sets.get(key) else { continue };
        let next = |current: &Value| render::listener_set(current, status, &now);
        work.compare(key, &**object, object.status.as_ref(), next);
    }
    work.routes(RouteKind::Http, &resources.http_routes, |route| route.status.as_ref());
    work.routes(RouteKind::Grpc, &resources.grpc_routes, |route| route.status.as_ref());
    work.routes(RouteKind::Tls, &resources.tls_routes, |route| route.status.as_ref());
    for (key, object) in &resources.tls_policies {
        let status = wanted.tls_policies.get(key);
        let ours = |gateway: &Key| scope.has(wanted, gateway);
        let next = |current: &Value| render::policy(current, status, &scope.controller, &ours, &now);
        work.compare(key, &**object, object.status.as_ref(), next);
    }
    work.changes
}

impl Scope {
    /// Whether what is said about a parent under our controller's name is ours to change.
    fn has(&self, wanted: &Statuses, parent: &Key) -> bool {
        match &self.only {
            None => true,
            // It may have gone; what was said about it is ours still.
            Some(only) => {
                only == parent
                    || wanted.gateways.contains_key(parent)
                    || wanted.listener_sets.contains_key(parent)
            }
        }
    }
}

struct Work<'a> {
    wanted: &'a Statuses,
    scope: &'a Scope,
    now: Timestamp,
    changes: Vec<Change>,
}

impl Work<'_> {
    /// Routes, those that are not ours (any more) included: entries of parents that we serve go.
    fn routes<K, S: Serialize>(&mut self, kind: RouteKind, routes: &Map<K>, status_of: fn(&K) -> Option<&S>)
    where
        K: Resource<DynamicType = ()>,
    {
        let Self { wanted, scope, now, .. } = *self;
        for (key, object) in routes {
            let status = wanted.routes.get(&(kind, key.clone()));
            let ours = |parent: &Key| scope.has(wanted, parent);
            let next = |current: &Value| {
                render::route(current, status, &key.namespace, &scope.controller, &ours, &now)
            };
            self.compare(key, &**object, status_of(object), next);
        }
    }

    /// Adds what `next` makes of an object's status, if that is something else.
    fn compare<K, S>(&mut self, key: &Key, object: &K, status: Option<&S>, next: impl Fn(&Value) -> Value)
    where
        K: Resource<DynamicType = ()>,
        S: Serialize,
    {
        let current = serde_json::to_value(status).unwrap_or_default();
        let wanted = next(&current);
        if render::same(&current, &wanted) {
            return;
        }
        self.changes.push(Change {
            resource: ApiResource::erase::<K>(&()),
            key: key.clone(),
            patch: json!({
                "metadata": { "resourceVersion": object.resource_version() },
                "status": wanted,
            }),
        });
    }
}
