//! Ingresses of ingress-nginx: each becomes an HTTPRoute for each of its hosts, and what is mirrored a
//! RequestMirror filter.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::{HTTPIngressPath, Ingress, IngressBackend};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{Import, yaml};
use crate::config;
use crate::gateway_api::GROUP;
use crate::gateway_api::manifests;
use crate::gateway_api::resources::{Key, Resources};

const ANNOTATIONS: &str = "nginx.ingress.kubernetes.io/";

pub(super) fn import(path: &Path, gateway: &Key) -> Result<Import, String> {
    let read = manifests::load(path);
    let mut import = Import::default();
    for problem in &read.problems {
        import.note(problem.file.display(), problem.message.clone());
    }
    let mut found = 0;
    for file in &read.files {
        let text = config::read_text(file).map_err(|error| format!("{}: {error}", file.display()))?;
        for document in config::documents(&text).into_iter().filter_map(|(_, document)| document.ok()) {
            for ingress in ingresses(document, &mut import) {
                found += 1;
                let key =
                    Key::new(ingress.namespace().unwrap_or_else(|| "default".to_owned()), ingress.name_any());
                let mut work = Work { resources: &read.resources, gateway, key, import: &mut import };
                work.ingress(&ingress);
            }
        }
    }
    match found {
        0 => Err(format!("{}: there is no Ingress", path.display())),
        _ => Ok(import),
    }
}

/// The Ingresses in a document, which may be a list; of those that cannot be read it is said.
fn ingresses(document: Value, import: &mut Import) -> Vec<Ingress> {
    if let Some(items) = document.get("items").and_then(Value::as_array) {
        return items.iter().cloned().flat_map(|item| ingresses(item, import)).collect();
    }
    if document["kind"] != "Ingress" {
        return Vec::new();
    }
    let text = |at: &str| document.pointer(at).and_then(Value::as_str).unwrap_or_default();
    let place = format!("Ingress {}/{}", text("/metadata/namespace"), text("/metadata/name"))
        .replace(" /", " default/");
    if document["apiVersion"] != "networking.k8s.io/v1" {
        import
            .note(place, format!("apiVersion {} is not carried over: make it v1 first", text("/apiVersion")));
        return Vec::new();
    }
    match serde_json::from_value(document) {
        Ok(ingress) => vec![ingress],
        Err(error) => {
            import.note(place, format!("it cannot be read and is not carried over: {error}"));
            Vec::new()
        }
    }
}

struct Work<'a> {
    resources: &'a Resources,
    gateway: &'a Key,
    key: Key,
    import: &'a mut Import,
}

/// Who gets copies.
struct Target {
    reference: Value,
    /// The Host of copies, if it is not the client's.
    host: Option<String>,
}

