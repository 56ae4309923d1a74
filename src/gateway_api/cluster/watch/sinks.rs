//! Where what is seen goes: objects to the snapshot, EndpointSlices straight to their store.

use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Resource;
use kube::core::DeserializeGuard;

use crate::gateway_api::authorities;
use crate::gateway_api::cluster::Shared;
use crate::gateway_api::cluster::health::Failure;
use crate::gateway_api::cluster::snapshot::Field;
use crate::gateway_api::resources::{Key, Resources};

/// Where what is seen goes.
pub(super) trait Sink<K>: Send + 'static {
    /// A complete list.
    fn replace(&mut self, namespace: Option<&str>, objects: Vec<K>);
    fn apply(&mut self, object: K);
    fn delete(&mut self, key: &Key);
    /// Takes off an object what is of no use here, so that it takes no memory.
    fn trim(&self, _: &mut K) {}
    /// Whether what was seen is up to date, and goes on to be.
    fn state(&mut self, _: Result<(), &Failure>) {}
}

/// The object without what is of no use here, or why it cannot be read.
pub(super) fn readable<K, S>(sink: &S, object: DeserializeGuard<K>) -> Result<K, String>
where
    K: Resource<DynamicType = ()>,
    S: Sink<K>,
{
    let mut object = object.0.map_err(|invalid| invalid.error)?;
    let metadata = object.meta_mut();
    metadata.managed_fields = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    sink.trim(&mut object);
    Ok(object)
}

/// Objects of one kind.
pub(super) struct Objects<K> {
    pub(super) shared: Arc<Shared>,
    pub(super) field: Field<K>,
    /// See [`Sink::trim`].
    pub(super) trim: fn(&mut K),
    /// Where it is noted that the kind cannot be read, for kinds where that means something.
    pub(super) refused: Option<fn(&mut Resources) -> &mut bool>,
}

impl<K: Resource<DynamicType = ()> + Clone + PartialEq + Send + Sync + 'static> Sink<K> for Objects<K> {
    fn replace(&mut self, namespace: Option<&str>, objects: Vec<K>) {
        self.shared.snapshot.replace(self.field, namespace, objects);
    }

    fn apply(&mut self, object: K) {
        self.shared.snapshot.apply(self.field, object);
    }

    fn delete(&mut self, key: &Key) {
        self.shared.snapshot.delete(self.field, key);
    }

    fn trim(&self, object: &mut K) {
        (self.trim)(object);
    }

    fn state(&mut self, state: Result<(), &Failure>) {
        let Some(field) = self.refused else { return };
        match state {
            Ok(()) => self.shared.snapshot.refused(field, false),
            Err(Failure::Refused(_)) => self.shared.snapshot.refused(field, true),
            // It may be better the next time; what was seen is believed until then.
            Err(Failure::Failed(_)) => {}
        }
    }
}

/// ConfigMaps may be large, and certificate authorities are all that is read of them.
pub(super) fn roots_only(map: &mut ConfigMap) {
    map.binary_data = None;
    if let Some(data) = &mut map.data {
        data.retain(|name, _| name == authorities::ENTRY);
    }
}

/// Secrets of other types are no business of ours, should the API server send them.
pub(super) fn certificates_only(secret: &mut Secret) {
    if secret.type_.as_deref() != Some(authorities::SECRET_TYPE) {
        secret.data = None;
    }
}

/// Endpoints, which change nothing but themselves.
pub(super) struct Slices {
    pub(super) shared: Arc<Shared>,
    pub(super) watch: String,
}

impl Sink<EndpointSlice> for Slices {
    fn replace(&mut self, namespace: Option<&str>, slices: Vec<EndpointSlice>) {
        self.shared.slices.replace_in(namespace, slices, Instant::now());
        // Endpoints are used even where nobody tells how they go on.
        self.shared.slices_live(&self.watch, Ok(()));
    }

    fn apply(&mut self, slice: EndpointSlice) {
        self.shared.slices.apply(slice, Instant::now());
    }

    fn delete(&mut self, key: &Key) {
        self.shared.slices.delete(&key.namespace, &key.name, Instant::now());
    }

    fn trim(&self, slice: &mut EndpointSlice) {
        for endpoint in &mut slice.endpoints {
            endpoint.target_ref = None;
            endpoint.node_name = None;
            endpoint.hostname = None;
            endpoint.deprecated_topology = None;
        }
    }

    fn state(&mut self, state: Result<(), &Failure>) {
        self.shared.slices_live(&self.watch, state);
    }
}
