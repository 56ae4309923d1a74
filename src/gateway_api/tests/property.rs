//! Random resources in random order, and always the same question: are the addresses in use, for
//! primaries and for mirrors, those that a reader of all objects would name?
//!
//! The oracle goes through everything that exists each time; the way under test is told of events
//! alone, keeps what it subscribed to, and looks again only when it is woken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::listeners::Addresses;
use super::super::manifests::object;
use super::super::model::RouteKind;
use super::super::resources::{Key, Resources};
use super::super::translate::{Settings, translate};
use crate::discovery::kubernetes::SliceSource;
use crate::discovery::kubernetes::SliceStore;
use crate::discovery::source::{SourceSpec, Update};
use crate::plan::{Plan, RouteAction};
use crate::shard::Lane;

const NAMESPACES: [&str; 2] = ["one", "two"];
const SERVICES: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Event {
    Slice {
        namespace: usize,
        name: usize,
        service: usize,
        hosts: Vec<(u8, bool)>,
    },
    NoSlice {
        namespace: usize,
        name: usize,
    },
    Service {
        namespace: usize,
        service: usize,
    },
    NoService {
        namespace: usize,
        service: usize,
    },
    Route {
        name: usize,
        kind: RouteKind,
        primary: Vec<(usize, usize)>,
        mirrors: Vec<(usize, usize, bool)>,
    },
    NoRoute {
        name: usize,
        kind: RouteKind,
    },
    Grant {
        only: Option<usize>,
    },
    NoGrant,
    /// What happened to slices meanwhile was not told; then comes a complete list.
    Relist {
        unseen: Vec<(usize, usize, usize, u8)>,
    },
}

fn event() -> impl Strategy<Value = Event> {
    let namespace = 0..NAMESPACES.len();
    let service = 0..SERVICES.len();
    let hosts = prop::collection::vec((1u8..6, any::<bool>()), 0..4);
    let reference = (namespace.clone(), service.clone());
    prop_oneof![
        4 => (namespace.clone(), 0usize..4, service.clone(), hosts)
            .prop_map(|(namespace, name, service, hosts)| Event::Slice { namespace, name, service, hosts }),
        1 => (namespace.clone(), 0usize..4).prop_map(|(namespace, name)| Event::NoSlice { namespace, name }),
        3 => reference.clone().prop_map(|(namespace, service)| Event::Service { namespace, service }),
        1 => reference.clone().prop_map(|(namespace, service)| Event::NoService { namespace, service }),
        4 => (
            0usize..2,
            kind(),
            prop::collection::vec(reference.clone(), 0..3),
            prop::collection::vec((namespace, service, any::<bool>()), 0..3),
        )
            .prop_map(|(name, kind, primary, mirrors)| Event::Route { name, kind, primary, mirrors }),
        1 => (0usize..2, kind()).prop_map(|(name, kind)| Event::NoRoute { name, kind }),
        1 => prop::option::of(0..SERVICES.len()).prop_map(|only| Event::Grant { only }),
        1 => Just(Event::NoGrant),
        1 => prop::collection::vec((0..NAMESPACES.len(), 0usize..4, 0..SERVICES.len(), 1u8..6), 0..3)
            .prop_map(|unseen| Event::Relist { unseen }),
    ]
}

/// A Service's number, and its addresses with their readiness.
type Slice = (usize, Vec<(u8, bool)>);

/// Everything that exists, as the oracle sees it.
#[derive(Default)]
struct World {
    /// By namespace and name: the Service and its addresses with their readiness.
    slices: BTreeMap<(usize, usize), Slice>,
    services: BTreeSet<(usize, usize)>,
    routes: BTreeMap<(usize, RouteKind), Route>,
    grant: Option<Option<usize>>,
}

#[derive(Clone, Default)]
struct Route {
    primary: Vec<(usize, usize)>,
    /// The last says whether it is a filter of the first backend.
    mirrors: Vec<(usize, usize, bool)>,
}

