//! What the cluster holds, and the process that serves it.

use std::fmt;

use serde_json::{Value, json};

use super::Outcome;
use super::server::Server;

const GATEWAY_API: &str = "gateway.networking.k8s.io/v1";

/// How large the cluster is.
pub(crate) struct Size {
    pub(crate) services: usize,
    /// Each has a backend and a mirror of its own.
    pub(crate) routes: usize,
    /// Of each Service.
    pub(crate) endpoints: usize,
}

impl fmt::Display for Size {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { services, routes, endpoints } = self;
        write!(formatter, "{services} Services, {} endpoints, {routes} routes", services * endpoints)
    }
}

impl Size {
    pub(crate) fn arguments(&self) -> [String; 3] {
        let Self { services, routes, endpoints } = self;
        [format!("services={services}"), format!("routes={routes}"), format!("endpoints={endpoints}")]
    }

    /// The lane and the Service that `event` is about: of both lanes in turn, and of every route.
    pub(crate) fn referred(&self, event: usize) -> (&'static str, usize) {
        let route = event / 2 % self.routes;
        if event.is_multiple_of(2) { ("primary", route) } else { ("mirror", self.routes + route) }
    }
}

pub(crate) fn backend(service: usize) -> String {
    format!("shop/service-{service}:80")
}

/// Serves until the other process ends; does what it says, a line each.
pub(crate) async fn serve(size: &Size) -> Outcome<()> {
    let server = Server::start().await;
    fill(&server, size);
    println!("{}", server.address);
    // Blocks this thread alone; connections are served by another.
    for order in std::io::stdin().lines() {
        let order = order?;
        let words: Vec<&str> = order.split(' ').collect();
        match words.as_slice() {
            ["change", service, event] => {
                server.put("endpointslices", slice(service.parse()?, size.endpoints, event.parse()?));
            }
            ["edit", number, event] => {
                server.put("httproutes", route(number.parse()?, size.routes, event.parse()?));
            }
            _ => println!("{}", server.writes()),
        }
    }
    Ok(())
}

fn fill(server: &Server, size: &Size) {
    server.put(
        "gatewayclasses",
        json!({
            "apiVersion": GATEWAY_API, "kind": "GatewayClass", "metadata": { "name": "c" },
            "spec": { "controllerName": "mirrorgate.dev/gateway" },
        }),
    );
    server.put(
        "gateways",
        json!({
            "apiVersion": GATEWAY_API, "kind": "Gateway", "metadata": { "namespace": "shop", "name": "g", "generation": 1 },
            "spec": {
                "gatewayClassName": "c", "addresses": [{ "value": "127.0.0.1" }],
                "listeners": [{ "name": "http", "port": 0, "protocol": "HTTP" }],
            },
        }),
    );
    for service in 0..size.services {
        server.put(
            "services",
            json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": { "namespace": "shop", "name": format!("service-{service}") },
                "spec": { "clusterIP": "10.96.0.1", "ports": [{ "port": 80, "protocol": "TCP" }] },
            }),
        );
        server.put("endpointslices", slice(service, size.endpoints, 0));
    }
    for number in 0..size.routes {
        server.put("httproutes", route(number, size.routes, 0));
    }
}

/// One of `routes`, with a backend and a mirror of its own; each event gives it another host.
fn route(number: usize, routes: usize, event: usize) -> Value {
    let reference = |service: usize| json!({ "name": format!("service-{service}"), "port": 80 });
    let mirror =
        json!({ "type": "RequestMirror", "requestMirror": { "backendRef": reference(routes + number) } });
    json!({
        "apiVersion": GATEWAY_API, "kind": "HTTPRoute",
        "metadata": { "namespace": "shop", "name": format!("route-{number}"), "generation": event + 1 },
        "spec": {
            "parentRefs": [{ "name": "g" }], "hostnames": [format!("host-{number}-{event}.example")],
            "rules": [{ "backendRefs": [reference(number)], "filters": [mirror] }],
        },
    })
}

/// As a cluster has it, with what is of no use here as well; each event replaces one pod.
fn slice(service: usize, endpoints: usize, event: usize) -> Value {
    let endpoint = |number: usize| {
        // One pod has another address after each event.
        let (high, low) = (service / 250, service % 250);
        let host = match (number, event) {
            (0, 0) => 49,
            // Another one than the last time, too: no lane's turns are a multiple of it.
            (0, event) => 50 + event % 199,
            (number, _) => number,
        };
        let address = format!("10.{high}.{low}.{host}");
        json!({
            "addresses": [address],
            "conditions": { "ready": true, "serving": true, "terminating": false },
            "nodeName": format!("node-{number}"), "zone": "zone-a",
            "targetRef": {
                "kind": "Pod", "namespace": "shop", "name": format!("service-{service}-7d9c6f5b8-{number}"),
                "uid": "6d3f1e0a-6a0e-4c4b-9a53-0f6a1f0f2b11",
            },
        })
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "namespace": "shop", "name": format!("service-{service}-x"), "generation": event,
            "labels": { "kubernetes.io/service-name": format!("service-{service}") },
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Service", "name": format!("service-{service}"),
                "uid": "0c3e5d2e-3f64-4d3b-8b3d-55f0b7a1a7a2", "controller": true,
            }],
            "managedFields": [{
                "manager": "kube-controller-manager", "operation": "Update", "apiVersion": "discovery.k8s.io/v1",
                "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1",
                "fieldsV1": { "f:addressType": {}, "f:endpoints": {}, "f:metadata": { "f:labels": {} }, "f:ports": {} },
            }],
        },
        "addressType": "IPv4", "ports": [{ "name": "", "port": 8080, "protocol": "TCP" }],
        "endpoints": (0..endpoints).map(endpoint).collect::<Vec<_>>(),
    })
}
