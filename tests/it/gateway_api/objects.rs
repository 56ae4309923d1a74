//! The objects of one test of the suite, and how it changes them while it runs.

use std::path::Path;
use std::sync::Arc;

use kube::ResourceExt;
use mirrorgate::gateway_api::CONTROLLER;
use mirrorgate::gateway_api::listeners::Addresses;
use mirrorgate::gateway_api::manifests::{self, Manifests};
use mirrorgate::gateway_api::model::RouteKind;
use mirrorgate::gateway_api::resources::{Key, Map, Resources};
use mirrorgate::gateway_api::status::Statuses;
use mirrorgate::gateway_api::translate::{Settings, translate};
use serde::Serialize;
use serde_json::{Value, json};

use super::certificates::Certificates;
use super::statuses::key;

/// Before anything is changed.
const GENERATION: i64 = 7;

/// Gateways with this say that they are not meant to be served.
const UNREADY: &str = "gateway-api/skip-this-for-readiness";

/// All objects, and the addresses that their Gateways were given.
pub struct Objects {
    resources: Resources,
    addresses: Addresses,
}

impl Objects {
    /// Those of `file`, beside what all tests have.
    pub fn load(suite: &Path, file: &str, certificates: &Certificates) -> Self {
        let mut read = Manifests::default();
        for path in [suite.join("base.yaml"), suite.join("tests").join(file)] {
            let text = std::fs::read_to_string(&path).unwrap().replace("{GATEWAY_CLASS_NAME}", "mirrorgate");
            let text = text.replace("{GATEWAY_CONTROLLER_NAME}", CONTROLLER);
            read.add(&path, &text);
        }
        read.add(Path::new("secrets.yaml"), &certificates.manifests());
        assert_eq!(read.problems, []);
        fn age<K: Clone + ResourceExt>(map: &mut Map<K>) {
            let objects = map.values_mut().map(Arc::make_mut);
            objects.for_each(|object| object.meta_mut().generation = Some(GENERATION));
        }
        let mut resources = read.resources;
        age(&mut resources.classes);
        age(&mut resources.gateways);
        age(&mut resources.listener_sets);
        age(&mut resources.http_routes);
        age(&mut resources.grpc_routes);
        age(&mut resources.tls_routes);
        age(&mut resources.tls_policies);
        Self { resources, addresses: Addresses::new(Some("10.0.0.1-10.0.0.99".parse().unwrap())) }
    }

    /// `Kind name patch` merges a JSON merge patch into an object, and `Kind name like other` puts what is
    /// in another into it, which need not have been there.
    pub fn change(&mut self, text: &str) {
        let mut words = text.splitn(3, ' ');
        let [kind, name, what] = std::array::from_fn(|_| words.next().unwrap());
        let key = if kind == "GatewayClass" { Key::new("", name) } else { key(name) };
        let (mut object, patch) = match what.strip_prefix("like ") {
            Some(other) => {
                let other = self::key(other);
                (self.document(kind, &other), json!({ "metadata": { "name": key.name } }))
            }
            None => (self.document(kind, &key), serde_json::from_str(what).unwrap()),
        };
        json_patch::merge(&mut object, &patch);
        if patch.get("spec").is_some() {
            object["metadata"]["generation"] =
                (object["metadata"]["generation"].as_i64().unwrap() + 1).into();
        }
        self.resources.insert(manifests::object(object).unwrap().unwrap());
    }

    fn document(&self, kind: &str, key: &Key) -> Value {
        fn value<K: Serialize>(map: &Map<K>, key: &Key) -> Value {
            serde_json::to_value(&*map[key]).unwrap()
        }
        match kind {
            "GatewayClass" => value(&self.resources.classes, key),
            "Gateway" => value(&self.resources.gateways, key),
            "HTTPRoute" => value(&self.resources.http_routes, key),
            "BackendTLSPolicy" => value(&self.resources.tls_policies, key),
            "ConfigMap" => value(&self.resources.config_maps, key),
            _ => panic!("nobody changes a {kind}"),
        }
    }

    /// Whether a Gateway is meant to be served.
    pub fn is_meant(&self, gateway: &Key) -> bool {
        self.resources.gateways[gateway].annotations().get(UNREADY).is_none_or(|value| value != "true")
    }

    /// What became of them. Whatever is asked of single ones, every status is of its object as it is now.
    pub fn statuses(&mut self) -> Statuses {
        let settings = Settings { any_class: true, ..Settings::default() };
        let statuses = translate(&self.resources, &settings, &mut self.addresses).statuses;
        fn same<K: ResourceExt>(key: &Key, found: i64, map: &Map<K>) {
            assert_eq!(Some(found), map[key].meta().generation, "the generation of {key}");
        }
        let resources = &self.resources;
        for (key, status) in &statuses.classes {
            same(key, status.generation, &resources.classes);
        }
        for (key, status) in &statuses.gateways {
            same(key, status.generation, &resources.gateways);
        }
        for (key, status) in &statuses.listener_sets {
            same(key, status.generation, &resources.listener_sets);
        }
        for ((kind, key), status) in &statuses.routes {
            match kind {
                RouteKind::Http => same(key, status.generation, &resources.http_routes),
                RouteKind::Grpc => same(key, status.generation, &resources.grpc_routes),
                RouteKind::Tls => same(key, status.generation, &resources.tls_routes),
            }
        }
        for (key, status) in &statuses.tls_policies {
            same(key, status.generation, &resources.tls_policies);
        }
        statuses
    }
}
