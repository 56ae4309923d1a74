#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod faults;
mod leases;
mod one_gateway;
mod server;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use self::server::Server;
use super::Options;
use crate::app::{self, Handle, Origin, ResourceOptions};
use crate::gateway_api::translate::Settings;

const GATEWAY_API: &str = "gateway.networking.k8s.io/v1";

fn slice(service: &str, hosts: &[u8]) -> Value {
    let endpoints: Vec<_> =
        hosts.iter().map(|host| json!({ "addresses": [format!("10.0.0.{host}")] })).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "namespace": "one", "name": service, "labels": { "kubernetes.io/service-name": service } },
        "addressType": "IPv4", "ports": [{ "port": 80 }], "endpoints": endpoints,
    })
}

fn route(name: &str, mirror: &str) -> Value {
    json!({
        "apiVersion": GATEWAY_API, "kind": "HTTPRoute",
        "metadata": { "namespace": "one", "name": name, "generation": 3 },
        "spec": { "parentRefs": [{ "name": "g" }], "rules": [{
            "backendRefs": [{ "name": "app", "port": 80 }],
            "filters": [{ "type": "RequestMirror", "requestMirror": { "backendRef": { "name": mirror, "port": 80 } } }],
        }] },
    })
}

fn gateway(namespace: &str, name: &str, address: &str) -> Value {
    json!({
        "apiVersion": GATEWAY_API, "kind": "Gateway",
        "metadata": { "namespace": namespace, "name": name, "generation": 1, "uid": format!("uid of {name}") },
        "spec": {
            "gatewayClassName": "c", "addresses": [{ "value": address }],
            "listeners": [{
                "name": "http", "port": 0, "protocol": "HTTP",
                "allowedRoutes": { "namespaces": { "from": "All" } },
            }],
        },
    })
}

async fn world() -> Arc<Server> {
    let server = Server::start().await;
    server.put(
        "gatewayclasses",
        json!({
            "apiVersion": GATEWAY_API, "kind": "GatewayClass", "metadata": { "name": "c" },
            "spec": { "controllerName": crate::gateway_api::CONTROLLER },
        }),
    );
    server.put("gateways", gateway("one", "g", "127.0.0.1"));
    for service in ["app", "next"] {
        server.put(
            "services",
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": { "namespace": "one", "name": service },
                "spec": { "ports": [{ "port": 80 }] },
            }),
        );
        server.put("endpointslices", slice(service, &[1]));
    }
    server.put("httproutes", route("r", "next"));
    server
}

async fn start(server: &Server) -> Handle {
    start_with(server, Options::default(), Settings::default()).await
}

async fn start_with(server: &Server, cluster: Options, settings: Settings) -> Handle {
    let client = kube::Config::new(format!("http://{}", server.address).parse().unwrap());
    let cluster = Options { client: Some(client), ..cluster };
    let resources = ResourceOptions { admin: Some("off".to_owned()), settings, ..ResourceOptions::default() };
    app::start(Origin::Kubernetes { cluster: Box::new(cluster), resources }).await.unwrap()
}

/// Waits for `holds`; what it waits for is an event elsewhere in the process, and this only looks.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), wait).await.is_ok(), "never: {what}");
}

fn hosts(gateway: &Handle, backend: &str) -> Vec<String> {
    let live = gateway.registry().live();
    let Some(backend) = live.iter().find(|one| &**one.name() == backend) else { return Vec::new() };
    backend.endpoints().entries().iter().map(|entry| entry.endpoint.address().to_string()).collect()
}

