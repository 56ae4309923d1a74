//! Which statuses say something else than they should: pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::core::ApiResource;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde_json::{Value, json};

use super::render;
use crate::gateway_api::listeners;
use crate::gateway_api::model::RouteKind;
use crate::gateway_api::resources::{Key, Map, Resources};
use crate::gateway_api::status::Statuses;

/// What this process writes about.
pub(super) struct Scope {
    /// The name under which entries of routes and policies are ours.
    pub(super) controller: String,
    /// Gateways whose Lease is held.
    pub(super) held: Arc<BTreeSet<Key>>,
    /// Namespaces that are watched; empty is all.
    pub(super) namespaces: Vec<String>,
    /// All Gateways there are, all ListenerSets, and all GatewayClasses, are known at present.
    pub(super) knows_gateways: bool,
    pub(super) knows_sets: bool,
    pub(super) knows_classes: bool,
    /// Classes that are accepted already are told what this process can do, too.
    pub(super) introduces: bool,
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
    let mut work = Work { resources, wanted, scope, now: Timestamp::now(), changes: Vec::new() };
    let now = work.now;
    for (key, status) in &wanted.classes {
        let Some(object) = resources.classes.get(key) else { continue };
        // No Lease for that: two versions of this program would go on telling their features otherwise.
        let next = |current: &Value| match !scope.introduces && render::class_says(current, status) {
            true => current.clone(),
            false => render::class(current, status, &now),
        };
        work.compare(key, &**object, object.status.as_ref(), next);
    }
    for (key, status) in wanted.gateways.iter().filter(|(key, _)| scope.held.contains(key)) {
        let Some(object) = resources.gateways.get(key) else { continue };
        let next = |current: &Value| render::gateway(current, status, &now);
        work.compare(key, &**object, object.status.as_ref(), next);
    }
    for (key, status) in &wanted.listener_sets {
        let Some(object) = resources.listener_sets.get(key) else { continue };
        if !listeners::gateway_of(key, object).is_some_and(|gateway| scope.held.contains(&gateway)) {
            continue;
        }
        let next = |current: &Value| render::listener_set(current, status, &now);
        work.compare(key, &**object, object.status.as_ref(), next);
    }
    work.routes(RouteKind::Http, &resources.http_routes, |route| route.status.as_ref());
    work.routes(RouteKind::Grpc, &resources.grpc_routes, |route| route.status.as_ref());
    work.routes(RouteKind::Tls, &resources.tls_routes, |route| route.status.as_ref());
    let ours = |reference: &Value| scope.has(resources, reference, "");
    for (key, object) in &resources.tls_policies {
        let status = wanted.tls_policies.get(key);
        let next = |current: &Value| render::policy(current, status, &scope.controller, &ours, &now);
        work.compare(key, &**object, object.status.as_ref(), next);
    }
    work.changes
}

impl Scope {
    /// Whether what is said in our controller's name about the parent that `reference` names, in an object
    /// in `namespace`, is for this process to change.
    fn has(&self, resources: &Resources, reference: &Value, namespace: &str) -> bool {
        let text = |key: &str| reference.get(key).and_then(Value::as_str);
        let key = Key::new(text("namespace").unwrap_or(namespace), text("name").unwrap_or_default());
        // Nobody else has to say anything about what is not there any more: whoever sees that takes back
        // what was said.
        let seen = self.namespaces.is_empty() || self.namespaces.contains(&key.namespace);
        match text("kind") {
            Some("ListenerSet") => match resources.listener_sets.get(&key) {
                Some(set) => listeners::gateway_of(&key, set)
                    .is_some_and(|gateway| self.held.contains(&gateway) || self.disowns(resources, &gateway)),
                None => seen && self.knows_sets,
            },
            _ if self.held.contains(&key) => true,
            _ if resources.gateways.contains_key(&key) => self.disowns(resources, &key),
            _ => seen && self.knows_gateways,
        }
    }

    /// Whether a Gateway is another controller's, by its class: nobody else takes back what was said in our
    /// controller's name before. A class that is not there says nothing, since there may be a process that
    /// may not read classes and serves the Gateway.
    fn disowns(&self, resources: &Resources, gateway: &Key) -> bool {
        let Some(gateway) = resources.gateways.get(gateway) else { return false };
        let class = resources.classes.get(&Key::new("", gateway.spec.gateway_class_name.clone()));
        self.knows_classes && class.is_some_and(|class| class.spec.controller_name != self.controller)
    }
}

struct Work<'a> {
    resources: &'a Resources,
    wanted: &'a Statuses,
    scope: &'a Scope,
    now: Timestamp,
    changes: Vec<Change>,
}

impl Work<'_> {
    /// Routes, those that are not ours (any more) included: entries of parents that they do not name go.
    fn routes<K, S: Serialize>(&mut self, kind: RouteKind, routes: &Map<K>, status_of: fn(&K) -> Option<&S>)
    where
        K: Resource<DynamicType = ()>,
    {
        let Self { resources, wanted, scope, now, .. } = *self;
        for (key, object) in routes {
            let status = wanted.routes.get(&(kind, key.clone()));
            let ours = |reference: &Value| scope.has(resources, reference, &key.namespace);
            let next = |current: &Value| render::route(current, status, &scope.controller, &ours, &now);
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
