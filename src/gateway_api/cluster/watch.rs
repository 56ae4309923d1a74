//! Watches: one task for each kind and namespace.
//!
//! A list replaces what was there only once it is complete. After an error the watch begins anew with
//! a list, so that what was missed meanwhile is healed; until then what was last seen stays.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use super::Shared;
use crate::gateway_api::resources::{Key, Map, Resources};
use crate::limits;

/// What is watched: a kind, in a namespace or in all.
struct Watch<K> {
    name: String,
    namespace: Option<String>,
    api: Api<DeserializeGuard<K>>,
    config: Config,
}

/// Where what is seen goes.
trait Sink<K>: Send + 'static {
    fn replace(&mut self, namespace: Option<&str>, objects: Vec<K>);
    fn apply(&mut self, object: K);
    fn delete(&mut self, key: &Key);
    /// Whether what was seen is up to date.
    fn state(&mut self, state: Result<(), String>);
}

/// Starts all watches.
pub(super) fn start(client: &Client, namespaces: &[String], shared: &Arc<Shared>, tasks: &mut JoinSet<()>) {
    let scopes: Vec<Option<&str>> = match namespaces {
        [] => vec![None],
        some => some.iter().map(|namespace| Some(namespace.as_str())).collect(),
    };
    let plain = || Config::default().timeout(limits::WATCH_TIME.as_secs() as u32);
    macro_rules! watch {
        ($name:literal, $field:ident, $config:expr) => {
            for namespace in &scopes {
                let sink = Snapshot {
                    shared: shared.clone(),
                    field: |resources: &mut Resources| &mut resources.$field,
                };
                begin($name, api(client, *namespace), *namespace, $config, sink, shared, tasks);
            }
        };
    }
    watch!("Gateways", gateways, plain());
    watch!("ListenerSets", listener_sets, plain());
    watch!("HTTPRoutes", http_routes, plain());
    watch!("GRPCRoutes", grpc_routes, plain());
    watch!("TLSRoutes", tls_routes, plain());
    watch!("ReferenceGrants", grants, plain());
    watch!("BackendTLSPolicies", tls_policies, plain());
    watch!("MirrorPolicies", mirror_policies, plain());
    watch!("Services", services, plain());
    watch!("Secrets", secrets, plain().fields("type=kubernetes.io/tls"));
    watch!("ConfigMaps", config_maps, plain());
    // Cluster-wide kinds.
    let classes =
        Snapshot { shared: shared.clone(), field: |resources: &mut Resources| &mut resources.classes };
    begin("GatewayClasses", Api::all(client.clone()), None, plain(), classes, shared, tasks);
    let all =
        Snapshot { shared: shared.clone(), field: |resources: &mut Resources| &mut resources.namespaces };
    begin("Namespaces", Api::all(client.clone()), None, plain(), all, shared, tasks);
    for namespace in &scopes {
        let name = watch_name("EndpointSlices", *namespace);
        // Known before any of them is live: the store is believed when all are.
        shared
            .live_slices
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .insert(name.clone(), false);
        let sink = Slices { shared: shared.clone(), watch: name };
        begin("EndpointSlices", api(client, *namespace), *namespace, plain(), sink, shared, tasks);
    }
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<DeserializeGuard<K>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

fn watch_name(kind: &str, namespace: Option<&str>) -> String {
    namespace.map_or_else(|| kind.to_owned(), |namespace| format!("{kind} in {namespace}"))
}

fn begin<K, S>(
    kind: &str,
    api: Api<DeserializeGuard<K>>,
    namespace: Option<&str>,
    config: Config,
    sink: S,
    shared: &Arc<Shared>,
    tasks: &mut JoinSet<()>,
) where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
    S: Sink<K>,
{
    let watch =
        Watch { name: watch_name(kind, namespace), namespace: namespace.map(str::to_owned), api, config };
    shared.answered.send_modify(|answered| {
        answered.insert(watch.name.clone(), false);
    });
    tasks.spawn(follow(watch, sink, shared.clone()));
}

/// Follows one watch for ever.
async fn follow<K, S>(watch: Watch<K>, mut sink: S, shared: Arc<Shared>)
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
    S: Sink<K>,
{
    let (first, greatest) = limits::WATCH_BACKOFF;
    let mut failures: u32 = 0;
    let mut told = String::new();
    loop {
        let mut events = watcher(watch.api.clone(), watch.config.clone()).boxed();
        let mut list = Vec::new();
        let error = loop {
            let event = match events.next().await {
                Some(Ok(event)) => event,
                Some(Err(error)) => break error.to_string(),
                None => break "the watch ended".to_owned(),
            };
            match event {
                Event::Init => list.clear(),
                Event::InitApply(object) => list.extend(readable(&watch.name, object)),
                Event::InitDone => {
                    sink.replace(watch.namespace.as_deref(), std::mem::take(&mut list));
                    sink.state(Ok(()));
                    shared.answered(&watch.name);
                    if failures > 0 {
                        tracing::info!("{}: listed again", watch.name);
                    }
                    (failures, told) = (0, String::new());
                }
                Event::Apply(object) => {
                    let key = Key::new(object.namespace().unwrap_or_default(), object.name_any());
                    match readable(&watch.name, object) {
                        Some(object) => sink.apply(object),
                        // It is not what it was: it must not go on meaning that.
                        None => sink.delete(&key),
                    }
                }
                Event::Delete(object) => {
                    sink.delete(&Key::new(object.namespace().unwrap_or_default(), object.name_any()));
                }
            }
        };
        // The same error comes again and again; it is told once.
        if told != error {
            tracing::warn!("{} cannot be watched, what was last seen stays: {error}", watch.name);
            told.clone_from(&error);
        }
        sink.state(Err(format!("the API server cannot be watched: {error}")));
        shared.answered(&watch.name);
        let pause = first.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(greatest);
        failures = failures.saturating_add(1).min(16);
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
    }
}

/// The object, unless it is malformed, which costs only itself.
fn readable<K>(watch: &str, object: DeserializeGuard<K>) -> Option<K> {
    object.0.inspect_err(|error| tracing::warn!("{watch}: an object cannot be read: {error}")).ok()
}

/// One field of the snapshot.
struct Snapshot<K> {
    shared: Arc<Shared>,
    field: fn(&mut Resources) -> &mut Map<K>,
}

impl<K: ResourceExt + Send + Sync + 'static> Sink<K> for Snapshot<K> {
    fn replace(&mut self, namespace: Option<&str>, objects: Vec<K>) {
        let mut resources = self.shared.resources();
        let map = (self.field)(&mut resources);
        map.retain(|key, _| namespace.is_some_and(|only| only != key.namespace));
        map.extend(objects.into_iter().map(|object| (Key::of(&object), Arc::new(object))));
        drop(resources);
        self.shared.changed.notify_one();
    }

    fn apply(&mut self, object: K) {
        (self.field)(&mut self.shared.resources()).insert(Key::of(&object), Arc::new(object));
        self.shared.changed.notify_one();
    }

    fn delete(&mut self, key: &Key) {
        (self.field)(&mut self.shared.resources()).remove(key);
        self.shared.changed.notify_one();
    }

    fn state(&mut self, _: Result<(), String>) {}
}

/// Endpoints, which change nothing but themselves.
struct Slices {
    shared: Arc<Shared>,
    watch: String,
}

impl Sink<EndpointSlice> for Slices {
    fn replace(&mut self, namespace: Option<&str>, slices: Vec<EndpointSlice>) {
        self.shared.slices.replace_in(namespace, slices, Instant::now());
    }

    fn apply(&mut self, slice: EndpointSlice) {
        self.shared.slices.apply(slice, Instant::now());
    }

    fn delete(&mut self, key: &Key) {
        self.shared.slices.delete(&key.namespace, &key.name, Instant::now());
    }

    fn state(&mut self, state: Result<(), String>) {
        self.shared.slices_live(&self.watch, state);
    }
}
