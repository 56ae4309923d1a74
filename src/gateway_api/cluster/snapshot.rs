//! What the watches fill: a snapshot of resources, and who is to be told of a change.
//!
//! A change that means nothing, such as the echo of a status that was just written, is kept, since
//! the next write needs its version, but no route is compiled for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::ResourceExt;
use tokio::sync::Notify;

use crate::gateway_api::resources::{Key, Map, Resources};

/// Resources as last seen.
#[derive(Default)]
pub(super) struct Snapshot {
    resources: Mutex<Resources>,
    /// Something means something else.
    changed: Notify,
    /// Something was said about an object, be it only its status.
    seen: Notify,
}

/// A field of [`Resources`].
pub(super) type Field<K> = fn(&mut Resources) -> &mut Map<K>;

impl Snapshot {
    pub(super) fn resources(&self) -> MutexGuard<'_, Resources> {
        self.resources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves when something may mean something else.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Resolves when something was said about an object.
    pub(super) async fn seen(&self) {
        self.seen.notified().await;
    }

    /// A complete list of one namespace, or of all.
    pub(super) fn replace<K: ResourceExt<DynamicType = ()> + Clone + PartialEq>(
        &self,
        field: Field<K>,
        namespace: Option<&str>,
        objects: Vec<K>,
    ) {
        let mut resources = self.resources();
        let map = field(&mut resources);
        let elsewhere = |key: &Key| namespace.is_some_and(|only| only != key.namespace);
        let mut next: Map<K> = map
            .iter()
            .filter(|(key, _)| elsewhere(key))
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect();
        next.extend(objects.into_iter().map(|object| (Key::of(&object), Arc::new(object))));
        let same = map.len() == next.len()
            && map
                .iter()
                .zip(&next)
                .all(|(one, other)| one.0 == other.0 && means_the_same(&**one.1, &**other.1));
        *map = next;
        drop(resources);
        self.tell(!same);
    }

    pub(super) fn apply<K: ResourceExt<DynamicType = ()> + Clone + PartialEq>(
        &self,
        field: Field<K>,
        object: K,
    ) {
        let mut resources = self.resources();
        let map = field(&mut resources);
        let key = Key::of(&object);
        let same = map.get(&key).is_some_and(|known| means_the_same(&**known, &object));
        map.insert(key, Arc::new(object));
        drop(resources);
        self.tell(!same);
    }

    pub(super) fn delete<K: ResourceExt>(&self, field: Field<K>, key: &Key) {
        let known = field(&mut self.resources()).remove(key).is_some();
        if known {
            self.tell(true);
        }
    }

    /// Whether the API server refuses to tell of a kind.
    pub(super) fn refused(&self, field: fn(&mut Resources) -> &mut bool, is_refused: bool) {
        let before = std::mem::replace(field(&mut self.resources()), is_refused);
        if before != is_refused {
            self.tell(true);
        }
    }

    fn tell(&self, news: bool) {
        self.seen.notify_one();
        if news {
            self.changed.notify_one();
        }
    }
}

/// Whether two versions of an object mean the same. What is defined by a CRD gets another generation
/// with whatever is not its status or metadata; kinds of the core need not have any, or keep it.
fn means_the_same<K: ResourceExt<DynamicType = ()> + Clone + PartialEq>(one: &K, other: &K) -> bool {
    let (before, now) = (one.meta(), other.meta());
    if before.generation.is_some() && !K::group(&()).is_empty() {
        return before.generation == now.generation
            && before.uid == now.uid
            && before.labels == now.labels
            && before.annotations == now.annotations
            && before.deletion_timestamp == now.deletion_timestamp;
    }
    let mut one = one.clone();
    one.meta_mut().resource_version.clone_from(&now.resource_version);
    one == *other
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use k8s_openapi::api::core::v1::Service;
    use serde_json::json;

    use super::*;
    use crate::gateway_api::resources::Resources;

    fn service(version: &str, port: u16) -> Service {
        serde_json::from_value(json!({
            "metadata": { "namespace": "one", "name": "app", "resourceVersion": version, "generation": 1 },
            "spec": { "ports": [{ "port": port }] },
        }))
        .unwrap()
    }

    /// Whether the snapshot told of a change of meaning since it was last asked.
    fn told(snapshot: &Snapshot) -> bool {
        use futures_util::FutureExt;
        snapshot.changed().now_or_never().is_some()
    }

    #[test]
    fn only_what_means_something_else_is_told() {
        let snapshot = Snapshot::default();
        let field: Field<Service> = |resources: &mut Resources| &mut resources.services;
        snapshot.replace(field, None, vec![service("1", 80)]);
        assert!(told(&snapshot));
        snapshot.apply(field, service("2", 80));
        assert!(!told(&snapshot));
        let key = Key::new("one", "app");
        let version = snapshot.resources().services.get(&key).and_then(|one| one.resource_version());
        assert_eq!(version.as_deref(), Some("2"), "the next write needs it");
        snapshot.apply(field, service("3", 81));
        assert!(told(&snapshot));
        // A list after an outage in which nothing happened.
        snapshot.replace(field, None, vec![service("4", 81)]);
        assert!(!told(&snapshot));
        // Another namespace's list says nothing of this one.
        snapshot.replace(field, Some("two"), Vec::new());
        assert!(!told(&snapshot));
        snapshot.replace(field, Some("one"), Vec::new());
        assert!(told(&snapshot));
        snapshot.delete(field, &key);
        assert!(!told(&snapshot), "it was not there any more");
    }
}
