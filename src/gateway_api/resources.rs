//! A snapshot of all resources that matter, by kind and name.
//!
//! Owns nothing but the objects as they were read; never judges them. Filled by [`super::manifests`]
//! and by [`super::cluster`], read by [`super::translate`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use gateway_api::backendtlspolicies::BackendTlsPolicy;
use gateway_api::experimental::gatewayclasses::GatewayClass;
use gateway_api::experimental::gateways::Gateway;
use gateway_api::experimental::grpcroutes::GrpcRoute;
use gateway_api::experimental::httproutes::HttpRoute;
use gateway_api::experimental::listenersets::ListenerSet;
use gateway_api::experimental::referencegrants::ReferenceGrant;
use gateway_api::experimental::tlsroutes::TlsRoute;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use super::model::MirrorPolicy;

/// An object's name in its namespace; the namespace is empty for what has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Key {
    /// `namespace/name`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of an object.
    pub fn of(object: &impl ResourceExt) -> Self {
        Self::new(object.namespace().unwrap_or_default(), object.name_any())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.is_empty() {
            true => formatter.write_str(&self.name),
            false => write!(formatter, "{}/{}", self.namespace, self.name),
        }
    }
}

/// Objects of one kind.
pub type Map<K> = BTreeMap<Key, Arc<K>>;

/// Everything that was read. Cheap to clone but for the maps: objects are shared.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    /// Cluster-wide.
    pub classes: Map<GatewayClass>,
    /// Gateways.
    pub gateways: Map<Gateway>,
    /// Listeners that others add to Gateways.
    pub listener_sets: Map<ListenerSet>,
    /// HTTP routes.
    pub http_routes: Map<HttpRoute>,
    /// gRPC routes.
    pub grpc_routes: Map<GrpcRoute>,
    /// TLS routes.
    pub tls_routes: Map<TlsRoute>,
    /// What may be referred to across namespaces.
    pub grants: Map<ReferenceGrant>,
    /// How backends are spoken to by TLS.
    pub tls_policies: Map<BackendTlsPolicy>,
    /// What mirrors do beyond Gateway API.
    pub mirror_policies: Map<MirrorPolicy>,
    /// Services.
    pub services: Map<Service>,
    /// Certificates and keys.
    pub secrets: Map<Secret>,
    /// Certificate authorities.
    pub config_maps: Map<ConfigMap>,
    /// Cluster-wide.
    pub namespaces: Map<Namespace>,
    /// Classes cannot be read: that there is none here says nothing.
    pub classes_refused: bool,
}

/// One object of a kind that matters.
#[derive(Clone, Debug)]
pub enum Object {
    /// See the fields of [`Resources`].
    Class(GatewayClass),
    /// A Gateway.
    Gateway(Gateway),
    /// A ListenerSet.
    ListenerSet(ListenerSet),
    /// An HTTPRoute.
    HttpRoute(HttpRoute),
    /// A GRPCRoute.
    GrpcRoute(GrpcRoute),
    /// A TLSRoute.
    TlsRoute(TlsRoute),
    /// A ReferenceGrant.
    Grant(ReferenceGrant),
    /// A BackendTLSPolicy.
    TlsPolicy(BackendTlsPolicy),
    /// A MirrorPolicy.
    MirrorPolicy(MirrorPolicy),
    /// A Service.
    Service(Service),
    /// A Secret.
    Secret(Secret),
    /// A ConfigMap.
    ConfigMap(ConfigMap),
    /// A Namespace.
    Namespace(Namespace),
    /// An EndpointSlice, which is no part of [`Resources`].
    Slice(EndpointSlice),
}

impl Resources {
    /// Adds `object`, in place of one of the same kind and name; hands an EndpointSlice back.
    pub fn insert(&mut self, object: Object) -> Option<EndpointSlice> {
        fn put<K: ResourceExt>(map: &mut Map<K>, object: K) {
            map.insert(Key::of(&object), Arc::new(object));
        }
        match object {
            Object::Class(object) => put(&mut self.classes, object),
            Object::Gateway(object) => put(&mut self.gateways, object),
            Object::ListenerSet(object) => put(&mut self.listener_sets, object),
            Object::HttpRoute(object) => put(&mut self.http_routes, object),
            Object::GrpcRoute(object) => put(&mut self.grpc_routes, object),
            Object::TlsRoute(object) => put(&mut self.tls_routes, object),
            Object::Grant(object) => put(&mut self.grants, object),
            Object::TlsPolicy(object) => put(&mut self.tls_policies, object),
            Object::MirrorPolicy(object) => put(&mut self.mirror_policies, object),
            Object::Service(object) => put(&mut self.services, object),
            Object::Secret(object) => put(&mut self.secrets, object),
            Object::ConfigMap(object) => put(&mut self.config_maps, object),
            Object::Namespace(object) => put(&mut self.namespaces, object),
            Object::Slice(slice) => return Some(slice),
        }
        None
    }

    /// Labels of a namespace. Every one has its own name as a label, as a cluster sees to.
    pub fn namespace_labels(&self, name: &str) -> BTreeMap<String, String> {
        let known = self.namespaces.get(&Key::new("", name));
        let mut labels = known.map(|namespace| namespace.labels().clone()).unwrap_or_default();
        labels.insert("kubernetes.io/metadata.name".to_owned(), name.to_owned());
        labels
    }
}

/// Sorts older objects first, and among equals by namespace and name, as conflicts are decided.
pub fn seniority(metadata: &ObjectMeta) -> impl Ord + use<> {
    let created = metadata.creation_timestamp.as_ref().map(|time| time.0);
    let name = (metadata.namespace.clone(), metadata.name.clone());
    // What has no time yet is newer than what has one.
    (created.is_none(), created, name)
}