type Targets = BTreeSet<(String, &'static str, String)>;

impl World {
    fn targets(&self) -> Targets {
        let mut targets = Targets::new();
        for ((name, kind), route) in &self.routes {
            let mut add = |lane: Lane, (namespace, service): (usize, usize)| {
                let permitted =
                    namespace == 0 || self.grant.is_some_and(|only| only.is_none_or(|only| only == service));
                if !permitted || !self.services.contains(&(namespace, service)) {
                    return;
                }
                let own =
                    self.slices.iter().filter(|((of, _), (whose, _))| *of == namespace && *whose == service);
                for (host, ready) in own.flat_map(|(_, (_, hosts))| hosts) {
                    if *ready {
                        targets.insert((
                            label(*name, *kind),
                            lane.as_str(),
                            format!("10.0.{namespace}.{host}:80"),
                        ));
                    }
                }
            };
            route.primary.iter().for_each(|backend| add(Lane::Primary, *backend));
            // A mirror of one backend is there when that backend is.
            let first_is_there = route.primary.first().is_some_and(|(namespace, service)| {
                (*namespace == 0 || self.grant.is_some_and(|only| only.is_none_or(|only| only == *service)))
                    && self.services.contains(&(*namespace, *service))
            });
            for (namespace, service, nested) in &route.mirrors {
                // TLS that is not looked into cannot be mirrored: its routes have no filters.
                if *kind == RouteKind::Tls {
                    continue;
                }
                if !*nested || route.primary.is_empty() || first_is_there {
                    add(Lane::Mirror, (*namespace, *service));
                }
            }
        }
        targets
    }
}

/// The way under test.
struct Gateway {
    resources: Resources,
    store: Arc<SliceStore>,
    addresses: Addresses,
    plan: Option<Plan>,
    sources: BTreeMap<String, (SourceSpec, SliceSource, Vec<String>)>,
}

impl Gateway {
    fn new() -> Self {
        let mut gateway = Self {
            resources: Resources::default(),
            store: Arc::default(),
            addresses: Addresses::default(),
            plan: None,
            sources: BTreeMap::new(),
        };
        gateway.store.replace([], Instant::now());
        gateway.put(json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": { "namespace": "one", "name": "g" },
            "spec": { "gatewayClassName": "x", "listeners": [
                { "name": "http", "port": 80, "protocol": "HTTP" },
                { "name": "tls", "port": 443, "protocol": "TLS", "tls": { "mode": "Passthrough" } },
            ] },
        }));
        gateway
    }

    fn put(&mut self, value: Value) {
        let slice = self.resources.insert(object(value).unwrap().unwrap());
        assert!(slice.is_none());
    }

    /// As the reloader does: a plan that is the same is not compiled again. Returns whether it was.
    fn compile(&mut self) -> bool {
        let settings = Settings { any_class: true, ..Settings::default() };
        let translation = translate(&self.resources, &settings, &mut self.addresses);
        let base = crate::config::default_base(Some("off")).unwrap().plan;
        let plan = translation.plan(&base);
        if self.plan.as_ref() == Some(&plan) {
            return false;
        }
        self.sources.retain(|name, (spec, ..)| {
            plan.backends.iter().any(|backend| *backend.name == **name && backend.source == *spec)
        });
        for backend in &plan.backends {
            let SourceSpec::Kubernetes { namespace, service, port } = &backend.source else { panic!() };
            self.sources.entry(backend.name.to_string()).or_insert_with(|| {
                let mut source = self.store.source(namespace, service, port.clone());
                let set = ask(&mut source);
                (backend.source.clone(), source, set)
            });
        }
        self.plan = Some(plan);
        true
    }

    /// Looks again at what woke up, and at nothing else.
    fn wake(&mut self) {
        for (_, source, set) in self.sources.values_mut() {
            if source.changed().now_or_never().is_some() {
                *set = ask(source);
            }
        }
    }

    fn targets(&self) -> Targets {
        let mut targets = Targets::new();
        for route in &self.plan.as_ref().unwrap().routes {
            let RouteAction::Forward(choices) = &route.action else { panic!("{route:?}") };
            let key = route.name.split('/').nth(1).unwrap().to_owned();
            let mut add = |lane: Lane, name: &str| {
                for address in self.sources.get(name).into_iter().flat_map(|(_, _, set)| set) {
                    targets.insert((key.clone(), lane.as_str(), address.clone()));
                }
            };
            choices.iter().for_each(|choice| add(Lane::Primary, &choice.backend));
            let mirrors = choices.iter().flat_map(|choice| &choice.mirrors).chain(&route.mirrors);
            mirrors.for_each(|mirror| add(Lane::Mirror, &mirror.backend));
        }
        for stream in &self.plan.as_ref().unwrap().streams {
            let key = stream.name.split('/').nth(1).unwrap();
            for choice in &stream.backends {
                let source = self.sources.get(&*choice.backend);
                for address in source.into_iter().flat_map(|(_, _, set)| set) {
                    targets.insert((key.to_owned(), Lane::Primary.as_str(), address.clone()));
                }
            }
        }
        targets
    }
}

fn ask(source: &mut SliceSource) -> Vec<String> {
    match source.ask().now_or_never().unwrap().update {
        Update::Full(set) => set.iter().map(|endpoint| endpoint.address.to_string()).collect(),
        other => panic!("{other:?}"),
    }
}

fn slice(namespace: usize, name: usize, service: usize, hosts: &[(u8, bool)]) -> EndpointSlice {
    let endpoints: Vec<_> = hosts
        .iter()
        .map(|(host, ready)| {
            json!({ "addresses": [format!("10.0.{namespace}.{host}")], "conditions": { "ready": ready, "serving": ready } })
        })
        .collect();
    serde_json::from_value(json!({
        "metadata": {
            "namespace": NAMESPACES[namespace], "name": format!("s{name}"),
            "labels": { "kubernetes.io/service-name": SERVICES[service] },
        },
        "addressType": "IPv4", "ports": [{ "port": 80, "name": "" }], "endpoints": endpoints,
    }))
    .unwrap()
}

fn kind() -> impl Strategy<Value = RouteKind> {
    prop_oneof![Just(RouteKind::Http), Just(RouteKind::Grpc), Just(RouteKind::Tls)]
}