fn error(gateway: &Handle, backend: &str) -> Option<String> {
    let live = gateway.registry().live();
    live.iter().find(|one| &**one.name() == backend).unwrap().freshness().last_error
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_follow_watches_through_every_failure() {
    let server = world().await;
    let gateway = start(&server).await;
    for backend in ["one/app:80", "one/next:80"] {
        eventually("the first list", || hosts(&gateway, backend) == ["10.0.0.1:80"]).await;
    }
    let table = gateway.gateway().table().clone();
    // Both lanes by the same way: an event.
    for (service, backend) in [("app", "one/app:80"), ("next", "one/next:80")] {
        server.put("endpointslices", slice(service, &[2, 3]));
        eventually("the event", || hosts(&gateway, backend) == ["10.0.0.2:80", "10.0.0.3:80"]).await;
    }
    // What happened while no connection was there.
    server.set_down(true);
    server.put("endpointslices", slice("next", &[4]));
    eventually("the age shows", || error(&gateway, "one/next:80").is_some()).await;
    assert_eq!(hosts(&gateway, "one/next:80"), ["10.0.0.2:80", "10.0.0.3:80"], "the last set stays");
    server.set_down(false);
    eventually("the relist", || hosts(&gateway, "one/next:80") == ["10.0.0.4:80"]).await;
    eventually("the error goes", || error(&gateway, "one/next:80").is_none()).await;
    server.delete("endpointslices", "one", "next");
    eventually("the deletion", || hosts(&gateway, "one/next:80").is_empty()).await;
    assert!(Arc::ptr_eq(&table, &gateway.gateway().table()), "endpoints compile no routes");
    gateway.stop(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_are_written_once_and_malformed_objects_cost_only_themselves() {
    let server = world().await;
    server.forbid("tlsroutes");
    let mut malformed = route("malformed", "next");
    malformed["spec"]["rules"] = json!(7);
    server.put("httproutes", malformed);
    server.put("httproutes", route("half", "missing"));
    let other = json!({ "controllerName": "someone.else/x", "parentRef": { "name": "z" }, "conditions": [] });
    let mut with_other = route("r", "next");
    with_other["status"] = json!({ "parents": [other] });
    server.put("httproutes", with_other);
    let gateway = start(&server).await;

    let condition = |name: &str, kind: &str| {
        let route = server.get("httproutes", "one", name)?;
        let entries = route["status"]["parents"].as_array()?.clone();
        let ours = entries.iter().find(|entry| entry["controllerName"] == crate::gateway_api::CONTROLLER)?;
        let found = ours["conditions"].as_array()?.iter().find(|one| one["type"] == kind)?.clone();
        Some(format!(
            "{}/{}/{}",
            found["status"].as_str()?,
            found["reason"].as_str()?,
            found["observedGeneration"]
        ))
    };
    let is = |name: &str, kind: &str, wanted: &str| condition(name, kind).as_deref() == Some(wanted);
    eventually("the route is accepted", || is("r", "Accepted", "True/Accepted/3")).await;
    eventually("its references are resolved", || is("r", "ResolvedRefs", "True/ResolvedRefs/3")).await;
    eventually("a mirror is missing", || is("half", "ResolvedRefs", "False/BackendNotFound/3")).await;
    assert!(is("half", "Accepted", "True/Accepted/3"), "and the route serves");
    let route = server.get("httproutes", "one", "r").unwrap();
    assert_eq!(route["status"]["parents"][0], other, "what others say stays");
    let class =
        || server.get("gatewayclasses", "", "c").unwrap()["status"]["conditions"][0]["status"] == "True";
    eventually("the class is accepted", class).await;
    let programmed = || {
        let gateway = server.get("gateways", "one", "g").unwrap();
        gateway["status"]["listeners"][0]["attachedRoutes"] == 2
            && gateway["status"]["addresses"][0]["value"] == "127.0.0.1"
    };
    eventually("the Gateway is programmed", programmed).await;

    // Once everything is said, nothing is written again: not after a change that means nothing.
    eventually("nothing more to say", || server.quiet_for(Duration::from_millis(600))).await;
    let written = server.writes();
    server.put("endpointslices", slice("app", &[7]));
    eventually("the event", || hosts(&gateway, "one/app:80") == ["10.0.0.7:80"]).await;
    assert_eq!(server.writes(), written);
    // A spec that means something else is said again, with a conflict on the way.
    server.conflict_once();
    let mut changed = server.get("httproutes", "one", "half").unwrap();
    changed["spec"] = super::tests::route("half", "next")["spec"].clone();
    changed["metadata"]["generation"] = json!(4);
    server.put("httproutes", changed);
    eventually("it is resolved", || is("half", "ResolvedRefs", "True/ResolvedRefs/4")).await;
    gateway.stop(Duration::ZERO).await;
}