impl Work<'_> {
    fn note(&mut self, message: impl Into<String>) {
        let place = format!("Ingress {}", self.key);
        self.import.note(place, message);
    }

    fn put(&mut self, object: &Value) {
        self.import.text.push_str("---\n");
        self.import.text.push_str(&yaml::document(object));
    }

    fn ingress(&mut self, ingress: &Ingress) {
        let annotations: BTreeMap<&str, &str> = ingress
            .annotations()
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix(ANNOTATIONS)?, value.as_str())))
            .collect();
        for name in annotations.keys() {
            if !matches!(*name, "mirror-target" | "mirror-host" | "mirror-request-body") {
                self.note(format!("the annotation {ANNOTATIONS}{name} is not carried over"));
            }
        }
        let mut target = annotations.get("mirror-target").and_then(|target| self.target(target));
        match (&mut target, annotations.get("mirror-host")) {
            // The client's, which copies have here if nothing else is said.
            (Some(target), Some(&"$host" | &"$http_host")) => target.host = None,
            (Some(target), Some(host)) if host.contains('$') => {
                target.host = None;
                self.note(format!("mirror-host {host} is not carried over: it is a variable"));
            }
            (Some(target), Some(host)) => target.host = Some((*host).to_owned()),
            _ => {}
        }
        if target.is_some() && annotations.get("mirror-request-body").is_some_and(|value| *value != "on") {
            self.note("mirror-request-body is not carried over: copies have bodies, within their budget");
        }
        let regex =
            annotations.get("use-regex") == Some(&"true") || annotations.contains_key("rewrite-target");
        let Some(spec) = &ingress.spec else { return };
        if spec.tls.iter().flatten().next().is_some() {
            self.note("tls is not carried over: certificates belong to listeners of the Gateway");
        }
        if let Some(backend) = &spec.default_backend {
            let path =
                HTTPIngressPath { backend: backend.clone(), path: None, path_type: "Prefix".to_owned() };
            self.route("default", None, &[path], target.as_ref(), false);
        }
        for (index, rule) in spec.rules.iter().flatten().enumerate() {
            let paths = rule.http.as_ref().map(|http| http.paths.as_slice()).unwrap_or_default();
            self.route(&(index + 1).to_string(), rule.host.as_deref(), paths, target.as_ref(), regex);
        }
    }

    fn route(
        &mut self,
        suffix: &str,
        host: Option<&str>,
        paths: &[HTTPIngressPath],
        target: Option<&Target>,
        regex: bool,
    ) {
        let mut rules = Vec::new();
        for path in paths {
            let value = path.path.as_deref().unwrap_or("/");
            if regex && value.contains(['(', '|', '[', '*', '+', '?', '\\', '^', '$', '{']) {
                self.note(format!(
                    "the path {value} is not carried over: write it as a RegularExpression by hand"
                ));
                continue;
            }
            let Some(backend) = self.backend(&path.backend) else { continue };
            // What is left to the implementation is a prefix for nginx.
            let kind = if path.path_type == "Exact" { "Exact" } else { "PathPrefix" };
            if path.path_type == "ImplementationSpecific" && !value.ends_with('/') {
                self.note(format!(
                    "{value} takes whole segments here: {value}/x, and not {value}x as in nginx"
                ));
            }
            let mut rule = json!({
                "matches": [{ "path": { "type": kind, "value": value } }],
                "backendRefs": [backend],
            });
            if let Some(target) = target {
                rule["filters"] =
                    json!([{ "type": "RequestMirror", "requestMirror": { "backendRef": target.reference } }]);
            }
            rules.push(rule);
        }
        if rules.is_empty() {
            return;
        }
        let mut spec = json!({
            "parentRefs": [{ "name": self.gateway.name, "namespace": self.gateway.namespace }],
            "rules": rules,
        });
        if let Some(host) = host {
            spec["hostnames"] = json!([host]);
        }
        let metadata =
            json!({ "name": format!("{}-{suffix}", self.key.name), "namespace": self.key.namespace });
        self.put(&json!({
            "apiVersion": format!("{GROUP}/v1"), "kind": "HTTPRoute", "metadata": metadata, "spec": spec,
        }));
        // What Gateway API has no word for.
        if let Some(host) = target.and_then(|target| target.host.as_ref()) {
            self.put(&json!({
                "apiVersion": "mirrorgate.dev/v1alpha1", "kind": "MirrorPolicy", "metadata": metadata,
                "spec": { "targetRef": { "kind": "HTTPRoute", "name": metadata["name"] }, "host": host },
            }));
        }
    }

    fn backend(&mut self, backend: &IngressBackend) -> Option<Value> {
        let Some(service) = &backend.service else {
            self.note("a backend that is no Service is not carried over");
            return None;
        };
        let key = Key::new(self.key.namespace.clone(), service.name.clone());
        let port = service.port.as_ref();
        let number = port.and_then(|port| port.number).or_else(|| {
            let name = port?.name.as_deref()?;
            number(self.resources.services.get(&key)?, name)
        });
        let Some(number) = number else {
            self.note(format!(
                "the port of Service {key} has only a name: put the Service's manifest beside the Ingress"
            ));
            return None;
        };
        Some(json!({ "name": service.name, "port": number }))
    }

    /// The backend that `mirror-target` means: a Service of the cluster, or one that stands for a host.
    fn target(&mut self, target: &str) -> Option<Target> {
        let (tls, rest) = match target.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            _ => {
                self.note(format!("mirror-target {target:?} is no URL and is not carried over"));
                return None;
            }
        };
        let end = rest.find(['/', '$']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if !matches!(path, "$request_uri" | "/$request_uri") {
            self.note(format!(
                "copies go to the path of the request: {path:?} of mirror-target is not carried over"
            ));
        }
        let (host, port) = match authority.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>())) {
            Some((host, Ok(port))) => (host, port),
            _ => (authority, if tls { 443 } else { 80 }),
        };
        if host.is_empty() || host.contains('$') {
            self.note(format!("the host of mirror-target {target:?} is not carried over: it is a variable"));
            return None;
        }
        let labels: Vec<&str> = host.split('.').collect();
        let reference = match labels.as_slice() {
            [name, namespace, "svc", ..] if !tls => {
                if *namespace != self.key.namespace {
                    self.grant(namespace, name);
                }
                json!({ "name": name, "namespace": namespace, "port": port })
            }
            _ => self.outside(host, port, tls),
        };
        Some(Target { reference, host: Some(host.to_owned()) })
    }

    /// Lets routes of the Ingress's namespace refer to a Service of another one.
    fn grant(&mut self, namespace: &str, service: &str) {
        self.put(&json!({
            "apiVersion": format!("{GROUP}/v1"), "kind": "ReferenceGrant",
            "metadata": { "name": format!("{}-mirror", self.key.name), "namespace": namespace },
            "spec": {
                "from": [{ "group": GROUP, "kind": "HTTPRoute", "namespace": self.key.namespace }],
                "to": [{ "group": "", "kind": "Service", "name": service }],
            },
        }));
    }

    /// A Service that stands for a host outside of the cluster.
    fn outside(&mut self, host: &str, port: u16, tls: bool) -> Value {
        let name = format!("{}-mirror", self.key.name);
        let metadata = json!({ "name": name, "namespace": self.key.namespace });
        let ports = json!([{ "name": "mirror", "port": port }]);
        match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Err(_) => self.put(&json!({
                "apiVersion": "v1", "kind": "Service", "metadata": metadata,
                "spec": { "type": "ExternalName", "externalName": host, "ports": ports },
            })),
            // A name that is an address is none.
            Ok(address) => {
                self.put(&json!({
                    "apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": { "ports": ports },
                }));
                let mut labelled = metadata.clone();
                labelled["labels"] = json!({ "kubernetes.io/service-name": name });
                self.put(&json!({
                    "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": labelled,
                    "addressType": if address.is_ipv4() { "IPv4" } else { "IPv6" },
                    "ports": ports, "endpoints": [{ "addresses": [address] }],
                }));
            }
        }
        if tls {
            self.put(&json!({
                "apiVersion": format!("{GROUP}/v1"), "kind": "BackendTLSPolicy", "metadata": metadata,
                "spec": {
                    "targetRefs": [{ "group": "", "kind": "Service", "name": name }],
                    "validation": { "hostname": host, "wellKnownCACertificates": "System" },
                },
            }));
            self.note("nginx does not verify the certificate of an https mirror-target; here it is verified");
        }
        json!({ "name": name, "port": port })
    }
}

fn number(service: &Service, name: &str) -> Option<i32> {
    let ports = service.spec.as_ref()?.ports.as_ref()?;
    ports.iter().find(|port| port.name.as_deref() == Some(name)).map(|port| port.port)
}