/// What a route is called.
fn label(name: usize, kind: RouteKind) -> String {
    format!("{name}{}", kind.name().to_ascii_lowercase())
}

fn route(name: usize, kind: RouteKind, route: &Route) -> Value {
    let reference = |(namespace, service): (usize, usize)| json!({ "name": SERVICES[service], "namespace": NAMESPACES[namespace], "port": 80 });
    let mirror = |namespace, service| json!({ "type": "RequestMirror", "requestMirror": { "backendRef": reference((namespace, service)) } });
    let mut backends: Vec<Value> = route.primary.iter().map(|backend| reference(*backend)).collect();
    let mut filters = Vec::new();
    for (namespace, service, nested) in &route.mirrors {
        match backends.first_mut() {
            _ if kind == RouteKind::Tls => {}
            Some(first) if *nested => {
                let list = first.as_object_mut().unwrap().entry("filters").or_insert_with(|| json!([]));
                list.as_array_mut().unwrap().push(mirror(*namespace, *service));
            }
            _ => filters.push(mirror(*namespace, *service)),
        }
    }
    let rule = match kind {
        RouteKind::Tls => json!({ "backendRefs": backends }),
        RouteKind::Http | RouteKind::Grpc => json!({ "backendRefs": backends, "filters": filters }),
    };
    let mut spec = json!({ "parentRefs": [{ "name": "g" }], "rules": [rule] });
    if kind == RouteKind::Tls {
        spec["hostnames"] = json!(["a.test"]);
    }
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": kind.name(),
        "metadata": { "namespace": "one", "name": label(name, kind) },
        "spec": spec,
    })
}

fn grant(only: Option<usize>) -> Value {
    let to = match only {
        Some(service) => json!([{ "group": "", "kind": "Service", "name": SERVICES[service] }]),
        None => json!([{ "group": "", "kind": "Service" }]),
    };
    let from = ["HTTPRoute", "GRPCRoute", "TLSRoute"]
        .map(|kind| json!({ "group": "gateway.networking.k8s.io", "kind": kind, "namespace": "one" }));
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "ReferenceGrant",
        "metadata": { "namespace": "two", "name": "grant" },
        "spec": { "from": from, "to": to },
    })
}

fn happen(world: &mut World, gateway: &mut Gateway, event: &Event) {
    let now = Instant::now();
    match event {
        Event::Slice { namespace, name, service, hosts } => {
            world.slices.insert((*namespace, *name), (*service, hosts.clone()));
            gateway.store.apply(slice(*namespace, *name, *service, hosts), now);
            assert!(gateway.plan.is_none() || !gateway.compile(), "an EndpointSlice compiles nothing");
        }
        Event::NoSlice { namespace, name } => {
            world.slices.remove(&(*namespace, *name));
            gateway.store.delete(NAMESPACES[*namespace], &format!("s{name}"), now);
        }
        Event::Service { namespace, service } => {
            world.services.insert((*namespace, *service));
            gateway.put(json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": { "namespace": NAMESPACES[*namespace], "name": SERVICES[*service] },
                "spec": { "ports": [{ "port": 80 }] },
            }));
        }
        Event::NoService { namespace, service } => {
            world.services.remove(&(*namespace, *service));
            gateway.resources.services.remove(&Key::new(NAMESPACES[*namespace], SERVICES[*service]));
        }
        Event::Route { name, kind, primary, mirrors } => {
            let wanted = Route { primary: primary.clone(), mirrors: mirrors.clone() };
            gateway.put(route(*name, *kind, &wanted));
            world.routes.insert((*name, *kind), wanted);
        }
        Event::NoRoute { name, kind } => {
            world.routes.remove(&(*name, *kind));
            let key = Key::new("one", label(*name, *kind));
            match kind {
                RouteKind::Http => drop(gateway.resources.http_routes.remove(&key)),
                RouteKind::Grpc => drop(gateway.resources.grpc_routes.remove(&key)),
                RouteKind::Tls => drop(gateway.resources.tls_routes.remove(&key)),
            }
        }
        Event::Grant { only } => {
            world.grant = Some(*only);
            gateway.put(grant(*only));
        }
        Event::NoGrant => {
            world.grant = None;
            gateway.resources.grants.clear();
        }
        Event::Relist { unseen } => {
            for (namespace, name, service, host) in unseen {
                match host {
                    5 => drop(world.slices.remove(&(*namespace, *name))),
                    _ => drop(world.slices.insert((*namespace, *name), (*service, vec![(*host, true)]))),
                }
            }
            let all = world
                .slices
                .iter()
                .map(|((namespace, name), (service, hosts))| slice(*namespace, *name, *service, hosts));
            gateway.store.replace(all, now);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn targets_are_always_those_of_everything_there_is(events in prop::collection::vec(event(), 1..40)) {
        let mut world = World::default();
        let mut gateway = Gateway::new();
        gateway.compile();
        for event in &events {
            happen(&mut world, &mut gateway, event);
            gateway.compile();
            gateway.wake();
            prop_assert_eq!(gateway.targets(), world.targets(), "after {:?}", event);
        }
    }
}
